//! `genialearn expand`: records in long format, and genotypes with a row a record.

use super::Context;
use crate::error::Result;
use crate::genotype::chromosome;
use crate::genotype::expand::{expand, Row};
use crate::genotype::Store;
use crate::output::{self, with_suffix};
use crate::records::{Columns, LongRows, LongSources, Texts};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  genialearn expand lines.h5 --pheno plots.tsv --by environment --out plots
  genialearn expand lines.h5 --pheno plots.tsv --by environment --features sown --environments weather.tsv --out plots
  genialearn train mlp plots.h5 --pheno plots.records.tsv --covar plots.features.tsv:environment \\
      --features plots.features.tsv --out gxe.h5

Writes PREFIX.h5, a store with a row a record: ANIMAL@ENVIRONMENT with the animal's genotypes, and the
animal as its group, so that folds of scheme \"family\" keep an animal's records together; PREFIX.records.tsv
with the traits, and PREFIX.features.tsv with the environment and what is known of it. All commands read
these like any herd: docs/features.md shows genotype by environment in a study.";

/// What the user may type.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The genotypes
    #[arg(value_name = "STORE.h5")]
    store: PathBuf,
    /// Records in long format: a table with the columns id, the environment, traits and features; a line an animal
    /// and environment
    #[arg(long, value_name = "FILE")]
    pheno: PathBuf,
    /// The column of the environment
    #[arg(long, value_name = "COLUMN")]
    by: String,
    /// Traits to take [default: every numeric column that is no feature]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    traits: Vec<String>,
    /// Columns of the records that are features, such as the date of sowing
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    features: Vec<String>,
    /// Features of environments, such as weather: a table with the environment in its first column
    #[arg(long, value_name = "FILE[:A,B]")]
    environments: Option<Columns>,
    /// One more text or number that means missing, such as -9 (which is -9.0 too)
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    missing: Option<String>,
    /// Names of the results begin so
    #[arg(long, short, value_name = "PREFIX")]
    out: PathBuf,
    /// Replace existing files
    #[arg(long)]
    force: bool,
}

/// Endings of the results.
const STORE: &str = ".h5";
const RECORDS: &str = ".records.tsv";
const FEATURES: &str = ".features.tsv";

/// The root works, the other ranks wait.
pub fn run(args: Args, context: &mut Context) -> Result<()> {
    let path = |suffix| with_suffix(&args.out, suffix);
    context.world.on_root(|| {
        [STORE, RECORDS, FEATURES].iter().try_for_each(|s| output::refuse_existing(&path(s), args.force))
    })?;
    for file in [Some(&args.store), Some(&args.pheno), args.environments.as_ref().map(|e| &e.path)] {
        file.map_or(Ok(()), |file| context.input(file))?;
    }
    let sources = LongSources {
        records: args.pheno.clone(),
        by: args.by.clone(),
        traits: args.traits.clone(),
        features: args.features.clone(),
        environments: args.environments.clone(),
        missing: args.missing.clone(),
    };
    let (rows, animals, traits) = context.phase("expand", |world| {
        world.on_root(|| {
            let store = Store::open(&args.store)?;
            chromosome::warn_of_sex_chromosomes(store.variants());
            let long = LongRows::read(&store.animals().id, &sources)?;
            let rows: Vec<Row> = long
                .animal
                .iter()
                .zip(&long.id)
                .map(|(&animal, id)| Row { animal, id: id.clone() })
                .collect();
            let records = (!long.records.names.is_empty())
                .then(|| draft(&path(RECORDS), args.force, &long.id, &long.records))
                .transpose()?;
            let features = draft(&path(FEATURES), args.force, &long.id, &long.features)?;
            expand(&store, &rows, &path(STORE), args.force)?;
            records.map_or(Ok(()), output::Draft::commit)?;
            features.commit()?;
            let animals = rows.chunk_by(|a, b| a.animal == b.animal).count();
            Ok((rows.len(), animals, long.records.names.len()))
        })
    })?;
    context
        .say(format_args!("{}: {rows} records of {animals} animals, {traits} traits", path(STORE).display()));
    context.finish(&args.out)
}

/// A table with the names of the rows, complete but for its name.
fn draft(path: &Path, force: bool, ids: &[String], texts: &Texts) -> Result<output::Draft> {
    output::draft_file(path, force, |out| {
        writeln!(out, "id\t{}", texts.names.join("\t"))?;
        ids.iter().zip(&texts.rows).try_for_each(|(id, row)| writeln!(out, "{id}\t{}", row.join("\t")))
    })
}
