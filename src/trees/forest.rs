//! Random forests (Breiman 2001): trees of animals drawn with replacement, each node asking about some SNPs only; what
//! they say is averaged.

use super::boosting::{number, Fitted, Lesson};
use super::grow::{grow, Genotypes, Order, Task};
use super::keep::{self, State};
use super::permutation::{self, OutOfBag};
use super::split::{Rules, DEEPEST};
use super::{check, Tree};
use crate::error::Result;
use crate::nn::checkpointer::Checkpointer;
use crate::nn::train::Point;
use crate::progress::Progress;
use crate::rng::{Purpose, Stream};
use crate::stats;
use ndarray::Array2;
use serde::{Deserialize, Serialize};

/// Trees that grow at a time, over all traits, at least.
const TOGETHER: usize = 8;

/// What a forest is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Trees of a trait.
    pub trees: usize,
    /// Share of the SNPs that each node may ask about: mtry / m.
    pub snp_share: f64,
    /// Animals on each side of a split, at least.
    pub min_animals: usize,
    /// Splits from the root to a leaf, at most.
    pub depth: usize,
    /// Animals that are drawn for each tree, as a share of those with a record.
    pub row_share: f64,
}

impl Default for Config {
    fn default() -> Config {
        Config { trees: 300, snp_share: 0.3, min_animals: 5, depth: DEEPEST, row_share: 1.0 }
    }
}

impl Config {
    /// An error at `place` unless trees can be grown by it.
    ///
    /// # Errors
    /// Numbers out of their range.
    pub fn check(&self, place: &str) -> Result<()> {
        let share = |x: f64| x > 0.0 && x <= 1.0;
        let checks = [
            (self.trees > 0, "trees", "1 or more", self.trees.to_string()),
            (share(self.snp_share), "snp_share", "a number above 0, at most 1", self.snp_share.to_string()),
            (self.min_animals > 0, "min_animals", "1 or more", self.min_animals.to_string()),
            ((1..=DEEPEST).contains(&self.depth), "depth", "1 to 64", self.depth.to_string()),
            (share(self.row_share), "row_share", "a number above 0, at most 1", self.row_share.to_string()),
        ];
        check(place, checks)
    }

    fn rules(&self) -> Rules {
        Rules {
            depth: self.depth,
            leaves: usize::MAX,
            min_animals: self.min_animals as f64,
            l2: 0.0,
            gamma: 0.0,
            snp_share: self.snp_share,
        }
    }
}

/// Where a forest stands.
#[derive(Serialize, Deserialize)]
struct Grown {
    /// Trees of each trait.
    trees: Vec<Vec<Tree>>,
    /// Sums over trees of what they say, (n, t).
    sums: Array2<f64>,
    /// The same of animals out of their bag, and how many trees these are, (n, t).
    bag: Array2<f64>,
    out_of: Array2<u32>,
    /// Sums over trees of the importance by permutation, (m + f, t); no rows where nobody asks.
    permutation: Array2<f64>,
    curve: Vec<Point>,
}

impl State for Grown {
    fn done(&self) -> usize {
        self.trees.first().map_or(0, Vec::len)
    }

    fn is_like(&self, other: &Grown) -> bool {
        let shape = |of: &Grown| (of.trees.len(), of.sums.dim(), of.out_of.dim(), of.permutation.dim());
        shape(self) == shape(other) && other.bag.dim() == self.bag.dim()
    }
}

