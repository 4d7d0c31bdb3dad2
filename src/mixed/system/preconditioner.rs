//! An approximate inverse of each column's A = a W^½ Z G Z' W^½ + ... + b I, from G ≈ B B' + T.
//!
//! D = W^½ (a Z T Z' + Σ_k s_k diag(Z_k K_k Z_k')) W^½ + b I is diagonal, the sum over the other random effects, and A⁻¹ ≈
//! D⁻¹ − D⁻¹ W^½ Z B (I/a + B'Z'W^½ D⁻¹ W^½ Z B)⁻¹ B'Z'W^½ D⁻¹ (Woodbury 1950). Where D = d I, the eigenvectors of B'Z'WZ B
//! serve all variances of a group of traits; else each set of variances has a small Cholesky factor.

use super::{runs, Columns, Effect, Incidence, Projection};
use crate::error::Result;
use crate::linalg::factor::{Cholesky, Eigen};
use crate::linalg::precondition::LowRank;
use crate::linalg::Rows;
use ndarray::{Array1, Array2, ArrayView2, Axis};

/// The approximate inverses of all columns.
pub struct Preconditioner<'a> {
    low_rank: Option<(&'a LowRank, Option<&'a Incidence>)>, // of the first effect, and Z where it is not I
    diagonals: Vec<Vec<Diagonal>>,                          // of each effect for each group
    grams: Vec<Option<Eigen>>,                              // B'Z'WZ B of each group whose D are constants
    inner: Vec<Inner>,                                      // one a column
    columns: Columns,
}

/// The diagonal of W^½ Z T Z' W^½ of an effect for a group.
enum Diagonal {
    /// Records of one weight differ little: with the mean one small matrix serves all columns.
    Mean(f64),
    /// One of this rank's records each, (N_r).
    Each(Vec<f64>),
}

/// The inverse of I/a + B'Z'W^½ D⁻¹ W^½ Z B, (r, r).
enum Inner {
    /// D = d I: by the eigenvectors of the group.
    OfGroup(f64),
    Own(Cholesky),
    /// That of an earlier column of the same group and variances.
    Same(usize),
    /// None is needed: the effect has no variance.
    Nothing,
}

