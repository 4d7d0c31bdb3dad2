//! Z V and Z'V in single precision, from tables of partial sums of four calls.
//!
//! A byte of packed codes is the calls at four neighbouring columns. A table of 256 rows holds the contribution
//! of each possible byte, and a row of the matrix adds the entry of its byte: four calls cost one addition a
//! column. Sums over one [`CHUNK`] are f32; beyond, whole multiples of a quantum (Z V) or f64 (Z'V). For Z'V
//! the codes are turned once, so that both products only read their tables; the coding is applied at the end.
//!
//! The arithmetic of every number is fixed, so results have the same bits for any number of threads and ranks.

use super::decode::Tables;
use super::product::steps;
use super::Held;
use crate::device::{Coding, CHUNK};
use crate::packed::{missing_calls, Packed, PER_BYTE};
use crate::simd::best;
use crate::stats::FixedPoint;
use rayon::prelude::*;
use std::ops::Range;

/// Numbers in one register.
const LANES: usize = 8;
/// Registers in a row of a table, at most.
const WIDEST: usize = 2;
/// Fewer columns are multiplied as fast in double precision.
pub(super) const COLUMNS: usize = LANES;
/// What four calls can be.
const BYTES: usize = 256;
/// Tables in use at the same time: 32 or 64 KiB, of which frequent calls leave most untouched.
const TABLES: usize = 4;
/// Calls in one word of 64 bits.
const CALLS: usize = 32;
/// Rows of a tile, at least and at most: the tables are made anew for every tile.
const ROWS: (usize, usize) = (256, 2048);
/// Chunks whose calls are fetched at once, at most.
const FETCHED: usize = 4;
/// Scaled sums are at most 1 and become whole multiples of 2^-50, which f64 adds exactly.
const STEPS_OF_ONE: f64 = (1u64 << 50) as f64;
/// A [`FixedPoint`] counts to 2^61, in steps of this many bits more.
const MORE_BITS: i32 = 61 - 50;

#[derive(Clone, Copy)]
#[repr(align(32))]
struct Line([f32; LANES]);

type Row<const W: usize> = [Line; W];

#[inline(always)]
fn zero<const W: usize>() -> Row<W> {
    [Line([0.0; LANES]); W]
}

#[inline(always)]
fn add<const W: usize>(to: &mut Row<W>, row: &Row<W>) {
    for (to, row) in to.iter_mut().zip(row) {
        for (s, x) in to.0.iter_mut().zip(row.0) {
            *s += x;
        }
    }
}

#[inline(always)]
fn sum<const W: usize>(a: &Row<W>, b: &Row<W>) -> Row<W> {
    let mut out = *a;
    add(&mut out, b);
    out
}

#[inline(always)]
fn scaled<const W: usize>(row: &Row<W>, z: f32) -> Row<W> {
    let mut out = *row;
    for x in out.iter_mut().flat_map(|line| &mut line.0) {
        *x *= z;
    }
    out
}

/// The sums of the terms of two columns, by both codes.
#[inline(always)]
fn pairs<const W: usize>(a: &[Row<W>; 4], b: &[Row<W>; 4]) -> [Row<W>; 16] {
    let mut out = [zero::<W>(); 16];
    for codes in 0..16 {
        out[codes] = sum(&a[codes % 4], &b[codes / 4]);
    }
    out
}

/// What a call stands for.
trait Values: Sync {
    /// The values of the four codes at column `j`.
    fn of(&self, j: usize) -> [f32; 4];
}

/// Z itself.
impl Values for Tables {
    #[inline(always)]
    fn of(&self, j: usize) -> [f32; 4] {
        self.coding(j).map(|z| z as f32)
    }
}

/// Allele counts, a missing call counted as 0.
struct Counts;

impl Values for Counts {
    #[inline(always)]
    fn of(&self, _: usize) -> [f32; 4] {
        [0.0, 1.0, 2.0, 0.0]
    }
}

/// A matrix of packed codes times V, of which each column was scaled by a power of two.
struct Product<'a, A> {
    packed: &'a Packed,
    values: &'a A,
    lines: Vec<Line>, // V as (panels, columns of the codes, lines)
    k: usize,
    avx2: bool,
}

