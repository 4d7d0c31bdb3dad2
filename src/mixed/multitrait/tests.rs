//! The model's equations by brute force, with all covariances and with few factors.

use super::*;
use crate::linalg::factor::Cholesky;
use crate::linalg::pcg::Params;
use crate::mixed::gblup::{fit_group, join, Solver};
use crate::mixed::reml::Given;
use crate::mixed::solve::Unmonitored;
use crate::mixed::tests::{groups, herd, independent, related, N};
use crate::rng::{Purpose, Stream};
use ndarray::{array, s};
use std::cell::RefCell;

/// A matrix that notes the columns of all products.
struct Counted {
    g: Array2<f64>,
    widths: RefCell<Vec<usize>>,
}

impl Operator for Counted {
    fn row_layout(&self) -> Rows {
        Rows::alone(self.g.nrows())
    }

    fn apply(&self, block: ArrayView2<f64>) -> Array2<f64> {
        self.widths.borrow_mut().push(block.ncols());
        self.g.dot(&block)
    }

    fn diagonal(&self) -> Vec<f64> {
        self.g.diag().to_vec()
    }
}

/// The fit by a sketch of this rank.
fn fit(
    g: &dyn Operator,
    traits: &[Vec<usize>],
    owned: &[Group],
    c: &Covariances,
    rank: Option<usize>,
) -> (Fit, SolveReport) {
    let refs: Vec<&Group> = owned.iter().collect();
    let settings = CgSettings { params: Params::default(), rank, seed: 1 };
    fit_joint(g, (traits, &refs), c, &settings, &mut Unmonitored).unwrap()
}

/// Trait 2 on the first group's animals, 3, 0 and 1 on the second's.
fn four(weighted: bool) -> (Array2<f64>, Vec<Vec<usize>>, Vec<Group>) {
    let (g, y) = herd();
    let mut owned = groups(&y, weighted);
    let more = &y.column(0) * 0.5 + y.column(2);
    let second = &owned[1];
    let rows = ndarray::concatenate![
        Axis(1),
        second.y(),
        more.select(Axis(0), second.animals()).insert_axis(Axis(1))
    ];
    let weights = weighted.then(|| (0..rows.nrows()).map(|i| 1.0 / second.inverse_weight(i)).collect());
    let design = independent().select(Axis(0), second.animals());
    let design = design.select(Axis(1), &[0, 1, 1, 2]);
    owned[1] = Group::new(second.animals().to_vec(), rows, design, weights);
    (g, vec![vec![2], vec![3, 0, 1]], owned)
}

fn covariances() -> Covariances {
    let genetic =
        array![[4.0, 1.0, 2.0, 0.5], [1.0, 3.0, -1.0, 0.2], [2.0, -1.0, 5.0, 1.0], [0.5, 0.2, 1.0, 2.0]];
    let residual =
        array![[9.0, 2.0, 1.0, 3.0], [2.0, 8.0, 0.0, 1.0], [1.0, 0.0, 7.0, -2.0], [3.0, 1.0, -2.0, 6.0]];
    Covariances { genetic, residual }
}

/// The same with G0 = A A' of rank 2.
fn rank_two() -> Covariances {
    let a = array![[2.0, 0.0], [1.0, 1.2], [-1.0, 2.0], [0.4, 0.7]];
    Covariances { genetic: a.dot(&a.t()), ..covariances() }
}

/// Breeding values (N, t) and fixed effects (3, t) from V of all records, one after the other.
fn by_definition(
    g: &Array2<f64>,
    traits: &[Vec<usize>],
    owned: &[Group],
    c: &Covariances,
) -> (Array2<f64>, Array2<f64>) {
    let mut records = Vec::new(); // (trait, animal, y, noise)
    for (group, numbers) in owned.iter().zip(traits) {
        for (k, &t) in numbers.iter().enumerate() {
            for (i, &a) in group.animals().iter().enumerate() {
                records.push((t, a, group.y()[[i, k]], group.inverse_weight(i)));
            }
        }
    }
    let size = records.len();
    let v = Array2::from_shape_fn((size, size), |(i, k)| {
        let ((t, a, _, x), (u, b, _, y)) = (records[i], records[k]);
        let noise = if a == b { c.residual[[t, u]] * (x * y).sqrt() } else { 0.0 };
        c.genetic[[t, u]] * g[[a, b]] + noise
    });
    let base = independent();
    let of_trait = |i: usize, j: usize| if j / 3 == records[i].0 { base[[records[i].1, j % 3]] } else { 0.0 };
    let x = Array2::from_shape_fn((size, 12), |(i, j)| of_trait(i, j));
    let y = Array2::from_shape_fn((size, 1), |(i, _)| records[i].2);
    let factor = Cholesky::new(v).unwrap();
    let small = Cholesky::new(x.t().dot(&factor.solve(x.view()))).unwrap();
    let b = small.solve(x.t().dot(&factor.solve(y.view())).view());
    let py = factor.solve((&y - &x.dot(&b)).view());
    let u = Array2::from_shape_fn((N, 4), |(a, t)| {
        records.iter().zip(&py).map(|(r, p)| c.genetic[[t, r.0]] * g[[a, r.1]] * p).sum()
    });
    (u, Array2::from_shape_fn((3, 4), |(j, t)| b[[3 * t + j, 0]]))
}

