//! The 2-bit transpose of [`Packed`]: 32 rows at a time, in registers.

use super::{word, Packed, PER_BYTE};
use crate::simd::has;
use rayon::prelude::*;
use std::ops::Range;

/// Rows and columns of the blocks turned by [`transpose32`].
const TILE: usize = 32;
/// Columns of the blocks of 32 rows turned by [`turn_avx2`].
const WIDE: usize = 128;
/// Columns that one thread turns at a time: with 1,024 rows their result stays in the second-level cache.
const BAND: usize = 1024;

impl Packed {
    /// The 2-bit transpose: columns become rows. Runs on all threads of the pool.
    pub fn transposed(&self) -> Packed {
        let mut out = Packed::missing(self.columns, self.rows);
        self.transpose_into(&mut out);
        out
    }

    /// Like [`Packed::transposed`], into a matrix whose memory is used again.
    pub fn transpose_into(&self, out: &mut Packed) {
        out.resize(self.columns, self.rows);
        let to = out.stride();
        if to > 0 {
            let bands = out.data.par_chunks_mut(to * BAND).enumerate();
            bands.for_each(|(band, lines)| {
                let first = band * BAND;
                self.transpose_columns(first..self.columns.min(first + BAND), lines, to);
            });
        }
    }

    /// Writes the columns `columns` (from a multiple of 32 on) as rows into `lines`, a row every `stride` bytes;
    /// what lies between the end of one row and the beginning of the next is left as it is.
    pub fn transpose_columns(&self, columns: Range<usize>, lines: &mut [u8], stride: usize) {
        self.turn(columns, lines, stride, has!("avx2"));
    }

    /// [`Packed::transpose_columns`]; `wide` only where the processor has AVX2.
    fn turn(&self, columns: Range<usize>, lines: &mut [u8], stride: usize, wide: bool) {
        let (from, to) = (self.stride(), self.rows.div_ceil(PER_BYTE));
        assert!(columns.start.is_multiple_of(TILE) && columns.end <= self.columns && to <= stride);
        assert!(lines.len() == columns.len() * stride, "a line for each column");
        for i in (0..self.rows).step_by(TILE) {
            for (t, lines) in lines.chunks_mut(stride * WIDE).enumerate() {
                let byte = (columns.start + WIDE * t) / PER_BYTE;
                let whole =
                    i + TILE <= self.rows && byte + WIDE / PER_BYTE <= from && lines.len() == stride * WIDE;
                #[cfg(target_arch = "x86_64")]
                if wide && whole {
                    let (source, lines) = (&self.data[i * from + byte..], &mut lines[i / PER_BYTE..]);
                    // SAFETY: the caller says that the processor has the instructions.
                    unsafe { turn_avx2(source, from, lines, stride) };
                    continue;
                }
                for (k, lines) in lines.chunks_mut(stride * TILE).enumerate() {
                    self.turn_tile((i, byte + 8 * k), whole, lines, stride);
                }
            }
        }
    }

    /// Turns 32 rows from `i` on and 32 columns (or as many as `lines`) from `byte` on; `whole` when all lie
    /// inside the matrix.
    fn turn_tile(&self, (i, byte): (usize, usize), whole: bool, lines: &mut [u8], stride: usize) {
        let from = self.stride();
        let mut tile: [u64; TILE] = std::array::from_fn(|r| match self.data.get((i + r) * from + byte..) {
            Some(rest) if whole => u64::from_le_bytes(*rest.first_chunk().expect("eight bytes")),
            _ => self.word(i + r, byte),
        });
        transpose32(&mut tile);
        let cell = i / PER_BYTE..(i / PER_BYTE + 8).min(self.rows.div_ceil(PER_BYTE));
        for (line, word) in lines.chunks_exact_mut(stride).zip(tile) {
            line[cell.clone()].copy_from_slice(&word.to_le_bytes()[..cell.len()]);
        }
    }

