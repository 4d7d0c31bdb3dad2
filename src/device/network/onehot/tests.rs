//! One test body for every backend: each operation against its formula in f64, on the materialised matrix.

use super::*;
use crate::device::cuda;
use crate::device::network::tests::{backends, close, download, fresh, numbers, on, upload};
use crate::device::network::Network;
use crate::packed::Packed;
use crate::rng::{Purpose, Stream};
use std::sync::Arc;

const AMOUNT: f64 = 0.0234375; // f32 holds it

/// Calls of some animals, some of them missing, and a batch of them.
struct Batch {
    packed: Arc<Packed>,
    rows: Vec<u32>,
    calls: Vec<u8>, // (rows, m)
    m: usize,
}

impl Batch {
    fn new(n: usize, m: usize) -> Batch {
        let mut s = Stream::new(10, Purpose::Test, (n * m) as u64);
        let codes: Vec<u8> = (0..n * m).map(|_| if s.below(9) == 0 { 3 } else { s.below(3) as u8 }).collect();
        let packed = Arc::new(Packed::from_codes(n, m, &codes));
        let rows: Vec<u32> = (0..2 * n / 3 + 2).map(|_| s.below(n) as u32).collect();
        let calls = rows.iter().flat_map(|&i| codes[i as usize * m..][..m].to_vec()).collect();
        Batch { packed, rows, calls, m }
    }

    /// Materialised: (rows, 3m).
    fn matrix(&self, smooth: Option<&Smooth>) -> Vec<f64> {
        let width = CLASSES * self.m;
        let uniforms = smooth.map(|s| {
            let reference = crate::device::open("reference").unwrap();
            fresh(&*reference, self.rows.len() * width, |out| reference.uniforms(s.draw, width, out))
        });
        let noise = |at: usize| uniforms.as_ref().map_or(0.0, |u| AMOUNT * u[at]);
        let mut out = vec![0.0; self.rows.len() * width];
        for (at, &call) in self.calls.iter().enumerate().filter(|(_, &call)| call < 3) {
            let one = 3 * at + usize::from(call);
            for zero in (3 * at..3 * at + 3).filter(|&c| c != one) {
                out[zero] = noise(zero);
            }
            out[one] = 1.0 - (3 * at..3 * at + 3).filter(|&c| c != one).map(noise).sum::<f64>();
        }
        out
    }
}

fn draw(m: usize) -> Draw {
    let columns = (CLASSES * m + 15) as u64;
    Draw { seed: 4, purpose: Purpose::Smooth, index: 9, first_row: 2, first_column: 6, columns }
}

/// (animals, SNPs, columns): nothing; single; past a tile of animals and one of columns; around bytes and tiles of
/// SNPs; shares of the SNPs.
const SIZES: [(usize, usize, usize); 6] =
    [(4, 0, 3), (1, 1, 1), (200, 31, 130), (40, 130, 33), (70, 97, 64), (12, 530, 7)];

#[test]
fn products_with_classes_are_those_of_the_matrix() {
    for device in backends() {
        let precision = device.precision();
        products(&*device, [precision; 2], |x| x);
    }
}

/// What is rounded already is multiplied as it is, and so are classes; their noise is rounded to bfloat16.
#[test]
fn rounded_products_with_classes_are_those_of_the_rounded_matrix() {
    if cuda::count() > 0 {
        let device = crate::device::open("cuda-bf16").unwrap();
        products(&*device, [f64::from(f32::EPSILON), 1.0 / 4096.0], |x| {
            f64::from(f32::from_bits((x as f32).to_bits() & 0xFFFF_0000))
        });
    }
}

/// A sum, and what rounding is measured by: that of its terms' absolute values, were each class one.
type Sum = (f64, f64);

/// Of products x y.
fn sum(terms: impl Iterator<Item = (f64, f64)>) -> Sum {
    terms.fold((0.0, 0.0), |(sum, size), (x, y)| (sum + x * y, size + x.abs().max(1.0) * y.abs()))
}

