//! Launches of `kernels/adam.cu`.

use super::{fours, View, ViewMut};
use crate::device::cuda::compile::Source;
use crate::device::cuda::gpu::Gpu;
use crate::device::network::Adam;
use crate::error::Result;

const SOURCE: Source = Source { name: "adam.cu", text: include_str!("../../../../kernels/adam.cu") };

/// One step of the optimizer; all views are of one length but the squares of `clip`, which come with the most that the
/// gradient's length may be.
pub(super) fn adam(
    gpu: &Gpu,
    adam: &Adam,
    clip: Option<(f32, View)>,
    gradient: View,
    mut parameters: ViewMut,
    (mut first, mut second): (ViewMut, ViewMut),
) -> Result<()> {
    let length = gradient.len() as i64;
    let Some(shape) = fours(gradient.len())? else { return Ok(()) };
    let (correction1, correction2) = adam.corrections();
    let numbers = [
        adam.learning_rate,
        adam.beta1,
        1.0 - adam.beta1,
        adam.beta2,
        1.0 - adam.beta2,
        adam.epsilon,
        adam.l2,
        adam.weight_decay,
        1.0 / correction1,
        1.0 / correction2,
    ]
    .map(|number| number as f32);
    let parts = clip.as_ref().map_or(0, |(_, squares)| squares.len()) as i32;
    // Without parts nothing of them is read.
    let (longest, squares) = clip.as_ref().map_or((0.0, &gradient), |(longest, squares)| (*longest, squares));
    let kernel = gpu.kernel(&SOURCE, "adam", 0)?;
    let mut launch = kernel.launch(gpu);
    numbers.iter().for_each(|number| {
        launch.arg(number);
    });
    launch.arg(&longest).arg(squares).arg(&parts);
    launch.arg(&gradient).arg(&mut parameters).arg(&mut first).arg(&mut second).arg(&length);
    // SAFETY: all four views hold `length` numbers, and the squares `parts`.
    unsafe { launch.run(shape) }
}
