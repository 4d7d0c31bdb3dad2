//! Several random effects and pairs of traits against other programs, and from files to tables on any number of ranks.

mod support;

use genialearn::comm::World;
use genialearn::genotype::Store;
use genialearn::grm::{explicit, GenotypeMatrix, Scaling};
use genialearn::mixed::model::{Model, RandomEffect};
use genialearn::mixed::reml::components::Components;
use genialearn::mixed::reml::{bivariate, components};
use genialearn::mixed::{Group, Outcome};
use genialearn::records::Phenotypes;
use genialearn::records::{Classes, Columns, Factor, LongRecords, Sources};
use genialearn::rng::{Purpose, Stream};
use ndarray::{Array1, Array2, Axis};
use std::collections::BTreeSet;
use std::io::Read;
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
    let constant = group.log_design() - group.degrees_of_freedom() as f64 * (2.0 * std::f64::consts::PI).ln();
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
    let fit = |scaling: Scaling| {
        let backend = genialearn::device::open("cpu").unwrap();
        let g =
            explicit::grm(&GenotypeMatrix::load(&World::alone(), backend, &store, scaling).unwrap()).unwrap();
        components::estimate(&World::alone(), vec![g], &[&groups[0]]).unwrap().remove(0)
    };
    for (found, want) in fit(Scaling::VanRaden2).iter().zip(numbers(&gcta, 1, 1).rows()) {
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
    for (name, found) in names.iter().zip(fit(Scaling::VanRaden1)) {
        let line = text.lines().find(|l| l.split('\t').next() == Some(name)).unwrap();
        let want: f64 = line.split('\t').nth(2).unwrap().parse().unwrap();
        assert!((found.sum.h2 - want).abs() < 0.02, "{name}: {} in folds {want}", found.sum.h2);
    }
}

/// The records of a table in long format with some random classes; the animals are those of the table.
fn long_records(sources: &Sources, random: &[&str]) -> (Vec<String>, LongRecords) {
    let text = std::fs::read_to_string(&sources.phenotypes.path).unwrap();
    let mut ids: Vec<String> = text.lines().skip(1).map(|l| l.split('\t').next().unwrap().into()).collect();
    ids.sort();
    ids.dedup();
    let random = random.iter().map(|c| c.parse().unwrap()).collect();
    let classes = Classes { random, absorbed: None };
    let long = LongRecords::read(&World::alone(), &ids, sources, &classes).unwrap();
    (ids, long)
}

/// Estimates and solutions of one trait with every record in one group.
fn fit_alone(
    long: &LongRecords,
    model: &Model,
    n: usize,
) -> (Components, genialearn::mixed::model::Solutions) {
    let (traits, groups): (Vec<_>, Vec<_>) = Group::of_lines(long).into_iter().unzip();
    let refs: Vec<&Group> = groups.iter().collect();
    let found = components::estimate_model(&World::alone(), model, &refs).unwrap().remove(0).remove(0);
    let variances = vec![vec![found.components.iter().map(|c| c.variance).collect()]];
    let solved = model.solve(&World::alone(), (&traits, &refs), &variances, n).unwrap();
    (found, solved)
}

