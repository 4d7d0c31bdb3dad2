//! The reference behind a GPU's manners: its own copies, fresh buffers full of NaN, no foreign buffers.
//!
//! Code that works here does not read what it has not written and does not count on shared memory, so it works
//! on a GPU too.

use super::by_code::{self, Lines, Sample};
use super::host::Arithmetic;
use super::network::{Classes, Layers};
use super::reference::Reference;
use super::{Coding, Part};
use crate::packed::Packed;
use crate::stats::FixedPoint;
use std::ops::Range;
use std::sync::Arc;

/// The reference on a copy of the genotypes.
pub(super) struct Strict(Reference);

impl Arithmetic for Strict {
    const NAME: &'static str = "strict";
    const FRESH: f64 = f64::NAN;

    fn hold(packed: &Arc<Packed>, coding: &[Coding]) -> Self {
        Strict(Reference::hold(&Arc::new(Packed::clone(packed)), coding))
    }

    fn times(&self, v: &[f64], points: &[FixedPoint], sums: &mut [i64]) {
        self.0.times(v, points, sums);
    }

    fn transposed_times(&self, v: &[f64], k: usize, out: &mut [f64]) {
        self.0.transposed_times(v, k, out);
    }

    fn counts(&self, a: Range<usize>, b: Range<usize>, part: Part, out: &mut [i32]) {
        self.0.counts(a, b, part, out);
    }

    fn sums_by_code(lines: &Lines, samples: &[Sample], out: &mut [Vec<i32>]) {
        samples.iter().zip(out).for_each(|(sample, out)| by_code::plain(lines, sample, out));
    }

    fn cross(&self, a: Range<usize>, b: Range<usize>, point: FixedPoint, sums: &mut [i64]) {
        self.0.cross(a, b, point, sums);
    }
}

impl Layers for Strict {
    type Real = f64;

    fn value(&self, i: usize, j: usize) -> f64 {
        self.0.value(i, j)
    }

    fn snps(&self) -> usize {
        self.0.snps()
    }
}

impl Classes for Strict {
    fn call(&self, i: usize, j: usize) -> u8 {
        self.0.call(i, j)
    }
}
