//! Networks of genotypes applied to other animals.

use super::learner::mlp::MlpConfig;
use super::{align, model, GblupModel, Inputs, Kind, Predictor};
use crate::comm::reduce::Exchange;
use crate::comm::World;
use crate::device::network::Network;
use crate::error::Result;
use crate::genotype::Variants;
use crate::hdf::{Group, GroupWriter};
use crate::nn::features::Encoding;
use crate::nn::mlp::{coding, Trained};
use crate::nn::stack::Part;
use crate::nn::train::predict;
use crate::nn::Running;
use crate::nn::{Architecture, Grid, Input, Net, Ranks, Reads};
use ndarray::{Array2, Axis};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// A trained network and all that is needed to apply it to other animals.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct MlpModel {
    /// Names of the traits, t.
    pub traits: Vec<String>,
    /// Names and alleles of the SNPs, m, and the training frequencies of the counted alleles.
    pub variants: Variants,
    /// Features that it reads beside the SNPs.
    pub encoding: Encoding,
    /// What the network is made of.
    pub architecture: Architecture,
    /// All parameters, tensor after tensor as [`MlpModel::parts`] says.
    pub parameters: Vec<f32>,
    /// Running means and variances of the layers with batch normalisation.
    pub running: Vec<Running>,
    /// What one unit of the head is worth in units of the trait, (t).
    pub sd: Vec<f64>,
    /// Names of the fixed effects, q.
    pub fixed_names: Vec<String>,
    /// Fixed effects of the training animals, (q, t): not part of predictions.
    pub fixed: Array2<f64>,
    /// The GBLUP to whose values those of the network are added.
    pub gblup: Option<Box<GblupModel>>,
}

impl MlpModel {
    /// Gathers a trained network on the root; nothing elsewhere. Collective.
    pub fn gather(
        ranks: &Ranks,
        trained: &Trained,
        architecture: &Architecture,
        variants: &Variants,
        (traits, fixed_names): (&[String], &[String]),
    ) -> Result<Option<MlpModel>> {
        let frequency = trained.all_frequencies(ranks);
        let running = ranks.world.agree(trained.running())?;
        let Some(parameters) = trained.parameters(ranks)? else { return Ok(None) };
        Ok(Some(MlpModel {
            traits: traits.to_vec(),
            variants: Variants { frequency, ..variants.clone() },
            encoding: trained.encoding.clone(),
            architecture: architecture.clone(),
            parameters: parameters.iter().map(|&w| w as f32).collect(),
            running,
            sd: trained.records.sd.clone(),
            fixed_names: fixed_names.to_vec(),
            fixed: trained.records.fixed.clone(),
            gblup: None,
        }))
    }

    /// Where the tensors lie in the parameters, for all m SNPs.
    pub fn parts(&self) -> Vec<Part> {
        let m = self.variants.len();
        let plan = self.architecture.plan(&self.reads(0..m, m), self.traits.len());
        plan.parts().expect("an architecture has a chain")
    }

    /// What the first layer reads, of so many SNPs of a store.
    fn reads(&self, own: Range<usize>, all: usize) -> Reads {
        Reads::snps(own, all, self.encoding.width())
    }

    /// Writes the model file; on the root only.
    pub fn write(&self, path: &Path, force: bool) -> Result<()> {
        model::save(self, path, force)
    }

    fn read(file: &Group, _name: &str, _length: u64) -> Result<Box<dyn Predictor>> {
        let model = model::read_mlp(file)?;
        Ok(Box::new(model::sound(file, model, MlpModel::is_whole, MlpModel::is_finite)?))
    }
}

/// Networks of genotypes.
pub const KIND: Kind = Kind {
    name: "mlp",
    about: "A network from genotypes to all traits at once",
    files: &["mlp"],
    configure: |settings| Ok(Box::new(MlpConfig::configure(settings)?)),
    read: MlpModel::read,
};

impl Predictor for MlpModel {
    fn kind(&self) -> &'static str {
        KIND.name
    }

    fn write_parts(&self, file: &GroupWriter) -> Result<()> {
        model::write_mlp(file, self)
    }

    fn traits(&self) -> &[String] {
        &self.traits
    }

    fn features(&self) -> &[String] {
        &self.encoding.features
    }

    fn predict(&self, world: &World, device: Arc<dyn Network>, inputs: Inputs) -> Result<Array2<f64>> {
        let store = inputs.store;
        let found = align::align(&self.variants, store.variants(), store.path())?;
        let features = self.encoding.encoded(inputs.features)?;
        let m = store.n_variants();
        let ranks = Ranks::new(world, &device, Grid::Auto.parts(world.size(), m)?, Exchange::Host)?;
        let snps = ranks.snps_of(m);
        let h = self.architecture.first_units(self.traits.len());
        let frequencies = align::frequencies(&self.variants, &found[snps.clone()]);
        let mut parameters = vec![0.0; snps.len() * h];
        for (row, j) in parameters.chunks_exact_mut(h).zip(snps.clone()) {
            let Some((k, turned)) = found[j] else { continue };
            let sign = if turned { -1.0 } else { 1.0 };
            let from = &self.parameters[k * h..(k + 1) * h];
            row.iter_mut().zip(from).for_each(|(to, &w)| *to = sign * f64::from(w));
        }
        parameters.extend(self.parameters[self.variants.len() * h..].iter().map(|&w| f64::from(w)));
        let packed = world.agree(store.read(0..store.n_animals(), snps.clone()))?;
        let held = world.agree(device.hold(&Arc::new(packed), &coding(&frequencies)))?;
        let made = Net::new(&device, &self.architecture, &self.reads(snps, m), self.traits.len(), 0);
        let mut net = world.agree(made)?;
        world.agree(net.set_parameters(&parameters))?;
        world.agree(net.set_running(&self.running))?;
        let animals: Vec<usize> = (0..store.n_animals()).collect();
        let mut out = predict(&mut net, &ranks, Input::Genotypes(&held, Some(&features)), &animals)?;
        out.axis_iter_mut(Axis(1)).zip(&self.sd).for_each(|(mut x, sd)| x *= *sd);
        match &self.gblup {
            Some(gblup) => Ok(out + gblup.predict(world, device, inputs)?),
            None => Ok(out),
        }
    }
}
