//! Simulated herds: the same on any number of ranks, like the published panel, true to their own truth.

mod support;

use genialearn::genotype::Store;
use genialearn::packed::{Packed, MISSING};
use genialearn::stats;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A table with a header, by column name.
struct Table {
    columns: HashMap<String, Vec<String>>,
}

impl Table {
    fn read(path: &Path) -> Table {
        let text = std::fs::read_to_string(path).unwrap();
        let mut lines = text.lines().map(|l| l.split('\t').collect::<Vec<_>>());
        let header = lines.next().unwrap();
        let mut columns: HashMap<String, Vec<String>> = HashMap::new();
        for line in lines {
            assert_eq!(line.len(), header.len());
            for (name, cell) in header.iter().zip(line) {
                columns.entry(name.to_string()).or_default().push(cell.to_string());
            }
        }
        Table { columns }
    }

    fn texts(&self, name: &str) -> &[String] {
        &self.columns[name]
    }

    /// Numbers, NaN for NA.
    fn numbers(&self, name: &str) -> Vec<f64> {
        self.texts(name).iter().map(|t| t.parse().unwrap_or(f64::NAN)).collect()
    }
}

struct Herd {
    folder: tempfile::TempDir,
}

impl Herd {
    /// Simulates on `ranks` ranks with `config` as the TOML file.
    fn new(ranks: usize, size: [&str; 3], config: &str) -> Herd {
        let folder = tempfile::tempdir().unwrap();
        let toml = folder.path().join("sim.toml");
        std::fs::write(&toml, config).unwrap();
        let herd = Herd { folder };
        let (out, pheno) = (herd.path("cows.h5"), herd.path("traits.tsv"));
        let paths = [&toml, &out, &pheno].map(|p| p.to_str().unwrap());
        let [animals, snps, traits] = size;
        support::succeeds(
            ranks,
            &[
                "simulate",
                "--animals",
                animals,
                "--snps",
                snps,
                "--traits",
                traits,
                "--config",
                paths[0],
                "--out",
                paths[1],
                "--pheno",
                paths[2],
            ],
        );
        herd
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn table(&self, name: &str) -> Table {
        Table::read(&self.path(name))
    }

    fn store(&self) -> Store {
        Store::open(&self.path("cows.h5")).unwrap()
    }

    fn calls(&self, snps: std::ops::Range<usize>) -> Packed {
        let store = self.store();
        store.read(0..store.n_animals(), snps).unwrap()
    }
}

/// Centred counts of one SNP, missing calls at the mean; and the frequency.
fn centred(calls: &Packed, j: usize) -> (Vec<f32>, f64) {
    let codes: Vec<u8> = (0..calls.rows()).map(|i| calls.get(i, j)).collect();
    let called = codes.iter().filter(|&&c| c != MISSING).count();
    let p = codes.iter().filter(|&&c| c != MISSING).map(|&c| f64::from(c)).sum::<f64>() / 2.0 / called as f64;
    let x = codes.iter().map(|&c| if c == MISSING { 0.0 } else { f32::from(c) - 2.0 * p as f32 }).collect();
    (x, p)
}

#[test]
fn a_herd_has_the_same_bytes_on_any_number_of_ranks() {
    // 3 panels of 1,024 SNPs, the last a short one; 4 ranks leave one without work.
    let files = ["cows.h5", "traits.tsv", "cows.truth.tsv", "cows.qtl.tsv", "cows.parameters.tsv"];
    let herds: Vec<Herd> = (1..=4).map(|ranks| Herd::new(ranks, ["130", "2101", "9"], "qtl = 300")).collect();
    for (ranks, herd) in herds.iter().enumerate() {
        for file in files {
            let (one, here) =
                (std::fs::read(herds[0].path(file)).unwrap(), std::fs::read(herd.path(file)).unwrap());
            assert!(one == here, "{file} differs on {} ranks", ranks + 1);
        }
    }
    let other = Herd::new(1, ["130", "2101", "9"], "qtl = 300\nmissing_calls = 0.2");
    assert_ne!(other.calls(0..2101), herds[0].calls(0..2101));
    let missing: u64 = other.calls(0..2101).tally_columns().iter().map(|t| t[3]).sum();
    let share = missing as f64 / (130.0 * 2101.0);
    assert!((share - 0.2).abs() < 0.01, "{share} of the calls are missing");
}

#[test]
fn tiny_herds_work_with_more_ranks_than_panels() {
    for (size, ranks) in [(["1", "1", "1"], 1), (["2", "3", "33"], 3), (["5", "30", "33"], 2)] {
        let herd = Herd::new(ranks, size, "");
        assert_eq!(herd.store().n_animals().to_string(), size[0]);
        assert_eq!(herd.store().n_variants().to_string(), size[1]);
    }
}

/// Distance classes in kilobases and the mean r² of Holstein chromosome 1 there (docs/simulation.md).
const DECAY: [(f64, f64, f64); 9] = [
    (0.2, 2.0, 0.65),
    (18.0, 22.0, 0.35),
    (23.0, 27.0, 0.30),
    (42.0, 48.0, 0.25),
    (54.0, 60.0, 0.20),
    (95.0, 105.0, 0.17),
    (140.0, 160.0, 0.13),
    (230.0, 270.0, 0.10),
    (950.0, 1050.0, 0.07),
];

/// Mean r² by distance class over the SNPs `0..m` of a store with minor-allele frequency above 0.05.
fn decay(store: &Store, calls: &Packed) -> Vec<f64> {
    let v = store.variants();
    let mut sums = vec![(0.0, 0usize); DECAY.len()];
    let snps: Vec<(usize, Vec<f32>)> = (0..calls.columns())
        .filter_map(|j| {
            let (mut x, p) = centred(calls, j);
            let norm = x.iter().map(|x| x * x).sum::<f32>().sqrt();
            x.iter_mut().for_each(|x| *x /= norm);
            (p.min(1.0 - p) > 0.05).then_some((j, x))
        })
        .collect();
    for (a, (j, x)) in snps.iter().enumerate() {
        for (k, y) in &snps[a + 1..] {
            let kb = (v.position[*k] as f64 - v.position[*j] as f64) / 1000.0;
            if v.chromosome[*k] != v.chromosome[*j] || kb > 1050.0 {
                break;
            }
            if let Some(class) = DECAY.iter().position(|d| (d.0..=d.1).contains(&kb)) {
                let r = x
                    .chunks(64)
                    .zip(y.chunks(64))
                    .map(|(x, y)| x.iter().zip(y).map(|(x, y)| x * y).sum::<f32>());
                sums[class].0 += f64::from(r.sum::<f32>()).powi(2);
                sums[class].1 += 1;
            }
        }
    }
    sums.iter().map(|(sum, count)| sum / *count as f64).collect()
}

#[test]
fn frequencies_and_linkage_disequilibrium_are_near_the_published_ones() {
    let herd = Herd::new(1, ["2000", "50161", "1"], "");
    let store = herd.store();
    let minor: Vec<f64> = store.variants().frequency.iter().map(|p| p.min(1.0 - p)).collect();
    let limits = [0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.51];
    let published = [1939, 984, 2564, 4593, 4572, 4874, 4984, 4975, 5125, 5062, 5175, 5314];
    println!("share of SNPs by minor-allele frequency: published, here");
    for (range, count) in limits.windows(2).zip(published) {
        let here = minor.iter().filter(|&&f| range[0] <= f && f < range[1]).count() as f64 / 50_161.0;
        let want = f64::from(count) / 50_161.0;
        println!("{:.2}-{:.2} {want:.4} {here:.4}", range[0], range[1]);
        assert!((here - want).abs() < 0.01, "share {range:?}");
    }
    let heterozygosity: f64 = minor.iter().map(|p| 2.0 * p * (1.0 - p)).sum();
    println!("mean {:.4} (0.2525), sum of 2pq {heterozygosity:.0} (16,774)", stats::mean(&minor));
    assert!((heterozygosity / 16_774.0 - 1.0).abs() < 0.02);

    println!("mean r2 by distance: kb, published, here");
    for (class, here) in DECAY.iter().zip(decay(&store, &herd.calls(0..8190))) {
        println!("{:.0}-{:.0} {:.2} {here:.3}", class.0, class.1, class.2);
        assert!((here / class.2).ln().abs() < 0.2, "r2 at {class:?} is {here}");
    }
}

#[test]
fn pedigree_and_genotypes_agree() {
    let herd = Herd::new(1, ["1500", "1200", "1"], "missing_calls = 0.01");
    let store = herd.store();
    let a = store.animals();
    let calls = herd.calls(0..1200);
    let row: HashMap<&str, usize> = a.id.iter().enumerate().map(|(i, id)| (id.as_str(), i)).collect();
    assert_eq!(row.len(), 1500, "names are unique");
    assert!(a.sex.iter().all(|&s| s == 2));
    assert_eq!(a.group, a.sire);
    let (mut pairs, mut conflicts) = (0, 0);
    for i in 0..a.len() {
        let Some(&dam) = row.get(a.dam[i].as_str()) else { continue };
        assert!(a.birth_date[dam] < a.birth_date[i]);
        pairs += 1;
        conflicts +=
            (0..1200).filter(|&j| matches!((calls.get(i, j), calls.get(dam, j)), (0, 2) | (2, 0))).count();
    }
    assert!(pairs > 300, "{pairs} pairs of dam and daughter");
    assert_eq!(conflicts, 0);
    let strangers =
        (0..1200).filter(|&j| matches!((calls.get(0, j), calls.get(700, j)), (0, 2) | (2, 0))).count();
    assert!(strangers > 20, "unrelated animals do conflict: {strangers}");
    let mut daughters: HashMap<&str, usize> = HashMap::new();
    a.sire.iter().for_each(|s| *daughters.entry(s).or_default() += 1);
    assert!(daughters.len() < 60 && *daughters.values().max().unwrap() > 80, "{} sires", daughters.len());
}

#[test]
fn genetic_values_are_the_sums_of_the_written_effects() {
    let herd = Herd::new(2, ["400", "1500", "20"], "missing_calls = 0.0\nqtl = 200");
    let store = herd.store();
    let calls = herd.calls(0..1500);
    let column: HashMap<&str, usize> =
        store.variants().id.iter().enumerate().map(|(j, id)| (id.as_str(), j)).collect();
    let (qtl, truth) = (herd.table("cows.qtl.tsv"), herd.table("cows.truth.tsv"));
    let doses = |snp: &str| {
        let (x, p) = centred(&calls, column[snp]);
        (x.into_iter().map(f64::from).collect::<Vec<_>>(), p)
    };
    // An additive trait with genes of large effect, one with dominance, one with pairs.
    for (name, additive_only) in [("fat_content", true), ("chest_width", false), ("teat_length", false)] {
        let mut additive = vec![0.0; 400];
        let mut other = vec![0.0; 400];
        let (a, d, w) = (qtl.numbers("additive"), qtl.numbers("dominance"), qtl.numbers("pair"));
        for line in (0..a.len()).filter(|&l| qtl.texts("trait")[l] == name) {
            let (x, p) = doses(&qtl.texts("snp")[line]);
            let deviation = [-2.0 * p * p, 2.0 * p * (1.0 - p), -2.0 * (1.0 - p) * (1.0 - p)];
            for i in 0..400 {
                additive[i] += a[line] * x[i];
                other[i] += d[line] * deviation[(x[i] + 2.0 * p).round() as usize];
            }
            if w[line] != 0.0 {
                let (y, _) = doses(&qtl.texts("partner")[line]);
                (0..400).for_each(|i| other[i] += w[line] * x[i] * y[i]);
            }
        }
        let told = truth.numbers(&format!("{name}.additive"));
        let worst = additive.iter().zip(&told).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-3 * stats::variance(&told).sqrt(), "{name}: {worst}");
        let rest: Vec<f64> = truth.numbers(name).iter().zip(&told).map(|(t, a)| t - a).collect();
        if additive_only {
            assert!(rest.iter().all(|d| d.abs() < 1e-6), "{name} is additive");
            continue;
        }
        // The non-additive part is what the effects give, less its regression on the additive part.
        let slope = stats::slope(&told, &other);
        other.iter_mut().zip(&told).for_each(|(o, a)| *o -= slope * a);
        assert!(stats::pearson(&other, &rest) > 0.999_99, "{name}: {}", stats::pearson(&other, &rest));
        assert!(stats::pearson(&rest, &told).abs() < 1e-3);
    }
}

