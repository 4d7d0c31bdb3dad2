//! The options of conjugate gradients, and a run of them.

use super::{bad_option, checkpoint, in_range, Context};
use crate::error::Result;
use crate::grm::GenotypeMatrix;
use crate::linalg::pcg::{Params, Precision};
use crate::mixed::checkpoint::{nothing_there, Checkpoint, Fingerprint, Spent};
use crate::mixed::gblup::{fit_by_conjugate_gradient_monitored, Fit};
use crate::mixed::multitrait::SolveReport;
use crate::mixed::reml::Given;
use crate::mixed::solve::CgSettings;
use crate::mixed::Group;
use crate::records::Phenotypes;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the user may say about conjugate gradients.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Conjugate gradients (--solver pcg)")]
pub struct ConjugateGradient {
    /// Largest residual |b - Ax| / |b| of a trait, computed in double precision
    #[arg(long, value_name = "R", default_value_t = 1e-8, value_parser = tolerance)]
    tolerance: f64,
    /// Products within iterations: f64, f32, or auto (f32 as long as it helps)
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = precision)]
    precision: Precision,
    /// Rank of the preconditioner, 0 for the diagonal [default: from animals and traits]
    #[arg(long, value_name = "RANK")]
    preconditioner: Option<usize>,
    /// Iterations at most
    #[arg(long, value_name = "N", default_value_t = 2000)]
    max_iterations: usize,
    /// Keep the state in PREFIX.checkpoint this often
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    checkpoint_every: u64,
    /// Go on from PREFIX.checkpoint
    #[arg(long)]
    resume: bool,
}

fn tolerance(text: &str) -> std::result::Result<f64, String> {
    in_range(text, 1e-14, 0.1)
}

fn precision(text: &str) -> std::result::Result<Precision, String> {
    match text {
        "auto" | "f32" => Ok(Precision::Single),
        "f64" => Ok(Precision::Double),
        _ => Err("expected auto, f64 or f32".into()),
    }
}

/// What the run record tells.
#[derive(serde::Serialize)]
struct Told {
    solver: &'static str,
    tolerance: f64,
    precision: Precision,
    #[serde(flatten)]
    course: SolveReport,
    iterations: Option<Spent>,
}

impl ConjugateGradient {
    /// Refuses to write over the checkpoint of a run that could go on.
    pub fn refuse(&self, context: &Context, prefix: &Path, force: bool) -> Result<()> {
        context.world.on_root(|| checkpoint::refuse(prefix, force || self.resume))
    }

    /// When to stop, and the products on the way.
    pub fn params(&self) -> Params {
        Params { tolerance: self.tolerance, max_iterations: self.max_iterations, precision: self.precision }
    }

    /// Refuses --resume where no checkpoint is kept.
    pub fn unused(&self) -> Result<()> {
        match self.resume {
            true => Err(bad_option(
                "resume",
                "--solver pcg with known variances",
                "another way to solve",
                "leave out --resume",
            )),
            false => Ok(()),
        }
    }

    /// Removes the checkpoints of so many models, now that all results are written.
    pub fn tidy(&self, context: &Context, prefix: &Path, models: usize) {
        (0..models).for_each(|k| checkpoint::remove(&context.world, &checkpoint::path_of(prefix, k)));
    }

    /// Solves the model of all groups; `given` are their variances.
    pub fn fit(
        &self,
        context: &mut Context,
        prefix: &Path,
        (markers, records): (&GenotypeMatrix, &Phenotypes),
        groups: &[&Group],
        given: &[Vec<Given>],
    ) -> Result<Vec<Fit>> {
        let h2: Vec<u64> = given.iter().flatten().map(|g| g.h2.to_bits()).collect();
        let rank = self.settings(context).rank(markers.n(), records.traits.len());
        let own = [("heritability", format!("{h2:?}")), ("--preconditioner", rank.to_string())];
        let state = (checkpoint::path(prefix), self.resume);
        self.run(context, state, self.fingerprint(context, records, own), |settings, monitor| {
            let (fits, info) =
                fit_by_conjugate_gradient_monitored(markers, groups, given, settings, monitor)?;
            Ok((fits, SolveReport { factors: records.traits.len(), preconditioner_rank: rank, info }))
        })
    }

    /// Solves model `number` of this run, counted from 0, which depends on the choice of what was `used`. A model whose
    /// state was not kept begins anew.
    pub fn solve<T>(
        &self,
        context: &mut Context,
        (prefix, number): (&Path, usize),
        records: &Phenotypes,
        (name, used): (&str, String),
        solve: impl FnOnce(&CgSettings, &mut Checkpoint) -> Result<(T, SolveReport)>,
    ) -> Result<T> {
        let own = [(name, used), ("--preconditioner", format!("{:?}", self.preconditioner))];
        let path = checkpoint::path_of(prefix, number);
        let resume = self.resume && context.world.on_root(|| Ok(path.exists()))?;
        self.run(context, (path, resume), self.fingerprint(context, records, own), solve)
    }

    /// As [`ConjugateGradient::refuse`] of a run of so many models; refuses --resume where none was kept.
    pub fn refuse_models(&self, context: &Context, prefix: &Path, models: usize, force: bool) -> Result<()> {
        context.world.on_root(|| {
            let kept: Vec<PathBuf> =
                (0..models).map(|k| checkpoint::path_of(prefix, k)).filter(|p| p.exists()).collect();
            match kept.first() {
                None if self.resume => Err(nothing_there(&checkpoint::path(prefix))),
                Some(path) if !force && !self.resume => Err(checkpoint::in_the_way(path)),
                _ => Ok(()),
            }
        })
    }

    /// When to stop, and the preconditioner.
    pub fn settings(&self, context: &Context) -> CgSettings {
        CgSettings { params: self.params(), rank: self.preconditioner, seed: context.seed }
    }

    /// One step with checkpoints, and how it went in the run record.
    fn run<T>(
        &self,
        context: &mut Context,
        (path, resume): (PathBuf, bool),
        fingerprint: Fingerprint,
        solve: impl FnOnce(&CgSettings, &mut Checkpoint) -> Result<(T, SolveReport)>,
    ) -> Result<T> {
        let settings = self.settings(context);
        let every = Duration::from_secs(self.checkpoint_every);
        let mut spent = None;
        let (solved, course) = context.phase("solve", |world| {
            let mut monitor = Checkpoint::new(world, &path, fingerprint, every, resume);
            let solved = world.agree(solve(&settings, &mut monitor))?;
            spent = monitor.spent(solved.1.info.iterations);
            Ok(solved)
        })?;
        let told = Told {
            solver: "pcg",
            tolerance: self.tolerance,
            precision: self.precision,
            course,
            iterations: spent,
        };
        context.record.solver = Some(serde_json::to_value(told).expect("plain fields serialize"));
        Ok(solved)
    }

    /// All that the bits of a state depend on.
    fn fingerprint(&self, context: &Context, records: &Phenotypes, own: [(&str, String); 2]) -> Fingerprint {
        let mut all = vec![
            ("choice of traits".into(), records.traits.join("\t")),
            ("choice of covariates".into(), records.effects.join("\t")),
        ];
        all.extend(own.map(|(name, value)| (name.into(), value)));
        all.push(("--tolerance".into(), format!("{:e}", self.tolerance)));
        all.push(("--precision".into(), format!("{:?}", self.precision)));
        checkpoint::fingerprint(context, None, all)
    }
}
