//! The study's work: every model on every split, task by task over ranks and threads, resumable.

use crate::comm::World;
use crate::error::{Error, Result};
use crate::evaluate::comparisons::{average, compare, samples, summarize, Difference, Summary};
use crate::evaluate::config::{ModelConfig, StudyConfig, ValidationConfig};
use crate::evaluate::folds::{divide, Herd, Role, Scheme, Splits};
use crate::evaluate::scores::Tested;
use crate::genotype::phenotype::Columns;
use crate::genotype::table::Table;
use crate::genotype::{Animals, Phenotypes};
use crate::mixed::gblup::{at_once, fit_group, Solver};
use crate::mixed::{Estimate, Group};
use crate::progress::Progress;
use crate::stats;
use ndarray::ArrayView2;
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

/// A validation with its divisions.
#[derive(Debug, Clone, PartialEq)]
pub struct Validation {
    /// Name in tables.
    pub name: String,
    /// How the animals are divided.
    pub scheme: Scheme,
    /// The divisions.
    pub splits: Splits,
}

impl Validation {
    /// How the animals were divided, in a sentence.
    pub fn in_words(&self) -> String {
        let splits = &self.splits.splits;
        let size =
            |role: Role| splits.iter().map(move |s| s.roles.iter().filter(|r| **r == role).count() as f64);
        let mean = |role: Role| stats::mean(&size(role).collect::<Vec<_>>()).round();
        let how = match self.scheme {
            Scheme::Random { folds, repeats } => format!("{folds} random folds, drawn {repeats} times"),
            Scheme::Family { folds, repeats } => {
                format!(
                    "whole groups in {folds} folds, drawn {repeats} times: no group is in training and test"
                )
            }
            Scheme::Forward { test_share } => {
                format!(
                    "the youngest {:.0} % are predicted from older animals, as in practice",
                    100.0 * test_share
                )
            }
            Scheme::Given => format!("{} folds from a list", splits.len()),
        };
        let (train, test) = (mean(Role::Train), mean(Role::Test));
        let left = match self.splits.left_out {
            0 => String::new(),
            k => format!(" {k} recorded animals take no part: their birth date, group or fold is not known."),
        };
        let mut how = how.replace(", drawn 1 times", "");
        how[..1].make_ascii_uppercase();
        format!("{how}; about {train} animals train and {test} are tested at a time.{left}")
    }
}

/// One piece of work: a model fitted to the traits of one missing pattern in one training fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Task {
    /// Number of the model.
    pub model: usize,
    /// Number of the validation.
    pub validation: usize,
    /// Number of the split within the validation.
    pub split: usize,
    /// Number of the missing pattern.
    pub pattern: usize,
}

/// What a task found.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Done {
    /// The task.
    pub task: Task,
    /// Wall seconds of the fit.
    pub seconds: f64,
    /// Trait by trait.
    pub traits: Vec<Predicted>,
}

/// One trait in one training fold.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Predicted {
    /// Number of the trait.
    pub number: usize,
    /// Variance components in the training fold.
    pub estimate: Estimate,
    /// The tested animals.
    pub tested: Tested,
}

/// Everything that will be done, known before anything is.
pub struct Plan {
    /// The models.
    pub models: Vec<ModelConfig>,
    /// The validations.
    pub validations: Vec<Validation>,
    /// The tasks, model by model.
    pub tasks: Vec<Task>,
    /// Animals trained on at most, for the memory.
    largest: usize,
}

impl Plan {
    /// Divides the animals and lists the tasks. Reads lists of groups or folds on the calling rank.
    pub fn new(config: &StudyConfig, animals: &Animals, phenotypes: &Phenotypes, seed: u64) -> Result<Plan> {
        let eligible: Vec<bool> =
            phenotypes.y.rows().into_iter().map(|r| r.iter().any(|y| !y.is_nan())).collect();
        let split = |v: &ValidationConfig| {
            let label = match v.labels() {
                Some(columns) => read_labels(&columns, animals)?,
                None => animals.group.clone(),
            };
            let herd =
                Herd { id: &animals.id, eligible: &eligible, birth_date: &animals.birth_date, label: &label };
            let place = format!("validation `{}`", v.label());
            let scheme = v.scheme();
            let splits = divide(&scheme, &herd, seed, &place)?;
            Ok(Validation { name: v.label(), scheme, splits })
        };
        let validations = config.validations.iter().map(split).collect::<Result<Vec<_>>>()?;
        let patterns = phenotypes.patterns();
        let mut tasks = Vec::new();
        for model in 0..config.models.len() {
            for (validation, v) in validations.iter().enumerate() {
                for split in 0..v.splits.splits.len() {
                    tasks.extend((0..patterns.len()).map(|pattern| Task {
                        model,
                        validation,
                        split,
                        pattern,
                    }));
                }
            }
        }
        let largest = patterns.iter().map(|(animals, _)| animals.len()).max().unwrap_or(0);
        Ok(Plan { models: config.models.clone(), validations, tasks, largest })
    }

