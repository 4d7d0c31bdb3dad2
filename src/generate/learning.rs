//! What networks that generate have in common: batches, the layer that reads genotypes, calls made of classes.
//!
//! Each rank has all SNPs, and its own animals of each batch; sums over the batch cross the ranks.

use crate::device::network::{Accumulate, Adam, Animals, Draw, Network, Product, Rows, Values, CLASSES};
use crate::device::Genotypes;
use crate::error::{Error, Result};
use crate::nn::stack::Moments;
use crate::nn::{self, Mode, Ranks};
use crate::packed::{pack_row, Packed};
use crate::rng::Purpose;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Animals that are made at a time: always the same, so that an animal's bits depend on no other.
pub const BLOCK: usize = 256;
/// Random numbers of block k of generated animals are those of index `DRAWN + k`; training steps have small indices.
pub const DRAWN: u64 = 1 << 63;

/// One batch, seen from one rank.
pub struct Batch {
    /// This rank's animals.
    pub animals: Vec<usize>,
    /// The place of the first among those of all ranks.
    pub first: usize,
    /// Animals of all ranks.
    pub count: usize,
    /// Number of the step, from 0.
    pub step: u64,
}

impl Batch {
    /// This rank's part of a whole batch.
    pub fn of(ranks: &Ranks, whole: &[usize], step: u64) -> Batch {
        let piece = ranks.pieces(whole.len()).swap_remove(0);
        Batch { animals: whole[piece.clone()].to_vec(), first: piece.start, count: whole.len(), step }
    }

    /// Number of this rank's animals.
    pub fn len(&self) -> usize {
        self.animals.len()
    }

    /// Whether this rank has none.
    pub fn is_empty(&self) -> bool {
        self.animals.is_empty()
    }

    /// As many rows of a chain as `rows`, which learns from them.
    pub fn of_chain(&self, rows: usize, seed: u64) -> (nn::Batch<'static>, Mode) {
        (nn::Batch::of_rows(rows, self.count), Mode::Train { seed, step: self.step })
    }

    /// The animals as a device knows them.
    pub fn rows(&self, device: &dyn Network) -> Result<Rows> {
        device.rows(&self.animals.iter().map(|&i| i as u32).collect::<Vec<_>>())
    }

    /// Random numbers of a matrix with a row for each animal of the batch.
    pub fn draw(&self, seed: u64, purpose: Purpose, index: u64, columns: usize) -> Draw {
        let (first_row, columns) = (self.first as u64, columns as u64);
        Draw { seed, purpose, index, first_row, first_column: 0, columns }
    }
}

/// Random numbers of a matrix with a row for each animal of block `number`.
pub fn draw_block(seed: u64, purpose: Purpose, number: u64, columns: usize) -> Draw {
    let index = DRAWN + number;
    Draw { seed, purpose, index, first_row: 0, first_column: 0, columns: columns as u64 }
}

/// One step of Adam at a rate.
pub fn adam(rate: f64, (beta1, beta2): (f64, f64), step: u64) -> Adam {
    Adam { learning_rate: rate, beta1, beta2, epsilon: 1e-8, l2: 0.0, weight_decay: 0.0, step: step + 1 }
}

/// An error unless losses are numbers.
pub fn finite(losses: &[f64], epoch: usize) -> Result<()> {
    match losses.iter().find(|c| !c.is_finite()) {
        Some(loss) => {
            let problem = format!("the loss became {loss} in epoch {}", epoch + 1);
            Err(Error::failed("training", problem, "choose a smaller `learning_rate`"))
        }
        None => Ok(()),
    }
}

/// A layer from the classes of genotypes to `h` sums, with bias; every rank has all of it.
pub struct FirstLayer {
    device: Arc<dyn Network>,
    /// W (3m, h), then b (h).
    pub parameters: Values,
    /// As the parameters: of this rank's animals until [`FirstLayer::sum_gradient`].
    pub gradient: Values,
    moments: Moments,
    width: usize,
    h: usize,
}

impl FirstLayer {
    /// With first weights for `m` SNPs, of which one class each is 1 (He et al. 2015); bias 0.
    pub fn new(device: &Arc<dyn Network>, m: usize, h: usize, (seed, stream): (u64, u64)) -> Result<Self> {
        let width = CLASSES * m;
        let length = (width + 1) * h;
        let mut normals = device.values(width * h)?;
        let draw = Draw {
            seed,
            purpose: Purpose::Weights,
            index: stream,
            first_row: 0,
            first_column: 0,
            columns: h as u64,
        };
        device.normals(draw, h, normals.whole_mut())?;
        let mut parameters = device.values(length)?;
        device.fill(0.0, parameters.whole_mut())?;
        let sd = (2.0 / m as f64).sqrt();
        device.add_scaled(sd, normals.whole(), parameters.part_mut(0..width * h))?;
        let (gradient, moments) = (device.values(length)?, Moments::new(&**device, length)?);
        Ok(FirstLayer { device: device.clone(), parameters, gradient, moments, width, h })
    }

    /// What it gives for animals of a herd, into rows of `out` from the first on.
    pub fn see(&self, z: &Genotypes, rows: &Rows, out: &mut Values) -> Result<()> {
        let (w, whole) = (self.parameters.part(0..self.width * self.h), 0..rows.len() * self.h);
        let animals = Animals { z, rows, smooth: None, made: None };
        self.device.onehot_times(&animals, w, self.h, out.part_mut(whole.clone()))?;
        self.device.add_row(self.bias(), out.part_mut(whole))
    }

