//! Names for what goes wrong with synthetic animals, each from scores that lie far beyond their baselines.
//!
//! A list of signs says for each metric when it speaks for a verdict. Every verdict that holds is told. A metric that no
//! sign could judge, for want of a limit or of a baseline that says something, reads `not judged`.

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
/// Alleles or genotypes are more or less frequent than in real animals.
pub const FREQUENCIES: &str = "allele frequencies differ";
/// Real and synthetic animals can be told apart by their nearest neighbours.
pub const UNLIKE: &str = "unlike real animals";

/// What a row reads on which no verdict rests.
pub const OK: &str = "ok";
/// What a row reads that no sign could judge.
pub const NOT_JUDGED: &str = "not judged";

/// The verdicts in order of weight, and what each means.
const MEANINGS: [(&str, &str); 8] = [
    (COPIES, "the generator repeats training animals"),
    (
        COLLAPSE,
        "synthetic animals are nearer to each other than real ones are, or leave out kinds of real animals",
    ),
    (NO_LD, "SNPs that go together in real animals were drawn almost independently"),
    (HETEROZYGOTES, "genotypes do not follow from the allele frequencies as in real animals"),
    (HOMOZYGOTES, "genotypes do not follow from the allele frequencies as in real animals"),
    (CONDITIONS, "what synthetic animals are said to express does not follow from their genotypes"),
    (FREQUENCIES, "alleles or genotypes are not as frequent as in real animals"),
    (UNLIKE, "real and synthetic animals keep to themselves"),
];

/// When some metrics speak for a verdict.
struct Sign {
    verdict: &'static str,
    metrics: &'static [&'static str],
    /// Whether they do; `None` where that cannot be judged.
    holds: Option<bool>,
}

/// The scores by name, the baseline beside each.
struct Scores<'a>(&'a [Row]);

impl Scores<'_> {
    fn row(&self, metric: &str) -> Option<&Row> {
        self.0.iter().find(|r| r.metric == metric)
    }

    /// At all animals; NaN where there is none.
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

    /// Whether the metric at the baseline's size is below a limit.
    fn below(&self, metric: &str, limit: impl Fn(f64) -> f64) -> Option<bool> {
        less(self.matched(metric), limit(self.baseline(metric)))
    }

    /// Whether it is above a limit.
    fn above(&self, metric: &str, limit: impl Fn(f64) -> f64) -> Option<bool> {
        less(limit(self.baseline(metric)), self.matched(metric))
    }
}

/// a < b, where both exist.
fn less(a: f64, b: f64) -> Option<bool> {
    (!a.is_nan() && !b.is_nan()).then_some(a < b)
}

/// All verdicts on sets whose baseline has `n` animals a half; writes them into the rows too.
pub fn verdicts(rows: &mut [Row], n: usize) -> Vec<Verdict> {
    let signs = signs(&Scores(rows), n);
    let found: Vec<Verdict> =
        MEANINGS.iter().filter_map(|(name, meaning)| told(&Scores(rows), &signs, name, meaning)).collect();
    for row in rows {
        let names: Vec<&str> =
            found.iter().filter(|v| v.metrics.contains(&row.metric)).map(|v| v.name).collect();
        let judged = signs.iter().any(|s| s.holds.is_some() && s.metrics.contains(&row.metric));
        row.verdict = match (names.is_empty(), judged) {
            (false, _) => names.join("; "),
            (true, true) => OK.into(),
            (true, false) => NOT_JUDGED.into(),
        };
    }
    found
}

/// The verdict of that name, where a sign of it holds.
fn told(scores: &Scores, signs: &[Sign], name: &'static str, meaning: &str) -> Option<Verdict> {
    let mut metrics: Vec<&'static str> = Vec::new();
    for metric in signs.iter().filter(|s| s.verdict == name && s.holds == Some(true)).flat_map(|s| s.metrics)
    {
        if !metrics.contains(metric) {
            metrics.push(metric);
        }
    }
    let shown: Vec<String> = metrics.iter().map(|metric| scores.beside(metric)).collect();
    let because = format!("{}: {meaning}", shown.join("; "));
    (!metrics.is_empty()).then_some(Verdict { name, because, metrics })
}

fn signs(s: &Scores, n: usize) -> Vec<Sign> {
    [copies(s, n), collapse(s), linkage(s), heterozygotes(s), conditions(s, n), frequencies(s), unlike(s)]
        .into_iter()
        .flatten()
        .collect()
}

