//! Exact products of allele counts, one byte each.

use std::ops::Range;

/// Counts of one SIMD step; strides are multiples of it.
pub(super) const STEP: usize = 32;
/// Rows of the left and of the right tile whose sums stay in registers together.
const LEFT: usize = 2;
const RIGHT: usize = 4;

/// Where the product of two tiles goes.
pub(super) struct Tile {
    /// Counts of one animal in either tile: a multiple of [`STEP`], at most [`LONGEST`].
    pub stride: usize,
    /// Columns of the sums that the right tile's animals are.
    pub columns: Range<usize>,
    /// Columns of the sums in all.
    pub row: usize,
}

/// Counts that can be multiplied before 16 bits overflow: each step adds at most 2·2 twice to each of its lanes.
const LONGEST: usize = i16::MAX as usize / 8 * STEP;

impl Tile {
    /// sums += left right', `left` of shape (rows, stride), `right` (columns, stride), `sums` (rows, row).
    pub(super) fn add(&self, avx2: bool, left: &[u8], right: &[u8], sums: &mut [i64]) {
        let stride = self.stride;
        assert!(
            stride.is_multiple_of(STEP) && (1..=LONGEST).contains(&stride),
            "whole steps that do not overflow"
        );
        assert_eq!(right.len(), self.columns.len() * stride, "counts of the right tile");
        for (left, sums) in left.chunks(LEFT * stride).zip(sums.chunks_mut(LEFT * self.row)) {
            for (b, right) in right.chunks(RIGHT * stride).enumerate() {
                let found = block(avx2, stride, left, right);
                for (sums, found) in sums.chunks_exact_mut(self.row).zip(found) {
                    let at = self.columns.start + b * RIGHT;
                    let sums = &mut sums[at..at + right.len() / stride];
                    sums.iter_mut().zip(found).for_each(|(s, x)| *s += i64::from(x));
                }
            }
        }
    }
}

/// The products of up to [`LEFT`] rows with up to [`RIGHT`] rows.
fn block(avx2: bool, stride: usize, left: &[u8], right: &[u8]) -> [[i32; RIGHT]; LEFT] {
    #[cfg(target_arch = "x86_64")]
    if avx2 && left.len() == LEFT * stride && right.len() == RIGHT * stride {
        // SAFETY: AVX2 was found at run time, and both slices hold whole rows of whole steps.
        return unsafe { block_avx2(stride, left, right) };
    }
    let mut out = [[0; RIGHT]; LEFT];
    for (out, a) in out.iter_mut().zip(left.chunks_exact(stride)) {
        for (out, b) in out.iter_mut().zip(right.chunks_exact(stride)) {
            *out = a.iter().zip(b).map(|(&a, &b)| i32::from(a * b)).sum();
        }
    }
    out
}

/// As [`block`], by 32 multiplications at a time; `left` holds LEFT and `right` RIGHT rows of `stride` counts.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn block_avx2(stride: usize, left: &[u8], right: &[u8]) -> [[i32; RIGHT]; LEFT] {
    use std::arch::x86_64::*;
    let mut sums = [[_mm256_setzero_si256(); RIGHT]; LEFT];
    for at in (0..stride).step_by(STEP) {
        // SAFETY: row r of either tile has STEP bytes from r * stride + at on, as stride is whole steps.
        let load = |tile: &[u8], r: usize| unsafe {
            _mm256_loadu_si256(tile.as_ptr().add(r * stride + at).cast::<__m256i>())
        };
        let b: [__m256i; RIGHT] = [load(right, 0), load(right, 1), load(right, 2), load(right, 3)];
        for (r, sums) in sums.iter_mut().enumerate() {
            let a = load(left, r);
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(a, b));
            }
        }
    }
    sums.map(|row| {
        row.map(|sum| {
            let wide = _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
            let half = _mm_add_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256::<1>(wide));
            let quarter = _mm_add_epi32(half, _mm_shuffle_epi32::<0b01_00_11_10>(half));
            _mm_cvtsi128_si32(_mm_add_epi32(quarter, _mm_shuffle_epi32::<0b10_11_00_01>(quarter)))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    #[test]
    fn products_are_exact_with_and_without_simd_up_to_the_longest_row() {
        // 1 x 1: less than a block; 5 x 6: blocks with a rest; LONGEST: all twos reach the limit of 16 bits
        for (rows, columns, stride, all_two) in
            [(1, 1, 32, false), (2, 4, 64, false), (5, 6, 96, false), (2, 5, LONGEST, true)]
        {
            let mut s = Stream::new(1, Purpose::Test, stride as u64);
            let mut draw = |count: usize| -> Vec<u8> {
                (0..count * stride).map(|_| if all_two { 2 } else { s.below(3) as u8 }).collect()
            };
            let (left, right) = (draw(rows), draw(columns));
            for avx2 in [false, super::super::decode::has_avx2()] {
                let mut sums = vec![1i64; rows * (columns + 3)];
                let tile = Tile { stride, columns: 2..columns + 2, row: columns + 3 };
                tile.add(avx2, &left, &right, &mut sums);
                for (at, &found) in sums.iter().enumerate() {
                    let (i, k) = (at / (columns + 3), at % (columns + 3));
                    let dot = |k: usize| -> i64 {
                        (0..stride).map(|j| i64::from(left[i * stride + j] * right[k * stride + j])).sum()
                    };
                    let inside = (2..columns + 2).contains(&k);
                    assert_eq!(found, if inside { 1 + dot(k - 2) } else { 1 });
                }
            }
        }
    }
}
