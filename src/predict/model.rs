//! Model files: HDF5 with the attributes `format`, `format_version`, `kind` and `created_by`.
//!
//! Kind `gblup`, and `gblup-dominance` where the effects are of dominance: `/traits`,
//! `/variants/{id,counted_allele,other_allele,frequency}`, `/effects` (m, t), `/fixed/{names,effects}` (q), (q, t),
//! and the attribute `scale`; where dominance was fitted beside additive effects, `/dominance/effects` (m, t) with its
//! own `scale`.
//!
//! Kind `mlp`: `/traits`, `/variants`, `/fixed` as above, `/sd` (t), and a network as [`crate::nn::weights`] has it, with the
//! attribute `architecture` (JSON). Where the network learned what GBLUP leaves, the group `/gblup` has the parts of kind
//! `gblup`.
//!
//! With features beside the SNPs kind `mlp` has `/features/{names,of,moments,levels}`: the feature of each
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
//! Kind `dlgblup`: the parts of `gblup`, `/features` as kind `mlp` has them, and in the group `/network` a network as above,
//! `/network/{input_mean,input_sd,output_mean,output_sd}`, and the attribute `residual`, 1 where its output is added to its
//! input.

use super::trait_network::{Scale, TraitNetwork};
use super::{GblupModel, Kind, MlpModel, Predictor, FORMAT};
use crate::comm::World;
use crate::error::{Error, Result};
use crate::genotype::Variants;
use crate::grm::Scaling;
use crate::hdf::{Group, GroupWriter, Reader, Writer};
use crate::nn::features::{Column, Encoding};
use crate::nn::{weights, Architecture, Running};
use ndarray::Array2;
use std::path::Path;

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
    of.architecture.write(&network)?;
    network.number("residual", u8::from(of.residual))?;
    weights::write(&network, &of.parts(), &of.parameters, &[])?;
    let parts = [
        ("input_mean", &of.input.mean),
        ("input_sd", &of.input.sd),
        ("output_mean", &of.output.mean),
        ("output_sd", &of.output.sd),
    ];
    parts.into_iter().try_for_each(|(name, values)| network.list(name, values))
}

/// The parts of a network of genotypes.
pub(super) fn write_mlp(file: &GroupWriter, model: &MlpModel) -> Result<()> {
    model.architecture.write(file)?;
    file.texts("traits", &model.traits)?;
    write_variants(file, &model.variants)?;
    write_fixed(file, &model.fixed_names, &model.fixed)?;
    file.list("sd", &model.sd)?;
    write_encoding(file, &model.encoding)?;
    weights::write(file, &model.parts(), &model.parameters, &model.running)?;
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
    }
}

impl MlpModel {
    /// Whether all parts have the lengths that belong together.
    pub(super) fn is_whole(&self) -> bool {
        let t = self.traits.len();
        self.sd.len() == t
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

/// Reads a network of genotypes.
pub(super) fn read_mlp(file: &Group) -> Result<MlpModel> {
    let architecture = Architecture::read(file)?;
    let fixed = file.group("fixed")?;
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
    let normalised = model.architecture.normalised();
    (model.parameters, model.running) = weights::read(file, &model.parts(), normalised)?;
    Ok(model)
}

/// Reads a network from the values of t traits, and from features in the columns of its file, to these traits.
pub(super) fn read_trait_network(file: &Group) -> Result<TraitNetwork> {
    let group = file.group("network")?;
    let mut network = TraitNetwork {
        architecture: Architecture::read(&group)?,
        residual: group.number::<u8>("residual")? != 0,
        parameters: Vec::new(),
        input: Scale { mean: group.list("input_mean")?, sd: group.list("input_sd")? },
        output: Scale { mean: group.list("output_mean")?, sd: group.list("output_sd")? },
        curve: Vec::new(),
    };
    network.parameters = weights::read(&group, &network.parts(), &[])?.0;
    Ok(network)
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
