//! What selection by a model's predictions is worth: the best animals of a simulated herd become parents,
//! generation after generation, and the true genetic values tell the gain.
//!
//! The models learn once, from the herd without its youngest animals, who are the candidates of generation 0 and have
//! no records. In each generation the best candidates mate at random, whatever their sex, and their offspring are the
//! next candidates.

use crate::comm::layout::snps_of;
use crate::comm::World;
use crate::config;
use crate::device::network::Network;
use crate::error::{Error, Result};
use crate::grm::{GenotypeMatrix, Scaling};
use crate::predict::gblup::snp_effects;
use crate::predict::learner::dlgblup::DlgblupConfig;
use crate::predict::learner::gblup::{Gblup, GblupConfig, Relationships};
use crate::predict::learner::Training;
use crate::predict::trait_network::{no_features, TraitNetwork};
use crate::records::Phenotypes;
use crate::rng::{Purpose, Stream};
use crate::simulate::{Flock, Herd, SimulationConfig, Traits};
use crate::stats;
use ndarray::{Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// A herd, how it is selected, and the models. Read from TOML.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SelectionConfig {
    /// The herd.
    pub simulate: SimulationConfig,
    /// Who becomes a parent.
    pub selection: Scheme,
    /// Heritability of all traits in GBLUP; by stochastic REML when left out.
    pub h2: Option<f64>,
    /// The network on top of GBLUP.
    pub dlgblup: DlgblupConfig,
}

/// Who becomes a parent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scheme {
    /// Generations after the herd's own.
    pub generations: usize,
    /// Candidates in each.
    pub candidates: usize,
    /// The best of them, who become parents.
    pub parents: usize,
    /// Herds, each of a seed of its own.
    pub repeats: usize,
}

impl Default for Scheme {
    fn default() -> Self {
        Scheme { generations: 7, candidates: 1000, parents: 100, repeats: 5 }
    }
}

/// What parents are chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Criterion {
    /// GBLUP's values.
    Gblup,
    /// DLGBLUP's values.
    Dlgblup,
    /// An own record, which costs a generation's time elsewhere.
    Record,
    /// Nothing.
    Chance,
}

impl Criterion {
    /// All of them.
    pub const ALL: [Criterion; 4] =
        [Criterion::Gblup, Criterion::Dlgblup, Criterion::Record, Criterion::Chance];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Criterion::Gblup => "GBLUP",
            Criterion::Dlgblup => "DLGBLUP",
            Criterion::Record => "record",
            Criterion::Chance => "chance",
        }
    }
}

/// One generation of one trait's selection in one herd.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Number of the herd.
    pub repeat: usize,
    /// Number of the trait.
    pub number: usize,
    /// What the parents were chosen by.
    pub criterion: Criterion,
    /// 0 for the herd's own candidates.
    pub generation: usize,
    /// Mean true genetic value of the candidates less that of generation 0, in genetic sd of generation 0.
    pub gain: f64,
    /// Their genetic sd, in that of generation 0.
    pub spread: f64,
    /// Correlation of the criterion with the true values.
    pub accuracy: f64,
}

impl SelectionConfig {
    /// Reads and checks a configuration.
    pub fn read(path: &Path) -> Result<SelectionConfig> {
        let config: SelectionConfig = config::read(path)?;
        config.check(&path.display().to_string())?;
        Ok(config)
    }

    /// An error at `place` unless it makes sense.
    pub fn check(&self, place: &str) -> Result<()> {
        let (s, n) = (&self.selection, self.simulate.animals);
        self.simulate.check()?;
        if self.dlgblup.gblup != GblupConfig::default() {
            let expected =
                "no [dlgblup.gblup]: GBLUP is solved by conjugate gradients, with `h2` where it is given";
            return Err(Error::input(place, expected, "one", "remove the table"));
        }
        self.dlgblup.check(place)?;
        let rules = [
            (s.generations >= 1, "1 or more `generations`".to_owned(), s.generations),
            (s.repeats >= 1, "1 or more `repeats`".to_owned(), s.repeats),
            (s.parents >= 2, "2 or more `parents`".to_owned(), s.parents),
            (s.candidates >= s.parents, format!("at least {} `candidates`", s.parents), s.candidates),
            (n >= 2 * s.candidates, format!("a herd of at least {} `animals`", 2 * s.candidates), n),
        ];
        if let Some((_, expected, found)) = rules.into_iter().find(|rule| !rule.0) {
            return Err(Error::input(place, expected, found, "change it"));
        }
        match self.h2.filter(|h2| !(0.0..1.0).contains(h2)) {
            Some(h2) => Err(Error::input(place, "a heritability `h2` from 0 to below 1", h2, "change it")),
            None => Ok(()),
        }
    }
}

