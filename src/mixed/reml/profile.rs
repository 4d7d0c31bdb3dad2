//! The restricted likelihood as a function of h² alone, whatever it is computed from: its highest point, and the
//! standard errors there.
//!
//! With A(h²) = h² K + (1 − h²) I, K the (weighted) relationships without what lies along the fixed effects,
//!
//! −2 log L = ν log σ²p + log|A| + η'A⁻¹η/σ²p + log |X'WX| − Σ log w,
//!
//! which is GCTA's `logL` (log|V| + log|X'V⁻¹X| + y'Py, without the constant ν log 2π; Patterson & Thompson 1971, Yang et
//! al. 2011). The best σ²p is η'A⁻¹η/ν. A form of the likelihood says its terms and its average information
//! ([`Profile`]); everything else stands here.

use super::{Estimate, Given, Outcome};
use crate::mixed::Group;
use std::cell::Cell;

/// h² is looked for from 1/(1 + e^12) = 6e-6 on; below lies the boundary.
pub(super) const EDGE: f64 = 12.0;
/// Distance of the points of the first search, on the scale of log(σ²e/σ²g).
const STEP: f64 = 0.5;

/// The terms of the likelihood at one h².
#[derive(Debug, Clone, Copy)]
pub(super) struct Restricted {
    /// Degrees of freedom ν.
    pub nu: f64,
    /// log |X'WX| − Σ log w.
    pub constant: f64,
    /// log|A|.
    pub logs: f64,
    /// Its slope in h².
    pub d_logs: f64,
    /// η'A⁻¹η.
    pub quadratic: f64,
    /// Its slope in h².
    pub d_quadratic: f64,
}

/// The likelihood of one trait.
pub(super) trait Profile {
    /// The terms at an h²; nothing where V is not positive definite.
    fn terms(&self, h2: f64) -> Option<Restricted>;

    /// The average information of σ²g and σ²e, [gg, ge, ee], at an h² and a σ²p: AI_ij = ½ y'P V_i P V_j P y (Gilmour
    /// et al. 1995, eq. 5). Nothing where V is not positive definite.
    fn information(&self, h2: f64, total: f64) -> Option<[f64; 3]>;
}

impl Restricted {
    /// The likelihood at σ²p = `total`, or at the best one.
    pub fn point(&self, total: Option<f64>) -> Point {
        let total = total.unwrap_or(self.quadratic / self.nu);
        let twice = self.nu * total.ln() + self.logs + self.quadratic / total + self.constant;
        let slope = -0.5 * (self.d_logs + self.d_quadratic / total);
        Point { log_likelihood: -0.5 * twice, total, slope }
    }
}

/// The likelihood at an h², and at σ²p where it is known.
pub(super) fn at(profile: &impl Profile, h2: f64, total: Option<f64>) -> Point {
    profile.terms(h2).map_or(IMPOSSIBLE, |terms| terms.point(total))
}

/// The restricted maximum likelihood estimate of a trait of `group`, from the points of the first search.
pub(super) fn estimate(profile: &impl Profile, group: &Group, first: &[(f64, Point)]) -> Estimate {
    let used = Cell::new(first.len());
    let search = highest(first, |h2| {
        used.set(used.get() + 1);
        at(profile, h2, None)
    });
    let (h2, total) = (search.h2, search.at.total);
    let errors = profile.information(h2, total).map(|information| standard_errors(information, h2, total));
    let [var_g_se, var_e_se, h2_se] = errors.unwrap_or([f64::NAN; 3]);
    let (iterations, outcome) = (used.get(), search.outcome);
    let plain = Estimate::given(group.animals().len(), h2, total, search.at.log_likelihood);
    Estimate { var_g_se, var_e_se, h2_se, iterations, outcome, ..plain }.per_unit_weight(group.mean_weight())
}

/// The likelihood of a trait of `group` at given variances.
pub(super) fn given(profile: &impl Profile, group: &Group, given: Given) -> Estimate {
    told(group, given.h2, at(profile, given.h2, given.total))
}

/// The same from log|A| + log|X'A⁻¹X| and y'Py of its scaled records.
pub(in crate::mixed) fn likelihood(group: &Group, given: Given, logs: f64, quadratic: f64) -> Estimate {
    let (nu, constant) = (group.degrees_of_freedom() as f64, -group.log_weights());
    // Slopes are not asked for.
    let terms = Restricted { nu, constant, logs, d_logs: f64::NAN, quadratic, d_quadratic: f64::NAN };
    told(group, given.h2, terms.point(given.total))
}

fn told(group: &Group, h2: f64, at: Point) -> Estimate {
    Estimate::given(group.animals().len(), h2, at.total, at.log_likelihood)
        .per_unit_weight(group.mean_weight())
}

