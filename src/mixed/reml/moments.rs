//! Genetic and residual covariances of every pair of traits by the method of moments, MINQUE(0) (Rao 1971), which
//! is Haseman and Elston's (1972) regression of products of records on relationships.
//!
//! With S the projection beside a trait's (weighted) fixed effects, in the scaled records ỹ = S W^½ y of traits a
//! and b, E ỹ_a ỹ_b' = g K_ab + r J_ab, K_ab = S_a W_a^½ G W_b^½ S_b, J_ab = S_a S_b on the animals that have both. The
//! two forms ỹ_a'W_a^½ G W_b^½ỹ_b and ỹ_a'ỹ_b equal their expectations:
//!
//! g = (q1 − θ̄ q2) / D, r = (q2 − g tr K_abJ_ab') / tr J_abJ_ab', θ̄ = tr K_abJ_ab' / tr J_abJ_ab',
//! D = |K_ab − θ̄ J_ab|²_F.
//!
//! The traces are exact. D comes from all animals where they are few, otherwise from random signs; its Monte-Carlo
//! error, which is that of g relative to g, is told. All traits share one product with G for q1; each group of traits
//! has one for D and three for the spectrum that standard errors need.
//!
//! Standard errors are those of normal records with the estimated covariances, from the spectrum of K; for traits
//! recorded on different animals the two spectra are averaged and scaled to the pair's D.

use super::{Estimate, Outcome, Sampling};
use crate::error::{Error, Result};
use crate::linalg::trace::{signs, Lanczos, Spectrum};
use crate::linalg::Operator;
use crate::mixed::covariances::{Bending, Covariances};
use crate::mixed::system::{rows_times, ProjectedG, WIDTH};
use crate::mixed::Group;
use crate::stats;
use ndarray::{Array2, Axis};

/// Up to this many animals D is computed exactly.
const EXACT: usize = 1024;
/// Eigenvalues whose standard deviation is below this share of their size are the same up to rounding.
const SAME: f64 = 1e-9;
/// Steps of the recursion that gives the spectrum: moments up to the fifth.
const STEPS: usize = 3;

/// Random vectors.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Params {
    /// Random signs for D and the spectrum.
    pub probes: usize,
    /// Their seed.
    pub seed: u64,
}

impl Default for Params {
    fn default() -> Self {
        Params { probes: 64, seed: 1 }
    }
}

/// The moments of two traits, or of one with itself. NaN stands for what does not exist.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Animals with records of both.
    pub shared: usize,
    /// Genetic covariance.
    pub genetic: f64,
    /// Its standard error.
    pub genetic_se: f64,
    /// Its Monte-Carlo error.
    pub genetic_mc_se: f64,
    /// Residual covariance of records of weight 1.
    pub residual: f64,
    /// Its standard error.
    pub residual_se: f64,
    /// Genetic correlation.
    pub correlation: f64,
    /// Its standard error by the delta method.
    pub correlation_se: f64,
}

/// The covariances of t traits.
#[derive(Debug, Clone)]
pub struct Moments {
    /// Each trait's own variances.
    pub estimates: Vec<Estimate>,
    /// All pairs, row by row of (t, t).
    pub pairs: Vec<Vec<Pair>>,
    /// G0 and R0, positive definite, of records of weight 1.
    pub bent: Covariances,
    /// What had to be changed for that.
    pub bending: Bending,
}

