//! Diffusion (Ho et al. 2020) of principal components: each chromosome's genotypes become the scores that explain most
//! of their variance; a network learns to tell the noise in noisy scores; animals begin as noise and lose it in steps.
//!
//! x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε (eq. 4); the network ε̂(x_t, t) learns from ‖ε − ε̂‖² (eq. 14); animals follow
//! algorithm 2 with σ_t² = β_t, are projected back, rounded and cut to 0, 1 and 2.

use super::components::{self, Components};
use super::epochs::{self, of_chain, At, Epochs, Nets};
use super::learning::{adam, by_blocks, draw_block, scaled, wrong_width, Batch, BLOCK};
use super::{as_text, configured, Generator, Header, Herd, Kind, Reader, Recipe, Setting, Trained, Writer};
use crate::device::network::{Network, Values};
use crate::error::{Error, Result};
use crate::nn::checkpointer::Checkpointer;
use crate::nn::epochs::Schedule;
use crate::nn::running::RunningMoments;
use crate::nn::stack::{Moments, Pass, Plan, Stack, Step, Use};
use crate::nn::{self, Mode, Normalisation, Ranks};
use crate::packed::Packed;
use crate::rng::{Purpose, Stream};
use ndarray::{s, Array1, Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Its line in the table of kinds.
pub const KIND: Kind = Kind {
    name: "ddpm",
    about: "Diffusion of each chromosome's principal components",
    split: false,
    conditional: true,
    resumes: true,
    configure: |file| {
        let config: Config = configured(file)?;
        config.check(file.map_or("".as_ref(), |f| f.1))?;
        Ok(Box::new(config))
    },
    read: |reader, header, _, device| Ok(Box::new(Ddpm::read(reader, header, device)?)),
};

/// Scores of the published genome.
const PUBLISHED: usize = 4819;
/// Sines and cosines that tell the network the time.
const TIME: usize = 256;
/// The longest of their periods is 2π of this (Vaswani et al. 2017).
const LONGEST: f64 = 10_000.0;

/// What it is made of and how it learns; the defaults are the published ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Share of a chromosome's variance that its components explain.
    pub variance: f64,
    /// Steps of noise, T.
    pub steps: usize,
    /// β of the first step.
    pub first_beta: f64,
    /// β of the last step; those between lie on a straight line.
    pub last_beta: f64,
    /// Units of the layers; none for 8192, 8192 and 6144, fewer below 4,819 components.
    pub widths: Vec<usize>,
    /// Adam's largest learning rate.
    pub learning_rate: f64,
    /// Share of all training steps in which the rate rises.
    pub warm_up: f64,
    /// Rate of the last training step as a share of the largest; the way down is a half wave of the cosine.
    pub last_learning_rate: f64,
    /// Animals in a batch, at most.
    pub batch: usize,
    /// Rounds through the animals.
    pub epochs: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            variance: 0.9,
            steps: 1500,
            first_beta: 1e-4,
            last_beta: 0.02,
            widths: Vec::new(),
            learning_rate: 3e-4,
            warm_up: 0.05,
            last_learning_rate: 0.01,
            batch: 256,
            epochs: 500,
        }
    }
}

impl Config {
    fn check(&self, path: &Path) -> Result<()> {
        let inside = |x: f64| x > 0.0 && x < 1.0;
        let rules = [
            (self.variance > 0.0 && self.variance <= 1.0, "a `variance` above 0, up to 1", self.variance),
            ((1..=1 << 20).contains(&self.steps), "`steps` from 1 to 1048576", self.steps as f64),
            (inside(self.first_beta), "a `first_beta` between 0 and 1", self.first_beta),
            (inside(self.last_beta), "a `last_beta` between 0 and 1", self.last_beta),
            (self.first_beta <= self.last_beta, "a `first_beta` up to `last_beta`", self.first_beta),
            (
                self.widths.iter().all(|h| (1..=1 << 16).contains(h)),
                "`widths` from 1 to 65536",
                wrong_width(&self.widths),
            ),
            (
                self.learning_rate > 0.0 && self.learning_rate.is_finite(),
                "a positive `learning_rate`",
                self.learning_rate,
            ),
            ((0.0..1.0).contains(&self.warm_up), "a `warm_up` of at least 0 and below 1", self.warm_up),
            (
                (0.0..=1.0).contains(&self.last_learning_rate),
                "a `last_learning_rate` from 0 to 1",
                self.last_learning_rate,
            ),
            (self.batch >= 2, "a `batch` of 2 or more", self.batch as f64),
            (self.epochs >= 1, "1 or more `epochs`", self.epochs as f64),
        ];
        match rules.into_iter().find(|rule| !rule.0) {
            Some((_, expected, found)) => {
                Err(Error::input(path.display(), expected, found, "set it within this range"))
            }
            None => Ok(()),
        }
    }

