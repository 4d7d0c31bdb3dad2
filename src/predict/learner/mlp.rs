//! A network from genotypes to all traits at once, or to what GBLUP leaves of their records.

use super::gblup::Gblup;
use super::{Learned, Learner, Training};
use crate::comm::World;
use crate::device::network::Network;
use crate::error::Result;
use crate::genotype::Store;
use crate::nn::mlp::{train, Task};
use crate::nn::{Config, Ranks};
use std::sync::Arc;
use std::time::Instant;

/// The learner. All ranks work on one fit after another.
pub struct Mlp<'a> {
    /// The genotypes.
    pub store: &'a Store,
    /// Network, training, and how ranks share the work.
    pub config: Config,
    /// The GBLUP whose out-of-fold values it adds to, where the configuration says so.
    pub gblup: Gblup<'a>,
    /// What computes.
    pub device: Arc<dyn Network>,
}

impl Learner for Mlp<'_> {
    fn at_once(&self, _: &World, _: usize) -> usize {
        1
    }

    fn fit(&self, world: &World, sets: &[Training]) -> Result<Vec<Learned>> {
        let (n, m) = (self.store.n_animals(), self.store.n_variants());
        let parts = self.config.ranks.parts(world.size(), m)?;
        let ranks = Ranks::new(world, &self.device, parts, self.config.ranks.exchange)?;
        let packed = Arc::new(world.agree(self.store.read(0..n, ranks.snps_of(m)))?);
        let all: Vec<usize> = (0..n).collect();
        let one = |set: &Training| {
            let begun = Instant::now();
            let (animals, config) = (set.animals(), &self.config);
            let folds = config.inner_folds;
            let base = config.residual.then(|| self.gblup.out_of_fold(world, set, folds)).transpose()?;
            let task = Task {
                packed: &packed,
                m,
                phenotypes: &set.records,
                offset: base.as_ref().map(|b| b.values.view()),
                animals: &animals,
                synthetic: set.synthetic.as_ref(),
                config,
                seed: set.seed,
            };
            let mut trained = train(&ranks, &self.device, &task, &mut ())?;
            let mut values = trained.predict(&ranks, &packed, &all)?;
            if let Some(base) = &base {
                values += &base.fit.ebv;
            }
            let traits = set.traits();
            Ok(Learned {
                trained: set.recorded(),
                estimates: vec![None; traits.len()],
                traits,
                values,
                fixed: trained.records.fixed,
                seconds: begun.elapsed().as_secs_f64(),
            })
        };
        sets.iter().map(one).collect()
    }
}
