//! Launches of `kernels/contrasts.cu`.

use super::random::Words;
use super::{View, ViewMut};
use crate::device::cuda::compile::Source;
use crate::device::cuda::gpu::{Gpu, Shape};
use crate::device::network::{Draw, CLASSES, CONTRASTS};
use crate::error::Result;
use cudarc::driver::LaunchConfig;

const SOURCE: Source =
    Source { name: "contrasts.cu", text: include_str!("../../../../kernels/contrasts.cu") };

/// A grid with so many threads.
fn threads(count: usize) -> Result<LaunchConfig> {
    Shape { grid: [count.div_ceil(256), 1, 1], threads: 256, shared: 0 }.config()
}

/// Contrasts (2m, h) of the rows of `w` (3m, h); lengths are checked before, here and below.
pub(super) fn contrasts(gpu: &Gpu, h: usize, w: View, mut out: ViewMut) -> Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let shape = threads(out.len() / CONTRASTS)?;
    let [m, h] = [out.len() / CONTRASTS / h, h].map(|size| size as i64);
    let kernel = gpu.kernel(&SOURCE, "contrasts", 0)?;
    let mut launch = kernel.launch(gpu);
    launch.arg(&w).arg(&m).arg(&h).arg(&mut out);
    // SAFETY: w is (3m, h) and out (2m, h).
    unsafe { launch.run(shape) }
}

/// All classes (rows, 3m) of animals of which two are known, (rows, 2m).
pub(super) fn complete(gpu: &Gpu, y: View, snps: usize, mut x: ViewMut) -> Result<()> {
    if y.is_empty() {
        return Ok(());
    }
    let rows = y.len() / (CONTRASTS * snps);
    let shape = threads(rows * snps)?;
    let [rows, m] = [rows, snps].map(|size| size as i64);
    let kernel = gpu.kernel(&SOURCE, "complete", 0)?;
    let mut launch = kernel.launch(gpu);
    launch.arg(&y).arg(&rows).arg(&m).arg(&mut x);
    // SAFETY: y is (rows, 2m) and x (rows, 3m).
    unsafe { launch.run(shape) }
}

/// Contrasts of logits become classes 1 and 2, in rows of 2 `snps`.
pub(super) fn softmax(
    gpu: &Gpu,
    temperature: f64,
    noise: Option<Draw>,
    snps: usize,
    mut x: ViewMut,
) -> Result<()> {
    if x.is_empty() {
        return Ok(());
    }
    let rows = x.len() / (CONTRASTS * snps);
    let words = noise.map_or(Ok(Words::none(CLASSES * snps)), |draw| Words::of(draw, rows))?;
    let (noisy, sharpness) = (i32::from(noise.is_some()), (1.0 / temperature) as f32);
    let shape = threads(rows * snps)?;
    let [rows, m] = [rows, snps].map(|size| size as i64);
    let kernel = gpu.kernel(&SOURCE, "softmax_contrasts", 0)?;
    let mut launch = kernel.launch(gpu);
    words.give(&mut launch);
    launch.arg(&rows).arg(&m).arg(&noisy).arg(&sharpness).arg(&mut x);
    // SAFETY: x is (rows, 2m).
    unsafe { launch.run(shape) }
}

/// Backward through it: `y` (rows, 2m), `delta` (rows, 3m).
pub(super) fn softmax_backward(
    gpu: &Gpu,
    temperature: f64,
    y: View,
    snps: usize,
    mut delta: ViewMut,
) -> Result<()> {
    if y.is_empty() {
        return Ok(());
    }
    let (rows, sharpness) = (y.len() / (CONTRASTS * snps), (1.0 / temperature) as f32);
    let shape = threads(rows * snps)?;
    let [rows, m] = [rows, snps].map(|size| size as i64);
    let kernel = gpu.kernel(&SOURCE, "softmax_contrasts_backward", 0)?;
    let mut launch = kernel.launch(gpu);
    launch.arg(&sharpness).arg(&y).arg(&rows).arg(&m).arg(&mut delta);
    // SAFETY: y is (rows, 2m), delta (rows, 3m).
    unsafe { launch.run(shape) }
}
