//! A variational autoencoder (Kingma & Welling 2014): an encoder from genotypes to the mean and variance of a few
//! latent numbers, and a decoder from latent numbers to the three classes of each SNP.
//!
//! What is learnt is Σ −ln p(call) over the SNPs + KL(q(z|x) ‖ N(0, 1)), mean over the animals.

use super::epochs::{self, of_chain, At, Epochs, Nets};
use super::learning::{
    adam, by_blocks, draw_block, likeliest, placed, scaled, wrong_width, Batch, FirstLayer, BLOCK,
};
use super::{as_text, configured, Generator, Header, Herd, Kind, Reader, Recipe, Setting, Trained, Writer};
use crate::device::network::{Network, Values, CLASSES};
use crate::device::Genotypes;
use crate::error::{Error, Result};
use crate::nn::checkpointer::Checkpointer;
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
    name: "vae",
    about: "A variational autoencoder with the three classes of each SNP",
    split: false,
    conditional: true,
    resumes: true,
    configure: |file| {
        let config: Config = configured(file)?;
        config.check(file.map_or("".as_ref(), |f| f.1))?;
        Ok(Box::new(config))
    },
    read: |reader, header, _, device| Ok(Box::new(Vae::read(reader, header, device)?)),
};

/// SNPs of the chromosome of the published network.
const PUBLISHED: usize = 1771;
/// Streams of first weights.
const STREAMS: [u64; 3] = [0, 1000, 2000];

/// What it is made of and how it learns; the defaults are the published ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Units of the encoder's layers; the decoder has the mirror. None for 1024, 512 and 256, fewer below 1,771 SNPs.
    pub widths: Vec<usize>,
    /// Latent numbers; 0 for 128, fewer below 1,771 SNPs.
    pub latent: usize,
    /// LeakyReLU's slope below zero.
    pub negative_slope: f64,
    /// Weight of the KL divergence.
    pub kl: f64,
    /// Adam's learning rate.
    pub learning_rate: f64,
    /// Animals in a batch, at most.
    pub batch: usize,
    /// Rounds through the animals.
    pub epochs: usize,
    /// Whether calls of generated animals are drawn by the decoder's probabilities; else the likeliest are taken.
    pub draw_calls: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            widths: Vec::new(),
            latent: 0,
            negative_slope: 0.05,
            kl: 1.0,
            learning_rate: 5e-4,
            batch: 256,
            epochs: 200,
            draw_calls: false,
        }
    }
}

