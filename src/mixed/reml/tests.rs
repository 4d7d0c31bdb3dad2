//! Average-information REML by brute force, by finite differences, and against the spectral form.

use super::average::{entries, Likelihood};
use super::canonical::Canonical;
use super::dense::Dense;
use super::{bivariate, components, Outcome, Spectral};
use crate::comm::World;
use crate::linalg::factor::Cholesky;
use crate::mixed::kernel::Kernel;
use crate::mixed::tests::{groups, herd, N};
use crate::mixed::Group;
use crate::rng::{Purpose, Stream};
use ndarray::{array, s, Array1, Array2, Axis};

/// A second matrix of relationships: G∘G.
fn squared(g: &Array2<f64>) -> Array2<f64> {
    let gg = g * g;
    let mean = gg.diag().sum() / N as f64;
    gg / mean
}

/// Finite differences of the likelihood along every element, of orders 1 and 2.
fn check_derivatives(l: &dyn Likelihood, c: &[Array2<f64>], what: &str) {
    let at = l.derivatives(c).unwrap();
    let pairs = entries(l.traits());
    let moved = |k: usize, (i, j): (usize, usize), by: f64| {
        let mut c = c.to_vec();
        c[k][[i, j]] += by;
        if i != j {
            c[k][[j, i]] += by;
        }
        c
    };
    for (k, scale) in c.iter().enumerate() {
        for &(i, j) in &pairs {
            let h = 1e-5 * scale[[i, i]];
            let value = |by: f64| l.derivatives(&moved(k, (i, j), by)).unwrap().log_likelihood;
            let slope = (value(h) - value(-h)) / (2.0 * h);
            let score = at.scores[k][[i, j]] * if i == j { 1.0 } else { 2.0 };
            assert!((slope - score).abs() < 1e-5 * (1.0 + score.abs()), "{what}: {slope} and {score}");
        }
    }
}

/// With y replaced so that y'y-terms average out, information is −½(H + E): checked as ½ y'P V_i P V_j P y.
#[test]
fn likelihood_score_and_information_follow_the_definitions() {
    let (g, y) = herd();
    for weighted in [false, true] {
        let groups = groups(&y, weighted);
        let both = [&groups[0], &groups[1]];
        let kernels = [Kernel::of_animals(g.view(), &both), Kernel::of_animals(squared(&g).view(), &both)];
        let dense = Dense::new(&kernels, &both, &[0, 1]);
        let c = vec![
            array![[3.0, 1.0], [1.0, 2.0]],
            array![[2.0, -0.5], [-0.5, 1.0]],
            array![[9.0, 2.0], [2.0, 7.0]],
        ];
        check_derivatives(&dense, &c, "dense");

        // V, P and the likelihood by their definitions, in the scale of the records.
        let (n1, n2) = (both[0].animals().len(), both[1].animals().len());
        let animals: Vec<usize> = [both[0].animals(), both[1].animals()].concat();
        let of = |i: usize| usize::from(i >= n1);
        let noise: Vec<f64> = (0..n1)
            .map(|i| both[0].inverse_weight(i))
            .chain((0..n2).map(|i| both[1].inverse_weight(i)))
            .collect();
        let relations = [g.clone(), squared(&g)];
        let v = Array2::from_shape_fn((n1 + n2, n1 + n2), |(i, j)| {
            let (a, b) = (of(i), of(j));
            let same = if animals[i] == animals[j] { (noise[i] * noise[j]).sqrt() } else { 0.0 };
            let genetic: f64 =
                relations.iter().zip(&c).map(|(g, c)| c[[a, b]] * g[[animals[i], animals[j]]]).sum();
            genetic + c[2][[a, b]] * same
        });
        let independent = crate::mixed::tests::independent();
        let x = Array2::from_shape_fn((n1 + n2, 6), |(i, j)| {
            if j / 3 == of(i) {
                independent[[animals[i], j % 3]]
            } else {
                0.0
            }
        });
        let records: Array1<f64> =
            both[0].y().column(0).iter().chain(both[1].y().column(1)).copied().collect();
        let factor = Cholesky::new(v).unwrap();
        let vx = factor.solve(x.view());
        let middle = Cholesky::new(x.t().dot(&vx)).unwrap();
        let vy = factor.solve(records.view().insert_axis(Axis(1)));
        let py = &vy - &vx.dot(&middle.solve(x.t().dot(&vy).view()));
        let want = -0.5 * (factor.log_determinant() + middle.log_determinant() + records.dot(&py.column(0)));
        let at = dense.derivatives(&c).unwrap();
        assert!((at.log_likelihood - want).abs() < 1e-8, "{} and {want}", at.log_likelihood);
        // ½ f'P f for the genetic covariance.
        let m = Array2::from_shape_fn((n1 + n2, n1 + n2), |(i, j)| {
            if of(i) == of(j) {
                0.0
            } else {
                g[[animals[i], animals[j]]]
            }
        });
        let f = m.dot(&py);
        let vf = factor.solve(f.view());
        let pf = &vf - &vx.dot(&middle.solve(x.t().dot(&vf).view()));
        let information = 0.5 * f.column(0).dot(&pf.column(0));
        assert!((at.information[[1, 1]] / information - 1.0).abs() < 1e-8);
    }
}

