//! The table of animals (`--animals`): id, and any of birth_date, sire, dam, sex, group.

use crate::error::{Error, Result};
use crate::genotype::source::{known_name, sex_code};
use crate::genotype::Animals;
use crate::records::table::Table;
use std::collections::HashMap;
use std::path::Path;

/// Columns that are understood.
const KNOWN: [&str; 5] = ["birth_date", "sire", "dam", "sex", "group"];

/// Reads and checks the table: one line an animal, dates as `2019-04-30`, `NA` or nothing for what is unknown;
/// a parent or a sex may also be `0`, `-9` or `.` then.
pub fn read(path: &Path) -> Result<Animals> {
    let table = Table::read(path, None)?;
    if let Some(other) = table.columns().iter().find(|c| !KNOWN.contains(&c.as_str())) {
        let expected = format!("columns id, {}", KNOWN.join(", "));
        return Err(Error::input(path.display(), expected, format!("a column \"{other}\""), "remove it"));
    }
    let mut animals = Animals::named(table.ids().to_vec());
    for (c, name) in table.columns().iter().enumerate() {
        for i in 0..animals.len() {
            let Some(cell) = table.cell(i, c) else { continue };
            set(&mut animals, i, name, cell).map_err(|(expected, advice)| {
                Error::input(table.place(i, c), expected, format!("\"{cell}\""), advice)
            })?;
        }
    }
    Ok(animals)
}

/// Sets one cell; an error is what was expected and what to do.
fn set(a: &mut Animals, i: usize, column: &str, cell: &str) -> std::result::Result<(), (String, String)> {
    let parent = |of: &mut String| {
        if cell == a.id[i] {
            return Err((
                "a parent other than the animal itself".to_owned(),
                "correct the pedigree".to_owned(),
            ));
        }
        *of = known_name(cell);
        Ok(())
    };
    match column {
        "sire" => parent(&mut a.sire[i])?,
        "dam" => parent(&mut a.dam[i])?,
        "group" => a.group[i] = known_name(cell),
        "birth_date" if is_date(cell) => a.birth_date[i] = cell.to_owned(),
        "birth_date" => return Err(("a date like 2019-04-30".to_owned(), "write NA if unknown".to_owned())),
        _ => {
            let wrong = || ("1 (male), 2 (female) or 0".to_owned(), "write NA if unknown".to_owned());
            a.sex[i] = sex_code(cell).ok_or_else(wrong)?;
        }
    }
    Ok(())
}

/// Whether a text is a day of the calendar, as `YYYY-MM-DD`.
pub fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|p| p.len()).collect();
    if lengths != [4, 2, 2] || !text.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
        return false;
    }
    let number = |k: usize| parts[k].parse::<u32>().unwrap_or(0);
    let (year, month, day) = (number(0), number(1), number(2));
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    (1..=days).contains(&day)
}

/// Adds what `table` knows to `animals`, in place; returns how many animals the table does not list and how
/// many of its animals have no genotypes. A table that lists none of them is an error.
pub fn complete(animals: &mut Animals, table: &Animals, path: &Path) -> Result<(usize, usize)> {
    let place: HashMap<&str, usize> = table.id.iter().enumerate().map(|(k, id)| (id.as_str(), k)).collect();
    let mut listed = 0;
    let fill = |into: &mut String, from: &String| {
        if !from.is_empty() {
            into.clone_from(from);
        }
    };
    for i in 0..animals.len() {
        let Some(&k) = place.get(animals.id[i].as_str()) else { continue };
        listed += 1;
        fill(&mut animals.birth_date[i], &table.birth_date[k]);
        fill(&mut animals.sire[i], &table.sire[k]);
        fill(&mut animals.dam[i], &table.dam[k]);
        fill(&mut animals.group[i], &table.group[k]);
        if table.sex[k] > 0 {
            animals.sex[i] = table.sex[k];
        }
    }
    if listed == 0 {
        return Err(Error::input(
            path.display(),
            format!("animals of the genotypes, such as {}", animals.id[0]),
            format!("others, such as {}", table.id[0]),
            "use the same names in both files",
        ));
    }
    Ok((animals.len() - listed, table.len() - listed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_days_of_the_calendar() {
        assert!(["2019-04-30", "2020-02-29", "2000-02-29", "1999-12-31"].iter().all(|d| is_date(d)));
        for bad in
            ["2019-4-30", "30-04-2019", "2019-02-29", "1900-02-29", "2019-13-01", "2019-00-10", "", "2019"]
        {
            assert!(!is_date(bad), "{bad}");
        }
    }

    #[test]
    fn unknown_parents_are_no_parents() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("animals.tsv");
        let codes = ["0", "-9", ".", "NA", "na", ""];
        let lines: String = codes.iter().enumerate().map(|(i, c)| format!("a{i}\t{c}\t{c}\t{c}\n")).collect();
        std::fs::write(&path, format!("\u{feff}id\tsire\tdam\tsex\n{lines}b\ta0\ta1 \tf\n")).unwrap();
        let table = read(&path).unwrap();
        assert!((0..6).all(|i| table.sire[i].is_empty() && table.dam[i].is_empty() && table.sex[i] == 0));
        assert_eq!((table.sire[6].as_str(), table.dam[6].as_str(), table.sex[6]), ("a0", "a1", 2));
    }

    #[test]
    fn a_table_completes_what_it_knows_and_keeps_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("animals.tsv");
        std::fs::write(&path, "id\tbirth_date\tsire\tsex\nb\t2020-01-02\t0\tF\nx\tNA\tb\t1\n").unwrap();
        let table = read(&path).unwrap();
        let mut herd = Animals::named(vec!["a".into(), "b".into()]);
        herd.sire = vec!["s".into(), "t".into()];
        assert_eq!(complete(&mut herd, &table, &path).unwrap(), (1, 1));
        assert_eq!(herd.birth_date, ["", "2020-01-02"]);
        assert_eq!((herd.sire.as_slice(), herd.sex.as_slice()), (&["s".into(), "t".into()][..], &[0, 2][..]));
        for (text, word) in [
            ("id\tcolour\na\tred\n", "colour"),
            ("id\tbirth_date\na\t3.4.2020\n", "2019-04-30"),
            ("id\tsire\na\ta\n", "parent"),
            ("id\tsex\na\tbull\n", "female"),
            ("id\tsex\na\t1\na\t1\n", "line 3"),
        ] {
            std::fs::write(&path, text).unwrap();
            let e = read(&path).unwrap_err();
            assert!(e.exit_code() == 2 && e.to_string().contains(word), "{e}");
        }
    }
}
