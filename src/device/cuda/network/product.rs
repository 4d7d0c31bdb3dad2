//! Launches of `kernels/product.cu`.

use super::{fours, View, ViewMut};
use crate::device::cuda::compile::Source;
use crate::device::cuda::gpu::{Gpu, Memory, Shape};
use crate::device::cuda::launch::Launch;
use crate::device::network::{Accumulate, Product};
use crate::error::Result;
use cudarc::driver::DevicePtr;

const SOURCE: Source = Source { name: "product.cu", text: include_str!("../../../../kernels/product.cu") };

/// Inner size and number of stages in shared memory.
const DEPTH: usize = 16;
const STAGES: usize = 3;
/// So many blocks fill any GPU; with fewer, tiles are smaller and the inner size is split.
const BLOCKS: usize = 256;
/// Inner size of a slab at least ...
const SLAB: usize = 256;
/// ... and at most, so that rounding does not pile up in one running sum.
const MOST_SLAB: usize = 8192;

/// Numbers of an operand of which a padded copy pays: 1 MiB.
const LARGE: usize = 1 << 18;

/// How a product is shared out; depends on nothing but its shape.
struct Plan {
    /// Of a tile.
    side: usize,
    /// Inner size of each of the slabs.
    slab: usize,
    slabs: usize,
}

impl Plan {
    fn of(shape: Product) -> Plan {
        let tiles = |side: usize| shape.m.div_ceil(side) * shape.n.div_ceil(side);
        let side = if tiles(128) >= BLOCKS / 2 { 128 } else { 64 };
        let most = (shape.k / SLAB).max(1);
        let slabs = (BLOCKS / tiles(side)).clamp(1, most).max(shape.k.div_ceil(MOST_SLAB));
        let slab = shape.k.div_ceil(slabs).next_multiple_of(DEPTH).max(DEPTH);
        Plan { side, slab, slabs: shape.k.div_ceil(slab).max(1) }
    }

    /// The kernel's name.
    fn kernel(&self, shape: Product) -> &'static str {
        let names = match self.side {
            128 => ["product_128_nn", "product_128_nt", "product_128_tn", "product_128_tt"],
            _ => ["product_64_nn", "product_64_nt", "product_64_tn", "product_64_tt"],
        };
        names[usize::from(shape.a_transposed) * 2 + usize::from(shape.b_transposed)]
    }

    /// Bytes of a block's shared memory: stages of both operands, in lines with a pad.
    fn shared(&self, shape: Product) -> usize {
        let floats = |deep: bool| if deep { self.side * (DEPTH + 4) } else { DEPTH * (self.side + 8) };
        STAGES * (floats(!shape.a_transposed) + floats(shape.b_transposed)) * 4
    }
}

/// `out (m, n) = op(A) op(B)`; lengths are checked before.
pub(super) fn product(
    gpu: &Gpu,
    shape: Product,
    a: View,
    b: View,
    accumulate: Accumulate,
    out: ViewMut,
) -> Result<()> {
    match out.len() {
        0 => Ok(()),
        _ => by(gpu, (shape, &Plan::of(shape)), a, b, accumulate, out),
    }
}

fn by(
    gpu: &Gpu,
    (shape, plan): (Product, &Plan),
    a: View,
    b: View,
    accumulate: Accumulate,
    mut out: ViewMut,
) -> Result<()> {
    if plan.slabs == 1 {
        return slabs(gpu, (shape, plan), &a, &b, accumulate, &mut out);
    }
    let mut parts = gpu.fresh::<f32>(plan.slabs * out.len())?;
    slabs(gpu, (shape, plan), &a, &b, Accumulate::Overwrite, &mut parts.as_view_mut())?;
    fold(gpu, &parts, plan.slabs, accumulate, out)
}

/// `out` = or += the sum of `count` parts of its length, in order.
pub(super) fn fold(
    gpu: &Gpu,
    parts: &Memory<f32>,
    count: usize,
    accumulate: Accumulate,
    mut out: ViewMut,
) -> Result<()> {
    let Some(config) = fours(out.len())? else { return Ok(()) };
    let (count, accumulate, length) =
        (count as i32, i32::from(accumulate == Accumulate::Add), out.len() as i64);
    let kernel = gpu.kernel(&SOURCE, "fold_slabs", 0)?;
    let mut launch = kernel.launch(gpu);
    launch.arg(parts).arg(&count).arg(&accumulate).arg(&mut out).arg(&length);
    // SAFETY: the parts are (count, length), and out holds `length` numbers.
    unsafe { launch.run(config) }
}

