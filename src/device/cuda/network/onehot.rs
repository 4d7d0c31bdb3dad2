//! One-hot genotypes on a card: sizes are checked here. Launches of `kernels/onehot.cu`; the rest is in [`classes`].

use super::super::Cuda;
use super::{changed, chosen, classes, contrasts, gather, product, seen, View, ViewMut};
use crate::device::cuda::card::{failed, Card, Memory, Shape};
use crate::device::cuda::compile::Source;
use crate::device::cuda::genotypes::Held;
use crate::device::cuda::network::random::Words;
use crate::device::network::CLASSES;
use crate::device::network::{check_contrasts, check_cross_entropy, check_gradient_penalty};
use crate::device::network::{check_onehot, check_onehot_transposed};
use crate::device::network::{check_rows, check_softmax, check_softmax_backward};
use crate::device::network::{check_softmax_contrasts, check_softmax_contrasts_backward};
use crate::device::network::{Animals, Draw, OneHot, Onto, Product, Rows, Slice, SliceMut, Smooth};
use crate::device::{check, Genotypes};
use crate::error::Result;
use cudarc::driver::PushKernelArg;

const SOURCE: Source = Source { name: "onehot.cu", text: include_str!("../../../../kernels/onehot.cu") };

/// Rows and columns of a tile of `X W`, and columns of one of `[X; Y]' D`.
const SIDE: usize = 128;
/// SNPs of a stage of `X W`.
const OF_WORD: usize = 16;
/// A share of the SNPs has at least so many stages, or adding the shares up costs more than it gains.
const STAGES_EACH: usize = 8;
/// SNPs of a tile of `[X; Y]' D`, and animals of a stage.
const SNPS: usize = 32;
const LONG: usize = 32;
/// Tiles of SNPs in one launch: a grid has no more rows of blocks.
const MOST_TILES: usize = 65_535;

/// Bytes of a block's shared memory: two stages of `raw` bytes as they come, and pairs of `terms` in parts, `rows` rows
/// in all.
fn shared(raw: usize, terms: usize, rows: usize) -> usize {
    2 * raw + rows * (terms / 2 + 4) * 4
}

/// The noise as kernels want it: words of nothing where there is none.
fn noise(smooth: Option<&Smooth>, rows: usize, width: usize) -> Result<(Words, f32)> {
    match smooth {
        Some(smooth) => Ok((Words::of(smooth.draw, rows)?, smooth.amount as f32)),
        None => Ok((Words::none(width), 0.0)),
    }
}

/// What a batch is made of: the genotypes, the rows that are there, how many, and the noise.
struct Batch<'a> {
    z: &'a Held,
    rows: &'a Memory<u32>,
    b: usize,
    smooth: Option<&'a Smooth>,
}

impl<'a> Batch<'a> {
    /// The real ones of some animals.
    fn of(animals: &Animals<'a>) -> Result<Batch<'a>> {
        let Animals { z, rows, smooth, .. } = *animals;
        Ok(Batch { z: z.memory()?, rows: chosen(z, rows)?, b: rows.len(), smooth })
    }
}

/// `out (b, h) = X W`; lengths are checked before. With `single`, numbers are rounded to bfloat16.
fn times(card: &Card, batch: &Batch, w: View, h: usize, single: bool, mut out: ViewMut) -> Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let stages = batch.z.m.div_ceil(OF_WORD);
    let blocks = batch.b.div_ceil(SIDE) * h.div_ceil(SIDE);
    let each = stages.div_ceil(card.shares(blocks, stages.div_ceil(STAGES_EACH))).max(1);
    let shares = stages.div_ceil(each).max(1);
    if shares == 1 {
        return times_shares(card, batch, &w, h, single, each, &mut out);
    }
    let mut parts = card.fresh::<f32>(shares * batch.b * h)?;
    times_shares(card, batch, &w, h, single, each, &mut parts.as_view_mut())?;
    gather::add_shares(card, &parts, shares, out)
}

