//! Traits that share everything but their records: the animals recorded, the fixed effects, the weights.

use crate::error::{Error, Result};
use crate::mixed::{Estimate, Outcome};
use crate::records::Phenotypes;
use crate::stats;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

/// Records are explained by fixed effects where no more than this share of the largest is left: rounding.
const EXPLAINED: f64 = 1e-12;

/// Records of t traits on the same animals, n_o of the n that have genotypes.
#[derive(Debug, Clone)]
pub struct Group {
    animals: Vec<usize>,
    y: Array2<f64>,               // (n_o, t)
    design: Array2<f64>,          // (n_o, q)
    weights: Option<Array1<f64>>, // (n_o), with a mean of 1
    unit: f64,                    // mean of the weights as they were given
    basis: Array2<f64>,           // (n_o, rank): orthonormal, spans the weighted design
    kept: Vec<usize>,             // columns of the design that made the basis
}

impl Group {
    /// `animals` are the rows of G with a record, in the order of the rows of `y` (n_o, t) and of `design`
    /// (n_o, q), whose columns may depend on each other: a column that follows from earlier ones gets the
    /// effect zero. `weights` (n_o) are positive; the residual variance of a record is σ²e / w. The group keeps them
    /// divided by their mean, [`Group::mean_weight`].
    pub fn new(
        animals: Vec<usize>,
        y: Array2<f64>,
        design: Array2<f64>,
        weights: Option<Array1<f64>>,
    ) -> Group {
        let unit = weights.as_ref().and_then(mean).unwrap_or(1.0);
        Self::with_unit(animals, y, design, (weights, unit))
    }

    /// As [`Group::new`] with the mean weight of a larger group.
    fn with_unit(
        animals: Vec<usize>,
        y: Array2<f64>,
        design: Array2<f64>,
        (weights, unit): (Option<Array1<f64>>, f64),
    ) -> Group {
        let n = animals.len();
        assert!(y.nrows() == n && design.nrows() == n, "rows of records and design");
        assert!(weights.as_ref().is_none_or(|w| w.len() == n), "one weight a record");
        let weights = weights.map(|w| w / unit);
        let basis = Array2::zeros((n, 0));
        let mut group = Group { animals, y, design, weights, unit, basis, kept: Vec::new() };
        let scaled = group.scaled(group.design.view());
        (group.basis, group.kept) = stats::orthonormal_columns(scaled.view());
        group
    }

    /// The same with other records, (n_o, t).
    pub fn with_records(&self, y: Array2<f64>) -> Group {
        assert_eq!(y.nrows(), self.animals.len(), "rows of records");
        Group { y, ..self.clone() }
    }

    /// The same with the records of these rows only. The mean weight stays, so that h² means the same.
    pub fn subset(&self, rows: &[usize]) -> Group {
        let animals = rows.iter().map(|&i| self.animals[i]).collect();
        let weights = self.weights.as_ref().map(|w| w.select(Axis(0), rows) * self.unit);
        let (y, design) = (self.y.select(Axis(0), rows), self.design.select(Axis(0), rows));
        Group::with_unit(animals, y, design, (weights, self.unit))
    }

    /// The groups of a table of phenotypes, each with the numbers of its traits.
    pub fn of(phenotypes: &Phenotypes) -> Vec<(Vec<usize>, Group)> {
        Self::among(phenotypes, |_| true)
    }

    /// The same when only the records of the animals that `used` accepts exist: a training fold.
    pub fn among(phenotypes: &Phenotypes, used: impl Fn(usize) -> bool) -> Vec<(Vec<usize>, Group)> {
        let make = |(animals, traits): (Vec<usize>, Vec<usize>)| {
            let animals: Vec<usize> = animals.into_iter().filter(|&i| used(i)).collect();
            let y = phenotypes.y.select(Axis(0), &animals).select(Axis(1), &traits);
            let design = phenotypes.design.select(Axis(0), &animals);
            let weights = phenotypes.weights.as_ref();
            let weights = weights.map(|w| animals.iter().map(|&i| w[[i, traits[0]]]).collect());
            (traits, Group::new(animals, y, design, weights))
        };
        phenotypes.patterns().into_iter().map(make).collect()
    }

    /// Rows of G with a record.
    pub fn animals(&self) -> &[usize] {
        &self.animals
    }

