//! The models of a study: a name, a kind, the kind's own settings, and what is done with them.

use crate::config::{self, Settings};
use crate::error::{Error, Result};
use crate::evaluate::augment::{AugmentConfig, Mixture, Text};
use crate::evaluate::idle;
use crate::generate;
use crate::predict::learner::augmented::Augmented;
use crate::predict::{Kind, Learner};
use serde::{Deserialize, Deserializer, Serialize};
use std::path::Path;

/// Fits of a stochastic model that differ in their seed alone, by default.
const REPLICATES: usize = 3;

/// One model: `name`, `kind`, `replicates`, `[model.augment]`, and beside them the kind's own keys, as in the file of
/// `train KIND --config`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelConfig {
    /// Name in tables and pictures.
    pub name: String,
    /// What it is: one of [`predict::KINDS`](crate::predict::KINDS).
    pub kind: String,
    /// Fits that differ in their seed alone and are averaged; by default 3 of kinds whose fits depend on it.
    pub replicates: Option<usize>,
    /// Settings of the kind.
    pub settings: Text,
    /// Synthetic animals to learn from beside real ones.
    pub augment: Option<AugmentConfig>,
    /// The one mixture of both that this model learns from, once [`expand`](crate::evaluate::augment::expand) has
    /// made a model of each; no key of a configuration.
    pub mixture: Option<Mixture>,
}

/// As it travels between ranks.
#[derive(Deserialize)]
struct Sent {
    name: String,
    kind: String,
    replicates: Option<usize>,
    settings: Text,
    augment: Option<AugmentConfig>,
    mixture: Option<Mixture>,
}

/// As a file holds it.
#[derive(Deserialize)]
struct Written {
    name: String,
    #[serde(default = "default_kind")]
    kind: String,
    replicates: Option<usize>,
    augment: Option<AugmentConfig>,
    /// The kind's own keys.
    #[serde(flatten)]
    settings: toml::Table,
}

fn default_kind() -> String {
    "gblup".into()
}

impl<'de> Deserialize<'de> for ModelConfig {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        if !from.is_human_readable() {
            let Sent { name, kind, replicates, settings, augment, mixture } = Sent::deserialize(from)?;
            return Ok(ModelConfig { name, kind, replicates, settings, augment, mixture });
        }
        let Written { name, kind, replicates, augment, settings } = Written::deserialize(from)?;
        Ok(ModelConfig { name, kind, replicates, settings: Text::of(&settings), augment, mixture: None })
    }
}

impl ModelConfig {
    /// A GBLUP of VanRaden's first relationships.
    pub fn gblup() -> ModelConfig {
        let (replicates, settings, augment, mixture) = Default::default();
        ModelConfig { name: "GBLUP".into(), kind: default_kind(), replicates, settings, augment, mixture }
    }

    /// What fits it. Synthetic animals are kept in `folder`.
    ///
    /// # Errors
    /// An unknown kind, and settings that it refuses.
    pub fn learner(&self, folder: &Path) -> Result<Box<dyn Learner>> {
        let inner = self.plain(&format!("model `{}`", self.name))?;
        let Some(mixture) = &self.mixture else { return Ok(inner) };
        Ok(Box::new(Augmented {
            generator: generate::Kind::named(&mixture.generator).expect("checked with the configuration"),
            settings: mixture.settings.clone(),
            reference: mixture.reference,
            times: mixture.times,
            alone: mixture.alone,
            folder: folder.to_owned(),
            inner,
        }))
    }

    /// The model without synthetic animals.
    fn plain(&self, place: &str) -> Result<Box<dyn Learner>> {
        let Some(kind) = Kind::named(&self.kind) else {
            let known = crate::predict::KINDS.iter().map(|k| k.name);
            let advice = config::nearest(&self.kind, known).map(|n| format!("did you mean `{n}`?"));
            let expected = format!("`kind` one of {}", Kind::names());
            let advice = advice.as_deref().unwrap_or("choose one");
            return Err(Error::input(place, expected, format!("`{}`", self.kind), advice));
        };
        (kind.configure)(Settings::Table(&self.settings.table(), place))
    }

    /// As a file holds it, with all settings of its kind, those of the defaults too.
    ///
    /// # Errors
    /// Settings that the kind refuses.
    pub fn resolved(&self) -> Result<toml::Table> {
        let learner = self.plain(&format!("model `{}`", self.name))?;
        let mut table = Text::new(learner.settings()).table();
        let name = self.mixture.as_ref().map_or(&self.name, |mixture| &mixture.model);
        table.insert("name".into(), name.clone().into());
        table.insert("kind".into(), self.kind.clone().into());
        if learner.is_stochastic() {
            table.insert("replicates".into(), (self.replicates_of(&*learner) as i64).into());
        }
        if let Some(augment) = &self.augment {
            let augment = toml::Table::try_from(augment).expect("plain fields serialize");
            table.insert("augment".into(), augment.into());
        }
        idle::remove_from_model(&mut table, self);
        Ok(table)
    }

    /// Fits that differ in their seed alone.
    pub fn replicates_of(&self, learner: &dyn Learner) -> usize {
        self.replicates.unwrap_or(if learner.is_stochastic() { REPLICATES } else { 1 })
    }

    /// Refuses what cannot be fitted.
    ///
    /// # Errors
    /// Unknown kinds and keys, numbers out of their range.
    pub fn check(&self, path: &Path) -> Result<()> {
        let place = format!("{} model `{}`", path.display(), self.name);
        let table = self.settings.table();
        if table.get(&self.kind).is_some_and(toml::Value::is_table) {
            let kind = &self.kind;
            let expected = format!("the keys of kind {kind} in [[model]] itself");
            let advice = format!("write [model.network] for [model.{kind}.network]");
            return Err(Error::input(place, expected, format!("[model.{kind}]"), advice));
        }
        let learner = self.plain(&place)?;
        match self.replicates {
            Some(found) if !(1..=1000).contains(&found) => {
                return Err(Error::input(place, "1 to 1000 `replicates`", found, "set it within this range"));
            }
            Some(found) if found > 1 && !learner.is_stochastic() => {
                let advice = "its fits do not depend on the seed: remove the key";
                return Err(Error::input(place, "`replicates` of a stochastic kind", found, advice));
            }
            _ => {}
        }
        self.augment.as_ref().map_or(Ok(()), |c| c.check(&place))
    }
}
