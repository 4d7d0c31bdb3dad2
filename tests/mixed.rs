//! Mixed models against other programs, on any number of ranks, and from file to prediction.

mod support;

use genialearn::comm::World;
use genialearn::genotype::{Store, StoreWriter};
use genialearn::grm::{explicit, GenotypeMatrix, Scaling};
use genialearn::linalg::pcg::Params;
use genialearn::mixed::gblup::{fit_by_conjugate_gradient, fit_group, fit_groups, join};
use genialearn::mixed::plan::{Dense, Solver};
use genialearn::mixed::{Estimate, Group, Outcome};
use genialearn::predict::gblup::snp_effects;
use genialearn::predict::{GblupModel, Inputs, Predictor};
use genialearn::records::Phenotypes;
use genialearn::records::{Columns, Sources};
use ndarray::{Array2, Axis};
use std::path::Path;
use support::succeeds;

/// The numbers of a text table without its first `columns` columns and, when it has one, its header.
fn numbers(path: &Path, header: usize, columns: usize) -> Array2<f64> {
    let text = std::fs::read_to_string(path).unwrap();
    let rows: Vec<Vec<f64>> = text
        .lines()
        .skip(header)
        .map(|l| l.split('\t').skip(columns).map(|c| c.parse().unwrap_or(f64::NAN)).collect())
        .collect();
    Array2::from_shape_vec((rows.len(), rows[0].len()), rows.concat()).unwrap()
}

fn dense(markers: &GenotypeMatrix) -> Array2<f64> {
    explicit::grm(markers).unwrap().expect("on the root")
}

fn markers(store: &Store, scaling: Scaling) -> GenotypeMatrix {
    GenotypeMatrix::load(&World::alone(), genialearn::device::open("cpu").unwrap(), store, scaling).unwrap()
}

/// GEMMA 0.98.5 (`tests/data/gemma/make.py` made the herd and the numbers).
#[test]
fn reml_agrees_with_gemma() {
    let data = Path::new("tests/data/gemma");
    let g = numbers(&data.join("kinship.tsv"), 0, 0);
    let y = numbers(&data.join("phenotypes.tsv"), 0, 0);
    let covariates = numbers(&data.join("covariates.tsv"), 0, 0);
    let expected = numbers(&data.join("expected.tsv"), 1, 1);
    for t in 0..2 {
        let animals: Vec<usize> = (0..y.nrows()).filter(|&i| !y[[i, t]].is_nan()).collect();
        let records = y.select(Axis(0), &animals).select(Axis(1), &[t]);
        let group = Group::new(animals.clone(), records, covariates.select(Axis(0), &animals), None);
        let e = fit_group(g.view(), &group, None, Solver::Eigen).unwrap().estimates[0].clone();
        let want = expected.row(t);
        assert_eq!((e.n as f64, e.outcome), (want[0], Outcome::Converged));
        assert!((e.var_g / want[1] - 1.0).abs() < 1e-4 && (e.var_e / want[2] - 1.0).abs() < 1e-4, "{e:?}");
        assert!((e.h2 - want[1] / (want[1] + want[2])).abs() < 1e-5);
        // GEMMA counts the constant, and leaves out log|X'X|.
        let nu = group.degrees_of_freedom() as f64;
        let log = e.log_likelihood + 0.5 * group.log_design() - 0.5 * nu * (2.0 * std::f64::consts::PI).ln();
        assert!((log - want[4]).abs() < 1e-2, "log-likelihood {log}, GEMMA {}", want[4]);
    }
}

