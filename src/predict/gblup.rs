//! GBLUP as SNP effects: û = M α̂, with M centred by the training frequencies.

use super::learner::gblup::GblupConfig;
use super::{align, model, GeneticValues, Inputs, Kind, Predictor};
use crate::comm::World;
use crate::device::network::Network;
use crate::error::Result;
use crate::genotype::Variants;
use crate::grm::{GenotypeMatrix, Scaling};
use crate::hdf::{Group, GroupWriter};
use crate::mixed::gblup::Fit;
use ndarray::{Array2, ArrayView2};
use std::path::Path;
use std::sync::Arc;

/// SNP effects of some traits and all that is needed to apply them to other animals.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct GblupModel {
    /// Names of the traits, t.
    pub traits: Vec<String>,
    /// Names and alleles of the SNPs, m, and the training frequencies of the counted alleles.
    pub variants: Variants,
    /// What the effects multiply: [`Scaling::VanRaden1`] centred counts, [`Scaling::Dominance`] its deviations.
    pub coding: Scaling,
    /// SNP effects α̂, (m, t): of one copy of the counted allele, or of the dominance deviation.
    pub effects: Array2<f64>,
    /// Names of the fixed effects, q.
    pub fixed_names: Vec<String>,
    /// Fixed effects b̂, (q, t).
    pub fixed: Array2<f64>,
    /// c of G = M M' / c.
    pub scale: f64,
    /// Effects of the dominance deviations of the same SNPs, where they were fitted beside additive effects.
    pub dominance: Option<Box<GblupModel>>,
}

/// SNP effects α̂ = (σ²g/c) M'V⁻¹(y − Wb̂) of this rank's SNPs, (m_local, t), for one copy of the counted allele
/// (VanRaden 2008; Strandén & Garrick 2009); those of dominance multiply Z as it is.
pub fn snp_effects(markers: &GenotypeMatrix, fit: &Fit) -> Array2<f64> {
    let mut effects = markers.transposed_times(fit.py.view());
    for (t, mut column) in effects.columns_mut().into_iter().enumerate() {
        // Without an estimate py is 0, and so are the effects.
        column *= match fit.estimates[t].outcome.reason() {
            Some(_) => 0.0,
            None => fit.estimates[t].var_g / markers.scale(),
        };
    }
    if !markers.scaling().is_additive() {
        return effects;
    }
    // Z may be scaled at each SNP: an effect on Z is worth its slope on the count of alleles.
    for (mut row, coding) in effects.rows_mut().into_iter().zip(markers.coding()) {
        row *= coding[1] - coding[0];
    }
    effects
}

impl GblupModel {
    /// Gathers every rank's effects, `effects` of shape (m_local, t), in the order of the SNPs. Collective.
    pub fn gather(
        markers: &GenotypeMatrix,
        variants: &Variants,
        traits: &[String],
        fixed: (&[String], &Array2<f64>),
        effects: &Array2<f64>,
    ) -> GblupModel {
        let world = markers.world();
        let parts = world.all_gather(effects);
        let views: Vec<ArrayView2<f64>> = parts.iter().map(|p| p.view()).collect();
        let effects = ndarray::concatenate(ndarray::Axis(0), &views).expect("columns are the traits");
        let frequency = world.all_gather(&markers.frequencies().to_vec()).concat();
        let additive = markers.scaling().is_additive();
        GblupModel {
            traits: traits.to_vec(),
            coding: if additive { Scaling::VanRaden1 } else { markers.scaling() },
            variants: Variants { frequency, ..variants.clone() },
            effects,
            fixed_names: fixed.0.to_vec(),
            fixed: fixed.1.clone(),
            scale: markers.scale(),
            dominance: None,
        }
    }

    /// Writes the model file; on the root only.
    pub fn write(&self, path: &Path, force: bool) -> Result<()> {
        model::save(self, path, force)
    }

    fn read(file: &Group, name: &str, _length: u64) -> Result<Box<dyn Predictor>> {
        let coding = FILES.iter().find(|(of, _)| *of == name).expect("a name of this kind").1;
        let model = model::read_gblup(file, coding)?;
        Ok(Box::new(model::sound(file, model, GblupModel::is_whole, GblupModel::is_finite)?))
    }
}

/// Names in files by what the effects multiply.
const FILES: [(&str, Scaling); 2] = [("gblup", Scaling::VanRaden1), ("gblup-dominance", Scaling::Dominance)];

/// Genomic BLUP.
pub const KIND: Kind = Kind {
    name: "gblup",
    about: "Genomic BLUP, each trait by itself or all in one model",
    files: &["gblup", "gblup-dominance"],
    configure: |settings| Ok(Box::new(GblupConfig::configure(settings)?)),
    read: GblupModel::read,
};

impl Predictor for GblupModel {
    fn kind(&self) -> &'static str {
        FILES.iter().find(|(_, coding)| *coding == self.coding).expect("one of the codings of models").0
    }

    fn write_parts(&self, file: &GroupWriter) -> Result<()> {
        model::write_effects(file, self)
    }

    fn traits(&self) -> &[String] {
        &self.traits
    }

    fn predict(&self, world: &World, device: Arc<dyn Network>, inputs: Inputs) -> Result<Array2<f64>> {
        let store = inputs.store;
        let found = align::align(&self.variants, store.variants(), store.path())?;
        let m = store.n_variants();
        let snps = crate::comm::layout::snps_of(m, world.rank(), world.size());
        let mut effects = Array2::zeros((snps.len(), self.traits.len()));
        let frequencies = align::frequencies(&self.variants, &found[snps.clone()]);
        for (row, j) in snps.clone().enumerate() {
            let Some((k, turned)) = found[j] else { continue };
            // Dominance is the same whichever allele is counted.
            let sign = if turned && self.coding.is_additive() { -1.0 } else { 1.0 };
            effects.row_mut(row).assign(&(&self.effects.row(k) * sign));
        }
        let packed = world.agree(store.read(0..store.n_animals(), snps.clone()))?;
        let (first, coding) = (snps.start, self.coding);
        let markers = GenotypeMatrix::with_frequencies(world, device, packed, first, m, coding, frequencies)?;
        Ok(markers.times(effects.view()))
    }

    fn has_parts(&self) -> bool {
        self.dominance.is_some()
    }

    fn genomic(
        &self,
        world: &World,
        device: Arc<dyn Network>,
        inputs: Inputs,
    ) -> Result<Option<GeneticValues>> {
        let Some(dominance) = &self.dominance else { return Ok(None) };
        let a = self.predict(world, device.clone(), inputs)?;
        let d = dominance.predict(world, device, inputs)?;
        let total = &a + &d;
        let names = ["additive", "dominance", "total"].map(String::from);
        Ok(Some(names.into_iter().zip([a, d, total]).collect()))
    }
}
