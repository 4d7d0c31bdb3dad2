//! Where calls are missing: Σ of some term of each animal over the SNPs at which another has no call.
//!
//! The terms of a few animals at a few SNPs are written out once, side by side, in the nearest cache; for every
//! other animal the rows of its missing SNPs are added up, a register at a time.

use crate::packed::{Packed, MISSING, PER_BYTE};
use rayon::prelude::*;
use std::ops::Range;

/// Animals whose terms are written out together: one register of the widest kind.
pub(super) const LANES: usize = 8;
/// SNPs whose terms are written out together: 24 KiB.
const WINDOW: usize = 384;

/// One term for each of the animals.
pub(super) type Lanes = [i64; LANES];

/// The SNPs at which each animal has no call, in order.
pub(super) struct Missing {
    /// All animals' SNPs, one animal after the other.
    snps: Vec<u32>,
    /// Where each animal's begin, and the end.
    starts: Vec<usize>,
}

impl Missing {
    pub(super) fn of(packed: &Packed) -> Self {
        let rows: Vec<Vec<u32>> = (0..packed.rows()).into_par_iter().map(|i| missing_of(packed, i)).collect();
        let mut starts = vec![0];
        starts.extend(rows.iter().scan(0, |end, row| {
            *end += row.len();
            Some(*end)
        }));
        Missing { snps: rows.concat(), starts }
    }

    /// Whether every call was made.
    pub(super) fn is_empty(&self) -> bool {
        self.snps.is_empty()
    }

    fn at(&self, i: usize) -> &[u32] {
        &self.snps[self.starts[i]..self.starts[i + 1]]
    }

    /// For blocks of [`LANES`] animals of `from`, the last filled up: for each of `to` the sums over its missing
    /// SNPs of what `terms`, by SNP and code, give the animals of the block; (blocks, to).
    pub(super) fn sums(
        &self,
        packed: &Packed,
        terms: &[[i64; 4]],
        from: Range<usize>,
        to: Range<usize>,
    ) -> Vec<Lanes> {
        let mut out = vec![[0; LANES]; from.len().div_ceil(LANES) * to.len()];
        if self.is_empty() || to.is_empty() {
            return out;
        }
        let lists: Vec<&[u32]> = to.clone().map(|k| self.at(k)).collect();
        out.par_chunks_exact_mut(to.len()).enumerate().for_each(|(block, sums)| {
            let first = from.start + block * LANES;
            let animals = first..(first + LANES).min(from.end);
            let mut lists = lists.clone();
            let mut values = [[0; LANES]; WINDOW];
            for start in (0..terms.len()).step_by(WINDOW) {
                let window = start..(start + WINDOW).min(terms.len());
                write_out(packed, &terms[window.clone()], animals.clone(), start, &mut values);
                add_rows(&values, window, &mut lists, sums);
            }
        });
        out
    }
}

/// The terms of `animals` at the SNPs from `start` on, side by side.
fn write_out(
    packed: &Packed,
    terms: &[[i64; 4]],
    animals: Range<usize>,
    start: usize,
    out: &mut [Lanes; WINDOW],
) {
    let first = start / PER_BYTE;
    for (q, (out, terms)) in out.chunks_exact_mut(PER_BYTE).zip(terms.chunks(PER_BYTE)).enumerate() {
        // The same four SNPs of all animals.
        let mut codes = [0; LANES];
        codes.iter_mut().zip(animals.clone()).for_each(|(code, i)| *code = packed.row(i)[first + q]);
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the instructions, as just asked.
            unsafe { look_up(codes, terms, out) };
            continue;
        }
        for (s, (out, terms)) in out.iter_mut().zip(terms).enumerate() {
            *out = codes.map(|code| terms[usize::from(code >> (2 * s) & 3)]);
        }
    }
}

/// One register of terms for each of up to four SNPs, `codes` of all animals at them.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn look_up(codes: [u8; LANES], terms: &[[i64; 4]], out: &mut [Lanes]) {
    use std::arch::x86_64::*;
    let mut codes = _mm512_cvtepu8_epi64(_mm_set_epi64x(0, i64::from_le_bytes(codes)));
    for (out, terms) in out.iter_mut().zip(terms) {
        // The look-up goes by three bits, of which the last is the next SNP's: both halves of the table agree.
        // SAFETY: four terms are read and eight written, as many as there are.
        unsafe {
            let table = _mm512_broadcast_i64x4(_mm256_loadu_si256(terms.as_ptr().cast()));
            _mm512_storeu_si512(out.as_mut_ptr().cast(), _mm512_permutexvar_epi64(codes, table));
        }
        codes = _mm512_srli_epi64::<2>(codes);
    }
}

/// Adds to each sum the rows that its list names within the window, and takes them from the list.
fn add_rows(values: &[Lanes; WINDOW], window: Range<usize>, lists: &mut [&[u32]], sums: &mut [Lanes]) {
    #[inline(always)]
    fn body(values: &[Lanes; WINDOW], window: Range<usize>, lists: &mut [&[u32]], sums: &mut [Lanes]) {
        for (list, sum) in lists.iter_mut().zip(sums) {
            let mut total = *sum;
            while let Some((&j, rest)) = list.split_first() {
                let Some(row) = (j as usize).checked_sub(window.start).and_then(|j| values.get(j)) else {
                    break;
                };
                if j as usize >= window.end {
                    break;
                }
                total.iter_mut().zip(row).for_each(|(t, x)| *t += x);
                *list = rest;
            }
            *sum = total;
        }
    }
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f")]
        fn wide(values: &[Lanes; WINDOW], window: Range<usize>, lists: &mut [&[u32]], sums: &mut [Lanes]) {
            body(values, window, lists, sums);
        }
        #[target_feature(enable = "avx2")]
        fn half(values: &[Lanes; WINDOW], window: Range<usize>, lists: &mut [&[u32]], sums: &mut [Lanes]) {
            body(values, window, lists, sums);
        }
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the instructions, as just asked.
            return unsafe { wide(values, window, lists, sums) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the instructions, as just asked.
            return unsafe { half(values, window, lists, sums) };
        }
    }
    body(values, window, lists, sums);
}

/// The SNPs at which animal `i` has no call.
fn missing_of(packed: &Packed, i: usize) -> Vec<u32> {
    let columns = u32::try_from(packed.columns()).expect("a block has fewer than 2^32 SNPs");
    let mut out = Vec::new();
    for (first, bytes) in (0..columns).step_by(8 * PER_BYTE).zip(packed.row(i).chunks(8)) {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        let word = u64::from_le_bytes(word);
        let mut missing = word & word >> 1 & 0x5555_5555_5555_5555;
        while missing != 0 {
            out.push(first + missing.trailing_zeros() / 2);
            missing &= missing - 1;
        }
    }
    // The padding counts as missing.
    out.truncate(out.partition_point(|&j| j < columns));
    debug_assert!(out.iter().all(|&j| packed.get(i, j as usize) == MISSING));
    out
}
