//! Wrong configurations of studies, networks, generators, simulations and selections through the real program: one
//! clear sentence, exit code 2, nothing left behind.

mod support;

use std::path::Path;
use support::{genialearn, listing, run_alone, succeeds};

/// What is wrong, the command, the files that it reads, and what the message must say.
type Case = (&'static str, &'static str, String, &'static str);

const DATA: &str = "[data]\nstore = \"s.h5\"\npheno = \"p.tsv\"\n";
const SIMULATED: &str = "[simulate]\nanimals = 40\nsnps = 58\ntraits = 1\n";
const STUDY: &str = "study $c --out o";

/// Studies that only their data show to be wrong.
fn studies() -> Vec<Case> {
    let of = |what, text: String, told| (what, STUDY, text, told);
    let augment = "[[model]]\nname = \"A\"\n[model.augment]\ngenerator = \"vae\"\nreference = [20, 39]\n";
    vec![
        of("a covariate that no table has", format!("{DATA}covar = \"p.tsv:sexx\"\n"), "sexx"),
        of("a trait that no table has", format!("{DATA}traits = [\"mlk\"]\n"), "mlk"),
        of("a covariate of a simulated herd", format!("{SIMULATED}[data]\ncovar = \"p.tsv:sexx\"\n"), "sexx"),
        of(
            "families without groups",
            format!("{DATA}[[validation]]\nscheme = \"family\"\n"),
            "expected groups of the animals, found none",
        ),
        of(
            "more folds than animals",
            format!("{DATA}[[validation]]\nscheme = \"random\"\nfolds = 41\n"),
            "2 to 40 folds",
        ),
        of(
            "a fold without records to train on",
            format!("{DATA}[[validation]]\nscheme = \"given\"\nlist = \"f.tsv\"\n"),
            "in the training part of fold a of validation `given`: expected at least 3 records",
        ),
        of(
            "a list without the column",
            format!("{DATA}[[validation]]\nscheme = \"given\"\nlist = \"p.tsv\"\n"),
            "fold",
        ),
        of("a reference that no training part has", format!("{DATA}{augment}"), "the largest `reference`"),
        of("a herd too old", format!("{DATA}[[validation]]\nscheme = \"forward\"\n"), "birth dates"),
    ]
}

/// Configurations that are wrong by themselves.
fn texts() -> Vec<Case> {
    let of = |what, command, text: &str, told| (what, command, text.to_owned(), told);
    let train = |kind: &str| -> &'static str {
        match kind {
            "mlp" => "train mlp s.h5 --pheno p.tsv --config $c --out o.h5",
            "dlgblup" => "train dlgblup s.h5 --pheno p.tsv --config $c --out o.h5",
            "wgan" => "train wgan s.h5 --config $c --out o.h5",
            _ => "train vae s.h5 --config $c --out o.h5",
        }
    };
    let simulate = "simulate --config $c --out h.h5 --pheno h.tsv";
    vec![
        of("a study of nothing", STUDY, "", "no `store`"),
        of("a study's key twice", STUDY, "title = \"a\"\ntitle = \"b\"\n", "line 2"),
        of("a table for a number", STUDY, "[simulate]\nanimals = { n = 3 }\n", "line 2"),
        of("no model", STUDY, "model = []\n[simulate]\n", "at least one model"),
        of("one bootstrap sample", STUDY, "[simulate]\n[bootstrap]\nreplicates = 1\n", "2 to 100000"),
        of(
            "no repetition",
            STUDY,
            "[simulate]\n[[validation]]\nscheme = \"random\"\nrepeats = 0\n",
            "`repeats`",
        ),
        of("another kind's table", STUDY, "[simulate]\n[[model]]\nname = \"m\"\n[model.mlp]\n", "`mlp`"),
        of(
            "mixtures of one name",
            STUDY,
            "[simulate]\n[[model]]\nname = \"m\"\n[model.augment]\nreference = [20, 20]\n",
            "`m, 20 real` twice",
        ),
        of("an unknown layer", train("mlp"), "[network]\nhiden = [4]\n", "did you mean `hidden`?"),
        of("an unknown activation", train("mlp"), "[network]\nactivation = \"relu6\"\n", "line 2"),
        of("one inner fold", train("dlgblup"), "inner_folds = 1\n", "2 to 100 `inner_folds`"),
        of("an unknown preset", train("wgan"), "preset = \"smal\"\n", "small"),
        of("no latent number", train("wgan"), "[network]\nlatent = 0\n", "`latent`"),
        of("a batch of one", train("vae"), "batch = 1\n", "`batch`"),
        of("a herd without SNPs", simulate, "snps = 0\n", "snps"),
        of(
            "an unknown form",
            simulate,
            "[[trait]]\nname = \"a\"\ngroup = \"g\"\nh2 = 0.3\nform = \"cubic\"\n",
            "line 5",
        ),
        of("no parents", "breed $c --out o", "[selection]\nparents = 0\n", "`parents`"),
    ]
}

