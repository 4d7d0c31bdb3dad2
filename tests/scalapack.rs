//! Dense matrices over grids of ranks, even and uneven.

mod support;

use genialearn::comm::layout::Grid;
use genialearn::comm::World;
use genialearn::linalg::factor;
use genialearn::linalg::matrix::{DistMatrix, BLOCK};
use genialearn::linalg::scalapack::{Cholesky, Eigen};
use ndarray::{Array1, Array2};
use support::on_ranks;

/// The grids that the ranks can stand in: nearly square, upright, flat.
fn grids(world: &World) -> Vec<Grid> {
    let ranks = world.size();
    (1..=ranks).filter(|r| ranks.is_multiple_of(*r)).map(|r| Grid::new(r, ranks / r)).collect()
}

#[test]
fn every_element_has_one_owner_and_comes_back_in_its_place() {
    on_ranks("every_element_has_one_owner_and_comes_back_in_its_place", &[1, 2, 5, 6], |world| {
        for grid in grids(world) {
            // nothing; fewer blocks than ranks; a rest in both dimensions; whole blocks
            for (shape, block) in [((0, 3), 2), ((3, 2), 4), ((37, 23), 4), ((24, 24), 2)] {
                let formula = |i: usize, k: usize| (1000 * i + k) as f64;
                let mut m = DistMatrix::from_fn(world, grid, shape, block, formula).unwrap();
                for tile in m.tiles() {
                    assert_eq!(m.owner(tile.rows.start, tile.columns.start), world.rank());
                    let values = m.tile(&tile);
                    assert_eq!(values.dim(), (tile.rows.len(), tile.columns.len()));
                }
                let mut owned = [m.local().len() as i64];
                world.sum_i64(&mut owned);
                assert_eq!(owned[0] as usize, shape.0 * shape.1);
                m.for_each_tile(|_, mut values| values += 0.5);
                let whole = m.gather();
                assert_eq!(whole.is_some(), world.is_root());
                let want = Array2::from_shape_fn(shape, |(i, k)| formula(i, k) + 0.5);
                assert!(whole.is_none_or(|w| w == want), "{grid} {shape:?}");
            }
        }
        assert!(DistMatrix::zeros(world, Grid::of(world.size() + 1), (4, 4), 2).is_err());
    });
}

/// Some numbers without a pattern, the same everywhere.
fn scrambled(i: usize, k: usize) -> f64 {
    let h = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (k as u64).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    (h.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 40) as f64 / (1u64 << 24) as f64 - 0.5
}

fn largest(x: &Array2<f64>) -> f64 {
    x.iter().fold(0.0, |most: f64, x| most.max(x.abs()))
}

/// The same bits on all ranks.
fn assert_same_everywhere(world: &World, values: impl Iterator<Item = f64>) {
    let bits: Vec<u64> = values.map(f64::to_bits).collect();
    let all = world.all_gather(&bits);
    assert!(all.iter().all(|other| other == &bits), "copies differ between ranks");
}

#[test]
fn matrices_are_dealt_out_chosen_from_and_multiplied() {
    on_ranks("matrices_are_dealt_out_chosen_from_and_multiplied", &[1, 4, 6], |world| {
        // Above one block, with a rest.
        let n = 2 * BLOCK + 21;
        let symmetric = |i: usize, k: usize| scrambled(i.min(k), i.max(k));
        let whole = Array2::from_shape_fn((n, n), |(i, k)| symmetric(i, k));
        for grid in grids(world) {
            let dealt = DistMatrix::from_fn(world, grid, (n, n), BLOCK, symmetric).unwrap();
            assert_eq!(dealt.replicate(), whole);
            assert_eq!(dealt.diagonal(), whole.diag().to_vec());
            // Fewer than one block, in no order; none; all, backwards.
            let few: Vec<usize> = (0..40).map(|i| (i * 97 + 5) % n).collect();
            for chosen in [few, Vec::new(), (0..n).rev().collect()] {
                let some = dealt.select(&chosen).unwrap().replicate();
                let shape = (chosen.len(), chosen.len());
                assert_eq!(some, Array2::from_shape_fn(shape, |(i, k)| whole[[chosen[i], chosen[k]]]));
            }
            let lower = |i: usize, k: usize| if i < k { f64::NAN } else { symmetric(i, k) };
            let mut half = DistMatrix::from_fn(world, grid, (n, n), 16, lower).unwrap();
            half.mirror();
            assert_eq!(half.replicate(), whole);
            let wide = DistMatrix::from_fn(world, grid, (50, 31), 4, scrambled).unwrap();
            let all = Array2::from_shape_fn((50, 31), |(i, k)| scrambled(i, k));
            let (right, left) = (all.slice(ndarray::s![..31, ..3]), all.slice(ndarray::s![.., ..2]));
            assert!(largest(&(wide.times(right) - all.dot(&right))) < 1e-13);
            let across = wide.transposed_times(left);
            assert!(largest(&(&across - &all.t().dot(&left))) < 1e-13);
            assert_same_everywhere(world, across.iter().copied());
        }
    });
}

