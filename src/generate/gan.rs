//! A generative adversarial network (Goodfellow et al. 2014) on the three classes of each SNP, which Gumbel noise makes
//! discrete (Jang et al. 2017): a generator from latent numbers to classes, and a discriminator of what is real.
//!
//! The discriminator learns from −ln σ(D(x)) − ln σ(−D(x̃)), the generator from −ln σ(D(x̃)), means over the animals.

use super::epochs::{self, of_chain, At, Epochs, Nets};
use super::learning::{
    adam, by_blocks, draw_block, likeliest, placed, scaled, wrong_width, Batch, FirstLayer, BLOCK,
};
use super::{as_text, configured, Generator, Header, Herd, Kind, Reader, Recipe, Setting, Trained, Writer};
use crate::device::network::{Network, Rows, Values, CLASSES};
use crate::device::Genotypes;
use crate::error::{Error, Result};
use crate::nn::checkpointer::Checkpointer;
use crate::nn::epochs::straight;
use crate::nn::running::RunningMoments;
use crate::nn::stack::{Moments, Pass, Plan, Stack, Step, Use};
use crate::nn::{self, Mode, Normalisation, Ranks};
use crate::packed::Packed;
use crate::rng::Purpose;
use ndarray::{Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Its line in the table of kinds.
pub const KIND: Kind = Kind {
    name: "gan",
    about: "A generative adversarial network with Gumbel noise on the classes of each SNP",
    split: false,
    conditional: true,
    resumes: true,
    configure: |file| {
        let config: Config = configured(file)?;
        config.check(file.map_or("".as_ref(), |f| f.1))?;
        Ok(Box::new(config))
    },
    read: |reader, header, _, device| Ok(Box::new(Gan::read(reader, header, device)?)),
};

/// SNPs of the chromosome of the published network.
const PUBLISHED: usize = 1771;
/// Streams of first weights: the generator, the discriminator's first layer, the rest of it.
const STREAMS: [u64; 3] = [0, 1000, 2000];
/// Index of the latent numbers and noise of the discriminator's step, and of the generator's, of step k: 2k and 2k + 1.
const STEPS: u64 = 2;

/// What it is made of and how it learns; the defaults are the published ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Latent numbers.
    pub latent: usize,
    /// Units of the generator's layers; none for 885 and 1771, fewer below 1,771 SNPs.
    pub generator: Vec<usize>,
    /// Units of the discriminator's layers; none for 1062 and 531, fewer below 1,771 SNPs.
    pub discriminator: Vec<usize>,
    /// LeakyReLU's slope below zero.
    pub negative_slope: f64,
    /// Adam's learning rate of the generator.
    pub generator_learning_rate: f64,
    /// Adam's learning rate of the discriminator.
    pub discriminator_learning_rate: f64,
    /// Temperature of the classes in the first epoch; it falls on a straight line.
    pub temperature: f64,
    /// Temperature in the last epoch.
    pub last_temperature: f64,
    /// Animals in a batch, at most.
    pub batch: usize,
    /// Rounds through the animals.
    pub epochs: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            latent: 128,
            generator: Vec::new(),
            discriminator: Vec::new(),
            negative_slope: 0.05,
            generator_learning_rate: 5e-4,
            discriminator_learning_rate: 1e-4,
            temperature: 1.0,
            last_temperature: 0.1,
            batch: 256,
            epochs: 200,
        }
    }
}

