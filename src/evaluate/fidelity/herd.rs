//! Sets of animals, and how they are divided.

use super::Setting;
use crate::comm::layout;
use crate::comm::World;
use crate::error::Result;
use crate::grm::{GenotypeMatrix, Scaling};
use crate::packed::{Packed, PER_BYTE};
use crate::rng::{Purpose, Stream};

/// Animals with all their SNPs, the same on every rank.
#[derive(Debug, Clone)]
pub struct Herd {
    /// Calls, (n, m).
    pub packed: Packed,
    /// Records of the conditioning phenotype, NaN where there is none, (n).
    pub y: Option<Vec<f64>>,
}

impl Herd {
    /// Number of animals.
    pub fn n(&self) -> usize {
        self.packed.rows()
    }

    /// The animals `keep`, in that order.
    pub fn select(&self, keep: &[usize]) -> Herd {
        let y = self.y.as_ref().map(|y| keep.iter().map(|&i| y[i]).collect());
        Herd { packed: rows(&self.packed, keep), y }
    }

    /// The first `most` animals of a random order, in the order of the herd.
    pub fn sample(&self, most: usize, seed: u64, index: u64) -> Herd {
        if self.n() <= most {
            return self.clone();
        }
        let mut chosen = order(self.n(), seed, index);
        chosen.truncate(most);
        chosen.sort_unstable();
        self.select(&chosen)
    }
}

/// All SNPs of the animals `keep`.
pub(super) fn rows(packed: &Packed, keep: &[usize]) -> Packed {
    let bytes = keep.iter().flat_map(|&i| packed.row(i)).copied().collect();
    Packed::from_bytes(keep.len(), packed.columns(), bytes)
}

/// The animals of both.
pub(super) fn join(a: &Packed, b: &Packed) -> Packed {
    Packed::from_bytes(a.rows() + b.rows(), a.columns(), [a.bytes(), b.bytes()].concat())
}

/// 0..n in random order.
pub(super) fn order(n: usize, seed: u64, index: u64) -> Vec<usize> {
    let mut all: Vec<usize> = (0..n).collect();
    Stream::new(seed, Purpose::Halves, index).shuffle(&mut all);
    all
}

/// This rank's SNPs of animals, as Z with their own frequencies or with those of others.
pub(super) fn markers(
    setting: &Setting,
    packed: &Packed,
    frequencies: Option<Vec<f64>>,
) -> Result<GenotypeMatrix> {
    let (world, backend, m) = (setting.world, setting.backend.clone(), packed.columns());
    let (own, first) = own_columns(world, packed);
    match frequencies {
        None => GenotypeMatrix::from_packed(world, backend, own, first, m, Scaling::VanRaden1),
        Some(p) => GenotypeMatrix::with_frequencies(world, backend, own, first, m, Scaling::VanRaden1, p),
    }
}

fn own_columns(world: &World, packed: &Packed) -> (Packed, usize) {
    let snps = layout::snps_of(packed.columns(), world.rank(), world.size());
    if snps.len() == packed.columns() {
        return (packed.clone(), 0);
    }
    // A rank without SNPs may stand behind the last, half-filled byte.
    let first = snps.start / PER_BYTE;
    let bytes = first..first + snps.len().div_ceil(PER_BYTE);
    let all = (0..packed.rows()).flat_map(|i| &packed.row(i)[bytes.clone()]).copied().collect();
    (Packed::from_bytes(packed.rows(), snps.len(), all), snps.start)
}

/// The sets that are compared.
pub(super) struct Division {
    /// Animals of each set in the comparison, and in the baseline.
    pub animals: [usize; 2],
    /// Real animals.
    pub real: Herd,
    /// As many synthetic ones.
    pub synthetic: Herd,
    /// Two disjoint parts of the real animals.
    pub halves: [Herd; 2],
    /// As many synthetic animals as one of these.
    pub as_half: Herd,
}

impl Division {
    pub(super) fn new(setting: &Setting, real: &Herd, synthetic: &Herd) -> Division {
        let size = real.n().min(synthetic.n()).min(setting.most);
        let half = size.min(real.n() / 2);
        let (of_real, of_synthetic) =
            (order(real.n(), setting.seed, 0), order(synthetic.n(), setting.seed, 1));
        let part = |herd: &Herd, order: &[usize]| {
            let mut chosen = order.to_vec();
            chosen.sort_unstable();
            herd.select(&chosen)
        };
        Division {
            animals: [size, half],
            real: part(real, &of_real[..size]),
            synthetic: part(synthetic, &of_synthetic[..size]),
            halves: [part(real, &of_real[..half]), part(real, &of_real[half..2 * half])],
            as_half: part(synthetic, &of_synthetic[..half]),
        }
    }
}
