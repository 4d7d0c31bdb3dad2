//! Text with one line an animal: dosage tables (`.tsv`) and PLINK's `.raw`.

use crate::error::{Error, Result};
use crate::genotype::source::{check_names, known_name, sex_code, Loaded, UNKNOWN_ALLELE};
use crate::genotype::{Animals, Variants};
use crate::lines::{self, Lines};
use crate::packed::{pack_row, Packed, MISSING, PER_BYTE};
use std::io::Write;
use std::path::Path;

/// Turns dosages into codes and remembers what to tell about them.
#[derive(Debug, Default)]
pub struct Dosages {
    rounded: usize,
    twos: usize,
    called: usize,
}

impl Dosages {
    /// The code of a dosage from 0 to 2, rounded to the nearest whole one; `None` for any other number.
    pub fn code(&mut self, x: f64) -> Option<u8> {
        if !(0.0..=2.0).contains(&x) {
            return None;
        }
        self.rounded += usize::from(x.fract() != 0.0);
        let code = x.round() as u8;
        self.called += 1;
        self.twos += usize::from(code == 2);
        Some(code)
    }

    /// The code of a cell: a dosage, or `NA`, `-9` (also as `-9.0`), `.` or nothing for a missing call.
    pub fn parse(&mut self, cell: &str) -> Option<u8> {
        match cell {
            "0" => self.code(0.0),
            "1" => self.code(1.0),
            "2" => self.code(2.0),
            "NA" | "" | "." => Some(MISSING),
            other => match other.parse().ok()? {
                -9.0 => Some(MISSING),
                x => self.code(x),
            },
        }
    }

    /// Whether a genotype of two copies was found.
    pub fn has_two(&self) -> bool {
        self.twos > 0
    }

    /// What to tell the user about `cells` dosages.
    pub fn notes(&self, cells: usize) -> Vec<String> {
        let mut notes = Vec::new();
        if self.rounded > 0 {
            let share = 100.0 * self.rounded as f64 / cells.max(1) as f64;
            notes.push(format!(
                "{} of {cells} dosages ({share:.2} %) were not whole and were rounded",
                self.rounded
            ));
        }
        if self.called > 0 && self.twos == 0 {
            notes
                .push("no genotype is 2: check that they count the copies of an allele (0, 1, 2)".to_owned());
        }
        notes
    }
}

/// An error about a cell that holds no dosage. `column` counts from 1.
pub fn not_a_dosage(place: &str, column: usize, cell: &str) -> Error {
    let shown: String = cell.chars().take(20).collect();
    let advice = match cell.parse() {
        Ok(-1.0) => "write genotypes as 0, 1, 2 (add 1 to the coding -1, 0, 1) and missing calls as NA",
        _ => "correct the cell or set it to NA",
    };
    Error::input(
        format!("{place} column {column}"),
        "a dosage from 0 to 2 or NA",
        format!("\"{shown}\""),
        advice,
    )
}

/// Rows of calls in the making: one animal after the other.
struct Rows {
    columns: usize,
    codes: Vec<u8>,
    bytes: Vec<u8>,
    count: usize,
    dosages: Dosages,
}

impl Rows {
    fn new(columns: usize) -> Rows {
        Rows { columns, codes: vec![0; columns], bytes: Vec::new(), count: 0, dosages: Dosages::default() }
    }

    /// Appends the calls of a line's `cells`, the first of which stands in column `first`.
    fn push<'a>(&mut self, place: &str, cells: impl Iterator<Item = &'a str>, first: usize) -> Result<()> {
        let mut found = 0;
        for cell in cells {
            if found < self.columns {
                let code = self.dosages.parse(cell.trim());
                self.codes[found] = code.ok_or_else(|| not_a_dosage(place, first + found, cell))?;
            }
            found += 1;
        }
        if found != self.columns {
            return Err(self.wrong_columns(place, first, first - 1 + found));
        }
        let end = self.bytes.len();
        self.bytes.resize(end + self.columns.div_ceil(PER_BYTE), 0);
        pack_row(&self.codes, &mut self.bytes[end..]);
        self.count += 1;
        Ok(())
    }

    /// An error about a line of `found` columns; those of SNPs begin at column `first`.
    fn wrong_columns(&self, place: &str, first: usize, found: usize) -> Error {
        let expected = format!("{} columns as in the header", first - 1 + self.columns);
        let advice =
            "add the missing cells as NA, remove the extra ones, or make the file again if it is cut";
        Error::input(place, expected, found, advice)
    }

    /// The whole, with SNPs in rows.
    fn finish(self, lines: &Lines, animals: Animals, variants: Variants) -> Result<Loaded> {
        let path = lines.path();
        if self.count == 0 {
            return Err(Error::input(path.display(), "animals below the header", "none", "check the file"));
        }
        check_names(path, "animal", &animals.id)?;
        check_names(path, "SNP", &variants.id)?;
        let mut notes = self.dosages.notes(self.count * self.columns);
        notes.extend(lines.cut_note());
        let calls = Packed::from_bytes(self.count, self.columns, self.bytes).transposed();
        Ok(Loaded { animals, variants, calls, notes })
    }
}

