//! Models that predict traits from genotypes, and their files.

mod align;
pub mod dlgblup;
pub mod gblup;
pub mod learner;
pub mod mlp;
mod model;
pub mod trait_network;

pub use dlgblup::DlgblupModel;
pub use gblup::GblupModel;
pub use mlp::MlpModel;

use crate::comm::World;
use crate::device::network::Network;
use crate::error::Result;
use crate::genotype::Store;
use crate::hdf::Format;
use ndarray::Array2;
use std::path::Path;
use std::sync::Arc;

/// The files of models.
pub static FORMAT: Format = Format {
    name: "genialearn-model",
    version: 2,
    what: "a model file",
    advice: "make it again with `genialearn gblup` or `genialearn train`",
};

/// Values of several genetic effects, each with its name, (n, t).
pub type GeneticValues = Vec<(String, Array2<f64>)>;

/// A trained model of some traits.
pub trait Predictor {
    /// Names of the traits, t.
    fn traits(&self) -> &[String];

    /// Predictions for all animals of a store, (n, t), on every rank. Collective.
    fn predict(&self, world: &World, device: Arc<dyn Network>, store: &Store) -> Result<Array2<f64>>;

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
        _store: &Store,
    ) -> Result<Option<GeneticValues>> {
        Ok(None)
    }
}

/// Any model that a file may hold.
#[derive(serde::Serialize, serde::Deserialize)]
enum Model {
    Gblup(GblupModel),
    Mlp(MlpModel),
    Dlgblup(DlgblupModel),
}

/// Reads any model file on the root and gives it to every rank.
pub fn load(world: &World, path: &Path) -> Result<Box<dyn Predictor>> {
    Ok(match world.on_root(|| model::read(path))? {
        Model::Gblup(model) => Box::new(model),
        Model::Mlp(model) => Box::new(model),
        Model::Dlgblup(model) => Box::new(model),
    })
}
