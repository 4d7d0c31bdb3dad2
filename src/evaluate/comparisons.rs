//! Scores over all splits with bootstrap errors, and the paired difference of two models.

use crate::evaluate::scores::{sample, standard_error, Scorer, Scores, Sums, Tested};
use crate::stats::quantile;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Scores with their bootstrap standard errors.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Estimate {
    /// The scores, in the order of [`Scores::NAMES`].
    pub scores: [f64; 7],
    /// Their standard errors, NaN without a bootstrap.
    pub errors: [f64; 7],
}

impl Estimate {
    /// The score of that name and its standard error.
    pub fn of(&self, name: &str) -> (f64, f64) {
        let k = Scores::NAMES.iter().position(|n| *n == name).expect("one of Scores::NAMES");
        (self.scores[k], self.errors[k])
    }

    fn new(scores: Scores, replicates: &[Scores]) -> Estimate {
        let error = |k: usize| standard_error(&replicates.iter().map(|r| r.values()[k]).collect::<Vec<_>>());
        Estimate { scores: scores.values(), errors: std::array::from_fn(error) }
    }
}

/// What one model achieves for one trait in one validation.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    /// Split by split, in the order given.
    pub splits: Vec<Estimate>,
    /// Mean over the splits that count.
    pub mean: Estimate,
    /// All tested animals of a repetition together, deviations being those within their split; mean over repetitions.
    pub pooled: Estimate,
    /// The mean's bootstrap replicates, for comparisons.
    pub replicates: Vec<[f64; 7]>,
}

/// The bootstrap samples of `n` animals, (replicates, n): one for all models, traits and splits.
pub fn samples(n: usize, seed: u64, replicates: usize) -> Vec<Vec<u16>> {
    (0..replicates).into_par_iter().map(|b| sample(n, seed, b)).collect()
}

/// One split to be scored.
#[derive(Debug, Clone, Copy)]
pub struct TestedSplit<'a> {
    /// Its repetition.
    pub repetition: usize,
    /// Its tested animals.
    pub tested: &'a Tested,
    /// Whether it counts in means: the same splits for all models and scores.
    pub counts: bool,
}

/// Scores one model and trait.
pub fn summarize(splits: &[TestedSplit], samples: &[Vec<u16>]) -> Summary {
    let scorers: Vec<Scorer> = splits.iter().map(|s| Scorer::new(s.tested)).collect();
    let plain: Vec<Sums> = scorers.iter().map(Scorer::sums).collect();
    // (replicates, splits)
    let resampled: Vec<Vec<Sums>> =
        samples.iter().map(|counts| scorers.iter().map(|s| s.resampled(counts)).collect()).collect();
    let means: Vec<Scores> = resampled.iter().map(|all| mean(splits, all)).collect();
    let pools: Vec<Scores> = resampled.iter().map(|all| pooled(splits, all)).collect();
    let split = |k: usize| {
        let replicates: Vec<Scores> = resampled.iter().map(|all| all[k].scores()).collect();
        Estimate::new(plain[k].scores(), &replicates)
    };
    Summary {
        splits: (0..splits.len()).map(split).collect(),
        mean: Estimate::new(mean(splits, &plain), &means),
        pooled: Estimate::new(pooled(splits, &plain), &pools),
        replicates: means.iter().map(Scores::values).collect(),
    }
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

/// The difference of two models in one score, on the same animals and the same bootstrap samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Score of the first model minus that of the second.
    pub difference: f64,
    /// Bootstrap standard error of the difference.
    pub se: f64,
    /// Lower limit of the 95 % percentile interval.
    pub low: f64,
    /// Upper limit.
    pub high: f64,
    /// Two-sided bootstrap probability of a difference of the other sign, at least 2/(replicates + 1).
    pub p: f64,
}

/// Compares two models score by score, in the order of [`Scores::NAMES`].
pub fn compare(a: &Summary, b: &Summary) -> [Difference; 7] {
    std::array::from_fn(|k| {
        let paired: Vec<f64> = a
            .replicates
            .iter()
            .zip(&b.replicates)
            .map(|(a, b)| a[k] - b[k])
            .filter(|d| d.is_finite())
            .collect();
        let share = |holds: &dyn Fn(f64) -> bool| {
            (paired.iter().filter(|d| holds(**d)).count() + 1) as f64 / (paired.len() + 1) as f64
        };
        Difference {
            difference: a.mean.scores[k] - b.mean.scores[k],
            se: standard_error(&paired),
            low: quantile(&paired, 0.025),
            high: quantile(&paired, 0.975),
            p: if paired.is_empty() {
                f64::NAN
            } else {
                (2.0 * share(&|d| d <= 0.0).min(share(&|d| d >= 0.0))).min(1.0)
            },
        }
    })
}

