//! Records in long format: one line a record, several an animal where they repeat, with the classes of every record.

use crate::comm::World;
use crate::error::Result;
use crate::records::factor::Factor;
use crate::records::phenotype::{check_left, check_traits, Columns, Parts, Phenotypes, Reader, Sources};
use crate::records::table::Repeats;
use ndarray::Axis;
use std::collections::HashMap;

/// Levels of a fixed class from which on it is absorbed unasked.
const ABSORBED_ABOVE: usize = 200;

/// Classes of records that the model has beside covariates.
#[derive(Debug, Clone, Default)]
pub struct Classes {
    /// Random class effects: each one column, of a file or (no names) of the phenotypes' table itself.
    pub random: Vec<Columns>,
    /// A fixed class of many levels that is absorbed.
    pub absorbed: Option<Columns>,
}

/// Records line by line. What takes one record an animal takes [`Phenotypes`] instead.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct LongRecords {
    /// Records, design and weights, a row a line.
    pub records: Phenotypes,
    /// The animal of each row, among the store's.
    pub animal: Vec<usize>,
    /// The random classes in the order in which they were asked for.
    pub classes: Vec<Factor>,
    /// The fixed class that the design lacks.
    pub absorbed: Option<Factor>,
}

impl LongRecords {
    /// Reads and aligns on the root, and gives every rank the result. Rows are the lines of the phenotypes' table that
    /// have a record, all covariates and classes, and genotypes. Columns of that table that are covariates or classes are
    /// no traits. Collective.
    ///
    /// # Errors
    /// Damaged tables, unknown columns, and records that leave nothing to estimate.
    pub fn read(
        world: &World,
        animals: &[String],
        sources: &Sources,
        classes: &Classes,
    ) -> Result<LongRecords> {
        world.on_root(|| align(animals, sources, classes))
    }

    /// One record an animal, without classes.
    pub fn of(records: Phenotypes) -> LongRecords {
        let animal = (0..records.y.nrows()).collect();
        LongRecords { records, animal, classes: Vec::new(), absorbed: None }
    }

    /// The random class of that name.
    pub fn class(&self, name: &str) -> Option<&Factor> {
        self.classes.iter().find(|factor| factor.name == name)
    }

    /// The largest number of lines of an animal.
    pub fn most_repeated(&self) -> usize {
        let mut count: HashMap<usize, usize> = HashMap::new();
        self.animal.iter().for_each(|&a| *count.entry(a).or_default() += 1);
        count.into_values().max().unwrap_or(0)
    }

    /// The animals as a class: the permanent environment of each. Levels are those with a line.
    pub fn animals_as_class(&self, name: &str, ids: &[String]) -> Factor {
        Factor::new(name, self.animal.iter().map(|&a| ids[a].as_str()))
    }
}

fn align(animals: &[String], sources: &Sources, classes: &Classes) -> Result<LongRecords> {
    let own = |columns: &&Columns| columns.names.is_empty();
    let name = |columns: &Columns| columns.path.to_string_lossy().into_owned();
    let all = classes.random.iter().chain(&classes.absorbed);
    let of_table = all.clone().filter(own).map(name);
    let taken: Vec<String> = of_table.chain(all.flat_map(|c| c.names.clone())).collect();
    let reader = Reader { animals, sources, repeats: Repeats::Taken, taken: &taken };
    let (mut parts, mut design) = reader.read()?;
    let random =
        classes.random.iter().map(|c| reader.class(c, &mut parts)).collect::<Result<Vec<Levels>>>()?;
    let absorbed = match &classes.absorbed {
        Some(columns) => Some(reader.class(columns, &mut parts)?),
        None => design.take_largest(ABSORBED_ABOVE),
    };
    if let (Some((name, _)), None) = (&absorbed, &classes.absorbed) {
        log::info!("{name} has more than {ABSORBED_ABOVE} levels: absorbed by its means");
    }
    check_traits(&parts.traits, &parts.y, &reader.file())?;
    // Levels of rows without a record do not count: the rows go in the end.
    let whole = absorbed.map(|(name, levels)| factor(&name, &levels));
    let (effects, design) = design.of_full_rank(&parts.y, whole.as_ref())?;
    check_left(&parts.traits, &parts.y, &design, whole.as_ref(), &reader.file())?;
    let rows: Vec<usize> =
        (0..parts.y.nrows()).filter(|&i| parts.y.row(i).iter().any(|y| !y.is_nan())).collect();
    let Parts { traits, y, weights, animal, .. } = parts;
    let records = Phenotypes {
        traits,
        y: y.select(Axis(0), &rows),
        effects,
        design: design.select(Axis(0), &rows),
        weights: weights.map(|w| w.select(Axis(0), &rows)),
        ..Phenotypes::default()
    };
    Ok(LongRecords {
        records,
        animal: rows.iter().map(|&i| animal[i]).collect(),
        classes: random.iter().map(|(name, levels)| factor(name, levels).select(&rows).compact()).collect(),
        absorbed: whole.map(|factor| factor.select(&rows).compact()),
    })
}

