//! VanRaden's method 1 from integers: M M' for any rectangle of animals and any block of SNPs.
//!
//! With allele counts x (0 where missing), P_j = 2p_j and o_ij = 1 where the call was made,
//!
//! (M M')_ik = Σ_j x_ij x_kj − Σ_j P_j (x_ij o_kj + o_ij x_kj) + Σ_j P_j² o_ij o_kj
//!           = A_ik − (a_i + s_i) − (a_k + s_k) + b + C_ik,
//!
//! a_i = Σ_j P_j x_ij, b = Σ_j P_j², s_i = Σ P_j² over the missing calls of i, and C_ik gathers what either's
//! missing calls take away twice: Σ P_j x_ij over those of k, Σ P_j x_kj over those of i, Σ P_j² over those of
//! both. P_j and P_j² are rounded once to whole quanta; all the rest is exact. Every term is a sum over SNPs, so
//! the blocks of SNPs may be added up in any order, on any rank.

use super::missing::{Missing, LANES};
use crate::device::Backend;
use crate::device::Genotypes;
use crate::device::Part;
use crate::error::Result;
use crate::packed::{Packed, MISSING, PER_BYTE};
use crate::stats::FixedPoint;
use rayon::prelude::*;
use std::ops::Range;

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
    /// What SNP j adds to C_ik where i's call is missing, by k's code: 0, P_j, 2P_j, P_j².
    of_missing: Vec<[i64; 4]>,
    /// Each animal's SNPs without a call.
    missing: Missing,
}

impl<'a> Identity<'a> {
    /// For a block of SNPs of these frequencies, NaN where no call was made, of `m` in all.
    pub(super) fn of(block: Block<'a>, frequencies: &[f64], m: usize) -> Self {
        let point = Self::point_of(m);
        let of_missing: Vec<[i64; 4]> = frequencies
            .iter()
            .map(|&p| {
                let twice = if p.is_nan() { 0.0 } else { 2.0 * p };
                let linear = point.quantize(twice);
                [0, linear, 2 * linear, point.quantize(twice * twice)]
            })
            .collect();
        Identity {
            block,
            point,
            of_animal: sums_of(block.packed, &of_missing),
            constant: of_missing.iter().map(|t| t[usize::from(MISSING)]).sum(),
            missing: Missing::of(block.packed),
            of_missing,
        }
    }

    /// The quantum of the sums over `m` SNPs in all.
    pub(super) fn point_of(m: usize) -> FixedPoint {
        // A, a_i + s_i, a_k + s_k, b and C are each at most 4m.
        FixedPoint::for_bound(32.0 * m as f64)
    }

    /// sums += this block's part of M M' for the animals `rows` with the animals `columns`, in quanta, `sums` of
    /// shape (rows, columns).
    pub(super) fn add_tile(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        part: Part,
        sums: &mut [i64],
    ) -> Result<()> {
        let Block { backend, held, packed } = self.block;
        let mut products = vec![0; sums.len()];
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
        if !self.missing.is_empty() {
            self.correct(packed, rows, columns, sums);
        }
        Ok(())
    }

    /// sums += C, (rows, columns).
    fn correct(&self, packed: &Packed, rows: Range<usize>, columns: Range<usize>, sums: &mut [i64]) {
        let once: Vec<[i64; 4]> = self.of_missing.iter().map(|t| [t[0], t[1], t[2], 0]).collect();
        let of_rows = self.missing.sums(packed, &self.of_missing, columns.clone(), rows.clone());
        let of_columns = self.missing.sums(packed, &once, rows.clone(), columns.clone());
        let (count, width) = (rows.len(), columns.len());
        sums.par_chunks_mut((width * LANES).max(1)).enumerate().for_each(|(block, sums)| {
            let of_columns = &of_columns[block * width..(block + 1) * width];
            for (lane, sums) in sums.chunks_exact_mut(width).enumerate() {
                let of_row =
                    (0..).map(|block_of_columns| &of_rows[block_of_columns * count + block * LANES + lane]);
                for ((sums, of_columns), of_row) in
                    sums.chunks_mut(LANES).zip(of_columns.chunks(LANES)).zip(of_row)
                {
                    for ((sum, of_column), of_row) in sums.iter_mut().zip(of_columns).zip(of_row) {
                        *sum += of_column[lane] + of_row;
                    }
                }
            }
        });
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
    use crate::packed;
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
        for (rows, columns) in [(20..37, 0..20), (0..5, 9..37), (3..30, 10..25), (7..8, 36..37), (4..4, 0..9)]
        {
            let mut sums = vec![0; rows.len() * columns.len()];
            // three ranks' SNPs, one of which owns none, in some order
            for snps in [256..600, 0..256, 256..256] {
                let part = all.select(&animals, &snps.clone().collect::<Vec<_>>());
                let held = backend.hold(&Arc::new(part.clone()), &vec![[0.0; 4]; snps.len()]).unwrap();
                let block = Block { backend: &*backend, held: &held, packed: &part };
                let identity = Identity::of(block, &frequencies[snps], m);
                identity.add_tile(rows.clone(), columns.clone(), Part::Whole, &mut sums).unwrap();
            }
            for (at, &sum) in sums.iter().enumerate() {
                let (i, k) = (rows.start + at / columns.len(), columns.start + at % columns.len());
                let wanted = definition(&all, &frequencies, i, k);
                // 600 terms of at most 4
                assert!((Identity::point_of(m).real(sum) - wanted).abs() < 1e-11, "{i} {k}");
            }
        }
    }
}
