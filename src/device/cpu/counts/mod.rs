//! X X' in integers, by the widest look-ups that the processor has; docs/grm.md derives and compares them.
//!
//! A packed byte holds a *quad*: four SNPs of one animal. Panels of animals are repacked quad by quad, so that one
//! register holds the same quad of many animals. For one quad of a left animal a table gives the partial product
//! with each code that a right animal may have there: one look-up and one addition of bytes do four
//! multiply-adds for every byte of a register. Bytes are widened before they overflow.

mod pack;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use crate::device::Part;
use crate::error::{Error, Result};
use crate::packed::{Packed, PER_BYTE};
use pack::Order;
use rayon::prelude::*;
use std::ops::Range;

/// Left animals whose codes are packed side by side.
const OCTET: usize = 8;
/// Left animals whose sums a kernel keeps in registers: half an octet.
const ROWS: usize = 4;
/// Left animals of one task at most.
const STRIP: usize = 128;
/// Quads that are multiplied at a stretch: those of 256 animals take 256 KiB, a part of a core's cache, and their
/// sums of at most 16 each fit 16 bits. A multiple of the look-ups' runs.
const DEPTH: usize = 33 * 31;
/// Bytes of right panels that are packed at once.
const PACKED: usize = 1 << 27;

/// One quad of the eight animals of an octet.
type Octet = [u8; OCTET];

/// One way to multiply.
pub(super) struct Kernel {
    /// What it is called in benchmarks.
    name: &'static str,
    /// Right animals of one panel.
    lanes: usize,
    /// How packed bytes become the kernel's codes, and in which order.
    order: Order,
    /// Whether it multiplies x − 1 and adds 1 to each product, which keeps bytes small for longer.
    centred: bool,
    /// Adds the products of the first or second half of octets with a panel to sums (ROWS, lanes).
    add: Add,
}

/// `rows` of shape (quads), which half of them, `panel` (quads, lanes), `sums` (ROWS, lanes). Unsafe, as it needs
/// its processor's instructions.
type Add = unsafe fn(rows: &[Octet], half: usize, panel: &[u8], sums: &mut [u16]);

/// All kernels that run on this processor, the fastest first.
fn kernels() -> Vec<&'static Kernel> {
    #[cfg(target_arch = "x86_64")]
    let mut found = x86::kernels();
    #[cfg(not(target_arch = "x86_64"))]
    let mut found = Vec::new();
    found.push(&portable::KERNEL);
    found
}

/// The names of the kernels that this processor can run, the fastest first.
pub fn kernel_names() -> Vec<&'static str> {
    kernels().into_iter().map(|kernel| kernel.name).collect()
}

/// `out = X_a X_b'` as [`Backend::counts`](crate::device::Backend::counts) says, by the kernel of that name: one of
/// [`kernel_names`]. For comparing them; the backend `cpu` takes the fastest.
pub fn counts_by(
    name: &str,
    packed: &Packed,
    a: Range<usize>,
    b: Range<usize>,
    part: Part,
    out: &mut [i32],
) -> Result<()> {
    let kernel = kernels().into_iter().find(|kernel| kernel.name == name).ok_or_else(|| {
        Error::input("kernel", kernel_names().join(", "), name, "choose one that this processor has")
    })?;
    assert!(a.end.max(b.end) <= packed.rows() && out.len() == a.len() * b.len(), "a tile of these animals");
    counts(kernel, packed, a, b, part, out);
    Ok(())
}

/// The fastest kernel.
pub(super) fn best() -> &'static Kernel {
    kernels()[0]
}

/// `out = X_a X_b'`, (a, b), missing calls counted as 0; with [`Part::Lower`] entries of an animal of `a` with a
/// later animal may stay as they are.
pub(super) fn counts(
    kernel: &Kernel,
    packed: &Packed,
    a: Range<usize>,
    b: Range<usize>,
    part: Part,
    out: &mut [i32],
) {
    if a.is_empty() || b.is_empty() {
        return;
    }
    let quads = packed.stride();
    let width = (PACKED / quads.max(1)).max(kernel.lanes) / kernel.lanes * kernel.lanes;
    let threads = rayon::current_num_threads();
    let strip = a.len().div_ceil(4 * threads).next_multiple_of(OCTET).min(STRIP);
    for start in b.clone().step_by(width) {
        let right = Right::new(kernel, packed, start..(start + width).min(b.end));
        out.par_chunks_mut(strip * b.len()).enumerate().for_each_init(Vec::new, |left, (t, out)| {
            let first = a.start + t * strip;
            let rows = first..(first + strip).min(a.end);
            let left = Left::new(kernel, packed, rows, left);
            let target = Target { offset: start - b.start, width: b.len(), out };
            multiply(kernel, &left, &right, part, target);
        });
    }
}

