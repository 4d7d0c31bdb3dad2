//! What a backend does for networks: layers forward and backward, losses, optimizer, random numbers.
//!
//! Numbers lie in [`Values`], in the backend's own memory and precision: f64 with the reference and strict
//! backends, on which gradients are proven by finite differences; f32 with the others. Matrices are row-major
//! parts of such buffers, one animal of the batch a row. Operations write what they return and read nothing of
//! it, unless they say so.
//!
//! | operations | of |
//! |---|---|
//! | `gather_times`, `gather_transposed_times` | the SNP-snp_layer layer, on packed genotypes |
//! | `product`, `add_row`, `column_sums` | dense layers |
//! | `activate`, `dropout`, `normalise_*` | what stands between them |
//! | `loss`, `sum_of_squares`, `adam` | training |
//! | `uniforms`, `normals` | noise |
//! | those of [`OneHot`] | generators |

mod gpus;
mod host;
mod onehot;
pub(super) mod shapes;
#[cfg(test)]
mod tests;

pub use gpus::{Gpus, Ring, RingName, Staging};
pub(super) use host::Layers;
pub(super) use onehot::{
    check_contrasts, check_cross_entropy, check_gradient_penalty, check_onehot, check_onehot_transposed,
    check_rows, check_softmax,
};
pub(super) use onehot::{check_softmax_backward, check_softmax_contrasts, check_softmax_contrasts_backward};
pub use onehot::{Animals, OneHot, Smooth, CLASSES, CONTRASTS};
pub(super) use onehot::{Classes, Given};

use super::{Backend, Buffer, Genotypes};
use crate::error::Result;
use crate::rng::Purpose;
use std::ops::Range;

/// What [`Values`] are made of: f64 or f32, as the backend has it.
pub enum Value {}

/// Numbers of a network in a backend's memory and precision.
pub type Values = Buffer<Value>;

/// Rows of a matrix in a backend's memory, such as the animals of a batch.
pub type Rows = Buffer<u32>;

/// A part of a buffer to read.
#[derive(Clone)]
pub struct Slice<'a> {
    pub(super) values: &'a Values,
    pub(super) range: Range<usize>,
}

/// A part of a buffer to write.
pub struct SliceMut<'a> {
    pub(super) values: &'a mut Values,
    pub(super) range: Range<usize>,
}

impl Values {
    /// All of it, to read.
    pub fn whole(&self) -> Slice<'_> {
        self.part(0..self.len())
    }

    /// All of it, to write.
    pub fn whole_mut(&mut self) -> SliceMut<'_> {
        self.part_mut(0..self.len())
    }

    /// A part, to read. Panics past the end, as a slice does.
    pub fn part(&self, range: Range<usize>) -> Slice<'_> {
        assert!(range.start <= range.end && range.end <= self.len(), "{range:?} of {}", self.len());
        Slice { values: self, range }
    }

    /// A part, to write. Panics past the end, as a slice does.
    pub fn part_mut(&mut self, range: Range<usize>) -> SliceMut<'_> {
        assert!(range.start <= range.end && range.end <= self.len(), "{range:?} of {}", self.len());
        SliceMut { values: self, range }
    }
}

impl Slice<'_> {
    /// How many numbers.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }
}

impl SliceMut<'_> {
    /// How many numbers.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }
}

/// Whether a result takes the place of what stands there or is added to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accumulate {
    /// Takes its place; what stood there is not read.
    Overwrite,
    /// Is added.
    Add,
}

/// C (m, n) = op(A) op(B) with inner size k; `a` and `b` tell whether A is stored transposed (k, m) and B (n, k).
#[derive(Debug, Clone, Copy)]
pub struct Product {
    /// Rows of C.
    pub m: usize,
    /// Columns of C.
    pub n: usize,
    /// Inner size.
    pub k: usize,
    /// Whether A is stored as (k, m).
    pub a_transposed: bool,
    /// Whether B is stored as (n, k).
    pub b_transposed: bool,
}

