//! The tiles of a matrix of relationships from packed genotypes that lie in blocks of SNPs on the ranks (SUMMA,
//! van de Geijn & Watts 1997).
//!
//! For each block of SNPs in turn its owner gives the packed calls of the animals of each row of the grid to that
//! row, those of each column to that column, and every rank adds the block's products to its own tiles. The next
//! block travels meanwhile. Nothing of size n² travels; a rank receives n·m/4 bytes / Pr and / Pc in all. The sums
//! are exact integers or whole quanta of chunks, so the bits do not depend on blocks, grid or ranks.
//!
//! Memory of a rank beside its own genotypes: 8 bytes for each element of its panels (see [`super::tiles`]; the
//! sums turn into reals in place), two blocks of at most `BLOCK` SNPs of its animals, 2·(n/Pr + n/Pc)·BLOCK/4
//! bytes, and about five times 8 bytes for each element of one panel while it is added to (at most 1.3 GB).

use super::identity::{Block, Identity};
use super::missing::Rectangle;
use super::tiles::{self, Panel, Tiles, EDGE};
use super::{GenotypeMatrix, Method};
use crate::comm;
use crate::comm::layout::{BlockCyclic, Cyclic, Grid};
use crate::comm::World;
use crate::device::Backend;
use crate::device::Coding;
use crate::device::Genotypes;
use crate::device::Part;
use crate::error::Result;
use crate::memory;
use crate::packed::{Packed, PER_BYTE};
use crate::progress::Progress;
use crate::stats::FixedPoint;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// SNPs that travel at once: whole chunks.
const BLOCK: usize = 1 << 14;
/// From this share of missing calls on (one in so many) correcting for them costs more than the coded product.
const SPARSE: u64 = 64;

/// The matrix of relationships by `method`, in tiles of [`EDGE`] over `grid`. `markers` must be of the method's
/// scaling. To be called by all ranks.
pub fn form(markers: &GenotypeMatrix, method: Method, grid: Grid) -> Result<Tiles> {
    form_in(markers, method, tiles::deal(markers.n(), EDGE, grid))
}

/// As [`form`] in tiles of another size.
pub(super) fn form_in(markers: &GenotypeMatrix, method: Method, deal: BlockCyclic) -> Result<Tiles> {
    assert_eq!(markers.scaling(), method.scaling(), "the genotypes' scaling");
    let world = markers.world();
    deal.grid().check(world.size())?;
    world.agree(check_memory(deal, world.rank()))?;
    let kernel = Kernel::choose(markers);
    let (point, scale) = (kernel.point, markers.scale());
    let sums = sum(markers, &kernel, deal)?;
    // Same size, same memory.
    let real = |values: Vec<i64>| values.into_iter().map(|s| point.real(s) / scale).collect();
    let mut tiles = Tiles::new(world, deal, sums.into_iter().map(real).collect());
    tiles.mirror();
    match method {
        Method::Product(_) => {}
        Method::Yang => tiles.set_diagonal(&markers.yang_diagonal()),
        Method::Epistasis => {
            let squares = tiles.diagonal().iter().map(|d| d * d).sum::<f64>();
            let mean = squares / deal.rows().length() as f64;
            tiles.map(|g| g * g / mean);
        }
    }
    Ok(tiles)
}

/// How the products of animals are computed; the same on every rank.
struct Kernel<'a> {
    backend: &'a dyn Backend,
    integer: bool,
    point: FixedPoint,
    /// SNPs on all ranks.
    m: usize,
    /// Of all SNPs, NaN where no call was made.
    frequencies: Vec<f64>,
    /// Of all SNPs.
    coding: Vec<Coding>,
}

