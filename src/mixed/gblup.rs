//! Genomic best linear unbiased prediction of every animal's breeding value, for many traits at once.

use crate::comm::layout::Grid;
use crate::comm::World;
use crate::error::{Error, Result};
use crate::grm::explicit;
use crate::linalg::pcg::{Info, Params};
use crate::linalg::{self, Operator};
use crate::mixed::grid::{self, GridChoice};
use crate::mixed::reml::{stochastic, Given, Spectral};
use crate::mixed::solve::{self, Monitor, Plan, Solved, Unmonitored};
use crate::mixed::{Estimate, Group};
use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;
use std::str::FromStr;

/// Traits of one group from which on one reduction to a band is cheaper than a Cholesky factor for each.
const EIGEN_FROM: usize = 8;
/// Products with G that conjugate gradients usually take.
const PRODUCTS: f64 = 100.0;

/// How the mixed model equations are solved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Solver {
    /// The program's choice from the number of animals, the traits and the memory.
    #[default]
    Auto,
    /// A Cholesky factor of V for every trait; needs G in memory.
    Cholesky,
    /// One reduction of G to a band for all traits recorded on the same animals; needs G in memory.
    Eigen,
    /// Conjugate gradients for all traits in one block; never forms G.
    Pcg,
}

impl FromStr for Solver {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        [Solver::Auto, Solver::Cholesky, Solver::Eigen, Solver::Pcg]
            .into_iter()
            .find(|s| s.name() == text)
            .ok_or_else(|| "expected auto, cholesky, eigen or pcg".into())
    }
}

/// The fitted model of some traits.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Fit {
    /// Variance components of each trait.
    pub estimates: Vec<Estimate>,
    /// Fixed effects b̂, (q, t).
    pub fixed: Array2<f64>,
    /// Breeding values û of all animals, recorded or not, (n, t).
    pub ebv: Array2<f64>,
    /// V⁻¹(y − Wb̂), zero for animals without a record, (n, t): SNP effects are (σ²g/c) M' times it.
    pub py: Array2<f64>,
}

impl Solver {
    /// The name in options and logs.
    pub fn name(self) -> &'static str {
        match self {
            Solver::Auto => "auto",
            Solver::Cholesky => "cholesky",
            Solver::Eigen => "eigen",
            Solver::Pcg => "pcg",
        }
    }

    /// Resolves `auto` as far as conjugate gradients are concerned; `auto` remains where G is to be held, and
    /// each group then takes what is cheaper for it. `known` tells whether variances are given; without them
    /// exact REML needs an eigenvalue decomposition anyway, and conjugate gradients follow stochastic REML. `m` is
    /// the number of SNPs that G must be formed from, nothing where G is there already.
    pub fn choose(self, n: usize, m: Option<usize>, groups: &[&Group], known: bool) -> Solver {
        self.resolve(fits_whole(n), (n, m), groups, known)
    }

    /// The same with the grid of `ranks` that holds G and what the solvers make of it, where there is one. `size`
    /// are n and `m`. For one rank to decide, because others may have other memory free.
    pub fn plan(
        self,
        choice: GridChoice,
        ranks: usize,
        size: (usize, Option<usize>),
        groups: &[&Group],
        known: bool,
    ) -> Result<(Solver, Option<Grid>)> {
        Ok(match choice.choose(ranks, groups, known && self != Solver::Eigen)? {
            Some(on) => (self.resolve(grid::fits(size.0, on), size, groups, known), Some(on)),
            None => (self.choose(size.0, size.1, groups, known), None),
        })
    }

    /// `fits` tells whether the dense solvers fit into memory.
    fn resolve(self, fits: bool, (n, m): (usize, Option<usize>), groups: &[&Group], known: bool) -> Solver {
        match self {
            Solver::Auto if !fits => Solver::Pcg,
            Solver::Auto if known && m.is_some_and(|m| gradients_are_cheaper(n, m, groups)) => Solver::Pcg,
            Solver::Pcg => Solver::Pcg,
            // REML by eigenvalues leaves nothing to do for another factorisation.
            other if known => other,
            _ => Solver::Eigen,
        }
    }
}

/// Compares the work of forming and factoring G with that of the products that conjugate gradients need.
fn gradients_are_cheaper(n: usize, m: usize, groups: &[&Group]) -> bool {
    let traits: usize = groups.iter().map(|g| g.traits()).sum();
    let product = n as f64 * m as f64;
    let factor = |g: &&Group| g.traits().min(EIGEN_FROM) as f64 * (g.animals().len() as f64).powi(3) / 3.0;
    // The integer product that forms G runs about eight times as fast as others.
    let dense = n as f64 * product / 8.0 + groups.iter().map(factor).sum::<f64>();
    4.0 * product * traits as f64 * PRODUCTS < dense
}

