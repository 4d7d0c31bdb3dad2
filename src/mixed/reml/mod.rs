//! Variance components: [`spectral`] for one genetic variance, exact, and [`gaps`]
//! for traits that lack few of the same records; [`components`] for several random effects and
//! [`bivariate`] for pairs of traits, by average information; [`stochastic`] for many animals, [`monte_carlo`] for several
//! effects of many records; [`moments`] without iteration.

mod average;
pub mod bivariate;
mod canonical;
pub mod components;
mod dense;
pub mod gaps;
mod grid;
pub mod moments;
pub mod monte_carlo;
mod profile;
pub mod spectral;
pub mod stochastic;

pub(super) use dense::Dense;
pub use gaps::Gaps;
pub use grid::GridSpectral;
pub(in crate::mixed) use profile::likelihood;
pub use spectral::Spectral;

use crate::error::{Error, Result};
use crate::records::table::Table;
use std::path::Path;
use std::str::FromStr;

/// How variance components are estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// The program's choice from the number of animals, the random effects and the memory.
    #[default]
    Auto,
    /// Exact REML by the spectral form: one random effect beside the residual.
    Exact,
    /// Exact REML by average information: any number of random effects.
    Ai,
    /// REML with traces from random probes: many animals.
    Stochastic,
    /// Haseman and Elston's regression, a method of moments.
    He,
}

impl Method {
    /// All methods.
    pub const ALL: [Method; 5] = [Method::Auto, Method::Exact, Method::Ai, Method::Stochastic, Method::He];

    /// The name in options and logs.
    pub fn name(self) -> &'static str {
        match self {
            Method::Auto => "auto",
            Method::Exact => "exact",
            Method::Ai => "ai",
            Method::Stochastic => "stochastic",
            Method::He => "he",
        }
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let method = Method::ALL.into_iter().find(|m| m.name() == text);
        method.ok_or_else(|| "expected auto, exact, ai, stochastic or he".into())
    }
}

/// How a fit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Outcome {
    /// A maximum inside the range.
    Converged,
    /// The likelihood rises until h² = 0 or h² = 1.
    Boundary,
    /// The search did not settle.
    Failed,
    /// No estimate: the recorded animals do not differ in their relationships, or all by as much.
    Unidentified,
    /// No estimate: the fixed effects explain all records.
    Explained,
    /// No estimate: the records of two traits follow from each other.
    Dependent,
    /// Not estimated: the variances were given.
    Given,
}

impl Outcome {
    /// As it stands in the column `converged` of tables.
    pub fn label(self) -> &'static str {
        match self {
            Outcome::Converged => "yes",
            Outcome::Boundary => "boundary",
            Outcome::Failed | Outcome::Unidentified | Outcome::Explained | Outcome::Dependent => "no",
            Outcome::Given => "given",
        }
    }

    /// Why there is no estimate at all, where there is none.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Outcome::Unidentified => Some(
                "an effect's relationships or classes tell its variance from the residual no more than clones or \
                 strangers do (or the fixed effects have its classes)",
            ),
            Outcome::Explained => Some("the fixed effects explain all of its records"),
            Outcome::Dependent => Some("the records of one follow linearly from those of the other"),
            Outcome::Converged | Outcome::Boundary | Outcome::Failed | Outcome::Given => None,
        }
    }
}

/// Variance components of one trait. Standard errors are NaN where there are none.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Estimate {
    /// Number of records.
    pub n: usize,
    /// σ²g.
    pub var_g: f64,
    /// Standard error of σ²g, from the average information.
    pub var_g_se: f64,
    /// σ²e, of a record of weight 1.
    pub var_e: f64,
    /// Standard error of σ²e.
    pub var_e_se: f64,
    /// h² = σ²g / (σ²g + σ²e / w) of a record of the mean weight w.
    pub h2: f64,
    /// Standard error of h² by the delta method.
    pub h2_se: f64,
    /// Restricted log-likelihood, without the constant −ν/2 log 2π.
    pub log_likelihood: f64,
    /// Errors from random probes, where there were any.
    pub sampling: Option<Sampling>,
    /// Evaluations of the likelihood or its slope.
    pub iterations: usize,
    /// How the search ended.
    pub outcome: Outcome,
    /// Mean weight of the records, 1 without weights.
    pub weight: f64,
}

