//! Damaged files of every text format, and NumPy's: a reader returns an error or genotypes that are whole, and never
//! panics.

use super::source::{Format, Source};
use super::{animals, chromosome, plink};
use crate::comm::World;
use crate::config;
use crate::packed::Packed;
use crate::records::table::Table;
use crate::records::{Columns, Phenotypes, Sources};
use proptest::prelude::*;
use std::path::Path;

const VCF: &str = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\tb c\td\n\
    1\t5\t.\tA\tG\t.\t.\t.\tGT:DP\t0/0:3\t0|1:1\t./.\nchrX\t6\ts2\tA\tT\t.\t.\t.\tGT\t1\t1/1\t0/1\n";
const TSV: &str = "id\ts1\ts2\ts3\na\t0\t1\tNA\nb \t2\t1.5\t-9\nc\t2\t0\t.\n";
const RAW: &str = "FID IID PAT MAT SEX PHENOTYPE s1_A s2_G(/T)\nf a 0 0 1 -9 0 NA\ng b a . 2 1.5 2 1\n";
const BIMBAM: &str = "s1, A, T, 0, 1.2, 2,\ns2 A\tT NA,2,0.6 \n";
const BIM: &str = "1\ts1\t0\t10\tA\tC\nX s2 0.5 -1 0 G\n\t.\t0\t7\tT\t.\n";
const FAM: &str = "f a 0 0 1 -9\ng\tb\ta\t0\t2\t1\n";
const RECORDS: &str = "#FID IID milk sex fat\nf a 1.5 m -9\nf b 2 f -9.0\ng c . f 1e3\n";
const HEADLESS: &str = "f a 1.5 NA\nf b 2 3\ng c 4 5\n";
const ANIMALS: &str = "id\tbirth_date\tsire\tdam\tsex\tgroup\na\t2020-02-29\t0\t.\tm\tf\nb\tNA\ta\t\t2\tg\n";
const TOML: &str = "source = \"a.bed\"\nmaf = 0.01\nchromosomes = \"1-29,X\"\n";

fn npy() -> Vec<u8> {
    let mut bytes = Vec::new();
    super::npy::write_header(2, 3, &mut bytes).expect("a vector");
    bytes.extend([0, 1, 2, 0xFF, 3, 0]);
    bytes
}

/// One change of a file: a byte replaced, inserted or removed, a piece repeated, or the end cut off.
#[derive(Debug, Clone)]
enum Change {
    Replace(u8),
    Insert(u8),
    Remove,
    Repeat(usize),
    Cut,
}

fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), prop::sample::select(b"\t\n\r ,.-/|:#0129AN\0\xEF\"'=[]".to_vec())]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => byte().prop_map(Change::Replace),
        3 => byte().prop_map(Change::Insert),
        3 => Just(Change::Remove),
        1 => (1..40usize).prop_map(Change::Repeat),
        1 => Just(Change::Cut),
    ]
}

/// `whole` with one to four changes, or bytes of any kind.
fn damaged(whole: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), change()), 1..5);
    let mutated = changes.prop_map(move |changes| {
        let mut bytes = whole.clone();
        for (at, change) in changes.iter().filter(|_| !whole.is_empty()) {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match change {
                Change::Replace(byte) => bytes[at] = *byte,
                Change::Insert(byte) => bytes.insert(at, *byte),
                Change::Remove => drop(bytes.remove(at)),
                Change::Repeat(length) => {
                    let piece = bytes[at..bytes.len().min(at + length)].to_vec();
                    bytes.splice(at..at, piece);
                }
                Change::Cut => bytes.truncate(at),
            }
        }
        bytes
    });
    prop_oneof![9 => mutated, 1 => prop::collection::vec(byte(), 0..200)]
}