/// `out (slabs, m, n)`: the product over each slab of the inner size.
fn slabs(
    gpu: &Gpu,
    (shape, plan): (Product, &Plan),
    a: &View,
    b: &View,
    accumulate: Accumulate,
    out: &mut ViewMut,
) -> Result<()> {
    let (name, shared) = (plan.kernel(shape), plan.shared(shape));
    let grid = [shape.n.div_ceil(plan.side), shape.m.div_ceil(plan.side), plan.slabs];
    let config = Shape { grid, threads: 256, shared }.config()?;
    let sizes = [shape.m, shape.n, shape.k, plan.slab].map(|size| size as i64);
    let a = Lines::of(gpu, a, if shape.a_transposed { shape.m } else { shape.k })?;
    let b = Lines::of(gpu, b, if shape.b_transposed { shape.k } else { shape.n })?;
    let (wide, accumulate) =
        (i32::from(a.wide) | i32::from(b.wide) << 1, i32::from(accumulate == Accumulate::Add));
    let kernel = gpu.kernel(&SOURCE, name, shared)?;
    let mut launch = kernel.launch(gpu);
    a.give(&mut launch);
    b.give(&mut launch);
    sizes.iter().for_each(|size| {
        launch.arg(size);
    });
    launch.arg(&wide).arg(&accumulate).arg(out);
    // SAFETY: A holds m x k numbers, B k x n, and out slabs x m x n; accesses of 16 bytes are asked for only where
    // `wide` says that they are aligned.
    unsafe { launch.run(config) }
}

/// An operand as kernels read it.
struct Lines<'a> {
    view: &'a View<'a>,
    /// A copy in lines of whole fours.
    padded: Option<Memory<f32>>,
    pitch: i64,
    wide: bool,
}

impl<'a> Lines<'a> {
    /// In lines of `width` numbers. Of a large one whose lines are no whole fours a padded copy is made once, or each tile
    /// would fetch four times as many pieces.
    fn of(gpu: &Gpu, view: &'a View<'a>, width: usize) -> Result<Lines<'a>> {
        let wide = wide(gpu, view, width);
        if wide || view.len() < LARGE {
            return Ok(Lines { view, padded: None, pitch: width as i64, wide });
        }
        let (lines, pitch) = (view.len() / width, width.next_multiple_of(4));
        let mut padded = gpu.fresh::<f32>(lines * pitch)?;
        let shape = Shape { grid: [(lines * pitch / 4).div_ceil(256), 1, 1], threads: 256, shared: 0 };
        let config = shape.config()?;
        let kernel = gpu.kernel(&SOURCE, "pad", 0)?;
        let [lines, width, pitch] = [lines, width, pitch].map(|size| size as i64);
        let mut launch = kernel.launch(gpu);
        launch.arg(view).arg(&lines).arg(&width).arg(&pitch).arg(&mut padded);
        // SAFETY: the view is (lines, width), the copy (lines, pitch).
        unsafe { launch.run(config) }?;
        Ok(Lines { view, padded: Some(padded), pitch, wide: true })
    }

    /// The next arguments of a launch.
    fn give<'b>(&'b self, launch: &mut Launch<'b>) {
        match &self.padded {
            Some(padded) => launch.arg(padded),
            None => launch.arg(self.view),
        };
        launch.arg(&self.pitch);
    }
}

