//! VCF 4: the genotypes (GT) of SNPs with two alleles, phased or not. The counted allele is ALT.
//!
//! A line with several ALT alleles is left out and counted. A call with an unknown allele (`./.`, `./1`) is
//! missing; a call of one allele (`1`, on a sex chromosome) counts twice, as in PLINK.

use crate::error::{Error, Result};
use crate::genotype::source::{check_names, variant_name, Loaded, UNKNOWN_ALLELE};
use crate::genotype::{Animals, Variants};
use crate::lines::{self, Lines};
use crate::packed::{pack_row, unpack_row, Packed, MISSING, PER_BYTE};
use std::borrow::Cow;
use std::collections::HashSet;
use std::io::Write;
use std::path::Path;

/// Columns before the animals.
const FIXED: [&str; 9] = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT"];
/// QUAL, FILTER and INFO.
const UNUSED: std::ops::Range<usize> = 5..8;

/// Reads the whole file.
pub fn read(path: &Path) -> Result<Loaded> {
    let mut lines = Lines::open(path)?;
    let animals = read_header(&mut lines)?;
    check_names(path, "animal", &animals)?;
    let mut variants = Variants::default();
    let mut bytes = Vec::new();
    let mut codes = vec![0; animals.len()];
    let mut skipped = 0;
    loop {
        if !lines.advance()? {
            break;
        }
        match read_line(&used(&lines)?, &mut codes, &mut variants, || lines.place())? {
            Line::Checkpointed => {
                let end = bytes.len();
                bytes.resize(end + codes.len().div_ceil(PER_BYTE), 0);
                pack_row(&codes, &mut bytes[end..]);
            }
            Line::SeveralAlleles => skipped += 1,
        }
    }
    if variants.is_empty() {
        return Err(Error::input(path.display(), "SNPs with two alleles", "none", "check the file"));
    }
    check_names(path, "SNP", &variants.id)?;
    let calls = Packed::from_bytes(variants.len(), animals.len(), bytes);
    let note = format!("{skipped} lines with several ALT alleles were left out");
    let mut notes = if skipped > 0 { vec![note] } else { Vec::new() };
    notes.extend(lines.cut_note());
    Ok(Loaded { animals: Animals::named(animals), variants, calls, notes })
}

/// Reads up to the line of column names; returns the animals. The `##` lines are not used, so that they may hold
/// any bytes.
fn read_header(lines: &mut Lines) -> Result<Vec<String>> {
    let path = lines.path().to_owned();
    let wrong = |number: usize, expected: &str| {
        let advice = "is this a VCF file? see --format";
        Err(Error::input(lines::place(&path, number), expected, "another line", advice))
    };
    if !lines.header()?.starts_with("##fileformat=VCF") {
        return wrong(1, "##fileformat=VCFv4");
    }
    loop {
        let number = lines.number() + 1;
        let names = match lines.next_bytes()? {
            Some(line) if line.starts_with(b"##") => continue,
            Some(_) => lines.current()?,
            None => return wrong(number, "a line of column names that begins with #CHROM"),
        };
        let names: Vec<&str> = names.split('\t').map(str::trim).collect();
        if !names.starts_with(&FIXED) || names.len() == FIXED.len() {
            let expected = "#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT and animals, separated by tabs";
            return wrong(number, expected);
        }
        return Ok(names[FIXED.len()..].iter().map(|n| (*n).to_owned()).collect());
    }
}

/// The line read last as text. QUAL, FILTER and INFO, which are not used, may hold any bytes.
fn used(lines: &Lines) -> Result<Cow<'_, str>> {
    let refused = match lines.current() {
        Ok(line) => return Ok(Cow::Borrowed(line)),
        Err(e) => e,
    };
    let line = String::from_utf8_lossy(lines.bytes());
    let is_text =
        |cell: &str| !cell.contains(|c: char| c.is_ascii_control() || c == char::REPLACEMENT_CHARACTER);
    let mut cells = line.split('\t').enumerate();
    if cells.all(|(column, cell)| UNUSED.contains(&column) || is_text(cell)) {
        return Ok(line);
    }
    Err(refused)
}

/// What became of a line.
enum Line {
    Checkpointed,
    SeveralAlleles,
}

