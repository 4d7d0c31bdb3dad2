//! REML of any number of variances for many records, by products with the relationships alone.
//!
//! In records scaled by the roots of their weights, beside the fixed effects, V = Σ_k σ²_k K_k + σ²_e I, and the average
//! information algorithm (Gilmour, Thompson & Cullis 1995) needs
//!
//! d log L / d σ²_k = ½ (y'P K_k P y − tr P K_k), AI_kl = ½ f_k'P f_l, f_k = K_k P y.
//!
//! P times vectors comes from conjugate gradients; tr P K_k is the mean of z'P K_k z over random signs z (García-Cortés et
//! al. 1992; Matilainen, Mäntysaari, Lidauer, Strandén & Thompson 2013). The same signs serve every round, so that the
//! iteration has one limit; how far it is from that of endless signs is told as a Monte-Carlo standard error, AI⁻¹ C AI⁻¹
//! with C the covariances of the scores over the signs. There is no likelihood, so no test of a component.

use super::average::Optimum;
use super::components::{none, proportions, summed, Components};
use super::Outcome;
use crate::error::{Error, Result};
use crate::linalg::factor::Cholesky;
use crate::linalg::pcg::{self, Precision};
use crate::linalg::precondition::LowRank;
use crate::linalg::trace::signs;
use crate::linalg::Rows;
use crate::mixed::model::RandomEffect;
use crate::mixed::solve::{monitored, sketch_of_first, CgSettings, Unmonitored};
use crate::mixed::system::{batches, Columns, Effect, MixedSystem, Projection};
use crate::mixed::Group;
use crate::progress;
use ndarray::{s, Array1, Array2, Axis};

/// Converged when a step is shorter than this share of the standard errors.
const SETTLED: f64 = 0.01;
/// Variances below this share of the records' are tried at 0.
const FLOOR: f64 = 1e-4;
/// Eigenvalues that differ by less than this share of their size are the same up to the rounding of quick products.
const SAME: f64 = 1e-4;
/// Residuals of the solutions that are accepted.
const ACCEPTED: f64 = 1e-3;

/// How much work to spend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Params {
    /// Random signs of each trait.
    pub probes: usize,
    /// Rounds at most.
    pub rounds: usize,
    /// Largest relative residual of the solutions.
    pub tolerance: f64,
    /// Seed of the signs and of the preconditioner.
    pub seed: u64,
}

impl Default for Params {
    fn default() -> Self {
        Params { probes: 24, rounds: 40, tolerance: 1e-6, seed: 1 }
    }
}

/// The variances of every trait of every group, whose records are among `rows`; `named` are the effects' names and
/// kinds. Collective; every rank receives all.
///
/// # Errors
/// Too few records for the fixed effects, and solutions that do not converge.
pub fn estimate(
    rows: &Rows,
    groups: &[&Group],
    (effects, named): (&[Effect], &[RandomEffect]),
    params: Params,
) -> Result<Vec<Vec<Components>>> {
    groups.iter().try_for_each(|g| g.check_degrees_of_freedom())?;
    let tasks: Vec<(usize, usize)> =
        groups.iter().enumerate().flat_map(|(k, g)| (0..g.traits()).map(move |t| (k, t))).collect();
    let each = 2 + params.probes + effects.len();
    let settings = CgSettings { seed: params.seed, ..CgSettings::from(pcg::Params::default()) };
    let low_rank = sketch_of_first(effects, each, &settings)?;
    let mut found = Vec::new();
    for some in batches(&vec![each; tasks.len()]) {
        let search = Search::new(rows, groups, (effects, named), &tasks[some], low_rank.as_ref(), params);
        found.extend(search.run()?);
    }
    let mut out: Vec<Vec<Components>> = vec![Vec::new(); groups.len()];
    tasks.iter().zip(found).for_each(|(&(k, _), found)| out[k].push(found));
    Ok(out)
}

/// The search for some traits' variances.
struct Search<'a> {
    rows: &'a Rows,
    groups: &'a [&'a Group],
    effects: &'a [Effect<'a>],
    named: &'a [RandomEffect],
    low_rank: Option<&'a LowRank>,
    params: Params,
    projection: Projection<'a>,
    traits: Vec<OfTrait>,
    y: Array2<f64>, // records beside the fixed effects, of variance 1, (N_r, traits)
    probes: Vec<Option<Probes>>, // of each group that is needed
}

