//! Whole chunks of `/genotypes`, read and written past HDF5's filter pipeline and its global lock.
//!
//! A chunk lies in the file as its bytes followed by their fletcher32 checksum. Knowing the addresses, all
//! threads read and verify chunks at once; the writer hands HDF5 chunks that are ready to be stored.

use super::checksum::fletcher32;
use crate::error::{Error, Result};
use crate::memory;
use hdf5::filters::Filter;
use rayon::prelude::*;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of the checksum behind each chunk.
const CHECKSUM: usize = 4;

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
    pub fn row_range(&self, r: usize) -> Range<usize> {
        r * self.chunk_rows..((r + 1) * self.chunk_rows).min(self.rows)
    }

    /// Chunks across.
    fn across(&self) -> usize {
        self.bytes.div_ceil(self.chunk_bytes)
    }

    /// Chunks down.
    pub fn down(&self) -> usize {
        self.rows.div_ceil(self.chunk_rows)
    }

    /// Bytes of one chunk without its checksum.
    fn chunk_len(&self) -> usize {
        self.chunk_rows * self.chunk_bytes
    }
}

/// The chunks of an open store, by address.
#[derive(Debug)]
pub(super) struct ChunkReader {
    file: std::fs::File,
    grid: Grid,
    addresses: Vec<u64>, // (down, across)
}

impl ChunkReader {
    /// The chunks of `genotypes` in the file `path`; `None` when they are stored in another way than
    /// [`super::StoreWriter`] stores them (compressed, say), so that HDF5 itself must read them.
    pub fn new(path: &Path, genotypes: &hdf5::Dataset) -> Result<Option<ChunkReader>> {
        let shape = genotypes.shape();
        let Some(chunk) = genotypes.chunk() else { return Ok(None) };
        if genotypes.filters() != [Filter::Fletcher32] || shape.len() != 2 {
            return Ok(None);
        }
        let grid = Grid { rows: shape[0], bytes: shape[1], chunk_rows: chunk[0], chunk_bytes: chunk[1] };
        let mut addresses = Vec::with_capacity(grid.down() * grid.across());
        for r in 0..grid.down() {
            for c in 0..grid.across() {
                let place = [(r * grid.chunk_rows) as u64, (c * grid.chunk_bytes) as u64];
                match address(genotypes, place) {
                    Some((at, length)) if length == (grid.chunk_len() + CHECKSUM) as u64 => {
                        addresses.push(at);
                    }
                    _ => return Ok(None),
                }
            }
        }
        let file = std::fs::File::open(path).map_err(|e| Error::reading(path, &e))?;
        Ok(Some(ChunkReader { file, grid, addresses }))
    }

    /// The bytes `bytes` of the rows `rows`, row by row. Every chunk touched is verified.
    pub fn read(&self, path: &Path, rows: Range<usize>, bytes: Range<usize>) -> Result<Vec<u8>> {
        let g = self.grid;
        let mut out = memory::zeroed(rows.len() * bytes.len());
        // One band of output for each chunk row; the first may begin in the middle of its chunks.
        let mut bands = Vec::new();
        let mut rest = &mut out[..];
        for r in rows.start / g.chunk_rows..rows.end.div_ceil(g.chunk_rows) {
            let whole = g.row_range(r);
            let part = whole.start.max(rows.start)..whole.end.min(rows.end);
            let (band, behind) = rest.split_at_mut(part.len() * bytes.len());
            rest = behind;
            bands.push((r, part, band));
        }
        bands.into_par_iter().try_for_each_init(
            || vec![0; g.chunk_len() + CHECKSUM],
            |chunk, (r, part, band)| self.read_band(path, (r, part, bytes.clone()), chunk, band),
        )?;
        Ok(out)
    }

    /// Fills `band` with the bytes `bytes` of the rows `part` of chunk row `r`.
    fn read_band(
        &self,
        path: &Path,
        (r, part, bytes): (usize, Range<usize>, Range<usize>),
        chunk: &mut [u8],
        band: &mut [u8],
    ) -> Result<()> {
        let g = self.grid;
        for c in bytes.start / g.chunk_bytes..bytes.end.div_ceil(g.chunk_bytes) {
            self.file
                .read_exact_at(chunk, self.addresses[r * g.across() + c])
                .map_err(|e| Error::reading(path, &e))?;
            let (data, sum) = chunk.split_at(g.chunk_len());
            if fletcher32(data).to_le_bytes() != sum {
                return Err(Error::input(
                    path.display(),
                    "a whole genotype store",
                    format!("a wrong checksum among the animals {} to {}", part.start + 1, part.end),
                    "copy the file again, or make it again from its source",
                ));
            }
            let across = c * g.chunk_bytes..(c + 1) * g.chunk_bytes;
            let wanted = across.start.max(bytes.start)..across.end.min(bytes.end);
            let first = (part.start - r * g.chunk_rows) * g.chunk_bytes + wanted.start - across.start;
            let lines = band.chunks_exact_mut(bytes.len()).zip(data[first..].chunks(g.chunk_bytes));
            for (line, source) in lines {
                line[wanted.start - bytes.start..wanted.end - bytes.start]
                    .copy_from_slice(&source[..wanted.len()]);
            }
        }
        Ok(())
    }
}

