//! The training loop of generators whose networks every rank has whole: epochs of batches, a learning curve, a state that
//! can be kept.

use super::learning::{finite, Batch};
use super::{Curve, Herd, Setting};
use crate::device::network::{Network, Values};
use crate::error::Result;
use crate::nn::checkpoint::{gather_whole, give_out_whole};
use crate::nn::checkpointer::{Checkpointed, Checkpointer};
use crate::nn::running::RunningMoments;
use crate::nn::stack::{Moments, Stack};
use crate::nn::{Ranks, Running};
use crate::progress::Progress;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Where training stands when a batch is learned from.
#[derive(Debug, Clone, Copy)]
pub struct At {
    /// Number of the epoch, from 0.
    pub epoch: usize,
    /// Steps of the whole training.
    pub steps: u64,
}

/// Networks in training.
pub trait Learns {
    /// One step on a batch; its losses, means over the batch. Collective.
    ///
    /// # Errors
    /// What the device meets.
    fn learn(&mut self, batch: &Batch, at: At) -> Result<Vec<f64>>;

    /// What computes.
    fn device(&self) -> &Arc<dyn Network>;

    /// All numbers that learning changes but for running moments, in the same order on every rank.
    fn buffers(&mut self) -> Vec<&mut Values>;

    /// Running moments of the batch normalisations.
    fn running(&mut self) -> Vec<&mut RunningMoments>;
}

/// Parameters and moments of a chain.
pub fn of_chain<'a>(stack: &'a mut Stack, moments: &'a mut Moments) -> [&'a mut Values; 3] {
    [&mut stack.parameters, &mut moments.first, &mut moments.second]
}

/// How long, and what the losses are called.
#[derive(Debug, Clone)]
pub struct Epochs {
    /// Epochs.
    pub count: usize,
    /// Animals in a batch, at most.
    pub batch: usize,
    /// Names of the losses.
    pub losses: &'static [&'static str],
    /// What each is divided by in the curve.
    pub per: Vec<f64>,
}

/// Where training stands, the same on all ranks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct State {
    step: u64,
    epoch: usize,
    /// Batches done of the epoch at work, and their losses.
    batches: usize,
    sums: Vec<f64>,
    /// Rows of the learning curve.
    rows: Vec<Vec<f64>>,
    running: Vec<Vec<Running>>,
}

/// Trains networks, which a checkpointer may keep; gives the learning curve. Collective.
///
/// # Errors
/// What the device meets, losses that are no numbers, and a wish to stop.
pub fn fit(
    (setting, herd): (&Setting, &Herd),
    epochs: &Epochs,
    learner: &mut dyn Learns,
    mut checkpointer: Option<&mut Checkpointer>,
) -> Result<Curve> {
    let (ranks, n) = (setting.ranks, herd.animals());
    let lengths = learner.buffers().iter().map(|values| values.len()).collect();
    let state = State { sums: vec![0.0; epochs.losses.len()], ..State::default() };
    let mut training = Training { ranks, learner, lengths, state };
    if let Some(checkpointer) = &mut checkpointer {
        checkpointer.begin(&mut training)?;
    }
    let progress = Progress::new("epochs", epochs.count);
    progress.skip(training.state.epoch);
    while training.state.epoch < epochs.count {
        let epoch = training.state.epoch;
        let all = Batch::of_epoch(ranks, n, epochs.batch, epoch, setting.seed);
        let (count, at) = (all.len(), At { epoch, steps: (epochs.count * all.len()) as u64 });
        for batch in &all[training.state.batches..] {
            let losses = ranks.world.section(|| training.learner.learn(batch, at))?;
            let share = batch.count as f64 / n as f64;
            let state = &mut training.state;
            state.sums.iter_mut().zip(losses).for_each(|(sum, loss)| *sum += share * loss);
            state.step += 1;
            state.batches += 1;
            let ended = state.batches == count;
            if ended {
                finite(&state.sums, epoch)?;
                let losses = state.sums.iter().zip(&epochs.per).map(|(sum, per)| sum / per);
                state.rows.push([(epoch + 1) as f64].into_iter().chain(losses).collect());
                (state.epoch, state.batches) = (epoch + 1, 0);
                state.sums.fill(0.0);
                progress.add(1);
            }
            if let Some(checkpointer) = &mut checkpointer {
                checkpointer.after_step(&mut training, batch.step + 1, ended.then_some(epoch + 1))?;
            }
        }
    }
    let mut curve = Curve::new(&[&["epoch"], epochs.losses].concat());
    training.state.rows.iter().for_each(|row| curve.push(row));
    Ok(curve)
}

/// Training as a checkpointer sees it: the root writes what it has, which is what all have.
struct Training<'a> {
    ranks: &'a Ranks,
    learner: &'a mut dyn Learns,
    lengths: Vec<usize>,
    state: State,
}

impl Checkpointed for Training<'_> {
    fn single(&self) -> bool {
        self.learner.device().precision() >= f64::from(f32::EPSILON)
    }

    fn lengths(&self) -> Vec<usize> {
        self.lengths.clone()
    }

    fn state(&mut self) -> Result<Vec<u8>> {
        let device = self.learner.device().clone();
        let running = self.learner.running().into_iter().map(|running| running.read(&*device));
        self.state.running = running.collect::<Result<_>>()?;
        Ok(postcard::to_stdvec(&self.state).expect("plain values serialize"))
    }

    fn gather(&mut self, buffer: usize, put: &mut dyn FnMut(&[f64])) -> Result<()> {
        let device = self.learner.device().clone();
        let values = self.learner.buffers().swap_remove(buffer);
        gather_whole(&self.ranks.world, &*device, values, put)
    }

    fn give_out(&mut self, buffer: usize, take: &mut dyn FnMut(&mut [f64])) -> Result<()> {
        let device = self.learner.device().clone();
        let to = self.learner.buffers().swap_remove(buffer);
        give_out_whole(&self.ranks.world, &*device, take, to)
    }

    fn restore(&mut self, state: &[u8]) -> Result<Option<String>> {
        let device = self.learner.device().clone();
        let all = self.learner.running();
        let fits = |found: &State| {
            let same = found.running.len() == all.len() && found.sums.len() == self.state.sums.len();
            same && found.running.iter().zip(&all).all(|(found, own)| own.fit(found))
        };
        let Some(found) = postcard::from_bytes::<State>(state).ok().filter(fits) else { return Ok(None) };
        for (own, found) in all.into_iter().zip(&found.running) {
            own.write(&*device, found)?;
        }
        let at = format!("epoch {}, step {}", found.epoch, found.step);
        self.state = found;
        Ok(Some(at))
    }
}
