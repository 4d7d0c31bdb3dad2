//! Running moments of batch normalisations (Ioffe & Szegedy 2015), on the device: no step waits for them.

use crate::device::network::{Network, Slice, SliceMut, Values};
use crate::error::Result;
use std::ops::Range;

/// Added to variances before their root is taken.
pub(super) const EPSILON: f64 = 1e-5;
/// Weight of the newest batch in running means and variances.
const MOMENTUM: f64 = 0.1;

/// Running mean and variance of a layer's sums.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Running {
    /// Mean (h).
    pub mean: Vec<f64>,
    /// Variance (h).
    pub variance: Vec<f64>,
}

/// Those of all layers of a network with batch normalisation.
pub struct RunningMoments {
    /// Of each layer its means, then its variances.
    values: Values,
    widths: Vec<usize>,
}

impl RunningMoments {
    /// For layers of these widths; means are 0 and variances 1 before the first batch.
    pub fn new(device: &dyn Network, widths: Vec<usize>) -> Result<RunningMoments> {
        let values = device.values(2 * widths.iter().sum::<usize>())?;
        let mut own = RunningMoments { values, widths };
        let fresh = |&h: &usize| Running { mean: vec![0.0; h], variance: vec![1.0; h] };
        let fresh: Vec<Running> = own.widths.iter().map(fresh).collect();
        own.write(device, &fresh)?;
        Ok(own)
    }

    /// Where the means and the variances of a layer stand.
    fn places(&self, layer: usize) -> [Range<usize>; 2] {
        let (start, h) = (2 * self.widths[..layer].iter().sum::<usize>(), self.widths[layer]);
        [start..start + h, start + h..start + 2 * h]
    }

    /// They follow a batch of `count` rows with means `mean` (h) and sums of squares about them `squares` (h).
    pub(super) fn follow(
        &mut self,
        device: &dyn Network,
        layer: usize,
        count: f64,
        mean: Slice,
        squares: Slice,
    ) -> Result<()> {
        let [means, variances] = self.places(layer);
        let unbiased = MOMENTUM / (count - 1.0).max(1.0);
        device.blend(1.0 - MOMENTUM, MOMENTUM, mean, self.values.part_mut(means))?;
        device.blend(1.0 - MOMENTUM, unbiased, squares, self.values.part_mut(variances))
    }

    /// Gives a layer's means and 1/sd, each (h).
    pub(super) fn give(
        &self,
        device: &dyn Network,
        layer: usize,
        mean: SliceMut,
        inverse_sd: &mut Values,
    ) -> Result<()> {
        let [means, variances] = self.places(layer);
        device.copy(self.values.part(means), mean)?;
        device.copy(self.values.part(variances), inverse_sd.whole_mut())?;
        device.inverse_sd(1.0, EPSILON, inverse_sd.whole_mut())
    }

    /// Those of every layer.
    pub fn read(&self, device: &dyn Network) -> Result<Vec<Running>> {
        let mut all = vec![0.0; self.values.len()];
        device.read(self.values.whole(), &mut all)?;
        let of = |layer| self.places(layer).map(|place| all[place].to_vec());
        let layers = (0..self.widths.len()).map(of);
        Ok(layers.map(|[mean, variance]| Running { mean, variance }).collect())
    }

    /// Puts others in their place, of the same widths.
    pub fn write(&mut self, device: &dyn Network, running: &[Running]) -> Result<()> {
        let all: Vec<f64> = running.iter().flat_map(|r| r.mean.iter().chain(&r.variance)).copied().collect();
        device.write(&all, self.values.whole_mut())
    }

    /// Keeps what they are now for [`RunningMoments::put_back`], in as many numbers.
    pub fn copy_to(&self, device: &dyn Network, kept: &mut Values) -> Result<()> {
        device.copy(self.values.whole(), kept.whole_mut())
    }

    /// Makes them what they were.
    pub fn put_back(&mut self, device: &dyn Network, kept: &Values) -> Result<()> {
        device.copy(kept.whole(), self.values.whole_mut())
    }

    /// How many numbers they are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether no layer has batch normalisation.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether these may be of the same layers.
    pub fn fit(&self, running: &[Running]) -> bool {
        let found = running.iter().map(|r| [r.mean.len(), r.variance.len()]);
        found.eq(self.widths.iter().map(|&h| [h, h]))
    }
}