/// Random signs beside the fixed effects of a group, and their products with every effect.
struct Probes {
    z: Array2<f64>,             // (N_r, S)
    squares: Vec<f64>,          // z'z, (S)
    products: Vec<Array2<f64>>, // K_k z, (N_r, S) each
    sizes: Vec<f64>,            // mean eigenvalue of each K_k, about
    spreads: Vec<f64>,          // standard deviation of the eigenvalues of each K_k, about
}

/// Where one trait's search is. Variances are shares of the records'.
struct OfTrait {
    group: usize,
    scale: f64, // variance of the records beside the fixed effects
    variances: Vec<f64>,
    floors: Vec<f64>, // variances below are tried at 0
    fixed: Vec<bool>, // variances that ended at 0
    errors: Array2<f64>,
    monte_carlo: Array2<f64>,
    outcome: Option<Outcome>,
    rounds: usize,
}

impl<'a> Search<'a> {
    fn new(
        rows: &'a Rows,
        groups: &'a [&'a Group],
        (effects, named): (&'a [Effect<'a>], &'a [RandomEffect]),
        tasks: &[(usize, usize)],
        low_rank: Option<&'a LowRank>,
        params: Params,
    ) -> Search<'a> {
        let projection = Projection::new(rows.clone(), groups);
        let all = projection.records_projected();
        let squares = rows.dots(all.view(), all.view());
        let first: Vec<usize> = groups
            .iter()
            .scan(0, |next, g| {
                *next += g.traits();
                Some(*next - g.traits())
            })
            .collect();
        let columns: Vec<usize> = tasks.iter().map(|&(g, t)| first[g] + t).collect();
        let scale = |&(g, t): &(usize, usize)| squares[first[g] + t] / groups[g].degrees_of_freedom() as f64;
        let scales: Vec<f64> = tasks.iter().map(scale).collect();
        let mut y = all.select(Axis(1), &columns).as_standard_layout().into_owned();
        Rows::for_each(&mut y, |_, row| row.iter_mut().zip(&scales).for_each(|(y, s)| *y /= s.sqrt()));
        let mut out = Search {
            rows,
            groups,
            effects,
            named,
            low_rank,
            params,
            projection,
            traits: Vec::new(),
            y,
            probes: (0..groups.len()).map(|_| None).collect(),
        };
        for (&(group, column), scale) in tasks.iter().zip(scales) {
            if out.probes[group].is_none() {
                out.probes[group] = Some(out.probes_of(group));
            }
            out.traits.push(out.begin(group, column, scale));
        }
        out
    }

    /// K_k v of each column, which belongs to the group `of`, (N_r, k).
    fn times(&self, effect: usize, of: &[usize], v: &Array2<f64>) -> Array2<f64> {
        self.projection.through(of, v.view(), |v| self.effects[effect].times(v, true))
    }

    fn probes_of(&self, group: usize) -> Probes {
        let of = vec![group; self.params.probes];
        let mut z = signs(self.rows, 0..self.params.probes, self.params.seed);
        self.projection.within(&of, &mut z);
        let squares = self.rows.dots(z.view(), z.view());
        let products: Vec<Array2<f64>> = (0..self.effects.len()).map(|k| self.times(k, &of, &z)).collect();
        let size = |product: &Array2<f64>| {
            let forms: f64 = self.rows.dots(z.view(), product.view()).iter().sum();
            forms / squares.iter().sum::<f64>()
        };
        let sizes: Vec<f64> = products.iter().map(size).collect();
        let spread = |(product, size): (&Array2<f64>, &f64)| {
            let forms: f64 = self.rows.dots(product.view(), product.view()).iter().sum();
            (forms / squares.iter().sum::<f64>() - size * size).max(0.0).sqrt()
        };
        let spreads = products.iter().zip(&sizes).map(spread).collect();
        Probes { z, squares, products, sizes, spreads }
    }

    /// Equal shares of all effects and the residual.
    fn begin(&self, group: usize, column: usize, scale: f64) -> OfTrait {
        let probes = self.probes[group].as_ref().expect("made before");
        let count = self.effects.len() + 1;
        let share = 1.0 / count as f64;
        let mut variances: Vec<f64> = probes.sizes.iter().map(|size| share / size.max(1e-300)).collect();
        variances.push(share);
        let floors = variances.iter().map(|v| FLOOR * v / share).collect();
        let reason = if self.groups[group].explains(column) {
            Some(Outcome::Explained)
        } else if probes.sizes.iter().zip(&probes.spreads).any(|(size, spread)| *spread <= SAME * size) {
            Some(Outcome::Unidentified)
        } else {
            None
        };
        OfTrait {
            group,
            scale,
            variances,
            floors,
            fixed: vec![false; count],
            errors: Array2::from_elem((count, count), f64::NAN),
            monte_carlo: Array2::from_elem((count, count), f64::NAN),
            outcome: reason,
            rounds: 0,
        }
    }

    fn run(mut self) -> Result<Vec<Components>> {
        for round in 1..=self.params.rounds {
            let active: Vec<usize> =
                (0..self.traits.len()).filter(|&t| self.traits[t].outcome.is_none()).collect();
            if active.is_empty() {
                break;
            }
            let largest = self.round(&active)?;
            if progress::shown() {
                log::info!("REML: round {round}, largest step {largest:.2} standard errors");
            }
        }
        Ok(self.traits.iter().map(|t| self.components(t)).collect())
    }

    /// One step of all active traits; the largest in standard errors.
    fn round(&mut self, active: &[usize]) -> Result<f64> {
        let (count, probes) = (self.effects.len(), self.params.probes);
        // For each trait its records, the signs, and K_k P y of all effects and the residual.
        let width = 1 + probes + count + 1;
        let of: Vec<usize> = active.iter().flat_map(|&t| vec![self.traits[t].group; width]).collect();
        let variance = |k: usize, c: usize| self.traits[active[c / width]].variances[k];
        let columns = Columns {
            shares: Array2::from_shape_fn((count, of.len()), |(k, c)| variance(k, c)),
            residual: (0..of.len()).map(|c| variance(count, c)).collect(),
            of,
        };
        let system =
            MixedSystem::new((self.rows.clone(), self.groups), self.effects, columns, self.low_rank)?;
        let mut b = Array2::zeros((self.rows.count(), active.len() * width));
        for (a, &t) in active.iter().enumerate() {
            let z = &self.probes[self.traits[t].group].as_ref().expect("made before").z;
            b.column_mut(a * width).assign(&self.y.column(t));
            b.slice_mut(s![.., a * width + 1..a * width + 1 + probes]).assign(z);
        }
        let x = self.solve(&system, &b)?;
        let py_columns: Vec<usize> = (0..active.len()).map(|a| a * width).collect();
        let py = x.select(Axis(1), &py_columns).as_standard_layout().into_owned();
        let groups: Vec<usize> = active.iter().map(|&t| self.traits[t].group).collect();
        let mut f: Vec<Array2<f64>> = (0..count).map(|k| self.times(k, &groups, &py)).collect();
        f.push(py.clone());
        b.fill(0.0);
        for a in 0..active.len() {
            for (k, f) in f.iter().enumerate() {
                b.column_mut(a * width + 1 + probes + k).assign(&f.column(a));
            }
        }
        let pf = self.solve(&system, &b)?;
        let mut largest = 0f64;
        for (a, &t) in active.iter().enumerate() {
            let at = a * width + 1;
            let u = x.slice(s![.., at..at + probes]).as_standard_layout().into_owned();
            let fs: Vec<Array1<f64>> = f.iter().map(|f| f.column(a).to_owned()).collect();
            let own = stack(&fs);
            let solved =
                pf.slice(s![.., at + probes..at + probes + count + 1]).as_standard_layout().into_owned();
            let quadratic = self.rows.cross(py.slice(s![.., a..a + 1]), own.view(), None);
            let information = self.rows.cross(own.view(), solved.view(), None);
            let information = (&information + &information.t()) * 0.25;
            let traces = self.traces(t, &u);
            largest = largest.max(self.traits[t].step(&quadratic.row(0).to_vec(), &traces, &information));
        }
        Ok(largest)
    }

    /// P b; columns of zeros cost nothing.
    fn solve(&self, system: &MixedSystem, b: &Array2<f64>) -> Result<Array2<f64>> {
        let solver = pcg::Params {
            tolerance: self.params.tolerance,
            precision: Precision::Single,
            ..pcg::Params::default()
        };
        let (x, info) = monitored(system, b.view(), solver, &mut Unmonitored)?;
        let worst = pcg::largest(info.residuals.iter().copied());
        log::debug!("{} iterations, largest residual {worst:.1e}", info.iterations);
        if worst <= ACCEPTED {
            return Ok(x);
        }
        let problem = format!("conjugate gradients stopped at a residual of {worst:.1e}");
        Err(Error::failed("variance components", problem, "check the records for numbers that are too large"))
    }

    /// z'P K_k z of all effects and z'P z, for each sign scaled to the degrees of freedom, (effects + 1, S).
    fn traces(&self, t: usize, u: &Array2<f64>) -> Array2<f64> {
        let group = self.traits[t].group;
        let probes = self.probes[group].as_ref().expect("made before");
        let freedom = self.groups[group].degrees_of_freedom() as f64;
        let mut out = Array2::zeros((self.effects.len() + 1, self.params.probes));
        for (mut row, product) in out.rows_mut().into_iter().zip(probes.products.iter().chain([&probes.z])) {
            let forms = self.rows.dots(u.view(), product.view());
            row.iter_mut().zip(forms).zip(&probes.squares).for_each(|((x, f), z)| *x = f * freedom / z);
        }
        out
    }

    fn components(&self, t: &OfTrait) -> Components {
        let group = self.groups[t.group];
        let outcome = t.outcome.unwrap_or(Outcome::Failed);
        if outcome.reason().is_some() {
            return none(self.effects.len(), group, outcome);
        }
        let squared = t.scale * t.scale;
        let best = Optimum {
            c: t.variances.iter().map(|v| Array2::from_elem((1, 1), v * t.scale)).collect(),
            log_likelihood: f64::NAN,
            iterations: t.rounds,
            outcome,
            errors: &t.errors * squared,
            reduced: t.fixed.clone(),
            identified: true,
        };
        let mut components = proportions(&best);
        for (k, component) in components.iter_mut().enumerate() {
            component.variance_mc_se = (t.monte_carlo[[k, k]] * squared).max(0.0).sqrt();
        }
        summed(components, &best, self.named, group)
    }
}

