//! PLINK 1: `.bed` (SNP-major, two bits a call), `.bim` (SNPs) and `.fam` (animals). The counted allele is A1.

use crate::error::{Error, Result};
use crate::genotype::source::{check_names, known_name, sex_code, variant_name, Source};
use crate::genotype::{Animals, Variants};
use crate::lines::Lines;
use crate::packed::{Packed, PER_BYTE};
use rayon::prelude::*;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// First bytes of a SNP-major `.bed`.
const MAGIC: [u8; 3] = [0x6C, 0x1B, 0x01];
/// SNPs that one thread reads at a time.
const RUN: usize = 32;

/// A `.bed` open for reading in any number of passes.
pub struct Bed {
    path: PathBuf,
    file: File,
    animals: Animals,
    variants: Variants,
}

impl Bed {
    /// Opens `path` (a `.bed`) and reads the `.bim` and `.fam` beside it.
    pub fn open(path: &Path) -> Result<Bed> {
        let fail = |e: std::io::Error| Error::reading(path, &e);
        let file = File::open(path).map_err(fail)?;
        let mut magic = [0; 3];
        let length = file.metadata().map_err(fail)?.len();
        if length < 3 {
            return Err(not_a_bed(path, "a file of less than three bytes", "copy or download it again"));
        }
        file.read_exact_at(&mut magic, 0).map_err(fail)?;
        match magic {
            MAGIC => {}
            [0x6C, 0x1B, 0x00] => {
                let advice = "turn it with `plink --make-bed` (version 1.9)";
                return Err(not_a_bed(path, "an animal-major (sample-major) one", advice));
            }
            other => {
                let found = format!("the first bytes {other:02x?}");
                return Err(not_a_bed(path, &found, "is it another format? name it with --format"));
            }
        }
        let [bim, fam] = beside(path);
        let animals = read_fam(existing(&fam, path)?)?;
        let variants = read_bim(existing(&bim, path)?)?;
        let (n, m) = (animals.len(), variants.len());
        let expected = 3 + m as u64 * n.div_ceil(PER_BYTE) as u64;
        if length != expected {
            return Err(Error::input(
                path.display(),
                format!("{expected} bytes for the {n} animals of the .fam and the {m} SNPs of the .bim"),
                format!("{length}"),
                "the three files do not belong together, or the .bed is truncated: copy them again",
            ));
        }
        Ok(Bed { path: path.to_owned(), file, animals, variants })
    }
}

impl Source for Bed {
    fn animals(&self) -> &Animals {
        &self.animals
    }

    fn animals_mut(&mut self) -> &mut Animals {
        &mut self.animals
    }

    fn variants(&self) -> &Variants {
        &self.variants
    }

    fn variants_mut(&mut self) -> &mut Variants {
        &mut self.variants
    }

    fn read(&self, snps: &[usize], panel: &mut Packed) -> Result<()> {
        panel.resize(snps.len(), self.animals.len());
        let stride = panel.stride();
        let at = |j: usize| 3 + j as u64 * stride as u64;
        let runs = panel.bytes_mut().par_chunks_mut(stride * RUN).zip(snps.par_chunks(RUN));
        runs.try_for_each(|(bytes, snps)| {
            let (first, last) = (snps[0], snps[snps.len() - 1]);
            if last - first + 1 == snps.len() {
                self.file.read_exact_at(bytes, at(first))?;
            } else {
                for (row, &j) in bytes.chunks_exact_mut(stride).zip(snps) {
                    self.file.read_exact_at(row, at(j))?;
                }
            }
            bytes.iter_mut().for_each(|b| *b = counts_of_bed(*b));
            Ok(())
        })
        .map_err(|e: std::io::Error| Error::reading(&self.path, &e))?;
        panel.pad();
        Ok(())
    }
}

/// Four calls: PLINK's 00, 01, 10, 11 (two A1, missing, one, none) to counts 2, 3, 1, 0.
fn counts_of_bed(x: u8) -> u8 {
    (!x & 0b1010_1010) | ((x ^ x >> 1) & 0b0101_0101)
}

