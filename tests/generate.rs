//! Generators from the command line: the same animals on any number of ranks, and what is refused.

mod support;

use genialearn::genotype::Store;
use std::path::{Path, PathBuf};
use support::{genialearn, run_alone, succeeds};

/// A herd of 120 animals x 700 SNPs (three chunks) with three traits in a folder of its own.
struct Herd {
    dir: tempfile::TempDir,
}

impl Herd {
    fn new() -> Herd {
        let dir = tempfile::tempdir().unwrap();
        let herd = Herd { dir };
        let (store, pheno) = (herd.path("cows.h5"), herd.path("traits.tsv"));
        succeeds(
            1,
            &[
                "simulate",
                "--animals",
                "120",
                "--snps",
                "700",
                "--traits",
                "3",
                "--out",
                &store,
                "--pheno",
                &pheno,
            ],
        );
        herd
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// Trains a kind on some ranks and generates on others.
    fn make(&self, kind: &str, model: &str, ranks: usize, more: &[&str]) {
        let (store, out) = (self.path("cows.h5"), self.path(model));
        succeeds(ranks, &[&["train", kind, &store, "--out", &out, "--quiet"], more].concat());
    }

    fn generate(&self, model: &str, out: &str, ranks: usize, more: &[&str]) {
        let (model, out) = (self.path(model), self.path(out));
        succeeds(ranks, &[&["generate", &model, "--out", &out, "--quiet"], more].concat());
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// What a command that fails says.
    fn fails(&self, args: &[&str]) -> String {
        let mut command = genialearn(1);
        command.args(args).current_dir(self.dir.path());
        let out = run_alone(command);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stderr).unwrap()
    }
}

#[test]
fn baselines_make_the_same_animals_on_any_number_of_ranks() {
    let herd = Herd::new();
    for kind in ["independent", "markov", "mosaic", "relatives"] {
        herd.make(kind, "model.1.h5", 1, &[]);
        herd.make(kind, "model.4.h5", 4, &[]);
        assert!(herd.bytes("model.1.h5") == herd.bytes("model.4.h5"), "{kind}");
        // 1,500: more than one block of the store
        for ranks in 1..=4 {
            herd.generate("model.1.h5", &format!("{ranks}.h5"), ranks, &["--animals", "1500"]);
            assert!(herd.bytes(&format!("{ranks}.h5")) == herd.bytes("1.h5"), "{kind} on {ranks} ranks");
        }
        herd.generate("model.1.h5", "later.h5", 1, &["--animals", "7", "--start", "1491"]);
        let read = |name: &str| Store::open(Path::new(&herd.path(name))).unwrap();
        let (all, later) = (read("1.h5"), read("later.h5"));
        assert_eq!(all.animals().id[1490..1497], later.animals().id[..]);
        assert_eq!(later.animals().id[0], "synthetic_1491");
        assert_eq!(all.read(1490..1497, 0..700).unwrap(), later.read(0..7, 0..700).unwrap());
        assert_eq!(all.variants().id, read("cows.h5").variants().id);
        let calls = all.read(0..1500, 0..700).unwrap();
        for (p, t) in all.variants().frequency.iter().zip(calls.tally_columns()) {
            assert_eq!((Some(*p), 0), (genialearn::packed::frequency(&t), t[3]));
        }
        let told = succeeds(1, &["info", &herd.path("model.1.h5")]);
        assert!(told.contains(&format!("generator of genotypes ({kind})")) && told.contains("120"), "{told}");
        clear(herd.dir.path(), "cows,traits");
    }
}

/// A metric of `fidelity.tsv`: of real and synthetic animals, and of two halves of the real ones.
fn metric(folder: &str, name: &str) -> [f64; 2] {
    let text = std::fs::read_to_string(format!("{folder}/fidelity.tsv")).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{name}\t"))).unwrap();
    let cells: Vec<&str> = line.split('\t').collect();
    [2, 3].map(|c| cells[c].parse().unwrap())
}

#[test]
fn relatives_keep_families_and_linkage_and_stay_as_far_as_real_animals() {
    let herd = Herd::new();
    let [cows, pheno] = ["families.h5", "families.tsv"].map(|name| herd.path(name));
    let size = ["--animals", "600", "--snps", "600", "--quiet"];
    succeeds(1, &[&["simulate", "--out", &cows, "--pheno", &pheno], &size[..]].concat());
    for kind in ["mosaic", "relatives"] {
        let [model, made, out] = ["model.h5", "made.h5", ""].map(|name| herd.path(&format!("{kind}{name}")));
        succeeds(1, &["train", kind, &cows, "--out", &model, "--quiet"]);
        succeeds(1, &["generate", &model, "--animals", "600", "--out", &made, "--quiet"]);
        succeeds(1, &["fidelity", &cows, &made, "--out", &out, "--quiet"]);
    }
    let of = |kind: &str, name: &str| metric(&herd.path(kind), name);
    let off = |kind: &str| {
        ["aa_truth", "aa_syn"].iter().map(|half| (of(kind, half)[0] - of(kind, half)[1]).abs()).sum::<f64>()
    };
    assert!(off("relatives") < 0.4 && off("mosaic") > 0.6, "{} {}", off("relatives"), off("mosaic"));
    for name in ["ld_r2_r", "ld_r2_slope", "correlation_score", "f1_k10"] {
        let [[relatives, real], [mosaic, _]] = ["relatives", "mosaic"].map(|kind| of(kind, name));
        assert!(relatives > mosaic && relatives > real - 0.15, "{name}: {relatives}, {mosaic}, real {real}");
    }
    assert_eq!(of("relatives", "copies")[0], 0.0);
}

/// The configurations of small networks.
const NETWORKS: [(&str, &str); 3] = [
    ("vae", "widths = [24, 12]\nlatent = 6\nepochs = 8\nbatch = 50\n"),
    ("gan", "generator = [12, 24]\ndiscriminator = [16, 8]\nlatent = 6\nepochs = 8\nbatch = 50\n"),
    ("ddpm", "widths = [32, 24]\nsteps = 12\nlast_beta = 0.5\nepochs = 8\nbatch = 50\n"),
];

/// The numbers of a learning curve.
fn curve(path: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .skip(1)
        .flat_map(|l| l.split('\t').map(|x| x.parse().unwrap()).collect::<Vec<f64>>())
        .collect()
}

#[test]
fn networks_learn_alike_on_any_number_of_ranks_and_make_the_same_animals() {
    let herd = Herd::new();
    for (kind, config) in NETWORKS {
        std::fs::write(herd.path("small.toml"), config).unwrap();
        let traits = (herd.path("traits.tsv"), herd.path("small.toml"));
        let more = ["--pheno", &traits.0, "--condition", "milk,fat_content", "--config", &traits.1];
        herd.make(kind, "one.h5", 1, &more);
        herd.make(kind, "two.h5", 2, &more);
        let (one, two) = (curve(&herd.path("one.curve.tsv")), curve(&herd.path("two.curve.tsv")));
        assert!(one.len() > 8 && one.len() == two.len());
        // Sums of another order, in single precision, over eight epochs: OpenBLAS' kernels decide how far they part.
        let far = |(a, b): (&f64, &f64)| (a - b).abs() > 5e-3 * a.abs().max(0.1);
        assert!(!one.iter().zip(&two).any(far), "{kind}: {one:?} {two:?}");
        assert!(Path::new(&herd.path("one.curve.svg")).exists());
        for ranks in 1..=4 {
            herd.generate("one.h5", &format!("new{ranks}.h5"), ranks, &["--animals", "300"]);
            assert!(
                herd.bytes(&format!("new{ranks}.h5")) == herd.bytes("new1.h5"),
                "{kind} on {ranks} ranks"
            );
        }
        // Conditions are those of training animals, in their units.
        let text = |name: &str| std::fs::read_to_string(herd.path(name)).unwrap();
        let (used, given) = (text("new1.conditions.tsv"), text("traits.tsv"));
        assert!(used.starts_with("id\tmilk\tfat_content\nsynthetic_1\t") && used.lines().count() == 301);
        let header: Vec<&str> = given.lines().next().unwrap().split('\t').collect();
        let place = header.iter().position(|h| *h == "milk").unwrap();
        let known: Vec<f64> =
            given.lines().skip(1).filter_map(|l| l.split('\t').nth(place).unwrap().parse().ok()).collect();
        let milk: f64 = used.lines().nth(7).unwrap().split('\t').nth(1).unwrap().parse().unwrap();
        assert!(known.iter().any(|k| (k - milk).abs() < 1e-5 * k.abs()), "{kind}: {milk}");
        // The same, given as a file: the same animals but for the last digit of a table.
        let used = herd.path("new1.conditions.tsv");
        herd.generate(
            "one.h5",
            "asked.h5",
            1,
            &["--condition", &used, "--pheno-out", &herd.path("asked.tsv")],
        );
        let calls =
            |name: &str| Store::open(Path::new(&herd.path(name))).unwrap().read(0..300, 0..700).unwrap();
        let (a, b) = (calls("new1.h5"), calls("asked.h5"));
        let same = a.bytes().iter().zip(b.bytes()).filter(|(a, b)| a == b).count();
        assert!(same as f64 > 0.999 * a.bytes().len() as f64, "{kind}: {same}");
        assert_eq!(text("asked.tsv"), text("new1.conditions.tsv"));
        std::fs::write(herd.path("hole.tsv"), "id\tfat_content\tmilk\na\t1\t2\nb\tNA\t2\n").unwrap();
        for (args, told) in [
            (&["--condition", "hole.tsv"][..], "hole.tsv line 3, column fat_content: expected a number"),
            (
                &["--condition", "asked.tsv", "--animals", "301"],
                "expected conditions of 301 animals, found 300",
            ),
            (&["--condition", "small.toml", "--animals", "3"], "small.toml"),
        ] {
            let said = herd.fails(&[&["generate", "one.h5", "--out", "x.h5"], args].concat());
            assert!(said.contains(told), "{args:?}: {said}");
        }
        clear(herd.dir.path(), "cows,traits");
    }
}

#[test]
fn a_rank_without_animals_of_a_batch_adds_nothing() {
    let herd = Herd::new();
    std::fs::write(herd.path("small.toml"), "widths = [24, 12]\nlatent = 6\nepochs = 2\nbatch = 3\n")
        .unwrap();
    let config = herd.path("small.toml");
    for (name, ranks) in [("one.h5", 1), ("four.h5", 4)] {
        herd.make("vae", name, ranks, &["--config", &config]);
    }
    let (one, four) = (curve(&herd.path("one.curve.tsv")), curve(&herd.path("four.curve.tsv")));
    assert!(one.iter().zip(&four).all(|(a, b)| (a - b).abs() < 0.05 * a.abs()), "{one:?} {four:?}");
}

/// Removes all files but those whose names begin in one of these ways.
fn clear(folder: &Path, keep: &str) {
    let files = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let others: Vec<PathBuf> = files
        .filter(|f| !keep.split(',').any(|k| f.file_name().unwrap().to_str().unwrap().starts_with(k)))
        .collect();
    others.iter().for_each(|f| std::fs::remove_file(f).unwrap());
}

#[test]
fn networks_that_are_asked_to_stop_go_on_to_the_same_bytes() {
    let herd = Herd::new();
    for (kind, text) in [
        ("vae", "widths = [16, 8]\nlatent = 4\nepochs = 120\n"),
        ("gan", "latent = 4\ngenerator = [8, 16]\ndiscriminator = [16, 8]\nepochs = 60\n"),
        ("ddpm", "widths = [16, 8]\nsteps = 20\nepochs = 250\n"),
    ] {
        std::fs::write(herd.path("c.toml"), text).unwrap();
        let (config, pheno) = (herd.path("c.toml"), herd.path("traits.tsv"));
        let more = ["--config", &config, "--pheno", &pheno, "--condition", "milk"];
        let whole = format!("{kind}-whole.h5");
        herd.make(kind, &whole, 1, &more);
        let (store, out) = (herd.path("cows.h5"), herd.path(&format!("{kind}.h5")));
        let arguments = [&["train", kind, &store, "--out", &out, "--quiet"], &more[..]].concat();
        let mut command = genialearn(1);
        command.args(&arguments);
        let checkpoint = herd.path(&format!("{kind}.checkpoint"));
        support::interrupt(command, Path::new(&checkpoint), libc::SIGTERM);
        assert!(!Path::new(&out).exists());
        let refused = |more: &[&str]| herd.fails(&[&arguments, more].concat());
        assert!(refused(&[]).contains("no checkpoint of an earlier run"));
        assert!(refused(&["--resume", "--seed", "9"]).contains("another --seed"));
        std::fs::write(&config, text.replace("epochs", "batch = 33\nepochs")).unwrap();
        assert!(refused(&["--resume"]).contains(&format!("another {kind}")));
        std::fs::write(&config, text).unwrap();
        succeeds(1, &[&arguments[..], &["--resume"]].concat());
        for ending in ["h5", "curve.tsv"] {
            let of = |name: &str| herd.bytes(&format!("{name}.{ending}"));
            assert!(of(kind) == of(&format!("{kind}-whole")), "{kind} {ending}");
        }
        assert!(!Path::new(&checkpoint).exists());
    }
    let (store, out) = (herd.path("cows.h5"), herd.path("mosaic.h5"));
    let told = herd.fails(&["train", "mosaic", &store, "--out", &out, "--resume"]);
    assert!(told.contains("a kind whose training is kept, found mosaic"), "{told}");
}

#[test]
fn what_cannot_be_generated_is_told_in_a_sentence() {
    let herd = Herd::new();
    herd.make("markov", "m.h5", 1, &[]);
    let whole = herd.bytes("m.h5");
    std::fs::write(herd.path("half.h5"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(herd.path("bad.toml"), "smothing = 1.0\n").unwrap();
    std::fs::write(herd.path("worse.toml"), "smoothing = -1.0\n").unwrap();
    std::fs::write(herd.path("c.tsv"), "id\tmilk\na\t1\n").unwrap();
    for (args, told) in [
        (&["generate", "half.h5", "--animals", "3"][..], "half.h5: expected a model of a generator"),
        (&["generate", "cows.h5", "--animals", "3"], "found genialearn-genotypes"),
        (&["generate", "none.h5", "--animals", "3"], "none.h5"),
        (&["generate", "m.h5", "--animals", "0"], "--animals: expected a positive number"),
        (&["generate", "m.h5", "--animals", "3", "--start", "0"], "--start: expected a number from 1 on"),
        (&["generate", "m.h5", "--condition", "c.tsv"], "--condition: expected a generator with conditions"),
        (&["generate", "m.h5"], "--animals"),
        (&["predict", "m.h5", "cows.h5"], "expected a model file, found genialearn-generator"),
        (&["train", "markov", "cows.h5", "--config", "bad.toml"], "did you mean `smoothing`?"),
        (&["train", "markov", "cows.h5", "--config", "worse.toml"], "a positive `smoothing`"),
        (
            &["train", "mosaic", "cows.h5", "--pheno", "traits.tsv", "--condition", "milk"],
            "--condition: expected a kind with conditions, which mosaic is not",
        ),
        (&["train", "mosaick", "cows.h5"], "mosaic"),
    ] {
        let before = support::listing(herd.dir.path());
        let said = herd.fails(&[args, &["--out", "new.h5"]].concat());
        assert!(said.contains(told), "{args:?}: {said}");
        assert_eq!(support::listing(herd.dir.path()), before, "{args:?}");
    }
    let said = herd.fails(&["generate", "m.h5", "--animals", "3", "--out", "cows.h5"]);
    assert!(said.contains("expected a new file"), "{said}");
}
