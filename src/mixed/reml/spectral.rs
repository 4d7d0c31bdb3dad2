//! Exact restricted maximum likelihood of one genetic variance by the spectral form.
//!
//! With K an orthonormal basis of what is left beside the (weighted) fixed effects, the eigenvalues θ and
//! eigenvectors U of K'W^½GW^½K turn the records into η = U'K'W^½y with variances σ²p s(h²),
//! s = h² θ + (1 − h²), and
//!
//! −2 log L = ν log σ²p + Σ log s + Σ η²/(σ²p s) + log |X'WX| − Σ log w,
//!
//! which is GCTA's `logL` (log|V| + log|X'V⁻¹X| + y'Py, without the constant ν log 2π; Yang et al. 2011). σ²p is
//! profiled out, and the likelihood is searched over the whole range of h², because it may have two maxima.

use super::{Estimate, Given, Outcome};
use crate::error::{Error, Result};
use crate::linalg::factor::Eigen;
use crate::mixed::Group;
use ndarray::{s, Array2, ArrayView1, ArrayView2};

/// h² is looked for between 1/(1 + e^12) = 6e-6 and 1/(1 + e^-12); beyond lies the boundary.
const EDGE: f64 = 12.0;
/// Distance of the points of the first search, on the scale of log(σ²e/σ²g).
const STEP: f64 = 0.5;

/// The eigenvalues and eigenvectors of one group of traits.
#[derive(Debug)]
pub struct Spectral<'a> {
    group: &'a Group,
    values: Vec<f64>,     // θ, (ν)
    vectors: Array2<f64>, // (ν, n_o), rows KU
    constant: f64,        // log |X'WX| − Σ log w
}

impl<'a> Spectral<'a> {
    /// Decomposes G, (n, n), on the animals of a group.
    pub fn new(g: ArrayView2<f64>, group: &'a Group) -> Result<Spectral<'a>> {
        let (n, freedom) = (group.animals().len(), group.freedom());
        if freedom < 2 {
            return Err(Error::input(
                "variance components",
                "at least two records more than fixed effects",
                format!("{n} records and {} effects", n - freedom),
                "add records or leave out covariates",
            ));
        }
        let mut a = group.relationships(g);
        let shift = a.diag().sum().abs() / n as f64 + f64::MIN_POSITIVE;
        // S (G + shift I) S: the eigenvalues along the fixed effects are 0, all others at least `shift`
        // (Kang et al. 2008), so that the two kinds cannot be confused.
        project_both_sides(&mut a, group.basis(), shift);
        let Eigen { values, vectors } = Eigen::new(a)?;
        let values = values[n - freedom..].iter().map(|v| (v - shift).max(0.0)).collect();
        let vectors = vectors.slice_move(s![n - freedom.., ..]);
        Ok(Spectral { group, values, vectors, constant: group.log_design() - group.log_weights() })
    }

    /// η of all traits, (ν, t).
    pub fn rotate(&self) -> Array2<f64> {
        self.vectors.dot(&self.group.scaled(self.group.y()))
    }

    /// x = P(h²) y of all traits, (n_o, t), for rotated records `eta` (ν, t) and one h² a trait.
    pub fn solve(&self, eta: &Array2<f64>, h2: &[f64]) -> Array2<f64> {
        let mut spread = eta.clone();
        for (mut row, &theta) in spread.rows_mut().into_iter().zip(&self.values) {
            row.iter_mut().zip(h2).for_each(|(x, &h)| *x /= h * theta + 1.0 - h);
        }
        self.group.scaled(self.vectors.t().dot(&spread).view())
    }

    /// The restricted maximum likelihood estimate for one column of rotated records.
    pub fn estimate(&self, eta: ArrayView1<f64>) -> Estimate {
        let squares: Vec<f64> = eta.iter().map(|e| e * e).collect();
        let search = Profile { values: &self.values, squares: &squares, constant: self.constant }.maximum();
        let total = search.at.total;
        let (genetic, residual) = (search.h2 * total, (1.0 - search.h2) * total);
        let [var_g_se, var_e_se, h2_se] = standard_errors(&self.values, &squares, genetic, residual);
        Estimate {
            n: self.group.animals().len(),
            var_g: genetic,
            var_g_se,
            var_e: residual,
            var_e_se,
            h2: search.h2,
            h2_se,
            log_likelihood: search.at.log_likelihood,
            sampling: None,
            iterations: search.evaluations,
            outcome: search.outcome,
        }
    }

    /// The likelihood at given variances.
    pub fn given(&self, eta: ArrayView1<f64>, given: Given) -> Estimate {
        let squares: Vec<f64> = eta.iter().map(|e| e * e).collect();
        let profile = Profile { values: &self.values, squares: &squares, constant: self.constant };
        let n = self.group.animals().len();
        let at = profile.at(given.h2, given.total);
        Estimate::given(n, given.h2, at.total, at.log_likelihood)
    }
}

/// S (A + shift I) S with S = I − QQ', in place, `q` (n, rank) orthonormal.
fn project_both_sides(a: &mut Array2<f64>, q: ArrayView2<f64>, shift: f64) {
    a.diag_mut().mapv_inplace(|d| d + shift);
    let aq = a.dot(&q); // (n, rank)
    let middle = q.t().dot(&aq); // (rank, rank)
                                 // A − QB' − BQ' with B = AQ − Q(Q'AQ)/2
    let b = aq - q.dot(&middle) * 0.5;
    ndarray::linalg::general_mat_mul(-1.0, &q, &b.t(), 1.0, a);
    ndarray::linalg::general_mat_mul(-1.0, &b, &q.t(), 1.0, a);
}

/// The likelihood of one trait as a function of h² alone.
struct Profile<'a> {
    values: &'a [f64],
    squares: &'a [f64],
    constant: f64,
}

