//! Launches of `kernels/gather.cu`.

use super::{View, ViewMut};
use crate::device::cuda::card::{failed, Card, Memory, Shape};
use crate::device::cuda::compile::Source;
use crate::device::cuda::genotypes::Held;
use crate::device::network::Onto;
use crate::error::Result;
use cudarc::driver::{CudaFunction, PushKernelArg};
use std::ops::Range;

const SOURCE: Source = Source { name: "gather.cu", text: include_str!("../../../../kernels/gather.cu") };

/// Rows and columns of a block's tile.
const SIDE: usize = 128;
/// Terms that are staged in shared memory at a time.
const STAGE: usize = 64;
/// A share of the SNPs has at least so many stages, or adding the shares up costs more than it gains.
const STAGES_EACH: usize = 8;
/// Tiles of SNPs in one launch: a grid has no more rows of blocks.
const MOST_TILES: usize = 65_535;

/// How a kernel splits numbers into bfloat16, and the shared memory that it takes for it.
fn kernel(card: &Card, name: &str, single: bool) -> Result<(CudaFunction, usize)> {
    let raw = STAGE * (SIDE + 4) * 4 + SIDE * STAGE / 4 + STAGE * 16;
    let turned = SIDE * (STAGE / 2 + 4) * 4;
    let (name, parts) = if single { (format!("{name}_bf16"), 2) } else { (name.into(), 2 + 3) };
    let shared = 2 * raw + parts * turned;
    Ok((card.kernel(&SOURCE, &name, shared)?, shared))
}

/// `out (b, h) = Z[rows] W`, the rows being there; lengths are checked before. With `single`, numbers are rounded to
/// bfloat16 before they are multiplied.
pub(super) fn times(
    card: &Card,
    z: &Held,
    (rows, b): (&Memory<u32>, usize),
    w: View,
    h: usize,
    single: bool,
    mut out: ViewMut,
) -> Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let (down, right, stages) = (b.div_ceil(SIDE), h.div_ceil(SIDE), z.m.div_ceil(STAGE));
    let each = stages.div_ceil(card.shares(down * right, stages.div_ceil(STAGES_EACH))).max(1);
    let shares = stages.div_ceil(each).max(1);
    if shares == 1 {
        return times_shares(card, z, (rows, b), w, h, single, each, &mut out);
    }
    let mut parts = card.fresh::<f32>(shares * b * h)?;
    times_shares(card, z, (rows, b), w, h, single, each, &mut parts.as_view_mut())?;
    add_shares(card, &parts, shares, out)
}

/// `out`: the sum of `shares` parts of its length, in order.
pub(super) fn add_shares(card: &Card, parts: &Memory<f32>, shares: usize, mut out: ViewMut) -> Result<()> {
    let adding = card.kernel(&SOURCE, "add_shares", 0)?;
    let shape = Shape { grid: [out.len().div_ceil(256), 1, 1], threads: 256, shared: 0 };
    let (count, length) = (shares as i32, out.len() as i64);
    let mut launch = card.stream().launch_builder(&adding);
    launch.arg(parts).arg(&count).arg(&length).arg(&mut out);
    // SAFETY: the arguments are those of the kernel; it reads count x length parts and writes `length` numbers, which
    // is what they hold.
    unsafe { launch.launch(shape.config()?) }.map_err(|e| failed("add_shares", e))?;
    Ok(())
}

/// `out (shares, b, h)`: Z[rows] W over each share of `each` stages of SNPs.
#[allow(clippy::too_many_arguments)] // those of the kernel
fn times_shares(
    card: &Card,
    z: &Held,
    (rows, b): (&Memory<u32>, usize),
    w: View,
    h: usize,
    single: bool,
    each: usize,
    out: &mut ViewMut,
) -> Result<()> {
    let (kernel, shared) = kernel(card, "gather_times", single)?;
    let shares = z.m.div_ceil(STAGE).div_ceil(each).max(1);
    let shape = Shape { grid: [h.div_ceil(SIDE), b.div_ceil(SIDE), shares], threads: 256, shared };
    let ([pitch, m, b, h], each) = ([z.pitch(), z.m, b, h].map(|size| size as i64), each as i32);
    let mut launch = card.stream().launch_builder(&kernel);
    launch
        .arg(&z.codes)
        .arg(&pitch)
        .arg(&z.values)
        .arg(&m)
        .arg(rows)
        .arg(&b)
        .arg(&w)
        .arg(&h)
        .arg(&each)
        .arg(out);
    // SAFETY: the arguments are those of the kernel in number and kind; the b rows are rows of the codes, the table has
    // whole chunks, w is (m, h) and out (shares, b, h).
    unsafe { launch.launch(shape.config()?) }.map_err(|e| failed("gather_times", e))?;
    Ok(())
}

/// `out (snps, h) = Z[rows, snps]' D`, the rows being there; lengths are checked before. `single` as for [`times`].
#[allow(clippy::too_many_arguments)] // those of the operation
pub(super) fn transposed_times(
    card: &Card,
    z: &Held,
    (rows, b): (&Memory<u32>, usize),
    d: View,
    h: usize,
    snps: Range<usize>,
    onto: Onto,
    single: bool,
    mut out: ViewMut,
) -> Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let (kernel, shared) = kernel(card, "gather_transposed", single)?;
    for first in snps.clone().step_by(MOST_TILES * SIDE) {
        let end = snps.end.min(first + MOST_TILES * SIDE);
        let shape = Shape { grid: [h.div_ceil(SIDE), (end - first).div_ceil(SIDE), 1], threads: 256, shared };
        let mut part = out.slice_mut((first - snps.start) * h..(end - snps.start) * h);
        let [pitch, first, end, b, h] = [z.pitch(), first, end, b, h].map(|size| size as i64);
        let onto = i32::from(onto == Onto::Sum);
        let mut launch = card.stream().launch_builder(&kernel);
        launch.arg(&z.codes).arg(&pitch).arg(&z.values).arg(&first).arg(&end).arg(rows).arg(&b);
        launch.arg(&d).arg(&h).arg(&onto).arg(&mut part);
        // SAFETY: the arguments are those of the kernel in number and kind; the b rows are rows of the codes, which have
        // the SNPs up to `end`, the table has whole chunks, d is (b, h) and out (end - first, h).
        unsafe { launch.launch(shape.config()?) }.map_err(|e| failed("gather_transposed", e))?;
    }
    Ok(())
}
