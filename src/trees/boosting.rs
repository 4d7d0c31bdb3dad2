//! Gradient boosting of trees (Friedman 2001), with Newton steps (Chen & Guestrin 2016) for all traits side by side.

use super::grow::{grow, Genotypes, Grown, Leaf, Order, Task};
use super::keep::{self, State};
use super::split::{is_drawn, Rules, Units};
use super::{check, whole, Questions, Tree};
use crate::error::Result;
use crate::nn::checkpointer::Checkpointer;
use crate::nn::train::Point;
use crate::progress::Progress;
use crate::rng::{Purpose, Stream};
use crate::stats;
use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Trees side by side that keep threads busy, a node of each at a time.
const MANY: usize = 8;

/// How trees follow one another. The defaults were chosen on simulated herds of 2,000 and 4,000 cows
/// (benches/results/ensembles.md): many small steps beat early stopping on a share of so few animals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Trees of a trait, at most.
    pub rounds: usize,
    /// What of a tree is added.
    pub learning_rate: f64,
    /// Splits from the root to a leaf, at most.
    pub depth: usize,
    /// Leaves of a tree, at most; those that gain most are split first.
    pub leaves: usize,
    /// Animals on each side of a split, at least.
    pub min_animals: usize,
    /// λ: what is added to the animals of a leaf.
    pub l2: f64,
    /// γ: what a split must gain, in squared standard deviations of the trait.
    pub gamma: f64,
    /// Share of the animals that each tree learns from.
    pub row_share: f64,
    /// Share of the SNPs that each tree may ask about.
    pub snp_share: f64,
    /// δ of Huber's loss in standard deviations of the trait; 0 for squared loss.
    pub huber_delta: f64,
    /// Share of the training animals that early stopping looks at.
    pub validation: f64,
    /// Rounds without a smaller loss on them before a trait stops.
    pub patience: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            rounds: 1000,
            learning_rate: 0.02,
            depth: 4,
            leaves: 16,
            min_animals: 10,
            l2: 50.0,
            gamma: 0.0,
            row_share: 0.7,
            snp_share: 0.2,
            huber_delta: 0.0,
            validation: 0.0,
            patience: 50,
        }
    }
}

impl Config {
    /// An error at `place` unless trees can be grown by it.
    ///
    /// # Errors
    /// Numbers out of their range.
    pub fn check(&self, place: &str) -> Result<()> {
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let share = |x: f64| x > 0.0 && x <= 1.0;
        let checks = [
            (self.rounds > 0, "rounds", "1 or more", self.rounds.to_string()),
            (
                positive(self.learning_rate) && self.learning_rate <= 1.0,
                "learning_rate",
                "a number above 0, at most 1",
                self.learning_rate.to_string(),
            ),
            ((1..=super::split::DEEPEST).contains(&self.depth), "depth", "1 to 64", self.depth.to_string()),
            (self.leaves > 1, "leaves", "2 or more", self.leaves.to_string()),
            (self.min_animals > 0, "min_animals", "1 or more", self.min_animals.to_string()),
            (self.l2 >= 0.0 && self.l2.is_finite(), "l2", "0 or more", self.l2.to_string()),
            (self.gamma >= 0.0 && self.gamma.is_finite(), "gamma", "0 or more", self.gamma.to_string()),
            (share(self.row_share), "row_share", "a number above 0, at most 1", self.row_share.to_string()),
            (share(self.snp_share), "snp_share", "a number above 0, at most 1", self.snp_share.to_string()),
            (
                self.huber_delta >= 0.0 && self.huber_delta.is_finite(),
                "huber_delta",
                "0 or more",
                self.huber_delta.to_string(),
            ),
            (
                (0.0..=0.9).contains(&self.validation),
                "validation",
                "a share from 0 to 0.9",
                self.validation.to_string(),
            ),
            (self.patience > 0, "patience", "1 or more", self.patience.to_string()),
        ];
        check(place, checks)
    }

    /// The rules, and the order in which `t` trees grow side by side.
    fn rules(&self, t: usize) -> (Rules, Order) {
        let rules = Rules {
            depth: self.depth,
            leaves: self.leaves,
            min_animals: self.min_animals as f64,
            l2: self.l2,
            gamma: self.gamma,
            snp_share: 1.0,
        };
        // Where there is room for all leaves, their order does not matter: many trees keep threads busy without all nodes of a
        // level, whose sums take memory.
        let order = match self.depth < 31 && self.leaves >= 1 << self.depth {
            true if t >= MANY => Order::Latest,
            true => Order::Levels,
            false => Order::Best,
        };
        (rules, order)
    }
}

