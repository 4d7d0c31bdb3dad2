//! The pure network beside DLGBLUP: SNPs → 400 → t, and from its values t → 400 → 256 → t (Shokor et al. 2024).
//!
//! As published, the first stage learns GBLUP values; here out-of-fold ones. The second stage learns records from the
//! values of the first, which it does not change. The publication starts it after three stable epochs of the first;
//! here it starts when the first no longer becomes better.

use super::dlgblup::{train_on, DlgblupConfig};
use super::gblup::Gblup;
use super::{Learned, Learner, Training};
use crate::comm::reduce::Exchange;
use crate::comm::World;
use crate::device::network::{Activation, Loss, Network};
use crate::error::Result;
use crate::genotype::Store;
use crate::nn::mlp::{train, Task};
use crate::nn::{self, Architecture, Normalisation, Ranks};
use crate::records::Phenotypes;
use ndarray::Array2;
use std::sync::Arc;
use std::time::Instant;

/// The published settings of the first stage: learning rate, penalty on the weights, epochs at most, and epochs without
/// a better validation correlation.
const RATE: f64 = 1e-4;
const PENALTY: f64 = 0.001;
const EPOCHS: usize = 100;
const PATIENCE: usize = 10;

/// The learner. All ranks work on one fit after another.
pub struct Dl<'a> {
    /// The genotypes.
    pub store: &'a Store,
    /// The GBLUP whose out-of-fold values the first stage learns.
    pub gblup: Gblup<'a>,
    /// Its settings; the first stage takes loss, batch and validation from them, and the width of the first hidden
    /// layer.
    pub config: DlgblupConfig,
    /// What computes.
    pub device: Arc<dyn Network>,
}

impl Dl<'_> {
    /// The network of the first stage and its training.
    fn first_stage(&self) -> nn::Config {
        let of = &self.config.network;
        let network = Architecture {
            hidden: of.hidden.iter().copied().take(1).collect(),
            normalisation: Normalisation::None,
            activation: Activation::LeakyRelu(of.slope),
            dropout: 0.0,
        };
        let training = nn::Training {
            batch: of.batch,
            epochs: of.epochs.min(EPOCHS),
            loss: Loss::Huber(of.huber),
            rate: RATE,
            warm_up: 0.0,
            last_rate: 1.0,
            l2: PENALTY,
            decay: 0.0,
            clip: 0.0,
            validation: of.validation,
            patience: PATIENCE,
            ..nn::Training::default()
        };
        nn::Config { network, training, ..nn::Config::default() }
    }

    /// What the first stage says of all animals, (n, t), having learned `values` (n, t). Collective.
    fn first(&self, world: &World, set: &Training, values: &Array2<f64>) -> Result<Array2<f64>> {
        let (config, m, n) = (self.first_stage(), self.store.n_variants(), values.nrows());
        let ranks = Ranks::new(world, &self.device, config.ranks.parts(world.size(), m)?, Exchange::Host)?;
        let packed = Arc::new(world.agree(self.store.read(0..n, ranks.snps_of(m)))?);
        let phenotypes = first_records(set, values);
        let animals = set.animals();
        let task = Task {
            packed: &packed,
            m,
            phenotypes: &phenotypes,
            offset: None,
            animals: &animals,
            synthetic: set.synthetic.as_ref(),
            config: &config,
            seed: set.seed,
        };
        let mut trained = train(&ranks, &self.device, &task, &mut ())?;
        trained.predict(&ranks, &packed, &(0..n).collect::<Vec<_>>())
    }
}

/// GBLUP values (n, t) as records of the first stage. Fixed effects are out of them already but for the mean: what the
/// covariates explain of breeding values is a trend that the network is to learn. GBLUP has used the weights.
fn first_records(set: &Training, values: &Array2<f64>) -> Phenotypes {
    let of = |&t: &usize| set.records.traits[t].clone();
    Phenotypes {
        traits: set.traits().iter().map(of).collect(),
        y: values.clone(),
        effects: vec!["intercept".into()],
        design: Array2::ones((values.nrows(), 1)),
        weights: None,
    }
}

impl Learner for Dl<'_> {
    fn at_once(&self, _: &World, _: usize) -> usize {
        1
    }

    fn fit(&self, world: &World, sets: &[Training]) -> Result<Vec<Learned>> {
        let one = |set: &Training| {
            let begun = Instant::now();
            let base = self.gblup.out_of_fold(world, set, self.config.inner_folds)?;
            let first = self.first(world, set, &base.values)?;
            let y = set.adjusted(base.fit.fixed.view());
            let network = train_on(world, &self.device, &self.config.network, set, (&first, &y))?;
            let values = world.on_root(|| network.predict(&self.device, first.view()))?;
            let learned = Learned::of(set, base.fit, begun.elapsed().as_secs_f64());
            // The variances are those of GBLUP, not of this model.
            let estimates = vec![None; learned.traits.len()];
            Ok(Learned { values, estimates, ..learned })
        };
        sets.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixed::Group;
    use crate::nn::mlp::standardise;

    #[test]
    fn the_first_stage_learns_the_trend_that_covariates_explain() {
        let year = |i: usize| (i % 7) as f64;
        let design = Array2::from_shape_fn((40, 2), |(i, q)| if q == 0 { 1.0 } else { year(i) });
        let values = Array2::from_shape_fn((40, 1), |(i, _)| year(i));
        let (traits, effects) = (vec!["milk".into()], vec!["intercept".into(), "year".into()]);
        let records = Phenotypes { traits, y: values.clone(), effects, design, weights: None };
        let groups = Group::among(&records, |_| true);
        let set = Training { groups, records, seed: 1, synthetic: None };
        let learned = standardise(&first_records(&set, &values), &[true; 40]).unwrap();
        let slope = (learned.y[[6, 0]] - learned.y[[0, 0]]) * learned.sd[0] / 6.0;
        assert!((slope - 1.0).abs() < 1e-9, "{slope}");
    }
}
