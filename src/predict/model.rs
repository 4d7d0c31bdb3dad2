//! Model files: HDF5 with the attributes `format`, `format_version`, `kind` and `created_by`.
//!
//! Kind `gblup`, and `gblup-dominance` where the effects are of dominance: `/traits`,
//! `/variants/{id,counted_allele,other_allele,frequency}`, `/effects` (m, t), `/fixed/{names,effects}` (q), (q, t),
//! and the attribute `scale`; where dominance was fitted beside additive effects, `/dominance/effects` (m, t) with its
//! own `scale`.
//!
//! Kind `mlp`: `/traits`, `/variants`, `/fixed` as above, `/sd` (t), `/parameters/LAYER.{weight,bias,shift,scale}`
//! and, with batch normalisation, `/running/LAYER.{mean,variance}`; the attribute `architecture` is JSON. Where the
//! network learned what GBLUP leaves, the group `/gblup` has the parts of kind `gblup`.
//!
//! Kind `dlgblup`: the parts of `gblup`, and `/network/{hidden,parameters,input_mean,input_sd,output_mean,output_sd}` with
//! the attributes `slope`, LeakyReLU's below zero, and `residual`, 1 where its output is added to its input.

use super::trait_network::{Scale, TraitNetwork};
use super::{DlgblupModel, GblupModel, MlpModel, Model, FORMAT};
use crate::error::{Error, Result};
use crate::genotype::Variants;
use crate::grm::Scaling;
use crate::hdf::{Group, GroupWriter, Reader, Writer};
use crate::nn::Running;
use crate::nn::{Architecture, Normalisation};
use ndarray::{Array2, ArrayView2};
use std::path::Path;

/// The kinds of models by what their effects multiply.
const KINDS: [(&str, Scaling); 2] = [("gblup", Scaling::VanRaden1), ("gblup-dominance", Scaling::Dominance)];

/// The name of networks of genotypes.
const MLP: &str = "mlp";

/// Hidden layers of a network, at most.
const LAYERS: usize = 1000;

/// The name of networks on GBLUP values.
const DLGBLUP: &str = "dlgblup";

/// Writes a GBLUP model.
pub fn write_gblup(model: &GblupModel, path: &Path, force: bool) -> Result<()> {
    let (kind, _) = KINDS.into_iter().find(|k| k.1 == model.coding).expect("one of the codings of models");
    write(path, force, kind, |file| write_effects(file, model))
}

/// The parts of a GBLUP model.
fn write_effects(file: &GroupWriter, model: &GblupModel) -> Result<()> {
    file.number("scale", model.scale)?;
    file.texts("traits", &model.traits)?;
    write_variants(file, &model.variants)?;
    file.matrix("effects", model.effects.view())?;
    if let Some(dominance) = &model.dominance {
        let group = file.group("dominance")?;
        group.number("scale", dominance.scale)?;
        group.matrix("effects", dominance.effects.view())?;
    }
    write_fixed(file, &model.fixed_names, &model.fixed)
}

/// Writes GBLUP and the network on top of it.
pub fn write_dlgblup(model: &DlgblupModel, path: &Path, force: bool) -> Result<()> {
    write(path, force, DLGBLUP, |file| {
        write_effects(file, &model.gblup)?;
        let (network, of) = (file.group("network")?, &model.network);
        let hidden: Vec<u64> = of.hidden.iter().map(|&h| h as u64).collect();
        network.list("hidden", &hidden)?;
        network.number("slope", of.slope)?;
        network.number("residual", u8::from(of.residual))?;
        let parts = [
            ("parameters", &of.parameters),
            ("input_mean", &of.input.mean),
            ("input_sd", &of.input.sd),
            ("output_mean", &of.output.mean),
            ("output_sd", &of.output.sd),
        ];
        parts.into_iter().try_for_each(|(name, values)| network.list(name, values))
    })
}

/// Writes a network.
pub fn write_mlp(model: &MlpModel, path: &Path, force: bool) -> Result<()> {
    write(path, force, MLP, |file| {
        let architecture = serde_json::to_string(&model.architecture).expect("plain fields serialize");
        file.text("architecture", &architecture)?;
        file.texts("traits", &model.traits)?;
        write_variants(file, &model.variants)?;
        write_fixed(file, &model.fixed_names, &model.fixed)?;
        file.list("sd", &model.sd)?;
        let parameters = file.group("parameters")?;
        for tensor in model.layout().tensors {
            let values =
                ArrayView2::from_shape((tensor.rows, tensor.columns), &model.parameters[tensor.range]);
            parameters.matrix(&tensor.name, values.expect("a tensor has rows and columns"))?;
        }
        let running = file.group("running")?;
        for (layer, moments) in model.running.iter().enumerate() {
            running.list(&format!("{layer}.mean"), &moments.mean)?;
            running.list(&format!("{layer}.variance"), &moments.variance)?;
        }
        match &model.gblup {
            Some(gblup) => write_effects(&file.group("gblup")?, gblup),
            None => Ok(()),
        }
    })
}

