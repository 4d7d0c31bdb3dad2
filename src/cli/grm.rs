//! `genialearn grm`: the relationship matrix of a store.

use super::Context;
use crate::comm::layout::Grid;
use crate::error::Result;
use crate::genotype::{chromosome, Store};
use crate::grm::file::{self, gcta, Header};
use crate::grm::summa;
use crate::grm::{GenotypeMatrix, Method, Scaling};
use crate::output;
use std::path::PathBuf;

/// Examples at the end of `--help`.
const EXAMPLES: &str = "Examples:
  genialearn grm herd.h5 --out g.h5
  mpirun -n 4 genialearn grm herd.h5 --method vanraden2 --out g.h5 --gcta g

Methods: vanraden1; vanraden2 (each SNP by its own variance; what GCTA computes); yang
(vanraden2 with the diagonal of Yang et al. 2011); dominance (Vitezica et al. 2013);
epistasis (additive by additive: vanraden1 squared element by element). `gblup --grm`
takes each of them; with yang and epistasis it writes no SNP effects.

All ranks write FILE.h5 together, in tiles of the lower triangle.";

/// What the user may type.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The genotypes
    #[arg(value_name = "STORE")]
    store: PathBuf,
    /// How genotypes become relationships
    #[arg(long, value_name = "NAME", default_value = "vanraden1", value_parser = method)]
    method: Method,
    /// The matrix to write
    #[arg(long, short, value_name = "FILE.h5")]
    out: PathBuf,
    /// Also write PREFIX.grm.bin, PREFIX.grm.N.bin and PREFIX.grm.id for GCTA; the family is the
    /// animal's group (FID of a .fam), or its name where it has none
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
        chromosome::warn_of_sex_chromosomes(store.variants());
        let markers = GenotypeMatrix::load(world, backend, &store, args.method.scaling())?;
        Ok((store, markers))
    })?;
    let tiles =
        context.phase("relationships", |world| summa::form(&markers, args.method, Grid::of(world.size())))?;
    context.phase("write", |_| {
        let header = Header {
            ids: store.animals().id.clone(),
            method: args.method.name().into(),
            scale: if args.method.effects().is_some() { markers.scale() } else { f64::NAN },
            snps: markers.m() as u64,
        };
        file::write(&args.out, &header, &tiles, args.force)?;
        let families = &store.animals().group;
        args.gcta.as_ref().map_or(Ok(()), |prefix| gcta::write(prefix, &header, families, &tiles, args.force))
    })?;
    let (n, m, name) = (markers.n(), markers.m(), args.method.name());
    context.say(format_args!("{}: {n} animals, {m} SNPs, {name}", args.out.display()));
    context.finish(&args.out.with_extension(""))
}

/// A method by its name, for clap's `value_parser`.
fn method(name: &str) -> std::result::Result<Method, String> {
    Method::named(name).ok_or_else(|| format!("expected {}", Method::ALL.map(Method::name).join(" or ")))
}

/// A scaling by its name, for clap's `value_parser`.
pub(crate) fn scaling(name: &str) -> std::result::Result<Scaling, String> {
    Scaling::named(name).ok_or_else(|| format!("expected {}", Scaling::ALL.map(Scaling::name).join(" or ")))
}
