//! Genotypes on the card, packed as `kernels/decode.cuh` reads them.

use super::card::{Card, Memory};
use crate::device::{Coding, CHUNK};
use crate::error::Result;
use crate::packed::{Packed, PER_BYTE};

/// Bytes that hold the codes of one chunk.
const CHUNK_BYTES: usize = CHUNK / PER_BYTE;
/// Bytes that are copied to the card at a time.
const BAND: usize = 64 << 20;

/// Packed genotypes (n, m) and what their codes stand for.
pub(super) struct Held {
    /// (n, pitch): rows filled up to whole chunks with missing calls.
    pub(super) codes: Memory<u8>,
    /// (whole chunks of SNPs, 4): zeros behind the last SNP.
    pub(super) table: Memory<f64>,
    /// The same in single precision, for networks.
    pub(super) values: Memory<f32>,
    pub(super) n: usize,
    pub(super) m: usize,
}

impl Held {
    pub(super) fn new(card: &Card, packed: &Packed, coding: &[Coding]) -> Result<Held> {
        let (n, m) = (packed.rows(), packed.columns());
        let (pitch, stride) = (m.div_ceil(CHUNK) * CHUNK_BYTES, packed.stride());
        let mut codes = card.fresh(n * pitch)?;
        let rows_at_once = (BAND / pitch.max(1)).clamp(1, n.max(1));
        let mut band = vec![0xFFu8; if m > 0 { rows_at_once * pitch } else { 0 }];
        for first in (0..n).step_by(rows_at_once).take_while(|_| m > 0) {
            let rows = rows_at_once.min(n - first);
            let source = packed.bytes()[first * stride..(first + rows) * stride].chunks_exact(stride);
            band.chunks_exact_mut(pitch)
                .zip(source)
                .for_each(|(to, from)| to[..stride].copy_from_slice(from));
            card.write(&band[..rows * pitch], &mut codes, first * pitch)?;
        }
        let mut table = vec![0.0; m.div_ceil(CHUNK) * CHUNK * 4];
        table.chunks_exact_mut(4).zip(coding).for_each(|(to, from)| to.copy_from_slice(from));
        let values: Vec<f32> = table.iter().map(|&z| z as f32).collect();
        Ok(Held { codes, table: card.upload(&table)?, values: card.upload(&values)?, n, m })
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
