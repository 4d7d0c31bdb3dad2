//! A generative adversarial network (Goodfellow et al. 2014) on the three classes of each SNP, which Gumbel noise makes
//! discrete (Jang et al. 2017): a maker from latent numbers to classes, and a judge of what is real.
//!
//! The judge learns from −ln σ(D(x)) − ln σ(−D(x̃)), the maker from −ln σ(D(x̃)), means over the animals.

use super::epochs::{self, of_chain, At, Epochs, Learns};
use super::learning::{
    adam, by_blocks, draw_block, likeliest, placed, scaled, wrong_width, Batch, FirstLayer, BLOCK,
};
use super::{as_text, configured, Generator, Header, Herd, Kind, Reader, Recipe, Setting, Trained, Writer};
use crate::device::network::{Network, Rows, Values, CLASSES};
use crate::device::Genotypes;
use crate::error::{Error, Result};
use crate::nn::keeper::Keeper;
use crate::nn::running::RunningMoments;
use crate::nn::stack::{Mode, Moments, Pass, Plan, Stack, Step, Use};
use crate::nn::{Normalisation, Ranks};
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
    configure: |file| {
        let config: Config = configured(file)?;
        config.check(file.map_or("".as_ref(), |f| f.1))?;
        Ok(Box::new(config))
    },
    read: |reader, header, _, device| Ok(Box::new(Gan::read(reader, header, device)?)),
};

/// SNPs of the chromosome of the published network.
const PUBLISHED: usize = 1771;
/// Streams of first weights: the maker, the judge's first layer, the rest of it.
const STREAMS: [u64; 3] = [0, 1000, 2000];
/// Index of the latent numbers and noise of the judge's step, and of the maker's, of step k: 2k and 2k + 1.
const STEPS: u64 = 2;

/// What it is made of and how it learns; the defaults are the published ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Latent numbers.
    pub latent: usize,
    /// Units of the maker's layers; none for 885 and 1771, fewer below 1,771 SNPs.
    pub maker: Vec<usize>,
    /// Units of the judge's layers; none for 1062 and 531, fewer below 1,771 SNPs.
    pub judge: Vec<usize>,
    /// LeakyReLU's slope below zero.
    pub slope: f64,
    /// Adam's learning rate of the maker.
    pub maker_rate: f64,
    /// Adam's learning rate of the judge.
    pub judge_rate: f64,
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
            maker: Vec::new(),
            judge: Vec::new(),
            slope: 0.05,
            maker_rate: 5e-4,
            judge_rate: 1e-4,
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
            (widths(&self.maker), "widths of `maker` from 1 to 65536", wrong_width(&self.maker)),
            (widths(&self.judge), "widths of `judge` from 1 to 65536", wrong_width(&self.judge)),
            ((0.0..1.0).contains(&self.slope), "a `slope` of at least 0 and below 1", self.slope),
            (positive(self.maker_rate), "a positive `maker_rate`", self.maker_rate),
            (positive(self.judge_rate), "a positive `judge_rate`", self.judge_rate),
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

    /// The maker, and the judge behind its first layer, for `m` SNPs and `c` conditions.
    fn plans(&self, m: usize, c: usize) -> [Plan; 2] {
        let of = |width: usize| scaled(width, m, PUBLISHED, 16);
        let or = |given: &[usize], published: [usize; 2]| match given {
            [] => published.map(of).to_vec(),
            given => given.to_vec(),
        };
        let (makes, judges) = (or(&self.maker, [885, 1771]), or(&self.judge, [1062, 531]));
        let leaky = Step::leaky_relu(self.slope);
        let mut maker = Vec::new();
        for (k, &units) in makes.iter().enumerate() {
            let linear = Step::Linear { units, bias: false, conditions: k == 0 && c > 0 };
            maker.extend([linear, Step::Normalise(Normalisation::Batch), leaky]);
        }
        maker.push(Step::linear(CLASSES * m));
        let mut judge = vec![leaky];
        for (k, &units) in judges[1..].iter().chain(&[1]).enumerate() {
            judge.push(Step::Linear { units, bias: true, conditions: k == 0 && c > 0 });
            judge.push(leaky);
        }
        judge.pop();
        [
            Plan { inputs: self.latent, conditions: c, steps: maker },
            Plan { inputs: judges[0], conditions: c, steps: judge },
        ]
    }

    fn temperature_at(&self, epoch: usize) -> f64 {
        let way = epoch as f64 / (self.epochs.max(2) - 1) as f64;
        self.temperature + (self.last_temperature - self.temperature) * way
    }
}