/// The share of all h² up to which V is positive definite when `smallest` is the smallest eigenvalue of K: h² <
/// 1 / (1 − θ) at θ < 0; 1 for a proper G.
pub(super) fn range(smallest: f64) -> f64 {
    ((1.0 - 1e-6) / (1.0 - smallest.min(0.0)) / h2_at(points(EDGE) - 1)).min(1.0)
}

/// The h² of the first search, ascending, up to `range` / (1 + e^-`end`).
pub(super) fn first_search(range: f64, end: f64) -> impl Iterator<Item = f64> {
    (0..points(end)).map(move |k| range * h2_at(k))
}

/// Their points.
pub(super) fn first_points(profile: &impl Profile, range: f64, end: f64) -> Vec<(f64, Point)> {
    first_search(range, end).map(|h2| (h2, at(profile, h2, None))).collect()
}

/// How many h² the first search looks at, up to 1/(1 + e^-`end`).
fn points(end: f64) -> usize {
    ((EDGE + end) / STEP) as usize + 1
}

/// h² of point `k` of the first search, ascending in k.
fn h2_at(k: usize) -> f64 {
    1.0 / (1.0 + (EDGE - k as f64 * STEP).exp())
}

/// The profile at one h².
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub log_likelihood: f64,
    /// The best σ²p there.
    pub total: f64,
    /// d log L / d h².
    pub slope: f64,
}

/// Beyond the range in which V is positive definite.
pub(super) const IMPOSSIBLE: Point =
    Point { log_likelihood: f64::NEG_INFINITY, total: f64::NAN, slope: -1.0 };

/// Where the search ended.
struct Search {
    h2: f64,
    at: Point,
    outcome: Outcome,
}

/// The highest point: every rise of the first search, ascending in h², is followed to its top, and the ends count as
/// well.
fn highest(grid: &[(f64, Point)], at: impl Fn(f64) -> Point) -> Search {
    let mut best = Search { h2: 0.0, at: at(0.0), outcome: Outcome::Boundary };
    let mut consider = |h2: f64, at: Point, outcome: Outcome| {
        if at.log_likelihood > best.at.log_likelihood || best.at.log_likelihood.is_nan() {
            best = Search { h2, at, outcome };
        }
    };
    let &(end, last) = grid.last().expect("a grid");
    if last.slope > 0.0 {
        consider(end, last, Outcome::Boundary);
    }
    for two in grid.windows(2) {
        if two[0].1.slope > 0.0 && two[1].1.slope <= 0.0 {
            let (h2, settled) = top(&at, (two[0].0, two[1].0), (two[0].1.slope, two[1].1.slope));
            let outcome = if settled { Outcome::Converged } else { Outcome::Failed };
            consider(h2, at(h2), outcome);
        }
    }
    best
}

/// Where the slope, `f_low` > 0 at `low` and `f_high` <= 0 at `high`, crosses zero, by false position that halves
/// the older slope (Illinois), and whether it settled.
fn top(
    at: &impl Fn(f64) -> Point,
    (mut low, mut high): (f64, f64),
    (mut f_low, mut f_high): (f64, f64),
) -> (f64, bool) {
    let (mut last, mut width) = (f64::NAN, high - low);
    for used in 1..=200 {
        let guess = (low * f_high - high * f_low) / (f_high - f_low);
        // Bisect where six steps have not halved the bracket.
        let slow = used % 6 == 0 && high - low > 0.5 * std::mem::replace(&mut width, high - low);
        let h2 = if slow || !(guess > low && guess < high) { 0.5 * (low + high) } else { guess };
        let f = at(h2).slope;
        if f == 0.0 || (h2 - last).abs() < 1e-11 * h2 || h2 <= low || h2 >= high {
            return (h2, true);
        }
        last = h2;
        if f > 0.0 {
            (low, f_low, f_high) = (h2, f, f_high * 0.5);
        } else {
            (high, f_high, f_low) = (h2, f, f_low * 0.5);
        }
    }
    (0.5 * (low + high), high - low < 1e-8)
}

/// The average information of independent η with the variances v = σ²g θ + σ²e, θ being `values`, and the `squares`
/// η²: AI_ij = ½ Σ η² a_i a_j / v³, a = θ for σ²g and 1 for σ²e.
pub(super) fn information(values: &[f64], squares: &[f64], h2: f64, total: f64) -> [f64; 3] {
    let (genetic, residual) = (h2 * total, (1.0 - h2) * total);
    let mut sums = [0.0; 3];
    for (&theta, &square) in values.iter().zip(squares) {
        let v = genetic * theta + residual;
        let half = 0.5 * square / (v * v * v);
        sums[0] += half * theta * theta;
        sums[1] += half * theta;
        sums[2] += half;
    }
    sums
}

