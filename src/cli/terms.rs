//! The random effects that `reml` and `gblup` take: from options or a file of models to records and a model.

use super::records::{order, Records, Relationships};
use super::{bad_option, Context};
use crate::comm::layout::Grid;
use crate::config;
use crate::error::{Error, Result};
use crate::genotype::Store;
use crate::grm::file::{self, gcta};
use crate::grm::{summa, GenotypeMatrix, Method, Scaling};
use crate::linalg::{Operator, RowMatrix, Rows};
use crate::lines;
use crate::mixed::formula::{Formula, Part, Source, Term, PERMANENT};
use crate::mixed::large::LargeModel;
use crate::mixed::model::{gaussian, hadamard, Model, RandomEffect};
use crate::mixed::plan;
use crate::records::{Classes, Columns, Factor, LongRecords, Phenotypes};
use ndarray::Array2;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What the user may ask for.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Random effects")]
pub struct Terms {
    /// Relationships from the store's genotypes: additive (vanraden1), vanraden2, yang, dominance,
    /// epistasis (additive by additive), gaussian or gaussian(H); or a product such as
    /// additive*environment, where environment is a column of the phenotypes' table
    /// [default: additive, unless --kernel or --grm names others]
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = Term::of_relations, conflicts_with = "grm")]
    effects: Vec<Term>,
    /// Relationships from a file: of `genialearn grm`, or GCTA's PREFIX.grm.bin (repeatable)
    #[arg(long = "kernel", value_name = "FILE", conflicts_with = "grm")]
    kernels: Vec<PathBuf>,
    /// A class of independent levels, such as herd_year: a column of the phenotypes' table, or
    /// FILE:COLUMN of animals (repeatable)
    #[arg(long, value_name = "COLUMN")]
    random: Vec<String>,
    /// What the records of an animal have in common beside its genotype
    #[arg(long)]
    permanent_environment: bool,
    /// A fixed class of many levels, such as herd_year_season, absorbed by its means
    #[arg(long, value_name = "COLUMN")]
    absorb: Option<String>,
    /// The phenotypes' table may hold several lines an animal, each a record of its own (so it does with
    /// the options above but --effects and --kernel)
    #[arg(long)]
    repeated: bool,
    /// Models in words, one line a trait (or all): TOML such as
    /// milk = "parity + (1|herd_year) + additive + permanent_environment"
    #[arg(long, value_name = "FILE", conflicts_with_all = ["effects", "kernels", "random", "permanent_environment", "absorb", "grm", "covar", "qcovar"])]
    model: Option<PathBuf>,
}

/// Traits with one model.
pub struct Analysis {
    /// Names of the traits; empty for all.
    traits: Vec<String>,
    formula: Formula,
    /// Whether fixed effects come from the formula instead of `--covar` and `--qcovar`.
    own_fixed: bool,
    /// Whether the table is in long format.
    long: bool,
}

/// What an analysis needs.
pub struct Prepared {
    /// The records.
    pub long: LongRecords,
    /// The random effects.
    pub model: Solvable,
    /// The genotypes of the effects whose SNP effects are known: the effect, and Z.
    pub markers: Vec<(usize, Rc<GenotypeMatrix>)>,
}

/// A model, and how it is solved.
pub enum Solvable {
    /// With V in memory.
    Exact(Model),
    /// By products with the relationships.
    Iterative(LargeModel),
}

/// What the user says of how a model is solved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// With V in memory where it fits and is small.
    Auto,
    /// With V in memory.
    Exact,
    /// By products with the relationships.
    Iterative,
}

impl Solvable {
    /// The random effects.
    pub fn effects(&self) -> &[RandomEffect] {
        match self {
            Solvable::Exact(model) => model.effects(),
            Solvable::Iterative(model) => model.effects(),
        }
    }
}

