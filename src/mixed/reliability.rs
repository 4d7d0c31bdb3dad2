//! Reliabilities of breeding values, and predictions of each record by all others.
//!
//! Exact, from the eigenvectors of the relationships beside the fixed effects: with A = h² G_OO + (1 − h²) W⁻¹ and
//! P as in [`crate::mixed`], Var(û) = σ²p h⁴ G_{·O} P G_{O·} (Henderson 1975), so that
//!
//! r²_i = 1 − PEV_i / (σ²g G_ii) = Var(û_i) / (σ²g G_ii) = h² g_i' P g_i / G_ii,   g_i = G_{O,i}.
//!
//! A record's prediction by all others, with the fixed effects estimated anew each time, is
//! y_i − (P y)_i / P_ii (Dubrule 1983): no refitting.
//!
//! By simulation, where G is too large: records y* = u* + e* are drawn from the model, û* is predicted from them, and
//! since û* and u* − û* are independent, r²_i = Σ û*² / (Σ û*² + Σ (u* − û*)²) over the draws (a formulation of
//! Hickey et al. 2009), with a Monte-Carlo standard error of 2 r² (1 − r²) / √draws.

use crate::comm::World;
use crate::error::Result;
use crate::grm::GenotypeMatrix;
use crate::linalg::factor::Eigen;
use crate::linalg::pcg::Params;
use crate::linalg::Rows;
use crate::mixed::gblup::share_matrix;
use crate::mixed::solve::{self, CgSettings, Unmonitored};
use crate::mixed::system::{Columns, Effect, MixedSystem};
use crate::mixed::Group;
use crate::progress::Progress;
use crate::rng::{Purpose, Stream};
use ndarray::{s, Array2, ArrayView2, ArrayViewMut2, Axis};
use rayon::prelude::*;
use std::ops::Range;

/// Animals worked on at once.
const BLOCK: usize = 256;
/// Columns of one block of conjugate gradients: simulated records of all traits.
const COLUMNS: usize = 64;

/// P of one group of traits for every h².
pub struct Projector<'a> {
    group: &'a Group,
    values: Vec<f64>,     // θ, (ν)
    vectors: Array2<f64>, // (ν, n_o)
}

impl<'a> Projector<'a> {
    /// Decomposes G, (n, n), on the animals of a group.
    pub fn new(g: ArrayView2<f64>, group: &'a Group) -> Result<Projector<'a>> {
        let (n, freedom) = (group.animals().len(), group.degrees_of_freedom());
        let mut a = group.weighted_g(g);
        // As for REML: along the fixed effects the eigenvalues are 0, all others at least `shift`.
        let shift = a.diag().sum().abs() / n as f64 + f64::MIN_POSITIVE;
        a.diag_mut().mapv_inplace(|d| d + shift);
        group.project(&mut a);
        let mut a = a.reversed_axes();
        group.project(&mut a);
        let Eigen { values, vectors } = Eigen::new(a)?;
        let values = values[n - freedom..].iter().map(|v| (v - shift).max(0.0)).collect();
        Ok(Projector { group, values, vectors: vectors.slice_move(s![n - freedom.., ..]) })
    }

    /// b'Pb of each column b of a block, (n_o, k), for every h², (k, t).
    pub fn forms(&self, block: ArrayView2<f64>, h2: &[f64]) -> Array2<f64> {
        let along = self.vectors.dot(&self.group.scaled(block));
        self.weighed(along, h2)
    }

    /// P_ii of every record for every h², (n_o, t).
    pub fn diagonal(&self, h2: &[f64]) -> Array2<f64> {
        let mut out = Array2::zeros((self.group.animals().len(), h2.len()));
        blocks(out.view_mut(), |first, mut out| {
            let some = s![.., first..first + out.nrows()];
            out.assign(&self.weighed(self.vectors.slice(some).to_owned(), h2));
        });
        for (i, mut row) in out.rows_mut().into_iter().enumerate() {
            row /= self.group.inverse_weight(i);
        }
        out
    }

    /// Σ_k v_ki² / s_k(h²) of the columns of v, (ν, k), as (k, t).
    fn weighed(&self, mut v: Array2<f64>, h2: &[f64]) -> Array2<f64> {
        v.mapv_inplace(|x| x * x);
        let inverse = |(k, t): (usize, usize)| (h2[t] * self.values[k] + 1.0 - h2[t]).recip();
        v.t().dot(&Array2::from_shape_fn((self.values.len(), h2.len()), inverse))
    }

    /// r² of all n animals for every h², (n, t); NaN where G_ii is 0. `g` is the whole G.
    pub fn reliabilities(&self, g: ArrayView2<f64>, h2: &[f64]) -> Array2<f64> {
        let mut out = Array2::zeros((g.nrows(), h2.len()));
        blocks(out.view_mut(), |first, mut out| {
            let rows = g.slice(s![first..first + out.nrows(), ..]);
            let among = rows.select(Axis(1), self.group.animals());
            out.assign(&self.forms(among.t(), h2));
            for (mut row, i) in out.rows_mut().into_iter().zip(first..) {
                row.iter_mut().zip(h2).for_each(|(r, h)| *r *= h / g[[i, i]]);
            }
        });
        out
    }

    /// Each record as all others predict it, fixed effects included, (n_o, t), from x = P y, (n_o, t). NaN where a
    /// record alone decides on a fixed effect.
    pub fn predicted_by_others(&self, h2: &[f64], x: ArrayView2<f64>) -> Array2<f64> {
        let mut out = self.diagonal(h2);
        for (i, mut row) in out.rows_mut().into_iter().enumerate() {
            for (t, p) in row.iter_mut().enumerate() {
                let alone = *p * self.group.inverse_weight(i) * (1.0 - h2[t]) <= 1e-12;
                *p = if alone { f64::NAN } else { self.group.y()[[i, t]] - x[[i, t]] / *p };
            }
        }
        out
    }
}

/// Fills blocks of rows of `out` on all threads; `fill` learns the number of the first row.
fn blocks(mut out: ArrayViewMut2<f64>, fill: impl Fn(usize, ArrayViewMut2<f64>) + Sync) {
    let parts: Vec<_> = out.axis_chunks_iter_mut(Axis(0), BLOCK).enumerate().collect();
    parts.into_par_iter().for_each(|(k, part)| fill(k * BLOCK, part));
}

/// One group's results.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Exact {
    /// r², (n, t).
    pub reliability: Array2<f64>,
    /// Records as all others predict them, (n_o, t).
    pub predicted: Array2<f64>,
}

