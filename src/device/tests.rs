//! One test body for every backend.

use super::*;
use crate::rng::{Purpose, Stream};

/// (n, m) with the reason.
const SIZES: [(usize, usize); 11] = [
    (0, 0),     // nothing at all
    (0, 5),     // no animals
    (5, 0),     // a rank that owns no SNP
    (1, 1),     // single
    (3, 3),     // less than a byte
    (4, 32),    // whole bytes and words
    (33, 31),   // around a word
    (129, 255), // just past a row tile, just short of a chunk
    (128, 256), // whole tiles
    (7, 257),   // one SNP in a second chunk
    (300, 700), // several tiles each way, both with a rest
];

fn genotypes(n: usize, m: usize) -> (Arc<Packed>, Vec<Coding>) {
    let mut s = Stream::new(3, Purpose::Test, (n * 10_000 + m) as u64);
    // Every tenth call is missing; SNP 1 is all missing, SNP 2 monomorphic.
    let call = |s: &mut Stream, j: usize| match j {
        1 => 3,
        2 => 2,
        _ if s.below(10) == 0 => 3,
        _ => s.below(3) as u8,
    };
    let codes: Vec<u8> = (0..n * m).map(|at| call(&mut s, at % m.max(1))).collect();
    let coding = (0..m)
        .map(|_| {
            let (p, scale) = (s.uniform(), 0.5 + s.uniform());
            [-2.0 * p * scale, (1.0 - 2.0 * p) * scale, (2.0 - 2.0 * p) * scale, 0.0]
        })
        .collect();
    (Arc::new(Packed::from_codes(n, m, &codes)), coding)
}

/// Z as plain numbers, (n, m).
fn dense(packed: &Packed, coding: &[Coding]) -> Vec<f64> {
    let (n, m) = (packed.rows(), packed.columns());
    (0..n * m).map(|at| coding[at % m][usize::from(packed.get(at / m, at % m))]).collect()
}

fn normals(length: usize, index: u64) -> Vec<f64> {
    let mut s = Stream::new(4, Purpose::Test, index);
    (0..length).map(|_| s.normal()).collect()
}

/// Sums of `terms` numbers of absolute sum `size` in any order differ by at most terms·eps·size (Higham 2002,
/// eq. 3.5); the rounding to quanta adds far less.
fn close(found: f64, wanted: f64, terms: usize, size: f64) -> bool {
    (found - wanted).abs() <= (terms + 2) as f64 * f64::EPSILON * size
}

/// All of this machine: a GPU, or what stands for one (tests/shim), when CUDA finds it.
fn backends() -> Vec<Arc<dyn Network>> {
    let gpu = (cuda::count() > 0).then_some("cuda");
    ["cpu", "strict", "reference"].into_iter().chain(gpu).map(|name| open(name).unwrap()).collect()
}

#[test]
fn products_with_z_are_those_of_the_dense_matrix() {
    for backend in backends() {
        // the last: more animals than a GPU adds up one after another
        for (n, m) in SIZES.into_iter().chain([(2100, 9)]) {
            let (packed, coding) = genotypes(n, m);
            let (z, held) = (dense(&packed, &coding), backend.hold(&packed, &coding).unwrap());
            // 0: nothing; 1, 3, 4, 5: around one register; 33: the traits of the target
            for k in [0, 1, 3, 4, 5, 33] {
                let v = normals(m * k, 1);
                let points = vec![FixedPoint::for_bound(100.0 * m as f64); k];
                let mut sums = backend.sums(n * k).unwrap();
                backend.times(&held, &backend.upload(v.clone()).unwrap(), &points, &mut sums).unwrap();
                let found = backend.download_sums(sums).unwrap();
                for (at, &s) in found.iter().enumerate() {
                    let terms: Vec<f64> = (0..m).map(|j| z[at / k * m + j] * v[j * k + at % k]).collect();
                    let size: f64 = terms.iter().map(|t| t.abs()).sum();
                    let (sum, found) = (terms.iter().sum(), points[0].real(s));
                    assert!(close(found, sum, m, size + 100.0), "{} times {n} {m} {k}", backend.name());
                }

                let w = normals(n * k, 2);
                let mut out = backend.reals(m * k).unwrap();
                backend.transposed_times(&held, &backend.upload(w.clone()).unwrap(), k, &mut out).unwrap();
                let mut found = vec![f64::NAN; m * k];
                backend.download(&out, &mut found).unwrap();
                for (at, &x) in found.iter().enumerate() {
                    let terms: Vec<f64> = (0..n).map(|i| z[i * m + at / k] * w[i * k + at % k]).collect();
                    let size: f64 = terms.iter().map(|t| t.abs()).sum();
                    assert!(close(x, terms.iter().sum(), n, size), "{} Z'V {n} {m} {k}", backend.name());
                }
            }
        }
    }
}

