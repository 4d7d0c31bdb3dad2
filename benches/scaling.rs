//! How `grm` and `gblup --solver pcg` gain from more ranks: run records of 1, 2 and 4 ranks beside the formulas of
//! docs/scaling.md.
//!
//!     cargo bench --bench scaling [-- ANIMALS SNPS TRAITS]
//!     cargo bench --bench scaling -- --read DIR        records that slurm/scaling.sbatch left in DIR
//!
//! Strong scaling keeps the herd, weak scaling gives every rank the same number of SNPs. Each rank has one thread.
//! With more ranks than cores wall time says little, so the table has CPU seconds too, without those that ranks spend
//! in communication (MPI waits by asking again and again). What came out: benches/results/scaling.md.

use genialearn::comm::layout;
use genialearn::comm::layout::Grid;
use genialearn::comm::Traffic;
use serde::Deserialize;
use std::path::Path;
use std::process::Command;

/// What is read of a run record.
#[derive(Deserialize)]
struct Record {
    ranks: usize,
    usage: Vec<Usage>,
}

/// What one rank used.
#[derive(Deserialize)]
struct Usage {
    peak_memory_bytes: u64,
    phases: Vec<Phase>,
}

/// One phase of one rank.
#[derive(Deserialize)]
struct Phase {
    name: String,
    seconds: f64,
    cpu_seconds: f64,
    traffic: Traffic,
}

/// One phase over all ranks.
struct Measured {
    ranks: usize,
    /// Wall seconds of the slowest rank.
    wall: f64,
    /// CPU seconds without communication, summed over the ranks and of the busiest.
    busy: (f64, f64),
    /// CPU seconds in communication and waiting, summed over the ranks.
    waiting: f64,
    /// Bytes handed to communication by the rank that gives most.
    bytes: u64,
    /// Largest memory of a rank.
    memory: u64,
}

/// The three sizes of a herd.
#[derive(Clone, Copy)]
struct Size {
    n: usize,
    m: usize,
    t: usize,
}

fn measured(record: &Record, phase: &str) -> Option<Measured> {
    let of = |u: &Usage| -> Option<(f64, f64, f64, u64)> {
        let p = u.phases.iter().find(|p| p.name == phase)?;
        let busy = (p.cpu_seconds - p.traffic.cpu_seconds).max(0.0);
        Some((p.seconds, busy, p.traffic.cpu_seconds, p.traffic.bytes()))
    };
    let all: Vec<_> = record.usage.iter().map(of).collect::<Option<_>>()?;
    Some(Measured {
        ranks: record.ranks,
        wall: all.iter().map(|a| a.0).fold(0.0, f64::max),
        busy: (all.iter().map(|a| a.1).sum(), all.iter().map(|a| a.1).fold(0.0, f64::max)),
        waiting: all.iter().map(|a| a.2).sum(),
        bytes: all.iter().map(|a| a.3).max()?,
        memory: record.usage.iter().map(|u| u.peak_memory_bytes).max()?,
    })
}

fn read(path: &Path) -> Option<Record> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Runs the program on so many ranks.
fn run(ranks: usize, args: &[&str]) {
    let program = env!("CARGO_BIN_EXE_genialearn");
    let mut command = Command::new(if ranks == 1 { program } else { "mpirun" });
    if ranks > 1 {
        command.args(["-n", &ranks.to_string(), program]);
    }
    let status = command.args(args).args(["--threads", "1", "--quiet"]).status().expect("the program starts");
    assert!(status.success(), "genialearn {} on {ranks} ranks: {status}", args.join(" "));
}

/// Leaves the run records of both commands for each number of ranks, in the files that slurm/scaling.sbatch names.
fn measure(folder: &Path, size: Size, ranks: &[usize]) {
    let path = |name: String| folder.join(name).display().to_string();
    let most = *ranks.last().expect("some number of ranks");
    for kind in ["strong", "weak"] {
        for (k, &r) in ranks.iter().enumerate() {
            let (herd, traits) = (path(format!("{kind}.h5")), path(format!("{kind}.tsv")));
            let snps = if kind == "weak" { size.m * r / most } else { size.m };
            if kind == "weak" || k == 0 {
                let (n, m, t) = (size.n.to_string(), snps.to_string(), size.t.to_string());
                let sizes = ["simulate", "--animals", &n, "--snps", &m, "--traits", &t];
                run(1, &[&sizes[..], &["--out", &herd, "--pheno", &traits, "--force"]].concat());
            }
            let (grm, ebv) = (path(format!("{kind}.{r}.grm.h5")), path(format!("{kind}.{r}.gblup")));
            run(r, &["grm", &herd, "--out", &grm]);
            run(r, &["gblup", &herd, "--pheno", &traits, "--h2", "0.3", "--solver", "pcg", "--out", &ebv]);
        }
        let table = |r: &usize| std::fs::read(path(format!("{kind}.{r}.gblup.ebv.tsv"))).expect("a result");
        let same = kind == "weak" || ranks.iter().all(|r| table(r) == table(&ranks[0]));
        assert!(same, "breeding values depend on the number of ranks");
    }
}

