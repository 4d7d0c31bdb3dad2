//! Exact restricted maximum likelihood of one genetic variance by the spectral form.
//!
//! Let S take the (weighted) fixed effects out and S W^½GW^½ S = Q B Q' with a narrow band B and eigenvalues θ;
//! rank(X) of these are zero, along the fixed effects, and left out. The records become η = Q'S W^½y, and with
//! A(h²) = h² B + (1 − h²) I, whose eigenvalues are s = h² θ + (1 − h²),
//!
//! −2 log L = ν log σ²p + Σ log s + η'A⁻¹η/σ²p + log |X'WX| − Σ log w,
//!
//! which is GCTA's `logL` (log|V| + log|X'V⁻¹X| + y'Py, without the constant ν log 2π; Yang et al. 2011). σ²p is
//! profiled out, and the likelihood is searched over the whole range of h², because it may have two maxima.
//! Eigenvectors are not needed: the quadratic form comes from a Cholesky factor of the band, O(n) for each h².

use super::profile::{self, first_search, Profile, Restricted, EDGE, IMPOSSIBLE};
use super::{Estimate, Given, Outcome};
use crate::error::{Error, Result};
use crate::linalg::band::{BandFactor, Banded};
use crate::mixed::Group;
use ndarray::{Array2, ArrayView1, ArrayView2, Axis};

/// Eigenvalues that differ by less than this share of their size are the same up to rounding.
pub(super) const SAME: f64 = 1e-9;
/// Eigenvalues that differ by more than this share of their size do so in whatever way their size is counted.
const SURE: f64 = 1e-6;

/// The relationships of one group of traits as a band, and its eigenvalues.
#[derive(Debug)]
pub struct Spectral<'a> {
    group: &'a Group,
    band: Banded,
    values: Vec<f64>, // θ without those along the fixed effects, ascending, (ν)
    range: f64,       // h² beyond this share of its range would make V indefinite; 1 for a proper G
    constant: f64,    // log |X'WX| − Σ log w
    size: f64,        // mean diagonal element of the weighted G
    identified: bool, // whether the eigenvalues differ, so that h² has a maximum
}

