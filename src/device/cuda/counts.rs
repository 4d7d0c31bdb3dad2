//! Launches of `kernels/counts.cu`.

use super::compile::Source;
use super::genotypes::Held;
use super::gpu::{Gpu, Memory, Shape};
use crate::device::Part;
use crate::error::Result;
use cudarc::driver::CudaEvent;
use std::ops::Range;

const SOURCE: Source = Source { name: "counts.cu", text: include_str!("../../../kernels/counts.cu") };

/// Animals on each side of a block's tile.
const SIDE: usize = 128;
/// Bytes of a row of codes in shared memory: a chunk and a gap.
const ROW: usize = 80;
/// Counts that are made at a time, while those before leave the GPU.
const BAND: usize = 16 << 20;

/// `out (a, b) = X_a X_b'`; sizes are checked before.
pub(super) fn counts(
    gpu: &Gpu,
    z: &Held,
    a: Range<usize>,
    b: Range<usize>,
    part: Part,
    out: &mut [i32],
) -> Result<()> {
    if z.m == 0 {
        out.fill(0);
        return Ok(());
    }
    if out.is_empty() {
        return Ok(());
    }
    let rows_at_once = (BAND / b.len() / SIDE * SIDE).max(SIDE).min(a.len());
    // What a kernel leaves out is at least a count.
    let zeros = || gpu.zeros::<i32>(rows_at_once * b.len());
    let mut tiles = [zeros()?, zeros()?];
    let bands = out.chunks_mut(rows_at_once * b.len()).zip(a.clone().step_by(rows_at_once));
    // The band that was made last, the tile where it stands, and when it is complete.
    let mut made: Option<(&mut [i32], usize, CudaEvent)> = None;
    for (number, (band, first)) in bands.enumerate() {
        let rows = first..(first + rows_at_once).min(a.end);
        make(gpu, z, rows, b.clone(), part, &mut tiles[number % 2])?;
        if let Some((band, tile, mark)) = made.replace((band, number % 2, gpu.mark()?)) {
            gpu.read_after(&mark, tiles[tile].slice(..band.len()), band)?;
        }
    }
    match made {
        Some((band, tile, mark)) => gpu.read_after(&mark, tiles[tile].slice(..band.len()), band),
        None => Ok(()),
    }
}

/// `tile (a, b) = X_a X_b'`. What is not wanted of it is not written.
fn make(
    gpu: &Gpu,
    z: &Held,
    a: Range<usize>,
    b: Range<usize>,
    part: Part,
    tile: &mut Memory<i32>,
) -> Result<()> {
    let shared = 2 * 2 * SIDE * ROW;
    let kernel = gpu.kernel(&SOURCE, "counts", shared)?;
    let shape = Shape { grid: [b.len().div_ceil(SIDE), a.len().div_ceil(SIDE), 1], threads: 128, shared };
    let ends = [a.start, a.end, b.start, b.end].map(|end| end as i64);
    let (pitch, lower) = (z.pitch() as i64, i32::from(part == Part::Lower));
    let mut launch = kernel.launch(gpu);
    launch.arg(&z.codes).arg(&pitch);
    ends.iter().for_each(|end| {
        launch.arg(end);
    });
    launch.arg(&lower).arg(tile);
    // SAFETY: it reads rows of `pitch` bytes below the ends, which are at most n, and writes rows x columns counts,
    // which the tile holds.
    unsafe { launch.run(shape.config()?) }
}
