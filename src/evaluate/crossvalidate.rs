//! The study's work: every model on every split, task by task over ranks and threads, resumable.

use crate::comm::World;
use crate::error::{Error, Result};
use crate::evaluate::augment::Mixture;
use crate::evaluate::config::{StudyConfig, ValidationConfig};
use crate::evaluate::folds::{divide, Herd, Role, Scheme, Splits};
use crate::evaluate::scores::Tested;
use crate::genotype::Animals;
use crate::mixed::{Estimate, Group};
use crate::predict::learner::{Learned, Learner, Training};
use crate::progress::Progress;
use crate::records::table::Table;
use crate::records::Columns;
use crate::records::Phenotypes;
use crate::stats;
use std::collections::{BTreeMap, HashMap};

/// A validation with its divisions.
#[derive(Debug, Clone, PartialEq)]
pub struct Validation {
    /// Name in tables.
    pub name: String,
    /// How the animals are divided.
    pub scheme: Scheme,
    /// The divisions.
    pub splits: Splits,
    /// Family of every animal in the store, `u32::MAX` for none: the bootstrap draws whole families.
    pub families: Option<Vec<u32>>,
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

/// One piece of work: a model fitted to the traits of one missing pattern, or to all traits, in one training fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Task {
    /// Number of the model.
    pub model: usize,
    /// Number of the validation.
    pub validation: usize,
    /// Number of the split within the validation.
    pub split: usize,
    /// Number of the missing pattern; none where all traits are fitted together.
    pub pattern: Option<usize>,
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
    /// Records trained on.
    pub trained: usize,
    /// Variance components in the training fold, where the model estimates them.
    pub estimate: Option<Estimate>,
    /// The tested animals.
    pub tested: Tested,
}

/// Differences in r that do not matter, where nothing else is said.
pub const MARGIN: f64 = 0.02;

/// Everything that will be done, known before anything is.
pub struct Plan {
    /// Names of the models.
    pub models: Vec<String>,
    /// What those learn from that are given synthetic animals.
    pub mixtures: Vec<Option<Mixture>>,
    /// The validations.
    pub validations: Vec<Validation>,
    /// The tasks, model by model.
    pub tasks: Vec<Task>,
    /// Number of the model that all others are compared with.
    pub reference: usize,
    /// Differences in r up to this size do not matter.
    pub margin: f64,
    /// Seed of the study.
    seed: u64,
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
            let families = matches!(scheme, Scheme::Family { .. }).then(|| numbered(&label));
            Ok(Validation { name: v.label(), scheme, splits, families })
        };
        let validations = config.validations.iter().map(split).collect::<Result<Vec<_>>>()?;
        validations.iter().try_for_each(|v| check_sizes(v, config, phenotypes))?;
        let patterns = phenotypes.patterns();
        let mut tasks = Vec::new();
        for (model, m) in config.models.iter().enumerate() {
            let pieces: Vec<Option<usize>> =
                if m.joint() { vec![None] } else { (0..patterns.len()).map(Some).collect() };
            for (validation, v) in validations.iter().enumerate() {
                for split in 0..v.splits.splits.len() {
                    let task = |&pattern: &Option<usize>| Task { model, validation, split, pattern };
                    tasks.extend(pieces.iter().map(task));
                }
            }
        }
        let largest = patterns.iter().map(|(animals, _)| animals.len()).max().unwrap_or(0);
        let models = config.models.iter().map(|m| m.name.clone()).collect();
        let mixtures = config.models.iter().map(|m| m.mixture.clone()).collect();
        Ok(Plan { models, mixtures, validations, tasks, reference: 0, margin: MARGIN, seed, largest })
    }

    /// A plan of given parts.
    #[cfg(test)]
    pub(crate) fn of(models: Vec<String>, validations: Vec<Validation>, tasks: Vec<Task>) -> Plan {
        let mixtures = models.iter().map(|_| None).collect();
        Plan { models, mixtures, validations, tasks, reference: 0, margin: MARGIN, seed: 1, largest: 0 }
    }

    /// The split of a task.
    pub fn roles(&self, task: Task) -> &[Role] {
        &self.validations[task.validation].splits.splits[task.split].roles
    }
}

