//! The genotypes, panel by panel: ranks drop the genes, the root writes.
//!
//! A panel is one column of chunks of the store, [`PANEL`] SNPs of all animals. In every round each rank makes
//! one panel and sends it to the root. Memory stays bounded by a panel and the QTL's calls, and a panel does not
//! depend on who makes it.

use super::founders::Founders;
use super::map::Map;
use super::meiosis::{Gametes, Haplotype};
use super::pedigree::Pedigree;
use crate::comm::layout::{self, CHUNK};
use crate::comm::World;
use crate::error::Result;
use crate::genotype::store::PANEL;
use crate::genotype::StoreWriter;
use crate::packed::{self, Packed, Tally, MISSING, PER_BYTE};
use crate::progress::Progress;
use crate::rng::{Purpose, Stream};
use rayon::prelude::*;
use std::ops::Range;

/// Bytes of one animal in a chunk of SNPs.
const BYTES: usize = CHUNK / PER_BYTE;

/// What a panel is made from. The same on every rank.
pub struct GeneDrop<'a> {
    /// Seed of the missing calls.
    pub seed: u64,
    /// Share of calls that are missing.
    pub missing_calls: f64,
    /// The SNPs.
    pub map: &'a Map,
    /// The animals.
    pub pedigree: &'a Pedigree,
    /// The founders' haplotypes.
    pub founders: &'a Founders,
    /// The crossovers.
    pub gametes: &'a Gametes,
    /// The SNPs whose true calls the root needs for the traits, rising.
    pub qtl: &'a [usize],
}

/// One panel: calls of all genotyped animals, and the true calls at its QTL.
struct Panel {
    calls: Packed,
    /// QTL by animals, without missing calls.
    qtl: Packed,
}

/// What the root knows after the genotypes are written.
pub struct Dropped {
    /// True calls of the QTL: (QTL, animals).
    pub qtl: Packed,
    /// Counts of each code, for every SNP.
    pub tallies: Vec<Tally>,
}

