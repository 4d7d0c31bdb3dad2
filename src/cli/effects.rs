//! What `reml` does beside one genetic variance a trait: several random effects, and pairs of traits.

use super::records::{refuse, Records, Relationships};
use super::reml::digits;
use super::{bad_option, Context};
use crate::comm::layout::Grid;
use crate::error::Result;
use crate::genotype::Store;
use crate::grm::{summa, Flavour, Markers, Method as Relation};
use crate::mixed::reml::bivariate::{self, Pair, Place};
use crate::mixed::reml::components::{self, Components};
use crate::mixed::reml::Method;
use crate::mixed::{Estimate, Group};
use crate::output;
use crate::records::Phenotypes;
use crate::report::table::{self, Table};
use ndarray::Array2;
use std::path::Path;

/// Suffixes of the results.
const VARIANCES: &str = ".variances.tsv";
const COMPONENTS: &str = ".components.tsv";
const CORRELATIONS: &str = ".gencorr.tsv";

/// The names of the random effects and the residual, and the matrices, on the root only.
type Named = (Vec<String>, Vec<Option<Array2<f64>>>);

/// What the user may ask for.
#[derive(Debug, clap::Args)]
pub struct Effects {
    /// Random effects of the store's genotypes: additive, dominance, epistasis (additive by additive)
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = effect, conflicts_with = "grm")]
    effects: Vec<Effect>,
    /// Genetic and residual correlations of all pairs of the traits
    #[arg(long)]
    bivariate: bool,
    /// Genetic and residual correlations of these pairs only
    #[arg(long, value_name = "A:B,C:D", value_delimiter = ',', conflicts_with = "bivariate")]
    pairs: Vec<String>,
}

/// A random effect by its name.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Effect {
    name: &'static str,
    relation: Relation,
}

fn effect(text: &str) -> std::result::Result<Effect, String> {
    let known = [
        ("additive", Relation::Product(Flavour::VanRaden1)),
        ("dominance", Relation::Product(Flavour::Dominance)),
        ("epistasis", Relation::Epistasis),
    ];
    let found = known.into_iter().find(|(name, _)| *name == text);
    found
        .map(|(name, relation)| Effect { name, relation })
        .ok_or_else(|| "expected additive, dominance or epistasis".into())
}

impl Effects {
    /// Whether the request goes beyond one genetic variance a trait by the spectral form, stochastic REML or moments.
    pub fn wanted(&self, records: &Records, method: Method) -> bool {
        self.pairs_wanted() || method == Method::Ai || !self.effects.is_empty() || records.grms.len() > 1
    }

    fn pairs_wanted(&self) -> bool {
        self.bivariate || !self.pairs.is_empty()
    }

    /// Reads, estimates, writes.
    pub fn run(
        &self,
        context: &mut Context,
        records: &Records,
        method: Method,
        (out, force): (&Path, bool),
    ) -> Result<()> {
        if !matches!(method, Method::Auto | Method::Ai) {
            let expected = "auto or ai for several random effects and pairs of traits";
            return Err(bad_option("method", expected, method.name(), "leave it out"));
        }
        let matrices = self.effects.len().max(records.grms.len()).max(1);
        if self.pairs_wanted() {
            if matrices > 1 {
                let advice = "take one matrix of relationships, or leave out the pairs";
                return Err(bad_option("bivariate", "one random effect", matrices, advice));
            }
            return self.pairs(context, records, out, force);
        }
        let suffixes = if matrices > 1 { &[VARIANCES, COMPONENTS][..] } else { &[VARIANCES] };
        refuse(context, out, suffixes, force)?;
        let (store, phenotypes) = records.read(context)?;
        let (traits, groups): (Vec<_>, Vec<_>) = Group::of(&phenotypes).into_iter().unzip();
        let groups: Vec<&Group> = groups.iter().collect();
        let (names, relations) = self.relations(context, records, &store)?;
        let found =
            context.phase("variance components", |world| components::estimate(world, relations, &groups))?;
        let found = in_order(&traits, found);
        context.world.on_root(|| {
            let sums: Vec<Estimate> = found.iter().map(|f| f.sum.clone()).collect();
            let path = |suffix| output::with_suffix(out, suffix);
            table::write_variances(&path(VARIANCES), force, &phenotypes.traits, &sums)?;
            if matrices > 1 {
                of_components(&phenotypes.traits, &names, &found).write(&path(COMPONENTS), force)?;
            }
            Ok(())
        })?;
        for (name, found) in phenotypes.traits.iter().zip(&found) {
            if let Some(reason) = found.sum.outcome.reason() {
                log::warn!("{name}: no variances can be estimated: {reason}");
            }
            let part =
                |(name, c): (&String, &components::Component)| format!("{name} {}", digits(c.proportion));
            let parts: Vec<String> = names.iter().zip(&found.components).map(part).collect();
            let (n, note) = (found.sum.n, found.sum.outcome.word());
            context.say(format_args!("{name}: n {n}, shares {}, converged {note}", parts.join(", ")));
        }
        context.finish(out)
    }

