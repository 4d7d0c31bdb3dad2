//! `genialearn import`: genotypes of any format into a store.

use super::Context;
use crate::error::Result;
use crate::genotype::import::{write_store, Selection};
use crate::genotype::source::Format;
use crate::output;
use std::path::PathBuf;

/// What the user may type.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The genotypes: PLINK 1 .bed (with .bim and .fam beside it)
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// The store to write
    #[arg(long, short, value_name = "FILE.h5")]
    out: PathBuf,
    /// Format of SRC [default: what its name ends in]
    #[arg(long, value_name = "NAME")]
    format: Option<Format>,
    /// Replace an existing store
    #[arg(long)]
    force: bool,
}

/// Reads, selects, writes.
pub fn run(args: Args, context: &mut Context) -> Result<()> {
    context.world.on_root(|| output::refuse_existing(&args.out, args.force))?;
    context.input(&args.source)?;
    let (n, m) = context.phase("import genotypes", |world| {
        world.on_root(|| {
            let format = args.format.map_or_else(|| Format::of(&args.source), Ok)?;
            let source = format.open(&args.source, None)?;
            let selection = Selection::all(source.as_ref());
            write_store(source.as_ref(), &selection, &args.out, args.force)?;
            Ok((selection.animals.len(), selection.snps.len()))
        })
    })?;
    context.say(format_args!("{}: {n} animals, {m} SNPs", args.out.display()));
    context.finish(&args.out.with_extension(""))
}
