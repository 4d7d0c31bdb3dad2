//! Batch and layer normalisation of a network, forward and backward.

use super::{part, Layer, Mode, Net, Work};
use crate::comm::reduce::Buckets;
use crate::device::network::Accumulate;
use crate::error::Result;
use crate::nn::batch::Batch;
use crate::nn::ranks::Ranks;
use crate::nn::running::EPSILON;
use std::ops::Range;

impl Net {
    pub(super) fn normalise_batch(
        &self,
        ranks: &Ranks,
        batch: &Batch,
        mode: Mode,
        l: usize,
        layer: &mut Layer,
    ) -> Result<()> {
        if mode == Mode::Predict {
            self.running.give(&*self.device, l, layer.mean.whole_mut(), &mut layer.inverse_sd)?;
        } else {
            self.batch_moments(ranks, batch, l, layer)?;
        }
        let (h, device) = (self.layout.layers[l].shape.1, &*self.device);
        for piece in &batch.pieces {
            let at = part(&piece.rows, h);
            let sums = layer.sums.part_mut(at.clone());
            device.normalise_columns(layer.mean.whole(), layer.inverse_sd.whole(), sums)?;
            self.scale(l, layer, at)?;
        }
        Ok(())
    }

    /// Mean and 1/sd over the whole batch, on the device. The sums of squares stay for [`Net::follow`].
    fn batch_moments(&self, ranks: &Ranks, batch: &Batch, l: usize, layer: &mut Layer) -> Result<()> {
        let (h, device) = (self.layout.layers[l].shape.1, &*self.device);
        let count = batch.count.max(1) as f64;
        for (piece, total) in batch.pieces.iter().zip(&mut layer.totals) {
            device.column_sums(
                layer.sums.part(part(&piece.rows, h)),
                Accumulate::Overwrite,
                total.whole_mut(),
            )?;
        }
        ranks.data.sum(&mut layer.totals, 0..h)?;
        device.copy(layer.totals[0].whole(), layer.mean.whole_mut())?;
        device.divide(count, layer.mean.whole_mut())?;
        for (piece, total) in batch.pieces.iter().zip(&mut layer.totals) {
            let sums = layer.sums.part(part(&piece.rows, h));
            device.column_squares(sums, layer.mean.whole(), total.whole_mut())?;
        }
        ranks.data.sum(&mut layer.totals, 0..h)?;
        device.copy(layer.totals[0].whole(), layer.inverse_sd.whole_mut())?;
        device.inverse_sd(count, EPSILON, layer.inverse_sd.whole_mut())
    }

    /// The running moments follow those of the last batch.
    pub(super) fn follow(&mut self, batch: &Batch, work: &Work) -> Result<()> {
        let count = batch.count.max(1) as f64;
        for (l, layer) in work.layers.iter().enumerate().take(self.running.widths().len()) {
            let (mean, squares) = (layer.mean.whole(), layer.totals[0].whole());
            self.running.follow(&*self.device, l, count, mean, squares)?;
        }
        Ok(())
    }

    pub(super) fn normalise_rows(&self, batch: &Batch, l: usize, layer: &mut Layer) -> Result<()> {
        let h = self.layout.layers[l].shape.1;
        for piece in &batch.pieces {
            let at = part(&piece.rows, h);
            let (sums, inverse) =
                (layer.sums.part_mut(at.clone()), layer.inverse_sd.part_mut(piece.rows.clone()));
            self.device.normalise_rows(EPSILON, sums, inverse)?;
            self.scale(l, layer, at)?;
        }
        Ok(())
    }

    /// scaled = γ∘X̂ + β.
    fn scale(&self, l: usize, layer: &mut Layer, at: Range<usize>) -> Result<()> {
        let (shift, scale) = self.shift_and_scale(l);
        let (from, to) = (layer.sums.part(at.clone()), layer.scaled.part_mut(at));
        self.device.scale_columns(from, self.of(&scale), self.of(&shift), to)
    }

    pub(super) fn shift_and_scale(&self, l: usize) -> (Range<usize>, Range<usize>) {
        let norm = self.layout.layers[l].norm.as_ref().expect("a layer with normalisation");
        let middle = norm.start + norm.len() / 2;
        (norm.start..middle, middle..norm.end)
    }

    /// ∂β = Σ D and ∂γ = Σ D∘X̂ of each piece.
    fn scale_backward(&self, batch: &Batch, l: usize, work: &mut Work) -> Result<()> {
        let (h, (shift, scale)) = (self.layout.layers[l].shape.1, self.shift_and_scale(l));
        let layer = &work.layers[l];
        for (piece, gradient) in batch.pieces.iter().zip(&mut work.gradients) {
            let at = part(&piece.rows, h);
            let (delta, normalised) = (layer.delta.part(at.clone()), layer.sums.part(at));
            self.device.column_sums(
                delta.clone(),
                Accumulate::Overwrite,
                gradient.part_mut(shift.clone()),
            )?;
            let to = gradient.part_mut(scale.clone());
            self.device.column_products(delta, normalised, Accumulate::Overwrite, to)?;
        }
        Ok(())
    }

    pub(super) fn normalise_batch_backward(
        &self,
        sums: &mut dyn Buckets,
        batch: &Batch,
        l: usize,
        work: &mut Work,
    ) -> Result<()> {
        self.scale_backward(batch, l, work)?;
        let (h, (shift, scale)) = (self.layout.layers[l].shape.1, self.shift_and_scale(l));
        // The gradients of shift and scale are the very sums that the slope needs.
        sums.sum(&mut work.gradients, shift.start..scale.end)?;
        let total = &work.gradients[0];
        let Layer { sums, delta, inverse_sd, .. } = &mut work.layers[l];
        for piece in &batch.pieces {
            let at = part(&piece.rows, h);
            self.device.normalise_columns_backward(
                sums.part(at.clone()),
                self.of(&scale),
                inverse_sd.whole(),
                total.part(shift.clone()),
                total.part(scale.clone()),
                batch.count.max(1) as f64,
                delta.part_mut(at),
            )?;
        }
        Ok(())
    }

    pub(super) fn normalise_rows_backward(&self, batch: &Batch, l: usize, work: &mut Work) -> Result<()> {
        self.scale_backward(batch, l, work)?;
        let (h, scale) = (self.layout.layers[l].shape.1, self.shift_and_scale(l).1);
        let Layer { sums, delta, inverse_sd, .. } = &mut work.layers[l];
        for piece in &batch.pieces {
            let at = part(&piece.rows, h);
            let (normalised, inverse) = (sums.part(at.clone()), inverse_sd.part(piece.rows.clone()));
            self.device.normalise_rows_backward(normalised, self.of(&scale), inverse, delta.part_mut(at))?;
        }
        Ok(())
    }
}
