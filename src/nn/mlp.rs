//! Genotypes → all traits at once.

use super::checkpoint::gather;
use super::config::Config;
use super::division::{divide, Synthetic};
use super::epochs::Monitor;
use super::features::{Encoded, Encoding};
use super::network::Net;
use super::ranks::Ranks;
use super::running::Running;
use super::train::{fit, predict, Data, Fitted, Point};
use super::{Input, Reads};
use crate::device::network::Network;
use crate::device::{Coding, Genotypes};
use crate::error::{Error, Result};
use crate::grm::Scaling;
use crate::mixed::Group;
use crate::packed::{self, Packed};
use crate::records::Phenotypes;
use ndarray::{Array2, ArrayView1, ArrayView2, Axis};
use std::sync::Arc;

/// What a network of genotypes learns from.
pub struct Task<'a> {
    /// This rank's SNPs ([`Ranks::snps_of`]) of all animals.
    pub packed: &'a Arc<Packed>,
    /// SNPs of all ranks.
    pub m: usize,
    /// Records of all animals.
    pub phenotypes: &'a Phenotypes,
    /// What is known of the records without the network, in units of the traits, (n, t): it learns the rest.
    pub offset: Option<ArrayView2<'a, f64>>,
    /// Animals whose records may be used, validation included.
    pub animals: &'a [usize],
    /// Which of all animals are synthetic.
    pub synthetic: Option<&'a Synthetic>,
    /// How.
    pub config: &'a Config,
    /// Seed of the weights, the order, the dropout and the choice of validation animals.
    pub seed: u64,
}

/// A trained network of genotypes and what its predictions mean.
pub struct Trained {
    net: Net,
    /// How features become columns beside the SNPs.
    pub encoding: Encoding,
    features: Encoded,
    /// Frequencies of the counted alleles among the training animals at this rank's SNPs.
    pub frequencies: Vec<f64>,
    /// Records in units of their spread.
    pub records: Standardised,
    /// The learning curve.
    pub curve: Vec<Point>,
    /// The epoch of the best weights.
    pub best_epoch: usize,
}

/// Records without the fixed effects, in units of their spread.
#[derive(Debug, Clone, PartialEq)]
pub struct Standardised {
    /// (y − Wb̂)/sd, (n, t), NaN where missing.
    pub y: Array2<f64>,
    /// Fixed effects b̂ by least squares on the training animals, (q, t).
    pub fixed: Array2<f64>,
    /// Spread of what is left on the training animals, (t).
    pub sd: Vec<f64>,
}

/// Takes from all records the fixed effects that the records of the animals `used` show by (weighted) least
/// squares, and divides by the standard deviation that they have then.
pub fn standardise(phenotypes: &Phenotypes, used: &[bool]) -> Result<Standardised> {
    let (t, q) = (phenotypes.traits.len(), phenotypes.design.ncols());
    let (mut fixed, mut sd) = (Array2::zeros((q, t)), vec![0.0; t]);
    for (traits, group) in Group::among(phenotypes, |i| used[i]) {
        if let ([first, ..], []) = (&traits[..], group.animals()) {
            let place = format!("trait {}", phenotypes.traits[*first]);
            let expected = "records of animals to learn from";
            return Err(Error::input(place, expected, "none", "leave the trait out"));
        }
        for (k, &trait_) in traits.iter().enumerate() {
            let record = group.y().column(k).to_owned();
            let effects = group.effects_of(record.view());
            let left = &record - &group.design().dot(&effects);
            let weight = |i: usize| 1.0 / group.inverse_weight(i);
            let squares: f64 = left.iter().enumerate().map(|(i, e)| weight(i) * e * e).sum();
            let weights: f64 = (0..left.len()).map(weight).sum();
            sd[trait_] = (squares / weights).sqrt();
            // What rounding leaves of records that are all the same is no spread.
            let size = record.iter().fold(0.0f64, |a, y| a.max(y.abs()));
            if !(sd[trait_] > 1e-10 * size && sd[trait_].is_finite()) {
                return Err(Error::input(
                    format!("trait {}", phenotypes.traits[trait_]),
                    "records of training animals that differ beyond their fixed effects",
                    format!("{} records", left.len()),
                    "leave the trait out",
                ));
            }
            fixed.column_mut(trait_).assign(&effects);
        }
    }
    let mut y = &phenotypes.y - &phenotypes.design.dot(&fixed);
    y.axis_iter_mut(Axis(1)).zip(&sd).for_each(|(mut y, sd)| y /= *sd);
    Ok(Standardised { y, fixed, sd })
}

