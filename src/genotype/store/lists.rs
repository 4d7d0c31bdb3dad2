//! The lists of animals and SNPs in a store.

use crate::genotype::{Animals, Variants};
use hdf5::types::VarLenUnicode;

/// Writes a list of texts as a dataset.
pub fn write_texts(group: &hdf5::Group, name: &str, texts: &[String]) -> hdf5::Result<()> {
    let texts: Vec<VarLenUnicode> = texts.iter().map(|t| unicode(t)).collect();
    group.new_dataset_builder().with_data(&texts).create(name).map(drop)
}

/// Reads a list of texts.
pub fn read_texts(group: &hdf5::Group, name: &str) -> hdf5::Result<Vec<String>> {
    let texts = group.dataset(name)?.read_raw::<VarLenUnicode>()?;
    Ok(texts.iter().map(|t| t.as_str().to_owned()).collect())
}

/// HDF5 strings end at a NUL, so a text is cut there.
pub(super) fn unicode(text: &str) -> VarLenUnicode {
    let text = text.split('\0').next().unwrap_or_default();
    text.parse().expect("a text without NUL")
}

pub(super) fn write_animals(file: &hdf5::File, a: &Animals) -> hdf5::Result<()> {
    let group = file.create_group("animals")?;
    write_texts(&group, "id", &a.id)?;
    write_texts(&group, "birth_date", &a.birth_date)?;
    write_texts(&group, "sire", &a.sire)?;
    write_texts(&group, "dam", &a.dam)?;
    write_texts(&group, "group", &a.group)?;
    group.new_dataset_builder().with_data(&a.sex).create("sex").map(drop)
}

pub(super) fn read_animals(file: &hdf5::File) -> hdf5::Result<Animals> {
    let group = file.group("animals")?;
    Ok(Animals {
        id: read_texts(&group, "id")?,
        birth_date: read_texts(&group, "birth_date")?,
        sire: read_texts(&group, "sire")?,
        dam: read_texts(&group, "dam")?,
        sex: group.dataset("sex")?.read_raw()?,
        group: read_texts(&group, "group")?,
    })
}

/// Writes the list of SNPs as the group `variants`.
pub fn write_variants(file: &hdf5::File, v: &Variants) -> hdf5::Result<()> {
    let group = file.create_group("variants")?;
    write_texts(&group, "chromosome", &v.chromosome)?;
    write_texts(&group, "id", &v.id)?;
    write_texts(&group, "counted_allele", &v.counted_allele)?;
    write_texts(&group, "other_allele", &v.other_allele)?;
    group.new_dataset_builder().with_data(&v.position).create("position")?;
    group.new_dataset_builder().with_data(&v.cm).create("cm")?;
    group.new_dataset_builder().with_data(&v.frequency).create("frequency")?;
    group.new_dataset_builder().with_data(&v.missing).create("missing").map(drop)
}

/// Reads the list of SNPs.
pub fn read_variants(file: &hdf5::File) -> hdf5::Result<Variants> {
    let group = file.group("variants")?;
    Ok(Variants {
        chromosome: read_texts(&group, "chromosome")?,
        position: group.dataset("position")?.read_raw()?,
        id: read_texts(&group, "id")?,
        counted_allele: read_texts(&group, "counted_allele")?,
        other_allele: read_texts(&group, "other_allele")?,
        cm: group.dataset("cm")?.read_raw()?,
        frequency: group.dataset("frequency")?.read_raw()?,
        missing: group.dataset("missing")?.read_raw()?,
    })
}
