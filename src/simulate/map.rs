//! The SNP map: 29 autosomes with the published panel's SNP counts and spacing.

use super::config::MapConfig;
use crate::rng::{Purpose, Stream};
use std::ops::Range;

/// SNPs on chromosomes 1 to 29 of the 50,161-SNP panel of 93,484 Holstein cows.
const PUBLISHED: [usize; 29] = [
    3121, 2551, 2518, 2309, 2238, 2587, 2091, 2142, 1918, 1984, 2134, 1528, 1663, 1771, 1633, 1573, 1480,
    1704, 1544, 1740, 1383, 1192, 1268, 1179, 987, 1111, 867, 891, 1054,
];

/// Quantiles of that panel's distances in base pairs: mean 49.4 kb, median 36.4 kb, largest 1.64 Mb.
const SPACING: [(f64, f64); 18] = [
    (0.0, 1.0),
    (0.01, 253.0),
    (0.05, 2954.0),
    (0.1, 11_931.0),
    (0.2, 22_602.0),
    (0.3, 26_577.0),
    (0.4, 31_079.0),
    (0.5, 36_367.0),
    (0.6, 42_840.0),
    (0.7, 52_554.0),
    (0.8, 68_017.0),
    (0.9, 97_394.0),
    (0.95, 131_785.0),
    (0.99, 235_577.0),
    (0.995, 293_755.0),
    (0.999, 457_530.0),
    (0.9999, 887_612.0),
    (1.0, 1_636_228.0),
];
/// The mean of the distribution above, in kilobases: what a configured mean is relative to.
const PUBLISHED_MEAN_KB: f64 = 49.4;
/// Empty ends of the chromosomes before the first SNP, in mean spacings.
const LARGEST_LEAD: f64 = 16.0;

/// Where the SNPs are.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    /// Position of every SNP in base pairs, rising within a chromosome.
    pub position: Vec<u32>,
    /// First SNP of each chromosome, and the number of SNPs: 30 entries.
    pub starts: Vec<usize>,
    /// Morgans per base pair.
    pub morgans_per_bp: f64,
}

impl Map {
    /// Draws `m` SNPs.
    pub fn draw(seed: u64, m: usize, config: &MapConfig) -> Map {
        let mut starts = vec![0];
        let mut position = Vec::with_capacity(m);
        for (c, count) in scaled_counts(m).into_iter().enumerate() {
            let mut stream = Stream::new(seed, Purpose::Map, c as u64);
            let scale = config.mean_spacing_kb / PUBLISHED_MEAN_KB;
            let mut at = stream.uniform() * LARGEST_LEAD * 1000.0 * config.mean_spacing_kb;
            for _ in 0..count {
                at += (quantile(stream.uniform()) * scale).max(1.0);
                position.push(at as u32);
            }
            starts.push(position.len());
        }
        Map { position, starts, morgans_per_bp: config.cm_per_mb * 1e-8 }
    }

    /// Number of SNPs, m.
    pub fn len(&self) -> usize {
        self.position.len()
    }

    /// The SNPs of chromosome `c` (from 0).
    pub fn chromosome(&self, c: usize) -> Range<usize> {
        self.starts[c]..self.starts[c + 1]
    }

    /// How many chromosomes there are.
    pub fn chromosomes(&self) -> usize {
        self.starts.len() - 1
    }

    /// Base pairs from the chromosome's first SNP to its last.
    pub fn span(&self, c: usize) -> u32 {
        let snps = self.chromosome(c);
        if snps.is_empty() {
            return 0;
        }
        self.position[snps.end - 1] - self.position[snps.start]
    }
}

/// The published counts scaled to a total of `m`, rounded so that the running totals are nearest.
fn scaled_counts(m: usize) -> Vec<usize> {
    let total: usize = PUBLISHED.iter().sum();
    let mut before = 0;
    let mut done = 0;
    PUBLISHED
        .iter()
        .map(|count| {
            before += count;
            let until = (2 * before * m + total) / (2 * total);
            let here = until - done;
            done = until;
            here
        })
        .collect()
}

/// The distance at quantile `u`, by interpolation.
fn quantile(u: f64) -> f64 {
    let upper = SPACING.iter().position(|k| k.0 >= u).expect("u is at most 1").max(1);
    let ((u0, d0), (u1, d1)) = (SPACING[upper - 1], SPACING[upper]);
    d0 + (d1 - d0) * (u - u0) / (u1 - u0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats;

    #[test]
    fn the_full_map_is_the_published_one() {
        let map = Map::draw(1, 50_161, &MapConfig::default());
        let counts: Vec<usize> = (0..29).map(|c| map.chromosome(c).len()).collect();
        assert_eq!(counts, PUBLISHED);
        let spacing: Vec<f64> = (0..29)
            .flat_map(|c| {
                map.position[map.chromosome(c)].windows(2).map(|w| f64::from(w[1] - w[0])).collect::<Vec<_>>()
            })
            .collect();
        let (mean, median) = (stats::mean(&spacing), stats::quantile(&spacing, 0.5));
        assert!((mean / 49_400.0 - 1.0).abs() < 0.03, "mean {mean}");
        assert!((median / 36_400.0 - 1.0).abs() < 0.03, "median {median}");
        let largest = spacing.iter().copied().fold(0.0, f64::max);
        assert!((0.6e6..1.64e6).contains(&largest), "{largest}");
    }

    #[test]
    fn counts_are_scaled_and_positions_rise_strictly() {
        for m in [0, 1, 2, 28, 29, 1000, 5003] {
            assert_eq!(scaled_counts(m).iter().sum::<usize>(), m);
            let map = Map::draw(5, m, &MapConfig::default());
            assert_eq!(map.len(), m);
            for c in 0..29 {
                assert!(map.position[map.chromosome(c)].windows(2).all(|w| w[0] < w[1]));
            }
        }
        let thin = MapConfig { mean_spacing_kb: 494.0, ..Default::default() };
        let (a, b) = (Map::draw(5, 1000, &MapConfig::default()), Map::draw(5, 1000, &thin));
        assert!(b.span(0) > 8 * a.span(0));
    }
}
