//! REML of one genetic variance for many animals: G is only multiplied by.
//!
//! With K = S W^½ G_OO W^½ S and V = σ²p (h² K + (1 − h²) I) within S, all that REML needs is y' f(K) y and tr f(K)
//! for functions f of h². One run of Lanczos' recursion from the records and from random signs gives all of them for
//! every h² at once ([`crate::linalg::trace`]; Border & Becker 2019), because shifting and scaling a matrix leaves
//! the recursion as it is. The likelihood is then searched over its whole range as the exact one is: no start values
//! are needed, and every product with G serves all traits and all probes.
//!
//! All traits of a group (same animals, weights, fixed effects) share the probes. The recursion of a group goes on
//! until ĥ² of all its traits moves by less than a hundredth of its standard error from one check to the next, and the
//! likelihood there hardly at all: short recursions of many animals see the largest eigenvalues alone, and take all
//! variance for genetic, check after check. The
//! Monte-Carlo error of ĥ² is that of the slope of the likelihood over its curvature; about
//! (standard error) / √probes at most (Loh et al. 2015), less what the exact trace of K takes away. Products are quick
//! ones: their errors, some 1e-6 of the largest eigenvalue, are far below it.

use super::profile::{self, first_points, information, Restricted, EDGE};
use super::spectral::differ;
use super::{Estimate, Outcome, Sampling};
use crate::error::Result;
use crate::linalg::trace::{signs, Lanczos, Quadrature, Spectrum};
use crate::linalg::Operator;
use crate::mixed::system::{batches, ProjectedG};
use crate::mixed::Group;
use crate::progress;
use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

/// h² is looked for up to 1/(1 + e^-7) = 0.999, where the recursion still converges.
const END: f64 = 7.0;
/// Steps of the recursion before the first check, and at least between checks.
const BETWEEN: usize = 8;
/// Largest change of ĥ² between checks, in standard errors.
const SETTLED: f64 = 0.01;
/// Largest change of log L between checks, by itself and in its Monte-Carlo errors, whichever is more.
const SETTLED_LIKELIHOOD: (f64, f64) = (0.1, 0.05);

/// How much work to spend.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Params {
    /// Random vectors a group of traits.
    pub probes: usize,
    /// Products with G at most.
    pub products: usize,
    /// Seed of the probes.
    pub seed: u64,
}

impl Default for Params {
    fn default() -> Self {
        Params { probes: 32, products: 400, seed: 1 }
    }
}

/// The estimates of all traits of all groups, in their order; `operator` is G. Collective as the operator is.
pub fn estimate(operator: &dyn Operator, groups: &[&Group], params: Params) -> Result<Vec<Vec<Estimate>>> {
    groups.iter().try_for_each(|g| g.check_degrees_of_freedom())?;
    let sizes: Vec<usize> = groups.iter().map(|g| g.traits() + params.probes).collect();
    let mut out = Vec::new();
    for some in batches(&sizes) {
        out.extend(Batch::new(operator, &groups[some], params).run()?);
    }
    Ok(out)
}

/// Groups whose records and probes go through one recursion.
struct Batch<'a> {
    projected: ProjectedG<'a>,
    params: Params,
    of: Vec<usize>,     // group of each column
    firsts: Vec<usize>, // each group's first column: its traits, then its probes
    traces: Vec<f64>,   // tr K of each group
    sizes: Vec<f64>,    // mean diagonal element of W^½ G_OO W^½ of each group
    found: Vec<Vec<Estimate>>,
    done: Vec<bool>,
}

