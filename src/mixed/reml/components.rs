//! Several random effects beside the residual: additive, dominance, epistatic, or any matrices of relationships.

use super::average::{entries, maximise, start, Block, Likelihood, Optimum};
use super::dense::Dense;
use super::spectral::SAME;
use super::{Estimate, Outcome};
use crate::comm::World;
use crate::error::{Error, Result};
use crate::grm::explicit;
use crate::mixed::kernel::{add_fixed, project_both_sides, Kernel};
use crate::mixed::model::{Model, RandomEffect};
use crate::mixed::plan::{self, Layout};
use crate::mixed::Group;
use crate::stats;
use ndarray::Array2;

/// One variance. What does not exist is NaN.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Component {
    /// σ²_k; of a record of weight 1 where it is the residual's.
    pub variance: f64,
    /// Its standard error from the average information; none on the boundary.
    pub variance_se: f64,
    /// Standard error of the variance from random probes; none where it is exact.
    pub variance_mc_se: f64,
    /// σ²_k / Σ σ² of a record of the mean weight.
    pub proportion: f64,
    /// Its standard error by the delta method.
    pub proportion_se: f64,
    /// 2 (log L − log L without the component); none for the residual.
    pub lrt: f64,
    /// P of a larger one when the variance is 0: half of χ²₁'s, the other half being 0 (Self & Liang 1987).
    pub p: f64,
    /// Whether the variance ended at its bound, 0.
    pub boundary: bool,
}

/// The variances of one trait.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Components {
    /// One for every random effect, then the residual.
    pub components: Vec<Component>,
    /// All effects with relationships together as one genetic variance; h² is its share of all variances.
    pub sum: Estimate,
    /// The share of all variances that the records of an animal have in common, and its standard error, where the
    /// permanent environment is fitted.
    pub repeatability: Option<[f64; 2]>,
}

impl Components {
    /// Variances that were given, those of `effects` and the residual's of a record of weight 1, for `n` records of a
    /// mean weight.
    pub fn given(effects: &[RandomEffect], n: usize, variances: Vec<f64>, mean_weight: f64) -> Components {
        let residual = effects.len();
        let of_mean = |k: usize| variances[k] / if k == residual { mean_weight } else { 1.0 };
        let total: f64 = (0..=residual).map(of_mean).sum();
        let share = |counts: &dyn Fn(&RandomEffect) -> bool| -> f64 {
            (0..residual).filter(|&k| counts(&effects[k])).map(of_mean).sum::<f64>() / total
        };
        let h2 = share(&RandomEffect::is_genetic);
        let nan = f64::NAN;
        let component = |k: usize| Component {
            variance: variances[k],
            variance_se: nan,
            variance_mc_se: nan,
            proportion: of_mean(k) / total,
            proportion_se: nan,
            lrt: nan,
            p: nan,
            boundary: false,
        };
        let sum = Estimate {
            var_g: h2 * total,
            var_e: variances[residual],
            h2,
            ..Estimate::given(n, h2, total, nan)
        };
        let permanent = effects.iter().any(|e| e.permanent);
        Components {
            components: (0..=residual).map(component).collect(),
            sum: Estimate { weight: mean_weight, ..sum },
            repeatability: permanent.then(|| [share(&RandomEffect::repeats), nan]),
        }
    }
}

/// Estimates the variances of every trait of every group for relationships alone, (n, n), which stand on the root only.
/// As [`estimate_model`].
pub fn estimate(
    world: &World,
    relationships: Vec<Option<Array2<f64>>>,
    groups: &[&Group],
) -> Result<Vec<Vec<Components>>> {
    let effects =
        (0..relationships.len()).map(|k| RandomEffect::of_animals(&format!("effect{}", k + 1), k)).collect();
    estimate_model(world, &Model::new(world, relationships, effects), groups)
}

/// Estimates the variances of every trait of every group by average-information REML, the traits dealt over ranks and
/// threads. Every rank receives all, group by group. Collective.
///
/// # Errors
/// Too few records for the fixed effects, and relationships that are not positive semi-definite.
pub fn estimate_model(world: &World, model: &Model, groups: &[&Group]) -> Result<Vec<Vec<Components>>> {
    groups.iter().try_for_each(|g| g.check_degrees_of_freedom())?;
    let tasks: Vec<(usize, usize)> =
        groups.iter().enumerate().flat_map(|(k, g)| (0..g.traits()).map(move |t| (k, t))).collect();
    let largest = groups.iter().map(|g| g.animals().len()).max().unwrap_or(0);
    let found = layout(largest, model.matrices() + 3).deal(world, tasks.len(), |task| {
        let (group, t) = (groups[tasks[task].0], tasks[task].1);
        let kernels = model.kernels(group);
        if !kernels.iter().all(|k| identified(k, group)) {
            return Ok(none(kernels.len(), group, Outcome::Unidentified));
        }
        fit(&kernels, model.effects(), group, t)
    })?;
    let mut out: Vec<Vec<Components>> = vec![Vec::new(); groups.len()];
    tasks.iter().zip(found).for_each(|(&(k, _), fit)| out[k].push(fit));
    Ok(out)
}

