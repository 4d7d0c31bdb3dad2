//! Gains of splits, and the best of them (Chen & Guestrin 2016, eq. 7 and alg. 3).

use super::tree::Split;
use crate::device::by_code::CODES;
use crate::rng::Stream;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// SNPs that one thread looks at, at a time.
const RUN: usize = 2048;

/// Splits from the root to a leaf, at most: what may be asked for.
pub const DEEPEST: usize = 64;

/// What may be split, and how.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Splits from the root to a leaf, at most.
    pub depth: usize,
    /// Leaves of a tree, at most.
    pub leaves: usize,
    /// Animals (by weights over their mean) on each side of a split, at least.
    pub min_animals: f64,
    /// λ: what is added to the weights of a side.
    pub l2: f64,
    /// γ: what a split must gain.
    pub gamma: f64,
    /// Share of the SNPs that each node may ask about.
    pub snp_share: f64,
}

/// What is known of a node.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Totals {
    /// Animals of the sample.
    pub count: i32,
    /// Sum of the whole gradients.
    pub gradient: i32,
    /// Sum of the whole weights, or the animals where weights are all the same.
    pub weight: i32,
}

/// How whole numbers are read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Units {
    /// A whole gradient.
    pub gradient: f64,
    /// A whole weight.
    pub weight: f64,
    /// The mean weight of an animal.
    pub mean_weight: f64,
}

/// The best split of a node among some SNPs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// What it gains.
    pub gain: f64,
    /// Number of the SNP among those of all ranks.
    pub snp: u32,
    /// As [`Split::cut`].
    pub cut: u8,
    /// As [`Split::missing_first`].
    pub missing_first: bool,
}

impl Candidate {
    /// The better of two: the larger gain, the lower SNP where gains are equal.
    pub fn better(a: Option<Candidate>, b: Option<Candidate>) -> Option<Candidate> {
        match (a, b) {
            (Some(a), Some(b)) => {
                let second = b.gain > a.gain || (b.gain == a.gain && b.snp < a.snp);
                Some(if second { b } else { a })
            }
            (a, b) => a.or(b),
        }
    }
}

impl From<Candidate> for Split {
    fn from(c: Candidate) -> Split {
        Split { snp: c.snp, cut: c.cut, missing_first: c.missing_first, gain: c.gain }
    }
}

/// The sums of a node at one SNP, (counts, gradients and, where they differ, weights) by code.
struct Sums<'a> {
    totals: &'a Totals,
    of: &'a [i32],
}

impl Sums<'_> {
    /// Gradient and weight of the codes 0, 1 and missing.
    fn by_code(&self) -> [(i32, i32); 3] {
        let gradients = &self.of[CODES..2 * CODES];
        let weights = if self.of.len() > 2 * CODES { &self.of[2 * CODES..] } else { &self.of[..CODES] };
        let zero = (
            self.totals.gradient - gradients.iter().sum::<i32>(),
            self.totals.weight - weights.iter().sum::<i32>(),
        );
        [zero, (gradients[0], weights[0]), (gradients[2], weights[2])]
    }
}

/// The best split of a node; `sums` (SNPs, width), `snps` their numbers among those of all ranks, rising. `drawn` is asked
/// which SNPs the node may look at where that is not all.
pub fn best(
    rules: &Rules,
    (totals, units): (&Totals, &Units),
    (snps, sums): (&[u32], &[i32]),
    drawn: Option<&Stream>,
) -> Option<Candidate> {
    let width = sums.len().checked_div(snps.len())?;
    let parts = snps.par_chunks(RUN).zip(sums.par_chunks(RUN * width));
    let of_part = |(snps, sums): (&[u32], &[i32])| {
        let mut best = None;
        for (&snp, of) in snps.iter().zip(sums.chunks_exact(width)) {
            if drawn.is_some_and(|stream| !is_drawn(stream, snp, rules.snp_share)) {
                continue;
            }
            let sums = Sums { totals, of };
            best = Candidate::better(best, of_snp(rules, units, snp, &sums));
        }
        best
    };
    parts.map(of_part).reduce(|| None, Candidate::better)
}

/// Whether a stream's draw for a SNP is below a share.
pub fn is_drawn(stream: &Stream, snp: u32, share: f64) -> bool {
    let word = stream.block(snp / 4)[snp as usize % 4];
    (f64::from(word) + 0.5) / 4_294_967_296.0 < share
}

/// The best split at one SNP.
fn of_snp(rules: &Rules, units: &Units, snp: u32, sums: &Sums) -> Option<Candidate> {
    let [zero, one, missing] = sums.by_code();
    let all = (sums.totals.gradient, sums.totals.weight);
    let score = |(g, h): (i32, i32)| {
        let (g, h) = (f64::from(g) * units.gradient, f64::from(h) * units.weight);
        g * g / (h + rules.l2)
    };
    let fewest = rules.min_animals * units.mean_weight / units.weight;
    let none = missing == (0, 0);
    let mut best: Option<Candidate> = None;
    for (cut, low) in [(1, zero), (2, (zero.0 + one.0, zero.1 + one.1))] {
        for missing_first in [true, false] {
            let first = match missing_first {
                true => (low.0 + missing.0, low.1 + missing.1),
                false => low,
            };
            let second = (all.0 - first.0, all.1 - first.1);
            if none {
                // Both ways are the same; new animals without a call go with the most.
                if missing_first != (first.1 >= second.1) {
                    continue;
                }
            }
            let (least, empty) = (f64::from(first.1.min(second.1)), first.1.min(second.1) <= 0);
            if empty || least < fewest {
                continue;
            }
            let gain = 0.5 * (score(first) + score(second));
            if best.is_none_or(|best| gain > best.gain) {
                best = Some(Candidate { gain, snp, cut, missing_first });
            }
        }
    }
    let gain = |c: Candidate| Candidate { gain: c.gain - 0.5 * score(all) - rules.gamma, ..c };
    best.map(gain).filter(|c| c.gain > 0.0)
}