/// The moments of all pairs of traits; `traits[k]` are the numbers of the traits of group k, `operator` is G.
/// Collective as the operator is.
pub fn haseman_elston(
    operator: &dyn Operator,
    traits: &[Vec<usize>],
    groups: &[&Group],
    params: Params,
) -> Result<Moments> {
    groups.iter().try_for_each(|g| g.check_degrees_of_freedom())?;
    let projected = ProjectedG::new(operator, groups);
    let traces = Traces::new(&projected, params)?;
    check_identified(&projected, &traces)?;
    let (genetic_forms, residual_forms) = forms(&projected);
    let of: Vec<(usize, usize)> = in_order(traits);
    let t = of.len();
    let mut raw = Covariances { genetic: Array2::zeros((t, t)), residual: Array2::zeros((t, t)) };
    for (i, &(a, row)) in of.iter().enumerate() {
        for (k, &(b, column)) in of.iter().enumerate() {
            let (q1, q2) = (genetic_forms[[row, column]], residual_forms[[row, column]]);
            let (kj, jj) = (traces.kj[[a, b]], traces.jj[[a, b]]);
            let g = (q1 - traces.mean(a, b) * q2) / stats::mean(&traces.d[a][b]);
            raw.genetic[[i, k]] = g;
            raw.residual[[i, k]] = if jj > 0.5 { (q2 - g * kj) / jj } else { 0.0 };
        }
    }
    let (bent, bending) = raw.bent()?;
    let errors = Errors { traces: &traces, bent: &bent, of: &of };
    let pair = |i: usize, k: usize| errors.pair(&raw, i, k);
    let mut pairs: Vec<Vec<Pair>> = (0..t).map(|i| (0..t).map(|k| pair(i, k)).collect()).collect();
    let weights: Vec<f64> = of.iter().map(|&(g, _)| groups[g].mean_weight()).collect();
    let estimates = (0..t).map(|i| errors.estimate(&pairs[i][i], i).per_unit_weight(weights[i])).collect();
    for (i, row) in pairs.iter_mut().enumerate() {
        for (k, pair) in row.iter_mut().enumerate() {
            let weight = (weights[i] * weights[k]).sqrt();
            pair.residual *= weight;
            pair.residual_se *= weight;
        }
    }
    let bent = bent.per_unit_weight(&weights);
    Ok(Moments { estimates, pairs, bent, bending })
}

/// An error where a group's relationships do not differ: D is then 0.
fn check_identified(projected: &ProjectedG, traces: &Traces) -> Result<()> {
    for (g, size) in projected.sizes().into_iter().enumerate() {
        let (jj, d) = (traces.jj[[g, g]], stats::mean(&traces.d[g][g]));
        // √(D / tr J) is the standard deviation of the eigenvalues.
        if d.is_nan() || (d.max(0.0) / jj).sqrt() <= SAME * size.abs().max((traces.kj[[g, g]] / jj).abs()) {
            let reason = Outcome::Unidentified.reason().expect("a reason");
            let advice = "leave these traits out, or take other animals";
            return Err(Error::failed("variance components", reason, advice));
        }
    }
    Ok(())
}

/// For every trait in order its group and its column when the groups' traits stand one after the other.
fn in_order(traits: &[Vec<usize>]) -> Vec<(usize, usize)> {
    let all = traits.iter().enumerate().flat_map(|(g, numbers)| numbers.iter().map(move |&t| (t, g)));
    let mut of: Vec<(usize, usize, usize)> = all.enumerate().map(|(column, (t, g))| (t, g, column)).collect();
    of.sort_unstable();
    of.into_iter().map(|(_, g, column)| (g, column)).collect()
}

/// ỹ_a'W_a^½ G W_b^½ỹ_b and ỹ_a'ỹ_b of all pairs of columns, (t, t).
fn forms(projected: &ProjectedG) -> (Array2<f64>, Array2<f64>) {
    let (projection, rows) = (&projected.projection, projected.projection.rows());
    let y = projection.records_projected();
    let outer = projection.weighted(&projection.group_of_traits(), y.view());
    let product = projected.operator.apply(outer.view());
    let cross = |a: &Array2<f64>, b: &Array2<f64>| symmetric(rows.cross(a.view(), b.view(), None));
    (cross(&outer, &product), cross(&y, &y))
}

fn symmetric(a: Array2<f64>) -> Array2<f64> {
    (&a + &a.t()) * 0.5
}