fn sign(verdict: &'static str, metrics: &'static [&'static str], holds: Option<bool>) -> Sign {
    Sign { verdict, metrics, holds }
}

/// Both hold; unknown where either is.
fn both(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    Some(a? && b?)
}

/// Equal rows, or both halves of the adversarial accuracy far below those of real animals, or synthetic animals that
/// lie much nearer to training animals than these to each other, or nearer to these than to held-out ones.
fn copies(s: &Scores, n: usize) -> Vec<Sign> {
    let near = |metric: &str| less(s.value(metric), s.baseline(metric) - 0.15);
    let hugging = less(s.value("nearest_training_ratio"), 0.5 * s.baseline("nearest_training_ratio"));
    // The adversarial accuracies of n animals have an error of about 1/(2√n); four of them are compared.
    let private = s.above("privacy_loss", |b| b + 0.05 + 2.0 / (n as f64).sqrt());
    vec![
        sign(COPIES, &["copies"], less(s.baseline("copies") + 0.01, s.value("copies"))),
        sign(COPIES, &["aa_truth", "aa_syn", "aats"], both(near("aa_truth"), near("aa_syn"))),
        sign(COPIES, &["nearest_training_ratio"], hugging),
        sign(COPIES, &["privacy_loss"], private),
    ]
}

/// Synthetic animals near to each other, or adversarial accuracy split: they lie among the real ones but together; or
/// real animals beyond the reach of synthetic ones.
fn collapse(s: &Scores) -> Vec<Sign> {
    // Animals drawn again from the training animals are copies rather than modes.
    let twins =
        both(less(s.baseline("duplicates") + 0.01, s.value("duplicates")), less(s.value("copies"), 0.5));
    let split = less(0.5, s.matched("aa_syn") - s.matched("aa_truth"));
    vec![
        sign(COLLAPSE, &["nearest_within_ratio"], s.below("nearest_within_ratio", |b| 0.75 * b)),
        sign(COLLAPSE, &["aa_truth", "aa_syn"], split),
        sign(COLLAPSE, &["duplicates"], twins),
        sign(COLLAPSE, &["recall_k10"], s.below("recall_k10", |b| b - FEWER)),
        sign(COLLAPSE, &["recall_large_k"], s.below("recall_large_k", |b| b - FEWER)),
    ]
}

/// How far precision, recall and F1 may lie below their baselines.
const FEWER: f64 = 0.3;

/// Pairs of SNPs with a high r² in real animals have a low one in synthetic ones. Where real halves do not agree on
/// LD, nothing can be said.
fn linkage(s: &Scores) -> Vec<Sign> {
    let lost = |metric: &str, clear: f64| {
        if s.baseline(metric) > clear {
            s.below(metric, |b| 0.5 * b)
        } else {
            None
        }
    };
    vec![
        sign(NO_LD, &["ld_r2_slope"], lost("ld_r2_slope", 0.6)),
        sign(NO_LD, &["ld_r2_r"], lost("ld_r2_r", 0.6)),
        sign(NO_LD, &["correlation_score"], lost("correlation_score", 0.2)),
    ]
}

fn heterozygotes(s: &Scores) -> Vec<Sign> {
    let margin = |b: f64| 0.05 + 3.0 * b.abs();
    vec![
        sign(HETEROZYGOTES, &["inbreeding_difference"], s.below("inbreeding_difference", |b| -margin(b))),
        sign(HOMOZYGOTES, &["inbreeding_difference"], s.above("inbreeding_difference", margin)),
    ]
}

/// Real animals predict each other clearly, synthetic ones with their conditions do not.
fn conditions(s: &Scores, n: usize) -> Vec<Sign> {
    let of = |metric: &str| {
        let clear = s.baseline(metric) > 3.5 / (n.min(1000) as f64).sqrt();
        if clear {
            s.below(metric, |b| 0.4 * b)
        } else {
            None
        }
    };
    // Effects of single SNPs agree in real halves only where these are large.
    let scanned = |metric: &str| {
        if s.baseline(metric) > 0.5 {
            s.below(metric, |b| 0.4 * b)
        } else {
            None
        }
    };
    vec![
        sign(CONDITIONS, &["tstr_r"], of("tstr_r")),
        sign(CONDITIONS, &["tstr_r_seen"], of("tstr_r_seen")),
        sign(CONDITIONS, &["gwas_beta_r"], scanned("gwas_beta_r")),
        sign(CONDITIONS, &["gwas_log10p_r"], scanned("gwas_log10p_r")),
    ]
}

fn frequencies(s: &Scores) -> Vec<Sign> {
    let correlation = |metric: &str| s.below(metric, |b| b - 0.2);
    vec![
        sign(FREQUENCIES, &["fst"], s.above("fst", |b| 0.01 + 5.0 * b)),
        sign(FREQUENCIES, &["allele_frequency_rmse"], s.above("allele_frequency_rmse", |b| 0.05 + 2.0 * b)),
        sign(FREQUENCIES, &["allele_frequency_r"], correlation("allele_frequency_r")),
        sign(FREQUENCIES, &["genotype_frequency_r"], correlation("genotype_frequency_r")),
    ]
}

/// Animals that lie beyond the balls around those of the other set, or strictly nearer to their own set.
fn unlike(s: &Scores) -> Vec<Sign> {
    let fewer = |metric: &str| s.below(metric, |b| b - FEWER);
    let far = |metric: &str| s.above(metric, |b| b + 0.35);
    vec![
        sign(UNLIKE, &["precision_k10"], fewer("precision_k10")),
        sign(UNLIKE, &["precision_large_k"], fewer("precision_large_k")),
        sign(UNLIKE, &["f1_k10"], fewer("f1_k10")),
        sign(UNLIKE, &["f1_large_k"], fewer("f1_large_k")),
        sign(UNLIKE, &["aa_truth"], far("aa_truth")),
        sign(UNLIKE, &["aa_syn"], far("aa_syn")),
        sign(UNLIKE, &["aats"], far("aats")),
        sign(UNLIKE, &["nearest_training_ratio"], s.above("nearest_training_ratio", |b| 1.5 * b)),
    ]
}
