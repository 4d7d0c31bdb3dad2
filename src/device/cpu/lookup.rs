//! Z V and Z'V from tables of partial sums (the method of four Russians).
//!
//! Four bits of a packed row are the calls of an animal at two SNPs: one of 16 pairs. For Z V a table holds the
//! contribution of each pair, and an animal adds the row of its pair. For Z'V an animal's row of V is added to
//! the table at its pair, and the coding is applied once to the sums. Either way two SNPs cost one addition a
//! column, and no genotype is decoded. The sums of an animal, or of a SNP, do not depend on what else a tile
//! holds, so tiles may be cut to suit the threads.

use super::product::{steps, with_avx2};
use super::Held;
use crate::device::CHUNK;
use crate::packed::{self, Packed, PER_BYTE};
use crate::stats::FixedPoint;
use rayon::prelude::*;
use std::ops::Range;

/// Numbers in one register.
const LANES: usize = 4;
/// Registers in a row of a table: 12 columns. The tables of one word then take 24 KiB of the nearest cache.
const WIDEST: usize = 3;
/// Pairs of calls.
const PAIRS: usize = 16;
/// Tables of one word of 64 bits.
const TABLES: usize = 16;
/// SNPs in one word.
const SNPS: usize = 2 * TABLES;
/// Animals in a tile of Z V, at least and at most: a table is computed anew for every tile.
const ANIMALS: (usize, usize) = (128, 1024);
/// Chunks whose calls are fetched at once, at most: an animal's next bytes lie far from the last one's.
const FETCHED: usize = 4;

#[derive(Clone, Copy)]
#[repr(align(32))]
struct Line([f64; LANES]);

const ZERO: Line = Line([0.0; LANES]);

type Row<const W: usize> = [Line; W];
type Tables<const W: usize> = [[Row<W>; PAIRS]; TABLES];

impl Line {
    #[inline(always)]
    fn add(&mut self, x: Line) {
        for (s, x) in self.0.iter_mut().zip(x.0) {
            *s += x;
        }
    }

    #[inline(always)]
    fn times(mut self, z: f64) -> Line {
        for x in &mut self.0 {
            *x *= z;
        }
        self
    }
}

#[inline(always)]
fn scaled<const W: usize>(row: &Row<W>, z: f64) -> Row<W> {
    let mut out = *row;
    for line in &mut out {
        *line = line.times(z);
    }
    out
}

#[inline(always)]
fn add<const W: usize>(to: &mut Row<W>, row: &Row<W>) {
    for w in 0..W {
        to[w].add(row[w]);
    }
}

/// The columns of each panel.
fn panels(k: usize) -> impl Iterator<Item = Range<usize>> {
    steps(k, WIDEST * LANES)
}

/// The chunks of some SNPs, which begin with a chunk.
fn chunks(snps: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    steps(snps.len(), CHUNK).map(move |c| snps.start + c.start..snps.start + c.end)
}

/// Row of V at some columns, filled up with zeros.
#[inline(always)]
fn load<const W: usize>(v: &[f64]) -> Row<W> {
    let mut row = [ZERO; W];
    for (line, v) in row.iter_mut().zip(v.chunks(LANES)) {
        match v.first_chunk() {
            Some(four) => line.0 = *four,
            None => line.0.iter_mut().zip(v).for_each(|(x, &v)| *x = v),
        }
    }
    row
}

/// The calls of the animals `rows` at the SNPs `snps` (from a whole byte on) in words of 32: (words, rows).
fn words(packed: &Packed, rows: Range<usize>, snps: Range<usize>, out: &mut Vec<u64>) {
    let bytes = snps.start / PER_BYTE..snps.end.div_ceil(PER_BYTE);
    out.resize(snps.len().div_ceil(SNPS) * rows.len(), 0);
    for (i, row) in rows.clone().enumerate() {
        let bytes = &packed.row(row)[bytes.clone()];
        for (w, at) in (0..bytes.len()).step_by(8).enumerate() {
            out[w * rows.len() + i] = packed::word(bytes, at);
        }
    }
}

