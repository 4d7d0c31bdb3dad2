//! The founders' haplotypes: mosaics of ancestral haplotypes (Li & Stephens 2003).
//!
//! Every ancestral haplotype has a score that changes by jumps along the chromosome, slowly in one part and
//! fast in another; a founder haplotype copies the score of one ancestor after the other. At a SNP whose
//! counted allele has frequency p the share p of the founder haplotypes with the lowest scores carries it.
//! Neighbouring SNPs see nearly the same scores, and the nearer they are the likelier the same frequency:
//! hence the linkage disequilibrium. docs/simulation.md tells how the rates were found.

use super::config::FoundersConfig;
use super::map::Map;
use super::meiosis::{Haplotype, WORDS};
use crate::rng::{Purpose, Stream};
use std::ops::Range;
use std::sync::Arc;

/// The founders' distribution of the minor-allele frequency: of 50,161 SNPs there are, between these limits ...
const MAF_LIMITS: [f64; 13] = [0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5];
/// ... so many. Fewer rare alleles than the published panel has: drift in the pedigree makes up for them.
const MAF_COUNTS: [f64; 12] =
    [1100.0, 500.0, 1900.0, 4450.0, 4600.0, 4950.0, 5080.0, 5150.0, 5400.0, 5450.0, 5700.0, 5881.0];

/// What a stream of founder numbers is for: the top byte of its index.
#[derive(Clone, Copy)]
enum Kind {
    Frequency = 0,
    Slow = 1,
    Fast = 2,
    Mosaic = 3,
}

/// The founders of a herd.
pub struct Founders {
    seed: u64,
    map: Arc<Map>,
    config: FoundersConfig,
    haplotypes: usize,
    /// Frequency of the counted allele among the founder haplotypes, for every SNP.
    pub frequency: Vec<f64>,
}

/// A value that jumps along a chromosome: `values[k]` holds up to the place `ends[k]`.
struct Jumps<V> {
    ends: Vec<f64>,
    values: Vec<V>,
}

/// The haplotypes' histories along one chromosome.
struct Histories {
    /// Slow and fast scores of each ancestor.
    ancestors: Vec<[Jumps<f32>; 2]>,
    /// Which ancestor each founder haplotype copies, and its own score.
    mosaics: Vec<Jumps<(u32, f32)>>,
}

/// The histories that a run of SNPs needs.
pub struct Prepared(Vec<(usize, Histories)>);

impl Founders {
    /// `count` founders on a map.
    pub fn new(seed: u64, map: &Arc<Map>, config: &FoundersConfig, count: usize) -> Self {
        let frequency = (0..map.chromosomes()).flat_map(|c| frequencies(seed, map, config, c)).collect();
        Founders { seed, map: map.clone(), config: config.clone(), haplotypes: 2 * count, frequency }
    }

    /// Draws the histories along the chromosomes that `snps` touch.
    pub fn prepare(&self, snps: &Range<usize>) -> Prepared {
        let touched = (0..self.map.chromosomes()).filter(|&c| {
            let here = self.map.chromosome(c);
            here.start < snps.end && snps.start < here.end
        });
        Prepared(touched.map(|c| (c, self.histories(c))).collect())
    }

    fn histories(&self, c: usize) -> Histories {
        let span = f64::from(self.map.span(c));
        let stream = |kind, index: usize| stream(self.seed, kind, c, index);
        let scores = |kind, rate, k| Jumps::draw(&mut stream(kind, k), span, rate, |s| s.normal() as f32);
        let f = &self.config;
        let ancestors = (0..f.ancestors)
            .map(|k| {
                [scores(Kind::Slow, f.slow_changes_per_mb, k), scores(Kind::Fast, f.fast_changes_per_mb, k)]
            })
            .collect();
        let mosaics = (0..self.haplotypes)
            .map(|h| {
                Jumps::draw(&mut stream(Kind::Mosaic, h), span, f.switches_per_mb, |s| {
                    (s.below(f.ancestors) as u32, s.normal() as f32)
                })
            })
            .collect();
        Histories { ancestors, mosaics }
    }

    /// The founders' haplotypes at a chunk of SNPs, two a founder.
    pub fn haplotypes(&self, prepared: &Prepared, snps: &Range<usize>) -> Vec<Haplotype> {
        let mut out = vec![[0u64; WORDS]; self.haplotypes];
        for (c, histories) in &prepared.0 {
            let here = self.map.chromosome(*c);
            let run = snps.start.max(here.start)..snps.end.min(here.end);
            if run.is_empty() {
                continue;
            }
            let scores = self.scores(histories, &run, self.map.position[here.start]);
            for (j, scores) in run.clone().zip(scores.chunks_exact(self.haplotypes)) {
                let at = j - snps.start;
                let carriers = (self.frequency[j] * self.haplotypes as f64).round() as usize;
                let Some(last) = carriers.checked_sub(1) else { continue };
                let mut sorted = scores.to_vec();
                let limit = *sorted.select_nth_unstable_by(last, f32::total_cmp).1;
                for (haplotype, &score) in out.iter_mut().zip(scores) {
                    haplotype[at / 64] |= u64::from(score <= limit) << (at % 64);
                }
            }
        }
        out
    }

