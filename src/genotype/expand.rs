//! A store with a row a record: where animals have records in several environments, each row is an animal in one of them.

use super::store::{Store, StoreWriter, CHUNK_ROWS};
use crate::error::Result;
use crate::packed::{self, Tally};
use std::ops::Range;
use std::path::Path;

/// A row of the new store.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Row {
    /// The animal, among those of the first store.
    pub animal: usize,
    /// The name of the row, unique.
    pub id: String,
}

/// Writes a store in which each row has the calls, sex and date of birth of its animal, and the animal's name as its
/// group, so that splits by groups keep the records of an animal together. Rows are in the order of their animals.
/// Frequencies are those of the rows. On the calling rank.
///
/// # Errors
/// Names that stand twice, and what reading and writing meet.
///
/// # Panics
/// Rows in another order.
pub fn expand(store: &Store, rows: &[Row], path: &Path, force: bool) -> Result<()> {
    assert!(rows.is_sorted_by_key(|row| row.animal), "rows in the order of their animals");
    let m = store.n_variants();
    let all: Vec<usize> = (0..m).collect();
    let mut tallies: Vec<Tally> = vec![Tally::default(); m];
    let mut writer = StoreWriter::create(path, rows.len(), m, force)?;
    for block in blocks(rows) {
        let (first, last) = (rows[block.start].animal, rows[block.end - 1].animal);
        let places: Vec<usize> = rows[block.clone()].iter().map(|row| row.animal - first).collect();
        let calls = store.read(first..last + 1, 0..m)?.select(&places, &all);
        for (total, of) in tallies.iter_mut().zip(calls.tally_columns()) {
            total.iter_mut().zip(of).for_each(|(total, count)| *total += count);
        }
        writer.write_rows(block.start, &calls)?;
    }
    let of: Vec<usize> = rows.iter().map(|row| row.animal).collect();
    let mut animals = store.animals().select(&of);
    animals.group = std::mem::replace(&mut animals.id, rows.iter().map(|row| row.id.clone()).collect());
    let mut variants = store.variants().clone();
    for (j, tally) in tallies.iter().enumerate() {
        variants.frequency[j] = packed::frequency(tally).unwrap_or(f64::NAN);
        variants.missing[j] = tally[3];
    }
    writer.finish(&animals, &variants)
}

/// Rows that are made at a time: few, and of animals that stand near each other.
fn blocks(rows: &[Row]) -> Vec<Range<usize>> {
    let mut blocks: Vec<Range<usize>> = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        match blocks.last_mut() {
            Some(block) if block.len() < CHUNK_ROWS && row.animal - rows[block.start].animal < CHUNK_ROWS => {
                block.end = at + 1;
            }
            _ => blocks.push(at..at + 1),
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_tile_the_rows_and_stay_small() {
        let row = |animal: usize| Row { animal, id: String::new() };
        let rows: Vec<Row> =
            (0..5000).map(|k| row(k / 3)).chain((0..40).map(|k| row(3000 + 500 * k))).collect();
        let found = blocks(&rows);
        assert!(found[0].start == 0 && found.windows(2).all(|two| two[0].end == two[1].start));
        assert_eq!(found.last().unwrap().end, rows.len());
        let span = |block: &Range<usize>| rows[block.end - 1].animal - rows[block.start].animal;
        assert!(found.iter().all(|block| block.len() <= CHUNK_ROWS && span(block) < CHUNK_ROWS));
        assert!(found.len() < 30, "{found:?}");
        assert!(blocks(&[]).is_empty());
    }
}
