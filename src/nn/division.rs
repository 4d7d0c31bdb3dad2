//! Which animals a network learns from, and which early stopping looks at.

use crate::rng::{Purpose, Stream};

/// Synthetic animals behind the real ones of a data set, each with the records of a real donor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synthetic {
    /// Number of real animals: synthetic ones have the numbers from there on.
    pub real: usize,
    /// Donor of each synthetic animal.
    pub donors: Vec<usize>,
    /// Real animals that may validate, whether or not they are learned from.
    pub reference: Vec<usize>,
}

impl Synthetic {
    /// The real animal whose records an animal has.
    pub fn origin(&self, animal: usize) -> usize {
        animal.checked_sub(self.real).map_or(animal, |number| self.donors[number])
    }
}

/// How many of `n` animals training does not see, where it holds back a `share` of them.
pub fn held_back(n: usize, share: f64) -> usize {
    (share * n as f64).round() as usize
}

/// Animals to learn from and animals to look at, drawn by `seed`: a `share` of the `animals`, or of the real reference
/// where some are synthetic. No animal with the records of a validation animal is learned from.
pub fn divide(
    animals: &[usize],
    synthetic: Option<&Synthetic>,
    share: f64,
    seed: u64,
) -> (Vec<usize>, Vec<usize>) {
    let mut order = synthetic.map_or(animals, |s| &s.reference).to_vec();
    Stream::new(seed, Purpose::Validation, 0).shuffle(&mut order);
    order.truncate(held_back(order.len(), share));
    order.sort_unstable();
    let origin = |i: usize| synthetic.map_or(i, |s| s.origin(i));
    let seen = |i: &usize| order.binary_search(&origin(*i)).is_err();
    let mut train: Vec<usize> = animals.iter().copied().filter(seen).collect();
    train.sort_unstable();
    (train, order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_animals_learn_or_validate() {
        let animals: Vec<usize> = (3..43).collect();
        let (train, validation) = divide(&animals, None, 0.25, 7);
        assert_eq!((train.len(), validation.len()), (30, 10));
        let mut all = [train, validation.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, animals);
        assert_ne!(validation, divide(&animals, None, 0.25, 8).1);
        assert!(divide(&animals, None, 0.0, 7).1.is_empty());
    }

    #[test]
    fn only_real_animals_validate_and_none_with_their_records_learns() {
        // Ten real animals, of which eight are the reference; three synthetic ones of each.
        let reference: Vec<usize> = (0..8).collect();
        let donors: Vec<usize> = (0..24).map(|s| s % 8).collect();
        let synthetic = Synthetic { real: 10, donors, reference: reference.clone() };
        let made: Vec<usize> = (10..34).collect();
        for alone in [false, true] {
            let animals = if alone { made.clone() } else { [&reference[..], &made].concat() };
            let (train, validation) = divide(&animals, Some(&synthetic), 0.25, 1);
            assert!(validation.len() == 2 && validation.iter().all(|i| reference.contains(i)));
            assert!(train.iter().all(|&i| !validation.contains(&synthetic.origin(i))));
            assert_eq!(train.len(), if alone { 18 } else { 24 });
        }
    }
}
