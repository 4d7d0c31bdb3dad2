//! `genialearn predict`: a model applied to animals.

use super::records::refuse;
use super::Context;
use crate::error::Result;
use crate::genotype::Store;
use crate::output;
use crate::predict;
use crate::report::table;
use std::path::PathBuf;

/// Examples at the end of `--help`.
const EXAMPLES: &str = "Examples:
  genialearn predict out/cows.model.h5 calves.h5 --out out/calves

Writes PREFIX.predictions.tsv: id and one column a trait. SNPs are matched by name, whichever
allele the store counts; a SNP that the store lacks counts as average.";

/// What the user may type.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The model
    #[arg(value_name = "MODEL.h5")]
    model: PathBuf,
    /// The animals' genotypes
    #[arg(value_name = "STORE.h5")]
    store: PathBuf,
    /// Names of the results begin so
    #[arg(long, short, value_name = "PREFIX")]
    out: PathBuf,
    /// Replace existing results
    #[arg(long)]
    force: bool,
}

/// Reads, predicts, writes.
pub fn run(args: Args, context: &mut Context) -> Result<()> {
    refuse(context, &args.out, &[".predictions.tsv"], args.force)?;
    context.input(&args.model)?;
    context.input(&args.store)?;
    let model = context.phase("read model", |world| predict::load(world, &args.model))?;
    let store = context.world.agree(Store::open(&args.store))?;
    let backend = context.backend.clone();
    let values = context.phase("predict", |world| model.predict(world, backend, &store))?;
    context.world.on_root(|| {
        let path = output::with_suffix(&args.out, ".predictions.tsv");
        table::write_matrix(&path, args.force, ("id", &store.animals().id), model.traits(), values.view())
    })?;
    context.finish(&args.out)
}
