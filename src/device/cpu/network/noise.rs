//! Random numbers, many blocks of Philox at once.

use super::{parts, widest};
use crate::device::network::Draw;
use crate::rng::Stream;

/// Blocks of four words that are drawn at once.
const BLOCKS: usize = 64;
/// Words that are drawn at once.
const WORDS: usize = 4 * BLOCKS;
/// Numbers that one thread takes at a time.
const PART: usize = 1 << 14;

/// Fills with uniform numbers.
pub(super) fn uniforms(draw: Draw, width: usize, out: &mut [f32]) {
    each(draw, width, 1, out, |words, out| {
        out.iter_mut().zip(words).for_each(|(out, &word)| *out = uniform(word) as f32);
    });
}

/// Fills with the uniform numbers from `number` of the stream on.
pub(super) fn row(draw: Draw, number: u64, out: &mut [f32]) {
    let whole = Draw { first_row: 0, first_column: number, columns: 0, ..draw };
    each(whole, out.len(), 1, out, |words, out| {
        out.iter_mut().zip(words).for_each(|(out, &word)| *out = uniform(word) as f32);
    });
}

/// Fills with standard normal deviates.
pub(super) fn normals(draw: Draw, width: usize, out: &mut [f32]) {
    each(draw, width, 2, out, |words, out| {
        for (out, words) in out.iter_mut().zip(words.as_chunks::<2>().0) {
            let [u, v] = words.map(uniform);
            *out = ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32;
        }
    });
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

/// Runs `work` on pieces of the rows with their random words, `per` for each entry.
fn each(draw: Draw, width: usize, per: u64, out: &mut [f32], work: impl Fn(&[u32], &mut [f32]) + Sync) {
    if width == 0 {
        return;
    }
    let stream = Stream::new(draw.seed, draw.purpose, draw.index);
    let piece = WORDS / 2 / per as usize;
    parts(out, (PART / width).max(1) * width, |start, out| {
        let mut words = [0; WORDS];
        for (r, out) in out.chunks_exact_mut(width).enumerate() {
            let row = draw.first_row + (start / width + r) as u64;
            let mut number = row * draw.columns + draw.first_column;
            for out in out.chunks_mut(piece) {
                let first = number * per;
                let block = u32::try_from(first / 4).expect("a matrix has fewer than 2^34 entries");
                let past = (first % 4) as usize;
                let count = past + out.len() * per as usize;
                stream.blocks(block, &mut words[..count.next_multiple_of(4)]);
                work(&words[past..count], out);
                number += out.len() as u64;
            }
        }
    });
}
