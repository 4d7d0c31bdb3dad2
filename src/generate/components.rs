//! Principal components of each chromosome, and the way back from scores to genotypes.

use super::baseline::chromosomes;
use super::Herd;
use crate::error::{Error, Result};
use crate::genotype::Variants;
use crate::linalg::factor::Eigen;
use crate::linalg::product;
use crate::packed::{unpack_row, Packed};
use ndarray::{s, Array1, Array2, ArrayView2, Axis};
use rayon::prelude::*;
use std::ops::Range;

/// The components of one chromosome.
#[derive(Debug, Clone, PartialEq)]
pub struct Components {
    /// Its SNPs.
    pub snps: Range<usize>,
    /// Means of the counts, (SNPs).
    pub mean: Array1<f64>,
    /// What a component is made of, times its standard deviation: (components, SNPs).
    pub loadings: Array2<f64>,
}

impl Components {
    /// Those of a chromosome's counts `x` (n, SNPs) that explain a share of the variance, and the animals' scores in
    /// standard deviations (n, components).
    fn of(snps: Range<usize>, mut x: Array2<f64>, share: f64) -> Result<(Components, Array2<f64>)> {
        let (n, m) = x.dim();
        let mean = x.mean_axis(Axis(0)).expect("there are animals");
        x -= &mean;
        // The smaller of the two matrices of products has the same eigenvalues.
        let wide = m > n;
        let squares = if wide { product(x.view(), x.t()) } else { product(x.t(), x.view()) };
        let Eigen { values, vectors } = Eigen::new(squares)?;
        let total: f64 = values.iter().map(|v| v.max(0.0)).sum();
        let (mut kept, mut explained) = (0, 0.0);
        while kept < values.len() && explained < share * total * (1.0 - 1e-9) {
            kept += 1;
            explained += values[values.len() - kept].max(0.0);
        }
        let largest = values.len() - kept..values.len();
        let vectors = vectors.slice(s![largest.clone(), ..]).to_owned();
        let (mut loadings, scale) =
            (if wide { product(vectors.view(), x.view()) } else { vectors }, (n as f64).sqrt());
        for (mut row, value) in loadings.axis_iter_mut(Axis(0)).zip(&values[largest.clone()]) {
            // To length 1.
            row /= if wide { value.sqrt() } else { 1.0 };
        }
        let mut scores = product(x.view(), loadings.t());
        for (k, value) in values[largest].iter().enumerate() {
            let sd = value.sqrt() / scale;
            scores.column_mut(k).mapv_inplace(|score| score / sd);
            loadings.row_mut(k).mapv_inplace(|loading| loading * sd);
        }
        Ok((Components { snps, mean, loadings }, scores))
    }

    /// All chromosomes of a herd, and the scores side by side.
    pub fn of_herd(herd: &Herd, share: f64) -> Result<(Vec<Components>, Array2<f64>)> {
        let of = |snps: Range<usize>| {
            let mut x = Array2::zeros((herd.animals(), snps.len()));
            let mut codes = vec![0; herd.packed.columns()];
            for (i, mut row) in x.axis_iter_mut(Axis(0)).enumerate() {
                unpack_row(herd.packed.row(i), &mut codes);
                row.iter_mut().zip(&codes[snps.clone()]).for_each(|(x, &code)| *x = f64::from(code));
            }
            Components::of(snps, x, share)
        };
        let all: Vec<_> = runs(&herd.variants).into_par_iter().map(of).collect::<Result<_>>()?;
        let scores: Vec<ArrayView2<f64>> = all.iter().map(|(_, scores)| scores.view()).collect();
        let scores = ndarray::concatenate(Axis(1), &scores).expect("the same animals");
        Ok((all.into_iter().map(|(components, _)| components).collect(), scores))
    }
}

/// Runs of SNPs on one chromosome.
pub fn runs(variants: &Variants) -> Vec<Range<usize>> {
    let starts = chromosomes(variants);
    let ends = starts.iter().skip(1).copied().chain([variants.len()]);
    starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
}

/// An error where no SNP varies.
pub fn some(scores: &Array2<f64>) -> Result<()> {
    match scores.ncols() {
        0 => Err(Error::input("training", "SNPs that vary among the animals", "none", "use another store")),
        _ => Ok(()),
    }
}

/// Calls at all `m` SNPs of animals with `scores` (animals, components of all chromosomes): counts, rounded and cut.
pub fn calls(all: &[Components], scores: ArrayView2<f64>, m: usize) -> Packed {
    let mut codes = vec![0u8; scores.nrows() * m];
    let mut first = 0;
    for run in all {
        let own = scores.slice(s![.., first..first + run.loadings.nrows()]);
        first += run.loadings.nrows();
        let counts = product(own, run.loadings.view()) + &run.mean;
        for (row, counts) in codes.chunks_exact_mut(m).zip(counts.rows()) {
            let near = |x: &f64| x.round().clamp(0.0, 2.0) as u8;
            row[run.snps.clone()].iter_mut().zip(counts).for_each(|(code, x)| *code = near(x));
        }
    }
    Packed::from_codes(scores.nrows(), m, &codes)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{herd, of_herd};
    use super::*;
    use crate::nn::Ranks;

    #[test]
    fn components_explain_what_is_asked_and_give_genotypes_back() {
        let device = crate::device::open("reference").unwrap();
        let ranks = Ranks::alone(&device);
        // More SNPs than animals on a chromosome, and fewer.
        for (n, m) in [(30, 150), (130, 70)] {
            let (packed, variants) = herd(n, m);
            let herd = of_herd(&ranks, packed, &variants);
            let (all, scores) = Components::of_herd(&herd, 1.0).unwrap();
            assert_eq!(calls(&all, scores.view(), m), *herd.packed, "{n} x {m}");
            for column in scores.columns() {
                let (mean, square) = (column.mean().unwrap(), column.dot(&column) / n as f64);
                assert!(mean.abs() < 1e-8 && (square - 1.0).abs() < 1e-8, "{mean} {square}");
            }
            let (some, scores) = Components::of_herd(&herd, 0.8).unwrap();
            for (run, whole) in some.iter().zip(&all) {
                let variance = |c: &Components| c.loadings.iter().map(|x| x * x).sum::<f64>();
                let share = variance(run) / variance(whole);
                let least = run.loadings.row(0).dot(&run.loadings.row(0)) / variance(whole);
                assert!(share >= 0.8 && share - least < 0.8, "{share} without {least}");
            }
            assert_eq!(scores.ncols(), some.iter().map(|c| c.loadings.nrows()).sum::<usize>());
        }
    }
}