/// All three classes of generated animals.
fn completed(made: &[f64], m: usize) -> Vec<f64> {
    let rows = made.chunks_exact((CONTRASTS * m).max(1));
    rows.flat_map(|y| (0..m).flat_map(|j| [1.0 - y[j] - y[m + j], y[j], y[m + j]])).collect()
}

fn near(device: &dyn Network, precision: f64, what: &str, found: &[f64], wanted: &[Sum]) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    for (at, (found, (sum, size))) in found.iter().zip(wanted).enumerate() {
        let most = 16.0 * precision * size;
        assert!((found - sum).abs() <= most, "{} {what} [{at}]: {found}, wanted {sum}", device.name());
    }
}

/// Both products, without and with noise, each as precise as told, of numbers rounded so.
fn products(device: &dyn Network, precisions: [f64; 2], rounded: fn(f64) -> f64) {
    let numbers =
        |length: usize, index: u64| -> Vec<f64> { numbers(length, index).into_iter().map(rounded).collect() };
    for (n, m, h) in SIZES {
        let batch = Batch::new(n, m);
        let (real, more, width) = (batch.rows.len(), if m > 0 { 3 } else { 0 }, CLASSES * m);
        let made = if m > 0 { 2 } else { 0 };
        let b = real + made;
        let (w, d, dense) = (numbers(width * h, 40), numbers((b + more) * h, 41), numbers(more * width, 42));
        // Of 64ths: rounding leaves them, and what they leave of one, as they are.
        let generated: Vec<f64> =
            numbers(made * CONTRASTS * m, 50).iter().map(|x| (x.abs() * 8.0).floor() % 32.0 / 64.0).collect();
        let (z, rows) = hold(device, &batch);
        let (vw, vd, vdense) = (upload(device, &w), upload(device, &d), upload(device, &dense));
        let vmade = upload(device, &generated);
        for (smooth, precision) in
            [None, Some(Smooth { amount: AMOUNT, draw: draw(m) })].into_iter().zip(precisions)
        {
            let smooth = smooth.as_ref();
            let mut x = batch.matrix(smooth);
            x.extend(completed(&generated, m));
            let forward: Vec<Sum> = (0..b * h)
                .map(|at| sum((0..width).map(|j| (x[at / h * width + j], w[j * h + at % h]))))
                .collect();
            let both = Animals { z: &z, rows: &rows, smooth, made: Some(vmade.whole()) };
            let alone = Animals { z: &z, rows: &rows, smooth, made: None };
            let none = device.rows(&[]).unwrap();
            let generated = Animals { z: &z, rows: &none, smooth: None, made: Some(vmade.whole()) };
            for (animals, wanted) in [(&both, 0..b * h), (&alone, 0..real * h), (&generated, real * h..b * h)]
            {
                let found =
                    fresh(device, wanted.len(), |out| device.onehot_times(animals, vw.whole(), h, out));
                near(device, precision, "onehot_times", &found, &forward[wanted]);
            }
            x.extend(&dense);
            let backward = |rows: usize| -> Vec<Sum> {
                let entry = |at: usize| sum((0..rows).map(|r| (x[r * width + at / h], d[r * h + at % h])));
                (0..width * h).map(entry).collect()
            };
            for (animals, rows) in [(&both, b), (&alone, real)] {
                let found = fresh(device, width * h, |out| {
                    let d = vd.part(0..rows * h);
                    device.onehot_transposed_times(animals, None, d, h, Accumulate::Overwrite, out)
                });
                near(device, precision, "onehot_transposed_times", &found, &backward(rows));
            }
            let start = numbers(width * h, 43);
            let found = on(device, &start, |out| {
                let (y, d) = (Some(vdense.whole()), vd.whole());
                device.onehot_transposed_times(&both, y, d, h, Accumulate::Add, out)
            });
            let stacked = backward(b + more).into_iter().zip(&start);
            let wanted: Vec<Sum> =
                stacked.map(|((sum, size), start)| (sum + start, size + start.abs())).collect();
            near(device, precision, "onehot_transposed_times, stacked", &found, &wanted);
        }
    }
}

