//! Matrices of bfloat16 parts and their products: launches of `kernels/parts.cu`.

use super::{product, View, ViewMut};
use crate::device::cuda::compile::Source;
use crate::device::cuda::gpu::{Gpu, Memory, Shape};
use crate::device::cuda::launch::Launch;
use crate::device::network::Accumulate;
use crate::error::{Error, Result};
use std::ops::Range;

const SOURCE: Source = Source { name: "parts.cu", text: include_str!("../../../../kernels/parts.cu") };

/// Rows and columns of a block's tile: matrices of parts have whole ones.
pub(super) const SIDE: usize = 128;
/// Stages in shared memory.
const BUFFERS: usize = 3;
/// A share of the terms has at least so many stages, or adding the shares up costs more than it gains.
const STAGES_EACH: usize = 8;
/// Numbers that matrices of parts may have which would be larger else: 256 MiB. In tests so few that there are several runs.
const MOST: usize = if cfg!(test) { 1 << 18 } else { 128 << 20 };

/// A matrix of so many parts for each number, 1 or 3, with zeros up to whole tiles.
pub(super) struct Parts {
    pub(super) memory: Memory<u16>,
    pub(super) count: usize,
    pub(super) lines: usize,
    pub(super) pitch: usize,
}

impl Parts {
    /// Room for one; nothing is written.
    pub(super) fn fresh(gpu: &Gpu, count: usize, rows: usize, columns: usize) -> Result<Parts> {
        let [lines, pitch] = [rows, columns].map(|size| size.max(1).next_multiple_of(SIDE));
        let numbers = count * lines * pitch;
        if numbers > i32::MAX as usize {
            let problem = format!("a matrix of {rows} x {columns} numbers at a time");
            return Err(Error::failed("device, cuda", problem, "use a smaller batch"));
        }
        Ok(Parts { memory: gpu.fresh(numbers)?, count, lines, pitch })
    }

    /// `count` parts of each of the numbers (rows, h), rows times `scale` where that is given.
    pub(super) fn of(gpu: &Gpu, count: usize, from: View, h: usize, scale: Option<View>) -> Result<Parts> {
        let rows = from.len() / h;
        let mut parts = Parts::fresh(gpu, count, rows, h)?;
        parts.turn(gpu, 0, (from, h, h), scale, true)?;
        Ok(parts)
    }

    /// Writes the first `columns` of numbers in rows of `width` into lines from `first` on; if `last`, all lines behind
    /// them too.
    pub(super) fn turn(
        &mut self,
        gpu: &Gpu,
        first: usize,
        (from, width, columns): (View, usize, usize),
        scale: Option<View>,
        last: bool,
    ) -> Result<()> {
        let rows = from.len().div_ceil(width);
        let lines = if last { self.lines - first } else { rows };
        if lines == 0 {
            return Ok(());
        }
        let kernel = gpu.kernel(&SOURCE, "turn", 0)?;
        let shape = Shape { grid: [(lines * self.pitch / 8).div_ceil(256), 1, 1], threads: 256, shared: 0 };
        let [width, rows, columns] = [width, rows, columns].map(|size| size as i64);
        let mut launch = kernel.launch(gpu);
        launch.arg(&from).arg(&width).arg(&rows).arg(&columns);
        give(&mut launch, scale.as_ref());
        let place = Place::of(self);
        let mut to = self.memory.slice_mut(first * self.pitch..);
        let lines = lines as i64;
        launch.arg(&place.count).arg(&mut to).arg(&lines).arg(&place.pitch).arg(&place.apart);
        // SAFETY: it reads `columns` numbers of each of `rows` rows and, where that is given, a scale a row, and writes
        // `lines` lines of each part, which has them.
        unsafe { launch.run(shape.config()?) }
    }
}

/// The sizes of a matrix of parts as kernels want them.
pub(super) struct Place {
    pub(super) count: i32,
    pub(super) lines: i64,
    pub(super) pitch: i32,
    pub(super) apart: i32,
}

impl Place {
    pub(super) fn of(parts: &Parts) -> Place {
        let [count, pitch, apart] =
            [parts.count, parts.pitch, parts.lines * parts.pitch].map(|size| size as i32);
        Place { count, lines: parts.lines as i64, pitch, apart }
    }
}

/// The next argument of a launch: numbers, or none.
fn give<'a>(launch: &mut Launch<'a>, numbers: Option<&'a View>) {
    match numbers {
        Some(numbers) => launch.arg(numbers),
        None => launch.none(),
    };
}

/// How many parts a number of the right operand has beside `left` on the left.
pub(super) fn right(single: bool) -> usize {
    if single {
        1
    } else {
        3
    }
}

/// Columns at a time, whole tiles, of a matrix of `lines` lines so that its parts are not too many.
pub(super) fn run(lines: usize, count: usize) -> usize {
    (MOST / (lines.next_multiple_of(SIDE) * count) / SIDE).max(1) * SIDE
}

/// `snps` in runs of at most `length`.
pub(super) fn runs(snps: Range<usize>, length: usize) -> impl Iterator<Item = Range<usize>> {
    snps.clone().step_by(length).map(move |first| first..(first + length).min(snps.end))
}

/// Terms of a stage, and bytes of a block's shared memory for the left and for the right operand in parts.
fn stage(left: usize, right: usize, across: bool) -> (usize, usize, usize) {
    let terms = if left == 1 { 32 } else { 16 };
    let (lines, width) = if across { (terms, SIDE) } else { (SIDE, terms) };
    (terms, BUFFERS * left * lines * (width + 8) * 2, right * terms * (SIDE + 8) * 2)
}