/// A maker of animals.
pub struct Gan {
    maker: Stack,
    room: Option<(Pass, Values)>,
}

impl Gan {
    fn read(reader: &Reader, header: &Header, device: &Arc<dyn Network>) -> Result<Gan> {
        let config: Config = configured(Some((&header.config, Path::new("model"))))?;
        let (m, c) = (header.variants.len(), header.conditions.as_ref().map_or(0, |c| c.names.len()));
        let maker = reader.stack("maker", device, (config.latent, c, CLASSES * m))?;
        Ok(Gan { maker, room: None })
    }
}

impl Generator for Gan {
    fn conditions(&self) -> usize {
        self.maker.plan().conditions
    }

    fn draw(
        &mut self,
        ranks: &Ranks,
        animals: Range<u64>,
        conditions: Option<ArrayView2<f64>>,
        seed: u64,
    ) -> Result<Packed> {
        let (device, latent) = (self.maker.device().clone(), self.maker.plan().inputs);
        let (width, m) = (self.maker.outputs(), self.maker.outputs() / CLASSES);
        let (mut pass, mut classes) = match self.room.take() {
            Some(room) => room,
            None => (Pass::new(&self.maker, Use::forward(BLOCK))?, device.values(BLOCK * width)?),
        };
        let drawn = by_blocks(animals, m, |number, rows, at| {
            let draw = draw_block(seed, Purpose::Latent, number, latent);
            device.normals(draw, latent, pass.input_mut().whole_mut())?;
            if let Some(conditions) = conditions {
                device.write(&placed(conditions, &rows, at), pass.conditions_mut().whole_mut())?;
            }
            self.maker.forward(ranks, BLOCK, Mode::Predict, &mut pass)?;
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
        to.stack("maker", &self.maker)
    }
}

/// Maker and judge in training.
struct Learner<'a> {
    config: Config,
    ranks: &'a Ranks,
    device: Arc<dyn Network>,
    held: Genotypes,
    conditions: Option<&'a Array2<f64>>,
    seed: u64,
    maker: (Stack, Pass, Moments),
    first: FirstLayer,
    judge: (Stack, Pass, Moments),
    /// Classes of made animals (b, 3m).
    classes: Values,
    /// Of the judge's first layer, (2b, h).
    sums: Values,
}

/// −ln σ(x), and its slope.
fn cost(x: f64) -> (f64, f64) {
    // Without overflow on either side.
    let cost = if x > 0.0 { (-x).exp().ln_1p() } else { x.exp().ln_1p() - x };
    (cost, -1.0 / (1.0 + x.exp()))
}

impl<'a> Learner<'a> {
    fn new(setting: &Setting<'a>, herd: &'a Herd, config: &Config) -> Result<Learner<'a>> {
        let (device, m, seed) = (setting.device, herd.variants.len(), setting.seed);
        let conditions = herd.conditions.as_ref().map(|c| &c.values);
        let [maker, judge] = config.plans(m, conditions.map_or(0, |c| c.ncols()));
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
            first: FirstLayer::new(device, m, judge.inputs, (seed, STREAMS[1]))?,
            classes: device.values(rows * CLASSES * m)?,
            sums: device.values(2 * rows * judge.inputs)?,
            maker: chain(&maker, STREAMS[0], rows)?,
            judge: chain(&judge, STREAMS[2], 2 * rows)?,
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
        let (stack, pass, _) = &mut self.maker;
        let (latent, width) = (stack.plan().inputs, stack.outputs());
        let draw = batch.draw(self.seed, Purpose::Latent, index, latent);
        self.device.normals(draw, latent, pass.input_mut().part_mut(0..b * latent))?;
        self.device.write(&conditions, pass.conditions_mut().part_mut(0..conditions.len()))?;
        stack.forward(self.ranks, b, Mode::Train { count: batch.count }, pass)?;
        let whole = 0..b * width;
        self.device.copy(pass.output().part(whole.clone()), self.classes.part_mut(whole.clone()))?;
        let noise = batch.draw(self.seed, Purpose::Gumbel, index, width);
        self.device.softmax(temperature, Some(noise), width, self.classes.part_mut(whole))
    }

