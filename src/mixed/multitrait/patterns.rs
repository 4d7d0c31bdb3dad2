//! Animals with records of the same traits and of nearly the same weight, for whom V of one animal alone is the same.

use crate::error::Result;
use crate::linalg::factor::Cholesky;
use crate::linalg::Rows;
use ndarray::{s, Array2, Axis};
use std::collections::{HashMap, HashSet};

/// Patterns with an inverse of their own; animals of rarer ones share that of all traits.
const MOST: usize = 512;

/// Which animals are alike.
#[derive(Debug)]
pub struct Patterns {
    /// What animals have in common; the last is that of all rare patterns, if there are any.
    pub all: Vec<Pattern>,
}

/// What some animals have in common.
#[derive(Debug)]
pub struct Pattern {
    /// Columns of the traits that are recorded.
    pub columns: Vec<usize>,
    /// The animals among this rank's rows.
    pub animals: Vec<usize>,
    /// Whether these animals have records of all of the columns and of no others.
    pub exact: bool,
    inverse: Array2<f64>, // (d G0 + R0)⁻¹ of the columns
}

/// Mean weight of each animal's records, zero where it has none; `roots` are √w, (n, t).
pub fn weights(roots: &Array2<f64>) -> Vec<f64> {
    let weight = |row: ndarray::ArrayView1<f64>| {
        let recorded = row.iter().filter(|r| **r > 0.0).count().max(1);
        row.iter().map(|r| r * r).sum::<f64>() / recorded as f64
    };
    roots.rows().into_iter().map(weight).collect()
}

/// The traits that are recorded, and twice the logarithm of the weight, rounded: weights of one pattern differ by less
/// than a factor of √2.
type Key = (Vec<usize>, i32);

impl Patterns {
    /// Sorts the animals, this rank's rows; `diagonal` is d of each, which is averaged within patterns. Collective: all
    /// ranks have the same patterns in the order of their first animals.
    pub fn new(
        rows: &Rows,
        roots: &Array2<f64>,
        weights: &[f64],
        diagonal: &[f64],
        (factor, residual): (&Array2<f64>, &Array2<f64>),
    ) -> Result<Patterns> {
        let key = |i: usize| -> Option<Key> {
            let columns = (0..roots.ncols()).filter(|&k| roots[[i, k]] > 0.0).collect();
            (weights[i] > 0.0).then(|| (columns, (2.0 * weights[i].log2()).round() as i32))
        };
        let keys: Vec<Option<Key>> = (0..rows.count()).map(key).collect();
        let own = in_order(keys.iter().flatten().cloned());
        let all = in_order(rows.world().all_gather(&own).into_iter().flatten());
        let (number, known): (HashMap<&Key, usize>, _) = (all.iter().zip(0..).collect(), all.len().min(MOST));
        let mut members: Vec<(Vec<usize>, Vec<usize>)> =
            all[..known].iter().map(|(columns, _)| (columns.clone(), Vec::new())).collect();
        if all.len() > known {
            members.push(((0..roots.ncols()).collect(), Vec::new()));
        }
        let place = |i: usize| keys[i].as_ref().map(|key| number[key].min(known));
        (0..rows.count()).filter_map(|i| Some((i, place(i)?))).for_each(|(i, at)| members[at].1.push(i));
        // The number of animals and the sum of d of each pattern.
        let sums = rows.sums(2 * members.len(), |i, sums| {
            if let Some(at) = place(i) {
                sums[2 * at] += 1.0;
                sums[2 * at + 1] += diagonal[i];
            }
        });
        let make = |(at, (columns, animals)): (usize, (Vec<usize>, Vec<usize>))| {
            let some = |a: &Array2<f64>| a.select(Axis(0), &columns);
            let d = sums[2 * at + 1] / sums[2 * at];
            let l = some(factor);
            let own = l.dot(&l.t()) * d + some(residual).select(Axis(1), &columns);
            Ok(Pattern { inverse: Cholesky::new(own)?.inverse(), columns, animals, exact: at < known })
        };
        let all = members.into_iter().enumerate().map(make).collect::<Result<_>>();
        Ok(Patterns { all: rows.world().agree(all)? })
    }

    /// V⁻¹ of each animal alone times its row of `block`, (n_r, t), which is zero where there is no record. Row by row,
    /// so that the bits do not depend on which animals a rank has.
    pub fn solve(&self, block: &Array2<f64>) -> Array2<f64> {
        let mut pattern_of: Vec<Option<&Pattern>> = vec![None; block.nrows()];
        for pattern in &self.all {
            pattern.animals.iter().for_each(|&i| pattern_of[i] = Some(pattern));
        }
        let mut out = Array2::zeros(block.dim());
        Rows::for_each(&mut out, |i, row| {
            let Some(Pattern { columns, inverse, .. }) = pattern_of[i] else { return };
            for (&from, inverse) in columns.iter().zip(inverse.rows()) {
                let x = block[[i, from]];
                columns.iter().zip(inverse).for_each(|(&to, v)| row[to] += x * v);
            }
        });
        out
    }
}

/// Different patterns in the order in which they appear, at most one more than are told apart.
fn in_order(keys: impl Iterator<Item = Key>) -> Vec<Key> {
    let (mut seen, mut out) = (HashSet::new(), Vec::new());
    for key in keys {
        if out.len() <= MOST && seen.insert(key.clone()) {
            out.push(key);
        }
    }
    out
}

impl Pattern {
    /// L'(d G0 + R0)⁻¹L of the recorded traits, (K, K).
    pub fn between(&self, factor: &Array2<f64>) -> Array2<f64> {
        let some = factor.select(Axis(0), &self.columns);
        some.slice(s![.., ..]).t().dot(&self.inverse).dot(&some)
    }
}
