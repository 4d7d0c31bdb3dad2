//! The scores of every model, trait and validation, their means over the traits, and the models' differences.

use crate::comm::World;
use crate::evaluate::comparisons::{average, compare, samples, summarize, Difference, Summary, TestedSplit};
use crate::evaluate::crossvalidate::{Done, Plan, Predicted};
use crate::evaluate::scores::Scorer;
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
    /// Heritability in the training part.
    pub h2: Heritability,
    /// Variance components, where the model estimates them.
    pub estimate: Option<Estimate>,
}

/// Heritability of a trait in a training part: the model's own, or that of the first model that has one.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Heritability {
    /// h²; NaN where no model has one.
    pub h2: f64,
    /// Its standard error: 0 where h² was given, NaN where there is none.
    pub se: f64,
    /// Training parts in which REML stopped at h² = 0 or 1.
    pub at_boundary: usize,
}

impl Heritability {
    /// What no model knows.
    const UNKNOWN: Heritability = Heritability { h2: f64::NAN, se: f64::NAN, at_boundary: 0 };

    fn of(e: &Estimate) -> Heritability {
        let se = if e.outcome == Outcome::Given { 0.0 } else { e.h2_se };
        Heritability { h2: e.h2, se, at_boundary: usize::from(e.outcome == Outcome::Boundary) }
    }

    /// Mean over training parts. They share most of their animals: the error is that of one of them.
    fn mean(all: &[Heritability]) -> Heritability {
        let se: Vec<f64> = all.iter().map(|h| h.se).filter(|se| se.is_finite()).collect();
        Heritability {
            h2: stats::mean(&all.iter().map(|h| h.h2).collect::<Vec<_>>()),
            se: stats::mean(&se),
            at_boundary: all.iter().map(|h| h.at_boundary).sum(),
        }
    }

    /// r/√h² for an r and for its standard error; NaN where h² is below 1 % or below two of its standard errors.
    pub fn accuracy(&self, (r, r_se): (f64, f64)) -> (f64, f64) {
        let known = self.h2 >= 0.01 && self.h2 >= 2.0 * self.se;
        let root = if known { self.h2.sqrt() } else { f64::NAN };
        (r / root, r_se / root)
    }
}

impl Cell {
    /// h², mean over the training parts.
    pub fn h2(&self) -> Heritability {
        Heritability::mean(&self.splits.iter().map(|s| s.h2).collect::<Vec<_>>())
    }

    /// Splits that count in means.
    pub fn counted(&self) -> usize {
        self.splits.iter().filter(|s| s.counts).count()
    }
}

/// Splits of one validation, model and trait: their numbers and results.
type Splits<'a> = Vec<(usize, &'a Predicted)>;

/// Scores all results; the work is dealt over ranks and threads. Collective; every rank receives all, ordered
/// by validation, model and trait.
pub fn score(
    world: &World,
    plan: &Plan,
    done: &BTreeMap<usize, Done>,
    n: usize,
    seed: u64,
    replicates: usize,
) -> Vec<Cell> {
    let mut found = BTreeMap::<_, Splits>::new();
    let mut known = BTreeMap::<_, Heritability>::new();
    for d in done.values() {
        for p in &d.traits {
            let key = (d.task.validation, d.task.model, p.number);
            found.entry(key).or_default().push((d.task.split, p));
            if let Some(e) = &p.estimate {
                known.entry((d.task.validation, d.task.split, p.number)).or_insert(Heritability::of(e));
            }
        }
    }
    let context = Scoring { plan, counted: counted(&found), known, draws: samples(n, seed, replicates) };
    let own: Vec<_> = found.into_iter().skip(world.rank()).step_by(world.size()).collect();
    let cells: Vec<Cell> = own.into_par_iter().map(|(key, splits)| context.cell(key, splits)).collect();
    let mut all: Vec<Cell> = world.all_gather(&cells).into_iter().flatten().collect();
    all.sort_by_key(|c| (c.validation, c.model, c.number));
    all
}

/// What all cells are scored with.
struct Scoring<'a> {
    plan: &'a Plan,
    /// Validation, trait and split of those that count.
    counted: BTreeSet<(usize, usize, usize)>,
    /// h² of validation, split and trait by the first model that has one.
    known: BTreeMap<(usize, usize, usize), Heritability>,
    draws: Vec<Vec<u16>>,
}