/// How far an estimate is from what endless random probes would give: standard errors.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Sampling {
    /// Of h².
    pub h2: f64,
    /// Of the log-likelihood.
    pub log_likelihood: f64,
}

/// What is known of a trait's variances beforehand.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Given {
    /// h² of a record of the mean weight, at least 0 and below 1.
    pub h2: f64,
    /// σ²p = σ²g + σ²e of such a record; without it the records tell.
    pub total: Option<f64>,
}

impl Given {
    /// The variances σ²g and σ²e (of a record of weight 1) for records of a mean weight.
    pub fn variances([genetic, residual]: [f64; 2], mean_weight: f64) -> Given {
        let total = genetic + residual / mean_weight;
        Given { h2: genetic / total, total: Some(total) }
    }
}

impl Estimate {
    /// An estimate that was given, completed by the total variance, of records of weight 1.
    pub fn given(n: usize, h2: f64, total: f64, log_likelihood: f64) -> Estimate {
        Estimate {
            n,
            var_g: h2 * total,
            var_g_se: f64::NAN,
            var_e: (1.0 - h2) * total,
            var_e_se: f64::NAN,
            h2,
            h2_se: f64::NAN,
            log_likelihood,
            sampling: None,
            iterations: 0,
            outcome: Outcome::Given,
            weight: 1.0,
        }
    }

    /// An estimate that there is none, for a reason.
    pub fn none(n: usize, outcome: Outcome) -> Estimate {
        Estimate { outcome, ..Estimate::given(n, f64::NAN, f64::NAN, f64::NAN) }
    }

    /// The same with σ²e of a record of weight 1, after it was that of a record of the mean weight.
    pub fn per_unit_weight(self, mean_weight: f64) -> Estimate {
        let [var_e, var_e_se] = [self.var_e, self.var_e_se].map(|x| x * mean_weight);
        Estimate { var_e, var_e_se, weight: mean_weight, ..self }
    }

    /// σ²p = σ²g + σ²e / w of a record of the mean weight w.
    pub fn total(&self) -> f64 {
        self.var_g + self.var_e / self.weight
    }

    /// The estimated variances for another fit to records of the same mean weight; without an estimate the records
    /// tell nothing of animals: h² = 0.
    pub fn as_given(&self) -> Given {
        match self.outcome.reason() {
            Some(_) => Given { h2: 0.0, total: None },
            None => Given { h2: self.h2, total: Some(self.total()) },
        }
    }
}

/// Reads the variances of `traits` from a table with the columns `trait`, `var_g` and `var_e`, such as `reml`
/// writes: [σ²g, σ²e] of each.
pub fn read_variances(path: &Path, traits: &[String]) -> Result<Vec<[f64; 2]>> {
    let table = Table::read_keyed(path, &["trait"], None)?;
    let columns = table.find(&["var_g".into(), "var_e".into()])?;
    let of = |name: &String| {
        let Some(row) = table.ids().iter().position(|t| t == name) else {
            let advice = "add it or choose the traits with --traits";
            return Err(Error::input(path.display(), format!("a line for {name}"), "none", advice));
        };
        let value = |column: usize, least: f64| match table.number(row, column)? {
            Some(x) if x >= least => Ok(x),
            _ => Err(Error::input(
                table.place(row, column),
                "a variance (var_g at least 0, var_e above 0)",
                table.cell(row, column).unwrap_or("none"),
                "estimate it with `genialearn reml`",
            )),
        };
        Ok([value(columns[0], 0.0)?, value(columns[1], f64::MIN_POSITIVE)?])
    };
    traits.iter().map(of).collect()
}

#[cfg(test)]
mod limits;
#[cfg(test)]
mod tests;
