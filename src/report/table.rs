//! Tab-separated tables of results.

use crate::error::Result;
use crate::mixed::covariances::Covariances;
use crate::mixed::reml::moments::Moments;
use crate::mixed::Estimate;
use crate::output;
use ndarray::{Array2, ArrayView2};
use std::path::Path;

/// Significant digits of real numbers in tables.
const DIGITS: usize = 8;

/// A real number with 8 significant digits and no more than it needs; `NA` for NaN.
pub fn number(x: f64) -> String {
    if x.is_nan() {
        return "NA".into();
    }
    let rounded: f64 = format!("{x:.*e}", DIGITS - 1).parse().expect("a number just written");
    let size = rounded.abs();
    if size != 0.0 && !(1e-5..1e15).contains(&size) {
        return format!("{rounded:e}");
    }
    // Not "-0".
    format!("{}", rounded + 0.0)
}

/// A table of names and numbers: one row a name, `values` of shape (names, columns).
pub fn write_matrix(
    path: &Path,
    force: bool,
    key: (&str, &[String]),
    columns: &[String],
    values: ArrayView2<f64>,
) -> Result<()> {
    assert_eq!(values.dim(), (key.1.len(), columns.len()), "a value for every name and column");
    output::write_file(path, force, |out| {
        writeln!(out, "{}\t{}", key.0, columns.join("\t"))?;
        for (name, row) in key.1.iter().zip(values.rows()) {
            write!(out, "{name}")?;
            for &x in row {
                write!(out, "\t{}", number(x))?;
            }
            writeln!(out)?;
        }
        Ok(())
    })
}

/// The variance components of traits, one row a trait; readable again by `--variances`. Estimates from random probes
/// have two columns more, the Monte-Carlo errors of h² and of the log-likelihood.
pub fn write_variances(path: &Path, force: bool, traits: &[String], estimates: &[Estimate]) -> Result<()> {
    let sampled = estimates.iter().any(|e| e.sampling.is_some());
    output::write_file(path, force, |out| {
        write!(out, "trait\tn\tvar_g\tvar_g_se\tvar_e\tvar_e_se\th2\th2_se\tloglik\titerations\tconverged")?;
        writeln!(out, "{}", if sampled { "\tmc_se\tloglik_mc_se" } else { "" })?;
        for (name, e) in traits.iter().zip(estimates) {
            let reals = [e.var_g, e.var_g_se, e.var_e, e.var_e_se, e.h2, e.h2_se, e.log_likelihood];
            let reals = reals.map(number).join("\t");
            write!(out, "{name}\t{}\t{reals}\t{}\t{}", e.n, e.iterations, e.outcome.label())?;
            if sampled {
                let errors = e.sampling.map_or([f64::NAN; 2], |s| [s.h2, s.log_likelihood]);
                write!(out, "\t{}", errors.map(number).join("\t"))?;
            }
            writeln!(out)?;
        }
        Ok(())
    })
}

/// The covariances of all pairs of traits, one row a pair and a trait; readable again by `--covariances`.
pub fn write_covariances(path: &Path, force: bool, traits: &[String], moments: &Moments) -> Result<()> {
    output::write_file(path, force, |out| {
        write!(
            out,
            "pair\ttrait1\ttrait2\tn\tcov_g\tcov_g_se\tcov_g_mc_se\tcov_e\tcov_e_se\tcor_g\tcor_g_se"
        )?;
        writeln!(out, "\tbent_cov_g\tbent_cov_e")?;
        for (i, a) in traits.iter().enumerate() {
            for (k, b) in traits.iter().enumerate().skip(i) {
                let p = &moments.pairs[i][k];
                let bent = [moments.bent.genetic[[i, k]], moments.bent.residual[[i, k]]];
                let own = [p.genetic, p.genetic_se, p.genetic_mc_se, p.residual, p.residual_se];
                let reals = [&own[..], &[p.correlation, p.correlation_se], &bent].concat();
                let reals: Vec<String> = reals.into_iter().map(number).collect();
                writeln!(out, "{a}/{b}\t{a}\t{b}\t{}\t{}", p.shared, reals.join("\t"))?;
            }
        }
        Ok(())
    })
}

