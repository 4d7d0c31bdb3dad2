//! `Z[rows]' D`.

use super::*;
use crate::device::cpu::Held;
use crate::device::network::Accumulate;
use crate::device::Coding;
use rayon::prelude::*;
use std::ops::Range;

/// SNPs that one task of the transposed product takes, at least and at most.
const BLOCK: (usize, usize) = (2 * TILE, 8 * TILE);

/// How a SNP's calls are counted in `Z[rows]' D`: `Z'D = base · (sum of D) + Σ factor · (count · D)`.
#[derive(Clone, Copy)]
struct Counted {
    base: f32,
    /// Of each pass.
    factors: [f32; 2],
    /// Of each pass, what codes count, two bits each.
    maps: [u32; 2],
    absent: f32,
}

impl Counted {
    /// Counts the rarer allele where the coding is a straight line, so that the sum of D has the smaller weight;
    /// otherwise heterozygotes and homozygotes apart.
    fn new([none, one, two, absent]: Coding) -> Counted {
        let straight = (none - 2.0 * one + two).abs() <= 1e-12 * (none.abs() + two.abs());
        let (base, factors, maps) = match straight {
            true if none.abs() <= two.abs() => (none, [one - none, 0.0], [0b10_01_00, 0]),
            true => (two, [one - two, 0.0], [0b00_01_10, 0]),
            false => (none, [one - none, two - none], [0b00_01_00, 0b01_00_00]),
        };
        let absent = (absent - base) as f32;
        Counted { base: base as f32, factors: factors.map(|f| f as f32), maps, absent }
    }

    /// How many passes there are.
    fn passes(self) -> usize {
        1 + usize::from(self.maps[1] != 0)
    }
}

/// `out = Z[rows, snps]' D` or `out += `, `d` (b, h).
pub(in super::super) fn transposed_times(
    held: &Held,
    rows: &[u32],
    d: &[f32],
    h: usize,
    snps: Range<usize>,
    accumulate: Accumulate,
    out: &mut [f32],
) {
    if h == 0 {
        return;
    }
    let mut totals = vec![0.0; h];
    d.chunks_exact(h).for_each(|d| totals.iter_mut().zip(d).for_each(|(t, x)| *t += f64::from(*x)));
    let totals: Vec<f32> = totals.iter().map(|t| *t as f32).collect();
    let each = snps.len().div_ceil(4 * rayon::current_num_threads());
    let block = each.next_multiple_of(TILE).clamp(BLOCK.0, BLOCK.1);
    let task = Transposed { held, rows, d, totals: &totals, accumulate };
    out.par_chunks_mut(block * h).enumerate().for_each(|(b, out)| {
        // SAFETY: AVX-512 was found at run time.
        unsafe { task.block(snps.start + b * block, out) };
    });
}

/// One product `Z[rows]' D`.
struct Transposed<'a> {
    held: &'a Held,
    rows: &'a [u32],
    d: &'a [f32],
    totals: &'a [f32],
    accumulate: Accumulate,
}

