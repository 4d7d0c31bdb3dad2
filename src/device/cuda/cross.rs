//! Launches of `kernels/cross.cu`.

use super::compile::Source;
use super::genotypes::Held;
use super::gpu::{Gpu, Memory, Shape};
use crate::error::Result;
use crate::stats::FixedPoint;
use std::ops::Range;

const SOURCE: Source = Source { name: "cross.cu", text: include_str!("../../../kernels/cross.cu") };

/// Animals on each side of a block's tile.
const SIDE: usize = 64;
/// SNPs that are staged in shared memory at a time.
const STAGE: usize = 64;

/// `sums (a, b) += Z_a Z_b'`; sizes are checked before.
pub(super) fn cross(
    gpu: &Gpu,
    z: &Held,
    a: Range<usize>,
    b: Range<usize>,
    point: FixedPoint,
    sums: &mut Memory<i64>,
) -> Result<()> {
    if z.m == 0 || a.is_empty() || b.is_empty() {
        return Ok(());
    }
    let (down, right) = (a.len().div_ceil(SIDE), b.len().div_ceil(SIDE));
    let shared = 2 * (STAGE * 32 + 2 * SIDE * STAGE / 4);
    let each = z.chunks().div_ceil(gpu.shares(down * right, z.chunks(), shared));
    let kernel = gpu.kernel(&SOURCE, "cross", shared)?;
    let shape = Shape { grid: [right, down, z.chunks().div_ceil(each)], threads: 256, shared };
    let ends = [a.start, a.end, b.start, b.end].map(|end| end as i64);
    let (pitch, inverse, each) = (z.pitch() as i64, point.quantum().recip(), each as i32);
    let mut launch = kernel.launch(gpu);
    launch.arg(&z.codes).arg(&pitch).arg(&z.table);
    ends.iter().for_each(|end| {
        launch.arg(end);
    });
    launch.arg(&inverse).arg(&each).arg(sums);
    // SAFETY: it reads rows of `pitch` bytes below the ends, which are at most n, and whole chunks of the table, and
    // adds to a x b sums, which is what they hold.
    unsafe { launch.run(shape.config()?) }
}
