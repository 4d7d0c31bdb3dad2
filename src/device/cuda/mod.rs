//! One NVIDIA GPU, found at run time: the same program runs without.
//!
//! [`gpu`] opens the GPU, compiles kernels ([`compile`]) and holds memory, to and from which [`transfer`] copies; every
//! other file here is one file of `kernels/`: what its kernels need is checked, then they are launched. Everything goes to one stream, in order.
//! docs/gpu.md tells how kernels are built and tested without a GPU.

mod by_code;
mod gpu;
mod launch;
mod compile;
mod counts;
mod cross;
mod genotypes;
mod network;
mod products;
mod transfer;

use super::by_code::{check_samples, Lines, Sample};
use super::network::Network;
use super::{check, check_counts, check_largest, check_tile, check_times, check_transposed};
use super::{Backend, Coding, Genotypes, Part, Reals, Sums};
use crate::error::{Error, Result};
use crate::packed::Packed;
use crate::stats::FixedPoint;
use genotypes::Held;
use gpu::{Gpu, Memory};
use network::Blas;
use std::ops::Range;
use std::sync::Arc;

/// How many GPUs this process sees; none where CUDA is not installed.
pub(super) fn count() -> usize {
    gpu::count()
}

/// NVRTC, which must be there, and what makes networks faster.
pub(super) fn libraries() -> Vec<(&'static str, Option<String>)> {
    let found = |there: bool| there.then(|| "found".to_owned());
    // SAFETY: it only tries to load the library.
    let lt = unsafe { cudarc::cublaslt::sys::is_culib_present() };
    let nvrtc = compile::is_present().then(|| {
        let (major, minor) = compile::version();
        format!("{major}.{minor}")
    });
    vec![("NVRTC", nvrtc), ("NCCL", found(network::has_nccl())), ("cuBLASLt", found(lt))]
}

/// The backend of one GPU.
pub(super) struct Cuda {
    gpu: Arc<Gpu>,
    /// Whether networks may round what they multiply with genotypes to bfloat16.
    single: bool,
    /// Dense products of networks that may round, where it is installed.
    blas: Option<Blas>,
}

impl Cuda {
    /// Opens the `nth` GPU, counted around. With `single`, networks round what they multiply with genotypes to
    /// bfloat16, once; else they split it into three, which hold all of a float. A GPU is open once a kernel was
    /// compiled and loaded, ran, and gave the right numbers back.
    pub(super) fn open(nth: usize, single: bool) -> Result<Cuda> {
        match count() {
            0 => Err(Error::input(
                "--device",
                "a GPU that CUDA can use",
                "none",
                "use --device cpu, or see that the GPU's driver is installed",
            )),
            gpus => {
                let gpu = Gpu::open(nth % gpus)?;
                let blas = single.then(|| Blas::open(&gpu)).flatten();
                let cuda = Cuda { gpu, single, blas };
                cuda.try_out()?;
                Ok(cuda)
            }
        }
    }

    /// Runs one kernel and reads back what it wrote.
    fn try_out(&self) -> Result<()> {
        const LENGTH: usize = 1000;
        let mut values = self.values(LENGTH)?;
        self.fill(0.75, values.part_mut(0..LENGTH))?;
        let mut found = [0.0; LENGTH];
        self.read_singles(values.part(0..LENGTH), &mut found)?;
        if found.iter().all(|&x| x == 0.75) {
            return Ok(());
        }
        let problem = "a kernel that fills memory with one number gave others";
        Err(Error::failed(
            "device, cuda",
            problem,
            "see that the GPU works (nvidia-smi), or use --device cpu",
        ))
    }
}

impl Backend for Cuda {
    fn name(&self) -> &'static str {
        if self.single {
            "cuda-bf16"
        } else {
            "cuda"
        }
    }

    fn hold(&self, packed: &Arc<Packed>, coding: &[Coding]) -> Result<Genotypes> {
        check("hold", "coding", packed.columns(), coding.len())?;
        let held = Held::new(&self.gpu, packed, coding)?;
        Ok(Genotypes::new(held, packed.rows(), packed.columns()))
    }

    fn reals(&self, length: usize) -> Result<Reals> {
        Ok(Reals::new(self.gpu.fresh::<f64>(length)?, length))
    }

    fn sums(&self, length: usize) -> Result<Sums> {
        Ok(Sums::new(self.gpu.zeros::<i64>(length)?, length))
    }

    fn upload(&self, values: Vec<f64>) -> Result<Reals> {
        Ok(Reals::new(self.gpu.upload(&values)?, values.len()))
    }

    fn download(&self, from: &Reals, to: &mut [f64]) -> Result<()> {
        check("download", "to", from.len(), to.len())?;
        self.gpu.download(from.memory::<Memory<f64>>()?, to)
    }

    fn download_sums(&self, from: Sums) -> Result<Vec<i64>> {
        let mut sums = vec![0; from.len()];
        self.gpu.download(from.memory::<Memory<i64>>()?, &mut sums)?;
        Ok(sums)
    }

    fn times(&self, z: &Genotypes, v: &Reals, points: &[FixedPoint], sums: &mut Sums) -> Result<()> {
        check_times(z, v, points.len(), sums)?;
        products::times(&self.gpu, z.memory()?, v.memory()?, points, sums.memory_mut()?)
    }

    fn transposed_times(&self, z: &Genotypes, v: &Reals, k: usize, out: &mut Reals) -> Result<()> {
        check_transposed(z, v, k, out)?;
        products::transposed_times(&self.gpu, z.memory()?, v.memory()?, k, out.memory_mut()?)
    }

    fn largest(&self, weights: &Reals, v: &Reals, k: usize) -> Result<Vec<f64>> {
        check_largest(weights, v, k)?;
        products::largest(&self.gpu, weights.memory()?, v.memory()?, weights.len(), k)
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
        counts::counts(&self.gpu, z.memory()?, a, b, part, out)
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
        cross::cross(&self.gpu, z.memory()?, a, b, point, sums.memory_mut()?)
    }

    fn sums_by_code(&self, lines: &Lines, samples: &[Sample], out: &mut [Vec<i32>]) -> Result<()> {
        check_samples(lines, samples, out)?;
        by_code::sums_by_code(&self.gpu, lines, samples, out)
    }
}
