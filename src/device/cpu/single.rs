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
use crate::packed::{bytes_from, missing_bits, missing_calls, Packed, PER_BYTE};
use crate::simd::{best, prefetch};
use crate::stats::{largest_of_columns, unit_scale, FixedPoint};
use rayon::prelude::*;
use std::ops::Range;

/// Numbers in one register.
const LANES: usize = 8;
/// Registers in a row of a table, at most: the 33 columns of a block of traits are one panel.
const WIDEST: usize = 5;
/// What four calls can be.
const BYTES: usize = 256;
/// Tables in use at the same time. Calls without gaps read a third of their rows, and frequent calls few of those.
const TABLES: usize = 4;
/// Bytes of the calls of one [`CHUNK`].
const CALLS: usize = CHUNK / PER_BYTE;
/// Rows of a tile, at least and at most: the tables are made anew for every tile.
const ROWS: (usize, usize) = (256, 4096);
/// Rows whose calls are on their way from memory.
const AHEAD: usize = 24;
/// SNPs whose missing calls are looked for together, at most, and rows of V that stay in the cache meanwhile.
const GROUP: usize = 512;
const NEAR: usize = 2048;
/// Scaled sums are at most 1 and become whole multiples of 2^-50, which f64 adds exactly.
const STEPS_OF_ONE: f64 = (1u64 << 50) as f64;
/// A [`FixedPoint`] counts to 2^61, in steps of this many bits more.
const MORE_BITS: i32 = 61 - 50;

/// `call` with the constant `W`, the registers of a row of the panel of these columns.
#[rustfmt::skip]
macro_rules! with_width {
    ($columns:ident, $W:ident => $call:expr) => {
        match $columns.len().div_ceil(LANES) {
            1 => { const $W: usize = 1; $call }
            2 => { const $W: usize = 2; $call }
            3 => { const $W: usize = 3; $call }
            4 => { const $W: usize = 4; $call }
            _ => { const $W: usize = WIDEST; $call }
        }
    };
}

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

    /// Whether all codes at these columns, which begin on a whole byte, stand for 0.
    fn are_zero(&self, columns: Range<usize>) -> bool;
}

/// Z itself.
impl Values for Tables {
    #[inline(always)]
    fn of(&self, j: usize) -> [f32; 4] {
        self.coding(j).map(|z| z as f32)
    }

    fn are_zero(&self, columns: Range<usize>) -> bool {
        Tables::are_zero(self, columns)
    }
}

/// Allele counts, a missing call counted as 0.
struct Counts;

impl Values for Counts {
    #[inline(always)]
    fn of(&self, _: usize) -> [f32; 4] {
        [0.0, 1.0, 2.0, 0.0]
    }

    fn are_zero(&self, _: Range<usize>) -> bool {
        false
    }
}

