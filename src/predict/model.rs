//! Model files: HDF5 with the attributes `format`, `format_version`, `kind` and `created_by`.
//!
//! Kind `gblup`, and `gblup-dominance` where the effects are of dominance: `/traits`,
//! `/variants/{id,counted_allele,other_allele,frequency}`, `/effects` (m, t), `/fixed/{names,effects}` (q), (q, t),
//! and the attribute `scale`.
//!
//! Kind `mlp`: `/traits`, `/variants`, `/fixed` as above, `/sd` (t), `/parameters/LAYER.{weight,bias,shift,scale}`
//! and, with batch normalisation, `/running/LAYER.{mean,variance}`; the attribute `architecture` is JSON. Where the
//! network learned what GBLUP leaves, the group `/gblup` has the parts of kind `gblup`.
//!
//! Kind `dlgblup`: the parts of `gblup`, and `/network/{hidden,parameters,input_mean,input_sd,output_mean,output_sd}` with
//! the attributes `slope`, LeakyReLU's below zero, and `residual`, 1 where its output is added to its input.

use super::trait_network::{Scale, TraitNetwork};
use super::{DlgblupModel, GblupModel, MlpModel, Model, FORMAT, FORMAT_VERSION};
use crate::error::{Error, Result};
use crate::genotype::store::{read_texts, write_text_attr, write_texts};
use crate::genotype::Variants;
use crate::grm::Flavour;
use crate::nn::network::Running;
use crate::nn::{Architecture, Normalisation};
use crate::output::Draft;
use hdf5::types::VarLenUnicode;
use ndarray::{Array2, ArrayView2};
use std::path::Path;

/// The kinds of models by what their effects multiply.
const KINDS: [(&str, Flavour); 2] = [("gblup", Flavour::VanRaden1), ("gblup-dominance", Flavour::Dominance)];

/// The name of networks of genotypes.
const MLP: &str = "mlp";

/// The name of networks on GBLUP values.
const DLGBLUP: &str = "dlgblup";

/// Writes a GBLUP model.
pub fn write_gblup(model: &GblupModel, path: &Path, force: bool) -> Result<()> {
    let (kind, _) = KINDS.into_iter().find(|k| k.1 == model.coding).expect("one of the codings of models");
    write(path, force, kind, |file| write_effects(file, model))
}

/// The parts of a GBLUP model.
fn write_effects(file: &hdf5::Group, model: &GblupModel) -> hdf5::Result<()> {
    file.new_attr::<f64>().create("scale")?.write_scalar(&model.scale)?;
    write_texts(file, "traits", &model.traits)?;
    write_variants(file, &model.variants)?;
    file.new_dataset_builder().with_data(&model.effects).create("effects")?;
    write_fixed(file, &model.fixed_names, &model.fixed)
}

/// Writes GBLUP and the network on top of it.
pub fn write_dlgblup(model: &DlgblupModel, path: &Path, force: bool) -> Result<()> {
    write(path, force, DLGBLUP, |file| {
        write_effects(file, &model.gblup)?;
        let (network, of) = (file.create_group("network")?, &model.network);
        let hidden: Vec<u64> = of.hidden.iter().map(|&h| h as u64).collect();
        network.new_dataset_builder().with_data(&hidden).create("hidden")?;
        network.new_attr::<f64>().create("slope")?.write_scalar(&of.slope)?;
        network.new_attr::<u8>().create("residual")?.write_scalar(&u8::from(of.residual))?;
        let parts = [
            ("parameters", &of.parameters),
            ("input_mean", &of.input.mean),
            ("input_sd", &of.input.sd),
            ("output_mean", &of.output.mean),
            ("output_sd", &of.output.sd),
        ];
        for (name, values) in parts {
            network.new_dataset_builder().with_data(values).create(name)?;
        }
        Ok(())
    })
}