impl Transposed<'_> {
    /// The rows of the result from SNP `first` on.
    #[target_feature(enable = "avx512f")]
    fn block(&self, first: usize, out: &mut [f32]) {
        let h = self.totals.len();
        let snps = out.len() / h;
        let (tiles, all) = (snps.div_ceil(TILE), self.rows.len().div_ceil(CALLS));
        let counted: Vec<Counted> =
            (first..first + tiles * TILE).map(|j| Counted::new(self.held.tables.coding(j))).collect();
        let mut triples = MEMORY.take();
        let mut sums = vec![NO_SUMS; tiles * LINE]; // (tiles, tiles of columns)
        for pass in 0..counted.iter().map(|c| c.passes()).max().unwrap_or(1) {
            triples.clear();
            triples.resize(tiles * all, NO_TRIPLES);
            for tile in 0..tiles {
                let mut maps = NO_TRIPLES;
                for (snp, counted) in counted[tile * TILE..][..TILE].iter().enumerate() {
                    maps[snp / LANES].0[snp % LANES] = counted.maps[pass];
                }
                self.triples_of_snps(first + tile * TILE, &maps, &mut triples[tile * all..][..all]);
            }
            for start in (0..h).step_by(LANES) {
                self.add_columns(start, &triples, &mut sums);
                self.settle(start, pass, &counted, &sums, out);
            }
        }
        MEMORY.set(triples);
        self.add_missing_animals(first, &counted, out);
    }

    /// The triples of all animals at a tile of SNPs, calls counted as `maps` says.
    #[target_feature(enable = "avx512f")]
    fn triples_of_snps(&self, first: usize, maps: &Triples, triples: &mut [Triples]) {
        let places = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        let three = _mm512_set1_epi32(3);
        for (animals, triples) in self.rows.chunks(CALLS).zip(triples) {
            // The last animal of a triple has the highest digit.
            for &i in animals.iter().rev() {
                let row = self.held.packed.row(i as usize);
                for ((lanes, triples), maps) in triples.iter_mut().enumerate().zip(maps) {
                    let word = four_bytes(row, (first + lanes * LANES) / PER_BYTE);
                    let calls = _mm512_srlv_epi32(_mm512_set1_epi32(word as i32), places);
                    let calls = _mm512_and_si512(calls, three);
                    let place = _mm512_add_epi32(calls, calls);
                    let counts = _mm512_and_si512(_mm512_srlv_epi32(load_whole(maps), place), three);
                    let before = load_whole(triples);
                    let thrice = _mm512_add_epi32(before, _mm512_add_epi32(before, before));
                    store_whole(_mm512_add_epi32(thrice, counts), triples);
                }
            }
        }
    }

    /// Σ counts · D of a line of columns from `start` on.
    #[target_feature(enable = "avx512f")]
    fn add_columns(&self, start: usize, triples: &[Triples], sums: &mut [Sums]) {
        let (h, all) = (self.totals.len(), self.rows.len().div_ceil(CALLS));
        let values = [0.0, 1.0, 2.0];
        let patterns = [pattern(0, values), pattern(1, values), pattern(2, values)];
        sums.fill(NO_SUMS);
        let mut numbers = [[[0.0; COLUMNS]; SNPS]; LINE];
        let mut tables = [NO_TABLES; CHUNK];
        for from in (0..all).step_by(CHUNK) {
            let part = from..(from + CHUNK).min(all);
            for at in 0..CALLS * part.len() {
                let animal = CALLS * from + at;
                let row = if animal < self.rows.len() {
                    &self.d[animal * h + start..(animal + 1) * h]
                } else {
                    &[]
                };
                take_columns(row, &mut numbers, at);
            }
            for (c, numbers) in numbers.iter().enumerate() {
                let tables = &mut tables[..part.len()];
                for (numbers, tables) in numbers.as_chunks::<CALLS>().0.iter().zip(&mut *tables) {
                    fill(&patterns, [&numbers[0], &numbers[1], &numbers[2]], tables);
                }
                for (triples, sums) in triples.chunks_exact(all).zip(sums.chunks_exact_mut(LINE)) {
                    add_up(tables, &triples[part.clone()], &mut sums[c]);
                }
            }
        }
    }

    /// Brings the sums of a line of columns to the result.
    #[target_feature(enable = "avx512f")]
    fn settle(&self, start: usize, pass: usize, counted: &[Counted], sums: &[Sums], out: &mut [f32]) {
        let h = self.totals.len();
        let columns = start..(start + LANES).min(h);
        let mut totals = ZERO;
        if pass == 0 {
            totals.0[..columns.len()].copy_from_slice(&self.totals[columns.clone()]);
        }
        let totals = load(&totals);
        let fresh = pass == 0 && self.accumulate == Accumulate::Overwrite;
        let mask = mask(columns.len());
        for (at, out) in out.chunks_mut(LANES * h).enumerate() {
            let of = &sums[at / DEEP * LINE..][..LINE];
            let square = square([&of[0], &of[1], &of[2], &of[3]], at % DEEP);
            for ((snp, out), counted) in
                square.into_iter().zip(out.chunks_exact_mut(h)).zip(&counted[at * LANES..])
            {
                let base = _mm512_mul_ps(_mm512_set1_ps(counted.base), totals);
                let value = _mm512_fmadd_ps(_mm512_set1_ps(counted.factors[pass]), snp, base);
                let out = out[columns.clone()].as_mut_ptr();
                // SAFETY: the mask keeps the store and the load within the columns.
                unsafe {
                    let value = match fresh {
                        true => value,
                        false => _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, out)),
                    };
                    _mm512_mask_storeu_ps(out, mask, value);
                }
            }
        }
    }

    /// Adds what missing calls stand for.
    fn add_missing_animals(&self, first: usize, counted: &[Counted], out: &mut [f32]) {
        let h = self.totals.len();
        let snps = out.len() / h;
        for (&i, d) in self.rows.iter().zip(self.d.chunks_exact(h)) {
            for s in missing_calls(self.held.packed.row(i as usize), first..first + snps) {
                add_scaled(counted[s].absent, d, &mut out[s * h..(s + 1) * h]);
            }
        }
    }
}
