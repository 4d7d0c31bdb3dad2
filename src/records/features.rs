//! Features of animals: measurements, environments and classes that models learn from beside the genotypes.

use super::phenotype::Columns;
use super::table::{Repeats, Table};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};

/// Features of the animals of a store, in the store's order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Features(pub Vec<Feature>);

/// One feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// Its values, (n).
    pub values: Values,
}

/// Values of a feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Values {
    /// Numbers, NaN where there is none.
    Numbers(Vec<f64>),
    /// Levels of a class.
    Levels(Vec<Option<String>>),
}

impl Values {
    /// What it holds, for messages.
    fn what(&self) -> &'static str {
        match self {
            Values::Numbers(_) => "numbers",
            Values::Levels(_) => "levels of a class",
        }
    }

    fn select(&self, animals: &[usize]) -> Values {
        match self {
            Values::Numbers(all) => Values::Numbers(animals.iter().map(|&i| all[i]).collect()),
            Values::Levels(all) => Values::Levels(animals.iter().map(|&i| all[i].clone()).collect()),
        }
    }

    fn extend(&mut self, more: Values) {
        match (self, more) {
            (Values::Numbers(all), Values::Numbers(more)) => all.extend(more),
            (Values::Levels(all), Values::Levels(more)) => all.extend(more),
            _ => unreachable!("values of one feature"),
        }
    }

    fn missing(&self) -> usize {
        match self {
            Values::Numbers(all) => all.iter().filter(|x| x.is_nan()).count(),
            Values::Levels(all) => all.iter().filter(|x| x.is_none()).count(),
        }
    }
}

impl Features {
    /// Reads the features of `animals`: columns of numbers, and classes where most cells are texts. An animal that the
    /// table does not have, and an empty cell, have no value. On the calling rank.
    ///
    /// # Errors
    /// A table that is damaged or lacks a column, animals of which it has none, and columns without a value.
    pub fn read(animals: &[String], columns: &Columns, missing: Option<&str>) -> Result<Features> {
        let Columns { path, names } = columns;
        let table = Table::read_records(path, missing, "feature", names, Repeats::Refused)?;
        let chosen =
            if names.is_empty() { (0..table.columns().len()).collect() } else { table.find(names)? };
        let place: HashMap<&str, usize> =
            table.ids().iter().enumerate().map(|(row, id)| (id.as_str(), row)).collect();
        let rows: Vec<Option<usize>> = animals.iter().map(|id| place.get(id.as_str()).copied()).collect();
        if rows.iter().all(Option::is_none) {
            let advice = "check the names of the animals";
            return Err(Error::input(path.display(), "features of animals with genotypes", "none", advice));
        }
        let mut features = Vec::with_capacity(chosen.len());
        for column in chosen {
            let name = table.columns()[column].clone();
            if features.iter().any(|other: &Feature| other.name == name) {
                let advice = "name each feature once";
                return Err(Error::input(
                    path.display(),
                    "every feature once",
                    format!("{name} again"),
                    advice,
                ));
            }
            let values = match table.is_numeric(column) {
                true => {
                    let of = |row: &Option<usize>| row.map_or(Ok(None), |row| table.number(row, column));
                    let of = |row| Ok(of(row)?.unwrap_or(f64::NAN));
                    Values::Numbers(rows.iter().map(of).collect::<Result<_>>()?)
                }
                false => {
                    let of = |row: &Option<usize>| row.and_then(|row| table.cell(row, column));
                    Values::Levels(rows.iter().map(|row| of(row).map(str::to_owned)).collect())
                }
            };
            let without = values.missing();
            if without == animals.len() {
                let found = format!("none in {name}");
                let advice = "leave the column out";
                return Err(Error::input(path.display(), "values of animals with genotypes", found, advice));
            }
            let what = values.what();
            log::info!("{}: feature {name}: {what}, {without} animals without", path.display());
            features.push(Feature { name, values });
        }
        Ok(Features(features))
    }

