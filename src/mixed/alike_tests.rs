//! Fits by one reduction against each group's own.

use super::alike::alike;
use super::gblup::{fit_alike, fit_group, Fit};
use super::plan::Solver;
use super::reml::{Gaps, Given, Spectral};
use super::{Group, Outcome};
use crate::linalg::factor::Eigen;
use crate::records::Factor;
use crate::rng::{Purpose, Stream};
use ndarray::{s, Array1, Array2, Axis};

/// Animals, of whom the last 20 have no record: enough for one reduction to pay.
const N: usize = 420;
const RECORDED: usize = N - 20;

/// G of N animals at 300 SNPs, singular.
fn relationships() -> Array2<f64> {
    let mut s = Stream::new(21, Purpose::Test, 0);
    let mut m = Array2::from_shape_simple_fn((N, 300), || f64::from(s.below(3) as u8));
    for mut column in m.columns_mut() {
        let mean = column.sum() / N as f64;
        column -= mean;
    }
    m.dot(&m.t()) / 150.0
}

/// A mean, herds of which the last column follows from the others, and an age.
fn design() -> Array2<f64> {
    let mut s = Stream::new(22, Purpose::Test, 0);
    Array2::from_shape_fn((N, 4), |(i, j)| match j {
        0 => 1.0,
        1 => f64::from(u8::from(i % 3 == 0)),
        2 => 1.0 - f64::from(u8::from(i % 3 == 0)),
        _ => 30.0 + s.normal(),
    })
}

/// Five traits far from zero: heritable ones, one whose likelihood falls from h² = 0 on, and one that the fixed effects
/// explain.
fn records(g: &Array2<f64>) -> Array2<f64> {
    let mut s = Stream::new(23, Purpose::Test, 0);
    let Eigen { values, vectors } = Eigen::new(g.clone()).unwrap();
    let mut y = Array2::from_elem((N, 5), 1000.0);
    for (k, &value) in values.iter().enumerate() {
        for (t, [genetic, residual]) in [[1.0, 1.0], [0.3, 1.0], [2.0, 0.5]].into_iter().enumerate() {
            let sd = (genetic * value.max(0.0) + residual).sqrt();
            y.column_mut(t).scaled_add(sd * s.normal(), &vectors.row(k));
        }
        if k < 150 {
            y.column_mut(3).scaled_add(s.normal(), &vectors.row(k));
        }
    }
    y.column_mut(4).assign(&(design().column(3).to_owned() * 2.0 + 5.0));
    y
}

fn group(y: &Array2<f64>, design: &Array2<f64>, animals: Vec<usize>, traits: &[usize]) -> Group {
    let y = y.select(Axis(0), &animals).select(Axis(1), traits);
    Group::new(animals.clone(), y, design.select(Axis(0), &animals), None)
}

/// The recorded animals without some.
fn without(gaps: &[usize]) -> Vec<usize> {
    (0..RECORDED).filter(|i| !gaps.contains(i)).collect()
}

/// Patterns with no gap, with one and with some of the same.
fn patterns(g: &Array2<f64>) -> Vec<Group> {
    let (y, design) = (records(g), design());
    let of = |gaps: &[usize], traits: &[usize]| group(&y, &design, without(gaps), traits);
    vec![of(&[], &[0, 3]), of(&[7], &[1]), of(&[7, 130, 399], &[2, 3, 0]), of(&[0, 130, 201], &[4])]
}

fn refs(groups: &[Group]) -> Vec<&Group> {
    groups.iter().collect()
}

fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * a.abs().max(b.abs()).max(1e-3)
}

/// Differences up to a share of the largest element.
fn alike_matrices(a: &Array2<f64>, b: &Array2<f64>, tolerance: f64) -> bool {
    let size = b.iter().fold(0f64, |m, x| m.max(x.abs()));
    a.dim() == b.dim() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance * size)
}

