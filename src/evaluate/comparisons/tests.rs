//! Means, errors and differences of made-up predictions.

use super::*;
use crate::rng::{Purpose, Stream};

const NO_SEEDS: usize = 1;

/// Records of 300 animals in three folds, and predictions with the given noise; `replicates` of them, with noise of their
/// own of the same size.
fn folds(noise: f64, seed: u64, replicates: usize) -> Vec<Tested> {
    let (mut truth, mut s) = (Stream::new(1, Purpose::Test, 0), Stream::new(seed, Purpose::Test, 1));
    let mut make = |animals: std::ops::Range<u32>| {
        let adjusted: Vec<f64> = animals.clone().map(|_| truth.normal()).collect();
        let mut fit = || adjusted.iter().map(|a| a + noise * s.normal()).collect::<Vec<f64>>();
        let fits: Vec<Vec<f64>> = (0..replicates).map(|_| fit()).collect();
        let mean = |i: usize| fits.iter().map(|f| f[i]).sum::<f64>() / replicates as f64;
        let prediction = (0..adjusted.len()).map(mean).collect();
        let fixed = vec![0.0; adjusted.len()];
        Tested { replicates: fits, ..Tested::of_fit(animals.collect(), prediction, adjusted, fixed) }
    };
    vec![make(0..100), make(100..200), make(200..300)]
}

fn counting(tested: &Tested) -> TestedSplit<'_> {
    TestedSplit { repetition: 1, trained: 200, tested, counts: true }
}

fn resampled(sets: &[Tested], draws: &Draws) -> Resampled {
    Resampled::new(&sets.iter().map(counting).collect::<Vec<_>>(), draws, None)
}

fn draws(samples: usize) -> Draws {
    Draws::new(300, None, 1, samples)
}

#[test]
fn the_mean_is_over_folds_and_the_pool_is_one_correlation_within_them() {
    let sets = folds(1.0, 5, NO_SEEDS);
    let s = resampled(&sets, &draws(50)).summary();
    let mean = s.splits.iter().map(|e| e.of("r").0).sum::<f64>() / 3.0;
    assert!((s.mean.of("r").0 - mean).abs() < 1e-14);
    let all = |f: &dyn Fn(&Tested) -> &Vec<f64>| {
        let centred = |x: &Vec<f64>| x.iter().map(|v| v - stats::mean(x)).collect::<Vec<f64>>();
        sets.iter().flat_map(|t| centred(f(t))).collect::<Vec<f64>>()
    };
    let pooled = stats::pearson(&all(&|t| &t.prediction), &all(&|t| &t.adjusted));
    assert!((s.pooled.of("r").0 - pooled).abs() < 1e-12);
    // Three folds of 100 are about as sure as one set of 300.
    assert!((s.mean.of("r").1 / s.pooled.of("r").1 - 1.0).abs() < 0.2);
    let of_splits = s.splits.iter().map(|e| e.of("r").1).sum::<f64>() / 3.0;
    assert!(of_splits > 1.1 * s.mean.of("r").1);
    // Fisher's error of 300 tested animals, and as much again for 200 that train where 100 are tested.
    let fisher = (1.0 - mean * mean) / 300f64.sqrt();
    let wanted = fisher * (1.0 + 3.0 * 0.5f64).sqrt();
    assert!((s.mean.of("r").1 / wanted - 1.0).abs() < 0.25, "{} {wanted}", s.mean.of("r").1);
    assert!(s.replicate_sd.iter().all(|sd| sd.is_nan()));
}

#[test]
fn a_split_that_does_not_count_has_no_score_and_changes_no_mean() {
    let (sets, draws) = (folds(1.0, 5, NO_SEEDS), draws(50));
    let two = resampled(&sets[..2], &draws).summary();
    let mut silent = sets[2].clone();
    silent.prediction.fill(0.3);
    for last in [&sets[2], &silent] {
        let mut splits: Vec<TestedSplit> = sets[..2].iter().map(counting).collect();
        splits.push(TestedSplit { counts: false, ..counting(last) });
        let s = Resampled::new(&splits, &draws, None).summary();
        assert_eq!(s.mean.scores[..7], two.mean.scores[..7]);
        assert_eq!(s.mean.errors[..7], two.mean.errors[..7]);
        assert!(s.splits[2].scores.iter().chain(&s.splits[2].errors).all(|v| v.is_nan()));
    }
    let none = [TestedSplit { counts: false, ..counting(&silent) }];
    let none = Resampled::new(&none, &draws, None).summary();
    assert!(none.mean.scores.iter().chain(&none.mean.errors).all(|v| v.is_nan()), "{:?}", none.mean);
}

