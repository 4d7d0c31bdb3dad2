//! Products with BLAS at one thread, rayon over tiles whose places depend on the sizes alone.

use super::super::blas::Sgemm;
use super::super::product::steps;
use super::super::Held;
use crate::device::network::{Accumulate, Product};
use crate::packed::PER_BYTE;
use rayon::prelude::*;
use std::ops::Range;

/// SNPs that are decoded at once.
const SNPS: usize = 256;
/// Animals of a tile.
const ROWS: usize = 64;
/// Columns of a tile of decoded genotypes times W.
const COLUMNS: usize = 256;
/// Rows and columns of a tile of a dense product.
const TILE: (usize, usize) = (384, 512);
/// Multiply-adds that are not worth more than one thread.
const FEW: usize = 1 << 18;

/// A matrix in shared memory of which each tile is written by one task.
#[derive(Clone, Copy)]
struct Target {
    at: *mut f32,
    length: usize,
    columns: usize,
}

// SAFETY: tasks write tiles that do not overlap.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Target {
    fn new(out: &mut [f32], columns: usize) -> Self {
        Target { at: out.as_mut_ptr(), length: out.len(), columns }
    }

    /// The target from a row and column on.
    fn from(&self, row: usize, column: usize) -> *mut f32 {
        let start = row * self.columns + column;
        assert!(start < self.length, "a tile within the target");
        // SAFETY: it lies within the target.
        unsafe { self.at.add(start) }
    }
}

/// `out = Z[rows] W`.
pub(super) fn times(held: &Held, rows: &[u32], w: &[f32], h: usize, out: &mut [f32]) {
    let m = held.packed.columns();
    if m == 0 {
        return out.fill(0.0);
    }
    let target = Target::new(out, h);
    let tiles: Vec<_> =
        steps(rows.len(), ROWS).flat_map(|r| steps(h, COLUMNS).map(move |c| (r.clone(), c))).collect();
    tiles.into_par_iter().for_each_init(Vec::new, |z, (r, c)| {
        for snps in steps(m, SNPS) {
            decode(held, &rows[r.clone()], snps.clone(), z);
            let gemm = Sgemm {
                size: [r.len(), c.len(), snps.len()],
                transposed: [false; 2],
                strides: [snps.len(), h, h],
                add: snps.start > 0,
            };
            // SAFETY: this task alone writes its tile.
            unsafe { gemm.run(z, &w[snps.start * h + c.start..], target.from(r.start, c.start)) };
        }
    });
}

/// `out = Z[rows, snps]' D` or `out += `.
pub(super) fn transposed_times(
    held: &Held,
    rows: &[u32],
    d: &[f32],
    h: usize,
    snps: Range<usize>,
    accumulate: Accumulate,
    out: &mut [f32],
) {
    if rows.is_empty() || h == 0 {
        return if accumulate == Accumulate::Overwrite {
            out.fill(0.0)
        };
    }
    out.par_chunks_mut(SNPS * h).enumerate().for_each_init(Vec::new, |z, (b, out)| {
        let first = snps.start + b * SNPS;
        let snps = first..first + out.len() / h;
        for r in steps(rows.len(), SNPS) {
            decode(held, &rows[r.clone()], snps.clone(), z);
            let gemm = Sgemm {
                size: [snps.len(), h, r.len()],
                transposed: [true, false],
                strides: [snps.len(), h, h],
                add: accumulate == Accumulate::Add || r.start > 0,
            };
            // SAFETY: `out` is this task's own.
            unsafe { gemm.run(z, &d[r.start * h..], out.as_mut_ptr()) };
        }
    });
}

/// The values of some animals at some SNPs from a whole byte on.
fn decode(held: &Held, rows: &[u32], snps: Range<usize>, z: &mut Vec<f32>) {
    let quads: Vec<[[f32; 4]; PER_BYTE]> = snps
        .clone()
        .step_by(PER_BYTE)
        .map(|j| std::array::from_fn(|s| held.tables.coding(j + s).map(|z| z as f32)))
        .collect();
    z.resize(rows.len() * snps.len(), 0.0);
    for (&i, z) in rows.iter().zip(z.chunks_exact_mut(snps.len())) {
        let bytes = &held.packed.row(i as usize)[snps.start / PER_BYTE..];
        for ((z, quad), &byte) in z.chunks_mut(PER_BYTE).zip(&quads).zip(bytes) {
            for (s, (z, values)) in z.iter_mut().zip(quad).enumerate() {
                *z = values[usize::from(byte >> (2 * s) & 3)];
            }
        }
    }
}

/// `out = op(A) op(B)` or `out += `.
pub(super) fn product(s: Product, a: &[f32], b: &[f32], accumulate: Accumulate, out: &mut [f32]) {
    if s.m == 0 || s.n == 0 {
        return;
    }
    if s.k == 0 {
        return if accumulate == Accumulate::Overwrite {
            out.fill(0.0)
        };
    }
    let target = Target::new(out, s.n);
    let run = |rows: Range<usize>, columns: Range<usize>| {
        let strides = [if s.a_transposed { s.m } else { s.k }, if s.b_transposed { s.k } else { s.n }, s.n];
        let a = &a[rows.start * if s.a_transposed { 1 } else { s.k }..];
        let b = &b[columns.start * if s.b_transposed { s.k } else { 1 }..];
        let gemm = Sgemm {
            size: [rows.len(), columns.len(), s.k],
            transposed: [s.a_transposed, s.b_transposed],
            strides,
            add: accumulate == Accumulate::Add,
        };
        // SAFETY: this task alone writes its tile.
        unsafe { gemm.run(a, b, target.from(rows.start, columns.start)) };
    };
    if s.m * s.n * s.k <= FEW {
        return run(0..s.m, 0..s.n);
    }
    let tiles: Vec<_> =
        steps(s.m, TILE.0).flat_map(|r| steps(s.n, TILE.1).map(move |c| (r.clone(), c))).collect();
    tiles.into_par_iter().for_each(|(rows, columns)| run(rows, columns));
}
