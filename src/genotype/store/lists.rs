//! The lists of animals and SNPs in a store.

use crate::error::Result;
use crate::genotype::animals::is_date;
use crate::genotype::{Animals, Variants};
use crate::hdf::{first_twin, Group, GroupWriter};

pub(super) fn write_animals(file: &GroupWriter, a: &Animals) -> Result<()> {
    let group = file.group("animals")?;
    group.texts("id", &a.id)?;
    group.texts("birth_date", &a.birth_date)?;
    group.texts("sire", &a.sire)?;
    group.texts("dam", &a.dam)?;
    group.texts("group", &a.group)?;
    group.list("sex", &a.sex)
}

pub(super) fn read_animals(file: &Group) -> Result<Animals> {
    let group = file.group("animals")?;
    let animals = Animals {
        id: group.texts("id")?,
        birth_date: group.texts("birth_date")?,
        sire: group.texts("sire")?,
        dam: group.texts("dam")?,
        sex: group.list("sex")?,
        group: group.texts("group")?,
    };
    check_animals(&animals).map_err(|found| file.damaged(&found))?;
    Ok(animals)
}

/// Writes the list of SNPs as the group `variants`.
pub fn write_variants(file: &GroupWriter, v: &Variants) -> Result<()> {
    let group = file.group("variants")?;
    group.texts("chromosome", &v.chromosome)?;
    group.texts("id", &v.id)?;
    group.texts("counted_allele", &v.counted_allele)?;
    group.texts("other_allele", &v.other_allele)?;
    group.list("position", &v.position)?;
    group.list("cm", &v.cm)?;
    group.list("frequency", &v.frequency)?;
    group.list("missing", &v.missing)
}

/// Reads the list of SNPs of `n` animals.
pub fn read_variants(file: &Group, n: usize) -> Result<Variants> {
    let group = file.group("variants")?;
    let variants = Variants {
        chromosome: group.texts("chromosome")?,
        position: group.list("position")?,
        id: group.texts("id")?,
        counted_allele: group.texts("counted_allele")?,
        other_allele: group.texts("other_allele")?,
        cm: group.list("cm")?,
        frequency: group.list("frequency")?,
        missing: group.list("missing")?,
    };
    check_variants(&variants, n).map_err(|found| file.damaged(&found))?;
    Ok(variants)
}

/// An error is what is wrong with a list of animals.
pub(super) fn check_animals(a: &Animals) -> std::result::Result<(), String> {
    let lengths = [a.birth_date.len(), a.sire.len(), a.dam.len(), a.sex.len(), a.group.len()];
    if lengths != [a.id.len(); 5] {
        return Err("lists of animals of different lengths".into());
    }
    unique("animal", &a.id)?;
    if let Some(sex) = a.sex.iter().find(|s| **s > 2) {
        return Err(format!("a sex of {sex}"));
    }
    match a.birth_date.iter().find(|d| !d.is_empty() && !is_date(d)) {
        Some(date) => Err(format!("the birth date {date}")),
        None => Ok(()),
    }
}

/// An error is what is wrong with a list of SNPs of `n` animals.
pub(super) fn check_variants(v: &Variants, n: usize) -> std::result::Result<(), String> {
    let texts = [v.chromosome.len(), v.counted_allele.len(), v.other_allele.len()];
    let numbers = [v.position.len(), v.cm.len(), v.frequency.len(), v.missing.len()];
    if texts != [v.id.len(); 3] || numbers != [v.id.len(); 4] {
        return Err("lists of SNPs of different lengths".into());
    }
    unique("SNP", &v.id)?;
    if let Some(p) = v.frequency.iter().find(|p| !(p.is_nan() || (0.0..=1.0).contains(*p))) {
        return Err(format!("an allele frequency of {p}"));
    }
    if let Some(cm) = v.cm.iter().find(|cm| cm.is_infinite()) {
        return Err(format!("a genetic position of {cm} cM"));
    }
    match v.missing.iter().find(|k| **k > n as u64) {
        Some(k) => Err(format!("{k} missing calls of {n} animals")),
        None => Ok(()),
    }
}

fn unique(what: &str, names: &[String]) -> std::result::Result<(), String> {
    match first_twin(names) {
        None => Ok(()),
        Some("") => Err(format!("a name of no {what}: it is empty")),
        Some(twin) => Err(format!("the {what} {twin} twice")),
    }
}
