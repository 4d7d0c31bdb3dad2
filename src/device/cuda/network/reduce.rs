//! Launches of `kernels/reduce.cu`.

use super::View;
use crate::device::cuda::card::{failed, Card, Shape};
use crate::device::cuda::compile::Source;
use crate::error::Result;
use cudarc::driver::PushKernelArg;

const SOURCE: Source = Source { name: "reduce.cu", text: include_str!("../../../../kernels/reduce.cu") };

/// Numbers that a block reads at least ...
const SHARE: usize = 4096;
/// ... unless there are so many blocks, which fill any card.
const MOST_BLOCKS: usize = 1024;

/// Σ x², in f64, in an order that depends on nothing but the length.
pub(super) fn sum_of_squares(card: &Card, x: View) -> Result<f64> {
    if x.is_empty() {
        return Ok(0.0);
    }
    let blocks = x.len().div_ceil(SHARE).min(MOST_BLOCKS);
    let (mut partial, mut total) = (card.fresh::<f64>(blocks)?, card.fresh::<f64>(1)?);
    let (length, count) = (x.len() as i64, blocks as i32);
    let shape = |blocks| Shape { grid: [blocks, 1, 1], threads: 256, shared: 0 }.config();

    let kernel = card.kernel(&SOURCE, "squares", 0)?;
    let mut launch = card.stream().launch_builder(&kernel);
    launch.arg(&x).arg(&length).arg(&mut partial);
    // SAFETY: the arguments are those of the kernel in number and kind; x holds `length` numbers, and each block writes
    // its sum.
    unsafe { launch.launch(shape(blocks)?) }.map_err(|e| failed("squares", e))?;

    let kernel = card.kernel(&SOURCE, "fold", 0)?;
    let mut launch = card.stream().launch_builder(&kernel);
    launch.arg(&partial).arg(&count).arg(&mut total);
    // SAFETY: the arguments are those of the kernel in number and kind; it reads `count` sums and writes one.
    unsafe { launch.launch(shape(1)?) }.map_err(|e| failed("fold", e))?;

    let mut sum = [0.0];
    card.download(&total, &mut sum)?;
    Ok(sum[0])
}
