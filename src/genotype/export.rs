//! From a store into the formats of other programs.

use crate::error::{Error, Result};
use crate::genotype::store::{CHUNK_ROWS, PANEL};
use crate::genotype::{npy, plink, text, vcf, Animals, Store, Variants};
use crate::output::{self, with_suffix, Draft};
use crate::packed::unpack_row;
use crate::progress::Progress;
use std::collections::HashSet;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// The formats that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// PLINK 1: `.bed`, `.bim`, `.fam`.
    Bed,
    /// VCF with GT alone.
    Vcf,
    /// NumPy int8 (n, m), missing -9, with the names in `.animals.tsv` and `.snps.tsv`.
    Npy,
    /// PLINK's `.raw`.
    Raw,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        match name {
            "bed" => Ok(Format::Bed),
            "vcf" => Ok(Format::Vcf),
            "npy" => Ok(Format::Npy),
            "raw" => Ok(Format::Raw),
            _ => Err("expected bed, vcf, npy or raw".to_owned()),
        }
    }
}

impl Format {
    /// The files that are written for `prefix`, the one with the genotypes first.
    pub fn files(self, prefix: &Path) -> Vec<PathBuf> {
        let endings: &[&str] = match self {
            Format::Bed => &[".bed", ".bim", ".fam"],
            Format::Vcf => &[".vcf"],
            Format::Npy => &[".npy", ".animals.tsv", ".snps.tsv"],
            Format::Raw => &[".raw"],
        };
        endings.iter().map(|e| with_suffix(prefix, e)).collect()
    }
}

/// Writes the whole store; the files appear together, when all are complete. Memory holds a panel of SNPs or
/// a block of animals at a time.
pub fn export(store: &Store, format: Format, prefix: &Path, force: bool) -> Result<()> {
    let drafts: Vec<Draft> =
        format.files(prefix).iter().map(|path| Draft::new(path, force)).collect::<Result<_>>()?;
    let (animals, variants) = names(store, format, prefix)?;
    match format {
        Format::Bed => {
            fill(&drafts[1], |out| wrote(&drafts[1], plink::write_bim(&variants, out)))?;
            fill(&drafts[2], |out| wrote(&drafts[2], plink::write_fam(&animals, out)))?;
        }
        Format::Npy => {
            fill(&drafts[1], |out| wrote(&drafts[1], write_animals(store, out)))?;
            fill(&drafts[2], |out| wrote(&drafts[2], write_snps(store, out)))?;
        }
        Format::Vcf | Format::Raw => {}
    }
    fill(&drafts[0], |out| match format {
        Format::Bed | Format::Vcf => by_snps(store, (&animals, &variants), format, &drafts[0], out),
        Format::Npy | Format::Raw => by_animals(store, (&animals, &variants), format, &drafts[0], out),
    })?;
    drafts.into_iter().try_for_each(Draft::commit)
}

/// The animals and SNPs with the names that the format allows: those of PLINK hold no blanks, and chromosomes and
/// SNPs of a VCF neither.
fn names(store: &Store, format: Format, prefix: &Path) -> Result<(Animals, Variants)> {
    let (mut animals, mut variants) = (store.animals().clone(), store.variants().clone());
    if matches!(format, Format::Bed | Format::Raw) {
        join_words("animal", &mut animals.id, prefix)?;
        let others = [&mut animals.group, &mut animals.sire, &mut animals.dam];
        others.into_iter().flatten().for_each(|name| *name = joined(name));
    }
    if !matches!(format, Format::Npy) {
        join_words("SNP", &mut variants.id, prefix)?;
        variants.chromosome.iter_mut().for_each(|name| *name = joined(name));
    }
    Ok((animals, variants))
}

/// A name with `_` for blanks.
fn joined(name: &str) -> String {
    name.replace(char::is_whitespace, "_")
}

/// Writes `_` for the blanks in names of animals or SNPs (`what`), for files whose columns are separated by blanks,
/// and warns of it. Names that become equal are refused; `place` is the file.
pub fn join_words(what: &str, names: &mut [String], place: &Path) -> Result<()> {
    let blank: Vec<usize> = (0..names.len()).filter(|&i| names[i].contains(char::is_whitespace)).collect();
    let Some(&first) = blank.first() else { return Ok(()) };
    let before = names[first].clone();
    blank.iter().for_each(|&i| names[i] = joined(&names[i]));
    let mut seen = HashSet::with_capacity(names.len());
    if let Some(twice) = names.iter().find(|name| !seen.insert(name.as_str())) {
        return Err(Error::input(
            place.display(),
            format!("names of {what}s that differ when blanks are written as _"),
            format!("{twice} twice"),
            "rename one of the two",
        ));
    }
    let (count, place) = (blank.len(), place.display());
    log::warn!(
        "{place}: blanks in {count} names of {what}s are written as _, such as {} for {before}",
        names[first]
    );
    Ok(())
}

