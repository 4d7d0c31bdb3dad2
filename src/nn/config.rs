//! How a network is trained, with the defaults in one place.

use super::architecture::Architecture;
use super::epochs::Schedule;
use super::ranks::Grid;
use crate::comm::reduce::Exchange;
use crate::device::network::Loss;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// A network of genotypes, how it learns, and how ranks share the work.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What the network is made of.
    pub network: Architecture,
    /// How it learns.
    pub training: Training,
    /// How ranks share the work.
    pub ranks: Sharing,
}

/// How ranks share the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sharing {
    /// Parts of the SNPs x parts of the batch.
    pub grid: Grid,
    /// How sums over ranks are made.
    pub exchange: Exchange,
}

impl Sharing {
    /// An error at `place` where batches are to be added in order and SNPs are shared out, whose sums have no order.
    pub fn check(&self, place: &str) -> Result<()> {
        match (self.exchange, self.grid) {
            (Exchange::Ordered, Grid::Of(s, _)) if s > 1 => {
                let expected = "1 part of the SNPs in `grid` with `exchange` ordered";
                let advice = "set `grid` to auto, or choose another `exchange`";
                Err(Error::input(place, expected, s, advice))
            }
            _ => Ok(()),
        }
    }

    /// Parts of the SNPs and of the batch for so many ranks and `m` SNPs. An order of sums is kept over parts of
    /// the batch alone, so that the choice for `ordered` splits nothing else.
    pub fn parts(&self, ranks: usize, m: usize) -> Result<(usize, usize)> {
        match (self.exchange, self.grid) {
            (Exchange::Ordered, Grid::Auto) => Ok((1, ranks)),
            _ => self.grid.parts(ranks, m),
        }
    }
}

/// How a network learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Training {
    /// Animals in a batch, at most; the batches of an epoch are nearly even.
    pub batch: usize,
    /// Maximum number of epochs.
    pub epochs: usize,
    /// Training loss.
    pub loss: Loss,
    /// Largest learning rate.
    pub learning_rate: f64,
    /// Share of all steps in which the learning rate rises to its largest.
    pub warm_up: f64,
    /// Learning rate of the last step as a share of the largest: cosine decay (Loshchilov & Hutter 2017).
    pub last_learning_rate: f64,
    /// Adam's decay of the first moment.
    pub beta1: f64,
    /// Adam's decay of the second moment.
    pub beta2: f64,
    /// Adam's ε.
    pub epsilon: f64,
    /// λ of the penalty λ‖w‖² on the weights.
    pub l2: f64,
    /// Decoupled decay of the weights (AdamW). Far more than images and texts take: there are many SNPs of small
    /// effect and few animals (docs/networks.md).
    pub weight_decay: f64,
    /// Largest norm of the gradient; a longer one is shortened to it. 0 for any.
    pub clip: f64,
    /// Share of the training animals that only early stopping looks at; 0 to train for all epochs.
    pub validation: f64,
    /// Epochs without a better correlation on these animals before training stops.
    pub patience: usize,
    /// Epochs between checkpoints.
    pub checkpoint_every: usize,
}

impl Default for Training {
    fn default() -> Self {
        Training {
            batch: 256,
            epochs: 100,
            loss: Loss::Squared,
            learning_rate: 1e-3,
            warm_up: 0.05,
            last_learning_rate: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            l2: 0.0,
            weight_decay: 30.0,
            clip: 1.0,
            validation: 0.1,
            patience: 15,
            checkpoint_every: 10,
        }
    }
}

impl Config {
    /// An error at `place` unless it makes sense.
    pub fn check(&self, place: &str) -> Result<()> {
        self.network.check(place)?;
        self.ranks.check(place)?;
        self.training.check(place)
    }
}

