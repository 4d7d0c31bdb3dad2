//! One process and what computes for it: backends chosen by name at run time.
//!
//! Every use of genotypes in linear algebra is one of five products on packed codes, with Z_ij the value that
//! SNP j's [`Coding`] gives to animal i's code:
//!
//! | operation | result | sum over | arithmetic |
//! |---|---|---|---|
//! | [`Backend::times`] | Z V (n, k) | SNPs | f64 within a chunk, whole multiples of a quantum across chunks |
//! | [`Backend::transposed_times`] | Z' V (m, k) | animals | f64, row tiles in fixed order |
//! | [`Backend::counts`] | X X' tile | SNPs | integer, missing counted as 0 |
//! | [`Backend::cross`] | Z Z' tile | SNPs | as `times` |
//! | [`Backend::sums_by_code`] | 1[X = c]' V (m, k) | animals of a sample | integer |
//!
//! [`Backend::largest`] bounds the sums of the first, so that what goes from Z'V to Z Z'V stays with the backend.
//!
//! Sums over SNPs may cross ranks. They are exact across [`CHUNK`]s, so the result does not depend on how the
//! chunks are shared out. Sums over animals stay within a rank, as every rank holds all animals of its SNPs.
//!
//! Buffers are opaque: a GPU keeps them in its own memory. Values go there by [`Backend::upload`] and come
//! back by [`Backend::download`].

pub mod by_code;
mod cpu;
mod cuda;
mod host;
pub mod network;
mod reference;
mod strict;
#[cfg(test)]
mod tests;

pub use cpu::{
    choose_kernels, counts_by, describe_blas, kernel_names, one_blas_thread, reserve_buffers, BlasThreads,
};

use crate::error::{Error, Result};
use crate::packed::Packed;
use crate::stats::FixedPoint;
use by_code::{Lines, Sample};
use host::Host;
use network::Network;
use std::any::Any;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

/// SNPs in one chunk of arithmetic: a multiple of four, so that chunks begin on whole packed bytes.
pub const CHUNK: usize = 256;

/// The value of the codes 0, 1, 2 and missing at one SNP.
pub type Coding = [f64; 4];

/// From this many SNPs on, sums of 2·2 for each do not fit 32 bits.
const MOST_COUNTED: usize = 1 << 29;

/// The names that [`open`] knows, for messages.
const NAMES: &str = "auto, cpu, cuda, cuda-bf16, reference or strict";

/// Numbers in a backend's own memory.
pub struct Buffer<T> {
    memory: Box<dyn Any + Send + Sync>,
    length: usize,
    kind: PhantomData<T>,
}

/// Real numbers in a backend's memory.
pub type Reals = Buffer<f64>;
/// Sums of whole multiples of a quantum in a backend's memory.
pub type Sums = Buffer<i64>;

impl<T> Buffer<T> {
    /// Wraps a backend's own memory of `length` numbers.
    fn new(memory: impl Any + Send + Sync, length: usize) -> Self {
        Buffer { memory: Box::new(memory), length, kind: PhantomData }
    }

    /// How many numbers it holds.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn memory<M: 'static>(&self) -> Result<&M> {
        self.memory.downcast_ref().ok_or_else(foreign)
    }

    fn memory_mut<M: 'static>(&mut self) -> Result<&mut M> {
        self.memory.downcast_mut().ok_or_else(foreign)
    }

    fn into_memory<M: 'static>(self) -> Result<M> {
        Ok(*self.memory.downcast().map_err(|_| foreign())?)
    }
}

/// Packed genotypes with their codings in a backend's memory: Z of shape (rows, columns).
pub struct Genotypes {
    memory: Box<dyn Any + Send + Sync>,
    rows: usize,
    columns: usize,
}

impl Genotypes {
    fn new(memory: impl Any + Send + Sync, rows: usize, columns: usize) -> Self {
        Genotypes { memory: Box::new(memory), rows, columns }
    }

    /// Number of animals.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of SNPs.
    pub fn columns(&self) -> usize {
        self.columns
    }

