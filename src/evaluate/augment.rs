//! Synthetic animals beside real ones: models that are trained on both.

use crate::config;
use crate::error::{Error, Result};
use crate::evaluate::models::ModelConfig;
use crate::generate::Kind;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::path::Path;

/// `[model.augment]`: the model is fitted to smaller references, with and without synthetic animals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AugmentConfig {
    /// Kind of the generator, which is trained with the records as conditions on each reference.
    #[serde(default = "default_generator")]
    pub generator: String,
    /// Its settings, as in the file of `train KIND --config`.
    #[serde(default)]
    pub settings: Text,
    /// Numbers of real training animals.
    pub reference: Vec<usize>,
    /// Synthetic animals for each real one; 0 for none.
    #[serde(default = "default_times")]
    pub times: Vec<usize>,
    /// Whether to train on the synthetic animals alone, too.
    #[serde(default)]
    pub alone: bool,
}

/// A table of TOML, kept as text: so it travels between ranks, too.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Text(String);

impl Text {
    /// Of a table.
    pub fn of(table: &toml::Table) -> Text {
        Text(config::as_text(table))
    }

    /// Of a text that is a table of TOML.
    pub fn new(text: String) -> Text {
        Text(text)
    }

    /// The table.
    pub fn table(&self) -> toml::Table {
        self.0.parse().expect("a table of TOML")
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        match to.is_human_readable() {
            true => self.table().serialize(to),
            false => self.0.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        if !from.is_human_readable() {
            return String::deserialize(from).map(Text);
        }
        Ok(Text::of(&toml::Table::deserialize(from)?))
    }
}

/// What one model of a study is trained on instead of all training animals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mixture {
    /// Name of the model without the mixture.
    pub model: String,
    /// Kind of the generator.
    pub generator: String,
    /// Its settings, as TOML.
    pub settings: String,
    /// Real animals.
    pub reference: usize,
    /// Synthetic animals for each of them.
    pub times: usize,
    /// Whether the real ones are left out once the generator has learned from them.
    pub alone: bool,
}

fn default_generator() -> String {
    "wgan".into()
}

fn default_times() -> Vec<usize> {
    vec![0, 1]
}

impl AugmentConfig {
    /// Refuses what cannot be made.
    pub fn check(&self, place: &str) -> Result<()> {
        let wrong = |expected: String, found: String, advice: &str| {
            Err(Error::input(format!("{place}, [model.augment]"), expected, found, advice))
        };
        let Some(kind) = Kind::named(&self.generator) else {
            return wrong(format!("one of {}", Kind::names()), format!("`{}`", self.generator), "choose one");
        };
        if !kind.conditional {
            let advice = "animals without records cannot be learned from: choose one that takes conditions";
            return wrong("a generator that takes conditions".into(), format!("`{}`", kind.name), advice);
        }
        if self.reference.iter().any(|&n| n < 2) || self.reference.is_empty() {
            let found = format!("{:?}", self.reference);
            return wrong("`reference` sizes of two animals or more".into(), found, "change it");
        }
        if self.times.iter().any(|&k| k > 1000) || self.times.is_empty() {
            let found = format!("{:?}", self.times);
            return wrong("`times` from 0 to 1000".into(), found, "change it");
        }
        (kind.configure)(Some((&self.settings.0, Path::new(&format!("{place}, [model.augment.settings]")))))
            .map(drop)
    }

    /// The mixtures of a model of that name.
    fn mixtures(&self, model: &str) -> Vec<Mixture> {
        let mixture = |reference: usize, times: usize, alone: bool| Mixture {
            model: model.to_owned(),
            generator: self.generator.clone(),
            settings: self.settings.0.clone(),
            reference,
            times,
            alone,
        };
        let of = |&reference: &usize| {
            let beside = self.times.iter().map(move |&times| (times, false));
            let alone = self.times.iter().filter(|&&k| k > 0 && self.alone).map(|&times| (times, true));
            beside
                .chain(alone)
                .map(move |(times, alone)| mixture(reference, times, alone))
                .collect::<Vec<_>>()
        };
        self.reference.iter().flat_map(of).collect()
    }
}

