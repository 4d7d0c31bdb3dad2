//! Damaged files of every kind through the real program: it takes them or refuses them with one sentence, and never
//! panics, hangs, asks for absurd memory or leaves a half-written result.
//!
//! `cargo test --test fuzz` tries the same damage every time; `make fuzz FUZZ_S=600` goes on with other damage for so
//! many seconds. A failure names its case, which `FUZZ_CASE=TARGET:SEED:NUMBER cargo test --test fuzz` repeats.

mod mutate;
#[path = "../support/mod.rs"]
mod support;
mod targets;

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use targets::{Seeds, Target, Verdict};

/// Cases of each target in `cargo test`.
const CASES: u64 = 12;
/// Bytes of address space that a run may take.
const MEMORY: u64 = 3 << 30;
/// Seconds that a run may take.
const SECONDS: &str = "30";

#[test]
fn damaged_files_are_taken_or_refused_with_one_sentence() {
    let seeds = Seeds::make();
    let mut failures = Vec::new();
    if let Ok(case) = std::env::var("FUZZ_CASE") {
        let parts: Vec<&str> = case.split(':').collect();
        let target = seeds.targets.iter().find(|t| t.name == parts[0]).expect("a target of that name");
        failures.extend(attempt(&seeds, target, parts[1].parse().unwrap(), parts[2].parse().unwrap()).err());
    } else if let Some(limit) = std::env::var("FUZZ_S").ok().and_then(|s| s.parse().ok()) {
        let seed = u64::from(std::process::id());
        let start = Instant::now();
        let mut tried = 0;
        while start.elapsed() < Duration::from_secs(limit) {
            for target in &seeds.targets {
                failures.extend(attempt(&seeds, target, seed, tried).err());
            }
            tried += 1;
        }
        println!("{tried} cases of each of {} targets with seed {seed}", seeds.targets.len());
    } else {
        for target in &seeds.targets {
            failures.extend((0..CASES).filter_map(|case| attempt(&seeds, target, 1, case).err()));
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Runs one target on one damaged file.
fn attempt(seeds: &Seeds, target: &Target, seed: u64, case: u64) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let chosen = target.damaged[case as usize % target.damaged.len()];
    for name in &target.files {
        std::fs::copy(seeds.path(name), dir.path().join(name)).unwrap();
    }
    let whole = std::fs::read(seeds.path(chosen)).unwrap();
    let damaged = mutate::mutate(&whole, seed, case, target.text);
    if chosen.ends_with(".toml") && !mutate::is_small(&damaged) {
        return Ok(());
    }
    std::fs::write(dir.path().join(chosen), &damaged).unwrap();
    let run = start(dir.path(), target);
    let found = judge(seeds, target, &run, &out, damaged == whole);
    found.map_err(|problem| {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("fuzz-{}-{seed}-{case}-{chosen}", target.name));
        let _ = std::fs::write(&kept, &damaged);
        let text = String::from_utf8_lossy(&run.stderr);
        let end: String = text.lines().rev().take(3).collect::<Vec<_>>().join(" | ");
        format!(
            "FUZZ_CASE={}:{seed}:{case} ({chosen} is kept as {}): {problem}; {end}",
            target.name,
            kept.display()
        )
    })
}

/// Runs the program in `dir`.
fn start(dir: &Path, target: &Target) -> Output {
    let mut command = Command::new("timeout");
    command.args(["-k", "2", SECONDS]).arg(env!("CARGO_BIN_EXE_genialearn")).args(&target.args);
    command.args(["--threads", "1", "--device", "cpu", "--progress", "never"]).current_dir(dir);
    // SAFETY: setrlimit is allowed between fork and exec; it bounds the child's memory and its core file.
    unsafe {
        command.pre_exec(|| {
            for (what, most) in [(libc::RLIMIT_AS, MEMORY), (libc::RLIMIT_CORE, 0)] {
                libc::setrlimit(what, &libc::rlimit { rlim_cur: most, rlim_max: most });
            }
            Ok(())
        });
    }
    command.output().expect("the program starts")
}

/// What is wrong with a run, if anything.
fn judge(seeds: &Seeds, target: &Target, run: &Output, out: &Path, whole: bool) -> Result<(), String> {
    let told = String::from_utf8_lossy(&run.stderr);
    let errors = told.lines().filter(|line| line.starts_with("error:")).count();
    if told.contains("panicked") {
        return Err("panicked".into());
    }
    match run.status.code() {
        Some(0) => match target.verdict {
            _ if errors > 0 => Err("exit code 0 beside an error".into()),
            Verdict::Store => readable(&out.join("o.h5")),
            Verdict::Same => same(&seeds.answers[target.name], &results(out, &run.stdout)),
            Verdict::Any => Ok(()),
        },
        Some(1 | 2) if whole => Err("refused although whole".into()),
        Some(1 | 2) if errors != 1 => Err(format!("{errors} sentences")),
        Some(1 | 2) => {
            let left = support::listing(out);
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("left behind {left:?}"))
            }
        }
        Some(124 | 137) => Err("hangs".into()),
        other => Err(format!("exit code {other:?}, {:?}", run.status)),
    }
}

/// A store that was made is a whole one.
fn readable(store: &Path) -> Result<(), String> {
    let opened = genialearn::genotype::Store::open(store).map_err(|e| format!("an unreadable store: {e}"))?;
    let all = opened.read(0..opened.n_animals(), 0..opened.n_variants());
    all.map(|_| ()).map_err(|e| format!("an unreadable store: {e}"))
}

/// What a run wrote and said, but for its run record.
pub fn results(out: &Path, stdout: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let names = support::listing(out).into_iter().filter(|name| !name.ends_with(".run.json"));
    let mut found: BTreeMap<String, Vec<u8>> =
        names.map(|name| (name.clone(), std::fs::read(out.join(name)).unwrap_or_default())).collect();
    found.insert("standard output".into(), stdout.to_vec());
    found
}

/// Damage that passes may change nothing.
fn same(whole: &BTreeMap<String, Vec<u8>>, damaged: &BTreeMap<String, Vec<u8>>) -> Result<(), String> {
    let differs = whole.iter().find(|(name, bytes)| damaged.get(*name) != Some(bytes));
    differs.map_or(Ok(()), |(name, _)| Err(format!("exit code 0 with another {name}")))
}
