//! What the kernels take on a GPU, and how exact they are: `make bench-gpu`.
//!
//! Each operation is queued again and again and waited for once at the end. Its bound is the longest of its arithmetic
//! and its traffic at measured speeds: the bench copies memory itself; `benches/gpu_torch.py`, where PyTorch is, measures
//! the tensor cores and times the same work. Then entries of each long product are compared with f64.
//!
//! | argument | |
//! |---|---|
//! | `tiny` | sizes at which the kernels can be tried on the processor |
//! | `once` | one call of each kernel, for a profiler: no errors, no PyTorch |
//! | `--torch FILE` | what `benches/gpu_torch.py` printed, instead of running it |
//! | `--json FILE` | a line of JSON for each result is added there |
//!
//! The exit code is 1 where an error is too large or there is no GPU.

mod errors;
mod report;
#[path = "../../tests/support/repository.rs"]
mod repository;

use genialearn::device::by_code::{Lines, Sample};
use genialearn::device::network::{
    Accumulate, Adam, Animals, Draw, Network, Product, Smooth, Values, CLASSES,
};
use genialearn::device::{open, Coding, Part};
use genialearn::packed::Packed;
use genialearn::rng::{Purpose, Stream};
use genialearn::stats::FixedPoint;
use report::{Ceiling, Report};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Instant;

/// How large everything is.
struct Sizes {
    n: usize,
    m: usize,
    batch: usize,
    hidden: Vec<usize>,
    /// Animals in a tile of X X' and Z Z'.
    tile: usize,
    /// Sides of dense products whose errors are measured, and their inner size.
    dense: [usize; 2],
    inner: usize,
    /// Numbers that are copied to measure the memory.
    copied: usize,
    times: usize,
}

fn sizes(tiny: bool, once: bool) -> Sizes {
    let full = Sizes {
        n: 50_000,
        m: 50_000,
        batch: 1024,
        hidden: vec![512, 1024, 2048, 4096],
        tile: 8192,
        dense: [256, 1536], // products of tiles of 64 and of 128
        inner: 8192,
        copied: 1 << 29,
        times: 20,
    };
    match (tiny, once) {
        (true, _) => Sizes {
            n: 150,
            m: 300,
            batch: 64,
            hidden: vec![32],
            tile: 70,
            dense: [20, 40],
            inner: 300,
            copied: 1 << 20,
            times: 1,
        },
        (false, true) => Sizes { hidden: vec![512], times: 1, ..full },
        (false, false) => full,
    }
}

/// Seconds of one of `times` calls, after one to warm up; `wait` returns when all is done.
fn time(times: usize, mut work: impl FnMut(), mut wait: impl FnMut()) -> f64 {
    work();
    wait();
    let start = Instant::now();
    (0..times).for_each(|_| work());
    wait();
    start.elapsed().as_secs_f64() / times as f64
}

fn genotypes(n: usize, m: usize) -> (Arc<Packed>, Vec<Coding>) {
    let mut s = Stream::new(1, Purpose::Test, 0);
    let mut packed = Packed::missing(n, m);
    packed.bytes_mut().chunks_mut(8).for_each(|eight| {
        eight.copy_from_slice(&s.next_u64().to_le_bytes()[..eight.len()]);
    });
    packed.pad();
    let coding = (0..m).map(|_| s.uniform()).map(|p| [-2.0 * p, 1.0 - 2.0 * p, 2.0 - 2.0 * p, 0.0]).collect();
    (Arc::new(packed), coding)
}

/// Which random numbers: those of a whole matrix with rows of `columns`.
fn draw(index: u64, columns: usize) -> Draw {
    let columns = columns as u64;
    Draw { seed: 1, purpose: Purpose::Test, index, first_row: 0, first_column: 0, columns }
}

/// Normal deviates, made where they are used.
fn normals(b: &dyn Network, length: usize, index: u64) -> Values {
    let mut out = b.values(length).expect("enough memory");
    b.normals(draw(index, length), length, out.whole_mut()).expect("lengths agree");
    out
}

fn read(b: &dyn Network, from: &Values) -> Vec<f64> {
    let mut out = vec![0.0; from.len()];
    b.read(from.whole(), &mut out).expect("lengths agree");
    out
}

/// Returns when the GPU has done all that was asked of it.
fn wait(b: &dyn Network, of: &Values) {
    b.read_singles(of.part(0..1), &mut [0.0]).expect("the GPU works");
}

