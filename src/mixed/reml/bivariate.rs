//! Pairs of traits: genetic and residual covariances and correlations by average-information REML.

use super::average::{maximise, start, Block, Likelihood, Optimum};
use super::canonical::Canonical;
use super::components::{delta, first_entry, layout, share};
use super::dense::Dense;
use super::spectral::identified;
use super::{Outcome, Spectral};
use crate::comm::World;
use crate::error::{Error, Result};
use crate::mixed::kernel::Kernel;
use crate::mixed::Group;
use crate::stats;
use ndarray::Array2;

/// Two traits follow from each other where less than this share of the variance of one is left beside the other: the
/// residual covariance matrix is kept as far from singular as that.
const COPY: f64 = 1e-5;

/// A covariance matrix of two traits. What does not exist is NaN.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Covariance {
    /// The two variances.
    pub variances: [f64; 2],
    /// The covariance.
    pub covariance: f64,
    /// Its standard error from the average information.
    pub covariance_se: f64,
    /// The correlation.
    pub correlation: f64,
    /// Its standard error by the delta method; none at ±1.
    pub correlation_se: f64,
}

/// What REML says of two traits.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Pair {
    /// Animals with records of each trait.
    pub n: [usize; 2],
    /// Animals with records of both.
    pub both: usize,
    /// G0.
    pub genetic: Covariance,
    /// R0 of records of weight 1; no covariance where no animal has both records.
    pub residual: Covariance,
    /// Restricted log-likelihood, without the constant −ν/2 log 2π.
    pub log_likelihood: f64,
    /// P of a larger likelihood ratio (χ²₁) if the genetic correlation is 0.
    pub p: f64,
    /// Steps of the search.
    pub iterations: usize,
    /// How it ended: `Boundary` where a correlation is ±1 or a variance 0.
    pub outcome: Outcome,
}

/// A trait as the number of its group and its column there.
pub type Place = (usize, usize);

/// Estimates the covariances of `pairs` of traits. Pairs of one group share its band; pairs recorded on different
/// animals need the inverse of a matrix of all their records. The relationships stand on the root only; every rank
/// receives all results, in the order of the pairs.
pub fn estimate(
    world: &World,
    relationships: Option<Array2<f64>>,
    groups: &[&Group],
    pairs: &[(Place, Place)],
) -> Result<Vec<Pair>> {
    groups.iter().try_for_each(|g| g.check_degrees_of_freedom())?;
    let g = share(world, vec![relationships]).remove(0);
    let tasks = tasks(pairs);
    let records = |t: &Vec<usize>| -> usize {
        let (a, b) = pairs[t[0]];
        let n = |p: Place| groups[p.0].animals().len();
        if a.0 == b.0 {
            n(a)
        } else {
            n(a) + n(b)
        }
    };
    let largest = tasks.iter().map(records).max().unwrap_or(0);
    let without = |&(a, b): &(Place, Place)| without_estimate(groups, a, b);
    let found = layout(largest, 4).deal(world, tasks.len(), |task| {
        let own: Vec<(Place, Place)> = tasks[task].iter().map(|&i| pairs[i]).collect();
        let ((first, _), (second, _)) = own[0];
        if first == second {
            let spectral = Spectral::new(g.view(), groups[first])?;
            let eta = spectral.rotate();
            let of = |pair: &(Place, Place)| {
                let &((_, a), (_, b)) = pair;
                let n = groups[first].animals().len();
                let unidentified = (!spectral.is_identified()).then_some(Outcome::Unidentified);
                match without(pair).or(unidentified) {
                    Some(outcome) => Ok(none(([n, n], n), outcome)),
                    None => fit(&Canonical::new(&spectral, &eta, [a, b]), ([n, n], n)),
                }
            };
            return own.iter().map(of).collect::<Result<Vec<Pair>>>();
        }
        let ((_, a), (_, b)) = own[0];
        let both = [groups[first], groups[second]];
        let n = both.map(|group| group.animals().len());
        let known = both.iter().all(|group| identified(g.view(), group));
        if let Some(outcome) = without(&own[0]).or((!known).then_some(Outcome::Unidentified)) {
            return Ok(vec![none((n, both_records(&both).len()), outcome)]);
        }
        let kernels = [Kernel::of_animals(g.view(), &both)];
        let dense = Dense::new(&kernels, &both, &[a, b]);
        Ok(vec![fit(&dense, (n, n[0] + n[1] - dense.animals()))?])
    })?;
    let mut sorted: Vec<(usize, Pair)> =
        tasks.into_iter().flatten().zip(found.into_iter().flatten()).collect();
    sorted.sort_by_key(|(i, _)| *i);
    let weights = |i: usize| [pairs[i].0, pairs[i].1].map(|(group, _)| groups[group].mean_weight());
    Ok(sorted.into_iter().map(|(i, pair)| pair.per_unit_weight(weights(i))).collect())
}