fn hold(device: &dyn Network, batch: &Batch) -> (Genotypes, Rows) {
    let coding = vec![[0.0, 1.0, 2.0, 0.0]; batch.m];
    (device.hold(&batch.packed, &coding).unwrap(), device.rows(&batch.rows).unwrap())
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let sum: f64 = x.iter().map(|x| x.exp()).sum();
    x.iter().map(|x| x.exp() / sum).collect()
}

#[test]
fn softmax_forward_and_backward() {
    for (rows, m) in [(0, 2), (1, 1), (5, 33), (64, 130)] {
        let width = CLASSES * m;
        let (x, delta) = (numbers(rows * width, 44), numbers(rows * width, 45));
        let reference = crate::device::open("reference").unwrap();
        let uniforms = fresh(&*reference, rows * width, |out| reference.uniforms(draw(m), width, out));
        for (temperature, noisy) in [(1.0, false), (0.5, true), (0.125, true)] {
            let scaled: Vec<f64> = (0..rows * width)
                .map(|at| (x[at] + if noisy { -(-uniforms[at].ln()).ln() } else { 0.0 }) / temperature)
                .collect();
            let y: Vec<f64> = scaled.chunks(CLASSES).flat_map(softmax).collect();
            // The formula, which finite differences of the softmax of the first SNP confirm.
            let backward: Vec<f64> = (0..rows * width)
                .map(|at| {
                    let of = at / CLASSES * CLASSES..at / CLASSES * CLASSES + CLASSES;
                    let along: f64 = of.map(|c| y[c] * delta[c]).sum();
                    y[at] * (delta[at] - along) / temperature
                })
                .collect();
            if rows > 0 {
                let value = |step: f64| -> f64 {
                    let moved = [scaled[0] + step / temperature, scaled[1], scaled[2]];
                    softmax(&moved).iter().zip(&delta).map(|(y, d)| y * d).sum()
                };
                let slope = (value(1e-5) - value(-1e-5)) / 2e-5;
                assert!((slope - backward[0]).abs() < 1e-8, "{slope} {}", backward[0]);
            }
            for device in backends() {
                let device = &*device;
                let noise = noisy.then(|| draw(m));
                let found = on(device, &x, |x| device.softmax(temperature, noise, width, x));
                close(device, "softmax", &found, &y, 8, 20.0 / temperature);
                let vy = upload(device, &y);
                let found =
                    on(device, &delta, |delta| device.softmax_backward(temperature, vy.whole(), delta));
                close(device, "softmax_backward", &found, &backward, 4, 4.0 / temperature);
            }
        }
    }
}

#[test]
fn contrasts_tell_a_softmax_all() {
    for (rows, m, h) in [(0, 2, 3), (1, 1, 1), (5, 33, 4), (3, 600, 37)] {
        let (w, delta) = (numbers(CLASSES * m * h, 51), numbers(rows * CLASSES * m, 52));
        let row = |c: usize| (0..m * h).map(move |at| (at / h * CLASSES + c) * h + at % h);
        let wanted: Vec<f64> =
            [1, 2].into_iter().flat_map(|c| row(c).zip(row(0))).map(|(c, zero)| w[c] - w[zero]).collect();
        let logits = numbers(rows * CLASSES * m, 53);
        let two = |x: &[f64]| -> Vec<f64> {
            let rows = x.chunks_exact(CLASSES * m);
            rows.flat_map(|x| (0..CONTRASTS * m).map(|at| x[at % m * CLASSES + 1 + at / m])).collect()
        };
        let firsts: Vec<f64> = logits.chunks(CLASSES).flat_map(|x| x.iter().map(|y| y - x[0])).collect();
        for device in backends() {
            let device = &*device;
            let vw = upload(device, &w);
            let found = fresh(device, CONTRASTS * m * h, |out| device.contrasts(h, vw.whole(), out));
            close(device, "contrasts", &found, &wanted, 2, 2.0);
            for (temperature, noise) in [(1.0, None), (0.5, Some(draw(m))), (0.125, Some(draw(m)))] {
                let all = on(device, &logits, |x| device.softmax(temperature, noise, CLASSES * m, x));
                let found = on(device, &two(&firsts), |x| device.softmax_contrasts(temperature, noise, m, x));
                close(device, "softmax_contrasts", &found, &two(&all), 8, 40.0 / temperature);
                let (y, made) = (upload(device, &completed(&found, m)), upload(device, &found));
                let wanted = on(device, &delta, |d| device.softmax_backward(temperature, y.whole(), d));
                let found = on(device, &delta, |d| {
                    device.softmax_contrasts_backward(temperature, made.whole(), m, d)
                });
                close(device, "softmax_contrasts_backward", &found, &wanted, 4, 8.0 / temperature);
            }
        }
    }
}

