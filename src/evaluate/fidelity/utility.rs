//! What synthetic animals are good for: train on them, test on real ones.

use super::herd::{join, markers};
use super::{Herd, Score, Setting};
use crate::error::Result;
use crate::evaluate::fidelity::frequencies::correlation;
use crate::grm::explicit;
use crate::mixed::gblup::{fit_group, Solver};
use crate::mixed::Group;
use ndarray::Array2;

/// Training animals and tested animals at most.
const MOST: (usize, usize) = (1500, 1000);
/// Fewest records to train on and to test on.
const RECORDS: usize = 20;

/// Names of the scores of real animals that the generator never saw, and of training animals.
const NAMES: [[&str; 2]; 2] =
    [["tstr_r", "real_and_synthetic_r"], ["tstr_r_seen", "real_and_synthetic_r_seen"]];

/// GBLUP trained on `synthetic`, and on these and the first of the real `halves`, tested on `holdout` (train on
/// synthetic, test on real: Esteban et al. 2017), or on the second half where there are no held-out records: this half
/// the generator has seen, so that a copy of it predicts it, and the scores have names of their own. Without synthetic
/// animals both are what the first half alone is good for. Nothing without records. Collective.
pub fn scores(
    setting: &Setting,
    halves: &[Herd; 2],
    holdout: Option<&Herd>,
    synthetic: Option<&Herd>,
) -> Result<Vec<Score>> {
    let [first, second] = halves;
    let unseen = holdout.filter(|set| recorded(set, MOST.1, setting.seed, 42).is_some());
    let test = unseen.unwrap_or(second);
    let names = NAMES[usize::from(unseen.is_none())];
    let found = match synthetic {
        None => [predict(setting, &[first], test)?; 2],
        Some(set) => [predict(setting, &[set], test)?, predict(setting, &[first, set], test)?],
    };
    Ok(names.into_iter().zip(found).filter_map(|(name, r)| Some((name, r?))).collect())
}

/// Correlation of GBLUP predictions with the records of `test`, variances by REML.
fn predict(setting: &Setting, train: &[&Herd], test: &Herd) -> Result<Option<f64>> {
    let (Some(test), Some(train)) = (
        recorded(test, MOST.1, setting.seed, 42),
        train
            .iter()
            .zip(40..)
            .map(|(h, index)| recorded(h, MOST.0, setting.seed, index))
            .collect::<Option<Vec<_>>>(),
    ) else {
        return Ok(None);
    };
    let packed = train.iter().fold(test.0.packed.clone(), |all, (herd, _)| join(&all, &herd.packed));
    let y: Vec<f64> = train.iter().flat_map(|(_, y)| y.iter().copied()).collect();
    let n = test.0.n();
    let (animals, count) = ((n..n + y.len()).collect(), y.len());
    let y = Array2::from_shape_vec((count, 1), y).expect("a record each");
    let g = explicit::grm(&markers(setting, &packed, None)?)?;
    let r = setting.world.on_root(|| {
        let group = Group::new(animals, y, Array2::ones((count, 1)), None);
        let fit = fit_group(g.expect("the root has it").view(), &group, None, Solver::Eigen)?;
        let pairs: Vec<(f64, f64)> = (0..n).map(|i| (fit.ebv[[i, 0]], test.1[i])).collect();
        let r = correlation(&pairs);
        // No variance is left to the genotypes: nothing is predicted.
        Ok(if r.is_finite() { r } else { 0.0 })
    })?;
    Ok(Some(r))
}

/// A sample of the animals with records, and their records.
fn recorded(herd: &Herd, most: usize, seed: u64, index: u64) -> Option<(Herd, Vec<f64>)> {
    let y = herd.y.as_ref()?;
    let with: Vec<usize> = (0..herd.n()).filter(|&i| y[i].is_finite()).collect();
    let chosen = herd.select(&with).sample(most, seed, index);
    let y = chosen.y.clone()?;
    let varies = y.iter().any(|v| *v != y[0]);
    (y.len() >= RECORDS && varies).then_some((chosen, y))
}
