//! `genialearn gblup`: genomic breeding values.

use super::accuracy::Accuracy;
use super::conjugate_gradient::ConjugateGradient;
use super::dense::DenseFits;
use super::joint::{self, Joint};
use super::records::{refuse, Records, Relationships};
use super::reml::tell;
use super::several::Several;
use super::terms::{Terms, Way};
use super::{bad_option, in_range, Context};
use crate::error::{Error, Result};
use crate::genotype::Store;
use crate::grm::{GenotypeMatrix, Method, Scaling};
use crate::mixed::gblup::{fit_stochastic, join, Fit};
use crate::mixed::plan::{Origin, Plan, Problem, Solver, SolverChoice, Wishes};
use crate::mixed::reml::{read_variances, stochastic, Given};
use crate::mixed::{Group, Outcome};
use crate::output;
use crate::predict::gblup::snp_effects;
use crate::predict::GblupModel;
use crate::records::Phenotypes;
use crate::report::table;
use std::path::{Path, PathBuf};

/// Examples at the end of `--help`.
const EXAMPLES: &str = "Examples:
  genialearn gblup cows.h5 --pheno traits.tsv --out out/cows
  genialearn gblup cows.h5 --pheno traits.tsv --variances out/cows.variances.tsv --out out/again
  genialearn gblup cows.h5 --pheno traits.tsv --reliability --loo --out out/sure
  mpirun -n 6 genialearn gblup cows.h5 --pheno traits.tsv --solver cholesky --grid 2x3 --out out/cows
  genialearn gblup cows.h5 --pheno traits.tsv --joint --out out/joint
  genialearn gblup cows.h5 --pheno traits.tsv --joint --rank 5 --out out/five
  mpirun -n 4 genialearn gblup cows.h5 --pheno traits.tsv --h2 0.3 --weights w.tsv --out out/cows
  genialearn gblup cows.h5 --pheno traits.tsv --h2 0.3 --solver pcg --resume --out out/cows
  genialearn gblup cows.h5 --pheno lactations.tsv --traits milk,fat --covar lactations.tsv:parity \\
    --random herd_year --permanent-environment --out out/dairy
  genialearn gblup cows.h5 --pheno traits.tsv --effects additive,dominance --out out/both
  genialearn gblup cows.h5 --pheno lactations.tsv --model models.toml --out out/words
  mpirun -n 8 genialearn gblup cows.h5 --pheno lactations.tsv --traits milk --random herd_year \\
    --permanent-environment --variances out/many.components.tsv --solver pcg --out out/many

Writes PREFIX.ebv.tsv (breeding values of all animals, recorded or not), PREFIX.variances.tsv
(estimated by REML unless given), PREFIX.fixed.tsv (fixed effects) and PREFIX.model.h5 (SNP
effects, for `genialearn predict`; none with a --grm by epistasis or yang). Solvers: cholesky
and eigen hold G in memory, pcg never forms it; all give the same breeding values for given
variances, pcg to about --tolerance. Where G does not fit into memory (or with pcg) variances
that are not given come from stochastic REML, with the Monte-Carlo error of h2 in the column
mc_se. pcg keeps its state in PREFIX.checkpoint now and then and when it is interrupted, and
goes on from it with --resume. --reliability and --loo add two tables. --joint fits all traits in
one model, so that traits with few records gain from correlated ones with many, and writes the
covariances that it used to PREFIX.covariances.tsv; with --rank K it multiplies by K columns.

Several random effects, classes and repeated records (--effects, --kernel, --random,
--permanent-environment, --absorb, --repeated, --model) are solved with V in memory, or by products
with the relationships beyond 12,000 records and with --solver pcg; variances come from REML or from
--variances PREFIX.components.tsv. PREFIX.random.tsv has every level of every effect,
PREFIX.genomic.tsv additive and dominance values and their sum; the model file has the SNP effects
of both. docs/gblup.md describes models and tables.";

/// Suffixes of all results.
const RESULTS: [&str; 4] = [".ebv.tsv", ".variances.tsv", ".fixed.tsv", ".model.h5"];

/// What the user may type.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    records: Records,
    /// Variance components, as `reml` writes them [default: estimated]
    #[arg(long, value_name = "FILE", conflicts_with = "h2")]
    variances: Option<PathBuf>,
    /// Heritability of all traits [default: estimated]
    #[arg(long, value_name = "H2", value_parser = heritability)]
    h2: Option<f64>,
    /// auto, cholesky, eigen or pcg
    #[arg(long, value_name = "NAME", default_value = "auto")]
    solver: SolverChoice,
    #[command(flatten)]
    joint: Joint,
    #[command(flatten)]
    accuracy: Accuracy,
    /// Names of the results begin so
    #[arg(long, short, value_name = "PREFIX")]
    out: PathBuf,
    /// Replace existing results
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    terms: Terms,
    #[command(flatten)]
    cg: ConjugateGradient,
}

