//! A matrix of relationships in tiles over a grid of ranks, of which only the lower triangle is kept.
//!
//! Tiles are dealt out as a block-cyclic matrix is ([`BlockCyclic`]); each rank keeps those of its own on and below the
//! diagonal. Memory: 8 bytes an element, so about 4n²/(Pr·Pc) bytes on each of Pr × Pc ranks, and up to an eighth
//! more, because tiles are kept in panels that end at a common column.

use crate::comm::layout::{BlockCyclic, BlockRange, GlobalIndex, Grid};
use crate::comm::World;
use crate::error::Result;
use crate::linalg::matrix::DistMatrix;
use ndarray::{s, Array2, ArrayView2, ArrayViewMut2};
use rayon::prelude::*;
use std::ops::Range;

/// Rows and columns of a tile. The coded product is rounded in tiles of this many animals, so it must not depend
/// on the number of ranks.
pub const EDGE: usize = 256;
/// Panels of a rank.
const PANELS: usize = 16;
/// Elements of a panel at most, as long as it has more than one row of tiles.
const MOST: usize = 1 << 25;

/// Consecutive local rows of tiles of one rank, with all local columns up to the diagonal of the last of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Panel {
    /// Rows among the rank's own.
    pub rows: Range<usize>,
    /// Columns 0.. among the rank's own.
    pub width: usize,
}

/// One tile on or below the diagonal.
#[derive(Debug, Clone, PartialEq)]
pub struct Tile<'a> {
    /// Rows in the whole matrix.
    pub rows: Range<usize>,
    /// Columns in the whole matrix.
    pub columns: Range<usize>,
    /// The elements, (rows, columns). A tile on the diagonal is symmetric.
    pub values: ArrayView2<'a, f64>,
}

/// n animals in tiles of `edge`, or one of n where they are fewer, over a grid of ranks.
pub fn deal(n: usize, edge: usize, grid: Grid) -> BlockCyclic {
    let edge = edge.min(n).max(1);
    BlockCyclic::new(grid, (n, n), (edge, edge))
}

/// The panels of a rank, from the top.
pub(super) fn panels(deal: BlockCyclic, rank: usize) -> Vec<Panel> {
    let (row, column) = deal.grid().place(rank);
    let (own, columns) = deal.shape_of(rank);
    let edge = deal.rows().block();
    let even = own.div_ceil(PANELS).next_multiple_of(edge);
    let narrow = (MOST / columns.max(1) / edge).max(1) * edge;
    let height = even.min(narrow);
    let runs: Vec<BlockRange> = deal.rows().runs(row).collect();
    let blocks = (height / edge).max(1);
    runs.chunks(blocks)
        .map(|runs| {
            let (first, last) = (&runs[0], &runs[runs.len() - 1]);
            // local columns up to the tile on the diagonal of the last row of tiles
            let left = deal.columns().runs(column).take_while(|c| c.global.start <= last.global.start);
            let width = left.last().map_or(0, |c| c.local.end);
            Panel { rows: first.local.start..last.local.end, width }
        })
        .collect()
}

/// The rows of tiles of a panel with the columns of tiles on and below the diagonal.
fn tiles_of(
    deal: BlockCyclic,
    rank: usize,
    panel: &Panel,
) -> impl Iterator<Item = (BlockRange, BlockRange)> + use<> {
    let (row, column) = deal.grid().place(rank);
    let (columns, inside) = (deal.columns().runs(column), panel.rows.clone());
    let rows = deal.rows().runs(row).filter(move |r| inside.contains(&r.local.start));
    rows.flat_map(move |r| {
        let columns = columns.clone().take_while({
            let start = r.global.start;
            move |c| c.global.start <= start
        });
        columns.map(move |c| (r.clone(), c))
    })
}

/// The lower triangle of a symmetric matrix in tiles over the ranks.
pub struct Tiles {
    world: World,
    deal: BlockCyclic,
    panels: Vec<(Panel, Vec<f64>)>, // (rows, width) each
}

impl Tiles {
    /// Takes this rank's panels.
    pub(super) fn new(world: &World, deal: BlockCyclic, values: Vec<Vec<f64>>) -> Tiles {
        let panels = panels(deal, world.rank());
        assert!(panels.iter().map(|p| p.rows.len() * p.width).eq(values.iter().map(Vec::len)), "panels");
        Tiles { world: world.clone(), deal, panels: panels.into_iter().zip(values).collect() }
    }

