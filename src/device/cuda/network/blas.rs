//! Dense products of networks that may round, by cuBLASLt where it is installed: numbers count as tf32, which has 10 bits
//! behind the point, and sums are of single precision.

use super::{View, ViewMut};
use crate::device::cuda::gpu::{Gpu, Memory};
use crate::device::network::{Accumulate, Product};
use crate::error::{Error, Result};
use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys::{
    self, cublasLtMatmulDescAttributes_t as Of, cublasLtMatmulPreferenceAttributes_t as Pref,
};
use cudarc::driver::{DevicePtr, DevicePtrMut};
use std::collections::HashMap;
use std::sync::Mutex;

/// Bytes of memory that a product may use beside: what NVIDIA advises for Hopper.
const WORKSPACE: usize = 32 << 20;
/// No algorithm asks for more of an address.
const MOST_ALIGNED: u64 = 256;

/// The library, and how each shape is multiplied.
pub(in crate::device::cuda) struct Blas {
    handle: sys::cublasLtHandle_t,
    workspace: Memory<u8>,
    plans: Mutex<HashMap<Key, Option<Plan>>>,
}

// SAFETY: cuBLASLt's handle may be used by any thread; the rest is behind a lock.
unsafe impl Send for Blas {}
// SAFETY: as above.
unsafe impl Sync for Blas {}

/// What an algorithm is chosen by: m, n, k, which operands are transposed, and what the three addresses are multiples of.
type Key = ([usize; 3], [bool; 2], [u32; 3]);

/// An algorithm and what it multiplies. Numbers in rows are columns to cuBLASLt, so that it makes C' = op(B)' op(A)'.
struct Plan {
    product: sys::cublasLtMatmulDesc_t,
    /// Of B, A and C.
    layouts: [sys::cublasLtMatrixLayout_t; 3],
    algorithm: sys::cublasLtMatmulAlgo_t,
}

impl Blas {
    /// Nothing where cuBLASLt is not installed or does not start: the program's own kernels do it then.
    pub(in crate::device::cuda) fn open(gpu: &Gpu) -> Option<Blas> {
        // SAFETY: it only tries to load the library; nothing else is called unless it is there.
        if !unsafe { sys::is_culib_present() } {
            log::debug!("cuBLASLt is not installed: dense products by kernels of the program's own");
            return None;
        }
        let opened = gpu.bind().and_then(|()| {
            let handle = result::create_handle().map_err(lost)?;
            Ok(Blas { handle, workspace: gpu.fresh(WORKSPACE)?, plans: Mutex::default() })
        });
        opened.inspect_err(|e| log::debug!("{e}")).ok()
    }

    /// `out = op(A) op(B)`, lengths checked before; tells whether cuBLASLt has a way to do it.
    pub(super) fn product(
        &self,
        gpu: &Gpu,
        shape: Product,
        a: &View,
        b: &View,
        accumulate: Accumulate,
        out: &mut ViewMut,
    ) -> Result<bool> {
        if shape.m * shape.n * shape.k == 0 {
            return Ok(false);
        }
        gpu.bind()?;
        let stream = gpu.stream();
        let ((a, _a), (b, _b)) = (a.device_ptr(stream), b.device_ptr(stream));
        let (out, _out) = out.device_ptr_mut(stream);
        let (workspace, _workspace) = self.workspace.device_ptr(stream);
        let aligned = [b, a, out].map(|address| 1 << (address | MOST_ALIGNED).trailing_zeros());
        let key = ([shape.m, shape.n, shape.k], [shape.a_transposed, shape.b_transposed], aligned);
        let mut plans = self.plans.lock().expect("no panic while held");
        let Some(plan) = plans.entry(key).or_insert_with(|| self.plan(key)) else { return Ok(false) };
        let (factor, keep) = (1.0f32, if accumulate == Accumulate::Add { 1.0f32 } else { 0.0 });
        let [of_b, of_a, of_out] = plan.layouts;
        // SAFETY: the layouts are those of the three matrices, whose addresses are multiples of what the algorithm was
        // chosen for; factors are numbers of the host; the workspace is as long as it says, and used by this stream
        // alone.
        let made = unsafe {
            result::matmul(
                self.handle,
                plan.product,
                (&raw const factor).cast(),
                (&raw const keep).cast(),
                b as *const _,
                of_b,
                a as *const _,
                of_a,
                out as *const _,
                of_out,
                out as *mut _,
                of_out,
                &raw const plan.algorithm,
                workspace as *mut _,
                WORKSPACE,
                stream.cu_stream().cast(),
            )
        };
        made.map(|()| true).map_err(lost)
    }