impl Terms {
    /// Whether the request goes beyond one matrix of relationships and one record an animal.
    pub fn wanted(&self) -> bool {
        let classes = self.permanent_environment || self.repeated || !self.random.is_empty();
        let relations = !self.effects.is_empty() || !self.kernels.is_empty();
        relations || classes || self.absorb.is_some() || self.model.is_some()
    }

    /// The models that the user asked for; `traits` are those named by --traits, `grms` the files of --grm.
    pub fn analyses(
        &self,
        context: &mut Context,
        traits: &[String],
        grms: &[PathBuf],
    ) -> Result<Vec<Analysis>> {
        if let Some(path) = &self.model {
            context.input(path)?;
            return context.world.agree(read_models(path, traits));
        }
        let mut random: Vec<Term> = self.effects.clone();
        random.extend(self.kernels.iter().chain(grms).map(|path| Term::of_file(path)));
        if random.is_empty() {
            random.push(Term::of_relations("additive").expect("a known name"));
        }
        random.extend(self.random.iter().map(|class| Term::of_class(class)));
        if self.permanent_environment {
            random.push(Term::of_class(PERMANENT));
        }
        if let Some(twice) = (1..random.len()).find(|&k| random[..k].iter().any(|t| t.name == random[k].name))
        {
            let found = format!("{} twice", random[twice].name);
            return Err(bad_option("effects", "every random effect once", found, "remove one of the two"));
        }
        let classes = random.iter().any(|t| t.parts.iter().any(|p| !matches!(p, Part::Relation(_))));
        let long = self.repeated || classes || self.absorb.is_some();
        let formula = Formula { absorbed: self.absorb.clone(), random, ..Formula::default() };
        Ok(vec![Analysis { traits: traits.to_vec(), formula, own_fixed: false, long }])
    }
}

