//! Every prediction of a study in one table, so that readers can compute what the program does not.

use crate::error::Result;
use crate::evaluate::crossvalidate::{Done, Plan};
use crate::output;
use crate::report::table::number;
use flate2::write::GzEncoder;
use flate2::Compression;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// Validation, repetition, fold, model, animal.
type Place = (usize, usize, usize, u32);

/// Writes `predictions.tsv.gz`: validation, repetition, fold, model, id, and one column a trait with predicted genetic
/// values, NA where the animal has no record of the trait.
///
/// # Errors
/// What the disk meets.
pub fn write(
    path: &Path,
    plan: &Plan,
    done: &BTreeMap<usize, Done>,
    (ids, traits): (&[String], &[String]),
) -> Result<()> {
    let mut rows: BTreeMap<Place, Vec<f64>> = BTreeMap::new();
    for d in done.values() {
        for p in &d.traits {
            for (&animal, &value) in p.tested.animal.iter().zip(&p.tested.prediction) {
                let place = (d.task.validation, d.task.split, d.task.model, animal);
                rows.entry(place).or_insert_with(|| vec![f64::NAN; traits.len()])[p.number] = value;
            }
        }
    }
    output::write_file(path, true, |out| {
        let mut out = GzEncoder::new(out, Compression::default());
        writeln!(out, "validation\trepetition\tfold\tmodel\tid\t{}", traits.join("\t"))?;
        for ((validation, split, model, animal), values) in rows {
            let v = &plan.validations[validation];
            let s = &v.splits.splits[split];
            let values: Vec<String> = values.into_iter().map(number).collect();
            let (model, id) = (&plan.models[model].name, &ids[animal as usize]);
            writeln!(out, "{}\t{}\t{}\t{model}\t{id}\t{}", v.name, s.repetition, s.fold, values.join("\t"))?;
        }
        out.finish().map(drop)
    })
}
