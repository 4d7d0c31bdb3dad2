//! `Z[rows] W`.

use super::*;
use crate::device::cpu::Held;
use crate::packed::Packed;
use rayon::prelude::*;

/// SNPs in a word of whole bytes and whole triples.
const WORD: usize = 12;
/// Tiles of columns that one task takes.
const WIDE: usize = 16;
/// Rows of W that are asked for beside the work on each tile of columns.
const AHEAD: usize = SNPS / WIDE;
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
    let chunks = triples.par_chunks_exact_mut(tiles * CHUNK).enumerate();
    let fill = |(chunk, triples): (usize, &mut [Triples])| {
        for (rows, triples) in rows.chunks(TILE).zip(triples.chunks_exact_mut(CHUNK)) {
            // SAFETY: AVX-512 was found at run time.
            unsafe { triples_of_animals(&held.packed, rows, chunk * SNPS, triples) };
        }
        absent(&held.packed, rows, chunk * SNPS)
    };
    let absent: Vec<Vec<Absent>> = chunks.map(fill).collect();
    let product = Product { held, triples, absent: &absent, w, h, tiles };
    let mut sums = vec![NO_SUMS; h.div_ceil(COLUMNS) * tiles]; // (columns, tiles)
    let mut more = vec![0.0; h.div_ceil(WIDE * COLUMNS) * rows.len() * WIDE * COLUMNS]; // (tasks, rows, columns)
    let tasks = sums.par_chunks_mut(WIDE * tiles).zip(more.par_chunks_mut(rows.len() * WIDE * COLUMNS));
    tasks.enumerate().for_each(|(t, (sums, more))| {
        // SAFETY: AVX-512 was found at run time.
        unsafe { product.columns(t * WIDE * COLUMNS, sums, more) };
    });
    out.par_chunks_mut(TILE * h).enumerate().for_each(|(tile, out)| {
        // SAFETY: AVX-512 was found at run time.
        unsafe { settle(&sums[tile..], tiles, h, out) };
        for (i, out) in out.chunks_exact_mut(h).enumerate() {
            let of = more[(tile * TILE + i) * WIDE * COLUMNS..].chunks(rows.len() * WIDE * COLUMNS);
            for (out, more) in out.chunks_mut(WIDE * COLUMNS).zip(of) {
                out.iter_mut().zip(more).for_each(|(out, more)| *out += more);
            }
        }
    });
}

/// A missing call: place of the animal among the rows, and SNP.
type Absent = (u32, u32);

/// The missing calls of some animals at the chunk of SNPs that begins at `first`.
fn absent(packed: &Packed, rows: &[u32], first: usize) -> Vec<Absent> {
    let snps = SNPS.min(packed.columns() - first);
    let mut out = Vec::new();
    for (animal, &i) in rows.iter().enumerate() {
        let places = missing_calls(packed.row(i as usize), first..first + snps);
        out.extend(places.map(|s| (animal as u32, (first + s) as u32)));
    }
    out
}

/// The triples of at most a tile of animals at the chunk of SNPs that begins at `first`.
#[target_feature(enable = "avx512f")]
fn triples_of_animals(packed: &Packed, rows: &[u32], first: usize, triples: &mut [Triples]) {
    let (low_bits, ones) = (_mm512_set1_epi32(0x3F), _mm512_set1_epi32(0x15));
    for (word, triples) in triples.chunks_exact_mut(WORD / CALLS).enumerate() {
        let byte = (first + word * WORD) / PER_BYTE;
        for (lanes, rows) in rows.chunks(LANES).enumerate() {
            let mut words = Line([0u32; LANES]);
            for (word, &i) in words.0.iter_mut().zip(rows) {
                *word = four_bytes(packed.row(i as usize), byte);
            }
            let words = load_whole(&words);
            for (triple, triples) in triples.iter_mut().enumerate() {
                let shift = _mm_cvtsi32_si128((2 * CALLS * triple) as i32);
                let calls = _mm512_and_si512(_mm512_srl_epi32(words, shift), low_bits);
                let missing = _mm512_and_si512(_mm512_and_si512(calls, _mm512_srli_epi32::<1>(calls)), ones);
                let both = _mm512_or_si512(missing, _mm512_slli_epi32::<1>(missing));
                let calls = _mm512_andnot_si512(both, calls);
                // a + 4b + 16c becomes a + 3b + 9c.
                let last = _mm512_srli_epi32::<4>(calls);
                let three = _mm512_add_epi32(last, _mm512_slli_epi32::<1>(last));
                let less = _mm512_add_epi32(_mm512_srli_epi32::<2>(calls), three);
                store_whole(_mm512_sub_epi32(calls, less), &mut triples[lanes]);
            }
        }
    }
}

