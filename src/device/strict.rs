//! The reference behind a card's manners: its own copies, fresh buffers full of NaN, no foreign buffers.
//!
//! Code that works here does not read what it has not written and does not count on shared memory, so it works
//! on a card too.

use super::reference::Held;
use super::{check, check_tile, check_times, check_transposed};
use super::{Backend, Coding, Genotypes, Reals, Sums};
use crate::error::Result;
use crate::packed::Packed;
use crate::stats::FixedPoint;
use std::ops::Range;
use std::sync::Arc;

/// The card that is none.
pub(super) struct Strict;

/// Memory of this backend alone.
struct Own<T>(T);

impl Backend for Strict {
    fn name(&self) -> &'static str {
        "strict"
    }

    fn hold(&self, packed: &Arc<Packed>, coding: &[Coding]) -> Result<Genotypes> {
        check("hold", "coding", packed.columns(), coding.len())?;
        let held = Held { packed: Arc::new(Packed::clone(packed)), coding: coding.to_vec() };
        Ok(Genotypes::new(Own(held), packed.rows(), packed.columns()))
    }

    fn reals(&self, length: usize) -> Result<Reals> {
        Ok(Reals::new(Own(vec![f64::NAN; length]), length))
    }

    fn sums(&self, length: usize) -> Result<Sums> {
        Ok(Sums::new(Own(vec![0i64; length]), length))
    }

    fn upload(&self, values: &[f64]) -> Result<Reals> {
        Ok(Reals::new(Own(values.to_vec()), values.len()))
    }

    fn download(&self, from: &Reals, to: &mut [f64]) -> Result<()> {
        check("download", "to", from.len(), to.len())?;
        to.copy_from_slice(&from.memory::<Own<Vec<f64>>>()?.0);
        Ok(())
    }

    fn download_sums(&self, from: &Sums, to: &mut [i64]) -> Result<()> {
        check("download_sums", "to", from.len(), to.len())?;
        to.copy_from_slice(&from.memory::<Own<Vec<i64>>>()?.0);
        Ok(())
    }

    fn times(&self, z: &Genotypes, v: &Reals, points: &[FixedPoint], sums: &mut Sums) -> Result<()> {
        check_times(z, v, points.len(), sums)?;
        let v = &v.memory::<Own<Vec<f64>>>()?.0;
        z.memory::<Own<Held>>()?.0.times(v, points, &mut sums.memory_mut::<Own<Vec<i64>>>()?.0);
        Ok(())
    }

    fn transposed_times(&self, z: &Genotypes, v: &Reals, k: usize, out: &mut Reals) -> Result<()> {
        check_transposed(z, v, k, out)?;
        let v = &v.memory::<Own<Vec<f64>>>()?.0;
        z.memory::<Own<Held>>()?.0.transposed_times(v, k, &mut out.memory_mut::<Own<Vec<f64>>>()?.0);
        Ok(())
    }

    fn counts(&self, z: &Genotypes, a: Range<usize>, b: Range<usize>, sums: &mut Sums) -> Result<()> {
        check_tile(z, &a, &b, sums)?;
        z.memory::<Own<Held>>()?.0.counts(a, b, &mut sums.memory_mut::<Own<Vec<i64>>>()?.0);
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
        z.memory::<Own<Held>>()?.0.cross(a, b, point, &mut sums.memory_mut::<Own<Vec<i64>>>()?.0);
        Ok(())
    }
}
