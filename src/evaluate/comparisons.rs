//! Scores over all splits with their errors, and the paired difference of two models.

use crate::evaluate::bootstrap::{self, Draws};
use crate::evaluate::errors::{student_p, student_quantile, Error, Layout, Variances};
use crate::evaluate::scores::{Scorer, Scores, Sums, Tested, COUNT};
use crate::stats;
use rayon::prelude::*;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Scores in the order of [`Scores::NAMES`].
type Row = [f64; COUNT];

/// Scores with their standard errors.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Estimate {
    /// The scores, in the order of [`Scores::NAMES`].
    pub scores: Row,
    /// Their standard errors, NaN without a bootstrap.
    pub errors: Row,
}

impl Estimate {
    /// Where nothing is known.
    pub const NONE: Estimate = Estimate { scores: [f64::NAN; COUNT], errors: [f64::NAN; COUNT] };

    /// The score of that name and its standard error.
    pub fn of(&self, name: &str) -> (f64, f64) {
        let k = Scores::position(name);
        (self.scores[k], self.errors[k])
    }

    /// Errors of scores that do not exist are NaN.
    fn new(scores: Row, error: impl Fn(usize) -> f64) -> Estimate {
        let error = |k: usize| if scores[k].is_finite() { error(k) } else { f64::NAN };
        Estimate { scores, errors: std::array::from_fn(error) }
    }
}

/// What one model achieves for one trait in one validation.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    /// Split by split, in the order given; scores that do not count are NaN.
    pub splits: Vec<Estimate>,
    /// Standard deviation of r between replicates, split by split; NaN for fewer than two.
    pub replicate_sd: Vec<f64>,
    /// Mean over the splits that count.
    pub mean: Estimate,
    /// All tested animals of a repetition together, deviations being those within their split; mean over repetitions.
    pub pooled: Estimate,
    /// The mean's bootstrap replicates.
    pub replicates: Vec<Row>,
}

/// One split to be scored.
#[derive(Debug, Clone, Copy)]
pub struct TestedSplit<'a> {
    /// Its repetition.
    pub repetition: usize,
    /// Records trained on.
    pub trained: usize,
    /// Its tested animals.
    pub tested: &'a Tested,
    /// Whether it counts in means: the same splits for all models and scores.
    pub counts: bool,
}

/// Noise of the seeds in one split, score by score: variances of the mean of the replicates.
#[derive(Debug, Clone, Copy)]
struct Seeds {
    /// By the jackknife over replicates (Efron & Stein 1981, Ann Stat 9:586).
    total: Row,
    /// The part of it that resampled animals explain.
    tested: Row,
}

/// The scores of one model and trait, and of its bootstrap samples.
pub struct Resampled {
    /// Whether each split counts.
    counts: Vec<bool>,
    layout: Layout,
    /// c/(c − 1) of the c clusters of each split: what the bootstrap's variance lacks.
    correction: Vec<f64>,
    plain: Vec<Scores>,
    /// (splits)(samples)
    drawn: Vec<Vec<Row>>,
    mean: Scores,
    mean_drawn: Vec<Row>,
    pooled: Scores,
    pooled_drawn: Vec<Row>,
    seeds: Vec<Seeds>,
    replicate_sd: Vec<f64>,
}

impl Resampled {
    /// Scores one model. `families` of all animals are those within which r is sought.
    pub fn new(splits: &[TestedSplit], draws: &Draws, families: Option<&[u32]>) -> Resampled {
        let scorers: Vec<Scorer> = splits.iter().map(|s| Scorer::new(s.tested, families)).collect();
        let sums = |b: usize| -> Vec<Sums> {
            let of = |(s, scorer): (&TestedSplit, &Scorer)| scorer.weighted(&draws.weights(b, s.tested));
            splits.iter().zip(&scorers).map(of).collect()
        };
        // (samples)(splits)
        let resampled: Vec<Vec<Sums>> = (0..draws.samples()).into_par_iter().map(sums).collect();
        let plain: Vec<Sums> = scorers.iter().map(Scorer::sums).collect();
        let rows = |k: usize| resampled.iter().map(|all| all[k].scores().values()).collect();
        let clusters: Vec<f64> = splits.iter().map(|s| draws.clusters(s.tested)).collect();
        Resampled {
            counts: splits.iter().map(|s| s.counts).collect(),
            layout: layout(splits, &clusters),
            correction: clusters.iter().map(|c| if *c > 1.0 { c / (c - 1.0) } else { 1.0 }).collect(),
            plain: plain.iter().map(Sums::scores).collect(),
            drawn: (0..splits.len()).map(rows).collect(),
            mean: mean(splits, &plain),
            mean_drawn: resampled.iter().map(|all| mean(splits, all).values()).collect(),
            pooled: pooled(splits, &plain),
            pooled_drawn: resampled.iter().map(|all| pooled(splits, all).values()).collect(),
            seeds: splits.iter().map(|s| seeds(s.tested, draws, families)).collect(),
            replicate_sd: splits.iter().map(|s| replicate_sd(s.tested)).collect(),
        }
    }