/// Breeding values of GEMMA 0.98.5 with the mean as the only fixed effect, at GEMMA's own variances and at ours.
#[test]
fn breeding_values_agree_with_gemma() {
    let data = Path::new("tests/data/gemma");
    let g = numbers(&data.join("kinship.tsv"), 0, 0);
    let y = numbers(&data.join("phenotypes.tsv"), 0, 0);
    let gemma = numbers(&data.join("ebv.tsv"), 1, 0);
    for t in 0..2 {
        let animals: Vec<usize> = (0..y.nrows()).filter(|&i| !y[[i, t]].is_nan()).collect();
        let n = animals.len() as f64;
        let records = y.select(Axis(0), &animals).select(Axis(1), &[t]);
        let group = Group::new(animals.clone(), records, Array2::ones((animals.len(), 1)), None);
        // GEMMA centres G over the recorded animals, and counts as genetic its average diagonal times var_g.
        let inner = g.select(Axis(0), &animals).select(Axis(1), &animals);
        let diagonal = inner.diag().sum() / n - inner.sum() / (n * n);
        let ratio = gemma[[0, t]] / (1.0 - gemma[[0, t]]) / diagonal;
        let given = [genialearn::mixed::reml::Given { h2: ratio / (1.0 + ratio), total: None }];
        let want = gemma.column(t).slice(ndarray::s![1..]).select(Axis(0), &animals);
        assert!(gemma.column(t).iter().skip(1).zip(y.column(t)).all(|(u, y)| u.is_nan() == y.is_nan()));
        for (given, solver, tolerance) in [
            (Some(&given[..]), Solver::Cholesky, 1e-5),
            (Some(&given[..]), Solver::Eigen, 1e-5),
            (None, Solver::Eigen, 1e-4),
        ] {
            let fit = fit_group(g.view(), &group, given, solver).unwrap();
            let ebv = fit.ebv.column(0).select(Axis(0), &animals);
            let ebv = &ebv - ebv.mean().unwrap();
            let r = ebv.dot(&want) / (ebv.dot(&ebv) * want.dot(&want)).sqrt();
            let worst = (&ebv - &want).iter().fold(0f64, |m, d| m.max(d.abs())) / want.std(0.0);
            println!(
                "trait {t}, {}: r = 1 - {:.1e}, worst {worst:.1e} of a deviation",
                solver.name(),
                1.0 - r
            );
            assert!(r > 0.999999 && worst < tolerance, "trait {t}, {}: {worst}", solver.name());
        }
    }
}

