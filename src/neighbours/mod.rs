//! Nearest animals on packed genotypes, in whole numbers.
//!
//! Between two animals x and y the Manhattan distance is Σ |x − y| and the squared Euclidean one Σ (x − y)², over
//! the SNPs that are called in both: a call missing on either side adds nothing. Both are integers, so that every
//! way to compute them, and any number of threads and ranks, gives the same. Neighbours at the same distance stand
//! in the order of their index.
//!
//! Distances come from bit planes (`planes`), or, squared and without missing calls, from the product of allele
//! counts that also makes relationships: |x|² + |y|² − 2 x'y. They are formed tile by tile and never kept.

pub mod manifold;
mod nearest;
mod planes;

pub use nearest::Neighbours;

use crate::comm::layout;
use crate::comm::World;
use crate::device::{counts_by, kernel_names, Part};
use crate::error::Result;
use crate::packed::Packed;
use nearest::Best;
use planes::Planes;
use rayon::prelude::*;
use std::ops::Range;

/// Queries of one tile. References are packed anew for each tile of a column, so tiles are tall.
const TALL: usize = 8192;
/// References of one tile.
const WIDE: usize = 2048;

/// How far apart two animals are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Σ |x − y|.
    Manhattan,
    /// Σ (x − y)²: the order of the Euclidean distance, without its square root.
    SquaredEuclidean,
}

/// Distances from queries to references.
pub struct Distances<'a> {
    queries: &'a Packed,
    references: Option<&'a Packed>,
    way: Way,
}

/// What the distances are formed from.
enum Way {
    /// Bit planes of the queries and, unless these are the same, of the references.
    Planes { two: u32, queries: Planes, references: Option<Planes> },
    /// |x|² + |y|² − 2 x'y: all animals, the queries first, and the squared length of each.
    Products { joined: Option<Packed>, squares: Vec<i32> },
}

/// Distances of some queries (rows) to some references (columns).
pub struct Tile<'a> {
    /// The queries.
    pub queries: Range<usize>,
    /// The references.
    pub references: Range<usize>,
    /// The distances, (queries, references).
    pub distances: &'a [u32],
}

impl<'a> Distances<'a> {
    /// From each of `queries` to each of `references`, which have the same SNPs.
    pub fn between(metric: Metric, queries: &'a Packed, references: &'a Packed) -> Self {
        assert_eq!(queries.columns(), references.columns(), "the same SNPs");
        Self::new(metric, queries, Some(references))
    }

    /// Among animals; none is its own neighbour.
    pub fn within(metric: Metric, animals: &'a Packed) -> Self {
        Self::new(metric, animals, None)
    }

    fn new(metric: Metric, queries: &'a Packed, references: Option<&'a Packed>) -> Self {
        let whole = complete(queries) && references.is_none_or(complete);
        let way = match metric {
            Metric::SquaredEuclidean if whole => products(queries, references),
            Metric::SquaredEuclidean => by_planes(4, queries, references),
            Metric::Manhattan => by_planes(2, queries, references),
        };
        Distances { queries, references, way }
    }

    /// Number of queries.
    pub fn queries(&self) -> usize {
        self.queries.rows()
    }

    /// Number of references.
    pub fn references(&self) -> usize {
        self.references.unwrap_or(self.queries).rows()
    }

    /// How many neighbours a query has at most.
    pub fn candidates(&self) -> usize {
        self.references() - usize::from(self.references.is_none() && self.references() > 0)
    }

    /// Gives all distances of the queries `rows`, tile by tile: all references of some queries before the next
    /// queries.
    pub fn visit(&self, rows: Range<usize>, mut look: impl FnMut(&Tile)) -> Result<()> {
        // Memory once touched is used again: new pages cost more than the arithmetic.
        let (mut distances, mut products) = (Vec::new(), Vec::new());
        for top in rows.clone().step_by(TALL) {
            let queries = top..(top + TALL).min(rows.end);
            for left in (0..self.references()).step_by(WIDE) {
                let references = left..(left + WIDE).min(self.references());
                distances.resize(queries.len() * references.len(), 0);
                self.fill(queries.clone(), references.clone(), &mut distances, &mut products)?;
                look(&Tile { queries: queries.clone(), references, distances: &distances });
            }
        }
        Ok(())
    }

