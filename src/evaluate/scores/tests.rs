//! Scores against plain definitions, and what does not vary.

use super::*;
use crate::evaluate::bootstrap::{self, sample};
use crate::rng::{Purpose, Stream};
use crate::stats;

fn made_up(n: usize) -> Tested {
    let mut s = Stream::new(3, Purpose::Test, n as u64);
    let prediction: Vec<f64> = (0..n).map(|_| s.normal()).collect();
    let adjusted = prediction.iter().map(|p| 0.8 * p + 0.5 + s.normal()).collect();
    let fixed = (0..n).map(|_| 3.0 * s.normal()).collect();
    Tested::of_fit((0..n as u32).collect(), prediction, adjusted, fixed)
}

fn weights(counts: &[u16]) -> Vec<f64> {
    counts.iter().map(|&c| f64::from(c)).collect()
}

#[test]
fn scores_are_those_of_the_plain_definitions() {
    let t = made_up(500);
    let s = Scorer::new(&t, None).sums().scores();
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-10, "{a} {b}");
    near(s.r, stats::pearson(&t.prediction, &t.adjusted));
    near(s.slope, stats::slope(&t.prediction, &t.adjusted));
    near(s.spearman, stats::spearman(&t.prediction, &t.adjusted));
    let error: Vec<f64> = t.prediction.iter().zip(&t.adjusted).map(|(p, a)| a - p).collect();
    near(s.mse, error.iter().map(|e| e * e).sum::<f64>() / 500.0);
    near(s.mse_centred, stats::variance(&error) * 499.0 / 500.0);
    let best = |x: &[f64]| {
        let limit = stats::ranks(x);
        (0..500).filter(|&i| limit[i] > 450.0).collect::<std::collections::BTreeSet<_>>()
    };
    near(s.top10, best(&t.prediction).intersection(&best(&t.adjusted)).count() as f64 / 50.0);
    let total: Vec<f64> = t.prediction.iter().zip(&t.fixed).map(|(u, b)| u + b).collect();
    let y: Vec<f64> = t.adjusted.iter().zip(&t.fixed).map(|(a, b)| a + b).collect();
    near(s.r_total, stats::pearson(&total, &y));
}

#[test]
fn a_perfect_prediction_scores_perfectly_and_ties_share_their_rank() {
    let x = vec![1.0, 2.0, 2.0, 4.0, 9.0];
    let t = Tested::of_fit((0..5).collect(), x.clone(), x.clone(), vec![0.0; 5]);
    let s = Scorer::new(&t, None).sums().scores();
    assert!(s.r_within_family.is_nan());
    assert!(s.values().iter().zip([1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0]).all(|(a, b)| (a - b).abs() < 1e-12));
    assert_eq!(mid_ranks(&x, &ascending(&x), &[1.0; 5]), [1.0, 2.5, 2.5, 4.0, 5.0]);
}

/// All that ranks or correlates; the fixed effects do not vary, so r_total is none either.
fn ranking(s: Scores) -> [f64; 5] {
    [s.r, s.slope, s.spearman, s.top10, s.r_total]
}

#[test]
fn constant_predictions_and_constant_records_have_no_correlation_slope_or_ranking() {
    let varying = made_up(50);
    // A sum of weighted equal numbers, or a network in single precision, leaves rounding: it is no variation.
    let noisy = |c: f64, size: f64| (0..50).map(|i| c + size * f64::from(i % 7)).collect::<Vec<f64>>();
    for constant in [noisy(0.0, 0.0), noisy(0.123, 0.0), noisy(-3e-16, 1e-17), noisy(0.3, 1e-8)] {
        for of_records in [false, true] {
            let mut t = varying.clone();
            if of_records {
                // Records less their fixed effects, all equal: only rounding remains.
                t.adjusted = vec![0.1 + 0.2 - 0.3; 50];
            } else {
                t.prediction = constant.clone();
            }
            let t = Tested::of_fit(t.animal, t.prediction, t.adjusted, vec![0.7; 50]);
            let scorer = Scorer::new(&t, None);
            let samples = (0..200).map(|b| scorer.weighted(&weights(&sample(50, 1, b))).scores());
            for s in samples.chain([scorer.sums().scores()]) {
                assert!(ranking(s).iter().all(|v| v.is_nan()), "{s:?}");
                assert!(s.mse.is_finite() && s.mse_centred.is_finite());
            }
        }
    }
}

