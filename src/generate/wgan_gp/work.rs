//! The buffers of a training step.

use super::nets::{Critic, GeneratorNet, SnpLayer};
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
    pub generator: (Values, Moments),
}

/// What a training step needs.
pub(super) struct Work {
    pub runs: Vec<Run>,
    pub generator: Pass,
    pub critic: Pass,
    pub generator_moments: Moments,
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
        (generator, critic): (&GeneratorNet, &Critic),
        held: Vec<Genotypes>,
        rows: usize,
    ) -> Result<Work> {
        let own = ranks.snps.own().len().max(1);
        let h = generator.stack.outputs();
        let learnt = |snp_layer: &SnpLayer| -> Result<(Values, Moments)> {
            let length = snp_layer.parameters().len();
            Ok((device.values(length)?, Moments::new(device, length)?))
        };
        let runs =
            held.into_iter().zip(generator.snp_layer.iter().zip(&critic.snp_layer)).map(|(held, (m, c))| {
                Ok(Run {
                    held,
                    made: device.values(rows * m.contrasts())?,
                    slope: device.values(rows * m.width())?,
                    critic: learnt(c)?,
                    generator: learnt(m)?,
                })
            });
        let each = |length: usize| (0..own).map(|_| device.values(length)).collect::<Result<Vec<_>>>();
        Ok(Work {
            runs: runs.collect::<Result<_>>()?,
            generator: Pass::new(&generator.stack, Use::learn(rows))?,
            critic: Pass::new(&critic.stack, Use { tangents: rows, ..Use::learn(3 * rows) })?,
            generator_moments: Moments::new(device, generator.stack.parameters.len())?,
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