/// lme4 1.1-31: two classes, plain and with weights (`tests/data/lme4/make.R`).
#[test]
fn classes_alone_agree_with_lme4() {
    let path = Path::new("tests/data/lme4/records.tsv").to_owned();
    let of = |name: &str| Columns { path: path.clone(), names: vec![name.into()] };
    let want = numbers(Path::new("tests/data/lme4/expected.tsv"), 1, 1);
    for (weighted, want) in [false, true].into_iter().zip(want.rows()) {
        let sources = Sources {
            phenotypes: of("y"),
            covariates: Some(of("parity")),
            quantitative: Some(of("age")),
            ..Sources::default()
        };
        let (ids, mut long) = long_records(&sources, &["herd_year"]);
        if weighted {
            let (_, w) = long_records(&Sources { phenotypes: of("w"), ..Sources::default() }, &[]);
            assert_eq!(w.animal, long.animal);
            long.records.weights = Some(w.records.y);
        }
        let cows = RandomEffect::of_class(long.animals_as_class("id", &ids));
        let effects = vec![RandomEffect::of_class(long.classes[0].clone()), cows];
        let model = Model::new(&World::alone(), Vec::new(), effects);
        let (found, solved) = fit_alone(&long, &model, ids.len());
        // lme4 counts the constant.
        let nu = Group::of_lines(&long)[0].1.degrees_of_freedom() as f64;
        let shift = -0.5 * nu * (2.0 * std::f64::consts::PI).ln();
        let variances: Vec<f64> = found.components.iter().map(|c| c.variance).collect();
        let ours =
            [&variances[..], &[found.sum.log_likelihood + shift], &solved.fixed.column(0).to_vec()].concat();
        println!("{ours:?} lme4 {want}");
        for (k, (x, want)) in ours.iter().zip(want).enumerate() {
            assert!((x - want).abs() < 2e-5 * want.abs().max(1.0), "{k}: {x} lme4 {want}");
        }
        for (k, values) in solved.random.iter().enumerate() {
            assert!((values[[0, 0]] - want[8 + k]).abs() < 1e-4, "{} lme4 {}", values[[0, 0]], want[8 + k]);
        }
    }
}

/// GEMMA 0.98.5 by the same algorithm with two matrices, one of them a class (`tests/data/gemma/vc.py`).
#[test]
fn relationships_and_a_class_agree_with_gemma() {
    let data = Path::new("tests/data/gemma");
    let (g, covariates) =
        (numbers(&data.join("kinship.tsv"), 0, 0), numbers(&data.join("covariates.tsv"), 0, 0));
    let n = g.nrows();
    let text = std::fs::read_to_string(data.join("vc_records.tsv")).unwrap();
    let lines: Vec<(&str, f64)> = text
        .lines()
        .skip(1)
        .map(|l| l.split_once('\t').map(|(p, y)| (p, y.parse().unwrap())).unwrap())
        .collect();
    let y = Array2::from_shape_fn((n, 1), |(i, _)| lines[i].1);
    let pens = Factor::new("pen", lines.iter().map(|l| l.0));
    let group = Group::new((0..n).collect(), y, covariates, None);
    let effects = vec![RandomEffect::of_animals("additive", 0), RandomEffect::of_class(pens.clone())];
    let model = Model::new(&World::alone(), vec![Some(g.clone())], effects);
    let found = components::estimate_model(&World::alone(), &model, &[&group]).unwrap().remove(0).remove(0);
    for (c, want) in found.components.iter().zip(numbers(&data.join("vc.tsv"), 1, 1).rows()) {
        println!("{} {} GEMMA {want}", c.variance, c.variance_se);
        assert!((c.variance / want[0] - 1.0).abs() < 2e-3, "{} GEMMA {}", c.variance, want[0]);
        assert!((c.variance_se / want[1] - 1.0).abs() < 1e-2);
    }
}

