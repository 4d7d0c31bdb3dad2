//! Checkpoints of a generator in training, and its model file.

use super::config::{Config, Network as Shape};
use super::draw::Room;
use super::nets::{GeneratorNet, SnpLayer};
use super::train::{Fitted, Point, State, Trainer};
use crate::comm::layout::{chunks, snps_of};
use crate::device::network::{Network, Values, CLASSES};
use crate::error::Result;
use crate::generate::{as_text, Curve, Generator, Header, Herd, Reader, Writer};
use crate::nn::checkpoint::{blocks, broadcast, gather_whole, give_out_whole, Blocks};
use crate::nn::checkpointer::Checkpointed;
use crate::nn::Ranks;
use crate::packed::Packed;
use ndarray::ArrayView2;
use std::ops::Range;
use std::sync::Arc;

/// Buffers of chains: the generator's parameters, moments and best parameters, the critic's parameters and moments.
const CHAINS: usize = 7;

impl Trainer<'_> {
    /// A buffer of a chain, or of one of this rank's runs of SNPs.
    fn buffer(&mut self, number: usize, run: Option<usize>) -> &mut Values {
        let learner = &mut self.learner;
        let (generator, critic, work) = (&mut learner.generator, &mut learner.critic, &mut learner.work);
        let Some(run) = run else {
            return match number {
                0 => &mut generator.stack.parameters,
                1 => &mut work.generator_moments.first,
                2 => &mut work.generator_moments.second,
                3 => &mut self.best[0],
                4 => &mut critic.stack.parameters,
                5 => &mut work.critic_moments.first,
                _ => &mut work.critic_moments.second,
            };
        };
        let of = &mut work.runs[run];
        match number {
            0 => generator.snp_layer[run].parameters_mut(),
            1 => &mut of.generator.1.first,
            2 => &mut of.generator.1.second,
            3 => &mut self.best[1 + run],
            4 => critic.snp_layer[run].parameters_mut(),
            5 => &mut of.critic.1.first,
            _ => &mut of.critic.1.second,
        }
    }

    /// Gives a piece of a buffer of runs to `put` on the root, from the rank that has it. Collective over the root's
    /// line.
    fn piece_to_root(&mut self, number: usize, piece: usize, read: &mut Blocks, put: &mut dyn FnMut(&[f64])) {
        let ranks = self.learner.ranks;
        let (line, pieces, own) = (ranks.snps.world(), ranks.snps.pieces(), ranks.snps.own());
        let length = snps_of(self.learner.generator.m, piece, pieces).len() * CLASSES * self.columns(number);
        if own.contains(&piece) {
            let values = self.buffer(number, Some(piece - own.start));
            return read.each(values, 0..length, &mut |block| match line.is_root() {
                true => put(block),
                false => line.send(0, block),
            });
        }
        let owner = (0..line.size()).find(|&rank| ranks.snps.owned_by(rank).contains(&piece));
        if let (true, Some(owner)) = (line.is_root(), owner) {
            blocks(0..length).for_each(|_| put(&line.receive::<f64>(owner)));
        }
    }

    /// Numbers of a class in a buffer of runs.
    fn columns(&self, number: usize) -> usize {
        let (h, c) = (self.learner.generator.stack.outputs(), self.learner.generator.stack.plan().conditions);
        if number < 4 {
            h + c + 1
        } else {
            h
        }
    }
}

