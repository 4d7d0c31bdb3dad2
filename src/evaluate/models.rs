//! The models of a study: what each is, and its settings.

use crate::config;
use crate::error::{Error, Result};
use crate::evaluate::augment::{AugmentConfig, Mixture};
use crate::grm::Scaling;
use crate::nn;
use crate::predict::learner::dlgblup::DlgblupConfig;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Name in tables and pictures.
    pub name: String,
    /// What it is.
    #[serde(default)]
    pub kind: ModelKind,
    /// Relationship matrix of GBLUP: `vanraden1`, `vanraden2` or `dominance`.
    #[serde(default = "default_grm")]
    pub grm: String,
    /// How GBLUP is solved.
    #[serde(default)]
    pub solver: StudySolver,
    /// Heritability of all traits; by REML in every training fold when left out.
    pub h2: Option<f64>,
    /// Settings of the kinds `dlgblup` and `dl`.
    pub dlgblup: Option<DlgblupConfig>,
    /// Settings of kind `mlp`.
    pub mlp: Option<nn::Config>,
    /// Synthetic animals to learn from beside real ones.
    pub augment: Option<AugmentConfig>,
    /// The one mixture of both that this model learns from, once [`expand`](crate::evaluate::augment::expand) has
    /// made a model of each; no key of a configuration.
    #[serde(default)]
    pub mixture: Option<Mixture>,
}

/// The kinds of models that a study knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// Genomic BLUP.
    #[default]
    Gblup,
    /// A network from GBLUP's values of all traits to each trait.
    Dlgblup,
    /// The same network on a network of genotypes that learns GBLUP's values.
    Dl,
    /// A network from genotypes to all traits.
    Mlp,
}

/// How GBLUP is solved in a study.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StudySolver {
    /// G on every rank, and a reduction of it in every training fold.
    #[default]
    Eigen,
    /// Conjugate gradients, which never form G.
    Pcg,
}

fn default_grm() -> String {
    Scaling::VanRaden1.name().into()
}

impl ModelConfig {
    /// A GBLUP of VanRaden's first relationships.
    pub fn gblup() -> ModelConfig {
        ModelConfig {
            name: "GBLUP".into(),
            kind: ModelKind::Gblup,
            grm: default_grm(),
            solver: StudySolver::Eigen,
            h2: None,
            dlgblup: None,
            mlp: None,
            augment: None,
            mixture: None,
        }
    }

    /// Whether one fit takes all traits together.
    pub fn joint(&self) -> bool {
        self.kind != ModelKind::Gblup || self.mixture.is_some()
    }

    /// The relationships; [`ModelConfig::check`] has seen that they are known.
    pub fn scaling(&self) -> Scaling {
        Scaling::named(&self.grm).expect("checked with the configuration")
    }

    /// Whether GBLUP is part of it.
    pub fn on_gblup(&self) -> bool {
        self.kind != ModelKind::Mlp || self.mlp.as_ref().is_some_and(|c| c.residual)
    }

    /// Refuses what cannot be fitted.
    pub fn check(&self, path: &Path) -> Result<()> {
        let place = || format!("{} model `{}`", path.display(), self.name);
        if Scaling::named(&self.grm).is_none() {
            let known = Scaling::ALL.map(Scaling::name);
            let advice = config::nearest(&self.grm, known).map(|n| format!("did you mean `{n}`?"));
            return Err(Error::input(
                path.display(),
                format!("{} or {}", known[..known.len() - 1].join(", "), known[known.len() - 1]),
                format!("`{}`", self.grm),
                advice.as_deref().unwrap_or("choose one"),
            ));
        }
        if self.mixture.is_some() {
            let advice = "say what to mix in [model.augment]";
            return Err(Error::input(place(), "no key `mixture`", "one", advice));
        }
        if let Some(h2) = self.h2.filter(|h2| !(0.0..1.0).contains(h2)) {
            return Err(Error::input(place(), "a heritability from 0 to below 1", h2, "change `h2`"));
        }
        let tables = [
            ("dlgblup", self.dlgblup.is_some(), &[ModelKind::Dlgblup, ModelKind::Dl][..]),
            ("mlp", self.mlp.is_some(), &[ModelKind::Mlp]),
        ];
        let foreign = tables.into_iter().find(|(_, given, kinds)| *given && !kinds.contains(&self.kind));
        if let Some((name, ..)) = foreign {
            let advice = format!("add `kind = \"{name}\"` or remove the table");
            return Err(Error::input(place(), "settings of its own kind", format!("[model.{name}]"), advice));
        }
        self.dlgblup.as_ref().map_or(Ok(()), |c| c.check(&place()))?;
        self.mlp.as_ref().map_or(Ok(()), |c| c.check(&place()))?;
        self.augment.as_ref().map_or(Ok(()), |c| c.check(&place()))
    }
}
