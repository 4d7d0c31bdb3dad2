//! Operators, factorisations and conjugate gradients, without knowledge of genetics.

pub mod band;
pub mod factor;
pub mod matrix;
pub mod pcg;
pub mod precondition;
pub mod trace;
pub mod scalapack;

use crate::comm::World;
use ndarray::parallel::prelude::*;
use ndarray::{Array2, ArrayView2, Axis};

/// A symmetric matrix, known by its products.
pub trait Operator {
    /// Number of rows and columns, n.
    fn dimension(&self) -> usize;
    /// The product with a block, (n, k) to (n, k). Collective: every rank calls it with the same block.
    fn apply(&self, block: ArrayView2<f64>) -> Array2<f64>;
    /// The same to about six digits, where that is faster.
    fn apply_quickly(&self, block: ArrayView2<f64>) -> Array2<f64> {
        self.apply(block)
    }
    /// The diagonal, (n).
    fn diagonal(&self) -> Vec<f64>;
    /// The ranks that multiply together: the root's numbers count where all must decide alike, because processors of
    /// several kinds round differently.
    fn world(&self) -> World {
        World::alone()
    }
}

/// A symmetric matrix in memory.
impl Operator for Array2<f64> {
    fn dimension(&self) -> usize {
        self.nrows()
    }

    fn apply(&self, block: ArrayView2<f64>) -> Array2<f64> {
        product(self.view(), block)
    }

    fn diagonal(&self) -> Vec<f64> {
        self.diag().to_vec()
    }
}

/// Rows in one task of [`product`].
const ROWS: usize = 256;

/// `a` times `b` by all threads of the pool: fixed blocks of rows, each by one-threaded BLAS, so that the
/// result does not depend on the number of threads.
pub fn product(a: ArrayView2<f64>, b: ArrayView2<f64>) -> Array2<f64> {
    factor::one_blas_thread();
    let mut out = Array2::zeros((a.nrows(), b.ncols()));
    out.axis_chunks_iter_mut(Axis(0), ROWS)
        .into_par_iter()
        .zip(a.axis_chunks_iter(Axis(0), ROWS))
        .for_each(|(mut out, rows)| ndarray::linalg::general_mat_mul(1.0, &rows, &b, 0.0, &mut out));
    out
}
