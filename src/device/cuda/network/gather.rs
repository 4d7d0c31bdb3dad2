//! Launches of `kernels/gather.cu`.

use super::{View, ViewMut};
use crate::device::cuda::card::{failed, Card, Memory, Shape};
use crate::device::cuda::compile::Source;
use crate::device::cuda::genotypes::Held;
use crate::device::network::Onto;
use crate::error::Result;
use cudarc::driver::PushKernelArg;

const SOURCE: Source = Source { name: "gather.cu", text: include_str!("../../../../kernels/gather.cu") };

/// `out (b, h) = Z[rows] W`, the rows being there; lengths are checked before.
pub(super) fn times(
    card: &Card,
    z: &Held,
    (rows, b): (&Memory<u32>, usize),
    w: View,
    h: usize,
    mut out: ViewMut,
) -> Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let kernel = card.kernel(&SOURCE, "gather_times", 0)?;
    let shape = Shape { grid: [out.len().div_ceil(256), 1, 1], threads: 256, shared: 0 };
    let [pitch, m, b, h] = [z.pitch(), z.m, b, h].map(|size| size as i64);
    let mut launch = card.stream().launch_builder(&kernel);
    launch.arg(&z.codes).arg(&pitch).arg(&z.table).arg(&m).arg(rows).arg(&b).arg(&w).arg(&h).arg(&mut out);
    // SAFETY: the arguments are those of the kernel in number and kind; the b rows are rows of the codes, w is (m, h) and
    // out (b, h).
    unsafe { launch.launch(shape.config()?) }.map_err(|e| failed("gather_times", e))?;
    Ok(())
}

/// `out (m, h) = Z[rows]' D`, the rows being there; lengths are checked before.
pub(super) fn transposed_times(
    card: &Card,
    z: &Held,
    (rows, b): (&Memory<u32>, usize),
    d: View,
    h: usize,
    onto: Onto,
    mut out: ViewMut,
) -> Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let kernel = card.kernel(&SOURCE, "gather_transposed_times", 0)?;
    let shape = Shape { grid: [out.len().div_ceil(256), 1, 1], threads: 256, shared: 0 };
    let ([pitch, m, b, h], onto) =
        ([z.pitch(), z.m, b, h].map(|size| size as i64), i32::from(onto == Onto::Sum));
    let mut launch = card.stream().launch_builder(&kernel);
    launch.arg(&z.codes).arg(&pitch).arg(&z.table).arg(&m).arg(rows).arg(&b).arg(&d).arg(&h).arg(&onto);
    launch.arg(&mut out);
    // SAFETY: the arguments are those of the kernel in number and kind; the b rows are rows of the codes, d is (b, h) and
    // out (m, h).
    unsafe { launch.launch(shape.config()?) }.map_err(|e| failed("gather_transposed_times", e))?;
    Ok(())
}
