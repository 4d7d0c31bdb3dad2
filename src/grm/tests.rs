//! The products and G against plain sums over a dense Z.

use super::*;
use crate::comm::layout::Grid;
use crate::comm::World;
use crate::device;
use crate::packed::Packed;
use crate::rng::{Purpose, Stream};
use ndarray::Array2;

/// Genotypes with one missing call in `every`; SNP 3 is monomorphic, SNP 5 has no call at all.
fn genotypes(n: usize, m: usize, every: usize) -> Packed {
    let mut s = Stream::new(8, Purpose::Test, (n * 1000 + m) as u64);
    let mut codes = vec![0u8; n * m];
    for (at, code) in codes.iter_mut().enumerate() {
        *code = match at % m {
            3 => 2,
            5 if every < usize::MAX => 3,
            _ if every < usize::MAX && s.below(every) == 0 => 3,
            j => (s.uniform() < 0.1 + 0.8 * (j as f64 / m as f64)) as u8 + (s.uniform() < 0.4) as u8,
        };
    }
    Packed::from_codes(n, m, &codes)
}

/// Z and c by the definitions, without the code under test.
fn dense(packed: &Packed, scaling: Scaling) -> (Array2<f64>, f64) {
    let (n, m) = (packed.rows(), packed.columns());
    let (mut z, mut c) = (Array2::zeros((n, m)), 0.0);
    let square = |x: f64| x * x;
    for j in 0..m {
        let called: Vec<f64> = (0..n).map(|i| packed.get(i, j)).filter(|&x| x < 3).map(f64::from).collect();
        let p = called.iter().sum::<f64>() / (2 * called.len()) as f64;
        let variance = 2.0 * p * (1.0 - p);
        if called.is_empty() || variance < 1e-12 {
            continue;
        }
        c += match scaling {
            Scaling::VanRaden1 => variance,
            Scaling::VanRaden2 => 1.0,
            Scaling::Dominance => square(variance),
        };
        for i in (0..n).filter(|&i| packed.get(i, j) < 3) {
            z[[i, j]] = match (scaling, packed.get(i, j)) {
                (Scaling::VanRaden1, x) => f64::from(x) - 2.0 * p,
                (Scaling::VanRaden2, x) => (f64::from(x) - 2.0 * p) / variance.sqrt(),
                (Scaling::Dominance, 2) => -2.0 * square(1.0 - p),
                (Scaling::Dominance, 1) => 2.0 * p * (1.0 - p),
                (Scaling::Dominance, _) => -2.0 * square(p),
            };
        }
    }
    (z, c)
}

fn markers(packed: Packed, scaling: Scaling, backend: &str) -> GenotypeMatrix {
    let (world, m) = (World::alone(), packed.columns());
    GenotypeMatrix::from_packed(&world, device::open(backend).unwrap(), packed, 0, m, scaling).unwrap()
}

fn largest_difference(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    (a - b).iter().fold(0.0, |largest, d| largest.max(d.abs()))
}

#[test]
fn markers_multiply_like_the_dense_matrix() {
    for backend in ["cpu", "strict"] {
        for scaling in Scaling::ALL {
            let packed = genotypes(40, 300, 9);
            let (z, c) = dense(&packed, scaling);
            let markers = markers(packed, scaling, backend);
            assert!((markers.scale() - c).abs() < 1e-12 * c);
            let mut s = Stream::new(1, Purpose::Test, 1);
            let v = Array2::from_shape_fn((300, 5), |_| s.normal());
            let w = Array2::from_shape_fn((40, 2), |_| s.normal());
            // 300 terms of size about 1 in f64: 300 eps is 7e-14; the largest z of method 2 is about 6
            assert!(largest_difference(&markers.times(v.view()), &z.dot(&v)) < 1e-12);
            assert!(largest_difference(&markers.transposed_times(w.view()), &z.t().dot(&w)) < 1e-12);
            let g = z.dot(&z.t()) / c;
            assert!(largest_difference(&markers.grm_times(w.view()), &g.dot(&w)) < 1e-12);
            for (found, wanted) in markers.diagonal().iter().zip(g.diag()) {
                assert!((found - wanted).abs() < 1e-12);
            }
        }
    }
}

#[test]
fn rough_products_are_those_of_every_fourth_group_of_snps() {
    let all = genotypes(90, 16_900, 30);
    let snps: Vec<usize> = (0..all.columns()).filter(|j| (j / 16).is_multiple_of(4)).collect();
    let some = all.select(&(0..90).collect::<Vec<_>>(), &snps);
    let mut s = Stream::new(4, Purpose::Test, 1);
    for scaling in [Scaling::VanRaden1, Scaling::VanRaden2] {
        let whole = markers(all.clone(), scaling, "cpu");
        for k in [1, 33] {
            let v = Array2::from_shape_simple_fn((90, k), || s.normal());
            let rough = whole.rough_grm_times(v.view()).unwrap();
            let want = markers(some.clone(), scaling, "cpu").grm_times(v.view());
            assert!(largest_difference(&rough, &want) < 1e-5, "{scaling:?} {k}");
            // What the others do is as before.
            let want = markers(all.clone(), scaling, "reference").grm_times(v.view());
            assert!(largest_difference(&whole.quick_grm_times(v.view()), &want) < 1e-5);
        }
        assert!(markers(all.clone(), scaling, "reference")
            .rough_grm_times(Array2::zeros((90, 1)).view())
            .is_none());
    }
}

