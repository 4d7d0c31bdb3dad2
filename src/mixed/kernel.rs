//! The covariances of records through one random effect of variance 1, W^½ Z K Z' W^½: dense for relationships,
//! by levels for classes.

use crate::mixed::Group;
use ndarray::{s, Array1, Array2, ArrayView2};
use std::ops::Range;

/// K of N records, scaled by the square roots of their weights.
#[derive(Debug)]
pub(super) enum Kernel<'a> {
    /// Every pair of records, (N, N).
    Dense(Array2<f64>),
    /// K_ij = √w_i √w_j where the records share a level of a class, else 0: O(N) numbers.
    Class(Levels),
    /// K_ij = √w_i √w_j G(a_i, a_j) where the records share a level: relationships within the levels.
    Within(Levels, Relations<'a>),
}

/// Relationships and the animal of each record.
pub(super) type Relations<'a> = (&'a Array2<f64>, Vec<usize>);

/// The records of each level.
#[derive(Debug)]
pub(super) struct Levels {
    members: Vec<Vec<usize>>, // of each level, ascending
    roots: Vec<f64>,          // (N): √w
}

impl Levels {
    /// `level` tells each record's level below `count`, `roots` the square roots of the weights, both (N).
    pub fn new(level: &[usize], count: usize, roots: Vec<f64>) -> Levels {
        let mut members = vec![Vec::new(); count];
        level.iter().enumerate().for_each(|(i, &l)| members[l].push(i));
        Levels { members, roots }
    }

    /// The records of a level that lie in a range.
    fn within<'a>(&'a self, level: usize, range: &Range<usize>) -> &'a [usize] {
        let all = &self.members[level];
        let at = |i: usize| all.partition_point(|&m| m < i);
        &all[at(range.start)..at(range.end)]
    }
}

/// √w of the records of `groups`, one after another, (N).
pub(super) fn roots(groups: &[&Group]) -> Vec<f64> {
    groups.iter().flat_map(|g| (0..g.animals().len()).map(|i| g.inverse_weight(i).sqrt().recip())).collect()
}

/// The animals of the records of `groups`, one after another, (N).
pub(super) fn animals(groups: &[&Group]) -> Vec<usize> {
    groups.iter().flat_map(|g| g.animals().iter().copied()).collect()
}

impl<'a> Kernel<'a> {
    /// W^½ Z G Z' W^½ of the records of `groups`.
    pub fn of_animals(g: ArrayView2<f64>, groups: &[&Group]) -> Kernel<'a> {
        let (animals, roots) = (animals(groups), roots(groups));
        let mut out = Array2::zeros((animals.len(), animals.len()));
        for (mut row, (&a, root)) in out.rows_mut().into_iter().zip(animals.iter().zip(&roots)) {
            let from = g.row(a);
            row.iter_mut().zip(animals.iter().zip(&roots)).for_each(|(x, (&b, other))| {
                *x = root * other * from[b];
            });
        }
        Kernel::Dense(out)
    }

    /// Number of records, N.
    fn len(&self) -> usize {
        match self {
            Kernel::Dense(k) => k.nrows(),
            Kernel::Class(levels) | Kernel::Within(levels, _) => levels.roots.len(),
        }
    }

    /// K_ij of two records that share a level.
    fn shared(&self, i: usize, j: usize) -> f64 {
        match self {
            Kernel::Dense(k) => k[[i, j]],
            Kernel::Class(l) => l.roots[i] * l.roots[j],
            Kernel::Within(l, (g, of)) => l.roots[i] * l.roots[j] * g[[of[i], of[j]]],
        }
    }

    /// Adds `factor(i, j)` K_ij to every element of `v`, (N, N); the factor is constant on blocks of `rows`.
    pub fn add_to(&self, v: &mut Array2<f64>, rows: &[Range<usize>], c: &Array2<f64>) {
        for (a, of_a) in rows.iter().enumerate() {
            for (b, of_b) in rows.iter().enumerate() {
                match self {
                    Kernel::Dense(k) => {
                        let block = s![of_a.clone(), of_b.clone()];
                        v.slice_mut(block).scaled_add(c[[a, b]], &k.slice(block));
                    }
                    Kernel::Class(levels) | Kernel::Within(levels, _) => {
                        for level in 0..levels.members.len() {
                            for &i in levels.within(level, of_a) {
                                let to = levels.within(level, of_b);
                                to.iter().for_each(|&j| v[[i, j]] += c[[a, b]] * self.shared(i, j));
                            }
                        }
                    }
                }
            }
        }
    }

    /// K times `x` with all but the rows `from` set to zero, (N).
    pub fn times(&self, x: &Array1<f64>, from: &Range<usize>) -> Array1<f64> {
        let mut out = Array1::zeros(x.len());
        match self {
            Kernel::Dense(k) => {
                return k.slice(s![.., from.clone()]).dot(&x.slice(s![from.clone()]));
            }
            Kernel::Class(levels) => {
                for (level, members) in levels.members.iter().enumerate() {
                    let sum: f64 = levels.within(level, from).iter().map(|&i| levels.roots[i] * x[i]).sum();
                    members.iter().for_each(|&i| out[i] = levels.roots[i] * sum);
                }
            }
            Kernel::Within(levels, _) => {
                for (level, members) in levels.members.iter().enumerate() {
                    let of = levels.within(level, from);
                    let value = |&i: &usize| of.iter().map(|&j| self.shared(i, j) * x[j]).sum();
                    members.iter().for_each(|i| out[*i] = value(i));
                }
            }
        }
        out
    }

    /// Σ P_ij K_ij over the records i of `rows` and j of `columns`.
    pub fn trace(&self, p: &Array2<f64>, rows: &Range<usize>, columns: &Range<usize>) -> f64 {
        match self {
            Kernel::Dense(k) => {
                let block = s![rows.clone(), columns.clone()];
                let (p, k) = (p.slice(block), k.slice(block));
                p.rows().into_iter().zip(k.rows()).map(|(p, k)| p.dot(&k)).sum()
            }
            Kernel::Class(levels) | Kernel::Within(levels, _) => {
                let of_level = |level: usize| -> f64 {
                    let columns = levels.within(level, columns);
                    let of_row =
                        |&i: &usize| -> f64 { columns.iter().map(|&j| p[[i, j]] * self.shared(i, j)).sum() };
                    levels.within(level, rows).iter().map(of_row).sum()
                };
                (0..levels.members.len()).map(of_level).sum()
            }
        }
    }

    /// Mean diagonal element.
    pub fn mean_diagonal(&self) -> f64 {
        (0..self.len()).map(|i| self.shared(i, i)).sum::<f64>() / self.len() as f64
    }

    /// All elements, (N, N).
    pub fn to_dense(&self) -> Array2<f64> {
        let (n, mut out) = (self.len(), Array2::zeros((self.len(), self.len())));
        self.add_to(&mut out, std::slice::from_ref(&(0..n)), &Array2::ones((1, 1)));
        out
    }
}

