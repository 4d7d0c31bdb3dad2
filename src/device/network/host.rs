//! Networks in this process's own memory: sizes are checked here, the arithmetic is that of [`Layers`].

use super::shapes::{self, named};
use super::{Accumulate, Activation, Adam, Classes, Clip, Draw, Loss, Network, Product, Rows};
use super::{Slice, SliceMut, Values};
use crate::device::host::{Arithmetic, Host, Memory};
use crate::device::Genotypes;
use crate::error::Result;
use crate::rng::Stream;
use std::marker::PhantomData;
use std::ops::Range;

/// A precision.
pub(in crate::device) trait Real: Copy + Send + Sync + 'static {
    /// Distance from 1 to the next number.
    const EPSILON: f64;
    /// Rounded.
    fn of(value: f64) -> Self;
    /// Without loss.
    fn get(self) -> f64;
}

impl Real for f64 {
    const EPSILON: f64 = f64::EPSILON;
    fn of(value: f64) -> Self {
        value
    }
    fn get(self) -> f64 {
        self
    }
}

impl Real for f32 {
    const EPSILON: f64 = f32::EPSILON as f64;
    fn of(value: f64) -> Self {
        value as f32
    }
    fn get(self) -> f64 {
        f64::from(self)
    }
}

/// The arithmetic of networks in the process's own memory, sizes checked before: plain loops with f64 between, the
/// oracle, unless a backend has something faster.
pub(in crate::device) trait Layers: Arithmetic {
    /// The precision of its [`Values`].
    type Real: Real;

    /// Z_ij.
    fn value(&self, i: usize, j: usize) -> f64;

    /// Number of SNPs.
    fn snps(&self) -> usize;

    /// As [`Network::gather_times`].
    fn gather_times(&self, rows: &[u32], w: &[Self::Real], h: usize, out: &mut [Self::Real]) {
        for (&i, out) in rows.iter().zip(out.chunks_exact_mut(h.max(1))) {
            for (c, out) in out.iter_mut().enumerate() {
                let terms = (0..self.snps()).map(|j| self.value(i as usize, j) * w[j * h + c].get());
                *out = Real::of(terms.sum());
            }
        }
    }

    /// As [`Network::gather_transposed_times`].
    fn gather_transposed_times(
        &self,
        rows: &[u32],
        d: &[Self::Real],
        h: usize,
        snps: Range<usize>,
        accumulate: Accumulate,
        out: &mut [Self::Real],
    ) {
        for (j, out) in snps.zip(out.chunks_exact_mut(h.max(1))) {
            for (c, out) in out.iter_mut().enumerate() {
                let terms = rows.iter().enumerate();
                let sum: f64 = terms.map(|(b, &i)| self.value(i as usize, j) * d[b * h + c].get()).sum();
                put(accumulate, sum, out);
            }
        }
    }

    /// As [`Network::product`].
    fn product(
        s: Product,
        a: &[Self::Real],
        b: &[Self::Real],
        accumulate: Accumulate,
        out: &mut [Self::Real],
    ) {
        for (at, out) in out.iter_mut().enumerate() {
            let (i, j) = (at / s.n, at % s.n);
            let of_a = |l: usize| a[if s.a_transposed { l * s.m + i } else { i * s.k + l }].get();
            let of_b = |l: usize| b[if s.b_transposed { j * s.k + l } else { l * s.n + j }].get();
            put(accumulate, (0..s.k).map(|l| of_a(l) * of_b(l)).sum(), out);
        }
    }

    /// As [`Network::blend`].
    fn blend(keep: f64, factor: f64, x: &[Self::Real], y: &mut [Self::Real]) {
        y.iter_mut().zip(x).for_each(|(y, x)| *y = Real::of(keep * y.get() + factor * x.get()));
    }

    /// As [`Network::add_row`].
    fn add_row(row: &[Self::Real], x: &mut [Self::Real]) {
        for x in x.chunks_exact_mut(row.len().max(1)) {
            Self::blend(1.0, 1.0, row, x);
        }
    }

