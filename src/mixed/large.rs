//! Models of several random effects for many records: relationships are only multiplied by.
//!
//! What [`Model`](super::model::Model) does exactly with V in memory, by conjugate gradients
//! ([`MixedSystem`]): variances by [`monte_carlo`] REML, and the solutions of every effect, û_k = σ²_k K_k Z_k'V⁻¹(y − Xb̂ −
//! Fâ) (Henderson 1984).

use crate::error::Result;
use crate::linalg::precondition::LowRank;
use crate::linalg::{Operator, Rows};
use crate::mixed::model::{RandomEffect, Solutions};
use crate::mixed::multitrait::SolveReport;
use crate::mixed::reml::components::Components;
use crate::mixed::reml::monte_carlo;
use crate::mixed::solve::{self, monitored, CgSettings, Monitor};
use crate::mixed::system::{Columns, Effect, Incidence, MixedSystem};
use crate::mixed::Group;
use ndarray::{s, Array2};

/// Random effects of records and the relationships that they use.
pub struct LargeModel {
    relations: Vec<Box<dyn Operator>>,
    effects: Vec<RandomEffect>,
    rows: Rows,
    animal: Vec<usize>, // of each of all records
    animals: Rows,
}

impl LargeModel {
    /// A model of `effects` that use `relations`; `animal` is the animal of each of all records, (N), among those
    /// of `animals`.
    pub fn new(
        relations: Vec<Box<dyn Operator>>,
        effects: Vec<RandomEffect>,
        animal: Vec<usize>,
        animals: Rows,
    ) -> LargeModel {
        let rows = Rows::new(animals.world(), animal.len());
        LargeModel { relations, effects, rows, animal, animals }
    }

    /// The random effects.
    pub fn effects(&self) -> &[RandomEffect] {
        &self.effects
    }

    /// The effects as operators on the records.
    fn operators(&self) -> Vec<Effect<'_>> {
        let alone = self.animal.iter().copied().eq(0..self.animals.total());
        let of = |effect: &RandomEffect| {
            let relation = effect.relation.map(|r| &*self.relations[r]);
            match (relation, &effect.class) {
                (Some(relation), None) if alone => Effect::of_rows(relation),
                (Some(relation), None) => Effect::of_animals(&self.rows, relation, &self.animal),
                (None, Some(class)) => Effect::of_class(&self.rows, &class.level, class.levels.len()),
                (Some(relation), Some(class)) => {
                    let levels = (&class.level[..], class.levels.len());
                    Effect::within_class(&self.rows, (relation, &self.animal), levels)
                }
                (None, None) => unreachable!("an effect has relationships or a class"),
            }
        };
        self.effects.iter().map(of).collect()
    }

    /// Estimates the variances of every trait of every group. As [`monte_carlo::estimate`].
    ///
    /// # Errors
    /// Too few records for the fixed effects, and solutions that do not converge.
    pub fn estimate(&self, groups: &[&Group], params: monte_carlo::Params) -> Result<Vec<Vec<Components>>> {
        monte_carlo::estimate(&self.rows, groups, (&self.operators(), &self.effects), params)
    }

    /// Solves the mixed model equations of all traits of all groups with the variances of each trait of each group:
    /// those of the effects, then the residual's of a record of weight 1. `traits[k]` are the numbers of the traits of
    /// group k. Every rank receives all, without likelihoods, and how it went. Collective.
    ///
    /// # Errors
    /// Solutions that do not converge.
    pub fn solve(
        &self,
        (traits, groups): (&[Vec<usize>], &[&Group]),
        variances: &[Vec<Vec<f64>>],
        settings: &CgSettings,
        monitor: &mut dyn Monitor,
    ) -> Result<(Solutions, SolveReport)> {
        let (effects, order) = (self.operators(), traits.concat());
        let of: Vec<usize> = traits.iter().enumerate().flat_map(|(g, t)| vec![g; t.len()]).collect();
        let all: Vec<&[f64]> = variances.iter().flatten().map(|v| &v[..]).collect();
        let residual: Vec<f64> =
            all.iter().zip(&of).map(|(v, &g)| v[effects.len()] / groups[g].mean_weight()).collect();
        let shares = Array2::from_shape_fn((effects.len(), of.len()), |(k, c)| all[c][k]);
        let columns = Columns { of, shares, residual };
        let low_rank = solve::sketch_of_first(&effects, columns.of.len(), settings)?;
        let layout = (self.rows.clone(), groups);
        let system = MixedSystem::new(layout, &effects, columns.clone(), low_rank.as_ref())?;
        let b = system.projection().records_projected();
        let (x, info) = monitored(&system, b.view(), settings.params, monitor)?;
        solve::check(&info, settings.params.tolerance)?;
        let x = system.weighted(x.view());
        let scaled = |mut block: Array2<f64>, k: usize| {
            let factors: Vec<f64> = columns.shares.row(k).to_vec();
            Rows::for_each(&mut block, |_, row| row.iter_mut().zip(&factors).for_each(|(x, f)| *x *= f));
            block
        };
        // Σ σ²_k Z_k K_k Z_k'x of each record
        let mut random = Array2::<f64>::zeros(x.dim());
        for (k, effect) in effects.iter().enumerate() {
            random += &scaled(effect.times(x.view(), false), k);
        }
        let in_order = |block: Array2<f64>| {
            let mut out = Array2::zeros(block.dim());
            order.iter().enumerate().for_each(|(c, &t)| out.column_mut(t).assign(&block.column(c)));
            out
        };
        let solutions = |(k, effect): (usize, &Effect)| in_order(scaled(effect.solutions(x.view()), k));
        let random_solutions = effects.iter().enumerate().map(solutions).collect();
        let animal: Vec<Option<usize>> = self.animal.iter().copied().map(Some).collect();
        let z = Incidence::new(self.rows.clone(), self.animals.clone(), &animal);
        let py = self.animals.gather(z.transposed_times(x.view()).view()).into_owned();
        let (x, random) = (self.rows.gather(x.view()), self.rows.gather(random.view()));
        let levels = groups[0].absorbed().map_or(0, |f| f.levels.len());
        let mut out = Solutions {
            fixed: Array2::zeros((groups[0].effects(), order.len())),
            absorbed: Array2::zeros((levels, order.len())),
            random: random_solutions,
            py: in_order(py),
            log_likelihood: vec![f64::NAN; order.len()],
        };
        let mut c = 0;
        for (group, traits) in groups.iter().zip(traits) {
            for (t, &number) in traits.iter().enumerate() {
                let (x, random) = (x.slice(s![.., c]), random.slice(s![.., c]));
                // Wb + Fa = y − Σ Z u − σ²_e x / w
                let fitted = group.rows().iter().enumerate().map(|(i, &row)| {
                    group.y()[[i, t]] - random[row] - columns.residual[c] * group.inverse_weight(i) * x[row]
                });
                let fitted: ndarray::Array1<f64> = fitted.collect();
                let fixed = group.effects_of(fitted.view());
                out.absorbed
                    .column_mut(number)
                    .assign(&group.absorbed_effects_of(fitted.view(), fixed.view()));
                out.fixed.column_mut(number).assign(&fixed);
                c += 1;
            }
        }
        let factors = columns.of.len();
        let preconditioner_rank = low_rank.as_ref().map_or(0, LowRank::rank);
        Ok((out, SolveReport { factors, preconditioner_rank, info }))
    }
}
