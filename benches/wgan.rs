//! What an iteration of WGAN-GP costs in CPU seconds, beside PyTorch: `cargo bench --bench wgan`.
//!
//! An iteration is five steps of the critic and one of the generator, 128 → 512 → 1024 → 3·2000 classes and the
//! mirror, residual blocks between, 128 animals a batch, Adam, on all threads. Prints the operations on the layers
//! that face SNPs, then the iteration; where the Python that `TORCH_PYTHON` names (`python3` if unset) has PyTorch, its
//! iterations run in turn with these. Under `mpirun` it prints the bytes that each rank gives to sums in a step beside
//! what docs/generators.md derives. `cargo bench --bench wgan -- SNPS BATCH` sets sizes.

#[path = "../tests/support/repository.rs"]
mod repository;
mod seconds;

use genialearn::comm::World;
use genialearn::device::network::{Accumulate, Adam, Animals, Draw, Network, Product, Smooth, Values};
use genialearn::device::network::{CLASSES, CONTRASTS};
use genialearn::device::open;
use genialearn::error::Result;
use genialearn::generate::wgan_gp::config::{Network as Shape, Training};
use genialearn::generate::wgan_gp::train::Trainer;
use genialearn::generate::wgan_gp::{self, Config};
use genialearn::generate::{Herd, Setting};
use genialearn::genotype::Variants;
use genialearn::nn::config::Sharing;
use genialearn::nn::epochs::Learns;
use genialearn::nn::Ranks;
use genialearn::packed::Packed;
use genialearn::rng::{Purpose, Stream};
use ndarray::Array2;
use std::process::Command;
use std::sync::Arc;

/// Animals that both programs know.
const ANIMALS: usize = 1280;
/// Rounds in which the programs take turns.
const ROUNDS: usize = 3;

/// The least CPU seconds of `calls` calls, after two to warm up.
fn cost(calls: usize, mut work: impl FnMut() -> Result<()>) -> f64 {
    let mut call = || seconds::cost(libc::RUSAGE_SELF, || work().expect("sizes agree"));
    let _warm = (call(), call());
    (0..calls).map(|_| call()).fold(f64::INFINITY, f64::min)
}

/// Codes 0, 1 and 2 in equal parts at this rank's SNPs.
fn herd(ranks: &Ranks, m: usize) -> Herd {
    let snps = ranks.snps_of(m);
    let mut packed = Packed::missing(ANIMALS, snps.len());
    let mut s = Stream::new(1, Purpose::Test, 0);
    packed.bytes_mut().iter_mut().for_each(|b| *b = (0..4).fold(0, |b, k| b | (s.below(3) as u8) << (2 * k)));
    packed.pad();
    let id: Vec<String> = (0..m).map(|j| j.to_string()).collect();
    Herd {
        packed: Arc::new(packed),
        variants: Variants { id, ..Variants::default() },
        snps,
        frequencies: Array2::from_elem((m, 3), 1.0 / 3.0),
        conditions: None,
    }
}

fn config(batch: usize) -> Config {
    let network = Shape { latent: 128, widths: vec![512, 1024], ..Shape::default() };
    let training = Training {
        batch,
        epochs: 1_000_000,
        evaluate_every: 1_000_000,
        learning_rate: 1e-4,
        ..Training::default()
    };
    Config { network, training, ..Config::default() }
}

fn filled(device: &dyn Network, length: usize) -> Values {
    let mut values = device.values(length).expect("enough memory");
    device.uniforms(draw(length), length, values.whole_mut()).expect("a whole row");
    values
}

fn draw(columns: usize) -> Draw {
    let columns = columns as u64;
    Draw { seed: 1, purpose: Purpose::Test, index: columns, first_row: 0, first_column: 0, columns }
}

