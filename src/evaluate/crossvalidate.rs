//! The study's work: every model on every split, task by task over ranks and threads, resumable.

use crate::error::{Error, Result};
use crate::evaluate::augment::{references, Mixture};
use crate::evaluate::config::{StudyConfig, ValidationConfig};
use crate::evaluate::folds::{divide, hash, Herd, Role, Scheme, Splits};
use crate::evaluate::scores::Tested;
use crate::genotype::Animals;
use crate::mixed::{Estimate, Group};
use crate::predict::learner::{Learned, Learner, Place, Training};
use crate::predict::Data;
use crate::progress::Progress;
use crate::records::table::Table;
use crate::records::{Columns, Features, Phenotypes};
use crate::rng::{Purpose, Stream};
use crate::stats;
use crate::usage::{Cost, Meter};
use ndarray::{Array2, Axis};
use std::collections::{BTreeMap, BTreeSet, HashMap};

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
    /// Families among the tested animals of a split, mean over the splits; none where there are no families.
    pub fn families_tested(&self) -> Option<f64> {
        Some(self.splits.families_tested(self.families.as_ref()?))
    }

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
    /// Number of the fit among those that differ in their seed alone.
    pub replicate: usize,
}

/// What a task found.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Done {
    /// The task.
    pub task: Task,
    /// What the fit took: its own wall seconds, and the processors' and GPUs' time of all ranks.
    pub cost: Cost,
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
    /// Kinds that the predictions are added from, and their weights.
    pub weights: Vec<(String, f64)>,
    /// The tested animals.
    pub tested: Tested,
}

/// A model of a plan.
#[derive(Debug, Clone, Default)]
pub struct PlannedModel {
    /// Name in tables.
    pub name: String,
    /// What it learns from where that are fewer animals, or synthetic ones too.
    pub mixture: Option<Mixture>,
    /// Number of the model that it is compared with; its own where it is a reference itself.
    pub reference: usize,
    /// All that its fits depend on beside data, split and seed.
    pub identity: String,
    /// Whether it is additive GBLUP, whose fixed effects are by generalised least squares.
    pub additive_gblup: bool,
}

/// Everything that will be done, known before anything is.
pub struct Plan {
    /// The models.
    pub models: Vec<PlannedModel>,
    /// The validations.
    pub validations: Vec<Validation>,
    /// The tasks, model by model.
    pub tasks: Vec<Task>,
    /// Number of the model that others are compared with, but for those of fewer animals ([`references`]).
    pub reference: usize,
    /// Differences in r up to this size do not matter.
    pub margin: f64,
    /// What the fits of each missing pattern, and last those of all traits, learn from: names, records, weights and fixed
    /// effects.
    contents: Vec<u64>,
    /// Seed of the study.
    seed: u64,
    /// Animals trained on at most, for the memory.
    largest: usize,
}

impl Plan {
    /// Divides the animals and lists the tasks of each model's learner. Reads lists of groups or folds on the calling
    /// rank.
    ///
    /// # Errors
    /// Divisions that the animals do not allow, and training parts too small for a trait.
    pub fn new(
        config: &StudyConfig,
        learners: &[Box<dyn Learner>],
        (animals, phenotypes): (&Animals, &Phenotypes),
        (ranks, seed): (usize, u64),
    ) -> Result<Plan> {
        let eligible: Vec<bool> =
            phenotypes.y.rows().into_iter().map(|r| r.iter().any(|y| !y.is_nan())).collect();
        let validations = config.validations.iter().map(|v| validation(v, animals, &eligible, seed));
        let validations = validations.collect::<Result<Vec<_>>>()?;
        validations.iter().try_for_each(|v| check_sizes(v, config, phenotypes))?;
        let patterns = phenotypes.patterns();
        let (mut models, mut tasks) = (Vec::new(), Vec::new());
        let features = content_of_features(&phenotypes.features);
        let reference = config.reference();
        let references = references(&config.models, reference);
        for (model, (m, learner)) in config.models.iter().zip(learners).enumerate() {
            let ranks = learner.varies_with_ranks().then_some(ranks);
            let features = if learner.reads_features() { &features[..] } else { "" };
            models.push(PlannedModel {
                name: m.name.clone(),
                mixture: m.mixture.clone(),
                reference: references[model],
                identity: format!(
                    "{} {:?} ranks {ranks:?}\n{}{features}",
                    m.kind,
                    m.mixture,
                    learner.settings()
                ),
                additive_gblup: learner.additive_gblup(),
            });
            let pieces: Vec<Option<usize>> =
                if learner.joint() { vec![None] } else { (0..patterns.len()).map(Some).collect() };
            for (validation, v) in validations.iter().enumerate() {
                for split in 0..v.splits.splits.len() {
                    for replicate in 0..m.replicates_of(&**learner) {
                        let task =
                            |&pattern: &Option<usize>| Task { model, validation, split, pattern, replicate };
                        tasks.extend(pieces.iter().map(task));
                    }
                }
            }
        }
        let largest = patterns.iter().map(|(animals, _)| animals.len()).max().unwrap_or(0);
        let all: Vec<usize> = (0..phenotypes.traits.len()).collect();
        let pieces = patterns.iter().map(|(_, traits)| traits).chain([&all]);
        let contents = pieces.map(|traits| content(phenotypes, traits)).collect();
        let margin = config.margin;
        Ok(Plan { models, validations, tasks, reference, margin, contents, seed, largest })
    }

