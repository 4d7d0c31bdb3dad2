//! The training loop of all networks: epochs of batches, an order of the animals for each, early stopping, a state that can
//! be kept and goes on to the same bits.

use super::checkpointer::{Checkpointed, Checkpointer};
use crate::comm::layout::share;
use crate::error::Result;
use crate::progress::Progress;
use crate::rng::{Purpose, Stream};
use serde::{Deserialize, Serialize};

/// Where training stands, the same on all ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Position {
    /// Steps done.
    pub step: u64,
    /// Whole epochs done.
    pub epoch: usize,
    /// Batches done of the epoch at work.
    pub batches: usize,
}

impl Position {
    /// After one more batch.
    pub fn advance(&mut self) {
        self.step += 1;
        self.batches += 1;
    }

    /// At the beginning of the next epoch.
    pub fn next_epoch(&mut self) {
        self.epoch += 1;
        self.batches = 0;
    }
}

/// How far a step came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advance {
    /// It was given up, as somebody asked to stop: the state is that of before or half way, and goes on from there.
    GivenUp,
    /// A batch was learned from.
    Step,
    /// The same, and it ended an epoch.
    Epoch,
}

/// Networks in training.
pub trait Learns: Checkpointed {
    /// Epochs, at most, and the batches of each.
    fn length(&self) -> (usize, usize);

    /// Where it stands.
    fn position(&self) -> Position;

    /// Whether early stopping ends it before its last epoch.
    fn is_settled(&self) -> bool {
        false
    }

    /// Learns from the next batch; the last one of an epoch is followed by what ends it. Collective.
    ///
    /// # Errors
    /// What the device meets, and a loss that is no number.
    fn step(&mut self) -> Result<Advance>;
}

/// Looks at training after every step, may begin it with an earlier state, may end it. Called by all ranks.
pub trait Monitor {
    /// Puts back an earlier state before the first step.
    fn begin(&mut self, _training: &mut dyn Learns) -> Result<()> {
        Ok(())
    }

    /// After a step; `epoch` tells whether it ended an epoch.
    fn after_step(&mut self, _training: &mut dyn Learns, _epoch: bool) -> Result<()> {
        Ok(())
    }
}

/// Does nothing.
impl Monitor for () {}

/// Keeps the state.
impl Monitor for Checkpointer {
    fn begin(&mut self, training: &mut dyn Learns) -> Result<()> {
        Checkpointer::begin(self, training)
    }

    fn after_step(&mut self, training: &mut dyn Learns, epoch: bool) -> Result<()> {
        let at = training.position();
        Checkpointer::after_step(self, training, at.step, epoch.then_some(at.epoch))
    }
}

/// Keeps the state where it is to be kept.
impl Monitor for Option<&mut Checkpointer> {
    fn begin(&mut self, training: &mut dyn Learns) -> Result<()> {
        self.as_mut().map_or(Ok(()), |checkpointer| Monitor::begin(*checkpointer, training))
    }

    fn after_step(&mut self, training: &mut dyn Learns, epoch: bool) -> Result<()> {
        self.as_mut().map_or(Ok(()), |checkpointer| Monitor::after_step(*checkpointer, training, epoch))
    }
}

/// Trains to the last epoch, or until early stopping ends it. Collective.
///
/// # Errors
/// Those of [`Learns::step`], and what the monitor ends it with.
pub fn run(training: &mut dyn Learns, monitor: &mut dyn Monitor) -> Result<()> {
    monitor.begin(training)?;
    let (epochs, batches) = training.length();
    let progress = Progress::new("steps", epochs * batches);
    let at = training.position();
    progress.skip(at.epoch * batches + at.batches);
    while training.position().epoch < epochs && !training.is_settled() {
        let advance = training.step()?;
        progress.add(usize::from(advance != Advance::GivenUp));
        monitor.after_step(training, advance == Advance::Epoch)?;
    }
    Ok(())
}

/// The order in which an epoch takes the training animals.
#[derive(Debug, Clone)]
pub struct Order {
    seed: u64,
    animals: Vec<usize>,
    of: Option<(usize, Vec<usize>)>,
}

impl Order {
    /// Of these animals.
    pub fn new(animals: &[usize], seed: u64) -> Order {
        Order { seed, animals: animals.to_vec(), of: None }
    }

    /// All animals, in no order.
    pub fn animals(&self) -> &[usize] {
        &self.animals
    }

