//! Exact restricted maximum likelihood with the eigenvectors over a grid of ranks.
//!
//! The eigenvalues θ and eigenvectors U of S W^½GW^½ S, without those along the (weighted) fixed effects, which S
//! takes out, turn the records into η = U'W^½y with variances σ²p s(h²), s = h² θ + (1 − h²), and
//!
//! −2 log L = ν log σ²p + Σ log s + Σ η²/(σ²p s) + log |X'WX| − Σ log w.
//!
//! U stays in blocks over the ranks; θ and η are small, and every rank searches the likelihood on its own copy.

use super::profile::{h2_at, highest, points, standard_errors, Point, EDGE};
use super::spectral::{differ, indefinite, known, not_finite, IMPOSSIBLE};
use super::{Estimate, Given, Outcome};
use crate::error::Result;
use crate::linalg::matrix::DistMatrix;
use crate::linalg::scalapack::Eigen;
use crate::mixed::Group;
use ndarray::{s, Array2, ArrayView1, ArrayView2};
use std::cell::Cell;

/// The eigenvalues and eigenvectors of one group of traits.
#[derive(Debug)]
pub struct GridSpectral<'a> {
    group: &'a Group,
    values: Vec<f64>,    // θ, (ν)
    vectors: DistMatrix, // (n_o, n_o), the last ν columns are U
    range: f64,          // h² beyond this share of its range would make V indefinite; 1 for a proper G
    constant: f64,       // log |X'WX| − Σ log w
    identified: bool,    // whether the eigenvalues differ
}