    /// The network for `k` components and `c` conditions, with what it was given added to what it gives.
    fn plan(&self, k: usize, c: usize) -> Plan {
        let published = || [8192, 8192, 6144].map(|h| scaled(h, k, PUBLISHED, 64)).to_vec();
        let widths = if self.widths.is_empty() { published() } else { self.widths.clone() };
        let mut steps = vec![Step::Keep];
        for (number, &units) in widths.iter().enumerate() {
            let linear = Step::Linear { units, bias: true, conditions: number == 0 };
            steps.extend([linear, Step::Normalise(Normalisation::Layer), Step::leaky_relu(0.0)]);
        }
        steps.extend([Step::linear(k), Step::Add]);
        Plan { snps: None, inputs: k, conditions: TIME + c, steps }
    }

    /// β_t, and ᾱ_t = Π (1 − β), for t = 1 to T.
    fn noise(&self) -> Vec<(f64, f64)> {
        let last = (self.steps.max(2) - 1) as f64;
        let mut kept = 1.0;
        let each = |t: usize| {
            let beta = self.first_beta + (self.last_beta - self.first_beta) * t as f64 / last;
            kept *= 1.0 - beta;
            (beta, kept)
        };
        (0..self.steps).map(each).collect()
    }
}

/// What the network is told beside the scores, (rows, 256 + c): sines and cosines of the times, then the conditions.
fn beside(times: &[usize], conditions: &[f64], c: usize) -> Vec<f64> {
    let mut out = Vec::with_capacity(times.len() * (TIME + c));
    for (row, &t) in times.iter().enumerate() {
        for k in 0..TIME / 2 {
            let angle = t as f64 * LONGEST.powf(-(k as f64) / (TIME / 2) as f64);
            out.extend([angle.sin(), angle.cos()]);
        }
        out.extend_from_slice(&conditions[row * c..(row + 1) * c]);
    }
    out
}

/// A network that takes noise away, and the way back from scores to genotypes.
pub struct Ddpm {
    config: Config,
    components: Vec<Components>,
    stack: Stack,
    room: Option<Pass>,
}

impl Ddpm {
    fn read(reader: &Reader, header: &Header, device: &Arc<dyn Network>) -> Result<Ddpm> {
        let config: Config = configured(Some((&header.config, Path::new("model"))))?;
        let c = header.conditions.as_ref().map_or(0, |c| c.names.len());
        let mean: Vec<f64> = reader.matrix("mean", (1, header.variants.len()))?;
        let runs = components::runs(&header.variants);
        let counts: Vec<u64> = reader.matrix("components", (1, runs.len()))?;
        let of = |(number, (snps, &count)): (usize, (Range<usize>, &u64))| {
            let count = usize::try_from(count).map_err(|_| reader.damaged("too many components"))?;
            let loadings = reader.matrix(&format!("loadings.{number}"), (count, snps.len()))?;
            let loadings = Array2::from_shape_vec((count, snps.len()), loadings).expect("whole rows");
            Ok(Components { mean: Array1::from(mean[snps.clone()].to_vec()), snps, loadings })
        };
        let components: Vec<_> = runs.into_iter().zip(&counts).enumerate().map(of).collect::<Result<_>>()?;
        let k = components.iter().map(|c: &Components| c.loadings.nrows()).sum();
        let stack = reader.stack("network", device, (k, TIME + c, k))?;
        Ok(Ddpm { config, components, stack, room: None })
    }

    /// Scores of a block, (BLOCK, k), from noise to what is left of it.
    fn diffuse(&mut self, ranks: &Ranks, number: u64, conditions: &[f64], seed: u64) -> Result<Array2<f64>> {
        let (device, k, c) = (self.stack.device().clone(), self.stack.outputs(), self.conditions());
        let mut pass = match self.room.take() {
            Some(pass) => pass,
            None => Pass::new(&self.stack, Use::forward(BLOCK))?,
        };
        let mut noise = device.values(BLOCK * k)?;
        // Noise of step t, that of the begin being T.
        let mut draw = |t: usize| {
            let mut draw = draw_block(seed, Purpose::Diffusion, number, k);
            draw.first_row = (t * BLOCK) as u64;
            device.normals(draw, k, noise.whole_mut())?;
            let mut read = vec![0.0; BLOCK * k];
            device.read(noise.whole(), &mut read)?;
            Ok::<_, Error>(read)
        };
        let steps = self.config.noise();
        let mut x = draw(steps.len())?;
        let mut told = vec![0.0; BLOCK * k];
        for (at, &(beta, kept)) in steps.iter().enumerate().rev() {
            device.write(&x, pass.input_mut().whole_mut())?;
            device.write(&beside(&[at + 1; BLOCK], conditions, c), pass.conditions_mut().whole_mut())?;
            self.stack.forward(ranks, &nn::Batch::of_rows(BLOCK, BLOCK), Mode::Predict, &mut pass)?;
            device.read(pass.output().whole(), &mut told)?;
            let z = if at > 0 { draw(at)? } else { vec![0.0; BLOCK * k] };
            let (share, sd, shrink) = (beta / (1.0 - kept).sqrt(), beta.sqrt(), 1.0 / (1.0 - beta).sqrt());
            for ((x, told), z) in x.iter_mut().zip(&told).zip(&z) {
                *x = shrink * (*x - share * told) + sd * z;
            }
        }
        self.room = Some(pass);
        Ok(Array2::from_shape_vec((BLOCK, k), x).expect("whole rows"))
    }
}

