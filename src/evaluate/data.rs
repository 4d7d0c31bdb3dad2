//! Where a study's genotypes and records come from.

use crate::config;
use crate::records::{Columns, Sources};
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
    /// What models learn from beside the genotypes: `FILE` or `FILE:name,name`.
    pub features: Option<String>,
    /// Record weights.
    pub weights: Option<PathBuf>,
    /// One more text that stands for a missing value.
    pub missing: Option<String>,
}

impl DataConfig {
    /// Makes paths relative to the configuration's folder.
    pub fn resolve(&mut self, config: &Path) {
        for named in [&mut self.store, &mut self.pheno, &mut self.weights].into_iter().flatten() {
            *named = config::beside(config, named);
        }
        for text in [&mut self.covar, &mut self.qcovar, &mut self.features].into_iter().flatten() {
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
            features: columns(&self.features),
            weights: self.weights.clone(),
            missing: self.missing.clone(),
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
