//! What `reml` does beside one genetic variance a trait: several random effects, and pairs of traits.

use super::records::{refuse, Records};
use super::reml::digits;
use super::terms::{Analysis, Prepared, Solvable, Terms, Way};
use super::{bad_option, Context};
use crate::error::Result;
use crate::mixed::model::RandomEffect;
use crate::mixed::reml::bivariate::{self, Pair, Place};
use crate::mixed::reml::components::{self, Components};
use crate::mixed::reml::monte_carlo;
use crate::mixed::reml::Method;
use crate::mixed::{Estimate, Group};
use crate::output;
use crate::records::LongRecords;
use crate::records::Phenotypes;
use crate::report::table::{self, Table};
use std::path::Path;

/// Suffixes of the results.
pub const VARIANCES: &str = ".variances.tsv";
pub const COMPONENTS: &str = ".components.tsv";
const CORRELATIONS: &str = ".gencorr.tsv";

/// The share that the records of an animal have in common, among the components.
const REPEATABILITY: &str = "repeatability";

/// What the user may ask for.
#[derive(Debug, clap::Args)]
pub struct Effects {
    /// Genetic and residual correlations of all pairs of the traits
    #[arg(long)]
    bivariate: bool,
    /// Genetic and residual correlations of these pairs only
    #[arg(long, value_name = "A:B,C:D", value_delimiter = ',', conflicts_with = "bivariate")]
    pairs: Vec<String>,
    #[command(flatten)]
    terms: Terms,
}

/// The variances of some traits.
pub struct OfTraits {
    /// Names of the traits.
    pub traits: Vec<String>,
    /// Names of the random effects and the residual.
    pub effects: Vec<String>,
    /// The components of each trait.
    pub found: Vec<Components>,
}

impl Effects {
    /// Whether the request goes beyond one genetic variance a trait by the spectral form, stochastic REML or moments.
    pub fn wanted(&self, records: &Records, method: Method) -> bool {
        self.pairs_wanted() || method == Method::Ai || self.terms.wanted() || records.grms.len() > 1
    }

    fn pairs_wanted(&self) -> bool {
        self.bivariate || !self.pairs.is_empty()
    }

    /// Reads, estimates, writes.
    pub fn run(
        &self,
        context: &mut Context,
        records: &Records,
        (method, probes): (Method, Option<usize>),
        (out, force): (&Path, bool),
    ) -> Result<()> {
        let way = match method {
            Method::Auto => Way::Auto,
            Method::Ai => Way::Exact,
            Method::Stochastic if !self.pairs_wanted() => Way::Iterative,
            Method::Stochastic | Method::Exact | Method::He => {
                let expected = "auto or ai (or stochastic, but for pairs of traits)";
                return Err(bad_option("method", expected, method.name(), "leave it out"));
            }
        };
        let analyses = self.terms.analyses(context, records.tables.traits(), &records.grms)?;
        if self.pairs_wanted() {
            if analyses.len() > 1 || analyses[0].several() {
                let advice = "take one matrix of relationships, or leave out the pairs";
                let found = analyses.iter().flat_map(|a| a.terms()).map(|t| t.name.clone());
                let found = found.collect::<Vec<_>>().join(", ");
                return Err(bad_option(
                    "bivariate",
                    "one random effect and one record an animal",
                    found,
                    advice,
                ));
            }
            return self.pairs(context, records, &analyses[0], (out, force));
        }
        let several = analyses.iter().any(Analysis::several);
        let suffixes = if several { &[VARIANCES, COMPONENTS][..] } else { &[VARIANCES] };
        refuse(context, out, suffixes, force)?;
        let store = records.tables.open(context)?;
        let mut all = Vec::new();
        for analysis in &analyses {
            let prepared = analysis.prepare(context, records, &store, way)?;
            all.push(estimate(context, &prepared, probes)?);
        }
        context.world.on_root(|| write(&all, several, (out, force)))?;
        all.iter().for_each(|found| tell(context, found));
        context.finish(out)
    }

