//! One step of the critic and one of the generator (docs/generators.md).
//!
//! A batch has B animals on all ranks, b of them on this one. The critic's chain works on 3b rows: real animals x,
//! generated ones x̃, and x̂ between them. Its SNP-snp_layer layer is linear, so that what it gives for x̂ lies between
//! what it gives for x and x̃, and its gradient is the one product [x; x̃; v]' [δ; δ̃; δ̂]. With the direction of the
//! penalty v = a∘ĝ, a number for each animal, v W = a∘(ĝ W) and v' δ̂ = ĝ' (a∘δ̂): v itself is never made.

use super::config::Config;
use super::nets::{Critic, GeneratorNet, SnpLayer};
use super::work::{repeated, Work};
use crate::comm::interrupt::pending;
use crate::device::network::{Accumulate, Adam, Animals, Draw, Network, Product, Rows, Smooth, CLASSES};
use crate::error::Result;
use crate::nn::ledger::Ledger;
use crate::nn::{self, Mode, Ranks};
use crate::rng::Purpose;
use ndarray::ArrayView2;
use std::sync::Arc;

/// Random numbers of the generator's steps are those of steps from here on.
const MAKER: u64 = 1 << 62;

/// This rank's animals of a batch.
pub struct Batch {
    /// Their rows among the training animals.
    pub animals: Vec<usize>,
    /// Row of the whole batch at which they begin.
    pub first: usize,
    /// Animals of the whole batch.
    pub count: usize,
}

/// What a step was told, once somebody looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Told {
    /// What the critic saw.
    Critic(Seen),
    /// The generator's loss.
    Generator(f64),
}

/// Whose step it was, and of how many animals on all ranks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Turn {
    Critic(usize),
    Generator(usize),
}

/// Sums over the animals of a step, as they stand in a row of the ledger: judgements of real animals and of generated
/// ones, (‖g‖ − 1)² and ‖g‖. A step of the generator has the second alone.
pub(super) const SUMS: usize = 4;

/// What a step of the critic saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Seen {
    /// Mean judgement of real animals.
    pub real: f64,
    /// Mean judgement of generated animals.
    pub fake: f64,
    /// The penalty λ mean (‖g‖ − 1)².
    pub penalty: f64,
    /// Mean ‖g‖.
    pub norm: f64,
}

impl Seen {
    /// What the critic's step makes smaller.
    pub fn loss(&self) -> f64 {
        self.fake - self.real + self.penalty
    }

    /// Adds another.
    pub fn add(&mut self, other: &Seen) {
        self.real += other.real;
        self.fake += other.fake;
        self.penalty += other.penalty;
        self.norm += other.norm;
    }

    /// All numbers times a factor.
    pub fn times(self, factor: f64) -> Seen {
        let Seen { real, fake, penalty, norm } = self;
        Seen { real: real * factor, fake: fake * factor, penalty: penalty * factor, norm: norm * factor }
    }
}

/// Generator and critic in training.
pub struct Learner<'a> {
    /// The generator.
    pub generator: GeneratorNet,
    /// The critic.
    pub critic: Critic,
    pub(super) work: Work,
    pub(super) told: Ledger<Turn>,
    pub(super) ranks: &'a Ranks,
    pub(super) device: Arc<dyn Network>,
    pub(super) config: &'a Config,
    pub(super) conditions: Option<ArrayView2<'a, f64>>,
    pub(super) seed: u64,
}

/// All of A (rows, k) times W' or W of a run.
fn shape(rows: usize, h: usize, run: &SnpLayer, onto_classes: bool) -> Product {
    let (n, k) = if onto_classes { (run.width(), h) } else { (h, run.width()) };
    Product { m: rows, n, k, a_transposed: false, b_transposed: onto_classes }
}