/// Both results of all groups, dealt over the ranks; G (n, n) stands on the root. `h2` and x = P y are those of each
/// group's traits. Collective; every rank receives all.
pub fn exact(
    world: &World,
    g: Option<Array2<f64>>,
    groups: &[&Group],
    fits: &[(Vec<f64>, Array2<f64>)],
) -> Result<Vec<Exact>> {
    let g = share_matrix(world, g, groups.len());
    let own = (world.rank()..groups.len()).step_by(world.size());
    let one = |k: usize| -> Result<(usize, Exact)> {
        let (h2, x) = &fits[k];
        let p = Projector::new(g.view(), groups[k])?;
        let predicted = p.predicted_by_others(h2, x.view());
        Ok((k, Exact { reliability: p.reliabilities(g.view(), h2), predicted }))
    };
    let found = world.agree(own.map(one).collect::<Result<Vec<_>>>())?;
    let mut all: Vec<(usize, Exact)> = world.all_gather(&found).into_iter().flatten().collect();
    all.sort_by_key(|(k, _)| *k);
    Ok(all.into_iter().map(|(_, e)| e).collect())
}

/// r² of all n animals by simulation, (n, t) for each group, from `draws` simulated sets of records. Collective.
pub fn sampled(
    markers: &GenotypeMatrix,
    groups: &[&Group],
    h2: &[Vec<f64>],
    draws: usize,
    seed: u64,
) -> Result<Vec<Array2<f64>>> {
    let settings = CgSettings::from(Params { tolerance: 1e-8, ..Params::default() });
    let traits: Vec<(usize, f64)> =
        h2.iter().enumerate().flat_map(|(g, h2)| h2.iter().map(move |&h2| (g, h2))).collect();
    let each = (COLUMNS / traits.len().max(1)).clamp(1, draws.max(1));
    let rows = markers.row_layout();
    let shape = (rows.count(), traits.len());
    let (mut explained, mut left) = (Array2::<f64>::zeros(shape), Array2::<f64>::zeros(shape));
    let low_rank = solve::sketch(markers, traits.len() * each, &settings)?;
    let effects = [Effect::of_rows(markers)];
    let progress = Progress::new("reliabilities", draws);
    // The last batch may have fewer draws, and then has a system of its own.
    let batches: Vec<Range<usize>> =
        (0..draws).step_by(each).map(|first| first..(first + each).min(draws)).collect();
    for alike in batches.chunk_by(|a, b| a.len() == b.len()) {
        // The draws of a trait stand side by side.
        let (of, h2) = traits.iter().flat_map(|&of_trait| vec![of_trait; alike[0].len()]).unzip();
        let columns = Columns::of_one(of, h2);
        let system = MixedSystem::new((rows.clone(), groups), &effects, columns, Some(&low_rank))?;
        for some in alike {
            let u = genetic_values(markers, some.clone(), seed);
            let b = simulated(&system, (&u, &noise(&rows, some.clone(), seed)), &traits);
            let (x, info) = solve::monitored(&system, b.view(), settings.params, &mut Unmonitored)?;
            solve::check(&info, settings.params.tolerance)?;
            let found = markers.grm_times(system.weighted(x.view()).view());
            for ((i, t), explained) in explained.indexed_iter_mut() {
                let h2 = traits[t].1;
                for draw in 0..some.len() {
                    let found = h2 * found[[i, t * some.len() + draw]];
                    *explained += found * found;
                    left[[i, t]] += (h2.sqrt() * u[[i, draw]] - found).powi(2);
                }
            }
            progress.add(some.len());
        }
    }
    explained.zip_mut_with(&left, |a, b| *a = if *a > 0.0 { *a / (*a + b) } else { 0.0 });
    let all = rows.gather(explained.view());
    let mut first = 0;
    let of_group = |h2: &Vec<f64>| {
        first += h2.len();
        all.slice(s![.., first - h2.len()..first]).to_owned()
    };
    Ok(h2.iter().map(of_group).collect())
}

