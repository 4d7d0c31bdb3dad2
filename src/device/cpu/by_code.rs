//! Sums by code: lines of four animals are interleaved, so that a word of 32 bits holds the codes of four animals at
//! the same SNPs. Bits of one SNP are masked out of all words, and their bytes multiplied by the animals' values.

use crate::device::by_code::{Lines, Sample, BLOCK, CODES};
use crate::packed::{Packed, PER_BYTE};
use crate::simd::has;
use rayon::prelude::*;

/// Animals whose lines are interleaved.
const FOUR: usize = 4;
/// Fours that are summed in small numbers: 2 · 2 · 127 of each fit 16 bits this often, 2 of each 8 bits.
const STRETCH: usize = 64;
/// Words of a part of interleaved lines.
const WORDS: usize = 8;
/// Parts of four interleaved lines.
const PARTS: usize = BLOCK / PER_BYTE / WORDS;
/// Columns that are multiplied together, at most.
const COLUMNS: usize = 4;

/// A part of four interleaved lines.
type Part = [u8; WORDS * FOUR];
/// The values of four animals, the first in the lowest byte.
type Values = i32;

/// Where the sums of a block's SNP stand among those of a plane, (PARTS, PER_BYTE, WORDS): the interleaving goes by
/// 16 bytes of a line.
const fn place(snp: usize) -> usize {
    let (byte, code) = (snp / PER_BYTE, snp % PER_BYTE);
    let (half, byte) = (byte / 32, byte % 32);
    let part = 4 * half + byte % 16 / FOUR;
    (part * PER_BYTE + code) * WORDS + byte / 16 * FOUR + byte % FOUR
}

/// What a thread gathers into.
struct Stretch {
    /// (PARTS, STRETCH), of which `fours` are in use.
    parts: Vec<Part>,
    fours: usize,
    /// (columns, fours)
    values: Vec<Values>,
    /// Sums of a sample so far, (1 + columns, planes, BLOCK): counts, then those of each column. Planes are the low bit,
    /// the high bit twice, and both.
    sums: Vec<i32>,
}

/// Sums of each sample, (SNPs, width).
pub(in crate::device) fn sums_by_code(lines: &Lines, samples: &[Sample], out: &mut [Vec<i32>]) {
    sums_with(best(), lines, samples, out);
}

fn sums_with(kernel: Kernel, lines: &Lines, samples: &[Sample], out: &mut [Vec<i32>]) {
    let mut parts: Vec<_> =
        samples.iter().zip(out).map(|(sample, out)| out.chunks_mut(BLOCK * sample.width())).collect();
    // All samples of a block follow one another: its lines stay in the cache.
    let mut tasks: Vec<(&Packed, bool, &Sample, &mut [i32])> = Vec::new();
    for (block, missing) in lines.blocks() {
        let of = samples.iter().zip(&mut parts);
        tasks.extend(of.map(|(sample, parts)| (block, missing, sample, parts.next().expect("one a block"))));
    }
    tasks.into_par_iter().for_each_init(Stretch::new, |stretch, (block, missing, sample, out)| {
        stretch.sums.clear();
        stretch.sums.resize((1 + sample.columns()) * CODES * BLOCK, 0);
        for start in (0..sample.animals.len()).step_by(STRETCH * FOUR) {
            let end = (start + STRETCH * FOUR).min(sample.animals.len());
            stretch.take(kernel, block, sample, start..end);
            // SAFETY: `best` gives kernels whose instructions this processor has.
            unsafe { (kernel.sums)(stretch, missing) }
        }
        stretch.write(out);
    });
}

impl Stretch {
    fn new() -> Stretch {
        Stretch {
            parts: vec![[0; WORDS * FOUR]; PARTS * STRETCH],
            fours: 0,
            values: Vec::new(),
            sums: Vec::new(),
        }
    }

    /// Interleaves the lines of some animals of a sample; the last four are filled up with code 0, which is not counted.
    fn take(&mut self, kernel: Kernel, block: &Packed, sample: &Sample, of: std::ops::Range<usize>) {
        let n = sample.animals.len();
        let line = |i: u32| -> &[u8; BLOCK / PER_BYTE] {
            block.row(i as usize).try_into().expect("a block has whole lines")
        };
        self.fours = of.len().div_ceil(FOUR);
        for (at, animals) in sample.animals[of.clone()].chunks(FOUR).enumerate() {
            let lines = std::array::from_fn(|k| animals.get(k).map_or(&[0; BLOCK / PER_BYTE], |&i| line(i)));
            // SAFETY: `best` gives kernels whose instructions this processor has.
            unsafe { (kernel.interleave)(lines, &mut self.parts, at) }
        }
        self.values.clear();
        for column in 0..sample.columns() {
            let word = |bytes: [i8; FOUR]| Values::from_le_bytes(bytes.map(|value| value as u8));
            let (fours, rest) = sample.values[column * n..][of.clone()].as_chunks::<FOUR>();
            self.values.extend(fours.iter().copied().map(word));
            if !rest.is_empty() {
                self.values.push(word(std::array::from_fn(|k| rest.get(k).copied().unwrap_or(0))));
            }
        }
    }

