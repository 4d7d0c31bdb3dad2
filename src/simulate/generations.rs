//! Generations after the herd: gametes of chosen parents, and what the offspring are worth by the herd's genes.

use super::meiosis::{Gametes, Haplotype};
use super::panels::push_calls;
use super::traits::{self, Traits};
use super::Herd;
use crate::comm::layout::{chunks, CHUNK};
use crate::packed::{Packed, PER_BYTE};
use ndarray::Array2;
use rayon::prelude::*;
use std::ops::Range;

/// Both strands of some animals at all SNPs, without a missing call.
#[derive(Debug, Clone, PartialEq)]
pub struct Flock {
    snps: usize,
    /// By chunks of SNPs: two haplotypes an animal.
    strands: Vec<Vec<Haplotype>>,
}

impl Flock {
    /// Animals.
    pub fn len(&self) -> usize {
        self.strands.first().map_or(0, |chunk| chunk.len() / 2)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some of the animals, in this order.
    pub fn select(&self, animals: &[usize]) -> Flock {
        let of =
            |chunk: &Vec<Haplotype>| animals.iter().flat_map(|&i| [chunk[2 * i], chunk[2 * i + 1]]).collect();
        Flock { snps: self.snps, strands: self.strands.iter().map(of).collect() }
    }

    /// Calls at a run of SNPs that begins on a chunk, packed animal by animal; at none where the run is empty.
    pub fn calls(&self, snps: Range<usize>) -> Packed {
        assert!(snps.end <= self.snps, "{snps:?} of {} SNPs", self.snps);
        let mut calls = Packed::missing(self.len(), snps.len());
        if snps.is_empty() {
            return calls;
        }
        assert!(snps.start.is_multiple_of(CHUNK), "SNPs from {} on begin within a chunk", snps.start);
        let stride = calls.stride();
        let own = &self.strands[snps.start / CHUNK..snps.end.div_ceil(CHUNK)];
        calls.bytes_mut().par_chunks_mut(stride.max(1)).enumerate().for_each(|(i, row)| {
            let mut bytes = Vec::with_capacity(own.len() * CHUNK / PER_BYTE);
            own.iter().for_each(|chunk| push_calls(&chunk[2 * i], &chunk[2 * i + 1], &mut bytes));
            row.copy_from_slice(&bytes[..row.len()]);
        });
        calls.pad();
        calls
    }

    /// Calls at these SNPs: packed rows, one a SNP.
    fn calls_at(&self, snps: &[usize]) -> Packed {
        let call = |j: usize, i: usize| {
            let chunk = &self.strands[j / CHUNK];
            let (word, bit) = (j % CHUNK / 64, j % 64);
            let allele = |strand: usize| (chunk[strand][word] >> bit) as u8 & 1;
            allele(2 * i) + allele(2 * i + 1)
        };
        let codes: Vec<u8> = snps.iter().flat_map(|&j| (0..self.len()).map(move |i| call(j, i))).collect();
        Packed::from_codes(snps.len(), self.len(), &codes)
    }
}

impl Herd {
    /// The genotyped animals with both strands, all in memory: n·m/4 bytes.
    pub fn flock(&self) -> Flock {
        let snps = self.map.len();
        let prepared = self.founders.prepare(&(0..snps));
        let all: Vec<Range<usize>> = chunks(0..snps).collect();
        let chunk = |snps: &Range<usize>| {
            let mut haplotypes = self.founders.haplotypes(&prepared, snps);
            self.gametes.drop(&self.pedigree, snps, &mut haplotypes);
            let own = self.pedigree.genotyped.iter().map(|&i| 2 * i as usize);
            own.flat_map(|i| [haplotypes[i], haplotypes[i + 1]]).collect()
        };
        Flock { snps, strands: all.par_iter().map(chunk).collect() }
    }

    /// One offspring of each of the `pairs` of `parents`. Every `brood` of a herd has crossovers of its own.
    pub fn offspring(&self, parents: &Flock, pairs: &[(usize, usize)], brood: u32) -> Flock {
        let gametes = Gametes::of_brood(self.seed, &self.map, brood, pairs.len());
        let all: Vec<Range<usize>> = chunks(0..self.map.len()).collect();
        let chunk = |(snps, strands): (&Range<usize>, &Vec<Haplotype>)| {
            let transmitted = |(gamete, parent): (usize, usize)| {
                gametes.transmitted(gamete, snps, &strands[2 * parent..2 * parent + 2])
            };
            pairs.iter().flat_map(|&(a, b)| [a, b]).enumerate().map(transmitted).collect()
        };
        Flock { snps: parents.snps, strands: all.par_iter().zip(&parents.strands).map(chunk).collect() }
    }