/// What a layer does to each of its sums.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x where positive, `slope`·x elsewhere; ReLU with slope 0.
    LeakyRelu(f64),
    /// x Φ(x) by its approximation with tanh (Hendrycks & Gimpel 2016).
    Gelu,
}

/// What a prediction costs, d being its distance from the record.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// d²/2.
    Squared,
    /// d²/2 up to |d| = δ, δ(|d| − δ/2) beyond (Huber 1964).
    Huber(f64),
}

/// One step of Adam (Kingma & Ba 2015) with L2 penalty or decoupled decay (Loshchilov & Hutter 2019).
#[derive(Debug, Clone, Copy)]
pub struct Adam {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Times the parameter, added to the gradient: the gradient of ½·l2·w².
    pub l2: f64,
    /// Decoupled decay: the parameter shrinks by rate·decay of itself.
    pub weight_decay: f64,
    /// Number of this step, from 1.
    pub step: u64,
}

/// Where a gradient is to be made shorter before a step of the optimizer (Pascanu et al. 2013).
#[derive(Clone)]
pub struct Clip<'a> {
    /// The most that its length may be.
    pub longest: f64,
    /// Sums of squares of its parts.
    pub squares: Slice<'a>,
}

impl Adam {
    /// 1 − β₁ᵗ and 1 − β₂ᵗ.
    pub fn corrections(&self) -> (f64, f64) {
        let power = |beta: f64| 1.0 - beta.powf(self.step as f64);
        (power(self.beta1), power(self.beta2))
    }
}

/// Random numbers for a part of a matrix: the same for an entry however the matrix is shared out.
///
/// Entry (r, c) of the part is number `w = (first_row + r)·columns + first_column + c` of the stream
/// (seed, purpose, index) of [`crate::rng`]. Uniforms take its 32-bit word w, normals the words 2w and 2w + 1.
#[derive(Debug, Clone, Copy)]
pub struct Draw {
    /// The user's seed.
    pub seed: u64,
    /// What the numbers are for.
    pub purpose: Purpose,
    /// Which matrix: step and layer.
    pub index: u64,
    /// Row of the whole matrix at which the part begins.
    pub first_row: u64,
    /// Column of the whole matrix at which the part begins.
    pub first_column: u64,
    /// Columns of the whole matrix.
    pub columns: u64,
}

/// What networks need of a backend. Sizes are checked, and a wrong one is an error, not a panic.
///
/// A shape `(b, h)` names the rows of the batch and the columns of a layer. One backend gives the same bits for
/// any number of threads.
pub trait Network: Backend + OneHot {
    /// Distance from 1 to the next number that it can hold.
    fn precision(&self) -> f64;

    /// How it reaches the GPUs of other ranks; nothing where its memory is the host's.
    fn gpus(&self) -> Option<&dyn Gpus> {
        None
    }

    /// A fresh buffer whose content is undefined.
    fn values(&self, length: usize) -> Result<Values>;

    /// Copies numbers there, rounded to the backend's precision; lengths must agree.
    fn write(&self, from: &[f64], to: SliceMut) -> Result<()>;

    /// Copies numbers back; lengths must agree.
    fn read(&self, from: Slice, to: &mut [f64]) -> Result<()>;

    /// As [`Network::write`], without loss where the backend holds f32.
    fn write_singles(&self, from: &[f32], to: SliceMut) -> Result<()>;

    /// As [`Network::read`], rounded where the backend holds f64.
    fn read_singles(&self, from: Slice, to: &mut [f32]) -> Result<()>;

    /// Copies row numbers to the backend's memory.
    fn rows(&self, rows: &[u32]) -> Result<Rows>;

    /// Fills with one value.
    fn fill(&self, value: f64, to: SliceMut) -> Result<()>;

    /// Copies.
    fn copy(&self, from: Slice, to: SliceMut) -> Result<()>;

    /// `y = keep · y + factor · x`.
    fn blend(&self, keep: f64, factor: f64, x: Slice, y: SliceMut) -> Result<()>;