/// `out (shares, b, h)`: X W over each share of `each` stages of SNPs.
fn times_shares(
    card: &Card,
    batch: &Batch,
    w: &View,
    h: usize,
    single: bool,
    each: usize,
    out: &mut ViewMut,
) -> Result<()> {
    let z = batch.z;
    let (name, parts) = match (batch.smooth, single) {
        (None, false) => ("onehot_times", 1 + 3),
        (None, true) => ("onehot_times_bf16", 1 + 1),
        (Some(_), false) => ("smooth_times", 3 + 3),
        (Some(_), true) => ("smooth_times_bf16", 1 + 1),
    };
    let terms = CLASSES * OF_WORD;
    let shared = shared(terms * (SIDE + 4) * 4 + SIDE * 4, terms, parts * SIDE);
    let shares = z.m.div_ceil(OF_WORD).div_ceil(each).max(1);
    let shape = Shape { grid: [h.div_ceil(SIDE), batch.b.div_ceil(SIDE), shares], threads: 256, shared };
    let ([pitch, m, b, h], each) = ([z.pitch(), z.m, batch.b, h].map(|size| size as i64), each as i32);
    let (words, amount) = noise(batch.smooth, batch.b, CLASSES * z.m)?;
    let kernel = card.kernel(&SOURCE, name, shared)?;
    let mut launch = card.stream().launch_builder(&kernel);
    launch.arg(&z.codes).arg(&pitch).arg(&m).arg(batch.rows).arg(&b);
    words.give(&mut launch);
    launch.arg(&amount).arg(w).arg(&h).arg(&each).arg(out);
    // SAFETY: the arguments are those of the kernel in number and kind; the b rows are rows of the codes, which have whole
    // chunks, w is (3m, h) and out (shares, b, h).
    unsafe { launch.launch(shape.config()?) }.map_err(|e| failed(name, e))?;
    Ok(())
}

/// `out (3m, h) = [X; Y]' D`, Y (k, 3m); lengths are checked before. `single` as for [`times`].
#[allow(clippy::too_many_arguments)] // those of the operation
fn transposed_times(
    card: &Card,
    batch: &Batch,
    dense: Option<View>,
    d: View,
    h: usize,
    onto: Onto,
    single: bool,
    mut out: ViewMut,
) -> Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let (z, width) = (batch.z, CLASSES * batch.z.m);
    let (name, parts) = if single { ("onehot_transposed_bf16", 1) } else { ("onehot_transposed", 3) };
    let raw = LONG * ((SIDE + 4) * 4 + (CLASSES * SNPS + 4) * 4 + SNPS / 4);
    let shared = shared(raw, LONG, parts * (CLASSES * SNPS + SIDE));
    let k = dense.as_ref().map_or(0, View::len) / width;
    // Where there is no Y nothing of it is read.
    let dense = dense.as_ref().unwrap_or(&d);
    let (noisy, onto) = (i32::from(batch.smooth.is_some()), i32::from(onto == Onto::Sum));
    let (words, amount) = noise(batch.smooth, batch.b, width)?;
    let kernel = card.kernel(&SOURCE, name, shared)?;
    let tiles = z.m.div_ceil(SNPS);
    for first in (0..tiles).step_by(MOST_TILES) {
        let shape =
            Shape { grid: [h.div_ceil(SIDE), MOST_TILES.min(tiles - first), 1], threads: 256, shared };
        let [pitch, m, b, k, h, first] = [z.pitch(), z.m, batch.b, k, h, first].map(|size| size as i64);
        let mut launch = card.stream().launch_builder(&kernel);
        launch.arg(&z.codes).arg(&pitch).arg(&m).arg(batch.rows).arg(&b);
        words.give(&mut launch);
        launch.arg(&amount).arg(&noisy).arg(dense).arg(&k).arg(&d).arg(&h);
        launch.arg(&first).arg(&onto).arg(&mut out);
        // SAFETY: the arguments are those of the kernel in number and kind; the b rows are rows of the codes, which have
        // whole chunks, Y is (k, 3m), d (b + k, h) and out (3m, h).
        unsafe { launch.launch(shape.config()?) }.map_err(|e| failed(name, e))?;
    }
    Ok(())
}

impl OneHot for Cuda {
    fn onehot_times(&self, animals: &Animals, w: Slice, h: usize, out: SliceMut) -> Result<()> {
        check_onehot(animals, h, &w, &out)?;
        let (batch, SliceMut { values, range }) = (Batch::of(animals)?, out);
        let border = range.start + batch.b * h;
        let real = SliceMut { values: &mut *values, range: range.start..border };
        times(&self.card, &batch, seen(&w)?, h, self.single, changed(real)?)?;
        let Some(made) = &animals.made else { return Ok(()) };
        let (m, n, k) = (animals.len() - batch.b, h, CLASSES * animals.z.columns());
        let mut x = self.card.fresh::<f32>(m * k)?;
        contrasts::complete(&self.card, seen(made)?, animals.z.columns(), x.slice_mut(0..m * k))?;
        let shape = Product { m, n, k, a_transposed: false, b_transposed: false };
        let out = SliceMut { values, range: border..range.end };
        product::product(&self.card, shape, x.slice(0..m * k), seen(&w)?, Onto::Fresh, changed(out)?)
    }

