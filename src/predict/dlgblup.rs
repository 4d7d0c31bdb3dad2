//! DLGBLUP applied to other animals: SNP effects, and a network from the values that they give.

use super::learner::dlgblup::DlgblupConfig;
use super::trait_network::TraitNetwork;
use super::{model, GblupModel, Inputs, Kind, Predictor};
use crate::comm::World;
use crate::device::network::Network;
use crate::error::Result;
use crate::grm::Scaling;
use crate::hdf::{Group, GroupWriter};
use crate::nn::features::Encoding;
use ndarray::{Array2, ArrayView2};
use std::sync::Arc;

/// A trained DLGBLUP.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DlgblupModel {
    /// GBLUP of all traits.
    pub gblup: GblupModel,
    /// Features that the network reads beside its values.
    pub encoding: Encoding,
    /// From its values to each trait.
    pub network: TraitNetwork,
}

impl DlgblupModel {
    fn read(file: &Group, _name: &str, _length: u64) -> Result<Box<dyn Predictor>> {
        let gblup = model::read_gblup(file, Scaling::VanRaden1)?;
        let (encoding, network) = (model::read_encoding(file)?, model::read_trait_network(file)?);
        let model = DlgblupModel { gblup, encoding, network };
        let whole = |m: &DlgblupModel| {
            m.gblup.is_whole() && m.network.is_whole(m.gblup.traits.len(), m.encoding.width())
        };
        let finite = |m: &DlgblupModel| m.gblup.is_finite() && m.network.is_finite();
        Ok(Box::new(model::sound(file, model, whole, finite)?))
    }
}

/// GBLUP and a network.
pub const KIND: Kind = Kind {
    name: "dlgblup",
    about: "GBLUP, and a network from the values of all traits to each trait",
    files: &["dlgblup"],
    configure: |settings| Ok(Box::new(DlgblupConfig::configure(settings)?)),
    read: DlgblupModel::read,
};

impl Predictor for DlgblupModel {
    fn kind(&self) -> &'static str {
        KIND.name
    }

    fn write_parts(&self, file: &GroupWriter) -> Result<()> {
        model::write_effects(file, &self.gblup)?;
        model::write_encoding(file, &self.encoding)?;
        model::write_trait_network(file, &self.network)
    }

    fn traits(&self) -> &[String] {
        &self.gblup.traits
    }

    fn features(&self) -> &[String] {
        &self.encoding.features
    }

    fn predict(&self, world: &World, device: Arc<dyn Network>, inputs: Inputs) -> Result<Array2<f64>> {
        let values = self.gblup.predict(world, device.clone(), inputs)?;
        let all: Vec<usize> = (0..values.nrows()).collect();
        let features = self.encoding.encoded(inputs.features)?.rows(&all);
        let features =
            ArrayView2::from_shape((all.len(), self.encoding.width()), &features).expect("whole rows");
        world.on_root(|| self.network.predict(&device, values.view(), features))
    }
}
