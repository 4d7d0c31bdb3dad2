//! Models of several random effects by brute force in plain f64.

use super::*;
use crate::linalg::pcg::Params;
use crate::linalg::Rows;
use crate::mixed::large::LargeModel;
use crate::mixed::reml::components::estimate_model;
use crate::mixed::reml::monte_carlo;
use crate::mixed::reml::Outcome;
use crate::mixed::solve::{CgSettings, Unmonitored};
use crate::mixed::tests::inverse;
use crate::records::{LongRecords, Phenotypes};
use crate::rng::{Purpose, Stream};
use ndarray::{array, concatenate};

/// Animals, of whom the last three have no record.
const ANIMALS: usize = 24;
/// Lines of records.
const LINES: usize = 90;

struct Dairy {
    long: LongRecords,
    g: Array2<f64>,
    effects: Vec<RandomEffect>,
}

/// Several lines of most animals, in herd-years and parities; the second trait with gaps.
fn dairy(weighted: bool, absorb: bool) -> Dairy {
    let mut s = Stream::new(17, Purpose::Test, 0);
    let mut m = Array2::from_shape_simple_fn((ANIMALS, 60), || f64::from(s.below(3) as u8));
    for mut column in m.columns_mut() {
        let mean = column.sum() / ANIMALS as f64;
        column -= mean;
    }
    let g = m.dot(&m.t()) / 30.0;
    let animal: Vec<usize> = (0..LINES).map(|i| (i * i + 5 * i) % (ANIMALS - 3)).collect();
    let factor = |name: &str, of: &dyn Fn(usize) -> usize| {
        let levels: Vec<String> = (0..LINES).map(|i| format!("{name}{}", of(i))).collect();
        Factor::new(name, levels.iter().map(String::as_str))
    };
    let herd = factor("herd", &|i| (7 * i + i / 9) % 11);
    let year = factor("year", &|i| i % 5);
    let u = m.dot(&Array2::from_shape_simple_fn((60, 2), || 0.3 * s.normal()));
    let pe = Array2::from_shape_simple_fn((ANIMALS, 2), || s.normal());
    let of_herd = Array2::from_shape_simple_fn((11, 2), || s.normal());
    let mut y = Array2::from_shape_fn((LINES, 2), |(i, t)| {
        20.0 + u[[animal[i], t]] + pe[[animal[i], t]] + of_herd[[herd.level[i], t]] + 1.5 * s.normal()
    });
    (0..LINES).filter(|i| i % 8 == 3).for_each(|i| y[[i, 1]] = f64::NAN);
    let ages: Vec<f64> = (0..LINES).map(|_| 24.0 + s.normal()).collect();
    let first = usize::from(absorb); // no intercept beside an absorbed class
    let design =
        Array2::from_shape_fn((LINES, 2 - first), |(i, j)| if j + first == 0 { 1.0 } else { ages[i] });
    let weights = weighted.then(|| Array2::from_shape_fn((LINES, 2), |(i, t)| 0.5 + ((i + t) % 4) as f64));
    let names = ["milk", "fat"].map(String::from).to_vec();
    let effects_names = ["intercept", "age"].map(String::from)[first..].to_vec();
    let records =
        Phenotypes { traits: names, y, effects: effects_names, design, weights, ..Phenotypes::default() };
    let ids: Vec<String> = (0..ANIMALS).map(|i| format!("cow{i:02}")).collect();
    let mut long = LongRecords { records, animal, classes: vec![herd.clone()], absorbed: None };
    let mut permanent = RandomEffect::of_class(long.animals_as_class("permanent_environment", &ids));
    permanent.permanent = true;
    let mut within = RandomEffect::of_animals("additive*year", 0);
    within.class = Some(year.clone());
    let mut effects = vec![RandomEffect::of_animals("additive", 0), permanent, within];
    match absorb {
        true => long.absorbed = Some(herd),
        false => effects.push(RandomEffect::of_class(herd)),
    }
    Dairy { long, g, effects }
}

