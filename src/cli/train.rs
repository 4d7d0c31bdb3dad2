//! `genialearn train`: networks that learn traits from genotypes, and generators.

use super::dlgblup::Below;
use super::generators::Generator;
use super::records::Tables;
use super::Context;
use crate::comm::reduce::Exchange;
use crate::comm::World;
use crate::config;
use crate::error::{Error, Result};
use crate::genotype::Store;
use crate::mixed::Group;
use crate::nn::checkpoint::{Checkpoint, Fingerprint};
use crate::nn::mlp::{self, Task, Trained};
use crate::nn::train::Point;
use crate::nn::{Config, Grid, Ranks};
use crate::output;
use crate::packed::Packed;
use crate::predict::learner::Training;
use crate::predict::{GblupModel, MlpModel};
use crate::records::Phenotypes;
use crate::report::picture::{self, Frame, Series};
use crate::report::table::Table;
use ndarray::{Array2, ArrayView2};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Examples at the end of `--help`.
const EXAMPLES: &str = "Examples:
  genialearn train mlp cows.h5 --pheno traits.tsv --out mlp.h5
  genialearn train mlp cows.h5 --pheno traits.tsv --config mlp.toml --out mlp.h5
  mpirun -n 4 genialearn train mlp cows.h5 --pheno traits.tsv --grid 2x2 --out mlp.h5
  genialearn train mlp cows.h5 --pheno traits.tsv --out mlp.h5 --resume
  genialearn train mlp cows.h5 --pheno traits.tsv --residual --out rest.h5     (GBLUP + network)
  genialearn predict mlp.h5 calves.h5 --out calves

Writes the model, and beside it PREFIX.curve.tsv and PREFIX.curve.svg (cost and validation correlation
by epochs), PREFIX being the model's name without .h5. PREFIX.checkpoint is kept now and then and when
training is interrupted; --resume goes on from it to the same bytes. --config names a TOML file, in which
any of these may stand (shown with their defaults; also activation = \"gelu\", loss = { huber = 1.0 }):

  residual = false                  # learn what GBLUP's out-of-fold values leave of the records
  inner_folds = 5                   # of these values

  [network]
  hidden = [512, 256]               # units of 1 to 4 hidden layers; [] for a linear model
  normalisation = \"batch\"           # batch, layer or none
  activation = { leaky_relu = 0.0 } # slope below zero
  dropout = 0.5

  [training]
  batch = 256
  epochs = 100
  loss = \"squared\"
  rate = 0.001                      # rises during warm_up, then falls to last_rate of itself
  warm_up = 0.05
  last_rate = 0.01
  beta1 = 0.9
  beta2 = 0.999
  epsilon = 1e-8
  l2 = 0.0
  decay = 30.0                      # of AdamW
  clip = 1.0
  validation = 0.1                  # share of the animals that early stopping looks at
  patience = 15
  checkpoint_every = 10

  [ranks]
  grid = \"auto\"
  exchange = \"auto\"";

/// What the user may type.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    model: Model,
}

/// The models that learn step by step.
#[derive(Debug, clap::Subcommand)]
enum Model {
    /// A network from genotypes to all traits at once
    Mlp(Mlp),
    /// GBLUP, and a network from the values of all traits to each trait
    Dlgblup(super::dlgblup::Args),
    /// WGAN-GP: a generator of genotypes and its critic
    Wgan(super::wgan::Args),
    #[command(flatten)]
    Generator(Generator),
}

/// `train mlp`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
struct Mlp {
    #[command(flatten)]
    tables: Tables,
    /// The network and its training, in TOML (see --help)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Ranks: parts of the SNPs x parts of each batch, such as 2x3, or auto
    #[arg(long, value_name = "SxD")]
    grid: Option<Grid>,
    /// Sums over ranks: auto, nccl, staged, host, or ordered (the same bits on any number of ranks)
    #[arg(long, value_name = "NAME")]
    exchange: Option<Exchange>,
    /// Learn what GBLUP's out-of-fold values leave of the records; predictions are GBLUP + network
    #[arg(long)]
    residual: bool,
    #[command(flatten)]
    below: Below,
    /// Go on from PREFIX.checkpoint
    #[arg(long)]
    resume: bool,
    /// The model
    #[arg(long, short, value_name = "MODEL.h5")]
    out: PathBuf,
    /// Replace existing results
    #[arg(long)]
    force: bool,
}

