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
//! With features beside the SNPs kind `mlp` has `/parameters/0.features`, and `/features/{names,of,moments,levels}`: the feature of each
//! column, its mean and standard deviation (0 for whether the one before is missing, NaN for a level), and its level.
//!
//! Kind `rkhs`: `/traits`, `/variants`, `/fixed`, `/genotypes` of the training animals (n, bytes), `/effects` (n, t), `/reach` (t).
//!
//! Kinds `boosting` and `forest`: `/traits`, `/variants`, `/fixed`, and `/trees/{of_trait,nodes}`, the trees of each trait and the
//! nodes of each tree, and of each node `/trees/{snp,cut,missing_first,child,value,gain}`; a leaf has `child` 0. With
//! features `/features/{names,of,cuts,levels}`: the feature of each question, whose numbers go on from the SNPs, its two cuts (NaN for a
//! level), and its level.
//!
//! Kind `stacked`: `/traits`, `/weights` (bases, t), the attribute `bases`, and of each base a group with the parts of its `kind`.
//!
//! Kind `dl`: the parts of kind `mlp` in the group `/first`, and `/network` as kind `dlgblup` has it.
//!
//! Kind `dlgblup`: the parts of `gblup`, `/features` as kind `mlp` has them, and `/network/{hidden,parameters,input_mean,input_sd,output_mean,output_sd}` with
//! the attributes `negative_slope`, LeakyReLU's below zero, and `residual`, 1 where its output is added to its input.

use super::trait_network::{Scale, TraitNetwork};
use super::{GblupModel, Kind, MlpModel, Predictor, FORMAT};
use crate::comm::World;
use crate::error::{Error, Result};
use crate::genotype::Variants;
use crate::grm::Scaling;
use crate::hdf::{Group, GroupWriter, Reader, Writer};
use crate::nn::features::{Column, Encoding};
use crate::nn::Running;
use crate::nn::{Architecture, Normalisation};
use ndarray::{Array2, ArrayView2};
use std::path::Path;

/// Hidden layers of a network, at most.
const LAYERS: usize = 1000;

/// Writes a model file; on the root only.
///
/// # Errors
/// A file that is there already unless `force`, and what the disk meets.
pub fn save(model: &dyn Predictor, path: &Path, force: bool) -> Result<()> {
    let file = Writer::create(path, force, &FORMAT)?;
    file.root().text("kind", model.kind())?;
    model.write_parts(file.root())?;
    file.close()?.seal(0..0)
}

/// Reads a model of any kind, on every rank. Collective.
///
/// # Errors
/// A file that is no whole model, or holds numbers that no model has, as [`Error::Input`].
pub fn load(world: &World, path: &Path) -> Result<Box<dyn Predictor>> {
    world.agree(read(path))
}

/// Reads a model of any kind.
pub(super) fn read(path: &Path) -> Result<Box<dyn Predictor>> {
    let reader = Reader::open(path, &FORMAT)?;
    let file = reader.root();
    let name = file.text("kind")?;
    let Some(kind) = Kind::of_file(&name) else {
        let expected = format!("a model of kind {}", Kind::names());
        return Err(Error::input(path.display(), expected, format!("kind {name}"), "update genialearn"));
    };
    (kind.read)(file, &name, reader.length())
}

/// A model that was read, unless its parts do not belong together or hold numbers that no model has.
pub(super) fn sound<M>(file: &Group, model: M, whole: fn(&M) -> bool, finite: fn(&M) -> bool) -> Result<M> {
    if !whole(&model) {
        return Err(file.damaged("parts whose lengths differ"));
    }
    if !finite(&model) {
        return Err(file.damaged("a number that no model has, such as NaN"));
    }
    Ok(model)
}