impl<'a> Batch<'a> {
    fn new(operator: &'a dyn Operator, groups: &'a [&'a Group], params: Params) -> Self {
        let projected = ProjectedG::new(operator, groups);
        let traces = projected.traces(false).diag().to_vec();
        let sizes = projected.sizes();
        let (mut of, mut firsts) = (Vec::new(), Vec::new());
        for (g, group) in groups.iter().enumerate() {
            firsts.push(of.len());
            of.resize(of.len() + group.traits() + params.probes, g);
        }
        let count = groups.len();
        Batch {
            projected,
            params,
            of,
            firsts,
            traces,
            sizes,
            found: vec![Vec::new(); count],
            done: vec![false; count],
        }
    }

    /// Records and probes of all groups, (n_r, columns).
    fn start(&self) -> Array2<f64> {
        let z = signs(self.projected.projection.rows(), 0..self.params.probes, self.params.seed);
        let y = self.projected.projection.records_projected();
        let (mut blocks, mut first) = (Vec::new(), 0);
        for (g, group) in self.projected.projection.groups().iter().enumerate() {
            blocks.push(y.slice(ndarray::s![.., first..first + group.traits()]).to_owned());
            blocks.push(self.projected.probes(g, z.view()));
            first += group.traits();
        }
        let views: Vec<ArrayView2<f64>> = blocks.iter().map(|b| b.view()).collect();
        ndarray::concatenate(Axis(1), &views).expect("blocks of n rows").as_standard_layout().into_owned()
    }

    fn run(mut self) -> Result<Vec<Vec<Estimate>>> {
        let mut lanczos = Lanczos::begin(self.start(), self.projected.projection.rows());
        let (mut steps, mut next) = (0, BETWEEN);
        while !lanczos.active().is_empty() && steps < self.params.products {
            lanczos.step(|columns, block| {
                let of: Vec<usize> = columns.iter().map(|&c| self.of[c]).collect();
                self.projected.times_quickly(&of, block)
            });
            steps += 1;
            if steps == next || lanczos.active().is_empty() || steps == self.params.products {
                self.check(&lanczos, steps)?;
                lanczos.close(|c| self.done[self.of[c]]);
                if progress::shown() {
                    let settled = self.done.iter().filter(|d| **d).count();
                    log::info!("REML: {steps} products, {settled} of {} groups settled", self.done.len());
                }
                next = steps + BETWEEN.max(steps / 8);
            }
        }
        let unsettled = self.found.iter_mut().zip(&self.done).filter(|(_, done)| !**done);
        let estimated = unsettled.flat_map(|(found, _)| found).filter(|e| e.outcome.reason().is_none());
        estimated.for_each(|e| e.outcome = Outcome::Failed);
        Ok(self.found)
    }

    /// Estimates the groups still at work and notes which have settled.
    fn check(&mut self, lanczos: &Lanczos, steps: usize) -> Result<()> {
        let mut broken_down = vec![true; self.done.len()];
        lanczos.active().iter().for_each(|&c| broken_down[self.of[c]] = false);
        for g in (0..broken_down.len()).filter(|&g| !self.done[g]).collect::<Vec<_>>() {
            // The root's: all ranks go on or end together.
            let world = self.projected.projection.rows().world();
            let new = world.decide(world.agree(self.estimates(g, lanczos, steps))?);
            let stays = |(new, old): (&Estimate, &Estimate)| {
                let scale = if new.h2_se.is_finite() { new.h2_se } else { 0.01 };
                let by_chance = new.sampling.map_or(0.0, |s| s.log_likelihood);
                let (least, share) = SETTLED_LIKELIHOOD;
                let rise = (new.log_likelihood - old.log_likelihood).abs();
                new.outcome.reason().is_some()
                    || (new.h2 - old.h2).abs() <= SETTLED * scale && rise <= least.max(share * by_chance)
            };
            let old = std::mem::replace(&mut self.found[g], new);
            self.done[g] = broken_down[g] || (!old.is_empty() && self.found[g].iter().zip(&old).all(stays));
        }
        Ok(())
    }

    /// The estimates of one group from the recursion so far.
    fn estimates(&self, g: usize, lanczos: &Lanczos, steps: usize) -> Result<Vec<Estimate>> {
        let group = self.projected.projection.groups()[g];
        let columns = self.firsts[g]..self.firsts[g] + group.traits() + self.params.probes;
        let mut records = lanczos.quadratures(columns)?;
        let probes = records.split_off(group.traits());
        let nu = group.degrees_of_freedom() as f64;
        let spectrum = Spectrum::new(probes, nu, self.traces[g]);
        let constant = group.log_design() - group.log_weights();
        if !differ(&spectrum.range(), self.sizes[g]) {
            return Ok(vec![Estimate::none(group.animals().len(), Outcome::Unidentified); group.traits()]);
        }
        let fit = |records: &Quadrature| {
            let profile = Profile { records, spectrum: &spectrum, nu, constant };
            let e = profile::estimate(&profile, group, &first_points(&profile, 1.0, END));
            Estimate { iterations: steps, sampling: Some(profile.sampling(e.h2)), ..e }
        };
        Ok(group.unless_explained(records.par_iter().map(fit).collect()))
    }
}

/// The likelihood of one trait.
struct Profile<'a> {
    records: &'a Quadrature,
    spectrum: &'a Spectrum,
    nu: f64,
    constant: f64, // log |X'WX| − Σ log w
}