/// Grows the trees of all traits, which a checkpointer may keep. Collective.
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
    let rules = config.rules();
    let recorded: Vec<Vec<u32>> = (0..t).map(|t| lesson.recorded(lesson.train, t)).collect();
    let every = Stream::new(lesson.seed, Purpose::TreeSnps, 0);
    let snps = genotypes.draw(&every, 1.0);
    let units = lesson.permuted.map_or(0, |questions| genotypes.snps() + questions.features.len());
    let mut state = Grown {
        trees: vec![Vec::new(); t],
        sums: Array2::zeros((n, t)),
        bag: Array2::zeros((n, t)),
        out_of: Array2::zeros((n, t)),
        permutation: Array2::zeros((units, t)),
        curve: Vec::new(),
    };
    keep::begin(&mut checkpointer, &mut state)?;
    let progress = Progress::new("trees", config.trees);
    progress.skip(state.done());
    let together = TOGETHER.div_ceil(t.max(1));
    while state.done() < config.trees && t > 0 {
        let first = state.done();
        let batch: Vec<(usize, usize)> = (first..(first + together).min(config.trees))
            .flat_map(|tree| (0..t).map(move |t| (tree, t)))
            .collect();
        let task = |&(tree, t): &(usize, usize)| {
            let animals = draw(&recorded[t], config.row_share, lesson.seed, tree);
            let gradient = |&i: &u32| lesson.weight(i as usize, t) * lesson.y[[i as usize, t]];
            let gradients: Vec<f64> = animals.iter().map(gradient).collect();
            lesson.task(animals, &gradients, t, number(tree, t))
        };
        let tasks: Vec<Task> = batch.iter().map(task).collect();
        let grown = grow(genotypes, &snps, &tasks, (&rules, Order::Latest), lesson.seed)?;
        for ((&(tree, t), mut grown), task) in batch.iter().zip(grown).zip(&tasks) {
            // Animals stand in rising order.
            let is_out = |i: &u32| task.animals.binary_search(i).is_err();
            for leaf in &grown.leaves {
                let mean = mean(&lesson, &leaf.learned, t);
                grown.tree.nodes[leaf.node].value = mean / config.trees as f64;
                for &i in &leaf.members {
                    state.sums[[i as usize, t]] += mean;
                    if is_out(&i) {
                        state.bag[[i as usize, t]] += mean;
                        state.out_of[[i as usize, t]] += 1;
                    }
                }
            }
            if let Some(questions) = lesson.permuted {
                let animals: Vec<u32> = recorded[t].iter().copied().filter(is_out).collect();
                let (scale, grown) = (config.trees as f64, &grown.tree);
                let of = OutOfBag { tree: grown, animals: &animals, scale, trait_: t, number: tree };
                permutation::add(genotypes, (&lesson, questions), &of, state.permutation.column_mut(t));
            }
            state.trees[t].push(grown.tree);
        }
        let done = state.done();
        state.curve.push(point(&lesson, &recorded, (&state.bag, &state.out_of), done));
        progress.add(done - first);
        keep::after_step(&mut checkpointer, &mut state, done.div_ceil(together))?;
    }
    let Grown { trees, sums, bag, out_of, permutation, curve } = state;
    let out_of_bag = Array2::from_shape_fn((n, t), |at| match out_of[at] {
        0 => f64::NAN,
        count => bag[at] / f64::from(count),
    });
    let each = config.trees as f64;
    let permutation = lesson.permuted.map(|_| permutation / each);
    Ok(Fitted { trees, values: sums / each, out_of_bag: Some(out_of_bag), permutation, curve })
}

/// Draws animals with replacement, in rising order; the same for all traits with the same records.
fn draw(recorded: &[u32], share: f64, seed: u64, tree: usize) -> Vec<u32> {
    let mut stream = Stream::new(seed, Purpose::TreeAnimals, tree as u64);
    let count =
        if recorded.is_empty() { 0 } else { ((share * recorded.len() as f64).round() as usize).max(1) };
    let mut animals: Vec<u32> = (0..count).map(|_| recorded[stream.below(recorded.len())]).collect();
    animals.sort_unstable();
    animals
}

/// Weighted mean of the records of some animals; 0 without any.
fn mean(lesson: &Lesson, animals: &[u32], t: usize) -> f64 {
    let (mut sum, mut weights) = (0.0, 0.0);
    for &i in animals {
        let w = lesson.weight(i as usize, t);
        sum += w * lesson.y[[i as usize, t]];
        weights += w;
    }
    if weights > 0.0 {
        sum / weights
    } else {
        0.0
    }
}

/// Squared error and correlation of the out-of-bag values after some trees, means over the traits.
fn point(
    lesson: &Lesson,
    recorded: &[Vec<u32>],
    (bag, out_of): (&Array2<f64>, &Array2<u32>),
    trees: usize,
) -> Point {
    let (mut cost, mut correlation) = (0.0, 0.0);
    for (t, animals) in recorded.iter().enumerate() {
        let seen = animals.iter().map(|&i| [i as usize, t]).filter(|&at| out_of[at] > 0);
        let (said, y): (Vec<f64>, Vec<f64>) =
            seen.map(|at| (bag[at] / f64::from(out_of[at]), lesson.y[at])).unzip();
        let squares: f64 = said.iter().zip(&y).map(|(a, b)| (a - b) * (a - b)).sum();
        cost += squares / y.len() as f64 / recorded.len() as f64;
        correlation += stats::pearson(&said, &y) / recorded.len() as f64;
    }
    Point { epoch: trees, learning_rate: 1.0, loss: cost, correlation, best: true }
}