    /// Genetic values and phenotypes of the herd that `flock` is, as [`Herd::write_genotypes`] and
    /// [`Herd::traits`] give them.
    pub fn traits_of(&self, flock: &Flock) -> Traits {
        self.traits_from(&flock.calls_at(&self.qtl.snps))
    }

    /// Total genetic values of other animals, (animals, traits), relative to the mean of the herd, by the genes and
    /// the scales of the herd.
    pub fn values(&self, traits: &Traits, flock: &Flock) -> Array2<f64> {
        traits::values(&self.config, &self.qtl, traits, &flock.calls_at(&self.qtl.snps))
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::SimulationConfig;
    use super::*;
    use crate::comm::World;
    use crate::genotype::Store;
    use crate::simulate::Outputs;
    use crate::stats;

    fn herd() -> Herd {
        let config = SimulationConfig { animals: 120, snps: 600, missing_calls: 0.0, ..Default::default() };
        Herd::draw(5, &config).unwrap()
    }

    #[test]
    fn the_flock_of_a_herd_has_its_genotypes_and_its_values() {
        let herd = herd();
        let dir = tempfile::tempdir().unwrap();
        let outputs = Outputs::beside(&dir.path().join("h.h5"), &dir.path().join("p.tsv"), false);
        let dropped = herd.write_genotypes(&World::alone(), &outputs).unwrap().unwrap();
        let store = Store::open(&outputs.store).unwrap();
        let flock = herd.flock();
        assert_eq!(flock.calls(0..600).bytes(), store.read(0..120, 0..600).unwrap().bytes());
        assert_eq!(flock.calls(256..600).bytes(), store.read(0..120, 256..600).unwrap().bytes());
        let (traits, again) = (herd.traits(&dropped), herd.traits_of(&flock));
        assert_eq!(traits.phenotype.mapv(f64::to_bits), again.phenotype.mapv(f64::to_bits));
        // All kinds of traits are among the 33: the laws give back what was drawn.
        let values = herd.values(&traits, &flock);
        for (k, column) in values.columns().into_iter().enumerate() {
            let wanted = traits.total.column(k);
            let sd = stats::variance(&wanted.to_vec()).sqrt();
            for (i, (got, want)) in column.iter().zip(wanted).enumerate() {
                assert!((got - want).abs() < 1e-9 * sd, "trait {k} animal {i}: {got} {want}");
            }
        }
    }

    #[test]
    fn offspring_get_one_allele_of_each_parent_and_the_mean_of_their_values() {
        let herd = herd();
        let parents = herd.flock();
        let traits = herd.traits_of(&parents);
        let pairs: Vec<(usize, usize)> = (0..2000).map(|k| (k % 7, 50 + k % 5)).collect();
        let brood = herd.offspring(&parents, &pairs, 3);
        assert_eq!(brood.len(), 2000);
        assert_eq!(brood, herd.offspring(&parents, &pairs, 3));
        assert_ne!(brood, herd.offspring(&parents, &pairs, 4));
        let (old, new) = (parents.calls(0..600), brood.calls(0..600));
        for (k, &(a, b)) in pairs.iter().enumerate().step_by(37) {
            for j in 0..600 {
                // A homozygous parent gives what it has.
                let (x, y, z) = (old.get(a, j), old.get(b, j), new.get(k, j));
                let (least, most) = ((x == 2) as u8 + (y == 2) as u8, (x > 0) as u8 + (y > 0) as u8);
                assert!((least..=most).contains(&z), "{x} {y} {z}");
            }
        }
        // The first trait is additive.
        let values = herd.values(&traits, &brood);
        let found = stats::mean(&values.column(0).to_vec());
        let of = |i: usize| traits.additive[[i, 0]];
        let wanted = pairs.iter().map(|&(a, b)| 0.5 * (of(a) + of(b))).sum::<f64>() / 2000.0;
        let sd = stats::variance(&traits.additive.column(0).to_vec()).sqrt();
        assert!((found - wanted).abs() < 0.08 * sd, "{found} {wanted} {sd}");
    }
}
