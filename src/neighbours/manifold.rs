//! Precision and recall of generated animals: who lies within whose neighbourhood (Kynkäänniemi et al. 2019).
//!
//! Around every real animal lies a ball that reaches to its k-th nearest other real animal. Precision is the share
//! of synthetic animals within at least one of these balls: how many could be real. Recall is the share of real
//! animals within a ball of the synthetic ones: how much of the real herd is covered. Distances are Euclidean.

use super::{Distances, Metric, Neighbours};
use crate::comm::layout;
use crate::comm::World;
use crate::error::Result;
use crate::packed::Packed;
use rayon::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};

/// How well two sets of animals cover each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PrecisionRecall {
    /// Share of synthetic animals within a ball of a real one.
    pub precision: f64,
    /// Share of real animals within a ball of a synthetic one.
    pub recall: f64,
    /// Harmonic mean of both; 0 when both are.
    pub f1: f64,
}

impl PrecisionRecall {
    fn new(precision: f64, recall: f64) -> Self {
        let sum = precision + recall;
        let f1 = if sum == 0.0 { 0.0 } else { 2.0 * precision * recall / sum };
        PrecisionRecall { precision, recall, f1 }
    }
}

/// Precision, recall and F1 of synthetic animals with balls that reach to the `k`-th neighbour, or to the farthest
/// where there are fewer; NaN when a set has fewer than two animals. By this rank alone.
pub fn precision_recall(real: &Packed, synthetic: &Packed, k: usize) -> Result<PrecisionRecall> {
    Ok(compare(&World::alone(), real, synthetic, &[k])?.scores[0])
}

/// All that neighbours tell about two sets of animals.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Nearest other real animals of each real animal, as many as the largest k.
    pub within_real: Neighbours,
    /// Nearest other synthetic animals of each synthetic animal.
    pub within_synthetic: Neighbours,
    /// Squared distance of each real animal to the nearest synthetic one.
    pub real_to_synthetic: Vec<u32>,
    /// Squared distance of each synthetic animal to the nearest real one.
    pub synthetic_to_real: Vec<u32>,
    /// Precision and recall with each k.
    pub scores: Vec<PrecisionRecall>,
}

/// Nearest neighbours within and between two sets of animals, and precision and recall with each of `ks` (at most
/// 32 of them). Every rank has all animals and compares a part; to be called by all ranks.
pub fn compare(world: &World, real: &Packed, synthetic: &Packed, ks: &[usize]) -> Result<Comparison> {
    let most = ks.iter().copied().max().unwrap_or(1);
    let metric = Metric::SquaredEuclidean;
    let within_real = Distances::within(metric, real).all_nearest(world, most)?;
    let within_synthetic = Distances::within(metric, synthetic).all_nearest(world, most)?;
    let lonely = real.rows() < 2 || synthetic.rows() < 2;
    let radii = |of: &Neighbours| match lonely {
        true => Vec::new(),
        false => ks.iter().map(|&k| of.radii(k)).collect::<Vec<_>>(),
    };
    let radii = [radii(&within_synthetic), radii(&within_real)];
    let sides = cross(world, synthetic, real, &radii)?;
    let share = |side: &Side, k: usize| match lonely {
        true => f64::NAN,
        false => side.covered.iter().filter(|c| *c >> k & 1 == 1).count() as f64 / side.covered.len() as f64,
    };
    let score = |k| PrecisionRecall::new(share(&sides[0], k), share(&sides[1], k));
    let scores = (0..ks.len()).map(score).collect();
    let [s, r] = sides.map(|side| side.nearest);
    Ok(Comparison { within_real, within_synthetic, real_to_synthetic: r, synthetic_to_real: s, scores })
}

/// What one set sees of the other.
struct Side {
    /// Distance of each animal to the nearest of the others.
    nearest: Vec<u32>,
    /// Bit k: whether it lies within a ball of the others with the k-th radii.
    covered: Vec<u64>,
}

/// One pass over all pairs of synthetic and real animals; `radii` of both by k.
fn cross(world: &World, synthetic: &Packed, real: &Packed, radii: &[Vec<Vec<u32>>; 2]) -> Result<[Side; 2]> {
    let distances = Distances::between(Metric::SquaredEuclidean, synthetic, real);
    let rows = layout::share(synthetic.rows(), world.rank(), world.size());
    // (smallest distance, bits of balls): of all threads and ranks.
    let side = |n: usize| -> Vec<[AtomicU64; 2]> {
        (0..n).map(|_| [AtomicU64::new(u64::from(u32::MAX)), AtomicU64::new(0)]).collect()
    };
    let found = [side(synthetic.rows()), side(real.rows())];
    let visited = distances.visit(rows, |tile| {
        let lines = tile.distances.par_chunks(tile.references.len());
        tile.queries.clone().into_par_iter().zip(lines).for_each(|(s, line)| {
            let (mut nearest, mut covered) = (u32::MAX, 0u64);
            for (r, &d) in tile.references.clone().zip(line) {
                nearest = nearest.min(d);
                let [near, over] = &found[1][r];
                if u64::from(d) < near.load(Ordering::Relaxed) {
                    near.fetch_min(u64::from(d), Ordering::Relaxed);
                }
                let mut reach = 0;
                for (k, (of_synthetic, of_real)) in radii[0].iter().zip(&radii[1]).enumerate() {
                    covered |= u64::from(d <= of_real[r]) << k;
                    reach |= u64::from(d <= of_synthetic[s]) << k;
                }
                if reach & !over.load(Ordering::Relaxed) != 0 {
                    over.fetch_or(reach, Ordering::Relaxed);
                }
            }
            found[0][s][0].fetch_min(u64::from(nearest), Ordering::Relaxed);
            found[0][s][1].fetch_or(covered, Ordering::Relaxed);
        });
    });
    world.agree(visited)?;
    Ok(found.map(|side| joined(world, &side, radii[0].len())))
}

/// The findings of all ranks, with `ks` different radii.
fn joined(world: &World, side: &[[AtomicU64; 2]], ks: usize) -> Side {
    let mut nearest: Vec<i64> = side.iter().map(|[d, _]| -(d.load(Ordering::Relaxed) as i64)).collect();
    world.max(&mut nearest);
    let mut covered: Vec<u64> = side.iter().map(|[_, over]| over.load(Ordering::Relaxed)).collect();
    for k in 0..ks {
        let mut bits: Vec<i64> = covered.iter().map(|over| (over >> k & 1) as i64).collect();
        world.max(&mut bits);
        covered.iter_mut().zip(bits).for_each(|(over, bit)| *over |= (bit as u64) << k);
    }
    Side { nearest: nearest.iter().map(|&d| (-d) as u32).collect(), covered }
}