    fn memory<M: 'static>(&self) -> Result<&M> {
        self.memory.downcast_ref().ok_or_else(foreign)
    }
}

/// Which entries of a product of animals with animals are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of them.
    Whole,
    /// Those of each animal with itself and with those before it; the others are left unspecified.
    Lower,
}

/// What computes. Matrices are row-major; sizes are checked, and a wrong one is an error, not a panic.
///
/// One backend gives the same bits for any number of threads.
pub trait Backend: Send + Sync {
    /// The name that [`open`] knows it by.
    fn name(&self) -> &'static str;

    /// Takes packed genotypes (animals, SNPs) and the coding of each SNP.
    fn hold(&self, packed: &Arc<Packed>, coding: &[Coding]) -> Result<Genotypes>;

    /// The same genotypes with other codings, where they share their memory with `z` and SNPs whose coding is 0 cost
    /// nothing in quick products; else nothing.
    fn recoded(&self, _z: &Genotypes, _coding: &[Coding]) -> Result<Option<Genotypes>> {
        Ok(None)
    }

    /// A fresh buffer whose content is undefined.
    fn reals(&self, length: usize) -> Result<Reals>;

    /// A fresh buffer of zeros.
    fn sums(&self, length: usize) -> Result<Sums>;

    /// A buffer of these numbers.
    fn upload(&self, values: Vec<f64>) -> Result<Reals>;

    /// Copies a buffer back; lengths must agree.
    fn download(&self, from: &Reals, to: &mut [f64]) -> Result<()>;

    /// The sums of a buffer, which they leave.
    fn download_sums(&self, from: Sums) -> Result<Vec<i64>>;

    /// `sums += Z V`, `v` of shape (columns, k), `sums` of shape (rows, k). The partial product of each
    /// [`CHUNK`] of SNPs is rounded to whole multiples of its column's quantum, `points` of length k.
    fn times(&self, z: &Genotypes, v: &Reals, points: &[FixedPoint], sums: &mut Sums) -> Result<()>;

    /// `out = Z' V`, `v` of shape (rows, k), `out` of shape (columns, k).
    fn transposed_times(&self, z: &Genotypes, v: &Reals, k: usize, out: &mut Reals) -> Result<()>;

    /// The largest |weight_j v_jc| of each column c of `v` (m, k), `weights` (m): infinity where a v_jc is no number or
    /// infinite. The same bits with every backend.
    fn largest(&self, weights: &Reals, v: &Reals, k: usize) -> Result<Vec<f64>>;

    /// As [`Backend::times`], with sums within a chunk in single precision where that is faster.
    fn quick_times(&self, z: &Genotypes, v: &Reals, points: &[FixedPoint], sums: &mut Sums) -> Result<()> {
        self.times(z, v, points, sums)
    }

    /// As [`Backend::transposed_times`], with sums over [`CHUNK`] animals in single precision where that is
    /// faster; it may keep a second copy of the genotypes.
    fn quick_transposed_times(&self, z: &Genotypes, v: &Reals, k: usize, out: &mut Reals) -> Result<()> {
        self.transposed_times(z, v, k, out)
    }

    /// `out = X_a X_b'`, the integer product of allele counts of the animals `a` and `b`, missing calls counted
    /// as 0, `out` of shape (a.len(), b.len()) in the caller's memory. Fewer than 2^29 SNPs fit 32 bits.
    fn counts(
        &self,
        z: &Genotypes,
        a: Range<usize>,
        b: Range<usize>,
        part: Part,
        out: &mut [i32],
    ) -> Result<()>;

    /// `sums += Z_a Z_b'` for the animals `a` and `b`, `sums` of shape (a.len(), b.len()). The partial
    /// product of each [`CHUNK`] of SNPs is rounded to whole multiples of the quantum.
    fn cross(
        &self,
        z: &Genotypes,
        a: Range<usize>,
        b: Range<usize>,
        point: FixedPoint,
        sums: &mut Sums,
    ) -> Result<()>;

