//! The tiles of a matrix's file, written and read by all ranks at the same time.
//!
//! HDF5 lays out the file and tells where the tiles stand in it; then every rank writes its own there, without HDF5.

use super::{damaged, open, Header, FORMAT};
use crate::comm::layout::Grid;
use crate::comm::World;
use crate::error::{Error, Result};
use crate::grm::tiles::{deal, Tiles};
use crate::hdf::{self, fletcher32, Unsealed};
use ndarray::{s, Array2, ArrayView2};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Where the tiles and their checksums stand in a file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Place {
    edge: usize,
    tiles: u64,
    checksums: u64,
}

/// Writes the matrix to `path`; `header` counts on the root only. To be called by all ranks, which all must see the
/// folder. When one of them fails, nothing is left.
pub fn write(path: &Path, header: &Header, tiles: &Tiles, force: bool) -> Result<()> {
    let world = tiles.world();
    let mut unsealed = None;
    let (place, temporary) = world.on_root(|| {
        let (place, file) = lay_out(path, header, tiles.deal().rows().block(), force)?;
        let temporary = file.path().to_owned();
        unsealed = Some(file);
        Ok((place, temporary))
    })?;
    if tiles.n() == 0 {
        return world.agree(unsealed.map_or(Ok(()), |file| file.seal(0..0)));
    }
    let mut checksums = vec![0i64; count(tiles.n(), place.edge)];
    let written = place.write(&temporary, tiles, &mut checksums);
    world.agree(written.map_err(|e| Error::writing(path, &e)))?;
    // Each tile has one owner, and the others add nothing.
    world.sum_i64_to(0, &mut checksums);
    let done = unsealed.map_or(Ok(()), |file| {
        place.write_checksums(file.path(), &checksums).map_err(|e| Error::writing(path, &e))?;
        file.seal(place.bulk(tiles.n()))
    });
    world.agree(done)
}

/// Makes the file with all but the numbers; where those belong. Tiles begin on whole pages of memory, so that ranks on
/// different machines never write into the same page of a network's file system.
fn lay_out(path: &Path, header: &Header, edge: usize, force: bool) -> Result<(Place, Unsealed)> {
    let n = header.ids.len();
    let file = hdf::Writer::create(path, force, &FORMAT)?;
    let root = file.root();
    root.text("method", &header.method)?;
    for (name, value) in [("n", n as u64), ("tile", edge as u64), ("snps", header.snps)] {
        root.number(name, value)?;
    }
    root.number("scale", header.scale)?;
    root.texts("ids", &header.ids)?;
    let tiles = root.reserve::<f64>("tiles", &[count(n, edge), edge, edge])?;
    let checksums = root.reserve::<u32>("checksums", &[count(n, edge)])?;
    let place = Place { edge, tiles: tiles.unwrap_or(0), checksums: checksums.unwrap_or(0) };
    Ok((place, file.close()?))
}

/// This rank's tiles of the matrix at `path` in a grid of ranks, and what is known of it on every rank. To be called
/// by all ranks, which all must see the file.
pub fn read_tiles(world: &World, grid: Grid, path: &Path) -> Result<(Header, Tiles)> {
    grid.check(world.size())?;
    let (header, place) = world.on_root(|| open(path))?;
    let mut tiles = Tiles::zeros(world, deal(header.ids.len(), place.edge, grid));
    world.agree(place.read(path, &mut tiles))?;
    Ok((header, tiles))
}

impl Place {
    /// Looks where the tiles of `n` animals stand.
    pub(super) fn find(reader: &hdf::Reader, n: usize) -> Result<Place> {
        let root = reader.root();
        let edge = usize::try_from(root.number::<u64>("tile")?).unwrap_or(0);
        if edge == 0 {
            return Err(root.damaged("tiles of no size"));
        }
        let (shape, bulk) = (root.shape("tiles")?, reader.bulk());
        if shape != [count(n, edge), edge, edge] || root.shape("checksums")? != [count(n, edge)] {
            return Err(root.damaged(&format!("{n} names for tiles of shape {shape:?}")));
        }
        if n == 0 {
            return Ok(Place { edge, tiles: 0, checksums: 0 });
        }
        match (root.offset("tiles")?, root.offset("checksums")?) {
            (Some(tiles), Some(checksums)) => {
                let place = Place { edge, tiles, checksums };
                let inside = checksums <= reader.length() && place.bulk(n) == bulk;
                inside.then_some(place).ok_or_else(|| root.damaged("tiles in another place than told"))
            }
            _ => Err(root.damaged("tiles that were never written")),
        }
    }

