//! Networks on a GPU: sizes are checked here, then a file launches the kernels of the file of its name in `kernels/`.
//! [`blas`] is NVIDIA's library, for dense products that may round; [`staging`] and [`ring`] (by [`nccl`]) serve sums over
//! ranks.

mod adam;
mod blas;
mod classes;
mod columns;
mod contrasts;
mod elementwise;
mod gather;
mod loss;
mod nccl;
mod normalise;
mod parts;
mod onehot;
mod product;
mod random;
mod reduce;
mod ring;
mod staging;

pub(super) use blas::Blas;

use super::gpu::{failed, Memory, Shape};
use super::Cuda;
use crate::device::network::shapes::{self, named};
use crate::device::network::{Accumulate, Activation, Adam, Clip, Draw, Loss, Network};
use crate::device::network::{Gpus, Ring, RingName, Staging};
use crate::device::network::{Product, Rows, Slice, SliceMut, Values};
use crate::device::Genotypes;
use crate::error::Result;
use cudarc::driver::{CudaView, CudaViewMut, LaunchConfig};
use std::ops::Range;

/// Whether NCCL is installed.
pub(super) fn has_nccl() -> bool {
    nccl::present()
}

/// Distance from 1 to the next bfloat16.
const BF16_EPSILON: f64 = 1.0 / 128.0;

type View<'a> = CudaView<'a, f32>;
type ViewMut<'a> = CudaViewMut<'a, f32>;

/// A grid with a thread for every four of `length` numbers; none where there are none.
fn fours(length: usize) -> Result<Option<LaunchConfig>> {
    let shape = Shape { grid: [length.div_ceil(4 * 256), 1, 1], threads: 256, shared: 0 };
    (length > 0).then(|| shape.config()).transpose()
}

/// A part of a buffer on the GPU.
fn seen<'a>(slice: &Slice<'a>) -> Result<View<'a>> {
    Ok(slice.values.memory::<Memory<f32>>()?.slice(slice.range.clone()))
}

/// A part of a buffer on the GPU, to change.
fn changed<'a>(slice: SliceMut<'a>) -> Result<ViewMut<'a>> {
    Ok(slice.values.memory_mut::<Memory<f32>>()?.slice_mut(slice.range))
}

/// Row numbers on the GPU.
struct Chosen {
    rows: Memory<u32>,
    /// The largest, which shows whether the genotypes have them all.
    largest: Option<u32>,
}

impl Gpus for Cuda {
    fn staging(&self, slots: usize, length: usize) -> Result<Box<dyn Staging>> {
        Ok(Box::new(staging::Slots::new(&self.gpu, slots, length)?))
    }

    fn identity(&self) -> Option<[u8; 16]> {
        let uuid = self.gpu.stream().context().uuid().ok()?;
        nccl::present().then(|| uuid.bytes.map(|byte| byte as u8))
    }

    fn ring_name(&self) -> Result<RingName> {
        ring::name()
    }

    fn ring(&self, name: RingName, rank: usize, size: usize) -> Result<Box<dyn Ring>> {
        Ok(Box::new(ring::Joined::new(&self.gpu, name, (rank, size), true)?))
    }

    fn ring_on_trial(&self, name: RingName, rank: usize, size: usize) -> Result<Box<dyn Ring>> {
        Ok(Box::new(ring::Joined::new(&self.gpu, name, (rank, size), false)?))
    }
}

impl Network for Cuda {
    fn gpus(&self) -> Option<&dyn Gpus> {
        Some(self)
    }

    fn precision(&self) -> f64 {
        if self.single {
            BF16_EPSILON
        } else {
            f64::from(f32::EPSILON)
        }
    }

    fn values(&self, length: usize) -> Result<Values> {
        Ok(Values::new(self.gpu.fresh::<f32>(length)?, length))
    }

    fn write(&self, from: &[f64], to: SliceMut) -> Result<()> {
        shapes::transfer("write", from.len(), to.len())?;
        let singles: Vec<f32> = from.iter().map(|&x| x as f32).collect();
        self.write_singles(&singles, to)
    }

    fn read(&self, from: Slice, to: &mut [f64]) -> Result<()> {
        shapes::transfer("read", to.len(), from.len())?;
        let mut singles = vec![0f32; to.len()];
        self.read_singles(from, &mut singles)?;
        to.iter_mut().zip(singles).for_each(|(to, x)| *to = f64::from(x));
        Ok(())
    }

    fn write_singles(&self, from: &[f32], to: SliceMut) -> Result<()> {
        shapes::transfer("write_singles", from.len(), to.len())?;
        self.gpu.write(from, to.values.memory_mut()?, to.range.start)
    }

