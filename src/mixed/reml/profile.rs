//! The restricted likelihood as a function of h² alone, whatever it is computed from: its highest point, and the
//! standard errors there.

use super::Outcome;

/// h² is looked for from 1/(1 + e^12) = 6e-6 on; below lies the boundary.
pub(super) const EDGE: f64 = 12.0;
/// Distance of the points of the first search, on the scale of log(σ²e/σ²g).
const STEP: f64 = 0.5;

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
    let steps = ((EDGE + end) / STEP) as usize;
    let h2_at = |k: usize| 1.0 / (1.0 + (EDGE - k as f64 * STEP).exp()); // ascending in k
    let grid: Vec<Point> = (0..=steps).map(|k| at(h2_at(k))).collect();
    let none = at(0.0);
    let mut best = Search { h2: 0.0, at: none, outcome: Outcome::Boundary };
    let mut consider = |h2: f64, at: Point, outcome: Outcome| {
        if at.log_likelihood > best.at.log_likelihood || best.at.log_likelihood.is_nan() {
            best = Search { h2, at, outcome };
        }
    };
    if grid[steps].slope > 0.0 {
        consider(h2_at(steps), grid[steps], Outcome::Boundary);
    }
    for k in 0..steps {
        if grid[k].slope > 0.0 && grid[k + 1].slope <= 0.0 {
            let (h2, settled) = top(&at, h2_at(k), h2_at(k + 1));
            let outcome = if settled { Outcome::Converged } else { Outcome::Failed };
            consider(h2, at(h2), outcome);
        }
    }
    best
}

/// Where the slope crosses zero between `low` and `high`, by false position that halves the older slope
/// (Illinois), and whether it settled.
fn top(at: &impl Fn(f64) -> Point, mut low: f64, mut high: f64) -> (f64, bool) {
    let (mut f_low, mut f_high) = (at(low).slope, at(high).slope);
    for used in 1..=200 {
        let guess = (low * f_high - high * f_low) / (f_high - f_low);
        // Bisect every third time: the bracket then halves whatever the shape.
        let h2 = if used % 3 == 0 || !(guess > low && guess < high) { 0.5 * (low + high) } else { guess };
        let f = at(h2).slope;
        if f == 0.0 || high - low < 1e-13 * high || h2 <= low || h2 >= high {
            return (h2, true);
        }
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
