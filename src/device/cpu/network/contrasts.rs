//! Classes of genotypes as two numbers a SNP: those of all SNPs that are second, then those that are third.

use super::functions::{exp, ln};
use super::noise;
use crate::device::network::{Accumulate, Draw, CLASSES, CONTRASTS};
use crate::rng::Stream;
use crate::simd::widest;
use rayon::prelude::*;

/// SNPs whose noise is drawn at once.
const BLOCK: usize = 256;

/// Rows 3j + 1 and 3j + 2 of `w` less rows 3j: (3m, h) to (2m, h).
pub(super) fn contrasts(h: usize, w: &[f32], out: &mut [f32]) {
    fn work(w: &[f32], second: &mut [f32], third: &mut [f32]) {
        #[inline(always)]
        fn body(w: &[f32], second: &mut [f32], third: &mut [f32]) {
            let h = second.len();
            let (first, others) = w.split_at(h);
            let both = second.iter_mut().zip(third).zip(others.iter().zip(&others[h..]));
            both.zip(first).for_each(|(((a, b), (x, y)), w)| (*a, *b) = (x - w, y - w));
        }
        widest!(body(w, second, third), fn(w: &[f32], second: &mut [f32], third: &mut [f32]))
    }
    if out.is_empty() {
        return;
    }
    let (second, third) = out.split_at_mut(out.len() / CONTRASTS);
    let rows = second.par_chunks_exact_mut(h).zip(third.par_chunks_exact_mut(h));
    rows.zip(w.par_chunks_exact(CLASSES * h))
        .with_min_len(16)
        .for_each(|((second, third), w)| work(w, second, third));
}

/// Three numbers a SNP to all that are second, all that are third, and the sums of all three.
pub(super) fn with_sums(y: &[f32], out: &mut [f32]) {
    #[inline(always)]
    fn body(y: &[f32], out: &mut [f32]) {
        let (second, others) = out.split_at_mut(y.len() / CLASSES);
        let (third, sums) = others.split_at_mut(second.len());
        let out = second.iter_mut().zip(third).zip(sums);
        for (y, ((second, third), sum)) in y.as_chunks::<CLASSES>().0.iter().zip(out) {
            (*second, *third, *sum) = (y[1], y[2], y[0] + y[1] + y[2]);
        }
    }
    widest!(body(y, out), fn(y: &[f32], out: &mut [f32]))
}

/// Rows of three a SNP, from all of those that are second, then all that are third: first is what `first` has more than
/// both, and `whole`.
pub(super) fn spread(whole: &[f32], others: &[f32], first: &[f32], accumulate: Accumulate, out: &mut [f32]) {
    fn work(
        whole: &[f32],
        others: [&[f32]; CONTRASTS],
        first: &[f32],
        accumulate: Accumulate,
        out: &mut [f32],
    ) {
        #[inline(always)]
        fn body(
            whole: &[f32],
            others: [&[f32]; CONTRASTS],
            first: &[f32],
            accumulate: Accumulate,
            out: &mut [f32],
        ) {
            let h = whole.len();
            let (zero, two) = out.split_at_mut(h);
            let (one, two) = two.split_at_mut(h);
            let [second, third] = others.map(|row| &row[..h]);
            let (first, keep) = (&first[..h], accumulate == Accumulate::Add);
            for c in 0..h {
                let own = first[c] + whole[c] - second[c] - third[c];
                (zero[c], one[c], two[c]) = match keep {
                    true => (zero[c] + own, one[c] + second[c], two[c] + third[c]),
                    false => (own, second[c], third[c]),
                };
            }
        }
        widest!(
            body(whole, others, first, accumulate, out),
            fn(
                whole: &[f32],
                others: [&[f32]; CONTRASTS],
                first: &[f32],
                accumulate: Accumulate,
                out: &mut [f32],
            )
        )
    }
    let h = whole.len();
    let (second, third) = others.split_at(others.len() / CONTRASTS);
    let rows = second.chunks_exact(h).zip(third.chunks_exact(h)).zip(first.chunks_exact(h));
    for (((second, third), first), out) in rows.zip(out.chunks_exact_mut(CLASSES * h)) {
        work(whole, [second, third], first, accumulate, out);
    }
}

