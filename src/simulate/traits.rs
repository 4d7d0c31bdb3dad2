//! Genetic values and phenotypes from the QTL's calls.
//!
//! phenotype = mean + sd (a + d + e): a additive with variance h2, d non-additive and uncorrelated with a,
//! e residual; the three variances sum to one. docs/simulation.md derives the parts.

use super::config::{Form, SimulationConfig, TraitConfig};
use super::correlation;
use super::qtl::{Other, Qtl};
use super::records;
use crate::packed::{self, Packed};
use crate::rng::{Purpose, Stream};
use crate::stats;
use ndarray::{Array2, ArrayViewMut1, Axis};
use rayon::prelude::*;

/// Animals in one block of the products.
const BLOCK: usize = 512;

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
    /// How raw non-additive values became those of each trait.
    pub(super) laws: Vec<Law>,
    /// Frequencies of the QTL's counted alleles in the herd.
    pub frequency: Vec<f64>,
    /// By how much contradicting correlations were shrunk (0 to 1).
    pub shrunk: f64,
}

/// From raw non-additive values to a trait's own, as the herd fixed it. In phenotypic standard deviations.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Law {
    /// From the driving additive value to the x of a link: centre and factor.
    driver: Affine,
    /// What a link loses of its slope on x, and all of their slope on the trait's own additive value.
    slopes: [Line; 2],
    /// Centre and factor of what is left.
    scale: Affine,
}

/// (v − centre)·factor.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Affine {
    centre: f64,
    factor: f64,
}

/// A straight line that is taken out: slope·(x − centre).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Line {
    centre: f64,
    slope: f64,
}

impl Affine {
    fn of(self, v: f64) -> f64 {
        (v - self.centre) * self.factor
    }
}

impl Line {
    fn at(self, x: f64) -> f64 {
        self.slope * (x - self.centre)
    }
}

/// Draws everything from the QTL's true `calls` (QTL, animals) and the animals' birth `years`.
pub fn draw(seed: u64, config: &SimulationConfig, qtl: &Qtl, calls: &Packed, years: &[i32]) -> Traits {
    let traits = config.selected();
    let frequency: Vec<f64> =
        (0..calls.rows()).map(|q| packed::frequency(&calls.tally_row(q)).unwrap_or(0.0)).collect();
    let mut t = additive(config, qtl, calls, frequency);
    // From here on in phenotypic standard deviations.
    let shape = |k: usize| {
        let (driver, mut x) = driver(k, traits, &t);
        let mut raw = raw_other(&traits[k], &qtl.other[k], (qtl, calls), &t.frequency, &x);
        let links = if x.is_empty() || traits[k].spread.is_some() {
            Line::default()
        } else {
            remove_slope(&mut raw, &x)
        };
        x = t.additive.column(k).to_vec();
        let own = remove_slope(&mut raw, &x);
        let scale = rescale(&mut raw, traits[k].non_additive);
        (Law { driver, slopes: [links, own], scale }, raw)
    };
    let (laws, other): (Vec<Law>, Vec<Vec<f64>>) = (0..traits.len()).into_par_iter().map(shape).unzip();
    t.other_scale = laws.iter().map(|law| law.scale.factor).collect();
    t.laws = laws;
    t.total.assign(&t.additive);
    for (mut total, d) in t.total.columns_mut().into_iter().zip(&other) {
        total.iter_mut().zip(d).for_each(|(t, d)| *t += d);
    }
    add_residuals(seed, traits, &mut t);
    for (k, of) in traits.iter().enumerate() {
        to_units(of, k, &mut t);
    }
    records::lose(seed, config, years, &mut t);
    t
}

/// The additive part: polygenic values with the wanted correlations, and the genes of large effect.
fn additive(config: &SimulationConfig, qtl: &Qtl, calls: &Packed, frequency: Vec<f64>) -> Traits {
    let traits = config.selected();
    let n = calls.columns();
    let raw = polygenic(qtl, calls, &frequency, &qtl.additive);
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
            let b = rescale(&mut dose, share(g).abs()).factor * share(g).signum();
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
        laws: Vec::new(),
        frequency,
        shrunk,
    }
}

