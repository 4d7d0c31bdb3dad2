//! The restricted likelihood of one or two traits and any number of random effects, by the inverse of V.

use super::average::{entries, Derivatives, Likelihood};
use super::bivariate::both_records;
use crate::linalg::factor::Cholesky;
use crate::mixed::Group;
use ndarray::{s, Array1, Array2, ArrayView2};
use std::ops::Range;

/// Records of t traits, one after another, N in all, scaled by their weights, V = Σ_k C_k[a, b] K_k + R.
#[derive(Debug)]
pub(super) struct Dense<'a> {
    kernels: &'a [Array2<f64>], // (N, N) each: W^½ Z G_k Z' W^½
    rows: Vec<Range<usize>>,    // of each trait
    both: Vec<(usize, usize)>,  // rows of one animal's records of both traits
    basis: Array2<f64>,         // (N, rank): orthonormal, spans the fixed effects of all traits
    y: Array1<f64>,             // (N)
    variances: Vec<f64>,        // (t)
    constant: f64,
}

/// W^½ Z G Z' W^½ of the records of `groups`, one after another, (N, N).
pub(super) fn kernel(g: ArrayView2<f64>, groups: &[&Group]) -> Array2<f64> {
    let records: Vec<(usize, f64)> = groups
        .iter()
        .flat_map(|group| {
            group.animals().iter().enumerate().map(|(i, &a)| (a, group.noise(i).sqrt().recip()))
        })
        .collect();
    let mut out = Array2::zeros((records.len(), records.len()));
    for (mut row, &(a, root)) in out.rows_mut().into_iter().zip(&records) {
        let from = g.row(a);
        row.iter_mut().zip(&records).for_each(|(x, &(b, other))| *x = root * other * from[b]);
    }
    out
}

impl<'a> Dense<'a> {
    /// The records `columns[k]` of `groups[k]`, one trait each, with the kernels of the same groups.
    pub fn new(kernels: &'a [Array2<f64>], groups: &[&Group], columns: &[usize]) -> Dense<'a> {
        let n: usize = groups.iter().map(|g| g.animals().len()).sum();
        let rank: usize = groups.iter().map(|g| g.basis().ncols()).sum();
        let (mut basis, mut y) = (Array2::zeros((n, rank)), Array1::zeros(n));
        let (mut rows, mut variances, mut at) = (Vec::new(), Vec::new(), (0, 0));
        for (group, &column) in groups.iter().zip(columns) {
            let (own, effects) = (at.0..at.0 + group.animals().len(), at.1..at.1 + group.basis().ncols());
            at = (own.end, effects.end);
            basis.slice_mut(s![own.clone(), effects]).assign(&group.basis());
            let mut records = group.scaled(group.y().slice(s![.., column..=column]));
            y.slice_mut(s![own.clone()]).assign(&records.column(0));
            group.project(&mut records);
            variances.push(records.iter().map(|r| r * r).sum::<f64>() / group.freedom() as f64);
            rows.push(own);
        }
        let constant = groups.iter().map(|g| g.log_design() - g.log_weights()).sum();
        Dense { kernels, both: shared(groups), rows, basis, y, variances, constant }
    }

    /// V, (N, N).
    fn covariance(&self, c: &[Array2<f64>]) -> Array2<f64> {
        let mut v = Array2::zeros((self.y.len(), self.y.len()));
        for (c, kernel) in c.iter().zip(self.kernels) {
            for (a, rows) in self.rows.iter().enumerate() {
                for (b, columns) in self.rows.iter().enumerate() {
                    let block = s![rows.clone(), columns.clone()];
                    v.slice_mut(block).scaled_add(c[[a, b]], &kernel.slice(block));
                }
            }
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

    /// K_k times `x` with all but the rows of trait `b` set to zero, (N); the residual is the last.
    fn times(&self, effect: usize, x: &Array1<f64>, b: usize) -> Array1<f64> {
        let of = self.rows[b].clone();
        if let Some(kernel) = self.kernels.get(effect) {
            return kernel.slice(s![.., of.clone()]).dot(&x.slice(s![of]));
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
        let block = s![self.rows[a].clone(), self.rows[b].clone()];
        match self.kernels.get(effect) {
            Some(kernel) => {
                let (p, kernel) = (p.slice(block), kernel.slice(block));
                p.rows().into_iter().zip(kernel.rows()).map(|(p, k)| p.dot(&k)).sum()
            }
            None if a == b => self.rows[a].clone().map(|i| p[[i, i]]).sum(),
            None => self.both.iter().map(|&(i, j)| p[[i, j]]).sum(),
        }
    }

    /// P = V⁻¹ − V⁻¹X(X'V⁻¹X)⁻¹X'V⁻¹ and log |V| + log |X'V⁻¹X| for the orthonormal X.
    fn projection(&self, c: &[Array2<f64>]) -> Option<(Array2<f64>, f64)> {
        let factor = Cholesky::new(self.covariance(c)).ok()?;
        let mut logs = factor.log_determinant();
        let mut p = factor.inverse();
        if self.basis.ncols() > 0 {
            let along = p.dot(&self.basis); // V⁻¹X
            let middle = Cholesky::new(self.basis.t().dot(&along)).ok()?;
            logs += middle.log_determinant();
            let solved = middle.solve(along.t()); // (X'V⁻¹X)⁻¹X'V⁻¹
            ndarray::linalg::general_mat_mul(-1.0, &along, &solved, 1.0, &mut p);
        }
        Some((p, logs))
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
        let mean = |k: &Array2<f64>| k.diag().sum() / k.nrows() as f64;
        self.kernels.iter().map(mean).chain([1.0]).collect()
    }
}

/// Rows of the records of animals that have both traits, the second trait's below the first's.
fn shared(groups: &[&Group]) -> Vec<(usize, usize)> {
    let [first, second] = groups else { return Vec::new() };
    let below = first.animals().len();
    both_records(&[first, second]).into_iter().map(|(i, j)| (i, below + j)).collect()
}