/// The coefficients of the moment equations for all pairs of groups.
struct Traces {
    shared: Array2<usize>,
    jj: Array2<f64>,
    kj: Array2<f64>,
    /// D, one value a probe, or one alone where it is exact.
    d: Vec<Vec<Vec<f64>>>,
    /// Eigenvalues of each group's K, with how often each counts.
    spectra: Vec<Vec<(f64, f64)>>,
}

impl Traces {
    fn new(projected: &ProjectedG, params: Params) -> Result<Traces> {
        let count = projected.projection.groups().len();
        let kj = projected.traces(true);
        let (shared, jj) = overlaps(projected);
        let empty = vec![vec![Vec::new(); count]; count];
        let mut traces = Traces { shared, jj, kj, d: empty, spectra: Vec::new() };
        let rows = projected.projection.rows();
        let n = rows.total();
        if n <= EXACT {
            let unit = |columns: std::ops::Range<usize>| {
                let mut block = Array2::zeros((rows.count(), columns.len()));
                for (i, row) in rows.own().enumerate().filter(|(_, row)| columns.contains(row)) {
                    block[[i, row - columns.start]] = 1.0;
                }
                block
            };
            let blocks = (0..n).step_by(WIDTH).map(|i| unit(i..(i + WIDTH).min(n)));
            let parts: Vec<_> = blocks.map(|x| traces.squares(projected, &x)).collect();
            traces.d = merged(count, &parts, |values| vec![values.sum()]);
        } else {
            let squares = traces.squares(projected, &signs(rows, 0..params.probes, params.seed));
            traces.d = merged(count, &[squares], |values| values.to_vec());
        }
        traces.spectra = spectra(projected, &traces.kj, params)?;
        Ok(traces)
    }

    /// θ̄ of a pair of groups.
    fn mean(&self, a: usize, b: usize) -> f64 {
        if self.jj[[a, b]] > 0.5 {
            self.kj[[a, b]] / self.jj[[a, b]]
        } else {
            0.0
        }
    }

    /// |(K_ab − θ̄ J_ab)' x|² of each column x of a block, for all pairs: (groups², columns).
    fn squares(&self, projected: &ProjectedG, block: &Array2<f64>) -> Array2<f64> {
        let (projection, count) = (&projected.projection, projected.projection.groups().len());
        let mut out = Array2::zeros((count * count, block.ncols()));
        for a in 0..count {
            let inner = projected.probes(a, block.view());
            let product = projected.operator.apply(rows_times(&inner, projection.sqrt_weights(a)).view());
            for b in 0..count {
                let mut rest = rows_times(&product, projection.sqrt_weights(b));
                rest.scaled_add(-self.mean(a, b), &inner);
                let rest = projected.probes(b, rest.view());
                let squares = projection.rows().dots(rest.view(), rest.view());
                out.row_mut(a * count + b).assign(&ndarray::Array1::from(squares));
            }
        }
        out
    }
}

/// Sums blocks of columns, makes them symmetric and deals them out by pairs.
fn merged(
    count: usize,
    parts: &[Array2<f64>],
    of: impl Fn(&ndarray::Array1<f64>) -> Vec<f64>,
) -> Vec<Vec<Vec<f64>>> {
    let views: Vec<_> = parts.iter().map(|p| p.view()).collect();
    let all = ndarray::concatenate(Axis(1), &views).expect("a row a pair");
    let pair = |a: usize, b: usize| of(&((&all.row(a * count + b) + &all.row(b * count + a)) * 0.5));
    (0..count).map(|a| (0..count).map(|b| pair(a, b)).collect()).collect()
}

