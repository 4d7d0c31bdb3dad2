//! What `gblup --joint` does beside single traits: one model of all traits with their covariances.

use super::conjugate_gradient::ConjugateGradient;
use super::{bad_option, Context};
use crate::error::Result;
use crate::grm::GenotypeMatrix;
use crate::mixed::covariances::{Bending, Covariances};
use crate::mixed::gblup::Fit;
use crate::mixed::multitrait::fit_joint;
use crate::mixed::plan::SolverChoice;
use crate::mixed::reml::moments::{self, haseman_elston};
use crate::mixed::Group;
use crate::output;
use crate::records::Phenotypes;
use crate::report::table;
use ndarray::Array2;
use std::path::{Path, PathBuf};

/// The covariances that were used.
const COVARIANCES: &str = ".covariances.tsv";

/// Options that speak of single traits.
const SINGLE: [&str; 5] = ["variances", "h2", "reliability", "loo", "grm"];

/// What the user may ask for.
#[derive(Debug, clap::Args)]
pub struct Joint {
    /// Fit all traits in one model with their genetic and residual covariances (by conjugate gradients)
    #[arg(long, conflicts_with_all = SINGLE)]
    joint: bool,
    /// Covariances for --joint, as `reml --method he` writes them [default: estimated so]
    #[arg(long, value_name = "FILE", requires = "joint")]
    covariances: Option<PathBuf>,
    /// Principal components of the genetic correlations for --joint, fewer than traits; what they
    /// leave of the genetic covariances becomes residual [default: all]
    #[arg(long, value_name = "K", requires = "joint")]
    rank: Option<usize>,
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
    pub fn check(&self, solver: SolverChoice) -> Result<()> {
        match solver {
            SolverChoice::Dense(solver) if self.joint => {
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
        prefix: &Path,
        (markers, records): (&GenotypeMatrix, &Phenotypes),
        cg: &ConjugateGradient,
    ) -> Result<(Fit, Covariances)> {
        let (traits, groups): (Vec<Vec<usize>>, Vec<Group>) = Group::of(records).into_iter().unzip();
        let groups: Vec<&Group> = groups.iter().collect();
        let mut weights = vec![1.0; records.traits.len()];
        for (numbers, group) in traits.iter().zip(&groups) {
            numbers.iter().for_each(|&t| weights[t] = group.mean_weight());
        }
        let of = (&traits[..], &groups[..], &weights[..]);
        let (covariances, bending) = self.covariances(context, markers, records, of)?;
        bending.tell();
        let used = format!("{:?}", [&covariances.genetic, &covariances.residual].map(bits));
        let used = ("choice of covariances", used);
        let fit = cg.solve(context, (prefix, 0), records, used, |settings, monitor| {
            fit_joint(markers, (&traits, &groups), &covariances, settings, monitor)
        })?;
        Ok((fit, covariances.per_unit_weight(&weights)))
    }

    /// The covariances to use, of records of the traits' mean weights.
    fn covariances(
        &self,
        context: &mut Context,
        markers: &GenotypeMatrix,
        records: &Phenotypes,
        (traits, groups, weights): (&[Vec<usize>], &[&Group], &[f64]),
    ) -> Result<(Covariances, Bending)> {
        let most = records.traits.len();
        if let Some(rank) = self.rank.filter(|r| !(1..=most).contains(r)) {
            return Err(bad_option("rank", format!("1 to {most}, the number of traits"), rank, "take fewer"));
        }
        if let Some(path) = &self.covariances {
            context.input(path)?;
            let read = context.world.on_root(|| Covariances::read(path, &records.traits))?;
            let read = read.per_mean_weight(weights);
            return self.rank.map_or_else(|| read.bent(), |rank| read.reduced(rank));
        }
        let params = moments::Params { seed: context.seed, ..moments::Params::default() };
        let moments = context
            .phase("covariances", |world| world.agree(haseman_elston(markers, traits, groups, params)))?;
        let bent = moments.bent.per_mean_weight(weights);
        let Some(rank) = self.rank else { return Ok((bent, moments.bending)) };
        let (reduced, more) = bent.reduced(rank)?;
        let (a, b) = (moments.bending, more);
        Ok((reduced, Bending { genetic: a.genetic + b.genetic, residual: a.residual + b.residual }))
    }
}

/// The bits of all numbers, for a fingerprint.
fn bits(a: &Array2<f64>) -> Vec<u64> {
    a.iter().map(|x| x.to_bits()).collect()
}

/// Writes the covariances that were used.
pub fn write(prefix: &Path, force: bool, traits: &[String], used: &Covariances) -> Result<()> {
    table::write_used_covariances(&output::with_suffix(prefix, COVARIANCES), force, traits, used)
}
