//! The pure network beside DLGBLUP applied to other animals: SNPs to values of all traits, and from these to each trait.

use super::learner::dl::DlConfig;
use super::trait_network::{no_features, TraitNetwork};
use super::{model, Inputs, Kind, MlpModel, Predictor};
use crate::comm::World;
use crate::device::network::Network;
use crate::error::Result;
use crate::hdf::{Group, GroupWriter};
use ndarray::Array2;
use std::sync::Arc;

/// Both stages.
#[derive(Debug, Clone, PartialEq)]
pub struct DlModel {
    /// From genotypes to values of all traits.
    pub first: MlpModel,
    /// From these to each trait.
    pub second: TraitNetwork,
}

impl DlModel {
    fn read(file: &Group, _name: &str, _length: u64) -> Result<Box<dyn Predictor>> {
        let first = model::read_mlp(&file.group("first")?)?;
        let model = DlModel { first, second: model::read_trait_network(file)? };
        let whole = |m: &DlModel| m.first.is_whole() && m.second.is_whole(m.first.traits.len(), 0);
        let finite = |m: &DlModel| m.first.is_finite() && m.second.is_finite();
        Ok(Box::new(model::sound(file, model, whole, finite)?))
    }
}

/// Two networks, the first of which GBLUP teaches.
pub const KIND: Kind = Kind {
    name: "dl",
    about: "DLGBLUP's network on a network of genotypes that learns GBLUP's values",
    files: &["dl"],
    configure: |settings| Ok(Box::new(DlConfig::configure(settings)?)),
    read: DlModel::read,
};

impl Predictor for DlModel {
    fn kind(&self) -> &'static str {
        KIND.name
    }

    fn write_parts(&self, file: &GroupWriter) -> Result<()> {
        model::write_mlp(&file.group("first")?, &self.first)?;
        model::write_trait_network(file, &self.second)
    }

    fn traits(&self) -> &[String] {
        &self.first.traits
    }

    fn predict(&self, world: &World, device: Arc<dyn Network>, inputs: Inputs) -> Result<Array2<f64>> {
        let values = self.first.predict(world, device.clone(), inputs)?;
        world.on_root(|| self.second.predict(&device, values.view(), no_features(values.nrows()).view()))
    }
}
