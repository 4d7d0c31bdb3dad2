//! Operators, factorisations and conjugate gradients, without knowledge of genetics.

pub mod band;
pub mod factor;
pub mod matrix;
pub mod pcg;
pub mod precondition;
pub mod rows;
pub mod trace;
pub mod scalapack;

pub use rows::Rows;

use ndarray::parallel::prelude::*;
use ndarray::{Array2, ArrayView2, Axis, CowArray, Ix2};
use std::rc::Rc;

/// A symmetric matrix, (n, n), known by its products with blocks that are shared out over ranks by rows.
pub trait Operator {
    /// Which rank owns which of the n rows.
    fn row_layout(&self) -> Rows;
    /// The product with a block, this rank's rows (n_r, k) to (n_r, k). Collective.
    fn apply(&self, block: ArrayView2<f64>) -> Array2<f64>;
    /// The same to about six digits, where that is faster.
    fn apply_quickly(&self, block: ArrayView2<f64>) -> Array2<f64> {
        self.apply(block)
    }
    /// The product with a matrix that is near to the operator and several times cheaper, where there is one: enough to
    /// see its large directions. Collective.
    fn apply_roughly(&self, _block: ArrayView2<f64>) -> Option<Array2<f64>> {
        None
    }
    /// This rank's part of the diagonal, (n_r). Collective.
    fn diagonal(&self) -> Vec<f64>;
}

/// A symmetric matrix in the memory of one rank alone.
impl Operator for Array2<f64> {
    fn row_layout(&self) -> Rows {
        Rows::alone(self.nrows())
    }

    fn apply(&self, block: ArrayView2<f64>) -> Array2<f64> {
        product(self.view(), block)
    }

    fn diagonal(&self) -> Vec<f64> {
        self.diag().to_vec()
    }
}

impl<T: Operator> Operator for Rc<T> {
    fn row_layout(&self) -> Rows {
        (**self).row_layout()
    }

    fn apply(&self, block: ArrayView2<f64>) -> Array2<f64> {
        (**self).apply(block)
    }

    fn apply_quickly(&self, block: ArrayView2<f64>) -> Array2<f64> {
        (**self).apply_quickly(block)
    }

    fn apply_roughly(&self, block: ArrayView2<f64>) -> Option<Array2<f64>> {
        (**self).apply_roughly(block)
    }

    fn diagonal(&self) -> Vec<f64> {
        (**self).diagonal()
    }
}

/// A symmetric matrix of which each rank has its own rows.
pub struct RowMatrix {
    rows: Rows,
    own: Array2<f64>, // (n_r, n)
}

impl RowMatrix {
    /// Gives each rank its rows of a matrix, (n, n), that the root has whole. Collective.
    pub fn scatter(rows: Rows, whole: Option<Array2<f64>>) -> RowMatrix {
        let own = rows.scatter(whole);
        RowMatrix { rows, own }
    }
}

impl Operator for RowMatrix {
    fn row_layout(&self) -> Rows {
        self.rows.clone()
    }

    fn apply(&self, block: ArrayView2<f64>) -> Array2<f64> {
        product(self.own.view(), self.rows.gather(block).view())
    }

    fn diagonal(&self) -> Vec<f64> {
        self.rows.own().enumerate().map(|(i, j)| self.own[[i, j]]).collect()
    }
}

/// Numbers that are kept in fewer bits or in double precision; all arithmetic is in double precision.
pub trait Real: Copy + Send + Sync + Into<f64> {
    /// The numbers in double precision.
    fn widen(block: ArrayView2<Self>) -> CowArray<f64, Ix2>;
}

impl Real for f64 {
    fn widen(block: ArrayView2<f64>) -> CowArray<f64, Ix2> {
        block.into()
    }
}

impl Real for i16 {
    fn widen(block: ArrayView2<i16>) -> CowArray<f64, Ix2> {
        block.mapv(f64::from).into()
    }
}

impl Real for f32 {
    fn widen(block: ArrayView2<f32>) -> CowArray<f64, Ix2> {
        block.mapv(f64::from).into()
    }
}

/// Rows in one task of [`product`] and its like.
const ROWS: usize = 256;

/// `a` times `b` by all threads of the pool: fixed blocks of rows, each by one-threaded BLAS, so that the
/// result does not depend on the number of threads.
pub fn product<A: Real>(a: ArrayView2<A>, b: ArrayView2<f64>) -> Array2<f64> {
    factor::one_blas_thread();
    let mut out = Array2::zeros((a.nrows(), b.ncols()));
    out.axis_chunks_iter_mut(Axis(0), ROWS).into_par_iter().zip(a.axis_chunks_iter(Axis(0), ROWS)).for_each(
        |(mut out, rows)| ndarray::linalg::general_mat_mul(1.0, &A::widen(rows), &b, 0.0, &mut out),
    );
    out
}
