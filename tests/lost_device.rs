//! A device that is lost on one rank in the midst of training: all ranks end, and nothing half-written remains.

mod support;

use genialearn::comm::reduce::Exchange;
use genialearn::comm::World;
use genialearn::device::by_code::{Lines, Sample};
use genialearn::device::network::{
    Accumulate, Activation, Adam, Animals, Clip, Draw, Gpus, Loss, Network, OneHot, Product, Rows, Slice,
    SliceMut, Values,
};
use genialearn::device::{open, Backend, Coding, Genotypes, Part, Reals, Sums};
use genialearn::error::{Error, Result};
use genialearn::generate::wgan_gp::{self, train::fit};
use genialearn::generate::{Herd, Kind, Setting};
use genialearn::genotype::Variants;
use genialearn::nn::checkpointer::Checkpointer;
use genialearn::nn::mlp::{train, Task};
use genialearn::nn::{Config, Ranks};
use genialearn::packed::Packed;
use genialearn::records::Phenotypes;
use genialearn::rng::{Purpose, Stream};
use genialearn::stats::FixedPoint;
use ndarray::Array2;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::Arc;
use std::time::Duration;

/// Steps that go well.
const STEPS: u64 = 2;
/// Animals, SNPs (two chunks).
const SHAPE: (usize, usize) = (24, 300);
/// From the launch of two ranks to the end of both.
const LIMIT: Duration = Duration::from_secs(10);

/// The processor, lost in the first product after some steps of the optimizer.
struct Mortal {
    device: Arc<dyn Network>,
    steps: AtomicU64,
    lost: AtomicBool,
}

impl Mortal {
    fn alive(&self) -> Result<&dyn Network> {
        match self.lost.load(SeqCst) {
            true => Err(Error::failed("device", "it was lost", "look at the machine")),
            false => Ok(&*self.device),
        }
    }
}

/// Operations that the processor does while it is there.
macro_rules! passed_on {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(fn $name(&self, $($argument: $type),*) -> Result<$result> {
            self.alive()?.$name($($argument),*)
        })*
    };
}

impl Backend for Mortal {
    fn name(&self) -> &'static str {
        self.device.name()
    }

    passed_on! {
        fn hold(packed: &Arc<Packed>, coding: &[Coding]) -> Genotypes;
        fn reals(length: usize) -> Reals;
        fn sums(length: usize) -> Sums;
        fn upload(values: Vec<f64>) -> Reals;
        fn download(from: &Reals, to: &mut [f64]) -> ();
        fn download_sums(from: Sums) -> Vec<i64>;
        fn times(z: &Genotypes, v: &Reals, points: &[FixedPoint], sums: &mut Sums) -> ();
        fn transposed_times(z: &Genotypes, v: &Reals, k: usize, out: &mut Reals) -> ();
        fn largest(weights: &Reals, v: &Reals, k: usize) -> Vec<f64>;
        fn quick_times(z: &Genotypes, v: &Reals, points: &[FixedPoint], sums: &mut Sums) -> ();
        fn quick_transposed_times(z: &Genotypes, v: &Reals, k: usize, out: &mut Reals) -> ();
        fn counts(z: &Genotypes, a: Range<usize>, b: Range<usize>, part: Part, out: &mut [i32]) -> ();
        fn sums_by_code(lines: &Lines, samples: &[Sample], out: &mut [Vec<i32>]) -> ();
        fn cross(z: &Genotypes, a: Range<usize>, b: Range<usize>, point: FixedPoint, sums: &mut Sums) -> ();
    }
}

impl OneHot for Mortal {
    passed_on! {
        fn onehot_times(animals: &Animals, w: Slice, h: usize, out: SliceMut) -> ();
        fn onehot_transposed_times(animals: &Animals, dense: Option<Slice>, d: Slice, h: usize, accumulate: Accumulate, out: SliceMut) -> ();
        fn softmax(temperature: f64, noise: Option<Draw>, width: usize, x: SliceMut) -> ();
        fn softmax_backward(temperature: f64, y: Slice, delta: SliceMut) -> ();
        fn contrasts(h: usize, w: Slice, out: SliceMut) -> ();
        fn softmax_contrasts(temperature: f64, noise: Option<Draw>, snps: usize, x: SliceMut) -> ();
        fn softmax_contrasts_backward(temperature: f64, y: Slice, snps: usize, delta: SliceMut) -> ();
        fn cross_entropy(z: &Genotypes, rows: &Rows, factor: f64, logits: Slice, costs: SliceMut, delta: SliceMut) -> ();
        fn row_squares(x: Slice, out: SliceMut) -> ();
        fn gradient_penalty(factor: f64, squares: Slice, factors: SliceMut, sums: SliceMut) -> ();
        fn scale_rows(factors: Slice, x: Slice, accumulate: Accumulate, out: SliceMut) -> ();
    }
}