impl<'a> GridSpectral<'a> {
    /// Decomposes the scaled relationships W^½ G_OO W^½, (n_o, n_o), of a group. To be called by all ranks.
    pub fn new(mut a: DistMatrix, group: &'a Group) -> Result<GridSpectral<'a>> {
        group.check_freedom()?;
        let fixed = group.animals().len() - group.freedom();
        let trace: f64 = a.diagonal().iter().sum();
        if !trace.is_finite() {
            return Err(not_finite());
        }
        let shift = trace.abs() / a.nrows() as f64 + f64::MIN_POSITIVE;
        // S (G + shift I) S: the eigenvalues along the fixed effects are 0, all others at least `shift`
        // (Kang et al. 2008), so that the two kinds cannot be confused.
        project_both_sides(&mut a, group.basis(), shift);
        let Eigen { values, vectors } = Eigen::new(a)?;
        let values: Vec<f64> = values[fixed..].iter().map(|v| v - shift).collect();
        // V is positive definite for h² < 1 / (1 − θ) at the smallest θ < 0.
        let range = ((1.0 - 1e-6) / (1.0 - values[0].min(0.0)) / h2_at(points(EDGE) - 1)).min(1.0);
        let constant = group.log_design() - group.log_weights();
        let identified = differ(&values, shift);
        Ok(GridSpectral { group, values, vectors, range, constant, identified })
    }

    /// η of all traits, (ν, t). To be called by all ranks.
    pub fn rotate(&self) -> Array2<f64> {
        let all = self.vectors.transposed_times(self.group.scaled(self.group.y()).view());
        all.slice_move(s![all_but(&self.values, self.vectors.ncols()).., ..])
    }

    /// x = P(h²) y of all traits, (n_o, t), for rotated records `eta` (ν, t) and one h² a trait. To be called by
    /// all ranks.
    pub fn solve(&self, eta: &Array2<f64>, h2: &[f64]) -> Result<Array2<f64>> {
        let h2: Vec<f64> = h2.iter().map(|&h2| known(h2)).collect();
        if let Some(&h2) = h2.iter().find(|&&h2| !self.is_positive(h2)) {
            return Err(indefinite(h2));
        }
        let n = self.vectors.ncols();
        let mut spread = Array2::zeros((n, eta.ncols()));
        let mut free = spread.slice_mut(s![all_but(&self.values, n).., ..]);
        free.assign(eta);
        for (mut row, &theta) in free.rows_mut().into_iter().zip(&self.values) {
            row.iter_mut().zip(&h2).for_each(|(x, &h)| *x /= h * theta + 1.0 - h);
        }
        Ok(self.group.scaled(self.vectors.times(spread.view()).view()))
    }

    /// The restricted maximum likelihood estimate for one column of rotated records.
    pub fn estimate(&self, eta: ArrayView1<f64>) -> Estimate {
        if !self.identified {
            return Estimate::none(self.group.animals().len(), Outcome::Unidentified);
        }
        let squares: Vec<f64> = eta.iter().map(|e| e * e).collect();
        let grid: Vec<(f64, Point)> = (0..points(EDGE))
            .map(|k| self.range * h2_at(k))
            .map(|h2| (h2, self.point(&squares, h2, None)))
            .collect();
        let evaluations = Cell::new(grid.len());
        let search = highest(&grid, |h2| {
            evaluations.set(evaluations.get() + 1);
            self.point(&squares, h2, None)
        });
        let (total, h2) = (search.at.total, search.h2);
        let (var_g, var_e) = (h2 * total, (1.0 - h2) * total);
        let [var_g_se, var_e_se, h2_se] = standard_errors(&self.values, &squares, var_g, var_e);
        let log_likelihood = search.at.log_likelihood;
        let given = Estimate::given(self.group.animals().len(), h2, total, log_likelihood);
        let (iterations, outcome) = (evaluations.get(), search.outcome);
        Estimate { var_g_se, var_e_se, h2_se, iterations, outcome, ..given }
            .per_unit_weight(self.group.mean_weight())
    }

    /// The likelihood at given variances.
    pub fn given(&self, eta: ArrayView1<f64>, given: Given) -> Estimate {
        let squares: Vec<f64> = eta.iter().map(|e| e * e).collect();
        let at = self.point(&squares, given.h2, given.total);
        Estimate::given(self.group.animals().len(), given.h2, at.total, at.log_likelihood)
            .per_unit_weight(self.group.mean_weight())
    }

    /// Whether V is positive definite.
    fn is_positive(&self, h2: f64) -> bool {
        h2 * self.values[0] + 1.0 - h2 > 0.0
    }

    /// The profile at one h²; `total` is σ²p where it is known, otherwise the best one.
    fn point(&self, squares: &[f64], h2: f64, total: Option<f64>) -> Point {
        if !self.is_positive(h2) {
            return IMPOSSIBLE;
        }
        let nu = self.values.len() as f64;
        let (mut quadratic, mut logs, mut d_quadratic, mut d_logs) = (0.0, 0.0, 0.0, 0.0);
        for (&theta, &square) in self.values.iter().zip(squares) {
            let s = h2 * theta + 1.0 - h2;
            let ratio = (theta - 1.0) / s;
            quadratic += square / s;
            d_quadratic -= square / s * ratio;
            logs += s.ln();
            d_logs += ratio;
        }
        let total = total.unwrap_or(quadratic / nu);
        let twice = nu * total.ln() + logs + quadratic / total + self.constant;
        Point { log_likelihood: -0.5 * twice, total, slope: -0.5 * (d_logs + d_quadratic / total) }
    }
}

/// How many of n eigenvectors lie along the fixed effects.
fn all_but(values: &[f64], n: usize) -> usize {
    n - values.len()
}

/// S (A + shift I) S with S = I − QQ', in place, `q` (n, rank) orthonormal.
fn project_both_sides(a: &mut DistMatrix, q: ArrayView2<f64>, shift: f64) {
    a.scale_and_shift(1.0, shift);
    let aq = a.times(q); // (n, rank)
    let middle = q.t().dot(&aq); // (rank, rank)
    let b = aq - q.dot(&middle) * 0.5;
    // A − QB' − BQ' with B = AQ − Q(Q'AQ)/2
    a.for_each_tile(|tile, mut values| {
        let (rows, columns) = (tile.rows.clone(), tile.columns.clone());
        let of = |x: ArrayView2<f64>| {
            [x.slice(s![rows.clone(), ..]).to_owned(), x.slice(s![columns.clone(), ..]).to_owned()]
        };
        let ([q_rows, q_columns], [b_rows, b_columns]) = (of(q), of(b.view()));
        ndarray::linalg::general_mat_mul(-1.0, &q_rows, &b_columns.t(), 1.0, &mut values);
        ndarray::linalg::general_mat_mul(-1.0, &b_rows, &q_columns.t(), 1.0, &mut values);
    });
}
