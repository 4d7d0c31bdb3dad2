//! Launches of `kernels/loss.cu`.

use super::columns::Partial;
use super::{View, ViewMut};
use crate::device::cuda::compile::Source;
use crate::device::cuda::gpu::Gpu;
use crate::device::network::{Accumulate, Loss};
use crate::error::Result;

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
    let shape = partial.shape()?;
    let mut launch = kernel.launch(gpu);
    launch.arg(&bend).arg(&factor).arg(&predicted).arg(&observed);
    match &weights {
        Some(weights) => launch.arg(weights),
        None => launch.none(),
    };
    launch.arg(&partial.rows).arg(&partial.h).arg(&partial.slab).arg(&mut delta).arg(&mut partial.sums);
    // SAFETY: no weights are a null pointer; predictions, records, weights and delta are (rows, h), and the sums
    // (slabs, h).
    unsafe { launch.run(shape) }?;
    partial.fold(gpu, Accumulate::Overwrite, sums)
}
