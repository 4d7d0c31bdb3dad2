//! The model's equations by brute force, against every solver.

use super::gblup::{fit_by_conjugate_gradient, fit_group, fit_groups, join, Fit};
use super::plan::{Dense, Solver};
use super::reml::{Given, Spectral};
use super::{Group, Outcome};
use crate::comm::World;
use crate::linalg::pcg::Params;
use crate::rng::{Purpose, Stream};
use ndarray::{s, Array1, Array2, Axis};

/// Animals, of whom the last seven have no record at all.
pub(super) const N: usize = 60;

/// G of N animals from centred counts at 40 SNPs (singular, as G of few SNPs is), and y = u + e for 3 traits.
pub(super) fn herd() -> (Array2<f64>, Array2<f64>) {
    let mut s = Stream::new(11, Purpose::Test, 0);
    let mut m = Array2::from_shape_simple_fn((N, 40), || f64::from(s.below(3) as u8));
    for mut column in m.columns_mut() {
        let mean = column.sum() / N as f64;
        column -= mean;
    }
    let effects = Array2::from_shape_simple_fn((40, 3), || s.normal());
    let y = m.dot(&effects) + Array2::from_shape_simple_fn((N, 3), || 4.0 * s.normal()) + 10.0;
    (m.dot(&m.t()) / 20.0, y)
}

/// Trait 0 with all records, 1 and 2 with the same gaps; covariates of which one follows from the others.
pub(super) fn groups(y: &Array2<f64>, weighted: bool) -> Vec<Group> {
    let mut s = Stream::new(12, Purpose::Test, 0);
    let ages: Vec<f64> = (0..N).map(|_| 3.0 + s.normal()).collect();
    let design = Array2::from_shape_fn((N, 4), |(i, j)| match j {
        0 => 1.0,
        1 => f64::from(u8::from(i % 3 == 0)),
        2 => 1.0 - f64::from(u8::from(i % 3 == 0)),
        _ => ages[i],
    });
    let weights = Array1::from_shape_fn(N, |i| 0.5 + (i % 4) as f64);
    let make = |animals: Vec<usize>, traits: &[usize]| {
        let y = y.select(Axis(0), &animals).select(Axis(1), traits);
        let w = weighted.then(|| weights.select(Axis(0), &animals));
        Group::new(animals.clone(), y, design.select(Axis(0), &animals), w)
    };
    let all = (0..N - 7).collect();
    let some = (0..N - 7).filter(|i| i % 5 != 2).collect();
    vec![make(all, &[0]), make(some, &[1, 2])]
}

pub(super) fn inverse(a: &Array2<f64>) -> (Array2<f64>, f64) {
    let n = a.nrows();
    let mut work = ndarray::concatenate(Axis(1), &[a.view(), Array2::eye(n).view()]).unwrap();
    let mut log = 0.0;
    for k in 0..n {
        let pivot = work[[k, k]];
        log += pivot.ln();
        let row = &work.row(k) / pivot;
        work.row_mut(k).assign(&row);
        for i in (0..n).filter(|&i| i != k) {
            let f = work[[i, k]];
            work.row_mut(i).scaled_add(-f, &row);
        }
    }
    (work.slice(s![.., n..]).to_owned(), log)
}

/// û, b̂, V⁻¹(y − Wb̂) and the restricted likelihood by the definitions. `keep`: independent columns.
fn brute(
    g: &Array2<f64>,
    group: &Group,
    design: &Array2<f64>,
    t: usize,
    vg: f64,
    ve: f64,
) -> (Array1<f64>, Array1<f64>, Array1<f64>, f64) {
    let o = group.animals();
    let mut v = g.select(Axis(0), o).select(Axis(1), o) * vg;
    (0..o.len()).for_each(|i| v[[i, i]] += ve / group.mean_weight() * group.inverse_weight(i));
    let (vi, log_v) = inverse(&v);
    let x = design.select(Axis(0), o);
    let (c, log_x) = inverse(&x.t().dot(&vi).dot(&x));
    let y = group.y().column(t).to_owned();
    let b = c.dot(&x.t().dot(&vi).dot(&y));
    let py = vi.dot(&(&y - &x.dot(&b)));
    let u = g.select(Axis(1), o).dot(&py) * vg;
    let log_likelihood = -0.5 * (log_v + log_x + y.dot(&py));
    (u, b, py, log_likelihood)
}

/// The independent columns of the design of [`groups`], on all animals.
pub(super) fn independent() -> Array2<f64> {
    let mut s = Stream::new(12, Purpose::Test, 0);
    let ages: Vec<f64> = (0..N).map(|_| 3.0 + s.normal()).collect();
    Array2::from_shape_fn((N, 3), |(i, j)| [1.0, f64::from(u8::from(i % 3 == 0)), ages[i]][j])
}