#[test]
fn the_mean_of_equal_traits_is_one_of_them_with_its_error() {
    let s = resampled(&folds(1.0, 5, NO_SEEDS), &draws(50)).summary();
    let m = average(&[&s, &s]);
    assert!((m.mean.of("r").0 - s.mean.of("r").0).abs() < 1e-14);
    assert!((m.mean.of("r").1 / s.mean.of("r").1 - 1.0).abs() < 1e-6);
}

#[test]
fn a_model_ties_with_itself_and_a_much_better_one_differs() {
    let draws = draws(400);
    let [good, other, bad] =
        [folds(0.7, 7, 1), folds(0.7, 8, 1), folds(2.0, 9, 1)].map(|sets| resampled(&sets, &draws));
    let same = compare(&good, &good)[0];
    assert!(same.is_tie() && (same.difference, same.p) == (0.0, 1.0), "{same:?}");
    let better = compare(&good, &bad)[0];
    assert!(better.low > 0.0 && better.difference > 0.2 && better.p < 0.01, "{better:?}");
    let alike = compare(&good, &other)[0];
    assert!(alike.low < 0.0 && alike.high > 0.0 && !alike.is_tie(), "{alike:?}");
    assert!((compare(&bad, &good)[0].difference + better.difference).abs() < 1e-15);
}

#[test]
fn pairing_makes_the_difference_of_like_models_surer_than_either() {
    let (draws, sets) = (draws(400), folds(1.0, 11, NO_SEEDS));
    let mut near = sets.clone();
    near.iter_mut()
        .for_each(|t| t.prediction.iter_mut().enumerate().for_each(|(i, p)| *p += 0.02 * (i % 3) as f64));
    let (a, b) = (resampled(&sets, &draws), resampled(&near, &draws));
    assert!(compare(&a, &b)[0].se < 0.1 * a.summary().mean.of("r").1);
}

#[test]
fn records_that_families_share_make_errors_as_large_as_families_are_few() {
    // What a family shares is all that is predicted and recorded: 300 animals tell as much as 30.
    let mut s = Stream::new(4, Purpose::Test, 0);
    let shared: Vec<(f64, f64)> = (0..30).map(|_| (s.normal(), s.normal())).collect();
    let of = |part: fn(&(f64, f64)) -> f64, k: u32| -> Vec<f64> {
        (100 * k..100 * (k + 1)).map(|i| part(&shared[i as usize / 10])).collect()
    };
    let sets: Vec<Tested> = (0..3)
        .map(|k| {
            let animals = (100 * k..100 * (k + 1)).collect();
            let adjusted = of(|f| f.0, k).iter().zip(of(|f| f.1, k)).map(|(a, b)| a + b).collect();
            Tested::of_fit(animals, of(|f| f.0, k), adjusted, vec![0.0; 100])
        })
        .collect();
    let family: Vec<u32> = (0..300).map(|i| i / 10).collect();
    let splits: Vec<TestedSplit> = sets.iter().map(counting).collect();
    let error = |families: Option<&[u32]>| {
        Resampled::new(&splits, &Draws::new(300, families, 1, 400), families).summary().mean.of("r").1
    };
    let ratio = error(Some(&family)) / error(None);
    assert!((ratio / 10f64.sqrt() - 1.0).abs() < 0.25, "{ratio}");
}

#[test]
fn seeds_that_move_all_animals_alike_are_seen_by_replicates_alone() {
    // Two directions: the records' own, and one that seeds put into all animals of a fold with one random weight.
    let with_seeds = |seed: u64, replicates: usize| -> Vec<Tested> {
        let mut s = Stream::new(seed, Purpose::Test, 2);
        folds(1.0, 5, 1)
            .into_iter()
            .map(|t| {
                let mut fit = || {
                    let weight = s.normal();
                    t.prediction.iter().zip(&t.adjusted).map(|(p, a)| p + weight * a).collect::<Vec<f64>>()
                };
                let fits: Vec<Vec<f64>> = (0..replicates).map(|_| fit()).collect();
                let mean = |i: usize| fits.iter().map(|f| f[i]).sum::<f64>() / replicates as f64;
                let prediction = (0..t.animal.len()).map(mean).collect();
                Tested { prediction, replicates: fits, ..t }
            })
            .collect()
    };
    let draws = draws(200);
    let [a, b] = [21, 22].map(|seed| resampled(&with_seeds(seed, 4), &draws));
    let bootstrap_alone = {
        let paired: Vec<f64> = a.mean_drawn.iter().zip(&b.mean_drawn).map(|(a, b)| a[0] - b[0]).collect();
        bootstrap::variance(&paired).sqrt()
    };
    let d = compare(&a, &b)[0];
    assert!(d.se > 2.0 * bootstrap_alone, "{} {bootstrap_alone}", d.se);
    assert!(a.summary().replicate_sd.iter().all(|sd| *sd > 0.01));
}
