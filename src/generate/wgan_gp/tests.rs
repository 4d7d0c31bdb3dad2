//! Gradients of the whole losses by finite differences in f64; sharing out of SNPs.

use super::config::{Config, Network as Shape, Training};
use super::nets::{Critic, GeneratorNet};
use super::step::{Batch, Learner, Told, SUMS};
use super::work::Work;
use crate::comm::reduce::Exchange;
use crate::comm::World;
use crate::device::network::Values;
use crate::device::open;
use crate::nn::ledger::Ledger;
use crate::nn::Ranks;
use crate::packed::Packed;
use crate::rng::{Purpose, Stream};
use ndarray::Array2;
use std::sync::Arc;

/// Animals, SNPs, animals of a batch.
const SHAPE: (usize, usize, usize) = (9, 600, 5);

fn config(widths: Vec<usize>, residual: bool) -> Config {
    let network = Shape { latent: 3, widths, residual, repeat: 2, negative_slope: 0.1 };
    // Much noise and a heavy penalty: all terms count.
    let training = Training { smoothing: 0.2, gradient_penalty: 3.0, ..Training::default() };
    Config { network, training, ..Config::default() }
}

struct Case {
    learner: Learner<'static>,
    batch: Batch,
}

impl Case {
    fn new(name: &str, config: Config, conditions: usize, exchange: Exchange) -> Case {
        let (n, m, b) = SHAPE;
        let (device, config) = (open(name).unwrap(), Box::leak(Box::new(config)));
        let ranks = Ranks::by_snps(&World::alone(), &device, (1, 1), exchange).unwrap();
        let ranks = Box::leak(Box::new(ranks));
        let mut s = Stream::new(3, Purpose::Test, 0);
        let codes: Vec<u8> = (0..n * m).map(|_| s.below(3) as u8).collect();
        let packed = Packed::from_codes(n, m, &codes);
        let values = Array2::from_shape_simple_fn((n, conditions), || s.normal());
        let values = Box::leak(Box::new(values));
        let runs = ranks.runs_of(m);
        let frequencies = vec![[0.3, 0.3, 0.4]; m];
        let shape = (conditions, m);
        let mut generator =
            GeneratorNet::new(&device, &config.network, shape, &runs, &frequencies, 5).unwrap();
        let mut critic = Critic::new(&device, &config.network, shape, &runs, 5).unwrap();
        let held = runs.iter().map(|snps| {
            let part = packed.select(&(0..n).collect::<Vec<_>>(), &snps.clone().collect::<Vec<_>>());
            device.hold(&Arc::new(part), &vec![[0.0; 4]; snps.len()]).unwrap()
        });
        let held = held.collect();
        // Away from zeros and ones, so that every term counts.
        for (k, values) in buffers(&mut generator, &mut critic).into_iter().enumerate() {
            let mut s = Stream::new(4, Purpose::Test, k as u64);
            let mut w = vec![0.0; values.len()];
            device.read(values.whole(), &mut w).unwrap();
            if k < 2 {
                w.iter_mut().for_each(|w| *w += 0.05 * s.normal());
            }
            device.write(&w, values.whole_mut()).unwrap();
        }
        let work = Work::new(&*device, ranks, (&generator, &critic), held, b).unwrap();
        let conditions = (conditions > 0).then(|| values.view());
        let told = Ledger::new(&*device, SUMS).unwrap();
        let learner = Learner { generator, critic, work, told, ranks, device, config, conditions, seed: 7 };
        Case { learner, batch: Batch { animals: vec![4, 0, 8, 3, 6], first: 0, count: b } }
    }

    fn read(&self, values: &Values) -> Vec<f64> {
        let mut out = vec![0.0; values.len()];
        self.learner.device.read(values.whole(), &mut out).unwrap();
        out
    }

    /// The loss of the critic or the generator.
    fn loss(&mut self, of_critic: bool) -> f64 {
        let done = match of_critic {
            true => self.learner.judge(&self.batch, 2, 0.7),
            false => self.learner.fool(&self.batch, 2, 0.7),
        };
        assert!(done.unwrap());
        match self.learner.settle().unwrap()[..] {
            [Told::Critic(seen)] => seen.loss(),
            [Told::Generator(loss)] => loss,
            ref told => panic!("one step was done: {told:?}"),
        }
    }

    /// Its gradient: by the chain's parameters, then by those of the runs of SNPs.
    fn gradient(&mut self, of_critic: bool) -> Vec<Vec<f64>> {
        self.loss(of_critic);
        let work = &self.learner.work;
        let chain = if of_critic { &work.critic } else { &work.generator };
        let runs = work.runs.iter().map(|run| if of_critic { &run.critic.0 } else { &run.generator.0 });
        std::iter::once(chain.gradient()).chain(runs).map(|values| self.read(values)).collect()
    }