    /// Columns of values.
    fn columns(&self) -> usize {
        self.sums.len() / (CODES * BLOCK) - 1
    }

    /// Columns that are multiplied together, and how many.
    fn together(&self) -> impl Iterator<Item = (usize, usize)> {
        let columns = self.columns();
        let mut first = 0;
        std::iter::from_fn(move || {
            let count = match columns - first {
                0 => return None,
                3 => 2,
                left => left.min(COLUMNS),
            };
            first += count;
            Some((first - count, count))
        })
    }

    /// Writes the sums by code, (SNPs, width).
    fn write(&self, out: &mut [i32]) {
        const PLACES: [usize; BLOCK] = {
            let mut places = [0; BLOCK];
            let mut snp = 0;
            while snp < BLOCK {
                places[snp] = place(snp);
                snp += 1;
            }
            places
        };
        let (planes, _) = self.sums.as_chunks::<BLOCK>();
        for (out, at) in out.chunks_exact_mut(planes.len()).zip(PLACES) {
            let (out, _) = out.as_chunks_mut::<CODES>();
            for (out, planes) in out.iter_mut().zip(planes.chunks_exact(CODES)) {
                let both = planes[2][at];
                *out = [planes[0][at] - both, planes[1][at] / 2 - both, both];
            }
        }
    }
}

/// One way to interleave lines and to sum them.
#[derive(Clone, Copy)]
struct Kernel {
    /// Puts four lines into the parts, (PARTS, STRETCH), as the four of a number.
    interleave: unsafe fn([&[u8; BLOCK / PER_BYTE]; FOUR], &mut [Part], usize),
    /// Adds counts and sums; whether any call may be missing is known.
    sums: unsafe fn(&mut Stretch, bool),
}

/// The fastest kernel of this processor.
fn best() -> Kernel {
    #[cfg(target_arch = "x86_64")]
    if has!("avx2") {
        return Kernel { interleave: x86::interleave, sums: x86::sums };
    }
    PORTABLE
}

/// Plain loops.
const PORTABLE: Kernel = Kernel { interleave: portable_interleave, sums: portable_sums };

fn portable_interleave(lines: [&[u8; BLOCK / PER_BYTE]; FOUR], parts: &mut [Part], at: usize) {
    for byte in 0..BLOCK / PER_BYTE {
        let to = place(PER_BYTE * byte);
        let (part, word) = (to / (PER_BYTE * WORDS), to % WORDS);
        for (k, line) in lines.iter().enumerate() {
            parts[part * STRETCH + at][word * FOUR + k] = line[byte];
        }
    }
}

