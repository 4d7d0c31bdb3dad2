//! A small dense network from predicted values of all traits to each trait (Shokor et al. 2024).

use crate::device::network::{Activation, Loss, Network};
use crate::error::{Error, Result};
use crate::nn::stack::Part;
use crate::nn::train::{self, Data, Point};
use crate::nn::{Architecture, Input, Net, Normalisation, Ranks, Reads, Training};
use crate::stats;
use ndarray::{concatenate, Array2, ArrayView1, ArrayView2, Axis};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How the network is made and trained. Widths, slope, loss and batch are those of the publication; the network corrects
/// the values that it reads, at a higher rate that falls and with less of a penalty (docs/networks.md).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TraitNetworkConfig {
    /// Units of the hidden layers.
    pub hidden: Vec<usize>,
    /// Slope of the activation left of 0.
    pub negative_slope: f64,
    /// Whether it learns what the value of each trait leaves of the records, and so begins as that value, or the
    /// records themselves, as published.
    pub residual: bool,
    /// δ of the Huber loss, in standard deviations of the adjusted records.
    pub huber_delta: f64,
    /// Times the sum of squared weights, added to the loss.
    pub l2: f64,
    /// First learning rate of Adam.
    pub learning_rate: f64,
    /// Rate of the last step as a share of the first: the way down is a half wave of the cosine.
    pub last_learning_rate: f64,
    /// Animals in a batch.
    pub batch: usize,
    /// Epochs at most.
    pub epochs: usize,
    /// Epochs without a better validation correlation after which training ends.
    pub patience: usize,
    /// Share of the training animals that is kept for validation.
    pub validation: f64,
}

impl Default for TraitNetworkConfig {
    fn default() -> Self {
        TraitNetworkConfig {
            hidden: vec![400, 256],
            negative_slope: 0.1,
            residual: true,
            huber_delta: 1.0,
            l2: 1e-4,
            learning_rate: 1e-3,
            last_learning_rate: 0.01,
            batch: 200,
            epochs: 60,
            patience: 60,
            validation: 0.1,
        }
    }
}

impl TraitNetworkConfig {
    fn architecture(&self) -> Architecture {
        Architecture {
            hidden: self.hidden.clone(),
            normalisation: Normalisation::None,
            activation: Activation::LeakyRelu(self.negative_slope),
            dropout: 0.0,
        }
    }

    /// No decay beside the penalty.
    fn training(&self) -> Training {
        Training {
            batch: self.batch,
            epochs: self.epochs,
            loss: Loss::Huber(self.huber_delta),
            learning_rate: self.learning_rate,
            warm_up: 0.0,
            last_learning_rate: self.last_learning_rate,
            l2: self.l2,
            weight_decay: 0.0,
            clip: 0.0,
            validation: self.validation,
            patience: self.patience,
            ..Training::default()
        }
    }

    /// An error at `place` unless it can be trained.
    pub fn check(&self, place: &str) -> Result<()> {
        if !(self.huber_delta > 0.0 && self.huber_delta.is_finite()) {
            return Err(Error::input(
                place,
                "a positive `huber_delta`",
                self.huber_delta,
                "set it within this range",
            ));
        }
        self.architecture().check(place)?;
        self.training().check(place)?;
        if self.validation == 0.0 {
            let expected = "a `validation` share between 0 and 1";
            return Err(Error::input(place, expected, self.validation, "set it within this range"));
        }
        Ok(())
    }
}

/// Mean and standard deviation of a column, by which it is standardised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// Mean of each column.
    pub mean: Vec<f64>,
    /// Standard deviation of each column; 1 where it does not vary.
    pub sd: Vec<f64>,
}

/// A trained network of t traits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraitNetwork {
    /// What the network is made of.
    pub architecture: Architecture,
    /// Whether what it gives is added to what it reads.
    pub residual: bool,
    /// All parameters, tensor after tensor as [`TraitNetwork::parts`] says.
    pub parameters: Vec<f64>,
    /// Of the inputs, values and then columns of features (t + f).
    pub input: Scale,
    /// Of the adjusted records, or what the inputs leave of them (t).
    pub output: Scale,
    /// The epochs of the training.
    pub curve: Vec<Point>,
}

/// What a network of traits learns from, (n, t) each but for the features.
#[derive(Debug, Clone, Copy)]
pub struct TraitRecords<'a> {
    /// Predicted values.
    pub values: ArrayView2<'a, f64>,
    /// Columns of features that are read beside them, (n, f).
    pub features: ArrayView2<'a, f64>,
    /// Adjusted records, NaN where there is none.
    pub records: ArrayView2<'a, f64>,
    /// Weights of the records.
    pub weights: Option<ArrayView2<'a, f64>>,
    /// Animals that it learns from.
    pub train: &'a [usize],
    /// Animals that early stopping looks at.
    pub validation: &'a [usize],
}