    /// Correlations of pairs of traits.
    fn pairs(&self, context: &mut Context, records: &Records, out: &Path, force: bool) -> Result<()> {
        refuse(context, out, &[CORRELATIONS], force)?;
        let (store, phenotypes) = records.read(context)?;
        let chosen = self.chosen(&phenotypes)?;
        let (traits, groups): (Vec<_>, Vec<_>) = Group::of(&phenotypes).into_iter().unzip();
        let groups: Vec<&Group> = groups.iter().collect();
        let place = |t: usize| -> Place {
            let at = |k: usize| traits[k].iter().position(|&x: &usize| x == t).map(|column| (k, column));
            (0..traits.len()).find_map(at).expect("every trait has a group")
        };
        let places: Vec<(Place, Place)> = chosen.iter().map(|&[a, b]| (place(a), place(b))).collect();
        let g = self.relations(context, records, &store)?.1.remove(0);
        let found = context.phase("correlations", |world| bivariate::estimate(world, g, &groups, &places))?;
        let named: Vec<[&str; 2]> = chosen.iter().map(|p| p.map(|t| &*phenotypes.traits[t])).collect();
        context
            .world
            .on_root(|| of_pairs(&named, &found).write(&output::with_suffix(out, CORRELATIONS), force))?;
        for ([a, b], pair) in named.iter().zip(&found) {
            if let Some(reason) = pair.outcome.reason() {
                log::warn!("{a} and {b}: no covariances can be estimated: {reason}");
            }
            let [r, se] = [pair.genetic.correlation, pair.genetic.correlation_se].map(digits);
            let note = pair.outcome.word();
            context.say(format_args!("{a} and {b}: r_g {r} (se {se}), converged {note}"));
        }
        context.finish(out)
    }

    /// The pairs asked for, by the numbers of their traits.
    fn chosen(&self, phenotypes: &Phenotypes) -> Result<Vec<[usize; 2]>> {
        let t = phenotypes.traits.len();
        if t < 2 {
            return Err(bad_option("bivariate", "two traits or more", t, "name them with --traits"));
        }
        if self.bivariate {
            return Ok((0..t).flat_map(|a| (a + 1..t).map(move |b| [a, b])).collect());
        }
        let parse = |text: &String| {
            let number = |name: &str| phenotypes.traits.iter().position(|t| t == name);
            // A name may hold a colon itself.
            let split = |(at, _): (usize, &str)| Some([number(&text[..at])?, number(&text[at + 1..])?]);
            match text.match_indices(':').find_map(split) {
                Some([a, b]) if a != b => Ok([a, b]),
                _ => {
                    let example = format!("such as {}:{}", phenotypes.traits[0], phenotypes.traits[1]);
                    Err(bad_option("pairs", "two of the traits", text, &example))
                }
            }
        };
        self.pairs.iter().map(parse).collect()
    }

