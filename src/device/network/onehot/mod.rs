//! What a backend does for generators: genotypes as one class of three, and the noise that classes are made with.
//!
//! A SNP has three columns, 3j + c for c copies of the counted allele; an animal's row has a one where its call is,
//! and a call that was not made has none. Such rows are never stored.
//!
//! Three classes that sum to one are known by two: generated animals are rows of 2m numbers, the classes 1 of all SNPs
//! and then their classes 2. Likewise a softmax sees no more of three logits than their contrasts, what the second and
//! the third are above the first: rows of 2m in the same order.
//!
//! | operations | of |
//! |---|---|
//! | `onehot_times`, `onehot_transposed_times` | a critic's SNP-snp_layer layer |
//! | `softmax`, `softmax_backward` | a generator's classes (Jang et al. 2017) |
//! | `contrasts`, `softmax_contrasts`, `softmax_contrasts_backward` | the same with two numbers a SNP |
//! | `cross_entropy` | what classes cost an autoencoder |
//! | `row_squares`, `gradient_penalty`, `scale_rows` | the gradient penalty, mixtures of animals |

mod host;
#[cfg(test)]
mod tests;

pub(in crate::device) use host::{Classes, Given};

use super::shapes;
use super::{Accumulate, Draw, Rows, Slice, SliceMut};
use crate::device::{check, Genotypes};
use crate::error::Result;

/// Classes of a genotype: 0, 1 or 2 copies.
pub const CLASSES: usize = 3;

/// Classes of a genotype that tell the third.
pub const CONTRASTS: usize = CLASSES - 1;

/// Noise on one-hot rows: each zero of a SNP becomes `amount` times its uniform, the one is lowered by their sum
/// (Xie et al. 2025). The columns of the [`Draw`] are those of classes: 3j + c.
#[derive(Debug, Clone, Copy)]
pub struct Smooth {
    /// The most that a zero becomes.
    pub amount: f64,
    /// The uniforms.
    pub draw: Draw,
}

/// Rows of classes X (b, 3m): real animals, and generated ones behind them.
pub struct Animals<'a> {
    /// Where real ones are found.
    pub z: &'a Genotypes,
    /// Which they are.
    pub rows: &'a Rows,
    /// Noise on them.
    pub smooth: Option<&'a Smooth>,
    /// Generated ones, classes 1 and 2: 2m numbers each.
    pub made: Option<Slice<'a>>,
}

impl Animals<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len() + self.made()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many generated ones.
    pub(in crate::device) fn made(&self) -> usize {
        let numbers = self.made.as_ref().map_or(0, Slice::len);
        numbers.checked_div(CONTRASTS * self.z.columns()).unwrap_or(0)
    }
}

/// What generators need of a backend beside the rest. Rows of the batch are (b), columns of classes 3m. Products round
/// as sums over all classes do, those that are 0 included.
pub trait OneHot {
    /// `out (b, h) = X W`, X (b, 3m) the rows of the animals and `w` (3m, h).
    fn onehot_times(&self, animals: &Animals, w: Slice, h: usize, out: SliceMut) -> Result<()>;

    /// `out (3m, h) = [X; Y]' D`, X (b, 3m) as in [`OneHot::onehot_times`], `dense` Y (k, 3m) and `d` (b + k, h).
    fn onehot_transposed_times(
        &self,
        animals: &Animals,
        dense: Option<Slice>,
        d: Slice,
        h: usize,
        accumulate: Accumulate,
        out: SliceMut,
    ) -> Result<()>;

    /// The three classes of each SNP become softmax((x + g)/temperature), `x` (b, `width`); g is Gumbel noise
    /// −ln(−ln u) of the uniforms u of `noise`, or nothing.
    fn softmax(&self, temperature: f64, noise: Option<Draw>, width: usize, x: SliceMut) -> Result<()>;

    /// Backward through it: `delta = y ∘ (delta − Σ y∘delta)/temperature`, sums over the classes of each SNP, `y`
    /// as it came out.
    fn softmax_backward(&self, temperature: f64, y: Slice, delta: SliceMut) -> Result<()>;

    /// Contrasts of rows, `out` (2m, h) of `w` (3m, h): row j is W_(3j+1) − W_3j, row m + j is W_(3j+2) − W_3j.
    fn contrasts(&self, h: usize, w: Slice, out: SliceMut) -> Result<()>;

