//! Several random effects and pairs of traits against other programs, and from files to tables on any number of ranks.

mod support;

use genialearn::comm::World;
use genialearn::genotype::Store;
use genialearn::grm::{explicit, Flavour, Markers};
use genialearn::mixed::reml::{bivariate, components};
use genialearn::mixed::{Group, Outcome};
use genialearn::records::Phenotypes;
use genialearn::records::{Columns, Sources};
use ndarray::{Array2, Axis};
use std::path::Path;
use support::{genialearn, run_alone, shared, succeeds};

/// The numbers of a text table without a header and columns of names.
fn numbers(path: &Path, header: usize, columns: usize) -> Array2<f64> {
    let text = std::fs::read_to_string(path).unwrap();
    let row = |l: &str| -> Vec<f64> {
        l.split('\t').skip(columns).map(|c| c.parse().unwrap_or(f64::NAN)).collect()
    };
    let rows: Vec<Vec<f64>> = text.lines().skip(header).map(row).collect();
    Array2::from_shape_vec((rows.len(), rows[0].len()), rows.concat()).unwrap()
}

/// GEMMA 0.98.5, both traits at once on the animals that have both (`tests/data/gemma/make.py`).
#[test]
fn a_pair_of_traits_agrees_with_gemma() {
    let data = Path::new("tests/data/gemma");
    let g = numbers(&data.join("kinship.tsv"), 0, 0);
    let y = numbers(&data.join("phenotypes.tsv"), 0, 0);
    let covariates = numbers(&data.join("covariates.tsv"), 0, 0);
    let want = numbers(&data.join("pair.tsv"), 1, 0).row(0).to_vec();
    let animals: Vec<usize> = (0..y.nrows()).filter(|&i| y.row(i).iter().all(|y| !y.is_nan())).collect();
    let design = covariates.select(Axis(0), &animals);
    let group = Group::new(animals.clone(), y.select(Axis(0), &animals), design, None);
    let pairs = [((0, 0), (0, 1))];
    let pair = bivariate::estimate(&World::alone(), Some(g), &[&group], &pairs).unwrap().remove(0);
    println!("{pair:?}\nGEMMA {want:?}");
    assert_eq!(pair.outcome, Outcome::Converged);
    for (c, want) in [(&pair.genetic, &want[0..3]), (&pair.residual, &want[6..9])] {
        for (x, want) in [c.variances[0], c.covariance, c.variances[1]].iter().zip(want) {
            assert!((x - want).abs() < 2e-3 * want.abs().max(1.0), "{x} GEMMA {want}");
        }
    }
    // GEMMA counts the constant, and leaves out log|X'X| of each trait.
    let constant = group.log_design() - group.freedom() as f64 * (2.0 * std::f64::consts::PI).ln();
    assert!((pair.log_likelihood + constant - want[12]).abs() < 1e-2, "{}", pair.log_likelihood + constant);
}

/// One effect by average information against GCTA 1.94.1, which does the same on its own matrix; and near the h² of
/// an eigenvalue REML within the training folds (VanRaden 1).
#[test]
fn one_effect_agrees_with_gcta_and_with_a_gblup_program() {
    let Some(bed) = shared("data/wheat599/wheat599.bed") else { return };
    let gcta = shared("reference/gcta/reml.wheat599.tsv").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.h5");
    succeeds(1, &["import", bed.to_str().unwrap(), "--out", path.to_str().unwrap(), "-q"]);
    let store = Store::open(&path).unwrap();
    let text = std::fs::read_to_string(&gcta).unwrap();
    let names: Vec<String> = text.lines().skip(1).map(|l| l.split('\t').next().unwrap().into()).collect();
    let phenotypes = Columns { path: bed.with_file_name("pheno.tsv"), names: names.clone() };
    let sources = Sources { phenotypes, ..Sources::default() };
    let records = Phenotypes::read(&World::alone(), &store.animals().id, &sources).unwrap();
    let (traits, groups): (Vec<_>, Vec<_>) = Group::of(&records).into_iter().unzip();
    assert_eq!(traits, [(0..names.len()).collect::<Vec<_>>()], "all lines have all records");
    let fit = |flavour: Flavour| {
        let backend = genialearn::device::open("cpu").unwrap();
        let g = explicit::grm(&Markers::load(&World::alone(), backend, &store, flavour).unwrap()).unwrap();
        components::estimate(&World::alone(), vec![g], &[&groups[0]]).unwrap().remove(0)
    };
    for (found, want) in fit(Flavour::VanRaden2).iter().zip(numbers(&gcta, 1, 1).rows()) {
        let (g, e) = (&found.components[0], &found.components[1]);
        let ours = [g.variance, g.variance_se, e.variance, e.variance_se, g.proportion, g.proportion_se];
        println!("{ours:?} {} GCTA {want}", found.sum.log_likelihood);
        for (x, want) in ours.iter().zip(want.iter().skip(1)) {
            assert!((x - want).abs() < 1e-4, "{x} GCTA {want}");
        }
        assert!((found.sum.log_likelihood - want[7]).abs() < 1e-3);
    }
    let other = shared("reference/gblup_cv/base_wheat.tsv").unwrap();
    let text = std::fs::read_to_string(&other).unwrap();
    for (name, found) in names.iter().zip(fit(Flavour::VanRaden1)) {
        let line = text.lines().find(|l| l.split('\t').next() == Some(name)).unwrap();
        let want: f64 = line.split('\t').nth(2).unwrap().parse().unwrap();
        assert!((found.sum.h2 - want).abs() < 0.02, "{name}: {} in folds {want}", found.sum.h2);
    }
}