/// What trees learn from.
#[derive(Debug, Clone, Copy)]
pub struct Lesson<'a> {
    /// Records of all animals without their fixed effects, in units of their spread, (n, t), NaN where there is none.
    pub y: ArrayView2<'a, f64>,
    /// Weights of the records, (n, t).
    pub weights: Option<ArrayView2<'a, f64>>,
    /// Animals to learn from, rising.
    pub train: &'a [usize],
    /// Animals that early stopping looks at.
    pub validation: &'a [usize],
    /// Seed of all that is drawn.
    pub seed: u64,
    /// Questions about features, where importance by permutation is asked for, of forests.
    pub permuted: Option<&'a Questions>,
}

impl Lesson<'_> {
    /// The weight of a record.
    pub fn weight(&self, i: usize, t: usize) -> f64 {
        self.weights.map_or(1.0, |w| w[[i, t]])
    }

    /// The `animals` that have a record of a trait.
    pub fn recorded(&self, animals: &[usize], t: usize) -> Vec<u32> {
        animals.iter().filter(|&&i| !self.y[[i, t]].is_nan()).map(|&i| i as u32).collect()
    }

    /// A tree's task: `animals` with their `gradients`.
    pub fn task(&self, animals: Vec<u32>, gradients: &[f64], t: usize, number: u64) -> Task {
        let stream = |of: u64| Stream::new(self.seed, Purpose::Rounding, number << 1 | of);
        let gradient = whole::round(gradients, &stream(0));
        let mut units = Units { gradient: gradient.unit, weight: 1.0, mean_weight: 1.0 };
        let mut columns = gradient.values;
        if self.weights.is_some() && !animals.is_empty() {
            let weights: Vec<f64> = animals.iter().map(|&i| self.weight(i as usize, t)).collect();
            let mean_weight = weights.iter().sum::<f64>() / weights.len() as f64;
            let weight = whole::round(&weights, &stream(1));
            units = Units { weight: weight.unit, mean_weight, ..units };
            columns.extend(weight.values);
        }
        Task { animals, columns, units, number }
    }
}

/// Trees that were grown, and what they say.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// Trees of each trait, t.
    pub trees: Vec<Vec<Tree>>,
    /// Sums of their values for all animals, (n, t).
    pub values: Array2<f64>,
    /// Values of the animals to learn from without the trees that learned from them, (n, t), NaN for others; of forests.
    pub out_of_bag: Option<Array2<f64>>,
    /// Importance of SNPs and features by permutation, (m + f, t), in variances of the traits; of forests that are asked.
    pub permutation: Option<Array2<f64>>,
    /// Loss and correlation by rounds, means over the traits.
    pub curve: Vec<Point>,
}

/// Where boosting stands.
#[derive(Serialize, Deserialize)]
struct Boosted {
    round: usize,
    learners: Vec<Learner>,
    curve: Vec<Point>,
}

impl State for Boosted {
    fn done(&self) -> usize {
        self.round
    }

    fn is_like(&self, other: &Boosted) -> bool {
        let lengths = |of: &Boosted| of.learners.iter().map(|l| l.values.len()).collect::<Vec<_>>();
        lengths(self) == lengths(other)
    }
}

/// A trait that learns.
#[derive(Serialize, Deserialize)]
struct Learner {
    trees: Vec<Tree>,
    values: Vec<f64>,
    best: Option<Best>,
    done: bool,
}

/// The best round so far.
#[derive(Serialize, Deserialize)]
struct Best {
    loss: f64,
    trees: usize,
    values: Vec<f64>,
}

/// Names the random numbers of a trait's tree.
pub(super) fn number(tree: usize, t: usize) -> u64 {
    (tree as u64) << 16 | t as u64
}