/// Runs `read` on many damaged copies of `whole`.
fn survives(name: &str, whole: &[u8], read: impl Fn(&Path)) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join(name);
    let settings = ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
    std::fs::write(&path, whole).expect("room");
    read(&path);
    proptest!(settings, |(bytes in damaged(whole.to_vec()))| {
        std::fs::write(&path, &bytes).expect("room");
        read(&path);
    });
}

/// Names are unique, not empty and without blanks at their ends or control characters.
fn are_names(names: &[String]) -> bool {
    let unique: std::collections::HashSet<&String> = names.iter().collect();
    let good = |name: &String| !name.is_empty() && name.trim() == name && !name.contains(|c: char| c < ' ');
    unique.len() == names.len() && names.iter().all(good)
}

/// What is accepted has a call for every animal and SNP, and names for both.
fn are_whole(source: &dyn Source) -> bool {
    let (n, m) = (source.animals().len(), source.variants().len());
    let mut panel = Packed::missing(0, 0);
    source.read(&(0..m).collect::<Vec<_>>(), &mut panel).expect("what was read once");
    let shape = (panel.rows(), panel.columns()) == (m, n) && n > 0 && m > 0;
    shape && are_names(&source.animals().id) && are_names(&source.variants().id)
}

#[test]
fn damaged_genotypes_are_refused_or_whole() {
    let npy = npy();
    let files: [(&str, &[u8]); 5] = [
        ("a.vcf", VCF.as_bytes()),
        ("a.tsv", TSV.as_bytes()),
        ("a.raw", RAW.as_bytes()),
        ("a.bimbam", BIMBAM.as_bytes()),
        ("a.npy", &npy),
    ];
    for (name, whole) in files {
        survives(name, whole, |path| {
            if let Ok(source) = Format::of(path).and_then(|format| format.open(path, None)) {
                assert!(are_whole(source.as_ref()));
            }
        });
    }
    survives("a.bim", BIM.as_bytes(), |path| {
        assert!(plink::read_bim(path).map_or(true, |v| are_names(&v.id)))
    });
    survives("a.fam", FAM.as_bytes(), |path| {
        assert!(plink::read_fam(path).map_or(true, |a| are_names(&a.id)))
    });
}

#[test]
fn damaged_tables_lists_and_configurations_are_refused_or_read() {
    let herd = super::Animals::named(["a", "b", "c"].map(String::from).to_vec());
    for whole in [RECORDS, HEADLESS] {
        survives("records", whole.as_bytes(), |path| {
            let phenotypes = Columns { path: path.to_owned(), names: Vec::new() };
            let sources = Sources { phenotypes, missing: Some("-9".into()), ..Sources::default() };
            if let Ok(records) = Phenotypes::read(&World::alone(), &herd.id, &sources) {
                assert!(records.y.iter().all(|y| y.is_nan() || (y.abs() <= 1e150 && *y != -9.0)));
                assert!(!records.traits.iter().any(|t| t.eq_ignore_ascii_case("fid") || t == "sex"));
            }
        });
    }
    survives("animals", ANIMALS.as_bytes(), |path| {
        if let Ok(table) = animals::read(path) {
            assert!(are_names(&table.id));
        }
    });
    survives("trait", b"trait\th2\nmilk\t0.3\n", |path| {
        let _ = Table::read_keyed(path, &["trait"], None);
    });
    survives("list", b"#FID IID\nf a\nb\n\xEF\xBB\xBF c\n", |path| {
        let _ = super::quality::read_list(path, &["id", "fid"], 1, &herd.id);
    });
    survives("import.toml", TOML.as_bytes(), |path| {
        let _ = config::read::<super::import::ImportConfig>(path).and_then(|import| import.check());
    });
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn lists_of_chromosomes_are_refused_or_read(text in "[0-9xX,chr\\- ]{0,12}|\\PC{0,8}") {
        if let Ok(wanted) = chromosome::Wanted::parse(&text) {
            let _ = wanted.has(&text);
        }
        prop_assert_eq!(chromosome::plain(&chromosome::plain(&text)), chromosome::plain(&text));
    }
}
