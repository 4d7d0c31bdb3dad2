//! One-hot genotypes on a GPU: sizes are checked here. A run of SNPs at a time, classes and their noise are written as parts
//! (`kernels/onehot.cu`), which [`parts`] multiplies; the rest is in [`classes`].

use super::super::Cuda;
use super::parts::{self, Parts, Place};
use super::{changed, chosen, classes, contrasts, elementwise, seen, View, ViewMut};
use crate::device::cuda::compile::Source;
use crate::device::cuda::genotypes::Held;
use crate::device::cuda::gpu::{Gpu, Memory, Shape};
use crate::device::cuda::network::random::Words;
use crate::device::network::{check_contrasts, check_cross_entropy, check_gradient_penalty};
use crate::device::network::{check_onehot, check_onehot_transposed};
use crate::device::network::{check_rows, check_softmax, check_softmax_backward};
use crate::device::network::{check_softmax_contrasts, check_softmax_contrasts_backward};
use crate::device::network::{Accumulate, Animals, Draw, OneHot, Rows, Slice, SliceMut, Smooth};
use crate::device::network::{CLASSES, CONTRASTS};
use crate::device::{check, Genotypes};
use crate::error::Result;
use std::ops::Range;

const SOURCE: Source = Source { name: "onehot.cu", text: include_str!("../../../../kernels/onehot.cu") };

/// SNPs of a thread of `onehot`.
const SNPS: usize = 8;

/// What a batch is made of: real animals, then generated ones with all their classes, then rows that are given.
struct Batch<'a> {
    z: &'a Held,
    /// Of real animals, how many, and noise on them.
    rows: &'a Memory<u32>,
    real: usize,
    smooth: Option<&'a Smooth>,
    /// (rows, 3m) each.
    given: Vec<View<'a>>,
    b: usize,
}

impl<'a> Batch<'a> {
    fn of(animals: &Animals<'a>, completed: Option<View<'a>>, dense: Option<View<'a>>) -> Result<Batch<'a>> {
        let (Animals { z, rows, smooth, .. }, real) = (animals, animals.rows.len());
        let given: Vec<View> = completed.into_iter().chain(dense).filter(|rows| !rows.is_empty()).collect();
        let width = CLASSES * z.columns();
        let b = real + given.iter().map(|rows| rows.len() / width).sum::<usize>();
        Ok(Batch { z: z.memory()?, rows: chosen(z, rows)?, real, smooth: *smooth, given, b })
    }

    /// Parts of each of its numbers: classes without noise are short.
    fn count(&self, single: bool) -> usize {
        if single || (self.smooth.is_none() && self.given.is_empty()) {
            1
        } else {
            3
        }
    }

    /// A run of SNPs, which begins where a tile may, (b, 3 SNPs).
    fn matrix(&self, gpu: &Gpu, snps: &Range<usize>, count: usize) -> Result<Parts> {
        let columns = CLASSES * snps.len();
        let mut x = Parts::fresh(gpu, count, self.b, columns)?;
        self.onehot(gpu, snps, &mut x)?;
        let (mut line, width) = (self.real, CLASSES * self.z.m);
        for (at, rows) in self.given.iter().enumerate() {
            let from = rows.slice(CLASSES * snps.start..);
            x.turn(gpu, line, (from, width, columns), None, at + 1 == self.given.len())?;
            line += rows.len() / width;
        }
        Ok(x)
    }

    /// The real animals; lines behind them too if nothing else is to come.
    fn onehot(&self, gpu: &Gpu, snps: &Range<usize>, x: &mut Parts) -> Result<()> {
        let place = Place::of(x);
        let lines = if self.given.is_empty() { x.lines } else { self.real };
        if lines == 0 {
            return Ok(());
        }
        let threads = lines * x.pitch.div_ceil(CLASSES * SNPS);
        let shape = Shape { grid: [threads.div_ceil(256), 1, 1], threads: 256, shared: 0 };
        let (words, amount) = match self.smooth {
            Some(smooth) => (Words::of(smooth.draw, self.real)?, smooth.amount as f32),
            None => (Words::none(CLASSES * self.z.m), 0.0),
        };
        let noisy = i32::from(self.smooth.is_some());
        let [pitch, first, b, lines] = [self.z.pitch(), snps.start, self.real, lines].map(|size| size as i64);
        let kernel = gpu.kernel(&SOURCE, "onehot", 0)?;
        let mut launch = kernel.launch(gpu);
        launch.arg(&self.z.codes).arg(&pitch).arg(&first).arg(self.rows).arg(&b);
        words.give(&mut launch);
        launch.arg(&amount).arg(&noisy).arg(&place.count).arg(&mut x.memory);
        launch.arg(&lines).arg(&place.pitch).arg(&place.apart);
        // SAFETY: the b rows are rows of the codes, which have whole chunks of SNPs with missing calls behind the last
        // one, and X has the lines.
        unsafe { launch.run(shape.config()?) }
    }

    /// Runs of SNPs whose matrix is not too large.
    fn runs(&self, most: usize) -> impl Iterator<Item = Range<usize>> {
        parts::runs(0..self.z.m, (most / CLASSES / parts::SIDE).max(1) * parts::SIDE)
    }

    /// `out (b, h) = X W`; lengths are checked before. With `single`, numbers are rounded to bfloat16.
    fn times(&self, gpu: &Gpu, w: View, h: usize, single: bool, mut out: ViewMut) -> Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        if self.z.m == 0 {
            return elementwise::fill(gpu, 0.0, out);
        }
        let count = self.count(single);
        for snps in self.runs(parts::run(self.b, count).min(parts::run(h, 3))) {
            let x = self.matrix(gpu, &snps, count)?;
            let w = w.slice(CLASSES * snps.start * h..CLASSES * snps.end * h);
            let accumulate = if snps.start == 0 { Accumulate::Overwrite } else { Accumulate::Add };
            parts::times(gpu, (&x, self.b), (w, h), None, single, accumulate, out.slice_mut(..))?;
        }
        Ok(())
    }