/// Where the products of a strip go: `out` (rows, width) from column `offset` on.
struct Target<'a> {
    offset: usize,
    width: usize,
    out: &'a mut [i32],
}

/// A strip of left animals: codes (octets, quads, OCTET).
struct Left<'a> {
    rows: Range<usize>,
    codes: &'a [Octet],
    sums: Vec<i32>,
}

impl<'a> Left<'a> {
    fn new(kernel: &Kernel, packed: &Packed, rows: Range<usize>, codes: &'a mut Vec<Octet>) -> Self {
        let quads = packed.stride();
        codes.resize(rows.len().div_ceil(OCTET) * quads, [0; OCTET]);
        if quads > 0 {
            for (o, codes) in codes.chunks_exact_mut(quads).enumerate() {
                let first = rows.start + o * OCTET;
                let animals = std::array::from_fn(|l| Some(first + l).filter(|&i| i < rows.end));
                pack::octet(kernel.order.code, packed, animals, codes.as_flattened_mut(), OCTET);
            }
        }
        let sums = allele_counts(packed, rows.clone());
        Left { rows, codes, sums }
    }
}

/// Right animals: codes (panels, quads, lanes).
struct Right {
    animals: Range<usize>,
    quads: usize,
    codes: Vec<u8>,
    sums: Vec<i32>,
}

impl Right {
    fn new(kernel: &Kernel, packed: &Packed, animals: Range<usize>) -> Self {
        let (quads, lanes) = (packed.stride(), kernel.lanes);
        let mut codes = vec![0; animals.len().div_ceil(lanes) * quads * lanes];
        codes.par_chunks_mut((quads * lanes).max(1)).enumerate().for_each(|(p, codes)| {
            let first = animals.start + p * lanes;
            pack::panel(&kernel.order, packed, first..(first + lanes).min(animals.end), lanes, codes);
        });
        let sums = allele_counts(packed, animals.clone());
        Right { animals, quads, codes, sums }
    }
}

/// Σ_j x_ij of each animal, missing calls counted as 0.
fn allele_counts(packed: &Packed, animals: Range<usize>) -> Vec<i32> {
    let count = |i| {
        let tally = packed.tally_row(i);
        i32::try_from(tally[1] + 2 * tally[2]).expect("fewer than 2^29 SNPs")
    };
    animals.into_par_iter().map(count).collect()
}

/// The products of a strip with all panels.
fn multiply(kernel: &Kernel, left: &Left, right: &Right, part: Part, target: Target) {
    let (lanes, quads) = (kernel.lanes, right.quads);
    let Target { offset, width, out } = target;
    let mut sums = vec![0i32; left.rows.len().next_multiple_of(OCTET) * lanes];
    for (p, first) in right.animals.clone().step_by(lanes).enumerate() {
        if part == Part::Lower && first >= left.rows.end {
            break;
        }
        let panel = &right.codes[p * quads * lanes..(p + 1) * quads * lanes];
        sums.fill(0);
        for depth in (0..quads).step_by(DEPTH) {
            let depth = depth..(depth + DEPTH).min(quads);
            let panel = &panel[depth.start * lanes..depth.end * lanes];
            for (o, sums) in sums.chunks_exact_mut(OCTET * lanes).enumerate() {
                let rows = &left.codes[o * quads + depth.start..o * quads + depth.end];
                for (half, sums) in sums.chunks_exact_mut(ROWS * lanes).enumerate() {
                    stretch(kernel, rows, half, panel, sums);
                }
            }
        }
        let count = lanes.min(right.animals.end - first);
        let at = first - right.animals.start;
        for ((row, sums), of_row) in out.chunks_exact_mut(width).zip(sums.chunks_exact(lanes)).zip(&left.sums)
        {
            let row = &mut row[offset + at..offset + at + count];
            finish(kernel, quads, sums, *of_row, &right.sums[at..], row);
        }
    }
}

