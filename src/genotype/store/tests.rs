//! Stores written in every way and read in every part.

use super::*;
use crate::rng::{Purpose, Stream};

fn random(n: usize, m: usize) -> Packed {
    let mut s = Stream::new(3, Purpose::Test, (n * 7919 + m) as u64);
    let codes: Vec<u8> = (0..n * m).map(|_| s.below(4) as u8).collect();
    Packed::from_codes(n, m, &codes)
}

fn lists(n: usize, m: usize) -> (Animals, Variants) {
    let names = |p: &str, k: usize| (0..k).map(|i| format!("{p}{i}")).collect::<Vec<_>>();
    let variants = Variants {
        chromosome: names("chr", m),
        position: (0..m as u64).collect(),
        id: names("snp", m),
        counted_allele: names("A", m),
        other_allele: names("B", m),
        cm: vec![f64::NAN; m],
        frequency: vec![0.5; m],
        missing: vec![1; m],
    };
    (Animals::named(names("cow", n)), variants)
}

/// Sizes around a chunk's 1,024 animals and 1,024 SNPs, and not multiples of four.
const SIZES: [(usize, usize); 6] = [(0, 0), (3, 0), (1, 1), (5, 7), (1030, 2051), (2048, 1024)];

#[test]
fn panels_and_rows_give_the_same_store_and_every_part_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    for (n, m) in SIZES {
        let (calls, (animals, variants)) = (random(n, m), lists(n, m));
        let by_rows = dir.path().join("rows.h5");
        let mut writer = StoreWriter::create(&by_rows, n, m, true).unwrap();
        for first in (0..n).step_by(500) {
            let rows: Vec<usize> = (first..n.min(first + 500)).collect();
            writer.write_rows(first, &calls.select(&rows, &(0..m).collect::<Vec<_>>())).unwrap();
        }
        writer.finish(&animals, &variants).unwrap();
        let by_panels = dir.path().join("panels.h5");
        let mut writer = StoreWriter::create(&by_panels, n, m, true).unwrap();
        for first in (0..m).step_by(PANEL) {
            let snps: Vec<usize> = (first..m.min(first + PANEL)).collect();
            writer.write_columns(first, &calls.select(&(0..n).collect::<Vec<_>>(), &snps)).unwrap();
        }
        writer.finish(&animals, &variants).unwrap();
        for path in [by_rows, by_panels] {
            let store = Store::open(&path).unwrap();
            assert_eq!((store.animals(), store.variants().id.as_slice()), (&animals, variants.id.as_slice()));
            assert_eq!(store.read(0..n, 0..m).unwrap(), calls, "{n} x {m}");
            if n > 1000 {
                // a part that begins and ends inside chunks
                let (rows, snps): (Vec<_>, Vec<_>) = ((7..1029).collect(), (512..1023).collect());
                let part = store.read(7..1029, 512..1023).unwrap();
                assert_eq!(part, calls.select(&rows, &snps));
            }
        }
    }
}

#[test]
fn a_flipped_bit_is_found_by_its_checksum() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.h5");
    let (calls, (animals, variants)) = (random(300, 900), lists(300, 900));
    let mut writer = StoreWriter::create(&path, 300, 900, false).unwrap();
    writer.write_rows(0, &calls).unwrap();
    writer.finish(&animals, &variants).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(60).position(|w| w == &calls.row(150)[..60]).expect("the row lies in the file");
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let e = Store::open(&path).unwrap().read(0..300, 0..900).unwrap_err();
    assert!(e.exit_code() == 2 && e.to_string().contains("checksum"), "{e}");
}

/// A whole small store, and all that is in it.
fn small(path: &Path) {
    let (calls, (animals, variants)) = (random(5, 7), lists(5, 7));
    let mut writer = StoreWriter::create(path, 5, 7, true).unwrap();
    writer.write_rows(0, &calls).unwrap();
    writer.finish(&animals, &variants).unwrap();
}

fn everything(path: &Path) -> Result<(Packed, Animals, String)> {
    let store = Store::open(path)?;
    let calls = store.read(0..store.n_animals(), 0..store.n_variants())?;
    Ok((calls, store.animals().clone(), format!("{:?}", store.variants())))
}

#[test]
fn damaged_stores_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.h5");
    small(&path);
    crate::hdf::tests::damage(&path, everything);
}

#[test]
fn lists_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.h5");
    let replaced = |name: &str, bytes: &[u8], word: &str| {
        small(&path);
        crate::hdf::tests::forge(&path, |file| {
            file.unlink(name).unwrap();
            file.new_dataset_builder().with_data(bytes).create(name).unwrap();
        });
        let e = everything(&path).unwrap_err();
        assert!(e.exit_code() == 2 && e.to_string().contains(word), "{name}: {e}");
    };
    replaced("animals/sex", &[0; 4], "different lengths");
    replaced("animals/sex", &[0, 1, 2, 3, 0], "a sex of 3");
    replaced("animals/id", b"a\nb\nb\nc\nd\n", "the animal b twice");
    replaced("animals/id", b"a\nb\nc\nd\n", "different lengths");
    replaced("animals/birth_date", b"\n\nlast May\n\n\n", "last May");
    replaced("variants/frequency", &[2; 7], "frequency of 2");
    replaced("variants/missing", &[6; 7], "6 missing calls");
    replaced("checksums", &[0; 9], "chunks of another number");
    let mut twins = lists(5, 7);
    twins.0.id[1] = twins.0.id[0].clone();
    let writer = StoreWriter::create(&path, 5, 7, true).unwrap();
    assert!(writer.finish(&twins.0, &twins.1).unwrap_err().to_string().contains("cow0 twice"));
}
