use super::manifold::{compare, precision_recall};
use super::*;
use crate::packed::MISSING;
use crate::rng::{Purpose, Stream};

fn animals(n: usize, m: usize, missing: bool, index: u64) -> Packed {
    let mut s = Stream::new(3, Purpose::Test, index);
    let codes: Vec<u8> = (0..n * m).map(|_| s.below(if missing { 4 } else { 3 }) as u8).collect();
    Packed::from_codes(n, m, &codes)
}

/// From single calls.
fn distance(metric: Metric, x: (&Packed, usize), y: (&Packed, usize)) -> u32 {
    (0..x.0.columns())
        .map(|j| match (x.0.get(x.1, j), y.0.get(y.1, j)) {
            (MISSING, _) | (_, MISSING) => 0,
            (a, b) if metric == Metric::Manhattan => u32::from(a.abs_diff(b)),
            (a, b) => u32::from(a.abs_diff(b)).pow(2),
        })
        .sum()
}

fn sorted(metric: Metric, query: (&Packed, usize), references: &Packed, own: bool) -> Vec<(u32, u32)> {
    let mut all: Vec<(u32, u32)> = (0..references.rows())
        .filter(|&k| !own || k != query.1)
        .map(|k| (distance(metric, query, (references, k)), k as u32))
        .collect();
    all.sort_unstable();
    all
}

/// (queries, references, SNPs) with the reason.
const CASES: [(usize, usize, usize); 6] = [
    (1, 1, 0),     // nothing to compare
    (3, 2, 1),     // single; many ties
    (5, 67, 63),   // past a run of references, less than a word
    (37, 3, 65),   // past a strip of queries, just past a word
    (9, 9, 513),   // just past a group
    (4, 9, 17000), // past a stretch of groups
];

#[test]
fn neighbours_are_those_of_a_plain_loop_in_every_case() {
    for (n, r, m) in CASES {
        for missing in [false, true] {
            let (queries, references) = (animals(n, m, missing, 1), animals(r, m, missing, 2));
            for metric in [Metric::Manhattan, Metric::SquaredEuclidean] {
                let between = Distances::between(metric, &queries, &references);
                let found = between.nearest(0..n, 7).unwrap();
                let inner = Distances::within(metric, &references).nearest(0..r, 7).unwrap();
                assert_eq!((found.k(), inner.k()), (r.min(7), (r - 1).min(7)));
                for i in 0..n {
                    assert_eq!(found.of(i), &sorted(metric, (&queries, i), &references, false)[..r.min(7)]);
                }
                for i in 0..r {
                    let all = sorted(metric, (&references, i), &references, true);
                    assert_eq!(inner.of(i), &all[..inner.k()], "{n} {r} {m} {metric:?}");
                }
            }
        }
    }
}

#[test]
fn ties_stand_in_the_order_of_their_index_even_when_there_are_many() {
    let same = Packed::from_codes(300, 2, &[1; 600]);
    let found = Distances::within(Metric::SquaredEuclidean, &same).nearest(0..300, 5).unwrap();
    assert_eq!(found.of(2), [(0, 0), (0, 1), (0, 3), (0, 4), (0, 5)]);
    assert_eq!(found.radii(9), [0; 300]);
}

#[test]
fn products_and_planes_agree() {
    let (q, r) = (animals(50, 3000, false, 1), animals(70, 3000, false, 2));
    let products = Distances::between(Metric::SquaredEuclidean, &q, &r);
    assert!(matches!(products.way, Way::Products { .. }));
    let planes =
        Distances { way: by_planes(4, &q, Some(&r)), ..Distances::between(Metric::Manhattan, &q, &r) };
    assert_eq!(products.nearest(0..50, 70).unwrap(), planes.nearest(0..50, 70).unwrap());
}

/// From all distances, as the paper's equation 2 says.
fn shares(real: &Packed, synthetic: &Packed, k: usize) -> (f64, f64) {
    let covered = |of: &Packed, by: &Packed| {
        let metric = Metric::SquaredEuclidean;
        let radius: Vec<u32> =
            (0..by.rows()).map(|i| sorted(metric, (by, i), by, true)[k.min(by.rows() - 1) - 1].0).collect();
        let within = |i| (0..by.rows()).any(|c| distance(metric, (of, i), (by, c)) <= radius[c]);
        (0..of.rows()).filter(|&i| within(i)).count() as f64 / of.rows() as f64
    };
    (covered(synthetic, real), covered(real, synthetic))
}

#[test]
fn precision_and_recall_are_the_shares_within_balls() {
    let real = animals(40, 9, false, 3);
    for (n, missing) in [(30, false), (50, true)] {
        let synthetic = animals(n, 9, missing, 4);
        let all = compare(&World::alone(), &real, &synthetic, &[3, 1, 100]).unwrap();
        for (k, found) in [3, 1, 100].into_iter().zip(&all.scores) {
            let (precision, recall) = shares(&real, &synthetic, k);
            assert_eq!((found.precision, found.recall), (precision, recall), "k = {k}");
            assert!((found.f1 - 2.0 * precision * recall / (precision + recall)).abs() < 1e-15);
            assert_eq!(*found, precision_recall(&real, &synthetic, k).unwrap());
        }
        let metric = Metric::SquaredEuclidean;
        let nearest = |i| sorted(metric, (&real, i), &synthetic, false)[0].0;
        assert_eq!(all.real_to_synthetic, (0..40).map(nearest).collect::<Vec<_>>());
        let nearest = |i| sorted(metric, (&synthetic, i), &real, false)[0].0;
        assert_eq!(all.synthetic_to_real, (0..n).map(nearest).collect::<Vec<_>>());
    }
}

#[test]
fn a_collapsed_set_is_precise_but_recalls_little() {
    let real = animals(60, 200, false, 5);
    let copies = real.select(&[7; 60], &(0..200).collect::<Vec<_>>());
    let found = precision_recall(&real, &copies, 3).unwrap();
    assert_eq!(found.precision, 1.0);
    assert_eq!(found.recall, 1.0 / 60.0);
}

#[test]
fn single_animals_have_no_precision() {
    let one = animals(1, 5, false, 0);
    assert!(precision_recall(&one, &animals(9, 5, false, 1), 3).unwrap().f1.is_nan());
}