    /// Scores and errors of every split and of the means.
    pub fn summary(&self) -> Summary {
        let split = |j: usize| match self.counts[j] {
            true => Estimate::new(self.plain[j].values(), |k| self.split_error(j, k).se),
            false => Estimate::NONE,
        };
        let whole = |k: usize| self.layout.error(&self.variances(k)).se;
        let scale = |k: usize| whole(k) / bootstrap::variance(&column(&self.mean_drawn, k)).sqrt();
        let of_pool = |k: usize| scale(k) * bootstrap::variance(&column(&self.pooled_drawn, k)).sqrt();
        Summary {
            splits: (0..self.counts.len()).map(split).collect(),
            replicate_sd: self.replicate_sd.clone(),
            mean: Estimate::new(self.mean.values(), whole),
            pooled: Estimate::new(self.pooled.values(), of_pool),
            replicates: self.mean_drawn.clone(),
        }
    }

    fn counted(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.counts.len()).filter(|j| self.counts[*j])
    }

    /// Variances of score `k`.
    fn variances(&self, k: usize) -> Variances {
        self.variances_of(
            |j| column(&self.drawn[j], k),
            &column(&self.mean_drawn, k),
            |j| self.plain[j].values()[k],
        )
        .with_seeds(&[self], k)
    }

    /// Variances of a score or difference: its samples split by split, those of its mean, and its values. Without seeds.
    fn variances_of(
        &self,
        drawn: impl Fn(usize) -> Vec<f64>,
        mean_drawn: &[f64],
        value: impl Fn(usize) -> f64,
    ) -> Variances {
        let values: Vec<f64> = self.counted().map(&value).filter(|v| v.is_finite()).collect();
        let of_splits = self.counted().map(|j| self.correction[j] * bootstrap::variance(&drawn(j)));
        let corrections: Vec<f64> = self.counted().map(|j| self.correction[j]).collect();
        Variances {
            tested: stats::mean(&corrections) * bootstrap::variance(mean_drawn),
            split: finite_mean(of_splits),
            seeds_in_split: 0.0,
            seeds_common: 0.0,
            between: stats::variance(&values),
        }
    }

    /// Error of score `k` in split `j` alone.
    fn split_error(&self, j: usize, k: usize) -> Error {
        let split = self.correction[j] * bootstrap::variance(&column(&self.drawn[j], k));
        let [seeds_in_split, seeds_common] = self.seed_noise(j, k);
        let v = Variances { tested: split, split, seeds_in_split, seeds_common, between: f64::NAN };
        let share = self.layout.seed_degrees / self.layout.splits.max(1) as f64;
        Layout { splits: 1, repetitions: 1, seed_degrees: share, ..self.layout }.error(&v)
    }

    /// Noise of seeds in split `j`: what resampled animals hold of it, and what is common to all of them.
    fn seed_noise(&self, j: usize, k: usize) -> [f64; 2] {
        let finite = |v: f64| if v.is_finite() { v } else { 0.0 };
        let tested = self.correction[j] * finite(self.seeds[j].tested[k]);
        [tested, finite(self.seeds[j].total[k]) - tested]
    }
}