impl Training {
    /// An error at `place` unless it makes sense.
    pub fn check(&self, place: &str) -> Result<()> {
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let not_negative = |x: f64| x >= 0.0 && x.is_finite();
        let share = |x: f64| (0.0..1.0).contains(&x);
        let delta = if let Loss::Huber(delta) = self.loss { delta } else { 1.0 };
        let rules = [
            (self.batch >= 2, "a `batch` of 2 or more", self.batch as f64),
            (self.epochs >= 1, "1 or more `epochs`", self.epochs as f64),
            (self.patience >= 1, "a `patience` of 1 or more", self.patience as f64),
            (self.checkpoint_every >= 1, "`checkpoint_every` 1 or more", self.checkpoint_every as f64),
            (positive(self.learning_rate), "a positive `learning_rate`", self.learning_rate),
            (positive(delta), "a positive number for `huber`", delta),
            (positive(self.epsilon), "a positive `epsilon`", self.epsilon),
            (share(self.warm_up), "a `warm_up` of at least 0 and below 1", self.warm_up),
            (share(self.validation), "a `validation` of at least 0 and below 1", self.validation),
            (share(self.beta1), "a `beta1` of at least 0 and below 1", self.beta1),
            (share(self.beta2), "a `beta2` of at least 0 and below 1", self.beta2),
            (
                (0.0..=1.0).contains(&self.last_learning_rate),
                "a `last_learning_rate` from 0 to 1",
                self.last_learning_rate,
            ),
            (not_negative(self.l2), "an `l2` of 0 or more", self.l2),
            (not_negative(self.weight_decay), "a `weight_decay` of 0 or more", self.weight_decay),
            (not_negative(self.clip), "a `clip` of 0 or more", self.clip),
        ];
        match rules.into_iter().find(|rule| !rule.0) {
            Some((_, expected, found)) => {
                Err(Error::input(place, expected, found, "set it within this range"))
            }
            None => Ok(()),
        }
    }

    /// The learning rate of each step.
    pub fn schedule(&self) -> Schedule {
        Schedule { peak: self.learning_rate, warm_up: self.warm_up, last: self.last_learning_rate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::device::network::Activation;
    use std::path::Path;

    #[test]
    fn a_file_says_what_differs_from_the_defaults() {
        let text = "[network]\nhidden = [64]\nactivation = { leaky_relu = 0.1 }\nnormalisation = \"layer\"\n\
                    [training]\nloss = { huber = 1.0 }\nl2 = 0.001\n[ranks]\ngrid = \"1x3\"\nexchange = \"ordered\"\n";
        let read: Config = config::parse(text, Path::new("mlp.toml")).unwrap();
        assert_eq!(
            (read.network.hidden.clone(), read.network.activation),
            (vec![64], Activation::LeakyRelu(0.1))
        );
        assert_eq!((read.training.loss, read.training.batch), (Loss::Huber(1.0), 256));
        assert_eq!(read.ranks, Sharing { grid: Grid::Of(1, 3), exchange: Exchange::Ordered });
        assert!(read.check("mlp.toml").is_ok() && Config::default().check("").is_ok());
        let e = config::parse::<Config>("[training]\nbacth = 3\n", Path::new("mlp.toml")).unwrap_err();
        assert!(e.to_string().contains("did you mean `batch`?"), "{e}");
        let cut = Sharing { grid: Grid::Of(2, 3), ..read.ranks };
        let e = Config { ranks: cut, ..read }.check("mlp.toml").unwrap_err();
        assert!(e.to_string().contains("mlp.toml: expected 1 part of the SNPs"), "{e}");
        let wrong = Training { warm_up: 1.0, ..Training::default() };
        assert!(wrong.check("x.toml").unwrap_err().to_string().contains("x.toml: expected a `warm_up`"));
    }

    #[test]
    fn the_grid_of_choice_splits_snps_first() {
        assert_eq!(Sharing::default().parts(4, 10_000).unwrap(), (4, 1));
        assert_eq!(Sharing::default().parts(4, 300).unwrap(), (2, 2));
        assert_eq!(Sharing::default().parts(3, 300).unwrap(), (1, 3));
        assert_eq!(Sharing::default().parts(3, 0).unwrap(), (1, 3));
        let ordered = Sharing { exchange: Exchange::Ordered, ..Sharing::default() };
        assert_eq!(ordered.parts(4, 10_000).unwrap(), (1, 4));
        assert!(Grid::Of(2, 2).parts(3, 300).unwrap_err().to_string().contains("1x3"));
        assert!("2x0".parse::<Grid>().is_err() && "x".parse::<Grid>().is_err());
    }
}
