//! Sums by code: lines of a sample are gathered and turned, so that the codes of many animals at one SNP lie side by side;
//! a SNP's sums are then products of bytes.

use crate::device::by_code::{Lines, Sample, BLOCK, CODES};
use crate::packed::{Packed, PER_BYTE};
use crate::simd::{has, widest};
use rayon::prelude::*;

/// Animals that are gathered at a time: their lines and what these become when turned stay in the second-level cache.
const MOST: usize = 2048;
/// Animals whose codes and values are multiplied at a stretch; samples are filled up to whole ones.
const LANES: usize = 64;
/// Columns that are multiplied together.
const COLUMNS: usize = 4;

/// What a thread gathers into.
struct Gathered {
    lines: Packed,
    /// (BLOCK, stride)
    turned: Vec<u8>,
    /// (columns, animals filled up)
    values: Vec<i8>,
}

/// Sums of each sample, (SNPs, width).
pub(in crate::device) fn sums_by_code(lines: &Lines, samples: &[Sample], out: &mut [Vec<i32>]) {
    let tasks: Vec<(&Packed, &Sample, &mut [i32])> = samples
        .iter()
        .zip(out)
        .flat_map(|(sample, out)| {
            let parts = out.chunks_mut(BLOCK * sample.width());
            lines.blocks().iter().zip(parts).map(move |(block, out)| (block, sample, out))
        })
        .collect();
    let kernel = best();
    let fresh = || Gathered { lines: Packed::missing(0, 0), turned: Vec::new(), values: Vec::new() };
    tasks.into_par_iter().for_each_init(fresh, |gathered, (block, sample, out)| {
        out.fill(0);
        for start in (0..sample.animals.len()).step_by(MOST) {
            let end = (start + MOST).min(sample.animals.len());
            gathered.take(block, sample, start..end);
            gathered.add(kernel, sample.columns(), out);
        }
    });
}

impl Gathered {
    /// Gathers some animals of a sample and turns their lines.
    fn take(&mut self, block: &Packed, sample: &Sample, of: std::ops::Range<usize>) {
        let (rows, n) = (of.len().next_multiple_of(LANES), sample.animals.len());
        let line = block.stride();
        self.lines.resize(rows, BLOCK);
        let (to, rest) = self.lines.bytes_mut().split_at_mut(of.len() * line);
        for (to, &i) in to.chunks_exact_mut(line).zip(&sample.animals[of.clone()]) {
            to.copy_from_slice(block.row(i as usize));
        }
        rest.fill(0); // code 0, which is not counted
        self.turned.resize(BLOCK * rows / PER_BYTE, 0);
        self.lines.transpose_columns(0..BLOCK, &mut self.turned, rows / PER_BYTE);
        self.values.clear();
        for column in 0..sample.columns() {
            self.values.extend(&sample.values[column * n + of.start..column * n + of.end]);
            self.values.resize((column + 1) * rows, 0);
        }
    }

    /// Adds the sums of what was gathered to `out`, (SNPs, width).
    fn add(&self, kernel: Kernel, columns: usize, out: &mut [i32]) {
        let rows = self.lines.rows();
        for (codes, out) in
            self.turned.chunks_exact(rows / PER_BYTE).zip(out.chunks_mut(CODES * (1 + columns)))
        {
            let (counts, sums) = out.split_at_mut(CODES);
            // SAFETY: `best` gives kernels whose instructions this processor has.
            let found = unsafe { (kernel.counts)(codes) };
            counts.iter_mut().zip(found).for_each(|(count, found)| *count += found);
            let missing = found[2] > 0;
            for (sums, values) in sums.chunks_mut(CODES * COLUMNS).zip(self.values.chunks(rows * COLUMNS)) {
                // SAFETY: as above.
                unsafe { (kernel.sums)(codes, values, missing, sums) }
            }
        }
    }
}

/// One way to sum the codes of one SNP, whole stretches of them.
#[derive(Clone, Copy)]
struct Kernel {
    /// Animals with the codes 1, 2 and missing.
    counts: unsafe fn(&[u8]) -> [i32; CODES],
    /// Adds the sums of at most COLUMNS columns of values; whether any call is missing is known.
    sums: unsafe fn(&[u8], &[i8], bool, &mut [i32]),
}

