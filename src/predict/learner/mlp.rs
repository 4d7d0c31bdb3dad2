//! A network from genotypes to all traits at once, or to what GBLUP leaves of their records.

use super::dlgblup::check_below;
use super::gblup::{GblupConfig, OutOfFold};
use super::{Cost, Learned, Learner, Place, Trained, Training};
use crate::comm::reduce::Exchange;
use crate::config::{self, Settings};
use crate::error::Result;
use crate::nn::checkpointer::Checkpointer;
use crate::nn::config::Sharing;
use crate::nn::epochs::Monitor;
use crate::nn::mlp::{self, Task};
use crate::nn::{self, Architecture, Ranks};
use crate::packed::Packed;
use crate::predict::data::{Block, Data};
use crate::predict::MlpModel;
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// Settings of a network of genotypes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MlpConfig {
    /// Whether the network learns what GBLUP's out-of-fold values leave of the records; predictions are GBLUP + network.
    pub residual: bool,
    /// Folds of these values.
    pub inner_folds: usize,
    /// The GBLUP below, where there is one.
    pub gblup: GblupConfig,
    /// What the network is made of.
    pub network: Architecture,
    /// How it learns.
    pub training: nn::Training,
    /// How ranks share the work.
    pub ranks: Sharing,
}

impl Default for MlpConfig {
    fn default() -> Self {
        let (gblup, network, training, ranks) = Default::default();
        MlpConfig { residual: false, inner_folds: 5, gblup, network, training, ranks }
    }
}

impl MlpConfig {
    /// Reads and checks settings.
    ///
    /// # Errors
    /// Unknown keys and values that cannot be trained.
    pub fn configure(settings: Settings) -> Result<MlpConfig> {
        let config: MlpConfig = settings.read()?;
        config.check(&settings.place())?;
        Ok(config)
    }

    /// An error at `place` unless it can be trained.
    ///
    /// # Errors
    /// Numbers out of their range.
    pub fn check(&self, place: &str) -> Result<()> {
        check_below(&self.gblup, self.inner_folds, place)?;
        self.network().check(place)
    }

    /// What the network itself is trained by.
    fn network(&self) -> nn::Config {
        nn::Config { network: self.network.clone(), training: self.training.clone(), ranks: self.ranks }
    }

    /// The ranks of a training, and this rank's SNPs of all animals. Collective.
    ///
    /// # Errors
    /// A grid that the ranks do not fill, and what reading the store meets.
    pub fn share(&self, data: &Data) -> Result<(Ranks, Arc<Packed>)> {
        let (n, m) = (data.animals(), data.store.n_variants());
        let parts = self.ranks.parts(data.world.size(), m)?;
        let ranks = Ranks::new(&data.world, &data.device, parts, self.ranks.exchange)?;
        let packed = Arc::new(data.world.agree(data.store.read(0..n, ranks.snps_of(m)))?);
        Ok((ranks, packed))
    }

    /// The GBLUP below of each set, where there is one. Collective.
    ///
    /// # Errors
    /// What GBLUP meets.
    pub fn below(&self, data: &Data, sets: &[Training]) -> Result<Vec<Option<Rc<OutOfFold>>>> {
        if !self.residual {
            return Ok(vec![None; sets.len()]);
        }
        let all = self.gblup.out_of_fold(data, sets, self.inner_folds)?;
        Ok(all.into_iter().map(Some).collect())
    }

    /// Trains one network on `base`; `monitor` looks on. Collective.
    ///
    /// # Errors
    /// What the device meets.
    pub fn learn(
        &self,
        data: &Data,
        (ranks, packed): (&Ranks, &Arc<Packed>),
        (set, base): (&Training, Option<&OutOfFold>),
        monitor: &mut dyn Monitor,
    ) -> Result<mlp::Trained> {
        let (animals, config) = (set.animals(), self.network());
        let task = Task {
            packed,
            m: data.store.n_variants(),
            phenotypes: &set.records,
            offset: base.map(|b| b.values.view()),
            animals: &animals,
            synthetic: set.synthetic.as_ref(),
            config: &config,
            seed: set.seed,
        };
        mlp::train(ranks, &data.device, &task, monitor)
    }

