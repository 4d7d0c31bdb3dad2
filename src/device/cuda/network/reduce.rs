//! Launches of `kernels/reduce.cu`.

use super::{View, ViewMut};
use crate::device::cuda::compile::Source;
use crate::device::cuda::gpu::{Gpu, Shape};
use crate::error::Result;

const SOURCE: Source = Source { name: "reduce.cu", text: include_str!("../../../../kernels/reduce.cu") };

/// Numbers that a block reads at least ...
const SHARE: usize = 4096;
/// ... unless there are so many blocks, which fill any GPU.
const MOST_BLOCKS: usize = 1024;

/// `out (1) = Σ x²`, summed in f64, in an order that depends on nothing but the length.
pub(super) fn sum_of_squares(gpu: &Gpu, x: View, mut out: ViewMut) -> Result<()> {
    let blocks = x.len().div_ceil(SHARE).clamp(1, MOST_BLOCKS);
    let mut partial = gpu.fresh::<f64>(blocks)?;
    let (length, count) = (x.len() as i64, blocks as i32);
    let shape = |blocks| Shape { grid: [blocks, 1, 1], threads: 256, shared: 0 }.config();

    let kernel = gpu.kernel(&SOURCE, "squares", 0)?;
    let mut launch = kernel.launch(gpu);
    launch.arg(&x).arg(&length).arg(&mut partial);
    // SAFETY: x holds `length` numbers, and each block writes its sum.
    unsafe { launch.run(shape(blocks)?) }?;

    let kernel = gpu.kernel(&SOURCE, "fold", 0)?;
    let mut launch = kernel.launch(gpu);
    launch.arg(&partial).arg(&count).arg(&mut out);
    // SAFETY: it reads `count` sums and writes one.
    unsafe { launch.run(shape(1)?) }
}