#[test]
fn a_disease_coded_0_and_1_scores_as_one_coded_1_and_2() {
    let (sick, t) = ([4, 17, 30], made_up(40));
    let coded = |low: f64, step: f64, sick: &[usize]| {
        let y: Vec<f64> = (0..40).map(|i| low + if sick.contains(&i) { step } else { 0.0 }).collect();
        let mean = stats::mean(&y) + 0.01 * step;
        let adjusted = y.iter().map(|y| y - mean).collect();
        let prediction = t.prediction.iter().map(|p| step * p).collect();
        Tested::of_fit(t.animal.clone(), prediction, adjusted, vec![mean; 40])
    };
    for sick in [&sick[..], &[]] {
        let plain = coded(0.0, 1.0, sick);
        let wanted = Scorer::new(&plain, None);
        for (low, step) in [(1.0, 1.0), (1e5, 1.0), (0.0, 1e-9), (-7.0, 1e6)] {
            let other = coded(low, step, sick);
            let found = Scorer::new(&other, None);
            for b in 0..50 {
                let counts = sample(40, 3, b);
                let [a, b] = [&wanted, &found].map(|s| s.weighted(&weights(&counts)).scores());
                for (a, b) in ranking(a).into_iter().zip(ranking(b)) {
                    assert!((a - b).abs() < 1e-9 || (a.is_nan() && b.is_nan()), "{a} {b}");
                }
            }
        }
        assert_eq!(wanted.sums().scores().r.is_nan(), sick.is_empty());
    }
}

#[test]
fn sets_scored_together_do_not_show_how_their_means_differ() {
    // Two folds whose predictions and records stand apart, but have nothing to do with each other within them.
    let at = |shift: f64, from: u64| {
        let mut s = Stream::new(5, Purpose::Test, from);
        let mut near = || (0..400).map(|_| shift + s.normal()).collect::<Vec<f64>>();
        Tested::of_fit((0..400).collect(), near(), near(), vec![0.0; 400])
    };
    let folds = [at(0.0, 0), at(50.0, 1)];
    let mut all = Sums::default();
    folds.iter().for_each(|t| all += Scorer::new(t, None).sums());
    let s = all.scores();
    assert!(s.r.abs() < 0.15 && s.spearman.abs() < 0.15 && s.r_total.abs() < 0.15 && s.slope.abs() < 0.15);
    assert!((s.top10 - 0.1).abs() < 0.07, "{}", s.top10);
    // Each is the mean of the folds' own, weighted by what varies in them.
    let own = folds.each_ref().map(|t| Scorer::new(t, None).sums().scores());
    assert!((s.mse - (own[0].mse + own[1].mse) / 2.0).abs() < 1e-9);
    assert!((s.spearman - (own[0].spearman + own[1].spearman) / 2.0).abs() < 1e-9);
}

#[test]
fn a_weight_of_two_is_the_animal_twice() {
    let t = made_up(40);
    let counts: Vec<u16> = (0..40).map(|i| i % 3).collect();
    let twice: Vec<usize> = (0..40).flat_map(|i| vec![i; usize::from(counts[i])]).collect();
    let pick = |v: &[f64]| twice.iter().map(|&i| v[i]).collect::<Vec<f64>>();
    let plain = Tested::of_fit(
        (0..twice.len() as u32).collect(),
        pick(&t.prediction),
        pick(&t.adjusted),
        pick(&t.fixed),
    );
    let (a, b) = (
        Scorer::new(&t, None).weighted(&weights(&counts)).scores(),
        Scorer::new(&plain, None).sums().scores(),
    );
    assert!(a.values()[..7].iter().zip(b.values()).all(|(a, b)| (a - b).abs() < 1e-10), "{a:?} {b:?}");
}

