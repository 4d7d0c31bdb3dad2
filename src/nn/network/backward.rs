//! The backward pass: buckets of the gradient leave for their sum over the ranks as soon as they are complete, while the
//! layers before are computed.

use super::{input, part, Layer, Mode, Net, Work};
use crate::comm::layout::CHUNK;
use crate::comm::reduce::Buckets;
use crate::device::network::{Accumulate, Product};
use crate::device::Genotypes;
use crate::error::Result;
use crate::nn::architecture::Normalisation;
use crate::nn::batch::{Batch, Input, Read};
use crate::nn::ranks::Ranks;
use std::ops::Range;

impl Net {
    /// The gradient of the last batch's loss, in [`Work::gradient`], after [`Net::loss`]. Collective.
    pub fn backward(&self, ranks: &Ranks, batch: &Batch, mode: Mode, work: &mut Work) -> Result<()> {
        let grain = ranks.data.grain();
        ranks.data.overlapped(|sums| self.backward_beside(sums, grain, batch, mode, work))
    }

    fn backward_beside(
        &self,
        sums: &mut dyn Buckets,
        grain: usize,
        batch: &Batch,
        mode: Mode,
        work: &mut Work,
    ) -> Result<()> {
        let mut ready = 0..0;
        for l in (0..self.layout.layers.len()).rev() {
            let places = &self.layout.layers[l];
            let mut left = places.all.clone();
            if l < self.architecture.hidden.len() {
                self.activate_backward(batch, mode, l, &mut work.layers[l])?;
                match self.architecture.normalisation {
                    Normalisation::None => {}
                    Normalisation::Batch => {
                        self.normalise_batch_backward(sums, batch, l, work)?;
                        left.end = self.shift_and_scale(l).0.start;
                    }
                    Normalisation::Layer => self.normalise_rows_backward(batch, l, work)?,
                }
            }
            // The layer behind leaves after the small sums that this one has waited for.
            sums.begin(&mut work.gradients, ready)?;
            match (l, batch.input) {
                (0, Input::Genotypes(z, _)) => {
                    ready = self.snps_backward(sums, (z, grain), batch, work)?;
                    ready.end = left.end;
                }
                _ => {
                    self.sums_backward(batch, l, work)?;
                    ready = left;
                }
            }
        }
        sums.begin(&mut work.gradients, ready)?;
        sums.end(&mut work.gradients)
    }

    /// ∂W of the layer that faces SNPs, in buckets of about `grain` numbers, which leave but for the last one, and
    /// its ∂V and ∂b; where the last bucket begins, to the end of the weight.
    fn snps_backward(
        &self,
        sums: &mut dyn Buckets,
        (z, grain): (&Genotypes, usize),
        batch: &Batch,
        work: &mut Work,
    ) -> Result<Range<usize>> {
        let (places, device) = (&self.layout.layers[0], &*self.device);
        let (m, h) = places.shape;
        for (piece, gradient) in batch.pieces.iter().zip(&mut work.gradients) {
            let delta = work.layers[0].delta.part(part(&piece.rows, h));
            if let Some(bias) = &places.bias {
                device.column_sums(delta.clone(), Accumulate::Overwrite, gradient.part_mut(bias.clone()))?;
            }
            if let (Some(weight), Read::Genotypes(_, Some(features))) = (&places.features, &piece.read) {
                let (columns, rows) = (weight.len() / h, piece.rows.len());
                let shape = Product { m: columns, n: h, k: rows, a_transposed: true, b_transposed: false };
                let to = gradient.part_mut(weight.clone());
                device.product(shape, features.whole(), delta, Accumulate::Overwrite, to)?;
            }
        }
        let some = (grain / h.max(1) / CHUNK).clamp(1, m.div_ceil(CHUNK).max(1)) * CHUNK;
        let mut ready = places.weight.start..places.weight.start;
        for first in (0..m).step_by(some) {
            sums.begin(&mut work.gradients, ready)?;
            let snps = first..(first + some).min(m);
            ready = places.weight.start + snps.start * h..places.weight.start + snps.end * h;
            for (piece, gradient) in batch.pieces.iter().zip(&mut work.gradients) {
                let Read::Genotypes(rows, _) = &piece.read else { unreachable!("a batch of genotypes") };
                let delta = work.layers[0].delta.part(part(&piece.rows, h));
                let to = gradient.part_mut(ready.clone());
                device.gather_transposed_times(z, rows, delta, h, snps.clone(), Accumulate::Overwrite, to)?;
            }
        }
        Ok(ready)
    }

    fn activate_backward(&self, batch: &Batch, mode: Mode, l: usize, layer: &mut Layer) -> Result<()> {
        let places = &self.layout.layers[l];
        let Layer { sums, scaled, delta, .. } = layer;
        let before = if places.norm.is_some() { scaled } else { sums };
        for piece in &batch.pieces {
            let at = part(&piece.rows, places.shape.1);
            self.drop_out(mode, l, piece, delta.part_mut(at.clone()))?;
            let (x, delta) = (before.part(at.clone()), delta.part_mut(at));
            self.device.activate_backward(self.architecture.activation, x, delta)?;
        }
        Ok(())
    }

    /// ∂W, ∂b, and D of the layer before, of a layer that reads numbers.
    fn sums_backward(&self, batch: &Batch, l: usize, work: &mut Work) -> Result<()> {
        let (places, device) = (&self.layout.layers[l], &*self.device);
        let (k, h) = places.shape;
        let (before, rest) = work.layers.split_at_mut(l);
        let delta = &rest[0].delta;
        for (piece, gradient) in batch.pieces.iter().zip(&mut work.gradients) {
            let (rows, delta) = (piece.rows.len(), delta.part(part(&piece.rows, h)));
            if let Some(bias) = &places.bias {
                device.column_sums(delta.clone(), Accumulate::Overwrite, gradient.part_mut(bias.clone()))?;
            }
            let to = gradient.part_mut(places.weight.clone());
            let shape = Product { m: k, n: h, k: rows, a_transposed: true, b_transposed: false };
            device.product(shape, input(before, piece, k), delta.clone(), Accumulate::Overwrite, to)?;
            if let Some(previous) = before.last_mut() {
                let shape = Product { m: rows, n: k, k: h, a_transposed: false, b_transposed: true };
                let to = previous.delta.part_mut(part(&piece.rows, k));
                device.product(shape, delta, self.of(&places.weight), Accumulate::Overwrite, to)?;
            }
        }
        Ok(())
    }
}
