//! Genetic and residual covariances between traits, G0 and R0, and their bending to positive definite.

use crate::error::{Error, Result};
use crate::linalg::factor::Eigen;
use crate::records::table::Table;
use ndarray::Array2;
use std::path::Path;

/// Smallest share of a trait's variance that either component keeps.
const LEAST_SHARE: f64 = 1e-3;
/// Smallest eigenvalue of a correlation matrix.
const LEAST_EIGENVALUE: f64 = 1e-3;
/// Eigenvalues that are as much below the least are rounding errors.
const ROUNDING: f64 = 1e-12;

/// G0 and R0 of t traits.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Covariances {
    /// G0, (t, t).
    pub genetic: Array2<f64>,
    /// R0, (t, t); zero where two traits have no animal in common.
    pub residual: Array2<f64>,
}

/// What bending changed: how many variances and eigenvalues were raised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bending {
    /// In G0.
    pub genetic: usize,
    /// In R0.
    pub residual: usize,
}

impl Bending {
    /// Notes in the log what was changed.
    pub fn tell(self) {
        for (name, raised) in [("genetic", self.genetic), ("residual", self.residual)] {
            if raised > 0 {
                log::warn!(
                    "{raised} variances or eigenvalues of the {name} covariances were raised (bending)"
                );
            }
        }
    }
}

impl Covariances {
    /// Reads G0 and R0 of `traits` from a table with the columns `trait1`, `trait2`, `cov_g` and `cov_e`, a line a
    /// pair, such as `reml` writes.
    pub fn read(path: &Path, traits: &[String]) -> Result<Covariances> {
        let table = Table::read_keyed(path, &["pair"], None)?;
        let columns = table.find(&["trait1", "trait2", "cov_g", "cov_e"].map(String::from))?;
        let t = traits.len();
        let (mut genetic, mut residual) = (Array2::from_elem((t, t), f64::NAN), Array2::zeros((t, t)));
        for row in 0..table.ids().len() {
            let place = |column: usize| traits.iter().position(|t| Some(&t[..]) == table.cell(row, column));
            let (Some(a), Some(b)) = (place(columns[0]), place(columns[1])) else { continue };
            let (g, e) = (table.number(row, columns[2])?, table.number(row, columns[3])?);
            for at in [[a, b], [b, a]] {
                genetic[at] = g.unwrap_or(f64::NAN);
                residual[at] = e.unwrap_or(0.0);
            }
        }
        if let Some(((a, b), _)) = genetic.indexed_iter().find(|(_, g)| g.is_nan()) {
            let wanted = format!("the genetic covariance of {} and {}", traits[a], traits[b]);
            let advice = "estimate it with `genialearn reml --method he`";
            return Err(Error::input(path.display(), wanted, "none", advice));
        }
        Ok(Covariances { genetic, residual })
    }

    /// The nearest pair of positive definite matrices in this sense: variances are raised to a thousandth of the
    /// trait's total, and the eigenvalues of the correlations to 0.001, after which the variances are restored
    /// (Jorjani et al. 2003 bend alike).
    pub fn bent(&self) -> Result<(Covariances, Bending)> {
        let totals = self.totals();
        let (genetic, raised_g) = bend(&self.genetic, &totals, LEAST_EIGENVALUE)?;
        let (residual, raised_e) = bend(&self.residual, &totals, LEAST_EIGENVALUE)?;
        Ok((Covariances { genetic, residual }, Bending { genetic: raised_g, residual: raised_e }))
    }

    /// G0 of rank `rank` at most, by the first principal components of the genetic correlations; what they leave is
    /// added to R0, so that the covariances of records stay (as reduced-rank REML would find it: Meyer & Kirkpatrick
    /// 2008). G0 is first bent to semi-definite, R0 at last to positive definite.
    pub fn reduced(&self, rank: usize) -> Result<(Covariances, Bending)> {
        let totals = self.totals();
        let (whole, raised_g) = bend(&self.genetic, &totals, 0.0)?;
        let Eigen { values, vectors } = Eigen::new(correlations(&whole, &whole.diag().to_vec()))?;
        let dropped = values.len().saturating_sub(rank);
        let part = |some: std::ops::Range<usize>| {
            let of = |(i, k): (usize, usize)| {
                let sum: f64 =
                    some.clone().map(|c| values[c].max(0.0) * vectors[[c, i]] * vectors[[c, k]]).sum();
                sum * (whole[[i, i]] * whole[[k, k]]).sqrt()
            };
            Array2::from_shape_fn(whole.dim(), of)
        };
        let genetic = part(dropped..values.len());
        let (residual, raised_e) = bend(&(&self.residual + &part(0..dropped)), &totals, LEAST_EIGENVALUE)?;
        Ok((Covariances { genetic, residual }, Bending { genetic: raised_g, residual: raised_e }))
    }

    /// R0 of records of weight 1, after it was that of records of the traits' mean weights.
    pub fn per_unit_weight(&self, mean_weights: &[f64]) -> Covariances {
        self.scaled(|i, k| mean_weights[i].sqrt() * mean_weights[k].sqrt())
    }

    /// R0 of records of the traits' mean weights, after it was that of records of weight 1.
    pub fn per_mean_weight(&self, mean_weights: &[f64]) -> Covariances {
        self.scaled(|i, k| (mean_weights[i].sqrt() * mean_weights[k].sqrt()).recip())
    }

    fn scaled(&self, factor: impl Fn(usize, usize) -> f64) -> Covariances {
        let of = |(i, k): (usize, usize)| self.residual[[i, k]] * factor(i, k);
        Covariances {
            genetic: self.genetic.clone(),
            residual: Array2::from_shape_fn(self.residual.dim(), of),
        }
    }

