//! One-hot genotypes in this process's own memory: sizes are checked here, the arithmetic is that of [`Classes`].

use super::{check_contrasts, check_cross_entropy, check_gradient_penalty};
use super::{check_onehot, check_onehot_transposed, check_rows};
use super::{
    check_softmax, check_softmax_backward, check_softmax_contrasts, check_softmax_contrasts_backward,
};
use super::{Animals, OneHot, Smooth, CLASSES, CONTRASTS};
use crate::device::check;
use crate::device::host::Host;
use crate::device::network::host::{changed, put, rows_of, seen, Layers, Real, Words};
use crate::device::network::shapes::named;
use crate::device::network::{Accumulate, Draw, Rows, Slice, SliceMut};
use crate::device::Genotypes;
use crate::error::Result;

/// Rows of classes, as [`Animals`].
pub(in crate::device) struct Given<'a, R> {
    pub rows: &'a [u32],
    pub smooth: Option<&'a Smooth>,
    pub made: &'a [R],
}

/// The arithmetic of one-hot genotypes: plain loops with f64 between, the oracle, unless a backend has something
/// faster.
pub(in crate::device) trait Classes: Layers {
    /// The call of animal i at SNP j.
    fn call(&self, i: usize, j: usize) -> u8;

    /// X_(r, 3j + c) for the animal i that is row r of the batch.
    fn class(&self, smooth: Option<(&Words, f64)>, (r, i): (usize, u32), at: usize) -> f64 {
        let (j, c) = (at / CLASSES, at % CLASSES);
        let call = usize::from(self.call(i as usize, j));
        if call >= CLASSES {
            return 0.0;
        }
        let noise = |c: usize| {
            let width = CLASSES * self.snps();
            smooth.map_or(0.0, |(words, a)| a * words.uniform(words.number(r * width + CLASSES * j + c)))
        };
        if c == call {
            1.0 - (0..CLASSES).filter(|&c| c != call).map(noise).sum::<f64>()
        } else {
            noise(c)
        }
    }

    /// Column `at` of all rows.
    fn column(&self, animals: &Given<Self::Real>, words: Option<&(Words, f64)>, at: usize) -> Vec<f64> {
        let smooth = words.map(|(words, amount)| (words, *amount));
        let real = animals.rows.iter().enumerate().map(|(r, &i)| self.class(smooth, (r, i), at));
        let made = animals.made.chunks_exact(CONTRASTS * self.snps()).map(|y| {
            let two = [y[at / CLASSES], y[self.snps() + at / CLASSES]].map(Real::get);
            [1.0 - two[0] - two[1], two[0], two[1]][at % CLASSES]
        });
        real.chain(made).collect()
    }

    /// As [`OneHot::onehot_times`].
    fn onehot_times(&self, animals: &Given<Self::Real>, w: &[Self::Real], h: usize, out: &mut [Self::Real]) {
        let words = self.words(animals.smooth);
        let columns = 0..CLASSES * self.snps();
        let x: Vec<Vec<f64>> = columns.map(|at| self.column(animals, words.as_ref(), at)).collect();
        for (r, out) in out.chunks_exact_mut(h.max(1)).enumerate() {
            for (c, out) in out.iter_mut().enumerate() {
                *out = Real::of(x.iter().enumerate().map(|(at, x)| x[r] * w[at * h + c].get()).sum());
            }
        }
    }

    /// As [`OneHot::onehot_transposed_times`].
    fn onehot_transposed_times(
        &self,
        animals: &Given<Self::Real>,
        dense: &[Self::Real],
        d: &[Self::Real],
        h: usize,
        accumulate: Accumulate,
        out: &mut [Self::Real],
    ) {
        let (words, width) = (self.words(animals.smooth), CLASSES * self.snps());
        for (at, out) in out.chunks_exact_mut(h.max(1)).enumerate() {
            let mut x = self.column(animals, words.as_ref(), at);
            x.extend(dense.iter().skip(at).step_by(width).map(|x| x.get()));
            for (c, out) in out.iter_mut().enumerate() {
                put(accumulate, x.iter().enumerate().map(|(r, x)| x * d[r * h + c].get()).sum(), out);
            }
        }
    }

