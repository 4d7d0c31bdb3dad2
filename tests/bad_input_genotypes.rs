//! Wrong genotype files: one clear sentence on standard error, exit code 2, and nothing left behind.

mod support;

use flate2::write::GzEncoder;
use std::io::Write;
use std::path::Path;

/// A case: name, arguments, and words that the message must hold.
struct Case {
    name: &'static str,
    args: &'static [&'static str],
    words: &'static [&'static str],
}

const fn case(name: &'static str, args: &'static [&'static str], words: &'static [&'static str]) -> Case {
    Case { name, args, words }
}

const CASES: &[Case] = &[
    case("truncated .bed", &["import", "short.bed"], &["short.bed", "expected 11 bytes", "found 10"]),
    case("wrong magic", &["import", "magic.bed"], &["magic.bed", "SNP-major PLINK 1 .bed", "--format"]),
    case("animal-major .bed", &["import", "major.bed"], &["major.bed", "animal-major", "plink"]),
    case("empty .bed", &["import", "empty.bed"], &["empty.bed", "less than three bytes"]),
    case("counts disagree", &["import", "fewer.bed"], &["fewer.bed", "4 animals", "3 SNPs"]),
    case("missing .bim", &["import", "nobim.bed"], &["nobim.bim", "side by side"]),
    case("five columns in .bim", &["import", "five.bed"], &["five.bim line 2", "six columns", "found 5"]),
    case("duplicate animal in .fam", &["import", "twins.bed"], &["twins.fam", "a1", "number 1 and number 2"]),
    case("duplicate SNP in .bim", &["import", "dupsnp.bed"], &["dupsnp.bim", "s1"]),
    case("all calls of a SNP missing", &["import", "nocall.bed"], &["SNP s2", "--call-rate"]),
    case("no such file", &["import", "nothing.bed"], &["nothing.bed", "nothing there"]),
    case("a folder", &["import", "folder.tsv"], &["folder.tsv", "a folder"]),
    case("unknown ending", &["import", "a.xyz"], &["a.xyz", "--format"]),
    case(
        "more columns than the header",
        &["import", "wide.tsv"],
        &["wide.tsv line 3", "3 columns", "found 4"],
    ),
    case("fewer columns", &["import", "narrow.tsv"], &["narrow.tsv line 2", "found 2"]),
    case("no header", &["import", "headless.tsv"], &["headless.tsv line 1", "id"]),
    case("NaN", &["import", "nan.tsv"], &["nan.tsv line 2 column 3", "NaN"]),
    case("infinite", &["import", "inf.tsv"], &["inf.tsv line 2 column 2", "inf"]),
    case("a letter", &["import", "letter.tsv"], &["letter.tsv line 3 column 2", "AG"]),
    case("dosage of 3", &["import", "three.tsv"], &["three.tsv line 2 column 2", "0 to 2"]),
    case("animal twice", &["import", "twice.tsv"], &["twice.tsv", "a1"]),
    case("empty text", &["import", "empty.tsv"], &["empty.tsv", "empty file"]),
    case("header alone", &["import", "alone.tsv"], &["alone.tsv", "animals below the header"]),
    case("truncated gzip", &["import", "cut.tsv.gz"], &["cut.tsv.gz", "ends too early"]),
    case("VCF without its first line", &["import", "bare.vcf"], &["bare.vcf line 1", "##fileformat=VCF"]),
    case("VCF without column names", &["import", "names.vcf"], &["names.vcf line 2", "#CHROM"]),
    case("VCF genotype", &["import", "bad.vcf"], &["bad.vcf line 3 column 10", "0/7"]),
    case("VCF columns", &["import", "cols.vcf"], &["cols.vcf line 3", "11 columns"]),
    case("VCF without GT", &["import", "nogt.vcf"], &["nogt.vcf line 3", "GT"]),
    case("BIMBAM of unequal lines", &["import", "a.bimbam"], &["a.bimbam line 2", "2 dosages", "found 3"]),
    case("RAW of AD", &["import", "ad.raw"], &["ad.raw line 1", "s1_HET"]),
    case("NumPy truncated", &["import", "cut.npy"], &["cut.npy", "2 × 2"]),
    case("not NumPy", &["import", "text.npy"], &["text.npy", "NumPy"]),
    case("no animals left", &["import", "good.bed", "--chromosomes", "7"], &["--chromosomes 7", "SNPs"]),
    case("wrong range", &["import", "good.bed", "--chromosomes", "9-1"], &["--chromosomes", "1-29,X"]),
    case("wrong date", &["import", "good.bed", "--animals", "date.tsv"], &["date.tsv", "2019-04-30"]),
    case("unknown column", &["import", "good.bed", "--animals", "colour.tsv"], &["colour.tsv", "colour"]),
    case("existing output", &["import", "good.bed", "--out", "there.h5"], &["there.h5", "--force"]),
    case("no output folder", &["import", "good.bed", "--out", "no/such/a.h5"], &["no/such/a.h5", "folder"]),
    case("truncated store", &["info", "cut.h5"], &["cut.h5", "truncated"]),
    case("no store", &["export", "text.h5", "--format", "bed"], &["text.h5", "genotype store"]),
    case("a folder as store", &["info", "folder.tsv"], &["folder.tsv", "a folder"]),
];

/// The wrong files, one small set for each case.
fn lay_out(dir: &Path) {
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.join(name), bytes).unwrap();
    // five animals at four SNPs: two bytes a SNP
    let fam = "f a1 0 0 1 -9\nf a2 0 0 2 -9\nf a3 0 0 0 -9\nf a4 0 0 0 -9\nf a5 0 0 0 -9\n";
    let bim = "1 s1 0 10 A B\n1 s2 0 20 A B\n1 s3 0 30 A B\n2 s4 0 40 A B\n";
    let bed: &[u8] = &[0x6C, 0x1B, 1, 0xFE, 0, 0xEF, 0, 0xBA, 0, 0xAB, 0];
    let plink = |name: &str, bed: &[u8], bim: &str, fam: &str| {
        write(&format!("{name}.bed"), bed);
        write(&format!("{name}.bim"), bim.as_bytes());
        write(&format!("{name}.fam"), fam.as_bytes());
    };
    plink("good", bed, bim, fam);
    plink("short", &bed[..10], bim, fam);
    plink("magic", &[&[1, 2, 3], &bed[3..]].concat(), bim, fam);
    plink("major", &[&[0x6C, 0x1B, 0], &bed[3..]].concat(), bim, fam);
    plink("empty", b"", bim, fam);
    let without_last = |text: &str| text.trim_end().rsplit_once('\n').unwrap().0.to_owned() + "\n";
    plink("fewer", bed, &without_last(bim), &without_last(fam));
    plink("nobim", bed, bim, fam);
    std::fs::remove_file(dir.join("nobim.bim")).unwrap();
    plink("five", bed, &bim.replace("1 s2 0 20", "1 s2 20"), fam);
    plink("twins", bed, bim, &fam.replace("a2", "a1"));
    plink("dupsnp", bed, &bim.replace("s4", "s1"), fam);
    plink("nocall", &[&bed[..5], &[0x55, 1], &bed[7..]].concat(), bim, fam);
    std::fs::create_dir(dir.join("folder.tsv")).unwrap();
    write("a.xyz", b"?");
    for (name, text) in [
        ("wide.tsv", "id\ts1\ts2\na1\t0\t1\na2\t0\t1\t2\n"),
        ("narrow.tsv", "id\ts1\ts2\na1\t0\n"),
        ("headless.tsv", "a1\t0\t1\na2\t0\t1\n"),
        ("nan.tsv", "id\ts1\ts2\na1\t0\tNaN\n"),
        ("inf.tsv", "id\ts1\ts2\na1\tinf\t0\n"),
        ("letter.tsv", "id\ts1\ts2\na1\t0\t1\na2\tAG\t1\n"),
        ("three.tsv", "id\ts1\ts2\na1\t3\t1\n"),
        ("twice.tsv", "id\ts1\na1\t0\na1\t1\n"),
        ("empty.tsv", ""),
        ("alone.tsv", "id\ts1\n"),
        ("bare.vcf", "#CHROM\tPOS\n"),
        ("names.vcf", "##fileformat=VCFv4.2\n1\t5\t.\tA\tB\n"),
        ("a.bimbam", "s1, A, B, 0, 1\ns2, A, B, 0, 1, 2\n"),
        ("ad.raw", "FID IID PAT MAT SEX PHENOTYPE s1_A s1_HET\n"),
        ("text.npy", "no array at all"),
        ("date.tsv", "id\tbirth_date\na1\t30.4.2019\n"),
        ("colour.tsv", "id\tcolour\na1\tred\n"),
        ("there.h5", "old"),
        ("text.h5", "no HDF5"),
    ] {
        write(name, text.as_bytes());
    }
    let head = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta1\ta2\n";
    let line = "1\t5\t.\tA\tB\t.\t.\t.\tGT\t0/0\t0/1\n";
    write("bad.vcf", format!("{head}{}", line.replace("0/0", "0/7")).as_bytes());
    write("cols.vcf", format!("{head}{}", line.replace("\t0/1", "")).as_bytes());
    write("nogt.vcf", format!("{head}{}", line.replace("GT", "DS")).as_bytes());
    let mut zip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let animals: String = (0..500).map(|i| format!("a{i}\t{}\n", i % 3)).collect();
    zip.write_all(format!("id\ts1\n{animals}").as_bytes()).unwrap();
    let zipped = zip.finish().unwrap();
    write("cut.tsv.gz", &zipped[..zipped.len() - 12]);
    let dictionary = "{'descr': '|i1', 'fortran_order': False, 'shape': (2, 2), }\n";
    let mut array = b"\x93NUMPY\x01\x00".to_vec();
    array.extend((dictionary.len() as u16).to_le_bytes());
    array.extend(dictionary.bytes());
    array.extend([0, 1, 2]);
    write("cut.npy", &array);
    stores(dir);
}

/// Half a store.
fn stores(dir: &Path) {
    support::succeeds(1, &["import", &path(dir, "good.bed"), "--out", &path(dir, "whole.h5")]);
    let whole = std::fs::read(dir.join("whole.h5")).unwrap();
    std::fs::write(dir.join("cut.h5"), &whole[..whole.len() / 2]).unwrap();
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().unwrap().to_owned()
}

/// Runs one case; returns what is wrong with it.
fn complaint(dir: &Path, case: &Case, ranks: usize) -> Option<String> {
    let mut command = support::genialearn(ranks);
    command.current_dir(dir).args(case.args);
    if case.args[0] != "info" && !case.args.contains(&"--out") {
        command.args(["--out", "new.h5"]);
    }
    let before = support::listing(dir);
    let out = support::run_alone(command);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    let errors: Vec<&str> = text.lines().filter(|l| l.starts_with("error:")).collect();
    let problem = if out.status.code() != Some(2) {
        format!("exit {:?}", out.status.code())
    } else if errors.len() != 1 {
        format!("{} lines of error", errors.len())
    } else if let Some(word) = case.words.iter().find(|w| !errors[0].contains(**w)) {
        format!("no word of {word:?}")
    } else if support::listing(dir) != before {
        format!("left behind {:?}", support::listing(dir).difference(&before).collect::<Vec<_>>())
    } else {
        return None;
    };
    Some(format!("{} on {ranks} ranks: {problem}\n{text}", case.name))
}

#[test]
fn every_wrong_file_gets_one_sentence_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    lay_out(dir.path());
    let complaints: Vec<String> = CASES.iter().filter_map(|c| complaint(dir.path(), c, 1)).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn on_several_ranks_too() {
    let dir = tempfile::tempdir().unwrap();
    lay_out(dir.path());
    let complaints: Vec<String> = CASES.iter().filter_map(|c| complaint(dir.path(), c, 2)).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// Files without permission cannot be tried by root, who may read everything.
#[test]
fn a_file_without_permission_is_wrong_input() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.tsv");
    std::fs::write(&file, "id\ts1\na1\t0\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::read(&file).is_ok() {
        println!("not run: this user may read every file");
        return;
    }
    let case = case("no permission", &["import", "a.tsv"], &["a.tsv", "permission"]);
    assert_eq!(complaint(dir.path(), &case, 1), None);
}
