//! Plain f64 loops: the oracle that the other backends are tested against. Never made faster.

use super::by_code::{self, Lines, Sample};
use super::host::Arithmetic;
use super::network::{Classes, Layers};
use super::{Coding, Part, CHUNK};
use crate::packed::{Packed, MISSING};
use crate::stats::FixedPoint;
use std::ops::Range;
use std::sync::Arc;

/// Genotypes as the oracle holds them.
pub(super) struct Reference {
    packed: Arc<Packed>, // (n, m)
    coding: Vec<Coding>, // (m)
}

impl Reference {
    /// Z_ij.
    fn value(&self, i: usize, j: usize) -> f64 {
        self.coding[j][usize::from(self.packed.get(i, j))]
    }

    /// The allele count of animal i at SNP j, 0 where missing.
    fn count(&self, i: usize, j: usize) -> i32 {
        match self.packed.get(i, j) {
            MISSING => 0,
            code => i32::from(code),
        }
    }

    /// The chunks of SNPs, in order.
    fn chunks(&self) -> impl Iterator<Item = Range<usize>> {
        let m = self.packed.columns();
        (0..m).step_by(CHUNK).map(move |start| start..(start + CHUNK).min(m))
    }
}

impl Arithmetic for Reference {
    const NAME: &'static str = "reference";

    fn hold(packed: &Arc<Packed>, coding: &[Coding]) -> Self {
        Reference { packed: packed.clone(), coding: coding.to_vec() }
    }

    fn times(&self, v: &[f64], points: &[FixedPoint], sums: &mut [i64]) {
        let k = points.len();
        for i in 0..self.packed.rows() {
            for chunk in self.chunks() {
                for (c, point) in points.iter().enumerate() {
                    let partial: f64 = chunk.clone().map(|j| self.value(i, j) * v[j * k + c]).sum();
                    sums[i * k + c] += point.quantize(partial);
                }
            }
        }
    }

    fn transposed_times(&self, v: &[f64], k: usize, out: &mut [f64]) {
        for j in 0..self.packed.columns() {
            for c in 0..k {
                out[j * k + c] = (0..self.packed.rows()).map(|i| self.value(i, j) * v[i * k + c]).sum();
            }
        }
    }

    fn counts(&self, a: Range<usize>, b: Range<usize>, _part: Part, out: &mut [i32]) {
        for (r, i) in a.enumerate() {
            for (c, l) in b.clone().enumerate() {
                let m = self.packed.columns();
                out[r * b.len() + c] = (0..m).map(|j| self.count(i, j) * self.count(l, j)).sum();
            }
        }
    }

    fn sums_by_code(lines: &Lines, samples: &[Sample], out: &mut [Vec<i32>]) {
        samples.iter().zip(out).for_each(|(sample, out)| by_code::plain(lines, sample, out));
    }

    fn cross(&self, a: Range<usize>, b: Range<usize>, point: FixedPoint, sums: &mut [i64]) {
        for (r, i) in a.enumerate() {
            for (c, l) in b.clone().enumerate() {
                for mut chunk in self.chunks() {
                    let partial: f64 = chunk.by_ref().map(|j| self.value(i, j) * self.value(l, j)).sum();
                    sums[r * b.len() + c] += point.quantize(partial);
                }
            }
        }
    }
}

impl Layers for Reference {
    type Real = f64;

    fn value(&self, i: usize, j: usize) -> f64 {
        Reference::value(self, i, j)
    }

    fn snps(&self) -> usize {
        self.packed.columns()
    }
}

impl Classes for Reference {
    fn call(&self, i: usize, j: usize) -> u8 {
        self.packed.get(i, j)
    }
}