/// Reads a SNP's line into `codes` and appends it to `variants`.
fn read_line(
    line: &str,
    codes: &mut [u8],
    variants: &mut Variants,
    place: impl Fn() -> String,
) -> Result<Line> {
    let mut cells = line.split('\t');
    let head: Vec<&str> = cells.by_ref().take(FIXED.len()).collect();
    let Ok([chromosome, position, id, reference, alternative, _, _, _, format]) = <[&str; 9]>::try_from(head)
    else {
        return Err(wrong_columns(place(), codes.len(), line));
    };
    if alternative.contains(',') {
        return Ok(Line::SeveralAlleles);
    }
    let position: u64 = position
        .parse()
        .map_err(|_| Error::input(place(), "a position in column 2", position, "correct the line"))?;
    let Some(gt) = format.split(':').position(|f| f == "GT") else {
        return Err(Error::input(place(), "GT in the FORMAT column", format, "call genotypes first"));
    };
    let mut found = 0;
    for cell in cells {
        if let Some(code) = codes.get_mut(found) {
            let call = cell.split(':').nth(gt).unwrap_or(".");
            *code = genotype(call).ok_or_else(|| {
                let advice = "alleles are 0, 1 or . with / or | between them";
                Error::input(
                    format!("{} column {}", place(), FIXED.len() + found + 1),
                    "a genotype",
                    call,
                    advice,
                )
            })?;
        }
        found += 1;
    }
    if found != codes.len() {
        return Err(wrong_columns(place(), codes.len(), line));
    }
    let name = variant_name(id, chromosome, position, [alternative, reference]);
    variants.push(name, chromosome, position, f64::NAN, [alternative, reference]);
    Ok(Line::Checkpointed)
}

fn wrong_columns(place: String, animals: usize, line: &str) -> Error {
    let found = line.split('\t').count();
    let advice = "the file is truncated or damaged: make it again";
    Error::input(place, format!("{} columns as in the header", FIXED.len() + animals), found, advice)
}

/// The code of a GT value.
fn genotype(call: &str) -> Option<u8> {
    let allele = |a: u8| match a {
        b'0' => Some(0),
        b'1' => Some(1),
        b'.' => Some(MISSING),
        _ => None,
    };
    match *call.as_bytes() {
        [a, b'/' | b'|', b] => {
            let (a, b) = (allele(a)?, allele(b)?);
            Some(if a == MISSING || b == MISSING { MISSING } else { a + b })
        }
        [a] => allele(a).map(|a| if a == MISSING { a } else { 2 * a }),
        _ => None,
    }
}

/// Writes everything above the first SNP.
pub fn write_header(animals: &Animals, variants: &Variants, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "##fileformat=VCFv4.2\n##source=genialearn {}", env!("CARGO_PKG_VERSION"))?;
    let mut seen = HashSet::new();
    for c in variants.chromosome.iter().filter(|c| seen.insert(*c)) {
        writeln!(out, "##contig=<ID={c}>")?;
    }
    writeln!(out, "##FORMAT=<ID=GT,Number=1,Type=String,Description=\"Genotype\">")?;
    write!(out, "{}", FIXED.join("\t"))?;
    animals.id.iter().try_for_each(|id| write!(out, "\t{id}"))?;
    writeln!(out)
}

