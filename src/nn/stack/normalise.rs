//! Batch and layer normalisation of a chain.

use super::backward::learned;
use super::plan::Stage;
use super::{part, upto, Pass, Stack};
use crate::comm::reduce::Buckets;
use crate::device::network::Accumulate;
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
        let x = pass.values[node.from].part(whole.clone());
        device.copy(x, pass.normalised[at].part_mut(whole.clone()))?;
        if kind == Normalisation::Layer {
            let inverse_sd = pass.moments[at][1].part_mut(0..rows);
            device.normalise_rows(EPSILON, pass.normalised[at].part_mut(whole.clone()), inverse_sd)?;
        } else {
            match mode {
                Mode::Predict => {
                    let [mean, inverse_sd] = &mut pass.moments[at];
                    self.running.give(&*device, running, mean.whole_mut(), inverse_sd)?;
                }
                Mode::Train { .. } => self.batch_moments(ranks, (at, running), batch, pass)?,
            }
            let [mean, inverse_sd] = &pass.moments[at];
            let x = pass.normalised[at].part_mut(whole.clone());
            device.normalise_columns(mean.whole(), inverse_sd.whole(), x)?;
        }
        let (x, y) = (pass.normalised[at].part(whole.clone()), pass.values[at].part_mut(whole));
        device.scale_columns(x, self.of(&scale), self.of(&shift), y)
    }

    /// Mean and 1/sd over the whole batch, on the device; the running ones follow.
    fn batch_moments(
        &mut self,
        ranks: &Ranks,
        (at, running): (usize, usize),
        batch: &Batch,
        pass: &mut Pass,
    ) -> Result<()> {
        let (h, device, count) = (self.drawn.nodes[at].width, self.device.clone(), batch.count.max(1) as f64);
        let Pass { normalised, moments, totals, .. } = pass;
        let (x, [mean, inverse_sd], totals) = (&normalised[at], &mut moments[at], &mut totals[at]);
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
        let Pass { slopes, normalised, moments, gradients, .. } = pass;
        let x = &normalised[at];
        for (number, rows) in learned(batch, if batched { &all } else { learn }) {
            let (slope, x) = (slopes.values[at].part(part(&rows, h)), x.part(part(&rows, h)));
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
            let (to, inverse_sd) = (slope.part_mut(0..length), &moments[at][1]);
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
