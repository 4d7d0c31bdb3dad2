//! Fits the models of a study one after another, and keeps what is done.

use crate::cli::Context;
use crate::error::{Error, Result};
use crate::evaluate::crossvalidate::{self, Done, Keeps, Plan};
use crate::evaluate::folds::hash;
use crate::evaluate::lr_method::{lr_statistics, LrStatistics};
use crate::mixed::Group;
use crate::output;
use crate::predict::learner::gblup::{GblupConfig, StudySolver};
use crate::predict::learner::{Learned, Place, Training};
use crate::predict::{save, Block, Data, Learner};
use crate::records::Phenotypes;
use serde::de::DeserializeOwned;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Animals of which G is held for heritabilities, where no model of the study says how.
const LARGEST_HELD: usize = 12_000;

/// The fits of a study in a folder: each in a file that says all that it depends on, so that a fit is found again
/// whatever else the study does, and no fit of other data, settings, program or device is taken for it.
pub struct Kept {
    folder: PathBuf,
    /// What all fits depend on: program, device, data.
    common: String,
}

/// Changes with the layout of what is kept.
const FORMAT: u32 = 3;

/// A result in its file.
#[derive(serde::Serialize, serde::Deserialize)]
struct Entry<T> {
    identity: String,
    result: T,
}

/// A result of that identity, unless there is none. A damaged file, as after a power cut, is work to do again.
fn read<T: DeserializeOwned>(identity: &str, path: &Path) -> Option<T> {
    let entry: Entry<T> = postcard::from_bytes(&std::fs::read(path).ok()?).ok()?;
    (entry.identity == identity).then_some(entry.result)
}

fn write<T: Serialize>(identity: String, path: &Path, result: T) -> Result<()> {
    let bytes = postcard::to_stdvec(&Entry { identity, result }).expect("plain values serialize");
    output::write_file(path, true, |w| w.write_all(&bytes))
}

impl Kept {
    /// The fits in `folder` of what `common` says.
    pub fn new(folder: PathBuf, common: String) -> Kept {
        Kept { folder, common }
    }

    /// All that a result depends on, and its file.
    fn place(&self, of: &str) -> (String, PathBuf) {
        let identity = format!("{FORMAT} {}\n{of}", self.common);
        let path = self.folder.join(format!("{:016x}.task", hash(identity.as_bytes())));
        (identity, path)
    }

    /// The tasks that were done before.
    pub fn read(&self, plan: &Plan) -> BTreeMap<usize, Done> {
        let find = |i: usize| {
            let (identity, path) = self.place(&plan.identity(plan.tasks[i]));
            Some((i, Done { task: plan.tasks[i], ..read(&identity, &path)? }))
        };
        (0..plan.tasks.len()).filter_map(find).collect()
    }

    /// Files of results in the folder.
    pub fn count(&self) -> usize {
        let is_task = |e: &std::fs::DirEntry| e.path().extension().is_some_and(|x| x == "task");
        std::fs::read_dir(&self.folder).map_or(0, |all| all.flatten().filter(is_task).count())
    }
}

impl Keeps for Kept {
    fn place(&self, plan: &Plan, task: usize) -> Place {
        let (identity, path) = Kept::place(self, &plan.identity(plan.tasks[task]));
        Place { path: path.with_extension("checkpoint"), identity }
    }

    fn keep(&self, plan: &Plan, task: usize, done: &Done) -> Result<()> {
        let (identity, path) = Kept::place(self, &plan.identity(plan.tasks[task]));
        write(identity, &path, done)?;
        // What is done needs no state; there was none where it was quick.
        let _ = std::fs::remove_file(path.with_extension("checkpoint"));
        Ok(())
    }
}

/// What a model says with all records: trait by trait, whatever their gaps.
pub struct Whole {
    /// The model's settings.
    settings: String,
    /// Its fit.
    pub learned: Learned,
}

/// The first additive GBLUP of a study with variances by REML, or else GBLUP by default, fitted to all records: for
/// heritabilities and the method LR. Collective.
pub fn whole(
    context: &mut Context,
    (plan, learners): (&Plan, &[Box<dyn Learner>]),
    (data, phenotypes): (&Data, &Phenotypes),
    kept: &Kept,
) -> Result<Whole> {
    let solver = if data.animals() <= LARGEST_HELD { StudySolver::Eigen } else { StudySolver::Pcg };
    let default = GblupConfig { solver, ..GblupConfig::default() };
    let of_study = learners.iter().find(|l| l.additive_gblup() && l.estimates());
    let learner: &dyn Learner = of_study.map_or(&default, |l| &**l);
    let (settings, seed) = (learner.settings(), context.seed);
    let records = plan.records();
    let (identity, path) = kept.place(&format!("all records {records:016x} seed {seed}\n{settings}"));
    let found = context.world.on_root(|| Ok(read::<Learned>(&identity, &path)))?;
    let learned = match found {
        Some(learned) => learned,
        None => context.phase("GBLUP of all records", |world| {
            let learned = fit_whole(learner, data, phenotypes, seed)?;
            world.on_root(|| write(identity, &path, &learned))?;
            Ok(learned)
        })?,
    };
    Ok(Whole { settings, learned })
}

