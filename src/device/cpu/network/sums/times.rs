//! `Z[rows] W`.

use super::*;
use crate::device::cpu::Held;
use crate::packed::Packed;
use rayon::prelude::*;

/// SNPs in a word of whole bytes and whole triples.
const WORD: usize = 12;
/// Tiles of columns that one task takes.
const WIDE: usize = 8;
/// Animals whose products are built together: what they look up takes 7 MiB at 10,000 SNPs.
const ANIMALS: usize = 8 * TILE;

/// `out = Z[rows] W`, `w` (m, h).
pub(in super::super) fn times(held: &Held, rows: &[u32], w: &[f32], h: usize, out: &mut [f32]) {
    if h == 0 {
        return;
    }
    let mut triples = MEMORY.take();
    for (rows, out) in rows.chunks(ANIMALS).zip(out.chunks_mut(ANIMALS * h)) {
        times_some(held, rows, w, h, out, &mut triples);
    }
    MEMORY.set(triples);
}

fn times_some(held: &Held, rows: &[u32], w: &[f32], h: usize, out: &mut [f32], triples: &mut Vec<Triples>) {
    let (tiles, m) = (rows.len().div_ceil(TILE), held.packed.columns());
    triples.resize(m.div_ceil(SNPS) * tiles * CHUNK, NO_TRIPLES);
    triples.par_chunks_exact_mut(tiles * CHUNK).enumerate().for_each(|(chunk, triples)| {
        for (rows, triples) in rows.chunks(TILE).zip(triples.chunks_exact_mut(CHUNK)) {
            // SAFETY: AVX-512 was found at run time.
            unsafe { triples_of_animals(&held.packed, rows, chunk * SNPS, triples) };
        }
    });
    let mut sums = vec![NO_SUMS; h.div_ceil(COLUMNS) * tiles]; // (columns, tiles)
    sums.par_chunks_mut(WIDE * tiles).enumerate().for_each(|(t, sums)| {
        // SAFETY: AVX-512 was found at run time.
        unsafe { times_columns(held, triples, (w, h), t * WIDE * COLUMNS, sums) };
    });
    out.par_chunks_mut(TILE * h).enumerate().for_each(|(tile, out)| {
        for (columns, sums) in sums[tile..].iter().step_by(tiles).enumerate() {
            for (at, out) in out.chunks_exact_mut(h).enumerate() {
                let out = out[columns * COLUMNS..].iter_mut();
                out.zip(sums).for_each(|(out, sums)| *out = sums[at / LANES].0[at % LANES]);
            }
        }
        for (out, &i) in out.chunks_exact_mut(h).zip(&rows[tile * TILE..]) {
            add_missing_snps(held, i, w, out);
        }
    });
}

/// The triples of at most a tile of animals at the chunk of SNPs that begins at `first`.
#[target_feature(enable = "avx512f")]
fn triples_of_animals(packed: &Packed, rows: &[u32], first: usize, triples: &mut [Triples]) {
    for (word, triples) in triples.chunks_exact_mut(WORD / CALLS).enumerate() {
        let byte = (first + word * WORD) / PER_BYTE;
        for (lanes, rows) in rows.chunks(LANES).enumerate() {
            let mut words = Line([0u32; LANES]);
            for (word, &i) in words.0.iter_mut().zip(rows) {
                *word = four_bytes(packed.row(i as usize), byte);
            }
            for (triple, triples) in triples.iter_mut().enumerate() {
                let to = &mut triples[lanes].0;
                for (to, word) in to.iter_mut().zip(words.0) {
                    let calls = word >> (2 * CALLS * triple) & 0x3F;
                    let missing = calls & calls >> 1 & 0x15;
                    let calls = calls & !(3 * missing);
                    // a + 4b + 16c becomes a + 3b + 9c.
                    *to = calls - (calls >> 2) - 3 * (calls >> 4);
                }
            }
        }
    }
}

/// The sums (columns, tiles) of some tiles of columns from `first` on.
#[target_feature(enable = "avx512f")]
fn times_columns(held: &Held, triples: &[Triples], (w, h): (&[f32], usize), first: usize, sums: &mut [Sums]) {
    let m = held.packed.columns();
    let tiles = triples.len() / (m.div_ceil(SNPS).max(1) * CHUNK);
    let mut patterns = [[[ZERO; 2]; CALLS]; CHUNK];
    let mut numbers = [[[0.0; COLUMNS]; SNPS]; WIDE];
    let mut tables = [NO_TABLES; CHUNK];
    for (chunk, triples) in triples.chunks_exact((tiles * CHUNK).max(1)).enumerate() {
        for s in 0..SNPS {
            let j = chunk * SNPS + s;
            let [a, b, c, _] = held.tables.coding(j).map(|z| z as f32);
            patterns[s / CALLS][s % CALLS] = pattern(s % CALLS, [a, b, c]);
            let row = if j < m { &w[j * h + first..(j + 1) * h] } else { &[] };
            take_columns(row, &mut numbers, s);
        }
        for (numbers, sums) in numbers.iter().zip(sums.chunks_exact_mut(tiles)) {
            for ((patterns, numbers), tables) in
                patterns.iter().zip(numbers.as_chunks::<CALLS>().0).zip(&mut tables)
            {
                fill(patterns, [&numbers[0], &numbers[1], &numbers[2]], tables);
            }
            for (triples, sums) in triples.chunks_exact(CHUNK).zip(sums) {
                add_up(&tables, triples, sums);
            }
        }
    }
}

/// `out += (what a missing call stands for) · (row of W)` for each SNP that animal `i` has no call at.
fn add_missing_snps(held: &Held, i: u32, w: &[f32], out: &mut [f32]) {
    let (h, m) = (out.len(), held.packed.columns());
    for j in missing(held.packed.row(i as usize)).take_while(|&j| j < m) {
        let [none, _, _, absent] = held.tables.coding(j).map(|z| z as f32);
        add_scaled(absent - none, &w[j * h..(j + 1) * h], out);
    }
}