/// Reads, trains, writes.
pub fn run(args: Args, context: &mut Context) -> Result<()> {
    match args.model {
        Model::Mlp(args) => args.run(context),
        Model::Dlgblup(args) => super::dlgblup::run(args, context),
        Model::Wgan(args) => super::wgan::run(args, context),
        Model::Generator(generator) => generator.run(context),
    }
}

impl Mlp {
    fn run(self, context: &mut Context) -> Result<()> {
        self.refuse(&context.world)?;
        let config = self.config(context)?;
        let (store, records) = self.tables.read(context)?;
        let device = context.backend.clone();
        let m = store.n_variants();
        let parts = config.ranks.parts(context.world.size(), m)?;
        let ranks = Ranks::new(&context.world, &device, parts, config.ranks.exchange)?;
        let packed = context.phase("read genotypes", |world| {
            let read = store.read(0..store.n_animals(), ranks.snps_of(m));
            Ok(Arc::new(world.agree(read)?))
        })?;
        let below = self.gblup(context, (&store, &records), &config)?;
        let offset = below.as_ref().map(|(_, values)| values.view());
        let trained = self.train(context, &ranks, (&store, &records, &packed, offset), &config)?;
        let model = context.phase("gather model", |_| {
            let names = (&records.traits[..], &records.effects[..]);
            let model = MlpModel::gather(&ranks, &trained, &config.network, store.variants(), names)?;
            let gblup = below.map(|(gblup, _)| Box::new(gblup));
            Ok(model.map(|model| MlpModel { gblup, ..model }))
        })?;
        context.phase("write results", |world| {
            let written = model.map_or(Ok(()), |model| self.write(&model, &trained.curve));
            world.agree(written)
        })?;
        let (epoch, r) = (trained.best_epoch, trained.correlation());
        let told = if r.is_nan() { String::new() } else { format!(", validation correlation {r:.4}") };
        context.say(format_args!(
            "{}: {} traits, weights of epoch {epoch} of {}{told}",
            self.out.display(),
            records.traits.len(),
            trained.curve.len()
        ));
        context.finish(&self.prefix())?;
        if context.world.is_root() {
            // There may be none.
            let _ = std::fs::remove_file(self.beside(".checkpoint"));
        }
        Ok(())
    }

    /// The model's name without ending.
    fn prefix(&self) -> PathBuf {
        self.out.with_extension("")
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        output::with_suffix(&self.prefix(), suffix)
    }

    /// Refuses to write over earlier results, and over a checkpoint that a run could go on from.
    fn refuse(&self, world: &World) -> Result<()> {
        world.on_root(|| {
            output::refuse_existing(&self.out, self.force)?;
            refuse_curve(&self.prefix(), self.force)?;
            let path = self.beside(".checkpoint");
            if self.force || self.resume || !path.exists() {
                return Ok(());
            }
            let advice = "add --resume to go on from it or --force to begin anew";
            Err(Error::input(path.display(), "no checkpoint of an earlier run", "one", advice))
        })
    }

    /// The configuration, with what the command line says instead.
    fn config(&self, context: &mut Context) -> Result<Config> {
        let mut config = Config::default();
        if let Some(path) = &self.config {
            context.input(path)?;
            config = context.world.on_root(|| config::read(path))?;
            config.check(&path.display().to_string())?;
        }
        config.residual |= self.residual;
        config.ranks.grid = self.grid.unwrap_or(config.ranks.grid);
        config.ranks.exchange = self.exchange.unwrap_or(config.ranks.exchange);
        config.ranks.check("--grid, --exchange")?;
        Ok(config)
    }

    /// GBLUP and its out-of-fold values (n, t), where the network learns what they leave.
    fn gblup(
        &self,
        context: &mut Context,
        (store, records): (&Store, &Phenotypes),
        config: &Config,
    ) -> Result<Option<(GblupModel, Array2<f64>)>> {
        if !config.residual {
            return Ok(None);
        }
        let ready = self.below.ready(context, store)?;
        let set = Training {
            groups: Group::of(records),
            records: records.clone(),
            seed: context.seed,
            synthetic: None,
        };
        let folds = config.inner_folds;
        let fit = |world: &World| ready.gblup().out_of_fold(world, &set, folds);
        let base = context.phase("GBLUP out of fold", fit)?;
        let model = context.phase("SNP effects", |_| Ok(ready.model(store, records, &base.fit)))?;
        Ok(Some((model, base.values)))
    }

