//! What goes over the rows of a matrix, one animal of the batch each.

use super::{entries, parts};
use crate::device::network::Accumulate;
use crate::simd::widest;
use rayon::prelude::*;

/// Numbers that one thread takes at a time.
const PART: usize = 1 << 16;

/// Σ x² of each row.
pub(super) fn squares(x: &[f32], out: &mut [f32]) {
    let k = x.len().checked_div(out.len()).unwrap_or(0);
    if k == 0 {
        return out.fill(0.0);
    }
    let rows = (PART / k).max(1);
    let each = |(out, x): (&mut [f32], &[f32])| {
        out.iter_mut().zip(x.chunks_exact(k)).for_each(|(out, x)| *out = entries::squares(x) as f32);
    };
    match x.len() {
        0..PART => each((out, x)),
        _ => out.par_chunks_mut(rows).zip(x.par_chunks(rows * k)).for_each(each),
    }
}

/// `out = factors ∘ x` or `out += ` by rows.
pub(super) fn scale(factors: &[f32], x: &[f32], accumulate: Accumulate, out: &mut [f32]) {
    fn work(factor: f32, x: &[f32], accumulate: Accumulate, out: &mut [f32]) {
        #[inline(always)]
        fn body(factor: f32, x: &[f32], accumulate: Accumulate, out: &mut [f32]) {
            match accumulate {
                Accumulate::Overwrite => out.iter_mut().zip(x).for_each(|(out, x)| *out = factor * x),
                Accumulate::Add => out.iter_mut().zip(x).for_each(|(out, x)| *out += factor * x),
            }
        }
        widest!(
            body(factor, x, accumulate, out),
            fn(factor: f32, x: &[f32], accumulate: Accumulate, out: &mut [f32])
        )
    }
    let k = x.len().checked_div(factors.len()).unwrap_or(0);
    if k == 0 {
        return;
    }
    parts(out, (PART / k).max(1) * k, |start, out| {
        let rows = out.chunks_exact_mut(k).zip(x[start..].chunks_exact(k)).zip(&factors[start / k..]);
        rows.for_each(|((out, x), &factor)| work(factor, x, accumulate, out));
    });
}
