//! Animals that go through a network together.

use super::features::Encoded;
use crate::device::network::{Network, Rows, Values};
use crate::device::Genotypes;
use crate::error::Result;
use std::ops::Range;

/// What a network reads.
#[derive(Clone, Copy)]
pub enum Input<'a> {
    /// This rank's SNPs of all animals, packed, and features beside them.
    Genotypes(&'a Genotypes, Option<&'a Encoded>),
    /// A matrix of this many columns, row-major, in the host's memory: (animals, columns).
    Dense(&'a [f64], usize),
}

/// The inputs of a piece, in the device's memory.
pub(super) enum Read {
    Genotypes(Rows, Option<Values>),
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
                Input::Genotypes(_, features) => {
                    let upload = |features: &Encoded| upload(device, &features.rows(animals));
                    let beside = features.filter(|f| f.width() > 0).map(upload).transpose()?;
                    let animals: Vec<u32> =
                        animals.iter().map(|&i| u32::try_from(i).expect("fewer than 2^32 animals")).collect();
                    Read::Genotypes(device.rows(&animals)?, beside)
                }
                Input::Dense(x, columns) => {
                    let chosen: Vec<f64> =
                        animals.iter().flat_map(|&i| &x[i * columns..(i + 1) * columns]).copied().collect();
                    Read::Dense(upload(device, &chosen)?)
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

fn upload(device: &dyn Network, from: &[f64]) -> Result<Values> {
    let mut to = device.values(from.len())?;
    device.write(from, to.whole_mut())?;
    Ok(to)
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
        let upload = |from: &[f64]| upload(device, from);
        let factor = if total > 0.0 { 1.0 / total } else { 0.0 };
        Ok(Records { observed: upload(observed)?, weights: weights.map(upload).transpose()?, factor })
    }
}
