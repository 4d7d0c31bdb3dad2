//! How fast genotypes go from `.bed` into a store, and from a store into memory.
//!
//! `cargo bench --bench store [-- ANIMALS SNPS]` (default 20,000 x 50,000; the project's full size is
//! 113599 50161). It writes and removes about half a byte per call in the folder of temporary files.
//! Figures are per CPU second of all threads; the second run of each is quoted, when the file is warm.

use genialearn::genotype::import::ImportConfig;
use genialearn::genotype::import::{write_store, Selection};
use genialearn::genotype::quality::select;
use genialearn::genotype::{plink, Store};
use genialearn::usage::{cpu_seconds, peak_memory};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

fn main() {
    let sizes: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let (n, m) = match sizes[..] {
        [n, m] => (n, m),
        _ => (20_000, 50_000),
    };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let bed = dir.path().join("cows.bed");
    write_plink(&bed, n, m).expect("room for the .bed");
    let bytes = std::fs::metadata(&bed).expect("just written").len() as f64;
    let out = dir.path().join("cows.h5");
    println!(
        "{n} animals x {m} SNPs, {:.0} MB of .bed, {} threads",
        bytes / 1e6,
        rayon::current_num_threads()
    );
    for _ in 0..2 {
        timed("import", "MB of .bed", bytes / 1e6, || {
            let source = plink::Bed::open(&bed).expect("a .bed");
            write_store(&source, &Selection::all(&source), &out, true).expect("room for the store");
        });
    }
    timed("import with filters", "MB of .bed", bytes / 1e6, || {
        let source = plink::Bed::open(&bed).expect("a .bed");
        let filters = ImportConfig {
            maf: Some(0.01),
            call_rate: Some(0.5),
            animal_call_rate: Some(0.5),
            ..ImportConfig::default()
        };
        let (selection, _) = select(&source, &filters).expect("some left");
        write_store(&source, &selection, &out, true).expect("room for the store");
    });
    println!("peak memory {:.2} GiB", peak_memory() as f64 / f64::from(1 << 30));
    let store = Store::open(&out).expect("a store");
    for _ in 0..2 {
        timed("store to memory", "GB packed", bytes / 1e9, || {
            std::hint::black_box(store.read(0..n, 0..m).expect("whole"));
        });
    }
}

/// Runs `step` and prints what it did per CPU second and per second.
fn timed(what: &str, unit: &str, amount: f64, step: impl FnOnce()) {
    let (cpu, wall) = (cpu_seconds(), Instant::now());
    step();
    let (cpu, wall) = (cpu_seconds() - cpu, wall.elapsed().as_secs_f64());
    println!(
        "{what}: {:.2} {unit} per CPU second, {:.2} per second ({wall:.2} s)",
        amount / cpu,
        amount / wall
    );
}

/// A `.bed` of pseudo-random calls, a fifth of them missing, and its `.bim` and `.fam`.
fn write_plink(bed: &Path, n: usize, m: usize) -> std::io::Result<()> {
    let create =
        |ending: &str| std::fs::File::create(bed.with_extension(ending)).map(std::io::BufWriter::new);
    let (mut fam, mut bim, mut out) = (create("fam")?, create("bim")?, create("bed")?);
    (0..n).try_for_each(|i| writeln!(fam, "0 cow{i} 0 0 2 -9"))?;
    (0..m).try_for_each(|j| writeln!(bim, "{} snp{j} 0 {j} A B", 1 + j % 29))?;
    out.write_all(&[0x6C, 0x1B, 0x01])?;
    let mut row = vec![0u8; n.div_ceil(4)];
    let mut state = 1u64;
    for _ in 0..m {
        for byte in &mut row {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        out.write_all(&row)?;
    }
    out.flush()
}
