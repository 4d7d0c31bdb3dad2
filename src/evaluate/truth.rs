//! Predictions of a simulated herd beside its true genetic values.

use crate::error::{Error, Result};
use crate::evaluate::crossvalidate::Done;
use crate::records::table::Table;
use ndarray::Array2;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// True total genetic values of the animals `ids`, (n, t), from the table that a simulation writes.
pub fn read(path: &Path, ids: &[String], traits: &[String]) -> Result<Array2<f64>> {
    let table = Table::read(path, None)?;
    let rows: HashMap<&str, usize> =
        table.ids().iter().enumerate().map(|(row, id)| (id.as_str(), row)).collect();
    let columns = table.find(traits)?;
    let mut out = Array2::zeros((ids.len(), traits.len()));
    for (i, id) in ids.iter().enumerate() {
        for (k, &column) in columns.iter().enumerate() {
            let cell = rows.get(id.as_str()).and_then(|&row| table.cell(row, column));
            out[[i, k]] = cell.and_then(|text| text.parse().ok()).ok_or_else(|| {
                let expected = format!("a genetic value of {id} for {}", traits[k]);
                Error::input(path.display(), expected, "none", "begin the study again with --force")
            })?;
        }
    }
    Ok(out)
}

/// The same results with true genetic values in the place of the tested animals' records.
pub fn instead_of_records(done: &BTreeMap<usize, Done>, truth: &Array2<f64>) -> BTreeMap<usize, Done> {
    let mut done = done.clone();
    for trait_ in done.values_mut().flat_map(|d| &mut d.traits) {
        let column = truth.column(trait_.number);
        let tested = &mut trait_.tested;
        tested.adjusted = tested.animal.iter().map(|&i| column[i as usize]).collect();
        tested.record.clone_from(&tested.adjusted);
        tested.fixed.fill(0.0);
    }
    done
}