    /// `y += factor · x`.
    fn add_scaled(&self, factor: f64, x: Slice, y: SliceMut) -> Result<()> {
        self.blend(1.0, factor, x, y)
    }

    /// `out (b, h) = Z[rows] W`, the rows of Z that `rows` (b) names times `w` (m, h).
    fn gather_times(&self, z: &Genotypes, rows: &Rows, w: Slice, h: usize, out: SliceMut) -> Result<()>;

    /// `out (snps, h) = Z[rows, snps]' D` with `d` (b, h), for a run of SNPs that begins with a whole [`CHUNK`](super::CHUNK). A
    /// SNP's numbers do not depend on the run that it is in.
    #[allow(clippy::too_many_arguments)] // they are the terms of one formula
    fn gather_transposed_times(
        &self,
        z: &Genotypes,
        rows: &Rows,
        d: Slice,
        h: usize,
        snps: Range<usize>,
        accumulate: Accumulate,
        out: SliceMut,
    ) -> Result<()>;

    /// `out (m, n) = op(A) op(B)`.
    fn product(
        &self,
        shape: Product,
        a: Slice,
        b: Slice,
        accumulate: Accumulate,
        out: SliceMut,
    ) -> Result<()>;

    /// `x (b, h)`: `row` (h) is added to each of its rows.
    fn add_row(&self, row: Slice, x: SliceMut) -> Result<()>;

    /// `out (h)`: sums over the rows of `x` (b, h).
    fn column_sums(&self, x: Slice, accumulate: Accumulate, out: SliceMut) -> Result<()>;

    /// `out (h)`: sums over the rows of (x − centre)², `x` (b, h), `centre` (h).
    fn column_squares(&self, x: Slice, centre: Slice, out: SliceMut) -> Result<()>;

    /// `out (h)`: sums over the rows of x∘y, both (b, h).
    fn column_products(&self, x: Slice, y: Slice, accumulate: Accumulate, out: SliceMut) -> Result<()>;

    /// `out = φ(x)`.
    fn activate(&self, activation: Activation, x: Slice, out: SliceMut) -> Result<()>;

    /// `delta = delta ∘ φ'(x)`, `x` as it was given to [`Network::activate`].
    fn activate_backward(&self, activation: Activation, x: Slice, delta: SliceMut) -> Result<()>;

    /// `x (b, columns of the part) = x ∘ mask/(1 − rate)`: entries whose uniform is below `rate` become 0.
    /// Deltas go backward through the same call. `width` is the number of columns of x.
    fn dropout(&self, rate: f64, draw: Draw, width: usize, x: SliceMut) -> Result<()>;

    /// `x = x / count`: means of what are sums over `count` rows.
    fn divide(&self, count: f64, x: SliceMut) -> Result<()>;

    /// `x = 1/√(x / count + epsilon)`: 1/sd of what are sums of `count` squares.
    fn inverse_sd(&self, count: f64, epsilon: f64, x: SliceMut) -> Result<()>;

    /// `x = (x − mean)/sd` by columns, `x` (b, h), `mean` and `inverse_sd` (h): batch normalisation without its
    /// scale and shift (Ioffe & Szegedy 2015).
    fn normalise_columns(&self, mean: Slice, inverse_sd: Slice, x: SliceMut) -> Result<()>;

    /// Backward through batch normalisation with scale γ: with x̂ `normalised` (b, h),
    /// `delta = γ/sd ∘ (delta − sums/count − x̂ ∘ products/count)`, where `sums` = Σ delta and `products` =
    /// Σ delta∘x̂ over all `count` rows of the whole batch, each (h).
    #[allow(clippy::too_many_arguments)] // they are the terms of one formula
    fn normalise_columns_backward(
        &self,
        normalised: Slice,
        scale: Slice,
        inverse_sd: Slice,
        sums: Slice,
        products: Slice,
        count: f64,
        delta: SliceMut,
    ) -> Result<()>;