fn close(a: f64, b: f64, scale: f64) -> bool {
    (a - b).abs() <= 1e-9 * scale.max(1.0)
}

fn check(g: &Array2<f64>, group: &Group, fit: &Fit, what: &str) {
    for t in 0..group.traits() {
        let e = &fit.estimates[t];
        let (u, b, py, log) = brute(g, group, &independent(), t, e.var_g, e.var_e);
        let worst = u.iter().zip(fit.ebv.column(t)).fold(0f64, |m, (a, b)| m.max((a - b).abs()));
        assert!(worst < 1e-8, "{what}, trait {t}: breeding values differ by {worst}");
        for (k, j) in [0, 1, 3].into_iter().enumerate() {
            assert!((b[k] - fit.fixed[[j, t]]).abs() < 1e-7, "{what}, effect {j}");
        }
        assert_eq!(fit.fixed[[2, t]], 0.0, "a column that follows from others has no effect");
        let mut padded = Array1::<f64>::zeros(N);
        group.animals().iter().zip(&py).for_each(|(&a, &x)| padded[a] = x);
        assert!((&padded - &fit.py.column(t)).iter().all(|d| d.abs() < 1e-8), "{what}: V⁻¹(y − Wb)");
        assert!(e.log_likelihood.is_nan() || close(e.log_likelihood, log, log.abs()), "{what}: likelihood");
    }
}

#[test]
fn every_solver_solves_the_definitions_with_gaps_weights_and_dependent_covariates() {
    let (g, y) = herd();
    for weighted in [false, true] {
        let groups = groups(&y, weighted);
        let refs: Vec<&Group> = groups.iter().collect();
        let h2 = [vec![0.3], vec![0.0, 0.85]];
        let totals = [None, Some(20.0)];
        for total in totals {
            let given: Vec<Vec<Given>> =
                h2.iter().map(|h| h.iter().map(|&h2| Given { h2, total }).collect()).collect();
            let by_pcg = fit_by_conjugate_gradient(&g, &refs, &given, Params::default()).unwrap();
            for (k, group) in groups.iter().enumerate() {
                check(&g, group, &by_pcg[k], "pcg");
                for solver in [Solver::Cholesky, Solver::Eigen] {
                    let fit = fit_group(g.view(), group, Some(&given[k]), solver).unwrap();
                    check(&g, group, &fit, &format!("{solver:?}"));
                    assert!(fit.estimates.iter().all(|e| e.outcome == Outcome::Given));
                }
            }
        }
    }
}

#[test]
fn reml_finds_the_highest_likelihood() {
    let (g, y) = herd();
    for weighted in [false, true] {
        for group in &groups(&y, weighted) {
            let fit = fit_group(g.view(), group, None, Solver::Eigen).unwrap();
            check(&g, group, &fit, "reml");
            for t in 0..group.traits() {
                let e = &fit.estimates[t];
                assert_eq!(e.outcome, Outcome::Converged);
                let at = |vg: f64, ve: f64| brute(&g, group, &independent(), t, vg, ve).3;
                for (dg, de) in [(1e-3, 0.0), (-1e-3, 0.0), (0.0, 1e-3), (0.0, -1e-3)] {
                    let near = at(e.var_g * (1.0 + dg), e.var_e * (1.0 + de));
                    assert!(near < e.log_likelihood, "{near} beside {}", e.log_likelihood);
                }
                let coarse = (1..40)
                    .map(|k| k as f64 / 40.0)
                    .map(|h| at(h * e.total(), (1.0 - h) * e.total() * e.weight));
                assert!(coarse.into_iter().all(|l| l <= e.log_likelihood + 1e-9));
                assert!(e.h2_se > 0.01 && e.h2_se < 0.5 && e.var_g_se > 0.0 && e.var_e_se > 0.0);
            }
        }
    }
}