impl Network for Mortal {
    fn precision(&self) -> f64 {
        self.device.precision()
    }

    fn gpus(&self) -> Option<&dyn Gpus> {
        self.device.gpus()
    }

    fn product(
        &self,
        shape: Product,
        a: Slice,
        b: Slice,
        accumulate: Accumulate,
        out: SliceMut,
    ) -> Result<()> {
        self.lost.fetch_or(self.steps.load(SeqCst) >= STEPS, SeqCst);
        self.alive()?.product(shape, a, b, accumulate, out)
    }

    fn adam(
        &self,
        adam: &Adam,
        clip: Option<Clip>,
        gradient: Slice,
        to: SliceMut,
        first: SliceMut,
        second: SliceMut,
    ) -> Result<()> {
        self.steps.fetch_max(adam.step, SeqCst);
        self.alive()?.adam(adam, clip, gradient, to, first, second)
    }

    passed_on! {
        fn values(length: usize) -> Values;
        fn write(from: &[f64], to: SliceMut) -> ();
        fn read(from: Slice, to: &mut [f64]) -> ();
        fn write_singles(from: &[f32], to: SliceMut) -> ();
        fn read_singles(from: Slice, to: &mut [f32]) -> ();
        fn rows(rows: &[u32]) -> Rows;
        fn fill(value: f64, to: SliceMut) -> ();
        fn copy(from: Slice, to: SliceMut) -> ();
        fn blend(keep: f64, factor: f64, x: Slice, y: SliceMut) -> ();
        fn gather_times(z: &Genotypes, rows: &Rows, w: Slice, h: usize, out: SliceMut) -> ();
        fn gather_transposed_times(z: &Genotypes, rows: &Rows, d: Slice, h: usize, snps: Range<usize>, accumulate: Accumulate, out: SliceMut) -> ();
        fn add_row(row: Slice, x: SliceMut) -> ();
        fn column_sums(x: Slice, accumulate: Accumulate, out: SliceMut) -> ();
        fn column_squares(x: Slice, centre: Slice, out: SliceMut) -> ();
        fn column_products(x: Slice, y: Slice, accumulate: Accumulate, out: SliceMut) -> ();
        fn activate(activation: Activation, x: Slice, out: SliceMut) -> ();
        fn activate_backward(activation: Activation, x: Slice, delta: SliceMut) -> ();
        fn dropout(rate: f64, draw: Draw, width: usize, x: SliceMut) -> ();
        fn divide(count: f64, x: SliceMut) -> ();
        fn inverse_sd(count: f64, epsilon: f64, x: SliceMut) -> ();
        fn normalise_columns(mean: Slice, inverse_sd: Slice, x: SliceMut) -> ();
        fn normalise_columns_backward(normalised: Slice, scale: Slice, inverse_sd: Slice, sums: Slice, products: Slice, count: f64, delta: SliceMut) -> ();
        fn scale_columns(x: Slice, scale: Slice, shift: Slice, out: SliceMut) -> ();
        fn normalise_rows(epsilon: f64, x: SliceMut, inverse_sd: SliceMut) -> ();
        fn normalise_rows_backward(normalised: Slice, scale: Slice, inverse_sd: Slice, delta: SliceMut) -> ();
        fn loss(loss: Loss, factor: f64, predicted: Slice, observed: Slice, weights: Option<Slice>, delta: SliceMut, sums: SliceMut) -> ();
        fn sum_of_squares(x: Slice, out: SliceMut) -> ();
        fn uniforms(draw: Draw, width: usize, out: SliceMut) -> ();
        fn normals(draw: Draw, width: usize, out: SliceMut) -> ();
    }
}

/// The processor, which the second rank loses.
fn device(world: &World) -> Arc<dyn Network> {
    let device = open("cpu").unwrap();
    match world.rank() {
        1 => Arc::new(Mortal { device, steps: AtomicU64::new(0), lost: AtomicBool::new(false) }),
        _ => device,
    }
}

/// Has two ranks train in an empty folder, of which one loses its device; `left` is all that may lie there then.
fn loses(test: &str, left: &[&str], learn: impl Fn(&World)) {
    let ended = support::ends_on_ranks(test, 2, LIMIT, |world| {
        learn(world);
        eprintln!("rank {} went on", world.rank());
    });
    if let Some((told, files)) = ended {
        assert!(told.contains("error: rank 1: device: it was lost"), "{told}");
        assert!(!told.contains("went on") && !told.contains("panicked"), "{told}");
        assert!(files.iter().eq(left), "{files:?}");
    }
}

