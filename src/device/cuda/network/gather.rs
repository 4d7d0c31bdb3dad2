//! Products with chosen animals' genotypes: a run of SNPs at a time is written as parts (`kernels/gather.cu`), which
//! [`parts`] multiplies.

use super::parts::{self, Parts, Place};
use super::{columns, elementwise, View, ViewMut};
use crate::device::cuda::compile::Source;
use crate::device::cuda::genotypes::Held;
use crate::device::cuda::gpu::{Gpu, Memory, Shape};
use crate::device::network::Accumulate;
use crate::error::Result;
use std::ops::Range;

const SOURCE: Source = Source { name: "gather.cu", text: include_str!("../../../../kernels/gather.cu") };

/// Animals and SNPs of a thread of `decode`.
const ANIMALS: usize = 16;
const SNPS: usize = 8;

/// Genotypes need one part where they are short numbers, scaled, or where they are rounded to bfloat16.
fn count(z: &Held, single: bool) -> usize {
    if single || z.values.affine.is_some() {
        1
    } else {
        3
    }
}

/// What the table says of a run of SNPs, (b, SNPs).
fn decode(
    gpu: &Gpu,
    z: &Held,
    (rows, b): (&Memory<u32>, usize),
    snps: &Range<usize>,
    count: usize,
) -> Result<Parts> {
    let mut x = Parts::fresh(gpu, count, b, snps.len())?;
    let grid = [x.pitch.div_ceil(SNPS * 256), x.lines.div_ceil(ANIMALS), 1];
    let kernel = gpu.kernel(&SOURCE, "decode", 0)?;
    let place = Place::of(&x);
    let [pitch, first, b] = [z.pitch(), snps.start, b].map(|size| size as i64);
    let mut launch = kernel.launch(gpu);
    launch.arg(&z.codes).arg(&pitch).arg(&z.values.table).arg(&first).arg(rows).arg(&b);
    launch.arg(&place.count).arg(&mut x.memory).arg(&place.lines).arg(&place.pitch).arg(&place.apart);
    let config = Shape { grid, threads: 256, shared: 0 }.config()?;
    // SAFETY: the b rows are rows of the codes, and codes and table have whole chunks of SNPs, which hold whole tiles
    // from the run's beginning on, a tile's border.
    unsafe { launch.run(config) }?;
    Ok(x)
}

/// `out (b, h) = Z[rows] W`, the rows being there; lengths are checked before. With `single`, numbers are rounded to
/// bfloat16 before they are multiplied.
pub(super) fn times(
    gpu: &Gpu,
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
    if z.m == 0 {
        return elementwise::fill(gpu, 0.0, out);
    }
    let count = count(z, single);
    for snps in parts::runs(0..z.m, parts::run(b, count).min(parts::run(h, 3))) {
        let x = decode(gpu, z, (rows, b), &snps, count)?;
        let w = w.slice(snps.start * h..snps.end * h);
        let scale = z.values.affine.as_ref().map(|(scale, _)| scale.slice(snps.clone()));
        let accumulate = if snps.start == 0 { Accumulate::Overwrite } else { Accumulate::Add };
        parts::times(gpu, (&x, b), (w, h), scale, single, accumulate, out.slice_mut(..))?;
    }
    let Some((_, shift)) = &z.values.affine else { return Ok(()) };
    let mut row = gpu.fresh::<f32>(h)?;
    columns::weighted_sums(gpu, &w, &shift.slice(0..z.m), row.slice_mut(0..h))?;
    elementwise::add_row(gpu, row.slice(0..h), out)
}

/// `out (snps, h) = Z[rows, snps]' D`, the rows being there; lengths are checked before. `single` as for [`times`].
#[allow(clippy::too_many_arguments)] // those of the operation
pub(super) fn transposed_times(
    gpu: &Gpu,
    z: &Held,
    (rows, b): (&Memory<u32>, usize),
    d: View,
    h: usize,
    snps: Range<usize>,
    accumulate: Accumulate,
    single: bool,
    mut out: ViewMut,
) -> Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let (count, start) = (count(z, single), snps.start);
    let turned = Parts::of(gpu, parts::right(single), d.slice(..), h, None)?;
    let mut sums = gpu.fresh::<f32>(h)?;
    if z.values.affine.is_some() {
        columns::sums(gpu, d, Accumulate::Overwrite, sums.slice_mut(0..h))?;
    }
    for snps in parts::runs(snps, parts::run(b, count)) {
        let x = decode(gpu, z, (rows, b), &snps, count)?;
        let affine =
            z.values.affine.as_ref().map(|(scale, shift)| {
                [scale.slice(snps.clone()), shift.slice(snps.clone()), sums.slice(0..h)]
            });
        let mut out = out.slice_mut((snps.start - start) * h..(snps.end - start) * h);
        parts::transposed_times(gpu, &x, (&turned, b), h, affine, accumulate, &mut out)?;
    }
    Ok(())
}