impl Pair {
    /// R0 of records of weight 1, after it was that of records of the traits' mean weights.
    fn per_unit_weight(mut self, weights: [f64; 2]) -> Pair {
        let both = weights[0].sqrt() * weights[1].sqrt();
        let residual = &mut self.residual;
        residual.variances.iter_mut().zip(weights).for_each(|(v, w)| *v *= w);
        residual.covariance *= both;
        residual.covariance_se *= both;
        self
    }
}

/// Why two traits have no covariances: the fixed effects explain one, or one follows from the other.
fn without_estimate(groups: &[&Group], a: Place, b: Place) -> Option<Outcome> {
    if groups[a.0].explains(a.1) || groups[b.0].explains(b.1) {
        return Some(Outcome::Explained);
    }
    // The records of both traits of the same animals beside a common mean and each other's fixed effects.
    let shared = both_records(&[groups[a.0], groups[b.0]]);
    let [rows_a, rows_b]: [Vec<usize>; 2] =
        [shared.iter().map(|s| s.0).collect(), shared.iter().map(|s| s.1).collect()];
    let left = |place: Place, rows: &[usize]| {
        let own = groups[place.0].subset(rows);
        let mut y = own.scaled(own.y().slice(ndarray::s![.., place.1..=place.1]));
        own.project(&mut y);
        (y.into_raw_vec_and_offset().0, own.degrees_of_freedom())
    };
    let ((y, freedom), (z, _)) = (left(a, &rows_a), left(b, &rows_b));
    let dot = |y: &[f64], z: &[f64]| y.iter().zip(z).map(|(y, z)| y * z).sum::<f64>();
    let alone = 1.0 - dot(&y, &z).powi(2) / (dot(&y, &y) * dot(&z, &z));
    (freedom >= 3 && alone < COPY).then_some(Outcome::Dependent)
}

/// Rows of the records, one in each group, of animals that have both.
pub(super) fn both_records(groups: &[&Group; 2]) -> Vec<(usize, usize)> {
    let [first, second] = groups.map(Group::animals);
    let place: std::collections::HashMap<usize, usize> =
        second.iter().enumerate().map(|(row, &animal)| (animal, row)).collect();
    first.iter().enumerate().filter_map(|(row, animal)| Some((row, *place.get(animal)?))).collect()
}

/// No estimates, for a reason.
fn none((n, both): ([usize; 2], usize), outcome: Outcome) -> Pair {
    let nan = f64::NAN;
    let c = Covariance {
        variances: [nan; 2],
        covariance: nan,
        covariance_se: nan,
        correlation: nan,
        correlation_se: nan,
    };
    let (genetic, residual) = (c.clone(), c);
    Pair { n, both, genetic, residual, log_likelihood: nan, p: nan, iterations: 0, outcome }
}

