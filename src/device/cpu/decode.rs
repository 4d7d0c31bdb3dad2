//! Two-bit codes to numbers, four at a time.

use crate::device::Coding;
use crate::packed::{self, Packed, PER_BYTE};
use crate::simd::has;
use std::ops::Range;

/// The codings of four neighbouring SNPs, code by code: the values of code 0, then 1, 2 and missing.
type Quad = [[f64; PER_BYTE]; 4];

/// The codings of all SNPs, arranged for decoding.
pub(super) struct Tables {
    quads: Vec<Quad>, // (ceil(m / 4))
    avx2: bool,
}

impl Tables {
    /// Arranges the codings of m SNPs; padding codes decode to 0.
    pub(super) fn new(coding: &[Coding]) -> Self {
        let quads = coding
            .chunks(PER_BYTE)
            .map(|four| {
                let mut quad = [[0.0; PER_BYTE]; 4];
                for (s, values) in four.iter().enumerate() {
                    for (code, &value) in values.iter().enumerate() {
                        quad[code][s] = value;
                    }
                }
                quad
            })
            .collect();
        Tables { quads, avx2: has!("avx2") }
    }

    /// The coding of SNP `j`; zeros behind the last.
    #[inline(always)]
    pub(super) fn coding(&self, j: usize) -> Coding {
        let mut coding = [0.0; 4];
        if let Some(quad) = self.quads.get(j / PER_BYTE) {
            for (z, values) in coding.iter_mut().zip(quad) {
                *z = values[j % PER_BYTE];
            }
        }
        coding
    }

    /// Whether all codes at these SNPs stand for 0.
    pub(super) fn are_zero(&self, mut snps: Range<usize>) -> bool {
        snps.all(|j| self.coding(j) == [0.0; 4])
    }

    /// The values of the animals `rows` at the SNPs `snps` into `out` (rows, snps); `snps` begins on a whole
    /// byte.
    pub(super) fn decode(&self, packed: &Packed, rows: Range<usize>, snps: Range<usize>, out: &mut [f64]) {
        assert!(snps.start.is_multiple_of(PER_BYTE), "SNPs {snps:?} begin within a byte");
        assert!(snps.end <= packed.columns(), "SNPs {snps:?} of {}", packed.columns());
        let bytes = snps.start / PER_BYTE..snps.end.div_ceil(PER_BYTE);
        let quads = &self.quads[bytes.clone()];
        for (i, out) in rows.zip(out.chunks_exact_mut(snps.len().max(1))) {
            let codes = &packed.row(i)[bytes.clone()];
            let whole = self.decode_whole(codes, quads, out);
            for (s, value) in out.iter_mut().enumerate().skip(whole) {
                *value = quads[s / PER_BYTE][usize::from(packed::code(codes, s))][s % PER_BYTE];
            }
        }
    }

    /// Decodes as many whole quads as `out` has room for; returns how many values were written.
    fn decode_whole(&self, codes: &[u8], quads: &[Quad], out: &mut [f64]) -> usize {
        #[cfg(target_arch = "x86_64")]
        if self.avx2 {
            // SAFETY: AVX2 was found at run time.
            unsafe { decode_avx2(codes, quads, out) };
            return out.len() / PER_BYTE * PER_BYTE;
        }
        decode_plain(codes, quads, out);
        out.len() / PER_BYTE * PER_BYTE
    }

    /// Whether AVX2 code may run.
    pub(super) fn avx2(&self) -> bool {
        self.avx2
    }

    /// The same tables for a processor without SIMD.
    #[cfg(test)]
    pub(super) fn without_simd(mut self) -> Self {
        self.avx2 = false;
        self
    }
}

fn decode_plain(codes: &[u8], quads: &[Quad], out: &mut [f64]) {
    for ((values, &byte), quad) in out.chunks_exact_mut(PER_BYTE).zip(codes).zip(quads) {
        for (s, value) in values.iter_mut().enumerate() {
            *value = quad[usize::from(byte >> (2 * s) & 3)][s];
        }
    }
}

/// Both bits of each code select among the four values by blending.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn decode_avx2(codes: &[u8], quads: &[Quad], out: &mut [f64]) {
    use std::arch::x86_64::*;
    // The shifts bring the low (high) bit of each SNP's code to the sign of its 64-bit lane.
    let to_low = _mm256_set_epi64x(57, 59, 61, 63);
    let to_high = _mm256_set_epi64x(56, 58, 60, 62);
    for ((values, &byte), quad) in out.chunks_exact_mut(PER_BYTE).zip(codes).zip(quads) {
        let word = _mm256_set1_epi64x(i64::from(byte));
        let low = _mm256_castsi256_pd(_mm256_sllv_epi64(word, to_low));
        let high = _mm256_castsi256_pd(_mm256_sllv_epi64(word, to_high));
        // SAFETY: each array holds four f64, and so does `values`.
        unsafe {
            let at = |code: usize| _mm256_loadu_pd(quad[code].as_ptr());
            let without = _mm256_blendv_pd(at(0), at(1), low);
            let with = _mm256_blendv_pd(at(2), at(3), low);
            _mm256_storeu_pd(values.as_mut_ptr(), _mm256_blendv_pd(without, with, high));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    #[test]
    fn decoding_gives_the_coding_with_and_without_simd() {
        for (n, m) in [(1, 1), (3, 4), (2, 5), (5, 256), (2, 257), (3, 515)] {
            let mut s = Stream::new(2, Purpose::Test, m as u64);
            let codes: Vec<u8> = (0..n * m).map(|_| s.below(4) as u8).collect();
            let packed = Packed::from_codes(n, m, &codes);
            let coding: Vec<Coding> = (0..m).map(|_| [0; 4].map(|_: i32| s.normal())).collect();
            let start = if m > 256 { 256 } else { 0 };
            for tables in [Tables::new(&coding), Tables::new(&coding).without_simd()] {
                let mut out = vec![f64::NAN; n * (m - start)];
                tables.decode(&packed, 0..n, start..m, &mut out);
                for i in 0..n {
                    for j in start..m {
                        let want = coding[j][usize::from(codes[i * m + j])];
                        assert_eq!(out[i * (m - start) + j - start], want);
                    }
                }
            }
        }
    }
}