#[test]
fn explicit_g_is_that_of_the_dense_matrix_with_few_and_many_missing_calls() {
    // 70: the integer identity with corrections; 5: the coded product; MAX: nothing to correct.
    // 1 and 5 animals: less than a tile; 300: several panels.
    for (n, m, every) in
        [(1, 20, usize::MAX), (5, 700, 200), (300, 260, usize::MAX), (300, 600, 90), (30, 50, 5)]
    {
        for scaling in Scaling::ALL {
            let packed = genotypes(n, m, every);
            let (z, c) = dense(&packed, scaling);
            if c == 0.0 {
                continue;
            }
            let g = explicit::grm(&markers(packed, scaling, "cpu")).unwrap().unwrap();
            let largest = largest_difference(&g, &(z.dot(&z.t()) / c));
            assert!(largest < 1e-11, "{scaling:?} {n} {m} {every}: {largest:e}");
            assert_eq!(g, g.t());
        }
    }
}

#[test]
fn the_frequencies_of_others_centre_and_scale() {
    let packed = genotypes(30, 260, 20);
    let given: Vec<f64> = (0..260).map(|j| if j == 7 { 0.0 } else { 0.2 + 0.002 * f64::from(j) }).collect();
    let (world, backend) = (World::alone(), device::open("cpu").unwrap());
    let scaling = Scaling::VanRaden1;
    let markers =
        GenotypeMatrix::with_frequencies(&world, backend, packed.clone(), 0, 260, scaling, given.clone())
            .unwrap();
    let c: f64 = given.iter().map(|p| 2.0 * p * (1.0 - p)).sum();
    assert!((markers.scale() - c).abs() < 1e-12 * c);
    let z = Array2::from_shape_fn((30, 260), |(i, j)| match packed.get(i, j) {
        3 => 0.0,
        _ if j == 7 => 0.0,
        x => f64::from(x) - 2.0 * given[j],
    });
    let g = explicit::grm(&markers).unwrap().unwrap();
    assert!(largest_difference(&g, &(z.dot(&z.t()) / c)) < 1e-12);
}

#[test]
fn a_number_that_is_not_finite_spoils_its_column_only() {
    let markers = markers(genotypes(10, 20, 9), Scaling::VanRaden1, "cpu");
    let mut v = Array2::ones((20, 3));
    v[[19, 1]] = f64::NAN;
    let out = markers.times(v.view());
    assert!(out.column(1).iter().all(|x| x.is_nan()));
    assert!(out.column(0).iter().chain(out.column(2)).all(|x| x.is_finite()));
}

#[test]
fn genotypes_without_variation_are_refused() {
    let backend = device::open("cpu").unwrap();
    let packed = Packed::from_codes(3, 2, &[2, 0, 2, 0, 2, 3]);
    let e = GenotypeMatrix::from_packed(&World::alone(), backend, packed, 0, 2, Scaling::VanRaden2)
        .err()
        .unwrap();
    assert_eq!(e.exit_code(), 2);
}

/// The definition of a matrix from a dense Z.
fn by_definition(packed: &Packed, method: Method) -> Array2<f64> {
    let (z, c) = dense(packed, method.scaling());
    let mut g = z.dot(&z.t()) / c;
    match method {
        Method::Product(_) => {}
        Method::Epistasis => {
            let mean = g.diag().iter().map(|d| d * d).sum::<f64>() / g.nrows() as f64;
            g.mapv_inplace(|x| x * x / mean);
        }
        Method::Yang => {
            let (mut sums, mut m) = (vec![0.0; g.nrows()], 0.0);
            for j in 0..packed.columns() {
                let x: Vec<f64> = (0..g.nrows()).map(|i| f64::from(packed.get(i, j))).collect();
                let called = || x.iter().filter(|&&x| x < 3.0);
                let p = called().sum::<f64>() / (2 * called().count()) as f64;
                if p > 0.0 && p < 1.0 {
                    m += 1.0;
                    for (sum, x) in sums.iter_mut().zip(&x).filter(|(_, &x)| x < 3.0) {
                        *sum += (x * x - (1.0 + 2.0 * p) * x + 2.0 * p * p) / (2.0 * p * (1.0 - p));
                    }
                }
            }
            g.diag_mut().iter_mut().zip(sums).for_each(|(g, sum)| *g = 1.0 + sum / m);
        }
    }
    g
}

#[test]
fn tiles_of_every_size_hold_every_method_by_its_definition() {
    for (n, m, every) in [(70, 500, 90), (33, 50, 5)] {
        for method in Method::ALL {
            let packed = genotypes(n, m, every);
            let wanted = by_definition(&packed, method);
            let markers = markers(packed, method.scaling(), "cpu");
            // 1: an animal each; 8: many tiles, the last short; 64 and 100: two and one
            for edge in [1, 8, 64, 100] {
                let deal = tiles::deal(n, edge, Grid::of(1));
                let tiles = summa::form_in(&markers, method, deal).unwrap();
                let count = tiles.tiles().count();
                assert_eq!(count, n.div_ceil(edge) * (n.div_ceil(edge) + 1) / 2, "the lower triangle");
                for tile in tiles.tiles() {
                    let block = wanted.slice(ndarray::s![tile.rows, tile.columns]).to_owned();
                    assert!(largest_difference(&tile.values.to_owned(), &block) < 1e-11, "{method:?}");
                }
                assert!(largest_difference(&tiles.gather().unwrap(), &wanted) < 1e-11, "{method:?}");
            }
        }
    }
}
