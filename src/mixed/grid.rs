//! The mixed model with G over a grid of ranks: dense solvers for more animals than one rank can hold.
//!
//! One group of traits after the other is solved by all ranks together with ScaLAPACK. Estimates and
//! predictions agree with those of whole problems on one rank to 1e-8 of their size; their last bits depend on
//! the grid. Small problems are better dealt out whole, one to a rank ([`gblup::fit_groups`]), which gives the
//! same bits on any number of ranks.

use crate::error::Result;
use crate::linalg::matrix::DistMatrix;
use crate::linalg::scalapack::Cholesky;
use crate::mixed::gblup::{self, Fit, Solver};
use crate::mixed::reml::{Given, GridSpectral};
use crate::mixed::{solve, Estimate, Group};
use ndarray::{concatenate, s, Array2, Axis};

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
        Some(given) if solver == Solver::Cholesky => {
            solve::by_h2(group, given, |y, h2| one_h2(g, group, y, h2))?
        }
        _ => eigen(g, group, given)?,
    };
    let all = gblup::spread(g.nrows(), group, &x);
    let gx = g.times(all.view());
    gblup::finish(group, estimates, all, gx)
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
    let root = |i: usize| group.inverse_weight(i).sqrt().recip();
    out.for_each_tile(|tile, mut values| {
        for ((i, k), x) in values.indexed_iter_mut() {
            *x *= root(tile.rows.start + i) * root(tile.columns.start + k);
        }
    });
    Ok(out)
}
