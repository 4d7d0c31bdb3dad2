//! One test body for every backend: each operation against its formula in f64.

use super::*;
use crate::device::{cuda, open, CHUNK};
use crate::packed::Packed;
use crate::rng::Stream;
use std::sync::Arc;

mod additive;

/// (rows, columns) with the reason.
const SHAPES: [(usize, usize); 6] = [
    (0, 3),    // an empty batch
    (1, 1),    // single
    (3, 33),   // the traits of the target, just past a warp
    (5, 4),    // a register
    (64, 32),  // whole tiles
    (70, 130), // around tiles each way
];

/// All of this machine: a GPU, or what stands for one (tests/shim), when CUDA finds it.
pub(super) fn backends() -> Vec<Arc<dyn Network>> {
    let gpu = (cuda::count() > 0).then_some("cuda");
    ["reference", "strict", "cpu"].into_iter().chain(gpu).map(|name| open(name).unwrap()).collect()
}

/// Standard normal numbers that f32 holds.
pub(super) fn numbers(length: usize, index: u64) -> Vec<f64> {
    let mut s = Stream::new(8, Purpose::Test, index);
    (0..length).map(|_| f64::from(s.normal() as f32)).collect()
}

pub(super) fn upload(b: &dyn Network, values: &[f64]) -> Values {
    let mut out = b.values(values.len()).unwrap();
    b.write(values, out.whole_mut()).unwrap();
    out
}

pub(super) fn download(b: &dyn Network, values: &Values) -> Vec<f64> {
    let mut out = vec![-7.0; values.len()];
    b.read(values.whole(), &mut out).unwrap();
    out
}

/// Each number within `terms` roundings of `size`.
pub(super) fn close(b: &dyn Network, what: &str, found: &[f64], wanted: &[f64], terms: usize, size: f64) {
    close_to(b, b.precision(), what, found, wanted, terms, size);
}

/// As [`close`], with a precision of one's own.
fn close_to(
    b: &dyn Network,
    precision: f64,
    what: &str,
    found: &[f64],
    wanted: &[f64],
    terms: usize,
    size: f64,
) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let most = (terms + 8) as f64 * precision * size;
    for (at, (f, w)) in found.iter().zip(wanted).enumerate() {
        let rounding = 4.0 * precision * w.abs();
        assert!((f - w).abs() <= most + rounding, "{} {what} [{at}]: {f}, wanted {w}", b.name());
    }
}

/// Runs an operation on a buffer that holds `start` and returns what it holds then.
pub(super) fn on(b: &dyn Network, start: &[f64], run: impl FnOnce(SliceMut) -> Result<()>) -> Vec<f64> {
    let mut buffer = upload(b, start);
    run(buffer.whole_mut()).unwrap();
    download(b, &buffer)
}

/// Runs an operation that fills a fresh buffer.
pub(super) fn fresh(b: &dyn Network, length: usize, run: impl FnOnce(SliceMut) -> Result<()>) -> Vec<f64> {
    let mut buffer = b.values(length).unwrap();
    run(buffer.whole_mut()).unwrap();
    download(b, &buffer)
}

#[test]
fn what_is_written_is_read_in_any_part() {
    for b in backends() {
        let mut v = upload(&*b, &numbers(10, 1));
        b.write(&[7.0, 8.0], v.part_mut(3..5)).unwrap();
        b.fill(2.5, v.part_mut(9..10)).unwrap();
        let other = upload(&*b, &[1.0, 2.0, 3.0]);
        b.copy(other.part(1..3), v.part_mut(0..2)).unwrap();
        b.add_scaled(2.0, other.part(0..1), v.part_mut(4..5)).unwrap();
        let mut wanted = numbers(10, 1);
        wanted.splice(3..5, [7.0, 10.0]);
        (wanted[0], wanted[1], wanted[9]) = (2.0, 3.0, 2.5);
        assert_eq!(download(&*b, &v), wanted, "{}", b.name());
        let mut singles = [0f32; 2];
        b.write_singles(&[0.1, -3.0], v.part_mut(5..7)).unwrap();
        b.read_singles(v.part(5..7), &mut singles).unwrap();
        assert_eq!(singles, [0.1, -3.0]);
        assert!(b.write(&[1.0], v.part_mut(0..2)).is_err() && b.read(v.part(0..1), &mut []).is_err());
    }
}