/// Fits one group of traits with G, (n, n), in memory: variances by REML unless given, then predictions for
/// all n animals. Runs on the calling thread alone, the same on any machine.
pub fn fit_group(g: ArrayView2<f64>, group: &Group, given: Option<&[Given]>, solver: Solver) -> Result<Fit> {
    linalg::factor::one_blas_thread();
    let (estimates, x) = match (given, solver) {
        (Some(given), Solver::Cholesky) => solve::cholesky(g, group, given)?,
        (Some(given), Solver::Auto) if group.traits() < EIGEN_FROM => solve::cholesky(g, group, given)?,
        _ => {
            let spectral = Spectral::new(g, group)?;
            let eta = spectral.rotate();
            let estimates: Vec<Estimate> = match given {
                Some(given) => {
                    eta.columns().into_iter().zip(given).map(|(eta, &g)| spectral.given(eta, g)).collect()
                }
                None => group.unless_explained(spectral.estimates(&eta)),
            };
            let h2: Vec<f64> = estimates.iter().map(|e| e.h2).collect();
            let x = spectral.solve(&eta, &h2)?;
            (estimates, x)
        }
    };
    let all = spread(g.nrows(), group, &x);
    let gx = g.dot(&all);
    finish(group, estimates, all, gx)
}

/// Fits many groups (missing patterns, training folds), dealt over ranks and threads. G stands on the root
/// only. Every rank receives every fit, in the order of the groups.
pub fn fit_groups(
    world: &World,
    g: Option<Array2<f64>>,
    groups: &[&Group],
    given: Option<&[Vec<Given>]>,
    solver: Solver,
) -> Result<Vec<Fit>> {
    let g = share_matrix(world, g, groups.len());
    let own: Vec<usize> = (world.rank()..groups.len()).step_by(world.size()).collect();
    let mut fits: Vec<(usize, Fit)> = Vec::new();
    let largest = groups.iter().map(|g| g.animals().len()).max().unwrap_or(0);
    let result = own.chunks(at_once(largest)).try_for_each(|some| {
        let fit =
            |&i: &usize| fit_group(g.view(), groups[i], given.map(|g| &g[i][..]), solver).map(|fit| (i, fit));
        fits.extend(some.par_iter().map(fit).collect::<Result<Vec<_>>>()?);
        Ok(())
    });
    world.agree(result)?;
    let mut fits: Vec<(usize, Fit)> = world.all_gather(&fits).into_iter().flatten().collect();
    fits.sort_by_key(|(i, _)| *i);
    Ok(fits.into_iter().map(|(_, fit)| fit).collect())
}

/// Fits all groups in one block of conjugate gradients; `operator` is G. Collective as the operator is.
pub fn fit_gradients(
    operator: &dyn Operator,
    groups: &[&Group],
    given: &[Vec<Given>],
    params: Params,
) -> Result<Vec<Fit>> {
    Ok(fit_gradients_monitored(operator, groups, given, &params.into(), &mut Unmonitored)?.0)
}

/// Like [`fit_gradients`], by a plan, monitored, and with how it went.
pub fn fit_gradients_monitored(
    operator: &dyn Operator,
    groups: &[&Group],
    given: &[Vec<Given>],
    plan: &Plan,
    monitor: &mut dyn Monitor,
) -> Result<(Vec<Fit>, Info)> {
    let traits = groups.iter().map(|g| g.traits()).sum();
    let low_rank = solve::sketch(operator, traits, plan)?;
    let solved = solve::conjugate_gradients((operator, &low_rank), groups, given, plan.params, monitor)?;
    let Solved { estimates, x, info } = solved;
    let (rows, gx) = (operator.row_layout(), operator.apply(x.view()));
    let [x, gx] = [x, gx].map(|own| rows.gather(own.view()).into_owned());
    let (mut fits, mut first) = (Vec::new(), 0);
    for (group, estimates) in groups.iter().zip(estimates) {
        let columns = ndarray::s![.., first..first + group.traits()];
        first += group.traits();
        fits.push(finish(group, estimates, x.slice(columns).to_owned(), gx.slice(columns).to_owned())?);
    }
    Ok((fits, info))
}

/// Like [`fit_gradients`] for variances that are estimated first, by stochastic REML.
pub fn fit_stochastic(
    operator: &dyn Operator,
    groups: &[&Group],
    (stochastic, params): (stochastic::Params, Params),
) -> Result<Vec<Fit>> {
    let estimates = stochastic::estimate(operator, groups, stochastic)?;
    let given: Vec<Vec<Given>> =
        estimates.iter().map(|e| e.iter().map(Estimate::as_given).collect()).collect();
    let mut fits = fit_gradients(operator, groups, &given, params)?;
    fits.iter_mut().zip(estimates).for_each(|(fit, estimates)| fit.estimates = estimates);
    Ok(fits)
}