/// Whether S K S of a group's records is no multiple of S: otherwise the effect is the residual again, or lies along the
/// fixed effects.
fn identified(kernel: &Kernel, group: &Group) -> bool {
    let (mut a, all) = (kernel.to_dense(), 0..group.animals().len());
    let rows = std::slice::from_ref(&all);
    project_both_sides(&mut a, &[group], rows);
    let nu = group.degrees_of_freedom() as f64;
    let mean = a.diag().sum() / nu;
    add_fixed(&mut a, mean, &[group], rows);
    a.diag_mut().mapv_inplace(|x| x - mean);
    let spread = (a.iter().map(|x| x * x).sum::<f64>() / nu).sqrt();
    spread > SAME * kernel.mean_diagonal().abs().max(mean.abs())
}

/// The root's matrices on every rank. To be called by all ranks.
pub(in crate::mixed) fn share(world: &World, matrices: Vec<Option<Array2<f64>>>) -> Vec<Array2<f64>> {
    let of = |g: Option<Array2<f64>>| {
        let mut n = [g.as_ref().map_or(0, |g| g.nrows() as u64)];
        world.broadcast(0, &mut n);
        let n = usize::try_from(n[0]).expect("a dimension");
        if world.size() == 1 {
            g.expect("on the root")
        } else {
            explicit::share(world, g, n)
        }
    };
    matrices.into_iter().map(of).collect()
}

/// Fits with so many matrices of (n, n) each, as many at the same time as half of the free memory holds, one thread each.
pub(in crate::mixed) fn layout(n: usize, matrices: usize) -> Layout {
    Layout { at_once: plan::at_once((8 * n * n * matrices) as f64), threads: 1 }
}

/// The components of one trait of a group with kernels of its own records.
fn fit(kernels: &[Kernel], effects: &[RandomEffect], group: &Group, trait_: usize) -> Result<Components> {
    if group.explains(trait_) {
        return Ok(none(kernels.len(), group, Outcome::Explained));
    }
    let dense = Dense::new(kernels, &[group], &[trait_]);
    let all: Vec<usize> = (0..dense.effects()).collect();
    let best = best(&dense, &all, None)?;
    if !best.identified {
        return Ok(none(kernels.len(), group, Outcome::Unidentified));
    }
    let mut components = proportions(&best);
    for (k, component) in components.iter_mut().enumerate().take(kernels.len()) {
        let others: Vec<usize> = all.iter().copied().filter(|&i| i != k).collect();
        let without = match component.boundary {
            true => best.log_likelihood,
            false => self::best(&dense, &others, Some(&best))?.log_likelihood,
        };
        component.lrt = 2.0 * (best.log_likelihood - without).max(0.0);
        component.p = 0.5 * stats::chi_square_1(component.lrt);
        if component.lrt == 0.0 {
            component.p = 1.0;
        }
    }
    Ok(summed(components, &best, effects, group))
}

/// The components at an optimum with what they sum to, the residual's of a record of weight 1.
pub(super) fn summed(
    mut components: Vec<Component>,
    best: &Optimum,
    effects: &[RandomEffect],
    group: &Group,
) -> Components {
    let residual = components.last_mut().expect("the residual");
    residual.variance *= group.mean_weight();
    residual.variance_se *= group.mean_weight();
    residual.variance_mc_se *= group.mean_weight();
    let sum = sum(best, effects, group.animals().len()).per_unit_weight(group.mean_weight());
    let repeatability = effects.iter().any(|e| e.permanent).then(|| {
        let [share, se, _] = share_of(best, |k| effects.get(k).is_some_and(RandomEffect::repeats));
        [share, se]
    });
    Components { components, sum, repeatability }
}

/// No estimates, for a reason.
pub(super) fn none(effects: usize, group: &Group, reason: Outcome) -> Components {
    let nan = f64::NAN;
    let [variance, variance_se, variance_mc_se, proportion, proportion_se, lrt, p] = [nan; 7];
    let component = Component {
        variance,
        variance_se,
        variance_mc_se,
        proportion,
        proportion_se,
        lrt,
        p,
        boundary: false,
    };
    Components {
        components: vec![component; effects + 1],
        sum: Estimate::none(group.animals().len(), reason),
        repeatability: None,
    }
}