    /// The uniforms of the noise, and its amount.
    fn words(&self, smooth: Option<&Smooth>) -> Option<(Words, f64)> {
        smooth.map(|s| (Words::of(s.draw, CLASSES * self.snps()), s.amount))
    }

    /// As [`OneHot::softmax`].
    fn softmax(temperature: f64, noise: Option<Draw>, width: usize, x: &mut [Self::Real]) {
        let words = noise.map(|draw| Words::of(draw, width));
        for (j, x) in x.as_chunks_mut::<CLASSES>().0.iter_mut().enumerate() {
            let gumbel = |c: usize| {
                let u = words.as_ref().map(|w| w.uniform(w.number(CLASSES * j + c)));
                u.map_or(0.0, |u| -(-u.ln()).ln())
            };
            let scaled = std::array::from_fn(|c| (x[c].get() + gumbel(c)) / temperature);
            *x = shares(scaled).map(Real::of);
        }
    }

    /// As [`OneHot::softmax_backward`].
    fn softmax_backward(temperature: f64, y: &[Self::Real], delta: &mut [Self::Real]) {
        for (delta, y) in delta.as_chunks_mut::<CLASSES>().0.iter_mut().zip(y.as_chunks::<CLASSES>().0) {
            let along: f64 = (0..CLASSES).map(|c| y[c].get() * delta[c].get()).sum();
            *delta = std::array::from_fn(|c| Real::of(y[c].get() * (delta[c].get() - along) / temperature));
        }
    }

    /// As [`OneHot::contrasts`].
    fn contrasts(h: usize, w: &[Self::Real], out: &mut [Self::Real]) {
        let (second, third) = out.split_at_mut(out.len() / CONTRASTS);
        for (at, (second, third)) in second.iter_mut().zip(third).enumerate() {
            let of = |c: usize| w[(at / h * CLASSES + c) * h + at % h].get();
            (*second, *third) = (Real::of(of(1) - of(0)), Real::of(of(2) - of(0)));
        }
    }

    /// As [`OneHot::softmax_contrasts`].
    fn softmax_contrasts(temperature: f64, noise: Option<Draw>, snps: usize, x: &mut [Self::Real]) {
        for (r, x) in x.chunks_exact_mut((CONTRASTS * snps).max(1)).enumerate() {
            let draw = noise.map(|draw| Draw { first_row: draw.first_row + r as u64, ..draw });
            let (second, third) = x.split_at_mut(snps);
            let logits = second.iter().zip(&*third).flat_map(|(&a, &b)| [Real::of(0.0), a, b]);
            let mut logits: Vec<Self::Real> = logits.collect();
            Self::softmax(temperature, draw, CLASSES * snps, &mut logits);
            let classes = logits.as_chunks::<CLASSES>().0.iter();
            classes.zip(second.iter_mut().zip(third)).for_each(|(y, (a, b))| (*a, *b) = (y[1], y[2]));
        }
    }

    /// As [`OneHot::softmax_contrasts_backward`].
    fn softmax_contrasts_backward(temperature: f64, y: &[Self::Real], snps: usize, delta: &mut [Self::Real]) {
        let rows = delta.chunks_exact_mut((CLASSES * snps).max(1));
        for (delta, y) in rows.zip(y.chunks_exact((CONTRASTS * snps).max(1))) {
            let classes = |j: usize| {
                let two = [y[j], y[snps + j]];
                [Real::of(1.0 - two[0].get() - two[1].get()), two[0], two[1]]
            };
            let y: Vec<Self::Real> = (0..snps).flat_map(classes).collect();
            Self::softmax_backward(temperature, &y, delta);
        }
    }

