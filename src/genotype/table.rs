//! Tables as text: tab-separated, a header, the name of each animal (or trait) in the first column.

use crate::error::{Error, Result};
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A whole table in memory, its cells as text.
#[derive(Debug)]
pub struct Table {
    path: PathBuf,
    text: String,
    columns: Vec<String>,
    ids: Vec<String>,
    lines: Vec<usize>,
    cells: Vec<(usize, usize)>, // (rows, columns), byte ranges of `text`
    missing: Option<String>,
}

impl Table {
    /// Reads a table, gzip-compressed or plain. `missing` is one more text that stands for a missing value,
    /// besides `NA`, `nan` and nothing at all.
    pub fn read(path: &Path, missing: Option<&str>) -> Result<Table> {
        Table::read_keyed(path, &["id", "iid"], missing)
    }

    /// Reads a table whose first column may have one of the names `keys` (in lower case).
    pub fn read_keyed(path: &Path, keys: &[&str], missing: Option<&str>) -> Result<Table> {
        let text = read_text(path)?;
        let mut table = Table {
            path: path.to_owned(),
            columns: header(path, &text, keys)?,
            text: String::new(),
            ids: Vec::new(),
            lines: Vec::new(),
            cells: Vec::new(),
            missing: missing.map(str::to_owned),
        };
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for (number, line) in text.lines().enumerate().skip(1) {
            let line = line.trim_end_matches('\r');
            if line.trim().is_empty() {
                continue;
            }
            let mut cells = line.split('\t').map(str::trim);
            let id = cells.next().unwrap_or_default();
            table.check_row(number + 1, line, id)?;
            if let Some(first) = seen.insert(id, number + 1) {
                return Err(Error::input(
                    table.at(number + 1),
                    "every name once",
                    format!("{id} again (first in line {first})"),
                    "remove one of the two lines, or join them",
                ));
            }
            table.ids.push(id.to_owned());
            table.lines.push(number + 1);
            table.cells.extend(cells.map(|c| range_in(&text, c)));
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

    /// The cell of a row and a column; `None` when it is missing.
    pub fn cell(&self, row: usize, column: usize) -> Option<&str> {
        let (start, end) = self.cells[row * self.columns.len() + column];
        let cell = &self.text[start..end];
        let plain = cell.is_empty() || cell.eq_ignore_ascii_case("na") || cell.eq_ignore_ascii_case("nan");
        (!plain && self.missing.as_deref() != Some(cell)).then_some(cell)
    }

    /// The number in a cell, `None` when it is missing; another text or an infinite number is an error.
    pub fn number(&self, row: usize, column: usize) -> Result<Option<f64>> {
        let Some(cell) = self.cell(row, column) else { return Ok(None) };
        match cell.parse::<f64>() {
            Ok(x) if x.is_finite() => Ok(Some(x)),
            _ => Err(Error::input(
                self.place(row, column),
                "a finite number or NA",
                format!("\"{cell}\""),
                "correct the cell or set it to NA",
            )),
        }
    }

    /// How many cells of a column hold a number and how many another text.
    pub fn kinds(&self, column: usize) -> (usize, usize) {
        let cells = (0..self.ids.len()).filter_map(|row| self.cell(row, column));
        cells.fold((0, 0), |(numbers, texts), cell| match cell.parse::<f64>() {
            Ok(_) => (numbers + 1, texts),
            Err(_) => (numbers, texts + 1),
        })
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

    fn check_row(&self, number: usize, line: &str, id: &str) -> Result<()> {
        let (expected, found) = (self.columns.len() + 1, line.split('\t').count());
        if found != expected {
            return Err(Error::input(
                self.at(number),
                format!("{expected} columns as in the header"),
                found,
                "check for extra or missing tabs",
            ));
        }
        if id.is_empty() {
            let advice = "name it or remove the line";
            return Err(Error::input(self.at(number), "a name", "nothing", advice));
        }
        Ok(())
    }
}

/// Where `part`, a slice of `text`, lies in it.
fn range_in(text: &str, part: &str) -> (usize, usize) {
    let start = part.as_ptr() as usize - text.as_ptr() as usize;
    (start, start + part.len())
}

/// The whole file as text, decompressed when it begins as gzip does; a byte-order mark is dropped.
fn read_text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|e| Error::reading(path, &e))?;
    let bytes = if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut plain).map_err(|_| {
            Error::input(path.display(), "a whole gzip file", "a damaged or cut one", "copy it again")
        })?;
        plain
    } else {
        bytes
    };
    let text = String::from_utf8(bytes).map_err(|_| {
        Error::input(path.display(), "text (UTF-8)", "other bytes", "save the table as UTF-8")
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

/// The names of the columns behind the first, which must have one of the names `keys`.
fn header(path: &Path, text: &str, keys: &[&str]) -> Result<Vec<String>> {
    let wrong = |expected: &str, found: String, advice: &str| {
        Err(Error::input(format!("{} line 1", path.display()), expected, found, advice))
    };
    let Some(line) = text.lines().next().filter(|l| !l.trim().is_empty()) else {
        return wrong("a header", "an empty file".into(), "check the file");
    };
    let mut names = line.trim_end_matches('\r').split('\t').map(|name| name.trim().to_owned());
    let first = names.next().unwrap_or_default();
    let name = first.trim_start_matches('#');
    if !keys.contains(&name.to_ascii_lowercase().as_str()) {
        let shown: String = first.chars().take(40).collect();
        return wrong(
            &format!("a first column named {}", keys.join(" or ")),
            format!("\"{shown}\""),
            "write a tab-separated table with a header",
        );
    }
    let names: Vec<String> = names.collect();
    for (i, name) in names.iter().enumerate() {
        if name.is_empty() {
            return wrong("a name for every column", format!("none for column {}", i + 2), "name it");
        }
        if names[..i].contains(name) {
            return wrong("every column once", format!("\"{name}\" twice"), "rename one of the two");
        }
    }
    Ok(names)
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
        assert_eq!((t.kinds(0), t.kinds(1)), ((1, 0), (0, 1)));
        assert!(t.number(2, 1).unwrap_err().to_string().contains("line 5, column b"));
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
            (b"id a b\nx 1 2\n", "tab-separated"),
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
