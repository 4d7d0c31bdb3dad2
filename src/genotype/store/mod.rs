//! The genotype store: one HDF5 file, two bits a call, readable from h5py and R.
//!
//! `/genotypes` u8 (n, ceil(m/4)), four codes a byte, lowest bits first, in chunks of [`CHUNK_ROWS`] animals by
//! [`CHUNK_BYTES`] bytes with a fletcher32 checksum each, so that a block of animals and a block of SNPs both
//! read fast; `/variants/*` and `/animals/*` as in [`Variants`] and [`Animals`].

mod checksum;
mod chunks;
mod lists;

pub(crate) use checksum::fletcher32;
pub use lists::{read_texts, read_variants, write_texts, write_variants};

use self::chunks::{ChunkReader, ChunkWriter, Grid};
use crate::error::{Error, Result};
use crate::genotype::{Animals, Variants};
use crate::output::Draft;
use crate::packed::{Packed, PER_BYTE};
use hdf5::types::VarLenUnicode;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What the attribute `format` says.
pub const FORMAT: &str = "genialearn-genotypes";
/// The newest layout that this program reads, and the one that it writes.
pub const FORMAT_VERSION: u64 = 1;
/// Animals in one chunk of the file.
pub const CHUNK_ROWS: usize = 1024;
/// Bytes of an animal in one chunk of the file.
pub const CHUNK_BYTES: usize = 256;
/// SNPs in one chunk of the file: what [`StoreWriter::write_columns`] takes at a time.
pub const PANEL: usize = CHUNK_BYTES * PER_BYTE;

/// A store open for reading. Every rank opens its own.
pub struct Store {
    path: PathBuf,
    genotypes: hdf5::Dataset,
    chunks: Option<ChunkReader>,
    animals: Animals,
    variants: Variants,
}

impl Store {
    /// Opens a store and reads everything but the genotypes.
    pub fn open(path: &Path) -> Result<Store> {
        std::fs::File::open(path).map_err(|e| Error::reading(path, &e))?;
        if path.is_dir() {
            return Err(Error::reading(path, &std::io::ErrorKind::IsADirectory.into()));
        }
        let other = |_| not_a_store(path, "another kind of file, or a truncated one");
        let file = hdf5::File::open(path).map_err(other)?;
        let format = file.attr("format").and_then(|a| a.read_scalar::<VarLenUnicode>());
        match format {
            Ok(f) if f.as_str() == FORMAT => {}
            Ok(f) => return Err(not_a_store(path, f.as_str())),
            Err(_) => return Err(not_a_store(path, "an HDF5 file of another program")),
        }
        let damaged = |e: hdf5::Error| damaged(path, &e);
        let version: u64 = file.attr("format_version").and_then(|a| a.read_scalar()).map_err(damaged)?;
        if version > FORMAT_VERSION {
            return Err(Error::input(
                path.display(),
                format!("store format {FORMAT_VERSION} or older"),
                format!("format {version}"),
                "update genialearn, or import the genotypes again",
            ));
        }
        let read = || -> hdf5::Result<Store> {
            Ok(Store {
                path: path.to_owned(),
                genotypes: file.dataset("genotypes")?,
                chunks: None,
                animals: lists::read_animals(&file)?,
                variants: lists::read_variants(&file)?,
            })
        };
        let mut store = read().map_err(damaged)?;
        let shape = [store.n_animals(), store.n_variants().div_ceil(PER_BYTE)];
        if store.genotypes.shape() != shape {
            return Err(not_a_store(
                path,
                "genotypes whose shape differs from the lists of animals and SNPs",
            ));
        }
        store.chunks = ChunkReader::new(path, &store.genotypes)?;
        Ok(store)
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
        let data = match &self.chunks {
            Some(chunks) => chunks.read(&self.path, rows.clone(), bytes)?,
            None => {
                let block = self.genotypes.read_slice_2d::<u8, _>((rows.clone(), bytes));
                block.map_err(|e| damaged(&self.path, &e))?.into_raw_vec_and_offset().0
            }
        };
        Ok(Packed::from_bytes(rows.len(), snps.len(), data))
    }
}

/// A store in the making, written animal by animal ([`StoreWriter::write_rows`]) or SNP panel by SNP panel
/// ([`StoreWriter::write_columns`]); it appears under its name when finished.
pub struct StoreWriter {
    draft: Draft,
    file: hdf5::File,
    genotypes: hdf5::Dataset,
    grid: Grid,
    chunks: ChunkWriter,
    columns: usize,
}

