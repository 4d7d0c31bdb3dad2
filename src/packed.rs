//! The 2-bit genotype code: four calls a byte, lowest bits first.
//!
//! A code is the count of the counted allele, 0, 1 or 2; 3 means that the call is missing. Rows are padded to
//! whole bytes with [`MISSING`], so that a reader who forgets the row's length sees no invented genotypes.

mod transpose;

use crate::memory;
use crate::simd::best;
use rayon::prelude::*;
use std::ops::Range;

/// The code of a call that was not made.
pub const MISSING: u8 = 3;
/// Genotypes in one byte.
pub const PER_BYTE: usize = 4;

/// Bytes of a row that are counted together.
const BLOCK: usize = 64;
/// Rows whose counts fit a byte.
const MOST: usize = 255;

/// A matrix of 2-bit codes, row by row, each row padded to whole bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    rows: usize,
    columns: usize,
    data: Vec<u8>, // (rows, ceil(columns / 4))
}

/// How often each code occurs: counts of 0, 1, 2 and missing.
pub type Tally = [u64; 4];

impl Packed {
    /// A matrix in which every call is missing.
    pub fn missing(rows: usize, columns: usize) -> Self {
        let length = rows * columns.div_ceil(PER_BYTE);
        let mut data = memory::room(length);
        data.resize(length, 0xFF);
        Packed { rows, columns, data }
    }

    /// Changes the shape and keeps the memory; the calls are then unspecified.
    pub fn resize(&mut self, rows: usize, columns: usize) {
        (self.rows, self.columns) = (rows, columns);
        self.data.resize(rows * columns.div_ceil(PER_BYTE), 0xFF);
    }

    /// Takes over packed bytes, `data` of shape (rows, ceil(columns / 4)). Panics when the length differs.
    /// Padding codes are set to missing.
    pub fn from_bytes(rows: usize, columns: usize, data: Vec<u8>) -> Self {
        assert_eq!(data.len(), rows * columns.div_ceil(PER_BYTE), "packed bytes of {rows} x {columns}");
        let mut packed = Packed { rows, columns, data };
        packed.pad();
        packed
    }

    /// Packs codes 0..=3, `codes` of shape (rows, columns).
    pub fn from_codes(rows: usize, columns: usize, codes: &[u8]) -> Self {
        assert_eq!(codes.len(), rows * columns, "codes of {rows} x {columns}");
        let mut packed = Packed::missing(rows, columns);
        if columns > 0 {
            for (i, row) in codes.chunks_exact(columns).enumerate() {
                pack_row(row, packed.row_mut(i));
            }
        }
        packed
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes in one row.
    pub fn stride(&self) -> usize {
        self.columns.div_ceil(PER_BYTE)
    }

    /// All bytes, (rows, stride).
    pub fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// All bytes, for writing; call [`Packed::pad`] when the last byte of a row may hold other codes.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.data
    }

    /// The bytes of row `i`.
    pub fn row(&self, i: usize) -> &[u8] {
        let s = self.stride();
        &self.data[i * s..(i + 1) * s]
    }

    /// The bytes of row `i`, for writing.
    pub fn row_mut(&mut self, i: usize) -> &mut [u8] {
        let s = self.stride();
        &mut self.data[i * s..(i + 1) * s]
    }

    /// Whether any code is [`MISSING`], padding among them.
    pub fn has_missing(&self) -> bool {
        let (words, rest) = self.data.as_chunks::<8>();
        let mut all =
            words.iter().map(|word| u64::from_le_bytes(*word)).chain(rest.iter().map(|&byte| byte.into()));
        all.any(|word| missing_bits(word) != 0)
    }

    /// The code at row `i`, column `j`.
    pub fn get(&self, i: usize, j: usize) -> u8 {
        debug_assert!(j < self.columns);
        code(self.row(i), j)
    }

    /// Sets the code at row `i`, column `j`.
    pub fn set(&mut self, i: usize, j: usize, code: u8) {
        debug_assert!(j < self.columns && code <= MISSING);
        let shift = 2 * (j % PER_BYTE);
        let byte = &mut self.row_mut(i)[j / PER_BYTE];
        *byte = *byte & !(3 << shift) | code << shift;
    }

