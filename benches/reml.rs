//! From relationships to variance components: CPU seconds for one trait and for eight recorded on the same animals.
//!
//!     cargo bench --bench reml [-- ANIMALS SNPS]
//!     cargo bench --bench reml -- large [ANIMALS SNPS]
//!
//! `reml --method exact` from a file of G, `--method stochastic` from the genotypes, and GEMMA (where it is installed)
//! from the same G as text: `gemma -eigen`, then the null model of `gemma -lmm 1` for each trait, with five SNPs to
//! test. Everything in processes of its own with one thread. With `large` what never forms G instead: stochastic REML,
//! moments, conjugate gradients, and all traits in one model. Then exact REML on two ranks, whole problems on single
//! ranks against a grid of both. What came out: benches/results/reml.md.

mod seconds;

use genialearn::comm::World;
use genialearn::genotype::Store;
use genialearn::grm::{explicit, GenotypeMatrix, Scaling};
use seconds::cost;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Traits of the herd.
const TRAITS: usize = 8;

/// Runs a command line in `folder` with one thread; CPU seconds, printed beside `what` with wall seconds.
fn run(folder: &Path, what: &str, program: &str, line: &str) -> f64 {
    let wall = Instant::now();
    let mut command = Command::new(program);
    command.args(line.split(' ')).current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
    for (name, value) in [
        ("OPENBLAS_NUM_THREADS", "1"),
        ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
        ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
        ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
        ("OMPI_MCA_mpi_yield_when_idle", "1"),
        ("OMPI_MCA_hwloc_base_binding_policy", "none"),
    ] {
        command.env(name, value);
    }
    let seconds = cost(libc::RUSAGE_CHILDREN, || {
        let status = command.status().expect("the program starts");
        assert!(status.success(), "{program} {line}");
    });
    println!("{what:<48} {seconds:8.2} ({:.2})", wall.elapsed().as_secs_f64());
    seconds
}

/// Fills gaps in the records with 0, so that all traits have the same animals, and writes them for GEMMA too.
/// Returns the first trait's name.
fn complete(folder: &Path) -> String {
    let text = std::fs::read_to_string(folder.join("gaps.tsv")).expect("records").replace("\tNA", "\t0");
    std::fs::write(folder.join("p.tsv"), &text).expect("room on the disk");
    let values = text.lines().skip(1).map(|l| l.split_once('\t').expect("a trait").1);
    let plain: String = values.map(|l| l.to_owned() + "\n").collect();
    std::fs::write(folder.join("p.txt"), plain).expect("room on the disk");
    text.lines().next().and_then(|l| l.split('\t').nth(1)).expect("a trait").to_owned()
}

/// G and five SNPs as text.
fn for_gemma(folder: &Path) {
    let store = Store::open(&folder.join("s.h5")).expect("a store");
    let backend = genialearn::device::open("auto").expect("a backend");
    let markers =
        GenotypeMatrix::load(&World::alone(), backend, &store, Scaling::VanRaden1).expect("genotypes");
    let g = explicit::grm(&markers).expect("memory").expect("on the root");
    let mut text = String::new();
    for row in g.rows() {
        for x in row {
            let _ = write!(text, "{x:.8}\t");
        }
        text.push('\n');
    }
    std::fs::write(folder.join("k.txt"), text).expect("room on the disk");
    let snps: String = (0..5)
        .map(|j| {
            let calls: String = (0..g.nrows()).map(|i| format!(", {}", (i * (j + 3) / 7) % 3)).collect();
            format!("s{j}, A, C{calls}\n")
        })
        .collect();
    std::fs::write(folder.join("g.txt"), snps).expect("room on the disk");
}