    /// Scores of the founder haplotypes at a run of SNPs of one chromosome that begins at `first`: (run, haplotypes).
    fn scores(&self, histories: &Histories, run: &Range<usize>, first: u32) -> Vec<f32> {
        let f = &self.config;
        let [slow, fast] = [1.0 - f.fast, f.fast].map(|w| ((1.0 - f.own) * w).sqrt() as f32);
        let own = f.own.sqrt() as f32;
        let places: Vec<f64> = self.map.position[run.clone()].iter().map(|&p| f64::from(p - first)).collect();
        let mut ancestral = vec![0f32; places.len() * f.ancestors];
        for (k, [slow_scores, fast_scores]) in histories.ancestors.iter().enumerate() {
            for (j, (s, q)) in slow_scores.along(&places).zip(fast_scores.along(&places)).enumerate() {
                ancestral[j * f.ancestors + k] = slow * s + fast * q;
            }
        }
        let mut scores = vec![0f32; places.len() * self.haplotypes];
        for (h, mosaic) in histories.mosaics.iter().enumerate() {
            for (j, (ancestor, private)) in mosaic.along(&places).enumerate() {
                scores[j * self.haplotypes + h] =
                    ancestral[j * f.ancestors + ancestor as usize] + own * private;
            }
        }
        scores
    }
}

impl<V: Copy> Jumps<V> {
    /// Jumps of a Poisson process with `per_mb` jumps per megabase over `span` base pairs.
    fn draw(stream: &mut Stream, span: f64, per_mb: f64, mut value: impl FnMut(&mut Stream) -> V) -> Self {
        let mut jumps = Jumps { ends: Vec::new(), values: Vec::new() };
        let mut at = 0.0;
        while at <= span {
            at += -(1.0 - stream.uniform()).ln() * 1e6 / per_mb;
            jumps.ends.push(at);
            jumps.values.push(value(stream));
        }
        jumps
    }

    /// The values at rising places.
    fn along<'b>(&'b self, places: &'b [f64]) -> impl Iterator<Item = V> + 'b {
        let mut k = self.ends.partition_point(|&end| end < places[0]);
        places.iter().map(move |&at| {
            while self.ends[k] < at {
                k += 1;
            }
            self.values[k]
        })
    }
}

fn stream(seed: u64, kind: Kind, chromosome: usize, index: usize) -> Stream {
    Stream::new(seed, Purpose::Founders, (kind as u64) << 56 | (chromosome as u64) << 48 | index as u64)
}

/// Frequencies of the counted allele along chromosome `c`.
fn frequencies(seed: u64, map: &Map, config: &FoundersConfig, c: usize) -> Vec<f64> {
    let positions = &map.position[map.chromosome(c)];
    let mut stream = stream(seed, Kind::Frequency, c, 0);
    let span = f64::from(map.span(c));
    let quantiles = Jumps::draw(&mut stream, span, config.frequency_changes_per_mb, Stream::uniform);
    let places: Vec<f64> = positions.iter().map(|&p| f64::from(p - positions[0])).collect();
    if places.is_empty() {
        return Vec::new();
    }
    quantiles
        .along(&places)
        .map(|u| {
            let u = (u + config.frequency_jitter * stream.normal()).rem_euclid(1.0);
            if u < 0.5 {
                minor_frequency(2.0 * u)
            } else {
                1.0 - minor_frequency(2.0 - 2.0 * u)
            }
        })
        .collect()
}

/// The minor-allele frequency at quantile `u` of the published distribution.
fn minor_frequency(u: f64) -> f64 {
    let mut left = u * MAF_COUNTS.iter().sum::<f64>();
    for (count, limits) in MAF_COUNTS.iter().zip(MAF_LIMITS.windows(2)) {
        if left <= *count {
            return limits[0] + (limits[1] - limits[0]) * left / count;
        }
        left -= count;
    }
    0.5
}

#[cfg(test)]
mod tests {
    use super::super::config::MapConfig;
    use super::*;

    #[test]
    fn founders_carry_the_drawn_frequency_exactly_and_chunks_fit_together() {
        let map = Arc::new(Map::draw(3, 700, &MapConfig::default()));
        let founders = Founders::new(3, &map, &FoundersConfig::default(), 40);
        for snps in crate::comm::layout::chunks(0..700) {
            let whole = founders.haplotypes(&founders.prepare(&(0..700)), &snps);
            assert_eq!(whole, founders.haplotypes(&founders.prepare(&snps), &snps));
            for j in snps.clone() {
                let at = j - snps.start;
                let carriers = whole.iter().filter(|h| h[at / 64] >> (at % 64) & 1 == 1).count();
                let want = (founders.frequency[j] * 80.0).round() as usize;
                assert_eq!(carriers, want, "SNP {j}");
            }
        }
    }

    #[test]
    fn the_quantile_function_has_the_mean_of_its_classes() {
        let n = 100_000;
        let mean =
            (0..n).map(|i| minor_frequency((f64::from(i) + 0.5) / f64::from(n))).sum::<f64>() / f64::from(n);
        assert!((mean - 0.2677).abs() < 0.001, "{mean}");
        assert_eq!((minor_frequency(0.0), minor_frequency(1.0)), (0.0, 0.5));
    }
}
