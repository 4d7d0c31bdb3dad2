//! A study's genotypes and records: simulated, imported or read.

use crate::cli::Context;
use crate::error::{Error, Result};
use crate::evaluate::config::StudyConfig;
use crate::genotype::import::{self, ImportConfig};
use crate::genotype::source::Format;
use crate::genotype::{chromosome, Store};
use crate::output;
use crate::records::Phenotypes;
use crate::simulate::{Herd, Outputs, SimulationConfig};
use std::path::{Path, PathBuf};

/// Where genotypes and records are, simulated or imported first if that is wanted.
pub fn prepare(context: &mut Context, config: &StudyConfig, dir: &Path) -> Result<(PathBuf, PathBuf)> {
    if let Some(simulation) = &config.simulate {
        return simulated(context, simulation, dir);
    }
    let pheno = config.data.pheno.clone().expect("checked with the configuration");
    let Some(import) = &config.import else {
        return Ok((config.data.store.clone().expect("checked with the configuration"), pheno));
    };
    import.files().try_for_each(|path| context.input(path))?;
    let store = dir.join("data.h5");
    context.phase("import", |world| {
        world.on_root(|| if store.exists() { Ok(()) } else { imported(import, &store) })
    })?;
    Ok((store, pheno))
}

/// Refuses to go on with data of another simulation or import than the configuration says.
pub fn same_source(config: &StudyConfig, seed: u64, dir: &Path) -> Result<()> {
    let seed = config.simulate.is_some().then_some(seed);
    let wanted = format!(
        "{:#}\n",
        serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"), "simulate": config.simulate, "import": config.import, "seed": seed,
        })
    );
    let path = dir.join("tasks").join("data.json");
    match std::fs::read_to_string(&path) {
        Ok(before) if before == wanted => Ok(()),
        Ok(_) => {
            let expected = "the simulation or import, seed and program that its data were made by";
            Err(Error::input(dir.display(), expected, "others", "restore them, or begin again with --force"))
        }
        Err(_) if dir.join("data.h5").exists() => {
            let expected = "tasks/data.json, which says how data.h5 was made";
            Err(Error::input(dir.display(), expected, "none", "restore it, or begin again with --force"))
        }
        Err(_) => output::write_file(&path, true, |w| w.write_all(wanted.as_bytes())),
    }
}

fn simulated(context: &mut Context, simulation: &SimulationConfig, dir: &Path) -> Result<(PathBuf, PathBuf)> {
    let outputs = Outputs::beside(&dir.join("data.h5"), &dir.join("data.pheno.tsv"), true);
    // The parameters are written last: with them the herd is complete.
    let complete = context.world.on_root(|| Ok(outputs.parameters.exists() && outputs.store.exists()))?;
    if !complete {
        let seed = context.seed;
        context.phase("simulate", |world| {
            let herd = Herd::draw(seed, simulation)?;
            let dropped = herd.write_genotypes(world, &outputs)?;
            let written = dropped.map_or(Ok(()), |d| herd.write_traits(&herd.traits(&d), &outputs));
            world.agree(written)
        })?;
    }
    Ok((outputs.store, outputs.phenotypes))
}

/// Filters genotypes and writes them as a store.
fn imported(import: &ImportConfig, store: &Path) -> Result<()> {
    let summary = import::import(import, Format::of(&import.source)?, store, true)?;
    summary.notes.iter().for_each(|note| log::info!("{note}"));
    for s in &summary.steps {
        log::info!("{}: {} animals and {} SNPs removed", s.filter, s.animals_removed, s.snps_removed);
    }
    Ok(())
}

/// Notes all inputs and reads the records.
pub fn read_records(
    context: &mut Context,
    config: &StudyConfig,
    store: &Store,
    pheno: &Path,
) -> Result<Phenotypes> {
    chromosome::warn_of_sex_chromosomes(store.variants());
    let sources = config.data.sources(pheno);
    let tables = [&sources.covariates, &sources.quantitative, &sources.features];
    let tables = tables.map(|c| c.as_ref().map(|c| c.path.clone()));
    let lists = config.validations.iter().filter_map(|v| v.labels()).map(|c| c.path);
    let files = [Some(store.path().to_owned()), Some(pheno.to_owned()), sources.weights.clone()];
    for file in files.into_iter().chain(tables).flatten().chain(lists) {
        context.input(&file)?;
    }
    context.phase("read records", |world| Phenotypes::read(world, &store.animals().id, &sources))
}

/// The data in words.
pub fn describe(config: &StudyConfig, store: &Store, phenotypes: &Phenotypes) -> Vec<(String, String)> {
    let (n, m, t) = (store.n_animals(), store.n_variants(), phenotypes.traits.len());
    let missing: u64 = store.variants().missing.iter().sum();
    let share = 100.0 * missing as f64 / (n as f64 * m as f64).max(1.0);
    let still = store.variants().frequency.iter().filter(|p| !(**p > 0.0 && **p < 1.0)).count();
    let mut lines = vec![
        ("animals".to_owned(), format!("{n} with genotypes")),
        ("SNPs".to_owned(), format!("{m}, of which {still} do not vary; {share:.2} % of calls missing")),
        ("traits".to_owned(), format!("{t}: {}", phenotypes.traits.join(", "))),
        ("fixed effects".to_owned(), phenotypes.effects.join(", ")),
    ];
    if !phenotypes.features.0.is_empty() {
        lines.push(("features".to_owned(), phenotypes.features.names().join(", ")));
    }
    let source = match (&config.simulate, &config.import, &config.data.store) {
        (Some(_), _, _) => "simulated (section [simulate]; the truth stands in data.truth.tsv)".to_owned(),
        (None, Some(import), _) => format!("{}; filters: {}", import.source.display(), filters(import)),
        (None, None, Some(path)) => {
            format!("{}; filters: those of the import that made it", path.display())
        }
        (None, None, None) => String::new(),
    };
    lines.push(("source".to_owned(), source));
    lines
}

/// The filters in words.
fn filters(import: &ImportConfig) -> String {
    let numbers = [
        ("minor-allele frequency", import.maf),
        ("call rate", import.call_rate),
        ("call rate of animals", import.animal_call_rate),
        ("Hardy-Weinberg P", import.hwe),
    ];
    let mut words: Vec<String> =
        numbers.iter().filter_map(|(w, v)| v.map(|v| format!("{w} ≥ {v}"))).collect();
    words.push(import.chromosomes.as_ref().map_or("autosomes".into(), |c| format!("chromosomes {c}")));
    words.extend(import.keep.iter().map(|p| format!("animals of {}", p.display())));
    words.extend(import.extract.iter().map(|p| format!("SNPs of {}", p.display())));
    words.join(", ")
}
