//! One place that decides how a model is solved: with G in memory or by conjugate gradients, on which grid of ranks,
//! how many fits at once, and with how many threads each.
//!
//! Every way of solving has its bytes and its work in [`costs`], from the sizes of the problem and from what all ranks
//! have in common: the least free memory, the fewest threads. So every rank finds the same plan.

use crate::comm::layout::Grid;
use crate::comm::{self, World};
use crate::device::BlasThreads;
use crate::error::{Error, Result};
use crate::linalg::precondition;
use crate::memory;
use crate::mixed::reml::{stochastic, Given};
use crate::mixed::Group;
use rayon::prelude::*;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

/// Matrices (n_o, n_o) that a dense fit holds beside G at its peak: the scaled G of its group, reduced to a band or
/// factored where it stands. Peaks of resident memory at n = 6,000, with G: 2.1 to 2.3 matrices by either way.
const BESIDE_G: f64 = 1.3;
/// Matrices (n, n) that all ranks of a grid hold together for eigenvalues: G, the scaled relationships, their
/// eigenvectors, and twice as much to work in.
const GRID_EIGEN_MATRICES: f64 = 5.0;
/// The same for Cholesky factors: G and the factor.
const GRID_CHOLESKY_MATRICES: f64 = 2.0;
/// Blocks (n, t) that conjugate gradients hold: solution, residual, direction, product, and copies on the way.
const BLOCKS: f64 = 8.0;
/// Share of the free memory that the program's own choice may take.
const SHARE: f64 = 0.8;
/// Share of the memory free beside G that fits done at once may take.
const AT_ONCE_SHARE: f64 = 0.5;

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
/// Products with G that conjugate gradients, or the recursion of stochastic REML, usually take.
const PRODUCTS: f64 = 100.0;
/// A dense fit of n animals does this over n of its work on one thread, however many there are: the eigenvalues of
/// the band (benches/results/reml.md).
const SERIAL: f64 = 1200.0;
/// From this number of animals with records on a fit may use several threads; smaller ones have the same bits with
/// any number of threads.
const THREADS_FROM: usize = 2048;
/// From this number of animals with records on, a grid of ranks may be faster than whole problems on single ranks,
/// which have the same bits on any number of ranks.
const GRID_FROM: usize = 8193;

/// How a system with G in memory is solved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Solver {
    /// A Cholesky factor of V for every distinct h²: for known variances only.
    Cholesky,
    /// One reduction of G to a band (on a grid: all eigenvectors) for all traits recorded on the same animals.
    Eigen,
}

/// What the user says of the solver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SolverChoice {
    /// The program's choice from the number of animals, the traits, the memory and the ranks.
    #[default]
    Auto,
    /// This one, with G in memory.
    Dense(Solver),
    /// Conjugate gradients for all traits in one block; never forms G.
    ConjugateGradient,
}

/// What the user says of the ranks that hold dense matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GridChoice {
    /// A grid where whole problems do not fit into a rank's memory, or are large and so few that it is faster.
    #[default]
    Auto,
    /// Whole problems on single ranks.
    Whole,
    /// This grid, of all ranks.
    Over(Grid),
}

/// What the user says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wishes {
    /// Of the solver.
    pub solver: SolverChoice,
    /// Of the grid.
    pub grid: GridChoice,
}

/// The sizes of one group of traits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupSize {
    /// Animals with records, n_o.
    pub animals: usize,
    /// Traits, t.
    pub traits: usize,
    /// Distinct heritabilities among them, where they are known.
    pub levels: usize,
}

/// Where G comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It is formed from the genotypes where it is needed.
    Genotypes,
    /// It is read from a file.
    File {
        /// Whether products with the genotypes are products with this G.
        genotypes: bool,
    },
}

/// What is to be solved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Animals of G, n.
    pub n: usize,
    /// SNPs of the genotypes, m.
    pub m: usize,
    /// Where G comes from.
    pub origin: Origin,
    /// Whether all variances are known; without them exact REML needs eigenvalues.
    pub known: bool,
    /// The groups of traits.
    pub groups: Vec<GroupSize>,
}

