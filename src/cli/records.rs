//! What the commands that fit traits have in common: the store and the tables of records.

use super::{bad_option, Context};
use crate::comm::layout::Grid;
use crate::error::{Error, Result};
use crate::genotype::{chromosome, Store};
use crate::grm::file;
use crate::grm::{explicit, GenotypeMatrix, Method};
use crate::linalg::matrix::DistMatrix;
use crate::mixed::plan::GridChoice;
use crate::output;
use crate::records::{Classes, Columns, LongRecords, Phenotypes, Sources};
use ndarray::Array2;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The store and the tables of records of its animals.
#[derive(Debug, clap::Args)]
pub struct Tables {
    /// The genotypes
    #[arg(value_name = "STORE.h5")]
    pub store: PathBuf,
    /// Traits: a table with the columns id (or FID IID, as PLINK, GCTA and regenie have) and one a
    /// trait, separated by tabs or blanks; GCTA's .phen without a header too
    #[arg(long, value_name = "FILE")]
    pheno: PathBuf,
    /// Traits to take [default: every numeric column but covariates, parents, sex, groups, dates]
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
    /// One more text or number that means missing, such as -9 (which is -9.0 too)
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    missing: Option<String>,
}

/// The store, the records of its animals and what the models of relationships have beside.
#[derive(Debug, clap::Args)]
pub struct Records {
    #[command(flatten)]
    pub tables: Tables,
    /// Relationships, as `genialearn grm` writes them [default: vanraden1 of the store]
    #[arg(long = "grm", id = "grm", value_name = "FILE.h5")]
    pub grms: Vec<PathBuf>,
    /// Dense solvers on several ranks: auto, none (whole problems on single ranks), or rows x columns
    /// of all ranks, such as 2x3, which solve one group of traits after the other together
    #[arg(long, value_name = "PxQ", default_value = "auto")]
    pub grid: GridChoice,
}

impl Records {
    /// The file of relationships where the model has one genetic effect.
    pub fn grm(&self) -> Result<Option<&PathBuf>> {
        match &self.grms[..] {
            [_, second, ..] => {
                let advice = "take one; several random effects are estimated by `genialearn reml`";
                Err(bad_option("grm", "one matrix of relationships", second.display(), advice))
            }
            some => Ok(some.first()),
        }
    }

    /// As [`Tables::read`].
    pub fn read(&self, context: &mut Context) -> Result<(Store, Phenotypes)> {
        self.tables.read(context)
    }
}

