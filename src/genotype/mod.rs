//! Genotypes of a herd: who the animals are, what the SNPs are, where the calls are kept.

pub mod chromosome;
pub mod source;
pub mod plink;
pub mod vcf;
pub mod text;
pub mod bimbam;
pub mod npy;
pub mod store;
pub mod animals;
pub mod hardy;
pub mod import;
pub mod quality;
pub mod expand;
pub mod export;

#[cfg(test)]
mod properties;

pub use source::Source;
pub use store::{Store, StoreWriter};

/// The SNPs of a store, column by column of `/variants`.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Variants {
    /// Chromosome name, as in the source.
    pub chromosome: Vec<String>,
    /// Position in base pairs, 0 when unknown.
    pub position: Vec<u64>,
    /// Name, unique.
    pub id: Vec<String>,
    /// The allele whose copies are counted.
    pub counted_allele: Vec<String>,
    /// The other allele.
    pub other_allele: Vec<String>,
    /// Genetic position in centimorgans, NaN when unknown.
    pub cm: Vec<f64>,
    /// Frequency of the counted allele among called genotypes, NaN when none is called.
    pub frequency: Vec<f64>,
    /// Number of missing calls.
    pub missing: Vec<u64>,
}

/// The animals of a store, column by column of `/animals`.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Animals {
    /// Name, unique.
    pub id: Vec<String>,
    /// ISO 8601 date (`2019-04-30`, sorts as text), empty when unknown.
    pub birth_date: Vec<String>,
    /// Father's name, empty when unknown.
    pub sire: Vec<String>,
    /// Mother's name, empty when unknown.
    pub dam: Vec<String>,
    /// 1 male, 2 female, 0 unknown (as in PLINK).
    pub sex: Vec<u8>,
    /// Family, herd or breed for the splits that keep groups together, empty when unknown.
    pub group: Vec<String>,
}

impl Variants {
    /// Number of SNPs, m.
    pub fn len(&self) -> usize {
        self.id.len()
    }

    /// Whether there is no SNP.
    pub fn is_empty(&self) -> bool {
        self.id.is_empty()
    }

    /// The SNPs `keep`, in that order.
    pub fn select(&self, keep: &[usize]) -> Variants {
        Variants {
            chromosome: pick(&self.chromosome, keep),
            position: pick(&self.position, keep),
            id: pick(&self.id, keep),
            counted_allele: pick(&self.counted_allele, keep),
            other_allele: pick(&self.other_allele, keep),
            cm: pick(&self.cm, keep),
            frequency: pick(&self.frequency, keep),
            missing: pick(&self.missing, keep),
        }
    }
}

impl Animals {
    /// Animals of whom only the names are known.
    pub fn named(id: Vec<String>) -> Animals {
        let blank = vec![String::new(); id.len()];
        Animals {
            birth_date: blank.clone(),
            sire: blank.clone(),
            dam: blank.clone(),
            sex: vec![0; id.len()],
            group: blank,
            id,
        }
    }

    /// Number of animals, n.
    pub fn len(&self) -> usize {
        self.id.len()
    }

    /// Whether there is no animal.
    pub fn is_empty(&self) -> bool {
        self.id.is_empty()
    }

    /// The animals `keep`, in that order.
    pub fn select(&self, keep: &[usize]) -> Animals {
        Animals {
            id: pick(&self.id, keep),
            birth_date: pick(&self.birth_date, keep),
            sire: pick(&self.sire, keep),
            dam: pick(&self.dam, keep),
            sex: pick(&self.sex, keep),
            group: pick(&self.group, keep),
        }
    }
}

fn pick<T: Clone>(all: &[T], keep: &[usize]) -> Vec<T> {
    keep.iter().map(|&i| all[i].clone()).collect()
}