/// Standard errors of σ²g, σ²e and, by the delta method, h² from their average information; NaN where that is
/// singular.
fn standard_errors([gg, ge, ee]: [f64; 3], h2: f64, total: f64) -> [f64; 3] {
    let determinant = gg * ee - ge * ge;
    if determinant.is_nan() || determinant <= 1e-12 * gg * ee {
        return [f64::NAN; 3];
    }
    let (var_g, var_e, cov) = (ee / determinant, gg / determinant, -ge / determinant);
    let (dg, de) = ((1.0 - h2) / total, -h2 / total);
    let var_h2 = dg * dg * var_g + de * de * var_e + 2.0 * dg * de * cov;
    [var_g.sqrt(), var_e.sqrt(), var_h2.max(0.0).sqrt()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Independent η with the variances σ²p s.
    struct Independent {
        values: Vec<f64>,
        squares: Vec<f64>,
    }

    impl Profile for Independent {
        fn terms(&self, h2: f64) -> Option<Restricted> {
            let nu = self.values.len() as f64;
            let mut terms =
                Restricted { nu, constant: 0.25, logs: 0.0, d_logs: 0.0, quadratic: 0.0, d_quadratic: 0.0 };
            for (theta, square) in self.values.iter().zip(&self.squares) {
                let s = h2 * theta + 1.0 - h2;
                terms.logs += s.ln();
                terms.d_logs += (theta - 1.0) / s;
                terms.quadratic += square / s;
                terms.d_quadratic -= square * (theta - 1.0) / (s * s);
            }
            (terms.logs.is_finite()).then_some(terms)
        }

        fn information(&self, h2: f64, total: f64) -> Option<[f64; 3]> {
            Some(information(&self.values, &self.squares, h2, total))
        }
    }

    fn example() -> Independent {
        let values: Vec<f64> = (0..60).map(|k| 0.05 * f64::from(k)).collect();
        let of = |(k, theta): (usize, &f64)| (1.0 + theta) * [0.3, 1.9, 0.8, 1.0][k % 4];
        let squares = values.iter().enumerate().map(of).collect();
        Independent { values, squares }
    }

    /// −2 log L of the definition: Σ log v + Σ η²/v + constant.
    fn log_likelihood(of: &Independent, genetic: f64, residual: f64) -> f64 {
        let v = of.values.iter().map(|theta| genetic * theta + residual);
        -0.5 * (v.zip(&of.squares).map(|(v, square)| v.ln() + square / v).sum::<f64>() + 0.25)
    }

    #[test]
    fn points_are_the_normal_likelihood_and_slopes_its_differences() {
        let of = example();
        for (h2, total) in [(0.0, 1.5), (0.3, 2.0), (0.9, 0.7)] {
            let found = at(&of, h2, Some(total));
            let want = log_likelihood(&of, h2 * total, (1.0 - h2) * total);
            assert!((found.log_likelihood - want).abs() < 1e-10 && found.total == total);
            let best = at(&of, h2, None);
            assert!(best.log_likelihood >= found.log_likelihood);
            assert!((at(&of, h2, Some(best.total)).log_likelihood - best.log_likelihood).abs() < 1e-12);
        }
        let (h2, step) = (0.4, 1e-6);
        let up = at(&of, h2 + step, None).log_likelihood - at(&of, h2 - step, None).log_likelihood;
        assert!((at(&of, h2, None).slope - up / (2.0 * step)).abs() < 1e-6);
    }

    #[test]
    fn the_estimate_is_the_top_and_its_errors_the_inverse_information() {
        let of = example();
        let n = of.values.len();
        let group =
            Group::new((0..n).collect(), ndarray::Array2::zeros((n, 1)), ndarray::Array2::ones((n, 1)), None);
        let found = estimate(&of, &group, &first_points(&of, 1.0, EDGE));
        assert_eq!((found.outcome, found.n), (Outcome::Converged, n));
        for (dg, de) in [(1e-3, 0.0), (-1e-3, 0.0), (0.0, 1e-3), (0.0, -1e-3)] {
            assert!(log_likelihood(&of, found.var_g + dg, found.var_e + de) < found.log_likelihood);
        }
        let [gg, ge, ee] = information(&of.values, &of.squares, found.h2, found.total());
        let want = (ee / (gg * ee - ge * ge)).sqrt();
        assert!((found.var_g_se / want - 1.0).abs() < 1e-10);
        let again = given(&of, &group, found.as_given());
        assert!((again.log_likelihood - found.log_likelihood).abs() < 1e-10);
    }
}