    /// As [`OneHot::cross_entropy`].
    fn cross_entropy(
        &self,
        rows: &[u32],
        factor: f64,
        logits: &[Self::Real],
        costs: &mut [Self::Real],
        delta: &mut [Self::Real],
    ) {
        let (logits, delta) = (logits.as_chunks::<CLASSES>().0, delta.as_chunks_mut::<CLASSES>().0);
        let m = self.snps();
        for (r, (&i, cost)) in rows.iter().zip(costs).enumerate() {
            let mut sum = 0.0;
            for j in 0..m {
                let (call, x) = (usize::from(self.call(i as usize, j)), logits[r * m + j].map(Real::get));
                let (p, known) = (shares(x), call < CLASSES);
                sum -= if known { log_share(x, call) } else { 0.0 };
                let slope = |c: usize| if known { p[c] - f64::from(u8::from(c == call)) } else { 0.0 };
                delta[r * m + j] = std::array::from_fn(|c| Real::of(factor * slope(c)));
            }
            *cost = Real::of(factor * sum);
        }
    }

    /// As [`OneHot::row_squares`].
    fn row_squares(x: &[Self::Real], out: &mut [Self::Real]) {
        let k = x.len().checked_div(out.len()).unwrap_or(0);
        for (r, out) in out.iter_mut().enumerate() {
            *out = Real::of(x[r * k..(r + 1) * k].iter().map(|x| x.get().powi(2)).sum());
        }
    }

    /// As [`OneHot::gradient_penalty`].
    fn gradient_penalty(
        factor: f64,
        squares: &[Self::Real],
        factors: &mut [Self::Real],
        sums: &mut [Self::Real],
    ) {
        let mut totals = [0.0; 2];
        for (square, out) in squares.iter().zip(factors) {
            let norm = square.get().sqrt();
            *out = Real::of(factor * (norm - 1.0) / norm.max(f64::from(f32::MIN_POSITIVE)));
            totals[0] += (norm - 1.0).powi(2);
            totals[1] += norm;
        }
        sums.iter_mut().zip(totals).for_each(|(sum, total)| *sum = Real::of(total));
    }

    /// As [`OneHot::scale_rows`].
    fn scale_rows(factors: &[Self::Real], x: &[Self::Real], accumulate: Accumulate, out: &mut [Self::Real]) {
        let k = x.len().checked_div(factors.len()).unwrap_or(0);
        for (at, (x, out)) in x.iter().zip(out).enumerate() {
            put(accumulate, factors[at / k].get() * x.get(), out);
        }
    }
}

/// Softmax of three.
fn shares(x: [f64; CLASSES]) -> [f64; CLASSES] {
    let largest = x.into_iter().fold(f64::NEG_INFINITY, f64::max);
    let powers = x.map(|x| (x - largest).exp());
    let sum: f64 = powers.iter().sum();
    powers.map(|p| p / sum)
}

/// The logarithm of one of them, however small.
fn log_share(x: [f64; CLASSES], c: usize) -> f64 {
    let largest = x.into_iter().fold(f64::NEG_INFINITY, f64::max);
    x[c] - largest - x.iter().map(|x| (x - largest).exp()).sum::<f64>().ln()
}

/// Animals in the process's own memory.
fn given<'a, A: Classes>(animals: &'a Animals) -> Result<Given<'a, A::Real>> {
    let rows = named(animals.z, rows_of::<A>(animals.rows)?)?;
    let made = animals.made.as_ref().map_or(Ok(&[][..]), seen::<A>)?;
    Ok(Given { rows, smooth: animals.smooth, made })
}

impl<A: Classes> OneHot for Host<A> {
    fn onehot_times(&self, animals: &Animals, w: Slice, h: usize, out: SliceMut) -> Result<()> {
        check_onehot(animals, h, &w, &out)?;
        let held = animals.z.memory::<A>()?;
        held.onehot_times(&given::<A>(animals)?, seen::<A>(&w)?, h, changed::<A>(out)?);
        Ok(())
    }

