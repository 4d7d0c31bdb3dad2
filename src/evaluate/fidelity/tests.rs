//! Planted failures are caught and named, and other real animals are not suspected.

use super::verdicts::{
    COLLAPSE, CONDITIONS, COPIES, FREQUENCIES, HETEROZYGOTES, NOT_JUDGED, NO_LD, OK, UNLIKE,
};
use super::*;
use crate::device;
use crate::packed::Packed;
use crate::rng::{Purpose, Stream};

const SNPS: usize = 500;

/// Animals of a population with linkage: haplotypes follow one of 16 founders and change it now and then. Forty
/// SNPs act on the phenotype, which is heritable by about two thirds.
fn herd(n: usize, index: u64) -> Herd {
    let mut founder = Stream::new(1, Purpose::Test, 0);
    let founders: Vec<Vec<u8>> =
        (0..16).map(|_| (0..SNPS).map(|_| u8::from(founder.uniform() < 0.4)).collect()).collect();
    let effects: Vec<f64> = (0..SNPS).map(|j| if j % 12 == 0 { founder.normal() } else { 0.0 }).collect();
    let mut s = Stream::new(1, Purpose::Test, index);
    let (mut codes, mut y) = (vec![0u8; n * SNPS], Vec::new());
    for animal in codes.chunks_exact_mut(SNPS) {
        for _ in 0..2 {
            let mut of = s.below(16);
            for (j, code) in animal.iter_mut().enumerate() {
                if s.uniform() < 0.04 {
                    of = s.below(16);
                }
                *code += founders[of][j];
            }
        }
        let g: f64 = animal.iter().zip(&effects).map(|(&c, e)| f64::from(c) * e).sum();
        y.push(g + 3.0 * s.normal());
    }
    Herd { packed: Packed::from_codes(n, SNPS, &codes), y: Some(y) }
}

fn variants() -> Variants {
    let text = |t: &str| vec![t.to_string(); SNPS];
    Variants {
        chromosome: text("1"),
        position: (0..SNPS as u64).map(|j| 1 + j * 10_000).collect(),
        id: (0..SNPS).map(|j| format!("s{j}")).collect(),
        counted_allele: text("A"),
        other_allele: text("B"),
        cm: vec![f64::NAN; SNPS],
        frequency: vec![0.5; SNPS],
        missing: vec![0; SNPS],
    }
}

fn judged(real: &Herd, synthetic: &Herd, holdout: Option<&Herd>) -> Findings {
    let (world, variants) = (World::alone(), variants());
    let setting = Setting {
        world: &world,
        backend: device::open("cpu").unwrap(),
        variants: &variants,
        seed: 1,
        most: ANIMALS,
    };
    judge(&setting, Question { real, synthetic, holdout }).unwrap()
}

fn names(findings: &Findings) -> Vec<&'static str> {
    findings.verdicts.iter().map(|v| v.name).collect()
}

/// The synthetic set with some calls of each animal changed by `change`.
fn changed(herd: &Herd, mut change: impl FnMut(&mut Packed)) -> Herd {
    let mut out = herd.clone();
    change(&mut out.packed);
    out
}

