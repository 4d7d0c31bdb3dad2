//! Genetic values and phenotypes from the QTL's calls.
//!
//! phenotype = mean + sd (a + d + e): a additive with variance h2, d non-additive and uncorrelated with a,
//! e residual; the three variances sum to one. docs/simulation.md derives the parts.

use super::config::{Form, SimulationConfig, TraitConfig};
use super::correlation;
use super::qtl::{Other, Qtl};
use crate::packed::{self, Packed};
use crate::rng::{Purpose, Stream};
use crate::stats;
use ndarray::{Array2, ArrayViewMut1, Axis};
use rayon::prelude::*;

/// Animals in one block of the products.
const BLOCK: usize = 512;
/// How the log-odds of a record grow over the birth years, and their spread between years.
const RECORD_TREND: f64 = 0.8;
const RECORD_SPREAD: f64 = 0.4;

/// What the animals are worth and what was recorded of it. All of shape (animals, traits), in trait order.
pub struct Traits {
    /// Additive values in units of the trait (of liability for a trait in classes), mean zero.
    pub additive: Array2<f64>,
    /// Additive and non-additive values together, mean zero.
    pub total: Array2<f64>,
    /// Phenotypes of all animals, before records go missing.
    pub complete: Array2<f64>,
    /// Phenotypes, NaN where there is no record.
    pub phenotype: Array2<f64>,
    /// Effects of the polygenic loci per counted allele, in units of the trait: (loci, traits).
    pub effects: Array2<f64>,
    /// Effects of the genes of large effect per counted allele: (genes, traits).
    pub major: Array2<f64>,
    /// By what the raw non-additive effects of each trait are to be multiplied, in units of the trait.
    pub other_scale: Vec<f64>,
    /// Frequencies of the QTL's counted alleles in the herd.
    pub frequency: Vec<f64>,
    /// By how much contradicting correlations were shrunk (0 to 1).
    pub shrunk: f64,
}

/// Draws everything from the QTL's true `calls` (QTL, animals) and the animals' birth `years`.
pub fn draw(seed: u64, config: &SimulationConfig, qtl: &Qtl, calls: &Packed, years: &[i32]) -> Traits {
    let traits = config.selected();
    let frequency: Vec<f64> =
        (0..calls.rows()).map(|q| packed::frequency(&calls.tally_row(q)).unwrap_or(0.0)).collect();
    let mut t = additive(config, qtl, calls, frequency);
    // From here on in phenotypic standard deviations.
    let mut other: Vec<Vec<f64>> =
        (0..traits.len()).into_par_iter().map(|k| raw_other(k, traits, qtl, calls, &t)).collect();
    for (k, of) in traits.iter().enumerate() {
        let a = t.additive.column(k).to_vec();
        remove_slope(&mut other[k], &a);
        t.other_scale.push(rescale(&mut other[k], of.non_additive));
    }
    t.total.assign(&t.additive);
    for (mut total, d) in t.total.columns_mut().into_iter().zip(&other) {
        total.iter_mut().zip(d).for_each(|(t, d)| *t += d);
    }
    add_residuals(seed, traits, &mut t);
    for (k, of) in traits.iter().enumerate() {
        to_units(of, k, &mut t);
    }
    lose_records(seed, config, years, &mut t);
    t
}

