//! The lengths that operations demand of buffers, the same for all backends: a wrong one is an error, not a panic.

use super::{Product, Rows, Slice, SliceMut};
use crate::device::{check, Genotypes, CHUNK};
use crate::error::{Error, Result};
use std::ops::Range;

/// Whole rows of `width` in a matrix of `length` entries.
pub(in crate::device) fn columns(operation: &str, width: usize, length: usize) -> Result<()> {
    let expected = length.checked_div(width).unwrap_or(0) * width;
    check(operation, "a matrix with whole rows", expected, length)
}

/// What comes from or goes to the host's memory.
pub(in crate::device) fn transfer(operation: &str, host: usize, device: usize) -> Result<()> {
    check(operation, "the buffer", host, device)
}

/// One number.
pub(in crate::device) fn single(operation: &str, out: &SliceMut) -> Result<()> {
    check(operation, "one number", 1, out.len())
}

/// One part becomes another of the same length.
pub(in crate::device) fn same(operation: &str, from: &Slice, to: &SliceMut) -> Result<()> {
    check(operation, "what is written", from.len(), to.len())
}

pub(in crate::device) fn gather(
    z: &Genotypes,
    rows: &Rows,
    h: usize,
    w: &Slice,
    out: &SliceMut,
) -> Result<()> {
    check("gather_times", "w", z.columns() * h, w.len())?;
    check("gather_times", "out", rows.len() * h, out.len())
}

pub(in crate::device) fn gather_transposed(
    z: &Genotypes,
    rows: &Rows,
    h: usize,
    snps: &Range<usize>,
    d: &Slice,
    out: &SliceMut,
) -> Result<()> {
    let whole = snps.is_empty() || snps.start.is_multiple_of(CHUNK);
    if snps.end > z.columns() || !whole {
        let problem = format!("SNPs {snps:?} of {}", z.columns());
        return Err(Error::failed("device, gather_transposed_times", problem, "please report this"));
    }
    check("gather_transposed_times", "d", rows.len() * h, d.len())?;
    check("gather_transposed_times", "out", snps.len() * h, out.len())
}

pub(in crate::device) fn product(shape: Product, a: &Slice, b: &Slice, out: &SliceMut) -> Result<()> {
    check("product", "a", shape.m * shape.k, a.len())?;
    check("product", "b", shape.k * shape.n, b.len())?;
    check("product", "out", shape.m * shape.n, out.len())
}

pub(in crate::device) fn column_squares(x: &Slice, centre: &Slice, out: &SliceMut) -> Result<()> {
    columns("column_squares", out.len(), x.len())?;
    check("column_squares", "centre", out.len(), centre.len())
}

pub(in crate::device) fn column_products(x: &Slice, y: &Slice, out: &SliceMut) -> Result<()> {
    columns("column_products", out.len(), x.len())?;
    check("column_products", "y", x.len(), y.len())
}

pub(in crate::device) fn normalise_columns(mean: &Slice, inverse_sd: &Slice, x: &SliceMut) -> Result<()> {
    columns("normalise_columns", mean.len(), x.len())?;
    check("normalise_columns", "inverse_sd", mean.len(), inverse_sd.len())
}

/// `of_column` is scale, 1/sd, sums and products.
pub(in crate::device) fn columns_backward(
    normalised: &Slice,
    of_column: [&Slice; 4],
    delta: &SliceMut,
) -> Result<()> {
    let (name, h) = ("normalise_columns_backward", of_column[0].len());
    columns(name, h, delta.len())?;
    check(name, "normalised", delta.len(), normalised.len())?;
    of_column.iter().try_for_each(|part| check(name, "what is by column", h, part.len()))
}

pub(in crate::device) fn scale_columns(
    x: &Slice,
    scale: &Slice,
    shift: &Slice,
    out: &SliceMut,
) -> Result<()> {
    columns("scale_columns", scale.len(), x.len())?;
    check("scale_columns", "shift", scale.len(), shift.len())?;
    check("scale_columns", "out", x.len(), out.len())
}

pub(in crate::device) fn rows_backward(
    normalised: &Slice,
    scale: &Slice,
    inverse_sd: &Slice,
    delta: &SliceMut,
) -> Result<()> {
    check("normalise_rows_backward", "delta", scale.len() * inverse_sd.len(), delta.len())?;
    check("normalise_rows_backward", "normalised", delta.len(), normalised.len())
}

pub(in crate::device) fn loss(
    [predicted, observed]: [&Slice; 2],
    weights: Option<&Slice>,
    delta: &SliceMut,
    sums: &SliceMut,
) -> Result<()> {
    columns("loss", sums.len(), predicted.len())?;
    check("loss", "observed", predicted.len(), observed.len())?;
    check("loss", "delta", predicted.len(), delta.len())?;
    check("loss", "weights", predicted.len(), weights.map_or(predicted.len(), Slice::len))
}

pub(in crate::device) fn adam(gradient: &Slice, changed: [&SliceMut; 3]) -> Result<()> {
    let lengths = changed.map(SliceMut::len);
    lengths.into_iter().try_for_each(|length| check("adam", "parameters and moments", gradient.len(), length))
}

/// The rows, if the genotypes have them all.
pub(in crate::device) fn named<'a>(z: &Genotypes, rows: &'a [u32]) -> Result<&'a [u32]> {
    match rows.iter().find(|&&row| row as usize >= z.rows()) {
        None => Ok(rows),
        Some(row) => {
            let problem = format!("row {row} of {}", z.rows());
            Err(Error::failed("device, gather", problem, "please report this"))
        }
    }
}
