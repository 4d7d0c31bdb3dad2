//! Whole chunks of `/genotypes`, read and written by all threads at once, past HDF5 and its global lock.
//!
//! The chunks lie in the file one after the other, row of chunks by row of chunks; `/checksums` holds the fletcher32 of
//! each.

use crate::error::{Error, Result};
use crate::hdf::fletcher32;
use crate::memory;
use rayon::prelude::*;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// How the matrix of bytes is cut into chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    /// Rows of the matrix: animals.
    pub rows: usize,
    /// Bytes in one row of the matrix.
    pub bytes: usize,
    /// Rows of one chunk.
    pub chunk_rows: usize,
    /// Bytes in one row of a chunk.
    pub chunk_bytes: usize,
}

impl Grid {
    /// Rows that the chunk row `r` covers.
    fn row_range(&self, r: usize) -> Range<usize> {
        r * self.chunk_rows..((r + 1) * self.chunk_rows).min(self.rows)
    }

    /// Bytes of a row that the chunk column `c` covers.
    fn byte_range(&self, c: usize) -> Range<usize> {
        c * self.chunk_bytes..((c + 1) * self.chunk_bytes).min(self.bytes)
    }

    /// Chunks down.
    pub fn down(&self) -> usize {
        self.rows.div_ceil(self.chunk_rows)
    }

    /// Chunks across.
    pub fn across(&self) -> usize {
        self.bytes.div_ceil(self.chunk_bytes)
    }

    /// Bytes of one chunk.
    fn chunk_len(&self) -> usize {
        self.chunk_rows * self.chunk_bytes
    }

    /// Bytes of all chunks; `None` when no file can hold them.
    pub fn len(&self) -> Option<u64> {
        let chunks = (self.down() as u64).checked_mul(self.across() as u64)?;
        chunks.checked_mul((self.chunk_rows as u64).checked_mul(self.chunk_bytes as u64)?)
    }

    /// Where the chunk of this number stands behind the first.
    fn offset(&self, number: usize) -> u64 {
        number as u64 * self.chunk_len() as u64
    }
}

/// The chunks of an open store.
pub(super) struct ChunkReader {
    pub file: File,
    pub grid: Grid,
    /// Where the first chunk begins in the file.
    pub first: u64,
    /// Of each chunk, (down, across).
    pub checksums: Vec<u32>,
}

impl ChunkReader {
    /// The bytes `bytes` of the rows `rows`, row by row. Every chunk touched is verified.
    pub fn read(&self, path: &Path, rows: Range<usize>, bytes: Range<usize>) -> Result<Vec<u8>> {
        let g = self.grid;
        let mut out = memory::zeroed(rows.len() * bytes.len());
        // One band of output for each chunk row; the first may begin in the middle of its chunks.
        let mut bands = Vec::new();
        let mut rest = &mut out[..];
        for r in rows.start / g.chunk_rows..rows.end.div_ceil(g.chunk_rows) {
            let part = intersect(&g.row_range(r), &rows);
            let (band, behind) = rest.split_at_mut(part.len() * bytes.len());
            rest = behind;
            bands.push((r, part, band));
        }
        bands.into_par_iter().try_for_each_init(
            || vec![0; g.chunk_len()],
            |chunk, (r, part, band)| {
                for c in bytes.start / g.chunk_bytes..bytes.end.div_ceil(g.chunk_bytes) {
                    self.fetch(path, r * g.across() + c, chunk)?;
                    let wanted = intersect(&g.byte_range(c), &bytes);
                    let first =
                        (part.start - r * g.chunk_rows) * g.chunk_bytes + wanted.start - c * g.chunk_bytes;
                    let lines = band.chunks_exact_mut(bytes.len()).zip(chunk[first..].chunks(g.chunk_bytes));
                    for (line, source) in lines {
                        line[wanted.start - bytes.start..wanted.end - bytes.start]
                            .copy_from_slice(&source[..wanted.len()]);
                    }
                }
                Ok(())
            },
        )?;
        Ok(out)
    }