#[test]
fn two_traits_of_one_group_are_the_same_through_the_band_and_through_the_inverse() {
    let (g, y) = herd();
    for weighted in [false, true] {
        let group = &groups(&y, weighted)[1];
        let spectral = Spectral::new(g.view(), group).unwrap();
        let eta = spectral.rotate();
        let canonical = Canonical::new(&spectral, &eta, [0, 1]);
        let kernels = [Kernel::of_animals(g.view(), &[group, group])];
        let dense = Dense::new(&kernels, &[group, group], &[0, 1]);
        for c in [
            [array![[3.0, 1.0], [1.0, 2.0]], array![[9.0, 2.0], [2.0, 7.0]]],
            [array![[0.0, 0.0], [0.0, 2.0]], array![[9.0, -2.0], [-2.0, 7.0]]],
        ] {
            let (a, b) = (canonical.derivatives(&c).unwrap(), dense.derivatives(&c).unwrap());
            assert!((a.log_likelihood - b.log_likelihood).abs() < 1e-8);
            for (a, b) in a.scores.iter().zip(&b.scores) {
                assert!((a - b).iter().all(|d| d.abs() < 1e-8), "{a} {b}");
            }
            let scale = b.information.iter().fold(0f64, |m, x| m.max(x.abs()));
            assert!((&a.information - &b.information).iter().all(|d| d.abs() < 1e-9 * scale));
        }
        assert!(canonical
            .derivatives(&[array![[1.0, 0.0], [0.0, 1.0]], array![[1.0, 1.0], [1.0, 1.0]]])
            .is_none());
    }
}

#[test]
fn one_effect_by_average_information_is_the_spectral_estimate() {
    let (g, y) = herd();
    for weighted in [false, true] {
        let groups = groups(&y, weighted);
        let refs: Vec<&Group> = groups.iter().collect();
        let found = components::estimate(&World::alone(), vec![Some(g.clone())], &refs).unwrap();
        for (group, found) in groups.iter().zip(found) {
            let spectral = Spectral::new(g.view(), group).unwrap();
            for (want, found) in spectral.estimates(&spectral.rotate()).iter().zip(found) {
                let e = &found.sum;
                assert_eq!((e.outcome, e.n), (Outcome::Converged, want.n));
                assert!((e.h2 - want.h2).abs() < 1e-5 && (e.h2_se / want.h2_se - 1.0).abs() < 1e-3);
                assert!((e.log_likelihood - want.log_likelihood).abs() < 1e-8);
                assert!((found.components[0].proportion_se - e.h2_se).abs() < 1e-12);
                let none = spectral.given(spectral.rotate().column(0), super::Given { h2: 0.0, total: None });
                let lrt = 2.0 * (want.log_likelihood - none.log_likelihood);
                if group.traits() == 1 {
                    assert!((found.components[0].lrt - lrt).abs() < 1e-6, "{found:?}");
                }
            }
        }
    }
}

#[test]
fn a_component_without_variance_is_fixed_at_zero_while_others_go_on() {
    let (g, _) = herd();
    // Records of the first matrix and noise only; the second runs against them.
    let e = crate::linalg::factor::Eigen::new(g.clone()).unwrap();
    let low = e.vectors.slice(s![0..10, ..]);
    let other = low.t().dot(&low);
    let mut s = Stream::new(31, Purpose::Test, 0);
    let mut y: Array1<f64> = (0..N).map(|_| s.normal()).collect();
    y = &y - &other.dot(&y) * 0.9;
    y = y + e.vectors.slice(s![N - 12.., ..]).sum_axis(Axis(0)) * 2.0;
    let group = Group::new((0..N).collect(), y.insert_axis(Axis(1)), Array2::ones((N, 1)), None);
    let found = components::estimate(&World::alone(), vec![Some(g), Some(other)], &[&group]).unwrap();
    let fit = &found[0][0];
    assert_eq!(fit.sum.outcome, Outcome::Boundary);
    assert!(!fit.components[0].boundary && fit.components[0].variance > 0.0 && fit.components[0].p < 0.5);
    assert!(fit.components[1].boundary && fit.components[1].variance == 0.0);
    assert!(fit.components[1].variance_se.is_nan() && fit.components[1].p == 1.0);
    assert!(!fit.components[2].boundary && fit.components[2].lrt.is_nan());
    assert!((fit.components.iter().map(|c| c.proportion).sum::<f64>() - 1.0).abs() < 1e-12);
}

