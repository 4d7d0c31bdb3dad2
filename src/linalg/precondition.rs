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
use ndarray::parallel::prelude::*;
use ndarray::{s, Array2, ArrayView2, Axis};

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
    factor: Array2<f32>, // B, this rank's rows (n_r, r): the largest thing that is kept
    lengths: Vec<f64>,   // of B's columns over all ranks, (r)
    diagonal: Vec<f64>,  // T, (n_r)
}

impl LowRank {
    /// Multiplies the operator by `rank` random vectors, quickly; rank 0 leaves the diagonal alone. Collective.
    pub fn sketch(operator: &dyn Operator, rank: usize, seed: u64) -> Result<LowRank> {
        let (rows, mut diagonal) = (operator.row_layout(), operator.diagonal());
        if rank == 0 {
            let factor = Array2::zeros((rows.count(), 0));
            return Ok(LowRank { rows, factor, lengths: Vec::new(), diagonal });
        }
        let trace = rows.sums(1, |i, sum| sum[0] += diagonal[i])[0];
        let lift = LIFT * trace / rows.total() as f64;
        let progress = Progress::new("preconditioner", rank);
        let mut image = Array2::<f32>::zeros((rows.count(), rank));
        for first in (0..rank).step_by(WIDTH) {
            let columns = first..(first + WIDTH).min(rank);
            let probes = probes(&rows, columns.clone(), seed);
            let mut y = operator.apply_quickly(probes.view());
            y.scaled_add(lift, &probes);
            image.slice_mut(s![.., columns.clone()]).zip_mut_with(&y, |to, &y| *to = y as f32);
            progress.add(columns.len());
        }
        let lengths = rows.lengths(image.view());
        let mut small = Array2::zeros((rank, rank));
        for first in (0..rank).step_by(WIDTH) {
            let columns = first..(first + WIDTH).min(rank);
            let probes = probes(&rows, columns.clone(), seed);
            let part = rows.cross_of(image.view(), &lengths, probes.view(), None);
            small.slice_mut(s![.., columns]).assign(&part);
        }
        let symmetric = (&small + &small.t()) * 0.5;
        // The root's, as its directions are free to turn with rounding errors.
        let root = rows.world().on_root(|| inverse_root(symmetric))?;
        let factor = times_in_place(image, root.view());
        for (t, row) in diagonal.iter_mut().zip(factor.rows()) {
            *t = (*t - row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>()).max(0.0);
        }
        let lengths = rows.lengths(factor.view());
        Ok(LowRank { rows, factor, lengths, diagonal })
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
        self.rows.cross_of(self.factor.view(), &self.lengths, self.factor.view(), Some(weights))
    }

    /// B' times a block, this rank's rows (n_r, k) to (r, k). Collective.
    pub fn inward(&self, block: ArrayView2<f64>) -> Array2<f64> {
        self.rows.cross_of(self.factor.view(), &self.lengths, block, None)
    }

    /// B times a block, (r, k) to this rank's rows (n_r, k).
    pub fn outward(&self, block: ArrayView2<f64>) -> Array2<f64> {
        product(self.factor.view(), block)
    }
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
        let factor = sketch.factor.mapv(f64::from);
        let mut again = factor.dot(&factor.t());
        again.diag_mut().zip_mut_with(&Array1::from(sketch.diagonal.clone()), |x, t| *x += t);
        assert!((&again - &a).iter().all(|d| d.abs() < 0.3), "entries are as large as 100");
        assert!((&again.diag() - &a.diag()).iter().all(|d| d.abs() < 1e-3));
        assert_eq!(LowRank::sketch(&a, 0, 1).unwrap().rank(), 0);
    }

    #[test]
    fn a_matrix_of_lower_rank_is_found_whole() {
        let b = Array2::from_shape_fn((60, 3), |(i, k)| ((i * (k + 2)) as f64).sin());
        let a = b.dot(&b.t());
        let sketch = LowRank::sketch(&a, 6, 1).unwrap();
        let factor = sketch.factor.mapv(f64::from);
        assert!((factor.dot(&factor.t()) - &a).iter().all(|d| d.abs() < 1e-2), "{}", sketch.rank());
    }

    #[test]
    fn the_rank_follows_from_the_columns_and_the_rows() {
        assert_eq!([10_000, 30_000, 113_599, 500_000].map(|n| rank(n, 33)), [320, 320, 600, 1120]);
        assert_eq!([rank(1_000_000, 1), rank(1_000_000, 500), rank(90, 4)], [312, 1280, 9]);
    }
}
