//! `genialearn predict`: a model applied to animals.

use super::records::refuse;
use super::several::GENOMIC;
use super::Context;
use crate::error::Result;
use crate::genotype::Store;
use crate::output;
use crate::predict;
use crate::report::table;
use ndarray::Array2;
use std::path::PathBuf;

/// Examples at the end of `--help`.
const EXAMPLES: &str = "Examples:
  genialearn predict out/cows.model.h5 calves.h5 --out out/calves

Writes PREFIX.predictions.tsv: id and one column a trait. SNPs are matched by name, whichever
allele the store counts; a SNP that the store lacks counts as average. A model of `gblup --effects
additive,dominance` adds PREFIX.genomic.tsv: additive and dominance values and their sum.";

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
    if model.has_parts() {
        refuse(context, &args.out, &[GENOMIC], args.force)?;
    }
    let store = context.world.agree(Store::open(&args.store))?;
    let backend = context.backend.clone();
    let values = context.phase("predict", |world| model.predict(world, backend.clone(), &store))?;
    let genomic = context.phase("genetic values", |world| model.genomic(world, backend, &store))?;
    context.world.on_root(|| {
        let (path, ids) = (|suffix| output::with_suffix(&args.out, suffix), ("id", &store.animals().id[..]));
        if let Some(parts) = &genomic {
            let (names, values) = side_by_side(model.traits(), parts);
            table::write_matrix(&path(GENOMIC), args.force, ids, &names, values.view())?;
        }
        table::write_matrix(&path(".predictions.tsv"), args.force, ids, model.traits(), values.view())
    })?;
    context.finish(&args.out)
}

/// The values of all effects, trait by trait: `trait.effect`, and (n, columns).
fn side_by_side(traits: &[String], parts: &[(String, Array2<f64>)]) -> (Vec<String>, Array2<f64>) {
    let columns: Vec<(usize, usize)> =
        (0..traits.len()).flat_map(|t| (0..parts.len()).map(move |k| (t, k))).collect();
    let names = columns.iter().map(|&(t, k)| format!("{}.{}", traits[t], parts[k].0)).collect();
    let values = Array2::from_shape_fn((parts[0].1.nrows(), columns.len()), |(i, j)| {
        let (t, k) = columns[j];
        parts[k].1[[i, t]]
    });
    (names, values)
}