    /// Their names.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|feature| feature.name.clone()).collect()
    }

    /// The numbers of a feature, (n).
    ///
    /// # Errors
    /// No such feature, or one of another kind.
    pub fn numbers(&self, name: &str) -> Result<&[f64]> {
        match self.named(name) {
            Some(Values::Numbers(x)) => Ok(x),
            found => Err(lacking(name, "numbers", found)),
        }
    }

    /// The levels of a feature, (n).
    ///
    /// # Errors
    /// No such feature, or one of another kind.
    pub fn levels(&self, name: &str) -> Result<&[Option<String>]> {
        match self.named(name) {
            Some(Values::Levels(of)) => Ok(of),
            found => Err(lacking(name, "levels of a class", found)),
        }
    }

    fn named(&self, name: &str) -> Option<&Values> {
        self.0.iter().find(|feature| feature.name == name).map(|feature| &feature.values)
    }

    /// The same with some of the animals once more behind all.
    pub fn extended(&self, animals: &[usize]) -> Features {
        let mut out = self.clone();
        for feature in &mut out.0 {
            feature.values.extend(feature.values.select(animals));
        }
        out
    }
}

/// A feature that a model learned from and that is not there, or of another kind.
fn lacking(name: &str, what: &str, found: Option<&Values>) -> Error {
    let advice = "give a table like the one that was learned from";
    let expected = format!("the feature {name} with {what}");
    Error::input("features", expected, found.map_or("none", Values::what), advice)
}

/// The levels that some animals have, in alphabetical order.
pub fn levels<'a>(of: &'a [Option<String>], animals: &[usize]) -> Vec<&'a String> {
    animals.iter().filter_map(|&i| of[i].as_ref()).collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, names: &[&str]) -> Result<Features> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.tsv");
        std::fs::write(&path, text).unwrap();
        let animals = ["a", "b", "c"].map(str::to_owned);
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Features::read(&animals, &Columns { path, names }, Some("-9"))
    }

    #[test]
    fn columns_are_numbers_or_classes_in_the_order_of_the_store() {
        let text = "id\therd\tage\theat\nc\th2\t3.5\t-9\na\th1\tNA\t20\nz\th3\t1\t1\n";
        let all = read(text, &[]).unwrap();
        assert_eq!(all.names(), ["herd", "age", "heat"]);
        let herd = [Some("h1".to_owned()), None, Some("h2".to_owned())];
        assert_eq!(all.levels("herd").unwrap(), herd);
        let age = all.numbers("age").unwrap();
        assert!(age[0].is_nan() && age[1].is_nan() && age[2] == 3.5);
        let some = read(text, &["heat", "herd"]).unwrap();
        assert_eq!(some.names(), ["heat", "herd"]);
        let Values::Numbers(heat) = &some.0[0].values else { panic!("heat is a number") };
        assert!(heat[0] == 20.0 && heat[2].is_nan());
        let longer = some.extended(&[2, 0]);
        let Values::Levels(herd) = &longer.0[1].values else { panic!("herds are levels") };
        assert_eq!(herd[3..], [Some("h2".to_owned()), Some("h1".to_owned())]);
        assert_eq!(levels(herd, &[0, 2, 3]), ["h1", "h2"]);
    }

    #[test]
    fn what_is_not_there_is_told() {
        for (text, names, told) in [
            ("id\tx\nq\t1\n", &[][..], "features of animals with genotypes"),
            ("id\tx\ty\na\t1\tNA\n", &[], "none in y"),
            ("id\tx\na\t1\n", &["z"], "x"),
            ("id\tx\na\t1\nb\t2,5\n", &[], "decimals with a point"),
            ("id\tx\na\t1\n", &["x", "x"], "x again"),
        ] {
            let e = read(text, names).unwrap_err().to_string();
            assert!(e.contains(told), "{e}");
        }
    }
}
