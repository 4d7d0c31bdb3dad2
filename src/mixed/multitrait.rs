//! All traits in one model: y = Wb + u + e with cov(u) = G0 ⊗ G and cov(e) = R0 within animals, records masked.
//!
//! With X (n, t) zero where there is no record, V maps X to mask∘(G X G0 + X R0) (in records scaled by √w, as
//! everywhere). One system over all traits, S V S x = S y with the fixed effects of each trait projected out, is
//! solved by conjugate gradients: each iteration multiplies G by t columns, as single traits would. Traits with few
//! records borrow from correlated ones with many.
//!
//! The preconditioner inverts V of each animal alone, g_ii G0 + R0 on its recorded traits, by the transformation
//! that makes G0 and R0 diagonal (Thompson 1977), one for each pattern of records.

use crate::error::{Error, Result};
use crate::linalg::factor::{Cholesky, Eigen};
use crate::linalg::pcg::{self, Params, Systems};
use crate::linalg::Operator;
use crate::mixed::covariances::Covariances;
use crate::mixed::gblup::Fit;
use crate::mixed::projected::{roots, Projected};
use crate::mixed::{Estimate, Group};
use ndarray::{Array1, Array2, ArrayView2, Axis};
use std::collections::HashMap;

/// Patterns of records with an inverse of their own; rarer ones share that of all traits.
const PATTERNS: usize = 512;

/// Fits all traits together; `traits[k]` are the numbers of the traits of group k, `operator` is G, R0 positive
/// definite and G0 semi-definite. The traits of the fit are in order. Its `py` is such that SNP effects follow as for
/// single traits. Collective as the operator is.
pub fn fit_joint(
    operator: &dyn Operator,
    traits: &[Vec<usize>],
    groups: &[&Group],
    covariances: &Covariances,
    params: Params,
) -> Result<Fit> {
    let joint = Joint::new(operator, traits, groups, covariances)?;
    let y = joint.projected.records();
    let shape = y.dim();
    let flat = flattened(y);
    let (x, info) = pcg::solve(&joint, flat.view(), params);
    let residual = info.residuals[0];
    log::info!("joint conjugate gradients: {} products, residual {residual:.1e}", info.iterations);
    if residual.is_nan() || residual > 1e-8 {
        return Err(Error::failed(
            "conjugate gradients over all traits",
            format!("stopped at a residual of {residual:.1e} after {} products", info.iterations),
            "check the covariances for correlations near 1 or variances near 0",
        ));
    }
    joint.finish(x.into_shape_with_order(shape).expect("one column of all"))
}

/// V of all traits; the columns of blocks are the traits group after group.
struct Joint<'a> {
    projected: Projected<'a>,
    order: Vec<usize>,    // trait of each column
    of: Vec<usize>,       // group of each column
    genetic: Array2<f64>, // G0 in the order of the columns
    residual: Array2<f64>,
    roots: Array2<f64>,     // (n, t), √w of records, zero where there is none
    diagonal: Vec<f64>,     // g_ii times the mean weight of i's records
    patterns: Vec<Pattern>, // the first is that of all traits
    pattern: Vec<usize>,    // of each animal
}

/// The canonical transformation T of some columns: T R0 T' = I, T G0 T' = diag(λ).
struct Pattern {
    columns: Vec<usize>,
    transform: Array2<f64>,
    lambda: Vec<f64>,
}

impl Pattern {
    fn new(columns: Vec<usize>, genetic: &Array2<f64>, residual: &Array2<f64>) -> Result<Pattern> {
        let some = |a: &Array2<f64>| a.select(Axis(0), &columns).select(Axis(1), &columns);
        // R0^-½ from eigenvalues; the factor of Cholesky only tells whether R0 is positive definite.
        Cholesky::new(some(residual))?;
        let Eigen { values, vectors } = Eigen::new(some(residual))?;
        let mut root = vectors;
        root.rows_mut().into_iter().zip(&values).for_each(|(mut row, v)| row /= v.sqrt());
        let Eigen { values, vectors } = Eigen::new(root.dot(&some(genetic)).dot(&root.t()))?;
        let lambda = values.into_iter().map(|v| v.max(0.0)).collect();
        Ok(Pattern { columns, transform: vectors.dot(&root), lambda })
    }

    /// (d G0 + R0)⁻¹ v.
    fn solve(&self, d: f64, v: &Array1<f64>) -> Array1<f64> {
        let mut along = self.transform.dot(v);
        along.iter_mut().zip(&self.lambda).for_each(|(x, l)| *x /= l * d + 1.0);
        self.transform.t().dot(&along)
    }
}