#[test]
fn softmax_of_large_numbers_stays_finite() {
    for device in backends() {
        let found = on(&*device, &[1e4, -1e4, 0.0, -1e4, -1e4, -1e4], |x| device.softmax(0.1, None, 6, x));
        let third = 1.0 / 3.0;
        close(&*device, "softmax", &found, &[1.0, 0.0, 0.0, third, third, third], 4, 1.0);
    }
}

#[test]
fn classes_cost_what_their_logarithm_says() {
    for (n, m, _) in SIZES {
        let batch = Batch::new(n, m);
        let (b, width) = (batch.rows.len(), CLASSES * m);
        let logits = numbers(b * width, 46);
        let (mut costs, mut delta) = (vec![0.0; b], vec![0.0; b * width]);
        for (at, &call) in batch.calls.iter().enumerate().filter(|(_, &call)| call < 3) {
            let p = softmax(&logits[3 * at..3 * at + 3]);
            costs[at / m] -= 0.25 * p[usize::from(call)].ln();
            for c in 0..CLASSES {
                delta[3 * at + c] = 0.25 * (p[c] - if c == usize::from(call) { 1.0 } else { 0.0 });
            }
        }
        for device in backends() {
            let device = &*device;
            let (z, rows) = hold(device, &batch);
            let logits = upload(device, &logits);
            let (mut vcosts, mut vdelta) = (device.values(b).unwrap(), device.values(b * width).unwrap());
            let out = (vcosts.whole_mut(), vdelta.whole_mut());
            device.cross_entropy(&z, &rows, 0.25, logits.whole(), out.0, out.1).unwrap();
            close(device, "costs", &download(device, &vcosts), &costs, m, 3.0 * m as f64);
            close(device, "delta", &download(device, &vdelta), &delta, 8, 1.0);
        }
    }
}

#[test]
fn lengths_that_are_not_one_are_penalised() {
    for b in [0, 1, 5, 300] {
        let squares: Vec<f64> = numbers(b, 50).iter().map(|x| f64::from((x * x) as f32)).collect();
        let norms: Vec<f64> = squares.iter().map(|s| s.sqrt()).collect();
        let factors: Vec<f64> = norms.iter().map(|n| 0.3 * (n - 1.0) / n).collect();
        let sums = [norms.iter().map(|n| (n - 1.0).powi(2)).sum(), norms.iter().sum::<f64>()];
        for device in backends() {
            let device = &*device;
            let (vs, mut found) = (upload(device, &squares), device.values(2).unwrap());
            let of_rows =
                fresh(device, b, |out| device.gradient_penalty(0.3, vs.whole(), out, found.whole_mut()));
            close(device, "factors", &of_rows, &factors, 1, 1.0);
            close(device, "sums", &download(device, &found), &sums, 2, b as f64);
        }
    }
    for device in backends() {
        let zero = upload(&*device, &[0.0]);
        let mut sums = device.values(2).unwrap();
        let found =
            fresh(&*device, 1, |out| device.gradient_penalty(0.3, zero.whole(), out, sums.whole_mut()));
        assert!(found[0] < -1e30, "{}: {found:?}", device.name());
        assert_eq!(download(&*device, &sums), [1.0, 0.0]);
    }
}