#[test]
fn products_with_chosen_animals_are_those_of_the_dense_matrix() {
    for b in backends() {
        gathers(&*b, b.precision(), |x| x);
    }
}

/// What is rounded already is multiplied as it is; genotypes here are short numbers anyway.
#[test]
fn rounded_products_with_chosen_animals_are_those_of_the_rounded_dense_matrix() {
    if cuda::count() > 0 {
        let b = open("cuda-bf16").unwrap();
        assert_eq!((b.name(), b.precision()), ("cuda-bf16", 1.0 / 128.0));
        gathers(&*b, f64::from(f32::EPSILON), |x| {
            f64::from(f32::from_bits((x as f32).to_bits() & 0xFFFF_0000))
        });
    }
}

fn gathers(b: &dyn Network, precision: f64, rounded: fn(f64) -> f64) {
    // animals, SNPs, columns: nothing; single; around bytes and chunks; several tiles; several shares of SNPs
    for (n, m, h) in
        [(4, 0, 3), (1, 1, 1), (9, 31, 5), (40, 257, 33), (70, 600, 64), (211, 140, 132), (3, 1500, 7)]
    {
        let mut s = Stream::new(9, Purpose::Test, (n * m) as u64);
        let codes: Vec<u8> = (0..n * m).map(|_| s.below(4) as u8).collect();
        let packed = Arc::new(Packed::from_codes(n, m, &codes));
        let coding: Vec<[f64; 4]> = (0..m).map(|j| [-0.5, 0.25 * (j % 3) as f64, 1.5, 0.0]).collect();
        let rows: Vec<u32> = (0..2 * n / 3 + 2).map(|_| s.below(n) as u32).collect();
        let z = |r: usize, j: usize| coding[j][usize::from(codes[rows[r] as usize * m + j])];
        let count = rows.len();
        let [w, d] = [(m * h, 2), (count * h, 3)]
            .map(|(length, index)| numbers(length, index).into_iter().map(rounded).collect::<Vec<f64>>());
        let forward: Vec<f64> =
            (0..count * h).map(|at| (0..m).map(|j| z(at / h, j) * w[j * h + at % h]).sum()).collect();
        let backward: Vec<f64> =
            (0..m * h).map(|at| (0..count).map(|r| z(r, at / h) * d[r * h + at % h]).sum()).collect();
        let twice: Vec<f64> = backward.iter().map(|x| 2.0 * x).collect();
        let (held, chosen) = (b.hold(&packed, &coding).unwrap(), b.rows(&rows).unwrap());
        let (w, d) = (upload(b, &w), upload(b, &d));
        let found = fresh(b, count * h, |out| b.gather_times(&held, &chosen, w.whole(), h, out));
        close_to(b, precision, "gather_times", &found, &forward, m, 4.0 * m as f64);
        let mut out = b.values(m * h).unwrap();
        for (accumulate, wanted) in [(Accumulate::Overwrite, &backward), (Accumulate::Add, &twice)] {
            b.gather_transposed_times(&held, &chosen, d.whole(), h, 0..m, accumulate, out.whole_mut())
                .unwrap();
            let found = download(b, &out);
            close_to(b, precision, "gather_transposed", &found, wanted, count, 4.0 * count as f64);
        }
        // Runs of SNPs give the bits of all of them, and write nothing else.
        let found = fresh(b, m * h, |out| {
            b.gather_transposed_times(&held, &chosen, d.whole(), h, 0..m, Accumulate::Overwrite, out)
        });
        let mut parts = b.values(m * h).unwrap();
        for first in (0..m).step_by(CHUNK) {
            b.fill(f64::NAN, parts.whole_mut()).unwrap();
            let snps = first..(first + 2 * CHUNK).min(m);
            let to = parts.part_mut(snps.start * h..snps.end * h);
            b.gather_transposed_times(&held, &chosen, d.whole(), h, snps.clone(), Accumulate::Overwrite, to)
                .unwrap();
            let run = snps.start * h..snps.end * h;
            for (at, x) in download(b, &parts).into_iter().enumerate() {
                let wanted = if run.contains(&at) { found[at] } else { f64::NAN };
                assert!(
                    x == wanted || x.is_nan() && wanted.is_nan(),
                    "{} {snps:?} [{at}]: {x} {wanted}",
                    b.name()
                );
            }
        }
        let mut few = b.values(h).unwrap();
        for snps in [m..m + 1, 1..2] {
            let to = few.whole_mut();
            let run =
                b.gather_transposed_times(&held, &chosen, d.whole(), h, snps, Accumulate::Overwrite, to);
            assert!(run.is_err());
        }
        let beyond = b.rows(&[n as u32]).unwrap();
        assert!(b.gather_times(&held, &beyond, w.whole(), h, b.values(h).unwrap().whole_mut()).is_err());
    }
}