/// The fastest kernel of this processor.
fn best() -> Kernel {
    #[cfg(target_arch = "x86_64")]
    if has!("avx512f", "avx512bw", "avx512vbmi", "avx512vnni", "avx512vpopcntdq") {
        return Kernel { counts: x86::counts, sums: x86::sums };
    }
    PORTABLE
}

/// Plain loops that the compiler makes wide.
const PORTABLE: Kernel = Kernel { counts: portable_counts, sums: portable_sums };

fn portable_counts(codes: &[u8]) -> [i32; CODES] {
    let [_, one, two, missing] = crate::packed::tally(codes, codes.len() * PER_BYTE);
    [one, two, missing].map(|count| i32::try_from(count).expect("few animals at a time"))
}

fn portable_sums(codes: &[u8], values: &[i8], missing: bool, sums: &mut [i32]) {
    #[inline(always)]
    fn body(codes: &[u8], values: &[i8], _missing: bool, sums: &mut [i32]) {
        let columns = values.chunks_exact(codes.len() * PER_BYTE);
        for (values, sums) in columns.zip(sums.chunks_exact_mut(CODES)) {
            let mut planes = [0i32; CODES];
            for (codes, values) in codes.chunks_exact(LANES / PER_BYTE).zip(values.chunks_exact(LANES)) {
                let mut each = [0u8; LANES];
                for (four, code) in each.chunks_exact_mut(PER_BYTE).zip(codes) {
                    four.iter_mut().enumerate().for_each(|(k, c)| *c = code >> (2 * k) & 3);
                }
                for (code, value) in each.iter().zip(values) {
                    let (low, high, value) = (code & 1, code >> 1, i32::from(*value));
                    planes[0] += i32::from(low) * value;
                    planes[1] += i32::from(high) * value;
                    planes[2] += i32::from(low & high) * value;
                }
            }
            add_planes(planes, sums);
        }
    }
    widest!(
        body(codes, values, missing, sums),
        fn(codes: &[u8], values: &[i8], missing: bool, sums: &mut [i32])
    )
}