    fn train(
        &self,
        context: &mut Context,
        ranks: &Ranks,
        (store, records, packed, offset): (&Store, &Phenotypes, &Arc<Packed>, Option<ArrayView2<f64>>),
        config: &Config,
    ) -> Result<Trained> {
        let device = context.backend.clone();
        let (m, seed) = (store.n_variants(), context.seed);
        let fingerprint = self.fingerprint(context, records, config, ranks);
        let path = self.beside(".checkpoint");
        let animals: Vec<usize> = (0..store.n_animals()).collect();
        let task =
            Task { packed, m, phenotypes: records, offset, animals: &animals, synthetic: None, config, seed };
        context.phase("train", |world| {
            let every = config.training.checkpoint_every;
            let mut watcher = Checkpoint::new(world, &path, fingerprint, every, self.resume, m);
            mlp::train(ranks, &device, &task, &mut watcher)
        })
    }

    /// All that the bits of a state depend on.
    fn fingerprint(
        &self,
        context: &Context,
        records: &Phenotypes,
        config: &Config,
        ranks: &Ranks,
    ) -> Fingerprint {
        let inputs =
            context.record.inputs.iter().filter(|f| self.config.as_deref() != Some(Path::new(&f.path)));
        let content = |bytes: u64, crc: &dyn std::fmt::Display| format!("{bytes} {crc}");
        let mut out: Fingerprint =
            inputs.map(|f| (format!("content of {}", f.path), content(f.bytes, &f.crc32))).collect();
        let exchange = config.ranks.exchange;
        // The order of sums makes their last bits.
        let parts = if exchange == Exchange::Ordered { (1, 0) } else { ranks.parts() };
        out.push(("choice of traits".into(), records.traits.join("\t")));
        out.push(("choice of covariates".into(), records.effects.join("\t")));
        out.push(("[network]".into(), format!("{:?}", config.network)));
        let below = config.residual.then_some((config.inner_folds, &self.below));
        out.push(("GBLUP below".into(), format!("{below:?}")));
        out.push(("[training]".into(), format!("{:?}", config.training)));
        out.push(("--exchange".into(), exchange.to_string()));
        out.push(("grid of ranks".into(), format!("{parts:?}")));
        out.push(("--seed".into(), context.seed.to_string()));
        out.push(("--device".into(), context.backend.name().into()));
        out.push(("version of genialearn".into(), env!("CARGO_PKG_VERSION").into()));
        out
    }

    /// On the root.
    fn write(&self, model: &MlpModel, curve: &[Point]) -> Result<()> {
        write_curve(&self.prefix(), self.force, curve)?;
        model.write(&self.out, self.force)
    }
}

/// Refuses to write over an earlier learning curve.
pub(super) fn refuse_curve(prefix: &Path, force: bool) -> Result<()> {
    [".curve.tsv", ".curve.svg"]
        .into_iter()
        .try_for_each(|suffix| output::refuse_existing(&output::with_suffix(prefix, suffix), force))
}

/// Writes the learning curve as a table and a picture.
pub(super) fn write_curve(prefix: &Path, force: bool, curve: &[Point]) -> Result<()> {
    let mut table = Table::new(&["epoch", "rate", "cost", "validation_correlation", "best"]);
    for p in curve {
        let best = if p.best { "yes" } else { "no" };
        table.push(vec![p.epoch.into(), p.rate.into(), p.cost.into(), p.correlation.into(), best.into()]);
    }
    table.write(&output::with_suffix(prefix, ".curve.tsv"), force)?;
    let picture = picture(curve);
    output::write_file(&output::with_suffix(prefix, ".curve.svg"), force, |out| {
        out.write_all(picture.as_bytes())
    })
}

/// The learning curve.
fn picture(curve: &[Point]) -> String {
    let of = |name: &str, value: &dyn Fn(&Point) -> f64| Series {
        name: name.into(),
        points: curve.iter().map(|p| (p.epoch as f64, value(p))).collect(),
        errors: Vec::new(),
    };
    let series = [
        of("cost of a record while learning", &|p| p.cost),
        of("validation correlation", &|p| p.correlation),
    ];
    picture::lines(&Frame::new("Learning curve", "epoch", "cost in squared sd; correlation"), &series)
}
