//! Genotypes into a store and out again, in every format, and beside other programs.

mod support;

use genialearn::genotype::{Store, StoreWriter};
use genialearn::packed::{Packed, MISSING};
use genialearn::rng::{Purpose, Stream};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Not multiples of four; several tiles of both; more SNPs than a panel of 1,024, more animals than a chunk of
/// 1,024.
const SIZES: [(usize, usize); 4] = [(7, 5), (1027, 9), (301, 70), (6, 1030)];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A store of random calls, a tenth missing, with pedigree, dates, sexes and groups.
fn herd(path: &Path, n: usize, m: usize) -> Packed {
    let mut s = Stream::new(11, Purpose::Test, (n * m) as u64);
    let codes: Vec<u8> =
        (0..n * m).map(|_| if s.below(10) == 0 { MISSING } else { s.below(3) as u8 }).collect();
    let calls = Packed::from_codes(n, m, &codes);
    let name = |i: usize| format!("cow{i}");
    let mut animals = genialearn::genotype::Animals::named((0..n).map(name).collect());
    for i in 0..n {
        animals.sex[i] = (i % 3) as u8;
        animals.group[i] = if i % 5 == 0 { String::new() } else { format!("herd{}", i % 4) };
        if i > 2 {
            animals.sire[i] = name(i / 2);
            animals.birth_date[i] = format!("20{:02}-0{}-17", i % 20, 1 + i % 9);
        }
    }
    let mut variants = genialearn::genotype::Variants::default();
    for j in 0..m {
        let chromosome = (1 + 29 * j / m).to_string();
        variants.push(format!("snp{j}"), &chromosome, 100 + j as u64, f64::NAN, ["A", "G"]);
    }
    for (j, t) in calls.tally_columns().iter().enumerate() {
        variants.frequency[j] = genialearn::packed::frequency(t).expect("some call");
        variants.missing[j] = t[3];
    }
    let mut writer = StoreWriter::create(path, n, m, true).unwrap();
    writer.write_rows(0, &calls).unwrap();
    writer.finish(&animals, &variants).unwrap();
    calls
}

fn read(path: &Path) -> (Store, Packed) {
    let store = Store::open(path).unwrap();
    let calls = store.read(0..store.n_animals(), 0..store.n_variants()).unwrap();
    (store, calls)
}

#[test]
fn what_is_exported_comes_back_the_same_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (n, m) in SIZES {
        let store = at("herd.h5");
        let calls = herd(&store, n, m);
        let (original, _) = read(&store);
        for format in ["bed", "vcf", "npy", "raw"] {
            let prefix = at(format);
            let args =
                ["export", text(&store), "--format", format, "--out", text(&prefix), "--force", "--quiet"];
            support::succeeds(1, &args);
            let (file, back) = (at(&format!("{format}.{format}")), at("back.h5"));
            let mut args = vec!["import", text(&file), "--out", text(&back), "--force", "--quiet"];
            let table = at("npy.animals.tsv");
            if format == "npy" {
                args.extend(["--animals", text(&table)]);
            }
            support::succeeds(1, &args);
            let (store, found) = read(&back);
            assert_eq!(found, calls, "{format} of {n} x {m}");
            assert_eq!(store.animals().id, original.animals().id, "{format}");
            assert_eq!(store.variants().missing, original.variants().missing, "{format}");
            assert_eq!(store.variants().frequency, original.variants().frequency, "{format}");
            if format != "npy" {
                assert_eq!(store.variants().id, original.variants().id, "{format}");
                assert_eq!(store.variants().counted_allele, original.variants().counted_allele);
            }
            if format == "bed" || format == "raw" {
                assert_eq!(store.animals().sire, original.animals().sire);
                assert_eq!(store.animals().sex, original.animals().sex);
            }
            if format == "npy" {
                assert_eq!(store.animals(), original.animals());
            }
        }
    }
}

#[test]
fn text_dosages_and_bimbam_round_and_count() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("a.tsv"), "id\ts1\ts2\nx\t0\tNA\ny\t1.2\t2\nz\t2\t0.6\n").unwrap();
    std::fs::write(at("a.bimbam"), "s1, A, T, 0, 1.2, 2\ns2 ,A,T,NA,2,0.6\n").unwrap();
    for name in ["a.tsv", "a.bimbam"] {
        let out = at("a.h5");
        let said = support::succeeds(1, &["import", text(&at(name)), "--out", text(&out), "--force"]);
        assert!(said.contains("2 of 6 dosages"), "{said}");
        assert_eq!(read(&out).1, Packed::from_codes(3, 2, &[0, 3, 1, 2, 2, 1]), "{name}");
    }
}

