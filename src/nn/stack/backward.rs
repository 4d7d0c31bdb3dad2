//! The backward pass of a chain: slopes, and gradients that leave for their sum over the ranks while the layers before are
//! computed.

use super::plan::Stage;
use super::{part, snps_of, Pass, Stack};
use crate::comm::layout::CHUNK;
use crate::comm::reduce::{Buckets, Reduce};
use crate::device::network::{Accumulate, Product, Values};
use crate::error::Result;
use crate::nn::batch::{Batch, Mode};
use crate::nn::{Normalisation, Ranks};
use std::ops::Range;

impl Stack {
    /// From the slope by the output in [`Pass::slope_mut`] to that by the input in [`Pass::input_slope`], after
    /// [`Stack::forward`] of the same batch. The rows `learn` give the gradient in [`Pass::gradient`], which is this
    /// rank's alone until [`Stack::sum_gradient`]; without any it stays as it is. Collective over the data ranks where
    /// there is batch normalisation.
    pub fn backward(
        &self,
        ranks: &Ranks,
        batch: &Batch,
        mode: Mode,
        learn: Option<Range<usize>>,
        pass: &mut Pass,
    ) -> Result<()> {
        self.backward_beside(&mut Later(&ranks.data), (batch, mode), (learn, usize::MAX), pass)
    }

    /// As [`Stack::backward`] of all rows, but the gradient becomes that of all data ranks: buckets of it leave for their
    /// sum as soon as they are complete, while the layers before are computed. Collective.
    pub fn learn(&self, ranks: &Ranks, batch: &Batch, mode: Mode, pass: &mut Pass) -> Result<()> {
        let (grain, all) = (ranks.data.grain(), Some(0..batch.rows()));
        ranks.data.overlapped(|sums| {
            self.backward_beside(sums, (batch, mode), (all, grain), pass)?;
            sums.end(&mut pass.gradients)
        })
    }

    /// The backward pass, whose gradient leaves in buckets, those of SNPs of about `grain` numbers.
    fn backward_beside(
        &self,
        sums: &mut dyn Buckets,
        (batch, mode): (&Batch, Mode),
        (learn, grain): (Option<Range<usize>>, usize),
        pass: &mut Pass,
    ) -> Result<()> {
        let (mut seen, mut ready) = (vec![false; self.drawn.nodes.len()], 0..0);
        for at in (1..self.drawn.nodes.len()).rev() {
            let (from, width) = (self.drawn.nodes[at].from, self.drawn.nodes[at].width);
            let (length, device) = (batch.rows() * width, &*self.device);
            match &self.drawn.nodes[at].stage {
                Stage::Input => {}
                Stage::Linear { snps, weight, of_conditions, bias } => {
                    // What is complete leaves after the small sums that the layer behind has waited for.
                    sums.begin(&mut pass.gradients, ready)?;
                    ready = hull([snps, weight, of_conditions, bias]);
                    for (number, rows) in learned(batch, &learn) {
                        self.learn_linear(at, (number, &rows), pass)?;
                    }
                    if self.reads_snps(at) && learn.is_some() {
                        ready.start = self.learn_snps(at, sums, (batch, grain), pass)?;
                    }
                    self.linear_backward(at, batch, &mut seen, pass)?;
                }
                Stage::Activate(activation) => {
                    let x = pass.values[self.drawn.values.of[from]].part(0..length);
                    pass.slopes.through(device, (at, from), length, &mut seen, |slope| {
                        device.activate_backward(*activation, x, slope.part_mut(0..length))
                    })?;
                }
                Stage::Dropout { share, layer } => {
                    pass.slopes.through(device, (at, from), length, &mut seen, |slope| {
                        self.drop_out((*layer, width, *share), (batch, mode), slope)
                    })?;
                }
                Stage::Add { kept } => {
                    for to in [from, *kept] {
                        pass.slopes.through(device, (at, to), length, &mut seen, |_| Ok(()))?;
                    }
                }
                Stage::Normalise { kind, shift, scale, .. } => {
                    self.normalise_backward(sums, at, (batch, &learn, &mut seen), pass)?;
                    if *kind == Normalisation::Layer {
                        ready = hull([&(shift.start..scale.end), &ready]);
                    }
                }
            }
        }
        sums.begin(&mut pass.gradients, ready)
    }

    /// The slope by x: D W'.
    fn linear_backward(&self, at: usize, batch: &Batch, seen: &mut [bool], pass: &mut Pass) -> Result<()> {
        let Stage::Linear { weight, .. } = &self.drawn.nodes[at].stage else { return Ok(()) };
        let (from, k, h) = (self.drawn.nodes[at].from, self.read_by(at), self.drawn.nodes[at].width);
        if weight.is_empty() {
            let none = |_: &mut Values| Ok(());
            return match self.reads_snps(at) {
                true => Ok(()),
                false => pass.slopes.through(&*self.device, (at, from), batch.rows() * h, seen, none),
            };
        }
        let (slope, to) = pass.slopes.by_and_before(at, from);
        if to.is_empty() {
            return Ok(());
        }
        let onto = onto(seen, from);
        for piece in &batch.pieces {
            let shape = Product { m: piece.rows.len(), n: k, k: h, a_transposed: false, b_transposed: true };
            let slope = slope.part(part(&piece.rows, h));
            self.device.product(shape, slope, self.of(weight), onto, to.part_mut(part(&piece.rows, k)))?;
        }
        Ok(())
    }

