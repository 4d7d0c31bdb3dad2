//! Lists of missing calls times the calls of a group of animals, by the best instructions that the processor has.

use super::{Line, Quad, GROUP};
use crate::packed::PER_BYTE;

/// Writes Σ mean · call over a list for the animals of one group of the lines; a missing call counts as 3. Unsafe, as
/// it needs its processor's instructions, and the lines of all SNPs of the list.
pub(super) type Run = unsafe fn(list: &[Quad], lines: &[Line], group: usize, out: &mut [i64; GROUP]);

/// One way to multiply.
struct Kernel {
    #[cfg(test)]
    name: &'static str,
    /// For means of all digits, and for those whose lowest is 0.
    runs: [Run; 2],
}

/// All kernels that run on this processor, the fastest first.
fn kernels() -> Vec<Kernel> {
    let kernel = |_name, runs| Kernel {
        #[cfg(test)]
        name: _name,
        runs,
    };
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected;
        let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
        if wide && is_x86_feature_detected!("avx512vbmi") && is_x86_feature_detected!("avx512vnni") {
            found.push(kernel("vpdpbusd (AVX-512 VNNI)", [x86::dot_512::<0>, x86::dot_512::<1>]));
        }
        if is_x86_feature_detected!("avx2") {
            found.push(kernel("vpmaddubsw (AVX2)", [x86::dot_256::<0>, x86::dot_256::<1>]));
        }
    }
    found.push(kernel("portable", [portable, portable]));
    found
}

/// The fastest kernel; `short` when the lowest digit of all means is 0.
pub(super) fn best(short: bool) -> Run {
    kernels()[0].runs[usize::from(short)]
}

/// The names and the kernels themselves, for means of all digits or for those whose lowest is 0: for both the first.
#[cfg(test)]
pub(super) fn all(short: bool) -> Vec<(&'static str, Run)> {
    let runs = |k: Kernel| k.runs.into_iter().take(1 + usize::from(short)).map(move |run| (k.name, run));
    kernels().into_iter().flat_map(runs).collect()
}

/// [`Run`] by one of this module's kernels.
#[inline]
pub(super) fn multiply(kernel: Run, list: &[Quad], lines: &[Line], group: usize, out: &mut [i64; GROUP]) {
    debug_assert!(list.iter().flat_map(|quad| quad.snps).all(|j| usize::from(j) < lines.len()));
    // SAFETY: `kernels` lists a kernel only where the processor has its instructions; there is a line for each SNP of
    // a window's lists.
    unsafe { kernel(list, lines, group, out) };
}