/// The models in a file, traits of the same model together.
fn read_models(path: &Path, traits: &[String]) -> Result<Vec<Analysis>> {
    let whole = lines::read_text(path)?;
    let lines: toml::Table = config::parse(&whole, path)?;
    let place = |key: &String| {
        let begins = |l: &str| l.trim_start_matches([' ', '"', '\'']).starts_with(key.as_str());
        whole.lines().position(begins)
    };
    let wrong = |key: &str, problem: String| {
        let advice = "write the model as in the examples of --help";
        Error::input(format!("{}, {key}", path.display()), "a model in words", problem, advice)
    };
    let text = |key: &str| -> Result<Option<String>> {
        match lines.get(key) {
            Some(toml::Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(wrong(key, "no text in quotation marks".into())),
            None => Ok(None),
        }
    };
    let named: Vec<String> = match (traits, lines.contains_key("all")) {
        ([], true) if lines.len() == 1 => Vec::new(),
        ([], true) => {
            return Err(wrong(
                "all",
                "other lines beside it, which leave open what all are (--traits)".into(),
            ))
        }
        ([], false) => {
            let mut keys: Vec<String> = lines.keys().cloned().collect();
            keys.sort_by_key(place);
            keys
        }
        (traits, _) => traits.to_vec(),
    };
    if lines.is_empty() {
        return Err(wrong("line 1", "no line".into()));
    }
    if let (false, Some(key)) = (traits.is_empty(), lines.keys().find(|k| *k != "all" && !named.contains(k)))
    {
        return Err(wrong(key, "a trait that --traits lacks".into()));
    }
    let parse = |key: &str, text: &str| Formula::parse(text).map_err(|problem| wrong(key, problem));
    let of = |traits, formula| Analysis { traits, formula, own_fixed: true, long: true };
    if named.is_empty() {
        let text = text("all")?.expect("the only line");
        return Ok(vec![of(Vec::new(), parse("all", &text)?)]);
    }
    let mut found: Vec<Analysis> = Vec::new();
    for name in named {
        let (key, text) = match (text(&name)?, text("all")?) {
            (Some(text), _) => (name.as_str(), text),
            (None, Some(text)) => ("all", text),
            (None, None) => return Err(wrong(&name, "no line for it, nor for all".into())),
        };
        let formula = parse(key, &text)?;
        match found.iter_mut().find(|a| a.formula == formula) {
            Some(same) => same.traits.push(name),
            None => found.push(of(vec![name], formula)),
        }
    }
    Ok(found)
}

impl Analysis {
    /// The random effects in words.
    pub fn terms(&self) -> &[Term] {
        &self.formula.random
    }

    /// Whether there is more than relationships of one kind and one record an animal.
    pub fn several(&self) -> bool {
        self.formula.random.len() > 1 || self.long || self.formula.random.iter().any(|t| t.parts.len() > 1)
    }

    /// The records and the relationships, on the root only, of a model of one random effect. Collective.
    pub fn one_relation(
        &self,
        context: &mut Context,
        records: &Records,
        store: &Store,
    ) -> Result<(Phenotypes, Option<Array2<f64>>)> {
        let long = self.read(context, records, store)?;
        let mut makes = Relations::new(store, false);
        for term in &self.formula.random {
            effect(term, &long, store, |source| makes.number(context, source, true))?;
        }
        Ok((long.records, makes.matrices.remove(0)))
    }

    /// Reads the records and forms the relationships, or loads what multiplies by them. Collective.
    pub fn prepare(
        &self,
        context: &mut Context,
        records: &Records,
        store: &Store,
        way: Way,
    ) -> Result<Prepared> {
        let long = self.read(context, records, store)?;
        let iterative = self.iterative(context, &long, way)?;
        let mut makes = Relations::new(store, iterative);
        let mut effects = Vec::new();
        for term in &self.formula.random {
            let whole = term.relations() > 1;
            effects.push(effect(term, &long, store, |source| makes.number(context, source, whole))?);
        }
        check_repeats(&effects, &long)?;
        for (effect, numbers) in &mut effects {
            if let [a, b] = numbers[..] {
                effect.relation = Some(makes.product(a, b));
            }
        }
        let effects: Vec<RandomEffect> = effects.into_iter().map(|(effect, _)| effect).collect();
        let plain = |k: &usize| effects[*k].class.is_none() && self.formula.random[*k].parts.len() == 1;
        let markers = (0..effects.len()).filter(plain).filter_map(|k| {
            let of = |(relation, _): &&(usize, Rc<GenotypeMatrix>)| Some(*relation) == effects[k].relation;
            Some((k, makes.markers.iter().find(of)?.1.clone()))
        });
        let markers = markers.collect();
        let model = match iterative {
            false => Solvable::Exact(Model::new(&context.world, makes.matrices, effects)),
            true => {
                let animals = Rows::new(&context.world, store.n_animals());
                let relations = makes.into_operators(&animals);
                Solvable::Iterative(LargeModel::new(relations, effects, long.animal.clone(), animals))
            }
        };
        Ok(Prepared { long, model, markers })
    }

    /// Whether the model is to be solved by products: the root decides. Collective.
    fn iterative(&self, context: &Context, long: &LongRecords, way: Way) -> Result<bool> {
        if way != Way::Auto {
            return Ok(way == Way::Iterative);
        }
        let relations = self.formula.random.iter().filter(|t| t.relations() > 0).count();
        let (records, bytes) = (long.records.y.nrows(), Model::bytes(long.records.y.nrows(), relations));
        let free = plan::available_bytes() as f64;
        let iterative = context.world.decide(records > Model::LARGEST || bytes > 0.8 * free);
        let way = if iterative { "products with the relationships" } else { "V in memory" };
        log::info!(
            "{records} records: {way} (exact {:.1} GB of {:.1} GB free, taken up to {} records)",
            bytes / 1e9,
            free / 1e9,
            Model::LARGEST
        );
        Ok(iterative)
    }

    fn read(&self, context: &mut Context, records: &Records, store: &Store) -> Result<LongRecords> {
        if !self.long {
            return Ok(LongRecords::of(records.tables.read_with(context, store, &self.traits, None)?));
        }
        let mut random: Vec<Columns> = Vec::new();
        for class in self.formula.random.iter().flat_map(Term::classes) {
            let found = columns(class);
            if !random.contains(&found) {
                random.push(found);
            }
        }
        let absorbed = self.formula.absorbed.as_deref().map(columns);
        for columns in random.iter().chain(&absorbed).filter(|c: &&Columns| !c.names.is_empty()) {
            context.input(&columns.path)?;
        }
        let fixed = self.own_fixed.then_some([&self.formula.classes[..], &self.formula.numbers]);
        records.tables.read_long(context, store, (&self.traits, fixed), &Classes { random, absorbed })
    }
}

/// A class as the column of the records, or of a file, that it stands in.
fn columns(class: &str) -> Columns {
    class.parse().unwrap_or_else(|never: std::convert::Infallible| match never {})
}

/// An effect with the numbers of its relationships.
fn effect(
    term: &Term,
    long: &LongRecords,
    store: &Store,
    mut number: impl FnMut(&Source) -> Result<usize>,
) -> Result<(RandomEffect, Vec<usize>)> {
    let mut numbers = Vec::new();
    let mut class: Option<Factor> = None;
    for part in &term.parts {
        match part {
            Part::Relation(source) => numbers.push(number(source)?),
            Part::Animal => class = Some(long.animals_as_class(PERMANENT, &store.animals().id)),
            Part::Class(text) => {
                let name = text.rsplit_once(':').map_or(text.as_str(), |(_, name)| name);
                class = Some(long.class(name).or(long.class(text)).expect("read with the records").clone());
            }
        }
    }
    let permanent = term.parts == [Part::Animal];
    let relation = numbers.first().copied();
    Ok((RandomEffect { name: term.name.clone(), relation, class, permanent }, numbers))
}

/// A class whose levels have one record each is the residual; records that repeat want a permanent environment.
fn check_repeats(effects: &[(RandomEffect, Vec<usize>)], long: &LongRecords) -> Result<()> {
    for (effect, _) in effects.iter().filter(|(e, _)| e.relation.is_none()) {
        let class = effect.class.as_ref().expect("no relationships, so a class");
        if class.counts().iter().all(|&n| n < 2) {
            let option = if effect.permanent { "permanent-environment" } else { "random" };
            let found = format!("one record in each of the {} of {}", class.levels.len(), effect.name);
            return Err(bad_option(option, "levels with several records", found, "leave it out"));
        }
    }
    if long.most_repeated() > 1 && !effects.iter().any(|(e, _)| e.permanent) {
        log::warn!(
            "animals have up to {} records and the model no permanent environment: what these share counts as \
             genetic or residual (--permanent-environment)",
            long.most_repeated()
        );
    }
    Ok(())
}

/// The relationships that are made as they are needed: matrices on the root, and genotypes.
struct Relations<'a> {
    store: &'a Store,
    products: bool, // whether genotypes do where relationships are Z Z' / c
    known: Vec<(Source, bool)>,
    matrices: Vec<Option<Array2<f64>>>,
    markers: Vec<(usize, Rc<GenotypeMatrix>)>,
}