/// The maximum over the variances of some effects, near those of another maximum where it is given.
fn best(dense: &Dense, effects: &[usize], near: Option<&Optimum>) -> Result<Optimum> {
    let blocks = effects.iter().map(|&k| Block::new(k, &[0])).collect();
    let mut from = start(dense, effects);
    if let Some(near) = near {
        let share = 0.01 * dense.variances()[0];
        for &k in effects {
            from[k] = near.c[k].mapv(|c| c.max(share / dense.sizes()[k].max(1e-300)));
        }
    }
    maximise(dense, from, blocks).ok_or_else(|| {
        Error::failed(
            "variance components",
            "the covariance matrix of the records is not positive definite",
            "check the relationship matrices: make them with `genialearn grm`",
        )
    })
}

/// Variances and proportions with their standard errors.
pub(super) fn proportions(best: &Optimum) -> Vec<Component> {
    let variances: Vec<f64> = best.c.iter().map(|c| c[[0, 0]]).collect();
    let total: f64 = variances.iter().sum();
    let of = |k: usize| {
        // d(σ_k/Σσ)/dσ_i = (δ_ik − σ_k/Σσ)/Σσ
        let proportion = variances[k] / total;
        let slope = |i: usize| (f64::from(u8::from(i == k)) - proportion) / total;
        let known = |se: f64| if best.reduced[k] { f64::NAN } else { se };
        Component {
            variance: variances[k],
            variance_se: known(best.errors[[k, k]].sqrt()),
            variance_mc_se: f64::NAN,
            proportion,
            proportion_se: known(delta(&best.errors, slope)),
            lrt: f64::NAN,
            p: f64::NAN,
            boundary: best.reduced[k],
        }
    };
    (0..variances.len()).map(of).collect()
}

/// The share of some effects in the sum of all variances, its standard error by the delta method, and their sum.
fn share_of(best: &Optimum, counts: impl Fn(usize) -> bool) -> [f64; 3] {
    let variances: Vec<f64> = best.c.iter().map(|c| c[[0, 0]]).collect();
    let total: f64 = variances.iter().sum();
    let part: f64 = (0..variances.len()).filter(|&k| counts(k)).map(|k| variances[k]).sum();
    let slope = |i: usize| (f64::from(u8::from(counts(i))) - part / total) / total;
    [part / total, delta(&best.errors, slope), part]
}

/// All effects with relationships as one.
fn sum(best: &Optimum, effects: &[RandomEffect], n: usize) -> Estimate {
    let residual = best.c.len() - 1;
    let genetic = |k: usize| k < residual && effects[k].is_genetic();
    let [h2, h2_se, var_g] = share_of(best, genetic);
    let known = |lost: bool, se: f64| if lost { f64::NAN } else { se };
    let nothing = (0..residual).filter(|&k| genetic(k)).all(|k| best.reduced[k]);
    Estimate {
        n,
        var_g,
        var_g_se: known(nothing, delta(&best.errors, |i| f64::from(u8::from(genetic(i))))),
        var_e: best.c[residual][[0, 0]],
        var_e_se: known(best.reduced[residual], best.errors[[residual, residual]].sqrt()),
        h2,
        h2_se: known(nothing || best.reduced[residual], h2_se),
        log_likelihood: best.log_likelihood,
        sampling: None,
        iterations: best.iterations,
        outcome: best.outcome,
        weight: 1.0,
    }
}

/// √(d'Ed): the standard error of a function with the slopes d.
pub(super) fn delta(errors: &Array2<f64>, slope: impl Fn(usize) -> f64) -> f64 {
    let d = ndarray::Array1::from_shape_fn(errors.nrows(), slope);
    d.dot(&errors.dot(&d)).max(0.0).sqrt()
}

/// Whether a component, or the fit, ended inside the bounds.
pub fn label(boundary: bool, outcome: Outcome) -> &'static str {
    match (boundary, outcome) {
        (_, failed) if failed == Outcome::Failed || failed.reason().is_some() => Outcome::Failed.label(),
        (_, Outcome::Given) => Outcome::Given.label(),
        (true, _) => Outcome::Boundary.label(),
        (false, _) => Outcome::Converged.label(),
    }
}

/// Elements of all matrices of `t` traits before those of effect `k`.
pub(super) fn first_entry(t: usize, k: usize) -> usize {
    k * entries(t).len()
}
