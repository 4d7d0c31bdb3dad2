//! Training of networks that predict: batches over ranks, Adam, early stopping by validation animals, the best weights kept.

use super::batch::{Batch, Input, Mode, Records};
use super::config::Training;
use super::epochs::{self, Advance, Best, Learns, Monitor, Order, Position};
use super::ledger::Ledger;
use super::network::{Net, Work};
use super::ranks::Ranks;
use super::running::Running;
use super::stack::Role;
use crate::comm::layout::share;
use crate::device::network::{Adam, Clip, Values};
use crate::error::{Error, Result};
use crate::stats;
use ndarray::{Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Animals that are predicted at a time: always the same, so that the bits are, too.
const BLOCK: usize = 256;

/// Numbers that give the length of a gradient: the squares of the first weight's, and of all else.
const SQUARES: usize = 2;

/// What a network learns from. Records and weights are on every rank.
#[derive(Clone, Copy)]
pub struct Data<'a> {
    /// What it reads.
    pub input: Input<'a>,
    /// Records in units of their spread, (n, t), NaN where missing.
    pub y: ArrayView2<'a, f64>,
    /// Weights of the records, (n, t).
    pub weights: Option<ArrayView2<'a, f64>>,
    /// What is known of the records without the network, in the same units, (n, t): GBLUP's values, say, whose rest
    /// `y` is. Early stopping compares predictions and records with it added, and looks at the first weights too.
    pub offset: Option<ArrayView2<'a, f64>>,
    /// Animals that it learns from.
    pub train: &'a [usize],
    /// Animals that early stopping looks at; none to train for all epochs.
    pub validation: &'a [usize],
}

/// One epoch of the learning curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Number of the epoch, from 1.
    pub epoch: usize,
    /// Learning rate of its last step.
    pub learning_rate: f64,
    /// Mean loss of a record while learning.
    pub loss: f64,
    /// Correlation of predictions and records on the validation animals, mean over the traits; NaN without any.
    pub correlation: f64,
    /// Whether no earlier epoch was better.
    pub best: bool,
}

/// Where training stands, the same on all ranks.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct State {
    /// How far it came.
    pub at: Position,
    /// Loss and weight of the records of these batches, but for those that nobody has read yet.
    pub loss: (f64, f64),
    /// Epochs so far.
    pub curve: Vec<Point>,
    /// The epoch whose weights are the best, by their correlation.
    pub best: Best,
    /// Running moments of the network, and those that belong to the best weights.
    pub running: [Vec<Running>; 2],
}

/// A network in training.
pub struct Trainer<'a> {
    pub(super) net: Net,
    pub(super) ranks: &'a Ranks,
    training: &'a Training,
    data: Data<'a>,
    seed: u64,
    work: Work,
    /// Of each step that was not read yet: its losses by traits and the squares of its gradient, of the first
    /// weight and of all else; its number, and the weight of its records.
    losses: Ledger<(u64, f64)>,
    order: Order,
    /// First and second moments and the best weights, each as the parameters.
    pub(super) kept: [Values; 3],
    /// Where it stands.
    pub state: State,
}

/// A trained network.
pub struct Fitted {
    /// With the best weights.
    pub net: Net,
    /// The learning curve.
    pub curve: Vec<Point>,
    /// The epoch of the best weights.
    pub best_epoch: usize,
}

/// Trains a network until it no longer becomes better. Collective.
pub fn fit<'a>(
    net: Net,
    ranks: &'a Ranks,
    training: &'a Training,
    data: Data<'a>,
    seed: u64,
    monitor: &mut dyn Monitor,
) -> Result<Fitted> {
    let mut trainer = Trainer::new(net, ranks, training, data, seed)?;
    epochs::run(&mut trainer, monitor)?;
    trainer.finish()
}

