//! Tables as text: a header, the name of each animal (or trait) in the first column. Tabs separate columns, or
//! blanks where the header has no tab. Tables of PLINK, GCTA and regenie begin with FID and IID; then IID is the
//! name. Those of records may lack the header (GCTA's `.phen`).

use crate::error::{Error, Result};
use crate::lines;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// The largest record: sums of squares stay finite.
const LARGEST: f64 = 1e150;
/// Texts by which other programs mark a missing value.
const MISSING_CODES: [&str; 10] = [".", "-", "?", "*", "null", "none", "n/a", "#n/a", "missing", "<na>"];

/// A whole table in memory, its cells as text.
#[derive(Debug)]
pub struct Table {
    path: PathBuf,
    text: String,
    columns: Vec<String>,
    ids: Vec<String>,
    /// FID of each line of a table without a header.
    families: Vec<String>,
    lines: Vec<usize>,
    cells: Vec<(usize, usize)>, // (rows, columns), byte ranges of `text`
    missing: Option<Missing>,
}

/// One more text that stands for a missing value, and its number.
#[derive(Debug)]
struct Missing {
    text: String,
    number: Option<f64>,
}

impl Missing {
    /// Whether a cell holds the text, or the same number: `-9.0` is `-9`.
    fn is(&self, cell: &str) -> bool {
        self.text == cell || (self.number.is_some() && self.number == cell.parse().ok())
    }
}

/// Whether a name may stand in several lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeats {
    /// An error.
    Refused,
    /// An error that names the option for several records an animal.
    RefusedRecords,
    /// Every line is a record of its own (long format).
    Taken,
}

impl Repeats {
    /// What to do about a name that stands twice; nothing where that is no error.
    fn advice(self) -> Option<&'static str> {
        match self {
            Repeats::Refused => Some("remove one of the two lines, or join them"),
            Repeats::RefusedRecords => Some(
                "remove one of the two lines, or join them; if they are several records, add --repeated \
                 (`reml`, `gblup`)",
            ),
            Repeats::Taken => None,
        }
    }
}

impl Table {
    /// Reads a table, gzip-compressed or plain. `missing` is one more text that stands for a missing value,
    /// besides `NA`, `nan` and nothing at all.
    pub fn read(path: &Path, missing: Option<&str>) -> Result<Table> {
        Table::read_keyed(path, &["id", "iid"], missing)
    }

    /// Reads a table whose first column may have one of the names `keys` (in lower case).
    pub fn read_keyed(path: &Path, keys: &[&str], missing: Option<&str>) -> Result<Table> {
        let text = lines::read_text(path)?;
        let layout = Layout::of(path, &text, keys)?;
        Table::parse(path, text, layout, missing, Repeats::Refused)
    }

    /// Reads a table as [`Table::read_keyed`] does, in which a name may stand in several lines.
    pub fn read_keyed_lines(path: &Path, keys: &[&str], missing: Option<&str>) -> Result<Table> {
        let text = lines::read_text(path)?;
        let layout = Layout::of(path, &text, keys)?;
        Table::parse(path, text, layout, missing, Repeats::Taken)
    }

    /// Reads records of animals, also without a header: then `names` name the columns, if they are as many, else
    /// `prefix` and a number from 1.
    pub fn read_records(
        path: &Path,
        missing: Option<&str>,
        prefix: &str,
        names: &[String],
        repeats: Repeats,
    ) -> Result<Table> {
        let text = lines::read_text(path)?;
        let layout = match Layout::without_header(&text, prefix, names) {
            Some(layout) => layout,
            None => Layout::of(path, &text, &["id", "iid"])?,
        };
        Table::parse(path, text, layout, missing, repeats)
    }