    /// Contrasts of logits `x` (b, 2m) become classes 1 and 2 of softmax((logits + g)/temperature), m `snps` in a row;
    /// g as in [`OneHot::softmax`], of the very uniforms.
    fn softmax_contrasts(
        &self,
        temperature: f64,
        noise: Option<Draw>,
        snps: usize,
        x: SliceMut,
    ) -> Result<()>;

    /// Backward through it: `delta` (b, 3m) as in [`OneHot::softmax_backward`], but for `y` (b, 2m).
    fn softmax_contrasts_backward(
        &self,
        temperature: f64,
        y: Slice,
        snps: usize,
        delta: SliceMut,
    ) -> Result<()>;

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

    /// What lengths cost that are not 1 (Gulrajani et al. 2017, eq. 3): with n = √`squares` (b),
    /// `factors (b) = factor · (n − 1)/n`, `sums (2) = Σ (n − 1)², Σ n`.
    fn gradient_penalty(&self, factor: f64, squares: Slice, factors: SliceMut, sums: SliceMut) -> Result<()>;

    /// `out (b, k) = factors ∘ x` by rows, `factors` (b), `x` (b, k).
    fn scale_rows(&self, factors: Slice, x: Slice, accumulate: Accumulate, out: SliceMut) -> Result<()>;
}

pub(in crate::device) fn check_onehot(animals: &Animals, h: usize, w: &Slice, out: &SliceMut) -> Result<()> {
    let (name, m) = ("onehot_times", animals.z.columns());
    shapes::columns(name, CONTRASTS * m, animals.made.as_ref().map_or(0, Slice::len))?;
    check(name, "w", CLASSES * m * h, w.len())?;
    check(name, "out", animals.len() * h, out.len())
}

pub(in crate::device) fn check_onehot_transposed(
    animals: &Animals,
    dense: Option<&Slice>,
    h: usize,
    d: &Slice,
    out: &SliceMut,
) -> Result<()> {
    let (name, m) = ("onehot_transposed_times", animals.z.columns());
    shapes::columns(name, CONTRASTS * m, animals.made.as_ref().map_or(0, Slice::len))?;
    let width = CLASSES * m;
    let more = dense.map_or(0, Slice::len);
    shapes::columns(name, width, more)?;
    check(name, "d", (animals.len() + more.checked_div(width).unwrap_or(0)) * h, d.len())?;
    check(name, "out", width * h, out.len())
}

pub(in crate::device) fn check_softmax(width: usize, x: &SliceMut) -> Result<()> {
    shapes::columns("softmax", CLASSES, width)?;
    shapes::columns("softmax", width, x.len())
}

pub(in crate::device) fn check_softmax_backward(y: &Slice, delta: &SliceMut) -> Result<()> {
    shapes::columns("softmax_backward", CLASSES, y.len())?;
    check("softmax_backward", "delta", y.len(), delta.len())
}

pub(in crate::device) fn check_contrasts(h: usize, w: &Slice, out: &SliceMut) -> Result<()> {
    shapes::columns("contrasts", CLASSES * h, w.len())?;
    check("contrasts", "out", w.len() / CLASSES * CONTRASTS, out.len())
}

pub(in crate::device) fn check_softmax_contrasts(snps: usize, x: usize) -> Result<()> {
    shapes::columns("softmax_contrasts", CONTRASTS * snps, x)
}

pub(in crate::device) fn check_softmax_contrasts_backward(
    snps: usize,
    y: &Slice,
    delta: &SliceMut,
) -> Result<()> {
    check_softmax_contrasts(snps, y.len())?;
    check("softmax_contrasts_backward", "delta", y.len() / CONTRASTS * CLASSES, delta.len())
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

pub(in crate::device) fn check_gradient_penalty(
    squares: &Slice,
    factors: &SliceMut,
    sums: &SliceMut,
) -> Result<()> {
    check("gradient_penalty", "factors", squares.len(), factors.len())?;
    check("gradient_penalty", "sums", 2, sums.len())
}

pub(in crate::device) fn check_rows(operation: &str, rows: usize, x: usize) -> Result<()> {
    check(operation, "a matrix with so many rows", x.checked_div(rows).unwrap_or(0) * rows, x)
}
