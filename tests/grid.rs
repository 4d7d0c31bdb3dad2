//! The mixed model over grids of ranks agrees with whole problems on one rank.

mod support;

use genialearn::comm::layout::Grid;
use genialearn::linalg::matrix::DistMatrix;
use genialearn::mixed::gblup::{fit_group, Fit, Solver};
use genialearn::mixed::grid::fit_groups;
use genialearn::mixed::reml::Given;
use genialearn::mixed::Group;
use genialearn::rng::{Purpose, Stream};
use ndarray::{s, Array1, Array2, Axis};
use std::path::Path;
use support::{on_ranks, succeeds};

/// Relative to the largest number of a table.
const TOLERANCE: f64 = 1e-8;

/// Animals; G stands in blocks of 16, so that every rank has several and the last is short.
const N: usize = 150;

/// G of N animals at 300 loci, and records of three traits on it.
fn herd() -> (Array2<f64>, Array2<f64>) {
    let mut stream = Stream::new(21, Purpose::Test, 0);
    let m = Array2::from_shape_simple_fn((N, 300), || stream.normal());
    let effects = Array2::from_shape_simple_fn((300, 3), || stream.normal());
    let y = m.dot(&effects) / 17.0 + Array2::from_shape_simple_fn((N, 3), || stream.normal()) + 5.0;
    (m.dot(&m.t()) / 300.0, y)
}

/// Trait 0 of all animals; traits 1 and 2 of some, weighted, with a covariate and a second one that follows from it.
fn groups(y: &Array2<f64>) -> Vec<Group> {
    let mut stream = Stream::new(22, Purpose::Test, 0);
    let some: Vec<usize> = (0..N).filter(|i| i % 5 != 2 && *i < N - 7).collect();
    let all: Vec<usize> = (0..N).collect();
    let age = Array1::from_shape_simple_fn(some.len(), || stream.normal());
    let ones = Array1::ones(some.len());
    let design = ndarray::stack![Axis(1), ones, age, &age * 2.0 - 1.0];
    let weights = Array1::from_shape_simple_fn(some.len(), || 0.5 + stream.uniform());
    let records = y.select(Axis(0), &some).slice(s![.., 1..]).to_owned();
    vec![
        Group::new(all, y.slice(s![.., ..1]).to_owned(), Array2::ones((N, 1)), None),
        Group::new(some, records, design, Some(weights)),
    ]
}

fn assert_close(what: &str, ours: &[f64], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let size = theirs.iter().fold(1e-3, |most: f64, x| most.max(x.abs()));
    for (a, b) in ours.iter().zip(theirs) {
        assert!((a - b).abs() <= TOLERANCE * size, "{what}: {a} and {b} of {size}");
    }
}

fn assert_same_fit(what: &str, ours: &Fit, theirs: &Fit) {
    let flat = |x: &Array2<f64>| x.iter().copied().collect::<Vec<_>>();
    for (part, a, b) in
        [("ebv", &ours.ebv, &theirs.ebv), ("py", &ours.py, &theirs.py), ("fixed", &ours.fixed, &theirs.fixed)]
    {
        assert_close(&format!("{what} {part}"), &flat(a), &flat(b));
    }
    for (a, b) in ours.estimates.iter().zip(&theirs.estimates) {
        assert_close(what, &[a.var_g, a.var_e, a.h2], &[b.var_g, b.var_e, b.h2]);
        assert_close(what, &[a.log_likelihood], &[b.log_likelihood]);
        assert_eq!((a.n, a.outcome), (b.n, b.outcome));
        if a.h2_se.is_finite() || b.h2_se.is_finite() {
            // Standard errors of a maximum that is settled to 1e-8.
            let close = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-6;
            assert!(
                close(a.h2_se, b.h2_se) && close(a.var_g_se, b.var_g_se) && close(a.var_e_se, b.var_e_se)
            );
        }
    }
}

