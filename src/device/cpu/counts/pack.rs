//! From rows of packed calls to quads of many animals side by side.

use super::OCTET;
use crate::packed::{missing_bits, word, Packed};
use std::ops::Range;

/// How a kernel wants its codes.
pub(super) struct Order {
    /// From eight packed bytes to eight codes.
    pub code: fn(u64) -> u64,
    /// Lanes come in groups of twice this many animals; the even lanes of a group are its first half, the odd
    /// ones its second, so that both halves are in order when bytes are widened.
    pub half: usize,
}

/// Packs the animals of one panel: `out` (quads, lanes); lanes without an animal count no allele.
pub(super) fn panel(order: &Order, packed: &Packed, animals: Range<usize>, lanes: usize, out: &mut [u8]) {
    for lane in (0..lanes).step_by(OCTET) {
        let animal = |l: usize| {
            let (group, within) = (l / (2 * order.half), l % (2 * order.half));
            animals.start + group * 2 * order.half + within % 2 * order.half + within / 2
        };
        let octet = std::array::from_fn(|l| Some(animal(lane + l)).filter(|&i| i < animals.end));
        self::octet(order.code, packed, octet, &mut out[lane..], lanes);
    }
}

/// Packs eight animals: the code of animal l in quad q to `out[q * stride + l]`; codes where there is no animal
/// are those of eight missing calls.
pub(super) fn octet(
    code: fn(u64) -> u64,
    packed: &Packed,
    animals: [Option<usize>; OCTET],
    out: &mut [u8],
    stride: usize,
) {
    let rows: [&[u8]; OCTET] = animals.map(|i| i.map_or(&[][..], |i| packed.row(i)));
    for (block, out) in out.chunks_mut(OCTET * stride).enumerate() {
        let at = block * OCTET;
        let words = transpose(rows.map(|row| code(word(row, at))));
        for (word, out) in words.iter().zip(out.chunks_mut(stride)) {
            out[..OCTET].copy_from_slice(&word.to_le_bytes());
        }
    }
}

/// Byte b of word w becomes byte w of word b (Warren, Hacker's Delight, 7-3).
#[inline]
fn transpose(mut words: [u64; OCTET]) -> [u64; OCTET] {
    const STEPS: [(usize, u64); 3] =
        [(1, 0x00FF_00FF_00FF_00FF), (2, 0x0000_FFFF_0000_FFFF), (4, 0x0000_0000_FFFF_FFFF)];
    for (step, mask) in STEPS {
        for i in (0..OCTET).filter(|i| i & step == 0) {
            let (low, high) = (words[i], words[i + step]);
            words[i] = low & mask | (high & mask) << (8 * step);
            words[i + step] = low >> (8 * step) & mask | high & !mask;
        }
    }
    words
}

/// Missing calls become 0, the rest stays.
#[inline]
pub(super) fn without_missing(word: u64) -> u64 {
    let missing = missing_bits(word);
    word & !(missing | missing << 1)
}

/// Four counts of a byte as the digits of a number in base 3, below 81; missing calls count 0.
#[inline]
pub(super) fn base_three(word: u64) -> u64 {
    let word = without_missing(word);
    // each step takes from c + b·d what turns it into c + 3·d or c + 9·d; no byte borrows from the next
    let pairs = word - (word >> 2 & 0x3333_3333_3333_3333);
    pairs - 7 * (pairs >> 4 & 0x0F0F_0F0F_0F0F_0F0F)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_becomes_its_number_in_base_three() {
        for byte in 0..=255u8 {
            let count = |s: u32| [0, 1, 2, 0][usize::from(byte >> (2 * s) & 3)];
            let wanted: u8 = (0..4).map(|s| count(s) * 3u8.pow(s)).sum();
            let word = u64::from_le_bytes([byte; 8]);
            assert_eq!(base_three(word).to_le_bytes(), [wanted; 8]);
            let counts: u8 = (0..4).map(|s| count(s) << (2 * s)).sum();
            assert_eq!(without_missing(word).to_le_bytes(), [counts; 8]);
        }
    }

    #[test]
    fn panels_hold_each_animals_quads_in_the_order_of_widened_bytes() {
        let (n, quads, lanes) = (70, 11, 128);
        let bytes: Vec<u8> = (0..n * quads).map(|at| (at * 37 % 251) as u8).collect();
        let packed = Packed::from_bytes(n, 4 * quads, bytes);
        let order = Order { code: |w| w, half: 32 };
        let mut out = vec![9; quads * lanes];
        panel(&order, &packed, 2..n, lanes, &mut out);
        for q in 0..quads {
            for lane in 0..lanes {
                let within = lane % 64;
                let i = 2 + lane / 64 * 64 + within / 2 + if within % 2 == 0 { 0 } else { 32 };
                let wanted = if i < n { packed.row(i)[q] } else { 0xFF };
                assert_eq!(out[q * lanes + lane], wanted, "{q} {lane}");
            }
        }
    }
}