impl Config {
    fn check(&self, path: &Path) -> Result<()> {
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let widths = |all: &[usize]| all.iter().all(|h| (1..=1 << 16).contains(h));
        let rules = [
            ((1..=1 << 16).contains(&self.latent), "a `latent` from 1 to 65536", self.latent as f64),
            (widths(&self.generator), "widths of `generator` from 1 to 65536", wrong_width(&self.generator)),
            (
                widths(&self.discriminator),
                "widths of `discriminator` from 1 to 65536",
                wrong_width(&self.discriminator),
            ),
            (
                (0.0..1.0).contains(&self.negative_slope),
                "a `negative_slope` of at least 0 and below 1",
                self.negative_slope,
            ),
            (
                positive(self.generator_learning_rate),
                "a positive `generator_learning_rate`",
                self.generator_learning_rate,
            ),
            (
                positive(self.discriminator_learning_rate),
                "a positive `discriminator_learning_rate`",
                self.discriminator_learning_rate,
            ),
            (positive(self.temperature), "a positive `temperature`", self.temperature),
            (positive(self.last_temperature), "a positive `last_temperature`", self.last_temperature),
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

    /// The generator, and the discriminator behind its first layer, for `m` SNPs and `c` conditions.
    fn plans(&self, m: usize, c: usize) -> [Plan; 2] {
        let of = |width: usize| scaled(width, m, PUBLISHED, 16);
        let or = |given: &[usize], published: [usize; 2]| match given {
            [] => published.map(of).to_vec(),
            given => given.to_vec(),
        };
        let (makes, discriminators) =
            (or(&self.generator, [885, 1771]), or(&self.discriminator, [1062, 531]));
        let leaky = Step::leaky_relu(self.negative_slope);
        let mut generator = Vec::new();
        for (k, &units) in makes.iter().enumerate() {
            let linear = Step::Linear { units, bias: false, conditions: k == 0 && c > 0 };
            generator.extend([linear, Step::Normalise(Normalisation::Batch), leaky]);
        }
        generator.push(Step::linear(CLASSES * m));
        let mut discriminator = vec![leaky];
        for (k, &units) in discriminators[1..].iter().chain(&[1]).enumerate() {
            discriminator.push(Step::Linear { units, bias: true, conditions: k == 0 && c > 0 });
            discriminator.push(leaky);
        }
        discriminator.pop();
        [
            Plan { snps: None, inputs: self.latent, conditions: c, steps: generator },
            Plan { snps: None, inputs: discriminators[0], conditions: c, steps: discriminator },
        ]
    }

    fn temperature_at(&self, epoch: usize) -> f64 {
        straight([self.temperature, self.last_temperature], epoch, self.epochs)
    }
}

/// A generator of animals.
pub struct Gan {
    generator: Stack,
    room: Option<(Pass, Values)>,
}

impl Gan {
    fn read(reader: &Reader, header: &Header, device: &Arc<dyn Network>) -> Result<Gan> {
        let config: Config = configured(Some((&header.config, Path::new("model"))))?;
        let (m, c) = (header.variants.len(), header.conditions.as_ref().map_or(0, |c| c.names.len()));
        let generator = reader.stack("generator", device, (config.latent, c, CLASSES * m))?;
        Ok(Gan { generator, room: None })
    }
}

impl Generator for Gan {
    fn conditions(&self) -> usize {
        self.generator.plan().conditions
    }

    fn draw(
        &mut self,
        ranks: &Ranks,
        animals: Range<u64>,
        conditions: Option<ArrayView2<f64>>,
        seed: u64,
    ) -> Result<Packed> {
        let (device, latent) = (self.generator.device().clone(), self.generator.plan().inputs);
        let (width, m) = (self.generator.outputs(), self.generator.outputs() / CLASSES);
        let (mut pass, mut classes) = match self.room.take() {
            Some(room) => room,
            None => (Pass::new(&self.generator, Use::forward(BLOCK))?, device.values(BLOCK * width)?),
        };
        let drawn = by_blocks(animals, m, |number, rows, at| {
            let draw = draw_block(seed, Purpose::Latent, number, latent);
            device.normals(draw, latent, pass.input_mut().whole_mut())?;
            if let Some(conditions) = conditions {
                device.write(&placed(conditions, &rows, at), pass.conditions_mut().whole_mut())?;
            }
            self.generator.forward(ranks, &nn::Batch::of_rows(BLOCK, BLOCK), Mode::Predict, &mut pass)?;
            device.copy(pass.output().whole(), classes.whole_mut())?;
            // The largest does not depend on the temperature.
            let noise = draw_block(seed, Purpose::Gumbel, number, width);
            device.softmax(1.0, Some(noise), width, classes.whole_mut())?;
            likeliest(&*device, &classes, rows, m)
        })?;
        self.room = Some((pass, classes));
        Ok(drawn)
    }

    fn write(&self, _: &Ranks, to: &mut Writer) -> Result<()> {
        to.stack("generator", &self.generator)
    }
}

/// Generator and discriminator in training.
struct Learner<'a> {
    config: Config,
    ranks: &'a Ranks,
    device: Arc<dyn Network>,
    held: Genotypes,
    conditions: Option<&'a Array2<f64>>,
    seed: u64,
    generator: (Stack, Pass, Moments),
    first: FirstLayer,
    discriminator: (Stack, Pass, Moments),
    /// Classes of made animals (b, 3m).
    classes: Values,
    /// Of the discriminator's first layer, (2b, h).
    sums: Values,
}

/// −ln σ(x), and its slope.
fn loss(x: f64) -> (f64, f64) {
    // Without overflow on either side.
    let loss = if x > 0.0 { (-x).exp().ln_1p() } else { x.exp().ln_1p() - x };
    (loss, -1.0 / (1.0 + x.exp()))
}

impl<'a> Learner<'a> {
    fn new(setting: &Setting<'a>, herd: &'a Herd, config: &Config) -> Result<Learner<'a>> {
        let (device, m, seed) = (setting.device, herd.variants.len(), setting.seed);
        let conditions = herd.conditions.as_ref().map(|c| &c.values);
        let [generator, discriminator] = config.plans(m, conditions.map_or(0, |c| c.ncols()));
        let rows = config.batch.min(herd.animals()).max(3);
        let chain = |plan: &Plan, stream: u64, rows: usize| -> Result<(Stack, Pass, Moments)> {
            let stack = Stack::new(device, plan, seed, stream)?;
            let pass = Pass::new(&stack, Use::learn(rows))?;
            let moments = Moments::new(&**device, stack.parameters.len())?;
            Ok((stack, pass, moments))
        };
        Ok(Learner {
            config: config.clone(),
            ranks: setting.ranks,
            device: device.clone(),
            held: device.hold(&herd.packed, &vec![Default::default(); m])?,
            conditions,
            seed,
            first: FirstLayer::new(device, m, discriminator.inputs, (seed, STREAMS[1]))?,
            classes: device.values(rows * CLASSES * m)?,
            sums: device.values(2 * rows * discriminator.inputs)?,
            generator: chain(&generator, STREAMS[0], rows)?,
            discriminator: chain(&discriminator, STREAMS[2], 2 * rows)?,
        })
    }