#[test]
fn the_joint_model_solves_its_definition_with_gaps_and_weights_by_any_preconditioner() {
    for (c, factors) in [(covariances(), 4), (rank_two(), 2), (covariances().reduced(1).unwrap().0, 1)] {
        for (weighted, rank) in [(false, None), (true, None), (true, Some(0)), (true, Some(20))] {
            let (g, traits, owned) = four(weighted);
            let counted = Counted { g: g.clone(), widths: RefCell::default() };
            let (fit, course) = fit(&counted, &traits, &owned, &c, rank);
            let widths = counted.widths.into_inner();
            let sketched = widths.iter().filter(|&&w| w != factors).count();
            assert!(course.factors == factors && sketched <= 1, "{widths:?}");
            let (u, b) = by_definition(&g, &traits, &owned, &c);
            assert!((&u - &fit.ebv).iter().all(|d| d.abs() < 1e-8), "{factors} factors, sketch {rank:?}");
            for (row, j) in b.rows().into_iter().zip([0, 1, 3]) {
                assert!((&row - &fit.fixed.row(j)).iter().all(|d| d.abs() < 1e-7), "effect {j}");
            }
            // SNP effects are made from var_g G py.
            for (t, e) in fit.estimates.iter().enumerate() {
                let again = g.dot(&fit.py.column(t)) * e.var_g;
                assert!((&again - &fit.ebv.column(t)).iter().all(|d| d.abs() < 1e-9));
            }
        }
    }
}

#[test]
fn as_many_factors_as_traits_change_nothing_and_two_are_enough_for_a_rank_of_two() {
    let (g, traits, owned) = four(true);
    for (c, rank) in [(covariances(), 4), (rank_two(), 2), (rank_two(), 4)] {
        let (reduced, bending) = c.reduced(rank).unwrap();
        assert_eq!(bending, Default::default());
        assert!((&reduced.genetic - &c.genetic).iter().all(|d| d.abs() < 1e-12));
        assert!((&reduced.residual - &c.residual).iter().all(|d| d.abs() < 1e-12));
        let [a, b] = [&c, &reduced].map(|c| fit(&g, &traits, &owned, c, None).0.ebv);
        assert!((&a - &b).iter().all(|d| d.abs() < 1e-8));
    }
    // What one component leaves is residual.
    let (c, (one, _)) = (covariances(), covariances().reduced(1).unwrap());
    let sums = [&c, &one].map(|c| &c.genetic + &c.residual);
    assert!((&sums[0] - &sums[1]).iter().all(|d| d.abs() < 1e-12));
    assert!(one.genetic.diag().iter().zip(c.genetic.diag()).all(|(a, b)| a < b));
}

/// A sketch that misses nothing makes the preconditioner the inverse of V, with and without gaps.
#[test]
fn the_preconditioner_inverts_v_where_the_sketch_is_g() {
    let (g, c) = (herd().0, rank_two());
    let factor = factor(&c.genetic, &c.residual).unwrap();
    assert!((&factor.dot(&factor.t()) - &c.genetic).iter().all(|d| d.abs() < 1e-12));
    let settings = |rank| CgSettings { params: Params::default(), rank: Some(rank), seed: 1 };
    for gaps in [false, true] {
        let recorded = |i: usize, k: usize| i < N - 7 && (!gaps || (i * 7 + k * 5) % 4 != 1);
        let roots = Array2::from_shape_fn((N, 4), |(i, k)| f64::from(u8::from(recorded(i, k))));
        let x = Array2::from_shape_fn((N, 4), |(i, k)| ((i * 3 + k * 5) % 7) as f64 - 3.0) * &roots;
        let v = |x: &Array2<f64>| (g.dot(x).dot(&c.genetic) + x.dot(&c.residual)) * &roots;
        let inverse = |rank| {
            Preconditioner::new(&g, &roots, (&factor, &c.residual), &settings(rank)).unwrap().solve(v(&x))
        };
        let off = |rank| (&inverse(rank) - &x).mapv(|d| d * d).sum() / x.mapv(|d| d * d).sum();
        assert!(off(N) < 1e-6 && off(0) > 0.1, "gaps {gaps}: {} {}", off(N), off(0));
    }
}

