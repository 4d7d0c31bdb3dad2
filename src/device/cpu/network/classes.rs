//! One-hot genotypes: tiles of classes are filled from the packed calls, then multiplied with BLAS.

use super::super::Held;
use super::noise;
use super::tiles::product;
use crate::device::network::{Onto, Product, Smooth, CLASSES};
use crate::packed::{MISSING, PER_BYTE};
use rayon::prelude::*;
use std::ops::Range;

/// SNPs of a tile; a multiple of four.
const SNPS: usize = 256;

/// `out = X W`.
pub(super) fn times(
    held: &Held,
    rows: &[u32],
    smooth: Option<&Smooth>,
    w: &[f32],
    h: usize,
    out: &mut [f32],
) {
    if held.packed.columns() == 0 {
        return out.fill(0.0);
    }
    let mut tile = Vec::new();
    for snps in tiles(held) {
        let width = CLASSES * snps.len();
        fill(held, rows, smooth, snps.clone(), &mut tile);
        let shape = Product { m: rows.len(), n: h, k: width, a_transposed: false, b_transposed: false };
        let onto = if snps.start == 0 { Onto::Fresh } else { Onto::Sum };
        product(shape, &tile, &w[CLASSES * snps.start * h..][..width * h], onto, out);
    }
}

/// `out = [X; Y]' D` or `out += `.
#[allow(clippy::too_many_arguments)] // they are the terms of one formula
pub(super) fn transposed_times(
    held: &Held,
    rows: &[u32],
    smooth: Option<&Smooth>,
    dense: &[f32],
    d: &[f32],
    h: usize,
    onto: Onto,
    out: &mut [f32],
) {
    let all = CLASSES * held.packed.columns();
    let mut tile = Vec::new();
    for snps in tiles(held) {
        let (first, width) = (CLASSES * snps.start, CLASSES * snps.len());
        fill(held, rows, smooth, snps, &mut tile);
        dense.chunks_exact(all).for_each(|row| tile.extend_from_slice(&row[first..first + width]));
        let shape =
            Product { m: width, n: h, k: tile.len() / width, a_transposed: true, b_transposed: false };
        product(shape, &tile, d, onto, &mut out[first * h..][..width * h]);
    }
}

fn tiles(held: &Held) -> impl Iterator<Item = Range<usize>> {
    let m = held.packed.columns();
    (0..m).step_by(SNPS).map(move |start| start..(start + SNPS).min(m))
}

/// The classes of some animals at some SNPs from a whole byte on: `tile` (rows, 3 SNPs).
fn fill(held: &Held, rows: &[u32], smooth: Option<&Smooth>, snps: Range<usize>, tile: &mut Vec<f32>) {
    let width = CLASSES * snps.len();
    tile.clear();
    tile.resize(rows.len() * width, 0.0);
    tile.par_chunks_exact_mut(width).zip(rows).enumerate().for_each(|(r, (x, &i))| {
        if let Some(Smooth { amount, draw }) = smooth {
            let number = (draw.first_row + r as u64) * draw.columns + draw.first_column;
            noise::row(*draw, number + (CLASSES * snps.start) as u64, x);
            x.iter_mut().for_each(|x| *x *= *amount as f32);
        }
        let bytes = &held.packed.row(i as usize)[snps.start / PER_BYTE..];
        for (j, x) in x.as_chunks_mut::<CLASSES>().0.iter_mut().enumerate() {
            match bytes[j / PER_BYTE] >> (2 * (j % PER_BYTE)) & 3 {
                MISSING => *x = [0.0; CLASSES],
                call => {
                    let call = usize::from(call);
                    x[call] = 0.0;
                    x[call] = 1.0 - x.iter().sum::<f32>();
                }
            }
        }
    });
}