/// The additive part: polygenic values with the wanted correlations, and the genes of large effect.
fn additive(config: &SimulationConfig, qtl: &Qtl, calls: &Packed, frequency: Vec<f64>) -> Traits {
    let traits = config.selected();
    let n = calls.columns();
    let raw = polygenic(qtl, calls, &frequency);
    let (factor, shrunk) = correlation::polygenic(config);
    let change = change(&raw, &factor);
    let mut values = raw.dot(&change.t());
    let mut effects = qtl.additive.dot(&change.t());
    let mut major = Array2::zeros((config.major.len(), traits.len()));
    for (k, of) in traits.iter().enumerate() {
        let share = |g: usize| config.major[g].effects.get(&of.name).copied().unwrap_or(0.0);
        let genes: Vec<(usize, usize)> = (0..config.major.len())
            .filter_map(|g| Some((g, qtl.major[g]?)))
            .filter(|g| share(g.0) != 0.0)
            .collect();
        let majors: f64 = genes.iter().map(|&(g, _)| share(g).abs()).sum();
        let mut column = values.column_mut(k);
        let spread = scale_to(&mut column, (of.h2 - majors).max(0.0));
        effects.column_mut(k).mapv_inplace(|b| b * spread);
        for (g, row) in genes {
            let mut dose: Vec<f64> = doses(calls, row);
            let b = rescale(&mut dose, share(g).abs()) * share(g).signum();
            let sign = share(g).signum();
            column.iter_mut().zip(&dose).for_each(|(v, x)| *v += sign * x);
            major[[g, k]] = b;
        }
        // The parts are correlated by chance: the sum gets the wanted variance.
        let spread = scale_to(&mut column, of.h2);
        effects.column_mut(k).mapv_inplace(|b| b * spread);
        major.column_mut(k).mapv_inplace(|b| b * spread);
    }
    let empty = Array2::zeros((n, traits.len()));
    Traits {
        additive: values,
        total: empty.clone(),
        complete: empty.clone(),
        phenotype: empty,
        effects,
        major,
        other_scale: Vec::new(),
        frequency,
        shrunk,
    }
}

/// Raw polygenic values: (animals, traits), in fixed blocks of animals.
fn polygenic(qtl: &Qtl, calls: &Packed, frequency: &[f64]) -> Array2<f64> {
    let mut out = Array2::zeros((calls.columns(), qtl.additive.ncols()));
    out.axis_chunks_iter_mut(Axis(0), BLOCK).into_par_iter().enumerate().for_each(|(block, mut values)| {
        let from = block * BLOCK;
        let mut centred = Array2::zeros((values.nrows(), qtl.polygenic.len()));
        for (k, &row) in qtl.polygenic.iter().enumerate() {
            let bytes = calls.row(row);
            for (i, x) in centred.column_mut(k).iter_mut().enumerate() {
                *x = f64::from(packed::code(bytes, from + i)) - 2.0 * frequency[row];
            }
        }
        values.assign(&centred.dot(&qtl.additive));
    });
    out
}

/// The matrix that turns raw polygenic values into values of variance one with the wanted correlations: exactly
/// in this herd, or in expectation where the herd is too small for that.
fn change(raw: &Array2<f64>, factor: &Array2<f64>) -> Array2<f64> {
    let n = raw.nrows().max(2) as f64;
    let means = raw.mean_axis(Axis(0)).expect("at least one animal");
    let centred = raw - &means;
    let covariance = centred.t().dot(&centred) / (n - 1.0);
    match correlation::cholesky(&covariance) {
        Some(own) => correlation::change_of_factor(&own, factor),
        None => {
            let inverse = |v: &f64| if *v > 0.0 { 1.0 / v.sqrt() } else { 0.0 };
            factor * &covariance.diag().map(inverse)
        }
    }
}