/// Writes a network.
pub fn write_mlp(model: &MlpModel, path: &Path, force: bool) -> Result<()> {
    write(path, force, MLP, |file| {
        let architecture = serde_json::to_string(&model.architecture).expect("plain fields serialize");
        write_text_attr(file, "architecture", &architecture)?;
        write_texts(file, "traits", &model.traits)?;
        write_variants(file, &model.variants)?;
        write_fixed(file, &model.fixed_names, &model.fixed)?;
        file.new_dataset_builder().with_data(&model.sd).create("sd")?;
        let parameters = file.create_group("parameters")?;
        for tensor in model.layout().tensors {
            let values =
                ArrayView2::from_shape((tensor.rows, tensor.columns), &model.parameters[tensor.range]);
            let values = values.expect("a tensor has rows and columns");
            parameters.new_dataset_builder().with_data(values).create(tensor.name.as_str())?;
        }
        let running = file.create_group("running")?;
        for (layer, moments) in model.running.iter().enumerate() {
            let data = running.new_dataset_builder().with_data(&moments.mean);
            data.create(format!("{layer}.mean").as_str())?;
            let data = running.new_dataset_builder().with_data(&moments.variance);
            data.create(format!("{layer}.variance").as_str())?;
        }
        if let Some(gblup) = &model.gblup {
            write_effects(&file.create_group("gblup")?, gblup)?;
        }
        Ok(())
    })
}

/// Writes what all models have, and the rest.
fn write(
    path: &Path,
    force: bool,
    kind: &str,
    rest: impl FnOnce(&hdf5::File) -> hdf5::Result<()>,
) -> Result<()> {
    let draft = Draft::new(path, force)?;
    let write = || -> hdf5::Result<()> {
        let file = hdf5::File::create(draft.path())?;
        write_text_attr(&file, "format", FORMAT)?;
        write_text_attr(&file, "kind", kind)?;
        write_text_attr(&file, "created_by", concat!("genialearn ", env!("CARGO_PKG_VERSION")))?;
        file.new_attr::<u64>().create("format_version")?.write_scalar(&FORMAT_VERSION)?;
        rest(&file)?;
        file.flush()
    };
    write().map_err(|e| {
        let problem = format!("cannot be written ({})", first_line(&e));
        Error::failed(
            path.display(),
            problem,
            "free some disk space or choose another --out; nothing was left behind",
        )
    })?;
    draft.commit()
}

fn write_variants(file: &hdf5::Group, v: &Variants) -> hdf5::Result<()> {
    let variants = file.create_group("variants")?;
    write_texts(&variants, "id", &v.id)?;
    write_texts(&variants, "counted_allele", &v.counted_allele)?;
    write_texts(&variants, "other_allele", &v.other_allele)?;
    variants.new_dataset_builder().with_data(&v.frequency).create("frequency")?;
    Ok(())
}

fn write_fixed(file: &hdf5::Group, names: &[String], effects: &Array2<f64>) -> hdf5::Result<()> {
    let fixed = file.create_group("fixed")?;
    write_texts(&fixed, "names", names)?;
    fixed.new_dataset_builder().with_data(effects).create("effects")?;
    Ok(())
}

