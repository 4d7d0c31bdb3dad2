//! `--device cuda` through the real program: on a GPU, or what stands for one (tests/shim), the same answers as on the
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

fn has_gpu() -> bool {
    genialearn::device::open("auto").unwrap().name() == "cuda"
}

/// The numbers of a table, in order.
fn numbers(path: &Path) -> Vec<f64> {
    let text = std::fs::read_to_string(path).unwrap();
    text.split_whitespace().filter_map(|field| field.parse().ok()).collect()
}

#[test]
fn without_a_gpu_cuda_is_one_clear_error() {
    if has_gpu() {
        return println!("a GPU is here");
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
fn breeding_values_of_a_gpu_are_those_of_the_processor() {
    if !has_gpu() {
        return println!("NOT RUN: no GPU here");
    }
    let folder = tempfile::tempdir().unwrap();
    succeeds(folder.path(), "simulate --animals 150 --snps 400 --traits 2 --out a.h5 --pheno a.tsv --seed 3");
    for device in ["cpu", "cuda"] {
        // The processor multiplies in single precision first: both go on until their own errors are far below what is asked here.
        let gblup = "gblup a.h5 --pheno a.tsv --h2 0.4 --solver pcg --tolerance 1e-10";
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

#[test]
fn trees_of_a_gpu_are_those_of_the_processor() {
    if !has_gpu() {
        return println!("NOT RUN: no GPU here");
    }
    let folder = tempfile::tempdir().unwrap();
    succeeds(folder.path(), "simulate --animals 150 --snps 400 --traits 3 --out a.h5 --pheno a.tsv --seed 3");
    for (kind, settings) in [("boosting", "rounds=4"), ("forest", "trees=2")] {
        let train = |device: &str| {
            let args = format!("train {kind} a.h5 --pheno a.tsv --set {settings} --out {kind}.h5 --force");
            succeeds(folder.path(), &format!("{args} --device {device}"));
            std::fs::read(folder.path().join(format!("{kind}.h5"))).unwrap()
        };
        assert!(train("cpu") == train("cuda"), "{kind}");
    }
}

/// `gblup` in `folder`, which has a herd, with some settings of what stands for a GPU (tests/shim).
fn gblup(folder: &Path, device: &str, settings: &[(&str, &str)]) -> Output {
    let args = "gblup a.h5 --pheno a.tsv --h2 0.4 --solver pcg --force --out a --threads 2 --device";
    let mut command = Command::new(env!("CARGO_BIN_EXE_genialearn"));
    command.current_dir(folder).args(args.split_whitespace()).arg(device).envs(settings.iter().copied());
    command.output().unwrap()
}

/// A folder with a herd where tests/shim stands for a GPU, which can then be one that does not work; else nothing.
fn herd_beside_shim() -> Option<tempfile::TempDir> {
    if std::env::var_os("SHIM_SEED").is_none() {
        println!("NOT RUN: nothing stands for a GPU");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let herd = "simulate --animals 60 --snps 100 --traits 1 --out a.h5 --pheno a.tsv --device cpu";
    succeeds(folder.path(), herd);
    Some(folder)
}

#[test]
fn a_gpu_that_cannot_be_used_is_left_with_one_warning_and_refused_where_it_is_wanted() {
    let Some(folder) = herd_beside_shim() else { return };
    // The driver alone, without libnvrtc.
    let libraries = std::env::var("LD_LIBRARY_PATH").unwrap();
    let driver =
        libraries.split(':').map(|f| Path::new(f).join("libcuda.so.1")).find(|f| f.exists()).unwrap();
    std::os::unix::fs::symlink(driver, folder.path().join("libcuda.so.1")).unwrap();
    let alone = folder.path().to_str().unwrap();
    let cache = folder.path().join("cache");
    let cache = ("GENIALEARN_CACHE", cache.to_str().unwrap());
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
    let cases: [Case; 5] = [
        (&[("SHIM_CARD", "75")], &["compute capability 7.5", "at least 8.0"]),
        (&[("SHIM_CARD", "86")], &["99 KiB of shared memory", "163 KiB"]),
        (&[("SHIM_DRIVER", "12"), ("SHIM_COMPILER", "13")], &["CUDA 12.0", "libnvrtc of CUDA 12"]),
        (&[("SHIM_BUILTINS", "missing")], &["libnvrtc-builtins", "LD_LIBRARY_PATH"]),
        (&[("LD_LIBRARY_PATH", alone)], &["libnvrtc", "was not found"]),
    ];
    for (settings, wanted) in cases {
        let settings = [settings, &[cache]].concat();
        let said = |out: &Output| String::from_utf8_lossy(&out.stderr).into_owned();
        let refused = gblup(folder.path(), "cuda", &settings);
        assert_eq!(refused.status.code(), Some(1), "{settings:?}: {}", said(&refused));
        let left = gblup(folder.path(), "auto", &settings);
        assert!(left.status.success(), "{settings:?}: {}", said(&left));
        assert_eq!(
            said(&left).matches("warning:").count() + said(&left).matches("warn:").count(),
            1,
            "{}",
            said(&left)
        );
        for out in [&refused, &left] {
            assert!(wanted.iter().all(|text| said(out).contains(text)), "{settings:?}: {}", said(out));
            assert!(said(out).contains("--device cpu"), "{}", said(out));
        }
        let record = std::fs::read_to_string(folder.path().join("a.run.json")).unwrap();
        assert!(record.contains("\"cpu\""), "{record}");
    }
}

#[test]
fn kept_kernels_that_do_not_load_are_compiled_anew() {
    let Some(folder) = herd_beside_shim() else { return };
    let cache = folder.path().join("cache");
    let run = || {
        assert!(gblup(folder.path(), "cuda", &[("GENIALEARN_CACHE", cache.to_str().unwrap())])
            .status
            .success())
    };
    let kept = || {
        let files = std::fs::read_dir(&cache).unwrap().map(|file| file.unwrap().path());
        files.map(|path| (std::fs::read(&path).unwrap(), path)).collect::<Vec<_>>()
    };
    run();
    let before = kept();
    assert!(before.len() > 1);
    before.iter().for_each(|(_, path)| std::fs::write(path, "cut").unwrap());
    run();
    let sorted = |mut all: Vec<_>| {
        all.sort();
        all
    };
    assert_eq!(sorted(kept()), sorted(before));
}

/// What a training asks of the driver for each of its last steps: calls of `train` with `config` of twice as many epochs
/// less those of once as many, over the steps between.
fn calls_a_step(folder: &Path, train: &str, config: &str, epochs: usize, steps: f64) -> Vec<(String, f64)> {
    let counted = |epochs: usize| -> Vec<(String, f64)> {
        std::fs::write(folder.join("c.toml"), config.replace("EPOCHS", &epochs.to_string())).unwrap();
        let counts = folder.join("counts");
        let _ = std::fs::remove_file(&counts);
        let mut command = Command::new(env!("CARGO_BIN_EXE_genialearn"));
        let args = format!("{train} --config c.toml --device cuda --force --threads 2");
        let out =
            command.current_dir(folder).args(args.split_whitespace()).env("SHIM_COUNTS", &counts).output();
        let out = out.unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let text = std::fs::read_to_string(&counts).unwrap();
        let line = |line: &str| line.split_once(' ').map(|(what, n)| (what.to_owned(), n.parse().unwrap()));
        text.lines().filter_map(line).collect()
    };
    let (once, twice) = (counted(epochs), counted(2 * epochs));
    once.into_iter().zip(twice).map(|((what, a), (_, b))| (what, (b - a) / steps)).collect()
}

/// At most so many calls a step of a network with two layers of batch normalisation and dropout, and an iteration of the
/// WGAN-GP: five steps of the critic and one of the generator.
const MLP: [(&str, f64); 6] = [
    ("launches", 69.0),
    ("copies", 5.1),
    ("uploads", 2.0),
    ("downloads", 0.14),
    ("waits", 0.14),
    ("allocations", 22.5),
];
const WGAN: [(&str, f64); 6] = [
    ("launches", 727.0),
    ("copies", 180.0),
    ("uploads", 5.0),
    ("downloads", 0.5),
    ("waits", 0.5),
    ("allocations", 119.0),
];

/// Launches cost the host microseconds, and each wait leaves the GPU idle: what a step asks for is bounded here.
#[test]
fn a_step_waits_for_the_gpu_as_good_as_never() {
    let Some(folder) = herd_beside_shim() else { return };
    let mlp = "[network]\nhidden = [16, 8]\nnormalisation = \"batch\"\ndropout = 0.3\n\
               [training]\nepochs = EPOCHS\nbatch = 4\nvalidation = 0.0\nclip = 1.0\n";
    let wgan = "[network]\nwidths = [16, 8]\nlatent = 4\n\
                [training]\nepochs = EPOCHS\nbatch = 6\ncritic_steps = 5\nvalidation = 0.0\nevaluate_every = 1000\n";
    let cases = [
        ("mlp", "train mlp a.h5 --pheno a.tsv --out m.h5", mlp, 2, 15.0, &MLP),
        ("wgan", "train wgan a.h5 --out w.h5", wgan, 1, 2.0, &WGAN),
    ];
    for (what, train, config, epochs, steps, bounds) in cases {
        let steps = epochs as f64 * steps;
        let calls = calls_a_step(folder.path(), train, config, epochs, steps);
        calls.iter().for_each(|(call, found)| println!("a step of {what}: {found:.2} {call}"));
        for (call, found) in calls {
            let most = bounds.iter().find(|(name, _)| *name == call).unwrap().1;
            assert!(found <= most, "{what}: {found} {call} a step, at most {most}");
        }
    }
}