impl Learner<'_> {
    fn draw(&self, purpose: Purpose, index: u64, batch: &Batch, columns: usize) -> Draw {
        let (first_row, columns) = (batch.first as u64, columns as u64);
        Draw { seed: self.seed, purpose, index, first_row, first_column: 0, columns }
    }

    /// The noise of classes, at the columns of a run.
    fn of_classes(&self, purpose: Purpose, index: u64, batch: &Batch, run: &SnpLayer) -> Draw {
        let draw = self.draw(purpose, index, batch, CLASSES * self.generator.m);
        Draw { first_column: (CLASSES * run.snps.start) as u64, ..draw }
    }

    /// So many rows for each animal of the batch, from which a chain learns.
    fn of_chain(&self, batch: &Batch, each: usize, step: u64) -> (nn::Batch<'static>, Mode) {
        let rows = nn::Batch::of_rows(each * batch.animals.len(), each * batch.count);
        (rows, Mode::Train { seed: self.seed, step })
    }

    fn h(&self) -> usize {
        self.generator.stack.outputs()
    }

    /// The conditions of some training animals, each repeated.
    fn repeated(&self, animals: impl Iterator<Item = usize>) -> Vec<f64> {
        repeated(self.conditions, animals, self.config.network.repeat)
    }

    /// Animals are generated with these conditions.
    fn make(&mut self, batch: &Batch, index: u64, temperature: f64, conditions: &[f64]) -> Result<()> {
        let (b, latent) = (batch.animals.len(), self.generator.stack.plan().inputs);
        let draw = self.draw(Purpose::Latent, index, batch, latent);
        let (rows, mode) = self.of_chain(batch, 1, index);
        let pass = &mut self.work.generator;
        self.device.normals(draw, latent, pass.input_mut().part_mut(0..b * latent))?;
        self.device.write(conditions, pass.conditions_mut().part_mut(0..conditions.len()))?;
        self.generator.stack.forward(self.ranks, &rows, mode, pass)?;
        for number in 0..self.work.runs.len() {
            let snp_layer = &self.generator.snp_layer[number];
            if snp_layer.width() == 0 {
                continue;
            }
            let noise = self.of_classes(Purpose::Gumbel, index, batch, snp_layer);
            let (snps, length) = (snp_layer.snps.len(), b * snp_layer.contrasts());
            let (pass, to) = (&self.work.generator, &mut self.work.runs[number].made);
            self.generator.logits(number, b, (pass.output(), pass.conditions()), to)?;
            self.device.softmax_contrasts(temperature, Some(noise), snps, to.part_mut(0..length))?;
        }
        Ok(())
    }

    /// Whether the step is to be given up, as somebody asked to stop. Collective.
    fn halted(&self) -> bool {
        pending(&self.ranks.world)
    }

    /// The gradient of the critic's loss; tells whether the step was done or given up. Collective.
    pub fn judge(&mut self, batch: &Batch, step: u64, temperature: f64) -> Result<bool> {
        let b = batch.animals.len();
        let conditions = self.repeated(batch.animals.iter().copied());
        self.make(batch, step, temperature, &conditions)?;
        let numbers = batch.animals.iter().map(|&i| u32::try_from(i).expect("fewer than 2^32 animals"));
        let rows = self.device.rows(&numbers.collect::<Vec<_>>())?;
        if self.halted() {
            return Ok(false);
        }
        self.face(batch, step, &rows)?;
        self.interpolate(batch, step)?;
        let c = self.work.critic.conditions_mut();
        for third in 0..3 {
            let at = third * conditions.len()..(third + 1) * conditions.len();
            self.device.write(&conditions, c.part_mut(at))?;
        }
        let (thirds, mode) = self.of_chain(batch, 3, step);
        self.critic.stack.forward(self.ranks, &thirds, mode, &mut self.work.critic)?;
        self.judged(batch)?;
        self.critic.stack.backward(self.ranks, &thirds, mode, Some(0..2 * b), &mut self.work.critic)?;
        if self.halted() {
            return Ok(false);
        }
        self.penalise(batch)?;
        self.critic.stack.tangent(2 * b..3 * b, &mut self.work.critic)?;
        self.critic.stack.sum_gradient(self.ranks, &mut self.work.critic)?;
        if self.halted() {
            return Ok(false);
        }
        self.learn_facing(batch, step, &rows)?;
        self.told.close(Turn::Critic(batch.count));
        Ok(true)
    }

    /// What the steps were told that nobody has looked at yet, in their order. Collective.
    pub fn settle(&mut self) -> Result<Vec<Told>> {
        let lambda = self.config.training.gradient_penalty;
        let told = self.told.take(&*self.device)?.into_iter().map(|(turn, row)| match turn {
            Turn::Critic(count) => {
                let sums = Seen { real: row[0], fake: row[1], penalty: lambda * row[2], norm: row[3] };
                Told::Critic(sums.times(1.0 / count as f64))
            }
            Turn::Generator(count) => Told::Generator(-row[1] / count as f64),
        });
        Ok(told.collect())
    }

    /// What stands before the critic's first activation, of real animals and generated ones, (2b, h).
    fn face(&mut self, batch: &Batch, step: u64, rows: &Rows) -> Result<()> {
        let (b, h) = (batch.animals.len(), self.h());
        for number in 0..self.work.runs.len() {
            let snp_layer = &self.critic.snp_layer[number];
            let draw = self.of_classes(Purpose::Smooth, step, batch, snp_layer);
            let (run, sums) = (&self.work.runs[number], &mut self.work.sums[number]);
            if snp_layer.width() == 0 {
                self.device.fill(0.0, sums.part_mut(0..2 * b * h))?;
                continue;
            }
            let smooth = Smooth { amount: self.config.training.smoothing, draw };
            let made = Some(run.made.part(0..b * snp_layer.contrasts()));
            let animals = Animals { z: &run.held, rows, smooth: Some(&smooth), made };
            let w = snp_layer.parameters().whole();
            self.device.onehot_times(&animals, w, h, sums.part_mut(0..2 * b * h))?;
        }
        self.ranks.snps.sum(&mut self.work.sums, 0..2 * b * h)
    }

    /// x̂ = u x + (1 − u) x̃ behind the SNP-snp_layer layer: rows x, x̃ and x̂ of what the critic's chain reads.
    fn interpolate(&mut self, batch: &Batch, step: u64) -> Result<()> {
        let (b, h, device) = (batch.animals.len(), self.h(), self.device.clone());
        let draw = self.draw(Purpose::Interpolate, step, batch, 1);
        let Work { critic, sums, squares, factors, .. } = &mut self.work;
        let (sums, input, ones) = (&sums[0], critic.input_mut(), &mut squares[0]);
        let (real, fake, between) = (0..b * h, b * h..2 * b * h, 2 * b * h..3 * b * h);
        device.copy(sums.part(0..2 * b * h), input.part_mut(0..2 * b * h))?;
        device.uniforms(draw, 1, factors.part_mut(0..b))?;
        device.scale_rows(
            factors.part(0..b),
            sums.part(real),
            Accumulate::Overwrite,
            input.part_mut(between.clone()),
        )?;
        device.fill(1.0, ones.part_mut(0..b))?;
        device.blend(-1.0, 1.0, ones.part(0..b), factors.part_mut(0..b))?;
        device.scale_rows(factors.part(0..b), sums.part(fake), Accumulate::Add, input.part_mut(between))
    }

    /// Sums of judgements, and the slopes of the loss by all judgements; those by which ĝ is found are 1.
    fn judged(&mut self, batch: &Batch) -> Result<()> {
        let (b, each) = (batch.animals.len(), 1.0 / batch.count as f64);
        let (output, slope) = self.work.critic.output_and_slope_mut();
        let (row, told) = (self.told.row().start, &mut self.told.values);
        self.device.column_sums(output.part(0..b), Accumulate::Overwrite, told.part_mut(row..row + 1))?;
        self.device.column_sums(
            output.part(b..2 * b),
            Accumulate::Overwrite,
            told.part_mut(row + 1..row + 2),
        )?;
        self.device.fill(-each, slope.part_mut(0..b))?;
        self.device.fill(each, slope.part_mut(b..2 * b))?;
        self.device.fill(1.0, slope.part_mut(2 * b..3 * b))
    }

    /// ĝ = δ̂ W', the penalty, its direction v = a∘ĝ: v W for the tangent pass, a∘δ̂ in place of δ̂.
    fn penalise(&mut self, batch: &Batch) -> Result<()> {
        let (b, h, device) = (batch.animals.len(), self.h(), self.device.clone());
        let Work { runs, critic, sums, squares, factors, .. } = &mut self.work;
        let between = 2 * b * h..3 * b * h;
        for ((run, snp_layer), squares) in runs.iter_mut().zip(&self.critic.snp_layer).zip(&mut *squares) {
            if snp_layer.width() == 0 {
                device.fill(0.0, squares.part_mut(0..b))?;
                continue;
            }
            let (slope, whole) = (critic.input_slope().part(between.clone()), 0..b * snp_layer.width());
            let to = run.slope.part_mut(whole.clone());
            device.product(
                shape(b, h, snp_layer, true),
                slope,
                snp_layer.parameters().whole(),
                Accumulate::Overwrite,
                to,
            )?;
            device.row_squares(run.slope.part(whole), squares.part_mut(0..b))?;
        }
        self.ranks.snps.sum(squares, 0..b)?;
        let (row, told) = (self.told.row(), &mut self.told.values);
        let (factor, lengths) =
            (self.config.training.gradient_penalty * 2.0 / batch.count as f64, row.start + 2..row.end);
        let (squares, factors_of) = (squares[0].part(0..b), factors.part_mut(0..b));
        device.gradient_penalty(factor, squares, factors_of, told.part_mut(lengths))?;
        self.ranks.data.sum(std::slice::from_mut(told), row)?;
        for ((run, snp_layer), sums) in runs.iter_mut().zip(&self.critic.snp_layer).zip(&mut *sums) {
            let (slope, to) = (run.slope.part(0..b * snp_layer.width()), sums.part_mut(0..b * h));
            match snp_layer.width() {
                0 => device.fill(0.0, to)?,
                _ => {
                    let w = snp_layer.parameters().whole();
                    device.product(shape(b, h, snp_layer, false), slope, w, Accumulate::Overwrite, to)?;
                }
            }
        }
        self.ranks.snps.sum(sums, 0..b * h)?;
        let (a, along) = (factors.part(0..b), sums[0].part(0..b * h));
        device.scale_rows(
            a.clone(),
            along,
            Accumulate::Overwrite,
            critic.tangent_mut().part_mut(0..b * h),
        )?;
        device.copy(critic.input_slope().part(between.clone()), sums[0].part_mut(0..b * h))?;
        let slope = critic.input_slope_mut().part_mut(between);
        device.scale_rows(a, sums[0].part(0..b * h), Accumulate::Overwrite, slope)
    }

    /// ∂W = [x; x̃; ĝ]' [δ; δ̃; a∘δ̂]. Collective.
    fn learn_facing(&mut self, batch: &Batch, step: u64, rows: &Rows) -> Result<()> {
        let (b, h) = (batch.animals.len(), self.h());
        for number in 0..self.work.runs.len() {
            let snp_layer = &self.critic.snp_layer[number];
            if snp_layer.width() == 0 {
                continue;
            }
            let draw = self.of_classes(Purpose::Smooth, step, batch, snp_layer);
            let smooth = Smooth { amount: self.config.training.smoothing, draw };
            let slope = self.work.critic.input_slope().part(0..3 * b * h);
            let run = &mut self.work.runs[number];
            let made = Some(run.made.part(0..b * snp_layer.contrasts()));
            let animals = Animals { z: &run.held, rows, smooth: Some(&smooth), made };
            let (along, gradient) = (run.slope.part(0..b * snp_layer.width()), &mut run.critic.0);
            let to = gradient.whole_mut();
            self.device.onehot_transposed_times(
                &animals,
                Some(along),
                slope,
                h,
                Accumulate::Overwrite,
                to,
            )?;
            let length = gradient.len();
            self.ranks.data.sum(std::slice::from_mut(gradient), 0..length)?;
        }
        Ok(())
    }

    /// The gradient of the generator's loss −mean D(x̃); tells whether the step was done or given up. `batch` are the animals whose conditions the generated ones have. Collective.
    pub fn fool(&mut self, batch: &Batch, step: u64, temperature: f64) -> Result<bool> {
        let (b, h, device) = (batch.animals.len(), self.h(), self.device.clone());
        let conditions = self.repeated(batch.animals.iter().copied());
        self.make(batch, MAKER + step, temperature, &conditions)?;
        if self.halted() {
            return Ok(false);
        }
        let none = device.rows(&[])?;
        for number in 0..self.work.runs.len() {
            let snp_layer = &self.critic.snp_layer[number];
            let (run, sums) = (&self.work.runs[number], &mut self.work.sums[number]);
            let to = sums.part_mut(0..b * h);
            if snp_layer.width() == 0 {
                device.fill(0.0, to)?;
                continue;
            }
            let made = Some(run.made.part(0..b * snp_layer.contrasts()));
            let animals = Animals { z: &run.held, rows: &none, smooth: None, made };
            device.onehot_times(&animals, snp_layer.parameters().whole(), h, to)?;
        }
        self.ranks.snps.sum(&mut self.work.sums, 0..b * h)?;
        let (rows, mode) = self.of_chain(batch, 1, MAKER + step);
        let pass = &mut self.work.critic;
        device.copy(self.work.sums[0].part(0..b * h), pass.input_mut().part_mut(0..b * h))?;
        device.write(&conditions, pass.conditions_mut().part_mut(0..conditions.len()))?;
        self.critic.stack.forward(self.ranks, &rows, mode, pass)?;
        let (fake, told) = (self.told.row().start + 1, &mut self.told.values);
        device.column_sums(pass.output().part(0..b), Accumulate::Overwrite, told.part_mut(fake..fake + 1))?;
        self.ranks.data.sum(std::slice::from_mut(told), fake..fake + 1)?;
        device.fill(-1.0 / batch.count as f64, pass.slope_mut().part_mut(0..b))?;
        self.critic.stack.backward(self.ranks, &rows, mode, None, pass)?;
        if self.halted() {
            return Ok(false);
        }
        self.learn_generator(batch, step, temperature)?;
        self.told.close(Turn::Generator(batch.count));
        Ok(true)
    }

    /// The slopes by the classes, the gradient of the layer that made them, and of the chain before it. Collective.
    fn learn_generator(&mut self, batch: &Batch, step: u64, temperature: f64) -> Result<()> {
        let (b, h, device) = (batch.animals.len(), self.h(), self.device.clone());
        for number in 0..self.work.runs.len() {
            let (snp_layer, critic_layer) =
                (&self.generator.snp_layer[number], &self.critic.snp_layer[number]);
            let Work { runs, critic, generator, sums, .. } = &mut self.work;
            let (run, sums) = (&mut runs[number], &mut sums[number]);
            if snp_layer.width() == 0 {
                device.fill(0.0, sums.part_mut(0..b * h))?;
                continue;
            }
            let whole = 0..b * snp_layer.width();
            let slope = critic.input_slope().part(0..b * h);
            let to = run.slope.part_mut(whole.clone());
            device.product(
                shape(b, h, critic_layer, true),
                slope,
                critic_layer.parameters().whole(),
                Accumulate::Overwrite,
                to,
            )?;
            let (y, snps) = (run.made.part(0..b * snp_layer.contrasts()), snp_layer.snps.len());
            let slope = run.slope.part_mut(whole.clone());
            device.softmax_contrasts_backward(temperature, y, snps, slope)?;
            let [weight, of_conditions, bias] = self.generator.parts(snp_layer);
            let (slope, gradient) = (run.slope.part(whole), &mut run.generator.0);
            let read = [
                (generator.output(), h, &weight),
                (generator.conditions(), self.generator.stack.plan().conditions, &of_conditions),
            ];
            for (x, k, part) in read.into_iter().filter(|r| !r.2.is_empty()) {
                let shape =
                    Product { m: snp_layer.width(), n: k, k: b, a_transposed: true, b_transposed: false };
                let to = gradient.part_mut(part.clone());
                device.product(shape, slope.clone(), x.part(0..b * k), Accumulate::Overwrite, to)?;
            }
            device.column_sums(slope.clone(), Accumulate::Overwrite, gradient.part_mut(bias))?;
            let (w, to) = (snp_layer.parameters().part(weight), sums.part_mut(0..b * h));
            device.product(shape(b, h, snp_layer, false), slope, w, Accumulate::Overwrite, to)?;
            let length = gradient.len();
            self.ranks.data.sum(std::slice::from_mut(gradient), 0..length)?;
        }
        self.ranks.snps.sum(&mut self.work.sums, 0..b * h)?;
        let (rows, mode) = self.of_chain(batch, 1, MAKER + step);
        let pass = &mut self.work.generator;
        device.copy(self.work.sums[0].part(0..b * h), pass.slope_mut().part_mut(0..b * h))?;
        self.generator.stack.backward(self.ranks, &rows, mode, Some(0..b), pass)?;
        self.generator.stack.sum_gradient(self.ranks, pass)
    }

    /// The optimizer of step `step`, from 0.
    fn adam(&self, step: u64) -> Adam {
        let t = &self.config.training;
        Adam {
            learning_rate: t.learning_rate,
            beta1: t.beta1,
            beta2: t.beta2,
            epsilon: t.epsilon,
            l2: 0.0,
            weight_decay: 0.0,
            step: step + 1,
        }
    }

    /// Moves the critic along the gradient of [`Learner::judge`].
    pub fn move_critic(&mut self, step: u64) -> Result<()> {
        let adam = self.adam(step);
        let Work { runs, critic, critic_moments, .. } = &mut self.work;
        critic.step(&adam, critic_moments, &mut self.critic.stack)?;
        for (run, snp_layer) in runs.iter_mut().zip(&mut self.critic.snp_layer) {
            let (gradient, moments) = &mut run.critic;
            moments.step(&*self.device, &adam, gradient, snp_layer.parameters_mut())?;
        }
        Ok(())
    }

    /// Moves the generator along the gradient of [`Learner::fool`].
    pub fn move_generator(&mut self, step: u64) -> Result<()> {
        let adam = self.adam(step);
        let Work { runs, generator, generator_moments, .. } = &mut self.work;
        generator.step(&adam, generator_moments, &mut self.generator.stack)?;
        for (run, snp_layer) in runs.iter_mut().zip(&mut self.generator.snp_layer) {
            let (gradient, moments) = &mut run.generator;
            moments.step(&*self.device, &adam, gradient, snp_layer.parameters_mut())?;
        }
        Ok(())
    }
}
