//! A network forward and backward, written once for every backend.
//!
//! One hidden layer of h units on a batch of B animals, X̂ being its normalised sums and D the slope of the
//! batch's loss by the buffer of the same name (docs/networks.md):
//!
//! | forward | backward |
//! |---|---|
//! | sums = input·W + b | ∂W = input'·D, ∂b = Σ D, D of the input = D·W' |
//! | of the first layer: + features·V | ∂V = features'·D |
//! | scaled = γ∘X̂ + β | ∂γ = Σ D∘X̂, ∂β = Σ D |
//! | active = dropout(φ(scaled)) | D = dropout(D)∘φ'(scaled) |

mod backward;
mod normalise;

use super::architecture::{Architecture, Layout, Normalisation, Places, Reads, Role};
use super::batch::{Batch, Input, Piece, Read, Records};
use super::ranks::Ranks;
use super::running::{Running, RunningMoments};
use crate::device::network::{Accumulate, Activation, Draw, Loss, Network, Product, Slice, SliceMut, Values};
use crate::error::Result;
use crate::rng::Purpose;
use std::ops::Range;
use std::sync::Arc;

/// Layers of a network, at most: keeps the random numbers of steps apart.
const LAYERS: u64 = 8;

/// What a network is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// To learn: dropout, and normalisation by the batch itself.
    Train {
        /// The user's seed.
        seed: u64,
        /// Number of the training step.
        step: u64,
    },
    /// To predict: no dropout, normalisation by running means.
    Predict,
}

/// A network: its parameters, this rank's rows of the first weight and all of the rest.
pub struct Net {
    device: Arc<dyn Network>,
    architecture: Architecture,
    layout: Layout,
    pub(super) parameters: Values,
    /// Of the hidden layers with batch normalisation.
    running: RunningMoments,
}

/// The buffers of one layer, (rows, h) unless said otherwise.
struct Layer {
    sums: Values,
    scaled: Values, // empty without normalisation
    active: Values,
    delta: Values,
    mean: Values,        // (h)
    inverse_sd: Values,  // (h), with layer normalisation (rows)
    totals: Vec<Values>, // (h) a piece
}

/// What a network needs to work on batches.
pub struct Work {
    layers: Vec<Layer>,
    gradients: Vec<Values>, // as the parameters, a piece
}

impl Work {
    /// For batches of which this rank has at most `rows` animals; without gradients where it is only to predict.
    pub fn new(net: &Net, ranks: &Ranks, rows: usize, train: bool) -> Result<Work> {
        let (device, pieces) = (&*net.device, ranks.data.own().len().max(1));
        let some = |needed: bool, length: usize| device.values(if needed { length } else { 0 });
        let normalisation = net.architecture.normalisation;
        let layer = |places: &Places| {
            let (h, normal) = (places.shape.1, places.norm.is_some());
            let of_rows = normal && normalisation == Normalisation::Layer;
            Ok(Layer {
                sums: device.values(rows * h)?,
                scaled: some(normal, rows * h)?,
                active: device.values(rows * h)?,
                delta: some(train, rows * h)?,
                mean: some(normal, h)?,
                inverse_sd: device.values(if of_rows { rows } else { h })?,
                totals: (0..pieces).map(|_| device.values(h)).collect::<Result<_>>()?,
            })
        };
        let layers = net.layout.layers.iter().map(layer).collect::<Result<_>>()?;
        let gradients = if train { pieces } else { 0 };
        let gradients = (0..gradients).map(|_| device.values(net.layout.len())).collect::<Result<_>>()?;
        Ok(Work { layers, gradients })
    }

    /// What the network gave for the rows of the last batch, (rows, t); what follows in the buffer means nothing.
    pub fn output(&self) -> &Values {
        &self.layers.last().expect("a network has a head").sums
    }

    /// Losses of the last batch, by traits (t).
    pub fn losses(&self) -> Slice<'_> {
        self.layers.last().expect("a network has a head").totals[0].whole()
    }

    /// The gradient of the last batch: as the parameters, on every rank its own.
    pub fn gradient(&self) -> &Values {
        &self.gradients[0]
    }
}

/// The part of a matrix of `h` columns that these rows are.
fn part(rows: &Range<usize>, h: usize) -> Range<usize> {
    rows.start * h..rows.end * h
}

