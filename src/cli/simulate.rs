//! `simulate`: a Holstein-like herd with genotypes, traits and a known truth.

use super::{bad_option, Context};
use crate::config;
use crate::error::Result;
use crate::simulate::{Herd, Outputs, SimulationConfig};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  genialearn simulate --animals 2000 --snps 5000 --traits 8 --out cows.h5 --pheno traits.tsv
  mpirun -n 4 genialearn simulate --animals 113599 --snps 50161 --out cows.h5 --pheno traits.tsv
  genialearn simulate --config sim.toml --out cows.h5 --pheno traits.tsv

Beside cows.h5 appear cows.truth.tsv (genetic values), cows.qtl.tsv (effects of the QTL),
cows.parameters.tsv (variances) and cows.run.json. What the numbers stand for, and every key of
sim.toml: docs/simulation.md.";

/// What the user may type.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Genotyped animals [default: 2000]
    #[arg(long, value_name = "N")]
    animals: Option<usize>,
    /// SNPs [default: 5000]
    #[arg(long, value_name = "M")]
    snps: Option<usize>,
    /// Traits, the first T of the configured ones [default: all 33]
    #[arg(long, value_name = "T")]
    traits: Option<usize>,
    /// Everything else about the herd (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Genotype store to write
    #[arg(long, value_name = "FILE.h5")]
    out: PathBuf,
    /// Phenotypes to write
    #[arg(long, value_name = "FILE.tsv")]
    pheno: PathBuf,
    /// Replace existing files
    #[arg(long)]
    force: bool,
}

impl Args {
    /// The configuration: the file's, with what the command line says instead.
    fn configuration(&self) -> Result<SimulationConfig> {
        let mut simulation: SimulationConfig = match &self.config {
            Some(path) => config::read(path)?,
            None => SimulationConfig::default(),
        };
        simulation.animals = self.animals.unwrap_or(simulation.animals);
        simulation.snps = self.snps.unwrap_or(simulation.snps);
        simulation.traits = self.traits.or(simulation.traits);
        simulation.check()?;
        Ok(simulation)
    }

    fn outputs(&self) -> Result<Outputs> {
        let outputs = Outputs::beside(&self.out, &self.pheno, self.force);
        if [&outputs.store, &outputs.truth, &outputs.qtl, &outputs.parameters].contains(&&outputs.phenotypes)
        {
            let found = outputs.phenotypes.display();
            return Err(bad_option("pheno", "a file of its own", found, "choose another name"));
        }
        outputs.check()?;
        Ok(outputs)
    }

    /// Simulates and writes a herd.
    pub fn run(self, context: &mut Context) -> Result<()> {
        if let Some(path) = &self.config {
            context.input(path)?;
        }
        let simulation = context.world.on_root(|| self.configuration())?;
        let outputs = self.outputs();
        let outputs = context.world.agree(outputs)?;
        let seed = context.seed;
        let herd = context.phase("draw map, pedigree and crossovers", |_| Herd::draw(seed, &simulation))?;
        let dropped =
            context.phase("drop genes and write genotypes", |world| herd.write_genotypes(world, &outputs))?;
        let traits = context.phase("draw traits", |_| Ok(dropped.map(|d| herd.traits(&d))))?;
        context.phase("write traits and truth", |world| {
            let written = traits.as_ref().map_or(Ok(()), |t| herd.write_traits(t, &outputs));
            world.agree(written)
        })?;
        if let Some(t) = traits.as_ref().filter(|t| t.shrunk > 0.0) {
            let shrunk = 100.0 * t.shrunk;
            log::warn!("the genetic correlations contradict each other and were shrunk by {shrunk:.0} %");
        }
        let (n, m) = (simulation.animals, simulation.snps);
        let t = simulation.selected().len();
        context.say(format!("{n} animals x {m} SNPs, {t} traits: {}", outputs.store.display()));
        context.finish(&Outputs::prefix_of(&outputs.store))
    }
}