#[test]
fn traits_have_the_asked_variances_correlations_and_records() {
    let herd = Herd::new(2, ["4000", "3000", "33"], "");
    let n = 4000.0_f64;
    let (p, truth, pheno) =
        (herd.table("cows.parameters.tsv"), herd.table("cows.truth.tsv"), herd.table("traits.tsv"));
    let names = p.texts("trait");
    assert_eq!(names.len(), 33);
    let additive = |name: &str| truth.numbers(&format!("{name}.additive"));
    let (h2, share) = (p.numbers("h2"), p.numbers("non_additive"));
    let mut others = 0;
    for (k, name) in names.iter().enumerate() {
        others += usize::from(share[k] > 0.0);
        if ["mastitis", "lameness"].contains(&name.as_str()) {
            continue; // measured on the liability scale
        }
        let (a, g) = (additive(name), truth.numbers(name));
        let variance = p.numbers("var_phenotype")[k];
        let tolerance = 4.0 * (2.0 / n).sqrt() + 0.01;
        let (found_a, found_g) = (stats::variance(&a) / variance, stats::variance(&g) / variance);
        assert!((found_a / h2[k] - 1.0).abs() < tolerance, "{name}: h2 {found_a}");
        assert!((found_g / (h2[k] + share[k]) - 1.0).abs() < tolerance, "{name}: H2 {found_g}");
    }
    assert!((10..=12).contains(&others), "{others} traits are not only additive");
    for (a, b, low, high) in [
        ("mastitis", "somatic_cells", 0.5, 0.9),
        ("mastitis", "milk", 0.23, 0.33),
        ("conception", "milk", -0.65, -0.55),
        ("fat_content", "milk", -0.6, -0.3),
    ] {
        let r = stats::pearson(&additive(a), &additive(b));
        assert!((low..high).contains(&r), "genetic correlation of {a} and {b}: {r}");
    }
    records(&herd, &pheno);
    let classes = pheno.numbers("lameness");
    assert!(classes.iter().all(|c| c.is_nan() || [0.0, 1.0, 2.0].contains(c)));
    let sick = classes.iter().filter(|&&c| c == 2.0).count() as f64
        / classes.iter().filter(|c| !c.is_nan()).count() as f64;
    assert!((sick - 0.08).abs() < 0.03, "{sick} are in the upper class");
}

