//! The tables and pictures of a study.

mod pictures;
mod tables;

use crate::evaluate::cells::{Cell, Comparison, Overall};
use crate::evaluate::crossvalidate::{Done, Plan};
use crate::evaluate::diagnostics::{Histogram, LdBin};
use crate::usage::Cost;
use std::collections::BTreeMap;

/// Everything that a study found.
pub struct Study<'a> {
    /// What was planned.
    pub plan: &'a Plan,
    /// Names of the traits.
    pub traits: &'a [String],
    /// Recorded animals of each trait.
    pub recorded: &'a [usize],
    /// What the tasks found.
    pub done: &'a BTreeMap<usize, Done>,
    /// Scores by validation, model and trait.
    pub cells: &'a [Cell],
    /// Means over the traits.
    pub overall: &'a [Overall],
    /// Models against the reference.
    pub comparisons: &'a [Comparison],
    /// What the genotypes look like, if that was asked for.
    pub genotypes: Option<Genotypes>,
}

/// What the genotypes look like.
pub struct Genotypes {
    /// Decay of linkage disequilibrium.
    pub ld: Vec<LdBin>,
    /// Minor-allele frequencies.
    pub maf: Histogram,
    /// Relationships of pairs of animals, where a model formed G.
    pub kinship: Option<Histogram>,
    /// Scores on the first two principal components, and the variance that each explains.
    pub components: Vec<(f64, f64)>,
    /// Shares of the variance, 0 to 1.
    pub explained: [f64; 2],
}

/// A picture, the name of its file, and how to read it.
pub struct Picture {
    /// File name without ending.
    pub name: String,
    /// The SVG.
    pub svg: String,
    /// How to read it.
    pub caption: String,
    /// Number of the validation that it shows; `None` for the genotypes.
    pub validation: Option<usize>,
    /// Whether it stands on the first screen.
    pub first: bool,
}

impl Study<'_> {
    /// Name of a validation.
    pub fn validation(&self, number: usize) -> &str {
        &self.plan.validations[number].name
    }

    /// Name of a model.
    pub fn model(&self, number: usize) -> &str {
        &self.plan.models[number].name
    }

    /// The number of the model that a model is compared with; its own where it is a reference itself.
    pub fn reference(&self, model: usize) -> usize {
        self.plan.models[model].reference
    }

    /// The models that the page begins with: those of all animals, or else of most animals.
    pub fn foremost(&self) -> Vec<usize> {
        let mixture = |m: usize| self.plan.models[m].mixture.as_ref();
        let models = 0..self.plan.models.len();
        let most = models.clone().filter_map(mixture).map(|x| x.reference).max();
        models.filter(|m| mixture(*m).is_none_or(|x| Some(x.reference) == most)).collect()
    }

    /// Those of them that are compared with another model.
    pub fn compared(&self) -> Vec<usize> {
        self.foremost().into_iter().filter(|m| self.reference(*m) != *m).collect()
    }

    /// The name of the one model that all of [`Study::compared`] are compared with; none where there are several.
    pub fn references(&self) -> Option<&str> {
        let one = self.compared().into_iter().all(|m| self.reference(m) == self.plan.reference);
        one.then(|| self.model(self.plan.reference))
    }

    /// The comparisons of a model with its reference in a validation, trait by trait.
    pub fn compared_in(&self, validation: usize, model: usize) -> Vec<&Comparison> {
        self.comparisons.iter().filter(|c| (c.validation, c.model) == (validation, model)).collect()
    }

    /// The fits of a model, and what they took together.
    pub fn cost(&self, model: usize) -> (usize, Cost) {
        let fits = self.done.values().filter(|d| d.task.model == model);
        fits.fold((0, Cost::default()), |(count, all), d| (count + 1, all.then(d.cost)))
    }

    /// The comparison of a model with the reference; none of the reference itself.
    pub fn comparison(&self, validation: usize, model: usize, number: usize) -> Option<&Comparison> {
        self.comparisons.iter().find(|c| (c.validation, c.model, c.number) == (validation, model, number))
    }

    /// The cells of a validation and model, in the order of the traits.
    pub fn of(&self, validation: usize, model: usize) -> Vec<&Cell> {
        self.cells.iter().filter(|c| (c.validation, c.model) == (validation, model)).collect()
    }
}