    /// `out (h) = Σ term(row and column, column)` over the rows of a matrix of `length` entries.
    fn sum_columns(
        length: usize,
        accumulate: Accumulate,
        out: &mut [Self::Real],
        term: impl Fn(usize, usize) -> f64,
    ) {
        let h = out.len();
        for (c, out) in out.iter_mut().enumerate() {
            put(accumulate, (c..length).step_by(h).map(|at| term(at, c)).sum(), out);
        }
    }

    /// As [`Network::column_sums`].
    fn column_sums(x: &[Self::Real], accumulate: Accumulate, out: &mut [Self::Real]) {
        Self::sum_columns(x.len(), accumulate, out, |at, _| x[at].get());
    }

    /// As [`Network::column_squares`].
    fn column_squares(x: &[Self::Real], centre: &[Self::Real], out: &mut [Self::Real]) {
        Self::sum_columns(x.len(), Accumulate::Overwrite, out, |at, c| {
            (x[at].get() - centre[c].get()).powi(2)
        });
    }

    /// As [`Network::column_products`].
    fn column_products(x: &[Self::Real], y: &[Self::Real], accumulate: Accumulate, out: &mut [Self::Real]) {
        Self::sum_columns(x.len(), accumulate, out, |at, _| x[at].get() * y[at].get());
    }

    /// As [`Network::activate`].
    fn activate(activation: Activation, x: &[Self::Real], out: &mut [Self::Real]) {
        out.iter_mut().zip(x).for_each(|(out, x)| *out = Real::of(activation.at(x.get())));
    }

    /// As [`Network::activate_backward`].
    fn activate_backward(activation: Activation, x: &[Self::Real], delta: &mut [Self::Real]) {
        delta.iter_mut().zip(x).for_each(|(d, x)| *d = Real::of(d.get() * activation.slope(x.get())));
    }

    /// As [`Network::dropout`].
    fn dropout(rate: f64, draw: Draw, width: usize, x: &mut [Self::Real]) {
        let words = Words::of(draw, width);
        for (at, x) in x.iter_mut().enumerate() {
            let kept = words.uniform(words.number(at)) >= rate;
            *x = Real::of(if kept { x.get() / (1.0 - rate) } else { 0.0 });
        }
    }

    /// As [`Network::normalise_columns`].
    fn normalise_columns(mean: &[Self::Real], inverse_sd: &[Self::Real], x: &mut [Self::Real]) {
        for (at, x) in x.iter_mut().enumerate() {
            let c = at % mean.len();
            *x = Real::of((x.get() - mean[c].get()) * inverse_sd[c].get());
        }
    }

    /// As [`Network::normalise_columns_backward`]; `of_column` is scale, 1/sd, sums and products.
    fn normalise_columns_backward(
        normalised: &[Self::Real],
        of_column: [&[Self::Real]; 4],
        count: f64,
        delta: &mut [Self::Real],
    ) {
        for (at, (delta, x)) in delta.iter_mut().zip(normalised).enumerate() {
            let c = at % of_column[0].len();
            let [scale, inverse_sd, sum, product] = of_column.map(|v| v[c].get());
            let centred = delta.get() - sum / count - x.get() * product / count;
            *delta = Real::of(scale * inverse_sd * centred);
        }
    }

    /// As [`Network::scale_columns`].
    fn scale_columns(x: &[Self::Real], scale: &[Self::Real], shift: &[Self::Real], out: &mut [Self::Real]) {
        for (at, (out, x)) in out.iter_mut().zip(x).enumerate() {
            let c = at % scale.len();
            *out = Real::of(scale[c].get() * x.get() + shift[c].get());
        }
    }

    /// As [`Network::normalise_rows`].
    fn normalise_rows(epsilon: f64, x: &mut [Self::Real], inverse_sd: &mut [Self::Real]) {
        let h = x.len() / inverse_sd.len().max(1);
        for (x, inverse_sd) in x.chunks_exact_mut(h.max(1)).zip(inverse_sd) {
            let mean = x.iter().map(|x| x.get()).sum::<f64>() / h as f64;
            let variance = x.iter().map(|x| (x.get() - mean).powi(2)).sum::<f64>() / h as f64;
            let inverse = 1.0 / (variance + epsilon).sqrt();
            x.iter_mut().for_each(|x| *x = Real::of((x.get() - mean) * inverse));
            *inverse_sd = Real::of(inverse);
        }
    }