/// How genotypes are read: counts less their mean over their standard deviation.
pub fn coding(frequencies: &[f64]) -> Vec<Coding> {
    frequencies.iter().map(|&p| Scaling::VanRaden2.coding(p)).collect()
}

/// Trains a network. Collective.
pub fn train(
    ranks: &Ranks,
    device: &Arc<dyn Network>,
    task: &Task,
    monitor: &mut dyn Monitor,
) -> Result<Trained> {
    let recorded = |&i: &usize| task.phenotypes.y.row(i).iter().any(|y| !y.is_nan());
    let animals: Vec<usize> = task.animals.iter().copied().filter(recorded).collect();
    let share = task.config.training.validation;
    let (train, validation) = divide(&animals, task.synthetic, share, task.seed);
    if train.len() < 2 {
        let expected = "at least two animals to learn from";
        return Err(Error::input("training", expected, train.len(), "add records"));
    }
    let mut used = vec![false; task.phenotypes.y.nrows()];
    train.iter().for_each(|&i| used[i] = true);
    let left =
        task.offset.map(|known| Phenotypes { y: &task.phenotypes.y - &known, ..task.phenotypes.clone() });
    let records = standardise(left.as_ref().unwrap_or(task.phenotypes), &used)?;
    let offset = task.offset.map(|known| &known / &ArrayView1::from(&records.sd));
    let frequencies = frequencies(task.packed, &train);
    let held = ranks.world.agree(device.hold(task.packed, &coding(&frequencies)))?;
    let (own, t) = (ranks.snps_of(task.m), task.phenotypes.traits.len());
    let encoding = Encoding::of(&task.phenotypes.features, &train);
    let features = encoding.encoded(&task.phenotypes.features)?;
    let reads = Reads::snps(own, task.m, encoding.width());
    let net = Net::new(device, &task.config.network, &reads, t, task.seed);
    let mut net = ranks.world.agree(net)?;
    if offset.is_some() {
        ranks.world.agree(net.freeze())?;
    }
    let data = Data {
        input: Input::Genotypes(&held, Some(&features)),
        y: records.y.view(),
        weights: task.phenotypes.weights.as_ref().map(|w| w.view()),
        offset: offset.as_ref().map(|o| o.view()),
        train: &train,
        validation: &validation,
    };
    let Fitted { net, curve, best_epoch } = fit(net, ranks, &task.config.training, data, task.seed, monitor)?;
    Ok(Trained { net, encoding, features, frequencies, records, curve, best_epoch })
}

/// Frequencies of the counted alleles among some animals; NaN where no call was made.
fn frequencies(packed: &Packed, animals: &[usize]) -> Vec<f64> {
    let columns: Vec<usize> = (0..packed.columns()).collect();
    let tallies = packed.select(animals, &columns).tally_columns();
    tallies.iter().map(|t| packed::frequency(t).unwrap_or(f64::NAN)).collect()
}

impl Trained {
    /// Predictions for animals of the same store, in units of the traits, without fixed effects and without what was
    /// known before: (animals, t) on every rank. Collective.
    pub fn predict(&mut self, ranks: &Ranks, packed: &Arc<Packed>, animals: &[usize]) -> Result<Array2<f64>> {
        let held: Genotypes =
            ranks.world.agree(self.net.device().hold(packed, &coding(&self.frequencies)))?;
        let mut out = predict(&mut self.net, ranks, Input::Genotypes(&held, Some(&self.features)), animals)?;
        out.axis_iter_mut(Axis(1)).zip(&self.records.sd).for_each(|(mut x, sd)| x *= *sd);
        Ok(out)
    }

    /// All parameters, the first weight with the rows of all ranks, on the root. Collective.
    pub fn parameters(&self, ranks: &Ranks) -> Result<Option<Vec<f64>>> {
        gather(ranks, &**self.net.device(), &self.net.chain.parameters, self.net.first_weight())
    }

    /// Training frequencies at the SNPs of all ranks. Collective.
    pub fn all_frequencies(&self, ranks: &Ranks) -> Vec<f64> {
        ranks.snps.world().all_gather(&self.frequencies).concat()
    }

    /// Running means and variances.
    pub fn running(&self) -> Result<Vec<Running>> {
        self.net.running()
    }

    /// Correlation on the validation animals with the best weights.
    pub fn correlation(&self) -> f64 {
        let best = self.curve.iter().find(|p| p.epoch == self.best_epoch);
        best.map_or(f64::NAN, |p| p.correlation)
    }
}