    /// Sets the padding behind the last column of every row to missing.
    pub fn pad(&mut self) {
        let used = self.columns % PER_BYTE;
        if used == 0 {
            return;
        }
        let padding = 0xFFu8 << (2 * used);
        let s = self.stride();
        for row in self.data.chunks_exact_mut(s) {
            row[s - 1] |= padding;
        }
    }

    /// The rows `keep`, in that order, and of each the columns `snps`, in that order.
    pub fn select(&self, keep: &[usize], columns: &[usize]) -> Packed {
        let mut out = Packed::missing(keep.len(), columns.len());
        let whole = columns.len() == self.columns && columns.iter().enumerate().all(|(a, &b)| a == b);
        for (to, &from) in keep.iter().enumerate() {
            if whole {
                out.row_mut(to).copy_from_slice(self.row(from));
                continue;
            }
            let source = self.row(from);
            for (byte, four) in out.row_mut(to).iter_mut().zip(columns.chunks(PER_BYTE)) {
                for (k, &j) in four.iter().enumerate() {
                    *byte = *byte & !(3 << (2 * k)) | code(source, j) << (2 * k);
                }
            }
        }
        out
    }

    /// Counts of each code in row `i`.
    pub fn tally_row(&self, i: usize) -> Tally {
        tally(self.row(i), self.columns)
    }

    /// Counts of each code in every column.
    pub fn tally_columns(&self) -> Vec<Tally> {
        let mut out = vec![[0u64; 4]; self.columns];
        out.par_chunks_mut(BLOCK * PER_BYTE).enumerate().for_each(|(b, out)| {
            let bytes = b * BLOCK..((b + 1) * BLOCK).min(self.stride());
            for first in (0..self.rows).step_by(MOST) {
                let rows = first..(first + MOST).min(self.rows);
                let counts = self.count_block(rows.clone(), bytes.clone());
                for (j, tally) in out.iter_mut().enumerate() {
                    let of = counts.map(|count| u64::from(count[j % PER_BYTE][j / PER_BYTE]));
                    tally[0] += rows.len() as u64 - of.iter().sum::<u64>();
                    (1..4).for_each(|code| tally[code] += of[code - 1]);
                }
            }
        });
        out
    }

    /// How often the codes 1, 2 and 3 occur in at most [`MOST`] rows: by code, place in a byte, byte.
    fn count_block(&self, rows: Range<usize>, bytes: Range<usize>) -> [[[u8; BLOCK]; PER_BYTE]; 3] {
        let mut counts = [[[0; BLOCK]; PER_BYTE]; 3];
        for first in rows.clone().step_by(3) {
            // Two bits count to three.
            let mut few = [[0u8; BLOCK]; 3];
            for i in first..(first + 3).min(rows.end) {
                let [one, two, three] = &mut few;
                for (at, byte) in self.row(i)[bytes.clone()].iter().enumerate() {
                    let (low, high) = (byte & 0x55, byte >> 1 & 0x55);
                    one[at] += low & !high;
                    two[at] += high & !low;
                    three[at] += low & high;
                }
            }
            for (counts, few) in counts.iter_mut().zip(&few) {
                for (place, counts) in counts.iter_mut().enumerate() {
                    counts.iter_mut().zip(few).for_each(|(count, few)| *count += few >> (2 * place) & 3);
                }
            }
        }
        counts
    }
}

/// The code of column `j` in a packed row.
#[inline]
pub fn code(row: &[u8], j: usize) -> u8 {
    row[j / PER_BYTE] >> (2 * (j % PER_BYTE)) & 3
}

/// The low bit of every code of a word.
pub const LOW_BITS: u64 = 0x5555_5555_5555_5555;

/// The codes of a packed row from byte `at` on, 32 of them, the first in the lowest bits; missing behind its end.
#[inline(always)]
pub fn word(row: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes_from(row, at))
}

/// The bytes of a packed row from `at` on; missing calls behind its end.
#[inline(always)]
pub fn bytes_from<const N: usize>(row: &[u8], at: usize) -> [u8; N] {
    let rest = row.get(at..).unwrap_or_default();
    rest.first_chunk().copied().unwrap_or_else(|| {
        let mut bytes = [0xFF; N];
        bytes[..rest.len()].copy_from_slice(rest);
        bytes
    })
}

