//! The restricted likelihood as a function of h² alone, whatever it is computed from: its highest point, and the
//! standard errors there.

use super::Outcome;

/// h² is looked for from 1/(1 + e^12) = 6e-6 on; below lies the boundary.
pub(super) const EDGE: f64 = 12.0;
/// Distance of the points of the first search, on the scale of log(σ²e/σ²g).
const STEP: f64 = 0.5;

/// How many h² the first search looks at, up to 1/(1 + e^-`end`).
pub(super) fn points(end: f64) -> usize {
    ((EDGE + end) / STEP) as usize + 1
}

/// h² of point `k` of the first search, ascending in k.
pub(super) fn h2_at(k: usize) -> f64 {
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

/// Where the search ended.
#[derive(Debug)]
pub(super) struct Search {
    pub h2: f64,
    pub at: Point,
    pub outcome: Outcome,
}

/// The highest point: every rise of a grid is followed to its top, and the ends count as well. The last h² is
/// 1/(1 + e^-`end`).
pub(super) fn maximum(at: impl Fn(f64) -> Point, end: f64) -> Search {
    let grid: Vec<(f64, Point)> = (0..points(end)).map(|k| (h2_at(k), at(h2_at(k)))).collect();
    highest(&grid, at)
}

/// The same when the points of the grid, ascending in h², are known already.
pub(super) fn highest(grid: &[(f64, Point)], at: impl Fn(f64) -> Point) -> Search {
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

/// Standard errors of σ²g, σ²e and h² from the average information (Gilmour et al. 1995): with v the variances
/// of η, AI_ij = ½ Σ η² a_i a_j / v³, a = θ for σ²g and 1 for σ²e.
pub(super) fn standard_errors(values: &[f64], squares: &[f64], genetic: f64, residual: f64) -> [f64; 3] {
    let (mut gg, mut ge, mut ee) = (0.0, 0.0, 0.0);
    for (&theta, &square) in values.iter().zip(squares) {
        let v = genetic * theta + residual;
        let half = 0.5 * square / (v * v * v);
        gg += half * theta * theta;
        ge += half * theta;
        ee += half;
    }
    let determinant = gg * ee - ge * ge;
    if determinant.is_nan() || determinant <= 1e-12 * gg * ee {
        return [f64::NAN; 3];
    }
    let (var_g, var_e, cov) = (ee / determinant, gg / determinant, -ge / determinant);
    let total = genetic + residual;
    let (dg, de) = (residual / (total * total), -genetic / (total * total));
    let var_h2 = dg * dg * var_g + de * de * var_e + 2.0 * dg * de * cov;
    [var_g.sqrt(), var_e.sqrt(), var_h2.max(0.0).sqrt()]
}
