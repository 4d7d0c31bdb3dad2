//! Genomic best linear unbiased prediction of every animal's breeding value, for many traits at once.

use crate::comm::World;
use crate::error::{Error, Result};
use crate::grm::explicit;
use crate::linalg::pcg::{Info, Params};
use crate::linalg::Operator;
use crate::mixed::alike::{alike, Alike};
use crate::mixed::plan::Dense;
pub use crate::mixed::plan::Solver;
use crate::mixed::reml::{stochastic, Gaps, Given, Spectral};
use crate::mixed::solve::{self, CgSettings, Monitor, Solved, Unmonitored};
use crate::mixed::{Estimate, Group};
use ndarray::{Array2, ArrayView2, Axis};

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

/// Fits one group of traits with G, (n, n), in memory: variances by REML unless given, then predictions for
/// all n animals. Runs on the calling thread, with the threads that BLAS calls have.
pub fn fit_group(g: ArrayView2<f64>, group: &Group, given: Option<&[Given]>, solver: Solver) -> Result<Fit> {
    let (estimates, x) = match (given, solver) {
        (Some(given), Solver::Cholesky) => solve::cholesky(g, group, given)?,
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

/// Fits groups of traits whose animals differ little, such as the missing patterns of one training fold: one reduction
/// serves all whose gaps are few ([`Gaps`]), with the same results up to rounding. The others are fitted by
/// [`fit_group`]. Runs on the calling thread, with the threads that BLAS calls have.
///
/// # Errors
/// The first of any group.
pub fn fit_alike(g: ArrayView2<f64>, groups: &[&Group], given: Option<&[Vec<Given>]>) -> Result<Vec<Fit>> {
    let mut fits: Vec<Option<Fit>> = groups.iter().map(|_| None).collect();
    for set in alike(groups)? {
        for (i, fit) in fit_by_one_reduction(g, groups, &set, given)? {
            fits[i] = Some(fit);
        }
    }
    let alone = |(i, fit): (usize, Option<Fit>)| match fit {
        Some(fit) => Ok(fit),
        None => fit_group(g, groups[i], given.map(|all| &all[i][..]), Solver::Eigen),
    };
    fits.into_iter().enumerate().map(alone).collect()
}

/// The fits of the members of a set that its reduction serves, each with its number.
fn fit_by_one_reduction(
    g: ArrayView2<f64>,
    groups: &[&Group],
    set: &Alike,
    given: Option<&[Vec<Given>]>,
) -> Result<Vec<(usize, Fit)>> {
    set.members.iter().try_for_each(|&i| groups[i].check_degrees_of_freedom())?;
    let spectral = Spectral::new(g, &set.all)?;
    let lacks = |i: usize| set.all.animals().len() - groups[i].animals().len();
    let members: Vec<usize> =
        set.members.iter().copied().filter(|&i| spectral.differs_without(lacks(i))).collect();
    let served: Vec<&Group> = members.iter().map(|&i| groups[i]).collect();
    let gaps = Gaps::new(&spectral, &served);
    let found: Vec<Vec<Estimate>> = match given {
        Some(given) => gaps.given(&members.iter().map(|&i| &given[i][..]).collect::<Vec<_>>()),
        None => {
            gaps.estimates().into_iter().zip(&served).map(|(e, group)| group.unless_explained(e)).collect()
        }
    };
    let mut fits = Vec::new();
    for (at, (&i, estimates)) in members.iter().zip(found).enumerate() {
        let h2: Vec<f64> = estimates.iter().map(|e| e.h2).collect();
        let x = spread(g.nrows(), groups[i], &gaps.solve(at, &h2)?);
        let gx = g.dot(&x);
        fits.push((i, finish(groups[i], estimates, x, gx)?));
    }
    Ok(fits)
}

/// Fits many groups (missing patterns, training folds) whole, dealt over ranks and threads. G stands on the root
/// only. Every rank receives every fit, in the order of the groups. Collective.
pub fn fit_groups(
    world: &World,
    g: Option<Array2<f64>>,
    groups: &[&Group],
    given: Option<&[Vec<Given>]>,
    plan: &Dense,
) -> Result<Vec<Fit>> {
    let g = share_matrix(world, g, groups.len());
    let fit = |i: usize| fit_group(g.view(), groups[i], given.map(|g| &g[i][..]), plan.solver);
    plan.layout.deal(world, groups.len(), fit)
}

/// Fits all groups in one block of conjugate gradients; `operator` is G. Collective as the operator is.
pub fn fit_by_conjugate_gradient(
    operator: &dyn Operator,
    groups: &[&Group],
    given: &[Vec<Given>],
    params: Params,
) -> Result<Vec<Fit>> {
    Ok(fit_by_conjugate_gradient_monitored(operator, groups, given, &params.into(), &mut Unmonitored)?.0)
}

/// Like [`fit_by_conjugate_gradient`], by settings, monitored, and with how it went.
pub fn fit_by_conjugate_gradient_monitored(
    operator: &dyn Operator,
    groups: &[&Group],
    given: &[Vec<Given>],
    settings: &CgSettings,
    monitor: &mut dyn Monitor,
) -> Result<(Vec<Fit>, Info)> {
    let traits = groups.iter().map(|g| g.traits()).sum();
    let low_rank = solve::sketch(operator, traits, settings)?;
    let solved = solve::conjugate_gradients((operator, &low_rank), groups, given, settings.params, monitor)?;
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

/// Like [`fit_by_conjugate_gradient`] for variances that are estimated first, by stochastic REML.
pub fn fit_stochastic(
    operator: &dyn Operator,
    groups: &[&Group],
    (stochastic, params): (stochastic::Params, Params),
) -> Result<Vec<Fit>> {
    let estimates = stochastic::estimate(operator, groups, stochastic)?;
    let given: Vec<Vec<Given>> =
        estimates.iter().map(|e| e.iter().map(Estimate::as_given).collect()).collect();
    let mut fits = fit_by_conjugate_gradient(operator, groups, &given, params)?;
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
            .map(|(i, &a)| group.y()[[i, t]] - u[a] - (1.0 - h2) * group.inverse_weight(i) * py[[a, t]]);
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
