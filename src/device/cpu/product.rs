//! The products on tiles: decode a tile, multiply it, add it up.
//!
//! Tiles have fixed sizes and positions that depend on the matrix alone, so that the arithmetic of every number
//! is the same for any number of threads.

use super::blas::{self, Shape};
use super::decode::decode_counts;
use super::integer;
use super::{wide, Held};
use crate::device::CHUNK;
use crate::packed::PER_BYTE;
use crate::stats::FixedPoint;
use rayon::prelude::*;
use std::ops::Range;

/// Animals in one decoded tile: with [`CHUNK`] SNPs in f64 it takes 256 KiB, a part of a core's cache.
const ROWS: usize = 128;
/// Columns from which on tables of partial sums are faster than loops over a decoded tile.
const WIDE: usize = 4;
/// Animals on the other side of a tile of `X X'` or `Z Z'`.
const COLUMNS: usize = 256;
/// Packed bytes of an animal in one step of `X X'`: its 2,048 counts of one byte each, times 128 and 256 animals,
/// fit a core's cache.
const COUNT_BYTES: usize = 512;

/// sums += Z V.
pub(super) fn times(held: &Held, v: &[f64], points: &[FixedPoint], sums: &mut [i64]) {
    let (n, m, k) = (held.packed.rows(), held.packed.columns(), points.len());
    if n == 0 || k == 0 {
        return;
    }
    if k >= WIDE {
        return wide::times(held, v, points, sums);
    }
    let work = || (vec![0.0; ROWS * CHUNK], vec![0.0; ROWS * k], vec![0.0; CHUNK * k]);
    sums.par_chunks_mut(ROWS * k).enumerate().for_each_init(work, |(tile, partial, turned), (t, sums)| {
        let rows = t * ROWS..(t * ROWS + ROWS).min(n);
        for snps in steps(m, CHUNK) {
            let shape = Shape { rows: rows.len(), inner: snps.len(), columns: k };
            held.tables.decode(&held.packed, rows.clone(), snps.clone(), tile);
            turn(&v[snps.start * k..snps.end * k], k, turned);
            narrow_times(held, shape, tile, turned, partial);
            add_rounded(held, &partial[..rows.len() * k], points, sums);
        }
    });
}

/// out = Z' V.
pub(super) fn transposed_times(held: &Held, v: &[f64], k: usize, out: &mut [f64]) {
    let (n, m) = (held.packed.rows(), held.packed.columns());
    if m == 0 || k == 0 {
        return;
    }
    if k >= WIDE {
        return wide::transposed_times(held, v, k, out);
    }
    let work = || (vec![0.0; ROWS * CHUNK], vec![0.0; CHUNK * k]);
    out.par_chunks_mut(CHUNK * k).enumerate().for_each_init(work, |(tile, turned), (t, out)| {
        let snps = t * CHUNK..(t * CHUNK + CHUNK).min(m);
        turned.fill(0.0);
        for rows in steps(n, ROWS) {
            let shape = Shape { rows: rows.len(), inner: snps.len(), columns: k };
            held.tables.decode(&held.packed, rows.clone(), snps.clone(), tile);
            narrow_transposed(held, shape, tile, &v[rows.start * k..rows.end * k], turned);
        }
        turn(&turned[..snps.len() * k], snps.len(), out);
    });
}