/// Columns side by side, (N_r, k).
fn stack(columns: &[Array1<f64>]) -> Array2<f64> {
    let views: Vec<_> = columns.iter().map(|c| c.view()).collect();
    ndarray::stack(Axis(1), &views).expect("columns of one length").as_standard_layout().into_owned()
}

impl OfTrait {
    /// One step from y'P K_k P y, z'P K_k z (effects + 1, S) and AI; its length in standard errors.
    fn step(&mut self, quadratic: &[f64], traces: &Array2<f64>, information: &Array2<f64>) -> f64 {
        self.rounds += 1;
        let (count, probes) = (quadratic.len(), traces.ncols() as f64);
        let mean = traces.mean_axis(Axis(1)).expect("probes");
        let score = Array1::from_shape_fn(count, |k| 0.5 * (quadratic[k] - mean[k]));
        let free: Vec<usize> = (0..count).filter(|&k| !self.fixed[k]).collect();
        let some = |a: &Array2<f64>| a.select(Axis(0), &free).select(Axis(1), &free);
        let Ok(factor) = Cholesky::new(some(information)) else {
            self.outcome = Some(Outcome::Unidentified);
            return 0.0;
        };
        let inverse = factor.inverse();
        let right = score.select(Axis(0), &free);
        let delta = inverse.dot(&right);
        let length = delta.dot(&right).max(0.0).sqrt();
        let centred = traces - &mean.insert_axis(Axis(1));
        let scatter = centred.dot(&centred.t()) / ((probes - 1.0).max(1.0) * probes * 4.0);
        let spread = inverse.dot(&some(&scatter)).dot(&inverse);
        self.errors.fill(0.0);
        self.monte_carlo.fill(0.0);
        for (i, &a) in free.iter().enumerate() {
            for (j, &b) in free.iter().enumerate() {
                self.errors[[a, b]] = inverse[[i, j]];
                self.monte_carlo[[a, b]] = spread[[i, j]];
            }
        }
        if length < SETTLED {
            let inside = self.fixed.iter().all(|f| !f);
            self.outcome = Some(if inside { Outcome::Converged } else { Outcome::Boundary });
            return length;
        }
        self.move_by(&free, &delta);
        length
    }

    /// Moves the free variances; what would become negative goes to the floor first, and to 0 from there.
    fn move_by(&mut self, free: &[usize], delta: &Array1<f64>) {
        let residual = self.variances.len() - 1;
        for (&k, delta) in free.iter().zip(delta) {
            let (now, floor) = (self.variances[k], self.floors[k]);
            // An information far from that of the maximum may send a variance away.
            let next = now + delta.clamp(-10.0 * now, 10.0 * now.max(floor));
            if next > floor {
                self.variances[k] = next;
            } else if now > floor || k == residual {
                self.variances[k] = floor;
            } else {
                self.variances[k] = 0.0;
                self.fixed[k] = true;
            }
        }
    }
}
