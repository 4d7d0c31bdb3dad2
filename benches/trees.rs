//! Sums by code, what trees are made of: three ways to sum the nodes of one level.
//!
//!     cargo bench --bench trees [-- ANIMALS SNPS]
//!
//! One level of a tree has K nodes of n/K animals each. *Gathered*: a sample for each node, as the program does. *Masked*: one
//! sample of all animals with K columns, 0 where an animal is in another node: an integer product of the whole. *Plain*:
//! each animal's codes one by one, by the backend `reference`. Sums are exact, so all three are the same. What came
//! out: benches/results/ensembles.md.

mod seconds;

use genialearn::device::by_code::{Lines, Sample};
use genialearn::device::network::Network;
use genialearn::device::open;
use genialearn::packed::Packed;
use genialearn::rng::{Purpose, Stream};

/// CPU seconds of the least of three runs, and what came out.
fn best<T>(mut run: impl FnMut() -> T) -> (f64, T) {
    let mut once = || {
        let mut out = None;
        let seconds = seconds::cost(libc::RUSAGE_SELF, || out = Some(run()));
        (seconds, out.expect("it ran"))
    };
    let first = once();
    (0..2).map(|_| once()).fold(first, |a, b| if b.0 < a.0 { b } else { a })
}

fn sums(backend: &dyn Network, lines: &Lines, samples: &[Sample]) -> Vec<Vec<i32>> {
    let mut out: Vec<Vec<i32>> = samples.iter().map(|s| vec![0; lines.snps() * s.width()]).collect();
    backend.sums_by_code(lines, samples, &mut out).expect("whole samples");
    out
}

fn main() {
    let sizes: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().expect("no pool yet");
    let (n, m) = (sizes.first().copied().unwrap_or(8000), sizes.get(1).copied().unwrap_or(4096));
    let mut s = Stream::new(1, Purpose::Test, 0);
    let calls: Vec<u8> = (0..n * m).map(|_| [0, 0, 0, 1, 1, 2][s.below(6)]).collect();
    let lines = Lines::of(&Packed::from_codes(m, n, &calls), &(0..m as u32).collect::<Vec<_>>());
    let (cpu, reference) = (open("cpu").expect("a processor"), open("reference").expect("plain loops"));
    let values: Vec<i8> = (0..n).map(|_| (s.below(255) as i32 - 127) as i8).collect();
    println!("{n} animals x {m} SNPs: CPU milliseconds of a level with K nodes, and sums (animals x SNPs) a nanosecond");
    println!("K\tgathered\tmasked\tplain\tgathered a ns");
    for nodes in [1, 2, 4, 8, 16, 32, 64, 256] {
        let of = |k: usize| (0..n as u32).filter(move |i| *i as usize * 7919 % n % nodes == k);
        let lists: Vec<(Vec<u32>, Vec<i8>)> =
            (0..nodes).map(|k| (of(k).collect(), of(k).map(|i| values[i as usize]).collect())).collect();
        let samples: Vec<Sample> = lists.iter().map(|(animals, values)| Sample { animals, values }).collect();
        let (gathered, by_node) = best(|| sums(&*cpu, &lines, &samples));
        let (plain, by_loops) = best(|| sums(&*reference, &lines, &samples));
        assert!(by_node == by_loops);
        let all: Vec<u32> = (0..n as u32).collect();
        let mut columns = vec![0i8; nodes * n];
        for (k, (animals, values)) in lists.iter().enumerate() {
            animals.iter().zip(values).for_each(|(&i, &v)| columns[k * n + i as usize] = v);
        }
        let whole = Sample { animals: &all, values: &columns };
        let (masked, product) = best(|| sums(&*cpu, &lines, &[whole]));
        let width = whole.width();
        let same =
            |k: usize, j: usize| product[0][j * width + 3 * (k + 1)..][..3] == by_node[k][j * 6 + 3..][..3];
        assert!((0..nodes).all(|k| (0..m).all(|j| same(k, j))), "gathered and masked sums");
        let rate = (n * m) as f64 / gathered / 1e9;
        println!("{nodes}\t{:.2}\t{:.2}\t{:.1}\t{rate:.1}", gathered * 1e3, masked * 1e3, plain * 1e3);
    }
}