impl Scoring<'_> {
    fn cell(&self, (validation, model, number): (usize, usize, usize), mut splits: Splits) -> Cell {
        splits.sort_by_key(|(split, _)| *split);
        let counts = |split: usize| self.counted.contains(&(validation, number, split));
        let repetition = |split: usize| self.plan.validations[validation].splits.splits[split].repetition;
        let scored: Vec<TestedSplit> = splits
            .iter()
            .map(|(split, p)| TestedSplit {
                repetition: repetition(*split),
                tested: &p.tested,
                counts: counts(*split),
            })
            .collect();
        let summary = summarize(&scored, &self.draws);
        let of = |(split, p): &(usize, &Predicted)| CellSplit {
            split: *split,
            trained: p.trained,
            tested: p.tested.animal.len(),
            counts: counts(*split),
            h2: match (&p.estimate, self.known.get(&(validation, *split, number))) {
                (Some(own), _) => Heritability::of(own),
                (None, first) => first.copied().unwrap_or(Heritability::UNKNOWN),
            },
            estimate: p.estimate.clone(),
        };
        Cell { validation, model, number, splits: splits.iter().map(of).collect(), summary }
    }
}

/// The splits in which every model has an r, by validation, trait and split. A model that has none in any split of a
/// trait has no scores there, and takes none from the others.
fn counted(found: &BTreeMap<(usize, usize, usize), Splits>) -> BTreeSet<(usize, usize, usize)> {
    let mut models = BTreeMap::<_, Vec<BTreeSet<usize>>>::new();
    for (&(validation, _, number), splits) in found {
        let with_r = splits.iter().filter(|(_, p)| Scorer::new(&p.tested).sums().scores().r.is_finite());
        models.entry((validation, number)).or_default().push(with_r.map(|(split, _)| *split).collect());
    }
    let mut out = BTreeSet::new();
    for ((validation, number), models) in models {
        let all = models.into_iter().filter(|with_r| !with_r.is_empty()).reduce(|a, b| &a & &b);
        out.extend(all.unwrap_or_default().into_iter().map(|split| (validation, number, split)));
    }
    out
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

/// Two models compared for a trait, or over all.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Number of the validation.
    pub validation: usize,
    /// Number of the trait; `None` for the mean of all traits.
    pub number: Option<usize>,
    /// Numbers of the two models.
    pub models: (usize, usize),
    /// First minus second, in the order of the names of the scores.
    pub differences: [Difference; 7],
}

