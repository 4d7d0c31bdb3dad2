//! The restricted likelihood of two traits recorded on the same animals, O(n) a step.
//!
//! With T C_e T' = I and T C_g T' = diag(δ) (Thompson & Shaw 1990) the traits T y are independent, each with the
//! covariance δ B + I on the band of [`Spectral`]: two band factors give everything but the traces, which come from
//! the eigenvalues.

use super::average::{entries, Derivatives, Likelihood};
use super::Spectral;
use crate::linalg::band::BandFactor;
use ndarray::{Array1, Array2, Axis};

/// Two traits of one group.
#[derive(Debug)]
pub(super) struct Canonical<'a> {
    spectral: &'a Spectral<'a>,
    eta: Array2<f64>, // (n, 2)
}

/// What makes two traits independent.
struct Axes {
    t: Array2<f64>,           // T, (2, 2)
    delta: [f64; 2],          // δ
    factors: [BandFactor; 2], // of δB + I
    log_residual: f64,        // log |C_e|
}

impl<'a> Canonical<'a> {
    /// The columns of the rotated records of a group, (n, t), for the two `traits`.
    pub fn new(spectral: &'a Spectral<'a>, eta: &Array2<f64>, traits: [usize; 2]) -> Canonical<'a> {
        Canonical { spectral, eta: eta.select(Axis(1), &traits) }
    }

    fn axes(&self, genetic: &Array2<f64>, residual: &Array2<f64>) -> Option<Axes> {
        // C_e = L L'; T = U' L⁻¹ with U the eigenvectors of L⁻¹ C_g L⁻ᵀ.
        let a = residual[[0, 0]].sqrt();
        let b = residual[[0, 1]] / a;
        let d = (residual[[1, 1]] - b * b).sqrt();
        if !(a > 0.0 && d > 0.0) {
            return None;
        }
        let root = ndarray::array![[1.0 / a, 0.0], [-b / (a * d), 1.0 / d]];
        let m = root.dot(genetic).dot(&root.t());
        let angle = 0.5 * (2.0 * m[[0, 1]]).atan2(m[[0, 0]] - m[[1, 1]]);
        let u = ndarray::array![[angle.cos(), angle.sin()], [-angle.sin(), angle.cos()]];
        let t = u.dot(&root);
        let turned = u.dot(&m).dot(&u.t());
        let delta = [turned[[0, 0]].max(0.0), turned[[1, 1]].max(0.0)];
        let factor = |delta: f64| self.spectral.band().factor(delta, 1.0);
        Some(Axes {
            t,
            delta,
            factors: [factor(delta[0])?, factor(delta[1])?],
            log_residual: 2.0 * (a * d).ln(),
        })
    }
}

impl Axes {
    /// V⁻¹ times a block of two columns, (n, 2).
    fn solve(&self, block: &Array2<f64>) -> Array2<f64> {
        let mut turned = block.dot(&self.t.t());
        for (mut column, factor) in turned.columns_mut().into_iter().zip(&self.factors) {
            let solved = factor.solve(column.view().insert_axis(Axis(1)));
            column.assign(&solved.column(0));
        }
        turned.dot(&self.t)
    }

    /// Σ w/(δθ + 1) over the eigenvalues in the traits' own axes, (2, 2).
    fn traces(&self, values: &[f64], weight: impl Fn(f64) -> f64) -> Array2<f64> {
        let sum = |delta: f64| values.iter().map(|&v| weight(v) / (delta * v + 1.0)).sum::<f64>();
        let middle = Array2::from_diag(&Array1::from(vec![sum(self.delta[0]), sum(self.delta[1])]));
        self.t.t().dot(&middle).dot(&self.t)
    }
}

impl Likelihood for Canonical<'_> {
    fn derivatives(&self, c: &[Array2<f64>]) -> Option<Derivatives> {
        let axes = self.axes(&c[0], &c[1])?;
        let values = self.spectral.values();
        let u = axes.solve(&self.eta); // P y
        let bu = self.spectral.band().times(u.view());
        let quadratic = (&self.eta * &u).sum();
        let logs: f64 =
            axes.delta.iter().map(|d| values.iter().map(|v| (d * v + 1.0).ln()).sum::<f64>()).sum();
        let constant = 2.0 * self.spectral.constant() + values.len() as f64 * axes.log_residual;
        let log_likelihood = -0.5 * (logs + quadratic + constant);
        let genetic = (u.t().dot(&bu) - axes.traces(values, |v| v)) * 0.5;
        let residual = (u.t().dot(&u) - axes.traces(values, |_| 1.0)) * 0.5;
        // f = dV/dθ P y and P f for each of six θ.
        let mut f = Vec::new();
        for product in [&bu, &u] {
            for (i, j) in entries(2) {
                let mut block = Array2::zeros(u.dim());
                block.column_mut(i).assign(&product.column(j));
                block.column_mut(j).assign(&product.column(i));
                f.push(block);
            }
        }
        let pf: Vec<Array2<f64>> = f.iter().map(|f| axes.solve(f)).collect();
        let information =
            Array2::from_shape_fn((6, 6), |(a, b)| 0.25 * ((&f[a] * &pf[b]).sum() + (&f[b] * &pf[a]).sum()));
        let scores = vec![genetic, residual];
        log_likelihood.is_finite().then_some(Derivatives { log_likelihood, scores, information })
    }

    fn traits(&self) -> usize {
        2
    }

    fn effects(&self) -> usize {
        2
    }

    fn animals(&self) -> usize {
        self.eta.nrows()
    }

    fn variances(&self) -> Vec<f64> {
        let freedom = self.spectral.values().len() as f64;
        self.eta.columns().into_iter().map(|y| y.dot(&y) / freedom).collect()
    }

    fn sizes(&self) -> Vec<f64> {
        let values = self.spectral.values();
        vec![values.iter().sum::<f64>() / values.len() as f64, 1.0]
    }
}
