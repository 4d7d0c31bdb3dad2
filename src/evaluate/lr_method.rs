//! The method LR (Legarra & Reverter 2018): breeding values from part of the records beside those from all.
//!
//! For tested animals û_p comes from the training part of a split, û_w from all records, theirs included. If the model
//! holds, E(û_w − û_p) = 0, the slope of û_w on û_p is 1, their correlation is the ratio of the two accuracies, and
//! cov(û_w, û_p) = σ²g (mean diagonal − mean of G among the tested animals) · (accuracy of û_p)².

use crate::evaluate::crossvalidate::{Done, Predicted};
use crate::evaluate::scores::LEAST_RANGE;
use crate::predict::learner::Learned;
use crate::stats;
use ndarray::ArrayView2;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// The four statistics; NaN where û_p or û_w does not vary.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Statistics {
    /// Mean of û_p − û_w, in the trait's unit: 0 when unbiased.
    pub bias: f64,
    /// Slope of û_w on û_p: 1 is right, below 1 û_p is inflated.
    pub slope: f64,
    /// Correlation of û_p and û_w: accuracy with part of the records over that with all.
    pub ratio: f64,
    /// Estimated accuracy of û_p; NaN where the covariance is negative.
    pub accuracy: f64,
}

impl Statistics {
    /// Names in tables, in the order of [`Statistics::values`].
    pub const NAMES: [&'static str; 4] = ["bias", "slope", "ratio", "accuracy"];

    /// Compares û_p with û_w of the same animals; `variance` is that of their breeding values.
    pub fn new(partial: &[f64], whole: &[f64], variance: f64) -> Statistics {
        let least = LEAST_RANGE * variance.sqrt();
        let vary = stats::range(partial) > least && stats::range(whole) > least;
        let (slope, ratio) = match vary {
            true => (stats::slope(partial, whole), stats::pearson(partial, whole)),
            false => (f64::NAN, f64::NAN),
        };
        let covariance = slope * stats::variance(partial);
        Statistics {
            bias: stats::mean(partial) - stats::mean(whole),
            slope,
            ratio,
            accuracy: (covariance / variance).sqrt(),
        }
    }

    /// The statistics as a list.
    pub fn values(&self) -> [f64; 4] {
        [self.bias, self.slope, self.ratio, self.accuracy]
    }

    /// Means over those splits in which a statistic exists.
    pub fn mean(all: &[Statistics]) -> Statistics {
        let mean = |k: usize| {
            let finite: Vec<f64> = all.iter().map(|s| s.values()[k]).filter(|v| v.is_finite()).collect();
            stats::mean(&finite)
        };
        Statistics { bias: mean(0), slope: mean(1), ratio: mean(2), accuracy: mean(3) }
    }
}

/// One trait in one split.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LrStatistics {
    /// Number of the validation.
    pub validation: usize,
    /// Number of the model.
    pub model: usize,
    /// Number of the trait.
    pub number: usize,
    /// Number of the split.
    pub split: usize,
    /// Tested animals.
    pub animals: usize,
    /// What was found.
    pub statistics: Statistics,
}

/// Compares the tested animals' predictions of `model` with those of its fit to all records, `whole`. G stands on every
/// rank. All, by validation, trait and split.
pub fn lr_statistics(
    model: usize,
    whole: &Learned,
    g: ArrayView2<f64>,
    done: &BTreeMap<usize, Done>,
) -> Vec<LrStatistics> {
    let of = |d: &Done, p: &Predicted| {
        let k = whole.traits.iter().position(|&t| t == p.number)?;
        let estimate = whole.estimates[k].as_ref()?;
        let animals: Vec<usize> = p.tested.animal.iter().map(|&i| i as usize).collect();
        let values: Vec<f64> = animals.iter().map(|&i| whole.values[[i, k]]).collect();
        let variance = estimate.var_g * spread(g, &animals);
        Some(LrStatistics {
            validation: d.task.validation,
            model,
            number: p.number,
            split: d.task.split,
            animals: animals.len(),
            statistics: Statistics::new(&p.tested.prediction, &values, variance),
        })
    };
    let of_model = done.values().filter(|d| d.task.model == model);
    let found: Vec<(&Done, &Predicted)> =
        of_model.flat_map(|d| d.traits.iter().map(move |p| (d, p))).collect();
    let mut all: Vec<LrStatistics> = found.into_par_iter().filter_map(|(d, p)| of(d, p)).collect();
    all.sort_by_key(|r| (r.validation, r.number, r.split));
    all
}

/// Mean diagonal less mean of G among some animals: 1 + F̄ − 2f̄, what σ²g becomes in this sample of them.
fn spread(g: ArrayView2<f64>, animals: &[usize]) -> f64 {
    let k = animals.len() as f64;
    let diagonal: f64 = animals.iter().map(|&i| g[[i, i]]).sum();
    let row = |&i: &usize| animals.iter().map(|&j| g[[i, j]]).sum::<f64>();
    let all: f64 = animals.iter().map(row).sum();
    diagonal / k - all / (k * k)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};
    use ndarray::array;

    #[test]
    fn statistics_are_those_of_the_definitions() {
        let s = Statistics::new(&[1.0, 2.0, 3.0], &[2.0, 2.0, 5.0], 4.0);
        // cov 1.5, var of the partial 1, of the whole 3
        assert!((s.bias + 1.0).abs() < 1e-15 && (s.slope - 1.5).abs() < 1e-15);
        assert!((s.ratio - 1.5 / 3f64.sqrt()).abs() < 1e-15);
        assert!((s.accuracy - (1.5f64 / 4.0).sqrt()).abs() < 1e-15);
        let none = Statistics::new(&[1.0, 1.0], &[1.0, 2.0], 1.0);
        assert!(!none.slope.is_finite() && !none.accuracy.is_finite());
        // Rounding of equal values is no variation.
        let still = Statistics::new(&[0.1, 0.1 + 1e-16, 0.1], &[1.0, 2.0, 4.0], 1.0);
        assert!(still.slope.is_nan() && still.ratio.is_nan() && still.accuracy.is_nan() && still.bias < 0.0);
        let mean = Statistics::mean(&[s, none]);
        assert_eq!((mean.slope, mean.bias), (s.slope, (s.bias + none.bias) / 2.0));
    }

    #[test]
    fn accuracy_is_that_of_the_truth_when_predictions_are_expectations() {
        // u = a + b + c with variances 1, 0.5 and 1; a is known to the partial, a + b to the whole. The tolerance is
        // about five standard errors of so many draws.
        let mut s = Stream::new(3, Purpose::Test, 0);
        let (mut partial, mut whole) = (Vec::new(), Vec::new());
        for _ in 0..100_000 {
            let (a, b) = (s.normal(), 0.5f64.sqrt() * s.normal());
            partial.push(a);
            whole.push(a + b);
        }
        let s = Statistics::new(&partial, &whole, 2.5);
        assert!((s.accuracy - 0.4f64.sqrt()).abs() < 0.01, "{s:?}");
        assert!((s.ratio - 1.5f64.sqrt().recip()).abs() < 0.01, "{s:?}");
        assert!((s.slope - 1.0).abs() < 0.012 && s.bias.abs() < 0.012, "{s:?}");
    }

    #[test]
    fn the_spread_of_a_sample_leaves_out_what_all_share() {
        let g = array![[1.2, 0.2, 9.0], [0.2, 1.0, 9.0], [9.0, 9.0, 9.0]];
        assert!((spread(g.view(), &[0, 1]) - (1.1 - 2.6 / 4.0)).abs() < 1e-15);
    }
}