/// sums += X_a X_b'.
pub(super) fn counts(held: &Held, a: Range<usize>, b: Range<usize>, sums: &mut [i64]) {
    if a.is_empty() || b.is_empty() {
        return;
    }
    let wide = COUNT_BYTES * PER_BYTE;
    let work = || (vec![0; ROWS * wide], vec![0; COLUMNS * wide]);
    sums.par_chunks_mut(ROWS * b.len()).enumerate().for_each_init(work, |(left, right), (t, sums)| {
        let rows = shifted(t * ROWS..(t * ROWS + ROWS).min(a.len()), a.start);
        for bytes in steps(held.packed.stride(), COUNT_BYTES) {
            let stride = (bytes.len() * PER_BYTE).next_multiple_of(integer::STEP);
            decode_counts(&held.packed, rows.clone(), bytes.clone(), stride, left);
            for columns in steps(b.len(), COLUMNS) {
                let others = shifted(columns.clone(), b.start);
                decode_counts(&held.packed, others, bytes.clone(), stride, right);
                let tile = integer::Tile { stride, columns, row: b.len() };
                let (left, right) = (&left[..rows.len() * stride], &right[..tile.columns.len() * stride]);
                tile.add(held.tables.avx2(), left, right, sums);
            }
        }
    });
}

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

/// The transpose of `from`, whose rows have `columns` numbers.
fn turn(from: &[f64], columns: usize, to: &mut [f64]) {
    let rows = from.len() / columns.max(1);
    for (r, row) in from.chunks_exact(columns.max(1)).enumerate() {
        for (c, &x) in row.iter().enumerate() {
            to[c * rows + r] = x;
        }
    }
}

/// Runs a plain loop compiled for AVX2 where the processor has it; the arithmetic is the same.
macro_rules! with_avx2 {
    ($held:expr, $body:ident($($argument:expr),*), fn($($name:ident: $kind:ty),* $(,)?)) => {{
        #[cfg(target_arch = "x86_64")]
        if $held.tables.avx2() {
            #[target_feature(enable = "avx2")]
            fn wide($($name: $kind),*) {
                $body($($name),*)
            }
            // SAFETY: AVX2 was found at run time.
            return unsafe { wide($($argument),*) };
        }
        $body($($argument),*)
    }};
}

pub(super) use with_avx2;

/// partial = tile V for few columns; `turned` is V' (k, inner).
fn narrow_times(held: &Held, shape: Shape, tile: &[f64], turned: &[f64], partial: &mut [f64]) {
    #[inline(always)]
    fn body(shape: Shape, tile: &[f64], turned: &[f64], partial: &mut [f64]) {
        let Shape { rows, inner, columns } = shape;
        for (row, out) in tile.chunks_exact(inner).zip(partial.chunks_exact_mut(columns)).take(rows) {
            for (x, column) in out.iter_mut().zip(turned.chunks_exact(inner)) {
                *x = dot(row, column);
            }
        }
    }
    with_avx2!(
        held,
        body(shape, tile, turned, partial),
        fn(shape: Shape, tile: &[f64], turned: &[f64], partial: &mut [f64])
    )
}

/// turned' += tile' V for few columns; `turned` is (k, inner).
fn narrow_transposed(held: &Held, shape: Shape, tile: &[f64], v: &[f64], turned: &mut [f64]) {
    #[inline(always)]
    fn body(shape: Shape, tile: &[f64], v: &[f64], turned: &mut [f64]) {
        let Shape { rows, inner, columns } = shape;
        for (row, v) in tile.chunks_exact(inner).zip(v.chunks_exact(columns)).take(rows) {
            for (&x, out) in v.iter().zip(turned.chunks_exact_mut(inner)) {
                out.iter_mut().zip(row).for_each(|(o, z)| *o += z * x);
            }
        }
    }
    with_avx2!(
        held,
        body(shape, tile, v, turned),
        fn(shape: Shape, tile: &[f64], v: &[f64], turned: &mut [f64])
    )
}

/// Dot product in sixteen lanes, added in a fixed order.
#[inline(always)]
fn dot(x: &[f64], y: &[f64]) -> f64 {
    const LANES: usize = 16;
    let mut lanes = [0.0; LANES];
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let rest: f64 = xs.remainder().iter().zip(ys.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in xs.zip(ys) {
        for (l, lane) in lanes.iter_mut().enumerate() {
            *lane += a[l] * b[l];
        }
    }
    lanes.iter().sum::<f64>() + rest
}

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
