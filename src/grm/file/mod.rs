//! Relationship matrices on disk: this program's HDF5 file, and GCTA's ([`gcta`]).
//!
//! The HDF5 file holds `/ids` (n), `/tiles` f64 (b(b+1)/2, `tile`, `tile`), the lower triangle in tiles row by row
//! of tiles, b = ⌈n / `tile`⌉, padded with zeros at the end, `/checksums` u32, fletcher32 of each tile's bytes, and
//! the attributes `format`, `format_version`, `method`, `n`, `tile`, `scale` (c of G = Z Z'/c, NaN when unknown)
//! and `snps`. Tiles on the diagonal are symmetric. All ranks write their tiles into it at the same time.
//!
//! Version 1 held `/grm` f64 (n, n), the full symmetric matrix; it is still read.

pub mod gcta;
mod tiles;

pub use tiles::{read_tiles, write};

use crate::error::{Error, Result};
use crate::genotype::store::read_texts;
use hdf5::types::VarLenUnicode;
use ndarray::Array2;
use std::path::Path;

/// What the attribute `format` says.
pub const FORMAT: &str = "genialearn-grm";
/// The newest layout that this program reads, and the one that it writes.
pub const FORMAT_VERSION: u64 = 2;

/// What is to be known of a relationship matrix beside its numbers.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Header {
    /// The animals' names, in the order of the rows.
    pub ids: Vec<String>,
    /// The name of the method ([`super::Method::name`], or the program that made it).
    pub method: String,
    /// c of G = Z Z'/c, NaN when unknown.
    pub scale: f64,
    /// How many SNPs it was made from.
    pub snps: u64,
}

/// A whole relationship matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Grm {
    /// What is known of it.
    pub header: Header,
    /// G (n, n), symmetric.
    pub g: Array2<f64>,
}

/// Reads the whole matrix at `path`.
pub fn read(path: &Path) -> Result<Grm> {
    let (header, numbers) = open(path)?;
    let n = header.ids.len();
    let g = match &numbers {
        Numbers::Whole(dataset) => {
            dataset.read_2d().map_err(|e| not_a_grm(path, &format!("a damaged one ({})", first_line(&e))))?
        }
        Numbers::Tiles(tiles) => tiles.read_whole(path, n)?,
    };
    Ok(Grm { header, g })
}

/// Reads what is known of the matrix at `path`.
pub fn header(path: &Path) -> Result<Header> {
    Ok(open(path)?.0)
}

/// Where the numbers of a file stand.
enum Numbers {
    /// Version 1.
    Whole(hdf5::Dataset),
    /// Version 2.
    Tiles(tiles::Place),
}

/// Reads all but the numbers.
fn open(path: &Path) -> Result<(Header, Numbers)> {
    std::fs::File::open(path).map_err(|e| Error::reading(path, &e))?;
    let file = hdf5::File::open(path).map_err(|_| not_a_grm(path, "another or a damaged file"))?;
    let format = file.attr("format").and_then(|a| a.read_scalar::<VarLenUnicode>());
    match format {
        Ok(f) if f.as_str() == FORMAT => {}
        Ok(f) => return Err(not_a_grm(path, f.as_str())),
        Err(_) => return Err(not_a_grm(path, "an HDF5 file of another program")),
    }
    let damaged = |e: hdf5::Error| not_a_grm(path, &format!("a damaged one ({})", first_line(&e)));
    let version: u64 = file.attr("format_version").and_then(|a| a.read_scalar()).map_err(damaged)?;
    if version > FORMAT_VERSION {
        return Err(not_a_grm(path, &format!("one of format {version}, newer than {FORMAT_VERSION}")));
    }
    let header = read_header(&file).map_err(damaged)?;
    let n = header.ids.len();
    let numbers = if version == 1 {
        let dataset = file.dataset("grm").map_err(damaged)?;
        if dataset.shape() != [n, n] {
            let found = format!("{n} names for a matrix of shape {:?}", dataset.shape());
            return Err(not_a_grm(path, &found));
        }
        Numbers::Whole(dataset)
    } else {
        Numbers::Tiles(tiles::Place::find(&file, path, n)?)
    };
    unique(path, &header.ids)?;
    Ok((header, numbers))
}

