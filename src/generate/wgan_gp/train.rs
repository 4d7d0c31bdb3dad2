//! Training: critic and generator in turn, generated animals evaluated now and then, the best generator kept.

use super::config::{Config, Training};
use super::draw::Room;
use super::early_stopping::{EarlyStopping, Evaluation};
use super::nets::{Critic, GeneratorNet};
use super::pace::{self, Pace};
use super::step::{Batch, Learner, Seen, Told, SUMS};
use super::work::Work;
use crate::comm::layout::share;
use crate::device::network::{Network, Values};
use crate::error::{Error, Result};
use crate::generate::{Herd, Setting};
use crate::nn::division::divide;
use crate::nn::epochs::{self, Advance, Best, Learns, Monitor, Order, Position};
use crate::nn::ledger::Ledger;
use crate::nn::Running;
use crate::rng::{Purpose, Stream};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Looks in a row at animals that hardly differ, after which training is given up.
const COLLAPSED: usize = 3;

/// One epoch of the learning curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Number of the epoch, from 1.
    pub epoch: usize,
    /// Temperature of the classes.
    pub temperature: f64,
    /// What the critic saw, mean over its steps.
    pub seen: Seen,
    /// The evaluation of generated animals, where there was one.
    pub evaluation: Option<Evaluation>,
    /// Whether no earlier evaluation was better.
    pub best: bool,
}

/// Where training stands, the same on all ranks.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct State {
    /// How far it came, by steps of the critic.
    pub at: Position,
    /// Steps of the generator done.
    pub made: u64,
    /// Sums of what the critic saw in the batches of the epoch at work.
    seen: Seen,
    /// Epochs so far.
    pub curve: Vec<Point>,
    /// The epoch whose generator is the best, by F1.
    pub best: Best,
    /// Evaluations in a row that saw a collapse.
    collapsed: usize,
    /// Running moments of the generator, and of the best one.
    pub(super) running: [Vec<Running>; 2],
}

/// A generator and its critic in training.
pub struct Trainer<'a> {
    pub(super) learner: Learner<'a>,
    order: Order,
    early_stopping: EarlyStopping,
    room: Room,
    /// The best generator: its chain, and its runs of SNPs.
    pub(super) best: Vec<Values>,
    /// The running moments before the turn at work.
    before: Values,
    pace: Option<Pace>,
    size: pace::Size,
    /// Where it stands.
    pub state: State,
}

/// A trained generator.
pub struct Fitted {
    /// The best one.
    pub generator: GeneratorNet,
    /// The learning curve.
    pub curve: Vec<Point>,
    /// The epoch of the best one.
    pub best_epoch: usize,
}

/// Trains a generator. Collective.
pub fn fit(setting: &Setting, config: &Config, herd: &Herd, monitor: &mut dyn Monitor) -> Result<Fitted> {
    let config = &config.settled(herd.animals());
    let mut trainer = Trainer::new(setting, config, herd)?;
    epochs::run(&mut trainer, monitor)?;
    trainer.finish()
}

