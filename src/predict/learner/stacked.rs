//! Stacking (Wolpert 1992; Breiman 1996): several kinds of models, added with weights that their out-of-fold values earn.

use super::out_of_fold::out_of_fold;
use super::{Cost, Learned, Learner, Trained, Training};
use crate::config::{self, Settings};
use crate::error::{Error, Result};
use crate::nn::checkpointer::Checkpointer;
use crate::predict::data::{Block, Data};
use crate::predict::stacked::{StackedModel, KIND};
use crate::predict::Kind;
use ndarray::{Array1, Array2, ArrayView1, Axis};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// What the ridge adds to the variance of each kind's values, as a share of their mean.
const RIDGE: f64 = 0.05;
/// Passes over the weights, at most, and the change at which they end.
const PASSES: usize = 10_000;
const CHANGE: f64 = 1e-12;

/// Settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StackedConfig {
    /// Folds of the out-of-fold values that weights are found by.
    pub inner_folds: usize,
    /// The kinds that are added, each with its own keys beside `kind`.
    pub base: Vec<toml::Table>,
}

impl Default for StackedConfig {
    fn default() -> Self {
        let kind = |name: &str| toml::Table::from_iter([("kind".to_owned(), name.into())]);
        StackedConfig { inner_folds: 5, base: ["gblup", "rkhs", "boosting"].map(kind).to_vec() }
    }
}

/// Checked settings, and the learners that they name.
pub struct Stacked {
    config: StackedConfig,
    bases: Vec<(&'static Kind, Box<dyn Learner>)>,
}

impl Stacked {
    /// Reads and checks settings.
    ///
    /// # Errors
    /// Unknown kinds and keys, and what the kinds refuse.
    pub fn configure(settings: Settings) -> Result<Stacked> {
        let config: StackedConfig = settings.read()?;
        let place = settings.place();
        if config.base.is_empty() {
            return Err(Error::input(place, "one or more [[base]]", "none", "name the kinds that are added"));
        }
        if config.inner_folds < 2 {
            let found = config.inner_folds;
            return Err(Error::input(place, "2 or more in `inner_folds`", found, "5 are usual"));
        }
        let bases =
            config.base.iter().enumerate().map(|(k, keys)| base(keys, &format!("{place}, base {}", k + 1)));
        let bases = bases.collect::<Result<_>>()?;
        Ok(Stacked { config, bases })
    }

    /// The kinds that are added, with their number where one stands more than once.
    fn names(&self) -> Vec<String> {
        let kinds: Vec<&str> = self.bases.iter().map(|(kind, _)| kind.name).collect();
        let count = |kind: &str, among: &[&str]| among.iter().filter(|other| **other == kind).count();
        let name = |(k, kind): (usize, &&str)| match count(kind, &kinds) {
            1 => (*kind).to_owned(),
            _ => format!("{kind} {}", 1 + count(kind, &kinds[..k])),
        };
        kinds.iter().enumerate().map(name).collect()
    }

