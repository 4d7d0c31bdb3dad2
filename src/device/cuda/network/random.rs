//! Launches of `kernels/random.cu`.

use super::ViewMut;
use crate::device::cuda::compile::Source;
use crate::device::cuda::gpu::{Gpu, Shape};
use crate::device::cuda::launch::{Kernel, Launch};
use crate::device::network::Draw;
use crate::error::{Error, Result};
use cudarc::driver::LaunchConfig;

const SOURCE: Source = Source { name: "random.cu", text: include_str!("../../../../kernels/random.cu") };

/// Which words a part of a matrix takes, as the kernels want it.
pub(super) struct Words {
    seed: u64,
    purpose: u32,
    index: u64,
    first: i64,
    columns: i64,
}

impl Words {
    /// Of that many rows.
    pub(super) fn of(draw: Draw, rows: usize) -> Result<Words> {
        let first = draw.first_row * draw.columns + draw.first_column;
        // A stream has 2^32 blocks of four words, and a normal takes two.
        if first + rows as u64 * draw.columns > 1 << 33 {
            let problem = "a matrix of more than 2^33 random numbers";
            return Err(Error::failed("device, random", problem, "use a smaller batch"));
        }
        Ok(Words {
            seed: draw.seed,
            purpose: draw.purpose as u32,
            index: draw.index,
            first: first as i64,
            columns: draw.columns as i64,
        })
    }

    /// Some, which nobody reads, in rows of `width`.
    pub(super) fn none(width: usize) -> Words {
        Words { seed: 0, purpose: 0, index: 0, first: 0, columns: width as i64 }
    }

    /// The next arguments of a launch.
    pub(super) fn give<'a>(&'a self, launch: &mut Launch<'a>) {
        launch.arg(&self.seed).arg(&self.purpose).arg(&self.index).arg(&self.first).arg(&self.columns);
    }
}

/// A part of a matrix and its words.
struct Part {
    words: Words,
    rows: i64,
    width: i64,
}

impl Part {
    /// `length` numbers in rows of `width`, which is not 0.
    fn of(draw: Draw, width: usize, length: usize) -> Result<Part> {
        let rows = length / width;
        Ok(Part { words: Words::of(draw, rows)?, rows: rows as i64, width: width as i64 })
    }

    /// A thread for each block of words, which serve `each` entries, that a row touches.
    fn shape(&self, each: i64) -> Result<LaunchConfig> {
        let threads = self.rows * ((self.width + each - 1) / each + 1);
        Shape { grid: [(threads as usize).div_ceil(256), 1, 1], threads: 256, shared: 0 }.config()
    }

    /// A launch with the arguments that all kernels begin with.
    fn launch<'a>(&'a self, gpu: &'a Gpu, kernel: &'a Kernel) -> Launch<'a> {
        let mut launch = kernel.launch(gpu);
        self.words.give(&mut launch);
        launch.arg(&self.rows).arg(&self.width);
        launch
    }
}

/// Uniform numbers in rows of `width`.
pub(super) fn uniforms(gpu: &Gpu, draw: Draw, width: usize, mut out: ViewMut) -> Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let part = Part::of(draw, width, out.len())?;
    let kernel = gpu.kernel(&SOURCE, "uniforms", 0)?;
    let mut launch = part.launch(gpu, &kernel);
    launch.arg(&mut out);
    // SAFETY: it writes rows x width numbers, the view's length.
    unsafe { launch.run(part.shape(4)?) }
}

/// Standard normal deviates in rows of `width`.
pub(super) fn normals(gpu: &Gpu, draw: Draw, width: usize, mut out: ViewMut) -> Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let part = Part::of(draw, width, out.len())?;
    let kernel = gpu.kernel(&SOURCE, "normals", 0)?;
    let mut launch = part.launch(gpu, &kernel);
    launch.arg(&mut out);
    // SAFETY: it writes rows x width numbers, the view's length.
    unsafe { launch.run(part.shape(2)?) }
}

/// `x` (b, width): entries whose uniform is below `rate` become 0, the others grow by 1/(1 − rate).
pub(super) fn dropout(gpu: &Gpu, rate: f64, draw: Draw, width: usize, mut x: ViewMut) -> Result<()> {
    if x.is_empty() {
        return Ok(());
    }
    let part = Part::of(draw, width, x.len())?;
    // (bits + ½)·2⁻²³ < rate exactly when bits < rate·2²³ − ½.
    let limit = (rate * f64::from(1u32 << 23) - 0.5).ceil().max(0.0) as u32;
    let factor = (1.0 / (1.0 - rate)) as f32;
    let kernel = gpu.kernel(&SOURCE, "dropout", 0)?;
    let mut launch = part.launch(gpu, &kernel);
    launch.arg(&limit).arg(&factor).arg(&mut x);
    // SAFETY: x holds rows x width numbers.
    unsafe { launch.run(part.shape(4)?) }
}
