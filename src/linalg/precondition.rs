//! What makes conjugate gradients short: an operator known approximately as a matrix of low rank and a diagonal.
//!
//! One sketch of the operator serves all systems made from it, whatever their rows, weights and shifts: G ≈ B B' + T
//! from the randomised Nyström method (Frangella, Tropp & Udell 2023, SIAM J. Matrix Anal. Appl. 44:718), with T the
//! diagonal that B B' leaves. Woodbury's identity makes an approximate inverse from it.

use super::factor::{self, Eigen};
use super::{product, Operator, Real, Rows};
use crate::error::Result;
use crate::progress::Progress;
use crate::rng::{Purpose, Stream};
use crate::stats::largest_of_columns;
use ndarray::parallel::prelude::*;
use ndarray::{s, Array1, Array2, ArrayView2, Axis, Zip};

/// Columns of the sketch in one product with the operator: bounds the memory.
const WIDTH: usize = 40;
/// Share of the mean diagonal that is added before the small matrix is inverted: above the errors of quick products.
const LIFT: f64 = 1e-5;
/// Directions shorter than this share of the longest one are rounding errors.
const NEGLIGIBLE: f64 = 1e-9;

/// The sketch costs as much as this many iterations with all columns, ...
const ITERATIONS: f64 = 8.0;
/// ... and beyond this many rows, where iterations are more, as many more.
const ROWS: f64 = 30_000.0;
/// Iterations grow with this power of the rows: 36, 62 and 110 at 10,000, 30,000 and 113,599 animals with rank 320.
const POWER: f64 = 0.45;
/// Columns that one row of the products' tables holds: fewer cost no less.
const LANES: usize = 8;
/// Ranks that `auto` takes, at most.
const LARGEST: usize = 1280;

/// The rank for `columns` right-hand sides with `n` rows: a sketch at the price of eight iterations or, of many rows, more,
/// and at most a tenth of the rows.
pub fn rank(n: usize, columns: usize) -> usize {
    let iterations = ITERATIONS * (n as f64 / ROWS).powf(POWER).max(1.0);
    (iterations.round() as usize * columns.next_multiple_of(LANES)).min(LARGEST).min(n / 10)
}

/// An operator as B B' + T.
#[derive(Debug)]
pub struct LowRank {
    rows: Rows,
    /// B in units of each column, this rank's rows (n_r, r): the largest thing that is kept.
    factor: Array2<i16>,
    units: Array1<f64>, // (r)
    /// Of the columns of `factor` over all ranks, (r).
    lengths: Vec<f64>,
    diagonal: Vec<f64>, // T, (n_r)
}

impl LowRank {
    /// Multiplies the operator by `rank` vectors, quickly; rank 0 leaves the diagonal alone. Collective.
    pub fn sketch(operator: &dyn Operator, rank: usize, seed: u64) -> Result<LowRank> {
        let (rows, mut diagonal) = (operator.row_layout(), operator.diagonal());
        if rank == 0 {
            let (factor, units) = (Array2::zeros((rows.count(), 0)), Array1::zeros(0));
            return Ok(LowRank { rows, factor, units, lengths: Vec::new(), diagonal });
        }
        let trace = rows.sums(1, |i, sum| sum[0] += diagonal[i])[0];
        let lift = LIFT * trace / rows.total() as f64;
        let mut image = directions(operator, rank, seed)?;
        let rank = image.ncols();
        let lengths = rows.lengths(image.view());
        let progress = Progress::new("preconditioner", rank);
        let mut small = Array2::zeros((rank, rank));
        for first in (0..rank).step_by(WIDTH) {
            let columns = first..(first + WIDTH).min(rank);
            let some = f32::widen(image.slice(s![.., columns.clone()])).into_owned();
            let mut y = operator.apply_quickly(some.view());
            y.scaled_add(lift, &some);
            // Columns before these are images already.
            let part = rows.cross_of(image.slice(s![.., first..]), &lengths[first..], y.view(), None);
            small.slice_mut(s![first.., columns.clone()]).assign(&part);
            small.slice_mut(s![columns.clone(), first..]).assign(&part.t());
            image.slice_mut(s![.., columns.clone()]).zip_mut_with(&y, |to, &y| *to = y as f32);
            progress.add(columns.len());
        }
        // The root's, as its directions are free to turn with rounding errors.
        let root = rows.world().on_root(|| inverse_root(small))?;
        let (factor, units) = rounded(&rows, times_in_place(image, root.view()));
        for (t, row) in diagonal.iter_mut().zip(factor.rows()) {
            let of_factor = |(&b, unit): (&i16, &f64)| (f64::from(b) * unit).powi(2);
            *t = (*t - row.iter().zip(&units).map(of_factor).sum::<f64>()).max(0.0);
        }
        let lengths = rows.lengths(factor.view());
        Ok(LowRank { rows, factor, units, lengths, diagonal })
    }