impl Scale {
    /// Of the numbers in the `rows` of a matrix, with the weights of the same place; NaN are left out.
    fn of(matrix: ArrayView2<f64>, weights: Option<ArrayView2<f64>>, rows: &[usize]) -> Scale {
        let moments = |c: usize| {
            let known = rows.iter().filter(|&&i| !matrix[[i, c]].is_nan());
            let (x, w): (Vec<f64>, Vec<f64>) =
                known.map(|&i| (matrix[[i, c]], weights.map_or(1.0, |w| w[[i, c]]))).unzip();
            stats::weighted_moments(&x, &w)
        };
        let (mean, variance): (Vec<f64>, Vec<f64>) = (0..matrix.ncols()).map(moments).unzip();
        let sd = |v: f64| Some(v.sqrt()).filter(|s| *s > 0.0).unwrap_or(1.0);
        Scale {
            mean: mean.into_iter().map(|x| if x.is_nan() { 0.0 } else { x }).collect(),
            sd: variance.into_iter().map(sd).collect(),
        }
    }

    fn forward(&self, matrix: ArrayView2<f64>) -> Array2<f64> {
        Array2::from_shape_fn(matrix.dim(), |(i, c)| (matrix[[i, c]] - self.mean[c]) / self.sd[c])
    }

    fn back(&self, matrix: ArrayView2<f64>) -> Array2<f64> {
        Array2::from_shape_fn(matrix.dim(), |(i, c)| self.mean[c] + self.sd[c] * matrix[[i, c]])
    }
}

/// Values and the columns of features behind them.
fn side_by_side(values: ArrayView2<f64>, features: ArrayView2<f64>) -> Array2<f64> {
    let both = concatenate(Axis(1), &[values, features]).expect("rows of the same animals");
    both.as_standard_layout().into_owned()
}

/// No features for `n` animals.
pub fn no_features(n: usize) -> Array2<f64> {
    Array2::zeros((n, 0))
}

impl TraitNetwork {
    /// Trains from values to records. The same on any machine with the same device.
    pub fn train(
        device: &Arc<dyn Network>,
        config: &TraitNetworkConfig,
        known: &TraitRecords,
        seed: u64,
    ) -> Result<TraitNetwork> {
        let TraitRecords { values: x, features, records: y, weights, train, validation } = *known;
        let wanted = if config.residual { &y - &x } else { y.to_owned() };
        let read = side_by_side(x, features);
        let (input, output) = (Scale::of(read.view(), None, train), Scale::of(wanted.view(), weights, train));
        let (scaled, y) = (input.forward(read.view()), output.forward(wanted.view()));
        let offset = config.residual.then(|| &x / &ArrayView1::from(&output.sd));
        let x = scaled.as_slice().expect("just made");
        let (k, t) = (scaled.ncols(), y.ncols());
        let data = Data {
            input: Input::Dense(x, k),
            y: y.view(),
            weights,
            offset: offset.as_ref().map(|o| o.view()),
            train,
            validation,
        };
        let mut net = Net::new(device, &config.architecture(), &Reads::numbers(k), t, seed)?;
        if config.residual {
            net.freeze()?;
        }
        let fitted = train::fit(net, &Ranks::alone(device), &config.training(), data, seed, &mut ())?;
        Ok(TraitNetwork {
            architecture: config.architecture(),
            residual: config.residual,
            parameters: fitted.net.parameters()?,
            input,
            output,
            curve: fitted.curve,
        })
    }

    /// Whether all parts have the lengths that belong to t traits and f columns of features.
    pub fn is_whole(&self, t: usize, f: usize) -> bool {
        let has = |scale: &Scale, length: usize| [scale.mean.len(), scale.sd.len()] == [length; 2];
        has(&self.input, t + f) && has(&self.output, t)
    }

    /// Where the tensors lie in the parameters.
    pub fn parts(&self) -> Vec<Part> {
        let reads = Reads::numbers(self.input.mean.len());
        self.architecture.plan(&reads, self.output.mean.len()).parts().expect("an architecture has a chain")
    }

