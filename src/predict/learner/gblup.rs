//! GBLUP of many groups by relationships that are held or only multiplied with, and out-of-fold breeding values.

use super::{Learned, Learner, Training};
use crate::comm::World;
use crate::error::Result;
use crate::grm::GenotypeMatrix;
use crate::linalg::pcg::{Params, Precision};
use crate::mixed::gblup::{fit_by_conjugate_gradient_monitored, fit_group, join, Fit};
use crate::mixed::plan::{fits_at_once, Layout, Solver};
use crate::mixed::reml::{stochastic, Given};
use crate::mixed::solve::{CgSettings, Unmonitored};
use crate::mixed::{Estimate, Group};
use crate::rng::{Purpose, Stream};
use ndarray::{Array2, ArrayView2};
use std::time::Instant;

/// Relative residual of the conjugate gradients: far below what predictions can show.
const TOLERANCE: f64 = 1e-6;
/// Columns in one block of conjugate gradients, about.
const WIDTH: usize = 64;

/// The relationships of all animals.
pub enum Relationships<'a> {
    /// G on every rank: a reduction to a band for every group, dealt over ranks and threads.
    Held(ArrayView2<'a, f64>),
    /// Only products with G: conjugate gradients for all groups in one block, stochastic REML.
    Implicit(&'a GenotypeMatrix),
}

/// GBLUP, with variances by REML in every training set unless h² is given.
pub struct Gblup<'a> {
    /// The relationships.
    pub relationships: Relationships<'a>,
    /// Heritability of all traits, where it is not estimated.
    pub h2: Option<f64>,
}

/// GBLUP of a training set, and what it says of its animals without their own records.
pub struct OutOfFold {
    /// From all records.
    pub fit: Fit,
    /// Breeding values of all animals, (n, t): of the training animals without the records of their inner fold.
    pub values: Array2<f64>,
}

impl Relationships<'_> {
    /// Animals, n.
    pub fn animals(&self) -> usize {
        match self {
            Relationships::Held(g) => g.nrows(),
            Relationships::Implicit(markers) => markers.n(),
        }
    }

    /// Fits all groups, with variances by REML where none are given. Collective; every rank receives all fits, each
    /// with its wall seconds.
    pub fn fit(
        &self,
        world: &World,
        groups: &[&Group],
        given: Option<&[Vec<Given>]>,
        seed: u64,
    ) -> Result<Vec<(Fit, f64)>> {
        let begun = Instant::now();
        match self {
            Relationships::Held(g) => held(world, *g, groups, given),
            Relationships::Implicit(markers) => {
                let fits = implicit(markers, groups, given, seed)?;
                let each = begun.elapsed().as_secs_f64() / fits.len().max(1) as f64;
                Ok(fits.into_iter().map(|fit| (fit, each)).collect())
            }
        }
    }
}

/// Deals the groups over ranks and threads.
fn held(
    world: &World,
    g: ArrayView2<f64>,
    groups: &[&Group],
    given: Option<&[Vec<Given>]>,
) -> Result<Vec<(Fit, f64)>> {
    let fit = |i: usize| {
        let begun = Instant::now();
        let fit = fit_group(g, groups[i], given.map(|all| &all[i][..]), Solver::Eigen)?;
        Ok((fit, begun.elapsed().as_secs_f64()))
    };
    let largest = groups.iter().map(|g| g.animals().len()).max().unwrap_or(0);
    Layout::beside_g(groups.len().div_ceil(world.size()), largest).deal(world, groups.len(), fit)
}

/// All groups in one block of conjugate gradients.
fn implicit(
    markers: &GenotypeMatrix,
    groups: &[&Group],
    given: Option<&[Vec<Given>]>,
    seed: u64,
) -> Result<Vec<Fit>> {
    let params = Params { tolerance: TOLERANCE, precision: Precision::Single, ..Params::default() };
    let settings = CgSettings { params, rank: None, seed };
    let solve = |given: &[Vec<Given>]| {
        fit_by_conjugate_gradient_monitored(markers, groups, given, &settings, &mut Unmonitored)
    };
    let Some(given) = given else {
        let params = stochastic::Params { seed, ..stochastic::Params::default() };
        let estimates = stochastic::estimate(markers, groups, params)?;
        let given: Vec<Vec<Given>> =
            estimates.iter().map(|e| e.iter().map(Estimate::as_given).collect()).collect();
        let (mut fits, _) = solve(&given)?;
        fits.iter_mut().zip(estimates).for_each(|(fit, estimates)| fit.estimates = estimates);
        return Ok(fits);
    };
    Ok(solve(given)?.0)
}

