//! Names for what goes wrong with synthetic animals, each from scores that lie far beyond their baselines.

use super::Row;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Its name.
    pub name: &'static str,
    /// What shows it, and what it means.
    pub because: String,
    /// The metrics that it rests on.
    pub metrics: Vec<&'static str>,
}

/// Synthetic animals equal training animals, or lie nearer to them than real animals do.
pub const COPIES: &str = "copies of training animals";
/// Synthetic animals vary less than real ones: few kinds of animals, again and again.
pub const COLLAPSE: &str = "mode collapse";
/// SNPs that go together in real animals do not in synthetic ones.
pub const NO_LD: &str = "no linkage disequilibrium";
/// More heterozygotes than the allele frequencies and the real animals lead to expect.
pub const HETEROZYGOTES: &str = "excess of heterozygotes";
/// Fewer.
pub const HOMOZYGOTES: &str = "lack of heterozygotes";
/// Genotypes and conditions do not belong together.
pub const CONDITIONS: &str = "conditions do not match genotypes";
/// Alleles are more or less frequent than in real animals.
pub const FREQUENCIES: &str = "allele frequencies differ";
/// Almost every animal can be told by its nearest neighbours, for none of the reasons above.
pub const UNLIKE: &str = "unlike real animals";

/// The scores by name, the baseline beside each.
struct Scores<'a>(&'a [Row]);

impl Scores<'_> {
    fn row(&self, metric: &str) -> Option<&Row> {
        self.0.iter().find(|r| r.metric == metric)
    }

    /// At all animals; NaN where there is none, which no comparison below holds for.
    fn value(&self, metric: &str) -> f64 {
        self.row(metric).map_or(f64::NAN, |r| r.value)
    }

    fn matched(&self, metric: &str) -> f64 {
        self.row(metric).map_or(f64::NAN, |r| r.matched)
    }

    fn baseline(&self, metric: &str) -> f64 {
        self.row(metric).map_or(f64::NAN, |r| r.baseline)
    }

    fn beside(&self, metric: &str) -> String {
        let r = |x: f64| format!("{x:.3}");
        format!("{metric} {} (real halves {})", r(self.matched(metric)), r(self.baseline(metric)))
    }
}

/// All verdicts on sets whose baseline has `n` animals a half; writes them into the rows too.
pub fn verdicts(rows: &mut [Row], n: usize) -> Vec<Verdict> {
    let scores = Scores(rows);
    let mut found: Vec<Verdict> = [
        copies(&scores),
        collapse(&scores),
        linkage(&scores),
        heterozygotes(&scores),
        conditions(&scores, n),
    ]
    .into_iter()
    .flatten()
    .collect();
    found.extend(frequencies(&scores));
    if found.is_empty() {
        found.extend(unlike(&scores));
    }
    for row in rows {
        let names: Vec<&str> =
            found.iter().filter(|v| v.metrics.contains(&row.metric)).map(|v| v.name).collect();
        if !names.is_empty() {
            row.verdict = names.join("; ");
        }
    }
    found
}

fn verdict(name: &'static str, because: String, metrics: &[&'static str]) -> Option<Verdict> {
    Some(Verdict { name, because, metrics: metrics.to_vec() })
}

