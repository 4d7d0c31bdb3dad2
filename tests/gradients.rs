//! Conjugate gradients as users run them: any number of ranks, either precision, interrupted and resumed.

mod support;

use std::path::Path;
use support::{run_alone, succeeds};

const RESULTS: [&str; 4] = ["ebv.tsv", "variances.tsv", "fixed.tsv", "model.h5"];

/// A herd whose traits have gaps, six SNP chunks.
struct Herd(tempfile::TempDir);

impl Herd {
    fn new() -> Herd {
        let herd = Herd(tempfile::tempdir().unwrap());
        let size = ["--animals", "700", "--snps", "1500", "--traits", "12"];
        succeeds(
            1,
            &[&["simulate", "-q", "--out", &herd.path("s.h5"), "--pheno", &herd.path("p.tsv")], &size[..]]
                .concat(),
        );
        herd
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// The arguments of a run with the results `name`.
    fn arguments(&self, name: &str, more: &[&str]) -> Vec<String> {
        let fixed = ["gblup", &self.path("s.h5"), "--pheno", &self.path("p.tsv"), "--solver", "pcg"];
        let out = ["-q", "--out", &self.path(name)];
        [&fixed[..], &out, more].concat().into_iter().map(str::to_owned).collect()
    }

    fn run(&self, ranks: usize, name: &str, more: &[&str]) {
        let arguments = self.arguments(name, more);
        succeeds(ranks, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// Exit code and standard error of a run that fails.
    fn fails(&self, ranks: usize, name: &str, more: &[&str]) -> (Option<i32>, String) {
        let mut command = support::genialearn(ranks);
        command.args(self.arguments(name, more));
        let out = run_alone(command);
        assert!(!out.status.success());
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    }

    fn same(&self, a: &str, b: &str) {
        for result in RESULTS {
            let read = |name: &str| std::fs::read(self.path(&format!("{name}.{result}"))).unwrap();
            assert!(read(a) == read(b), "{a}.{result} and {b}.{result}");
        }
    }

    /// Breeding values of a run, animal by animal.
    fn ebv(&self, name: &str) -> Vec<Vec<f64>> {
        let text = std::fs::read_to_string(self.path(&format!("{name}.ebv.tsv"))).unwrap();
        text.lines().skip(1).map(|l| l.split('\t').skip(1).map(|c| c.parse().unwrap()).collect()).collect()
    }

    /// Largest difference of breeding values as a share of the trait's largest one.
    fn difference(&self, a: &str, b: &str) -> f64 {
        let (a, b) = (self.ebv(a), self.ebv(b));
        let traits = a[0].len();
        (0..traits)
            .map(|t| {
                let largest = a.iter().fold(0f64, |m, row| m.max(row[t].abs()));
                a.iter().zip(&b).fold(0f64, |m, (a, b)| m.max((a[t] - b[t]).abs())) / largest
            })
            .fold(0.0, f64::max)
    }
}

#[test]
fn every_precision_and_preconditioner_gives_what_cholesky_gives_on_any_number_of_ranks() {
    let herd = Herd::new();
    let exact = ["gblup", &herd.path("s.h5"), "--pheno", &herd.path("p.tsv"), "--h2", "0.4", "-q"];
    let solver = ["--solver", "cholesky", "--out", &herd.path("exact")];
    succeeds(1, &[&exact[..], &solver].concat());
    for (name, precision) in [("f32_", "f32"), ("f64_", "f64")] {
        for ranks in [1, 2, 3, 4] {
            let name = format!("{name}{ranks}");
            herd.run(ranks, &name, &["--h2", "0.4", "--precision", precision]);
        }
        (2..5).for_each(|ranks| herd.same(&format!("{name}1"), &format!("{name}{ranks}")));
        let difference = herd.difference("exact", &format!("{name}1"));
        assert!(difference < 1e-6, "{precision}: {difference}");
    }
    herd.run(1, "plain", &["--h2", "0.4", "--preconditioner", "0"]);
    assert!(herd.difference("exact", "plain") < 1e-6);
    let iterations = |name: &str| {
        let record = std::fs::read(herd.path(&format!("{name}.run.json"))).unwrap();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        record["solver"]["info"]["iterations"].as_u64().unwrap()
    };
    let (with, without) = (iterations("f32_1"), iterations("plain"));
    assert!(4 * with < 3 * without, "{with} iterations with a preconditioner, {without} without");
}

/// 1 and 3 ranks, and on another number of ranks than before; each trait alone, and all in one model.
#[test]
fn a_run_that_stopped_goes_on_to_the_same_bytes() {
    let herd = Herd::new();
    let alone = (&["--h2", "0.6"][..], &[(1, 1), (3, 3), (1, 3), (3, 1)][..]);
    let joint = (&["--joint", "--rank", "3"][..], &[(1, 3), (3, 1)][..]);
    for (options, ranks) in [alone, joint] {
        let whole = format!("whole{}", options.len());
        herd.run(1, &whole, options);
        for (before, after) in ranks {
            let name = format!("part{before}{after}{}", options.len());
            let (code, told) = herd.fails(*before, &name, &[options, &["--max-iterations", "5"]].concat());
            assert_eq!(code, Some(1), "{told}");
            let checkpoint = herd.path(&format!("{name}.checkpoint"));
            assert!(Path::new(&checkpoint).exists());
            herd.run(*after, &name, &[options, &["--resume"]].concat());
            herd.same(&whole, &name);
            assert!(!Path::new(&checkpoint).exists(), "a checkpoint is removed at success");
        }
    }
}

#[test]
fn as_many_factors_as_traits_give_the_joint_model_and_more_are_refused() {
    let herd = Herd::new();
    let three = ["--joint", "--traits", "milk,fat,protein"];
    herd.run(1, "all", &three);
    herd.run(2, "whole", &[&three[..], &["--rank", "3", "--preconditioner", "0"]].concat());
    herd.run(1, "one", &[&three[..], &["--rank", "1"]].concat());
    assert!(herd.difference("all", "whole") < 1e-6 && herd.difference("all", "one") > 1e-3);
    let (code, told) = herd.fails(2, "four", &[&three[..], &["--rank", "4"]].concat());
    assert!(code == Some(2) && told.contains("1 to 3, the number of traits"), "{told}");
}

#[test]
fn checkpoints_of_other_runs_are_refused_and_not_overwritten() {
    let herd = Herd::new();
    let (code, _) = herd.fails(1, "a", &["--h2", "0.6", "--max-iterations", "3"]);
    assert_eq!(code, Some(1));
    for (more, expected) in [
        (&["--h2", "0.5", "--resume"][..], "another heritability"),
        (&["--h2", "0.6", "--resume", "--precision", "f64"], "another --precision"),
        (&["--h2", "0.6", "--resume", "--traits", "milk,fat"], "another choice of traits"),
        (&["--joint", "--resume"], "another choice of covariances"),
        (&["--h2", "0.6"], "--resume"),
    ] {
        let (code, told) = herd.fails(2, "a", more);
        assert!(code == Some(2) && told.contains(expected), "{told}");
    }
    let (code, told) = herd.fails(1, "b", &["--h2", "0.6", "--resume"]);
    assert!(code == Some(2) && told.contains("nothing there"), "{told}");
    herd.run(1, "a", &["--h2", "0.6", "--force"]);
}

#[test]
fn a_run_that_is_asked_to_stop_keeps_its_state_first() {
    let herd = Herd::new();
    let options = ["--h2", "0.9999", "--preconditioner", "0", "--precision", "f64"];
    herd.run(1, "whole", &options);
    for (name, which) in [("term", libc::SIGTERM), ("int", libc::SIGINT)] {
        let checkpoint = herd.path(&format!("{name}.checkpoint"));
        let mut command = support::genialearn(1);
        command.args(herd.arguments(name, &[&options[..], &["--checkpoint-every", "0"]].concat()));
        support::interrupt(command, Path::new(&checkpoint), which);
        herd.run(1, name, &[&options[..], &["--resume"]].concat());
        herd.same("whole", name);
    }
    let left = support::listing(herd.0.path());
    assert!(left.iter().all(|f| !f.ends_with(".tmp") && !f.ends_with(".checkpoint")), "{left:?}");
}