/// Traits by their names, and fixed classes and regressions by theirs where a model in words names them.
pub type Named<'a> = (&'a [String], Option<[&'a [String]; 2]>);

impl Tables {
    /// Notes all files in the run record, opens the store on every rank and reads the records, one an animal.
    pub fn read(&self, context: &mut Context) -> Result<(Store, Phenotypes)> {
        self.read_beside(context, None)
    }

    /// As [`Tables::read`], with features beside the genotypes.
    pub fn read_beside(
        &self,
        context: &mut Context,
        features: Option<&Columns>,
    ) -> Result<(Store, Phenotypes)> {
        features.map_or(Ok(()), |features| context.input(&features.path))?;
        let store = self.open(context)?;
        let records = self.read_with(context, &store, &self.traits, features)?;
        Ok((store, records))
    }

    /// Names of the traits that the user gave.
    pub fn traits(&self) -> &[String] {
        &self.traits
    }

    /// Notes all files in the run record and opens the store on every rank.
    pub fn open(&self, context: &mut Context) -> Result<Store> {
        let tables = [self.covar.as_ref().map(|c| &c.path), self.qcovar.as_ref().map(|c| &c.path)];
        let files = [Some(&self.store), Some(&self.pheno), tables[0], tables[1], self.weights.as_ref()];
        for file in files.into_iter().flatten() {
            context.input(file)?;
        }
        let store = context.world.agree(Store::open(&self.store))?;
        chromosome::warn_of_sex_chromosomes(store.variants());
        Ok(store)
    }

    /// Reads one record an animal of some traits, and features.
    pub fn read_with(
        &self,
        context: &mut Context,
        store: &Store,
        traits: &[String],
        features: Option<&Columns>,
    ) -> Result<Phenotypes> {
        let sources = Sources { features: features.cloned(), ..self.sources((traits, None)) };
        context.phase("read records", |world| Phenotypes::read(world, &store.animals().id, &sources))
    }

    /// Reads records in long format, with their classes.
    pub fn read_long(
        &self,
        context: &mut Context,
        store: &Store,
        named: Named,
        classes: &Classes,
    ) -> Result<LongRecords> {
        let sources = self.sources(named);
        context
            .phase("read records", |world| LongRecords::read(world, &store.animals().id, &sources, classes))
    }

    fn sources(&self, (traits, fixed): Named) -> Sources {
        let columns = |names: &[String]| Columns { path: self.pheno.clone(), names: names.to_vec() };
        let [covariates, quantitative] = match fixed {
            Some(fixed) => fixed.map(|names| (!names.is_empty()).then(|| columns(names))),
            None => [self.covar.clone(), self.qcovar.clone()],
        };
        Sources {
            phenotypes: columns(traits),
            covariates,
            quantitative,
            weights: self.weights.clone(),
            features: None,
            missing: self.missing.clone(),
        }
    }
}

/// G of the store's animals in a file.
pub struct Relationships {
    path: PathBuf,
    /// The method's name.
    method: String,
    /// c of G = Z Z'/c.
    scale: f64,
    /// The row in the file of each of the store's animals, where their order is another.
    order: Option<Vec<usize>>,
}

impl Relationships {
    /// Looks what the file holds, which is to be all of the store's animals.
    pub fn open(context: &mut Context, path: &Path, store: &Store) -> Result<Relationships> {
        context.input(path)?;
        let (method, scale, order) = context.world.on_root(|| {
            let header = file::header(path)?;
            let order = order(&header.ids, &store.animals().id, path)?;
            Ok((header.method, header.scale, order))
        })?;
        Ok(Relationships { path: path.to_owned(), method, scale, order })
    }

    /// Reads G (n, n) on the root, in the order of the store's animals; `None` elsewhere.
    pub fn whole(&self, context: &mut Context) -> Result<Option<Array2<f64>>> {
        context.phase("read relationships", |world| {
            let mut g = None;
            world.on_root(|| {
                let read = file::read(&self.path)?.g;
                g = Some(match &self.order {
                    None => read,
                    Some(o) => Array2::from_shape_fn((o.len(), o.len()), |(i, j)| read[[o[i], o[j]]]),
                });
                Ok(())
            })?;
            Ok(g)
        })
    }

    /// Reads G over a grid of all ranks, both triangles, each rank its own tiles.
    pub fn distributed(&self, context: &mut Context, grid: Grid) -> Result<DistMatrix> {
        context.phase("read relationships", |world| {
            let mut g = file::read_tiles(world, grid, &self.path)?.1.into_matrix()?;
            g.mirror();
            match &self.order {
                Some(order) => g.select(order),
                None => Ok(g),
            }
        })
    }

    /// How this G came from genotypes.
    pub fn method(&self) -> Result<Method> {
        Method::named(&self.method).ok_or_else(|| {
            let advice = "make one with `genialearn grm`";
            let known = Method::ALL.map(Method::name).join(" or ");
            Error::input(self.path.display(), format!("a GRM by {known}"), &self.method, advice)
        })
    }

    /// Whether SNP effects follow from predictions with this G.
    pub fn has_effects(&self) -> bool {
        Method::named(&self.method).is_some_and(|m| m.effects().is_some())
    }

    /// SNP effects are those of the store only when G was made from the same SNPs.
    pub fn check(&self, markers: &GenotypeMatrix) -> Result<()> {
        if !self.has_effects() || (self.scale / markers.scale() - 1.0).abs() < 1e-9 {
            return Ok(());
        }
        Err(Error::input(
            self.path.display(),
            format!("a GRM of this store's SNPs, scaled by {:.6}", markers.scale()),
            format!("{:.6}", self.scale),
            "make it again with `genialearn grm`",
        ))
    }
}

/// Forms G of the store's animals, on the root.
pub fn relationships(context: &mut Context, markers: &GenotypeMatrix) -> Result<Option<Array2<f64>>> {
    context.phase("relationships", |_| explicit::grm(markers))
}

/// The row among `names` of each of the animals `ids`, unless it is the same for all.
pub fn order(names: &[String], ids: &[String], path: &Path) -> Result<Option<Vec<usize>>> {
    if names == ids {
        return Ok(None);
    }
    let place: HashMap<&str, usize> = names.iter().enumerate().map(|(i, id)| (id.as_str(), i)).collect();
    let found: Vec<usize> = ids.iter().filter_map(|id| place.get(id.as_str()).copied()).collect();
    if found.len() < ids.len() {
        let absent = ids.iter().find(|id| !place.contains_key(id.as_str())).expect("one is absent");
        return Err(Error::input(
            path.display(),
            "all animals of the store",
            format!("{} of {} (not {absent}, for example)", found.len(), ids.len()),
            "make it from this store with `genialearn grm`",
        ));
    }
    Ok(Some(found))
}

/// Refuses results that exist, before the work begins.
pub fn refuse(context: &Context, prefix: &Path, suffixes: &[&str], force: bool) -> Result<()> {
    context.world.on_root(|| {
        suffixes.iter().try_for_each(|s| output::refuse_existing(&output::with_suffix(prefix, s), force))
    })
}