/// Writes the SNPs from `first` on, one a row of `panel`.
pub fn write_panel(v: &Variants, first: usize, panel: &Packed, out: &mut dyn Write) -> std::io::Result<()> {
    let mut codes = vec![0; panel.columns()];
    for row in 0..panel.rows() {
        let j = first + row;
        let (alt, reference) = alleles(v, j);
        write!(out, "{}\t{}\t{}\t{reference}\t{alt}\t.\t.\t.\tGT", v.chromosome[j], v.position[j], v.id[j])?;
        unpack_row(panel.row(row), &mut codes);
        for &code in &codes {
            out.write_all([b"\t0/0", b"\t0/1", b"\t1/1", b"\t./."][usize::from(code)])?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// ALT and REF of SNP `j`. An allele that was never seen is `.` as ALT and `N` as REF, as PLINK writes it; an
/// unknown allele that some animal has is `<NON_REF>`.
fn alleles(v: &Variants, j: usize) -> (&str, &str) {
    let (counted, other) = (v.counted_allele[j].as_str(), v.other_allele[j].as_str());
    let unknown = if v.frequency[j] > 0.0 { "<NON_REF>" } else { "." };
    (
        if counted == UNKNOWN_ALLELE { unknown } else { counted },
        if other == UNKNOWN_ALLELE { "N" } else { other },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn genotypes_count_the_alternative_allele() {
        let calls = ["0/0", "0|1", "1|0", "1/1", "./.", ".|1", "0", "1", "."];
        let codes: Vec<_> = calls.iter().map(|c| genotype(c).unwrap()).collect();
        assert_eq!(codes, [0, 1, 1, 2, 3, 3, 0, 2, 3]);
        for bad in ["", "0/2", "0-1", "01", "0/1/1"] {
            assert_eq!(genotype(bad), None, "{bad}");
        }
    }

    const HEAD: &str = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta \tb\n";

    fn load(bytes: &[u8]) -> Result<Loaded> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        read(file.path())
    }

    fn with(lines: &str) -> Vec<u8> {
        format!("{HEAD}{lines}").into_bytes()
    }

    #[test]
    fn lines_are_read_whatever_their_ends_and_what_stands_in_unused_ones() {
        let plain =
            with("1\t5\ts1\tA\tG\t.\t.\t.\tDP:GT\t3:0/0\t1:0|1\n1\t6\ts2\tA\t.\t.\t.\t.\tGT\t0/0\t./.\n");
        let windows = String::from_utf8(plain.clone()).unwrap().replace('\n', "\r\n").into_bytes();
        let latin: Vec<u8> = [&plain[..21], b"##source=Z\xFCchter\n", &plain[21..]].concat();
        let marked = [&b"\xEF\xBB\xBF"[..], &plain].concat();
        let info = plain.iter().rposition(|b| *b == b'.').unwrap() - 2;
        let info = plain[..info].iter().rposition(|b| *b == b'.').unwrap();
        let unused = [&plain[..info], b"BREED=Z\xFCchter", &plain[info + 1..]].concat();
        for bytes in [plain, windows, latin, marked, unused] {
            let loaded = load(&bytes).unwrap();
            assert_eq!(loaded.animals.id, ["a", "b"]);
            assert_eq!(loaded.calls, Packed::from_codes(2, 2, &[0, 1, 0, 3]));
            assert_eq!(loaded.variants.counted_allele, ["G", "0"]);
            assert!(loaded.notes.is_empty());
        }
    }

    #[test]
    fn cut_and_damaged_files_are_told_with_their_line() {
        let line = "1\t5\ts1\tA\tG\t.\t.\t.\tGT\t0/0\t0/1\n";
        for (bytes, told) in [
            (with(&line[..line.len() - 5]), "line 3: expected 11 columns as in the header, found 10"),
            (with(&line[..9]), "line 3: expected 11 columns"),
            (with(&format!("\n{line}")), "line 3: expected a line of data"),
            (with(&line.replace("s1", "s\0")), "line 3: expected plain text"),
            (format!("{}{line}", HEAD.replace("a \tb", "a\t")).into_bytes(), "a name for every animal"),
            (format!("{}{line}", HEAD.replace("a \tb", "b\tb ")).into_bytes(), "b as number 1 and number 2"),
            ([HEAD.as_bytes(), b"1\t5\ts\xFC\n"].concat(), "line 3: expected text in UTF-8"),
        ] {
            let e = load(&bytes).err().expect("refused");
            assert!(e.exit_code() == 2 && e.to_string().contains(told), "{e} does not say {told}");
        }
        let cut = load(&with(line.trim_end())).unwrap();
        assert!(cut.notes[0].contains("no line end"), "{:?}", cut.notes);
    }

    #[test]
    fn what_is_written_is_valid_where_alleles_are_unknown_and_chromosomes_alternate() {
        let mut v = Variants::default();
        for (j, (chromosome, alleles)) in
            [("1", ["0", "A"]), ("2", ["C", "0"]), ("1", ["0", "T"]), ("2", ["C", "T"])]
                .into_iter()
                .enumerate()
        {
            v.push(format!("s{j}"), chromosome, 1, f64::NAN, alleles);
        }
        v.frequency = vec![0.0, 0.5, 0.25, 0.5];
        let found: Vec<_> = (0..4).map(|j| alleles(&v, j)).collect();
        assert_eq!(found, [(".", "A"), ("C", "N"), ("<NON_REF>", "T"), ("C", "T")]);
        let mut out = Vec::new();
        write_header(&Animals::named(vec!["a".into()]), &v, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap().matches("##contig").count(), 2);
    }
}
