//! How true synthetic genotypes are: every metric beside what real animals score against other real animals.
//!
//! One file a family of metrics. [`judge`] measures a real and a synthetic set of the same size, then two disjoint
//! random halves of the real animals by the same code, and, so that sizes agree, a real half and as many synthetic
//! animals; [`verdicts`] names what went wrong. docs/fidelity.md defines the metrics.

pub mod closeness;
pub mod components;
pub mod frequencies;
pub mod gwas;
pub mod herd;
pub mod ld;
pub mod transport;
pub mod utility;
pub mod verdicts;

#[cfg(test)]
mod tests;

pub use herd::Herd;
pub use verdicts::Verdict;

use crate::comm::World;
use crate::device::Backend;
use crate::error::{Error, Result};
use crate::genotype::Variants;
use closeness::Closeness;
use components::Components;
use gwas::Scan;
use herd::Division;
use std::sync::Arc;

/// Animals of each set that are compared at most, unless asked for more.
pub const ANIMALS: usize = 10_000;
/// Animals that can be judged at all: half of them make a baseline.
const FEWEST: usize = 20;

/// What a score should be, as tables and pages say it.
pub const IDEALS: [(&str, &str); 31] = [
    ("allele_frequency_r", "1"),
    ("allele_frequency_r_below_0.2", "1"),
    ("allele_frequency_rmse", "0"),
    ("genotype_frequency_r", "1"),
    ("fst", "0"),
    ("inbreeding_difference", "0"),
    ("ld_r2_r", "1"),
    ("ld_r2_slope", "1"),
    ("correlation_score", "1"),
    ("precision_k10", "baseline"),
    ("recall_k10", "baseline"),
    ("f1_k10", "baseline"),
    ("precision_large_k", "baseline"),
    ("recall_large_k", "baseline"),
    ("f1_large_k", "baseline"),
    ("aa_truth", "baseline"),
    ("aa_syn", "baseline"),
    ("aats", "baseline"),
    ("privacy_loss", "0"),
    ("duplicates", "0"),
    ("copies", "0"),
    ("nearest_within_ratio", "1"),
    ("nearest_training_ratio", "1"),
    ("wasserstein_pca", "baseline"),
    ("kinship_wasserstein", "baseline"),
    ("gwas_beta_r", "1"),
    ("gwas_log10p_r", "1"),
    ("tstr_r", "baseline"),
    ("real_and_synthetic_r", "baseline"),
    ("tstr_r_seen", "baseline"),
    ("real_and_synthetic_r_seen", "baseline"),
];

/// What does the work, and on which SNPs.
pub struct Setting<'a> {
    /// The ranks; each has all animals.
    pub world: &'a World,
    /// What computes.
    pub backend: Arc<dyn Backend>,
    /// The SNPs of all sets.
    pub variants: &'a Variants,
    /// Seed of halves, samples and directions.
    pub seed: u64,
    /// Animals of each set that are compared at most.
    pub most: usize,
}

/// What is to be judged.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// The animals that the generator learned from.
    pub real: &'a Herd,
    /// The generated ones.
    pub synthetic: &'a Herd,
    /// Real animals that the generator never saw.
    pub holdout: Option<&'a Herd>,
}

/// One metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its name, as in [`IDEALS`].
    pub metric: &'static str,
    /// Of all animals that are compared; NaN where it does not exist.
    pub value: f64,
    /// Of as many animals as the baseline.
    pub matched: f64,
    /// Of two disjoint halves of the real animals.
    pub baseline: f64,
    /// What is best.
    pub ideal: &'static str,
    /// The verdicts that rest on it, else `ok` or `not judged`.
    pub verdict: String,
}

/// Everything found.
pub struct Findings {
    /// All metrics.
    pub rows: Vec<Row>,
    /// Everything that went wrong, in order of weight; empty for a healthy set.
    pub verdicts: Vec<Verdict>,
    /// Animals of each set in `value`, and in `matched` and `baseline`.
    pub animals: [usize; 2],
    /// The larger k of precision and recall.
    pub large_k: usize,
    /// What pictures show, of the whole sets.
    pub portrait: Portrait,
}