    /// Zeros.
    pub fn zeros(world: &World, deal: BlockCyclic) -> Tiles {
        let panels = panels(deal, world.rank());
        Self::new(world, deal, panels.iter().map(|p| vec![0.0; p.rows.len() * p.width]).collect())
    }

    /// Number of animals.
    pub fn n(&self) -> usize {
        self.deal.rows().length()
    }

    /// Which tiles each rank has.
    pub fn deal(&self) -> BlockCyclic {
        self.deal
    }

    /// The ranks that share it.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// This rank's tiles on and below the diagonal, from the top, from the left.
    pub fn tiles(&self) -> impl Iterator<Item = Tile<'_>> {
        self.panels.iter().flat_map(|(panel, values)| {
            let view = panel.view(values);
            tiles_of(self.deal, self.world.rank(), panel).map(move |(r, c)| Tile {
                values: view.slice_move(panel.slice(&r, &c)),
                rows: r.global,
                columns: c.global,
            })
        })
    }

    /// Changes every tile of this rank: rows and columns in the whole matrix, elements.
    pub fn for_each(&mut self, mut change: impl FnMut(Range<usize>, Range<usize>, ArrayViewMut2<'_, f64>)) {
        let (deal, rank) = (self.deal, self.world.rank());
        for (panel, values) in &mut self.panels {
            let mut view = panel.view_mut(values);
            for (r, c) in tiles_of(deal, rank, panel) {
                change(r.global.clone(), c.global.clone(), view.slice_mut(panel.slice(&r, &c)));
            }
        }
    }

    /// Replaces every element.
    pub(super) fn map(&mut self, change: impl Fn(f64) -> f64 + Sync) {
        let all = self.panels.iter_mut().flat_map(|(_, values)| values.chunks_mut(1 << 16));
        all.par_bridge().for_each(|values| values.iter_mut().for_each(|x| *x = change(*x)));
    }

    /// The diagonal on every rank. To be called by all ranks.
    pub fn diagonal(&self) -> Vec<f64> {
        let mut bits = vec![0i64; self.n()];
        for tile in self.tiles().filter(|t| t.rows.start == t.columns.start) {
            for (bits, x) in bits[tile.rows].iter_mut().zip(tile.values.diag()) {
                *bits = x.to_bits().cast_signed();
            }
        }
        // Only the owner of an element adds anything to its bits.
        self.world.sum_i64(&mut bits);
        bits.into_iter().map(|b| f64::from_bits(b.cast_unsigned())).collect()
    }

    /// Replaces the diagonal.
    pub(super) fn set_diagonal(&mut self, diagonal: &[f64]) {
        self.for_each(|rows, columns, mut values| {
            if rows.start == columns.start {
                values.diag_mut().iter_mut().zip(&diagonal[rows]).for_each(|(x, d)| *x = *d);
            }
        });
    }

    /// Makes the tiles on the diagonal symmetric after their lower triangles.
    pub(super) fn mirror(&mut self) {
        self.for_each(|rows, columns, mut values| {
            for i in 0..if rows.start == columns.start { rows.len() } else { 0 } {
                for k in 0..i {
                    values[[k, i]] = values[[i, k]];
                }
            }
        });
    }

    /// Rows of tiles.
    pub fn stripes(&self) -> usize {
        self.n().div_ceil(self.deal.rows().block())
    }

    /// One row of tiles up to the diagonal on the root, (rows, columns up to the last of the rows), `None`
    /// elsewhere. To be called by all ranks.
    pub fn stripe(&self, block: usize) -> Option<Array2<f64>> {
        let start = block * self.deal.rows().block();
        let (rank, rows) = (self.world.rank(), start..(start + self.deal.rows().block()).min(self.n()));
        let above = self.deal.rows().owner(GlobalIndex(start));
        let first = self.deal.rows().local(GlobalIndex(start)).0;
        let holds = |panel: &Panel| panel.rows.contains(&first);
        let mine = self.panels.iter().find(|(p, _)| self.deal.grid().place(rank).0 == above && holds(p));
        let mine =
            mine.map(|(p, values)| &values[(first - p.rows.start) * p.width..][..rows.len() * p.width]);
        if !self.world.is_root() {
            if let Some(values) = mine {
                self.world.send(0, values);
            }
            return None;
        }
        let mut out = Array2::zeros((rows.len(), rows.end));
        for from in (0..self.deal.grid().columns()).map(|c| self.deal.grid().rank(above, c)) {
            let panel = panels(self.deal, from).into_iter().find(holds).expect("the row's owner has it");
            let received = (from != 0).then(|| self.world.receive::<f64>(from));
            let values = received.as_deref().or(mine).expect("the root's own");
            let view = ArrayView2::from_shape((rows.len(), panel.width), values).expect("whole rows");
            for (r, c) in tiles_of(self.deal, from, &panel).filter(|(r, _)| r.local.start == first) {
                out.slice_mut(s![..r.global.len(), c.global]).assign(&view.slice(s![.., c.local]));
            }
        }
        Some(out)
    }

    /// The full symmetric matrix (n, n) on the root, `None` elsewhere. To be called by all ranks.
    pub fn gather(self) -> Option<Array2<f64>> {
        let Tiles { world, deal, panels } = self;
        if !world.is_root() {
            panels.into_iter().for_each(|(_, values)| world.send(0, &values));
            return None;
        }
        let mut g = Array2::zeros((deal.rows().length(), deal.rows().length()));
        for (panel, values) in panels {
            place(deal, 0, &panel, &values, &mut g);
        }
        for rank in 1..world.size() {
            for panel in self::panels(deal, rank) {
                place(deal, rank, &panel, &world.receive(rank), &mut g);
            }
        }
        mirror(&mut g);
        Some(g)
    }

    /// The lower triangle as a distributed matrix, with zeros above the diagonal tiles. To be called by all ranks.
    pub fn into_matrix(self) -> Result<DistMatrix> {
        let Tiles { world, deal, panels } = self;
        let n = deal.rows().length();
        let mut matrix = world.agree(DistMatrix::zeros(&world, deal.grid(), (n, n), deal.rows().block()))?;
        let mut local = matrix.local_view_mut();
        for (panel, values) in panels {
            let view = panel.view(&values);
            for (r, c) in tiles_of(deal, world.rank(), &panel) {
                let from = view.slice(panel.slice(&r, &c));
                local.slice_mut(s![r.local, c.local]).assign(&from);
            }
        }
        Ok(matrix)
    }
}