impl<'a> Joint<'a> {
    fn new(
        operator: &'a dyn Operator,
        traits: &[Vec<usize>],
        groups: &'a [&'a Group],
        covariances: &Covariances,
    ) -> Result<Self> {
        let n = operator.dimension();
        let order: Vec<usize> = traits.concat();
        let of: Vec<usize> = traits.iter().enumerate().flat_map(|(g, t)| vec![g; t.len()]).collect();
        let sorted = |a: &Array2<f64>| a.select(Axis(0), &order).select(Axis(1), &order);
        let (genetic, residual) = (sorted(&covariances.genetic), sorted(&covariances.residual));
        let of_group: Vec<Vec<f64>> = groups.iter().map(|g| roots(n, g)).collect();
        let roots = Array2::from_shape_fn((n, of.len()), |(i, k)| of_group[of[k]][i]);
        let mut diagonal = operator.diagonal();
        for (d, row) in diagonal.iter_mut().zip(roots.rows()) {
            let recorded = row.iter().filter(|r| **r > 0.0).count().max(1);
            *d *= row.iter().map(|r| r * r).sum::<f64>() / recorded as f64;
        }
        let (patterns, pattern) = patterns(&roots, &genetic, &residual)?;
        let projected = Projected { operator, groups };
        Ok(Joint { projected, order, of, genetic, residual, roots, diagonal, patterns, pattern })
    }

    fn block(&self, flat: ArrayView2<f64>) -> Array2<f64> {
        let shape = self.roots.dim();
        Array2::from_shape_vec(shape, flat.iter().copied().collect()).expect("all animals and traits")
    }

    /// From x = S y-scaled solutions to the fitted model.
    fn finish(&self, x: Array2<f64>) -> Result<Fit> {
        let (n, t) = x.dim();
        let groups = self.projected.groups;
        let effects = groups.first().map_or(0, |g| g.effects());
        let along = (&x * &self.roots).dot(&self.genetic);
        let u = self.projected.operator.apply(along.view());
        let e = x.dot(&self.residual);
        let mut fit = Fit {
            estimates: Vec::new(),
            fixed: Array2::zeros((effects, t)),
            ebv: Array2::zeros((n, t)),
            py: Array2::zeros((n, t)),
        };
        let mut estimates: Vec<Option<Estimate>> = vec![None; t];
        let mut first = 0;
        for (k, (&number, &g)) in self.order.iter().zip(&self.of).enumerate() {
            let group = groups[g];
            if k > 0 && self.of[k - 1] != g {
                first = k;
            }
            let y = group.y();
            let fitted: Array1<f64> = group
                .animals()
                .iter()
                .enumerate()
                .map(|(i, &a)| y[[i, k - first]] - u[[a, k]] - e[[a, k]] / self.roots[[a, k]])
                .collect();
            fit.fixed.column_mut(number).assign(&group.effects_of(fitted.view()));
            fit.ebv.column_mut(number).assign(&u.column(k));
            let (own, noise) = (self.genetic[[k, k]], self.residual[[k, k]]);
            fit.py.column_mut(number).assign(&(&along.column(k) / own));
            let total = own + noise;
            estimates[number] = Some(Estimate::given(group.animals().len(), own / total, total, f64::NAN));
        }
        fit.estimates = estimates.into_iter().map(|e| e.expect("every trait has a column")).collect();
        Ok(fit)
    }
}

/// The patterns of records and that of each animal.
fn patterns(
    roots: &Array2<f64>,
    genetic: &Array2<f64>,
    residual: &Array2<f64>,
) -> Result<(Vec<Pattern>, Vec<usize>)> {
    let all: Vec<usize> = (0..roots.ncols()).collect();
    let mut patterns = vec![Pattern::new(all.clone(), genetic, residual)?];
    let mut known: HashMap<Vec<usize>, usize> = HashMap::from([(all, 0)]);
    let mut of = Vec::with_capacity(roots.nrows());
    for row in roots.rows() {
        let columns: Vec<usize> = (0..row.len()).filter(|&k| row[k] > 0.0).collect();
        let at = match known.get(&columns) {
            Some(&at) => at,
            None if patterns.len() < PATTERNS && !columns.is_empty() => {
                patterns.push(Pattern::new(columns.clone(), genetic, residual)?);
                known.insert(columns, patterns.len() - 1);
                patterns.len() - 1
            }
            None => 0,
        };
        of.push(at);
    }
    Ok((patterns, of))
}

