//! `gblup` with several random effects, classes and repeated records: the solution of every effect, exactly.

use super::conjugate_gradient::ConjugateGradient;
use super::effects::{estimate, tell, write as write_variances, OfTraits, COMPONENTS, VARIANCES};
use super::records::{refuse, Records};
use super::terms::{Analysis, Prepared, Solvable, Terms, Way};
use super::{bad_option, Context};
use crate::error::{Error, Result};
use crate::genotype::Store;
use crate::grm::GenotypeMatrix;
use crate::mixed::gblup::Fit;
use crate::mixed::model::{RandomEffect, Solutions};
use crate::mixed::reml::components::Components;
use crate::mixed::{Estimate, Group};
use crate::output;
use crate::predict::gblup::{snp_effects, GblupModel};
use crate::records::table::Table as Input;
use crate::report::table::{self, Table};
use ndarray::{concatenate, s, Array2, ArrayView2, Axis};
use std::path::Path;
use std::rc::Rc;

/// Breeding values, fixed effects and SNP effects.
const EBV: &str = ".ebv.tsv";
const FIXED: &str = ".fixed.tsv";
const MODEL: &str = ".model.h5";
/// Values of every genetic effect and their sum.
pub const GENOMIC: &str = ".genomic.tsv";
/// Solutions of every level of every random effect.
const RANDOM: &str = ".random.tsv";

/// What `gblup` was asked for.
pub struct Several<'a> {
    /// The random effects.
    pub terms: &'a Terms,
    /// The tables.
    pub records: &'a Records,
    /// The components of earlier `reml`, where they are known.
    pub variances: Option<&'a Path>,
    /// How the equations are solved.
    pub way: Way,
    /// The options of conjugate gradients.
    pub cg: &'a ConjugateGradient,
    /// Names of the results begin so, and whether existing ones are replaced.
    pub out: (&'a Path, bool),
}

/// One analysis, solved.
struct Solved {
    traits: Vec<String>,
    effects: Vec<RandomEffect>,
    levels: Vec<Vec<String>>,
    fixed: Vec<String>,
    solutions: Solutions,
    model: Option<GblupModel>,
}

impl Several<'_> {
    /// Reads, estimates variances that are not known, solves, writes. Collective.
    ///
    /// # Errors
    /// Models without relationships, variances that cannot be estimated, and what reading and solving refuse.
    pub fn run(&self, context: &mut Context) -> Result<()> {
        let (out, force) = self.out;
        let analyses = self.terms.analyses(context, self.records.tables.traits(), &self.records.grms)?;
        let several = analyses.iter().any(Analysis::several);
        let mut results = vec![EBV, FIXED, MODEL, RANDOM, VARIANCES];
        results.extend(several.then_some(COMPONENTS));
        results.extend(analyses.iter().any(|a| genetic(a) > 1).then_some(GENOMIC));
        if analyses.iter().any(|a| genetic(a) == 0) {
            let advice = "add additive, or estimate variances alone with `genialearn reml`";
            return Err(bad_option("effects", "relationships of the animals in every model", "none", advice));
        }
        refuse(context, out, &results, force)?;
        self.cg.refuse_models(context, out, analyses.len(), force)?;
        let store = self.records.tables.open(context)?;
        let (mut solved, mut variances) = (Vec::new(), Vec::new());
        for (number, analysis) in analyses.iter().enumerate() {
            let prepared = analysis.prepare(context, self.records, &store, self.way)?;
            let used = self.variances(context, &prepared)?;
            tell(context, &used);
            solved.push(solve(context, &prepared, &used, &store, (self.cg, out, number))?);
            variances.push(used);
        }
        context.phase("write results", |world| {
            world.on_root(|| {
                write_variances(&variances, several, (out, force))?;
                write(&solved, &store.animals().id, (out, force))
            })
        })?;
        self.cg.tidy(context, out, analyses.len());
        let traits: usize = solved.iter().map(|s| s.traits.len()).sum();
        context.say(format_args!(
            "{}.ebv.tsv: {} animals, {traits} traits",
            out.display(),
            store.n_animals()
        ));
        context.finish(out)
    }

    /// Estimated components, or those of the file.
    fn variances(&self, context: &mut Context, prepared: &Prepared) -> Result<OfTraits> {
        let found = match self.variances {
            None => estimate(context, prepared, None)?,
            Some(path) => {
                context.input(path)?;
                let variances = context.world.on_root(|| read_components(path, prepared))?;
                OfTraits::given(&prepared.long, prepared.model.effects(), variances)
            }
        };
        let outcome = |(name, f): (&String, &Components)| Some((name.clone(), f.sum.outcome.reason()?));
        match found.traits.iter().zip(&found.found).find_map(outcome) {
            None => Ok(found),
            Some((name, reason)) => {
                let problem = format!("no variances can be estimated: {reason}");
                let advice = "leave the trait or an effect out, or give --variances";
                Err(Error::failed(format!("trait {name}"), problem, advice))
            }
        }
    }
}