/// Plots of SoyNAM: environments, and strains with several plots each. The classes alone against lme4
/// (`tests/data/lme4/soynam.R`); then additive effects, also within environments, from the same strains' SNPs.
#[test]
fn plots_of_soynam_have_environments_and_repeated_records() {
    let Some(bed) = shared("data/soynam5590/soynam5590.bed") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut text = String::new();
    let plots = std::fs::File::open(bed.with_file_name("soynam_plots.tsv.gz")).unwrap();
    flate2::read::MultiGzDecoder::new(plots).read_to_string(&mut text).unwrap();
    let field = |line: &str, k: usize| line.split('\t').nth(k).unwrap().to_owned();
    let strains: BTreeSet<String> = text.lines().skip(1).map(|l| field(l, 3)).collect();
    let some: BTreeSet<&String> = strains.iter().step_by(50).collect();
    let (id, environ, yield_) = (3, 2, 12);
    let rows = text.lines().filter(|l| field(l, id) == "strain" || some.contains(&field(l, id)));
    let row = |l: &str| format!("{}\t{}\t{}\n", field(l, id), field(l, environ), field(l, yield_));
    let path = dir.path().join("plots.tsv");
    std::fs::write(&path, rows.map(row).collect::<String>().replacen("strain", "id", 1)).unwrap();
    let sources = Sources {
        phenotypes: Columns { path: path.clone(), names: vec!["yield".into()] },
        ..Sources::default()
    };
    let (ids, long) = long_records(&sources, &["environ"]);
    let classes = |long: &LongRecords, ids: &[String]| {
        let mut strain = RandomEffect::of_class(long.animals_as_class("strain", ids));
        strain.permanent = true;
        vec![RandomEffect::of_class(long.classes[0].clone()), strain]
    };
    let model = Model::new(&World::alone(), Vec::new(), classes(&long, &ids));
    let (found, solved) = fit_alone(&long, &model, ids.len());
    let want = numbers(Path::new("tests/data/lme4/soynam.tsv"), 1, 0);
    let (nu, classes_alone) = ((found.sum.n - 1) as f64, found.sum.log_likelihood);
    let loglik = found.sum.log_likelihood - 0.5 * nu * (2.0 * std::f64::consts::PI).ln();
    let variances: Vec<f64> = found.components.iter().map(|c| c.variance).collect();
    let ours = [&[found.sum.n as f64], &variances[..], &[loglik, solved.fixed[[0, 0]]]].concat();
    println!("{ours:?} lme4 {want}");
    assert!(ours.iter().zip(&want).all(|(x, want)| (x - want).abs() < 1e-5 * want.abs()), "{ours:?} {want}");

    let store_path = dir.path().join("s.h5");
    succeeds(1, &["import", bed.to_str().unwrap(), "--out", store_path.to_str().unwrap(), "-q"]);
    let store = Store::open(&store_path).unwrap();
    let random = Classes { random: vec!["environ".parse().unwrap()], absorbed: None };
    let animals = &store.animals().id;
    let long = LongRecords::read(&World::alone(), animals, &sources, &random).unwrap();
    // Relationships of these strains alone: G of 5,590 is not needed.
    let used: Vec<usize> = long.animal.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let ids: Vec<String> = used.iter().map(|&a| animals[a].clone()).collect();
    let m = store.n_variants();
    let packed = store.read(0..store.n_animals(), 0..m).unwrap().select(&used, &(0..m).collect::<Vec<_>>());
    let backend = genialearn::device::open("cpu").unwrap();
    let z = GenotypeMatrix::from_packed(&World::alone(), backend, packed, 0, m, Scaling::VanRaden1).unwrap();
    let g = explicit::grm(&z).unwrap().unwrap();
    let inbred = g.diag().mean().unwrap();
    let long =
        LongRecords { animal: long.animal.iter().map(|a| used.binary_search(a).unwrap()).collect(), ..long };
    let mut within = RandomEffect::of_animals("additive*environ", 0);
    within.class = Some(long.classes[0].clone());
    let mut effects = classes(&long, &ids);
    effects.extend([RandomEffect::of_animals("additive", 0), within]);
    let model = Model::new(&World::alone(), vec![Some(g)], effects);
    let (found, _) = fit_alone(&long, &model, ids.len());
    let c = &found.components;
    println!("{c:#?}");
    // Strains' variance of the classes alone comes apart in additive and other effects of the strains.
    let of_strains = c[1].variance + c[2].variance * inbred;
    assert!((of_strains / want[[0, 2]] - 1.0).abs() < 0.5, "{of_strains} lme4 {}", want[[0, 2]]);
    assert!(c[2].variance > 2.0 * c[2].variance_se, "yield is heritable");
    assert!(c[3].proportion < 0.05, "strains rank alike in all environments");
    assert!(found.sum.log_likelihood > classes_alone, "more effects explain more");
    assert!(found.repeatability.unwrap()[0] < 1.0 - c[4].proportion);
}