    /// The judge's view of the rows in `sums`: mean costs over the batch of the rows that are `real` and of the
    /// others, whose slopes go backward; the rows `learn` make the gradient. Collective.
    fn judge(&mut self, batch: &Batch, signs: &[f64], learn: Range<usize>) -> Result<f64> {
        let (rows, b, device) = (signs.len(), batch.len(), self.device.clone());
        let conditions = self.own_conditions(batch);
        let (stack, pass, _) = &mut self.judge;
        let input = 0..rows * stack.plan().inputs;
        device.copy(self.sums.part(input.clone()), pass.input_mut().part_mut(input.clone()))?;
        for part in 0..rows.checked_div(b).unwrap_or(0) {
            let at = part * conditions.len();
            device.write(&conditions, pass.conditions_mut().part_mut(at..at + conditions.len()))?;
        }
        stack.forward(self.ranks, rows, Mode::Train { count: batch.count }, pass)?;
        let mut given = vec![0.0; rows];
        device.read(pass.output().part(0..rows), &mut given)?;
        let each = 1.0 / batch.count as f64;
        let of = |(x, sign): (&f64, &f64)| cost(sign * x);
        let costs: Vec<(f64, f64)> = given.iter().zip(signs).map(of).collect();
        let slope: Vec<f64> = costs.iter().zip(signs).map(|(cost, sign)| each * sign * cost.1).collect();
        device.write(&slope, pass.slope_mut().part_mut(0..rows))?;
        stack.backward(self.ranks, rows, learn, pass)?;
        device.copy(pass.input_slope().part(input.clone()), self.sums.part_mut(input))?;
        let mut total = [each * costs.iter().map(|cost| cost.0).sum::<f64>()];
        self.ranks.data.world().sum_f64(&mut total);
        Ok(total[0])
    }

    /// The judge's cost of a batch and its gradient. Collective.
    fn judge_gradient(&mut self, batch: &Batch, temperature: f64) -> Result<f64> {
        self.make(batch, STEPS * batch.step, temperature)?;
        let (b, rows): (usize, Rows) = (batch.len(), batch.rows(&*self.device)?);
        self.first.see(&self.held, &rows, &mut self.sums)?;
        self.first.see_classes(&self.classes, b, (&mut self.sums, b))?;
        let signs = [vec![1.0; b], vec![-1.0; b]].concat();
        let cost = self.judge(batch, &signs, 0..2 * b)?;
        self.first.learn(&self.held, &rows, Some((&self.classes, b)), &self.sums)?;
        self.first.sum_gradient(self.ranks)?;
        self.judge.0.sum_gradient(self.ranks, &mut self.judge.1)?;
        Ok(cost)
    }

    /// The maker's cost of a batch and its gradient. Collective.
    fn maker_gradient(&mut self, batch: &Batch, temperature: f64) -> Result<f64> {
        self.make(batch, STEPS * batch.step + 1, temperature)?;
        let (b, device) = (batch.len(), self.device.clone());
        self.first.see_classes(&self.classes, b, (&mut self.sums, 0))?;
        let cost = self.judge(batch, &vec![1.0; b], 0..0)?;
        let (stack, pass, _) = &mut self.maker;
        let whole = 0..b * stack.outputs();
        self.first.slope_by_classes(&self.sums, b, pass.slope_mut())?;
        let y = self.classes.part(whole.clone());
        device.softmax_backward(temperature, y, pass.slope_mut().part_mut(whole))?;
        stack.backward(self.ranks, b, 0..b, pass)?;
        stack.sum_gradient(self.ranks, pass)?;
        Ok(cost)
    }
}