/// The Monte-Carlo standard error of a sampled reliability.
pub fn sampling_error(r2: f64, draws: usize) -> f64 {
    2.0 * r2 * (1.0 - r2) / (draws as f64).sqrt()
}

/// Genetic values with the variance G, this rank's rows (n_r, draws): Z a / √c for standard normal effects a.
fn genetic_values(markers: &GenotypeMatrix, draws: Range<usize>, seed: u64) -> Array2<f64> {
    let mut effects = Array2::zeros((markers.snps().len(), draws.len()));
    for (j, mut row) in markers.snps().zip(effects.rows_mut()) {
        for (x, draw) in row.iter_mut().zip(draws.clone()) {
            *x = Stream::new(seed, Purpose::DrawnEffects, ((draw as u64) << 32) + j as u64).normal();
        }
    }
    markers.row_layout().part(markers.times(effects.view()).view()) / markers.scale().sqrt()
}

/// Standard normal noise of every animal, this rank's rows (n_r, draws).
fn noise(rows: &Rows, draws: Range<usize>, seed: u64) -> Array2<f64> {
    let of = |(i, draw): (usize, usize)| {
        let index = ((draws.start + draw) as u64) << 32;
        Stream::new(seed, Purpose::DrawnResiduals, index + (rows.own().start + i) as u64).normal()
    };
    Array2::from_shape_fn((rows.count(), draws.len()), of)
}

