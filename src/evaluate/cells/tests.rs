//! Cells, verdicts and accuracies of planted predictions.

use super::*;
use crate::evaluate::crossvalidate::{Task, Validation};
use crate::evaluate::folds::{Scheme, Split, Splits as Divisions};
use crate::evaluate::scores::Tested;
use crate::rng::{Purpose, Stream};
use crate::usage::Cost;

/// Two folds of 40 animals and models whose predictions are `share` of the records and noise; 0 is a constant.
fn scored(shares: &[[[f64; 2]; 2]]) -> Scored {
    let split = |k: usize| Split { repetition: 1, fold: k.to_string(), roles: Vec::new() };
    let splits = Divisions { splits: vec![split(1), split(2)], left_out: 0 };
    let scheme = Scheme::Random { folds: 2, repeats: 1 };
    let validation = Validation { name: "v".into(), scheme, splits, families: None };
    let (mut done, mut tasks) = (BTreeMap::new(), Vec::new());
    for (model, traits) in shares.iter().enumerate() {
        for split in 0..2 {
            let task = Task { model, validation: 0, split, pattern: None, replicate: 0 };
            let predicted = |number: usize| {
                let mut s = Stream::new(1, Purpose::Test, (10 * number + split) as u64);
                let adjusted: Vec<f64> = (0..40).map(|_| s.normal()).collect();
                let share = traits[number][split];
                let mut noise = Stream::new(2, Purpose::Test, model as u64);
                let prediction =
                    adjusted.iter().map(|y| 0.3 + share * (y + noise.normal())).collect::<Vec<f64>>();
                let animal = (40 * split as u32..).take(40).collect();
                let tested = Tested::of_fit(animal, prediction, adjusted, vec![0.0; 40]);
                Predicted { number, trained: 40, estimate: None, weights: Vec::new(), tested }
            };
            let traits = (0..2).map(predicted).collect();
            done.insert(tasks.len(), Done { task, cost: Cost::default(), traits });
            tasks.push(task);
        }
    }
    let names = (0..shares.len()).map(|k| k.to_string()).collect();
    let plan = Plan::of(names, vec![validation], tasks);
    score(&World::alone(), &plan, &done, &[KNOWN; 2], 80, 1, 30)
}

const KNOWN: Heritability = Heritability { h2: 0.25, se: 0.1, at_boundary: false };

#[test]
fn means_are_over_the_splits_in_which_every_model_has_an_r() {
    // The second model is silent in the second split of the second trait, the third in the whole second trait.
    let found = scored(&[[[1.0, 1.0]; 2], [[1.0, 1.0], [1.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]]]);
    let cell = |model: usize, number: usize| {
        found.cells.iter().find(|c| (c.model, c.number) == (model, number)).unwrap()
    };
    assert!((0..3).all(|m| cell(m, 0).counted() == 2));
    for model in [0, 1] {
        let c = cell(model, 1);
        assert_eq!((c.counted(), c.splits[0].counts, c.h2), (1, true, KNOWN));
        for name in ["r", "mse", "top10"] {
            let first = c.summary.splits[0].of(name).0;
            assert!(c.summary.mean.of(name).0 == first && c.summary.pooled.of(name).0 == first);
        }
        // No score of any model where one has no r.
        assert!(c.summary.splits[1].scores.iter().all(|v| v.is_nan()));
    }
    assert!(cell(2, 1).summary.mean.scores.iter().all(|v| v.is_nan()));

    let means = overall(&found.cells);
    assert!(means.iter().all(|o| o.traits == 1), "the third model has an r for the first trait only");
    assert_eq!(means[0].summary.mean.of("r"), cell(0, 0).summary.mean.of("r"));
    let of = |model: usize, number: usize| {
        found.comparisons.iter().find(|c| (c.model, c.number, c.reference) == (model, number, 0)).unwrap()
    };
    assert_eq!(found.comparisons.len(), 4, "never all pairs");
    assert!(of(1, 1).differences[0].difference.is_finite());
    let none = of(2, 1).differences[0];
    assert!([none.difference, none.se, none.low, none.high, none.p, none.q].iter().all(|v| v.is_nan()));
    assert_eq!(of(2, 1).verdict, Verdict::NoScore);
}

#[test]
fn a_model_without_any_r_takes_no_trait_from_the_others() {
    let means = overall(&scored(&[[[1.0, 1.0]; 2], [[0.0, 0.0]; 2]]).cells);
    assert!(means[0].traits == 2 && means[0].summary.mean.of("r").0 > 0.5);
    assert!(means[1].summary.mean.scores.iter().chain(&means[1].summary.mean.errors).all(|v| v.is_nan()));
}

/// Predictions from the number of the trait, the records and a random stream of the model's own.
type Predict<'a> = dyn Fn(usize, &[f64], &mut Stream) -> Vec<f64> + 'a;

