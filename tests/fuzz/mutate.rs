//! Damage as users' files have it: flipped bits, cut ends, missing and doubled lines, odd numbers and names.

use genialearn::rng::{Purpose, Stream};

/// What editors, spreadsheets and scripts leave in tables and configurations.
const TOKENS: [&[u8]; 24] = [
    b"NA",
    b"nan",
    b"inf",
    b"-inf",
    b"1e999",
    b"-9",
    b"-9.0",
    b".",
    b"0",
    b"-1",
    b"3",
    b"\t",
    b" ",
    b",",
    b"\n",
    b"\r\n",
    b"\"",
    b"\0",
    b"\xEF\xBB\xBF",
    b"\xE9",
    b"#",
    b"/",
    b"../x",
    b"999999999999999999999",
];

/// Numbers that sizes and offsets of binary files are replaced by.
const SIZES: [u64; 6] = [0, 1, 255, u32::MAX as u64, i64::MAX as u64, u64::MAX];

/// One file, damaged in one to three places. The same `seed` and `case` give the same damage.
pub fn mutate(whole: &[u8], seed: u64, case: u64, text: bool) -> Vec<u8> {
    let mut stream = Stream::new(seed, Purpose::Sample, case);
    let mut bytes = whole.to_vec();
    for _ in 0..1 + stream.below(3) {
        damage(&mut bytes, &mut stream, text);
    }
    bytes
}

/// Damages one place.
fn damage(bytes: &mut Vec<u8>, stream: &mut Stream, text: bool) {
    if bytes.is_empty() {
        return bytes.extend_from_slice(TOKENS[stream.below(TOKENS.len())]);
    }
    let at = stream.below(bytes.len());
    let length = (1 + stream.below(40)).min(bytes.len() - at);
    match stream.below(if text { 9 } else { 7 }) {
        0 => bytes[at] ^= 1 << stream.below(8),
        1 => bytes[at] = stream.below(256) as u8,
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..at + length)),
        4 => {
            let again = bytes[at..at + length].to_vec();
            bytes.splice(at..at, again);
        }
        5 if !text => {
            let size = SIZES[stream.below(SIZES.len())].to_le_bytes();
            let end = bytes.len().min(at + [1, 2, 4, 8][stream.below(4)]);
            bytes[at..end].copy_from_slice(&size[..end - at]);
        }
        6 if !text => bytes[at..at + length].fill(0),
        5 | 6 => drop(bytes.splice(at..at, TOKENS[stream.below(TOKENS.len())].iter().copied())),
        7 => fields(bytes, stream),
        _ => lines(bytes, stream),
    }
}

/// Replaces a whole field by a token.
fn fields(bytes: &mut Vec<u8>, stream: &mut Stream) {
    let parts = |b: &u8| matches!(b, b'\t' | b' ' | b',' | b'\n' | b'=');
    let at = stream.below(bytes.len());
    let start = bytes[..at].iter().rposition(parts).map_or(0, |p| p + 1);
    let end = bytes[at..].iter().position(parts).map_or(bytes.len(), |p| at + p);
    bytes.splice(start..end.max(start), TOKENS[stream.below(TOKENS.len())].iter().copied());
}

/// Loses, doubles or exchanges lines.
fn lines(bytes: &mut Vec<u8>, stream: &mut Stream) {
    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    let (a, b) = (stream.below(lines.len()), stream.below(lines.len()));
    match stream.below(3) {
        0 => drop(lines.remove(a)),
        1 => lines.insert(b, lines[a].clone()),
        _ => lines.swap(a, b),
    }
    *bytes = lines.concat();
}

/// Whether a damaged configuration still asks for little work: no number above 3,000.
pub fn is_small(toml: &[u8]) -> bool {
    let text = String::from_utf8_lossy(toml);
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"._+-".contains(c));
    words.filter_map(|w| w.replace('_', "").parse::<f64>().ok()).all(|x| x.is_nan() || x.abs() <= 3000.0)
}
