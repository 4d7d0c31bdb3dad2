//! Look-ups in registers: `vpshufb` of AVX2 and AVX-512, `vpermi2b` of AVX-512 VBMI.

use super::pack::{self, Order};
use super::{Kernel, Octet, ROWS};
use crate::packed::PER_BYTE;
use crate::simd::has;
use std::arch::x86_64::*;

/// Quads before bytes overflow: each adds at most 4·2, as products of x − 1 are -1, 0 or 1 and get 1 more.
const RUN: usize = 31;

/// The partial products of a table's own code with every other code.
#[repr(align(64))]
struct Table<const CODES: usize>([u8; CODES]);

/// Products of quads in base 3: 81 by 81, padded.
static QUADS: [Table<128>; 256] = {
    let mut tables = [const { Table([0; 128]) }; 256];
    let mut a = 0;
    while a < 81 {
        let mut b = 0;
        while b < 81 {
            tables[a].0[b] = product(digits(a, 3, PER_BYTE), digits(b, 3, PER_BYTE), PER_BYTE);
            b += 1;
        }
        a += 1;
    }
    tables
};

/// Products of the first and of the second two calls of a packed byte with each pair of calls.
static PAIRS: [[[u8; 16]; 2]; 256] = {
    let mut tables = [[[0; 16]; 2]; 256];
    let mut a = 0;
    while a < 256 {
        let mut b = 0;
        while b < 16 {
            tables[a][0][b] = product(digits(a & 15, 4, 2), digits(b, 4, 2), 2);
            tables[a][1][b] = product(digits(a >> 4, 4, 2), digits(b, 4, 2), 2);
            b += 1;
        }
        a += 1;
    }
    tables
};

/// The digits of `code`, the smallest first; a digit 3 is a missing call, which counts 0.
const fn digits(mut code: usize, base: usize, count: usize) -> [i8; PER_BYTE] {
    let mut out = [0; PER_BYTE];
    let mut s = 0;
    while s < count {
        let digit = (code % base) as i8;
        out[s] = if digit == 3 { 0 } else { digit };
        code /= base;
        s += 1;
    }
    out
}

/// Σ (x − 1)(x' − 1) + 1.
const fn product(a: [i8; PER_BYTE], b: [i8; PER_BYTE], count: usize) -> u8 {
    let (mut sum, mut s) = (0, 0);
    while s < count {
        sum += (a[s] - 1) * (b[s] - 1) + 1;
        s += 1;
    }
    sum as u8
}

static PERMUTE: Kernel = Kernel {
    name: "vpermi2b (AVX-512 VBMI)",
    lanes: 256,
    order: Order { code: pack::base_three, half: 32 },
    centred: true,
    add: permute,
};

static SHUFFLE_512: Kernel = Kernel {
    name: "vpshufb (AVX-512)",
    lanes: 256,
    order: Order { code: |word| word, half: 32 },
    centred: true,
    add: shuffle_512,
};

static SHUFFLE_256: Kernel = Kernel {
    name: "vpshufb (AVX2)",
    lanes: 64,
    order: Order { code: |word| word, half: 16 },
    centred: true,
    add: shuffle_256,
};

/// The kernels that this processor has instructions for, the fastest first.
pub(super) fn kernels() -> Vec<&'static Kernel> {
    let mut found = Vec::new();
    if has!("avx512f", "avx512bw", "avx512vbmi") {
        found.push(&PERMUTE);
    }
    if has!("avx512f", "avx512bw") {
        found.push(&SHUFFLE_512);
    }
    if has!("avx2") {
        found.push(&SHUFFLE_256);
    }
    found
}

/// As [`Kernel::add`]: a quad's 81 products are the bytes of two registers, and each look-up takes 64 of them.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn permute(rows: &[Octet], half: usize, panel: &[u8], sums: &mut [u16]) {
    let (panel, _) = panel.as_chunks::<256>();
    for (rows, panel) in rows.chunks(RUN).zip(panel.chunks(RUN)) {
        let mut bytes = [[_mm512_setzero_si512(); 4]; ROWS];
        for (row, panel) in rows.iter().zip(panel) {
            let codes: [__m512i; 4] = load_512(panel);
            for (bytes, code) in bytes.iter_mut().zip(&row.as_chunks::<ROWS>().0[half]) {
                let [low, high] = load_512(&QUADS[usize::from(*code)].0);
                for (bytes, codes) in bytes.iter_mut().zip(codes) {
                    *bytes = _mm512_add_epi8(*bytes, _mm512_permutex2var_epi8(low, codes, high));
                }
            }
        }
        widen_512(&bytes, sums);
    }
}

/// As [`Kernel::add`]: a byte is two codes of 4 bits, each looked up among 16 products.
#[target_feature(enable = "avx512f,avx512bw")]
fn shuffle_512(rows: &[Octet], half: usize, panel: &[u8], sums: &mut [u16]) {
    let nibble = _mm512_set1_epi8(15);
    let (panel, _) = panel.as_chunks::<256>();
    for (rows, panel) in rows.chunks(RUN).zip(panel.chunks(RUN)) {
        let mut bytes = [[_mm512_setzero_si512(); 4]; ROWS];
        for (row, panel) in rows.iter().zip(panel) {
            let codes: [__m512i; 4] = load_512(panel);
            let (mut first, mut second) = (codes, codes);
            for (first, second) in first.iter_mut().zip(&mut second) {
                *first = _mm512_and_si512(*first, nibble);
                *second = _mm512_and_si512(_mm512_srli_epi16::<4>(*second), nibble);
            }
            for (bytes, code) in bytes.iter_mut().zip(&row.as_chunks::<ROWS>().0[half]) {
                let [a, b] = &PAIRS[usize::from(*code)];
                let (a, b) = (_mm512_broadcast_i32x4(load_128(a)), _mm512_broadcast_i32x4(load_128(b)));
                for (bytes, (first, second)) in bytes.iter_mut().zip(first.iter().zip(second)) {
                    let sum = _mm512_add_epi8(_mm512_shuffle_epi8(a, *first), _mm512_shuffle_epi8(b, second));
                    *bytes = _mm512_add_epi8(*bytes, sum);
                }
            }
        }
        widen_512(&bytes, sums);
    }
}

