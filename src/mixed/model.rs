//! The random effects of a model in one place: y = Xb + Fa + Σ_k Z_k u_k + e, u_k ~ N(0, σ²_k K_k), e ~ N(0, σ²_e R).
//!
//! K_k is a matrix of relationships of the animals (VanRaden, Yang, dominance, epistasis, a Gaussian kernel, a file, a
//! product of two), the identity of a class's levels (herd-years, the permanent environments of the animals), or both:
//! relationships within the levels of a class, K ∘ E of genotype by environment. Solutions are û_k = σ²_k K_k Z_k'V⁻¹(y −
//! Xb̂ − Fâ) (Henderson 1984).

use crate::comm::World;
use crate::error::Result;
use crate::mixed::kernel::{animals, roots, Kernel, Levels};
use crate::mixed::reml::components::{layout, share};
use crate::mixed::reml::Dense;
use crate::mixed::Group;
use crate::records::Factor;
use ndarray::{Array1, Array2, ArrayView2, Axis};

/// One random effect.
#[derive(Debug, Clone)]
pub struct RandomEffect {
    /// Its name in tables.
    pub name: String,
    /// The number of its relationships among those of the model.
    pub relation: Option<usize>,
    /// The class of every row of the records; with relationships these hold within its levels.
    pub class: Option<Factor>,
    /// Whether the class is the animals themselves: what their records share beside the other effects.
    pub permanent: bool,
}

impl RandomEffect {
    /// Relationships of the animals.
    pub fn of_animals(name: &str, relation: usize) -> RandomEffect {
        RandomEffect { name: name.to_owned(), relation: Some(relation), class: None, permanent: false }
    }

    /// Independent levels of a class.
    pub fn of_class(class: Factor) -> RandomEffect {
        RandomEffect { name: class.name.clone(), relation: None, class: Some(class), permanent: false }
    }

    /// Names of its levels: the animals `ids`, the levels of a class, or `animal:level` of both, level by level.
    pub fn level_names(&self, ids: &[String]) -> Vec<String> {
        match &self.class {
            None => ids.to_vec(),
            Some(class) if self.relation.is_none() => class.levels.clone(),
            Some(class) => {
                class.levels.iter().flat_map(|l| ids.iter().map(move |id| format!("{id}:{l}"))).collect()
            }
        }
    }

    /// Whether its variance is genetic: there are relationships.
    pub fn is_genetic(&self) -> bool {
        self.relation.is_some()
    }

    /// Whether it is the same for all records of an animal: its variance counts for repeatability.
    pub fn repeats(&self) -> bool {
        self.permanent || self.class.is_none()
    }
}

/// Random effects and the relationships that they use.
#[derive(Debug)]
pub struct Model {
    relations: Vec<Array2<f64>>, // (n, n) each, on every rank
    effects: Vec<RandomEffect>,
}

/// Solutions of every effect for t traits.
#[derive(Debug, Clone)]
pub struct Solutions {
    /// Fixed effects b̂, (q, t).
    pub fixed: Array2<f64>,
    /// Levels of the absorbed class, (L, t); NaN for levels without records of a trait.
    pub absorbed: Array2<f64>,
    /// Each random effect's levels, as [`RandomEffect::level_names`] names them, (levels, t).
    pub random: Vec<Array2<f64>>,
    /// Z'V⁻¹(y − Xb̂ − Fâ), summed over the records of each animal, (n, t): SNP effects are σ²/c M' times it.
    pub py: Array2<f64>,
    /// Restricted log-likelihood of each trait, (t).
    pub log_likelihood: Vec<f64>,
}

/// What one rank finds for one trait.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct OfTrait {
    x: Array1<f64>, // V⁻¹(y − Xb̂ − Fâ) of the group's records
    fixed: Array1<f64>,
    absorbed: Array1<f64>,
    log_likelihood: f64,
}

impl Model {
    /// A model of `effects` that use `relations`, (n, n), which stand on the root only. Collective.
    pub fn new(world: &World, relations: Vec<Option<Array2<f64>>>, effects: Vec<RandomEffect>) -> Model {
        Model { relations: share(world, relations), effects }
    }