    /// A plan of given parts.
    #[cfg(test)]
    pub(crate) fn of(models: Vec<String>, validations: Vec<Validation>, tasks: Vec<Task>) -> Plan {
        let model = |name| PlannedModel { name, ..PlannedModel::default() };
        let models = models.into_iter().map(model).collect();
        let (reference, margin, contents, seed, largest) = (0, 0.02, Vec::new(), 1, 0);
        Plan { models, validations, tasks, reference, margin, contents, seed, largest }
    }

    /// The tasks of one of `of` shares, which count from 1: those of a split and replicate stay together, and every model's
    /// are dealt evenly.
    pub fn share(&self, number: usize, of: usize) -> BTreeSet<usize> {
        let fit = |i: &usize| Task { pattern: None, ..self.tasks[*i] };
        let all: Vec<usize> = (0..self.tasks.len()).collect();
        let fits = all.chunk_by(|a, b| fit(a) == fit(b)).enumerate();
        fits.filter(|(k, _)| k % of + 1 == number).flat_map(|(_, tasks)| tasks.iter().copied()).collect()
    }

    /// The split of a task.
    pub fn roles(&self, task: Task) -> &[Role] {
        &self.validations[task.validation].splits.splits[task.split].roles
    }

    /// Animals trained on in a fit, at most.
    pub fn largest(&self) -> usize {
        self.largest
    }

    /// What a fit to all records of all traits learns from.
    pub fn records(&self) -> u64 {
        self.contents.last().copied().unwrap_or_default()
    }

    /// All that a task's result depends on beside program, device and genotypes: fits of the same identity are the same.
    pub fn identity(&self, task: Task) -> String {
        let v = &self.validations[task.validation];
        let split = &v.splits.splits[task.split];
        let roles: Vec<u8> = split.roles.iter().map(|role| *role as u8).collect();
        let records = task.pattern.map_or_else(|| self.records(), |pattern| self.contents[pattern]);
        let (split_seed, seed) = self.seeds(task);
        format!(
            "{}\nsplit {:016x} records {records:016x} seeds {split_seed:016x} {seed:016x}",
            self.models[task.model].identity,
            hash(&roles)
        )
    }

    /// Seeds of what the fits of a split have in common, and of the fit itself: by validation, repetition, fold and
    /// replicate, so that no two fits learn with the same random numbers.
    fn seeds(&self, task: Task) -> (u64, u64) {
        let v = &self.validations[task.validation];
        let split = &v.splits.splits[task.split];
        let place = format!("{}\n{}\n{}", v.name, split.repetition, split.fold);
        let of_split = Stream::new(self.seed, Purpose::Fits, hash(place.as_bytes())).next_u64();
        (of_split, Stream::new(of_split, Purpose::Fits, task.replicate as u64).next_u64())
    }
}

