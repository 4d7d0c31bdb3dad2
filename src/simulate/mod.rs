//! A Holstein-like herd with a known truth, the same for any number of ranks (docs/simulation.md).
//!
//! map → founders' haplotypes → pedigree → crossovers → gene drop, panel by panel → QTL → traits → further generations

mod config;
mod correlation;
mod defaults;
mod founders;
mod generations;
mod map;
mod meiosis;
mod panels;
mod pedigree;
mod qtl;
mod records;
mod traits;
mod truth;

pub use self::config::{
    Correlation, Form, FoundersConfig, MajorGene, MapConfig, PedigreeConfig, SimulationConfig, TraitConfig,
};
pub use self::generations::Flock;
pub use self::panels::Dropped;
pub use self::traits::Traits;

use self::founders::Founders;
use self::map::Map;
use self::meiosis::Gametes;
use self::panels::GeneDrop;
use self::pedigree::Pedigree;
use self::qtl::Qtl;
use crate::comm::World;
use crate::error::Result;
use crate::genotype::{Animals, StoreWriter, Variants};
use crate::output;
use crate::packed::{self, Packed, Tally};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Alleles of the SNPs in turn: counted and other.
const ALLELES: [(&str, &str); 6] = [("A", "G"), ("C", "T"), ("G", "A"), ("T", "C"), ("A", "C"), ("T", "G")];

/// The files that a simulation writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outputs {
    /// The genotype store.
    pub store: PathBuf,
    /// Phenotypes.
    pub phenotypes: PathBuf,
    /// Genetic values, total and additive: `PREFIX.truth.tsv`.
    pub truth: PathBuf,
    /// Effects of the QTL: `PREFIX.qtl.tsv`.
    pub qtl: PathBuf,
    /// Variances asked for and found: `PREFIX.parameters.tsv`.
    pub parameters: PathBuf,
    /// Whether existing files may be replaced.
    pub force: bool,
}

/// Everything about a herd but its genotypes; the same on every rank.
pub struct Herd {
    seed: u64,
    config: SimulationConfig,
    map: Arc<Map>,
    pedigree: Pedigree,
    founders: Founders,
    gametes: Gametes,
    qtl: Qtl,
}

impl Outputs {
    /// The files beside a store: `cows.h5` gives `cows.truth.tsv` and so on.
    pub fn beside(store: &Path, phenotypes: &Path, force: bool) -> Outputs {
        let prefix = Outputs::prefix_of(store);
        let named = |suffix| output::with_suffix(&prefix, suffix);
        Outputs {
            store: store.to_owned(),
            phenotypes: phenotypes.to_owned(),
            truth: named(".truth.tsv"),
            qtl: named(".qtl.tsv"),
            parameters: named(".parameters.tsv"),
            force,
        }
    }

    /// The store's path without `.h5`.
    pub fn prefix_of(store: &Path) -> PathBuf {
        if store.extension().is_some_and(|e| e == "h5") {
            store.with_extension("")
        } else {
            store.to_owned()
        }
    }

    /// Refuses files that exist.
    pub fn check(&self) -> Result<()> {
        [&self.store, &self.phenotypes, &self.truth, &self.qtl, &self.parameters]
            .into_iter()
            .try_for_each(|path| output::refuse_existing(path, self.force))
    }
}

impl Herd {
    /// Draws map, pedigree, crossovers and QTL of a checked configuration.
    pub fn draw(seed: u64, config: &SimulationConfig) -> Result<Herd> {
        config.check()?;
        let map = Arc::new(Map::draw(seed, config.snps, &config.map));
        let pedigree = Pedigree::draw(seed, config.animals, &config.pedigree);
        let founders = Founders::new(seed, &map, &config.founders, pedigree.founders());
        let gametes = Gametes::draw(seed, &map, &pedigree);
        let qtl = Qtl::draw(seed, &map, &founders.frequency, config);
        Ok(Herd { seed, config: config.clone(), map, pedigree, founders, gametes, qtl })
    }

