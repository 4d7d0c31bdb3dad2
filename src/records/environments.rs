//! Records of animals in several environments, in long format, as tables with a row a record.

use super::phenotype::Columns;
use super::table::Table;
use crate::error::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// What to read.
#[derive(Debug, Clone, Default)]
pub struct LongSources {
    /// Records: a line an animal and environment.
    pub records: PathBuf,
    /// The column of the environment.
    pub by: String,
    /// Columns that are traits; empty for every numeric column that is no feature.
    pub traits: Vec<String>,
    /// Columns of the records that are features beside the environment.
    pub features: Vec<String>,
    /// What is known of environments: their names in the first column, and features.
    pub environments: Option<Columns>,
    /// One more text that stands for a missing value.
    pub missing: Option<String>,
}

/// Columns of text with a row a record.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Texts {
    /// Names of the columns.
    pub names: Vec<String>,
    /// The cells of each row, `NA` where there is none.
    pub rows: Vec<Vec<String>>,
}

/// Rows in the order of their animals.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LongRows {
    /// The animal of each row, among the store's.
    pub animal: Vec<usize>,
    /// The name of each row, unique: ANIMAL@ENVIRONMENT, and `.2` and so on behind it where that stands again.
    pub id: Vec<String>,
    /// Traits; no columns where there are none.
    pub records: Texts,
    /// The environment, then other features.
    pub features: Texts,
}

impl LongRows {
    /// The lines of `animals` whose environment is known. On the calling rank.
    ///
    /// # Errors
    /// Damaged tables, unknown columns, features that stand twice, and no line of an animal.
    pub fn read(animals: &[String], sources: &LongSources) -> Result<LongRows> {
        let missing = sources.missing.as_deref();
        let table = Table::read_keyed_lines(&sources.records, &["id", "iid"], missing)?;
        let by = table.find(std::slice::from_ref(&sources.by))?[0];
        let own = table.find(&sources.features)?;
        let traits = match sources.traits.is_empty() {
            true => {
                let other = |c: &usize| *c != by && !own.contains(c) && table.is_numeric(*c);
                (0..table.columns().len()).filter(other).collect()
            }
            false => table.find(&sources.traits)?,
        };
        let place: HashMap<&str, usize> =
            animals.iter().enumerate().map(|(i, id)| (id.as_str(), i)).collect();
        let lines = (0..table.ids().len()).filter_map(|line| {
            let animal = place.get(table.ids()[line].as_str())?;
            Some((*animal, table.cell(line, by)?, line))
        });
        let mut lines: Vec<(usize, &str, usize)> = lines.collect();
        log::info!(
            "{}: {} of {} lines are of animals with genotypes in known environments",
            table.path().display(),
            lines.len(),
            table.ids().len()
        );
        if lines.is_empty() {
            let expected = "lines of animals with genotypes, with an environment";
            return Err(Error::input(
                table.path().display(),
                expected,
                "none",
                "check the names of the animals",
            ));
        }
        lines.sort_by_key(|(animal, ..)| *animal);
        let about = Environments::read(sources)?;
        let chosen = std::iter::once(&by).chain(&own);
        let names: Vec<String> =
            chosen.clone().map(|&c| table.columns()[c].clone()).chain(about.names.iter().cloned()).collect();
        let mut seen = HashSet::new();
        if let Some(twice) = names.iter().find(|name| !seen.insert(name.as_str())) {
            let found = format!("{twice} again");
            return Err(Error::input(
                table.path().display(),
                "every feature once",
                found,
                "rename one of the two",
            ));
        }
        for &c in &traits {
            lines.iter().try_for_each(|&(.., line)| table.number(line, c).map(drop))?;
        }
        let text = |line: usize, c: usize| table.cell(line, c).unwrap_or("NA").to_owned();
        let of_traits = |&(.., line): &(usize, &str, usize)| traits.iter().map(|&c| text(line, c)).collect();
        let of_features = |&(_, environment, line): &(usize, &str, usize)| {
            let own = chosen.clone().map(|&c| text(line, c));
            own.chain(about.of(environment)).collect()
        };
        Ok(LongRows {
            animal: lines.iter().map(|(animal, ..)| *animal).collect(),
            id: unique(
                lines.iter().map(|&(animal, environment, _)| format!("{}@{environment}", animals[animal])),
            ),
            records: Texts {
                names: traits.iter().map(|&c| table.columns()[c].clone()).collect(),
                rows: lines.iter().map(of_traits).collect(),
            },
            features: Texts { names, rows: lines.iter().map(of_features).collect() },
        })
    }
}

