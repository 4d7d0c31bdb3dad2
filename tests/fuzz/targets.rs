//! Small whole files of every kind that the program reads, and a command that reads each.

use crate::support::succeeds;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tempfile::TempDir;

type Answer = BTreeMap<String, Vec<u8>>;

/// What a run with exit code 0 must have given.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Anything: the damage may be a change that means something.
    Any,
    /// `out/o.h5`, a whole store.
    Store,
    /// What the undamaged files give: they carry checksums.
    Same,
}

/// A command and the files that are damaged under it.
pub struct Target {
    /// Its name in `FUZZ_CASE`.
    pub name: &'static str,
    /// The files beside it.
    pub files: Vec<&'static str>,
    /// Those of them that are damaged, in turn.
    pub damaged: Vec<&'static str>,
    /// The command; results go to `out/o…`.
    pub args: Vec<&'static str>,
    /// Whether the damage is that of texts.
    pub text: bool,
    /// What exit code 0 promises.
    pub verdict: Verdict,
}

/// Whole files in a folder, and the commands.
pub struct Seeds {
    folder: TempDir,
    /// All targets.
    pub targets: Vec<Target>,
    /// What the targets of [`Verdict::Same`] give on undamaged files.
    pub answers: BTreeMap<&'static str, Answer>,
}

const SIMULATION: &str = "animals = 20\nsnps = 40\ntraits = 2\nqtl = 10\n[founders]\nancestors = 4\n";
const STUDY: &str = "[data]\nstore = \"cows.h5\"\npheno = \"traits.tsv\"\n[[model]]\nname = \"GBLUP\"\nh2 = 0.3\n\
                     [[validation]]\nscheme = \"random\"\nfolds = 2\n[bootstrap]\nreplicates = 20\n[report]\ngenotypes = false\n";
const NETWORK: &str = "[network]\nhidden = [4]\n[training]\nepochs = 2\nbatch = 8\npatience = 2\n";

impl Seeds {
    /// Makes the files by the program itself.
    pub fn make() -> Seeds {
        let folder = tempfile::tempdir().unwrap();
        let mut seeds = Seeds { folder, targets: targets(), answers: BTreeMap::new() };
        seeds.texts();
        seeds.made_by_commands();
        for target in seeds.targets.iter().filter(|t| t.verdict == Verdict::Same) {
            let dir = tempfile::tempdir().unwrap();
            let out = dir.path().join("out");
            std::fs::create_dir(&out).unwrap();
            for name in &target.files {
                std::fs::copy(seeds.path(name), dir.path().join(name)).unwrap();
            }
            let run = crate::start(dir.path(), target);
            assert!(run.status.success(), "{}: {}", target.name, String::from_utf8_lossy(&run.stderr));
            seeds.answers.insert(target.name, crate::results(&out, &run.stdout));
        }
        seeds
    }

    /// A file of the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// What users write by hand.
    fn texts(&self) {
        self.write("herd.toml", SIMULATION);
        self.write("study.toml", STUDY);
        self.write("mlp.toml", NETWORK);
        let bimbam: Vec<String> =
            (0..6).map(|j| format!("s{j}, A, G, 0, 1, {}, 2, NA, 1.02\n", j % 3)).collect();
        self.write("cows.bimbam", &bimbam.concat());
        let tsv: Vec<String> = (0..6).map(|i| format!("cow{i}\t{}\t1\t0\tNA\n", i % 3)).collect();
        self.write("cows.tsv", &format!("id\ts1\ts2\ts3\ts4\n{}", tsv.concat()));
    }

    /// What the program makes.
    fn made_by_commands(&self) {
        let path = |name: &str| self.path(name).to_str().unwrap().to_owned();
        let run = |args: &[&str]| {
            // Names of files are those of the folder.
            let args: Vec<String> =
                args.iter().map(|a| a.strip_prefix('@').map_or_else(|| (*a).to_owned(), path)).collect();
            succeeds(1, &args.iter().map(String::as_str).collect::<Vec<_>>());
        };
        run(&["simulate", "--config", "@herd.toml", "--out", "@cows.h5", "--pheno", "@traits.tsv"]);
        for format in ["bed", "vcf", "raw", "npy"] {
            run(&["export", "@cows.h5", "--format", format, "--out", "@cows"]);
        }
        std::fs::rename(self.path("cows.raw"), self.path("genotypes.raw")).unwrap();
        let store = genialearn::genotype::Store::open(&self.path("cows.h5")).unwrap();
        let lines = |cell: &dyn Fn(usize) -> String| {
            store
                .animals()
                .id
                .iter()
                .enumerate()
                .map(|(i, id)| format!("{id}\t{}\n", cell(i)))
                .collect::<String>()
        };
        self.write(
            "animals.tsv",
            &format!("id\tbirth_date\tsex\n{}", lines(&|i| format!("2020-01-{:02}\tF", i + 1))),
        );
        self.write("covar.tsv", &format!("id\therd\n{}", lines(&|i| format!("h{}", i % 3))));
        self.write("weights.tsv", &format!("id\tw\n{}", lines(&|i| format!("{}", 1 + i % 4))));
        self.write("keep.txt", &store.animals().id[..12].join("\n"));
        run(&["grm", "@cows.h5", "--out", "@g.h5", "--gcta", "@g"]);
        run(&["reml", "@cows.h5", "--pheno", "@traits.tsv", "--out", "@reml"]);
        run(&["gblup", "@cows.h5", "--pheno", "@traits.tsv", "--h2", "0.3", "--out", "@ebv"]);
        run(&[
            "train",
            "mlp",
            "@cows.h5",
            "--pheno",
            "@traits.tsv",
            "--config",
            "@mlp.toml",
            "--out",
            "@mlp.h5",
        ]);
        run(&[
            "train",
            "stacked",
            "@cows.h5",
            "--pheno",
            "@traits.tsv",
            "--set",
            "base=[{h2=0.3},{kind=\"boosting\",rounds=3,min_animals=2}]",
            "--out",
            "@stack.h5",
        ]);
        run(&["train", "mosaic", "@cows.h5", "--out", "@mosaic.h5"]);
    }
}

