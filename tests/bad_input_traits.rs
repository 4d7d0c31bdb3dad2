//! Bad tables of traits, covariates, weights and variances, through the real program on 1 and 3 ranks: one
//! clear sentence, exit code 2, nothing left behind.

mod support;

use genialearn::genotype::{Animals, StoreWriter, Variants};
use genialearn::packed::Packed;
use std::path::Path;

/// Eight animals a1..a8 and 40 SNPs.
fn write_store(path: &Path, animals: &str, swap: Option<&str>) {
    let ids: Vec<String> = (1..=8).map(|i| format!("{animals}{i}")).collect();
    let m = 40;
    let codes: Vec<u8> = (0..8 * m).map(|k| ((k * 7 + k / m * 5) % 11 % 3) as u8).collect();
    let texts = |t: &str| vec![t.to_string(); m];
    let variants = Variants {
        chromosome: texts("1"),
        position: (0..m as u64).collect(),
        id: (0..m).map(|j| format!("s{j}")).collect(),
        counted_allele: texts("A"),
        other_allele: texts(swap.unwrap_or("C")),
        cm: vec![f64::NAN; m],
        frequency: vec![0.5; m],
        missing: vec![0; m],
    };
    let mut writer = StoreWriter::create(path, 8, m, false).unwrap();
    writer.write_rows(0, &Packed::from_codes(8, m, &codes)).unwrap();
    writer.finish(&Animals::named(ids), &variants).unwrap();
}

const GOOD: &str =
    "id\tmilk\tfat\na1\t1\t3\na2\t2\t1\na3\t3\t4\na4\t1\t1\na5\t5\t5\na6\t9\t2\na7\t2\t6\na8\t6\t5\n";

