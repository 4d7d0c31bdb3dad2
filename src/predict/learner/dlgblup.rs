//! DLGBLUP: GBLUP, then a network from the GBLUP values of all traits to each trait (Shokor et al. 2024).
//!
//! The network learns from out-of-fold values: GBLUP's value of a training animal that was fitted to the animal's own
//! record would carry the record's error, and values of animals without records do not.

use super::gblup::{Gblup, OutOfFold};
use super::{Learned, Learner, Training};
use crate::comm::World;
use crate::device::network::Network;
use crate::error::{Error, Result};
use crate::predict::trait_network::{TraitNetwork, TraitNetworkConfig, TraitRecords};
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Instant;

/// How DLGBLUP is fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DlgblupConfig {
    /// Folds of the out-of-fold GBLUP values within the training animals.
    pub inner_folds: usize,
    /// The network.
    pub network: TraitNetworkConfig,
}

impl Default for DlgblupConfig {
    fn default() -> Self {
        DlgblupConfig { inner_folds: 5, network: TraitNetworkConfig::default() }
    }
}

impl DlgblupConfig {
    /// An error at `place` unless it can be fitted.
    pub fn check(&self, place: &str) -> Result<()> {
        if !(2..=100).contains(&self.inner_folds) {
            return Err(Error::input(
                place,
                "2 to 100 `inner_folds`",
                self.inner_folds,
                "set it within this range",
            ));
        }
        self.network.check(place)
    }
}

/// The learner.
pub struct Dlgblup<'a> {
    /// The GBLUP below.
    pub gblup: Gblup<'a>,
    /// Its settings.
    pub config: DlgblupConfig,
    /// What computes the network.
    pub device: Arc<dyn Network>,
}

impl Dlgblup<'_> {
    /// GBLUP with out-of-fold values, and the network that was trained on them. Collective; every rank receives the
    /// same.
    pub fn train(&self, world: &World, set: &Training) -> Result<(OutOfFold, TraitNetwork)> {
        let base = self.gblup.out_of_fold(world, set, self.config.inner_folds)?;
        let y = set.adjusted(base.fit.fixed.view());
        let network = train_on(world, &self.device, &self.config.network, set, (&base.values, &y))?;
        Ok((base, network))
    }
}

/// A network from `values` to adjusted records, both (n, t), trained on the animals of a set. On one rank: so small a
/// network is trained sooner than its gradients are sent. Collective.
pub(super) fn train_on(
    world: &World,
    device: &Arc<dyn Network>,
    config: &TraitNetworkConfig,
    set: &Training,
    (values, records): (&Array2<f64>, &Array2<f64>),
) -> Result<TraitNetwork> {
    let (weights, (train, validation)) = (set.weights(), set.divide(config.validation));
    let data = TraitRecords {
        values: values.view(),
        records: records.view(),
        weights: weights.as_ref().map(|w| w.view()),
        train: &train,
        validation: &validation,
    };
    world.on_root(|| TraitNetwork::train(device, config, &data, set.seed))
}

impl Learner for Dlgblup<'_> {
    fn at_once(&self, _: &World, _: usize) -> usize {
        1
    }

    fn fit(&self, world: &World, sets: &[Training]) -> Result<Vec<Learned>> {
        let one = |set: &Training| {
            let begun = Instant::now();
            let (base, network) = self.train(world, set)?;
            let values = world.on_root(|| network.predict(&self.device, base.fit.ebv.view()))?;
            let seconds = begun.elapsed().as_secs_f64();
            Ok(Learned { values, ..Learned::of(set, base.fit, seconds) })
        };
        sets.iter().map(one).collect()
    }
}