/// Names, those that stand again with a number behind them.
fn unique(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen: HashSet<String> = HashSet::new();
    let mut count: HashMap<String, usize> = HashMap::new();
    let mut one = |name: String| {
        let count = count.entry(name.clone()).or_insert(0);
        loop {
            *count += 1;
            let id = if *count == 1 { name.clone() } else { format!("{name}.{count}") };
            if seen.insert(id.clone()) {
                return id;
            }
        }
    };
    names.map(&mut one).collect()
}

/// What is known of environments.
#[derive(Default)]
struct Environments {
    names: Vec<String>,
    of: HashMap<String, Vec<String>>,
}

impl Environments {
    fn read(sources: &LongSources) -> Result<Environments> {
        let Some(Columns { path, names }) = &sources.environments else { return Ok(Environments::default()) };
        let table = read_environments(path, &sources.by, sources.missing.as_deref())?;
        let columns =
            if names.is_empty() { (0..table.columns().len()).collect() } else { table.find(names)? };
        let row =
            |line: usize| columns.iter().map(|&c| table.cell(line, c).unwrap_or("NA").to_owned()).collect();
        let of = table.ids().iter().enumerate().map(|(line, name)| (name.clone(), row(line))).collect();
        Ok(Environments { names: columns.iter().map(|&c| table.columns()[c].clone()).collect(), of })
    }

    /// The features of an environment; missing ones where the table does not have it.
    fn of(&self, environment: &str) -> Vec<String> {
        self.of.get(environment).cloned().unwrap_or_else(|| vec!["NA".into(); self.names.len()])
    }
}

fn read_environments(path: &Path, by: &str, missing: Option<&str>) -> Result<Table> {
    let key = by.to_lowercase();
    Table::read_keyed(path, &[&key, "environment", "id"], missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dir: &Path, change: impl FnOnce(&mut LongSources)) -> Result<LongRows> {
        let records = dir.join("long.tsv");
        std::fs::write(
            &records,
            "id\tenv\tyield\tsown\theight\tsoil\nb\tE1\t5\t10\tNA\tclay\nx\tE1\t4\t10\t3\tclay\na\tE2\t7\t11\t2\tsand\n\
             a\tE1\t6\tNA\t1\tclay\na\tE1\t8\t10\t1\tclay\na\tNA\t8\t10\t1\tclay\n",
        )
        .unwrap();
        let mut sources = LongSources { records, by: "env".into(), ..LongSources::default() };
        change(&mut sources);
        LongRows::read(&["a", "b", "c"].map(String::from), &sources)
    }

    #[test]
    fn lines_become_rows_in_the_order_of_the_animals_with_their_environment() {
        let dir = tempfile::tempdir().unwrap();
        let about = dir.path().join("env.tsv");
        std::fs::write(&about, "env\train\nE1\t300\nE3\t10\n").unwrap();
        let found = read(dir.path(), |s| {
            s.features = vec!["sown".into(), "soil".into()];
            s.environments = Some(Columns { path: about, names: vec![] });
        })
        .unwrap();
        assert_eq!(found.animal, [0, 0, 0, 1]);
        assert_eq!(found.id, ["a@E2", "a@E1", "a@E1.2", "b@E1"]);
        assert_eq!(found.records.names, ["yield", "height"]);
        assert_eq!(found.records.rows, [["7", "2"], ["6", "1"], ["8", "1"], ["5", "NA"]]);
        assert_eq!(found.features.names, ["env", "sown", "soil", "rain"]);
        assert_eq!(found.features.rows[0], ["E2", "11", "sand", "NA"]);
        assert_eq!(found.features.rows[1], ["E1", "NA", "clay", "300"]);
    }

    #[test]
    fn names_that_stand_again_never_meet() {
        let names = ["a@1", "a@1.2", "a@1", "a@1", "a@1.2"].map(String::from);
        assert_eq!(unique(names.into_iter()), ["a@1", "a@1.2", "a@1.3", "a@1.4", "a@1.2.2"]);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |change: fn(&mut LongSources)| read(dir.path(), change).unwrap_err().to_string();
        assert!(refused(|s| s.by = "evn".into()).contains("did you mean \"env\"?"));
        assert!(refused(|s| s.features = vec!["env".into()]).contains("env again"));
        let told = refused(|s| s.traits = vec!["soil".into()]);
        assert!(told.contains("column soil") && told.contains("number"), "{told}");
        std::fs::write(dir.path().join("e.tsv"), "env\tsoil\nE1\t1\n").unwrap();
        let path = dir.path().join("e.tsv");
        let twice = read(dir.path(), |s| {
            s.features = vec!["soil".into()];
            s.environments = Some(Columns { path, names: vec![] });
        });
        assert!(twice.unwrap_err().to_string().contains("soil again"));
        let none = LongRows::read(
            &["z".into()],
            &LongSources { records: dir.path().join("long.tsv"), by: "env".into(), ..LongSources::default() },
        );
        assert!(none.unwrap_err().to_string().contains("animals with genotypes"));
    }
}
