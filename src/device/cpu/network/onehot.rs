//! One-hot genotypes: tiles of classes are decoded from the packed calls, then multiplied with BLAS.
//!
//! Classes that sum to one are multiplied as two columns a SNP, a third less: with U the contrasts of W
//! X W = Σ_j W_3j + [X₁ X₂] U, and rows 3j of X'D are Σ D less the rows of X₁'D and X₂'D. A call that was not made has
//! no classes: its row 3j is taken off again.

use super::super::blas::Sgemm;
use super::super::Held;
use super::tiles::product;
use super::{classes, columns, contrasts, noise};
use crate::device::network::{Accumulate, Given, Product, Smooth, CLASSES, CONTRASTS};
use crate::packed::{missing_calls, Packed};
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
pub(super) fn times(held: &Held, animals: &Given<f32>, w: &[f32], h: usize, out: &mut [f32]) {
    let packed = &held.packed;
    if packed.columns() == 0 || out.is_empty() {
        return out.fill(0.0);
    }
    let (rows, mut first) = (out.len() / h, vec![0.0; h]);
    for snps in tiles(held) {
        let (width, w) = (CONTRASTS * snps.len(), &w[CLASSES * snps.start * h..CLASSES * snps.end * h]);
        with_tile(width * (rows + h), |tile| {
            let (x, u) = tile.split_at_mut(rows * width);
            x.par_chunks_exact_mut(width).enumerate().for_each(|(r, x)| {
                fill(packed, animals, r, snps.clone(), x);
            });
            contrasts::contrasts(h, w, u);
            let shape = Product { m: rows, n: h, k: width, a_transposed: false, b_transposed: false };
            product(shape, x, u, if snps.start == 0 { Accumulate::Overwrite } else { Accumulate::Add }, out);
        });
        let mut sum = vec![0.0; h];
        w.chunks_exact(CLASSES * h).for_each(|w| columns::add_row(&w[..h], &mut sum));
        columns::add_row(&sum, &mut first);
    }
    out.par_chunks_exact_mut(h).enumerate().for_each(|(r, out)| {
        columns::add_row(&first, out);
        let calls = |&i: &u32| missing_calls(packed.row(i as usize), 0..packed.columns());
        let calls = animals.rows.get(r).into_iter().flat_map(calls);
        calls.for_each(|j| take_off(&w[CLASSES * j * h..][..h], out));
    });
}

/// `out = [X; Y]' D` or `out += `.
pub(super) fn transposed_times(
    held: &Held,
    animals: &Given<f32>,
    dense: &[f32],
    d: &[f32],
    h: usize,
    accumulate: Accumulate,
    out: &mut [f32],
) {
    let (packed, all) = (&held.packed, CLASSES * held.packed.columns());
    if out.is_empty() {
        return;
    }
    let (of_classes, of_dense) = d.split_at(d.len() - dense.len() / all * h);
    let mut whole = vec![0.0; h];
    columns::sums(of_classes, Accumulate::Overwrite, &mut whole);
    // A thread makes a tile whole: it finds in its cache what it decoded.
    let parts = out.par_chunks_mut(CLASSES * SNPS * h).zip(tiles(held).collect::<Vec<_>>());
    parts.for_each(|(out, snps)| {
        let read = d.len() / h * CLASSES * snps.len();
        with_tile(read + out.len(), |tile| {
            let (x, products) = tile.split_at_mut(read);
            stack(packed, animals, dense, snps.clone(), x);
            multiply(x, (d, of_dense), h, products);
            let (others, first) = products.split_at_mut(CONTRASTS * snps.len() * h);
            for (r, &i) in animals.rows.iter().enumerate() {
                for j in missing_calls(packed.row(i as usize), snps.clone()) {
                    take_off(&d[r * h..][..h], &mut first[j * h..][..h]);
                }
            }
            contrasts::spread(&whole, others, first, accumulate, out);
        });
    });
}

/// X over Y at some SNPs, in columns of classes 1, classes 2, and for Y the sums of all three.
fn stack(packed: &Packed, animals: &Given<f32>, dense: &[f32], snps: Range<usize>, x: &mut [f32]) {
    let all = CLASSES * packed.columns();
    let (real, made) = (animals.rows.len(), animals.made.len() / (CONTRASTS * packed.columns()));
    let (x, y) = x.split_at_mut((real + made) * CLASSES * snps.len());
    for (r, x) in x.chunks_exact_mut(CLASSES * snps.len()).enumerate() {
        fill(packed, animals, r, snps.clone(), &mut x[..CONTRASTS * snps.len()]);
    }
    for (x, y) in y.chunks_exact_mut(CLASSES * snps.len()).zip(dense.chunks_exact(all)) {
        contrasts::with_sums(&y[CLASSES * snps.start..CLASSES * snps.end], x);
    }
}

/// Of such columns: products (2 SNPs, h) of the first two thirds with D, and (SNPs, h) of the last with those of Y.
fn multiply(x: &[f32], (d, of_dense): (&[f32], &[f32]), h: usize, products: &mut [f32]) {
    let snps = products.len() / (CLASSES * h);
    let (others, first) = products.split_at_mut(CONTRASTS * snps * h);
    let x_of_dense = &x[(d.len() - of_dense.len()) / h * CLASSES * snps..];
    for (x, d, out) in [(x, d, others), (x_of_dense.get(CONTRASTS * snps..).unwrap_or(&[]), of_dense, first)]
    {
        if d.is_empty() {
            out.fill(0.0);
            continue;
        }
        let gemm = Sgemm {
            size: [out.len() / h, h, d.len() / h],
            transposed: [true, false],
            strides: [CLASSES * snps, h, h],
            add: false,
        };
        // SAFETY: `out` is this task's own, and as long as its rows of h.
        unsafe { gemm.run(x, d, out.as_mut_ptr()) };
    }
}

/// `out −= row`.
fn take_off(row: &[f32], out: &mut [f32]) {
    out.iter_mut().zip(row).for_each(|(out, x)| *out -= x);
}

fn tiles(held: &Held) -> impl Iterator<Item = Range<usize>> {
    let m = held.packed.columns();
    (0..m).step_by(SNPS).map(move |start| start..(start + SNPS).min(m))
}

/// Row r of X at some SNPs from a whole byte on: classes 1, then classes 2.
fn fill(packed: &Packed, animals: &Given<f32>, r: usize, snps: Range<usize>, x: &mut [f32]) {
    let Some(&i) = animals.rows.get(r) else {
        let m = packed.columns();
        let made = &animals.made[(r - animals.rows.len()) * CONTRASTS * m..][..CONTRASTS * m];
        let (second, third) = x.split_at_mut(snps.len());
        second.copy_from_slice(&made[snps.clone()]);
        third.copy_from_slice(&made[m + snps.start..m + snps.end]);
        return;
    };
    let mut zeros = [0.0; CLASSES * SNPS];
    let zeros = &mut zeros[..CLASSES * snps.len()];
    if let Some(Smooth { amount, draw }) = animals.smooth {
        let number = (draw.first_row + r as u64) * draw.columns + draw.first_column;
        noise::row(*draw, number + (CLASSES * snps.start) as u64, *amount as f32, zeros);
    }
    classes::decode(packed, i, snps, zeros, x);
}