    /// Predicts the traits of all rows of `x`, (n, t), with `features` (n, f).
    pub fn predict(
        &self,
        device: &Arc<dyn Network>,
        x: ArrayView2<f64>,
        features: ArrayView2<f64>,
    ) -> Result<Array2<f64>> {
        let ((n, t), read) = (x.dim(), side_by_side(x, features));
        let k = read.ncols();
        let ranks = Ranks::alone(device);
        let mut net = Net::new(device, &self.architecture, &Reads::numbers(k), t, 0)?;
        net.set_parameters(&self.parameters)?;
        let scaled = self.input.forward(read.view());
        let input = Input::Dense(scaled.as_slice().expect("just made"), k);
        let out = train::predict(&mut net, &ranks, input, &(0..n).collect::<Vec<_>>())?;
        let found = self.output.back(out.view());
        Ok(if self.residual { found + x } else { found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::open;
    use crate::rng::{Purpose, Stream};

    /// Values x of two traits and records y = (x₀, x₀²) with noise; every fifth record of the second is missing.
    fn curved(n: usize) -> (Array2<f64>, Array2<f64>) {
        let mut s = Stream::new(3, Purpose::Test, 0);
        let x = Array2::from_shape_fn((n, 2), |_| 3.0 + 2.0 * s.normal());
        let y = Array2::from_shape_fn((n, 2), |(i, t)| {
            let z = (x[[i, 0]] - 3.0) / 2.0;
            match (t, i % 5) {
                (0, _) => 50.0 + 4.0 * z + 2.0 * s.normal(),
                (_, 0) => f64::NAN,
                _ => z * z + 0.7 * s.normal(),
            }
        });
        (x, y)
    }

    #[test]
    fn a_curve_is_learned_from_noisy_records_and_its_scale_is_right() {
        for residual in [true, false] {
            learns_a_curve(residual);
        }
    }

    fn learns_a_curve(residual: bool) {
        let device = open("cpu").unwrap();
        let (x, y) = curved(3000);
        let config = TraitNetworkConfig {
            hidden: vec![32, 16],
            learning_rate: 3e-3,
            epochs: 40,
            residual,
            ..Default::default()
        };
        let animals: Vec<usize> = (0..2500).collect();
        let (train, validation) = animals.split_at(2250);
        let features = no_features(x.nrows());
        let (values, features) = (x.view(), features.view());
        let known = TraitRecords { values, features, records: y.view(), weights: None, train, validation };
        let train = || TraitNetwork::train(&device, &config, &known, 5).unwrap();
        let network = train();
        assert_eq!(network, train(), "the same twice");
        let predicted = network.predict(&device, x.view(), no_features(x.nrows()).view()).unwrap();
        let truth: Vec<f64> = (2500..3000).map(|i| ((x[[i, 0]] - 3.0) / 2.0).powi(2)).collect();
        let found: Vec<f64> = (2500..3000).map(|i| predicted[[i, 1]]).collect();
        let (r, slope) = (stats::pearson(&found, &truth), stats::slope(&found, &truth));
        assert!(r > 0.9 && (slope - 1.0).abs() < 0.15, "r = {r}, slope = {slope}");
        assert!((stats::mean(&found) - stats::mean(&truth)).abs() < 0.3);
        let line: Vec<f64> = (2500..3000).map(|i| 50.0 + 2.0 * (x[[i, 0]] - 3.0)).collect();
        let found: Vec<f64> = (2500..3000).map(|i| predicted[[i, 0]]).collect();
        assert!(stats::pearson(&found, &line) > 0.97);
        assert!(network.curve.len() > 1 && network.curve.iter().any(|p| p.best));
    }

    #[test]
    fn where_nothing_is_to_be_learned_the_values_stay() {
        let device = open("cpu").unwrap();
        let mut s = Stream::new(4, Purpose::Test, 0);
        let x = Array2::from_shape_simple_fn((300, 2), || 3.0 * s.normal());
        let y = Array2::from_shape_fn((300, 2), |(i, t)| x[[i, t]] + s.normal());
        let config =
            TraitNetworkConfig { hidden: vec![64], learning_rate: 0.05, epochs: 15, ..Default::default() };
        let animals: Vec<usize> = (0..300).collect();
        let (train, validation) = animals.split_at(270);
        let features = no_features(x.nrows());
        let (values, features) = (x.view(), features.view());
        let known = TraitRecords { values, features, records: y.view(), weights: None, train, validation };
        let network = TraitNetwork::train(&device, &config, &known, 5).unwrap();
        let predicted = network.predict(&device, x.view(), no_features(x.nrows()).view()).unwrap();
        for t in 0..2 {
            let r = stats::pearson(&predicted.column(t).to_vec(), &x.column(t).to_vec());
            assert!(r > 0.98, "{r}");
        }
    }

    #[test]
    fn wrong_settings_are_told() {
        let problem = |c: TraitNetworkConfig| c.check("model").unwrap_err().to_string();
        assert!(
            problem(TraitNetworkConfig { validation: 0.0, ..Default::default() }).contains("`validation`")
        );
        assert!(problem(TraitNetworkConfig { learning_rate: 0.0, ..Default::default() })
            .contains("`learning_rate`"));
        assert!(
            problem(TraitNetworkConfig { huber_delta: -1.0, ..Default::default() }).contains("huber_delta")
        );
        assert!(problem(TraitNetworkConfig { hidden: vec![0], ..Default::default() }).contains("hidden"));
        assert!(TraitNetworkConfig::default().check("model").is_ok());
    }
}