impl<'a> Relations<'a> {
    fn new(store: &'a Store, products: bool) -> Self {
        Relations { store, products, known: Vec::new(), matrices: Vec::new(), markers: Vec::new() }
    }

    /// The number of a source's relationships, which are made unless they are there; `whole` matrices can be
    /// multiplied element by element.
    fn number(&mut self, context: &mut Context, source: &Source, whole: bool) -> Result<usize> {
        let whole = whole || !self.products;
        if let Some(k) = self.place(source, whole) {
            return Ok(k);
        }
        let matrix = match source {
            Source::File(path) => from_file(context, path, self.store)?,
            Source::Genotypes(method) => self.form(context, *method, whole)?,
            Source::Gaussian(h) => {
                let method = Method::Product(Scaling::VanRaden1);
                let g = match self.place(&Source::Genotypes(method), true) {
                    Some(k) => self.matrices[k].clone(),
                    None => self.formed(context, method)?.1,
                };
                g.map(|g| gaussian(g.view(), *h))
            }
        };
        Ok(self.add(source.clone(), whole, matrix))
    }

    fn place(&self, source: &Source, whole: bool) -> Option<usize> {
        self.known.iter().position(|(known, is_whole)| known == source && (*is_whole || !whole))
    }

    fn add(&mut self, source: Source, whole: bool, matrix: Option<Array2<f64>>) -> usize {
        let whole = whole || !matches!(source, Source::Genotypes(method) if method.effects().is_some());
        self.known.push((source, whole));
        self.matrices.push(matrix);
        self.known.len() - 1
    }

