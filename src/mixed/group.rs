//! Traits that share everything but their records: the animals recorded, the fixed effects, the weights.

use crate::error::{Error, Result};
use crate::mixed::{Estimate, Outcome};
use crate::records::Factor;
use crate::records::LongRecords;
use crate::records::Phenotypes;
use crate::stats;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

/// Records are explained by fixed effects where no more than this share of the largest is left: rounding.
const EXPLAINED: f64 = 1e-12;

/// Records of t traits in the same n_o rows: those of n_o animals of the n that have genotypes, or lines of which
/// several may belong to one animal.
#[derive(Debug, Clone)]
pub struct Group {
    rows: Vec<usize>,
    animals: Vec<usize>,
    y: Array2<f64>,               // (n_o, t)
    design: Array2<f64>,          // (n_o, q)
    weights: Option<Array1<f64>>, // (n_o), with a mean of 1
    unit: f64,                    // mean of the weights as they were given
    basis: Array2<f64>,           // (n_o, rank): orthonormal, spans the weighted design
    kept: Vec<usize>,             // columns of the design that made the basis
    absorbed: Option<Factor>,     // a fixed class that the design and the basis lack
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
        let (rows, kept) = (animals.clone(), Vec::new());
        Group { rows, animals, y, design, weights, unit, basis, kept, absorbed: None }.with_basis()
    }

    /// The same with the basis of its design.
    fn with_basis(mut self) -> Group {
        let mut scaled = self.scaled(self.design.view());
        if let Some(factor) = &self.absorbed {
            factor.centre(&mut scaled, self.weights.as_ref());
        }
        (self.basis, self.kept) = stats::orthonormal_columns(scaled.view());
        self
    }

    /// The same with a fixed class beside the design, whose levels cost O(n_o) instead of a column each: the
    /// projection takes out their weighted means. `factor` has the level of each of the n_o rows.
    pub fn absorbing(self, factor: Factor) -> Group {
        assert_eq!(factor.level.len(), self.animals.len(), "one level a record");
        Group { absorbed: Some(factor), ..self }.with_basis()
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
        let mut group = Group::with_unit(animals, y, design, (weights, self.unit));
        group.rows = rows.iter().map(|&i| self.rows[i]).collect();
        match &self.absorbed {
            Some(factor) => group.absorbing(factor.select(rows)),
            None => group,
        }
    }

    /// The groups of a table of phenotypes, each with the numbers of its traits.
    pub fn of(phenotypes: &Phenotypes) -> Vec<(Vec<usize>, Group)> {
        Self::among(phenotypes, |_| true)
    }

    /// The groups of records in long format, each with the numbers of its traits: rows are lines.
    pub fn of_lines(long: &LongRecords) -> Vec<(Vec<usize>, Group)> {
        let with_lines = |(traits, mut group): (Vec<usize>, Group)| {
            group.animals = group.rows.iter().map(|&row| long.animal[row]).collect();
            match &long.absorbed {
                Some(factor) => {
                    let factor = factor.select(&group.rows);
                    (traits, group.absorbing(factor))
                }
                None => (traits, group),
            }
        };
        Self::of(&long.records).into_iter().map(with_lines).collect()
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

    /// Rows of the table of records, (n_o): the animals themselves where each has one record.
    pub fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// The animal, a row of G, of each record, (n_o).
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
    pub fn degrees_of_freedom(&self) -> usize {
        let levels = self.absorbed.as_ref().map_or(0, |f| f.counts().iter().filter(|&&n| n > 0).count());
        self.animals.len() - self.kept.len() - levels
    }

    /// The fixed class beside the design.
    pub fn absorbed(&self) -> Option<&Factor> {
        self.absorbed.as_ref()
    }

    /// Σ w of the records in each level of the absorbed class, (L); nothing without one.
    pub fn absorbed_weights(&self) -> Vec<f64> {
        self.absorbed.as_ref().map_or(Vec::new(), |factor| factor.weights(self.weights.as_ref()))
    }

    /// An error when the records do not suffice to tell two variances apart.
    pub fn check_degrees_of_freedom(&self) -> Result<()> {
        let (n, freedom) = (self.animals.len(), self.degrees_of_freedom());
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

    /// Whether the same columns of the design are independent here and there.
    pub fn has_effects_of(&self, other: &Group) -> bool {
        self.effects() == other.effects() && self.kept == other.kept
    }

    /// Whether every row is the record of another animal, rising, without weights and without an absorbed class.
    pub fn is_plain(&self) -> bool {
        let rising = self.animals.windows(2).all(|two| two[0] < two[1]);
        rising && self.weights.is_none() && self.absorbed.is_none()
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

    /// An orthonormal basis of W^½ times the design, (n_o, rank); beside an absorbed class of what that leaves of it.
    pub fn basis(&self) -> ArrayView2<'_, f64> {
        self.basis.view()
    }

    /// log |X'WX| of the independent columns X of the design and of an absorbed class F, W the weights:
    /// log |F'WF| + log |X'W^½ S W^½X|, S the projection beside F.
    pub fn log_design(&self) -> f64 {
        let r = self.triangle();
        let of_class: f64 =
            self.absorbed_weights().iter().filter(|&&sum| sum > 0.0).map(|sum| sum.ln()).sum();
        of_class + 2.0 * r.diag().iter().map(|d| d.abs().ln()).sum::<f64>()
    }

    /// 1/w of record `i`, w divided by the mean weight.
    pub fn inverse_weight(&self, i: usize) -> f64 {
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

    /// Takes out of a block of n_o rows what lies along the weighted fixed effects: S = I − QQ', after the means of an
    /// absorbed class, to which Q is orthogonal.
    pub fn project(&self, block: &mut Array2<f64>) {
        if let Some(factor) = &self.absorbed {
            factor.project(block, self.weights.as_ref());
        }
        let along = self.basis.t().dot(block);
        *block -= &self.basis.dot(&along);
    }

    /// G on the recorded animals, scaled: W^½ G_OO W^½, (n_o, n_o).
    pub fn weighted_g(&self, g: ArrayView2<f64>) -> Array2<f64> {
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

    /// The effects of the absorbed class's levels, (L), from fitted values Wb + Fa, (n_o): the weighted means of what
    /// `effects`, b (q), leave. NaN for levels without a record here.
    pub fn absorbed_effects_of(&self, fitted: ArrayView1<f64>, effects: ArrayView1<f64>) -> Array1<f64> {
        let Some(factor) = &self.absorbed else { return Array1::zeros(0) };
        let left = &fitted - &self.design.dot(&effects);
        let mut sums = Array1::<f64>::zeros(factor.levels.len());
        for (i, &level) in factor.level.iter().enumerate() {
            sums[level] += self.weights.as_ref().map_or(1.0, |w| w[i]) * left[i];
        }
        sums / Array1::from(self.absorbed_weights())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    /// 40 records of 7 herds, a covariate and one that follows from the herds; the same with dummy columns.
    fn both(weighted: bool) -> (Group, Group) {
        let mut s = Stream::new(5, Purpose::Test, 0);
        let herds: Vec<String> = (0..40).map(|i| format!("h{}", (i * i + 3 * i) % 7)).collect();
        let factor = Factor::new("herd", herds.iter().map(String::as_str));
        let ages: Vec<f64> = (0..40).map(|_| 30.0 + s.normal()).collect();
        let y = Array2::from_shape_simple_fn((40, 2), || 8.0 + s.normal());
        let weights = weighted.then(|| Array1::from_shape_fn(40, |i| 0.5 + (i % 4) as f64));
        let of_herd = |i: usize| f64::from(u8::from(factor.level[i] == 2));
        let plain = Array2::from_shape_fn((40, 2), |(i, j)| if j == 0 { of_herd(i) } else { ages[i] });
        let levels = factor.levels.len();
        let dummies = Array2::from_shape_fn((40, levels + 1), |(i, j)| match j {
            0 => ages[i],
            _ => f64::from(u8::from(factor.level[i] == j - 1)),
        });
        let animals: Vec<usize> = (0..40).map(|i| i % 23).collect();
        let absorbed = Group::new(animals.clone(), y.clone(), plain, weights.clone()).absorbing(factor);
        (absorbed, Group::new(animals, y, dummies, weights))
    }

    #[test]
    fn an_absorbed_class_is_its_dummy_columns() {
        for weighted in [false, true] {
            let (absorbed, dense) = both(weighted);
            assert_eq!(absorbed.degrees_of_freedom(), dense.degrees_of_freedom());
            assert!((absorbed.log_design() - dense.log_design()).abs() < 1e-9);
            let (mut a, mut b) = (absorbed.scaled(absorbed.y()), dense.scaled(dense.y()));
            absorbed.project(&mut a);
            dense.project(&mut b);
            assert!((&a - &b).iter().all(|d| d.abs() < 1e-10), "weighted {weighted}");
            // Fitted values W b from what the projection took out.
            let fitted = (&dense.scaled(dense.y()) - &b).column(0).to_owned();
            let fitted = Array1::from_shape_fn(40, |i| fitted[i] * dense.inverse_weight(i).sqrt());
            let (few, all) = (absorbed.effects_of(fitted.view()), dense.effects_of(fitted.view()));
            assert!(few[0] == 0.0 && (few[1] - all[0]).abs() < 1e-9, "{few} {all}");
            let levels = absorbed.absorbed_effects_of(fitted.view(), few.view());
            assert!(
                levels.iter().zip(all.iter().skip(1)).all(|(a, b)| (a - b).abs() < 1e-7),
                "{levels} {all}"
            );
        }
    }

    #[test]
    fn a_part_of_the_records_keeps_its_levels() {
        let (absorbed, dense) = both(true);
        let rows: Vec<usize> = (0..40).filter(|i| i % 3 != 1).collect();
        let (a, b) = (absorbed.subset(&rows), dense.subset(&rows));
        assert_eq!(
            (a.degrees_of_freedom(), a.rows(), a.animals()),
            (b.degrees_of_freedom(), b.rows(), b.animals())
        );
        assert!((a.log_design() - b.log_design()).abs() < 1e-9);
    }
}
