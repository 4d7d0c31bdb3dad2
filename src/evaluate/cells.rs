//! The scores of every model, trait and validation, their means over the traits, and what the models differ by from the
//! reference.

use crate::comm::World;
use crate::evaluate::bootstrap::Draws;
use crate::evaluate::comparisons::{average, compare, Difference, Resampled, Summary, TestedSplit};
use crate::evaluate::crossvalidate::{Done, Plan, Predicted};
use crate::evaluate::scores::{has_families, Scorer, Scores, COUNT};
use crate::evaluate::verdicts::{benjamini_hochberg, Verdict};
use crate::mixed::reml::Outcome;
use crate::mixed::Estimate;
use crate::stats;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// What one model achieves for one trait in one validation.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Cell {
    /// Number of the validation.
    pub validation: usize,
    /// Number of the model.
    pub model: usize,
    /// Number of the trait.
    pub number: usize,
    /// Split by split.
    pub splits: Vec<CellSplit>,
    /// Heritability of the trait: the same for all models.
    pub h2: Heritability,
    /// Whether animals of one family are tested together: else there is no r within families.
    pub has_families: bool,
    /// Scores and their errors.
    pub summary: Summary,
}

/// One split of a cell.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CellSplit {
    /// Number of the split.
    pub split: usize,
    /// Records trained on.
    pub trained: usize,
    /// Animals tested.
    pub tested: usize,
    /// Whether the split counts in means: every model has an r in it.
    pub counts: bool,
    /// Variance components, where the model estimates them.
    pub estimate: Option<Estimate>,
}

/// Heritability of a trait, by additive REML of all its records: one for all models and validations.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Heritability {
    /// h²; NaN where there is none.
    pub h2: f64,
    /// Its standard error: 0 where h² was given, NaN where there is none.
    pub se: f64,
    /// Whether REML stopped at h² = 0 or 1.
    pub at_boundary: bool,
}

impl Heritability {
    /// Where none was estimated.
    pub const UNKNOWN: Heritability = Heritability { h2: f64::NAN, se: f64::NAN, at_boundary: false };

    /// That of a fit to all records.
    pub fn of(e: &Estimate) -> Heritability {
        let se = if e.outcome == Outcome::Given { 0.0 } else { e.h2_se };
        Heritability { h2: e.h2, se, at_boundary: e.outcome == Outcome::Boundary }
    }

    /// r/√h² for an r, with the error of both by the delta method: var(r)/h² + r² var(h²)/(4 h⁶). They are taken as
    /// independent. NaN where h² is below 1 % or below two of its standard errors.
    pub fn accuracy(&self, (r, r_se): (f64, f64)) -> (f64, f64) {
        let known = self.h2 >= 0.01 && self.h2 >= 2.0 * self.se;
        let h2 = if known { self.h2 } else { f64::NAN };
        let variance = r_se.powi(2) / h2 + (r * self.se).powi(2) / (4.0 * h2.powi(3));
        (r / h2.sqrt(), variance.sqrt())
    }
}

impl Cell {
    /// Splits that count in means.
    pub fn counted(&self) -> usize {
        self.splits.iter().filter(|s| s.counts).count()
    }

    /// Standard deviation of r between fits that differ in their seed alone, mean over splits; NaN without replicates.
    pub fn replicate_sd(&self) -> f64 {
        let known = self.summary.replicate_sd.iter().copied().filter(|sd| sd.is_finite());
        stats::mean(&known.collect::<Vec<_>>())
    }
}

/// A model compared with the reference for a trait.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Comparison {
    /// Number of the validation.
    pub validation: usize,
    /// Number of the trait.
    pub number: usize,
    /// Number of the model.
    pub model: usize,
    /// Number of the reference.
    pub reference: usize,
    /// Model minus reference, in the order of [`Scores::NAMES`].
    pub differences: [Difference; COUNT],
    /// What r says.
    pub verdict: Verdict,
}

/// All scores and comparisons, ordered by validation, model and trait.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// One a validation, model and trait.
    pub cells: Vec<Cell>,
    /// One a validation, model other than the reference, and trait that the reference has as well.
    pub comparisons: Vec<Comparison>,
}

/// Splits of one validation, model and trait: their numbers and results.
type Splits<'a> = Vec<(usize, &'a Predicted)>;

/// Scores all results by `replicates` bootstrap samples of the `n` animals of the store; `heritability`: one a trait. The
/// work is dealt over ranks and threads. Collective; every rank receives all.
pub fn score(
    world: &World,
    plan: &Plan,
    done: &BTreeMap<usize, Done>,
    heritability: &[Heritability],
    n: usize,
    seed: u64,
    replicates: usize,
) -> Scored {
    let mut found = BTreeMap::<(usize, usize), BTreeMap<usize, Splits>>::new();
    for d in done.values() {
        for p in &d.traits {
            let models = found.entry((d.task.validation, p.number)).or_default();
            models.entry(d.task.model).or_default().push((d.task.split, p));
        }
    }
    let shares: Vec<_> = found.into_iter().skip(world.rank()).step_by(world.size()).collect();
    // One set of samples for all validations of the same families: they take 2 bytes an animal and sample.
    let mut draws = BTreeMap::new();
    for ((v, _), _) in &shares {
        let families = plan.validations[*v].families.as_deref();
        draws.entry(families).or_insert_with(|| Draws::new(n, families, seed, replicates));
    }
    let of = |((validation, number), models): ((usize, usize), BTreeMap<usize, Splits>)| {
        let h2 = heritability.get(number).copied().unwrap_or(Heritability::UNKNOWN);
        let families = plan.validations[validation].families.as_deref();
        score_trait(plan, &draws[&families], (validation, number), models, h2)
    };
    let own: Vec<(Vec<Cell>, Vec<Comparison>)> = shares.into_par_iter().map(of).collect();
    let (cells, comparisons): (Vec<_>, Vec<_>) = world.all_gather(&own).into_iter().flatten().unzip();
    let (mut cells, mut comparisons) = (cells.concat(), comparisons.concat());
    cells.sort_by_key(|c| (c.validation, c.model, c.number));
    comparisons.sort_by_key(|c| (c.validation, c.model, c.number));
    conclude(plan.margin, &cells, &mut comparisons);
    Scored { cells, comparisons }
}

