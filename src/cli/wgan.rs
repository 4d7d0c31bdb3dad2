//! `genialearn train wgan`: a generator of genotypes and its critic.

use super::generators::{write_curve, Common};
use super::{checkpoint, Context};
use crate::comm::reduce::Exchange;
use crate::error::Result;
use crate::generate::wgan_gp::keep::curve;
use crate::generate::wgan_gp::{self, train, Asked, Config, Preset, Wgan, KIND};
use crate::generate::{Herd, Model, Setting};
use crate::nn::checkpointer::{Checkpointer, Fingerprint};
use crate::nn::config::Sharing;
use crate::nn::{Grid, Ranks};

/// Examples at the end of `--help`.
const EXAMPLES: &str = "Examples:
  genialearn train wgan cows.h5 --out wgan.h5
  genialearn train wgan cows.h5 --pheno traits.tsv --condition milk,fat --out wgan.h5
  mpirun -n 4 genialearn train wgan cows.h5 --preset holstein-genome --config wgan.toml --out wgan.h5
  genialearn train wgan cows.h5 --out wgan.h5 --resume
  genialearn generate wgan.h5 --animals 10000 --out synthetic.h5
  genialearn fidelity cows.h5 synthetic.h5 --out fidelity

Writes the model, and beside it PREFIX.curve.tsv, PREFIX.curve.svg (loss of the critic, Wasserstein
estimate, penalty by epochs) and PREFIX.quality.svg (precision, recall, F1), PREFIX being the model's name
without .h5.
PREFIX.checkpoint is kept now and then and when training is interrupted; --resume goes on from it to the
same bytes. Calls that are missing are drawn by the SNP's genotype frequencies. --preset auto is small below
5,000 SNPs, chromosome below 12,000 and holstein-genome from there on; on processors any number of ranks
gives the same bytes. --config names a TOML file, in which any of these may stand (shown with the values of
the preset small):

  preset = \"auto\"          # small, chromosome (widths m/2 and m) or holstein-genome (1045, 2090, 4180)

  [network]
  latent = 64
  widths = [128, 256]      # of the generator, from the latent numbers on; the critic has the mirror
  negative_slope = 0.05    # LeakyReLU's below zero
  residual = true          # a residual block between two layers
  repeat = 4               # how often a layer reads each condition

  [training]
  batch = 64               # 128 in the other presets
  epochs = 0               # 0: as many as give 6,000 steps of the generator; 1000 in the other presets
  critic_steps = 2         # for each step of the generator, 5 in the other presets
  learning_rate = 0.0005   # 0.0001 in the other presets
  beta1 = 0.5
  beta2 = 0.9
  epsilon = 1e-8
  gradient_penalty = 10.0  # its weight
  smoothing = 0.025        # upper limit of one-sided label smoothing
  temperature = [1.0, 0.1] # of the classes, in the first and the last epoch
  validation = 0.1         # share of the animals held back for choosing the model; of fewer than 200 animals
                           # none are, and it is chosen by those that it learns from
  evaluate_every = 0       # epochs between evaluations of generated animals, 0 for fifty of them
  k = 10                   # nearest neighbours of precision and recall
  patience = 15            # evaluations without a better F1 before training stops, 0 for never
  checkpoint_every = 0     # epochs between checkpoints, 0 for one an evaluation

  [ranks]
  grid = \"auto\"
  exchange = \"auto\"";

/// What the user may type.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Networks and training for herds of one size: auto, small, chromosome or holstein-genome
    #[arg(long, value_name = "NAME")]
    preset: Option<Preset>,
    /// Ranks: parts of the SNPs x parts of each batch, such as 2x3, or auto
    #[arg(long, value_name = "SxD")]
    grid: Option<Grid>,
    /// Sums over ranks: auto, nccl, staged, host, or ordered (the same bits on any number of ranks)
    #[arg(long, value_name = "NAME")]
    exchange: Option<Exchange>,
}

/// Reads, trains, writes.
pub fn run(args: Args, context: &mut Context) -> Result<()> {
    args.common.refuse(context)?;
    let asked = Asked { file: args.common.text(context)?, preset: args.preset };
    let store = args.common.open(context)?;
    let m = store.n_variants();
    let config = context.world.agree(args.config(&asked, m))?;
    let (rows, conditions) = args.common.conditions(context, &store)?;
    let config = config.settled(rows.len());
    let device = context.backend.clone();
    let ranks = wgan_gp::ranks(&context.world, &device, &config.ranks, m)?;
    let seed = context.seed;
    let herd = context.phase("read genotypes", |_| Herd::read(&ranks, &store, &rows, conditions, seed))?;
    let setting = Setting { ranks: &ranks, device: &device, seed };
    let (fingerprint, path) =
        (args.fingerprint(context, &config, &ranks), checkpoint::path(&args.common.prefix()));
    let fitted = context.phase("train", |world| {
        let every = config.training.checkpoint_every;
        let mut checkpointer = Checkpointer::new(world, &path, fingerprint, every, args.common.resume);
        train::fit(&setting, &config, &herd, &mut checkpointer)
    })?;
    let (points, told) = (curve(&fitted.curve), told(&fitted));
    // How ranks shared the work is no part of the model.
    let recipe = Config { ranks: Sharing::default(), ..config.clone() };
    let model = Model::new(&KIND, &recipe, &herd, Box::new(Wgan::of(fitted, &config, &herd)));
    let common = &args.common;
    context.phase("write results", |world| {
        world.on_root(|| write_curve(&common.prefix(), common.force, &KIND, &points))?;
        model.write(&ranks, &common.out, common.force)
    })?;
    let n = herd.animals();
    context.say(format_args!("{}: wgan of {n} animals x {m} SNPs, {told}", common.out.display()));
    context.finish(&common.prefix())?;
    checkpoint::remove(&context.world, &checkpoint::path(&common.prefix()));
    Ok(())
}

/// What came of a training.
fn told(fitted: &train::Fitted) -> String {
    let (epoch, epochs) = (fitted.best_epoch, fitted.curve.len());
    let best = fitted.curve.iter().find(|p| p.epoch == epoch).and_then(|p| p.evaluation);
    let scores = best.map_or_else(String::new, |look| {
        format!(", precision {:.3}, recall {:.3}", look.precision, look.recall)
    });
    format!("generator of epoch {epoch} of {epochs}{scores}")
}

impl Args {
    /// The configuration, with what the command line says instead.
    fn config(&self, asked: &Asked, m: usize) -> Result<Config> {
        let mut config = asked.config(m)?;
        config.ranks.grid = self.grid.unwrap_or(config.ranks.grid);
        config.ranks.exchange = self.exchange.unwrap_or(config.ranks.exchange);
        Ok(config)
    }

    /// All that the bits of a state depend on.
    fn fingerprint(&self, context: &Context, config: &Config, ranks: &Ranks) -> Fingerprint {
        let own = vec![
            ("[network]".into(), format!("{:?}", config.network)),
            ("[training]".into(), format!("{:?}", config.training)),
        ];
        self.common.fingerprint(context, ranks, own)
    }
}
