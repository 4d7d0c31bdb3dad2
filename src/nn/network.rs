//! A network that predicts: a chain of layers with a loss on records.

use super::architecture::{Architecture, Reads};
use super::batch::{Batch, Mode, Records};
use super::ranks::Ranks;
use super::running::Running;
use super::stack::{gain, Part, Pass, Role, Stack, Use};
use crate::device::network::{Loss, Network, Slice, Values};
use crate::error::Result;
use crate::rng::Purpose;
use std::sync::Arc;

/// A network: its parameters, this rank's rows of the weight of SNPs and all of the rest.
pub struct Net {
    architecture: Architecture,
    pub(super) chain: Stack,
}

/// What a network needs to work on batches.
pub struct Work {
    pass: Pass,
    /// Losses by traits (t), of each piece.
    losses: Vec<Values>,
}

impl Work {
    /// For batches of which this rank has at most `rows` animals; without gradients where it is only to predict.
    pub fn new(net: &Net, ranks: &Ranks, rows: usize, train: bool) -> Result<Work> {
        let pieces = ranks.data.own().len().max(1);
        let pass = Pass::new(&net.chain, Use { learn: train, pieces, ..Use::forward(rows) })?;
        let losses = (0..pieces).map(|_| net.device().values(net.outputs())).collect::<Result<_>>()?;
        Ok(Work { pass, losses })
    }

    /// What the network gave for the rows of the last batch, (rows, t); what follows in the buffer means nothing.
    pub fn output(&self) -> &Values {
        self.pass.output()
    }

    /// Losses of the last batch, by traits (t).
    pub fn losses(&self) -> Slice<'_> {
        self.losses[0].whole()
    }

    /// The gradient of the last batch: as the parameters, on every rank its own.
    pub fn gradient(&self) -> &Values {
        self.pass.gradient()
    }
}

impl Net {
    /// A network with its first weights (He et al. 2015), the same however what it `reads` is shared out. SNPs and features
    /// have the same part in the first sums, however many they are.
    pub fn new(
        device: &Arc<dyn Network>,
        architecture: &Architecture,
        reads: &Reads,
        outputs: usize,
        seed: u64,
    ) -> Result<Net> {
        let mut chain = Stack::blank(device, &architecture.plan(reads, outputs))?;
        let head = architecture.hidden.len();
        for part in chain.parts().to_vec() {
            let gain = gain((part.layer < head).then_some(architecture.activation));
            let all = reads.snps.as_ref().filter(|_| part.layer == 0).map(|snps| snps.all);
            let (purpose, read) = match part.role {
                Role::Weight => (Purpose::Weights, all.unwrap_or(part.rows())),
                Role::Features => (Purpose::FeatureWeights, part.rows()),
                _ => continue,
            };
            chain.draw(&part, seed, (purpose, part.layer as u64), gain / read.max(1) as f64)?;
        }
        Ok(Net { architecture: architecture.clone(), chain })
    }

    /// What it is made of.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Where its tensors lie.
    pub fn parts(&self) -> &[Part] {
        self.chain.parts()
    }

    /// Numbers of its first weight, with which its parameters begin.
    pub fn first_weight(&self) -> usize {
        self.chain.first_weight()
    }

    /// SNPs of all ranks, or columns of numbers, that it reads.
    pub fn inputs(&self) -> usize {
        let plan = self.chain.plan();
        plan.snps.as_ref().map_or(plan.inputs, |snps| snps.all)
    }

    /// Units of its first layer.
    pub fn first_units(&self) -> usize {
        self.architecture.first_units(self.outputs())
    }

    /// What computes.
    pub fn device(&self) -> &Arc<dyn Network> {
        self.chain.device()
    }

    /// Units of the head, t.
    pub fn outputs(&self) -> usize {
        self.chain.outputs()
    }

    /// This rank's parameters.
    pub fn parameters(&self) -> Result<Vec<f64>> {
        let mut out = vec![0.0; self.chain.parameters.len()];
        self.device().read(self.chain.parameters.whole(), &mut out)?;
        Ok(out)
    }

    /// Other parameters.
    pub fn set_parameters(&mut self, parameters: &[f64]) -> Result<()> {
        self.device().clone().write(parameters, self.chain.parameters.whole_mut())
    }

    /// Sets the head's weights to 0: until it learns, the network gives nothing.
    pub fn freeze(&mut self) -> Result<()> {
        // A rank may have no row of it.
        let head = self.parts().iter().rfind(|part| part.role == Role::Weight).map(|part| part.range.clone());
        self.device().clone().fill(0.0, self.chain.parameters.part_mut(head.unwrap_or(0..0)))
    }

    /// Running means and variances of the layers with batch normalisation.
    pub fn running(&self) -> Result<Vec<Running>> {
        self.chain.running.read(&**self.device())
    }

    /// Other running means and variances, of the same layers.
    pub fn set_running(&mut self, running: &[Running]) -> Result<()> {
        let device = self.device().clone();
        self.chain.running.write(&*device, running)
    }

    /// Whether these may be its running means and variances.
    pub fn fits_running(&self, running: &[Running]) -> bool {
        self.chain.running.fit(running)
    }

    /// What the network gives for a batch, in [`Work::output`]. Collective.
    pub fn forward(&mut self, ranks: &Ranks, batch: &Batch, mode: Mode, work: &mut Work) -> Result<()> {
        let numbers = &batch.numbers;
        self.device().write(numbers, work.pass.input_mut().part_mut(0..numbers.len()))?;
        self.chain.forward(ranks, batch, mode, &mut work.pass)
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
        let (output, slope) = work.pass.output_and_slope_mut();
        for (piece, total) in batch.pieces.iter().zip(&mut work.losses) {
            let at = piece.rows.start * t..piece.rows.end * t;
            let (given, observed) = (output.part(at.clone()), records.observed.part(at.clone()));
            let weights = records.weights.as_ref().map(|w| w.part(at.clone()));
            let slope = slope.part_mut(at);
            self.device().loss(loss, records.factor, given, observed, weights, slope, total.whole_mut())?;
        }
        ranks.data.sum(&mut work.losses, 0..t)
    }

    /// The gradient of the last batch's loss, in [`Work::gradient`], after [`Net::loss`]. Collective.
    pub fn backward(&self, ranks: &Ranks, batch: &Batch, mode: Mode, work: &mut Work) -> Result<()> {
        self.chain.learn(ranks, batch, mode, &mut work.pass)
    }
}
