//! Where variances must not change, and where there are none.

use super::{bivariate, components, moments, stochastic, Estimate, Outcome};
use crate::comm::World;
use crate::mixed::gblup::{fit_by_conjugate_gradient, fit_group, Solver};
use crate::mixed::tests::{groups, herd, N};
use crate::mixed::Group;
use ndarray::{Array1, Array2, Axis};

/// The same groups with all weights times a constant.
fn times(groups: &[Group], factor: f64) -> Vec<Group> {
    let with = |g: &Group| {
        let weights =
            Array1::from_shape_fn(g.animals().len(), |i| g.mean_weight() / g.inverse_weight(i) * factor);
        Group::new(g.animals().to_vec(), g.y().to_owned(), g.design().to_owned(), Some(weights))
    };
    groups.iter().map(with).collect()
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * b.abs() || (a.is_nan() && b.is_nan())
}

fn same(e: &Estimate, want: &Estimate, factor: f64) {
    let pairs = [
        (e.var_g, want.var_g),
        (e.var_g_se, want.var_g_se),
        (e.var_e, factor * want.var_e),
        (e.var_e_se, factor * want.var_e_se),
        (e.h2, want.h2),
        (e.h2_se, want.h2_se),
        (e.log_likelihood, want.log_likelihood),
    ];
    assert!(pairs.iter().all(|&(a, b)| near(a, b)) && e.outcome == want.outcome, "{e:?} {want:?}");
}

#[test]
fn all_weights_times_a_constant_change_the_residual_variance_alone() {
    let ((g, y), world) = (herd(), World::alone());
    let plain = groups(&y, true);
    let first: Vec<&Group> = plain.iter().collect();
    for factor in [5e-6, 3e7] {
        let owned = times(&plain, factor);
        let refs: Vec<&Group> = owned.iter().collect();
        for (group, want) in owned.iter().zip(&plain) {
            let fit = |group| fit_group(g.view(), group, None, Solver::Eigen).unwrap();
            let (fit, want) = (fit(group), fit(want));
            fit.estimates.iter().zip(&want.estimates).for_each(|(e, want)| same(e, want, factor));
            assert!((&fit.ebv - &want.ebv).iter().all(|d| d.abs() < 1e-6));
            // What was estimated and is given again leads to the same breeding values.
            let given = fit.estimates.iter().map(Estimate::as_given).collect();
            let again = fit_by_conjugate_gradient(&g, &[group], &[given], Default::default()).unwrap();
            assert!((&again[0].ebv - &want.ebv).iter().all(|d| d.abs() < 1e-6));
        }
        let ai = |groups: &[&Group]| components::estimate(&world, vec![Some(g.clone())], groups).unwrap();
        for (found, want) in ai(&refs).concat().iter().zip(ai(&first).concat()) {
            same(&found.sum, &want.sum, factor);
            assert!(near(found.components[1].variance, factor * want.components[1].variance));
        }
        let random =
            |groups: &[&Group]| stochastic::estimate(&g, groups, Default::default()).unwrap().concat();
        random(&refs).iter().zip(random(&first)).for_each(|(e, want)| same(e, &want, factor));
        let he = |groups: &[&Group]| {
            moments::haseman_elston(&g, &[vec![0], vec![1, 2]], groups, Default::default()).unwrap()
        };
        let (found, want) = (he(&refs), he(&first));
        found.estimates.iter().zip(&want.estimates).for_each(|(e, want)| same(e, want, factor));
        assert!(near(found.pairs[0][2].residual, factor * want.pairs[0][2].residual));
        let bent = found.bent.residual.iter().zip(&want.bent.residual);
        assert!(bent.into_iter().all(|(a, b)| near(*a, factor * b)));
        let places = [((1, 0), (1, 1)), ((0, 0), (1, 0))];
        let both = |groups: &[&Group]| bivariate::estimate(&world, Some(g.clone()), groups, &places).unwrap();
        for (found, want) in both(&refs).iter().zip(both(&first)) {
            assert!(near(found.genetic.correlation, want.genetic.correlation), "{found:?} {want:?}");
            assert!(near(found.residual.variances[1], factor * want.residual.variances[1]));
            assert!(near(found.log_likelihood, want.log_likelihood));
        }
    }
}

/// Every method's estimate of the first trait of one group.
fn all_methods(g: &Array2<f64>, group: &Group) -> Vec<Estimate> {
    let exact = fit_group(g.view(), group, None, Solver::Eigen).unwrap();
    assert!(exact.ebv.iter().all(|u| *u == 0.0), "nothing is known of animals");
    let ai = components::estimate(&World::alone(), vec![Some(g.clone())], &[group]).unwrap();
    let random = stochastic::estimate(g, &[group], Default::default()).unwrap();
    vec![exact.estimates[0].clone(), ai[0][0].sum.clone(), random[0][0].clone()]
}

#[test]
fn relationships_that_do_not_differ_have_no_heritability() {
    let (_, y) = herd();
    let ones = Array2::<f64>::ones((N, N));
    // Clones whose genotypes are the mean's, clones, and strangers.
    for g in [&ones * 0.0, &ones * 1.3, Array2::eye(N) * 0.7] {
        let group = &groups(&y, false)[0];
        for e in all_methods(&g, group) {
            assert!(e.outcome == Outcome::Unidentified && e.h2.is_nan() && e.var_g.is_nan(), "{e:?}");
            assert_eq!(e.outcome.label(), "no");
        }
        assert!(moments::haseman_elston(&g, &[vec![0]], &[group], Default::default()).is_err());
    }
}

#[test]
fn records_that_the_fixed_effects_explain_have_no_variances() {
    let (g, _) = herd();
    let design = Array2::from_shape_fn((N, 3), |(i, j)| f64::from(u8::from(j == 0 || i % 3 == j)));
    let y = design.dot(&ndarray::array![[1.0], [0.7], [-2.3]]);
    let group = Group::new((0..N).collect(), y, design, None);
    for e in all_methods(&g, &group) {
        assert!(e.outcome == Outcome::Explained && e.h2.is_nan(), "{e:?}");
    }
}

#[test]
fn a_trait_that_follows_from_another_has_no_covariances_with_it() {
    let ((g, y), world) = (herd(), World::alone());
    let copy = y.column(0).mapv(|x| 3.0 - 0.02 * x);
    let y = ndarray::stack![Axis(1), y.column(0), copy, y.column(1)];
    let group = |animals: Vec<usize>, traits: &[usize]| {
        let y = y.select(Axis(0), &animals).select(Axis(1), traits);
        Group::new(animals.clone(), y, Array2::ones((animals.len(), 1)), None)
    };
    let (whole, part) = (group((0..N).collect(), &[0, 1, 2]), group((5..N).collect(), &[1]));
    let pairs = [((0, 0), (0, 1)), ((0, 0), (0, 2)), ((0, 0), (1, 0))];
    let found = bivariate::estimate(&world, Some(g), &[&whole, &part], &pairs).unwrap();
    for k in [0, 2] {
        assert_eq!(found[k].outcome, Outcome::Dependent);
        assert!(found[k].genetic.correlation.is_nan() && found[k].genetic.variances[0].is_nan());
    }
    assert!(found[1].outcome != Outcome::Dependent && found[1].genetic.variances[0] > 0.0);
}