/// Grows the trees of all traits round by round, which a checkpointer may keep. Collective.
///
/// # Errors
/// What the device meets, and a wish to stop.
pub fn fit(
    genotypes: &Genotypes,
    config: &Config,
    lesson: Lesson,
    mut checkpointer: Option<&mut Checkpointer>,
) -> Result<Fitted> {
    let (n, t) = lesson.y.dim();
    let (rules, order) = config.rules(t);
    let fresh = |_| Learner { trees: Vec::new(), values: vec![0.0; n], best: None, done: false };
    let mut state = Boosted { round: 0, learners: (0..t).map(fresh).collect(), curve: Vec::new() };
    let recorded: Vec<Vec<u32>> = (0..t).map(|t| lesson.recorded(lesson.train, t)).collect();
    let validation: Vec<Vec<u32>> = (0..t).map(|t| lesson.recorded(lesson.validation, t)).collect();
    keep::begin(&mut checkpointer, &mut state)?;
    let progress = Progress::new("rounds", config.rounds);
    progress.skip(state.round);
    while state.round < config.rounds {
        let Boosted { round, learners, curve } = &mut state;
        let round = *round;
        let mut active: Vec<(usize, &mut Learner)> =
            learners.iter_mut().enumerate().filter(|(_, learner)| !learner.done).collect();
        if active.is_empty() {
            break;
        }
        let of = |purpose| Stream::new(lesson.seed, purpose, round as u64);
        let snps = genotypes.draw(&of(Purpose::TreeSnps), config.snp_share);
        let rows = of(Purpose::TreeAnimals);
        let drawn = |i: &u32| config.row_share >= 1.0 || is_drawn(&rows, *i, config.row_share);
        let task = |(t, learner): &(usize, &mut Learner)| {
            let t = *t;
            let animals: Vec<u32> = recorded[t].iter().copied().filter(drawn).collect();
            let gradients: Vec<f64> = animals
                .iter()
                .map(|&i| gradient(config, &lesson, (i as usize, t), &learner.values))
                .collect();
            lesson.task(animals, &gradients, t, number(round, t))
        };
        let tasks: Vec<Task> = active.par_iter().map(task).collect();
        let grown = grow(genotypes, &snps, &tasks, (&rules, order), lesson.seed)?;
        let learn = |((t, learner), mut grown): (&mut (usize, &mut Learner), Grown)| {
            for leaf in &grown.leaves {
                let value = config.learning_rate * newton(config, &lesson, *t, leaf, &learner.values);
                grown.tree.nodes[leaf.node].value = value;
                leaf.members.iter().for_each(|&i| learner.values[i as usize] += value);
            }
            learner.trees.push(grown.tree);
            learner.evaluate(config, loss(config, &lesson, &validation[*t], *t, &learner.values));
            let cost = loss(config, &lesson, &recorded[*t], *t, &learner.values);
            [cost, correlation(&lesson, &validation[*t], *t, &learner.values)]
        };
        let learned: Vec<[f64; 2]> = active.par_iter_mut().zip(grown).map(learn).collect();
        let mean = |of: usize| learned.iter().map(|each| each[of]).sum::<f64>() / learned.len() as f64;
        let (cost, correlation) = (mean(0), mean(1));
        let best = !correlation.is_nan() && curve.iter().all(|p| correlation > p.correlation);
        curve.push(Point {
            epoch: round + 1,
            learning_rate: config.learning_rate,
            loss: cost,
            correlation,
            best,
        });
        progress.add(1);
        state.round += 1;
        keep::after_step(&mut checkpointer, &mut state, round + 1)?;
    }
    let Boosted { learners, curve, .. } = state;
    let mut values = Array2::zeros((n, t));
    let mut trees = Vec::with_capacity(t);
    for (mut learner, mut column) in learners.into_iter().zip(values.columns_mut()) {
        if let Some(best) = learner.best {
            learner.trees.truncate(best.trees);
            learner.values = best.values;
        }
        column.iter_mut().zip(&learner.values).for_each(|(to, from)| *to = *from);
        trees.push(learner.trees);
    }
    Ok(Fitted { trees, values, out_of_bag: None, permutation: None, curve })
}

impl Learner {
    /// Takes note of the loss on the validation animals, NaN without any.
    fn evaluate(&mut self, config: &Config, loss: f64) {
        if loss.is_nan() {
            return;
        }
        match &self.best {
            Some(best) if loss >= best.loss => self.done = self.trees.len() - best.trees >= config.patience,
            _ => self.best = Some(Best { loss, trees: self.trees.len(), values: self.values.clone() }),
        }
    }
}

/// −dL/dF of a record: weight times residual, cut off where the loss is Huber's.
fn gradient(config: &Config, lesson: &Lesson, (i, t): (usize, usize), values: &[f64]) -> f64 {
    let left = lesson.y[[i, t]] - values[i];
    let left =
        if config.huber_delta > 0.0 { left.clamp(-config.huber_delta, config.huber_delta) } else { left };
    lesson.weight(i, t) * left
}

/// The Newton step of a leaf: Σg / (Σh + λ), of the numbers before they were rounded.
fn newton(config: &Config, lesson: &Lesson, t: usize, leaf: &Leaf, values: &[f64]) -> f64 {
    let (mut g, mut h) = (0.0, config.l2);
    for &i in &leaf.learned {
        g += gradient(config, lesson, (i as usize, t), values);
        h += lesson.weight(i as usize, t);
    }
    if h > 0.0 {
        g / h
    } else {
        0.0
    }
}

/// Weighted mean loss of some animals; NaN without any.
fn loss(config: &Config, lesson: &Lesson, animals: &[u32], t: usize, values: &[f64]) -> f64 {
    let (mut sum, mut weights) = (0.0, 0.0);
    for &i in animals {
        let (i, d) = (i as usize, config.huber_delta);
        let (left, w) = ((lesson.y[[i, t]] - values[i]).abs(), lesson.weight(i, t));
        sum += w * if d > 0.0 && left > d { d * (2.0 * left - d) } else { left * left };
        weights += w;
    }
    sum / weights
}

/// Correlation of values and records of some animals; NaN without any.
fn correlation(lesson: &Lesson, animals: &[u32], t: usize, values: &[f64]) -> f64 {
    let of = |f: &dyn Fn(usize) -> f64| animals.iter().map(|&i| f(i as usize)).collect::<Vec<f64>>();
    stats::pearson(&of(&|i| values[i]), &of(&|i| lesson.y[[i, t]]))
}
