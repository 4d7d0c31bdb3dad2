//! `genialearn train dlgblup`: GBLUP and a network from the values of all traits to each trait.

use super::records::Tables;
use super::train::{refuse_curve, write_curve};
use super::{in_range, Context};
use crate::comm::World;
use crate::config;
use crate::error::Result;
use crate::genotype::Store;
use crate::grm::{explicit, GenotypeMatrix, Scaling};
use crate::mixed::gblup::Fit;
use crate::mixed::Group;
use crate::output;
use crate::predict::gblup::snp_effects;
use crate::predict::learner::dlgblup::{Dlgblup, DlgblupConfig};
use crate::predict::learner::gblup::{Gblup, Relationships};
use crate::predict::learner::Training;
use crate::predict::{DlgblupModel, GblupModel};
use crate::records::Phenotypes;
use ndarray::Array2;
use std::path::PathBuf;

/// Examples at the end of `--help`.
const EXAMPLES: &str = "Examples:
  genialearn train dlgblup cows.h5 --pheno traits.tsv --out dlgblup.h5
  genialearn train dlgblup cows.h5 --pheno traits.tsv --solver pcg --h2 0.3 --out dlgblup.h5
  genialearn predict dlgblup.h5 calves.h5 --out calves

GBLUP of every trait, then a network from the GBLUP values of all traits to each trait, which learns
from out-of-fold values (Shokor et al. 2024). Writes the model, and beside it PREFIX.curve.tsv and
PREFIX.curve.svg, PREFIX being the model's name without .h5. --config names a TOML file (shown with
the defaults):

  inner_folds = 5      # for the out-of-fold values

  [network]
  hidden = [400, 256]
  slope = 0.1          # of LeakyReLU below zero
  residual = true      # learn what GBLUP's values leave; false: the records, as published
  huber = 1.0          # of the loss, in standard deviations
  penalty = 0.0001     # times the sum of squared weights
  rate = 0.001         # falls to last_rate of itself
  last_rate = 0.01
  batch = 200
  epochs = 60
  patience = 60        # epochs without a better validation correlation
  validation = 0.1     # share of the animals that early stopping looks at";

/// `train dlgblup`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    tables: Tables,
    /// Folds and network, in TOML (see --help)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    below: Below,
    /// The model
    #[arg(long, short, value_name = "MODEL.h5")]
    out: PathBuf,
    /// Replace existing results
    #[arg(long)]
    force: bool,
}

/// The GBLUP below a network.
#[derive(Debug, clap::Args)]
pub(super) struct Below {
    /// GBLUP by a reduction of G (eigen), or without forming it (pcg)
    #[arg(long, value_name = "NAME", value_enum, default_value = "eigen")]
    solver: SolverName,
    /// Heritability of all traits in GBLUP [default: estimated]
    #[arg(long, value_name = "H2", value_parser = heritability)]
    h2: Option<f64>,
}

/// The genotypes as GBLUP needs them.
pub(super) struct Ready {
    pub(super) markers: GenotypeMatrix,
    g: Option<Array2<f64>>,
    h2: Option<f64>,
}

impl Below {
    /// Reads the genotypes, and forms G where it is wanted.
    pub(super) fn ready(&self, context: &mut Context, store: &Store) -> Result<Ready> {
        let backend = context.backend.clone();
        let load = |world: &World| GenotypeMatrix::load(world, backend, store, Scaling::VanRaden1);
        let markers = context.phase("read genotypes", load)?;
        let g = match self.solver {
            SolverName::Pcg => None,
            SolverName::Eigen => Some(context.phase("relationships", |world| {
                let g = world.agree(explicit::grm(&markers))?;
                Ok(explicit::share(world, g, store.n_animals()))
            })?),
        };
        Ok(Ready { markers, g, h2: self.h2 })
    }
}

impl Ready {
    /// The learner.
    pub(super) fn gblup(&self) -> Gblup<'_> {
        let relationships = match &self.g {
            Some(g) => Relationships::Held(g.view()),
            None => Relationships::Implicit(&self.markers),
        };
        Gblup { relationships, h2: self.h2 }
    }

    /// A fit as SNP effects. Collective.
    pub(super) fn model(&self, store: &Store, records: &Phenotypes, fit: &Fit) -> GblupModel {
        let (effects, fixed) = (snp_effects(&self.markers, fit), (&records.effects[..], &fit.fixed));
        GblupModel::gather(&self.markers, store.variants(), &records.traits, fixed, &effects)
    }
}

/// The solvers by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum SolverName {
    Eigen,
    Pcg,
}

fn heritability(text: &str) -> std::result::Result<f64, String> {
    in_range(text, 0.0, 0.999999)
}

/// Reads, trains, writes.
pub fn run(args: Args, context: &mut Context) -> Result<()> {
    let prefix = args.out.with_extension("");
    context.world.on_root(|| {
        output::refuse_existing(&args.out, args.force)?;
        refuse_curve(&prefix, args.force)
    })?;
    let config = read_config(&args, context)?;
    let (store, records) = args.tables.read(context)?;
    let device = context.backend.clone();
    let below = args.below.ready(context, &store)?;
    let set = Training { groups: Group::of(&records), records, seed: context.seed, synthetic: None };
    let learner = Dlgblup { gblup: below.gblup(), config, device };
    let (base, network) = context.phase("train", |world| learner.train(world, &set))?;
    let model = context.phase("SNP effects", |_| {
        let gblup = below.model(&store, &set.records, &base.fit);
        Ok(DlgblupModel { gblup, network })
    })?;
    context.phase("write results", |world| {
        world.on_root(|| {
            write_curve(&prefix, args.force, &model.network.curve)?;
            model.write(&args.out, args.force)
        })
    })?;
    let epochs = model.network.curve.len();
    context.say(format_args!("{}: {} traits, {epochs} epochs", args.out.display(), set.records.traits.len()));
    context.finish(&prefix)
}

/// The configuration, or the defaults.
fn read_config(args: &Args, context: &mut Context) -> Result<DlgblupConfig> {
    let Some(path) = &args.config else { return Ok(DlgblupConfig::default()) };
    context.input(path)?;
    let config: DlgblupConfig = context.world.on_root(|| config::read(path))?;
    config.check(&path.display().to_string())?;
    Ok(config)
}
