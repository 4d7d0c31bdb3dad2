//! Text files line by line, plain or gzipped (also in many members, as bgzip writes), with the line number at
//! hand for messages.
//!
//! A byte-order mark is dropped. Bytes that are not UTF-8 and control characters other than tabs are wrong
//! input. A bgzipped file must end with its end marker (SAM specification, section 4.1.2).

use crate::error::{Error, Result};
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// The empty block that ends every bgzipped file.
const BGZF_END: [u8; 28] =
    [0x1F, 0x8B, 8, 4, 0, 0, 0, 0, 0, 0xFF, 6, 0, 0x42, 0x43, 2, 0, 0x1B, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// The byte-order mark in UTF-8.
const BOM: &[u8] = b"\xEF\xBB\xBF";
/// Size of read buffers, in bytes.
const BUFFER: usize = 1 << 18;

/// An open text file.
pub struct Lines {
    path: PathBuf,
    input: Box<dyn BufRead>,
    line: Vec<u8>,
    number: usize,
    /// Whether the line read last has a line end.
    ended: bool,
}

impl Lines {
    /// Opens `path`; the first bytes tell whether it is gzipped.
    pub fn open(path: &Path) -> Result<Lines> {
        let input = open(path)?;
        Ok(Lines { path: path.to_owned(), input, line: Vec::new(), number: 0, ended: true })
    }

    /// The next line without its end, as bytes of any kind; `None` behind the last.
    pub fn next_bytes(&mut self) -> Result<Option<&[u8]>> {
        self.line.clear();
        let read = self.input.read_until(b'\n', &mut self.line).map_err(|e| unreadable(&self.path, &e))?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        self.ended = self.line.ends_with(b"\n");
        if self.number == 1 && self.line.starts_with(BOM) {
            self.line.drain(..BOM.len());
        }
        while self.line.last().is_some_and(|b| matches!(b, b'\n' | b'\r')) {
            self.line.pop();
        }
        Ok(Some(&self.line))
    }

    /// The next line without its end; `None` behind the last.
    pub fn next_line(&mut self) -> Result<Option<&str>> {
        if self.next_bytes()?.is_none() {
            return Ok(None);
        }
        self.current().map(Some)
    }

    /// The line read last, as text.
    pub fn current(&self) -> Result<&str> {
        text(&self.path, self.number, &self.line)
    }

    /// The next line of a format whose every line is data: empty lines may stand only at the end of the file.
    pub fn next_row(&mut self) -> Result<Option<&str>> {
        if self.advance()? {
            self.current().map(Some)
        } else {
            Ok(None)
        }
    }

    /// As [`Lines::next_row`], without a look at the line: whether there is one.
    pub fn advance(&mut self) -> Result<bool> {
        let is_empty = |line: &[u8]| line.iter().all(u8::is_ascii_whitespace);
        match self.next_bytes()? {
            Some(line) if !is_empty(line) => return Ok(true),
            Some(_) => {}
            None => return Ok(false),
        }
        let empty = self.number;
        while let Some(line) = self.next_bytes()? {
            if !is_empty(line) {
                let place = place(&self.path, empty);
                let advice = "remove the empty line, or make the file again if a line is lost";
                return Err(Error::input(place, "a line of data", "an empty line", advice));
            }
        }
        Ok(false)
    }

    /// The line read last, as bytes of any kind.
    pub fn bytes(&self) -> &[u8] {
        &self.line
    }

    /// The first line, which must exist.
    pub fn header(&mut self) -> Result<String> {
        let path = self.path.clone();
        match self.next_line()? {
            Some(line) => Ok(line.to_owned()),
            None => Err(Error::input(path.display(), "a header line", "an empty file", "check the file")),
        }
    }

    /// What to tell the user at the end of a file whose last line has no line end, as a cut copy has.
    pub fn cut_note(&self) -> Option<String> {
        let path = self.path.display();
        (!self.ended).then(|| format!("{path}: the last line has no line end: check that the file is whole"))
    }

    /// Number of the line read last, from 1.
    pub fn number(&self) -> usize {
        self.number
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `FILE line N`: the line read last.
    pub fn place(&self) -> String {
        place(&self.path, self.number)
    }
}

/// The whole of a text file, plain or gzipped, without its byte-order mark. The file is read once, so that it
/// may be a pipe.
pub fn read_text(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes).map_err(|e| unreadable(path, &e))?;
    if bytes.starts_with(BOM) {
        bytes.drain(..BOM.len());
    }
    for (number, line) in bytes.split(|b| *b == b'\n').enumerate() {
        text(path, number + 1, line.strip_suffix(b"\r").unwrap_or(line))?;
    }
    String::from_utf8(bytes).map_err(|_| not_utf8(path, 1))
}

/// The contents of a file, decompressed when it begins as gzip does.
fn open(path: &Path) -> Result<Box<dyn BufRead>> {
    let fail = |e: std::io::Error| Error::reading(path, &e);
    let mut file = File::open(path).map_err(fail)?;
    let mut head = Vec::new();
    file.by_ref().take(18).read_to_end(&mut head).map_err(fail)?;
    // The subfield BC marks bgzip's blocks.
    let bgzip = head.len() == 18 && head[3] == 4 && head[12..14] == *b"BC";
    let gzip = head.starts_with(&[0x1F, 0x8B]);
    let whole = Tail { input: std::io::Cursor::new(head).chain(file), last: Vec::new() };
    let whole = BufReader::with_capacity(BUFFER, whole);
    Ok(if gzip {
        let plain = Gzip { decoder: MultiGzDecoder::new(whole), bgzip };
        Box::new(BufReader::with_capacity(BUFFER, plain))
    } else {
        Box::new(whole)
    })
}

/// Passes bytes on and remembers the last ones.
struct Tail<R> {
    input: R,
    last: Vec<u8>,
}

impl<R: Read> Read for Tail<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let n = self.input.read(out)?;
        self.last.extend(&out[n.saturating_sub(BGZF_END.len())..n]);
        self.last.drain(..self.last.len().saturating_sub(BGZF_END.len()));
        Ok(n)
    }
}