/// Formats with a SNP after the other.
fn by_snps(
    store: &Store,
    (animals, variants): (&Animals, &Variants),
    format: Format,
    draft: &Draft,
    out: &mut dyn Write,
) -> Result<()> {
    let (n, m) = (store.n_animals(), store.n_variants());
    let head = match format {
        Format::Bed => plink::write_magic(out),
        _ => vcf::write_header(animals, variants, out),
    };
    wrote(draft, head)?;
    let progress = Progress::new("export", m);
    for first in (0..m).step_by(PANEL) {
        let panel = store.read(0..n, first..m.min(first + PANEL))?.transposed();
        progress.add(panel.rows());
        let written = match format {
            Format::Bed => plink::write_panel(panel, out),
            _ => vcf::write_panel(variants, first, &panel, out),
        };
        wrote(draft, written)?;
    }
    Ok(())
}

/// Formats with an animal after the other.
fn by_animals(
    store: &Store,
    (animals, variants): (&Animals, &Variants),
    format: Format,
    draft: &Draft,
    out: &mut dyn Write,
) -> Result<()> {
    let (n, m) = (store.n_animals(), store.n_variants());
    let head = match format {
        Format::Npy => npy::write_header(n, m, out),
        _ => text::write_raw_header(variants, out),
    };
    wrote(draft, head)?;
    let progress = Progress::new("export", n);
    let mut codes = vec![0; m];
    for first in (0..n).step_by(CHUNK_ROWS) {
        let rows = store.read(first..n.min(first + CHUNK_ROWS), 0..m)?;
        for i in 0..rows.rows() {
            unpack_row(rows.row(i), &mut codes);
            let written = match format {
                Format::Npy => npy::write_row(&codes, out),
                _ => text::write_raw_row(animals, first + i, &codes, out),
            };
            wrote(draft, written)?;
        }
        progress.add(rows.rows());
    }
    Ok(())
}

fn write_animals(store: &Store, out: &mut dyn Write) -> std::io::Result<()> {
    let a = store.animals();
    let or_na = |text: &str| if text.is_empty() { "NA".to_owned() } else { text.to_owned() };
    writeln!(out, "id\tbirth_date\tsire\tdam\tsex\tgroup")?;
    for i in 0..a.len() {
        let (sire, dam) = (or_na(&a.sire[i]), or_na(&a.dam[i]));
        let (date, group) = (or_na(&a.birth_date[i]), or_na(&a.group[i]));
        writeln!(out, "{}\t{date}\t{sire}\t{dam}\t{}\t{group}", a.id[i], a.sex[i])?;
    }
    Ok(())
}

fn write_snps(store: &Store, out: &mut dyn Write) -> std::io::Result<()> {
    let v = store.variants();
    writeln!(out, "id\tchromosome\tposition\tcounted_allele\tother_allele\tfrequency\tmissing")?;
    for j in 0..v.len() {
        let (a, b) = (&v.counted_allele[j], &v.other_allele[j]);
        let (c, p) = (&v.chromosome[j], v.position[j]);
        writeln!(out, "{}\t{c}\t{p}\t{a}\t{b}\t{:.6}\t{}", v.id[j], v.frequency[j], v.missing[j])?;
    }
    Ok(())
}

/// Fills one file.
fn fill(draft: &Draft, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, draft.file()?);
    write(&mut out)?;
    let file = wrote(draft, out.into_inner().map_err(std::io::IntoInnerError::into_error))?;
    wrote(draft, file.sync_all())
}

fn wrote<T>(draft: &Draft, result: std::io::Result<T>) -> Result<T> {
    result.map_err(|e| Error::writing(draft.target(), &e))
}

/// Refuses to replace any of the files.
pub fn refuse_existing(format: Format, prefix: &Path, force: bool) -> Result<()> {
    format.files(prefix).iter().try_for_each(|path| output::refuse_existing(path, force))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_in_names_become_underscores_unless_names_become_equal() {
        let place = Path::new("x.fam");
        let mut names = ["cow 1", "cow2", "cow  3"].map(String::from);
        join_words("animal", &mut names, place).unwrap();
        assert_eq!(names, ["cow_1", "cow2", "cow__3"]);
        let e = join_words("animal", &mut ["a b".into(), "a_b".into()], place).unwrap_err();
        assert!(e.exit_code() == 2 && e.to_string().contains("a_b twice"), "{e}");
    }
}
