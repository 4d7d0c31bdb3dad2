//! Relationship matrices on disk: this program's HDF5 file, and GCTA's ([`gcta`]).
//!
//! The HDF5 file holds `/ids` (n), `/tiles` f64 (b(b+1)/2, `tile`, `tile`), the lower triangle in tiles row by row
//! of tiles, b = ⌈n / `tile`⌉, padded with zeros at the end, `/checksums` u32, fletcher32 of each tile's bytes, and
//! the attributes `format`, `format_version`, `method`, `n`, `tile`, `scale` (c of G = Z Z'/c, NaN when unknown)
//! and `snps`. Tiles on the diagonal are symmetric. All ranks write their tiles into it at the same time.

pub mod gcta;
mod tiles;

pub use tiles::{read_tiles, write};

use crate::error::{Error, Result};
use crate::hdf::{self, Format};
use ndarray::Array2;
use std::path::Path;

/// The files of relationship matrices.
pub static FORMAT: Format = Format {
    name: "genialearn-grm",
    version: 3,
    what: "a relationship matrix",
    advice: "make it again with `genialearn grm`",
};

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
    let (header, place) = open(path)?;
    let g = place.read_whole(path, header.ids.len())?;
    Ok(Grm { header, g })
}

/// Reads what is known of the matrix at `path`.
pub fn header(path: &Path) -> Result<Header> {
    Ok(open(path)?.0)
}

/// Reads all but the numbers, and looks where those stand.
fn open(path: &Path) -> Result<(Header, tiles::Place)> {
    let reader = hdf::Reader::open(path, &FORMAT)?;
    let root = reader.root();
    let header = Header {
        ids: root.names("ids")?,
        method: root.text("method")?,
        scale: root.number("scale")?,
        snps: root.number("snps")?,
    };
    if root.number::<u64>("n")? != header.ids.len() as u64 {
        return Err(root.damaged("another number of names than told"));
    }
    if header.scale.is_infinite() || header.scale <= 0.0 {
        return Err(root.damaged(&format!("a scale of {}", header.scale)));
    }
    let place = tiles::Place::find(&reader, header.ids.len())?;
    Ok((header, place))
}

/// An error when a name is empty or stands twice.
fn unique(path: &Path, ids: &[String]) -> Result<()> {
    match hdf::first_twin(ids) {
        Some(twin) => {
            let found = if twin.is_empty() { "an empty name".into() } else { format!("{twin} twice") };
            Err(Error::input(path.display(), "each animal once", found, "rename one"))
        }
        None => Ok(()),
    }
}

fn damaged(path: &Path, found: &str) -> Error {
    Error::input(path.display(), FORMAT.what, format!("a damaged one ({found})"), FORMAT.advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::layout::Grid;
    use crate::comm::World;
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
        let middle = bytes.len() / 2; // in the bulk range: 512 kB of tiles behind some kB
        flipped[middle] ^= 1;
        std::fs::write(&path, flipped).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("damaged"), "one bit of the matrix");
        let e = read_tiles(&World::alone(), Grid::of(1), &path).err().unwrap();
        assert!(e.to_string().contains("damaged"), "{e}");
        let mut twins = example(4);
        twins.header.ids[2] = twins.header.ids[0].clone();
        write(&path, &twins, true).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("animal0 twice"));
        std::fs::write(&path, "\u{89}HDF\r\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("another kind of file"));
    }

    #[test]
    fn a_damaged_file_is_refused_wherever_it_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("g.h5");
        write(&path, &example(3), true).unwrap();
        crate::hdf::tests::damage(&path, read);
    }
}