/// A matrix of packed codes times V, of which each column was scaled by a power of two.
struct Product<'a, A> {
    packed: &'a Packed,
    /// The rows that are multiplied; `None` for all.
    rows: Option<&'a [usize]>,
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
        Product { packed, values, rows: None, lines, k, avx2 }
    }

    /// The calls of one of the rows that are multiplied.
    #[inline(always)]
    fn calls(&self, row: usize) -> &[u8] {
        self.packed.row(self.rows.map_or(row, |rows| rows[row]))
    }

    /// Calls `settle` with every chunk's sum and the number of `out` (rows, k) that it belongs to.
    fn run<T: Send>(&self, out: &mut [T], settle: impl Fn(f32, &mut T) + Sync) {
        let n = self.rows.map_or(self.packed.rows(), <[usize]>::len);
        let tall = n.div_ceil(2 * rayon::current_num_threads()).clamp(ROWS.0, ROWS.1);
        out.par_chunks_mut(tall * self.k).enumerate().for_each_init(Tile::default, |tile, (t, out)| {
            let rows = t * tall..t * tall + out.len() / self.k;
            for start in (0..self.packed.columns()).step_by(CHUNK) {
                tile.calls.fetch(|row| self.calls(row), rows.clone(), start);
                self.chunk(start, tile, out, &settle);
            }
        });
    }

    /// The chunk that begins at column `start`, compiled for AVX2 where the processor has it.
    fn chunk<T>(&self, start: usize, tile: &mut Tile, out: &mut [T], settle: &impl Fn(f32, &mut T)) {
        #[inline(always)]
        fn body<A: Values, T>(
            product: &Product<A>,
            start: usize,
            tile: &mut Tile,
            out: &mut [T],
            settle: &impl Fn(f32, &mut T),
        ) {
            product.panels(start, tile, out, settle);
        }
        if !self.avx2 {
            return body(self, start, tile, out, settle);
        }
        best!(
            [("avx2")]
            body(self, start, tile, out, settle),
            fn[A: Values, T, S: Fn(f32, &mut T)](
                product: &Product<A>,
                start: usize,
                tile: &mut Tile,
                out: &mut [T],
                settle: &S,
            )
        )
    }

    #[inline(always)]
    fn panels<T>(&self, start: usize, tile: &mut Tile, out: &mut [T], settle: &impl Fn(f32, &mut T)) {
        for columns in panels(self.k) {
            with_width!(columns, W => self.panel::<W, T>(start, tile, columns, out, settle));
        }
    }

    #[inline(always)]
    fn panel<const W: usize, T>(
        &self,
        start: usize,
        tile: &mut Tile,
        columns: Range<usize>,
        out: &mut [T],
        settle: &impl Fn(f32, &mut T),
    ) {
        let lines = self.lines_of::<W>(&columns);
        let Tile { calls, partial, tables } = tile;
        partial.resize(calls.rows.len() * W, Line([0.0; LANES]));
        tables.resize(TABLES * BYTES * W, Line([0.0; LANES]));
        let partial = partial.as_chunks_mut::<W>().0;
        let tables = tables.as_chunks_mut::<W>().0.as_chunks_mut::<BYTES>().0;
        let tables = tables.first_chunk_mut::<TABLES>().expect("just made");
        let mut begun = false;
        for first in (0..CALLS).step_by(TABLES) {
            let snps = start + first * PER_BYTE..start + (first + TABLES) * PER_BYTE;
            if self.values.are_zero(snps) {
                continue;
            }
            for (byte, table) in (first..).zip(&mut *tables) {
                let pairs: &[usize] = if calls.has_missing(byte) { &ALL } else { &CALLED };
                self.fill(table, start + byte * PER_BYTE, lines, pairs);
            }
            add_tables(self.avx2, tables, &calls.rows, first, begun, partial);
            begun = true;
        }
        if !begun {
            return;
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

    /// V at the columns of a panel.
    #[inline(always)]
    fn lines_of<const W: usize>(&self, columns: &Range<usize>) -> &[Row<W>] {
        let lines = &self.lines[self.packed.columns() * columns.start / LANES..];
        &lines.as_chunks::<W>().0[..self.packed.columns()]
    }

    /// sums += the rows of V where a call is missing, for the rows of the codes from `first` on, (rows, k).
    fn add_missing(&self, first: usize, sums: &mut [f64]) {
        for columns in panels(self.k) {
            with_width!(columns, W => self.add_missing_panel::<W>(first, columns, sums));
        }
    }

    fn add_missing_panel<const W: usize>(&self, first: usize, columns: Range<usize>, sums: &mut [f64]) {
        let lines = self.lines_of::<W>(&columns);
        for near in steps(self.packed.columns(), NEAR) {
            for (row, sums) in (first..).zip(sums.chunks_exact_mut(self.k)) {
                let missing = missing_sum(self.avx2, self.calls(row), near.clone(), lines);
                let missing = missing.iter().flat_map(|line| line.0);
                sums[columns.clone()].iter_mut().zip(missing).for_each(|(sum, x)| *sum += f64::from(x));
            }
        }
    }

    /// The contribution of every byte at the four columns from `first` on, as far as both its halves are among
    /// `pairs_in_use`.
    #[inline(always)]
    fn fill<const W: usize>(
        &self,
        table: &mut [Row<W>; BYTES],
        first: usize,
        lines: &[Row<W>],
        pairs_in_use: &[usize],
    ) {
        let mut terms = [[zero::<W>(); 4]; PER_BYTE]; // of each column, by code
        for (s, terms) in terms.iter_mut().enumerate() {
            let j = first + s;
            if j < self.packed.columns() {
                for (term, z) in terms.iter_mut().zip(self.values.of(j)) {
                    *term = scaled(&lines[j], z);
                }
            }
        }
        let (low, high) = (pairs(&terms[0], &terms[1]), pairs(&terms[2], &terms[3]));
        for &h in pairs_in_use {
            for &l in pairs_in_use {
                table[low.len() * h + l] = sum(&high[h], &low[l]);
            }
        }
    }
}

/// Pairs of codes: all, and those without a missing one.
const ALL: [usize; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const CALLED: [usize; 9] = [0, 1, 2, 4, 5, 6, 8, 9, 10];

/// What one thread works with: the calls of some rows at one chunk, and room for sums and tables.
#[derive(Default)]
struct Tile {
    calls: Calls,
    partial: Vec<Line>,
    tables: Vec<Line>,
}

/// The calls of some rows at one chunk.
#[derive(Default)]
struct Calls {
    rows: Vec<[u8; CALLS]>,
    missing: [u64; CALLS / 8], // low bits of the missing calls of any of them
}

impl Calls {
    /// Takes the calls of `rows` at the chunk that begins at column `start`.
    #[inline(always)]
    fn fetch<'a>(&mut self, of: impl Fn(usize) -> &'a [u8], rows: Range<usize>, start: usize) {
        let mut missing = [0; CALLS / 8];
        self.rows.resize(rows.len(), [0; CALLS]);
        for (calls, i) in self.rows.iter_mut().zip(rows.clone()) {
            // Calls of neighbouring rows lie far from each other.
            let ahead = of((i + AHEAD).min(rows.end - 1)).get(start / PER_BYTE);
            ahead.into_iter().for_each(prefetch);
            *calls = bytes_from(of(i), start / PER_BYTE);
            for (missing, word) in missing.iter_mut().zip(calls.as_chunks().0) {
                *missing |= missing_bits(u64::from_le_bytes(*word));
            }
        }
        self.missing = missing;
    }

    /// Whether any of the rows has a missing call in that byte of the chunk.
    #[inline(always)]
    fn has_missing(&self, byte: usize) -> bool {
        self.missing[byte / 8].to_le_bytes()[byte % 8] != 0
    }
}

/// partial += the rows of the tables at the [`TABLES`] bytes of each row's calls from `first` on; sums that have not
/// `begun` begin there.
#[inline(always)]
fn add_tables<const W: usize>(
    avx2: bool,
    tables: &[[Row<W>; BYTES]; TABLES],
    calls: &[[u8; CALLS]],
    first: usize,
    begun: bool,
    partial: &mut [Row<W>],
) {
    #[cfg(target_arch = "x86_64")]
    if avx2 {
        // SAFETY: AVX2 was found at run time.
        return unsafe { add_tables_avx2(tables, calls, first, begun, partial) };
    }
    let _ = avx2;
    for (calls, partial) in calls.iter().zip(partial) {
        let mut total = if begun { *partial } else { zero() };
        for (table, &byte) in tables.iter().zip(&calls[first..]) {
            add(&mut total, &table[usize::from(byte)]);
        }
        *partial = total;
    }
}

/// The same sums in the same order, kept in registers: compilers spill the plain loop.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn add_tables_avx2<const W: usize>(
    tables: &[[Row<W>; BYTES]; TABLES],
    calls: &[[u8; CALLS]],
    first: usize,
    begun: bool,
    partial: &mut [Row<W>],
) {
    use std::arch::x86_64::*;
    for (calls, partial) in calls.iter().zip(partial) {
        let mut total = [_mm256_setzero_ps(); W];
        // SAFETY: each line holds eight f32, aligned to 32 bytes.
        unsafe {
            if begun {
                for (total, line) in total.iter_mut().zip(&*partial) {
                    *total = _mm256_load_ps(line.0.as_ptr());
                }
            }
            for (table, &byte) in tables.iter().zip(&calls[first..]) {
                for (total, line) in total.iter_mut().zip(&table[usize::from(byte)]) {
                    *total = _mm256_add_ps(*total, _mm256_load_ps(line.0.as_ptr()));
                }
            }
            for (line, total) in partial.iter_mut().zip(total) {
                _mm256_store_ps(line.0.as_mut_ptr(), total);
            }
        }
    }
}

