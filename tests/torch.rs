//! Networks against PyTorch, whose losses, weights and running moments tests/data/torch/make.py writes down.

use genialearn::comm::reduce::Exchange;
use genialearn::comm::World;
use genialearn::device::network::{Activation, Loss};
use genialearn::device::open;
use genialearn::nn::train::{fit, Data};
use genialearn::nn::{Architecture, Input, Net, Normalisation, Ranks, Reads, Training};
use genialearn::packed::Packed;
use ndarray::Array2;
use serde::Deserialize;
use std::sync::Arc;

/// One training run of PyTorch, in f64. All matrices are row-major.
#[derive(Deserialize)]
struct Run {
    normalisation: Normalisation,
    /// Units of the hidden layers.
    hidden: Vec<usize>,
    /// Negative slope of the leaky ReLU; GELU (tanh) where there is none.
    negative_slope: Option<f64>,
    /// δ of Huber's loss; the squared loss where there is none.
    huber: Option<f64>,
    learning_rate: f64,
    /// Learning rate of the last step, as a share of the first.
    last_learning_rate: f64,
    /// λ of the penalty λ‖w‖² on the weights.
    l2: f64,
    /// Decoupled decay of the weights.
    weight_decay: f64,
    /// (n, m), 3 where missing.
    codes: Vec<u8>,
    /// What each SNP's calls 0, 1, 2 and missing are read as, (m).
    coding: Vec<[f64; 4]>,
    /// Records (n, t), none where missing.
    y: Vec<Option<f64>>,
    /// Weights of the records (n, t).
    weights: Option<Vec<f64>>,
    /// Number of traits, t.
    traits: usize,
    /// All parameters before the first step, in the order of the network's buffer.
    first: Vec<f64>,
    /// Loss of each step.
    losses: Vec<f64>,
    /// All parameters after the last step.
    last: Vec<f64>,
    /// Running means of the hidden layers, one after another.
    running_mean: Vec<f64>,
    /// Running variances.
    running_variance: Vec<f64>,
}

#[derive(Deserialize)]
struct File {
    runs: Vec<Run>,
}

impl Run {
    fn training(&self) -> Training {
        Training {
            epochs: self.losses.len(),
            loss: self.huber.map_or(Loss::Squared, Loss::Huber),
            learning_rate: self.learning_rate,
            warm_up: 0.0,
            last_learning_rate: self.last_learning_rate,
            l2: self.l2,
            weight_decay: self.weight_decay,
            clip: 0.0,
            validation: 0.0,
            ..Training::default()
        }
    }

    /// The network after as many steps on the whole batch, and the loss of each step.
    fn learn(&self, backend: &str) -> (Net, Vec<f64>) {
        let device = open(backend).unwrap();
        let ranks = Ranks::new(&World::alone(), &device, (1, 1), Exchange::Host).unwrap();
        let (m, t, training) = (self.coding.len(), self.traits, self.training());
        let n = self.codes.len() / m;
        let architecture = Architecture {
            hidden: self.hidden.clone(),
            normalisation: self.normalisation,
            activation: self.negative_slope.map_or(Activation::Gelu, Activation::LeakyRelu),
            dropout: 0.0,
        };
        let mut net = Net::new(&device, &architecture, &Reads::snps(0..m, m, 0), t, 1).unwrap();
        net.set_parameters(&self.first).unwrap();
        let z = device.hold(&Arc::new(Packed::from_codes(n, m, &self.codes)), &self.coding).unwrap();
        let y = self.y.iter().map(|y| y.unwrap_or(f64::NAN)).collect();
        let y = Array2::from_shape_vec((n, t), y).unwrap();
        let weights = self.weights.clone().map(|w| Array2::from_shape_vec((n, t), w).unwrap());
        let train: Vec<usize> = (0..n).collect();
        let data = Data {
            input: Input::Genotypes(&z, None),
            y: y.view(),
            weights: weights.as_ref().map(|w| w.view()),
            offset: None,
            train: &train,
            validation: &[],
        };
        let fitted = fit(net, &ranks, &training, data, 1, &mut ()).unwrap();
        (fitted.net, fitted.curve.iter().map(|point| point.loss).collect())
    }
}

/// Largest difference of two lists, relative to the largest number of the second.
fn distance(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0f64, |a, x| a.max(x.abs()));
    let worst = found.iter().zip(expected).fold(0.0f64, |a, (x, y)| a.max((x - y).abs()));
    assert!(found.iter().all(|x| x.is_finite()));
    if worst == 0.0 {
        0.0
    } else {
        worst / largest
    }
}

#[test]
fn perceptrons_learn_what_those_of_pytorch_learn() {
    let file: File = serde_json::from_str(include_str!("data/torch/perceptron.json")).unwrap();
    assert_eq!(file.runs.len(), 2);
    for (number, run) in file.runs.iter().enumerate() {
        let moved = distance(&run.first, &run.last);
        assert!(moved > 0.05, "PyTorch's parameters moved by {moved} alone");
        // Sums in another order round otherwise: about 1e-15 in f64 and 2e-7 in the f32 of `cpu` after all steps.
        for (backend, most) in [("reference", 1e-12), ("strict", 1e-12), ("cpu", 1e-5)] {
            let (net, losses) = run.learn(backend);
            let running = net.running().unwrap();
            let join = |of: fn(&genialearn::nn::Running) -> &Vec<f64>| {
                running.iter().flat_map(of).copied().collect::<Vec<f64>>()
            };
            let pairs = [
                ("loss", losses, &run.losses),
                ("parameters", net.parameters().unwrap(), &run.last),
                ("running mean", join(|r| &r.mean), &run.running_mean),
                ("running variance", join(|r| &r.variance), &run.running_variance),
            ];
            for (name, found, expected) in pairs {
                let distance = distance(&found, expected);
                assert!(distance < most, "run {number}, {backend}: {name} differs by {distance:e}");
            }
        }
    }
}