impl Mixture {
    /// The name in tables: `GBLUP, 1000 real + 2000 wgan`.
    pub fn name(&self) -> String {
        let synthetic = format!("{} {}", self.reference * self.times, self.generator);
        match (self.times, self.alone) {
            (0, _) => format!("{}, {} real", self.model, self.reference),
            (_, false) => format!("{}, {} real + {synthetic}", self.model, self.reference),
            (_, true) => format!("{}, {synthetic} alone", self.model),
        }
    }

    /// The model and what its animals are, in words that are the same for all references: `GBLUP, real + 2 wgan for each`.
    pub fn kind(&self) -> String {
        match self.times {
            0 => self.model.clone(),
            _ => format!("{}, {}", self.model, self.share()),
        }
    }

    /// What its animals are, in words that are the same for all references.
    pub fn share(&self) -> String {
        match (self.times, self.alone) {
            (0, _) => "real alone".into(),
            (k, false) => format!("real + {k} {} for each", self.generator),
            (k, true) => format!("{k} {} for each real, alone", self.generator),
        }
    }
}

/// The number of the model that each is compared with; its own where it is a reference itself. `main` is the one named,
/// or the first. A model of fewer animals is compared with the same kind without synthetic animals, or else with the kind
/// of `main`, of as many real animals.
pub fn references(models: &[ModelConfig], main: usize) -> Vec<usize> {
    let of_main = models[main].mixture.as_ref().map_or(&models[main].name, |x| &x.model);
    let of = |m: &ModelConfig| {
        let mixture = m.mixture.as_ref()?;
        let plain = |name: &str| {
            let is = |x: &Mixture| x.model == name && x.reference == mixture.reference && x.times == 0;
            models.iter().position(|other| other.mixture.as_ref().is_some_and(is))
        };
        let same_kind = if mixture.times > 0 { plain(&mixture.model) } else { None };
        same_kind.or_else(|| plain(of_main))
    };
    models.iter().map(|m| of(m).unwrap_or(main)).collect()
}

/// The models with one for each mixture in the place of those that have some.
pub fn expand(models: Vec<ModelConfig>) -> Vec<ModelConfig> {
    let each = |model: ModelConfig| match &model.augment {
        None => vec![model],
        Some(augment) => {
            let mixtures = augment.mixtures(&model.name);
            let of = |mixture: Mixture| ModelConfig {
                name: mixture.name(),
                mixture: Some(mixture),
                ..model.clone()
            };
            mixtures.into_iter().map(of).collect()
        }
    };
    models.into_iter().flat_map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models(names: &[&str], reference: &[usize], times: &[usize]) -> Vec<ModelConfig> {
        let (generator, settings) = (default_generator(), Text::default());
        let augment = AugmentConfig {
            generator,
            settings,
            reference: reference.into(),
            times: times.into(),
            alone: false,
        };
        let model = |name: &&str| ModelConfig {
            name: (*name).into(),
            augment: Some(augment.clone()),
            ..ModelConfig::gblup()
        };
        expand(names.iter().map(model).collect())
    }

    #[test]
    fn models_are_compared_with_what_learned_from_as_many_real_animals() {
        // A: 10, 10 + 10, 20, 20 + 20; B: the same.
        let both = models(&["A", "B"], &[10, 20], &[0, 1]);
        assert_eq!(references(&both, 2), [0, 0, 2, 2, 0, 4, 2, 6]);
        // Without the real animals alone a model is compared with the reference of as many, and else with the main one.
        let mut some = both;
        some.remove(4);
        assert_eq!(references(&some, 2), [0, 0, 2, 2, 0, 2, 5]);
        some.insert(0, ModelConfig { name: "all".into(), ..ModelConfig::gblup() });
        assert_eq!(references(&some, 0), [0, 0, 1, 0, 3, 0, 0, 6]);
        let plain = vec![ModelConfig::gblup(); 3];
        assert_eq!(references(&plain, 1), [1; 3]);
    }
}