/// Decompresses, and asks for the end marker of bgzip.
struct Gzip<R: Read> {
    decoder: MultiGzDecoder<BufReader<Tail<R>>>,
    bgzip: bool,
}

impl<R: Read> Read for Gzip<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let n = self.decoder.read(out)?;
        let at_end = n == 0 && !out.is_empty();
        if at_end && self.bgzip && self.decoder.get_ref().get_ref().last != BGZF_END {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(n)
    }
}

/// A line's bytes as text.
fn text<'a>(path: &Path, number: usize, line: &'a [u8]) -> Result<&'a str> {
    if number == 1 && (line.starts_with(b"\xFF\xFE") || line.starts_with(b"\xFE\xFF")) {
        return Err(not_utf8(path, number)); // UTF-16, by its byte-order mark
    }
    if let Some(byte) = line.iter().find(|b| (**b < b' ' && **b != b'\t') || **b == 0x7F) {
        let found = match byte {
            b'\r' => "a carriage return within the line".to_owned(),
            0 => "a NUL byte (a control character)".to_owned(),
            other => format!("the control character {other:#04x}"),
        };
        let advice = "make the file again; is it text, and not damaged?";
        return Err(Error::input(place(path, number), "plain text", found, advice));
    }
    std::str::from_utf8(line).map_err(|_| not_utf8(path, number))
}

fn not_utf8(path: &Path, number: usize) -> Error {
    let advice = "save it as UTF-8, if it is text";
    Error::input(place(path, number), "text in UTF-8", "a line that is not UTF-8", advice)
}

/// `FILE line N`.
pub fn place(path: &Path, number: usize) -> String {
    format!("{} line {number}", path.display())
}