impl<'a> Spectral<'a> {
    /// Reduces G, (n, n), on the animals of a group.
    pub fn new(g: ArrayView2<f64>, group: &'a Group) -> Result<Spectral<'a>> {
        group.check_degrees_of_freedom()?;
        let mut a = group.weighted_g(g);
        let size = mean_diagonal(&a);
        if a.iter().any(|x| !x.is_finite()) {
            return Err(not_finite());
        }
        project_both_sides(&mut a, group.basis());
        let band = Banded::new(a)?;
        let mut values = band.eigenvalues()?;
        // Those along the fixed effects are zero; others that are zero too may stand for them.
        values.sort_by(|a, b| b.abs().total_cmp(&a.abs()));
        values.truncate(group.degrees_of_freedom());
        values.sort_by(f64::total_cmp);
        let range = profile::range(values[0]);
        let (constant, identified) = (group.log_design() - group.log_weights(), differ(&values, size));
        Ok(Spectral { group, band, values, range, constant, size, identified })
    }

    /// η of all traits, (n_o, t).
    pub fn rotate(&self) -> Array2<f64> {
        self.rotated(self.group.scaled(self.group.y()))
    }

    /// Q'S of a weighted block, (n_o, k).
    pub(super) fn rotated(&self, mut block: Array2<f64>) -> Array2<f64> {
        self.group.project(&mut block);
        self.band.rotate(block.view())
    }

    /// SQ of a block, (n_o, k): S takes out rounding, which small 1 − h² enlarge.
    pub(super) fn rotated_back(&self, block: ArrayView2<f64>) -> Array2<f64> {
        let mut out = self.band.rotate_back(block);
        self.group.project(&mut out);
        out
    }

    /// x = P(h²) y of all traits, (n_o, t), for rotated records `eta` (n_o, t) and one h² a trait.
    pub fn solve(&self, eta: &Array2<f64>, h2: &[f64]) -> Result<Array2<f64>> {
        let mut x = Array2::zeros(eta.dim());
        for ((&h2, eta), mut x) in h2.iter().zip(eta.columns()).zip(x.columns_mut()) {
            let level = self.level(known(h2)).ok_or_else(|| indefinite(h2))?;
            x.assign(&level.factor.solve(eta.insert_axis(Axis(1))).column(0));
        }
        Ok(self.group.scaled(self.rotated_back(x.view()).view()))
    }

    /// The restricted maximum likelihood estimates for all columns of rotated records.
    pub fn estimates(&self, eta: &Array2<f64>) -> Vec<Estimate> {
        if !self.identified {
            return vec![Estimate::none(self.group.animals().len(), Outcome::Unidentified); eta.ncols()];
        }
        // The factors of the first search serve all traits.
        let mut grids = vec![Vec::new(); eta.ncols()];
        for h2 in first_search(self.range, EDGE) {
            match self.level(h2) {
                Some(level) => {
                    let solved = level.factor.solve(eta.view());
                    for ((grid, eta), z) in grids.iter_mut().zip(eta.columns()).zip(solved.columns()) {
                        grid.push((h2, self.terms(&level, eta, z).point(None)));
                    }
                }
                None => grids.iter_mut().for_each(|grid| grid.push((h2, IMPOSSIBLE))),
            }
        }
        let estimate = |(eta, grid): (_, &Vec<_>)| profile::estimate(&self.of(eta), self.group, grid);
        eta.columns().into_iter().zip(&grids).map(estimate).collect()
    }

    /// The restricted maximum likelihood estimate for one column of rotated records.
    pub fn estimate(&self, eta: ArrayView1<f64>) -> Estimate {
        self.estimates(&eta.to_owned().insert_axis(Axis(1))).remove(0)
    }

    /// The likelihood at given variances.
    pub fn given(&self, eta: ArrayView1<f64>, given: Given) -> Estimate {
        profile::given(&self.of(eta), self.group, given)
    }

    /// Whether the eigenvalues differ, so that the likelihood has a maximum.
    pub fn is_identified(&self) -> bool {
        self.identified
    }

    /// Whether eigenvalues differ for certain, and V is positive definite for every h², when any `k` of the records are
    /// left out too: by Cauchy's interlacing the largest is at least the (k + 1)th largest of all, the smallest at
    /// most the (k + 1)th smallest.
    pub fn differs_without(&self, k: usize) -> bool {
        let inner = self.values.get(k..self.values.len().saturating_sub(k));
        self.range == 1.0 && inner.is_some_and(|inner| !inner.is_empty() && differ_by(inner, self.size, SURE))
    }

    /// The group reduced.
    pub(super) fn group(&self) -> &'a Group {
        self.group
    }

    /// h² beyond this share of its range would make V indefinite.
    pub(super) fn range(&self) -> f64 {
        self.range
    }

    /// Eigenvalues θ, ascending, (ν).
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// B, beside which the eigenvalues along the fixed effects are zero.
    pub fn band(&self) -> &Banded {
        &self.band
    }

    /// log |X'WX| − Σ log w, what −2 log L has beside the terms that change.
    pub fn constant(&self) -> f64 {
        self.constant
    }

    fn of<'b>(&'b self, eta: ArrayView1<'b, f64>) -> Rotated<'b> {
        Rotated { spectral: self, eta }
    }

    /// A(h²) made ready, where it is positive definite.
    pub(super) fn level(&self, h2: f64) -> Option<Level> {
        let factor = self.band.factor(h2, 1.0 - h2)?;
        let mut level = Level { h2, factor, logs: 0.0, d_logs: 0.0 };
        for &theta in &self.values {
            let s = h2 * theta + 1.0 - h2;
            level.logs += s.ln();
            level.d_logs += (theta - 1.0) / s;
        }
        Some(level)
    }

    /// The terms of the likelihood at a level, for one column of records and `z` = A⁻¹η.
    pub(super) fn terms(&self, level: &Level, eta: ArrayView1<f64>, z: ArrayView1<f64>) -> Restricted {
        let (quadratic, square) = (eta.dot(&z), z.dot(&z));
        let through = match level.h2 {
            h2 if h2 > 0.0 => (quadratic - (1.0 - h2) * square) / h2,
            _ => z.dot(&self.band.times(z.insert_axis(Axis(1))).column(0)),
        }; // z'Bz
        Restricted {
            nu: self.values.len() as f64,
            constant: self.constant,
            logs: level.logs,
            d_logs: level.d_logs,
            quadratic,
            d_quadratic: -(through - square),
        }
    }
}