    fn parse(
        path: &Path,
        text: String,
        layout: Layout,
        missing: Option<&str>,
        repeats: Repeats,
    ) -> Result<Table> {
        let number = missing.and_then(|m| m.trim().parse().ok());
        let mut table = Table {
            path: path.to_owned(),
            columns: layout.columns,
            text: String::new(),
            ids: Vec::new(),
            families: Vec::new(),
            lines: Vec::new(),
            cells: Vec::new(),
            missing: missing.map(|m| Missing { text: m.trim().to_owned(), number }),
        };
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for (number, line) in text.lines().enumerate().skip(usize::from(layout.header)) {
            if line.trim().is_empty() {
                continue;
            }
            let mut cells = fields(line, layout.blanks);
            let family = if layout.family { cells.next() } else { None };
            let id = cells.next().unwrap_or_default();
            let rest = cells.map(|c| range_in(&text, c));
            let before = table.cells.len();
            table.cells.extend(rest);
            let found = table.cells.len() - before;
            table.check_row(number + 1, found, id, layout.family)?;
            if let (Some(first), Some(advice)) = (seen.insert(id, number + 1), repeats.advice()) {
                return Err(Error::input(
                    table.at(number + 1),
                    "every name once",
                    format!("{id} again (first in line {first})"),
                    advice,
                ));
            }
            table.ids.push(id.to_owned());
            table.families.extend(family.filter(|_| !layout.header).map(str::to_owned));
            table.lines.push(number + 1);
        }
        if table.ids.is_empty() {
            return Err(Error::input(path.display(), "lines below the header", "none", "check the file"));
        }
        table.text = text;
        Ok(table)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of the columns behind the first.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The animals, in the order of the lines.
    pub fn ids(&self) -> &[String] {
        &self.ids
    }

    /// FID of each animal in a table without a header, else nothing.
    pub fn families(&self) -> &[String] {
        &self.families
    }

    /// The cell of a row and a column; `None` when it is missing.
    pub fn cell(&self, row: usize, column: usize) -> Option<&str> {
        let (start, end) = self.cells[row * self.columns.len() + column];
        let cell = &self.text[start..end];
        let absent = cell.is_empty() || cell.eq_ignore_ascii_case("na") || cell.eq_ignore_ascii_case("nan");
        (!absent && !self.missing.as_ref().is_some_and(|m| m.is(cell))).then_some(cell)
    }

    /// The number in a cell, `None` when it is missing; another text, or a number beyond ±1e150, is an error.
    pub fn number(&self, row: usize, column: usize) -> Result<Option<f64>> {
        let Some(cell) = self.cell(row, column) else { return Ok(None) };
        let (expected, advice) = match cell.parse::<f64>() {
            Ok(x) if x.abs() <= LARGEST => return Ok(Some(x)),
            Ok(x) if x.is_finite() => {
                ("a finite number up to 1e150 or NA", "give it in another unit".to_owned())
            }
            Err(_) if has_decimal_comma(cell) => {
                ("a finite number or NA", "write decimals with a point".to_owned())
            }
            Err(_) if is_missing_code(cell) => {
                ("a finite number or NA", format!("set it to NA, or say what it means with --missing {cell}"))
            }
            _ => ("a finite number or NA", "correct the cell or set it to NA".to_owned()),
        };
        Err(Error::input(self.place(row, column), expected, format!("\"{cell}\""), advice))
    }

    /// Whether a column is meant to hold numbers: at least half of its cells are some, or all others are one text,
    /// or texts that mark missing values. A column of missing values counts as such.
    pub fn is_numeric(&self, column: usize) -> bool {
        let (mut numbers, mut texts) = (0, 0);
        let mut others = BTreeSet::new();
        for cell in (0..self.ids.len()).filter_map(|row| self.cell(row, column)) {
            if cell.parse::<f64>().is_ok() || has_decimal_comma(cell) {
                numbers += 1;
            } else {
                texts += 1;
                others.insert(cell);
            }
        }
        let marks = others.len() == 1 || others.iter().all(|cell| is_missing_code(cell));
        numbers >= texts || (numbers > 0 && marks)
    }

    /// The positions of the columns named; an unknown name is an error that tells the nearest one.
    pub fn find(&self, names: &[String]) -> Result<Vec<usize>> {
        names.iter().map(|name| self.find_one(name)).collect()
    }

    fn find_one(&self, name: &str) -> Result<usize> {
        self.columns.iter().position(|c| c == name).ok_or_else(|| {
            let near = self.columns.iter().min_by_key(|c| strsim::damerau_levenshtein(c, name));
            let advice = match near {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "the file has no columns behind the first".to_owned(),
            };
            Error::input(self.path.display(), format!("a column \"{name}\""), "none of that name", advice)
        })
    }

    /// File, line and column of a cell, for messages.
    pub fn place(&self, row: usize, column: usize) -> String {
        format!("{}, column {}", self.at(self.lines[row]), self.columns[column])
    }

    fn at(&self, line: usize) -> String {
        format!("{} line {line}", self.path.display())
    }

    /// Checks a line of `found` cells behind the name `id`.
    fn check_row(&self, number: usize, found: usize, id: &str, family: bool) -> Result<()> {
        let before = 1 + usize::from(family);
        if found != self.columns.len() {
            return Err(Error::input(
                self.at(number),
                format!("{} columns as in the header", self.columns.len() + before),
                found + before,
                "check for extra or missing tabs (or blanks, where they separate columns)",
            ));
        }
        if id.is_empty() {
            let advice = "name it or remove the line";
            return Err(Error::input(self.at(number), "a name", "nothing", advice));
        }
        Ok(())
    }
}

/// The fields of a line without blanks around them: separated by blanks and tabs, or by tabs alone.
fn fields(line: &str, blanks: bool) -> Box<dyn Iterator<Item = &str> + '_> {
    if blanks {
        Box::new(line.split_whitespace())
    } else {
        Box::new(line.split('\t').map(str::trim))
    }
}

