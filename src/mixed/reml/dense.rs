//! The restricted likelihood of one or two traits and any number of random effects, by the inverse of V.

use super::average::{entries, Derivatives, Likelihood};
use super::bivariate::both_records;
use crate::error::{Error, Result};
use crate::linalg::factor::Cholesky;
use crate::mixed::kernel::{add_fixed, project_both_sides, Kernel};
use crate::mixed::Group;
use ndarray::{s, Array1, Array2, Axis};
use std::ops::Range;

/// Records of t traits, one after another, N in all, scaled by their weights, V = Σ_k C_k[a, b] K_k + R.
///
/// With S the projection beside the fixed effects, P = S(SVS + τ(I − S))⁻¹S for any τ > 0, and
/// log|V| + log|Q'V⁻¹Q| = log|SVS + τ(I − S)| − r log τ for an orthonormal basis Q of r fixed effects: so fixed effects
/// count through S alone, and an absorbed class needs no columns.
#[derive(Debug)]
pub(in crate::mixed) struct Dense<'a> {
    kernels: &'a [Kernel<'a>], // (N, N) each: W^½ Z K_k Z' W^½
    groups: Vec<&'a Group>,    // of each trait
    rows: Vec<Range<usize>>,   // of each trait
    both: Vec<(usize, usize)>, // rows of one animal's records of both traits
    y: Array1<f64>,            // (N), projected
    variances: Vec<f64>,       // (t)
    constant: f64,
}

/// SVS + τ(I − S), and τ.
struct Projected {
    v: Array2<f64>,
    tau: f64,
}