    /// `out = scale ∘ x + shift` by columns, `x` (b, h), `scale` and `shift` (h).
    fn scale_columns(&self, x: Slice, scale: Slice, shift: Slice, out: SliceMut) -> Result<()>;

    /// `x = (x − mean)/sd` by rows, `x` (b, h): layer normalisation without its scale and shift (Ba et al. 2016);
    /// sd² is the variance of the row + `epsilon`; `inverse_sd` (b).
    fn normalise_rows(&self, epsilon: f64, x: SliceMut, inverse_sd: SliceMut) -> Result<()>;

    /// Backward through layer normalisation with scale γ: with x̂ `normalised` (b, h) and d = γ∘delta,
    /// `delta = 1/sd ∘ (d − mean(d) − x̂ mean(d∘x̂))`, means over each row.
    fn normalise_rows_backward(
        &self,
        normalised: Slice,
        scale: Slice,
        inverse_sd: Slice,
        delta: SliceMut,
    ) -> Result<()>;

    /// What predictions cost, with records NaN where missing. All are (b, t) but `sums` (t).
    /// `delta = factor · weight · φ'(predicted − observed)`, `sums = Σ factor · weight · φ` over the rows.
    #[allow(clippy::too_many_arguments)] // they are the terms of one formula
    fn loss(
        &self,
        loss: Loss,
        factor: f64,
        predicted: Slice,
        observed: Slice,
        weights: Option<Slice>,
        delta: SliceMut,
        sums: SliceMut,
    ) -> Result<()>;

    /// `out (1) = Σ x²`, summed in f64.
    fn sum_of_squares(&self, x: Slice, out: SliceMut) -> Result<()>;

    /// One step of the optimizer on `parameters` with moments `first` and `second`, all of one length. With `clip`, the
    /// gradient counts `longest`/√(Σ squares) times where that is below 1.
    fn adam(
        &self,
        adam: &Adam,
        clip: Option<Clip>,
        gradient: Slice,
        parameters: SliceMut,
        first: SliceMut,
        second: SliceMut,
    ) -> Result<()>;

    /// Fills with uniform numbers in (0, 1): the word's upper 23 bits and a half, times 2⁻²³. `width` is the
    /// number of columns of the part.
    fn uniforms(&self, draw: Draw, width: usize, out: SliceMut) -> Result<()>;

    /// Fills with standard normal deviates √(−2 ln u₁) cos(2π u₂) of such uniforms (Box & Muller 1958).
    fn normals(&self, draw: Draw, width: usize, out: SliceMut) -> Result<()>;
}

impl Activation {
    /// φ(x).
    pub fn at(self, x: f64) -> f64 {
        match self {
            Activation::LeakyRelu(slope) => x * if x > 0.0 { 1.0 } else { slope },
            Activation::Gelu => 0.5 * x * (1.0 + gelu_inner(x).tanh()),
        }
    }

    /// φ'(x).
    pub fn slope(self, x: f64) -> f64 {
        match self {
            Activation::LeakyRelu(slope) => {
                if x > 0.0 {
                    1.0
                } else {
                    slope
                }
            }
            Activation::Gelu => {
                let t = gelu_inner(x).tanh();
                0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * GELU_ROOT * (1.0 + 3.0 * GELU_CUBE * x * x)
            }
        }
    }
}

/// √(2/π).
pub(super) const GELU_ROOT: f64 = 0.797_884_560_802_865_4;
/// The weight of the cube.
pub(super) const GELU_CUBE: f64 = 0.044_715;

fn gelu_inner(x: f64) -> f64 {
    GELU_ROOT * (x + GELU_CUBE * x * x * x)
}

impl Loss {
    /// φ(d).
    pub fn at(self, d: f64) -> f64 {
        match self {
            Loss::Huber(delta) if d.abs() > delta => delta * (d.abs() - delta / 2.0),
            _ => d * d / 2.0,
        }
    }

    /// φ'(d).
    pub fn slope(self, d: f64) -> f64 {
        match self {
            Loss::Huber(delta) => d.clamp(-delta, delta),
            Loss::Squared => d,
        }
    }
}