    /// The names of the random effects and the residual, and the matrices, on the root only.
    fn relations(&self, context: &mut Context, records: &Records, store: &Store) -> Result<Named> {
        let (mut names, mut matrices) = (Vec::new(), Vec::new());
        for path in &records.grms {
            matrices.push(Relationships::open(context, path, store)?.whole(context)?);
            names.push(stem(path));
        }
        let default = [Effect { name: "additive", relation: Relation::Product(Flavour::VanRaden1) }];
        let effects = match (records.grms.is_empty(), self.effects.is_empty()) {
            (false, _) => &[][..],
            (true, true) => &default,
            (true, false) => &self.effects,
        };
        let mut markers: Option<Markers> = None;
        for Effect { name, relation } in effects.iter().copied() {
            if markers.as_ref().is_none_or(|m| m.flavour() != relation.flavour()) {
                let backend = context.backend.clone();
                markers = Some(context.phase("read genotypes", |world| {
                    Markers::load(world, backend, store, relation.flavour())
                })?);
            }
            let markers = markers.as_ref().expect("just loaded");
            let formed = context.phase("relationships", |world| {
                Ok(summa::form(markers, relation, Grid::of(world.size()))?.gather())
            })?;
            matrices.push(formed);
            names.push(name.to_owned());
        }
        names.push("residual".into());
        Ok((names, matrices))
    }
}

/// A file's name without folder and ending.
fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| path.display().to_string(), |s| s.to_string_lossy().into_owned())
}

/// What belongs to the traits of groups, in the order of the traits.
fn in_order(traits: &[Vec<usize>], found: Vec<Vec<Components>>) -> Vec<Components> {
    let mut all: Vec<(usize, Components)> =
        traits.iter().flatten().copied().zip(found.into_iter().flatten()).collect();
    all.sort_by_key(|(t, _)| *t);
    all.into_iter().map(|(_, found)| found).collect()
}

fn of_components(traits: &[String], names: &[String], found: &[Components]) -> Table {
    let mut table = Table::new(&[
        "trait",
        "component",
        "variance",
        "variance_se",
        "proportion",
        "proportion_se",
        "lrt",
        "p",
        "converged",
    ]);
    for (name, found) in traits.iter().zip(found) {
        for (effect, c) in names.iter().zip(&found.components) {
            table.push(vec![
                name.as_str().into(),
                effect.as_str().into(),
                c.variance.into(),
                c.variance_se.into(),
                c.proportion.into(),
                c.proportion_se.into(),
                c.lrt.into(),
                c.p.into(),
                components::word(c.boundary, found.sum.outcome).into(),
            ]);
        }
    }
    table
}

fn of_pairs(names: &[[&str; 2]], found: &[Pair]) -> Table {
    let mut table = Table::new(&[
        "trait1",
        "trait2",
        "n1",
        "n2",
        "n_both",
        "var_g1",
        "var_g2",
        "cov_g",
        "cov_g_se",
        "var_e1",
        "var_e2",
        "cov_e",
        "cov_e_se",
        "r_g",
        "r_g_se",
        "r_e",
        "r_e_se",
        "loglik",
        "p_rg",
        "iterations",
        "converged",
    ]);
    for ([a, b], p) in names.iter().zip(found) {
        let mut row = vec![(*a).into(), (*b).into(), p.n[0].into(), p.n[1].into(), p.both.into()];
        for c in [&p.genetic, &p.residual] {
            row.extend(
                [c.variances[0], c.variances[1], c.covariance, c.covariance_se].map(table::Entry::from),
            );
        }
        for c in [&p.genetic, &p.residual] {
            row.extend([c.correlation, c.correlation_se].map(table::Entry::from));
        }
        row.extend([p.log_likelihood.into(), p.p.into(), p.iterations.into(), p.outcome.word().into()]);
        table.push(row);
    }
    table
}
