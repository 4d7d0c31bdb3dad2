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

use crate::device::Backend;
use crate::device::Genotypes;
use crate::device::Part;
use crate::error::Result;
use crate::packed;
use crate::packed::{Packed, MISSING};
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
    missing: Vec<Vec<u32>>,
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
        let packed = block.packed;
        let sum = |i: usize| -> i64 {
            let codes = packed.row(i);
            of_missing.iter().enumerate().map(|(j, t)| t[usize::from(packed::code(codes, j))]).sum()
        };
        Identity {
            block,
            point,
            of_animal: (0..packed.rows()).into_par_iter().map(sum).collect(),
            constant: of_missing.iter().map(|t| t[usize::from(MISSING)]).sum(),
            missing: (0..packed.rows()).into_par_iter().map(|i| missing_of(packed, i)).collect(),
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
        let of_rows = self.corrections(packed, columns.clone(), rows.clone(), true); // (columns, rows)
        let of_columns = self.corrections(packed, rows.clone(), columns.clone(), false); // (rows, columns)
        let (count, width, first) = (rows.len(), columns.len(), rows.start);
        let of_column = &self.of_animal[columns];
        sums.par_chunks_exact_mut(width.max(1)).zip(rows).for_each(|(sums, i)| {
            let row = (i - first) * width..(i - first + 1) * width;
            let terms = products[row.clone()].iter().zip(&of_columns[row]).zip(of_column);
            for (k, (sum, ((product, of_k), of_column))) in sums.iter_mut().zip(terms).enumerate() {
                *sum += i64::from(*product) * unit - self.of_animal[i] - of_column + self.constant;
                *sum += of_k + of_rows[k * count + i - first];
            }
        });
        Ok(())
    }

    /// What the missing calls of each of `to` add to its C with each of `from`, (from, to): Σ_j P_j x_ij over
    /// them, and with `both` Σ_j P_j² over those that are missing in `from` too.
    fn corrections(&self, packed: &Packed, from: Range<usize>, to: Range<usize>, both: bool) -> Vec<i64> {
        let mut out = vec![0; from.len() * to.len()];
        let fill = |values: &mut Vec<i64>, (out, i): (&mut [i64], usize)| {
            // This animal's terms at all SNPs, looked up many times.
            let codes = packed.row(i);
            for (j, (value, of)) in values.iter_mut().zip(&self.of_missing).enumerate() {
                let code = packed::code(codes, j);
                *value = if both || code != MISSING { of[usize::from(code)] } else { 0 };
            }
            for (out, missing) in out.iter_mut().zip(&self.missing[to.clone()]) {
                *out = missing.iter().map(|&j| values[j as usize]).sum();
            }
        };
        out.par_chunks_exact_mut(to.len().max(1))
            .zip(from)
            .for_each_init(|| vec![0i64; self.of_missing.len()], fill);
        out
    }
}

/// The SNPs at which animal `i` has no call.
fn missing_of(packed: &Packed, i: usize) -> Vec<u32> {
    let codes = packed.row(i);
    let snps = u32::try_from(packed.columns()).expect("a rank owns fewer than 2^32 SNPs");
    (0..snps).filter(|&j| packed::code(codes, j as usize) == MISSING).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device;
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
