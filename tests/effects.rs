//! Several random effects, classes and repeated records: from files to tables, on any number of ranks.

mod support;

use std::path::Path;
use support::{genialearn, run_alone, succeeds};

/// A herd of cows with several lactations each, in herd-years.
struct Dairy {
    dir: tempfile::TempDir,
}

/// Numbers of their own for every (i, k), about normal: the sum of twelve uniform ones.
fn noise(i: usize, k: usize) -> f64 {
    let mut state = (i as u64 * 1_000_003 + k as u64 * 7_919 + 12_345) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..20).for_each(|_| _ = next());
    (0..12).map(|_| next()).sum::<f64>() - 6.0
}

/// A cow and her record of the first trait.
fn first_trait(line: &str) -> (&str, f64) {
    let words: Vec<&str> = line.split('\t').collect();
    (words[0], words[words.len() - 2].parse().unwrap())
}

impl Dairy {
    fn new() -> Dairy {
        Dairy::of(110)
    }

    fn of(cows: usize) -> Dairy {
        let cows = cows.to_string();
        let herd = Dairy { dir: tempfile::tempdir().unwrap() };
        let (store, pheno) = (herd.path("cows.h5"), herd.path("first.tsv"));
        let size = ["--animals", &cows, "--snps", "500", "--traits", "2"];
        succeeds(1, &[&["simulate"], &size[..], &["--out", &store, "--pheno", &pheno, "-q"]].concat());
        let text = std::fs::read_to_string(&pheno).unwrap();
        let cows: Vec<(&str, f64)> = text.lines().skip(1).map(first_trait).collect();
        let mean = cows.iter().map(|c| c.1).sum::<f64>() / cows.len() as f64;
        let sd = (cows.iter().map(|c| (c.1 - mean).powi(2)).sum::<f64>() / cows.len() as f64).sqrt();
        let mut out = "id\therd_year\tparity\tage\tsire\tmilk\tfat\n".to_owned();
        for (i, &(cow, value)) in cows.iter().enumerate().filter(|(i, _)| i % 11 != 4) {
            let value = (value - mean) / sd;
            for parity in 1..=1 + i % 3 {
                let (herd_year, k) = ((4 * i + 2 * parity + i / 9) % 9, 10 * i + parity);
                let common = value + 0.8 * noise(i, 1) + 0.6 * noise(herd_year, 2) + 0.3 * parity as f64;
                let (milk, fat) = (common + 0.7 * noise(k, 3), 0.5 * common + 0.4 * noise(k, 4));
                let fat = if k % 7 == 0 { "NA".into() } else { format!("{fat:.5}") };
                let age = 24.0 + 12.0 * parity as f64 + noise(k, 5);
                out += &format!("{cow}\tHY{herd_year}\t{parity}\t{age:.3}\ts{}\t{milk:.5}\t{fat}\n", i % 5);
            }
        }
        std::fs::write(herd.path("long.tsv"), out).unwrap();
        herd
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs a command on the herd's records in long format.
    fn run(&self, ranks: usize, command: &str, more: &[&str]) {
        let (store, pheno) = (self.path("cows.h5"), self.path("long.tsv"));
        let common = [command, &store, "--pheno", &pheno, "--traits", "milk,fat", "-q"];
        succeeds(ranks, &[&common[..], more].concat());
    }

    /// What is said of a command line that is refused.
    fn refused(&self, words: &[&str]) -> String {
        let mut command = genialearn(1);
        let (store, pheno) = (self.path("cows.h5"), self.path("long.tsv"));
        command.args(&words[..1]).args([&store, "--pheno", &pheno, "--out", &self.path("bad")]);
        let out = run_alone({
            command.args(&words[1..]);
            command
        });
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{words:?}: {text}");
        text
    }
}

/// The cell of a table in the row that begins with some words.
fn cell(table: &str, row: &[&str], column: &str) -> f64 {
    let at = table.lines().next().unwrap().split('\t').position(|c| c == column).unwrap();
    let of = |line: &&str| line.split('\t').take(row.len()).eq(row.iter().copied());
    let line = table.lines().find(of).unwrap_or_else(|| panic!("no row {row:?} in\n{table}"));
    line.split('\t').nth(at).unwrap().parse().unwrap_or(f64::NAN)
}

#[test]
fn herd_years_and_permanent_environments_are_the_same_bytes_on_any_number_of_ranks_and_by_a_model_in_words() {
    let herd = Dairy::new();
    let long = herd.path("long.tsv");
    let (fixed, ages) = (format!("{long}:parity"), format!("{long}:age"));
    let options = ["--covar", &fixed, "--qcovar", &ages, "--random", "herd_year", "--permanent-environment"];
    for ranks in [1, 2, 3, 4] {
        let out = herd.path(&format!("v{ranks}"));
        herd.run(ranks, "reml", &[&options[..], &["--out", &out]].concat());
        for name in ["components", "variances"] {
            assert_eq!(herd.read(&format!("v1.{name}.tsv")), herd.read(&format!("v{ranks}.{name}.tsv")));
        }
    }
    let table = herd.read("v1.components.tsv");
    let names = ["additive", "herd_year", "permanent_environment", "residual", "repeatability"];
    assert_eq!(table.lines().count(), 1 + 2 * names.len(), "{table}");
    for name in ["milk", "fat"] {
        let share = |effect: &str| cell(&table, &[name, effect], "proportion");
        assert!(names[..4].iter().map(|n| share(n)).sum::<f64>() - 1.0 < 1e-7);
        assert!((share("repeatability") - share("additive") - share("permanent_environment")).abs() < 1e-7);
    }
    // The same in words, and the second trait by a line of its own.
    let words = "parity + number(age) + additive + (1|herd_year) + permanent_environment";
    std::fs::write(
        herd.path("m.toml"),
        format!("all = \"intercept + {words}\"\nfat = \"additive + (1|herd_year)\"\n"),
    )
    .unwrap();
    herd.run(2, "reml", &["--model", &herd.path("m.toml"), "--out", &herd.path("w")]);
    let words = herd.read("w.components.tsv");
    let of =
        |table: &str| table.lines().filter(|l| l.starts_with("milk")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(of(&words), of(&table));
    assert_eq!(words.lines().filter(|l| l.starts_with("fat")).count(), 3, "{words}");
    // Given again, the variances lead to the same solutions.
    let given = herd.path("v1.components.tsv");
    herd.run(1, "gblup", &[&options[..], &["--out", &herd.path("e")]].concat());
    herd.run(3, "gblup", &[&options[..], &["--variances", &given, "--out", &herd.path("f")]].concat());
    let (a, b) = (herd.read("e.random.tsv"), herd.read("f.random.tsv"));
    let solutions =
        |t: &str| t.lines().skip(1).map(|l| l.rsplit('\t').next().unwrap().parse().unwrap()).collect();
    let (x, y): (Vec<f64>, Vec<f64>) = (solutions(&a), solutions(&b));
    assert!(x.len() == y.len() && x.iter().zip(&y).all(|(x, y)| (x - y).abs() < 1e-5));
    assert!(herd.read("f.variances.tsv").lines().skip(1).all(|l| l.ends_with("given")));
    let fixed = herd.read("e.fixed.tsv");
    assert_eq!(
        fixed.lines().map(|l| l.split('\t').next().unwrap()).collect::<Vec<_>>(),
        ["effect", "intercept", "parity=2", "parity=3", "age"]
    );
}

#[test]
fn values_of_additive_and_dominance_effects_come_back_for_other_animals() {
    let herd = Dairy::new();
    let mut known = "trait\tcomponent\tvariance\n".to_owned();
    for name in ["milk", "fat"] {
        for (effect, variance) in
            [("additive", 0.4), ("dominance", 0.2), ("permanent_environment", 0.3), ("residual", 0.5)]
        {
            known += &format!("{name}\t{effect}\t{variance}\n");
        }
    }
    let given = herd.path("known.tsv");
    std::fs::write(&given, known).unwrap();
    let effects =
        ["--effects", "additive,dominance", "--permanent-environment", "--variances", given.as_str()];
    herd.run(1, "gblup", &[&effects[..], &["--out", &herd.path("g")]].concat());
    herd.run(2, "gblup", &[&effects[..], &["--out", &herd.path("g2")]].concat());
    for name in ["ebv", "genomic", "random", "fixed", "components"] {
        assert_eq!(herd.read(&format!("g.{name}.tsv")), herd.read(&format!("g2.{name}.tsv")), "{name}");
    }
    let (model, store) = (herd.path("g.model.h5"), herd.path("cows.h5"));
    succeeds(2, &["predict", &model, &store, "--out", &herd.path("p"), "-q"]);
    let (fitted, predicted) = (herd.read("g.genomic.tsv"), herd.read("p.genomic.tsv"));
    let header = "id\tmilk.additive\tmilk.dominance\tmilk.total\tfat.additive\tfat.dominance\tfat.total";
    assert!(fitted.starts_with(header) && predicted.starts_with(header), "{fitted}");
    for (a, b) in fitted.lines().zip(predicted.lines()).skip(1) {
        let numbers = |l: &str| l.split('\t').skip(1).map(|x| x.parse().unwrap()).collect::<Vec<f64>>();
        let (a, b) = (numbers(a), numbers(b));
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-6), "{a:?} {b:?}");
        assert!((a[0] + a[1] - a[2]).abs() < 1e-6 && (a[3] + a[4] - a[5]).abs() < 1e-6);
    }
    let (ebv, random) = (herd.read("g.ebv.tsv"), herd.read("g.random.tsv"));
    let first = ebv.lines().nth(1).unwrap().split('\t').next().unwrap().to_owned();
    let value = cell(&ebv, &[&first], "milk");
    assert_eq!(value, cell(&fitted, &[&first], "milk.additive"));
    assert_eq!(value, cell(&random, &["additive", &first, "milk"], "solution"));
}

