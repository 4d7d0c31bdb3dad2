//! The SNP-snp_layer layer on AVX-512: tables of partial sums that stand in registers.
//!
//! Three calls without a missing one are one of 27 triples. What each triple adds to a sum stands in two registers
//! of 16 numbers, and one permutation looks up the terms of 16 triples at once: three multiply-adds of a genotype
//! cost a permutation and an addition, where BLAS needs three fused multiply-adds.
//!
//! - `Z[rows] W`: a triple is an animal's calls at three SNPs, 16 animals are looked up at once, and a table
//!   belongs to three SNPs and a column of W.
//! - `Z[rows]' D`: a triple is the calls of three animals at a SNP, 16 SNPs are looked up at once, and a table
//!   belongs to three animals and a column of D. It adds up counts of an allele; the coding is applied at the end.
//!
//! Missing calls count as 0 in the tables and are added one by one afterwards. The arithmetic of every number is
//! fixed, whatever else is in a tile, so results have the same bits for any number of threads.

mod times;
mod transposed;

pub(super) use times::times;
pub(super) use transposed::transposed_times;

use crate::packed::{bytes_from, missing_calls, PER_BYTE};
use crate::simd::has;
use std::arch::x86_64::*;
use std::cell::Cell;

/// Numbers in one register.
const LANES: usize = 16;
/// Calls in one look-up.
const CALLS: usize = 3;
/// Registers of look-ups in a tile: with [`COLUMNS`] they make 16 sums, half of all registers.
const DEEP: usize = 4;
/// Animals (or SNPs) in a tile.
const TILE: usize = DEEP * LANES;
/// Columns in a tile.
const COLUMNS: usize = 4;
/// Triples whose sum is built in registers: their tables take 16 KiB, half of the nearest cache.
const CHUNK: usize = 32;
/// SNPs in a chunk: whole bytes.
const SNPS: usize = CALLS * CHUNK;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line<T>([T; LANES]);

const ZERO: Line<f32> = Line([0.0; LANES]);

/// The terms of the 27 triples, in order of the first call + 3 · the second + 9 · the third.
type Table = [Line<f32>; 2];
/// The tables of a tile's columns.
type Tables = [Table; COLUMNS];
/// The triples of a tile.
type Triples = [Line<u32>; DEEP];
/// The sums of a tile, by column.
type Sums = [[Line<f32>; DEEP]; COLUMNS];

/// Tiles of columns that are finished together: whole lines of the result.
const LINE: usize = LANES / COLUMNS;

const NO_SUMS: Sums = [[ZERO; DEEP]; COLUMNS];
const NO_TABLES: Tables = [[ZERO; 2]; COLUMNS];
const NO_TRIPLES: Triples = [Line([0; LANES]); DEEP];

thread_local! {
    /// Triples of the last call, whose memory the next one takes: fresh memory costs more than what fills it.
    static MEMORY: Cell<Vec<Triples>> = const { Cell::new(Vec::new()) };
}

/// Whether this processor can.
pub(super) fn possible() -> bool {
    has!("avx512f")
}

