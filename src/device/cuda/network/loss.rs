//! Launches of `kernels/loss.cu`.

use super::columns::Partial;
use super::{View, ViewMut};
use crate::device::cuda::compile::Source;
use crate::device::cuda::gpu::{failed, Gpu};
use crate::device::network::{Accumulate, Loss};
use crate::error::Result;
use cudarc::driver::PushKernelArg;

const SOURCE: Source = Source { name: "loss.cu", text: include_str!("../../../../kernels/loss.cu") };

/// What predictions (b, t) cost: their `delta` (b, t), and `sums` (t) over the rows.
pub(super) fn loss(
    gpu: &Gpu,
    (loss, factor): (Loss, f32),
    (predicted, observed): (View, View),
    weights: Option<View>,
    mut delta: ViewMut,
    sums: ViewMut,
) -> Result<()> {
    if sums.is_empty() {
        return Ok(());
    }
    let bend = match loss {
        Loss::Squared => f32::INFINITY,
        Loss::Huber(bend) => bend as f32,
    };
    let mut partial = Partial::new(gpu, predicted.len(), sums.len())?;
    let kernel = gpu.kernel(&SOURCE, "loss", 0)?;
    let (shape, none) = (partial.shape()?, 0u64);
    let mut launch = gpu.stream().launch_builder(&kernel);
    launch.arg(&bend).arg(&factor).arg(&predicted).arg(&observed);
    match &weights {
        Some(weights) => launch.arg(weights),
        None => launch.arg(&none),
    };
    launch.arg(&partial.rows).arg(&partial.h).arg(&partial.slab).arg(&mut delta).arg(&mut partial.sums);
    // SAFETY: the arguments are those of the kernel in number and kind, no weights being a null pointer; predictions,
    // records, weights and delta are (rows, h), and the sums (slabs, h).
    unsafe { launch.launch(shape) }.map_err(|e| failed("loss", e))?;
    partial.fold(gpu, Accumulate::Overwrite, sums)
}