    /// The model for other animals, on the root. Collective.
    ///
    /// # Errors
    /// What the device meets.
    pub fn model(
        &self,
        data: &Data,
        ranks: &Ranks,
        set: &Training,
        (base, trained): (Option<&OutOfFold>, &mlp::Trained),
    ) -> Result<Option<MlpModel>> {
        let names = (&set.records.traits[..], &set.records.effects[..]);
        let model = MlpModel::gather(ranks, trained, &self.network, data.store.variants(), names)?;
        let gblup = base.map(|base| self.gblup.model(data, set, &base.fit)).transpose()?.map(Box::new);
        Ok(model.map(|model| MlpModel { gblup, ..model }))
    }
}

impl Learner for MlpConfig {
    fn settings(&self) -> String {
        config::as_text(self)
    }

    fn varies_with_ranks(&self) -> bool {
        self.ranks.exchange != Exchange::Ordered
    }

    fn reads_features(&self) -> bool {
        true
    }

    fn reads(&self) -> Vec<Block> {
        if self.residual {
            self.gblup.reads()
        } else {
            Vec::new()
        }
    }

    fn shares_splits(&self) -> bool {
        self.residual
    }

    fn resumes(&self) -> bool {
        true
    }

    fn fit(&self, data: &Data, sets: &[Training]) -> Result<Vec<Learned>> {
        self.fit_kept(data, sets, &[])
    }

    fn fit_kept(&self, data: &Data, sets: &[Training], places: &[Place]) -> Result<Vec<Learned>> {
        let begun = Instant::now();
        let below = self.below(data, sets)?;
        let share = begun.elapsed().as_secs_f64() / sets.len().max(1) as f64;
        let (ranks, packed) = self.share(data)?;
        let all: Vec<usize> = (0..data.animals()).collect();
        let one = |(number, (set, base)): (usize, (&Training, &Option<Rc<OutOfFold>>))| {
            let begun = Instant::now();
            let mut checkpointer = places.get(number).map(|place| place.checkpointer(&data.world));
            let set_on_base = (set, base.as_deref());
            let mut trained = self.learn(data, (&ranks, &packed), set_on_base, &mut checkpointer.as_mut())?;
            let mut values: Array2<f64> = trained.predict(&ranks, &packed, &all)?;
            if let Some(base) = base {
                values += &base.fit.ebv;
            }
            Ok(Learned::values(set, values, trained.records.fixed, share + begun.elapsed().as_secs_f64()))
        };
        sets.iter().zip(&below).enumerate().map(one).collect()
    }

    fn train(
        &self,
        data: &Data,
        set: &Training,
        mut checkpointer: Option<&mut Checkpointer>,
    ) -> Result<Trained> {
        let base = self.below(data, std::slice::from_ref(set))?.pop().flatten();
        let (ranks, packed) = self.share(data)?;
        let trained = self.learn(data, (&ranks, &packed), (set, base.as_deref()), &mut checkpointer)?;
        let model = self.model(data, &ranks, set, (base.as_deref(), &trained))?;
        Ok(Trained {
            model: model.map(|model| Box::new(model) as _),
            curve: trained.curve,
            ..Trained::default()
        })
    }

    fn methods(&self) -> String {
        let of = &self.training;
        let network = format!(
            "A multilayer perceptron from all SNPs to all traits at once, hidden layers of {:?} units, trained by Adam \
             with decoupled weight decay (Kingma & Ba 2015; Loshchilov & Hutter 2019) for at most {} epochs; training \
             stops after {} epochs without a better correlation on {:.0} % of the training animals.",
            self.network.hidden,
            of.epochs,
            of.patience,
            100.0 * of.validation
        );
        match self.residual {
            false => network,
            true => format!(
                "{network} It learns what GBLUP leaves of the records, by values of training animals without their own \
                 records ({} inner folds); predictions are GBLUP + network. {}",
                self.inner_folds,
                self.gblup.methods()
            ),
        }
    }

    fn cost(&self, n: f64, m: f64, t: f64) -> Cost {
        let hidden = self.network.hidden.iter().map(|&h| h as f64);
        let (weights, last) = hidden.fold((0.0, m), |(sum, from), h| (sum + from * h, h));
        let weights = weights + last * t;
        let network = 6.0 * weights * n * self.training.epochs as f64;
        let below =
            if self.residual { self.gblup.cost(n, m, t) } else { Cost { operations: 0.0, bytes: 0.0 } };
        let inner = 1.0 + self.inner_folds as f64;
        Cost {
            operations: network + inner * below.operations,
            bytes: below.bytes + n * m / 4.0 + 20.0 * weights,
        }
    }
}
