//! Dense fits with several BLAS threads: in a process of its own, since their number is one for the whole process.

use genialearn::comm::World;
use genialearn::mixed::gblup::{fit_groups, Fit};
use genialearn::mixed::plan::{Dense, Layout, Solver};
use genialearn::mixed::reml::Given;
use genialearn::mixed::Group;
use genialearn::rng::{Purpose, Stream};
use ndarray::Array2;

/// Enough for OpenBLAS to share products out, and no multiple of its blocks.
const N: usize = 701;

/// G of random genotypes at 900 SNPs, and records with a part that follows from it.
fn herd() -> (Array2<f64>, Array2<f64>) {
    let mut s = Stream::new(7, Purpose::Test, 0);
    let z = Array2::from_shape_simple_fn((N, 900), || s.below(3) as f64 - 1.0);
    let u = z.dot(&Array2::from_shape_simple_fn((900, 2), || s.uniform() - 0.5)) * 0.06;
    let y = u + Array2::from_shape_simple_fn((N, 2), || 2.0 * (s.uniform() - 0.5));
    (z.dot(&z.t()) / 600.0, y)
}

fn assert_close(a: &Fit, b: &Fit) {
    let near = |a: f64, b: f64| {
        assert!((a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-10 * (1.0 + b.abs()), "{a} {b}");
    };
    for (a, b) in a.estimates.iter().zip(&b.estimates) {
        let all = |e: &genialearn::mixed::Estimate| [e.var_g, e.var_e, e.h2, e.h2_se, e.log_likelihood];
        all(a).into_iter().zip(all(b)).for_each(|(a, b)| near(a, b));
        assert!(a.h2 > 0.1 && a.h2 < 0.9, "{a:?}");
    }
    a.ebv.iter().zip(&b.ebv).for_each(|(&a, &b)| near(a, b));
    a.py.iter().zip(&b.py).for_each(|(&a, &b)| near(a, b));
}

#[test]
fn fits_agree_with_any_number_of_blas_threads() {
    let (g, y) = herd();
    let all = Group::new((0..N).collect(), y.clone(), Array2::ones((N, 1)), None);
    let some: Vec<usize> = (0..N).filter(|i| i % 7 != 0).collect();
    let part = y.select(ndarray::Axis(0), &some);
    let part = Group::new(some.clone(), part, Array2::ones((some.len(), 1)), None);
    let groups = [&all, &part];
    let known = vec![vec![Given { h2: 0.4, total: None }, Given { h2: 0.2, total: Some(1.0) }]; 2];
    for (solver, given) in
        [(Solver::Eigen, None), (Solver::Eigen, Some(&known[..])), (Solver::Cholesky, Some(&known[..]))]
    {
        let fit = |at_once, threads| {
            let plan = Dense { layout: Layout { at_once, threads }, ..Dense::one_by_one(solver) };
            fit_groups(&World::alone(), Some(g.clone()), &groups, given, &plan).unwrap()
        };
        let one = fit(1, 1);
        for (at_once, threads) in [(1, 2), (1, 3), (2, 1)] {
            fit(at_once, threads).iter().zip(&one).for_each(|(a, b)| assert_close(a, b));
        }
    }
}
