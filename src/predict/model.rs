//! Model files: HDF5 with the attributes `format`, `format_version`, `kind` and `created_by`.
//!
//! Kind `gblup`, and `gblup-dominance` where the effects are of dominance: `/traits`, `/variants/{id,counted_allele,other_allele,frequency}`, `/effects` (m, t),
//! `/fixed/{names,effects}` (q), (q, t), and the attribute `scale`.

use super::{GblupModel, FORMAT, FORMAT_VERSION};
use crate::error::{Error, Result};
use crate::genotype::store::{read_texts, write_text_attr, write_texts};
use crate::genotype::Variants;
use crate::grm::Flavour;
use crate::output::Draft;
use hdf5::types::VarLenUnicode;
use std::path::Path;

/// The kinds of models by what their effects multiply.
const KINDS: [(&str, Flavour); 2] = [("gblup", Flavour::VanRaden1), ("gblup-dominance", Flavour::Dominance)];

/// Writes a GBLUP model.
pub fn write_gblup(model: &GblupModel, path: &Path, force: bool) -> Result<()> {
    let draft = Draft::new(path, force)?;
    let (kind, _) = KINDS.into_iter().find(|k| k.1 == model.coding).expect("one of the codings of models");
    let write = || -> hdf5::Result<()> {
        let file = hdf5::File::create(draft.path())?;
        write_text_attr(&file, "format", FORMAT)?;
        write_text_attr(&file, "kind", kind)?;
        write_text_attr(&file, "created_by", concat!("genialearn ", env!("CARGO_PKG_VERSION")))?;
        file.new_attr::<u64>().create("format_version")?.write_scalar(&FORMAT_VERSION)?;
        file.new_attr::<f64>().create("scale")?.write_scalar(&model.scale)?;
        write_texts(&file, "traits", &model.traits)?;
        let variants = file.create_group("variants")?;
        write_texts(&variants, "id", &model.variants.id)?;
        write_texts(&variants, "counted_allele", &model.variants.counted_allele)?;
        write_texts(&variants, "other_allele", &model.variants.other_allele)?;
        variants.new_dataset_builder().with_data(&model.variants.frequency).create("frequency")?;
        file.new_dataset_builder().with_data(&model.effects).create("effects")?;
        let fixed = file.create_group("fixed")?;
        write_texts(&fixed, "names", &model.fixed_names)?;
        fixed.new_dataset_builder().with_data(&model.fixed).create("effects")?;
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

/// Reads a GBLUP model.
pub fn read_gblup(path: &Path) -> Result<GblupModel> {
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
    let known = KINDS.into_iter().find(|k| k.0 == kind.as_str());
    let Some((_, coding)) = known.filter(|_| version <= FORMAT_VERSION) else {
        return Err(Error::input(
            path.display(),
            format!("a model of kind gblup, format {FORMAT_VERSION} or older"),
            format!("kind {kind}, format {version}"),
            "update genialearn, or train the model again",
        ));
    };
    let model = read_parts(&file, coding).map_err(damaged)?;
    let (m, t) = (model.variants.id.len(), model.traits.len());
    let whole = model.effects.dim() == (m, t)
        && model.fixed.dim() == (model.fixed_names.len(), t)
        && [model.variants.counted_allele.len(), model.variants.other_allele.len()] == [m, m]
        && model.variants.frequency.len() == m;
    if !whole {
        return Err(not_a_model(path, "parts whose lengths differ"));
    }
    Ok(model)
}

fn read_parts(file: &hdf5::File, coding: Flavour) -> hdf5::Result<GblupModel> {
    let (variants, fixed) = (file.group("variants")?, file.group("fixed")?);
    Ok(GblupModel {
        traits: read_texts(file, "traits")?,
        variants: Variants {
            id: read_texts(&variants, "id")?,
            counted_allele: read_texts(&variants, "counted_allele")?,
            other_allele: read_texts(&variants, "other_allele")?,
            frequency: variants.dataset("frequency")?.read_raw()?,
            ..Variants::default()
        },
        coding,
        effects: file.dataset("effects")?.read_2d()?,
        fixed_names: read_texts(&fixed, "names")?,
        fixed: fixed.dataset("effects")?.read_2d()?,
        scale: file.attr("scale")?.read_scalar()?,
    })
}

fn not_a_model(path: &Path, found: &str) -> Error {
    Error::input(path.display(), "a model file", found, "make one with `genialearn gblup`")
}

fn first_line(err: &hdf5::Error) -> String {
    err.to_string().lines().next().unwrap_or_default().to_owned()
}
