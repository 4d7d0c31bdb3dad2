//! The kernel for every processor: loops over bytes that compilers turn into whatever SIMD is there.

use super::pack::{self, Order};
use super::{Kernel, Octet, ROWS};
use crate::packed::PER_BYTE;

/// Right animals of a panel.
const LANES: usize = 64;
/// Quads before bytes overflow: each adds at most 4·2·2.
const RUN: usize = 15;

pub(super) static KERNEL: Kernel = Kernel {
    name: "portable",
    lanes: LANES,
    order: Order { code: pack::without_missing, half: 1 },
    centred: false,
    add,
};

/// As [`Kernel::add`].
fn add(rows: &[Octet], half: usize, panel: &[u8], sums: &mut [u16]) {
    let (panel, _) = panel.as_chunks::<LANES>();
    let (sums, _) = sums.as_chunks_mut::<LANES>();
    for (rows, panel) in rows.chunks(RUN).zip(panel.chunks(RUN)) {
        for (r, sums) in sums.iter_mut().enumerate().take(ROWS) {
            let mut bytes = [0u8; LANES];
            for (row, panel) in rows.iter().zip(panel) {
                add_quad(row[half * ROWS + r], panel, &mut bytes);
            }
            sums.iter_mut().zip(bytes).for_each(|(sum, byte)| *sum += u16::from(byte));
        }
    }
}

/// bytes += the products of one animal's quad with those of a panel.
#[inline(always)]
fn add_quad(code: u8, panel: &[u8; LANES], bytes: &mut [u8; LANES]) {
    // All ones where the count at SNP s has that bit.
    let one: [u8; PER_BYTE] = std::array::from_fn(|s| (code >> (2 * s) & 1).wrapping_neg());
    let two: [u8; PER_BYTE] = std::array::from_fn(|s| (code >> (2 * s + 1) & 1).wrapping_neg());
    for (byte, codes) in bytes.iter_mut().zip(panel) {
        for s in 0..PER_BYTE {
            let other = codes >> (2 * s) & 3;
            *byte += (other & one[s]) + (other << 1 & two[s]);
        }
    }
}