impl<'a> Trainer<'a> {
    fn new(
        net: Net,
        ranks: &'a Ranks,
        training: &'a Training,
        data: Data<'a>,
        seed: u64,
    ) -> Result<Trainer<'a>> {
        let most = data.train.len().div_ceil(batches(training, data.train.len()));
        let rows = ranks.pieces(most).iter().map(Range::len).sum();
        let width = net.outputs() + SQUARES;
        let buffers = || -> Result<_> {
            let zeros = || -> Result<Values> {
                let mut values = net.device().values(net.chain.parameters.len())?;
                net.device().fill(0.0, values.whole_mut())?;
                Ok(values)
            };
            let mut kept = [zeros()?, zeros()?, zeros()?];
            net.device().copy(net.chain.parameters.whole(), kept[2].whole_mut())?;
            let running = net.running()?;
            Ok((Work::new(&net, ranks, rows, true)?, Ledger::new(&**net.device(), width)?, kept, running))
        };
        let (work, losses, kept, running) = ranks.world.agree(buffers())?;
        let running = [running.clone(), running];
        let state = State { running, ..State::default() };
        let order = Order::new(data.train, seed);
        let mut trainer = Trainer { net, ranks, training, data, seed, work, losses, order, kept, state };
        if data.offset.is_some() {
            let before = ranks.world.section(|| trainer.correlation())?;
            trainer.state.best.score = if before.is_nan() { f64::NEG_INFINITY } else { before };
        }
        Ok(trainer)
    }

    /// Whether a state may be one of this training.
    pub(super) fn takes(&self, state: &State) -> bool {
        state.at.batches < self.batches()
            && state.curve.len() == state.at.epoch
            && state.best.epoch <= state.at.epoch
            && state.running.iter().all(|r| self.net.fits_running(r))
    }

    /// Batches in an epoch.
    fn batches(&self) -> usize {
        batches(self.training, self.data.train.len())
    }

    /// Reads the losses of steps that were not read yet; an error where a loss or a gradient is no number.
    /// Collective.
    pub(super) fn settle(&mut self) -> Result<()> {
        let (device, t) = (self.net.device().clone(), self.net.outputs());
        for ((step, total), row) in self.ranks.world.section(|| self.losses.take(&*device))? {
            let (losses, squares) = row.split_at(t);
            let loss: f64 = losses.iter().sum();
            if !(loss.is_finite() && squares.iter().all(|s| s.is_finite())) {
                let problem = format!("the loss became {loss} in step {step}");
                return Err(Error::failed("training", problem, "choose a smaller `learning_rate`"));
            }
            self.state.loss.0 += loss * total;
            self.state.loss.1 += total;
        }
        Ok(())
    }

    /// The gradient of a batch, and its loss. Collective.
    fn gradient(&mut self, whole: &[usize]) -> Result<()> {
        let (ranks, device) = (self.ranks, self.net.device().clone());
        let pieces = ranks.pieces(whole.len());
        let batch = Batch::new(&*device, self.data.input, whole, &pieces)?;
        let (records, total) = self.records(whole, &pieces)?;
        let mode = Mode::Train { seed: self.seed, step: self.state.at.step };
        self.net.forward(ranks, &batch, mode, &mut self.work)?;
        self.net.loss(ranks, &batch, &records, self.training.loss, &mut self.work)?;
        let (row, t) = (self.losses.row(), self.net.outputs());
        device.copy(self.work.losses(), self.losses.values.part_mut(row.start..row.start + t))?;
        self.net.backward(ranks, &batch, mode, &mut self.work)?;
        self.measure(row.start + t..row.end)?;
        self.losses.close((self.state.at.step + 1, total));
        Ok(())
    }

    /// The records of this rank's pieces, and the weight of all records of the batch.
    fn records(&self, whole: &[usize], pieces: &[Range<usize>]) -> Result<(Records, f64)> {
        let (y, weights) = (self.data.y, self.data.weights);
        let of = |x: ArrayView2<f64>, i: usize| x.row(i).to_vec();
        let own = || pieces.iter().flat_map(|p| &whole[p.clone()]);
        let observed: Vec<f64> = own().flat_map(|&i| of(y, i)).collect();
        let given: Option<Vec<f64>> = weights.map(|w| own().flat_map(|&i| of(w, i)).collect());
        let known = whole.iter().flat_map(|&i| (0..y.ncols()).map(move |t| (i, t)));
        let known = known.filter(|&at| !y[at].is_nan());
        let total = known.map(|at| weights.map_or(1.0, |w| w[at])).sum();
        Ok((Records::new(&**self.net.device(), &observed, given.as_deref(), total)?, total))
    }

    /// Squares of the gradient of all ranks, at the places `at` of the ledger. Collective.
    fn measure(&mut self, at: Range<usize>) -> Result<()> {
        let (device, gradient, squares) = (self.net.device(), self.work.gradient(), &mut self.losses.values);
        let (first, middle) = (self.net.first_weight(), at.start + 1);
        // Each rank of a line has other rows of the first weight and the same of all else.
        device.sum_of_squares(gradient.part(0..first), squares.part_mut(at.start..middle))?;
        self.ranks.snps.sum(std::slice::from_mut(squares), at.start..middle)?;
        device.sum_of_squares(gradient.part(first..gradient.len()), squares.part_mut(middle..at.end))
    }

    fn update(&mut self, rate: f64) -> Result<()> {
        let training = self.training;
        let weights = Adam {
            learning_rate: rate,
            beta1: training.beta1,
            beta2: training.beta2,
            epsilon: training.epsilon,
            l2: 2.0 * training.l2,
            weight_decay: training.weight_decay,
            step: self.state.at.step + 1,
        };
        let others = Adam { l2: 0.0, weight_decay: 0.0, ..weights };
        let device = self.net.device().clone();
        let parts = self.net.parts().to_vec();
        let squares = self.losses.last().end - SQUARES..self.losses.last().end;
        let clip = (training.clip > 0.0)
            .then(|| Clip { longest: training.clip, squares: self.losses.values.part(squares) });
        let [first, second, _] = &mut self.kept;
        let mut apply = |adam: &Adam, range: Range<usize>| {
            let (w, gradient) = (&mut self.net.chain.parameters, self.work.gradient().part(range.clone()));
            let (m, v) = (first.part_mut(range.clone()), second.part_mut(range.clone()));
            device.adam(adam, clip.clone(), gradient, w.part_mut(range), m, v)
        };
        for run in parts.chunk_by(|a, b| (a.role == Role::Weight) == (b.role == Role::Weight)) {
            let adam = if run[0].role == Role::Weight { &weights } else { &others };
            apply(adam, run[0].range.start..run[run.len() - 1].range.end)?;
        }
        Ok(())
    }

    /// Predicts the validation animals and keeps the weights where they are the best so far.
    fn end_epoch(&mut self, rate: f64) -> Result<()> {
        self.state.at.next_epoch();
        let (epoch, loss) = (self.state.at.epoch, std::mem::take(&mut self.state.loss));
        let correlation = self.correlation()?;
        // Without animals to look at the newest weights are the best.
        let best = self.state.best.weigh(epoch, (!correlation.is_nan()).then_some(correlation));
        if best {
            self.net.device().copy(self.net.chain.parameters.whole(), self.kept[2].whole_mut())?;
            self.state.running[1] = self.net.running()?;
        }
        self.state.curve.push(Point {
            epoch,
            learning_rate: rate,
            loss: loss.0 / loss.1.max(1.0),
            correlation,
            best,
        });
        if let Some(Point { loss, .. }) = self.state.curve.last() {
            log::debug!("epoch {epoch}: loss {loss:.5}, validation correlation {correlation:.4}");
        }
        Ok(())
    }

    /// Correlation of predictions and records of the validation animals. Collective.
    fn correlation(&mut self) -> Result<f64> {
        let (y, validation) = (self.data.y, self.data.validation);
        let mut predicted = predict(&mut self.net, self.ranks, self.data.input, validation)?;
        let mut observed = y.select(Axis(0), validation);
        if let Some(offset) = self.data.offset {
            let known = offset.select(Axis(0), validation);
            predicted += &known;
            observed += &known;
        }
        let weights = self.data.weights.map(|w| w.select(Axis(0), validation));
        Ok(correlation(predicted.view(), observed.view(), weights.as_ref()))
    }

    /// The network with the best weights.
    fn finish(mut self) -> Result<Fitted> {
        if self.state.best.epoch > 0 || self.data.offset.is_some() && !self.data.validation.is_empty() {
            let device = self.net.device().clone();
            let copied = device
                .copy(self.kept[2].whole(), self.net.chain.parameters.whole_mut())
                .and_then(|()| self.net.set_running(&self.state.running[1]));
            self.ranks.world.agree(copied)?;
        }
        Ok(Fitted { net: self.net, curve: self.state.curve, best_epoch: self.state.best.epoch })
    }
}

