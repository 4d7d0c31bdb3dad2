//! GBLUP of many groups by relationships that are held or only multiplied with, and out-of-fold breeding values.

use super::out_of_fold::InnerFolds;
use super::{Cost, Learned, Learner, Trained, Training};
use crate::comm::World;
use crate::config::{self, Settings};
use crate::error::{Error, Result};
use crate::grm::{GenotypeMatrix, Scaling};
use crate::linalg::pcg::{Params, Precision};
use crate::mixed::alike::pieces;
use crate::mixed::gblup::{fit_alike, fit_by_conjugate_gradient_monitored, join, Fit};
use crate::mixed::multitrait::fit_joint;
use crate::mixed::plan::{fits_at_once, Layout};
use crate::mixed::reml::moments::{self, haseman_elston};
use crate::mixed::reml::{stochastic, Given};
use crate::mixed::solve::{CgSettings, Unmonitored};
use crate::mixed::{Estimate, Group};
use crate::nn::checkpointer::Checkpointer;
use crate::predict::data::{Block, Data};
use crate::predict::gblup::snp_effects;
use crate::predict::GblupModel;
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// Settings of GBLUP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GblupConfig {
    /// The relationships: `vanraden1`, `vanraden2` or `dominance`.
    pub grm: String,
    /// How it is solved.
    pub solver: StudySolver,
    /// Heritability of all traits; by REML in every fit when left out.
    pub h2: Option<f64>,
    /// One model of all traits with their genetic and residual covariances (Henderson & Quaas 1976), which are
    /// estimated by moments in every fit.
    pub joint: bool,
}

/// How GBLUP is solved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StudySolver {
    /// G on every rank, and a reduction of it in every training fold.
    #[default]
    Eigen,
    /// Conjugate gradients, which never form G.
    Pcg,
}

impl Default for GblupConfig {
    fn default() -> Self {
        GblupConfig {
            grm: Scaling::VanRaden1.name().into(),
            solver: StudySolver::Eigen,
            h2: None,
            joint: false,
        }
    }
}

impl GblupConfig {
    /// Reads and checks settings.
    ///
    /// # Errors
    /// Unknown keys and values that cannot be fitted.
    pub fn configure(settings: Settings) -> Result<GblupConfig> {
        let config: GblupConfig = settings.read()?;
        config.check(&settings.place())?;
        Ok(config)
    }

    /// An error at `place` unless it can be fitted.
    ///
    /// # Errors
    /// Unknown relationships, an impossible h², keys that exclude each other.
    pub fn check(&self, place: &str) -> Result<()> {
        if Scaling::named(&self.grm).is_none() {
            let known = Scaling::ALL.map(Scaling::name);
            let advice = config::nearest(&self.grm, known).map(|n| format!("did you mean `{n}`?"));
            let expected = format!("{} or {}", known[..known.len() - 1].join(", "), known[known.len() - 1]);
            let advice = advice.as_deref().unwrap_or("choose one");
            return Err(Error::input(place, expected, format!("`{}`", self.grm), advice));
        }
        if let Some(h2) = self.h2.filter(|h2| !(0.0..1.0).contains(h2)) {
            return Err(Error::input(place, "a heritability from 0 to below 1", h2, "change `h2`"));
        }
        if self.joint && self.h2.is_some() {
            let advice = "remove one: `joint` estimates covariances of all traits";
            return Err(Error::input(place, "`joint` or `h2`", "both", advice));
        }
        Ok(())
    }

    /// The relationships by name.
    pub fn scaling(&self) -> Scaling {
        Scaling::named(&self.grm).expect("checked with the settings")
    }

    /// Whether G is formed.
    fn held(&self) -> bool {
        self.solver == StudySolver::Eigen && !self.joint
    }

    /// With the data that it reads. Collective.
    ///
    /// # Errors
    /// What reading or forming the relationships meets.
    pub fn open(&self, data: &Data) -> Result<Gblup> {
        let relationships = match self.held() {
            true => Relationships::Held(data.relationships(self.scaling())?),
            false => Relationships::Implicit(data.genotypes(self.scaling())?),
        };
        Ok(Gblup { relationships, h2: self.h2 })
    }

