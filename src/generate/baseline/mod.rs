//! Generators without a network, which a network must beat.

pub mod independent;
pub mod markov;
pub mod mosaic;
pub mod relatives;
pub mod segments;

use crate::genotype::Variants;
use crate::packed::{pack_row, Packed, PER_BYTE};
use crate::rng::Stream;
use rayon::prelude::*;
use std::ops::Range;

/// Begins of the runs of SNPs on one chromosome.
pub(super) fn chromosomes(variants: &Variants) -> Vec<usize> {
    let names = &variants.chromosome;
    (0..names.len()).filter(|&j| j == 0 || names[j] != names[j - 1]).collect()
}

/// The words of a stream that belong to the SNPs `snps`, word j to SNP j; `words` is room for them.
fn words<'a>(stream: &Stream, snps: Range<usize>, words: &'a mut Vec<u32>) -> &'a [u32] {
    let before = snps.start % 4;
    words.resize((before + snps.len()).next_multiple_of(4), 0);
    stream.blocks((snps.start / 4) as u32, words);
    &words[before..before + snps.len()]
}

/// Animals made one by one on all threads: `make` gives the codes of an animal at `snps` SNPs.
fn each(animals: Range<u64>, snps: usize, make: impl Fn(u64, &mut [u8], &mut Vec<u32>) + Sync) -> Packed {
    let count = usize::try_from(animals.end - animals.start).expect("animals fit in memory");
    let mut out = Packed::missing(count, snps);
    let stride = snps.div_ceil(PER_BYTE);
    if stride == 0 {
        return out;
    }
    let rows = out.bytes_mut().par_chunks_mut(stride).enumerate();
    rows.for_each_init(
        || (vec![0; snps], Vec::new()),
        |(codes, words), (i, row)| {
            make(animals.start + i as u64, codes, words);
            pack_row(codes, row);
        },
    );
    out
}
