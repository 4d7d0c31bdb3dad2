//! Phenotypes, covariates and record weights, brought into the order of a store's animals.

use crate::comm::World;
use crate::error::{Error, Result};
use crate::records::design::{drop_records, Design};
use crate::records::factor::Factor;
use crate::records::features::Features;
use crate::records::table::{Repeats, Table};
use crate::stats;
use ndarray::{Array2, Axis};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Largest ratio of two weights of a trait.
const MOST_UNEVEN: f64 = 1e9;

/// A table, and which of its columns to take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// The file.
    pub path: PathBuf,
    /// Names of the columns; empty for all.
    pub names: Vec<String>,
}

impl FromStr for Columns {
    type Err = std::convert::Infallible;

    /// `FILE` or `FILE:name,name`.
    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        Ok(match text.rsplit_once(':') {
            Some((path, names)) if !PathBuf::from(text).exists() && !names.contains('/') => {
                Columns { path: path.into(), names: names.split(',').map(str::to_owned).collect() }
            }
            _ => Columns { path: text.into(), names: Vec::new() },
        })
    }
}

/// Where records, covariates and weights are read from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The traits: a table of `id` (or FID and IID) and one column a trait. Without names, every numeric column is a
    /// trait but for covariates, families, parents, sex, groups and dates of birth.
    pub phenotypes: Columns,
    /// Categorical covariates, one dummy column a level but the first.
    pub covariates: Option<Columns>,
    /// Quantitative covariates.
    pub quantitative: Option<Columns>,
    /// Record weights: one column for all traits, or a column of each trait's name.
    pub weights: Option<PathBuf>,
    /// What models learn from beside the genotypes.
    pub features: Option<Columns>,
    /// One more text that stands for a missing value, such as `-9`.
    pub missing: Option<String>,
}

/// The records of a store's animals, in the store's order.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Phenotypes {
    /// Names of the traits, t.
    pub traits: Vec<String>,
    /// Records, (n, t), NaN where there is none.
    pub y: Array2<f64>,
    /// Names of the fixed effects, q; the first is `intercept`.
    pub effects: Vec<String>,
    /// Design of the fixed effects, (n, q), of full column rank over the animals with records; zero rows but
    /// for the intercept where an animal has no covariates (and therefore no record).
    pub design: Array2<f64>,
    /// Weights w of the records, (n, t); the residual variance of a record is σ²e / w.
    pub weights: Option<Array2<f64>>,
    /// What models learn from beside the genotypes.
    pub features: Features,
}

impl Phenotypes {
    /// Reads and aligns on the root, and gives every rank the result.
    pub fn read(world: &World, animals: &[String], sources: &Sources) -> Result<Phenotypes> {
        world.on_root(|| align(animals, sources))
    }

    /// The animals with a record of trait `t`, in order.
    pub fn recorded(&self, t: usize) -> Vec<usize> {
        (0..self.y.nrows()).filter(|&i| !self.y[[i, t]].is_nan()).collect()
    }

    /// The traits grouped by equal sets of recorded animals and equal weights: (animals, traits).
    pub fn patterns(&self) -> Vec<(Vec<usize>, Vec<usize>)> {
        let mut groups: Vec<(Vec<usize>, Vec<usize>)> = Vec::new();
        for t in 0..self.traits.len() {
            let recorded = self.recorded(t);
            let same = |(animals, traits): &&mut (Vec<usize>, Vec<usize>)| {
                *animals == recorded && self.same_weights(traits[0], t, &recorded)
            };
            match groups.iter_mut().find(same) {
                Some((_, traits)) => traits.push(t),
                None => groups.push((recorded, vec![t])),
            }
        }
        groups
    }

    fn same_weights(&self, a: usize, b: usize, animals: &[usize]) -> bool {
        self.weights.as_ref().is_none_or(|w| animals.iter().all(|&i| w[[i, a]] == w[[i, b]]))
    }
}

