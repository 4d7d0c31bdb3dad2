//! `genialearn export`: a store into the formats of other programs.

use super::Context;
use crate::error::Result;
use crate::genotype::export::{export, refuse_existing, Format};
use crate::genotype::Store;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  genialearn export cows.h5 --format bed --out cows      writes cows.bed, cows.bim, cows.fam
  genialearn export cows.h5 --format npy --out cows      writes cows.npy (int8, -9 missing), names

The counted allele becomes A1 of a .bed, ALT of a VCF and the allele in the column names of a
.raw.";

/// What the user may type.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The store
    #[arg(value_name = "FILE.h5")]
    store: PathBuf,
    /// What to write: bed, vcf, npy or raw
    #[arg(long, value_name = "NAME")]
    format: Format,
    /// Name of the files without their endings
    #[arg(long, short, value_name = "PREFIX")]
    out: PathBuf,
    /// Replace existing files
    #[arg(long)]
    force: bool,
}

/// The root works, the other ranks wait.
pub fn run(args: Args, context: &mut Context) -> Result<()> {
    context.world.on_root(|| refuse_existing(args.format, &args.out, args.force))?;
    context.input(&args.store)?;
    let (n, m) = context.phase("export genotypes", |world| {
        world.on_root(|| {
            let store = Store::open(&args.store)?;
            export(&store, args.format, &args.out, args.force)?;
            Ok((store.n_animals(), store.n_variants()))
        })
    })?;
    for file in args.format.files(&args.out) {
        context.say(format_args!("{}: {n} animals, {m} SNPs", file.display()));
    }
    context.finish(&args.out)
}