impl<'a, A: Values> Product<'a, A> {
    fn new(packed: &'a Packed, values: &'a A, v: &[f64], scales: &[f64], avx2: bool) -> Self {
        let k = scales.len();
        let line = |columns: Range<usize>, v: &[f64]| {
            let mut line = Line([0.0; LANES]);
            let scaled = v[columns.clone()].iter().zip(&scales[columns]).map(|(x, s)| (x * s) as f32);
            line.0.iter_mut().zip(scaled).for_each(|(to, x)| *to = x);
            line
        };
        let mut lines = Vec::with_capacity(packed.columns() * k.div_ceil(LANES));
        for panel in panels(k) {
            for v in v.chunks_exact(k) {
                lines.extend(
                    steps(panel.len(), LANES).map(|l| line(panel.start + l.start..panel.start + l.end, v)),
                );
            }
        }
        Product { packed, values, lines, k, avx2 }
    }

    /// Calls `settle` with every chunk's sum and the number of `out` (rows, k) that it belongs to.
    fn run<T: Send>(&self, out: &mut [T], settle: impl Fn(f32, &mut T) + Sync) {
        let n = self.packed.rows();
        let tall = n.div_ceil(2 * rayon::current_num_threads()).clamp(ROWS.0, ROWS.1);
        out.par_chunks_mut(tall * self.k).enumerate().for_each_init(Vec::new, |calls, (t, out)| {
            let rows = t * tall..t * tall + out.len() / self.k;
            for fetched in steps(self.packed.columns(), FETCHED * CHUNK) {
                super::lookup::words(self.packed, rows.clone(), fetched.clone(), calls);
                let chunks = steps(fetched.len(), CHUNK);
                for (chunk, calls) in chunks.zip(calls.chunks(CHUNK / CALLS * rows.len())) {
                    self.chunk(fetched.start + chunk.start, calls, out, &settle);
                }
            }
        });
    }

    /// The chunk that begins at column `start`, compiled for AVX2 where the processor has it.
    fn chunk<T>(&self, start: usize, calls: &[u64], out: &mut [T], settle: &impl Fn(f32, &mut T)) {
        #[inline(always)]
        fn body<A: Values, T>(
            product: &Product<A>,
            start: usize,
            calls: &[u64],
            out: &mut [T],
            settle: &impl Fn(f32, &mut T),
        ) {
            product.panels(start, calls, out, settle);
        }
        if !self.avx2 {
            return body(self, start, calls, out, settle);
        }
        best!(
            [("avx2")]
            body(self, start, calls, out, settle),
            fn[A: Values, T, S: Fn(f32, &mut T)](
                product: &Product<A>,
                start: usize,
                calls: &[u64],
                out: &mut [T],
                settle: &S,
            )
        )
    }

    #[inline(always)]
    fn panels<T>(&self, start: usize, calls: &[u64], out: &mut [T], settle: &impl Fn(f32, &mut T)) {
        for columns in panels(self.k) {
            match columns.len().div_ceil(LANES) {
                1 => self.panel::<1, T>(start, calls, columns, out, settle),
                _ => self.panel::<WIDEST, T>(start, calls, columns, out, settle),
            }
        }
    }

    #[inline(always)]
    fn panel<const W: usize, T>(
        &self,
        start: usize,
        calls: &[u64],
        columns: Range<usize>,
        out: &mut [T],
        settle: &impl Fn(f32, &mut T),
    ) {
        let rows = out.len() / self.k;
        let lines = &self.lines[self.packed.columns() * columns.start / LANES..];
        let mut partial = vec![zero::<W>(); rows];
        let mut tables = [[zero::<W>(); BYTES]; TABLES];
        for (w, calls) in calls.chunks_exact(rows).enumerate() {
            for half in 0..CALLS / (PER_BYTE * TABLES) {
                let first = start + w * CALLS + half * PER_BYTE * TABLES;
                for (t, table) in tables.iter_mut().enumerate() {
                    self.fill(table, first + t * PER_BYTE, lines);
                }
                for (&word, partial) in calls.iter().zip(&mut partial) {
                    let bytes = (word >> (8 * TABLES * half)).to_le_bytes();
                    let mut total = *partial;
                    for (table, byte) in tables.iter().zip(bytes) {
                        add(&mut total, &table[usize::from(byte)]);
                    }
                    *partial = total;
                }
            }
        }
        for (partial, out) in partial.iter().zip(out.chunks_exact_mut(self.k)) {
            for (line, out) in partial.iter().zip(out[columns.clone()].chunks_mut(LANES)) {
                match <&mut [T; LANES]>::try_from(&mut *out) {
                    Ok(eight) => (0..LANES).for_each(|c| settle(line.0[c], &mut eight[c])),
                    Err(_) => out.iter_mut().zip(line.0).for_each(|(out, x)| settle(x, out)),
                }
            }
        }
    }