struct Herd {
    dir: tempfile::TempDir,
}

impl Herd {
    fn new() -> Herd {
        let herd = Herd { dir: tempfile::tempdir().unwrap() };
        let (store, pheno) = (herd.path("s.h5"), herd.path("p.tsv"));
        let size = ["--animals", "90", "--snps", "400", "--traits", "3"];
        succeeds(1, &[&["simulate"], &size[..], &["--out", &store, "--pheno", &pheno, "-q"]].concat());
        // Gaps of one trait, so that its pairs are recorded on different animals.
        let text = std::fs::read_to_string(&pheno).unwrap();
        let gap = |(i, line): (usize, &str)| match line.rsplit_once('\t') {
            Some((rest, _)) if i % 7 == 3 => format!("{rest}\tNA\n"),
            _ => format!("{line}\n"),
        };
        std::fs::write(&pheno, text.lines().enumerate().map(gap).collect::<String>()).unwrap();
        herd
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }
}

/// 4 ranks: more than SNP chunks.
#[test]
fn components_and_correlations_are_the_same_bytes_on_any_number_of_ranks() {
    let herd = Herd::new();
    let (store, pheno) = (herd.path("s.h5"), herd.path("p.tsv"));
    for ranks in [1, 2, 3, 4] {
        let (effects, pairs) = (herd.path(&format!("effects{ranks}")), herd.path(&format!("pairs{ranks}")));
        let common = ["reml", &store, "--pheno", &pheno, "-q"];
        let with = |more: &[&str]| succeeds(ranks, &[&common[..], more].concat());
        with(&["--effects", "additive,dominance,epistasis", "--out", &effects]);
        with(&["--bivariate", "--out", &pairs]);
        for name in ["effects{}.components.tsv", "effects{}.variances.tsv", "pairs{}.gencorr.tsv"] {
            let at = |ranks: usize| herd.read(&name.replace("{}", &ranks.to_string()));
            assert_eq!(at(1), at(ranks), "{name} on {ranks} ranks");
        }
    }
    let components = herd.read("effects1.components.tsv");
    assert_eq!(components.lines().count(), 1 + 3 * 4, "{components}");
    for line in components.lines().skip(1) {
        let words: Vec<&str> = line.split('\t').collect();
        let proportion: f64 = words[4].parse().unwrap();
        assert!((0.0..=1.0).contains(&proportion) && words[8] != "no", "{line}");
        assert_eq!(words[8] == "boundary", words[3] == "NA", "{line}");
    }
    assert_eq!(herd.read("pairs1.gencorr.tsv").lines().count(), 1 + 3);
    the_same_from_files(&herd);
}

fn the_same_from_files(herd: &Herd) {
    let (store, pheno) = (herd.path("s.h5"), herd.path("p.tsv"));
    let mut args: Vec<String> = ["reml", &store, "--pheno", &pheno, "-q"].map(String::from).to_vec();
    for (name, method) in [("additive", "vanraden1"), ("dominance", "dominance"), ("epistasis", "epistasis")]
    {
        let path = herd.path(&format!("{name}.h5"));
        succeeds(1, &["grm", &store, "--method", method, "--out", &path, "-q"]);
        args.extend(["--grm".into(), path]);
    }
    args.extend(["--out".into(), herd.path("files")]);
    succeeds(2, &args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(herd.read("files.components.tsv"), herd.read("effects1.components.tsv"));
    let (additive, dominance) = (herd.path("additive.h5"), herd.path("dominance.h5"));
    for (args, told) in [
        (&["reml", "--grm", &additive, "--grm", &dominance, "--bivariate"][..], "one random effect"),
        (&["reml", "--grm", &additive, "--grm", &dominance, "--method", "he"], "auto or ai"),
        (&["reml", "--pairs", "milk"], "two of the traits"),
        (&["reml", "--effects", "sire"], "additive, vanraden1, vanraden2, yang, dominance"),
        (&["reml", "--effects", "additive", "--grm", &additive], "cannot be used with"),
    ] {
        let mut command = genialearn(1);
        command.args(args).args([&store, "--pheno", &pheno, "--out", &herd.path("bad")]);
        let out = run_alone(command);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.code() == Some(2) && text.contains(told), "{args:?}: {text}");
    }
}
