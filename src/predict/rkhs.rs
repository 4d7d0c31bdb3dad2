//! RKHS regression: BLUP with a Gaussian kernel of the genotypes in the place of G (Gianola & van Kaam 2008; de los Campos
//! et al. 2010).
//!
//! K = exp(−d²/(h · median d²)) with squared distances d² of the genotypes. A small h makes animals alike only where they
//! are near: the kernel then holds epistasis of all orders (Jiang & Reif 2015). Of several h each trait takes that of the
//! highest restricted likelihood in the training part.

use super::align;
use super::data::{Block, Data};
use super::learner::gblup::{fits_on_all, Gblup, Relationships};
use super::learner::{Cost, Learned, Learner, Trained, Training};
use super::{model, Inputs, Kind, Predictor};
use crate::comm::{layout, World};
use crate::config::{self, Settings};
use crate::device::network::Network;
use crate::error::{Error, Result};
use crate::genotype::Variants;
use crate::grm::{explicit, GenotypeMatrix, Scaling};
use crate::hdf::{Group, GroupWriter};
use crate::mixed::gblup::Fit;
use crate::mixed::model::{gaussian_within, median_distance};
use crate::nn::checkpointer::Checkpointer;
use crate::packed::{Packed, MISSING};
use ndarray::{s, Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Instant;

/// The distances are those of this G.
const SCALING: Scaling = Scaling::VanRaden1;
/// New animals that are predicted at a time.
const BLOCK: usize = 2000;

/// Settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RkhsConfig {
    /// h of the kernels to choose from, in medians of the squared distance. By default those of Pérez & de los Campos
    /// (2014), who write 1/h: 0.1, 0.5 and 2.5.
    pub bandwidth: Vec<f64>,
}

impl Default for RkhsConfig {
    fn default() -> Self {
        RkhsConfig { bandwidth: vec![0.4, 2.0, 10.0] }
    }
}

/// RKHS regression.
pub const KIND: Kind = Kind {
    name: "rkhs",
    about: "BLUP with a Gaussian kernel of the genotypes, which holds epistasis too",
    files: &["rkhs"],
    configure: |settings| Ok(Box::new(RkhsConfig::configure(settings)?)),
    read: RkhsModel::read,
};

impl RkhsConfig {
    fn configure(settings: Settings) -> Result<RkhsConfig> {
        let config: RkhsConfig = settings.read()?;
        let wrong = config.bandwidth.iter().find(|h| !(**h > 0.0 && h.is_finite()));
        match (config.bandwidth.is_empty(), wrong) {
            (false, None) => Ok(config),
            (_, wrong) => {
                let found = wrong.map_or("none".to_owned(), f64::to_string);
                let expected = "one or more positive numbers in `bandwidth`";
                Err(Error::input(settings.place(), expected, found, "0.4, 2 and 10 are usual"))
            }
        }
    }

    /// Each set's fit by the kernel that is the likeliest for each trait, the reach of each trait's kernel, and seconds.
    /// Collective; every rank receives all.
    fn choose(&self, data: &Data, sets: &[Training]) -> Result<Vec<Chosen>> {
        let begun = Instant::now();
        let g = data.relationships(SCALING)?;
        let median = median_distance(g.view());
        let mut best: Vec<Option<Chosen>> = sets.iter().map(|_| None).collect();
        for h in &self.bandwidth {
            let reach = h * median;
            let kernel = Arc::new(gaussian_within(g.view(), reach));
            let blup = Gblup { relationships: Relationships::Held(kernel), h2: None };
            for (best, fit) in best.iter_mut().zip(blup.wholes(&data.world, sets)?) {
                match best {
                    None => *best = Some(Chosen::new(fit, reach)),
                    Some(best) => best.improve(&fit, reach),
                }
            }
        }
        let each = begun.elapsed().as_secs_f64() / sets.len().max(1) as f64;
        Ok(best.into_iter().flatten().map(|chosen| Chosen { seconds: each, ..chosen }).collect())
    }
}

/// The best fit of a set so far.
struct Chosen {
    fit: Fit,
    /// h · median d² of each trait's kernel.
    reach: Vec<f64>,
    seconds: f64,
}

impl Chosen {
    fn new(fit: Fit, reach: f64) -> Chosen {
        Chosen { reach: vec![reach; fit.estimates.len()], fit, seconds: 0.0 }
    }

