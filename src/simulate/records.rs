//! Which animals have a record of which trait.

use super::config::SimulationConfig;
use super::traits::Traits;
use crate::rng::{Purpose, Stream};
use rayon::prelude::*;

/// How the log-odds of a record grow over the birth years, and their spread between years.
const RECORD_TREND: f64 = 0.8;
const RECORD_SPREAD: f64 = 0.4;

/// Which records exist: one draw per animal and group of traits, with odds that depend on the birth year.
pub fn lose(seed: u64, config: &SimulationConfig, years: &[i32], t: &mut Traits) {
    let traits = config.selected();
    let mut groups: Vec<&str> = Vec::new();
    for of in traits {
        if !groups.contains(&of.group.as_str()) {
            groups.push(&of.group);
        }
    }
    let group_of: Vec<usize> = traits
        .iter()
        .map(|of| groups.iter().position(|g| *g == of.group).expect("every group is listed"))
        .collect();
    let chances: Vec<Vec<f64>> =
        traits.iter().zip(&group_of).map(|(of, &g)| record_chances(seed, g, of.recorded, years)).collect();
    let complete = &t.complete;
    t.phenotype.outer_iter_mut().into_par_iter().enumerate().for_each(|(i, mut row)| {
        let mut stream = Stream::new(seed, Purpose::Missing, i as u64);
        let drawn: Vec<f64> = groups.iter().map(|_| stream.uniform()).collect();
        for (k, y) in row.iter_mut().enumerate() {
            *y = if drawn[group_of[k]] < chances[k][i] { complete[[i, k]] } else { f64::NAN };
        }
    });
}

/// Chance of a record for every animal; the mean over the herd is `share`.
fn record_chances(seed: u64, group: usize, share: f64, years: &[i32]) -> Vec<f64> {
    if share <= 0.0 || share >= 1.0 {
        return vec![share; years.len()];
    }
    let (first, last) = years.iter().fold((i32::MAX, i32::MIN), |(a, b), &y| (a.min(y), b.max(y)));
    let half = (f64::from(last - first) / 2.0).max(1.0);
    let odds: Vec<f64> = years
        .iter()
        .map(|&year| {
            // Another range of indices than the animals' and the calls'.
            let index = 1 << 63 | (group as u64) << 32 | u64::from(year.unsigned_abs());
            let shock = RECORD_SPREAD * Stream::new(seed, Purpose::Missing, index).normal();
            RECORD_TREND * (f64::from(year - first) / half - 1.0) + shock
        })
        .collect();
    let chance = |level: f64, odds: f64| 1.0 / (1.0 + (-level - odds).exp());
    // The level at which the mean is right, by bisection.
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..60 {
        let level = 0.5 * (low + high);
        let mean = odds.iter().map(|&o| chance(level, o)).sum::<f64>() / years.len() as f64;
        if mean < share {
            low = level
        } else {
            high = level
        }
    }
    odds.iter().map(|&o| chance(low, o)).collect()
}
