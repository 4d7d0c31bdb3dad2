//! One-SNP regressions of the conditioning phenotype, with p-values that never underflow.

use super::frequencies::correlation;
use super::herd::{markers, rows};
use super::{Herd, Score, Setting};
use crate::error::Result;
use crate::packed::Tally;
use crate::stats;
use ndarray::Array2;

/// Minor alleles rarer than this in either set are left out of the correlation of effects.
const RARE: f64 = 0.01;
/// Fewest records of a scan.
const RECORDS: usize = 20;

/// The regressions of one set, SNP by SNP.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scan {
    /// Effect of one more counted allele, NaN for SNPs without variation.
    pub beta: Vec<f64>,
    /// −log10 of the two-sided p-value.
    pub log10_p: Vec<f64>,
    /// Minor-allele frequency.
    pub maf: Vec<f64>,
}

/// Scans both sets and compares effects and peaks; nothing where a set has no records. Collective.
pub fn compare(setting: &Setting, a: &Herd, b: &Herd) -> Result<Option<(Vec<Score>, [Scan; 2])>> {
    let (Some(x), Some(y)) = (scan(setting, a)?, scan(setting, b)?) else { return Ok(None) };
    let pairs = |of: fn(&Scan) -> &Vec<f64>| -> Vec<(f64, f64)> {
        let common = |j: &usize| x.maf[*j] >= RARE && y.maf[*j] >= RARE;
        (0..x.maf.len()).filter(common).map(|j| (of(&x)[j], of(&y)[j])).collect()
    };
    let scores = vec![
        ("gwas_beta_r", correlation(&pairs(|s| &s.beta))),
        ("gwas_log10p_r", correlation(&pairs(|s| &s.log10_p))),
    ];
    Ok(Some((scores, [x, y])))
}

/// y = a + b x + e for each SNP, missing calls at the SNP's mean.
fn scan(setting: &Setting, herd: &Herd) -> Result<Option<Scan>> {
    let Some(y) = &herd.y else { return Ok(None) };
    let recorded: Vec<usize> = (0..y.len()).filter(|&i| y[i].is_finite()).collect();
    if recorded.len() < RECORDS {
        return Ok(None);
    }
    let packed = rows(&herd.packed, &recorded);
    let y: Vec<f64> = recorded.iter().map(|&i| y[i]).collect();
    let mean = stats::mean(&y);
    let centred = Array2::from_shape_fn((y.len(), 1), |(i, _)| y[i] - mean);
    let yy = centred.iter().map(|y| y * y).sum::<f64>();
    let own = markers(setting, &packed, None)?.transposed_times(centred.view());
    let zy: Vec<f64> = setting.world.all_gather(&own.into_raw_vec_and_offset().0).concat();
    let mut out = Scan::default();
    for (t, zy) in packed.tally_columns().iter().zip(zy) {
        let (zz, maf) = spread(t);
        let r2 = if zz > 0.0 { zy * zy / (zz * yy) } else { f64::NAN };
        out.beta.push(if zz > 0.0 { zy / zz } else { f64::NAN });
        out.log10_p.push(minus_log10_p(r2, y.len() as f64 - 2.0));
        out.maf.push(maf);
    }
    Ok(Some(out))
}

/// Sum of squares of the counts around their mean, and the minor-allele frequency.
fn spread(t: &Tally) -> (f64, f64) {
    let [_, one, two, _] = t.map(|c| c as f64);
    let called = (t[0] + t[1] + t[2]) as f64;
    let p = (one + 2.0 * two) / (2.0 * called);
    ((one + 4.0 * two) - (one + 2.0 * two).powi(2) / called, p.min(1.0 - p))
}

/// −log10 P(a correlation whose square is at least `r2` by chance) with `df` degrees of freedom: the incomplete beta
/// function I_{1−r²}(df/2, 1/2), in logarithms all the way.
pub fn minus_log10_p(r2: f64, df: f64) -> f64 {
    if r2.is_nan() {
        return f64::NAN;
    }
    let r2 = r2.clamp(0.0, 1.0 - 1e-15);
    let (a, b, x) = (df / 2.0, 0.5, 1.0 - r2);
    let front = a * (-r2).ln_1p() + if r2 > 0.0 { b * r2.ln() } else { f64::NEG_INFINITY }
        - (ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b));
    let ln_p = if x < (a + 1.0) / (a + b + 2.0) {
        front + fraction(a, b, x).ln() - a.ln()
    } else {
        (1.0 - front.exp() * fraction(b, a, r2) / b).ln()
    };
    -ln_p / std::f64::consts::LN_10 + 0.0
}

/// The continued fraction of the incomplete beta function (Lentz; DLMF 8.17.22).
fn fraction(a: f64, b: f64, x: f64) -> f64 {
    let tiny = 1e-300;
    let safe = |v: f64| if v.abs() < tiny { tiny } else { v };
    let (mut c, mut d) = (1.0, 1.0 / safe(1.0 - (a + b) * x / (a + 1.0)));
    let mut h = d;
    for k in 1..500 {
        let m = f64::from(k);
        for term in [
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        ] {
            d = 1.0 / safe(1.0 + term * d);
            c = safe(1.0 + term / c);
            h *= c * d;
        }
        if (c * d - 1.0).abs() < 1e-15 {
            break;
        }
    }
    h
}

/// ln Γ(x) for x > 0 (Lanczos 1964, g = 7, nine terms).
fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 8] = [
        676.5203681218851,
        -1259.1392167224028,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507343278686905,
        -0.13857109526572012,
        9.984_369_578_019_572e-6,
        1.5056327351493116e-7,
    ];
    let x = x - 1.0;
    let sum =
        TERMS.iter().enumerate().fold(0.999_999_999_999_809_9, |s, (k, t)| s + t / (x + k as f64 + 1.0));
    let t = x + 7.5;
    0.5 * std::f64::consts::TAU.ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_values_are_those_of_the_tables_and_never_underflow() {
        // t = 2.228139 with 10 degrees of freedom and 1.984 with 98: p = 0.05; 4.586894: 0.001
        for (t, df, p) in [
            (2.228138852f64, 10.0, 0.05),
            (4.586893859, 10.0, 0.001),
            (0.0, 10.0, 1.0),
            (1.984467455, 98.0, 0.05),
        ] {
            let r2 = t * t / (t * t + df);
            assert!(
                (minus_log10_p(r2, df) + f64::log10(p)).abs() < 1e-6,
                "{t} {df}: {}",
                minus_log10_p(r2, df)
            );
        }
        // t = 100 with 9,998: the exact value is far below the smallest double
        let deep = minus_log10_p(0.5, 9998.0);
        assert!((1500.0..1510.0).contains(&deep), "{deep}");
        assert!(minus_log10_p(1.0, 100.0).is_finite() && minus_log10_p(f64::NAN, 9.0).is_nan());
    }
}