impl Generator for Ddpm {
    fn conditions(&self) -> usize {
        self.stack.plan().conditions - TIME
    }

    fn draw(
        &mut self,
        ranks: &Ranks,
        animals: Range<u64>,
        conditions: Option<ArrayView2<f64>>,
        seed: u64,
    ) -> Result<Packed> {
        let m = self.components.last().map_or(0, |run| run.snps.end);
        by_blocks(animals, m, |number, rows, at| {
            let own = conditions.map_or_else(Vec::new, |c| super::learning::placed(c, &rows, at));
            let scores = self.diffuse(ranks, number, &own, seed)?;
            Ok(components::calls(&self.components, scores.slice(s![rows, ..]), m))
        })
    }

    fn write(&self, _: &Ranks, to: &mut Writer) -> Result<()> {
        let mean: Vec<f64> = self.components.iter().flat_map(|run| run.mean.iter().copied()).collect();
        let counts: Vec<u64> = self.components.iter().map(|run| run.loadings.nrows() as u64).collect();
        to.matrix("mean", (1, mean.len()), &mean);
        to.matrix("components", (1, counts.len()), &counts);
        for (number, run) in self.components.iter().enumerate() {
            let loadings = run.loadings.as_standard_layout();
            let values = loadings.as_slice().expect("standard layout");
            to.matrix(&format!("loadings.{number}"), run.loadings.dim(), values);
        }
        to.stack("network", &self.stack)
    }
}

/// The network in training.
struct Learner<'a> {
    ranks: &'a Ranks,
    device: Arc<dyn Network>,
    scores: Array2<f64>,
    conditions: Option<&'a Array2<f64>>,
    noise: Vec<(f64, f64)>,
    rates: Schedule,
    seed: u64,
    stack: Stack,
    pass: Pass,
    moments: Moments,
    normals: Values,
}

impl<'a> Learner<'a> {
    fn new(
        setting: &Setting<'a>,
        herd: &'a Herd,
        config: &Config,
        scores: Array2<f64>,
    ) -> Result<Learner<'a>> {
        let (device, k) = (setting.device, scores.ncols());
        let conditions = herd.conditions.as_ref().map(|c| &c.values);
        let plan = config.plan(k, conditions.map_or(0, |c| c.ncols()));
        let stack = Stack::new(device, &plan, setting.seed, 0)?;
        let rows = config.batch.min(herd.animals()).max(3);
        Ok(Learner {
            ranks: setting.ranks,
            device: device.clone(),
            conditions,
            noise: config.noise(),
            rates: Schedule {
                peak: config.learning_rate,
                warm_up: config.warm_up,
                last: config.last_learning_rate,
            },
            seed: setting.seed,
            pass: Pass::new(&stack, Use::learn(rows))?,
            moments: Moments::new(&**device, stack.parameters.len())?,
            normals: device.values(rows * k)?,
            stack,
            scores,
        })
    }

    /// The mean squared error of the noise of a batch, and its gradient. Collective.
    fn gradient(&mut self, batch: &Batch) -> Result<f64> {
        let (b, k, device) = (batch.len(), self.scores.ncols(), self.device.clone());
        let times = Stream::new(self.seed, Purpose::Diffusion, 2 * batch.step + 1);
        let time = |row: usize| {
            let word = u64::from(times.block((batch.first + row) as u32)[0]);
            1 + ((word * self.noise.len() as u64) >> 32) as usize
        };
        let times: Vec<usize> = (0..b).map(time).collect();
        let draw = batch.draw(self.seed, Purpose::Diffusion, 2 * batch.step, k);
        device.normals(draw, k, self.normals.part_mut(0..b * k))?;
        let mut noise = vec![0.0; b * k];
        device.read(self.normals.part(0..b * k), &mut noise)?;
        let mut noisy = noise.clone();
        for (row, (&animal, &t)) in batch.animals.iter().zip(&times).enumerate() {
            let kept = self.noise[t - 1].1;
            for (x, score) in noisy[row * k..(row + 1) * k].iter_mut().zip(self.scores.row(animal)) {
                *x = kept.sqrt() * score + (1.0 - kept).sqrt() * *x;
            }
        }
        let own = self.conditions.map(|c| c.select(Axis(0), &batch.animals).into_raw_vec_and_offset().0);
        let c = self.conditions.map_or(0, |c| c.ncols());
        let beside = beside(&times, &own.unwrap_or_default(), c);
        device.write(&noisy, self.pass.input_mut().part_mut(0..b * k))?;
        device.write(&beside, self.pass.conditions_mut().part_mut(0..beside.len()))?;
        let (rows, mode) = batch.of_chain(b, self.seed);
        self.stack.forward(self.ranks, &rows, mode, &mut self.pass)?;
        let mut told = vec![0.0; b * k];
        device.read(self.pass.output().part(0..b * k), &mut told)?;
        let each = 1.0 / (batch.count * k) as f64;
        told.iter_mut().zip(&noise).for_each(|(told, noise)| *told -= noise);
        let mut loss = [each * told.iter().map(|d| d * d).sum::<f64>()];
        told.iter_mut().for_each(|d| *d *= 2.0 * each);
        device.write(&told, self.pass.slope_mut().part_mut(0..b * k))?;
        self.stack.backward(self.ranks, &rows, mode, Some(0..b), &mut self.pass)?;
        self.stack.sum_gradient(self.ranks, &mut self.pass)?;
        self.ranks.data.world().sum_f64(&mut loss);
        Ok(loss[0])
    }
}