    /// ∂W = x'D, ∂V = c'D, ∂b = Σ D over some rows, in the gradient of a piece.
    fn learn_linear(&self, at: usize, (number, rows): (usize, &Range<usize>), pass: &mut Pass) -> Result<()> {
        let node = &self.drawn.nodes[at];
        let Stage::Linear { weight, of_conditions, bias, .. } = &node.stage else { return Ok(()) };
        let slope = pass.slopes.by(at).part(part(rows, node.width));
        let gradient = &mut pass.gradients[number];
        let read = [
            (&pass.values[self.drawn.values.of[node.from]], self.read_by(at), weight),
            (&pass.conditions, self.plan.conditions, of_conditions),
        ];
        for (x, k, weight) in read.into_iter().filter(|r| !r.2.is_empty()) {
            let shape =
                Product { m: k, n: node.width, k: rows.len(), a_transposed: true, b_transposed: false };
            let to = gradient.part_mut(weight.clone());
            self.device.product(shape, x.part(part(rows, k)), slope.clone(), Accumulate::Overwrite, to)?;
        }
        if !bias.is_empty() {
            self.device.column_sums(slope, Accumulate::Overwrite, gradient.part_mut(bias.clone()))?;
        }
        Ok(())
    }

    /// ∂U = z'D in buckets of about `grain` numbers, which leave but for the last one; where that one begins.
    fn learn_snps(
        &self,
        at: usize,
        sums: &mut dyn Buckets,
        (batch, grain): (&Batch, usize),
        pass: &mut Pass,
    ) -> Result<usize> {
        let Stage::Linear { snps, .. } = &self.drawn.nodes[at].stage else { return Ok(0) };
        let h = self.drawn.nodes[at].width;
        let m = snps.len() / h;
        let some = (grain / h / CHUNK).clamp(1, m.div_ceil(CHUNK).max(1)) * CHUNK;
        let mut ready = snps.start..snps.start;
        for first in (0..m).step_by(some) {
            sums.begin(&mut pass.gradients, ready)?;
            let own = first..(first + some).min(m);
            ready = snps.start + own.start * h..snps.start + own.end * h;
            for (piece, gradient) in batch.pieces.iter().zip(&mut pass.gradients) {
                let (z, animals) = snps_of(batch, piece);
                let slope = pass.slopes.by(at).part(part(&piece.rows, h));
                let (onto, to) = (Accumulate::Overwrite, gradient.part_mut(ready.clone()));
                self.device.gather_transposed_times(z, animals, slope, h, own.clone(), onto, to)?;
            }
        }
        Ok(ready.start)
    }

    /// Makes the gradient that of all data ranks. Collective.
    pub fn sum_gradient(&self, ranks: &Ranks, pass: &mut Pass) -> Result<()> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for part in &self.drawn.parts {
            // Those of batch normalisations were summed when they were needed.
            if self.drawn.is_summed_early(&part.range) {
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.end == part.range.start => run.end = part.range.end,
                _ => runs.push(part.range.clone()),
            }
        }
        runs.into_iter().try_for_each(|run| ranks.data.sum(&mut pass.gradients, run))
    }
}

/// Sums at once, and whatever else leaves later.
struct Later<'a>(&'a Reduce);

impl Buckets for Later<'_> {
    fn begin(&mut self, _: &mut [Values], _: Range<usize>) -> Result<()> {
        Ok(())
    }

    fn sum(&mut self, pieces: &mut [Values], bucket: Range<usize>) -> Result<()> {
        self.0.sum(pieces, bucket)
    }

    fn end(&mut self, _: &mut [Values]) -> Result<()> {
        Ok(())
    }
}

/// The rows of each piece that are learned from; no piece where none are.
pub(super) fn learned(batch: &Batch, learn: &Option<Range<usize>>) -> Vec<(usize, Range<usize>)> {
    let Some(learn) = learn else { return Vec::new() };
    let own = |rows: &Range<usize>| {
        let start = rows.start.max(learn.start);
        start..rows.end.min(learn.end).max(start)
    };
    batch.pieces.iter().map(|piece| own(&piece.rows)).enumerate().collect()
}

/// The range of some ranges that follow one another; the empty ones do not count.
fn hull<'a>(parts: impl IntoIterator<Item = &'a Range<usize>>) -> Range<usize> {
    let some = parts.into_iter().filter(|part| !part.is_empty());
    some.cloned().reduce(|a, b| a.start..b.end).unwrap_or(0..0)
}

/// Whether what comes to a node is the first that comes there.
fn onto(seen: &mut [bool], node: usize) -> Accumulate {
    match std::mem::replace(&mut seen[node], true) {
        true => Accumulate::Add,
        false => Accumulate::Overwrite,
    }
}