/// Puts chunks together and hands them to HDF5.
pub(super) struct ChunkWriter {
    grid: Grid,
    /// One chunk with its checksum for each thread: they stay in the caches from filling to writing.
    buffers: Vec<Vec<u8>>,
}

impl ChunkWriter {
    /// For a dataset cut in this way.
    pub fn new(grid: Grid) -> ChunkWriter {
        let buffer = vec![0; grid.chunk_len() + CHECKSUM];
        ChunkWriter { grid, buffers: vec![buffer; rayon::current_num_threads()] }
    }

    /// Writes the rows `rows` and of each the bytes `bytes`; both begin a chunk, and both end one or end the
    /// matrix. `fill` is called on all threads with some of the rows and bytes, and puts them into lines that
    /// lie [`Grid::chunk_bytes`] apart. The order in the file is always the same.
    pub fn write(
        &mut self,
        to: &hdf5::Dataset,
        (rows, bytes): (Range<usize>, Range<usize>),
        fill: impl Fn(Range<usize>, Range<usize>, &mut [u8]) + Sync,
    ) -> hdf5::Result<()> {
        let g = self.grid;
        assert!(rows.start % g.chunk_rows == 0 && bytes.start % g.chunk_bytes == 0, "whole chunks");
        let across = |row| bytes.clone().step_by(g.chunk_bytes).map(move |byte| (row, byte));
        let places: Vec<(usize, usize)> = rows.clone().step_by(g.chunk_rows).flat_map(across).collect();
        for places in places.chunks(self.buffers.len()) {
            self.buffers.par_iter_mut().zip(places).for_each(|(buffer, &(row, byte))| {
                let (chunk, sum) = buffer.split_at_mut(g.chunk_len());
                let rows = row..rows.end.min(row + g.chunk_rows);
                let bytes = byte..bytes.end.min(byte + g.chunk_bytes);
                if rows.len() * bytes.len() < chunk.len() {
                    chunk.fill(0); // what lies outside the matrix
                }
                let lines = &mut chunk[..rows.len() * g.chunk_bytes];
                fill(rows, bytes, lines);
                sum.copy_from_slice(&fletcher32(chunk).to_le_bytes());
            });
            for (buffer, &(row, byte)) in self.buffers.iter().zip(places) {
                write_chunk(to, [row as u64, byte as u64], buffer)?;
            }
        }
        Ok(())
    }
}

/// Address and length of the chunk that begins at `place`; `None` when it was never written.
fn address(genotypes: &hdf5::Dataset, place: [u64; 2]) -> Option<(u64, u64)> {
    let (mut mask, mut at, mut length) = (0, 0, 0);
    // SAFETY: the dataset is open and has two dimensions, as many as `place` has; the other pointers are to
    // locals of the types that the function fills; the library's lock is held.
    let status = hdf5::sync::sync(|| unsafe {
        hdf5_sys::h5d::H5Dget_chunk_info_by_coord(
            genotypes.id(),
            place.as_ptr(),
            &mut mask,
            &mut at,
            &mut length,
        )
    });
    // HDF5 says "no address" by all bits set; a mask other than 0 means that the checksum was left out.
    (status >= 0 && at != u64::MAX && mask == 0).then_some((at, length))
}

/// Stores one chunk with its checksum as it is.
fn write_chunk(to: &hdf5::Dataset, place: [u64; 2], chunk: &[u8]) -> hdf5::Result<()> {
    // SAFETY: the dataset is open and has two dimensions, as many as `place` has; `chunk` is as long as said
    // and only read; 0 as transfer properties is H5P_DEFAULT; the library's lock is held.
    let status = hdf5::sync::sync(|| unsafe {
        hdf5_sys::h5d::H5Dwrite_chunk(to.id(), 0, 0, place.as_ptr(), chunk.len(), chunk.as_ptr().cast())
    });
    hdf5::h5check(status).map(drop)
}
