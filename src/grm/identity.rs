//! VanRaden's method 1 from integers: M M' for any rectangle of animals and any block of SNPs.
//!
//! With allele counts x (0 where missing), P_j = 2p_j and o_ij = 1 where the call was made,
//!
//! (M M')_ik = Σ_j (x_ij − P_j + R_j (1 − o_ij)) (x_kj − P_j + R_j (1 − o_kj))
//!           = A_ik − (a_i + s_i) − (a_k + s_k) + b + C_ik,
//!
//! where R_j, what a missing call counts as, is P_j rounded to 24 or 32 bits, a_i = Σ_j P_j x_ij, b = Σ_j P_j², s_i = Σ P_j R_j
//! over the missing calls of i, and C_ik gathers Σ R_j x_ij over those of k, Σ R_j x_kj over those of i, and Σ R_j²
//! over those of both. P_j and the products with it are rounded once to whole quanta; all the rest is exact. Every
//! term is a sum over SNPs, so the blocks of SNPs may be added up in any order, on any rank.

use super::missing::{self, Means, Rectangle};
use crate::device::Backend;
use crate::device::Genotypes;
use crate::device::Part;
use crate::error::Result;
use crate::memory;
use crate::packed::{Packed, PER_BYTE};
use crate::stats::FixedPoint;
use rayon::prelude::*;
use std::ops::Range;

/// The finest unit in which a missing call counts: its mean, at most 2, has 32 bits.
const FINEST: f64 = 1.0 / (1u64 << 31) as f64;
/// From this many SNPs on, 24 bits do, as roundings cancel: the product with the lowest 8 is saved.
const MANY: usize = 1 << 14;

/// All animals of some SNPs, as they are packed and as a backend holds them.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    pub backend: &'a dyn Backend,
    pub held: &'a Genotypes,
    pub packed: &'a Packed,
}

/// What the integer identity needs beside A, for this rank's SNPs, in whole quanta.
pub(super) struct Identity<'a> {
    block: Block<'a>,
    point: FixedPoint,
    /// a_i + s_i.
    of_animal: Vec<i64>,
    /// b.
    constant: i64,
    /// R_j in units of 2^`shift` quanta.
    means: Vec<u32>,
    shift: u32,
    /// R_j² − 6R_j.
    both: Vec<i64>,
    /// Whether every call was made.
    complete: bool,
}

impl<'a> Identity<'a> {
    /// For a block of SNPs of these frequencies, NaN where no call was made, of `m` in all.
    pub(super) fn of(block: Block<'a>, frequencies: &[f64], m: usize) -> Self {
        let point = Self::point_of(m);
        let unit = point.quantum().max(FINEST);
        let step = if m < MANY { 1 } else { 256 };
        let most = u32::MAX / step;
        let rounded = |twice: f64| {
            step * (twice / unit / f64::from(step)).round_ties_even().min(f64::from(most)) as u32
        };
        let twice: Vec<f64> = frequencies.iter().map(|&p| if p.is_nan() { 0.0 } else { 2.0 * p }).collect();
        let means: Vec<u32> = twice.iter().map(|&twice| rounded(twice)).collect();
        let real = |mean: u32| f64::from(mean) * unit;
        let terms: Vec<[i64; 4]> = twice
            .iter()
            .zip(&means)
            .map(|(&twice, &mean)| {
                let linear = point.quantize(twice);
                [0, linear, 2 * linear, point.quantize(twice * real(mean))]
            })
            .collect();
        let both = means.iter().map(|&mean| point.quantize(real(mean) * (real(mean) - 6.0))).collect();
        let packed = block.packed;
        Identity {
            block,
            point,
            of_animal: sums_of(packed, &terms),
            constant: twice.iter().map(|twice| point.quantize(twice * twice)).sum(),
            means,
            shift: (unit / point.quantum()).log2() as u32,
            both,
            complete: (0..packed.rows()).into_par_iter().all(|i| packed.tally_row(i)[3] == 0),
        }
    }

    /// The quantum of the sums over `m` SNPs in all.
    pub(super) fn point_of(m: usize) -> FixedPoint {
        // A, a_i + s_i, a_k + s_k, b and C are each at most 4m.
        FixedPoint::for_bound(32.0 * m as f64)
    }

    /// sums += this block's part of M M' without C for the animals `rows` with the animals `columns`, in quanta, `sums`
    /// of shape (rows, columns).
    pub(super) fn add_tile(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        part: Part,
        sums: &mut [i64],
    ) -> Result<()> {
        let Block { backend, held, .. } = self.block;
        let mut products = memory::zeroed(sums.len());
        backend.counts(held, rows.clone(), columns.clone(), part, &mut products)?;
        let unit = self.point.quantize(1.0);
        let (width, of_column) = (columns.len(), &self.of_animal[columns.clone()]);
        sums.par_chunks_exact_mut(width.max(1)).zip(rows.clone()).enumerate().for_each(|(r, (sums, i))| {
            let constant = self.constant - self.of_animal[i];
            let products = &products[r * width..(r + 1) * width];
            for ((sum, product), of_column) in sums.iter_mut().zip(products).zip(of_column) {
                *sum += i64::from(*product) * unit + constant - of_column;
            }
        });
        Ok(())
    }