#[test]
fn filters_leave_what_they_should_on_any_number_of_ranks() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    // s1 common; s2 rare; s3 half missing; s4 on X; animal e is called at half the SNPs
    let tsv = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\tb\tc\td\te\n\
        1\t1\ts1\tA\tG\t.\t.\t.\tGT\t0/0\t0|1\t1/1\t0/1\t0/0\n\
        1\t2\ts2\tA\tG\t.\t.\t.\tGT\t0/0\t0/0\t0/0\t0/0\t0/1\n\
        2\t3\ts3\tA\tG\t.\t.\t.\tGT\t./.\t./.\t0/1\t0/1\t./.\n\
        2\t4\tmany\tA\tG,T\t.\t.\t.\tGT\t0/0\t0/2\t1/1\t0/1\t0/0\n\
        X\t5\ts4\tA\tG\t.\t.\t.\tGT\t0/0\t0/1\t1/1\t0/1\t./.\n";
    std::fs::write(at("a.vcf"), tsv).unwrap();
    for ranks in [1, 3] {
        let (source, out) = (at("a.vcf"), at("a.h5"));
        let mut args = vec!["import", text(&source), "--out", text(&out), "--force"];
        args.extend([
            "--chromosomes",
            "all",
            "--animal-call-rate",
            "0.6",
            "--call-rate",
            "0.6",
            "--maf",
            "0.05",
        ]);
        let said = support::succeeds(ranks, &args);
        assert!(said.contains("1 lines with several ALT alleles"), "{said}");
        let (store, calls) = read(&out);
        assert_eq!(store.animals().id, ["a", "b", "c", "d"]);
        assert_eq!(store.variants().id, ["s1", "s4"]);
        assert_eq!(calls, Packed::from_codes(4, 2, &[0, 0, 1, 1, 2, 2, 1, 1]));
        assert_eq!(store.variants().frequency, [0.5, 0.5]);
        let table = std::fs::read_to_string(at("a.import.tsv")).unwrap();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines[1..],
            [
                "(source)\t0\t0\t5\t4",
                "--chromosomes all\t0\t0\t5\t4",
                "--animal-call-rate 0.6\t1\t0\t4\t4",
                "--call-rate 0.6\t0\t1\t4\t3",
                "--maf 0.05\t0\t1\t4\t2"
            ]
        );
        assert!(at("a.run.json").exists());
        let info = support::succeeds(ranks, &["info", text(&out), "--json"]);
        let facts: serde_json::Value = serde_json::from_str(&info).unwrap();
        assert_eq!(
            (&facts["animals"]["number"], &facts["snps"]["by_chromosome"]["X"]),
            (&4.into(), &1.into())
        );
    }
}

