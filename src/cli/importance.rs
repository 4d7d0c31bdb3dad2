//! How much each SNP counts in a model, as a table and a picture.

use crate::error::Result;
use crate::genotype::Variants;
use crate::output;
use crate::report::picture::{self, Frame, Series};
use crate::report::table::number;
use ndarray::{ArrayView2, Axis};
use std::path::Path;

const SUFFIXES: [&str; 2] = [".importance.tsv", ".importance.svg"];
/// SNPs in the picture, at most: those that count most.
const DRAWN: usize = 3000;

/// Refuses to write over earlier results.
pub(super) fn refuse(prefix: &Path, force: bool) -> Result<()> {
    SUFFIXES
        .into_iter()
        .try_for_each(|suffix| output::refuse_existing(&output::with_suffix(prefix, suffix), force))
}

/// Writes PREFIX.importance.tsv, one row a SNP, and PREFIX.importance.svg, means over the traits along the genome.
pub(super) fn write(
    prefix: &Path,
    force: bool,
    (snps, traits): (&Variants, &[String]),
    shares: ArrayView2<f64>,
) -> Result<()> {
    output::write_file(&output::with_suffix(prefix, SUFFIXES[0]), force, |out| {
        writeln!(out, "snp\tchromosome\tposition\t{}", traits.join("\t"))?;
        for (j, row) in shares.rows().into_iter().enumerate() {
            let (id, chromosome) = (&snps.id[j], &snps.chromosome[j]);
            write!(out, "{id}\t{chromosome}\t{}", snps.position[j])?;
            row.iter().try_for_each(|&x| write!(out, "\t{}", number(x)))?;
            writeln!(out)?;
        }
        Ok(())
    })?;
    let picture = picture(snps, traits.len(), shares);
    output::write_file(&output::with_suffix(prefix, SUFFIXES[1]), force, |out| {
        out.write_all(picture.as_bytes())
    })
}

/// The SNPs that count most, along the genome; every other chromosome in another colour.
fn picture(snps: &Variants, traits: usize, shares: ArrayView2<f64>) -> String {
    let mean = shares.mean_axis(Axis(1)).unwrap_or_default();
    let mut order: Vec<usize> = (0..mean.len()).filter(|&j| mean[j] > 0.0).collect();
    order.sort_by(|&a, &b| mean[b].total_cmp(&mean[a]).then(a.cmp(&b)));
    order.truncate(DRAWN);
    order.sort_unstable();
    let mut series =
        ["odd chromosomes", "even chromosomes"].map(|name| Series { name: name.into(), ..Series::default() });
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
        series[chromosomes[j] % 2].points.push((j as f64 + 1.0, 100.0 * mean[j]));
    }
    let over = if traits == 1 { String::new() } else { format!(", mean of {traits} traits") };
    let y = format!("importance in %{over}");
    picture::scatter(&Frame::new("Importance of SNPs", "SNP along the genome", &y), &series)
}