/// GCTA 1.94.1 on its own GRM, whose diagonal is that of Yang et al. (2011): the restricted likelihood
/// and everything that follows from it does not mind.
#[test]
fn reml_agrees_with_gcta() {
    for set in ["wheat599", "mice_hs1940"] {
        let Some(bed) = support::shared(&format!("data/{set}/{set}.bed")) else { continue };
        let reference = support::shared(&format!("reference/gcta/reml.{set}.tsv")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("a.h5");
        succeeds(1, &["import", bed.to_str().unwrap(), "--out", out.to_str().unwrap()]);
        let store = Store::open(&out).unwrap();
        let text = std::fs::read_to_string(&reference).unwrap();
        let names: Vec<String> = text.lines().skip(1).map(|l| l.split('\t').next().unwrap().into()).collect();
        let phenotypes = bed.with_file_name("pheno.tsv");
        let sources =
            Sources { phenotypes: Columns { path: phenotypes, names: names.clone() }, ..Sources::default() };
        let records = Phenotypes::read(&World::alone(), &store.animals().id, &sources).unwrap();
        let g = dense(&markers(&store, Scaling::VanRaden2));
        let (traits, groups): (Vec<_>, Vec<_>) = Group::of(&records).into_iter().unzip();
        let groups: Vec<&Group> = groups.iter().collect();
        let fits =
            fit_groups(&World::alone(), Some(g), &groups, None, &Dense::one_by_one(Solver::Eigen)).unwrap();
        let estimates = join(&traits, fits).estimates;
        for (e, want) in estimates.iter().zip(numbers(&reference, 1, 1).rows()) {
            compare_with_gcta(e, want.to_slice().unwrap(), set);
        }
    }
}

fn compare_with_gcta(e: &Estimate, want: &[f64], set: &str) {
    println!(
        "{set}: h2 {:.6} GCTA {:.6}, se {:.6} {:.6}, logL {:.3} {:.3}",
        e.h2, want[5], e.h2_se, want[6], e.log_likelihood, want[7]
    );
    assert_eq!(e.n as f64, want[0]);
    assert!((e.h2 - want[5]).abs() < 1e-4, "{set}: h2 {} GCTA {}", e.h2, want[5]);
    assert!((e.h2_se / want[6] - 1.0).abs() < 1e-3);
    assert!((e.log_likelihood - want[7]).abs() < 0.01, "{set}: logL {} GCTA {}", e.log_likelihood, want[7]);
}

/// A herd with gaps in records and calls, two SNP chunks, covariates and weights.
struct Herd {
    dir: tempfile::TempDir,
}

impl Herd {
    fn new() -> Herd {
        let dir = tempfile::tempdir().unwrap();
        let herd = Herd { dir };
        let (store, pheno) = (herd.path("s.h5"), herd.path("p.tsv"));
        succeeds(
            1,
            &[
                "simulate",
                "--animals",
                "90",
                "--snps",
                "400",
                "--traits",
                "4",
                "--out",
                &store,
                "--pheno",
                &pheno,
                "-q",
            ],
        );
        let text = std::fs::read_to_string(&pheno).unwrap();
        let ids = text.lines().skip(1).map(|l| l.split('\t').next().unwrap()).enumerate();
        let (mut covar, mut weights) = ("id\tsex\tage\n".to_string(), "id\tw\n".to_string());
        for (i, id) in ids {
            covar += &format!("{id}\t{}\t{}\n", ["m", "f"][i % 2], 1 + i % 4);
            weights += &format!("{id}\t{}\n", 0.5 + (i % 3) as f64);
        }
        std::fs::write(herd.path("c.tsv"), covar).unwrap();
        std::fs::write(herd.path("w.tsv"), weights).unwrap();
        herd
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn records(&self, store: &Store) -> Phenotypes {
        let sources = Sources {
            phenotypes: Columns { path: self.path("p.tsv").into(), names: Vec::new() },
            covariates: Some(format!("{}:sex", self.path("c.tsv")).parse().unwrap()),
            weights: Some(self.path("w.tsv").into()),
            ..Sources::default()
        };
        Phenotypes::read(&World::alone(), &store.animals().id, &sources).unwrap()
    }
}

/// 4 ranks: more than SNP chunks, so that two ranks own none.
#[test]
fn results_are_the_same_bytes_on_any_number_of_ranks() {
    let herd = Herd::new();
    let (store, pheno) = (herd.path("s.h5"), herd.path("p.tsv"));
    let covar = format!("{}:sex", herd.path("c.tsv"));
    let qcovar = format!("{}:age", herd.path("c.tsv"));
    let weights = herd.path("w.tsv");
    for ranks in [1, 2, 3, 4] {
        let (auto, pcg) = (herd.path(&format!("auto{ranks}")), herd.path(&format!("pcg{ranks}")));
        let records =
            ["--pheno", &pheno, "--covar", &covar, "--qcovar", &qcovar, "--weights", &weights, "-q"];
        let with = |command: &str, more: &[&str]| {
            let args = [&[command, &store][..], &records, more].concat();
            succeeds(ranks, &args);
        };
        with("gblup", &["--out", &auto, "--reliability", "--loo"]);
        let sampled = ["--reliability", "sampled", "--draws", "20"];
        with("gblup", &[&["--out", &pcg, "--h2", "0.4", "--solver", "pcg"], &sampled[..]].concat());
        with("reml", &["--out", &herd.path(&format!("reml{ranks}"))]);
        let model = format!("{auto}.model.h5");
        succeeds(ranks, &["predict", &model, &store, "--out", &auto, "-q"]);
        for name in [
            "auto{}.ebv.tsv",
            "auto{}.fixed.tsv",
            "auto{}.variances.tsv",
            "auto{}.predictions.tsv",
            "auto{}.reliability.tsv",
            "auto{}.loo.tsv",
            "pcg{}.ebv.tsv",
            "pcg{}.reliability.tsv",
            "pcg{}.variances.tsv",
            "reml{}.variances.tsv",
        ] {
            let at = |ranks: usize| herd.read(&name.replace("{}", &ranks.to_string()));
            assert_eq!(at(1), at(ranks), "{name} on {ranks} ranks");
        }
    }
    assert_eq!(herd.read("auto1.variances.tsv"), herd.read("reml1.variances.tsv"));
    the_same_from_a_file_of_relationships(&herd);
    assert!(!herd.read("auto1.ebv.tsv").contains("NA"), "every animal has breeding values");
    let (ebv, predictions) = (herd.path("auto1.ebv.tsv"), herd.path("auto1.predictions.tsv"));
    let (ebv, predictions) = (numbers(Path::new(&ebv), 1, 1), numbers(Path::new(&predictions), 1, 1));
    assert!(ebv.iter().zip(&predictions).all(|(a, b)| (a - b).abs() <= 1e-7 * a.abs().max(1e-6)));
}

fn the_same_from_a_file_of_relationships(herd: &Herd) {
    let (store, pheno, g, out) = (herd.path("s.h5"), herd.path("p.tsv"), herd.path("g.h5"), herd.path("grm"));
    succeeds(2, &["grm", &store, "--out", &g, "-q"]);
    let weights = herd.path("w.tsv");
    let covar = [format!("{}:sex", herd.path("c.tsv")), format!("{}:age", herd.path("c.tsv"))];
    let given = ["--weights", &weights, "--covar", &covar[0], "--qcovar", &covar[1]];
    let args = ["gblup", &store, "--pheno", &pheno, "--grm", &g, "--out", &out, "-q"];
    succeeds(2, &[&args[..], &given].concat());
    for name in ["ebv.tsv", "variances.tsv"] {
        assert_eq!(herd.read(&format!("grm.{name}")), herd.read(&format!("auto1.{name}")));
    }
}

#[test]
fn dominance_has_snp_effects_and_epistasis_has_none() {
    let herd = Herd::new();
    let (store, pheno) = (herd.path("s.h5"), herd.path("p.tsv"));
    for method in ["dominance", "epistasis"] {
        let (g, out, model) =
            (herd.path("g.h5"), herd.path(method), herd.path(&format!("{method}.model.h5")));
        succeeds(2, &["grm", &store, "--method", method, "--out", &g, "-q", "--force"]);
        assert!(succeeds(1, &["info", &g]).contains(method));
        let given = ["--grm", &g, "--h2", "0.2", "--out", &out, "-q"];
        succeeds(2, &[&["gblup", &store, "--pheno", &pheno][..], &given].concat());
        assert_eq!(Path::new(&model).exists(), method == "dominance");
        if method == "dominance" {
            assert!(succeeds(1, &["info", &model]).contains("gblup-dominance"));
            succeeds(2, &["predict", &model, &store, "--out", &out, "-q"]);
            let read = |name: &str| numbers(Path::new(&herd.path(name)), 1, 1);
            let (ebv, predicted) = (read("dominance.ebv.tsv"), read("dominance.predictions.tsv"));
            assert!(ebv.iter().zip(&predicted).all(|(a, b)| (a - b).abs() <= 1e-5 * a.abs().max(1e-4)));
        }
    }
}

#[test]
fn the_three_solvers_agree_on_packed_genotypes() {
    let herd = Herd::new();
    let store = Store::open(Path::new(&herd.path("s.h5"))).unwrap();
    let records = herd.records(&store);
    let markers = markers(&store, Scaling::VanRaden1);
    let g = dense(&markers);
    let (_, groups): (Vec<_>, Vec<_>) = Group::of(&records).into_iter().unzip();
    let groups: Vec<&Group> = groups.iter().collect();
    let given: Vec<_> = groups
        .iter()
        .map(|g| {
            (0..g.traits())
                .map(|t| genialearn::mixed::reml::Given { h2: 0.2 + 0.1 * t as f64, total: None })
                .collect::<Vec<_>>()
        })
        .collect();
    let pcg = fit_by_conjugate_gradient(&markers, &groups, &given, Params::default()).unwrap();
    for solver in [Solver::Cholesky, Solver::Eigen] {
        let fits =
            fit_groups(&World::alone(), Some(g.clone()), &groups, Some(&given), &Dense::one_by_one(solver))
                .unwrap();
        for (a, b) in fits.iter().zip(&pcg) {
            let spread = a.ebv.std(0.0);
            assert!((&a.ebv - &b.ebv).iter().all(|d| d.abs() < 1e-8 * spread), "{solver:?}");
            assert!(a
                .estimates
                .iter()
                .zip(&b.estimates)
                .all(|(a, b)| (a.var_g / b.var_g - 1.0).abs() < 1e-8));
        }
    }
}

#[test]
fn a_model_file_predicts_the_training_animals_whichever_allele_is_counted() {
    let herd = Herd::new();
    let store = Store::open(Path::new(&herd.path("s.h5"))).unwrap();
    let records = herd.records(&store);
    for scaling in [Scaling::VanRaden1, Scaling::Dominance] {
        predicts_its_training_animals(&herd, &store, &records, scaling);
    }
}

fn predicts_its_training_animals(herd: &Herd, store: &Store, records: &Phenotypes, scaling: Scaling) {
    let z = markers(store, scaling);
    let (traits, groups): (Vec<_>, Vec<_>) = Group::of(records).into_iter().unzip();
    let groups: Vec<&Group> = groups.iter().collect();
    let fits = fit_groups(&World::alone(), Some(dense(&z)), &groups, None, &Dense::one_by_one(Solver::Eigen))
        .unwrap();
    let fit = join(&traits, fits);
    let fixed = (&records.effects[..], &fit.fixed);
    let model = GblupModel::gather(&z, store.variants(), &records.traits, fixed, &snp_effects(&z, &fit));
    let path = herd.dir.path().join(format!("{}.model.h5", scaling.name()));
    model.write(&path, false).unwrap();
    let again = genialearn::predict::load(&World::alone(), &path).unwrap();
    let backend = || genialearn::device::open("cpu").unwrap();
    let predicted = again.predict(&World::alone(), backend(), Inputs::genotypes(store)).unwrap();
    let scale = fit.ebv.iter().fold(0f64, |m, x| m.max(x.abs()));
    let worst = (&predicted - &fit.ebv).iter().fold(0f64, |m, d| m.max(d.abs()));
    // a missing call counts as the mean of 32 bits in G, and of 53 bits in M
    assert!(worst < 1e-10 * scale, "û = M α̂, {scaling:?}: {worst:e} of {scale:e}");

    // The same animals with the SNPs in reverse order and every other allele counted instead.
    let turned = turned(store, &herd.dir.path().join("turned.h5"));
    let predicted = model.predict(&World::alone(), backend(), Inputs::genotypes(&turned)).unwrap();
    assert!((&predicted - &fit.ebv).iter().all(|d| d.abs() < 1e-10 * scale), "turned alleles, {scaling:?}");
}

/// A store of the same calls told differently.
fn turned(store: &Store, path: &Path) -> Store {
    let (n, m) = (store.n_animals(), store.n_variants());
    let all = store.read(0..n, 0..m).unwrap();
    let order: Vec<usize> = (0..m).rev().collect();
    let mut codes = all.select(&(0..n).collect::<Vec<_>>(), &order);
    let mut variants = store.variants().select(&order);
    for j in (0..m).step_by(2) {
        for i in 0..n {
            let code = codes.get(i, j);
            codes.set(i, j, if code == genialearn::packed::MISSING { code } else { 2 - code });
        }
        std::mem::swap(&mut variants.counted_allele[j], &mut variants.other_allele[j]);
    }
    let mut writer = StoreWriter::create(path, n, m, true).unwrap();
    writer.write_rows(0, &codes).unwrap();
    writer.finish(store.animals(), &variants).unwrap();
    Store::open(path).unwrap()
}