impl Panel {
    fn view<'a>(&self, values: &'a [f64]) -> ArrayView2<'a, f64> {
        ArrayView2::from_shape((self.rows.len(), self.width), values).expect("the panel's shape")
    }

    fn view_mut<'a>(&self, values: &'a mut [f64]) -> ArrayViewMut2<'a, f64> {
        ArrayViewMut2::from_shape((self.rows.len(), self.width), values).expect("the panel's shape")
    }

    /// Where a tile stands in the panel.
    fn slice(
        &self,
        rows: &BlockRange,
        columns: &BlockRange,
    ) -> ndarray::SliceInfo<[ndarray::SliceInfoElem; 2], ndarray::Ix2, ndarray::Ix2> {
        let first = self.rows.start;
        s![rows.local.start - first..rows.local.end - first, columns.local.clone()]
    }
}

/// Puts a panel of a rank where it belongs.
fn place(deal: BlockCyclic, rank: usize, panel: &Panel, values: &[f64], g: &mut Array2<f64>) {
    let view = panel.view(values);
    for (r, c) in tiles_of(deal, rank, panel) {
        let from = view.slice(panel.slice(&r, &c));
        g.slice_mut(s![r.global, c.global]).assign(&from);
    }
}

/// Copies the lower triangle to the upper one, in blocks that fit the cache.
fn mirror(g: &mut Array2<f64>) {
    const BLOCK: usize = 64;
    let n = g.nrows();
    for rows in (0..n).step_by(BLOCK) {
        for columns in (0..=rows).step_by(BLOCK) {
            for i in rows..(rows + BLOCK).min(n) {
                for k in columns..(columns + BLOCK).min(i) {
                    g[[k, i]] = g[[i, k]];
                }
            }
        }
    }
}