#[test]
fn many_records_are_estimated_and_solved_by_products_on_any_number_of_ranks() {
    // 1,000 records in four chunks.
    let herd = Dairy::of(560);
    let long = herd.path("long.tsv");
    let parity = format!("{long}:parity");
    let options = ["--absorb", "herd_year", "--covar", &parity, "--permanent-environment"];
    let by = |ranks: usize, command: &str, out: &str, more: &[&str]| {
        let traits = ["--traits", "milk", "--out", &herd.path(out)];
        let (store, pheno) = (herd.path("cows.h5"), herd.path("long.tsv"));
        let common = [command, &store, "--pheno", &pheno, "-q"];
        succeeds(ranks, &[&common[..], &options, more, &traits].concat());
    };
    let stochastic = ["--method", "stochastic", "--probes", "12"];
    for ranks in [1, 2, 4] {
        by(ranks, "reml", &format!("s{ranks}"), &stochastic);
        for name in ["components", "variances"] {
            assert_eq!(herd.read(&format!("s1.{name}.tsv")), herd.read(&format!("s{ranks}.{name}.tsv")));
        }
    }
    by(1, "reml", "a", &["--method", "ai"]);
    let (found, exact) = (herd.read("s1.components.tsv"), herd.read("a.components.tsv"));
    for effect in ["additive", "permanent_environment", "residual"] {
        let of = |table: &str, column: &str| cell(table, &["milk", effect], column);
        let off = of(&found, "variance") - of(&exact, "variance");
        let (error, se) = (of(&found, "variance_mc_se"), of(&exact, "variance_se"));
        assert!(off.abs() < 4.0 * error + 0.02 * se && error < 0.6 * se, "{effect}: {off} {error} {se}");
        assert!(of(&exact, "variance_mc_se").is_nan());
    }
    let known = herd.path("a.components.tsv");
    for ranks in [1, 3] {
        by(ranks, "gblup", &format!("p{ranks}"), &["--solver", "pcg", "--variances", &known]);
    }
    by(1, "gblup", "d", &["--solver", "cholesky", "--variances", &known]);
    // Stopped on one rank, and gone on with on three.
    let solver = ["--solver", "pcg", "--variances", &known, "--traits", "milk"];
    for (more, code, expected) in [
        (&["--resume"][..], 2, "nothing there"),
        (&["--max-iterations", "4"], 1, "iterations"),
        (&[], 2, "no checkpoint of an earlier run"),
        (&["--resume", "--precision", "f64"], 2, "another --precision"),
    ] {
        let mut command = genialearn(1);
        command.args([
            "gblup",
            &herd.path("cows.h5"),
            "--pheno",
            &long,
            "--out",
            &herd.path("stopped"),
            "-q",
        ]);
        command.args(options).args(solver).args(more);
        let out = run_alone(command);
        let told = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(code) && told.contains(expected), "{more:?}: {told}");
    }
    by(3, "gblup", "stopped", &[&solver[..4], &["--resume"]].concat());
    assert!(!Path::new(&herd.path("stopped.checkpoint")).exists());
    for name in ["ebv", "random", "fixed"] {
        let [one, three, dense] = ["p1", "p3", "d"].map(|k| herd.read(&format!("{k}.{name}.tsv")));
        assert_eq!(one, three, "{name}");
        assert_eq!(one, herd.read(&format!("stopped.{name}.tsv")), "{name}");
        let numbers = |t: &str| -> Vec<f64> {
            t.lines().skip(1).map(|l| l.rsplit('\t').next().unwrap().parse().unwrap()).collect()
        };
        let (a, b) = (numbers(&one), numbers(&dense));
        assert!(a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5), "{name}");
    }
}

