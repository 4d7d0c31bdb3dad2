//! Launches of `kernels/elementwise.cu`.

use super::{fours, View, ViewMut};
use crate::device::cuda::compile::Source;
use crate::device::cuda::gpu::Gpu;
use crate::device::network::Activation;
use crate::error::Result;

const SOURCE: Source =
    Source { name: "elementwise.cu", text: include_str!("../../../../kernels/elementwise.cu") };

/// Fills with one value.
pub(super) fn fill(gpu: &Gpu, value: f32, mut to: ViewMut) -> Result<()> {
    let length = to.len() as i64;
    let Some(shape) = fours(to.len())? else { return Ok(()) };
    let kernel = gpu.kernel(&SOURCE, "fill", 0)?;
    let mut launch = kernel.launch(gpu);
    launch.arg(&value).arg(&mut to).arg(&length);
    // SAFETY: it writes `length` numbers, the view's length.
    unsafe { launch.run(shape) }
}

/// `y = keep y + factor x`, of one length.
pub(super) fn blend(gpu: &Gpu, (keep, factor): (f32, f32), x: View, mut y: ViewMut) -> Result<()> {
    let length = y.len() as i64;
    let Some(shape) = fours(y.len())? else { return Ok(()) };
    let kernel = gpu.kernel(&SOURCE, "blend", 0)?;
    let mut launch = kernel.launch(gpu);
    launch.arg(&keep).arg(&factor).arg(&x).arg(&mut y).arg(&length);
    // SAFETY: both views hold `length` numbers.
    unsafe { launch.run(shape) }
}

/// Adds `row` (h) to each row of `x` (b, h).
pub(super) fn add_row(gpu: &Gpu, row: View, mut x: ViewMut) -> Result<()> {
    let (h, length) = (row.len() as i64, x.len() as i64);
    let Some(shape) = fours(x.len())? else { return Ok(()) };
    let kernel = gpu.kernel(&SOURCE, "add_row", 0)?;
    let mut launch = kernel.launch(gpu);
    launch.arg(&row).arg(&h).arg(&mut x).arg(&length);
    // SAFETY: x holds `length` numbers and the row h, which is not 0, as x has whole rows and is not empty.
    unsafe { launch.run(shape) }
}

/// `out = scale x + shift` by columns: `x` and `out` (b, h), `scale` and `shift` (h).
pub(super) fn scale_columns(gpu: &Gpu, x: View, scale: View, shift: View, mut out: ViewMut) -> Result<()> {
    let (h, length) = (scale.len() as i64, out.len() as i64);
    let Some(shape) = fours(out.len())? else { return Ok(()) };
    let kernel = gpu.kernel(&SOURCE, "scale_columns", 0)?;
    let mut launch = kernel.launch(gpu);
    launch.arg(&x).arg(&scale).arg(&shift).arg(&h).arg(&mut out).arg(&length);
    // SAFETY: x and out hold `length` numbers, scale and shift h, which is not 0, as x has whole rows and is not empty.
    unsafe { launch.run(shape) }
}

/// `out = φ(x)`, of one length.
pub(super) fn activate(gpu: &Gpu, activation: Activation, x: View, mut out: ViewMut) -> Result<()> {
    let length = out.len() as i64;
    let Some(shape) = fours(out.len())? else { return Ok(()) };
    let (name, slope) = match activation {
        Activation::LeakyRelu(slope) => ("leaky_relu", Some(slope as f32)),
        Activation::Gelu => ("gelu", None),
    };
    let kernel = gpu.kernel(&SOURCE, name, 0)?;
    let mut launch = kernel.launch(gpu);
    if let Some(slope) = &slope {
        launch.arg(slope);
    }
    launch.arg(&x).arg(&mut out).arg(&length);
    // SAFETY: both views hold `length` numbers.
    unsafe { launch.run(shape) }
}

/// `delta = delta ∘ φ'(x)`, of one length.
pub(super) fn activate_backward(
    gpu: &Gpu,
    activation: Activation,
    x: View,
    mut delta: ViewMut,
) -> Result<()> {
    let length = delta.len() as i64;
    let Some(shape) = fours(delta.len())? else { return Ok(()) };
    let (name, slope) = match activation {
        Activation::LeakyRelu(slope) => ("leaky_relu_backward", Some(slope as f32)),
        Activation::Gelu => ("gelu_backward", None),
    };
    let kernel = gpu.kernel(&SOURCE, name, 0)?;
    let mut launch = kernel.launch(gpu);
    if let Some(slope) = &slope {
        launch.arg(slope);
    }
    launch.arg(&x).arg(&mut delta).arg(&length);
    // SAFETY: both views hold `length` numbers.
    unsafe { launch.run(shape) }
}