impl GeneDrop<'_> {
    /// Makes all panels and writes them; the root, which has the writer, returns what it learned.
    pub fn run(&self, world: &World, mut writer: Option<&mut StoreWriter>) -> Result<Option<Dropped>> {
        let n = self.pedigree.genotyped.len();
        let panels: Vec<Range<usize>> =
            (0..self.map.len()).step_by(PANEL).map(|s| s..(s + PANEL).min(self.map.len())).collect();
        let progress = Progress::new("genes dropped (panels)", panels.len());
        let mut dropped = Dropped { qtl: Packed::missing(self.qtl.len(), n), tallies: Vec::new() };
        for round in panels.chunks(world.size()) {
            let mine = round.get(world.rank()).map(|snps| self.panel(snps));
            let kept = match writer.as_deref_mut() {
                Some(writer) => self.keep(world, round, mine, writer, &mut dropped),
                None => {
                    mine.iter().for_each(|panel| send(world, panel));
                    Ok(())
                }
            };
            world.agree(kept)?;
            progress.add(round.len());
        }
        Ok(world.is_root().then_some(dropped))
    }

    /// The root's part of a round: receives every panel, even after one could not be written.
    fn keep(
        &self,
        world: &World,
        round: &[Range<usize>],
        mut mine: Option<Panel>,
        writer: &mut StoreWriter,
        dropped: &mut Dropped,
    ) -> Result<()> {
        let mut result = Ok(());
        for (rank, snps) in round.iter().enumerate() {
            let panel = match mine.take() {
                Some(own) => own,
                None => self.receive(world, rank, snps),
            };
            let first = self.qtl.partition_point(|&q| q < snps.start);
            for k in 0..panel.qtl.rows() {
                dropped.qtl.row_mut(first + k).copy_from_slice(panel.qtl.row(k));
            }
            let turned = panel.calls.transposed();
            dropped.tallies.extend((0..turned.rows()).map(|j| turned.tally_row(j)));
            if result.is_ok() {
                result = writer.write_columns(snps.start, &panel.calls);
            }
        }
        result
    }

    fn receive(&self, world: &World, from: usize, snps: &Range<usize>) -> Panel {
        let n = self.pedigree.genotyped.len();
        Panel {
            calls: Packed::from_bytes(n, snps.len(), world.receive(from)),
            qtl: Packed::from_bytes(self.qtl_within(snps).len(), n, world.receive(from)),
        }
    }

    fn qtl_within(&self, snps: &Range<usize>) -> &[usize] {
        let at = |j| self.qtl.partition_point(|&q| q < j);
        &self.qtl[at(snps.start)..at(snps.end)]
    }

    /// Drops the genes of one panel; its chunks are independent of each other.
    fn panel(&self, snps: &Range<usize>) -> Panel {
        let n = self.pedigree.genotyped.len();
        let prepared = self.founders.prepare(snps);
        let chunks: Vec<Range<usize>> = layout::chunks(snps.clone()).collect();
        let parts: Vec<(Vec<u8>, Vec<u8>)> = chunks
            .par_iter()
            .map(|chunk| {
                let mut haplotypes = self.founders.haplotypes(&prepared, chunk);
                self.gametes.drop(self.pedigree, chunk, &mut haplotypes);
                let qtl = self.true_calls(chunk, &haplotypes);
                (self.calls(chunk, &haplotypes), qtl)
            })
            .collect();
        let mut calls = Packed::missing(n, snps.len());
        let stride = calls.stride();
        calls.bytes_mut().par_chunks_mut(stride).enumerate().for_each(|(i, row)| {
            for (k, part) in parts.iter().enumerate() {
                let bytes = &mut row[k * BYTES..];
                let used = bytes.len().min(BYTES);
                bytes[..used].copy_from_slice(&part.0[i * BYTES..i * BYTES + used]);
            }
        });
        calls.pad();
        let qtl = parts.into_iter().flat_map(|part| part.1).collect();
        Panel { calls, qtl: Packed::from_bytes(self.qtl_within(snps).len(), n, qtl) }
    }

    /// Calls of the genotyped animals at a chunk, with missing ones: (n, BYTES).
    fn calls(&self, snps: &Range<usize>, haplotypes: &[Haplotype]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.pedigree.genotyped.len() * BYTES);
        for (row, &i) in self.pedigree.genotyped.iter().enumerate() {
            let (a, b) = (haplotypes[2 * i as usize], haplotypes[2 * i as usize + 1]);
            let from = out.len();
            push_calls(&a, &b, &mut out);
            self.lose_calls(snps, row, &mut out[from..]);
        }
        out
    }

    /// Makes some calls of one animal missing. The gaps between missing calls are geometric.
    fn lose_calls(&self, snps: &Range<usize>, row: usize, bytes: &mut [u8]) {
        if self.missing_calls <= 0.0 {
            return;
        }
        let index = (snps.start / CHUNK) as u64 + 1;
        let mut stream = Stream::new(self.seed, Purpose::Missing, index << 32 | row as u64);
        let per_gap = 1.0 / (-self.missing_calls).ln_1p();
        let mut gap = || ((1.0 - stream.uniform()).ln() * per_gap).min(1e6) as usize;
        let mut j = gap();
        while j < CHUNK {
            bytes[j / PER_BYTE] |= MISSING << (2 * (j % PER_BYTE));
            j += 1 + gap();
        }
    }

    /// True calls of the genotyped animals at the chunk's QTL: packed rows, one a QTL.
    fn true_calls(&self, snps: &Range<usize>, haplotypes: &[Haplotype]) -> Vec<u8> {
        let n = self.pedigree.genotyped.len();
        let mut codes = vec![0u8; n];
        let mut out = Vec::new();
        for &q in self.qtl_within(snps) {
            let at = q - snps.start;
            let allele = |h: usize| (haplotypes[h][at / 64] >> (at % 64)) as u8 & 1;
            for (code, &i) in codes.iter_mut().zip(&self.pedigree.genotyped) {
                *code = allele(2 * i as usize) + allele(2 * i as usize + 1);
            }
            let from = out.len();
            out.resize(from + n.div_ceil(PER_BYTE), 0);
            packed::pack_row(&codes, &mut out[from..]);
        }
        out
    }
}

fn send(world: &World, panel: &Panel) {
    world.send(0, panel.calls.bytes());
    world.send(0, panel.qtl.bytes());
}

/// The calls that two haplotypes make together, [`BYTES`] more bytes.
pub(super) fn push_calls(a: &Haplotype, b: &Haplotype, out: &mut Vec<u8>) {
    for (a, b) in a.iter().zip(b) {
        // The count's low bit is a xor b, its high bit a and b.
        let code = |half: u32| {
            let (a, b) = ((a >> (32 * half)) as u32, (b >> (32 * half)) as u32);
            spread(a ^ b) | spread(a & b) << 1
        };
        out.extend_from_slice(&code(0).to_le_bytes());
        out.extend_from_slice(&code(1).to_le_bytes());
    }
}

/// Puts bit k of `x` to bit 2k.
fn spread(x: u32) -> u64 {
    let x = u64::from(x);
    let x = (x | x << 16) & 0x0000_FFFF_0000_FFFF;
    let x = (x | x << 8) & 0x00FF_00FF_00FF_00FF;
    let x = (x | x << 4) & 0x0F0F_0F0F_0F0F_0F0F;
    let x = (x | x << 2) & 0x3333_3333_3333_3333;
    (x | x << 1) & 0x5555_5555_5555_5555
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_spread_to_every_second_place() {
        for x in [0, 1, 0x8000_0000, 0xDEAD_BEEF, u32::MAX] {
            for k in 0..32 {
                assert_eq!(spread(x) >> (2 * k) & 3, u64::from(x >> k & 1));
            }
        }
    }
}