/// Joins the fits of groups into one in the order of the traits; `traits[k]` are the numbers of the traits of
/// fit k.
pub fn join(traits: &[Vec<usize>], fits: Vec<Fit>) -> Fit {
    let mut order: Vec<(usize, usize, usize)> = Vec::new();
    for (k, numbers) in traits.iter().enumerate() {
        order.extend(numbers.iter().enumerate().map(|(column, &t)| (t, k, column)));
    }
    order.sort_unstable();
    let gather = |part: fn(&Fit) -> &Array2<f64>| {
        let columns: Vec<_> = order.iter().map(|&(_, k, c)| part(&fits[k]).column(c)).collect();
        ndarray::stack(Axis(1), &columns).expect("columns of one length").as_standard_layout().into_owned()
    };
    Fit {
        estimates: order.iter().map(|&(_, k, c)| fits[k].estimates[c].clone()).collect(),
        fixed: gather(|f| &f.fixed),
        ebv: gather(|f| &f.ebv),
        py: gather(|f| &f.py),
    }
}

/// From x = P y and G x, both (n, t), to the fitted model. Where there is no estimate the records tell nothing of
/// animals: breeding values are 0, for x from h² = 0. Numbers that are not finite are an error.
pub(super) fn finish(
    group: &Group,
    estimates: Vec<Estimate>,
    x: Array2<f64>,
    gx: Array2<f64>,
) -> Result<Fit> {
    if x.iter().chain(&gx).any(|x| !x.is_finite()) {
        let problem = "are not finite numbers";
        let advice = "check the records and the weights for numbers that are too large";
        return Err(Error::failed("the breeding values", problem, advice));
    }
    let (mut ebv, mut py) = (gx, x);
    let mut fixed = Array2::zeros((group.effects(), group.traits()));
    for (t, estimate) in estimates.iter().enumerate() {
        let (h2, total) = match estimate.outcome.reason() {
            Some(_) => (0.0, f64::INFINITY),
            // Without variance there is nothing to divide: x is 0.
            None if estimate.total() == 0.0 => (estimate.h2, f64::INFINITY),
            None => (estimate.h2, estimate.total()),
        };
        let mut u = ebv.column_mut(t);
        u *= h2;
        // W b = y − A x = y − û − (1 − h²) x / w
        let fitted = group
            .animals()
            .iter()
            .enumerate()
            .map(|(i, &a)| group.y()[[i, t]] - u[a] - (1.0 - h2) * group.noise(i) * py[[a, t]]);
        let fitted: ndarray::Array1<f64> = fitted.collect();
        fixed.column_mut(t).assign(&group.effects_of(fitted.view()));
        py.column_mut(t).mapv_inplace(|x| x / total);
    }
    Ok(Fit { estimates, fixed, ebv, py })
}

/// Rows of recorded animals among all, (n_o, t) to (n, t).
pub(super) fn spread(n: usize, group: &Group, x: &Array2<f64>) -> Array2<f64> {
    let mut all = Array2::zeros((n, x.ncols()));
    for (&a, row) in group.animals().iter().zip(x.rows()) {
        all.row_mut(a).assign(&row);
    }
    all
}

/// G on every rank that has something to do with it; elsewhere an empty matrix.
pub(super) fn share_matrix(world: &World, g: Option<Array2<f64>>, tasks: usize) -> Array2<f64> {
    let mut n = [g.as_ref().map_or(0, |g| g.nrows() as u64)];
    if world.size() == 1 || tasks <= 1 {
        return g.unwrap_or_default();
    }
    world.broadcast(0, &mut n);
    let n = usize::try_from(n[0]).expect("a dimension");
    explicit::share(world, g, n)
}

/// Matrices (n, n) that a dense fit holds beside G at its peak: the scaled G of its group, reduced to a band or
/// factored where it stands. Peaks of resident memory at n = 6,000, with G: 2.1 by either way.
const DENSE_BESIDE_G: f64 = 1.3;

/// How many fits of at most `animals` to do at the same time within half of the memory that is free beside G.
pub fn at_once(animals: usize) -> usize {
    let fit = 0.5 * available_bytes() as f64 / (DENSE_BESIDE_G * matrix_bytes(animals)).max(1.0);
    (fit as usize).clamp(1, rayon::current_num_threads())
}

/// Whether G of `n` animals, which is still to be formed or read, and a dense fit beside it fit into the free memory
/// of this machine.
pub(super) fn fits_whole(n: usize) -> bool {
    (1.0 + DENSE_BESIDE_G) * matrix_bytes(n) <= 0.8 * available_bytes() as f64
}

/// Bytes of a matrix (n, n).
fn matrix_bytes(n: usize) -> f64 {
    8.0 * (n as f64).powi(2)
}

/// Memory that is free on this machine; plenty where the system does not tell.
pub(super) fn available_bytes() -> usize {
    crate::memory::available().unwrap_or(usize::MAX / 4)
}
