//! Where calls are missing: Σ of some term of each animal over the SNPs at which another has no call.
//!
//! The terms of a few animals at a strip of SNPs are written out once, side by side in 32 bits, in the second-level
//! cache; for each of a thousand other animals the rows of its missing SNPs are added up in registers. The sums are
//! integers: they do not depend on strips, registers or ranks.

use crate::packed::{Packed, MISSING, PER_BYTE};
use rayon::prelude::*;
use std::ops::Range;

/// Animals whose terms are written out together: two registers of the widest kind.
pub(super) const LANES: usize = 32;
/// SNPs whose terms are written out together: 128 KiB.
const STRIP: usize = 1 << 10;
/// Animals whose missing calls are looked at while the terms of a strip are at hand: their sums take 128 KiB.
const MANY: usize = 1 << 10;
/// Terms less than this many times 2^32 sum up in 32 bits.
const MOST: usize = STRIP;
/// Quanta in one. Terms are at most 4.
pub(super) const QUANTA: f64 = (1 << 20) as f64;

/// What an animal with code 0, 1, 2, missing adds at one SNP, in quanta; each less than 2^32 / [`MOST`].
pub(super) type Terms = [u32; 4];
/// One term for each of the animals.
type Lanes = [u32; LANES];
/// One sum for each of the animals.
pub(super) type Sums = [i64; LANES];

/// A real term from 0 to 4 in quanta.
pub(super) fn quanta(term: f64) -> u32 {
    // Half a quantum is lost at most, one where the term is 4.
    ((term * QUANTA).round_ties_even() as u32).min(u32::MAX / MOST as u32)
}

/// The SNPs at which each animal has no call.
pub(super) struct Missing {
    strips: Vec<Strip>,
}

/// The same for [`STRIP`] SNPs.
struct Strip {
    /// All animals' SNPs within the strip, one animal after the other.
    snps: Vec<u16>,
    /// Where each animal's begin, and the end.
    starts: Vec<usize>,
    /// The most that any animal has.
    most: usize,
}

impl Missing {
    pub(super) fn of(packed: &Packed) -> Self {
        let rows: Vec<Vec<u32>> = (0..packed.rows()).into_par_iter().map(|i| missing_of(packed, i)).collect();
        let starts: Vec<usize> = (0..packed.columns()).step_by(STRIP).collect();
        Missing { strips: starts.into_par_iter().map(|start| Strip::of(&rows, start)).collect() }
    }

    /// Whether every call was made.
    pub(super) fn is_empty(&self) -> bool {
        self.strips.iter().all(|strip| strip.most == 0)
    }

    /// For blocks of [`LANES`] animals of `from`, the last filled up: for each of `to` the sums over its missing
    /// SNPs of what `terms`, by SNP and code, give the animals of the block; (blocks, to), in quanta.
    pub(super) fn sums(
        &self,
        packed: &Packed,
        terms: &[Terms],
        from: Range<usize>,
        to: Range<usize>,
    ) -> Vec<Sums> {
        let mut out = vec![[0; LANES]; from.len().div_ceil(LANES) * to.len()];
        out.par_chunks_exact_mut(to.len().max(1)).enumerate().for_each(|(block, out)| {
            let first = from.start + block * LANES;
            let animals = first..(first + LANES).min(from.end);
            out.par_chunks_mut(MANY).enumerate().for_each(|(part, out)| {
                let first = to.start + part * MANY;
                self.add_block(packed, terms, animals.clone(), first..first + out.len(), out);
            });
        });
        out
    }

    /// [`Missing::sums`] for one block of animals and a few others.
    fn add_block(
        &self,
        packed: &Packed,
        terms: &[Terms],
        animals: Range<usize>,
        to: Range<usize>,
        out: &mut [Sums],
    ) {
        let mut values = vec![[0; LANES]; STRIP];
        let mut sums = vec![[0; LANES]; to.len()];
        let mut added = 0;
        for (number, (strip, terms)) in self.strips.iter().zip(terms.chunks(STRIP)).enumerate() {
            let starts = &strip.starts[to.start..=to.end];
            if starts[0] == starts[to.len()] {
                continue;
            }
            if added + strip.most > MOST {
                widen(&mut sums, out);
                added = 0;
            }
            added += strip.most;
            write_out(packed, terms, animals.clone(), number * STRIP, &mut values);
            add_rows(&values, starts, &strip.snps, &mut sums);
        }
        widen(&mut sums, out);
    }
}