/// Sums that are cut off instead of rounded lose bits to one side, which terms of one sign show.
#[test]
fn long_sums_of_terms_of_one_sign_have_single_precision() {
    const TERMS: usize = 4096;
    const MOST: f64 = 4e-6;
    const SNPS: usize = 64; // of the product over animals
    let positive =
        |length, index| -> Vec<f64> { numbers(length, index).iter().map(|x| x.abs() + 0.5).collect() };
    let near = |b: &dyn Network, what: &str, found: &[f64], wanted: &[f64]| {
        assert_eq!(found.len(), wanted.len());
        for (f, w) in found.iter().zip(wanted) {
            assert!((f - w).abs() <= MOST * w, "{} {what}: {f}, wanted {w}", b.name());
        }
    };
    let (m, n) = (33, 40);
    let (a, c) = (positive(m * TERMS, 31), positive(TERMS * n, 32));
    let shape = Product { m, n, k: TERMS, a_transposed: false, b_transposed: false };
    let dense: Vec<f64> =
        (0..m * n).map(|at| (0..TERMS).map(|l| a[at / n * TERMS + l] * c[l * n + at % n]).sum()).collect();
    let mut s = Stream::new(9, Purpose::Test, 33);
    let codes: Vec<u8> = (0..m * TERMS).map(|_| s.below(3) as u8).collect();
    let packed = Arc::new(Packed::from_codes(m, TERMS, &codes));
    let coding: Vec<[f64; 4]> = (0..TERMS).map(|j| [0.3, 0.9 + 0.01 * (j % 7) as f64, 1.7, 0.0]).collect();
    let z = |i: usize, j: usize| coding[j][usize::from(codes[i * TERMS + j])];
    let forward: Vec<f64> =
        (0..m * n).map(|at| (0..TERMS).map(|j| z(at / n, j) * c[j * n + at % n]).sum()).collect();
    let all: Vec<u32> = (0..m as u32).collect();
    let many: Vec<u32> = (0..TERMS as u32).map(|r| r % m as u32).collect();
    let backward: Vec<f64> =
        (0..SNPS * n).map(|at| (0..TERMS).map(|r| z(r % m, at / n) * c[r * n + at % n]).sum()).collect();
    for b in backends() {
        let (va, vc) = (upload(&*b, &a), upload(&*b, &c));
        let found =
            fresh(&*b, m * n, |out| b.product(shape, va.whole(), vc.whole(), Accumulate::Overwrite, out));
        near(&*b, "product", &found, &dense);
        let held = b.hold(&packed, &coding).unwrap();
        let rows = b.rows(&all).unwrap();
        let found = fresh(&*b, m * n, |out| b.gather_times(&held, &rows, vc.whole(), n, out));
        near(&*b, "gather_times", &found, &forward);
        let rows = b.rows(&many).unwrap();
        let found = fresh(&*b, SNPS * n, |out| {
            b.gather_transposed_times(&held, &rows, vc.whole(), n, 0..SNPS, Accumulate::Overwrite, out)
        });
        near(&*b, "gather_transposed_times", &found, &backward);
    }
}

