//! Animals with records of the same traits and of nearly the same weight, for whom V of one animal alone is the same.

use crate::error::Result;
use crate::linalg::factor::Cholesky;
use ndarray::{s, Array2, Axis};
use rayon::prelude::*;
use std::collections::HashMap;

/// Patterns with an inverse of their own; animals of rarer ones share that of all traits.
const MOST: usize = 512;
/// Animals solved at once.
const ROWS: usize = 256;

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
    /// The animals.
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

impl Patterns {
    /// Sorts the animals; `diagonal` is d of each, which is averaged within patterns.
    pub fn new(
        roots: &Array2<f64>,
        weights: &[f64],
        diagonal: &[f64],
        (factor, residual): (&Array2<f64>, &Array2<f64>),
    ) -> Result<Patterns> {
        let mut known: HashMap<(Vec<usize>, i32), usize> = HashMap::new();
        let mut members: Vec<(Vec<usize>, Vec<usize>)> = Vec::new();
        let mut rare = Vec::new();
        for (i, row) in roots.rows().into_iter().enumerate().filter(|(i, _)| weights[*i] > 0.0) {
            let columns: Vec<usize> = (0..row.len()).filter(|&k| row[k] > 0.0).collect();
            // Weights of one pattern differ by less than a factor of √2.
            let key = (columns, (2.0 * weights[i].log2()).round() as i32);
            match known.get(&key) {
                Some(&at) => members[at].1.push(i),
                None if members.len() < MOST => {
                    members.push((key.0.clone(), vec![i]));
                    known.insert(key, members.len() - 1);
                }
                None => rare.push(i),
            }
        }
        let exact = members.len();
        if !rare.is_empty() {
            members.push(((0..roots.ncols()).collect(), rare));
        }
        let make = |(at, (columns, animals)): (usize, (Vec<usize>, Vec<usize>))| {
            let some = |a: &Array2<f64>| a.select(Axis(0), &columns);
            let d = animals.iter().map(|&i| diagonal[i]).sum::<f64>() / animals.len() as f64;
            let l = some(factor);
            let own = l.dot(&l.t()) * d + some(residual).select(Axis(1), &columns);
            Ok(Pattern { inverse: Cholesky::new(own)?.inverse(), columns, animals, exact: at < exact })
        };
        Ok(Patterns { all: members.into_iter().enumerate().map(make).collect::<Result<_>>()? })
    }

    /// V⁻¹ of each animal alone times its row of `block`, (n, t), which is zero where there is no record.
    pub fn solve(&self, block: &Array2<f64>) -> Array2<f64> {
        let parts: Vec<(&Pattern, &[usize])> =
            self.all.iter().flat_map(|p| p.animals.chunks(ROWS).map(move |animals| (p, animals))).collect();
        let solved: Vec<Array2<f64>> = parts
            .par_iter()
            .map(|(p, animals)| block.select(Axis(0), animals).select(Axis(1), &p.columns).dot(&p.inverse))
            .collect();
        let mut out = Array2::zeros(block.dim());
        for ((pattern, animals), rows) in parts.into_iter().zip(&solved) {
            for (&i, row) in animals.iter().zip(rows.rows()) {
                pattern.columns.iter().zip(row).for_each(|(&k, &x)| out[[i, k]] = x);
            }
        }
        out
    }
}

impl Pattern {
    /// L'(d G0 + R0)⁻¹L of the recorded traits, (K, K).
    pub fn between(&self, factor: &Array2<f64>) -> Array2<f64> {
        let some = factor.select(Axis(0), &self.columns);
        some.slice(s![.., ..]).t().dot(&self.inverse).dot(&some)
    }
}
