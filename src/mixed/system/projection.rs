//! Records among the rows of blocks: weights, and the projection beside the fixed effects.
//!
//! A group of traits has records on some of the n rows of a block, weights W and a basis Q of its weighted fixed
//! effects; S = I − QQ'. Columns of blocks belong to groups and are zero where their group has no record.

use crate::linalg::rows::CHUNK;
use crate::linalg::Rows;
use crate::mixed::Group;
use crate::stats::FixedPoint;
use ndarray::parallel::prelude::*;
use ndarray::{s, Array2, ArrayView2, ArrayViewMut2, Axis};
use std::ops::Range;

/// Groups of traits on rows shared out over ranks.
pub struct Projection<'a> {
    rows: Rows,
    groups: &'a [&'a Group],
    sqrt_weights: Vec<Vec<f64>>, // √w of this rank's rows, zero without a record; one a group
}

impl<'a> Projection<'a> {
    /// The groups' records among `rows`.
    pub fn new(rows: Rows, groups: &'a [&'a Group]) -> Self {
        let own = rows.own();
        let in_order = |group: &&Group| group.rows().windows(2).all(|two| two[0] < two[1]);
        assert!(groups.iter().all(in_order), "records in the order of their rows");
        let of = |group: &&Group| {
            let mut roots = vec![0.0; own.len()];
            for i in records_in(group, own.clone()) {
                roots[group.rows()[i] - own.start] = group.inverse_weight(i).sqrt().recip();
            }
            roots
        };
        let sqrt_weights = groups.iter().map(of).collect();
        Projection { rows, groups, sqrt_weights }
    }

    /// Which rank owns which rows.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The groups.
    pub fn groups(&self) -> &'a [&'a Group] {
        self.groups
    }

    /// √w of this rank's rows for a group, zero without a record, (n_r).
    pub fn sqrt_weights(&self, group: usize) -> &[f64] {
        &self.sqrt_weights[group]
    }

    /// Number of records of a trait of a group, on all ranks.
    pub fn count(&self, group: usize) -> usize {
        self.groups[group].rows().len()
    }

    /// Whether all records of a group have weight 1.
    pub fn is_even(&self, group: usize) -> bool {
        let group = self.groups[group];
        (0..group.rows().len()).all(|i| group.inverse_weight(i) == 1.0)
    }

    /// The group of each trait, group after group, (t).
    pub fn group_of_traits(&self) -> Vec<usize> {
        self.groups.iter().enumerate().flat_map(|(g, group)| vec![g; group.traits()]).collect()
    }

    /// W^½ times each column of a block, which belongs to the group `of`, (n_r, k).
    pub fn weighted(&self, of: &[usize], block: ArrayView2<f64>) -> Array2<f64> {
        let (mut out, runs, roots) = (Array2::zeros(block.dim()), runs(of), &self.sqrt_weights);
        Rows::for_each(&mut out, |i, row| {
            let from = block.row(i);
            for (group, columns) in &runs {
                let root = roots[*group][i];
                for c in columns.clone() {
                    row[c] = root * from[c];
                }
            }
        });
        out
    }

    /// a W^½ g + b v of each column in the place of g, (n_r, k); a and b are one a column.
    pub fn weigh_and_add(
        &self,
        of: &[usize],
        g: &mut Array2<f64>,
        (a, b): (&[f64], &[f64]),
        v: ArrayView2<f64>,
    ) {
        let (runs, roots) = (runs(of), &self.sqrt_weights);
        Rows::for_each(g, |i, row| {
            let v = v.row(i);
            for (group, columns) in &runs {
                let root = roots[*group][i];
                for c in columns.clone() {
                    row[c] = a[c] * root * row[c] + b[c] * v[c];
                }
            }
        });
    }

    /// Sets each column to zero where its group has no record.
    pub fn mask(&self, of: &[usize], block: &mut Array2<f64>) {
        let (runs, roots) = (runs(of), &self.sqrt_weights);
        Rows::for_each(block, |i, row| {
            for (group, columns) in &runs {
                if roots[*group][i] == 0.0 {
                    row[columns.clone()].fill(0.0);
                }
            }
        });
    }

    /// S times each column, which is zero where its group has no record, in place. Collective.
    pub fn project(&self, of: &[usize], block: &mut Array2<f64>) {
        let runs = runs(of);
        for (group, columns) in runs.iter().filter(|(g, _)| self.groups[*g].absorbed().is_some()) {
            self.absorb(*group, columns.clone(), block);
        }
        let along = self.along(&runs, block.view());
        let (groups, start) = (self.groups, self.rows.own().start);
        Rows::by_chunks(block, |first, mut chunk| {
            let mut at = 0;
            for (group, columns) in &runs {
                let group = groups[*group];
                let along = &along[at..at + group.basis().ncols() * columns.len()];
                at += along.len();
                subtract(group, start + first, chunk.slice_mut(s![.., columns.clone()]), along);
            }
        });
    }

    /// S v of each column of any block, in place; zero where its group has no record. Collective.
    pub fn within(&self, of: &[usize], block: &mut Array2<f64>) {
        self.mask(of, block);
        self.project(of, block);
    }

    /// S W^½ K W^½ v of each column, which lies within S already, by a product with K, (n_r, k). Collective.
    pub fn through(
        &self,
        of: &[usize],
        block: ArrayView2<f64>,
        product: impl Fn(ArrayView2<f64>) -> Array2<f64>,
    ) -> Array2<f64> {
        let mut out = self.weighted(of, product(self.weighted(of, block).view()).view());
        self.project(of, &mut out);
        out
    }

    /// Takes the weighted means of a group's absorbed class out of some columns: v − W^½ F (F'WF)⁻¹ F'W^½ v. The sums of
    /// levels are whole multiples of a quantum. Collective.
    fn absorb(&self, group: usize, columns: Range<usize>, block: &mut Array2<f64>) {
        let (rows, roots, own) = (&self.rows, &self.sqrt_weights[group], self.groups[group]);
        let factor = own.absorbed().expect("an absorbed class");
        let (k, levels) = (columns.len(), factor.levels.len());
        let lengths = rows.lengths(block.slice(s![.., columns.clone()]));
        let sizes = own.absorbed_weights();
        // |Σ √w v| is at most √Σw |v| (Cauchy and Schwarz).
        let point = |p: usize| {
            let bound = sizes[p / k].sqrt() * lengths[p % k] * 1.0001;
            FixedPoint::for_bound(if bound.is_finite() { bound } else { 0.0 })
        };
        let points: Vec<FixedPoint> = (0..levels * k).map(point).collect();
        let mut sums = vec![0i64; levels * k];
        for (row, record) in records(own, rows.own()) {
            let level = factor.level[record];
            for (c, v) in block.slice(s![row, columns.clone()]).iter().enumerate() {
                sums[level * k + c] += points[level * k + c].quantize(roots[row] * v);
            }
        }
        rows.world().sum_i64(&mut sums);
        let mean = |level: usize, c: usize| match lengths[c].is_finite() {
            true => points[level * k + c].real(sums[level * k + c]) / sizes[level],
            false => f64::NAN,
        };
        let means = Array2::from_shape_fn((levels, k), |(level, c)| mean(level, c));
        for (row, record) in records(own, rows.own()) {
            let mut values = block.slice_mut(s![row, columns.clone()]);
            values.scaled_add(-roots[row], &means.row(factor.level[record]));
        }
    }

    /// Q'v of each column, for run after run a vector for each column of Q. Collective.
    fn along(&self, runs: &[(usize, Range<usize>)], block: ArrayView2<f64>) -> Vec<f64> {
        let lengths = runs.iter().map(|(group, columns)| self.groups[*group].basis().ncols() * columns.len());
        let total: usize = lengths.sum();
        let (groups, start) = (self.groups, self.rows.own().start);
        let chunk = |(number, chunk): (usize, ArrayView2<f64>)| {
            let mut sums = vec![0.0; total];
            let mut at = 0;
            for (group, columns) in runs {
                let (group, first) = (groups[*group], start + number * CHUNK);
                let basis = group.basis();
                let sums = &mut sums[at..at + basis.ncols() * columns.len()];
                at += sums.len();
                for (row, record) in records(group, first..first + chunk.nrows()) {
                    let values = chunk.slice(s![row, columns.clone()]);
                    for (q, sums) in basis.row(record).iter().zip(sums.chunks_exact_mut(columns.len())) {
                        sums.iter_mut().zip(values).for_each(|(sum, v)| *sum += q * v);
                    }
                }
            }
            sums
        };
        let chunks: Vec<ArrayView2<f64>> = block.axis_chunks_iter(Axis(0), CHUNK).collect();
        let sums: Vec<Vec<f64>> = chunks.into_par_iter().enumerate().map(chunk).collect();
        self.rows.fold(sums.concat(), total)
    }

    /// S W^½ y of all traits, group after group, (n_r, t). Collective.
    pub fn records_projected(&self) -> Array2<f64> {
        let of = self.group_of_traits();
        let start = self.rows.own().start;
        let mut out = Array2::zeros((self.rows.count(), of.len()));
        let mut first = 0;
        for (g, group) in self.groups.iter().enumerate() {
            for i in records_in(group, self.rows.own()) {
                let row = group.rows()[i] - start;
                let mut to = out.slice_mut(s![row, first..first + group.traits()]);
                to.zip_mut_with(&group.y().row(i), |to, y| *to = self.sqrt_weights[g][row] * y);
            }
            first += group.traits();
        }
        self.project(&of, &mut out);
        out
    }

    /// A group's basis Q among this rank's rows, (n_r, rank), zero without a record.
    pub fn basis(&self, group: usize) -> Array2<f64> {
        let basis = self.groups[group].basis();
        let mut out = Array2::zeros((self.rows.count(), basis.ncols()));
        for (row, record) in records(self.groups[group], self.rows.own()) {
            out.row_mut(row).assign(&basis.row(record));
        }
        out
    }
}

