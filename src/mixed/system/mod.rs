//! The mixed model's systems of all traits: S A S x = S W^½ y with A = h² W^½ G W^½ + (1 − h²) I in scaled records.
//!
//! S = I − QQ' takes out the (weighted) fixed effects of a group of traits ([`Projection`]). Solving S A S x = S y gives
//! P y at once: one column a trait, none for the fixed effects. Blocks are rows of animals shared out over ranks, (n_r,
//! k), zero outside each trait's records.

mod preconditioner;
mod projection;

pub use self::projection::{runs, Projection};

use self::preconditioner::Preconditioner;
use crate::error::Result;
use crate::linalg::pcg::Systems;
use crate::linalg::precondition::LowRank;
use crate::linalg::{Operator, Rows};
use crate::mixed::reml::Given;
use crate::mixed::Group;
use ndarray::{s, Array2, ArrayView2, Axis};

/// Columns multiplied at once where there may be many: bounds the memory to this many vectors.
pub const WIDTH: usize = 256;

/// G beside the fixed effects of groups of traits: K = S W^½ G W^½ S.
pub struct ProjectedG<'a> {
    /// G.
    pub operator: &'a dyn Operator,
    /// The groups' records.
    pub projection: Projection<'a>,
}

impl<'a> ProjectedG<'a> {
    /// G and the groups that share it.
    pub fn new(operator: &'a dyn Operator, groups: &'a [&'a Group]) -> Self {
        ProjectedG { operator, projection: Projection::new(operator.row_layout(), groups) }
    }

    /// K v of each column, which belongs to the group `of` and lies within S already, (n_r, k). Collective.
    pub fn times(&self, of: &[usize], block: ArrayView2<f64>) -> Array2<f64> {
        let inner = self.projection.weighted(of, block);
        let product = self.operator.apply(inner.view());
        let mut out = self.projection.weighted(of, product.view());
        self.projection.project(of, &mut out);
        out
    }

    /// S z of one group for a block z, (n_r, k). Collective.
    pub fn probes(&self, group: usize, z: ArrayView2<f64>) -> Array2<f64> {
        let (of, mut out) = (vec![group; z.ncols()], z.to_owned());
        self.projection.mask(&of, &mut out);
        self.projection.project(&of, &mut out);
        out
    }

    /// For every pair of groups tr(S_a W_a^½ G W_b^½ S_b), (groups, groups), which is tr K on the diagonal; exact.
    /// With `pairs` false only the diagonal is filled. Collective.
    pub fn traces(&self, pairs: bool) -> Array2<f64> {
        let (rows, count) = (self.projection.rows(), self.projection.groups().len());
        let diagonal = self.operator.diagonal();
        let bases: Vec<Array2<f64>> = (0..count).map(|g| self.projection.basis(g)).collect();
        let roots = |g: usize| self.projection.sqrt_weights(g);
        let mut out = Array2::zeros((count, count));
        for (a, along) in self.along(&bases) {
            for b in (0..count).filter(|&b| pairs || a == b) {
                // W_b^½ G W_a^½ Q_a on the animals of b
                let there = rows_times(&along, roots(b));
                let own: f64 = rows.dots(bases[a].view(), there.view()).into_iter().sum();
                out[[a, b]] -= own;
                out[[b, a]] -= own;
                if a <= b {
                    let both = rows.cross(bases[b].view(), there.view(), None)
                        * rows.cross(bases[b].view(), bases[a].view(), None);
                    let (of_a, of_b) = (roots(a), roots(b));
                    let weights = |i: usize| diagonal[i] * of_a[i] * of_b[i];
                    let sum = both.sum() + rows.sums(1, |i, sum| sum[0] += weights(i))[0];
                    out[[a, b]] += sum;
                    if a < b {
                        out[[b, a]] += sum;
                    }
                }
            }
        }
        out
    }

    /// Mean diagonal element of W^½ G_OO W^½ of every group. Collective.
    pub fn sizes(&self) -> Vec<f64> {
        let diagonal = self.operator.diagonal();
        let of = |g: usize| {
            let roots = self.projection.sqrt_weights(g);
            let sum = self.projection.rows().sums(1, |i, sum| sum[0] += diagonal[i] * roots[i] * roots[i])[0];
            sum / self.projection.count(g) as f64
        };
        (0..self.projection.groups().len()).map(of).collect()
    }

    /// G W^½ Q of every group, (n_r, rank), several groups in one product.
    fn along<'b>(&'b self, bases: &'b [Array2<f64>]) -> impl Iterator<Item = (usize, Array2<f64>)> + 'b {
        let ranks: Vec<usize> = bases.iter().map(|b| b.ncols()).collect();
        batches(&ranks).into_iter().flat_map(move |some| {
            let scaled: Vec<Array2<f64>> =
                some.clone().map(|a| rows_times(&bases[a], self.projection.sqrt_weights(a))).collect();
            let views: Vec<ArrayView2<f64>> = scaled.iter().map(|b| b.view()).collect();
            let all = ndarray::concatenate(Axis(1), &views).expect("blocks of n rows");
            let product = self.operator.apply(all.as_standard_layout().view());
            let mut first = 0;
            let cut: Vec<(usize, Array2<f64>)> = some
                .map(|a| {
                    let columns = first..first + ranks[a];
                    first = columns.end;
                    (a, product.slice(s![.., columns]).to_owned())
                })
                .collect();
            cut
        })
    }
}

/// The systems of all traits of all groups at given h².
pub struct MixedSystem<'a> {
    g: ProjectedG<'a>,
    of: Vec<usize>,     // group of every column
    genetic: Vec<f64>,  // h² of every column
    residual: Vec<f64>, // 1 − h²
    preconditioner: Preconditioner<'a>,
}

