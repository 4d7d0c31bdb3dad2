//! The processor: tiles of decoded genotypes, SIMD or BLAS at one thread, rayon over the tiles.

mod blas;
mod decode;
mod integer;
mod product;
mod wide;

pub use blas::set_blas_threads;

use super::{check, check_tile, check_times, check_transposed};
use super::{Backend, Coding, Genotypes, Reals, Sums};
use crate::error::Result;
use crate::packed::Packed;
use crate::stats::FixedPoint;
use decode::Tables;
use std::ops::Range;
use std::sync::Arc;

/// The processor's backend.
pub(super) struct Cpu;

/// Genotypes as this backend holds them: the packed codes are shared, not copied.
struct Held {
    packed: Arc<Packed>, // (n, m)
    tables: Tables,
}

impl Cpu {
    /// The backend; BLAS is set to one thread, as the tiles are what runs in parallel.
    pub(super) fn new() -> Self {
        set_blas_threads(1);
        Cpu
    }
}

impl Backend for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn hold(&self, packed: &Arc<Packed>, coding: &[Coding]) -> Result<Genotypes> {
        check("hold", "coding", packed.columns(), coding.len())?;
        let held = Held { packed: packed.clone(), tables: Tables::new(coding) };
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
        let held = z.memory::<Held>()?;
        product::times(held, v.memory::<Vec<f64>>()?, points, sums.memory_mut::<Vec<i64>>()?);
        Ok(())
    }

    fn transposed_times(&self, z: &Genotypes, v: &Reals, k: usize, out: &mut Reals) -> Result<()> {
        check_transposed(z, v, k, out)?;
        let held = z.memory::<Held>()?;
        product::transposed_times(held, v.memory::<Vec<f64>>()?, k, out.memory_mut::<Vec<f64>>()?);
        Ok(())
    }

    fn counts(&self, z: &Genotypes, a: Range<usize>, b: Range<usize>, sums: &mut Sums) -> Result<()> {
        check_tile(z, &a, &b, sums)?;
        product::counts(z.memory::<Held>()?, a, b, sums.memory_mut::<Vec<i64>>()?);
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
        product::cross(z.memory::<Held>()?, a, b, point, sums.memory_mut::<Vec<i64>>()?);
        Ok(())
    }
}