/// The parts of a GBLUP model.
pub(super) fn write_effects(file: &GroupWriter, model: &GblupModel) -> Result<()> {
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

/// The parts of a network of traits.
pub(super) fn write_trait_network(file: &GroupWriter, of: &TraitNetwork) -> Result<()> {
    let network = file.group("network")?;
    let hidden: Vec<u64> = of.hidden.iter().map(|&h| h as u64).collect();
    network.list("hidden", &hidden)?;
    network.number("negative_slope", of.negative_slope)?;
    network.number("residual", u8::from(of.residual))?;
    let parts = [
        ("parameters", &of.parameters),
        ("input_mean", &of.input.mean),
        ("input_sd", &of.input.sd),
        ("output_mean", &of.output.mean),
        ("output_sd", &of.output.sd),
    ];
    parts.into_iter().try_for_each(|(name, values)| network.list(name, values))
}

/// The parts of a network of genotypes.
pub(super) fn write_mlp(file: &GroupWriter, model: &MlpModel) -> Result<()> {
    let architecture = serde_json::to_string(&model.architecture).expect("plain fields serialize");
    file.text("architecture", &architecture)?;
    file.texts("traits", &model.traits)?;
    write_variants(file, &model.variants)?;
    write_fixed(file, &model.fixed_names, &model.fixed)?;
    file.list("sd", &model.sd)?;
    write_encoding(file, &model.encoding)?;
    let parameters = file.group("parameters")?;
    for tensor in model.parts() {
        let shape = (tensor.rows(), tensor.columns);
        let values = ArrayView2::from_shape(shape, &model.parameters[tensor.range]);
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
}

/// What a model asks of one feature: its number, two numbers and a level, of which the kind of model says what they are.
pub(super) type Asked = (usize, [f64; 2], String);

/// What a model asks of features, where there are some; `numbers` is what the two numbers are called.
pub(super) fn write_features(
    file: &GroupWriter,
    names: &[String],
    (numbers, asked): (&str, &[Asked]),
) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let group = file.group("features")?;
    group.texts("names", names)?;
    group.list("of", &asked.iter().map(|(k, ..)| *k as u64).collect::<Vec<u64>>())?;
    group.list(numbers, &asked.iter().flat_map(|(_, two, _)| *two).collect::<Vec<f64>>())?;
    group.texts("levels", &asked.iter().map(|(.., level)| level.clone()).collect::<Vec<String>>())
}

/// What [`write_features`] wrote: the names, and what is asked.
pub(super) fn read_features(file: &Group, numbers: &str) -> Result<(Vec<String>, Vec<Asked>)> {
    if !file.has("features") {
        return Ok((Vec::new(), Vec::new()));
    }
    let group = file.group("features")?;
    let (names, of) = (group.names("names")?, group.list::<u64>("of")?);
    let (two, levels) = (group.list::<f64>(numbers)?, group.texts("levels")?);
    let sound = of.iter().all(|&k| k < names.len() as u64);
    let (two, rest) = two.as_chunks::<2>();
    if !sound || !rest.is_empty() || two.len() != of.len() || levels.len() != of.len() {
        return Err(file.damaged("features that there are not"));
    }
    let asked = of.iter().zip(two).zip(levels).map(|((&k, two), level)| (k as usize, *two, level));
    Ok((names, asked.collect()))
}

/// How features become columns, where there are some.
pub(super) fn write_encoding(file: &GroupWriter, encoding: &Encoding) -> Result<()> {
    let row = |(k, column): &(usize, Column)| match column {
        Column::Number { mean, sd } => (*k, [*mean, *sd], String::new()),
        Column::Missing => (*k, [0.0; 2], String::new()),
        Column::Is(level) => (*k, [f64::NAN; 2], level.clone()),
    };
    let rows: Vec<Asked> = encoding.columns.iter().map(row).collect();
    write_features(file, &encoding.features, ("moments", &rows))
}

/// What [`write_encoding`] wrote.
pub(super) fn read_encoding(file: &Group) -> Result<Encoding> {
    let (features, rows) = read_features(file, "moments")?;
    let column = |(k, two, level): Asked| match two {
        [mean, _] if mean.is_nan() => (k, Column::Is(level)),
        [_, 0.0] => (k, Column::Missing),
        [mean, sd] => (k, Column::Number { mean, sd }),
    };
    let encoding = Encoding { features, columns: rows.into_iter().map(column).collect() };
    match encoding.is_sound() {
        true => Ok(encoding),
        false => Err(file.damaged("columns of features that do not belong together")),
    }
}

pub(super) fn write_variants(file: &GroupWriter, v: &Variants) -> Result<()> {
    let variants = file.group("variants")?;
    variants.texts("id", &v.id)?;
    variants.texts("counted_allele", &v.counted_allele)?;
    variants.texts("other_allele", &v.other_allele)?;
    variants.list("frequency", &v.frequency)
}

pub(super) fn write_fixed(file: &GroupWriter, names: &[String], effects: &Array2<f64>) -> Result<()> {
    let fixed = file.group("fixed")?;
    fixed.texts("names", names)?;
    fixed.matrix("effects", effects.view())
}

/// Whether names of SNPs and fixed effects have the lengths that belong to m SNPs and t traits.
pub(super) fn of_one_size(variants: &Variants, (names, fixed): (&[String], &Array2<f64>), t: usize) -> bool {
    let m = variants.id.len();
    fixed.dim() == (names.len(), t)
        && [variants.counted_allele.len(), variants.other_allele.len()] == [m, m]
        && variants.frequency.len() == m
}

/// Whether all numbers are finite.
fn finite(values: &[f64]) -> bool {
    values.iter().all(|v| v.is_finite())
}

/// Whether all numbers are finite and above 0.
fn positive(values: &[f64]) -> bool {
    values.iter().all(|v| v.is_finite() && *v > 0.0)
}

/// Whether all numbers lie between 0 and 1.
fn shares(values: &[f64]) -> bool {
    values.iter().all(|p| (0.0..=1.0).contains(p))
}

impl GblupModel {
    /// Whether all parts have the lengths that belong together.
    pub(super) fn is_whole(&self) -> bool {
        let (m, t) = (self.variants.id.len(), self.traits.len());
        let all = self.dominance.iter().map(|d| &d.effects).chain([&self.effects]);
        all.into_iter().all(|e| e.dim() == (m, t))
            && of_one_size(&self.variants, (&self.fixed_names, &self.fixed), t)
    }

    /// Whether all numbers are what they can be.
    pub(super) fn is_finite(&self) -> bool {
        let effects = self.effects.iter().chain(&self.fixed).all(|v| v.is_finite());
        effects
            && positive(&[self.scale])
            && shares(&self.variants.frequency)
            && self.dominance.as_ref().is_none_or(|d| d.is_finite())
    }
}

impl TraitNetwork {
    /// Whether all numbers are what they can be.
    pub(super) fn is_finite(&self) -> bool {
        [&self.parameters, &self.input.mean, &self.output.mean].into_iter().all(|v| finite(v))
            && [&self.input.sd, &self.output.sd].into_iter().all(|v| positive(v))
            && self.negative_slope.is_finite()
    }
}

impl MlpModel {
    /// Whether all parts have the lengths that belong together.
    pub(super) fn is_whole(&self) -> bool {
        let t = self.traits.len();
        let normal = self.architecture.normalisation == Normalisation::Batch;
        let widths = self.architecture.hidden.iter().filter(|_| normal);
        self.parts().last().is_some_and(|part| part.range.end == self.parameters.len())
            && self.sd.len() == t
            && self.running.iter().map(|r| r.mean.len()).eq(widths.clone().copied())
            && self.running.iter().map(|r| r.variance.len()).eq(widths.copied())
            && of_one_size(&self.variants, (&self.fixed_names, &self.fixed), t)
            && self.gblup.as_ref().is_none_or(|below| {
                below.variants.id == self.variants.id && below.traits == self.traits && below.is_whole()
            })
    }

    /// Whether all numbers are what they can be.
    pub(super) fn is_finite(&self) -> bool {
        let running = |r: &Running| finite(&r.mean) && r.variance.iter().all(|v| v.is_finite() && *v >= 0.0);
        self.parameters.iter().all(|v| v.is_finite())
            && self.fixed.iter().all(|v| v.is_finite())
            && positive(&self.sd)
            && shares(&self.variants.frequency)
            && self.running.iter().all(running)
            && self.gblup.as_ref().is_none_or(|below| below.is_finite())
    }
}

/// Reads effects of SNPs, of which `coding` says what they multiply.
pub(super) fn read_gblup(file: &Group, coding: Scaling) -> Result<GblupModel> {
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
pub(super) fn read_mlp(file: &Group, length: u64) -> Result<MlpModel> {
    let architecture: Architecture = serde_json::from_str(&file.text("architecture")?)
        .map_err(|_| file.damaged("a network of unknown architecture"))?;
    possible_layers(file, &architecture.hidden, length)?;
    let (fixed, parameters, running) =
        (file.group("fixed")?, file.group("parameters")?, file.group("running")?);
    let mut model = MlpModel {
        traits: file.names("traits")?,
        variants: read_variants(file)?,
        encoding: read_encoding(file)?,
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
    for tensor in model.parts() {
        if parameters.shape(&tensor.name)? != [tensor.rows(), tensor.columns] {
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

pub(super) fn read_trait_network(file: &Group, length: u64) -> Result<TraitNetwork> {
    let network = file.group("network")?;
    let hidden: Vec<u64> = network.list("hidden")?;
    let hidden: Vec<usize> = hidden.into_iter().map(|h| usize::try_from(h).unwrap_or(usize::MAX)).collect();
    possible_layers(file, &hidden, length)?;
    Ok(TraitNetwork {
        hidden,
        negative_slope: network.number("negative_slope")?,
        residual: network.number::<u8>("residual")? != 0,
        parameters: network.list("parameters")?,
        input: Scale { mean: network.list("input_mean")?, sd: network.list("input_sd")? },
        output: Scale { mean: network.list("output_mean")?, sd: network.list("output_sd")? },
        curve: Vec::new(),
    })
}

pub(super) fn read_variants(file: &Group) -> Result<Variants> {
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