    /// The split of a task.
    pub fn roles(&self, task: Task) -> &[Role] {
        &self.validations[task.validation].splits.splits[task.split].roles
    }
}

/// One label an animal from a table; empty where the table has none.
fn read_labels(columns: &Columns, animals: &Animals) -> Result<Vec<String>> {
    let table = Table::read(&columns.path, None)?;
    let column = table.find(&columns.names)?[0];
    let rows: HashMap<&str, usize> =
        table.ids().iter().enumerate().map(|(row, id)| (id.as_str(), row)).collect();
    let label =
        |id: &String| rows.get(id.as_str()).and_then(|&row| table.cell(row, column)).unwrap_or_default();
    Ok(animals.id.iter().map(|id| label(id).to_owned()).collect())
}

/// Does the tasks of `model` that are not in `done` yet, in waves over all ranks and threads. G stands on every
/// rank. After each wave the root hands the new results to `keep`. Collective; every rank receives all.
pub fn run_model(
    world: &World,
    plan: &Plan,
    model: usize,
    data: (&Phenotypes, ArrayView2<f64>),
    done: &mut BTreeMap<usize, Done>,
    keep: &mut dyn FnMut(usize, &Done) -> Result<()>,
) -> Result<()> {
    let open: Vec<usize> =
        (0..plan.tasks.len()).filter(|i| plan.tasks[*i].model == model && !done.contains_key(i)).collect();
    let progress = Progress::new(&plan.models[model].name, open.len());
    // The same on all ranks: what fits on the one with the least memory.
    let mut least = [-(at_once(plan.largest) as i64)];
    world.max(&mut least);
    let each = usize::try_from(-least[0]).expect("at least one");
    for wave in open.chunks(each * world.size()) {
        let own: Vec<usize> = wave.iter().copied().skip(world.rank()).step_by(world.size()).collect();
        let fitted: Result<Vec<(usize, Done)>> =
            own.par_iter().map(|&i| Ok((i, fit(plan, plan.tasks[i], data.0, data.1)?))).collect();
        let fitted = world.agree(fitted)?;
        let new: Vec<(usize, Done)> = world.all_gather(&fitted).into_iter().flatten().collect();
        let kept = if world.is_root() { new.iter().try_for_each(|(i, d)| keep(*i, d)) } else { Ok(()) };
        world.agree(kept)?;
        done.extend(new);
        progress.add(wave.len());
    }
    Ok(())
}

/// Fits one task and predicts its tested animals.
fn fit(plan: &Plan, task: Task, phenotypes: &Phenotypes, g: ArrayView2<f64>) -> Result<Done> {
    let start = Instant::now();
    let roles = plan.roles(task);
    let (traits, group) = Group::among(phenotypes, |i| roles[i] == Role::Train).swap_remove(task.pattern);
    let names = || traits.iter().map(|&t| phenotypes.traits[t].as_str()).collect::<Vec<_>>().join(", ");
    if group.freedom() < 2 {
        let split = &plan.validations[task.validation].splits.splits[task.split];
        return Err(Error::input(
            format!("{} in the training part of fold {}", names(), split.fold),
            "at least two records more than fixed effects",
            group.animals().len(),
            "leave these traits out, or choose fewer folds or covariates",
        ));
    }
    let fit = fit_group(g, &group, None, Solver::Eigen)?;
    let predicted = |(k, &t): (usize, &usize)| {
        let y = phenotypes.y.column(t);
        let animals: Vec<usize> =
            (0..roles.len()).filter(|&i| roles[i] == Role::Test && !y[i].is_nan()).collect();
        let fixed: Vec<f64> =
            animals.iter().map(|&i| phenotypes.design.row(i).dot(&fit.fixed.column(k))).collect();
        Predicted {
            number: t,
            estimate: fit.estimates[k].clone(),
            tested: Tested {
                animal: animals.iter().map(|&i| i as u32).collect(),
                prediction: animals.iter().map(|&i| fit.ebv[[i, k]]).collect(),
                adjusted: animals.iter().zip(&fixed).map(|(&i, f)| y[i] - f).collect(),
                fixed,
            },
        }
    };
    let traits = traits.iter().enumerate().map(predicted).collect();
    Ok(Done { task, seconds: start.elapsed().as_secs_f64(), traits })
}