/// S A S of the records of `groups`, one after another in `rows`, S the projection beside each group's fixed effects.
pub(super) fn project_both_sides(a: &mut Array2<f64>, groups: &[&Group], rows: &[Range<usize>]) {
    for _ in 0..2 {
        for (group, rows) in groups.iter().zip(rows) {
            if groups.len() == 1 {
                group.project(a);
            } else {
                let mut part = a.slice(s![rows.clone(), ..]).to_owned();
                group.project(&mut part);
                a.slice_mut(s![rows.clone(), ..]).assign(&part);
            }
        }
        transpose(a);
    }
}

/// Adds `c` (I − S) to `a`, (N, N).
pub(super) fn add_fixed(a: &mut Array2<f64>, c: f64, groups: &[&Group], rows: &[Range<usize>]) {
    for (group, rows) in groups.iter().zip(rows) {
        let q = group.basis();
        let mut block = a.slice_mut(s![rows.clone(), rows.clone()]);
        ndarray::linalg::general_mat_mul(c, &q, &q.t(), 1.0, &mut block);
        let Some(factor) = group.absorbed() else { continue };
        let weight = |i: usize| 1.0 / group.inverse_weight(i);
        let levels = Levels::new(&factor.level, factor.levels.len(), Vec::new());
        for (members, sum) in levels.members.iter().zip(group.absorbed_weights()) {
            for &i in members {
                members.iter().for_each(|&j| block[[i, j]] += c * (weight(i) * weight(j)).sqrt() / sum);
            }
        }
    }
}

fn transpose(a: &mut Array2<f64>) {
    for i in 0..a.nrows() {
        for j in 0..i {
            a.swap([i, j], [j, i]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    /// Classes and relationships within classes against the dense matrix of their definition.
    #[test]
    fn kernels_by_levels_are_the_dense_ones() {
        let (n, mut s) = (23, Stream::new(3, Purpose::Test, 0));
        let level: Vec<usize> = (0..n).map(|i| (i * i) % 5).collect();
        let of: Vec<usize> = (0..n).map(|i| (3 * i) % 8).collect();
        let roots: Vec<f64> = (0..n).map(|i| 1.0 + (i % 3) as f64).collect();
        let z = Array2::from_shape_simple_fn((8, 6), || s.normal());
        let g = z.dot(&z.t());
        let x = Array1::from_shape_simple_fn(n, || s.normal());
        let p = Array2::from_shape_simple_fn((n, n), || s.normal());
        let rows = [0..9, 9..n];
        let c = Array2::from_shape_fn((2, 2), |(a, b)| 1.0 + (a + b) as f64);
        for within in [false, true] {
            let levels = Levels::new(&level, 5, roots.clone());
            let kernel = match within {
                true => Kernel::Within(levels, (&g, of.clone())),
                false => Kernel::Class(levels),
            };
            let want = Array2::from_shape_fn((n, n), |(i, j)| match level[i] == level[j] {
                true => roots[i] * roots[j] * if within { g[[of[i], of[j]]] } else { 1.0 },
                false => 0.0,
            });
            assert!((&kernel.to_dense() - &want).iter().all(|d| d.abs() < 1e-12));
            let dense = Kernel::Dense(want.clone());
            assert!((kernel.mean_diagonal() - want.diag().mean().unwrap()).abs() < 1e-12);
            let (mut a, mut b) = (Array2::ones((n, n)), Array2::ones((n, n)));
            kernel.add_to(&mut a, &rows, &c);
            dense.add_to(&mut b, &rows, &c);
            assert!((&a - &b).iter().all(|d| d.abs() < 1e-12));
            for from in &rows {
                let (a, b) = (kernel.times(&x, from), dense.times(&x, from));
                assert!((&a - &b).iter().all(|d| d.abs() < 1e-11));
                let (a, b) = (kernel.trace(&p, &rows[0], from), dense.trace(&p, &rows[0], from));
                assert!((a - b).abs() < 1e-11);
            }
        }
    }
}