/// As many SNPs as a dairy herd is genotyped for, and as many numbers.
#[test]
fn full_size_sums_of_terms_of_one_sign_have_single_precision() {
    const TERMS: usize = 50_161;
    const MOST: f64 = 4e-6;
    let (n, h) = (2, 3);
    let mut s = Stream::new(9, Purpose::Test, 34);
    let codes: Vec<u8> = (0..n * TERMS).map(|_| s.below(3) as u8).collect();
    let packed = Arc::new(Packed::from_codes(n, TERMS, &codes));
    let coding: Vec<[f64; 4]> = (0..TERMS).map(|j| [0.3, 0.9 + 0.01 * (j % 7) as f64, 1.7, 0.0]).collect();
    let z: Vec<f64> = (0..n * TERMS).map(|at| coding[at % TERMS][usize::from(codes[at])]).collect();
    let w: Vec<f64> = numbers(TERMS * h, 35).iter().map(|x| x.abs() + 0.5).collect();
    let wanted: Vec<f64> =
        (0..n * h).map(|at| (0..TERMS).map(|j| z[at / h * TERMS + j] * w[j * h + at % h]).sum()).collect();
    let shape = Product { m: n, n: h, k: TERMS, a_transposed: false, b_transposed: false };
    for b in backends() {
        let (vz, vw) = (upload(&*b, &z), upload(&*b, &w));
        let (held, rows) = (b.hold(&packed, &coding).unwrap(), b.rows(&[0, 1]).unwrap());
        let dense =
            fresh(&*b, n * h, |out| b.product(shape, vz.whole(), vw.whole(), Accumulate::Overwrite, out));
        let gathered = fresh(&*b, n * h, |out| b.gather_times(&held, &rows, vw.whole(), h, out));
        for (what, found) in [("product", dense), ("gather_times", gathered)] {
            for (f, w) in found.iter().zip(&wanted) {
                assert!((f - w).abs() <= MOST * w, "{} {what}: {f}, wanted {w}", b.name());
            }
        }
    }
}

#[test]
fn dense_products_are_those_of_the_definition() {
    for (m, n, k) in [(0, 3, 2), (3, 2, 0), (1, 1, 1), (5, 7, 3), (33, 65, 130), (130, 17, 64)] {
        let (a, c) = (numbers(m * k, 4), numbers(k * n, 5));
        for (a_transposed, b_transposed) in [(false, false), (true, false), (false, true), (true, true)] {
            let shape = Product { m, n, k, a_transposed, b_transposed };
            let of_a = |i: usize, l: usize| a[if a_transposed { l * m + i } else { i * k + l }];
            let of_b = |l: usize, j: usize| c[if b_transposed { j * k + l } else { l * n + j }];
            let wanted: Vec<f64> =
                (0..m * n).map(|at| (0..k).map(|l| of_a(at / n, l) * of_b(l, at % n)).sum()).collect();
            let more: Vec<f64> = wanted.iter().map(|x| x + 1.0).collect();
            for b in backends() {
                let (va, vc) = (upload(&*b, &a), upload(&*b, &c));
                let found = fresh(&*b, m * n, |out| {
                    b.product(shape, va.whole(), vc.whole(), Accumulate::Overwrite, out)
                });
                close(&*b, "product", &found, &wanted, k, 3.0 * k as f64);
                let found = on(&*b, &vec![1.0; m * n], |out| {
                    b.product(shape, va.whole(), vc.whole(), Accumulate::Add, out)
                });
                close(&*b, "product, added", &found, &more, k, 3.0 * k as f64);
            }
        }
    }
}

#[test]
fn rows_and_columns_are_added_up() {
    for (rows, h) in SHAPES {
        let (x, y, row) = (numbers(rows * h, 6), numbers(rows * h, 7), numbers(h, 8));
        let sums = |term: &dyn Fn(usize) -> f64| -> Vec<f64> {
            (0..h).map(|c| (0..rows).map(|r| term(r * h + c)).sum()).collect()
        };
        let added: Vec<f64> = (0..rows * h).map(|at| x[at] + row[at % h]).collect();
        for b in backends() {
            let (vx, vy, vrow) = (upload(&*b, &x), upload(&*b, &y), upload(&*b, &row));
            let found = on(&*b, &x, |x| b.add_row(vrow.whole(), x));
            close(&*b, "add_row", &found, &added, 1, 8.0);
            let found = fresh(&*b, h, |out| b.column_sums(vx.whole(), Accumulate::Overwrite, out));
            close(&*b, "column_sums", &found, &sums(&|at| x[at]), rows, rows as f64);
            let found = on(&*b, &row, |out| b.column_products(vx.whole(), vy.whole(), Accumulate::Add, out));
            let wanted: Vec<f64> = sums(&|at| x[at] * y[at]).iter().zip(&row).map(|(s, r)| s + r).collect();
            close(&*b, "column_products", &found, &wanted, rows, 2.0 * rows as f64 + 4.0);
            let found = fresh(&*b, h, |out| b.column_squares(vx.whole(), vrow.whole(), out));
            let wanted = sums(&|at| (x[at] - row[at % h]).powi(2));
            close(&*b, "column_squares", &found, &wanted, rows, 4.0 * rows as f64);
            let squares: f64 = x.iter().map(|x| x * x).sum();
            let found = fresh(&*b, 1, |out| b.sum_of_squares(vx.whole(), out));
            close(&*b, "sum_of_squares", &found, &[squares], 1, 1.0);
        }
    }
}

