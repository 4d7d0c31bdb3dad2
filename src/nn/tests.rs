//! Gradients by finite differences, backends against the reference, pieces against the whole.

use super::features::{Encoded, Encoding};
use super::*;
use crate::comm::reduce::Exchange;
use crate::comm::World;
use crate::device::network::{Activation, Loss, Network};
use crate::device::{open, Genotypes};
use crate::packed::Packed;
use crate::records::{Feature, Features, Values};
use crate::rng::{Purpose, Stream};
use std::sync::Arc;

/// Animals, SNPs (or columns), traits.
const SHAPE: (usize, usize, usize) = (11, 9, 3);

fn numbers(length: usize, index: u64) -> Vec<f64> {
    let mut s = Stream::new(21, Purpose::Test, index);
    (0..length).map(|_| s.normal()).collect()
}

fn genotypes(device: &dyn Network) -> Genotypes {
    let (n, m, _) = SHAPE;
    let mut s = Stream::new(22, Purpose::Test, 0);
    let codes: Vec<u8> = (0..n * m).map(|_| s.below(4) as u8).collect();
    let coding: Vec<[f64; 4]> = (0..m).map(|j| [-0.7, 0.1 + 0.05 * j as f64, 1.2, 0.0]).collect();
    device.hold(&Arc::new(Packed::from_codes(n, m, &codes)), &coding).unwrap()
}

/// A number that some animals lack, and a class.
fn features() -> Encoded {
    let (n, ..) = SHAPE;
    let number = (0..n).map(|i| if i % 4 == 1 { f64::NAN } else { (i * i % 7) as f64 }).collect();
    let level = (0..n).map(|i| (i != 5).then(|| format!("h{}", i % 3))).collect();
    let feature = |name: &str, values| Feature { name: name.into(), values };
    let all = Features(vec![feature("age", Values::Numbers(number)), feature("herd", Values::Levels(level))]);
    let encoding = Encoding::of(&all, &(0..n).collect::<Vec<_>>());
    assert_eq!(encoding.width(), 5);
    encoding.encoded(&all).unwrap()
}

/// A network with a batch of animals in no order, whose records are half missing.
struct Case {
    net: Net,
    ranks: Ranks,
    work: Work,
    loss: Loss,
    weighted: bool,
    dense: Option<Vec<f64>>,
    held: Genotypes,
    features: Encoded,
}

impl Case {
    fn new(name: &str, architecture: &Architecture, dense: bool, loss: Loss, exchange: Exchange) -> Case {
        let device = open(name).unwrap();
        let (n, m, t) = SHAPE;
        let ranks = Ranks::new(&World::alone(), &device, (1, 1), exchange).unwrap();
        let features = if dense { Encoded::default() } else { features() };
        let reads = if dense { Reads::numbers(m) } else { Reads::snps(0..m, m, features.width()) };
        let mut net = Net::new(&device, architecture, &reads, t, 5).unwrap();
        // Away from zeros and ones, so that every term counts.
        let moved = net.parameters().unwrap().into_iter().zip(numbers(net.chain.parameters.len(), 3));
        net.set_parameters(&moved.map(|(w, e)| w + 0.1 * e).collect::<Vec<_>>()).unwrap();
        let work = Work::new(&net, &ranks, n, true).unwrap();
        let held = genotypes(&*device);
        let dense = dense.then(|| numbers(n * m, 4));
        Case { net, ranks, work, loss, weighted: loss != Loss::Squared, dense, held, features }
    }

    /// The loss of a batch; with the gradient where it is asked for.
    fn loss(&mut self, gradient: bool) -> (f64, Vec<f64>) {
        let (n, m, t) = SHAPE;
        let whole: Vec<usize> = (0..n).map(|i| (i * 4 + 2) % n).collect();
        let pieces = self.ranks.pieces(n);
        let device = self.net.device().clone();
        let snps = Input::Genotypes(&self.held, Some(&self.features));
        let input = self.dense.as_ref().map_or(snps, |x| Input::Dense(x, m));
        let batch = Batch::new(&*device, input, &whole, &pieces).unwrap();
        let mut observed = numbers(n * t, 6);
        observed.iter_mut().step_by(2).for_each(|y| *y = f64::NAN);
        let weights: Vec<f64> = numbers(n * t, 7).iter().map(|w| 0.2 + w.abs()).collect();
        let weights = self.weighted.then_some(&weights[..]);
        let records = Records::new(&*device, &observed, weights, 7.0).unwrap();
        let mode = Mode::Train { seed: 8, step: 3 };
        self.net.forward(&self.ranks, &batch, mode, &mut self.work).unwrap();
        self.net.loss(&self.ranks, &batch, &records, self.loss, &mut self.work).unwrap();
        let mut loss = vec![0.0; self.net.outputs()];
        self.net.device().read(self.work.losses(), &mut loss).unwrap();
        let mut found = vec![0.0; self.net.chain.parameters.len()];
        if gradient {
            self.net.backward(&self.ranks, &batch, mode, &mut self.work).unwrap();
            device.read(self.work.gradient().whole(), &mut found).unwrap();
        }
        (loss.iter().sum(), found)
    }
}

