//! `study`: models × traits × folds, compared in one report.

mod data;
mod dry_run;
mod fit;
mod part;
mod predictions;
mod template;

use super::Context;
use crate::error::{Error, Result};
use crate::evaluate::cells::{self, Heritability};
use crate::evaluate::config::StudyConfig;
use crate::evaluate::crossvalidate::{self, Done, Plan};
use crate::evaluate::diagnostics;
use crate::evaluate::truth;
use crate::genotype::{Animals, Store};
use crate::grm::pca::pca;
use crate::grm::Scaling;
use crate::mixed::Estimate;
use crate::output;
use crate::predict::{Data, Learner};
use crate::records::Phenotypes;
use crate::report::page::Page;
use crate::report::record::RunRecord;
use crate::report::study::{Genotypes, Picture, Study};
use fit::Kept;
use part::Part;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Shown after `--help`.
const EXAMPLES: &str = "\
Examples:
  genialearn study examples/demo.toml --out comparison
  mpirun -n 4 genialearn study study.toml --out comparison
  mpirun -n 4 genialearn study study.toml --out comparison --resume   (after an interruption)
  genialearn study --template > study.toml            (every key with its default)
  genialearn study study.toml --dry-run               (what would be fitted, time and memory)
  genialearn study study.toml --out comparison --part 2/8   (a share, for job arrays: slurm/study.sbatch)