impl Config {
    fn check(&self, path: &Path) -> Result<()> {
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let rules = [
            (
                self.widths.iter().all(|h| (1..=1 << 16).contains(h)),
                "`widths` from 1 to 65536",
                wrong_width(&self.widths),
            ),
            (self.latent <= 1 << 16, "a `latent` up to 65536", self.latent as f64),
            (
                (0.0..1.0).contains(&self.negative_slope),
                "a `negative_slope` of at least 0 and below 1",
                self.negative_slope,
            ),
            (self.kl >= 0.0 && self.kl.is_finite(), "a `kl` of 0 or more", self.kl),
            (positive(self.learning_rate), "a positive `learning_rate`", self.learning_rate),
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

    /// Units of the encoder's layers and latent numbers for `m` SNPs.
    fn sizes(&self, m: usize) -> (Vec<usize>, usize) {
        let of = |width: usize| scaled(width, m, PUBLISHED, 16);
        let widths =
            if self.widths.is_empty() { [1024, 512, 256].map(of).to_vec() } else { self.widths.clone() };
        (widths, if self.latent == 0 { of(128) } else { self.latent })
    }

    /// The encoder behind its first layer, and the decoder, for `m` SNPs and `c` conditions.
    fn plans(&self, m: usize, c: usize) -> [Plan; 2] {
        let (widths, latent) = self.sizes(m);
        let after = [Step::Normalise(Normalisation::Batch), Step::leaky_relu(self.negative_slope)];
        let linear = |units: usize, conditions: bool| Step::Linear { units, bias: false, conditions };
        let mut encoder = after.to_vec();
        for &units in &widths[1..] {
            encoder.push(linear(units, false));
            encoder.extend(after);
        }
        encoder.push(Step::Linear { units: 2 * latent, bias: true, conditions: c > 0 });
        let mut decoder = Vec::new();
        for (k, &units) in widths.iter().rev().enumerate() {
            decoder.push(linear(units, k == 0 && c > 0));
            decoder.extend(after);
        }
        decoder.push(Step::linear(CLASSES * m));
        [
            Plan { snps: None, inputs: widths[0], conditions: c, steps: encoder },
            Plan { snps: None, inputs: latent, conditions: c, steps: decoder },
        ]
    }
}

/// A decoder that makes animals.
pub struct Vae {
    decoder: Stack,
    draw_calls: bool,
    room: Option<Room>,
}

struct Room {
    pass: Pass,
    classes: Values,
}

impl Vae {
    fn new(decoder: Stack, draw_calls: bool) -> Vae {
        Vae { decoder, draw_calls, room: None }
    }

    fn read(reader: &Reader, header: &Header, device: &Arc<dyn Network>) -> Result<Vae> {
        let config: Config = configured(Some((&header.config, Path::new("model"))))?;
        let (m, c) = (header.variants.len(), header.conditions.as_ref().map_or(0, |c| c.names.len()));
        let decoder = reader.stack("decoder", device, (config.sizes(m).1, c, CLASSES * m))?;
        Ok(Vae::new(decoder, config.draw_calls))
    }

    fn room(&mut self) -> Result<()> {
        if self.room.is_none() {
            let classes = self.decoder.device().values(BLOCK * self.decoder.outputs())?;
            self.room = Some(Room { pass: Pass::new(&self.decoder, Use::forward(BLOCK))?, classes });
        }
        Ok(())
    }
}

impl Generator for Vae {
    fn conditions(&self) -> usize {
        self.decoder.plan().conditions
    }

    fn draw(
        &mut self,
        ranks: &Ranks,
        animals: Range<u64>,
        conditions: Option<ArrayView2<f64>>,
        seed: u64,
    ) -> Result<Packed> {
        self.room()?;
        let Vae { decoder, draw_calls, room: Some(Room { pass, classes }) } = self else {
            return Err(Error::failed("generating", "there is no room", "please report this"));
        };
        let (device, latent, width) = (decoder.device().clone(), decoder.plan().inputs, decoder.outputs());
        let m = width / CLASSES;
        by_blocks(animals, m, |number, rows, at| {
            let draw = draw_block(seed, Purpose::Latent, number, latent);
            device.normals(draw, latent, pass.input_mut().whole_mut())?;
            if let Some(conditions) = conditions {
                device.write(&placed(conditions, &rows, at), pass.conditions_mut().whole_mut())?;
            }
            decoder.forward(ranks, &nn::Batch::of_rows(BLOCK, BLOCK), Mode::Predict, pass)?;
            device.copy(pass.output().whole(), classes.whole_mut())?;
            // The largest of logits with Gumbel noise is a draw by their softmax (Jang et al. 2017, eq. 1).
            let noise = draw_calls.then(|| draw_block(seed, Purpose::Gumbel, number, width));
            device.softmax(1.0, noise, width, classes.whole_mut())?;
            likeliest(&*device, classes, rows, m)
        })
    }

    fn write(&self, _: &Ranks, to: &mut Writer) -> Result<()> {
        to.stack("decoder", &self.decoder)
    }
}

/// Encoder and decoder in training.
struct Learner<'a> {
    ranks: &'a Ranks,
    device: Arc<dyn Network>,
    held: Genotypes,
    conditions: Option<&'a Array2<f64>>,
    kl: f64,
    learning_rate: f64,
    seed: u64,
    first: FirstLayer,
    encoder: (Stack, Pass, Moments),
    decoder: (Stack, Pass, Moments),
    sums: Values,
    losses: Values,
}

/// Σ −ln p of the calls and the divergence, means over the animals of a batch.
type Costs = [f64; 2];

impl<'a> Learner<'a> {
    fn new(setting: &Setting<'a>, herd: &'a Herd, config: &Config) -> Result<Learner<'a>> {
        let (device, m, seed) = (setting.device, herd.variants.len(), setting.seed);
        let conditions = herd.conditions.as_ref().map(|c| &c.values);
        let [encoder, decoder] = config.plans(m, conditions.map_or(0, |c| c.ncols()));
        let first = FirstLayer::new(device, m, encoder.inputs, (seed, STREAMS[0]))?;
        let rows = config.batch.min(herd.animals()).max(3);
        let chain = |plan: &Plan, stream: u64| -> Result<(Stack, Pass, Moments)> {
            let stack = Stack::new(device, plan, seed, stream)?;
            let pass = Pass::new(&stack, Use::learn(rows))?;
            let moments = Moments::new(&**device, stack.parameters.len())?;
            Ok((stack, pass, moments))
        };
        Ok(Learner {
            ranks: setting.ranks,
            device: device.clone(),
            held: device.hold(&herd.packed, &vec![Default::default(); m])?,
            conditions,
            kl: config.kl,
            learning_rate: config.learning_rate,
            seed,
            sums: device.values(rows * encoder.inputs)?,
            losses: device.values(rows)?,
            first,
            encoder: chain(&encoder, STREAMS[1])?,
            decoder: chain(&decoder, STREAMS[2])?,
        })
    }