fn records(herd: &Herd, pheno: &Table) {
    assert!(pheno.numbers("milk").iter().all(|y| y.is_finite()));
    let stature = pheno.numbers("stature");
    let share = stature.iter().filter(|y| y.is_finite()).count() as f64 / stature.len() as f64;
    assert!((share - 0.7).abs() < 0.03, "{share} have a type record");
    let udder = pheno.numbers("udder_depth");
    assert!(stature.iter().zip(&udder).all(|(a, b)| a.is_nan() == b.is_nan()), "one group, one record");
    let store = herd.store();
    let dates = &store.animals().birth_date;
    let share_of = |from: &str, until: &str| {
        let of: Vec<bool> = (0..dates.len())
            .filter(|&i| (from..until).contains(&dates[i].as_str()))
            .map(|i| stature[i].is_finite())
            .collect();
        of.iter().filter(|&&r| r).count() as f64 / of.len() as f64
    };
    let (old, young) = (share_of("2010", "2014"), share_of("2017", "2020"));
    assert!(young > old + 0.1, "records by birth year: {old} early, {young} late");
}

#[test]
fn one_gene_makes_a_tenth_of_the_variance_of_fat_content_and_opposite_effects_on_yields() {
    let herd = Herd::new(1, ["3000", "5000", "12"], "");
    let (qtl, p) = (herd.table("cows.qtl.tsv"), herd.table("cows.parameters.tsv"));
    let store = herd.store();
    let effect = |name: &str| {
        let line = (0..qtl.texts("trait").len())
            .find(|&l| qtl.texts("trait")[l] == name && qtl.texts("kind")[l] == "DGAT1")
            .unwrap();
        let snp = store.variants().id.iter().position(|id| id == &qtl.texts("snp")[line]).unwrap();
        assert_eq!(store.variants().chromosome[snp], "14");
        let f = store.variants().frequency[snp];
        let k = p.texts("trait").iter().position(|t| t == name).unwrap();
        let a = qtl.numbers("additive")[line];
        (a, 2.0 * f * (1.0 - f) * a * a / p.numbers("var_phenotype")[k])
    };
    let (fat_content, share) = effect("fat_content");
    assert!(share > 0.10, "{share} of the variance");
    assert!(
        fat_content > 0.0 && effect("fat").0 > 0.0 && effect("milk").0 < 0.0 && effect("protein").0 < 0.0
    );
}

