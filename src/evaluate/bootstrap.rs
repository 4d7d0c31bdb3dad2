//! Bootstrap samples (Efron 1979): animals drawn with replacement, or whole families of them.

use crate::evaluate::scores::Tested;
use crate::rng::{Purpose, Stream};
use crate::stats;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Bootstrap samples of the animals of a store: of whole families where there are some.
pub struct Draws {
    /// Cluster of every animal, from 0.
    cluster: Vec<u32>,
    /// How often each cluster was drawn, (samples)(clusters).
    counts: Vec<Vec<u16>>,
}

impl Draws {
    /// `families`: of every one of the `n` animals; one of `u32::MAX` is a cluster of its own.
    pub fn new(n: usize, families: Option<&[u32]>, seed: u64, samples: usize) -> Draws {
        let mut known = BTreeMap::new();
        let mut next = 0;
        let mut number = |family: u32| {
            let mut new = || {
                next += 1;
                next - 1
            };
            if family == u32::MAX {
                new()
            } else {
                *known.entry(family).or_insert_with(new)
            }
        };
        let of = |i: usize| families.map_or(u32::MAX, |families| families[i]);
        let cluster: Vec<u32> = (0..n).map(|i| number(of(i))).collect();
        let counts = (0..samples).into_par_iter().map(|b| sample(next as usize, seed, b)).collect();
        Draws { cluster, counts }
    }

    /// Number of samples.
    pub fn samples(&self) -> usize {
        self.counts.len()
    }

    /// Weights of the tested animals in a sample.
    pub fn weights(&self, sample: usize, tested: &Tested) -> Vec<f64> {
        let count = |&i: &u32| f64::from(self.counts[sample][self.cluster[i as usize] as usize]);
        tested.animal.iter().map(count).collect()
    }

    /// Effective number of clusters among the tested animals, (Σn)²/Σn².
    pub fn clusters(&self, tested: &Tested) -> f64 {
        let mut sizes = BTreeMap::<u32, f64>::new();
        tested.animal.iter().for_each(|&i| *sizes.entry(self.cluster[i as usize]).or_default() += 1.0);
        (tested.animal.len() as f64).powi(2) / sizes.values().map(|n| n * n).sum::<f64>()
    }
}

/// The bootstrap sample `number` of `n` animals, or clusters of them: how often each was drawn.
pub fn sample(n: usize, seed: u64, number: usize) -> Vec<u16> {
    let mut stream = Stream::new(seed, Purpose::Bootstrap, number as u64);
    let mut counts = vec![0u16; n];
    (0..n).for_each(|_| counts[stream.below(n)] += 1);
    counts
}

/// Variance between samples, over those in which the score exists.
pub fn variance(samples: &[f64]) -> f64 {
    let finite: Vec<f64> = samples.iter().copied().filter(|v| v.is_finite()).collect();
    stats::variance(&finite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_drawn_whole_and_animals_without_one_alone() {
        let families = [7, 7, u32::MAX, u32::MAX, 3, 7];
        let draws = Draws::new(6, Some(&families), 1, 50);
        let tested = Tested { animal: (0..6).collect(), ..Tested::default() };
        let weights: Vec<Vec<f64>> = (0..50).map(|b| draws.weights(b, &tested)).collect();
        assert!(weights.iter().all(|w| w[0] == w[1] && w[0] == w[5]));
        assert!(weights.iter().any(|w| w[2] != w[3]) && weights.iter().any(|w| w[0] != w[4]));
        assert!((draws.clusters(&tested) - 36.0 / 12.0).abs() < 1e-12);
    }
}
