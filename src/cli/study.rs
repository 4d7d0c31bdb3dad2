//! `study`: models × traits × folds, compared in one report.

use super::Context;
use crate::error::{Error, Result};
use crate::evaluate::config::StudyConfig;
use crate::evaluate::crossvalidate::{self, Done, Plan};
use crate::evaluate::data::ImportConfig;
use crate::evaluate::diagnostics;
use crate::evaluate::retrospect::{look_back, Retrospect};
use crate::genotype::animals;
use crate::genotype::import::write_store;
use crate::genotype::quality;
use crate::genotype::simulate::{Herd, Outputs, SimulationConfig};
use crate::genotype::source::Format;
use crate::genotype::{Phenotypes, Store};
use crate::grm::pca::pca;
use crate::grm::{explicit, Flavour, Markers};
use crate::output;
use crate::report::page::Page;
use crate::report::record::RunRecord;
use crate::report::study::{Genotypes, Picture, Study};
use ndarray::Array2;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Shown after `--help`.
const EXAMPLES: &str = "\
Examples:
  genialearn study examples/demo.toml --out comparison
  mpirun -n 4 genialearn study study.toml --out comparison
  mpirun -n 4 genialearn study study.toml --out comparison --resume   (after an interruption)

Writes into DIR: report.html, scores.tsv, comparisons.tsv, lr.tsv, variances.tsv,
timings.tsv, pictures/*.svg and study.run.json, which comes last: a folder without it is not complete. tasks/
holds what --resume goes on from. Every key of study.toml and every column of the tables:
docs/study.md.";

/// Everything that a study leaves in its folder.
const RESULTS: [&str; 15] = [
    "study.run.json",
    "report.html",
    "scores.tsv",
    "comparisons.tsv",
    "lr.tsv",
    "variances.tsv",
    "timings.tsv",
    "pictures",
    "tasks",
    "data.h5",
    "data.pheno.tsv",
    "data.truth.tsv",
    "data.qtl.tsv",
    "data.parameters.tsv",
    "data.run.json",
];

/// What the user may type.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// What to compare (TOML)
    #[arg(value_name = "STUDY.toml")]
    config: PathBuf,
    /// Folder for the results
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// Go on with an interrupted study in DIR
    #[arg(long, conflicts_with = "force")]
    resume: bool,
    /// Replace an older study in DIR
    #[arg(long)]
    force: bool,
}

/// Prepares, fits, scores, reports.
pub fn run(args: Args, context: &mut Context) -> Result<()> {
    let config = context.world.on_root(|| StudyConfig::read(&args.config))?;
    context.input(&args.config)?;
    context.world.on_root(|| prepare(&args))?;
    let (store_path, pheno) = data(context, &config, &args.out)?;
    let store = context.world.agree(Store::open(&store_path))?;
    let phenotypes = read_records(context, &config, &store, &pheno)?;
    let seed = context.seed;
    let plan = context.world.agree(Plan::new(&config, store.animals(), &phenotypes, seed))?;
    let fingerprint = fingerprint(&config, &context.record, args.resume);
    let mut done = context.world.on_root(|| kept_tasks(&args.out, &fingerprint, plan.tasks.len()))?;
    say_plan(context, &plan, done.len());
    let (g, retrospects) = fit(context, &plan, (&store, &phenotypes), &mut done, &args.out)?;
    let (n, replicates) = (store.n_animals(), config.bootstrap.replicates);
    let cells = context.phase("score and bootstrap", |world| {
        Ok(crossvalidate::score(world, &plan, &done, n, seed, replicates))
    })?;
    let genotypes = look_at_genotypes(context, &config, &store, g)?;
    let overall = crossvalidate::overall(&cells);
    let comparisons = crossvalidate::compare_models(&cells, &overall);
    let recorded: Vec<usize> = (0..phenotypes.traits.len()).map(|t| phenotypes.recorded(t).len()).collect();
    let study = Study {
        plan: &plan,
        traits: &phenotypes.traits,
        recorded: &recorded,
        done: &done,
        cells: &cells,
        overall: &overall,
        comparisons: &comparisons,
        genotypes,
    };
    let about = describe(&config, &store, &phenotypes);
    context.world.on_root(|| study.retrospects(&retrospects).write(&args.out.join("lr.tsv"), true))?;
    report(context, &args.out, &config, &study, &about)?;
    context.say(format!("{}", args.out.join("report.html").display()));
    context.finish(&args.out.join("study"))
}

/// Makes the folder, or refuses the one that is there.
fn prepare(args: &Args) -> Result<()> {
    let dir = &args.out;
    let filled = std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if filled && !args.resume && !args.force {
        return Err(Error::input(
            dir.display(),
            "a new or empty folder",
            "one with files in it",
            "choose another --out, or add --resume to go on, or --force to replace the study in it",
        ));
    }
    if args.force {
        for path in RESULTS.iter().map(|name| dir.join(name)) {
            let removed =
                if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            match removed {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::writing(&path, &e)),
                _ => {}
            }
        }
    }
    for folder in [dir.clone(), dir.join("tasks"), dir.join("pictures")] {
        std::fs::create_dir_all(&folder).map_err(|e| Error::writing(&folder, &e))?;
    }
    Ok(())
}

/// Where genotypes and records are, simulated or imported first if that is wanted.
fn data(context: &mut Context, config: &StudyConfig, dir: &Path) -> Result<(PathBuf, PathBuf)> {
    if let Some(simulation) = &config.simulate {
        return simulated(context, simulation, dir);
    }
    let pheno = config.data.pheno.clone().expect("checked with the configuration");
    let Some(import) = &config.import else {
        return Ok((config.data.store.clone().expect("checked with the configuration"), pheno));
    };
    for file in [Some(&import.source), import.animals.as_ref(), import.keep.as_ref(), import.extract.as_ref()]
    {
        file.map_or(Ok(()), |path| context.input(path))?;
    }
    let store = dir.join("data.h5");
    context.phase("import", |world| {
        world.on_root(|| if store.exists() { Ok(()) } else { imported(import, &store) })
    })?;
    Ok((store, pheno))
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
    let table = import.animals.as_deref().map(animals::read).transpose()?;
    let ids = table.as_ref().map(|t| t.id.as_slice());
    let mut source = Format::of(&import.source)?.open(&import.source, ids)?;
    if let (Some(table), Some(path)) = (&table, &import.animals) {
        animals::complete(source.animals_mut(), table, path)?;
    }
    let (selection, steps) = quality::select(source.as_ref(), &import.filters())?;
    for s in &steps {
        log::info!("{}: {} animals and {} SNPs removed", s.filter, s.animals_removed, s.snps_removed);
    }
    write_store(source.as_ref(), &selection, store, true)
}

/// Notes all inputs and reads the records.
fn read_records(
    context: &mut Context,
    config: &StudyConfig,
    store: &Store,
    pheno: &Path,
) -> Result<Phenotypes> {
    let sources = config.data.sources(pheno);
    let tables = [&sources.covariates, &sources.quantitative].map(|c| c.as_ref().map(|c| c.path.clone()));
    let lists = config.validations.iter().filter_map(|v| v.labels()).map(|c| c.path);
    let files = [Some(store.path().to_owned()), Some(pheno.to_owned()), sources.weights.clone()];
    for file in files.into_iter().chain(tables).flatten().chain(lists) {
        context.input(&file)?;
    }
    context.phase("read records", |world| Phenotypes::read(world, store.animals(), &sources))
}

/// What must be the same for a study to go on: program, seed, configuration, inputs. Empty on ranks other than the
/// root, which alone knows the checksums.
fn fingerprint(config: &StudyConfig, record: &RunRecord, resume: bool) -> (String, bool) {
    // The configuration file itself counts by its meaning, not by its bytes.
    let inputs: Vec<_> = record.inputs.iter().skip(1).map(|i| (&i.crc32, i.bytes)).collect();
    let all = serde_json::json!({
        "version": record.version, "seed": record.seed, "study": config, "inputs": inputs,
    });
    (format!("{all:#}\n"), resume)
}

/// The tasks that an interrupted run kept; checks that it was the same study.
fn kept_tasks(dir: &Path, fingerprint: &(String, bool), tasks: usize) -> Result<BTreeMap<usize, Done>> {
    let (path, (text, resume)) = (dir.join("tasks").join("study.json"), fingerprint);
    if *resume && path.exists() {
        let before = std::fs::read_to_string(&path).map_err(|e| Error::reading(&path, &e))?;
        if before != *text {
            return Err(Error::input(
                dir.display(),
                "the same program, seed, configuration and inputs as before the interruption",
                "other ones",
                "restore them, or begin again with --force",
            ));
        }
    } else {
        output::write_file(&path, true, |w| w.write_all(text.as_bytes()))?;
    }
    let mut done = BTreeMap::new();
    for i in 0..tasks {
        let path = task_path(dir, i);
        // A damaged file, as after a power cut, is a task to do again.
        let kept = std::fs::read(&path).ok().and_then(|bytes| postcard::from_bytes(&bytes).ok());
        if let Some(kept) = kept {
            done.insert(i, kept);
        }
    }
    Ok(done)
}

fn task_path(dir: &Path, task: usize) -> PathBuf {
    dir.join("tasks").join(format!("{task:05}.task"))
}

fn say_plan(context: &Context, plan: &Plan, kept: usize) {
    let total = plan.tasks.len();
    if context.world.is_root() {
        log::info!("{total} fits, {kept} of them kept from before; if interrupted, go on with --resume");
    }
}

/// Fits all models; returns the first model's G on the root, for the pictures, and the statistics of the method LR.
fn fit(
    context: &mut Context,
    plan: &Plan,
    (store, phenotypes): (&Store, &Phenotypes),
    done: &mut BTreeMap<usize, Done>,
    dir: &Path,
) -> Result<(Option<Array2<f64>>, Vec<Retrospect>)> {
    let (mut first, mut retrospects) = (None, Vec::new());
    for (number, model) in plan.models.iter().enumerate() {
        let flavour = Flavour::named(&model.grm).expect("checked with the configuration");
        let backend = context.backend.clone();
        let markers =
            context.phase("read genotypes", |world| Markers::load(world, backend, store, flavour))?;
        let g = context.phase("relationships", |world| {
            let g = world.agree(explicit::grm(&markers))?;
            Ok(explicit::share(world, g, store.n_animals()))
        })?;
        context.phase(&format!("fit {}", model.name), |world| {
            let mut keep = |i: usize, result: &Done| {
                let bytes = postcard::to_stdvec(result).expect("plain values serialize");
                output::write_file(&task_path(dir, i), true, |w| w.write_all(&bytes))
            };
            crossvalidate::run_model(world, plan, number, (phenotypes, g.view()), done, &mut keep)
        })?;
        let data = (phenotypes, g.view());
        retrospects.extend(
            context.phase(&format!("look back on {}", model.name), |world| {
                look_back(world, number, data, done)
            })?,
        );
        if number == 0 && context.world.is_root() {
            first = Some(g);
        }
    }
    Ok((first, retrospects))
}

/// What the genotypes look like, on the root.
fn look_at_genotypes(
    context: &mut Context,
    config: &StudyConfig,
    store: &Store,
    g: Option<Array2<f64>>,
) -> Result<Option<Genotypes>> {
    if !config.report.genotypes {
        return Ok(None);
    }
    let (seed, backend) = (context.seed, context.backend.clone());
    let flavour = Flavour::named(&config.models[0].grm).expect("checked with the configuration");
    context.phase("look at the genotypes", |world| {
        let markers = Markers::load(world, backend, store, flavour)?;
        let ld = diagnostics::ld_decay(world, store, seed)?;
        let pca = pca(&markers, 2.min(markers.n()), seed)?;
        let Some(g) = g else { return Ok(None) };
        let score =
            |k: usize, i: usize| pca.values.get(k).map_or(0.0, |v| v.max(0.0).sqrt() * pca.vectors[[i, k]]);
        let components = (0..markers.n()).map(|i| (score(0, i), score(1, i))).collect();
        let explained = [0, 1].map(|k| pca.explained.get(k).copied().unwrap_or(0.0));
        let maf = diagnostics::maf_spectrum(&store.variants().frequency);
        Ok(Some(Genotypes { ld, maf, kinship: diagnostics::kinship(&g), components, explained }))
    })
}

/// The data in words.
fn describe(config: &StudyConfig, store: &Store, phenotypes: &Phenotypes) -> Vec<(String, String)> {
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
    words.extend(import.chromosomes.iter().map(|c| format!("chromosomes {c}")));
    words.extend(import.keep.iter().map(|p| format!("animals of {}", p.display())));
    words.extend(import.extract.iter().map(|p| format!("SNPs of {}", p.display())));
    if words.is_empty() {
        return "none".into();
    }
    words.join(", ")
}

/// Writes tables, pictures and page.
fn report(
    context: &mut Context,
    dir: &Path,
    config: &StudyConfig,
    study: &Study,
    about: &[(String, String)],
) -> Result<()> {
    let pictures =
        context.phase("draw", |world| Ok(if world.is_root() { study.pictures() } else { Vec::new() }))?;
    let divisions: Vec<String> = study.plan.validations.iter().map(|v| v.in_words()).collect();
    let page = Page {
        title: &config.title,
        study,
        pictures: &pictures,
        data: about,
        divisions: &divisions,
        replicates: config.bootstrap.replicates,
        record: &context.record,
    };
    let world = context.world.clone();
    world.on_root(|| {
        study.scores().write(&dir.join("scores.tsv"), true)?;
        study.differences().write(&dir.join("comparisons.tsv"), true)?;
        study.variances().write(&dir.join("variances.tsv"), true)?;
        study.timings(&context.record.phases).write(&dir.join("timings.tsv"), true)?;
        write_pictures(dir, &pictures)?;
        output::write_file(&dir.join("report.html"), true, |w| w.write_all(page.render().as_bytes()))
    })
}

fn write_pictures(dir: &Path, pictures: &[Picture]) -> Result<()> {
    pictures.iter().try_for_each(|p| {
        let path = dir.join("pictures").join(format!("{}.svg", p.name));
        output::write_file(&path, true, |w| w.write_all(p.svg.as_bytes()))
    })
}
