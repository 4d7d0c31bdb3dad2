//! The genotype store: one HDF5 file, two bits a call, readable from h5py and R.
//!
//! `/genotypes` u8 (n, ceil(m/4)), four codes a byte, lowest bits first, in chunks of [`CHUNK_ROWS`] animals by
//! [`CHUNK_BYTES`] bytes, so that a block of animals and a block of SNPs both read fast; `/checksums` u32, the
//! fletcher32 of each chunk (chunks down, chunks across); `/variants/*` and `/animals/*` as in [`Variants`] and
//! [`Animals`], lists of texts as bytes, each text ending with a line feed; the attributes `n_animals`, `n_variants`.

mod chunks;
mod lists;

pub use lists::{read_variants, write_variants};

use self::chunks::{ChunkReader, ChunkWriter, Grid};
use crate::error::{Error, Result};
use crate::genotype::{Animals, Variants};
use crate::hdf::{self, Format};
use crate::packed::{Packed, PER_BYTE};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The files of stores.
pub static FORMAT: Format = Format {
    name: "genialearn-genotypes",
    version: 2,
    what: "a genotype store",
    advice: "make it again with `genialearn import` or `genialearn simulate`",
};
/// Animals in one chunk of the file.
pub const CHUNK_ROWS: usize = 1024;
/// Bytes of an animal in one chunk of the file.
pub const CHUNK_BYTES: usize = 256;
/// SNPs in one chunk of the file: what [`StoreWriter::write_columns`] takes at a time.
pub const PANEL: usize = CHUNK_BYTES * PER_BYTE;

/// A store open for reading. Every rank opens its own.
pub struct Store {
    path: PathBuf,
    /// `None` without animals or SNPs.
    chunks: Option<ChunkReader>,
    animals: Animals,
    variants: Variants,
}

impl Store {
    /// Opens a store and reads everything but the genotypes.
    ///
    /// # Errors
    /// A file that is no whole store of this format, as [`Error::Input`].
    pub fn open(path: &Path) -> Result<Store> {
        let reader = hdf::Reader::open(path, &FORMAT)?;
        let root = reader.root();
        let animals = lists::read_animals(root)?;
        let variants = lists::read_variants(root, animals.len())?;
        let sizes = [root.number::<u64>("n_animals")?, root.number::<u64>("n_variants")?];
        if sizes != [animals.len() as u64, variants.len() as u64] {
            return Err(root.damaged("lists of animals and SNPs of other lengths than told"));
        }
        let shape = [animals.len(), variants.len().div_ceil(PER_BYTE)];
        if root.shape("genotypes")? != shape {
            return Err(root.damaged("genotypes whose shape differs from the lists of animals and SNPs"));
        }
        let chunks = if shape.contains(&0) { None } else { Some(find_chunks(&reader, shape)?) };
        Ok(Store { path: path.to_owned(), chunks, animals, variants })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of animals, n.
    pub fn n_animals(&self) -> usize {
        self.animals.len()
    }

    /// Number of SNPs, m.
    pub fn n_variants(&self) -> usize {
        self.variants.len()
    }

    /// The animals, in the order of the rows.
    pub fn animals(&self) -> &Animals {
        &self.animals
    }

    /// The SNPs, in the order of the columns.
    pub fn variants(&self) -> &Variants {
        &self.variants
    }

    /// The genotypes of the animals `rows` at the SNPs `snps`, animal by animal. `snps` must begin on a whole
    /// byte (a multiple of four) unless it is empty, as the share of a rank without SNPs is. All threads of the
    /// pool read, and verify the checksums.
    pub fn read(&self, rows: Range<usize>, snps: Range<usize>) -> Result<Packed> {
        assert!(snps.end <= self.n_variants() && rows.end <= self.n_animals(), "{rows:?} x {snps:?}");
        if rows.is_empty() || snps.is_empty() {
            return Ok(Packed::missing(rows.len(), snps.len()));
        }
        assert!(snps.start.is_multiple_of(PER_BYTE), "SNPs from {} on begin within a byte", snps.start);
        let bytes = snps.start / PER_BYTE..snps.end.div_ceil(PER_BYTE);
        let Some(chunks) = &self.chunks else { return Ok(Packed::missing(rows.len(), snps.len())) };
        let data = chunks.read(&self.path, rows.clone(), bytes)?;
        Ok(Packed::from_bytes(rows.len(), snps.len(), data))
    }
}

/// The chunks of a matrix of bytes of this shape.
fn find_chunks(reader: &hdf::Reader, shape: [usize; 2]) -> Result<ChunkReader> {
    let (root, bulk) = (reader.root(), reader.bulk());
    let Some(chunk) = root.chunk("genotypes")?.filter(|c| c.len() == 2 && !c.contains(&0)) else {
        return Err(root.damaged("genotypes that are not in chunks"));
    };
    let grid = Grid { rows: shape[0], bytes: shape[1], chunk_rows: chunk[0], chunk_bytes: chunk[1] };
    if grid.len() != Some(bulk.end - bulk.start) || root.shape("checksums")? != [grid.down(), grid.across()] {
        return Err(root.damaged("chunks of another number than the genotypes need"));
    }
    let file = std::fs::File::open(root.path()).map_err(|e| Error::reading(root.path(), &e))?;
    let checksums = root.matrix("checksums")?.into_raw_vec_and_offset().0;
    Ok(ChunkReader { file, grid, first: bulk.start, checksums })
}

/// A store in the making, written animal by animal ([`StoreWriter::write_rows`]) or SNP panel by SNP panel
/// ([`StoreWriter::write_columns`]); it appears under its name when finished.
pub struct StoreWriter {
    file: hdf::Writer,
    target: PathBuf,
    /// `None` without animals or SNPs.
    chunks: Option<ChunkWriter>,
    grid: Grid,
    columns: usize,
}

impl StoreWriter {
    /// Begins a store of `n` animals and `m` SNPs.
    pub fn create(path: &Path, n: usize, m: usize, force: bool) -> Result<StoreWriter> {
        let file = hdf::Writer::create(path, force, &FORMAT)?;
        let bytes = m.div_ceil(PER_BYTE);
        let grid =
            Grid { rows: n, bytes, chunk_rows: CHUNK_ROWS.min(n), chunk_bytes: CHUNK_BYTES.min(bytes) };
        let root = file.root();
        root.number("n_animals", n as u64)?;
        root.number("n_variants", m as u64)?;
        let chunks = if n == 0 || m == 0 {
            root.reserve::<u8>("genotypes", &[n, bytes])?;
            None
        } else {
            let first = root.reserve_chunks("genotypes", [n, bytes], [grid.chunk_rows, grid.chunk_bytes])?;
            let chunks = ChunkWriter::new(file.path(), grid, first);
            Some(chunks.map_err(|e| Error::writing(path, &e))?)
        };
        Ok(StoreWriter { file, target: path.to_owned(), chunks, grid, columns: m })
    }