impl Variances {
    /// With the noise of the seeds of all `models`, which are independent of each other.
    fn with_seeds(mut self, models: &[&Resampled], k: usize) -> Variances {
        for m in models {
            let noise: Vec<[f64; 2]> = m.counted().map(|j| m.seed_noise(j, k)).collect();
            self.seeds_in_split += stats::mean(&noise.iter().map(|n| n[0]).collect::<Vec<_>>());
            self.seeds_common += stats::mean(&noise.iter().map(|n| n[1]).collect::<Vec<_>>());
        }
        self
    }
}

fn column(rows: &[Row], k: usize) -> Vec<f64> {
    rows.iter().map(|row| row[k]).collect()
}

fn finite_mean(values: impl Iterator<Item = f64>) -> f64 {
    stats::mean(&values.filter(|v| v.is_finite()).collect::<Vec<_>>())
}

/// How many splits count, in how many repetitions, and the sizes of their parts.
fn layout(splits: &[TestedSplit], clusters: &[f64]) -> Layout {
    let counted = || splits.iter().zip(clusters).filter(|(s, _)| s.counts);
    let mean = |of: &dyn Fn(&TestedSplit) -> usize| {
        stats::mean(&counted().map(|(s, _)| of(s) as f64).collect::<Vec<_>>())
    };
    let degrees = counted().map(|(s, _)| s.tested.replicates.len().saturating_sub(1));
    Layout {
        splits: counted().count(),
        repetitions: counted().map(|(s, _)| s.repetition).collect::<BTreeSet<_>>().len(),
        test_over_train: mean(&|s| s.tested.animal.len()) / mean(&|s| s.trained),
        clusters: finite_mean(counted().map(|(_, c)| *c)),
        seed_degrees: degrees.sum::<usize>() as f64,
    }
}

/// Noise of the seeds by the jackknife: the mean prediction without each replicate in turn. 0 for fewer than two.
fn seeds(tested: &Tested, draws: &Draws, families: Option<&[u32]>) -> Seeds {
    let n = tested.replicates.len();
    if n < 2 {
        return Seeds { total: [0.0; COUNT], tested: [0.0; COUNT] };
    }
    let without = |q: usize| Scorer::of(tested, Cow::Owned(tested.without_replicate(q)), families);
    let scorers: Vec<Scorer> = (0..n).map(without).collect();
    // Each one's score less their mean, (replicates).
    let contrasts = |rows: Vec<Row>| -> Vec<Row> {
        let mean: Row = std::array::from_fn(|k| stats::mean(&column(&rows, k)));
        rows.iter().map(|row| std::array::from_fn(|k| row[k] - mean[k])).collect()
    };
    let plain = contrasts(scorers.iter().map(|s| s.sums().scores().values()).collect());
    let of_sample = |b: usize| {
        let w = draws.weights(b, tested);
        contrasts(scorers.iter().map(|s| s.weighted(&w).scores().values()).collect())
    };
    // (samples)(replicates)
    let drawn: Vec<Vec<Row>> = (0..draws.samples()).into_par_iter().map(of_sample).collect();
    let factor = (n as f64 - 1.0) / n as f64;
    let variance =
        |q: usize, k: usize| bootstrap::variance(&drawn.iter().map(|c| c[q][k]).collect::<Vec<_>>());
    Seeds {
        total: std::array::from_fn(|k| factor * plain.iter().map(|c| c[k] * c[k]).sum::<f64>()),
        tested: std::array::from_fn(|k| factor * (0..n).map(|q| variance(q, k)).sum::<f64>()),
    }
}

/// Standard deviation of r between the replicates.
fn replicate_sd(tested: &Tested) -> f64 {
    let r = |x: &Vec<f64>| Scorer::of(tested, Cow::Borrowed(x), None).sums().scores().r;
    let all: Vec<f64> = tested.replicates.iter().map(r).filter(|r| r.is_finite()).collect();
    stats::variance(&all).sqrt()
}

/// The scores of each split that counts.
fn mean(splits: &[TestedSplit], sums: &[Sums]) -> Scores {
    let counted = splits.iter().zip(sums).filter(|(split, _)| split.counts);
    Scores::mean(&counted.map(|(_, sums)| sums.scores()).collect::<Vec<_>>())
}