#[test]
fn sums_by_code_are_exact_with_every_backend() {
    for backend in backends() {
        // Around halves of blocks of SNPs, steps of a GPU's blocks, its stretches of a sample and its eight columns.
        for (n, m) in SIZES.into_iter().chain([(9000, 130)]) {
            let mut s = Stream::new(8, Purpose::Test, (n * 10_000 + m) as u64);
            let (packed, _) = genotypes(n, m);
            let lines = by_code::Lines::of(&packed.transposed(), &(0..m as u32).collect::<Vec<_>>());
            let mut sample = |size: usize, columns: usize| {
                let size = if n == 0 { 0 } else { size };
                let animals: Vec<u32> = (0..size).map(|_| s.below(n) as u32).collect();
                let values: Vec<i8> =
                    (0..size * columns).map(|_| (s.below(255) as i32 - 127) as i8).collect();
                (animals, values)
            };
            let sizes = [(0, 1), (1, 1), (127, 2), (129, 7), (40, 8), (n, 1)];
            let drawn: Vec<_> = sizes.map(|(size, columns)| sample(size, columns)).into();
            let samples: Vec<by_code::Sample> =
                drawn.iter().map(|(animals, values)| by_code::Sample { animals, values }).collect();
            let fresh = || samples.iter().map(|s| vec![-1; m * s.width()]).collect::<Vec<_>>();
            let (mut wanted, mut found) = (fresh(), fresh());
            samples.iter().zip(&mut wanted).for_each(|(sample, out)| by_code::plain(&lines, sample, out));
            // Lines that a GPU holds are asked twice.
            for _ in 0..2 {
                backend.sums_by_code(&lines, &samples, &mut found).unwrap();
                assert!(found == wanted, "{} {n} {m}", backend.name());
            }
            let short = &mut fresh()[1..];
            assert!(backend.sums_by_code(&lines, &samples, short).is_err());
        }
    }
}

#[test]
fn the_largest_terms_are_the_same_with_every_backend() {
    for backend in backends() {
        for (m, k) in [(0, 3), (1, 1), (20, 0), (20, 70), (513, 33), (9000, 5)] {
            let weights: Vec<f64> = normals(m, 5).iter().map(|w| w.abs()).collect();
            let mut v = normals(m * k, 6);
            // A column without numbers, one that is infinite, and one of zeros.
            for (row, column, x) in [(7, 0, f64::NAN), (m.max(1) - 1, 4, f64::NEG_INFINITY)] {
                if row < m && column < k {
                    v[row * k + column] = x;
                }
            }
            v.iter_mut().skip(2).step_by(k.max(1)).filter(|_| k > 2).for_each(|x| *x = 0.0);
            let term = |at: usize| match v[at].is_finite() {
                true => weights[at / k] * v[at].abs(),
                false => f64::INFINITY,
            };
            let wanted: Vec<f64> =
                (0..k).map(|c| (c..m * k).step_by(k).map(term).fold(0.0, f64::max)).collect();
            let [w, there] = [&weights, &v].map(|x| backend.upload(x.clone()).unwrap());
            assert_eq!(backend.largest(&w, &there, k).unwrap(), wanted, "{} {m} {k}", backend.name());
            assert!(backend.largest(&w, &there, k + 1).is_err() || m == 0);
        }
    }
}

/// Longer than what a GPU's copies go through, by two threads at once, of which one has to find another way.
#[test]
fn long_buffers_come_back_as_they_were() {
    for backend in backends() {
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let backend = &backend;
                scope.spawn(move || {
                    for length in [131_071, 131_072, 2_500_001] {
                        let numbers: Vec<f64> =
                            (0..length).map(|i| f64::from(i) + f64::from(thread)).collect();
                        let there = backend.upload(numbers.clone()).unwrap();
                        let mut found = vec![0.0; numbers.len()];
                        backend.download(&there, &mut found).unwrap();
                        assert!(found == numbers, "{} {length}", backend.name());
                    }
                });
            }
        });
    }
}

