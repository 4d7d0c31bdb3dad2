//! Training of generators whose networks every rank has whole.

use super::learning::{finite, Batch};
use super::{Curve, Herd, Setting};
use crate::device::network::{Network, Values};
use crate::error::Result;
use crate::nn::checkpoint::{gather_whole, give_out_whole};
use crate::nn::checkpointer::{Checkpointed, Checkpointer};
use crate::nn::epochs::{self, Advance, Learns, Order, Position};
use crate::nn::running::RunningMoments;
use crate::nn::stack::{Moments, Stack};
use crate::nn::{Ranks, Running};
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

/// Networks that learn from batches.
pub trait Nets {
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
    at: Position,
    /// Losses of the batches of the epoch at work.
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
    nets: &mut dyn Nets,
    mut checkpointer: Option<&mut Checkpointer>,
) -> Result<Curve> {
    let n = herd.animals();
    // Batch normalisation wants two animals at least.
    let batches = n.div_ceil(epochs.batch.max(2)).min(n / 2).max(1);
    let lengths = nets.buffers().iter().map(|values| values.len()).collect();
    let order = Order::new(&(0..n).collect::<Vec<_>>(), setting.seed);
    let state = State { sums: vec![0.0; epochs.losses.len()], ..State::default() };
    let mut training = Training { ranks: setting.ranks, epochs, batches, order, nets, lengths, state };
    epochs::run(&mut training, &mut checkpointer)?;
    let mut curve = Curve::new(&[&["epoch"], epochs.losses].concat());
    training.state.rows.iter().for_each(|row| curve.push(row));
    Ok(curve)
}

/// Networks in training. What is kept of them the root writes: it is what all have.
struct Training<'a> {
    ranks: &'a Ranks,
    epochs: &'a Epochs,
    batches: usize,
    order: Order,
    nets: &'a mut dyn Nets,
    lengths: Vec<usize>,
    state: State,
}

impl Learns for Training<'_> {
    fn length(&self) -> (usize, usize) {
        (self.epochs.count, self.batches)
    }

    fn position(&self) -> Position {
        self.state.at
    }

    fn step(&mut self) -> Result<Advance> {
        let Training { ranks, epochs, batches, order, nets, state, .. } = self;
        let at = At { epoch: state.at.epoch, steps: (epochs.count * *batches) as u64 };
        let batch = Batch::of(ranks, order.batch(state.at, *batches), state.at.step);
        let losses = ranks.world.section(|| nets.learn(&batch, at))?;
        let share = batch.count as f64 / order.animals().len() as f64;
        state.sums.iter_mut().zip(losses).for_each(|(sum, loss)| *sum += share * loss);
        state.at.advance();
        if state.at.batches < *batches {
            return Ok(Advance::Step);
        }
        finite(&state.sums, at.epoch)?;
        state.at.next_epoch();
        let losses = state.sums.iter().zip(&epochs.per).map(|(sum, per)| sum / per);
        state.rows.push([state.at.epoch as f64].into_iter().chain(losses).collect());
        state.sums.fill(0.0);
        Ok(Advance::Epoch)
    }
}

impl Checkpointed for Training<'_> {
    fn single(&self) -> bool {
        self.nets.device().precision() >= f64::from(f32::EPSILON)
    }

    fn lengths(&self) -> Vec<usize> {
        self.lengths.clone()
    }

    fn state(&mut self) -> Result<Vec<u8>> {
        let device = self.nets.device().clone();
        let running = self.nets.running().into_iter().map(|running| running.read(&*device));
        self.state.running = running.collect::<Result<_>>()?;
        Ok(postcard::to_stdvec(&self.state).expect("plain values serialize"))
    }

    fn gather(&mut self, buffer: usize, put: &mut dyn FnMut(&[f64])) -> Result<()> {
        let device = self.nets.device().clone();
        let values = self.nets.buffers().swap_remove(buffer);
        gather_whole(&self.ranks.world, &*device, values, put)
    }

    fn give_out(&mut self, buffer: usize, take: &mut dyn FnMut(&mut [f64])) -> Result<()> {
        let device = self.nets.device().clone();
        let to = self.nets.buffers().swap_remove(buffer);
        give_out_whole(&self.ranks.world, &*device, take, to)
    }

    fn restore(&mut self, state: &[u8]) -> Result<Option<String>> {
        let device = self.nets.device().clone();
        let all = self.nets.running();
        let fits = |found: &State| {
            let same = found.running.len() == all.len() && found.sums.len() == self.state.sums.len();
            same && found.running.iter().zip(&all).all(|(found, own)| own.fit(found))
        };
        let Some(found) = postcard::from_bytes::<State>(state).ok().filter(fits) else { return Ok(None) };
        for (own, found) in all.into_iter().zip(&found.running) {
            own.write(&*device, found)?;
        }
        let at = format!("epoch {}, step {}", found.at.epoch, found.at.step);
        self.state = found;
        Ok(Some(at))
    }
}
