//! What the shared test body does not tell: bits over threads, and the two kinds of SNP-snp_layer products.

use super::*;
use crate::device::host::Arithmetic;
use crate::device::network::{Smooth, CLASSES, CONTRASTS};
use crate::packed::Packed;
use crate::rng::{Purpose, Stream};
use std::sync::Arc;

fn numbers(length: usize, index: u64) -> Vec<f32> {
    let mut s = Stream::new(4, Purpose::Test, index);
    (0..length).map(|_| s.normal() as f32).collect()
}

/// Genotypes whose coding is a straight line, the rarer allele counted or the other, or none; some calls missing.
fn held(n: usize, m: usize) -> Held {
    let mut s = Stream::new(4, Purpose::Test, (n * m) as u64);
    let codes: Vec<u8> = (0..n * m)
        .map(|_| {
            let kinds = if s.below(9) == 0 { 4 } else { 3 };
            s.below(kinds) as u8
        })
        .collect();
    let coding: Vec<[f64; 4]> = (0..m)
        .map(|j| match j % 3 {
            0 => [-0.25, 1.0, 2.25, 0.0],
            1 => [-2.0, -0.75, 0.5, 0.125],
            _ => [0.5, -1.0, 3.0, -0.5],
        })
        .collect();
    Held::hold(&Arc::new(Packed::from_codes(n, m, &codes)), &coding)
}

/// Everything that runs in parallel, on sizes past one task each way.
fn run(held: &Held, threads: usize) -> Vec<Vec<f32>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let (m, h) = (held.snps(), 70);
        let rows: Vec<u32> = (0..203).map(|r| r * 7 % 90).collect();
        let (w, d) = (numbers(m * h, 1), numbers(rows.len() * h, 2));
        let mut forward = vec![f32::NAN; rows.len() * h];
        held.gather_times(&rows, &w, h, &mut forward);
        let mut backward = numbers(m * h, 3);
        held.gather_transposed_times(&rows, &d, h, 0..m, Accumulate::Add, &mut backward);
        let shape = Product { m: 300, n: 515, k: 97, a_transposed: true, b_transposed: false };
        let mut dense = vec![f32::NAN; 300 * 515];
        let (a, b) = (numbers(97 * 300, 4), numbers(97 * 515, 5));
        Held::product(shape, &a, &b, Accumulate::Overwrite, &mut dense);
        let mut sums = vec![0.0; 515];
        Held::column_products(&dense, &dense, Accumulate::Overwrite, &mut sums);
        let draw =
            Draw { seed: 1, purpose: Purpose::Test, index: 2, first_row: 3, first_column: 5, columns: 600 };
        let mut dropped = dense.clone();
        Held::dropout(0.4, draw, 515, &mut dropped);
        let squares = vec![Held::sum_of_squares(&dense) as f32];
        vec![forward, backward, dense, sums, dropped, squares]
    })
}

/// The same of one-hot genotypes.
fn run_classes(held: &Held, threads: usize) -> Vec<Vec<f32>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let (width, h, more) = (CLASSES * held.snps(), 70, 40);
        let rows: Vec<u32> = (0..103).map(|r| r * 7 % 90).collect();
        let draw = Draw {
            seed: 1,
            purpose: Purpose::Test,
            index: 4,
            first_row: 3,
            first_column: 6,
            columns: width as u64 + 9,
        };
        let smooth = Smooth { amount: 0.025, draw };
        let (w, d) = (numbers(width * h, 11), numbers((rows.len() + more) * h, 12));
        let made = numbers(20 * CONTRASTS * held.snps(), 16);
        let animals = Given { rows: &rows, smooth: Some(&smooth), made: &made };
        let mut forward = vec![f32::NAN; (rows.len() + 20) * h];
        held.onehot_times(&animals, &w, h, &mut forward);
        let (y, mut backward) = (numbers((more - 20) * width, 13), numbers(width * h, 14));
        held.onehot_transposed_times(&animals, &y, &d, h, Accumulate::Add, &mut backward);
        let mut classes = numbers(rows.len() * width, 15);
        let (mut costs, mut delta) = (vec![f32::NAN; rows.len()], vec![f32::NAN; classes.len()]);
        held.cross_entropy(&rows, 0.5, &classes, &mut costs, &mut delta);
        Held::softmax(0.3, Some(draw), width, &mut classes);
        Held::softmax_backward(0.3, &classes, &mut delta);
        let (mut two, mut three) = (made.clone(), numbers(20 * width, 17));
        Held::softmax_contrasts(0.3, Some(draw), held.snps(), &mut two);
        Held::softmax_contrasts_backward(0.3, &two, held.snps(), &mut three);
        let mut squares = vec![f32::NAN; rows.len()];
        Held::row_squares(&delta, &mut squares);
        let mut scaled = classes.clone();
        Held::scale_rows(&squares, &classes, Accumulate::Add, &mut scaled);
        let mut normals = vec![f32::NAN; classes.len()];
        Held::normals(draw, width, &mut normals);
        vec![forward, backward, classes, costs, delta, squares, scaled, normals, two, three]
    })
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let held = held(90, 700);
    let one = run(&held, 1);
    assert!(one.iter().flatten().all(|x| x.is_finite()));
    for threads in [2, 5] {
        assert_eq!(run(&held, threads), one, "{threads} threads");
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit_of_classes() {
    let held = held(90, 700);
    let one = run_classes(&held, 1);
    assert!(one.iter().flatten().all(|x| x.is_finite()));
    for threads in [2, 5] {
        assert!(run_classes(&held, threads) == one, "{threads} threads");
    }
}

#[test]
fn tables_in_registers_and_tiles_with_blas_agree() {
    // around a chunk of SNPs, a tile of animals and a line of columns; batches past one block of animals
    for (n, m, h, b) in [(5, 95, 15, 63), (40, 97, 17, 65), (9, 193, 4, 2), (30, 12, 33, 520)] {
        let held = held(n, m);
        let rows: Vec<u32> = (0..b as u32).map(|r| r * 3 % n as u32).collect();
        let (w, d) = (numbers(m * h, 6), numbers(b * h, 7));
        let close = |a: &[f32], b: &[f32], size: usize| {
            let most = 1e-5 * (size as f32).sqrt();
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < most), "{n} {m} {h} {size}");
        };
        let (mut tiled, mut best) = (vec![f32::NAN; b * h], vec![f32::NAN; b * h]);
        tiles::times(&held, &rows, &w, h, &mut tiled);
        held.gather_times(&rows, &w, h, &mut best);
        close(&tiled, &best, m);
        for accumulate in [Accumulate::Overwrite, Accumulate::Add] {
            let (mut tiled, mut best) = (numbers(m * h, 8), numbers(m * h, 8));
            tiles::transposed_times(&held, &rows, &d, h, 0..m, accumulate, &mut tiled);
            held.gather_transposed_times(&rows, &d, h, 0..m, accumulate, &mut best);
            close(&tiled, &best, b);
        }
    }
}
