//! The mixed model with G over a grid of ranks: dense solvers for more animals than one rank can hold.
//!
//! One group of traits after the other is solved by all ranks together with ScaLAPACK. Estimates and
//! predictions agree with those of whole problems on one rank to 1e-8 of their size; their last bits depend on
//! the grid. Small problems are better dealt out whole, one to a rank ([`gblup::fit_groups`]), which gives the
//! same bits on any number of ranks.

use crate::comm;
use crate::comm::layout::Grid;
use crate::error::{Error, Result};
use crate::linalg::matrix::DistMatrix;
use crate::linalg::scalapack::Cholesky;
use crate::mixed::gblup::{self, Fit, Solver};
use crate::mixed::reml::{Given, GridSpectral};
use crate::mixed::{solve, Estimate, Group};
use ndarray::{concatenate, s, Array2, Axis};
use std::str::FromStr;

/// From this number of animals with records on, all ranks work on one group rather than each on its own.
const LARGE: usize = 8192;
/// Work of eigenvalues and eigenvectors on a grid over that of one rank's band form (benches/results/reml.md).
const EIGEN_WORK: usize = 4;
/// Distinct heritabilities of a group from which on one eigendecomposition is cheaper than their Cholesky factors.
const EIGEN_FROM: usize = 24;
/// Matrices of all animals that the eigenvalue solver holds at once: G, the scaled relationships, their
/// eigenvectors, and twice as much to work in.
const MATRICES: usize = 5;
/// The same for Cholesky factors: G and the factor.
const CHOLESKY_MATRICES: usize = 2;

/// Whether dense matrices lie over a grid of ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GridChoice {
    /// A grid where whole problems do not fit into a rank's memory, or are large and so few that it is faster.
    #[default]
    Auto,
    /// Whole problems on single ranks.
    Whole,
    /// This grid, of all ranks.
    Over(Grid),
}

impl FromStr for GridChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<GridChoice, String> {
        match text {
            "auto" => Ok(GridChoice::Auto),
            "none" => Ok(GridChoice::Whole),
            _ => text
                .parse()
                .map(GridChoice::Over)
                .map_err(|_| "expected auto, none, or rows x columns of ranks, such as 3x2".to_string()),
        }
    }
}

impl GridChoice {
    /// The grid of `ranks` to solve these groups on, nothing for whole problems on single ranks. For one rank to
    /// decide, because the others may have other memory free. `factors` tells that Cholesky factors do, without
    /// eigenvalues.
    pub fn choose(self, ranks: usize, groups: &[&Group], factors: bool) -> Result<Option<Grid>> {
        let largest = groups.iter().map(|g| g.animals().len()).max().unwrap_or(0);
        let work = if factors { 1 } else { EIGEN_WORK };
        let slower = largest <= LARGE || work * groups.len() >= ranks;
        let grid = match self {
            GridChoice::Whole => return Ok(None),
            GridChoice::Over(grid) => {
                grid.check(ranks)?;
                grid
            }
            GridChoice::Auto if slower && gblup::fits_whole(largest) => return Ok(None),
            GridChoice::Auto => Grid::of(ranks),
        };
        Ok((ranks > 1).then_some(grid))
    }
}

/// Whether the dense solvers for `n` animals fit into the memory that is free here, when this machine holds its
/// ranks' shares.
pub fn fits(n: usize, grid: Grid) -> bool {
    bytes_here(n, grid, MATRICES) <= 0.8 * gblup::available_bytes() as f64
}

/// An error where G of `n` animals and what `solver` makes of it do not fit into the free memory of this rank's
/// machine.
pub fn check_memory(n: usize, grid: Grid, solver: Solver) -> Result<()> {
    let matrices = if solver == Solver::Cholesky { CHOLESKY_MATRICES } else { MATRICES };
    let (needed, free) = (bytes_here(n, grid, matrices), gblup::available_bytes() as f64);
    if needed <= free {
        return Ok(());
    }
    Err(Error::failed(
        format!("dense matrices of {n} animals"),
        format!("{:.1} GB are needed on this machine, {:.1} GB are free", needed / 1e9, free / 1e9),
        "use more machines, or --solver pcg (reml: --method stochastic), which never forms them",
    ))
}

/// Bytes that the ranks of this machine hold of some matrices of n x n.
fn bytes_here(n: usize, grid: Grid, matrices: usize) -> f64 {
    let here = comm::ranks_here().min(grid.ranks());
    (8 * matrices) as f64 * (n as f64).powi(2) / grid.ranks() as f64 * here as f64
}

/// Fits groups one after the other with `g`, G of all n animals, both triangles. To be called by all ranks; every
/// rank receives every fit.
pub fn fit_groups(
    g: &DistMatrix,
    groups: &[&Group],
    given: Option<&[Vec<Given>]>,
    solver: Solver,
) -> Result<Vec<Fit>> {
    groups
        .iter()
        .enumerate()
        .map(|(k, group)| fit_group(g, group, given.map(|g| &g[k][..]), solver))
        .collect()
}

