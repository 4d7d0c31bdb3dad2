//! Exact nearest neighbours in CPU seconds, beside scikit-learn: `cargo bench --bench neighbours`.
//!
//! 4,000 queries and 4,000 references with 50,161 SNPs and the 10 nearest of each; `cargo bench --bench neighbours --
//! ANIMALS SNPS` sets sizes. Where the Python that `SKLEARN_PYTHON` names (`python3` if unset) has scikit-learn, its
//! brute-force search runs in turn with ours on the same genotypes; the sums of distances are compared.

#[path = "../tests/support/repository.rs"]
mod repository;

use genialearn::neighbours::{Distances, Metric};
use genialearn::packed::{unpack_row, Packed};
use genialearn::rng::{Purpose, Stream};
use genialearn::usage::cpu_seconds;
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Neighbours of each query.
const K: usize = 10;
/// Rounds in which the programs take turns.
const ROUNDS: usize = 2;

/// Animals whose allele frequencies spread evenly over the SNPs.
fn genotypes(n: usize, m: usize, index: u64) -> Packed {
    let mut s = Stream::new(1, Purpose::Test, index);
    let mut packed = Packed::missing(n, m);
    let stride = packed.stride();
    for (at, byte) in packed.bytes_mut().iter_mut().enumerate() {
        let p = (0.05 + 0.9 * ((at % stride) as f64 / stride as f64)) * 65536.0;
        let random = [s.next_u64(), s.next_u64()];
        *byte = (0..4).fold(0, |byte, k| {
            let copies = random.iter().filter(|r| ((*r >> (16 * k)) & 0xFFFF) < p as u64).count() as u8;
            byte | copies << (2 * k)
        });
    }
    packed.pad();
    packed
}

/// CPU seconds of a search, and the sum of all distances found.
fn search(metric: Metric, queries: &Packed, references: &Packed) -> (f64, u64) {
    let start = cpu_seconds();
    let found = Distances::between(metric, queries, references);
    let found = found.nearest(0..queries.rows(), K).expect("the same SNPs");
    let seconds = cpu_seconds() - start;
    let sum = (0..queries.rows()).flat_map(|i| found.of(i)).map(|(d, _)| u64::from(*d)).sum();
    (seconds, sum)
}

/// Allele counts as a NumPy file of bytes.
fn write_npy(path: &Path, packed: &Packed) -> std::io::Result<()> {
    let shape = format!("'shape': ({}, {}), ", packed.rows(), packed.columns());
    let head = format!("{{'descr': '|u1', 'fortran_order': False, {shape}}}");
    let length = (10 + head.len() + 1).next_multiple_of(64);
    let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
    out.write_all(b"\x93NUMPY\x01\x00")?;
    out.write_all(&u16::try_from(length - 10).expect("a short header").to_le_bytes())?;
    writeln!(out, "{head:width$}", width = length - 11)?;
    let mut codes = vec![0; packed.columns()];
    for i in 0..packed.rows() {
        unpack_row(packed.row(i), &mut codes);
        out.write_all(&codes)?;
    }
    out.flush()
}

/// CPU seconds, variant and sum of distances of each of scikit-learn's variants; `None` where there is none.
fn scikit_learn(files: &[std::path::PathBuf; 2]) -> Option<Vec<(f64, String, u64)>> {
    let python = std::env::var("SKLEARN_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = repository::file("benches/neighbours.py")?;
    let run = Command::new(python).arg(script).args(files).arg(K.to_string()).output().ok()?;
    let line = |line: &str| -> Option<(f64, String, u64)> {
        let mut cells = line.split('\t');
        Some((cells.next()?.parse().ok()?, cells.next()?.into(), cells.next()?.parse().ok()?))
    };
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    run.status.success().then(|| text.lines().filter_map(line).collect())
}

fn main() {
    let mut sizes = std::env::args().skip(1).filter_map(|a| a.parse::<usize>().ok());
    let (n, m) = (sizes.next().unwrap_or(4000), sizes.next().unwrap_or(50_161));
    let (queries, references) = (genotypes(n, m, 1), genotypes(n, m, 2));
    let mut gaps = queries.clone();
    (0..n).for_each(|i| gaps.set(i, i % m, 3));
    println!(
        "{n} x {n} x {m}, {K} neighbours, {} threads; CPU time of all threads",
        rayon::current_num_threads()
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let files = ["queries.npy", "references.npy"].map(|name| folder.path().join(name));
    write_npy(&files[0], &queries).and_then(|()| write_npy(&files[1], &references)).expect("room on disk");
    let (mut own, mut theirs) = (f64::INFINITY, None::<(f64, String)>);
    for _ in 0..ROUNDS {
        let (seconds, sum) = search(Metric::SquaredEuclidean, &queries, &references);
        own = own.min(seconds);
        println!("squared Euclidean {seconds:8.2} s");
        for (seconds, variant, other) in scikit_learn(&files).unwrap_or_default() {
            println!("scikit-learn {variant:8} {seconds:6.2} s");
            assert_eq!(sum, other, "both find the same neighbours");
            if theirs.as_ref().is_none_or(|t| seconds < t.0) {
                theirs = Some((seconds, variant));
            }
        }
    }
    match theirs {
        Some((seconds, variant)) => {
            println!(
                "least of {ROUNDS} rounds: {own:.2} s, scikit-learn ({variant}) {seconds:.2} s, {:.1} times",
                seconds / own
            );
        }
        None => println!("scikit-learn is not installed: SKLEARN_PYTHON names a Python that has it"),
    }
    for (name, metric, queries) in [
        ("Manhattan", Metric::Manhattan, &queries),
        ("Manhattan, a missing call each", Metric::Manhattan, &gaps),
        ("squared Euclidean, a missing call each", Metric::SquaredEuclidean, &gaps),
    ] {
        println!("{name:40} {:8.2} s", search(metric, queries, &references).0);
    }
}