/// sums += Z V.
pub(super) fn times(held: &Held, v: &[f64], points: &[FixedPoint], sums: &mut [i64]) {
    let (n, k) = (held.packed.rows(), points.len());
    if n == 0 || k == 0 {
        return;
    }
    let tall = n.div_ceil(2 * rayon::current_num_threads()).clamp(ANIMALS.0, ANIMALS.1);
    sums.par_chunks_mut(tall * k).enumerate().for_each_init(Vec::new, |calls, (t, sums)| {
        let rows = t * tall..t * tall + sums.len() / k;
        for fetched in steps(held.packed.columns(), FETCHED * CHUNK) {
            words(&held.packed, rows.clone(), fetched.clone(), calls);
            for (snps, calls) in chunks(fetched).zip(calls.chunks(CHUNK / SNPS * rows.len())) {
                times_tile(held, snps, calls, v, points, sums);
            }
        }
    });
}

/// sums += Z V for the SNPs of one chunk and the animals whose words are given.
fn times_tile(
    held: &Held,
    snps: Range<usize>,
    calls: &[u64],
    v: &[f64],
    points: &[FixedPoint],
    sums: &mut [i64],
) {
    #[inline(always)]
    fn body(
        held: &Held,
        snps: Range<usize>,
        calls: &[u64],
        v: &[f64],
        points: &[FixedPoint],
        sums: &mut [i64],
    ) {
        for columns in panels(points.len()) {
            match columns.len().div_ceil(LANES) {
                1 => times_panel::<1>(held, &snps, calls, v, points, columns, sums),
                2 => times_panel::<2>(held, &snps, calls, v, points, columns, sums),
                _ => times_panel::<WIDEST>(held, &snps, calls, v, points, columns, sums),
            }
        }
    }
    with_avx2!(
        held,
        body(held, snps, calls, v, points, sums),
        fn(
            held: &Held,
            snps: Range<usize>,
            calls: &[u64],
            v: &[f64],
            points: &[FixedPoint],
            sums: &mut [i64],
        )
    )
}

#[inline(always)]
fn times_panel<const W: usize>(
    held: &Held,
    snps: &Range<usize>,
    calls: &[u64],
    v: &[f64],
    points: &[FixedPoint],
    columns: Range<usize>,
    sums: &mut [i64],
) {
    let k = points.len();
    let rows = sums.len() / k;
    let mut partial = vec![[ZERO; W]; rows];
    let mut tables: Tables<W> = [[[ZERO; W]; PAIRS]; TABLES];
    for (calls, some) in calls.chunks_exact(rows).zip(steps(snps.len(), SNPS)) {
        let snps = snps.start + some.start..snps.start + some.end;
        for (t, table) in tables.iter_mut().enumerate() {
            let mut terms = [[[ZERO; W]; 4]; 2]; // of each SNP, by code
            for (s, terms) in terms.iter_mut().enumerate() {
                let j = snps.start + 2 * t + s;
                let row = if j < snps.end { load(&v[j * k..][columns.clone()]) } else { [ZERO; W] };
                for (term, z) in terms.iter_mut().zip(held.tables.coding(j)) {
                    *term = scaled(&row, z);
                }
            }
            for (pair, row) in table.iter_mut().enumerate() {
                *row = terms[0][pair % 4];
                add(row, &terms[1][pair / 4]);
            }
        }
        for (&word, partial) in calls.iter().zip(&mut partial) {
            let mut sum = *partial;
            for (t, table) in tables.iter().enumerate() {
                add(&mut sum, &table[(word >> (4 * t)) as usize % PAIRS]);
            }
            *partial = sum;
        }
    }
    for (partial, sums) in partial.iter().zip(sums.chunks_exact_mut(k)) {
        for (w, (sum, point)) in sums[columns.clone()].iter_mut().zip(&points[columns.clone()]).enumerate() {
            *sum += point.quantize(partial[w / LANES].0[w % LANES]);
        }
    }
}