    /// The 32 codes of row `i` from `byte` on; missing where the matrix ends.
    #[inline]
    fn word(&self, i: usize, byte: usize) -> u64 {
        if i >= self.rows {
            return u64::MAX;
        }
        word(self.row(i), byte)
    }
}

/// Transposes a 32 x 32 block of 2-bit codes, one row a word.
///
/// Fields are swapped across the diagonal of ever larger blocks (Hacker's Delight, section 7-3): first 4 x 4
/// codes inside the bytes of four words, which gives for each word `4s + c` the columns `c, c + 4, ...` of row
/// quad `s`; then 8 x 8 bytes.
#[inline]
fn transpose32(w: &mut [u64; TILE]) {
    let swap = |w: &mut [u64; TILE], i: usize, j: usize, shift: u32, mask: u64| {
        let t = (w[i] >> shift ^ w[j]) & mask;
        w[j] ^= t;
        w[i] ^= t << shift;
    };
    for q in (0..TILE).step_by(4) {
        swap(w, q, q + 1, 2, 0x3333_3333_3333_3333);
        swap(w, q + 2, q + 3, 2, 0x3333_3333_3333_3333);
        swap(w, q, q + 2, 4, 0x0F0F_0F0F_0F0F_0F0F);
        swap(w, q + 1, q + 3, 4, 0x0F0F_0F0F_0F0F_0F0F);
    }
    for (step, mask) in [(1, 0x00FF_00FF_00FF_00FF), (2, 0x0000_FFFF_0000_FFFF), (4, 0x0000_0000_FFFF_FFFF)] {
        for s in (0..8).filter(|s| s & step == 0) {
            for c in 0..4 {
                swap(w, 4 * s + c, 4 * (s + step) + c, 8 * step as u32, mask);
            }
        }
    }
}

