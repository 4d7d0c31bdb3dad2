//! Plain f64 loops: the oracle that the other backends are tested against. Never made faster.

use super::{check, check_tile, check_times, check_transposed};
use super::{Backend, Coding, Genotypes, Reals, Sums, CHUNK};
use crate::error::Result;
use crate::packed::{Packed, MISSING};
use crate::stats::FixedPoint;
use std::ops::Range;
use std::sync::Arc;

/// The oracle.
pub(super) struct Reference;

/// Genotypes as this backend holds them.
pub(super) struct Held {
    pub(super) packed: Arc<Packed>, // (n, m)
    pub(super) coding: Vec<Coding>, // (m)
}

impl Held {
    /// Z_ij.
    fn value(&self, i: usize, j: usize) -> f64 {
        self.coding[j][usize::from(self.packed.get(i, j))]
    }

    /// The allele count of animal i at SNP j, 0 where missing.
    fn count(&self, i: usize, j: usize) -> i64 {
        match self.packed.get(i, j) {
            MISSING => 0,
            code => i64::from(code),
        }
    }

    /// The chunks of SNPs, in order.
    fn chunks(&self) -> impl Iterator<Item = Range<usize>> {
        let m = self.packed.columns();
        (0..m).step_by(CHUNK).map(move |start| start..(start + CHUNK).min(m))
    }

    /// sums += Z V.
    pub(super) fn times(&self, v: &[f64], points: &[FixedPoint], sums: &mut [i64]) {
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

    /// out = Z' V.
    pub(super) fn transposed_times(&self, v: &[f64], k: usize, out: &mut [f64]) {
        for j in 0..self.packed.columns() {
            for c in 0..k {
                out[j * k + c] = (0..self.packed.rows()).map(|i| self.value(i, j) * v[i * k + c]).sum();
            }
        }
    }

    /// sums += X_a X_b'.
    pub(super) fn counts(&self, a: Range<usize>, b: Range<usize>, sums: &mut [i64]) {
        for (r, i) in a.enumerate() {
            for (c, l) in b.clone().enumerate() {
                let m = self.packed.columns();
                sums[r * b.len() + c] += (0..m).map(|j| self.count(i, j) * self.count(l, j)).sum::<i64>();
            }
        }
    }

    /// sums += Z_a Z_b'.
    pub(super) fn cross(&self, a: Range<usize>, b: Range<usize>, point: FixedPoint, sums: &mut [i64]) {
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

impl Backend for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn hold(&self, packed: &Arc<Packed>, coding: &[Coding]) -> Result<Genotypes> {
        check("hold", "coding", packed.columns(), coding.len())?;
        let held = Held { packed: packed.clone(), coding: coding.to_vec() };
        Ok(Genotypes::new(held, packed.rows(), packed.columns()))
    }

    fn reals(&self, length: usize) -> Result<Reals> {
        Ok(Reals::new(vec![0.0f64; length], length))
    }

    fn sums(&self, length: usize) -> Result<Sums> {
        Ok(Sums::new(vec![0i64; length], length))
    }

    fn upload(&self, values: &[f64]) -> Result<Reals> {
        Ok(Reals::new(values.to_vec(), values.len()))
    }

    fn download(&self, from: &Reals, to: &mut [f64]) -> Result<()> {
        check("download", "to", from.len(), to.len())?;
        to.copy_from_slice(from.memory::<Vec<f64>>()?);
        Ok(())
    }

    fn download_sums(&self, from: &Sums, to: &mut [i64]) -> Result<()> {
        check("download_sums", "to", from.len(), to.len())?;
        to.copy_from_slice(from.memory::<Vec<i64>>()?);
        Ok(())
    }

    fn times(&self, z: &Genotypes, v: &Reals, points: &[FixedPoint], sums: &mut Sums) -> Result<()> {
        check_times(z, v, points.len(), sums)?;
        z.memory::<Held>()?.times(v.memory::<Vec<f64>>()?, points, sums.memory_mut::<Vec<i64>>()?);
        Ok(())
    }

    fn transposed_times(&self, z: &Genotypes, v: &Reals, k: usize, out: &mut Reals) -> Result<()> {
        check_transposed(z, v, k, out)?;
        z.memory::<Held>()?.transposed_times(v.memory::<Vec<f64>>()?, k, out.memory_mut::<Vec<f64>>()?);
        Ok(())
    }

    fn counts(&self, z: &Genotypes, a: Range<usize>, b: Range<usize>, sums: &mut Sums) -> Result<()> {
        check_tile(z, &a, &b, sums)?;
        z.memory::<Held>()?.counts(a, b, sums.memory_mut::<Vec<i64>>()?);
        Ok(())
    }

    fn cross(
        &self,
        z: &Genotypes,
        a: Range<usize>,
        b: Range<usize>,
        point: FixedPoint,
        sums: &mut Sums,
    ) -> Result<()> {
        check_tile(z, &a, &b, sums)?;
        z.memory::<Held>()?.cross(a, b, point, sums.memory_mut::<Vec<i64>>()?);
        Ok(())
    }
}