/// Counts to PLINK's codes: the inverse of [`counts_of_bed`].
fn bed_of_counts(x: u8) -> u8 {
    (!x & 0b1010_1010) | ((x ^ !x >> 1) & 0b0101_0101)
}

/// The `.bim` and the `.fam` that belong to a `.bed`.
pub fn beside(bed: &Path) -> [PathBuf; 2] {
    ["bim", "fam"].map(|ending| bed.with_extension(ending))
}

/// `path`, a file beside `bed`, which must exist.
fn existing<'a>(path: &'a Path, bed: &Path) -> Result<&'a Path> {
    if path.exists() {
        return Ok(path);
    }
    Err(Error::input(
        path.display(),
        format!("the file that belongs to {}", bed.display()),
        "nothing there",
        "keep .bed, .bim and .fam side by side under one name",
    ))
}

fn not_a_bed(path: &Path, found: &str, advice: &str) -> Error {
    Error::input(path.display(), "a SNP-major PLINK 1 .bed", found, advice)
}

/// The six fields of a line of a `.bim` or `.fam`.
fn six(line: &str, place: impl Fn() -> String) -> Result<[&str; 6]> {
    // Tabs alone may separate empty fields, as some programs write an unknown chromosome.
    let mut fields: Vec<&str> = line.split('\t').collect();
    if fields.len() != 6 {
        fields = line.split_ascii_whitespace().collect();
    }
    let six: [&str; 6] = fields.as_slice().try_into().map_err(|_| {
        let advice = "columns are separated by blanks or tabs; names hold neither";
        Error::input(place(), "six columns", fields.len(), advice)
    })?;
    Ok(six.map(str::trim))
}

/// Reads a `.fam`: family, animal, sire, dam, sex, (phenotype, not used). Families become groups, unless each
/// animal is its own.
pub fn read_fam(path: &Path) -> Result<Animals> {
    let mut lines = Lines::open(path)?;
    let mut a = Animals::default();
    loop {
        let number = lines.number() + 1;
        let Some(line) = lines.next_row()? else { break };
        let [family, id, sire, dam, sex, _] = six(line, || crate::lines::place(path, number))?;
        a.id.push(id.to_owned());
        a.group.push(known_name(family));
        a.sire.push(known_name(sire));
        a.dam.push(known_name(dam));
        a.sex.push(sex_code(sex).unwrap_or(0));
    }
    if a.is_empty() {
        return Err(Error::input(path.display(), "one line an animal", "an empty file", "check the file"));
    }
    check_names(path, "animal", &a.id)?;
    if a.group == a.id {
        a.group.fill(String::new());
    }
    a.birth_date = vec![String::new(); a.len()];
    Ok(a)
}

/// Reads a `.bim`: chromosome (nothing or 0 = unknown), name, centimorgans (0 = unknown), position
/// (0 or less = unknown), A1 (counted), A2.
pub fn read_bim(path: &Path) -> Result<Variants> {
    let mut lines = Lines::open(path)?;
    let mut v = Variants::default();
    loop {
        let number = lines.number() + 1;
        let Some(line) = lines.next_row()? else { break };
        let place = || crate::lines::place(path, number);
        let [chromosome, id, cm, position, a1, a2] = six(line, place)?;
        let chromosome = if chromosome.is_empty() { "0" } else { chromosome };
        let cm: f64 = cm.parse().ok().filter(|c: &f64| c.is_finite()).ok_or_else(|| {
            Error::input(place(), "centimorgans in column 3", cm, "write 0 where they are unknown")
        })?;
        let bp: i64 = position.parse().map_err(|_| {
            Error::input(place(), "a position in column 4", position, "write 0 where it is unknown")
        })?;
        let bp = u64::try_from(bp).unwrap_or(0); // below zero: unknown
        let id = variant_name(id, chromosome, bp, [a1, a2]);
        v.push(id, chromosome, bp, if cm == 0.0 { f64::NAN } else { cm }, [a1, a2]);
    }
    if v.is_empty() {
        return Err(Error::input(path.display(), "one line a SNP", "an empty file", "check the file"));
    }
    check_names(path, "SNP", &v.id)?;
    Ok(v)
}