    /// Out-of-fold values of each set; sets of the same records, such as those of replicates, share them. Collective.
    ///
    /// # Errors
    /// What reading the relationships meets, and groups that cannot be fitted.
    pub fn out_of_fold(&self, data: &Data, sets: &[Training], folds: usize) -> Result<Vec<Rc<OutOfFold>>> {
        let gblup = self.open(data)?;
        let mut found: Vec<Rc<OutOfFold>> = Vec::new();
        for (i, set) in sets.iter().enumerate() {
            let before = i.checked_sub(1).filter(|&b| sets[b].has_records_of(set));
            found.push(match before {
                Some(before) => found[before].clone(),
                None => Rc::new(gblup.out_of_fold(&data.world, set, folds)?),
            });
        }
        Ok(found)
    }

    /// A fit as SNP effects. Collective.
    ///
    /// # Errors
    /// What reading the genotypes meets.
    pub fn model(&self, data: &Data, set: &Training, fit: &Fit) -> Result<GblupModel> {
        let markers = data.genotypes(self.scaling())?;
        let (effects, fixed) = (snp_effects(&markers, fit), (&set.records.effects[..], &fit.fixed));
        Ok(GblupModel::gather(&markers, data.store.variants(), &set.names(), fixed, &effects))
    }

    /// All traits in one model. Collective.
    fn fit_joint(&self, data: &Data, set: &Training) -> Result<(Fit, f64)> {
        let begun = Instant::now();
        let markers = data.genotypes(self.scaling())?;
        // Numbers of the traits within the set.
        let all = set.traits();
        let place = |t: &usize| all.binary_search(t).expect("one of the set's traits");
        let traits: Vec<Vec<usize>> =
            set.groups.iter().map(|(numbers, _)| numbers.iter().map(place).collect()).collect();
        let groups: Vec<&Group> = set.groups.iter().map(|(_, group)| group).collect();
        let mut weights = vec![1.0; all.len()];
        for (numbers, group) in traits.iter().zip(&groups) {
            numbers.iter().for_each(|&t| weights[t] = group.mean_weight());
        }
        let params = moments::Params { seed: set.seed, ..moments::Params::default() };
        let found = data.world.agree(haseman_elston(&*markers, &traits, &groups, params))?;
        let covariances = found.bent.per_mean_weight(&weights);
        let settings = settings(set.seed);
        let (fit, _) = fit_joint(&*markers, (&traits, &groups), &covariances, &settings, &mut Unmonitored)?;
        Ok((fit, begun.elapsed().as_secs_f64()))
    }
}

impl Learner for GblupConfig {
    fn settings(&self) -> String {
        config::as_text(self)
    }

    fn joint(&self) -> bool {
        self.joint
    }

    fn is_stochastic(&self) -> bool {
        // Random probes of stochastic REML and of moments: their noise is far below that of records.
        false
    }

    fn reads(&self) -> Vec<Block> {
        let genotypes = Block::Genotypes(self.scaling());
        match self.held() {
            true => vec![genotypes, Block::Relationships(self.scaling())],
            false => vec![genotypes],
        }
    }

    fn additive_gblup(&self) -> bool {
        self.scaling().is_additive() && !self.joint
    }

    fn estimates(&self) -> bool {
        self.h2.is_none()
    }

    fn at_once(&self, data: &Data, animals: usize) -> usize {
        match (self.joint, self.held()) {
            (true, _) => 1,
            (false, true) => fits_on_all(&data.world, animals),
            (false, false) => WIDTH,
        }
    }

    fn shares_splits(&self) -> bool {
        self.held()
    }

    fn fit(&self, data: &Data, sets: &[Training]) -> Result<Vec<Learned>> {
        if self.joint {
            let one = |set: &Training| {
                let (fit, seconds) = self.fit_joint(data, set)?;
                Ok(Learned::of(set, fit, seconds))
            };
            return sets.iter().map(one).collect();
        }
        self.open(data)?.fit(&data.world, sets)
    }

    fn train(
        &self,
        data: &Data,
        set: &Training,
        _checkpointer: Option<&mut Checkpointer>,
    ) -> Result<Trained> {
        let fit = match self.joint {
            true => self.fit_joint(data, set)?.0,
            false => self.open(data)?.whole(&data.world, set)?,
        };
        let model = self.model(data, set, &fit)?;
        Ok(Trained { model: Some(Box::new(model)), ..Trained::default() })
    }