/// The same for 32 rows of 128 columns: `source` has a row every `from` bytes, `lines` get eight bytes every
/// `stride` bytes. Swaps the fields of four rows as [`transpose32`] does; the bytes are then interleaved.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn turn_avx2(source: &[u8], from: usize, lines: &mut [u8], stride: usize) {
    use std::arch::x86_64::*;
    assert!(source.len() >= (TILE - 1) * from + 32 && lines.len() >= (WIDE - 1) * stride + 8);
    let out = lines.as_mut_ptr();
    let (two, four) = (_mm256_set1_epi8(0x33), _mm256_set1_epi8(0x0F));
    macro_rules! swap {
        ($x:expr, $y:expr, $shift:literal, $mask:expr) => {{
            let t = _mm256_and_si256(_mm256_xor_si256(_mm256_srli_epi64::<$shift>($x), $y), $mask);
            ($x, $y) = (_mm256_xor_si256($x, _mm256_slli_epi64::<$shift>(t)), _mm256_xor_si256($y, t));
        }};
    }
    // quads[q][c]: byte b holds of column 4 b + c the rows 4 q to 4 q + 3
    let quads: [[__m256i; 4]; 8] = std::array::from_fn(|q| {
        // SAFETY: 32 bytes from there on lie inside the source, as asserted.
        let mut r: [__m256i; 4] = std::array::from_fn(|k| unsafe {
            _mm256_loadu_si256(source.as_ptr().add((4 * q + k) * from).cast())
        });
        swap!(r[0], r[1], 2, two);
        swap!(r[2], r[3], 2, two);
        swap!(r[0], r[2], 4, four);
        swap!(r[1], r[3], 4, four);
        r
    });
    let by_code: [[__m256i; 8]; 4] = std::array::from_fn(|c| std::array::from_fn(|q| quads[q][c]));
    for (c, x) in by_code.iter().enumerate() {
        let low: [__m256i; 4] = std::array::from_fn(|k| _mm256_unpacklo_epi8(x[2 * k], x[2 * k + 1]));
        let high: [__m256i; 4] = std::array::from_fn(|k| _mm256_unpackhi_epi8(x[2 * k], x[2 * k + 1]));
        for (h, y) in [low, high].into_iter().enumerate() {
            let (a, b) = (_mm256_unpacklo_epi16(y[0], y[1]), _mm256_unpacklo_epi16(y[2], y[3]));
            let (d, e) = (_mm256_unpackhi_epi16(y[0], y[1]), _mm256_unpackhi_epi16(y[2], y[3]));
            let words = [
                _mm256_unpacklo_epi32(a, b),
                _mm256_unpackhi_epi32(a, b),
                _mm256_unpacklo_epi32(d, e),
                _mm256_unpackhi_epi32(d, e),
            ];
            for (k, z) in words.into_iter().enumerate() {
                let first = 4 * (8 * h + 2 * k) + c;
                let (near, far) = (_mm256_castsi256_si128(z), _mm256_extracti128_si256::<1>(z));
                // SAFETY: first <= 59, so each line is one of 128; eight bytes from there on lie inside.
                unsafe {
                    let line = |j: usize| out.add((first + j) * stride);
                    _mm_storel_epi64(line(0).cast(), near);
                    _mm_storeh_pd(line(4).cast(), _mm_castsi128_pd(near));
                    _mm_storel_epi64(line(64).cast(), far);
                    _mm_storeh_pd(line(68).cast(), _mm_castsi128_pd(far));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    fn random(rows: usize, columns: usize) -> Packed {
        let mut s = Stream::new(5, Purpose::Test, (rows * 1000 + columns) as u64);
        let codes: Vec<u8> = (0..rows * columns).map(|_| s.below(4) as u8).collect();
        Packed::from_codes(rows, columns, &codes)
    }

    fn check(p: &Packed, t: &Packed) {
        for i in 0..p.rows() {
            for j in 0..p.columns() {
                assert_eq!(p.get(i, j), t.get(j, i), "{} x {} at {i},{j}", p.rows(), p.columns());
            }
        }
        let mut padded = t.clone();
        padded.pad();
        assert_eq!(t, &padded);
    }

    /// 0 and 1: empty and single; 3, 4, 5: around a byte; 31-33: around a word; 127-130: around a wide tile.
    const SIZES: [usize; 13] = [0, 1, 3, 4, 5, 31, 32, 33, 100, 127, 128, 129, 200];

    #[test]
    fn transposing_matches_element_by_element_and_pads_with_missing() {
        for rows in SIZES {
            for columns in SIZES {
                let p = random(rows, columns);
                let t = p.transposed();
                check(&p, &t);
                assert_eq!(t.transposed(), p);
                // on any processor
                let mut plain = Packed::missing(columns, rows);
                let stride = plain.stride();
                if stride > 0 {
                    p.turn(0..columns, plain.bytes_mut(), stride, false);
                }
                assert_eq!(plain, t);
            }
        }
    }

    /// More than one band of columns and several tiles of rows, with rests.
    #[test]
    fn transposing_large_matrices_matches_element_by_element() {
        let p = random(70, 2 * BAND + 37);
        let t = p.transposed();
        check(&p, &t);
        assert_eq!(t.transposed(), p);
        // into memory that held other calls
        let mut used = random(33, 90);
        p.transpose_into(&mut used);
        assert_eq!(used, t);
    }

    #[test]
    fn a_part_of_the_columns_goes_to_lines_of_any_length_and_leaves_what_is_between() {
        let p = random(70, 500);
        let (t, stride) = (p.transposed(), 25);
        let mut lines = vec![7; 436 * stride];
        p.transpose_columns(64..500, &mut lines, stride);
        for (j, line) in lines.chunks_exact(stride).enumerate() {
            assert_eq!(line[..18], *t.row(64 + j), "column {j}");
            assert_eq!(line[18..], [7; 7]);
        }
    }
}
