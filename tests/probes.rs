//! Variances from random probes and moments, from file to table, on any number of ranks.

mod support;

use std::collections::HashMap;
use support::succeeds;

/// The rows of a table by their first column, each a map of columns.
fn table(path: &str) -> HashMap<String, HashMap<String, String>> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines().map(|l| l.split('\t').map(String::from).collect::<Vec<_>>());
    let header = lines.next().unwrap();
    lines.map(|l| (l[0].clone(), header.iter().cloned().zip(l).collect())).collect()
}

fn number(row: &HashMap<String, String>, column: &str) -> f64 {
    row[column].parse().unwrap_or(f64::NAN)
}

/// 300 animals at 700 SNPs, so that a fourth rank owns none; five traits with gaps.
fn herd(dir: &std::path::Path) -> (String, String) {
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (store, pheno) = (path("s.h5"), path("p.tsv"));
    let size = ["--animals", "300", "--snps", "700", "--traits", "5"];
    succeeds(1, &[&["simulate"], &size[..], &["--out", &store, "--pheno", &pheno, "-q"]].concat());
    (store, pheno)
}

#[test]
fn methods_give_the_same_bytes_on_any_number_of_ranks_and_agree_with_exact_reml() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (store, pheno) = herd(dir.path());
    let run = |ranks: usize, command: &str, more: &[&str], out: &str| {
        succeeds(ranks, &[&[command, &store, "--pheno", &pheno, "--out", out, "-q"], more].concat());
    };
    for ranks in [1, 2, 3, 4] {
        let out = |name: &str| path(&format!("{name}{ranks}"));
        run(ranks, "reml", &["--method", "stochastic", "--probes", "24"], &out("st"));
        run(ranks, "reml", &["--method", "he"], &out("he"));
        run(ranks, "gblup", &["--solver", "pcg"], &out("gb"));
        run(ranks, "gblup", &["--joint"], &out("jo"));
        for name in [
            "jo#.ebv.tsv",
            "jo#.covariances.tsv",
            "jo#.fixed.tsv",
            "st#.variances.tsv",
            "he#.variances.tsv",
            "he#.gencov.tsv",
            "gb#.ebv.tsv",
        ] {
            let read = |ranks: &str| std::fs::read(path(&name.replace('#', ranks))).unwrap();
            assert_eq!(read("1"), read(&ranks.to_string()), "{name} on {ranks} ranks");
        }
    }
    run(1, "reml", &[], &path("exact"));
    let exact = table(&path("exact.variances.tsv"));
    let (stochastic, gblup) = (table(&path("st1.variances.tsv")), table(&path("gb1.variances.tsv")));
    assert_eq!(stochastic.len(), 5);
    assert!(!exact.values().next().unwrap().contains_key("mc_se"));
    for (name, want) in &exact {
        for found in [&stochastic[name], &gblup[name]] {
            let (h2, error) = (number(found, "h2"), number(found, "mc_se"));
            let off = (h2 - number(want, "h2")).abs();
            assert!(off < 3.5 * error + 1e-6, "{name}: h2 {h2} mc_se {error}, exact {}", want["h2"]);
            assert_eq!(found["converged"], want["converged"]);
        }
    }
    // The variances of both tables of moments are the same, and the breeding values read them.
    let (own, pairs) = (table(&path("he1.variances.tsv")), table(&path("he1.gencov.tsv")));
    assert_eq!(pairs.len(), 15);
    for (name, row) in &own {
        let pair = &pairs[&format!("{name}/{name}")];
        assert_eq!((row["var_g"] == pair["cov_g"], &row["n"]), (number(pair, "cov_g") > 0.0, &pair["n"]));
        assert!(number(pair, "bent_cov_g") > 0.0 && number(pair, "bent_cov_e") > 0.0);
    }
    // Read from a file the covariances give the same breeding values to the digits in the file.
    let covariances = format!("{}.gencov.tsv", path("he1"));
    run(1, "gblup", &["--joint", "--covariances", &covariances], &path("read"));
    let (a, b) = (table(&path("jo1.ebv.tsv")), table(&path("read.ebv.tsv")));
    let name = own.keys().next().unwrap();
    let sizes: f64 = a.values().map(|row| number(row, name).powi(2)).sum();
    let off: f64 = a.iter().map(|(id, row)| (number(row, name) - number(&b[id], name)).powi(2)).sum();
    assert!(sizes > 0.0 && off < 1e-10 * sizes, "{off} of {sizes}");
    let other = format!("{}.variances.tsv", path("st1"));
    run(1, "gblup", &["--variances", &other], &path("again"));
}

#[test]
fn a_relationship_matrix_from_a_file_gives_the_same_estimates() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (store, pheno) = herd(dir.path());
    let g = path("g.h5");
    succeeds(2, &["grm", &store, "--out", &g, "-q"]);
    for method in ["stochastic", "he"] {
        let (a, b) = (path(&format!("a{method}")), path(&format!("b{method}")));
        let base = ["reml", &store, "--pheno", &pheno, "--method", method, "-q", "--out"];
        succeeds(1, &[&base[..], &[&a]].concat());
        succeeds(2, &[&base[..], &[&b, "--grm", &g]].concat());
        let (a, b) = (table(&format!("{a}.variances.tsv")), table(&format!("{b}.variances.tsv")));
        for (name, row) in a {
            let (x, y) = (number(&row, "var_e"), number(&b[&name], "var_e"));
            assert!((x / y - 1.0).abs() < 1e-6, "{method} {name}: {x} {y}");
        }
    }
}

/// Real records: wheat lines and mice, whose exact estimates agree with GCTA's (`tests/mixed.rs`).
#[test]
fn stochastic_estimates_of_real_records_lie_within_their_error() {
    for (set, traits) in [("wheat599", "E1,E2"), ("mice_hs1940", "Biochem.ALP,CD8,MCH")] {
        let Some(bed) = support::shared(&format!("data/{set}/{set}.bed")) else { continue };
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        succeeds(1, &["import", bed.to_str().unwrap(), "--out", &path("a.h5"), "-q"]);
        let pheno = bed.with_file_name("pheno.tsv");
        for method in ["exact", "stochastic"] {
            let (store, pheno) = (path("a.h5"), pheno.to_str().unwrap());
            let args = ["reml", &store, "--pheno", pheno, "--traits", traits, "--method", method, "-q"];
            succeeds(1, &[&args[..], &["--out", &path(method)]].concat());
        }
        let found = table(&path("stochastic.variances.tsv"));
        for (name, want) in table(&path("exact.variances.tsv")) {
            let found = &found[&name];
            let [h2, error] = ["h2", "mc_se"].map(|c| number(found, c));
            let off = (h2 - number(&want, "h2")) / error;
            let share = error / number(found, "h2_se");
            println!(
                "{set} {name}: off by {off:.2} mc_se, {share:.3} of the se, {} products",
                found["iterations"]
            );
            assert!(
                off.abs() < 3.5 && share < 0.25,
                "{set} {name}: h2 {h2} exact {} mc_se {error}",
                want["h2"]
            );
        }
    }
}