/// Reads a dosage table: a header of `id` and SNP names, a line an animal, cells separated by tabs.
pub fn read_tsv(path: &Path) -> Result<Loaded> {
    let mut lines = Lines::open(path)?;
    let header = lines.header()?;
    let mut names = header.split('\t');
    let first = names.next().unwrap_or_default();
    if !["id", "iid", "animal"].contains(&first.trim().to_lowercase().as_str()) {
        return Err(Error::input(
            lines.place(),
            "a header of \"id\" and SNP names, separated by tabs",
            format!("\"{}\" first", first.chars().take(20).collect::<String>()),
            "add the header line",
        ));
    }
    let variants = named_variants(names.map(|name| (name.trim(), "A", "B")));
    no_snps(&lines, &variants)?;
    let mut rows = Rows::new(variants.len());
    let mut ids = Vec::new();
    loop {
        let place = lines::place(path, lines.number() + 1);
        let Some(line) = lines.next_row()? else { break };
        let mut cells = line.split('\t');
        ids.push(name_of(cells.next(), &place)?);
        rows.push(&place, cells, 2)?;
    }
    rows.finish(&lines, Animals::named(ids), variants)
}

/// Reads PLINK's `--recode A` (1.9) or `--export A` (2): FID IID PAT MAT SEX PHENOTYPE and `SNP_ALLELE` columns
/// that count that allele.
pub fn read_raw(path: &Path) -> Result<Loaded> {
    const FIRST: [&str; 6] = ["FID", "IID", "PAT", "MAT", "SEX", "PHENOTYPE"];
    let mut lines = Lines::open(path)?;
    let header = lines.header()?;
    let names: Vec<&str> = header.split_ascii_whitespace().collect();
    if !names.starts_with(&FIRST) {
        let advice = "make it with `plink --recode A`";
        return Err(Error::input(lines.place(), "columns FID IID PAT MAT SEX PHENOTYPE", "others", advice));
    }
    if let Some(het) = names.iter().find(|n| n.ends_with("_HET")) {
        let advice = "make the file with `plink --recode A` instead of AD";
        return Err(Error::input(lines.place(), "one column a SNP", het, advice));
    }
    let variants = named_variants(names[6..].iter().map(|name| raw_column(name)));
    no_snps(&lines, &variants)?;
    let mut rows = Rows::new(variants.len());
    let mut a = Animals::default();
    loop {
        let place = lines::place(path, lines.number() + 1);
        let Some(line) = lines.next_row()? else { break };
        let mut cells = line.split_ascii_whitespace();
        let head: Vec<&str> = cells.by_ref().take(FIRST.len()).collect();
        let Ok([family, id, sire, dam, sex, _]) = <[&str; 6]>::try_from(head) else {
            return Err(rows.wrong_columns(&place, FIRST.len() + 1, line.split_ascii_whitespace().count()));
        };
        a.id.push(id.to_owned());
        a.group.push(known_name(family));
        a.sire.push(known_name(sire));
        a.dam.push(known_name(dam));
        a.sex.push(sex_code(sex).unwrap_or(0));
        rows.push(&place, cells, 7)?;
    }
    if a.group == a.id {
        a.group.fill(String::new());
    }
    a.birth_date = vec![String::new(); a.len()];
    rows.finish(&lines, a, variants)
}

/// `snp_A` or `snp_A(/G)`: name, counted allele, other allele.
fn raw_column(name: &str) -> (&str, &str, &str) {
    let (name, other) = match name.strip_suffix(')').and_then(|n| n.rsplit_once("(/")) {
        Some((name, other)) => (name, other),
        None => (name, UNKNOWN_ALLELE),
    };
    let (id, counted) = name.rsplit_once('_').unwrap_or((name, UNKNOWN_ALLELE));
    (id, counted, other)
}

/// SNPs of which only name and alleles are known.
fn named_variants<'a>(names: impl Iterator<Item = (&'a str, &'a str, &'a str)>) -> Variants {
    let mut v = Variants::default();
    names.for_each(|(id, counted, other)| v.push(id.to_owned(), "0", 0, f64::NAN, [counted, other]));
    v
}

fn no_snps(lines: &Lines, variants: &Variants) -> Result<()> {
    if variants.is_empty() {
        return Err(Error::input(lines.place(), "columns of SNPs", "none", "check the header line"));
    }
    Ok(())
}

fn name_of(cell: Option<&str>, place: &str) -> Result<String> {
    match cell.map(str::trim) {
        Some(id) if !id.is_empty() => Ok(id.to_owned()),
        _ => Err(Error::input(place, "an animal's name in column 1", "nothing", "name the animal")),
    }
}

