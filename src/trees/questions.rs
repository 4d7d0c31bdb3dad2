//! Features beside the SNPs: questions about them, coded as calls, so that trees split by them as by SNPs.
//!
//! A feature of numbers is cut at quantiles of the training animals into at most [`BINS`] bins, two cuts a question: the
//! code is how many of the two a value is above. A level of a class is a question of its own: 2 for the animals of that
//! level, 0 for others. Animals without a value have the code of a missing call.

use crate::error::Result;
use crate::packed::{Packed, MISSING};
use crate::records::{levels, Features, Values};

/// Bins of a feature of numbers, at most (Ke et al. 2017, LightGBM).
pub const BINS: usize = 255;

/// A question about one feature.
#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    /// How many of two rising cuts the value is above; the second is infinite where there is one cut.
    Above([f64; 2]),
    /// Whether the animal is of a level.
    Is(String),
}

/// Questions about features, those of a feature side by side.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Questions {
    /// Names of the features.
    pub features: Vec<String>,
    /// The number of the feature of each question, and the question.
    pub all: Vec<(usize, Question)>,
}

impl Questions {
    /// Those that some animals, the ones to learn from, suggest.
    pub fn of(features: &Features, animals: &[usize]) -> Questions {
        let of = |values: &Values| -> Vec<Question> {
            match values {
                Values::Numbers(x) => {
                    let cuts = cuts(animals.iter().map(|&i| x[i]).filter(|x| !x.is_nan()).collect());
                    let two = |pair: &[f64]| [pair[0], pair.get(1).copied().unwrap_or(f64::INFINITY)];
                    cuts.chunks(2).map(|pair| Question::Above(two(pair))).collect()
                }
                Values::Levels(of) => {
                    levels(of, animals).into_iter().map(|level| Question::Is(level.clone())).collect()
                }
            }
        };
        let all = features.0.iter().enumerate();
        let all = all.flat_map(|(k, feature)| of(&feature.values).into_iter().map(move |q| (k, q)));
        Questions { features: features.names(), all: all.collect() }
    }

    /// Codes of all animals, (n, questions); `n` animals have the features.
    ///
    /// # Errors
    /// Features that lack one that is asked about, or hold texts where numbers were learned from.
    pub fn codes(&self, features: &Features, n: usize) -> Result<Packed> {
        let mut codes = vec![MISSING; n * self.all.len()];
        for (at, (k, question)) in self.all.iter().enumerate() {
            let name = &self.features[*k];
            let mut put = |of: &dyn Fn(usize) -> u8| {
                (0..n).for_each(|i| codes[i * self.all.len() + at] = of(i));
            };
            match question {
                Question::Above(cuts) => {
                    let x = features.numbers(name)?;
                    put(&|i| above(cuts, x[i]));
                }
                Question::Is(level) => {
                    let of = features.levels(name)?;
                    put(&|i| of[i].as_ref().map_or(MISSING, |of| if of == level { 2 } else { 0 }));
                }
            }
        }
        Ok(Packed::from_codes(n, self.all.len(), &codes))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

fn above(cuts: &[f64; 2], x: f64) -> u8 {
    if x.is_nan() {
        MISSING
    } else {
        cuts.iter().map(|cut| u8::from(x > *cut)).sum()
    }
}

/// Cuts between bins of about as many values each, rising: none within equal values, and none where all are equal.
fn cuts(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    let steps: Vec<usize> = (1..values.len()).filter(|&i| values[i] > values[i - 1]).collect();
    let between = |i: usize| values[i - 1] + (values[i] - values[i - 1]) / 2.0;
    if steps.len() < BINS {
        return steps.into_iter().map(between).collect();
    }
    // The first step at or behind each quantile.
    let mut chosen: Vec<usize> = (1..BINS)
        .filter_map(|k| {
            let quantile = k * values.len() / BINS;
            steps.get(steps.partition_point(|&step| step < quantile)).copied()
        })
        .collect();
    chosen.dedup();
    chosen.into_iter().map(between).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Feature;

    fn feature(name: &str, values: Values) -> Feature {
        Feature { name: name.into(), values }
    }

    #[test]
    fn codes_say_on_which_side_of_every_cut_and_of_which_level_an_animal_is() {
        let nan = f64::NAN;
        let x = Values::Numbers(vec![3.0, 1.0, nan, 2.0, 1.0, 9.0]);
        let herd = ["b", "a", "", "b", "c", "z"].map(|h| (!h.is_empty()).then(|| h.to_owned()));
        let features = Features(vec![feature("age", x), feature("herd", Values::Levels(herd.to_vec()))]);
        // The last animal is not learned from.
        let questions = Questions::of(&features, &[0, 1, 2, 3, 4]);
        let is = |level: &str| (1, Question::Is(level.into()));
        assert_eq!(questions.all, [(0, Question::Above([1.5, 2.5])), is("a"), is("b"), is("c")]);
        let codes = questions.codes(&features, 6).unwrap();
        let column = |q| (0..6).map(|i| codes.get(i, q)).collect::<Vec<u8>>();
        assert_eq!(column(0), [2, 0, MISSING, 1, 0, 2]);
        assert_eq!(column(1), [0, 2, MISSING, 0, 0, 0]);
        assert_eq!(column(2), [2, 0, MISSING, 2, 0, 0]);
        let other = Features(vec![feature("age", Values::Levels(herd.to_vec()))]);
        assert!(questions.codes(&other, 6).unwrap_err().to_string().contains("age with numbers"));
        let none = Features(features.0[..1].to_vec());
        assert!(questions.codes(&none, 6).unwrap_err().to_string().contains("herd with levels"));
    }

    #[test]
    fn many_values_are_cut_into_bins_of_as_many_each() {
        let cuts_of = |values: Vec<f64>| cuts(values);
        assert!(cuts_of(vec![4.0; 10]).is_empty() && cuts_of(vec![]).is_empty());
        let found = cuts_of((0..10_000).map(f64::from).collect());
        assert_eq!(found.len(), BINS - 1);
        let sizes: Vec<f64> = found.windows(2).map(|w| w[1] - w[0]).collect();
        assert!(sizes.iter().all(|s| (38.0..=41.0).contains(s)), "{sizes:?}");
        // Half of all values are one: it is a bin of its own, and cuts are never equal.
        let found = cuts_of((0..2000).map(|i| f64::from(i.max(1000))).collect());
        assert!(found.windows(2).all(|w| w[0] < w[1]) && found[0] == 1000.5);
    }
}
