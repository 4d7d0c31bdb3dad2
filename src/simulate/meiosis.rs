//! Gametes: where an animal's two strands cross over on the way to its offspring, and the drop of founder
//! haplotypes through the pedigree along these.
//!
//! A gamete is a list of SNPs at which the transmitted strand changes. The lists are global and keyed by the
//! animal, so any run of SNPs can be dropped by any rank.

use super::map::Map;
use super::pedigree::Pedigree;
use crate::comm::layout::CHUNK;
use crate::rng::{Purpose, Stream};
use rayon::prelude::*;
use std::ops::Range;

/// Words in one haplotype of a chunk of SNPs.
pub const WORDS: usize = CHUNK / 64;
/// One haplotype of a chunk: bit j % 64 of word j / 64 says whether SNP j carries the counted allele.
pub type Haplotype = [u64; WORDS];

/// The gametes from which the animals grew: two each, the father's and the mother's; none for founders.
pub struct Gametes {
    /// Where each gamete's flips begin in `flips`.
    offsets: Vec<usize>,
    /// SNPs from which on the other strand is transmitted, rising within a gamete.
    flips: Vec<u32>,
}

impl Gametes {
    /// Draws the crossovers of all animals: Poisson in number, even in place (Haldane's map function).
    pub fn draw(seed: u64, map: &Map, pedigree: &Pedigree) -> Gametes {
        let of = |g: usize| if pedigree.is_founder(g / 2) { Vec::new() } else { flips(seed, map, g as u64) };
        Self::collect(2 * pedigree.len(), of)
    }

    /// Draws the crossovers of `animals` more, who come after the pedigree; each brood has a number of its own.
    pub fn of_brood(seed: u64, map: &Map, brood: u32, animals: usize) -> Gametes {
        // Other indices than the pedigree's gametes have.
        let first = (u64::from(brood) + 1) << 32;
        Self::collect(2 * animals, |g| flips(seed, map, first + g as u64))
    }

    fn collect(count: usize, flips: impl Fn(usize) -> Vec<u32> + Sync + Send) -> Gametes {
        let lists: Vec<Vec<u32>> = (0..count).into_par_iter().map(flips).collect();
        let mut offsets = vec![0];
        offsets.extend(lists.iter().scan(0, |sum, list| {
            *sum += list.len();
            Some(*sum)
        }));
        Gametes { offsets, flips: lists.concat() }
    }

    fn of(&self, gamete: usize) -> &[u32] {
        &self.flips[self.offsets[gamete]..self.offsets[gamete + 1]]
    }

    /// Haplotypes (2 an animal: from the father, from the mother) at a chunk of SNPs. `haplotypes` holds the
    /// founders' and is filled with the others'.
    pub fn drop(&self, pedigree: &Pedigree, snps: &Range<usize>, haplotypes: &mut Vec<Haplotype>) {
        for i in pedigree.founders()..pedigree.len() {
            for (side, parent) in [pedigree.sire[i], pedigree.dam[i]].into_iter().enumerate() {
                let parent = 2 * parent as usize;
                let transmitted = self.transmitted(2 * i + side, snps, &haplotypes[parent..parent + 2]);
                haplotypes.push(transmitted);
            }
        }
    }

    /// What gamete `gamete` carries at a chunk of SNPs of the two `strands` of its parent.
    pub fn transmitted(&self, gamete: usize, snps: &Range<usize>, strands: &[Haplotype]) -> Haplotype {
        let second = self.second_strand(gamete, snps);
        std::array::from_fn(|w| strands[0][w] & !second[w] | strands[1][w] & second[w])
    }

    /// Which SNPs of the chunk come from the parent's second strand.
    fn second_strand(&self, gamete: usize, snps: &Range<usize>) -> Haplotype {
        let flips = self.of(gamete);
        let before = flips.partition_point(|&f| f as usize <= snps.start);
        let mut mask = [0u64.wrapping_sub((before % 2) as u64); WORDS];
        for &flip in flips[before..].iter().take_while(|&&f| (f as usize) < snps.end) {
            let at = flip as usize - snps.start;
            mask[at / 64] ^= u64::MAX << (at % 64);
            mask[at / 64 + 1..].iter_mut().for_each(|word| *word = !*word);
        }
        mask
    }
}

/// The flips of one gamete over all chromosomes.
fn flips(seed: u64, map: &Map, gamete: u64) -> Vec<u32> {
    let mut stream = Stream::new(seed, Purpose::Meiosis, gamete);
    let mut out: Vec<u32> = Vec::new();
    let mut places: Vec<f64> = Vec::new();
    for c in 0..map.chromosomes() {
        let snps = map.chromosome(c);
        if snps.is_empty() {
            continue;
        }
        let strand = stream.next_u32() as usize % 2;
        if out.len() % 2 != strand {
            out.push(snps.start as u32);
        }
        let span = f64::from(map.span(c));
        places.clear();
        places.extend((0..stream.poisson(span * map.morgans_per_bp)).map(|_| stream.uniform() * span));
        places.sort_by(f64::total_cmp);
        let positions = &map.position[snps.clone()];
        out.extend(places.iter().map(|&at| {
            let here = positions[0] + at as u32;
            (snps.start + positions.partition_point(|&p| p <= here).min(snps.len() - 1)) as u32
        }));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::config::{MapConfig, PedigreeConfig};
    use super::*;

    #[test]
    fn a_gamete_crosses_over_once_a_morgan_and_takes_either_strand() {
        let map = Map::draw(1, 20_000, &MapConfig::default());
        let morgans: f64 = (0..29).map(|c| f64::from(map.span(c))).sum::<f64>() * 1e-8;
        let (mut crossings, mut second) = (0, 0);
        for g in 0..2000 {
            let list = flips(7, &map, g);
            assert!(list.windows(2).all(|w| w[0] <= w[1]));
            let starts = list.iter().filter(|&&f| map.starts.contains(&(f as usize))).count();
            crossings += list.len() - starts;
            second += list.iter().filter(|&&f| f < 10_000).count() % 2;
        }
        let a_gamete = crossings as f64 / 2000.0;
        assert!((a_gamete / morgans - 1.0).abs() < 0.05, "{a_gamete} crossovers on {morgans} M");
        assert!((900..1100).contains(&second), "{second} of 2000 carry the second strand");
    }

    #[test]
    fn every_chunk_of_a_gamete_agrees_with_its_list_of_flips() {
        let map = Map::draw(2, 1000, &MapConfig { cm_per_mb: 20.0, ..Default::default() });
        let pedigree = Pedigree::draw(2, 10, &PedigreeConfig::default());
        let gametes = Gametes::draw(2, &map, &pedigree);
        for g in 2 * pedigree.founders()..2 * pedigree.len() {
            for snps in crate::comm::layout::chunks(0..1000) {
                let mask = gametes.second_strand(g, &snps);
                for j in snps.clone() {
                    let want = gametes.of(g).iter().filter(|&&f| f as usize <= j).count() % 2 == 1;
                    let at = j - snps.start;
                    assert_eq!(mask[at / 64] >> (at % 64) & 1 == 1, want);
                }
            }
        }
    }
}