fn heritability(text: &str) -> std::result::Result<f64, String> {
    in_range(text, 0.0, 0.999999)
}

/// Reads, fits, writes.
pub fn run(args: Args, context: &mut Context) -> Result<()> {
    if args.terms.wanted() || args.records.grms.len() > 1 {
        return several(&args, context);
    }
    args.joint.check(args.solver)?;
    let more = [args.accuracy.suffixes(), args.joint.suffixes()].concat();
    refuse(context, &args.out, &[&RESULTS, &more[..]].concat(), args.force)?;
    match args.joint.wanted() {
        true => args.cg.refuse_models(context, &args.out, 1, args.force)?,
        false => args.cg.refuse(context, &args.out, args.force)?,
    }
    let (store, records) = args.records.read(context)?;
    let known = read_known(&args, context, &records)?;
    let (markers, read) = read_genotypes(&args, context, &store)?;
    let has_effects = read.as_ref().is_none_or(Relationships::has_effects);
    if !has_effects && args.accuracy.samples() {
        let advice = "these relationships are no product of genotypes that could be sampled";
        return Err(bad_option("reliability", "exact", "sampled", advice));
    }
    let (fit, covariances) = if args.joint.wanted() {
        let (fit, covariances) = args.joint.fit(context, &args.out, (&markers, &records), &args.cg)?;
        (fit, Some(covariances))
    } else {
        (fit(&args, context, &markers, read.as_ref(), &records, known)?, None)
    };
    check_estimated(&records.traits, &fit)?;
    warn_of_boundaries(&records.traits, &fit);
    tell(context, &records.traits, &fit.estimates);
    let model = context.phase("SNP effects", |_| {
        let of = |effects| {
            let fixed = (&records.effects[..], &fit.fixed);
            GblupModel::gather(&markers, store.variants(), &records.traits, fixed, &effects)
        };
        Ok(has_effects.then(|| of(snp_effects(&markers, &fit))))
    })?;
    if model.is_none() {
        log::info!("no SNP effects follow from these relationships: no model is written");
    }
    let (n, t) = fit.ebv.dim();
    context.say(format_args!("{}.ebv.tsv: {n} animals, {t} traits", args.out.display()));
    context.phase("write results", |world| {
        world.on_root(|| {
            if let Some(used) = &covariances {
                joint::write(&args.out, args.force, &records.traits, used)?;
            }
            write(&args.out, args.force, &store, &records, &fit, model.as_ref())
        })
    })?;
    args.cg.tidy(context, &args.out, 1);
    let (data, fitted, out) = ((&store, &markers), (&records, &fit), (&*args.out, args.force));
    args.accuracy.write(context, data, fitted, args.records.grm()?.map(PathBuf::as_path), out)?;
    context.finish(&args.out)
}

/// Several random effects, classes or repeated records: by the exact solution alone.
fn several(args: &Args, context: &mut Context) -> Result<()> {
    let refused = [
        ("h2", args.h2.is_some()),
        ("joint", args.joint.wanted()),
        ("solver", matches!(args.solver, SolverChoice::Dense(Solver::Eigen))),
        ("reliability", args.accuracy.wanted()),
    ];
    if let Some((option, _)) = refused.into_iter().find(|(_, given)| *given) {
        let expected = "options of one random effect and one record an animal";
        let advice = "leave it out: several effects are solved exactly, with --variances or REML";
        return Err(bad_option(option, expected, "it beside several effects or repeated records", advice));
    }
    let (variances, out) = (args.variances.as_deref(), (&*args.out, args.force));
    let way = match args.solver {
        SolverChoice::Auto => Way::Auto,
        SolverChoice::Dense(_) => Way::Exact,
        SolverChoice::ConjugateGradient => Way::Iterative,
    };
    let (terms, records, cg) = (&args.terms, &args.records, &args.cg);
    Several { terms, records, variances, way, cg, out }.run(context)
}

/// A trait whose variances ended at the boundary has breeding values that mean little.
fn warn_of_boundaries(traits: &[String], fit: &Fit) {
    for (name, e) in traits.iter().zip(&fit.estimates) {
        match e.outcome {
            Outcome::Boundary => log::warn!("{name}: the likelihood rises until h2 = {:.6}", e.h2),
            Outcome::Failed => log::warn!("{name}: the search for h2 did not settle at {:.6}", e.h2),
            _ => {}
        }
    }
}

