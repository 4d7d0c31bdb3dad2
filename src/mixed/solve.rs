//! The solvers: x = P y for given h², by Cholesky or by conjugate gradients. The third, by eigenvalues, is
//! [`crate::mixed::reml::Spectral::solve`].

use crate::error::{Error, Result};
use crate::linalg::factor::Cholesky;
use crate::linalg::pcg::{self, Info, Params, State, Systems};
use crate::linalg::precondition::{self, LowRank};
use crate::linalg::{Operator, Rows};
use crate::mixed::reml::{likelihood, Given};
use crate::mixed::system::{Columns, Effect, MixedSystem};
use crate::mixed::{Estimate, Group};
use ndarray::{Array2, ArrayView2, Axis};

/// x = P y, (n_o, t), of one group by a Cholesky factor for every distinct h², with the likelihoods.
pub fn cholesky(g: ArrayView2<f64>, group: &Group, given: &[Given]) -> Result<(Vec<Estimate>, Array2<f64>)> {
    by_h2(group, given, |y, h2| one_h2(g, group, y, h2))
}

/// The same by any way of solving for one h²: `solve` gives log|A| + log|X'A⁻¹X| and P y of scaled records.
pub(super) fn by_h2(
    group: &Group,
    given: &[Given],
    solve: impl Fn(Array2<f64>, f64) -> Result<(f64, Array2<f64>)>,
) -> Result<(Vec<Estimate>, Array2<f64>)> {
    let y = group.scaled(group.y());
    let mut x = Array2::zeros(y.dim());
    let mut estimates: Vec<Option<Estimate>> = vec![None; given.len()];
    for t in 0..given.len() {
        if estimates[t].is_some() {
            continue;
        }
        let same: Vec<usize> = (t..given.len()).filter(|&u| given[u].h2 == given[t].h2).collect();
        let (logs, solved) = solve(y.select(Axis(1), &same), given[t].h2)?;
        for (&u, solved) in same.iter().zip(solved.columns()) {
            let quadratic = y.column(u).dot(&solved);
            estimates[u] = Some(likelihood(group, given[u], logs, quadratic));
            x.column_mut(u).assign(&solved);
        }
    }
    let estimates = estimates.into_iter().map(|e| e.expect("every trait has a h2")).collect();
    Ok((estimates, group.scaled(x.view())))
}

/// log|A| + log|X'A⁻¹X| and P y of the scaled records `y` for one h².
fn one_h2(g: ArrayView2<f64>, group: &Group, y: Array2<f64>, h2: f64) -> Result<(f64, Array2<f64>)> {
    let mut a = group.weighted_g(g); // the only copy: it is scaled and factored where it stands
    a *= h2;
    a.diag_mut().mapv_inplace(|d| d + 1.0 - h2);
    let a = Cholesky::new(a)?;
    without_fixed(group, a.log_determinant(), a.solve(y.view()), a.solve(group.basis()).view())
}

/// From log|A|, A⁻¹y and A⁻¹Q, (n_o, rank), to log|A| + log|X'A⁻¹X| and P y.
pub(super) fn without_fixed(
    group: &Group,
    log_determinant: f64,
    mut x: Array2<f64>,
    aq: ArrayView2<f64>,
) -> Result<(f64, Array2<f64>)> {
    let small = Cholesky::new(group.basis().t().dot(&aq))?;
    let b = small.solve(group.basis().t().dot(&x).view()); // (rank, t)
    x -= &aq.dot(&b);
    Ok((log_determinant + small.log_determinant() + group.log_design(), x))
}

/// How to solve by conjugate gradients.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CgSettings {
    /// When to stop, and the products on the way.
    pub params: Params,
    /// Rank of the preconditioner, 0 for the diagonal alone; chosen from the numbers of animals and traits if not
    /// given.
    pub rank: Option<usize>,
    /// Seed of the preconditioner's random vectors.
    pub seed: u64,
}

impl CgSettings {
    /// The rank of the preconditioner for `n` animals and `traits` traits.
    pub fn rank(&self, n: usize, traits: usize) -> usize {
        self.rank.unwrap_or_else(|| precondition::rank(n, traits)).min(n)
    }
}

impl From<Params> for CgSettings {
    fn from(params: Params) -> CgSettings {
        CgSettings { params, rank: None, seed: 1 }
    }
}

/// Called between iterations: progress, checkpoints, interruptions. All calls are collective.
pub trait Monitor {
    /// A state of a solution with `columns` columns to go on from, if there is one.
    fn resume(&mut self, rows: &Rows, columns: usize) -> Result<Option<State>>;
    /// Called before every iteration; an error stops the work.
    fn on_iteration(&mut self, rows: &Rows, state: &State) -> Result<()>;
    /// Called when too many iterations were done.
    fn on_max_iterations(&mut self, rows: &Rows, state: &State) -> Result<()>;
}

