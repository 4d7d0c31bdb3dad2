//! What two animals get where the calls of both are missing.

use super::{prefetch, Lists, Means, Rectangle, Window};
use crate::device::Part;
use crate::memory;
use crate::packed::PER_BYTE;
use rayon::prelude::*;
use std::ops::Range;

/// Animals whose sums, 32 KiB, mostly stay in the nearest cache. Half as many make twice as many visits to SNPs, which
/// cost more than the additions there.
const BLOCK: usize = 4096;
/// Missing calls that are looked up before they are needed.
const AHEAD: usize = 8;

/// Adds for each SNP what the animals get that have no call there.
pub(super) fn add(window: &Window, means: &Means, part: Part, rectangles: &mut [&mut Rectangle]) {
    let terms = &means.both[window.snps.clone()];
    let n = window.packed.rows();
    for start in (0..n).step_by(BLOCK) {
        let animals = start..(start + BLOCK).min(n);
        let wanted = |r: &&mut Rectangle| {
            let lower = part == Part::Whole || start < r.rows.end;
            lower && start < r.columns.end && r.columns.start < animals.end
        };
        let mut rectangles: Vec<_> = rectangles.iter_mut().filter(|r| wanted(r)).collect();
        if rectangles.is_empty() {
            continue;
        }
        let block = Block::of(&window.lists, animals, terms);
        rectangles.par_iter_mut().for_each(|r| {
            let columns = r.columns.clone();
            r.sums.par_chunks_mut(columns.len()).zip(r.rows.clone()).for_each(|(row, i)| {
                let last = if part == Part::Lower { columns.end.min(i + 1) } else { columns.end };
                let inside = block.animals.start.max(columns.start)..block.animals.end.min(last);
                if !inside.is_empty() {
                    let row = &mut row[inside.start - columns.start..inside.end - columns.start];
                    block.add(&window.lists, i, inside.start - start, row);
                }
            });
        });
    }
}

/// The animals without a call at each SNP of a window, among some.
struct Block {
    animals: Range<usize>,
    /// One SNP after the other, counted from the first animal.
    calls: Vec<u16>,
    snps: Vec<Snp>,
}

/// One SNP of a block.
#[derive(Clone, Copy)]
struct Snp {
    /// Where its calls begin; they end where those of the next begin.
    start: u32,
    term: i64,
}

impl Block {
    fn of(lists: &Lists, animals: Range<usize>, terms: &[i64]) -> Self {
        let missing = |i: usize| lists.at(i).iter().flat_map(|quad| quad.snps).map(usize::from);
        // where each SNP's calls begin; numbers alone stay in a near cache
        let mut starts = vec![0u32; terms.len() + 3];
        for j in animals.clone().flat_map(missing) {
            starts[j + 2] += 1;
        }
        for j in 2..starts.len() {
            starts[j] += starts[j - 1];
        }
        let mut calls = memory::zeroed(starts[terms.len() + 2] as usize);
        for (at, i) in animals.clone().enumerate() {
            for j in missing(i) {
                calls[starts[j + 1] as usize] = at as u16;
                starts[j + 1] += 1;
            }
        }
        // what fills up the lists
        starts[terms.len() + 1] = starts[terms.len()];
        let terms = terms.iter().copied().chain([0; 2]);
        let snps = starts.into_iter().zip(terms).map(|(start, term)| Snp { start, term }).collect();
        Block { animals, calls, snps }
    }

    /// Adds for each missing call of animal `i` what it gives with the block's animals from `first` on.
    fn add(&self, lists: &Lists, i: usize, first: usize, row: &mut [i64]) {
        (0..row.len()).step_by(8).for_each(|at| prefetch(row, at));
        let list = lists.at(i);
        for (at, quad) in list.iter().enumerate() {
            if let Some(later) = list.get(at + AHEAD / PER_BYTE) {
                for start in later.snps.map(|j| self.snps[usize::from(j)].start as usize) {
                    prefetch(&self.calls, start);
                    prefetch(&self.calls, start + 32);
                }
            }
            if let Some(later) = list.get(at + AHEAD) {
                later.snps.iter().for_each(|&j| prefetch(&self.snps, usize::from(j)));
            }
            for j in quad.snps.map(usize::from) {
                let Snp { start, term } = self.snps[j];
                let calls = &self.calls[start as usize..self.snps[j + 1].start as usize];
                let before =
                    if first == 0 { 0 } else { calls.partition_point(|&at| usize::from(at) < first) };
                for &animal in &calls[before..] {
                    // in order: all others come later too
                    let Some(sum) = row.get_mut(usize::from(animal) - first) else { break };
                    *sum += term;
                }
            }
        }
    }
}