/// The numbers of the pairs that are done together: all of one group, or one pair of two groups.
fn tasks(pairs: &[(Place, Place)]) -> Vec<Vec<usize>> {
    let mut within: std::collections::BTreeMap<usize, Vec<usize>> = Default::default();
    let mut across = Vec::new();
    for (i, &((a, _), (b, _))) in pairs.iter().enumerate() {
        if a == b {
            within.entry(a).or_default().push(i);
        } else {
            across.push(vec![i]);
        }
    }
    within.into_values().chain(across).collect()
}

/// The fit of two traits, of which (n, both) animals have records.
fn fit(likelihood: &dyn Likelihood, (n, both): ([usize; 2], usize)) -> Result<Pair> {
    let residual = |blocks: &mut Vec<Block>| match both {
        0 => blocks.extend([Block::new(1, &[0]), Block::new(1, &[1])]),
        _ => blocks.push(Block::new(1, &[0, 1])),
    };
    // Without genetic covariance first: from there the whole model starts.
    let mut apart = vec![Block::new(0, &[0]), Block::new(0, &[1])];
    residual(&mut apart);
    let null = best(likelihood, start(likelihood, &[0, 1]), apart)?;
    let mut from = null.c.clone();
    for (c, size) in from.iter_mut().zip(likelihood.sizes()) {
        // Away from all bounds.
        for (i, variance) in likelihood.variances().into_iter().enumerate() {
            c[[i, i]] = c[[i, i]].max(0.02 * variance / size.max(1e-300));
        }
        let most = 0.95 * (c[[0, 0]] * c[[1, 1]]).sqrt();
        let covariance = c[[0, 1]].clamp(-most, most);
        (c[[0, 1]], c[[1, 0]]) = (covariance, covariance);
    }
    let mut blocks = vec![Block::new(0, &[0, 1])];
    residual(&mut blocks);
    let whole = best(likelihood, from, blocks)?;
    if !whole.identified && whole.outcome == Outcome::Converged {
        return Ok(none((n, both), Outcome::Unidentified));
    }
    let lrt = 2.0 * (whole.log_likelihood - null.log_likelihood).max(0.0);
    let failed = null.outcome == Outcome::Failed;
    Ok(Pair {
        n,
        both,
        genetic: covariance(&whole, 0, true),
        residual: covariance(&whole, 1, both > 0),
        log_likelihood: whole.log_likelihood,
        p: if failed { f64::NAN } else { stats::chi_square_1(lrt) },
        iterations: whole.iterations,
        outcome: whole.outcome,
    })
}

fn best(likelihood: &dyn Likelihood, from: Vec<Array2<f64>>, blocks: Vec<Block>) -> Result<Optimum> {
    maximise(likelihood, from, blocks).ok_or_else(|| {
        Error::failed(
            "variance components",
            "the covariance matrix of the records is not positive definite",
            "check the relationship matrix: make it with `genialearn grm`",
        )
    })
}

/// The matrix of one effect; `estimated` tells whether its covariance is.
fn covariance(best: &Optimum, effect: usize, estimated: bool) -> Covariance {
    let (c, first) = (&best.c[effect], first_entry(2, effect));
    let (a, b, d) = (c[[0, 0]], c[[0, 1]], c[[1, 1]]);
    let known = |known: bool, x: f64| if known { x } else { f64::NAN };
    // dr/d(a, b, d) = (−r/2a, 1/√ad, −r/2d)
    let root = (a * d).sqrt();
    let correlation = if root > 0.0 { (b / root).clamp(-1.0, 1.0) } else { f64::NAN };
    let slopes = [-0.5 * correlation / a, root.recip(), -0.5 * correlation / d];
    let correlation_se = delta(&best.errors, |i| match i.checked_sub(first) {
        Some(k @ 0..=2) => slopes[k],
        _ => 0.0,
    });
    Covariance {
        variances: [a, d],
        covariance: known(estimated, b),
        covariance_se: known(estimated, best.errors[[first + 1, first + 1]].sqrt()),
        correlation: known(estimated, correlation),
        correlation_se: known(estimated && !best.reduced[effect], correlation_se),
    }
}
