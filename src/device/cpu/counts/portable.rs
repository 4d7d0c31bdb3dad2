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
        let mut bytes = [[0u8; LANES]; ROWS];
        for (row, panel) in rows.iter().zip(panel) {
            let products = products(panel);
            for (bytes, code) in bytes.iter_mut().zip(&row[half * ROWS..]) {
                let [a, b, c, d] = std::array::from_fn(|s| &products[s][usize::from(code >> (2 * s) & 3)]);
                for (l, byte) in bytes.iter_mut().enumerate() {
                    *byte += (a[l] + b[l]) + (c[l] + d[l]);
                }
            }
        }
        for (sums, bytes) in sums.iter_mut().zip(&bytes) {
            sums.iter_mut().zip(bytes).for_each(|(sum, byte)| *sum += u16::from(*byte));
        }
    }
}

/// What a panel's calls at each SNP of a quad give with each code; codes hold no 3.
#[inline(always)]
fn products(panel: &[u8; LANES]) -> [[[u8; LANES]; 4]; PER_BYTE] {
    std::array::from_fn(|s| {
        let calls = panel.map(|codes| codes >> (2 * s) & 3);
        [[0; LANES], calls, calls.map(|call| call << 1), [0; LANES]]
    })
}
