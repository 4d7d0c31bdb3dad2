//! What every way of solving costs: bytes and work.

use super::layout::matrix_bytes;
use super::{
    Dense, GridChoice, GroupSize, Layout, Origin, Plan, Problem, Resources, Solver, SolverChoice, Wishes,
    SHARE,
};
use crate::comm::layout::Grid;
use crate::error::Result;
use crate::linalg::precondition;
use crate::mixed::reml::stochastic;
use crate::packed::PER_BYTE;
use std::fmt::{self, Display, Formatter};

/// Matrices (n_o, n_o) that a dense fit holds beside G at its peak: the scaled G of its group, reduced to a band or
/// factored where it stands. Peaks of resident memory at n = 6,000, with G: 2.1 to 2.3 matrices by either way.
pub(super) const BESIDE_G: f64 = 1.3;
/// Matrices (n, n) that all ranks of a grid hold together for eigenvalues: G, the scaled relationships, their
/// eigenvectors, and twice as much to work in.
const GRID_EIGEN_MATRICES: f64 = 5.0;
/// The same for Cholesky factors: G and the factor.
const GRID_CHOLESKY_MATRICES: f64 = 2.0;
/// Blocks (n, t) that conjugate gradients hold: solution, residual, direction, product, and copies on the way.
const BLOCKS: f64 = 8.0;

/// Work of a Cholesky factor, in n³.
const CHOLESKY: f64 = 1.0 / 3.0;
/// Work of a band, its eigenvalues and the solutions: as much as eight Cholesky factors (measured).
const BAND: f64 = 8.0 * CHOLESKY;
/// Work of eigenvalues and eigenvectors on a grid: four times that of a band (benches/results/reml.md).
const GRID_EIGEN: f64 = 4.0 * BAND;
/// Work of a Cholesky factor on a grid: 24 of them cost as much as all eigenvectors (measured).
const GRID_CHOLESKY: f64 = GRID_EIGEN / 24.0;
/// The integer product that forms G runs about so many times as fast as products of reals.
const INTEGER: f64 = 8.0;
/// Products with G that conjugate gradients, or the recursion of stochastic REML, usually take: 21 to 47 measured
/// (benches/results/repetition.md).
const PRODUCTS: f64 = 30.0;
/// Products with packed genotypes run about so many times as fast as products of reals (measured).
const PACKED: f64 = 3.6;
/// Reading the genotypes costs a product as much as so many columns (measured).
const READING: f64 = 16.0;
/// From this number of animals with records on, a grid of ranks may be faster than whole problems on single ranks,
/// which have the same bits on any number of ranks.
pub(super) const GRID_FROM: usize = 8193;

/// A way to solve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Whole(Solver),
    Over(Grid, Solver),
    ConjugateGradient,
}

/// What a way costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cost {
    pub way: Way,
    /// Bytes on the machine that holds most.
    pub bytes: f64,
    /// Operations of the busiest core, in those of products of reals.
    pub work: f64,
}

/// All ways that the wishes leave open, with their costs.
pub(super) fn all(wishes: Wishes, problem: &Problem, resources: Resources) -> Result<Vec<Cost>> {
    let solvers: &[Solver] = match wishes.solver {
        SolverChoice::ConjugateGradient => &[],
        _ if !problem.known => &[Solver::Eigen],
        SolverChoice::Dense(Solver::Cholesky) => &[Solver::Cholesky],
        SolverChoice::Dense(Solver::Eigen) => &[Solver::Eigen],
        SolverChoice::Auto => &[Solver::Cholesky, Solver::Eigen],
    };
    if let GridChoice::Over(grid) = wishes.grid {
        grid.check(resources.ranks)?;
    }
    let mut costs = Vec::new();
    for &solver in solvers {
        let whole = whole(problem, resources, solver);
        let too_large = whole.bytes > SHARE * resources.free;
        let grid = match wishes.grid {
            _ if resources.ranks == 1 => None,
            GridChoice::Whole => None,
            GridChoice::Over(grid) => Some(grid),
            GridChoice::Auto => {
                (too_large || problem.largest() >= GRID_FROM).then(|| Grid::of(resources.ranks))
            }
        };
        costs.extend(grid.map(|grid| over(problem, resources, grid, solver)));
        if grid.is_none() || wishes.grid == GridChoice::Auto {
            costs.push(whole);
        }
    }
    let products = problem.origin != Origin::File { genotypes: false };
    let asked = wishes.solver == SolverChoice::ConjugateGradient;
    if asked || (products && wishes.solver == SolverChoice::Auto) {
        costs.push(conjugate_gradient(problem, resources));
    }
    Ok(costs)
}

/// Work of forming G, shared out among all cores.
fn forming(problem: &Problem, resources: Resources) -> f64 {
    let products = (problem.n as f64).powi(2) * problem.m as f64 / INTEGER;
    match problem.origin {
        Origin::Genotypes => products / cores(resources),
        Origin::File { .. } => 0.0,
    }
}