/// A class's name and the level of each row.
type Levels = (String, Vec<Option<String>>);

/// The class of all rows; those without a level have no record either, and take the empty name.
fn factor(name: &str, levels: &[Option<String>]) -> Factor {
    Factor::new(name, levels.iter().map(|level| level.as_deref().unwrap_or("")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const TABLE: &str = "id\therd_year\tparity\tage\tmilk\tfat\n\
        a\tH1\t1\t24\t5\t50\nb\tH1\t1\t25\t6\tNA\na\tH2\t2\t37\t7\t70\nx\tH2\t1\t24\t9\t90\n\
        c\tNA\t2\t36\t1\t10\nb\tH2\t2\t38\t8\t75\nc\tH1\t1\t23\t4\t40\na\tH3\t3\t50\tNA\tNA\nd\tH2\t1\t26\t3\t33\n";

    fn herd() -> Vec<String> {
        ["a", "b", "c", "d", "e"].map(String::from).to_vec()
    }

    fn read(dir: &Path, sources: impl FnOnce(Columns) -> Sources, classes: &Classes) -> Result<LongRecords> {
        let path = dir.join("long.tsv");
        std::fs::write(&path, TABLE).unwrap();
        let sources = sources(Columns { path, names: vec!["milk".into(), "fat".into()] });
        LongRecords::read(&World::alone(), &herd(), &sources, classes)
    }

    #[test]
    fn several_lines_an_animal_are_rows_with_their_own_classes_and_covariates() {
        let dir = tempfile::tempdir().unwrap();
        let classes = Classes { random: vec!["herd_year".parse().unwrap()], absorbed: None };
        let own = |phenotypes: Columns| Sources {
            covariates: Some(Columns { names: vec!["parity".into()], ..phenotypes.clone() }),
            quantitative: Some(Columns { names: vec!["age".into()], ..phenotypes.clone() }),
            phenotypes,
            ..Sources::default()
        };
        let long = read(dir.path(), own, &classes).unwrap();
        // Out: x has no genotypes, a line of c no herd_year, a line of a no record.
        assert_eq!(long.animal, [0, 1, 0, 1, 2, 3]);
        assert_eq!(long.records.y.column(0).to_vec(), [5.0, 6.0, 7.0, 8.0, 4.0, 3.0]);
        assert!(long.records.y[[1, 1]].is_nan() && long.records.y[[3, 1]] == 75.0);
        assert_eq!(long.records.effects, ["intercept", "parity=2", "age"]);
        assert_eq!(long.records.design.column(1).to_vec(), [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
        assert_eq!(long.records.design.column(2).to_vec(), [24.0, 25.0, 37.0, 38.0, 23.0, 26.0]);
        let class = long.class("herd_year").unwrap();
        assert_eq!((class.levels.join(" "), &class.level[..]), ("H1 H2".into(), &[0, 0, 1, 1, 0, 1][..]));
        let animals = long.animals_as_class("permanent_environment", &herd());
        assert_eq!((animals.levels.join(""), animals.counts()), ("abcd".into(), vec![2, 2, 1, 1]));
        assert_eq!(long.most_repeated(), 2);
    }

    #[test]
    fn weights_and_covariates_of_animals_serve_all_of_their_lines() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (w, c) =
            (file("w", "id\tw\na\t2\nb\t3\nc\t4\nd\t1\n"), file("c", "id\tsex\na\tm\nb\tf\nc\tm\nd\tf\n"));
        let sources = |phenotypes| Sources {
            phenotypes,
            covariates: Some(Columns { path: c, names: vec!["sex".into()] }),
            weights: Some(w),
            ..Sources::default()
        };
        let long = read(dir.path(), sources, &Classes::default()).unwrap();
        assert_eq!(long.animal, [0, 1, 0, 2, 1, 2, 3]);
        assert_eq!(long.records.weights.unwrap().column(0).to_vec(), [2.0, 3.0, 2.0, 4.0, 3.0, 4.0, 1.0]);
        assert_eq!(long.records.design.column(1).to_vec(), [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn an_absorbed_class_takes_the_intercept_and_what_follows_from_it_out_of_the_design() {
        let dir = tempfile::tempdir().unwrap();
        let classes = Classes { random: vec![], absorbed: Some("herd_year".parse().unwrap()) };
        let own = |phenotypes: Columns| Sources {
            covariates: Some(Columns {
                names: vec!["herd_year".into(), "parity".into()],
                ..phenotypes.clone()
            }),
            phenotypes,
            ..Sources::default()
        };
        let long = read(dir.path(), own, &classes).unwrap();
        assert_eq!(long.records.effects, ["parity=2"]);
        assert_eq!(long.absorbed.unwrap().levels, ["H1", "H2"]);
    }

    #[test]
    fn a_fixed_class_of_many_levels_is_absorbed_unasked() {
        let dir = tempfile::tempdir().unwrap();
        let levels = ABSORBED_ABOVE + 1;
        let line = |i: usize| format!("{}\tH{}\t{}\n", ["a", "b", "c"][i % 3], i % levels, i * i % 97);
        let text: String = (0..3 * levels).map(line).collect();
        let path = dir.path().join("many.tsv");
        for (text, absorbed) in [(text.clone(), true), (text.replace("H0\t", "H1\t"), false)] {
            std::fs::write(&path, format!("id\therd\tmilk\n{text}")).unwrap();
            let of = |name: &str| Columns { path: path.clone(), names: vec![name.into()] };
            let sources =
                Sources { phenotypes: of("milk"), covariates: Some(of("herd")), ..Sources::default() };
            let long = LongRecords::read(&World::alone(), &herd(), &sources, &Classes::default()).unwrap();
            assert_eq!(long.absorbed.is_some(), absorbed);
            let effects = if absorbed { 0 } else { ABSORBED_ABOVE };
            assert_eq!((long.records.effects.len(), long.animal.len()), (effects, 3 * levels));
        }
    }

    #[test]
    fn repeated_names_are_an_error_that_names_the_option_and_unknown_classes_one_that_tells_the_nearest() {
        let dir = tempfile::tempdir().unwrap();
        let classes = Classes { random: vec!["herd_yaer".parse().unwrap()], absorbed: None };
        let plain = |phenotypes| Sources { phenotypes, ..Sources::default() };
        let e = read(dir.path(), plain, &classes).unwrap_err().to_string();
        assert!(e.contains("did you mean \"herd_year\"?"), "{e}");
        let phenotypes = Columns { path: dir.path().join("long.tsv"), names: vec!["milk".into()] };
        let e = Phenotypes::read(&World::alone(), &herd(), &plain(phenotypes)).unwrap_err().to_string();
        assert!(e.contains("a again (first in line 2)") && e.contains("--repeated"), "{e}");
    }
}