impl<'a> MixedSystem<'a> {
    /// The columns are the traits group after group; `low_rank` is nearly G. Collective.
    pub fn new(
        operator: &'a dyn Operator,
        groups: &'a [&'a Group],
        given: &[Vec<Given>],
        low_rank: &'a LowRank,
    ) -> Result<Self> {
        let of = given.iter().enumerate().flat_map(|(g, given)| vec![g; given.len()]).collect();
        let h2 = given.iter().flatten().map(|g| g.h2).collect();
        Self::with_columns(operator, groups, (of, h2), low_rank)
    }

    /// Any columns, each of a group and with an h². Collective.
    pub fn with_columns(
        operator: &'a dyn Operator,
        groups: &'a [&'a Group],
        (of, genetic): (Vec<usize>, Vec<f64>),
        low_rank: &'a LowRank,
    ) -> Result<Self> {
        let g = ProjectedG::new(operator, groups);
        let residual: Vec<f64> = genetic.iter().map(|h2| 1.0 - h2).collect();
        let shares: Vec<(f64, f64)> = genetic.iter().copied().zip(residual.iter().copied()).collect();
        let preconditioner = Preconditioner::new(low_rank, &g.projection, &of, &shares)?;
        Ok(MixedSystem { g, of, genetic, residual, preconditioner })
    }

    /// The groups' records.
    pub fn projection(&self) -> &Projection<'a> {
        &self.g.projection
    }

    /// The group of each column.
    pub fn group_of_columns(&self) -> &[usize] {
        &self.of
    }

    /// S W^½ y, (n_r, t). Collective.
    pub fn right_hand_sides(&self) -> Array2<f64> {
        self.g.projection.records_projected()
    }

    /// From the solutions x, (n_r, t), W^½ x. Rows without a record are zero.
    pub fn weighted(&self, x: ArrayView2<f64>) -> Array2<f64> {
        self.g.projection.weighted(&self.of, x)
    }

    /// S A S v by a product with G.
    fn times(
        &self,
        columns: &[usize],
        block: ArrayView2<f64>,
        product: impl Fn(ArrayView2<f64>) -> Array2<f64>,
    ) -> Array2<f64> {
        let of: Vec<usize> = columns.iter().map(|&c| self.of[c]).collect();
        let [genetic, residual] =
            [&self.genetic, &self.residual].map(|all| columns.iter().map(|&c| all[c]).collect::<Vec<f64>>());
        // v lies within the projection already.
        let mut out = product(self.g.projection.weighted(&of, block).view());
        self.g.projection.weigh_and_add(&of, &mut out, (&genetic, &residual), block);
        self.g.projection.project(&of, &mut out);
        out
    }
}

impl Systems for MixedSystem<'_> {
    fn rows(&self) -> &Rows {
        self.g.projection.rows()
    }

    fn apply(&self, columns: &[usize], block: ArrayView2<f64>) -> Array2<f64> {
        self.times(columns, block, |v| self.g.operator.apply(v))
    }

    fn apply_quickly(&self, columns: &[usize], block: ArrayView2<f64>) -> Array2<f64> {
        self.times(columns, block, |v| self.g.operator.apply_quickly(v))
    }

    fn precondition(&self, columns: &[usize], block: ArrayView2<f64>) -> Array2<f64> {
        let mut out = self.preconditioner.solve(&self.g.projection, &self.of, columns, block);
        let of: Vec<usize> = columns.iter().map(|&c| self.of[c]).collect();
        self.g.projection.project(&of, &mut out);
        out
    }
}

