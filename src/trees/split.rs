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
        let screen = Screen::new(rules, totals, units);
        for (run, (snps, sums)) in snps.chunks(LANES).zip(sums.chunks(LANES * width)).enumerate() {
            let looked: [bool; LANES] =
                std::array::from_fn(|lane| lane < snps.len() && share(run * LANES + lane));
            if best.is_some_and(|best| !screen.may_gain(sums, &looked, best.gain)) {
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

/// Says of [`LANES`] SNPs together that none of them gains more than the best so far: most SNPs are passed over by it.
struct Screen {
    totals: Totals,
    gradient: f32,
    weight: f32,
    l2: f32,
    fewest: f32,
}

/// More than the relative errors of a screen's numbers of 24 bits.
const MARGIN: f32 = 1e-5;

impl Screen {
    fn new(rules: &Rules, totals: &Totals, units: &Units) -> Screen {
        Screen {
            totals: *totals,
            gradient: units.gradient as f32,
            weight: units.weight as f32,
            l2: rules.l2 as f32,
            fewest: rules.fewest(units) as f32,
        }
    }

    /// Whether one of the SNPs that are `looked` at may gain more than `best`; `sums` (LANES or fewer, width).
    fn may_gain(&self, sums: &[i32], looked: &[bool; LANES], best: f64) -> bool {
        match (sums.as_chunks::<{ 2 * CODES }>().0, sums.as_chunks::<{ 3 * CODES }>().0) {
            (sums, _) if sums.len() == LANES => self.of(sums.try_into().expect("all lanes"), looked, best),
            (_, sums) if sums.len() == LANES => self.of(sums.try_into().expect("all lanes"), looked, best),
            _ => true,
        }
    }

    fn of<const WIDTH: usize>(
        &self,
        sums: &[[i32; WIDTH]; LANES],
        looked: &[bool; LANES],
        best: f64,
    ) -> bool {
        widest!(
            may_gain(self, sums, looked, best),
            fn[const WIDTH: usize](this: &Screen, sums: &[[i32; WIDTH]; LANES], looked: &[bool; LANES], best: f64) -> bool
        )
    }
}

/// Without divisions: G₁²/H₁ + G₂²/H₂ > b where G₁² H₂ + G₂² H₁ > b H₁ H₂.
#[inline(always)]
fn may_gain<const WIDTH: usize>(
    this: &Screen,
    sums: &[[i32; WIDTH]; LANES],
    looked: &[bool; LANES],
    best: f64,
) -> bool {
    let weights = if WIDTH > 2 * CODES { 2 * CODES } else { 0 };
    let (mut gradient, mut weight) = ([[0i32; LANES]; CODES], [[0i32; LANES]; CODES]);
    let mut missing = 0;
    for (lane, of) in sums.iter().enumerate() {
        for code in 0..CODES {
            gradient[code][lane] = of[CODES + code];
            weight[code][lane] = of[weights + code];
        }
        missing |= of[CODES + 2] | of[weights + 2];
    }
    let twice = 2.0 * best as f32;
    let mut any = [false; LANES];
    let mut look = |with_one: bool, with_missing: bool| {
        for lane in 0..LANES {
            // The side of the code 2 first: what is left is the other.
            let side = |all: i32, of: &[[i32; LANES]; CODES]| {
                let one = if with_one { 0 } else { of[0][lane] };
                let missing = if with_missing { 0 } else { of[2][lane] };
                let second = of[1][lane] + one + missing;
                [(all - second) as f32, second as f32]
            };
            let g = side(this.totals.gradient, &gradient).map(|g| g * this.gradient);
            let w = side(this.totals.weight, &weight);
            let h = w.map(|w| w * this.weight + this.l2);
            let gains = (g[0] * g[0] * h[1] + g[1] * g[1] * h[0]) * (1.0 + MARGIN) >= twice * h[0] * h[1];
            let enough = w[0].min(w[1]) * (1.0 + MARGIN) >= this.fewest;
            any[lane] |= gains & enough & looked[lane];
        }
    };
    look(false, false);
    look(true, false);
    if missing != 0 {
        look(false, true);
        look(true, true);
    }
    any.contains(&true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    #[test]
    fn the_best_of_many_snps_is_that_of_all_one_by_one() {
        let mut s = Stream::new(8, Purpose::Test, 0);
        for (weighted, any_missing, l2, min_animals) in [
            (false, false, 0.0, 1.0),
            (false, true, 50.0, 10.0),
            (true, false, 1.0, 40.0),
            (true, true, 0.5, 3.0),
        ] {
            let rules = Rules { depth: 4, leaves: 16, min_animals, l2, gamma: 0.0, snp_share: 1.0 };
            let units =
                Units { gradient: 0.017, weight: if weighted { 0.01 } else { 1.0 }, mean_weight: 1.0 };
            let all = 400;
            let totals = Totals { gradient: 900, weight: if weighted { 100 * all } else { all } };
            let width = if weighted { 3 * CODES } else { 2 * CODES };
            // Gains as large as each other are frequent, as numbers are few.
            let mut sums = Vec::new();
            for _ in 0..1000 {
                let counts: [i32; CODES] = std::array::from_fn(|code| match code {
                    2 if !any_missing => 0,
                    2 => s.below(20) as i32,
                    _ => 20 * s.below(9) as i32,
                });
                let gradients = counts.map(|count| count.min(1) * (100 * s.below(40) as i32 - 2000));
                sums.extend(counts);
                sums.extend(gradients);
                if weighted {
                    sums.extend(counts.map(|count| 100 * count));
                }
            }
            let snps: Vec<u32> = (0..1000).collect();
            let found = best(&rules, (&totals, &units), (&snps, &sums), None);
            let of = |(snp, of): (u32, &[i32])| of_snp(&rules, &units, snp, &Sums { totals: &totals, of });
            let one_by_one = (0..).zip(sums.chunks_exact(width)).map(of).fold(None, Split::better);
            assert!(found.is_some() && found == one_by_one, "{found:?} {one_by_one:?}");
        }
    }
}
