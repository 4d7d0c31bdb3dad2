//! Every key of a study's data, import, bootstrap and report changes something; `tests/keys.rs` walks those of models,
//! validations, herds and generators.

mod support;

use genialearn::config;
use genialearn::evaluate::config::StudyConfig;
use genialearn::genotype::import::{import, ImportConfig};
use genialearn::genotype::source::Format;
use genialearn::genotype::Store;
use std::collections::BTreeSet;
use std::path::Path;
use support::succeeds;

/// The keys that a table of a configuration knows, as the message about an unknown one lists them.
fn known<T: serde::de::DeserializeOwned>(within: &str) -> BTreeSet<String> {
    let text = format!("{within}\nunknown_key = 1\n");
    let Err(e) = config::parse::<T>(&text, Path::new("c.toml")) else { panic!("{within} takes any key") };
    let message = e.to_string();
    let list = message.split("expected ").nth(1).unwrap().split(", found").next().unwrap();
    list.split(", ").map(str::to_owned).collect()
}

fn assert_all<T: serde::de::DeserializeOwned>(
    within: &str,
    cases: &[(&str, &str, &str)],
    elsewhere: &[&str],
) {
    let tried: BTreeSet<String> =
        cases.iter().map(|c| c.0).chain(elsewhere.iter().copied()).map(str::to_owned).collect();
    assert_eq!(known::<T>(within), tried, "keys of `{within}`");
}

/// 20 animals, a SNP a line: chromosomes 1, 2, 30; one SNP rare, one rarely called, one without heterozygotes; animal 0
/// is called at few.
fn vcf() -> String {
    let mut text =
        String::from("##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT");
    (0..20).for_each(|i| text += &format!("\ta{i}"));
    for j in 0..12 {
        text += &format!("\n{}\t{}\ts{j}\tA\tG\t.\t.\t.\tGT", [1, 2, 30][j % 3], 100 + j);
        for i in 0..20 {
            let call = match (i, j) {
                (0, 5..) | (3..12, 0) => "./.",
                (1, 1) => "0/1",
                (_, 1) => "0/0",
                (_, 2) => ["0/0", "1/1"][i % 2],
                _ => ["0/0", "0/1", "1/1", "0/1"][(i * (j + 1) + j) % 4],
            };
            text += &format!("\t{call}");
        }
    }
    text + "\n"
}

#[test]
fn every_key_of_an_import_changes_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("a.vcf", &vcf());
    write("b.vcf", &vcf().replace("\ts4\t", "\tother\t"));
    write(
        "animals.tsv",
        &(0..20).fold("id\tsire\n".to_owned(), |text, i| text + &format!("a{i}\tbull{}\n", i % 3)),
    );
    write("keep.txt", "a1\na2\na3\na4\na5\n");
    write("extract.txt", "s3\ns4\ns6\n");
    let cases = [
        ("source", "source = \"a.vcf\"", "source = \"b.vcf\""),
        ("animals", "", "animals = \"animals.tsv\""),
        ("maf", "", "maf = 0.1"),
        ("call_rate", "", "call_rate = 0.8"),
        ("animal_call_rate", "", "animal_call_rate = 0.7"),
        ("hwe", "", "hwe = 0.001"),
        ("chromosomes", "", "chromosomes = \"1\""),
        ("autosomes", "", "autosomes = 29"),
        ("keep", "", "keep = \"keep.txt\""),
        ("extract", "", "extract = \"extract.txt\""),
    ];
    assert_all::<ImportConfig>("", &cases, &[]);
    let path = dir.path().join("study.toml");
    let store = |lines: &str| {
        let source = if lines.contains("source") { "" } else { "source = \"a.vcf\"\n" };
        let mut asked: ImportConfig = config::parse(&format!("{source}{lines}\n"), &path).unwrap();
        asked.resolve(&path);
        let out = dir.path().join("o.h5");
        import(&asked, Format::Vcf, &out, true).unwrap();
        let store = Store::open(&out).unwrap();
        (store.animals().clone(), store.variants().id.clone())
    };
    for (key, a, b) in cases {
        assert!(store(a) != store(b), "`{key}` changes nothing");
    }
}

