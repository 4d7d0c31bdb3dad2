//! The solvers: x = P y for given h², by Cholesky or by conjugate gradients. The third, by eigenvalues, is
//! [`crate::mixed::reml::Spectral::solve`].

use crate::comm::World;
use crate::error::{Error, Result};
use crate::linalg::factor::Cholesky;
use crate::linalg::pcg::{self, Info, Params, State, Systems};
use crate::linalg::precondition::{self, LowRank, Restricted};
use crate::linalg::Operator;
use crate::mixed::reml::Given;
use crate::mixed::{Estimate, Group};
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut1, Axis};

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
            estimates[u] = Some(likelihood(group, given[u], quadratic, logs));
            x.column_mut(u).assign(&solved);
        }
    }
    let estimates = estimates.into_iter().map(|e| e.expect("every trait has a h2")).collect();
    Ok((estimates, group.scaled(x.view())))
}

/// log|A| + log|X'A⁻¹X| and P y of the scaled records `y` for one h².
fn one_h2(g: ArrayView2<f64>, group: &Group, y: Array2<f64>, h2: f64) -> Result<(f64, Array2<f64>)> {
    let mut a = group.relationships(g); // the only copy: it is scaled and factored where it stands
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

/// The restricted likelihood from y'Py and the log-determinants of the scaled system.
fn likelihood(group: &Group, given: Given, quadratic: f64, logs: f64) -> Estimate {
    let nu = group.freedom() as f64;
    let total = given.total.unwrap_or(quadratic / nu);
    let twice = nu * total.ln() + logs - group.log_weights() + quadratic / total;
    Estimate::given(group.animals().len(), given.h2, total, -0.5 * twice).per_unit_weight(group.mean_weight())
}

/// How to solve by conjugate gradients.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// When to stop, and the products on the way.
    pub params: Params,
    /// Rank of the preconditioner, 0 for the diagonal alone; chosen from the numbers of animals and traits if not
    /// given.
    pub rank: Option<usize>,
    /// Seed of the preconditioner's random vectors.
    pub seed: u64,
}

impl Plan {
    /// The rank of the preconditioner for `n` animals and `traits` traits.
    pub fn rank(&self, n: usize, traits: usize) -> usize {
        self.rank.unwrap_or_else(|| precondition::rank(n, traits)).min(n)
    }
}

impl From<Params> for Plan {
    fn from(params: Params) -> Plan {
        Plan { params, rank: None, seed: 1 }
    }
}

/// Looks on between iterations: progress, checkpoints, interruptions.
pub trait Watcher {
    /// A state to go on from, if there is one.
    fn resume(&mut self, shape: (usize, usize)) -> Result<Option<State>>;
    /// Called by all ranks before every iteration; an error stops the work.
    fn look(&mut self, state: &State) -> Result<()>;
    /// Called when too many iterations were done.
    fn give_up(&mut self, state: &State) -> Result<()>;
}

/// Nobody looks on.
pub struct Unwatched;

impl Watcher for Unwatched {
    fn resume(&mut self, _: (usize, usize)) -> Result<Option<State>> {
        Ok(None)
    }

    fn look(&mut self, _: &State) -> Result<()> {
        Ok(())
    }

    fn give_up(&mut self, _: &State) -> Result<()> {
        Ok(())
    }
}

/// Estimates without likelihood and x = P y, (n_o, t), of one group.
pub type Solved = (Vec<Estimate>, Array2<f64>);

/// The sketch of G that a plan wants for so many traits. Collective as the operator is.
pub fn sketch(operator: &dyn Operator, traits: usize, plan: &Plan) -> Result<LowRank> {
    LowRank::sketch(operator, plan.rank(operator.dimension(), traits), plan.seed)
}

/// x = P y of all groups in one block of conjugate gradients, `low_rank` being nearly the operator.
///
/// Solved is S A S x = S y with S = I − QQ' (Q spans the weighted fixed effects), which gives P y at once: one
/// column a trait, none for the fixed effects. Collective as the operator is.
pub fn conjugate_gradients(
    (operator, low_rank): (&dyn Operator, &LowRank),
    groups: &[&Group],
    given: &[Vec<Given>],
    params: Params,
    watcher: &mut dyn Watcher,
) -> Result<(Vec<Solved>, Info)> {
    let systems = Projected::new(operator, groups, given, low_rank)?;
    let b = systems.right_hand_sides();
    let (x, info) = watched(&systems, b.view(), params, watcher)?;
    check(&info, params.tolerance)?;
    let (mut solved, mut first) = (Vec::new(), 0);
    for (group, given) in groups.iter().zip(given) {
        let rows = x.select(Axis(0), group.animals());
        let rows = rows.slice(ndarray::s![.., first..first + given.len()]).to_owned();
        let x = group.scaled(rows.view());
        let total = |t: usize| group.y().column(t).dot(&x.column(t)) / group.freedom() as f64;
        let estimate = |(t, g): (usize, &Given)| {
            Estimate::given(group.animals().len(), g.h2, g.total.unwrap_or_else(|| total(t)), f64::NAN)
                .per_unit_weight(group.mean_weight())
        };
        let estimates = given.iter().enumerate().map(estimate).collect();
        solved.push((estimates, x));
        first += given.len();
    }
    Ok((solved, info))
}