    /// Reads the chunk of this number and verifies it.
    fn fetch(&self, path: &Path, number: usize, chunk: &mut [u8]) -> Result<()> {
        let at = self.first + self.grid.offset(number);
        self.file.read_exact_at(chunk, at).map_err(|e| Error::reading(path, &e))?;
        if fletcher32(chunk) == self.checksums[number] {
            return Ok(());
        }
        let rows = self.grid.row_range(number / self.grid.across());
        Err(Error::input(
            path.display(),
            "a whole genotype store",
            format!("a wrong checksum among the animals {} to {}", rows.start + 1, rows.end),
            "copy the file again, or make it again from its source",
        ))
    }
}

/// Writes chunks into their places.
pub(super) struct ChunkWriter {
    file: File,
    grid: Grid,
    /// Where the first chunk begins in the file.
    first: u64,
    /// Of each chunk, (down, across).
    checksums: Vec<u32>,
}

impl ChunkWriter {
    /// For the file at `path`, whose first chunk begins at `first`.
    pub fn new(path: &Path, grid: Grid, first: u64) -> std::io::Result<ChunkWriter> {
        let file = File::options().read(true).write(true).open(path)?;
        file.set_len(first + grid.len().ok_or(std::io::ErrorKind::FileTooLarge)?)?;
        let empty = fletcher32(&vec![0; grid.chunk_len()]);
        Ok(ChunkWriter { file, grid, first, checksums: vec![empty; grid.down() * grid.across()] })
    }

    /// Writes the rows `rows` and of each the bytes `bytes`, which begin a chunk, and end one or the matrix. `fill` is
    /// called on all threads with some of the rows and bytes, and puts them into lines that lie
    /// [`Grid::chunk_bytes`] apart.
    pub fn write(
        &mut self,
        rows: Range<usize>,
        bytes: Range<usize>,
        fill: impl Fn(Range<usize>, Range<usize>, &mut [u8]) + Sync,
    ) -> std::io::Result<()> {
        let g = self.grid;
        assert!(bytes.start.is_multiple_of(g.chunk_bytes), "whole chunks across");
        let across = bytes.start / g.chunk_bytes..bytes.end.div_ceil(g.chunk_bytes);
        let down = rows.start / g.chunk_rows..rows.end.div_ceil(g.chunk_rows);
        let places: Vec<(usize, usize)> = down.flat_map(|r| across.clone().map(move |c| (r, c))).collect();
        let write = |chunk: &mut Vec<u8>, (r, c): (usize, usize)| {
            let (number, all) = (r * g.across() + c, g.row_range(r));
            let (at, part) = (self.first + g.offset(number), intersect(&all, &rows));
            match part == all {
                true => chunk.fill(0), // what lies outside the matrix
                false => self.file.read_exact_at(chunk, at)?,
            }
            let first = (part.start - all.start) * g.chunk_bytes;
            let lines = first..first + part.len() * g.chunk_bytes;
            fill(part, intersect(&g.byte_range(c), &bytes), &mut chunk[lines]);
            self.file.write_all_at(chunk, at)?;
            Ok((number, fletcher32(chunk)))
        };
        let written: std::io::Result<Vec<(usize, u32)>> =
            places.into_par_iter().map_init(|| vec![0; g.chunk_len()], write).collect();
        for (number, checksum) in written? {
            self.checksums[number] = checksum;
        }
        Ok(())
    }

    /// The checksums, (down, across), and the bytes of the file that the chunks fill.
    pub fn finish(self) -> (Vec<u32>, Range<u64>) {
        let length = self.grid.len().unwrap_or(0);
        (self.checksums, self.first..self.first + length)
    }
}

fn intersect(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    a.start.max(b.start)..a.end.min(b.end)
}
