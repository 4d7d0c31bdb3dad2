//! What backends in this process's own memory share: everything but the arithmetic.

use super::by_code::{check_samples, Lines, Sample};
use super::{check, check_counts, check_largest, check_tile, check_times, check_transposed};
use super::{Backend, Coding, Genotypes, Part, Reals, Sums};
use crate::error::Result;
use crate::packed::Packed;
use crate::stats::FixedPoint;
use rayon::prelude::*;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

/// Genotypes as one backend holds them, and its products. Sizes are checked before.
pub(super) trait Arithmetic: Send + Sync + Sized + 'static {
    /// The backend's name.
    const NAME: &'static str;
    /// What a fresh buffer of reals is full of.
    const FRESH: f64 = 0.0;

    /// Takes packed genotypes (n, m) and the coding of each SNP (m).
    fn hold(packed: &Arc<Packed>, coding: &[Coding]) -> Self;
    /// As [`Backend::recoded`].
    fn recoded(&self, _coding: &[Coding]) -> Option<Self> {
        None
    }
    /// As [`Backend::times`].
    fn times(&self, v: &[f64], points: &[FixedPoint], sums: &mut [i64]);
    /// As [`Backend::transposed_times`].
    fn transposed_times(&self, v: &[f64], k: usize, out: &mut [f64]);
    /// As [`Backend::quick_times`].
    fn quick_times(&self, v: &[f64], points: &[FixedPoint], sums: &mut [i64]) {
        self.times(v, points, sums);
    }
    /// As [`Backend::quick_transposed_times`].
    fn quick_transposed_times(&self, v: &[f64], k: usize, out: &mut [f64]) {
        self.transposed_times(v, k, out);
    }
    /// As [`Backend::counts`].
    fn counts(&self, a: Range<usize>, b: Range<usize>, part: Part, out: &mut [i32]);
    /// As [`Backend::cross`].
    fn cross(&self, a: Range<usize>, b: Range<usize>, point: FixedPoint, sums: &mut [i64]);
    /// As [`Backend::sums_by_code`].
    fn sums_by_code(lines: &Lines, samples: &[Sample], out: &mut [Vec<i32>]) {
        super::cpu::sums_by_code(lines, samples, out);
    }
}

/// Rows that one thread looks at, at a time.
const ROWS: usize = 1 << 12;

/// The backend that computes as `A` does.
pub(super) struct Host<A>(PhantomData<A>);

impl<A> Host<A> {
    pub(super) fn new() -> Self {
        Host(PhantomData)
    }
}

/// Numbers of the backend `A`: a buffer of another one is told apart by its type.
pub(super) struct Memory<A, T>(pub(super) Vec<T>, pub(super) PhantomData<A>);

fn reals<A: Arithmetic>(values: Vec<f64>) -> Reals {
    let length = values.len();
    Reals::new(Memory::<A, f64>(values, PhantomData), length)
}

/// Checks sizes, and gives the buffers to one of the products that add to sums.
fn times<A: Arithmetic>(
    (z, v, sums): (&Genotypes, &Reals, &mut Sums),
    points: &[FixedPoint],
    product: impl Fn(&A, &[f64], &[FixedPoint], &mut [i64]),
) -> Result<()> {
    check_times(z, v, points.len(), sums)?;
    let v = &v.memory::<Memory<A, f64>>()?.0;
    product(z.memory::<A>()?, v, points, &mut sums.memory_mut::<Memory<A, i64>>()?.0);
    Ok(())
}

/// Checks sizes, and gives the buffers to one of the products with the transpose.
fn transposed_times<A: Arithmetic>(
    (z, v, out): (&Genotypes, &Reals, &mut Reals),
    k: usize,
    product: impl Fn(&A, &[f64], usize, &mut [f64]),
) -> Result<()> {
    check_transposed(z, v, k, out)?;
    let v = &v.memory::<Memory<A, f64>>()?.0;
    product(z.memory::<A>()?, v, k, &mut out.memory_mut::<Memory<A, f64>>()?.0);
    Ok(())
}

