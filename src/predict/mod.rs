//! Models that predict traits from genotypes: how they learn, how they are applied to other animals, and their files.
//!
//! | file | holds |
//! |---|---|
//! | [`data`] | what learners read of a herd, shared and freed |
//! | [`learner`] | what learns: settings of a kind, and a fit to training animals |
//! | [`gblup`], [`rkhs`], [`ensemble`], [`mlp`], [`dlgblup`], [`dl`], [`stacked`] | the kinds of models, applied to other animals |
//! | [`trait_network`] | a network from values of all traits to each trait |
//! | `model` | the files of models |
//! | `align` | SNPs of a model among those of a store |
//!
//! A kind of model is its settings, which are a [`Learner`], its [`Predictor`], and one line in [`KINDS`]. `train`,
//! `study`, `predict` and `info` find it there.

mod align;
pub mod data;
pub mod dl;
pub mod dlgblup;
pub mod ensemble;
pub mod gblup;
pub mod learner;
pub mod mlp;
mod model;
pub mod rkhs;
pub mod stacked;
pub mod trait_network;

pub use data::{Block, Data};
pub use dlgblup::DlgblupModel;
pub use gblup::GblupModel;
pub use learner::Learner;
pub use mlp::MlpModel;
pub use model::{load, save};

use crate::comm::World;
use crate::config::Settings;
use crate::device::network::Network;
use crate::error::Result;
use crate::genotype::{Store, Variants};
use crate::hdf::{Format, Group, GroupWriter};
use crate::records::Features;
use ndarray::Array2;
use std::sync::Arc;

/// The files of models.
pub static FORMAT: Format = Format {
    name: "genialearn-model",
    version: 3,
    what: "a model file",
    advice: "make it again with `genialearn gblup` or `genialearn train`",
};

/// A kind of model.
pub struct Kind {
    /// Its name: `train NAME`, `kind = "NAME"` in a study.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// Names of the kind in model files.
    pub files: &'static [&'static str],
    /// Reads and checks its settings.
    pub configure: fn(Settings) -> Result<Box<dyn Learner>>,
    /// Reads a model from a file of that kind and of so many bytes.
    pub read: fn(&Group, &str, u64) -> Result<Box<dyn Predictor>>,
}

/// All kinds of models.
pub const KINDS: &[Kind] = &[
    gblup::KIND,
    rkhs::KIND,
    ensemble::FOREST,
    ensemble::BOOSTING,
    mlp::KIND,
    dlgblup::KIND,
    dl::KIND,
    stacked::KIND,
];

impl Kind {
    /// The kind of that name.
    pub fn named(name: &str) -> Option<&'static Kind> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    /// The kind of a model file that says so.
    pub fn of_file(name: &str) -> Option<&'static Kind> {
        KINDS.iter().find(|kind| kind.files.contains(&name))
    }

    /// The names of all kinds, for messages.
    pub fn names() -> String {
        KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ")
    }

    /// Its settings by default, as TOML.
    pub fn defaults(&self) -> String {
        (self.configure)(Settings::Default).map_or_else(|_| String::new(), |learner| learner.settings())
    }
}

/// Values of several genetic effects, each with its name, (n, t).
pub type GeneticValues = Vec<(String, Array2<f64>)>;

/// What a model is applied to.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The animals and their genotypes.
    pub store: &'a Store,
    /// Their features.
    pub features: &'a Features,
}

impl<'a> Inputs<'a> {
    /// Genotypes alone.
    pub fn genotypes(store: &'a Store) -> Inputs<'a> {
        static NONE: Features = Features(Vec::new());
        Inputs { store, features: &NONE }
    }
}

/// How much SNPs and features count in a model.
pub struct Importance<'a> {
    /// The SNPs, m.
    pub snps: &'a Variants,
    /// Names of the features, f.
    pub features: &'a [String],
    /// Shares of the SNPs and then the features, (m + f, t), each column with the sum 1.
    pub shares: Array2<f64>,
}

/// A trained model of some traits.
pub trait Predictor {
    /// Its kind, as files name it.
    fn kind(&self) -> &'static str;

    /// Writes its parts into a model file; on the root only.
    ///
    /// # Errors
    /// What the disk meets.
    fn write_parts(&self, file: &GroupWriter) -> Result<()>;

    /// Names of the traits, t.
    fn traits(&self) -> &[String];

    /// Names of the features that it reads beside the genotypes.
    fn features(&self) -> &[String] {
        &[]
    }

    /// Predictions for all animals of a store, (n, t), on every rank. Collective.
    fn predict(&self, world: &World, device: Arc<dyn Network>, inputs: Inputs) -> Result<Array2<f64>>;

    /// How much each SNP and feature counts for each trait; nothing for models that do not say so themselves.
    fn importance(&self) -> Option<Importance<'_>> {
        None
    }

    /// Whether there is more than one genetic effect.
    fn has_parts(&self) -> bool {
        false
    }

    /// Values of every genetic effect and their sum (Vitezica et al. 2013), each with its name, (n, t); nothing for
    /// models of one effect. Collective.
    fn genomic(
        &self,
        _world: &World,
        _device: Arc<dyn Network>,
        _inputs: Inputs,
    ) -> Result<Option<GeneticValues>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_name_and_stands_in_the_documentation() {
        let docs =
            crate::repository::file("docs/study.md").map(|path| std::fs::read_to_string(path).unwrap());
        for kind in KINDS {
            assert!(Kind::named(kind.name).unwrap().about == kind.about && !kind.defaults().is_empty());
            assert!(kind.files.iter().all(|name| Kind::of_file(name).unwrap().name == kind.name));
            let row = format!("| `{}` |", kind.name);
            let keys = kind.defaults().parse::<toml::Table>().unwrap();
            let Some(line) =
                docs.as_ref().map(|d| d.lines().find(|l| l.starts_with(&row)).unwrap_or_default())
            else {
                continue;
            };
            let named =
                |key: &String| line.contains(&format!("`{key}`")) || line.contains(&format!("[model.{key}]"));
            let like_another = line.contains("those of `");
            assert!(
                like_another || keys.keys().all(named),
                "docs/study.md lacks a key of {}: {line}",
                kind.name
            );
        }
    }
}