/// Writes the first bytes of a `.bed`.
pub fn write_magic(out: &mut dyn Write) -> std::io::Result<()> {
    out.write_all(&MAGIC)
}

/// Writes SNPs, one a row of `panel`, behind what a `.bed` holds so far.
pub fn write_panel(mut panel: Packed, out: &mut dyn Write) -> std::io::Result<()> {
    let padding = panel.columns() % PER_BYTE;
    let stride = panel.stride();
    panel.bytes_mut().iter_mut().for_each(|b| *b = bed_of_counts(*b));
    if padding > 0 {
        // PLINK wants zeros behind the last animal.
        let used = !(0xFFu8 << (2 * padding));
        panel.bytes_mut().chunks_exact_mut(stride).for_each(|row| row[stride - 1] &= used);
    }
    out.write_all(panel.bytes())
}

/// Writes a `.fam`; an unknown group becomes the animal's own name.
pub fn write_fam(a: &Animals, out: &mut dyn Write) -> std::io::Result<()> {
    let or = |text: &'_ str, other: &'_ str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
    for i in 0..a.len() {
        let (sire, dam) = (or(&a.sire[i], "0"), or(&a.dam[i], "0"));
        writeln!(out, "{}\t{}\t{sire}\t{dam}\t{}\t-9", or(&a.group[i], &a.id[i]), a.id[i], a.sex[i])?;
    }
    Ok(())
}

/// Writes a `.bim`.
pub fn write_bim(v: &Variants, out: &mut dyn Write) -> std::io::Result<()> {
    for j in 0..v.len() {
        let cm = if v.cm[j].is_nan() { 0.0 } else { v.cm[j] };
        let (a1, a2) = (&v.counted_allele[j], &v.other_allele[j]);
        writeln!(out, "{}\t{}\t{cm}\t{}\t{a1}\t{a2}", v.chromosome[j], v.id[j], v.position[j])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_translate_as_plink_documents_and_back() {
        // 00 two A1, 01 missing, 10 one, 11 none
        let counts = counts_of_bed(0b11_10_01_00);
        assert_eq!(counts, 0b00_01_11_10);
        for byte in 0..=255 {
            assert_eq!(bed_of_counts(counts_of_bed(byte)), byte);
        }
    }

    #[test]
    fn lists_are_read_whatever_their_ends_and_cut_ones_are_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let fam = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            read_fam(file.path())
        };
        let bim = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            read_bim(file.path())
        };
        let animals = fam("f a 0 . 1 -9\nf b a -9 2 1\n").unwrap();
        assert_eq!(
            (animals.sire.clone(), animals.dam.clone()),
            (vec!["".into(), "a".into()], vec!["".to_owned(); 2])
        );
        assert_eq!(fam("\u{feff}f a 0 . 1 -9\r\nf\tb\ta\t-9\t2\t1\r\n\n").unwrap(), animals);
        let snps = bim("1 s1 0 10 0 A\n2 s2 0 5 C T\n").unwrap();
        let marked = bim("\u{feff}1\ts1\t0\t10\t.\tA\r\n2\ts2 \t0\t5\tC\tT\r\n").unwrap();
        assert_eq!((&marked.id, &marked.counted_allele), (&snps.id, &snps.counted_allele));
        assert_eq!(marked.chromosome, snps.chromosome);
        for (e, told) in [
            (fam("f a 0 0 1 -9\nf b 0\n").unwrap_err(), "line 2: expected six columns, found 3"),
            (fam("f a 0 0 1 -9\n\nf b 0 0 1 -9\n").unwrap_err(), "line 2: expected a line of data"),
            (bim("1 s1 0 10 A C\n1 s2 0\n").unwrap_err(), "line 2: expected six columns, found 3"),
            (bim("1\t\x01\t0\t10\tA\tC\n").unwrap_err(), "line 1: expected plain text"),
        ] {
            assert!(e.exit_code() == 2 && e.to_string().contains(told), "{e}");
        }
    }
}