    fn read_singles(&self, from: Slice, to: &mut [f32]) -> Result<()> {
        shapes::transfer("read_singles", to.len(), from.len())?;
        if to.is_empty() {
            return Ok(());
        }
        self.gpu.read(seen(&from)?, to)
    }

    fn rows(&self, rows: &[u32]) -> Result<Rows> {
        let chosen = Chosen { rows: self.gpu.upload(rows)?, largest: rows.iter().max().copied() };
        Ok(Rows::new(chosen, rows.len()))
    }

    fn fill(&self, value: f64, to: SliceMut) -> Result<()> {
        elementwise::fill(&self.gpu, value as f32, changed(to)?)
    }

    fn copy(&self, from: Slice, to: SliceMut) -> Result<()> {
        shapes::same("copy", &from, &to)?;
        if from.is_empty() {
            return Ok(());
        }
        let copied = self.gpu.stream().memcpy_dtod(&seen(&from)?, &mut changed(to)?);
        copied.map_err(|e| failed("copy on the GPU", e))
    }

    fn blend(&self, keep: f64, factor: f64, x: Slice, y: SliceMut) -> Result<()> {
        shapes::same("blend", &x, &y)?;
        elementwise::blend(&self.gpu, (keep as f32, factor as f32), seen(&x)?, changed(y)?)
    }

    fn gather_times(&self, z: &Genotypes, rows: &Rows, w: Slice, h: usize, out: SliceMut) -> Result<()> {
        shapes::gather(z, rows, h, &w, &out)?;
        let chosen = chosen(z, rows)?;
        gather::times(&self.gpu, z.memory()?, (chosen, rows.len()), seen(&w)?, h, self.single, changed(out)?)
    }

    fn gather_transposed_times(
        &self,
        z: &Genotypes,
        rows: &Rows,
        d: Slice,
        h: usize,
        snps: Range<usize>,
        accumulate: Accumulate,
        out: SliceMut,
    ) -> Result<()> {
        shapes::gather_transposed(z, rows, h, &snps, &d, &out)?;
        let chosen = chosen(z, rows)?;
        gather::transposed_times(
            &self.gpu,
            z.memory()?,
            (chosen, rows.len()),
            seen(&d)?,
            h,
            snps,
            accumulate,
            self.single,
            changed(out)?,
        )
    }

    fn product(
        &self,
        shape: Product,
        a: Slice,
        b: Slice,
        accumulate: Accumulate,
        out: SliceMut,
    ) -> Result<()> {
        shapes::product(shape, &a, &b, &out)?;
        let (a, b, mut out) = (seen(&a)?, seen(&b)?, changed(out)?);
        match &self.blas {
            Some(blas) if blas.product(&self.gpu, shape, &a, &b, accumulate, &mut out)? => Ok(()),
            _ => product::product(&self.gpu, shape, a, b, accumulate, out),
        }
    }

    fn add_row(&self, row: Slice, x: SliceMut) -> Result<()> {
        shapes::columns("add_row", row.len(), x.len())?;
        elementwise::add_row(&self.gpu, seen(&row)?, changed(x)?)
    }

    fn column_sums(&self, x: Slice, accumulate: Accumulate, out: SliceMut) -> Result<()> {
        shapes::columns("column_sums", out.len(), x.len())?;
        columns::sums(&self.gpu, seen(&x)?, accumulate, changed(out)?)
    }

    fn column_squares(&self, x: Slice, centre: Slice, out: SliceMut) -> Result<()> {
        shapes::column_squares(&x, &centre, &out)?;
        columns::squares(&self.gpu, seen(&x)?, seen(&centre)?, changed(out)?)
    }

    fn column_products(&self, x: Slice, y: Slice, accumulate: Accumulate, out: SliceMut) -> Result<()> {
        shapes::column_products(&x, &y, &out)?;
        columns::products(&self.gpu, seen(&x)?, seen(&y)?, accumulate, changed(out)?)
    }

    fn activate(&self, activation: Activation, x: Slice, out: SliceMut) -> Result<()> {
        shapes::same("activate", &x, &out)?;
        elementwise::activate(&self.gpu, activation, seen(&x)?, changed(out)?)
    }

    fn activate_backward(&self, activation: Activation, x: Slice, delta: SliceMut) -> Result<()> {
        shapes::same("activate_backward", &x, &delta)?;
        elementwise::activate_backward(&self.gpu, activation, seen(&x)?, changed(delta)?)
    }

    fn dropout(&self, rate: f64, draw: Draw, width: usize, x: SliceMut) -> Result<()> {
        shapes::columns("dropout", width, x.len())?;
        random::dropout(&self.gpu, rate, draw, width, changed(x)?)
    }

