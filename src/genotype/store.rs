//! The genotype store: one HDF5 file, two bits a call, readable from h5py and R.
//!
//! `/genotypes` u8 (n, ceil(m/4)), four codes a byte, lowest bits first, in chunks of [`CHUNK_ROWS`] animals by
//! [`CHUNK_BYTES`] bytes with a fletcher32 checksum each, so that a block of animals and a block of SNPs both
//! read fast; `/variants/*` and `/animals/*` as in [`Variants`] and [`Animals`].

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
/// Bytes of an animal in one chunk of the file: 1,024 SNPs.
pub const CHUNK_BYTES: usize = 256;

/// A store open for reading. Every rank opens its own.
pub struct Store {
    path: PathBuf,
    genotypes: hdf5::Dataset,
    animals: Animals,
    variants: Variants,
}

impl Store {
    /// Opens a store and reads everything but the genotypes.
    pub fn open(path: &Path) -> Result<Store> {
        std::fs::File::open(path).map_err(|e| Error::reading(path, &e))?;
        let file = hdf5::File::open(path).map_err(|_| not_a_store(path, "another or a damaged file"))?;
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
                animals: read_animals(&file)?,
                variants: read_variants(&file)?,
            })
        };
        let store = read().map_err(damaged)?;
        let shape = [store.n_animals(), store.n_variants().div_ceil(PER_BYTE)];
        if store.genotypes.shape() != shape {
            return Err(not_a_store(
                path,
                "genotypes whose shape differs from the lists of animals and SNPs",
            ));
        }
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
    /// byte (a multiple of four).
    pub fn read(&self, rows: Range<usize>, snps: Range<usize>) -> Result<Packed> {
        assert!(snps.start % PER_BYTE == 0 && snps.end <= self.n_variants() && rows.end <= self.n_animals());
        let bytes = snps.start / PER_BYTE..snps.end.div_ceil(PER_BYTE);
        if rows.is_empty() || bytes.is_empty() {
            return Ok(Packed::missing(rows.len(), snps.len()));
        }
        let block = self
            .genotypes
            .read_slice_2d::<u8, _>((rows.clone(), bytes))
            .map_err(|e| damaged(&self.path, &e))?;
        Ok(Packed::from_bytes(rows.len(), snps.len(), block.into_raw_vec_and_offset().0))
    }
}

/// A store in the making, written animal by animal; it appears under its name when finished.
pub struct StoreWriter {
    draft: Draft,
    file: hdf5::File,
    genotypes: hdf5::Dataset,
    columns: usize,
}

