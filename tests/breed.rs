//! `genialearn breed` as users run it.

mod support;

use std::path::Path;
use support::{genialearn, listing, run_alone, succeeds};

/// The example's herd in very small: two herds, two generations.
fn config() -> String {
    let small = [
        ("animals = 7000", "animals = 400"),
        ("snps = 3000", "snps = 600"),
        ("qtl = 512", "qtl = 200"),
        ("generations = 7", "generations = 2"),
        ("candidates = 1000", "candidates = 80"),
        ("parents = 100", "parents = 12"),
        ("repeats = 5", "repeats = 2"),
    ];
    let mut text = include_str!("../examples/selection.toml").to_owned();
    for (from, to) in small {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    text + "\n[dlgblup]\ninner_folds = 2\n[dlgblup.network]\nhidden = [8]\nbatch = 100\nepochs = 3\n"
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Exit code and what was said.
fn fails(args: &[&str]) -> (Option<i32>, String) {
    let mut command = genialearn(1);
    command.args(args);
    let out = run_alone(command);
    (out.status.code(), String::from_utf8(out.stderr).unwrap())
}

#[test]
fn selection_gives_the_same_bytes_on_any_number_of_ranks_and_keeps_earlier_results() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| text(&dir.path().join(name));
    std::fs::write(path("s.toml"), config()).unwrap();
    for (ranks, name) in [(1, "one"), (2, "two")] {
        succeeds(ranks, &["breed", "-q", &path("s.toml"), "--out", &path(name), "--seed", "4"]);
    }
    let traits = ["base", "linear", "quadratic", "sine", "logistic", "exponential"];
    let results = traits.iter().map(|name| format!("{name}.svg")).chain(["tsv".into()]);
    for result in results {
        let read = |name: &str| std::fs::read(path(&format!("{name}.{result}"))).unwrap();
        assert!(read("one") == read("two"), "{result}");
    }
    let table = std::fs::read_to_string(path("one.tsv")).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split('\t').collect()).collect();
    // Six traits, four criteria, the herd's own candidates and two generations.
    assert_eq!(rows.len(), 6 * 4 * 3);
    // The candidates' own records (h2 0.3) move every trait, chance none: ± 0.2 in two herds of 80.
    let gain = |criterion: &str| {
        let of = rows.iter().filter(|r| r[1].eq_ignore_ascii_case(criterion) && r[2] == "2");
        let gains: Vec<f64> = of.map(|r| r[3].parse().unwrap()).collect();
        assert_eq!(gains.len(), 6, "{criterion} in\n{table}");
        gains.iter().sum::<f64>() / 6.0
    };
    assert!(gain("record") > 0.4 && gain("gblup") > 0.4, "{table}");
    assert!(gain("chance").abs() < 0.3, "{table}");

    let (code, told) = fails(&["breed", "-q", &path("s.toml"), "--out", &path("one")]);
    assert!(code == Some(2) && told.contains("one") && told.contains("--force"), "{told}");
    assert_eq!(std::fs::read_to_string(path("one.tsv")).unwrap(), table);
}

#[test]
fn wrong_schemes_are_refused_before_anything_is_computed_or_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| text(&dir.path().join(name));
    for (from, to, expected) in [
        ("parents = 12", "parents = 1", "2 or more `parents`"),
        ("parents = 12", "parents = 90", "at least 90 `candidates`"),
        ("generations = 2", "generations = 0", "1 or more `generations`"),
        ("animals = 400", "animals = 100", "a herd of at least 160 `animals`"),
        ("h2 = 0.3\n\n", "h2 = 1.0\n\n", "a heritability `h2`"),
        ("parents = 12", "parent = 12", "parents"),
    ] {
        let wrong = config().replacen(from, to, 1);
        assert!(wrong != config(), "{from}");
        std::fs::write(path("s.toml"), wrong).unwrap();
        let (code, told) = fails(&["breed", &path("s.toml"), "--out", &path("x")]);
        assert!(code == Some(2) && told.contains(expected), "{to}: {told}");
    }
    let (code, told) = fails(&["breed", &path("none.toml"), "--out", &path("x")]);
    assert!(code == Some(2) && told.contains("none.toml"), "{told}");
    assert_eq!(listing(dir.path()).into_iter().collect::<Vec<_>>(), ["s.toml"]);
}