    /// Costs of a batch and their gradient. Collective.
    fn gradient(&mut self, batch: &Batch) -> Result<Costs> {
        let (b, device, ranks) = (batch.len(), self.device.clone(), self.ranks);
        let (latent, (all, mode)) = (self.decoder.0.plan().inputs, batch.of_chain(b, self.seed));
        let rows = batch.rows(&*device)?;
        self.first.see(&self.held, &rows, &mut self.sums)?;
        let (stack, pass, _) = &mut self.encoder;
        let input = 0..b * stack.plan().inputs;
        device.copy(self.sums.part(input.clone()), pass.input_mut().part_mut(input.clone()))?;
        if let Some(conditions) = self.conditions {
            let own = conditions.select(Axis(0), &batch.animals);
            let own = own.as_slice().expect("standard layout");
            for pass in [&mut *pass, &mut self.decoder.1] {
                device.write(own, pass.conditions_mut().part_mut(0..own.len()))?;
            }
        }
        stack.forward(ranks, &all, mode, pass)?;
        let mut code = Code::new(&*device, pass.output(), (b, latent))?;
        let (stack, pass, _) = &mut self.decoder;
        let draw = batch.draw(self.seed, Purpose::Latent, batch.step, latent);
        device.normals(draw, latent, pass.input_mut().part_mut(0..b * latent))?;
        device.read(pass.input_mut().part(0..b * latent), &mut code.noise)?;
        device.write(&code.drawn(), pass.input_mut().part_mut(0..b * latent))?;
        stack.forward(ranks, &all, mode, pass)?;
        let (each, whole) = (1.0 / batch.count as f64, 0..b * stack.outputs());
        let (logits, slope) = pass.output_and_slope_mut();
        let (logits, slope) = (logits.part(whole.clone()), slope.part_mut(whole));
        device.cross_entropy(&self.held, &rows, each, logits, self.losses.part_mut(0..b), slope)?;
        stack.backward(ranks, &all, mode, Some(0..b), pass)?;
        let mut by_code = vec![0.0; b * latent];
        device.read(pass.input_slope().part(0..b * latent), &mut by_code)?;
        let mut losses = vec![0.0; b];
        device.read(self.losses.part(0..b), &mut losses)?;
        let mut losses = [losses.iter().sum::<f64>(), code.divergence() * each];
        let slope = code.slope(&by_code, self.kl * each);
        let (stack, pass, _) = &mut self.encoder;
        device.write(&slope, pass.slope_mut().part_mut(0..slope.len()))?;
        stack.backward(ranks, &all, mode, Some(0..b), pass)?;
        device.copy(pass.input_slope().part(input.clone()), self.sums.part_mut(input))?;
        self.first.learn(&self.held, &rows, None, &self.sums)?;
        self.first.sum_gradient(ranks)?;
        for (stack, pass, _) in [&mut self.encoder, &mut self.decoder] {
            stack.sum_gradient(ranks, pass)?;
        }
        ranks.data.world().sum_f64(&mut losses);
        Ok(losses)
    }
}

impl Nets for Learner<'_> {
    fn learn(&mut self, batch: &Batch, _at: At) -> Result<Vec<f64>> {
        let losses = self.gradient(batch)?;
        let adam = adam(self.learning_rate, (0.9, 0.999), batch.step);
        self.first.step(&adam)?;
        for (stack, pass, moments) in [&mut self.encoder, &mut self.decoder] {
            pass.step(&adam, moments, stack)?;
        }
        Ok(losses.to_vec())
    }

    fn device(&self) -> &Arc<dyn Network> {
        &self.device
    }

    fn buffers(&mut self) -> Vec<&mut Values> {
        let ((encoder, _, of_encoder), (decoder, _, of_decoder)) = (&mut self.encoder, &mut self.decoder);
        let chains = [of_chain(encoder, of_encoder), of_chain(decoder, of_decoder)];
        self.first.buffers().into_iter().chain(chains.into_iter().flatten()).collect()
    }

    fn running(&mut self) -> Vec<&mut RunningMoments> {
        vec![&mut self.encoder.0.running, &mut self.decoder.0.running]
    }
}

/// What an encoder says of a batch: means and log variances of the latent numbers, and the noise that they are drawn
/// with, each (b, latent).
struct Code {
    mean: Vec<f64>,
    log_variance: Vec<f64>,
    noise: Vec<f64>,
    latent: usize,
}

