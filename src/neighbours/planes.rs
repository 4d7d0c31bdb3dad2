//! Distances from bit planes: one bit a SNP that says "one copy", one that says "two copies".
//!
//! With o the SNPs where the planes of one copy differ, calls are 1 apart at o, and 2 apart where the planes of two
//! copies differ elsewhere: |x − y| and (x − y)² are sums of bit counts, with weight 2 or 4 for the latter. A third
//! plane says which calls were made, where any is missing.

use crate::packed::{word, Packed, LOW_BITS};
use crate::simd::has;
use rayon::prelude::*;
use std::ops::Range;

/// Words of each plane that lie together: 512 SNPs, one register.
const GROUP: usize = 8;
/// Groups that are compared at a stretch: those of the references of a tile stay in a core's cache.
const STRETCH: usize = 32;
/// References that are compared with all queries of a strip before the next.
const NEAR: usize = 64;
/// Queries of one task.
const STRIP: usize = 32;
/// Queries and references whose counts are kept in registers.
const BLOCK: (usize, usize) = (4, 2);

/// One plane of 512 SNPs.
type Word = [u64; GROUP];

/// The bit planes of animals: (animals, groups, planes), all planes of 512 SNPs side by side.
pub(super) struct Planes {
    groups: usize,
    masked: bool,
    words: Vec<Word>,
}

impl Planes {
    /// Of all animals; `masked` with the plane of calls made.
    pub(super) fn new(packed: &Packed, masked: bool) -> Self {
        let groups = packed.columns().div_ceil(64 * GROUP);
        let each = groups * planes(masked);
        let mut words = vec![[0u64; GROUP]; packed.rows() * each];
        words.par_chunks_mut(each.max(1)).enumerate().for_each(|(i, words)| {
            let bytes = packed.row(i).chunks(16 * GROUP);
            for (words, bytes) in words.chunks_exact_mut(planes(masked)).zip(bytes) {
                for (w, bytes) in bytes.chunks(16).enumerate() {
                    let [one, two, called] = split(bytes);
                    (words[0][w], words[1][w]) = (one, two);
                    if masked {
                        words[2][w] = called;
                    }
                }
            }
        });
        Planes { groups, masked, words }
    }

    /// The planes of an animal in some groups.
    fn of(&self, animal: usize, groups: Range<usize>) -> &[Word] {
        let each = planes(self.masked);
        &self.words[(animal * self.groups + groups.start) * each..(animal * self.groups + groups.end) * each]
    }
}

fn planes(masked: bool) -> usize {
    2 + usize::from(masked)
}

/// The planes of 64 calls; their order among the bits does not matter. What lies behind the end is missing.
fn split(bytes: &[u8]) -> [u64; 3] {
    let (a, b) = (word(bytes, 0), word(bytes, 8));
    let low = a & LOW_BITS | (b & LOW_BITS) << 1;
    let high = a >> 1 & LOW_BITS | b & !LOW_BITS;
    [low & !high, high & !low, !(low & high)]
}

/// `out = distances` of some queries (rows) to some references (columns), with `two` for calls two apart.
pub(super) fn tile(
    two: u32,
    queries: (&Planes, Range<usize>),
    references: (&Planes, Range<usize>),
    out: &mut [u32],
) {
    let compare = kernel(queries.0.masked);
    let width = references.1.len().max(1);
    out.par_chunks_mut(STRIP * width).enumerate().for_each(|(s, out)| {
        let first = queries.1.start + s * STRIP;
        let rows = first..(first + STRIP).min(queries.1.end);
        out.fill(0);
        for left in (0..width).step_by(NEAR) {
            for group in (0..queries.0.groups).step_by(STRETCH) {
                let groups = group..(group + STRETCH).min(queries.0.groups);
                for i in rows.clone().step_by(BLOCK.0) {
                    for k in (left..(left + NEAR).min(references.1.len())).step_by(BLOCK.1) {
                        // The last animal stands in for those behind the end.
                        let q =
                            std::array::from_fn(|a| queries.0.of((i + a).min(rows.end - 1), groups.clone()));
                        let last = references.1.end - 1;
                        let r = std::array::from_fn(|b| {
                            references.0.of((references.1.start + k + b).min(last), groups.clone())
                        });
                        let found = compare(q, r);
                        for (a, found) in found.iter().enumerate().take(rows.end - i) {
                            let line = &mut out[(i + a - first) * width + k..(i + a - first + 1) * width];
                            for (out, [ones, twos]) in line.iter_mut().zip(found) {
                                *out += ones + two * twos;
                            }
                        }
                    }
                }
            }
        }
    });
}

/// How many calls are one and two apart, for a block of queries and references.
type Found = [[[u32; 2]; BLOCK.1]; BLOCK.0];
type Compare = fn([&[Word]; BLOCK.0], [&[Word]; BLOCK.1]) -> Found;

/// The fastest way to compare that this processor has.
fn kernel(masked: bool) -> Compare {
    *kernels(masked).last().expect("there is a portable one")
}