    /// As [`Network::normalise_rows_backward`].
    fn normalise_rows_backward(
        normalised: &[Self::Real],
        scale: &[Self::Real],
        inverse_sd: &[Self::Real],
        delta: &mut [Self::Real],
    ) {
        let h = scale.len();
        let rows = delta.chunks_exact_mut(h.max(1)).zip(normalised.chunks_exact(h.max(1)));
        for ((delta, x), inverse_sd) in rows.zip(inverse_sd) {
            let scaled = |d: &[Self::Real], c: usize| scale[c].get() * d[c].get();
            let mean = (0..h).map(|c| scaled(delta, c)).sum::<f64>() / h as f64;
            let along = (0..h).map(|c| scaled(delta, c) * x[c].get()).sum::<f64>() / h as f64;
            for c in 0..h {
                let centred = scaled(delta, c) - mean - x[c].get() * along;
                delta[c] = Real::of(inverse_sd.get() * centred);
            }
        }
    }

    /// As [`Network::loss`].
    fn loss(
        (loss, factor): (Loss, f64),
        predicted: &[Self::Real],
        observed: &[Self::Real],
        weights: Option<&[Self::Real]>,
        delta: &mut [Self::Real],
        sums: &mut [Self::Real],
    ) {
        let weight = |at: usize| factor * weights.map_or(1.0, |w| w[at].get());
        let distance = |at: usize| match observed[at].get() {
            record if record.is_nan() => 0.0,
            record => predicted[at].get() - record,
        };
        Self::sum_columns(predicted.len(), Accumulate::Overwrite, sums, |at, _| {
            weight(at) * loss.at(distance(at))
        });
        for (at, delta) in delta.iter_mut().enumerate() {
            *delta = Real::of(weight(at) * loss.slope(distance(at)));
        }
    }

    /// As [`Network::sum_of_squares`].
    fn sum_of_squares(x: &[Self::Real]) -> f64 {
        x.iter().map(|x| x.get().powi(2)).sum()
    }

    /// As [`Network::adam`], the gradient counting `scale` times.
    fn adam(
        adam: &Adam,
        scale: f64,
        gradient: &[Self::Real],
        parameters: &mut [Self::Real],
        first: &mut [Self::Real],
        second: &mut [Self::Real],
    ) {
        let (c1, c2) = adam.corrections();
        for (i, g) in gradient.iter().enumerate() {
            let w = parameters[i].get();
            let g = scale * g.get() + adam.l2 * w;
            let m = adam.beta1 * first[i].get() + (1.0 - adam.beta1) * g;
            let v = adam.beta2 * second[i].get() + (1.0 - adam.beta2) * g * g;
            let step = m / c1 / ((v / c2).sqrt() + adam.epsilon) + adam.weight_decay * w;
            (first[i], second[i]) = (Real::of(m), Real::of(v));
            parameters[i] = Real::of(w - adam.learning_rate * step);
        }
    }

    /// As [`Network::uniforms`].
    fn uniforms(draw: Draw, width: usize, out: &mut [Self::Real]) {
        let words = Words::of(draw, width);
        for (at, out) in out.iter_mut().enumerate() {
            *out = Real::of(words.uniform(words.number(at)));
        }
    }

    /// As [`Network::normals`].
    fn normals(draw: Draw, width: usize, out: &mut [Self::Real]) {
        let words = Words::of(draw, width);
        for (at, out) in out.iter_mut().enumerate() {
            let w = words.number(at);
            let (u, v) = (words.uniform(2 * w), words.uniform(2 * w + 1));
            *out = Real::of((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos());
        }
    }
}

/// By what a gradient is multiplied so that it is not too long.
fn scale<A: Layers>(clip: &Clip) -> Result<f64> {
    let squares = seen::<A>(&clip.squares)?.iter().map(|x| x.get()).sum::<f64>();
    let norm = squares.sqrt();
    Ok(if norm > clip.longest { clip.longest / norm } else { 1.0 })
}

/// Sets or adds.
pub(super) fn put<R: Real>(accumulate: Accumulate, value: f64, to: &mut R) {
    *to = match accumulate {
        Accumulate::Overwrite => R::of(value),
        Accumulate::Add => R::of(to.get() + value),
    };
}

/// The random words of a part of a matrix.
pub(in crate::device) struct Words {
    stream: Stream,
    draw: Draw,
    width: usize,
}

impl Words {
    /// Of a part of that many columns.
    pub(in crate::device) fn of(draw: Draw, width: usize) -> Self {
        Words { stream: Stream::new(draw.seed, draw.purpose, draw.index), draw, width }
    }