#[test]
fn tiles_are_those_of_the_dense_matrix() {
    for backend in backends() {
        for (n, m) in SIZES {
            let (packed, coding) = genotypes(n, m);
            let (z, held) = (dense(&packed, &coding), backend.hold(&packed, &coding).unwrap());
            let x: Vec<i32> =
                (0..n * m).map(|at| [0, 1, 2, 0][usize::from(packed.get(at / m, at % m))]).collect();
            for (a, b) in [(0..n, 0..n), (n / 3..n, 0..n / 2), (n..n, 0..n)] {
                let size = a.len() * b.len();
                let point = FixedPoint::for_bound(9.0 * m as f64);
                let (mut found, mut cross) = (vec![-1; size], backend.sums(size).unwrap());
                backend.counts(&held, a.clone(), b.clone(), Part::Whole, &mut found).unwrap();
                backend.cross(&held, a.clone(), b.clone(), point, &mut cross).unwrap();
                let coded = backend.download_sums(cross).unwrap();
                for at in 0..size {
                    let (i, l) = (a.start + at / b.len(), b.start + at % b.len());
                    let count: i32 = (0..m).map(|j| x[i * m + j] * x[l * m + j]).sum();
                    assert_eq!(found[at], count, "{} counts {n} {m}", backend.name());
                    let sum: f64 = (0..m).map(|j| z[i * m + j] * z[l * m + j]).sum();
                    // no entry of Z exceeds 3, so no product exceeds 9
                    assert!(close(point.real(coded[at]), sum, m, 9.0 * m as f64), "{}", backend.name());
                }
            }
        }
    }
}

#[test]
fn sums_over_chunks_do_not_depend_on_how_the_snps_are_shared_out() {
    for backend in backends() {
        let (packed, coding) = genotypes(50, 700);
        for k in [2, 9] {
            let v = normals(700 * k, 3);
            let points = vec![FixedPoint::for_bound(1e4); k];
            let part = |snps: Range<usize>, sums: &mut Sums| {
                let columns: Vec<usize> = snps.clone().collect();
                let rows: Vec<usize> = (0..50).collect();
                let mine = Arc::new(packed.select(&rows, &columns));
                let held = backend.hold(&mine, &coding[snps.clone()]).unwrap();
                let v = backend.upload(v[snps.start * k..snps.end * k].to_vec()).unwrap();
                backend.times(&held, &v, &points, sums).unwrap();
            };
            let (mut whole, mut parts) = (backend.sums(50 * k).unwrap(), backend.sums(50 * k).unwrap());
            part(0..700, &mut whole);
            part(512..700, &mut parts);
            part(0..256, &mut parts);
            part(256..512, &mut parts);
            let [a, b] = [whole, parts].map(|sums| backend.download_sums(sums).unwrap());
            assert_eq!(a, b, "{} {k}", backend.name());
        }
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let backend = open("cpu").unwrap();
    let (packed, coding) = genotypes(300, 700);
    let held = backend.hold(&packed, &coding).unwrap();
    let run = |threads: usize, k: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (v, w) = (normals(700 * k, 5), normals(300 * k, 6));
            let mut sums = backend.sums(300 * k).unwrap();
            let mut out = backend.reals(700 * k).unwrap();
            let points = vec![FixedPoint::for_bound(1e4); k];
            backend.times(&held, &backend.upload(v.clone()).unwrap(), &points, &mut sums).unwrap();
            backend.transposed_times(&held, &backend.upload(w.clone()).unwrap(), k, &mut out).unwrap();
            let mut b = vec![0.0; 700 * k];
            backend.download(&out, &mut b).unwrap();
            (backend.download_sums(sums).unwrap(), b)
        })
    };
    for k in [1, 33] {
        assert_eq!(run(1, k), run(3, k));
    }
}

#[test]
fn wrong_sizes_and_foreign_buffers_are_errors() {
    let (cpu, strict) = (open("cpu").unwrap(), open("strict").unwrap());
    let (packed, coding) = genotypes(4, 8);
    for backend in backends() {
        assert!(backend.hold(&packed, &coding[1..]).is_err());
        let held = backend.hold(&packed, &coding).unwrap();
        let points = [FixedPoint::for_bound(1.0); 2];
        let (v, w) = (backend.upload(vec![0.0; 16]).unwrap(), backend.upload(vec![0.0; 8]).unwrap());
        assert!(backend.times(&held, &w, &points, &mut backend.sums(8).unwrap()).is_err());
        assert!(backend.times(&held, &v, &points, &mut backend.sums(7).unwrap()).is_err());
        assert!(backend.transposed_times(&held, &v, 2, &mut backend.reals(16).unwrap()).is_err());
        assert!(backend.transposed_times(&held, &w, 2, &mut backend.reals(15).unwrap()).is_err());
        assert!(backend.counts(&held, 0..2, 3..5, Part::Whole, &mut [0; 4]).is_err());
        assert!(backend.counts(&held, 0..2, 2..4, Part::Lower, &mut [0; 5]).is_err());
        assert!(backend.cross(&held, 0..2, 2..4, points[0], &mut backend.sums(5).unwrap()).is_err());
        assert!(backend.download(&v, &mut [0.0; 3]).is_err());
    }
    let mut back = [0.0; 3];
    let e = cpu.download(&strict.upload(vec![1.0; 3]).unwrap(), &mut back).unwrap_err();
    assert!(e.to_string().contains("another backend"));
}