    fn onehot_transposed_times(
        &self,
        animals: &Animals,
        dense: Option<Slice>,
        d: Slice,
        h: usize,
        accumulate: Accumulate,
        out: SliceMut,
    ) -> Result<()> {
        check_onehot_transposed(animals, dense.as_ref(), h, &d, &out)?;
        let dense = dense.as_ref().map_or(Ok(&[][..]), seen::<A>)?;
        let (d, out) = (seen::<A>(&d)?, changed::<A>(out)?);
        animals.z.memory::<A>()?.onehot_transposed_times(&given::<A>(animals)?, dense, d, h, accumulate, out);
        Ok(())
    }

    fn softmax(&self, temperature: f64, noise: Option<Draw>, width: usize, x: SliceMut) -> Result<()> {
        check_softmax(width, &x)?;
        A::softmax(temperature, noise, width, changed::<A>(x)?);
        Ok(())
    }

    fn softmax_backward(&self, temperature: f64, y: Slice, delta: SliceMut) -> Result<()> {
        check_softmax_backward(&y, &delta)?;
        A::softmax_backward(temperature, seen::<A>(&y)?, changed::<A>(delta)?);
        Ok(())
    }

    fn contrasts(&self, h: usize, w: Slice, out: SliceMut) -> Result<()> {
        check_contrasts(h, &w, &out)?;
        A::contrasts(h, seen::<A>(&w)?, changed::<A>(out)?);
        Ok(())
    }

    fn softmax_contrasts(
        &self,
        temperature: f64,
        noise: Option<Draw>,
        snps: usize,
        x: SliceMut,
    ) -> Result<()> {
        check_softmax_contrasts(snps, x.len())?;
        A::softmax_contrasts(temperature, noise, snps, changed::<A>(x)?);
        Ok(())
    }

    fn softmax_contrasts_backward(
        &self,
        temperature: f64,
        y: Slice,
        snps: usize,
        delta: SliceMut,
    ) -> Result<()> {
        check_softmax_contrasts_backward(snps, &y, &delta)?;
        A::softmax_contrasts_backward(temperature, seen::<A>(&y)?, snps, changed::<A>(delta)?);
        Ok(())
    }

    fn cross_entropy(
        &self,
        z: &Genotypes,
        rows: &Rows,
        factor: f64,
        logits: Slice,
        costs: SliceMut,
        delta: SliceMut,
    ) -> Result<()> {
        check_cross_entropy(z, rows, &logits, &costs, &delta)?;
        let named = named(z, rows_of::<A>(rows)?)?;
        let (costs, delta) = (changed::<A>(costs)?, changed::<A>(delta)?);
        z.memory::<A>()?.cross_entropy(named, factor, seen::<A>(&logits)?, costs, delta);
        Ok(())
    }

    fn row_squares(&self, x: Slice, out: SliceMut) -> Result<()> {
        check_rows("row_squares", out.len(), x.len())?;
        A::row_squares(seen::<A>(&x)?, changed::<A>(out)?);
        Ok(())
    }

    fn gradient_penalty(&self, factor: f64, squares: Slice, factors: SliceMut, sums: SliceMut) -> Result<()> {
        check_gradient_penalty(&squares, &factors, &sums)?;
        A::gradient_penalty(factor, seen::<A>(&squares)?, changed::<A>(factors)?, changed::<A>(sums)?);
        Ok(())
    }

    fn scale_rows(&self, factors: Slice, x: Slice, accumulate: Accumulate, out: SliceMut) -> Result<()> {
        check_rows("scale_rows", factors.len(), x.len())?;
        check("scale_rows", "out", x.len(), out.len())?;
        A::scale_rows(seen::<A>(&factors)?, seen::<A>(&x)?, accumulate, changed::<A>(out)?);
        Ok(())
    }
}