/// Row scale of the factor below.
fn scale(i: usize) -> f64 {
    1.0 + (i % 3) as f64
}

/// A = L L' of the factor L_ik = s_i / 2^(i−k): A_ik = s_i s_k (4/2^|i−k| − 1/2^(i+k)) / 3, log|A| = 2 Σ log s_i.
fn known_product(i: usize, k: usize) -> f64 {
    let half = |p: usize| 0.5f64.powi(p as i32);
    scale(i) * scale(k) * (4.0 * half(i.abs_diff(k)) - half(i + k)) / 3.0
}

#[test]
fn cholesky_solves_and_its_determinant_is_known_on_every_grid() {
    on_ranks("cholesky_solves_and_its_determinant_is_known_on_every_grid", &[1, 4, 5, 6], |world| {
        for grid in grids(world) {
            // one element; less than a block; a rest; many blocks and more right-hand sides than a block
            for (n, block, k) in [(1, 4, 1), (7, 16, 2), (75, 8, 3), (203, 16, 40)] {
                let a = || DistMatrix::from_fn(world, grid, (n, n), block, known_product).unwrap();
                let b = Array2::from_shape_fn((n, k), |(i, k)| scrambled(i, k));
                let factored = Cholesky::new(a()).unwrap();
                let x = factored.solve(b.view()).unwrap();
                assert!(largest(&(a().times(x.view()) - &b)) < 1e-10 * largest(&b), "{grid} {n}");
                let alone = factor::Cholesky::new(a().replicate()).unwrap().solve(b.view());
                assert!(largest(&(&x - &alone)) < 1e-10 * largest(&alone));
                let log: f64 = (0..n).map(|i| 2.0 * scale(i).ln()).sum();
                assert!((factored.log_determinant() - log).abs() < 1e-12 * n as f64);
                assert_same_everywhere(world, x.iter().copied().chain([factored.log_determinant()]));
            }
        }
    });
}

#[test]
fn a_matrix_that_is_not_positive_is_one_error_on_every_rank() {
    on_ranks("a_matrix_that_is_not_positive_is_one_error_on_every_rank", &[1, 4, 6], |world| {
        for grid in grids(world) {
            for bad in [0, 17, 49] {
                let formula =
                    |i: usize, k: usize| if i == bad && k == bad { -1.0 } else { known_product(i, k) };
                let a = DistMatrix::from_fn(world, grid, (50, 50), 8, formula).unwrap();
                let told = Cholesky::new(a).unwrap_err();
                let want = format!("not positive definite (row {} of 50)", bad + 1);
                assert!(told.to_string().contains(&want), "{told}");
                assert_eq!(told.exit_code(), 1);
            }
        }
        // The world goes on.
        assert_eq!(world.all_gather(&1).len(), world.size());
    });
}

#[test]
fn eigenvectors_rebuild_a_matrix_of_known_eigenvalues_on_every_grid() {
    on_ranks("eigenvectors_rebuild_a_matrix_of_known_eigenvalues_on_every_grid", &[1, 4, 5, 6], |world| {
        for grid in grids(world) {
            for (n, block) in [(1, 4), (6, 16), (75, 8), (150, 16)] {
                // A_ik = 1 + min(i, k) has the eigenvalues 1 / (2 − 2 cos((2j − 1)π / (2n + 1))).
                let a =
                    || DistMatrix::from_fn(world, grid, (n, n), block, |i, k| 1.0 + i.min(k) as f64).unwrap();
                let e = Eigen::new(a()).unwrap();
                let angle = |j: usize| (2 * j - 1) as f64 * std::f64::consts::PI / (2 * n + 1) as f64;
                let mut known: Vec<f64> = (1..=n).map(|j| 1.0 / (2.0 - 2.0 * angle(j).cos())).collect();
                known.reverse();
                let (most, u) = (known[n - 1], e.vectors.replicate());
                let close = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-12 * most;
                assert!(e.values.iter().zip(&known).all(close), "{grid} {n}");
                assert!(largest(&(u.t().dot(&u) - Array2::<f64>::eye(n))) < 1e-13 * n as f64);
                let scaled = &u * &Array1::from(e.values.clone());
                assert!(largest(&(a().times(u.view()) - scaled)) < 1e-12 * most, "{grid} {n}");
                assert_same_everywhere(world, e.values.iter().copied());
            }
            // All eigenvalues alike: divide and conquer has nothing left to conquer.
            let same = DistMatrix::from_fn(world, grid, (40, 40), 8, |i, k| f64::from(u8::from(i == k)));
            let e = Eigen::new(same.unwrap()).unwrap();
            assert!(e.values.iter().all(|v| (v - 1.0).abs() < 1e-14));
        }
    });
}
