//! DLGBLUP: GBLUP, then a network from the GBLUP values of all traits to each trait (Shokor et al. 2024).
//!
//! The network learns from out-of-fold values: GBLUP's value of a training animal that was fitted to the animal's own
//! record would carry the record's error, and values of animals without records do not.

use super::gblup::{GblupConfig, OutOfFold};
use super::{Cost, Learned, Learner, Trained, Training};
use crate::comm::World;
use crate::config::{self, Settings};
use crate::device::network::Network;
use crate::error::{Error, Result};
use crate::nn::checkpointer::Checkpointer;
use crate::nn::features::Encoding;
use crate::predict::data::{Block, Data};
use crate::predict::trait_network::{TraitNetwork, TraitNetworkConfig, TraitRecords};
use crate::predict::DlgblupModel;
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// How DLGBLUP is fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DlgblupConfig {
    /// Folds of the out-of-fold GBLUP values within the training animals.
    pub inner_folds: usize,
    /// The GBLUP below.
    pub gblup: GblupConfig,
    /// The network.
    pub network: TraitNetworkConfig,
}

impl Default for DlgblupConfig {
    fn default() -> Self {
        let (gblup, network) = Default::default();
        DlgblupConfig { inner_folds: 5, gblup, network }
    }
}

impl DlgblupConfig {
    /// Reads and checks settings.
    ///
    /// # Errors
    /// Unknown keys and values that cannot be fitted.
    pub fn configure(settings: Settings) -> Result<DlgblupConfig> {
        let config: DlgblupConfig = settings.read()?;
        config.check(&settings.place())?;
        Ok(config)
    }

    /// An error at `place` unless it can be fitted.
    ///
    /// # Errors
    /// Numbers out of their range.
    pub fn check(&self, place: &str) -> Result<()> {
        check_below(&self.gblup, self.inner_folds, place)?;
        self.network.check(place)
    }

    /// How features become columns of the network's input, by the animals that it learns from, and these of all animals, (n, f).
    fn features(&self, set: &Training) -> Result<(Encoding, Array2<f64>)> {
        let features = &set.records.features;
        let encoding = Encoding::of(features, &set.divide(self.network.validation).0);
        let n = set.records.y.nrows();
        let rows = encoding.encoded(features)?.rows(&(0..n).collect::<Vec<_>>());
        let columns = Array2::from_shape_vec((n, encoding.width()), rows).expect("whole rows");
        Ok((encoding, columns))
    }

    /// The network that learns from a GBLUP's out-of-fold values and `features`, (n, f). Collective; every rank receives the
    /// same.
    ///
    /// # Errors
    /// What the device meets.
    pub fn learn_on(
        &self,
        base: &OutOfFold,
        (world, device): (&World, &Arc<dyn Network>),
        (set, features): (&Training, &Array2<f64>),
    ) -> Result<TraitNetwork> {
        let y = set.adjusted(base.fit.fixed.view());
        train_on(world, device, &self.network, set, (&base.values, features, &y))
    }
}

/// An error at `place` unless a GBLUP can give out-of-fold values.
pub(super) fn check_below(gblup: &GblupConfig, inner_folds: usize, place: &str) -> Result<()> {
    if !(2..=100).contains(&inner_folds) {
        return Err(Error::input(place, "2 to 100 `inner_folds`", inner_folds, "set it within this range"));
    }
    if gblup.joint {
        let expected = "single traits in [gblup] below a network";
        return Err(Error::input(place, expected, "`joint = true`", "remove the key"));
    }
    gblup.check(place)
}

/// A network from `values` and `features` (n, f) to adjusted records, both (n, t), trained on the animals of a set. On one rank: so small a
/// network is trained sooner than its gradients are sent. Collective.
pub(super) fn train_on(
    world: &World,
    device: &Arc<dyn Network>,
    config: &TraitNetworkConfig,
    set: &Training,
    (values, features, records): (&Array2<f64>, &Array2<f64>, &Array2<f64>),
) -> Result<TraitNetwork> {
    let (weights, (train, validation)) = (set.weights(), set.divide(config.validation));
    let data = TraitRecords {
        values: values.view(),
        features: features.view(),
        records: records.view(),
        weights: weights.as_ref().map(|w| w.view()),
        train: &train,
        validation: &validation,
    };
    world.on_root(|| TraitNetwork::train(device, config, &data, set.seed))
}

impl Learner for DlgblupConfig {
    fn settings(&self) -> String {
        config::as_text(self)
    }

    fn reads_features(&self) -> bool {
        true
    }

    fn reads(&self) -> Vec<Block> {
        self.gblup.reads()
    }

    fn shares_splits(&self) -> bool {
        true
    }

    fn fit(&self, data: &Data, sets: &[Training]) -> Result<Vec<Learned>> {
        let begun = Instant::now();
        let bases = self.gblup.out_of_fold(data, sets, self.inner_folds)?;
        let share = begun.elapsed().as_secs_f64() / sets.len().max(1) as f64;
        let one = |(set, base): (&Training, &Rc<OutOfFold>)| {
            let begun = Instant::now();
            let (_, features) = self.features(set)?;
            let network = self.learn_on(base, (&data.world, &data.device), (set, &features))?;
            let values =
                data.world.on_root(|| network.predict(&data.device, base.fit.ebv.view(), features.view()))?;
            let seconds = share + begun.elapsed().as_secs_f64();
            Ok(Learned { values, ..Learned::of(set, base.fit.clone(), seconds) })
        };
        sets.iter().zip(&bases).map(one).collect()
    }

    fn train(
        &self,
        data: &Data,
        set: &Training,
        _checkpointer: Option<&mut Checkpointer>,
    ) -> Result<Trained> {
        let base = self.gblup.open(data)?.out_of_fold(&data.world, set, self.inner_folds)?;
        let (encoding, features) = self.features(set)?;
        let network = self.learn_on(&base, (&data.world, &data.device), (set, &features))?;
        let curve = network.curve.clone();
        let gblup = self.gblup.model(data, set, &base.fit)?;
        let model = DlgblupModel { gblup, encoding, network };
        Ok(Trained { model: Some(Box::new(model)), curve, ..Trained::default() })
    }

    fn methods(&self) -> String {
        let of = &self.network;
        let learns = match of.residual {
            true => "what the value of each trait leaves of the records",
            false => "the records, as published",
        };
        format!(
            "GBLUP of each trait, then one network with hidden layers of {:?} units from the GBLUP values of all traits \
             to each trait (Shokor et al. 2024). It learns {learns}, from values of training animals that GBLUP gave \
             without their own records ({} inner folds). {}",
            of.hidden,
            self.inner_folds,
            self.gblup.methods()
        )
    }

    fn cost(&self, n: f64, m: f64, t: f64) -> Cost {
        let below = self.gblup.cost(n, m, t);
        let layers: f64 = self
            .network
            .hidden
            .iter()
            .map(|&h| h as f64)
            .fold((0.0, t), |(sum, from), h| (sum + from * h, h))
            .0;
        let network = 6.0 * layers * n * self.network.epochs as f64;
        let operations = below.operations * (1.0 + self.inner_folds as f64) + network;
        Cost { operations, bytes: below.bytes + 16.0 * n * t }
    }
}