/// The columns of each panel: as few panels as there can be, as wide as each other.
fn panels(k: usize) -> impl Iterator<Item = Range<usize>> {
    let lines = k.div_ceil(LANES);
    steps(k, LANES * lines.div_ceil(lines.div_ceil(WIDEST).max(1)).max(1))
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
    /// Turns the codes of the animals; needs as much memory again.
    pub(super) fn new(packed: &Packed) -> Turned {
        Turned { packed: packed.transposed() }
    }
}

/// The SNPs whose coding is not 0, where every coding is a multiple of the allele count less its mean, as
/// [`transposed_times`] needs it.
pub(super) fn snps_by_code(coding: &[Coding]) -> Option<Vec<usize>> {
    let straight = |[a, b, c, _]: &Coding| (a - 2.0 * b + c).abs() <= 1e-12 * (a.abs() + c.abs());
    let used = || (0..coding.len()).filter(|&j| coding[j] != [0.0; 4]).collect();
    coding.iter().all(straight).then(used)
}

/// out = Z' V; `snps` are those whose coding is not 0: the others cost nothing.
pub(super) fn transposed_times(
    held: &Held,
    (turned, snps): (&Turned, &[usize]),
    v: &[f64],
    k: usize,
    out: &mut [f64],
) {
    if out.is_empty() {
        return;
    }
    if snps.len() == turned.packed.rows() {
        return transposed_times_of(snps, held, turned, v, k, out);
    }
    let mut some = vec![0.0; snps.len() * k];
    transposed_times_of(snps, held, turned, v, k, &mut some);
    out.fill(0.0);
    for (j, some) in snps.iter().zip(some.chunks_exact(k)) {
        out[j * k..(j + 1) * k].copy_from_slice(some);
    }
}