/// Refuses splits whose training part is too small for a trait, or for a reference of synthetic animals.
fn check_sizes(v: &Validation, config: &StudyConfig, phenotypes: &Phenotypes) -> Result<()> {
    let patterns = phenotypes.patterns();
    let effects = phenotypes.design.ncols();
    for split in &v.splits.splits {
        let trains = |i: usize| split.roles[i] == Role::Train;
        let place = format!("the training part of fold {} of validation `{}`", split.fold, v.name);
        let few = |(animals, _): &(Vec<usize>, Vec<usize>)| {
            animals.iter().filter(|&&i| trains(i)).count() < effects + 2
        };
        // The rank of the fixed effects matters only where there are hardly more records than effects.
        if patterns.iter().any(few) {
            let groups = Group::among(phenotypes, trains);
            if let Some((traits, group)) = groups.iter().find(|(_, g)| g.degrees_of_freedom() < 2) {
                let names: Vec<&str> = traits.iter().map(|&t| phenotypes.traits[t].as_str()).collect();
                let at_fixed = group.animals().len() - group.degrees_of_freedom();
                return Err(Error::input(
                    format!("{} in {place}", names.join(", ")),
                    format!("at least {} records, two more than fixed effects", at_fixed + 2),
                    group.animals().len(),
                    "leave these traits out with `traits`, or choose fewer folds or covariates",
                ));
            }
        }
        let training = (0..split.roles.len()).filter(|&i| trains(i)).count();
        let reference = config.models.iter().filter_map(|m| Some(m.mixture.as_ref()?.reference)).max();
        if let Some(reference) = reference.filter(|&n| n > training) {
            let expected =
                format!("at least {reference} animals, the largest `reference` of [model.augment]");
            return Err(Error::input(place, expected, training, "choose a smaller `reference`"));
        }
    }
    Ok(())
}

/// A number for each label, `u32::MAX` for an empty one.
fn numbered(labels: &[String]) -> Vec<u32> {
    let mut known = HashMap::new();
    let mut number = |label| {
        let next = known.len() as u32;
        *known.entry(label).or_insert(next)
    };
    labels.iter().map(|label| if label.is_empty() { u32::MAX } else { number(label) }).collect()
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

/// Does the tasks of `model` that are not in `done` yet, in waves of as many as the learner takes at once. After each
/// wave the root hands the new results to `keep`. Collective; every rank receives all.
pub fn run_model(
    world: &World,
    plan: &Plan,
    (model, learner): (usize, &dyn Learner),
    phenotypes: &Phenotypes,
    done: &mut BTreeMap<usize, Done>,
    keep: &mut dyn FnMut(usize, &Done) -> Result<()>,
) -> Result<()> {
    let open: Vec<usize> =
        (0..plan.tasks.len()).filter(|i| plan.tasks[*i].model == model && !done.contains_key(i)).collect();
    let progress = Progress::new(&plan.models[model], open.len());
    let each = learner.at_once(world, plan.largest);
    for wave in open.chunks(each) {
        let tasks = || wave.iter().map(|&i| plan.tasks[i]);
        let sets: Vec<Training> = tasks().map(|task| training(plan, task, phenotypes)).collect();
        let learned = learner.fit(world, &sets)?;
        let of = |((&i, task), learned): ((&usize, Task), &Learned)| {
            (i, tested(plan.roles(task), phenotypes, task, learned))
        };
        let new: Vec<(usize, Done)> = wave.iter().zip(tasks()).zip(&learned).map(of).collect();
        let kept = if world.is_root() { new.iter().try_for_each(|(i, d)| keep(*i, d)) } else { Ok(()) };
        world.agree(kept)?;
        done.extend(new);
        progress.add(wave.len());
    }
    Ok(())
}

/// The records that a task is fitted to: those of the training animals.
fn training(plan: &Plan, task: Task, phenotypes: &Phenotypes) -> Training {
    let roles = plan.roles(task);
    let mut groups = Group::among(phenotypes, |i| roles[i] == Role::Train);
    if let Some(pattern) = task.pattern {
        groups = vec![groups.swap_remove(pattern)];
    }
    let mut records = phenotypes.clone();
    for (i, mut row) in records.y.rows_mut().into_iter().enumerate() {
        if roles[i] != Role::Train {
            row.fill(f64::NAN);
        }
    }
    Training { groups, records, seed: plan.seed, synthetic: None }
}

/// What a fit says of the tested animals.
fn tested(roles: &[Role], phenotypes: &Phenotypes, task: Task, learned: &Learned) -> Done {
    let predicted = |(k, &t): (usize, &usize)| {
        let y = phenotypes.y.column(t);
        let animals: Vec<usize> =
            (0..roles.len()).filter(|&i| roles[i] == Role::Test && !y[i].is_nan()).collect();
        let fixed: Vec<f64> =
            animals.iter().map(|&i| phenotypes.design.row(i).dot(&learned.fixed.column(k))).collect();
        Predicted {
            number: t,
            trained: learned.trained[k],
            estimate: learned.estimates[k].clone(),
            tested: Tested {
                animal: animals.iter().map(|&i| i as u32).collect(),
                prediction: animals.iter().map(|&i| learned.values[[i, k]]).collect(),
                replicates: vec![animals.iter().map(|&i| learned.values[[i, k]]).collect()],
                adjusted: animals.iter().zip(&fixed).map(|(&i, f)| y[i] - f).collect(),
                record: animals.iter().map(|&i| y[i]).collect(),
                fixed,
            },
        }
    };
    let traits = learned.traits.iter().enumerate().map(predicted).collect();
    Done { task, seconds: learned.seconds, traits }
}
