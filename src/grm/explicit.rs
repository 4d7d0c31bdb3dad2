//! G itself, panel by panel of its lower triangle, with the same bits for any number of ranks and threads.
//!
//! VanRaden's method 1 is formed from integers (see [`Identity`]). Where many calls are missing, and for the other
//! flavours, the product of the coded genotypes is taken instead.

use super::identity::Identity;
use super::Markers;
use crate::comm::World;
use crate::error::{Error, Result};
use crate::packed::Packed;
use crate::progress::Progress;
use crate::stats::FixedPoint;
use ndarray::Array2;
use rayon::prelude::*;
use std::ops::Range;

/// From this share of missing calls on (one in so many) correcting for them costs more than the coded product.
const SPARSE: u64 = 64;
/// Entries in one panel at most: 256 MiB.
const PANEL: usize = 1 << 25;
/// Rows of a panel are a multiple of this.
const PANEL_STEP: usize = 128;

/// The full symmetric G (n, n) on rank 0, `None` elsewhere. To be called by all ranks.
pub fn grm(markers: &Markers) -> Result<Option<Array2<f64>>> {
    let (n, world) = (markers.n(), markers.world());
    world.agree(check_memory(n))?;
    let method = Method::choose(markers);
    let progress = Progress::new("relationships", n);
    let mut g = world.is_root().then(|| Array2::<f64>::zeros((n, n)));
    for rows in panels(n) {
        let mut sums = world.agree(method.panel(markers, rows.clone()))?;
        world.sum_i64_to(0, &mut sums);
        if let Some(g) = &mut g {
            let scaled = |s: i64| method.point().real(s) / markers.scale();
            for (i, sums) in rows.clone().zip(sums.chunks_exact(rows.end)) {
                g.row_mut(i).iter_mut().zip(sums).for_each(|(g, &s)| *g = scaled(s));
            }
        }
        progress.add(rows.len());
    }
    g.iter_mut().for_each(mirror);
    Ok(g)
}

/// How a panel of Z Z' is computed; the same on every rank.
enum Method<'a> {
    Integer(Identity<'a>),
    Coded(FixedPoint),
}

impl<'a> Method<'a> {
    fn choose(markers: &'a Markers) -> Method<'a> {
        let missing = missing_calls(markers.world(), markers.packed());
        let few = missing.saturating_mul(SPARSE) <= markers.n() as u64 * markers.m() as u64;
        if few && markers.is_integer() {
            return Method::Integer(Identity::new(markers));
        }
        // Σ_j |z_ij z_kj| is at most the largest diagonal element (Cauchy and Schwarz); the margin covers the
        // rounding of the diagonal itself.
        let largest = markers.diagonal().into_iter().fold(0.0, f64::max);
        Method::Coded(FixedPoint::for_bound(largest * markers.scale() * 1.001))
    }

    fn point(&self) -> FixedPoint {
        match self {
            Method::Integer(identity) => identity.point(),
            Method::Coded(point) => *point,
        }
    }

    /// This rank's part of Z Z' for the animals `rows` with all up to the last of them, in quanta.
    fn panel(&self, markers: &Markers, rows: Range<usize>) -> Result<Vec<i64>> {
        let others = 0..rows.end;
        let mut out = vec![0; rows.len() * others.len()];
        match self {
            Method::Integer(identity) => identity.add_tile(rows, others, &mut out)?,
            Method::Coded(point) => {
                let backend = markers.backend();
                let mut sums = backend.sums(out.len())?;
                backend.cross(markers.held(), rows, others, *point, &mut sums)?;
                backend.download_sums(&sums, &mut out)?;
            }
        }
        Ok(out)
    }
}

/// Missing calls on all ranks together.
fn missing_calls(world: &World, packed: &Packed) -> u64 {
    let here: u64 = (0..packed.rows()).into_par_iter().map(|i| packed.tally_row(i)[3]).sum();
    let mut sum = [i64::try_from(here).expect("fewer than 2^63 calls")];
    world.sum_i64(&mut sum);
    u64::try_from(sum[0]).expect("a count")
}

/// The rows 0..n in panels whose size depends on n alone: about a quarter of n, so that little above the
/// diagonal is computed in vain, and no more than memory likes.
fn panels(n: usize) -> impl Iterator<Item = Range<usize>> {
    let most = (PANEL / n.max(1)).next_multiple_of(PANEL_STEP);
    let rows = n.div_ceil(4).next_multiple_of(PANEL_STEP).min(most).max(1);
    (0..n).step_by(rows).map(move |start| start..(start + rows).min(n))
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

/// An error when G and its panels do not fit into this machine's free memory.
fn check_memory(n: usize) -> Result<()> {
    let needed = 8.0 * (n as f64).powi(2) + 40.0 * PANEL.min(n * n) as f64;
    match free_memory() {
        Some(free) if needed > free as f64 => Err(Error::failed(
            "relationship matrix",
            format!(
                "{n} animals need {:.1} GB of memory, {:.1} GB are free",
                needed / 1e9,
                free as f64 / 1e9
            ),
            "use --solver pcg, which never forms the matrix, or a machine with more memory",
        )),
        _ => Ok(()),
    }
}

/// Bytes of memory that could be used, where the system tells.
pub fn free_memory() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kilobytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// The root's G (n, n) on every rank; elsewhere `g` is `None`. To be called by all ranks.
pub fn share(world: &World, g: Option<Array2<f64>>, n: usize) -> Array2<f64> {
    let mut g = g.unwrap_or_else(|| Array2::zeros((n, n))).as_standard_layout().into_owned();
    world.broadcast(0, g.as_slice_mut().expect("standard layout"));
    g
}
