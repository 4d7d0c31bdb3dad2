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
    for (rows, panel) in rows.chunks(RUN).zip(panel.chunks(RUN)) {
        for (r, sums) in sums.chunks_exact_mut(LANES).enumerate().take(ROWS) {
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
    for s in 0..PER_BYTE {
        let count = code >> (2 * s) & 3;
        // all ones where the count has that bit
        let (one, two) = ((count & 1).wrapping_neg(), (count >> 1).wrapping_neg());
        for (byte, codes) in bytes.iter_mut().zip(panel) {
            let other = codes >> (2 * s) & 3;
            *byte += (other & one) + (other << 1 & two);
        }
    }
}