    /// The contribution of every byte at the four columns from `first` on.
    #[inline(always)]
    fn fill<const W: usize>(&self, table: &mut [Row<W>; BYTES], first: usize, lines: &[Line]) {
        let mut terms = [[zero::<W>(); 4]; PER_BYTE]; // of each column, by code
        for (s, terms) in terms.iter_mut().enumerate() {
            let j = first + s;
            if j < self.packed.columns() {
                let row: &Row<W> = lines[j * W..][..W].try_into().expect("W lines");
                for (term, z) in terms.iter_mut().zip(self.values.of(j)) {
                    *term = scaled(row, z);
                }
            }
        }
        let (low, high) = (pairs(&terms[0], &terms[1]), pairs(&terms[2], &terms[3]));
        for (high, rows) in high.iter().zip(table.chunks_exact_mut(low.len())) {
            for (low, row) in low.iter().zip(rows) {
                *row = sum(high, low);
            }
        }
    }
}

/// The columns of each panel.
fn panels(k: usize) -> impl Iterator<Item = Range<usize>> {
    steps(k, WIDEST * LANES)
}

/// sums += Z V.
pub(super) fn times(held: &Held, v: &[f64], points: &[FixedPoint], sums: &mut [i64]) {
    if held.packed.rows() == 0 || points.is_empty() {
        return;
    }
    // The bound of each column becomes 1, the same on all ranks.
    let scales: Vec<f64> = points.iter().map(|p| p.quantum().recip() * (-61f64).exp2()).collect();
    let product = Product::new(&held.packed, &held.tables, v, &scales, held.tables.avx2());
    product.run(sums, |x, sum| *sum += nearest(f64::from(x) * STEPS_OF_ONE) << MORE_BITS);
}

/// The nearest whole number of one of at most 2^50: as the last bits of a sum whose last bit is worth 1.
#[inline(always)]
fn nearest(x: f64) -> i64 {
    const SHIFT: f64 = 1.5 * (1u64 << 52) as f64;
    (x + SHIFT).to_bits().wrapping_sub(SHIFT.to_bits()) as i64
}

/// Codes by SNP, for Z'V.
pub(super) struct Turned {
    packed: Packed, // (m, n)
}

impl Turned {
    /// Turns the codes of the animals; needs as much memory again. `None` where a coding is more than a
    /// multiple of the allele count less its mean.
    pub(super) fn new(held: &Held) -> Option<Turned> {
        let straight = |[a, b, c, _]: Coding| (a - 2.0 * b + c).abs() <= 1e-12 * (a.abs() + c.abs());
        let all = (0..held.packed.columns()).all(|j| straight(held.tables.coding(j)));
        all.then(|| Turned { packed: held.packed.transposed() })
    }
}

/// out = Z' V.
pub(super) fn transposed_times(held: &Held, turned: &Turned, v: &[f64], k: usize, out: &mut [f64]) {
    if out.is_empty() {
        return;
    }
    let scales = scales(v, k);
    out.fill(0.0);
    let product = Product::new(&turned.packed, &Counts, v, &scales, held.tables.avx2());
    product.run(out, |x, out| *out += f64::from(x));
    let mut totals = vec![0.0; k];
    v.chunks_exact(k).for_each(|v| totals.iter_mut().zip(v).for_each(|(t, x)| *t += x));
    out.par_chunks_exact_mut(k).enumerate().for_each_init(Vec::new, |missing: &mut Vec<f64>, (j, out)| {
        let [none, one, _, absent] = held.tables.coding(j);
        missing.clear();
        missing.resize(k, 0.0);
        add_missing(turned.packed.row(j), v, missing);
        for (c, out) in out.iter_mut().enumerate() {
            *out = none * (totals[c] - missing[c]) + (one - none) * (*out / scales[c]) + absent * missing[c];
        }
    });
}

/// For each column the power of two that brings its largest number to between 1/2 and 1.
fn scales(v: &[f64], k: usize) -> Vec<f64> {
    let mut largest = vec![0.0f64; k];
    v.chunks_exact(k).for_each(|v| largest.iter_mut().zip(v).for_each(|(l, x)| *l = l.max(x.abs())));
    let scale =
        |l: &f64| if *l > 0.0 && l.is_finite() { (-l.log2().floor().max(-1000.0) - 1.0).exp2() } else { 1.0 };
    largest.iter().map(scale).collect()
}

/// sum += the rows of V (n, k) where a call in the packed `row` is missing.
fn add_missing(row: &[u8], v: &[f64], sum: &mut [f64]) {
    let k = sum.len();
    for i in missing_calls(row, 0..v.len() / k) {
        sum.iter_mut().zip(&v[i * k..]).for_each(|(s, x)| *s += x);
    }
}
