//! What a study compares: something that is fitted to the records of the training animals and predicts all animals.
//!
//! A new kind of predictor is one file with a [`Learner`], its settings in `evaluate/models`, and a line where
//! `cli/study` opens the kinds.

pub mod augmented;
pub mod dl;
pub mod dlgblup;
pub mod gblup;
pub mod mlp;
#[cfg(test)]
mod tests;

use crate::comm::World;
use crate::error::Result;
use crate::mixed::gblup::Fit;
use crate::mixed::{Estimate, Group};
use crate::nn::division::divide;
use crate::nn::Synthetic;
use crate::records::Phenotypes;
use ndarray::{Array2, ArrayView2, Axis};

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
    /// Wall seconds of the fit.
    pub seconds: f64,
}

impl Learned {
    /// What GBLUP says of the traits of a set.
    pub fn of(set: &Training, fit: Fit, seconds: f64) -> Learned {
        let estimates = fit.estimates.into_iter().map(Some).collect();
        let (traits, trained) = (set.traits(), set.recorded());
        Learned { traits, trained, values: fit.ebv, fixed: fit.fixed, estimates, seconds }
    }
}

/// Something that is fitted on the training animals of a fold and predicts all others.
pub trait Learner {
    /// How many fits of at most `animals` training animals to ask for at once; the same on all ranks. Collective.
    fn at_once(&self, world: &World, animals: usize) -> usize;

    /// Fits each of the training sets. Collective; every rank receives all, in their order.
    fn fit(&self, world: &World, sets: &[Training]) -> Result<Vec<Learned>>;
}

impl Training {
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