/// Columns of records that are traits only where they are named: letters and digits of their names, in lower case,
/// also with `id` behind them (`sire_id`).
const NO_TRAITS: [&str; 16] = [
    "id",
    "fid",
    "iid",
    "animal",
    "family",
    "group",
    "sire",
    "dam",
    "father",
    "mother",
    "pat",
    "mat",
    "sex",
    "gender",
    "birthdate",
    "dateofbirth",
];

fn is_no_trait(name: &str) -> bool {
    let plain: String = name.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect();
    let bare = plain.strip_suffix("id").filter(|bare| !bare.is_empty()).unwrap_or(&plain);
    NO_TRAITS.contains(&plain.as_str()) || NO_TRAITS.contains(&bare)
}

/// A table of covariates, the columns taken (all when empty), and whether they are categorical.
type Covariates<'a> = (Table, &'a [String], bool);

/// Everything on one rank, one record an animal.
fn align(animals: &[String], sources: &Sources) -> Result<Phenotypes> {
    let mut reader = Reader { animals, sources, repeats: Repeats::RefusedRecords, taken: &[] };
    let features = reader.features()?;
    let names = features.names();
    reader.taken = &names;
    let (mut parts, design) = reader.read()?;
    check_traits(&parts.traits, &parts.y, &reader.file())?;
    let (effects, design) = design.of_full_rank(&parts.y, None)?;
    check_left(&parts.traits, &parts.y, &design, None, &reader.file())?;
    Ok(Phenotypes {
        traits: std::mem::take(&mut parts.traits),
        y: parts.y,
        effects,
        design,
        weights: parts.weights,
        features,
    })
}

/// How records are read: one row an animal of the store, or one row a line of the table.
pub(super) struct Reader<'a> {
    /// The store's animals.
    pub animals: &'a [String],
    /// The tables.
    pub sources: &'a Sources,
    /// [`Repeats::Taken`] for one row a line.
    pub repeats: Repeats,
    /// Columns of the phenotypes' table that are no traits.
    pub taken: &'a [String],
}

/// What was read, rows in common.
pub(super) struct Parts {
    /// Names of the traits, t.
    pub traits: Vec<String>,
    /// Records, (rows, t), NaN where there is none.
    pub y: Array2<f64>,
    /// Weights, (rows, t).
    pub weights: Option<Array2<f64>>,
    /// The animal of each row.
    pub animal: Vec<usize>,
    /// The line of the phenotypes' table of each row, where rows are lines.
    line: Option<Vec<usize>>,
}