impl<'a> Dense<'a> {
    /// The records `columns[k]` of `groups[k]`, one trait each, with the kernels of the same groups.
    pub fn new(kernels: &'a [Kernel<'a>], groups: &[&'a Group], columns: &[usize]) -> Dense<'a> {
        let n: usize = groups.iter().map(|g| g.animals().len()).sum();
        let mut y = Array1::zeros(n);
        let (mut rows, mut variances, mut first) = (Vec::new(), Vec::new(), 0);
        for (group, &column) in groups.iter().zip(columns) {
            let own = first..first + group.animals().len();
            first = own.end;
            let mut records = group.scaled(group.y().slice(s![.., column..=column]));
            group.project(&mut records);
            y.slice_mut(s![own.clone()]).assign(&records.column(0));
            variances.push(records.iter().map(|r| r * r).sum::<f64>() / group.degrees_of_freedom() as f64);
            rows.push(own);
        }
        let constant = groups.iter().map(|g| g.log_design() - g.log_weights()).sum();
        Dense { kernels, groups: groups.to_vec(), both: shared(groups), rows, y, variances, constant }
    }

    /// V, (N, N).
    fn covariance(&self, c: &[Array2<f64>]) -> Array2<f64> {
        let mut v = Array2::zeros((self.y.len(), self.y.len()));
        for (c, kernel) in c.iter().zip(self.kernels).filter(|(c, _)| c.iter().any(|c| *c != 0.0)) {
            kernel.add_to(&mut v, &self.rows, c);
        }
        let residual = &c[self.kernels.len()];
        for (a, rows) in self.rows.iter().enumerate() {
            rows.clone().for_each(|i| v[[i, i]] += residual[[a, a]]);
        }
        for &(i, j) in &self.both {
            v[[i, j]] += residual[[0, 1]];
            v[[j, i]] += residual[[0, 1]];
        }
        v
    }

    /// SVS + τ(I − S) with τ the mean diagonal element of V.
    fn projected(&self, c: &[Array2<f64>]) -> Projected {
        let mut v = self.covariance(c);
        let tau = v.diag().sum() / self.y.len() as f64;
        project_both_sides(&mut v, &self.groups, &self.rows);
        add_fixed(&mut v, tau, &self.groups, &self.rows);
        Projected { v, tau }
    }

    /// Number of fixed effects with the levels of absorbed classes.
    fn fixed(&self) -> usize {
        self.y.len() - self.groups.iter().map(|g| g.degrees_of_freedom()).sum::<usize>()
    }

    /// K_k times `x` with all but the rows of trait `b` set to zero, (N); the residual is the last.
    fn times(&self, effect: usize, x: &Array1<f64>, b: usize) -> Array1<f64> {
        let of = self.rows[b].clone();
        if let Some(kernel) = self.kernels.get(effect) {
            return kernel.times(x, &of);
        }
        let mut out = Array1::zeros(x.len());
        out.slice_mut(s![of.clone()]).assign(&x.slice(s![of.clone()]));
        for &(i, j) in &self.both {
            let (from, to) = if of.contains(&i) { (i, j) } else { (j, i) };
            out[to] = x[from];
        }
        out
    }

    /// Σ P ∘ K_k over the records of traits a and b.
    fn trace(&self, effect: usize, p: &Array2<f64>, (a, b): (usize, usize)) -> f64 {
        match self.kernels.get(effect) {
            Some(kernel) => kernel.trace(p, &self.rows[a], &self.rows[b]),
            None if a == b => self.rows[a].clone().map(|i| p[[i, i]]).sum(),
            None => self.both.iter().map(|&(i, j)| p[[i, j]]).sum(),
        }
    }

    /// P and log|V| + log|Q'V⁻¹Q|.
    fn projection(&self, c: &[Array2<f64>]) -> Option<(Array2<f64>, f64)> {
        let Projected { v, tau } = self.projected(c);
        let factor = Cholesky::new(v).ok()?;
        let logs = factor.log_determinant() - self.fixed() as f64 * tau.ln();
        let mut p = factor.inverse();
        add_fixed(&mut p, -1.0 / tau, &self.groups, &self.rows);
        Some((p, logs))
    }

    /// P y, (N), in the scale of the records, and the restricted log-likelihood.
    ///
    /// # Errors
    /// Where V is not positive definite.
    pub fn solve(&self, c: &[Array2<f64>]) -> Result<(Array1<f64>, f64)> {
        let Projected { v, tau } = self.projected(c);
        let factor = Cholesky::new(v)?;
        let mut py = factor.solve(self.y.view().insert_axis(Axis(1)));
        let quadratic = self.y.dot(&py.column(0));
        if let [group] = self.groups[..] {
            group.project(&mut py);
        }
        let logs = factor.log_determinant() - self.fixed() as f64 * tau.ln();
        let log_likelihood = -0.5 * (logs + quadratic + self.constant);
        if !log_likelihood.is_finite() {
            let advice = "check the records and the weights for numbers that are too large";
            return Err(Error::failed("the mixed model equations", "are not finite numbers", advice));
        }
        Ok((py.remove_axis(Axis(1)), log_likelihood))
    }
}

impl Likelihood for Dense<'_> {
    fn derivatives(&self, c: &[Array2<f64>]) -> Option<Derivatives> {
        let (p, logs) = self.projection(c)?;
        let py = p.dot(&self.y);
        let log_likelihood = -0.5 * (logs + self.y.dot(&py) + self.constant);
        let (t, pairs) = (self.rows.len(), entries(self.rows.len()));
        let mut scores = Vec::new();
        let mut f = Array2::zeros((self.y.len(), pairs.len() * self.effects())); // dV/dθ P y
        for k in 0..self.effects() {
            let products: Vec<Array1<f64>> = (0..t).map(|b| self.times(k, &py, b)).collect();
            let mut score = Array2::zeros((t, t));
            for (column, &(a, b)) in pairs.iter().enumerate() {
                let mut f = f.column_mut(k * pairs.len() + column);
                for (rows, from) in [(a, b), (b, a)] {
                    let rows = s![self.rows[rows].clone()];
                    f.slice_mut(rows).assign(&products[from].slice(rows));
                }
                let of_a = s![self.rows[a].clone()];
                let quadratic = py.slice(of_a).dot(&products[b].slice(of_a));
                let value = 0.5 * (quadratic - self.trace(k, &p, (a, b)));
                (score[[a, b]], score[[b, a]]) = (value, value);
            }
            scores.push(score);
        }
        let information = f.t().dot(&p.dot(&f)) * 0.5;
        log_likelihood.is_finite().then_some(Derivatives { log_likelihood, scores, information })
    }

    fn traits(&self) -> usize {
        self.rows.len()
    }

    fn effects(&self) -> usize {
        self.kernels.len() + 1
    }

    fn animals(&self) -> usize {
        self.y.len() - self.both.len()
    }

    fn variances(&self) -> Vec<f64> {
        self.variances.clone()
    }

    fn sizes(&self) -> Vec<f64> {
        self.kernels.iter().map(Kernel::mean_diagonal).chain([1.0]).collect()
    }
}

/// Rows of the records of animals that have both traits, the second trait's below the first's.
fn shared(groups: &[&Group]) -> Vec<(usize, usize)> {
    let [first, second] = groups else { return Vec::new() };
    let below = first.animals().len();
    both_records(&[first, second]).into_iter().map(|(i, j)| (i, below + j)).collect()
}