/// Animals of the simulations.
const MANY: usize = 400;

/// G of MANY animals from random counts at SNPs in families, with a second matrix, and their Cholesky factors.
fn relations() -> ([Array2<f64>; 2], [Array2<f64>; 2]) {
    let mut s = Stream::new(41, Purpose::Test, 0);
    let parents = Array2::from_shape_simple_fn((25, 300), || s.below(2) as f64);
    let mut m = Array2::from_shape_fn((MANY, 300), |(i, j)| parents[[i % 25, j]]);
    m.mapv_inplace(|x| if s.below(2) == 0 { x } else { s.below(2) as f64 } + s.below(2) as f64);
    for mut column in m.columns_mut() {
        let mean = column.sum() / MANY as f64;
        column -= mean;
    }
    let g = m.dot(&m.t()) / m.iter().map(|x| x * x).sum::<f64>() * MANY as f64;
    // Litters of four.
    let d = Array2::from_shape_fn((MANY, MANY), |(i, j)| {
        f64::from(u8::from(i == j)) * 0.5 + f64::from(u8::from(i / 4 == j / 4)) * 0.5
    });
    let root = |a: &Array2<f64>| {
        let e = crate::linalg::factor::Eigen::new(a.clone()).unwrap();
        let roots = Array1::from(e.values.iter().map(|v| v.max(0.0).sqrt()).collect::<Vec<_>>());
        (&e.vectors.t() * &roots).to_owned()
    };
    let roots = [root(&g), root(&d)];
    ([g, d], roots)
}

#[test]
fn simulated_components_are_recovered_within_their_errors() {
    let (relations, roots) = relations();
    let mut s = Stream::new(42, Purpose::Test, 0);
    let truth = [0.4, 0.3, 0.3f64];
    let mut y = Array2::from_shape_simple_fn((MANY, 8), || truth[2].sqrt() * s.normal());
    for (root, variance) in roots.iter().zip(truth) {
        y += &(root.dot(&Array2::from_shape_simple_fn((MANY, 8), || s.normal())) * variance.sqrt());
    }
    let group = Group::new((0..MANY).collect(), y, Array2::ones((MANY, 1)), None);
    let matrices = relations.iter().cloned().map(Some).collect();
    let found = components::estimate(&World::alone(), matrices, &[&group]).unwrap().remove(0);
    for (k, truth) in truth.into_iter().enumerate() {
        let off: Vec<f64> =
            found.iter().map(|f| (f.components[k].variance - truth) / f.components[k].variance_se).collect();
        let mean = off.iter().sum::<f64>() / 8.0;
        assert!(mean.abs() < 3.0 / 8f64.sqrt() && off.iter().all(|o| o.abs() < 4.0), "{k}: {off:?}");
    }
    assert!(found.iter().all(|f| f.sum.outcome == Outcome::Converged && f.sum.iterations < 30));
}

/// Two traits with genetic correlation `r`, residual correlation 0.2, h² 0.5.
fn correlated(root: &Array2<f64>, r: f64, seed: u64) -> Array2<f64> {
    let mut s = Stream::new(43, Purpose::Test, seed);
    let mut pair = |r: f64| {
        let mut z = Array2::from_shape_simple_fn((MANY, 2), || s.normal());
        let second = &z.column(0) * r + &z.column(1) * (1.0 - r * r).sqrt();
        z.column_mut(1).assign(&second);
        z
    };
    root.dot(&pair(r)) + pair(0.2)
}

