//! What a study compares: data, models, validations. Read from TOML; paths are relative to the file.

use crate::config;
use crate::error::{Error, Result};
use crate::evaluate::augment::expand;
use crate::evaluate::data::{beside, parse_columns, DataConfig};
use crate::evaluate::folds::Scheme;
use crate::evaluate::idle;
use crate::evaluate::models::ModelConfig;
use crate::genotype::import::ImportConfig;
use crate::lines;
use crate::records::Columns;
use crate::simulate::SimulationConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

/// A whole study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyConfig {
    /// Heading of the report.
    #[serde(default = "default_title")]
    pub title: String,
    /// Genotypes and records.
    #[serde(default)]
    pub data: DataConfig,
    /// Genotypes of another format instead of a store.
    #[serde(default)]
    pub import: Option<ImportConfig>,
    /// A simulated herd instead of a store and records.
    #[serde(default)]
    pub simulate: Option<SimulationConfig>,
    /// The models to compare; GBLUP when none is named.
    #[serde(default = "default_models", rename = "model")]
    pub models: Vec<ModelConfig>,
    /// Name of the model that all others are compared with; the first when left out.
    #[serde(default)]
    pub reference: Option<String>,
    /// Differences of r within this margin of 0 are level.
    #[serde(default = "default_margin")]
    pub margin: f64,
    /// How they are validated; five random folds when nothing is named.
    #[serde(default = "default_validations", rename = "validation")]
    pub validations: Vec<ValidationConfig>,
    /// How sure the scores are.
    #[serde(default)]
    pub bootstrap: BootstrapConfig,
    /// What the report shows.
    #[serde(default)]
    pub report: ReportConfig,
}

/// One validation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidationConfig {
    /// Name in tables and pictures; the scheme's when left out.
    pub name: Option<String>,
    /// Who is tested.
    pub scheme: SchemeName,
    /// Number of folds (random, family).
    #[serde(default = "five")]
    pub folds: usize,
    /// Number of repetitions (random, family).
    #[serde(default = "one")]
    pub repeats: usize,
    /// Share of the animals that is tested (forward).
    #[serde(default = "fifth")]
    pub test_share: f64,
    /// Groups that stay together (family): `FILE:column`; the store's `group` when left out.
    pub groups: Option<String>,
    /// Folds (given): `FILE:column`, or `FILE` with a column `fold`.
    pub list: Option<String>,
}

/// The schemes by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SchemeName {
    /// Random folds.
    Random,
    /// Groups are never split.
    Family,
    /// The youngest are predicted from the older ones.
    Forward,
    /// Folds from a list.
    Given,
}

/// The bootstrap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BootstrapConfig {
    /// Number of samples of animals.
    pub replicates: usize,
}

/// The report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReportConfig {
    /// Whether LD and PCA of the genotypes are shown: linkage disequilibrium, frequencies, kinship, components.
    pub genotypes: bool,
    /// Whether each model is fitted to all records, too, and kept for `predict`.
    pub models: bool,
}

impl Default for BootstrapConfig {
    fn default() -> Self {
        BootstrapConfig { replicates: 1000 }
    }
}

impl Default for ReportConfig {
    fn default() -> Self {
        ReportConfig { genotypes: true, models: false }
    }
}

fn default_title() -> String {
    "How well can the traits be predicted?".into()
}

fn default_margin() -> f64 {
    0.02
}

fn default_models() -> Vec<ModelConfig> {
    vec![ModelConfig::gblup()]
}

fn default_validations() -> Vec<ValidationConfig> {
    vec![ValidationConfig {
        name: None,
        scheme: SchemeName::Random,
        folds: five(),
        repeats: one(),
        test_share: fifth(),
        groups: None,
        list: None,
    }]
}

fn five() -> usize {
    5
}

fn one() -> usize {
    1
}

fn fifth() -> f64 {
    0.2
}

