//! Generator and critic: their chains, and the layers that face SNPs, in runs of SNPs.

use super::config::Network as Shape;
use crate::device::network::{Draw, Network, Onto, Product, Values, CLASSES};
use crate::error::Result;
use crate::nn::stack::Stack;
use crate::rng::Purpose;
use std::ops::Range;
use std::sync::Arc;

/// Streams of first weights: the generator's chain, its W and V that face SNPs, the critic's chain and W.
const STREAMS: [u64; 5] = [0, 1000, 1001, 2000, 3000];

/// This rank's part of a layer that faces SNPs, for one run of SNPs: a row for each class of each SNP.
pub struct Facing {
    /// The SNPs.
    pub snps: Range<usize>,
    /// W (3 SNPs, h); a generator's has V (3 SNPs, conditions) and b (3 SNPs) behind it.
    pub parameters: Values,
}

impl Facing {
    /// Classes of its SNPs.
    pub fn width(&self) -> usize {
        CLASSES * self.snps.len()
    }
}

/// Latent numbers to genotypes.
pub struct Maker {
    /// Up to the layer that faces SNPs.
    pub stack: Stack,
    /// The layer that faces SNPs.
    pub facing: Vec<Facing>,
    /// SNPs of all ranks.
    pub m: usize,
}

/// Genotypes to a judgement.
pub struct Critic {
    /// Behind the layer that faces SNPs.
    pub stack: Stack,
    /// The layer that faces SNPs.
    pub facing: Vec<Facing>,
}

/// First weights of one run of SNPs: rows of a whole matrix of `columns`.
fn first(
    device: &dyn Network,
    (seed, stream): (u64, u64),
    snps: &Range<usize>,
    (columns, variance): (usize, f64),
    to: &mut Values,
    at: usize,
) -> Result<()> {
    let length = CLASSES * snps.len() * columns;
    if length == 0 {
        return Ok(());
    }
    let mut normals = device.values(length)?;
    let draw = Draw {
        seed,
        purpose: Purpose::Weights,
        index: stream,
        first_row: (CLASSES * snps.start) as u64,
        first_column: 0,
        columns: columns as u64,
    };
    device.normals(draw, columns, normals.whole_mut())?;
    device.fill(0.0, to.part_mut(at..at + length))?;
    device.add_scaled(variance.sqrt(), normals.whole(), to.part_mut(at..at + length))
}

impl Maker {
    /// With its first weights; classes begin with their frequencies among the training animals, `(m, 3)`.
    pub fn new(
        device: &Arc<dyn Network>,
        shape: &Shape,
        (conditions, m): (usize, usize),
        runs: &[Range<usize>],
        frequencies: &[[f64; CLASSES]],
        seed: u64,
    ) -> Result<Maker> {
        let stack = Stack::new(device, &shape.generator(conditions), seed, STREAMS[0])?;
        let (h, c) = (shape.facing(), conditions * shape.repeat);
        let variance = 1.0 / (h + c) as f64;
        let facing = runs.iter().map(|snps| {
            let width = CLASSES * snps.len();
            let mut parameters = device.values(width * (h + c + 1))?;
            first(&**device, (seed, STREAMS[1]), snps, (h, variance), &mut parameters, 0)?;
            first(&**device, (seed, STREAMS[2]), snps, (c, variance), &mut parameters, width * h)?;
            let bias = frequencies[snps.clone()].iter().flatten().map(|p| p.max(RAREST).ln());
            let bias: Vec<f64> = bias.collect();
            device.write(&bias, parameters.part_mut(width * (h + c)..width * (h + c + 1)))?;
            Ok(Facing { snps: snps.clone(), parameters })
        });
        let facing = facing.collect::<Result<_>>()?;
        Ok(Maker { stack, facing, m })
    }

    /// Where W, V and b lie in the parameters of a run.
    pub fn parts(&self, run: &Facing) -> [Range<usize>; 3] {
        let (width, h, c) = (run.width(), self.stack.outputs(), self.stack.plan().conditions);
        [0..width * h, width * h..width * (h + c), width * (h + c)..width * (h + c + 1)]
    }

    /// The logits x W' + c V' + b of a run for `rows` animals.
    pub fn logits(
        &self,
        run: &Facing,
        rows: usize,
        (x, conditions): (&Values, &Values),
        to: &mut Values,
    ) -> Result<()> {
        let (device, width) = (&**self.stack.device(), run.width());
        let [weight, of_conditions, bias] = self.parts(run);
        let out = 0..rows * width;
        let shape =
            Product { m: rows, n: width, k: self.stack.outputs(), a_transposed: false, b_transposed: true };
        let w = run.parameters.part(weight);
        device.product(shape, x.part(0..rows * shape.k), w, Onto::Fresh, to.part_mut(out.clone()))?;
        if !of_conditions.is_empty() {
            let shape = Product { k: self.stack.plan().conditions, ..shape };
            let (c, v) = (conditions.part(0..rows * shape.k), run.parameters.part(of_conditions));
            device.product(shape, c, v, Onto::Sum, to.part_mut(out.clone()))?;
        }
        device.add_row(run.parameters.part(bias), to.part_mut(out))
    }
}

/// The least frequency that a class begins with.
const RAREST: f64 = 1e-3;

impl Critic {
    /// With its first weights.
    pub fn new(
        device: &Arc<dyn Network>,
        shape: &Shape,
        (conditions, m): (usize, usize),
        runs: &[Range<usize>],
        seed: u64,
    ) -> Result<Critic> {
        let stack = Stack::new(device, &shape.critic(conditions), seed, STREAMS[3])?;
        let h = shape.facing();
        // One of three classes is 1: a SNP is one input.
        let variance = 2.0 / (1.0 + shape.slope * shape.slope) / m.max(1) as f64;
        let facing = runs.iter().map(|snps| {
            let mut parameters = device.values(CLASSES * snps.len() * h)?;
            first(&**device, (seed, STREAMS[4]), snps, (h, variance), &mut parameters, 0)?;
            Ok(Facing { snps: snps.clone(), parameters })
        });
        let facing = facing.collect::<Result<_>>()?;
        Ok(Critic { stack, facing })
    }
}
