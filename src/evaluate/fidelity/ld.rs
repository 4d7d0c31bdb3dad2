//! Linkage disequilibrium: its decay with distance, and pair by pair.
//!
//! Correlations are those of unphased allele counts (Rogers & Huff 2009, Genetics 182:839). Pairs: all where there are up to 2,000 SNPs; else all within up to 120 windows of 256 SNPs for r² and its
//! decay, and all of 2,000 SNPs drawn at random for the correlation score.

use super::{Score, Setting};
use crate::evaluate::diagnostics::{bin, bin_of, sorted_sample, standardized, LdBin, LD_BINS};
use crate::genotype::Variants;
use crate::packed::Packed;
use ndarray::Array2;
use rayon::prelude::*;

/// SNPs of which all pairs are looked at.
const WIDE: usize = 2000;
/// SNPs of a window, and windows at most.
const WINDOW: (usize, usize) = (256, 120);

/// Linkage disequilibrium of two sets.
pub struct Linkage {
    /// Agreement of pairs of SNPs.
    pub scores: Vec<Score>,
    /// Decay by distance in each set.
    pub decay: [Vec<LdBin>; 2],
}

/// SNPs whose pairs are looked at, and for what.
struct Job {
    snps: Vec<usize>,
    squares: bool,
    signed: bool,
}

/// Sums over pairs of x and y: 1, x, y, x², y², xy.
type Moments = [f64; 6];

/// What one job gives: decay sums of both sets, moments of r² and of r.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Sums {
    decay: [Vec<(u64, f64, f64)>; 2],
    squares: Moments,
    signed: Moments,
}

/// Compares pairs of SNPs. Jobs are dealt over the ranks and added in their order. Collective.
pub fn compare(setting: &Setting, a: &Packed, b: &Packed) -> Linkage {
    let world = setting.world;
    let jobs = jobs(a.columns(), setting.seed);
    let (variants, mine) = (setting.variants, (world.rank()..jobs.len()).step_by(world.size()));
    let mine: Vec<usize> = mine.collect();
    let sums: Vec<(usize, Sums)> =
        mine.into_par_iter().map(|j| (j, work(variants, [a, b], &jobs[j]))).collect();
    let mut all: Vec<(usize, Sums)> = world.all_gather(&sums).into_iter().flatten().collect();
    all.sort_by_key(|(j, _)| *j);
    let mut total = Sums::zero();
    all.iter().for_each(|(_, sums)| total.add(sums));
    let [_, _, _, xx, _, xy] = total.squares;
    let scores = vec![
        ("ld_r2_r", pearson(&total.squares)),
        ("ld_r2_slope", xy / xx),
        ("correlation_score", pearson(&total.signed)),
    ];
    let decay = total.decay.map(|bins| bins.iter().enumerate().map(|(k, s)| bin(k, s.0, s.1, s.2)).collect());
    Linkage { scores, decay }
}

fn jobs(m: usize, seed: u64) -> Vec<Job> {
    if m <= WIDE {
        return vec![Job { snps: (0..m).collect(), squares: true, signed: true }];
    }
    let windows = sorted_sample(m.div_ceil(WINDOW.0), WINDOW.1, seed, 22).into_iter().map(|w| Job {
        snps: (w * WINDOW.0..((w + 1) * WINDOW.0).min(m)).collect(),
        squares: true,
        signed: false,
    });
    let wide = Job { snps: sorted_sample(m, WIDE, seed, 23), squares: false, signed: true };
    windows.chain([wide]).collect()
}

fn work(variants: &Variants, sets: [&Packed; 2], job: &Job) -> Sums {
    let [x, y] = [0, 1].map(|s| correlations(sets[s], &job.snps));
    let (chromosome, position) = (&variants.chromosome, &variants.position);
    let mut sums = Sums::zero();
    for (i, &j) in job.snps.iter().enumerate() {
        for (k, &l) in job.snps.iter().enumerate().skip(i + 1) {
            let pair = [f64::from(x[(i, k)]), f64::from(y[(i, k)])];
            let known = chromosome[j] == chromosome[l] && position[j] > 0 && position[l] > 0;
            let at = bin_of(position[j].abs_diff(position[l])).filter(|_| known && job.squares);
            for (decay, r) in sums.decay.iter_mut().zip(pair) {
                if let (Some(at), true) = (at, r.is_finite()) {
                    let r2 = r * r;
                    decay[at] = (decay[at].0 + 1, decay[at].1 + r2, decay[at].2 + r2 * r2);
                }
            }
            // A SNP without variation in one of the sets has no correlation.
            if pair.iter().all(|r| r.is_finite()) {
                if job.squares {
                    note(&mut sums.squares, pair.map(|r| r * r));
                }
                if job.signed {
                    note(&mut sums.signed, pair);
                }
            }
        }
    }
    sums
}

/// Correlations of the SNPs, NaN for those without variation.
fn correlations(packed: &Packed, snps: &[usize]) -> Array2<f32> {
    let all: Vec<usize> = (0..packed.rows()).collect();
    let z = standardized(&packed.select(&all, snps), &all);
    z.t().dot(&z)
}

impl Sums {
    fn zero() -> Sums {
        let none = || vec![(0, 0.0, 0.0); LD_BINS];
        Sums { decay: [none(), none()], squares: [0.0; 6], signed: [0.0; 6] }
    }

    fn add(&mut self, other: &Sums) {
        for (to, from) in self.decay.iter_mut().flatten().zip(other.decay.iter().flatten()) {
            *to = (to.0 + from.0, to.1 + from.1, to.2 + from.2);
        }
        for (to, from) in [(&mut self.squares, &other.squares), (&mut self.signed, &other.signed)] {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
    }
}

fn note(moments: &mut Moments, [x, y]: [f64; 2]) {
    moments.iter_mut().zip([1.0, x, y, x * x, y * y, x * y]).for_each(|(sum, term)| *sum += term);
}

fn pearson(&[n, x, y, xx, yy, xy]: &Moments) -> f64 {
    (xy - x * y / n) / ((xx - x * x / n) * (yy - y * y / n)).sqrt()
}