/// The raw non-additive values of one trait.
fn raw_other(k: usize, traits: &[TraitConfig], qtl: &Qtl, calls: &Packed, t: &Traits) -> Vec<f64> {
    let mut out = vec![0.0; calls.columns()];
    match &qtl.other[k] {
        Other::Dominance(effects) => {
            for (&row, &d) in qtl.polygenic.iter().zip(effects) {
                let deviation = dominance_deviation(t.frequency[row]).map(|x| x * d);
                let bytes = calls.row(row);
                out.iter_mut()
                    .enumerate()
                    .for_each(|(i, v)| *v += deviation[usize::from(packed::code(bytes, i))]);
            }
        }
        Other::Pairs(pairs) => {
            for &(a, b, w) in pairs {
                let (x, y) = (doses(calls, a), doses(calls, b));
                let (mx, my) = (2.0 * t.frequency[a], 2.0 * t.frequency[b]);
                out.iter_mut().zip(x.iter().zip(&y)).for_each(|(v, (x, y))| *v += w * (x - mx) * (y - my));
            }
        }
        Other::Nothing => {
            let source = traits[k].of.as_ref().and_then(|of| traits.iter().position(|o| &o.name == of));
            if let Some(source) = source {
                let mut x = t.additive.column(source).to_vec();
                let spread = traits[k].spread;
                rescale(&mut x, spread.unwrap_or(1.0).powi(2));
                let link = if spread.is_some() { whole_link } else { link };
                out.iter_mut().zip(&x).for_each(|(v, &x)| *v = link(traits[k].form, x));
                if spread.is_none() {
                    remove_slope(&mut out, &x);
                }
            }
        }
    }
    out
}

/// Dominance deviations of the codes 0, 1, 2 at frequency `p`: uncorrelated with the count under Hardy-Weinberg
/// proportions (Falconer & Mackay 1996, chapter 7).
fn dominance_deviation(p: f64) -> [f64; 4] {
    let q = 1.0 - p;
    [-2.0 * p * p, 2.0 * p * q, -2.0 * q * q, 0.0]
}

/// The shape of a link from a standardised additive value.
fn link(form: Form, x: f64) -> f64 {
    match form {
        Form::Quadratic => 1.0 + x + 2.0 * x * x,
        Form::Sine => (2.0 * x).sin(),
        Form::Logistic => 1.0 / (1.0 + (-3.0 * (x - 1.0)).exp()),
        Form::Exponential => x.exp(),
        Form::Additive | Form::Linear | Form::Dominance | Form::Epistasis => 0.0,
    }
}

/// The shape of a link that keeps its linear part (Shokor et al. 2024).
fn whole_link(form: Form, x: f64) -> f64 {
    match form {
        Form::Linear => 1.0 + x,
        Form::Quadratic => 1.0 + x + 2.0 * x * x,
        Form::Sine => x.sin(),
        Form::Logistic => 1.0 / (1.0 + (-x).exp()),
        Form::Exponential => (0.4 * x).exp(),
        Form::Additive | Form::Dominance | Form::Epistasis => 0.0,
    }
}

/// True counts of the counted allele at one QTL.
fn doses(calls: &Packed, row: usize) -> Vec<f64> {
    let bytes = calls.row(row);
    (0..calls.columns()).map(|i| f64::from(packed::code(bytes, i))).collect()
}

/// Centres `x` and gives it the variance `to`; returns the factor, 0 when `x` is constant.
fn rescale(x: &mut [f64], to: f64) -> f64 {
    let mean = stats::mean(x);
    let variance = stats::variance(x);
    let factor = if variance > 1e-24 { (to / variance).sqrt() } else { 0.0 };
    x.iter_mut().for_each(|v| *v = (*v - mean) * factor);
    factor
}

fn scale_to(x: &mut ArrayViewMut1<f64>, to: f64) -> f64 {
    let mut values = x.to_vec();
    let factor = rescale(&mut values, to);
    x.iter_mut().zip(values).for_each(|(x, v)| *x = v);
    factor
}

/// Takes the linear regression on `x` out of `y`.
fn remove_slope(y: &mut [f64], x: &[f64]) {
    let slope = stats::slope(x, y);
    if slope.is_finite() {
        let mean = stats::mean(x);
        y.iter_mut().zip(x).for_each(|(y, x)| *y -= slope * (x - mean));
    }
}