impl Learns for Learner<'_> {
    /// A step of the judge, then one of the maker.
    fn learn(&mut self, batch: &Batch, at: At) -> Result<Vec<f64>> {
        let temperature = self.config.temperature_at(at.epoch);
        let judged = self.judge_gradient(batch, temperature)?;
        let betas = (0.5, 0.999);
        let of_judge = adam(self.config.judge_rate, betas, batch.step);
        self.first.step(&of_judge)?;
        let (stack, pass, moments) = &mut self.judge;
        pass.step(&of_judge, moments, stack)?;
        let made = self.maker_gradient(batch, temperature)?;
        let (stack, pass, moments) = &mut self.maker;
        pass.step(&adam(self.config.maker_rate, betas, batch.step), moments, stack)?;
        Ok(vec![judged, made])
    }

    fn device(&self) -> &Arc<dyn Network> {
        &self.device
    }

    fn buffers(&mut self) -> Vec<&mut Values> {
        let ((judge, _, of_judge), (maker, _, of_maker)) = (&mut self.judge, &mut self.maker);
        let chains = [of_chain(judge, of_judge), of_chain(maker, of_maker)];
        self.first.buffers().into_iter().chain(chains.into_iter().flatten()).collect()
    }

    fn running(&mut self) -> Vec<&mut RunningMoments> {
        vec![&mut self.judge.0.running, &mut self.maker.0.running]
    }
}

impl Recipe for Config {
    fn text(&self) -> String {
        as_text(self)
    }

    fn resumes(&self) -> bool {
        true
    }

    fn train(&self, setting: &Setting, herd: &Herd, keeper: Option<&mut Keeper>) -> Result<Trained> {
        let mut learner = setting.ranks.world.agree(Learner::new(setting, herd, self))?;
        let epochs =
            Epochs { count: self.epochs, batch: self.batch, costs: &["judge", "maker"], per: vec![1.0; 2] };
        let curve = epochs::fit((setting, herd), &epochs, &mut learner, keeper)?;
        Ok(Trained { generator: Box::new(Gan { maker: learner.maker.0, room: None }), curve })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{herd, of_herd, shift};
    use super::*;

    /// The judge's first layer, the rest of it, the maker.
    fn parameters<'a>(learner: &'a mut Learner, part: usize) -> &'a mut Values {
        match part {
            0 => &mut learner.first.parameters,
            1 => &mut learner.judge.0.parameters,
            _ => &mut learner.maker.0.parameters,
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let device = crate::device::open("strict").unwrap();
        let ranks = Ranks::alone(&device);
        let (packed, variants) = herd(12, 5);
        let herd = of_herd(&ranks, packed, &variants);
        let config = Config { latent: 3, maker: vec![4, 6], judge: vec![5, 4], ..Config::default() };
        let setting = Setting { ranks: &ranks, device: &device, seed: 5 };
        let mut learner = Learner::new(&setting, &herd, &config).unwrap();
        let batch = Batch { animals: vec![3, 1, 8, 11, 4, 0], first: 0, count: 6, step: 2 };
        for part in 0..3 {
            let cost = |learner: &mut Learner| match part {
                2 => learner.maker_gradient(&batch, 0.7).unwrap(),
                _ => learner.judge_gradient(&batch, 0.7).unwrap(),
            };
            cost(&mut learner);
            let values = match part {
                0 => &learner.first.gradient,
                1 => learner.judge.1.gradient(),
                _ => learner.maker.1.gradient(),
            };
            let mut found = vec![0.0; values.len()];
            device.read(values.whole(), &mut found).unwrap();
            let largest = found.iter().fold(0.0f64, |a, g| a.max(g.abs()));
            assert!(largest > 1e-4);
            for (at, &found) in found.iter().enumerate().step_by(3) {
                let mut moved = |step: f64| {
                    shift(&*device, parameters(&mut learner, part), at, step);
                    let cost = cost(&mut learner);
                    shift(&*device, parameters(&mut learner, part), at, -step);
                    cost
                };
                let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                let most = 1e-6 * found.abs() + 1e-7 * largest;
                assert!((found - slope).abs() < most, "part {part} [{at}]: {found}, slope {slope}");
            }
        }
    }
}