/// The profile at one h².
#[derive(Clone, Copy)]
struct Point {
    log_likelihood: f64,
    total: f64,
    slope: f64, // d log L / d h²
}

struct Search {
    h2: f64,
    at: Point,
    evaluations: usize,
    outcome: Outcome,
}

impl Profile<'_> {
    /// `total` is σ²p where it is known; otherwise the best one.
    fn at(&self, h2: f64, total: Option<f64>) -> Point {
        let nu = self.values.len() as f64;
        let (mut quadratic, mut logs, mut d_quadratic, mut d_logs) = (0.0, 0.0, 0.0, 0.0);
        for (&theta, &square) in self.values.iter().zip(self.squares) {
            let v = h2 * theta + 1.0 - h2;
            let ratio = (theta - 1.0) / v;
            quadratic += square / v;
            d_quadratic -= square / v * ratio;
            logs += v.ln();
            d_logs += ratio;
        }
        let total = total.unwrap_or(quadratic / nu);
        let twice = nu * total.ln() + logs + quadratic / total + self.constant;
        Point { log_likelihood: -0.5 * twice, total, slope: -0.5 * (d_logs + d_quadratic / total) }
    }

    /// The highest point: every rise of a grid is followed to its top, and the ends count as well.
    fn maximum(&self) -> Search {
        let steps = (2.0 * EDGE / STEP) as usize;
        let h2_at = |k: usize| 1.0 / (1.0 + (EDGE - k as f64 * STEP).exp()); // ascending in k
        let grid: Vec<Point> = (0..=steps).map(|k| self.at(h2_at(k), None)).collect();
        let mut evaluations = grid.len();
        let none = self.at(0.0, None);
        let mut best = Search { h2: 0.0, at: none, evaluations: 0, outcome: Outcome::Boundary };
        let mut consider = |h2: f64, at: Point, outcome: Outcome| {
            if at.log_likelihood > best.at.log_likelihood || best.at.log_likelihood.is_nan() {
                best = Search { h2, at, evaluations: 0, outcome };
            }
        };
        if grid[steps].slope > 0.0 {
            consider(h2_at(steps), grid[steps], Outcome::Boundary);
        }
        for k in 0..steps {
            if grid[k].slope > 0.0 && grid[k + 1].slope <= 0.0 {
                let (h2, used, settled) = self.top(h2_at(k), h2_at(k + 1));
                evaluations += used;
                let outcome = if settled { Outcome::Converged } else { Outcome::Failed };
                consider(h2, self.at(h2, None), outcome);
            }
        }
        Search { evaluations: evaluations + 1, ..best }
    }

    /// Where the slope crosses zero between `low` and `high`, by false position that halves the older slope
    /// (Illinois), with the evaluations used and whether it settled.
    fn top(&self, mut low: f64, mut high: f64) -> (f64, usize, bool) {
        let (mut f_low, mut f_high) = (self.at(low, None).slope, self.at(high, None).slope);
        for used in 1..=200 {
            let guess = (low * f_high - high * f_low) / (f_high - f_low);
            // Bisect every third time: the bracket then halves whatever the shape.
            let h2 = if used % 3 == 0 || !(guess > low && guess < high) { 0.5 * (low + high) } else { guess };
            let f = self.at(h2, None).slope;
            if f == 0.0 || high - low < 1e-13 * high || h2 <= low || h2 >= high {
                return (h2, used + 2, true);
            }
            if f > 0.0 {
                (low, f_low, f_high) = (h2, f, f_high * 0.5);
            } else {
                (high, f_high, f_low) = (h2, f, f_low * 0.5);
            }
        }
        (0.5 * (low + high), 202, high - low < 1e-8)
    }
}

/// Standard errors of σ²g, σ²e and h² from the average information (Gilmour et al. 1995): with v the variances
/// of η, AI_ij = ½ Σ η² a_i a_j / v³, a = θ for σ²g and 1 for σ²e.
fn standard_errors(values: &[f64], squares: &[f64], genetic: f64, residual: f64) -> [f64; 3] {
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
