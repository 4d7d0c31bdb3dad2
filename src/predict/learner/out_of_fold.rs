//! Values of training animals without their own records: what a second model may learn from.
//!
//! The training animals are divided into inner folds; each gets the value of a fit to the others, so that no record is in
//! the value of its own animal (Breiman 1996; van der Laan et al. 2007). Synthetic animals are in the fold of the real one
//! whose records they bear.

use super::{Data, Learned, Learner, Training};
use crate::error::Result;
use crate::rng::{Purpose, Stream};
use ndarray::Array2;

/// The inner folds of a training set.
#[derive(Debug, Clone, PartialEq)]
pub struct InnerFolds {
    /// The fold of each animal of the data, none for those without a record, (n).
    pub of: Vec<Option<usize>>,
    /// Number of folds.
    pub count: usize,
}

impl InnerFolds {
    /// Equal parts of the set's animals among `n`, in a random order that depends on the seed of the split and the animals'
    /// numbers.
    pub fn new(set: &Training, n: usize, count: usize) -> InnerFolds {
        let animals = set.animals();
        let mut origins: Vec<usize> = animals.iter().map(|&i| set.origin(i)).collect();
        origins.sort_unstable();
        origins.dedup();
        let mut of = equal_parts(&origins, n, count, set.split_seed);
        for animal in animals {
            of[animal] = of[set.origin(animal)];
        }
        InnerFolds { of, count }
    }

    /// The set without the records of fold `k`.
    pub fn without(&self, set: &Training, k: usize) -> Training {
        let mut part = set.clone();
        for (_, group) in &mut part.groups {
            let kept = |&row: &usize| self.of[group.animals()[row]] != Some(k);
            let rows: Vec<usize> = (0..group.animals().len()).filter(kept).collect();
            *group = group.subset(&rows);
        }
        for (i, mut row) in part.records.y.rows_mut().into_iter().enumerate() {
            if self.of[i] == Some(k) {
                row.fill(f64::NAN);
            }
        }
        part
    }

    /// The values of the whole fit, (n, t), with each training animal's from the fit without its fold; `parts` are those of
    /// the folds in their order.
    pub fn put_together<'a>(
        &self,
        whole: &Array2<f64>,
        parts: impl IntoIterator<Item = &'a Array2<f64>>,
    ) -> Array2<f64> {
        let mut values = whole.clone();
        for (k, part) in parts.into_iter().enumerate() {
            for i in (0..self.of.len()).filter(|&i| self.of[i] == Some(k)) {
                values.row_mut(i).assign(&part.row(i));
            }
        }
        values
    }
}

/// Any learner's fit to a set, and its values with each training animal's from a fit to the other inner folds, (n, t).
/// Collective; every rank receives both.
///
/// # Errors
/// What the fits meet.
pub fn out_of_fold(
    learner: &dyn Learner,
    data: &Data,
    set: &Training,
    count: usize,
) -> Result<(Learned, Array2<f64>)> {
    let folds = InnerFolds::new(set, data.animals(), count);
    let mut sets = vec![set.clone()];
    sets.extend((0..count).map(|k| folds.without(set, k)));
    let mut fits = learner.fit(data, &sets)?.into_iter();
    let whole = fits.next().expect("one fit a set");
    let parts: Vec<Array2<f64>> = fits.map(|fit| fit.values).collect();
    let values = folds.put_together(&whole.values, &parts);
    Ok((whole, values))
}

/// The part of each of `n` animals, none for those that are not among `animals`.
fn equal_parts(animals: &[usize], n: usize, count: usize, seed: u64) -> Vec<Option<usize>> {
    let key = |i: usize| Stream::new(seed, Purpose::InnerFolds, i as u64).next_u64();
    let mut order: Vec<(u64, usize)> = animals.iter().map(|&i| (key(i), i)).collect();
    order.sort_unstable();
    let mut out = vec![None; n];
    for (place, (_, animal)) in order.into_iter().enumerate() {
        out[animal] = Some(place % count);
    }
    out
}
