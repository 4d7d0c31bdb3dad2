//! What a backend does for generators: genotypes as one class of three, and the noise that classes are made with.
//!
//! A SNP has three columns, 3j + c for c copies of the counted allele; an animal's row has a one where its call is,
//! and a call that was not made has none. Such rows are never stored.
//!
//! | operations | of |
//! |---|---|
//! | `onehot_times`, `onehot_transposed_times` | a critic's SNP-facing layer |
//! | `softmax`, `softmax_backward` | a generator's classes (Jang et al. 2017) |
//! | `cross_entropy` | what classes cost an autoencoder |
//! | `row_squares`, `scale_rows` | the gradient penalty, mixtures of animals |

mod host;
#[cfg(test)]
mod tests;

pub(in crate::device) use host::Classes;

use super::{check_columns, Draw, Onto, Rows, Slice, SliceMut};
use crate::device::{check, Genotypes};
use crate::error::Result;

/// Classes of a genotype: 0, 1 or 2 copies.
pub const CLASSES: usize = 3;

/// Noise on one-hot rows: each zero of a SNP becomes `amount` times its uniform, the one is lowered by their sum
/// (Xie et al. 2025). The columns of the [`Draw`] are those of classes: 3j + c.
#[derive(Debug, Clone, Copy)]
pub struct Smooth {
    /// The most that a zero becomes.
    pub amount: f64,
    /// The uniforms.
    pub draw: Draw,
}

/// What generators need of a backend beside the rest. Rows of the batch are (b), columns of classes 3m.
pub trait OneHot {
    /// `out (b, h) = X W`, X (b, 3m) the one-hot rows of the animals that `rows` names and `w` (3m, h).
    fn onehot_times(
        &self,
        z: &Genotypes,
        rows: &Rows,
        smooth: Option<&Smooth>,
        w: Slice,
        h: usize,
        out: SliceMut,
    ) -> Result<()>;

    /// `out (3m, h) = [X; Y]' D`, X (b, 3m) as in [`OneHot::onehot_times`], `dense` Y (k, 3m) and `d` (b + k, h).
    #[allow(clippy::too_many_arguments)] // they are the terms of one formula
    fn onehot_transposed_times(
        &self,
        z: &Genotypes,
        rows: &Rows,
        smooth: Option<&Smooth>,
        dense: Option<Slice>,
        d: Slice,
        h: usize,
        onto: Onto,
        out: SliceMut,
    ) -> Result<()>;

    /// The three classes of each SNP become softmax((x + g)/temperature), `x` (b, `width`); g is Gumbel noise
    /// −ln(−ln u) of the uniforms u of `noise`, or nothing.
    fn softmax(&self, temperature: f64, noise: Option<Draw>, width: usize, x: SliceMut) -> Result<()>;

    /// Backward through it: `delta = y ∘ (delta − Σ y∘delta)/temperature`, sums over the classes of each SNP, `y`
    /// as it came out.
    fn softmax_backward(&self, temperature: f64, y: Slice, delta: SliceMut) -> Result<()>;

    /// What classes cost: with `logits` (b, 3m) and p their softmax, `costs (b) = factor · Σ −ln p` of the calls,
    /// `delta (b, 3m) = factor · (p − X)`. Calls that were not made cost nothing.
    fn cross_entropy(
        &self,
        z: &Genotypes,
        rows: &Rows,
        factor: f64,
        logits: Slice,
        costs: SliceMut,
        delta: SliceMut,
    ) -> Result<()>;

    /// `out (b)`: sums of squares of the rows of `x` (b, k).
    fn row_squares(&self, x: Slice, out: SliceMut) -> Result<()>;

    /// `out (b, k) = factors ∘ x` by rows, `factors` (b), `x` (b, k).
    fn scale_rows(&self, factors: Slice, x: Slice, onto: Onto, out: SliceMut) -> Result<()>;
}

pub(in crate::device) fn check_onehot(
    z: &Genotypes,
    rows: &Rows,
    h: usize,
    w: &Slice,
    out: &SliceMut,
) -> Result<()> {
    check("onehot_times", "w", CLASSES * z.columns() * h, w.len())?;
    check("onehot_times", "out", rows.len() * h, out.len())
}

pub(in crate::device) fn check_onehot_transposed(
    z: &Genotypes,
    rows: &Rows,
    dense: Option<&Slice>,
    h: usize,
    d: &Slice,
    out: &SliceMut,
) -> Result<()> {
    let (name, width) = ("onehot_transposed_times", CLASSES * z.columns());
    let more = dense.map_or(0, Slice::len);
    check_columns(name, width, more)?;
    check(name, "d", (rows.len() + more.checked_div(width).unwrap_or(0)) * h, d.len())?;
    check(name, "out", width * h, out.len())
}

pub(in crate::device) fn check_softmax(width: usize, x: &SliceMut) -> Result<()> {
    check_columns("softmax", CLASSES, width)?;
    check_columns("softmax", width, x.len())
}

pub(in crate::device) fn check_softmax_backward(y: &Slice, delta: &SliceMut) -> Result<()> {
    check_columns("softmax_backward", CLASSES, y.len())?;
    check("softmax_backward", "delta", y.len(), delta.len())
}

pub(in crate::device) fn check_cross_entropy(
    z: &Genotypes,
    rows: &Rows,
    logits: &Slice,
    costs: &SliceMut,
    delta: &SliceMut,
) -> Result<()> {
    let entries = CLASSES * z.columns() * rows.len();
    check("cross_entropy", "logits", entries, logits.len())?;
    check("cross_entropy", "delta", entries, delta.len())?;
    check("cross_entropy", "costs", rows.len(), costs.len())
}

pub(in crate::device) fn check_rows(operation: &str, rows: usize, x: usize) -> Result<()> {
    check(operation, "a matrix with so many rows", x.checked_div(rows).unwrap_or(0) * rows, x)
}