/// out = Z' V at some SNPs, (SNPs, k).
fn transposed_times_of(snps: &[usize], held: &Held, turned: &Turned, v: &[f64], k: usize, out: &mut [f64]) {
    let scales: Vec<f64> = largest_of_columns(v, k).into_iter().map(unit_scale).collect();
    out.fill(0.0);
    let all = Product::new(&turned.packed, &Counts, v, &scales, held.tables.avx2());
    let product = Product { rows: Some(snps), ..all };
    product.run(out, |x, out| *out += f64::from(x));
    let mut totals = vec![0.0; k];
    v.chunks_exact(k).for_each(|v| totals.iter_mut().zip(v).for_each(|(t, x)| *t += x));
    let group = (snps.len() / (4 * rayon::current_num_threads())).clamp(1, GROUP);
    let groups = out.par_chunks_mut(group * k).zip(snps.par_chunks(group));
    groups.enumerate().for_each_init(Vec::new, |missing: &mut Vec<f64>, (g, (out, snps))| {
        missing.clear();
        missing.resize(out.len(), 0.0);
        product.add_missing(g * group, missing);
        for (&j, (out, missing)) in snps.iter().zip(out.chunks_exact_mut(k).zip(missing.chunks_exact(k))) {
            let [none, one, _, absent] = held.tables.coding(j);
            for (c, out) in out.iter_mut().enumerate() {
                let (counts, missing) = (*out / scales[c], missing[c] / scales[c]);
                *out = none * (totals[c] - missing) + (one - none) * counts + absent * missing;
            }
        }
    });
}

/// The sum of the rows of V at the missing calls among `columns` of a packed row.
#[inline(always)]
fn missing_sum<const W: usize>(avx2: bool, calls: &[u8], columns: Range<usize>, lines: &[Row<W>]) -> Row<W> {
    let lines = &lines[columns.start..];
    #[cfg(target_arch = "x86_64")]
    if avx2 {
        // SAFETY: AVX2 was found at run time.
        return unsafe { missing_sum_avx2(calls, columns, lines) };
    }
    let _ = avx2;
    let mut total = zero();
    missing_calls(calls, columns).for_each(|i| add(&mut total, &lines[i]));
    total
}

/// The same sum in the same order, kept in registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn missing_sum_avx2<const W: usize>(calls: &[u8], columns: Range<usize>, lines: &[Row<W>]) -> Row<W> {
    use std::arch::x86_64::*;
    let mut total = [_mm256_setzero_ps(); W];
    for i in missing_calls(calls, columns) {
        for (total, line) in total.iter_mut().zip(&lines[i]) {
            // SAFETY: each line holds eight f32, aligned to 32 bytes.
            *total = _mm256_add_ps(*total, unsafe { _mm256_load_ps(line.0.as_ptr()) });
        }
    }
    let mut out = zero();
    for (line, total) in out.iter_mut().zip(total) {
        // SAFETY: as above.
        unsafe { _mm256_store_ps(line.0.as_mut_ptr(), total) };
    }
    out
}