#[test]
fn a_sketch_saves_iterations() {
    let mut s = Stream::new(43, Purpose::Test, 0);
    let m = Array2::from_shape_simple_fn((300, 20), || 0.5 * s.normal()); // twenty large directions
    let g = m.dot(&m.t()) + related(300).0 * 0.2;
    let effects = Array2::from_shape_simple_fn((m.ncols(), 4), || s.normal());
    let y = m.dot(&effects) + Array2::from_shape_simple_fn((300, 4), || s.normal());
    let group = |(t, skipped): (usize, usize)| {
        let animals: Vec<usize> = (0..300).filter(|i| i % 7 != skipped).collect();
        let y = y.select(Axis(0), &animals).select(Axis(1), &[t]);
        Group::new(animals.clone(), y, Array2::ones((animals.len(), 1)), None)
    };
    let owned: Vec<Group> = (0..4).map(|t| group((t, t + 1))).collect();
    let traits: Vec<Vec<usize>> = (0..4).map(|t| vec![t]).collect();
    let mut c = covariances();
    c.genetic *= 4.0;
    let [with, without] =
        [Some(30), Some(0)].map(|rank| fit(&g, &traits, &owned, &c, rank).1.info.iterations);
    assert!(2 * with < without, "{with} {without}");
}

#[test]
fn without_covariances_traits_are_alone() {
    let c = covariances();
    let alone = Covariances {
        genetic: Array2::from_diag(&c.genetic.diag()),
        residual: Array2::from_diag(&c.residual.diag()),
    };
    let (g, traits, owned) = four(true);
    let joint = fit(&g, &traits, &owned, &alone, None).0;
    let fits = owned.iter().zip(&traits).map(|(group, numbers)| {
        let given = |&t: &usize| {
            let total = c.genetic[[t, t]] + c.residual[[t, t]];
            Given { h2: c.genetic[[t, t]] / total, total: Some(total) }
        };
        let given: Vec<Given> = numbers.iter().map(given).collect();
        fit_group(g.view(), group, Some(&given), Solver::Cholesky).unwrap()
    });
    let single = join(&traits, fits.collect());
    assert!((&joint.ebv - &single.ebv).iter().all(|d| d.abs() < 1e-8));
    assert!((&joint.py - &single.py).iter().all(|d| d.abs() < 1e-8));
    assert!((&joint.fixed - &single.fixed).iter().all(|d| d.abs() < 1e-7));
    assert_eq!(joint.estimates[3].n, single.estimates[3].n);
}

#[test]
fn a_sparsely_recorded_trait_is_predicted_better_together_with_a_correlated_one() {
    let (g, m) = related(300);
    let mut gains = Vec::new();
    for herd in 0..6 {
        let mut s = Stream::new(41, Purpose::Test, herd);
        let e = Array2::from_shape_simple_fn((m.ncols(), 2), || s.normal());
        let second = &e.column(0) * 0.9 + &e.column(1) * (1.0f64 - 0.81).sqrt();
        let truth = m.dot(&ndarray::stack![Axis(1), e.column(0), second]);
        let y = &truth + Array2::from_shape_simple_fn((300, 2), || s.normal());
        let all: Vec<usize> = (0..300).collect();
        let few: Vec<usize> = (0..60).collect();
        let group = |animals: &[usize], t: usize| {
            let y = y.select(Axis(0), animals).slice(s![.., t..=t]).to_owned();
            Group::new(animals.to_vec(), y, Array2::ones((animals.len(), 1)), None)
        };
        let owned = [group(&all, 0), group(&few, 1)];
        let with = |r: f64| {
            let genetic = array![[1.0, r], [r, 1.0]];
            let c = Covariances { genetic, residual: Array2::eye(2) };
            let fit = fit(&g, &[vec![0], vec![1]], &owned, &c, None).0;
            let column = |a: &Array2<f64>| a.slice(s![60.., 1]).to_vec();
            crate::stats::pearson(&column(&fit.ebv), &column(&truth))
        };
        gains.push(with(0.9) - with(0.0));
    }
    assert!(gains.iter().all(|&g| g > 0.0) && crate::stats::mean(&gains) > 0.05, "{gains:?}");
}
