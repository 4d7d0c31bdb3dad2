//! NumPy arrays of genotypes, animals × SNPs, of whole or real numbers. Missing calls are -9, -1, 3 or NaN: -1 only
//! in an array with a genotype of 2 and 3 only in one with a genotype of 0, because other programs code
//! genotypes as -1, 0, 1 or 1, 2, 3.

use crate::error::{Error, Result};
use crate::genotype::source::{made_up_ids, Loaded};
use crate::genotype::text::Dosages;
use crate::genotype::{Animals, Variants};
use crate::lines::unreadable;
use crate::packed::{pack_row, Packed, MISSING, PER_BYTE};
use std::fs::File;
use std::io::{BufReader, Read, Seek, Write};
use std::path::Path;

/// What the header of an array says.
struct Header {
    element: Element,
    fortran: bool,
    shape: [usize; 2],
}

/// One number of the array: its size in bytes and how to read it.
type Element = (usize, fn(&[u8]) -> f64);

/// The types that are read, by NumPy's name (little-endian or one byte).
const TYPES: [(&str, Element); 8] = [
    ("|i1", (1, |b| f64::from(b[0] as i8))),
    ("|u1", (1, |b| f64::from(b[0]))),
    ("<i2", (2, |b| f64::from(i16::from_le_bytes([b[0], b[1]])))),
    ("<u2", (2, |b| f64::from(u16::from_le_bytes([b[0], b[1]])))),
    ("<i4", (4, |b| f64::from(i32::from_le_bytes(b.try_into().expect("four bytes"))))),
    ("<i8", (8, |b| i64::from_le_bytes(b.try_into().expect("eight bytes")) as f64)),
    ("<f4", (4, |b| f64::from(f32::from_le_bytes(b.try_into().expect("four bytes"))))),
    ("<f8", (8, |b| f64::from_le_bytes(b.try_into().expect("eight bytes")))),
];

/// Reads the whole array. `ids` name the animals; without them animals, as SNPs, are numbered.
pub fn read(path: &Path, ids: Option<&[String]>) -> Result<Loaded> {
    let file = File::open(path).map_err(|e| Error::reading(path, &e))?;
    let mut input = BufReader::with_capacity(1 << 20, file);
    let header = read_header(path, &mut input)?;
    let [n, m] = header.shape;
    check_length(path, &mut input, &header)?;
    // In Fortran order a line of the file is a SNP, else an animal.
    let (lines, length) = if header.fortran { (m, n) } else { (n, m) };
    let (size, number) = header.element;
    let mut raw = vec![0; length * size];
    let mut codes = vec![0; length];
    let mut bytes = vec![0; lines * length.div_ceil(PER_BYTE)];
    let mut dosages = Dosages::default();
    let mut found = Found::default();
    for (line, packed) in bytes.chunks_exact_mut(length.div_ceil(PER_BYTE)).enumerate() {
        input.read_exact(&mut raw).map_err(|e| unreadable(path, &e))?;
        for (k, (code, cell)) in codes.iter_mut().zip(raw.chunks_exact(size)).enumerate() {
            let x = number(cell);
            found.note(x);
            let missing = x.is_nan() || x == -9.0 || x == -1.0 || x == 3.0;
            *code = if missing { Some(MISSING) } else { dosages.code(x) }.ok_or_else(|| {
                let (i, j) = if header.fortran { (k, line) } else { (line, k) };
                let place = format!("{} at [{i}, {j}]", path.display());
                Error::input(place, "a dosage from 0 to 2 (or -9, -1, 3 or NaN)", x, "correct the array")
            })?;
        }
        pack_row(&codes, packed);
    }
    found.check(path, &dosages)?;
    let calls = Packed::from_bytes(lines, length, bytes);
    let calls = if header.fortran { calls } else { calls.transposed() };
    let mut variants = Variants::default();
    (1..=m).for_each(|j| variants.push(format!("snp{j}"), "0", 0, f64::NAN, ["A", "B"]));
    let animals = Animals::named(made_up_ids(path, n, ids)?);
    let mut notes = dosages.notes(n * m);
    notes.extend(found.notes());
    Ok(Loaded { animals, variants, calls, notes })
}

/// How many numbers of an array may mean a missing call or a genotype, depending on the coding.
#[derive(Debug, Default)]
struct Found {
    minus_ones: usize,
    zeros: usize,
    threes: usize,
}

impl Found {
    fn note(&mut self, x: f64) {
        self.minus_ones += usize::from(x == -1.0);
        self.zeros += usize::from(x == 0.0);
        self.threes += usize::from(x == 3.0);
    }

    /// Refuses arrays that may code genotypes as -1, 0, 1 or as 1, 2, 3.
    fn check(&self, path: &Path, dosages: &Dosages) -> Result<()> {
        let (coding, step) = match self {
            Found { minus_ones: 1.., .. } if !dosages.has_two() => {
                ("-1 and never 2, as in the coding -1, 0, 1", "add 1")
            }
            Found { threes: 1.., zeros: 0, .. } => ("3 and never 0, as in the coding 1, 2, 3", "subtract 1"),
            _ => return Ok(()),
        };
        Err(Error::input(
            path.display(),
            "counts of an allele (0, 1, 2; missing -9 or NaN)",
            coding,
            format!("{step} where that is the coding; where it means missing, write -9"),
        ))
    }

    fn notes(&self) -> Option<String> {
        let count = self.minus_ones + self.threes;
        (count > 0).then(|| format!("{count} numbers of -1 or 3 are taken as missing calls"))
    }
}