impl Strip {
    /// The strip that begins at SNP `start`, from each animal's missing SNPs.
    fn of(rows: &[Vec<u32>], start: usize) -> Self {
        let (mut snps, mut starts) = (Vec::new(), vec![0]);
        for row in rows {
            let first = row.partition_point(|&j| (j as usize) < start);
            let inside = row[first..].iter().map(|&j| j as usize - start).take_while(|&j| j < STRIP);
            snps.extend(inside.map(|j| j as u16));
            starts.push(snps.len());
        }
        let most = starts.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0);
        Strip { snps, starts, most }
    }
}

/// out += sums, which begin anew.
fn widen(sums: &mut [Lanes], out: &mut [Sums]) {
    for (sums, out) in sums.iter_mut().zip(out) {
        out.iter_mut().zip(std::mem::replace(sums, [0; LANES])).for_each(|(o, s)| *o += i64::from(s));
    }
}

/// The terms of `animals` at the SNPs from `start` on, side by side.
fn write_out(packed: &Packed, terms: &[Terms], animals: Range<usize>, start: usize, out: &mut [Lanes]) {
    const WIDTH: usize = LANES / PER_BYTE;
    let bytes = start / PER_BYTE..(start + terms.len()).div_ceil(PER_BYTE);
    let mut codes = vec![0; LANES * bytes.len()];
    for (codes, i) in codes.chunks_exact_mut(bytes.len()).zip(animals) {
        codes.copy_from_slice(&packed.row(i)[bytes.clone()]);
    }
    let mut turned = vec![0; terms.len() * WIDTH];
    Packed::from_bytes(LANES, terms.len(), codes).transpose_columns(0..terms.len(), &mut turned, WIDTH);
    let (turned, _) = turned.as_chunks::<WIDTH>();
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the instructions, as just asked.
            return unsafe { avx512::look_up(turned, terms, out) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the instructions, as just asked.
            return unsafe { avx2::look_up(turned, terms, out) };
        }
    }
    look_up(turned, terms, out);
}

/// The terms of the codes of all animals, four in a byte, by SNP.
fn look_up(codes: &[[u8; LANES / PER_BYTE]], terms: &[Terms], out: &mut [Lanes]) {
    for ((codes, terms), out) in codes.iter().zip(terms).zip(out) {
        for (out, &code) in out.chunks_exact_mut(PER_BYTE).zip(codes) {
            out.iter_mut().enumerate().for_each(|(s, o)| *o = terms[usize::from(code >> (2 * s) & 3)]);
        }
    }
}

/// Adds to each sum the rows that its part of `snps` names.
fn add_rows(values: &[Lanes], starts: &[usize], snps: &[u16], sums: &mut [Lanes]) {
    let values: &[Lanes; STRIP] = values.try_into().expect("a whole strip");
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the instructions, as just asked.
            return unsafe { avx512::add_rows(values, starts, snps, sums) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the instructions, as just asked.
            return unsafe { avx2::add_rows(values, starts, snps, sums) };
        }
    }
    add_rows_portably(values, starts, snps, sums);
}

fn add_rows_portably(values: &[Lanes; STRIP], starts: &[usize], snps: &[u16], sums: &mut [Lanes]) {
    for (sum, ends) in sums.iter_mut().zip(starts.windows(2)) {
        for &j in &snps[ends[0]..ends[1]] {
            sum.iter_mut().zip(&values[usize::from(j) % STRIP]).for_each(|(s, x)| *s += x);
        }
    }
}