/// What all ranks can count on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resources {
    /// Ranks of the job.
    pub ranks: usize,
    /// Ranks on one machine, at most.
    pub ranks_here: usize,
    /// Threads of a rank, at least.
    pub threads: usize,
    /// Bytes that are free on one machine, at least.
    pub free: f64,
}

/// How to solve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// With G in memory.
    Dense(Dense),
    /// By products with G alone.
    ConjugateGradient,
}

/// How to solve with G in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dense {
    /// The solver of every group.
    pub solver: Solver,
    /// The grid of ranks that holds G; without one, whole problems are solved by single ranks.
    pub grid: Option<Grid>,
    /// How the fits of one rank are shared out.
    pub layout: Layout,
}

/// How one rank shares its fits out among its threads: several at once with one thread each, or one after the other
/// with all threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Fits at the same time.
    pub at_once: usize,
    /// Threads of the BLAS calls of a fit.
    pub threads: usize,
}

impl Solver {
    /// The name in options and logs.
    pub fn name(self) -> &'static str {
        match self {
            Solver::Cholesky => "cholesky",
            Solver::Eigen => "eigen",
        }
    }
}

impl FromStr for SolverChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "auto" => Ok(SolverChoice::Auto),
            "cholesky" => Ok(SolverChoice::Dense(Solver::Cholesky)),
            "eigen" => Ok(SolverChoice::Dense(Solver::Eigen)),
            "pcg" => Ok(SolverChoice::ConjugateGradient),
            _ => Err("expected auto, cholesky, eigen or pcg".into()),
        }
    }
}

impl FromStr for GridChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<GridChoice, String> {
        match text {
            "auto" => Ok(GridChoice::Auto),
            "none" => Ok(GridChoice::Whole),
            _ => text
                .parse()
                .map(GridChoice::Over)
                .map_err(|_| "expected auto, none, or rows x columns of ranks, such as 3x2".to_string()),
        }
    }
}

impl Problem {
    /// The problem of `groups` with `m` SNPs of `n` animals, whose variances are known where they are `given`.
    pub fn new(n: usize, m: usize, groups: &[&Group], given: Option<&[Vec<Given>]>) -> Problem {
        let size = |(k, group): (usize, &&Group)| {
            let levels = given.map_or(group.traits(), |given| levels(&given[k]));
            GroupSize { animals: group.animals().len(), traits: group.traits(), levels }
        };
        let groups = groups.iter().enumerate().map(size).collect();
        Problem { n, m, origin: Origin::Genotypes, known: given.is_some(), groups }
    }

    /// The same with G from elsewhere.
    pub fn with_g(self, origin: Origin) -> Problem {
        Problem { origin, ..self }
    }

    /// Most animals with records of a group.
    fn largest(&self) -> usize {
        self.groups.iter().map(|g| g.animals).max().unwrap_or(0)
    }
}

/// Number of distinct heritabilities.
fn levels(given: &[Given]) -> usize {
    let mut h2: Vec<u64> = given.iter().map(|g| g.h2.to_bits()).collect();
    h2.sort_unstable();
    h2.dedup();
    h2.len()
}

impl Resources {
    /// What all ranks of `world` can count on now. Collective.
    pub fn of(world: &World) -> Resources {
        let free = i64::try_from(available_bytes()).unwrap_or(i64::MAX);
        let [threads, here] = [rayon::current_num_threads(), comm::ranks_here()].map(|x| x as i64);
        let mut worst = [-free, -threads, here];
        world.max(&mut worst);
        let count = |x: i64| usize::try_from(x).unwrap_or(1).max(1);
        Resources {
            ranks: world.size(),
            ranks_here: count(worst[2]).min(world.size()),
            threads: count(-worst[1]),
            free: -worst[0] as f64,
        }
    }
}

impl Plan {
    /// The plan for a problem, told with its reasons in one line of the log. Collective; the same on every rank.
    ///
    /// # Errors
    /// When the grid is not of all ranks, or what the user wants does not fit into the memory.
    pub fn make(world: &World, wishes: Wishes, problem: &Problem) -> Result<Plan> {
        let (plan, reasons) = Self::choose(wishes, problem, Resources::of(world))?;
        log::info!("{reasons}");
        Ok(plan)
    }

