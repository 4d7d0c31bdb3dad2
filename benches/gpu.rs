//! What the kernels take on a card, beside what its arithmetic and memory would take: `make bench-gpu`.
//!
//! Each operation is queued again and again and waited for once at the end. The bound is the longer of its arithmetic
//! and its memory traffic at the speeds measured on an H100 (docs/gpu.md). `benches/gpu_torch.py` times the same work
//! in PyTorch, where that is installed. `-- tiny` takes sizes at which the kernels can be tried on the processor.

use genialearn::device::network::{Adam, Animals, Draw, Network, Onto, Product, Smooth, Values, CLASSES};
use genialearn::device::{open, Coding, Part};
use genialearn::packed::Packed;
use genialearn::rng::{Purpose, Stream};
use genialearn::stats::FixedPoint;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

/// Operations and bytes per second: bf16, f64 and int8 on the tensor cores, memory.
const BF16: f64 = 798e12;
const F64: f64 = 60e12;
const INT8: f64 = 1500e12;
const MEMORY: f64 = 3.0e12;

struct Sizes {
    n: usize,
    m: usize,
    batch: usize,
    hidden: Vec<usize>,
    tile: usize,
    times: usize,
}

fn sizes(tiny: bool) -> Sizes {
    match tiny {
        true => Sizes { n: 300, m: 600, batch: 100, hidden: vec![64], tile: 150, times: 1 },
        false => Sizes {
            n: 50_000,
            m: 50_000,
            batch: 1024,
            hidden: vec![512, 1024, 2048, 4096],
            tile: 8192,
            times: 20,
        },
    }
}