/// Writes the header of a `.raw`.
pub fn write_raw_header(v: &Variants, out: &mut dyn Write) -> std::io::Result<()> {
    write!(out, "FID\tIID\tPAT\tMAT\tSEX\tPHENOTYPE")?;
    for j in 0..v.len() {
        write!(out, "\t{}_{}", v.id[j], v.counted_allele[j])?;
    }
    writeln!(out)
}

/// Writes animal `i`, whose calls are `codes`, as a line of a `.raw`.
pub fn write_raw_row(a: &Animals, i: usize, codes: &[u8], out: &mut dyn Write) -> std::io::Result<()> {
    let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
    let (family, sire, dam) = (or(&a.group[i], &a.id[i]), or(&a.sire[i], "0"), or(&a.dam[i], "0"));
    write!(out, "{family}\t{}\t{sire}\t{dam}\t{}\t-9", a.id[i], a.sex[i])?;
    for &code in codes {
        out.write_all([b"\t0".as_slice(), b"\t1", b"\t2", b"\tNA"][usize::from(code)])?;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dosages_round_to_the_nearest_and_refuse_what_is_none() {
        let mut d = Dosages::default();
        let cells = ["0", "1", "2", "NA", "-9", "0.4", "1.6", "2.0", "-9.0", "-9e0", "."];
        let codes: Vec<_> = cells.iter().map(|c| d.parse(c).unwrap()).collect();
        assert_eq!(codes, [0, 1, 2, MISSING, MISSING, 0, 2, 2, MISSING, MISSING, MISSING]);
        assert_eq!(d.rounded, 2);
        for bad in ["3", "-1", "2.01", "nan", "inf", "A", "0/1"] {
            assert_eq!(d.parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn raw_columns_name_their_alleles() {
        assert_eq!(raw_column("rs_1_A"), ("rs_1", "A", "0"));
        assert_eq!(raw_column("rs1_A(/GT)"), ("rs1", "A", "GT"));
    }

    fn load(read: fn(&Path) -> Result<Loaded>, text: &str) -> Result<Loaded> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path())
    }

    const TSV: &str = "id\ts1\ts2 \na \t0\tNA\nb\t2\t1\n";
    const RAW: &str = "FID IID PAT MAT SEX PHENOTYPE s1_A s2_G(/T)\nf a . 0 1 -9 0 NA\ng b a -9 2 1.5 2 1\n";

    #[test]
    fn lines_are_read_whatever_their_ends() {
        for (read, text) in [(read_tsv as fn(&Path) -> _, TSV), (read_raw, RAW)] {
            let windows = text.replace('\n', "\r\n");
            for text in [text.to_owned(), windows, format!("\u{feff}{text}\n\n")] {
                let loaded = load(read, &text).unwrap();
                assert_eq!(
                    (loaded.animals.id, loaded.variants.id),
                    (ids("ab"), vec!["s1".into(), "s2".into()])
                );
                assert_eq!(loaded.calls, Packed::from_codes(2, 2, &[0, 2, 3, 1]));
                assert!(loaded.notes.is_empty(), "{:?}", loaded.notes);
            }
        }
        let parents = load(read_raw, RAW).unwrap().animals;
        assert_eq!(
            (parents.sire, parents.dam),
            (vec!["".into(), "a".into()], vec![String::new(), "".into()])
        );
    }

    fn ids(names: &str) -> Vec<String> {
        names.chars().map(String::from).collect()
    }

    #[test]
    fn cut_lines_and_other_codings_are_told_with_their_line() {
        for (read, text, told) in [
            (
                read_raw as fn(&Path) -> _,
                &RAW[..RAW.len() - 11],
                "line 3: expected 8 columns as in the header, found 4",
            ),
            (read_raw, &RAW[..RAW.len() - 3], "line 3: expected 8 columns as in the header, found 7"),
            (read_raw, &RAW.replace("\nf", "\n\nf"), "line 2: expected a line of data"),
            (read_tsv, &TSV[..TSV.len() - 3], "line 3: expected 3 columns as in the header, found 2"),
            (read_tsv, &TSV.replace("\nb", "\n\nb"), "line 3: expected a line of data"),
            (read_tsv, &TSV.replace("2\t1", "-1\t1"), "line 3 column 2: expected a dosage from 0 to 2 or NA"),
            (read_tsv, &TSV.replace("2\t1", "-1\t1"), "add 1"),
            (read_tsv, &TSV.replace("b\t", "a\t"), "a as number 1 and number 2"),
            (read_tsv, &TSV.replace("b\t", "b\0\t"), "line 3: expected plain text"),
        ] {
            let e = load(read, text).err().expect("refused");
            assert!(e.exit_code() == 2 && e.to_string().contains(told), "{e} does not say {told}");
        }
        assert!(load(read_tsv, TSV.trim_end()).unwrap().notes[0].contains("no line end"));
        assert!(load(read_tsv, &TSV.replace('2', "0")).unwrap().notes[0].contains("no genotype is 2"));
    }
}