    /// Records, (n_o, t).
    pub fn y(&self) -> ArrayView2<'_, f64> {
        self.y.view()
    }

    /// Fixed effects' values, (n_o, q).
    pub fn design(&self) -> ArrayView2<'_, f64> {
        self.design.view()
    }

    /// Number of traits, t.
    pub fn traits(&self) -> usize {
        self.y.ncols()
    }

    /// Number of fixed effects, q, with those that follow from others.
    pub fn effects(&self) -> usize {
        self.design.ncols()
    }

    /// Records beyond the rank of the design: the degrees of freedom ν of the residuals.
    pub fn freedom(&self) -> usize {
        self.animals.len() - self.kept.len()
    }

    /// An error when the records do not suffice to tell two variances apart.
    pub fn check_freedom(&self) -> Result<()> {
        let (n, freedom) = (self.animals.len(), self.freedom());
        if freedom >= 2 {
            return Ok(());
        }
        Err(Error::input(
            "variance components",
            "at least two records more than fixed effects",
            format!("{n} records and {} effects", n - freedom),
            "add records or leave out covariates",
        ))
    }

    /// Mean of the weights as they were given, 1 without weights. Inside, h² and σ²e are those of a record of this
    /// weight; σ²e of a record of weight 1 is this times larger.
    pub fn mean_weight(&self) -> f64 {
        self.unit
    }

    /// Whether the fixed effects explain all that the records of column `t` have beside their mean, up to rounding.
    pub fn explains(&self, t: usize) -> bool {
        let mut y = self.scaled(self.y.slice(ndarray::s![.., t..=t]));
        let size = y.iter().fold(0.0f64, |a, x| a.max(x.abs()));
        self.project(&mut y);
        let left = y.iter().fold(0.0f64, |a, x| a.max(x.abs()));
        left <= EXPLAINED * size
    }

    /// Estimates of all traits, of which those whose records the fixed effects explain are none.
    pub fn unless_explained(&self, estimates: Vec<Estimate>) -> Vec<Estimate> {
        let of = |(t, estimate)| match self.explains(t) {
            true => Estimate::none(self.animals.len(), Outcome::Explained),
            false => estimate,
        };
        estimates.into_iter().enumerate().map(of).collect()
    }

    /// Σ log w.
    pub fn log_weights(&self) -> f64 {
        self.weights.as_ref().map_or(0.0, |w| w.iter().map(|w| w.ln()).sum())
    }

    /// An orthonormal basis of W^½ times the design, (n_o, rank).
    pub fn basis(&self) -> ArrayView2<'_, f64> {
        self.basis.view()
    }

    /// log |X'WX| of the independent columns X of the design, W the weights.
    pub fn log_design(&self) -> f64 {
        let r = self.triangle();
        2.0 * r.diag().iter().map(|d| d.abs().ln()).sum::<f64>()
    }

    /// 1/w of record `i`, w divided by the mean weight.
    pub fn noise(&self, i: usize) -> f64 {
        self.weights.as_ref().map_or(1.0, |w| 1.0 / w[i])
    }

    /// W^½ times a block of n_o rows.
    pub fn scaled(&self, block: ArrayView2<f64>) -> Array2<f64> {
        let mut out = block.to_owned();
        if let Some(w) = &self.weights {
            out.axis_iter_mut(Axis(0)).zip(w).for_each(|(mut row, w)| row *= w.sqrt());
        }
        out
    }

    /// Takes out of a block of n_o rows what lies along the weighted design: I − QQ'.
    pub fn project(&self, block: &mut Array2<f64>) {
        let along = self.basis.t().dot(block);
        *block -= &self.basis.dot(&along);
    }

    /// G on the recorded animals, scaled: W^½ G_OO W^½, (n_o, n_o).
    pub fn relationships(&self, g: ArrayView2<f64>) -> Array2<f64> {
        let root = |i: usize| self.weights.as_ref().map_or(1.0, |w| w[i].sqrt());
        let roots: Vec<f64> = (0..self.animals.len()).map(root).collect();
        let mut out = Array2::zeros((self.animals.len(), self.animals.len()));
        for ((i, &a), mut row) in self.animals.iter().enumerate().zip(out.rows_mut()) {
            let from = g.row(a);
            for ((x, &b), root) in row.iter_mut().zip(&self.animals).zip(&roots) {
                *x = roots[i] * root * from[b];
            }
        }
        out
    }

    /// The effects b, (q), of fitted values Wb, (n_o), that lie along the design.
    pub fn effects_of(&self, fitted: ArrayView1<f64>) -> Array1<f64> {
        let mut right = self.basis.t().dot(&self.scaled(fitted.insert_axis(Axis(1)))).remove_axis(Axis(1));
        let r = self.triangle();
        for j in (0..self.kept.len()).rev() {
            right[j] /= r[[j, j]];
            let b = right[j];
            (0..j).for_each(|i| right[i] -= r[[i, j]] * b);
        }
        let mut effects = Array1::zeros(self.design.ncols());
        self.kept.iter().zip(&right).for_each(|(&j, &b)| effects[j] = b);
        effects
    }

    /// R of the QR decomposition of the independent weighted columns, (rank, rank), upper triangular.
    fn triangle(&self) -> Array2<f64> {
        let kept = self.design.select(Axis(1), &self.kept);
        self.basis.t().dot(&self.scaled(kept.view()))
    }
}

/// The mean of positive weights, which may be as large as an f64 allows; nothing without records.
fn mean(weights: &Array1<f64>) -> Option<f64> {
    let largest = weights.iter().copied().fold(0.0, f64::max);
    (largest > 0.0).then(|| weights.iter().map(|w| w / largest).sum::<f64>() / weights.len() as f64 * largest)
}