impl Gblup<'_> {
    /// What is known of the variances of some groups before any fit.
    fn given(&self, groups: &[&Group]) -> Option<Vec<Vec<Given>>> {
        let known = Given { h2: self.h2?, total: None };
        Some(groups.iter().map(|g| vec![known; g.traits()]).collect())
    }

    /// Fits every group of every set; the fits stand in their order. Collective.
    fn fit_all(&self, world: &World, sets: &[Training]) -> Result<Vec<(Fit, f64)>> {
        let groups: Vec<&Group> = sets.iter().flat_map(|s| s.groups.iter().map(|(_, g)| g)).collect();
        let seed = sets.first().map_or(0, |s| s.seed);
        self.relationships.fit(world, &groups, self.given(&groups).as_deref(), seed)
    }

    /// A set's fits as one, in the order of its traits, and their seconds.
    fn joined(set: &Training, fits: impl IntoIterator<Item = (Fit, f64)>) -> (Fit, f64) {
        let (fits, seconds): (Vec<Fit>, Vec<f64>) = fits.into_iter().unzip();
        (join(&set.numbers(), fits), seconds.iter().sum())
    }

    /// GBLUP from all records of a set, and out-of-fold values of its animals: each from a fit
    /// to the records of the others, whose inner fold it is not in, with the variances of the first fit. Rows of
    /// animals without a record are those of the first fit. Collective.
    pub fn out_of_fold(&self, world: &World, set: &Training, folds: usize) -> Result<OutOfFold> {
        let whole = self.fit_all(world, std::slice::from_ref(set))?;
        let fold = folds_of(set, self.relationships.animals(), folds);
        let once: Vec<Vec<Given>> =
            whole.iter().map(|(fit, _)| fit.estimates.iter().map(Estimate::as_given).collect()).collect();
        let given: Vec<Vec<Given>> = (0..folds).flat_map(|_| once.clone()).collect();
        let parts = without_each(set, &fold, folds);
        let refs: Vec<&Group> = parts.iter().collect();
        let mut fits = self.relationships.fit(world, &refs, Some(&given), set.seed)?.into_iter();
        let (fit, _) = Self::joined(set, whole);
        let mut values = fit.ebv.clone();
        for k in 0..folds {
            let (part, _) = Self::joined(set, fits.by_ref().take(set.groups.len()));
            for i in (0..fold.len()).filter(|&i| fold[i] == Some(k)) {
                values.row_mut(i).assign(&part.ebv.row(i));
            }
        }
        Ok(OutOfFold { fit, values })
    }
}

/// The groups of a set without the records of each inner fold in turn.
fn without_each(set: &Training, fold: &[Option<usize>], folds: usize) -> Vec<Group> {
    let without = |group: &Group, k: usize| {
        let kept = |&i: &usize| fold[group.animals()[i]] != Some(k);
        group.subset(&(0..group.animals().len()).filter(kept).collect::<Vec<_>>())
    };
    (0..folds).flat_map(|k| set.groups.iter().map(move |(_, group)| without(group, k))).collect()
}

impl Learner for Gblup<'_> {
    fn at_once(&self, world: &World, animals: usize) -> usize {
        match self.relationships {
            Relationships::Implicit(_) => WIDTH,
            Relationships::Held(_) => {
                // The same on all ranks: what fits on the one with the least memory.
                let mut least = [-(fits_at_once(animals) as i64)];
                world.max(&mut least);
                usize::try_from(-least[0]).expect("at least one") * world.size()
            }
        }
    }

    fn fit(&self, world: &World, sets: &[Training]) -> Result<Vec<Learned>> {
        let mut fits = self.fit_all(world, sets)?.into_iter();
        let of = |set: &Training| {
            let (fit, seconds) = Self::joined(set, fits.by_ref().take(set.groups.len()));
            Learned::of(set, fit, seconds)
        };
        Ok(sets.iter().map(of).collect())
    }
}

/// The inner fold of each of `n` animals of a set: that of the real animal whose records it has.
pub(super) fn folds_of(set: &Training, n: usize, folds: usize) -> Vec<Option<usize>> {
    let animals = set.animals();
    let mut origins: Vec<usize> = animals.iter().map(|&i| set.origin(i)).collect();
    origins.sort_unstable();
    origins.dedup();
    let mut fold = inner_folds(&origins, n, folds, set.seed);
    for animal in animals {
        fold[animal] = fold[set.origin(animal)];
    }
    fold
}

/// The inner fold of each of `n` animals, none for those that are not among `animals`: equal parts of a random
/// order that depends on the seed and the animals' numbers.
pub fn inner_folds(animals: &[usize], n: usize, folds: usize, seed: u64) -> Vec<Option<usize>> {
    let key = |i: usize| Stream::new(seed, Purpose::InnerFolds, i as u64).next_u64();
    let mut order: Vec<(u64, usize)> = animals.iter().map(|&i| (key(i), i)).collect();
    order.sort_unstable();
    let mut out = vec![None; n];
    for (place, (_, animal)) in order.into_iter().enumerate() {
        out[animal] = Some(place % folds);
    }
    out
}
