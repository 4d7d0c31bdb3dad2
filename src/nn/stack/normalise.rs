//! Batch and layer normalisation of a chain.

use super::backward::learned;
use super::pass::Normalised;
use super::plan::Stage;
use super::{part, upto, Pass, Stack};
use crate::comm::reduce::Buckets;
use crate::device::network::{Accumulate, Values};
use crate::error::Result;
use crate::nn::batch::{Batch, Mode};
use crate::nn::running::EPSILON;
use crate::nn::{Normalisation, Ranks};
use std::ops::Range;

impl Stack {
    /// y = γ∘x̂ + β at node `at`.
    pub(super) fn normalise(
        &mut self,
        ranks: &Ranks,
        at: usize,
        (batch, mode): (&Batch, Mode),
        pass: &mut Pass,
    ) -> Result<()> {
        let node = self.drawn.nodes[at].clone();
        let Stage::Normalise { kind, shift, scale, running } = node.stage else { return Ok(()) };
        let (device, rows) = (self.device.clone(), batch.rows());
        let whole = upto(rows, node.width);
        let [from, to] = [node.from, at].map(|node| self.drawn.values.of[node]);
        let (before, rest) = pass.values.split_at_mut(to);
        let (read, y) = (&mut before[from], &mut rest[0]);
        let buffers = pass.normalised[at].as_mut().expect("a node with normalisation");
        let Normalised { own, mean, inverse_sd, totals } = buffers;
        if let Some(own) = own {
            device.copy(read.part(whole.clone()), own.part_mut(whole.clone()))?;
        }
        let x = own.as_mut().unwrap_or(read);
        match (kind, mode) {
            (Normalisation::Layer, _) => {
                let inverse_sd = inverse_sd.part_mut(0..rows);
                device.normalise_rows(EPSILON, x.part_mut(whole.clone()), inverse_sd)?;
            }
            (_, Mode::Predict) => self.running.give(&*device, running, mean.whole_mut(), inverse_sd)?,
            (_, Mode::Train { .. }) => {
                self.batch_moments(ranks, running, (batch, x), (mean, inverse_sd, totals))?;
            }
        }
        if kind != Normalisation::Layer {
            device.normalise_columns(mean.whole(), inverse_sd.whole(), x.part_mut(whole.clone()))?;
        }
        let x = x.part(whole.clone());
        device.scale_columns(x, self.of(&scale), self.of(&shift), y.part_mut(whole))
    }

    /// Mean and 1/sd over the whole batch, on the device; the running ones follow.
    fn batch_moments(
        &mut self,
        ranks: &Ranks,
        running: usize,
        (batch, x): (&Batch, &Values),
        (mean, inverse_sd, totals): (&mut Values, &mut Values, &mut [Values]),
    ) -> Result<()> {
        let (h, device, count) = (mean.len(), self.device.clone(), batch.count.max(1) as f64);
        for (piece, total) in batch.pieces.iter().zip(&mut *totals) {
            device.column_sums(x.part(part(&piece.rows, h)), Accumulate::Overwrite, total.whole_mut())?;
        }
        ranks.data.sum(totals, 0..h)?;
        device.copy(totals[0].whole(), mean.whole_mut())?;
        device.divide(count, mean.whole_mut())?;
        for (piece, total) in batch.pieces.iter().zip(&mut *totals) {
            device.column_squares(x.part(part(&piece.rows, h)), mean.whole(), total.whole_mut())?;
        }
        ranks.data.sum(totals, 0..h)?;
        self.running.follow(&*device, running, count, mean.whole(), totals[0].whole())?;
        device.copy(totals[0].whole(), inverse_sd.whole_mut())?;
        device.inverse_sd(count, EPSILON, inverse_sd.whole_mut())
    }

    /// The slope by x; ∂γ and ∂β of the rows `learn`. Under batch normalisation every row counts for every slope, so that
    /// all of them learn.
    pub(super) fn normalise_backward(
        &self,
        sums: &mut dyn Buckets,
        at: usize,
        (batch, learn, seen): (&Batch, &Option<Range<usize>>, &mut [bool]),
        pass: &mut Pass,
    ) -> Result<()> {
        let node = &self.drawn.nodes[at];
        let Stage::Normalise { kind, shift, scale, .. } = &node.stage else { return Ok(()) };
        let (h, device, rows) = (node.width, &*self.device, batch.rows());
        let batched = *kind == Normalisation::Batch;
        let all = Some(0..rows);
        let Pass { values, slopes, normalised, gradients, .. } = pass;
        let Normalised { own, inverse_sd, .. } = normalised[at].as_ref().expect("a node with normalisation");
        let x = own.as_ref().unwrap_or(&values[self.drawn.values.of[node.from]]);
        for (number, rows) in learned(batch, if batched { &all } else { learn }) {
            let (slope, x) = (slopes.by(at).part(part(&rows, h)), x.part(part(&rows, h)));
            let gradient = &mut gradients[number];
            device.column_sums(slope.clone(), Accumulate::Overwrite, gradient.part_mut(shift.clone()))?;
            device.column_products(slope, x, Accumulate::Overwrite, gradient.part_mut(scale.clone()))?;
        }
        if batched {
            // The gradients of shift and scale are the very sums that the slope needs.
            sums.sum(gradients, shift.start..scale.end)?;
        }
        let (whole, length) = (x.part(upto(rows, h)), rows * h);
        slopes.through(device, (at, node.from), length, seen, |slope| {
            let to = slope.part_mut(0..length);
            if !batched {
                return device.normalise_rows_backward(whole, self.of(scale), inverse_sd.part(0..rows), to);
            }
            let (of_shift, of_scale) = (gradients[0].part(shift.clone()), gradients[0].part(scale.clone()));
            let count = batch.count.max(1) as f64;
            let (scale, inverse_sd) = (self.of(scale), inverse_sd.whole());
            device.normalise_columns_backward(whole, scale, inverse_sd, of_shift, of_scale, count, to)
        })
    }
}
