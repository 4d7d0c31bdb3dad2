//! The engine of all networks: a chain of steps over one flat buffer of parameters, forward, backward, and the tangent
//! pass of the gradient penalty; written once for every backend.
//!
//! With x the values that a step reads, y those that it gives, D the slope of what is learnt by y, and s a tangent of x:
//!
//! | step | forward | backward | tangent |
//! |---|---|---|---|
//! | linear | y = x W + c V + b | ∂W = x'D, ∂V = c'D, ∂b = Σ D, slope by x: D W' | s W, and ∂W += s'D |
//! | the first, with SNPs | y = z U + x W + c V + b | also ∂U = z'D | none |
//! | offset | y = x + c V + b | ∂V = c'D, ∂b = Σ D, D | s |
//! | batch or layer normalisation | y = γ∘x̂ + β | ∂γ = Σ D∘x̂, ∂β = Σ D | none |
//! | activation | y = φ(x) | D∘φ'(x) | s∘φ'(x) |
//! | dropout | y = x∘d | D∘d | none |
//! | add | y = x + kept | D to both | s + that of kept |
//!
//! SNPs z are read where they lie packed; U has the rows of this rank's SNPs, and the products of all ranks with the same
//! animals are added ([`Ranks::snps`]). The batch may be shared out over the ranks of [`Ranks::data`], in pieces; sums over
//! it cross them.

mod backward;
mod normalise;
mod pass;
mod plan;
mod tangent;
#[cfg(test)]
mod tests;

pub use pass::{Pass, Use};
pub use plan::{Part, Plan, Role, Snps, Step};

use super::batch::{Batch, Mode, Piece};
use super::ranks::Ranks;
use super::running::RunningMoments;
use crate::device::network::{Accumulate, Activation, Adam, Draw, Network, Product, Rows, Slice, Values};
use crate::device::Genotypes;
use crate::error::Result;
use crate::rng::Purpose;
use plan::{Drawn, Stage};
use std::ops::Range;
use std::sync::Arc;

/// Layers of a network, at most: keeps the random numbers of steps apart.
const LAYERS: u64 = 8;

/// A chain and its parameters, which every rank has.
pub struct Stack {
    device: Arc<dyn Network>,
    plan: Plan,
    drawn: Drawn,
    /// All parameters, as [`Stack::parts`] says.
    pub parameters: Values,
    /// Moments of the batch normalisations.
    pub running: RunningMoments,
}

/// Moments of Adam for a buffer of parameters.
pub struct Moments {
    /// Of the gradient.
    pub first: Values,
    /// Of its squares.
    pub second: Values,
}

impl Moments {
    /// Zeros for so many parameters.
    pub fn new(device: &dyn Network, length: usize) -> Result<Moments> {
        let zeros = || -> Result<Values> {
            let mut values = device.values(length)?;
            device.fill(0.0, values.whole_mut())?;
            Ok(values)
        };
        Ok(Moments { first: zeros()?, second: zeros()? })
    }

    /// One step of Adam on all parameters.
    pub fn step(
        &mut self,
        device: &dyn Network,
        adam: &Adam,
        gradient: &Values,
        parameters: &mut Values,
    ) -> Result<()> {
        let (first, second) = (self.first.whole_mut(), self.second.whole_mut());
        device.adam(adam, None, gradient.whole(), parameters.whole_mut(), first, second)
    }
}

/// The first `rows` rows of a matrix of `width` columns.
fn upto(rows: usize, width: usize) -> Range<usize> {
    0..rows * width
}

/// Some rows of a matrix of `width` columns.
fn part(rows: &Range<usize>, width: usize) -> Range<usize> {
    rows.start * width..rows.end * width
}

impl Stack {
    /// A chain whose scales are 1 and whose other parameters are 0.
    ///
    /// # Errors
    /// A plan whose steps do not belong together, and what the device meets.
    pub fn blank(device: &Arc<dyn Network>, plan: &Plan) -> Result<Stack> {
        let drawn = plan.drawn()?;
        let mut parameters = device.values(drawn.length())?;
        for part in &drawn.parts {
            let first = if part.role == Role::Scale { 1.0 } else { 0.0 };
            device.fill(first, parameters.part_mut(part.range.clone()))?;
        }
        let running = RunningMoments::new(&**device, drawn.running.clone())?;
        Ok(Stack { device: device.clone(), plan: plan.clone(), drawn, parameters, running })
    }