/// Consecutive items in batches whose sizes sum to at most [`WIDTH`], or of one larger item.
pub fn batches(sizes: &[usize]) -> Vec<std::ops::Range<usize>> {
    let (mut out, mut first, mut sum) = (Vec::new(), 0, 0);
    for (i, size) in sizes.iter().enumerate() {
        if i > first && sum + size > WIDTH {
            out.push(first..i);
            (first, sum) = (i, 0);
        }
        sum += size;
    }
    if first < sizes.len() {
        out.push(first..sizes.len());
    }
    out
}

/// Each row of a block times a number.
pub fn rows_times(block: &Array2<f64>, factors: &[f64]) -> Array2<f64> {
    let mut out = block.as_standard_layout().into_owned();
    Rows::for_each(&mut out, |i, row| row.iter_mut().for_each(|x| *x *= factors[i]));
    out
}

#[cfg(test)]
mod tests {
    use super::preconditioner::Rest;
    use super::*;
    use crate::mixed::tests::{groups, herd, N};

    /// S W^½ restricted to the animals, (N, N).
    fn narrowing(projection: &Projection, group: usize) -> Array2<f64> {
        let of = vec![group; N];
        let mut all = projection.weighted(&of, Array2::eye(N).view());
        projection.project(&of, &mut all);
        all
    }

    #[test]
    fn products_and_traces_are_those_of_the_matrices() {
        let (g, y) = herd();
        let owned = groups(&y, true);
        let refs: Vec<&Group> = owned.iter().collect();
        let projected = ProjectedG::new(&g, &refs);
        let narrow: Vec<Array2<f64>> = (0..refs.len()).map(|g| narrowing(&projected.projection, g)).collect();
        for (group, narrow) in refs.iter().zip(&narrow) {
            // S W^½ by its definition
            let mut want = Array2::zeros((N, N));
            let q = group.basis();
            for (i, &a) in group.animals().iter().enumerate() {
                for (k, &b) in group.animals().iter().enumerate() {
                    let s = f64::from(u8::from(i == k)) - q.row(i).dot(&q.row(k));
                    want[[a, b]] = s / group.noise(k).sqrt();
                }
            }
            assert!((narrow - &want).iter().all(|d| d.abs() < 1e-12));
        }
        let traces = projected.traces(true);
        for (a, b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let want = narrow[a].dot(&g).dot(&narrow[b].t()).diag().sum();
            assert!((traces[[a, b]] / want - 1.0).abs() < 1e-10, "{a} {b}: {} {want}", traces[[a, b]]);
        }
        assert_eq!(projected.traces(false)[[0, 1]], 0.0);
        let v = projected.projection.records_projected();
        let got = projected.times(&[0, 1, 1], v.view());
        for (k, a) in [0, 1, 1].into_iter().enumerate() {
            let want = narrow[a].dot(&g).dot(&narrow[a].t()).dot(&v.column(k));
            assert!((&got.column(k) - &want).iter().all(|d| d.abs() < 1e-9));
        }
    }

    #[test]
    fn a_preconditioner_inverts_what_it_takes_for_a() {
        let (g, y) = herd();
        for weighted in [false, true] {
            let owned = groups(&y, weighted);
            let refs: Vec<&Group> = owned.iter().collect();
            let low_rank = LowRank::sketch(&g, 25, 1).unwrap();
            let shares = [(0.3, 0.7), (0.3, 0.7), (0.9, 0.1), (0.0, 1.0)];
            let of = [0, 1, 1, 1];
            let projection = Projection::new(g.row_layout(), &refs);
            let preconditioner = Preconditioner::new(&low_rank, &projection, &of, &shares).unwrap();
            let mut v = Array2::from_shape_fn((N, 4), |(i, k)| ((i * 5 + k * 3) % 11) as f64 - 5.0);
            projection.mask(&of, &mut v);
            let found = preconditioner.solve(&projection, &of, &[0, 1, 2, 3], v.view());
            for (k, &(a, b)) in shares.iter().enumerate() {
                let roots = projection.sqrt_weights(of[k]);
                // G as B B' + T has it, T of records of one weight as their mean
                let scaled = &found.column(k) * &ndarray::aview1(roots);
                let low = low_rank.outward(low_rank.inward(scaled.insert_axis(Axis(1)).view()).view());
                let rest = match Rest::of(&low_rank, &projection, of[k]) {
                    Rest::Mean(mean) => vec![mean; N],
                    Rest::Each(rest) => rest,
                };
                let again = &low.column(0) * &ndarray::aview1(roots) * a
                    + &found.column(k) * &(ndarray::Array1::from(rest) * a + b);
                assert!((&again - &v.column(k)).iter().all(|d| d.abs() < 1e-8), "column {k}");
            }
        }
    }

    #[test]
    fn batches_hold_all_in_order() {
        assert_eq!(batches(&[200, 56, 1, 500, 3]), [0..2, 2..3, 3..4, 4..5]);
        assert!(batches(&[]).is_empty());
    }
}