impl Net {
    /// A network with its first weights (He et al. 2015), the same however what it `reads` is shared out. SNPs and features
    /// have the same part in the first sums, however many they are.
    pub fn new(
        device: &Arc<dyn Network>,
        architecture: &Architecture,
        reads: impl Into<Reads>,
        outputs: usize,
        seed: u64,
    ) -> Result<Net> {
        let reads = reads.into();
        let layout = Layout::new(architecture, &reads, outputs);
        let mut parameters = device.values(layout.len())?;
        for tensor in &layout.tensors {
            let to = parameters.part_mut(tensor.range.clone());
            device.fill(if tensor.role == Role::Scale { 1.0 } else { 0.0 }, to)?;
            let (purpose, read) = match tensor.role {
                Role::Weight if tensor.layer == 0 => (Purpose::Weights, reads.all),
                Role::Weight => (Purpose::Weights, tensor.rows),
                Role::Features => (Purpose::FeatureWeights, tensor.rows),
                Role::Bias | Role::Scale | Role::Shift => continue,
            };
            let mut normals = device.values(tensor.range.len())?;
            let draw = Draw {
                seed,
                purpose,
                index: tensor.layer as u64,
                first_row: tensor.first_row as u64,
                first_column: 0,
                columns: tensor.columns as u64,
            };
            device.normals(draw, tensor.columns, normals.whole_mut())?;
            let head = tensor.layer == architecture.hidden.len();
            let sd = (gain(architecture.activation, head) / read.max(1) as f64).sqrt();
            device.add_scaled(sd, normals.whole(), parameters.part_mut(tensor.range.clone()))?;
        }
        let batch = architecture.normalisation == Normalisation::Batch;
        let widths = architecture.hidden.iter().filter(|_| batch).copied().collect();
        let running = RunningMoments::new(&**device, widths)?;
        let (device, architecture) = (device.clone(), architecture.clone());
        Ok(Net { device, architecture, layout, parameters, running })
    }

    /// What it is made of.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Where its tensors lie.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What computes.
    pub fn device(&self) -> &Arc<dyn Network> {
        &self.device
    }

    /// Units of the head, t.
    pub fn outputs(&self) -> usize {
        self.layout.layers.last().expect("a network has a head").shape.1
    }

    /// This rank's parameters.
    pub fn parameters(&self) -> Result<Vec<f64>> {
        let mut out = vec![0.0; self.layout.len()];
        self.device.read(self.parameters.whole(), &mut out)?;
        Ok(out)
    }

    /// Other parameters.
    pub fn set_parameters(&mut self, parameters: &[f64]) -> Result<()> {
        self.device.write(parameters, self.parameters.whole_mut())
    }

    /// Sets the head's weights to 0: until it learns, the network gives nothing.
    pub fn freeze(&mut self) -> Result<()> {
        let head = self.layout.layers.last().expect("a network has a head").weight.clone();
        self.device.fill(0.0, self.parameters.part_mut(head))
    }

    /// Running means and variances of the layers with batch normalisation.
    pub fn running(&self) -> Result<Vec<Running>> {
        self.running.read(&*self.device)
    }

    /// Other running means and variances, of the same layers.
    pub fn set_running(&mut self, running: &[Running]) -> Result<()> {
        self.running.write(&*self.device, running)
    }

    /// Whether these may be its running means and variances.
    pub fn fits_running(&self, running: &[Running]) -> bool {
        self.running.fit(running)
    }