/// `traits` traits of 400 animals in four folds: records less fixed effects, and a prediction of each model.
fn study(traits: usize, predict: &[&Predict]) -> Scored {
    let split = |k: usize| Split { repetition: 1, fold: k.to_string(), roles: Vec::new() };
    let splits = Divisions { splits: (0..4).map(split).collect(), left_out: 0 };
    let scheme = Scheme::Random { folds: 4, repeats: 1 };
    let validation = Validation { name: "v".into(), scheme, splits, families: None };
    let (mut done, mut tasks) = (BTreeMap::new(), Vec::new());
    for (model, predict) in predict.iter().enumerate() {
        for split in 0..4 {
            let task = Task { model, validation: 0, split, pattern: None, replicate: 0 };
            let predicted = |number: usize| {
                let mut s = Stream::new(1, Purpose::Test, (10 * number + split) as u64);
                let adjusted: Vec<f64> = (0..100).map(|_| s.normal()).collect();
                let mut own = Stream::new(2, Purpose::Test, (1000 * model + 10 * number + split) as u64);
                let prediction = predict(number, &adjusted, &mut own);
                let animal = (100 * split as u32..).take(100).collect();
                let tested = Tested::of_fit(animal, prediction, adjusted, vec![0.0; 100]);
                Predicted { number, trained: 300, estimate: None, weights: Vec::new(), tested }
            };
            done.insert(
                tasks.len(),
                Done { task, cost: Cost::default(), traits: (0..traits).map(predicted).collect() },
            );
            tasks.push(task);
        }
    }
    let names = (0..predict.len()).map(|k| k.to_string()).collect();
    let plan = Plan::of(names, vec![validation], tasks);
    score(&World::alone(), &plan, &done, &[], 400, 1, 200)
}

#[test]
fn traits_without_heritability_are_not_predicted_and_ties_are_equal() {
    let noise = |_: usize, y: &[f64], s: &mut Stream| y.iter().map(|_| s.normal()).collect::<Vec<f64>>();
    let good = |_: usize, y: &[f64], s: &mut Stream| y.iter().map(|y| y + s.normal()).collect::<Vec<f64>>();
    let plain =
        |_: usize, y: &[f64], s: &mut Stream| y.iter().map(|y| y + 3.0 * s.normal()).collect::<Vec<f64>>();
    let verdicts = |found: Scored| found.comparisons.iter().map(|c| c.verdict).collect::<Vec<_>>();
    let chance = verdicts(study(20, &[&noise, &noise]));
    let undecided = chance.iter().filter(|v| **v != Verdict::NotPredicted).count();
    assert!(undecided <= 1 && !chance.contains(&Verdict::Better), "{chance:?}");
    assert_eq!(verdicts(study(3, &[&plain, &good])), [Verdict::Better; 3]);
    assert_eq!(verdicts(study(3, &[&good, &plain])), [Verdict::Worse; 3]);
    let same = |number: usize, y: &[f64], _: &mut Stream| {
        let mut s = Stream::new(8, Purpose::Test, number as u64);
        y.iter().map(|y| y + s.normal()).collect::<Vec<f64>>()
    };
    let also = |number: usize, y: &[f64], s: &mut Stream| {
        same(number, y, s).iter().map(|p| p * (1.0 + 1e-15)).collect::<Vec<f64>>()
    };
    assert_eq!(verdicts(study(2, &[&same, &same, &also])), [Verdict::Equal; 4]);
}

#[test]
fn q_is_over_the_traits_of_one_model() {
    let scaled = |noise: f64| {
        move |number: usize, y: &[f64], s: &mut Stream| -> Vec<f64> {
            let noise = if number == 0 { noise } else { 1.5 };
            y.iter().map(|y| y + noise * s.normal()).collect()
        }
    };
    let (first, second, third) = (scaled(1.5), scaled(1.1), scaled(1.5));
    let found = study(10, &[&first, &second, &third]);
    for model in [1, 2] {
        let of: Vec<&Comparison> = found.comparisons.iter().filter(|c| c.model == model).collect();
        let p: Vec<f64> = of.iter().map(|c| c.differences[0].p).collect();
        let q: Vec<f64> = of.iter().map(|c| c.differences[0].q).collect();
        assert_eq!(q, benjamini_hochberg(&p));
        assert!(p.iter().zip(&q).all(|(p, q)| q >= p));
    }
}

#[test]
fn accuracy_needs_a_heritability_that_is_known_to_be_more_than_nothing() {
    let of = |h2: f64, se: f64| Heritability { h2, se, at_boundary: false }.accuracy((0.2, 0.02));
    let (accuracy, error) = of(0.25, 0.0);
    assert!((accuracy - 0.4).abs() < 1e-12 && (error - 0.04).abs() < 1e-12, "given, not estimated");
    for (h2, se) in [(0.25, 0.13), (0.009, 0.001), (0.0, 0.0), (0.3, f64::NAN), (f64::NAN, f64::NAN)] {
        assert!(of(h2, se).0.is_nan() && of(h2, se).1.is_nan(), "{h2} {se}");
    }
}

#[test]
fn the_error_of_an_accuracy_is_that_of_simulated_ratios() {
    let h2 = Heritability { h2: 0.4, se: 0.05, at_boundary: false };
    let (accuracy, error) = h2.accuracy((0.3, 0.03));
    assert!((accuracy - 0.3 / 0.4f64.sqrt()).abs() < 1e-12);
    let mut s = Stream::new(6, Purpose::Test, 0);
    let ratio = |_| (0.3 + 0.03 * s.normal()) / (0.4 + 0.05 * s.normal()).sqrt();
    let simulated = crate::stats::variance(&(0..20_000).map(ratio).collect::<Vec<f64>>()).sqrt();
    assert!((error / simulated - 1.0).abs() < 0.05, "{error} {simulated}");
    // More than that of the ratio with h² known.
    assert!(error > 1.15 * 0.03 / 0.4f64.sqrt());
}