/// What tells features from others; nothing where there are none.
fn content_of_features(features: &Features) -> String {
    let bytes = postcard::to_stdvec(features).expect("plain values serialize");
    if features.0.is_empty() {
        String::new()
    } else {
        format!("features {:016x}\n", hash(&bytes))
    }
}

/// A number for what is learned from the records of some traits: names, records, weights and fixed effects.
fn content(phenotypes: &Phenotypes, traits: &[usize]) -> u64 {
    let names: Vec<&String> = traits.iter().map(|&t| &phenotypes.traits[t]).collect();
    let of = |x: &Array2<f64>| x.select(Axis(1), traits);
    let weights = phenotypes.weights.as_ref().map(of);
    let all = (names, of(&phenotypes.y), weights, &phenotypes.effects, &phenotypes.design);
    hash(&postcard::to_stdvec(&all).expect("plain values serialize"))
}

/// Divides the animals by one validation.
fn validation(v: &ValidationConfig, animals: &Animals, eligible: &[bool], seed: u64) -> Result<Validation> {
    let label = match v.labels() {
        Some(columns) => read_labels(&columns, animals)?,
        None => animals.group.clone(),
    };
    let herd = Herd { id: &animals.id, eligible, birth_date: &animals.birth_date, label: &label };
    let (place, scheme) = (format!("validation `{}`", v.label()), v.scheme());
    let splits = divide(&scheme, &herd, seed, &place)?;
    let groups = matches!(scheme, Scheme::Family { .. }).then(|| numbered(&label));
    Ok(Validation { name: v.label(), scheme, splits, families: groups.or_else(|| families(animals)) })
}

