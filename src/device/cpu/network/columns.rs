//! What goes over the columns of a matrix, one animal of the batch a row.

use super::parts;
use crate::device::network::Accumulate;
use crate::simd::widest;

/// Numbers that one thread takes at a time.
const PART: usize = 1 << 16;
/// Columns whose sums one thread builds.
const WIDE: usize = 128;

/// `x += row`, for each of its rows.
pub(super) fn add_row(row: &[f32], x: &mut [f32]) {
    #[inline(always)]
    fn body(row: &[f32], x: &mut [f32]) {
        for x in x.chunks_exact_mut(row.len()) {
            x.iter_mut().zip(row).for_each(|(x, r)| *x += r);
        }
    }
    fn work(row: &[f32], x: &mut [f32]) {
        widest!(body(row, x), fn(row: &[f32], x: &mut [f32]))
    }
    if !row.is_empty() {
        parts(x, whole_rows(row.len()), |_, x| work(row, x));
    }
}

/// Numbers of whole rows of that width that one thread takes.
fn whole_rows(width: usize) -> usize {
    (PART / width).max(1) * width
}

/// Sums in f64 over the rows of `term(x, y, centre)`, rows in order.
fn add_up(x: &[f32], y: &[f32], centre: &[f32], accumulate: Accumulate, out: &mut [f32], term: Term) {
    let h = out.len();
    if h == 0 {
        return;
    }
    parts(out, if x.len() < PART { h } else { WIDE }, |start, out| {
        for (at, out) in out.chunks_mut(WIDE).enumerate() {
            let mut sums = [0.0; WIDE];
            let columns = start + at * WIDE..start + at * WIDE + out.len();
            for (x, y) in x.chunks_exact(h).zip(y.chunks_exact(h)) {
                term(&x[columns.clone()], &y[columns.clone()], &centre[columns.clone()], &mut sums);
            }
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = if accumulate == Accumulate::Add { f64::from(*out) + sum } else { sum } as f32;
            }
        }
    });
}

/// Adds to the sums the terms of one row: of x, y and what is by column.
type Term = fn(&[f32], &[f32], &[f32], &mut [f64; WIDE]);

/// Σ x.
pub(super) fn sums(x: &[f32], accumulate: Accumulate, out: &mut [f32]) {
    #[inline(always)]
    fn body(x: &[f32], sums: &mut [f64; WIDE]) {
        sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    fn term(x: &[f32], _: &[f32], _: &[f32], sums: &mut [f64; WIDE]) {
        widest!(body(x, sums), fn(x: &[f32], sums: &mut [f64; WIDE]))
    }
    let centre = vec![0.0; out.len()];
    add_up(x, x, &centre, accumulate, out, term);
}

/// Σ (x − centre)².
pub(super) fn squares(x: &[f32], centre: &[f32], out: &mut [f32]) {
    #[inline(always)]
    fn body(x: &[f32], centre: &[f32], sums: &mut [f64; WIDE]) {
        for ((sum, &x), &centre) in sums.iter_mut().zip(x).zip(centre) {
            let d = f64::from(x) - f64::from(centre);
            *sum += d * d;
        }
    }
    fn term(x: &[f32], _: &[f32], centre: &[f32], sums: &mut [f64; WIDE]) {
        widest!(body(x, centre, sums), fn(x: &[f32], centre: &[f32], sums: &mut [f64; WIDE]))
    }
    add_up(x, x, centre, Accumulate::Overwrite, out, term);
}

/// Σ x∘y.
pub(super) fn products(x: &[f32], y: &[f32], accumulate: Accumulate, out: &mut [f32]) {
    #[inline(always)]
    fn body(x: &[f32], y: &[f32], sums: &mut [f64; WIDE]) {
        for ((sum, &x), &y) in sums.iter_mut().zip(x).zip(y) {
            *sum += f64::from(x) * f64::from(y);
        }
    }
    fn term(x: &[f32], y: &[f32], _: &[f32], sums: &mut [f64; WIDE]) {
        widest!(body(x, y, sums), fn(x: &[f32], y: &[f32], sums: &mut [f64; WIDE]))
    }
    let centre = vec![0.0; out.len()];
    add_up(x, y, &centre, accumulate, out, term);
}

/// `x = (x − mean) · inverse_sd`.
pub(super) fn normalise(mean: &[f32], inverse_sd: &[f32], x: &mut [f32]) {
    #[inline(always)]
    fn body(mean: &[f32], inverse_sd: &[f32], x: &mut [f32]) {
        for x in x.chunks_exact_mut(mean.len()) {
            for ((x, mean), inverse_sd) in x.iter_mut().zip(mean).zip(inverse_sd) {
                *x = (*x - mean) * inverse_sd;
            }
        }
    }
    fn work(mean: &[f32], inverse_sd: &[f32], x: &mut [f32]) {
        widest!(body(mean, inverse_sd, x), fn(mean: &[f32], inverse_sd: &[f32], x: &mut [f32]))
    }
    if !mean.is_empty() {
        parts(x, whole_rows(mean.len()), |_, x| work(mean, inverse_sd, x));
    }
}

/// `delta = scale/sd ∘ (delta − sums/count − x̂ ∘ products/count)`; `of_column` is scale, 1/sd, sums, products.
pub(super) fn normalise_backward(x: &[f32], of_column: [&[f32]; 4], count: f64, delta: &mut [f32]) {
    #[inline(always)]
    fn body(x: &[f32], of_column: [&[f32]; 3], delta: &mut [f32]) {
        let [factor, sum, product] = of_column;
        let h = factor.len();
        for (delta, x) in delta.chunks_exact_mut(h).zip(x.chunks_exact(h)) {
            for c in 0..h {
                delta[c] = factor[c] * (delta[c] - sum[c] - x[c] * product[c]);
            }
        }
    }
    fn work(x: &[f32], of_column: [&[f32]; 3], delta: &mut [f32]) {
        widest!(body(x, of_column, delta), fn(x: &[f32], of_column: [&[f32]; 3], delta: &mut [f32]))
    }
    let [scale, inverse_sd, sums, products] = of_column;
    let factor: Vec<f32> = scale.iter().zip(inverse_sd).map(|(a, b)| a * b).collect();
    let mean = |sums: &[f32]| sums.iter().map(|s| (f64::from(*s) / count) as f32).collect::<Vec<f32>>();
    let (sum, product) = (mean(sums), mean(products));
    if !factor.is_empty() {
        parts(delta, whole_rows(factor.len()), |start, delta| {
            work(&x[start..][..delta.len()], [&factor, &sum, &product], delta);
        });
    }
}

/// `out = scale ∘ x + shift`.
pub(super) fn scale(x: &[f32], scale: &[f32], shift: &[f32], out: &mut [f32]) {
    #[inline(always)]
    fn body(x: &[f32], scale: &[f32], shift: &[f32], out: &mut [f32]) {
        let h = scale.len();
        for (out, x) in out.chunks_exact_mut(h).zip(x.chunks_exact(h)) {
            for c in 0..h {
                out[c] = scale[c] * x[c] + shift[c];
            }
        }
    }
    fn work(x: &[f32], scale: &[f32], shift: &[f32], out: &mut [f32]) {
        widest!(body(x, scale, shift, out), fn(x: &[f32], scale: &[f32], shift: &[f32], out: &mut [f32]))
    }
    if !scale.is_empty() {
        parts(out, whole_rows(scale.len()), |start, out| work(&x[start..][..out.len()], scale, shift, out));
    }
}
