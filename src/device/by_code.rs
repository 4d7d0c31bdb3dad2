//! Sums of small whole numbers by the code of a genotype: what trees choose their splits by.
//!
//! Genotypes come as [`Lines`]: the calls of some SNPs, animal by animal. For a [`Sample`] of animals with whole numbers
//! of 8 bits, S_jc = Σ_i 1[x_ij = c] v_i for the codes c = 1, 2 and missing, exactly.

use super::check;
use crate::error::Result;
use crate::packed::{Packed, MISSING};
use rayon::prelude::*;
use std::any::Any;
use std::sync::OnceLock;

/// SNPs of one block of lines: those of an animal fill a line of 64 bytes.
pub const BLOCK: usize = 256;
/// Codes that are summed: 1, 2 and missing. What is left of a total has the code 0.
pub const CODES: usize = 3;
/// Animals of a sample, at most, counted as often as they stand in it: their sums fit 32 bits.
pub const MOST_ANIMALS: usize = (i32::MAX / 256) as usize;

/// Calls of some SNPs in blocks of (n, [`BLOCK`]), the last one filled up with missing calls.
#[derive(Debug)]
pub struct Lines {
    blocks: Vec<Packed>,
    /// Whether any call of a block is missing.
    missing: Vec<bool>,
    snps: usize,
    animals: usize,
    /// What a GPU holds of them.
    on_device: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Lines {
    /// Takes the rows `snps` of `calls`, (SNPs, n), and turns them.
    pub fn of(calls: &Packed, snps: &[u32]) -> Lines {
        let block = |snps: &[u32]| {
            let mut rows = Packed::missing(BLOCK, calls.columns());
            for (to, &from) in snps.iter().enumerate() {
                rows.row_mut(to).copy_from_slice(calls.row(from as usize));
            }
            rows.transposed()
        };
        Lines::whole(snps.par_chunks(BLOCK).map(block).collect(), snps.len(), calls.columns())
    }

    /// Takes blocks of (`animals`, [`BLOCK`]) as they are; the last one may have fewer SNPs.
    pub fn new(mut blocks: Vec<Packed>, animals: usize) -> Lines {
        let snps = blocks.iter().map(Packed::columns).sum();
        assert!(
            blocks.iter().rev().skip(1).all(|block| block.columns() == BLOCK),
            "whole blocks but the last"
        );
        if let Some(last) = blocks.last_mut().filter(|block| block.columns() < BLOCK) {
            let mut whole = Packed::missing(animals, BLOCK);
            for i in 0..animals {
                let row = last.row(i);
                whole.row_mut(i)[..row.len()].copy_from_slice(row);
            }
            *last = whole;
        }
        Lines::whole(blocks, snps, animals)
    }

    fn whole(blocks: Vec<Packed>, snps: usize, animals: usize) -> Lines {
        let missing = blocks.par_iter().map(Packed::has_missing).collect();
        Lines { blocks, missing, snps, animals, on_device: OnceLock::new() }
    }

    /// The code of an animal at a SNP.
    pub fn code(&self, snp: usize, animal: usize) -> u8 {
        self.blocks[snp / BLOCK].get(animal, snp % BLOCK)
    }

    /// Bytes of the lines of that many SNPs and animals.
    pub fn bytes(snps: usize, animals: usize) -> usize {
        snps.div_ceil(BLOCK) * animals * (BLOCK / 4)
    }

    /// How many SNPs there are.
    pub fn snps(&self) -> usize {
        self.snps
    }

    /// How many animals there are.
    pub fn animals(&self) -> usize {
        self.animals
    }

    /// What a GPU holds of the lines, made when first asked for.
    pub(super) fn on_device<T: Any + Send + Sync>(&self, make: impl FnOnce() -> Result<T>) -> Result<&T> {
        if self.on_device.get().is_none() {
            // Two threads may both make it: one of the two is kept.
            let _ = self.on_device.set(Box::new(make()?));
        }
        let held = self.on_device.get().and_then(|held| held.downcast_ref());
        Ok(held.expect("lines are those of one backend"))
    }

    /// The blocks, and whether any call of one is missing.
    pub(super) fn blocks(&self) -> impl ExactSizeIterator<Item = (&Packed, bool)> {
        self.blocks.iter().zip(self.missing.iter().copied())
    }
}

/// Animals and whole numbers of each.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// Numbers of the animals; one may stand more than once.
    pub animals: &'a [u32],
    /// Columns of numbers, (columns, animals), none of them -128.
    pub values: &'a [i8],
}

impl Sample<'_> {
    /// Columns of numbers.
    pub fn columns(&self) -> usize {
        self.values.len().checked_div(self.animals.len()).unwrap_or(0)
    }

    /// Sums of one SNP: how many animals have each code, and then of each column its sums by code.
    pub fn width(&self) -> usize {
        CODES * (1 + self.columns())
    }
}

/// An error unless samples and results belong to the lines.
pub(super) fn check_samples(lines: &Lines, samples: &[Sample], out: &[Vec<i32>]) -> Result<()> {
    check("sums_by_code", "the results", samples.len(), out.len())?;
    samples.iter().zip(out).try_for_each(|(sample, out)| {
        let past = sample.animals.iter().filter(|&&i| i as usize >= lines.animals).count();
        check("sums_by_code", "animals that there are not", 0, past)?;
        check("sums_by_code", "animals too many", 0, sample.animals.len().saturating_sub(MOST_ANIMALS))?;
        let whole = sample.animals.len() * sample.columns();
        check("sums_by_code", "values", whole, sample.values.len())?;
        check("sums_by_code", "a result", lines.snps * sample.width(), out.len())
    })
}

/// The sums of one sample by plain loops, (SNPs, width).
pub(super) fn plain(lines: &Lines, sample: &Sample, out: &mut [i32]) {
    let (width, n) = (sample.width(), sample.animals.len());
    out.fill(0);
    for (j, out) in out.chunks_exact_mut(width).enumerate() {
        for (at, &i) in sample.animals.iter().enumerate() {
            let code = lines.blocks[j / BLOCK].get(i as usize, j % BLOCK);
            if code == 0 {
                continue;
            }
            let place = if code == MISSING { 2 } else { usize::from(code) - 1 };
            out[place] += 1;
            for column in 0..sample.columns() {
                out[CODES * (1 + column) + place] += i32::from(sample.values[column * n + at]);
            }
        }
    }
}