/// G0 and R0 as a model used them, one row a pair and a trait; readable again by `--covariances`.
pub fn write_used_covariances(path: &Path, force: bool, traits: &[String], used: &Covariances) -> Result<()> {
    let correlation = |a: &Array2<f64>, i: usize, k: usize| a[[i, k]] / (a[[i, i]] * a[[k, k]]).sqrt();
    output::write_file(path, force, |out| {
        writeln!(out, "pair\ttrait1\ttrait2\tcov_g\tcov_e\tcor_g\tcor_e")?;
        for (i, a) in traits.iter().enumerate() {
            for (k, b) in traits.iter().enumerate().skip(i) {
                let (g, e) = (&used.genetic, &used.residual);
                let reals = [g[[i, k]], e[[i, k]], correlation(g, i, k), correlation(e, i, k)];
                writeln!(out, "{a}/{b}\t{a}\t{b}\t{}", reals.map(number).join("\t"))?;
            }
        }
        Ok(())
    })
}

/// One entry of a table.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A word.
    Text(String),
    /// A count.
    Count(usize),
    /// A real number, `NA` when it does not exist.
    Real(f64),
}

impl From<&str> for Entry {
    fn from(text: &str) -> Entry {
        Entry::Text(text.to_owned())
    }
}

impl From<usize> for Entry {
    fn from(count: usize) -> Entry {
        Entry::Count(count)
    }
}

impl From<f64> for Entry {
    fn from(real: f64) -> Entry {
        Entry::Real(real)
    }
}

/// A table with a header.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    columns: Vec<&'static str>,
    rows: Vec<Vec<Entry>>,
}

impl Table {
    /// An empty table.
    pub fn new(columns: &[&'static str]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, one entry a column.
    pub fn push(&mut self, row: Vec<Entry>) {
        assert_eq!(row.len(), self.columns.len(), "one entry a column");
        self.rows.push(row);
    }

    /// The tab-separated text.
    pub fn to_tsv(&self) -> String {
        let mut text = self.columns.join("\t");
        text.push('\n');
        for row in &self.rows {
            let cells: Vec<String> = row.iter().map(written).collect();
            text.push_str(&cells.join("\t"));
            text.push('\n');
        }
        text
    }

    /// Writes the tab-separated text to a file.
    pub fn write(&self, path: &Path, force: bool) -> Result<()> {
        output::write_file(path, force, |w| w.write_all(self.to_tsv().as_bytes()))
    }
}

fn written(entry: &Entry) -> String {
    match entry {
        Entry::Text(t) => t.replace(['\t', '\n', '\r'], " "),
        Entry::Count(c) => c.to_string(),
        Entry::Real(r) if r.is_finite() => number(*r),
        Entry::Real(_) => "NA".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_eight_digits_at_most() {
        for (x, text) in [
            (0.1 + 0.2, "0.3"),
            (-1234.567891234, "-1234.5679"),
            (1e-9 / 3.0, "3.3333333e-10"),
            (0.0, "0"),
            (-0.0, "0"),
            (f64::NAN, "NA"),
            (2e20, "2e20"),
            (12345678912.0, "12345679000"),
        ] {
            assert_eq!(number(x), text);
        }
    }

    #[test]
    fn a_table_is_a_header_and_its_rows() {
        let mut t = Table::new(&["trait", "n", "r", "se"]);
        t.push(vec!["milk\tyield".into(), 3usize.into(), 0.5.into(), f64::NAN.into()]);
        assert_eq!(t.to_tsv(), "trait\tn\tr\tse\nmilk yield\t3\t0.5\tNA\n");
    }
}