impl Checkpointed for Trainer<'_> {
    fn single(&self) -> bool {
        self.learner.device.precision() >= f64::from(f32::EPSILON)
    }

    fn lengths(&self) -> Vec<usize> {
        let [generator, critic] =
            [&self.learner.generator.stack, &self.learner.critic.stack].map(|s| s.parameters.len());
        let chains = [generator; 4].into_iter().chain([critic; 3]);
        let classes = CLASSES * self.learner.generator.m;
        chains.chain((0..CHAINS).map(|number| classes * self.columns(number))).collect()
    }

    fn state(&mut self) -> Result<Vec<u8>> {
        self.settle()?;
        self.state.running[0] = self.learner.generator.stack.running.read(&*self.learner.device)?;
        Ok(postcard::to_stdvec(&self.state).expect("plain values serialize"))
    }

    fn gather(&mut self, buffer: usize, put: &mut dyn FnMut(&[f64])) -> Result<()> {
        let (ranks, device) = (self.learner.ranks, self.learner.device.clone());
        if buffer < CHAINS {
            return gather_whole(&ranks.world, &*device, self.buffer(buffer, None), put);
        }
        let mut read = Blocks::new(&*device);
        if ranks.data.world().rank() == 0 {
            for piece in 0..ranks.snps.pieces() {
                self.piece_to_root(buffer - CHAINS, piece, &mut read, put);
            }
        }
        ranks.world.agree(read.failure.map_or(Ok(()), Err))
    }

    fn give_out(&mut self, buffer: usize, take: &mut dyn FnMut(&mut [f64])) -> Result<()> {
        let (ranks, device, m) = (self.learner.ranks, self.learner.device.clone(), self.learner.generator.m);
        if buffer < CHAINS {
            return give_out_whole(&ranks.world, &*device, take, self.buffer(buffer, None));
        }
        let mut written = Blocks::new(&*device);
        let columns = CLASSES * self.columns(buffer - CHAINS);
        let (own, pieces) = (ranks.snps.own(), ranks.snps.pieces());
        for piece in 0..pieces {
            for part in blocks(0..snps_of(m, piece, pieces).len() * columns) {
                let numbers = broadcast(&ranks.world, take, part.len());
                if own.contains(&piece) {
                    written.write(
                        &numbers,
                        self.buffer(buffer - CHAINS, Some(piece - own.start)),
                        part.start,
                    );
                }
            }
        }
        ranks.world.agree(written.failure.map_or(Ok(()), Err))
    }

    fn restore(&mut self, state: &[u8]) -> Result<Option<String>> {
        let state = postcard::from_bytes::<State>(state).ok().filter(|state| self.takes(state));
        let Some(state) = state else { return Ok(None) };
        self.learner.generator.stack.running.write(&*self.learner.device, &state.running[0])?;
        let at = format!("epoch {}, step {}", state.at.epoch, state.at.step);
        self.state = state;
        Ok(Some(at))
    }
}

/// The numbers of the ranks of a line one after the other, on the root. Collective.
fn to_root(ranks: &Ranks, mut own: Vec<f64>) -> Option<Vec<f64>> {
    let line = ranks.snps.world();
    if ranks.data.world().rank() > 0 {
        return None;
    }
    if !line.is_root() {
        line.send(0, &own);
        return None;
    }
    for rank in 1..line.size() {
        own.extend(line.receive::<f64>(rank));
    }
    Some(own)
}

/// A trained generator.
pub struct Wgan {
    generator: GeneratorNet,
    conditions: usize,
    shape: Shape,
    room: Option<Room>,
}

impl Wgan {
    /// With the best weights of a training.
    pub fn of(fitted: Fitted, config: &Config, herd: &Herd) -> Wgan {
        let conditions = herd.conditions.as_ref().map_or(0, |c| c.names.len());
        Wgan { generator: fitted.generator, conditions, shape: config.network.clone(), room: None }
    }

    /// Reads this rank's SNPs, in runs that do not depend on the number of ranks.
    pub(super) fn read(
        reader: &Reader,
        header: &Header,
        ranks: &Ranks,
        device: &Arc<dyn Network>,
    ) -> Result<Wgan> {
        let shape = toml::from_str(&reader.text("network")?);
        let shape: Shape = shape.map_err(|_| reader.damaged("a network of unknown kind"))?;
        Config { network: shape.clone(), ..Config::default() }.check("the model")?;
        let m = header.variants.len();
        let conditions = header.conditions.as_ref().map_or(0, |c| c.names.len());
        let plan = shape.generator(conditions);
        let stack = reader.stack("chain", device, (plan.inputs, plan.conditions, plan.outputs()?))?;
        let own = ranks.snps_of(m);
        let runs = chunks(own).map(|snps| read_run(reader, &shape, (m, plan.conditions), snps, &**device));
        let snp_layer = runs.collect::<Result<_>>()?;
        Ok(Wgan { generator: GeneratorNet { stack, snp_layer, m }, conditions, shape, room: None })
    }
}