impl Systems for Joint<'_> {
    fn apply(&self, _: &[usize], flat: ArrayView2<f64>) -> Array2<f64> {
        let x = self.block(flat);
        let along = (&x * &self.roots).dot(&self.genetic);
        let mut out = self.projected.operator.apply(along.view()) * &self.roots;
        out += &x.dot(&self.residual);
        self.projected.within(&self.of, &mut out);
        flattened(out)
    }

    fn precondition(&self, _: &[usize], flat: ArrayView2<f64>) -> Array2<f64> {
        let mut out = self.block(flat);
        for (i, mut row) in out.rows_mut().into_iter().enumerate() {
            let pattern = &self.patterns[self.pattern[i]];
            let some: Array1<f64> = pattern.columns.iter().map(|&k| row[k]).collect();
            let solved = pattern.solve(self.diagonal[i], &some);
            pattern.columns.iter().zip(&solved).for_each(|(&k, &x)| row[k] = x);
        }
        self.projected.within(&self.of, &mut out);
        flattened(out)
    }
}

/// A block as one column.
fn flattened(block: Array2<f64>) -> Array2<f64> {
    let size = block.len();
    block.as_standard_layout().into_owned().into_shape_with_order((size, 1)).expect("standard layout")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::factor::Cholesky;
    use crate::mixed::gblup::{fit_group, join, Solver};
    use crate::mixed::reml::Given;
    use crate::mixed::tests::{groups, herd, independent, N};
    use ndarray::{array, s};

    /// Trait 2 on the first group's animals, 3, 0 and 1 on the second's.
    fn four(weighted: bool) -> (Array2<f64>, Vec<Vec<usize>>, Vec<Group>) {
        let (g, y) = herd();
        let mut owned = groups(&y, weighted);
        let more = &y.column(0) * 0.5 + y.column(2);
        let second = &owned[1];
        let rows = ndarray::concatenate![
            Axis(1),
            second.y(),
            more.select(Axis(0), second.animals()).insert_axis(Axis(1))
        ];
        let weights = weighted.then(|| (0..rows.nrows()).map(|i| 1.0 / second.noise(i)).collect());
        let design = independent().select(Axis(0), second.animals());
        let design = design.select(Axis(1), &[0, 1, 1, 2]);
        owned[1] = Group::new(second.animals().to_vec(), rows, design, weights);
        (g, vec![vec![2], vec![3, 0, 1]], owned)
    }

    fn covariances() -> Covariances {
        let genetic =
            array![[4.0, 1.0, 2.0, 0.5], [1.0, 3.0, -1.0, 0.2], [2.0, -1.0, 5.0, 1.0], [0.5, 0.2, 1.0, 2.0]];
        let residual =
            array![[9.0, 2.0, 1.0, 3.0], [2.0, 8.0, 0.0, 1.0], [1.0, 0.0, 7.0, -2.0], [3.0, 1.0, -2.0, 6.0]];
        Covariances { genetic, residual }
    }

    #[test]
    fn the_joint_model_solves_its_definition_with_gaps_and_weights() {
        let c = covariances();
        for weighted in [false, true] {
            let (g, traits, owned) = four(weighted);
            let refs: Vec<&Group> = owned.iter().collect();
            let fit = fit_joint(&g, &traits, &refs, &c, Params::default()).unwrap();
            // All records one after the other: (trait, animal, y, noise).
            let mut records = Vec::new();
            for (group, numbers) in owned.iter().zip(&traits) {
                for (k, &t) in numbers.iter().enumerate() {
                    for (i, &a) in group.animals().iter().enumerate() {
                        records.push((t, a, group.y()[[i, k]], group.noise(i)));
                    }
                }
            }
            let size = records.len();
            let v = Array2::from_shape_fn((size, size), |(i, k)| {
                let ((t, a, _, x), (u, b, _, y)) = (records[i], records[k]);
                let noise = if a == b { c.residual[[t, u]] * (x * y).sqrt() } else { 0.0 };
                c.genetic[[t, u]] * g[[a, b]] + noise
            });
            let base = independent();
            let x = Array2::from_shape_fn((size, 12), |(i, j)| {
                if j / 3 == records[i].0 {
                    base[[records[i].1, j % 3]]
                } else {
                    0.0
                }
            });
            let y = Array2::from_shape_fn((size, 1), |(i, _)| records[i].2);
            let factor = Cholesky::new(v).unwrap();
            let small = Cholesky::new(x.t().dot(&factor.solve(x.view()))).unwrap();
            let b = small.solve(x.t().dot(&factor.solve(y.view())).view());
            let py = factor.solve((&y - &x.dot(&b)).view());
            for t in 0..4 {
                for a in 0..N {
                    let terms = records.iter().zip(&py);
                    let u: f64 = terms.map(|(r, p)| c.genetic[[t, r.0]] * g[[a, r.1]] * p).sum();
                    assert!(
                        (u - fit.ebv[[a, t]]).abs() < 1e-8,
                        "trait {t} animal {a}: {u} {}",
                        fit.ebv[[a, t]]
                    );
                }
                for (k, j) in [0, 1, 3].into_iter().enumerate() {
                    assert!((b[[3 * t + k, 0]] - fit.fixed[[j, t]]).abs() < 1e-7, "trait {t} effect {j}");
                }
            }
            // SNP effects are made from var_g G py.
            for (t, e) in fit.estimates.iter().enumerate() {
                let again = g.dot(&fit.py.column(t)) * e.var_g;
                assert!((&again - &fit.ebv.column(t)).iter().all(|d| d.abs() < 1e-9));
            }
        }
    }

    #[test]
    fn without_covariances_traits_are_alone() {
        let c = covariances();
        let alone = Covariances {
            genetic: Array2::from_diag(&c.genetic.diag()),
            residual: Array2::from_diag(&c.residual.diag()),
        };
        let (g, traits, owned) = four(true);
        let refs: Vec<&Group> = owned.iter().collect();
        let joint = fit_joint(&g, &traits, &refs, &alone, Params::default()).unwrap();
        let fits = refs.iter().zip(&traits).map(|(group, numbers)| {
            let given = |&t: &usize| {
                let total = c.genetic[[t, t]] + c.residual[[t, t]];
                Given { h2: c.genetic[[t, t]] / total, total: Some(total) }
            };
            let given: Vec<Given> = numbers.iter().map(given).collect();
            fit_group(g.view(), group, Some(&given), Solver::Cholesky).unwrap()
        });
        let single = join(&traits, fits.collect());
        assert!((&joint.ebv - &single.ebv).iter().all(|d| d.abs() < 1e-8));
        assert!((&joint.py - &single.py).iter().all(|d| d.abs() < 1e-8));
        assert!((&joint.fixed - &single.fixed).iter().all(|d| d.abs() < 1e-7));
        assert_eq!(joint.estimates[3].n, single.estimates[3].n);
    }

    #[test]
    fn a_sparsely_recorded_trait_is_predicted_better_together_with_a_correlated_one() {
        use crate::mixed::tests::related;
        use crate::rng::{Purpose, Stream};
        let (g, m) = related(300);
        let mut gains = Vec::new();
        for herd in 0..6 {
            let mut s = Stream::new(41, Purpose::Test, herd);
            let e = Array2::from_shape_simple_fn((m.ncols(), 2), || s.normal());
            let second = &e.column(0) * 0.9 + &e.column(1) * (1.0f64 - 0.81).sqrt();
            let truth = m.dot(&ndarray::stack![Axis(1), e.column(0), second]);
            let y = &truth + Array2::from_shape_simple_fn((300, 2), || s.normal());
            let all: Vec<usize> = (0..300).collect();
            let few: Vec<usize> = (0..60).collect();
            let group = |animals: &[usize], t: usize| {
                let y = y.select(Axis(0), animals).slice(s![.., t..=t]).to_owned();
                Group::new(animals.to_vec(), y, Array2::ones((animals.len(), 1)), None)
            };
            let owned = [group(&all, 0), group(&few, 1)];
            let refs: Vec<&Group> = owned.iter().collect();
            let with = |r: f64| {
                let genetic = array![[1.0, r], [r, 1.0]];
                let c = Covariances { genetic, residual: Array2::eye(2) };
                let fit = fit_joint(&g, &[vec![0], vec![1]], &refs, &c, Params::default()).unwrap();
                let column = |a: &Array2<f64>| a.slice(s![60.., 1]).to_vec();
                crate::stats::pearson(&column(&fit.ebv), &column(&truth))
            };
            gains.push(with(0.9) - with(0.0));
        }
        assert!(gains.iter().all(|&g| g > 0.0) && crate::stats::mean(&gains) > 0.05, "{gains:?}");
    }
}