impl<'a> Kernel<'a> {
    fn choose(markers: &'a GenotypeMatrix) -> Kernel<'a> {
        let (world, m) = (markers.world(), markers.m());
        let missing = missing_calls(world, markers.packed());
        let few = missing.saturating_mul(SPARSE) <= markers.n() as u64 * m as u64;
        let integer = few && markers.is_integer();
        let point = if integer {
            Identity::point_of(m)
        } else {
            // Σ_j |z_ij z_kj| is at most the largest diagonal element (Cauchy and Schwarz); the margin covers
            // the rounding of the diagonal itself.
            let largest = markers.diagonal().into_iter().fold(0.0, f64::max);
            FixedPoint::for_bound(largest * markers.scale() * 1.001)
        };
        // Ranks own their SNPs in order, as `GenotypeMatrix` demands.
        let frequencies = world.all_gather(&markers.frequencies().to_vec()).concat();
        let coding = frequencies.iter().map(|&p| markers.scaling().coding(p)).collect();
        Kernel { backend: markers.backend(), integer, point, m, frequencies, coding }
    }

    /// Takes the calls of a block of SNPs.
    fn hold(&self, packed: Arc<Packed>, snps: Range<usize>) -> Result<(Arc<Packed>, Genotypes)> {
        let held = self.backend.hold(&packed, &self.coding[snps])?;
        Ok((packed, held))
    }

    /// Adds the products of the block `snps` to all sums of this rank. Local row i is row `i` of the packed calls,
    /// local column k is row `first + k`.
    fn add(
        &self,
        (packed, held): (&Packed, &Genotypes),
        snps: Range<usize>,
        first: usize,
        (shapes, sums): (&[Panel], &mut [Vec<i64>]),
        progress: &Progress,
    ) -> Result<()> {
        let block = Block { backend: self.backend, held, packed };
        let frequencies = &self.frequencies[snps.clone()];
        let identity = self.integer.then(|| Identity::of(block, frequencies, self.m));
        // Rows and columns are the same animals on a single rank only.
        let part = if first == 0 { Part::Lower } else { Part::Whole };
        for (panel, sums) in shapes.iter().zip(&mut *sums) {
            let (rows, columns) = (panel.rows.clone(), first..first + panel.width);
            match &identity {
                Some(identity) => identity.add_tile(rows, columns, part, sums)?,
                None => {
                    let mut products = self.backend.sums(sums.len())?;
                    self.backend.cross(held, rows, columns, self.point, &mut products)?;
                    let found = self.backend.download_sums(products)?;
                    sums.par_iter_mut().zip(&found).for_each(|(s, x)| *s += x);
                }
            }
            progress.add(sums.len() / 1024 * snps.len());
        }
        if let Some(identity) = identity {
            let rectangle = |(panel, sums): (&Panel, _)| {
                let (rows, columns) = (panel.rows.clone(), first..first + panel.width);
                Rectangle { rows, columns, sums }
            };
            let sums = sums.iter_mut().map(Vec::as_mut_slice);
            identity.add_missing(part, &mut shapes.iter().zip(sums).map(rectangle).collect::<Vec<_>>());
        }
        Ok(())
    }
}

/// All sums of this rank's panels, in quanta.
fn sum(markers: &GenotypeMatrix, kernel: &Kernel, deal: BlockCyclic) -> Result<Vec<Vec<i64>>> {
    let world = markers.world();
    let shapes = tiles::panels(deal, world.rank());
    let mut sums: Vec<Vec<i64>> = shapes.iter().map(|p| memory::zeroed(p.rows.len() * p.width)).collect();
    let total: usize = sums.iter().map(|s| s.len() / 1024 * markers.m()).sum();
    let progress = Progress::new("relationships", total);
    if world.size() == 1 {
        let own = (markers.packed(), markers.held());
        kernel.add(own, markers.snps(), 0, (&shapes, &mut sums), &progress)?;
        return Ok(sums);
    }
    let source = PanelSource::new(markers, deal);
    let steps = source.steps();
    let rows = source.rows();
    let broadcast_panel =
        |step: &Step| kernel.hold(Arc::new(source.broadcast_panel(step)), step.snps.clone());
    let mut next = steps.first().map(broadcast_panel);
    let mut outcome = Ok(());
    for (number, step) in steps.iter().enumerate() {
        let here = next.take().expect("one block for each step");
        let sums = (&shapes[..], &mut sums[..]);
        let progress = &progress;
        (outcome, next) = std::thread::scope(|scope| {
            let work = scope.spawn(move || {
                // Also after an error: the others wait for what this rank passes on.
                outcome?;
                let (packed, held) = here?;
                kernel.add((&packed, &held), step.snps.clone(), rows, sums, progress)
            });
            let next = steps.get(number + 1).map(broadcast_panel);
            (work.join().expect("a panic ends the whole job"), next)
        });
    }
    world.agree(outcome)?;
    Ok(sums)
}

/// One block of SNPs and the rank that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    owner: usize,
    snps: Range<usize>,
}

/// How packed calls get from their owners to all ranks that need them.
struct PanelSource<'a> {
    packed: &'a Packed,
    deal: BlockCyclic,
    /// Row and column in the grid.
    place: (usize, usize),
    /// The ranks of this row of the grid, in the order of the columns; and the other way round.
    row: World,
    column: World,
    /// Each rank's SNPs.
    shares: Vec<Range<usize>>,
}

