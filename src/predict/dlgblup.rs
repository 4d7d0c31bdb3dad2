//! DLGBLUP applied to other animals: SNP effects, and a network from the values that they give.

use super::trait_network::TraitNetwork;
use super::{model, GblupModel, Predictor};
use crate::comm::World;
use crate::device::network::Network;
use crate::error::Result;
use crate::genotype::Store;
use ndarray::Array2;
use std::path::Path;
use std::sync::Arc;

/// A trained DLGBLUP.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DlgblupModel {
    /// GBLUP of all traits.
    pub gblup: GblupModel,
    /// From its values to each trait.
    pub network: TraitNetwork,
}

impl DlgblupModel {
    /// Writes the model file; on the root only.
    pub fn write(&self, path: &Path, force: bool) -> Result<()> {
        model::write_dlgblup(self, path, force)
    }
}

impl Predictor for DlgblupModel {
    fn traits(&self) -> &[String] {
        &self.gblup.traits
    }

    fn predict(&self, world: &World, device: Arc<dyn Network>, store: &Store) -> Result<Array2<f64>> {
        let values = self.gblup.predict(world, device.clone(), store)?;
        world.on_root(|| self.network.predict(&device, values.view()))
    }
}