#[test]
fn rows_are_measured_and_scaled() {
    for (rows, k) in [(1, 1), (3, 33), (64, 257), (5, 0), (7, 3000)] {
        let (x, factors, start) = (numbers(rows * k, 47), numbers(rows, 48), numbers(rows * k, 49));
        let squares: Vec<f64> =
            (0..rows).map(|r| x[r * k..(r + 1) * k].iter().map(|x| x * x).sum()).collect();
        let scaled: Vec<f64> = (0..rows * k).map(|at| factors[at / k] * x[at]).collect();
        let added: Vec<f64> = scaled.iter().zip(&start).map(|(a, b)| a + b).collect();
        for device in backends() {
            let device = &*device;
            let (vx, vf) = (upload(device, &x), upload(device, &factors));
            let found = fresh(device, rows, |out| device.row_squares(vx.whole(), out));
            close(device, "row_squares", &found, &squares, k, 2.0 * k as f64);
            let found = fresh(device, rows * k, |out| {
                device.scale_rows(vf.whole(), vx.whole(), Accumulate::Overwrite, out)
            });
            close(device, "scale_rows", &found, &scaled, 1, 8.0);
            let found =
                on(device, &start, |out| device.scale_rows(vf.whole(), vx.whole(), Accumulate::Add, out));
            close(device, "scale_rows, added", &found, &added, 2, 8.0);
            let short = device.values(rows + 1).unwrap();
            let mut out = device.values(rows * k).unwrap();
            let wrong = device.scale_rows(short.whole(), vx.whole(), Accumulate::Overwrite, out.whole_mut());
            assert!(wrong.is_err() || k == 0 || (rows * k).is_multiple_of(rows + 1));
        }
    }
}

/// Sums that are cut off instead of rounded lose bits to one side, which terms of one sign show.
#[test]
fn long_sums_of_classes_have_single_precision() {
    const LONG: usize = 4096;
    const MOST: f64 = 4e-6;
    const SNPS: usize = 20; // of the product over animals
    let (n, h) = (3, 5);
    let mut s = Stream::new(10, Purpose::Test, 51);
    let mut calls = |m: usize| -> Arc<Packed> {
        let codes: Vec<u8> = (0..n * m).map(|_| s.below(3) as u8).collect();
        Arc::new(Packed::from_codes(n, m, &codes))
    };
    let (wide, narrow) = (calls(LONG), calls(SNPS));
    let positive: Vec<f64> = numbers(CLASSES * LONG * h, 52).iter().map(|x| x.abs() + 0.5).collect();
    let all: Vec<u32> = (0..n as u32).collect();
    let many: Vec<u32> = (0..LONG as u32).map(|row| row % n as u32).collect();
    let sums = |device: &dyn Network, smooth: Option<&Smooth>| -> [Vec<f64>; 2] {
        let held = |packed: &Arc<Packed>| device.hold(packed, &vec![[0.0; 4]; packed.columns()]).unwrap();
        let (wide, narrow) = (held(&wide), held(&narrow));
        let (w, rows) = (upload(device, &positive), device.rows(&all).unwrap());
        let animals = Animals { z: &wide, rows: &rows, smooth, made: None };
        let forward = fresh(device, n * h, |out| device.onehot_times(&animals, w.whole(), h, out));
        let (d, rows) = (w.part(0..LONG * h), device.rows(&many).unwrap());
        let animals = Animals { z: &narrow, rows: &rows, smooth, made: None };
        let backward = fresh(device, CLASSES * SNPS * h, |out| {
            device.onehot_transposed_times(&animals, None, d, h, Accumulate::Overwrite, out)
        });
        [forward, backward]
    };
    for smooth in [None, Some(Smooth { amount: AMOUNT, draw: draw(LONG) })] {
        let wanted = sums(&*crate::device::open("reference").unwrap(), smooth.as_ref());
        for device in backends() {
            for (found, wanted) in sums(&*device, smooth.as_ref()).iter().zip(&wanted) {
                // Products round as sums over all classes of a SNP do.
                let largest = wanted.iter().fold(0.0f64, |a, w| a.max(*w));
                for (f, w) in found.iter().zip(wanted) {
                    assert!((f - w).abs() <= MOST * largest, "{}: {f}, wanted {w}", device.name());
                }
            }
        }
    }
}