/// The likelihood of one column of rotated records.
struct Rotated<'a> {
    spectral: &'a Spectral<'a>,
    eta: ArrayView1<'a, f64>,
}

impl Profile for Rotated<'_> {
    fn terms(&self, h2: f64) -> Option<Restricted> {
        let level = self.spectral.level(h2)?;
        let z = level.factor.solve(self.eta.insert_axis(Axis(1)));
        Some(self.spectral.terms(&level, self.eta, z.column(0)))
    }

    /// With z = A⁻¹η: AI_ij = f_i'A⁻¹f_j / 2σ⁶p, f = Bz for σ²g and z for σ²e.
    fn information(&self, h2: f64, total: f64) -> Option<[f64; 3]> {
        let level = self.spectral.level(h2)?;
        let solve = |b: ArrayView1<f64>| level.factor.solve(b.insert_axis(Axis(1))).remove_axis(Axis(1));
        let z = solve(self.eta);
        let bz = self.spectral.band.times(z.view().insert_axis(Axis(1))).remove_axis(Axis(1));
        let (through, solved) = (solve(bz.view()), solve(z.view()));
        let half = 0.5 / total.powi(3);
        Some([half * bz.dot(&through), half * z.dot(&through), half * z.dot(&solved)])
    }
}

/// Mean diagonal element.
pub(super) fn mean_diagonal(a: &Array2<f64>) -> f64 {
    a.diag().sum() / a.nrows() as f64
}

/// Whether eigenvalues, ascending, differ by more than rounding of a matrix of diagonal elements about `size`: where
/// they do not, V is the same up to its scale for every h².
pub(super) fn differ(values: &[f64], size: f64) -> bool {
    differ_by(values, size, SAME)
}

fn differ_by(values: &[f64], size: f64, share: f64) -> bool {
    let (low, high) = (values[0], values[values.len() - 1]);
    high - low > share * size.abs().max(high.abs()).max(low.abs())
}

/// Whether G, (n, n), differs between the animals of a group in another way than that of clones or strangers does:
/// K = S W^½ G_OO W^½ S is no multiple of S.
pub(super) fn identified(g: ArrayView2<f64>, group: &Group) -> bool {
    let mut a = group.weighted_g(g);
    let size = mean_diagonal(&a);
    project_both_sides(&mut a, group.basis());
    let nu = group.degrees_of_freedom() as f64;
    let mean = a.diag().sum() / nu;
    ndarray::linalg::general_mat_mul(mean, &group.basis(), &group.basis().t(), 1.0, &mut a);
    a.diag_mut().mapv_inplace(|x| x - mean);
    let spread = (a.iter().map(|x| x * x).sum::<f64>() / nu).sqrt();
    spread > SAME * size.abs().max(mean.abs())
}

/// h² for a fit: without an estimate nothing is known of animals.
pub(super) fn known(h2: f64) -> f64 {
    if h2.is_nan() {
        0.0
    } else {
        h2
    }
}

pub(super) fn not_finite() -> Error {
    let problem = "the relationships, times the weights, are not all finite numbers";
    Error::failed("variance components", problem, "check the relationship matrix and the weights")
}

pub(super) fn indefinite(h2: f64) -> Error {
    Error::failed(
        "variance components",
        format!("the relationship matrix has negative eigenvalues, too large for h2 = {h2}"),
        "make it with `genialearn grm`, or give a smaller h2",
    )
}

/// S A S with S = I − QQ', in place, `q` (n, rank) orthonormal.
fn project_both_sides(a: &mut Array2<f64>, q: ArrayView2<f64>) {
    let aq = a.dot(&q); // (n, rank)
    let middle = q.t().dot(&aq); // (rank, rank)
                                 // A − QB' − BQ' with B = AQ − Q(Q'AQ)/2
    let b = aq - q.dot(&middle) * 0.5;
    ndarray::linalg::general_mat_mul(-1.0, &q, &b.t(), 1.0, a);
    ndarray::linalg::general_mat_mul(-1.0, &b, &q.t(), 1.0, a);
}

/// A(h²), its factor and the sums over its eigenvalues.
pub(super) struct Level {
    pub(super) h2: f64,
    pub(super) factor: BandFactor,
    logs: f64,   // Σ log s
    d_logs: f64, // its slope in h²
}
