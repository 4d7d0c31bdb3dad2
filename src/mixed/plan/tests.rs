use super::cost::GRID_FROM;
use super::layout::matrix_bytes;
use super::*;

const GB: f64 = 1e9;

fn machine(ranks: usize, threads: usize, free: f64) -> Resources {
    Resources { ranks, ranks_here: ranks, threads, free }
}

fn problem(n: usize, m: usize, traits: &[usize], known: bool) -> Problem {
    let of = |&traits: &usize| GroupSize { animals: n, traits, levels: traits };
    Problem { n, m, origin: Origin::Genotypes, known, groups: traits.iter().map(of).collect() }
}

fn plan(problem: &Problem, resources: Resources) -> Plan {
    Plan::choose(Wishes::default(), problem, resources).unwrap().0
}

/// Solver and grid, nothing for conjugate gradients.
fn dense(plan: Plan) -> Option<(Solver, Option<Grid>)> {
    match plan {
        Plan::Dense(dense) => Some((dense.solver, dense.grid)),
        Plan::ConjugateGradient => None,
    }
}

#[test]
fn the_cheaper_way_is_taken() {
    let one = machine(1, 1, 100.0 * GB);
    let of = |n, m, t, known| dense(plan(&problem(n, m, &[t], known), one));
    assert_eq!(of(2_000, 50_000, 33, true), Some((Solver::Eigen, None)));
    assert_eq!(of(2_000, 50_000, 7, true), Some((Solver::Cholesky, None)));
    assert_eq!(of(2_000, 500, 1, true), None, "products cost less than G and its factor");
    assert_eq!(of(10_000, 50_161, 33, true), None, "131 CPU seconds with G, 44 without");
    assert_eq!(of(2_000, 500, 1, false), Some((Solver::Eigen, None)), "exact REML");
    let mut same = problem(2_000, 50_000, &[33], true);
    same.groups[0].levels = 1;
    assert_eq!(dense(plan(&same, one)), Some((Solver::Cholesky, None)), "one factor for all");
    let file = |genotypes| problem(2_000, 500, &[1], true).with_g(Origin::File { genotypes });
    assert_eq!(dense(plan(&file(true), one)), Some((Solver::Cholesky, None)), "G is there already");
    let little = machine(1, 1, 1e6);
    assert_eq!(dense(plan(&file(true), little)), None);
    let told = Plan::choose(Wishes::default(), &file(false), little).unwrap_err().to_string();
    assert!(told.contains("0.1 GB on one machine, 0.0 GB are free"), "{told}");
}

#[test]
fn memory_decides_between_g_and_products() {
    // 20,000 animals: G and a fit beside it take 2.3 matrices of 3.2 GB.
    let of = |free, known| plan(&problem(20_000, 50_000, &[1], known), machine(1, 2, free));
    assert_eq!(dense(of(10.0 * GB, false)), Some((Solver::Eigen, None)));
    assert_eq!(dense(of(9.0 * GB, false)), None, "stochastic REML");
    // An explicit wish may take all that is free, and no more.
    let solver = SolverChoice::Dense(Solver::Cholesky);
    let asked = |free| {
        let wishes = Wishes { solver, ..Wishes::default() };
        Plan::choose(wishes, &problem(20_000, 50_000, &[1], true), machine(1, 2, free))
    };
    assert_eq!(dense(asked(7.4 * GB).unwrap().0), Some((Solver::Cholesky, None)));
    let told = asked(7.3 * GB).unwrap_err().to_string();
    assert!(told.contains("cholesky needs 7.4 GB on one machine, 7.3 GB are free"), "{told}");
    // Four ranks of one machine hold G four times where each has a group; a grid holds five matrices in all.
    let several = problem(20_000, 50_000, &[1; 4], false);
    let grid = Some(Grid::new(2, 2));
    assert_eq!(dense(plan(&several, machine(4, 1, 37.0 * GB))), Some((Solver::Eigen, None)));
    assert_eq!(dense(plan(&several, machine(4, 1, 36.0 * GB))), Some((Solver::Eigen, grid)));
    let apart = Resources { ranks_here: 1, ..machine(4, 1, 10.0 * GB) };
    assert_eq!(dense(plan(&several, apart)), Some((Solver::Eigen, None)), "a machine each");
    assert_eq!(dense(plan(&several, machine(4, 1, 19.0 * GB))), None);
}

#[test]
fn grids_are_for_few_large_groups_and_for_who_asks() {
    let of = |ranks, n, groups: &[usize], known| {
        let resources = machine(ranks, 1, 1e4 * GB);
        let problem = problem(n, 50_000, groups, known).with_g(Origin::File { genotypes: true });
        dense(plan(&problem, resources)).expect("dense").1
    };
    assert_eq!(of(4, 100, &[1], true), None);
    assert_eq!(of(6, GRID_FROM, &[1, 1], true), Some(Grid::new(2, 3)));
    assert_eq!(of(6, GRID_FROM, &[1, 1], false), None, "eigenvalues are cheaper on single ranks");
    assert_eq!(of(6, GRID_FROM, &[1], false), Some(Grid::new(2, 3)));
    assert_eq!(of(2, GRID_FROM, &[1, 1], true), None, "a group for each rank");
    assert_eq!(of(1, GRID_FROM, &[1], true), None);
    let asked = |text: &str, ranks| {
        let grid = text.parse().unwrap();
        let wishes = Wishes { grid, ..Wishes::default() };
        Plan::choose(wishes, &problem(100, 5_000, &[1], false), machine(ranks, 1, GB))
    };
    assert_eq!(dense(asked("3x2", 6).unwrap().0), Some((Solver::Eigen, Some(Grid::new(3, 2)))));
    assert!(asked("3x2", 4).is_err());
    assert_eq!(dense(asked("none", 6).unwrap().0), Some((Solver::Eigen, None)));
    assert!("3".parse::<GridChoice>().is_err() && "qr".parse::<SolverChoice>().is_err());
}

#[test]
fn few_large_fits_take_all_threads_one_after_the_other() {
    let free = 1e4 * GB;
    let of = |fits, animals, free| {
        let Layout { at_once, threads } = Layout::new(fits, animals, matrix_bytes(animals), free, 8);
        (at_once, threads)
    };
    assert_eq!(of(1, 5_000, free), (1, 8));
    assert_eq!(of(4, 20_000, free), (1, 8));
    assert_eq!(of(4, 5_000, free), (4, 1), "a quarter of the work is on one thread anyway");
    assert_eq!(of(6, 20_000, free), (6, 1));
    assert_eq!(of(100, 5_000, free), (8, 1));
    assert_eq!(of(1, 2_000, free), (1, 1), "small fits have the same bits with any number of threads");
    // Memory for two fits at once: eight threads on one of them are faster than one on each.
    assert_eq!(of(100, 20_000, 13.0 * GB), (1, 8));
    assert_eq!(Layout::new(1, 5_000, 1.0, free, 1), Layout { at_once: 1, threads: 1 });
    assert_eq!(of(0, 0, free), (1, 1));
}

#[test]
fn the_line_of_the_log_has_every_way_and_the_reason() {
    let (_, told) =
        Plan::choose(Wishes::default(), &problem(20_000, 50_000, &[33], false), machine(1, 2, 5.0 * GB))
            .unwrap();
    let want = "plan: stochastic REML: least work of what fits (eigen 7.36 GB and";
    assert!(told.starts_with(want) && told.contains("; 5.00 GB free)"), "{told}");
    assert!(!told.contains('\n'));
}