    fn onehot_transposed_times(
        &self,
        animals: &Animals,
        dense: Option<Slice>,
        d: Slice,
        h: usize,
        onto: Onto,
        out: SliceMut,
    ) -> Result<()> {
        check_onehot_transposed(animals, dense.as_ref(), h, &d, &out)?;
        let (batch, card) = (Batch::of(animals)?, &self.card);
        let dense = dense.as_ref().map(seen).transpose()?;
        let (d, out, m) = (seen(&d)?, changed(out)?, animals.z.columns());
        let Some(made) = &animals.made else {
            return transposed_times(card, &batch, dense, d, h, onto, self.single, out);
        };
        // The kernel reads one matrix: generated animals with all their classes, then Y.
        let (first, more) = ((animals.len() - batch.b) * CLASSES * m, dense.as_ref().map_or(0, View::len));
        let mut stacked = card.fresh::<f32>(first + more)?;
        contrasts::complete(card, seen(made)?, m, stacked.slice_mut(0..first))?;
        if let Some(dense) = dense.filter(|dense| !dense.is_empty()) {
            let copied = card.stream().memcpy_dtod(&dense, &mut stacked.slice_mut(first..first + more));
            copied.map_err(|e| failed("copy on the card", e))?;
        }
        let stacked = Some(stacked.slice(0..first + more));
        transposed_times(card, &batch, stacked, d, h, onto, self.single, out)
    }

    fn softmax(&self, temperature: f64, noise: Option<Draw>, width: usize, x: SliceMut) -> Result<()> {
        check_softmax(width, &x)?;
        classes::softmax(&self.card, temperature, noise, width, changed(x)?)
    }

    fn softmax_backward(&self, temperature: f64, y: Slice, delta: SliceMut) -> Result<()> {
        check_softmax_backward(&y, &delta)?;
        classes::softmax_backward(&self.card, temperature, seen(&y)?, changed(delta)?)
    }

    fn contrasts(&self, h: usize, w: Slice, out: SliceMut) -> Result<()> {
        check_contrasts(h, &w, &out)?;
        contrasts::contrasts(&self.card, h, seen(&w)?, changed(out)?)
    }

    fn softmax_contrasts(
        &self,
        temperature: f64,
        noise: Option<Draw>,
        snps: usize,
        x: SliceMut,
    ) -> Result<()> {
        check_softmax_contrasts(snps, x.len())?;
        contrasts::softmax(&self.card, temperature, noise, snps, changed(x)?)
    }

    fn softmax_contrasts_backward(
        &self,
        temperature: f64,
        y: Slice,
        snps: usize,
        delta: SliceMut,
    ) -> Result<()> {
        check_softmax_contrasts_backward(snps, &y, &delta)?;
        contrasts::softmax_backward(&self.card, temperature, seen(&y)?, snps, changed(delta)?)
    }

    fn cross_entropy(
        &self,
        z: &Genotypes,
        rows: &Rows,
        factor: f64,
        logits: Slice,
        costs: SliceMut,
        delta: SliceMut,
    ) -> Result<()> {
        check_cross_entropy(z, rows, &logits, &costs, &delta)?;
        let (rows, out) = (chosen(z, rows)?, (changed(costs)?, changed(delta)?));
        classes::cross_entropy(&self.card, z.memory()?, rows, factor, seen(&logits)?, out)
    }

    fn row_squares(&self, x: Slice, out: SliceMut) -> Result<()> {
        check_rows("row_squares", out.len(), x.len())?;
        classes::row_squares(&self.card, seen(&x)?, changed(out)?)
    }

    fn gradient_penalty(&self, factor: f64, squares: Slice, factors: SliceMut, sums: SliceMut) -> Result<()> {
        check_gradient_penalty(&squares, &factors, &sums)?;
        classes::gradient_penalty(&self.card, factor, seen(&squares)?, changed(factors)?, changed(sums)?)
    }

    fn scale_rows(&self, factors: Slice, x: Slice, onto: Onto, out: SliceMut) -> Result<()> {
        check_rows("scale_rows", factors.len(), x.len())?;
        check("scale_rows", "out", x.len(), out.len())?;
        classes::scale_rows(&self.card, seen(&factors)?, seen(&x)?, onto, changed(out)?)
    }
}