    /// Counts and sums of each sample's whole numbers by code, `out` (SNPs, [`Sample::width`]) of each.
    fn sums_by_code(&self, lines: &Lines, samples: &[Sample], out: &mut [Vec<i32>]) -> Result<()>;
}

/// The backend of that name: `auto` takes a GPU where there is one that works, else the processor.
pub fn open(name: &str) -> Result<Arc<dyn Network>> {
    open_nth(name, 0)
}

/// As [`open`], for the `nth` process of this machine: where it has several GPUs, processes take turns.
pub fn open_nth(name: &str, nth: usize) -> Result<Arc<dyn Network>> {
    match name {
        "auto" if gpus() > 0 => match cuda::Cuda::open(nth, false) {
            Ok(gpu) => Ok(Arc::new(gpu)),
            Err(problem) => {
                log::warn!("a GPU is left unused: {problem}");
                open("cpu")
            }
        },
        "auto" | "cpu" => Ok(Arc::new(Host::<cpu::Held>::new())),
        "cuda" | "cuda-bf16" => Ok(Arc::new(cuda::Cuda::open(nth, name == "cuda-bf16")?)),
        "reference" => Ok(Arc::new(Host::<reference::Reference>::new())),
        "strict" => Ok(Arc::new(Host::<strict::Strict>::new())),
        other => Err(Error::input("--device", NAMES, format!("{other:?}"), "leave it out for the default")),
    }
}

/// Number of GPUs of this machine that the driver names, 0 without a driver.
pub fn gpus() -> usize {
    cuda::count()
}

/// Instructions beyond the common ones that kernels for the processor make use of, and whether this one has them.
pub fn instructions() -> Vec<(&'static str, bool)> {
    vec![
        ("AVX2", crate::simd::has!("avx2", "fma")),
        ("AVX-512", crate::simd::has!("avx512f", "avx512dq", "avx512bw", "avx512vl")),
        ("AVX-512 VBMI", crate::simd::has!("avx512vbmi")),
        ("AVX-512 VNNI", crate::simd::has!("avx512vnni")),
    ]
}

/// Libraries of CUDA that are looked for at run time, and what was found of them.
pub fn cuda_libraries() -> Vec<(&'static str, Option<String>)> {
    cuda::libraries()
}

/// A buffer of one backend was given to another.
fn foreign() -> Error {
    Error::failed("device", "a buffer of another backend was given", "please report this")
}

/// An error unless a buffer has the length that its shape demands.
fn check(operation: &str, what: &str, expected: usize, found: usize) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    let problem = format!("{what} should hold {expected} numbers, found {found}");
    Err(Error::failed(format!("device, {operation}"), problem, "please report this"))
}

fn check_times(z: &Genotypes, v: &Reals, k: usize, sums: &Sums) -> Result<()> {
    check("times", "v", z.columns * k, v.len())?;
    check("times", "sums", z.rows * k, sums.len())
}

fn check_transposed(z: &Genotypes, v: &Reals, k: usize, out: &Reals) -> Result<()> {
    check("transposed_times", "v", z.rows * k, v.len())?;
    check("transposed_times", "out", z.columns * k, out.len())
}

fn check_largest(weights: &Reals, v: &Reals, k: usize) -> Result<()> {
    check("largest", "v", weights.len() * k, v.len())
}

fn check_tile(z: &Genotypes, a: &Range<usize>, b: &Range<usize>, length: usize) -> Result<()> {
    if a.end > z.rows || b.end > z.rows {
        let problem = format!("rows {a:?} and {b:?} of {}", z.rows);
        return Err(Error::failed("device, tile", problem, "please report this"));
    }
    check("tile", "the tile", a.len() * b.len(), length)
}

fn check_counts(z: &Genotypes, a: &Range<usize>, b: &Range<usize>, length: usize) -> Result<()> {
    if z.columns >= MOST_COUNTED {
        let problem = format!("{} SNPs on one rank, fewer than {MOST_COUNTED} are possible", z.columns);
        return Err(Error::failed("device, counts", problem, "use more ranks"));
    }
    check_tile(z, a, b, length)
}