    /// The distances of one tile; `products` is memory to work in.
    fn fill(
        &self,
        queries: Range<usize>,
        references: Range<usize>,
        out: &mut [u32],
        products: &mut Vec<i32>,
    ) -> Result<()> {
        let (joined, squares) = match &self.way {
            Way::Planes { two, queries: q, references: r } => {
                planes::tile(*two, (q, queries), (r.as_ref().unwrap_or(q), references), out);
                return Ok(());
            }
            Way::Products { joined, squares } => (joined, squares),
        };
        let first = if joined.is_some() { self.queries.rows() } else { 0 };
        let columns = first + references.start..first + references.end;
        products.resize(out.len(), 0);
        let all = joined.as_ref().unwrap_or(self.queries);
        counts_by(kernel_names()[0], all, queries.clone(), columns.clone(), Part::Whole, products)?;
        let width = columns.len().max(1);
        let rows = out.par_chunks_mut(width).zip(products.par_chunks(width)).zip(&squares[queries]);
        rows.for_each(|((out, products), x)| {
            for ((out, product), y) in out.iter_mut().zip(products).zip(&squares[columns.clone()]) {
                *out = (x + y - 2 * product) as u32;
            }
        });
        Ok(())
    }

    /// The `k` nearest references of each of the queries `rows`, or all where there are fewer.
    pub fn nearest(&self, rows: Range<usize>, k: usize) -> Result<Neighbours> {
        let k = k.min(self.candidates());
        let within = self.references.is_none();
        let mut best = vec![Best::new(k); rows.len()];
        self.visit(rows.clone(), |tile| {
            let here = &mut best[tile.queries.start - rows.start..tile.queries.end - rows.start];
            let lines = tile.distances.par_chunks(tile.references.len());
            here.par_iter_mut().zip(lines).enumerate().for_each(|(i, (best, line))| {
                let own = within.then_some(tile.queries.start + i);
                best.offer(line, tile.references.start, own);
            });
        })?;
        Ok(Neighbours::new(k, best.into_par_iter().flat_map_iter(Best::into_sorted).collect()))
    }

    /// The `k` nearest references of every query, on every rank; the queries are dealt over the ranks. To be called
    /// by all ranks, each with all animals.
    pub fn all_nearest(&self, world: &World, k: usize) -> Result<Neighbours> {
        let rows = layout::share(self.queries(), world.rank(), world.size());
        let own = world.agree(self.nearest(rows.clone(), k))?;
        Ok(own.gathered(world, self.queries(), rows))
    }
}

/// Whether no call is missing.
fn complete(packed: &Packed) -> bool {
    (0..packed.rows()).into_par_iter().all(|i| packed.tally_row(i)[3] == 0)
}

fn by_planes(two: u32, queries: &Packed, references: Option<&Packed>) -> Way {
    let masked = !(complete(queries) && references.is_none_or(complete));
    Way::Planes {
        two,
        queries: Planes::new(queries, masked),
        references: references.map(|r| Planes::new(r, masked)),
    }
}

fn products(queries: &Packed, references: Option<&Packed>) -> Way {
    let joined = references.map(|references| {
        let bytes = [queries.bytes(), references.bytes()].concat();
        Packed::from_bytes(queries.rows() + references.rows(), queries.columns(), bytes)
    });
    let all = joined.as_ref().unwrap_or(queries);
    let square = |i| {
        let tally = all.tally_row(i);
        i32::try_from(tally[1] + 4 * tally[2]).expect("fewer than 2^29 SNPs")
    };
    let squares = (0..all.rows()).into_par_iter().map(square).collect();
    Way::Products { joined, squares }
}

#[cfg(test)]
mod tests;