/// A herd and what the models learned from it.
struct Trained {
    herd: Herd,
    traits: Traits,
    /// The youngest animals: generation 0.
    candidates: Flock,
    /// Of all SNPs (m, t), with the training frequencies.
    effects: Array2<f64>,
    frequencies: Vec<f64>,
    network: TraitNetwork,
    device: Arc<dyn Network>,
}

/// Selects for every trait by every criterion in one herd. Collective; every rank receives all.
pub fn run(
    world: &World,
    device: &Arc<dyn Network>,
    config: &SelectionConfig,
    repeat: usize,
    seed: u64,
) -> Result<Vec<Step>> {
    let trained = Trained::new(world, device, config, seed)?;
    let t = config.simulate.selected().len();
    let all: Vec<(usize, Criterion)> =
        (0..t).flat_map(|number| Criterion::ALL.map(|criterion| (number, criterion))).collect();
    let own = all.iter().skip(world.rank()).step_by(world.size());
    let steps = own.map(|&line| trained.select(config, seed, line)).collect::<Result<Vec<_>>>();
    let steps = world.agree(steps)?.concat();
    let mut steps: Vec<Step> = world.all_gather(&steps).concat();
    steps.sort_by_key(|s| (s.number, s.criterion as usize, s.generation));
    steps.iter_mut().for_each(|s| s.repeat = repeat);
    Ok(steps)
}

impl Trained {
    /// Draws the herd and fits both models to the records of all but the candidates. Collective.
    fn new(world: &World, device: &Arc<dyn Network>, config: &SelectionConfig, seed: u64) -> Result<Trained> {
        let (n, m) = (config.simulate.animals, config.simulate.snps);
        let herd = Herd::draw(seed, &config.simulate)?;
        let flock = herd.flock();
        let traits = herd.traits_of(&flock);
        // The herd's animals stand in the order of their birth.
        let old: Vec<usize> = (0..n - config.selection.candidates).collect();
        let young: Vec<usize> = (old.len()..n).collect();
        let snps = snps_of(m, world.rank(), world.size());
        let packed = flock.select(&old).calls(snps.clone());
        let markers =
            GenotypeMatrix::from_packed(world, device.clone(), packed, snps.start, m, Scaling::VanRaden1)?;
        let records = Phenotypes {
            traits: config.simulate.selected().iter().map(|t| t.name.clone()).collect(),
            y: traits.phenotype.select(Axis(0), &old),
            effects: vec!["intercept".into()],
            design: Array2::ones((old.len(), 1)),
            ..Phenotypes::default()
        };
        let markers = Rc::new(markers);
        let gblup = Gblup { relationships: Relationships::Implicit(markers.clone()), h2: config.h2 };
        let set = Training::all(records, seed);
        let base = gblup.out_of_fold(world, &set, config.dlgblup.inner_folds)?;
        let network = config.dlgblup.learn_on(&base, (world, device), (&set, &no_features(old.len())))?;
        let parts = world.all_gather(&snp_effects(&markers, &base.fit));
        let views: Vec<ArrayView2<f64>> = parts.iter().map(|p| p.view()).collect();
        let effects = ndarray::concatenate(Axis(0), &views).expect("columns are the traits");
        let frequencies = world.all_gather(&markers.frequencies().to_vec()).concat();
        let (candidates, device) = (flock.select(&young), device.clone());
        Ok(Trained { herd, traits, candidates, effects, frequencies, network, device })
    }

