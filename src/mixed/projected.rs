//! The relationships as REML sees them, K = S W^½ G_OO W^½ S, for many groups in one block of columns.
//!
//! S = I − QQ' takes out the (weighted) fixed effects of a group, W are its weights, O its recorded animals. Blocks
//! have one row for each of all n animals, zero outside the group's own.

use crate::linalg::Operator;
use crate::mixed::Group;
use ndarray::{s, Array2, ArrayView2, ArrayViewMut2, Axis};

/// Columns multiplied at once where there may be many: bounds the memory to this many vectors.
pub const WIDTH: usize = 256;

/// G and the groups that share it.
#[derive(Clone, Copy)]
pub struct Projected<'a> {
    /// G.
    pub operator: &'a dyn Operator,
    /// Traits with their recorded animals, weights and fixed effects.
    pub groups: &'a [&'a Group],
}

impl Projected<'_> {
    /// K v of each column, which belongs to the group `of`, (n, k), and lies within S already. Collective as the
    /// operator is.
    pub fn times(&self, of: &[usize], block: ArrayView2<f64>) -> Array2<f64> {
        let mut inner = block.to_owned();
        for (group, columns) in runs(of) {
            outward(self.groups[group], &mut inner.slice_mut(s![.., columns]));
        }
        let mut out = self.operator.apply(inner.view());
        for (group, columns) in runs(of) {
            inward(self.groups[group], &mut out.slice_mut(s![.., columns]));
        }
        out
    }

    /// S v of each column, which belongs to the group `of`, in place; zero outside the group's animals.
    pub fn within(&self, of: &[usize], block: &mut Array2<f64>) {
        for (group, columns) in runs(of) {
            let inside = self.probes(group, block.slice(s![.., columns.clone()]));
            block.slice_mut(s![.., columns]).assign(&inside);
        }
    }

    /// S W^½ y of all traits, (n, t), group after group.
    pub fn records(&self) -> Array2<f64> {
        let n = self.operator.dimension();
        let spread = |group: &&Group| {
            let mut y = group.scaled(group.y());
            group.project(&mut y);
            scatter(n, group, y.view())
        };
        let blocks: Vec<Array2<f64>> = self.groups.iter().map(spread).collect();
        let views: Vec<ArrayView2<f64>> = blocks.iter().map(|b| b.view()).collect();
        ndarray::concatenate(Axis(1), &views).expect("blocks of n rows")
    }

    /// S z of one group for a block z, (n, k).
    pub fn probes(&self, group: usize, z: ArrayView2<f64>) -> Array2<f64> {
        let mut rows = z.select(Axis(0), self.groups[group].animals());
        self.groups[group].project(&mut rows);
        scatter(z.nrows(), self.groups[group], rows.view())
    }

    /// For every pair of groups tr(S_a W_a^½ G W_b^½ S_b), (groups, groups), which is tr K on the diagonal; exact.
    /// With `pairs` false only the diagonal is filled. Collective as the operator is.
    pub fn traces(&self, pairs: bool) -> Array2<f64> {
        let count = self.groups.len();
        let diagonal = self.operator.diagonal();
        let bases: Vec<Array2<f64>> =
            self.groups.iter().map(|g| scatter(diagonal.len(), g, g.basis())).collect();
        let roots: Vec<Vec<f64>> = self.groups.iter().map(|g| roots(diagonal.len(), g)).collect();
        let mut out = Array2::zeros((count, count));
        for (a, along) in self.along(&bases, &roots) {
            for b in (0..count).filter(|&b| pairs || a == b) {
                // W_b^½ G W_a^½ Q_a on the animals of b
                let mut there = along.clone();
                there.axis_iter_mut(Axis(0)).zip(&roots[b]).for_each(|(mut row, w)| row *= *w);
                let own = (&bases[a] * &there).sum();
                out[[a, b]] -= own;
                out[[b, a]] -= own;
                if a <= b {
                    let both = bases[b].t().dot(&there) * bases[b].t().dot(&bases[a]);
                    let mut sum = both.sum();
                    let weights = roots[a].iter().zip(&roots[b]);
                    sum += diagonal.iter().zip(weights).map(|(g, (x, y))| g * x * y).sum::<f64>();
                    out[[a, b]] += sum;
                    if a < b {
                        out[[b, a]] += sum;
                    }
                }
            }
        }
        out
    }

    /// Mean diagonal element of W^½ G_OO W^½ of every group. Collective as the operator is.
    pub fn sizes(&self) -> Vec<f64> {
        let diagonal = self.operator.diagonal();
        let of = |group: &&Group| {
            let sum: f64 =
                group.animals().iter().enumerate().map(|(i, &a)| diagonal[a] / group.noise(i)).sum();
            sum / group.animals().len() as f64
        };
        self.groups.iter().map(of).collect()
    }

    /// G W^½ Q of every group, (n, rank), several groups in one product.
    fn along<'b>(
        &'b self,
        bases: &'b [Array2<f64>],
        roots: &'b [Vec<f64>],
    ) -> impl Iterator<Item = (usize, Array2<f64>)> + 'b {
        let ranks: Vec<usize> = bases.iter().map(|b| b.ncols()).collect();
        batches(&ranks).into_iter().flat_map(move |some| {
            let scaled: Vec<Array2<f64>> = some.clone().map(|a| rows_times(&bases[a], &roots[a])).collect();
            let views: Vec<ArrayView2<f64>> = scaled.iter().map(|b| b.view()).collect();
            let product =
                self.operator.apply(ndarray::concatenate(Axis(1), &views).expect("blocks of n rows").view());
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

/// Consecutive columns of the same group.
fn runs(of: &[usize]) -> Vec<(usize, std::ops::Range<usize>)> {
    let mut out: Vec<(usize, std::ops::Range<usize>)> = Vec::new();
    for (k, &group) in of.iter().enumerate() {
        match out.last_mut() {
            Some((last, columns)) if *last == group => columns.end = k + 1,
            _ => out.push((group, k..k + 1)),
        }
    }
    out
}

/// Rows of the recorded animals, (n_o, k), among all n; the others are zero.
pub fn scatter(n: usize, group: &Group, rows: ArrayView2<f64>) -> Array2<f64> {
    let mut out = Array2::zeros((n, rows.ncols()));
    for (&animal, row) in group.animals().iter().zip(rows.rows()) {
        out.row_mut(animal).assign(&row);
    }
    out
}

/// W^½ v in place.
fn outward(group: &Group, block: &mut ArrayViewMut2<f64>) {
    for (i, &animal) in group.animals().iter().enumerate() {
        let root = group.noise(i).sqrt();
        block.row_mut(animal).mapv_inplace(|x| x / root);
    }
}

/// S W^½ v in place, zero outside the group's animals.
pub fn inward(group: &Group, block: &mut ArrayViewMut2<f64>) {
    let mut rows = group.scaled(block.select(Axis(0), group.animals()).view());
    group.project(&mut rows);
    block.fill(0.0);
    for (&animal, row) in group.animals().iter().zip(rows.rows()) {
        block.row_mut(animal).assign(&row);
    }
}

/// √w of the recorded animals, zero for others, (n).
pub fn roots(n: usize, group: &Group) -> Vec<f64> {
    let mut out = vec![0.0; n];
    for (i, &animal) in group.animals().iter().enumerate() {
        out[animal] = group.noise(i).sqrt().recip();
    }
    out
}

/// Each row of a block times a number.
pub fn rows_times(block: &Array2<f64>, factors: &[f64]) -> Array2<f64> {
    let mut out = block.clone();
    out.axis_iter_mut(Axis(0)).zip(factors).for_each(|(mut row, f)| row *= *f);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixed::tests::{groups, herd, N};

    /// S W^½ restricted to the animals, (n_o, n) in place among n.
    fn narrowing(group: &Group) -> Array2<f64> {
        let mut all = Array2::eye(N);
        inward(group, &mut all.view_mut());
        all
    }

    #[test]
    fn products_and_traces_are_those_of_the_matrices() {
        let (g, y) = herd();
        let owned = groups(&y, true);
        let refs: Vec<&Group> = owned.iter().collect();
        let projected = Projected { operator: &g, groups: &refs };
        let narrow: Vec<Array2<f64>> = refs.iter().map(|g| narrowing(g)).collect();
        let traces = projected.traces(true);
        for (a, b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let want = narrow[a].dot(&g).dot(&narrow[b].t()).diag().sum();
            assert!((traces[[a, b]] / want - 1.0).abs() < 1e-10, "{a} {b}: {} {want}", traces[[a, b]]);
        }
        assert_eq!(projected.traces(false)[[0, 1]], 0.0);
        let v = projected.records();
        let got = projected.times(&[0, 1, 1], v.view());
        for (k, a) in [0, 1, 1].into_iter().enumerate() {
            let want = narrow[a].dot(&g).dot(&narrow[a].t()).dot(&v.column(k));
            assert!((&got.column(k) - &want).iter().all(|d| d.abs() < 1e-9));
        }
    }

    #[test]
    fn batches_hold_all_in_order() {
        assert_eq!(batches(&[200, 56, 1, 500, 3]), [0..2, 2..3, 3..4, 4..5]);
        assert!(batches(&[]).is_empty());
    }
}