/// The operations on the SNPs of one rank, with 1024 units. Speeds count the products with three classes a SNP that are
/// asked for, not those with two that are made.
fn operations(device: &dyn Network, herd: &Herd, b: usize) {
    let (m, h) = (herd.packed.columns(), 1024);
    let z = device.hold(&herd.packed, &vec![[0.0; 4]; m]).expect("enough memory");
    let (width, two) = (CLASSES * m, CONTRASTS * m);
    let (w, x, d) = (filled(device, width * h), filled(device, b * width), filled(device, 3 * b * h));
    let (mut out, mut gradient) = (filled(device, b * width), filled(device, width * h));
    let (mut first, mut second) = (filled(device, width * h), filled(device, width * h));
    let (made, mut known) = (filled(device, b * two), filled(device, two * h));
    let chosen: Vec<u32> = (0..b as u32).map(|r| r * 7 % ANIMALS as u32).collect();
    let rows = device.rows(&chosen).expect("enough memory");
    let smooth = Smooth { amount: 0.025, draw: draw(width) };
    let animals = Animals { z: &z, rows: &rows, smooth: Some(&smooth), made: Some(made.whole()) };
    let one = 2.0 * (b * width * h) as f64;
    let line = |name: &str, times: f64, work: f64, unit: &str, seconds: f64| {
        println!("{name:44} x {times:2}  {:8.2} ms  {:6.1} {unit}", seconds * 1e3, work / seconds / 1e9);
    };
    let seconds = cost(8, || device.onehot_times(&animals, w.whole(), h, out.part_mut(0..2 * b * h)));
    line("[x; x~] W, real and generated animals", 5.0, 2.0 * one, "GFLOP/s", seconds);
    let shape = Product { m: b, n: h, k: width, a_transposed: false, b_transposed: false };
    let seconds = cost(8, || {
        device.product(shape, x.whole(), w.whole(), Accumulate::Overwrite, out.part_mut(0..b * h))
    });
    line("g W, the tangent", 5.0, one, "GFLOP/s", seconds);
    let shape = Product { m: b, n: width, k: h, a_transposed: false, b_transposed: true };
    let seconds = cost(8, || {
        device.product(shape, d.part(0..b * h), w.whole(), Accumulate::Overwrite, out.part_mut(0..b * width))
    });
    line("d W', slopes", 6.0, one, "GFLOP/s", seconds);
    let seconds = cost(8, || device.contrasts(h, w.whole(), known.whole_mut()));
    line("contrasts of the generator's weights", 1.0, 20.0 * (m * h) as f64, "GB/s", seconds);
    let shape = Product { n: two, ..shape };
    let seconds = cost(8, || {
        device.product(
            shape,
            d.part(0..b * h),
            known.whole(),
            Accumulate::Overwrite,
            out.part_mut(0..b * two),
        )
    });
    line("logits from contrasts", 6.0, one, "GFLOP/s", seconds);
    let seconds = cost(8, || {
        let (dense, d, to) = (Some(x.whole()), d.whole(), gradient.whole_mut());
        device.onehot_transposed_times(&animals, dense, d, h, Accumulate::Overwrite, to)
    });
    line("[x; x~; g]' D, the critic's gradient", 5.0, 3.0 * one, "GFLOP/s", seconds);
    let seconds = cost(8, || device.softmax_contrasts(0.5, Some(draw(width)), m, out.part_mut(0..b * two)));
    line("Gumbel-softmax", 6.0, (b * width) as f64, "G/s", seconds);
    let adam = Adam {
        learning_rate: 1e-4,
        beta1: 0.5,
        beta2: 0.9,
        epsilon: 1e-8,
        l2: 0.0,
        weight_decay: 0.0,
        step: 1,
    };
    let mut parameters = filled(device, width * h);
    let seconds = cost(8, || {
        device.adam(&adam, None, w.whole(), parameters.whole_mut(), first.whole_mut(), second.whole_mut())
    });
    line("Adam", 6.0, 28.0 * (width * h) as f64, "GB/s", seconds);
}

/// CPU seconds of an iteration as `genialearn train wgan` takes it.
fn iteration(trainer: &mut Trainer) -> f64 {
    cost(8, || (0..5).try_for_each(|_| trainer.step().map(|_| ())))
}

/// CPU seconds of PyTorch's iteration, its best way; `None` where there is none.
fn pytorch(m: usize, batch: usize) -> Option<f64> {
    let python = std::env::var("TORCH_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = repository::file("benches/wgan.py")?;
    let sizes = [ANIMALS, m, batch, rayon::current_num_threads()].map(|x| x.to_string());
    let run = Command::new(&python).arg(script).args(sizes).output().ok()?;
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    let seconds = text.lines().filter_map(|line| line.split('\t').next()?.parse::<f64>().ok());
    run.status.success().then(|| seconds.fold(f64::INFINITY, f64::min))
}

/// What each rank gives to sums in an iteration, beside what is derived: 5 times pre-activations of real and
/// generated animals and of v (3bh) and the squares of slopes (b), then pre-activations and slopes (2bh); in order
/// each of the four pieces is one broadcast.
fn traffic(world: &World, trainer: &mut Trainer, batch: usize) {
    let before = world.traffic();
    (0..5).try_for_each(|_| trainer.step().map(|_| ())).expect("training runs");
    let moved = world.traffic().since(&before).bytes();
    let h = 1024;
    let derived = 4 * (5 * (3 * batch * h + batch) + 2 * batch * h) * if world.size() > 1 { 4 } else { 0 };
    if world.is_root() {
        println!("{} ranks: {moved} bytes a rank and iteration, derived {derived}", world.size());
    }
}

fn main() {
    let world = World::start().expect("MPI starts");
    let mut sizes = std::env::args().skip(1).filter_map(|a| a.parse::<usize>().ok());
    let (m, batch) = (sizes.next().unwrap_or(2000), sizes.next().unwrap_or(128));
    let device = open("cpu").expect("this machine has a processor");
    let ranks = wgan_gp::ranks(&world, &device, &Sharing::default(), m).expect("the grid takes all ranks");
    let (herd, config) = (herd(&ranks, m), config(batch));
    let setting = Setting { ranks: &ranks, device: &device, seed: 1 };
    let mut trainer = Trainer::new(&setting, &config, &herd).expect("enough memory");
    if world.size() > 1 {
        return traffic(&world, &mut trainer, batch);
    }
    println!(
        "{m} SNPs, batches of {batch}, {} threads; CPU time of all threads",
        rayon::current_num_threads()
    );
    operations(&*device, &herd, batch);
    let (mut own, mut other) = (f64::INFINITY, Some(f64::INFINITY));
    for _ in 0..ROUNDS {
        own = own.min(iteration(&mut trainer));
        other = other.and_then(|best| Some(best.min(pytorch(m, batch)?)));
    }
    print!("iteration: 5 steps of the critic, 1 of the generator {:7.1} ms", own * 1e3);
    match other {
        Some(other) => println!(", PyTorch {:7.1} ms, ratio {:.2}", other * 1e3, own / other),
        None => println!(" (PyTorch is not installed: TORCH_PYTHON names a Python that has it)"),
    }
}