    /// Conditions of this rank's animals.
    fn own_conditions(&self, batch: &Batch) -> Vec<f64> {
        let of = |c: &Array2<f64>| c.select(Axis(0), &batch.animals).into_raw_vec_and_offset().0;
        self.conditions.map_or_else(Vec::new, of)
    }

    /// Animals with the conditions of a batch, as soft classes. Collective.
    fn make(&mut self, batch: &Batch, index: u64, temperature: f64) -> Result<()> {
        let (b, conditions) = (batch.len(), self.own_conditions(batch));
        let (stack, pass, _) = &mut self.generator;
        let (latent, width) = (stack.plan().inputs, stack.outputs());
        let draw = batch.draw(self.seed, Purpose::Latent, index, latent);
        self.device.normals(draw, latent, pass.input_mut().part_mut(0..b * latent))?;
        self.device.write(&conditions, pass.conditions_mut().part_mut(0..conditions.len()))?;
        let (rows, mode) = batch.of_chain(b, self.seed);
        stack.forward(self.ranks, &rows, mode, pass)?;
        let whole = 0..b * width;
        self.device.copy(pass.output().part(whole.clone()), self.classes.part_mut(whole.clone()))?;
        let noise = batch.draw(self.seed, Purpose::Gumbel, index, width);
        self.device.softmax(temperature, Some(noise), width, self.classes.part_mut(whole))
    }