    /// Relationships from the genotypes; Z stays where SNP effects follow from it.
    fn form(&mut self, context: &mut Context, method: Method, whole: bool) -> Result<Option<Array2<f64>>> {
        let number = self.matrices.len();
        if !whole && method.effects().is_some() {
            let markers = self.load(context, method)?;
            self.markers.push((number, Rc::new(markers)));
            return Ok(None);
        }
        let (markers, formed) = self.formed(context, method)?;
        if method.effects().is_some() {
            self.markers.push((number, Rc::new(markers)));
        }
        Ok(formed)
    }

    fn load(&self, context: &mut Context, method: Method) -> Result<GenotypeMatrix> {
        let (backend, store) = (context.backend.clone(), self.store);
        context.phase("read genotypes", |world| GenotypeMatrix::load(world, backend, store, method.scaling()))
    }

    fn formed(&self, context: &mut Context, method: Method) -> Result<(GenotypeMatrix, Option<Array2<f64>>)> {
        let markers = self.load(context, method)?;
        let formed = context.phase("relationships", |world| {
            Ok(summa::form(&markers, method, Grid::of(world.size()))?.gather())
        })?;
        Ok((markers, formed))
    }

    /// The number of the product of two matrices, element by element.
    fn product(&mut self, a: usize, b: usize) -> usize {
        let both = self.matrices[a].as_ref().zip(self.matrices[b].as_ref());
        let product = both.map(|(a, b)| hadamard(a.view(), b.view()));
        self.matrices.push(product);
        self.matrices.len() - 1
    }

    /// All relationships as what multiplies by them: genotypes, or each rank's rows of a matrix. Collective.
    fn into_operators(self, animals: &Rows) -> Vec<Box<dyn Operator>> {
        let Relations { known, matrices, markers, .. } = self;
        let of = |(k, matrix): (usize, Option<Array2<f64>>)| -> Box<dyn Operator> {
            let genotypes = markers.iter().find(|(number, _)| *number == k);
            match (known.get(k), genotypes) {
                (Some((_, false)), Some((_, markers))) => Box::new(markers.clone()),
                _ => Box::new(RowMatrix::scatter(animals.clone(), matrix)),
            }
        };
        matrices.into_iter().enumerate().map(of).collect()
    }
}

/// Relationships of the store's animals in a file of `genialearn grm` or GCTA, on the root.
fn from_file(context: &mut Context, path: &Path, store: &Store) -> Result<Option<Array2<f64>>> {
    let text = path.to_string_lossy();
    let prefix = PathBuf::from(text.strip_suffix(".bin").unwrap_or(&text).trim_end_matches(".grm"));
    let parts = gcta::paths(&prefix);
    if path.extension().is_some_and(|e| e == "h5") || !parts[0].exists() {
        return Relationships::open(context, path, store)?.whole(context);
    }
    for part in &parts {
        context.input(part)?;
    }
    let ids = &store.animals().id;
    context.phase("read relationships", |world| {
        let mut g = None;
        world.on_root(|| {
            let file::Grm { header, g: read } = gcta::read(&prefix)?;
            g = Some(match order(&header.ids, ids, &parts[2])? {
                None => read,
                Some(o) => Array2::from_shape_fn((o.len(), o.len()), |(i, j)| read[[o[i], o[j]]]),
            });
            Ok(())
        })?;
        Ok(g)
    })
}