/// Z K Z' of a group's records for each effect, by the definitions.
fn covariances(d: &Dairy, group: &Group) -> Vec<Array2<f64>> {
    let n = group.rows().len();
    let of = |effect: &RandomEffect| {
        Array2::from_shape_fn((n, n), |(i, j)| {
            let (r, q) = (group.rows()[i], group.rows()[j]);
            let same = effect.class.as_ref().is_none_or(|c| c.level[r] == c.level[q]);
            let g = effect.relation.map_or(1.0, |_| d.g[[d.long.animal[r], d.long.animal[q]]]);
            if same {
                g
            } else {
                0.0
            }
        })
    };
    d.effects.iter().map(of).collect()
}

/// V⁻¹, b̂ with the levels of an absorbed class behind, V⁻¹(y − Xb̂) and the restricted likelihood of a trait.
fn brute(d: &Dairy, group: &Group, t: usize, variances: &[f64]) -> (Array1<f64>, Array1<f64>, f64) {
    let n = group.rows().len();
    let mut v = Array2::zeros((n, n));
    covariances(d, group).iter().zip(variances).for_each(|(k, s)| v.scaled_add(*s, k));
    let residual = variances[d.effects.len()] / group.mean_weight();
    (0..n).for_each(|i| v[[i, i]] += residual * group.inverse_weight(i));
    let mut x = group.design().to_owned();
    if let Some(class) = &d.long.absorbed {
        let dummies = Array2::from_shape_fn((n, class.levels.len()), |(i, l)| {
            f64::from(u8::from(class.level[group.rows()[i]] == l))
        });
        x = concatenate(Axis(1), &[x.view(), dummies.view()]).unwrap();
    }
    let (vi, log_v) = inverse(&v);
    let (c, log_x) = inverse(&x.t().dot(&vi).dot(&x));
    let y = group.y().column(t).to_owned();
    let b = c.dot(&x.t().dot(&vi).dot(&y));
    let py = vi.dot(&(&y - &x.dot(&b)));
    let log_likelihood = -0.5 * (log_v + log_x + y.dot(&py));
    (b, py, log_likelihood)
}

#[test]
fn solutions_of_all_effects_are_those_of_the_definitions() {
    for (weighted, absorb) in [(false, false), (true, false), (false, true), (true, true)] {
        let d = dairy(weighted, absorb);
        let (traits, groups): (Vec<_>, Vec<_>) = Group::of_lines(&d.long).into_iter().unzip();
        let refs: Vec<&Group> = groups.iter().collect();
        assert_eq!(groups.len(), 2, "the gaps of a trait make a group of its own");
        let world = World::alone();
        let model = Model::new(&world, vec![Some(d.g.clone())], d.effects.clone());
        let variances = array![1.1, 0.7, 0.3, 0.9, 2.0];
        let variances: Vec<f64> = match absorb {
            true => vec![1.1, 0.7, 0.3, 2.0],
            false => variances.to_vec(),
        };
        let given = vec![vec![variances.clone()]; 2];
        let found = model.solve(&world, (&traits, &refs), &given, ANIMALS).unwrap();
        for (k, group) in groups.iter().enumerate() {
            let t = traits[k][0];
            let (b, py, log_likelihood) = brute(&d, group, 0, &variances);
            assert!((found.log_likelihood[t] - log_likelihood).abs() < 1e-8, "likelihood");
            let q = found.fixed.nrows();
            let fixed =
                found.fixed.column(t).iter().chain(found.absorbed.column(t)).copied().collect::<Vec<_>>();
            assert!(fixed.len() == b.len() && q == 2 - usize::from(absorb));
            assert!(fixed.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-7), "{fixed:?} {b}");
            for (k, effect) in d.effects.iter().enumerate() {
                check_solution(&d, (effect, &found.random[k]), group, (t, variances[k]), &py);
            }
            let mut sums = Array1::<f64>::zeros(ANIMALS);
            group.animals().iter().zip(&py).for_each(|(&a, x)| sums[a] += x);
            assert!((&sums - &found.py.column(t)).iter().all(|d| d.abs() < 1e-9));
        }
    }
}