impl<'a> Trainer<'a> {
    /// Before its first step. Collective.
    pub fn new(setting: &Setting<'a>, config: &'a Config, herd: &'a Herd) -> Result<Trainer<'a>> {
        let (ranks, device) = (setting.ranks, setting.device.clone());
        let animals: Vec<usize> = (0..herd.animals()).collect();
        let (train, validation) = held_apart(&config.training, &animals, setting.seed);
        let parts = ranks.parts().1;
        let fewest = train.len() / config.training.batches(train.len());
        if fewest < parts.max(2) {
            let expected = format!("at least {} training animals for each batch", parts.max(2));
            return Err(Error::input("training", expected, fewest, "use fewer ranks, or a larger `batch`"));
        }
        let m = herd.variants.len();
        let runs = ranks.runs_of(m);
        let conditions = herd.conditions.as_ref().map(|c| c.values.view());
        let shape = (conditions.map_or(0, |c| c.ncols()), m);
        let frequencies: Vec<[f64; 3]> =
            herd.frequencies.rows().into_iter().map(|p| [p[0], p[1], p[2]]).collect();
        let made = || -> Result<_> {
            let seed = setting.seed;
            let generator = GeneratorNet::new(&device, &config.network, shape, &runs, &frequencies, seed)?;
            let critic = Critic::new(&device, &config.network, shape, &runs, seed)?;
            let held = hold(&*device, herd, &runs)?;
            let most = train.len().div_ceil(config.training.batches(train.len())).div_ceil(parts);
            let work = Work::new(&*device, ranks, (&generator, &critic), held, most)?;
            let best = copies(&generator)?;
            let (room, told) = (Room::new(&generator)?, Ledger::new(&*device, SUMS)?);
            let running = generator.stack.running.read(&*device)?;
            let before = device.values(generator.stack.running.len())?;
            let device = device.clone();
            let learner = Learner { generator, critic, work, told, ranks, device, config, conditions, seed };
            Ok((learner, best, before, room, running))
        };
        let (learner, best, before, room, running) = ranks.world.agree(made())?;
        let (looked, k) = match validation.len() {
            0 => (&train, config.training.k),
            n => (&validation, config.training.neighbours_among(n)),
        };
        let early_stopping = EarlyStopping::new(ranks, herd, looked, k);
        let state = State { running: [running.clone(), running], ..State::default() };
        let size = pace::Size::of(config, herd, train.len());
        let order = Order::new(&train, setting.seed);
        let pace = None;
        Ok(Trainer { learner, order, early_stopping, room, best, before, pace, size, state })
    }

    /// Whether a state may be one of this training.
    pub(super) fn takes(&self, state: &State) -> bool {
        state.at.batches <= self.batches()
            && state.curve.len() == state.at.epoch
            && state.best.epoch <= state.at.epoch
            && state.running.iter().all(|r| self.learner.generator.stack.running.fit(r))
    }

    /// Batches in an epoch.
    fn batches(&self) -> usize {
        self.learner.config.training.batches(self.order.animals().len())
    }

    /// This rank's part of a batch of these animals.
    fn part(&self, whole: &[usize]) -> Batch {
        let data = self.learner.ranks.data.world();
        let own = share(whole.len(), data.rank(), data.size());
        Batch { animals: whole[own.clone()].to_vec(), first: own.start, count: whole.len() }
    }

    /// Animals whose conditions the generator's next animals get.
    fn chosen(&self) -> Batch {
        let train = self.order.animals();
        let mut s = Stream::new(self.learner.seed, Purpose::Condition, (1 << 62) + self.state.made);
        let count = train.len() / self.batches();
        let whole: Vec<usize> = (0..count).map(|_| train[s.below(train.len())]).collect();
        self.part(&whole)
    }

    /// Whether the generator has fallen behind the critic.
    fn is_turn_of_generator(&self) -> bool {
        self.state.made < self.state.at.step / self.learner.config.training.critic_steps as u64
    }

    /// A step of the critic; tells whether it was done.
    fn judge(&mut self, temperature: f64) -> Result<bool> {
        let (at, all) = (self.state.at, self.batches());
        let whole = self.order.batch(at, all).to_vec();
        let (batch, step) = (self.part(&whole), at.step);
        let done = self.turn(|learner| {
            Ok(learner.judge(&batch, step, temperature)? && learner.move_critic(step).map(|()| true)?)
        })?;
        if done {
            self.state.at.advance();
        }
        Ok(done)
    }

    /// A step of the generator; tells whether it was done.
    fn fool(&mut self, temperature: f64) -> Result<bool> {
        let (chosen, made) = (self.chosen(), self.state.made);
        let done = self.turn(|learner| {
            Ok(learner.fool(&chosen, made, temperature)? && learner.move_generator(made).map(|()| true)?)
        })?;
        self.state.made += u64::from(done);
        Ok(done)
    }

    /// A turn of the critic or the generator; what is given up leaves no trace.
    fn turn(&mut self, work: impl FnOnce(&mut Learner<'a>) -> Result<bool>) -> Result<bool> {
        if self.learner.told.is_full() {
            self.settle()?;
        }
        let Trainer { learner, before, .. } = self;
        let device = learner.device.clone();
        learner.ranks.world.section(|| {
            learner.generator.stack.running.copy_to(&*device, before)?;
            let done = work(learner)?;
            if !done {
                learner.generator.stack.running.put_back(&*device, before)?;
            }
            Ok(done)
        })
    }

    /// Looks at what steps were told that nobody has looked at yet; an error where a loss is no number. Collective.
    pub(super) fn settle(&mut self) -> Result<()> {
        let told = self.learner.ranks.world.section(|| self.learner.settle())?;
        for told in told {
            let loss = match told {
                Told::Critic(seen) => {
                    self.state.seen.add(&seen);
                    seen.loss()
                }
                Told::Generator(loss) => loss,
            };
            if !loss.is_finite() {
                let problem = format!("the loss became {loss} before step {}", self.state.at.step + 1);
                let advice = "choose a smaller `learning_rate`, or a larger `gradient_penalty`";
                return Err(Error::failed("training", problem, advice));
            }
        }
        Ok(())
    }

    /// Looks at generated animals where it is time, and begins the next epoch; tells whether that was done.
    fn end_epoch(&mut self, temperature: f64) -> Result<bool> {
        self.settle()?;
        let t = &self.learner.config.training;
        let epoch = self.state.at.epoch + 1;
        let mut evaluation = None;
        if epoch.is_multiple_of(t.evaluate_every) || epoch == t.epochs {
            let learner = &mut self.learner;
            let (ranks, shape) = (learner.ranks, (learner.conditions, learner.config.network.repeat));
            evaluation = self.early_stopping.evaluate(
                ranks,
                &mut learner.generator,
                shape,
                learner.seed,
                &mut self.room,
            )?;
            if evaluation.is_none() {
                return Ok(false);
            }
        }
        let each = 1.0 / self.state.at.batches as f64;
        let seen = std::mem::take(&mut self.state.seen).times(each);
        self.state.at.next_epoch();
        let best = evaluation.map_or(Ok(false), |evaluation| self.weigh(&evaluation))?;
        log::debug!("epoch {epoch}: {seen:?}, {evaluation:?}");
        self.state.curve.push(Point { epoch, temperature, seen, evaluation, best });
        Ok(true)
    }

    /// Keeps the generator where it is the best so far; an error where it makes one animal again and again.
    fn weigh(&mut self, evaluation: &Evaluation) -> Result<bool> {
        self.state.collapsed = if evaluation.is_collapse() { self.state.collapsed + 1 } else { 0 };
        if self.state.collapsed >= COLLAPSED {
            let share = 100.0 * evaluation.variance;
            let problem = format!(
                "the generated animals hardly differ: {share:.1} % of the herd's variance after epoch {}",
                self.state.at.epoch
            );
            let advice = "choose a smaller `learning_rate`, more `critic_steps`, or another --seed";
            return Err(Error::failed("training", problem, advice));
        }
        let best = self.state.best.weigh(self.state.at.epoch, Some(evaluation.f1));
        if best {
            let Learner { generator, device, ranks, .. } = &self.learner;
            let copied = parameters(generator)
                .zip(&mut self.best)
                .try_for_each(|(from, to)| device.copy(from.whole(), to.whole_mut()));
            ranks.world.agree(copied)?;
            self.state.running[1] = ranks.world.agree(generator.stack.running.read(&**device))?;
        }
        Ok(best)
    }

    /// The best generator.
    fn finish(self) -> Result<Fitted> {
        let Learner { mut generator, device, ranks, .. } = self.learner;
        if self.state.best.epoch > 0 {
            let snp_layer = generator.snp_layer.iter_mut().map(|f| f.parameters_mut());
            let to = std::iter::once(&mut generator.stack.parameters).chain(snp_layer);
            let copied =
                self.best.iter().zip(to).try_for_each(|(from, to)| device.copy(from.whole(), to.whole_mut()));
            let running = generator.stack.running.write(&*device, &self.state.running[1]);
            ranks.world.agree(copied.and(running))?;
        }
        Ok(Fitted { generator, curve: self.state.curve, best_epoch: self.state.best.epoch })
    }
}

impl Learns for Trainer<'_> {
    fn length(&self) -> (usize, usize) {
        (self.learner.config.training.epochs, self.batches())
    }

    fn position(&self) -> Position {
        self.state.at
    }

    fn is_settled(&self) -> bool {
        let patience = self.learner.config.training.patience;
        patience > 0 && self.state.best.waited >= patience
    }

    /// A step of the critic, and of the generator where it is its turn. What was given up half way begins anew.
    fn step(&mut self) -> Result<Advance> {
        let (at, all) = (self.state.at, self.batches());
        self.pace.get_or_insert_with(|| Pace::begin(at.step));
        let temperature = self.learner.config.training.temperature_at(at.epoch);
        let judged = self.is_turn_of_generator() || at.batches == all || self.judge(temperature)?;
        if !judged || (self.is_turn_of_generator() && !self.fool(temperature)?) {
            return Ok(Advance::GivenUp);
        }
        if let Some(pace) = &mut self.pace {
            pace.tell(self.state.at.step, &self.size);
        }
        if self.state.at.batches < all {
            return Ok(Advance::Step);
        }
        Ok(if self.end_epoch(temperature)? { Advance::Epoch } else { Advance::GivenUp })
    }
}

/// Animals to learn from, and animals that the choice of the generator looks at.
fn held_apart(training: &Training, animals: &[usize], seed: u64) -> (Vec<usize>, Vec<usize>) {
    let share = training.share(animals.len());
    if share < training.validation {
        log::warn!(
            "{} animals are too few to hold some back: the generator is chosen by those that it learns from",
            animals.len()
        );
    }
    divide(animals, None, share, seed)
}

/// The parameters of a generator: of its chain, then of its runs of SNPs.
fn parameters(generator: &GeneratorNet) -> impl Iterator<Item = &Values> {
    std::iter::once(&generator.stack.parameters).chain(generator.snp_layer.iter().map(|f| f.parameters()))
}

fn copies(generator: &GeneratorNet) -> Result<Vec<Values>> {
    let device = generator.stack.device();
    let copy = |values: &Values| {
        let mut to = device.values(values.len())?;
        device.copy(values.whole(), to.whole_mut())?;
        Ok(to)
    };
    parameters(generator).map(copy).collect()
}

/// The calls of each run of SNPs.
fn hold(
    device: &dyn Network,
    herd: &Herd,
    runs: &[std::ops::Range<usize>],
) -> Result<Vec<crate::device::Genotypes>> {
    let animals: Vec<usize> = (0..herd.animals()).collect();
    let held = runs.iter().map(|run| {
        let columns: Vec<usize> = run.clone().map(|j| j - herd.snps.start).collect();
        let packed = match *run == herd.snps {
            true => herd.packed.clone(),
            false => Arc::new(herd.packed.select(&animals, &columns)),
        };
        // Classes know no coding.
        device.hold(&packed, &vec![[0.0; 4]; run.len()])
    });
    held.collect()
}