    /// r.
    pub fn rank(&self) -> usize {
        self.factor.ncols()
    }

    /// T, this rank's part (n_r).
    pub fn rest(&self) -> &[f64] {
        &self.diagonal
    }

    /// B' diag(weights) B, (r, r), with a weight for each of this rank's rows. Collective.
    pub fn gram(&self, weights: &[f64]) -> Array2<f64> {
        let gram = self.rows.cross_of(self.factor.view(), &self.lengths, self.factor.view(), Some(weights));
        gram * &self.units * self.units.view().insert_axis(Axis(1))
    }

    /// B' times a block, this rank's rows (n_r, k) to (r, k). Collective.
    pub fn inward(&self, block: ArrayView2<f64>) -> Array2<f64> {
        let inward = self.rows.cross_of(self.factor.view(), &self.lengths, block, None);
        inward * self.units.view().insert_axis(Axis(1))
    }

    /// B times a block, (r, k) to this rank's rows (n_r, k).
    pub fn outward(&self, block: ArrayView2<f64>) -> Array2<f64> {
        product(self.factor.view(), (&block * &self.units.view().insert_axis(Axis(1))).view())
    }
}

/// A block, (n_r, r), as whole multiples of a unit for each column: 16 bits are far more than a preconditioner needs.
/// Collective; the same on any number of ranks.
fn rounded(rows: &Rows, block: Array2<f32>) -> (Array2<i16>, Array1<f64>) {
    let mut largest = largest_of_columns(block.as_slice().expect("standard layout"), block.ncols());
    rows.world().max(&mut largest);
    let units: Array1<f64> = largest.into_iter().map(|x| x / f64::from(i16::MAX)).collect();
    let whole = |&x: &f32, &unit: &f64| match unit > 0.0 {
        true => (f64::from(x) / unit).round() as i16,
        false => 0,
    };
    (Zip::from(&block).and_broadcast(&units).par_map_collect(whole), units)
}

/// `rank` vectors that span much of the operator's large directions, this rank's rows (n_r, rank): random ones, multiplied
/// once by a cheap matrix near to it, where there is one, and made orthonormal. Collective.
fn directions(operator: &dyn Operator, rank: usize, seed: u64) -> Result<Array2<f32>> {
    let rows = operator.row_layout();
    let mut out = Array2::<f32>::zeros((rows.count(), rank));
    let mut turned = false;
    for first in (0..rank).step_by(WIDTH) {
        let columns = first..(first + WIDTH).min(rank);
        let probes = probes(&rows, columns.clone(), seed);
        let image = operator.apply_roughly(probes.view());
        turned = image.is_some();
        out.slice_mut(s![.., columns]).zip_mut_with(&image.unwrap_or(probes), |to, &x| *to = x as f32);
    }
    if !turned {
        return Ok(out);
    }
    let lengths = rows.lengths(out.view());
    let gram = rows.cross_of(out.view(), &lengths, out.view(), None);
    let root = rows.world().on_root(|| inverse_root(gram))?;
    Ok(times_in_place(out, root.view()))
}

/// Independent standard normal numbers, this rank's rows (n_r, columns): each chunk of rows has a stream a column.
fn probes(rows: &Rows, columns: std::ops::Range<usize>, seed: u64) -> Array2<f64> {
    rows.random(columns, |chunk, column| Stream::new(seed, Purpose::Sketch, (chunk << 32) + column))
}

