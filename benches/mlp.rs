//! What a training step costs in CPU seconds, beside PyTorch: `cargo bench --bench mlp`.
//!
//! Prints each operation of the SNP-snp_layer layer and the optimizer beside what bounds it on this machine, then a
//! whole step of 10,000 SNPs → 512 → 256 → 33 with 256 animals a batch, Adam, on all threads. Where the Python
//! that `TORCH_PYTHON` names (`python3` if unset) has PyTorch, its steps run in turn with these. `cargo bench
//! --bench mlp -- SNPS BATCH` sets sizes.

#[path = "../tests/support/repository.rs"]
mod repository;
mod seconds;

use genialearn::device::network::{Accumulate, Activation, Adam, Network, Product, Values};
use genialearn::device::{open, Genotypes};
use genialearn::error::Result;
use genialearn::nn::epochs::{Learns, Monitor};
use genialearn::nn::train::{fit, Data};
use genialearn::nn::{Architecture, Input, Net, Normalisation, Ranks, Reads, Training};
use genialearn::packed::Packed;
use genialearn::rng::{Purpose, Stream};
use ndarray::Array2;
use std::process::Command;
use std::sync::Arc;

/// Animals that both programs know.
const ANIMALS: usize = 2560;
/// Rounds in which the programs take turns.
const ROUNDS: usize = 3;

/// The least CPU seconds of ten calls, after two to warm up.
fn cost(mut work: impl FnMut() -> Result<()>) -> f64 {
    let mut call = || seconds::cost(libc::RUSAGE_SELF, || work().expect("sizes agree"));
    (0..2).for_each(|_| _ = call());
    (0..10).map(|_| call()).fold(f64::INFINITY, f64::min)
}

/// Codes 0, 1 and 2 in equal parts and one missing call in 256.
fn genotypes(n: usize, m: usize) -> Arc<Packed> {
    let mut s = Stream::new(1, Purpose::Test, 0);
    let mut call = || if s.below(256) == 0 { 3 } else { s.below(3) as u8 };
    let mut packed = Packed::missing(n, m);
    packed.bytes_mut().iter_mut().for_each(|b| *b = (0..4).fold(0, |b, k| b | call() << (2 * k)));
    packed.pad();
    Arc::new(packed)
}

fn filled(device: &dyn Network, length: usize) -> Values {
    let mut values = device.values(length).expect("enough memory");
    let draw = genialearn::device::network::Draw {
        seed: 1,
        purpose: Purpose::Test,
        index: length as u64,
        first_row: 0,
        first_column: 0,
        columns: length as u64,
    };
    device.uniforms(draw, length, values.whole_mut()).expect("a whole row");
    values
}

/// The operations of a first layer of 512 units.
fn operations(device: &dyn Network, z: &Genotypes, (m, b): (usize, usize)) {
    let h = 512;
    let (w, d) = (filled(device, m * h), filled(device, b * h));
    let (mut out, mut gradient) = (filled(device, b * h), filled(device, m * h));
    let line = |name: &str, seconds: f64, work: f64, unit: &str| {
        println!("{name:42} {:8.2} ms  {:6.1} {unit}", seconds * 1e3, work / seconds / 1e9);
    };
    let flops = 2.0 * (b * m * h) as f64;
    let shape = Product { m: b, n: h, k: m, a_transposed: false, b_transposed: false };
    let x = filled(device, b * m);
    let seconds =
        cost(|| device.product(shape, x.whole(), w.whole(), Accumulate::Overwrite, out.whole_mut()));
    line("limit: sgemm of the dense matrix", seconds, flops, "GFLOP/s");
    let chosen: Vec<u32> = (0..b as u32).map(|r| r * 7 % ANIMALS as u32).collect();
    let rows = device.rows(&chosen).expect("enough memory");
    let seconds = cost(|| device.gather_times(z, &rows, w.whole(), h, out.whole_mut()));
    line("Z[rows] W from packed genotypes", seconds, flops, "GFLOP/s");
    let seconds = cost(|| {
        device.gather_transposed_times(
            z,
            &rows,
            d.whole(),
            h,
            0..m,
            Accumulate::Overwrite,
            gradient.whole_mut(),
        )
    });
    line("Z[rows]' D", seconds, flops, "GFLOP/s");
    let mut parameters = filled(device, m * h);
    let bytes = 4.0 * (m * h) as f64;
    let seconds = cost(|| device.copy(w.whole(), parameters.whole_mut()));
    line("limit: a copy on one thread", seconds, 2.0 * bytes, "GB/s");
    let (mut first, mut second) = (filled(device, m * h), filled(device, m * h));
    let adam = Adam {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        l2: 0.0,
        weight_decay: 0.0,
        step: 1,
    };
    let seconds = cost(|| {
        device.adam(&adam, None, w.whole(), parameters.whole_mut(), first.whole_mut(), second.whole_mut())
    });
    line("Adam", seconds, 7.0 * bytes, "GB/s a core");
    let mut sum = filled(device, 1);
    let seconds = cost(|| device.sum_of_squares(w.whole(), sum.whole_mut()));
    line("sum of squares", seconds, bytes, "GB/s a core");
}

