//! What `gblup --joint` does beside single traits: one model of all traits with their covariances.

use super::{bad_option, Context};
use crate::error::Result;
use crate::genotype::Phenotypes;
use crate::grm::Markers;
use crate::linalg::pcg::Params;
use crate::mixed::covariances::Covariances;
use crate::mixed::gblup::{Fit, Solver};
use crate::mixed::multitrait::fit_joint;
use crate::mixed::reml::moments::{self, haseman_elston};
use crate::mixed::Group;
use crate::output;
use crate::report::table;
use std::path::{Path, PathBuf};

/// The covariances that were used.
const COVARIANCES: &str = ".covariances.tsv";

/// Options that speak of single traits.
const SINGLE: [&str; 10] = [
    "variances",
    "h2",
    "reliability",
    "loo",
    "grm",
    "resume",
    "tolerance",
    "precision",
    "preconditioner",
    "max_iterations",
];

/// What the user may ask for.
#[derive(Debug, clap::Args)]
pub struct Joint {
    /// Fit all traits in one model with their genetic and residual covariances (by conjugate gradients)
    #[arg(long, conflicts_with_all = SINGLE)]
    joint: bool,
    /// Covariances for --joint, as `reml --method he` writes them [default: estimated so]
    #[arg(long, value_name = "FILE", requires = "joint")]
    covariances: Option<PathBuf>,
}

impl Joint {
    /// Whether one model of all traits is wanted.
    pub fn wanted(&self) -> bool {
        self.joint
    }

    /// Suffixes of the results beside those of single traits.
    pub fn suffixes(&self) -> Vec<&'static str> {
        if self.joint {
            vec![COVARIANCES]
        } else {
            Vec::new()
        }
    }

    /// An error for a solver that cannot fit all traits in one model.
    pub fn check(&self, solver: Solver) -> Result<()> {
        match solver {
            Solver::Cholesky | Solver::Eigen if self.joint => {
                let advice = "leave out --solver: --joint multiplies by the genotypes";
                Err(bad_option("solver", "auto or pcg", solver.name(), advice))
            }
            _ => Ok(()),
        }
    }

    /// Reads or estimates the covariances, makes them positive definite, and fits.
    pub fn fit(
        &self,
        context: &mut Context,
        markers: &Markers,
        records: &Phenotypes,
    ) -> Result<(Fit, Covariances)> {
        let (traits, groups): (Vec<Vec<usize>>, Vec<Group>) = Group::of(records).into_iter().unzip();
        let groups: Vec<&Group> = groups.iter().collect();
        let (covariances, bending) = match &self.covariances {
            Some(path) => {
                context.input(path)?;
                let read = context.world.on_root(|| Covariances::read(path, &records.traits))?;
                read.bent()?
            }
            None => {
                let params = moments::Params { seed: context.seed, ..moments::Params::default() };
                let moments = context.phase("covariances", |world| {
                    world.agree(haseman_elston(markers, &traits, &groups, params))
                })?;
                (moments.bent, moments.bending)
            }
        };
        bending.tell();
        let fit = context.phase("solve", |world| {
            world.agree(fit_joint(markers, &traits, &groups, &covariances, Params::default()))
        })?;
        Ok((fit, covariances))
    }
}

/// Writes the covariances that were used.
pub fn write(prefix: &Path, force: bool, traits: &[String], used: &Covariances) -> Result<()> {
    table::write_used_covariances(&output::with_suffix(prefix, COVARIANCES), force, traits, used)
}