/// A block times a matrix, (n_r, r) and (r, k) with k at most r, in the block's memory.
fn times_in_place(mut block: Array2<f32>, root: ArrayView2<f64>) -> Array2<f32> {
    factor::one_blas_thread();
    let (n, k) = (block.nrows(), root.ncols());
    block.axis_chunks_iter_mut(Axis(0), super::ROWS).into_par_iter().for_each(|mut rows| {
        let product = f32::widen(rows.view()).dot(&root);
        rows.slice_mut(s![.., ..k]).zip_mut_with(&product, |to, &x| *to = x as f32);
    });
    if k == block.ncols() {
        return block;
    }
    let mut kept = Array2::zeros((n, k));
    kept.assign(&block.slice(s![.., ..k]));
    kept
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
    use ndarray::Array1;

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
        let factor = sketch.outward(Array2::eye(sketch.rank()).view());
        let mut again = factor.dot(&factor.t());
        again.diag_mut().zip_mut_with(&Array1::from(sketch.diagonal.clone()), |x, t| *x += t);
        assert!((&again - &a).iter().all(|d| d.abs() < 0.3), "entries are as large as 100");
        assert!((&again.diag() - &a.diag()).iter().all(|d| d.abs() < 1e-3));
        assert_eq!(LowRank::sketch(&a, 0, 1).unwrap().rank(), 0);
    }

    /// A matrix and one near to it.
    struct Near(Array2<f64>, Array2<f64>);

    impl Operator for Near {
        fn row_layout(&self) -> Rows {
            self.0.row_layout()
        }

        fn apply(&self, block: ArrayView2<f64>) -> Array2<f64> {
            self.0.apply(block)
        }

        fn apply_roughly(&self, block: ArrayView2<f64>) -> Option<Array2<f64>> {
            Some(self.1.apply(block))
        }

        fn diagonal(&self) -> Vec<f64> {
            self.0.diagonal()
        }
    }

    #[test]
    fn rough_products_lead_to_the_large_directions() {
        let n = 200;
        let mut s = Stream::new(6, Purpose::Test, 0);
        // Eigenvalues 1, 1/2, 1/3, ... in random directions.
        let turned = Array2::from_shape_simple_fn((n, n), || s.normal());
        let directions = Eigen::new(turned.dot(&turned.t())).unwrap().vectors;
        let sizes = Array1::from_iter((1..=n).map(|i| 1.0 / i as f64));
        let a = directions.t().dot(&(&directions * &sizes.insert_axis(Axis(1))));
        let noise = Array2::from_shape_simple_fn((n, 4 * n), || 0.02 * s.normal() / (4.0 * n as f64).sqrt());
        let near = Near(a.clone(), &a * 0.9 + noise.dot(&noise.t()));
        // What the sketch leaves, in directions of the fifth to the tenth eigenvalue.
        let left = |operator: &dyn Operator| {
            let sketch = LowRank::sketch(operator, 20, 1).unwrap();
            let factor = sketch.outward(Array2::eye(sketch.rank()).view());
            let rest = &a - &factor.dot(&factor.t());
            (4..10).map(|i| directions.row(i).dot(&rest.dot(&directions.row(i)))).fold(0.0, f64::max)
        };
        let (random, led) = (left(&a), left(&near));
        assert!(led < 0.3 * random && led > -1e-4, "{led} beside {random}");
    }

    #[test]
    fn a_matrix_of_lower_rank_is_found_whole() {
        let b = Array2::from_shape_fn((60, 3), |(i, k)| ((i * (k + 2)) as f64).sin());
        let a = b.dot(&b.t());
        let sketch = LowRank::sketch(&a, 6, 1).unwrap();
        let factor = sketch.outward(Array2::eye(sketch.rank()).view());
        assert!((factor.dot(&factor.t()) - &a).iter().all(|d| d.abs() < 1e-2), "{}", sketch.rank());
    }

    #[test]
    fn the_rank_follows_from_the_columns_and_the_rows() {
        assert_eq!([10_000, 30_000, 113_599, 500_000].map(|n| rank(n, 33)), [320, 320, 600, 1120]);
        assert_eq!([rank(1_000_000, 1), rank(1_000_000, 500), rank(90, 4)], [312, 1280, 9]);
    }
}