    /// Fits all bases, and finds the weights of their values. Collective.
    fn combine(&self, data: &Data, set: &Training) -> Result<Learned> {
        let begun = Instant::now();
        let mut fits = Vec::with_capacity(self.bases.len());
        for (_, base) in &self.bases {
            fits.push(out_of_fold(&**base, data, set, self.config.inner_folds)?);
        }
        let (first, _) = &fits[0];
        let y = set.adjusted(first.fixed.view());
        let record_weights = set.weights();
        let t = first.traits.len();
        let mut weights: Vec<(String, Vec<f64>)> =
            self.names().into_iter().map(|name| (name, vec![0.0; t])).collect();
        let mut values = Array2::zeros(first.values.dim());
        for k in 0..t {
            let recorded: Vec<usize> = (0..y.nrows()).filter(|&i| !y[[i, k]].is_nan()).collect();
            let of = |column: ArrayView1<f64>| column.select(Axis(0), &recorded);
            let held: Vec<Array1<f64>> = fits.iter().map(|(_, held)| of(held.column(k))).collect();
            let w = record_weights.as_ref().map_or(Array1::ones(recorded.len()), |w| of(w.column(k)));
            let found = non_negative(&held, &of(y.column(k)), &w);
            for (b, (learned, _)) in fits.iter().enumerate() {
                weights[b].1[k] = found[b];
                values.column_mut(k).scaled_add(found[b], &learned.values.column(k));
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        Ok(Learned { values, estimates: vec![None; t], weights, seconds, ..first.clone() })
    }
}

/// The learner of one base.
fn base(keys: &toml::Table, place: &str) -> Result<(&'static Kind, Box<dyn Learner>)> {
    let mut keys = keys.clone();
    let name = keys.remove("kind");
    let name = name.as_ref().and_then(toml::Value::as_str).unwrap_or("gblup");
    let Some(kind) = Kind::named(name).filter(|kind| kind.name != KIND.name) else {
        let names = Kind::names().replace(&format!(", {}", KIND.name), "");
        return Err(Error::input(place, format!("kind {names}"), format!("`{name}`"), "choose one"));
    };
    Ok((kind, (kind.configure)(Settings::Table(&keys, place))?))
}

/// Weights w >= 0 that minimise Σ ω (y − Σ w_b x_b)² + ridge, of values less their means, and sum to 1 at most; by passes
/// over them (each is the best for given others, and the sum of squares is convex).
pub fn non_negative(x: &[Array1<f64>], y: &Array1<f64>, omega: &Array1<f64>) -> Vec<f64> {
    let all = omega.sum();
    let centred = |v: &Array1<f64>| v - (v * omega).sum() / all;
    let (x, y): (Vec<Array1<f64>>, Array1<f64>) = (x.iter().map(centred).collect(), centred(y));
    let dot = |a: &Array1<f64>, b: &Array1<f64>| (a * b * omega).sum() / all;
    let k = x.len();
    let squares = Array2::from_shape_fn((k, k), |(a, b)| dot(&x[a], &x[b]));
    let with_y: Vec<f64> = x.iter().map(|x| dot(x, &y)).collect();
    let ridge = RIDGE * squares.diag().sum() / k as f64;
    let mut w = vec![0.0; k];
    for _ in 0..PASSES {
        let mut change = 0.0f64;
        for a in 0..k {
            let others: f64 = (0..k).filter(|&b| b != a).map(|b| squares[[a, b]] * w[b]).sum();
            let curvature = squares[[a, a]] + ridge;
            let best = if squares[[a, a]] > 0.0 { ((with_y[a] - others) / curvature).max(0.0) } else { 0.0 };
            change = change.max((best - w[a]).abs());
            w[a] = best;
        }
        if change < CHANGE {
            break;
        }
    }
    let sum: f64 = w.iter().sum();
    if sum > 1.0 {
        w.iter_mut().for_each(|w| *w /= sum);
    }
    w
}

impl Learner for Stacked {
    fn settings(&self) -> String {
        config::as_text(&self.config)
    }

    fn is_stochastic(&self) -> bool {
        self.bases.iter().any(|(_, base)| base.is_stochastic())
    }

    fn varies_with_ranks(&self) -> bool {
        self.bases.iter().any(|(_, base)| base.varies_with_ranks())
    }

    fn reads_features(&self) -> bool {
        self.bases.iter().any(|(_, base)| base.reads_features())
    }

    fn reads(&self) -> Vec<Block> {
        self.bases.iter().flat_map(|(_, base)| base.reads()).collect()
    }

    fn fit(&self, data: &Data, sets: &[Training]) -> Result<Vec<Learned>> {
        sets.iter().map(|set| self.combine(data, set)).collect()
    }

    fn train(
        &self,
        data: &Data,
        set: &Training,
        _checkpointer: Option<&mut Checkpointer>,
    ) -> Result<Trained> {
        let weights = self.combine(data, set)?.weights;
        for (k, trait_) in set.names().iter().enumerate() {
            let each = weights.iter().map(|(name, of)| format!("{name} {:.2}", of[k]));
            log::info!("weights of {trait_}: {}", each.collect::<Vec<_>>().join(", "));
        }
        let weights = Array2::from_shape_fn((weights.len(), set.traits().len()), |(b, k)| weights[b].1[k]);
        let mut bases = Vec::with_capacity(self.bases.len());
        for (_, base) in &self.bases {
            bases.push(base.train(data, set, None)?.model);
        }
        // Some kinds gather their model on the root alone.
        let bases: Option<Vec<_>> = bases.into_iter().collect();
        let model = bases.map(|bases| Box::new(StackedModel::new(set.names(), bases, weights)) as _);
        Ok(Trained { model, ..Trained::default() })
    }

    fn methods(&self) -> String {
        let names: Vec<&str> = self.bases.iter().map(|(kind, _)| kind.name).collect();
        format!(
            "Stacking (Wolpert 1992; Breiman 1996; van der Laan et al. 2007) of {}: the values of each are added with weights of 0 or \
             more for each trait, at most 1 together, by a ridge regression of the records on values of training animals without \
             their own records ({} inner folds). {}",
            names.join(", "),
            self.config.inner_folds,
            self.bases.iter().map(|(_, base)| base.methods()).collect::<Vec<_>>().join(" ")
        )
    }

    fn cost(&self, n: f64, m: f64, t: f64) -> Cost {
        let inner = 1.0 + self.config.inner_folds as f64;
        let all = self.bases.iter().map(|(_, base)| base.cost(n, m, t));
        all.fold(Cost { operations: 0.0, bytes: 0.0 }, |sum, cost| Cost {
            operations: sum.operations + inner * cost.operations,
            bytes: sum.bytes.max(cost.bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    #[test]
    fn weights_are_those_of_what_the_records_are_made_of() {
        let mut s = Stream::new(5, Purpose::Test, 0);
        let mut column = || Array1::from_shape_simple_fn(4000, || s.normal());
        let (a, b, c, noise) = (column(), column(), column(), column());
        let ones = Array1::ones(4000);
        let y = 7.0 + 0.5 * &a + 0.2 * &b - 0.3 * &c + 0.3 * &noise;
        let w = non_negative(&[a.clone(), b, c], &y, &ones);
        let shrunk = 1.0 + RIDGE;
        assert!(
            (w[0] - 0.5 / shrunk).abs() < 0.02 && (w[1] - 0.2 / shrunk).abs() < 0.02 && w[2] == 0.0,
            "{w:?}"
        );
        // Values that are too small do not blow up what is predicted, and equal ones share.
        let w = non_negative(&[0.1 * &a, 0.1 * &a], &(&a * 3.0), &ones);
        assert!((w[0] + w[1] - 1.0).abs() < 1e-9 && (w[0] - w[1]).abs() < 1e-6, "{w:?}");
        // Records that count nothing change nothing, and a constant has no weight.
        let (half, wild) = (Array1::from_shape_fn(4000, |i| (i % 2) as f64), 100.0 * column());
        let mixed = Array1::from_shape_fn(4000, |i| if i % 2 == 1 { a[i] * 0.5 } else { wild[i] });
        let w = non_negative(&[a, ones], &mixed, &half);
        assert!((w[0] - 0.5).abs() < 0.03 && w[1] == 0.0, "{w:?}");
    }
}