    /// Drops the genes on all ranks and writes the store on the root, which returns the QTL's true calls.
    pub fn write_genotypes(&self, world: &World, outputs: &Outputs) -> Result<Option<Dropped>> {
        let (n, m) = (self.pedigree.genotyped.len(), self.map.len());
        let begun = match world.is_root() {
            true => StoreWriter::create(&outputs.store, n, m, outputs.force).map(Some),
            false => Ok(None),
        };
        let mut writer = world.agree(begun)?;
        let drop = GeneDrop {
            seed: self.seed,
            missing_calls: self.config.missing_calls,
            map: &self.map,
            pedigree: &self.pedigree,
            founders: &self.founders,
            gametes: &self.gametes,
            qtl: &self.qtl.snps,
        };
        let dropped = drop.run(world, writer.as_mut())?;
        let finished = match (writer, &dropped) {
            (Some(writer), Some(d)) => writer.finish(&self.animals(), &self.variants(&d.tallies)),
            _ => Ok(()),
        };
        world.agree(finished)?;
        Ok(dropped)
    }

    /// Genetic values and phenotypes of the herd.
    pub fn traits(&self, dropped: &Dropped) -> Traits {
        self.traits_from(&dropped.qtl)
    }

    fn traits_from(&self, calls: &Packed) -> Traits {
        let day = |&i: &u32| pedigree::year_of(self.pedigree.birth_day[i as usize]);
        let years: Vec<i32> = self.pedigree.genotyped.iter().map(day).collect();
        traits::draw(self.seed, &self.config, &self.qtl, calls, &years)
    }

    /// Writes phenotypes and truth.
    pub fn write_traits(&self, traits: &Traits, outputs: &Outputs) -> Result<()> {
        let (animals, variants) = (self.animals(), self.variants(&[]));
        let (ids, config, force) = (&animals.id, &self.config, outputs.force);
        output::write_file(&outputs.phenotypes, force, |w| truth::phenotypes(w, ids, config, traits))?;
        output::write_file(&outputs.truth, force, |w| truth::genetic_values(w, ids, config, traits))?;
        output::write_file(&outputs.qtl, force, |w| truth::effects(w, &variants, config, &self.qtl, traits))?;
        output::write_file(&outputs.parameters, force, |w| truth::parameters(w, config, traits))
    }

    /// The genotyped animals. The group is the sire's name: paternal half-sib families.
    pub fn animals(&self) -> Animals {
        let p = &self.pedigree;
        let names = p.names();
        let of = |f: &dyn Fn(usize) -> String| p.genotyped.iter().map(|&i| f(i as usize)).collect::<Vec<_>>();
        let sire = of(&|i| names[p.sire[i] as usize].clone());
        Animals {
            id: of(&|i| names[i].clone()),
            birth_date: of(&|i| pedigree::iso_date(p.birth_day[i])),
            dam: of(&|i| names[p.dam[i] as usize].clone()),
            sex: vec![2; p.genotyped.len()],
            group: sire.clone(),
            sire,
        }
    }

    /// The SNPs, with frequencies where `tallies` are given.
    fn variants(&self, tallies: &[Tally]) -> Variants {
        let mut v = Variants::default();
        for c in 0..self.map.chromosomes() {
            for j in self.map.chromosome(c) {
                let position = self.map.position[j];
                let (counted, other) = ALLELES[j % ALLELES.len()];
                let tally = tallies.get(j).unwrap_or(&[0; 4]);
                v.chromosome.push((c + 1).to_string());
                v.position.push(u64::from(position));
                v.id.push(format!("BTA{}_{position}", c + 1));
                v.counted_allele.push(counted.into());
                v.other_allele.push(other.into());
                v.cm.push(f64::from(position) * 100.0 * self.map.morgans_per_bp);
                v.frequency.push(packed::frequency(tally).unwrap_or(f64::NAN));
                v.missing.push(tally[3]);
            }
        }
        v
    }
}