fn read_header(file: &hdf5::File) -> hdf5::Result<Header> {
    Ok(Header {
        ids: read_texts(file, "ids")?,
        method: file.attr("method")?.read_scalar::<VarLenUnicode>()?.as_str().to_owned(),
        scale: file.attr("scale")?.read_scalar()?,
        snps: file.attr("snps")?.read_scalar()?,
    })
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
    use crate::comm::layout::Grid;
    use crate::comm::World;
    use crate::genotype::store::{write_text_attr, write_texts};
    use crate::grm::tiles::{deal, Tiles, EDGE};

    pub(super) fn example(n: usize) -> Grm {
        let mut g = Array2::from_shape_fn((n, n), |(i, k)| (i * k) as f64 * 0.37 + (i + k) as f64);
        g.diag_mut().iter_mut().for_each(|d| *d += 1.0 / 3.0);
        let ids = (0..n).map(|i| format!("animal{i}")).collect();
        Grm { header: Header { ids, method: "vanraden1".into(), scale: 12.5, snps: 40 }, g }
    }

    /// The matrix in tiles of one rank.
    pub(super) fn tiles(grm: &Grm) -> Tiles {
        let mut tiles = Tiles::zeros(&World::alone(), deal(grm.g.nrows(), EDGE, Grid::of(1)));
        tiles.for_each(|rows, columns, mut values| values.assign(&grm.g.slice(ndarray::s![rows, columns])));
        tiles
    }

    fn write(path: &Path, grm: &Grm, force: bool) -> Result<()> {
        super::write(path, &grm.header, &tiles(grm), force)
    }

    /// As the program wrote it before tiles.
    fn write_version_1(path: &Path, grm: &Grm) -> hdf5::Result<()> {
        let file = hdf5::File::create(path)?;
        write_text_attr(&file, "format", FORMAT)?;
        write_text_attr(&file, "method", &grm.header.method)?;
        file.new_attr::<u64>().create("format_version")?.write_scalar(&1)?;
        file.new_attr::<u64>().create("snps")?.write_scalar(&grm.header.snps)?;
        file.new_attr::<f64>().create("scale")?.write_scalar(&grm.header.scale)?;
        write_texts(&file, "ids", &grm.header.ids)?;
        let n = grm.g.nrows();
        let builder = file.new_dataset::<f64>().chunk((n.min(512), n.min(512))).fletcher32();
        builder.shape((n, n)).create("grm")?.write(&grm.g)
    }

    #[test]
    fn a_matrix_comes_back_bit_for_bit_whole_and_in_tiles() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("g.h5");
        // 0: nothing; 1: single; 257: one row in a second tile
        for n in [0, 1, 5, 257] {
            let grm = example(n);
            write(&path, &grm, true).unwrap();
            assert_eq!(read(&path).unwrap(), grm);
            let (header, tiles) = read_tiles(&World::alone(), Grid::of(1), &path).unwrap();
            assert_eq!((header, tiles.gather().unwrap()), (grm.header, grm.g));
        }
    }

    #[test]
    fn files_of_version_1_are_still_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("g.h5");
        let grm = example(600);
        write_version_1(&path, &grm).unwrap();
        assert_eq!(read(&path).unwrap(), grm);
        let (header, tiles) = read_tiles(&World::alone(), Grid::of(1), &path).unwrap();
        assert_eq!((header, tiles.gather().unwrap()), (grm.header, grm.g));
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
        let e = read_tiles(&World::alone(), Grid::of(1), &path).err().unwrap();
        assert!(e.to_string().contains("damaged"), "{e}");
        let mut twins = example(4);
        twins.header.ids[2] = twins.header.ids[0].clone();
        write(&path, &twins, true).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("animal0 twice"));
        hdf5::File::create(&path).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("another program"));
    }
}