/// Polygenic values by the `effects` (loci, traits): (animals, traits), in fixed blocks of animals.
fn polygenic(qtl: &Qtl, calls: &Packed, frequency: &[f64], effects: &Array2<f64>) -> Array2<f64> {
    let mut out = Array2::zeros((calls.columns(), effects.ncols()));
    out.axis_chunks_iter_mut(Axis(0), BLOCK).into_par_iter().enumerate().for_each(|(block, mut values)| {
        let from = block * BLOCK;
        let mut centred = Array2::zeros((values.nrows(), qtl.polygenic.len()));
        for (k, &row) in qtl.polygenic.iter().enumerate() {
            let bytes = calls.row(row);
            for (i, x) in centred.column_mut(k).iter_mut().enumerate() {
                *x = f64::from(packed::code(bytes, from + i)) - 2.0 * frequency[row];
            }
        }
        values.assign(&centred.dot(effects));
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

/// The x of a trait's link: the driving additive value with its spread; nothing where there is no link.
fn driver(k: usize, traits: &[TraitConfig], t: &Traits) -> (Affine, Vec<f64>) {
    let Some(source) = source_of(k, traits) else { return (Affine::default(), Vec::new()) };
    let mut x = t.additive.column(source).to_vec();
    let affine = rescale(&mut x, traits[k].spread.unwrap_or(1.0).powi(2));
    (affine, x)
}

/// The trait that drives the link of trait `k`.
fn source_of(k: usize, traits: &[TraitConfig]) -> Option<usize> {
    let of = traits[k].of.as_ref()?;
    traits.iter().position(|o| &o.name == of)
}

/// The raw non-additive values of one trait: of its loci at `frequency`, or of the link from `x`.
fn raw_other(
    of: &TraitConfig,
    other: &Other,
    (qtl, calls): (&Qtl, &Packed),
    frequency: &[f64],
    x: &[f64],
) -> Vec<f64> {
    let mut out = vec![0.0; calls.columns()];
    match other {
        Other::Dominance(effects) => {
            for (&row, &d) in qtl.polygenic.iter().zip(effects) {
                let deviation = dominance_deviation(frequency[row]).map(|x| x * d);
                let bytes = calls.row(row);
                out.iter_mut()
                    .enumerate()
                    .for_each(|(i, v)| *v += deviation[usize::from(packed::code(bytes, i))]);
            }
        }
        Other::Pairs(pairs) => {
            for &(a, b, w) in pairs {
                let (x, y) = (doses(calls, a), doses(calls, b));
                let (mx, my) = (2.0 * frequency[a], 2.0 * frequency[b]);
                out.iter_mut().zip(x.iter().zip(&y)).for_each(|(v, (x, y))| *v += w * (x - mx) * (y - my));
            }
        }
        Other::Nothing => {
            let link = if of.spread.is_some() { whole_link } else { link };
            out.iter_mut().zip(x).for_each(|(v, &x)| *v = link(of.form, x));
        }
    }
    out
}

/// Total genetic values of other animals by the same genes, (animals, traits), in units of the traits and relative
/// to the mean of the herd `t`: nothing is drawn or scaled anew.
pub fn values(config: &SimulationConfig, qtl: &Qtl, t: &Traits, calls: &Packed) -> Array2<f64> {
    let traits = config.selected();
    let mut additive = polygenic(qtl, calls, &t.frequency, &t.effects);
    for (g, row) in qtl.major.iter().enumerate() {
        let Some(row) = *row else { continue };
        let dose = doses(calls, row);
        for (mut column, b) in additive.columns_mut().into_iter().zip(t.major.row(g)) {
            column.iter_mut().zip(&dose).for_each(|(a, x)| *a += b * (x - 2.0 * t.frequency[row]));
        }
    }
    let mut total = additive.clone();
    for (k, of) in traits.iter().enumerate() {
        let law = &t.laws[k];
        let source = source_of(k, traits);
        let x: Vec<f64> = source.map_or(Vec::new(), |s| {
            additive.column(s).iter().map(|a| law.driver.of(a / traits[s].sd)).collect()
        });
        let raw = raw_other(of, &qtl.other[k], (qtl, calls), &t.frequency, &x);
        for (i, raw) in raw.into_iter().enumerate() {
            let lost =
                x.get(i).map_or(0.0, |&x| law.slopes[0].at(x)) + law.slopes[1].at(additive[[i, k]] / of.sd);
            total[[i, k]] += of.sd * law.scale.of(raw - lost);
        }
    }
    total
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

/// Centres `x` and gives it the variance `to`; the factor is 0 when `x` is constant.
fn rescale(x: &mut [f64], to: f64) -> Affine {
    let variance = stats::variance(x);
    let factor = if variance > 1e-24 { (to / variance).sqrt() } else { 0.0 };
    let affine = Affine { centre: stats::mean(x), factor };
    x.iter_mut().for_each(|v| *v = affine.of(*v));
    affine
}

fn scale_to(x: &mut ArrayViewMut1<f64>, to: f64) -> f64 {
    let mut values = x.to_vec();
    let factor = rescale(&mut values, to).factor;
    x.iter_mut().zip(values).for_each(|(x, v)| *x = v);
    factor
}

/// Takes the linear regression on `x` out of `y`.
fn remove_slope(y: &mut [f64], x: &[f64]) -> Line {
    let slope = stats::slope(x, y);
    if !slope.is_finite() {
        return Line::default();
    }
    let line = Line { centre: stats::mean(x), slope };
    y.iter_mut().zip(x).for_each(|(y, &x)| *y -= line.at(x));
    line
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