/// Reads a model of any kind.
pub fn read(path: &Path) -> Result<Model> {
    std::fs::File::open(path).map_err(|e| Error::reading(path, &e))?;
    let file = hdf5::File::open(path).map_err(|_| not_a_model(path, "another or a damaged file"))?;
    let text = |name: &str| file.attr(name).and_then(|a| a.read_scalar::<VarLenUnicode>());
    match text("format") {
        Ok(format) if format.as_str() == FORMAT => {}
        Ok(format) => return Err(not_a_model(path, format.as_str())),
        Err(_) => return Err(not_a_model(path, "an HDF5 file of another program")),
    }
    let damaged = |e: hdf5::Error| not_a_model(path, &format!("a damaged one ({})", first_line(&e)));
    let version: u64 = file.attr("format_version").and_then(|a| a.read_scalar()).map_err(damaged)?;
    let kind = text("kind").map_err(damaged)?;
    let coding = KINDS.into_iter().find(|k| k.0 == kind.as_str()).map(|k| k.1);
    let model = match coding {
        _ if version > FORMAT_VERSION => None,
        Some(coding) => Some(Model::Gblup(read_gblup(&file, coding).map_err(damaged)?)),
        None if kind.as_str() == MLP => {
            let architecture = text("architecture").map_err(damaged)?;
            let architecture = serde_json::from_str(&architecture);
            let architecture =
                architecture.map_err(|_| not_a_model(path, "a network of unknown architecture"))?;
            Some(Model::Mlp(read_mlp(&file, architecture).map_err(damaged)?))
        }
        None if kind.as_str() == DLGBLUP => {
            let gblup = read_gblup(&file, Flavour::VanRaden1).map_err(damaged)?;
            let network = read_trait_network(&file).map_err(damaged)?;
            Some(Model::Dlgblup(DlgblupModel { gblup, network }))
        }
        None => None,
    };
    let Some(model) = model else {
        return Err(Error::input(
            path.display(),
            format!("a model of kind gblup, mlp or dlgblup, format {FORMAT_VERSION} or older"),
            format!("kind {kind}, format {version}"),
            "update genialearn, or train the model again",
        ));
    };
    if !model.is_whole() {
        return Err(not_a_model(path, "parts whose lengths differ"));
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
            Model::Gblup(model) => model.effects.dim() == (m, t),
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
}

fn read_gblup(file: &hdf5::Group, coding: Flavour) -> hdf5::Result<GblupModel> {
    let fixed = file.group("fixed")?;
    Ok(GblupModel {
        traits: read_texts(file, "traits")?,
        variants: read_variants(file)?,
        coding,
        effects: file.dataset("effects")?.read_2d()?,
        fixed_names: read_texts(&fixed, "names")?,
        fixed: fixed.dataset("effects")?.read_2d()?,
        scale: file.attr("scale")?.read_scalar()?,
    })
}

fn read_mlp(file: &hdf5::File, architecture: Architecture) -> hdf5::Result<MlpModel> {
    let (fixed, running) = (file.group("fixed")?, file.group("running")?);
    let mut model = MlpModel {
        traits: read_texts(file, "traits")?,
        variants: read_variants(file)?,
        architecture,
        parameters: Vec::new(),
        running: Vec::new(),
        sd: file.dataset("sd")?.read_raw()?,
        fixed_names: read_texts(&fixed, "names")?,
        fixed: fixed.dataset("effects")?.read_2d()?,
        gblup: None,
    };
    if file.link_exists("gblup") {
        model.gblup = Some(Box::new(read_gblup(&file.group("gblup")?, Flavour::VanRaden1)?));
    }
    for tensor in model.layout().tensors {
        model.parameters.extend(file.dataset(&format!("parameters/{}", tensor.name))?.read_raw::<f32>()?);
    }
    for layer in 0..running.len() / 2 {
        let read = |what: &str| running.dataset(&format!("{layer}.{what}"))?.read_raw();
        model.running.push(Running { mean: read("mean")?, variance: read("variance")? });
    }
    Ok(model)
}

fn read_trait_network(file: &hdf5::File) -> hdf5::Result<TraitNetwork> {
    let network = file.group("network")?;
    let reals = |name: &str| network.dataset(name)?.read_raw::<f64>();
    let hidden: Vec<u64> = network.dataset("hidden")?.read_raw()?;
    Ok(TraitNetwork {
        hidden: hidden.into_iter().map(|h| usize::try_from(h).unwrap_or(usize::MAX)).collect(),
        slope: network.attr("slope")?.read_scalar()?,
        residual: network.attr("residual")?.read_scalar::<u8>()? != 0,
        parameters: reals("parameters")?,
        input: Scale { mean: reals("input_mean")?, sd: reals("input_sd")? },
        output: Scale { mean: reals("output_mean")?, sd: reals("output_sd")? },
        curve: Vec::new(),
    })
}

fn read_variants(file: &hdf5::Group) -> hdf5::Result<Variants> {
    let variants = file.group("variants")?;
    Ok(Variants {
        id: read_texts(&variants, "id")?,
        counted_allele: read_texts(&variants, "counted_allele")?,
        other_allele: read_texts(&variants, "other_allele")?,
        frequency: variants.dataset("frequency")?.read_raw()?,
        ..Variants::default()
    })
}

fn not_a_model(path: &Path, found: &str) -> Error {
    Error::input(
        path.display(),
        "a model file",
        found,
        "make one with `genialearn gblup` or `genialearn train`",
    )
}

fn first_line(err: &hdf5::Error) -> String {
    err.to_string().lines().next().unwrap_or_default().to_owned()
}