impl profile::Profile for Profile<'_> {
    fn terms(&self, h2: f64) -> Option<Restricted> {
        let s = |theta: f64| h2 * theta + 1.0 - h2;
        Some(Restricted {
            nu: self.nu,
            constant: self.constant,
            logs: self.spectrum.trace_of(|x| s(x).ln()).value,
            d_logs: self.spectrum.trace_of(|x| (x - 1.0) / s(x)).value,
            quadratic: self.records.form(|x| 1.0 / s(x)),
            d_quadratic: -self.records.form(|x| (x - 1.0) / (s(x) * s(x))),
        })
    }

    fn information(&self, h2: f64, total: f64) -> Option<[f64; 3]> {
        Some(information(&self.records.nodes, &self.records.weights, h2, total))
    }
}

impl Profile<'_> {
    /// The slope's error moves the maximum by itself over the curvature.
    fn sampling(&self, h2: f64) -> Sampling {
        let s = |theta: f64| h2 * theta + 1.0 - h2;
        let step = 1e-3 * (h2 * (1.0 - h2)).max((-EDGE).exp());
        let (low, high) = ((h2 - step).max(0.0), h2 + step);
        let slope_at = |h2| profile::at(self, h2, None).slope;
        let curvature = (slope_at(high) - slope_at(low)) / (high - low);
        let slope = 0.5 * self.spectrum.trace_of(|x| (x - 1.0) / s(x)).mc_se;
        let log_likelihood = 0.5 * self.spectrum.trace_of(|x| s(x).ln()).mc_se;
        Sampling { h2: slope / curvature.abs(), log_likelihood }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::Rows;
    use crate::mixed::reml::Spectral;
    use crate::mixed::system::rows_times;
    use crate::mixed::tests::{families, N};
    use crate::rng::{Purpose, Stream};

    #[test]
    fn estimates_differ_from_exact_ones_by_their_monte_carlo_error() {
        let mut squares = Vec::new();
        for weighted in [false, true] {
            let (g, groups) = families(weighted);
            let refs: Vec<&Group> = groups.iter().collect();
            let exact: Vec<Estimate> = groups
                .iter()
                .flat_map(|group| {
                    let spectral = Spectral::new(g.view(), group).unwrap();
                    let eta = spectral.rotate();
                    eta.columns().into_iter().map(|eta| spectral.estimate(eta)).collect::<Vec<_>>()
                })
                .collect();
            for seed in 1..=6 {
                let found = estimate(&g, &refs, Params { seed, ..Params::default() }).unwrap().concat();
                assert_eq!(found.len(), 3);
                for (e, want) in found.iter().zip(&exact) {
                    let error = e.sampling.unwrap();
                    let off = (e.h2 - want.h2) / error.h2;
                    assert!(off.abs() < 3.5, "h2 {} exact {} mc_se {}", e.h2, want.h2, error.h2);
                    assert!(error.h2 < 0.25 * e.h2_se, "mc_se {} beside se {}", error.h2, e.h2_se);
                    let log = (e.log_likelihood - want.log_likelihood) / error.log_likelihood;
                    assert!(log.abs() < 3.5, "logL {} exact {}", e.log_likelihood, want.log_likelihood);
                    assert!((e.h2_se / want.h2_se - 1.0).abs() < 0.1 && e.outcome == Outcome::Converged);
                    assert!((e.var_g - want.var_g).abs() < 0.7 * want.var_g_se);
                    assert!((e.var_e - want.var_e).abs() < 0.7 * want.var_e_se);
                    assert_eq!(e.n, want.n);
                    squares.push(off * off);
                }
            }
        }
        let spread = (squares.iter().sum::<f64>() / squares.len() as f64).sqrt();
        assert!((0.4..1.7).contains(&spread), "Monte-Carlo errors are off by {spread}");
    }

    /// A diagonal matrix.
    struct Diagonal(Vec<f64>);

    impl Operator for Diagonal {
        fn row_layout(&self) -> Rows {
            Rows::alone(self.0.len())
        }

        fn apply(&self, block: ArrayView2<f64>) -> Array2<f64> {
            rows_times(&block.to_owned(), &self.0)
        }

        fn diagonal(&self) -> Vec<f64> {
            self.0.clone()
        }
    }

    /// Eigenvalues of more animals than SNPs: a few are as large as hundreds, and half are zero.
    #[test]
    fn a_recursion_that_has_seen_large_eigenvalues_alone_goes_on() {
        const ANIMALS: usize = 6000;
        let share = |i: usize| if i < ANIMALS / 2 { 1.0 / (i + 1) as f64 } else { 0.0 };
        let sum: f64 = (0..ANIMALS).map(share).sum();
        let values: Vec<f64> = (0..ANIMALS).map(|i| ANIMALS as f64 / sum * share(i)).collect();
        let mut s = Stream::new(8, Purpose::Test, 0);
        let h2 = [0.3, 0.5];
        let y = Array2::from_shape_fn((ANIMALS, 2), |(i, t)| {
            (h2[t] * values[i] + 1.0 - h2[t]).sqrt() * s.normal()
        });
        let group = Group::new((0..ANIMALS).collect(), y, Array2::ones((ANIMALS, 1)), None);
        let operator = Diagonal(values);
        // Twice the same wrong answer.
        for products in [8, 16] {
            let short = estimate(&operator, &[&group], Params { products, ..Params::default() }).unwrap();
            assert!(short.concat().iter().all(|e| e.h2 > 0.99 && e.outcome == Outcome::Failed));
        }
        let found = estimate(&operator, &[&group], Params::default()).unwrap().concat();
        for (e, h2) in found.iter().zip(h2) {
            assert!(e.outcome == Outcome::Converged && (e.h2 - h2).abs() < 3.0 * e.h2_se, "{e:?}");
            assert!(e.iterations > 16 && e.iterations < 150, "{e:?}");
        }
    }

    #[test]
    fn monte_carlo_errors_are_as_large_as_the_distances_over_many_seeds() {
        let (g, groups) = families(false);
        let spectral = Spectral::new(g.view(), &groups[0]).unwrap();
        let want = spectral.estimate(spectral.rotate().column(0));
        // The traits of a seed share its probes, so seeds alone count: the root mean square of 80 has a standard error
        // of 0.08. Seeds 1 to 48 happen to give 1.24, 1 to 240 give 1.03.
        let seeds = 97..=176;
        let count = seeds.clone().count() as f64;
        let squares: f64 = seeds
            .map(|seed| {
                let found = estimate(&g, &[&groups[0]], Params { seed, ..Params::default() }).unwrap();
                ((found[0][0].h2 - want.h2) / found[0][0].sampling.unwrap().h2).powi(2)
            })
            .sum();
        let spread = (squares / count).sqrt();
        assert!((0.8..1.2).contains(&spread), "Monte-Carlo errors are off by {spread}");
    }

    #[test]
    fn few_animals_are_exact_up_to_the_probes_and_boundaries_are_told() {
        let (g, y) = crate::mixed::tests::herd();
        let groups = crate::mixed::tests::groups(&y, false);
        let refs: Vec<&Group> = groups.iter().collect();
        let found = estimate(&g, &refs, Params { probes: 600, ..Params::default() }).unwrap().concat();
        assert!(found.iter().all(|e| e.iterations <= N + 20 && e.outcome == Outcome::Converged));
        let e = crate::linalg::factor::Eigen::new(g.clone()).unwrap();
        let noise = e.vectors.slice(ndarray::s![0..15, ..]).sum_axis(Axis(0)).insert_axis(Axis(1)) * 10.0;
        let group = Group::new((0..N).collect(), noise, Array2::ones((N, 1)), None);
        let found = estimate(&g, &[&group], Params::default()).unwrap();
        assert_eq!((found[0][0].outcome, found[0][0].h2), (Outcome::Boundary, 0.0));
        let few = estimate(&g, &refs, Params { products: 3, ..Params::default() }).unwrap().concat();
        assert!(few.iter().all(|e| e.outcome == Outcome::Failed));
    }
}
