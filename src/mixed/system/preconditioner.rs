//! An approximate inverse of each column's A = a W^½ G W^½ + b I, from G ≈ B B' + T.
//!
//! D = a W^½ T W^½ + b I is diagonal, and A⁻¹ ≈ D⁻¹ − D⁻¹ W^½ B (I/a + B'W^½ D⁻¹ W^½ B)⁻¹ B'W^½ D⁻¹ (Woodbury 1950)
//! with a small Cholesky factor for each pair (a, b) of each group of traits.

use super::{runs, Projection};
use crate::error::Result;
use crate::linalg::factor::Cholesky;
use crate::linalg::precondition::LowRank;
use crate::linalg::Rows;
use ndarray::{Array2, ArrayView2, Axis};

/// The approximate inverses of all columns.
pub struct Preconditioner<'a> {
    low_rank: &'a LowRank,
    rest: Vec<Rest>,      // one a group
    systems: Vec<System>, // one a column
}

/// The diagonal of W^½ T W^½ of a group.
pub enum Rest {
    /// Records of one weight differ little in T: with its mean one small matrix serves all columns.
    Mean(f64),
    /// One of this rank's rows each, (n_r).
    Each(Vec<f64>),
}

/// The inverse for one column.
struct System {
    a: f64,
    b: f64,
    inner: Option<Cholesky>, // of I/a + B'W^½ D⁻¹ W^½ B, (r, r)
    same: Option<usize>,     // an earlier column of the same group that has it
}

impl<'a> Preconditioner<'a> {
    /// For columns of the groups `of` with their pairs (a, b). Collective.
    pub fn new(
        low_rank: &'a LowRank,
        projection: &Projection,
        of: &[usize],
        shares: &[(f64, f64)],
    ) -> Result<Self> {
        let groups = 0..projection.groups().len();
        let rest: Vec<Rest> = groups.map(|g| Rest::of(low_rank, projection, g)).collect();
        let mut systems: Vec<System> = Vec::new();
        let mut gram: Option<(usize, Array2<f64>)> = None; // B'WB of a group
        for (k, (&g, &(a, b))) in of.iter().zip(shares).enumerate() {
            let same = (0..k).find(|&other| of[other] == g && shares[other] == (a, b));
            if same.is_some() || a <= 0.0 || low_rank.rank() == 0 {
                systems.push(System { a, b, inner: None, same });
                continue;
            }
            let roots = projection.sqrt_weights(g);
            let mut small = match &rest[g] {
                Rest::Mean(mean) => {
                    let known = gram.take().filter(|(known, _)| *known == g);
                    let (_, gram) = gram.insert(known.unwrap_or_else(|| (g, low_rank.gram(roots))));
                    &*gram / (a * mean + b)
                }
                Rest::Each(rest) => {
                    let weights = roots.iter().zip(rest).map(|(s, t)| s * s / (a * t + b));
                    low_rank.gram(&weights.collect::<Vec<f64>>())
                }
            };
            small.diag_mut().mapv_inplace(|x| x + 1.0 / a);
            let inner = Some(projection.rows().world().agree(Cholesky::new(small))?);
            systems.push(System { a, b, inner, same });
        }
        Ok(Preconditioner { low_rank, rest, systems })
    }

    /// Each of `columns` of a block, (n_r, k), times its approximate inverse. Collective.
    pub fn solve(
        &self,
        projection: &Projection,
        of: &[usize],
        columns: &[usize],
        block: ArrayView2<f64>,
    ) -> Array2<f64> {
        let groups: Vec<usize> = columns.iter().map(|&c| of[c]).collect();
        let mut out = block.to_owned();
        self.divide(&groups, columns, &mut out);
        if self.low_rank.rank() == 0 {
            return out;
        }
        let mut along = self.low_rank.inward(projection.weighted(&groups, out.view()).view());
        for (mut column, &c) in along.columns_mut().into_iter().zip(columns) {
            match &self.systems[self.systems[c].same.unwrap_or(c)].inner {
                Some(inner) => {
                    let solved = inner.solve(column.view().insert_axis(Axis(1)));
                    column.assign(&solved.column(0));
                }
                None => column.fill(0.0),
            }
        }
        let back = self.low_rank.outward(along.view());
        let mut back = projection.weighted(&groups, back.view());
        self.divide(&groups, columns, &mut back);
        Rows::for_each(&mut out, |i, row| row.iter_mut().zip(back.row(i)).for_each(|(x, b)| *x -= b));
        out
    }

    /// D⁻¹ times each column, in place.
    fn divide(&self, groups: &[usize], columns: &[usize], block: &mut Array2<f64>) {
        let (runs, rests, systems) = (runs(groups), &self.rest, &self.systems);
        Rows::for_each(block, |i, row| {
            for (group, run) in &runs {
                let rest = match &rests[*group] {
                    Rest::Mean(mean) => *mean,
                    Rest::Each(rest) => rest[i],
                };
                for (x, &c) in row[run.clone()].iter_mut().zip(&columns[run.clone()]) {
                    *x /= systems[c].a * rest + systems[c].b;
                }
            }
        });
    }
}

impl Rest {
    /// That of one group. Collective.
    pub fn of(low_rank: &LowRank, projection: &Projection, group: usize) -> Rest {
        let roots = projection.sqrt_weights(group);
        let rest = low_rank.rest();
        let of = |i: usize| roots[i] * roots[i] * rest[i];
        if !projection.is_even(group) {
            return Rest::Each((0..roots.len()).map(of).collect());
        }
        let sum = projection.rows().sums(1, |i, sum| sum[0] += of(i))[0];
        Rest::Mean(sum / projection.count(group).max(1) as f64)
    }
}
