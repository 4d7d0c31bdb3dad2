//! The processor: tables of partial sums and tiles of decoded genotypes, SIMD or BLAS at one thread, rayon over
//! the tiles.

mod blas;
mod decode;
mod integer;
mod lookup;
mod product;

pub use blas::set_blas_threads;

use super::host::Arithmetic;
use super::Coding;
use crate::packed::Packed;
use crate::stats::FixedPoint;
use decode::Tables;
use std::ops::Range;
use std::sync::Arc;

/// Genotypes as the processor's backend holds them: the packed codes are shared, not copied.
pub(super) struct Held {
    packed: Arc<Packed>, // (n, m)
    tables: Tables,
}

impl Arithmetic for Held {
    const NAME: &'static str = "cpu";

    fn hold(packed: &Arc<Packed>, coding: &[Coding]) -> Self {
        // The tiles are what runs in parallel.
        set_blas_threads(1);
        Held { packed: packed.clone(), tables: Tables::new(coding) }
    }

    fn times(&self, v: &[f64], points: &[FixedPoint], sums: &mut [i64]) {
        lookup::times(self, v, points, sums);
    }

    fn transposed_times(&self, v: &[f64], k: usize, out: &mut [f64]) {
        lookup::transposed_times(self, v, k, out);
    }

    fn counts(&self, a: Range<usize>, b: Range<usize>, sums: &mut [i64]) {
        product::counts(self, a, b, sums);
    }

    fn cross(&self, a: Range<usize>, b: Range<usize>, point: FixedPoint, sums: &mut [i64]) {
        product::cross(self, a, b, point, sums);
    }
}
