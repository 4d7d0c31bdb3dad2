//! Launches of `kernels/normalise.cu`.

use super::{fours, View, ViewMut};
use crate::device::cuda::compile::Source;
use crate::device::cuda::gpu::{Gpu, Shape};
use crate::error::Result;

const SOURCE: Source =
    Source { name: "normalise.cu", text: include_str!("../../../../kernels/normalise.cu") };

/// Threads that make a row.
const ROW_THREADS: usize = 128;

/// `x = x / count`.
pub(super) fn divide(gpu: &Gpu, count: f64, mut x: ViewMut) -> Result<()> {
    let length = x.len() as i64;
    let Some(shape) = fours(x.len())? else { return Ok(()) };
    let kernel = gpu.kernel(&SOURCE, "divide", 0)?;
    let mut launch = kernel.launch(gpu);
    launch.arg(&count).arg(&mut x).arg(&length);
    // SAFETY: x holds `length` numbers.
    unsafe { launch.run(shape) }
}

/// `x = 1/√(x / count + epsilon)`.
pub(super) fn inverse_sd(gpu: &Gpu, count: f64, epsilon: f64, mut x: ViewMut) -> Result<()> {
    let length = x.len() as i64;
    let Some(shape) = fours(x.len())? else { return Ok(()) };
    let kernel = gpu.kernel(&SOURCE, "inverse_sd", 0)?;
    let mut launch = kernel.launch(gpu);
    launch.arg(&count).arg(&epsilon).arg(&mut x).arg(&length);
    // SAFETY: x holds `length` numbers.
    unsafe { launch.run(shape) }
}

/// `x = (x − mean)/sd` by columns: `x` (b, h), the rest (h).
pub(super) fn columns(gpu: &Gpu, mean: View, inverse_sd: View, mut x: ViewMut) -> Result<()> {
    let (h, length) = (mean.len() as i64, x.len() as i64);
    let Some(shape) = fours(x.len())? else { return Ok(()) };
    let kernel = gpu.kernel(&SOURCE, "normalise_columns", 0)?;
    let mut launch = kernel.launch(gpu);
    launch.arg(&mean).arg(&inverse_sd).arg(&h).arg(&mut x).arg(&length);
    // SAFETY: x holds `length` numbers, the others h, which is not 0, as x has whole rows and is not empty.
    unsafe { launch.run(shape) }
}

/// Backward: `normalised` and `delta` (b, h); `of_column` is scale, 1/sd, sums and products, each (h).
pub(super) fn columns_backward(
    gpu: &Gpu,
    normalised: View,
    of_column: [View; 4],
    count: f64,
    mut delta: ViewMut,
) -> Result<()> {
    let (h, length, inverse) = (of_column[0].len() as i64, delta.len() as i64, (1.0 / count) as f32);
    let Some(shape) = fours(delta.len())? else { return Ok(()) };
    let kernel = gpu.kernel(&SOURCE, "normalise_columns_backward", 0)?;
    let mut launch = kernel.launch(gpu);
    launch.arg(&normalised);
    of_column.iter().for_each(|view| {
        launch.arg(view);
    });
    launch.arg(&inverse).arg(&h).arg(&mut delta).arg(&length);
    // SAFETY: normalised and delta hold `length` numbers, the four others h, which is not 0, as delta has whole rows
    // and is not empty.
    unsafe { launch.run(shape) }
}

/// `x = (x − mean)/sd` by rows: `x` (b, h), `inverse_sd` (b).
pub(super) fn rows(gpu: &Gpu, epsilon: f64, mut x: ViewMut, mut inverse_sd: ViewMut) -> Result<()> {
    let rows = inverse_sd.len();
    if rows == 0 {
        return Ok(());
    }
    let h = (x.len() / rows) as i64;
    let kernel = gpu.kernel(&SOURCE, "normalise_rows", 0)?;
    let shape = Shape { grid: [rows, 1, 1], threads: ROW_THREADS, shared: 0 }.config()?;
    let mut launch = kernel.launch(gpu);
    launch.arg(&epsilon).arg(&h).arg(&mut x).arg(&mut inverse_sd);
    // SAFETY: x is (rows, h), inverse_sd (rows), and there is a block a row.
    unsafe { launch.run(shape) }
}

/// Backward: `normalised` and `delta` (b, h), `scale` (h), `inverse_sd` (b).
pub(super) fn rows_backward(
    gpu: &Gpu,
    normalised: View,
    scale: View,
    inverse_sd: View,
    mut delta: ViewMut,
) -> Result<()> {
    let (rows, h) = (inverse_sd.len(), scale.len() as i64);
    if delta.is_empty() {
        return Ok(());
    }
    let kernel = gpu.kernel(&SOURCE, "normalise_rows_backward", 0)?;
    let shape = Shape { grid: [rows, 1, 1], threads: ROW_THREADS, shared: 0 }.config()?;
    let mut launch = kernel.launch(gpu);
    launch.arg(&normalised).arg(&scale).arg(&inverse_sd).arg(&h).arg(&mut delta);
    // SAFETY: normalised and delta are (rows, h), scale (h), inverse_sd (rows), and there is a block a row.
    unsafe { launch.run(shape) }
}