#[test]
fn other_real_animals_get_no_verdict_and_score_as_their_baseline() {
    let (real, other, holdout) = (herd(400, 1), herd(200, 2), herd(150, 3));
    let found = judged(&real, &other, Some(&holdout));
    assert_eq!(names(&found), [""; 0], "{:?}", found.verdicts);
    let unjudged: Vec<&str> =
        found.rows.iter().filter(|r| r.verdict == NOT_JUDGED).map(|r| r.metric).collect();
    let without_limits =
        ["allele_frequency_r_below_0.2", "wasserstein_pca", "kinship_wasserstein", "real_and_synthetic_r"];
    // Real halves of so few animals do not agree on the effects of single SNPs.
    let unclear = ["gwas_beta_r", "gwas_log10p_r"];
    assert!(without_limits.iter().all(|m| unjudged.contains(m)), "{unjudged:?}");
    assert!(unjudged.iter().all(|m| without_limits.contains(m) || unclear.contains(m)), "{unjudged:?}");
    assert!(found.rows.iter().all(|r| r.verdict == OK || unjudged.contains(&r.metric)));
    // All but those of training animals, since the held-out ones have records.
    assert_eq!(found.rows.len(), IDEALS.len() - 2, "every metric");
    assert_eq!(found.animals, [200, 200]);
    for row in &found.rows {
        assert!(row.value.is_finite() && row.baseline.is_finite(), "{row:?}");
        // Differences near 0 are held to far less than correlations and shares near 1.
        let tolerance = match row.metric {
            "fst" | "allele_frequency_rmse" | "inbreeding_difference" | "duplicates" | "copies" => 0.02,
            "allele_frequency_r" | "genotype_frequency_r" => 0.03,
            _ => 0.25,
        };
        assert!((row.matched - row.baseline).abs() < tolerance, "{row:?}");
    }
}

#[test]
fn one_kind_of_animal_far_from_all_reads_ok_nowhere_it_fails() {
    let real = herd(400, 1);
    // Two hundred near-copies of one animal that no herd has: alternating homozygotes.
    let mut s = Stream::new(4, Purpose::Test, 0);
    let mut one = changed(&herd(200, 2), |packed| {
        for i in 0..200 {
            (0..SNPS).for_each(|j| packed.set(i, j, if j % 2 == 0 { 0 } else { 2 }));
            (0..10).for_each(|_| packed.set(i, s.below(SNPS), 1));
        }
    });
    one.y = None;
    let found = judged(&real, &one, None);
    let told = names(&found);
    assert!(told.contains(&COLLAPSE) && told.contains(&UNLIKE) && told.contains(&FREQUENCIES), "{told:?}");
    for metric in ["precision_k10", "recall_k10", "f1_k10", "aa_truth", "nearest_within_ratio", "fst"] {
        let row = found.rows.iter().find(|r| r.metric == metric).unwrap();
        assert!(row.verdict != OK && row.verdict != NOT_JUDGED, "{row:?}");
    }
}

#[test]
fn a_copying_generator_is_not_useful_to_animals_that_it_has_not_seen() {
    let (real, holdout) = (herd(400, 1), herd(150, 3));
    let row = |found: &Findings, name: &str| found.rows.iter().find(|r| r.metric == name).cloned();
    let copies = real.select(&(0..400).collect::<Vec<_>>());
    // Tested on animals that were copied it seems to be worth more than real animals are; that row says so.
    let seen = judged(&real, &copies, None);
    let utility = row(&seen, "tstr_r_seen").unwrap();
    assert!(utility.matched > utility.baseline + 0.1, "{utility:?}");
    assert!(row(&seen, "tstr_r").is_none() && row(&seen, "real_and_synthetic_r").is_none());
    let unseen = judged(&real, &copies, Some(&holdout));
    let utility = row(&unseen, "tstr_r").unwrap();
    assert!((utility.matched - utility.baseline).abs() < 0.1, "{utility:?}");
    assert!(row(&unseen, "tstr_r_seen").is_none());
    // Held-out animals without records cannot be tested on.
    let bare = Herd { y: None, ..holdout };
    assert!(row(&judged(&real, &copies, Some(&bare)), "tstr_r_seen").is_some());
}

#[test]
fn copies_of_training_animals_are_named_also_when_a_few_calls_differ() {
    let real = herd(400, 1);
    let same = real.select(&(100..300).collect::<Vec<_>>());
    let found = judged(&real, &same, None);
    assert_eq!(names(&found), [COPIES]);
    let of = |name: &str| found.rows.iter().find(|r| r.metric == name).unwrap();
    assert_eq!((of("copies").value, of("duplicates").value), (1.0, 0.0));
    assert_eq!(of("copies").verdict, COPIES);
    let mut s = Stream::new(2, Purpose::Test, 0);
    let near = changed(&same, |packed| {
        (0..200).for_each(|i| (0..5).for_each(|_| packed.set(i, s.below(SNPS), s.below(3) as u8)));
    });
    assert_eq!(names(&judged(&real, &near, None)), [COPIES]);
}

