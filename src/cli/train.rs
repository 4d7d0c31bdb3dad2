//! `genialearn train`: networks that learn traits from genotypes, and generators.

use super::generators::Generator;
use super::predictors::{Common, Predictor};
use super::{checkpoint, Context};
use crate::comm::reduce::Exchange;
use crate::error::Result;
use crate::evaluate::idle;
use crate::nn::checkpointer::{Checkpointer, Fingerprint};
use crate::nn::train::Point;
use crate::nn::{Grid, Ranks};
use crate::output;
use crate::predict::learner::mlp::MlpConfig;
use crate::predict::learner::Training;
use crate::predict::mlp;
use crate::predict::Data;
use crate::records::Phenotypes;
use crate::report::picture::{self, Frame, Series};
use crate::report::table::Table;
use std::path::Path;

/// Examples at the end of `--help`.
const EXAMPLES: &str = "Examples:
  genialearn train mlp cows.h5 --pheno traits.tsv --out mlp.h5
  genialearn train mlp cows.h5 --pheno traits.tsv --config mlp.toml --out mlp.h5
  mpirun -n 4 genialearn train mlp cows.h5 --pheno traits.tsv --grid 2x2 --out mlp.h5
  genialearn train mlp cows.h5 --pheno traits.tsv --out mlp.h5 --resume
  genialearn train mlp cows.h5 --pheno traits.tsv --residual --out rest.h5     (GBLUP + network)
  genialearn predict mlp.h5 calves.h5 --out calves

Writes the model, and beside it PREFIX.curve.tsv and PREFIX.curve.svg (training loss and validation correlation
by epochs), PREFIX being the model's name without .h5. PREFIX.checkpoint is kept now and then and when
training is interrupted; --resume goes on from it to the same bytes. --config names a TOML file, in which
any of these may stand (shown with their defaults; also activation = \"gelu\", loss = { huber = 1.0 };
[gblup] counts with residual = true alone):

";

/// What the user may type.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    model: Model,
}

/// The models that are trained.
#[derive(Debug, clap::Subcommand)]
enum Model {
    /// A network from genotypes to all traits at once
    Mlp(Mlp),
    #[command(flatten)]
    Predictor(Predictor),
    /// WGAN-GP: a generator of genotypes and its critic
    Wgan(super::wgan::Args),
    #[command(flatten)]
    Generator(Generator),
}

/// `train mlp`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = format!("{EXAMPLES}{}", mlp::KIND.defaults()))]
struct Mlp {
    #[command(flatten)]
    common: Common,
    /// Ranks: parts of the SNPs x parts of each batch, such as 2x3, or auto
    #[arg(long, value_name = "SxD")]
    grid: Option<Grid>,
    /// Sums over ranks: auto, nccl, staged, host, or ordered (the same bits on any number of ranks)
    #[arg(long, value_name = "NAME")]
    exchange: Option<Exchange>,
    /// Learn what GBLUP's out-of-fold values leave of the records; predictions are GBLUP + network
    #[arg(long)]
    residual: bool,
}

/// Reads, trains, writes.
pub fn run(args: Args, context: &mut Context) -> Result<()> {
    match args.model {
        Model::Mlp(args) => args.run(context),
        Model::Predictor(predictor) => predictor.run(context),
        Model::Wgan(args) => super::wgan::run(args, context),
        Model::Generator(generator) => generator.run(context),
    }
}

impl Mlp {
    fn run(self, context: &mut Context) -> Result<()> {
        context.world.on_root(|| self.common.refuse())?;
        let config = self.config(context)?;
        let (store, records) = self.common.tables.read_beside(context, self.common.features.as_ref())?;
        let data = Data::new(&context.world, context.backend.clone(), &store);
        let set = Training::all(records, context.seed);
        let (ranks, packed) = context.phase("read genotypes", |_| config.share(&data))?;
        let fingerprint = self.fingerprint(context, &set.records, &config, &ranks);
        let path = checkpoint::path(&self.common.prefix());
        let base = context.phase("GBLUP below", |_| config.below(&data, std::slice::from_ref(&set)))?.pop();
        let base = base.flatten();
        let trained = context.phase("train", |world| {
            let every = config.training.checkpoint_every;
            let mut checkpointer = Checkpointer::new(world, &path, fingerprint, every, self.common.resume);
            config.learn(&data, (&ranks, &packed), (&set, base.as_deref()), &mut checkpointer)
        })?;
        let model = context
            .phase("gather model", |_| config.model(&data, &ranks, &set, (base.as_deref(), &trained)))?;
        context.phase("write results", |world| {
            let common = &self.common;
            let written = model.map_or(Ok(()), |model| {
                write_curve(&common.prefix(), common.force, &trained.curve)?;
                model.write(&common.out, common.force)
            });
            world.agree(written)
        })?;
        let (epoch, r) = (trained.best_epoch, trained.correlation());
        let told = if r.is_nan() { String::new() } else { format!(", validation correlation {r:.4}") };
        context.say(format_args!(
            "{}: {} traits, weights of epoch {epoch} of {}{told}",
            self.common.out.display(),
            set.records.traits.len(),
            trained.curve.len()
        ));
        context.finish(&self.common.prefix())?;
        checkpoint::remove(&context.world, &checkpoint::path(&self.common.prefix()));
        Ok(())
    }

    /// The configuration, with what the command line says instead.
    fn config(&self, context: &mut Context) -> Result<MlpConfig> {
        let asked = self.common.settings(context)?;
        let mut config = asked.configure(MlpConfig::configure)?;
        config.residual |= self.residual;
        let mut table = asked.table.clone();
        table.insert("residual".into(), config.residual.into());
        idle::refuse_in_kind(mlp::KIND.name, &table, &asked.place())?;
        config.ranks.grid = self.grid.unwrap_or(config.ranks.grid);
        config.ranks.exchange = self.exchange.unwrap_or(config.ranks.exchange);
        config.ranks.check("--grid, --exchange")?;
        Ok(config)
    }

    /// All that the bits of a state depend on.
    fn fingerprint(
        &self,
        context: &Context,
        records: &Phenotypes,
        config: &MlpConfig,
        ranks: &Ranks,
    ) -> Fingerprint {
        let exchange = config.ranks.exchange;
        // The order of sums makes their last bits.
        let parts = if exchange == Exchange::Ordered { (1, 0) } else { ranks.parts() };
        let below = config.residual.then_some((config.inner_folds, &config.gblup));
        let own = vec![
            ("[network]".into(), format!("{:?}", config.network)),
            ("GBLUP below".into(), format!("{below:?}")),
            ("[training]".into(), format!("{:?}", config.training)),
            ("--exchange".into(), exchange.to_string()),
            ("grid of ranks".into(), format!("{parts:?}")),
        ];
        self.common.fingerprint(context, records, own)
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
    let mut table = Table::new(&["epoch", "learning_rate", "loss", "validation_correlation", "best"]);
    for p in curve {
        let best = if p.best { "yes" } else { "no" };
        table.push(vec![
            p.epoch.into(),
            p.learning_rate.into(),
            p.loss.into(),
            p.correlation.into(),
            best.into(),
        ]);
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
    let series = [of("training loss", &|p| p.loss), of("validation correlation", &|p| p.correlation)];
    picture::lines(&Frame::new("Learning curve", "epoch", "loss in squared sd; correlation"), &series)
}