/// What is wrong, the command behind the program's name ("$p" is the table of the case), the table, and what
/// the message must say.
type Case = (&'static str, &'static [&'static str], &'static [u8], &'static str);

const GBLUP: [&str; 6] = ["gblup", "s.h5", "--pheno", "$p", "--out", "o"];

fn cases() -> Vec<Case> {
    vec![
        (
            "a duplicate animal",
            &GBLUP,
            b"id\tt\na1\t1\na2\t2\na1\t3\n",
            "line 4: expected every name once, found a1 again",
        ),
        (
            "too many columns",
            &GBLUP,
            b"id\tt\na1\t1\t5\na2\t2\n",
            "line 2: expected 2 columns as in the header, found 3",
        ),
        ("too few columns", &GBLUP, b"id\tt\tu\na1\t1\n", "found 2"),
        (
            "an infinite value",
            &GBLUP,
            b"id\tt\na1\t1\na2\tinf\n",
            "line 3, column t: expected a finite number or NA",
        ),
        ("a word among numbers", &GBLUP, b"id\tt\na1\t1\na2\tx\na3\t2\n", "found \"x\""),
        (
            "a constant trait",
            &GBLUP,
            b"id\tt\na1\t4\na2\t4\na3\t4\n",
            "trait t: expected records that differ, found 4",
        ),
        (
            "a trait without records",
            &GBLUP,
            b"id\tt\tu\na1\tNA\t1\na2\t\t2\n",
            "trait t: expected animals with records",
        ),
        ("nobody in common", &GBLUP, b"id\tt\nb1\t1\nb2\t2\n", "expected animals of the store, found none"),
        ("another first column", &GBLUP, b"name\tt\na1\t1\n", "a first column named id"),
        ("an empty file", &GBLUP, b"", "an empty file"),
        ("bytes that are no text", &GBLUP, b"id\tt\na1\t\xff\xfe\n", "line 2: expected text in UTF-8"),
        ("a cut gzip file", &GBLUP, b"\x1f\x8b\x08\x00\x00\x00", "gzip"),
        ("no numbers", &GBLUP, b"id\tt\na1\tx\na2\ty\n", "a numeric column"),
        (
            "an unknown trait",
            &["gblup", "s.h5", "--pheno", "good.tsv", "--traits", "milc", "--out", "o"],
            b"",
            "did you mean \"milk\"?",
        ),
        (
            "no such file",
            &["reml", "s.h5", "--pheno", "none.tsv", "--out", "o"],
            b"",
            "none.tsv: expected a file",
        ),
        ("no such folder", &["reml", "s.h5", "--pheno", "good.tsv", "--out", "no/o"], b"", "no such folder"),
        (
            "two records",
            &["reml", "s.h5", "--pheno", "$p", "--out", "o"],
            b"id\tt\na1\t1\na2\t2\n",
            "two records more than fixed effects",
        ),
        (
            "a level for every animal",
            &["gblup", "s.h5", "--pheno", "good.tsv", "--covar", "$p", "--out", "o"],
            b"id\tc\na1\ta\na2\tb\na3\tc\n",
            "fewer independent columns",
        ),
        (
            "a covariate that is no number",
            &["gblup", "s.h5", "--pheno", "good.tsv", "--qcovar", "$p", "--out", "o"],
            b"id\tc\na1\t1\na2\told\n",
            "line 3, column c",
        ),
        (
            "a weight of zero",
            &["gblup", "s.h5", "--pheno", "good.tsv", "--weights", "$p", "--out", "o"],
            b"id\tw\na1\t1\na2\t0\n",
            "a positive weight, found 0",
        ),
        (
            "a negative variance",
            &["gblup", "s.h5", "--pheno", "good.tsv", "--variances", "$p", "--out", "o"],
            b"trait\tvar_g\tvar_e\nmilk\t1\t-2\nfat\t1\t1\n",
            "column var_e: expected a variance",
        ),
        (
            "variances of other traits",
            &["gblup", "s.h5", "--pheno", "good.tsv", "--variances", "$p", "--out", "o"],
            b"trait\tvar_g\tvar_e\nmilk\t1\t2\n",
            "a line for fat",
        ),
        (
            "a heritability of two",
            &["gblup", "s.h5", "--pheno", "good.tsv", "--h2", "2", "--out", "o"],
            b"",
            "expected a number from 0",
        ),
        (
            "a table instead of a store",
            &["gblup", "good.tsv", "--pheno", "good.tsv", "--out", "o"],
            b"",
            "a genotype store",
        ),
        ("a store instead of a model", &["predict", "s.h5", "s.h5", "--out", "o"], b"", "a model file"),
        (
            "other alleles",
            &["predict", "m.h5", "t.h5", "--out", "o"],
            b"",
            "others at 40 SNPs, such as A/G at s0",
        ),
        ("a result that exists", &["gblup", "s.h5", "--pheno", "good.tsv", "--out", "m"], b"", "add --force"),
    ]
}

#[test]
fn every_mistake_gets_one_sentence_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write_store(&at("s.h5"), "a", None);
    write_store(&at("t.h5"), "a", Some("G"));
    std::fs::write(at("good.tsv"), GOOD).unwrap();
    let mut good = support::genialearn(1);
    good.current_dir(&dir).args(["gblup", "s.h5", "--pheno", "good.tsv", "--h2", "0.3", "--out", "m", "-q"]);
    assert!(support::run_alone(good).status.success());
    std::fs::rename(at("m.model.h5"), at("m.h5")).unwrap();
    for (what, args, table, told) in cases() {
        std::fs::write(at("p"), table).unwrap();
        let before = support::listing(dir.path());
        for ranks in [1, 2] {
            let mut command = support::genialearn(ranks);
            command.current_dir(&dir).args(args.iter().map(|a| if *a == "$p" { "p" } else { a }));
            let out = support::run_alone(command);
            let text = String::from_utf8_lossy(&out.stderr).into_owned();
            let place = format!("{what} on {ranks} ranks:\n{text}");
            assert_eq!(out.status.code(), Some(2), "{place}");
            assert_eq!(text.lines().filter(|l| l.starts_with("error:")).count(), 1, "{place}");
            assert!(text.contains(told), "does not say {told:?}: {place}");
            assert_eq!(before, support::listing(dir.path()), "something was left behind: {place}");
        }
    }
}
