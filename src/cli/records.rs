//! What the commands that fit traits have in common: the store and the tables of records.

use super::Context;
use crate::error::Result;
use crate::genotype::phenotype::{Columns, Phenotypes, Sources};
use crate::genotype::Store;
use crate::grm::Markers;
use crate::output;
use ndarray::Array2;
use std::path::{Path, PathBuf};

/// The store and the records of its animals.
#[derive(Debug, clap::Args)]
pub struct Records {
    /// The genotypes
    #[arg(value_name = "STORE.h5")]
    pub store: PathBuf,
    /// Traits: TSV with the columns id (or IID) and one a trait
    #[arg(long, value_name = "FILE")]
    pheno: PathBuf,
    /// Traits to take [default: every numeric column]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    traits: Vec<String>,
    /// Categorical covariates: TSV with id and covariates, of which some may be named
    #[arg(long, value_name = "FILE[:A,B]")]
    covar: Option<Columns>,
    /// Quantitative covariates, in the same form
    #[arg(long, value_name = "FILE[:A,B]")]
    qcovar: Option<Columns>,
    /// Record weights: TSV with id and one column, or one a trait
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// One more text that means missing, such as -9
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    missing: Option<String>,
}

impl Records {
    /// Notes all files in the run record, opens the store on every rank and reads the records.
    pub fn read(&self, context: &mut Context) -> Result<(Store, Phenotypes)> {
        let tables = [self.covar.as_ref().map(|c| &c.path), self.qcovar.as_ref().map(|c| &c.path)];
        let files = [Some(&self.store), Some(&self.pheno), tables[0], tables[1], self.weights.as_ref()];
        for file in files.into_iter().flatten() {
            context.input(file)?;
        }
        let store = context.world.agree(Store::open(&self.store))?;
        let sources = Sources {
            phenotypes: Columns { path: self.pheno.clone(), names: self.traits.clone() },
            covariates: self.covar.clone(),
            quantitative: self.qcovar.clone(),
            weights: self.weights.clone(),
            missing: self.missing.clone(),
        };
        let records =
            context.phase("read records", |world| Phenotypes::read(world, store.animals(), &sources))?;
        Ok((store, records))
    }
}

/// G on the root.
pub fn relationships(context: &mut Context, markers: &Markers) -> Result<Option<Array2<f64>>> {
    context.phase("relationships", |world| {
        let g = markers.grm_times(Array2::eye(markers.n()).view());
        Ok(world.is_root().then_some(g))
    })
}

/// Refuses results that exist, before the work begins.
pub fn refuse(context: &Context, prefix: &Path, suffixes: &[&str], force: bool) -> Result<()> {
    context.world.on_root(|| {
        suffixes.iter().try_for_each(|s| output::refuse_existing(&output::with_suffix(prefix, s), force))
    })
}