    fn divide(&self, count: f64, x: SliceMut) -> Result<()> {
        normalise::divide(&self.gpu, count, changed(x)?)
    }

    fn inverse_sd(&self, count: f64, epsilon: f64, x: SliceMut) -> Result<()> {
        normalise::inverse_sd(&self.gpu, count, epsilon, changed(x)?)
    }

    fn normalise_columns(&self, mean: Slice, inverse_sd: Slice, x: SliceMut) -> Result<()> {
        shapes::normalise_columns(&mean, &inverse_sd, &x)?;
        normalise::columns(&self.gpu, seen(&mean)?, seen(&inverse_sd)?, changed(x)?)
    }

    fn normalise_columns_backward(
        &self,
        normalised: Slice,
        scale: Slice,
        inverse_sd: Slice,
        sums: Slice,
        products: Slice,
        count: f64,
        delta: SliceMut,
    ) -> Result<()> {
        shapes::columns_backward(&normalised, [&scale, &inverse_sd, &sums, &products], &delta)?;
        let of_column = [seen(&scale)?, seen(&inverse_sd)?, seen(&sums)?, seen(&products)?];
        normalise::columns_backward(&self.gpu, seen(&normalised)?, of_column, count, changed(delta)?)
    }

    fn scale_columns(&self, x: Slice, scale: Slice, shift: Slice, out: SliceMut) -> Result<()> {
        shapes::scale_columns(&x, &scale, &shift, &out)?;
        elementwise::scale_columns(&self.gpu, seen(&x)?, seen(&scale)?, seen(&shift)?, changed(out)?)
    }

    fn normalise_rows(&self, epsilon: f64, x: SliceMut, inverse_sd: SliceMut) -> Result<()> {
        shapes::columns("normalise_rows", inverse_sd.len(), x.len())?;
        normalise::rows(&self.gpu, epsilon, changed(x)?, changed(inverse_sd)?)
    }

    fn normalise_rows_backward(
        &self,
        normalised: Slice,
        scale: Slice,
        inverse_sd: Slice,
        delta: SliceMut,
    ) -> Result<()> {
        shapes::rows_backward(&normalised, &scale, &inverse_sd, &delta)?;
        let (scale, inverse_sd) = (seen(&scale)?, seen(&inverse_sd)?);
        normalise::rows_backward(&self.gpu, seen(&normalised)?, scale, inverse_sd, changed(delta)?)
    }

    fn loss(
        &self,
        loss: Loss,
        factor: f64,
        predicted: Slice,
        observed: Slice,
        weights: Option<Slice>,
        delta: SliceMut,
        sums: SliceMut,
    ) -> Result<()> {
        let weights = weights.as_ref();
        shapes::loss([&predicted, &observed], weights, &delta, &sums)?;
        let weights = weights.map(seen).transpose()?;
        let records = (seen(&predicted)?, seen(&observed)?);
        loss::loss(&self.gpu, (loss, factor as f32), records, weights, changed(delta)?, changed(sums)?)
    }

    fn sum_of_squares(&self, x: Slice, out: SliceMut) -> Result<()> {
        shapes::single("sum_of_squares", &out)?;
        reduce::sum_of_squares(&self.gpu, seen(&x)?, changed(out)?)
    }

    fn adam(
        &self,
        adam: &Adam,
        clip: Option<Clip>,
        gradient: Slice,
        parameters: SliceMut,
        first: SliceMut,
        second: SliceMut,
    ) -> Result<()> {
        shapes::adam(&gradient, [&parameters, &first, &second])?;
        let moments = (changed(first)?, changed(second)?);
        let clip = clip.as_ref().map(|clip| Ok((clip.longest as f32, seen(&clip.squares)?))).transpose()?;
        adam::adam(&self.gpu, adam, clip, seen(&gradient)?, changed(parameters)?, moments)
    }

    fn uniforms(&self, draw: Draw, width: usize, out: SliceMut) -> Result<()> {
        shapes::columns("uniforms", width, out.len())?;
        random::uniforms(&self.gpu, draw, width, changed(out)?)
    }

    fn normals(&self, draw: Draw, width: usize, out: SliceMut) -> Result<()> {
        shapes::columns("normals", width, out.len())?;
        random::normals(&self.gpu, draw, width, changed(out)?)
    }
}

/// The rows, if the genotypes have them all.
fn chosen<'a>(z: &Genotypes, rows: &'a Rows) -> Result<&'a Memory<u32>> {
    let chosen = rows.memory::<Chosen>()?;
    named(z, chosen.largest.as_slice())?;
    Ok(&chosen.rows)
}
