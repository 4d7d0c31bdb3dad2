//! The tables that a simulation writes: phenotypes, and the truth behind them.

use super::config::SimulationConfig;
use super::qtl::{Other, Qtl};
use super::traits::Traits;
use crate::genotype::Variants;
use crate::stats;
use ndarray::Array2;
use std::io::{Result, Write};

/// `id` and one column a trait; NA where there is no record.
pub fn phenotypes(out: &mut dyn Write, ids: &[String], config: &SimulationConfig, t: &Traits) -> Result<()> {
    let traits = config.selected();
    write!(out, "id")?;
    traits.iter().try_for_each(|of| write!(out, "\t{}", of.name))?;
    writeln!(out)?;
    for (id, row) in ids.iter().zip(t.phenotype.outer_iter()) {
        write!(out, "{id}")?;
        for (of, y) in traits.iter().zip(row) {
            let digits = if of.classes.is_empty() { decimals(of.sd) } else { 0 };
            if y.is_nan() {
                write!(out, "\tNA")?
            } else {
                write!(out, "\t{y:.digits$}")?
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// `id`, and for each trait its total genetic value and the additive part of it.
pub fn genetic_values(
    out: &mut dyn Write,
    ids: &[String],
    config: &SimulationConfig,
    t: &Traits,
) -> Result<()> {
    let traits = config.selected();
    write!(out, "id")?;
    traits.iter().try_for_each(|of| write!(out, "\t{0}\t{0}.additive", of.name))?;
    writeln!(out)?;
    for (i, id) in ids.iter().enumerate() {
        write!(out, "{id}")?;
        for (k, of) in traits.iter().enumerate() {
            let digits = decimals(of.sd) + 2;
            write!(out, "\t{:.digits$}\t{:.digits$}", t.total[[i, k]], t.additive[[i, k]])?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// One line an effect: trait, kind, SNP, additive and dominance effect, partner and effect of a pair.
pub fn effects(
    out: &mut dyn Write,
    snps: &Variants,
    config: &SimulationConfig,
    q: &Qtl,
    t: &Traits,
) -> Result<()> {
    writeln!(out, "trait\tkind\tsnp\tadditive\tdominance\tpartner\tpair")?;
    let name = |row: usize| &snps.id[q.snps[row]];
    for (k, of) in config.selected().iter().enumerate() {
        let of_locus = |other: &Other, l: usize| match other {
            Other::Dominance(d) => d.get(l).copied().unwrap_or(0.0) * t.other_scale[k],
            _ => 0.0,
        };
        for (l, &row) in q.polygenic.iter().enumerate() {
            let (a, d) = (t.effects[[l, k]], of_locus(&q.other[k], l));
            writeln!(out, "{}\tpolygenic\t{}\t{a:.6e}\t{d:.6e}\tNA\t0", of.name, name(row))?;
        }
        for (g, row) in q.major.iter().enumerate() {
            let Some(row) = *row else { continue };
            if t.major[[g, k]] != 0.0 {
                let kind = &config.major[g].name;
                writeln!(out, "{}\t{kind}\t{}\t{:.6e}\t0\tNA\t0", of.name, name(row), t.major[[g, k]])?;
            }
        }
        if let Other::Pairs(pairs) = &q.other[k] {
            for &(a, b, w) in pairs {
                let w = w * t.other_scale[k];
                writeln!(out, "{}\tpair\t{}\t0\t0\t{}\t{w:.6e}", of.name, name(a), name(b))?;
            }
        }
    }
    Ok(())
}

/// One line a trait: what was asked for and what the herd has, over all animals, recorded or not.
pub fn parameters(out: &mut dyn Write, config: &SimulationConfig, t: &Traits) -> Result<()> {
    writeln!(
        out,
        "trait\tgroup\trecords\th2\tnon_additive\tform\tof\tvar_total\tvar_additive\tvar_phenotype"
    )?;
    let variance = |x: &Array2<f64>, k: usize| stats::variance(&x.column(k).to_vec());
    for (k, of) in config.selected().iter().enumerate() {
        let records = t.phenotype.column(k).iter().filter(|y| !y.is_nan()).count();
        let form = format!("{:?}", of.form).to_lowercase();
        let driver = of.of.as_deref().unwrap_or("NA");
        write!(
            out,
            "{}\t{}\t{records}\t{}\t{}\t{form}\t{driver}",
            of.name, of.group, of.h2, of.non_additive
        )?;
        for x in [&t.total, &t.additive, &t.complete] {
            write!(out, "\t{:.6e}", variance(x, k))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Decimals that keep four or five digits of a standard deviation.
fn decimals(sd: f64) -> usize {
    (4.0 - sd.log10().floor()).clamp(0.0, 12.0) as usize
}
