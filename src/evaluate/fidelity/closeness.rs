//! Who lies near whom: precision and recall, adversarial accuracy, privacy, copies.

use super::{Herd, Score, Setting};
use crate::comm::World;
use crate::error::Result;
use crate::evaluate::diagnostics::Histogram;
use crate::neighbours::manifold::{self, Comparison};
use crate::packed::Packed;
use crate::stats;
use std::collections::HashSet;

/// Bins of the distributions of distances.
const BINS: usize = 50;

/// Euclidean distances to the nearest neighbour, for pictures.
#[derive(Debug, Clone)]
pub struct Closeness {
    /// From each real animal to the nearest other real one.
    pub real: Histogram,
    /// From each synthetic animal to the nearest other synthetic one.
    pub synthetic: Histogram,
    /// From each synthetic animal to the nearest real one.
    pub to_training: Histogram,
}

/// Precision and recall at both `ks`, adversarial accuracy, typical distances. Collective.
pub fn compare(
    world: &World,
    real: &Packed,
    synthetic: &Packed,
    ks: [usize; 2],
) -> Result<(Vec<Score>, Closeness)> {
    let found = manifold::compare(world, real, synthetic, &ks)?;
    let [small, large] = [found.scores[0], found.scores[1]];
    let [truth, syn] = adversarial(&found);
    let distances = [nearest(&found, true), nearest(&found, false), roots(&found.synthetic_to_real)];
    let [within_real, within, to_training] = [0, 1, 2].map(|k| stats::quantile(&distances[k], 0.5));
    let scores = vec![
        ("precision_k10", small.precision),
        ("recall_k10", small.recall),
        ("f1_k10", small.f1),
        ("precision_large_k", large.precision),
        ("recall_large_k", large.recall),
        ("f1_large_k", large.f1),
        ("aa_truth", truth),
        ("aa_syn", syn),
        ("aats", (truth + syn) / 2.0),
        ("nearest_within_ratio", within / within_real),
        ("nearest_training_ratio", to_training / within_real),
    ];
    let high = distances.iter().flatten().fold(0.0f64, |a, &d| a.max(d));
    let [real, synthetic, to_training] = distances.map(|d| Histogram::of(d, 0.0, high, BINS));
    Ok((scores, Closeness { real, synthetic, to_training }))
}

fn nearest(found: &Comparison, real: bool) -> Vec<f64> {
    let of = if real { &found.within_real } else { &found.within_synthetic };
    roots(&of.radii(1))
}

fn roots(squares: &[u32]) -> Vec<f64> {
    squares.iter().map(|&d| f64::from(d).sqrt()).collect()
}

/// AA_truth and AA_syn (Yale et al. 2020): the share of animals that are strictly nearer to another one of their own
/// kind than to any of the other kind.
fn adversarial(found: &Comparison) -> [f64; 2] {
    let share = |across: &[u32], own: Vec<u32>| {
        across.iter().zip(&own).filter(|(across, own)| across > own).count() as f64 / across.len() as f64
    };
    [
        share(&found.real_to_synthetic, found.within_real.radii(1)),
        share(&found.synthetic_to_real, found.within_synthetic.radii(1)),
    ]
}

/// Shares of synthetic animals that equal an earlier synthetic one, or a real one, call by call.
pub fn equal_rows(real: &Herd, synthetic: &Herd) -> [Score; 2] {
    let n = synthetic.n() as f64;
    let known: HashSet<&[u8]> = (0..real.n()).map(|i| real.packed.row(i)).collect();
    let distinct: HashSet<&[u8]> = (0..synthetic.n()).map(|i| synthetic.packed.row(i)).collect();
    let copies = (0..synthetic.n()).filter(|&i| known.contains(synthetic.packed.row(i))).count();
    [("duplicates", 1.0 - distinct.len() as f64 / n), ("copies", copies as f64 / n)]
}

/// Adversarial accuracy on held-out real animals less that on training animals, each set cut to the smallest: above
/// zero where synthetic animals lie nearer to those that the generator saw. Collective.
pub fn privacy_loss(setting: &Setting, training: &Herd, holdout: &Herd, synthetic: &Herd) -> Result<f64> {
    let most = training.n().min(holdout.n()).min(synthetic.n()).min(setting.most);
    let [training, holdout, synthetic] = [(training, 30), (holdout, 31), (synthetic, 32)]
        .map(|(herd, index)| herd.sample(most, setting.seed, index));
    let aats = |real: &Herd| -> Result<f64> {
        let found = manifold::compare(setting.world, &real.packed, &synthetic.packed, &[1])?;
        Ok(adversarial(&found).iter().sum::<f64>() / 2.0)
    };
    Ok(aats(&holdout)? - aats(&training)?)
}