    /// The number of the part's entry `at`.
    pub(in crate::device) fn number(&self, at: usize) -> u64 {
        let (row, column) = ((at / self.width) as u64, (at % self.width) as u64);
        (self.draw.first_row + row) * self.draw.columns + self.draw.first_column + column
    }

    /// The uniform of word `w`.
    pub(in crate::device) fn uniform(&self, w: u64) -> f64 {
        let block = u32::try_from(w / 4).expect("a matrix has fewer than 2^34 entries");
        let word = self.stream.block(block)[(w % 4) as usize];
        (f64::from(word >> 9) + 0.5) / f64::from(1u32 << 23)
    }
}

fn memory<A: Layers>(values: Vec<A::Real>) -> Values {
    let length = values.len();
    Values::new(Memory::<A, A::Real>(values, PhantomData), length)
}

/// What a part holds.
pub(super) fn seen<'a, A: Layers>(slice: &Slice<'a>) -> Result<&'a [A::Real]> {
    Ok(&slice.values.memory::<Memory<A, A::Real>>()?.0[slice.range.clone()])
}

/// What a part holds, to change.
pub(super) fn changed<'a, A: Layers>(slice: SliceMut<'a>) -> Result<&'a mut [A::Real]> {
    Ok(&mut slice.values.memory_mut::<Memory<A, A::Real>>()?.0[slice.range])
}

pub(super) fn rows_of<A: Layers>(rows: &Rows) -> Result<&[u32]> {
    Ok(&rows.memory::<Memory<A, u32>>()?.0)
}

impl<A: Classes> Network for Host<A> {
    fn precision(&self) -> f64 {
        A::Real::EPSILON
    }

    fn values(&self, length: usize) -> Result<Values> {
        Ok(memory::<A>(vec![A::Real::of(A::FRESH); length]))
    }

    fn write(&self, from: &[f64], to: SliceMut) -> Result<()> {
        shapes::transfer("write", from.len(), to.len())?;
        changed::<A>(to)?.iter_mut().zip(from).for_each(|(to, &from)| *to = Real::of(from));
        Ok(())
    }

    fn read(&self, from: Slice, to: &mut [f64]) -> Result<()> {
        shapes::transfer("read", to.len(), from.len())?;
        to.iter_mut().zip(seen::<A>(&from)?).for_each(|(to, from)| *to = from.get());
        Ok(())
    }

    fn write_singles(&self, from: &[f32], to: SliceMut) -> Result<()> {
        shapes::transfer("write_singles", from.len(), to.len())?;
        changed::<A>(to)?.iter_mut().zip(from).for_each(|(to, &from)| *to = Real::of(f64::from(from)));
        Ok(())
    }

    fn read_singles(&self, from: Slice, to: &mut [f32]) -> Result<()> {
        shapes::transfer("read_singles", to.len(), from.len())?;
        to.iter_mut().zip(seen::<A>(&from)?).for_each(|(to, from)| *to = from.get() as f32);
        Ok(())
    }

    fn rows(&self, rows: &[u32]) -> Result<Rows> {
        Ok(Rows::new(Memory::<A, u32>(rows.to_vec(), PhantomData), rows.len()))
    }

    fn fill(&self, value: f64, to: SliceMut) -> Result<()> {
        changed::<A>(to)?.fill(Real::of(value));
        Ok(())
    }

    fn copy(&self, from: Slice, to: SliceMut) -> Result<()> {
        shapes::same("copy", &from, &to)?;
        changed::<A>(to)?.copy_from_slice(seen::<A>(&from)?);
        Ok(())
    }

