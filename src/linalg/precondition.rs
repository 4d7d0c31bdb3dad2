//! What makes conjugate gradients short: an operator known approximately as a matrix of low rank and a diagonal.
//!
//! One sketch of the operator serves all systems made from it, whatever their rows, weights and shifts. G ≈ B B' + T
//! from the randomised Nyström method (Frangella, Tropp & Udell 2023, SIAM J. Matrix Anal. Appl. 44:718), with T the
//! diagonal that B B' leaves. A system D + a S B B' S of some of the rows (S is diagonal, zero elsewhere) is solved by
//! Woodbury's identity with a small Cholesky factor of its own.

use super::factor::{Cholesky, Eigen};
use super::{product, Operator};
use crate::error::Result;
use crate::progress::Progress;
use crate::rng::{Purpose, Stream};
use ndarray::{s, Array1, Array2, ArrayView1, ArrayView2, Axis};
use rayon::prelude::*;

/// Columns of the sketch in one product with the operator: bounds the memory.
const WIDTH: usize = 48;
/// Rows in one part of a sum over rows, added in order.
const ROWS: usize = 4096;
/// Share of the mean diagonal that is added before the small matrix is inverted: above the errors of quick products.
const LIFT: f64 = 1e-5;
/// Directions shorter than this share of the longest one are rounding errors.
const NEGLIGIBLE: f64 = 1e-9;

/// The sketch costs as much as this many iterations with all columns.
const ITERATIONS: usize = 8;
/// Columns that one row of the products' tables holds: fewer cost no less.
const LANES: usize = 8;
/// Ranks that `auto` takes, at most.
const LARGEST: usize = 512;

/// The rank for `columns` right-hand sides with `n` rows: a sketch at the price of eight iterations, of at most a tenth
/// of the rows.
pub fn rank(n: usize, columns: usize) -> usize {
    (ITERATIONS * columns.next_multiple_of(LANES)).min(LARGEST).min(n / 10)
}

/// An operator as B B' + T.
#[derive(Debug)]
pub struct LowRank {
    factor: Array2<f64>, // B, (n, r)
    diagonal: Vec<f64>,  // T, (n)
}

impl LowRank {
    /// Multiplies the operator by `rank` random vectors, quickly; rank 0 leaves the diagonal alone. Collective as the
    /// operator is.
    pub fn sketch(operator: &dyn Operator, rank: usize, seed: u64) -> Result<LowRank> {
        let mut diagonal = operator.diagonal();
        let n = diagonal.len();
        if rank == 0 {
            return Ok(LowRank { factor: Array2::zeros((n, 0)), diagonal });
        }
        let lift = LIFT * diagonal.iter().sum::<f64>() / n as f64;
        let progress = Progress::new("preconditioner", rank);
        let (mut image, mut small) = (Array2::zeros((n, rank)), Array2::zeros((rank, rank)));
        for first in (0..rank).step_by(WIDTH) {
            let columns = first..(first + WIDTH).min(rank);
            let probes = probes(n, columns.clone(), seed);
            let mut y = operator.apply_quickly(probes.view());
            y.scaled_add(lift, &probes);
            image.slice_mut(s![.., columns.clone()]).assign(&y);
            progress.add(columns.len());
        }
        for first in (0..rank).step_by(WIDTH) {
            let columns = first..(first + WIDTH).min(rank);
            let probes = probes(n, columns.clone(), seed);
            small.slice_mut(s![columns, ..]).assign(&cross(probes.view(), image.view(), None));
        }
        let symmetric = (&small + &small.t()) * 0.5;
        // The root's, as its directions are free to turn with rounding errors.
        let world = operator.world();
        let root = world.decide(world.agree(inverse_root(symmetric))?);
        let factor = product(image.view(), root.view());
        for (t, row) in diagonal.iter_mut().zip(factor.rows()) {
            *t = (*t - row.dot(&row)).max(0.0);
        }
        Ok(LowRank { factor, diagonal })
    }

    /// r.
    pub fn rank(&self) -> usize {
        self.factor.ncols()
    }

    /// T, (n).
    pub fn rest(&self) -> &[f64] {
        &self.diagonal
    }

    /// B' diag(weights) B of some rows, (r, r).
    pub fn gram(&self, rows: &[usize], weights: &[f64]) -> Array2<f64> {
        let some = self.factor.select(Axis(0), rows);
        cross(some.view(), some.view(), Some(weights))
    }

    /// B' times a block, (n, k) to (r, k).
    pub fn inward(&self, block: ArrayView2<f64>) -> Array2<f64> {
        cross(self.factor.view(), block, None)
    }

    /// B times a block, (r, k) to (n, k).
    pub fn outward(&self, block: ArrayView2<f64>) -> Array2<f64> {
        product(self.factor.view(), block)
    }

