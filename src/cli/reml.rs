//! `genialearn reml`: variance components and heritabilities.

use super::dense::DenseFits;
use super::effects::Effects;
use super::probes;
use super::records::{refuse, Records, Relationships};
use super::Context;
use crate::comm::World;
use crate::error::Result;
use crate::genotype::Store;
use crate::grm::{GenotypeMatrix, Scaling};
use crate::mixed::gblup::join;
use crate::mixed::plan::{Dense, Origin, Plan, Problem, Solver, SolverChoice, Wishes};
use crate::mixed::reml::Method;
use crate::mixed::{Estimate, Group, Outcome};
use crate::output;
use crate::records::Phenotypes;
use crate::report::table;
use std::path::PathBuf;

/// Examples at the end of `--help`.
const EXAMPLES: &str = "Examples:
  genialearn reml cows.h5 --pheno traits.tsv --out out/cows
  mpirun -n 6 genialearn reml cows.h5 --pheno traits.tsv --grid 2x3 --out out/cows
  mpirun -n 4 genialearn reml cows.h5 --pheno traits.tsv --covar herd.tsv:sex,herd --out out/cows
  genialearn reml cows.h5 --pheno traits.tsv --method he --out out/cows
  genialearn reml cows.h5 --pheno traits.tsv --effects additive,dominance --out out/two
  genialearn reml cows.h5 --pheno traits.tsv --traits milk,fat --bivariate --out out/pairs
  genialearn reml cows.h5 --pheno lactations.tsv --traits milk,fat --covar lactations.tsv:parity \\
    --random herd_year --permanent-environment --out out/dairy
  genialearn reml cows.h5 --pheno lactations.tsv --traits milk --effects additive,additive*region \\
    --absorb herd_year_season --out out/region
  genialearn reml cows.h5 --pheno traits.tsv --kernel g.h5 --kernel pedigree.grm.bin --out out/both
  genialearn reml cows.h5 --pheno lactations.tsv --model models.toml --out out/words
  mpirun -n 8 genialearn reml cows.h5 --pheno lactations.tsv --traits milk --method stochastic \\
    --random herd_year --permanent-environment --out out/many

models.toml has a line a trait, or one for all of them:
  milk = \"parity + number(age) + (1|herd_year) + additive + dominance + permanent_environment\"

Writes PREFIX.variances.tsv: trait, n, var_g, var_e and h2 with their standard errors, loglik
(as GCTA defines it), iterations, and converged: yes, no, or boundary when the likelihood rises
until h2 is 0 or 1 (standard errors do not hold there). Record weights count relative to their
mean: var_e is that of a record of weight 1, h2 that of the mean weight. Where nothing can be
estimated variances are NA, converged is no, and a warning tells why. Methods: exact holds a few
matrices of animals x animals in memory, which --grid shares among all ranks; stochastic only
multiplies by the genotypes, and tells the Monte-Carlo error of h2 in the column mc_se; he is the
method of moments of Haseman and Elston, and writes the genetic and residual covariances of all pairs
of traits to PREFIX.gencov.tsv. auto is exact where it fits into memory, else stochastic; ai is exact
REML by average information, for several random effects, repeated records and pairs of traits; these
take stochastic too (but pairs), and by themselves beyond 12,000 records: the Monte-Carlo error of
every variance is in the column variance_mc_se of the components.

Several random effects add PREFIX.components.tsv: variance, proportion, and the test against
leaving the effect out; with --permanent-environment the repeatability too. With --bivariate or
--pairs PREFIX.gencorr.tsv is written instead: covariances and correlations. Tables and methods are
described in docs/variance-components.md, effects and models in words in docs/gblup.md.";

/// What the user may type.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    records: Records,
    /// auto, exact, ai, stochastic or he
    #[arg(long, value_name = "NAME", default_value = "auto")]
    method: Method,
    /// Random vectors of stochastic and he, a group of traits [default: 32 and 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    probes: Option<u32>,
    /// Names of the results begin so
    #[arg(long, short, value_name = "PREFIX")]
    out: PathBuf,
    /// Replace existing results
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    effects: Effects,
}

