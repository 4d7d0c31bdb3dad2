//! Relationship matrices on disk: this program's HDF5 file, and GCTA's ([`gcta`]).
//!
//! The HDF5 file holds `/ids` (n) and `/grm` f64 (n, n), the full symmetric matrix in tiles with a fletcher32
//! checksum each, and the attributes `format`, `format_version`, `method`, `n`, `scale` (c of G = Z Z'/c) and
//! `snps`.

pub mod gcta;

use crate::error::{Error, Result};
use crate::genotype::store::{read_texts, write_text_attr, write_texts};
use crate::output::Draft;
use hdf5::types::VarLenUnicode;
use ndarray::Array2;
use std::path::Path;

/// What the attribute `format` says.
pub const FORMAT: &str = "genialearn-grm";
/// The newest layout that this program reads, and the one that it writes.
pub const FORMAT_VERSION: u64 = 1;
/// Rows and columns of one tile of the file.
const TILE: usize = 512;

/// A relationship matrix with what is needed to use it.
#[derive(Debug, Clone, PartialEq)]
pub struct Grm {
    /// The animals' names, in the order of the rows.
    pub ids: Vec<String>,
    /// The name of the method ([`super::Flavour::name`], or the program that made it).
    pub method: String,
    /// c of G = Z Z'/c, NaN when unknown.
    pub scale: f64,
    /// How many SNPs it was made from.
    pub snps: u64,
    /// G (n, n), symmetric.
    pub g: Array2<f64>,
}

/// Writes `grm` to `path`.
pub fn write(path: &Path, grm: &Grm, force: bool) -> Result<()> {
    let n = grm.ids.len();
    assert_eq!(grm.g.dim(), (n, n), "a row and a column for each name");
    let draft = Draft::new(path, force)?;
    let fill = || -> hdf5::Result<()> {
        let file = hdf5::File::create(draft.path())?;
        write_text_attr(&file, "format", FORMAT)?;
        write_text_attr(&file, "created_by", concat!("genialearn ", env!("CARGO_PKG_VERSION")))?;
        write_text_attr(&file, "method", &grm.method)?;
        for (name, value) in [("format_version", FORMAT_VERSION), ("n", n as u64), ("snps", grm.snps)] {
            file.new_attr::<u64>().create(name)?.write_scalar(&value)?;
        }
        file.new_attr::<f64>().create("scale")?.write_scalar(&grm.scale)?;
        write_texts(&file, "ids", &grm.ids)?;
        let mut builder = file.new_dataset::<f64>();
        if n > 0 {
            builder = builder.chunk((TILE.min(n), TILE.min(n))).fletcher32();
        }
        builder.shape((n, n)).create("grm")?.write(&grm.g)?;
        file.flush()
    };
    fill().map_err(|e| {
        Error::failed(
            path.display(),
            format!("cannot be written ({})", first_line(&e)),
            "free some disk space or choose another --out; nothing was left behind",
        )
    })?;
    draft.commit()
}

/// Reads the matrix at `path`.
pub fn read(path: &Path) -> Result<Grm> {
    std::fs::File::open(path).map_err(|e| Error::reading(path, &e))?;
    let file = hdf5::File::open(path).map_err(|_| not_a_grm(path, "another or a damaged file"))?;
    let format = file.attr("format").and_then(|a| a.read_scalar::<VarLenUnicode>());
    match format {
        Ok(f) if f.as_str() == FORMAT => {}
        Ok(f) => return Err(not_a_grm(path, f.as_str())),
        Err(_) => return Err(not_a_grm(path, "an HDF5 file of another program")),
    }
    let take = || -> hdf5::Result<(u64, Grm)> {
        let version = file.attr("format_version")?.read_scalar()?;
        let grm = Grm {
            ids: read_texts(&file, "ids")?,
            method: file.attr("method")?.read_scalar::<VarLenUnicode>()?.as_str().to_owned(),
            scale: file.attr("scale")?.read_scalar()?,
            snps: file.attr("snps")?.read_scalar()?,
            g: file.dataset("grm")?.read_2d()?,
        };
        Ok((version, grm))
    };
    let (version, grm) =
        take().map_err(|e| not_a_grm(path, &format!("a damaged one ({})", first_line(&e))))?;
    if version > FORMAT_VERSION {
        return Err(not_a_grm(path, &format!("one of format {version}, newer than {FORMAT_VERSION}")));
    }
    let n = grm.ids.len();
    if grm.g.dim() != (n, n) {
        return Err(not_a_grm(path, &format!("{n} names for a matrix of shape {:?}", grm.g.dim())));
    }
    unique(path, &grm.ids)?;
    Ok(grm)
}

/// An error when a name stands twice.
fn unique(path: &Path, ids: &[String]) -> Result<()> {
    let mut sorted: Vec<&String> = ids.iter().collect();
    sorted.sort();
    match sorted.windows(2).find(|two| two[0] == two[1]) {
        Some(two) => {
            Err(Error::input(path.display(), "each animal once", format!("{} twice", two[0]), "rename one"))
        }
        None => Ok(()),
    }
}

fn not_a_grm(path: &Path, found: &str) -> Error {
    Error::input(path.display(), "a relationship matrix", found, "make one with `genialearn grm`")
}

fn first_line(err: &hdf5::Error) -> String {
    err.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn example(n: usize) -> Grm {
        let mut g = Array2::from_shape_fn((n, n), |(i, k)| (i * k) as f64 * 0.37 + (i + k) as f64);
        g.diag_mut().iter_mut().for_each(|d| *d += 1.0 / 3.0);
        let ids = (0..n).map(|i| format!("animal{i}")).collect();
        Grm { ids, method: "vanraden1".into(), scale: 12.5, snps: 40, g }
    }

    #[test]
    fn a_matrix_comes_back_bit_for_bit() {
        let dir = tempfile::tempdir().unwrap();
        // 0: nothing; 1: single; 513: one row in a second tile
        for n in [0, 1, 5, 513] {
            let path = dir.path().join("g.h5");
            write(&path, &example(n), true).unwrap();
            assert_eq!(read(&path).unwrap(), example(n));
        }
    }

    #[test]
    fn damaged_and_foreign_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("g.h5");
        assert_eq!(read(&path).unwrap_err().exit_code(), 2);
        write(&path, &example(200), false).unwrap();
        assert!(write(&path, &example(200), false).is_err(), "not overwritten without force");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert_eq!(read(&path).unwrap_err().exit_code(), 2, "truncated");
        let mut flipped = bytes.clone();
        let middle = bytes.len() / 2;
        flipped[middle] ^= 1;
        std::fs::write(&path, flipped).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("damaged"), "one bit of the matrix");
        let mut twins = example(4);
        twins.ids[2] = twins.ids[0].clone();
        write(&path, &twins, true).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("animal0 twice"));
        hdf5::File::create(&path).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("another program"));
    }
}