    /// The discriminator's view of the rows in `sums`: mean losses over the batch of the rows that are `real` and of the
    /// others, whose slopes go backward; the rows `learn`, if any, make the gradient. Collective.
    fn discriminator(&mut self, batch: &Batch, signs: &[f64], learn: Option<Range<usize>>) -> Result<f64> {
        let (rows, b, device) = (signs.len(), batch.len(), self.device.clone());
        let conditions = self.own_conditions(batch);
        let (stack, pass, _) = &mut self.discriminator;
        let input = 0..rows * stack.plan().inputs;
        device.copy(self.sums.part(input.clone()), pass.input_mut().part_mut(input.clone()))?;
        for part in 0..rows.checked_div(b).unwrap_or(0) {
            let at = part * conditions.len();
            device.write(&conditions, pass.conditions_mut().part_mut(at..at + conditions.len()))?;
        }
        let (all, mode) = batch.of_chain(rows, self.seed);
        stack.forward(self.ranks, &all, mode, pass)?;
        let mut given = vec![0.0; rows];
        device.read(pass.output().part(0..rows), &mut given)?;
        let each = 1.0 / batch.count as f64;
        let of = |(x, sign): (&f64, &f64)| loss(sign * x);
        let losses: Vec<(f64, f64)> = given.iter().zip(signs).map(of).collect();
        let slope: Vec<f64> = losses.iter().zip(signs).map(|(loss, sign)| each * sign * loss.1).collect();
        device.write(&slope, pass.slope_mut().part_mut(0..rows))?;
        stack.backward(self.ranks, &all, mode, learn, pass)?;
        device.copy(pass.input_slope().part(input.clone()), self.sums.part_mut(input))?;
        let mut total = [each * losses.iter().map(|loss| loss.0).sum::<f64>()];
        self.ranks.data.world().sum_f64(&mut total);
        Ok(total[0])
    }

    /// The discriminator's loss of a batch and its gradient. Collective.
    fn judge_gradient(&mut self, batch: &Batch, temperature: f64) -> Result<f64> {
        self.make(batch, STEPS * batch.step, temperature)?;
        let (b, rows): (usize, Rows) = (batch.len(), batch.rows(&*self.device)?);
        self.first.see(&self.held, &rows, &mut self.sums)?;
        self.first.see_classes(&self.classes, b, (&mut self.sums, b))?;
        let signs = [vec![1.0; b], vec![-1.0; b]].concat();
        let loss = self.discriminator(batch, &signs, Some(0..2 * b))?;
        self.first.learn(&self.held, &rows, Some((&self.classes, b)), &self.sums)?;
        self.first.sum_gradient(self.ranks)?;
        self.discriminator.0.sum_gradient(self.ranks, &mut self.discriminator.1)?;
        Ok(loss)
    }

    /// The generator's loss of a batch and its gradient. Collective.
    fn maker_gradient(&mut self, batch: &Batch, temperature: f64) -> Result<f64> {
        self.make(batch, STEPS * batch.step + 1, temperature)?;
        let (b, device) = (batch.len(), self.device.clone());
        self.first.see_classes(&self.classes, b, (&mut self.sums, 0))?;
        let loss = self.discriminator(batch, &vec![1.0; b], None)?;
        let (stack, pass, _) = &mut self.generator;
        let whole = 0..b * stack.outputs();
        self.first.slope_by_classes(&self.sums, b, pass.slope_mut())?;
        let y = self.classes.part(whole.clone());
        device.softmax_backward(temperature, y, pass.slope_mut().part_mut(whole))?;
        let (rows, mode) = batch.of_chain(b, self.seed);
        stack.backward(self.ranks, &rows, mode, Some(0..b), pass)?;
        stack.sum_gradient(self.ranks, pass)?;
        Ok(loss)
    }
}

