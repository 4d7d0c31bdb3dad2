//! Whole trainings against PyTorch, whose parameters, running moments and losses tests/data/torch/make_wgan.py writes
//! down. It draws the program's random numbers itself, and leaves all gradients to PyTorch.

use super::config::{Config, Network as Shape, Training};
use super::nets::SnpLayer;
use super::step::{Batch, Learner, Seen, Told};
use super::train::Trainer;
use crate::comm::reduce::Exchange;
use crate::comm::World;
use crate::device::network::{Network, Values};
use crate::device::open;
use crate::generate::{tests, Conditions, Herd, Setting};
use crate::nn::epochs::{Advance, Learns};
use crate::nn::stack::Stack;
use crate::nn::Ranks;
use crate::nn::Running;
use crate::packed::Packed;
use ndarray::Array2;
use serde::Deserialize;

/// Parameters of both networks: of the chain, then of the layer that faces SNPs.
#[derive(Deserialize)]
struct Both {
    generator: Vec<f64>,
    critic: Vec<f64>,
}

/// One training run of PyTorch, in f64. All matrices are row-major.
#[derive(Deserialize)]
struct Run {
    seed: u64,
    network: Shape,
    training: Training,
    animals: usize,
    snps: usize,
    /// (animals, snps)
    codes: Vec<u8>,
    /// Standardised, (animals, conditions).
    conditions: Vec<f64>,
    /// Before the first step.
    first: Both,
    learnt: Learnt,
}

/// What a training gave.
#[derive(Deserialize)]
struct Learnt {
    /// Mean judgement of real and of generated animals, penalty and norm ‖g‖, in each epoch.
    seen: Vec<[f64; 4]>,
    /// After the last step.
    last: Both,
    /// Of the generator's batch normalisations, one after another.
    running_mean: Vec<f64>,
    running_variance: Vec<f64>,
    /// The generator's loss in a step more, for the animals [`NEXT`].
    next_loss: f64,
}

#[derive(Deserialize)]
struct File {
    runs: Vec<Run>,
}

/// Animals that give their conditions to a last batch.
const NEXT: [usize; 4] = [3, 0, 12, 5];

impl Run {
    fn herd(&self, ranks: &Ranks) -> Herd {
        let rows: Vec<usize> = (0..self.animals).collect();
        let c = self.conditions.len() / self.animals;
        let values = Array2::from_shape_vec((self.animals, c), self.conditions.clone()).unwrap();
        let names = (0..c).map(|k| format!("trait{k}")).collect();
        let conditions = (c > 0).then(|| Conditions { names, mean: vec![0.0; c], sd: vec![1.0; c], values });
        let packed = Packed::from_codes(self.animals, self.snps, &self.codes);
        let (_, variants) = tests::herd(self.animals, self.snps);
        Herd::new(ranks, (packed, &rows), &variants, conditions, self.seed).unwrap()
    }