    /// The bytes of the file that the tiles of `n` animals fill.
    fn bulk(&self, n: usize) -> std::ops::Range<u64> {
        self.tiles..self.offset(count(n, self.edge))
    }

    /// Writes this rank's tiles, and puts their checksums in their places.
    fn write(&self, path: &Path, tiles: &Tiles, checksums: &mut [i64]) -> std::io::Result<()> {
        let file = File::options().write(true).open(path)?;
        let mut bytes = Vec::new();
        for tile in tiles.tiles() {
            let number = self.number(tile.rows.start, tile.columns.start);
            self.encode(tile.values, &mut bytes);
            file.write_all_at(&bytes, self.offset(number))?;
            checksums[number] = i64::from(fletcher32(&bytes));
        }
        file.sync_all()
    }

    fn write_checksums(&self, path: &Path, checksums: &[i64]) -> std::io::Result<()> {
        let file = File::options().write(true).open(path)?;
        let low = |&c: &i64| u32::try_from(c).expect("32 bits").to_ne_bytes();
        let bytes: Vec<u8> = checksums.iter().flat_map(low).collect();
        file.write_all_at(&bytes, self.checksums)?;
        file.sync_all()
    }

    /// Reads this rank's tiles.
    fn read(&self, path: &Path, tiles: &mut Tiles) -> Result<()> {
        let file = File::open(path).map_err(|e| Error::reading(path, &e))?;
        let mut bytes = vec![0; 8 * self.edge * self.edge];
        let mut outcome = Ok(());
        tiles.for_each(|rows, columns, mut values| {
            if outcome.is_err() {
                return;
            }
            outcome = self.fetch(path, &file, self.number(rows.start, columns.start), &mut bytes);
            let reals = bytes.chunks_exact(8).map(|b| f64::from_ne_bytes(b.try_into().expect("eight bytes")));
            let found = Array2::from_shape_vec((self.edge, self.edge), reals.collect()).expect("a tile");
            if outcome.is_ok() && !found.iter().all(|g| g.is_finite()) {
                outcome = Err(damaged(path, "relationships that are no numbers"));
            }
            values.assign(&found.slice(s![..rows.len(), ..columns.len()]));
        });
        outcome
    }

    /// Reads the whole symmetric matrix (n, n).
    pub(super) fn read_whole(&self, path: &Path, n: usize) -> Result<Array2<f64>> {
        let mut tiles = Tiles::zeros(&World::alone(), deal(n, self.edge, Grid::of(1)));
        if n > 0 {
            self.read(path, &mut tiles)?;
        }
        Ok(tiles.gather().expect("alone is the root"))
    }

    /// Reads the bytes of one tile and checks them.
    fn fetch(&self, path: &Path, file: &File, number: usize, bytes: &mut [u8]) -> Result<()> {
        file.read_exact_at(bytes, self.offset(number)).map_err(|e| Error::reading(path, &e))?;
        let mut sum = [0; 4];
        let at = self.checksums + 4 * number as u64;
        file.read_exact_at(&mut sum, at).map_err(|e| Error::reading(path, &e))?;
        if fletcher32(bytes) == u32::from_ne_bytes(sum) {
            return Ok(());
        }
        Err(damaged(path, &format!("tile {number} has another checksum")))
    }

    /// The number of the tile that begins at a row and a column of the whole matrix.
    fn number(&self, row: usize, column: usize) -> usize {
        let (i, k) = (row / self.edge, column / self.edge);
        i * (i + 1) / 2 + k
    }

    fn offset(&self, number: usize) -> u64 {
        self.tiles + (8 * self.edge * self.edge * number) as u64
    }

    /// The bytes of a tile, row by row, with zeros where a short one ends.
    fn encode(&self, values: ArrayView2<f64>, bytes: &mut Vec<u8>) {
        bytes.clear();
        bytes.resize(8 * self.edge * self.edge, 0);
        for (row, bytes) in values.rows().into_iter().zip(bytes.chunks_exact_mut(8 * self.edge)) {
            for (x, bytes) in row.iter().zip(bytes.chunks_exact_mut(8)) {
                bytes.copy_from_slice(&x.to_ne_bytes());
            }
        }
    }
}

/// Tiles on and below the diagonal.
fn count(n: usize, edge: usize) -> usize {
    let blocks = n.div_ceil(edge);
    blocks * (blocks + 1) / 2
}