impl StudyConfig {
    /// Reads and checks a configuration; its paths become relative to the working folder.
    pub fn read(path: &Path) -> Result<StudyConfig> {
        let text = lines::read_text(path)?;
        let mut study: StudyConfig = config::parse(&text, path)?;
        study.data.resolve(path);
        if let Some(import) = &mut study.import {
            import.resolve(path);
        }
        for v in &mut study.validations {
            for text in [&mut v.groups, &mut v.list].into_iter().flatten() {
                *text = beside(path, text);
            }
        }
        study.check(path)?;
        idle::refuse(&config::parse(&text, path)?, &study, path)?;
        study.models = expand(study.models);
        study.check_reference(path)?;
        if let Some(twice) = repeated(study.models.iter().map(|m| m.name.clone())) {
            let advice = "rename a model, or name each `reference` and `times` once";
            return Err(Error::input(
                path.display(),
                "models of different names",
                format!("`{twice}` twice"),
                advice,
            ));
        }
        Ok(study)
    }

    /// Whether the study makes its genotypes, instead of reading a store.
    pub fn makes_store(&self) -> bool {
        self.simulate.is_some() || self.import.is_some()
    }

    /// The number of the model that others are compared with: the one named, or the first, with most real animals and
    /// without synthetic ones where it learns from several numbers of them.
    pub fn reference(&self) -> usize {
        let named = |name: &String| self.models.iter().position(|m| m.name == *name);
        if let Some(named) = self.reference.as_ref().and_then(named) {
            return named;
        }
        let Some(first) = &self.models[0].mixture else { return 0 };
        let animals = |k: &usize| {
            let mixture = self.models[*k].mixture.as_ref().filter(|x| x.model == first.model)?;
            Some((mixture.times == 0, mixture.reference, std::cmp::Reverse(mixture.times)))
        };
        (0..self.models.len()).max_by_key(animals).unwrap_or(0)
    }

    /// All of it with the defaults of what is left out, as TOML.
    ///
    /// # Errors
    /// Settings that a kind of model refuses.
    pub fn resolved(&self) -> Result<String> {
        let mut models: Vec<toml::Table> = Vec::new();
        for model in &self.models {
            let table = model.resolved()?;
            // The mixtures of a model with synthetic animals stand beside each other.
            if models.last() != Some(&table) {
                models.push(table);
            }
        }
        let plain = StudyConfig { models: Vec::new(), reference: None, ..self.clone() };
        let mut all = toml::Table::try_from(plain).expect("plain fields serialize");
        let validations = all.get_mut("validation").and_then(toml::Value::as_array_mut).into_iter().flatten();
        for (table, validation) in validations.zip(&self.validations) {
            let table = table.as_table_mut().expect("a validation is a table");
            idle::remove_from_validation(table, validation);
        }
        all.insert("reference".into(), self.models[self.reference()].name.clone().into());
        all.insert("model".into(), models.into());
        Ok(config::as_text(&all))
    }

    fn check_reference(&self, path: &Path) -> Result<()> {
        let names: Vec<&str> = self.models.iter().map(|m| m.name.as_str()).collect();
        match &self.reference {
            Some(name) if !names.contains(&name.as_str()) => {
                let place = format!("{} `reference`", path.display());
                let advice =
                    config::nearest(name, names.iter().copied()).map(|n| format!("did you mean `{n}`?"));
                let advice = advice.as_deref().unwrap_or("name one of the models");
                Err(Error::input(place, format!("one of {}", names.join(", ")), format!("`{name}`"), advice))
            }
            _ => Ok(()),
        }
    }

