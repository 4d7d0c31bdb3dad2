//! The learning curve of a generator.

/// Named columns of numbers, the first being the epoch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curve {
    /// Names of the columns.
    pub columns: Vec<&'static str>,
    /// One row an epoch.
    pub rows: Vec<Vec<f64>>,
}

impl Curve {
    /// An empty curve; `columns` begin with `epoch`.
    pub fn new(columns: &[&'static str]) -> Curve {
        Curve { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds an epoch, one number a column.
    pub fn push(&mut self, row: &[f64]) {
        assert_eq!(row.len(), self.columns.len(), "one number a column");
        self.rows.push(row.to_vec());
    }

    /// Whether there is no epoch.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}