/// What the GPU's memory and the way from it to the host do at most.
fn ceilings(report: &mut Report, b: &dyn Network, s: &Sizes) {
    let (from, mut to) = (normals(b, s.copied, 1), normals(b, s.copied, 2));
    let some = b.values(1).expect("memory");
    let bytes = 4.0 * s.copied as f64;
    let took =
        time(s.times, || b.copy(from.whole(), to.whole_mut()).expect("lengths agree"), || wait(b, &some));
    report.ceiling(Ceiling::Copy, 2.0 * bytes, took);
    let mut host = vec![0.0; s.copied / 4];
    let part = from.part(0..host.len());
    let took = time(1, || b.read_singles(part.clone(), &mut host).expect("lengths agree"), || ());
    report.ceiling(Ceiling::Download, bytes / 4.0, took);
}

/// Z V, Z'V, X X' and Z Z', as the linear models use them.
fn products(report: &mut Report, b: &dyn Network, s: &Sizes, packed: &Arc<Packed>, coding: &[Coding]) {
    let (n, m) = (s.n, s.m);
    let held = b.hold(packed, coding).expect("enough memory");
    let some = b.values(1).expect("memory");
    let genotypes = (n * m) as f64;
    for k in [1, 8, 33] {
        let (v, w) =
            (b.upload(vec![0.5; m * k]).expect("memory"), b.upload(vec![0.5; n * k]).expect("memory"));
        let points = vec![FixedPoint::for_bound(1e9); k];
        let mut sums = b.sums(n * k).expect("memory");
        let mut out = b.reals(m * k).expect("memory");
        let columns = k.next_multiple_of(8) as f64;
        let needs = [(2.0 * genotypes * columns, Ceiling::F64), (genotypes / 4.0, Ceiling::Copy)];
        let work = || b.times(&held, &v, &points, &mut sums).expect("the GPU works");
        let took = time(s.times, work, || wait(b, &some));
        report.time(&format!("{}: Z V, {n} x {m}, k = {k}", b.name()), took, &needs);
        let work = || b.transposed_times(&held, &w, k, &mut out).expect("the GPU works");
        let took = time(s.times, work, || wait(b, &some));
        report.time(&format!("{}: Z'V, {n} x {m}, k = {k}", b.name()), took, &needs);
    }
    let t = s.tile;
    let (tile, operations) = ((t * t) as f64, 2.0 * (t * t * m) as f64);
    let mut counts = vec![0; t * t];
    let work = || b.counts(&held, 0..t, 0..t, Part::Whole, &mut counts).expect("the GPU works");
    let took = time(s.times.min(3), work, || ());
    let needs = [(operations, Ceiling::Int8), (tile * 4.0, Ceiling::Download)];
    report.time(&format!("{}: X X' to the host, {t} x {t} x {m}", b.name()), took, &needs);
    let mut sums = b.sums(t * t).expect("memory");
    let work = || b.cross(&held, 0..t, 0..t, FixedPoint::for_bound(1e9), &mut sums).expect("the GPU works");
    let took = time(s.times.min(3), work, || wait(b, &some));
    let needs = [(operations, Ceiling::F64), (tile * 16.0, Ceiling::Copy)];
    report.time(&format!("{}: Z Z', {t} x {t} x {m}", b.name()), took, &needs);
}

/// Sums by code as trees ask for them, a fifth of the SNPs: the roots of 33 traits, and nodes of a sixteenth of the animals.
fn trees(report: &mut Report, b: &dyn Network, s: &Sizes, packed: &Packed) {
    let (n, m) = (s.n, s.m / 5);
    let lines = Lines::of(&packed.transposed(), &(0..m as u32).collect::<Vec<_>>());
    let all: Vec<u32> = (0..n as u32).collect();
    let of_node = |t: usize| all.iter().copied().skip(t % 16).step_by(16).collect::<Vec<u32>>();
    let nodes: Vec<Vec<u32>> = (0..33).map(of_node).collect();
    let values = vec![1i8; 33 * n];
    let roots = vec![Sample { animals: &all, values: &values }];
    let of_nodes = nodes.iter().map(|animals| Sample { animals, values: &values[..animals.len()] });
    for (what, samples) in [("33 roots", roots), ("33 nodes", of_nodes.collect())] {
        let calls = |sample: &Sample| (sample.animals.len() * m) as f64;
        let products = |s: &Sample| 6.0 * calls(s) * (1 + s.columns()).next_multiple_of(8) as f64;
        let operations: f64 = samples.iter().map(products).sum();
        let bytes: f64 = samples.iter().map(|sample| calls(sample) / 4.0).sum();
        let mut out: Vec<Vec<i32>> = samples.iter().map(|s| vec![0; m * s.width()]).collect();
        let work = || b.sums_by_code(&lines, &samples, &mut out).expect("the GPU works");
        let took = time(s.times, work, || ());
        let needs = [(operations, Ceiling::Int8), (bytes, Ceiling::Copy)];
        report.time(&format!("{}: sums by code, {n} x {m}, {what}", b.name()), took, &needs);
    }
}