impl<'a> PanelSource<'a> {
    fn new(markers: &'a GenotypeMatrix, deal: BlockCyclic) -> PanelSource<'a> {
        let world = markers.world();
        let place = deal.grid().place(world.rank());
        let (row, column) = (world.split(place.0, place.1), world.split(place.1, place.0));
        let shares = world.all_gather(&markers.snps());
        PanelSource { packed: markers.packed(), deal, place, row, column, shares }
    }

    /// Animals of this rank's rows.
    fn rows(&self) -> usize {
        self.deal.rows().numroc(self.place.0)
    }

    /// All blocks; the owners take turns, so that the work of sending is shared.
    fn steps(&self) -> Vec<Step> {
        let blocks = |owner: usize| {
            let share = self.shares[owner].clone();
            share.clone().step_by(BLOCK).map(move |start| start..(start + BLOCK).min(share.end))
        };
        let mut steps: Vec<(usize, Step)> = (0..self.shares.len())
            .flat_map(|owner| blocks(owner).enumerate().map(move |(turn, snps)| (turn, Step { owner, snps })))
            .collect();
        steps.sort_by_key(|(turn, step)| (*turn, step.owner));
        steps.into_iter().map(|(_, step)| step).collect()
    }

    /// The calls of the animals of this rank's rows, then of its columns, for one block of SNPs. Called by all
    /// ranks for the same step.
    ///
    /// The owner gives each row's animals to the rank of that row in its own column, and each column's animals to
    /// the rank of that column in its own row; those pass them on along their rows and columns.
    fn broadcast_panel(&self, step: &Step) -> Packed {
        let (owner_row, owner_column) = self.deal.grid().place(step.owner);
        let stride = step.snps.len().div_ceil(PER_BYTE);
        let columns = self.deal.columns().numroc(self.place.1);
        let mut bytes = vec![0u8; (self.rows() + columns) * stride];
        let (of_rows, of_columns) = bytes.split_at_mut(self.rows() * stride);
        if self.place.1 == owner_column {
            self.scatter_panel(&self.column, owner_row, step, self.deal.rows(), of_rows);
        }
        if self.place.0 == owner_row {
            self.scatter_panel(&self.row, owner_column, step, self.deal.columns(), of_columns);
        }
        self.row.broadcast_quietly(owner_column, of_rows);
        self.column.broadcast_quietly(owner_row, of_columns);
        Packed::from_bytes(self.rows() + columns, step.snps.len(), bytes)
    }

    /// The rank `owner` of `line` gives every rank of it the calls of that rank's part of the animals.
    fn scatter_panel(&self, line: &World, owner: usize, step: &Step, animals: Cyclic, to: &mut [u8]) {
        if line.rank() != owner {
            return line.receive_quietly(owner, to);
        }
        for part in (0..line.size()).filter(|&part| part != owner) {
            line.send_quietly(part, &self.calls(step, animals, part));
        }
        to.copy_from_slice(&self.calls(step, animals, owner));
    }

    /// The packed calls of one part of the animals; for the owner of the block.
    fn calls(&self, step: &Step, animals: Cyclic, part: usize) -> Vec<u8> {
        let first = step.snps.start - self.shares[step.owner].start;
        let bytes = first / PER_BYTE..(first + step.snps.len()).div_ceil(PER_BYTE);
        let mut out = Vec::with_capacity(animals.numroc(part) * bytes.len());
        for i in animals.runs(part).flat_map(|run| run.global) {
            out.extend_from_slice(&self.packed.row(i)[bytes.clone()]);
        }
        out
    }
}

/// Missing calls on all ranks together.
fn missing_calls(world: &World, packed: &Packed) -> u64 {
    let here: u64 = (0..packed.rows()).into_par_iter().map(|i| packed.tally_row(i)[3]).sum();
    let mut sum = [i64::try_from(here).expect("fewer than 2^63 calls")];
    world.sum_i64(&mut sum);
    u64::try_from(sum[0]).expect("a count")
}

/// An error when the tiles of the ranks on this machine, and what forming them takes, do not fit into its free
/// memory.
fn check_memory(deal: BlockCyclic, rank: usize) -> Result<()> {
    let elements: Vec<usize> = tiles::panels(deal, rank).iter().map(|p| p.rows.len() * p.width).collect();
    let largest = elements.iter().copied().max().unwrap_or(0);
    let needed = 8.0 * (elements.iter().sum::<usize>() + 5 * largest) as f64 * comm::ranks_here() as f64;
    let what = format!("relationships of {} animals", deal.rows().length());
    memory::require(needed, what, "use more machines, or --solver pcg, which never forms the matrix")
}