    /// The random effects.
    pub fn effects(&self) -> &[RandomEffect] {
        &self.effects
    }

    /// The relationships of one of the effects.
    pub fn relation(&self, effect: &RandomEffect) -> Option<&Array2<f64>> {
        effect.relation.map(|r| &self.relations[r])
    }

    /// Records up to which V is held by choice: REML of 12,000 inverts it in about a minute on two cores.
    pub const LARGEST: usize = 12_000;

    /// Bytes of the matrices of `records` records that exact REML holds for so many relationships.
    pub fn bytes(records: usize, relations: usize) -> f64 {
        8.0 * (records as f64).powi(2) * (relations + 3) as f64
    }

    /// How many matrices of N records an exact fit holds beside its own.
    pub(super) fn matrices(&self) -> usize {
        self.effects.iter().filter(|e| e.relation.is_some() && e.class.is_none()).count()
    }

    /// The kernels of a group's records.
    pub(super) fn kernels(&self, group: &Group) -> Vec<Kernel<'_>> {
        let levels = |class: &Factor| {
            let class = class.select(group.rows());
            Levels::new(&class.level, class.levels.len(), roots(&[group]))
        };
        let of = |effect: &RandomEffect| match (self.relation(effect), &effect.class) {
            (Some(g), None) => Kernel::of_animals(g.view(), &[group]),
            (None, Some(class)) => Kernel::Class(levels(class)),
            (Some(g), Some(class)) => Kernel::Within(levels(class), (g, animals(&[group]))),
            (None, None) => unreachable!("an effect has relationships or a class"),
        };
        self.effects.iter().map(of).collect()
    }

    /// Solves the mixed model equations of all traits of all groups exactly, with the variances of each trait of each
    /// group: those of the effects, then the residual's of a record of weight 1. `traits[k]` are the numbers of the
    /// traits of group k, `animals` is n. Every rank receives all. Collective.
    ///
    /// # Errors
    /// Where V is not positive definite.
    pub fn solve(
        &self,
        world: &World,
        (traits, groups): (&[Vec<usize>], &[&Group]),
        variances: &[Vec<Vec<f64>>],
        animals: usize,
    ) -> Result<Solutions> {
        let tasks: Vec<(usize, usize)> =
            groups.iter().enumerate().flat_map(|(k, g)| (0..g.traits()).map(move |t| (k, t))).collect();
        let largest = groups.iter().map(|g| g.animals().len()).max().unwrap_or(0);
        let found = layout(largest, self.matrices() + 2).deal(world, tasks.len(), |task| {
            let (k, t) = tasks[task];
            self.solve_trait(groups[k], t, &variances[k][t])
        })?;
        let count = tasks.len();
        let effects = groups[0].effects();
        let levels = groups[0].absorbed().map_or(0, |f| f.levels.len());
        let mut out = Solutions {
            fixed: Array2::zeros((effects, count)),
            absorbed: Array2::zeros((levels, count)),
            random: Vec::new(),
            py: Array2::zeros((animals, count)),
            log_likelihood: vec![f64::NAN; count],
        };
        let mut records = Vec::new();
        for (&(k, t), found) in tasks.iter().zip(&found) {
            let at = traits[k][t];
            out.fixed.column_mut(at).assign(&found.fixed);
            out.absorbed.column_mut(at).assign(&found.absorbed);
            out.log_likelihood[at] = found.log_likelihood;
            groups[k].animals().iter().zip(&found.x).for_each(|(&a, x)| out.py[[a, at]] += x);
            records.push((at, groups[k], &found.x, &variances[k][t][..]));
        }
        out.random = (0..self.effects.len()).map(|k| self.solutions(k, &records, &out.py)).collect();
        Ok(out)
    }

    /// One trait of a group.
    fn solve_trait(&self, group: &Group, t: usize, variances: &[f64]) -> Result<OfTrait> {
        let kernels = self.kernels(group);
        let residual = variances[kernels.len()] / group.mean_weight();
        let mut c: Vec<Array2<f64>> =
            variances[..kernels.len()].iter().map(|&v| Array2::from_elem((1, 1), v)).collect();
        c.push(Array2::from_elem((1, 1), residual));
        let (py, log_likelihood) = Dense::new(&kernels, &[group], &[t]).solve(&c)?;
        let n = py.len();
        // W^½(y − Wb̂ − Fâ) = Σ σ²_k K_k P y + σ²_e P y, all in the scale of the records.
        let mut random = &py * residual;
        for (kernel, &variance) in kernels.iter().zip(variances) {
            random.scaled_add(variance, &kernel.times(&py, &(0..n)));
        }
        let fitted =
            Array1::from_shape_fn(n, |i| group.y()[[i, t]] - random[i] * group.inverse_weight(i).sqrt());
        let fixed = group.effects_of(fitted.view());
        let absorbed = group.absorbed_effects_of(fitted.view(), fixed.view());
        let x = Array1::from_shape_fn(n, |i| py[i] / group.inverse_weight(i).sqrt());
        Ok(OfTrait { x, fixed, absorbed, log_likelihood })
    }

    /// Solutions of effect `k`, (levels, t): σ²_k K_k Z_k' x for the records' x of each trait.
    fn solutions(&self, k: usize, records: &[Records], py: &Array2<f64>) -> Array2<f64> {
        let (effect, (n, count)) = (&self.effects[k], py.dim());
        let (g, class) = (self.relation(effect), effect.class.as_ref());
        let levels = class.map_or(1, |c| c.levels.len());
        // Z_k'x: by animal, by level, or by animal within levels.
        let mut sums = match (g, class) {
            (Some(_), None) => py.clone(),
            (Some(_), Some(_)) => Array2::zeros((levels * n, count)),
            _ => Array2::zeros((levels, count)),
        };
        if let Some(class) = class {
            for &(at, group, x, _) in records {
                for ((&row, &a), x) in group.rows().iter().zip(group.animals()).zip(x) {
                    let level = class.level[row];
                    sums[[if g.is_some() { level * n + a } else { level }, at]] += x;
                }
            }
        }
        if let Some(g) = g {
            for mut part in sums.axis_chunks_iter_mut(Axis(0), n) {
                let product = g.dot(&part);
                part.assign(&product);
            }
        }
        for &(at, _, _, variances) in records {
            let mut column = sums.column_mut(at);
            column *= variances[k];
        }
        sums
    }
}