fn targets() -> Vec<Target> {
    let target = |name, files: &[&'static str], damaged: usize, args: &str, text, verdict| Target {
        name,
        files: files.to_vec(),
        damaged: files[..damaged].to_vec(),
        args: Box::leak(args.to_owned().into_boxed_str()).split(' ').collect(),
        text,
        verdict,
    };
    use Verdict::{Any, Same, Store};
    vec![
        target("bed", &["cows.bed"], 1, "import cows.bed --out out/o.h5", false, Store)
            .with(&["cows.bim", "cows.fam"]),
        target(
            "bim",
            &["cows.bim", "cows.fam", "cows.bed"],
            2,
            "import cows.bed --out out/o.h5",
            true,
            Store,
        ),
        target("vcf", &["cows.vcf"], 1, "import cows.vcf --out out/o.h5", true, Store),
        target("raw", &["genotypes.raw"], 1, "import genotypes.raw --out out/o.h5", true, Store),
        target("tsv", &["cows.tsv"], 1, "import cows.tsv --out out/o.h5", true, Store),
        target("bimbam", &["cows.bimbam"], 1, "import cows.bimbam --out out/o.h5", true, Store),
        target("npy", &["cows.npy"], 1, "import cows.npy --out out/o.h5", false, Store),
        target(
            "lists",
            &["animals.tsv", "keep.txt", "cows.bed", "cows.bim", "cows.fam"],
            2,
            "import cows.bed --animals animals.tsv --keep keep.txt --out out/o.h5",
            true,
            Store,
        ),
        target(
            "records",
            &["traits.tsv", "covar.tsv", "weights.tsv", "cows.h5"],
            3,
            "gblup cows.h5 --pheno traits.tsv --covar covar.tsv --weights weights.tsv --h2 0.3 --out out/o",
            true,
            Any,
        ),
        target(
            "reml",
            &["traits.tsv", "cows.h5"],
            1,
            "reml cows.h5 --pheno traits.tsv --out out/o",
            true,
            Any,
        ),
        target(
            "variances",
            &["reml.variances.tsv", "traits.tsv", "cows.h5"],
            1,
            "gblup cows.h5 --pheno traits.tsv --variances reml.variances.tsv --out out/o",
            true,
            Any,
        ),
        target(
            "simulate",
            &["herd.toml"],
            1,
            "simulate --config herd.toml --out out/o.h5 --pheno out/t.tsv",
            true,
            Store,
        ),
        target(
            "study",
            &["study.toml", "cows.h5", "traits.tsv"],
            1,
            "study study.toml --out out/o",
            true,
            Any,
        ),
        target(
            "training",
            &["mlp.toml", "cows.h5", "traits.tsv"],
            1,
            "train mlp cows.h5 --pheno traits.tsv --config mlp.toml --out out/o.h5",
            true,
            Any,
        ),
        target("store", &["cows.h5"], 1, "export cows.h5 --format vcf --out out/o", false, Same),
        target(
            "model",
            &["ebv.model.h5", "cows.h5"],
            2,
            "predict ebv.model.h5 cows.h5 --out out/o",
            false,
            Same,
        ),
        target("network", &["mlp.h5", "cows.h5"], 1, "predict mlp.h5 cows.h5 --out out/o", false, Same),
        target("ensemble", &["stack.h5", "cows.h5"], 1, "predict stack.h5 cows.h5 --out out/o", false, Same),
        target("generator", &["mosaic.h5"], 1, "generate mosaic.h5 --animals 5 --out out/o.h5", false, Same),
        target(
            "grm",
            &["g.h5", "cows.h5", "traits.tsv"],
            1,
            "gblup cows.h5 --grm g.h5 --pheno traits.tsv --h2 0.3 --out out/o",
            false,
            Same,
        ),
        target("info", &["mlp.h5"], 1, "info mlp.h5", false, Same),
    ]
}

impl Target {
    /// With more files beside.
    fn with(mut self, files: &[&'static str]) -> Target {
        self.files.extend(files);
        self
    }
}