/// An error while reading a file that may be compressed.
pub fn unreadable(path: &Path, e: &std::io::Error) -> Error {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    match e.kind() {
        UnexpectedEof => Error::input(
            path.display(),
            "a whole file",
            "one that ends too early (truncated: the end of its gzip data is absent)",
            "copy or download it again",
        ),
        InvalidData | InvalidInput => {
            Error::input(path.display(), "a whole gzip file", "a damaged one", "copy or download it again")
        }
        _ => Error::reading(path, e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(text: &str) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(text.as_bytes()).unwrap();
        out.finish().unwrap()
    }

    /// A block as bgzip writes it: a gzip member with its size in the subfield BC.
    fn bgzip(text: &str) -> Vec<u8> {
        let mut member = flate2::GzBuilder::new()
            .extra(b"BC\x02\x00??".to_vec())
            .write(Vec::new(), flate2::Compression::fast());
        member.write_all(text.as_bytes()).unwrap();
        let mut block = member.finish().unwrap();
        let size = u16::try_from(block.len() - 1).unwrap().to_le_bytes();
        block[16..18].copy_from_slice(&size);
        block
    }

    /// The lines of a file of these bytes, or the error.
    fn lines(bytes: &[u8]) -> Result<Vec<String>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let whole = read_text(file.path());
        let mut lines = Lines::open(file.path())?;
        let mut all = Vec::new();
        while let Some(line) = lines.next_line()? {
            all.push(line.to_owned());
        }
        assert_eq!(whole?.lines().map(str::to_owned).collect::<Vec<_>>(), all);
        Ok(all)
    }

    #[test]
    fn plain_gzip_and_bgzip_give_the_same_lines() {
        for bytes in [
            b"one\r\ntwo\nthree".to_vec(),
            b"\xEF\xBB\xBFone\r\ntwo\nthree".to_vec(),
            [gzip("one\r\ntw"), gzip("o\nthree"), gzip("")].concat(),
            [bgzip("\u{feff}one\r\n"), bgzip("two\nthree"), BGZF_END.to_vec()].concat(),
        ] {
            assert_eq!(lines(&bytes).unwrap(), ["one", "two", "three"]);
        }
    }

    #[test]
    fn cut_files_are_refused() {
        let whole = gzip(&"line\n".repeat(1000));
        let blocks = [bgzip("one\n"), bgzip("two\n")].concat();
        for cut in [&whole[..whole.len() - 9], &blocks[..], &bgzip("one\n")] {
            let e = lines(cut).unwrap_err();
            assert!(e.exit_code() == 2 && e.to_string().contains("ends too early"), "{e}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_with_their_line() {
        for (bytes, told) in [
            (&b"a\nb\xE9\n"[..], "line 2: expected text in UTF-8"),
            (b"a\nb\x00c\n", "line 2: expected plain text, found a NUL byte"),
            (b"\xFF\xFEi\0d\0", "line 1: expected text in UTF-8"),
            (b"a\x7F", "line 1: expected plain text, found the control character 0x7f"),
            (b"a\rb\rc", "a carriage return"),
        ] {
            let e = lines(bytes).unwrap_err();
            assert!(e.exit_code() == 2 && e.to_string().contains(told), "{e}");
        }
    }

    #[test]
    fn empty_lines_stand_only_at_the_end_of_data() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let rows = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            let mut lines = Lines::open(file.path())?;
            let mut count = 0;
            while lines.next_row()?.is_some() {
                count += 1;
            }
            Ok::<_, Error>((count, lines.cut_note().is_some()))
        };
        assert_eq!(rows("a\nb\n").unwrap(), (2, false));
        assert_eq!(rows("a\nb\r\n\r\n \n").unwrap(), (2, false));
        assert_eq!(rows("a\nb").unwrap(), (2, true));
        assert!(rows("a\n\nb\n").unwrap_err().to_string().contains("line 2: expected a line of data"));
    }
}
