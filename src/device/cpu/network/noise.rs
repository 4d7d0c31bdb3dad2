//! Random numbers, many blocks of Philox at once.

use super::functions::{cos_turn, ln};
use super::parts;
use crate::device::network::Draw;
use crate::rng::Stream;
use crate::simd::widest;

/// Words that are drawn at once: whole blocks of four, many of them.
const WORDS: usize = 1024;
/// Words that are used of them, whole threes and twos; they begin within a block.
const PIECE: usize = WORDS - 4;
/// Numbers that one thread takes at a time.
const PART: usize = 1 << 14;

/// Fills with uniform numbers.
pub(super) fn uniforms(draw: Draw, width: usize, out: &mut [f32]) {
    each(draw, width, 1, out, |words, out| scaled(1.0, words, out));
}

/// Fills with `amount` times the uniform numbers from `number` of the stream on.
pub(super) fn row(draw: Draw, number: u64, amount: f32, out: &mut [f32]) {
    let stream = Stream::new(draw.seed, draw.purpose, draw.index);
    pieces(&stream, number, 1, out, &|words, out| scaled(amount, words, out));
}

fn scaled(amount: f32, words: &[u32], out: &mut [f32]) {
    #[inline(always)]
    fn body(amount: f32, words: &[u32], out: &mut [f32]) {
        out.iter_mut().zip(words).for_each(|(out, &word)| *out = amount * single(word));
    }
    widest!(body(amount, words, out), fn(amount: f32, words: &[u32], out: &mut [f32]))
}

/// Fills with standard normal deviates, within 4 ulp of what the uniforms give.
pub(super) fn normals(draw: Draw, width: usize, out: &mut [f32]) {
    fn work(words: &[u32], out: &mut [f32]) {
        #[inline(always)]
        fn body(words: &[u32], out: &mut [f32]) {
            for (out, words) in out.iter_mut().zip(words.as_chunks::<2>().0) {
                let [u, v] = words.map(single);
                *out = (-2.0 * ln(u)).sqrt() * cos_turn(v);
            }
        }
        widest!(body(words, out), fn(words: &[u32], out: &mut [f32]))
    }
    each(draw, width, 2, out, work);
}

/// Sets entries whose uniform is below `rate` to 0 and divides the others by 1 − rate.
pub(super) fn dropout(rate: f64, draw: Draw, width: usize, x: &mut [f32]) {
    fn work(rate: f64, words: &[u32], x: &mut [f32]) {
        #[inline(always)]
        fn body(rate: f64, words: &[u32], x: &mut [f32]) {
            let factor = (1.0 / (1.0 - rate)) as f32;
            for (x, &word) in x.iter_mut().zip(words) {
                *x = if uniform(word) >= rate { *x * factor } else { 0.0 };
            }
        }
        widest!(body(rate, words, x), fn(rate: f64, words: &[u32], x: &mut [f32]))
    }
    each(draw, width, 1, x, |words, x| work(rate, words, x));
}

/// The word's upper 23 bits and a half, times 2⁻²³.
#[inline(always)]
fn uniform(word: u32) -> f64 {
    (f64::from(word >> 9) + 0.5) * (1.0 / 8_388_608.0)
}

/// The same: single precision holds it.
#[inline(always)]
pub(super) fn single(word: u32) -> f32 {
    ((word >> 9) as i32 as f32 + 0.5) * (1.0 / 8_388_608.0)
}

/// Runs `work` on pieces of the rows, whole threes, with their random words, `per` for each entry.
pub(super) fn each(
    draw: Draw,
    width: usize,
    per: u64,
    out: &mut [f32],
    work: impl Fn(&[u32], &mut [f32]) + Sync,
) {
    if width == 0 {
        return;
    }
    let stream = Stream::new(draw.seed, draw.purpose, draw.index);
    parts(out, (PART / width).max(1) * width, |start, out| {
        for (r, out) in out.chunks_exact_mut(width).enumerate() {
            let row = draw.first_row + (start / width + r) as u64;
            pieces(&stream, row * draw.columns + draw.first_column, per, out, &work);
        }
    });
}

/// Words of a stream from a place on, no more than [`WORDS`] less a block.
pub(super) fn words(stream: &Stream, first: u64, out: &mut [u32]) {
    let block = u32::try_from(first / 4).expect("a matrix has fewer than 2^34 entries");
    let (mut words, past) = ([0; WORDS], (first % 4) as usize);
    let words = &mut words[..(past + out.len()).next_multiple_of(4)];
    stream.blocks(block, words);
    out.copy_from_slice(&words[past..past + out.len()]);
}

/// The same for one row that begins with entry `number`.
fn pieces(stream: &Stream, mut number: u64, per: u64, out: &mut [f32], work: &impl Fn(&[u32], &mut [f32])) {
    let mut words = [0; WORDS];
    for out in out.chunks_mut(PIECE / per as usize) {
        let first = number * per;
        let block = u32::try_from(first / 4).expect("a matrix has fewer than 2^34 entries");
        let past = (first % 4) as usize;
        let count = past + out.len() * per as usize;
        stream.blocks(block, &mut words[..count.next_multiple_of(4)]);
        work(&words[past..count], out);
        number += out.len() as u64;
    }
}
