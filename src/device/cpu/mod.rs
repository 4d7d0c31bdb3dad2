//! The processor: tables of partial sums or products and tiles of decoded genotypes, SIMD or BLAS at one thread,
//! rayon over the tiles.

mod blas;
mod by_code;
mod counts;
mod decode;
mod lookup;
mod network;
mod product;
mod single;

pub use blas::{choose_kernels, describe_blas, one_blas_thread, reserve_buffers, BlasThreads};
pub(super) use by_code::sums_by_code;
pub use counts::{counts_by, kernel_names};

use super::host::Arithmetic;
use super::{Coding, Part};
use crate::packed::Packed;
use crate::stats::FixedPoint;
use decode::Tables;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Genotypes as the processor's backend holds them: the packed codes are shared, not copied.
pub(super) struct Held {
    packed: Arc<Packed>, // (n, m)
    tables: Tables,
    /// SNPs whose coding is not 0, where the codes by SNP are of use.
    snps: Option<Vec<usize>>,
    /// The codes by SNP, made when they are first asked for.
    turned: Arc<OnceLock<single::Turned>>,
}

impl Held {
    fn new(packed: &Arc<Packed>, turned: Arc<OnceLock<single::Turned>>, coding: &[Coding]) -> Held {
        Held {
            packed: packed.clone(),
            snps: single::snps_by_code(coding),
            tables: Tables::new(coding),
            turned,
        }
    }
}

impl Arithmetic for Held {
    const NAME: &'static str = "cpu";

    fn hold(packed: &Arc<Packed>, coding: &[Coding]) -> Self {
        one_blas_thread(); // the tiles are what runs in parallel
        Held::new(packed, Arc::default(), coding)
    }

    fn recoded(&self, coding: &[Coding]) -> Option<Self> {
        let held = Held::new(&self.packed, self.turned.clone(), coding);
        // Else Z'V is not quick.
        held.snps.is_some().then_some(held)
    }

    fn times(&self, v: &[f64], points: &[FixedPoint], sums: &mut [i64]) {
        lookup::times(self, v, points, sums);
    }

    fn transposed_times(&self, v: &[f64], k: usize, out: &mut [f64]) {
        lookup::transposed_times(self, v, k, out);
    }

    fn quick_times(&self, v: &[f64], points: &[FixedPoint], sums: &mut [i64]) {
        single::times(self, v, points, sums);
    }

    fn quick_transposed_times(&self, v: &[f64], k: usize, out: &mut [f64]) {
        let Some(snps) = &self.snps else {
            return lookup::transposed_times(self, v, k, out);
        };
        let turned = self.turned.get_or_init(|| single::Turned::new(&self.packed));
        single::transposed_times(self, (turned, snps), v, k, out);
    }

    fn counts(&self, a: Range<usize>, b: Range<usize>, part: Part, out: &mut [i32]) {
        counts::counts(counts::best(), &self.packed, a, b, part, out);
    }

    fn cross(&self, a: Range<usize>, b: Range<usize>, point: FixedPoint, sums: &mut [i64]) {
        product::cross(self, a, b, point, sums);
    }
}
