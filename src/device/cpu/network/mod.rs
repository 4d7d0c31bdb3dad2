//! Networks on the processor, in f32.
//!
//! The SNP-snp_layer products run on tables in registers where there is AVX-512 ([`sums`]), elsewhere on tiles of
//! decoded genotypes with BLAS ([`tiles`]). What goes over single numbers is plain loops, compiled for the widest
//! registers found at run time.

mod classes;
mod columns;
mod contrasts;
mod entries;
mod functions;
mod noise;
mod onehot;
mod rows;
#[cfg(target_arch = "x86_64")]
mod sums;
#[cfg(test)]
mod tests;
mod tiles;

use super::Held;
use crate::device::network::{Accumulate, Activation, Adam, Classes, Draw, Given, Layers, Product};
use std::ops::Range;

impl Layers for Held {
    type Real = f32;

    fn value(&self, i: usize, j: usize) -> f64 {
        self.tables.coding(j)[usize::from(self.packed.get(i, j))]
    }

    fn snps(&self) -> usize {
        self.packed.columns()
    }

    fn gather_times(&self, rows: &[u32], w: &[f32], h: usize, out: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        if sums::possible() {
            return sums::times(self, rows, w, h, out);
        }
        tiles::times(self, rows, w, h, out);
    }

    fn gather_transposed_times(
        &self,
        rows: &[u32],
        d: &[f32],
        h: usize,
        snps: Range<usize>,
        accumulate: Accumulate,
        out: &mut [f32],
    ) {
        #[cfg(target_arch = "x86_64")]
        if sums::possible() {
            return sums::transposed_times(self, rows, d, h, snps, accumulate, out);
        }
        tiles::transposed_times(self, rows, d, h, snps, accumulate, out);
    }

    fn product(shape: Product, a: &[f32], b: &[f32], accumulate: Accumulate, out: &mut [f32]) {
        tiles::product(shape, a, b, accumulate, out);
    }

    fn blend(keep: f64, factor: f64, x: &[f32], y: &mut [f32]) {
        entries::blend(keep, factor, x, y);
    }

    fn add_row(row: &[f32], x: &mut [f32]) {
        columns::add_row(row, x);
    }

    fn column_sums(x: &[f32], accumulate: Accumulate, out: &mut [f32]) {
        columns::sums(x, accumulate, out);
    }

    fn column_squares(x: &[f32], centre: &[f32], out: &mut [f32]) {
        columns::squares(x, centre, out);
    }

    fn column_products(x: &[f32], y: &[f32], accumulate: Accumulate, out: &mut [f32]) {
        columns::products(x, y, accumulate, out);
    }

    fn activate(activation: Activation, x: &[f32], out: &mut [f32]) {
        entries::activate(activation, x, out);
    }

    fn activate_backward(activation: Activation, x: &[f32], delta: &mut [f32]) {
        entries::activate_backward(activation, x, delta);
    }

    fn dropout(rate: f64, draw: Draw, width: usize, x: &mut [f32]) {
        noise::dropout(rate, draw, width, x);
    }

    fn normalise_columns(mean: &[f32], inverse_sd: &[f32], x: &mut [f32]) {
        columns::normalise(mean, inverse_sd, x);
    }

    fn normalise_columns_backward(normalised: &[f32], of_column: [&[f32]; 4], count: f64, delta: &mut [f32]) {
        columns::normalise_backward(normalised, of_column, count, delta);
    }

    fn scale_columns(x: &[f32], scale: &[f32], shift: &[f32], out: &mut [f32]) {
        columns::scale(x, scale, shift, out);
    }

    fn sum_of_squares(x: &[f32]) -> f64 {
        entries::sum_of_squares(x)
    }

    fn adam(
        adam: &Adam,
        scale: f64,
        gradient: &[f32],
        parameters: &mut [f32],
        first: &mut [f32],
        second: &mut [f32],
    ) {
        entries::adam(adam, scale, gradient, parameters, [first, second]);
    }

    fn uniforms(draw: Draw, width: usize, out: &mut [f32]) {
        noise::uniforms(draw, width, out);
    }

    fn normals(draw: Draw, width: usize, out: &mut [f32]) {
        noise::normals(draw, width, out);
    }
}

impl Classes for Held {
    fn call(&self, i: usize, j: usize) -> u8 {
        self.packed.get(i, j)
    }

    fn onehot_times(&self, animals: &Given<f32>, w: &[f32], h: usize, out: &mut [f32]) {
        onehot::times(self, animals, w, h, out);
    }

    fn onehot_transposed_times(
        &self,
        animals: &Given<f32>,
        dense: &[f32],
        d: &[f32],
        h: usize,
        accumulate: Accumulate,
        out: &mut [f32],
    ) {
        onehot::transposed_times(self, animals, dense, d, h, accumulate, out);
    }

    fn softmax(temperature: f64, noise: Option<Draw>, width: usize, x: &mut [f32]) {
        classes::softmax(temperature, noise, width, x);
    }

    fn softmax_backward(temperature: f64, y: &[f32], delta: &mut [f32]) {
        classes::softmax_backward(temperature, y, delta);
    }

    fn contrasts(h: usize, w: &[f32], out: &mut [f32]) {
        contrasts::contrasts(h, w, out);
    }

    fn softmax_contrasts(temperature: f64, noise: Option<Draw>, snps: usize, x: &mut [f32]) {
        contrasts::softmax(temperature, noise, snps, x);
    }

    fn softmax_contrasts_backward(temperature: f64, y: &[f32], snps: usize, delta: &mut [f32]) {
        contrasts::softmax_backward(temperature, y, snps, delta);
    }

    fn cross_entropy(&self, rows: &[u32], factor: f64, logits: &[f32], costs: &mut [f32], delta: &mut [f32]) {
        classes::cross_entropy(self, rows, factor, logits, costs, delta);
    }

    fn row_squares(x: &[f32], out: &mut [f32]) {
        rows::squares(x, out);
    }

    fn scale_rows(factors: &[f32], x: &[f32], accumulate: Accumulate, out: &mut [f32]) {
        rows::scale(factors, x, accumulate, out);
    }
}

/// Runs `work(start, part)` on parts of `size` numbers that begin at `start`, in parallel if there are several.
fn parts(out: &mut [f32], size: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    use rayon::prelude::*;
    if out.len() <= size {
        return work(0, out);
    }
    out.par_chunks_mut(size).enumerate().for_each(|(at, out)| work(at * size, out));
}