/// CPU seconds of GEMMA for one trait and for all, unless it is not installed.
fn gemma(folder: &Path) -> Option<(f64, f64)> {
    if Command::new("gemma").arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        println!("gemma is not installed: not compared");
        return None;
    }
    for_gemma(folder);
    let eigen =
        run(folder, "gemma -eigen", "gemma", "-g g.txt -p p.txt -k k.txt -eigen -notsnp -outdir . -o e");
    let null: Vec<f64> = (1..=TRAITS)
        .map(|t| {
            let line = format!(
                "-g g.txt -p p.txt -n {t} -d e.eigenD.txt -u e.eigenU.txt -lmm 1 -notsnp -outdir . -o t"
            );
            run(folder, &format!("gemma -lmm 1, trait {t}"), "gemma", &line)
        })
        .collect();
    Some((eigen + null[0], eigen + null.iter().sum::<f64>()))
}

/// What never forms G, on records with gaps.
fn large(folder: &Path, n: usize, m: usize) {
    let ours = env!("CARGO_BIN_EXE_genialearn");
    let herd = format!("simulate -q --animals {n} --snps {m} --traits {TRAITS} --out s.h5 --pheno p.tsv");
    run(folder, "simulating", ours, &herd);
    let text = std::fs::read_to_string(folder.join("p.tsv")).expect("records");
    let first = text.lines().next().and_then(|l| l.split('\t').nth(1)).expect("a trait");
    let work = |what: &str, command: &str, more: &str| {
        let line = format!("{command} s.h5 --pheno p.tsv --force -q --threads 1 {more}");
        run(folder, what, ours, &line);
    };
    work("stochastic REML, 1 trait", "reml", &format!("--method stochastic --traits {first} --out one"));
    work("stochastic REML, 8 traits", "reml", "--method stochastic --out v");
    work("moments, 8 traits, 36 pairs", "reml", "--method he --out c");
    let gradients = "--variances v.variances.tsv --solver pcg --out s";
    work("conjugate gradients, 8 traits", "gblup", gradients);
    let joint = "--joint --covariances c.gencov.tsv --out j";
    work("all 8 traits in one model", "gblup", joint);
    work("the same, rank 3", "gblup", &format!("{joint} --rank 3"));
}

fn main() {
    let large_herd = std::env::args().any(|a| a == "large");
    let sizes: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let (n, m) = match sizes[..] {
        [n, m] => (n, m),
        _ if large_herd => (10_000, 20_000),
        _ => (2_000, 10_000),
    };
    let temporary = tempfile::tempdir().expect("a folder");
    let folder = temporary.path();
    let ours = env!("CARGO_BIN_EXE_genialearn");
    println!("{n} animals x {m} SNPs, CPU seconds (wall seconds), one thread");
    if large_herd {
        return large(folder, n, m);
    }
    let herd = format!("simulate -q --animals {n} --snps {m} --traits {TRAITS} --out s.h5 --pheno gaps.tsv");
    run(folder, "simulating", ours, &herd);
    let first = complete(folder);
    run(folder, "forming G", ours, "grm s.h5 --out g.h5 -q --threads 1");
    let reml = |what: &str, more: &str| {
        let line = format!("reml s.h5 --pheno p.tsv --out o --force -q --threads 1 {more}");
        run(folder, what, ours, &line)
    };
    let one = reml("exact, 1 trait", &format!("--method exact --grm g.h5 --traits {first}"));
    let all = reml("exact, 8 traits", "--method exact --grm g.h5");
    reml("stochastic, 1 trait", &format!("--method stochastic --traits {first}"));
    reml("stochastic, 8 traits", "--method stochastic");
    if let Some((gemma_one, gemma_all)) = gemma(folder) {
        println!("GEMMA over exact: 1 trait {:.1}, 8 traits {:.1}", gemma_one / one, gemma_all / all);
    }
    for grid in ["none", "1x2"] {
        let line = format!(
            "-n 2 {ours} reml s.h5 --pheno p.tsv --grm g.h5 --grid {grid} --out o --force -q --threads 1"
        );
        run(folder, &format!("exact, 8 traits, 2 ranks, --grid {grid}"), "mpirun", &line);
    }
}