impl Reader<'_> {
    /// The phenotypes' file, for messages.
    pub fn file(&self) -> String {
        self.sources.phenotypes.path.display().to_string()
    }

    /// Reads records, weights and covariates; records that lack one of the others are dropped.
    pub fn read(&self) -> Result<(Parts, Design)> {
        let covariates = self.covariates()?;
        let mut parts = self.traits(&covariates)?;
        if let Some(path) = &self.sources.weights {
            let table = self.table(path, "weight", &parts.traits, Repeats::Refused)?;
            let row_of = self.row_of(&table, &parts);
            parts.weights = Some(read_weights(&table, &row_of, &parts.traits, &mut parts.y)?);
        }
        let mut design = Design::default();
        for (table, names, categorical) in &covariates {
            let row_of = self.row_of(table, &parts);
            design.add(table, names, *categorical, row_of, &mut parts.y)?;
        }
        Ok((parts, design))
    }

    /// A class of the records, and no record where it has no level; `columns` names one column of a file, or of the
    /// phenotypes' table alone.
    pub fn class(&self, columns: &Columns, parts: &mut Parts) -> Result<(String, Vec<Option<String>>)> {
        let (path, name) = match &columns.names[..] {
            [] => (&self.sources.phenotypes.path, columns.path.to_string_lossy().into_owned()),
            [name] => (&columns.path, name.clone()),
            more => {
                let place = columns.path.display();
                let advice = "give the option once for each of them";
                return Err(Error::input(place, "one column of levels", more.join(","), advice));
            }
        };
        let table = self.table(path, "class", std::slice::from_ref(&name), self.repeats_in(path))?;
        let column = table.find(std::slice::from_ref(&name))?[0];
        let row_of = self.row_of(&table, parts);
        let row_of: Vec<Option<usize>> =
            row_of.into_iter().map(|row| row.filter(|&r| table.cell(r, column).is_some())).collect();
        drop_records(&table, &row_of, &mut parts.y)?;
        let level = |row: &Option<usize>| row.and_then(|r| table.cell(r, column)).map(str::to_owned);
        Ok((name, row_of.iter().map(level).collect()))
    }

    fn features(&self) -> Result<Features> {
        let read = |columns| Features::read(self.animals, columns, self.sources.missing.as_deref());
        self.sources.features.as_ref().map_or_else(|| Ok(Features::default()), read)
    }

    fn table(&self, path: &Path, prefix: &str, names: &[String], repeats: Repeats) -> Result<Table> {
        Table::read_records(path, self.sources.missing.as_deref(), prefix, names, repeats)
    }

    /// Whether a file is read line by line: the phenotypes' own in long format.
    fn repeats_in(&self, path: &Path) -> Repeats {
        let own = &self.sources.phenotypes.path;
        let same = || matches!((path.canonicalize(), own.canonicalize()), (Ok(a), Ok(b)) if a == b);
        match self.repeats == Repeats::Taken && (path == own || same()) {
            true => Repeats::Taken,
            false => Repeats::Refused,
        }
    }

    fn covariates(&self) -> Result<Vec<Covariates<'_>>> {
        let kinds =
            [(&self.sources.covariates, true, "covar"), (&self.sources.quantitative, false, "qcovar")];
        let tables = kinds.into_iter().filter_map(|(columns, categorical, prefix)| {
            let Columns { path, names } = columns.as_ref()?;
            let table = self.table(path, prefix, names, self.repeats_in(path));
            Some(table.map(|table| (table, names.as_slice(), categorical)))
        });
        tables.collect()
    }

    /// The row of a table that belongs to each record: that of its line, or that of its animal.
    fn row_of(&self, table: &Table, parts: &Parts) -> Vec<Option<usize>> {
        match &parts.line {
            Some(lines) if self.repeats_in(table.path()) == Repeats::Taken => {
                lines.iter().copied().map(Some).collect()
            }
            _ => {
                let rows: HashMap<&str, usize> =
                    table.ids().iter().enumerate().map(|(row, id)| (id.as_str(), row)).collect();
                parts.animal.iter().map(|&a| rows.get(self.animals[a].as_str()).copied()).collect()
            }
        }
    }

    /// Names and records of the traits.
    fn traits(&self, covariates: &[Covariates]) -> Result<Parts> {
        let Columns { path, names } = &self.sources.phenotypes;
        let table = self.table(path, "trait", names, self.repeats)?;
        let columns = trait_columns(&table, names, covariates, self.taken)?;
        let place: HashMap<&str, usize> =
            self.animals.iter().enumerate().map(|(i, id)| (id.as_str(), i)).collect();
        let found = match_animals(&table, self.animals, &place)?;
        let (animal, line, to) = match self.repeats {
            Repeats::Taken => by_line(&found),
            _ => ((0..self.animals.len()).collect(), None, found.clone()),
        };
        let mut y = Array2::from_elem((animal.len(), columns.len()), f64::NAN);
        let mut recorded = vec![false; to.len()];
        for (t, &column) in columns.iter().enumerate() {
            // Every cell is checked, also those of animals without genotypes: a damaged file is told as such.
            for (row, to) in to.iter().enumerate() {
                let Some(x) = table.number(row, column)? else { continue };
                recorded[row] = true;
                if let Some(i) = to {
                    y[[*i, t]] = x;
                }
            }
            let nines = y.column(t).iter().filter(|&&x| x == -9.0).count();
            if nines > 0 {
                let name = &table.columns()[column];
                log::warn!("{name}: {nines} records are -9; if that means missing, add --missing -9");
            }
        }
        match line {
            None => tell_matches(&table, &found, &recorded, (self.animals, &y)),
            Some(_) => tell_lines(&table, &found, &recorded),
        }
        let traits = columns.iter().map(|&c| table.columns()[c].clone()).collect();
        Ok(Parts { traits, y, weights: None, animal, line })
    }
}