/// out = Z' V.
pub(super) fn transposed_times(held: &Held, v: &[f64], k: usize, out: &mut [f64]) {
    let (n, m) = (held.packed.rows(), held.packed.columns());
    if m == 0 || k == 0 {
        return;
    }
    let lines: Vec<Line> = panels(k)
        .flat_map(|columns| v.chunks_exact(k).flat_map(move |v| v[columns.clone()].chunks(LANES)))
        .map(|v| load::<1>(v)[0])
        .collect();
    let wide = CHUNK * (m / CHUNK / (4 * rayon::current_num_threads())).clamp(1, FETCHED);
    out.par_chunks_mut(wide * k).enumerate().for_each_init(Vec::new, |calls, (t, out)| {
        let fetched = t * wide..(t * wide + wide).min(m);
        words(&held.packed, 0..n, fetched.clone(), calls);
        for (i, (snps, out)) in chunks(fetched).zip(out.chunks_mut(CHUNK * k)).enumerate() {
            let words = snps.len().div_ceil(SNPS) * n;
            transposed_tile(held, snps, &calls[i * CHUNK / SNPS * n..][..words], &lines, k, out);
        }
    });
}

/// out = Z' V for the SNPs of one chunk; `lines` is V as (panels, n, lines).
fn transposed_tile(
    held: &Held,
    snps: Range<usize>,
    calls: &[u64],
    lines: &[Line],
    k: usize,
    out: &mut [f64],
) {
    #[inline(always)]
    fn body(held: &Held, snps: Range<usize>, calls: &[u64], lines: &[Line], k: usize, out: &mut [f64]) {
        let n = held.packed.rows();
        for columns in panels(k) {
            let width = columns.len().div_ceil(LANES);
            let lines = &lines[n * columns.start / LANES..][..n * width];
            match width {
                1 => transposed_panel::<1>(held, &snps, calls, lines, columns, out),
                2 => transposed_panel::<2>(held, &snps, calls, lines, columns, out),
                _ => transposed_panel::<WIDEST>(held, &snps, calls, lines, columns, out),
            }
        }
    }
    with_avx2!(
        held,
        body(held, snps, calls, lines, k, out),
        fn(held: &Held, snps: Range<usize>, calls: &[u64], lines: &[Line], k: usize, out: &mut [f64])
    )
}

#[inline(always)]
fn transposed_panel<const W: usize>(
    held: &Held,
    snps: &Range<usize>,
    calls: &[u64],
    lines: &[Line],
    columns: Range<usize>,
    out: &mut [f64],
) {
    let (n, k) = (lines.len() / W, out.len() / snps.len());
    for (g, some) in steps(snps.len(), SNPS).enumerate() {
        let mut tables: Tables<W> = [[[ZERO; W]; PAIRS]; TABLES];
        for (&word, lines) in calls[g * n..(g + 1) * n].iter().zip(lines.chunks_exact(W)) {
            let row: &Row<W> = lines.try_into().expect("chunks of W");
            for (t, table) in tables.iter_mut().enumerate() {
                add(&mut table[(word >> (4 * t)) as usize % PAIRS], row);
            }
        }
        for j in some.clone() {
            let s = j - some.start;
            let row = coded(&tables[s / 2], s % 2, held.tables.coding(snps.start + j));
            for (c, out) in out[j * k..][columns.clone()].iter_mut().enumerate() {
                *out = row[c / LANES].0[c % LANES];
            }
        }
    }
}

/// The sums over pairs with the first (second) SNP's codes replaced by their values.
#[inline(always)]
fn coded<const W: usize>(table: &[Row<W>; PAIRS], second: usize, coding: [f64; 4]) -> Row<W> {
    let mut total = [ZERO; W];
    for (code, z) in coding.into_iter().enumerate() {
        let mut class = [ZERO; W];
        for other in 0..4 {
            add(&mut class, &table[if second == 1 { other + 4 * code } else { code + 4 * other }]);
        }
        add(&mut total, &scaled(&class, z));
    }
    total
}
