//! Evaluates generated animals while a generator learns: how well they cover the herd, and whether they differ.

use super::draw::{Room, BLOCK};
use super::nets::GeneratorNet;
use crate::comm::interrupt::pending;
use crate::error::Result;
use crate::generate::{gather, Herd};
use crate::neighbours::manifold::precision_recall;
use crate::nn::Ranks;
use crate::packed::Packed;
use ndarray::{s, Array2, ArrayView2};
use serde::{Deserialize, Serialize};

/// Animals that are looked at, at most.
const MOST: usize = 1000;
/// The first of the generated ones: far from those of `generate`.
const FIRST: u64 = 1 << 40;
/// Below this share of the herd's variance generated animals hardly differ.
const COLLAPSE: f64 = 0.1;

/// How good generated animals are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Share of generated animals within the balls around real ones.
    pub precision: f64,
    /// Share of real animals within the balls around generated ones.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
    /// Sum over the SNPs of the variance of generated calls, over that of real ones.
    pub variance: f64,
}

impl Evaluation {
    /// Whether the animals hardly differ.
    pub fn is_collapse(&self) -> bool {
        self.variance < COLLAPSE
    }
}

/// Evaluates generated animals, for choosing the best epoch.
pub(super) struct EarlyStopping {
    /// The real animals' rows, and on the root their calls at all SNPs.
    animals: Vec<usize>,
    real: Option<Packed>,
    m: usize,
    k: usize,
}

impl EarlyStopping {
    /// Compares with some of these animals of a herd. Collective.
    pub fn new(ranks: &Ranks, herd: &Herd, animals: &[usize], k: usize) -> EarlyStopping {
        let step = animals.len().div_ceil(MOST).max(1);
        let animals: Vec<usize> = animals.iter().copied().step_by(step).collect();
        let own = herd.packed.select(&animals, &(0..herd.snps.len()).collect::<Vec<_>>());
        let m = herd.variants.len();
        EarlyStopping { real: gather::snps(ranks, m, &own), animals, m, k }
    }

    /// As many generated animals beside the real ones, with their conditions; nothing where somebody asked to stop.
    /// Collective.
    pub fn evaluate(
        &self,
        ranks: &Ranks,
        generator: &mut GeneratorNet,
        (conditions, repeat): (Option<ArrayView2<f64>>, usize),
        seed: u64,
        room: &mut Room,
    ) -> Result<Option<Evaluation>> {
        let known: Option<Array2<f64>> = conditions.map(|c| c.select(ndarray::Axis(0), &self.animals));
        let asked = (known.as_ref().map(|c| c.view()), repeat);
        let Some(own) = self.draw(ranks, generator, asked, seed, room)? else { return Ok(None) };
        let made = gather::snps(ranks, self.m, &own);
        let evaluation = ranks.world.on_root(|| {
            let (real, made) = (self.real.as_ref(), made.as_ref());
            let (real, made) = (real.expect("on the root"), made.expect("on the root"));
            let found = precision_recall(real, made, self.k)?;
            let variance = variance(made) / variance(real).max(f64::MIN_POSITIVE);
            let (precision, recall, f1) = (found.precision, found.recall, found.f1);
            Ok(Evaluation { precision, recall, f1, variance })
        })?;
        Ok(Some(evaluation))
    }

    /// Generated animals at this rank's SNPs, block by block.
    fn draw(
        &self,
        ranks: &Ranks,
        generator: &mut GeneratorNet,
        (known, repeat): (Option<ArrayView2<f64>>, usize),
        seed: u64,
        room: &mut Room,
    ) -> Result<Option<Packed>> {
        let (count, mut bytes) = (self.animals.len(), Vec::new());
        for start in (0..count).step_by(BLOCK) {
            if pending(&ranks.world) {
                return Ok(None);
            }
            let rows = start..(start + BLOCK).min(count);
            let numbers = FIRST + rows.start as u64..FIRST + rows.end as u64;
            let asked = known.map(|c| c.slice_move(s![rows, ..]));
            let drawn = generator.draw(ranks, numbers, (asked, repeat), seed, room);
            bytes.extend_from_slice(ranks.world.agree(drawn)?.bytes());
        }
        let columns = generator.snp_layer.iter().map(|f| f.snps.len()).sum();
        Ok(Some(Packed::from_bytes(count, columns, bytes)))
    }
}

/// Sum over the SNPs of the variance of their calls.
fn variance(packed: &Packed) -> f64 {
    let of = |t: &[u64; 4]| {
        let n = (t[0] + t[1] + t[2]) as f64;
        let (sum, squares) = ((t[1] + 2 * t[2]) as f64, (t[1] + 4 * t[2]) as f64);
        squares / n - (sum / n).powi(2)
    };
    packed.tally_columns().iter().map(of).filter(|v| v.is_finite()).sum()
}