/// Whether a cell is a number with a comma, such as `1,5`.
fn has_decimal_comma(cell: &str) -> bool {
    cell.matches(',').count() == 1 && cell.replace(',', ".").parse::<f64>().is_ok()
}

fn is_missing_code(cell: &str) -> bool {
    MISSING_CODES.contains(&cell.to_lowercase().as_str())
}

/// Where `part`, a slice of `text`, lies in it.
fn range_in(text: &str, part: &str) -> (usize, usize) {
    let start = part.as_ptr() as usize - text.as_ptr() as usize;
    (start, start + part.len())
}

/// What the first line tells about the others.
struct Layout {
    /// Names of the columns behind the name.
    columns: Vec<String>,
    /// Whether the first line is a header.
    header: bool,
    /// Whether FID stands before the name.
    family: bool,
    /// Whether blanks separate columns.
    blanks: bool,
}

/// Whether blanks separate the columns of a table that begins with `line`.
fn has_blanks(line: &str) -> bool {
    !line.contains('\t') && line.trim().contains(char::is_whitespace)
}

impl Layout {
    /// The layout of a table whose first column (or second, behind FID) must have one of the names `keys`.
    fn of(path: &Path, text: &str, keys: &[&str]) -> Result<Layout> {
        let wrong = |expected: &str, found: String, advice: &str| {
            Err(Error::input(format!("{} line 1", path.display()), expected, found, advice))
        };
        let Some(line) = text.lines().next().filter(|l| !l.trim().is_empty()) else {
            return wrong("a header", "an empty file".into(), "check the file");
        };
        let blanks = has_blanks(line);
        let mut names: Vec<String> = fields(line, blanks).map(str::to_owned).collect();
        let first = names.remove(0);
        let is_key = |name: &String| keys.contains(&name.trim_start_matches('#').to_lowercase().as_str());
        let family = keys.contains(&"iid")
            && first.trim_start_matches('#').eq_ignore_ascii_case("fid")
            && names.first().is_some_and(is_key);
        if family {
            names.remove(0);
        } else if !is_key(&first) {
            let shown: String = first.chars().take(40).collect();
            let advice = match shown.contains([',', ';']) {
                true => "separate the columns by tabs",
                false => "write a table with a header and columns separated by tabs (or blanks)",
            };
            let behind = if keys.contains(&"iid") { ", or FID and IID" } else { "" };
            let expected = format!("a first column named {}{behind}", keys.join(" or "));
            return wrong(&expected, format!("\"{shown}\""), advice);
        }
        for (i, name) in names.iter().enumerate() {
            if name.is_empty() {
                let column = i + 2 + usize::from(family);
                return wrong("a name for every column", format!("none for column {column}"), "name it");
            }
            if names[..i].contains(name) {
                return wrong("every column once", format!("\"{name}\" twice"), "rename one of the two");
            }
        }
        Ok(Layout { columns: names, header: true, family, blanks })
    }