/// As [`Kernel::add`], in registers of 32 bytes.
#[target_feature(enable = "avx2")]
fn shuffle_256(rows: &[Octet], half: usize, panel: &[u8], sums: &mut [u16]) {
    let nibble = _mm256_set1_epi8(15);
    let (panel, _) = panel.as_chunks::<64>();
    for (rows, panel) in rows.chunks(RUN).zip(panel.chunks(RUN)) {
        let mut bytes = [[_mm256_setzero_si256(); 2]; ROWS];
        for (row, panel) in rows.iter().zip(panel) {
            let codes: [__m256i; 2] = load_256(panel);
            let (mut first, mut second) = (codes, codes);
            for (first, second) in first.iter_mut().zip(&mut second) {
                *first = _mm256_and_si256(*first, nibble);
                *second = _mm256_and_si256(_mm256_srli_epi16::<4>(*second), nibble);
            }
            for (bytes, code) in bytes.iter_mut().zip(&row.as_chunks::<ROWS>().0[half]) {
                let [a, b] = &PAIRS[usize::from(*code)];
                let (a, b) =
                    (_mm256_broadcastsi128_si256(load_128(a)), _mm256_broadcastsi128_si256(load_128(b)));
                for (bytes, (first, second)) in bytes.iter_mut().zip(first.iter().zip(second)) {
                    let sum = _mm256_add_epi8(_mm256_shuffle_epi8(a, *first), _mm256_shuffle_epi8(b, second));
                    *bytes = _mm256_add_epi8(*bytes, sum);
                }
            }
        }
        widen_256(&bytes, sums);
    }
}

/// 16 bytes as a register.
#[inline]
#[target_feature(enable = "sse2")]
fn load_128(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: the bytes are there.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// BYTES = 64 N bytes as N registers.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_512<const BYTES: usize, const N: usize>(bytes: &[u8; BYTES]) -> [__m512i; N] {
    const { assert!(BYTES == 64 * N) };
    let mut out = [_mm512_setzero_si512(); N];
    for (r, out) in out.iter_mut().enumerate() {
        // SAFETY: register r takes bytes 64 r to 64 r + 63, which are there.
        *out = unsafe { _mm512_loadu_si512(bytes.as_ptr().add(64 * r).cast()) };
    }
    out
}

/// BYTES = 32 N bytes as N registers.
#[inline]
#[target_feature(enable = "avx2")]
fn load_256<const BYTES: usize, const N: usize>(bytes: &[u8; BYTES]) -> [__m256i; N] {
    const { assert!(BYTES == 32 * N) };
    let mut out = [_mm256_setzero_si256(); N];
    for (r, out) in out.iter_mut().enumerate() {
        // SAFETY: register r takes bytes 32 r to 32 r + 31, which are there.
        *out = unsafe { _mm256_loadu_si256(bytes.as_ptr().add(32 * r).cast()) };
    }
    out
}

/// sums (ROWS, 256) += bytes: even bytes are a group's first 32 animals, odd ones its last.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn widen_512(bytes: &[[__m512i; 4]; ROWS], sums: &mut [u16]) {
    let (groups, _) = sums.as_chunks_mut::<64>();
    for (bytes, sums) in bytes.as_flattened().iter().zip(groups) {
        let even = _mm512_and_si512(*bytes, _mm512_set1_epi16(0xFF));
        let at = sums.as_mut_ptr();
        // SAFETY: a group has 64 sums of 16 bits, two registers.
        unsafe {
            let first = _mm512_add_epi16(_mm512_loadu_si512(at.cast()), even);
            _mm512_storeu_si512(at.cast(), first);
            let at = at.add(32);
            let odd = _mm512_srli_epi16::<8>(*bytes);
            _mm512_storeu_si512(at.cast(), _mm512_add_epi16(_mm512_loadu_si512(at.cast()), odd));
        }
    }
}

/// sums (ROWS, 64) += bytes: even bytes are a group's first 16 animals, odd ones its last.
#[inline]
#[target_feature(enable = "avx2")]
fn widen_256(bytes: &[[__m256i; 2]; ROWS], sums: &mut [u16]) {
    let (groups, _) = sums.as_chunks_mut::<32>();
    for (bytes, sums) in bytes.as_flattened().iter().zip(groups) {
        let even = _mm256_and_si256(*bytes, _mm256_set1_epi16(0xFF));
        let at = sums.as_mut_ptr();
        // SAFETY: a group has 32 sums of 16 bits, two registers.
        unsafe {
            let first = _mm256_add_epi16(_mm256_loadu_si256(at.cast()), even);
            _mm256_storeu_si256(at.cast(), first);
            let at = at.add(16);
            let odd = _mm256_srli_epi16::<8>(*bytes);
            _mm256_storeu_si256(at.cast(), _mm256_add_epi16(_mm256_loadu_si256(at.cast()), odd));
        }
    }
}