/// The cells of one trait in one validation, and its comparisons without q and verdict.
fn score_trait(
    plan: &Plan,
    draws: &Draws,
    (validation, number): (usize, usize),
    mut models: BTreeMap<usize, Splits>,
    h2: Heritability,
) -> (Vec<Cell>, Vec<Comparison>) {
    models.values_mut().for_each(|splits| splits.sort_by_key(|(split, _)| *split));
    let counted = counted(&models);
    let v = &plan.validations[validation];
    let resampled: BTreeMap<usize, Resampled> = models
        .iter()
        .map(|(model, splits)| {
            let mut scored = Vec::new();
            for (split, p) in splits {
                let repetition = v.splits.splits[*split].repetition;
                let counts = counted.contains(split);
                scored.push(TestedSplit { repetition, trained: p.trained, tested: &p.tested, counts });
            }
            (*model, Resampled::new(&scored, draws, v.families.as_deref()))
        })
        .collect();
    let cell = |(&model, splits): (&usize, &Splits)| {
        let of = |(split, p): &(usize, &Predicted)| CellSplit {
            split: *split,
            trained: p.trained,
            tested: p.tested.animal.len(),
            counts: counted.contains(split),
            estimate: p.estimate.clone(),
        };
        let has_families = splits.iter().any(|(_, p)| has_families(&p.tested, v.families.as_deref()));
        let splits = splits.iter().map(of).collect();
        Cell { validation, model, number, splits, h2, has_families, summary: resampled[&model].summary() }
    };
    let against = |(&model, of): (&usize, &Resampled)| {
        let reference = plan.models[model].reference;
        let differences = compare(of, resampled.get(&reference)?);
        let verdict = Verdict::Undecided;
        Some(Comparison { validation, number, model, reference, differences, verdict })
    };
    let others = resampled.iter().filter(|(model, _)| plan.models[**model].reference != **model);
    (models.iter().map(cell).collect(), others.filter_map(against).collect())
}

/// The splits of a trait in which every model has an r. A model that has none in any split has no scores, and takes none
/// from the others.
fn counted(models: &BTreeMap<usize, Splits>) -> BTreeSet<usize> {
    let with_r = |splits: &Splits| -> BTreeSet<usize> {
        let has = |p: &Predicted| Scorer::new(&p.tested, None).sums().scores().r.is_finite();
        splits.iter().filter(|(_, p)| has(p)).map(|(split, _)| *split).collect()
    };
    let all = models.values().map(with_r).filter(|splits| !splits.is_empty()).reduce(|a, b| &a & &b);
    all.unwrap_or_default()
}

/// Fills in q, over the traits of a model and validation, and the verdicts.
fn conclude(margin: f64, cells: &[Cell], comparisons: &mut [Comparison]) {
    for of_model in comparisons.chunk_by_mut(|a, b| (a.validation, a.model) == (b.validation, b.model)) {
        for k in 0..COUNT {
            let p: Vec<f64> = of_model.iter().map(|c| c.differences[k].p).collect();
            let q = benjamini_hochberg(&p);
            of_model.iter_mut().zip(q).for_each(|(c, q)| c.differences[k].q = q);
        }
    }
    let r: BTreeMap<(usize, usize, usize), (f64, f64)> =
        cells.iter().map(|c| ((c.validation, c.model, c.number), c.summary.mean.of("r"))).collect();
    let k = Scores::position("r");
    for c in comparisons {
        let of =
            |model: usize| r.get(&(c.validation, model, c.number)).copied().unwrap_or((f64::NAN, f64::NAN));
        c.verdict = Verdict::of(&c.differences[k], [of(c.model), of(c.reference)], margin);
    }
}

/// A validation and model over all traits.
#[derive(Debug, Clone, PartialEq)]
pub struct Overall {
    /// Number of the validation.
    pub validation: usize,
    /// Number of the model.
    pub model: usize,
    /// Traits that count: those in which every model has an r.
    pub traits: usize,
    /// Means over these traits.
    pub summary: Summary,
}

/// The means over the traits, by validation and model. A model that has no r for any trait has no mean, and takes no
/// trait from the others.
pub fn overall(cells: &[Cell]) -> Vec<Overall> {
    let mut found: BTreeMap<usize, BTreeMap<usize, BTreeMap<usize, &Summary>>> = BTreeMap::new();
    for c in cells {
        found.entry(c.validation).or_default().entry(c.model).or_default().insert(c.number, &c.summary);
    }
    let mut out = Vec::new();
    for (validation, models) in found {
        let with_r = |of: &BTreeMap<usize, &Summary>| -> BTreeSet<usize> {
            of.iter().filter(|(_, s)| s.mean.of("r").0.is_finite()).map(|(number, _)| *number).collect()
        };
        let all = models.values().map(with_r).filter(|traits| !traits.is_empty()).reduce(|a, b| &a & &b);
        let traits = all.unwrap_or_default();
        for (model, of) in models {
            let counted: Vec<&Summary> = traits.iter().filter_map(|t| of.get(t).copied()).collect();
            out.push(Overall { validation, model, traits: traits.len(), summary: average(&counted) });
        }
    }
    out
}

#[cfg(test)]
mod tests;
