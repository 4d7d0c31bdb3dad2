//! Gains of splits, and the best of them (Chen & Guestrin 2016, eq. 7 and alg. 3).

use super::tree::Split;
use crate::device::by_code::CODES;
use crate::rng::Stream;
use crate::simd::widest;
use rayon::prelude::*;

/// SNPs that one thread looks at, at a time.
const RUN: usize = 2048;
/// SNPs that are looked at side by side.
const LANES: usize = 16;

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

impl Split {
    /// The better of two: the larger gain, the lower SNP where gains are equal.
    pub fn better(a: Option<Split>, b: Option<Split>) -> Option<Split> {
        match (a, b) {
            (Some(a), Some(b)) => {
                let second = b.gain > a.gain || (b.gain == a.gain && b.snp < a.snp);
                Some(if second { b } else { a })
            }
            (a, b) => a.or(b),
        }
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

/// The best split of a node, whose gain is that of [`scored`]; `sums` (SNPs, width), `snps` their numbers among those of
/// all ranks, rising. Where the node may not look at all, a stream is asked at which of the SNPs below a number.
pub fn best(
    rules: &Rules,
    (totals, units): (&Totals, &Units),
    (snps, sums): (&[u32], &[i32]),
    drawn: Option<(&Stream, u32)>,
) -> Option<Split> {
    let width = sums.len().checked_div(snps.len())?;
    let parts = snps.par_chunks(RUN).zip(sums.par_chunks(RUN * width));
    let of_part = |(snps, sums): (&[u32], &[i32])| {
        let mut best: Option<Split> = None;
        let words = drawn.map(|(stream, below)| (words(stream, snps), below));
        let share = |at: usize| {
            words
                .as_ref()
                .is_none_or(|(words, below)| snps[at] >= *below || is_below(words[at], rules.snp_share))
        };
        let most = Most::new(rules, totals, units);
        for (run, (snps, sums)) in snps.chunks(LANES).zip(sums.chunks(LANES * width)).enumerate() {
            let looked: [bool; LANES] =
                std::array::from_fn(|lane| lane < snps.len() && share(run * LANES + lane));
            if snps.len() == LANES
                && most.of(sums, &looked) <= best.map_or(f64::NEG_INFINITY, |best| best.gain)
            {
                continue;
            }
            for ((&snp, of), _) in
                snps.iter().zip(sums.chunks_exact(width)).zip(&looked).filter(|(_, looked)| **looked)
            {
                best = Split::better(best, of_snp(rules, units, snp, &Sums { totals, of }));
            }
        }
        best
    };
    parts.map(of_part).reduce(|| None, Split::better)
}

/// The best split of a node among those of all ranks with what it gains, where it gains anything.
pub fn scored(rules: &Rules, totals: &Totals, units: &Units, best: Option<Split>) -> Option<Split> {
    let all = 0.5 * score(rules, units, (totals.gradient, totals.weight));
    let gain = |c: Split| Split { gain: c.gain - all - rules.gamma, ..c };
    best.map(gain).filter(|c| c.gain > 0.0)
}

/// Whether a stream's draw for a SNP is below a share.
pub fn is_drawn(stream: &Stream, snp: u32, share: f64) -> bool {
    is_below(stream.block(snp / 4)[snp as usize % 4], share)
}

fn is_below(word: u32, share: f64) -> bool {
    (f64::from(word) + 0.5) / 4_294_967_296.0 < share
}

/// The draws of some SNPs, rising.
fn words(stream: &Stream, snps: &[u32]) -> Vec<u32> {
    let (Some(first), Some(last)) = (snps.first(), snps.last()) else { return Vec::new() };
    let begin = first / 4;
    let mut all = vec![0; 4 * (last / 4 - begin + 1) as usize];
    stream.blocks(begin, &mut all);
    snps.iter().map(|&snp| all[(snp - 4 * begin) as usize]).collect()
}

/// G² / (H + λ) of a side (Chen & Guestrin 2016, eq. 6).
#[inline(always)]
fn score(rules: &Rules, units: &Units, (gradient, weight): (i32, i32)) -> f64 {
    let g = f64::from(gradient) * units.gradient;
    g * g / (f64::from(weight) * units.weight + rules.l2)
}

/// The best split at one SNP; its gain is what both sides score.
fn of_snp(rules: &Rules, units: &Units, snp: u32, sums: &Sums) -> Option<Split> {
    let [zero, one, missing] = sums.by_code();
    let all = (sums.totals.gradient, sums.totals.weight);
    let fewest = rules.fewest(units);
    let none = missing == (0, 0);
    let mut best: Option<Split> = None;
    for (cut, low) in [(1, zero), (2, (zero.0 + one.0, zero.1 + one.1))] {
        for missing_first in [true, false] {
            let first = match missing_first {
                true => (low.0 + missing.0, low.1 + missing.1),
                false => low,
            };
            let second = (all.0 - first.0, all.1 - first.1);
            // Both ways are the same where no call is missing; new animals without one go with the most.
            if none && missing_first != (first.1 >= second.1) || f64::from(first.1.min(second.1)) < fewest {
                continue;
            }
            let gain = 0.5 * (score(rules, units, first) + score(rules, units, second));
            if best.is_none_or(|best| gain > best.gain) {
                best = Some(Split { gain, snp, cut, missing_first });
            }
        }
    }
    best
}

impl Rules {
    /// The whole weights that each side must have at least.
    fn fewest(&self, units: &Units) -> f64 {
        (self.min_animals * units.mean_weight / units.weight).max(1.0)
    }
}

/// What the best of [`LANES`] SNPs scores, without saying which and how: most SNPs are passed over by it.
struct Most<'a> {
    rules: &'a Rules,
    units: &'a Units,
    totals: &'a Totals,
    fewest: f64,
}

impl<'a> Most<'a> {
    fn new(rules: &'a Rules, totals: &'a Totals, units: &'a Units) -> Most<'a> {
        Most { rules, units, totals, fewest: rules.fewest(units) }
    }

    /// The largest gain of [`of_snp`] at the SNPs that are `looked` at, the same bits; `sums` (LANES, width).
    fn of(&self, sums: &[i32], looked: &[bool; LANES]) -> f64 {
        widest!(most(self, sums, looked), fn['b](this: &Most<'b>, sums: &[i32], looked: &[bool; LANES]) -> f64)
    }
}

#[inline(always)]
fn most(this: &Most, sums: &[i32], looked: &[bool; LANES]) -> f64 {
    let width = sums.len() / LANES;
    let weights = if width > 2 * CODES { 2 * CODES } else { 0 };
    let (mut gradient, mut weight) = ([[0i32; LANES]; CODES], [[0i32; LANES]; CODES]);
    for (lane, of) in sums.chunks_exact(width).enumerate() {
        for code in 0..CODES {
            gradient[code][lane] = of[CODES + code];
            weight[code][lane] = of[weights + code];
        }
    }
    let any_missing = gradient[2].iter().chain(&weight[2]).any(|&v| v != 0);
    let mut best = [f64::NEG_INFINITY; LANES];
    let mut look = |with_one: bool, with_missing: bool| {
        for lane in 0..LANES {
            // The side of the code 2 first: what is left is the other.
            let side = |all: i32, of: &[[i32; LANES]; CODES]| {
                let one = if with_one { 0 } else { of[0][lane] };
                let missing = if with_missing { 0 } else { of[2][lane] };
                let second = of[1][lane] + one + missing;
                (all - second, second)
            };
            let (g, h) = (side(this.totals.gradient, &gradient), side(this.totals.weight, &weight));
            let scores =
                score(this.rules, this.units, (g.0, h.0)) + score(this.rules, this.units, (g.1, h.1));
            let enough = f64::from(h.0.min(h.1)) >= this.fewest && looked[lane];
            let gain = if enough { 0.5 * scores } else { f64::NEG_INFINITY };
            best[lane] = if gain > best[lane] { gain } else { best[lane] };
        }
    };
    look(false, false);
    look(true, false);
    if any_missing {
        look(false, true);
        look(true, true);
    }
    best.into_iter().fold(f64::NEG_INFINITY, f64::max)
}
