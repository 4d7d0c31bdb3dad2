//! One place that decides how a model is solved: with G in memory or by conjugate gradients, on which grid of ranks,
//! how many fits at once, and with how many threads each.
//!
//! Every way of solving has its bytes and its work in `cost`, from the sizes of the problem and from what all ranks
//! have in common: the least free memory, the fewest threads. So every rank finds the same plan.

mod cost;
mod layout;
#[cfg(test)]
mod tests;

pub use layout::{at_once, available_bytes, fits_at_once, Layout};

use crate::comm::layout::Grid;
use crate::comm::{self, World};
use crate::error::{Error, Result};
use crate::mixed::reml::Given;
use crate::mixed::Group;
use cost::{Cost, Way};
use std::str::FromStr;

/// Share of the free memory that the program's own choice may take.
const SHARE: f64 = 0.8;

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
        let free = i64::try_from(layout::available_bytes()).unwrap_or(i64::MAX);
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
        let costs = cost::all(wishes, problem, resources)?;
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
        Ok((plan, told(plan, best, &costs, (problem.known, reason, resources.free))))
    }
}

impl Dense {
    /// Whole problems on single ranks, one after the other on one thread.
    pub fn one_by_one(solver: Solver) -> Dense {
        Dense { solver, grid: None, layout: Layout { at_once: 1, threads: 1 } }
    }
}

/// The line of the log: the way, why, and what every way needs.
fn told(plan: Plan, best: Cost, costs: &[Cost], (known, reason, free): (bool, &str, f64)) -> String {
    let name = |cost: &Cost| match cost.way {
        Way::ConjugateGradient if !known => "stochastic REML".to_string(),
        way => way.to_string(),
    };
    let way = |cost: &Cost| {
        format!("{} {:.2} GB and {:.1e} operations a core", name(cost), cost.bytes / 1e9, cost.work)
    };
    let fits = match plan {
        Plan::Dense(Dense { grid: None, layout, .. }) => {
            format!(", {} at once with {} BLAS threads each", layout.at_once, layout.threads)
        }
        _ => String::new(),
    };
    let all: Vec<String> = costs.iter().map(way).collect();
    format!("plan: {}{fits}: {reason} ({}; {:.2} GB free)", name(&best), all.join("; "), free / 1e9)
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