/// Herd-years, permanent environments and additive effects of 600 records of 300 cows, 20 times anew.
#[test]
fn simulated_herd_years_and_permanent_environments_are_recovered() {
    const COWS: usize = 300;
    const TRUTH: [f64; 4] = [0.35, 0.15, 0.25, 0.25]; // additive, herd-year, permanent environment, residual
    let mut s = Stream::new(91, Purpose::Test, 0);
    let parents = Array2::from_shape_simple_fn((20, 400), || s.below(2) as f64);
    let mut z = Array2::from_shape_fn((COWS, 400), |(i, j)| parents[[i % 20, j]] + s.below(2) as f64);
    for mut column in z.columns_mut() {
        let mean = column.mean().unwrap();
        column -= mean;
    }
    let scale = z.iter().map(|x| x * x).sum::<f64>() / COWS as f64;
    let g = z.dot(&z.t()) / scale;
    let ids: Vec<String> = (0..COWS).map(|i| format!("cow{i:03}")).collect();
    let animal: Vec<usize> = (0..2 * COWS).map(|i| if i < COWS { i } else { s.below(COWS) }).collect();
    let levels: Vec<String> = animal.iter().map(|_| format!("hy{}", s.below(40))).collect();
    let herd_year = Factor::new("herd_year", levels.iter().map(String::as_str));
    let mut draw = |_: usize| {
        let mut normals =
            |n: usize, k: usize| Array1::from_shape_simple_fn(n, || s.normal()) * TRUTH[k].sqrt();
        let a = z.dot(&normals(400, 0)) / scale.sqrt();
        let (h, pe, e) = (normals(40, 1), normals(COWS, 2), normals(2 * COWS, 3));
        let record = |i: usize| 30.0 + a[animal[i]] + h[herd_year.level[i]] + pe[animal[i]] + e[i];
        (0..2 * COWS).map(record).collect::<Array1<f64>>()
    };
    let draws: Vec<Array1<f64>> = (0..20).map(&mut draw).collect();
    let records = Phenotypes {
        traits: (0..20).map(|k| format!("milk{k}")).collect(),
        y: Array2::from_shape_fn((2 * COWS, 20), |(i, k)| draws[k][i]),
        effects: vec!["intercept".into()],
        design: Array2::ones((2 * COWS, 1)),
        ..Phenotypes::default()
    };
    let long = LongRecords { records, animal, classes: vec![herd_year.clone()], absorbed: None };
    let mut permanent = RandomEffect::of_class(long.animals_as_class("permanent_environment", &ids));
    permanent.permanent = true;
    let effects = vec![RandomEffect::of_animals("additive", 0), RandomEffect::of_class(herd_year), permanent];
    let model = Model::new(&World::alone(), vec![Some(g)], effects);
    let groups = Group::of_lines(&long);
    let found = components::estimate_model(&World::alone(), &model, &[&groups[0].1]).unwrap().remove(0);
    let of =
        |fit: &Components| fit.components.iter().zip(TRUTH).map(|(c, truth)| c.variance - truth).collect();
    let off: Vec<Vec<f64>> = found.iter().map(of).collect();
    for k in 0..4 {
        let mean = off.iter().map(|o| o[k]).sum::<f64>() / 20.0;
        let sd = (off.iter().map(|o| (o[k] - mean).powi(2)).sum::<f64>() / 19.0).sqrt();
        println!("effect {k}: {:.3} off by {mean:.4} (s.e. {:.4})", TRUTH[k], sd / 20f64.sqrt());
        assert!(mean.abs() < 3.0 * sd / 20f64.sqrt(), "effect {k}: off by {mean} (sd {sd})");
        assert!(sd < 0.12, "effect {k}: sd {sd}");
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
