//! Importance by permutation (Breiman 2001, section 10): what a tree's squared error on the animals out of its bag grows by
//! when a SNP's calls, or the values of a feature, are exchanged among them.

use super::boosting::{number, Lesson};
use super::grow::Genotypes;
use super::{Questions, Tree};
use crate::packed::{code, Packed};
use crate::rng::{Purpose, Stream};
use ndarray::ArrayViewMut1;
use rayon::prelude::*;

/// A tree of a trait, and the animals out of its bag, rising.
pub(super) struct OutOfBag<'a> {
    pub tree: &'a Tree,
    pub animals: &'a [u32],
    /// What its leaves' values are multiplied by to be those of the trait.
    pub scale: f64,
    pub trait_: usize,
    /// Number of the tree among those of its trait.
    pub number: usize,
}

/// Calls at all SNPs and questions that a tree asks about, on every rank.
pub(super) struct Asked {
    /// Their numbers, rising.
    numbers: Vec<u32>,
    /// Their calls, (numbers, n).
    calls: Packed,
}

impl Asked {
    /// Collective.
    fn of(genotypes: &Genotypes, tree: &Tree) -> Asked {
        let mut numbers: Vec<u32> = tree.nodes.iter().filter_map(|node| Some(node.split?.snp)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let (own, rows) = genotypes.rows(&numbers);
        let all = genotypes.world().all_gather(&(own, rows));
        let mut calls = Packed::missing(numbers.len(), genotypes.animals());
        let stride = calls.stride();
        for (own, rows) in &all {
            for (snp, row) in own.iter().zip(rows.chunks(stride)) {
                let at = numbers.binary_search(snp).expect("only what is asked for is sent");
                calls.row_mut(at).copy_from_slice(row);
            }
        }
        Asked { numbers, calls }
    }

    fn code(&self, snp: u32, animal: u32) -> u8 {
        let at = self.numbers.binary_search(&snp).expect("all that the tree asks about");
        code(self.calls.row(at), animal as usize)
    }
}

/// Adds a tree's importance of each SNP and feature to `sums`, (m + f). Collective.
pub(super) fn add(
    genotypes: &Genotypes,
    (lesson, questions): (&Lesson, &Questions),
    of: &OutOfBag,
    mut sums: ArrayViewMut1<f64>,
) {
    let m = genotypes.snps();
    // What is exchanged together: a SNP, or all questions about a feature.
    let unit = |snp: u32| (snp as usize).checked_sub(m).map_or(snp as usize, |q| m + questions.all[q].0);
    let asked = Asked::of(genotypes, of.tree);
    let mut others = of.animals.to_vec();
    let number = number(of.number, of.trait_);
    Stream::new(lesson.seed, Purpose::Exchange, number).shuffle(&mut others);
    let t = of.trait_;
    let grows = |(&i, &other): (&u32, &u32)| {
        let value = |exchanged: Option<usize>| {
            let code = |snp| {
                let from = if exchanged == Some(unit(snp)) { other } else { i };
                asked.code(snp, from)
            };
            of.scale * of.tree.value(code)
        };
        let y = lesson.y[[i as usize, t]];
        let error = |value: f64| lesson.weight(i as usize, t) * (y - value) * (y - value);
        let before = error(value(None));
        let mut units: Vec<usize> = of.tree.path(|snp| asked.code(snp, i)).map(unit).collect();
        units.sort_unstable();
        units.dedup();
        units.into_iter().map(|unit| (unit, error(value(Some(unit))) - before)).collect::<Vec<_>>()
    };
    let all: Vec<Vec<(usize, f64)>> = of.animals.par_iter().zip(&others).map(grows).collect();
    let weights: f64 = of.animals.iter().map(|&i| lesson.weight(i as usize, t)).sum();
    for (unit, growth) in all.into_iter().flatten() {
        sums[unit] += growth / weights;
    }
}