    /// A chain with its first weights (He et al. 2015), normal numbers of the streams (seed, weights, `stream`
    /// + number of the part): networks of one model take other streams.
    ///
    /// # Errors
    /// As [`Stack::blank`].
    pub fn new(device: &Arc<dyn Network>, plan: &Plan, seed: u64, stream: u64) -> Result<Stack> {
        let mut stack = Stack::blank(device, plan)?;
        for (number, part) in stack.drawn.parts.clone().iter().enumerate() {
            if let Some(variance) = variance(&stack.drawn, plan, &part.range) {
                stack.draw(part, seed, (Purpose::Weights, stream + number as u64), variance)?;
            }
        }
        Ok(stack)
    }

    /// Adds normal numbers of a `variance` to a part that is 0: the same however its rows are shared out.
    pub(super) fn draw(
        &mut self,
        part: &Part,
        seed: u64,
        (purpose, index): (Purpose, u64),
        variance: f64,
    ) -> Result<()> {
        let mut normals = self.device.values(part.range.len())?;
        let draw = Draw {
            seed,
            purpose,
            index,
            first_row: part.first_row as u64,
            first_column: 0,
            columns: part.columns as u64,
        };
        self.device.normals(draw, part.columns, normals.whole_mut())?;
        let to = self.parameters.part_mut(part.range.clone());
        self.device.add_scaled(variance.sqrt(), normals.whole(), to)
    }

    /// What it is made of.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The parts of the buffer of parameters.
    pub fn parts(&self) -> &[Part] {
        &self.drawn.parts
    }

    /// Where the weight of what the first step reads ends, with which the parameters begin.
    pub fn first_weight(&self) -> usize {
        match self.drawn.nodes.get(1).map(|node| &node.stage) {
            Some(Stage::Linear { snps, .. }) if self.plan.snps.is_some() => snps.end,
            Some(Stage::Linear { weight, .. }) => weight.end,
            _ => 0,
        }
    }

    /// What computes.
    pub fn device(&self) -> &Arc<dyn Network> {
        &self.device
    }

    /// Columns that it gives.
    pub fn outputs(&self) -> usize {
        self.drawn.nodes.last().expect("a chain has an input").width
    }