impl Nets for Learner<'_> {
    /// A step of the discriminator, then one of the generator.
    fn learn(&mut self, batch: &Batch, at: At) -> Result<Vec<f64>> {
        let temperature = self.config.temperature_at(at.epoch);
        let judged = self.judge_gradient(batch, temperature)?;
        let betas = (0.5, 0.999);
        let of_discriminator = adam(self.config.discriminator_learning_rate, betas, batch.step);
        self.first.step(&of_discriminator)?;
        let (stack, pass, moments) = &mut self.discriminator;
        pass.step(&of_discriminator, moments, stack)?;
        let made = self.maker_gradient(batch, temperature)?;
        let (stack, pass, moments) = &mut self.generator;
        pass.step(&adam(self.config.generator_learning_rate, betas, batch.step), moments, stack)?;
        Ok(vec![judged, made])
    }

    fn device(&self) -> &Arc<dyn Network> {
        &self.device
    }

    fn buffers(&mut self) -> Vec<&mut Values> {
        let ((discriminator, _, of_discriminator), (generator, _, of_generator)) =
            (&mut self.discriminator, &mut self.generator);
        let chains = [of_chain(discriminator, of_discriminator), of_chain(generator, of_generator)];
        self.first.buffers().into_iter().chain(chains.into_iter().flatten()).collect()
    }

    fn running(&mut self) -> Vec<&mut RunningMoments> {
        vec![&mut self.discriminator.0.running, &mut self.generator.0.running]
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
        let mut learner = setting.ranks.world.agree(Learner::new(setting, herd, self))?;
        let epochs = Epochs {
            count: self.epochs,
            batch: self.batch,
            losses: &["discriminator", "generator"],
            per: vec![1.0; 2],
        };
        let curve = epochs::fit((setting, herd), &epochs, &mut learner, checkpointer)?;
        Ok(Trained { generator: Box::new(Gan { generator: learner.generator.0, room: None }), curve })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{herd, of_herd, shift};
    use super::*;

    /// The discriminator's first layer, the rest of it, the generator.
    fn parameters<'a>(learner: &'a mut Learner, part: usize) -> &'a mut Values {
        match part {
            0 => &mut learner.first.parameters,
            1 => &mut learner.discriminator.0.parameters,
            _ => &mut learner.generator.0.parameters,
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let device = crate::device::open("strict").unwrap();
        let ranks = Ranks::alone(&device);
        let (packed, variants) = herd(12, 5);
        let herd = of_herd(&ranks, packed, &variants);
        let config =
            Config { latent: 3, generator: vec![4, 6], discriminator: vec![5, 4], ..Config::default() };
        let setting = Setting { ranks: &ranks, device: &device, seed: 5 };
        let mut learner = Learner::new(&setting, &herd, &config).unwrap();
        let batch = Batch { animals: vec![3, 1, 8, 11, 4, 0], first: 0, count: 6, step: 2 };
        for part in 0..3 {
            let loss = |learner: &mut Learner| match part {
                2 => learner.maker_gradient(&batch, 0.7).unwrap(),
                _ => learner.judge_gradient(&batch, 0.7).unwrap(),
            };
            loss(&mut learner);
            let values = match part {
                0 => &learner.first.gradient,
                1 => learner.discriminator.1.gradient(),
                _ => learner.generator.1.gradient(),
            };
            let mut found = vec![0.0; values.len()];
            device.read(values.whole(), &mut found).unwrap();
            let largest = found.iter().fold(0.0f64, |a, g| a.max(g.abs()));
            assert!(largest > 1e-4);
            for (at, &found) in found.iter().enumerate().step_by(3) {
                let mut moved = |step: f64| {
                    shift(&*device, parameters(&mut learner, part), at, step);
                    let loss = loss(&mut learner);
                    shift(&*device, parameters(&mut learner, part), at, -step);
                    loss
                };
                let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                let most = 1e-6 * found.abs() + 1e-7 * largest;
                assert!((found - slope).abs() < most, "part {part} [{at}]: {found}, slope {slope}");
            }
        }
    }
}