Writes into DIR: report.html, summary.tsv, scores.tsv, comparisons.tsv, lr.tsv, variances.tsv,
timings.tsv, pictures/*.svg and study.run.json, which comes last: a folder without it is not complete.
Of a simulated herd truth.tsv and truth_comparisons.tsv score the predictions against the true
genetic values. predictions.tsv.gz holds every prediction of every fold, study.toml the configuration
with all defaults, weights.tsv what stacked models are added from. tasks/ holds each fit: --resume takes over those of the same data, settings, program and
device, so that a model that is added to a finished study is all that is fitted. Every key of study.toml and every column of the tables:
docs/study.md.";

/// Animals of which relationships are drawn, at most: of more they would take too much memory for a picture.
const PICTURED: usize = 8_000;

/// Everything that a study leaves in its folder.
const RESULTS: [&str; 22] = [
    "study.run.json",
    "study.toml",
    "predictions.tsv.gz",
    "models",
    "report.html",
    "summary.tsv",
    "scores.tsv",
    "comparisons.tsv",
    "lr.tsv",
    "truth.tsv",
    "truth_comparisons.tsv",
    "variances.tsv",
    "weights.tsv",
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
    #[arg(value_name = "STUDY.toml", required_unless_present = "template")]
    config: Option<PathBuf>,
    /// Folder for the results
    #[arg(long, short, value_name = "DIR", required_unless_present_any = ["template", "dry_run"])]
    out: Option<PathBuf>,
    /// Print a configuration with every key, its meaning and its default
    #[arg(long, conflicts_with_all = ["config", "out", "resume", "force", "dry_run"])]
    template: bool,
    /// Say what would be fitted, and about how long and in how much memory; write nothing
    #[arg(long)]
    dry_run: bool,
    /// Go on with an interrupted study in DIR, or add to a finished one
    #[arg(long, conflicts_with = "force")]
    resume: bool,
    /// Replace an older study in DIR
    #[arg(long)]
    force: bool,
    /// Fit the K-th of N shares only, for jobs that run side by side in one DIR: 0/N makes the data, 1/N to N/N fit, then
    /// --resume scores
    #[arg(long, value_name = "K/N", conflicts_with_all = ["force", "resume", "dry_run", "template"])]
    part: Option<Part>,
}

/// What is asked for, once it is known that it is a study.
struct Asked {
    config: PathBuf,
    out: PathBuf,
    resume: bool,
    force: bool,
    part: Option<Part>,
}

/// All that is fitted and scored.
struct Prepared {
    store: Store,
    phenotypes: Phenotypes,
    learners: Vec<Box<dyn Learner>>,
    plan: Plan,
}

/// Prints the template, tells the plan, or prepares, fits, scores, reports.
pub fn run(args: Args, context: &mut Context) -> Result<()> {
    let Some(config) = args.config else {
        context.say(template::text().trim_end());
        return Ok(());
    };
    let Some(out) = args.out else { return dry_run::run(&config, context) };
    if args.dry_run {
        return dry_run::run(&config, context);
    }
    // What other parts did before stays.
    let resume = args.resume || args.part.is_some();
    study(&Asked { config, out, resume, force: args.force, part: args.part }, context)
}

fn study(args: &Asked, context: &mut Context) -> Result<()> {
    let config = context.world.on_root(|| StudyConfig::read(&args.config))?;
    context.input(&args.config)?;
    if let Some(part) = args.part {
        context.world.on_root(|| part.refuse_early(&config, &args.out))?;
    }
    let Prepared { store, phenotypes, learners, plan } = prepared(args, context, &config)?;
    let seed = context.seed;
    let kept = Kept::new(args.out.join("tasks"), common(&context.record, &store));
    let mut done = context.world.on_root(|| Ok(kept.read(&plan)))?;
    say_plan(context, &plan, done.len(), &kept);
    let data = Data::new(&context.world, context.backend.clone(), &store);
    if let Some(part) = args.part {
        let models = (&plan, &learners[..]);
        return one_part(part, args, context, models, (&data, &phenotypes), (&kept, &mut done));
    }
    let whole = fit::whole(context, (&plan, &learners), (&data, &phenotypes), &kept)?;
    let genotypes = describe_genotypes(context, &config, &data)?;
    let lr = fit::all(context, (&plan, &learners), (&data, &phenotypes), &mut done, (&kept, &whole))?;
    if config.report.models {
        fit::models(context, (&plan, &learners), (&data, &phenotypes), &args.out)?;
    }
    data.keep(&[]);
    let done = crossvalidate::scored(&plan, &done, &phenotypes);
    let (n, replicates) = (store.n_animals(), config.bootstrap.replicates);
    let of = |e: &Option<Estimate>| e.as_ref().map_or(Heritability::UNKNOWN, Heritability::of);
    let heritability: Vec<Heritability> = whole.learned.estimates.iter().map(of).collect();
    let scored = context.phase("score and bootstrap", |world| {
        Ok(cells::score(world, &plan, &done, &heritability, n, seed, replicates))
    })?;
    let cells = scored.cells;
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
    context.world.on_root(|| {
        study.lr(&lr).write(&args.out.join("lr.tsv"), true)?;
        let path = args.out.join("predictions.tsv.gz");
        predictions::write(&path, &plan, &done, (&store.animals().id, &phenotypes.traits))?;
        let text = config.resolved()?;
        output::write_file(&args.out.join("study.toml"), true, |w| w.write_all(text.as_bytes()))
    })?;
    if config.simulate.is_some() {
        write_truth(context, &study, store.animals(), (replicates, &args.out))?;
    }
    report(context, &args.out, &config, &study, &about)?;
    context.say(format!("{}", args.out.join("report.html").display()));
    context.finish(&args.out.join("study"))
}

/// Fits a share and leaves the rest to other runs. Collective.
fn one_part(
    part: Part,
    args: &Asked,
    context: &mut Context,
    models: (&Plan, &[Box<dyn Learner>]),
    data: (&Data, &Phenotypes),
    (kept, done): (&Kept, &mut BTreeMap<usize, Done>),
) -> Result<()> {
    if part.number == 0 {
        fit::whole(context, models, data, kept)?;
    } else {
        let share = models.0.share(part.number, part.of);
        fit::share(context, models, data, done, (kept, &share))?;
    }
    let (total, there) = (models.0.tasks.len(), done.len());
    context.say(format_args!("part {} of {}: {there} of {total} fits are there", part.number, part.of));
    context.finish(&args.out.join(part.record()))
}

/// Genotypes, records and what will be done. A study that is refused leaves nothing behind. Collective.
fn prepared(args: &Asked, context: &mut Context, config: &StudyConfig) -> Result<Prepared> {
    let existed = context.world.on_root(|| refuse_filled(args).map(|()| args.out.exists()))?;
    // Only data that must be written first need the folder before everything is known to be right.
    let writes = config.makes_store();
    let seed = context.seed;
    if writes {
        context
            .world
            .on_root(|| make_folder(args).and_then(|()| data::same_source(config, seed, &args.out)))?;
    }
    let planned = planned(&args.out, context, config);
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
fn planned(dir: &Path, context: &mut Context, config: &StudyConfig) -> Result<Prepared> {
    let folder = dir.join("tasks");
    let learners = config.models.iter().map(|m| m.learner(&folder)).collect::<Result<Vec<_>>>()?;
    if let Some(found) =
        config.data.features.as_ref().filter(|_| !learners.iter().any(|l| l.reads_features()))
    {
        let advice = "add a model of kind mlp, dlgblup, boosting, forest or stacked, or remove the key";
        return Err(Error::input("[data], features", "a model that learns from features", found, advice));
    }
    let (store_path, pheno) = data::prepare(context, config, dir)?;
    let store = context.world.agree(Store::open(&store_path))?;
    let phenotypes = data::read_records(context, config, &store, &pheno)?;
    let of = (context.world.size(), context.seed);
    let plan = context.world.agree(Plan::new(config, &learners, (store.animals(), &phenotypes), of))?;
    Ok(Prepared { store, phenotypes, learners, plan })
}

/// Refuses a folder with files in it, unless the study in it is to be resumed or replaced.
fn refuse_filled(args: &Asked) -> Result<()> {
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
fn make_folder(args: &Asked) -> Result<()> {
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

/// What all fits of a study depend on: program, device and genotypes. Empty on ranks other than the root, which alone
/// knows the checksums.
fn common(record: &RunRecord, store: &Store) -> String {
    let path = store.path().display().to_string();
    let genotypes = record.inputs.iter().find(|input| input.path == path).map(|i| (&i.crc32, i.bytes));
    format!("genialearn {} {} {genotypes:?}", record.version, record.device)
}

fn say_plan(context: &Context, plan: &Plan, done: usize, kept: &Kept) {
    let total = plan.tasks.len();
    if context.world.is_root() {
        log::info!("{total} fits, {done} already done; if interrupted, resume with --resume");
        let others = kept.count().saturating_sub(done);
        if others > 0 && done < total {
            log::info!("tasks/ holds {others} results of other data, settings, seeds, devices or versions: they stay");
        }
    }
}

/// What the genotypes look like, on the root.
fn describe_genotypes(context: &mut Context, config: &StudyConfig, data: &Data) -> Result<Option<Genotypes>> {
    if !config.report.genotypes {
        return Ok(None);
    }
    let (seed, store) = (context.seed, data.store);
    context.phase("LD and PCA", |world| {
        let markers = data.genotypes(Scaling::VanRaden1)?;
        let ld = diagnostics::ld_decay(world, store, seed)?;
        let pca = pca(&markers, 2.min(markers.n()), seed)?;
        let score =
            |k: usize, i: usize| pca.values.get(k).map_or(0.0, |v| v.max(0.0).sqrt() * pca.vectors[[i, k]]);
        let components = (0..markers.n()).map(|i| (score(0, i), score(1, i))).collect();
        let explained = [0, 1].map(|k| pca.explained.get(k).copied().unwrap_or(0.0));
        let maf = diagnostics::maf_spectrum(&store.variants().frequency);
        let few = data.animals() <= PICTURED;
        let g = few.then(|| data.relationships(Scaling::VanRaden1)).transpose()?;
        let kinship = g.map(|g| diagnostics::kinship(&g));
        Ok(Some(Genotypes { ld, maf, kinship, components, explained }))
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
        if study.has_weights() {
            study.weights().write(&dir.join("weights.tsv"), true)?;
        }
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