fn assert_same(found: &Fit, want: &Fit, what: &str) {
    for (t, (a, b)) in found.estimates.iter().zip(&want.estimates).enumerate() {
        assert_eq!((a.n, a.outcome), (b.n, b.outcome), "{what}, trait {t}");
        assert!(close(a.log_likelihood, b.log_likelihood, 1e-10), "{what}, trait {t}: {a:?} {b:?}");
        let numbers = [[a.h2, b.h2], [a.var_g, b.var_g], [a.var_e, b.var_e]];
        let errors = [[a.h2_se, b.h2_se], [a.var_g_se, b.var_g_se], [a.var_e_se, b.var_e_se]];
        assert!(
            numbers.iter().chain(&errors).all(|[a, b]| close(*a, *b, 1e-7)),
            "{what}, trait {t}: {a:?} {b:?}"
        );
    }
    for ((got, want), part) in [(&found.ebv, &want.ebv), (&found.fixed, &want.fixed), (&found.py, &want.py)]
        .into_iter()
        .zip(["breeding values", "fixed effects", "V⁻¹(y − Wb)"])
    {
        for t in 0..got.ncols() {
            let [got, want] = [got, want].map(|m| m.slice(s![.., t..=t]).to_owned());
            assert!(alike_matrices(&got, &want, 1e-8), "{what}, trait {t}: {part}");
        }
    }
}

#[test]
fn one_reduction_gives_what_the_group_alone_gives() {
    let g = relationships();
    let groups = patterns(&g);
    let sets = alike(&refs(&groups)).unwrap();
    assert_eq!(sets.iter().map(|set| &set.members[..]).collect::<Vec<_>>(), [[0, 1, 2, 3]]);
    let fits = fit_alike(g.view(), &refs(&groups), None).unwrap();
    for (k, (group, fit)) in groups.iter().zip(&fits).enumerate() {
        let alone = fit_group(g.view(), group, None, Solver::Eigen).unwrap();
        assert_same(fit, &alone, &format!("group {k}"));
        let recorded = |animal: usize| group.animals().contains(&animal);
        assert!((0..N).all(|i| recorded(i) || fit.py.row(i).iter().all(|x| *x == 0.0)), "group {k}");
    }
    let outcomes = |k: usize| fits[k].estimates.iter().map(|e| e.outcome).collect::<Vec<_>>();
    assert_eq!(outcomes(0), [Outcome::Converged, Outcome::Boundary]);
    assert_eq!(outcomes(3), [Outcome::Explained]);
}

#[test]
fn given_variances_are_served_too() {
    let g = relationships();
    let groups = patterns(&g);
    let of = |(k, group): (usize, &Group)| {
        let total = (k == 1).then_some(2.5);
        vec![Given { h2: [0.0, 0.4, 0.97, 0.2][k], total }; group.traits()]
    };
    let given: Vec<Vec<Given>> = groups.iter().enumerate().map(of).collect();
    let fits = fit_alike(g.view(), &refs(&groups), Some(&given)).unwrap();
    for (k, (group, fit)) in groups.iter().zip(&fits).enumerate().take(3) {
        let alone = fit_group(g.view(), group, Some(&given[k]), Solver::Eigen).unwrap();
        assert_same(fit, &alone, &format!("group {k}"));
    }
}

/// Any share of gaps gives the likelihood, also where it does not pay.
#[test]
fn likelihoods_are_those_of_the_groups_own_animals() {
    let (g, y) = super::tests::herd();
    let groups = super::tests::groups(&y, false);
    let all = group(&y, &groups_design(&groups[0]), groups[0].animals().to_vec(), &[]);
    let spectral = Spectral::new(g.view(), &all).unwrap();
    let gaps = Gaps::new(&spectral, &refs(&groups));
    for h2 in [0.0, 1e-5, 0.3, 0.8, 0.999] {
        let given: Vec<Vec<Given>> =
            groups.iter().map(|group| vec![Given { h2, total: None }; group.traits()]).collect();
        let found = gaps.given(&given.iter().map(|g| &g[..]).collect::<Vec<_>>());
        for (found, group) in found.iter().zip(&groups) {
            let own = Spectral::new(g.view(), group).unwrap();
            for (found, eta) in found.iter().zip(own.rotate().columns()) {
                let want = own.given(eta, Given { h2, total: None });
                assert!(close(found.log_likelihood, want.log_likelihood, 1e-10), "{found:?} {want:?}");
                assert!(close(found.total(), want.total(), 1e-9), "{found:?} {want:?}");
            }
        }
    }
}