#[test]
fn genetic_correlations_are_recovered_also_when_the_traits_have_different_records() {
    let (relations, roots) = relations();
    let y = correlated(&roots[0], 0.7, 1);
    let ones = |n: usize| Array2::ones((n, 1));
    let whole = Group::new((0..MANY).collect(), y.clone(), ones(MANY), None);
    let g = || Some(relations[0].clone());
    let same = bivariate::estimate(&World::alone(), g(), &[&whole], &[((0, 0), (0, 1))]).unwrap().remove(0);
    assert_eq!((same.outcome, same.both), (Outcome::Converged, MANY));
    assert!((same.genetic.correlation - 0.7).abs() < 3.0 * same.genetic.correlation_se, "{same:?}");
    assert!((same.residual.correlation - 0.2).abs() < 3.0 * same.residual.correlation_se, "{same:?}");
    assert!(same.genetic.correlation_se < 0.2 && same.p < 1e-3 && same.p > 0.0);
    // The second trait lacks some records, and in the end all that the first has.
    for (keep, both) in [(5, MANY - MANY / 5), (2, MANY / 2)] {
        let first: Vec<usize> = (0..MANY).filter(|i| keep == 5 || i % keep == 0).collect();
        let second: Vec<usize> = (0..MANY).filter(|i| i % keep != 0).collect();
        let make = |rows: &[usize], t: usize| {
            Group::new(rows.to_vec(), y.select(Axis(0), rows).select(Axis(1), &[t]), ones(rows.len()), None)
        };
        let pair = [make(&first, 0), make(&second, 1)];
        let groups: Vec<&Group> = pair.iter().collect();
        let found =
            bivariate::estimate(&World::alone(), g(), &groups, &[((0, 0), (1, 0))]).unwrap().remove(0);
        assert_eq!(found.n, [first.len(), second.len()]);
        let error = (found.genetic.correlation - 0.7) / found.genetic.correlation_se;
        assert!(error.abs() < 3.0 || found.outcome == Outcome::Boundary, "{found:?}");
        if keep == 5 {
            assert_eq!(found.both, both);
            assert!((found.residual.correlation - 0.2).abs() < 3.0 * found.residual.correlation_se);
        } else {
            assert!(found.both == 0 && found.residual.covariance.is_nan());
        }
    }
}

#[test]
fn a_trait_with_itself_plus_noise_has_correlation_one_and_says_boundary() {
    let (relations, roots) = relations();
    let y = correlated(&roots[0], 1.0, 2);
    let group = Group::new((0..MANY).collect(), y, Array2::ones((MANY, 1)), None);
    let spectral = Spectral::new(relations[0].view(), &group).unwrap();
    let eta = spectral.rotate();
    let mut boundaries = 0;
    for seed in 0..4 {
        let y = correlated(&roots[0], 1.0, 2 + seed);
        let group = Group::new((0..MANY).collect(), y, Array2::ones((MANY, 1)), None);
        let g = Some(relations[0].clone());
        let found =
            bivariate::estimate(&World::alone(), g, &[&group], &[((0, 0), (0, 1))]).unwrap().remove(0);
        assert!(found.genetic.correlation > 0.9, "{found:?}");
        if found.outcome == Outcome::Boundary {
            boundaries += 1;
            assert!((found.genetic.correlation - 1.0).abs() < 1e-9 && found.genetic.correlation_se.is_nan());
            assert!(found.genetic.covariance_se > 0.0 && found.residual.correlation_se > 0.0);
        }
    }
    assert!(boundaries > 0);
    // No matrix near the estimate, of full rank, is more likely.
    let l = Canonical::new(&spectral, &eta, [0, 1]);
    let found =
        bivariate::estimate(&World::alone(), Some(relations[0].clone()), &[&group], &[((0, 0), (0, 1))])
            .unwrap()
            .remove(0);
    let matrix =
        |c: &bivariate::Covariance| array![[c.variances[0], c.covariance], [c.covariance, c.variances[1]]];
    let (g0, r0) = (matrix(&found.genetic), matrix(&found.residual));
    let at = l.derivatives(&[g0.clone(), r0.clone()]).unwrap().log_likelihood;
    assert!((at - found.log_likelihood).abs() < 1e-6);
    for (i, j) in entries(2) {
        for by in [-0.02, 0.02] {
            for k in 0..2 {
                let mut c = [g0.clone(), r0.clone()];
                c[k][[i, j]] += by;
                c[k][[j, i]] = c[k][[i, j]];
                let possible = c[0][[0, 0]] * c[0][[1, 1]] >= c[0][[0, 1]].powi(2);
                let near = l.derivatives(&c).map_or(f64::NEG_INFINITY, |d| d.log_likelihood);
                assert!(!possible || near <= at + 1e-9, "{near} beside {at}");
            }
        }
    }
}
