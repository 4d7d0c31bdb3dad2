//! Genotypes on the GPU, packed as `kernels/decode.cuh` reads them.

use super::gpu::{Gpu, Memory};
use crate::device::{Coding, CHUNK};
use crate::error::Result;
use crate::packed::{Packed, PER_BYTE};

/// Bytes that hold the codes of one chunk.
const CHUNK_BYTES: usize = CHUNK / PER_BYTE;
/// Bytes that are copied to the GPU at a time.
const BAND: usize = 64 << 20;

/// Packed genotypes (n, m) and what their codes stand for.
pub(super) struct Held {
    /// (n, pitch): rows filled up to whole chunks with missing calls.
    pub(super) codes: Memory<u8>,
    /// (whole chunks of SNPs, 4): zeros behind the last SNP.
    pub(super) table: Memory<f64>,
    /// The same for networks.
    pub(super) values: Values,
    pub(super) n: usize,
    pub(super) m: usize,
}

impl Held {
    pub(super) fn new(gpu: &Gpu, packed: &Packed, coding: &[Coding]) -> Result<Held> {
        let (n, m) = (packed.rows(), packed.columns());
        let (pitch, stride) = (m.div_ceil(CHUNK) * CHUNK_BYTES, packed.stride());
        let mut codes = gpu.fresh(n * pitch)?;
        let rows_at_once = (BAND / pitch.max(1)).clamp(1, n.max(1));
        let mut band = vec![0xFFu8; if m > 0 { rows_at_once * pitch } else { 0 }];
        for first in (0..n).step_by(rows_at_once).take_while(|_| m > 0) {
            let rows = rows_at_once.min(n - first);
            let source = packed.bytes()[first * stride..(first + rows) * stride].chunks_exact(stride);
            band.chunks_exact_mut(pitch)
                .zip(source)
                .for_each(|(to, from)| to[..stride].copy_from_slice(from));
            gpu.write(&band[..rows * pitch], &mut codes, first * pitch)?;
        }
        let mut table = vec![0.0; m.div_ceil(CHUNK) * CHUNK * 4];
        table.chunks_exact_mut(4).zip(coding).for_each(|(to, from)| to.copy_from_slice(from));
        let values = Values::new(gpu, &table)?;
        Ok(Held { codes, table: gpu.upload(&table)?, values, n, m })
    }

    /// Chunks of SNPs.
    pub(super) fn chunks(&self) -> usize {
        self.m.div_ceil(CHUNK)
    }

    /// Bytes from one row to the next.
    pub(super) fn pitch(&self) -> usize {
        self.chunks() * CHUNK_BYTES
    }
}

/// What codes stand for in products of networks, in single precision.
pub(super) struct Values {
    /// (whole chunks of SNPs, 4).
    pub(super) table: Memory<f32>,
    /// Scale and shift of each SNP that make Z of the table's values; none where these are Z.
    pub(super) affine: Option<(Memory<f32>, Memory<f32>)>,
}

impl Values {
    /// Z = s (x − c) of counts x has short numbers x − r, r the 128th nearest to c, of which bfloat16 holds all bits.
    fn new(gpu: &Gpu, table: &[f64]) -> Result<Values> {
        let affine: Option<Vec<_>> = table.chunks_exact(4).map(Line::of).collect();
        let Some(lines) = affine else {
            let values: Vec<f32> = table.iter().map(|&z| z as f32).collect();
            return Ok(Values { table: gpu.upload(&values)?, affine: None });
        };
        let values: Vec<f32> = lines.iter().flat_map(Line::values).map(|z| z as f32).collect();
        let [scale, shift]: [Vec<f32>; 2] = [
            lines.iter().map(|line| line.scale as f32).collect(),
            lines.iter().map(|line| (-line.scale * line.rest()) as f32).collect(),
        ];
        Ok(Values { table: gpu.upload(&values)?, affine: Some((gpu.upload(&scale)?, gpu.upload(&shift)?)) })
    }
}

/// A coding `scale` (x − centre) of counts x, where a missing call is the centre, between 0 and 2.
#[derive(Debug, PartialEq)]
struct Line {
    scale: f64,
    centre: f64,
}

impl Line {
    fn of(z: &[f64]) -> Option<Line> {
        let scale = (z[2] - z[0]) / 2.0;
        let centre = if scale == 0.0 { 0.0 } else { -z[0] / scale };
        let size = z[0].abs() + z[1].abs() + z[2].abs();
        let straight = (z[0] + scale - z[1]).abs() <= 1e-12 * size && z[3] == 0.0;
        (straight && (scale != 0.0 || size == 0.0) && (0.0..=2.0).contains(&centre))
            .then_some(Line { scale, centre })
    }

    /// The centre, short.
    fn near(&self) -> f64 {
        (self.centre * 128.0).round() / 128.0
    }

    /// What the short one leaves of it.
    fn rest(&self) -> f64 {
        self.centre - self.near()
    }

    fn values(&self) -> [f64; 4] {
        let near = self.near();
        [-near, 1.0 - near, 2.0 - near, self.rest()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings_on_a_line_through_counts_are_found() {
        let found = Line::of(&[-0.75, 0.25, 1.25, 0.0]).unwrap();
        assert_eq!((found.scale, found.centre, found.rest()), (1.0, 0.75, 0.0));
        assert_eq!(found.values(), [-0.75, 0.25, 1.25, 0.0]);
        let (scale, centre) = (1.7, 0.2367);
        let line = Line::of(
            &[0.0, 1.0, 2.0].map(|x| scale * (x - centre)).into_iter().chain([0.0]).collect::<Vec<_>>(),
        );
        let line = line.unwrap();
        for (x, short) in line.values().into_iter().enumerate().take(3) {
            assert_eq!(f64::from(f32::from_bits((short as f32).to_bits() & 0xFFFF_0000)), short);
            assert!((line.scale * (short - line.rest()) - scale * (x as f64 - centre)).abs() < 1e-15 * 4.0);
        }
        assert_eq!(Line::of(&[0.0; 4]), Some(Line { scale: 0.0, centre: 0.0 }));
        // a bend, a missing call that counts, a centre that is no count's mean, one value for all
        for other in
            [[-0.5, 0.0, 1.5, 0.0], [-1.0, 0.0, 1.0, 0.1], [1.0, 2.0, 3.0, 0.0], [1.0, 1.0, 1.0, 0.0]]
        {
            assert_eq!(Line::of(&other), None, "{other:?}");
        }
    }
}