    /// The plan with what is `resources`, and the reasons.
    ///
    /// # Errors
    /// As [`Plan::make`].
    pub fn choose(wishes: Wishes, problem: &Problem, resources: Resources) -> Result<(Plan, String)> {
        let costs = costs(wishes, problem, resources)?;
        let fits = |cost: &&Cost| cost.bytes <= SHARE * resources.free;
        let dense = |cost: &&Cost| cost.way != Way::ConjugateGradient;
        let least = |costs: Vec<&Cost>| costs.into_iter().min_by(|a, b| a.work.total_cmp(&b.work)).copied();
        // Exact REML is better than stochastic REML, and who has G wants it used.
        let wanted = !problem.known || problem.origin != Origin::Genotypes;
        let exact = wanted.then(|| least(costs.iter().filter(fits).filter(dense).collect())).flatten();
        let (best, reason) = match (exact, least(costs.iter().filter(fits).collect())) {
            _ if costs.len() == 1 => (costs[0], "the only way that is allowed"),
            (Some(best), _) if problem.known => (best, "G from the file fits"),
            (Some(best), _) => (best, "exact REML fits"),
            (None, Some(best)) => (best, "least work of what fits"),
            (None, None) => {
                let smallest = costs.iter().min_by(|a, b| a.bytes.total_cmp(&b.bytes));
                (*smallest.expect("a way to solve"), "least memory, and nothing fits well")
            }
        };
        if dense(&&best) && best.bytes > resources.free {
            return Err(too_large(problem, best, resources));
        }
        let plan = best.plan(problem, resources);
        Ok((plan, told(plan, best, &costs, (reason, resources.free))))
    }
}

impl Dense {
    /// Whole problems on single ranks, one after the other on one thread.
    pub fn one_by_one(solver: Solver) -> Dense {
        Dense { solver, grid: None, layout: Layout { at_once: 1, threads: 1 } }
    }
}

impl Layout {
    /// For `fits` of at most `animals` records on each rank, whose matrices beside G take up to `bytes` each, when
    /// `free` bytes are there for a rank with `threads`.
    pub fn new(fits: usize, animals: usize, bytes: f64, free: f64, threads: usize) -> Layout {
        let at_once = at_once_in(free, bytes, threads).min(fits.max(1));
        let rounds = fits.div_ceil(at_once) as f64;
        match animals >= THREADS_FROM && fits as f64 * share_of_time(animals, threads) < rounds {
            true => Layout { at_once: 1, threads },
            false => Layout { at_once, threads: 1 },
        }
    }

    /// For `fits` of at most `animals` records on this rank with G in memory already.
    pub fn beside_g(fits: usize, animals: usize) -> Layout {
        let free = available_bytes() as f64 / comm::ranks_here() as f64;
        Self::new(fits, animals, BESIDE_G * matrix_bytes(animals), free, rayon::current_num_threads())
    }

    /// Does `tasks` in turn on all ranks, as many at once as the layout says; every rank receives all results, in
    /// their order. Collective.
    ///
    /// # Errors
    /// The first of any task, on all ranks.
    pub fn deal<T>(
        self,
        world: &World,
        tasks: usize,
        task: impl Fn(usize) -> Result<T> + Sync,
    ) -> Result<Vec<T>>
    where
        T: Clone + Send + serde::Serialize + serde::de::DeserializeOwned,
    {
        let _threads = BlasThreads::of(self.threads);
        let own: Vec<usize> = (world.rank()..tasks).step_by(world.size()).collect();
        let mut done: Vec<(usize, T)> = Vec::new();
        let result = own.chunks(self.at_once).try_for_each(|some| {
            done.extend(some.par_iter().map(|&i| Ok((i, task(i)?))).collect::<Result<Vec<_>>>()?);
            Ok(())
        });
        world.agree(result)?;
        let mut all: Vec<(usize, T)> = world.all_gather(&done).into_iter().flatten().collect();
        all.sort_by_key(|(i, _)| *i);
        Ok(all.into_iter().map(|(_, found)| found).collect())
    }