/// A fit to all records, all traits together.
fn fit_whole(learner: &dyn Learner, data: &Data, phenotypes: &Phenotypes, seed: u64) -> Result<Learned> {
    let all = Training::all(phenotypes.clone(), seed);
    let one = |group: &(Vec<usize>, Group)| Training { groups: vec![group.clone()], ..all.clone() };
    let sets: Vec<Training> = all.groups.iter().map(one).collect();
    let mut found = Vec::new();
    let at_once = if learner.shares_splits() { sets.len() } else { learner.at_once(data, data.animals()) };
    for wave in sets.chunks(at_once.max(1)) {
        found.extend(learner.fit(data, wave)?);
    }
    Ok(Learned::joined(found))
}

/// Fits all models; returns the statistics of the method LR. A block of the data is freed when no later model reads
/// it.
pub fn all(
    context: &mut Context,
    (plan, learners): (&Plan, &[Box<dyn Learner>]),
    (data, phenotypes): (&Data, &Phenotypes),
    done: &mut BTreeMap<usize, Done>,
    (kept, whole): (&Kept, &Whole),
) -> Result<Vec<LrStatistics>> {
    let mut lr = Vec::new();
    for (number, learner) in learners.iter().enumerate() {
        let of = (plan, number, &**learner);
        fit(context, of, (data, phenotypes), done, (kept, None))?;
        lr.extend(method_lr(context, of, (data, phenotypes), done, whole)?);
        data.keep(&read_by(&learners[number + 1..]));
    }
    Ok(lr)
}

/// Fits one share of all models, and keeps it. Collective.
pub fn share(
    context: &mut Context,
    (plan, learners): (&Plan, &[Box<dyn Learner>]),
    (data, phenotypes): (&Data, &Phenotypes),
    done: &mut BTreeMap<usize, Done>,
    (kept, share): (&Kept, &BTreeSet<usize>),
) -> Result<()> {
    for (number, learner) in learners.iter().enumerate() {
        fit(context, (plan, number, &**learner), (data, phenotypes), done, (kept, Some(share)))?;
        data.keep(&read_by(&learners[number + 1..]));
    }
    Ok(())
}

/// Fits one model, or what a share has of it, and keeps each fit. Collective.
fn fit(
    context: &mut Context,
    (plan, number, learner): (&Plan, usize, &dyn Learner),
    (data, phenotypes): (&Data, &Phenotypes),
    done: &mut BTreeMap<usize, Done>,
    (kept, share): (&Kept, Option<&BTreeSet<usize>>),
) -> Result<()> {
    context.phase(&format!("fit {}", plan.models[number].name), |_| {
        crossvalidate::run_model(data, (plan, share), (number, learner), phenotypes, done, kept)
    })
}

/// What learners read.
fn read_by(learners: &[Box<dyn Learner>]) -> Vec<Block> {
    learners.iter().flat_map(|learner| learner.reads()).collect()
}

/// The method LR for an additive GBLUP whose G is held and whose variances are estimated.
fn method_lr(
    context: &mut Context,
    (plan, number, learner): (&Plan, usize, &dyn Learner),
    (data, phenotypes): (&Data, &Phenotypes),
    done: &BTreeMap<usize, Done>,
    whole: &Whole,
) -> Result<Vec<LrStatistics>> {
    let held = learner.reads().into_iter().find_map(|block| match block {
        Block::Relationships(scaling) => Some(scaling),
        Block::Genotypes(_) | Block::Calls { .. } => None,
    });
    let Some(scaling) = held.filter(|_| learner.additive_gblup() && learner.estimates()) else {
        return Ok(Vec::new());
    };
    let seed = context.seed;
    context.phase(&format!("LR method for {}", plan.models[number].name), |_| {
        let g = data.relationships(scaling)?;
        let own = match learner.settings() == whole.settings {
            true => None,
            false => Some(fit_whole(learner, data, phenotypes, seed)?),
        };
        Ok(lr_statistics(number, own.as_ref().unwrap_or(&whole.learned), g.view(), done))
    })
}

/// Fits each model to all records, and keeps it for `predict`: DIR/models/NAME.h5.
///
/// # Errors
/// Models of synthetic animals, which cannot be kept, are left out with a warning.
pub fn models(
    context: &mut Context,
    (plan, learners): (&Plan, &[Box<dyn Learner>]),
    (data, phenotypes): (&Data, &Phenotypes),
    dir: &Path,
) -> Result<()> {
    let folder = dir.join("models");
    context.world.on_root(|| std::fs::create_dir_all(&folder).map_err(|e| Error::writing(&folder, &e)))?;
    let seed = context.seed;
    for (number, learner) in learners.iter().enumerate() {
        let model = &plan.models[number];
        if model.mixture.is_some() {
            log::warn!("{}: a model of synthetic animals is not kept in models/", model.name);
            continue;
        }
        let set = Training::all(phenotypes.clone(), seed);
        let path = folder.join(format!("{}.h5", output::file_name(&model.name)));
        context.phase(&format!("model {}", model.name), |world| {
            let trained = learner.train(data, &set, None)?;
            let written = trained.model.map_or(Ok(()), |model| match world.is_root() {
                true => save(&*model, &path, true),
                false => Ok(()),
            });
            world.agree(written)
        })?;
        data.keep(&read_by(&learners[number + 1..]));
    }
    Ok(())
}