/// The weights of a run of SNPs: W, V and b.
fn read_run(
    reader: &Reader,
    shape: &Shape,
    (m, c): (usize, usize),
    snps: Range<usize>,
    device: &dyn Network,
) -> Result<SnpLayer> {
    let rows = CLASSES * snps.start..CLASSES * snps.end;
    let mut all: Vec<f32> = Vec::new();
    for (name, columns) in [("weight", shape.snp_layer()), ("conditions", c), ("bias", 1)] {
        if columns > 0 {
            all.extend(reader.part::<f32>(name, (CLASSES * m, columns), rows.clone(), 0..columns)?);
        }
    }
    let mut parameters = device.values(all.len())?;
    device.write_singles(&all, parameters.whole_mut())?;
    Ok(SnpLayer::new(snps, parameters))
}

impl Generator for Wgan {
    fn conditions(&self) -> usize {
        self.conditions
    }

    fn draw(
        &mut self,
        ranks: &Ranks,
        animals: Range<u64>,
        conditions: Option<ArrayView2<f64>>,
        seed: u64,
    ) -> Result<Packed> {
        let room = match &mut self.room {
            Some(room) => room,
            none => none.insert(Room::new(&self.generator)?),
        };
        self.generator.draw(ranks, animals, (conditions, self.shape.repeat), seed, room)
    }

    fn write(&self, ranks: &Ranks, to: &mut Writer) -> Result<()> {
        let (generator, device) = (&self.generator, self.generator.stack.device());
        let read = |values: &Values, range: Range<usize>| -> Result<Vec<f64>> {
            let mut own = vec![0.0; range.len()];
            device.read(values.part(range), &mut own)?;
            Ok(own)
        };
        let single = |all: Vec<f64>| all.into_iter().map(|x| x as f32).collect::<Vec<f32>>();
        to.text("network", &as_text(&self.shape));
        ranks.world.agree(to.stack("chain", &generator.stack))?;
        for (part, name) in ["weight", "conditions", "bias"].into_iter().enumerate() {
            let of_runs =
                generator.snp_layer.iter().map(|f| read(f.parameters(), generator.parts(f)[part].clone()));
            let own = ranks.world.agree(of_runs.collect::<Result<Vec<_>>>())?.concat();
            let columns = [generator.stack.outputs(), generator.stack.plan().conditions, 1][part];
            if let (Some(all), true) = (to_root(ranks, own), columns > 0) {
                to.matrix(name, (CLASSES * generator.m, columns), &single(all));
            }
        }
        Ok(())
    }
}

/// The learning curve as a table.
pub fn curve(points: &[Point]) -> Curve {
    let mut curve = Curve::new(&COLUMNS);
    for p in points {
        let look =
            |of: fn(&super::early_stopping::Evaluation) -> f64| p.evaluation.as_ref().map_or(f64::NAN, of);
        curve.push(&[
            p.epoch as f64,
            p.temperature,
            p.seen.loss(),
            p.seen.real - p.seen.fake,
            p.seen.penalty,
            p.seen.norm,
            look(|l| l.precision),
            look(|l| l.recall),
            look(|l| l.f1),
            look(|l| l.variance),
        ]);
    }
    curve
}

/// Its columns.
const COLUMNS: [&str; 10] = [
    "epoch",
    "temperature",
    "critic_loss",
    "wasserstein",
    "penalty",
    "gradient_norm",
    "precision",
    "recall",
    "f1",
    "variance_ratio",
];