    /// All generations of one trait by one criterion.
    fn select(
        &self,
        config: &SelectionConfig,
        seed: u64,
        (number, criterion): (usize, Criterion),
    ) -> Result<Vec<Step>> {
        let scheme = &config.selection;
        let mut flock = self.candidates.clone();
        let mut out: Vec<Step> = Vec::new();
        let (mut mean, mut sd) = (0.0, 1.0);
        for generation in 0..=scheme.generations {
            // Generations of one trait have the same random numbers whatever the criterion.
            let brood = (number * (scheme.generations + 1) + generation) as u32;
            let truth = self.herd.values(&self.traits, &flock).column(number).to_vec();
            let draws =
                |i: usize| Stream::new(seed, Purpose::Residual, 1 << 63 | u64::from(brood) << 32 | i as u64);
            let score = match criterion {
                Criterion::Gblup => self.gblup(&flock)?.column(number).to_vec(),
                Criterion::Dlgblup => {
                    let values = self.gblup(&flock)?;
                    self.network
                        .predict(&self.device, values.view(), no_features(values.nrows()).view())?
                        .column(number)
                        .to_vec()
                }
                Criterion::Record => {
                    let error = config.simulate.selected()[number].residual_sd();
                    truth.iter().enumerate().map(|(i, g)| g + error * draws(i).normal()).collect()
                }
                Criterion::Chance => (0..truth.len()).map(|i| draws(i).uniform()).collect(),
            };
            let spread = stats::variance(&truth).sqrt();
            if generation == 0 {
                (mean, sd) = (stats::mean(&truth), spread);
            }
            let (gain, accuracy) = ((stats::mean(&truth) - mean) / sd, stats::pearson(&score, &truth));
            out.push(Step { repeat: 0, number, criterion, generation, gain, spread: spread / sd, accuracy });
            let pairs = pairs(&best(&score, scheme.parents), scheme.candidates, seed, brood);
            flock = self.herd.offspring(&flock, &pairs, brood);
        }
        Ok(out)
    }

    /// GBLUP's values of animals, (animals, t).
    fn gblup(&self, flock: &Flock) -> Result<Array2<f64>> {
        let (m, frequencies) = (self.frequencies.len(), self.frequencies.clone());
        let (alone, device) = (World::alone(), self.device.clone());
        let calls = flock.calls(0..m);
        let markers =
            GenotypeMatrix::with_frequencies(&alone, device, calls, 0, m, Scaling::VanRaden1, frequencies)?;
        Ok(markers.times(self.effects.view()))
    }
}

/// The animals with the highest scores, best first.
fn best(score: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..score.len()).collect();
    order.sort_by(|&a, &b| score[b].total_cmp(&score[a]).then(a.cmp(&b)));
    order.truncate(count);
    order
}

/// Two different parents for each of `count` offspring.
fn pairs(parents: &[usize], count: usize, seed: u64, brood: u32) -> Vec<(usize, usize)> {
    let mut stream = Stream::new(seed, Purpose::Pedigree, 1 << 63 | u64::from(brood));
    let mut pair = || {
        let a = stream.below(parents.len());
        let b = (a + 1 + stream.below(parents.len() - 1)) % parents.len();
        (parents[a], parents[b])
    };
    (0..count).map(|_| pair()).collect()
}

/// Mean and standard error over herds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Mean.
    pub mean: f64,
    /// Its standard error; NaN of a single herd.
    pub error: f64,
}

impl Estimate {
    fn of(x: &[f64]) -> Estimate {
        Estimate { mean: stats::mean(x), error: (stats::variance(x) / x.len() as f64).sqrt() }
    }
}

/// One generation over all herds.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Number of the trait.
    pub number: usize,
    /// What the parents were chosen by.
    pub criterion: Criterion,
    /// The generation.
    pub generation: usize,
    /// Gain in genetic sd of generation 0.
    pub gain: Estimate,
    /// The same less GBLUP's in the same herds.
    pub over_gblup: Estimate,
    /// Mean genetic sd, in that of generation 0.
    pub spread: f64,
    /// Mean accuracy of the criterion.
    pub accuracy: f64,
}

