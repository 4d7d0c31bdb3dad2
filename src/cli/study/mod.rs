//! `study`: models × traits × folds, compared in one report.

mod data;
mod fit;

use super::Context;
use crate::error::{Error, Result};
use crate::evaluate::cells::{self, Heritability};
use crate::evaluate::config::StudyConfig;
use crate::evaluate::crossvalidate::{Done, Plan, Task};
use crate::evaluate::diagnostics;
use crate::evaluate::truth;
use crate::genotype::{Animals, Store};
use crate::grm::pca::pca;
use crate::grm::GenotypeMatrix;
use crate::output;
use crate::records::Phenotypes;
use crate::report::page::Page;
use crate::report::record::RunRecord;
use crate::report::study::{Genotypes, Picture, Study};
use crate::stats;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Shown after `--help`.
const EXAMPLES: &str = "\
Examples:
  genialearn study examples/demo.toml --out comparison
  mpirun -n 4 genialearn study study.toml --out comparison
  mpirun -n 4 genialearn study study.toml --out comparison --resume   (after an interruption)

Writes into DIR: report.html, summary.tsv, scores.tsv, comparisons.tsv, lr.tsv, variances.tsv,
timings.tsv, pictures/*.svg and study.run.json, which comes last: a folder without it is not complete.
Of a simulated herd truth.tsv and truth_comparisons.tsv score the predictions against the true
genetic values. tasks/ holds what --resume goes on from. Every key of study.toml and every column of the tables:
docs/study.md.";

/// Everything that a study leaves in its folder.
const RESULTS: [&str; 18] = [
    "study.run.json",
    "report.html",
    "summary.tsv",
    "scores.tsv",
    "comparisons.tsv",
    "lr.tsv",
    "truth.tsv",
    "truth_comparisons.tsv",
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
    let (store, phenotypes, plan) = prepared(&args, context, &config)?;
    let seed = context.seed;
    let fingerprint = fingerprint(&config, &context.record, args.resume);
    let mut done = context.world.on_root(|| kept_tasks(&args.out, &fingerprint, &plan.tasks))?;
    say_plan(context, &plan, done.len());
    let (g, lr) = fit::all(context, (&config, &plan), (&store, &phenotypes), &mut done, &args.out)?;
    let (n, replicates) = (store.n_animals(), config.bootstrap.replicates);
    let heritability = of_training_parts(&done, phenotypes.traits.len());
    let scored = context.phase("score and bootstrap", |world| {
        Ok(cells::score(world, &plan, &done, &heritability, n, seed, replicates))
    })?;
    let cells = scored.cells;
    let genotypes = describe_genotypes(context, &config, &store, g)?;
    let overall = cells::overall(&cells);
    let recorded: Vec<usize> = (0..phenotypes.traits.len()).map(|t| phenotypes.recorded(t).len()).collect();
    let study = Study {
        plan: &plan,
        traits: &phenotypes.traits,
        recorded: &recorded,
        done: &done,
        cells: &cells,
        overall: &overall,
        comparisons: &scored.comparisons,
        genotypes,
    };
    let about = data::describe(&config, &store, &phenotypes);
    context.world.on_root(|| study.retrospects(&lr).write(&args.out.join("lr.tsv"), true))?;
    if config.simulate.is_some() {
        write_truth(context, &study, store.animals(), (replicates, &args.out))?;
    }
    report(context, &args.out, &config, &study, &about)?;
    context.say(format!("{}", args.out.join("report.html").display()));
    context.finish(&args.out.join("study"))
}

/// h² of each trait: that of the first model that estimates it, mean over training parts.
fn of_training_parts(done: &BTreeMap<usize, Done>, traits: usize) -> Vec<Heritability> {
    let mean = |number: usize| {
        let estimate = |d: &Done| {
            let found = d.traits.iter().find(|t| t.number == number)?;
            Some((d.task.model, Heritability::of(found.estimate.as_ref()?)))
        };
        let known: Vec<(usize, Heritability)> = done.values().filter_map(estimate).collect();
        let first = known.iter().map(|(model, _)| *model).min();
        let of: Vec<Heritability> = known.iter().filter(|k| Some(k.0) == first).map(|k| k.1).collect();
        let of_parts =
            |value: fn(&Heritability) -> f64| stats::mean(&of.iter().map(value).collect::<Vec<_>>());
        let at_boundary = of.iter().any(|h| h.at_boundary);
        Heritability { h2: of_parts(|h| h.h2), se: of_parts(|h| h.se), at_boundary }
    };
    (0..traits).map(mean).collect()
}

/// Genotypes, records and what will be done. A study that is refused leaves nothing behind. Collective.
fn prepared(args: &Args, context: &mut Context, config: &StudyConfig) -> Result<(Store, Phenotypes, Plan)> {
    let existed = context.world.on_root(|| refuse_filled(args).map(|()| args.out.exists()))?;
    // Only data that must be written first need the folder before everything is known to be right.
    let writes = config.simulate.is_some() || config.import.is_some();
    if writes {
        context.world.on_root(|| make_folder(args))?;
    }
    let planned = planned(args, context, config);
    if planned.is_err() && writes && !args.resume {
        let discard = || {
            clear(&args.out)?;
            // Not empty, or not ours: it stays.
            let _ = if existed { Ok(()) } else { std::fs::remove_dir(&args.out) };
            Ok(())
        };
        context.world.on_root(discard)?;
    }
    let planned = planned?;
    if !writes {
        context.world.on_root(|| make_folder(args))?;
    }
    Ok(planned)
}

/// Reads genotypes and records, and divides the animals. Collective.
fn planned(args: &Args, context: &mut Context, config: &StudyConfig) -> Result<(Store, Phenotypes, Plan)> {
    let (store_path, pheno) = data::prepare(context, config, &args.out)?;
    let store = context.world.agree(Store::open(&store_path))?;
    let phenotypes = data::read_records(context, config, &store, &pheno)?;
    let plan = context.world.agree(Plan::new(config, store.animals(), &phenotypes, context.seed))?;
    Ok((store, phenotypes, plan))
}

/// Refuses a folder with files in it, unless the study in it is to be resumed or replaced.
fn refuse_filled(args: &Args) -> Result<()> {
    let filled = std::fs::read_dir(&args.out).is_ok_and(|mut entries| entries.next().is_some());
    if filled && !args.resume && !args.force {
        return Err(Error::input(
            args.out.display(),
            "a new or empty folder",
            "one with files in it",
            "choose another --out, or add --resume to go on, or --force to replace the study in it",
        ));
    }
    Ok(())
}

/// Makes the folder, without an older study where that is to be replaced.
fn make_folder(args: &Args) -> Result<()> {
    if args.force {
        clear(&args.out)?;
    }
    for folder in [args.out.clone(), args.out.join("tasks"), args.out.join("pictures")] {
        std::fs::create_dir_all(&folder).map_err(|e| Error::writing(&folder, &e))?;
    }
    Ok(())
}

/// Removes everything that a study leaves in its folder.
fn clear(dir: &Path) -> Result<()> {
    for path in RESULTS.iter().map(|name| dir.join(name)) {
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        match removed {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::writing(&path, &e)),
            _ => {}
        }
    }
    Ok(())
}

/// What must be the same for a study to go on: program, seed, device, configuration, inputs. Empty on ranks other than the
/// root, which alone knows the checksums.
fn fingerprint(config: &StudyConfig, record: &RunRecord, resume: bool) -> (String, bool) {
    // The configuration file itself counts by its meaning, not by its bytes.
    let inputs: Vec<_> = record.inputs.iter().skip(1).map(|i| (&i.crc32, i.bytes)).collect();
    let all = serde_json::json!({
        "version": record.version, "seed": record.seed, "device": record.device, "study": config, "inputs": inputs,
    });
    (format!("{all:#}\n"), resume)
}

/// The tasks that an interrupted run kept; checks that it was the same study.
fn kept_tasks(
    dir: &Path,
    (fingerprint, resume): &(String, bool),
    tasks: &[Task],
) -> Result<BTreeMap<usize, Done>> {
    let path = dir.join("tasks").join("study.json");
    let refused = |expected: &str, found: &str| {
        Err(Error::input(dir.display(), expected, found, "restore them, or begin again with --force"))
    };
    let there = |i: &usize| task_path(dir, *i).exists();
    match path.exists() {
        true if *resume => {
            let before = std::fs::read_to_string(&path).map_err(|e| Error::reading(&path, &e))?;
            if before != *fingerprint {
                let expected =
                    "the same program, seed, device, configuration and inputs as before the interruption";
                return refused(expected, "other ones");
            }
        }
        false if (0..tasks.len()).any(|i| there(&i)) => {
            return refused("tasks/study.json, which says what the fits in tasks/ belong to", "none");
        }
        _ => output::write_file(&path, true, |w| w.write_all(fingerprint.as_bytes()))?,
    }
    let mut done = BTreeMap::new();
    for (i, task) in tasks.iter().enumerate().filter(|(i, _)| there(i)) {
        // A damaged file, as after a power cut, is a task to do again; so is one of another task.
        let kept = std::fs::read(task_path(dir, i)).ok().and_then(|bytes| postcard::from_bytes(&bytes).ok());
        if let Some(kept) = kept.filter(|kept: &Done| kept.task == *task) {
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
        log::info!("{total} fits, {kept} already done; if interrupted, resume with --resume");
    }
}

/// What the genotypes look like, on the root.
fn describe_genotypes(
    context: &mut Context,
    config: &StudyConfig,
    store: &Store,
    g: Option<fit::Held>,
) -> Result<Option<Genotypes>> {
    if !config.report.genotypes {
        return Ok(None);
    }
    let (seed, backend) = (context.seed, context.backend.clone());
    let scaling = config.models[0].scaling();
    context.phase("LD and PCA", |world| {
        let markers = GenotypeMatrix::load(world, backend, store, scaling)?;
        let ld = diagnostics::ld_decay(world, store, seed)?;
        let pca = pca(&markers, 2.min(markers.n()), seed)?;
        let score =
            |k: usize, i: usize| pca.values.get(k).map_or(0.0, |v| v.max(0.0).sqrt() * pca.vectors[[i, k]]);
        let components = (0..markers.n()).map(|i| (score(0, i), score(1, i))).collect();
        let explained = [0, 1].map(|k| pca.explained.get(k).copied().unwrap_or(0.0));
        let maf = diagnostics::maf_spectrum(&store.variants().frequency);
        Ok(Some(Genotypes { ld, maf, kinship: g.map(|g| diagnostics::kinship(&g)), components, explained }))
    })
}

/// Scores the predictions of a simulated herd against its true genetic values.
fn write_truth(
    context: &mut Context,
    study: &Study,
    animals: &Animals,
    (replicates, dir): (usize, &Path),
) -> Result<()> {
    let (seed, n) = (context.seed, animals.id.len());
    context.phase("compare with the truth", |world| {
        let truth = world.on_root(|| truth::read(&dir.join("data.truth.tsv"), &animals.id, study.traits))?;
        let done = truth::instead_of_records(study.done, &truth);
        let scored = cells::score(world, study.plan, &done, &[], n, seed, replicates);
        let overall = cells::overall(&scored.cells);
        let comparisons = &scored.comparisons;
        let of = Study { cells: &scored.cells, overall: &overall, comparisons, genotypes: None, ..*study };
        world.on_root(|| {
            of.truths().write(&dir.join("truth.tsv"), true)?;
            of.differences().write(&dir.join("truth_comparisons.tsv"), true)
        })
    })
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
        models: &config.models,
        record: &context.record,
    };
    let world = context.world.clone();
    world.on_root(|| {
        study.summary().write(&dir.join("summary.tsv"), true)?;
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