    /// Writes the animals `first..first + rows.rows()`.
    pub fn write_rows(&mut self, first: usize, rows: &Packed) -> Result<()> {
        assert_eq!(rows.columns(), self.columns, "every SNP of the animals");
        let (end, apart) = (first + rows.rows(), self.grid.chunk_bytes);
        let Some(chunks) = self.chunks.as_mut().filter(|_| first < end) else { return Ok(()) };
        let written = chunks.write(first..end, 0..rows.stride(), |part, bytes, lines| {
            for (line, i) in lines.chunks_exact_mut(apart).zip(part) {
                line[..bytes.len()].copy_from_slice(&rows.row(i - first)[bytes.clone()]);
            }
        });
        written.map_err(|e| Error::writing(&self.target, &e))
    }

    /// Writes the SNPs `first..first + panel.columns()` of all animals. `first` is a multiple of
    /// [`PANEL`], and so is the number of SNPs but for the last panel.
    pub fn write_columns(&mut self, first: usize, panel: &Packed) -> Result<()> {
        assert_eq!(panel.rows(), self.grid.rows, "all animals");
        self.fill_columns(first, panel.columns(), |animals, lines, apart| {
            for (line, i) in lines.chunks_exact_mut(apart).zip(animals) {
                line[..panel.stride()].copy_from_slice(panel.row(i));
            }
        })
    }

    /// Like [`StoreWriter::write_columns`] for `columns` SNPs, at most [`PANEL`], that `fill` gives: called on
    /// all threads with animals, it puts their packed calls into lines that lie as far apart as it is told.
    pub fn fill_columns(
        &mut self,
        first: usize,
        columns: usize,
        fill: impl Fn(Range<usize>, &mut [u8], usize) + Sync,
    ) -> Result<()> {
        assert!(columns == PANEL || columns < PANEL && first + columns == self.columns, "whole panels");
        let Some(chunks) = self.chunks.as_mut().filter(|_| columns > 0) else { return Ok(()) };
        let (byte, apart) = (first / PER_BYTE, self.grid.chunk_bytes);
        let bytes = byte..byte + columns.div_ceil(PER_BYTE);
        chunks
            .write(0..self.grid.rows, bytes, |animals, _, lines| fill(animals, lines, apart))
            .map_err(|e| Error::writing(&self.target, &e))
    }

    /// Writes the lists of animals and SNPs and gives the store its name.
    ///
    /// # Errors
    /// Lists that no store may have: names twice or empty, control characters, frequencies outside of 0 to 1.
    pub fn finish(self, animals: &Animals, variants: &Variants) -> Result<()> {
        let StoreWriter { file, target, chunks, grid, .. } = self;
        let checked =
            lists::check_animals(animals).and_then(|()| lists::check_variants(variants, animals.len()));
        checked.map_err(|found| {
            let expected = "animals and SNPs that a store can hold";
            Error::input(target.display(), expected, found, "correct the source")
        })?;
        let root = file.root();
        lists::write_animals(root, animals)?;
        lists::write_variants(root, variants)?;
        let (checksums, bulk) = chunks.map_or((Vec::new(), 0..0), ChunkWriter::finish);
        if !checksums.is_empty() {
            let view = ndarray::ArrayView2::from_shape((grid.down(), grid.across()), &checksums);
            root.matrix("checksums", view.expect("a checksum for each chunk"))?;
        }
        file.close()?.seal(bulk)
    }
}

#[cfg(test)]
mod tests;