impl<'a> Preconditioner<'a> {
    /// For the columns of a system. Collective.
    pub fn new(
        low_rank: Option<&'a LowRank>,
        projection: &Projection,
        effects: &'a [Effect<'a>],
        columns: &Columns,
    ) -> Result<Self> {
        let first = effects.first().and_then(Effect::relation_of_animals);
        let low_rank = low_rank.filter(|l| l.rank() > 0).zip(first).map(|(l, (_, animals))| (l, animals));
        let of_effect = |(e, effect): (usize, &Effect)| -> Vec<Diagonal> {
            let diagonal = match low_rank {
                Some((low_rank, animals)) if e == 0 => of_records(animals, low_rank.rest()),
                _ => effect.diagonal(),
            };
            (0..projection.groups().len()).map(|g| Diagonal::of(&diagonal, projection, g)).collect()
        };
        let diagonals = effects.iter().enumerate().map(of_effect).collect();
        let columns = columns.clone();
        let grams = projection.groups().iter().map(|_| None).collect();
        let mut out = Preconditioner { low_rank, diagonals, grams, inner: Vec::new(), columns };
        for k in 0..out.columns.of.len() {
            let inner = out.inner_of(k, projection)?;
            out.inner.push(inner);
        }
        Ok(out)
    }

    /// The small inverse of column `k`. Collective.
    fn inner_of(&mut self, k: usize, projection: &Projection) -> Result<Inner> {
        let (group, share) = (self.columns.of[k], self.columns.shares[[0, k]]);
        let Some((low_rank, animals)) = self.low_rank.filter(|_| share > 0.0) else {
            return Ok(Inner::Nothing);
        };
        let roots = projection.sqrt_weights(group);
        // Σ w / d of each animal's records
        let weights = |d: &dyn Fn(usize) -> f64| -> Vec<f64> {
            let weights = (0..roots.len()).map(|i| roots[i] * roots[i] / d(i)).collect::<Vec<f64>>();
            match animals {
                None => weights,
                Some(animals) => {
                    let column = Array1::from(weights).insert_axis(Axis(1));
                    animals.transposed_times(column.view()).into_raw_vec_and_offset().0
                }
            }
        };
        let world = projection.rows().world();
        if let Some(d) = self.constant(k) {
            if self.grams[group].is_none() {
                self.grams[group] = Some(world.agree(Eigen::new(low_rank.gram(&weights(&|_| 1.0))))?);
            }
            return Ok(Inner::OfGroup(d));
        }
        let Columns { of, shares, residual } = &self.columns;
        let alike =
            |&j: &usize| of[j] == group && residual[j] == residual[k] && shares.column(j) == shares.column(k);
        if let Some(j) = (0..k).find(alike) {
            return Ok(Inner::Same(j));
        }
        let mut small = low_rank.gram(&weights(&|i| self.d(k, i)));
        small.diag_mut().mapv_inplace(|x| x + 1.0 / share);
        Ok(Inner::Own(world.agree(Cholesky::new(small))?))
    }

    /// D of column `k` where it is the same for all records.
    fn constant(&self, k: usize) -> Option<f64> {
        let means = self.diagonals.iter().map(|groups| match &groups[self.columns.of[k]] {
            Diagonal::Mean(mean) => Some(*mean),
            Diagonal::Each(_) => None,
        });
        let means: Vec<f64> = means.collect::<Option<_>>()?;
        let sum: f64 = means.iter().zip(self.columns.shares.column(k)).map(|(m, s)| m * s).sum();
        Some(sum + self.columns.residual[k])
    }

    /// D of column `k` at this rank's record `i`.
    fn d(&self, k: usize, i: usize) -> f64 {
        let of_effect = |groups: &Vec<Diagonal>| match &groups[self.columns.of[k]] {
            Diagonal::Mean(mean) => *mean,
            Diagonal::Each(each) => each[i],
        };
        let shares = self.columns.shares.column(k);
        self.diagonals.iter().map(of_effect).zip(shares).map(|(d, s)| d * s).sum::<f64>()
            + self.columns.residual[k]
    }

    /// Each of `columns` of a block, (N_r, k), times its approximate inverse. Collective.
    pub fn solve(&self, projection: &Projection, columns: &[usize], block: ArrayView2<f64>) -> Array2<f64> {
        let groups: Vec<usize> = columns.iter().map(|&c| self.columns.of[c]).collect();
        let mut out = block.to_owned();
        self.divide(columns, &mut out);
        let Some((low_rank, animals)) = self.low_rank else { return out };
        let weighted = projection.weighted(&groups, out.view());
        let mut along = match animals {
            None => low_rank.inward(weighted.view()),
            Some(animals) => low_rank.inward(animals.transposed_times(weighted.view()).view()),
        };
        drop(weighted);
        for (mut column, &c) in along.columns_mut().into_iter().zip(columns) {
            let inner = match &self.inner[c] {
                Inner::Same(other) => &self.inner[*other],
                own => own,
            };
            match inner {
                Inner::OfGroup(d) => {
                    let gram = self.grams[self.columns.of[c]].as_ref().expect("made before");
                    let mut turned = gram.vectors.dot(&column);
                    let a = self.columns.shares[[0, c]];
                    turned.iter_mut().zip(&gram.values).for_each(|(x, value)| *x /= 1.0 / a + value / d);
                    column.assign(&gram.vectors.t().dot(&turned));
                }
                Inner::Own(factor) => {
                    let solved = factor.solve(column.view().insert_axis(Axis(1)));
                    column.assign(&solved.column(0));
                }
                _ => column.fill(0.0),
            }
        }
        let mut back = low_rank.outward(along.view());
        if let Some(animals) = animals {
            back = animals.times(back.view());
        }
        let mut back = projection.weighted(&groups, back.view());
        self.divide(columns, &mut back);
        Rows::for_each(&mut out, |i, row| row.iter_mut().zip(back.row(i)).for_each(|(x, b)| *x -= b));
        out
    }

    /// D⁻¹ times each column, in place.
    fn divide(&self, columns: &[usize], block: &mut Array2<f64>) {
        let inverse: Vec<Option<f64>> = columns.iter().map(|&c| self.constant(c).map(f64::recip)).collect();
        if let Some(inverse) = inverse.iter().copied().collect::<Option<Vec<f64>>>() {
            Rows::for_each(block, |_, row| row.iter_mut().zip(&inverse).for_each(|(x, d)| *x *= d));
            return;
        }
        let groups: Vec<usize> = columns.iter().map(|&c| self.columns.of[c]).collect();
        let (runs, Columns { shares, residual, .. }) = (runs(&groups), &self.columns);
        let diagonals = &self.diagonals;
        Rows::for_each(block, |i, row| {
            for (group, run) in &runs {
                let of_effect = |groups: &Vec<Diagonal>| match &groups[*group] {
                    Diagonal::Mean(mean) => *mean,
                    Diagonal::Each(each) => each[i],
                };
                for (x, &c) in row[run.clone()].iter_mut().zip(&columns[run.clone()]) {
                    let sum: f64 =
                        diagonals.iter().zip(shares.column(c)).map(|(d, s)| of_effect(d) * s).sum();
                    *x /= sum + residual[c];
                }
            }
        });
    }
}

/// Numbers of the animals, this rank's, as numbers of their records.
fn of_records(animals: Option<&Incidence>, values: &[f64]) -> Vec<f64> {
    match animals {
        None => values.to_vec(),
        Some(animals) => {
            let column = Array1::from(values.to_vec()).insert_axis(Axis(1));
            animals.times(column.view()).into_raw_vec_and_offset().0
        }
    }
}

impl Diagonal {
    /// That of one group from the diagonal of Z T Z', (N_r). Collective.
    fn of(diagonal: &[f64], projection: &Projection, group: usize) -> Diagonal {
        let roots = projection.sqrt_weights(group);
        let of = |i: usize| roots[i] * roots[i] * diagonal[i];
        if !projection.is_even(group) {
            return Diagonal::Each((0..roots.len()).map(of).collect());
        }
        let sum = projection.rows().sums(1, |i, sum| sum[0] += of(i))[0];
        Diagonal::Mean(sum / projection.count(group).max(1) as f64)
    }
}
