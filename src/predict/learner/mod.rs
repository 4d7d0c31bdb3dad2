//! What learns: something that is fitted to the records of training animals and predicts all animals of a store.

pub mod augmented;
pub mod dl;
pub mod dlgblup;
pub mod ensemble;
pub mod gblup;
pub mod mlp;
pub mod out_of_fold;
pub mod stacked;
#[cfg(test)]
mod tests;

use super::data::{Block, Data};
use super::Predictor;
use crate::comm::World;
use crate::error::Result;
use crate::mixed::gblup::Fit;
use crate::mixed::{Estimate, Group};
use crate::nn::checkpointer::Checkpointer;
use crate::nn::division::divide;
use crate::nn::train::Point;
use crate::nn::Synthetic;
use crate::records::Phenotypes;
use ndarray::{Array2, ArrayView2, Axis};
use std::path::PathBuf;

/// What a learner is told of the records: those of the training animals and no others, so that no test record can
/// reach a prediction.
#[derive(Debug, Clone)]
pub struct Training {
    /// Traits by number with the same recorded animals, and their records.
    pub groups: Vec<(Vec<usize>, Group)>,
    /// The same records in the order of all animals, NaN elsewhere, with the fixed effects' values of all animals.
    pub records: Phenotypes,
    /// Seed of the fit's random numbers.
    pub seed: u64,
    /// Seed of what fits to the same animals have in common: inner folds, a smaller reference.
    pub split_seed: u64,
    /// Which of all animals are synthetic, where there are some.
    pub synthetic: Option<Synthetic>,
}

/// What came of a fit. Traits stand in rising order of their numbers.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Learned {
    /// Numbers of the traits, t.
    pub traits: Vec<usize>,
    /// Records of each that were learned from, t.
    pub trained: Vec<usize>,
    /// Genetic values of all animals, (n, t).
    pub values: Array2<f64>,
    /// Fixed effects, (q, t).
    pub fixed: Array2<f64>,
    /// Variance components, where the learner estimates them.
    pub estimates: Vec<Option<Estimate>>,
    /// What values are added from: a kind, and its weight for each trait, t; empty where they are not added.
    pub weights: Vec<(String, Vec<f64>)>,
    /// Wall seconds of the fit.
    pub seconds: f64,
}

/// A model for other animals.
#[derive(Default)]
pub struct Trained {
    /// The model; some kinds gather it on the root alone.
    pub model: Option<Box<dyn Predictor>>,
    /// How it learned, epoch by epoch; empty where it learns in one step.
    pub curve: Vec<Point>,
    /// Values of training animals by the trees that did not learn from them, (n, t), NaN for others; of forests.
    pub out_of_bag: Option<Array2<f64>>,
    /// Importance of SNPs and features by permutation, (m + f, t), in variances of the traits; of forests.
    pub permutation: Option<Array2<f64>>,
}

/// Checked settings of a kind of model, and how it is fitted by them.
pub trait Learner {
    /// All settings, as TOML.
    fn settings(&self) -> String;

    /// Whether one fit takes all traits together; else one takes those with the same recorded animals.
    fn joint(&self) -> bool {
        true
    }

    /// Whether the seed changes what is predicted.
    fn is_stochastic(&self) -> bool {
        true
    }

    /// Whether the number of ranks changes last bits of what is predicted.
    fn varies_with_ranks(&self) -> bool {
        false
    }

    /// Whether it learns from features beside the genotypes.
    fn reads_features(&self) -> bool {
        false
    }

    /// What it reads of the data.
    fn reads(&self) -> Vec<Block>;

    /// The additive GBLUP that it is, where it is one and nothing else: fixed effects by generalised least squares.
    fn additive_gblup(&self) -> bool {
        false
    }

    /// Whether its values come with variance components that it estimates.
    fn estimates(&self) -> bool {
        false
    }

    /// How many fits of at most `animals` training animals to ask for at once; the same on all ranks. Collective.
    fn at_once(&self, _data: &Data, _animals: usize) -> usize {
        1
    }

    /// Whether sets of the same split share work, so that all of them are to be asked for together.
    fn shares_splits(&self) -> bool {
        false
    }

    /// Fits each of the training sets. Collective; every rank receives all, in their order.
    ///
    /// # Errors
    /// What the data or the device meet, and sets that cannot be fitted.
    fn fit(&self, data: &Data, sets: &[Training]) -> Result<Vec<Learned>>;

    /// As [`Learner::fit`]; long fits keep their state in the places that are given, one for each set, and begin with what
    /// is there. Collective.
    ///
    /// # Errors
    /// As [`Learner::fit`], and a wish to stop.
    fn fit_kept(&self, data: &Data, sets: &[Training], _places: &[Place]) -> Result<Vec<Learned>> {
        self.fit(data, sets)
    }

    /// Whether [`Learner::train`] keeps its state, so that a run which was stopped can go on.
    fn resumes(&self) -> bool {
        false
    }

    /// Fits one set and gives the model for other animals; a checkpointer may keep the state. Collective.
    ///
    /// # Errors
    /// As [`Learner::fit`]; settings whose models are for the animals of the store alone; a wish to stop.
    fn train(&self, data: &Data, set: &Training, checkpointer: Option<&mut Checkpointer>) -> Result<Trained>;

    /// What is computed, with sources, for the methods of a report.
    fn methods(&self) -> String;

    /// Floating-point operations and bytes of one fit of `n` animals with `m` SNPs and `t` traits, about.
    fn cost(&self, n: f64, m: f64, t: f64) -> Cost;
}

/// Where the state of a long fit is kept while it goes on.
#[derive(Debug, Clone)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// All that the fit depends on; counts on the root.
    pub identity: String,
}