    fn check_data(&self, path: &Path) -> Result<()> {
        let wrong = |expected: &str, found: String, advice: &str| {
            Err(Error::input(path.display(), expected, found, advice))
        };
        let data = &self.data;
        let sources = [self.simulate.is_some(), self.import.is_some(), data.store.is_some()];
        match sources.iter().filter(|given| **given).count() {
            0 => {
                return wrong(
                    "genotypes",
                    "no `store`".into(),
                    "add `store` under [data], [import] or [simulate]",
                )
            }
            1 => {}
            _ => {
                return wrong(
                    "one of `store`, [import] and [simulate]",
                    "several".into(),
                    "remove the others",
                )
            }
        }
        match (&self.simulate, &data.pheno) {
            (Some(herd), None) => herd.check()?,
            (Some(_), Some(_)) => return wrong("[simulate] or `pheno`", "both".into(), "remove one"),
            (None, Some(_)) => {}
            (None, None) => return wrong("records", "no `pheno`".into(), "add `pheno` under [data]"),
        }
        self.import.as_ref().map_or(Ok(()), ImportConfig::check)
    }

    fn check(&self, path: &Path) -> Result<()> {
        let wrong = |expected: &str, found: String, advice: &str| {
            Err(Error::input(path.display(), expected, found, advice))
        };
        self.check_data(path)?;
        if self.models.is_empty() || self.validations.is_empty() {
            return wrong(
                "at least one model and one validation",
                "none".into(),
                "leave the key out for the default",
            );
        }
        if let Some(twice) = repeated(self.models.iter().map(|m| m.name.clone())) {
            return wrong("models of different names", format!("`{twice}` twice"), "rename one");
        }
        if let Some(twice) = repeated(self.validations.iter().map(ValidationConfig::label)) {
            return wrong("validations of different names", format!("`{twice}` twice"), "add `name`");
        }
        self.models.iter().try_for_each(|m| m.check(path))?;
        if !(self.margin >= 0.0 && self.margin < 1.0) {
            return wrong(
                "a `margin` of r from 0 to below 1",
                self.margin.to_string(),
                "set it within this range",
            );
        }
        if !(2..=100_000).contains(&self.bootstrap.replicates) {
            let found = self.bootstrap.replicates.to_string();
            return wrong("2 to 100000 bootstrap replicates", found, "change `replicates`");
        }
        self.validations.iter().try_for_each(|v| v.check(path))
    }
}

impl ValidationConfig {
    /// The name in tables: its own or the scheme's.
    pub fn label(&self) -> String {
        let scheme = match self.scheme {
            SchemeName::Random => "random",
            SchemeName::Family => "family",
            SchemeName::Forward => "forward",
            SchemeName::Given => "given",
        };
        self.name.clone().unwrap_or_else(|| scheme.into())
    }

    /// The scheme with its numbers.
    pub fn scheme(&self) -> Scheme {
        let (folds, repeats) = (self.folds, self.repeats);
        match self.scheme {
            SchemeName::Random => Scheme::Random { folds, repeats },
            SchemeName::Family => Scheme::Family { folds, repeats },
            SchemeName::Forward => Scheme::Forward { test_share: self.test_share },
            SchemeName::Given => Scheme::Given,
        }
    }

    /// The file and column of groups or folds, if one is named.
    pub fn labels(&self) -> Option<Columns> {
        let (text, column) = match self.scheme {
            SchemeName::Family => (self.groups.as_ref(), "group"),
            SchemeName::Given => (self.list.as_ref(), "fold"),
            _ => (None, ""),
        };
        let mut columns = text.map(|t| parse_columns(t))?;
        if columns.names.is_empty() {
            columns.names = vec![column.into()];
        }
        Some(columns)
    }

    fn check(&self, path: &Path) -> Result<()> {
        let place = format!("{} validation `{}`", path.display(), self.label());
        if self.repeats == 0 {
            return Err(Error::input(place, "at least one repetition", 0, "change `repeats`"));
        }
        if !(self.test_share > 0.0 && self.test_share < 1.0) {
            return Err(Error::input(
                place,
                "a test share between 0 and 1",
                self.test_share,
                "change `test_share`",
            ));
        }
        if self.scheme == SchemeName::Given && self.list.is_none() {
            return Err(Error::input(place, "a list of folds", "none", "add `list = \"folds.tsv:fold\"`"));
        }
        Ok(())
    }
}