/// Writes what all models have, and the rest.
fn write(path: &Path, force: bool, kind: &str, rest: impl FnOnce(&GroupWriter) -> Result<()>) -> Result<()> {
    let file = Writer::create(path, force, &FORMAT)?;
    file.root().text("kind", kind)?;
    rest(file.root())?;
    file.close()?.seal(0..0)
}

fn write_variants(file: &GroupWriter, v: &Variants) -> Result<()> {
    let variants = file.group("variants")?;
    variants.texts("id", &v.id)?;
    variants.texts("counted_allele", &v.counted_allele)?;
    variants.texts("other_allele", &v.other_allele)?;
    variants.list("frequency", &v.frequency)
}

fn write_fixed(file: &GroupWriter, names: &[String], effects: &Array2<f64>) -> Result<()> {
    let fixed = file.group("fixed")?;
    fixed.texts("names", names)?;
    fixed.matrix("effects", effects.view())
}

/// Reads a model of any kind.
///
/// # Errors
/// A file that is no whole model, or holds numbers that no model has, as [`Error::Input`].
pub fn read(path: &Path) -> Result<Model> {
    let reader = Reader::open(path, &FORMAT)?;
    let file = reader.root();
    let kind = file.text("kind")?;
    let coding = KINDS.into_iter().find(|k| k.0 == kind).map(|k| k.1);
    let model = match (coding, kind.as_str()) {
        (Some(coding), _) => Model::Gblup(read_gblup(file, coding)?),
        (None, MLP) => Model::Mlp(read_mlp(file, reader.length())?),
        (None, DLGBLUP) => {
            let gblup = read_gblup(file, Scaling::VanRaden1)?;
            Model::Dlgblup(DlgblupModel { gblup, network: read_trait_network(file, reader.length())? })
        }
        _ => {
            let (expected, advice) = ("a model of kind gblup, mlp or dlgblup", "update genialearn");
            return Err(Error::input(path.display(), expected, format!("kind {kind}"), advice));
        }
    };
    if !model.is_whole() {
        return Err(file.damaged("parts whose lengths differ"));
    }
    if !model.is_finite() {
        return Err(file.damaged("a number that no model has, such as NaN"));
    }
    Ok(model)
}

impl Model {
    /// Whether all parts have the lengths that belong together.
    fn is_whole(&self) -> bool {
        let (variants, traits, fixed_names, fixed) = match self {
            Model::Gblup(m) => (&m.variants, &m.traits, &m.fixed_names, &m.fixed),
            Model::Mlp(m) => (&m.variants, &m.traits, &m.fixed_names, &m.fixed),
            Model::Dlgblup(m) => (&m.gblup.variants, &m.gblup.traits, &m.gblup.fixed_names, &m.gblup.fixed),
        };
        let (m, t) = (variants.id.len(), traits.len());
        let own = match self {
            Model::Gblup(model) => {
                let dominance = model.dominance.iter();
                dominance.map(|d| &d.effects).chain([&model.effects]).all(|e| e.dim() == (m, t))
            }
            Model::Dlgblup(model) => model.gblup.effects.dim() == (m, t) && model.network.is_whole(t),
            Model::Mlp(model) => {
                let normal = model.architecture.normalisation == Normalisation::Batch;
                let widths = model.architecture.hidden.iter().filter(|_| normal);
                model.parameters.len() == model.layout().len()
                    && model.sd.len() == t
                    && model.running.iter().map(|r| r.mean.len()).eq(widths.clone().copied())
                    && model.running.iter().map(|r| r.variance.len()).eq(widths.copied())
                    && model.gblup.as_ref().is_none_or(|below| {
                        let names = below.variants.id == variants.id && below.traits == *traits;
                        names && Model::Gblup((**below).clone()).is_whole()
                    })
            }
        };
        own && fixed.dim() == (fixed_names.len(), t)
            && [variants.counted_allele.len(), variants.other_allele.len()] == [m, m]
            && variants.frequency.len() == m
    }