fn calls() -> Vec<u8> {
    let mut s = Stream::new(4, Purpose::Test, 1);
    (0..SHAPE.0 * SHAPE.1).map(|_| s.below(3) as u8).collect()
}

fn herd(ranks: &Ranks) -> Herd {
    let (n, m) = SHAPE;
    let (animals, own): (Vec<usize>, Vec<usize>) = ((0..n).collect(), ranks.snps_of(m).collect());
    let packed = Packed::from_codes(n, m, &calls()).select(&animals, &own);
    let id: Vec<String> = (0..m).map(|j| j.to_string()).collect();
    let variants = Variants { id, chromosome: vec!["1".into(); m], ..Variants::default() };
    Herd::new(ranks, (packed, &animals), &variants, None, 1).unwrap()
}

#[test]
fn a_network_whose_device_is_lost_in_the_third_step_ends_all_ranks() {
    let test = "a_network_whose_device_is_lost_in_the_third_step_ends_all_ranks";
    loses(test, &["x.checkpoint"], |world| {
        let (n, m) = SHAPE;
        let device = device(world);
        let ranks = Ranks::new(world, &device, (2, 1), Exchange::Host).unwrap();
        let (all, own): (Vec<usize>, Vec<usize>) = ((0..n).collect(), ranks.snps_of(m).collect());
        let packed = Arc::new(Packed::from_codes(n, m, &calls()).select(&all, &own));
        let phenotypes = Phenotypes {
            traits: vec!["a".into()],
            y: Array2::from_shape_fn((n, 1), |(i, _)| (i as f64).sin()),
            effects: vec!["intercept".into()],
            design: Array2::ones((n, 1)),
            ..Phenotypes::default()
        };
        let mut config = Config::default();
        config.network.hidden = vec![6, 5];
        (config.training.batch, config.training.epochs, config.training.validation) = (12, 9, 0.0);
        let (phenotypes, config) = (&phenotypes, &config);
        let task = Task {
            packed: &packed,
            m,
            phenotypes,
            offset: None,
            animals: &all,
            synthetic: None,
            config,
            seed: 3,
        };
        // Two steps are an epoch, whose state is kept.
        let mut checkpointer = Checkpointer::new(world, Path::new("x.checkpoint"), Vec::new(), 1, false);
        let _ = train(&ranks, &device, &task, &mut checkpointer);
    });
}

#[test]
fn a_wgan_whose_device_is_lost_in_the_third_step_ends_all_ranks() {
    let test = "a_wgan_whose_device_is_lost_in_the_third_step_ends_all_ranks";
    loses(test, &["x.checkpoint"], |world| {
        let device = device(world);
        let mut config = wgan_gp::Config::default();
        (config.network.latent, config.network.widths) = (5, vec![6, 8]);
        config.training = wgan_gp::config::Training {
            batch: 12,
            epochs: 9,
            critic_steps: 3,
            evaluate_every: 9,
            validation: 0.0,
            ..config.training
        };
        let ranks = wgan_gp::ranks(world, &device, &config.ranks, SHAPE.1).unwrap();
        let setting = Setting { ranks: &ranks, device: &device, seed: 3 };
        let mut checkpointer = Checkpointer::new(world, Path::new("x.checkpoint"), Vec::new(), 1, false);
        let _ = fit(&setting, &config, &herd(&ranks), &mut checkpointer);
    });
}

/// A rival by its name, with a configuration of a small one.
fn rival(test: &str, name: &str, config: &str) {
    loses(test, &[], |world| {
        let (device, kind) = (device(world), Kind::named(name).unwrap());
        let text = format!("{config}batch = 12\nepochs = 9\n");
        let recipe = (kind.configure)(Some((&text, Path::new("x.toml")))).unwrap();
        let ranks = recipe.ranks(world, &device, kind.split, SHAPE.1).unwrap();
        let setting = Setting { ranks: &ranks, device: &device, seed: 3 };
        let _ = recipe.train(&setting, &herd(&ranks), None);
    });
}

#[test]
fn a_vae_whose_device_is_lost_ends_all_ranks() {
    rival("a_vae_whose_device_is_lost_ends_all_ranks", "vae", "widths = [6, 5]\nlatent = 3\n");
}

#[test]
fn a_gan_whose_device_is_lost_ends_all_ranks() {
    rival(
        "a_gan_whose_device_is_lost_ends_all_ranks",
        "gan",
        "latent = 3\ngenerator = [4, 6]\ndiscriminator = [5, 4]\n",
    );
}

#[test]
fn a_ddpm_whose_device_is_lost_ends_all_ranks() {
    rival("a_ddpm_whose_device_is_lost_ends_all_ranks", "ddpm", "widths = [6, 5]\nsteps = 20\n");
}
