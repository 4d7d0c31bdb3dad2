//! The buffers of a training step.

use super::nets::{Critic, Facing, Maker};
use crate::device::network::{Network, Values};
use crate::device::Genotypes;
use crate::error::Result;
use crate::nn::stack::{Moments, Pass, Use};
use crate::nn::Ranks;
use ndarray::ArrayView2;

/// What one run of SNPs needs, for b animals of this rank.
pub(super) struct Run {
    /// The training animals' calls.
    pub held: Genotypes,
    /// Generated animals, (b, 2 SNPs).
    pub made: Values,
    /// Slopes by the classes, (b, 3 SNPs).
    pub slope: Values,
    /// Gradients of the critic's and the generator's weights, and their moments.
    pub critic: (Values, Moments),
    pub maker: (Values, Moments),
}

/// What a training step needs.
pub(super) struct Work {
    pub runs: Vec<Run>,
    pub maker: Pass,
    pub critic: Pass,
    pub maker_moments: Moments,
    pub critic_moments: Moments,
    /// Partial sums over SNPs: before the critic's first activation (2b, h), slopes by what the generator's last
    /// layer reads (b, h), squares of slopes (b); one a run of this rank, or one that counts for nothing.
    pub sums: Vec<Values>,
    pub squares: Vec<Values>,
    /// A factor for each animal, (b).
    pub factors: Values,
}

impl Work {
    /// For at most `rows` animals of this rank.
    pub fn new(
        device: &dyn Network,
        ranks: &Ranks,
        (maker, critic): (&Maker, &Critic),
        held: Vec<Genotypes>,
        rows: usize,
    ) -> Result<Work> {
        let own = ranks.snps.own().len().max(1);
        let h = maker.stack.outputs();
        let learnt = |facing: &Facing| -> Result<(Values, Moments)> {
            let length = facing.parameters().len();
            Ok((device.values(length)?, Moments::new(device, length)?))
        };
        let runs = held.into_iter().zip(maker.facing.iter().zip(&critic.facing)).map(|(held, (m, c))| {
            Ok(Run {
                held,
                made: device.values(rows * m.contrasts())?,
                slope: device.values(rows * m.width())?,
                critic: learnt(c)?,
                maker: learnt(m)?,
            })
        });
        let each = |length: usize| (0..own).map(|_| device.values(length)).collect::<Result<Vec<_>>>();
        Ok(Work {
            runs: runs.collect::<Result<_>>()?,
            maker: Pass::new(&maker.stack, Use::learn(rows))?,
            critic: Pass::new(&critic.stack, Use { rows: 3 * rows, learn: true, tangents: rows })?,
            maker_moments: Moments::new(device, maker.stack.parameters.len())?,
            critic_moments: Moments::new(device, critic.stack.parameters.len())?,
            sums: each(2 * rows * h)?,
            squares: each(rows)?,
            factors: device.values(rows)?,
        })
    }
}

/// The rows of `conditions` (n, c) that `animals` name, each number `repeat` times.
pub(super) fn repeated(
    conditions: Option<ArrayView2<f64>>,
    animals: impl Iterator<Item = usize>,
    repeat: usize,
) -> Vec<f64> {
    let Some(conditions) = conditions else { return Vec::new() };
    let mut out = Vec::new();
    for animal in animals {
        for &x in conditions.row(animal) {
            out.extend(std::iter::repeat_n(x, repeat));
        }
    }
    out
}
