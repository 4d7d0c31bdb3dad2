//! Products with blocks of a few columns, of which every rank has a copy.

use super::DistMatrix;
use crate::linalg;
use ndarray::{s, Array2, ArrayView2};

impl DistMatrix {
    /// A B for a block B, (columns, k), the same on all ranks: (rows, k) on every rank, with the same bits on
    /// all; the last ones depend on the grid. To be called by all ranks.
    pub fn times(&self, block: ArrayView2<f64>) -> Array2<f64> {
        assert_eq!(block.nrows(), self.ncols(), "rows of the block");
        self.partial(block, false)
    }

    /// A' B for a block B, (rows, k), in the same way: (columns, k).
    pub fn transposed_times(&self, block: ArrayView2<f64>) -> Array2<f64> {
        assert_eq!(block.nrows(), self.nrows(), "rows of the block");
        self.partial(block, true)
    }

    /// The product of this rank's elements with its rows of the block, summed over the ranks.
    fn partial(&self, block: ArrayView2<f64>, transposed: bool) -> Array2<f64> {
        let (row, column) = self.grid().place(self.world.rank());
        let (local, inner, outer) = match transposed {
            false => (self.local_view(), self.columns().runs(column), self.rows().runs(row)),
            true => (self.local_view().reversed_axes(), self.rows().runs(row), self.columns().runs(column)),
        };
        let mut mine = Array2::zeros((local.ncols(), block.ncols()));
        for run in inner {
            mine.slice_mut(s![run.local, ..]).assign(&block.slice(s![run.global, ..]));
        }
        let product = linalg::product(local, mine.view());
        let length = if transposed { self.ncols() } else { self.nrows() };
        let mut out = Array2::zeros((length, block.ncols()));
        for run in outer {
            out.slice_mut(s![run.global, ..]).assign(&product.slice(s![run.local, ..]));
        }
        self.world.sum_f64(out.as_slice_mut().expect("standard layout"));
        out
    }
}