/// What one model achieves for one trait in one validation.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Cell {
    /// Number of the validation.
    pub validation: usize,
    /// Number of the model.
    pub model: usize,
    /// Number of the trait.
    pub number: usize,
    /// Split by split: number of the split, records trained on, animals tested, variance components.
    pub splits: Vec<(usize, usize, usize, Estimate)>,
    /// Scores and their errors.
    pub summary: Summary,
}

impl Cell {
    /// h², mean over the training folds.
    pub fn h2(&self) -> f64 {
        stats::mean(&self.splits.iter().map(|s| s.3.h2).collect::<Vec<_>>())
    }
}

/// Scores all results; the work is dealt over ranks and threads. Collective; every rank receives all, ordered
/// by validation, model and trait.
pub fn score(
    world: &World,
    plan: &Plan,
    done: &BTreeMap<usize, Done>,
    n: usize,
    seed: u64,
    replicates: usize,
) -> Vec<Cell> {
    let mut found = BTreeMap::<_, Vec<(usize, &Predicted)>>::new();
    for d in done.values() {
        for p in &d.traits {
            let key = (d.task.validation, d.task.model, p.number);
            found.entry(key).or_default().push((d.task.split, p));
        }
    }
    let own: Vec<_> = found.into_iter().skip(world.rank()).step_by(world.size()).collect();
    let draws = samples(n, seed, replicates);
    let cells: Vec<Cell> = own
        .into_par_iter()
        .map(|((validation, model, number), mut splits)| {
            splits.sort_by_key(|(split, _)| *split);
            let repetition = |s: usize| plan.validations[validation].splits.splits[s].repetition;
            let tested: Vec<_> = splits.iter().map(|(s, p)| (repetition(*s), &p.tested)).collect();
            let summary = summarize(&tested, &draws);
            let splits =
                splits.iter().map(|(s, p)| (*s, p.estimate.n, p.tested.animal.len(), p.estimate.clone()));
            Cell { validation, model, number, splits: splits.collect(), summary }
        })
        .collect();
    let mut all: Vec<Cell> = world.all_gather(&cells).into_iter().flatten().collect();
    all.sort_by_key(|c| (c.validation, c.model, c.number));
    all
}

/// A validation and model over all traits.
#[derive(Debug, Clone, PartialEq)]
pub struct Overall {
    /// Number of the validation.
    pub validation: usize,
    /// Number of the model.
    pub model: usize,
    /// Means over the traits.
    pub summary: Summary,
}

/// The means over all traits, by validation and model.
pub fn overall(cells: &[Cell]) -> Vec<Overall> {
    let mut found: BTreeMap<(usize, usize), Vec<&Summary>> = BTreeMap::new();
    for c in cells {
        found.entry((c.validation, c.model)).or_default().push(&c.summary);
    }
    let mean = |((validation, model), all): ((usize, usize), Vec<&Summary>)| Overall {
        validation,
        model,
        summary: average(&all),
    };
    found.into_iter().map(mean).collect()
}

/// Two models compared for a trait, or over all.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Number of the validation.
    pub validation: usize,
    /// Number of the trait; `None` for the mean of all traits.
    pub number: Option<usize>,
    /// Numbers of the two models.
    pub models: (usize, usize),
    /// First minus second, in the order of the names of the scores.
    pub differences: [Difference; 7],
}

/// Every pair of models on every trait and over all traits, by validation.
pub fn compare_models(cells: &[Cell], overall: &[Overall]) -> Vec<Comparison> {
    let single = cells.iter().map(|c| ((c.validation, Some(c.number)), c.model, &c.summary));
    let mean = overall.iter().map(|o| ((o.validation, None), o.model, &o.summary));
    let mut found = BTreeMap::<_, Vec<(usize, &Summary)>>::new();
    for ((validation, number), model, summary) in single.chain(mean) {
        found.entry((validation, number.is_none(), number)).or_default().push((model, summary));
    }
    let mut out = Vec::new();
    for ((validation, _, number), mut models) in found {
        models.sort_by_key(|(model, _)| *model);
        for (k, (a, first)) in models.iter().enumerate() {
            for (b, second) in &models[k + 1..] {
                let differences = compare(first, second);
                out.push(Comparison { validation, number, models: (*a, *b), differences });
            }
        }
    }
    out
}