/// `out (b, h)` = or += X W, `x` (b, m), `w` (m, h) in as many parts as `single` says, its rows times `scale` where that
/// is given.
pub(super) fn times(
    gpu: &Gpu,
    (x, b): (&Parts, usize),
    (w, h): (View, usize),
    scale: Option<View>,
    single: bool,
    accumulate: Accumulate,
    mut out: ViewMut,
) -> Result<()> {
    let (terms, left, parts) = stage(x.count, right(single), false);
    // Where one tile of rows reads W, it is turned by the blocks that do (kernels/parts.cu says why).
    let raw = x.lines == SIDE && product::wide(gpu, &w, h);
    let shared = left + if raw { 2 * (terms * SIDE * 4 + parts) } else { BUFFERS * parts };
    let (tiles, stages) = (h.div_ceil(SIDE) * (x.lines / SIDE), x.pitch / terms);
    let shares = gpu.shares(tiles, stages.div_ceil(STAGES_EACH), shared);
    let each = stages.div_ceil(shares);
    let shares = stages.div_ceil(each);
    let plan = Times {
        b,
        h,
        each,
        shape: Shape { grid: [h.div_ceil(SIDE), x.lines / SIDE, shares], threads: 256, shared },
    };
    let turned = if raw {
        None
    } else {
        Some(Parts::of(gpu, right(single), w.slice(..), h, scale.as_ref().map(|s| s.slice(..)))?)
    };
    let to = |out: &mut ViewMut| match &turned {
        Some(w) => plan.of_parts(gpu, x, w, out),
        None => plan.raw(gpu, x, (&w, right(single)), scale.as_ref(), out),
    };
    if shares == 1 && accumulate == Accumulate::Overwrite {
        return to(&mut out);
    }
    let mut sums = gpu.fresh::<f32>(shares * b * h)?;
    to(&mut sums.as_view_mut())?;
    product::fold(gpu, &sums, shares, accumulate, out)
}

/// How `X W` is shared out.
struct Times {
    b: usize,
    h: usize,
    each: usize,
    shape: Shape,
}

impl Times {
    /// `out (shares, b, h)`, `w` in parts.
    fn of_parts(&self, gpu: &Gpu, x: &Parts, w: &Parts, out: &mut ViewMut) -> Result<()> {
        let name = format!("times_{}_{}", x.count, w.count);
        let kernel = gpu.kernel(&SOURCE, &name, self.shape.shared)?;
        let (of_x, of_w) = (Place::of(x), Place::of(w));
        let (b, h, each) = (self.b as i64, self.h as i64, self.each as i32);
        let mut launch = kernel.launch(gpu);
        launch.arg(&x.memory).arg(&of_x.pitch).arg(&of_x.apart).arg(&b);
        launch.arg(&w.memory).arg(&of_w.pitch).arg(&of_w.apart).arg(&h).arg(&each).arg(out);
        // SAFETY: both matrices have whole tiles, W a line for each of X's columns, and out is (shares, b, h).
        unsafe { launch.run(self.shape.config()?) }
    }

    /// The same, `w` (m, h) in single precision.
    fn raw(
        &self,
        gpu: &Gpu,
        x: &Parts,
        (w, parts): (&View, usize),
        scale: Option<&View>,
        out: &mut ViewMut,
    ) -> Result<()> {
        let name = format!("raw_times_{}_{parts}", x.count);
        let kernel = gpu.kernel(&SOURCE, &name, self.shape.shared)?;
        let of_x = Place::of(x);
        let [b, m, h] = [self.b, w.len() / self.h, self.h].map(|size| size as i64);
        let each = self.each as i32;
        let mut launch = kernel.launch(gpu);
        launch.arg(&x.memory).arg(&of_x.pitch).arg(&of_x.apart).arg(&b).arg(w).arg(&m).arg(&h);
        give(&mut launch, scale);
        launch.arg(&each).arg(out);
        // SAFETY: X has whole tiles, W lines that begin on borders of 16 bytes, `scale` m numbers where it is given,
        // and out is (shares, b, h).
        unsafe { launch.run(self.shape.config()?) }
    }
}

/// `out (rows, h)` = or += X'D, `x` (b, rows), `d` (b, h). With `affine` for these rows and the column sums (h) of D, X is
/// what it says of `x`.
pub(super) fn transposed_times(
    gpu: &Gpu,
    x: &Parts,
    (d, b): (&Parts, usize),
    h: usize,
    affine: Option<[View; 3]>,
    accumulate: Accumulate,
    out: &mut ViewMut,
) -> Result<()> {
    let (name, rows) = (format!("transposed_{}_{}", x.count, d.count), out.len() / h);
    let (_, left, right) = stage(x.count, d.count, true);
    let shared = left + BUFFERS * right;
    let shape = Shape { grid: [h.div_ceil(SIDE), rows.div_ceil(SIDE), 1], threads: 256, shared };
    let kernel = gpu.kernel(&SOURCE, &name, shared)?;
    let (of_x, of_d) = (Place::of(x), Place::of(d));
    let ([rows, b, h], accumulate) =
        ([rows, b, h].map(|size| size as i64), i32::from(accumulate == Accumulate::Add));
    let mut launch = kernel.launch(gpu);
    launch.arg(&x.memory).arg(&of_x.pitch).arg(&of_x.apart).arg(&rows);
    launch.arg(&d.memory).arg(&of_d.pitch).arg(&of_d.apart).arg(&b).arg(&h);
    (0..3).for_each(|which| give(&mut launch, affine.as_ref().map(|all| &all[which])));
    launch.arg(&accumulate).arg(out);
    // SAFETY: both matrices have whole tiles, D a line for each of X's, a scale and a shift for each row and a sum for
    // each column are there or not asked for, and out is (rows, h).
    unsafe { launch.run(shape.config()?) }
}
