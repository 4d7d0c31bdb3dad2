//! Launches of `kernels/columns.cu`: sums over the rows of a matrix in two stages, in an order that depends on nothing but
//! its shape.

use super::{View, ViewMut};
use crate::device::cuda::compile::Source;
use crate::device::cuda::gpu::{Gpu, Memory, Shape};
use crate::device::network::Accumulate;
use crate::error::Result;
use cudarc::driver::LaunchConfig;

const SOURCE: Source = Source { name: "columns.cu", text: include_str!("../../../../kernels/columns.cu") };

/// Columns of a block.
const TILE: usize = 32;
/// A block sums at least so many rows, ...
const SLAB: usize = 64;
/// ... and at most this share of all.
const MOST_SLABS: usize = 64;

/// The first stage: a sum of every slab of rows, (slabs, h).
pub(super) struct Partial {
    pub(super) sums: Memory<f64>,
    pub(super) rows: i64,
    pub(super) h: i64,
    /// Rows of a slab.
    pub(super) slab: i64,
    slabs: usize,
}

impl Partial {
    /// For a matrix of `length` numbers in rows of `h`, which is not 0.
    pub(super) fn new(gpu: &Gpu, length: usize, h: usize) -> Result<Partial> {
        let rows = length / h;
        let slab = rows.div_ceil(MOST_SLABS).max(SLAB);
        let slabs = rows.div_ceil(slab).max(1);
        let sums = gpu.fresh(slabs * h)?;
        Ok(Partial { sums, rows: rows as i64, h: h as i64, slab: slab as i64, slabs })
    }

    /// The grid of its kernels.
    pub(super) fn shape(&self) -> Result<LaunchConfig> {
        let tiles = (self.h as usize).div_ceil(TILE);
        Shape { grid: [tiles, self.slabs, 1], threads: 256, shared: 0 }.config()
    }

    /// The second stage: `out` (h).
    pub(super) fn fold(self, gpu: &Gpu, accumulate: Accumulate, mut out: ViewMut) -> Result<()> {
        let kernel = gpu.kernel(&SOURCE, "fold_columns", 0)?;
        let shape = Shape { grid: [out.len().div_ceil(256), 1, 1], threads: 256, shared: 0 };
        let (slabs, accumulate) = (self.slabs as i32, i32::from(accumulate == Accumulate::Add));
        let mut launch = kernel.launch(gpu);
        launch.arg(&self.sums).arg(&slabs).arg(&self.h).arg(&accumulate).arg(&mut out);
        // SAFETY: the sums are (slabs, h), and `out` holds h.
        unsafe { launch.run(shape.config()?) }
    }
}

/// `out (h)`: sums over the rows of `x` (b, h).
pub(super) fn sums(gpu: &Gpu, x: View, accumulate: Accumulate, out: ViewMut) -> Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let mut partial = Partial::new(gpu, x.len(), out.len())?;
    let kernel = gpu.kernel(&SOURCE, "column_sums", 0)?;
    let shape = partial.shape()?;
    let mut launch = kernel.launch(gpu);
    launch.arg(&x).arg(&partial.rows).arg(&partial.h).arg(&partial.slab).arg(&mut partial.sums);
    // SAFETY: x is (rows, h), and the sums (slabs, h).
    unsafe { launch.run(shape) }?;
    partial.fold(gpu, accumulate, out)
}

/// `out (h)`: sums over the rows of (x − centre)², `x` (b, h), `centre` (h).
pub(super) fn squares(gpu: &Gpu, x: View, centre: View, out: ViewMut) -> Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let mut partial = Partial::new(gpu, x.len(), out.len())?;
    let kernel = gpu.kernel(&SOURCE, "column_squares", 0)?;
    let shape = partial.shape()?;
    let mut launch = kernel.launch(gpu);
    launch.arg(&x).arg(&centre).arg(&partial.rows).arg(&partial.h).arg(&partial.slab);
    launch.arg(&mut partial.sums);
    // SAFETY: x is (rows, h), the centre (h), and the sums (slabs, h).
    unsafe { launch.run(shape) }?;
    partial.fold(gpu, Accumulate::Overwrite, out)
}

/// `out (h)`: sums over the rows of x∘y, both (b, h).
pub(super) fn products(gpu: &Gpu, x: View, y: View, accumulate: Accumulate, out: ViewMut) -> Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let mut partial = Partial::new(gpu, x.len(), out.len())?;
    let kernel = gpu.kernel(&SOURCE, "column_products", 0)?;
    let shape = partial.shape()?;
    let mut launch = kernel.launch(gpu);
    launch.arg(&x).arg(&y).arg(&partial.rows).arg(&partial.h).arg(&partial.slab).arg(&mut partial.sums);
    // SAFETY: x and y are (rows, h), and the sums (slabs, h).
    unsafe { launch.run(shape) }?;
    partial.fold(gpu, accumulate, out)
}

/// `out (h)`: sums over the rows of `x` (b, h), each times its weight.
pub(super) fn weighted_sums(gpu: &Gpu, x: &View, weights: &View, out: ViewMut) -> Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let mut partial = Partial::new(gpu, x.len(), out.len())?;
    let kernel = gpu.kernel(&SOURCE, "weighted_sums", 0)?;
    let shape = partial.shape()?;
    let mut launch = kernel.launch(gpu);
    launch.arg(x).arg(weights).arg(&partial.rows).arg(&partial.h).arg(&partial.slab).arg(&mut partial.sums);
    // SAFETY: x is (rows, h), there is a weight a row, and the sums are (slabs, h).
    unsafe { launch.run(shape) }?;
    partial.fold(gpu, Accumulate::Overwrite, out)
}