    /// Takes the traits over that another kernel makes likelier.
    fn improve(&mut self, other: &Fit, reach: f64) {
        for (k, estimate) in other.estimates.iter().enumerate() {
            let better = estimate.log_likelihood > self.fit.estimates[k].log_likelihood;
            if !better || estimate.outcome.reason().is_some() {
                continue;
            }
            self.reach[k] = reach;
            self.fit.estimates[k] = estimate.clone();
            self.fit.fixed.column_mut(k).assign(&other.fixed.column(k));
            self.fit.ebv.column_mut(k).assign(&other.ebv.column(k));
            self.fit.py.column_mut(k).assign(&other.py.column(k));
        }
    }
}

impl Learner for RkhsConfig {
    fn settings(&self) -> String {
        config::as_text(self)
    }

    fn joint(&self) -> bool {
        false
    }

    fn is_stochastic(&self) -> bool {
        false
    }

    fn reads(&self) -> Vec<Block> {
        vec![Block::Genotypes(SCALING), Block::Relationships(SCALING)]
    }

    fn at_once(&self, data: &Data, animals: usize) -> usize {
        fits_on_all(&data.world, animals)
    }

    fn shares_splits(&self) -> bool {
        true
    }

    fn fit(&self, data: &Data, sets: &[Training]) -> Result<Vec<Learned>> {
        let of = |(set, chosen): (&Training, Chosen)| Learned::of(set, chosen.fit, chosen.seconds);
        Ok(sets.iter().zip(self.choose(data, sets)?).map(of).collect())
    }

    fn train(
        &self,
        data: &Data,
        set: &Training,
        _checkpointer: Option<&mut Checkpointer>,
    ) -> Result<Trained> {
        let chosen = self.choose(data, std::slice::from_ref(set))?.pop().expect("one set, one fit");
        let (fit, animals) = (chosen.fit, set.animals());
        let world = &data.world;
        let frequency = world.all_gather(&data.genotypes(SCALING)?.frequencies().to_vec()).concat();
        let mut effects = fit.py.select(Axis(0), &animals);
        for (mut column, estimate) in effects.columns_mut().into_iter().zip(&fit.estimates) {
            column *= if estimate.outcome.reason().is_some() { 0.0 } else { estimate.var_g };
        }
        let all: Vec<usize> = (0..data.store.n_variants()).collect();
        let genotypes = world.agree(data.store.read(0..data.animals(), 0..all.len()))?.select(&animals, &all);
        let model = RkhsModel {
            traits: set.names(),
            variants: Variants { frequency, ..data.store.variants().clone() },
            genotypes,
            reach: chosen.reach,
            effects,
            fixed_names: set.records.effects.clone(),
            fixed: fit.fixed,
        };
        Ok(Trained { model: Some(Box::new(model)), ..Trained::default() })
    }

    fn methods(&self) -> String {
        format!(
            "RKHS regression (Gianola & van Kaam 2008; de los Campos et al. 2010): BLUP with the Gaussian kernel \
             exp(−d²/(h · median d²)) of squared genomic distances in the place of G. Of h in {:?} each trait takes that \
             of the highest restricted likelihood in each training part.",
            self.bandwidth
        )
    }

    fn cost(&self, n: f64, m: f64, t: f64) -> Cost {
        let kernels = self.bandwidth.len() as f64;
        let operations = n * n * m + kernels * (8.0 / 3.0 * n.powi(3) + 20.0 * n * n + n * n * t);
        Cost { operations, bytes: 5.2 * 8.0 * n * n }
    }
}

/// Kernel effects of the training animals and all that is needed to apply them to other animals: û = K α̂.
#[derive(Debug, Clone, PartialEq)]
pub struct RkhsModel {
    /// Names of the traits, t.
    pub traits: Vec<String>,
    /// Names and alleles of the SNPs, m, and the frequencies that centre the genotypes.
    pub variants: Variants,
    /// Genotypes of the training animals, (n, m).
    pub genotypes: Packed,
    /// h · median d² of each trait's kernel, (t).
    pub reach: Vec<f64>,
    /// α̂ = σ²g V⁻¹(y − Wb̂) of the training animals, (n, t).
    pub effects: Array2<f64>,
    /// Names of the fixed effects, q.
    pub fixed_names: Vec<String>,
    /// Fixed effects b̂, (q, t): not part of predictions.
    pub fixed: Array2<f64>,
}

