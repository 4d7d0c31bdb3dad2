//! `genialearn grm`: the relationship matrix of a store.

use super::Context;
use crate::error::Result;
use crate::genotype::Store;
use crate::grm::file::{self, gcta, Grm};
use crate::grm::{explicit, Flavour, Markers};
use crate::output;
use std::path::PathBuf;

/// What the user may type.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  genialearn grm herd.h5 --out g.h5
  mpirun -n 4 genialearn grm herd.h5 --method vanraden2 --out g.h5 --gcta g")]
pub struct Args {
    /// The genotypes
    #[arg(value_name = "STORE")]
    store: PathBuf,
    /// How genotypes become relationships
    #[arg(long, value_name = "NAME", default_value = "vanraden1", value_parser = flavour)]
    method: Flavour,
    /// The matrix to write
    #[arg(long, short, value_name = "FILE.h5")]
    out: PathBuf,
    /// Also write PREFIX.grm.bin, PREFIX.grm.N.bin and PREFIX.grm.id for GCTA
    #[arg(long, value_name = "PREFIX")]
    gcta: Option<PathBuf>,
    /// Replace existing results
    #[arg(long)]
    force: bool,
}

/// Reads, multiplies, writes.
pub fn run(args: Args, context: &mut Context) -> Result<()> {
    let mut outputs = vec![args.out.clone()];
    outputs.extend(args.gcta.iter().flat_map(|prefix| gcta::paths(prefix)));
    context
        .world
        .on_root(|| outputs.iter().try_for_each(|path| output::refuse_existing(path, args.force)))?;
    context.input(&args.store)?;
    let backend = context.backend.clone();
    let (store, markers) = context.phase("read genotypes", |world| {
        let store = world.agree(Store::open(&args.store))?;
        let markers = Markers::load(world, backend, &store, args.method)?;
        Ok((store, markers))
    })?;
    let g = context.phase("relationships", |_| explicit::grm(&markers))?;
    context.phase("write", |world| {
        let written = g.map_or(Ok(()), |g| {
            let grm = Grm {
                ids: store.animals().id.clone(),
                method: args.method.name().into(),
                scale: markers.scale(),
                snps: markers.m() as u64,
                g,
            };
            file::write(&args.out, &grm, args.force)?;
            args.gcta.as_ref().map_or(Ok(()), |prefix| gcta::write(prefix, &grm, args.force))
        });
        world.agree(written)
    })?;
    let (n, m, name) = (markers.n(), markers.m(), args.method.name());
    context.say(format_args!("{}: {n} animals, {m} SNPs, {name}", args.out.display()));
    context.finish(&args.out.with_extension(""))
}

/// A flavour by its name, for clap's `value_parser`.
pub(crate) fn flavour(name: &str) -> std::result::Result<Flavour, String> {
    Flavour::named(name).ok_or_else(|| format!("expected {}", Flavour::ALL.map(Flavour::name).join(" or ")))
}
