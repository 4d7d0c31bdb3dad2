//! From any source into a store, by the import's filters: SNP panels come in, are turned to animals in rows, and go
//! out as whole chunks.

use crate::config;
use crate::error::{Error, Result};
use crate::genotype::quality::{self, Step};
use crate::genotype::source::{Format, Source};
use crate::genotype::store::PANEL;
use crate::genotype::{animals, chromosome, StoreWriter, Variants};
use crate::packed::{self, Packed, Tally, MISSING};
use crate::progress::Progress;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What is imported, and the filters; `None` leaves one out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportConfig {
    /// PLINK 1, VCF, text, BIMBAM or NumPy file.
    pub source: PathBuf,
    /// Table of animals: id and any of birth_date, sire, dam, sex, group.
    pub animals: Option<PathBuf>,
    /// Smallest frequency of the rarer allele.
    pub maf: Option<f64>,
    /// Smallest share of animals called at a SNP.
    pub call_rate: Option<f64>,
    /// Smallest share of SNPs called in an animal.
    pub animal_call_rate: Option<f64>,
    /// Smallest P-value of the exact Hardy-Weinberg test.
    pub hwe: Option<f64>,
    /// Chromosomes to keep, such as `1-29,X`, `autosomes` (when `None`) or `all`.
    pub chromosomes: Option<String>,
    /// Number of autosomes, by which PLINK numbers X, Y, XY and MT.
    pub autosomes: Option<u32>,
    /// A list of animals to keep.
    pub keep: Option<PathBuf>,
    /// A list of SNPs to keep.
    pub extract: Option<PathBuf>,
}

impl ImportConfig {
    /// Makes paths relative to the folder of the configuration at `path`.
    pub fn resolve(&mut self, path: &Path) {
        let lists = [&mut self.animals, &mut self.keep, &mut self.extract];
        for named in lists.into_iter().flatten().chain([&mut self.source]) {
            *named = config::beside(path, named);
        }
    }

    /// The files that are read.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let lists = [&self.animals, &self.keep, &self.extract];
        std::iter::once(self.source.as_path()).chain(lists.into_iter().flatten().map(PathBuf::as_path))
    }

    /// Refuses limits that are no shares.
    pub fn check(&self) -> Result<()> {
        let shares = [
            ("maf", self.maf, 0.5),
            ("call rate", self.call_rate, 1.0),
            ("animal call rate", self.animal_call_rate, 1.0),
            ("hwe", self.hwe, 1.0),
        ];
        for (name, share, most) in shares {
            if let Some(share) = share.filter(|share| !(0.0..=most).contains(share)) {
                let expected = format!("a number from 0 to {most}");
                return Err(Error::input(format!("import filter {name}"), expected, share, "change it"));
            }
        }
        Ok(())
    }
}

/// What came of an import.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// What each filter did, in their order.
    pub steps: Vec<Step>,
    /// What the reader of the source tells the user.
    pub notes: Vec<String>,
    /// Animals of the source and of the store.
    pub animals: (usize, usize),
    /// SNPs of the source and of the store.
    pub snps: (usize, usize),
}

/// Reads, filters and writes the store `out`.
pub fn import(config: &ImportConfig, format: Format, out: &Path, force: bool) -> Result<Summary> {
    let table = config.animals.as_deref().map(animals::read).transpose()?;
    let mut source = format.open(&config.source, table.as_ref().map(|t| t.id.as_slice()))?;
    let mut notes = source.notes().to_vec();
    if let (Some(table), Some(path)) = (&table, &config.animals) {
        let (unlisted, unused) = animals::complete(source.animals_mut(), table, path)?;
        notes.push(format!(
            "{}: {unlisted} animals of the genotypes are not listed, {unused} listed ones have no genotypes",
            path.display()
        ));
    }
    match config.autosomes {
        Some(autosomes) => chromosome::name_codes(source.variants_mut(), autosomes)?,
        None => notes.extend(chromosome::note_codes(source.variants())),
    }
    if let (Some(others), None) = (chromosome::not_autosomal(source.variants()), &config.chromosomes) {
        notes.push(format!("SNPs on {others} are left out; --chromosomes all keeps them"));
    }
    let (selection, steps) = quality::select(source.as_ref(), config)?;
    let monomorphic = write_store(source.as_ref(), &selection, out, force)?;
    if monomorphic > 0 {
        let m = selection.snps.len();
        notes.push(format!("{monomorphic} of {m} SNPs have one allele only; --maf 0.01 leaves them out"));
    }
    Ok(Summary {
        steps,
        notes,
        animals: (source.animals().len(), selection.animals.len()),
        snps: (source.variants().len(), selection.snps.len()),
    })
}

/// What of a source goes into the store: positions in the source, ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The animals kept.
    pub animals: Vec<usize>,
    /// The SNPs kept.
    pub snps: Vec<usize>,
}