/// Solves by conjugate gradients from the state that the watcher has, or from nothing.
pub(super) fn watched(
    systems: &dyn Systems,
    b: ArrayView2<f64>,
    params: Params,
    watcher: &mut dyn Watcher,
) -> Result<(Array2<f64>, Info)> {
    // The same bits to begin with on all ranks.
    let mut b = b.as_standard_layout().into_owned();
    systems.world().broadcast(0, b.as_slice_mut().expect("standard layout"));
    let b = b.view();
    let begin = watcher.resume(b.dim())?.unwrap_or_else(|| State::begin(b, params));
    let mut look = |state: &State| match state.info.iterations >= params.max_iterations {
        true => watcher.give_up(state),
        false => watcher.look(state),
    };
    pcg::solve_from(systems, b, params, begin, &mut look)
}

/// Residuals of up to 1e-8 are good enough for predictions; beyond, or where they are NaN, the result would mislead.
fn check(info: &Info, tolerance: f64) -> Result<()> {
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

/// The projected systems of all traits; blocks are (n, k), zero outside each trait's animals.
struct Projected<'a> {
    operator: &'a dyn Operator,
    groups: &'a [&'a Group],
    columns: Vec<(usize, f64)>,  // group and h² of every column
    low_rank: &'a LowRank,       // G, nearly
    restricted: Vec<Restricted>, // W^½ G_OO W^½ of every group
    place: Vec<(usize, usize)>,  // group, and number within, of every column
}

impl<'a> Projected<'a> {
    fn new(
        operator: &'a dyn Operator,
        groups: &'a [&'a Group],
        given: &[Vec<Given>],
        low_rank: &'a LowRank,
    ) -> Result<Self> {
        let columns =
            |(g, given): (usize, &Vec<Given>)| given.iter().map(move |t| (g, t.h2)).collect::<Vec<_>>();
        let columns: Vec<(usize, f64)> = given.iter().enumerate().flat_map(columns).collect();
        let n = operator.dimension();
        let restrict = |(group, given): (&&Group, &Vec<Given>)| {
            let mut roots = vec![0.0; n];
            group.animals().iter().enumerate().for_each(|(i, &a)| roots[a] = group.noise(i).sqrt().recip());
            let weights: Vec<(f64, f64)> = given.iter().map(|g| (g.h2, 1.0 - g.h2)).collect();
            low_rank.restrict(roots, &weights)
        };
        let restricted = groups.iter().zip(given).map(restrict).collect::<Result<_>>()?;
        let place = |(g, given): (usize, &Vec<Given>)| (0..given.len()).map(move |t| (g, t));
        let place = given.iter().enumerate().flat_map(place).collect();
        Ok(Projected { operator, groups, columns, low_rank, restricted, place })
    }

    /// S W^½ y, (n, t).
    fn right_hand_sides(&self) -> Array2<f64> {
        let mut out = Array2::zeros((self.operator.dimension(), self.columns.len()));
        let mut first = 0;
        for group in self.groups {
            let mut y = group.scaled(group.y());
            group.project(&mut y);
            for (&a, row) in group.animals().iter().zip(y.rows()) {
                out.slice_mut(ndarray::s![a, first..first + group.traits()]).assign(&row);
            }
            first += group.traits();
        }
        out
    }

    /// For every column: takes its animals' rows of `block`, changes them, projects, and puts them back.
    fn on_rows(
        &self,
        columns: &[usize],
        block: &mut Array2<f64>,
        change: impl Fn(f64, &Group, usize, &mut Array1<f64>),
    ) {
        for (k, &c) in columns.iter().enumerate() {
            let (g, h2) = self.columns[c];
            let group = self.groups[g];
            let mut rows: Array1<f64> = group.animals().iter().map(|&a| block[[a, k]]).collect();
            change(h2, group, k, &mut rows);
            let mut rows = rows.insert_axis(Axis(1));
            group.project(&mut rows);
            let mut column = block.column_mut(k);
            column.fill(0.0);
            put(group, rows.index_axis(Axis(1), 0).iter().copied(), &mut column);
        }
    }
}

fn put(group: &Group, rows: impl Iterator<Item = f64>, column: &mut ArrayViewMut1<f64>) {
    for (&a, x) in group.animals().iter().zip(rows) {
        column[a] = x;
    }
}

impl Projected<'_> {
    /// S A S v by a product with G.
    fn times(
        &self,
        columns: &[usize],
        block: ArrayView2<f64>,
        product: impl Fn(ArrayView2<f64>) -> Array2<f64>,
    ) -> Array2<f64> {
        // W^½ v; v lies within the projection already.
        let mut inner = block.to_owned();
        for (k, &c) in columns.iter().enumerate() {
            let group = self.groups[self.columns[c].0];
            for (i, &a) in group.animals().iter().enumerate() {
                inner[[a, k]] /= group.noise(i).sqrt();
            }
        }
        let mut out = product(inner.view());
        self.on_rows(columns, &mut out, |h2, group, k, rows| {
            for (i, (x, &a)) in rows.iter_mut().zip(group.animals()).enumerate() {
                *x = h2 * *x / group.noise(i).sqrt() + (1.0 - h2) * block[[a, k]];
            }
        });
        out
    }
}

impl Systems for Projected<'_> {
    fn apply(&self, columns: &[usize], block: ArrayView2<f64>) -> Array2<f64> {
        self.times(columns, block, |v| self.operator.apply(v))
    }

    fn apply_quickly(&self, columns: &[usize], block: ArrayView2<f64>) -> Array2<f64> {
        self.times(columns, block, |v| self.operator.apply_quickly(v))
    }

    fn world(&self) -> World {
        self.operator.world()
    }

    fn precondition(&self, columns: &[usize], block: ArrayView2<f64>) -> Array2<f64> {
        let of: Vec<(usize, usize)> = columns.iter().map(|&c| self.place[c]).collect();
        let mut out = self.low_rank.solve(&self.restricted, &of, block);
        self.on_rows(columns, &mut out, |_, _, _, _| ());
        out
    }
}