/// Prints one line: what it took, what the bound is, and their ratio.
fn line(what: &str, seconds: f64, operations: f64, speed: f64, bytes: f64) {
    let bound = (operations / speed).max(bytes / MEMORY);
    let micro = |s: f64| format!("{:.1}", s * 1e6);
    println!(
        "{what:<44} {:>10} us, bound {:>9} us, {:>5.1} % of it",
        micro(seconds),
        micro(bound),
        100.0 * bound / seconds
    );
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

fn values(b: &dyn Network, length: usize) -> Values {
    let mut s = Stream::new(2, Purpose::Test, 0);
    let numbers: Vec<f32> = (0..length).map(|_| s.uniform() as f32 - 0.5).collect();
    let mut out = b.values(length).expect("enough memory");
    b.write_singles(&numbers, out.whole_mut()).expect("lengths agree");
    out
}

/// Returns when the card has done all that was asked of it.
fn wait(b: &dyn Network, of: &Values) {
    b.read_singles(of.part(0..1), &mut [0.0]).expect("the card works");
}

/// Z V, Z'V, X X' and Z Z', as the linear models use them.
fn products(b: &dyn Network, s: &Sizes, packed: &Arc<Packed>, coding: &[Coding]) {
    let (n, m) = (s.n, s.m);
    let held = b.hold(packed, coding).expect("enough memory");
    let genotypes = (n * m) as f64;
    for k in [1, 8, 33] {
        let (v, w) =
            (b.upload(&vec![0.5; m * k]).expect("memory"), b.upload(&vec![0.5; n * k]).expect("memory"));
        let points = vec![FixedPoint::for_bound(1e9); k];
        let mut sums = b.sums(n * k).expect("memory");
        let mut out = b.reals(m * k).expect("memory");
        let some = b.values(1).expect("memory");
        let columns = k.next_multiple_of(8) as f64;
        let (operations, bytes) = (2.0 * genotypes * columns, genotypes / 4.0);
        let took = time(
            s.times,
            || b.times(&held, &v, &points, &mut sums).expect("the card works"),
            || wait(b, &some),
        );
        line(&format!("Z V, {n} x {m}, k = {k}"), took, operations, F64, bytes);
        let work = || b.transposed_times(&held, &w, k, &mut out).expect("the card works");
        let took = time(s.times, work, || wait(b, &some));
        line(&format!("Z'V, {n} x {m}, k = {k}"), took, operations, F64, bytes);
    }
    let t = s.tile;
    let tile = (t * t) as f64;
    let mut counts = vec![0; t * t];
    let work = || b.counts(&held, 0..t, 0..t, Part::Whole, &mut counts).expect("the card works");
    let took = time(s.times.min(3), work, || ());
    // what leaves the card is part of it, at 25 GB/s
    let leaving = tile * 4.0 / 25e9;
    line(
        &format!("X X' {t} x {t}, {m} SNPs, with its way out"),
        took,
        2.0 * tile * m as f64,
        INT8,
        leaving * MEMORY,
    );
    let (some, mut sums) = (b.values(1).expect("memory"), b.sums(t * t).expect("memory"));
    let work = || b.cross(&held, 0..t, 0..t, FixedPoint::for_bound(1e9), &mut sums).expect("the card works");
    let took = time(s.times.min(3), work, || wait(b, &some));
    line(&format!("Z Z' {t} x {t}, {m} SNPs"), took, 2.0 * tile * m as f64, F64, tile * 16.0);
}

/// One step of a network's first layer: forward, gradient, Adam; and a dense layer.
fn layers(b: &dyn Network, s: &Sizes, packed: &Arc<Packed>, coding: &[Coding]) {
    let (n, m, batch) = (s.n, s.m, s.batch);
    let held = b.hold(packed, coding).expect("enough memory");
    let mut draw = Stream::new(3, Purpose::Test, 0);
    let animals: Vec<u32> = (0..batch).map(|_| draw.below(n) as u32).collect();
    let rows = b.rows(&animals).expect("memory");
    for &h in &s.hidden {
        let (w, d) = (values(b, m * h), values(b, batch * h));
        let (mut out, mut gradient) = (values(b, batch * h), values(b, m * h));
        let (operations, numbers) = (2.0 * (batch * m * h) as f64, (m * h * 4 + batch * m / 4) as f64);
        let passes = if b.name() == "cuda-bf16" { 1.0 } else { 5.0 };
        let work = || b.gather_times(&held, &rows, w.whole(), h, out.whole_mut()).expect("the card works");
        let took = time(s.times, work, || wait(b, &d));
        line(
            &format!("{}: Z W, batch {batch}, hidden {h}", b.name()),
            took,
            passes * operations,
            BF16,
            numbers,
        );
        let work = || {
            let to = gradient.whole_mut();
            b.gather_transposed_times(&held, &rows, d.whole(), h, 0..m, Onto::Fresh, to)
                .expect("the card works");
        };
        let took = time(s.times, work, || wait(b, &d));
        line(
            &format!("{}: Z'D, batch {batch}, hidden {h}", b.name()),
            took,
            passes * operations,
            BF16,
            numbers,
        );
        let (mut weights, mut first, mut second) = (values(b, m * h), values(b, m * h), values(b, m * h));
        let adam =
            Adam { rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, l2: 0.0, decay: 0.01, step: 1 };
        let work = || {
            let (p, v1, v2) = (weights.whole_mut(), first.whole_mut(), second.whole_mut());
            b.adam(&adam, None, gradient.whole(), p, v1, v2).expect("the card works");
        };
        let took = time(s.times, work, || wait(b, &d));
        line(&format!("{}: Adam, {m} x {h}", b.name()), took, 0.0, BF16, 28.0 * (m * h) as f64);
        let shape = Product { m: batch, n: h, k: h, a_transposed: false, b_transposed: false };
        let (x, dense) = (values(b, batch * h), values(b, h * h));
        let work = || {
            b.product(shape, x.whole(), dense.whole(), Onto::Fresh, out.whole_mut()).expect("the card works");
        };
        let took = time(s.times, work, || wait(b, &d));
        let operations = 2.0 * (batch * h * h) as f64;
        line(
            &format!("{}: dense {batch} x {h} x {h}", b.name()),
            took,
            operations,
            BF16 / 2.0,
            4.0 * (h * h) as f64,
        );
    }
}

/// A critic's first layer on classes with noise, and the classes of a generator: a batch of real animals and twice as
/// many rows of numbers.
fn classes(b: &dyn Network, s: &Sizes, packed: &Arc<Packed>, coding: &[Coding]) {
    let (m, batch, h) = (s.m, s.batch / 8, s.hidden[0]);
    let width = CLASSES * m;
    let held = b.hold(packed, coding).expect("enough memory");
    let rows = b.rows(&(0..batch as u32).collect::<Vec<u32>>()).expect("memory");
    let draw = Draw {
        seed: 1,
        purpose: Purpose::Test,
        index: 0,
        first_row: 0,
        first_column: 0,
        columns: width as u64,
    };
    let smooth = Smooth { amount: 0.025, draw };
    let (w, d) = (values(b, width * h), values(b, 3 * batch * h));
    let (dense, mut logits) = (values(b, 2 * batch * width), values(b, batch * width));
    let (mut out, mut gradient) = (values(b, batch * h), values(b, width * h));
    let report = |what: &str, work: &mut dyn FnMut(), operations: f64, bytes: f64| {
        let took = time(s.times, work, || wait(b, &d));
        line(&format!("{}: {what}, batch {batch}", b.name()), took, operations, BF16, bytes);
    };
    let passes = if b.name() == "cuda-bf16" { 1.0 } else { 6.0 };
    let (operations, numbers) = (2.0 * passes * (batch * width * h) as f64, 4.0 * (width * h) as f64);
    let entries = (batch * width) as f64;
    let mut work = || {
        let to = out.whole_mut();
        let animals = Animals { z: &held, rows: &rows, smooth: Some(&smooth), made: None };
        b.onehot_times(&animals, w.whole(), h, to).expect("the card works");
    };
    report(&format!("X W, hidden {h}"), &mut work, operations, numbers);
    let mut work = || {
        let (y, to) = (Some(dense.whole()), gradient.whole_mut());
        let animals = Animals { z: &held, rows: &rows, smooth: Some(&smooth), made: None };
        b.onehot_transposed_times(&animals, y, d.whole(), h, Onto::Fresh, to).expect("the card works");
    };
    report(&format!("[X; Y]' D, hidden {h}"), &mut work, 3.0 * operations, numbers + 8.0 * entries);
    let mut work = || b.softmax(0.5, Some(draw), width, logits.whole_mut()).expect("the card works");
    report("softmax with noise", &mut work, 0.0, 8.0 * entries);
}

fn main() {
    let tiny = std::env::args().any(|a| a == "tiny");
    let s = sizes(tiny);
    let card = match open("cuda") {
        Ok(card) => card,
        Err(e) => return println!("NOT RUN: {e}"),
    };
    let (packed, coding) = genotypes(s.n, s.m);
    products(&*card, &s, &packed, &coding);
    layers(&*card, &s, &packed, &coding);
    classes(&*card, &s, &packed, &coding);
    let rounded = open("cuda-bf16").expect("the same card");
    layers(&*rounded, &s, &packed, &coding);
    classes(&*rounded, &s, &packed, &coding);
    if !tiny {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/gpu_torch.py");
        if !Command::new("python3").arg(script).status().is_ok_and(|s| s.success()) {
            println!("PyTorch: NOT RUN, it is not installed or sees no card");
        }
    }
}