#[test]
fn a_strict_buffer_is_not_filled_with_zeros() {
    let strict = open("strict").unwrap();
    let mut fresh = [0.0; 2];
    strict.download(&strict.reals(2).unwrap(), &mut fresh).unwrap();
    assert!(fresh.iter().all(|x| x.is_nan()));
}

#[test]
fn names_choose_backends_and_unknown_ones_are_the_users_mistake() {
    let best = if cuda::count() > 0 { "cuda" } else { "cpu" };
    assert_eq!(open("auto").unwrap().name(), best);
    let e = open("gpu").err().unwrap();
    assert_eq!(e.exit_code(), 2);
    assert!(e.to_string().contains("reference"), "{e}");
    if cuda::count() == 0 {
        let e = open("cuda").err().unwrap();
        assert_eq!(e.exit_code(), 2);
        assert!(e.to_string().contains("--device cpu"), "{e}");
    }
}

/// Z' W by the quick product, (SNPs, k).
fn quick_along(backend: &dyn Network, z: &Genotypes, w: &[f64], k: usize) -> Vec<f64> {
    let mut out = backend.reals(z.columns() * k).unwrap();
    backend.quick_transposed_times(z, &backend.upload(w.to_vec()).unwrap(), k, &mut out).unwrap();
    let mut found = vec![f64::NAN; out.len()];
    backend.download(&out, &mut found).unwrap();
    found
}