/// v − Q `along` of some columns of one group in a chunk that begins at the row `first`.
fn subtract(group: &Group, first: usize, mut chunk: ArrayViewMut2<f64>, along: &[f64]) {
    let (basis, columns) = (group.basis(), chunk.ncols());
    for (row, record) in records(group, first..first + chunk.nrows()) {
        let mut values = chunk.row_mut(row);
        for (q, along) in basis.row(record).iter().zip(along.chunks_exact(columns)) {
            values.iter_mut().zip(along).for_each(|(v, a)| *v -= q * a);
        }
    }
}

/// A group's records in some rows: (row from the first of these, record).
fn records(group: &Group, rows: Range<usize>) -> impl Iterator<Item = (usize, usize)> + '_ {
    let start = rows.start;
    records_in(group, rows).map(move |i| (group.rows()[i] - start, i))
}

/// A group's records, which are in the order of their rows, among some rows.
fn records_in(group: &Group, rows: Range<usize>) -> Range<usize> {
    let place = |row: usize| group.rows().partition_point(|&own| own < row);
    place(rows.start)..place(rows.end)
}

/// Consecutive columns of the same group.
pub fn runs(of: &[usize]) -> Vec<(usize, Range<usize>)> {
    let mut out: Vec<(usize, Range<usize>)> = Vec::new();
    for (k, &group) in of.iter().enumerate() {
        match out.last_mut() {
            Some((last, columns)) if *last == group => columns.end = k + 1,
            _ => out.push((group, k..k + 1)),
        }
    }
    out
}