/// Reads, estimates, writes.
pub fn run(args: Args, context: &mut Context) -> Result<()> {
    let probes = args.probes.map(|p| p as usize);
    if args.effects.wanted(&args.records, args.method) {
        return args.effects.run(context, &args.records, (args.method, probes), (&args.out, args.force));
    }
    let results: &[&str] = if args.method == Method::He { &probes::RESULTS } else { &probes::RESULTS[..1] };
    refuse(context, &args.out, results, args.force)?;
    let (store, records) = args.records.read(context)?;
    let how = probes::Probes { records: &args.records, count: probes };
    let estimates = match args.method {
        Method::He => {
            let moments = how.moments(context, &store, &records)?;
            context.world.on_root(|| {
                let path = output::with_suffix(&args.out, probes::RESULTS[1]);
                table::write_covariances(&path, args.force, &records.traits, &moments)
            })?;
            moments.estimates
        }
        Method::Stochastic => how.stochastic(context, &store, &records)?,
        Method::Auto | Method::Exact | Method::Ai => match plan(&args, context, (&store, &records))? {
            Plan::ConjugateGradient => how.stochastic(context, &store, &records)?,
            Plan::Dense(plan) => exact(&args.records, context, (&store, &records), plan)?,
        },
    };
    context.world.on_root(|| {
        let path = output::with_suffix(&args.out, probes::RESULTS[0]);
        table::write_variances(&path, args.force, &records.traits, &estimates)
    })?;
    tell(context, &records.traits, &estimates);
    context.finish(&args.out)
}

/// A line on the heritability of each trait, and why there is none.
pub fn tell(context: &Context, traits: &[String], estimates: &[Estimate]) {
    for (name, e) in traits.iter().zip(estimates) {
        if let Some(reason) = e.outcome.reason() {
            log::warn!("{name}: no variances can be estimated: {reason}");
        }
        let note = match e.outcome {
            Outcome::Converged => "",
            Outcome::Failed => "did not converge",
            Outcome::Boundary => "boundary (standard errors hold inside the range only)",
            other => other.label(),
        };
        let sampling = e.sampling.map_or(String::new(), |s| format!(", mc_se {}", digits(s.h2)));
        let (h2, se) = (digits(e.h2), digits(e.h2_se));
        context.say(format_args!("{name}: n {}, h2 {h2} (se {se}{sampling}) {note}", e.n));
    }
}

/// Four digits, or NA.
pub fn digits(x: f64) -> String {
    if x.is_nan() {
        "NA".into()
    } else {
        format!("{x:.4}")
    }
}

/// How to estimate: exactly unless that is not asked for and does not fit.
fn plan(args: &Args, context: &Context, (store, records): (&Store, &Phenotypes)) -> Result<Plan> {
    let (_, groups): (Vec<Vec<usize>>, Vec<Group>) = Group::of(records).into_iter().unzip();
    let groups: Vec<&Group> = groups.iter().collect();
    let from_file = |_| Origin::File { genotypes: true };
    let problem = Problem::new(store.n_animals(), store.n_variants(), &groups, None)
        .with_g(args.records.grm()?.map_or(Origin::Genotypes, from_file));
    let solver = match args.method {
        Method::Auto => SolverChoice::Auto,
        _ => SolverChoice::Dense(Solver::Eigen),
    };
    Plan::make(&context.world, Wishes { solver, grid: args.records.grid }, &problem)
}

/// Exact REML of every trait.
fn exact(
    from: &Records,
    context: &mut Context,
    (store, records): (&Store, &Phenotypes),
    plan: Dense,
) -> Result<Vec<Estimate>> {
    let (traits, groups): (Vec<_>, Vec<_>) = Group::of(records).into_iter().unzip();
    let groups: Vec<&Group> = groups.iter().collect();
    let (read, markers) = match from.grm()? {
        Some(path) => (Some(Relationships::open(context, path, store)?), None),
        None => {
            let backend = context.backend.clone();
            let load = |world: &World| GenotypeMatrix::load(world, backend, store, Scaling::VanRaden1);
            (None, Some(context.phase("read genotypes", load)?))
        }
    };
    let dense = DenseFits { groups: &groups, given: None, plan };
    let fits = dense.fit(context, "variance components", read.as_ref(), markers.as_ref())?;
    Ok(join(&traits, fits).estimates)
}
