//! Lists of missing calls times the calls of 128 animals, by the best instructions that the processor has.

use super::{Line, Quad, GROUP};
use crate::packed::PER_BYTE;
use crate::simd::has;

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
        if has!("avx512f", "avx512bw", "avx512vbmi", "avx512vnni") {
            found.push(kernel("vpdpbusd (AVX-512 VNNI)", [x86::dot_512::<0>, x86::dot_512::<1>]));
        }
        if has!("avx2") {
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
///
/// # Safety
/// `lines` has a line for each SNP of `list`, and each line has the `group`.
#[inline]
pub(super) unsafe fn multiply(
    kernel: Run,
    list: &[Quad],
    lines: &[Line],
    group: usize,
    out: &mut [i64; GROUP],
) {
    debug_assert!(list.iter().flat_map(|quad| quad.snps).all(|j| usize::from(j) < lines.len()));
    // SAFETY: `kernels` lists a kernel only where the processor has its instructions; the rest as the caller says.
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

    /// The calls of one group at one SNP.
    ///
    /// # Safety
    /// The line and the group must be there.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn calls(lines: &[Line], snp: u16, group: usize) -> __m256i {
        // SAFETY: as the caller says.
        unsafe {
            let line = lines.get_unchecked(usize::from(snp));
            _mm256_load_si256(line.0.get_unchecked(group).as_ptr().cast())
        }
    }

    /// What a register gets: byte t of the calls at SNP s, for 16 t, at byte s of a lane.
    const ORDER: [[u8; 64]; 2] = {
        let mut order = [[0; 64]; 2];
        let mut at = 0;
        while at < 64 {
            let byte = (at % PER_BYTE * (GROUP / PER_BYTE) + at / PER_BYTE) as u8;
            order[0][at] = byte;
            order[1][at] = byte + 16;
            at += 1;
        }
        order
    };

    /// Sums of products of some digits with the calls of a group, register by register: the compiler keeps what loops
    /// over registers fill in memory, so these are written out.
    macro_rules! sums_512 {
        ($stretch:ident, $lines:ident, $group:ident, $($sums:ident: $digit:literal),*) => {
            let three = _mm512_set1_epi8(3);
            // SAFETY: 64 bytes are read.
            let order = unsafe { ORDER.each_ref().map(|order| _mm512_loadu_si512(order.as_ptr().cast())) };
            $(let mut $sums = [_mm512_setzero_si512(); GROUP / 16];)*
            for (at, quad) in $stretch.iter().enumerate() {
                // all groups of a line come with the first
                if $group == 0 {
                    if let Some(later) = $stretch.get(at + AHEAD) {
                        later.snps.iter().for_each(|&j| prefetch($lines, usize::from(j)));
                    }
                }
                // SAFETY: as the caller says.
                let [a, b, c, d] = quad.snps.map(|j| unsafe { calls($lines, j, $group) });
                let first = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(a), b);
                let last = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(c), d);
                let halves = order.map(|order| _mm512_permutex2var_epi8(first, order, last));
                macro_rules! add {
                    ($shift:literal, $half:literal) => {
                        let four = _mm512_srli_epi16::<{ 2 * $shift }>(halves[$half]);
                        let four = _mm512_and_si512(four, three);
                        $(
                            let digits = _mm512_set1_epi32(i32::from_le_bytes(quad.digits[$digit]));
                            let sum = &mut $sums[2 * $shift + $half];
                            *sum = _mm512_dpbusd_epi32(*sum, digits, four);
                        )*
                    };
                }
                add!(0, 0);
                add!(1, 0);
                add!(2, 0);
                add!(3, 0);
                add!(0, 1);
                add!(1, 1);
                add!(2, 1);
                add!(3, 1);
            }
        };
    }

    /// As [`super::Run`]: for 16 animals at a time a register holds the calls at four SNPs, byte by byte. More than
    /// three digits at once have more sums than there are registers.
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
                high_512(stretch, lines, group, out);
                if FIRST == 0 {
                    low_512(stretch, lines, group, out);
                }
            }
        }
    }

    /// Adds the products of all digits but the lowest.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
    unsafe fn high_512(stretch: &[Quad], lines: &[Line], group: usize, out: &mut [i64; GROUP]) {
        sums_512!(stretch, lines, group, second: 1, third: 2, fourth: 3);
        let last = third.into_iter().zip(fourth);
        for (out, (second, (third, fourth))) in
            out.as_chunks_mut().0.iter_mut().zip(second.into_iter().zip(last))
        {
            let high = _mm512_add_epi32(third, _mm512_slli_epi32::<8>(fourth));
            add_512(_mm512_slli_epi32::<8>(second), high, out);
        }
    }

    /// Adds the products of the lowest digit.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
    unsafe fn low_512(stretch: &[Quad], lines: &[Line], group: usize, out: &mut [i64; GROUP]) {
        sums_512!(stretch, lines, group, first: 0);
        for (out, first) in out.as_chunks_mut().0.iter_mut().zip(first) {
            add_512(first, _mm512_setzero_si512(), out);
        }
    }

    /// out += low + 2^16 high.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn add_512(low: __m512i, high: __m512i, out: &mut [i64; 16]) {
        let halves = [
            (_mm512_castsi512_si256(low), _mm512_castsi512_si256(high)),
            (_mm512_extracti64x4_epi64::<1>(low), _mm512_extracti64x4_epi64::<1>(high)),
        ];
        for (out, (low, high)) in out.as_chunks_mut::<8>().0.iter_mut().zip(halves) {
            let (low, high) = (_mm512_cvtepi32_epi64(low), _mm512_cvtepi32_epi64(high));
            let sum = _mm512_add_epi64(low, _mm512_slli_epi64::<16>(high));
            // SAFETY: eight sums are read and written.
            unsafe {
                let before = _mm512_loadu_si512(out.as_ptr().cast());
                _mm512_storeu_si512(out.as_mut_ptr().cast(), _mm512_add_epi64(before, sum));
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
            for quarter in 0..4 {
                // SAFETY: as the caller says.
                unsafe {
                    dot_quarter::<FIRST, 2>(stretch, lines, (group, quarter), out);
                    dot_quarter::<2, DIGITS>(stretch, lines, (group, quarter), out);
                }
            }
        }
    }

    /// Adds the products of one or two digits with a quarter of the bytes of a group.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn dot_quarter<const FIRST: usize, const END: usize>(
        stretch: &[Quad],
        lines: &[Line],
        (group, quarter): (usize, usize),
        out: &mut [i64; GROUP],
    ) {
        let (three, ones) = (_mm256_set1_epi8(3), _mm256_set1_epi16(1));
        let mut sums = [[_mm256_setzero_si256(); PER_BYTE]; 2];
        for run in stretch.chunks(RUN) {
            let mut short = [[_mm256_setzero_si256(); PER_BYTE]; 2];
            for quad in run {
                // SAFETY: as the caller says.
                let calls = quad.snps.map(|j| unsafe { calls(lines, j, group) });
                let [a, b, c, d] = match quarter / 2 {
                    0 => calls.map(|calls| _mm256_castsi256_si128(calls)),
                    _ => calls.map(|calls| _mm256_extracti128_si256::<1>(calls)),
                };
                let (first, last) = if quarter % 2 == 0 {
                    (_mm_unpacklo_epi8(a, b), _mm_unpacklo_epi8(c, d))
                } else {
                    (_mm_unpackhi_epi8(a, b), _mm_unpackhi_epi8(c, d))
                };
                let four = _mm256_set_m128i(_mm_unpackhi_epi16(first, last), _mm_unpacklo_epi16(first, last));
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
        for (r, out) in out.as_chunks_mut::<{ GROUP / PER_BYTE }>().0.iter_mut().enumerate() {
            let both = _mm256_add_epi32(sums[0][r], _mm256_slli_epi32::<8>(sums[1][r]));
            let mut lanes = [0i32; 8];
            // SAFETY: eight numbers are written.
            unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), both) };
            let out = &mut out[8 * quarter..8 * quarter + 8];
            out.iter_mut().zip(lanes).for_each(|(out, x)| *out += i64::from(x) << (8 * FIRST));
        }
    }
}
