//! G itself, panel by panel of its lower triangle, with the same bits for any number of ranks and threads.
//!
//! VanRaden's method 1 needs integers only. With allele counts x (0 where missing), P_j = 2p_j and
//! o_ij = 1 where the call was made,
//!
//! (M M')_ik = Σ_j x_ij x_kj − Σ_j P_j (x_ij o_kj + o_ij x_kj) + Σ_j P_j² o_ij o_kj
//!           = A_ik − (a_i + s_i) − (a_k + s_k) + b + C_ik,
//!
//! a_i = Σ_j P_j x_ij, b = Σ_j P_j², s_i = Σ P_j² over the missing calls of i, and C_ik gathers what either's
//! missing calls take away twice: Σ P_j x_ij over those of k, Σ P_j x_kj over those of i, Σ P_j² over those of
//! both. P_j and P_j² are rounded once to whole quanta; all the rest is exact. Where many calls are missing,
//! and for the other flavours, the product of the coded genotypes is taken instead.

use super::Markers;
use crate::comm::World;
use crate::error::{Error, Result};
use crate::packed;
use crate::packed::{Packed, MISSING};
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
enum Method {
    Integer(Identity),
    Coded(FixedPoint),
}

impl Method {
    fn choose(markers: &Markers) -> Method {
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
            Method::Integer(identity) => identity.point,
            Method::Coded(point) => *point,
        }
    }

    /// This rank's part of Z Z' for the animals `rows` with all up to the last of them, in quanta.
    fn panel(&self, markers: &Markers, rows: Range<usize>) -> Result<Vec<i64>> {
        let (backend, others) = (markers.backend(), 0..rows.end);
        let mut out = vec![0; rows.len() * others.len()];
        let mut sums = backend.sums(out.len())?;
        match self {
            Method::Integer(identity) => {
                backend.counts(markers.held(), rows.clone(), others, &mut sums)?;
                backend.download_sums(&sums, &mut out)?;
                identity.finish(markers.packed(), rows, &mut out);
            }
            Method::Coded(point) => {
                backend.cross(markers.held(), rows, others, *point, &mut sums)?;
                backend.download_sums(&sums, &mut out)?;
            }
        }
        Ok(out)
    }
}

/// What the integer identity needs beside A, for this rank's SNPs, in whole quanta.
struct Identity {
    point: FixedPoint,
    /// a_i + s_i.
    of_animal: Vec<i64>,
    /// b.
    constant: i64,
    /// What SNP j adds to C_ik where i's call is missing, by k's code: 0, P_j, 2P_j, P_j².
    of_missing: Vec<[i64; 4]>,
    /// Each animal's SNPs without a call.
    missing: Vec<Vec<u32>>,
}

impl Identity {
    fn new(markers: &Markers) -> Identity {
        // A, a_i + s_i, a_k + s_k, b and C are each at most 4m.
        let point = FixedPoint::for_bound(32.0 * markers.m() as f64);
        let of_missing: Vec<[i64; 4]> = markers
            .frequencies()
            .iter()
            .map(|&p| {
                let twice = if p.is_nan() { 0.0 } else { 2.0 * p };
                let linear = point.quantize(twice);
                [0, linear, 2 * linear, point.quantize(twice * twice)]
            })
            .collect();
        let packed = markers.packed();
        let sum = |i: usize| -> i64 {
            let codes = packed.row(i);
            of_missing.iter().enumerate().map(|(j, t)| t[usize::from(packed::code(codes, j))]).sum()
        };
        Identity {
            point,
            of_animal: (0..packed.rows()).into_par_iter().map(sum).collect(),
            constant: of_missing.iter().map(|t| t[usize::from(MISSING)]).sum(),
            missing: (0..packed.rows()).into_par_iter().map(|i| missing_of(packed, i)).collect(),
            of_missing,
        }
    }

    /// Turns A into M M', in quanta, for the animals `rows` with all up to the last of them.
    fn finish(&self, packed: &Packed, rows: Range<usize>, sums: &mut [i64]) {
        let unit = self.point.quantize(1.0);
        let others = 0..rows.end;
        let of_rows = self.corrections(packed, others.clone(), rows.clone(), true); // (others, rows)
        let of_others = self.corrections(packed, rows.clone(), others.clone(), false); // (rows, others)
        let count = rows.len();
        let first = rows.start;
        sums.par_chunks_exact_mut(others.len().max(1)).zip(rows).for_each(|(sums, i)| {
            let of_others = &of_others[(i - first) * others.len()..];
            for (k, (sum, of_k)) in sums.iter_mut().zip(of_others).enumerate() {
                *sum = *sum * unit - self.of_animal[i] - self.of_animal[k] + self.constant;
                *sum += of_k + of_rows[k * count + i - first];
            }
        });
    }

    /// What the missing calls of each of `to` add to its C with each of `from`, (from, to): Σ_j P_j x_ij over
    /// them, and with `both` Σ_j P_j² over those that are missing in `from` too.
    fn corrections(&self, packed: &Packed, from: Range<usize>, to: Range<usize>, both: bool) -> Vec<i64> {
        let mut out = vec![0; from.len() * to.len()];
        let fill = |values: &mut Vec<i64>, (out, i): (&mut [i64], usize)| {
            // This animal's terms at all SNPs, looked up many times.
            let codes = packed.row(i);
            for (j, (value, of)) in values.iter_mut().zip(&self.of_missing).enumerate() {
                let code = packed::code(codes, j);
                *value = if both || code != MISSING { of[usize::from(code)] } else { 0 };
            }
            for (out, missing) in out.iter_mut().zip(&self.missing[to.clone()]) {
                *out = missing.iter().map(|&j| values[j as usize]).sum();
            }
        };
        out.par_chunks_exact_mut(to.len().max(1))
            .zip(from)
            .for_each_init(|| vec![0i64; self.of_missing.len()], fill);
        out
    }
}

/// The SNPs at which animal `i` has no call.
fn missing_of(packed: &Packed, i: usize) -> Vec<u32> {
    let codes = packed.row(i);
    let snps = u32::try_from(packed.columns()).expect("a rank owns fewer than 2^32 SNPs");
    (0..snps).filter(|&j| packed::code(codes, j as usize) == MISSING).collect()
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