/// sums += the terms of all triples, looked up in the tables.
#[target_feature(enable = "avx512f")]
fn add_up(tables: &[Tables], triples: &[Triples], sums: &mut Sums) {
    // Written as loops: closures given to other functions would not be compiled for AVX-512 with them.
    let mut totals = [[_mm512_setzero_ps(); DEEP]; COLUMNS];
    for (totals, sums) in totals.iter_mut().zip(&*sums) {
        for (total, sum) in totals.iter_mut().zip(sums) {
            *total = load(sum);
        }
    }
    for (tables, triples) in tables.iter().zip(triples) {
        let mut looked_up = [_mm512_setzero_si512(); DEEP];
        for (to, triple) in looked_up.iter_mut().zip(triples) {
            *to = load_whole(triple);
        }
        for (totals, [low, high]) in totals.iter_mut().zip(tables) {
            let (low, high) = (load(low), load(high));
            for (total, triple) in totals.iter_mut().zip(looked_up) {
                *total = _mm512_add_ps(*total, _mm512_permutex2var_ps(low, triple, high));
            }
        }
    }
    for (sums, totals) in sums.iter_mut().zip(totals) {
        for (sum, total) in sums.iter_mut().zip(totals) {
            store(total, sum);
        }
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(line: &Line<f32>) -> __m512 {
    // SAFETY: a line is 16 numbers, aligned as the register wants it.
    unsafe { _mm512_load_ps(line.0.as_ptr()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_whole(line: &Line<u32>) -> __m512i {
    // SAFETY: as above.
    unsafe { _mm512_load_si512(line.0.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store_whole(register: __m512i, line: &mut Line<u32>) {
    // SAFETY: as above.
    unsafe { _mm512_store_si512(line.0.as_mut_ptr().cast(), register) };
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store(register: __m512, line: &mut Line<f32>) {
    // SAFETY: as above.
    unsafe { _mm512_store_ps(line.0.as_mut_ptr(), register) };
}

/// What three calls add: the patterns (the values of a call by triple) times the numbers of its columns.
#[target_feature(enable = "avx512f")]
#[inline]
fn fill(patterns: &[Table; CALLS], numbers: [&[f32; COLUMNS]; CALLS], tables: &mut Tables) {
    for half in 0..2 {
        let (first, second, third) =
            (load(&patterns[0][half]), load(&patterns[1][half]), load(&patterns[2][half]));
        for (column, table) in tables.iter_mut().enumerate() {
            let (a, b, c) = (numbers[0][column], numbers[1][column], numbers[2][column]);
            let two = _mm512_fmadd_ps(second, _mm512_set1_ps(b), _mm512_mul_ps(first, _mm512_set1_ps(a)));
            store(_mm512_fmadd_ps(third, _mm512_set1_ps(c), two), &mut table[half]);
        }
    }
}

/// The digit at each place of the triples.
const DIGITS: [[Line<u32>; 2]; CALLS] = digits();

const fn digits() -> [[Line<u32>; 2]; CALLS] {
    let mut out = [[Line([0; LANES]); 2]; CALLS];
    let mut at = 0;
    while at < CALLS * 2 * LANES {
        let (call, triple) = (at / (2 * LANES), at % (2 * LANES));
        out[call][triple / LANES].0[triple % LANES] = (triple / 3usize.pow(call as u32) % 3) as u32;
        at += 1;
    }
    out
}

/// The values of the call at place `call` of each triple, given those of its codes 0, 1 and 2.
#[target_feature(enable = "avx512f")]
#[inline]
fn pattern(call: usize, values: [f32; 3]) -> Table {
    let mut table = [ZERO; 2];
    let values = _mm512_castps128_ps512(_mm_setr_ps(values[0], values[1], values[2], 0.0));
    for (line, digits) in table.iter_mut().zip(&DIGITS[call]) {
        store(_mm512_permutexvar_ps(load_whole(digits), values), line);
    }
    table
}

/// Four bytes of a row from `at` on; missing calls behind its end.
#[inline(always)]
fn four_bytes(row: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes_from(row, at))
}

/// The beginning of a row, by tiles of columns; zeros behind its end.
#[inline(always)]
fn take_columns<const N: usize>(row: &[f32], to: &mut [[[f32; COLUMNS]; N]], at: usize) {
    let mut tiles = row.chunks(COLUMNS);
    for to in to {
        let from = tiles.next().unwrap_or_default();
        match from.try_into() {
            Ok(four) => to[at] = four,
            Err(_) => {
                to[at] = [0.0; COLUMNS];
                to[at].iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            }
        }
    }
}

fn add_scaled(factor: f32, x: &[f32], y: &mut [f32]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += factor * x);
}

/// The sums of a line of columns for the 16 animals (or SNPs) at place `deep` of a tile, one register each.
#[target_feature(enable = "avx512f")]
#[inline]
fn square(sums: [&Sums; LINE], deep: usize) -> [__m512; LANES] {
    let mut columns = [_mm512_setzero_ps(); LANES];
    for (column, to) in columns.iter_mut().enumerate() {
        *to = load(&sums[column / COLUMNS][column % COLUMNS][deep]);
    }
    turned(columns)
}

/// The first lanes.
#[inline(always)]
fn mask(lanes: usize) -> u16 {
    ((1u32 << lanes) - 1) as u16
}

/// A square of 16 registers, transposed.
#[target_feature(enable = "avx512f")]
#[inline]
fn turned(rows: [__m512; LANES]) -> [__m512; LANES] {
    let mut a = rows;
    for i in (0..LANES).step_by(2) {
        a[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
        a[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
    }
    let mut b = a;
    for i in (0..LANES).step_by(4) {
        for side in 0..2 {
            let (x, y) = (_mm512_castps_pd(a[i + side]), _mm512_castps_pd(a[i + 2 + side]));
            b[i + 2 * side] = _mm512_castpd_ps(_mm512_unpacklo_pd(x, y));
            b[i + 2 * side + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(x, y));
        }
    }
    // Quarter q of register 4p + r holds rows 4p to 4p + 3 of column 4q + r.
    let mut out = b;
    for r in 0..4 {
        let low =
            [_mm512_shuffle_f32x4::<0x88>(b[r], b[4 + r]), _mm512_shuffle_f32x4::<0x88>(b[8 + r], b[12 + r])];
        let high =
            [_mm512_shuffle_f32x4::<0xDD>(b[r], b[4 + r]), _mm512_shuffle_f32x4::<0xDD>(b[8 + r], b[12 + r])];
        out[r] = _mm512_shuffle_f32x4::<0x88>(low[0], low[1]);
        out[8 + r] = _mm512_shuffle_f32x4::<0xDD>(low[0], low[1]);
        out[4 + r] = _mm512_shuffle_f32x4::<0x88>(high[0], high[1]);
        out[12 + r] = _mm512_shuffle_f32x4::<0xDD>(high[0], high[1]);
    }
    out
}
