//! `genialearn reml`: variance components and heritabilities.

use super::dense::{plan, Dense};
use super::records::{refuse, Records, Relationships};
use super::Context;
use crate::comm::World;
use crate::error::Result;
use crate::grm::{Flavour, Markers};
use crate::mixed::gblup::{join, Solver};
use crate::mixed::{Group, Outcome};
use crate::output;
use crate::report::table;
use std::path::PathBuf;

/// Examples at the end of `--help`.
const EXAMPLES: &str = "Examples:
  genialearn reml cows.h5 --pheno traits.tsv --out out/cows
  mpirun -n 6 genialearn reml cows.h5 --pheno traits.tsv --grid 2x3 --out out/cows
  mpirun -n 4 genialearn reml cows.h5 --pheno traits.tsv --covar herd.tsv:sex,herd --out out/cows

Writes PREFIX.variances.tsv: trait, n, var_g, var_e and h2 with their standard errors, loglik
(as GCTA defines it), iterations, and converged: yes, no, or boundary when the likelihood rises
until h2 is 0 or 1. Exact REML; memory for a few matrices of animals x animals is needed, which
--grid shares among all ranks.";

/// What the user may type.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    records: Records,
    /// Names of the results begin so
    #[arg(long, short, value_name = "PREFIX")]
    out: PathBuf,
    /// Replace existing results
    #[arg(long)]
    force: bool,
}

/// Reads, estimates, writes.
pub fn run(args: Args, context: &mut Context) -> Result<()> {
    refuse(context, &args.out, &[".variances.tsv"], args.force)?;
    let (store, records) = args.records.read(context)?;
    let (traits, groups): (Vec<_>, Vec<_>) = Group::of(&records).into_iter().unzip();
    let groups: Vec<&Group> = groups.iter().collect();
    let n = store.n_animals();
    let solver = (Solver::Eigen, args.records.grid);
    let (solver, grid) = plan(&context.world, solver, (n, None), &groups, false)?;
    let (read, markers) = match &args.records.grm {
        Some(path) => (Some(Relationships::read(context, path, &store)?), None),
        None => {
            let backend = context.backend.clone();
            let load = |world: &World| Markers::load(world, backend, &store, Flavour::VanRaden1);
            (None, Some(context.phase("read genotypes", load)?))
        }
    };
    let dense = Dense { groups: &groups, given: None, solver, grid };
    let fits = dense.fit(context, "variance components", read, markers.as_ref())?;
    let fit = join(&traits, fits);
    context.world.on_root(|| {
        let path = output::with_suffix(&args.out, ".variances.tsv");
        table::write_variances(&path, args.force, &records.traits, &fit.estimates)
    })?;
    for (name, e) in records.traits.iter().zip(&fit.estimates) {
        let note = if e.outcome == Outcome::Converged { "" } else { e.outcome.word() };
        context.say(format_args!("{name}: n {}, h2 {:.4} (se {:.4}) {note}", e.n, e.h2, e.h2_se));
    }
    context.finish(&args.out)
}
