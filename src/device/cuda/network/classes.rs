//! Launches of `kernels/classes.cu`.

use super::random::Words;
use super::{fours, View, ViewMut};
use crate::device::cuda::compile::Source;
use crate::device::cuda::genotypes::Held;
use crate::device::cuda::gpu::{Gpu, Memory, Shape};
use crate::device::network::{Accumulate, Draw, CLASSES};
use crate::error::Result;
use cudarc::driver::LaunchConfig;

const SOURCE: Source = Source { name: "classes.cu", text: include_str!("../../../../kernels/classes.cu") };

/// A grid with a thread for each SNP, or with a block for each row.
fn threads(count: usize) -> Result<LaunchConfig> {
    blocks(count.div_ceil(256))
}

fn blocks(count: usize) -> Result<LaunchConfig> {
    Shape { grid: [count, 1, 1], threads: 256, shared: 0 }.config()
}

/// `x = softmax((x + g)/temperature)` of each SNP's classes, in rows of `width`.
pub(super) fn softmax(
    gpu: &Gpu,
    temperature: f64,
    noise: Option<Draw>,
    width: usize,
    mut x: ViewMut,
) -> Result<()> {
    if x.is_empty() {
        return Ok(());
    }
    let (rows, snps) = (x.len() / width, width / CLASSES);
    let words = noise.map_or(Ok(Words::none(width)), |draw| Words::of(draw, rows))?;
    let (noisy, sharpness) = (i32::from(noise.is_some()), (1.0 / temperature) as f32);
    let shape = threads(rows * snps)?;
    let [rows, snps] = [rows, snps].map(|size| size as i64);
    let kernel = gpu.kernel(&SOURCE, "softmax", 0)?;
    let mut launch = kernel.launch(gpu);
    words.give(&mut launch);
    launch.arg(&rows).arg(&snps).arg(&noisy).arg(&sharpness).arg(&mut x);
    // SAFETY: x is (rows, 3 snps).
    unsafe { launch.run(shape) }
}

/// `delta = y ∘ (delta − Σ y∘delta)/temperature`, sums over each SNP's classes, of one length.
pub(super) fn softmax_backward(gpu: &Gpu, temperature: f64, y: View, mut delta: ViewMut) -> Result<()> {
    let snps = delta.len() / CLASSES;
    if snps == 0 {
        return Ok(());
    }
    let (sharpness, count) = ((1.0 / temperature) as f32, snps as i64);
    let kernel = gpu.kernel(&SOURCE, "softmax_backward", 0)?;
    let mut launch = kernel.launch(gpu);
    launch.arg(&sharpness).arg(&y).arg(&mut delta).arg(&count);
    // SAFETY: both views hold 3 x count numbers.
    unsafe { launch.run(threads(snps)?) }
}

/// What the classes that `logits` (b, 3m) tell cost: `out` is costs (b) and delta (b, 3m). The rows are there.
pub(super) fn cross_entropy(
    gpu: &Gpu,
    z: &Held,
    rows: &Memory<u32>,
    factor: f64,
    logits: View,
    (mut costs, mut delta): (ViewMut, ViewMut),
) -> Result<()> {
    let b = costs.len();
    if b == 0 {
        return Ok(());
    }
    let ([pitch, m], factor) = ([z.pitch(), z.m].map(|size| size as i64), factor as f32);
    let kernel = gpu.kernel(&SOURCE, "cross_entropy", 0)?;
    let mut launch = kernel.launch(gpu);
    launch.arg(&z.codes).arg(&pitch).arg(&m).arg(rows).arg(&factor).arg(&logits);
    launch.arg(&mut costs).arg(&mut delta);
    // SAFETY: the rows are rows of the codes, logits and delta (b, 3m), and there is a block for each of the b costs.
    unsafe { launch.run(blocks(b)?) }
}

/// `out (b)`: sums of squares of the rows of `x` (b, k).
pub(super) fn row_squares(gpu: &Gpu, x: View, mut out: ViewMut) -> Result<()> {
    let rows = out.len();
    if rows == 0 {
        return Ok(());
    }
    let k = (x.len() / rows) as i64;
    let kernel = gpu.kernel(&SOURCE, "row_squares", 0)?;
    let mut launch = kernel.launch(gpu);
    launch.arg(&x).arg(&k).arg(&mut out);
    // SAFETY: x is (rows, k), and there is a block a row.
    unsafe { launch.run(blocks(rows)?) }
}

/// `factors (b) = factor (√squares − 1)/√squares`, `sums (2) = Σ (√squares − 1)², Σ √squares`.
pub(super) fn gradient_penalty(
    gpu: &Gpu,
    factor: f64,
    squares: View,
    mut factors: ViewMut,
    mut sums: ViewMut,
) -> Result<()> {
    let rows = squares.len() as i64;
    let kernel = gpu.kernel(&SOURCE, "gradient_penalty", 0)?;
    let mut launch = kernel.launch(gpu);
    launch.arg(&factor).arg(&squares).arg(&rows).arg(&mut factors).arg(&mut sums);
    // SAFETY: squares and factors hold `rows` numbers, sums two.
    unsafe { launch.run(blocks(1)?) }
}

/// `out = factors ∘ x` by rows: `factors` (b), `x` and `out` (b, k).
pub(super) fn scale_rows(
    gpu: &Gpu,
    factors: View,
    x: View,
    accumulate: Accumulate,
    mut out: ViewMut,
) -> Result<()> {
    let Some(shape) = fours(out.len())? else { return Ok(()) };
    let (k, length) = ((x.len() / factors.len()) as i64, out.len() as i64);
    let accumulate = i32::from(accumulate == Accumulate::Add);
    let kernel = gpu.kernel(&SOURCE, "scale_rows", 0)?;
    let mut launch = kernel.launch(gpu);
    launch.arg(&factors).arg(&x).arg(&k).arg(&accumulate).arg(&mut out).arg(&length);
    // SAFETY: x and out hold `length` numbers in rows of k, which is not 0, as they are not empty, and there is a
    // factor a row.
    unsafe { launch.run(shape) }
}
