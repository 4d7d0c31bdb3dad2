//! Where a study's genotypes and records come from.

use crate::config;
use crate::genotype::phenotype::{Columns, Sources};
use crate::genotype::quality::Filters;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Where genotypes and records come from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// A store made by `import` or `simulate`.
    pub store: Option<PathBuf>,
    /// Records: TSV with `id` and one column a trait.
    pub pheno: Option<PathBuf>,
    /// Names of the traits; all numeric columns when empty.
    pub traits: Vec<String>,
    /// Categorical covariates: `FILE` or `FILE:name,name`.
    pub covar: Option<String>,
    /// Quantitative covariates: `FILE` or `FILE:name,name`.
    pub qcovar: Option<String>,
    /// Record weights.
    pub weights: Option<PathBuf>,
    /// One more text that stands for a missing value.
    pub missing: Option<String>,
}

/// Genotypes to import, and the filters of `genialearn import`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Chromosomes to keep, such as `1-29,X`.
    pub chromosomes: Option<String>,
    /// A list of animals to keep.
    pub keep: Option<PathBuf>,
    /// A list of SNPs to keep.
    pub extract: Option<PathBuf>,
}

impl DataConfig {
    /// Makes paths relative to the configuration's folder.
    pub fn resolve(&mut self, config: &Path) {
        for named in [&mut self.store, &mut self.pheno, &mut self.weights].into_iter().flatten() {
            *named = config::beside(config, named);
        }
        for text in [&mut self.covar, &mut self.qcovar].into_iter().flatten() {
            *text = beside(config, text);
        }
    }

    /// The phenotype reader's view of this; `pheno` when it was simulated.
    pub fn sources(&self, pheno: &Path) -> Sources {
        let columns = |text: &Option<String>| text.as_ref().map(|t| parse_columns(t));
        Sources {
            phenotypes: Columns { path: pheno.to_owned(), names: self.traits.clone() },
            covariates: columns(&self.covar),
            quantitative: columns(&self.qcovar),
            weights: self.weights.clone(),
            missing: self.missing.clone(),
        }
    }
}

impl ImportConfig {
    /// The filters.
    pub fn filters(&self) -> Filters {
        Filters {
            maf: self.maf,
            call_rate: self.call_rate,
            animal_call_rate: self.animal_call_rate,
            hwe: self.hwe,
            chromosomes: self.chromosomes.clone(),
            keep: self.keep.clone(),
            extract: self.extract.clone(),
        }
    }
}

/// `FILE` or `FILE:name,name`.
pub fn parse_columns(text: &str) -> Columns {
    match text.parse() {
        Ok(columns) => columns,
        Err(never) => match never {},
    }
}

/// A text that begins with a path, relative to the configuration.
pub fn beside(path: &Path, text: &str) -> String {
    config::beside(path, Path::new(text)).display().to_string()
}