/// The mean of several traits, replicate by replicate, so that its error knows of their correlations.
pub fn average(all: &[&Summary]) -> Summary {
    let mean =
        |lists: Vec<[f64; 7]>| Scores::mean(&lists.into_iter().map(Scores::from_values).collect::<Vec<_>>());
    let count = all.iter().map(|s| s.replicates.len()).min().unwrap_or(0);
    let replicates: Vec<Scores> =
        (0..count).map(|b| mean(all.iter().map(|s| s.replicates[b]).collect())).collect();
    let estimate = |part: fn(&Summary) -> &Estimate| mean(all.iter().map(|s| part(s).scores).collect());
    Summary {
        splits: Vec::new(),
        mean: Estimate::new(estimate(|s| &s.mean), &replicates),
        pooled: Estimate::new(estimate(|s| &s.pooled), &[]),
        replicates: replicates.iter().map(Scores::values).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    /// Records of 300 animals and predictions with the given noise, in three folds.
    fn folds(noise: f64, seed: u64) -> Vec<Tested> {
        let (mut truth, mut s) = (Stream::new(1, Purpose::Test, 0), Stream::new(seed, Purpose::Test, 1));
        let mut make = |animals: std::ops::Range<u32>| {
            let adjusted: Vec<f64> = animals.clone().map(|_| truth.normal()).collect();
            let prediction = adjusted.iter().map(|a| a + noise * s.normal()).collect();
            Tested { fixed: vec![0.0; adjusted.len()], animal: animals.collect(), prediction, adjusted }
        };
        vec![make(0..100), make(100..200), make(200..300)]
    }

    fn counting(tested: &Tested) -> TestedSplit<'_> {
        TestedSplit { repetition: 1, tested, counts: true }
    }

    fn summary(sets: &[Tested], samples: &[Vec<u16>]) -> Summary {
        summarize(&sets.iter().map(counting).collect::<Vec<_>>(), samples)
    }

    #[test]
    fn the_mean_is_over_folds_and_the_pool_is_one_correlation_within_them() {
        let sets = folds(1.0, 5);
        let s = summary(&sets, &samples(300, 1, 50));
        let mean = s.splits.iter().map(|e| e.of("r").0).sum::<f64>() / 3.0;
        assert!((s.mean.of("r").0 - mean).abs() < 1e-14);
        let all = |f: &dyn Fn(&Tested) -> &Vec<f64>| {
            let centred = |x: &Vec<f64>| x.iter().map(|v| v - crate::stats::mean(x)).collect::<Vec<f64>>();
            sets.iter().flat_map(|t| centred(f(t))).collect::<Vec<f64>>()
        };
        let pooled = crate::stats::pearson(&all(&|t| &t.prediction), &all(&|t| &t.adjusted));
        assert!((s.pooled.of("r").0 - pooled).abs() < 1e-12);
        // Three folds of 100 are about as sure as one set of 300.
        assert!((s.mean.of("r").1 / s.pooled.of("r").1 - 1.0).abs() < 0.2);
        assert!(s.splits[0].of("r").1 > 1.3 * s.mean.of("r").1);
    }

    #[test]
    fn a_split_that_does_not_count_is_scored_but_changes_no_mean() {
        let (sets, draws) = (folds(1.0, 5), samples(300, 1, 50));
        let two = summary(&sets[..2], &draws);
        let mut silent = sets[2].clone();
        silent.prediction.fill(0.3);
        for last in [&sets[2], &silent] {
            let mut splits: Vec<TestedSplit> = sets[..2].iter().map(counting).collect();
            splits.push(TestedSplit { counts: false, ..counting(last) });
            let s = summarize(&splits, &draws);
            assert_eq!((s.mean, s.pooled), (two.mean, two.pooled));
            assert_eq!(s.splits[2].of("r").0.is_nan(), last == &silent);
            assert_eq!(s.splits[2].of("r").1.is_nan(), last == &silent, "no score has no error");
        }
        let none = summarize(&[TestedSplit { counts: false, ..counting(&silent) }], &draws);
        assert!(none.mean.scores.iter().chain(&none.mean.errors).all(|v| v.is_nan()), "{:?}", none.mean);
    }

    #[test]
    fn the_mean_of_equal_traits_is_one_of_them_with_its_error() {
        let s = summary(&folds(1.0, 5), &samples(300, 1, 50));
        let m = average(&[&s, &s]);
        assert!((m.mean.of("r").0 - s.mean.of("r").0).abs() < 1e-14);
        assert!((m.mean.of("r").1 - s.mean.of("r").1).abs() < 1e-14);
    }

    #[test]
    fn a_model_does_not_differ_from_itself_and_a_much_better_one_does() {
        let draws = samples(300, 2, 400);
        let (good, other, bad) = (folds(0.7, 7), folds(0.7, 8), folds(2.0, 9));
        let [good, other, bad] = [&good, &other, &bad].map(|sets| summary(sets, &draws));
        let same = compare(&good, &good)[0];
        assert_eq!((same.difference, same.se, same.p), (0.0, 0.0, 1.0));
        let better = compare(&good, &bad)[0];
        assert!(better.low > 0.0 && better.difference > 0.2 && better.p < 0.01, "{better:?}");
        let alike = compare(&good, &other)[0];
        assert!(alike.low < 0.0 && alike.high > 0.0, "{alike:?}");
    }

    #[test]
    fn pairing_makes_the_difference_of_like_models_surer_than_either() {
        let draws = samples(300, 2, 400);
        let sets = folds(1.0, 11);
        let mut near = sets.clone();
        near.iter_mut()
            .for_each(|t| t.prediction.iter_mut().enumerate().for_each(|(i, p)| *p += 0.02 * (i % 3) as f64));
        let (a, b) = (summary(&sets, &draws), summary(&near, &draws));
        assert!(compare(&a, &b)[0].se < 0.1 * a.mean.of("r").1);
    }
}
