//! How much each SNP and feature counts in a model, as a table and a picture.

use crate::error::Result;
use crate::output;
use crate::predict::Importance;
use crate::report::picture::{self, Frame, Series};
use crate::report::table::number;
use ndarray::{ArrayView2, Axis};
use std::path::Path;

const SUFFIXES: [&str; 3] = [".importance.tsv", ".importance.svg", ".permutation.tsv"];
/// SNPs in the picture, at most: those that count most.
const DRAWN: usize = 3000;

/// Refuses to write over earlier results.
pub(super) fn refuse(prefix: &Path, force: bool) -> Result<()> {
    SUFFIXES
        .into_iter()
        .try_for_each(|suffix| output::refuse_existing(&output::with_suffix(prefix, suffix), force))
}

/// Writes PREFIX.importance.tsv, one row a SNP or feature, PREFIX.importance.svg, means over the traits along the genome, and,
/// where there is importance by permutation, (m + f, t), PREFIX.permutation.tsv.
pub(super) fn write(
    prefix: &Path,
    force: bool,
    (traits, permutation): (&[String], Option<ArrayView2<f64>>),
    found: &Importance,
) -> Result<()> {
    let path = |suffix| output::with_suffix(prefix, suffix);
    write_table(&path(SUFFIXES[0]), force, traits, (found, found.shares.view()))?;
    if let Some(values) = permutation {
        write_table(&path(SUFFIXES[2]), force, traits, (found, values))?;
    }
    let picture = picture(found, traits.len());
    output::write_file(&output::with_suffix(prefix, SUFFIXES[1]), force, |out| {
        out.write_all(picture.as_bytes())
    })
}

/// One row a SNP or feature.
fn write_table(
    path: &Path,
    force: bool,
    traits: &[String],
    (found, values): (&Importance, ArrayView2<f64>),
) -> Result<()> {
    let Importance { snps, features, .. } = found;
    output::write_file(path, force, |out| {
        writeln!(out, "name\tchromosome\tposition\t{}", traits.join("\t"))?;
        for (j, row) in values.rows().into_iter().enumerate() {
            match j.checked_sub(snps.len()) {
                None => write!(out, "{}\t{}\t{}", snps.id[j], snps.chromosome[j], snps.position[j])?,
                Some(k) => write!(out, "{}\tNA\tNA", features[k])?,
            }
            row.iter().try_for_each(|&x| write!(out, "\t{}", number(x)))?;
            writeln!(out)?;
        }
        Ok(())
    })
}

/// The SNPs that count most, along the genome; every other chromosome in another colour.
fn picture(found: &Importance, traits: usize) -> String {
    let snps = found.snps;
    let mean = found.shares.mean_axis(Axis(1)).unwrap_or_default();
    let mut order: Vec<usize> = (0..mean.len()).filter(|&j| mean[j] > 0.0).collect();
    order.sort_by(|&a, &b| mean[b].total_cmp(&mean[a]).then(a.cmp(&b)));
    order.truncate(DRAWN);
    order.sort_unstable();
    let names = ["odd chromosomes", "even chromosomes", "features"];
    let mut series = names.map(|name| Series { name: name.into(), ..Series::default() });
    let mut number_of = 0;
    let mut last = snps.chromosome.first();
    let chromosomes: Vec<usize> = snps
        .chromosome
        .iter()
        .map(|name| {
            if last != Some(name) {
                number_of += 1;
                last = Some(name);
            }
            number_of
        })
        .collect();
    for j in order {
        series[chromosomes.get(j).map_or(2, |number| number % 2)]
            .points
            .push((j as f64 + 1.0, 100.0 * mean[j]));
    }
    let over = if traits == 1 { String::new() } else { format!(", mean of {traits} traits") };
    let y = format!("importance in %{over}");
    let title =
        if found.features.is_empty() { "Importance of SNPs" } else { "Importance of SNPs and features" };
    picture::scatter(
        &Frame::new(title, "along the genome", &y),
        &series[..if found.features.is_empty() { 2 } else { 3 }],
    )
}