    /// Whether all numbers are finite, and frequencies, scales and standard deviations are what they can be.
    fn is_finite(&self) -> bool {
        let finite = |values: &[f64]| values.iter().all(|v| v.is_finite());
        let positive = |values: &[f64]| values.iter().all(|v| v.is_finite() && *v > 0.0);
        let shares = |values: &[f64]| values.iter().all(|p| (0.0..=1.0).contains(p));
        let one = |m: &GblupModel| {
            let effects = m.effects.iter().chain(&m.fixed).all(|v| v.is_finite());
            effects && positive(&[m.scale]) && shares(&m.variants.frequency)
        };
        let gblup = |m: &GblupModel| one(m) && m.dominance.as_ref().is_none_or(|d| one(d));
        match self {
            Model::Gblup(m) => gblup(m),
            Model::Dlgblup(m) => {
                let of = &m.network;
                gblup(&m.gblup)
                    && [&of.parameters, &of.input.mean, &of.output.mean].into_iter().all(|v| finite(v))
                    && [&of.input.sd, &of.output.sd].into_iter().all(|v| positive(v))
                    && of.slope.is_finite()
            }
            Model::Mlp(m) => {
                let running = m
                    .running
                    .iter()
                    .all(|r| finite(&r.mean) && r.variance.iter().all(|v| v.is_finite() && *v >= 0.0));
                m.parameters.iter().all(|v| v.is_finite())
                    && m.fixed.iter().all(|v| v.is_finite())
                    && positive(&m.sd)
                    && shares(&m.variants.frequency)
                    && running
                    && m.gblup.as_ref().is_none_or(|below| gblup(below))
            }
        }
    }
}

fn read_gblup(file: &Group, coding: Scaling) -> Result<GblupModel> {
    let fixed = file.group("fixed")?;
    let mut model = GblupModel {
        traits: file.names("traits")?,
        variants: read_variants(file)?,
        coding,
        effects: file.matrix("effects")?,
        fixed_names: fixed.texts("names")?,
        fixed: fixed.matrix("effects")?,
        scale: file.number("scale")?,
        dominance: None,
    };
    if file.has("dominance") {
        let group = file.group("dominance")?;
        let (effects, scale) = (group.matrix("effects")?, group.number("scale")?);
        model.dominance =
            Some(Box::new(GblupModel { coding: Scaling::Dominance, effects, scale, ..model.clone() }));
    }
    Ok(model)
}

/// Reads a network from a file of `length` bytes.
fn read_mlp(file: &Group, length: u64) -> Result<MlpModel> {
    let architecture: Architecture = serde_json::from_str(&file.text("architecture")?)
        .map_err(|_| file.damaged("a network of unknown architecture"))?;
    possible_layers(file, &architecture.hidden, length)?;
    let (fixed, parameters, running) =
        (file.group("fixed")?, file.group("parameters")?, file.group("running")?);
    let mut model = MlpModel {
        traits: file.names("traits")?,
        variants: read_variants(file)?,
        architecture,
        parameters: Vec::new(),
        running: Vec::new(),
        sd: file.list("sd")?,
        fixed_names: fixed.texts("names")?,
        fixed: fixed.matrix("effects")?,
        gblup: None,
    };
    if file.has("gblup") {
        model.gblup = Some(Box::new(read_gblup(&file.group("gblup")?, Scaling::VanRaden1)?));
    }
    for tensor in model.layout().tensors {
        if parameters.shape(&tensor.name)? != [tensor.rows, tensor.columns] {
            return Err(file.damaged(&format!("{} of another shape", tensor.name)));
        }
        model.parameters.extend(parameters.matrix::<f32>(&tensor.name)?);
    }
    for layer in 0..running.len() / 2 {
        let read = |what: &str| running.list(&format!("{layer}.{what}"));
        model.running.push(Running { mean: read("mean")?, variance: read("variance")? });
    }
    Ok(model)
}

/// An error unless a file of `length` bytes can hold layers of these widths.
fn possible_layers(file: &Group, hidden: &[usize], length: u64) -> Result<()> {
    match hidden.len() <= LAYERS && hidden.iter().all(|h| (1..=length).contains(&(*h as u64))) {
        true => Ok(()),
        false => Err(file.damaged("a network of impossible size")),
    }
}

fn read_trait_network(file: &Group, length: u64) -> Result<TraitNetwork> {
    let network = file.group("network")?;
    let hidden: Vec<u64> = network.list("hidden")?;
    let hidden: Vec<usize> = hidden.into_iter().map(|h| usize::try_from(h).unwrap_or(usize::MAX)).collect();
    possible_layers(file, &hidden, length)?;
    Ok(TraitNetwork {
        hidden,
        slope: network.number("slope")?,
        residual: network.number::<u8>("residual")? != 0,
        parameters: network.list("parameters")?,
        input: Scale { mean: network.list("input_mean")?, sd: network.list("input_sd")? },
        output: Scale { mean: network.list("output_mean")?, sd: network.list("output_sd")? },
        curve: Vec::new(),
    })
}

fn read_variants(file: &Group) -> Result<Variants> {
    let variants = file.group("variants")?;
    Ok(Variants {
        id: variants.names("id")?,
        counted_allele: variants.texts("counted_allele")?,
        other_allele: variants.texts("other_allele")?,
        frequency: variants.list("frequency")?,
        ..Variants::default()
    })
}

#[cfg(test)]
mod tests;