/// Every option of every layer at least once, with each of the others somewhere.
fn cases() -> Vec<(Architecture, bool, Loss)> {
    let relu = Activation::LeakyRelu(0.0);
    let leaky = Activation::LeakyRelu(0.1);
    [
        (vec![], Normalisation::None, relu, 0.0, false, Loss::Squared),
        (vec![7], Normalisation::None, leaky, 0.0, false, Loss::Squared),
        (vec![7, 5], Normalisation::Batch, relu, 0.0, false, Loss::Squared),
        (vec![6], Normalisation::Batch, Activation::Gelu, 0.3, false, Loss::Huber(1.0)),
        (vec![6, 5, 4], Normalisation::Layer, Activation::Gelu, 0.0, false, Loss::Huber(0.5)),
        (vec![5, 4], Normalisation::Layer, leaky, 0.25, true, Loss::Squared),
        (vec![5, 4, 4, 3], Normalisation::None, Activation::Gelu, 0.2, false, Loss::Squared),
        (vec![7, 4], Normalisation::None, leaky, 0.0, true, Loss::Huber(1.0)),
        (vec![8, 4], Normalisation::Batch, leaky, 0.2, true, Loss::Squared),
    ]
    .map(|(hidden, normalisation, activation, dropout, dense, loss)| {
        (Architecture { hidden, normalisation, activation, dropout }, dense, loss)
    })
    .into()
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for (architecture, dense, loss) in cases() {
        let mut case = Case::new("strict", &architecture, dense, loss, Exchange::Host);
        let (loss, gradient) = case.loss(true);
        let parameters = case.net.parameters().unwrap();
        let largest = gradient.iter().fold(0.0f64, |a, g| a.max(g.abs()));
        assert!(loss > 0.0 && largest > 0.0);
        for (at, &g) in gradient.iter().enumerate() {
            let mut at_step = |step: f64| {
                let mut moved = parameters.clone();
                moved[at] += step;
                case.net.set_parameters(&moved).unwrap();
                case.loss(false).0
            };
            let slope = (at_step(1e-6) - at_step(-1e-6)) / 2e-6;
            let name = case.net.parts().iter().find(|t| t.range.contains(&at)).unwrap().name.clone();
            let most = 2e-6 * g.abs() + 1e-8 * largest;
            assert!((slope - g).abs() < most.max(1e-9), "{architecture:?} {name} [{at}]: {g}, slope {slope}");
        }
    }
}

#[test]
fn other_backends_give_the_gradients_of_the_reference() {
    for (architecture, dense, loss) in cases() {
        let names = ["reference", "strict", "cpu", "cuda"].into_iter();
        let mut found: Vec<_> = names
            .filter(|name| open(name).is_ok())
            .map(|name| {
                let mut case = Case::new(name, &architecture, dense, loss, Exchange::Host);
                (case.loss(true), case.net.device().precision())
            })
            .collect();
        let ((loss, gradient), _) = found[0].clone();
        let largest = gradient.iter().fold(0.0f64, |a, g| a.max(g.abs()));
        for ((other_loss, other), precision) in &mut found {
            assert!((*other_loss - loss).abs() <= 100.0 * *precision * loss, "{other_loss} {loss}");
            for (g, o) in gradient.iter().zip(other) {
                assert!((g - *o).abs() <= 2000.0 * *precision * largest, "{architecture:?} {g} {o}");
            }
        }
    }
}

#[test]
fn pieces_of_a_batch_give_the_gradient_of_the_whole() {
    for (architecture, dense, loss) in cases() {
        let [whole, cut] = [Exchange::Host, Exchange::Ordered]
            .map(|exchange| Case::new("strict", &architecture, dense, loss, exchange).loss(true));
        let largest = whole.1.iter().fold(0.0f64, |a, g| a.max(g.abs()));
        assert!((whole.0 - cut.0).abs() < 1e-12 * whole.0);
        for (g, o) in whole.1.iter().zip(&cut.1) {
            assert!((g - o).abs() < 1e-12 * largest, "{architecture:?}: {g} {o}");
        }
    }
}

#[test]
fn first_weights_do_not_depend_on_how_the_snps_are_shared_out() {
    let device = open("reference").unwrap();
    let architecture = Architecture { hidden: vec![50], ..Architecture::default() };
    let of = |own: std::ops::Range<usize>| {
        Net::new(&device, &architecture, &Reads::snps(own, 40, 0), 2, 5).unwrap().parameters().unwrap()
    };
    let (all, first, second) = (of(0..40), of(0..15), of(15..40));
    assert_eq!(all[..15 * 50], first[..15 * 50]);
    assert_eq!(all[15 * 50..], second);
    let variance = crate::stats::variance(&all[..40 * 50]);
    assert!((variance * 40.0 - 2.0).abs() < 0.3, "{variance}");
}
