//! The pure network beside DLGBLUP: SNPs → 400 → t, and from its values t → 400 → 256 → t (Shokor et al. 2024).
//!
//! As published, the first stage learns GBLUP values; here out-of-fold ones. The second stage learns records from the
//! values of the first, which it does not change. The publication starts it after three stable epochs of the first;
//! here it starts when the first no longer becomes better.

use super::dlgblup::{train_on, DlgblupConfig};
use super::gblup::OutOfFold;
use super::{Cost, Learned, Learner, Trained, Training};
use crate::comm::reduce::Exchange;
use crate::config::{self, Settings};
use crate::device::network::{Activation, Loss};
use crate::error::Result;
use crate::nn::checkpointer::Checkpointer;
use crate::nn::mlp::{self, Task};
use crate::nn::{self, Architecture, Normalisation, Ranks};
use crate::predict::data::{Block, Data};
use crate::predict::dl::DlModel;
use crate::predict::trait_network::{no_features, TraitNetwork};
use crate::predict::MlpModel;
use crate::records::Phenotypes;
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// The published settings of the first stage: learning rate, penalty on the weights, epochs at most, and epochs without
/// a better validation correlation.
const RATE: f64 = 1e-4;
const PENALTY: f64 = 0.001;
const EPOCHS: usize = 100;
const PATIENCE: usize = 10;

/// Settings as those of DLGBLUP: the first stage takes loss, batch and validation from them, and the width of the first
/// hidden layer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DlConfig(pub DlgblupConfig);

/// What was learned of one set.
struct Stages {
    /// From SNPs to GBLUP values.
    first: mlp::Trained,
    /// What the first says of all animals, (n, t).
    values: Array2<f64>,
    /// From these to each trait.
    second: TraitNetwork,
    ranks: Ranks,
}

impl DlConfig {
    /// Reads and checks settings.
    ///
    /// # Errors
    /// Unknown keys and values that cannot be trained.
    pub fn configure(settings: Settings) -> Result<DlConfig> {
        Ok(DlConfig(DlgblupConfig::configure(settings)?))
    }

    /// The network of the first stage and its training.
    fn first_stage(&self) -> nn::Config {
        let of = &self.0.network;
        let network = Architecture {
            hidden: of.hidden.iter().copied().take(1).collect(),
            normalisation: Normalisation::None,
            activation: Activation::LeakyRelu(of.negative_slope),
            dropout: 0.0,
        };
        let training = nn::Training {
            batch: of.batch,
            epochs: of.epochs.min(EPOCHS),
            loss: Loss::Huber(of.huber_delta),
            learning_rate: RATE,
            warm_up: 0.0,
            last_learning_rate: 1.0,
            l2: PENALTY,
            weight_decay: 0.0,
            clip: 0.0,
            validation: of.validation,
            patience: PATIENCE,
            ..nn::Training::default()
        };
        nn::Config { network, training, ..nn::Config::default() }
    }

    /// Both stages. Collective.
    fn learn(&self, data: &Data, set: &Training, base: &OutOfFold) -> Result<Stages> {
        let (config, m, n) = (self.first_stage(), data.store.n_variants(), data.animals());
        let parts = config.ranks.parts(data.world.size(), m)?;
        let ranks = Ranks::new(&data.world, &data.device, parts, Exchange::Host)?;
        let packed = Arc::new(data.world.agree(data.store.read(0..n, ranks.snps_of(m)))?);
        let (phenotypes, animals) = (first_records(set, &base.values), set.animals());
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
        let mut first = mlp::train(&ranks, &data.device, &task, &mut ())?;
        let values = first.predict(&ranks, &packed, &(0..n).collect::<Vec<_>>())?;
        let y = set.adjusted(base.fit.fixed.view());
        let second =
            train_on(&data.world, &data.device, &self.0.network, set, (&values, &no_features(n), &y))?;
        Ok(Stages { first, values, second, ranks })
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
        ..Phenotypes::default()
    }
}

impl Learner for DlConfig {
    fn settings(&self) -> String {
        config::as_text(self)
    }

    fn varies_with_ranks(&self) -> bool {
        true
    }

    fn reads(&self) -> Vec<Block> {
        self.0.reads()
    }

    fn shares_splits(&self) -> bool {
        true
    }

    fn fit(&self, data: &Data, sets: &[Training]) -> Result<Vec<Learned>> {
        let begun = Instant::now();
        let bases = self.0.gblup.out_of_fold(data, sets, self.0.inner_folds)?;
        let share = begun.elapsed().as_secs_f64() / sets.len().max(1) as f64;
        let one = |(set, base): (&Training, &Rc<OutOfFold>)| {
            let begun = Instant::now();
            let stages = self.learn(data, set, base)?;
            let none = no_features(data.animals());
            let values = data
                .world
                .on_root(|| stages.second.predict(&data.device, stages.values.view(), none.view()))?;
            let learned = Learned::of(set, base.fit.clone(), share + begun.elapsed().as_secs_f64());
            // The variances are those of GBLUP, not of this model.
            let estimates = vec![None; learned.traits.len()];
            Ok(Learned { values, estimates, ..learned })
        };
        sets.iter().zip(&bases).map(one).collect()
    }

    fn train(
        &self,
        data: &Data,
        set: &Training,
        _checkpointer: Option<&mut Checkpointer>,
    ) -> Result<Trained> {
        let base = self.0.gblup.open(data)?.out_of_fold(&data.world, set, self.0.inner_folds)?;
        let stages = self.learn(data, set, &base)?;
        let (names, network) = (set.names(), self.first_stage().network);
        let effects = ["intercept".to_owned()];
        let of = (&names[..], &effects[..]);
        let first = MlpModel::gather(&stages.ranks, &stages.first, &network, data.store.variants(), of)?;
        let curve = stages.second.curve.clone();
        let model = first.map(|first| Box::new(DlModel { first, second: stages.second }) as _);
        Ok(Trained { model, curve, ..Trained::default() })
    }

    fn methods(&self) -> String {
        format!(
            "The pure network beside DLGBLUP (Shokor et al. 2024): SNPs to {} units to the GBLUP values of all traits, and \
             from these through {:?} units to the records. GBLUP teaches the first stage and is not there at prediction. {}",
            self.0.network.hidden.first().copied().unwrap_or(0),
            self.0.network.hidden,
            self.0.gblup.methods()
        )
    }

    fn cost(&self, n: f64, m: f64, t: f64) -> Cost {
        let below = self.0.cost(n, m, t);
        let first = self.0.network.hidden.first().map_or(t, |&h| h as f64) * m;
        let operations = below.operations + 6.0 * first * n * EPOCHS as f64;
        Cost { operations, bytes: below.bytes + 20.0 * first }
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
        let records = Phenotypes { traits, y: values.clone(), effects, design, ..Phenotypes::default() };
        let groups = Group::among(&records, |_| true);
        let set = Training { groups, records, seed: 1, split_seed: 1, synthetic: None };
        let learned = standardise(&first_records(&set, &values), &[true; 40]).unwrap();
        let slope = (learned.y[[6, 0]] - learned.y[[0, 0]]) * learned.sd[0] / 6.0;
        assert!((slope - 1.0).abs() < 1e-9, "{slope}");
    }
}
