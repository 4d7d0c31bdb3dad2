//! Variances and covariances with random probes: G is only multiplied by.

use super::records::{Records, Relationships};
use super::Context;
use crate::comm::World;
use crate::error::Result;
use crate::genotype::Store;
use crate::grm::{GenotypeMatrix, Scaling};
use crate::linalg::{Operator, RowMatrix, Rows};
use crate::mixed::reml::moments::{self, haseman_elston, Moments};
use crate::mixed::reml::stochastic;
use crate::mixed::{Estimate, Group};
use crate::records::Phenotypes;

/// Suffixes of the results: of all methods, and of moments alone.
pub const RESULTS: [&str; 2] = [".variances.tsv", ".gencov.tsv"];

/// What the methods share.
pub struct Probes<'a> {
    /// Where the relationships come from.
    pub records: &'a Records,
    /// Random vectors, if not the default.
    pub count: Option<usize>,
}

impl Probes<'_> {
    /// Stochastic REML of every trait.
    pub fn stochastic(
        &self,
        context: &mut Context,
        store: &Store,
        records: &Phenotypes,
    ) -> Result<Vec<Estimate>> {
        let operator = self.operator(context, store)?;
        let (traits, groups): (Vec<_>, Vec<_>) = Group::of(records).into_iter().unzip();
        let groups: Vec<&Group> = groups.iter().collect();
        let default = stochastic::Params::default();
        let probes = self.count.unwrap_or(default.probes);
        let params = stochastic::Params { probes, seed: context.seed, ..default };
        let estimates = context.phase("variance components", |world| {
            world.agree(stochastic::estimate(&*operator, &groups, params))
        })?;
        let all = traits.iter().flatten().zip(estimates.into_iter().flatten());
        let mut all: Vec<(usize, Estimate)> = all.map(|(&t, e)| (t, e)).collect();
        all.sort_by_key(|(t, _)| *t);
        Ok(all.into_iter().map(|(_, e)| e).collect())
    }

    /// Moments of every pair of traits.
    pub fn moments(&self, context: &mut Context, store: &Store, records: &Phenotypes) -> Result<Moments> {
        let operator = self.operator(context, store)?;
        let (traits, groups): (Vec<_>, Vec<_>) = Group::of(records).into_iter().unzip();
        let groups: Vec<&Group> = groups.iter().collect();
        let default = moments::Params::default();
        let params = moments::Params { probes: self.count.unwrap_or(default.probes), seed: context.seed };
        let moments = context.phase("covariances", |world| {
            world.agree(haseman_elston(&*operator, &traits, &groups, params))
        })?;
        moments.bending.tell();
        Ok(moments)
    }

    /// G, as a product of the genotypes or as it was read, each rank its rows.
    fn operator(&self, context: &mut Context, store: &Store) -> Result<Box<dyn Operator>> {
        if let Some(path) = self.records.grm()? {
            let g = Relationships::open(context, path, store)?.whole(context)?;
            return Ok(Box::new(RowMatrix::scatter(Rows::new(&context.world, store.n_animals()), g)));
        }
        let backend = context.backend.clone();
        let load = |world: &World| GenotypeMatrix::load(world, backend, store, Scaling::VanRaden1);
        Ok(Box::new(context.phase("read genotypes", load)?))
    }
}