/// sums += products of half an octet with a panel over at most DEPTH quads.
fn stretch(kernel: &Kernel, rows: &[Octet], half: usize, panel: &[u8], sums: &mut [i32]) {
    /// The most that ROWS times the widest panel needs.
    const MOST: usize = ROWS * 256;
    let mut short = [0u16; MOST];
    let short = &mut short[..sums.len()];
    assert!(rows.len() <= DEPTH && panel.len() == rows.len() * kernel.lanes, "a panel of these quads");
    // SAFETY: `kernels` lists a kernel only where the processor has its instructions; lengths are checked above.
    unsafe { (kernel.add)(rows, half, panel, short) };
    sums.iter_mut().zip(short).for_each(|(sum, short)| *sum += i32::from(*short));
}

/// Turns the kernel's sums into products of allele counts.
///
/// With y = x − 1 and the 1 that each product got, Σ x x' = Σ (y + 1)(y' + 1) = Σ (y y' + 1) + Σ x + Σ x' − 2·(number
/// of SNPs); the padding of the last quad has x = 0 like a missing call and counts as a SNP.
fn finish(kernel: &Kernel, quads: usize, sums: &[i32], of_row: i32, of_columns: &[i32], out: &mut [i32]) {
    if !kernel.centred {
        out.copy_from_slice(&sums[..out.len()]);
        return;
    }
    let constant = of_row - i32::try_from(2 * PER_BYTE * quads).expect("fewer than 2^28 quads");
    for ((out, sum), of_column) in out.iter_mut().zip(sums).zip(of_columns) {
        *out = sum + of_column + constant;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packed::MISSING;
    use crate::rng::{Purpose, Stream};

    /// (n, m, all calls of that code) with the reason.
    const CASES: [(usize, usize, Option<u8>); 13] = [
        (3, 0, None),                       // a rank that owns no SNP
        (1, 1, None),                       // single
        (5, 3, None),                       // less than a quad
        (8, 124, None),                     // one octet, one whole run of bytes
        (9, 125, None),                     // just past either
        (63, 60, None),                     // just short of a panel of 64, a whole run of the portable kernel
        (129, 61, None),                    // two whole panels of 64 and one animal
        (257, 333, None),                   // one animal past the widest panel
        (300, 4 * DEPTH, None),             // a whole stretch
        (20, 4 * DEPTH + 5, None),          // past a stretch, not whole quads
        (70, 4 * DEPTH + 5, Some(2)),       // the largest sums there can be
        (70, 4 * DEPTH + 5, Some(0)),       // the smallest; monomorphic
        (70, 4 * DEPTH + 5, Some(MISSING)), // no call at all
    ];

    fn genotypes(n: usize, m: usize, code: Option<u8>) -> Packed {
        let mut s = Stream::new(8, Purpose::Test, (n * 100_000 + m) as u64);
        let codes: Vec<u8> = (0..n * m).map(|_| code.unwrap_or_else(|| s.below(4) as u8)).collect();
        Packed::from_codes(n, m, &codes)
    }

    /// Σ_j x_ij x_kj from single calls.
    fn product(packed: &Packed, i: usize, k: usize) -> i32 {
        let count = |i: usize, j: usize| [0, 1, 2, 0][usize::from(packed.get(i, j))];
        (0..packed.columns()).map(|j| count(i, j) * count(k, j)).sum()
    }

    #[test]
    fn every_kernel_of_this_processor_is_exact_at_every_size() {
        for (n, m, code) in CASES {
            let packed = genotypes(n, m, code);
            let (a, b) = (n / 5..n, 0..n - n / 7);
            let wanted: Vec<i32> = a
                .clone()
                .flat_map(|i| b.clone().map(move |k| (i, k)))
                .map(|(i, k)| product(&packed, i, k))
                .collect();
            for kernel in kernels() {
                let mut whole = vec![-1; a.len() * b.len()];
                counts(kernel, &packed, a.clone(), b.clone(), Part::Whole, &mut whole);
                assert!(whole == wanted, "{} {n} {m} {code:?}", kernel.name);
                let mut lower = vec![-1; a.len() * b.len()];
                counts(kernel, &packed, a.clone(), b.clone(), Part::Lower, &mut lower);
                for (at, found) in lower.iter().enumerate() {
                    let (i, k) = (a.start + at / b.len(), b.start + at % b.len());
                    assert!(k > i || *found == wanted[at], "{} {n} {m} {code:?} {i} {k}", kernel.name);
                }
            }
        }
    }

    #[test]
    fn the_lower_part_leaves_out_what_lies_far_above_the_diagonal() {
        let packed = genotypes(300, 8, None);
        let mut out = vec![-1; 300 * 300];
        counts(&portable::KERNEL, &packed, 0..300, 0..300, Part::Lower, &mut out);
        assert_eq!(out[299], -1);
    }
}
