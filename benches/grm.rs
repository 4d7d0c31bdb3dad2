//! G by VanRaden's first method beside PLINK 2, in useful multiply-adds (n²m/2) per CPU second.
//!
//!     cargo bench --bench grm [-- ANIMALS SNPS]
//!     cargo bench --bench grm -- ANIMALS SNPS kernels
//!     cargo bench --bench grm -- ANIMALS SNPS missing
//!     cargo bench --bench grm -- ANIMALS SNPS shares
//!
//! Prints every kernel that this processor has (the lower triangle of X X'; the portable one for a quarter of the
//! animals, as it is slow), then all of G with and without 1 %
//! of missing calls, and `plink2 --make-grm-bin` on the same genotypes when it is installed, on as many threads. With
//! `kernels` only those. With `missing` only G with and without 1 % of missing calls, five times in turn, so that other
//! work on the machine meets both. With `shares` G at several shares of missing calls, beside the product of the coded
//! genotypes (vanraden2 takes it at any share), each the least of three runs.
//! What came out, beside the aims: benches/results/grm.md; why: docs/grm.md.

mod seconds;

use genialearn::comm::World;
use genialearn::device::{self, Part};
use genialearn::grm::{explicit, GenotypeMatrix, Scaling};
use genialearn::packed::{Packed, MISSING, PER_BYTE};
use genialearn::rng::{Purpose, Stream};
use rayon::prelude::*;
use seconds::cost;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Animals by SNPs in Hardy-Weinberg proportions, `per_mille` calls in a thousand missing.
fn genotypes(n: usize, m: usize, per_mille: u64) -> Packed {
    let mut s = Stream::new(1, Purpose::Test, 0);
    let frequencies: Vec<f64> = (0..m).map(|_| 0.05 + 0.9 * s.uniform()).collect();
    let mut packed = Packed::missing(n, m);
    let stride = packed.stride();
    packed.bytes_mut().par_chunks_mut(stride).enumerate().for_each(|(i, row)| {
        let mut s = Stream::new(2, Purpose::Test, i as u64);
        for (byte, four) in row.iter_mut().zip(frequencies.chunks(PER_BYTE)) {
            for (k, &p) in four.iter().enumerate() {
                let allele = |s: &mut Stream| u8::from(s.uniform() < p);
                let call = allele(&mut s) + allele(&mut s);
                let code = if s.below(1000) < per_mille as usize { MISSING } else { call };
                *byte = *byte & !(3 << (2 * k)) | code << (2 * k);
            }
        }
    });
    packed
}

/// Writes the genotypes as a PLINK file set at `prefix`.
fn write_bed(packed: &Packed, prefix: &Path) {
    let (n, m) = (packed.rows(), packed.columns());
    let mut bed = vec![0x6c, 0x1b, 0x01];
    let mut panel = vec![0u8; m * n.div_ceil(PER_BYTE)];
    // .bed counts the other way round: 0 is two copies of the counted allele, 1 missing, 2 one copy, 3 none
    let code = [3u8, 2, 0, 1];
    panel.par_chunks_mut(n.div_ceil(PER_BYTE)).enumerate().for_each(|(j, column)| {
        for i in 0..n {
            column[i / PER_BYTE] |= code[usize::from(packed.get(i, j))] << (2 * (i % PER_BYTE));
        }
    });
    bed.extend_from_slice(&panel);
    std::fs::write(prefix.with_extension("bed"), bed).expect("the .bed");
    let (mut bim, mut fam) = (String::new(), String::new());
    (0..m).for_each(|j| writeln!(bim, "1 s{j} 0 {} A G", j + 1).expect("a string"));
    (0..n).for_each(|i| writeln!(fam, "a{i} a{i} 0 0 0 -9").expect("a string"));
    std::fs::write(prefix.with_extension("bim"), bim).expect("the .bim");
    std::fs::write(prefix.with_extension("fam"), fam).expect("the .fam");
}

/// CPU seconds of PLINK 2 on these genotypes, reading and writing included; `None` when it is not there.
fn plink(packed: &Packed, threads: usize) -> Option<f64> {
    Command::new("plink2").arg("--version").stdout(Stdio::null()).status().ok()?;
    let folder = tempfile::tempdir().expect("a folder");
    let prefix = folder.path().join("herd");
    write_bed(packed, &prefix);
    let mut command = Command::new("plink2");
    command.arg("--bfile").arg(&prefix).args(["--make-grm-bin", "--allow-extra-chr", "--threads"]);
    command.arg(threads.to_string()).arg("--out").arg(folder.path().join("grm")).stdout(Stdio::null());
    let seconds = cost(libc::RUSAGE_CHILDREN, || {
        assert!(command.status().expect("plink2 starts").success(), "plink2 --make-grm-bin");
    });
    Some(seconds)
}