/// Phenotypes in standard deviations: genetic values and residuals with the rest of the variance.
fn add_residuals(seed: u64, traits: &[TraitConfig], t: &mut Traits) {
    let spread: Vec<f64> = traits.iter().map(|of| (1.0 - of.h2 - of.non_additive).max(0.0).sqrt()).collect();
    let total = &t.total;
    t.complete.outer_iter_mut().into_par_iter().enumerate().for_each(|(i, mut row)| {
        let mut stream = Stream::new(seed, Purpose::Residual, i as u64);
        for ((y, g), spread) in row.iter_mut().zip(total.row(i)).zip(&spread) {
            *y = g + spread * stream.normal();
        }
    });
}

/// From standard deviations to the trait's units, or to classes by thresholds on the liability.
fn to_units(of: &TraitConfig, k: usize, t: &mut Traits) {
    for values in [&mut t.additive, &mut t.total, &mut t.effects, &mut t.major] {
        values.column_mut(k).mapv_inplace(|v| v * of.sd);
    }
    t.other_scale[k] *= of.sd;
    let mut y = t.complete.column_mut(k);
    if of.classes.is_empty() {
        return y.mapv_inplace(|v| of.mean + of.sd * v);
    }
    let liability = y.to_vec();
    let mut above = 0.0;
    // Thresholds of the classes from the highest down.
    let thresholds: Vec<f64> = of
        .classes
        .iter()
        .rev()
        .map(|share| {
            above += share;
            stats::quantile(&liability, 1.0 - above)
        })
        .collect();
    y.mapv_inplace(|v| thresholds.iter().filter(|&&limit| v > limit).count() as f64);
}

/// Which records exist: one draw per animal and group of traits, with odds that depend on the birth year.
fn lose_records(seed: u64, config: &SimulationConfig, years: &[i32], t: &mut Traits) {
    let traits = config.selected();
    let mut groups: Vec<&str> = Vec::new();
    for of in traits {
        if !groups.contains(&of.group.as_str()) {
            groups.push(&of.group);
        }
    }
    let group_of: Vec<usize> = traits
        .iter()
        .map(|of| groups.iter().position(|g| *g == of.group).expect("every group is listed"))
        .collect();
    let chances: Vec<Vec<f64>> =
        traits.iter().zip(&group_of).map(|(of, &g)| record_chances(seed, g, of.recorded, years)).collect();
    let complete = &t.complete;
    t.phenotype.outer_iter_mut().into_par_iter().enumerate().for_each(|(i, mut row)| {
        let mut stream = Stream::new(seed, Purpose::Missing, i as u64);
        let drawn: Vec<f64> = groups.iter().map(|_| stream.uniform()).collect();
        for (k, y) in row.iter_mut().enumerate() {
            *y = if drawn[group_of[k]] < chances[k][i] { complete[[i, k]] } else { f64::NAN };
        }
    });
}

/// Chance of a record for every animal; the mean over the herd is `share`.
fn record_chances(seed: u64, group: usize, share: f64, years: &[i32]) -> Vec<f64> {
    if share <= 0.0 || share >= 1.0 {
        return vec![share; years.len()];
    }
    let (first, last) = years.iter().fold((i32::MAX, i32::MIN), |(a, b), &y| (a.min(y), b.max(y)));
    let half = (f64::from(last - first) / 2.0).max(1.0);
    let odds: Vec<f64> = years
        .iter()
        .map(|&year| {
            // Another range of indices than the animals' and the calls'.
            let index = 1 << 63 | (group as u64) << 32 | u64::from(year.unsigned_abs());
            let shock = RECORD_SPREAD * Stream::new(seed, Purpose::Missing, index).normal();
            RECORD_TREND * (f64::from(year - first) / half - 1.0) + shock
        })
        .collect();
    let chance = |level: f64, odds: f64| 1.0 / (1.0 + (-level - odds).exp());
    // The level at which the mean is right, by bisection.
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..60 {
        let level = 0.5 * (low + high);
        let mean = odds.iter().map(|&o| chance(level, o)).sum::<f64>() / years.len() as f64;
        if mean < share {
            low = level
        } else {
            high = level
        }
    }
    odds.iter().map(|&o| chance(low, o)).collect()
}