#[test]
fn every_key_of_a_studys_data_and_report_changes_its_results() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    for (seed, name) in [("1", "a"), ("2", "b")] {
        let out = [path(&format!("{name}.h5")), path(&format!("{name}.tsv"))];
        let size = ["--animals", "60", "--snps", "80", "--traits", "2", "--seed", seed];
        succeeds(1, &[&["simulate", "-q", "--out", &out[0], "--pheno", &out[1]][..], &size].concat());
    }
    let ids = Store::open(Path::new(&path("a.h5"))).unwrap().animals().id.clone();
    let column = |name: &str, of: &dyn Fn(usize) -> usize| {
        let lines: String = ids.iter().enumerate().map(|(i, id)| format!("{id}\t{}\n", of(i))).collect();
        std::fs::write(path(&format!("{name}.tsv")), format!("id\t{name}\n{lines}")).unwrap();
    };
    column("herd", &|i| i * i % 3);
    column("age", &|i| i * i % 17);
    column("weight", &|i| 1 + i * i % 4);
    column("coded", &|i| if i % 7 == 0 { 99 } else { i * i % 13 });
    let first =
        std::fs::read_to_string(path("a.tsv")).unwrap().split(['\t', '\n']).nth(1).unwrap().to_owned();
    let one = format!("traits = [\"{first}\"]");
    let data = [
        ("store", "store = \"a.h5\"", "store = \"b.h5\""),
        ("pheno", "pheno = \"a.tsv\"", "pheno = \"b.tsv\""),
        ("traits", "", one.as_str()),
        ("covar", "", "covar = \"herd.tsv\""),
        ("qcovar", "", "qcovar = \"age.tsv\""),
        ("features", "", "features = \"herd.tsv\""),
        ("weights", "", "weights = \"weight.tsv\""),
        ("missing", "pheno = \"coded.tsv\"", "pheno = \"coded.tsv\"\nmissing = \"99\""),
    ];
    let rest = [
        ("title", "", "title = \"Another\""),
        ("reference", "", "reference = \"H\""),
        ("margin", "", "margin = 0.9"),
    ];
    let bootstrap = [("replicates", "", "[bootstrap]\nreplicates = 30")];
    let report = [("genotypes", "", "[report]\ngenotypes = true"), ("models", "", "[report]\nmodels = true")];
    assert_all::<StudyConfig>("[data]", &data, &[]);
    assert_all::<StudyConfig>(
        "",
        &rest,
        &["data", "import", "simulate", "model", "validation", "bootstrap", "report"],
    );
    assert_all::<StudyConfig>("[bootstrap]", &bootstrap, &[]);
    assert_all::<StudyConfig>("[report]", &report, &[]);
    let run = |top: &str, data: &str, tables: &str| {
        let own = |key: &str, line: &'static str| if data.contains(key) { "" } else { line };
        let store = own("store =", "store = \"a.h5\"\n");
        let pheno = own("pheno =", "pheno = \"a.tsv\"\n");
        let with = |name: &str, lines: &'static str| if tables.contains(name) { "" } else { lines };
        let bootstrap = with("[bootstrap]", "[bootstrap]\nreplicates = 20\n");
        let report = with("[report]", "[report]\ngenotypes = false\n");
        let text = format!(
            "{top}\n[data]\n{store}{pheno}{data}\n[[model]]\nname = \"G\"\nh2 = 0.4\n[[model]]\nname = \"H\"\nh2 = 0.9\n\
             [[model]]\nname = \"B\"\nkind = \"boosting\"\nrounds = 3\nreplicates = 1\nmin_animals = 4\n[[validation]]\nscheme = \"random\"\n\
             folds = 2\n{bootstrap}{report}{tables}\n"
        );
        std::fs::write(path("s.toml"), text).unwrap();
        succeeds(1, &["study", &path("s.toml"), "--out", &path("out"), "--force", "-q"]);
        let title = std::fs::read_to_string(path("out/report.html")).unwrap().contains("Another");
        let pictures = support::listing(&dir.path().join("out/pictures"));
        let tables = ["scores.tsv", "comparisons.tsv"]
            .map(|name| std::fs::read_to_string(path(&format!("out/{name}"))).unwrap());
        (tables, title, pictures, dir.path().join("out/models").exists())
    };
    for (key, a, b) in data {
        assert!(run("", a, "") != run("", b, ""), "`data.{key}` changes nothing");
    }
    for (key, a, b) in rest {
        assert!(run(a, "", "") != run(b, "", ""), "`{key}` changes nothing");
    }
    for (key, a, b) in bootstrap.into_iter().chain(report) {
        assert!(run("", "", a) != run("", "", b), "`{key}` changes nothing");
    }
}
