//! The checksum behind each chunk, as HDF5 computes it.

use crate::simd::has;

/// Words that are summed side by side.
const LANES: usize = 16;
/// Bytes that hold them.
const BLOCK: usize = 2 * LANES;
/// Blocks after which a lane of the second sum could overflow 32 bits.
const STEPS: usize = 360;

/// First and second sums of each lane over some blocks: lane `l` sums the words `2l` of each block, lane `8 + l`
/// the words `2l + 1`.
type Sums = ([u32; LANES], [u32; LANES]);

/// HDF5's fletcher32: two sums modulo 65,535 over big-endian 16-bit words, a last odd byte being a high one.
///
/// Computed over little-endian words in 16 lanes: swapping the bytes of every word multiplies both sums by
/// 256 modulo 65,535, which swaps the bytes of the sums.
pub fn fletcher32(data: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if has!("avx2") {
        // SAFETY: the processor has the instructions, as just asked.
        return combine(data, |blocks| unsafe { sums_avx2(blocks) });
    }
    combine(data, sums)
}

/// The sums of the lanes over whole blocks, at most [`STEPS`] of them.
fn sums(blocks: &[u8]) -> Sums {
    let (mut a, mut b) = ([0u32; LANES], [0u32; LANES]);
    for block in blocks.chunks_exact(BLOCK) {
        for (l, w) in block.chunks_exact(4).enumerate() {
            a[l] += u32::from(u16::from_le_bytes([w[0], w[1]]));
            a[8 + l] += u32::from(u16::from_le_bytes([w[2], w[3]]));
        }
        (0..LANES).for_each(|l| b[l] += a[l]);
    }
    (a, b)
}

/// [`sums`] in registers of 256 bits, which the compiler does not find by itself.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sums_avx2(blocks: &[u8]) -> Sums {
    use std::arch::x86_64::*;
    let low = _mm256_set1_epi32(0xFFFF);
    let (mut a, mut b) = ([_mm256_setzero_si256(); 2], [_mm256_setzero_si256(); 2]);
    for block in blocks.chunks_exact(BLOCK) {
        // SAFETY: a block has 32 bytes.
        let words = unsafe { _mm256_loadu_si256(block.as_ptr().cast()) };
        a[0] = _mm256_add_epi32(a[0], _mm256_and_si256(words, low));
        a[1] = _mm256_add_epi32(a[1], _mm256_srli_epi32::<16>(words));
        b[0] = _mm256_add_epi32(b[0], a[0]);
        b[1] = _mm256_add_epi32(b[1], a[1]);
    }
    // SAFETY: two registers are as long as 16 lanes of 32 bits, and any bits are a u32.
    unsafe {
        (
            std::mem::transmute::<[__m256i; 2], [u32; LANES]>(a),
            std::mem::transmute::<[__m256i; 2], [u32; LANES]>(b),
        )
    }
}

/// The checksum from the sums of the lanes over runs of blocks.
fn combine(data: &[u8], sums: impl Fn(&[u8]) -> Sums) -> u32 {
    let words = data.len().div_ceil(2) as u64;
    let (mut first, mut second, mut done) = (0u64, 0u64, 0u64);
    let (blocks, rest) = data.split_at(data.len() / BLOCK * BLOCK);
    for run in blocks.chunks(STEPS * BLOCK) {
        let (a, b) = sums(run);
        let steps = (run.len() / BLOCK) as u64;
        // The word w of the block k stands `words - done - LANES k - w` places before the end.
        let behind = words - done - LANES as u64 * steps;
        for l in 0..LANES {
            let (a, b) = (u64::from(a[l]), u64::from(b[l]));
            let word = (2 * (l % 8) + l / 8) as u64;
            first += a;
            second += (behind * a + LANES as u64 * b - word * a) % 65_535;
        }
        done += LANES as u64 * steps;
    }
    for pair in rest.chunks(2) {
        let w = u64::from(u16::from_le_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        first += w;
        second += (words - done) % 65_535 * w;
        done += 1;
    }
    let any = first > 0;
    let fold = |sum: u64| match sum % 65_535 {
        0 if any => 0xFFFF,
        rest => (rest as u16).swap_bytes(),
    };
    u32::from(fold(second)) << 16 | u32::from(fold(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As HDF5 1.10 computes it (H5checksum.c, H5_checksum_fletcher32), word by word.
    fn plain(data: &[u8]) -> u32 {
        let (mut a, mut b) = (0u32, 0u32);
        for block in data.chunks(720) {
            for pair in block.chunks(2) {
                a += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
                b += a;
            }
            a = (a & 0xFFFF) + (a >> 16);
            b = (b & 0xFFFF) + (b >> 16);
        }
        a = (a & 0xFFFF) + (a >> 16);
        b = (b & 0xFFFF) + (b >> 16);
        b << 16 | a
    }

    #[test]
    fn the_checksum_is_that_of_hdf5() {
        // 0, 2: nothing and one word; 30-34: around a block of lanes; the rest: several folds, a whole chunk.
        for length in [0usize, 1, 2, 30, 32, 33, 34, 720, 11_520, 11_522, 262_144] {
            let noise: Vec<u8> =
                (0..length as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            for data in [noise, vec![0; length], vec![0xFF; length]] {
                assert_eq!(fletcher32(&data), plain(&data), "{length} bytes");
                assert_eq!(combine(&data, sums), plain(&data), "{length} bytes, any processor");
            }
        }
    }
}
