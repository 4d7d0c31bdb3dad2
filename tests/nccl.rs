//! Sums of gradients from GPU to GPU, with what stands for NCCL and for two GPUs (tests/shim): the network of staged sums;
//! where NCCL cannot start, one sentence on why.

mod support;

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use support::{genialearn, run_alone};

/// From the launch of two ranks to the end of both.
const LIMIT: Duration = Duration::from_secs(60);

/// A herd and a small network.
fn herd() -> Option<tempfile::TempDir> {
    if std::env::var_os("SHIM_SEED").is_none() {
        println!("NOT RUN: nothing stands for NCCL");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let herd =
        "simulate --animals 60 --snps 100 --traits 1 --out a.h5 --pheno a.tsv --device cpu --threads 2";
    let out = run_alone(in_folder(folder.path(), genialearn(1), herd, &[]));
    assert!(out.status.success(), "{}", said(&out));
    let network = "[network]\nhidden = [8]\n[training]\nepochs = 3\nbatch = 16\n";
    std::fs::write(folder.path().join("mlp.toml"), network).unwrap();
    Some(folder)
}

fn in_folder(folder: &Path, mut command: Command, args: &str, settings: &[(&str, &str)]) -> Command {
    command.current_dir(folder).args(args.split_whitespace()).envs(settings.iter().copied());
    command
}

/// Trains on two ranks with a GPU each, and predicts where that went well.
fn train(folder: &Path, exchange: &str, settings: &[(&str, &str)]) -> Output {
    let start = Instant::now();
    let settings = [&[("SHIM_DEVICES", "2"), ("SHIM_NCCL_REPORT", "calls")], settings].concat();
    let args = format!(
        "train mlp a.h5 --pheno a.tsv --config mlp.toml --out {exchange}.h5 --force --device cuda --exchange {exchange}"
    );
    let out = run_alone(in_folder(folder, genialearn(2), &args, &settings));
    assert!(start.elapsed() < LIMIT, "{:?}: {}", start.elapsed(), said(&out));
    out
}

/// Predictions of a network.
fn predicted(folder: &Path, name: &str) -> Vec<f64> {
    let args = format!("predict {name}.h5 a.h5 --out {name} --force --device cpu --threads 2");
    let out = run_alone(in_folder(folder, genialearn(1), &args, &[]));
    assert!(out.status.success(), "{}", said(&out));
    let text = std::fs::read_to_string(folder.join(format!("{name}.predictions.tsv"))).unwrap();
    text.lines().skip(1).map(|line| line.split('\t').nth(1).unwrap().parse().unwrap()).collect()
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// How often what stands for NCCL did something, since it was asked last.
fn calls(folder: &Path) -> impl Fn(&str) -> usize {
    let text = std::fs::read_to_string(folder.join("calls")).unwrap_or_default();
    let _ = std::fs::remove_file(folder.join("calls"));
    move |what| text.lines().filter(|line| line.split(' ').next() == Some(what)).count()
}

#[test]
fn sums_by_nccl_give_the_network_of_staged_sums() {
    let Some(folder) = herd() else { return };
    let folder = folder.path();
    for (exchange, taken) in [("staged", "staged"), ("nccl", "nccl"), ("auto", "nccl")] {
        let out = train(folder, exchange, &[]);
        assert!(out.status.success(), "{exchange}: {}", said(&out));
        assert!(said(&out).contains(&format!("sums by {taken}")), "{exchange}: {}", said(&out));
        assert!(!said(&out).contains("warn"), "{exchange}: {}", said(&out));
        let calls = calls(folder);
        assert_eq!(calls("aborted"), 0, "{exchange}");
        assert_eq!(calls("joined") > 0, taken == "nccl", "{exchange}");
        assert_eq!([calls("finalized"), calls("destroyed")], [calls("joined"); 2], "{exchange}");
    }
    let [staged, nccl, auto] = ["staged", "nccl", "auto"].map(|name| predicted(folder, name));
    assert!(staged.len() == 60 && staged.iter().any(|x| (x - staged[0]).abs() > 1e-3));
    for ((staged, nccl), auto) in staged.iter().zip(&nccl).zip(&auto) {
        assert!((staged - nccl).abs() <= 1e-5 * (1.0 + staged.abs()), "{staged} {nccl}");
        assert_eq!(nccl, auto);
    }
}

#[test]
fn nccl_that_cannot_start_is_left_with_one_warning_and_refused_where_it_is_wanted() {
    let Some(folder) = herd() else { return };
    let folder = folder.path();
    // Joining fails on all ranks, or on one for which the other would wait, or the first sum does.
    for (setting, rank) in [("refuse", 0), ("refuse:1", 1), ("refuse-sum:1", 1)] {
        let sentence =
            format!("NCCL cannot start on rank {rank}: unhandled system error: it was told to refuse");
        let out = train(folder, "auto", &[("SHIM_NCCL", setting)]);
        assert!(out.status.success(), "{setting}: {}", said(&out));
        assert_eq!(said(&out).matches("warn: ").count(), 1, "{setting}: {}", said(&out));
        let warning = said(&out).lines().find(|line| line.starts_with("warn: ")).unwrap().to_owned();
        assert!(warning.contains(&sentence) && warning.ends_with("(staged)"), "{setting}: {warning}");
        assert!(said(&out).contains("sums by staged"), "{setting}: {}", said(&out));
        assert_eq!(calls(folder)("finalized"), 0, "{setting}");
        let out = train(folder, "nccl", &[("SHIM_NCCL", setting)]);
        assert_eq!(out.status.code(), Some(1), "{setting}: {}", said(&out));
        assert_eq!(said(&out).matches("NCCL cannot start").count(), 1, "{setting}: {}", said(&out));
        assert!(said(&out).contains(&format!("error: {sentence}")), "{setting}: {}", said(&out));
        let calls = calls(folder);
        assert_eq!(calls("aborted"), calls("joined"), "{setting}");
        assert!(!folder.join("nccl.h5").exists());
    }
}

#[test]
fn ranks_that_share_a_gpu_take_staged_sums() {
    let Some(folder) = herd() else { return };
    let out = train(folder.path(), "auto", &[("SHIM_DEVICES", "1")]);
    assert!(out.status.success(), "{}", said(&out));
    assert!(said(&out).contains("sums by staged") && !said(&out).contains("warn"), "{}", said(&out));
    assert_eq!(calls(folder.path())("joined"), 0);
}