    fn methods(&self) -> String {
        let matrix = match self.scaling() {
            Scaling::VanRaden1 => "G = ZZ'/c of centred allele counts (VanRaden 2008, method 1)",
            Scaling::VanRaden2 => "G of allele counts standardised at each SNP (VanRaden 2008, method 2)",
            Scaling::Dominance => "a matrix of dominance relationships (Vitezica et al. 2013)",
        };
        let variances = match (self.joint, self.h2) {
            (true, _) => "All traits stand in one model (Henderson & Quaas 1976) with genetic and residual covariances \
                          by the moments of Haseman & Elston in every training part, bent to be positive definite."
                .to_owned(),
            (false, Some(h2)) => format!("The heritability of all traits is given: {h2}."),
            (false, None) => "Each trait has its own variances by restricted maximum likelihood in every training part \
                              (Patterson & Thompson 1971)."
                .to_owned(),
        };
        let solved = match self.held() {
            true => "Solved exactly by an eigendecomposition.",
            false => "Solved by preconditioned conjugate gradients without forming the matrix (Strandén & Lidauer 1999).",
        };
        format!("Genomic BLUP, y = Xb + u + e with u ~ N(0, {matrix} σ²g). {variances} {solved}")
    }

    fn cost(&self, n: f64, m: f64, t: f64) -> Cost {
        match self.held() {
            true => Cost { operations: 4.0 / 3.0 * n.powi(3) * 2.0 + n * n * t, bytes: 3.2 * 8.0 * n * n },
            false => Cost { operations: 400.0 * n * m * t, bytes: n * m / 2.0 + 64.0 * n * t },
        }
    }
}

/// Relative residual of the conjugate gradients: far below what predictions can show.
const TOLERANCE: f64 = 1e-6;
/// Columns in one block of conjugate gradients, about.
const WIDTH: usize = 64;

/// The relationships of all animals.
pub enum Relationships {
    /// A matrix on every rank: a reduction to a band for every group, dealt over ranks and threads.
    Held(Arc<Array2<f64>>),
    /// Only products with G: conjugate gradients for all groups in one block, stochastic REML.
    Implicit(Rc<GenotypeMatrix>),
}

/// GBLUP, with variances by REML in every training set unless h² is given.
pub struct Gblup {
    /// The relationships.
    pub relationships: Relationships,
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

impl Relationships {
    /// Animals, n.
    pub fn animals(&self) -> usize {
        match self {
            Relationships::Held(g) => g.nrows(),
            Relationships::Implicit(markers) => markers.n(),
        }
    }

