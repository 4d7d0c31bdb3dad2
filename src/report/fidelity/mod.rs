//! What `fidelity` found: the table, the pictures, the page.

mod page;
mod pictures;

pub use page::Page;
pub use pictures::pictures;

use crate::evaluate::fidelity::Findings;
use crate::report::table::{Entry, Table};

/// All metrics: of the whole sets, of sets as large as the baseline's, of two halves of the real animals.
pub fn table(findings: &Findings) -> Table {
    let mut table = Table::new(&["metric", "value", "matched", "baseline", "ideal", "verdict"]);
    for row in &findings.rows {
        let mut entries: Vec<Entry> = vec![row.metric.into()];
        entries.extend([row.value, row.matched, row.baseline].map(Entry::from));
        entries.extend([Entry::from(row.ideal), row.verdict.as_str().into()]);
        table.push(entries);
    }
    table
}