impl Learns for Trainer<'_> {
    fn length(&self) -> (usize, usize) {
        (self.training.epochs, self.batches())
    }

    fn position(&self) -> Position {
        self.state.at
    }

    fn is_settled(&self) -> bool {
        !self.data.validation.is_empty() && self.state.best.waited >= self.training.patience
    }

    fn step(&mut self) -> Result<Advance> {
        let (at, all) = (self.state.at, self.batches());
        let whole = self.order.batch(at, all).to_vec();
        let steps = (self.training.epochs * all) as u64;
        let (rate, ranks) = (self.training.schedule().rate_at(at.step, steps), self.ranks);
        ranks.world.section(|| {
            self.gradient(&whole)?;
            self.update(rate)
        })?;
        self.state.at.advance();
        let ended = self.state.at.batches == all;
        if ended || self.losses.is_full() {
            self.settle()?;
        }
        if !ended {
            return Ok(Advance::Step);
        }
        ranks.world.section(|| self.end_epoch(rate))?;
        Ok(Advance::Epoch)
    }
}

/// Batches in an epoch of `n` animals.
fn batches(training: &Training, n: usize) -> usize {
    n.div_ceil(training.batch).max(1)
}

/// What a network gives for some animals, (animals, t), on every rank: blocks of them are dealt over the ranks.
/// Collective.
pub fn predict(net: &mut Net, ranks: &Ranks, input: Input, animals: &[usize]) -> Result<Array2<f64>> {
    if animals.is_empty() {
        return Ok(Array2::zeros((0, net.outputs())));
    }
    ranks.world.section(|| predict_blocks(net, ranks, input, animals))
}

