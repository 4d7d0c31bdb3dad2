//! Animals that go through a network together.

use crate::device::network::{Network, Rows, Values};
use crate::device::Genotypes;
use crate::error::Result;
use std::ops::Range;

/// What a network reads.
#[derive(Clone, Copy)]
pub enum Input<'a> {
    /// This rank's SNPs of all animals, packed.
    Genotypes(&'a Genotypes),
    /// A matrix of this many columns, row-major, in the host's memory: (animals, columns).
    Dense(&'a [f64], usize),
}

/// The inputs of a piece, in the device's memory.
pub(super) enum Read {
    Genotypes(Rows),
    Dense(Values),
}

/// Animals whose sums over rows are added up by themselves.
pub(super) struct Piece {
    /// Rows of this rank's buffers.
    pub rows: Range<usize>,
    /// Row of the whole batch at which it begins.
    pub first: usize,
    pub read: Read,
}

/// This rank's part of a batch.
pub struct Batch<'a> {
    pub(super) input: Input<'a>,
    pub(super) pieces: Vec<Piece>,
    /// Animals in the whole batch.
    pub(super) count: usize,
}

impl<'a> Batch<'a> {
    /// The animals `whole[r]` for each run of places `r` in `pieces`. The pieces of all ranks together are `whole`.
    pub fn new(
        device: &dyn Network,
        input: Input<'a>,
        whole: &[usize],
        pieces: &[Range<usize>],
    ) -> Result<Batch<'a>> {
        let mut rows = 0;
        let mut made = Vec::new();
        for piece in pieces {
            let animals = &whole[piece.clone()];
            let read = match input {
                Input::Genotypes(_) => {
                    let animals: Vec<u32> =
                        animals.iter().map(|&i| u32::try_from(i).expect("fewer than 2^32 animals")).collect();
                    Read::Genotypes(device.rows(&animals)?)
                }
                Input::Dense(x, columns) => {
                    let chosen: Vec<f64> =
                        animals.iter().flat_map(|&i| &x[i * columns..(i + 1) * columns]).copied().collect();
                    let mut read = device.values(chosen.len())?;
                    device.write(&chosen, read.whole_mut())?;
                    Read::Dense(read)
                }
            };
            made.push(Piece { rows: rows..rows + animals.len(), first: piece.start, read });
            rows += animals.len();
        }
        Ok(Batch { input, pieces: made, count: whole.len() })
    }

    /// Animals of this rank.
    pub fn rows(&self) -> usize {
        self.pieces.last().map_or(0, |p| p.rows.end)
    }
}

/// The records of this rank's part of a batch: (rows, t).
pub struct Records {
    pub(super) observed: Values,
    pub(super) weights: Option<Values>,
    /// 1 / the weights of all records of the whole batch together.
    pub(super) factor: f64,
}

impl Records {
    /// Records, NaN where missing, and their weights, row-major (rows, t); `total` is the sum of the weights of all
    /// records of the whole batch.
    pub fn new(
        device: &dyn Network,
        observed: &[f64],
        weights: Option<&[f64]>,
        total: f64,
    ) -> Result<Records> {
        let upload = |from: &[f64]| -> Result<Values> {
            let mut to = device.values(from.len())?;
            device.write(from, to.whole_mut())?;
            Ok(to)
        };
        let factor = if total > 0.0 { 1.0 / total } else { 0.0 };
        Ok(Records { observed: upload(observed)?, weights: weights.map(upload).transpose()?, factor })
    }
}