/// How many effects have relationships without a class.
fn genetic(analysis: &Analysis) -> usize {
    analysis.terms().iter().filter(|t| t.is_genetic_value()).count()
}

/// The variances of an analysis's effects and residual in a table of components.
fn read_components(path: &Path, prepared: &Prepared) -> Result<Vec<Vec<f64>>> {
    let table = Input::read_keyed_lines(path, &["trait"], None)?;
    let columns = table.find(&["component".into(), "variance".into()])?;
    let names: Vec<String> =
        prepared.model.effects().iter().map(|e| e.name.clone()).chain(["residual".into()]).collect();
    let of_trait = |name: &String| {
        let value = |effect: &String| {
            let here = |&r: &usize| table.ids()[r] == *name && table.cell(r, columns[0]) == Some(effect);
            let Some(row) = (0..table.ids().len()).find(here) else {
                let expected = format!("a line for {effect} of {name}");
                let advice = "estimate it with `genialearn reml` and the same effects";
                return Err(Error::input(path.display(), expected, "none", advice));
            };
            match table.number(row, columns[1])? {
                Some(x) if x > 0.0 || (x == 0.0 && effect != "residual") => Ok(x),
                _ => Err(Error::input(
                    table.place(row, columns[1]),
                    "a variance (at least 0, the residual's above 0)",
                    table.cell(row, columns[1]).unwrap_or("none"),
                    "estimate it with `genialearn reml`",
                )),
            }
        };
        names.iter().map(value).collect::<Result<Vec<f64>>>()
    };
    prepared.long.records.traits.iter().map(of_trait).collect()
}

/// Solves one analysis with its variances, and makes SNP effects of its additive and dominance values.
fn solve(
    context: &mut Context,
    prepared: &Prepared,
    used: &OfTraits,
    store: &Store,
    (cg, out, number): (&ConjugateGradient, &Path, usize),
) -> Result<Solved> {
    let Prepared { long, model, markers } = prepared;
    let (traits, groups): (Vec<Vec<usize>>, Vec<Group>) = Group::of_lines(long).into_iter().unzip();
    let groups: Vec<&Group> = groups.iter().collect();
    let of = |t: &usize| used.found[*t].components.iter().map(|c| c.variance).collect::<Vec<f64>>();
    let variances: Vec<Vec<Vec<f64>>> = traits.iter().map(|t| t.iter().map(of).collect()).collect();
    let n = store.n_animals();
    let solutions = match model {
        Solvable::Exact(model) => {
            cg.unused()?;
            context.phase("solve", |world| model.solve(world, (&traits, &groups), &variances, n))?
        }
        Solvable::Iterative(model) => {
            let names: Vec<&str> = model.effects().iter().map(|e| e.name.as_str()).collect();
            let used = ("choice of effects and variances", format!("{} {variances:?}", names.join(" ")));
            cg.solve(context, (out, number), &long.records, used, |settings, monitor| {
                model.solve((&traits, &groups), &variances, settings, monitor)
            })?
        }
    };
    let mut fixed = long.records.effects.clone();
    if let Some(factor) = &long.absorbed {
        fixed.extend(factor.levels.iter().map(|level| format!("{}={level}", factor.name)));
    }
    let snps = context.phase("SNP effects", |_| {
        Ok(model_of(markers, model.effects(), store, (&long.records.traits, &fixed), (&solutions, used)))
    })?;
    Ok(Solved {
        traits: long.records.traits.clone(),
        effects: model.effects().to_vec(),
        levels: model.effects().iter().map(|e| e.level_names(&store.animals().id)).collect(),
        fixed,
        solutions,
        model: snps,
    })
}

/// Fixed effects with the levels of an absorbed class behind, (q + L, t); 0 for levels without records.
fn all_fixed(solutions: &Solutions) -> Array2<f64> {
    let absorbed = solutions.absorbed.mapv(|x| if x.is_nan() { 0.0 } else { x });
    concatenate(Axis(0), &[solutions.fixed.view(), absorbed.view()]).expect("columns are the traits")
}

/// SNP effects of the additive values, with those of dominance beside them; nothing where neither has any. Collective.
fn model_of(
    markers: &[(usize, Rc<GenotypeMatrix>)],
    effects: &[RandomEffect],
    store: &Store,
    (traits, fixed): (&[String], &[String]),
    (solutions, used): (&Solutions, &OfTraits),
) -> Option<GblupModel> {
    let gather = |(k, markers): &(usize, Rc<GenotypeMatrix>)| {
        let estimates =
            used.found.iter().map(|f| Estimate { var_g: f.components[*k].variance, ..f.sum.clone() });
        let (ebv, py) = (solutions.random[*k].clone(), solutions.py.clone());
        let fit = Fit { estimates: estimates.collect(), fixed: all_fixed(solutions), ebv, py };
        let effects = snp_effects(markers, &fit);
        GblupModel::gather(markers, store.variants(), traits, (fixed, &fit.fixed), &effects)
    };
    let main = main_effect(effects);
    let of = |k: usize| markers.iter().find(|(effect, _)| *effect == k);
    let mut additive = gather(of(main)?);
    let dominance = markers.iter().find(|(k, m)| *k != main && !m.scaling().is_additive());
    if additive.coding.is_additive() {
        additive.dominance = dominance.map(|markers| Box::new(gather(markers)));
    }
    Some(additive)
}

