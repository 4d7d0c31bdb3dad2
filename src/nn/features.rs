//! Features of animals as numbers that a network reads beside the SNPs.
//!
//! Numbers are standardised by the animals that are learned from; a missing one counts as their mean, and where some of
//! them lack it a column says so. Each level of a class is a column of ones and zeros; an animal without a level, or of
//! one that was not learned from, has zeros.

use crate::error::Result;
use crate::records::{levels, Features, Values};
use crate::stats;
use std::collections::HashMap;

/// A column that a network reads.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Column {
    /// (x − mean) / sd.
    Number {
        /// Mean of the animals that were learned from.
        mean: f64,
        /// Their standard deviation.
        sd: f64,
    },
    /// 1 where the number of the column before is missing.
    Missing,
    /// 1 where the animal is of the level.
    Is(String),
}

/// How features become columns; those of a feature stand side by side.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Encoding {
    /// Names of the features.
    pub features: Vec<String>,
    /// The number of the feature of each column, and the column.
    pub columns: Vec<(usize, Column)>,
}

impl Encoding {
    /// By the animals to learn from. Features that do not vary among them have no column.
    pub fn of(features: &Features, animals: &[usize]) -> Encoding {
        let of = |values: &Values| -> Vec<Column> {
            match values {
                Values::Numbers(x) => {
                    let known: Vec<f64> = animals.iter().map(|&i| x[i]).filter(|x| !x.is_nan()).collect();
                    let sd = stats::variance(&known).sqrt();
                    let number = Column::Number { mean: stats::mean(&known), sd };
                    let varies = sd > 0.0 && sd.is_finite();
                    let lacks = known.len() < animals.len();
                    let both = [(varies, number), (varies && lacks, Column::Missing)];
                    both.into_iter().filter(|(wanted, _)| *wanted).map(|(_, column)| column).collect()
                }
                Values::Levels(of) => {
                    let found = levels(of, animals);
                    let varies = found.len() > 1 || animals.iter().any(|&i| of[i].is_none());
                    found.into_iter().filter(|_| varies).map(|level| Column::Is(level.clone())).collect()
                }
            }
        };
        let all = features.0.iter().enumerate();
        let columns = all.flat_map(|(k, feature)| of(&feature.values).into_iter().map(move |c| (k, c)));
        Encoding { features: features.names(), columns: columns.collect() }
    }

    /// Whether each feature's columns are a number and perhaps whether it is missing, or levels.
    pub fn is_sound(&self) -> bool {
        self.columns.is_sorted_by_key(|c| c.0)
            && self.columns.chunk_by(|a, b| a.0 == b.0).all(|own| match own {
                [(_, Column::Number { mean, sd })]
                | [(_, Column::Number { mean, sd }), (_, Column::Missing)] => {
                    mean.is_finite() && *sd > 0.0 && sd.is_finite()
                }
                levels => levels.iter().all(|(_, column)| matches!(column, Column::Is(_))),
            })
    }

    /// Columns that a network reads.
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    /// The features of animals, in these columns.
    ///
    /// # Errors
    /// Features that lack one that was learned from, or hold texts where it had numbers.
    pub fn encoded(&self, features: &Features) -> Result<Encoded> {
        let mut parts = Vec::new();
        for (k, name) in self.features.iter().enumerate() {
            let own: Vec<(usize, &Column)> = self
                .columns
                .iter()
                .enumerate()
                .filter(|(_, (of, _))| *of == k)
                .map(|(at, c)| (at, &c.1))
                .collect();
            let Some((first, column)) = own.first().copied() else { continue };
            let part = match column {
                Column::Number { mean, sd } => {
                    let values = features.numbers(name)?.iter().map(|x| (x - mean) / sd).collect();
                    Part::Number { at: first, values, told: own.len() > 1 }
                }
                Column::Is(_) | Column::Missing => {
                    let place = |&(at, column): &(usize, &'_ Column)| match column {
                        Column::Is(level) => Some((level.clone(), at)),
                        _ => None,
                    };
                    let places: HashMap<String, usize> = own.iter().filter_map(place).collect();
                    let place = |level: &Option<String>| places.get(level.as_ref()?).copied();
                    Part::Level(features.levels(name)?.iter().map(place).collect())
                }
            };
            parts.push(part);
        }
        Ok(Encoded { width: self.width(), parts })
    }
}

/// Features of animals in the columns of an encoding; rows are made when they are asked for.
#[derive(Debug, Clone, Default)]
pub struct Encoded {
    width: usize,
    parts: Vec<Part>,
}

/// One feature.
#[derive(Debug, Clone)]
enum Part {
    /// Standardised values, NaN where missing, at a column; whether the next one tells which these are.
    Number { at: usize, values: Vec<f64>, told: bool },
    /// The column of each animal's level.
    Level(Vec<Option<usize>>),
}

impl Encoded {
    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The rows of some animals, (animals, width).
    pub fn rows(&self, animals: &[usize]) -> Vec<f64> {
        let mut out = vec![0.0; animals.len() * self.width];
        for (row, &i) in out.chunks_exact_mut(self.width.max(1)).zip(animals) {
            for part in &self.parts {
                match part {
                    Part::Number { at, values, .. } if !values[i].is_nan() => row[*at] = values[i],
                    Part::Number { at, told: true, .. } => row[at + 1] = 1.0,
                    Part::Number { .. } => {}
                    Part::Level(columns) => {
                        if let Some(at) = columns[i] {
                            row[at] = 1.0;
                        }
                    }
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Feature;

    #[test]
    fn numbers_are_standardised_and_levels_are_ones_and_zeros() {
        let numbers = |x: &[f64]| Values::Numbers(x.to_vec());
        let level = |of: &str| (!of.is_empty()).then(|| of.to_owned());
        let herd = Values::Levels(["a", "b", "", "z"].map(level).to_vec());
        let feature = |name: &str, values| Feature { name: name.into(), values };
        let features = Features(vec![
            feature("age", numbers(&[1.0, 3.0, f64::NAN, 4.0])),
            feature("same", numbers(&[7.0, 7.0, 7.0, 8.0])),
            feature("herd", herd),
            feature("heat", numbers(&[0.0, 2.0, 4.0, f64::NAN])),
        ]);
        // The last animal is not learned from.
        let encoding = Encoding::of(&features, &[0, 1, 2]);
        let of: Vec<usize> = encoding.columns.iter().map(|c| c.0).collect();
        assert_eq!(of, [0, 0, 2, 2, 3]);
        let rows = encoding.encoded(&features).unwrap().rows(&[3, 2, 0]);
        let root = 0.5f64.sqrt();
        let wanted =
            [[2.0 * root, 0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0, 1.0], [-root, 0.0, 1.0, 0.0, -1.0]];
        assert!(rows.iter().zip(wanted.as_flattened()).all(|(a, b)| (a - b).abs() < 1e-12), "{rows:?}");
        let other = Features(vec![feature("age", Values::Levels(vec![None; 4]))]);
        let said = encoding.encoded(&other).unwrap_err().to_string();
        assert!(said.contains("the feature age with numbers"), "{said}");
        assert!(Encoding::default().encoded(&other).unwrap().rows(&[1]).is_empty());
    }
}