impl Selection {
    /// Everything.
    pub fn all(source: &dyn Source) -> Selection {
        Selection {
            animals: (0..source.animals().len()).collect(),
            snps: (0..source.variants().len()).collect(),
        }
    }
}

/// Writes the selected genotypes of `source` as the store `out`; returns how many SNPs are monomorphic. Memory holds
/// one panel of SNPs at a time. A SNP without any call among the selected animals is refused.
pub fn write_store(source: &dyn Source, selection: &Selection, out: &Path, force: bool) -> Result<usize> {
    let Selection { animals, snps } = selection;
    let mut variants = source.variants().select(snps);
    let mask = Mask::new(source.animals().len(), animals);
    let mut writer = StoreWriter::create(out, animals.len(), snps.len(), force)?;
    let progress = Progress::new("import", snps.len());
    // Memory once touched is used again: new pages cost more than all the rest.
    let [mut calls, mut rows] = [(); 2].map(|()| Packed::missing(0, 0));
    for (panel, snps) in snps.chunks(PANEL).enumerate() {
        let first = panel * PANEL;
        source.read(snps, &mut calls)?;
        fill_in(&mut variants, first, &mask.tally(&mut calls))?;
        if mask.bits.is_none() {
            writer.fill_columns(first, snps.len(), |part, lines, apart| {
                calls.transpose_columns(part, lines, apart);
            })?;
        } else {
            calls.transpose_into(&mut rows);
            writer.fill_columns(first, snps.len(), |part, lines, apart| {
                for (line, &i) in lines.chunks_exact_mut(apart).zip(&animals[part]) {
                    line[..rows.stride()].copy_from_slice(rows.row(i));
                }
            })?;
        }
        progress.add(snps.len());
    }
    writer.finish(&source.animals().select(animals), &variants)?;
    Ok(variants.frequency.iter().filter(|p| **p == 0.0 || **p == 1.0).count())
}

/// Notes frequencies and missing counts of the SNPs from `first` on.
fn fill_in(variants: &mut Variants, first: usize, tallies: &[Tally]) -> Result<()> {
    for (j, t) in tallies.iter().enumerate() {
        let j = first + j;
        variants.missing[j] = t[usize::from(MISSING)];
        variants.frequency[j] = packed::frequency(t).ok_or_else(|| {
            Error::input(
                format!("SNP {}", variants.id[j]),
                "at least one called genotype",
                format!("none in {} animals", t[usize::from(MISSING)]),
                "remove such SNPs with --call-rate 0.9",
            )
        })?;
    }
    Ok(())
}

/// Which animals count.
pub struct Mask {
    /// Two set bits for every animal kept; `None` when all are.
    bits: Option<Vec<u8>>,
    dropped: u64,
}

impl Mask {
    /// The animals `keep` of `n`.
    pub fn new(n: usize, keep: &[usize]) -> Mask {
        let mut bits = Packed::from_codes(1, n, &vec![0; n]);
        keep.iter().for_each(|&i| bits.set(0, i, 0b11));
        let bits = (keep.len() < n).then(|| bits.bytes().to_vec());
        Mask { bits, dropped: (n - keep.len()) as u64 }
    }

    /// Counts the calls of the kept animals in each row of `panel` (SNPs in rows). The calls of the others are
    /// set to 0.
    pub fn tally(&self, panel: &mut Packed) -> Vec<Tally> {
        let (n, stride) = (panel.columns(), panel.stride());
        if stride == 0 {
            return vec![[0; 4]; panel.rows()];
        }
        let count = |row: &mut [u8]| {
            if let Some(bits) = &self.bits {
                row.iter_mut().zip(bits).for_each(|(byte, keep)| *byte &= keep);
            }
            let mut t = packed::tally(row, n);
            t[0] -= self.dropped;
            t
        };
        panel.bytes_mut().par_chunks_mut(stride).map(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_shares_and_keys_are_known() {
        let check = |text: &str| {
            let text = format!("source = \"a.bed\"\n{text}\n");
            config::parse::<ImportConfig>(&text, Path::new("study.toml")).and_then(|import| import.check())
        };
        check("maf = 0.5\ncall_rate = 1.0\nhwe = 0.0").unwrap();
        for wrong in ["maf = 0.6", "hwe = -0.1", "call_rate = 1.1", "animal_call_rate = 1.5", "mfa = 0.1"] {
            assert_eq!(check(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
        assert!(check("call_rte = 0.1").unwrap_err().to_string().contains("did you mean `call_rate`?"));
    }

    #[test]
    fn files_are_beside_the_configuration() {
        let mut import = ImportConfig {
            source: "cows.bed".into(),
            keep: Some("/lists/keep".into()),
            extract: Some("snps".into()),
            ..Default::default()
        };
        import.resolve(Path::new("a/study.toml"));
        let files: Vec<&Path> = import.files().collect();
        assert_eq!(files, ["a/cows.bed", "/lists/keep", "a/snps"].map(Path::new));
    }
}