#[test]
fn environments_kernels_and_absorbed_classes_are_read_from_options() {
    let herd = Dairy::new();
    let (store, g, gcta) = (herd.path("cows.h5"), herd.path("g.h5"), herd.path("gcta"));
    succeeds(1, &["grm", &store, "--out", &g, "--gcta", &gcta, "-q"]);
    let by = |out: &str, more: &[&str]| {
        herd.run(1, "reml", &[more, &["--out", &herd.path(out)]].concat());
        herd.read(&format!("{out}.components.tsv"))
    };
    let own = by("a", &["--effects", "additive,additive*herd_year,gaussian(0.5)"]);
    assert!(own.contains("\nmilk\tadditive*herd_year\t") && own.contains("\nfat\tgaussian(0.5)\t"), "{own}");
    let [file, other] =
        [&g, &format!("{gcta}.grm.bin")].map(|k| by(k, &["--kernel", k, "--random", "herd_year"]));
    for name in ["milk", "fat"] {
        for effect in ["herd_year", "residual"] {
            let [a, b] = [&file, &other].map(|t| cell(t, &[name, effect], "variance"));
            assert!((a - b).abs() < 1e-4 * a.abs().max(1e-3), "{effect}: {a} {b}");
        }
    }
    // A class of animals from a file of its own is the same as the column of records.
    let text = herd.read("long.tsv");
    let sires: std::collections::BTreeMap<&str, &str> = text
        .lines()
        .skip(1)
        .map(|l| (l.split('\t').next().unwrap(), l.split('\t').nth(4).unwrap()))
        .collect();
    let sires: String = sires.into_iter().map(|(cow, sire)| format!("{cow}\t{sire}\n")).collect();
    std::fs::write(herd.path("sires.tsv"), format!("id\tsire\n{sires}")).unwrap();
    let of_file = format!("{}:sire", herd.path("sires.tsv"));
    assert_eq!(by("own", &["--random", "sire"]), by("file", &["--random", &of_file]));
    // An absorbed class is the same class as dummy columns: variances, likelihood and solutions.
    let long = herd.path("long.tsv");
    let (both, parity) = (format!("{long}:parity,herd_year"), format!("{long}:parity"));
    herd.run(1, "gblup", &["--repeated", "--covar", &both, "--out", &herd.path("dense")]);
    herd.run(1, "gblup", &["--absorb", "herd_year", "--covar", &parity, "--out", &herd.path("sparse")]);
    let read = |name: &str, suffix: &str| herd.read(&format!("{name}.{suffix}.tsv"));
    for name in ["milk", "fat"] {
        for (column, near) in [("h2", 1e-5), ("loglik", 1e-6), ("var_e", 1e-5)] {
            let [a, b] = ["dense", "sparse"].map(|k| cell(&read(k, "variances"), &[name], column));
            assert!((a - b).abs() < near * a.abs().max(1.0), "{name} {column}: {a} {b}");
        }
        let fixed = |k: &str, row: &str| cell(&read(k, "fixed"), &[row], name);
        for row in ["parity=2", "parity=3"] {
            assert!((fixed("dense", row) - fixed("sparse", row)).abs() < 1e-4);
        }
        let step = fixed("sparse", "herd_year=HY4") - fixed("sparse", "herd_year=HY0");
        assert!((step - fixed("dense", "herd_year=HY4")).abs() < 1e-4);
    }
}