/// Families by the store: the offspring of a sire or, where he is not known, of a dam. Nothing where no two animals are of
/// one family.
fn families(animals: &Animals) -> Option<Vec<u32>> {
    let label = |(sire, dam): (&String, &String)| match (sire.is_empty(), dam.is_empty()) {
        (true, true) => String::new(),
        (false, _) => sire.clone(),
        (true, false) => format!("dam {dam}"),
    };
    let labels: Vec<String> = animals.sire.iter().zip(&animals.dam).map(label).collect();
    let found = numbered(&labels);
    let mut sizes = HashMap::<u32, usize>::new();
    found.iter().filter(|f| **f != u32::MAX).for_each(|f| *sizes.entry(*f).or_default() += 1);
    sizes.values().any(|&size| size > 1).then_some(found)
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

/// What keeps the tasks of a study. The root asks it to.
pub trait Keeps {
    /// Where the state of a fit is kept while it goes on.
    fn place(&self, plan: &Plan, task: usize) -> Place;

    /// Keeps what came of a task.
    ///
    /// # Errors
    /// What the disk meets.
    fn keep(&self, plan: &Plan, task: usize, done: &Done) -> Result<()>;
}

/// Does the tasks of `model` that are not in `done` yet, or those of them that are in a `share`, in waves of as many as
/// the learner takes at once. After each wave the root hands the new results to `kept`. Collective; every rank receives
/// all.
pub fn run_model(
    data: &Data,
    (plan, share): (&Plan, Option<&BTreeSet<usize>>),
    (model, learner): (usize, &dyn Learner),
    phenotypes: &Phenotypes,
    done: &mut BTreeMap<usize, Done>,
    kept: &dyn Keeps,
) -> Result<()> {
    let world = &data.world;
    let wanted = |i: &usize| {
        plan.tasks[*i].model == model && !done.contains_key(i) && share.is_none_or(|share| share.contains(i))
    };
    let open: Vec<usize> = (0..plan.tasks.len()).filter(wanted).collect();
    if open.is_empty() {
        return Ok(());
    }
    let progress = Progress::new(&plan.models[model].name, open.len());
    let each = learner.at_once(data, plan.largest);
    let waves = if learner.shares_splits() { whole_splits(plan, &open, each) } else { chunks(&open, each) };
    for wave in &waves {
        let tasks = || wave.iter().map(|&i| plan.tasks[i]);
        let sets: Vec<Training> = tasks().map(|task| training(plan, task, phenotypes)).collect();
        let places: Vec<Place> = wave.iter().map(|&i| kept.place(plan, i)).collect();
        let meter = Meter::begin();
        let learned = learner.fit_kept(data, &sets, &places)?;
        let costs = costs(data, meter.cost(), &learned);
        let of = |((&i, task), (learned, cost)): ((&usize, Task), (&Learned, Cost))| {
            (i, Done { task, cost, traits: tested(plan.roles(task), phenotypes, learned) })
        };
        let fitted = wave.iter().zip(tasks()).zip(learned.iter().zip(costs));
        let new: Vec<(usize, Done)> = fitted.filter(|((i, _), _)| !done.contains_key(i)).map(of).collect();
        let kept =
            if world.is_root() { new.iter().try_for_each(|(i, d)| kept.keep(plan, *i, d)) } else { Ok(()) };
        world.agree(kept)?;
        progress.add(new.len());
        done.extend(new);
    }
    Ok(())
}

/// What each fit of a wave took. The processors' and GPUs' time of all ranks is measured for the wave as a whole, and
/// belongs to its fits by their own seconds; what was first made for them is a part of it. Collective.
fn costs(data: &Data, own: Cost, learned: &[Learned]) -> Vec<Cost> {
    let gpu = if data.device.name().starts_with("cuda") { own.seconds } else { 0.0 };
    let mut sums = [own.cpu_seconds, gpu];
    data.world.sum_f64(&mut sums);
    let mut memory = [own.memory as f64];
    data.world.max(&mut memory);
    let [cpu_seconds, gpu_seconds] = sums;
    let wave = Cost { seconds: own.seconds, cpu_seconds, gpu_seconds, memory: memory[0] as u64 };
    let all: f64 = learned.iter().map(|l| l.seconds).sum();
    let share = |l: &Learned| if all > 0.0 { l.seconds / all } else { 1.0 / learned.len() as f64 };
    learned.iter().map(|l| Cost { seconds: l.seconds, ..wave.share(share(l)) }).collect()
}

/// Tasks in waves of at most `each`.
fn chunks(open: &[usize], each: usize) -> Vec<Vec<usize>> {
    open.chunks(each).map(<[usize]>::to_vec).collect()
}

/// The `open` tasks in waves of `each` splits. A wave has all tasks of its splits, also those that are done: what they
/// share, and so the last bits of the others, is then as if the study had never been interrupted.
fn whole_splits(plan: &Plan, open: &[usize], each: usize) -> Vec<Vec<usize>> {
    let of = |i: usize| (plan.tasks[i].model, plan.tasks[i].validation, plan.tasks[i].split);
    let all: Vec<usize> = (0..plan.tasks.len()).collect();
    let splits = all.chunk_by(|a, b| of(*a) == of(*b));
    let splits: Vec<&[usize]> =
        splits.filter(|tasks| tasks.iter().any(|i| open.binary_search(i).is_ok())).collect();
    splits.chunks(each).map(|splits| splits.concat()).collect()
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
    let (split_seed, seed) = plan.seeds(task);
    Training { groups, records, seed, split_seed, synthetic: None }
}

/// What a fit says of the tested animals.
fn tested(roles: &[Role], phenotypes: &Phenotypes, learned: &Learned) -> Vec<Predicted> {
    let predicted = |(k, &t): (usize, &usize)| {
        let y = phenotypes.y.column(t);
        let animals: Vec<usize> =
            (0..roles.len()).filter(|&i| roles[i] == Role::Test && !y[i].is_nan()).collect();
        let prediction: Vec<f64> = animals.iter().map(|&i| learned.values[[i, k]]).collect();
        let fixed: Vec<f64> =
            animals.iter().map(|&i| phenotypes.design.row(i).dot(&learned.fixed.column(k))).collect();
        Predicted {
            number: t,
            trained: learned.trained[k],
            estimate: learned.estimates[k].clone(),
            weights: learned.weights.iter().map(|(name, of)| (name.clone(), of[k])).collect(),
            tested: Tested {
                animal: animals.iter().map(|&i| i as u32).collect(),
                replicates: vec![prediction.clone()],
                prediction,
                adjusted: animals.iter().zip(&fixed).map(|(&i, f)| y[i] - f).collect(),
                record: animals.iter().map(|&i| y[i]).collect(),
                fixed,
            },
        }
    };
    learned.traits.iter().enumerate().map(predicted).collect()
}

/// The results as they are scored: the predictions of replicates are averaged, and the records of a split are adjusted
/// by the fixed effects of one reference fit, the same for all models: additive GBLUP's where the study has one (by
/// generalised least squares), else least squares. A model's own fixed effects stay for its total predictions.
pub fn scored(plan: &Plan, done: &BTreeMap<usize, Done>, phenotypes: &Phenotypes) -> BTreeMap<usize, Done> {
    let mut out: BTreeMap<usize, Done> = BTreeMap::new();
    let mut first = HashMap::new();
    for (&i, d) in done {
        let same = Task { replicate: 0, ..d.task };
        let at = *first.entry(same).or_insert(i);
        match out.get_mut(&at) {
            None => {
                out.insert(at, Done { task: same, ..d.clone() });
            }
            Some(all) => {
                all.cost = all.cost.then(d.cost);
                all.traits.iter_mut().zip(&d.traits).for_each(|(all, new)| add(all, new));
            }
        }
    }
    let targets = Targets::new(plan, &out, phenotypes);
    for d in out.values_mut() {
        for p in &mut d.traits {
            let fixed = targets.of((d.task.validation, d.task.split), p.number);
            let target = p.tested.animal.iter().zip(&p.tested.record).map(|(i, y)| y - fixed[i]);
            p.tested.adjusted = target.collect();
        }
    }
    out
}

/// Takes one more replicate of the same animals into the means.
fn add(all: &mut Predicted, new: &Predicted) {
    let count = all.tested.replicates.len() as f64;
    for ((_, all), (_, new)) in all.weights.iter_mut().zip(&new.weights) {
        *all = (count * *all + new) / (count + 1.0);
    }
    let (all, new) = (&mut all.tested, &new.tested);
    let mean = |all: &mut [f64], new: &[f64]| {
        all.iter_mut().zip(new).for_each(|(all, new)| *all = (count * *all + new) / (count + 1.0));
    };
    mean(&mut all.prediction, &new.prediction);
    mean(&mut all.fixed, &new.fixed);
    all.replicates.extend_from_slice(&new.replicates);
}

/// Fixed effects of tested animals by the reference fit, by validation, split and trait: animal and Wb̂.
struct Targets(HashMap<(usize, usize, usize), HashMap<u32, f64>>);

impl Targets {
    fn new(plan: &Plan, done: &BTreeMap<usize, Done>, phenotypes: &Phenotypes) -> Targets {
        let gblup = plan.models.iter().position(|m| m.additive_gblup);
        let mut found = HashMap::new();
        for d in done.values().filter(|d| Some(d.task.model) == gblup) {
            for p in &d.traits {
                let of = p.tested.animal.iter().copied().zip(p.tested.fixed.iter().copied()).collect();
                found.insert((d.task.validation, d.task.split, p.number), of);
            }
        }
        if gblup.is_none() {
            for (validation, v) in plan.validations.iter().enumerate() {
                for (split, s) in v.splits.splits.iter().enumerate() {
                    least_squares(&s.roles, phenotypes)
                        .into_iter()
                        .for_each(|(t, of)| drop(found.insert((validation, split, t), of)));
                }
            }
        }
        Targets(found)
    }

    fn of(&self, (validation, split): (usize, usize), number: usize) -> &HashMap<u32, f64> {
        &self.0[&(validation, split, number)]
    }
}

/// Wb̂ of the tested animals by (weighted) least squares on the training animals, trait by trait.
fn least_squares(roles: &[Role], phenotypes: &Phenotypes) -> Vec<(usize, HashMap<u32, f64>)> {
    let mut out = Vec::new();
    for (traits, group) in Group::among(phenotypes, |i| roles[i] == Role::Train) {
        for (k, t) in traits.into_iter().enumerate() {
            let effects = group.effects_of(group.y().column(k));
            let tested = (0..roles.len()).filter(|&i| roles[i] == Role::Test);
            let of = |i: usize| (i as u32, phenotypes.design.row(i).dot(&effects));
            out.push((t, tested.map(of).collect()));
        }
    }
    out
}