#[test]
fn every_solver_on_every_grid_agrees_with_one_rank() {
    on_ranks("every_solver_on_every_grid_agrees_with_one_rank", &[1, 5, 6], |world| {
        let (g, y) = herd();
        let groups = groups(&y);
        let groups: Vec<&Group> = groups.iter().collect();
        let known = |h2: &[f64], total| h2.iter().map(|&h2| Given { h2, total }).collect::<Vec<_>>();
        // Two traits of different and of the same heritability; none at all.
        let given = [known(&[0.3], None), known(&[0.6, 0.6], Some(2.0))];
        let apart = [known(&[0.0], Some(1.0)), known(&[0.2, 0.7], None)];
        let ranks = world.size();
        for rows in (1..=ranks).filter(|r| ranks.is_multiple_of(*r)) {
            let grid = Grid::new(rows, ranks / rows);
            let dealt = DistMatrix::from_fn(world, grid, (N, N), 16, |i, k| g[[i, k]]).unwrap();
            for (solver, given) in [
                (Solver::Cholesky, Some(&given)),
                (Solver::Cholesky, Some(&apart)),
                (Solver::Eigen, Some(&given)),
                (Solver::Eigen, Some(&apart)),
                (Solver::Eigen, None),
            ] {
                let fits = fit_groups(&dealt, &groups, given.map(|g| &g[..]), solver).unwrap();
                for (k, (fit, group)) in fits.iter().zip(&groups).enumerate() {
                    let alone = fit_group(g.view(), group, given.map(|g| &g[k][..]), solver).unwrap();
                    assert_same_fit(&format!("{grid} {} group {k}", solver.name()), fit, &alone);
                }
            }
        }
    });
}

#[test]
fn what_cannot_be_solved_is_one_error_on_all_ranks() {
    on_ranks("what_cannot_be_solved_is_one_error_on_all_ranks", &[1, 4], |world| {
        let (mut g, y) = herd();
        g.diag_mut().fill(-3.0);
        let groups = groups(&y);
        let grid = Grid::of(world.size());
        let dealt = DistMatrix::from_fn(world, grid, (N, N), 16, |i, k| g[[i, k]]).unwrap();
        let given = [vec![Given { h2: 0.9, total: None }]];
        let told = fit_groups(&dealt, &[&groups[0]], Some(&given), Solver::Cholesky).unwrap_err();
        assert!(told.to_string().contains("not positive definite (row 1 of 150)"), "{told}");
        let told = fit_groups(&dealt, &[&groups[0]], Some(&given), Solver::Eigen).unwrap_err();
        assert!(told.to_string().contains("negative eigenvalues"), "{told}");
        let few = Group::new(vec![3, 4], Array2::ones((2, 1)), Array2::ones((2, 1)), None);
        let told = fit_groups(&dealt, &[&few], None, Solver::Eigen).unwrap_err();
        assert!(told.to_string().contains("two records more than fixed effects"), "{told}");
        world.barrier();
    });
}

/// All numbers of a table, line by line; words are skipped.
fn numbers(path: &Path) -> Vec<f64> {
    let text = std::fs::read_to_string(path).unwrap();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Three rows of tiles of 256 animals, so that on some grids a rank has none; all animals, and a store of some.
#[test]
fn relationships_from_a_file_are_read_by_all_ranks_each_its_own_tiles() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (store, traits, g) = (at("herd.h5"), at("traits.tsv"), at("g.h5"));
    let size = ["--animals", "530", "--snps", "300", "--traits", "1", "-q"];
    succeeds(1, &[&["simulate", "--out", &store, "--pheno", &traits], &size[..]].concat());
    succeeds(1, &["grm", &store, "--out", &g, "-q"]);
    succeeds(1, &["export", &store, "--format", "bed", "--out", &at("some"), "-q"]);
    let fam = std::fs::read_to_string(at("some.fam")).unwrap();
    let ids = fam.lines().map(|l| l.split_whitespace().nth(1).unwrap());
    let kept: Vec<&str> = ids.enumerate().filter(|(i, _)| i % 7 != 3).map(|(_, id)| id).collect();
    std::fs::write(at("kept.txt"), kept.join("\n")).unwrap();
    let some = ["import", &at("some.bed"), "--keep", &at("kept.txt"), "--out", &at("some.h5"), "-q"];
    succeeds(1, &some);
    for (store, name) in [(store, "all"), (at("some.h5"), "some")] {
        let run = |ranks: usize, grid: &str| {
            let out = at(&format!("{name}{grid}"));
            let args = ["reml", &store, "--pheno", &traits, "--grm", &g, "--grid", grid, "-q"];
            succeeds(ranks, &[&args[..], &["--out", &out]].concat());
            let text = std::fs::read_to_string(format!("{out}.variances.tsv")).unwrap();
            let line: Vec<String> = text.lines().nth(1).unwrap().split('\t').map(str::to_owned).collect();
            // n, var_g, its error, var_e, its error, h2
            line[1..7].iter().map(|x| x.parse().unwrap()).collect::<Vec<f64>>()
        };
        let alone = run(1, "none");
        for (ranks, grid) in [(1, "1x1"), (2, "2x1"), (3, "1x3"), (4, "2x2")] {
            assert_close(&format!("{name} {grid}"), &run(ranks, grid), &alone);
        }
    }
}