#[test]
fn requests_that_make_no_sense_are_refused_with_advice() {
    let herd = Dairy::new();
    let bad = herd.path("bad.toml");
    for (words, told) in [
        (&["reml"][..], "add --repeated"),
        (&["reml", "--random", "herd_yaer"], "did you mean \"herd_year\"?"),
        (&["reml", "--random", "herd_year", "--method", "he"], "auto or ai"),
        (&["gblup", "--random", "herd_year", "--h2", "0.3"], "--h2: expected options of one random effect"),
        (&["gblup", "--repeated", "--solver", "eigen"], "--solver"),
        (&["gblup", "--repeated", "--tolerance", "1e-6"], "--tolerance"),
        (&["reml", "--effects", "additive,additive"], "additive twice"),
        (&["reml", "--effects", "parity*herd_year"], "additive*environment"),
        (&["reml", "--permanent-environment", "--bivariate"], "one random effect"),
        (&["reml", "--effects", "additive*dominance", "--bivariate"], "one random effect"),
        (&["gblup", "--model", &bad], "none"),
    ] {
        std::fs::write(&bad, "milk = \"parity + (1|herd_year)\"\n").unwrap();
        let text = herd.refused(words);
        assert!(text.contains(told), "{words:?}: {text}");
    }
    for (model, told) in [
        ("milk = 3\n", "quotation marks"),
        ("milk = \"additive + + parity\"\n", "both sides"),
        ("all = \"additive\"\nmilk = \"additive\"\n", "--traits"),
        ("milk = \"additive\"\nx", "line 2"),
        ("milk = \"additive + (1|sier)\"\n", "did you mean \"sire\"?"),
    ] {
        std::fs::write(&bad, model).unwrap();
        let text = herd.refused(&["reml", "--model", &bad]);
        assert!(text.contains(told), "{model}: {text}");
    }
}

