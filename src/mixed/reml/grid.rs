//! Exact restricted maximum likelihood with the eigenvectors over a grid of ranks.
//!
//! The eigenvalues θ and eigenvectors U of S W^½GW^½ S, without those along the (weighted) fixed effects, which S
//! takes out, turn the records into η = U'W^½y with variances σ²p s(h²), s = h² θ + (1 − h²), and
//!
//! −2 log L = ν log σ²p + Σ log s + Σ η²/(σ²p s) + log |X'WX| − Σ log w.
//!
//! U stays in blocks over the ranks; θ and η are small, and every rank searches the likelihood on its own copy.

use super::profile::{self, first_points, information, Profile, Restricted, EDGE};
use super::spectral::{differ, indefinite, known, not_finite};
use super::{Estimate, Given, Outcome};
use crate::error::Result;
use crate::linalg::matrix::DistMatrix;
use crate::linalg::scalapack::Eigen;
use crate::mixed::Group;
use ndarray::{s, Array2, ArrayView1, ArrayView2};

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
        group.check_degrees_of_freedom()?;
        let fixed = group.animals().len() - group.degrees_of_freedom();
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
        let range = profile::range(values[0]);
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
        let trait_ = self.of(eta);
        profile::estimate(&trait_, self.group, &first_points(&trait_, self.range, EDGE))
    }

    /// The likelihood at given variances.
    pub fn given(&self, eta: ArrayView1<f64>, given: Given) -> Estimate {
        profile::given(&self.of(eta), self.group, given)
    }

    /// Whether V is positive definite.
    fn is_positive(&self, h2: f64) -> bool {
        h2 * self.values[0] + 1.0 - h2 > 0.0
    }

    fn of(&self, eta: ArrayView1<f64>) -> Rotated<'_> {
        Rotated { spectral: self, squares: eta.iter().map(|e| e * e).collect() }
    }
}

/// The likelihood of one column of rotated records.
struct Rotated<'a> {
    spectral: &'a GridSpectral<'a>,
    squares: Vec<f64>, // η², (ν)
}

impl Profile for Rotated<'_> {
    fn terms(&self, h2: f64) -> Option<Restricted> {
        if !self.spectral.is_positive(h2) {
            return None;
        }
        let (mut quadratic, mut logs, mut d_quadratic, mut d_logs) = (0.0, 0.0, 0.0, 0.0);
        for (&theta, &square) in self.spectral.values.iter().zip(&self.squares) {
            let s = h2 * theta + 1.0 - h2;
            let ratio = (theta - 1.0) / s;
            quadratic += square / s;
            d_quadratic -= square / s * ratio;
            logs += s.ln();
            d_logs += ratio;
        }
        let (nu, constant) = (self.spectral.values.len() as f64, self.spectral.constant);
        Some(Restricted { nu, constant, logs, d_logs, quadratic, d_quadratic })
    }

    fn information(&self, h2: f64, total: f64) -> Option<[f64; 3]> {
        Some(information(&self.spectral.values, &self.squares, h2, total))
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