#[test]
fn mode_collapse_is_named() {
    let (real, few) = (herd(400, 1), herd(6, 5));
    let mut s = Stream::new(2, Purpose::Test, 1);
    let modes = changed(&few.select(&(0..200).map(|i| i % 6).collect::<Vec<_>>()), |packed| {
        (0..200).for_each(|i| (0..25).for_each(|_| packed.set(i, s.below(SNPS), s.below(3) as u8)));
    });
    assert!(names(&judged(&real, &modes, None)).contains(&COLLAPSE));
}

#[test]
fn independent_snps_are_named() {
    let real = herd(400, 1);
    let mut s = Stream::new(2, Purpose::Test, 2);
    let mut column: Vec<usize> = (0..200).collect();
    let shuffled = changed(&herd(200, 2), |packed| {
        let before = packed.clone();
        for j in 0..SNPS {
            s.shuffle(&mut column);
            column.iter().enumerate().for_each(|(i, &from)| packed.set(i, j, before.get(from, j)));
        }
    });
    assert!(names(&judged(&real, &shuffled, None)).contains(&NO_LD));
}

#[test]
fn an_excess_of_heterozygotes_is_named_at_unchanged_allele_frequencies() {
    let real = herd(400, 1);
    let more = changed(&herd(200, 2), |packed| {
        for j in 0..SNPS {
            let of = |code: u8| (0..200).filter(|&i| packed.get(i, j) == code).collect::<Vec<_>>();
            let pairs: Vec<(usize, usize)> = of(0).into_iter().zip(of(2)).step_by(2).collect();
            pairs.into_iter().for_each(|(a, b)| [a, b].into_iter().for_each(|i| packed.set(i, j, 1)));
        }
    });
    let found = judged(&real, &more, None);
    assert!(names(&found).contains(&HETEROZYGOTES) && !names(&found).contains(&verdicts::FREQUENCIES));
}

#[test]
fn shuffled_conditions_are_named() {
    let real = herd(400, 1);
    let mut shuffled = herd(200, 2);
    let y = shuffled.y.as_mut().unwrap();
    Stream::new(2, Purpose::Test, 3).shuffle(y);
    let found = judged(&real, &shuffled, None);
    assert_eq!(names(&found), [CONDITIONS], "{:?}", found.verdicts);
}

#[test]
fn privacy_is_lost_where_synthetic_animals_lie_near_training_animals() {
    let (real, holdout) = (herd(200, 1), herd(200, 3));
    let found = judged(&real, &real.select(&(0..100).collect::<Vec<_>>()), Some(&holdout));
    let row = found.rows.iter().find(|r| r.metric == "privacy_loss").unwrap();
    assert!(row.value > 0.2 && row.baseline.abs() < 0.15, "{row:?}");
}

#[test]
fn sets_of_other_snps_or_of_too_few_animals_are_refused() {
    let (world, variants) = (World::alone(), variants());
    let backend = device::open("cpu").unwrap();
    let setting = Setting { world: &world, backend, variants: &variants, seed: 1, most: ANIMALS };
    let (real, few) = (herd(40, 1), herd(19, 2));
    let question = |synthetic| Question { real: &real, synthetic, holdout: None };
    assert_eq!(judge(&setting, question(&few)).err().unwrap().exit_code(), 2);
    let narrow = Herd { packed: Packed::missing(40, 7), y: None };
    assert_eq!(judge(&setting, question(&narrow)).err().unwrap().exit_code(), 2);
}