    /// Adds C, what missing calls give, to sums of any animals. All rectangles begin in the same column.
    pub(super) fn add_missing(&self, part: Part, rectangles: &mut [Rectangle]) {
        let means = Means { digits: &self.means, shift: self.shift, both: &self.both };
        if !self.complete {
            missing::add(self.block.packed, &means, part, rectangles);
        }
    }
}

/// Quads whose sums are looked up at a stretch: 16 KiB of tables.
const STRETCH: usize = 64;

/// Σ_j of what `terms`, by SNP and code, give each animal: four SNPs in two look-ups.
fn sums_of(packed: &Packed, terms: &[[i64; 4]]) -> Vec<i64> {
    let tables: Vec<[[i64; 16]; 2]> = terms
        .chunks(PER_BYTE)
        .map(|four| {
            let term = |s: usize, code: usize| four.get(s).map_or(0, |terms| terms[code & 3]);
            [0, 2].map(|s| std::array::from_fn(|pair| term(s, pair) + term(s + 1, pair >> 2)))
        })
        .collect();
    let mut sums = vec![0; packed.rows()];
    sums.par_chunks_mut(256).enumerate().for_each(|(chunk, sums)| {
        for (stretch, tables) in tables.chunks(STRETCH).enumerate() {
            for (i, sum) in (chunk * 256..).zip(sums.iter_mut()) {
                let codes = &packed.row(i)[stretch * STRETCH..];
                let looked_up = tables.iter().zip(codes).map(|([first, second], &byte)| {
                    first[usize::from(byte & 15)] + second[usize::from(byte >> 4)]
                });
                *sum += looked_up.sum::<i64>();
            }
        }
    });
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device;
    use crate::packed::{self, MISSING};
    use crate::rng::{Purpose, Stream};
    use std::sync::Arc;

    /// M M' from the definition, missing calls counted as the mean.
    fn definition(packed: &Packed, frequencies: &[f64], i: usize, k: usize) -> f64 {
        let value = |i: usize, j: usize| match packed.get(i, j) {
            MISSING => 0.0,
            code => f64::from(code) - 2.0 * frequencies[j],
        };
        (0..packed.columns()).map(|j| value(i, j) * value(k, j)).sum()
    }

    #[test]
    fn any_rectangle_is_the_sum_over_blocks_of_snps() {
        let (n, m) = (37, 600);
        let mut s = Stream::new(2, Purpose::Test, 11);
        let codes: Vec<u8> =
            (0..n * m).map(|_| if s.below(40) == 0 { MISSING } else { s.below(3) as u8 }).collect();
        let all = Packed::from_codes(n, m, &codes);
        let frequencies: Vec<f64> =
            all.tally_columns().iter().map(|t| packed::frequency(t).expect("calls")).collect();
        let backend = device::open("cpu").unwrap();
        let animals: Vec<usize> = (0..n).collect();
        // below and above the diagonal, across it, a single pair, nothing
        let rectangles = [(20..37, 0..20), (0..5, 9..37), (3..30, 10..25), (7..8, 36..37), (4..4, 0..9)];
        // as if these were all SNPs, or some of very many
        let most = [(m, FINEST), (MANY, 256.0 * FINEST)];
        for ((rows, columns), (m, unit)) in rectangles.iter().flat_map(|r| most.map(|most| (r.clone(), most)))
        {
            let mut sums = vec![0; rows.len() * columns.len()];
            // three ranks' SNPs, one of which owns none, in some order
            for snps in [256..600, 0..256, 256..256] {
                let part = all.select(&animals, &snps.clone().collect::<Vec<_>>());
                let held = backend.hold(&Arc::new(part.clone()), &vec![[0.0; 4]; snps.len()]).unwrap();
                let block = Block { backend: &*backend, held: &held, packed: &part };
                let identity = Identity::of(block, &frequencies[snps], m);
                identity.add_tile(rows.clone(), columns.clone(), Part::Whole, &mut sums).unwrap();
                let (rows, columns) = (rows.clone(), columns.clone());
                identity.add_missing(Part::Whole, &mut [Rectangle { rows, columns, sums: &mut sums }]);
            }
            for (at, &sum) in sums.iter().enumerate() {
                let (i, k) = (rows.start + at / columns.len(), columns.start + at % columns.len());
                let wanted = definition(&all, &frequencies, i, k);
                let missing = all.tally_row(i)[3] + all.tally_row(k)[3];
                // 600 terms of at most 4, and half a unit times a value for each missing call
                let bound = 1e-11 + missing as f64 * unit;
                assert!((Identity::point_of(m).real(sum) - wanted).abs() < bound, "{i} {k}");
            }
        }
    }
}
