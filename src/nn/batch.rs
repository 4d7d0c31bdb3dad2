//! Animals that go through a network together.

use super::features::Encoded;
use crate::device::network::{Network, Rows, Values};
use crate::device::Genotypes;
use crate::error::Result;
use std::ops::Range;

/// What a network is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// To learn: dropout, and normalisation by the batch itself, whose moments the running ones follow.
    Train {
        /// The user's seed.
        seed: u64,
        /// Number of the training step.
        step: u64,
    },
    /// To predict: no dropout, normalisation by running moments.
    Predict,
}

/// What a network of animals reads.
#[derive(Clone, Copy)]
pub enum Input<'a> {
    /// This rank's SNPs of all animals, packed, and features beside them.
    Genotypes(&'a Genotypes, Option<&'a Encoded>),
    /// A matrix of this many columns, row-major, in the host's memory: (animals, columns).
    Dense(&'a [f64], usize),
}

/// Rows whose sums over rows are added up by themselves.
pub(super) struct Piece {
    /// Rows of this rank's buffers.
    pub rows: Range<usize>,
    /// Row of the whole batch at which it begins.
    pub first: usize,
    /// The animals whose SNPs are read.
    pub animals: Option<Rows>,
}

/// This rank's part of a batch.
pub struct Batch<'a> {
    pub(super) genotypes: Option<&'a Genotypes>,
    pub(super) pieces: Vec<Piece>,
    /// Numbers of each row, which a network reads beside SNPs or alone.
    pub(super) numbers: Vec<f64>,
    /// Rows of the whole batch.
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
        let own = || pieces.iter().flat_map(|piece| &whole[piece.clone()]).copied();
        let (genotypes, numbers) = match input {
            Input::Genotypes(z, features) => {
                let beside = features.filter(|f| f.width() > 0);
                (Some(z), beside.map_or_else(Vec::new, |f| f.rows(&own().collect::<Vec<_>>())))
            }
            Input::Dense(x, columns) => {
                (None, own().flat_map(|i| &x[i * columns..(i + 1) * columns]).copied().collect())
            }
        };
        let mut made: Vec<Piece> = Vec::new();
        for piece in pieces {
            let start = made.last().map_or(0, |p| p.rows.end);
            let number = |&i: &usize| u32::try_from(i).expect("fewer than 2^32 animals");
            let animals: Vec<u32> = whole[piece.clone()].iter().map(number).collect();
            let animals = genotypes.map(|_| device.rows(&animals)).transpose()?;
            made.push(Piece { rows: start..start + piece.len(), first: piece.start, animals });
        }
        Ok(Batch { genotypes, pieces: made, numbers, count: whole.len() })
    }

    /// This rank's `rows` of `count` rows that are in the buffers of a network already.
    pub fn of_rows(rows: usize, count: usize) -> Batch<'static> {
        let piece = Piece { rows: 0..rows, first: 0, animals: None };
        Batch { genotypes: None, pieces: vec![piece], numbers: Vec::new(), count }
    }

    /// Rows of this rank.
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