    /// What it gives for `b` rows of classes (b, 3m), into rows of `out` from row `to` on.
    pub fn see_classes(&self, classes: &Values, b: usize, (out, to): (&mut Values, usize)) -> Result<()> {
        let shape = Product { m: b, n: self.h, k: self.width, a_transposed: false, b_transposed: false };
        let whole = to * self.h..(to + b) * self.h;
        let w = self.parameters.part(0..self.width * self.h);
        let x = classes.part(0..b * self.width);
        self.device.product(shape, x, w, Accumulate::Overwrite, out.part_mut(whole.clone()))?;
        self.device.add_row(self.bias(), out.part_mut(whole))
    }

    fn bias(&self) -> crate::device::network::Slice<'_> {
        self.parameters.part(self.width * self.h..(self.width + 1) * self.h)
    }

    /// The gradient from the slopes by what it gave, `slope` (animals + b, h), of animals of a herd and of `b` rows of
    /// classes behind them.
    pub fn learn(
        &mut self,
        z: &Genotypes,
        rows: &Rows,
        classes: Option<(&Values, usize)>,
        slope: &Values,
    ) -> Result<()> {
        let more = classes.map_or(0, |c| c.1);
        let slope = slope.part(0..(rows.len() + more) * self.h);
        let dense = classes.map(|(values, b)| values.part(0..b * self.width));
        let weights = 0..self.width * self.h;
        let to = self.gradient.part_mut(weights.clone());
        let d = slope.clone();
        let animals = Animals { z, rows, smooth: None, made: None };
        self.device.onehot_transposed_times(&animals, dense, d, self.h, Accumulate::Overwrite, to)?;
        let bias = weights.end..weights.end + self.h;
        self.device.column_sums(slope, Accumulate::Overwrite, self.gradient.part_mut(bias))
    }

    /// The slope by `b` rows of classes, from the slope by what it gave for them.
    pub fn slope_by_classes(&self, slope: &Values, b: usize, to: &mut Values) -> Result<()> {
        let shape = Product { m: b, n: self.width, k: self.h, a_transposed: false, b_transposed: true };
        let w = self.parameters.part(0..self.width * self.h);
        let (slope, to) = (slope.part(0..b * self.h), to.part_mut(0..b * self.width));
        self.device.product(shape, slope, w, Accumulate::Overwrite, to)
    }

    /// Makes the gradient that of all ranks. Collective.
    pub fn sum_gradient(&mut self, ranks: &Ranks) -> Result<()> {
        let length = self.gradient.len();
        ranks.data.sum(std::slice::from_mut(&mut self.gradient), 0..length)
    }

    /// All that learning changes.
    pub fn buffers(&mut self) -> [&mut Values; 3] {
        [&mut self.parameters, &mut self.moments.first, &mut self.moments.second]
    }

    /// One step of the optimizer.
    pub fn step(&mut self, adam: &Adam) -> Result<()> {
        self.moments.step(&*self.device, adam, &self.gradient, &mut self.parameters)
    }
}

/// Makes animals in whole blocks and takes those that are asked for. `block` makes a block: (number, the rows asked
/// for, the first of them among the animals asked for) and gives the calls of these rows.
pub fn by_blocks(
    animals: Range<u64>,
    m: usize,
    mut block: impl FnMut(u64, Range<usize>, usize) -> Result<Packed>,
) -> Result<Packed> {
    let each = BLOCK as u64;
    let mut bytes = Vec::new();
    let count = usize::try_from(animals.end - animals.start).expect("animals fit in memory");
    if count == 0 {
        return Ok(Packed::missing(0, m));
    }
    for number in animals.start / each..animals.end.div_ceil(each) {
        let (start, end) = (number * each, (number + 1) * each);
        let rows = (animals.start.max(start) - start) as usize..(animals.end.min(end) - start) as usize;
        let at = (start + rows.start as u64 - animals.start) as usize;
        bytes.extend_from_slice(block(number, rows, at)?.bytes());
    }
    Ok(Packed::from_bytes(count, m, bytes))
}

/// The likeliest class of each SNP in some rows of `classes` (BLOCK, 3m).
pub fn likeliest(device: &dyn Network, classes: &Values, rows: Range<usize>, m: usize) -> Result<Packed> {
    let width = CLASSES * m;
    let mut shares = vec![0f32; rows.len() * width];
    device.read_singles(classes.part(rows.start * width..rows.end * width), &mut shares)?;
    let mut out = Packed::missing(rows.len(), m);
    let stride = out.stride().max(1);
    out.bytes_mut().par_chunks_mut(stride).zip(shares.par_chunks(width)).for_each(|(row, shares)| {
        let best = |x: &[f32]| if x[2] > x[0].max(x[1]) { 2 } else { u8::from(x[1] > x[0]) };
        let codes: Vec<u8> = shares.chunks_exact(CLASSES).map(best).collect();
        pack_row(&codes, row);
    });
    Ok(out)
}

/// Conditions of some rows of a block as its network reads them, (BLOCK, c): others are 0.
pub fn placed(conditions: ndarray::ArrayView2<f64>, rows: &Range<usize>, at: usize) -> Vec<f64> {
    let c = conditions.ncols();
    let mut all = vec![0.0; BLOCK * c];
    for (k, row) in rows.clone().enumerate() {
        for (to, from) in all[row * c..(row + 1) * c].iter_mut().zip(conditions.row(at + k)) {
            *to = *from;
        }
    }
    all
}

/// The first of some widths that no layer can have, for messages; the last of them where all can.
pub fn wrong_width(widths: &[usize]) -> f64 {
    let wrong = widths.iter().find(|h| !(1..=1 << 16).contains(*h)).or(widths.last());
    wrong.map_or(0.0, |&h| h as f64)
}

/// A width of a layer: the published one for the published number of SNPs, fewer for fewer.
pub fn scaled(width: usize, m: usize, published: usize, least: usize) -> usize {
    (width * m.min(published)).div_ceil(published).max(least.min(width))
}