/// The metrics of the signs that are there.
fn shown(signs: &[(bool, &[&'static str])]) -> Vec<&'static str> {
    signs.iter().filter(|(there, _)| *there).flat_map(|(_, metrics)| metrics.iter().copied()).collect()
}

/// Equal rows, or both halves of the adversarial accuracy far below those of real animals, or synthetic animals that
/// lie much nearer to training animals than these to each other.
fn copies(s: &Scores) -> Option<Verdict> {
    let equal = s.value("copies") > s.baseline("copies") + 0.01;
    let near = s.value("aa_truth") < s.baseline("aa_truth") - 0.15
        && s.value("aa_syn") < s.baseline("aa_syn") - 0.15;
    let hugging = s.value("nearest_training_ratio") < 0.5 * s.baseline("nearest_training_ratio");
    if !(equal || near || hugging) {
        return None;
    }
    let share = 100.0 * s.value("copies");
    let because = format!(
        "{share:.1} % of the synthetic animals equal a training animal; {}; {}: the generator repeats what it saw",
        s.beside("aa_syn"),
        s.beside("nearest_training_ratio")
    );
    let rests = shown(&[
        (equal, &["copies"]),
        (near, &["aa_truth", "aa_syn", "aats"]),
        (hugging, &["nearest_training_ratio"]),
    ]);
    verdict(COPIES, because, &rests)
}

/// Synthetic animals near to each other, or adversarial accuracy split: they lie among the real ones but together.
fn collapse(s: &Scores) -> Option<Verdict> {
    let narrow = s.matched("nearest_within_ratio") < 0.75 * s.baseline("nearest_within_ratio");
    let split = s.matched("aa_syn") - s.matched("aa_truth") > 0.5;
    // Animals drawn again from the training animals are copies rather than modes.
    let twins = s.value("duplicates") > s.baseline("duplicates") + 0.01 && s.value("copies") < 0.5;
    if !(narrow || split || twins) {
        return None;
    }
    let because = format!(
        "{}; {}; {}: synthetic animals lie nearer to each other than real ones do",
        s.beside("nearest_within_ratio"),
        s.beside("aa_truth"),
        s.beside("aa_syn")
    );
    let rests = shown(&[
        (narrow, &["nearest_within_ratio"]),
        (split, &["aa_truth", "aa_syn"]),
        (twins, &["duplicates"]),
    ]);
    verdict(COLLAPSE, because, &rests)
}

/// Pairs of SNPs with a high r² in real animals have a low one in synthetic ones.
fn linkage(s: &Scores) -> Option<Verdict> {
    let there = s.baseline("ld_r2_slope") > 0.6;
    if !(there && s.matched("ld_r2_slope") < 0.5 * s.baseline("ld_r2_slope")) {
        return None;
    }
    let because =
        format!("{}; {}: SNPs were drawn almost independently", s.beside("ld_r2_slope"), s.beside("ld_r2_r"));
    verdict(NO_LD, because, &["ld_r2_slope", "ld_r2_r", "correlation_score"])
}

fn heterozygotes(s: &Scores) -> Option<Verdict> {
    let metric = "inbreeding_difference";
    let margin = 0.05 + 3.0 * s.baseline(metric).abs();
    let because = || {
        format!(
            "{}: genotypes do not follow from the allele frequencies as in real animals",
            s.beside(metric)
        )
    };
    match s.matched(metric) {
        f if f < -margin => {
            verdict(HETEROZYGOTES, because(), &["inbreeding_difference", "genotype_frequency_r"])
        }
        f if f > margin => {
            verdict(HOMOZYGOTES, because(), &["inbreeding_difference", "genotype_frequency_r"])
        }
        _ => None,
    }
}

/// Real animals predict each other clearly, synthetic ones with their conditions do not.
fn conditions(s: &Scores, n: usize) -> Option<Verdict> {
    let (real, synthetic) = (s.baseline("tstr_r"), s.matched("tstr_r"));
    let clear = real > 3.5 / (n.min(1000) as f64).sqrt();
    if !(clear && synthetic < 0.4 * real) {
        return None;
    }
    let because = format!(
        "{}; {}: what synthetic animals are said to express does not follow from their genotypes",
        s.beside("tstr_r"),
        s.beside("gwas_beta_r")
    );
    verdict(CONDITIONS, because, &["tstr_r", "gwas_beta_r", "gwas_log10p_r"])
}

fn frequencies(s: &Scores) -> Option<Verdict> {
    (s.matched("fst") > 0.01 + 5.0 * s.baseline("fst")).then(|| {
        verdict(FREQUENCIES, s.beside("fst"), &["fst", "allele_frequency_r", "allele_frequency_rmse"])
    })?
}

fn unlike(s: &Scores) -> Option<Verdict> {
    let far = |metric: &str| s.matched(metric) > s.baseline(metric) + 0.35;
    if !(far("aa_truth") && far("aa_syn")) {
        return None;
    }
    let because = format!(
        "{}; {}: real and synthetic animals keep to themselves",
        s.beside("aa_truth"),
        s.beside("aa_syn")
    );
    verdict(UNLIKE, because, &["aa_truth", "aa_syn", "aats"])
}