    /// The parameters in the same order.
    fn parameters(&mut self, of_critic: bool) -> Vec<&mut Values> {
        let Learner { generator, critic, .. } = &mut self.learner;
        let (stack, snp_layer) = match of_critic {
            true => (&mut critic.stack, &mut critic.snp_layer),
            false => (&mut generator.stack, &mut generator.snp_layer),
        };
        let runs = snp_layer.iter_mut().map(|f| f.parameters_mut());
        std::iter::once(&mut stack.parameters).chain(runs).collect()
    }

    fn slope(&mut self, of_critic: bool, buffer: usize, at: usize) -> f64 {
        let device = self.learner.device.clone();
        let mut here = [0.0];
        device.read(self.parameters(of_critic)[buffer].part(at..at + 1), &mut here).unwrap();
        let mut moved = |step: f64| {
            let mut all = self.parameters(of_critic);
            device.write(&[here[0] + step], all[buffer].part_mut(at..at + 1)).unwrap();
            drop(all);
            self.loss(of_critic)
        };
        let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        moved(0.0);
        slope
    }
}

fn buffers<'a>(generator: &'a mut GeneratorNet, critic: &'a mut Critic) -> Vec<&'a mut Values> {
    let chains = [&mut generator.stack.parameters, &mut critic.stack.parameters];
    let snp_layer = generator.snp_layer.iter_mut().chain(&mut critic.snp_layer).map(|f| f.parameters_mut());
    chains.into_iter().chain(snp_layer).collect()
}

/// (widths, residual blocks, conditions)
fn shapes() -> Vec<(Config, usize)> {
    vec![(config(vec![4, 6], true), 2), (config(vec![5], true), 0), (config(vec![3, 4], false), 1)]
}

#[test]
fn gradients_of_both_losses_are_those_of_finite_differences() {
    let exchanges = [Exchange::Ordered, Exchange::Host, Exchange::Host];
    for ((config, conditions), exchange) in shapes().into_iter().zip(exchanges) {
        let mut case = Case::new("strict", config, conditions, exchange);
        for of_critic in [true, false] {
            let gradient = case.gradient(of_critic);
            let all: Vec<f64> = gradient.concat();
            let largest = all.iter().fold(0.0f64, |a, g| a.max(g.abs()));
            assert!(largest > 1e-3 && all.iter().all(|g| g.is_finite()));
            for (buffer, gradient) in gradient.iter().enumerate() {
                // Of each run of SNPs some, its first and its last.
                let step = if buffer == 0 { 3 } else { (gradient.len() / 13).max(1) };
                let chosen = (0..gradient.len()).step_by(step).chain(gradient.len().checked_sub(1));
                for at in chosen {
                    let (slope, g) = (case.slope(of_critic, buffer, at), gradient[at]);
                    assert!(
                        (slope - g).abs() < 1e-6 * g.abs() + 1e-7 * largest,
                        "critic {of_critic}, buffer {buffer} [{at}]: {g}, slope {slope}, largest {largest}"
                    );
                }
            }
        }
    }
}

#[test]
fn pieces_of_the_snps_give_the_gradient_of_the_whole() {
    let (config, conditions) = shapes().remove(0);
    for of_critic in [true, false] {
        let [whole, cut] = [Exchange::Host, Exchange::Ordered].map(|exchange| {
            let mut case = Case::new("strict", config.clone(), conditions, exchange);
            let gradient = case.gradient(of_critic);
            (case.loss(of_critic), gradient[0].clone(), gradient.len())
        });
        assert_eq!((whole.2, cut.2), (2, 5));
        let near = |a: f64, b: f64| (a - b).abs() < 1e-10 * (1.0 + b.abs());
        assert!(near(whole.0, cut.0) && whole.1.iter().zip(&cut.1).all(|(a, b)| near(*a, *b)));
    }
}

#[test]
fn other_backends_give_what_the_reference_gives() {
    let (config, conditions) = shapes().remove(0);
    for of_critic in [true, false] {
        let gradient = |name: &str| {
            let mut case = Case::new(name, config.clone(), conditions, Exchange::Ordered);
            case.gradient(of_critic).concat()
        };
        let want = gradient("reference");
        let largest = want.iter().fold(0.0f64, |a, g| a.max(g.abs()));
        for name in ["cpu", "cuda"].into_iter().filter(|name| open(name).is_ok()) {
            let found = gradient(name);
            let worst = want.iter().zip(&found).fold(0.0f64, |a, (w, f)| a.max((w - f).abs()));
            assert!(worst < 1e-4 * largest, "{name}: {worst} of {largest}");
        }
    }
}