/// Does nothing.
pub struct Unmonitored;

impl Monitor for Unmonitored {
    fn resume(&mut self, _: &Rows, _: usize) -> Result<Option<State>> {
        Ok(None)
    }

    fn on_iteration(&mut self, _: &Rows, _: &State) -> Result<()> {
        Ok(())
    }

    fn on_max_iterations(&mut self, _: &Rows, _: &State) -> Result<()> {
        Ok(())
    }
}

/// Estimates without likelihood of each group's traits, and x = P y of all traits, group after group, this rank's rows
/// (n_r, t), zero without a record.
pub struct Solved {
    /// Variances of each group's traits.
    pub estimates: Vec<Vec<Estimate>>,
    /// x = P y.
    pub x: Array2<f64>,
    /// How it went.
    pub info: Info,
}

/// The sketch of G that a settings wants for so many traits. Collective.
pub fn sketch(operator: &dyn Operator, traits: usize, settings: &CgSettings) -> Result<LowRank> {
    LowRank::sketch(operator, settings.rank(operator.row_layout().total(), traits), settings.seed)
}

/// The sketch of the first effect's relationships of animals for so many columns, where it has some. Collective.
pub fn sketch_of_first(effects: &[Effect], columns: usize, settings: &CgSettings) -> Result<Option<LowRank>> {
    let first = effects.first().and_then(Effect::relation_of_animals);
    first.map(|(relation, _)| sketch(relation, columns, settings)).transpose()
}

/// x = P y of all groups in one block of conjugate gradients, `low_rank` being nearly the operator. Collective.
pub fn conjugate_gradients(
    (operator, low_rank): (&dyn Operator, &LowRank),
    groups: &[&Group],
    given: &[Vec<Given>],
    params: Params,
    monitor: &mut dyn Monitor,
) -> Result<Solved> {
    let effects = [Effect::of_rows(operator)];
    let columns = Columns::of_traits(given);
    let system = MixedSystem::new((operator.row_layout(), groups), &effects, columns, Some(low_rank))?;
    let b = system.projection().records_projected();
    let (x, info) = monitored(&system, b.view(), params, monitor)?;
    check(&info, params.tolerance)?;
    // y'P y of each trait
    let quadratic = system.rows().dots(b.view(), x.view());
    let mut quadratic = quadratic.into_iter();
    let mut of_group = |(group, given): (&&Group, &Vec<Given>)| -> Vec<Estimate> {
        let nu = group.degrees_of_freedom() as f64;
        let totals = given.iter().zip(quadratic.by_ref()).map(|(g, q)| (g.h2, g.total.unwrap_or(q / nu)));
        let estimate = |(h2, total)| {
            Estimate::given(group.animals().len(), h2, total, f64::NAN).per_unit_weight(group.mean_weight())
        };
        totals.map(estimate).collect()
    };
    let estimates = groups.iter().zip(given).map(&mut of_group).collect();
    Ok(Solved { estimates, x: system.weighted(x.view()), info })
}

/// Solves by conjugate gradients from the state that the monitor has, or from nothing. Collective.
pub(super) fn monitored(
    systems: &dyn Systems,
    b: ArrayView2<f64>,
    params: Params,
    monitor: &mut dyn Monitor,
) -> Result<(Array2<f64>, Info)> {
    let rows = systems.rows();
    let begin = match monitor.resume(rows, b.ncols())? {
        Some(state) => state,
        None => State::begin(systems, b, params),
    };
    let mut watch = |state: &State| match state.info.iterations >= params.max_iterations {
        true => monitor.on_max_iterations(rows, state),
        false => monitor.on_iteration(rows, state),
    };
    pcg::solve_from(systems, b, params, begin, &mut watch)
}

/// Residuals of up to 1e-8 are good enough for predictions; beyond, or where they are NaN, the result would mislead.
pub(super) fn check(info: &Info, tolerance: f64) -> Result<()> {
    let worst = pcg::largest(info.residuals.iter().copied());
    log::info!(
        "conjugate gradients: {} iterations, {} exact products, largest residual {worst:.1e}",
        info.iterations,
        info.checks
    );
    if worst <= tolerance.max(1e-8) {
        return Ok(());
    }
    if worst.is_nan() {
        let problem = "met numbers that are not finite";
        let advice = "check the records and the weights for numbers that are too large";
        return Err(Error::failed("conjugate gradients", problem, advice));
    }
    Err(Error::failed(
        "conjugate gradients",
        format!("stopped at a residual of {worst:.1e} after {} products", info.iterations),
        "check for a heritability near 1, allow more with --max-iterations, or use --solver cholesky",
    ))
}