/// What pictures show of a pair of sets.
pub struct Portrait {
    /// Allele frequency of each SNP in the real and in the synthetic set.
    pub frequencies: Vec<(f64, f64)>,
    /// LD decay of the real set, of the synthetic one and of half the real animals.
    pub ld: Vec<(&'static str, Vec<super::diagnostics::LdBin>)>,
    /// Scores in the real animals' components, and kinships.
    pub components: Components,
    /// Nearest neighbours.
    pub closeness: Closeness,
    /// −log10 p along the genome, real and synthetic.
    pub scans: Option<[Scan; 2]>,
}

/// The name of a metric and its score.
pub type Score = (&'static str, f64);

/// All metrics of one pair of sets.
struct Measured {
    scores: Vec<Score>,
    portrait: Portrait,
}

/// Compares, names what is wrong. Collective; the same on any number of ranks.
pub fn judge(setting: &Setting, question: Question) -> Result<Findings> {
    let Question { real, synthetic, holdout } = question;
    check(setting, &question)?;
    let division = Division::new(setting, real, synthetic);
    let exact = division.animals[0] <= transport::EXACT;
    let large_k = large_k(setting.variants);
    let pair = |a: &Herd, b: &Herd| measure(setting, (a, b), large_k, exact);
    log::info!("{} real and {} synthetic animals", division.real.n(), division.synthetic.n());
    let mut whole = pair(&division.real, &division.synthetic)?;
    log::info!("baseline: two halves of {} real animals", division.animals[1]);
    let mut baseline = pair(&division.halves[0], &division.halves[1])?;
    let mut matched = match division.animals[0] == division.animals[1] {
        true => whole.scores.clone(),
        false => pair(&division.halves[0], &division.as_half)?.scores,
    };
    // Equal rows are looked for among all animals.
    replace(&mut whole.scores, &closeness::equal_rows(real, synthetic));
    matched.extend(utility::scores(setting, &division.halves, holdout, Some(&division.as_half))?);
    baseline.scores.extend(utility::scores(setting, &division.halves, holdout, None)?);
    if let Some(holdout) = holdout {
        let loss = |training: &Herd, set: &Herd| closeness::privacy_loss(setting, training, holdout, set);
        let [first, second] = &division.halves;
        let losses = [loss(real, synthetic)?, loss(real, &division.as_half)?, loss(first, second)?];
        for (scores, loss) in [&mut whole.scores, &mut matched, &mut baseline.scores].into_iter().zip(losses)
        {
            scores.push(("privacy_loss", loss));
        }
    }
    let half = baseline.portrait.ld.swap_remove(1).1;
    whole.portrait.ld.push(("half of the real animals", half));
    let mut rows = rows(&whole.scores, &matched, &baseline.scores);
    let verdicts = verdicts::verdicts(&mut rows, division.animals[1]);
    Ok(Findings { rows, verdicts, animals: division.animals, large_k, portrait: whole.portrait })
}

/// All metrics of one pair, the reference first.
fn measure(setting: &Setting, (a, b): (&Herd, &Herd), large_k: usize, exact: bool) -> Result<Measured> {
    let tallies = [a.packed.tally_columns(), b.packed.tally_columns()];
    let mut scores = frequencies::scores(&tallies[0], &tallies[1]);
    let ld = ld::compare(setting, &a.packed, &b.packed);
    scores.extend(ld.scores);
    let (found, closeness) = closeness::compare(setting.world, &a.packed, &b.packed, [10, large_k])?;
    scores.extend(found);
    scores.extend(closeness::equal_rows(a, b));
    let (found, components) = components::compare(setting, &a.packed, &b.packed, exact)?;
    scores.extend(found);
    let scans = gwas::compare(setting, a, b)?;
    if let Some((found, _)) = &scans {
        scores.extend(found);
    }
    let [real, synthetic] = ld.decay;
    let portrait = Portrait {
        frequencies: frequencies::pairs(&tallies[0], &tallies[1]),
        ld: vec![("real", real), ("synthetic", synthetic)],
        components,
        closeness,
        scans: scans.map(|(_, scans)| scans),
    };
    Ok(Measured { scores, portrait })
}

/// Neighbours of the lenient manifolds: 60 for a chromosome, 100 for a genome.
fn large_k(variants: &Variants) -> usize {
    match variants.chromosome.iter().all(|c| *c == variants.chromosome[0]) {
        true => 60,
        false => 100,
    }
}

fn replace(scores: &mut [Score], by: &[Score]) {
    for (name, value) in by {
        scores.iter_mut().filter(|s| s.0 == *name).for_each(|s| s.1 = *value);
    }
}

/// One row a metric that any of the scores has.
fn rows(whole: &[Score], matched: &[Score], baseline: &[Score]) -> Vec<Row> {
    let of = |scores: &[Score], name: &str| scores.iter().find(|s| s.0 == name).map(|s| s.1);
    let row = |(metric, ideal): (&'static str, &'static str)| {
        let found = [of(whole, metric), of(matched, metric), of(baseline, metric)];
        found.iter().any(Option::is_some).then(|| {
            let [value, matched, baseline] = found;
            // What has no value at full size has one at the baseline's.
            let value = value.or(matched).unwrap_or(f64::NAN);
            let (matched, baseline) = (matched.unwrap_or(f64::NAN), baseline.unwrap_or(f64::NAN));
            Row { metric, value, matched, baseline, ideal, verdict: verdicts::NOT_JUDGED.into() }
        })
    };
    IDEALS.into_iter().filter_map(row).collect()
}

/// The sets must have the same SNPs, and enough animals.
fn check(setting: &Setting, question: &Question) -> Result<()> {
    let m = setting.variants.len();
    let sets = [
        ("real", Some(question.real)),
        ("synthetic", Some(question.synthetic)),
        ("held-out", question.holdout),
    ];
    for (name, set) in sets.into_iter().filter_map(|(name, set)| Some((name, set?))) {
        if set.packed.columns() != m || m == 0 {
            let found = format!("{} of {m}", set.packed.columns());
            return Err(Error::input(
                format!("{name} animals"),
                "the same SNPs in all sets",
                found,
                "generate from this herd's model",
            ));
        }
        if set.n() < FEWEST {
            let expected = format!("at least {FEWEST} animals");
            return Err(Error::input(
                format!("{name} animals"),
                expected,
                set.n(),
                "generate or import more",
            ));
        }
    }
    Ok(())
}