/// Animals that two groups share, and tr S_aJS_bJ.
fn overlaps(projected: &ProjectedG) -> (Array2<usize>, Array2<f64>) {
    let (rows, count) = (projected.projection.rows(), projected.projection.groups().len());
    let bases: Vec<Array2<f64>> = (0..count).map(|g| projected.projection.basis(g)).collect();
    let roots: Vec<&[f64]> = (0..count).map(|g| projected.projection.sqrt_weights(g)).collect();
    let recorded = |g: usize, i: usize| roots[g][i] > 0.0;
    let (mut shared, mut jj) = (Array2::zeros((count, count)), Array2::zeros((count, count)));
    for a in 0..count {
        for b in 0..count {
            let both = |i: usize| f64::from(u8::from(recorded(a, i) && recorded(b, i)));
            let number = rows.sums(1, |i, sum| sum[0] += both(i))[0];
            shared[[a, b]] = number as usize;
            let within = |x: usize, y: usize| {
                let square = |i: usize| bases[x].row(i).dot(&bases[x].row(i));
                rows.sums(1, |i, sum| sum[0] += if recorded(y, i) { square(i) } else { 0.0 })[0]
            };
            let across = rows.cross(bases[a].view(), bases[b].view(), None);
            jj[[a, b]] = number - within(a, b) - within(b, a) + across.iter().map(|x| x * x).sum::<f64>();
        }
    }
    (shared, jj)
}

/// Eigenvalues of each group's K with their counts, by a few steps of Lanczos' recursion.
fn spectra(projected: &ProjectedG, kj: &Array2<f64>, params: Params) -> Result<Vec<Vec<(f64, f64)>>> {
    let z = signs(projected.projection.rows(), 0..params.probes, params.seed);
    let of_group = |(g, group): (usize, &&Group)| {
        let mut lanczos = Lanczos::begin(projected.probes(g, z.view()), projected.projection.rows());
        for _ in 0..STEPS {
            lanczos.step(|columns, block| projected.times(&vec![g; columns.len()], block));
        }
        let rules: Result<Vec<_>> = (0..params.probes).map(|k| lanczos.quadrature(k)).collect();
        Ok(Spectrum::new(rules?, group.degrees_of_freedom() as f64, kj[[g, g]]).density().collect())
    };
    projected.projection.groups().iter().enumerate().map(of_group).collect()
}

/// Standard errors of moments.
struct Errors<'a> {
    traces: &'a Traces,
    bent: &'a Covariances,
    of: &'a [(usize, usize)],
}

/// Weights of the eigenvalues in g and in r of a pair: g = Σ ω η_a η_b, r = Σ ψ η_a η_b.
struct Weights {
    theta: Vec<f64>,
    count: Vec<f64>,
    omega: Vec<f64>,
    psi: Vec<f64>,
}