fn cores(resources: Resources) -> f64 {
    (resources.ranks * resources.threads) as f64
}

fn cube(n: usize) -> f64 {
    (n as f64).powi(3)
}

/// Whole problems on single ranks: G on every rank that has something to do with it.
fn whole(problem: &Problem, resources: Resources, solver: Solver) -> Cost {
    let holders = holders(problem, resources) as f64;
    let each = matrix_bytes(problem.n) + BESIDE_G * matrix_bytes(problem.largest());
    // Several ranks form G in tiles, which the root gathers.
    let forming_bytes = if resources.ranks > 1 { 2.0 * matrix_bytes(problem.n) } else { 0.0 };
    let one = |g: &GroupSize| match solver {
        Solver::Cholesky => g.levels as f64 * CHOLESKY * cube(g.animals),
        Solver::Eigen => BAND * cube(g.animals),
    };
    let total: f64 = problem.groups.iter().map(one).sum();
    let mean = total / problem.groups.len().max(1) as f64;
    let layout = layout(problem, resources);
    Cost {
        way: Way::Whole(solver),
        bytes: (holders * each).max(forming_bytes),
        work: forming(problem, resources)
            + layout.time(fits_a_rank(problem, resources), problem.largest(), mean),
    }
}

/// Ranks of one machine that hold G.
fn holders(problem: &Problem, resources: Resources) -> usize {
    if problem.groups.len() <= 1 {
        1
    } else {
        resources.ranks_here
    }
}

fn fits_a_rank(problem: &Problem, resources: Resources) -> usize {
    problem.groups.len().div_ceil(resources.ranks)
}

/// How each rank shares out its whole problems.
fn layout(problem: &Problem, resources: Resources) -> Layout {
    let free = resources.free / holders(problem, resources) as f64 - matrix_bytes(problem.n);
    let (largest, fits) = (problem.largest(), fits_a_rank(problem, resources));
    Layout::new(fits, largest, BESIDE_G * matrix_bytes(largest), free, resources.threads)
}

/// One group after the other over a grid of all ranks.
fn over(problem: &Problem, resources: Resources, grid: Grid, solver: Solver) -> Cost {
    let (matrices, work): (f64, f64) = match solver {
        Solver::Cholesky => {
            let one = |g: &GroupSize| g.levels as f64 * GRID_CHOLESKY * cube(g.animals);
            (GRID_CHOLESKY_MATRICES, problem.groups.iter().map(one).sum())
        }
        Solver::Eigen => {
            let one = |g: &GroupSize| GRID_EIGEN * cube(g.animals);
            (GRID_EIGEN_MATRICES, problem.groups.iter().map(one).sum())
        }
    };
    let here = resources.ranks_here as f64 / resources.ranks as f64;
    Cost {
        way: Way::Over(grid, solver),
        bytes: matrices * matrix_bytes(problem.n) * here,
        work: forming(problem, resources) + work / cores(resources),
    }
}

/// Products with G alone, for all traits (and the probes of stochastic REML) in one block.
fn conjugate_gradient(problem: &Problem, resources: Resources) -> Cost {
    let probes = if problem.known { 0 } else { stochastic::Params::default().probes };
    let columns: usize = problem.groups.iter().map(|g| g.traits + probes).sum();
    let traits: usize = problem.groups.iter().map(|g| g.traits).sum();
    // The preconditioner's are of half the size while it is made.
    let numbers = BLOCKS * columns as f64 + 0.5 * precondition::rank(problem.n, traits) as f64;
    let column = 4.0 * problem.n as f64 * problem.m as f64 / PACKED;
    // A second copy of the calls, by SNP, for quick products.
    let calls = problem.n as f64 * problem.m as f64 / PER_BYTE as f64 / resources.ranks as f64;
    Cost {
        way: Way::ConjugateGradient,
        bytes: (8.0 * problem.n as f64 * numbers + calls) * resources.ranks_here as f64,
        work: PRODUCTS * column * (READING + columns as f64) / cores(resources),
    }
}

impl Cost {
    pub fn plan(self, problem: &Problem, resources: Resources) -> Plan {
        match self.way {
            Way::ConjugateGradient => Plan::ConjugateGradient,
            Way::Whole(solver) => {
                Plan::Dense(Dense { solver, grid: None, layout: layout(problem, resources) })
            }
            Way::Over(grid, solver) => {
                let layout = Layout { at_once: 1, threads: resources.threads };
                Plan::Dense(Dense { solver, grid: Some(grid), layout })
            }
        }
    }
}

impl Display for Way {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Way::Whole(solver) => write!(f, "{}", solver.name()),
            Way::Over(grid, solver) => write!(f, "{} over {grid} ranks", solver.name()),
            Way::ConjugateGradient => write!(f, "conjugate gradients"),
        }
    }
}
