//! From any source into a store: SNP panels come in, are turned to animals in rows, and go out as whole chunks.

use crate::error::{Error, Result};
use crate::genotype::source::Source;
use crate::genotype::store::PANEL;
use crate::genotype::{StoreWriter, Variants};
use crate::packed::{self, Packed, Tally, MISSING};
use crate::progress::Progress;
use rayon::prelude::*;
use std::path::Path;

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

/// Writes the selected genotypes of `source` as the store `out`. Memory holds one panel of SNPs at a time. An
/// SNP without any call among the selected animals is refused.
pub fn write_store(source: &dyn Source, selection: &Selection, out: &Path, force: bool) -> Result<()> {
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
    writer.finish(&source.animals().select(animals), &variants)
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
