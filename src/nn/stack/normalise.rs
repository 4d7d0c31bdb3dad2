//! Batch and layer normalisation of a chain.

use super::plan::Stage;
use super::{upto, Mode, Pass, Stack};
use crate::device::network::Accumulate;
use crate::error::Result;
use crate::nn::running::EPSILON;
use crate::nn::{Normalisation, Ranks};
use std::ops::Range;

impl Stack {
    /// y = γ∘x̂ + β at node `at`.
    pub(super) fn normalise(
        &mut self,
        ranks: &Ranks,
        (at, rows): (usize, usize),
        mode: Mode,
        pass: &mut Pass,
    ) -> Result<()> {
        let node = self.drawn.nodes[at].clone();
        let Stage::Normalise { kind, shift, scale, running } = node.stage else { return Ok(()) };
        let (device, whole) = (self.device.clone(), upto(rows, node.width));
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
                Mode::Train { count } => self.batch_moments(ranks, (at, rows), (running, count), pass)?,
            }
            let [mean, inverse_sd] = &pass.moments[at];
            let x = pass.normalised[at].part_mut(whole.clone());
            device.normalise_columns(mean.whole(), inverse_sd.whole(), x)?;
        }
        let (x, y) = (pass.normalised[at].part(whole.clone()), pass.values[at].part_mut(whole));
        device.scale_columns(x, self.of(&scale), self.of(&shift), y)
    }

    /// Mean and 1/sd over the whole batch of `count` rows; the running ones follow.
    fn batch_moments(
        &mut self,
        ranks: &Ranks,
        (at, rows): (usize, usize),
        (running, count): (usize, usize),
        pass: &mut Pass,
    ) -> Result<()> {
        let (h, device, count) = (self.drawn.nodes[at].width, self.device.clone(), count.max(1) as f64);
        let Pass { normalised, moments, .. } = pass;
        let (x, moments) = (normalised[at].part(upto(rows, h)), &mut moments[at]);
        device.column_sums(x.clone(), Accumulate::Overwrite, moments[0].whole_mut())?;
        ranks.data.sum(std::slice::from_mut(&mut moments[0]), 0..h)?;
        device.divide(count, moments[0].whole_mut())?;
        let (centre, squares) = moments.split_at_mut(1);
        device.column_squares(x, centre[0].whole(), squares[0].whole_mut())?;
        ranks.data.sum(squares, 0..h)?;
        self.running.follow(&*device, running, count, centre[0].whole(), squares[0].whole())?;
        pass.counts[at] = count;
        device.inverse_sd(count, EPSILON, squares[0].whole_mut())
    }

    /// The slope by x, in `scratch`; ∂γ and ∂β of the rows `learn`. Under batch normalisation every row counts for
    /// every slope, so that all of them learn or none.
    pub(super) fn normalise_backward(
        &self,
        ranks: &Ranks,
        (at, rows): (usize, usize),
        learn: Range<usize>,
        pass: &mut Pass,
    ) -> Result<()> {
        let node = &self.drawn.nodes[at];
        let Stage::Normalise { kind, shift, scale, .. } = &node.stage else { return Ok(()) };
        let (h, device) = (node.width, &*self.device);
        let batch = *kind == Normalisation::Batch;
        let of = if batch { 0..rows } else { learn };
        let part = of.start * h..of.end * h;
        if !of.is_empty() {
            let (slope, x) = (pass.slopes[at].part(part.clone()), pass.normalised[at].part(part));
            let shift = pass.gradient.part_mut(shift.clone());
            device.column_sums(slope.clone(), Accumulate::Overwrite, shift)?;
            device.column_products(slope, x, Accumulate::Overwrite, pass.gradient.part_mut(scale.clone()))?;
        }
        let whole = upto(rows, h);
        device.copy(pass.slopes[at].part(whole.clone()), pass.scratch.part_mut(whole.clone()))?;
        let (x, to) = (pass.normalised[at].part(whole.clone()), pass.scratch.part_mut(whole));
        if !batch {
            let inverse_sd = pass.moments[at][1].part(0..rows);
            return device.normalise_rows_backward(x, self.of(scale), inverse_sd, to);
        }
        // The gradients of shift and scale are the very sums that the slope needs.
        let sums = std::slice::from_mut(&mut pass.gradient);
        ranks.data.sum(sums, shift.start..scale.end)?;
        let (sums, products) = (pass.gradient.part(shift.clone()), pass.gradient.part(scale.clone()));
        let inverse_sd = pass.moments[at][1].whole();
        device.normalise_columns_backward(x, self.of(scale), inverse_sd, sums, products, pass.counts[at], to)
    }
}
