//! Chromosomes cut into segments of random length, each of which is copied from one animal.

use super::chromosomes;
use crate::genotype::Variants;
use crate::packed::{Packed, PER_BYTE};
use crate::rng::Stream;
use std::ops::Range;

/// Centimorgans in a million base pairs, where a SNP has no genetic position.
const PER_MEGABASE: f64 = 1.0;
/// Centimorgans between neighbours that have no position at all.
const UNKNOWN: f64 = 0.05;

/// SNPs that are copied together, and the animal that they are copied from.
pub type Segment = (Range<usize>, usize);

/// The way along the chromosomes.
pub struct Chromosomes {
    /// Runs of SNPs on one chromosome.
    runs: Vec<Range<usize>>,
    /// Distance of every SNP from the first of its chromosome, in centimorgans.
    distance: Vec<f64>,
}

impl Chromosomes {
    /// Those of some SNPs.
    pub fn of(variants: &Variants) -> Chromosomes {
        let starts = chromosomes(variants);
        let ends = starts.iter().skip(1).copied().chain([variants.len()]);
        let runs: Vec<Range<usize>> = starts.iter().copied().zip(ends).map(|(a, b)| a..b).collect();
        let mut distance = vec![0.0; variants.len()];
        for run in &runs {
            for j in run.clone().skip(1) {
                distance[j] = distance[j - 1] + between(variants, j - 1, j);
            }
        }
        Chromosomes { runs, distance }
    }

    /// Number of SNPs, m.
    pub fn snps(&self) -> usize {
        self.distance.len()
    }

    /// All SNPs in segments whose lengths are exponential with a mean of `cm` centimorgans, each from the animal that
    /// `source` draws.
    pub fn segments(
        &self,
        stream: &mut Stream,
        cm: f64,
        mut source: impl FnMut(&mut Stream) -> usize,
    ) -> Vec<Segment> {
        let mut segments = Vec::new();
        for chromosome in &self.runs {
            let (mut start, mut end) = (chromosome.start, 0.0);
            while start < chromosome.end {
                let from = source(stream);
                end -= (1.0 - stream.uniform()).ln() * cm;
                let rest = &self.distance[start..chromosome.end];
                let next = start + rest.partition_point(|&d| d < end);
                if next > start {
                    segments.push((start..next, from));
                }
                start = next;
            }
        }
        segments
    }
}

/// Centimorgans between neighbours on a chromosome.
fn between(v: &Variants, a: usize, b: usize) -> f64 {
    let cm = (v.cm[b] - v.cm[a]).abs();
    match (v.position[a], v.position[b]) {
        _ if cm.is_finite() => cm,
        (1.., 1..) => v.position[b].abs_diff(v.position[a]) as f64 * 1e-6 * PER_MEGABASE,
        _ => UNKNOWN,
    }
}

/// Copies segments into a row: the SNPs `own` of all, of which `animals` has the calls.
pub fn paste(animals: &Packed, segments: &[Segment], own: &Range<usize>, row: &mut [u8]) {
    for (segment, from) in segments {
        let (start, end) = (segment.start.max(own.start), segment.end.min(own.end));
        if start < end {
            copy(animals.row(*from), row, start - own.start..end - own.start);
        }
    }
}

/// Copies the calls at `columns` from one packed row to another.
fn copy(from: &[u8], to: &mut [u8], columns: Range<usize>) {
    let (first, last) = (columns.start / PER_BYTE, (columns.end - 1) / PER_BYTE);
    let low = 0xFFu8 << (2 * (columns.start % PER_BYTE));
    let high = 0xFFu8 >> (2 * (PER_BYTE - 1 - (columns.end - 1) % PER_BYTE));
    let mut mix = |at: usize, mask: u8| to[at] = to[at] & !mask | from[at] & mask;
    if first == last {
        return mix(first, low & high);
    }
    mix(first, low);
    mix(last, high);
    to[first + 1..last].copy_from_slice(&from[first + 1..last]);
}