    /// Prepares the systems of the rows where `scale` s is not zero, for each pair (a, b) of `weights`:
    /// a (S B B' S + S T S) + b I.
    pub fn restrict(&self, scale: Vec<f64>, weights: &[(f64, f64)]) -> Result<Restricted> {
        let even = scale.iter().all(|&s| s == 0.0 || s == 1.0);
        let rows = scale.iter().filter(|&&s| s != 0.0).count().max(1);
        let mean = scale.iter().zip(&self.diagonal).map(|(s, t)| s * s * t).sum::<f64>() / rows as f64;
        // Rows of one weight differ little in T: with its mean one small matrix serves all of the systems.
        let rest = |i: usize| if even { mean } else { scale[i] * scale[i] * self.diagonal[i] };
        let gram = |d: &dyn Fn(usize) -> f64| {
            let each: Vec<f64> = scale.iter().enumerate().map(|(i, s)| s * s / d(i)).collect();
            cross(self.factor.view(), self.factor.view(), Some(&each))
        };
        let shared = even.then(|| gram(&|_| 1.0));
        let mut systems: Vec<System> = Vec::new();
        for (k, &(a, b)) in weights.iter().enumerate() {
            let same = weights[..k].iter().position(|w| *w == (a, b));
            let inner = match (&shared, same) {
                _ if a <= 0.0 || self.rank() == 0 || same.is_some() => None,
                (Some(gram), _) => Some(gram / (a * mean + b)),
                (None, _) => Some(gram(&|i| a * rest(i) + b)),
            };
            let factor = inner.map(|mut inner| {
                inner.diag_mut().mapv_inplace(|x| x + 1.0 / a);
                Cholesky::new(inner)
            });
            systems.push(System { a, b, factor: factor.transpose()?, same });
        }
        let rest = (0..scale.len()).map(rest).collect();
        Ok(Restricted { scale, rest, systems })
    }

    /// For each column of `block`, (n, k), zero outside its rows, the solution of the system `of` (set, number).
    pub fn solve(&self, sets: &[Restricted], of: &[(usize, usize)], block: ArrayView2<f64>) -> Array2<f64> {
        let mut out = block.as_standard_layout().into_owned();
        for (i, mut row) in out.rows_mut().into_iter().enumerate() {
            for (x, &(set, system)) in row.iter_mut().zip(of) {
                *x /= sets[set].diagonal(system, i);
            }
        }
        if self.rank() == 0 {
            return out;
        }
        // D⁻¹ − D⁻¹ S B (I/a + B'S D⁻¹ S B)⁻¹ B' S D⁻¹ (Woodbury 1950)
        let mut scaled = out.clone();
        for (i, mut row) in scaled.rows_mut().into_iter().enumerate() {
            row.iter_mut().zip(of).for_each(|(x, &(set, _))| *x *= sets[set].scale[i]);
        }
        let mut along = cross(self.factor.view(), scaled.view(), None);
        for (mut column, &(set, system)) in along.columns_mut().into_iter().zip(of) {
            let solved = sets[set].inner(system, column.view());
            column.assign(&solved);
        }
        let back = product(self.factor.view(), along.view());
        for (i, (mut row, back)) in out.rows_mut().into_iter().zip(back.rows()).enumerate() {
            for ((x, u), &(set, system)) in row.iter_mut().zip(back).zip(of) {
                *x -= sets[set].scale[i] * u / sets[set].diagonal(system, i);
            }
        }
        out
    }
}

/// Systems on the same rows.
#[derive(Debug)]
pub struct Restricted {
    scale: Vec<f64>, // s, (n)
    rest: Vec<f64>,  // S T S, (n)
    systems: Vec<System>,
}

#[derive(Debug)]
struct System {
    a: f64,
    b: f64,
    factor: Option<Cholesky>, // of I/a + B'S D⁻¹ S B, (r, r)
    same: Option<usize>,      // an earlier system that has the factor
}

impl Restricted {
    fn diagonal(&self, system: usize, i: usize) -> f64 {
        let System { a, b, .. } = self.systems[system];
        a * self.rest[i] + b
    }

    fn inner(&self, system: usize, right: ArrayView1<f64>) -> Array1<f64> {
        let system = &self.systems[self.systems[system].same.unwrap_or(system)];
        match &system.factor {
            Some(factor) => factor.solve(right.insert_axis(Axis(1))).remove_axis(Axis(1)),
            None => Array1::zeros(right.len()),
        }
    }
}

/// Independent standard normal numbers, (n, columns).
fn probes(n: usize, columns: std::ops::Range<usize>, seed: u64) -> Array2<f64> {
    let mut turned = Array2::zeros((columns.len(), n));
    turned.axis_iter_mut(Axis(0)).into_par_iter().zip(columns).for_each(|(mut row, c)| {
        let mut stream = Stream::new(seed, Purpose::Sketch, c as u64);
        row.mapv_inplace(|_| stream.normal());
    });
    turned.t().as_standard_layout().into_owned()
}