    /// `out (3m, h) = X'D`; lengths are checked before. `single` as for [`Batch::times`].
    fn transposed_times(
        &self,
        gpu: &Gpu,
        d: View,
        h: usize,
        accumulate: Accumulate,
        single: bool,
        mut out: ViewMut,
    ) -> Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        let (count, d) = (self.count(single), Parts::of(gpu, parts::right(single), d, h, None)?);
        for snps in self.runs(parts::run(self.b, count)) {
            let x = self.matrix(gpu, &snps, count)?;
            let mut out = out.slice_mut(CLASSES * snps.start * h..CLASSES * snps.end * h);
            parts::transposed_times(gpu, &x, (&d, self.b), h, None, accumulate, &mut out)?;
        }
        Ok(())
    }
}

/// All three classes of generated animals, (rows, 3m), where there are some.
fn completed(gpu: &Gpu, animals: &Animals) -> Result<Option<Memory<f32>>> {
    let Some(made) = animals.made.as_ref().filter(|made| !made.is_empty()) else { return Ok(None) };
    let length = made.len() / CONTRASTS * CLASSES;
    let mut all = gpu.fresh(length)?;
    contrasts::complete(gpu, seen(made)?, animals.z.columns(), all.slice_mut(0..length))?;
    Ok(Some(all))
}

impl OneHot for Cuda {
    fn onehot_times(&self, animals: &Animals, w: Slice, h: usize, out: SliceMut) -> Result<()> {
        check_onehot(animals, h, &w, &out)?;
        let made = completed(&self.gpu, animals)?;
        let batch = Batch::of(animals, made.as_ref().map(|made| made.slice(..)), None)?;
        batch.times(&self.gpu, seen(&w)?, h, self.single, changed(out)?)
    }

    fn onehot_transposed_times(
        &self,
        animals: &Animals,
        dense: Option<Slice>,
        d: Slice,
        h: usize,
        accumulate: Accumulate,
        out: SliceMut,
    ) -> Result<()> {
        check_onehot_transposed(animals, dense.as_ref(), h, &d, &out)?;
        let made = completed(&self.gpu, animals)?;
        let dense = dense.as_ref().map(seen).transpose()?;
        let batch = Batch::of(animals, made.as_ref().map(|made| made.slice(..)), dense)?;
        batch.transposed_times(&self.gpu, seen(&d)?, h, accumulate, self.single, changed(out)?)
    }

    fn softmax(&self, temperature: f64, noise: Option<Draw>, width: usize, x: SliceMut) -> Result<()> {
        check_softmax(width, &x)?;
        classes::softmax(&self.gpu, temperature, noise, width, changed(x)?)
    }

    fn softmax_backward(&self, temperature: f64, y: Slice, delta: SliceMut) -> Result<()> {
        check_softmax_backward(&y, &delta)?;
        classes::softmax_backward(&self.gpu, temperature, seen(&y)?, changed(delta)?)
    }

    fn contrasts(&self, h: usize, w: Slice, out: SliceMut) -> Result<()> {
        check_contrasts(h, &w, &out)?;
        contrasts::contrasts(&self.gpu, h, seen(&w)?, changed(out)?)
    }

    fn softmax_contrasts(
        &self,
        temperature: f64,
        noise: Option<Draw>,
        snps: usize,
        x: SliceMut,
    ) -> Result<()> {
        check_softmax_contrasts(snps, x.len())?;
        contrasts::softmax(&self.gpu, temperature, noise, snps, changed(x)?)
    }

    fn softmax_contrasts_backward(
        &self,
        temperature: f64,
        y: Slice,
        snps: usize,
        delta: SliceMut,
    ) -> Result<()> {
        check_softmax_contrasts_backward(snps, &y, &delta)?;
        contrasts::softmax_backward(&self.gpu, temperature, seen(&y)?, snps, changed(delta)?)
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
        classes::cross_entropy(&self.gpu, z.memory()?, rows, factor, seen(&logits)?, out)
    }

    fn row_squares(&self, x: Slice, out: SliceMut) -> Result<()> {
        check_rows("row_squares", out.len(), x.len())?;
        classes::row_squares(&self.gpu, seen(&x)?, changed(out)?)
    }

    fn gradient_penalty(&self, factor: f64, squares: Slice, factors: SliceMut, sums: SliceMut) -> Result<()> {
        check_gradient_penalty(&squares, &factors, &sums)?;
        classes::gradient_penalty(&self.gpu, factor, seen(&squares)?, changed(factors)?, changed(sums)?)
    }

    fn scale_rows(&self, factors: Slice, x: Slice, accumulate: Accumulate, out: SliceMut) -> Result<()> {
        check_rows("scale_rows", factors.len(), x.len())?;
        check("scale_rows", "out", x.len(), out.len())?;
        classes::scale_rows(&self.gpu, seen(&factors)?, seen(&x)?, accumulate, changed(out)?)
    }
}