/// All ways that this processor has, the fastest last.
fn kernels(masked: bool) -> Vec<Compare> {
    let mut found: Vec<Compare> = vec![if masked { compare::<3> } else { compare::<2> }];
    #[cfg(target_arch = "x86_64")]
    {
        if has!("avx2", "popcnt") {
            found.push(if masked { x86::narrow::<3> } else { x86::narrow::<2> });
        }
        if has!("avx512f", "avx512vpopcntdq") {
            found.push(if masked { x86::wide::<3> } else { x86::wide::<2> });
        }
    }
    found
}

/// On any processor.
#[inline(always)]
fn compare<const P: usize>(q: [&[Word]; BLOCK.0], r: [&[Word]; BLOCK.1]) -> Found {
    std::array::from_fn(|a| {
        std::array::from_fn(|b| {
            let (mut ones, mut twos) = ([0u64; GROUP], [0u64; GROUP]);
            for (x, y) in q[a].chunks_exact(P).zip(r[b].chunks_exact(P)) {
                for w in 0..GROUP {
                    let called = if P == 3 { x[2][w] & y[2][w] } else { u64::MAX };
                    let one = x[0][w] ^ y[0][w];
                    ones[w] += u64::from((one & called).count_ones());
                    twos[w] += u64::from(((x[1][w] ^ y[1][w]) & !one & called).count_ones());
                }
            }
            [ones.iter().sum::<u64>() as u32, twos.iter().sum::<u64>() as u32]
        })
    })
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Found, Word, BLOCK};
    use crate::simd::has;
    use std::arch::x86_64::*;

    /// With AVX2; only where [`super::kernels`] found it.
    pub(super) fn narrow<const P: usize>(q: [&[Word]; BLOCK.0], r: [&[Word]; BLOCK.1]) -> Found {
        #[target_feature(enable = "avx2,popcnt")]
        fn run<const P: usize>(q: [&[Word]; BLOCK.0], r: [&[Word]; BLOCK.1]) -> Found {
            super::compare::<P>(q, r)
        }
        assert!(has!("avx2", "popcnt"), "no AVX2 here");
        // SAFETY: the processor has the instructions.
        unsafe { run::<P>(q, r) }
    }

    /// With AVX-512 and its bit count; only where [`super::kernels`] found them.
    pub(super) fn wide<const P: usize>(q: [&[Word]; BLOCK.0], r: [&[Word]; BLOCK.1]) -> Found {
        let words = q[0].len();
        assert!(q.iter().chain(&r).all(|w| w.len() == words), "the same groups");
        assert!(words.is_multiple_of(P), "{words} words in planes of {P}");
        assert!(has!("avx512f", "avx512vpopcntdq"), "no AVX-512 with its bit count here");
        // SAFETY: the processor has the instructions; lengths are checked.
        unsafe { wide_loop::<P>(q, r, words) }
    }

    #[target_feature(enable = "avx512f,avx512vpopcntdq")]
    unsafe fn wide_loop<const P: usize>(q: [&[Word]; BLOCK.0], r: [&[Word]; BLOCK.1], words: usize) -> Found {
        let mut sums = [[[_mm512_setzero_si512(); 2]; BLOCK.1]; BLOCK.0];
        for at in (0..words).step_by(P) {
            // SAFETY: `at` + P words are there, as the length is a multiple of P.
            let load =
                |w: &[Word], plane: usize| unsafe { _mm512_loadu_si512(w.as_ptr().add(at + plane).cast()) };
            let y: [[__m512i; P]; BLOCK.1] = std::array::from_fn(|b| std::array::from_fn(|p| load(r[b], p)));
            for (q, sums) in q.iter().zip(&mut sums) {
                let x: [__m512i; P] = std::array::from_fn(|p| load(q, p));
                for (y, [ones, twos]) in y.iter().zip(sums) {
                    let mut one = _mm512_xor_si512(x[0], y[0]);
                    // (x ^ y) & !one
                    let mut two = _mm512_ternarylogic_epi64::<0x14>(x[1], y[1], one);
                    if P == 3 {
                        let called = _mm512_and_si512(x[2], y[2]);
                        one = _mm512_and_si512(one, called);
                        two = _mm512_and_si512(two, called);
                    }
                    *ones = _mm512_add_epi64(*ones, _mm512_popcnt_epi64(one));
                    *twos = _mm512_add_epi64(*twos, _mm512_popcnt_epi64(two));
                }
            }
        }
        sums.map(|row| row.map(|pair| pair.map(|sum| _mm512_reduce_add_epi64(sum) as u32)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    #[test]
    fn every_kernel_of_this_processor_counts_the_same() {
        let mut s = Stream::new(4, Purpose::Test, 0);
        // 1,900 SNPs: three whole groups and a part; 6 animals: a whole block
        let codes: Vec<u8> = (0..6 * 1900).map(|_| s.below(4) as u8).collect();
        let packed = Packed::from_codes(6, 1900, &codes);
        for masked in [false, true] {
            let planes = Planes::new(&packed, masked);
            let q = std::array::from_fn(|a| planes.of(a, 0..4));
            let r = std::array::from_fn(|b| planes.of(4 + b, 0..4));
            let all = kernels(masked);
            for kernel in &all {
                assert_eq!(kernel(q, r), all[0](q, r), "masked: {masked}");
            }
        }
    }
}