    /// Time of `fits` of `animals` that take `one` each on one thread.
    fn time(self, fits: usize, animals: usize, one: f64) -> f64 {
        fits.div_ceil(self.at_once) as f64 * one * share_of_time(animals, self.threads)
    }
}

/// Time of a dense fit of `animals` with some threads over that with one (Amdahl's law).
fn share_of_time(animals: usize, threads: usize) -> f64 {
    let serial = (SERIAL / animals.max(1) as f64).min(1.0);
    serial + (1.0 - serial) / threads as f64
}

/// How many fits that hold `bytes` each to do at the same time on this rank within half of its free memory.
pub fn at_once(bytes: f64) -> usize {
    at_once_in(available_bytes() as f64 / comm::ranks_here() as f64, bytes, rayon::current_num_threads())
}

/// How many dense fits of at most `animals` to do at the same time on this rank, beside G.
pub fn fits_at_once(animals: usize) -> usize {
    at_once(BESIDE_G * matrix_bytes(animals))
}

fn at_once_in(free: f64, bytes: f64, threads: usize) -> usize {
    ((AT_ONCE_SHARE * free / bytes.max(1.0)) as usize).clamp(1, threads)
}

/// Bytes of a matrix (n, n).
fn matrix_bytes(n: usize) -> f64 {
    8.0 * (n as f64).powi(2)
}

/// Memory that is free on this machine; plenty where the system does not tell.
fn available_bytes() -> usize {
    memory::available().unwrap_or(usize::MAX / 4)
}

/// A way to solve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Whole(Solver),
    Over(Grid, Solver),
    ConjugateGradient,
}

/// What a way costs.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cost {
    way: Way,
    /// Bytes on the machine that holds most.
    bytes: f64,
    /// Operations of the busiest core, in those of products of reals.
    work: f64,
}

/// All ways that the wishes leave open, with their costs.
fn costs(wishes: Wishes, problem: &Problem, resources: Resources) -> Result<Vec<Cost>> {
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
    let numbers = BLOCKS * columns as f64 + precondition::rank(problem.n, traits) as f64;
    let product = 4.0 * problem.n as f64 * problem.m as f64;
    Cost {
        way: Way::ConjugateGradient,
        bytes: 8.0 * problem.n as f64 * numbers * resources.ranks_here as f64,
        work: PRODUCTS * product * columns as f64 / cores(resources),
    }
}

impl Cost {
    fn plan(self, problem: &Problem, resources: Resources) -> Plan {
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

/// The line of the log: the way, why, and what every way needs.
fn told(plan: Plan, best: Cost, costs: &[Cost], (reason, free): (&str, f64)) -> String {
    let way = |cost: &Cost| {
        format!("{} {:.2} GB and {:.1e} operations a core", cost.way, cost.bytes / 1e9, cost.work)
    };
    let fits = match plan {
        Plan::Dense(Dense { grid: None, layout, .. }) => {
            format!(", {} at once with {} BLAS threads each", layout.at_once, layout.threads)
        }
        _ => String::new(),
    };
    let all: Vec<String> = costs.iter().map(way).collect();
    format!("plan: {}{fits}: {reason} ({}; {:.2} GB free)", best.way, all.join("; "), free / 1e9)
}

fn too_large(problem: &Problem, best: Cost, resources: Resources) -> Error {
    Error::failed(
        format!("dense matrices of {} animals", problem.n),
        format!(
            "{} needs {:.1} GB on one machine, {:.1} GB are free",
            best.way,
            best.bytes / 1e9,
            resources.free / 1e9
        ),
        "use more memory or machines, or --solver pcg (reml: --method stochastic), which never forms them",
    )
}

#[cfg(test)]
mod tests {
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
        let want = "plan: conjugate gradients: least work of what fits (eigen 7.36 GB and";
        assert!(told.starts_with(want) && told.contains("; 5.00 GB free)"), "{told}");
        assert!(!told.contains('\n'));
    }
}
