//! Stacked models applied to other animals: the weighted sum of what their bases say.

use super::learner::stacked::Stacked;
use super::{model, Inputs, Kind, Predictor};
use crate::comm::World;
use crate::device::network::Network;
use crate::error::Result;
use crate::hdf::{Group, GroupWriter};
use ndarray::{Array2, Axis};
use std::sync::Arc;

/// Bases of a model, at most.
const MOST: u64 = 1000;

/// Models and their weights.
pub struct StackedModel {
    /// Names of the traits, t.
    pub traits: Vec<String>,
    /// The models that are added.
    pub bases: Vec<Box<dyn Predictor>>,
    /// The weight of each for each trait, (bases, t).
    pub weights: Array2<f64>,
    /// Features that any of them reads.
    pub features: Vec<String>,
}

/// Several kinds, added.
pub const KIND: Kind = Kind {
    name: "stacked",
    about: "Several kinds of models, added with weights that their out-of-fold values earn",
    files: &["stacked"],
    configure: |settings| Ok(Box::new(Stacked::configure(settings)?)),
    read: StackedModel::read,
};

impl StackedModel {
    /// Models of the `traits` and their weights, (bases, t).
    pub fn new(traits: Vec<String>, bases: Vec<Box<dyn Predictor>>, weights: Array2<f64>) -> StackedModel {
        let mut features: Vec<String> = bases.iter().flat_map(|base| base.features().to_vec()).collect();
        features.sort_unstable();
        features.dedup();
        StackedModel { traits, bases, weights, features }
    }

    fn read(file: &Group, _name: &str, length: u64) -> Result<Box<dyn Predictor>> {
        let (traits, weights): (Vec<String>, Array2<f64>) = (file.names("traits")?, file.matrix("weights")?);
        let count = file.number::<u64>("bases")?;
        if count > MOST || count == 0 {
            return Err(file.damaged("an impossible number of bases"));
        }
        let base = |k: u64| {
            let group = file.group(&format!("base{k}"))?;
            let name = group.text("kind")?;
            match Kind::of_file(&name).filter(|kind| kind.name != KIND.name) {
                Some(kind) => (kind.read)(&group, &name, length),
                None => Err(file.damaged("a base of an unknown kind")),
            }
        };
        let bases = (0..count).map(base).collect::<Result<Vec<_>>>()?;
        let model = StackedModel::new(traits, bases, weights);
        Ok(Box::new(model::sound(file, model, StackedModel::is_whole, StackedModel::is_finite)?))
    }

    fn is_whole(&self) -> bool {
        self.weights.dim() == (self.bases.len(), self.traits.len())
            && self.bases.iter().all(|base| base.traits() == self.traits)
    }

    fn is_finite(&self) -> bool {
        self.weights.iter().all(|w| w.is_finite() && *w >= 0.0)
    }
}

impl Predictor for StackedModel {
    fn kind(&self) -> &'static str {
        KIND.name
    }

    fn write_parts(&self, file: &GroupWriter) -> Result<()> {
        file.texts("traits", &self.traits)?;
        file.matrix("weights", self.weights.view())?;
        file.number("bases", self.bases.len() as u64)?;
        for (k, base) in self.bases.iter().enumerate() {
            let group = file.group(&format!("base{k}"))?;
            group.text("kind", base.kind())?;
            base.write_parts(&group)?;
        }
        Ok(())
    }

    fn traits(&self) -> &[String] {
        &self.traits
    }

    fn features(&self) -> &[String] {
        &self.features
    }

    fn predict(&self, world: &World, device: Arc<dyn Network>, inputs: Inputs) -> Result<Array2<f64>> {
        let mut out = Array2::zeros((inputs.store.n_animals(), self.traits.len()));
        for (base, weights) in self.bases.iter().zip(self.weights.axis_iter(Axis(0))) {
            out += &(base.predict(world, device.clone(), inputs)? * weights);
        }
        Ok(out)
    }
}
