//! `genialearn predict`: a model applied to animals.

use super::records::refuse;
use super::several::GENOMIC;
use super::{bad_option, Context};
use crate::error::Result;
use crate::genotype::Store;
use crate::output;
use crate::predict::{self, Inputs, Predictor};
use crate::records::{Columns, Features};
use crate::report::table;
use ndarray::Array2;
use std::path::PathBuf;

/// Examples at the end of `--help`.
const EXAMPLES: &str = "Examples:
  genialearn predict out/cows.model.h5 calves.h5 --out out/calves
  genialearn predict boosting.h5 calves.h5 --features herds.tsv --out out/calves

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
    /// Features beside the genotypes, where the model learned from some
    #[arg(long, value_name = "FILE[:A,B]")]
    features: Option<Columns>,
    /// Names of the results begin so
    #[arg(long, short, value_name = "PREFIX")]
    out: PathBuf,
    /// One more text or number that means missing in the features
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, requires = "features")]
    missing: Option<String>,
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
    let features = features(&args, context, (&*model, &store))?;
    let inputs = Inputs { store: &store, features: &features };
    let values = context.phase("predict", |world| model.predict(world, backend.clone(), inputs))?;
    let genomic = context.phase("genetic values", |world| model.genomic(world, backend, inputs))?;
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

/// The features that the model asks about.
fn features(
    args: &Args,
    context: &mut Context,
    (model, store): (&dyn Predictor, &Store),
) -> Result<Features> {
    let names = model.features();
    let Some(columns) = &args.features else {
        if names.is_empty() {
            return Ok(Features::default());
        }
        let expected =
            format!("the features {} that {} learned from", names.join(", "), args.model.display());
        return Err(bad_option("features", &expected, "none", "name the table that has them"));
    };
    if names.is_empty() {
        let advice = "leave the option out";
        return Err(bad_option(
            "features",
            "a model that learned from features",
            args.model.display(),
            advice,
        ));
    }
    context.input(&columns.path)?;
    // All others are of no interest.
    let columns = match columns.names.is_empty() {
        true => Columns { names: names.to_vec(), ..columns.clone() },
        false => columns.clone(),
    };
    context.world.on_root(|| Features::read(&store.animals().id, &columns, args.missing.as_deref()))
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