/// The low bits of the codes of a word that are missing.
#[inline(always)]
pub fn missing_bits(word: u64) -> u64 {
    word & word >> 1 & LOW_BITS
}

/// The columns of a packed row among `columns`, which begin on a whole byte, where the call is missing: ascending,
/// counted from the first of them.
#[inline]
pub fn missing_calls(row: &[u8], columns: Range<usize>) -> MissingCalls<'_> {
    debug_assert!(columns.start.is_multiple_of(PER_BYTE), "columns from a whole byte on");
    let bytes = &row[columns.start / PER_BYTE..columns.end.div_ceil(PER_BYTE)];
    MissingCalls { bytes, columns: columns.len(), next: 0, left: 0 }
}

/// What [`missing_calls`] finds.
#[derive(Debug)]
pub struct MissingCalls<'a> {
    bytes: &'a [u8],
    columns: usize,
    next: usize, // byte behind the word at hand
    left: u64,   // low bits of its missing codes that are still to come
}

impl Iterator for MissingCalls<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.left == 0 {
            if self.next >= self.bytes.len() {
                return None;
            }
            self.left = missing_bits(word(self.bytes, self.next));
            self.next += 8;
        }
        let column = (self.next - 8) * PER_BYTE + self.left.trailing_zeros() as usize / 2;
        self.left &= self.left - 1;
        // What follows the last column is padding.
        (column < self.columns).then_some(column)
    }
}

/// Packs codes 0..=3 into `row`; padding becomes missing.
pub fn pack_row(codes: &[u8], row: &mut [u8]) {
    for (byte, four) in row.iter_mut().zip(codes.chunks(PER_BYTE)) {
        *byte = 0xFF;
        for (k, &c) in four.iter().enumerate() {
            *byte = *byte & !(3 << (2 * k)) | (c & 3) << (2 * k);
        }
    }
}

/// Unpacks the first `codes.len()` codes of `row`.
pub fn unpack_row(row: &[u8], codes: &mut [u8]) {
    for (four, &byte) in codes.chunks_mut(PER_BYTE).zip(row) {
        for (k, c) in four.iter_mut().enumerate() {
            *c = byte >> (2 * k) & 3;
        }
    }
}

/// Counts of each code among the first `columns` codes of a packed row.
pub fn tally(row: &[u8], columns: usize) -> Tally {
    best!([("popcnt")] tally_words(row, columns), fn(row: &[u8], columns: usize) -> Tally)
}

#[inline(always)]
fn tally_words(row: &[u8], columns: usize) -> Tally {
    let (mut low, mut high, mut both) = (0u64, 0u64, 0u64);
    let whole = columns / PER_BYTE;
    // bit planes of 32 codes at a time
    let mut words = row[..whole].chunks_exact(8);
    let mut count = |word: u64| {
        let (l, h) = (word & LOW_BITS, word >> 1 & LOW_BITS);
        low += u64::from(l.count_ones());
        high += u64::from(h.count_ones());
        both += u64::from((l & h).count_ones());
    };
    for w in words.by_ref() {
        count(u64::from_le_bytes(w.try_into().expect("eight bytes")));
    }
    for &byte in words.remainder() {
        count(u64::from(byte));
    }
    if !columns.is_multiple_of(PER_BYTE) {
        count(u64::from(row[whole] & !(0xFF << (2 * (columns % PER_BYTE)))));
    }
    [columns as u64 + both - low - high, low - both, high - both, both]
}

