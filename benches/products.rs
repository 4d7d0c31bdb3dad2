//! What the products cost in CPU seconds, on one thread: `cargo bench --bench products`.
//!
//! Prints the cost of G V for one vector and for 33; the speed of Z V and Z'V beside this machine's dgemm; and
//! the relationship matrix in useful multiply-adds, n²m/2 of them. `cargo bench --bench products -- N M` sets
//! the size.

mod seconds;

use genialearn::comm::World;
use genialearn::device;
use genialearn::grm::{explicit, GenotypeMatrix, Scaling};
use genialearn::packed::Packed;
use genialearn::rng::{Purpose, Stream};
use ndarray::Array2;

/// The least CPU seconds of `times` calls, after one to warm up.
fn cost(times: usize, mut work: impl FnMut()) -> f64 {
    work();
    (0..times).map(|_| seconds::cost(libc::RUSAGE_SELF, &mut work)).fold(f64::INFINITY, f64::min)
}

fn genotypes(n: usize, m: usize) -> Packed {
    let mut s = Stream::new(1, Purpose::Test, 0);
    let mut packed = Packed::missing(n, m);
    // Codes 0, 1, 2 in equal parts and one missing call in 256.
    let byte = |s: &mut Stream| {
        (0..4).fold(0u8, |b, k| b | (if s.below(256) == 0 { 3 } else { s.below(3) as u8 }) << (2 * k))
    };
    packed.bytes_mut().iter_mut().for_each(|b| *b = byte(&mut s));
    packed.pad();
    packed
}

fn main() {
    let mut sizes = std::env::args().skip(1).filter_map(|a| a.parse::<usize>().ok());
    let (n, m) = (sizes.next().unwrap_or(2000), sizes.next().unwrap_or(20_000));
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().expect("no pool yet");
    let backend = device::open("cpu").expect("this machine has a processor");
    let packed = genotypes(n, m);
    let load = |scaling| {
        GenotypeMatrix::from_packed(&World::alone(), backend.clone(), packed.clone(), 0, m, scaling)
            .expect("SNPs vary")
    };
    let markers = load(Scaling::VanRaden1);
    println!("{n} animals x {m} SNPs, one thread, CPU seconds");

    let (a, b) = (Array2::<f64>::ones((1024, 1024)), Array2::<f64>::ones((1024, 1024)));
    let dgemm = 2.0 * 1024f64.powi(3) / cost(3, || drop(std::hint::black_box(a.dot(&b)))) / 1e9;
    println!("dgemm 1024: {dgemm:.1} GFLOP/s");

    let mut single = 0.0;
    for k in [1, 4, 8, 33] {
        let (v, w) = (Array2::<f64>::ones((m, k)), Array2::<f64>::ones((n, k)));
        let times = cost(3, || drop(std::hint::black_box(markers.times(v.view()))));
        let transposed = cost(3, || drop(std::hint::black_box(markers.transposed_times(w.view()))));
        let both = times + transposed;
        if k == 1 {
            single = both;
        }
        let speed = |seconds: f64| 2.0 * (n * m * k) as f64 / seconds / 1e9;
        println!(
            "k = {k:2}: Z V {times:.4} s ({:.1} GFLOP/s), Z'V {transposed:.4} s ({:.1} GFLOP/s), \
             both {both:.4} s = 1/{:.1} of {k} single ones",
            speed(times),
            speed(transposed),
            k as f64 * single / both
        );
    }
    for k in [1, 8, 33] {
        let w = Array2::<f64>::ones((n, k));
        let quick = cost(3, || drop(std::hint::black_box(markers.quick_grm_times(w.view()))));
        let exact = cost(3, || drop(std::hint::black_box(markers.grm_times(w.view()))));
        println!(
            "k = {k:2}: G V {exact:.4} s, in single precision {quick:.4} s, {:.1} times as fast",
            exact / quick
        );
    }
    for scaling in [Scaling::VanRaden1, Scaling::VanRaden2] {
        let markers = load(scaling);
        let seconds = cost(2, || drop(std::hint::black_box(explicit::grm(&markers).expect("enough memory"))));
        let useful = (n * n) as f64 * m as f64 / 2.0 / seconds / 1e9;
        println!(
            "G by {}: {seconds:.3} s, {useful:.1} G useful multiply-adds per CPU second",
            scaling.name()
        );
    }
}
