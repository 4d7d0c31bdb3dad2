//! `--device cuda` through the real program: on a card, or what stands for one (tests/shim), the same answers as on the
//! processor; without, one clear error.

mod support;

use std::path::Path;
use std::process::{Command, Output};

fn genialearn(folder: &Path, args: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_genialearn"));
    command.current_dir(folder).args(args.split_whitespace()).args(["--threads", "2"]).output().unwrap()
}

fn succeeds(folder: &Path, args: &str) {
    let out = genialearn(folder, args);
    assert!(out.status.success(), "{args}: {}", String::from_utf8_lossy(&out.stderr));
}

fn has_card() -> bool {
    genialearn::device::open("auto").unwrap().name() == "cuda"
}

/// The numbers of a table, in order.
fn numbers(path: &Path) -> Vec<f64> {
    let text = std::fs::read_to_string(path).unwrap();
    text.split_whitespace().filter_map(|field| field.parse().ok()).collect()
}

#[test]
fn without_a_card_cuda_is_one_clear_error() {
    if has_card() {
        return println!("a card is here");
    }
    let folder = tempfile::tempdir().unwrap();
    let args = "simulate --animals 20 --snps 50 --traits 1 --out a.h5 --pheno a.tsv --device cuda";
    let out = genialearn(folder.path(), args);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert_eq!(said.matches("error:").count(), 1, "{said}");
    assert!(said.contains("--device") && said.contains("--device cpu"), "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn breeding_values_of_a_card_are_those_of_the_processor() {
    if !has_card() {
        return println!("NOT RUN: no card here");
    }
    let folder = tempfile::tempdir().unwrap();
    succeeds(folder.path(), "simulate --animals 150 --snps 400 --traits 2 --out a.h5 --pheno a.tsv --seed 3");
    for device in ["cpu", "cuda"] {
        let gblup = "gblup a.h5 --pheno a.tsv --h2 0.4 --solver pcg";
        succeeds(folder.path(), &format!("{gblup} --out {device} --device {device}"));
        let record = std::fs::read_to_string(folder.path().join(format!("{device}.run.json"))).unwrap();
        assert!(record.contains(&format!("\"{device}\"")), "{record}");
    }
    let [cpu, cuda] = ["cpu", "cuda"].map(|device| numbers(&folder.path().join(format!("{device}.ebv.tsv"))));
    assert!(cpu.len() >= 300 && cpu.len() == cuda.len());
    for (a, b) in cpu.iter().zip(&cuda) {
        assert!((a - b).abs() <= 1e-6 * (1.0 + a.abs()), "{a} {b}");
    }
}