/// The rest of the file must be as long as the header says, before memory is asked for.
fn check_length(path: &Path, input: &mut BufReader<File>, header: &Header) -> Result<()> {
    let fail = |e: std::io::Error| Error::reading(path, &e);
    let left = input.get_ref().metadata().map_err(fail)?.len() - input.stream_position().map_err(fail)?;
    let [n, m] = header.shape.map(|s| s as u64);
    let expected = n.checked_mul(m).and_then(|cells| cells.checked_mul(header.element.0 as u64));
    if expected != Some(left) {
        let shape = format!("the {n} × {m} numbers that its header announces");
        let advice = "the file is truncated or damaged: write it again";
        return Err(Error::input(path.display(), shape, format!("{left} bytes of numbers"), advice));
    }
    Ok(())
}

fn not_npy(path: &Path, expected: &str, found: &str) -> Error {
    let advice = "write it with numpy.save(name, array.astype(\"int8\"))";
    Error::input(path.display(), expected, found, advice)
}

/// NumPy's format, versions 1 to 3 (numpy/lib/format.py): magic, length, a Python dictionary as text.
fn read_header(path: &Path, input: &mut impl Read) -> Result<Header> {
    let mut fill = |length: usize| -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        input.read_exact(&mut bytes).map_err(|e| unreadable(path, &e))?;
        Ok(bytes)
    };
    let magic = fill(8)?;
    if &magic[..6] != b"\x93NUMPY" {
        return Err(not_npy(path, "a NumPy array", "another file"));
    }
    let length = match magic[6] {
        1 => fill(2)?.iter().rev().fold(0, |l, &b| l << 8 | usize::from(b)),
        _ => fill(4)?.iter().rev().fold(0, |l, &b| l << 8 | usize::from(b)).min(1 << 20),
    };
    let text = String::from_utf8_lossy(&fill(length)?).into_owned();
    let behind = |key: &str| text.split_once(key).map(|(_, rest)| rest.trim_start_matches([' ', ':']));
    let name = behind("'descr'").and_then(|r| r.split('\'').nth(1)).unwrap_or_default();
    let Some((_, element)) = TYPES.iter().find(|(n, _)| *n == name) else {
        let found = format!("elements of type {name}");
        return Err(not_npy(path, "an array of i1, u1, i2, u2, i4, i8, f4 or f8", &found));
    };
    let shape = behind("'shape'").and_then(|r| r.strip_prefix('(')?.split(')').next()).unwrap_or_default();
    let sizes: Vec<usize> = shape.split(',').filter_map(|s| s.trim().parse().ok()).collect();
    let fortran = behind("'fortran_order'").is_some_and(|r| r.starts_with("True"));
    match sizes[..] {
        [n, m] if n > 0 && m > 0 => Ok(Header { element: *element, fortran, shape: [n, m] }),
        _ => Err(not_npy(path, "an array of animals × SNPs", &format!("one of shape ({shape})"))),
    }
}

/// Writes the header of an int8 array of `n` animals × `m` SNPs.
pub fn write_header(n: usize, m: usize, out: &mut dyn Write) -> std::io::Result<()> {
    let mut text = format!("{{'descr': '|i1', 'fortran_order': False, 'shape': ({n}, {m}), }}");
    // The header ends with a line feed, at a multiple of 64 bytes.
    let length = (10 + text.len() + 1).next_multiple_of(64) - 10;
    text.push_str(&" ".repeat(length - text.len() - 1));
    out.write_all(b"\x93NUMPY\x01\x00")?;
    out.write_all(&u16::try_from(length).expect("a short header").to_le_bytes())?;
    writeln!(out, "{text}")
}

/// Writes an animal's calls; missing ones as -9.
pub fn write_row(codes: &[u8], out: &mut dyn Write) -> std::io::Result<()> {
    let bytes: Vec<u8> = codes.iter().map(|&c| if c == MISSING { -9i8 as u8 } else { c }).collect();
    out.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of numbers as an array of real numbers.
    fn load(numbers: &[f64]) -> Result<Loaded> {
        let mut bytes = Vec::new();
        write_header(1, numbers.len(), &mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes[10..]).replace("|i1", "<f8");
        bytes.truncate(10);
        bytes.extend(text.bytes());
        bytes.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        read(file.path(), None)
    }

    #[test]
    fn codings_other_than_counts_are_refused() {
        for (numbers, told) in [
            (&[-1.0, 0.0, 1.0][..], "add 1"),
            (&[-1.0, 0.5, 1.0, f64::NAN], "add 1"),
            (&[-1.0, -1.0], "never 2"),
            (&[1.0, 2.0, 3.0], "subtract 1"),
            (&[0.0, 4.0], "a dosage from 0 to 2"),
        ] {
            let e = load(numbers).err().expect("refused");
            assert!(e.exit_code() == 2 && e.to_string().contains(told), "{e}");
        }
    }

    #[test]
    fn missing_calls_beside_counts_are_told() {
        let loaded = load(&[-1.0, 0.0, 1.0, 2.0, 3.0, -9.0, f64::NAN]).unwrap();
        let codes: Vec<u8> = (0..7).map(|j| loaded.calls.get(j, 0)).collect();
        assert_eq!(codes, [3, 0, 1, 2, 3, 3, 3]);
        assert_eq!(loaded.notes, ["2 numbers of -1 or 3 are taken as missing calls"]);
        assert!(load(&[0.0, 1.0, f64::NAN]).unwrap().notes[0].contains("no genotype is 2"));
    }
}