/// Rows that are the lines of animals with genotypes: the animal and the line of each row, and the row of each line.
type ByLine = (Vec<usize>, Option<Vec<usize>>, Vec<Option<usize>>);

fn by_line(found: &[Option<usize>]) -> ByLine {
    let lines: Vec<usize> = (0..found.len()).filter(|&l| found[l].is_some()).collect();
    let mut to = vec![None; found.len()];
    lines.iter().enumerate().for_each(|(row, &line)| to[line] = Some(row));
    (found.iter().flatten().copied().collect(), Some(lines), to)
}

/// Tells how many records have genotypes, and of how many animals.
fn tell_lines(table: &Table, found: &[Option<usize>], recorded: &[bool]) {
    let with = |l: &usize| recorded[*l] && found[*l].is_some();
    let lines: Vec<usize> = (0..found.len()).filter(with).collect();
    let animals: BTreeSet<usize> = lines.iter().filter_map(|&l| found[l]).collect();
    log::info!(
        "{}: {} of {} lines with records are of {} animals with genotypes",
        table.path().display(),
        lines.len(),
        recorded.iter().filter(|r| **r).count(),
        animals.len(),
    );
}

/// The columns that are traits: those named, else all that hold numbers.
fn trait_columns(
    table: &Table,
    names: &[String],
    covariates: &[Covariates],
    taken: &[String],
) -> Result<Vec<usize>> {
    let of_covariates = |name: &String| {
        covariates
            .iter()
            .any(|(table, chosen, _)| if chosen.is_empty() { table.columns() } else { chosen }.contains(name))
    };
    let is_covariate = |name: &String| taken.contains(name) || of_covariates(name);
    if !names.is_empty() {
        if let Some(twice) = (1..names.len()).find(|&i| names[..i].contains(&names[i])) {
            let found = format!("{} twice", names[twice]);
            return Err(Error::input("--traits", "every trait once", found, "remove one of the two"));
        }
        if let Some(both) = names.iter().find(|name| is_covariate(name)) {
            let advice = "take it as a trait or as one of the others (FILE:A,B names their columns)";
            return Err(Error::input("--traits", "traits that are no covariates or features", both, advice));
        }
        return table.find(names);
    }
    let (mut columns, mut others) = (Vec::new(), Vec::new());
    let path = table.path().display();
    for (column, name) in table.columns().iter().enumerate() {
        if is_no_trait(name) || is_covariate(name) {
            others.push(name.as_str());
        } else if table.is_numeric(column) {
            // A mistake among the numbers is told when they are read.
            columns.push(column);
        } else {
            log::warn!("{path}: column {name} holds text and is no trait");
        }
    }
    if !others.is_empty() {
        let list = others.join(", ");
        log::info!("{path}: {list} (covariates, parents, groups and the like) are no traits unless --traits names them");
    }
    if columns.is_empty() {
        let found = if others.is_empty() { "none".to_owned() } else { format!("only {}", others.join(", ")) };
        let advice = "add a trait, or name it with --traits";
        return Err(Error::input(path, "a numeric column that is a trait", found, advice));
    }
    Ok(columns)
}

/// For each row of a table the animal's place in the store; none in common is an error.
fn match_animals(
    table: &Table,
    animals: &[String],
    place: &HashMap<&str, usize>,
) -> Result<Vec<Option<usize>>> {
    let rows: Vec<Option<usize>> = table.ids().iter().map(|id| place.get(id.as_str()).copied()).collect();
    let known = rows.iter().flatten().count();
    let families = table.families().iter().filter(|f| place.contains_key(f.as_str())).count();
    if known == 0 {
        return Err(Error::input(
            table.path().display(),
            "animals of the store",
            format!("none (here {}, there {})", table.ids()[0], animals.first().map_or("nobody", |s| s)),
            if families > 0 {
                "the names stand where FID is expected: begin the header with id, or each line with FID and IID"
            } else {
                "check that both use the same names"
            },
        ));
    }
    if families > known {
        return Err(Error::input(
            table.path().display(),
            "FID and IID before the records",
            format!("{families} names of the store's animals in the first column, {known} in the second"),
            "begin the table with a header, or each line with FID and IID",
        ));
    }
    Ok(rows)
}