#[test]
fn activations_and_their_slopes() {
    for activation in [Activation::LeakyRelu(0.1), Activation::LeakyRelu(0.0), Activation::Gelu] {
        let x = numbers(333, 9);
        // By finite differences, away from the corner.
        for &x in x.iter().filter(|x| x.abs() > 1e-3) {
            let slope = (activation.at(x + 1e-5) - activation.at(x - 1e-5)) / 2e-5;
            assert!((slope - activation.slope(x)).abs() < 1e-9, "{activation:?} at {x}");
        }
        let delta = numbers(333, 10);
        let forward: Vec<f64> = x.iter().map(|&x| activation.at(x)).collect();
        let backward: Vec<f64> = x.iter().zip(&delta).map(|(&x, d)| d * activation.slope(x)).collect();
        for b in backends() {
            let vx = upload(&*b, &x);
            let found = fresh(&*b, 333, |out| b.activate(activation, vx.whole(), out));
            close(&*b, "activate", &found, &forward, 4, 1.0);
            let found = on(&*b, &delta, |delta| b.activate_backward(activation, vx.whole(), delta));
            close(&*b, "activate_backward", &found, &backward, 4, 3.0);
        }
    }
}

#[test]
fn normalised_columns_and_rows() {
    for (rows, h) in SHAPES {
        let (x, delta) = (numbers(rows * h, 11), numbers(rows * h, 12));
        let (mean, scale, shift) = (numbers(h, 13), numbers(h, 14), numbers(h, 15));
        let inverse: Vec<f64> = mean.iter().map(|m| f64::from((0.5 + m * m) as f32)).collect();
        let column = |at: usize| at % h;
        let normalised: Vec<f64> =
            (0..rows * h).map(|at| (x[at] - mean[column(at)]) * inverse[column(at)]).collect();
        let scaled: Vec<f64> =
            (0..rows * h).map(|at| scale[column(at)] * x[at] + shift[column(at)]).collect();
        let backward: Vec<f64> = (0..rows * h)
            .map(|at| {
                let c = column(at);
                let centred = delta[at] - shift[c] / 9.0 - x[at] * mean[c] / 9.0;
                scale[c] * inverse[c] * centred
            })
            .collect();
        let squares: Vec<f64> = x.iter().map(|x| f64::from((x * x) as f32)).collect();
        let by = |x: &[f64], f: fn(f64) -> f64| x.iter().map(|x| f(*x)).collect::<Vec<_>>();
        for b in backends() {
            let found = on(&*b, &x, |x| b.divide(7.0, x));
            close(&*b, "divide", &found, &by(&x, |x| x / 7.0), 0, 0.0);
            let found = on(&*b, &squares, |x| b.inverse_sd(7.0, 0.01, x));
            close(&*b, "inverse_sd", &found, &by(&squares, |x| 1.0 / (x / 7.0 + 0.01).sqrt()), 0, 0.0);
            let parts = [&x, &mean, &inverse, &scale, &shift].map(|v| upload(&*b, v));
            let [vx, vmean, vinverse, vscale, vshift] = parts;
            let found = on(&*b, &x, |x| b.normalise_columns(vmean.whole(), vinverse.whole(), x));
            close(&*b, "normalise_columns", &found, &normalised, 2, 40.0);
            let found =
                fresh(&*b, rows * h, |out| b.scale_columns(vx.whole(), vscale.whole(), vshift.whole(), out));
            close(&*b, "scale_columns", &found, &scaled, 2, 10.0);
            let found = on(&*b, &delta, |delta| {
                let (scale, inverse) = (vscale.whole(), vinverse.whole());
                let (sums, products) = (vshift.whole(), vmean.whole());
                b.normalise_columns_backward(vx.whole(), scale, inverse, sums, products, 9.0, delta)
            });
            close(&*b, "normalise_columns_backward", &found, &backward, 4, 60.0);
            by_rows(&*b, (rows, h), &x, &delta, &scale);
        }
    }
}

