//! The design of fixed effects: intercept, dummy-coded categories, numbers.

use crate::error::{Error, Result};
use crate::genotype::table::Table;
use crate::stats;
use ndarray::{Array1, Array2, Axis};
use std::collections::{BTreeSet, HashMap};

/// Fixed effects that a message names.
const MOST_NAMES: usize = 10;

/// The design of the fixed effects in the making.
pub(super) struct Design {
    names: Vec<String>,
    columns: Vec<Array1<f64>>, // q of (n)
}

impl Design {
    /// The intercept alone.
    pub(super) fn new(n: usize) -> Self {
        Design { names: vec!["intercept".into()], columns: vec![Array1::ones(n)] }
    }

    /// Adds the columns `names` (all when empty) of a table. Animals without all of them lose their records.
    pub(super) fn add(
        &mut self,
        table: &Table,
        names: &[String],
        categorical: bool,
        place: &HashMap<&str, usize>,
        y: &mut Array2<f64>,
    ) -> Result<()> {
        let chosen =
            if names.is_empty() { (0..table.columns().len()).collect() } else { table.find(names)? };
        let mut row_of = vec![None; y.nrows()];
        for (row, id) in table.ids().iter().enumerate() {
            if let Some(&i) = place.get(id.as_str()) {
                row_of[i] = Some(row).filter(|&r| chosen.iter().all(|&c| table.cell(r, c).is_some()));
            }
        }
        drop_records(table, &row_of, y)?;
        for column in chosen {
            warn_of_nines(table, column, &row_of);
            if categorical {
                self.add_levels(table, column, &row_of, y);
            } else {
                self.add_numbers(table, column, &row_of)?;
            }
        }
        Ok(())
    }

    /// One column of zeros and ones for every level of animals with records but the first in alphabetical order.
    fn add_levels(&mut self, table: &Table, column: usize, row_of: &[Option<usize>], y: &Array2<f64>) {
        let level = |row: &Option<usize>| row.and_then(|r| table.cell(r, column));
        let recorded = row_of.iter().zip(y.rows()).filter(|(_, y)| y.iter().any(|x| !x.is_nan()));
        let levels: BTreeSet<&str> = recorded.filter_map(|(row, _)| level(row)).collect();
        for name in levels.into_iter().skip(1) {
            self.names.push(format!("{}={name}", table.columns()[column]));
            self.columns.push(row_of.iter().map(|r| f64::from(u8::from(level(r) == Some(name)))).collect());
        }
    }

    fn add_numbers(&mut self, table: &Table, column: usize, row_of: &[Option<usize>]) -> Result<()> {
        let mut values = Array1::zeros(row_of.len());
        for (value, row) in values.iter_mut().zip(row_of) {
            if let Some(row) = row {
                *value = table.number(*row, column)?.unwrap_or(0.0);
            }
        }
        self.names.push(table.columns()[column].clone());
        self.columns.push(values);
        Ok(())
    }

    /// The columns that are independent over the animals with records; the others are named and dropped.
    pub(super) fn of_full_rank(self, y: &Array2<f64>) -> Result<(Vec<String>, Array2<f64>)> {
        let n = y.nrows();
        let mut all = Array2::zeros((n, self.columns.len()));
        for (mut to, from) in all.axis_iter_mut(Axis(1)).zip(&self.columns) {
            to.assign(from);
        }
        let rows: Vec<usize> = (0..n).filter(|&i| y.row(i).iter().any(|x| !x.is_nan())).collect();
        let keep = stats::independent_columns(all.select(Axis(0), &rows).view());
        let dropped: Vec<&str> =
            (0..self.names.len()).filter(|j| !keep.contains(j)).map(|j| self.names[j].as_str()).collect();
        if !dropped.is_empty() {
            let more = match dropped.len().checked_sub(MOST_NAMES) {
                Some(more @ 1..) => format!(" and {more} more"),
                _ => String::new(),
            };
            let names = dropped[..dropped.len().min(MOST_NAMES)].join(", ");
            log::info!("fixed effects that follow from the others are left out: {names}{more}");
        }
        if keep.len() >= rows.len() {
            return Err(Error::input(
                "covariates",
                format!("fewer independent columns than the {} animals with records", rows.len()),
                keep.len(),
                "leave out covariates with a level for almost every animal",
            ));
        }
        Ok((keep.iter().map(|&j| self.names[j].clone()).collect(), all.select(Axis(1), &keep)))
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
fn drop_records(table: &Table, row_of: &[Option<usize>], y: &mut Array2<f64>) -> Result<()> {
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