/// Every pair of models on every trait and over all traits, by validation.
pub fn compare_models(cells: &[Cell], overall: &[Overall]) -> Vec<Comparison> {
    let single = cells.iter().map(|c| ((c.validation, Some(c.number)), c.model, &c.summary));
    let mean = overall.iter().map(|o| ((o.validation, None), o.model, &o.summary));
    let mut found = BTreeMap::<_, Vec<(usize, &Summary)>>::new();
    for ((validation, number), model, summary) in single.chain(mean) {
        found.entry((validation, number.is_none(), number)).or_default().push((model, summary));
    }
    let mut out = Vec::new();
    for ((validation, _, number), mut models) in found {
        models.sort_by_key(|(model, _)| *model);
        for (k, (a, first)) in models.iter().enumerate() {
            for (b, second) in &models[k + 1..] {
                let differences = compare(first, second);
                out.push(Comparison { validation, number, models: (*a, *b), differences });
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::crossvalidate::{Task, Validation};
    use crate::evaluate::folds::{Scheme, Split, Splits as Divisions};
    use crate::evaluate::scores::Tested;
    use crate::rng::{Purpose, Stream};

    /// Two folds of 40 animals and models whose predictions are `share` of the records and noise; 0 is a constant.
    fn scored(shares: &[[[f64; 2]; 2]]) -> Vec<Cell> {
        let split = |k: usize| Split { repetition: 1, fold: k.to_string(), roles: Vec::new() };
        let splits = Divisions { splits: vec![split(1), split(2)], left_out: 0 };
        let validation =
            Validation { name: "v".into(), scheme: Scheme::Random { folds: 2, repeats: 1 }, splits };
        let (mut done, mut tasks) = (BTreeMap::new(), Vec::new());
        for (model, traits) in shares.iter().enumerate() {
            for split in 0..2 {
                let task = Task { model, validation: 0, split, pattern: None };
                let predicted = |number: usize| {
                    let mut s = Stream::new(1, Purpose::Test, (10 * number + split) as u64);
                    let adjusted: Vec<f64> = (0..40).map(|_| s.normal()).collect();
                    let share = traits[number][split];
                    let mut noise = Stream::new(2, Purpose::Test, model as u64);
                    let prediction =
                        adjusted.iter().map(|y| 0.3 + share * (y + noise.normal())).collect::<Vec<f64>>();
                    let animal = (40 * split as u32..).take(40).collect();
                    let tested = Tested { animal, prediction, adjusted, fixed: vec![0.0; 40] };
                    Predicted { number, trained: 40, estimate: None, tested }
                };
                let traits = (0..2).map(predicted).collect();
                done.insert(tasks.len(), Done { task, seconds: 0.0, traits });
                tasks.push(task);
            }
        }
        let names = (0..shares.len()).map(|k| k.to_string()).collect();
        let plan = Plan::of(names, vec![validation], tasks);
        score(&World::alone(), &plan, &done, 80, 1, 30)
    }

    #[test]
    fn means_are_over_the_splits_in_which_every_model_has_an_r() {
        // The second model is silent in the second split of the second trait, the third in the whole second trait.
        let cells = scored(&[[[1.0, 1.0]; 2], [[1.0, 1.0], [1.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]]]);
        let cell = |model: usize, number: usize| {
            cells.iter().find(|c| (c.model, c.number) == (model, number)).unwrap()
        };
        assert!((0..3).all(|m| cell(m, 0).counted() == 2));
        for model in [0, 1] {
            let c = cell(model, 1);
            assert_eq!((c.counted(), c.splits[0].counts), (1, true));
            assert_eq!(c.summary.mean.of("r").0, c.summary.splits[0].of("r").0);
            assert_eq!(c.summary.mean.of("mse").0, c.summary.splits[0].of("mse").0);
            assert_eq!(c.summary.pooled.of("r").0, c.summary.splits[0].of("r").0);
        }
        // It is told, though it does not count.
        assert!(cell(0, 1).summary.splits[1].of("r").0.is_finite());
        assert!(cell(2, 1).summary.mean.scores.iter().all(|v| v.is_nan()));

        let means = overall(&cells);
        assert!(means.iter().all(|o| o.traits == 1), "the third model has an r for the first trait only");
        assert_eq!(means[0].summary.mean.of("r"), cell(0, 0).summary.mean.of("r"));
        let differences = compare_models(&cells, &means);
        let of = |number: Option<usize>, models: (usize, usize)| {
            differences.iter().find(|d| d.number == number && d.models == models).unwrap().differences[0]
        };
        assert!(of(Some(1), (0, 1)).difference.is_finite());
        let none = of(Some(1), (0, 2));
        assert!(
            [none.difference, none.se, none.low, none.high, none.p].iter().all(|v| v.is_nan()),
            "{none:?}"
        );
    }

    #[test]
    fn a_model_without_any_r_takes_no_trait_from_the_others() {
        let means = overall(&scored(&[[[1.0, 1.0]; 2], [[0.0, 0.0]; 2]]));
        assert!(means[0].traits == 2 && means[0].summary.mean.of("r").0 > 0.5);
        assert!(means[1].summary.mean.scores.iter().chain(&means[1].summary.mean.errors).all(|v| v.is_nan()));
    }

    #[test]
    fn accuracy_needs_a_heritability_that_is_known_to_be_more_than_nothing() {
        let of = |h2: f64, se: f64| Heritability { h2, se, at_boundary: 0 }.accuracy((0.2, 0.02));
        let (accuracy, error) = of(0.25, 0.1);
        assert!((accuracy - 0.4).abs() < 1e-12 && (error - 0.04).abs() < 1e-12);
        assert!((of(0.25, 0.0).0 - 0.4).abs() < 1e-12, "given, not estimated");
        for (h2, se) in [(0.25, 0.13), (0.009, 0.001), (0.0, 0.0), (0.3, f64::NAN), (f64::NAN, f64::NAN)] {
            assert!(of(h2, se).0.is_nan() && of(h2, se).1.is_nan(), "{h2} {se}");
        }
    }
}