impl<A: Arithmetic> Backend for Host<A> {
    fn name(&self) -> &'static str {
        A::NAME
    }

    fn hold(&self, packed: &Arc<Packed>, coding: &[Coding]) -> Result<Genotypes> {
        check("hold", "coding", packed.columns(), coding.len())?;
        Ok(Genotypes::new(A::hold(packed, coding), packed.rows(), packed.columns()))
    }

    fn recoded(&self, z: &Genotypes, coding: &[Coding]) -> Result<Option<Genotypes>> {
        check("recoded", "coding", z.columns, coding.len())?;
        let recoded = z.memory::<A>()?.recoded(coding);
        Ok(recoded.map(|held| Genotypes::new(held, z.rows, z.columns)))
    }

    fn reals(&self, length: usize) -> Result<Reals> {
        Ok(reals::<A>(vec![A::FRESH; length]))
    }

    fn sums(&self, length: usize) -> Result<Sums> {
        Ok(Sums::new(Memory::<A, i64>(vec![0; length], PhantomData), length))
    }

    fn upload(&self, values: Vec<f64>) -> Result<Reals> {
        Ok(reals::<A>(values))
    }

    fn download(&self, from: &Reals, to: &mut [f64]) -> Result<()> {
        check("download", "to", from.len(), to.len())?;
        to.copy_from_slice(&from.memory::<Memory<A, f64>>()?.0);
        Ok(())
    }

    fn download_sums(&self, from: Sums) -> Result<Vec<i64>> {
        Ok(from.into_memory::<Memory<A, i64>>()?.0)
    }

    fn times(&self, z: &Genotypes, v: &Reals, points: &[FixedPoint], sums: &mut Sums) -> Result<()> {
        times((z, v, sums), points, A::times)
    }

    fn transposed_times(&self, z: &Genotypes, v: &Reals, k: usize, out: &mut Reals) -> Result<()> {
        transposed_times((z, v, out), k, A::transposed_times)
    }

    fn largest(&self, weights: &Reals, v: &Reals, k: usize) -> Result<Vec<f64>> {
        check_largest(weights, v, k)?;
        if k == 0 {
            return Ok(Vec::new());
        }
        let [weights, v] = [weights, v].map(|x| x.memory::<Memory<A, f64>>());
        let of_rows = |(weights, v): (&[f64], &[f64])| {
            let mut largest = vec![0.0f64; k];
            for (weight, row) in weights.iter().zip(v.chunks_exact(k)) {
                for (largest, &x) in largest.iter_mut().zip(row) {
                    // NaN would lose every comparison.
                    let term = if x.is_finite() { (weight * x).abs() } else { f64::INFINITY };
                    *largest = largest.max(term);
                }
            }
            largest
        };
        let parts = weights?.0.par_chunks(ROWS).zip(v?.0.par_chunks(ROWS * k)).map(of_rows);
        let both = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(&b).map(|(a, b)| a.max(*b)).collect();
        Ok(parts.reduce(|| vec![0.0; k], both))
    }

    fn quick_times(&self, z: &Genotypes, v: &Reals, points: &[FixedPoint], sums: &mut Sums) -> Result<()> {
        times((z, v, sums), points, A::quick_times)
    }

    fn quick_transposed_times(&self, z: &Genotypes, v: &Reals, k: usize, out: &mut Reals) -> Result<()> {
        transposed_times((z, v, out), k, A::quick_transposed_times)
    }

    fn counts(
        &self,
        z: &Genotypes,
        a: Range<usize>,
        b: Range<usize>,
        part: Part,
        out: &mut [i32],
    ) -> Result<()> {
        check_counts(z, &a, &b, out.len())?;
        z.memory::<A>()?.counts(a, b, part, out);
        Ok(())
    }

    fn sums_by_code(&self, lines: &Lines, samples: &[Sample], out: &mut [Vec<i32>]) -> Result<()> {
        check_samples(lines, samples, out)?;
        A::sums_by_code(lines, samples, out);
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
        check_tile(z, &a, &b, sums.len())?;
        z.memory::<A>()?.cross(a, b, point, &mut sums.memory_mut::<Memory<A, i64>>()?.0);
        Ok(())
    }
}