/// Frequency of the counted allele among the called genotypes of a tally; `None` when none was called.
pub fn frequency(t: &Tally) -> Option<f64> {
    let called = t[0] + t[1] + t[2];
    (called > 0).then(|| (t[1] + 2 * t[2]) as f64 / (2 * called) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    fn random(rows: usize, columns: usize) -> (Packed, Vec<u8>) {
        let mut s = Stream::new(5, Purpose::Test, (rows * 1000 + columns) as u64);
        let codes: Vec<u8> = (0..rows * columns).map(|_| s.below(4) as u8).collect();
        (Packed::from_codes(rows, columns, &codes), codes)
    }

    /// 0 and 1: empty and single; 3, 4, 5: around a byte; 31-33: around a word; 100: many.
    const SIZES: [usize; 9] = [0, 1, 3, 4, 5, 31, 32, 33, 100];

    #[test]
    fn words_hold_a_row_and_missing_calls_behind_it() {
        let (p, codes) = random(1, 71); // 18 bytes
        for at in [0, 1, 9, 10, 11, 17, 18, 40] {
            let found = word(p.row(0), at);
            for s in 0..32 {
                let want = codes.get(PER_BYTE * at + s).copied().unwrap_or(MISSING);
                assert_eq!((found >> (2 * s) & 3) as u8, want, "byte {at}, code {s}");
                assert_eq!(missing_bits(found) >> (2 * s) & 3, u64::from(want == MISSING));
            }
        }
        assert_eq!(bytes_from(p.row(0), 16), [p.row(0)[16], p.row(0)[17], 0xFF, 0xFF]);
    }

    #[test]
    fn one_missing_call_is_seen_wherever_it_stands() {
        for at in 0..80 {
            let mut p = Packed::from_codes(2, 40, &[[0, 1, 2, 2]; 20].concat());
            assert!(!p.has_missing());
            p.set(at / 40, at % 40, MISSING);
            assert!(p.has_missing(), "{at}");
        }
    }

    #[test]
    fn missing_calls_are_those_of_the_code_and_no_padding() {
        for columns in SIZES {
            let (p, codes) = random(2, columns);
            for first in [0, 4, 32, 64].into_iter().filter(|&first| first <= columns) {
                for end in [first, (first + 1).min(columns), columns] {
                    let row = &codes[columns..];
                    let want: Vec<usize> = (0..end - first).filter(|j| row[first + j] == MISSING).collect();
                    assert_eq!(
                        missing_calls(p.row(1), first..end).collect::<Vec<_>>(),
                        want,
                        "{first}..{end}"
                    );
                }
            }
        }
    }

    #[test]
    fn packing_and_unpacking_agree_at_every_size() {
        for rows in SIZES {
            for columns in SIZES {
                let (p, codes) = random(rows, columns);
                let mut back = vec![9; columns];
                for i in 0..rows {
                    unpack_row(p.row(i), &mut back);
                    assert_eq!(back, codes[i * columns..(i + 1) * columns]);
                    for (j, &c) in back.iter().enumerate() {
                        assert_eq!(p.get(i, j), c);
                    }
                }
            }
        }
    }

    #[test]
    fn tallies_count_every_code_and_never_the_padding() {
        // 511: counts of twice 255 rows and one; 261: past one block of bytes
        for (rows, columns) in SIZES.map(|columns| (6, columns)).into_iter().chain([(511, 261)]) {
            let (p, codes) = random(rows, columns);
            let by_column = p.tally_columns();
            for i in 0..rows {
                let mut want = [0u64; 4];
                codes[i * columns..(i + 1) * columns].iter().for_each(|&c| want[usize::from(c)] += 1);
                assert_eq!(p.tally_row(i), want);
            }
            for (j, t) in by_column.iter().enumerate() {
                let mut want = [0u64; 4];
                (0..rows).for_each(|i| want[usize::from(codes[i * columns + j])] += 1);
                assert_eq!(t, &want);
            }
        }
    }

    #[test]
    fn select_takes_rows_and_columns_in_the_order_given() {
        let (p, _) = random(7, 33);
        let (rows, columns) = ([6, 0, 3], [32, 5, 4, 9, 0]);
        let s = p.select(&rows, &columns);
        for (a, &i) in rows.iter().enumerate() {
            for (b, &j) in columns.iter().enumerate() {
                assert_eq!(s.get(a, b), p.get(i, j));
            }
        }
    }

    #[test]
    fn setting_one_code_leaves_its_neighbours() {
        let (mut p, codes) = random(3, 9);
        p.set(1, 6, MISSING);
        for j in 0..9 {
            assert_eq!(p.get(1, j), if j == 6 { MISSING } else { codes[9 + j] });
        }
    }

    #[test]
    fn frequency_counts_called_genotypes_only() {
        assert_eq!(frequency(&[1, 2, 1, 96]), Some(0.5));
        assert_eq!(frequency(&[0, 0, 0, 4]), None);
    }
}
