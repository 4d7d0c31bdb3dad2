//! The fits of `gblup` and `reml` that hold G: whole on single ranks, or over a grid of all.

use super::records::{relationships, Relationships};
use super::Context;
use crate::error::Result;
use crate::grm::{explicit, GenotypeMatrix};
use crate::mixed::gblup::{fit_groups, Fit};
use crate::mixed::grid;
use crate::mixed::plan::Dense;
use crate::mixed::reml::Given;
use crate::mixed::Group;

/// The groups of traits to fit, and how.
pub struct DenseFits<'a> {
    /// Groups of traits.
    pub groups: &'a [&'a Group],
    /// Variances of all traits of all groups, where they are known.
    pub given: Option<&'a [Vec<Given>]>,
    /// The solver, and where G is.
    pub plan: Dense,
}

impl DenseFits<'_> {
    /// Brings G, which is read or formed from `markers`, to where it belongs, and fits all groups in the step `name`.
    pub fn fit(
        &self,
        context: &mut Context,
        name: &str,
        read: Option<&Relationships>,
        markers: Option<&GenotypeMatrix>,
    ) -> Result<Vec<Fit>> {
        let form = || markers.expect("G comes from a file or from genotypes");
        let Some(grid) = self.plan.grid else {
            let g = match read {
                Some(read) => read.whole(context)?,
                None => relationships(context, form())?,
            };
            return context.phase(name, |world| fit_groups(world, g, self.groups, self.given, &self.plan));
        };
        let g = match read {
            Some(read) => read.distributed(context, grid)?,
            None => context.phase("relationships", |_| explicit::distributed(form(), grid))?,
        };
        context.phase(name, |_| grid::fit_groups(&g, self.groups, self.given, self.plan.solver))
    }
}
