//! Principal components of the real animals with synthetic ones among them, and kinships.

use super::herd::{markers, order, rows};
use super::transport::{self, wasserstein};
use super::{Score, Setting};
use crate::error::Result;
use crate::evaluate::diagnostics::Histogram;
use crate::grm::explicit;
use crate::grm::pca::pca;
use crate::grm::GenotypeMatrix;
use crate::packed::Packed;
use crate::stats;
use ndarray::{Array2, Axis};

/// Components looked at, at most.
const COMPONENTS: usize = 10;
/// Real animals that the components come from, at most.
const BASIS: usize = 2000;
/// Animals of each set whose kinships are looked at, at most.
const KINSHIPS: usize = 500;
/// Points at which the distributions of kinships are compared.
const POINTS: usize = 1001;

/// Where animals lie in the components of the real ones, and how related they are.
pub struct Components {
    /// Scores of the real and of the synthetic animals, (n, k).
    pub scores: [Array2<f64>; 2],
    /// Share of the real animals' variance that each component explains.
    pub explained: Vec<f64>,
    /// Relationships of different animals, real and synthetic, in the same bins.
    pub kinship: [Histogram; 2],
}

/// Components, the Wasserstein distance in them, and kinships. Collective.
pub fn compare(
    setting: &Setting,
    real: &Packed,
    synthetic: &Packed,
    exact: bool,
) -> Result<(Vec<Score>, Components)> {
    let basis = sampled(real, BASIS, setting.seed);
    let own = markers(setting, &basis, None)?;
    let count = COMPONENTS.min(basis.rows() - 1).min(real.columns());
    let found = pca(&own, count, setting.seed)?;
    // u = Z w with w = Z'u / (c λ): the same w gives scores of any animal; √λ is a component's spread.
    let scale: Vec<f64> =
        found.values.iter().map(|&v| if v > 1e-9 { 1.0 / (own.scale() * v.sqrt()) } else { 0.0 }).collect();
    let weights = own.transposed_times(found.vectors.view()) * ndarray::aview1(&scale);
    let frequencies = own.frequencies().to_vec();
    let project = |packed: &Packed| -> Result<Array2<f64>> {
        Ok(markers(setting, packed, Some(frequencies.clone()))?.times(weights.view()))
    };
    let scores = [project(real)?, project(synthetic)?];
    let distance = wasserstein(scores[0].view(), scores[1].view(), exact, setting.seed);
    let [a, b] = [
        kinships(&markers(setting, &sampled(real, KINSHIPS, setting.seed), Some(frequencies.clone()))?)?,
        kinships(&markers(setting, &sampled(synthetic, KINSHIPS, setting.seed), Some(frequencies.clone()))?)?,
    ];
    let far = transport::sorted(&a, &b);
    // What a picture can show: all but the most extreme pairs.
    let edge = |q: f64, f: fn(f64, f64) -> f64| f(stats::quantile(&a, q), stats::quantile(&b, q));
    let (low, high) = (edge(0.001, f64::min), edge(0.999, f64::max));
    let kinship = [a, b].map(|k| Histogram::of(k, low, high, 60));
    let found_scores = vec![("wasserstein_pca", distance), ("kinship_wasserstein", far)];
    Ok((found_scores, Components { scores, explained: found.explained, kinship }))
}

fn sampled(packed: &Packed, most: usize, seed: u64) -> Packed {
    if packed.rows() <= most {
        return packed.clone();
    }
    let mut chosen = order(packed.rows(), seed, 10);
    chosen.truncate(most);
    chosen.sort_unstable();
    rows(packed, &chosen)
}

/// The distribution of G between different animals at evenly spaced points, in order; on every rank.
fn kinships(markers: &GenotypeMatrix) -> Result<Vec<f64>> {
    let g = explicit::grm(markers)?;
    markers.world().on_root(|| {
        let g = g.expect("the root has it");
        let mut all: Vec<f64> = g
            .axis_iter(Axis(0))
            .enumerate()
            .flat_map(|(i, row)| row.iter().take(i).copied().collect::<Vec<_>>())
            .collect();
        all.sort_by(f64::total_cmp);
        let last = all.len() - 1;
        Ok((0..POINTS).map(|k| all[k * last / (POINTS - 1)]).collect())
    })
}
