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
            // HDF5's own way of reading accepts the chunks and their checksums
            let plain = Store { chunks: None, ..store };
            assert_eq!(plain.read(0..n, 0..m).unwrap(), calls, "{n} x {m} through HDF5");
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