/// CPU seconds of G, genotypes in memory.
fn grm(packed: Packed, scaling: Scaling) -> f64 {
    let backend = device::open("cpu").expect("this machine has a processor");
    let m = packed.columns();
    let mut g = None;
    let seconds = cost(libc::RUSAGE_SELF, || {
        let markers = GenotypeMatrix::from_packed(&World::alone(), backend, packed, 0, m, scaling);
        g = explicit::grm(&markers.expect("SNPs vary")).expect("enough memory");
    });
    assert!(g.expect("on the root").diag().iter().all(|&d| d > 0.0), "a diagonal");
    seconds
}

/// G at several shares of missing calls.
fn shares(n: usize, m: usize) {
    println!("{n} animals x {m} SNPs, {} threads, CPU seconds", rayon::current_num_threads());
    println!("missing calls  vanraden1     more  vanraden2");
    let mut complete = f64::NAN;
    for per_mille in [0, 10, 20, 50, 100] {
        let packed = genotypes(n, m, per_mille);
        let least = |scaling| (0..3).map(|_| grm(packed.clone(), scaling)).fold(f64::INFINITY, f64::min);
        let (one, two) = (least(Scaling::VanRaden1), least(Scaling::VanRaden2));
        complete = if per_mille == 0 { one } else { complete };
        let (share, more) = (per_mille as f64 / 10.0, 100.0 * (one / complete - 1.0));
        println!("{share:10.0} %   {one:10.2}  {more:+5.0} % {two:10.2}");
    }
}

/// G without and with 1 % of missing calls, in turn.
fn in_turn(n: usize, m: usize) {
    println!("{n} animals x {m} SNPs, {} threads, CPU seconds", rayon::current_num_threads());
    println!("every call  1 % missing     more");
    let (complete, missing) = (genotypes(n, m, 0), genotypes(n, m, 10));
    let mut all = Vec::new();
    for _ in 0..5 {
        let [whole, gaps] = [&complete, &missing].map(|packed| grm(packed.clone(), Scaling::VanRaden1));
        println!("{whole:10.2}  {gaps:11.2}  {:+5.1} %", 100.0 * (gaps / whole - 1.0));
        all.push((whole, gaps));
    }
    let least = |of: fn(&(f64, f64)) -> f64| all.iter().map(of).fold(f64::INFINITY, f64::min);
    let (whole, gaps) = (least(|r| r.0), least(|r| r.1));
    println!("{whole:10.2}  {gaps:11.2}  {:+5.1} %  the least of each", 100.0 * (gaps / whole - 1.0));
}

/// The lower triangle of X X' by every kernel.
fn kernels(packed: &Packed) {
    let (n, m) = (packed.rows(), packed.columns());
    let speed = |seconds: f64| (n * n) as f64 * m as f64 / 2.0 / seconds / 1e9;
    println!("{n} animals x {m} SNPs, {} threads", rayon::current_num_threads());
    println!("G multiply-adds per CPU second, CPU seconds");
    let mut first: Option<Vec<i32>> = None;
    for name in device::kernel_names() {
        let some = if name == "portable" { n.div_ceil(4) } else { n };
        let mut out = vec![0; some * some];
        let seconds = cost(libc::RUSAGE_SELF, || {
            device::counts_by(name, packed, 0..some, 0..some, Part::Lower, &mut out).expect("a known kernel");
        });
        let part = (some as f64 / n as f64).powi(2);
        let which = if some < n { format!("{name}, {some} animals") } else { name.to_string() };
        println!("X X', {which:26} {:8.1} {seconds:8.2}", part * speed(seconds));
        let first = first.get_or_insert_with(|| out.clone());
        let same = |i: usize| first[i * n..=i * n + i] == out[i * some..=i * some + i];
        assert!((0..some).all(same), "{name} differs from the fastest kernel");
    }
}

fn main() {
    let mut sizes = std::env::args().skip(1).filter_map(|a| a.parse::<usize>().ok());
    let (n, m) = (sizes.next().unwrap_or(10_000), sizes.next().unwrap_or(50_000));
    let asked = |word: &str| std::env::args().any(|a| a == word);
    if asked("missing") {
        return in_turn(n, m);
    }
    if asked("shares") {
        return shares(n, m);
    }
    let packed = genotypes(n, m, 0);
    kernels(&packed);
    if asked("kernels") {
        return;
    }
    let speed = |seconds: f64| (n * n) as f64 * m as f64 / 2.0 / seconds / 1e9;
    let missing = genotypes(n, m, 10);
    let other = plink(&packed, rayon::current_num_threads());
    let whole = grm(packed, Scaling::VanRaden1);
    println!("G, every call made               {:8.1} {whole:8.2}", speed(whole));
    let gaps = grm(missing, Scaling::VanRaden1);
    println!(
        "G, 1 % missing                   {:8.1} {gaps:8.2} ({:+.0} %)",
        speed(gaps),
        100.0 * (gaps / whole - 1.0)
    );
    match other {
        Some(seconds) => println!(
            "plink2 --make-grm-bin            {:8.1} {seconds:8.2}, {:.1} times G",
            speed(seconds),
            seconds / whole
        ),
        None => println!("plink2 is not installed: nothing to compare with"),
    }
}
