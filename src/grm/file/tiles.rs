//! The tiles of a matrix's file, written and read by all ranks at the same time.
//!
//! HDF5 lays out the file and tells where the tiles stand in it; then every rank writes its own there, without HDF5.

use super::{not_a_grm, open, Header, Numbers, FORMAT, FORMAT_VERSION};
use crate::comm::layout::Grid;
use crate::comm::World;
use crate::error::{Error, Result};
use crate::genotype::store::{fletcher32, write_text_attr, write_texts};
use crate::grm::tiles::{deal, Tiles, EDGE};
use crate::output::Draft;
use hdf5::plist::dataset_create::{AllocTime, FillTime};
use ndarray::{s, Array2, ArrayView2};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of a page of memory: tiles begin on whole pages, so that ranks on different machines never write into the
/// same page of a network's file system.
const PAGE: u64 = 4096;

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
    let mut draft = None;
    let (place, temporary) = world.on_root(|| {
        let new = Draft::new(path, force)?;
        let place = lay_out(new.path(), header, tiles.deal().rows().block()).map_err(|e| {
            let problem = format!("cannot be written ({})", super::first_line(&e));
            let advice = "free some disk space or choose another --out; nothing was left behind";
            Error::failed(path.display(), problem, advice)
        })?;
        let temporary = new.path().to_owned();
        draft = Some(new);
        Ok((place, temporary))
    })?;
    let Some(place) = place else { return draft.map_or(Ok(()), Draft::commit) };
    let mut checksums = vec![0i64; count(tiles.n(), place.edge)];
    let written = place.write(&temporary, tiles, &mut checksums);
    world.agree(written.map_err(|e| Error::writing(path, &e)))?;
    // Each tile has one owner, and the others add nothing.
    world.sum_i64_to(0, &mut checksums);
    let done = draft.map_or(Ok(()), |draft| {
        place.write_checksums(draft.path(), &checksums).map_err(|e| Error::writing(path, &e))?;
        draft.commit()
    });
    world.agree(done)
}

/// Makes the file with all but the numbers; where those belong, unless there are none.
fn lay_out(path: &Path, header: &Header, edge: usize) -> hdf5::Result<Option<Place>> {
    let n = header.ids.len();
    let file = hdf5::File::with_options().with_fapl(|p| p.alignment(PAGE, PAGE)).create(path)?;
    write_text_attr(&file, "format", FORMAT)?;
    write_text_attr(&file, "created_by", concat!("genialearn ", env!("CARGO_PKG_VERSION")))?;
    write_text_attr(&file, "method", &header.method)?;
    let whole = [("format_version", FORMAT_VERSION), ("n", n as u64), ("tile", edge as u64)];
    for (name, value) in whole.into_iter().chain([("snps", header.snps)]) {
        file.new_attr::<u64>().create(name)?.write_scalar(&value)?;
    }
    file.new_attr::<f64>().create("scale")?.write_scalar(&header.scale)?;
    write_texts(&file, "ids", &header.ids)?;
    if n == 0 {
        return Ok(None);
    }
    let tiles = file.new_dataset::<f64>().alloc_time(Some(AllocTime::Early)).fill_time(FillTime::Never);
    let tiles = tiles.shape((count(n, edge), edge, edge)).create("tiles")?;
    let checksums = file.new_dataset::<u32>().alloc_time(Some(AllocTime::Early)).fill_time(FillTime::Never);
    let checksums = checksums.shape(count(n, edge)).create("checksums")?;
    let place = tiles.offset().zip(checksums.offset());
    debug_assert!(n < EDGE || place.is_none_or(|(tiles, _)| tiles.is_multiple_of(PAGE)));
    let (tiles, checksums) = place.ok_or_else(|| hdf5::Error::from("HDF5 gave no place to the tiles"))?;
    file.flush()?;
    Ok(Some(Place { edge, tiles, checksums }))
}

/// This rank's tiles of the matrix at `path` in a grid of ranks, and what is known of it on every rank. To be called
/// by all ranks, which all must see the file.
pub fn read_tiles(world: &World, grid: Grid, path: &Path) -> Result<(Header, Tiles)> {
    grid.check(world.size())?;
    let (header, edge) = world.on_root(|| {
        let (header, numbers) = open(path)?;
        Ok(match numbers {
            Numbers::Whole(_) => (header, EDGE),
            Numbers::Tiles(place) => (header, place.edge),
        })
    })?;
    let read = || {
        let (_, numbers) = open(path)?;
        let mut tiles = Tiles::zeros(world, deal(header.ids.len(), edge, grid));
        match numbers {
            Numbers::Whole(dataset) => read_slices(path, &dataset, &mut tiles)?,
            Numbers::Tiles(place) => place.read(path, &mut tiles)?,
        }
        Ok(tiles)
    };
    Ok((header.clone(), world.agree(read())?))
}

/// This rank's tiles of a file of version 1.
fn read_slices(path: &Path, dataset: &hdf5::Dataset, tiles: &mut Tiles) -> Result<()> {
    let mut outcome = Ok(());
    tiles.for_each(|rows, columns, mut values| {
        if outcome.is_ok() {
            outcome = dataset.read_slice_2d(s![rows, columns]).map(|found| values.assign(&found));
        }
    });
    outcome.map_err(|e| not_a_grm(path, &format!("a damaged one ({})", super::first_line(&e))))
}

impl Place {
    /// Looks where the tiles of `n` animals stand.
    pub(super) fn find(file: &hdf5::File, path: &Path, n: usize) -> Result<Place> {
        let damaged = |e: hdf5::Error| not_a_grm(path, &format!("a damaged one ({})", super::first_line(&e)));
        let edge: u64 = file.attr("tile").and_then(|a| a.read_scalar()).map_err(damaged)?;
        let edge = usize::try_from(edge).unwrap_or(0);
        if n == 0 || edge == 0 {
            return match n {
                0 => Ok(Place { edge: 1, tiles: 0, checksums: 0 }),
                _ => Err(not_a_grm(path, "one in tiles of no size")),
            };
        }
        let tiles = file.dataset("tiles").map_err(damaged)?;
        let checksums = file.dataset("checksums").map_err(damaged)?;
        let whole = tiles.shape() == [count(n, edge), edge, edge] && checksums.shape() == [count(n, edge)];
        match tiles.offset().zip(checksums.offset()) {
            Some((tiles, checksums)) if whole => Ok(Place { edge, tiles, checksums }),
            _ => Err(not_a_grm(path, &format!("{n} names for tiles of shape {:?}", tiles.shape()))),
        }
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
        Err(not_a_grm(path, &format!("a damaged one (tile {number} has another checksum)")))
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