/// As [`Run`], any processor.
fn portable(list: &[Quad], lines: &[Line], group: usize, out: &mut [i64; GROUP]) {
    out.fill(0);
    for quad in list {
        for (call, &j) in quad.snps.iter().enumerate() {
            let mean = i64::from(u32::from_le_bytes(quad.digits.map(|digit| digit[call])));
            let line = &lines[usize::from(j)].0[group];
            for (r, out) in out.chunks_exact_mut(GROUP / PER_BYTE).enumerate() {
                out.iter_mut()
                    .zip(line)
                    .for_each(|(out, byte)| *out += mean * i64::from(byte >> (2 * r) & 3));
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::{prefetch, Line, Quad, DIGITS, GROUP};
    use crate::packed::PER_BYTE;
    use std::arch::x86_64::*;

    /// Quads before the products with two digits, each at most 4·3·255·257, overflow 32 bits.
    const STRETCH: usize = 2048;
    /// Quads whose lines are asked for before they are needed.
    const AHEAD: usize = 12;
    /// Quads before products of bytes, two at most 3·255 in each 16 bits, overflow those.
    const RUN: usize = 21;

    /// Bytes of a group.
    const BYTES: usize = GROUP / PER_BYTE;

    /// `N` bytes of a group's calls at one SNP, from the byte `first` on.
    ///
    /// # Safety
    /// The line, the group and the bytes must be there.
    #[inline]
    unsafe fn calls<const N: usize>(lines: &[Line], snp: u16, (group, first): (usize, usize)) -> [u8; N] {
        // SAFETY: as the caller says.
        unsafe {
            let line = lines.get_unchecked(usize::from(snp));
            line.0.get_unchecked(group).as_ptr().add(first).cast::<[u8; N]>().read_unaligned()
        }
    }

    /// As [`super::Run`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
    pub(super) unsafe fn dot_512<const FIRST: usize>(
        list: &[Quad],
        lines: &[Line],
        group: usize,
        out: &mut [i64; GROUP],
    ) {
        out.fill(0);
        for stretch in list.chunks(STRETCH) {
            // SAFETY: as the caller says.
            unsafe {
                if FIRST == 0 {
                    // the sums of four digits do not fit the registers
                    dot_some::<0, 2>(stretch, lines, group, out);
                    dot_some::<2, 2>(stretch, lines, group, out);
                } else {
                    dot_some::<FIRST, 3>(stretch, lines, group, out);
                }
            }
        }
    }

    /// Adds the products of `COUNT` digits from the digit `FIRST` on: for 16 animals at a time a register holds the
    /// calls at four SNPs, byte by byte, and all sums of a group stay in registers.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
    unsafe fn dot_some<const FIRST: usize, const COUNT: usize>(
        stretch: &[Quad],
        lines: &[Line],
        group: usize,
        out: &mut [i64; GROUP],
    ) {
        // byte t of SNP s goes to byte s of lane t; the bytes of SNPs 0 and 1 are in one register, 2 and 3 in another
        let order = |half: usize| -> [u8; 64] {
            std::array::from_fn(|at| (at % 4 * BYTES + 16 * half + at / 4) as u8)
        };
        // SAFETY: 64 bytes are read.
        let orders = [0, 1].map(|half| unsafe { _mm512_loadu_si512(order(half).as_ptr().cast()) });
        let three = _mm512_set1_epi8(3);
        let mut sums = [[[_mm512_setzero_si512(); PER_BYTE]; COUNT]; 2];
        for (at, quad) in stretch.iter().enumerate() {
            if let Some(later) = stretch.get(at + AHEAD) {
                later.snps.iter().for_each(|&j| prefetch(lines, usize::from(j)));
            }
            // SAFETY: as the caller says; the types are of the same size.
            let [a, b, c, d] = quad
                .snps
                .map(|j| unsafe { std::mem::transmute::<[u8; BYTES], __m256i>(calls(lines, j, (group, 0))) });
            let first = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(a), b);
            let last = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(c), d);
            for (sums, order) in sums.iter_mut().zip(orders) {
                let four = _mm512_permutex2var_epi8(first, order, last);
                let calls = [
                    _mm512_and_si512(four, three),
                    _mm512_and_si512(_mm512_srli_epi16::<2>(four), three),
                    _mm512_and_si512(_mm512_srli_epi16::<4>(four), three),
                    _mm512_and_si512(_mm512_srli_epi16::<6>(four), three),
                ];
                for (sums, digits) in sums.iter_mut().zip(&quad.digits[FIRST..]) {
                    let digits = _mm512_set1_epi32(i32::from_le_bytes(*digits));
                    for (sum, calls) in sums.iter_mut().zip(calls) {
                        *sum = _mm512_dpbusd_epi32(*sum, digits, calls);
                    }
                }
            }
        }
        for (half, sums) in sums.iter().enumerate() {
            for (digit, sums) in sums.iter().enumerate() {
                let shift = _mm_cvtsi32_si128(8 * (FIRST + digit) as i32);
                for (r, sum) in sums.iter().enumerate() {
                    let parts = [_mm512_castsi512_si256(*sum), _mm512_extracti64x4_epi64::<1>(*sum)];
                    let out = &mut out[BYTES * r + 16 * half..][..16];
                    for (out, part) in out.as_chunks_mut::<8>().0.iter_mut().zip(parts) {
                        let part = _mm512_sll_epi64(_mm512_cvtepi32_epi64(part), shift);
                        // SAFETY: eight sums are read and written.
                        unsafe {
                            let before = _mm512_loadu_si512(out.as_ptr().cast());
                            _mm512_storeu_si512(out.as_mut_ptr().cast(), _mm512_add_epi64(before, part));
                        }
                    }
                }
            }
        }
    }

    /// As [`super::Run`]: for 8 animals at a time a register holds the calls at four SNPs, byte by byte. Two digits
    /// of 32 animals are multiplied at once.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn dot_256<const FIRST: usize>(
        list: &[Quad],
        lines: &[Line],
        group: usize,
        out: &mut [i64; GROUP],
    ) {
        out.fill(0);
        for stretch in list.chunks(STRETCH) {
            for first in (0..BYTES).step_by(8) {
                // SAFETY: as the caller says.
                unsafe {
                    dot_eight::<FIRST, 2>(stretch, lines, (group, first), out);
                    dot_eight::<2, DIGITS>(stretch, lines, (group, first), out);
                }
            }
        }
    }

    /// Adds the products of one or two digits with eight bytes of a group.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn dot_eight<const FIRST: usize, const END: usize>(
        stretch: &[Quad],
        lines: &[Line],
        (group, first): (usize, usize),
        out: &mut [i64; GROUP],
    ) {
        let (three, ones) = (_mm256_set1_epi8(3), _mm256_set1_epi16(1));
        let mut sums = [[_mm256_setzero_si256(); PER_BYTE]; 2];
        for run in stretch.chunks(RUN) {
            let mut short = [[_mm256_setzero_si256(); PER_BYTE]; 2];
            for quad in run {
                // SAFETY: as the caller says.
                let [a, b, c, d] = quad.snps.map(|j| {
                    let eight = unsafe { calls::<8>(lines, j, (group, first)) };
                    _mm_cvtsi64_si128(i64::from_le_bytes(eight))
                });
                let (front, back) = (_mm_unpacklo_epi8(a, b), _mm_unpacklo_epi8(c, d));
                let four = _mm256_set_m128i(_mm_unpackhi_epi16(front, back), _mm_unpacklo_epi16(front, back));
                let calls = [
                    _mm256_and_si256(four, three),
                    _mm256_and_si256(_mm256_srli_epi16::<2>(four), three),
                    _mm256_and_si256(_mm256_srli_epi16::<4>(four), three),
                    _mm256_and_si256(_mm256_srli_epi16::<6>(four), three),
                ];
                for (short, digits) in short.iter_mut().zip(&quad.digits[FIRST..END]) {
                    let digits = _mm256_set1_epi32(i32::from_le_bytes(*digits));
                    for (short, calls) in short.iter_mut().zip(calls) {
                        *short = _mm256_add_epi16(*short, _mm256_maddubs_epi16(digits, calls));
                    }
                }
            }
            for (sum, short) in sums.as_flattened_mut().iter_mut().zip(short.as_flattened()) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(*short, ones));
            }
        }
        for (r, out) in out.as_chunks_mut::<BYTES>().0.iter_mut().enumerate() {
            let both = _mm256_add_epi32(sums[0][r], _mm256_slli_epi32::<8>(sums[1][r]));
            let mut lanes = [0i32; 8];
            // SAFETY: eight numbers are written.
            unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), both) };
            let out = &mut out[first..first + 8];
            out.iter_mut().zip(lanes).for_each(|(out, x)| *out += i64::from(x) << (8 * FIRST));
        }
    }
}
