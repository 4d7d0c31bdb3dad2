//! Text files line by line, plain or gzipped (also in many members, as bgzip writes), with the line number at
//! hand for messages.

use crate::error::{Error, Result};
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

/// An open text file.
pub struct Lines {
    path: PathBuf,
    input: Box<dyn BufRead>,
    line: Vec<u8>,
    number: usize,
}

impl Lines {
    /// Opens `path`; the first bytes tell whether it is gzipped.
    pub fn open(path: &Path) -> Result<Lines> {
        let fail = |e: std::io::Error| Error::reading(path, &e);
        let mut file = File::open(path).map_err(fail)?;
        let mut magic = Vec::new();
        file.by_ref().take(2).read_to_end(&mut magic).map_err(fail)?;
        file.rewind().map_err(fail)?;
        let input: Box<dyn BufRead> = if magic == [0x1F, 0x8B] {
            Box::new(BufReader::with_capacity(1 << 18, MultiGzDecoder::new(BufReader::new(file))))
        } else {
            Box::new(BufReader::with_capacity(1 << 18, file))
        };
        Ok(Lines { path: path.to_owned(), input, line: Vec::new(), number: 0 })
    }

    /// The next line without its end; `None` behind the last.
    pub fn next_line(&mut self) -> Result<Option<&str>> {
        self.line.clear();
        let read = self.input.read_until(b'\n', &mut self.line).map_err(|e| unreadable(&self.path, &e))?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        while self.line.last().is_some_and(|b| matches!(b, b'\n' | b'\r')) {
            self.line.pop();
        }
        match std::str::from_utf8(&self.line) {
            Ok(line) => Ok(Some(line)),
            Err(_) => Err(Error::input(
                place(&self.path, self.number),
                "text in UTF-8",
                "other bytes",
                "is this a binary file of another format? name it with --format",
            )),
        }
    }

    /// The first line, which must exist.
    pub fn header(&mut self) -> Result<String> {
        let path = self.path.clone();
        match self.next_line()? {
            Some(line) => Ok(line.trim_start_matches('\u{feff}').to_owned()),
            None => Err(Error::input(path.display(), "a header line", "an empty file", "check the file")),
        }
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
            "one that ends too early",
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

    #[test]
    fn plain_and_many_member_gzip_files_give_the_same_numbered_lines() {
        let dir = tempfile::tempdir().unwrap();
        let (plain, zipped) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&plain, "one\r\ntwo\nthree").unwrap();
        std::fs::write(&zipped, [gzip("one\r\ntw"), gzip("o\nthree"), gzip("")].concat()).unwrap();
        for path in [plain, zipped] {
            let mut lines = Lines::open(&path).unwrap();
            assert_eq!(lines.header().unwrap(), "one");
            assert_eq!(lines.next_line().unwrap(), Some("two"));
            assert_eq!(lines.next_line().unwrap(), Some("three"));
            assert_eq!(lines.next_line().unwrap(), None);
            assert_eq!(lines.number(), 3);
        }
    }

    #[test]
    fn a_truncated_gzip_file_is_wrong_input() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gz");
        let whole = gzip(&"line\n".repeat(1000));
        std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        let mut lines = Lines::open(&path).unwrap();
        let e = loop {
            match lines.next_line() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the end was found"),
                Err(e) => break e,
            }
        };
        assert_eq!(e.exit_code(), 2);
    }
}