impl StoreWriter {
    /// Begins a store of `n` animals and `m` SNPs.
    pub fn create(path: &Path, n: usize, m: usize, force: bool) -> Result<StoreWriter> {
        let draft = Draft::new(path, force)?;
        let make = || -> hdf5::Result<(hdf5::File, hdf5::Dataset)> {
            let file = hdf5::File::create(draft.path())?;
            let bytes = m.div_ceil(PER_BYTE);
            let mut builder = file.new_dataset::<u8>();
            if n > 0 && bytes > 0 {
                builder = builder.chunk((CHUNK_ROWS.min(n), CHUNK_BYTES.min(bytes))).fletcher32();
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
        Ok(StoreWriter { draft, file, genotypes, columns: m })
    }

    /// Writes the animals `first..first + rows.rows()`.
    pub fn write_rows(&mut self, first: usize, rows: &Packed) -> Result<()> {
        assert_eq!(rows.columns(), self.columns, "every SNP of the animals");
        if rows.rows() == 0 || rows.stride() == 0 {
            return Ok(());
        }
        let view = ndarray::ArrayView2::from_shape((rows.rows(), rows.stride()), rows.bytes())
            .expect("packed rows are whole");
        self.genotypes
            .write_slice(view, (first..first + rows.rows(), ..))
            .map_err(|e| unwritable(self.draft.target(), &e))
    }

    /// Writes the lists of animals and SNPs and gives the store its name.
    pub fn finish(self, animals: &Animals, variants: &Variants) -> Result<()> {
        let StoreWriter { draft, file, genotypes, .. } = self;
        let write = || -> hdf5::Result<()> {
            write_animals(&file, animals)?;
            write_variants(&file, variants)?;
            file.flush()
        };
        write().map_err(|e| unwritable(draft.target(), &e))?;
        drop((genotypes, file));
        draft.commit()
    }
}

/// Writes a text attribute, as h5py writes them.
pub fn write_text_attr(at: &hdf5::Location, name: &str, text: &str) -> hdf5::Result<()> {
    at.new_attr::<VarLenUnicode>().create(name)?.write_scalar(&unicode(text))
}

/// Writes a list of texts as a dataset.
pub fn write_texts(group: &hdf5::Group, name: &str, texts: &[String]) -> hdf5::Result<()> {
    let texts: Vec<VarLenUnicode> = texts.iter().map(|t| unicode(t)).collect();
    group.new_dataset_builder().with_data(&texts).create(name).map(drop)
}

/// Reads a list of texts.
pub fn read_texts(group: &hdf5::Group, name: &str) -> hdf5::Result<Vec<String>> {
    let texts = group.dataset(name)?.read_raw::<VarLenUnicode>()?;
    Ok(texts.iter().map(|t| t.as_str().to_owned()).collect())
}

/// HDF5 strings end at a NUL, so a text is cut there.
fn unicode(text: &str) -> VarLenUnicode {
    let text = text.split('\0').next().unwrap_or_default();
    text.parse().expect("a text without NUL")
}

fn write_animals(file: &hdf5::File, a: &Animals) -> hdf5::Result<()> {
    let group = file.create_group("animals")?;
    write_texts(&group, "id", &a.id)?;
    write_texts(&group, "birth_date", &a.birth_date)?;
    write_texts(&group, "sire", &a.sire)?;
    write_texts(&group, "dam", &a.dam)?;
    write_texts(&group, "group", &a.group)?;
    group.new_dataset_builder().with_data(&a.sex).create("sex").map(drop)
}

fn read_animals(file: &hdf5::File) -> hdf5::Result<Animals> {
    let group = file.group("animals")?;
    Ok(Animals {
        id: read_texts(&group, "id")?,
        birth_date: read_texts(&group, "birth_date")?,
        sire: read_texts(&group, "sire")?,
        dam: read_texts(&group, "dam")?,
        sex: group.dataset("sex")?.read_raw()?,
        group: read_texts(&group, "group")?,
    })
}

fn write_variants(file: &hdf5::File, v: &Variants) -> hdf5::Result<()> {
    let group = file.create_group("variants")?;
    write_texts(&group, "chromosome", &v.chromosome)?;
    write_texts(&group, "id", &v.id)?;
    write_texts(&group, "counted_allele", &v.counted_allele)?;
    write_texts(&group, "other_allele", &v.other_allele)?;
    group.new_dataset_builder().with_data(&v.position).create("position")?;
    group.new_dataset_builder().with_data(&v.cm).create("cm")?;
    group.new_dataset_builder().with_data(&v.frequency).create("frequency")?;
    group.new_dataset_builder().with_data(&v.missing).create("missing").map(drop)
}

fn read_variants(file: &hdf5::File) -> hdf5::Result<Variants> {
    let group = file.group("variants")?;
    Ok(Variants {
        chromosome: read_texts(&group, "chromosome")?,
        position: group.dataset("position")?.read_raw()?,
        id: read_texts(&group, "id")?,
        counted_allele: read_texts(&group, "counted_allele")?,
        other_allele: read_texts(&group, "other_allele")?,
        cm: group.dataset("cm")?.read_raw()?,
        frequency: group.dataset("frequency")?.read_raw()?,
        missing: group.dataset("missing")?.read_raw()?,
    })
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