impl Nets for Learner<'_> {
    fn learn(&mut self, batch: &Batch, at: At) -> Result<Vec<f64>> {
        let adam = adam(self.rates.rate_at(batch.step, at.steps), (0.9, 0.999), batch.step);
        let loss = self.gradient(batch)?;
        self.pass.step(&adam, &mut self.moments, &mut self.stack)?;
        Ok(vec![loss])
    }

    fn device(&self) -> &Arc<dyn Network> {
        &self.device
    }

    fn buffers(&mut self) -> Vec<&mut Values> {
        of_chain(&mut self.stack, &mut self.moments).into()
    }

    fn running(&mut self) -> Vec<&mut RunningMoments> {
        vec![&mut self.stack.running]
    }
}

impl Recipe for Config {
    fn text(&self) -> String {
        as_text(self)
    }

    fn train(
        &self,
        setting: &Setting,
        herd: &Herd,
        checkpointer: Option<&mut Checkpointer>,
    ) -> Result<Trained> {
        let ranks = setting.ranks;
        let (components, scores) = ranks.world.agree(Components::of_herd(herd, self.variance))?;
        ranks.world.agree(components::some(&scores))?;
        log::info!("{} components for {} SNPs", scores.ncols(), herd.variants.len());
        let mut learner = ranks.world.agree(Learner::new(setting, herd, self, scores))?;
        let epochs = Epochs {
            count: self.epochs,
            batch: self.batch,
            losses: &["squared_error_of_noise"],
            per: vec![1.0],
        };
        let curve = epochs::fit((setting, herd), &epochs, &mut learner, checkpointer)?;
        let stack = learner.stack;
        let generator = Box::new(Ddpm { config: self.clone(), components, stack, room: None });
        Ok(Trained { generator, curve })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{herd, of_herd, shift};
    use super::*;

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let device = crate::device::open("strict").unwrap();
        let ranks = Ranks::alone(&device);
        let (packed, variants) = herd(12, 9);
        let herd = of_herd(&ranks, packed, &variants);
        let config = Config { widths: vec![5, 4], steps: 20, ..Config::default() };
        let setting = Setting { ranks: &ranks, device: &device, seed: 5 };
        let scores = Components::of_herd(&herd, 0.9).unwrap().1;
        let mut learner = Learner::new(&setting, &herd, &config, scores).unwrap();
        let batch = Batch { animals: vec![3, 1, 8, 11, 4], first: 0, count: 5, step: 2 };
        learner.gradient(&batch).unwrap();
        let mut found = vec![0.0; learner.pass.gradient().len()];
        device.read(learner.pass.gradient().whole(), &mut found).unwrap();
        let largest = found.iter().fold(0.0f64, |a, g| a.max(g.abs()));
        for (at, &found) in found.iter().enumerate().step_by(7) {
            let mut moved = |step: f64| {
                shift(&*device, &mut learner.stack.parameters, at, step);
                let loss = learner.gradient(&batch).unwrap();
                shift(&*device, &mut learner.stack.parameters, at, -step);
                loss
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!(
                (found - slope).abs() < 1e-6 * found.abs() + 1e-7 * largest,
                "[{at}]: {found}, slope {slope}"
            );
        }
    }
}
