//! The fits of `gblup` and `reml` that hold G: whole on single ranks, or over a grid of all.

use super::records::{relationships, Relationships};
use super::Context;
use crate::comm::layout::Grid;
use crate::comm::World;
use crate::error::Result;
use crate::grm::{explicit, Markers};
use crate::mixed::gblup::{fit_groups, Fit, Solver};
use crate::mixed::grid::{self, GridChoice};
use crate::mixed::reml::Given;
use crate::mixed::Group;

/// The groups of traits to fit, and how.
pub struct Dense<'a> {
    /// Groups of traits.
    pub groups: &'a [&'a Group],
    /// Variances of all traits of all groups, where they are known.
    pub given: Option<&'a [Vec<Given>]>,
    /// The solver, as [`Solver::plan`] chose it.
    pub solver: Solver,
    /// The grid of ranks that holds G, or nothing.
    pub grid: Option<Grid>,
}

/// Decides on the root which solver fits, and on which grid.
pub fn plan(
    world: &World,
    (solver, choice): (Solver, GridChoice),
    size: (usize, Option<usize>),
    groups: &[&Group],
    known: bool,
) -> Result<(Solver, Option<Grid>)> {
    world.on_root(|| solver.plan(choice, world.size(), size, groups, known))
}

impl Dense<'_> {
    /// Brings G, which is read or formed from `markers`, to where it belongs, and fits all groups in the step `name`.
    pub fn fit(
        &self,
        context: &mut Context,
        name: &str,
        read: Option<&Relationships>,
        markers: Option<&Markers>,
    ) -> Result<Vec<Fit>> {
        let form = || markers.expect("G comes from a file or from genotypes");
        let Some(grid) = self.grid else {
            let g = match read {
                Some(read) => read.whole(context)?,
                None => relationships(context, form())?,
            };
            return context.phase(name, |world| fit_groups(world, g, self.groups, self.given, self.solver));
        };
        log::info!("dense matrices over {grid} ranks");
        let n = markers.map(Markers::n).or(self.groups.iter().map(|g| g.animals().len()).max()).unwrap_or(0);
        context.world.agree(grid::check_memory(n, grid, self.solver))?;
        let g = match read {
            Some(read) => read.distributed(context, grid)?,
            None => context.phase("relationships", |_| explicit::distributed(form(), grid))?,
        };
        context.phase(name, |_| grid::fit_groups(&g, self.groups, self.given, self.solver))
    }
}