/// S W^½ y for simulated records of unit variance, y = √h² u + √((1 − h²)/w) e, all draws of one trait after another.
fn simulated(
    system: &MixedSystem,
    (u, e): (&Array2<f64>, &Array2<f64>),
    traits: &[(usize, f64)],
) -> Array2<f64> {
    let (projection, draws) = (system.projection(), u.ncols());
    let value = |(i, column): (usize, usize)| {
        let ((group, h2), draw) = (traits[column / draws], column % draws);
        let root = projection.sqrt_weights(group)[i];
        root * h2.sqrt() * u[[i, draw]] + (1.0 - h2).sqrt() * e[[i, draw]]
    };
    let mut b = Array2::from_shape_fn((u.nrows(), traits.len() * draws), value);
    projection.within(system.group_of_columns(), &mut b);
    b
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device;
    use crate::grm::{explicit, Scaling};
    use crate::linalg::factor::Cholesky;
    use crate::mixed::gblup::{fit_group, Solver};
    use crate::mixed::reml::Given;
    use crate::mixed::tests::{groups, herd, N};
    use crate::packed::Packed;

    const H2: f64 = 0.35;

    /// P by its definition, in units of σ²p, from the design of a group.
    fn p_matrix(g: &Array2<f64>, group: &Group) -> Array2<f64> {
        let o = group.animals();
        let mut a = g.select(Axis(0), o).select(Axis(1), o) * H2;
        (0..o.len()).for_each(|i| a[[i, i]] += (1.0 - H2) * group.inverse_weight(i));
        let inverse = Cholesky::new(a).unwrap().solve(Array2::eye(o.len()).view());
        // The basis spans W^½ X: X itself up to a change of columns is W^-½ times it.
        let mut x = group.basis().to_owned();
        x.rows_mut().into_iter().enumerate().for_each(|(i, mut row)| row *= group.inverse_weight(i).sqrt());
        let ax = inverse.dot(&x);
        let small = Cholesky::new(x.t().dot(&ax)).unwrap().solve(Array2::eye(x.ncols()).view());
        &inverse - &ax.dot(&small).dot(&ax.t())
    }

    #[test]
    fn reliabilities_are_those_of_the_prediction_error_variances() {
        let (g, y) = herd();
        for weighted in [false, true] {
            for group in &groups(&y, weighted) {
                let p = p_matrix(&g, group);
                let c = g.select(Axis(1), group.animals()); // (n, n_o)
                let pev = &g * H2 - c.dot(&p).dot(&c.t()) * (H2 * H2);
                let got = Projector::new(g.view(), group).unwrap().reliabilities(g.view(), &[H2, 0.0]);
                for i in 0..N {
                    let want = 1.0 - pev[[i, i]] / (H2 * g[[i, i]]);
                    assert!((got[[i, 0]] - want).abs() < 1e-9, "{i}: {} {want}", got[[i, 0]]);
                    assert_eq!(got[[i, 1]], 0.0, "nothing is known where h2 = 0");
                }
            }
        }
    }

    #[test]
    fn predictions_by_others_are_those_of_refitting_without_each_record() {
        let (g, y) = herd();
        for weighted in [false, true] {
            let group = &groups(&y, weighted)[1];
            let given = [Given { h2: H2, total: Some(1.0) }; 2];
            let fit = fit_group(g.view(), group, Some(&given), Solver::Cholesky).unwrap();
            let x = fit.py.select(Axis(0), group.animals());
            let projector = Projector::new(g.view(), group).unwrap();
            let got = projector.predicted_by_others(&[H2, H2], x.view());
            for left_out in 0..group.animals().len() {
                let rest: Vec<usize> = (0..group.animals().len()).filter(|&i| i != left_out).collect();
                let others = group.subset(&rest);
                let again = fit_group(g.view(), &others, Some(&given), Solver::Cholesky).unwrap();
                let animal = group.animals()[left_out];
                for t in 0..2 {
                    let want =
                        again.ebv[[animal, t]] + group.design().row(left_out).dot(&again.fixed.column(t));
                    assert!(
                        (got[[left_out, t]] - want).abs() < 1e-8,
                        "{left_out}: {} {want}",
                        got[[left_out, t]]
                    );
                }
            }
        }
    }

    #[test]
    fn a_record_that_alone_decides_on_an_effect_has_no_prediction() {
        let (g, y) = herd();
        let animals: Vec<usize> = (0..30).collect();
        let design = Array2::from_shape_fn((30, 2), |(i, j)| f64::from(u8::from(j == 0 || i == 4)));
        let group = Group::new(animals, y.slice(s![0..30, 0..1]).to_owned(), design, None);
        let x = Array2::ones((30, 1));
        let got = Projector::new(g.view(), &group).unwrap().predicted_by_others(&[H2], x.view());
        assert!(got[[4, 0]].is_nan() && got.iter().filter(|x| x.is_nan()).count() == 1);
    }

    #[test]
    fn sampled_reliabilities_differ_from_exact_ones_by_their_monte_carlo_error() {
        let (n, m, draws) = (50, 300, 400);
        let mut s = Stream::new(5, Purpose::Test, 0);
        let codes: Vec<u8> = (0..n * m).map(|_| s.below(3) as u8).collect();
        let packed = Packed::from_codes(n, m, &codes);
        let backend = device::open("cpu").unwrap();
        let markers =
            GenotypeMatrix::from_packed(&World::alone(), backend, packed, 0, m, Scaling::VanRaden1).unwrap();
        let g = explicit::grm(&markers).unwrap().unwrap();
        let y = Array2::from_shape_simple_fn((N, 3), || s.normal());
        let some: Vec<usize> = (0..n - 10).collect();
        let group = |w: bool| {
            let weights = w.then(|| some.iter().map(|i| 0.5 + (i % 3) as f64).collect());
            let y = y.select(Axis(0), &some).slice(s![.., 0..2]).to_owned();
            Group::new(some.clone(), y, Array2::ones((some.len(), 1)), weights)
        };
        let (plain, weighted, h2) = (group(false), group(true), vec![0.6, 0.2]);
        let groups = [&plain, &weighted];
        let got = sampled(&markers, &groups, &[h2.clone(), h2.clone()], draws, 3).unwrap();
        let mut squares = Vec::new();
        for (group, got) in groups.iter().zip(&got) {
            let want = Projector::new(g.view(), group).unwrap().reliabilities(g.view(), &h2);
            for (got, want) in got.iter().zip(&want).filter(|(_, w)| **w > 0.01) {
                squares.push(((got - want) / sampling_error(*want, draws)).powi(2));
            }
        }
        let spread = (squares.iter().sum::<f64>() / squares.len() as f64).sqrt();
        assert!((0.8..1.2).contains(&spread), "errors are {spread} times what they should be");
    }
}