/// The scores of all splits of a repetition that count together.
fn pooled(splits: &[TestedSplit], sums: &[Sums]) -> Scores {
    let mut pools: BTreeMap<usize, Sums> = BTreeMap::new();
    for (split, sums) in splits.iter().zip(sums).filter(|(split, _)| split.counts) {
        *pools.entry(split.repetition).or_default() += *sums;
    }
    Scores::mean(&pools.values().map(Sums::scores).collect::<Vec<_>>())
}

/// Differences of this size in r are rounding.
const ROUNDING: f64 = 1e-9;

/// The difference of a model and the reference in one score, on the same animals and the same bootstrap samples.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Difference {
    /// Score of the model minus that of the reference.
    pub difference: f64,
    /// Standard error of the difference: tested animals, training animals and seeds.
    pub se: f64,
    /// Lower limit of the 95 % interval, by Student's t.
    pub low: f64,
    /// Upper limit.
    pub high: f64,
    /// Two-sided probability of such a difference between equal models, by Student's t.
    pub p: f64,
    /// Expected share of false ones among the traits of so small a p (Benjamini & Hochberg 1995).
    pub q: f64,
}

impl Difference {
    /// Whether both predict the same but for rounding: neither the difference nor a sample's is more.
    pub fn is_tie(&self) -> bool {
        self.difference.abs() < ROUNDING && self.se < ROUNDING
    }
}

/// Compares a model with the reference score by score, in the order of [`Scores::NAMES`].
pub fn compare(model: &Resampled, reference: &Resampled) -> [Difference; COUNT] {
    std::array::from_fn(|k| {
        let paired = |a: &[Row], b: &[Row]| a.iter().zip(b).map(|(a, b)| a[k] - b[k]).collect::<Vec<f64>>();
        let variances = model.variances_of(
            |j| paired(&model.drawn[j], &reference.drawn[j]),
            &paired(&model.mean_drawn, &reference.mean_drawn),
            |j| model.plain[j].values()[k] - reference.plain[j].values()[k],
        );
        let variances = variances.with_seeds(&[model, reference], k);
        let seed_degrees = model.layout.seed_degrees + reference.layout.seed_degrees;
        let error = Layout { seed_degrees, ..model.layout }.error(&variances);
        let difference = model.mean.values()[k] - reference.mean.values()[k];
        between(difference, error)
    })
}

/// Interval and probability of a difference; q is not known yet.
fn between(difference: f64, error: Error) -> Difference {
    let none = f64::NAN;
    if !difference.is_finite() {
        return Difference { difference, se: none, low: none, high: none, p: none, q: none };
    }
    let half = student_quantile(0.05, error.degrees_of_freedom) * error.se;
    let tie = Difference { difference, se: error.se, low: none, high: none, p: none, q: none }.is_tie();
    Difference {
        difference,
        se: error.se,
        low: difference - half,
        high: difference + half,
        p: if tie { 1.0 } else { student_p(difference / error.se, error.degrees_of_freedom) },
        q: none,
    }
}

/// The mean of several traits, sample by sample, so that its error knows of their correlations. Training animals and
/// seeds count as much beside the tested animals as in the single traits.
pub fn average(all: &[&Summary]) -> Summary {
    let mean = |lists: Vec<Row>| {
        Scores::mean(&lists.into_iter().map(Scores::from_values).collect::<Vec<_>>()).values()
    };
    let count = all.iter().map(|s| s.replicates.len()).min().unwrap_or(0);
    let replicates: Vec<Row> =
        (0..count).map(|b| mean(all.iter().map(|s| s.replicates[b]).collect())).collect();
    let estimate = |part: fn(&Summary) -> &Estimate| mean(all.iter().map(|s| part(s).scores).collect());
    let scale = |k: usize| {
        let whole: f64 = all.iter().map(|s| s.mean.errors[k].powi(2)).sum();
        whole / all.iter().map(|s| bootstrap::variance(&column(&s.replicates, k))).sum::<f64>()
    };
    let error = |k: usize| (scale(k) * bootstrap::variance(&column(&replicates, k))).sqrt();
    Summary {
        splits: Vec::new(),
        replicate_sd: Vec::new(),
        mean: Estimate::new(estimate(|s| &s.mean), error),
        pooled: Estimate::new(estimate(|s| &s.pooled), |_| f64::NAN),
        replicates: replicates.clone(),
    }
}

#[cfg(test)]
mod tests;
