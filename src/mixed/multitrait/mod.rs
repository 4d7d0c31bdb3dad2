//! All traits in one model: y = Wb + u + e with cov(u) = G0 ⊗ G and cov(e) = R0 within animals, records masked.
//!
//! With X (n, t) zero where there is no record and G0 = L L', L (t, K), V maps X to mask∘(G X L L' + X R0) (in records
//! scaled by √w, as everywhere). One system over all traits, S V S x = S y with the fixed effects of each trait
//! projected out, is solved by conjugate gradients: each iteration multiplies G by K columns, K the rank of G0, as K
//! single traits would. Traits with few records borrow from correlated ones with many.
//!
//! L comes from the transformation T that makes both covariances diagonal, T R0 T' = I and T G0 T' = Λ (Thompson
//! 1977): L = T⁻¹Λ^½ without columns of zeros.

mod patterns;
mod precondition;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::linalg::factor::{Cholesky, Eigen};
use crate::linalg::pcg::{Info, Systems};
use crate::linalg::{self, Operator, Rows};
use crate::mixed::covariances::Covariances;
use crate::mixed::gblup::Fit;
use crate::mixed::solve::{self, CgSettings, Monitor};
use crate::mixed::system::Projection;
use crate::mixed::{Estimate, Group};
use ndarray::{Array1, Array2, ArrayView2, Axis};
use precondition::Preconditioner;

/// Eigenvalues of G0 against R0 below this share of the largest one are rounding errors.
const NEGLIGIBLE: f64 = 1e-10;

/// How equations were solved by conjugate gradients.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct SolveReport {
    /// Columns that G is multiplied by in an iteration: traits, or the rank of G0.
    pub factors: usize,
    /// Rank of the preconditioner's sketch of G.
    pub preconditioner_rank: usize,
    /// Iterations and residuals.
    pub info: Info,
}

/// Fits all traits together; `traits[k]` are the numbers of the traits of group k, `operator` is G, R0 (of records of
/// the mean weight of each trait) positive definite and G0 semi-definite. The traits of the fit are in order. Its `py` is such that SNP effects follow as for
/// single traits. Collective as the operator is.
pub fn fit_joint(
    operator: &dyn Operator,
    (traits, groups): (&[Vec<usize>], &[&Group]),
    covariances: &Covariances,
    settings: &CgSettings,
    monitor: &mut dyn Monitor,
) -> Result<(Fit, SolveReport)> {
    let joint = Joint::new(operator, traits, groups, covariances, settings)?;
    let y = joint.projection.records_projected();
    let (x, info) = solve::monitored(&joint, y.view(), settings.params, monitor)?;
    let residual = info.residuals[0];
    let (factors, rank) = (joint.factor.ncols(), joint.preconditioner.rank());
    log::info!(
        "joint conjugate gradients: {} iterations with {factors} columns, residual {residual:.1e}",
        info.iterations
    );
    if residual.is_nan() || residual > settings.params.tolerance.max(1e-8) {
        return Err(Error::failed(
            "conjugate gradients over all traits",
            format!("stopped at a residual of {residual:.1e} after {} products", info.iterations),
            "allow more with --max-iterations, or check the covariances for correlations near 1",
        ));
    }
    let fit = joint.finish(x);
    Ok((fit, SolveReport { factors, preconditioner_rank: rank, info }))
}

/// V of all traits; the columns of blocks are the traits group after group.
struct Joint<'a> {
    operator: &'a dyn Operator,
    projection: Projection<'a>,
    order: Vec<usize>,   // trait of each column
    of: Vec<usize>,      // group of each column
    own: Vec<f64>,       // diagonal of G0 in the order of the columns
    factor: Array2<f64>, // L, (t, K)
    residual: Array2<f64>,
    roots: Array2<f64>, // (n_r, t), √w of records, zero where there is none
    preconditioner: Preconditioner,
}