fn repeated(names: impl Iterator<Item = String>) -> Option<String> {
    let mut seen = BTreeSet::new();
    names.into_iter().find(|n| !seen.insert(n.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<StudyConfig> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("study.toml");
        std::fs::write(&path, text).unwrap();
        StudyConfig::read(&path)
    }

    #[test]
    fn what_is_left_out_has_a_default_and_paths_are_relative_to_the_file() {
        let s = read("[data]\nstore = \"a.h5\"\npheno = \"p.tsv\"\ncovar = \"c.tsv:sex,year\"\n").unwrap();
        assert_eq!((s.models.len(), s.models[0].name.as_str()), (1, "GBLUP"));
        assert_eq!(s.validations[0].scheme(), Scheme::Random { folds: 5, repeats: 1 });
        let sources = s.data.sources(s.data.pheno.as_ref().unwrap());
        let covar = sources.covariates.unwrap();
        assert!(covar.path.is_absolute() && covar.path.ends_with("c.tsv"));
        assert_eq!(covar.names, ["sex", "year"]);
        assert!(s.data.store.unwrap().is_absolute());
    }

    #[test]
    fn mistakes_are_told_with_the_remedy() {
        let message = |text: &str| read(text).unwrap_err().to_string();
        let data = "[data]\nstore = \"a.h5\"\npheno = \"p.tsv\"\n";
        let message = |text: &str| message(&format!("{data}{text}"));
        assert!(read("").unwrap_err().to_string().contains("no `store`"));
        assert!(message("[simulate]\nanimals = 10\n").contains("found several"));
        assert!(message("[bootstrap]\nreplicate = 3\n").contains("did you mean `replicates`?"));
        assert!(message("[[model]]\nname = \"a\"\ngrm = \"vanraden3\"\n").contains("did you mean `vanraden"));
        assert!(message("[[model]]\nname = \"a\"\nkind = \"dlblup\"\n").contains("did you mean `dlgblup`?"));
        let old = "[[model]]\nname = \"a\"\nkind = \"mlp\"\n[model.mlp.network]\nhidden = [3]\n";
        assert!(message(old).contains("write [model.network] for [model.mlp.network]"));
        let reference = format!("reference = \"b\"\n{data}");
        assert!(read(&reference).unwrap_err().to_string().contains("`reference`"));
        assert!(message("[[model]]\nname = \"a\"\nreplicates = 3\n").contains("do not depend on the seed"));
        assert!(message("[[model]]\nname = \"a\"\n[[model]]\nname = \"a\"\n").contains("`a` twice"));
        assert!(message("[[validation]]\nscheme = \"given\"\n").contains("add `list"));
        assert!(message("[[validation]]\nscheme = \"randm\"\n").contains("did you mean `random`?"));
        assert!(
            message("[[validation]]\nscheme = \"forward\"\ntest_share = 1.5\n").contains("between 0 and 1")
        );
    }

    #[test]
    fn the_examples_are_accepted() {
        let Some(folder) = crate::repository::file("examples") else { return };
        let mut studies = 0;
        for path in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            if path.extension().is_some_and(|e| e == "toml") && !path.ends_with("selection.toml") {
                StudyConfig::read(&path).unwrap_or_else(|e| panic!("{e}"));
                studies += 1;
            }
        }
        assert!(studies >= 4, "{studies}");
    }

    #[test]
    fn keys_that_do_nothing_beside_the_others_are_refused() {
        let of = |text: &str| read(&format!("[simulate]\n{text}\n")).map_err(|e| e.to_string());
        let refused = |text: &str, key: &str| {
            let message = of(text).expect_err(text);
            assert!(message.contains(&format!("`{key}`")) && message.contains("remove the key"), "{message}");
        };
        for key in ["folds = 3", "repeats = 2", "groups = \"g.tsv:x\"", "list = \"f.tsv\""] {
            refused(&format!("[[validation]]\nscheme = \"forward\"\n{key}"), key.split(' ').next().unwrap());
        }
        refused("[[validation]]\nscheme = \"given\"\nlist = \"f.tsv\"\nfolds = 3", "folds");
        refused("[[validation]]\nscheme = \"random\"\ntest_share = 0.3", "test_share");
        refused("[[validation]]\nscheme = \"family\"\nlist = \"f.tsv\"", "list");
        let mlp = "[[model]]\nname = \"m\"\nkind = \"mlp\"\n";
        for key in ["gblup.grm = \"vanraden2\"", "gblup.solver = \"pcg\"", "gblup.h2 = 0.3"] {
            refused(&format!("{mlp}{key}"), "gblup");
            assert!(of(&format!("{mlp}residual = true\n{key}")).is_ok());
        }
        refused(&format!("{mlp}inner_folds = 3"), "inner_folds");
        refused(&format!("{mlp}[model.training]\ncheckpoint_every = 3"), "training.checkpoint_every");
        let augment = "[[model]]\nname = \"a\"\n[model.augment]\nreference = [20]\n";
        refused(&format!("{augment}times = [0]\nalone = true"), "augment.alone");
        assert!(
            of(&format!("{augment}times = [0]")).is_ok() && of(&format!("{augment}alone = true")).is_ok()
        );
    }

    #[test]
    fn a_model_with_synthetic_animals_becomes_one_for_each_mixture_on_all_ranks() {
        let model =
            "[simulate]\n[[model]]\nname = \"A\"\n[model.augment]\nreference = [10, 20]\nalone = true\n";
        let s = read(&format!("{model}[model.augment.settings.training]\nepochs = 3\n")).unwrap();
        let names: Vec<&str> = s.models.iter().map(|m| m.name.as_str()).collect();
        let of_ten = ["A, 10 real", "A, 10 real + 10 wgan", "A, 10 wgan alone"];
        assert_eq!((names.len(), &names[..3]), (6, &of_ten[..]));
        assert!(s.models[1].mixture.as_ref().unwrap().settings.contains("epochs = 3"));
        let sent = postcard::to_stdvec(&s).unwrap();
        assert_eq!(postcard::from_bytes::<StudyConfig>(&sent).unwrap(), s);
        let wrong = |text: &str| read(&format!("{model}{text}")).unwrap_err().to_string();
        assert!(wrong("generator = \"mosaic\"\n").contains("takes conditions"));
        assert!(wrong("[model.augment.settings.training]\nepoch = 3\n").contains("did you mean `epochs`?"));
    }

    #[test]
    fn the_resolved_configuration_is_read_as_the_same_study() {
        let text = "margin = 0.05\n[simulate]\nanimals = 50\n[[model]]\nname = \"A\"\n[[model]]\nname = \"M\"\nkind = \"mlp\"\n\
                    [model.network]\nhidden = [7]\n[[model]]\nname = \"S\"\n[model.augment]\nreference = [10, 20]\n";
        let study = read(text).unwrap();
        let resolved = study.resolved().unwrap();
        assert!(resolved.contains("weight_decay = 30") && resolved.contains("replicates = 3"), "{resolved}");
        let again = read(&resolved).unwrap();
        assert_eq!(again.resolved().unwrap(), resolved);
        assert_eq!(again.models.len(), study.models.len());
    }

    #[test]
    fn groups_and_folds_come_from_a_named_column() {
        let s = read("[simulate]\n[[validation]]\nscheme = \"family\"\ngroups = \"p.tsv:breed\"\n[[validation]]\nscheme = \"given\"\nlist = \"f.tsv\"\n").unwrap();
        assert_eq!(s.validations[0].labels().unwrap().names, ["breed"]);
        assert_eq!(s.validations[1].labels().unwrap().names, ["fold"]);
    }
}