/// Tells how many animals have both records and genotypes.
fn tell_matches(
    table: &Table,
    rows: &[Option<usize>],
    recorded: &[bool],
    (animals, y): (&[String], &Array2<f64>),
) {
    let such =
        |name: Option<&String>| name.map_or(String::new(), |name| format!(" (not {name}, for example)"));
    let total = recorded.iter().filter(|r| **r).count();
    let lost: Vec<usize> = (0..rows.len()).filter(|&r| recorded[r] && rows[r].is_none()).collect();
    let idle: Vec<usize> = (0..y.nrows()).filter(|&i| y.row(i).iter().all(|x| x.is_nan())).collect();
    log::info!(
        "{}: {} of {total} recorded animals have genotypes{}; {} of {} genotyped animals have a record{}",
        table.path().display(),
        total - lost.len(),
        such(lost.first().map(|&r| &table.ids()[r])),
        y.nrows() - idle.len(),
        y.nrows(),
        such(idle.first().map(|&i| &animals[i])),
    );
}

/// Every trait needs at least two different records.
pub(super) fn check_traits(traits: &[String], y: &Array2<f64>, file: &str) -> Result<()> {
    for (name, column) in traits.iter().zip(y.axis_iter(Axis(1))) {
        let mut values = column.iter().filter(|x| !x.is_nan());
        let place = format!("{file}, trait {name}");
        let advice = "leave it out with --traits";
        let Some(first) = values.next() else {
            let found = "none with genotypes and covariates";
            return Err(Error::input(place, "animals with records", found, advice));
        };
        if values.all(|x| x == first) {
            return Err(Error::input(place, "records that differ", format!("{first} for all"), advice));
        }
    }
    Ok(())
}

/// Of every trait's records something must be left beside the fixed effects, or no model has anything to explain.
pub(super) fn check_left(
    traits: &[String],
    y: &Array2<f64>,
    design: &Array2<f64>,
    absorbed: Option<&Factor>,
    file: &str,
) -> Result<()> {
    if design.ncols() == 1 && absorbed.is_none() {
        return Ok(()); // records that differ, which are checked
    }
    let mut known: Option<(Vec<usize>, Array2<f64>)> = None; // an orthonormal basis over these rows
    for (name, column) in traits.iter().zip(y.axis_iter(Axis(1))) {
        let rows: Vec<usize> = (0..column.len()).filter(|&i| !column[i].is_nan()).collect();
        if known.as_ref().is_none_or(|(same, _)| *same != rows) {
            let mut some = design.select(Axis(0), &rows);
            absorbed.iter().for_each(|factor| factor.select(&rows).centre(&mut some, None));
            let (basis, _) = stats::orthonormal_columns(some.view());
            known = Some((rows.clone(), basis));
        }
        let (_, basis) = known.as_ref().expect("just made");
        let records = column.select(Axis(0), &rows);
        let mut left = records.clone().insert_axis(Axis(1));
        absorbed.iter().for_each(|factor| factor.select(&rows).project(&mut left, None));
        let left = left.remove_axis(Axis(1));
        let left = &left - &basis.dot(&basis.t().dot(&left));
        let size = |a: &ndarray::Array1<f64>| a.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        if size(&left) <= 1e-12 * size(&records) {
            return Err(Error::input(
                format!("{file}, trait {name}"),
                "records that differ beside the fixed effects",
                "records that the covariates explain in full",
                "leave out the trait with --traits, or the covariates that it follows from",
            ));
        }
    }
    Ok(())
}