/// A trait's number, its group, x of the group's records and the variances.
type Records<'a> = (usize, &'a Group, &'a Array1<f64>, &'a [f64]);

/// exp(−d²/(h · median d²)) of the animals, (n, n), with squared distances d²_ij = G_ii + G_jj − 2 G_ij (de los Campos et al.
/// 2010, eq. 6; González-Camacho et al. 2012).
pub fn gaussian(g: ArrayView2<f64>, h: f64) -> Array2<f64> {
    gaussian_within(g, h * median_distance(g))
}

/// exp(−d²/reach) of the animals, (n, n), with their squared distances d².
pub fn gaussian_within(g: ArrayView2<f64>, reach: f64) -> Array2<f64> {
    let (n, scale) = (g.nrows(), 1.0 / reach.max(f64::MIN_POSITIVE));
    Array2::from_shape_fn((n, n), |(i, j)| (-distance(g, i, j) * scale).exp())
}

/// The median of the squared distances over all pairs of two animals; 1 where there is no pair.
pub fn median_distance(g: ArrayView2<f64>) -> f64 {
    let mut all: Vec<f64> = (0..g.nrows()).flat_map(|i| (0..i).map(move |j| distance(g, i, j))).collect();
    let middle = all.len() / 2;
    match all.is_empty() {
        true => 1.0,
        false => *all.select_nth_unstable_by(middle, f64::total_cmp).1,
    }
}

/// d²_ij = G_ii + G_jj − 2 G_ij.
fn distance(g: ArrayView2<f64>, i: usize, j: usize) -> f64 {
    (g[[i, i]] + g[[j, j]] - 2.0 * g[[i, j]]).max(0.0)
}

/// The product of two relationships, element by element.
pub fn hadamard(a: ArrayView2<f64>, b: ArrayView2<f64>) -> Array2<f64> {
    &a * &b
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