impl<'a> Joint<'a> {
    fn new(
        operator: &'a dyn Operator,
        traits: &[Vec<usize>],
        groups: &'a [&'a Group],
        covariances: &Covariances,
        settings: &CgSettings,
    ) -> Result<Self> {
        let projection = Projection::new(operator.row_layout(), groups);
        let (order, of) = (traits.concat(), projection.group_of_traits());
        let sorted = |a: &Array2<f64>| a.select(Axis(0), &order).select(Axis(1), &order);
        let (genetic, residual) = (sorted(&covariances.genetic), sorted(&covariances.residual));
        let shape = (projection.rows().count(), of.len());
        let roots = Array2::from_shape_fn(shape, |(i, k)| projection.sqrt_weights(of[k])[i]);
        let factor = factor(&genetic, &residual)?;
        let preconditioner = Preconditioner::new(operator, &roots, (&factor, &residual), settings)?;
        let own = genetic.diag().to_vec();
        Ok(Joint { operator, projection, order, of, own, factor, residual, roots, preconditioner })
    }

    /// S V S x, (n_r, t), by a product with G.
    fn times(&self, x: ArrayView2<f64>, product: impl Fn(ArrayView2<f64>) -> Array2<f64>) -> Array2<f64> {
        let along = linalg::product((&x * &self.roots).view(), self.factor.view());
        let mut out = linalg::product(product(along.view()).view(), self.factor.t()) * &self.roots;
        out += &linalg::product(x, self.residual.view());
        self.projection.within(&self.of, &mut out);
        out
    }

    /// From x, this rank's rows (n_r, t), to the fitted model.
    fn finish(&self, x: Array2<f64>) -> Fit {
        let (rows, groups) = (self.projection.rows(), self.projection.groups());
        let effects = groups.first().map_or(0, |g| g.effects());
        let factors = linalg::product((&x * &self.roots).view(), self.factor.view());
        let back = |block: Array2<f64>| linalg::product(block.view(), self.factor.t());
        let whole = |own: Array2<f64>| rows.gather(own.view()).into_owned();
        let u = whole(back(self.operator.apply(factors.view())));
        let along = whole(back(factors));
        let e = whole(linalg::product(x.view(), self.residual.view()));
        let roots = rows.gather(self.roots.view());
        let (n, t) = u.dim();
        let mut fit = Fit {
            estimates: Vec::new(),
            fixed: Array2::zeros((effects, t)),
            ebv: Array2::zeros((n, t)),
            py: Array2::zeros((n, t)),
        };
        let mut estimates: Vec<Option<Estimate>> = vec![None; t];
        let mut first = 0;
        for (k, (&number, &g)) in self.order.iter().zip(&self.of).enumerate() {
            let group = groups[g];
            if k > 0 && self.of[k - 1] != g {
                first = k;
            }
            let y = group.y();
            let fitted: Array1<f64> = group
                .animals()
                .iter()
                .enumerate()
                .map(|(i, &a)| y[[i, k - first]] - u[[a, k]] - e[[a, k]] / roots[[a, k]])
                .collect();
            fit.fixed.column_mut(number).assign(&group.effects_of(fitted.view()));
            fit.ebv.column_mut(number).assign(&u.column(k));
            let (own, noise) = (self.own[k], self.residual[[k, k]]);
            if own > 0.0 {
                fit.py.column_mut(number).assign(&(&along.column(k) / own));
            }
            let total = own + noise;
            let estimate = Estimate::given(group.animals().len(), own / total, total, f64::NAN);
            estimates[number] = Some(estimate.per_unit_weight(group.mean_weight()));
        }
        fit.estimates = estimates.into_iter().map(|e| e.expect("every trait has a column")).collect();
        fit
    }
}

/// L of G0 = L L' such that L'R0⁻¹L is diagonal.
fn factor(genetic: &Array2<f64>, residual: &Array2<f64>) -> Result<Array2<f64>> {
    // R0^½ from eigenvalues; the factor of Cholesky only tells whether R0 is positive definite.
    Cholesky::new(residual.clone())?;
    let Eigen { values, vectors } = Eigen::new(residual.clone())?;
    let scaled = |power: f64| {
        let mut rows = vectors.clone();
        rows.rows_mut().into_iter().zip(&values).for_each(|(mut row, v)| row *= v.powf(power));
        rows
    };
    let (root, inverse) = (scaled(0.5), scaled(-0.5));
    let Eigen { values, vectors } = Eigen::new(inverse.dot(genetic).dot(&inverse.t()))?;
    let largest = values.last().copied().unwrap_or(0.0);
    let kept: Vec<usize> =
        (0..values.len()).filter(|&k| values[k] > NEGLIGIBLE * largest || k + 1 == values.len()).collect();
    let mut factor = root.t().dot(&vectors.select(Axis(0), &kept).t());
    factor.columns_mut().into_iter().zip(&kept).for_each(|(mut c, &k)| c *= values[k].max(0.0).sqrt());
    Ok(factor)
}

impl Systems for Joint<'_> {
    fn rows(&self) -> &Rows {
        self.projection.rows()
    }

    fn apply(&self, _: &[usize], x: ArrayView2<f64>) -> Array2<f64> {
        self.times(x, |v| self.operator.apply(v))
    }

    fn apply_quickly(&self, _: &[usize], x: ArrayView2<f64>) -> Array2<f64> {
        self.times(x, |v| self.operator.apply_quickly(v))
    }

    fn precondition(&self, _: &[usize], x: ArrayView2<f64>) -> Array2<f64> {
        let mut out = self.preconditioner.solve(x.to_owned());
        self.projection.within(&self.of, &mut out);
        out
    }

    /// All traits are one system.
    fn combine(&self, sums: Vec<f64>) -> Vec<f64> {
        vec![sums.iter().sum(); sums.len()]
    }
}
