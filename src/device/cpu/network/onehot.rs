//! One-hot genotypes: tiles of classes are decoded from the packed calls, then multiplied with BLAS.

use super::super::blas::Sgemm;
use super::super::{set_blas_threads, Held};
use super::tiles::product;
use super::{classes, noise};
use crate::device::network::{Onto, Product, Smooth, CLASSES};
use rayon::prelude::*;
use std::cell::Cell;
use std::ops::Range;

/// SNPs of a tile; a multiple of four.
const SNPS: usize = 256;

thread_local! {
    /// The tile of the last call, whose memory the next one takes: fresh memory costs more than what fills it.
    static MEMORY: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Runs with a tile of undefined content.
fn with_tile(length: usize, run: impl FnOnce(&mut [f32])) {
    let mut memory = MEMORY.take();
    if memory.len() < length {
        memory.resize(length, 0.0);
    }
    run(&mut memory[..length]);
    MEMORY.set(memory);
}

/// `out = X W`.
pub(super) fn times(
    held: &Held,
    rows: &[u32],
    smooth: Option<&Smooth>,
    w: &[f32],
    h: usize,
    out: &mut [f32],
) {
    if held.packed.columns() == 0 {
        return out.fill(0.0);
    }
    for snps in tiles(held) {
        let width = CLASSES * snps.len();
        with_tile(rows.len() * width, |tile| {
            tile.par_chunks_exact_mut(width).zip(rows).enumerate().for_each(|(r, (x, &i))| {
                fill(held, (r, i), smooth, snps.clone(), x);
            });
            let shape = Product { m: rows.len(), n: h, k: width, a_transposed: false, b_transposed: false };
            let onto = if snps.start == 0 { Onto::Fresh } else { Onto::Sum };
            product(shape, tile, &w[CLASSES * snps.start * h..][..width * h], onto, out);
        });
    }
}

/// `out = [X; Y]' D` or `out += `.
#[allow(clippy::too_many_arguments)] // they are the terms of one formula
pub(super) fn transposed_times(
    held: &Held,
    rows: &[u32],
    smooth: Option<&Smooth>,
    dense: &[f32],
    d: &[f32],
    h: usize,
    onto: Onto,
    out: &mut [f32],
) {
    set_blas_threads(1);
    let all = CLASSES * held.packed.columns();
    if out.is_empty() {
        return;
    }
    let long = rows.len() + dense.len() / all;
    if long == 0 {
        return if onto == Onto::Fresh {
            out.fill(0.0)
        };
    }
    // A thread makes a tile whole: it finds in its cache what it decoded.
    let parts = out.par_chunks_mut(CLASSES * SNPS * h).zip(tiles(held).collect::<Vec<_>>());
    parts.for_each(|(out, snps)| {
        let (first, width) = (CLASSES * snps.start, CLASSES * snps.len());
        with_tile(long * width, |tile| {
            let (real, rest) = tile.split_at_mut(rows.len() * width);
            for (r, (x, &i)) in real.chunks_exact_mut(width).zip(rows).enumerate() {
                fill(held, (r, i), smooth, snps.clone(), x);
            }
            for (x, row) in rest.chunks_exact_mut(width).zip(dense.chunks_exact(all)) {
                x.copy_from_slice(&row[first..first + width]);
            }
            let gemm = Sgemm {
                size: [width, h, long],
                transposed: [true, false],
                strides: [width, h, h],
                add: onto == Onto::Sum,
            };
            // SAFETY: `out` is this task's own, (width, h).
            unsafe { gemm.run(tile, d, out.as_mut_ptr()) };
        });
    });
}

fn tiles(held: &Held) -> impl Iterator<Item = Range<usize>> {
    let m = held.packed.columns();
    (0..m).step_by(SNPS).map(move |start| start..(start + SNPS).min(m))
}

/// The classes of animal i, row r of the batch, at some SNPs from a whole byte on: `x` (3 SNPs).
fn fill(held: &Held, (r, i): (usize, u32), smooth: Option<&Smooth>, snps: Range<usize>, x: &mut [f32]) {
    match smooth {
        None => x.fill(0.0),
        Some(Smooth { amount, draw }) => {
            let number = (draw.first_row + r as u64) * draw.columns + draw.first_column;
            noise::row(*draw, number + (CLASSES * snps.start) as u64, *amount as f32, x);
        }
    }
    classes::decode(&held.packed, i, snps, x);
}