/// Record weights (n, t); records without a weight are dropped from `y`.
fn read_weights(
    table: &Table,
    row_of: &[Option<usize>],
    traits: &[String],
    y: &mut Array2<f64>,
) -> Result<Array2<f64>> {
    let columns = match table.columns() {
        [_] => vec![0; traits.len()],
        _ => table.find(traits)?,
    };
    let mut weights = Array2::from_elem(y.dim(), f64::NAN);
    for row in 0..table.ids().len() {
        columns.iter().try_for_each(|&column| positive(table, row, column))?;
    }
    for (i, row) in row_of.iter().enumerate() {
        let Some(row) = *row else { continue };
        for (t, &column) in columns.iter().enumerate() {
            weights[[i, t]] = table.number(row, column)?.unwrap_or(f64::NAN);
        }
    }
    check_spread(table, &weights)?;
    let mut dropped = 0;
    for (y, w) in y.iter_mut().zip(weights.iter_mut()).filter(|(_, w)| w.is_nan()) {
        dropped += usize::from(!y.is_nan());
        (*y, *w) = (f64::NAN, 1.0);
    }
    if dropped > 0 {
        log::info!("{}: {dropped} records have no weight and are left out", table.path().display());
    }
    Ok(weights)
}

/// An error where a cell holds anything but a positive weight or NA.
fn positive(table: &Table, row: usize, column: usize) -> Result<()> {
    match table.number(row, column)? {
        Some(w) if w <= 0.0 => {
            let advice = "set it to NA to drop the record";
            Err(Error::input(table.place(row, column), "a positive weight", w, advice))
        }
        _ => Ok(()),
    }
}

