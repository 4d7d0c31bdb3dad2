//! The design of fixed effects: intercept, dummy-coded categories, numbers.

use crate::error::{Error, Result};
use crate::records::factor::Factor;
use crate::records::table::Table;
use crate::stats;
use ndarray::{Array2, Axis};
use std::collections::BTreeSet;

/// Names told of columns that are left out.
const TOLD: usize = 5;

/// The design of the fixed effects in the making. Columns are made at last, when it is known which animals have
/// records.
#[derive(Default)]
pub(super) struct Design {
    terms: Vec<(String, Term)>,
}

/// What a covariate says of each animal, (n); animals without covariates have no record.
enum Term {
    Levels(Vec<Option<String>>),
    Numbers(Vec<f64>),
}

impl Design {
    /// Adds the columns `names` (all when empty) of a table; `row_of` tells the row of the table of every record.
    /// Records without all of the columns are lost.
    pub(super) fn add(
        &mut self,
        table: &Table,
        names: &[String],
        categorical: bool,
        mut row_of: Vec<Option<usize>>,
        y: &mut Array2<f64>,
    ) -> Result<()> {
        let chosen =
            if names.is_empty() { (0..table.columns().len()).collect() } else { table.find(names)? };
        let whole = |r: &usize| chosen.iter().all(|&c| table.cell(*r, c).is_some());
        row_of.iter_mut().for_each(|row| *row = row.filter(whole));
        drop_records(table, &row_of, y)?;
        for column in chosen {
            warn_of_nines(table, column, &row_of);
            let term = match categorical {
                true => Term::Levels(
                    row_of.iter().map(|r| r.and_then(|r| table.cell(r, column)).map(str::to_owned)).collect(),
                ),
                false => Term::Numbers(numbers(table, column, &row_of)?),
            };
            self.terms.push((table.columns()[column].clone(), term));
        }
        Ok(())
    }

    /// Takes the class of most levels out of the design where it has more than `most` of them.
    pub(super) fn take_largest(&mut self, most: usize) -> Option<(String, Vec<Option<String>>)> {
        let count = |term: &Term| match term {
            Term::Levels(levels) => levels.iter().flatten().collect::<BTreeSet<_>>().len(),
            Term::Numbers(_) => 0,
        };
        let (k, levels) =
            self.terms.iter().map(|(_, term)| count(term)).enumerate().max_by_key(|&(_, levels)| levels)?;
        match (levels > most).then(|| self.terms.remove(k))? {
            (name, Term::Levels(levels)) => Some((name, levels)),
            (_, Term::Numbers(_)) => None,
        }
    }

    /// The columns that are independent over the records, the intercept first; the others are told and dropped.
    /// Beside an `absorbed` class there is no intercept, and columns are independent within its levels.
    pub(super) fn of_full_rank(
        self,
        y: &Array2<f64>,
        absorbed: Option<&Factor>,
    ) -> Result<(Vec<String>, Array2<f64>)> {
        let n = y.nrows();
        let rows: Vec<usize> = (0..n).filter(|&i| y.row(i).iter().any(|x| !x.is_nan())).collect();
        let mut columns = Vec::new();
        if absorbed.is_none() {
            columns.push(("intercept".to_owned(), vec![1.0; n]));
        }
        for (name, term) in self.terms {
            match term {
                Term::Levels(levels) => columns.extend(contrasts(&name, &levels, &rows)),
                Term::Numbers(values) => columns.push((name, values)),
            }
        }
        let all = Array2::from_shape_fn((n, columns.len()), |(i, j)| columns[j].1[i]);
        let mut recorded = all.select(Axis(0), &rows);
        let mut levels = 0;
        if let Some(factor) = absorbed {
            let factor = factor.select(&rows).compact();
            factor.centre(&mut recorded, None);
            levels = factor.levels.len();
        }
        let keep = stats::independent_columns(recorded.view());
        let dropped: Vec<&str> =
            (0..columns.len()).filter(|j| !keep.contains(j)).map(|j| columns[j].0.as_str()).collect();
        if !dropped.is_empty() {
            log::warn!("fixed effects that follow from the others are left out: {}", shortened(&dropped));
        }
        if keep.len() + levels >= rows.len() {
            return Err(Error::input(
                "covariates",
                format!("fewer independent columns than the {} records", rows.len()),
                keep.len() + levels,
                "leave out covariates with a level for almost every animal",
            ));
        }
        Ok((keep.iter().map(|&j| columns[j].0.clone()).collect(), all.select(Axis(1), &keep)))
    }
}

/// One column of zeros and ones for every level that an animal of `rows` has, but the first in alphabetical order.
fn contrasts(name: &str, levels: &[Option<String>], rows: &[usize]) -> Vec<(String, Vec<f64>)> {
    let seen: BTreeSet<&String> = rows.iter().filter_map(|&i| levels[i].as_ref()).collect();
    let column =
        |level: &String| levels.iter().map(|l| f64::from(u8::from(l.as_ref() == Some(level)))).collect();
    seen.into_iter().skip(1).map(|level| (format!("{name}={level}"), column(level))).collect()
}

/// The numbers of a column, (n); 0 for animals without a row.
fn numbers(table: &Table, column: usize, row_of: &[Option<usize>]) -> Result<Vec<f64>> {
    let of = |row: &Option<usize>| row.map_or(Ok(None), |row| table.number(row, column));
    row_of.iter().map(|row| Ok(of(row)?.unwrap_or(0.0))).collect()
}

/// The first few names, and how many more there are.
fn shortened(names: &[&str]) -> String {
    match names.len().saturating_sub(TOLD) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..TOLD].join(", ")),
    }
}

/// Warns of values of -9, which other programs take as missing.
fn warn_of_nines(table: &Table, column: usize, row_of: &[Option<usize>]) {
    let cells = row_of.iter().flatten().filter_map(|&row| table.cell(row, column));
    let nines = cells.filter(|cell| cell.parse() == Ok(-9.0)).count();
    if nines > 0 {
        let (path, name) = (table.path().display(), &table.columns()[column]);
        log::warn!("{path}: {nines} values of {name} are -9; if that means missing, add --missing -9");
    }
}

/// Animals without a row of covariates lose their records; the number is told, and losing all is an error.
pub(super) fn drop_records(table: &Table, row_of: &[Option<usize>], y: &mut Array2<f64>) -> Result<()> {
    let has_record = |y: &Array2<f64>, i: usize| y.row(i).iter().any(|x| !x.is_nan());
    let lost: Vec<usize> = (0..y.nrows()).filter(|&i| row_of[i].is_none() && has_record(y, i)).collect();
    for &i in &lost {
        y.row_mut(i).fill(f64::NAN);
    }
    let path = table.path().display();
    if !lost.is_empty() {
        log::info!("{path}: {} animals with records lack covariates and are left out", lost.len());
    }
    if (0..y.nrows()).any(|i| has_record(y, i)) {
        return Ok(());
    }
    Err(Error::input(path, "covariates of animals with records", "none", "check the names of the animals"))
}