fn predict_blocks(net: &mut Net, ranks: &Ranks, input: Input, animals: &[usize]) -> Result<Array2<f64>> {
    let (t, data) = (net.outputs(), ranks.data.world());
    let mut work = Work::new(net, ranks, BLOCK.min(animals.len()), false)?;
    let mut out = Array2::zeros((animals.len(), t));
    for block in share(animals.len().div_ceil(BLOCK), data.rank(), data.size()) {
        let rows = block * BLOCK..((block + 1) * BLOCK).min(animals.len());
        let whole = &animals[rows.clone()];
        let piece = 0..whole.len();
        let batch = Batch::new(&**net.device(), input, whole, std::slice::from_ref(&piece))?;
        net.forward(ranks, &batch, Mode::Predict, &mut work)?;
        let mut given = vec![0.0; whole.len() * t];
        net.device().read(work.output().part(0..given.len()), &mut given)?;
        let to = &mut out.as_slice_mut().expect("standard layout")[rows.start * t..rows.end * t];
        to.copy_from_slice(&given);
    }
    // One rank has each animal, the others zeros: the sum is exact.
    data.sum_f64(out.as_slice_mut().expect("standard layout"));
    Ok(out)
}

/// Correlation of predictions and records, with the records' weights, all (animals, t): mean over the traits that
/// have one.
fn correlation(predicted: ArrayView2<f64>, y: ArrayView2<f64>, weights: Option<&Array2<f64>>) -> f64 {
    let of_trait = |t: usize| {
        let known: Vec<usize> = (0..y.nrows()).filter(|&k| !y[[k, t]].is_nan()).collect();
        let (a, b): (Vec<f64>, Vec<f64>) = known.iter().map(|&k| (predicted[[k, t]], y[[k, t]])).unzip();
        let w = weights.map(|w| known.iter().map(|&k| w[[k, t]]).collect::<Vec<_>>());
        // A network that predicts the same for all is worth nothing.
        let r = match w {
            _ if a.len() < 3 => f64::NAN,
            Some(w) => stats::weighted_pearson(&a, &b, &w),
            None => stats::pearson(&a, &b),
        };
        (a.len() > 2).then_some(if r.is_nan() { 0.0 } else { r })
    };
    stats::mean(&(0..y.ncols()).filter_map(of_trait).collect::<Vec<_>>())
}