/// h5py reads the store and unpacks the same calls.
#[test]
fn python_reads_the_store() {
    let script = "import sys, h5py, numpy as np\n\
        f = h5py.File(sys.argv[1], 'r'); g = f['genotypes'][:]; m = int(f.attrs['n_variants'])\n\
        x = np.stack([g >> (2 * k) & 3 for k in range(4)], -1).reshape(len(g), -1)[:, :m]\n\
        assert f.attrs['format'] == b'genialearn-genotypes' and f.attrs['n_animals'] == len(x)\n\
        ids = f['animals/id'][:].tobytes().decode().split('\\n')[:-1]\n\
        assert ids[3] == 'cow3' and f['variants/position'][2] == 102\n\
        assert ((x == 3).sum(0) == f['variants/missing'][:]).all()\n\
        print(','.join(map(str, x.ravel())))\n";
    let Some(python) = ["/usr/bin/python3", "python3"]
        .into_iter()
        .find(|p| Command::new(p).args(["-c", "import h5py"]).output().is_ok_and(|o| o.status.success()))
    else {
        println!("not run: python3 has no h5py");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.h5");
    let calls = herd(&path, 9, 11);
    let out = Command::new(python).args(["-c", script, text(&path)]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let found: Vec<u8> =
        String::from_utf8(out.stdout).unwrap().trim().split(',').map(|c| c.parse().unwrap()).collect();
    assert_eq!(Packed::from_codes(9, 11, &found), calls);
}

/// Runs plink2 and reads the columns named from the table that it writes; `None` when it is not there.
fn plink2(dir: &Path, args: &[&str], ending: &str, columns: &[&str]) -> Option<Vec<Vec<String>>> {
    let out = Command::new("plink2").current_dir(dir).args(args).args(["--out", "p"]).output().ok()?;
    assert!(out.status.success(), "plink2: {}", String::from_utf8_lossy(&out.stderr));
    let table = std::fs::read_to_string(dir.join(format!("p.{ending}"))).unwrap();
    let mut lines = table.lines().map(|l| l.split('\t').map(str::to_owned).collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let places: Vec<usize> =
        columns.iter().map(|c| header.iter().position(|h| h == c).expect("the column")).collect();
    Some(lines.map(|l| places.iter().map(|&p| l[p].clone()).collect()).collect())
}

#[test]
fn plink2_counts_the_same_alleles_and_finds_the_same_equilibrium() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    herd(&at("herd.h5"), 101, 60);
    let (herd_file, prefix) = (at("herd.h5"), at("x"));
    support::succeeds(1, &["export", text(&herd_file), "--format", "bed", "--out", text(&prefix), "--quiet"]);
    let base = ["--bfile", "x", "--chr-set", "29", "--nonfounders"];
    let freq = [&base[..], &["--freq", "counts"]].concat();
    let Some(counts) = plink2(dir.path(), &freq, "acount", &["ID", "ALT", "ALT_CTS", "OBS_CT"]) else {
        println!("not run: plink2 is not installed");
        return;
    };
    let (store, calls) = read(&at("herd.h5"));
    let tallies = calls.tally_columns();
    for (j, line) in counts.iter().enumerate() {
        let t = tallies[j];
        assert_eq!(line[0], store.variants().id[j]);
        let counted = if line[1] == "A" { t[1] + 2 * t[2] } else { t[1] + 2 * t[0] };
        assert_eq!(line[2..], [counted.to_string(), (2 * (t[0] + t[1] + t[2])).to_string()]);
    }
    let hardy = [&base[..], &["--hardy"]].concat();
    let p = plink2(dir.path(), &hardy, "hardy", &["HET_A1_CT", "P"]).unwrap();
    for (j, line) in p.iter().enumerate() {
        let theirs: f64 = line[1].parse().unwrap();
        let ours = genialearn::genotype::quality::hwe_p(&tallies[j]);
        assert_eq!(line[0], tallies[j][1].to_string());
        // plink2 prints six digits
        assert!((ours - theirs).abs() <= 2e-5 * theirs, "{ours} {theirs}");
    }
}

#[test]
fn gemmas_dosages_are_the_same_mice_as_plinks() {
    let Some(bed) = support::shared("data/mice_hs1940/mice_hs1940.bed") else { return };
    let Some(bimbam) = support::shared("data/mice_hs1940/GEMMA_mouse_hs1940.geno.txt.gz") else { return };
    let dir = tempfile::tempdir().unwrap();
    let stores: Vec<Packed> = [bed, bimbam]
        .iter()
        .map(|source| {
            let out = dir.path().join("mice.h5");
            support::succeeds(1, &["import", text(source), "--out", text(&out), "--force", "--quiet"]);
            read(&out).1
        })
        .collect();
    let (n, m) = (stores[0].rows(), stores[0].columns());
    assert_eq!((stores[1].rows(), stores[1].columns()), (n, m));
    let differ =
        (0..n).map(|i| (0..m).filter(|&j| stores[0].get(i, j) != stores[1].get(i, j)).count()).sum::<usize>();
    println!("{differ} of {} calls differ", n * m);
    assert!((differ as f64) < 0.001 * (n * m) as f64, "{differ} of {} calls differ", n * m);
}

#[test]
fn a_plink_import_notes_all_three_files_and_leaves_no_older_table_of_filters() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    herd(&at("herd.h5"), 40, 30);
    let (store, prefix, bed, out) = (at("herd.h5"), at("x"), at("x.bed"), at("y.h5"));
    support::succeeds(1, &["export", text(&store), "--format", "bed", "--out", text(&prefix)]);
    support::succeeds(1, &["import", text(&bed), "--out", text(&out), "--chromosomes", "1-5"]);
    support::succeeds(1, &["import", text(&bed), "--out", text(&out), "--force"]);
    let table = std::fs::read_to_string(at("y.import.tsv")).unwrap();
    assert_eq!(table.lines().skip(1).collect::<Vec<_>>(), ["(source)\t0\t0\t40\t30"]);
    let record = std::fs::read_to_string(at("y.run.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let noted: Vec<&str> =
        record["inputs"].as_array().unwrap().iter().map(|i| i["path"].as_str().unwrap()).collect();
    assert_eq!(noted, [text(&bed), text(&at("x.bim")), text(&at("x.fam"))]);
    let bim = std::fs::read(at("x.bim")).unwrap();
    assert_eq!(record["inputs"][1]["crc32"], format!("{:08x}", crc32fast::hash(&bim)));
}

#[test]
fn info_explains_relationship_matrices_and_models() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    herd(&at("herd.h5"), 40, 30);
    let traits: String = (0..40).map(|i| format!("cow{i}\t{}\n", i * 7 % 11)).collect();
    std::fs::write(at("traits.tsv"), format!("id\tmilk\n{traits}")).unwrap();
    let [store, pheno, grm, prefix, model] =
        ["herd.h5", "traits.tsv", "g.h5", "m", "m.model.h5"].map(|name| text(&at(name)).to_owned());
    support::succeeds(1, &["grm", &store, "--out", &grm]);
    support::succeeds(1, &["gblup", &store, "--pheno", &pheno, "--h2", "0.3", "--out", &prefix]);
    for (file, kind, shape) in [
        (&grm, "genomic relationship matrix", "1 x 40 x 40"),
        (&model, "model (gblup): Genomic BLUP, each trait by itself or all in one model", "30 x 1"),
    ] {
        let facts = support::succeeds(1, &["info", file, "--json"]);
        let json: serde_json::Value = serde_json::from_str(&facts).unwrap();
        assert_eq!(json["kind"], *kind, "{facts}");
        let shapes: Vec<&str> =
            json["datasets"].as_object().unwrap().values().map(|s| s.as_str().unwrap()).collect();
        assert!(shapes.contains(&shape), "{facts}");
        let plain = support::succeeds(1, &["info", file]);
        assert!(plain.contains(&format!("kind: {kind}")) && plain.contains(shape), "{plain}");
    }
}