#[test]
fn wrong_requests_are_refused_with_a_reason_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("typo.toml"), "animals = 10\n[pedigree]\nsire = 3\n").unwrap();
    std::fs::write(path("h2.toml"), "[[trait]]\nname = \"a\"\ngroup = \"g\"\nh2 = 1.2\n").unwrap();
    let (typo, h2, absent) = (path("typo.toml"), path("h2.toml"), path("absent.toml"));
    let cases: [(&[&str], &str); 6] = [
        (&["--config", &typo], "did you mean `sires`?"),
        (&["--config", &h2], "trait a: h2: expected a number from 0 to 1, found 1.2"),
        (&["--config", &absent], "expected a file, found nothing there"),
        (&["--animals", "0"], "animals: expected at least 1, found 0"),
        (&["--traits", "34"], "traits: expected at most 33, found 34"),
        (&["--snps", "many"], "invalid value 'many'"),
    ];
    for (args, reason) in cases {
        let mut command = support::genialearn(1);
        command.arg("simulate").args(args).args(["--out", &path("c.h5"), "--pheno", &path("t.tsv")]);
        let out = support::run_alone(command);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{text}");
        assert!(text.contains(reason), "{text}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing but the two files above");
}

#[test]
fn existing_files_are_refused_without_force() {
    let herd = Herd::new(1, ["20", "100", "2"], "");
    let before = std::fs::read(herd.path("traits.tsv")).unwrap();
    let (out, pheno) = (herd.path("other.h5"), herd.path("traits.tsv"));
    let again = |more: &[&str]| {
        let mut command = support::genialearn(1);
        command.args(["simulate", "--animals", "30", "--snps", "100", "--out"]).arg(&out);
        command.arg("--pheno").arg(&pheno).args(more);
        support::run_alone(command).status.code()
    };
    assert_eq!(again(&[]), Some(2));
    assert_eq!(std::fs::read(&pheno).unwrap(), before);
    assert!(!out.exists());
    assert_eq!(again(&["--force"]), Some(0));
    assert_ne!(std::fs::read(&pheno).unwrap(), before);
}
