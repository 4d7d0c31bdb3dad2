//! Whole chunks of `/genotypes`, read and written past HDF5's filter pipeline and its global lock.
//!
//! A chunk lies in the file as its bytes followed by their fletcher32 checksum. Knowing the addresses, all
//! threads read and verify chunks at once; the writer hands HDF5 chunks that are ready to be stored.

use crate::error::{Error, Result};
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
        let mut out = large_buffer(rows.len() * bytes.len());
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
    buffer: Vec<u8>,
}

impl ChunkWriter {
    /// For a dataset cut in this way.
    pub fn new(grid: Grid) -> ChunkWriter {
        ChunkWriter { grid, buffer: vec![0; grid.chunk_len() + CHECKSUM] }
    }

    /// Writes the rows from `row` on and of each the bytes from `byte` on; both begin a chunk, and both end
    /// one or end the matrix. `data` has `stride` bytes a row.
    pub fn write(
        &mut self,
        to: &hdf5::Dataset,
        (row, byte): (usize, usize),
        data: &[u8],
        stride: usize,
    ) -> hdf5::Result<()> {
        let g = self.grid;
        assert!(row % g.chunk_rows == 0 && byte % g.chunk_bytes == 0, "whole chunks");
        for (down, band) in data.chunks(stride * g.chunk_rows).enumerate() {
            for across in (0..stride).step_by(g.chunk_bytes) {
                let (chunk, sum) = self.buffer.split_at_mut(g.chunk_len());
                let used = g.chunk_bytes.min(stride - across);
                for (line, source) in chunk.chunks_exact_mut(g.chunk_bytes).zip(band.chunks_exact(stride)) {
                    line[..used].copy_from_slice(&source[across..across + used]);
                }
                sum.copy_from_slice(&fletcher32(chunk).to_le_bytes());
                let place = [(row + down * g.chunk_rows) as u64, (byte + across) as u64];
                write_chunk(to, place, &self.buffer)?;
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

/// A zeroed buffer in huge pages where the system has them: first touching small ones costs more than reading.
fn large_buffer(bytes: usize) -> Vec<u8> {
    const HUGE: usize = 2 << 20;
    let mut buffer: Vec<u8> = vec![0; bytes];
    if bytes >= 4 * HUGE {
        let skip = buffer.as_ptr().align_offset(4096);
        let inside = &mut buffer[skip..];
        // SAFETY: the range is page-aligned and within the buffer; the advice changes no contents. It may be
        // refused, which changes nothing.
        unsafe {
            libc::madvise(inside.as_mut_ptr().cast(), inside.len() / 4096 * 4096, libc::MADV_HUGEPAGE);
        }
    }
    buffer
}

/// HDF5's fletcher32: two sums modulo 65,535 over big-endian 16-bit words, a last odd byte being a high one.
///
/// Computed over little-endian words in 16 lanes: swapping the bytes of every word multiplies both sums by
/// 256 modulo 65,535, which swaps the bytes of the sums.
fn fletcher32(data: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the instructions, as just asked.
        return unsafe { fletcher32_avx2(data) };
    }
    fletcher32_lanes(data)
}

/// [`fletcher32`] in registers of 256 bits.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn fletcher32_avx2(data: &[u8]) -> u32 {
    fletcher32_lanes(data)
}

#[inline(always)]
fn fletcher32_lanes(data: &[u8]) -> u32 {
    const LANES: usize = 16;
    /// Steps after which a lane of the second sum could overflow 32 bits.
    const STEPS: usize = 360;
    let words = data.len().div_ceil(2) as u64;
    let (mut first, mut second, mut done) = (0u64, 0u64, 0u64);
    let mut blocks = data.chunks_exact(2 * LANES);
    let lanes_of =
        |s: &[u8]| -> [u16; LANES] { std::array::from_fn(|l| u16::from_le_bytes([s[2 * l], s[2 * l + 1]])) };
    loop {
        let (mut a, mut b) = ([0u32; LANES], [0u32; LANES]);
        let mut steps = 0;
        for block in blocks.by_ref().take(STEPS) {
            let w = lanes_of(block);
            for l in 0..LANES {
                a[l] += u32::from(w[l]);
                b[l] += a[l];
            }
            steps += 1;
        }
        if steps == 0 {
            break;
        }
        // The word of lane l in step k stands `words - done - LANES k - l` places before the end.
        let behind = words - done - LANES as u64 * steps;
        for l in 0..LANES {
            let (a, b) = (u64::from(a[l]), u64::from(b[l]));
            first += a;
            second += (behind * a + LANES as u64 * b - l as u64 * a) % 65_535;
        }
        done += LANES as u64 * steps;
    }
    for pair in blocks.remainder().chunks(2) {
        let w = u64::from(u16::from_le_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        first += w;
        second += (words - done) % 65_535 * w;
        done += 1;
    }
    let any = first > 0;
    let fold = |sum: u64| match sum % 65_535 {
        0 if any => 0xFFFF,
        rest => (rest as u16).swap_bytes(),
    };
    u32::from(fold(second)) << 16 | u32::from(fold(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As HDF5 1.10 computes it (H5checksum.c, H5_checksum_fletcher32), word by word.
    fn plain(data: &[u8]) -> u32 {
        let (mut a, mut b) = (0u32, 0u32);
        for block in data.chunks(720) {
            for pair in block.chunks(2) {
                a += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
                b += a;
            }
            a = (a & 0xFFFF) + (a >> 16);
            b = (b & 0xFFFF) + (b >> 16);
        }
        a = (a & 0xFFFF) + (a >> 16);
        b = (b & 0xFFFF) + (b >> 16);
        b << 16 | a
    }

    #[test]
    fn the_checksum_is_that_of_hdf5() {
        // 0, 2: nothing and one word; 30-34: around a block of lanes; the rest: several folds, a whole chunk.
        for length in [0usize, 1, 2, 30, 32, 33, 34, 720, 11_520, 11_522, 262_144] {
            let noise: Vec<u8> =
                (0..length as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            for data in [noise, vec![0; length], vec![0xFF; length]] {
                assert_eq!(fletcher32(&data), plain(&data), "{length} bytes");
                assert_eq!(fletcher32_lanes(&data), plain(&data), "{length} bytes, any processor");
            }
        }
    }
}