/// Within a chunk, sums of 256 numbers in f32 (24 bits) by the bound of Higham (2002, eq. 3.5), and rarely near it.
#[test]
fn quick_products_are_good_to_single_precision_on_any_number_of_threads() {
    for backend in backends() {
        for (n, m) in SIZES {
            let (packed, coding) = genotypes(n, m);
            // additive at first, as the quick product by SNP wants them; then any
            let straight: Vec<Coding> = coding.iter().map(|c| [c[0], c[1], 2.0 * c[1] - c[0], 0.1]).collect();
            for coding in [straight, coding] {
                let (z, held) = (dense(&packed, &coding), backend.hold(&packed, &coding).unwrap());
                for k in [0, 1, 9, 33] {
                    // columns of very different size
                    let unlike = |x: Vec<f64>| -> Vec<f64> {
                        x.iter()
                            .enumerate()
                            .map(|(at, x)| x * 10f64.powi(at as i32 % k.max(1) as i32 * 3 - 40))
                            .collect()
                    };
                    let (v, w) = (unlike(normals(m * k, 1)), unlike(normals(n * k, 2)));
                    let point =
                        |c: usize| FixedPoint::for_bound(100.0 * m as f64 * 10f64.powi(c as i32 * 3 - 40));
                    let points: Vec<FixedPoint> = (0..k).map(point).collect();
                    let mut sums = backend.sums(n * k).unwrap();
                    backend
                        .quick_times(&held, &backend.upload(v.clone()).unwrap(), &points, &mut sums)
                        .unwrap();
                    let found = backend.download_sums(sums).unwrap();
                    for (at, &s) in found.iter().enumerate() {
                        let terms: Vec<f64> = (0..m).map(|j| z[at / k * m + j] * v[j * k + at % k]).collect();
                        let size: f64 = terms.iter().map(|t| t.abs()).sum();
                        let (sum, found) = (terms.iter().sum::<f64>(), points[at % k].real(s));
                        let quantum = points[at % k].quantum() * 4096.0 * m as f64;
                        assert!(
                            (found - sum).abs() <= 2e-6 * size + quantum,
                            "{} {n} {m} {k}",
                            backend.name()
                        );
                    }
                    for (at, &x) in quick_along(&*backend, &held, &w, k).iter().enumerate() {
                        let terms: Vec<f64> = (0..n).map(|i| z[i * m + at / k] * w[i * k + at % k]).collect();
                        // the counts, not the centred values, are summed
                        let size: f64 = (0..n).map(|i| 8.0 * w[i * k + at % k].abs()).sum();
                        let sum: f64 = terms.iter().sum();
                        assert!(
                            (x - sum).abs() <= 2e-6 * size,
                            "{} Z'V {n} {m} {k}: {x} {sum}",
                            backend.name()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn quick_products_have_the_same_bits_on_any_number_of_threads_and_parts() {
    let backend = open("cpu").unwrap();
    let (n, m, k) = (1500, 700, 19);
    let (packed, coding) = genotypes(n, m);
    let coding: Vec<Coding> = coding.iter().map(|c| [c[0], c[1], 2.0 * c[1] - c[0], 0.0]).collect();
    let (v, w) = (normals(m * k, 5), normals(n * k, 6));
    let run = |threads: usize, cut: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let points = vec![FixedPoint::for_bound(1e4); k];
            let mut sums = backend.sums(n * k).unwrap();
            let mut all = Vec::new();
            for snps in [0..cut, cut..m] {
                let columns: Vec<usize> = snps.clone().collect();
                let mine = Arc::new(packed.select(&(0..n).collect::<Vec<_>>(), &columns));
                let held = backend.hold(&mine, &coding[snps.clone()]).unwrap();
                let v = backend.upload(v[snps.start * k..snps.end * k].to_vec()).unwrap();
                backend.quick_times(&held, &v, &points, &mut sums).unwrap();
                all.extend(quick_along(&*backend, &held, &w, k));
            }
            (backend.download_sums(sums).unwrap(), all)
        })
    };
    let whole = run(1, 0);
    assert_eq!(whole, run(3, 256));
    assert_eq!(whole, run(2, 512));
}

/// Recoded genotypes are those that are held anew, also where SNPs of whole chunks, of parts of them, or all drop out.
#[test]
fn recoded_genotypes_multiply_as_those_held_anew() {
    let backend = open("cpu").unwrap();
    let (n, m, k) = (300, 700, 11);
    let (packed, coding) = genotypes(n, m);
    let straight: Vec<Coding> = coding.iter().map(|c| [c[0], c[1], 2.0 * c[1] - c[0], 0.0]).collect();
    let only = |stays: &dyn Fn(usize) -> bool| -> Vec<Coding> {
        straight.iter().enumerate().map(|(j, c)| if stays(j) { *c } else { [0.0; 4] }).collect()
    };
    let codings = [
        only(&|j| (j / 16).is_multiple_of(4)),
        only(&|j| !(256..512).contains(&j)),
        only(&|j| j == 3),
        only(&|_| false),
    ];
    let held = backend.hold(&packed, &straight).unwrap();
    let products = |z: &Genotypes| {
        let points = vec![FixedPoint::for_bound(1e4); k];
        let mut sums = backend.sums(n * k).unwrap();
        let v = backend.upload(normals(m * k, 5)).unwrap();
        backend.quick_times(z, &v, &points, &mut sums).unwrap();
        (backend.download_sums(sums).unwrap(), quick_along(&*backend, z, &normals(n * k, 6), k))
    };
    let before = products(&held);
    for coding in codings {
        let recoded = backend.recoded(&held, &coding).unwrap().unwrap();
        let (sums, along) = products(&recoded);
        let anew = products(&backend.hold(&packed, &coding).unwrap());
        assert_eq!((&sums, &along), (&anew.0, &anew.1));
        let z = dense(&packed, &coding);
        let (v, w) = (normals(m * k, 5), normals(n * k, 6));
        for (i, c) in [(0, 0), (17, 3), (n - 1, k - 1)] {
            let want: f64 = (0..m).map(|j| z[i * m + j] * v[j * k + c]).sum();
            assert!((FixedPoint::for_bound(1e4).real(sums[i * k + c]) - want).abs() < 1e-2);
        }
        for (j, c) in [(3, 0), (300, 3), (m - 1, k - 1)] {
            let want: f64 = (0..n).map(|i| z[i * m + j] * w[i * k + c]).sum();
            assert!((along[j * k + c] - want).abs() < 1e-3);
        }
    }
    assert_eq!(products(&held), before);
    assert!(backend.recoded(&held, &vec![[0.0, 1.0, 0.5, 0.1]; m]).unwrap().is_none());
    let strict = open("strict").unwrap();
    let held = strict.hold(&packed, &straight).unwrap();
    assert!(strict.recoded(&held, &straight).unwrap().is_none());
    assert!(strict.recoded(&held, &straight[1..]).is_err());
}