    fn of(&self, range: &Range<usize>) -> Slice<'_> {
        self.parameters.part(range.clone())
    }

    /// From [`Pass::input_mut`] (rows, inputs), [`Pass::conditions_mut`] (rows, conditions) and the SNPs of the batch to
    /// [`Pass::output`] (rows, outputs). Collective over the ranks with other SNPs, and where batches are normalised to
    /// learn over those with other animals.
    pub fn forward(&mut self, ranks: &Ranks, batch: &Batch, mode: Mode, pass: &mut Pass) -> Result<()> {
        for at in 1..self.drawn.nodes.len() {
            let (from, whole) = (self.drawn.nodes[at].from, upto(batch.rows(), self.drawn.nodes[at].width));
            if let Stage::Normalise { .. } = self.drawn.nodes[at].stage {
                self.normalise(ranks, at, (batch, mode), pass)?;
                continue;
            }
            let places = &self.drawn.values.of;
            let (before, rest) = pass.values.split_at_mut(places[at]);
            let (x, y, device) = (before.get(places[from]), &mut rest[0], &*self.device);
            if let Stage::Dropout { share, layer } = self.drawn.nodes[at].stage {
                if let Some(x) = x {
                    device.copy(x.part(whole.clone()), y.part_mut(whole))?;
                }
                self.drop_out((layer, self.drawn.nodes[at].width, share), (batch, mode), y)?;
                continue;
            }
            let x = x.expect("only dropout works in place");
            match self.drawn.nodes[at].stage {
                Stage::Linear { .. } => self.linear(at, ranks, batch, (x, &pass.conditions), y)?,
                Stage::Activate(activation) => {
                    device.activate(activation, x.part(whole.clone()), y.part_mut(whole))?;
                }
                Stage::Add { kept } => {
                    device.copy(x.part(whole.clone()), y.part_mut(whole.clone()))?;
                    device.add_scaled(1.0, before[places[kept]].part(whole.clone()), y.part_mut(whole))?;
                }
                Stage::Input | Stage::Normalise { .. } | Stage::Dropout { .. } => {}
            }
        }
        Ok(())
    }

    /// The product of `rows` of what node `at` reads with a weight of `k` rows.
    fn product(&self, at: usize, rows: usize, k: usize) -> Product {
        Product { m: rows, n: self.drawn.nodes[at].width, k, a_transposed: false, b_transposed: false }
    }

    /// Columns of the values that node `at` reads.
    fn read_by(&self, at: usize) -> usize {
        self.drawn.nodes[self.drawn.nodes[at].from].width
    }

    /// y = z U + x W + c V + b, piece by piece: the bits of a product depend on its rows.
    fn linear(
        &self,
        at: usize,
        ranks: &Ranks,
        batch: &Batch,
        (x, c): (&Values, &Values),
        y: &mut Values,
    ) -> Result<()> {
        let Stage::Linear { snps, weight, of_conditions, bias } = &self.drawn.nodes[at].stage else {
            return Ok(());
        };
        let (h, whole, device) =
            (self.drawn.nodes[at].width, upto(batch.rows(), self.drawn.nodes[at].width), &*self.device);
        let mut onto = Accumulate::Add;
        if self.reads_snps(at) {
            for piece in &batch.pieces {
                let (z, animals) = snps_of(batch, piece);
                device.gather_times(z, animals, self.of(snps), h, y.part_mut(part(&piece.rows, h)))?;
            }
            ranks.snps.sum(std::slice::from_mut(y), whole.clone())?;
        } else if weight.is_empty() {
            device.copy(x.part(whole.clone()), y.part_mut(whole.clone()))?;
        } else {
            onto = Accumulate::Overwrite;
        }
        let read = [(x, self.read_by(at), weight), (c, self.plan.conditions, of_conditions)];
        for (x, k, weight) in read.into_iter().filter(|r| !r.2.is_empty()) {
            for piece in &batch.pieces {
                let (shape, to) = (self.product(at, piece.rows.len(), k), y.part_mut(part(&piece.rows, h)));
                device.product(shape, x.part(part(&piece.rows, k)), self.of(weight), onto, to)?;
            }
            onto = Accumulate::Add;
        }
        if !bias.is_empty() {
            device.add_row(self.of(bias), y.part_mut(whole))?;
        }
        Ok(())
    }

    /// Whether node `at` reads SNPs.
    fn reads_snps(&self, at: usize) -> bool {
        at == 1 && self.plan.snps.is_some()
    }

    /// Takes units out while learning, and their slopes backward.
    fn drop_out(
        &self,
        (layer, h, share): (usize, usize, f64),
        (batch, mode): (&Batch, Mode),
        x: &mut Values,
    ) -> Result<()> {
        let Mode::Train { seed, step } = mode else { return Ok(()) };
        for piece in &batch.pieces {
            let draw = Draw {
                seed,
                purpose: Purpose::Dropout,
                index: step * LAYERS + layer as u64,
                first_row: piece.first as u64,
                first_column: 0,
                columns: h as u64,
            };
            self.device.dropout(share, draw, h, x.part_mut(part(&piece.rows, h)))?;
        }
        Ok(())
    }
}

/// The SNPs that a piece reads.
fn snps_of<'a>(batch: &'a Batch, piece: &'a Piece) -> (&'a Genotypes, &'a Rows) {
    batch.genotypes.zip(piece.animals.as_ref()).expect("a batch of animals with SNPs")
}

/// The variance of a part's first values (He et al. 2015, eq. 14 and 15); nothing where they are 0 or 1.
fn variance(drawn: &Drawn, plan: &Plan, part: &Range<usize>) -> Option<f64> {
    let (at, reads_conditions) = drawn.nodes.iter().enumerate().find_map(|(at, node)| match &node.stage {
        Stage::Linear { weight, of_conditions, .. } if weight == part || of_conditions == part => {
            Some((at, !of_conditions.is_empty()))
        }
        _ => None,
    })?;
    let read = drawn.nodes[drawn.nodes[at].from].width + if reads_conditions { plan.conditions } else { 0 };
    Some(gain(drawn.activation_after(at)) / read.max(1) as f64)
}

/// The variance of first weights times the number of units that are read, before an activation (He et al. 2015, eq. 14
/// and 15).
pub(super) fn gain(activation: Option<Activation>) -> f64 {
    match activation {
        Some(Activation::LeakyRelu(slope)) => 2.0 / (1.0 + slope * slope),
        Some(Activation::Gelu) => 2.0,
        None => 1.0,
    }
}