impl Code {
    fn new(device: &dyn Network, output: &Values, (b, latent): (usize, usize)) -> Result<Code> {
        let mut both = vec![0.0; 2 * b * latent];
        device.read(output.part(0..both.len()), &mut both)?;
        let half = |at: usize| {
            both.chunks_exact(2 * latent).flat_map(|row| &row[at..at + latent]).copied().collect()
        };
        Ok(Code { mean: half(0), log_variance: half(latent), noise: vec![0.0; b * latent], latent })
    }

    /// z = μ + σ ε.
    fn drawn(&self) -> Vec<f64> {
        let z =
            |((mean, log_variance), noise): ((&f64, &f64), &f64)| mean + (0.5 * log_variance).exp() * noise;
        self.mean.iter().zip(&self.log_variance).zip(&self.noise).map(z).collect()
    }

    /// Σ KL = ½ Σ (μ² + σ² − 1 − ln σ²).
    fn divergence(&self) -> f64 {
        let of = |(mean, log): (&f64, &f64)| 0.5 * (mean * mean + log.exp() - 1.0 - log);
        self.mean.iter().zip(&self.log_variance).map(of).sum()
    }

    /// The slope by the encoder's output (b, 2 latent), from that by z, with the divergence weighed by `weight`.
    fn slope(&self, by_z: &[f64], weight: f64) -> Vec<f64> {
        let mut out = vec![0.0; 2 * by_z.len()];
        for (i, &d) in by_z.iter().enumerate() {
            let at = i / self.latent * 2 * self.latent + i % self.latent;
            let log = self.log_variance[i];
            out[at] = d + weight * self.mean[i];
            out[at + self.latent] =
                0.5 * d * (0.5 * log).exp() * self.noise[i] + weight * 0.5 * (log.exp() - 1.0);
        }
        out
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
        let mut learner = ranks.world.agree(Learner::new(setting, herd, self))?;
        let (m, latent) = (herd.variants.len() as f64, learner.decoder.0.plan().inputs as f64);
        let epochs = Epochs {
            count: self.epochs,
            batch: self.batch,
            losses: &["cross_entropy_per_snp", "divergence_per_latent"],
            per: vec![m, latent],
        };
        let curve = epochs::fit((setting, herd), &epochs, &mut learner, checkpointer)?;
        let generator = Box::new(Vae::new(learner.decoder.0, self.draw_calls));
        Ok(Trained { generator, curve })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{herd, of_herd, shift};
    use super::*;

    /// The loss of a batch as it is learnt, and the gradient's parts.
    fn gradient(learner: &mut Learner, batch: &Batch) -> (f64, Vec<Vec<f64>>) {
        let [entropy, divergence] = learner.gradient(batch).unwrap();
        let read = |values: &Values| {
            let mut out = vec![0.0; values.len()];
            learner.device.read(values.whole(), &mut out).unwrap();
            out
        };
        let parts = [&learner.first.gradient, learner.encoder.1.gradient(), learner.decoder.1.gradient()];
        (entropy + learner.kl * divergence, parts.map(read).to_vec())
    }

    /// The encoder's first layer, the rest of it, the decoder.
    fn parameters<'a>(learner: &'a mut Learner, part: usize) -> &'a mut Values {
        match part {
            0 => &mut learner.first.parameters,
            1 => &mut learner.encoder.0.parameters,
            _ => &mut learner.decoder.0.parameters,
        }
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let device = crate::device::open("strict").unwrap();
        let ranks = Ranks::alone(&device);
        let (packed, variants) = herd(12, 7);
        let mut herd = of_herd(&ranks, packed, &variants);
        let values = Array2::from_shape_fn((12, 1), |(i, _)| (i as f64).sin());
        herd.conditions = Some(super::super::Conditions {
            names: vec!["milk".into()],
            mean: vec![0.0],
            sd: vec![1.0],
            values,
        });
        let config = Config { widths: vec![6, 5], latent: 3, kl: 0.7, ..Config::default() };
        let setting = Setting { ranks: &ranks, device: &device, seed: 5 };
        let mut learner = Learner::new(&setting, &herd, &config).unwrap();
        let batch = Batch { animals: vec![3, 1, 8, 11, 4, 0], first: 0, count: 6, step: 2 };
        let (_, found) = gradient(&mut learner, &batch);
        for (part, found) in found.iter().enumerate() {
            let largest = found.iter().fold(0.0f64, |a, g| a.max(g.abs()));
            assert!(largest > 1e-3);
            for (at, &found) in found.iter().enumerate().step_by(3) {
                let mut moved = |step: f64| {
                    shift(&*device, parameters(&mut learner, part), at, step);
                    let loss = gradient(&mut learner, &batch).0;
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