/// From sums over the low bit, the high bit and both to sums by code.
#[inline(always)]
fn add_planes([low, high, both]: [i32; CODES], sums: &mut [i32]) {
    sums[0] += low - both;
    sums[1] += high - both;
    sums[2] += both;
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! 64 animals a register: their codes are spread to bytes, and bytes are multiplied by values and summed by fours.

    use super::{add_planes, CODES, COLUMNS, LANES, PER_BYTE};
    use std::arch::x86_64::*;

    /// Bytes of codes of one stretch.
    const STRETCH: usize = LANES / PER_BYTE;

    #[target_feature(enable = "avx512f,avx512bw,avx512vpopcntdq")]
    pub(super) fn counts(codes: &[u8]) -> [i32; CODES] {
        let low_bits = _mm512_set1_epi8(0x55);
        let mut counts = [_mm512_setzero_si512(); CODES];
        let mut add = |codes: __m512i| {
            let low = _mm512_and_si512(codes, low_bits);
            let high = _mm512_and_si512(_mm512_srli_epi16::<1>(codes), low_bits);
            for (count, plane) in counts.iter_mut().zip([low, high, _mm512_and_si512(low, high)]) {
                *count = _mm512_add_epi64(*count, _mm512_popcnt_epi64(plane));
            }
        };
        let (whole, rest) = codes.as_chunks::<64>();
        for codes in whole {
            // SAFETY: 64 bytes are there.
            add(unsafe { _mm512_loadu_si512(codes.as_ptr().cast()) });
        }
        if !rest.is_empty() {
            let mask = (1u64 << rest.len()) - 1;
            // SAFETY: the bytes of the mask are there.
            add(unsafe { _mm512_maskz_loadu_epi8(mask, rest.as_ptr().cast()) });
        }
        let [low, high, both] = counts.map(|count| _mm512_reduce_add_epi64(count) as i32);
        [low - both, high - both, both]
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
    pub(super) fn sums(codes: &[u8], values: &[i8], missing: bool, sums: &mut [i32]) {
        let rows = codes.len() * PER_BYTE;
        match (values.len() / rows.max(1), missing) {
            (1, false) => columns::<1, false>(codes, values, sums),
            (1, true) => columns::<1, true>(codes, values, sums),
            (2, false) => columns::<2, false>(codes, values, sums),
            (2, true) => columns::<2, true>(codes, values, sums),
            (3, _) => columns::<3, true>(codes, values, sums),
            (COLUMNS, false) => columns::<COLUMNS, false>(codes, values, sums),
            (COLUMNS, true) => columns::<COLUMNS, true>(codes, values, sums),
            _ => {}
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
    fn columns<const C: usize, const MISSING: bool>(codes: &[u8], values: &[i8], sums: &mut [i32]) {
        let (codes, _) = codes.as_chunks::<STRETCH>();
        let (values, _) = values.as_chunks::<LANES>();
        assert!(values.len() == C * codes.len() && sums.len() == C * CODES, "whole stretches");
        // Byte b of a lane of eight begins at bit 2b.
        let places = _mm512_set1_epi64(0x0E0C_0A08_0604_0200);
        let (one, two) = (_mm512_set1_epi8(1), _mm512_set1_epi8(2));
        let mut planes = [[_mm512_setzero_si512(); CODES]; C];
        for (at, codes_of) in codes.iter().enumerate() {
            // SAFETY: 16 bytes are there.
            let packed = unsafe { _mm_loadu_si128(codes_of.as_ptr().cast()) };
            let each = _mm512_multishift_epi64_epi8(places, _mm512_cvtepu16_epi64(packed));
            let (low, high) = (_mm512_and_si512(each, one), _mm512_and_si512(each, two));
            for (column, planes) in planes.iter_mut().enumerate() {
                // SAFETY: 64 bytes are there.
                let value = unsafe { _mm512_loadu_si512(values[column * codes.len() + at].as_ptr().cast()) };
                planes[0] = _mm512_dpbusd_epi32(planes[0], low, value);
                planes[1] = _mm512_dpbusd_epi32(planes[1], high, value);
                if MISSING {
                    let both = _mm512_and_si512(_mm512_srli_epi16::<1>(high), low);
                    planes[2] = _mm512_dpbusd_epi32(planes[2], both, value);
                }
            }
        }
        for (planes, sums) in planes.into_iter().zip(sums.chunks_exact_mut(CODES)) {
            let [low, high, both] = planes.map(|plane| _mm512_reduce_add_epi32(plane));
            add_planes([low, high / 2, both], sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::by_code::plain;
    use crate::rng::{Purpose, Stream};

    /// Sums of a sample with the portable kernel.
    fn portable(lines: &Lines, sample: &Sample) -> Vec<i32> {
        let mut out = vec![0; lines.snps().next_multiple_of(BLOCK) * sample.width()];
        let mut gathered = Gathered { lines: Packed::missing(0, 0), turned: Vec::new(), values: Vec::new() };
        for (block, out) in lines.blocks().iter().zip(out.chunks_mut(BLOCK * sample.width())) {
            for start in (0..sample.animals.len()).step_by(MOST) {
                gathered.take(block, sample, start..(start + MOST).min(sample.animals.len()));
                gathered.add(PORTABLE, sample.columns(), out);
            }
        }
        out.truncate(lines.snps() * sample.width());
        out
    }

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
            (300, MOST + 1, 5, true),
            (256, 2 * MOST, 1, false),
            (20, 300, 9, true),
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
            let mut found = vec![vec![-1; want.len()]];
            sums_by_code(&lines, &[sample], &mut found);
            assert!(found[0] == want, "{m} {count} {columns}");
            assert!(portable(&lines, &sample) == want, "portable {m} {count} {columns}");
        }
    }

    #[test]
    fn lines_hold_the_rows_that_were_chosen() {
        let calls = Packed::from_codes(4, 3, &[0, 1, 2, 1, 1, 1, 2, 0, 3, 0, 0, 1]);
        let lines = Lines::of(&calls, &[2, 0]);
        let codes: Vec<u8> = (0..3)
            .flat_map(|i| (0..3).map(move |j| (i, j)))
            .map(|(i, j)| lines.blocks()[0].get(i, j))
            .collect();
        assert_eq!(codes, [2, 0, 3, 0, 1, 3, 3, 2, 3]);
    }
}
