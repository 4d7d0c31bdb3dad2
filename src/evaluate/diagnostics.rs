//! What the genotypes look like: linkage disequilibrium by distance, allele frequencies, kinship.

use crate::comm::World;
use crate::error::Result;
use crate::genotype::Store;
use crate::packed::{unpack_row, MISSING};
use crate::rng::{Purpose, Stream};
use ndarray::Array2;
use rayon::prelude::*;
use std::ops::Range;

/// Distance bins of [`ld_decay`].
pub const LD_BINS: usize = 50;
/// SNPs in one window whose pairs are looked at.
const WINDOW: usize = 256;
/// Windows that are looked at, at most.
const WINDOWS: usize = 120;
/// Animals that are looked at, at most.
const ANIMALS: usize = 2000;

/// One distance bin of the decay of linkage disequilibrium.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LdBin {
    /// Geometric middle of the bin, base pairs.
    pub distance: f64,
    /// Pairs of SNPs in the bin.
    pub pairs: u64,
    /// Mean r² of the pairs, NaN without a pair.
    pub r2: f64,
    /// Standard error of the mean, from the variation between pairs.
    pub se: f64,
}

/// Sums of one window's bins: pairs, Σ r², Σ r⁴.
type Sums = Vec<(u64, f64, f64)>;

/// Mean r² of unphased allele counts (Rogers & Huff 2009, Genetics 182:839) in [`LD_BINS`] log-spaced bins from
/// 1 kb to 1 Mb. All pairs within up to 120 windows of 256 SNPs and up to 2,000 animals; missing calls stand at
/// their SNP's mean. The windows are dealt over the ranks; every rank returns the same.
pub fn ld_decay(world: &World, store: &Store, seed: u64) -> Result<Vec<LdBin>> {
    let windows = windows(store.n_variants(), seed);
    let animals = sorted_sample(store.n_animals(), ANIMALS, seed, 1);
    let mine: Vec<usize> = (0..windows.len()).filter(|w| w % world.size() == world.rank()).collect();
    let sums = mine.iter().map(|&w| Ok((w, window_sums(store, &animals, windows[w].clone())?)));
    let sums = world.agree(sums.collect::<Result<Vec<(usize, Sums)>>>())?;
    // Added in the order of the windows: the same reals on any number of ranks.
    let mut all: Vec<(usize, Sums)> = world.all_gather(&sums).into_iter().flatten().collect();
    all.sort_by_key(|(w, _)| *w);
    let mut total: Sums = vec![(0, 0.0, 0.0); LD_BINS];
    for (t, s) in all.iter().flat_map(|(_, s)| s.iter().enumerate()).map(|(k, s)| (k, *s)) {
        total[t].0 += s.0;
        total[t].1 += s.1;
        total[t].2 += s.2;
    }
    Ok(total.iter().enumerate().map(|(k, &(n, r2, r4))| bin(k, n, r2, r4)).collect())
}

pub(super) fn bin(k: usize, pairs: u64, sum: f64, squares: f64) -> LdBin {
    let n = pairs as f64;
    let mean = sum / n;
    let variance = (squares / n - mean * mean).max(0.0) * n / (n - 1.0);
    let distance = 1e3 * 1e3f64.powf((k as f64 + 0.5) / LD_BINS as f64);
    LdBin { distance, pairs, r2: mean, se: (variance / n).sqrt() }
}

/// The bin of a distance in base pairs, if it lies in 1 kb to 1 Mb.
pub(super) fn bin_of(distance: u64) -> Option<usize> {
    let at = ((distance as f64).log10() - 3.0) / 3.0 * LD_BINS as f64;
    (at >= 0.0 && at < LD_BINS as f64).then_some(at as usize)
}

/// Whole windows of the store, all or a sample, in order.
fn windows(m: usize, seed: u64) -> Vec<Range<usize>> {
    sorted_sample(m.div_ceil(WINDOW), WINDOWS, seed, 0)
        .into_iter()
        .map(|w| w * WINDOW..((w + 1) * WINDOW).min(m))
        .collect()
}

/// `wanted` of 0..`n` without replacement, in order; all when there are no more.
pub(super) fn sorted_sample(n: usize, wanted: usize, seed: u64, index: u64) -> Vec<usize> {
    let mut all: Vec<usize> = (0..n).collect();
    Stream::new(seed, Purpose::Sample, index).shuffle(&mut all);
    all.truncate(wanted);
    all.sort_unstable();
    all
}

fn window_sums(store: &Store, animals: &[usize], snps: Range<usize>) -> Result<Sums> {
    let block = store.read(0..store.n_animals(), snps.clone())?;
    let z = standardized(&block, animals); // (animals, window)
    let r = z.t().dot(&z); // correlations
    let (chromosome, position) = (&store.variants().chromosome, &store.variants().position);
    let mut sums = vec![(0, 0.0, 0.0); LD_BINS];
    for (a, i) in snps.clone().enumerate() {
        for (b, j) in (i + 1..snps.end).enumerate().map(|(b, j)| (a + 1 + b, j)) {
            let known = chromosome[i] == chromosome[j] && position[i] > 0 && position[j] > 0;
            let distance = position[i].abs_diff(position[j]);
            let r2 = f64::from(r[(a, b)]).powi(2);
            // A SNP without variation has no correlation: its column is NaN.
            if let (true, Some(k), true) = (known, bin_of(distance), r2.is_finite()) {
                sums[k].0 += 1;
                sums[k].1 += r2;
                sums[k].2 += r2 * r2;
            }
        }
    }
    Ok(sums)
}