/// A trait without an estimate has no breeding values: an error that tells why.
fn check_estimated(traits: &[String], fit: &Fit) -> Result<()> {
    let none = traits.iter().zip(&fit.estimates).find_map(|(name, e)| Some((name, e.outcome.reason()?)));
    none.map_or(Ok(()), |(name, reason)| {
        let advice = "leave the trait out, or give its heritability with --h2";
        Err(Error::failed(
            format!("trait {name}"),
            format!("no variances can be estimated: {reason}"),
            advice,
        ))
    })
}

/// The variances [σ²g, σ²e] of each trait, where they are known.
fn read_known(args: &Args, context: &mut Context, records: &Phenotypes) -> Result<Option<Vec<[f64; 2]>>> {
    let Some(path) = &args.variances else { return Ok(None) };
    context.input(path)?;
    Ok(Some(context.world.on_root(|| read_variances(path, &records.traits))?))
}

/// The genotypes, and where G stands when it comes from a file.
fn read_genotypes(
    args: &Args,
    context: &mut Context,
    store: &Store,
) -> Result<(GenotypeMatrix, Option<Relationships>)> {
    let relationships = match args.records.grm()? {
        Some(_) if args.solver == SolverChoice::ConjugateGradient => {
            let advice = "leave out --grm: pcg multiplies by the genotypes themselves";
            return Err(bad_option("grm", "a solver that holds G", "pcg", advice));
        }
        Some(path) => Some(Relationships::open(context, path, store)?),
        None => None,
    };
    let of = |r: &Relationships| r.method().map(Method::scaling);
    let scaling = relationships.as_ref().map_or(Ok(Scaling::VanRaden1), of)?;
    let backend = context.backend.clone();
    let markers =
        context.phase("read genotypes", |world| GenotypeMatrix::load(world, backend, store, scaling))?;
    relationships.as_ref().map_or(Ok(()), |r| r.check(&markers))?;
    Ok((markers, relationships))
}

/// Solves the model of all traits with the solver that fits.
fn fit(
    args: &Args,
    context: &mut Context,
    markers: &GenotypeMatrix,
    read: Option<&Relationships>,
    records: &Phenotypes,
    known: Option<Vec<[f64; 2]>>,
) -> Result<Fit> {
    let (traits, groups): (Vec<Vec<usize>>, Vec<Group>) = Group::of(records).into_iter().unzip();
    let groups: Vec<&Group> = groups.iter().collect();
    let of = |t: usize, group: &Group| match (&known, args.h2) {
        (Some(known), _) => Some(Given::variances(known[t], group.mean_weight())),
        (None, h2) => h2.map(|h2| Given { h2, total: None }),
    };
    let of_group = |(t, group): (&Vec<usize>, &&Group)| t.iter().map(|&t| of(t, group)).collect();
    let given: Option<Vec<Vec<Given>>> = traits.iter().zip(&groups).map(of_group).collect();
    let from_file = |read: &Relationships| Origin::File { genotypes: read.has_effects() };
    let problem = Problem::new(markers.n(), markers.m(), &groups, given.as_deref())
        .with_g(read.map_or(Origin::Genotypes, from_file));
    let wishes = Wishes { solver: args.solver, grid: args.records.grid };
    let plan = Plan::make(&context.world, wishes, &problem)?;
    let stochastic = stochastic::Params { seed: context.seed, ..stochastic::Params::default() };
    let fits = match (plan, &given) {
        (Plan::ConjugateGradient, Some(given)) => {
            args.cg.fit(context, &args.out, (markers, records), &groups, given)?
        }
        (Plan::ConjugateGradient, None) => {
            args.cg.unused()?;
            let params = args.cg.params();
            context.phase("variances and solve", |world| {
                world.agree(fit_stochastic(markers, &groups, (stochastic, params)))
            })?
        }
        (Plan::Dense(plan), _) => {
            args.cg.unused()?;
            let dense = DenseFits { groups: &groups, given: given.as_deref(), plan };
            dense.fit(context, "solve", read, Some(markers))?
        }
    };
    Ok(join(&traits, fits))
}

fn write(
    prefix: &Path,
    force: bool,
    store: &Store,
    records: &Phenotypes,
    fit: &Fit,
    model: Option<&GblupModel>,
) -> Result<()> {
    let path = |suffix: &str| output::with_suffix(prefix, suffix);
    let traits = &records.traits;
    table::write_matrix(&path(RESULTS[0]), force, ("id", &store.animals().id), traits, fit.ebv.view())?;
    table::write_variances(&path(RESULTS[1]), force, traits, &fit.estimates)?;
    table::write_matrix(&path(RESULTS[2]), force, ("effect", &records.effects), traits, fit.fixed.view())?;
    model.map_or(Ok(()), |model| model.write(&path(RESULTS[3]), force))
}