/// The lines of the example in docs/gblup.md, with its file of models.
#[test]
fn the_dairy_example_of_the_manual_runs() {
    let herd = Dairy::new();
    std::fs::rename(herd.path("long.tsv"), herd.path("lactations.tsv")).unwrap();
    let manual = std::fs::read_to_string("docs/gblup.md").unwrap();
    let block = |fence: &str| {
        let text = manual.split(fence).nth(1).unwrap_or_else(|| panic!("no {fence} in the manual"));
        text.split("```").next().unwrap().to_owned()
    };
    std::fs::write(herd.path("models.toml"), block("```toml\n")).unwrap();
    let commands = block("```sh\n");
    assert_eq!(commands.lines().count(), 5);
    for line in commands.lines() {
        let mut command = genialearn(1);
        command.current_dir(herd.dir.path()).args(line.split_whitespace().skip(1)).arg("-q");
        let out = run_alone(command);
        assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    }
    let (random, genomic) = (herd.read("e.random.tsv"), herd.read("calves.genomic.tsv"));
    assert!(random.contains("\nherd_year\tHY3\tmilk\t"), "{random}");
    assert!(genomic.starts_with("id\tmilk.additive\tmilk.dominance\tmilk.total\t"), "{genomic}");
    assert!(herd.read("d.fixed.tsv").contains("\nherd_year=HY3\t"));
    let fixed = herd.read("m.fixed.tsv");
    assert!(fixed.lines().any(|l| l.starts_with("age\t") && l.ends_with("\tNA")), "{fixed}");
}
