//! BIMBAM mean genotypes, as GEMMA reads them: a line a SNP with its name, two alleles and the dosages of the
//! first one, parted by commas, blanks or tabs.

use crate::error::{Error, Result};
use crate::genotype::lines::{self, Lines};
use crate::genotype::source::{made_up_ids, refuse_duplicates, Loaded};
use crate::genotype::text::{not_a_dosage, Dosages};
use crate::genotype::{Animals, Variants};
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
        let Some(line) = lines.next_line()? else { break };
        let mut cells = cells_of(line);
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
    refuse_duplicates(path, "SNP", &variants.id)?;
    let calls = Packed::from_bytes(variants.len(), n, bytes);
    let notes = dosages.notes(variants.len() * n);
    Ok(Loaded { animals: Animals::named(made_up_ids(path, n, ids)?), variants, calls, notes })
}

/// The cells of a line: a comma with blanks around it, or blanks alone, part two cells.
fn cells_of(line: &str) -> Box<dyn Iterator<Item = &str> + '_> {
    if line.contains(',') {
        Box::new(line.split(',').map(str::trim))
    } else {
        Box::new(line.split_ascii_whitespace())
    }
}