/// An error where the weights of a trait differ so much that the lightest records drown in rounding.
fn check_spread(table: &Table, weights: &Array2<f64>) -> Result<()> {
    for column in weights.axis_iter(Axis(1)) {
        let given = column.iter().filter(|w| !w.is_nan());
        let (low, high) = given.fold((f64::INFINITY, 0.0f64), |(low, high), &w| (low.min(w), high.max(w)));
        if low < MOST_UNEVEN.recip() * high {
            return Err(Error::input(
                table.path().display(),
                format!("weights of a trait within a factor of {MOST_UNEVEN:e}"),
                format!("{low:e} and {high:e}"),
                "set weights that mean no record to NA",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Values;

    fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn columns(path: PathBuf, names: &[&str]) -> Columns {
        Columns { path, names: names.iter().map(|s| s.to_string()).collect() }
    }

    fn herd() -> Vec<String> {
        ["a", "b", "c", "d", "e"].map(String::from).to_vec()
    }

    fn read(sources: &Sources) -> Result<Phenotypes> {
        Phenotypes::read(&World::alone(), &herd(), sources)
    }

    #[test]
    fn records_covariates_and_weights_come_in_the_order_of_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let pheno =
            "id\tfamily\tmilk\tfat\nd\tF1\t4\t40\nx\tF1\t9\t90\nb\tF2\tNA\t20\na\tF2\t1\t10\ne\tF2\t5\t50\n";
        let covar = "id\tsex\therd\na\tm\t1\nb\tf\t2\nd\tm\t1\ne\tNA\t1\n";
        let qcovar = "IID\tage\tage2\na\t3\t6\nb\t4\t8\nd\t8\t16\n";
        let sources = Sources {
            phenotypes: columns(write(dir.path(), "p", pheno), &[]),
            covariates: Some(columns(write(dir.path(), "c", covar), &[])),
            quantitative: None,
            weights: Some(write(dir.path(), "w", "id\tw\na\t2\nb\t3\nd\t4\ne\t1\n")),
            features: Some(columns(
                write(dir.path(), "f", "id\tfat\therd\na\t1\th1\nd\tNA\th2\n"),
                &["herd"],
            )),
            missing: None,
        };
        let p = read(&sources).unwrap();
        assert_eq!(p.traits, ["milk", "fat"]);
        let herds = [Some("h1"), None, None, Some("h2"), None].map(|herd| herd.map(str::to_owned));
        assert_eq!(p.features.0[0].values, Values::Levels(herds.to_vec()));
        let nan = f64::NAN;
        let want = ndarray::array![[1.0, 10.0], [nan, 20.0], [nan, nan], [4.0, 40.0], [nan, nan]];
        assert!(p.y.iter().zip(&want).all(|(a, b)| a == b || (a.is_nan() && b.is_nan())), "{}", p.y);
        // herd=2 is sex=f turned round: dropped.
        assert_eq!(p.effects, ["intercept", "sex=m"]);
        assert_eq!(p.design.column(1).to_vec(), [1.0, 0.0, 0.0, 1.0, 0.0]);
        assert_eq!(p.weights.as_ref().unwrap().column(1).to_vec(), [2.0, 3.0, 1.0, 4.0, 1.0]);
        assert_eq!(p.patterns(), [(vec![0, 3], vec![0]), (vec![0, 1, 3], vec![1])]);

        let only_ages = Sources {
            phenotypes: columns(sources.phenotypes.path.clone(), &["fat"]),
            quantitative: Some(columns(write(dir.path(), "q", qcovar), &[])),
            ..Sources::default()
        };
        let p = read(&only_ages).unwrap();
        assert_eq!(
            (p.effects, p.design.column(1).to_vec()),
            (vec!["intercept".into(), "age".into()], vec![3.0, 4.0, 0.0, 8.0, 0.0])
        );
    }

    #[test]
    fn what_cannot_be_a_trait_is_told() {
        let dir = tempfile::tempdir().unwrap();
        for (text, names, told) in [
            (
                "id\tt\na\t1\nb\t2\nc\tx\n",
                &[][..],
                "line 4, column t: expected a finite number or NA, found \"x\"",
            ),
            ("id\tt\na\t1\nb\tinf\n", &[], "line 3, column t"),
            ("id\tt\na\t1\nb\t1\n", &[], "trait t: expected records that differ, found 1 for all"),
            ("id\tt\na\tNA\nb\tNA\n", &[], "trait t: expected animals with records"),
            ("id\tt\nq\t1\nr\t2\n", &[], "animals of the store, found none (here q, there a)"),
            ("id\tfam\na\tX\nb\tY\n", &[], "a numeric column"),
            ("id\tfam\na\tX\nb\tY\n", &["fam"], "line 2, column fam"),
            ("id\tfat\na\t1\nb\t2\n", &["fta"], "did you mean \"fat\"?"),
            ("id\tfat\na\t1\nb\t2\n", &["fat", "fat"], "every trait once"),
        ] {
            let sources =
                Sources { phenotypes: columns(write(dir.path(), "p", text), names), ..Sources::default() };
            let e = read(&sources).unwrap_err();
            assert_eq!(e.exit_code(), 2);
            assert!(e.to_string().contains(told), "{e} does not say {told}");
        }
    }

    #[test]
    fn weights_are_positive_and_covariates_fewer_than_records() {
        let dir = tempfile::tempdir().unwrap();
        let mut sources = Sources {
            phenotypes: columns(write(dir.path(), "p", "id\tt\na\t1\nb\t2\nc\t-9\n"), &[]),
            missing: Some("-9".into()),
            ..Sources::default()
        };
        assert_eq!(read(&sources).unwrap().recorded(0), [0, 1]);
        sources.weights = Some(write(dir.path(), "w", "id\tw\na\t1\nb\t0\n"));
        assert!(read(&sources).unwrap_err().to_string().contains("a positive weight, found 0"));
        sources.weights = None;
        sources.covariates = Some(columns(write(dir.path(), "c", "id\tx\na\t1\nb\t2\n"), &[]));
        assert!(read(&sources).unwrap_err().to_string().contains("fewer independent columns"));
        sources.covariates = Some(columns(write(dir.path(), "c", "id\tx\nd\t1\ne\t2\n"), &[]));
        assert!(read(&sources).unwrap_err().to_string().contains("covariates of animals with records"));
    }

    #[test]
    fn a_file_may_name_its_columns() {
        assert_eq!("c.tsv:sex,age".parse::<Columns>().unwrap(), columns("c.tsv".into(), &["sex", "age"]));
        assert_eq!("a:b/c.tsv".parse::<Columns>().unwrap(), columns("a:b/c.tsv".into(), &[]));
    }

    #[test]
    fn columns_of_names_are_known_by_their_names() {
        assert!(["Sire_ID", "FatherID", "birth_date", "#FID", "mother", "Animal ID"]
            .iter()
            .all(|n| is_no_trait(n)));
        assert!(!["milk", "F", "lipid", "acid", "sires", "weight"].iter().any(|n| is_no_trait(n)));
    }

    #[test]
    fn names_and_covariates_are_no_traits_unless_they_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let text = "FID IID sire sex herd milk\nf a 7 1 1 4\nf b 7 2 2 5\nf c 8 1 1 6\nf d 8 2 2 7\n";
        let path = write(dir.path(), "p", text);
        let sources = |traits: &[&str], covariates: Option<&[&str]>| Sources {
            phenotypes: columns(path.clone(), traits),
            covariates: covariates.map(|names| columns(path.clone(), names)),
            ..Sources::default()
        };
        assert_eq!(read(&sources(&[], None)).unwrap().traits, ["herd", "milk"]);
        let p = read(&sources(&[], Some(&["herd"]))).unwrap();
        assert_eq!(
            (p.traits, p.effects),
            (vec!["milk".to_owned()], vec!["intercept".into(), "herd=2".into()])
        );
        assert_eq!(read(&sources(&["sex"], None)).unwrap().traits, ["sex"]);
        let features = |names: &[&str]| Sources {
            features: Some(columns(path.clone(), &["herd"])),
            ..sources(names, None)
        };
        let p = read(&features(&[])).unwrap();
        assert_eq!((p.traits, p.features.names()), (vec!["milk".to_owned()], vec!["herd".to_owned()]));
        assert!(read(&features(&["herd"])).unwrap_err().to_string().contains("no covariates or features"));
        for (traits, covariates, told) in [
            (
                &["herd"][..],
                &["herd"][..],
                "--traits: expected traits that are no covariates or features, found herd",
            ),
            (&[], &[], "a numeric column that is a trait, found only"),
        ] {
            let e = read(&sources(traits, Some(covariates))).unwrap_err();
            assert!(e.exit_code() == 2 && e.to_string().contains(told), "{e}");
        }
    }

    #[test]
    fn tables_without_a_header_name_traits_by_number_or_by_the_list() {
        let dir = tempfile::tempdir().unwrap();
        let text = "f1 a 1 NA\nf1 b 2 5\nf2 c 3 6\n";
        let path = write(dir.path(), "x.phen", text);
        let covariates = write(dir.path(), "x.qcovar", "f1 a 1\nf1 b 2\nf2 c 9\n");
        let named = |names: &[&str]| Sources {
            phenotypes: columns(path.clone(), names),
            quantitative: Some(columns(covariates.clone(), &[])),
            ..Sources::default()
        };
        let p = read(&Sources { quantitative: None, ..named(&[]) }).unwrap();
        assert_eq!(
            (p.traits.clone(), p.y[[0, 0]], p.y[[2, 1]]),
            (vec!["trait1".into(), "trait2".into()], 1.0, 6.0)
        );
        let p = read(&named(&["trait1"])).unwrap();
        assert_eq!(
            (p.traits, p.effects),
            (vec!["trait1".to_owned()], vec!["intercept".into(), "qcovar1".into()])
        );
        assert_eq!(
            read(&Sources { quantitative: None, ..named(&["milk", "fat"]) }).unwrap().traits,
            ["milk", "fat"]
        );
        // Names in the first column: no FID.
        let swapped = write(dir.path(), "y", "a b 1\nb x 2\nc y 3\n");
        let e = read(&Sources { phenotypes: columns(swapped, &[]), ..Sources::default() }).unwrap_err();
        assert!(e.to_string().contains("FID and IID before the records"), "{e}");
    }

    #[test]
    fn levels_without_records_are_no_fixed_effects() {
        let dir = tempfile::tempdir().unwrap();
        let sources = Sources {
            phenotypes: columns(write(dir.path(), "p", "id\tt\nb\t1\nc\t2\nd\t4\n"), &[]),
            covariates: Some(columns(write(dir.path(), "c", "id\tx\na\tA\nb\tB\nc\tC\nd\tC\n"), &[])),
            ..Sources::default()
        };
        assert_eq!(read(&sources).unwrap().effects, ["intercept", "x=C"]);
    }
}