    /// Genetic and residual variance of each trait together.
    fn totals(&self) -> Vec<f64> {
        let both = self.genetic.diag().into_iter().zip(self.residual.diag());
        both.map(|(g, e)| g.max(0.0) + e.max(0.0)).collect()
    }
}

/// a_ik / √(v_i v_k), with a diagonal of ones.
fn correlations(a: &Array2<f64>, variances: &[f64]) -> Array2<f64> {
    let of = |(i, k): (usize, usize)| {
        if i == k {
            1.0
        } else {
            a[[i, k]] / (variances[i] * variances[k]).sqrt()
        }
    };
    Array2::from_shape_fn(a.dim(), of)
}

/// A matrix near `a` whose correlations have eigenvalues of at least `least`, and how many variances and eigenvalues
/// had to be raised.
fn bend(a: &Array2<f64>, totals: &[f64], least: f64) -> Result<(Array2<f64>, usize)> {
    let t = a.nrows();
    let variances: Vec<f64> =
        (0..t).map(|k| a[[k, k]].max(LEAST_SHARE * totals[k]).max(f64::MIN_POSITIVE)).collect();
    let mut raised = (0..t).filter(|&k| variances[k] > a[[k, k]]).count();
    let scale = |i: usize, k: usize| (variances[i] * variances[k]).sqrt();
    let Eigen { values, vectors } = Eigen::new(correlations(a, &variances))?;
    raised += values.iter().filter(|&&v| v < least - ROUNDING).count();
    if raised == 0 {
        return Ok((a.clone(), 0));
    }
    let mut weighted = vectors.clone();
    for (mut row, v) in weighted.rows_mut().into_iter().zip(&values) {
        row *= v.max(least);
    }
    let again = vectors.t().dot(&weighted);
    let restored = |(i, k): (usize, usize)| {
        let (i, k) = (i.min(k), i.max(k)); // symmetric to the last bit
        scale(i, k) * again[[i, k]] / (again[[i, i]] * again[[k, k]]).sqrt()
    };
    Ok((Array2::from_shape_fn((t, t), restored), raised))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn positive_definite_matrices_stay_and_others_are_bent_without_changing_variances() {
        let good = array![[2.0, 0.5], [0.5, 1.0]];
        let same = Covariances { genetic: good.clone(), residual: good.clone() };
        assert_eq!(same.bent().unwrap(), (same.clone(), Bending::default()));
        // Correlations 0.9, 0.9 and -0.9 cannot be, and a variance below zero neither.
        let genetic = array![[4.0, 1.8, 1.8], [1.8, 1.0, -0.9], [1.8, -0.9, 1.0]];
        let residual = array![[1.0, 0.0, 0.0], [0.0, -0.5, 0.0], [0.0, 0.0, 3.0]];
        let (bent, bending) = Covariances { genetic: genetic.clone(), residual }.bent().unwrap();
        assert_eq!(bending, Bending { genetic: 1, residual: 1 });
        assert!((&bent.genetic.diag() - &genetic.diag()).iter().all(|d| d.abs() < 1e-12));
        assert_eq!(bent.residual.diag().to_vec(), [1.0, 0.001, 3.0]);
        for m in [&bent.genetic, &bent.residual] {
            assert!(Eigen::new(m.clone()).unwrap().values[0] > 0.0 && *m == m.t());
        }
    }

    #[test]
    fn components_are_those_of_the_correlations_whatever_the_units() {
        let genetic = array![[4.0, 1.8, 0.2], [1.8, 1.0, 0.1], [0.2, 0.1, 2.0]];
        let c = Covariances { genetic, residual: Array2::eye(3) };
        let (two, _) = c.reduced(2).unwrap();
        let values = Eigen::new(two.genetic.clone()).unwrap().values;
        assert!(values[0].abs() < 1e-12 && values[1] > 0.1, "{values:?}");
        assert!((two.genetic[[2, 2]] - 2.0).abs() < 0.1, "the trait on its own has a component");
        let units = array![1000.0, 0.01, 1.0];
        let scaled =
            |a: &Array2<f64>| Array2::from_shape_fn((3, 3), |(i, k)| units[i] * units[k] * a[[i, k]]);
        let other = Covariances { genetic: scaled(&c.genetic), residual: scaled(&c.residual) };
        let (other, _) = other.reduced(2).unwrap();
        let same = |a: &Array2<f64>, b: &Array2<f64>| {
            a.iter().zip(scaled(b)).all(|(a, b)| (a - b).abs() <= 1e-9 * b.abs().max(1e-9))
        };
        assert!(same(&other.genetic, &two.genetic) && same(&other.residual, &two.residual));
    }

    #[test]
    fn tables_are_read_in_any_order_and_gaps_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.tsv");
        let text =
            "pair\ttrait1\ttrait2\tcov_g\tcov_e\nb/a\tb\ta\t0.5\tNA\na/a\ta\ta\t2\t3\nb/b\tb\tb\t1\t4\n";
        std::fs::write(&path, text).unwrap();
        let names = |n: &[&str]| n.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        let c = Covariances::read(&path, &names(&["a", "b"])).unwrap();
        assert_eq!(c.genetic, array![[2.0, 0.5], [0.5, 1.0]]);
        assert_eq!(c.residual, array![[3.0, 0.0], [0.0, 4.0]]);
        let e = Covariances::read(&path, &names(&["a", "c"])).unwrap_err();
        assert!(e.to_string().contains("the genetic covariance of a and c"), "{e}");
    }
}