impl Errors<'_> {
    fn weights(&self, i: usize, k: usize) -> Weights {
        let (a, b) = (self.of[i].0, self.of[k].0);
        let (mean, d) = (self.traces.mean(a, b), stats::mean(&self.traces.d[a][b]));
        let nodes = self.traces.spectra[a].iter().chain(&self.traces.spectra[b]);
        let (theta, mut count): (Vec<f64>, Vec<f64>) = nodes.copied().unzip();
        let squares: f64 = theta.iter().zip(&count).map(|(x, c)| c * (x - mean) * (x - mean)).sum();
        count.iter_mut().for_each(|c| *c *= d / squares);
        let omega: Vec<f64> = theta.iter().map(|x| (x - mean) / d).collect();
        let jj = self.traces.jj[[a, b]];
        let psi = omega.iter().map(|w| if jj > 0.5 { 1.0 / jj - mean * w } else { f64::NAN }).collect();
        Weights { theta, count, omega, psi }
    }

    /// Covariance of Σ u η_a η_b and Σ v η_c η_d of normal records.
    fn covariance(&self, w: &Weights, (u, v): (&[f64], &[f64]), [a, b, c, d]: [usize; 4]) -> f64 {
        let (g, r) = (&self.bent.genetic, &self.bent.residual);
        let term = |x: usize| {
            let s = |i: usize, k: usize| g[[i, k]] * w.theta[x].max(0.0) + r[[i, k]];
            w.count[x] * u[x] * v[x] * (s(a, c) * s(b, d) + s(a, d) * s(b, c))
        };
        (0..w.theta.len()).map(term).sum()
    }

    fn pair(&self, raw: &Covariances, i: usize, k: usize) -> Pair {
        let w = self.weights(i, k);
        let (a, b) = (self.of[i].0, self.of[k].0);
        let of = |u: &[f64], at: [usize; 4]| self.covariance(&w, (u, u), at);
        let (genetic, residual) = (raw.genetic[[i, k]], raw.residual[[i, k]]);
        let [gi, gk] = [i, k].map(|x| raw.genetic[[x, x]]);
        let correlation = if i == k { 1.0 } else { genetic / (gi * gk).sqrt() };
        let at = |x: [usize; 4]| of(&w.omega, x);
        let own = at([i, k, i, k]) / (gi * gk);
        let sizes =
            at([i, i, i, i]) / (gi * gi) + at([k, k, k, k]) / (gk * gk) + 2.0 * at([i, i, k, k]) / (gi * gk);
        let mixed = (at([i, k, i, i]) / gi + at([i, k, k, k]) / gk) / (gi * gk).sqrt();
        let variance = own + correlation * correlation / 4.0 * sizes - correlation * mixed;
        let d = &self.traces.d[a][b];
        let mc =
            if d.len() > 1 { (stats::variance(d) / d.len() as f64).sqrt() / stats::mean(d) } else { 0.0 };
        let unknown = self.traces.jj[[a, b]] <= 0.5;
        Pair {
            shared: self.traces.shared[[a, b]],
            genetic,
            genetic_se: at([i, k, i, k]).sqrt(),
            genetic_mc_se: genetic.abs() * mc,
            residual: if unknown { f64::NAN } else { residual },
            residual_se: of(&w.psi, [i, k, i, k]).sqrt(),
            correlation,
            correlation_se: if i == k { 0.0 } else { variance.max(0.0).sqrt() },
        }
    }

    /// The variances of one trait, none below zero.
    fn estimate(&self, own: &Pair, i: usize) -> Estimate {
        let (g, r) = (own.genetic.max(0.0), own.residual.max(0.0));
        let total = g + r;
        let w = self.weights(i, i);
        let of = |u: &[f64], v: &[f64]| self.covariance(&w, (u, v), [i; 4]);
        let (dg, dr) = (r / (total * total), -g / (total * total));
        let variance = dg * dg * of(&w.omega, &w.omega)
            + dr * dr * of(&w.psi, &w.psi)
            + 2.0 * dg * dr * of(&w.omega, &w.psi);
        let inside = own.genetic > 0.0 && own.residual > 0.0;
        // An error ε of log D moves g by −gε and r by gθ̄ε.
        let mean = self.traces.mean(self.of[i].0, self.of[i].0);
        let sampling = own.genetic_mc_se * (dg - dr * mean).abs();
        Estimate {
            n: own.shared,
            var_g: g,
            var_g_se: own.genetic_se,
            var_e: r,
            var_e_se: own.residual_se,
            h2: g / total,
            h2_se: variance.max(0.0).sqrt(),
            log_likelihood: f64::NAN,
            sampling: Some(Sampling { h2: sampling, log_likelihood: f64::NAN }),
            iterations: 1,
            outcome: if inside { Outcome::Converged } else { Outcome::Boundary },
            weight: 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixed::tests::{families, groups, herd, related};
    use crate::rng::{Purpose, Stream};
    use ndarray::s;

    /// Covariances of the groups' columns by least squares on all products of records.
    fn by_definition(g: &Array2<f64>, groups: &[&Group]) -> (Array2<f64>, Array2<f64>) {
        let projected = ProjectedG::new(g, groups);
        let y = projected.projection.records_projected();
        let eye = Array2::<f64>::eye(g.nrows());
        let of: Vec<usize> =
            groups.iter().enumerate().flat_map(|(k, g)| std::iter::repeat_n(k, g.traits())).collect();
        let (mut genetic, mut residual) =
            (Array2::zeros((of.len(), of.len())), Array2::zeros((of.len(), of.len())));
        for (i, &a) in of.iter().enumerate() {
            for (k, &b) in of.iter().enumerate() {
                let narrowing = |group: usize| {
                    let of = vec![group; g.nrows()];
                    let mut all = projected.projection.weighted(&of, eye.view());
                    projected.projection.project(&of, &mut all);
                    all
                };
                let (na, nb) = (narrowing(a), narrowing(b));
                let kab = na.dot(g).dot(&nb.t());
                let jab = projected.probes(a, eye.view()).dot(&projected.probes(b, eye.view()));
                let yy = y.slice(s![.., i..=i]).dot(&y.slice(s![.., k..=k]).t());
                let of = |a: &Array2<f64>, b: &Array2<f64>| (a * b).sum();
                let (kk, kj, jj) = (of(&kab, &kab), of(&kab, &jab), of(&jab, &jab));
                let determinant = kk * jj - kj * kj;
                genetic[[i, k]] = (of(&yy, &kab) * jj - of(&yy, &jab) * kj) / determinant;
                residual[[i, k]] = (of(&yy, &jab) * kk - of(&yy, &kab) * kj) / determinant;
            }
        }
        (genetic, residual)
    }

    #[test]
    fn moments_solve_their_definition_with_gaps_weights_and_covariates() {
        let (g, y) = herd();
        for weighted in [false, true] {
            let owned = groups(&y, weighted);
            let refs: Vec<&Group> = owned.iter().collect();
            // Traits 1 | 0, 2: the groups' columns 0, 1, 2 are the traits 1, 0, 2.
            let found = haseman_elston(&g, &[vec![1], vec![0, 2]], &refs, Params::default()).unwrap();
            let (genetic, residual) = by_definition(&g, &refs);
            for (i, x) in [1, 0, 2].into_iter().enumerate() {
                for (k, z) in [1, 0, 2].into_iter().enumerate() {
                    let pair = found.pairs[x][z];
                    let scale = (genetic[[i, i]] * genetic[[k, k]]).abs().sqrt();
                    assert!((pair.genetic - genetic[[i, k]]).abs() < 1e-9 * scale, "{i} {k} {pair:?}");
                    let weight = |i: usize| owned[usize::from(i > 0)].mean_weight().sqrt();
                    let residual = residual[[i, k]] * weight(i) * weight(k);
                    assert!((pair.residual - residual).abs() < 1e-9 * scale);
                    assert_eq!(pair.genetic_mc_se, 0.0);
                }
            }
            assert_eq!((found.pairs[0][1].shared, found.pairs[1][1].shared), (42, 53));
        }
    }

    #[test]
    fn random_signs_differ_from_all_animals_by_their_monte_carlo_error() {
        let (g, _) = related(1_100);
        let mut s = Stream::new(31, Purpose::Test, 0);
        let y = Array2::from_shape_simple_fn((1_100, 2), || s.normal()) + g.slice(s![.., 0..2]);
        let group = |animals: Vec<usize>, t: usize| {
            let y = y.select(Axis(0), &animals).slice(s![.., t..=t]).to_owned();
            Group::new(animals.clone(), y, Array2::ones((animals.len(), 1)), None)
        };
        let owned = [group((0..1_000).collect(), 0), group((100..1_100).collect(), 1)];
        let refs: Vec<&Group> = owned.iter().collect();
        let (genetic, _) = by_definition(&g, &refs);
        for seed in 1..=5 {
            let params = Params { seed, ..Params::default() };
            let found = haseman_elston(&g, &[vec![0], vec![1]], &refs, params).unwrap();
            for (i, k) in [(0, 0), (0, 1), (1, 1)] {
                let pair = found.pairs[i][k];
                let off = (pair.genetic - genetic[[i, k]]) / pair.genetic_mc_se;
                assert!(off.abs() < 4.0 && off != 0.0, "{i} {k}: {off}");
                assert!(pair.genetic_mc_se < 0.15 * pair.genetic.abs());
            }
        }
    }

    #[test]
    fn standard_errors_are_the_spread_over_herds_and_estimates_are_unbiased() {
        const ANIMALS: usize = 300;
        const HERDS: u64 = 60;
        let (g, m) = related(ANIMALS);
        // Genetic variances 1 and 2, correlation 0.7; residuals 1 and 1 without correlation.
        let found: Vec<Moments> = (0..HERDS)
            .map(|herd| {
                let mut s = Stream::new(32, Purpose::Test, herd);
                let e = Array2::from_shape_simple_fn((m.ncols(), 2), || s.normal());
                let second = &e.column(0) * 0.7 + &e.column(1) * (1.0f64 - 0.49).sqrt();
                let effects = ndarray::stack![Axis(1), e.column(0), second * 2f64.sqrt()];
                let y = m.dot(&effects) + Array2::from_shape_simple_fn((ANIMALS, 2), || s.normal());
                let group = Group::new((0..ANIMALS).collect(), y, Array2::ones((ANIMALS, 1)), None);
                haseman_elston(&g, &[vec![0, 1]], &[&group], Params::default()).unwrap()
            })
            .collect();
        let check = |what: &str, truth: f64, of: &dyn Fn(&Moments) -> (f64, f64)| {
            let (values, errors): (Vec<f64>, Vec<f64>) = found.iter().map(of).unzip();
            let spread = stats::variance(&values).sqrt();
            let off = (stats::mean(&values) - truth) / spread * (HERDS as f64).sqrt();
            assert!(off.abs() < 3.5, "{what}: {} instead of {truth}", stats::mean(&values));
            let ratio = stats::mean(&errors) / spread;
            assert!((0.7..1.4).contains(&ratio), "{what}: errors {ratio} of the spread");
        };
        check("variance", 1.0, &|m| (m.pairs[0][0].genetic, m.pairs[0][0].genetic_se));
        check("covariance", 0.7 * 2f64.sqrt(), &|m| (m.pairs[0][1].genetic, m.pairs[0][1].genetic_se));
        check("residual", 0.0, &|m| (m.pairs[1][0].residual, m.pairs[1][0].residual_se));
        check("heritability", 0.5, &|m| (m.estimates[0].h2, m.estimates[0].h2_se));
    }

    #[test]
    fn traits_without_common_animals_have_a_genetic_covariance_only() {
        let (g, groups) = families(false);
        let half = |group: &Group, keep: &dyn Fn(usize) -> bool| {
            let rows: Vec<usize> = (0..group.animals().len()).filter(|&i| keep(group.animals()[i])).collect();
            let animals: Vec<usize> = rows.iter().map(|&i| group.animals()[i]).collect();
            let y = group.y().select(Axis(0), &rows).slice(s![.., 0..1]).to_owned();
            Group::new(animals, y, Array2::ones((rows.len(), 1)), None)
        };
        let owned = [half(&groups[0], &|a| a < 200), half(&groups[1], &|a| a >= 200)];
        let refs: Vec<&Group> = owned.iter().collect();
        let found = haseman_elston(&g, &[vec![0], vec![1]], &refs, Params::default()).unwrap();
        let pair = found.pairs[0][1];
        assert!(pair.shared == 0 && pair.residual.is_nan() && pair.residual_se.is_nan());
        assert!(pair.genetic.is_finite() && pair.genetic_se > 0.0 && found.bent.residual[[0, 1]] == 0.0);
    }
}