    fn of(&self, range: &Range<usize>) -> Slice<'_> {
        self.parameters.part(range.clone())
    }

    /// What the network gives for a batch, in [`Work::output`]. Collective.
    pub fn forward(&mut self, ranks: &Ranks, batch: &Batch, mode: Mode, work: &mut Work) -> Result<()> {
        for l in 0..self.layout.layers.len() {
            self.sums(ranks, batch, l, work)?;
            if l == self.architecture.hidden.len() {
                continue;
            }
            let layer = &mut work.layers[l];
            match self.architecture.normalisation {
                Normalisation::None => {}
                Normalisation::Batch => self.normalise_batch(ranks, batch, mode, l, layer)?,
                Normalisation::Layer => self.normalise_rows(batch, l, layer)?,
            }
            let (h, device) = (self.layout.layers[l].shape.1, &*self.device);
            for piece in &batch.pieces {
                let at = part(&piece.rows, h);
                let Layer { sums, scaled, active, .. } = &mut *layer;
                let before = if self.layout.layers[l].norm.is_some() { scaled } else { sums };
                device.activate(
                    self.architecture.activation,
                    before.part(at.clone()),
                    active.part_mut(at.clone()),
                )?;
                self.drop_out(mode, l, piece, active.part_mut(at))?;
            }
        }
        match mode {
            Mode::Train { .. } => self.follow(batch, work),
            Mode::Predict => Ok(()),
        }
    }

    /// sums = input·W + features·V + b.
    fn sums(&self, ranks: &Ranks, batch: &Batch, l: usize, work: &mut Work) -> Result<()> {
        let (places, device) = (&self.layout.layers[l], &*self.device);
        let (k, h) = places.shape;
        let (before, rest) = work.layers.split_at_mut(l);
        let sums = &mut rest[0].sums;
        for piece in &batch.pieces {
            let to = sums.part_mut(part(&piece.rows, h));
            let weight = self.of(&places.weight);
            if let (0, Input::Genotypes(z, _), Read::Genotypes(rows, _)) = (l, batch.input, &piece.read) {
                device.gather_times(z, rows, weight, h, to)?;
                continue;
            }
            let shape = Product { m: piece.rows.len(), n: h, k, a_transposed: false, b_transposed: false };
            device.product(shape, input(before, piece, k), weight, Accumulate::Overwrite, to)?;
        }
        if l == 0 {
            ranks.snps.sum(std::slice::from_mut(sums), 0..batch.rows() * h)?;
        }
        if let Some(weight) = &places.features {
            for piece in &batch.pieces {
                let (rows, Read::Genotypes(_, Some(features))) = (piece.rows.len(), &piece.read) else {
                    unreachable!("a batch with features")
                };
                let k = weight.len() / h;
                let shape = Product { m: rows, n: h, k, a_transposed: false, b_transposed: false };
                let to = sums.part_mut(part(&piece.rows, h));
                device.product(shape, features.whole(), self.of(weight), Accumulate::Add, to)?;
            }
        }
        if let Some(bias) = &places.bias {
            for piece in &batch.pieces {
                device.add_row(self.of(bias), sums.part_mut(part(&piece.rows, h)))?;
            }
        }
        Ok(())
    }

    /// Takes units out while learning, and their deltas backward.
    fn drop_out(&self, mode: Mode, l: usize, piece: &Piece, x: SliceMut) -> Result<()> {
        let Mode::Train { seed, step } = mode else { return Ok(()) };
        if self.architecture.dropout == 0.0 {
            return Ok(());
        }
        let h = self.layout.layers[l].shape.1;
        let draw = Draw {
            seed,
            purpose: Purpose::Dropout,
            index: step * LAYERS + l as u64,
            first_row: piece.first as u64,
            first_column: 0,
            columns: h as u64,
        };
        self.device.dropout(self.architecture.dropout, draw, h, x)
    }

    /// Losses of the last batch, by traits, in [`Work::losses`], after [`Net::forward`]; [`Net::backward`] goes on from
    /// it. Collective.
    pub fn loss(
        &self,
        ranks: &Ranks,
        batch: &Batch,
        records: &Records,
        loss: Loss,
        work: &mut Work,
    ) -> Result<()> {
        let t = self.outputs();
        let Layer { sums, delta, totals, .. } = work.layers.last_mut().expect("a network has a head");
        for (piece, total) in batch.pieces.iter().zip(&mut *totals) {
            let at = part(&piece.rows, t);
            let (given, observed) = (sums.part(at.clone()), records.observed.part(at.clone()));
            let weights = records.weights.as_ref().map(|w| w.part(at.clone()));
            let (delta, total) = (delta.part_mut(at), total.whole_mut());
            self.device.loss(loss, records.factor, given, observed, weights, delta, total)?;
        }
        ranks.data.sum(totals, 0..t)
    }
}

/// The input (rows, k) of a piece to a layer that `before` stands before.
fn input<'a>(before: &'a [Layer], piece: &'a Piece, k: usize) -> Slice<'a> {
    match (before.last(), &piece.read) {
        (Some(layer), _) => layer.active.part(part(&piece.rows, k)),
        (None, Read::Dense(x)) => x.whole(),
        (None, Read::Genotypes(..)) => unreachable!("genotypes are multiplied where they lie packed"),
    }
}

/// The variance of first weights, times the number of units that are read (He et al. 2015, eq. 14 and 15).
fn gain(activation: Activation, head: bool) -> f64 {
    match activation {
        _ if head => 1.0,
        Activation::LeakyRelu(slope) => 2.0 / (1.0 + slope * slope),
        Activation::Gelu => 2.0,
    }
}