/// Layer normalisation forward, and backward by finite differences of the formula in f64.
fn by_rows(b: &dyn Network, (rows, h): (usize, usize), x: &[f64], delta: &[f64], scale: &[f64]) {
    const EPSILON: f64 = 0.1;
    let forward = |row: &[f64]| -> Vec<f64> {
        let mean = row.iter().sum::<f64>() / h as f64;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / h as f64;
        row.iter().map(|x| (x - mean) / (variance + EPSILON).sqrt()).collect()
    };
    let wanted: Vec<f64> = x.chunks(h).flat_map(forward).collect();
    let mut inverse = b.values(rows).unwrap();
    let found = on(b, x, |x| b.normalise_rows(EPSILON, x, inverse.whole_mut()));
    close(b, "normalise_rows", &found, &wanted, h, 4.0);
    let (normalised, vscale) = (upload(b, &found), upload(b, scale));
    let found = on(b, delta, |delta| {
        b.normalise_rows_backward(normalised.whole(), vscale.whole(), inverse.whole(), delta)
    });
    for at in 0..rows * h {
        let row = &x[at / h * h..][..h];
        // Σ γ δ x̂ of the row, as x at this place moves.
        let value = |step: f64| -> f64 {
            let mut moved = row.to_vec();
            moved[at % h] += step;
            let terms = forward(&moved).into_iter().enumerate();
            terms.map(|(c, x)| x * scale[c] * delta[at / h * h + c]).sum()
        };
        let slope = (value(1e-5) - value(-1e-5)) / 2e-5;
        let most = 1e-7 + 200.0 * (h + 10) as f64 * b.precision();
        assert!((found[at] - slope).abs() < most, "{} rows backward: {} {slope}", b.name(), found[at]);
    }
}

#[test]
fn losses_count_records_only() {
    let (rows, t) = (37, 5);
    let (predicted, mut observed) = (numbers(rows * t, 16), numbers(rows * t, 17));
    let weights: Vec<f64> = numbers(rows * t, 18).iter().map(|w| w.abs()).collect();
    // every third record is missing, and all of one trait
    (0..rows * t).filter(|at| at % 3 == 0 || at % t == 2).for_each(|at| observed[at] = f64::NAN);
    for (loss, weighted) in [(Loss::Squared, false), (Loss::Huber(1.0), true), (Loss::Huber(0.5), false)] {
        let weight = |at: usize| 0.25 * if weighted { weights[at] } else { 1.0 };
        let distance = |at: usize| predicted[at] - observed[at];
        let known = |at: &usize| !observed[*at].is_nan();
        let delta: Vec<f64> = (0..rows * t)
            .map(|at| if known(&at) { weight(at) * loss.slope(distance(at)) } else { 0.0 })
            .collect();
        let sums: Vec<f64> = (0..t)
            .map(|c| {
                let of_trait = (c..rows * t).step_by(t).filter(known);
                of_trait.map(|at| weight(at) * loss.at(distance(at))).sum()
            })
            .collect();
        assert_eq!(sums[2], 0.0);
        for b in backends() {
            let parts = [&predicted, &observed, &weights].map(|v| upload(&*b, v));
            let given = weighted.then(|| parts[2].whole());
            let (mut vdelta, mut vsums) = (b.values(rows * t).unwrap(), b.values(t).unwrap());
            let (out, total) = (vdelta.whole_mut(), vsums.whole_mut());
            b.loss(loss, 0.25, parts[0].whole(), parts[1].whole(), given, out, total).unwrap();
            close(&*b, "delta", &download(&*b, &vdelta), &delta, 2, 2.0);
            close(&*b, "sums", &download(&*b, &vsums), &sums, rows, 2.0 * rows as f64);
        }
    }
}