/// The least CPU seconds between two looks within an epoch.
struct Clock {
    last: f64,
    best: f64,
}

impl Monitor for Clock {
    fn after_step(&mut self, training: &mut dyn Learns, epoch: bool) -> Result<()> {
        let now = seconds::cpu_seconds(libc::RUSAGE_SELF);
        // The first steps warm up; the one that ends an epoch keeps its weights as well.
        if training.position().step > 5 && !epoch {
            self.best = self.best.min(now - self.last);
        }
        self.last = seconds::cpu_seconds(libc::RUSAGE_SELF);
        Ok(())
    }
}

/// CPU seconds of a whole step of training as `genialearn train mlp` takes it.
fn step(device: &Arc<dyn Network>, z: &Genotypes, batch: usize, normalisation: Normalisation) -> f64 {
    let architecture = Architecture {
        hidden: vec![512, 256],
        normalisation,
        activation: Activation::LeakyRelu(0.01),
        dropout: 0.0,
    };
    let m = z.columns();
    let net = Net::new(device, &architecture, &Reads::snps(0..m, m, 0), 33, 1).expect("enough memory");
    let training = Training { batch, epochs: 3, ..Training::default() };
    let mut s = Stream::new(2, Purpose::Test, 0);
    let y = Array2::from_shape_simple_fn((ANIMALS, 33), || s.normal());
    let animals: Vec<usize> = (0..ANIMALS).collect();
    let data = Data {
        input: Input::Genotypes(z, None),
        y: y.view(),
        weights: None,
        offset: None,
        train: &animals,
        validation: &[],
    };
    let ranks = Ranks::alone(device);
    let mut clock = Clock { last: 0.0, best: f64::INFINITY };
    fit(net, &ranks, &training, data, 1, &mut clock).expect("training runs");
    clock.best
}

/// CPU seconds of PyTorch's step without and with batch normalisation, its best way of holding genotypes; `None`
/// where there is none.
fn pytorch(m: usize, batch: usize) -> Option<[f64; 2]> {
    let python = std::env::var("TORCH_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = repository::file("benches/mlp.py")?;
    let threads = rayon::current_num_threads();
    let sizes = [ANIMALS, m, batch, threads].map(|x| x.to_string());
    let run = Command::new(&python).arg(script).args(sizes).output().ok()?;
    let mut best = [f64::INFINITY; 2];
    for line in String::from_utf8_lossy(&run.stdout).lines() {
        let (seconds, variant) = line.split_once('\t')?;
        let best = &mut best[usize::from(variant.starts_with("batch"))];
        *best = best.min(seconds.parse().ok()?);
    }
    run.status.success().then_some(best)
}

fn main() {
    let mut sizes = std::env::args().skip(1).filter_map(|a| a.parse::<usize>().ok());
    let (m, batch) = (sizes.next().unwrap_or(10_000), sizes.next().unwrap_or(256));
    let device = open("cpu").expect("this machine has a processor");
    let coding = vec![[-1.2, 0.0, 1.2, 0.0]; m];
    let z = device.hold(&genotypes(ANIMALS, m), &coding).expect("enough memory");
    println!(
        "{m} SNPs, batches of {batch}, {} threads; CPU time of all threads",
        rayon::current_num_threads()
    );
    operations(&*device, &z, (m, batch));
    println!("whole step, {m} -> 512 -> 256 -> 33, Adam:");
    let kinds = [Normalisation::None, Normalisation::Batch];
    let (mut own, mut other) = ([f64::INFINITY; 2], [f64::INFINITY; 2]);
    let mut compared = true;
    for _ in 0..ROUNDS {
        own = std::array::from_fn(|k| own[k].min(step(&device, &z, batch, kinds[k])));
        match pytorch(m, batch).filter(|_| compared) {
            Some(seconds) => other = std::array::from_fn(|k| other[k].min(seconds[k])),
            None => compared = false,
        }
    }
    for (k, name) in ["no normalisation", "batch normalisation"].into_iter().enumerate() {
        print!("{name:20} {:7.1} ms", own[k] * 1e3);
        match compared {
            true => println!(", PyTorch {:7.1} ms, ratio {:.2}", other[k] * 1e3, own[k] / other[k]),
            false => println!(" (PyTorch is not installed: TORCH_PYTHON names a Python that has it)"),
        }
    }
}