    fn blend(&self, keep: f64, factor: f64, x: Slice, y: SliceMut) -> Result<()> {
        shapes::same("blend", &x, &y)?;
        A::blend(keep, factor, seen::<A>(&x)?, changed::<A>(y)?);
        Ok(())
    }

    fn gather_times(&self, z: &Genotypes, rows: &Rows, w: Slice, h: usize, out: SliceMut) -> Result<()> {
        shapes::gather(z, rows, h, &w, &out)?;
        let named = named(z, rows_of::<A>(rows)?)?;
        z.memory::<A>()?.gather_times(named, seen::<A>(&w)?, h, changed::<A>(out)?);
        Ok(())
    }

    fn gather_transposed_times(
        &self,
        z: &Genotypes,
        rows: &Rows,
        d: Slice,
        h: usize,
        snps: Range<usize>,
        accumulate: Accumulate,
        out: SliceMut,
    ) -> Result<()> {
        shapes::gather_transposed(z, rows, h, &snps, &d, &out)?;
        let named = named(z, rows_of::<A>(rows)?)?;
        z.memory::<A>()?.gather_transposed_times(
            named,
            seen::<A>(&d)?,
            h,
            snps,
            accumulate,
            changed::<A>(out)?,
        );
        Ok(())
    }

    fn product(
        &self,
        shape: Product,
        a: Slice,
        b: Slice,
        accumulate: Accumulate,
        out: SliceMut,
    ) -> Result<()> {
        shapes::product(shape, &a, &b, &out)?;
        A::product(shape, seen::<A>(&a)?, seen::<A>(&b)?, accumulate, changed::<A>(out)?);
        Ok(())
    }

    fn add_row(&self, row: Slice, x: SliceMut) -> Result<()> {
        shapes::columns("add_row", row.len(), x.len())?;
        A::add_row(seen::<A>(&row)?, changed::<A>(x)?);
        Ok(())
    }

    fn column_sums(&self, x: Slice, accumulate: Accumulate, out: SliceMut) -> Result<()> {
        shapes::columns("column_sums", out.len(), x.len())?;
        A::column_sums(seen::<A>(&x)?, accumulate, changed::<A>(out)?);
        Ok(())
    }

    fn column_squares(&self, x: Slice, centre: Slice, out: SliceMut) -> Result<()> {
        shapes::column_squares(&x, &centre, &out)?;
        A::column_squares(seen::<A>(&x)?, seen::<A>(&centre)?, changed::<A>(out)?);
        Ok(())
    }

    fn column_products(&self, x: Slice, y: Slice, accumulate: Accumulate, out: SliceMut) -> Result<()> {
        shapes::column_products(&x, &y, &out)?;
        A::column_products(seen::<A>(&x)?, seen::<A>(&y)?, accumulate, changed::<A>(out)?);
        Ok(())
    }

    fn activate(&self, activation: Activation, x: Slice, out: SliceMut) -> Result<()> {
        shapes::same("activate", &x, &out)?;
        A::activate(activation, seen::<A>(&x)?, changed::<A>(out)?);
        Ok(())
    }

    fn activate_backward(&self, activation: Activation, x: Slice, delta: SliceMut) -> Result<()> {
        shapes::same("activate_backward", &x, &delta)?;
        A::activate_backward(activation, seen::<A>(&x)?, changed::<A>(delta)?);
        Ok(())
    }

    fn dropout(&self, rate: f64, draw: Draw, width: usize, x: SliceMut) -> Result<()> {
        shapes::columns("dropout", width, x.len())?;
        A::dropout(rate, draw, width, changed::<A>(x)?);
        Ok(())
    }

    fn divide(&self, count: f64, x: SliceMut) -> Result<()> {
        changed::<A>(x)?.iter_mut().for_each(|x| *x = Real::of(x.get() / count));
        Ok(())
    }

    fn inverse_sd(&self, count: f64, epsilon: f64, x: SliceMut) -> Result<()> {
        changed::<A>(x)?.iter_mut().for_each(|x| *x = Real::of(1.0 / (x.get() / count + epsilon).sqrt()));
        Ok(())
    }