/// Runs a command in a folder: its exit code and what it said.
fn said(dir: &Path, command: &str) -> (Option<i32>, String) {
    let mut process = genialearn(1);
    process.current_dir(dir).args(command.split(' ').map(|word| if word == "$c" { "c.toml" } else { word }));
    let out = run_alone(process);
    (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
}

/// A store without groups and birth dates, records of 40 animals, two folds.
fn files(dir: &Path) {
    let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let size = ["--animals", "40", "--snps", "58", "--traits", "1", "-q"];
    succeeds(1, &[&["simulate", "--out", &at("h.h5"), "--pheno", &at("p.tsv")], &size[..]].concat());
    succeeds(1, &["export", &at("h.h5"), "--format", "vcf", "--out", &at("h"), "-q"]);
    succeeds(1, &["import", &at("h.vcf"), "--out", &at("s.h5"), "-q"]);
    for entry in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()) {
        if entry.to_str().unwrap().starts_with("h.") {
            std::fs::remove_file(dir.join(entry)).unwrap();
        }
    }
    let fold = |i: usize| if i < 39 { "a" } else { "b" };
    let lines: String = (1..=40).map(|i| format!("C{i:06}\t{}\n", fold(i))).collect();
    std::fs::write(dir.join("f.tsv"), format!("id\tfold\n{lines}")).unwrap();
}

#[test]
fn every_wrong_configuration_gets_one_sentence_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    files(dir.path());
    for (what, command, text, told) in studies().into_iter().chain(texts()) {
        std::fs::write(dir.path().join("c.toml"), &text).unwrap();
        let before = listing(dir.path());
        let (code, message) = said(dir.path(), command);
        assert_eq!(code, Some(2), "{what}: {message}");
        assert_eq!(message.lines().filter(|l| l.starts_with("error:")).count(), 1, "{what}: {message}");
        assert!(message.contains(told), "{what}: no {told:?} in {message}");
        assert_eq!(before, listing(dir.path()), "{what} leaves something");
    }
}

#[test]
fn a_refused_study_is_begun_again_where_it_was_and_fits_of_nobody_are_not_resumed() {
    let dir = tempfile::tempdir().unwrap();
    files(dir.path());
    let quick =
        "[[model]]\nname = \"G\"\nh2 = 0.3\n[bootstrap]\nreplicates = 2\n[report]\ngenotypes = false\n";
    let write = |text: &str| std::fs::write(dir.path().join("c.toml"), format!("{text}{quick}")).unwrap();
    // An empty folder of the user's stays.
    std::fs::create_dir(dir.path().join("o")).unwrap();
    write(&format!("{SIMULATED}[data]\ncovar = \"p.tsv:sexx\"\n"));
    assert_eq!(said(dir.path(), STUDY).0, Some(2));
    assert!(std::fs::read_dir(dir.path().join("o")).unwrap().next().is_none());
    write(DATA);
    let (code, message) = said(dir.path(), STUDY);
    assert_eq!(code, Some(0), "{message}");

    // One of another study is done again rather than believed, and so is one that is damaged.
    let scores = std::fs::read(dir.path().join("o/scores.tsv")).unwrap();
    let fits = || {
        let all = std::fs::read_dir(dir.path().join("o/tasks")).unwrap().map(|e| e.unwrap().path());
        let mut fits: Vec<_> = all.filter(|path| path.extension().is_some_and(|e| e == "task")).collect();
        fits.sort();
        fits
    };
    let all = fits();
    std::fs::copy(&all[1], &all[0]).unwrap();
    std::fs::write(&all[2], b"cut").unwrap();
    let (code, message) = said(dir.path(), "study $c --out o --resume");
    let done = |k: usize| message.contains(&format!("{k} already done"));
    // GBLUP of all records is among the files.
    assert!(code == Some(0) && (done(all.len() - 3) || done(all.len() - 2)), "{message}");
    // A simulated herd whose origin is not known is not gone on with.
    write(SIMULATED);
    assert_eq!(said(dir.path(), "study $c --out p").0, Some(0));
    std::fs::remove_file(dir.path().join("p/tasks/data.json")).unwrap();
    let (code, message) = said(dir.path(), "study $c --out p --resume");
    assert!(code == Some(2) && message.contains("data.json"), "{message}");
    assert_eq!(std::fs::read(dir.path().join("o/scores.tsv")).unwrap(), scores);
}