    /// As the program learns from PyTorch's first parameters on.
    fn learn(&self, backend: &str) -> Learnt {
        let device = open(backend).unwrap();
        let ranks = Ranks::by_snps(&World::alone(), &device, (1, 1), Exchange::Ordered).unwrap();
        let herd = self.herd(&ranks);
        let (network, training) = (self.network.clone(), self.training.clone());
        let config = Config { network, training, ..Config::default() };
        let setting = Setting { ranks: &ranks, device: &device, seed: self.seed };
        let mut trainer = Trainer::new(&setting, &config, &herd).unwrap();
        let Learner { generator, critic, .. } = &mut trainer.learner;
        write(&*device, &self.first.generator, &mut generator.stack, &mut generator.snp_layer);
        write(&*device, &self.first.critic, &mut critic.stack, &mut critic.snp_layer);
        while trainer.state.at.epoch < config.training.epochs {
            assert_ne!(trainer.step().unwrap(), Advance::GivenUp);
        }
        let (generator, critic) = (&trainer.learner.generator, &trainer.learner.critic);
        let last = Both {
            generator: read(&*device, &generator.stack, &generator.snp_layer),
            critic: read(&*device, &critic.stack, &critic.snp_layer),
        };
        let running = generator.stack.running.read(&*device).unwrap();
        let join = |of: fn(&Running) -> &Vec<f64>| running.iter().flat_map(of).copied().collect();
        let (running_mean, running_variance) = (join(|r| &r.mean), join(|r| &r.variance));
        let seen = |seen: &Seen| [seen.real, seen.fake, seen.penalty, seen.norm];
        let seen = trainer.state.curve.iter().map(|point| seen(&point.seen)).collect();
        let (made, temperature) = (trainer.state.made, config.training.temperature[1]);
        let batch = Batch { animals: NEXT.to_vec(), first: 0, count: NEXT.len() };
        assert!(trainer.learner.fool(&batch, made, temperature).unwrap());
        let [Told::Generator(next_loss)] = trainer.learner.settle().unwrap()[..] else { panic!("one step") };
        Learnt { seen, last, running_mean, running_variance, next_loss }
    }
}

/// Sets the parameters of a network, whose SNPs are so few that they are one run.
fn write(device: &dyn Network, from: &[f64], stack: &mut Stack, snp_layer: &mut [SnpLayer]) {
    let (of_chain, of_facing) = from.split_at(stack.parameters.len());
    device.write(of_chain, stack.parameters.whole_mut()).unwrap();
    let run = snp_layer.iter_mut().find(|run| run.width() > 0).unwrap();
    device.write(of_facing, run.parameters_mut().whole_mut()).unwrap();
}

/// The parameters of a network in the same order.
fn read(device: &dyn Network, stack: &Stack, snp_layer: &[SnpLayer]) -> Vec<f64> {
    let runs = snp_layer.iter().map(|run| run.parameters());
    let of = |values: &Values| {
        let mut out = vec![0.0; values.len()];
        device.read(values.whole(), &mut out).unwrap();
        out
    };
    std::iter::once(&stack.parameters).chain(runs).flat_map(of).collect()
}

/// Largest difference of two lists, relative to the largest number of the second.
fn distance(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().all(|x| x.is_finite()));
    let largest = expected.iter().fold(0.0f64, |a, x| a.max(x.abs()));
    found.iter().zip(expected).fold(0.0f64, |a, (x, y)| a.max((x - y).abs())) / largest
}

#[test]
fn critics_and_generators_learn_what_those_of_pytorch_learn() {
    let file: File = serde_json::from_str(include_str!("../../../tests/data/torch/wgan.json")).unwrap();
    assert_eq!(file.runs.len(), 3);
    for (number, run) in file.runs.iter().enumerate() {
        let (first, wanted) = (&run.first, &run.learnt);
        for (first, last) in
            [(&first.generator, &wanted.last.generator), (&first.critic, &wanted.last.critic)]
        {
            let moved = distance(first, last);
            assert!(moved > 0.02, "PyTorch's parameters moved by {moved} alone");
        }
        // Sums in another order round otherwise: about 2e-13 in f64 and 6e-7 in the f32 of `cpu` after all steps.
        for (backend, most) in [("reference", 1e-11), ("strict", 1e-11), ("cpu", 1e-5)] {
            let found = run.learn(backend);
            let pairs = [
                ("what the critic saw", &found.seen.concat(), &wanted.seen.concat()),
                ("the generator", &found.last.generator, &wanted.last.generator),
                ("the critic", &found.last.critic, &wanted.last.critic),
                ("running mean", &found.running_mean, &wanted.running_mean),
                ("running variance", &found.running_variance, &wanted.running_variance),
                ("the generator's next loss", &vec![found.next_loss], &vec![wanted.next_loss]),
            ];
            for (name, found, wanted) in pairs {
                let distance = distance(found, wanted);
                assert!(distance < most, "run {number}, {backend}: {name} differs by {distance:e}");
            }
        }
    }
}
