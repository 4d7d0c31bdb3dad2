//! The nearest of many, kept while distances pass by.

use crate::comm::World;
use std::ops::Range;

/// Candidates kept at least before the list is cut to the best.
const ROOM: usize = 32;

/// The nearest references of each query, by distance and then by index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbours {
    k: usize,
    found: Vec<(u32, u32)>, // (queries, k)
}

impl Neighbours {
    pub(super) fn new(k: usize, found: Vec<(u32, u32)>) -> Self {
        Neighbours { k, found }
    }

    /// How many neighbours each query has here.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The neighbours of a query, the nearest first: (distance, index of the reference).
    pub fn of(&self, query: usize) -> &[(u32, u32)] {
        &self.found[query * self.k..(query + 1) * self.k]
    }

    /// The distance of each query to its `k`-th nearest reference, or to the farthest that is kept. Empty when no
    /// query has a neighbour.
    pub fn radii(&self, k: usize) -> Vec<u32> {
        let at = k.min(self.k);
        assert!(k > 0, "the first neighbour is number 1");
        self.found.chunks_exact(self.k.max(1)).map(|of| of[at - 1].0).collect()
    }

    /// All queries' neighbours on every rank, from each rank's own `rows` of `n`. To be called by all ranks.
    pub(super) fn gathered(self, world: &World, n: usize, rows: Range<usize>) -> Neighbours {
        if world.size() == 1 {
            return self;
        }
        let mut all = vec![0i64; n * self.k];
        for (to, from) in all[rows.start * self.k..rows.end * self.k].iter_mut().zip(&self.found) {
            *to = key(from.0, from.1) as i64;
        }
        world.sum_i64(&mut all);
        Neighbours { k: self.k, found: all.into_iter().map(|key| pair(key as u64)).collect() }
    }
}

/// Distance and index as one number that sorts by both.
fn key(distance: u32, index: u32) -> u64 {
    u64::from(distance) << 32 | u64::from(index)
}

fn pair(key: u64) -> (u32, u32) {
    ((key >> 32) as u32, key as u32)
}

/// The best `k` of what was offered so far.
#[derive(Debug, Clone)]
pub(super) struct Best {
    k: usize,
    keys: Vec<u64>,
    /// A larger key is not among the best; there may be more than `k` smaller ones.
    limit: u64,
}

impl Best {
    pub(super) fn new(k: usize) -> Self {
        Best { k, keys: Vec::new(), limit: if k == 0 { 0 } else { u64::MAX } }
    }

    /// Offers the references from `first` on, but for `own`.
    pub(super) fn offer(&mut self, distances: &[u32], first: usize, own: Option<usize>) {
        let mut farthest = (self.limit >> 32) as u32;
        for (at, &distance) in distances.iter().enumerate() {
            if distance > farthest {
                continue;
            }
            let key = key(distance, u32::try_from(first + at).expect("fewer than 2^32 animals"));
            if key < self.limit && Some(first + at) != own {
                self.keys.push(key);
                if self.keys.len() >= 2 * self.k + ROOM {
                    self.cut();
                    farthest = (self.limit >> 32) as u32;
                }
            }
        }
    }

    fn cut(&mut self) {
        if self.keys.len() > self.k {
            self.keys.select_nth_unstable(self.k - 1);
            self.keys.truncate(self.k);
            self.limit = self.keys[self.k - 1];
        }
    }

    pub(super) fn into_sorted(mut self) -> impl Iterator<Item = (u32, u32)> {
        self.keys.sort_unstable();
        self.keys.truncate(self.k);
        self.keys.into_iter().map(pair)
    }
}