/// Means over herds and differences from GBLUP, by trait, criterion and generation.
pub fn summarise(steps: &[Step]) -> Vec<Line> {
    let keys: std::collections::BTreeSet<(usize, usize, usize)> =
        steps.iter().map(|s| (s.number, s.criterion as usize, s.generation)).collect();
    let of = |number, criterion, generation| -> Vec<&Step> {
        let wanted = (number, criterion, generation);
        steps.iter().filter(|s| (s.number, s.criterion, s.generation) == wanted).collect()
    };
    let line = |(number, criterion, generation): (usize, usize, usize)| {
        let criterion = Criterion::ALL[criterion];
        let (own, gblup) = (of(number, criterion, generation), of(number, Criterion::Gblup, generation));
        let each = |f: fn(&Step) -> f64| own.iter().map(|s| f(s)).collect::<Vec<f64>>();
        let over: Vec<f64> = own.iter().zip(&gblup).map(|(a, b)| a.gain - b.gain).collect();
        Line {
            number,
            criterion,
            generation,
            gain: Estimate::of(&each(|s| s.gain)),
            over_gblup: Estimate::of(&over),
            spread: stats::mean(&each(|s| s.spread)),
            accuracy: stats::mean(&each(|s| s.accuracy)),
        }
    };
    keys.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::open;

    fn config() -> SelectionConfig {
        let text = "h2 = 0.4\n[simulate]\nanimals = 500\nsnps = 300\ntraits = 2\nqtl = 60\n\
                    [selection]\ngenerations = 2\ncandidates = 100\nparents = 10\nrepeats = 2\n\
                    [dlgblup]\ninner_folds = 2\n[dlgblup.network]\nhidden = [8]\nepochs = 3\n";
        config::parse(text, Path::new("selection.toml")).unwrap()
    }

    #[test]
    fn selection_gains_and_chance_does_not() {
        let (config, device) = (config(), open("cpu").unwrap());
        config.check("selection.toml").unwrap();
        let world = World::alone();
        let herd = |repeat: usize| run(&world, &device, &config, repeat, 7 + repeat as u64).unwrap();
        let steps = [herd(0), herd(1)].concat();
        assert_eq!(steps.len(), 2 * 2 * 4 * 3);
        assert_eq!(herd(0), steps[..24], "the same twice");
        let lines = summarise(&steps);
        let gain = |criterion| {
            let line = lines.iter().find(|l| (l.number, l.criterion, l.generation) == (0, criterion, 2));
            line.unwrap().gain.mean
        };
        assert!(gain(Criterion::Gblup) > 1.5 && gain(Criterion::Record) > 1.0, "{lines:?}");
        // Ten parents drift, by 0.3 sd a generation.
        assert!(gain(Criterion::Chance).abs() < 1.0, "{lines:?}");
        let first = &lines[0];
        assert_eq!((first.gain.mean, first.over_gblup.mean, first.spread), (0.0, 0.0, 1.0));
    }

    #[test]
    fn the_best_are_chosen_and_nobody_mates_with_itself() {
        assert_eq!(best(&[1.0, 5.0, 3.0, 5.0], 3), [1, 3, 2]);
        let pairs = pairs(&[4, 7, 9], 200, 1, 2);
        assert!(pairs.iter().all(|(a, b)| a != b && [4, 7, 9].contains(a) && [4, 7, 9].contains(b)));
        assert!([4, 7, 9].iter().all(|p| pairs.iter().filter(|(a, _)| a == p).count() > 40));
    }

    #[test]
    fn wrong_schemes_are_told() {
        let problem = |change: fn(&mut SelectionConfig)| {
            let mut c = config();
            change(&mut c);
            c.check("s.toml").unwrap_err().to_string()
        };
        assert!(problem(|c| c.selection.parents = 1).contains("2 or more `parents`"));
        assert!(problem(|c| c.selection.candidates = 400).contains("a herd of at least 800"));
        assert!(problem(|c| c.h2 = Some(1.0)).contains("`h2`"));
    }
}