impl RkhsModel {
    fn read(file: &Group, _name: &str, _length: u64) -> Result<Box<dyn Predictor>> {
        let (variants, effects, fixed) =
            (model::read_variants(file)?, file.matrix::<f64>("effects")?, file.group("fixed")?);
        let (n, m) = (effects.nrows(), variants.id.len());
        let rows: Array2<u8> = file.matrix("genotypes")?;
        let empty = Packed::missing(n, m);
        if rows.dim() != (n, empty.stride()) {
            return Err(file.damaged("genotypes of another size"));
        }
        let model = RkhsModel {
            traits: file.names("traits")?,
            variants,
            genotypes: Packed::from_bytes(n, m, rows.into_raw_vec_and_offset().0),
            reach: file.list("reach")?,
            effects,
            fixed_names: fixed.texts("names")?,
            fixed: fixed.matrix("effects")?,
        };
        Ok(Box::new(model::sound(file, model, RkhsModel::is_whole, RkhsModel::is_finite)?))
    }

    fn is_whole(&self) -> bool {
        let t = self.traits.len();
        self.effects.ncols() == t
            && self.reach.len() == t
            && model::of_one_size(&self.variants, (&self.fixed_names, &self.fixed), t)
    }

    fn is_finite(&self) -> bool {
        self.effects.iter().chain(&self.fixed).all(|v| v.is_finite())
            && self.reach.iter().all(|r| r.is_finite() && *r > 0.0)
            && self.variants.frequency.iter().all(|p| (0.0..=1.0).contains(p))
    }

    /// The training animals' calls at this rank's SNPs of a store, counted alleles as there; missing where the model
    /// lacks a SNP.
    fn calls(&self, found: &[align::Match]) -> Packed {
        let mut out = Packed::missing(self.genotypes.rows(), found.len());
        for (j, of) in found.iter().enumerate() {
            let Some((k, turned)) = *of else { continue };
            for i in 0..out.rows() {
                let code = self.genotypes.get(i, k);
                out.set(i, j, if turned && code != MISSING { 2 - code } else { code });
            }
        }
        out
    }

    /// Predictions for some animals, whose genotypes are `new`, from relationships g of the training animals and them,
    /// (n + new, n + new).
    fn values(&self, g: ArrayView2<f64>) -> Array2<f64> {
        let n = self.genotypes.rows();
        let mut out = Array2::zeros((g.nrows() - n, self.traits.len()));
        for (t, mut column) in out.columns_mut().into_iter().enumerate() {
            for (i, value) in column.iter_mut().enumerate() {
                let own = g[[n + i, n + i]];
                let to = |j: usize| ((2.0 * g[[n + i, j]] - own - g[[j, j]]).min(0.0) / self.reach[t]).exp();
                *value = (0..n).map(|j| to(j) * self.effects[[j, t]]).sum();
            }
        }
        out
    }
}

impl Predictor for RkhsModel {
    fn kind(&self) -> &'static str {
        KIND.name
    }

    fn write_parts(&self, file: &GroupWriter) -> Result<()> {
        file.texts("traits", &self.traits)?;
        model::write_variants(file, &self.variants)?;
        model::write_fixed(file, &self.fixed_names, &self.fixed)?;
        file.list("reach", &self.reach)?;
        let shape = (self.genotypes.rows(), self.genotypes.stride());
        let rows = ArrayView2::from_shape(shape, self.genotypes.bytes()).expect("whole rows");
        file.matrix("genotypes", rows)?;
        file.matrix("effects", self.effects.view())
    }

    fn traits(&self) -> &[String] {
        &self.traits
    }

    fn predict(&self, world: &World, device: Arc<dyn Network>, inputs: Inputs) -> Result<Array2<f64>> {
        let store = inputs.store;
        let found = align::align(&self.variants, store.variants(), store.path())?;
        let m = store.n_variants();
        let snps = layout::snps_of(m, world.rank(), world.size());
        let own = &found[snps.clone()];
        let frequencies = align::frequencies(&self.variants, own);
        let (before, n) = (self.calls(own), self.genotypes.rows());
        let mut out = Array2::zeros((store.n_animals(), self.traits.len()));
        for start in (0..store.n_animals()).step_by(BLOCK) {
            let animals = start..(start + BLOCK).min(store.n_animals());
            let new = world.agree(store.read(animals.clone(), snps.clone()))?;
            let bytes = [before.bytes(), new.bytes()].concat();
            let both = Packed::from_bytes(n + animals.len(), snps.len(), bytes);
            let (backend, of) = (device.clone(), frequencies.clone());
            let markers = GenotypeMatrix::with_frequencies(world, backend, both, snps.start, m, SCALING, of)?;
            let g = world.agree(explicit::grm(&markers))?;
            let values = world.on_root(|| Ok(self.values(g.as_ref().expect("on the root").view())))?;
            out.slice_mut(s![animals, ..]).assign(&values);
        }
        Ok(out)
    }
}
