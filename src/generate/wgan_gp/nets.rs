//! Generator and critic: their chains, and the layers that face SNPs, in runs of SNPs.

use super::config::Network as Shape;
use crate::device::network::{Accumulate, Draw, Network, Product, Values, CLASSES, CONTRASTS};
use crate::error::Result;
use crate::nn::stack::Stack;
use crate::rng::Purpose;
use std::ops::Range;
use std::sync::Arc;

/// Streams of first weights: the generator's chain, its W and V that face SNPs, the critic's chain and W.
const STREAMS: [u64; 5] = [0, 1000, 1001, 2000, 3000];

/// This rank's part of a layer that faces SNPs, for one run of SNPs: a row for each class of each SNP.
pub struct SnpLayer {
    /// The SNPs.
    pub snps: Range<usize>,
    /// W (3 SNPs, h); a generator's has V (3 SNPs, conditions) and b (3 SNPs) behind it.
    parameters: Values,
    /// A generator's contrasts of each part, and whether they are those of the parameters.
    contrasts: (Option<Values>, bool),
}

impl SnpLayer {
    /// With its parameters.
    pub fn new(snps: Range<usize>, parameters: Values) -> SnpLayer {
        SnpLayer { snps, parameters, contrasts: (None, false) }
    }

    /// Classes of its SNPs.
    pub fn width(&self) -> usize {
        CLASSES * self.snps.len()
    }

    /// Numbers by which generated animals are known at its SNPs.
    pub fn contrasts(&self) -> usize {
        CONTRASTS * self.snps.len()
    }

    /// Its parameters.
    pub fn parameters(&self) -> &Values {
        &self.parameters
    }

    /// Its parameters, to change.
    pub fn parameters_mut(&mut self) -> &mut Values {
        self.contrasts.1 = false;
        &mut self.parameters
    }
}

/// Latent numbers to genotypes.
pub struct GeneratorNet {
    /// Up to the layer that faces SNPs.
    pub stack: Stack,
    /// The layer that faces SNPs.
    pub snp_layer: Vec<SnpLayer>,
    /// SNPs of all ranks.
    pub m: usize,
}

/// Genotypes to a judgement.
pub struct Critic {
    /// Behind the layer that faces SNPs.
    pub stack: Stack,
    /// The layer that faces SNPs.
    pub snp_layer: Vec<SnpLayer>,
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

impl GeneratorNet {
    /// With its first weights; classes begin with their frequencies among the training animals, `(m, 3)`.
    pub fn new(
        device: &Arc<dyn Network>,
        shape: &Shape,
        (conditions, m): (usize, usize),
        runs: &[Range<usize>],
        frequencies: &[[f64; CLASSES]],
        seed: u64,
    ) -> Result<GeneratorNet> {
        let stack = Stack::new(device, &shape.generator(conditions), seed, STREAMS[0])?;
        let (h, c) = (shape.snp_layer(), conditions * shape.repeat);
        let variance = 1.0 / (h + c) as f64;
        let snp_layer = runs.iter().map(|snps| {
            let width = CLASSES * snps.len();
            let mut parameters = device.values(width * (h + c + 1))?;
            first(&**device, (seed, STREAMS[1]), snps, (h, variance), &mut parameters, 0)?;
            first(&**device, (seed, STREAMS[2]), snps, (c, variance), &mut parameters, width * h)?;
            let bias = frequencies[snps.clone()].iter().flatten().map(|p| p.max(RAREST).ln());
            let bias: Vec<f64> = bias.collect();
            device.write(&bias, parameters.part_mut(width * (h + c)..width * (h + c + 1)))?;
            Ok(SnpLayer::new(snps.clone(), parameters))
        });
        let snp_layer = snp_layer.collect::<Result<_>>()?;
        Ok(GeneratorNet { stack, snp_layer, m })
    }

    /// Where W, V and b lie in the parameters of a run.
    pub fn parts(&self, run: &SnpLayer) -> [Range<usize>; 3] {
        self.parts_of(run.width())
    }

    /// The same with so many rows.
    fn parts_of(&self, width: usize) -> [Range<usize>; 3] {
        let (h, c) = (self.stack.outputs(), self.stack.plan().conditions);
        [0..width * h, width * h..width * (h + c), width * (h + c)..width * (h + c + 1)]
    }

    /// Contrasts of the logits x W' + c V' + b of a run for `rows` animals.
    pub fn logits(
        &mut self,
        number: usize,
        rows: usize,
        (x, conditions): (&Values, &Values),
        to: &mut Values,
    ) -> Result<()> {
        let width = self.snp_layer[number].contrasts();
        let [weight, of_conditions, bias] = self.parts_of(width);
        let known = match std::mem::take(&mut self.snp_layer[number].contrasts) {
            (Some(known), true) => known,
            (room, _) => self.find_contrasts(number, room)?,
        };
        self.snp_layer[number].contrasts.1 = true;
        let contrasts = &*self.snp_layer[number].contrasts.0.insert(known);
        let device = &**self.stack.device();
        let out = 0..rows * width;
        let shape =
            Product { m: rows, n: width, k: self.stack.outputs(), a_transposed: false, b_transposed: true };
        let w = contrasts.part(weight);
        device.product(
            shape,
            x.part(0..rows * shape.k),
            w,
            Accumulate::Overwrite,
            to.part_mut(out.clone()),
        )?;
        if !of_conditions.is_empty() {
            let shape = Product { k: self.stack.plan().conditions, ..shape };
            let (c, v) = (conditions.part(0..rows * shape.k), contrasts.part(of_conditions));
            device.product(shape, c, v, Accumulate::Add, to.part_mut(out.clone()))?;
        }
        device.add_row(contrasts.part(bias), to.part_mut(out))
    }

    /// Contrasts of the parts of a run: a softmax sees no more of them.
    fn find_contrasts(&self, number: usize, room: Option<Values>) -> Result<Values> {
        let (device, snp_layer) = (&**self.stack.device(), &self.snp_layer[number]);
        let [whole, parts] = [snp_layer.width(), snp_layer.contrasts()].map(|width| self.parts_of(width));
        let mut out = room.map_or_else(|| device.values(parts[2].end), Ok)?;
        let columns = [self.stack.outputs(), self.stack.plan().conditions, 1];
        for ((from, to), k) in whole.into_iter().zip(parts).zip(columns).filter(|(_, k)| *k > 0) {
            device.contrasts(k, snp_layer.parameters.part(from), out.part_mut(to))?;
        }
        Ok(out)
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
        let h = shape.snp_layer();
        // One of three classes is 1: a SNP is one input.
        let variance = 2.0 / (1.0 + shape.negative_slope * shape.negative_slope) / m.max(1) as f64;
        let snp_layer = runs.iter().map(|snps| {
            let mut parameters = device.values(CLASSES * snps.len() * h)?;
            first(&**device, (seed, STREAMS[4]), snps, (h, variance), &mut parameters, 0)?;
            Ok(SnpLayer::new(snps.clone(), parameters))
        });
        let snp_layer = snp_layer.collect::<Result<_>>()?;
        Ok(Critic { stack, snp_layer })
    }
}