    /// The layout of a table without a header: FID, IID and numbers; `None` for any other first line.
    fn without_header(text: &str, prefix: &str, names: &[String]) -> Option<Layout> {
        let line = text.lines().next()?;
        let cells: Vec<&str> = line.split_whitespace().collect();
        let values = cells.get(2..).filter(|values| !values.is_empty())?;
        let is_value = |cell: &&str| {
            cell.parse::<f64>().is_ok() || cell.eq_ignore_ascii_case("na") || is_missing_code(cell)
        };
        let is_key = ["fid", "iid", "id"].contains(&cells[0].trim_start_matches('#').to_lowercase().as_str());
        if is_key || !values.iter().all(is_value) {
            return None;
        }
        let columns = match names.len() == values.len() {
            true => names.to_vec(),
            false => (1..=values.len()).map(|i| format!("{prefix}{i}")).collect(),
        };
        Some(Layout { columns, header: false, family: true, blanks: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn table(text: &[u8]) -> Result<Table> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Table::read(file.path(), Some("-9"))
    }

    #[test]
    fn cells_are_found_whatever_the_line_ends_and_the_missing_text() {
        let t = table(b"\xef\xbb\xbfIID\ta\tb\r\nx\t1.5\t\r\n\r\ny\tNA\t-9\r\nz\tnan\tfoo").unwrap();
        assert_eq!((t.columns(), t.ids().len()), (&["a".to_string(), "b".to_string()][..], 3));
        assert_eq!(t.number(0, 0).unwrap(), Some(1.5));
        for (row, column) in [(0, 1), (1, 0), (1, 1), (2, 0)] {
            assert_eq!(t.cell(row, column), None);
        }
        assert!(t.is_numeric(0) && !t.is_numeric(1));
        assert!(t.number(2, 1).unwrap_err().to_string().contains("line 5, column b"));
    }

    #[test]
    fn tables_of_plink_gcta_and_regenie_are_read_by_iid() {
        let records = |text: &str, names: &[String]| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            Table::read_records(file.path(), None, "trait", names, Repeats::Refused)
        };
        let names = ["a".to_owned(), "b".to_owned()];
        for (text, columns) in [
            ("FID IID a b\nf x 1 NA\ng y 2 3\n", ["a", "b"]),
            ("\u{feff}#FID\tIID\ta\tb\r\nf\tx\t1\t\r\ng\ty\t2\t3\r\n", ["a", "b"]),
            ("#IID a b\nx 1 NA\ny  2\t3\n", ["a", "b"]),
            ("f x 1 NA\ng\ty 2 3\n", ["trait1", "trait2"]),
        ] {
            let t = records(text, &[]).unwrap();
            assert_eq!(
                (t.ids(), t.columns()),
                (&["x", "y"].map(String::from)[..], &columns.map(String::from)[..])
            );
            assert_eq!((t.cell(0, 1), t.number(1, 1).unwrap()), (None, Some(3.0)));
        }
        assert_eq!(records("f x 1 NA\n", &names).unwrap().columns(), names);
        assert!(records("name sex a\nx m 1\n", &[]).is_err(), "a header of other names");
    }

    #[test]
    fn missing_texts_are_numbers_too_and_records_are_bounded() {
        let t = table(b"id\ta\nv\t-9\nw\t-9.0\nx\t-9e0\ny\t-9.1\nz\t2e150\n").unwrap();
        assert!((0..3).all(|row| t.cell(row, 0).is_none()));
        assert_eq!(t.number(3, 0).unwrap(), Some(-9.1));
        assert!(t.number(4, 0).unwrap_err().to_string().contains("up to 1e150"));
    }

    #[test]
    fn a_column_of_numbers_and_marks_is_numeric() {
        for (cells, numeric, told) in [
            (["1", ".", ".", "."], true, "--missing ."),
            (["1", "n/a", "?", "-"], true, "--missing n/a"),
            (["1", "x", "x", "x"], true, "correct the cell"),
            (["1,5", "2,5", "x", "2"], true, "with a point"),
            (["1", "A", "B", "C"], false, ""),
            (["A", "A", "A", "A"], false, ""),
        ] {
            let lines: String = cells.iter().enumerate().map(|(i, c)| format!("x{i}\t{c}\n")).collect();
            let t = table(format!("id\ta\n{lines}").as_bytes()).unwrap();
            assert_eq!(t.is_numeric(0), numeric, "{cells:?}");
            let e = (0..4).find_map(|row| t.number(row, 0).err()).unwrap().to_string();
            assert!(e.contains(told), "{e}");
        }
    }

    #[test]
    fn gzip_is_read_as_plain_text_and_a_cut_file_is_told() {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gz.write_all(b"id\ta\nx\t1\ny\t2\n").unwrap();
        let bytes = gz.finish().unwrap();
        assert_eq!(table(&bytes).unwrap().number(1, 0).unwrap(), Some(2.0));
        assert!(table(&bytes[..bytes.len() - 9]).unwrap_err().to_string().contains("gzip"));
    }

    #[test]
    fn a_table_that_is_not_one_is_refused_with_its_place() {
        for (text, told) in [
            (&b""[..], "an empty file"),
            (b"name\ta\nx\t1\n", "first column named id"),
            (b"id,a\nx,1\n", "separate the columns by tabs"),
            (b"FID\ta\nx\t1\n", "FID and IID"),
            (b"id a b\nx 1\n", "line 2: expected 3 columns as in the header, found 2"),
            (b"FID IID a\nf x 1 2\n", "line 2: expected 3 columns as in the header, found 4"),
            (b"id\ta\nx\x00\t1\n", "line 2: expected plain text"),
            (b"id\ta\ta\nx\t1\t2\n", "\"a\" twice"),
            (b"id\ta\t\nx\t1\t2\n", "none for column 3"),
            (b"id\ta\n", "lines below the header"),
            (b"id\ta\nx\t1\t2\n", "line 2: expected 2 columns as in the header, found 3"),
            (b"id\ta\tb\nx\t1\n", "found 2"),
            (
                b"id\ta\nx\t1\ny\t1\nx\t2\n",
                "line 4: expected every name once, found x again (first in line 2)",
            ),
            (b"id\ta\n\t1\n", "a name, found nothing"),
            (b"id\ta\n\xff\t1\n", "UTF-8"),
        ] {
            let e = table(text).unwrap_err();
            assert_eq!(e.exit_code(), 2);
            assert!(e.to_string().contains(told), "{e} does not say {told}");
        }
        let t = table(b"id\tyield\theight\nx\t1\t2\n").unwrap();
        assert!(t.find(&["yeild".into()]).unwrap_err().to_string().contains("did you mean \"yield\""));
    }
}