fn portable_sums(stretch: &mut Stretch, _missing: bool) {
    let (fours, ones) = (stretch.fours, vec![Values::from_le_bytes([1; FOUR]); stretch.fours]);
    for column in 0..=stretch.columns() {
        let values = match column {
            0 => &ones,
            _ => &stretch.values[(column - 1) * fours..][..fours],
        };
        let planes = stretch.sums[column * CODES * BLOCK..].as_chunks_mut::<BLOCK>().0;
        for part in 0..PARTS {
            for (codes, values) in stretch.parts[part * STRETCH..][..fours].iter().zip(values) {
                for (b, byte) in codes.iter().enumerate() {
                    let value = i32::from(values.to_le_bytes()[b % FOUR] as i8);
                    for code in 0..PER_BYTE {
                        let at = (part * PER_BYTE + code) * WORDS + b / FOUR;
                        let (low, high) =
                            (i32::from(byte >> (2 * code) & 1), i32::from(byte >> (2 * code + 1) & 1));
                        planes[0][at] += low * value;
                        planes[1][at] += 2 * high * value;
                        planes[2][at] += (low & high) * value;
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! Eight words a register: a byte of two bits times a value fits 16 bits, 64 times.

    use super::{Part, Stretch, Values, BLOCK, CODES, FOUR, PARTS, PER_BYTE, STRETCH, WORDS};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx2")]
    pub(super) fn interleave(lines: [&[u8; BLOCK / PER_BYTE]; FOUR], parts: &mut [Part], at: usize) {
        assert!(parts.len() == PARTS * STRETCH && at < STRETCH, "room for it");
        for half in 0..2 {
            let mut of = [_mm256_setzero_si256(); FOUR];
            for (of, line) in of.iter_mut().zip(lines) {
                // SAFETY: a line has two halves of 32 bytes.
                *of = unsafe { _mm256_loadu_si256(line.as_ptr().add(32 * half).cast()) };
            }
            let [a, b, c, d] = of;
            let pairs = [
                (_mm256_unpacklo_epi8(a, b), _mm256_unpacklo_epi8(c, d)),
                (_mm256_unpackhi_epi8(a, b), _mm256_unpackhi_epi8(c, d)),
            ];
            for (k, (ab, cd)) in pairs.into_iter().enumerate() {
                let both = [_mm256_unpacklo_epi16(ab, cd), _mm256_unpackhi_epi16(ab, cd)];
                for (l, words) in both.into_iter().enumerate() {
                    let to = &mut parts[(4 * half + 2 * k + l) * STRETCH + at];
                    // SAFETY: a part has 32 bytes.
                    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), words) }
                }
            }
        }
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn sums(stretch: &mut Stretch, missing: bool) {
        if stretch.columns() == 0 {
            columns::<0, true>(stretch, missing, 0);
        }
        for (first, count) in stretch.together() {
            match (count, first) {
                (1, 0) => columns::<1, true>(stretch, missing, first),
                (1, _) => columns::<1, false>(stretch, missing, first),
                (2, 0) => columns::<2, true>(stretch, missing, first),
                (2, _) => columns::<2, false>(stretch, missing, first),
                (_, 0) => columns::<4, true>(stretch, missing, first),
                (_, _) => columns::<4, false>(stretch, missing, first),
            }
        }
    }

    /// Adds the sums of C columns from `first` on, and counts where `COUNT`.
    #[target_feature(enable = "avx2")]
    fn columns<const C: usize, const COUNT: bool>(stretch: &mut Stretch, missing: bool, first: usize) {
        let Stretch { parts, fours, values, sums } = stretch;
        let values: [&[Values]; C] = std::array::from_fn(|c| &values[(first + c) * *fours..][..*fours]);
        let (counts, sums) = sums.split_at_mut(CODES * BLOCK);
        let sums = &mut sums[first * CODES * BLOCK..];
        for part in 0..PARTS {
            let parts = &parts[part * STRETCH..][..*fours];
            for code in 0..PER_BYTE {
                let at = (part * PER_BYTE + code) * WORDS;
                let (of_counts, of_sums) = match (code, missing) {
                    (0, false) => words::<C, COUNT, false, 0>(parts, values),
                    (1, false) => words::<C, COUNT, false, 2>(parts, values),
                    (2, false) => words::<C, COUNT, false, 4>(parts, values),
                    (_, false) => words::<C, COUNT, false, 6>(parts, values),
                    (0, true) => words::<C, COUNT, true, 0>(parts, values),
                    (1, true) => words::<C, COUNT, true, 2>(parts, values),
                    (2, true) => words::<C, COUNT, true, 4>(parts, values),
                    (_, true) => words::<C, COUNT, true, 6>(parts, values),
                };
                for plane in 0..if missing { CODES } else { 2 } {
                    if COUNT {
                        add(&mut counts[plane * BLOCK + at..], of_counts[plane]);
                    }
                    for (c, planes) in of_sums.iter().enumerate() {
                        add(&mut sums[(c * CODES + plane) * BLOCK + at..], planes[plane]);
                    }
                }
            }
        }
    }

    /// Counts and sums of the SNPs whose codes begin at a bit of each byte of a part.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn words<const C: usize, const COUNT: bool, const MISSING: bool, const BIT: i32>(
        parts: &[Part],
        values: [&[Values]; C],
    ) -> ([__m256i; CODES], [[__m256i; CODES]; C]) {
        assert!(parts.len() <= STRETCH && values.iter().all(|of| of.len() == parts.len()), "a stretch");
        let (one, two) = (_mm256_set1_epi8(1), _mm256_set1_epi8(2));
        let mut counts = [_mm256_setzero_si256(); CODES];
        let mut sums = [[_mm256_setzero_si256(); CODES]; C];
        for (at, part) in parts.iter().enumerate() {
            // SAFETY: a part has 32 bytes.
            let codes = unsafe { _mm256_loadu_si256(part.as_ptr().cast()) };
            let codes = _mm256_srli_epi16::<BIT>(codes);
            let (low, high) = (_mm256_and_si256(codes, one), _mm256_and_si256(codes, two));
            let both = _mm256_and_si256(_mm256_srli_epi16::<1>(high), low);
            if COUNT {
                counts[0] = _mm256_add_epi8(counts[0], low);
                counts[1] = _mm256_add_epi8(counts[1], high);
                if MISSING {
                    counts[2] = _mm256_add_epi8(counts[2], both);
                }
            }
            for (sums, values) in sums.iter_mut().zip(values) {
                let value = _mm256_set1_epi32(values[at]);
                sums[0] = _mm256_add_epi16(sums[0], _mm256_maddubs_epi16(low, value));
                sums[1] = _mm256_add_epi16(sums[1], _mm256_maddubs_epi16(high, value));
                if MISSING {
                    sums[2] = _mm256_add_epi16(sums[2], _mm256_maddubs_epi16(both, value));
                }
            }
        }
        // Loops, as closures are compiled without the instructions.
        let wide = _mm256_set1_epi16(1);
        for of in &mut counts {
            *of = _mm256_madd_epi16(_mm256_maddubs_epi16(*of, one), wide);
        }
        for of in sums.as_flattened_mut() {
            *of = _mm256_madd_epi16(*of, wide);
        }
        (counts, sums)
    }

    /// Adds the eight numbers of a register.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn add(to: &mut [i32], of: __m256i) {
        let to = to.first_chunk_mut::<WORDS>().expect("eight of them").as_mut_ptr().cast();
        // SAFETY: eight numbers are there.
        unsafe { _mm256_storeu_si256(to, _mm256_add_epi32(_mm256_loadu_si256(to), of)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::by_code::plain;
    use crate::rng::{Purpose, Stream};

    #[test]
    fn sums_are_exact_for_samples_of_every_size() {
        let mut s = Stream::new(3, Purpose::Test, 0);
        // (SNPs, animals of the sample, columns, calls that are missing)
        for (m, count, columns, some_missing) in [
            (0, 5, 1, true),
            (1, 0, 1, true),
            (3, 1, 1, true),
            (255, 63, 2, true),
            (257, 65, 3, false),
            (300, STRETCH * FOUR + 1, 5, true),
            (256, 2 * STRETCH * FOUR, 1, false),
            (512, 900, 7, false),
            (20, 300, 9, true),
            (20, 301, 0, false),
        ] {
            let n = 333;
            let calls: Vec<u8> =
                (0..m * n).map(|_| s.below(if some_missing { 4 } else { 3 }) as u8).collect();
            let calls = Packed::from_codes(m, n, &calls);
            let snps: Vec<u32> = (0..m as u32).collect();
            let lines = Lines::of(&calls, &snps);
            let animals: Vec<u32> = (0..count).map(|_| s.below(n) as u32).collect();
            let values: Vec<i8> = (0..count * columns).map(|_| (s.below(255) as i32 - 127) as i8).collect();
            let sample = Sample { animals: &animals, values: &values };
            let mut want = vec![0; m * sample.width()];
            plain(&lines, &sample, &mut want);
            for kernel in [best(), PORTABLE] {
                let mut found = vec![vec![-1; want.len()]];
                sums_with(kernel, &lines, &[sample], &mut found);
                assert!(found[0] == want, "{m} {count} {columns}");
            }
        }
    }

    #[test]
    fn small_numbers_hold_the_largest_sums() {
        for (code, value) in [(2u8, 127i8), (2, -127), (1, 127), (3, -127)] {
            let n = 2 * STRETCH * FOUR;
            let lines = Lines::of(&Packed::from_codes(1, n, &vec![code; n]), &[0]);
            let (animals, values) = ((0..n as u32).collect::<Vec<_>>(), vec![value; n]);
            let sample = Sample { animals: &animals, values: &values };
            let mut found = [vec![0; 6]];
            sums_by_code(&lines, &[sample], &mut found);
            let place = [1, 2, 3].iter().position(|c| *c == code).expect("a code that is counted");
            assert_eq!((found[0][place], found[0][3 + place]), (n as i32, n as i32 * i32::from(value)));
        }
    }

    #[test]
    fn lines_hold_the_rows_that_were_chosen() {
        let calls = Packed::from_codes(4, 3, &[0, 1, 2, 1, 1, 1, 2, 0, 3, 0, 0, 1]);
        let lines = Lines::of(&calls, &[2, 0]);
        let codes: Vec<u8> =
            (0..3).flat_map(|i| (0..3).map(move |j| (i, j))).map(|(i, j)| lines.code(j, i)).collect();
        assert_eq!(codes, [2, 0, 3, 0, 1, 3, 3, 2, 3]);
    }
}