/// Columns of mean 0 and length 1, missing calls 0, (animals, columns).
pub(super) fn standardized(block: &crate::packed::Packed, animals: &[usize]) -> Array2<f32> {
    let mut z = Array2::<f32>::zeros((animals.len(), block.columns()));
    z.outer_iter_mut().into_par_iter().zip(animals).for_each(|(mut row, &i)| {
        let mut codes = vec![0; block.columns()];
        unpack_row(block.row(i), &mut codes);
        row.iter_mut().zip(codes).for_each(|(z, c)| *z = if c == MISSING { f32::NAN } else { f32::from(c) });
    });
    z.columns_mut().into_iter().for_each(|mut column| {
        let called: Vec<f64> = column.iter().filter(|x| !x.is_nan()).map(|x| f64::from(*x)).collect();
        let mean = crate::stats::mean(&called);
        let length = called.iter().map(|x| (x - mean).powi(2)).sum::<f64>().sqrt();
        column.mapv_inplace(|x| {
            let centred = if x.is_nan() { 0.0 } else { f64::from(x) - mean };
            (centred / length) as f32
        });
    });
    z
}

/// Counts of values in equal bins.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Lower edge of the first bin.
    pub low: f64,
    /// Width of a bin.
    pub width: f64,
    /// Values in each bin; the last one includes its upper edge.
    pub counts: Vec<u64>,
}

impl Histogram {
    /// Counts the finite `values` in `bins` bins over `low..=high`; values beyond count at the edge.
    pub fn of(values: impl IntoIterator<Item = f64>, low: f64, high: f64, bins: usize) -> Histogram {
        let width = if high > low { (high - low) / bins as f64 } else { 1.0 };
        let mut counts = vec![0; bins];
        for v in values.into_iter().filter(|v| v.is_finite()) {
            counts[(((v - low) / width).max(0.0) as usize).min(bins - 1)] += 1;
        }
        Histogram { low, width, counts }
    }
}

/// Minor-allele frequencies of the SNPs in 50 bins from 0 to 0.5.
pub fn maf_spectrum(frequencies: &[f64]) -> Histogram {
    Histogram::of(frequencies.iter().map(|p| p.min(1.0 - p)), 0.0, 0.5, 50)
}

/// Relationships between different animals, G_ij with i < j, in 80 bins from the smallest to the largest.
pub fn kinship(g: &Array2<f64>) -> Histogram {
    let pairs = || (0..g.nrows()).flat_map(move |i| (0..i).map(move |k| g[(i, k)]));
    let (low, high) = pairs().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    Histogram::of(pairs(), low, high, 80)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::genotype::{Animals, StoreWriter, Variants};
    use crate::packed::Packed;

    /// 300 animals and 400 SNPs, 10 kb apart; each SNP copies the one before with probability 0.9.
    fn store(folder: &std::path::Path) -> Store {
        let (n, m) = (300, 400);
        let mut codes = vec![0u8; n * m];
        let mut s = Stream::new(1, Purpose::Test, 0);
        for i in 0..n {
            for j in 0..m {
                let copy = j > 0 && s.uniform() < 0.9;
                codes[i * m + j] = if copy { codes[i * m + j - 1] } else { s.below(3) as u8 };
            }
        }
        codes[5] = MISSING;
        (0..n).for_each(|i| codes[i * m + 7] = 1);
        let path = folder.join("s.h5");
        let mut writer = StoreWriter::create(&path, n, m, false).unwrap();
        writer.write_rows(0, &Packed::from_codes(n, m, &codes)).unwrap();
        let text = |t: &str| vec![t.to_string(); m];
        let variants = Variants {
            chromosome: text("1"),
            position: (0..m as u64).map(|j| 1 + j * 10_000).collect(),
            id: (0..m).map(|j| format!("s{j}")).collect(),
            counted_allele: text("A"),
            other_allele: text("B"),
            cm: vec![f64::NAN; m],
            frequency: vec![0.5; m],
            missing: vec![0; m],
        };
        writer.finish(&Animals::named((0..n).map(|i| format!("a{i}")).collect()), &variants).unwrap();
        Store::open(&path).unwrap()
    }

    #[test]
    fn linkage_decays_as_it_was_made() {
        let dir = tempfile::tempdir().unwrap();
        let bins = ld_decay(&World::alone(), &store(dir.path()), 1).unwrap();
        let at = |d: u64| bins[bin_of(d).unwrap()];
        // r = 0.9 a step, so r² = 0.81 for neighbours and 0.81^5 at 50 kb.
        assert!((at(10_000).r2 - 0.81).abs() < 0.03, "{:?}", at(10_000));
        assert!((at(50_000).r2 - 0.35).abs() < 0.06, "{:?}", at(50_000));
        // Unlinked: 1/n from sampling.
        assert!(bins[49].r2 < 0.01 && bins[49].pairs > 1000, "{:?}", bins[49]);
        assert_eq!(bins[0].pairs, 0);
    }

    #[test]
    fn bins_cover_a_kilobase_to_a_megabase() {
        assert_eq!([999, 1000, 999_999, 1_000_000].map(bin_of), [None, Some(0), Some(49), None]);
    }

    #[test]
    fn histograms_count_everything_once() {
        let h = Histogram::of([0.0, 0.1, 0.5, f64::NAN, 0.49], 0.0, 0.5, 5);
        assert_eq!(h.counts, [1, 1, 0, 0, 2]);
        assert_eq!(maf_spectrum(&[0.9, 0.1, 0.5]).counts.iter().sum::<u64>(), 3);
        let g = ndarray::array![[1.0, 0.2, -0.1], [0.2, 1.0, 0.5], [-0.1, 0.5, 1.0]];
        let k = kinship(&g);
        assert_eq!((k.low, k.counts.iter().sum::<u64>(), k.counts[79]), (-0.1, 3, 1));
    }
}