/// One product `Z[rows] W`.
struct Product<'a> {
    held: &'a Held,
    triples: &'a [Triples], // (chunks, tiles, CHUNK)
    absent: &'a [Vec<Absent>],
    w: &'a [f32],
    h: usize,
    tiles: usize,
}

impl Product<'_> {
    /// The sums (columns, tiles) of some tiles of columns from `first` on, and what missing calls add to them,
    /// (rows, columns).
    #[target_feature(enable = "avx512f")]
    fn columns(&self, first: usize, sums: &mut [Sums], more: &mut [f32]) {
        let (m, h) = (self.held.packed.columns(), self.h);
        let mut patterns = [[[ZERO; 2]; CALLS]; CHUNK];
        let mut numbers = [[[0.0; COLUMNS]; SNPS]; WIDE];
        let mut tables = [NO_TABLES; CHUNK];
        for (chunk, triples) in self.triples.chunks_exact(self.tiles * CHUNK).enumerate() {
            for s in 0..SNPS {
                let j = chunk * SNPS + s;
                let [a, b, c, _] = self.held.tables.coding(j);
                patterns[s / CALLS][s % CALLS] = pattern(s % CALLS, [a as f32, b as f32, c as f32]);
                let row = if j < m { &self.w[j * h + first..(j + 1) * h] } else { &[] };
                take_columns(row, &mut numbers, s);
            }
            self.add_absent(chunk, first, more);
            for (c, (numbers, sums)) in numbers.iter().zip(sums.chunks_exact_mut(self.tiles)).enumerate() {
                for s in c * AHEAD..(c + 1) * AHEAD {
                    prefetch(self.w, ((chunk + 1) * SNPS + s) * h + first);
                }
                let triplets = numbers.as_chunks::<CALLS>().0;
                for ((patterns, numbers), tables) in patterns.iter().zip(triplets).zip(&mut tables) {
                    fill(patterns, [&numbers[0], &numbers[1], &numbers[2]], tables);
                }
                for (triples, sums) in triples.chunks_exact(CHUNK).zip(sums) {
                    add_up(&tables, triples, sums);
                }
            }
        }
    }

    /// `more += (what a missing call stands for) · (row of W)`, while that row is at hand.
    fn add_absent(&self, chunk: usize, first: usize, more: &mut [f32]) {
        for &(animal, j) in &self.absent[chunk] {
            let [none, _, _, absent] = self.held.tables.coding(j as usize).map(|z| z as f32);
            let row = &self.w[j as usize * self.h + first..(j as usize + 1) * self.h];
            let more = more[animal as usize * WIDE * COLUMNS..][..WIDE * COLUMNS].iter_mut();
            more.zip(row).for_each(|(more, w)| *more += (absent - none) * w);
        }
    }
}

/// Asks for the numbers of a row that the next chunk needs: a column of W lies in as many places as there are SNPs.
#[inline(always)]
fn prefetch(w: &[f32], start: usize) {
    for at in (start..start + WIDE * COLUMNS).step_by(LANES) {
        // SAFETY: nothing is read, so any address will do.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(w.as_ptr().wrapping_add(at).cast()) };
    }
}

/// Brings the sums of a tile of animals, every `tiles`-th of `sums`, to their rows of the result.
#[target_feature(enable = "avx512f")]
fn settle(sums: &[Sums], tiles: usize, h: usize, out: &mut [f32]) {
    for start in (0..h).step_by(LANES) {
        let at = |tile: usize| sums.get((start / COLUMNS + tile) * tiles).unwrap_or(&NO_SUMS);
        let of = [at(0), at(1), at(2), at(3)];
        let mask = mask((h - start).min(LANES));
        for (deep, out) in out.chunks_mut(LANES * h).enumerate() {
            for (animal, out) in square(of, deep).into_iter().zip(out.chunks_exact_mut(h)) {
                // SAFETY: the mask keeps the store within the row.
                unsafe { _mm512_mask_storeu_ps(out[start..].as_mut_ptr(), mask, animal) };
            }
        }
    }
}