/// The part of all SNPs that the busiest of `ranks` owns: what work divided by SNPs can shrink to.
fn largest_share(m: usize, ranks: usize) -> f64 {
    let most = (0..ranks).map(|r| layout::snps_of(m, r, ranks).len()).max().unwrap_or(m);
    most as f64 / m as f64
}

/// Bytes that a rank hands to communication while tiles of G are formed (docs/scaling.md): broadcasts along its row and
/// column of the grid, and its part of handing out blocks of SNPs.
fn bytes_of_tiles(n: usize, m: usize, ranks: usize) -> f64 {
    if ranks == 1 {
        return 0.0;
    }
    let grid = Grid::of(ranks);
    let (r, c) = (1.0 / grid.rows() as f64, 1.0 / grid.columns() as f64);
    (n * m) as f64 / 4.0 * (r + c + 2.0 * r * c * (2.0 - r - c))
}

/// One table: a command and its main phase, strong or weak.
fn show(folder: &Path, kind: &str, command: &str, phase: &str, size: Size) {
    let mut records: Vec<Measured> = (1..=4096)
        .filter_map(|r| read(&folder.join(format!("{kind}.{r}.{command}.run.json"))))
        .filter_map(|record| measured(&record, phase))
        .collect();
    records.sort_by_key(|r| r.ranks);
    let Some(most) = records.last().map(|r| r.ranks) else {
        return println!("no records of {kind} {command} in {}", folder.display());
    };
    println!("\n{command}, `{phase}`, {kind} scaling\n");
    println!(
        "| ranks | SNPs | wall s | CPU s, all | busiest rank | formula | communication CPU s | MB a rank | formula | peak MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let first = (records[0].busy.1, records[0].ranks);
    for r in &records {
        let snps = if kind == "weak" { size.m * r.ranks / most } else { size.m };
        let share = |m: usize, ranks: usize| largest_share(m, ranks) * m as f64;
        let snps_first = if kind == "weak" { size.m * first.1 / most } else { size.m };
        let expected = first.0 * share(snps, r.ranks) / share(snps_first, first.1);
        let bytes = match command {
            "grm" => format!("{:.1}", bytes_of_tiles(size.n, snps, r.ranks) / 1e6),
            _ => format!("{:.3} C", if r.ranks == 1 { 0.0 } else { 8e-6 * size.n as f64 }),
        };
        println!(
            "| {} | {snps} | {:.2} | {:.2} | {:.2} | {expected:.2} | {:.2} | {:.1} | {bytes} | {:.0} |",
            r.ranks,
            r.wall,
            r.busy.0,
            r.busy.1,
            r.waiting,
            r.bytes as f64 / 1e6,
            r.memory as f64 / (1 << 20) as f64
        );
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let given = |k: usize| args.iter().filter_map(|a| a.parse::<usize>().ok()).nth(k);
    let size = Size { n: given(0).unwrap_or(4_000), m: given(1).unwrap_or(20_480), t: given(2).unwrap_or(8) };
    let folder = tempfile::tempdir().expect("a folder");
    let folder = match args.iter().position(|a| a == "--read").and_then(|at| args.get(at + 1)) {
        Some(path) => Path::new(path),
        None => {
            measure(folder.path(), size, &[1, 2, 4]);
            folder.path()
        }
    };
    println!("{} animals x {} SNPs, {} traits", size.n, size.m, size.t);
    for kind in ["strong", "weak"] {
        show(folder, kind, "grm", "relationships", size);
        show(folder, kind, "gblup", "solve", size);
    }
    println!("\nC: column products of G in all, the same for any number of ranks (bytes / 8n)");
}
