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

use crate::comm::World;
use crate::error::{Error, Result};
use crate::linalg::factor::{Cholesky, Eigen};
use crate::linalg::pcg::{Info, Systems};
use crate::linalg::Operator;
use crate::mixed::covariances::Covariances;
use crate::mixed::gblup::Fit;
use crate::mixed::projected::{roots, Projected};
use crate::mixed::solve::{self, Plan, Watcher};
use crate::mixed::{Estimate, Group};
use ndarray::{Array1, Array2, ArrayView2, Axis};
use precondition::Preconditioner;

/// Eigenvalues of G0 against R0 below this share of the largest one are rounding errors.
const NEGLIGIBLE: f64 = 1e-10;

/// How the model of all traits was solved.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Course {
    /// Columns that G is multiplied by in an iteration: the rank of G0.
    pub factors: usize,
    /// Rank of the preconditioner's sketch of G.
    pub preconditioner_rank: usize,
    /// Conjugate gradients over all traits in one column.
    pub info: Info,
}

/// Fits all traits together; `traits[k]` are the numbers of the traits of group k, `operator` is G, R0 (of records of
/// the mean weight of each trait) positive definite and G0 semi-definite. The traits of the fit are in order. Its `py` is such that SNP effects follow as for
/// single traits. Collective as the operator is.
pub fn fit_joint(
    operator: &dyn Operator,
    (traits, groups): (&[Vec<usize>], &[&Group]),
    covariances: &Covariances,
    plan: &Plan,
    watcher: &mut dyn Watcher,
) -> Result<(Fit, Course)> {
    let joint = Joint::new(operator, traits, groups, covariances, plan)?;
    let y = joint.projected.records();
    let shape = y.dim();
    let flat = flattened(y);
    let (x, info) = solve::watched(&joint, flat.view(), plan.params, watcher)?;
    let residual = info.residuals[0];
    let (factors, rank) = (joint.factor.ncols(), joint.preconditioner.rank());
    log::info!(
        "joint conjugate gradients: {} iterations with {factors} columns, residual {residual:.1e}",
        info.iterations
    );
    if residual.is_nan() || residual > plan.params.tolerance.max(1e-8) {
        return Err(Error::failed(
            "conjugate gradients over all traits",
            format!("stopped at a residual of {residual:.1e} after {} products", info.iterations),
            "allow more with --max-iterations, or check the covariances for correlations near 1",
        ));
    }
    let fit = joint.finish(x.into_shape_with_order(shape).expect("one column of all"));
    Ok((fit, Course { factors, preconditioner_rank: rank, info }))
}

/// V of all traits; the columns of blocks are the traits group after group.
struct Joint<'a> {
    projected: Projected<'a>,
    order: Vec<usize>,   // trait of each column
    of: Vec<usize>,      // group of each column
    own: Vec<f64>,       // diagonal of G0 in the order of the columns
    factor: Array2<f64>, // L, (t, K)
    residual: Array2<f64>,
    roots: Array2<f64>, // (n, t), √w of records, zero where there is none
    preconditioner: Preconditioner,
}

impl<'a> Joint<'a> {
    fn new(
        operator: &'a dyn Operator,
        traits: &[Vec<usize>],
        groups: &'a [&'a Group],
        covariances: &Covariances,
        plan: &Plan,
    ) -> Result<Self> {
        let n = operator.dimension();
        let order: Vec<usize> = traits.concat();
        let of: Vec<usize> = traits.iter().enumerate().flat_map(|(g, t)| vec![g; t.len()]).collect();
        let sorted = |a: &Array2<f64>| a.select(Axis(0), &order).select(Axis(1), &order);
        let (genetic, residual) = (sorted(&covariances.genetic), sorted(&covariances.residual));
        let of_group: Vec<Vec<f64>> = groups.iter().map(|g| roots(n, g)).collect();
        let roots = Array2::from_shape_fn((n, of.len()), |(i, k)| of_group[of[k]][i]);
        let factor = factor(&genetic, &residual)?;
        let preconditioner = Preconditioner::new(operator, &roots, (&factor, &residual), plan)?;
        let (own, projected) = (genetic.diag().to_vec(), Projected { operator, groups });
        Ok(Joint { projected, order, of, own, factor, residual, roots, preconditioner })
    }

    fn block(&self, flat: ArrayView2<f64>) -> Array2<f64> {
        let shape = self.roots.dim();
        Array2::from_shape_vec(shape, flat.iter().copied().collect()).expect("all animals and traits")
    }

    /// S V S x by a product with G.
    fn times(&self, flat: ArrayView2<f64>, product: impl Fn(ArrayView2<f64>) -> Array2<f64>) -> Array2<f64> {
        let x = self.block(flat);
        let along = (&x * &self.roots).dot(&self.factor);
        let mut out = product(along.view()).dot(&self.factor.t()) * &self.roots;
        out += &x.dot(&self.residual);
        self.projected.within(&self.of, &mut out);
        flattened(out)
    }

    /// From x = S y-scaled solutions to the fitted model.
    fn finish(&self, x: Array2<f64>) -> Fit {
        let (n, t) = x.dim();
        let groups = self.projected.groups;
        let effects = groups.first().map_or(0, |g| g.effects());
        let factors = (&x * &self.roots).dot(&self.factor);
        let u = self.projected.operator.apply(factors.view()).dot(&self.factor.t());
        let along = factors.dot(&self.factor.t());
        let e = x.dot(&self.residual);
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
                .map(|(i, &a)| y[[i, k - first]] - u[[a, k]] - e[[a, k]] / self.roots[[a, k]])
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
    fn apply(&self, _: &[usize], flat: ArrayView2<f64>) -> Array2<f64> {
        self.times(flat, |v| self.projected.operator.apply(v))
    }

    fn apply_quickly(&self, _: &[usize], flat: ArrayView2<f64>) -> Array2<f64> {
        self.times(flat, |v| self.projected.operator.apply_quickly(v))
    }

    fn world(&self) -> World {
        self.projected.operator.world()
    }

    fn precondition(&self, _: &[usize], flat: ArrayView2<f64>) -> Array2<f64> {
        let mut out = self.preconditioner.solve(self.block(flat));
        self.projected.within(&self.of, &mut out);
        flattened(out)
    }
}

/// A block as one column.
fn flattened(block: Array2<f64>) -> Array2<f64> {
    let size = block.len();
    block.as_standard_layout().into_owned().into_shape_with_order((size, 1)).expect("standard layout")
}