#[test]
fn a_trait_without_genetics_ends_at_the_boundary_and_says_so() {
    let (g, _) = herd();
    // A record that runs against the relationships: eigenvectors of small eigenvalues only.
    let e = crate::linalg::factor::Eigen::new(g.clone()).unwrap();
    let y = e.vectors.slice(s![0..15, ..]).sum_axis(Axis(0)).insert_axis(Axis(1)) * 10.0;
    let group = Group::new((0..N).collect(), y, Array2::ones((N, 1)), None);
    let fit = fit_group(g.view(), &group, None, Solver::Eigen).unwrap();
    let estimate = &fit.estimates[0];
    assert_eq!((estimate.outcome, estimate.h2, estimate.var_g), (Outcome::Boundary, 0.0, 0.0));
    assert!(fit.ebv.iter().all(|&u| u == 0.0) && estimate.var_e > 0.0);
    // And one that is nothing but genetics.
    let y = e.vectors.slice(s![N - 20.., ..]).sum_axis(Axis(0)).insert_axis(Axis(1)) * 10.0;
    let group = Group::new((0..N).collect(), y, Array2::ones((N, 1)), None);
    let estimate = fit_group(g.view(), &group, None, Solver::Eigen).unwrap().estimates[0].clone();
    assert_eq!(estimate.outcome, Outcome::Boundary);
    assert!(estimate.h2 > 0.9999 && estimate.h2 < 1.0);
}

#[test]
fn no_heritability_on_a_fine_grid_is_more_likely_than_the_estimate() {
    let (g, y) = herd();
    let groups = groups(&y, false);
    let spectral = Spectral::new(g.view(), &groups[0]).unwrap();
    let eta = spectral.rotate();
    let best = spectral.estimate(eta.column(0));
    for k in 0..200 {
        let at = spectral.given(eta.column(0), Given { h2: k as f64 / 200.0, total: None });
        assert!(at.log_likelihood <= best.log_likelihood + 1e-10);
    }
}

#[test]
fn groups_are_joined_in_the_order_of_the_traits() {
    let (g, y) = herd();
    let groups = groups(&y, false);
    let refs: Vec<&Group> = groups.iter().collect();
    let fits =
        fit_groups(&World::alone(), Some(g.clone()), &refs, None, &Dense::one_by_one(Solver::Eigen)).unwrap();
    let joined = join(&[vec![1], vec![0, 2]], fits.clone());
    assert_eq!(joined.ebv.column(1), fits[0].ebv.column(0));
    assert_eq!(joined.ebv.column(0), fits[1].ebv.column(0));
    assert_eq!(joined.estimates[2], fits[1].estimates[1]);
}

#[test]
fn too_few_records_for_reml_are_told() {
    let (g, y) = herd();
    let group = Group::new(vec![0, 1], y.slice(s![0..2, 0..1]).to_owned(), Array2::ones((2, 1)), None);
    let e = fit_group(g.view(), &group, None, Solver::Eigen).unwrap_err();
    assert!(e.to_string().contains("two records more than fixed effects, found 2 records and 1 effects"));
}

/// G of `animals` from families that share a parent's alleles.
pub(super) fn related(animals: usize) -> (Array2<f64>, Array2<f64>) {
    let (snps, mut s) = (300, Stream::new(21, Purpose::Test, 0));
    let parents = Array2::from_shape_simple_fn((20, snps), || f64::from(s.below(2) as u8));
    let mut m = Array2::from_shape_fn((animals, snps), |(i, j)| parents[[i % 20, j]]);
    m.mapv_inplace(|x| {
        let paternal = if s.below(2) == 0 { x } else { f64::from(s.below(2) as u8) };
        paternal + s.below(2) as f64
    });
    for mut column in m.columns_mut() {
        let mean = column.sum() / animals as f64;
        column -= mean;
    }
    let scale = (animals as f64 / m.iter().map(|x| x * x).sum::<f64>()).sqrt();
    m *= scale;
    (m.dot(&m.t()), m)
}

/// G of families, and records of two groups of traits.
pub(super) fn families(weighted: bool) -> (Array2<f64>, Vec<Group>) {
    const ANIMALS: usize = 400;
    let ((g, m), mut s) = (related(ANIMALS), Stream::new(22, Purpose::Test, 0));
    let effects = Array2::from_shape_simple_fn((m.ncols(), 3), || s.normal());
    let mut y = m.dot(&effects);
    for (mut column, noise) in y.columns_mut().into_iter().zip([1.5, 1.0, 0.5]) {
        let spread = column.std(0.0);
        column.mapv_inplace(|x| 7.0 + x / spread + noise * s.normal());
    }
    let make = |animals: Vec<usize>, traits: &[usize]| {
        let design = Array2::from_shape_fn((animals.len(), 3), |(i, j)| [1.0, (i % 2) as f64, 0.0][j]);
        let weights = weighted.then(|| animals.iter().map(|a| 0.5 + (a % 3) as f64).collect());
        let y = y.select(Axis(0), &animals).select(Axis(1), traits);
        Group::new(animals, y, design, weights)
    };
    let some = (0..ANIMALS).filter(|i| i % 7 != 3).collect();
    (g, vec![make((0..ANIMALS).collect(), &[0, 1]), make(some, &[2])])
}