/// Variances of one group by REML unless given, then predictions for all n animals.
fn fit_group(g: &DistMatrix, group: &Group, given: Option<&[Given]>, solver: Solver) -> Result<Fit> {
    let (estimates, x) = match given {
        Some(given)
            if solver == Solver::Cholesky || (solver == Solver::Auto && levels(given) < EIGEN_FROM) =>
        {
            solve::by_h2(group, given, |y, h2| one_h2(g, group, y, h2))?
        }
        _ => eigen(g, group, given)?,
    };
    let all = gblup::spread(g.nrows(), group, &x);
    let gx = g.times(all.view());
    gblup::finish(group, estimates, all, gx)
}

/// Number of distinct heritabilities.
fn levels(given: &[Given]) -> usize {
    let mut h2: Vec<u64> = given.iter().map(|g| g.h2.to_bits()).collect();
    h2.sort_unstable();
    h2.dedup();
    h2.len()
}

/// Estimates and x = P y, (n_o, t), by one eigendecomposition.
fn eigen(g: &DistMatrix, group: &Group, given: Option<&[Given]>) -> Result<(Vec<Estimate>, Array2<f64>)> {
    let spectral = GridSpectral::new(relationships(g, group)?, group)?;
    let eta = spectral.rotate();
    let columns = eta.columns().into_iter();
    let estimates: Vec<Estimate> = match given {
        Some(given) => columns.zip(given).map(|(eta, &g)| spectral.given(eta, g)).collect(),
        None => group.unless_explained(columns.map(|eta| spectral.estimate(eta)).collect()),
    };
    let h2: Vec<f64> = estimates.iter().map(|e| e.h2).collect();
    let x = spectral.solve(&eta, &h2)?;
    Ok((estimates, x))
}

/// log|A| + log|X'A⁻¹X| and P y of the scaled records `y`, (n_o, t), for one h²: one factor, one solve for
/// records and fixed effects together.
fn one_h2(g: &DistMatrix, group: &Group, y: Array2<f64>, h2: f64) -> Result<(f64, Array2<f64>)> {
    let mut a = relationships(g, group)?;
    a.scale_and_shift(h2, 1.0 - h2);
    let a = Cholesky::new(a)?;
    let sides = concatenate(Axis(1), &[y.view(), group.basis()]).expect("n_o rows");
    let solved = a.solve(sides.view())?;
    let (x, aq) = (solved.slice(s![.., ..y.ncols()]), solved.slice(s![.., y.ncols()..]));
    solve::without_fixed(group, a.log_determinant(), x.to_owned(), aq)
}

/// W^½ G_OO W^½, (n_o, n_o), of the recorded animals.
fn relationships(g: &DistMatrix, group: &Group) -> Result<DistMatrix> {
    let mut out = g.select(group.animals())?;
    let root = |i: usize| group.noise(i).sqrt().recip();
    out.for_each_tile(|tile, mut values| {
        for ((i, k), x) in values.indexed_iter_mut() {
            *x *= root(tile.rows.start + i) * root(tile.columns.start + k);
        }
    });
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(n: usize) -> Group {
        Group::new((0..n).collect(), Array2::zeros((n, 1)), Array2::ones((n, 1)), None)
    }

    #[test]
    fn grids_are_for_few_large_groups_and_for_who_asks() {
        let (small, large) = (group(10), group(LARGE + 1));
        let auto =
            |ranks, groups: &[&Group], factors| GridChoice::Auto.choose(ranks, groups, factors).unwrap();
        assert_eq!(auto(4, &[&small], true), None);
        assert_eq!(auto(6, &[&large, &small], true), Some(Grid::new(2, 3)));
        assert_eq!(auto(6, &[&large, &small], false), None, "eigenvalues are cheaper on single ranks");
        assert_eq!(auto(6, &[&large], false), Some(Grid::new(2, 3)));
        assert_eq!(auto(2, &[&large, &small], true), None, "a group for each rank");
        assert_eq!(auto(1, &[&large], true), None);
        let asked: GridChoice = "3x2".parse().unwrap();
        assert_eq!(asked.choose(6, &[&small], false).unwrap(), Some(Grid::new(3, 2)));
        assert!(asked.choose(4, &[&small], false).is_err());
        assert_eq!("none".parse::<GridChoice>().unwrap().choose(6, &[&large], true).unwrap(), None);
        assert!("3".parse::<GridChoice>().is_err());
        assert!(fits(100, Grid::new(2, 2)) && !fits(10_000_000, Grid::new(2, 2)));
        assert!(check_memory(100, Grid::new(2, 2), Solver::Eigen).is_ok());
        let told = check_memory(10_000_000, Grid::new(2, 2), Solver::Cholesky).unwrap_err().to_string();
        assert!(told.contains("400000.0 GB are needed"), "{told}"); // one of four ranks, as far as is known
    }
}
