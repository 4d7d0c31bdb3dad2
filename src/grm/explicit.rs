//! G whole, in the memory of one rank: gathered from the tiles in which all ranks form it ([`super::summa`]).

use super::{summa, GenotypeMatrix, Method};
use crate::comm::layout::Grid;
use crate::comm::World;
use crate::error::Result;
use crate::linalg::matrix::DistMatrix;
use crate::memory;
use ndarray::Array2;

/// The full symmetric G (n, n) on rank 0, `None` elsewhere. To be called by all ranks.
pub fn grm(markers: &GenotypeMatrix) -> Result<Option<Array2<f64>>> {
    let (world, method) = (markers.world(), Method::Product(markers.scaling()));
    let (n, advice) = (markers.n(), "use --solver pcg, which never forms the matrix, or more memory");
    world.agree(memory::require(
        8.0 * (n as f64).powi(2),
        format!("relationships of {n} animals"),
        advice,
    ))?;
    Ok(summa::form(markers, method, Grid::of(world.size()))?.gather())
}

/// G over a grid of ranks, both triangles; no rank holds all of it. To be called by all ranks.
pub fn distributed(markers: &GenotypeMatrix, grid: Grid) -> Result<DistMatrix> {
    let method = Method::Product(markers.scaling());
    let mut g = summa::form(markers, method, grid)?.into_matrix()?;
    g.mirror();
    Ok(g)
}

/// The root's G (n, n) on every rank; elsewhere `g` is `None`. To be called by all ranks.
pub fn share(world: &World, g: Option<Array2<f64>>, n: usize) -> Array2<f64> {
    let mut g = g.unwrap_or_else(|| Array2::zeros((n, n))).as_standard_layout().into_owned();
    world.broadcast(0, g.as_slice_mut().expect("standard layout"));
    g
}
