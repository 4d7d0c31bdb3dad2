//! The products of animals with animals, on tiles: decode a tile, multiply it, add it up.
//!
//! Tiles have fixed sizes and positions that depend on the matrix alone, so that the arithmetic of every number
//! is the same for any number of threads.

use super::blas::{self, Shape};
use super::Held;
use crate::device::CHUNK;
use crate::stats::FixedPoint;
use rayon::prelude::*;
use std::ops::Range;

/// Animals in one decoded tile: with [`CHUNK`] SNPs in f64 it takes 256 KiB, a part of a core's cache.
const ROWS: usize = 128;
/// Animals on the other side of a tile of `Z Z'`.
const COLUMNS: usize = 256;

/// sums += Z_a Z_b'.
pub(super) fn cross(held: &Held, a: Range<usize>, b: Range<usize>, point: FixedPoint, sums: &mut [i64]) {
    if a.is_empty() || b.is_empty() {
        return;
    }
    let points = [point; COLUMNS];
    let work = || (vec![0.0; ROWS * CHUNK], vec![0.0; COLUMNS * CHUNK], vec![0.0; ROWS * COLUMNS]);
    sums.par_chunks_mut(ROWS * b.len()).enumerate().for_each_init(work, |(left, right, tile), (t, sums)| {
        let rows = shifted(t * ROWS..(t * ROWS + ROWS).min(a.len()), a.start);
        for snps in steps(held.packed.columns(), CHUNK) {
            held.tables.decode(&held.packed, rows.clone(), snps.clone(), left);
            for columns in steps(b.len(), COLUMNS) {
                let others = shifted(columns.clone(), b.start);
                let shape = Shape { rows: rows.len(), inner: snps.len(), columns: columns.len() };
                held.tables.decode(&held.packed, others, snps.clone(), right);
                blas::dgemm_outer(shape, left, right, tile);
                for (sums, tile) in sums.chunks_mut(b.len()).zip(tile.chunks(columns.len())) {
                    add_rounded(held, tile, &points[..columns.len()], &mut sums[columns.clone()]);
                }
            }
        }
    });
}

/// `0..total` in steps of `size`.
pub(super) fn steps(total: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..total).step_by(size).map(move |start| start..(start + size).min(total))
}

fn shifted(range: Range<usize>, by: usize) -> Range<usize> {
    range.start + by..range.end + by
}

/// [`best!`] of AVX2, where the tables of `held` are not those of a processor without SIMD.
macro_rules! with_avx2 {
    ($held:expr, $body:ident($($argument:expr),*), $($signature:tt)*) => {{
        if !$held.tables.avx2() {
            return $body($($argument),*);
        }
        $crate::simd::best!([("avx2")] $body($($argument),*), $($signature)*)
    }};
}

pub(super) use with_avx2;

/// sums += partial in whole multiples of each column's quantum; `partial` is (rows, k), `points` (k).
fn add_rounded(held: &Held, partial: &[f64], points: &[FixedPoint], sums: &mut [i64]) {
    #[inline(always)]
    fn body(partial: &[f64], points: &[FixedPoint], sums: &mut [i64]) {
        let k = points.len();
        for (partial, sums) in partial.chunks_exact(k).zip(sums.chunks_exact_mut(k)) {
            for ((&x, point), sum) in partial.iter().zip(points).zip(sums) {
                *sum += point.quantize(x);
            }
        }
    }
    with_avx2!(
        held,
        body(partial, points, sums),
        fn(partial: &[f64], points: &[FixedPoint], sums: &mut [i64])
    )
}