#[test]
fn the_standard_error_of_a_correlation_is_fishers() {
    let n = 400;
    let t = made_up(n);
    let scorer = Scorer::new(&t, None);
    let r: Vec<f64> = (0..600).map(|b| scorer.weighted(&weights(&sample(n, 1, b))).scores().r).collect();
    let fisher = (1.0 - scorer.sums().scores().r.powi(2)) / (n as f64).sqrt();
    assert!(
        (bootstrap::variance(&r).sqrt() / fisher - 1.0).abs() < 0.15,
        "{} {fisher}",
        bootstrap::variance(&r).sqrt()
    );
}

#[test]
fn means_of_all_scores_are_over_the_splits_that_have_an_r() {
    let a = Scores::from_values([0.2; 8]);
    let b = Scores::from_values([f64::NAN, f64::NAN, 0.4, 0.4, f64::NAN, 0.4, 0.4, f64::NAN]);
    assert_eq!(Scores::mean(&[a, b]), Scores::mean(&[a]));
    assert!((Scores::mean(&[a, b]).mse - 0.2).abs() < 1e-15);
    assert!(Scores::mean(&[b]).values().iter().all(|v| v.is_nan()));
}

#[test]
fn r_within_families_is_that_of_deviations_and_sees_shuffled_rows() {
    // 30 families of 10 whose means are predicted well; within them the prediction belongs to another sib.
    let mut s = Stream::new(9, Purpose::Test, 0);
    let family: Vec<u32> = (0..300).map(|i| i / 10).collect();
    let means: Vec<f64> = (0..30).map(|_| s.normal()).collect();
    let mean = |i: usize| means[i / 10];
    let own: Vec<f64> = (0..300).map(|_| 0.5 * s.normal()).collect();
    let adjusted: Vec<f64> = (0..300).map(|i| mean(i) + own[i]).collect();
    let with = |shift: usize| {
        let prediction = (0..300).map(|i| mean(i) + own[i / 10 * 10 + (i + shift) % 10]).collect();
        let t = Tested::of_fit((0..300).collect(), prediction, adjusted.clone(), vec![0.0; 300]);
        Scorer::new(&t, Some(&family)).sums().scores()
    };
    assert!(with(0).r > 0.999 && with(0).r_within_family > 0.999);
    let shuffled = with(3);
    assert!(shuffled.r > 0.6 && shuffled.r_within_family.abs() < 0.2, "{shuffled:?}");

    // A sample without a family is scored as if it were not there.
    let t = Tested::of_fit((0..300).collect(), own.clone(), adjusted.clone(), vec![0.0; 300]);
    let scorer = Scorer::new(&t, Some(&family));
    let drawn: Vec<f64> = (0..300).map(|i| if i < 10 { 0.0 } else { 1.0 }).collect();
    let rest = |x: &[f64]| x[10..].to_vec();
    let less = Tested::of_fit((10..300).collect(), rest(&own), rest(&adjusted), vec![0.0; 290]);
    let (all, less) = (scorer.weighted(&drawn).scores(), Scorer::new(&less, Some(&family)).sums().scores());
    assert!((all.r_within_family - less.r_within_family).abs() < 1e-12, "{all:?} {less:?}");

    // Pure family means do not vary within families; singles have no family.
    let pure =
        Tested::of_fit((0..300).collect(), (0..300).map(mean).collect(), adjusted.clone(), vec![0.0; 300]);
    let scores = Scorer::new(&pure, Some(&family)).sums().scores();
    assert!(scores.r > 0.8 && scores.r_within_family.is_nan(), "{scores:?}");
    assert!(has_families(&pure, Some(&family)) && !has_families(&pure, Some(&vec![u32::MAX; 300])));
    assert!(Scorer::new(&pure, Some(&vec![u32::MAX; 300])).sums().scores().r_within_family.is_nan());
}

#[test]
fn a_models_own_fixed_effects_change_r_total_alone() {
    let t = made_up(200);
    let other = Tested { fixed: t.fixed.iter().map(|b| 2.0 - b).collect(), ..t.clone() };
    let [a, b] = [&t, &other].map(|t| Scorer::new(t, None).sums().scores());
    assert_eq!(a.values()[..6], b.values()[..6]);
    assert!((a.r_total - b.r_total).abs() > 0.1);
}
