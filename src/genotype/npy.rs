//! NumPy arrays of genotypes, animals × SNPs, of whole or real numbers. Missing calls are -9, -1, 3 or NaN.

use crate::error::{Error, Result};
use crate::genotype::lines::unreadable;
use crate::genotype::source::{made_up_ids, Loaded};
use crate::genotype::text::Dosages;
use crate::genotype::{Animals, Variants};
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
    for (line, packed) in bytes.chunks_exact_mut(length.div_ceil(PER_BYTE)).enumerate() {
        input.read_exact(&mut raw).map_err(|e| unreadable(path, &e))?;
        for (k, (code, cell)) in codes.iter_mut().zip(raw.chunks_exact(size)).enumerate() {
            let x = number(cell);
            let missing = x.is_nan() || x == -9.0 || x == -1.0 || x == 3.0;
            *code = if missing { Some(MISSING) } else { dosages.code(x) }.ok_or_else(|| {
                let (i, j) = if header.fortran { (k, line) } else { (line, k) };
                let place = format!("{} at [{i}, {j}]", path.display());
                Error::input(place, "a dosage from 0 to 2 (or -9, -1, 3 or NaN)", x, "correct the array")
            })?;
        }
        pack_row(&codes, packed);
    }
    let calls = Packed::from_bytes(lines, length, bytes);
    let calls = if header.fortran { calls } else { calls.transposed() };
    let mut variants = Variants::default();
    (1..=m).for_each(|j| variants.push(format!("snp{j}"), "0", 0, f64::NAN, ["A", "B"]));
    let animals = Animals::named(made_up_ids(path, n, ids)?);
    Ok(Loaded { animals, variants, calls, notes: dosages.notes(n * m) })
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