/// Classes 1 and 2 of softmax((logits + g)/temperature), of contrasts of logits in rows of 2 `snps`.
pub(super) fn softmax(temperature: f64, noise: Option<Draw>, snps: usize, x: &mut [f32]) {
    if x.is_empty() {
        return;
    }
    let sharpness = (1.0 / temperature) as f32;
    x.par_chunks_exact_mut(CONTRASTS * snps).enumerate().for_each(|(r, x)| {
        let (second, third) = x.split_at_mut(snps);
        for (at, (second, third)) in second.chunks_mut(BLOCK).zip(third.chunks_mut(BLOCK)).enumerate() {
            let mut words = [u32::MAX >> 1; CLASSES * BLOCK];
            let words = &mut words[..CLASSES * second.len()];
            if let Some(draw) = noise {
                let first = (draw.first_row + r as u64) * draw.columns + draw.first_column;
                let stream = Stream::new(draw.seed, draw.purpose, draw.index);
                noise::words(&stream, first + (CLASSES * BLOCK * at) as u64, words);
            }
            share(sharpness, words, second, third);
        }
    });
}

/// Of the words of the noise.
fn share(sharpness: f32, words: &[u32], second: &mut [f32], third: &mut [f32]) {
    #[inline(always)]
    fn body(sharpness: f32, words: &[u32], second: &mut [f32], third: &mut [f32]) {
        let mut gumbel = [[0.0; BLOCK]; CLASSES];
        let [g0, g1, g2] = &mut gumbel;
        for (at, words) in words.as_chunks::<CLASSES>().0.iter().enumerate() {
            (g0[at], g1[at], g2[at]) =
                (noise::single(words[0]), noise::single(words[1]), noise::single(words[2]));
        }
        for g in &mut gumbel {
            g.iter_mut().for_each(|g| *g = -ln(-ln(*g)));
        }
        let [g0, g1, g2] = &gumbel;
        for ((a, b), ((g0, g1), g2)) in second.iter_mut().zip(third).zip(g0.iter().zip(g1).zip(g2)) {
            let x = [g0 * sharpness, (*a + g1) * sharpness, (*b + g2) * sharpness];
            let larger = if x[1] > x[0] { x[1] } else { x[0] };
            let largest = if x[2] > larger { x[2] } else { larger };
            let powers = x.map(|x| exp(x - largest));
            let sum = powers[0] + powers[1] + powers[2];
            (*a, *b) = (powers[1] / sum, powers[2] / sum);
        }
    }
    widest!(
        body(sharpness, words, second, third),
        fn(sharpness: f32, words: &[u32], second: &mut [f32], third: &mut [f32])
    )
}

/// `delta = y ∘ (delta − Σ y∘delta)/temperature`, `delta` three numbers a SNP, `y` in rows of 2 `snps`.
pub(super) fn softmax_backward(temperature: f64, y: &[f32], snps: usize, delta: &mut [f32]) {
    fn work(sharpness: f32, second: &[f32], third: &[f32], delta: &mut [f32]) {
        #[inline(always)]
        fn body(sharpness: f32, second: &[f32], third: &[f32], delta: &mut [f32]) {
            for ((a, b), d) in second.iter().zip(third).zip(delta.as_chunks_mut::<CLASSES>().0) {
                let y = [1.0 - a - b, *a, *b];
                let along = y[0] * d[0] + y[1] * d[1] + y[2] * d[2];
                *d = std::array::from_fn(|c| y[c] * (d[c] - along) * sharpness);
            }
        }
        widest!(
            body(sharpness, second, third, delta),
            fn(sharpness: f32, second: &[f32], third: &[f32], delta: &mut [f32])
        )
    }
    if y.is_empty() {
        return;
    }
    let sharpness = (1.0 / temperature) as f32;
    let rows = y.par_chunks_exact(CONTRASTS * snps).zip(delta.par_chunks_exact_mut(CLASSES * snps));
    rows.for_each(|(y, delta)| work(sharpness, &y[..snps], &y[snps..], delta));
}
