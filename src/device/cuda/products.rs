//! Launches of `kernels/products.cu`.

use super::compile::Source;
use super::genotypes::Held;
use super::gpu::{failed, Gpu, Memory, Shape};
use crate::error::Result;
use crate::stats::FixedPoint;

const SOURCE: Source = Source { name: "products.cu", text: include_str!("../../../kernels/products.cu") };

/// Rows of Z, or of Z', in one block's tile.
const TILE_ROWS: usize = 128;
/// SNPs or animals that are staged in shared memory at a time.
const STAGE: usize = 64;
/// Animals whose sums are made one after another are at least so many, ...
const SLAB: usize = 1024;
/// ... and at most this share of all.
const MOST_SLABS: usize = 16;

/// A kernel's name and how many columns its blocks make.
type Width = (&'static str, usize);
const TIMES: [Width; 3] = [("times_8", 8), ("times_16", 16), ("times_32", 32)];
const TRANSPOSED: [Width; 3] = [("transposed_8", 8), ("transposed_16", 16), ("transposed_32", 32)];

/// Which kernel makes which columns of `k`, in blocks of how many: the widest first, then one that holds the rest.
fn widths(kernels: &[Width; 3], k: usize) -> Vec<(Width, usize, usize)> {
    let wide = kernels[2];
    let (blocks, rest) = (k / wide.1, k % wide.1);
    let mut out = Vec::new();
    if blocks > 0 {
        out.push((wide, 0, blocks));
    }
    if let Some(narrow) = kernels.iter().find(|kernel| kernel.1 >= rest).filter(|_| rest > 0) {
        out.push((*narrow, blocks * wide.1, 1));
    }
    out
}

/// Bytes of two stages of `columns` columns and of `other` bytes.
fn stages(columns: usize, other: usize) -> usize {
    2 * (STAGE * (columns + 4) * 8 + other)
}

/// `sums (n, k) += Z V`; lengths are checked before.
pub(super) fn times(
    gpu: &Gpu,
    z: &Held,
    v: &Memory<f64>,
    points: &[FixedPoint],
    sums: &mut Memory<i64>,
) -> Result<()> {
    let k = points.len();
    if z.n == 0 || z.m == 0 || k == 0 {
        return Ok(());
    }
    let inverse: Vec<f64> = points.iter().map(|p| p.quantum().recip()).collect();
    let inverse = gpu.upload(&inverse)?;
    let rows = z.n.div_ceil(TILE_ROWS);
    for ((name, columns), first, blocks) in widths(&TIMES, k) {
        let shared = stages(columns, STAGE * 32 + TILE_ROWS * STAGE / 4);
        let each = z.chunks().div_ceil(gpu.shares(rows * blocks, z.chunks(), shared));
        let kernel = gpu.kernel(&SOURCE, name, shared)?;
        let shape = Shape { grid: [rows, blocks, z.chunks().div_ceil(each)], threads: 256, shared };
        let (pitch, n, m) = (z.pitch() as i64, z.n as i64, z.m as i64);
        let (k, first, each) = (k as i32, first as i32, each as i32);
        let mut launch = kernel.launch(gpu);
        launch.arg(&z.codes).arg(&pitch).arg(&z.table).arg(&n).arg(&m);
        launch.arg(v).arg(&k).arg(&first).arg(&inverse).arg(&each).arg(&mut *sums);
        // SAFETY: it reads n rows of `pitch` bytes, whole chunks of the table, m x k of v and k inverses, and adds to n
        // x k sums, which is what they hold.
        unsafe { launch.run(shape.config()?) }?;
    }
    Ok(())
}

/// `out (m, k) = Z' V`; lengths are checked before. The order of the sums depends on nothing but n.
pub(super) fn transposed_times(
    gpu: &Gpu,
    z: &Held,
    v: &Memory<f64>,
    k: usize,
    out: &mut Memory<f64>,
) -> Result<()> {
    if z.m == 0 || k == 0 {
        return Ok(());
    }
    if z.n == 0 {
        return gpu.stream().memset_zeros(out).map_err(|e| failed("transposed_times", e));
    }
    let slab = z.n.div_ceil(MOST_SLABS).max(SLAB).next_multiple_of(STAGE);
    let slabs = z.n.div_ceil(slab);
    if slabs == 1 {
        return transposed_slabs(gpu, z, v, k, slab, out);
    }
    let mut parts = gpu.fresh(slabs * z.m * k)?;
    transposed_slabs(gpu, z, v, k, slab, &mut parts)?;
    let kernel = gpu.kernel(&SOURCE, "add_slabs", 0)?;
    let shape = Shape { grid: [(z.m * k).div_ceil(256), 1, 1], threads: 256, shared: 0 };
    let (count, length) = (slabs as i32, (z.m * k) as i64);
    let mut launch = kernel.launch(gpu);
    launch.arg(&parts).arg(&count).arg(&length).arg(out);
    // SAFETY: it reads count x length parts and writes `length` numbers, which is what they hold.
    unsafe { launch.run(shape.config()?) }
}

/// `out (slabs, m, k)`: Z'V over the animals of each slab.
fn transposed_slabs(
    gpu: &Gpu,
    z: &Held,
    v: &Memory<f64>,
    k: usize,
    slab: usize,
    out: &mut Memory<f64>,
) -> Result<()> {
    for ((name, columns), first, blocks) in widths(&TRANSPOSED, k) {
        let shared = TILE_ROWS * 32 + stages(columns, STAGE * TILE_ROWS / 4);
        let kernel = gpu.kernel(&SOURCE, name, shared)?;
        let shape =
            Shape { grid: [z.m.div_ceil(TILE_ROWS), blocks, z.n.div_ceil(slab)], threads: 256, shared };
        let (pitch, n, m, slab) = (z.pitch() as i64, z.n as i64, z.m as i64, slab as i64);
        let (k, first) = (k as i32, first as i32);
        let mut launch = kernel.launch(gpu);
        launch.arg(&z.codes).arg(&pitch).arg(&z.table).arg(&n).arg(&m);
        launch.arg(v).arg(&k).arg(&first).arg(&slab).arg(&mut *out);
        // SAFETY: it reads n rows of `pitch` bytes, whole chunks of the table and n x k of v, and writes slabs x m x k
        // numbers, which is what they hold.
        unsafe { launch.run(shape.config()?) }?;
    }
    Ok(())
}

/// Blocks that share the rows in [`largest`], and the columns of each.
const SHARES: usize = 64;
const COLUMNS: usize = 32;

/// The largest |weight_j v_jc| of each column of `v` (m, k), `weights` (m); lengths are checked before.
pub(super) fn largest(
    gpu: &Gpu,
    weights: &Memory<f64>,
    v: &Memory<f64>,
    m: usize,
    k: usize,
) -> Result<Vec<f64>> {
    if m == 0 || k == 0 {
        return Ok(vec![0.0; k]);
    }
    let mut partial = gpu.fresh(SHARES * k)?;
    let kernel = gpu.kernel(&SOURCE, "largest", 0)?;
    let shape = Shape { grid: [k.div_ceil(COLUMNS), SHARES, 1], threads: 256, shared: 0 };
    let (rows, columns) = (m as i64, k as i32);
    let mut launch = kernel.launch(gpu);
    launch.arg(weights).arg(v).arg(&rows).arg(&columns).arg(&mut partial);
    // SAFETY: it reads m weights and m x k of v, and writes SHARES x k numbers, which is what they hold.
    unsafe { launch.run(shape.config()?) }?;
    let mut found = vec![0.0; SHARES * k];
    gpu.download(&partial, &mut found)?;
    let of_column = |c: usize| found[c..].iter().step_by(k).fold(0.0f64, |a, x| a.max(*x));
    Ok((0..k).map(of_column).collect())
}