    /// How products of a kind are made; nothing where there is no way.
    fn plan(&self, key: Key) -> Option<Plan> {
        let made = Plan::new(self.handle, key);
        made.inspect_err(|e| log::debug!("cuBLASLt has no way for {key:?} ({e:?})")).ok()
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        self.plans.get_mut().expect("no panic while held").clear();
        // SAFETY: the handle is open, and nobody uses it any more. An error leaves it to the end of the process.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

impl Plan {
    fn new(handle: sys::cublasLtHandle_t, key: Key) -> std::result::Result<Plan, CublasError> {
        let ([m, n, k], [a_transposed, b_transposed], aligned) = key;
        let single = sys::cudaDataType_t::CUDA_R_32F;
        let layout = |rows: usize, columns: usize| {
            result::create_matrix_layout(single, rows as u64, columns as u64, rows as i64)
        };
        let stored = |rows: usize, columns: usize, transposed: bool| match transposed {
            true => layout(columns, rows),
            false => layout(rows, columns),
        };
        let compute = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32;
        let mut plan = Plan {
            product: result::create_matmul_desc(compute, single)?,
            layouts: [stored(n, k, b_transposed)?, stored(k, m, a_transposed)?, layout(n, m)?],
            algorithm: sys::cublasLtMatmulAlgo_t { data: [0; 8] },
        };
        let transposed = [
            (Of::CUBLASLT_MATMUL_DESC_TRANSA, i32::from(b_transposed)),
            (Of::CUBLASLT_MATMUL_DESC_TRANSB, i32::from(a_transposed)),
        ];
        for (which, value) in transposed {
            // SAFETY: these attributes are numbers of 32 bits.
            unsafe {
                result::set_matmul_desc_attribute(
                    plan.product,
                    which,
                    (&raw const value).cast(),
                    size_of::<i32>(),
                )
            }?;
        }
        let wanted = Wanted(result::create_matmul_pref()?);
        wanted.ask(Pref::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, WORKSPACE as u64)?;
        let [of_b, of_a, of_out] = aligned;
        wanted.ask(Pref::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, of_b)?;
        wanted.ask(Pref::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, of_a)?;
        wanted.ask(Pref::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, of_out)?;
        wanted.ask(Pref::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, of_out)?;
        let [b, a, out] = plan.layouts;
        // SAFETY: all handles are those made above.
        let found =
            unsafe { result::get_matmul_algo_heuristic(handle, plan.product, b, a, out, out, wanted.0) }?;
        plan.algorithm = found.algo;
        Ok(plan)
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: the plan's own, which nobody uses any more. An error leaves them to the end of the process.
        unsafe {
            let _ = result::destroy_matmul_desc(self.product);
            self.layouts.iter().for_each(|layout| {
                let _ = result::destroy_matrix_layout(*layout);
            });
        }
    }
}

/// What is wanted of an algorithm.
struct Wanted(sys::cublasLtMatmulPreference_t);

impl Wanted {
    /// Sets an attribute: the workspace is a number of 64 bits, alignments are of 32.
    fn ask<T>(&self, which: Pref, value: T) -> std::result::Result<(), CublasError> {
        // SAFETY: the preference is open, and cuBLASLt copies the value, of which it is told the size, which it checks.
        unsafe { result::set_matmul_pref_attribute(self.0, which, (&raw const value).cast(), size_of::<T>()) }
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        // SAFETY: as for a plan.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}

fn lost(e: CublasError) -> Error {
    let advice = "see that the GPU works (nvidia-smi), or use --device cuda";
    Error::failed("device, cuda, cuBLASLt", format!("{e:?}"), advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cuda::network::{changed, seen};
    use crate::device::cuda::{count, Cuda};
    use crate::device::network::{Network, Values};
    use crate::rng::{Purpose, Stream};

    #[test]
    fn products_are_those_of_rounded_numbers_wherever_they_lie() {
        if count() == 0 {
            return println!("NOT RUN: no GPU and nothing that stands for one");
        }
        let cuda = Cuda::open(0, true).unwrap();
        let Some(blas) = &cuda.blas else { return println!("NOT RUN: cuBLASLt is not here") };
        let numbers = |length: usize, index: u64| -> Vec<f32> {
            let mut s = Stream::new(6, Purpose::Test, index);
            (0..length).map(|_| s.normal() as f32).collect()
        };
        // At a border, and one number behind it.
        let there = |values: &[f32], shift: usize| -> Values {
            let mut to = cuda.values(values.len() + shift).unwrap();
            cuda.write_singles(values, to.part_mut(shift..shift + values.len())).unwrap();
            to
        };
        let mut made = 0;
        for (case, (m, n, k)) in
            [(64, 128, 32), (1, 33, 7), (129, 5, 300)].into_iter().cycle().take(12).enumerate()
        {
            let (shift, accumulate) =
                (case % 2, if case % 3 == 0 { Accumulate::Add } else { Accumulate::Overwrite });
            let shape = Product { m, n, k, a_transposed: case % 4 > 1, b_transposed: case > 5 };
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            let [va, vb, mut vc] = [&a, &b, &vec![1.0; m * n]].map(|x| there(x, shift));
            let part = |x: &Values| shift..x.len();
            let (a_there, b_there) = (seen(&va.part(part(&va))).unwrap(), seen(&vb.part(part(&vb))).unwrap());
            let out = part(&vc);
            let mut out = changed(vc.part_mut(out)).unwrap();
            made += usize::from(
                blas.product(&cuda.gpu, shape, &a_there, &b_there, accumulate, &mut out).unwrap(),
            );
            let mut found = vec![0.0; m * n + shift];
            cuda.read(vc.whole(), &mut found).unwrap();
            for (at, found) in found[shift..].iter().enumerate() {
                let (i, j) = (at / n, at % n);
                let of_a = |l: usize| a[if shape.a_transposed { l * m + i } else { i * k + l }];
                let of_b = |l: usize| b[if shape.b_transposed { j * k + l } else { l * n + j }];
                let terms = (0..k).map(|l| f64::from(of_a(l)) * f64::from(of_b(l)));
                let (sum, size) = terms.fold((0.0, 0.0), |(s, z), t| (s + t, z + t.abs()));
                let wanted = if accumulate == Accumulate::Add { 1.0 + sum } else { sum };
                // Both numbers of a term are rounded to 11 bits.
                assert!((found - wanted).abs() <= size / 1024.0 + 1e-5, "{shape:?} [{at}]: {found} {wanted}");
                // What was not rounded would be nearer to it.
                assert!(k < 300 || (found - wanted).abs() > 0.0);
            }
        }
        assert_eq!(made, 12, "products that cuBLASLt has a way to make");
    }
}