/// The design of a group that has all rows of the herd's recorded animals, for all animals.
fn groups_design(group: &Group) -> Array2<f64> {
    group.design().to_owned()
}

#[test]
fn animals_that_do_not_differ_are_told_though_others_do() {
    let mut g = Array2::eye(N);
    (g[[3, 4]], g[[4, 3]]) = (0.5, 0.5);
    let (y, design) = (records(&relationships()), design());
    let groups = [group(&y, &design, without(&[]), &[0]), group(&y, &design, without(&[4]), &[1])];
    assert_eq!(alike(&refs(&groups)).unwrap().len(), 1);
    let fits = fit_alike(g.view(), &refs(&groups), None).unwrap();
    assert_ne!(fits[0].estimates[0].outcome, Outcome::Unidentified);
    assert_eq!(fits[1].estimates[0].outcome, Outcome::Unidentified);
    for (group, fit) in groups.iter().zip(&fits) {
        assert_same(fit, &fit_group(g.view(), group, None, Solver::Eigen).unwrap(), "strangers");
    }
}

#[test]
fn only_groups_of_few_gaps_and_one_design_are_set_together() {
    let (y, plain) = (Array2::<f64>::zeros((N, 2)), design());
    let of = |animals: Vec<usize>| group(&y, &plain, animals, &[0]);
    let members = |groups: &[Group]| -> Vec<Vec<usize>> {
        alike(&refs(groups)).unwrap().into_iter().map(|set| set.members).collect()
    };
    let few = |from: &[usize], gap: usize| from.iter().copied().filter(|i| *i != gap).collect::<Vec<_>>();
    let (all, part): (Vec<usize>, Vec<usize>) = ((0..RECORDED).collect(), (0..300).collect());
    // Two sets, in any order, and one group on its own.
    let mixed =
        [of(part.clone()), of(all.clone()), of(few(&part, 9)), of((0..200).collect()), of(few(&all, 3))];
    assert_eq!(members(&mixed), [[1, 4], [0, 2]]);
    assert!(members(&mixed[..2]).is_empty() && members(&mixed[..1]).is_empty() && members(&[]).is_empty());

    let records = Array2::<f64>::zeros((RECORDED, 1));
    let rows = plain.slice(s![..RECORDED, ..]).to_owned();
    let new =
        |animals: &[usize], weights| Group::new(animals.to_vec(), records.clone(), rows.clone(), weights);
    let weighted = new(&all, Some(Array1::from_shape_fn(RECORDED, |i| 1.0 + (i % 2) as f64)));
    let herds: Vec<String> = (0..RECORDED).map(|i| format!("h{}", i % 7)).collect();
    let absorbing = new(&all, None).absorbing(Factor::new("herd", herds.iter().map(String::as_str)));
    let twice = new(&all.iter().map(|i| i / 2).collect::<Vec<_>>(), None);
    let other = Group::new(all.clone(), records.clone(), &rows + 1.0, None);
    for odd in [weighted, absorbing, twice, other] {
        assert!(members(&[new(&all, None), odd]).is_empty());
    }
    // Herd 1 has a record of animal 5 alone: without it its effect is not there.
    let mut herd = plain.clone();
    herd.column_mut(1).fill(0.0);
    herd[[5, 1]] = 1.0;
    let of = |gaps: &[usize]| group(&y, &herd, without(gaps), &[0]);
    assert_eq!(members(&[of(&[]), of(&[5]), of(&[6])]), [[0, 2]]);
}