/// The same model known by products alone.
fn large(d: &Dairy) -> LargeModel {
    LargeModel::new(
        vec![Box::new(d.g.clone())],
        d.effects.clone(),
        d.long.animal.clone(),
        Rows::alone(ANIMALS),
    )
}

#[test]
fn conjugate_gradients_solve_the_same_model() {
    for (weighted, absorb) in [(false, false), (true, false), (false, true), (true, true)] {
        let d = dairy(weighted, absorb);
        let (traits, groups): (Vec<_>, Vec<_>) = Group::of_lines(&d.long).into_iter().unzip();
        let refs: Vec<&Group> = groups.iter().collect();
        let world = World::alone();
        let model = Model::new(&world, vec![Some(d.g.clone())], d.effects.clone());
        let variances: Vec<f64> =
            [1.1, 0.7, 0.3].into_iter().chain((!absorb).then_some(0.9)).chain([2.0]).collect();
        let given = vec![vec![variances]; 2];
        let want = model.solve(&world, (&traits, &refs), &given, ANIMALS).unwrap();
        for rank in [Some(0), Some(10)] {
            let settings = CgSettings { rank, ..CgSettings::from(Params::default()) };
            let found = large(&d).solve((&traits, &refs), &given, &settings, &mut Unmonitored).unwrap().0;
            let near = |a: &Array2<f64>, b: &Array2<f64>| {
                a.dim() == b.dim()
                    && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-7 || (a.is_nan() && b.is_nan()))
            };
            assert!(near(&found.fixed, &want.fixed) && near(&found.absorbed, &want.absorbed));
            assert!(found.random.iter().zip(&want.random).all(|(a, b)| near(a, b)));
            assert!(near(&found.py, &want.py));
        }
    }
}

#[test]
fn monte_carlo_estimates_differ_from_exact_ones_by_their_monte_carlo_error() {
    let mut compared = 0;
    for (weighted, absorb) in [(false, false), (true, true)] {
        let d = dairy(weighted, absorb);
        let (_, groups): (Vec<_>, Vec<_>) = Group::of_lines(&d.long).into_iter().unzip();
        let refs: Vec<&Group> = groups.iter().collect();
        let model = Model::new(&World::alone(), vec![Some(d.g.clone())], d.effects.clone());
        let exact = estimate_model(&World::alone(), &model, &refs).unwrap().concat();
        for seed in 1..=3 {
            let params = monte_carlo::Params { probes: 100, seed, ..Default::default() };
            let found = large(&d).estimate(&refs, params).unwrap().concat();
            for (found, exact) in found.iter().zip(&exact) {
                assert!(found.sum.outcome == Outcome::Converged || found.sum.outcome == Outcome::Boundary);
                for (e, want) in found.components.iter().zip(&exact.components) {
                    if e.boundary || want.boundary {
                        continue;
                    }
                    compared += 1;
                    let off = (e.variance - want.variance).abs();
                    assert!(off < 4.0 * e.variance_mc_se + 0.02 * want.variance_se, "{e:?} {want:?}");
                    assert!(e.variance_mc_se < 0.35 * want.variance_se, "{e:?} {want:?}");
                    assert!((e.variance_se / want.variance_se - 1.0).abs() < 0.3, "{e:?} {want:?}");
                }
            }
        }
    }
    assert!(compared > 30, "{compared} inside the bounds");
}

/// σ² K Z' V⁻¹(y − Xb̂) of every level of an effect.
fn check_solution(
    d: &Dairy,
    (effect, found): (&RandomEffect, &Array2<f64>),
    group: &Group,
    (t, variance): (usize, f64),
    py: &Array1<f64>,
) {
    let levels = effect.class.as_ref().map_or(1, |c| c.levels.len());
    let per_level = if effect.relation.is_some() { ANIMALS } else { 1 };
    assert_eq!(found.nrows(), levels * per_level, "{}", effect.name);
    for level in 0..levels {
        for a in 0..per_level {
            let of_record = |i: usize| {
                let same = effect.class.as_ref().is_none_or(|c| c.level[group.rows()[i]] == level);
                let g = effect.relation.map_or(1.0, |_| d.g[[a, group.animals()[i]]]);
                if same {
                    g * py[i]
                } else {
                    0.0
                }
            };
            let want = variance * (0..py.len()).map(of_record).sum::<f64>();
            let got = found[[level * per_level + a, t]];
            assert!((want - got).abs() < 1e-8, "{}: {got} {want}", effect.name);
        }
    }
}