    /// The animals of the next batch, where an epoch has so many `batches`, nearly even.
    pub fn batch(&mut self, at: Position, batches: usize) -> &[usize] {
        let Order { seed, animals, of } = self;
        if of.as_ref().is_none_or(|(epoch, _)| *epoch != at.epoch) {
            let mut order = animals.clone();
            Stream::new(*seed, Purpose::Order, at.epoch as u64).shuffle(&mut order);
            *of = Some((at.epoch, order));
        }
        let order = &of.as_ref().expect("just made").1;
        &order[share(order.len(), at.batches, batches)]
    }
}

/// The best epoch so far, by a score of which more is better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Its number, from 1; 0 before the first.
    pub epoch: usize,
    /// Its score.
    pub score: f64,
    /// Scores since then.
    pub waited: usize,
}

impl Default for Best {
    fn default() -> Best {
        Best { epoch: 0, score: f64::NEG_INFINITY, waited: 0 }
    }
}

impl Best {
    /// Takes the score of an epoch, and tells whether it is the best so far. A NaN never is; without any score the newest
    /// epoch is the best.
    pub fn weigh(&mut self, epoch: usize, score: Option<f64>) -> bool {
        let better = score.is_none_or(|score| score > self.score);
        self.waited = if better { 0 } else { self.waited + 1 };
        if better {
            (self.epoch, self.score) = (epoch, score.unwrap_or(self.score));
        }
        better
    }
}

/// A learning rate that rises in a straight line and falls as half a cosine (Loshchilov & Hutter 2017, eq. 5).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The largest rate.
    pub peak: f64,
    /// Share of all steps in which it rises to it.
    pub warm_up: f64,
    /// That of the last step as a share of the largest.
    pub last: f64,
}

impl Schedule {
    /// The rate of step `step` of `steps`, from 0.
    pub fn rate_at(&self, step: u64, steps: u64) -> f64 {
        let rise = (self.warm_up * steps as f64).ceil();
        let done = step as f64;
        if done < rise {
            return self.peak * (done + 1.0) / rise;
        }
        let way = (done - rise) / (steps as f64 - 1.0 - rise).max(1.0);
        let down = 0.5 * (1.0 + (std::f64::consts::PI * way.min(1.0)).cos());
        self.peak * (self.last + (1.0 - self.last) * down)
    }
}

/// What goes from `first` to `last` in a straight line, in epoch `epoch` of `epochs`, from 0.
pub fn straight([first, last]: [f64; 2], epoch: usize, epochs: usize) -> f64 {
    let way = epoch as f64 / (epochs as f64 - 1.0).max(1.0);
    first + (last - first) * way.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_and_falls() {
        let schedule = Schedule { peak: 2.0, warm_up: 0.1, last: 0.25 };
        let rates: Vec<f64> = (0..101).map(|s| schedule.rate_at(s, 101)).collect();
        assert_eq!((rates[0], rates[10], rates[11]), (2.0 / 11.0, 2.0, 2.0));
        assert!(rates[..11].is_sorted() && rates[11..].is_sorted_by(|a, b| a >= b));
        assert!((rates[100] - 0.5).abs() < 1e-12);
        let constant = Schedule { peak: 3.0, warm_up: 0.0, last: 1.0 };
        assert!((0..5).all(|s| constant.rate_at(s, 5) == 3.0));
        assert_eq!([0, 1, 2, 9].map(|epoch| straight([1.0, 0.0], epoch, 3)), [1.0, 0.5, 0.0, 0.0]);
        assert_eq!(straight([1.0, 0.0], 0, 1), 1.0);
    }

    #[test]
    fn every_epoch_takes_all_animals_in_an_order_of_its_own() {
        let animals: Vec<usize> = (10..31).collect();
        let mut order = Order::new(&animals, 4);
        let mut epoch = |epoch: usize| -> Vec<usize> {
            let of = |batches| Position { epoch, batches, step: 0 };
            (0..3).flat_map(|k| order.batch(of(k), 3).to_vec()).collect()
        };
        let (first, second, again) = (epoch(0), epoch(1), epoch(0));
        assert!(first == again && first != second && first != animals);
        for mut found in [first, second] {
            found.sort_unstable();
            assert_eq!(found, animals);
        }
    }

    #[test]
    fn the_best_epoch_is_the_first_of_the_highest_score() {
        let mut best = Best::default();
        let scores = [f64::NAN, 0.1, 0.3, f64::NAN, 0.3, 0.2];
        let found: Vec<bool> = (1..).zip(scores).map(|(epoch, s)| best.weigh(epoch, Some(s))).collect();
        assert_eq!(found, [false, true, true, false, false, false]);
        assert_eq!(best, Best { epoch: 3, score: 0.3, waited: 3 });
        assert!(best.weigh(7, None), "nobody looks: the newest");
        assert_eq!((best.epoch, best.waited), (7, 0));
    }
}