/// Products on tensor cores that stand for one of single precision; with `cuda-bf16` one.
fn passes(b: &dyn Network, parts: f64) -> f64 {
    match b.name() {
        "cuda-bf16" => 1.0,
        _ => parts,
    }
}

/// One step of a network's first layer: forward, gradient, Adam; and a dense layer.
fn layers(report: &mut Report, b: &dyn Network, s: &Sizes, packed: &Arc<Packed>, coding: &[Coding]) {
    let (n, m, batch) = (s.n, s.m, s.batch);
    let held = b.hold(packed, coding).expect("enough memory");
    let mut animal = Stream::new(3, Purpose::Test, 0);
    let animals: Vec<u32> = (0..batch).map(|_| animal.below(n) as u32).collect();
    let rows = b.rows(&animals).expect("memory");
    for &h in &s.hidden {
        let (w, d) = (normals(b, m * h, 1), normals(b, batch * h, 2));
        let (mut out, mut gradient) = (normals(b, batch * h, 3), normals(b, m * h, 4));
        let operations = passes(b, 5.0) * 2.0 * (batch * m * h) as f64;
        let needs = [(operations, Ceiling::Bf16), ((4 * m * h + batch * m / 4) as f64, Ceiling::Copy)];
        let work = || b.gather_times(&held, &rows, w.whole(), h, out.whole_mut()).expect("the GPU works");
        let took = time(s.times, work, || wait(b, &d));
        report.time(&format!("{}: Z W, batch {batch}, hidden {h}", b.name()), took, &needs);
        let work = || {
            let to = gradient.whole_mut();
            b.gather_transposed_times(&held, &rows, d.whole(), h, 0..m, Accumulate::Overwrite, to)
                .expect("the GPU works");
        };
        let took = time(s.times, work, || wait(b, &d));
        report.time(&format!("{}: Z'D, batch {batch}, hidden {h}", b.name()), took, &needs);
        adam(report, b, s, (m, h));
        dense(report, b, s, h);
    }
}

/// The optimizer's pass over weights, gradient and both moments.
fn adam(report: &mut Report, b: &dyn Network, s: &Sizes, (m, h): (usize, usize)) {
    let (mut weights, gradient) = (normals(b, m * h, 1), normals(b, m * h, 2));
    let (mut first, mut second) = (normals(b, m * h, 3), normals(b, m * h, 4));
    b.fill(0.01, second.whole_mut()).expect("the GPU works");
    let adam = Adam {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        l2: 0.0,
        weight_decay: 0.01,
        step: 1,
    };
    let work = || {
        let (p, v1, v2) = (weights.whole_mut(), first.whole_mut(), second.whole_mut());
        b.adam(&adam, None, gradient.whole(), p, v1, v2).expect("the GPU works");
    };
    let took = time(s.times, work, || wait(b, &gradient));
    let needs = [(28.0 * (m * h) as f64, Ceiling::Copy)];
    report.time(&format!("{}: Adam, {m} x {h}", b.name()), took, &needs);
}

/// A dense layer, in three products of tf32; with `cuda-bf16` in one, where cuBLASLt is.
fn dense(report: &mut Report, b: &dyn Network, s: &Sizes, h: usize) {
    let batch = s.batch;
    let shape = Product { m: batch, n: h, k: h, a_transposed: false, b_transposed: false };
    let (x, w, mut out) = (normals(b, batch * h, 1), normals(b, h * h, 2), normals(b, batch * h, 3));
    let work = || {
        b.product(shape, x.whole(), w.whole(), Accumulate::Overwrite, out.whole_mut()).expect("the GPU works")
    };
    let took = time(s.times, work, || wait(b, &x));
    let operations = passes(b, 3.0) * 2.0 * (batch * h * h) as f64;
    let needs = [(operations, Ceiling::Tf32), ((4 * h * (h + 2 * batch)) as f64, Ceiling::Copy)];
    report.time(&format!("{}: dense, {batch} x {h} x {h}", b.name()), took, &needs);
}