#[test]
fn estimates_are_at_the_top_of_the_likelihood_of_the_definitions() {
    for (weighted, absorb) in [(false, false), (true, true)] {
        let d = dairy(weighted, absorb);
        let (_, groups): (Vec<_>, Vec<_>) = Group::of_lines(&d.long).into_iter().unzip();
        let refs: Vec<&Group> = groups.iter().collect();
        let model = Model::new(&World::alone(), vec![Some(d.g.clone())], d.effects.clone());
        let found = estimate_model(&World::alone(), &model, &refs).unwrap();
        for (group, found) in groups.iter().zip(&found) {
            let (found, at) = (&found[0], |v: &[f64]| brute(&d, group, 0, v).2);
            assert!(found.sum.outcome == Outcome::Converged || found.sum.outcome == Outcome::Boundary);
            let variances: Vec<f64> = found.components.iter().map(|c| c.variance).collect();
            let top = at(&variances);
            assert!((found.sum.log_likelihood - top).abs() < 1e-7, "{} {top}", found.sum.log_likelihood);
            for k in 0..variances.len() {
                for by in [-0.02, 0.02] {
                    let mut moved = variances.clone();
                    moved[k] = (moved[k] + by).max(0.0);
                    assert!(at(&moved) <= top + 1e-10, "{k}: {by} rises");
                }
            }
            let total: f64 = found.components.iter().map(|c| c.proportion).sum();
            assert!((total - 1.0).abs() < 1e-12);
            let [share, _] = found.repeatability.unwrap();
            let want = found.components[0].proportion + found.components[1].proportion;
            assert!((share - want).abs() < 1e-12, "additive and permanent environment");
            let genetic = found.components[0].variance + found.components[2].variance;
            assert!((found.sum.var_g - genetic).abs() < 1e-12);
        }
    }
}

#[test]
fn a_class_that_is_the_residual_or_a_fixed_effect_has_no_variance() {
    let d = dairy(false, true);
    let groups = Group::of_lines(&d.long);
    let refs: Vec<&Group> = groups.iter().map(|(_, g)| g).collect();
    let lines: Vec<String> = (0..LINES).map(|i| i.to_string()).collect();
    let each = Factor::new("line", lines.iter().map(String::as_str));
    for class in [each, d.long.absorbed.clone().unwrap()] {
        let effects = vec![RandomEffect::of_class(class)];
        let model = Model::new(&World::alone(), vec![], effects.clone());
        let found = estimate_model(&World::alone(), &model, &refs).unwrap();
        assert!(found.iter().all(|f| f[0].sum.outcome == Outcome::Unidentified));
        let large = LargeModel::new(vec![], effects, d.long.animal.clone(), Rows::alone(ANIMALS));
        let found = large.estimate(&refs, Default::default()).unwrap();
        assert!(found.iter().all(|f| f[0].sum.outcome == Outcome::Unidentified));
    }
}

#[test]
fn the_gaussian_kernel_is_one_for_twins_and_falls_with_the_median_distance() {
    let g = array![[1.0, 1.0, 0.5, 0.0], [1.0, 1.0, 0.5, 0.0], [0.5, 0.5, 1.0, 0.25], [0.0, 0.0, 0.25, 1.0]];
    let k = gaussian(g.view(), 0.5);
    // Squared distances 0, 1, 1, 2, 2, 1.5: the upper median is 1.5.
    assert!(k[[0, 1]] == 1.0 && (k[[0, 2]] - (-1.0f64 / 0.75).exp()).abs() < 1e-15);
    assert!((k[[0, 3]] - (-2.0f64 / 0.75).exp()).abs() < 1e-15 && k[[3, 2]] == k[[2, 3]]);
    let e = crate::linalg::factor::Eigen::new(k).unwrap();
    assert!(e.values.iter().all(|v| *v > -1e-12));
}
