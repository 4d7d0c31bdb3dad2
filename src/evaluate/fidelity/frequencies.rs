//! Frequencies of alleles and genotypes, and what follows from them: F_ST and inbreeding.

use super::Score;
use crate::packed::{self, Tally};
use crate::stats;

/// Reference frequency below which the second correlation of frequencies looks.
const RARE: f64 = 0.2;

/// Allele frequency of each SNP in both sets, NaN where no call was made.
pub fn pairs(a: &[Tally], b: &[Tally]) -> Vec<(f64, f64)> {
    let p = |t| packed::frequency(t).unwrap_or(f64::NAN);
    a.iter().zip(b).map(|(a, b)| (p(a), p(b))).collect()
}

/// All scores, from the counts of codes at each SNP, the reference first.
pub fn scores(a: &[Tally], b: &[Tally]) -> Vec<Score> {
    let known: Vec<(f64, f64)> =
        pairs(a, b).into_iter().filter(|(p, q)| p.is_finite() && q.is_finite()).collect();
    let below: Vec<(f64, f64)> = known.iter().copied().filter(|(p, _)| *p < RARE).collect();
    let square = known.iter().map(|(p, q)| (p - q).powi(2)).sum::<f64>() / known.len() as f64;
    let genotypes: Vec<(f64, f64)> =
        a.iter().zip(b).flat_map(|(a, b)| rates(a).into_iter().zip(rates(b))).collect();
    vec![
        ("allele_frequency_r", correlation(&known)),
        ("allele_frequency_r_below_0.2", correlation(&below)),
        ("allele_frequency_rmse", square.sqrt()),
        ("genotype_frequency_r", correlation(&genotypes)),
        ("fst", fst(&known)),
        ("inbreeding_difference", inbreeding(b) - inbreeding(a)),
    ]
}

/// Pearson's correlation of pairs, those that are not finite left out.
pub(super) fn correlation(pairs: &[(f64, f64)]) -> f64 {
    let (x, y): (Vec<f64>, Vec<f64>) =
        pairs.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).unzip();
    stats::pearson(&x, &y)
}

/// Shares of the two homozygotes and of heterozygotes among the calls.
fn rates(t: &Tally) -> [f64; 3] {
    let called = (t[0] + t[1] + t[2]) as f64;
    [t[0] as f64 / called, t[1] as f64 / called, t[2] as f64 / called]
}

/// Σ max(0, H_T − H_S) / Σ H_T over SNPs: H_T from the mean frequency, H_S the mean of both 2pq.
fn fst(pairs: &[(f64, f64)]) -> f64 {
    let h = |p: f64| 2.0 * p * (1.0 - p);
    let (between, total) = pairs.iter().fold((0.0, 0.0), |(between, total), &(p, q)| {
        let (all, within) = (h((p + q) / 2.0), (h(p) + h(q)) / 2.0);
        (between + (all - within).max(0.0), total + all)
    });
    between / total
}

/// Wright's F: 1 − observed / expected heterozygosity, both summed over SNPs.
fn inbreeding(tallies: &[Tally]) -> f64 {
    let (observed, expected) =
        tallies.iter().filter(|t| t[0] + t[1] + t[2] > 0).fold((0.0, 0.0), |(o, e), t| {
            let p = packed::frequency(t).expect("calls were made");
            (o + rates(t)[1], e + 2.0 * p * (1.0 - p))
        });
    1.0 - observed / expected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_of_a_hand_calculation() {
        // p = 0.5, 0.1, 0.3 and q = 0.5, 0.2, 0.3; heterozygotes 50, 20, 60 and 100, 40, 60 of 100
        let a = [[25, 50, 25, 0], [80, 20, 0, 3], [40, 60, 0, 0]];
        let b = [[0, 100, 0, 0], [60, 40, 0, 0], [40, 60, 0, 0]];
        let of = |name: &str| scores(&a, &b).into_iter().find(|s| s.0 == name).unwrap().1;
        assert!((of("allele_frequency_rmse") - (0.01f64 / 3.0).sqrt()).abs() < 1e-12);
        assert!(
            (of("allele_frequency_r") - stats::pearson(&[0.5, 0.1, 0.3], &[0.5, 0.2, 0.3])).abs() < 1e-12
        );
        assert!(of("allele_frequency_r_below_0.2").is_nan(), "a single SNP has no correlation");
        // H_T = 0.255 at the second SNP, H_S = (0.18 + 0.32) / 2
        assert!((of("fst") - 0.005 / (0.5 + 0.255 + 0.42)).abs() < 1e-12);
        let (real, synthetic) = (1.0 - 1.3 / 1.1, 1.0 - 2.0 / 1.24);
        assert!((of("inbreeding_difference") - (synthetic - real)).abs() < 1e-12);
    }
}