/// A critic's first layer on classes with noise, and the classes of a generator: a batch of real animals and twice as
/// many rows of numbers.
fn classes(report: &mut Report, b: &dyn Network, s: &Sizes, packed: &Arc<Packed>, coding: &[Coding]) {
    let (m, batch, h) = (s.m, s.batch / 8, s.hidden[0]);
    let width = CLASSES * m;
    let held = b.hold(packed, coding).expect("enough memory");
    let rows = b.rows(&(0..batch as u32).collect::<Vec<u32>>()).expect("memory");
    let smooth = Smooth { amount: 0.025, draw: draw(1, width) };
    let animals = || Animals { z: &held, rows: &rows, smooth: Some(&smooth), made: None };
    let (w, d) = (normals(b, width * h, 1), normals(b, 3 * batch * h, 2));
    let (dense, mut logits) = (normals(b, 2 * batch * width, 3), normals(b, batch * width, 4));
    let (mut out, mut gradient) = (normals(b, batch * h, 5), normals(b, width * h, 6));
    let operations = passes(b, 6.0) * 2.0 * (batch * width * h) as f64;
    let (weights, entries) = (4.0 * (width * h) as f64, (batch * width) as f64);

    let work = || b.onehot_times(&animals(), w.whole(), h, out.whole_mut()).expect("the GPU works");
    let took = time(s.times, work, || wait(b, &d));
    let needs = [(operations, Ceiling::Bf16), (weights, Ceiling::Copy)];
    report.time(&format!("{}: X W, batch {batch}, hidden {h}", b.name()), took, &needs);

    let work = || {
        let (y, to) = (Some(dense.whole()), gradient.whole_mut());
        b.onehot_transposed_times(&animals(), y, d.whole(), h, Accumulate::Overwrite, to)
            .expect("the GPU works");
    };
    let took = time(s.times, work, || wait(b, &d));
    let needs = [(3.0 * operations, Ceiling::Bf16), (weights + 8.0 * entries, Ceiling::Copy)];
    report.time(&format!("{}: [X; Y]' D, batch {batch}, hidden {h}", b.name()), took, &needs);

    let work = || b.softmax(0.5, Some(smooth.draw), width, logits.whole_mut()).expect("the GPU works");
    let took = time(s.times, work, || wait(b, &d));
    let needs = [(8.0 * entries, Ceiling::Copy)];
    report.time(&format!("{}: softmax with noise, {batch} x {width}", b.name()), took, &needs);
}

/// What `benches/gpu_torch.py` prints, where it runs.
fn pytorch() -> String {
    let python = std::env::var("TORCH_PYTHON").unwrap_or_else(|_| "python3".into());
    let run =
        repository::file("benches/gpu_torch.py").map(|script| Command::new(python).arg(script).output());
    match run {
        Some(Ok(run)) if run.status.success() => String::from_utf8_lossy(&run.stdout).into_owned(),
        _ => {
            println!(
                "PyTorch: NOT RUN, it is not installed or sees no GPU; ceilings of arithmetic are unknown"
            );
            String::new()
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |word: &str| arguments.iter().any(|a| a == word);
    let file = |flag: &str| {
        let at = arguments.iter().position(|a| a == flag)?;
        Some(PathBuf::from(arguments.get(at + 1).unwrap_or_else(|| panic!("{flag} FILE"))))
    };
    let [gpu, rounded] = match ["cuda", "cuda-bf16"].map(open) {
        [Ok(gpu), Ok(rounded)] => [gpu, rounded],
        [Err(e), _] | [_, Err(e)] => {
            println!("NOT RUN: {e}");
            return ExitCode::FAILURE;
        }
    };
    let (tiny, once) = (has("tiny"), has("once"));
    let torch = match file("--torch") {
        Some(path) => std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())),
        None if tiny || once => String::new(),
        None => pytorch(),
    };
    let report = &mut Report::new(&torch, file("--json").as_deref());
    let s = sizes(tiny, once);
    let (packed, coding) = genotypes(s.n, s.m);
    ceilings(report, &*gpu, &s);
    products(report, &*gpu, &s, &packed, &coding);
    trees(report, &*gpu, &s, &packed);
    for b in [&*gpu, &*rounded] {
        layers(report, b, &s, &packed, &coding);
        classes(report, b, &s, &packed, &coding);
    }
    if !once {
        errors::errors(report, [&*gpu, &*rounded], &s, &packed, &coding);
    }
    match report.all_well {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