/// The effect whose values are the breeding values: the additive one, else the first with relationships.
fn main_effect(effects: &[RandomEffect]) -> usize {
    const ADDITIVE: [&str; 4] = ["additive", "vanraden1", "vanraden2", "yang"];
    let values = |e: &RandomEffect| e.is_genetic() && e.class.is_none();
    let additive = effects.iter().position(|e| values(e) && ADDITIVE.contains(&e.name.as_str()));
    additive.or(effects.iter().position(values)).expect("checked when asked for")
}

fn write(all: &[Solved], ids: &[String], (out, force): (&Path, bool)) -> Result<()> {
    let path = |suffix: &str| output::with_suffix(out, suffix);
    let traits: Vec<String> = all.iter().flat_map(|s| s.traits.clone()).collect();
    let ebv: Vec<ArrayView2<f64>> =
        all.iter().map(|s| s.solutions.random[main_effect(&s.effects)].view()).collect();
    let ebv = concatenate(Axis(1), &ebv).expect("rows are the animals");
    table::write_matrix(&path(EBV), force, ("id", ids), &traits, ebv.view())?;
    write_fixed(all, &traits, &path(FIXED), force)?;
    write_random(all, &path(RANDOM), force)?;
    let (names, values) = genomic(all, ids.len());
    if !names.is_empty() {
        table::write_matrix(&path(GENOMIC), force, ("id", ids), &names, values.view())?;
    }
    match all {
        [Solved { model: Some(model), .. }] => model.write(&path(MODEL), force),
        [_] => {
            log::info!("no SNP effects follow from these relationships: no model is written");
            Ok(())
        }
        _ => {
            log::info!("traits of different models have no common file of SNP effects: none is written");
            Ok(())
        }
    }
}

/// Values of every genetic effect and their sum, where there is more than one: `trait.effect` and `trait.total`.
fn genomic(all: &[Solved], n: usize) -> (Vec<String>, Array2<f64>) {
    let (mut names, mut columns) = (Vec::new(), Vec::new());
    for solved in all {
        let values: Vec<usize> = (0..solved.effects.len())
            .filter(|&k| solved.effects[k].is_genetic() && solved.effects[k].class.is_none())
            .collect();
        for (t, name) in solved.traits.iter().enumerate().filter(|_| values.len() > 1) {
            let of = |k: &usize| solved.solutions.random[*k].slice(s![.., t]).to_owned();
            names.extend(values.iter().map(|&k| format!("{name}.{}", solved.effects[k].name)));
            columns.extend(values.iter().map(of));
            names.push(format!("{name}.total"));
            columns.push(values.iter().map(of).fold(ndarray::Array1::zeros(n), |a, b| a + b));
        }
    }
    let values = Array2::from_shape_fn((n, columns.len()), |(i, j)| columns[j][i]);
    (names, values)
}

/// One row an effect, NA for effects of other models.
fn write_fixed(all: &[Solved], traits: &[String], path: &Path, force: bool) -> Result<()> {
    let mut names: Vec<String> = Vec::new();
    for name in all.iter().flat_map(|s| &s.fixed) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let mut values = Array2::from_elem((names.len(), traits.len()), f64::NAN);
    let mut first = 0;
    for solved in all {
        let of = &solved.solutions;
        let rows = of.fixed.rows().into_iter().chain(of.absorbed.rows());
        for (name, row) in solved.fixed.iter().zip(rows) {
            let to = names.iter().position(|n| n == name).expect("collected above");
            values.slice_mut(s![to, first..first + solved.traits.len()]).assign(&row);
        }
        first += solved.traits.len();
    }
    table::write_matrix(path, force, ("effect", &names), traits, values.view())
}

/// One row an effect, level and trait.
fn write_random(all: &[Solved], path: &Path, force: bool) -> Result<()> {
    let mut table = Table::new(&["effect", "level", "trait", "solution"]);
    for solved in all {
        let random = solved.effects.iter().zip(&solved.levels).zip(&solved.solutions.random);
        for ((effect, levels), values) in random {
            for (level, row) in levels.iter().zip(values.rows()) {
                for (name, &x) in solved.traits.iter().zip(row) {
                    table.push(vec![
                        effect.name.as_str().into(),
                        level.as_str().into(),
                        name.as_str().into(),
                        x.into(),
                    ]);
                }
            }
        }
    }
    table.write(path, force)
}
