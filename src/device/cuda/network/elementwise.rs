//! Launches of `kernels/elementwise.cu`.

use super::{fours, View, ViewMut};
use crate::device::cuda::compile::Source;
use crate::device::cuda::gpu::{failed, Gpu};
use crate::device::network::Activation;
use crate::error::Result;
use cudarc::driver::PushKernelArg;

const SOURCE: Source =
    Source { name: "elementwise.cu", text: include_str!("../../../../kernels/elementwise.cu") };

/// Fills with one value.
pub(super) fn fill(gpu: &Gpu, value: f32, mut to: ViewMut) -> Result<()> {
    let length = to.len() as i64;
    let Some(shape) = fours(to.len())? else { return Ok(()) };
    let kernel = gpu.kernel(&SOURCE, "fill", 0)?;
    let mut launch = gpu.stream().launch_builder(&kernel);
    launch.arg(&value).arg(&mut to).arg(&length);
    // SAFETY: the arguments are those of the kernel in number and kind; it writes `length` numbers, the view's length.
    unsafe { launch.launch(shape) }.map_err(|e| failed("fill", e))?;
    Ok(())
}

/// `y = keep y + factor x`, of one length.
pub(super) fn blend(gpu: &Gpu, (keep, factor): (f32, f32), x: View, mut y: ViewMut) -> Result<()> {
    let length = y.len() as i64;
    let Some(shape) = fours(y.len())? else { return Ok(()) };
    let kernel = gpu.kernel(&SOURCE, "blend", 0)?;
    let mut launch = gpu.stream().launch_builder(&kernel);
    launch.arg(&keep).arg(&factor).arg(&x).arg(&mut y).arg(&length);
    // SAFETY: the arguments are those of the kernel in number and kind; both views hold `length` numbers.
    unsafe { launch.launch(shape) }.map_err(|e| failed("blend", e))?;
    Ok(())
}

/// Adds `row` (h) to each row of `x` (b, h).
pub(super) fn add_row(gpu: &Gpu, row: View, mut x: ViewMut) -> Result<()> {
    let (h, length) = (row.len() as i64, x.len() as i64);
    let Some(shape) = fours(x.len())? else { return Ok(()) };
    let kernel = gpu.kernel(&SOURCE, "add_row", 0)?;
    let mut launch = gpu.stream().launch_builder(&kernel);
    launch.arg(&row).arg(&h).arg(&mut x).arg(&length);
    // SAFETY: the arguments are those of the kernel in number and kind; x holds `length` numbers and the row h, which is
    // not 0, as x has whole rows and is not empty.
    unsafe { launch.launch(shape) }.map_err(|e| failed("add_row", e))?;
    Ok(())
}

/// `out = scale x + shift` by columns: `x` and `out` (b, h), `scale` and `shift` (h).
pub(super) fn scale_columns(gpu: &Gpu, x: View, scale: View, shift: View, mut out: ViewMut) -> Result<()> {
    let (h, length) = (scale.len() as i64, out.len() as i64);
    let Some(shape) = fours(out.len())? else { return Ok(()) };
    let kernel = gpu.kernel(&SOURCE, "scale_columns", 0)?;
    let mut launch = gpu.stream().launch_builder(&kernel);
    launch.arg(&x).arg(&scale).arg(&shift).arg(&h).arg(&mut out).arg(&length);
    // SAFETY: the arguments are those of the kernel in number and kind; x and out hold `length` numbers, scale and shift
    // h, which is not 0, as x has whole rows and is not empty.
    unsafe { launch.launch(shape) }.map_err(|e| failed("scale_columns", e))?;
    Ok(())
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
    let mut launch = gpu.stream().launch_builder(&kernel);
    if let Some(slope) = &slope {
        launch.arg(slope);
    }
    launch.arg(&x).arg(&mut out).arg(&length);
    // SAFETY: the arguments are those of the kernel in number and kind, a slope where it has one; both views hold
    // `length` numbers.
    unsafe { launch.launch(shape) }.map_err(|e| failed(name, e))?;
    Ok(())
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
    let mut launch = gpu.stream().launch_builder(&kernel);
    if let Some(slope) = &slope {
        launch.arg(slope);
    }
    launch.arg(&x).arg(&mut delta).arg(&length);
    // SAFETY: the arguments are those of the kernel in number and kind, a slope where it has one; both views hold
    // `length` numbers.
    unsafe { launch.launch(shape) }.map_err(|e| failed(name, e))?;
    Ok(())
}