/// Whether lines of `pitch` numbers begin on borders of 16 bytes.
pub(super) fn wide(gpu: &Gpu, view: &View, pitch: usize) -> bool {
    let (address, _guard) = view.device_ptr(gpu.stream());
    pitch.is_multiple_of(4) && address.is_multiple_of(16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cuda::network::{changed, seen};
    use crate::device::cuda::{count, Cuda};
    use crate::device::network::Network;
    use crate::rng::{Purpose, Stream};

    #[test]
    fn shapes_fill_a_gpu_and_slabs_cover_the_inner_size() {
        for (m, n, k, side) in
            [(1, 1, 0, 64), (128, 33, 256, 64), (1024, 512, 50_000, 64), (4096, 4096, 64, 128)]
        {
            let plan = Plan::of(Product { m, n, k, a_transposed: false, b_transposed: false });
            assert_eq!(plan.side, side, "{m} {n} {k}");
            assert!(plan.slab.is_multiple_of(DEPTH) && plan.slab <= MOST_SLAB);
            assert!(plan.slabs * plan.slab >= k && (plan.slabs - 1) * plan.slab <= k);
        }
    }

    /// The test body of all backends has no shape so large that it takes each kernel.
    #[test]
    fn every_kernel_gives_the_product() {
        if count() == 0 {
            println!("no GPU and nothing that stands for one");
            return;
        }
        let cuda = Cuda::open(0, false).unwrap();
        let numbers = |length: usize, index: u64| -> Vec<f32> {
            let mut s = Stream::new(6, Purpose::Test, index);
            (0..length).map(|_| s.normal() as f32).collect()
        };
        // lines of whole fours, and not
        for (m, n, k) in [(132, 136, 72), (129, 131, 35)] {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            for (at, side) in (0..8).map(|case| (case % 4, if case < 4 { 64 } else { 128 })) {
                let shape = Product { m, n, k, a_transposed: at / 2 == 1, b_transposed: at % 2 == 1 };
                let of_a = |i: usize, l: usize| a[if shape.a_transposed { l * m + i } else { i * k + l }];
                let of_b = |l: usize, j: usize| b[if shape.b_transposed { j * k + l } else { l * n + j }];
                let cases = [(80, Accumulate::Add), (32, Accumulate::Overwrite), (16, Accumulate::Add)];
                let (slab, accumulate) = cases[(at + side / 64) % cases.len()];
                let plan = Plan { side, slab, slabs: k.div_ceil(slab) };
                let [va, vb, mut vc] = [&a, &b, &vec![1.0; m * n]].map(|values| {
                    let mut there = cuda.values(values.len()).unwrap();
                    cuda.write_singles(values, there.whole_mut()).unwrap();
                    there
                });
                let (a, b) = (seen(&va.whole()).unwrap(), seen(&vb.whole()).unwrap());
                by(&cuda.gpu, (shape, &plan), a, b, accumulate, changed(vc.whole_mut()).unwrap()).unwrap();
                let mut found = vec![0.0; m * n];
                cuda.read(vc.whole(), &mut found).unwrap();
                for (at, found) in found.iter().enumerate() {
                    let terms = (0..k).map(|l| f64::from(of_a(at / n, l)) * f64::from(of_b(l, at % n)));
                    let (sum, size) = terms.fold((0.0, 0.0), |(s, z), t| (s + t, z + t.abs()));
                    let wanted = if accumulate == Accumulate::Add { 1.0 + sum } else { sum };
                    // What is dropped of each term and the rounding of the running sums, 2⁻²³ each.
                    let most = (k + 8) as f64 * f64::from(f32::EPSILON) * (1.0 + size);
                    assert!(
                        (found - wanted).abs() <= most,
                        "{shape:?} {side} {slab} [{at}]: {found} {wanted}"
                    );
                }
            }
        }
    }

    #[test]
    fn large_operands_of_odd_lines_give_the_product() {
        if count() == 0 {
            println!("no GPU and nothing that stands for one");
            return;
        }
        let cuda = Cuda::open(0, false).unwrap();
        for (m, n, k) in [(1101, 5, 241), (5, 1101, 241)] {
            assert!(m.max(n) * k > LARGE);
            let mut s = Stream::new(6, Purpose::Test, m as u64);
            let mut numbers =
                |length: usize| -> Vec<f32> { (0..length).map(|_| s.below(9) as f32).collect() };
            let (a, b) = (numbers(m * k), numbers(k * n));
            let [va, vb] = [&a, &b].map(|values| {
                let mut there = cuda.values(values.len()).unwrap();
                cuda.write_singles(values, there.whole_mut()).unwrap();
                there
            });
            for (a_transposed, b_transposed) in [(false, false), (true, false), (false, true), (true, true)] {
                let shape = Product { m, n, k, a_transposed, b_transposed };
                let mut out = cuda.values(m * n).unwrap();
                cuda.product(shape, va.whole(), vb.whole(), Accumulate::Overwrite, out.whole_mut()).unwrap();
                let mut found = vec![0.0; m * n];
                cuda.read(out.whole(), &mut found).unwrap();
                for (at, found) in found.iter().enumerate() {
                    let (i, j) = (at / n, at % n);
                    let of_a = |l: usize| a[if a_transposed { l * m + i } else { i * k + l }];
                    let of_b = |l: usize| b[if b_transposed { j * k + l } else { l * n + j }];
                    // Small whole numbers: exact.
                    let wanted: f32 = (0..k).map(|l| of_a(l) * of_b(l)).sum();
                    assert_eq!(*found, f64::from(wanted), "{shape:?} [{at}]");
                }
            }
        }
    }

    /// Tensor cores cut off what they add up: a running sum of theirs is 5e-5 too small here.
    #[test]
    fn one_slab_of_terms_of_one_sign_has_single_precision() {
        if count() == 0 {
            println!("no GPU and nothing that stands for one");
            return;
        }
        let cuda = Cuda::open(0, false).unwrap();
        let (m, n, k) = (5, 6, 4096);
        let numbers = |length: usize, index: u64| -> Vec<f32> {
            let mut s = Stream::new(6, Purpose::Test, index);
            (0..length).map(|_| s.normal().abs() as f32 + 0.5).collect()
        };
        let (a, b) = (numbers(m * k, 3), numbers(k * n, 4));
        let [va, vb, mut vc] = [&a, &b, &vec![0.0; m * n]].map(|values| {
            let mut there = cuda.values(values.len()).unwrap();
            cuda.write_singles(values, there.whole_mut()).unwrap();
            there
        });
        let shape = Product { m, n, k, a_transposed: false, b_transposed: false };
        for side in [64, 128] {
            let plan = Plan { side, slab: k, slabs: 1 };
            let (a_there, b_there) = (seen(&va.whole()).unwrap(), seen(&vb.whole()).unwrap());
            let out = changed(vc.whole_mut()).unwrap();
            by(&cuda.gpu, (shape, &plan), a_there, b_there, Accumulate::Overwrite, out).unwrap();
            let mut found = vec![0.0; m * n];
            cuda.read(vc.whole(), &mut found).unwrap();
            for (at, found) in found.iter().enumerate() {
                let term = |l: usize| f64::from(a[at / n * k + l]) * f64::from(b[l * n + at % n]);
                let wanted: f64 = (0..k).map(term).sum();
                assert!((found - wanted).abs() <= 4e-6 * wanted, "{side} [{at}]: {found}, wanted {wanted}");
            }
        }
    }
}