#[test]
fn the_commands_agree_on_one_rank_and_on_grids() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (store, traits) = (at("herd.h5"), at("traits.tsv"));
    let size = ["--animals", "530", "--snps", "800", "--traits", "2"];
    let herd = [&["simulate"], &size[..], &["--out", &store, "--pheno", &traits]].concat();
    succeeds(1, &herd);
    let run = |ranks: usize, command: &str, more: &[&str], out: &str| {
        let fixed = [command, &store, "--pheno", &traits, "--out", out, "--quiet"];
        succeeds(ranks, &[&fixed[..], more].concat());
    };
    let g = at("g.h5");
    succeeds(1, &["grm", &store, "--out", &g, "--quiet"]);
    let tables = |prefix: &str, suffixes: &[&str]| -> Vec<Vec<f64>> {
        suffixes.iter().map(|suffix| numbers(&dir.path().join(format!("{prefix}.{suffix}")))).collect()
    };
    let all = ["ebv.tsv", "fixed.tsv", "variances.tsv"];
    run(1, "gblup", &["--solver", "cholesky", "--h2", "0.4"], &at("c1"));
    let mut command = support::genialearn(6);
    command.args(["gblup", &store, "--pheno", &traits, "--out", &at("c6"), "--h2", "0.4"]);
    command.args(["--solver", "cholesky", "--grid", "3x2"]);
    let out = support::run_alone(command);
    let told = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && told.contains("plan: cholesky over 3x2 ranks"), "{told}");
    run(1, "gblup", &["--solver", "eigen"], &at("e1"));
    run(4, "gblup", &["--solver", "eigen", "--grid", "2x2", "--grm", &g], &at("e4"));
    run(6, "reml", &["--grid", "2x3"], &at("r6"));
    for (grid, one, suffixes) in [("c6", "c1", &all[..]), ("e4", "e1", &all[..2])] {
        for (a, b) in tables(grid, suffixes).iter().zip(tables(one, suffixes)) {
            assert!(a.len() > 1);
            assert_close(grid, a, &b);
        }
    }
    // trait, n, var_g, se, var_e, se, h2, se, loglik, iterations, converged: another search, another count.
    let estimates = |prefix: &str| -> Vec<Vec<f64>> {
        let text = std::fs::read_to_string(dir.path().join(format!("{prefix}.variances.tsv"))).unwrap();
        let header: Vec<&str> = text.lines().next().unwrap().split('\t').collect();
        let wanted: Vec<usize> = ["var_g", "var_e", "h2", "loglik"]
            .iter()
            .map(|w| header.iter().position(|h| h == w).unwrap())
            .collect();
        let line = |l: &str| {
            let cells: Vec<&str> = l.split('\t').collect();
            wanted.iter().map(|&w| cells[w].parse().unwrap()).collect()
        };
        text.lines().skip(1).map(line).collect()
    };
    for grid in ["e4", "r6"] {
        for (a, b) in estimates(grid).iter().zip(estimates("e1")) {
            assert_close(grid, a, &b);
        }
    }
    // A grid that does not take all ranks is the user's mistake.
    let mut command = support::genialearn(2);
    command.args(["reml", &store, "--pheno", &traits, "--grid", "2x2", "--out", &at("x")]);
    let out = support::run_alone(command);
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("use 1x2, or start 4 ranks"));
}