/// A' diag(weights) B, in parts of fixed size added in order.
fn cross(a: ArrayView2<f64>, b: ArrayView2<f64>, weights: Option<&[f64]>) -> Array2<f64> {
    super::factor::one_blas_thread();
    let part = |first: usize| {
        let rows = first..(first + ROWS).min(a.nrows());
        let (a, b) = (a.slice(s![rows.clone(), ..]), b.slice(s![rows.clone(), ..]));
        match weights {
            None => a.t().dot(&b),
            Some(w) => {
                let mut scaled = b.to_owned();
                scaled.axis_iter_mut(Axis(0)).zip(&w[rows]).for_each(|(mut row, w)| row *= *w);
                a.t().dot(&scaled)
            }
        }
    };
    let starts: Vec<usize> = (0..a.nrows()).step_by(ROWS).collect();
    let parts: Vec<Array2<f64>> = starts.into_par_iter().map(part).collect();
    parts.into_iter().fold(Array2::zeros((a.ncols(), b.ncols())), |sum, part| sum + part)
}

/// R with R R' the inverse of a positive semi-definite matrix, without directions that are rounding errors.
fn inverse_root(a: Array2<f64>) -> Result<Array2<f64>> {
    let Eigen { values, vectors } = Eigen::new(a)?;
    let least = NEGLIGIBLE * values.last().copied().unwrap_or(0.0);
    let kept: Vec<usize> = (0..values.len()).filter(|&k| values[k] > least).collect();
    let mut root = vectors.select(Axis(0), &kept).reversed_axes();
    root.columns_mut().into_iter().zip(&kept).for_each(|(mut column, &k)| column /= values[k].sqrt());
    Ok(root.as_standard_layout().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A matrix of eight large directions and a small rest.
    fn matrix(n: usize) -> Array2<f64> {
        let mut s = Stream::new(5, Purpose::Test, n as u64);
        let mut b = |k: usize, size: f64| Array2::from_shape_simple_fn((n, k), || size * s.normal());
        let (large, small) = (b(8, 3.0), b(n, 0.2 / (n as f64).sqrt()));
        large.dot(&large.t()) + small.dot(&small.t())
    }

    #[test]
    fn a_sketch_finds_the_large_directions_and_keeps_the_diagonal() {
        let a = matrix(200);
        let sketch = LowRank::sketch(&a, 20, 1).unwrap();
        let mut again = sketch.factor.dot(&sketch.factor.t());
        again.diag_mut().zip_mut_with(&Array1::from(sketch.diagonal.clone()), |x, t| *x += t);
        assert!((&again - &a).iter().all(|d| d.abs() < 0.3), "entries are as large as 100");
        assert!((&again.diag() - &a.diag()).iter().all(|d| d.abs() < 1e-3));
        assert_eq!(LowRank::sketch(&a, 0, 1).unwrap().rank(), 0);
    }

    #[test]
    fn systems_of_some_rows_are_solved_as_their_definition_says() {
        let n = 150;
        let sketch = LowRank::sketch(&matrix(n), 15, 1).unwrap();
        let even: Vec<f64> = (0..n).map(|i| f64::from(u8::from(i % 3 > 0))).collect();
        let uneven: Vec<f64> = (0..n).map(|i| (i % 4) as f64 * 0.7).collect();
        let weights = [(0.3, 0.7), (0.0, 1.0), (0.3, 0.7), (0.9, 0.1)];
        let sets = [even, uneven].map(|s| sketch.restrict(s, &weights).unwrap());
        let of: Vec<(usize, usize)> = (0..2).flat_map(|set| (0..4).map(move |k| (set, k))).collect();
        let x = Array2::from_shape_fn((n, 8), |(i, c)| {
            if sets[of[c].0].scale[i] == 0.0 {
                0.0
            } else {
                (i * 5 % 7 + c) as f64
            }
        });
        let mut b = Array2::zeros((n, 8));
        for (c, &(set, k)) in of.iter().enumerate() {
            let (set, (a, shift)) = (&sets[set], weights[k]);
            let s = Array1::from(set.scale.clone());
            let low = sketch.factor.dot(&sketch.factor.t().dot(&(&s * &x.column(c)))) * &s;
            let rest = Array1::from(set.rest.clone()) * x.column(c);
            b.column_mut(c).assign(&((low + rest) * a + &x.column(c) * shift));
        }
        let found = sketch.solve(&sets, &of, b.view());
        assert!((&found - &x).iter().all(|d| d.abs() < 1e-8), "Woodbury");
    }

    #[test]
    fn the_rank_follows_from_the_columns_and_the_rows() {
        assert_eq!([rank(1_000_000, 1), rank(1_000_000, 33), rank(1_000_000, 500)], [64, 320, 512]);
        assert_eq!(rank(90, 4), 9);
    }
}
