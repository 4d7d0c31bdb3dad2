//! Launches of `kernels/counts.cu`.

use super::card::{failed, Card, Shape};
use super::compile::Source;
use super::genotypes::Held;
use crate::device::Part;
use crate::error::Result;
use cudarc::driver::PushKernelArg;
use std::ops::Range;

const SOURCE: Source = Source { name: "counts.cu", text: include_str!("../../../kernels/counts.cu") };

/// Animals on each side of a block's tile.
const SIDE: usize = 128;
/// Bytes of a row of codes in shared memory: a chunk and a gap.
const ROW: usize = 80;
/// Counts that are made at a time before they leave the card.
const BAND: usize = 64 << 20;

/// `out (a, b) = X_a X_b'`; sizes are checked before.
pub(super) fn counts(
    card: &Card,
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
    let mut tile = card.zeros::<i32>(rows_at_once * b.len())?;
    let shared = 2 * 2 * SIDE * ROW;
    let kernel = card.kernel(&SOURCE, "counts", shared)?;
    for first in a.clone().step_by(rows_at_once) {
        let rows = first..(first + rows_at_once).min(a.end);
        let shape =
            Shape { grid: [b.len().div_ceil(SIDE), rows.len().div_ceil(SIDE), 1], threads: 128, shared };
        let ends = [rows.start, rows.end, b.start, b.end].map(|end| end as i64);
        let (pitch, lower) = (z.pitch() as i64, i32::from(part == Part::Lower));
        let mut launch = card.stream().launch_builder(&kernel);
        launch.arg(&z.codes).arg(&pitch);
        ends.iter().for_each(|end| {
            launch.arg(end);
        });
        launch.arg(&lower).arg(&mut tile);
        // SAFETY: the arguments are those of the kernel in number and kind; it reads rows of `pitch` bytes below
        // the ends, which are at most n, and writes rows x columns counts, which the tile holds.
        unsafe { launch.launch(shape.config()?) }.map_err(|e| failed("counts", e))?;
        let at = (first - a.start) * b.len();
        card.download(&tile, &mut out[at..at + rows.len() * b.len()])?;
    }
    Ok(())
}
