//! One-hot genotypes in this process's own memory: sizes are checked here, the arithmetic is that of [`Classes`].

use super::{check_cross_entropy, check_onehot, check_onehot_transposed, check_rows, check_softmax};
use super::{check_softmax_backward, OneHot, Smooth, CLASSES};
use crate::device::host::Host;
use crate::device::network::host::{changed, put, rows_of, seen, Layers, Real, Words};
use crate::device::network::{check, named, Draw, Onto, Rows, Slice, SliceMut};
use crate::device::Genotypes;
use crate::error::Result;

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

    /// As [`OneHot::onehot_times`].
    fn onehot_times(
        &self,
        rows: &[u32],
        smooth: Option<&Smooth>,
        w: &[Self::Real],
        h: usize,
        out: &mut [Self::Real],
    ) {
        let words = self.words(smooth);
        let smooth = words.as_ref().map(|(words, amount)| (words, *amount));
        for (r, (&i, out)) in rows.iter().zip(out.chunks_exact_mut(h.max(1))).enumerate() {
            let x: Vec<f64> = (0..CLASSES * self.snps()).map(|at| self.class(smooth, (r, i), at)).collect();
            for (c, out) in out.iter_mut().enumerate() {
                *out = Real::of(x.iter().enumerate().map(|(at, x)| x * w[at * h + c].get()).sum());
            }
        }
    }

    /// As [`OneHot::onehot_transposed_times`].
    #[allow(clippy::too_many_arguments)] // they are the terms of one formula
    fn onehot_transposed_times(
        &self,
        rows: &[u32],
        smooth: Option<&Smooth>,
        dense: &[Self::Real],
        d: &[Self::Real],
        h: usize,
        onto: Onto,
        out: &mut [Self::Real],
    ) {
        let words = self.words(smooth);
        let smooth = words.as_ref().map(|(words, amount)| (words, *amount));
        let width = CLASSES * self.snps();
        for (at, out) in out.chunks_exact_mut(h.max(1)).enumerate() {
            let calls = rows.iter().enumerate().map(|(r, &i)| self.class(smooth, (r, i), at));
            let x: Vec<f64> = calls.chain(dense.iter().skip(at).step_by(width).map(|x| x.get())).collect();
            for (c, out) in out.iter_mut().enumerate() {
                put(onto, x.iter().enumerate().map(|(r, x)| x * d[r * h + c].get()).sum(), out);
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

    /// As [`OneHot::scale_rows`].
    fn scale_rows(factors: &[Self::Real], x: &[Self::Real], onto: Onto, out: &mut [Self::Real]) {
        let k = x.len().checked_div(factors.len()).unwrap_or(0);
        for (at, (x, out)) in x.iter().zip(out).enumerate() {
            put(onto, factors[at / k].get() * x.get(), out);
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

impl<A: Classes> OneHot for Host<A> {
    fn onehot_times(
        &self,
        z: &Genotypes,
        rows: &Rows,
        smooth: Option<&Smooth>,
        w: Slice,
        h: usize,
        out: SliceMut,
    ) -> Result<()> {
        check_onehot(z, rows, h, &w, &out)?;
        let named = named(z, rows_of::<A>(rows)?)?;
        z.memory::<A>()?.onehot_times(named, smooth, seen::<A>(&w)?, h, changed::<A>(out)?);
        Ok(())
    }

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
    ) -> Result<()> {
        check_onehot_transposed(z, rows, dense.as_ref(), h, &d, &out)?;
        let named = named(z, rows_of::<A>(rows)?)?;
        let dense = dense.as_ref().map_or(Ok(&[][..]), seen::<A>)?;
        let (d, out) = (seen::<A>(&d)?, changed::<A>(out)?);
        z.memory::<A>()?.onehot_transposed_times(named, smooth, dense, d, h, onto, out);
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

    fn scale_rows(&self, factors: Slice, x: Slice, onto: Onto, out: SliceMut) -> Result<()> {
        check_rows("scale_rows", factors.len(), x.len())?;
        check("scale_rows", "out", x.len(), out.len())?;
        A::scale_rows(seen::<A>(&factors)?, seen::<A>(&x)?, onto, changed::<A>(out)?);
        Ok(())
    }
}