    /// Correlations of pairs of traits.
    fn pairs(
        &self,
        context: &mut Context,
        records: &Records,
        analysis: &Analysis,
        (out, force): (&Path, bool),
    ) -> Result<()> {
        refuse(context, out, &[CORRELATIONS], force)?;
        let store = records.tables.open(context)?;
        let (phenotypes, g) = analysis.one_relation(context, records, &store)?;
        let chosen = self.chosen(&phenotypes)?;
        let (traits, groups): (Vec<_>, Vec<_>) = Group::of(&phenotypes).into_iter().unzip();
        let groups: Vec<&Group> = groups.iter().collect();
        let place = |t: usize| -> Place {
            let at = |k: usize| traits[k].iter().position(|&x: &usize| x == t).map(|column| (k, column));
            (0..traits.len()).find_map(at).expect("every trait has a group")
        };
        let places: Vec<(Place, Place)> = chosen.iter().map(|&[a, b]| (place(a), place(b))).collect();
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
            let note = pair.outcome.label();
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
}

impl OfTraits {
    /// Variances that were given: those of the effects and the residual of each trait.
    pub fn given(long: &LongRecords, effects: &[RandomEffect], variances: Vec<Vec<f64>>) -> OfTraits {
        let of = |(t, variances): (usize, Vec<f64>)| {
            let n = long.records.recorded(t).len();
            Components::given(effects, n, variances, mean_weight(long, t))
        };
        OfTraits {
            traits: long.records.traits.clone(),
            effects: names(effects),
            found: variances.into_iter().enumerate().map(of).collect(),
        }
    }
}

/// Mean weight of the records of a trait, 1 without weights.
fn mean_weight(long: &LongRecords, t: usize) -> f64 {
    let rows = long.records.recorded(t);
    long.records
        .weights
        .as_ref()
        .map_or(1.0, |w| rows.iter().map(|&i| w[[i, t]]).sum::<f64>() / rows.len() as f64)
}

/// Names of the random effects and the residual.
fn names(effects: &[RandomEffect]) -> Vec<String> {
    effects.iter().map(|e| e.name.clone()).chain(["residual".to_owned()]).collect()
}

/// Estimates the variances of an analysis.
pub fn estimate(context: &mut Context, prepared: &Prepared, probes: Option<usize>) -> Result<OfTraits> {
    let Prepared { long, model, .. } = prepared;
    let (traits, groups): (Vec<_>, Vec<_>) = Group::of_lines(long).into_iter().unzip();
    let groups: Vec<&Group> = groups.iter().collect();
    let seed = context.seed;
    let found = context.phase("variance components", |world| match model {
        Solvable::Exact(model) => components::estimate_model(world, model, &groups),
        Solvable::Iterative(model) => {
            let default = monte_carlo::Params::default();
            let params = monte_carlo::Params { probes: probes.unwrap_or(default.probes), seed, ..default };
            world.agree(model.estimate(&groups, params))
        }
    })?;
    Ok(OfTraits {
        traits: long.records.traits.clone(),
        effects: names(model.effects()),
        found: in_order(&traits, found),
    })
}

/// Writes the tables of variances, and of components where there are several.
pub fn write(all: &[OfTraits], several: bool, (out, force): (&Path, bool)) -> Result<()> {
    let traits: Vec<String> = all.iter().flat_map(|a| a.traits.clone()).collect();
    let sums: Vec<Estimate> = all.iter().flat_map(|a| a.found.iter().map(|f| f.sum.clone())).collect();
    let path = |suffix| output::with_suffix(out, suffix);
    table::write_variances(&path(VARIANCES), force, &traits, &sums)?;
    if several {
        of_components(all).write(&path(COMPONENTS), force)?;
    }
    Ok(())
}

/// A line on the shares of each trait's variances, and why there are none.
pub fn tell(context: &Context, all: &OfTraits) {
    for (name, found) in all.traits.iter().zip(&all.found) {
        if let Some(reason) = found.sum.outcome.reason() {
            log::warn!("{name}: no variances can be estimated: {reason}");
        }
        let part = |(name, c): (&String, &components::Component)| format!("{name} {}", digits(c.proportion));
        let parts: Vec<String> = all.effects.iter().zip(&found.components).map(part).collect();
        let (n, note) = (found.sum.n, found.sum.outcome.label());
        context.say(format_args!("{name}: n {n}, shares {}, converged {note}", parts.join(", ")));
    }
}

/// What belongs to the traits of groups, in the order of the traits.
fn in_order(traits: &[Vec<usize>], found: Vec<Vec<Components>>) -> Vec<Components> {
    let mut all: Vec<(usize, Components)> =
        traits.iter().flatten().copied().zip(found.into_iter().flatten()).collect();
    all.sort_by_key(|(t, _)| *t);
    all.into_iter().map(|(_, found)| found).collect()
}

fn of_components(all: &[OfTraits]) -> Table {
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
        "variance_mc_se",
    ]);
    let of_all = all.iter().flat_map(|a| a.traits.iter().zip(&a.found).map(|(t, f)| (t, f, &a.effects)));
    for (name, found, effects) in of_all {
        for (effect, c) in effects.iter().zip(&found.components) {
            table.push(vec![
                name.as_str().into(),
                effect.as_str().into(),
                c.variance.into(),
                c.variance_se.into(),
                c.proportion.into(),
                c.proportion_se.into(),
                c.lrt.into(),
                c.p.into(),
                components::label(c.boundary, found.sum.outcome).into(),
                c.variance_mc_se.into(),
            ]);
        }
        if let Some([share, se]) = found.repeatability {
            let none = || table::Entry::from(f64::NAN);
            let mut row = vec![name.as_str().into(), REPEATABILITY.into(), none(), none()];
            row.extend([share.into(), se.into(), none(), none(), found.sum.outcome.label().into(), none()]);
            table.push(row);
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
        row.extend([p.log_likelihood.into(), p.p.into(), p.iterations.into(), p.outcome.label().into()]);
        table.push(row);
    }
    table
}
