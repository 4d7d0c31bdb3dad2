//! Classes of genotypes, three numbers a SNP: drawn, costed, and decoded from packed calls.

use super::super::Held;
use super::functions::{exp, ln};
use super::{noise, parts};
use crate::device::network::{Draw, CLASSES};
use crate::packed::{Packed, MISSING, PER_BYTE};
use crate::simd::widest;
use rayon::prelude::*;
use std::ops::Range;

/// Numbers that one thread takes at a time: whole SNPs.
const PART: usize = CLASSES << 12;
/// SNPs whose codes are unpacked at once.
const BLOCK: usize = 256;

/// What stands before the softmax becomes it; gives ln Σ eˣ.
#[inline(always)]
fn shares(x: &mut [f32; CLASSES]) -> f32 {
    let larger = if x[1] > x[0] { x[1] } else { x[0] };
    let largest = if x[2] > larger { x[2] } else { larger };
    let powers = x.map(|x| exp(x - largest));
    let sum = powers[0] + powers[1] + powers[2];
    *x = powers.map(|p| p / sum);
    largest + ln(sum)
}

/// `x = softmax((x + g)/temperature)`, g Gumbel noise.
pub(super) fn softmax(temperature: f64, draw: Option<Draw>, width: usize, x: &mut [f32]) {
    fn work(sharpness: f32, words: &[u32], x: &mut [f32]) {
        #[inline(always)]
        fn body(sharpness: f32, words: &[u32], x: &mut [f32]) {
            for (x, &word) in x.iter_mut().zip(words) {
                *x -= ln(-ln(noise::single(word)));
            }
            for x in x.as_chunks_mut::<CLASSES>().0 {
                *x = x.map(|x| x * sharpness);
                shares(x);
            }
        }
        widest!(body(sharpness, words, x), fn(sharpness: f32, words: &[u32], x: &mut [f32]))
    }
    let sharpness = (1.0 / temperature) as f32;
    match draw {
        Some(draw) => noise::each(draw, width, 1, x, |words, x| work(sharpness, words, x)),
        None => parts(x, PART, |_, x| work(sharpness, &[], x)),
    }
}

/// `delta = y ∘ (delta − Σ y∘delta)/temperature`.
pub(super) fn softmax_backward(temperature: f64, y: &[f32], delta: &mut [f32]) {
    fn work(sharpness: f32, y: &[f32], delta: &mut [f32]) {
        #[inline(always)]
        fn body(sharpness: f32, y: &[f32], delta: &mut [f32]) {
            let (y, delta) = (y.as_chunks::<CLASSES>().0, delta.as_chunks_mut::<CLASSES>().0);
            for (y, d) in y.iter().zip(delta) {
                let along = y[0] * d[0] + y[1] * d[1] + y[2] * d[2];
                *d = std::array::from_fn(|c| y[c] * (d[c] - along) * sharpness);
            }
        }
        widest!(body(sharpness, y, delta), fn(sharpness: f32, y: &[f32], delta: &mut [f32]))
    }
    let sharpness = (1.0 / temperature) as f32;
    parts(delta, PART, |start, delta| work(sharpness, &y[start..][..delta.len()], delta));
}

/// `costs = factor · Σ −ln p` of the calls of some animals, `delta = factor · (p − X)`.
pub(super) fn cross_entropy(
    held: &Held,
    rows: &[u32],
    factor: f64,
    logits: &[f32],
    costs: &mut [f32],
    delta: &mut [f32],
) {
    fn work(factor: f32, codes: &[u8], x: &[f32], delta: &mut [f32], costs: &mut [f32]) {
        #[inline(always)]
        fn body(factor: f32, codes: &[u8], x: &[f32], delta: &mut [f32], costs: &mut [f32]) {
            let (x, delta) = (x.as_chunks::<CLASSES>().0, delta.as_chunks_mut::<CLASSES>().0);
            for (((&code, x), d), cost) in codes.iter().zip(x).zip(delta).zip(costs) {
                let mut p = *x;
                let whole = shares(&mut p);
                let own = if code == 2 { x[2] } else { x[usize::from(code == 1)] };
                let known = code != MISSING;
                *cost = if known { whole - own } else { 0.0 };
                *d = std::array::from_fn(|c| {
                    let one = if usize::from(code) == c { 1.0 } else { 0.0 };
                    if known {
                        factor * (p[c] - one)
                    } else {
                        0.0
                    }
                });
            }
        }
        widest!(
            body(factor, codes, x, delta, costs),
            fn(factor: f32, codes: &[u8], x: &[f32], delta: &mut [f32], costs: &mut [f32])
        )
    }
    let m = held.packed.columns();
    if m == 0 {
        return costs.fill(0.0);
    }
    let width = CLASSES * m;
    let numbers = logits.par_chunks_exact(width).zip(delta.par_chunks_exact_mut(width));
    rows.par_iter().zip(costs).zip(numbers).for_each(|((&i, cost), (x, delta))| {
        let (mut codes, mut each, mut sum) = ([0; BLOCK], [0.0; BLOCK], 0.0);
        for snps in blocks(0..m) {
            let (codes, each) = (&mut codes[..snps.len()], &mut each[..snps.len()]);
            let part = CLASSES * snps.start..CLASSES * snps.end;
            unpack(&held.packed, i, snps.start, codes);
            work(factor as f32, codes, &x[part.clone()], &mut delta[part], each);
            sum += each.iter().map(|&x| f64::from(x)).sum::<f64>();
        }
        *cost = (factor * sum) as f32;
    });
}

/// Pieces of at most [`BLOCK`] SNPs.
fn blocks(snps: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = snps.end;
    snps.step_by(BLOCK).map(move |start| start..(start + BLOCK).min(end))
}

/// The codes of animal i from SNP `first` on, a whole byte.
fn unpack(packed: &Packed, i: u32, first: usize, codes: &mut [u8]) {
    let bytes = &packed.row(i as usize)[first / PER_BYTE..];
    for (codes, byte) in codes.chunks_mut(PER_BYTE).zip(bytes) {
        codes.iter_mut().enumerate().for_each(|(s, code)| *code = byte >> (2 * s) & 3);
    }
}

/// Classes 1, then classes 2, of animal i at SNPs from a whole byte on, at most [`BLOCK`]; `zeros` (3 SNPs) is what
/// each zero becomes.
pub(super) fn decode(packed: &Packed, i: u32, snps: Range<usize>, zeros: &[f32], x: &mut [f32]) {
    fn work(codes: &[u8], zeros: &[f32], second: &mut [f32], third: &mut [f32]) {
        #[inline(always)]
        fn body(codes: &[u8], zeros: &[f32], second: &mut [f32], third: &mut [f32]) {
            let known = codes.iter().zip(zeros.as_chunks::<CLASSES>().0);
            for ((&code, zeros), (second, third)) in known.zip(second.iter_mut().zip(third)) {
                let zero = |c: u8| if code == c || code == MISSING { 0.0 } else { zeros[usize::from(c)] };
                let one = 1.0 - (zero(0) + zero(1) + zero(2));
                *second = if code == 1 { one } else { zero(1) };
                *third = if code == 2 { one } else { zero(2) };
            }
        }
        widest!(
            body(codes, zeros, second, third),
            fn(codes: &[u8], zeros: &[f32], second: &mut [f32], third: &mut [f32])
        )
    }
    let mut codes = [0; BLOCK];
    let codes = &mut codes[..snps.len()];
    unpack(packed, i, snps.start, codes);
    let (second, third) = x.split_at_mut(snps.len());
    work(codes, zeros, second, third);
}