impl Place {
    /// What keeps a fit there. Collective.
    pub fn checkpointer(&self, world: &World) -> Checkpointer {
        Checkpointer::unasked(world, &self.path, vec![("fit".into(), self.identity.clone())])
    }
}

/// What a fit takes, about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Floating-point operations.
    pub operations: f64,
    /// Bytes of memory.
    pub bytes: f64,
}

impl Learned {
    /// Values of all animals, (n, t), and fixed effects, (q, t), by a model that estimates no variances.
    pub fn values(set: &Training, values: Array2<f64>, fixed: Array2<f64>, seconds: f64) -> Learned {
        let (traits, trained) = (set.traits(), set.recorded());
        let estimates = vec![None; traits.len()];
        Learned { traits, trained, values, fixed, estimates, weights: Vec::new(), seconds }
    }

    /// What GBLUP says of the traits of a set.
    pub fn of(set: &Training, fit: Fit, seconds: f64) -> Learned {
        let estimates = fit.estimates.into_iter().map(Some).collect();
        let (traits, trained) = (set.traits(), set.recorded());
        Learned {
            traits,
            trained,
            values: fit.ebv,
            fixed: fit.fixed,
            estimates,
            weights: Vec::new(),
            seconds,
        }
    }
}

impl Learned {
    /// Fits to the same animals, each of other traits, as one of all of them.
    pub fn joined(all: Vec<Learned>) -> Learned {
        let mut order: Vec<(usize, usize, usize)> = Vec::new();
        for (of, learned) in all.iter().enumerate() {
            order.extend(learned.traits.iter().enumerate().map(|(k, &t)| (t, of, k)));
        }
        order.sort_unstable();
        let columns = |part: fn(&Learned) -> &Array2<f64>| {
            let views: Vec<_> = order.iter().map(|&(_, of, k)| part(&all[of]).column(k)).collect();
            ndarray::stack(Axis(1), &views).expect("columns of one length").as_standard_layout().into_owned()
        };
        Learned {
            traits: order.iter().map(|o| o.0).collect(),
            trained: order.iter().map(|&(_, of, k)| all[of].trained[k]).collect(),
            values: columns(|l| &l.values),
            fixed: columns(|l| &l.fixed),
            estimates: order.iter().map(|&(_, of, k)| all[of].estimates[k].clone()).collect(),
            weights: Learned::joined_weights(&all, &order),
            seconds: all.iter().map(|l| l.seconds).sum(),
        }
    }
}

impl Learned {
    /// Weights in the `order` of the traits, (trait, fit, column): the kinds of the first fit.
    fn joined_weights(all: &[Learned], order: &[(usize, usize, usize)]) -> Vec<(String, Vec<f64>)> {
        let kinds = all.first().map_or(&[][..], |first| &first.weights);
        let of = |b: usize| order.iter().map(|&(_, of, k)| all[of].weights[b].1[k]).collect();
        kinds.iter().enumerate().map(|(b, (name, _))| (name.clone(), of(b))).collect()
    }
}

impl Training {
    /// All records of some animals.
    pub fn all(records: Phenotypes, seed: u64) -> Training {
        Training { groups: Group::of(&records), records, seed, split_seed: seed, synthetic: None }
    }

    /// Whether another set of the same split has the same records, as that of a replicate has.
    pub fn has_records_of(&self, other: &Training) -> bool {
        let animals = |set: &Training| -> Vec<Vec<usize>> {
            set.groups.iter().map(|(_, group)| group.animals().to_vec()).collect()
        };
        self.split_seed == other.split_seed
            && self.numbers() == other.numbers()
            && animals(self) == animals(other)
    }

    /// Numbers of the traits, rising.
    pub fn traits(&self) -> Vec<usize> {
        let mut all: Vec<usize> = self.groups.iter().flat_map(|(traits, _)| traits).copied().collect();
        all.sort_unstable();
        all
    }

    /// Records of each trait, in the order of their numbers.
    pub fn recorded(&self) -> Vec<usize> {
        let of = |(traits, group): &(Vec<usize>, Group)| {
            traits.iter().map(|&t| (t, group.animals().len())).collect::<Vec<_>>()
        };
        let mut all: Vec<_> = self.groups.iter().flat_map(of).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, records)| records).collect()
    }

    /// The traits of each group by number.
    pub fn numbers(&self) -> Vec<Vec<usize>> {
        self.groups.iter().map(|(traits, _)| traits.clone()).collect()
    }

    /// Names of the traits, in the order of their numbers.
    pub fn names(&self) -> Vec<String> {
        self.traits().iter().map(|&t| self.records.traits[t].clone()).collect()
    }

    /// Animals with a record of any trait, rising.
    pub fn animals(&self) -> Vec<usize> {
        let mut all: Vec<usize> = self.groups.iter().flat_map(|(_, g)| g.animals()).copied().collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Animals to learn from and animals that early stopping looks at: a `share` of the real ones.
    pub fn divide(&self, share: f64) -> (Vec<usize>, Vec<usize>) {
        divide(&self.animals(), self.synthetic.as_ref(), share, self.seed)
    }

    /// The real animal whose records an animal has: the animal itself unless it is synthetic.
    pub fn origin(&self, animal: usize) -> usize {
        self.synthetic.as_ref().map_or(animal, |s| s.origin(animal))
    }

    /// Weights of the records of the set's traits, (n, t).
    pub fn weights(&self) -> Option<Array2<f64>> {
        self.records.weights.as_ref().map(|w| w.select(Axis(1), &self.traits()))
    }

    /// Records of the set's traits less `fixed` effects (q, t), (n, t), NaN where the set has none.
    pub fn adjusted(&self, fixed: ArrayView2<f64>) -> Array2<f64> {
        self.records.y.select(Axis(1), &self.traits()) - self.records.design.dot(&fixed)
    }
}