    /// Fits all groups, with variances by REML where none are given. `splits`: how many groups in turn are of one split.
    /// Collective; every rank receives all fits, each with its wall seconds.
    pub fn fit(
        &self,
        world: &World,
        (groups, splits): (&[&Group], &[usize]),
        given: Option<&[Vec<Given>]>,
        seed: u64,
    ) -> Result<Vec<(Fit, f64)>> {
        let begun = Instant::now();
        match self {
            Relationships::Held(g) => held(world, g, (groups, splits), given),
            Relationships::Implicit(markers) => {
                let fits = implicit(markers, groups, given, seed)?;
                let each = begun.elapsed().as_secs_f64() / fits.len().max(1) as f64;
                Ok(fits.into_iter().map(|fit| (fit, each)).collect())
            }
        }
    }
}

/// Deals the groups over ranks and threads, those of a split together that share a reduction.
fn held(
    world: &World,
    g: &Array2<f64>,
    (groups, splits): (&[&Group], &[usize]),
    given: Option<&[Vec<Given>]>,
) -> Result<Vec<(Fit, f64)>> {
    let (mut work, mut first) = (Vec::new(), 0);
    for count in splits {
        let here = pieces(&groups[first..first + count])?;
        work.extend(here.into_iter().map(|piece| piece.into_iter().map(|i| first + i).collect::<Vec<_>>()));
        first += count;
    }
    let fit = |piece: usize| {
        let (begun, numbers) = (Instant::now(), &work[piece]);
        let of: Vec<&Group> = numbers.iter().map(|&i| groups[i]).collect();
        let given: Option<Vec<_>> = given.map(|all| numbers.iter().map(|&i| all[i].clone()).collect());
        let fits = fit_alike(g.view(), &of, given.as_deref())?;
        let each = begun.elapsed().as_secs_f64() / fits.len() as f64;
        Ok(numbers.iter().zip(fits).map(|(&i, fit)| (i, (fit, each))).collect::<Vec<_>>())
    };
    let largest = groups.iter().map(|g| g.animals().len()).max().unwrap_or(0);
    let layout = Layout::beside_g(work.len().div_ceil(world.size()), largest);
    let mut fits: Vec<_> = layout.deal(world, work.len(), fit)?.into_iter().flatten().collect();
    fits.sort_by_key(|(i, _)| *i);
    Ok(fits.into_iter().map(|(_, fit)| fit).collect())
}

/// How systems are solved by products.
fn settings(seed: u64) -> CgSettings {
    let params = Params { tolerance: TOLERANCE, precision: Precision::Single, ..Params::default() };
    CgSettings { params, rank: None, seed }
}

/// Fits of at most `animals` that all ranks do at once; the same on all: what fits on the one with the least memory.
pub fn fits_on_all(world: &World, animals: usize) -> usize {
    let mut least = [-(fits_at_once(animals) as i64)];
    world.max(&mut least);
    usize::try_from(-least[0]).expect("at least one") * world.size()
}

/// All groups in one block of conjugate gradients.
fn implicit(
    markers: &GenotypeMatrix,
    groups: &[&Group],
    given: Option<&[Vec<Given>]>,
    seed: u64,
) -> Result<Vec<Fit>> {
    let settings = settings(seed);
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

impl Gblup {
    /// What is known of the variances of some groups before any fit.
    fn given(&self, groups: &[&Group]) -> Option<Vec<Vec<Given>>> {
        let known = Given { h2: self.h2?, total: None };
        Some(groups.iter().map(|g| vec![known; g.traits()]).collect())
    }

    /// Fits every group of every set; the fits stand in their order. Collective.
    fn fit_all(&self, world: &World, sets: &[Training]) -> Result<Vec<(Fit, f64)>> {
        let groups: Vec<&Group> = sets.iter().flat_map(|s| s.groups.iter().map(|(_, g)| g)).collect();
        let seed = sets.first().map_or(0, |s| s.seed);
        let same_split = sets.chunk_by(|a, b| a.split_seed == b.split_seed);
        let splits: Vec<usize> = same_split.map(|sets| sets.iter().map(|s| s.groups.len()).sum()).collect();
        self.relationships.fit(world, (&groups, &splits), self.given(&groups).as_deref(), seed)
    }

    /// One fit a set, in their order. Collective; every rank receives all.
    ///
    /// # Errors
    /// Groups that cannot be fitted.
    pub fn fit(&self, world: &World, sets: &[Training]) -> Result<Vec<Learned>> {
        let mut fits = self.fit_all(world, sets)?.into_iter();
        let of = |set: &Training| {
            let (fit, seconds) = Self::joined(set, fits.by_ref().take(set.groups.len()));
            Learned::of(set, fit, seconds)
        };
        Ok(sets.iter().map(of).collect())
    }

    /// The fit to all records of a set. Collective.
    ///
    /// # Errors
    /// Groups that cannot be fitted.
    pub fn whole(&self, world: &World, set: &Training) -> Result<Fit> {
        Ok(Self::joined(set, self.fit_all(world, std::slice::from_ref(set))?).0)
    }

    /// The fits to all records of each set, in their order. Collective; every rank receives all.
    ///
    /// # Errors
    /// Groups that cannot be fitted.
    pub fn wholes(&self, world: &World, sets: &[Training]) -> Result<Vec<Fit>> {
        let mut fits = self.fit_all(world, sets)?.into_iter();
        Ok(sets.iter().map(|set| Self::joined(set, fits.by_ref().take(set.groups.len())).0).collect())
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
        let folds = InnerFolds::new(set, self.relationships.animals(), folds);
        let once: Vec<Vec<Given>> =
            whole.iter().map(|(fit, _)| fit.estimates.iter().map(Estimate::as_given).collect()).collect();
        let given: Vec<Vec<Given>> = (0..folds.count).flat_map(|_| once.clone()).collect();
        let sets: Vec<Training> = (0..folds.count).map(|k| folds.without(set, k)).collect();
        let groups: Vec<&Group> = sets.iter().flat_map(|s| s.groups.iter().map(|(_, group)| group)).collect();
        let splits = vec![set.groups.len(); folds.count];
        let fits = self.relationships.fit(world, (&groups, &splits), Some(&given), set.seed)?;
        let mut fits = fits.into_iter();
        let (fit, _) = Self::joined(set, whole);
        let part = |_| Self::joined(set, fits.by_ref().take(set.groups.len())).0.ebv;
        let parts: Vec<Array2<f64>> = (0..folds.count).map(part).collect();
        let values = folds.put_together(&fit.ebv, &parts);
        Ok(OutOfFold { fit, values })
    }
}