impl StoreWriter {
    /// Begins a store of `n` animals and `m` SNPs.
    pub fn create(path: &Path, n: usize, m: usize, force: bool) -> Result<StoreWriter> {
        let draft = Draft::new(path, force)?;
        let bytes = m.div_ceil(PER_BYTE);
        let grid =
            Grid { rows: n, bytes, chunk_rows: CHUNK_ROWS.min(n), chunk_bytes: CHUNK_BYTES.min(bytes) };
        let make = || -> hdf5::Result<(hdf5::File, hdf5::Dataset)> {
            let file = hdf5::File::create(draft.path())?;
            let mut builder = file.new_dataset::<u8>();
            if n > 0 && bytes > 0 {
                builder = builder.chunk((grid.chunk_rows, grid.chunk_bytes)).fletcher32();
            }
            let genotypes = builder.shape((n, bytes)).create("genotypes")?;
            write_text_attr(&file, "format", FORMAT)?;
            write_text_attr(&file, "created_by", concat!("genialearn ", env!("CARGO_PKG_VERSION")))?;
            for (name, value) in
                [("format_version", FORMAT_VERSION), ("n_animals", n as u64), ("n_variants", m as u64)]
            {
                file.new_attr::<u64>().create(name)?.write_scalar(&value)?;
            }
            Ok((file, genotypes))
        };
        let (file, genotypes) = make().map_err(|e| unwritable(path, &e))?;
        Ok(StoreWriter { draft, file, genotypes, grid, chunks: ChunkWriter::new(grid), columns: m })
    }

    /// Writes the animals `first..first + rows.rows()`.
    pub fn write_rows(&mut self, first: usize, rows: &Packed) -> Result<()> {
        assert_eq!(rows.columns(), self.columns, "every SNP of the animals");
        if rows.rows() == 0 || rows.stride() == 0 {
            return Ok(());
        }
        let end = first + rows.rows();
        let whole = first.is_multiple_of(self.grid.chunk_rows)
            && (end.is_multiple_of(self.grid.chunk_rows) || end == self.grid.rows);
        let written = if whole {
            let apart = self.grid.chunk_bytes;
            self.chunks.write(&self.genotypes, (first..end, 0..rows.stride()), |part, bytes, lines| {
                for (line, i) in lines.chunks_exact_mut(apart).zip(part) {
                    line[..bytes.len()].copy_from_slice(&rows.row(i - first)[bytes.clone()]);
                }
            })
        } else {
            let view = ndarray::ArrayView2::from_shape((rows.rows(), rows.stride()), rows.bytes())
                .expect("packed rows are whole");
            self.genotypes.write_slice(view, (first..end, ..))
        };
        written.map_err(|e| unwritable(self.draft.target(), &e))
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
        if self.grid.rows == 0 || columns == 0 {
            return Ok(());
        }
        let (byte, apart) = (first / PER_BYTE, self.grid.chunk_bytes);
        let part = (0..self.grid.rows, byte..byte + columns.div_ceil(PER_BYTE));
        self.chunks
            .write(&self.genotypes, part, |animals, _, lines| fill(animals, lines, apart))
            .map_err(|e| unwritable(self.draft.target(), &e))
    }

    /// Writes the lists of animals and SNPs and gives the store its name.
    pub fn finish(self, animals: &Animals, variants: &Variants) -> Result<()> {
        let StoreWriter { draft, file, genotypes, .. } = self;
        let write = || -> hdf5::Result<()> {
            lists::write_animals(&file, animals)?;
            lists::write_variants(&file, variants)?;
            file.flush()
        };
        write().map_err(|e| unwritable(draft.target(), &e))?;
        drop((genotypes, file));
        draft.commit()
    }
}

/// Writes a text attribute, as h5py writes them.
pub fn write_text_attr(at: &hdf5::Location, name: &str, text: &str) -> hdf5::Result<()> {
    at.new_attr::<VarLenUnicode>().create(name)?.write_scalar(&lists::unicode(text))
}

fn not_a_store(path: &Path, found: &str) -> Error {
    Error::input(
        path.display(),
        "a genotype store",
        found,
        "make one with `genialearn import` or `genialearn simulate`",
    )
}

fn damaged(path: &Path, err: &hdf5::Error) -> Error {
    let found = format!("a damaged one ({})", first_line(err));
    Error::input(path.display(), "a whole genotype store", found, "make it again from its source")
}

fn unwritable(path: &Path, err: &hdf5::Error) -> Error {
    Error::failed(
        path.display(),
        format!("cannot be written ({})", first_line(err)),
        "free some disk space or choose another --out; nothing was left behind",
    )
}

fn first_line(err: &hdf5::Error) -> String {
    err.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