#[test]
fn adam_follows_the_paper() {
    let length = 1000;
    let w = numbers(length, 19);
    for b in backends() {
        let (mut parameters, mut first, mut second) =
            (upload(&*b, &w), upload(&*b, &vec![0.0; length]), upload(&*b, &vec![0.0; length]));
        let (mut wanted, mut m, mut v) = (w.clone(), vec![0.0; length], vec![0.0; length]);
        for step in 1..=3u64 {
            let g = numbers(length, 20 + step);
            // Of a length of 3 half is allowed in the first step, all in the second; in the third nobody asks.
            let (longest, scale) = [(Some(1.5), 0.5), (Some(3.5), 1.0), (None, 1.0)][step as usize - 1];
            let adam = Adam {
                learning_rate: 0.01,
                beta1: 0.9,
                beta2: 0.99,
                epsilon: 1e-8,
                l2: 0.1,
                weight_decay: 0.2,
                step,
            };
            for i in 0..length {
                let gradient = scale * g[i] + 0.1 * wanted[i];
                m[i] = 0.9 * m[i] + 0.1 * gradient;
                v[i] = 0.99 * v[i] + 0.01 * gradient * gradient;
                let (mean, square) =
                    (m[i] / (1.0 - 0.9f64.powi(step as i32)), v[i] / (1.0 - 0.99f64.powi(step as i32)));
                wanted[i] -= 0.01 * (mean / (square.sqrt() + 1e-8) + 0.2 * wanted[i]);
            }
            let gradient = upload(&*b, &g);
            let squares = upload(&*b, &[7.0, 2.0]);
            let clip = longest.map(|longest| Clip { longest, squares: squares.whole() });
            let moments = (first.whole_mut(), second.whole_mut());
            b.adam(&adam, clip, gradient.whole(), parameters.whole_mut(), moments.0, moments.1).unwrap();
        }
        close(&*b, "adam", &download(&*b, &parameters), &wanted, 20, 4.0);
        close(&*b, "first moment", &download(&*b, &first), &m, 20, 2.0);
        close(&*b, "second moment", &download(&*b, &second), &v, 20, 2.0);
    }
}

#[test]
fn random_numbers_do_not_depend_on_how_a_matrix_is_shared_out() {
    let (rows, columns) = (13, 37);
    let whole =
        Draw { seed: 3, purpose: Purpose::Test, index: 5, first_row: 0, first_column: 0, columns: 37 };
    let reference = open("reference").unwrap();
    let uniforms = fresh(&*reference, rows * columns, |out| reference.uniforms(whole, columns, out));
    let normals = fresh(&*reference, rows * columns, |out| reference.normals(whole, columns, out));
    let mut stream = Stream::new(3, Purpose::Test, 5);
    assert_eq!(uniforms[0], (f64::from(stream.next_u32() >> 9) + 0.5) / 8_388_608.0);
    let mean = normals.iter().sum::<f64>() / normals.len() as f64;
    assert!(mean.abs() < 0.2, "{mean}");
    for b in backends() {
        // rows 4..11, columns 10..31
        let part = Draw { first_row: 4, first_column: 10, ..whole };
        let of = |all: &[f64]| -> Vec<f64> {
            (0..7 * 21).map(|at| all[(4 + at / 21) * columns + 10 + at % 21]).collect()
        };
        assert_eq!(fresh(&*b, 7 * 21, |out| b.uniforms(part, 21, out)), of(&uniforms), "{}", b.name());
        let found = fresh(&*b, 7 * 21, |out| b.normals(part, 21, out));
        close(&*b, "normals", &found, &of(&normals), 8, 6.0);
        let x = numbers(7 * 21, 30);
        let found = on(&*b, &x, |x| b.dropout(0.3, part, 21, x));
        let wanted: Vec<f64> =
            of(&uniforms).iter().zip(&x).map(|(u, x)| if *u < 0.3 { 0.0 } else { x / 0.7 }).collect();
        close(&*b, "dropout", &found, &wanted, 2, 5.0);
    }
}