    fn normalise_columns(&self, mean: Slice, inverse_sd: Slice, x: SliceMut) -> Result<()> {
        shapes::normalise_columns(&mean, &inverse_sd, &x)?;
        A::normalise_columns(seen::<A>(&mean)?, seen::<A>(&inverse_sd)?, changed::<A>(x)?);
        Ok(())
    }

    fn normalise_columns_backward(
        &self,
        normalised: Slice,
        scale: Slice,
        inverse_sd: Slice,
        sums: Slice,
        products: Slice,
        count: f64,
        delta: SliceMut,
    ) -> Result<()> {
        shapes::columns_backward(&normalised, [&scale, &inverse_sd, &sums, &products], &delta)?;
        let of_column =
            [seen::<A>(&scale)?, seen::<A>(&inverse_sd)?, seen::<A>(&sums)?, seen::<A>(&products)?];
        A::normalise_columns_backward(seen::<A>(&normalised)?, of_column, count, changed::<A>(delta)?);
        Ok(())
    }

    fn scale_columns(&self, x: Slice, scale: Slice, shift: Slice, out: SliceMut) -> Result<()> {
        shapes::scale_columns(&x, &scale, &shift, &out)?;
        A::scale_columns(seen::<A>(&x)?, seen::<A>(&scale)?, seen::<A>(&shift)?, changed::<A>(out)?);
        Ok(())
    }

    fn normalise_rows(&self, epsilon: f64, x: SliceMut, inverse_sd: SliceMut) -> Result<()> {
        shapes::columns("normalise_rows", inverse_sd.len(), x.len())?;
        A::normalise_rows(epsilon, changed::<A>(x)?, changed::<A>(inverse_sd)?);
        Ok(())
    }

    fn normalise_rows_backward(
        &self,
        normalised: Slice,
        scale: Slice,
        inverse_sd: Slice,
        delta: SliceMut,
    ) -> Result<()> {
        shapes::rows_backward(&normalised, &scale, &inverse_sd, &delta)?;
        let (scale, inverse_sd) = (seen::<A>(&scale)?, seen::<A>(&inverse_sd)?);
        A::normalise_rows_backward(seen::<A>(&normalised)?, scale, inverse_sd, changed::<A>(delta)?);
        Ok(())
    }

    fn loss(
        &self,
        loss: Loss,
        factor: f64,
        predicted: Slice,
        observed: Slice,
        weights: Option<Slice>,
        delta: SliceMut,
        sums: SliceMut,
    ) -> Result<()> {
        let weights = weights.as_ref();
        shapes::loss([&predicted, &observed], weights, &delta, &sums)?;
        let weights = weights.map(seen::<A>).transpose()?;
        let (predicted, observed) = (seen::<A>(&predicted)?, seen::<A>(&observed)?);
        A::loss((loss, factor), predicted, observed, weights, changed::<A>(delta)?, changed::<A>(sums)?);
        Ok(())
    }

    fn sum_of_squares(&self, x: Slice, out: SliceMut) -> Result<()> {
        shapes::single("sum_of_squares", &out)?;
        changed::<A>(out)?[0] = Real::of(A::sum_of_squares(seen::<A>(&x)?));
        Ok(())
    }

    fn adam(
        &self,
        adam: &Adam,
        clip: Option<Clip>,
        gradient: Slice,
        parameters: SliceMut,
        first: SliceMut,
        second: SliceMut,
    ) -> Result<()> {
        shapes::adam(&gradient, [&parameters, &first, &second])?;
        let scale = clip.map_or(Ok(1.0), |clip| scale::<A>(&clip))?;
        let moments = (changed::<A>(first)?, changed::<A>(second)?);
        A::adam(adam, scale, seen::<A>(&gradient)?, changed::<A>(parameters)?, moments.0, moments.1);
        Ok(())
    }

    fn uniforms(&self, draw: Draw, width: usize, out: SliceMut) -> Result<()> {
        shapes::columns("uniforms", width, out.len())?;
        A::uniforms(draw, width, changed::<A>(out)?);
        Ok(())
    }

    fn normals(&self, draw: Draw, width: usize, out: SliceMut) -> Result<()> {
        shapes::columns("normals", width, out.len())?;
        A::normals(draw, width, changed::<A>(out)?);
        Ok(())
    }
}