/// The two loops in registers of one kind.
#[cfg(target_arch = "x86_64")]
macro_rules! registers {
    ($name:ident, $feature:literal, $Register:ty, $load:ident, $store:ident, $add:ident, $spread:ident,
     $table:ident, $shift:ident, ($codes:ident, $entries:ident) $permute:expr) => {
        mod $name {
            use super::{Lanes, Terms, LANES, PER_BYTE, STRIP};
            use std::arch::x86_64::*;

            /// Animals in a register, and registers.
            const WIDE: usize = size_of::<$Register>() / 4;
            const COUNT: usize = LANES / WIDE;

            /// As [`super::look_up`]. The look-up goes by more than the code's two bits: the table repeats itself.
            #[target_feature(enable = $feature)]
            pub(super) fn look_up(codes: &[[u8; LANES / PER_BYTE]], terms: &[Terms], out: &mut [Lanes]) {
                const BYTES: usize = WIDE / PER_BYTE;
                let shifts: [i32; WIDE] = std::array::from_fn(|lane| 2 * lane as i32);
                // SAFETY: whole registers are read from and written to arrays of their size.
                unsafe {
                    let shifts = $load(shifts.as_ptr().cast());
                    for ((codes, terms), out) in codes.iter().zip(terms).zip(out) {
                        let $entries = $table(_mm_loadu_si128(terms.as_ptr().cast()));
                        for (r, code) in codes.chunks_exact(BYTES).enumerate() {
                            let mut four = [0; 4];
                            four[..BYTES].copy_from_slice(code);
                            let $codes = $shift($spread(i32::from_le_bytes(four)), shifts);
                            $store(out.as_mut_ptr().add(r * WIDE).cast(), $permute);
                        }
                    }
                }
            }

            /// As [`super::add_rows`].
            #[target_feature(enable = $feature)]
            pub(super) fn add_rows(
                values: &[Lanes; STRIP],
                starts: &[usize],
                snps: &[u16],
                sums: &mut [Lanes],
            ) {
                for (sum, ends) in sums.iter_mut().zip(starts.windows(2)) {
                    // SAFETY: whole registers are read from and written to arrays of their size.
                    unsafe {
                        let load = |row: &Lanes, r: usize| $load(row.as_ptr().add(r * WIDE).cast());
                        let mut total: [$Register; COUNT] = std::array::from_fn(|r| load(sum, r));
                        for &j in &snps[ends[0]..ends[1]] {
                            let row = &values[usize::from(j) % STRIP];
                            for r in 0..COUNT {
                                total[r] = $add(total[r], load(row, r));
                            }
                        }
                        for r in 0..COUNT {
                            $store(sum.as_mut_ptr().add(r * WIDE).cast(), total[r]);
                        }
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
registers!(
    avx512, "avx512f", __m512i, _mm512_loadu_si512, _mm512_storeu_si512, _mm512_add_epi32, _mm512_set1_epi32,
    _mm512_broadcast_i32x4, _mm512_srlv_epi32, (codes, table) _mm512_permutexvar_epi32(codes, table)
);
#[cfg(target_arch = "x86_64")]
registers!(
    avx2, "avx2", __m256i, _mm256_loadu_si256, _mm256_storeu_si256, _mm256_add_epi32, _mm256_set1_epi32,
    _mm256_broadcastsi128_si256, _mm256_srlv_epi32, (codes, table) _mm256_permutevar8x32_epi32(table, codes)
);

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

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    #[test]
    fn registers_of_every_kind_do_what_the_portable_loops_do() {
        let mut s = Stream::new(3, Purpose::Test, 5);
        let codes: Vec<[u8; LANES / PER_BYTE]> =
            (0..STRIP).map(|_| std::array::from_fn(|_| s.below(256) as u8)).collect();
        let terms: Vec<Terms> =
            (0..STRIP).map(|_| std::array::from_fn(|_| s.below(1 << 22) as u32)).collect();
        let snps: Vec<u16> = (0..500).map(|_| s.below(STRIP) as u16).collect();
        let starts = [0, 0, 1, 400, 500];
        let (mut values, mut sums) = (vec![[0; LANES]; STRIP], vec![[7; LANES]; 4]);
        look_up(&codes, &terms, &mut values);
        add_rows_portably(values.as_slice().try_into().unwrap(), &starts, &snps, &mut sums);
        let check = |found: Vec<Lanes>, added: Vec<Lanes>| assert!(found == values && added == sums);
        let (mut found, mut added) = (vec![[0; LANES]; STRIP], vec![[7; LANES]; 4]);
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the instructions, as just asked.
            unsafe {
                avx2::look_up(&codes, &terms, &mut found);
                avx2::add_rows(found.as_slice().try_into().unwrap(), &starts, &snps, &mut added);
            }
            check(found, added);
        }
        (found, added) = (vec![[0; LANES]; STRIP], vec![[7; LANES]; 4]);
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the instructions, as just asked.
            unsafe {
                avx512::look_up(&codes, &terms, &mut found);
                avx512::add_rows(found.as_slice().try_into().unwrap(), &starts, &snps, &mut added);
            }
            check(found, added);
        }
    }
}
