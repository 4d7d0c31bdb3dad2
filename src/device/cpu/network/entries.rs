//! What goes over single numbers.

use super::parts;
use crate::device::network::{Activation, Adam};
use crate::simd::widest;
use rayon::prelude::*;

/// Numbers that one thread takes at a time.
const PART: usize = 1 << 16;
/// Numbers of one partial sum.
const SUMMED: usize = 1 << 12;

/// `y = keep · y + factor · x`, each number rounded once.
pub(super) fn blend(keep: f64, factor: f64, x: &[f32], y: &mut [f32]) {
    fn work(keep: f64, factor: f64, x: &[f32], y: &mut [f32]) {
        #[inline(always)]
        fn body(keep: f64, factor: f64, x: &[f32], y: &mut [f32]) {
            y.iter_mut()
                .zip(x)
                .for_each(|(y, &x)| *y = (keep * f64::from(*y) + factor * f64::from(x)) as f32);
        }
        widest!(body(keep, factor, x, y), fn(keep: f64, factor: f64, x: &[f32], y: &mut [f32]))
    }
    parts(y, PART, |start, y| work(keep, factor, &x[start..][..y.len()], y));
}

/// `out = φ(x)`.
pub(super) fn activate(activation: Activation, x: &[f32], out: &mut [f32]) {
    fn leaky(slope: f32, x: &[f32], out: &mut [f32]) {
        #[inline(always)]
        fn body(slope: f32, x: &[f32], out: &mut [f32]) {
            out.iter_mut().zip(x).for_each(|(out, &x)| *out = x * if x > 0.0 { 1.0 } else { slope });
        }
        widest!(body(slope, x, out), fn(slope: f32, x: &[f32], out: &mut [f32]))
    }
    parts(out, PART, |start, out| {
        let x = &x[start..][..out.len()];
        match activation {
            Activation::LeakyRelu(slope) => leaky(slope as f32, x, out),
            Activation::Gelu => {
                out.iter_mut().zip(x).for_each(|(out, &x)| *out = activation.at(f64::from(x)) as f32);
            }
        }
    });
}

/// `delta = delta ∘ φ'(x)`.
pub(super) fn activate_backward(activation: Activation, x: &[f32], delta: &mut [f32]) {
    fn leaky(slope: f32, x: &[f32], delta: &mut [f32]) {
        #[inline(always)]
        fn body(slope: f32, x: &[f32], delta: &mut [f32]) {
            delta.iter_mut().zip(x).for_each(|(delta, &x)| *delta *= if x > 0.0 { 1.0 } else { slope });
        }
        widest!(body(slope, x, delta), fn(slope: f32, x: &[f32], delta: &mut [f32]))
    }
    parts(delta, PART, |start, delta| {
        let x = &x[start..][..delta.len()];
        match activation {
            Activation::LeakyRelu(slope) => leaky(slope as f32, x, delta),
            Activation::Gelu => {
                let slopes = x.iter().map(|&x| activation.slope(f64::from(x)));
                delta.iter_mut().zip(slopes).for_each(|(d, slope)| *d = (f64::from(*d) * slope) as f32);
            }
        }
    });
}

/// Σ x² in f64, from partial sums at fixed places.
pub(super) fn sum_of_squares(x: &[f32]) -> f64 {
    match x.len() {
        0..PART => squares(x),
        _ => x.par_chunks(SUMMED).map(squares).collect::<Vec<f64>>().iter().sum(),
    }
}

/// The same on one thread.
pub(super) fn squares(x: &[f32]) -> f64 {
    fn partial(x: &[f32]) -> f64 {
        #[inline(always)]
        fn body(x: &[f32]) -> f64 {
            let mut sums = [0.0; 16];
            for x in x.chunks(sums.len()) {
                sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(x));
            }
            sums.iter().sum()
        }
        widest!(body(x), fn(x: &[f32]) -> f64)
    }
    x.chunks(SUMMED).map(partial).sum()
}

/// A step of Adam with its constants rounded to f32.
#[derive(Clone, Copy)]
struct Constants {
    scale: f32,
    l2: f32,
    first: [f32; 2],
    second: [f32; 2],
    corrections: [f32; 2],
    epsilon: f32,
    weight_decay: f32,
    learning_rate: f32,
}

impl Constants {
    fn new(adam: &Adam, scale: f64) -> Self {
        let (c1, c2) = adam.corrections();
        Constants {
            scale: scale as f32,
            l2: adam.l2 as f32,
            first: [adam.beta1 as f32, (1.0 - adam.beta1) as f32],
            second: [adam.beta2 as f32, (1.0 - adam.beta2) as f32],
            corrections: [c1.recip() as f32, c2.recip() as f32],
            epsilon: adam.epsilon as f32,
            weight_decay: adam.weight_decay as f32,
            learning_rate: adam.learning_rate as f32,
        }
    }
}

/// One step of the optimizer, the gradient counting `scale` times; `moments` are the first and the second.
pub(super) fn adam(
    adam: &Adam,
    scale: f64,
    gradient: &[f32],
    parameters: &mut [f32],
    moments: [&mut [f32]; 2],
) {
    fn work(c: Constants, gradient: &[f32], parameters: &mut [f32], first: &mut [f32], second: &mut [f32]) {
        #[inline(always)]
        fn body(
            c: Constants,
            gradient: &[f32],
            parameters: &mut [f32],
            first: &mut [f32],
            second: &mut [f32],
        ) {
            let moments = first.iter_mut().zip(second);
            for ((&g, w), (m, v)) in gradient.iter().zip(parameters).zip(moments) {
                let g = c.scale * g + c.l2 * *w;
                *m = c.first[0] * *m + c.first[1] * g;
                *v = c.second[0] * *v + c.second[1] * g * g;
                let step = *m * c.corrections[0] / ((*v * c.corrections[1]).sqrt() + c.epsilon);
                *w -= c.learning_rate * (step + c.weight_decay * *w);
            }
        }
        widest!(
            body(c, gradient, parameters, first, second),
            fn(c: Constants, gradient: &[f32], parameters: &mut [f32], first: &mut [f32], second: &mut [f32])
        )
    }
    let (c, [first, second]) = (Constants::new(adam, scale), moments);
    if gradient.len() <= PART {
        return work(c, gradient, parameters, first, second);
    }
    let moments = first.par_chunks_mut(PART).zip(second.par_chunks_mut(PART));
    let both = gradient.par_chunks(PART).zip(parameters.par_chunks_mut(PART));
    both.zip(moments).for_each(|((g, w), (m, v))| work(c, g, w, m, v));
}
