//! BIMBAM mean genotypes, as GEMMA reads them: a line a SNP with its name, two alleles and the dosages of the
//! first one, separated by commas, blanks or tabs.

use crate::error::{Error, Result};
use crate::genotype::source::{check_names, made_up_ids, Loaded};
use crate::genotype::text::{not_a_dosage, Dosages};
use crate::genotype::{Animals, Variants};
use crate::lines::{self, Lines};
use crate::packed::{pack_row, Packed, PER_BYTE};
use std::path::Path;

/// Reads the whole file. `ids` name the animals; without them they are numbered.
pub fn read(path: &Path, ids: Option<&[String]>) -> Result<Loaded> {
    let mut lines = Lines::open(path)?;
    let mut variants = Variants::default();
    let (mut bytes, mut codes): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
    let mut dosages = Dosages::default();
    let mut n = None;
    loop {
        let place = lines::place(path, lines.number() + 1);
        let Some(line) = lines.next_row()? else { break };
        let mut cells = cells_of(line, &place)?;
        let (Some(id), Some(a1), Some(a2)) = (cells.next(), cells.next(), cells.next()) else {
            return Err(Error::input(
                place,
                "a SNP's name, two alleles and dosages",
                "less",
                "check the line",
            ));
        };
        variants.push(id.to_owned(), "0", 0, f64::NAN, [a1, a2]);
        codes.clear();
        for cell in cells {
            let code = dosages.parse(cell).ok_or_else(|| not_a_dosage(&place, codes.len() + 4, cell))?;
            codes.push(code);
        }
        let expected = *n.get_or_insert(codes.len());
        if codes.len() != expected || expected == 0 {
            return Err(Error::input(
                place,
                format!("{} dosages as in line 1", expected.max(1)),
                codes.len(),
                "write NA for missing calls",
            ));
        }
        let end = bytes.len();
        bytes.resize(end + codes.len().div_ceil(PER_BYTE), 0);
        pack_row(&codes, &mut bytes[end..]);
    }
    let Some(n) = n else {
        return Err(Error::input(path.display(), "one line a SNP", "an empty file", "check the file"));
    };
    check_names(path, "SNP", &variants.id)?;
    let calls = Packed::from_bytes(variants.len(), n, bytes);
    let mut notes = dosages.notes(variants.len() * n);
    notes.extend(lines.cut_note());
    Ok(Loaded { animals: Animals::named(made_up_ids(path, n, ids)?), variants, calls, notes })
}

/// The cells of a line: any run of commas, blanks and tabs separates two cells, also at the end of a line (GEMMA
/// 0.98 does the same). Nothing between two commas is refused, which would move all cells behind it.
fn cells_of<'a>(line: &'a str, place: &str) -> Result<impl Iterator<Item = &'a str>> {
    let separates = |c: char| matches!(c, ',' | ' ' | '\t');
    let filled = line.trim_end_matches(separates);
    if filled.contains(',') && filled.split(',').any(|part| part.trim().is_empty()) {
        let advice = "write NA for missing calls";
        return Err(Error::input(place, "something between two commas", "an empty cell", advice));
    }
    Ok(filled.split(separates).filter(|cell| !cell.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Loaded> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path(), None)
    }

    #[test]
    fn separators_mix_and_may_end_a_line() {
        let wanted = load("s1 A T 0 1 2\ns2 A T NA 2 1\n").unwrap();
        for text in [
            "s1, A, T, 0, 1, 2,\r\ns2, A, T, NA, 2, 1,\r\n",
            "\u{feff}s1 A T,0\t1 2 , \ns2,A T NA,2,1\n\n",
            "s1\tA\tT\t0\t1\t2\t\ns2 ,A,T,NA,2,1.0",
        ] {
            let found = load(text).unwrap();
            assert_eq!((found.calls, found.variants.id), (wanted.calls.clone(), wanted.variants.id.clone()));
        }
    }

    #[test]
    fn cut_and_empty_cells_are_told_with_their_line() {
        for (text, told) in [
            ("s1,A,T,0,1\ns2,A,T,,1\n", "line 2: expected something between two commas"),
            ("s1,A,T,0,1\ns2,A,T,0\n", "line 2: expected 2 dosages as in line 1, found 1"),
            ("s1,A,T,0,1\ns2,A\n", "line 2: expected a SNP's name"),
            ("s1,A,T,0,1\n\ns2,A,T,0,1\n", "line 2: expected a line of data"),
            ("s1,A,T,0,-1\n", "add 1 to the coding -1, 0, 1"),
            ("", "an empty file"),
        ] {
            let e = load(text).err().expect("refused");
            assert!(e.exit_code() == 2 && e.to_string().contains(told), "{e}");
        }
    }
}
