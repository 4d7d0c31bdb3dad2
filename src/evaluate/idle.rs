//! Keys of a study's file that would do nothing beside its other keys: they are refused, so that none passes for done.

use crate::error::{Error, Result};
use crate::evaluate::config::{SchemeName, StudyConfig, ValidationConfig};
use crate::evaluate::models::ModelConfig;
use std::path::Path;
use toml::{Table, Value};

/// A key with dots, whether it does nothing here, and why.
type Rule = (&'static str, bool, &'static str);

/// Refuses keys that do nothing. `file` is the text of `study`, which is not expanded yet.
pub fn refuse(file: &Table, study: &StudyConfig, path: &Path) -> Result<()> {
    for (table, model) in tables(file, "model").zip(&study.models) {
        let place = format!("{} model `{}`", path.display(), model.name);
        refuse_given(table, &model_rules(model), &place)?;
    }
    for (table, validation) in tables(file, "validation").zip(&study.validations) {
        let place = format!("{} validation `{}`", path.display(), validation.label());
        refuse_given(table, &validation_rules(validation), &place)?;
    }
    Ok(())
}

/// The tables of an array of tables.
fn tables<'a>(file: &'a Table, name: &str) -> impl Iterator<Item = &'a Table> {
    file.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table)
}

/// Refuses keys of a kind's own settings that do nothing in them.
///
/// # Errors
/// Such a key.
pub fn refuse_in_kind(kind: &str, settings: &Table, place: &str) -> Result<()> {
    refuse_given(settings, &kind_rules(kind, settings), place)
}

/// Rules for the settings of a kind.
fn kind_rules(kind: &str, settings: &Table) -> Vec<Rule> {
    let network_alone = kind == "mlp" && settings.get("residual") != Some(&Value::Boolean(true));
    let no_gblup = "a network alone has no GBLUP: set `residual = true`, or remove the key";
    let share = settings.get("validation").and_then(|v| v.as_float().or(v.as_integer().map(|v| v as f64)));
    let never_stops = kind == "boosting" && share.unwrap_or(0.0) == 0.0;
    let all_rounds = "all rounds are grown: set `validation` above 0, or remove the key";
    vec![
        ("gblup", network_alone, no_gblup),
        ("inner_folds", network_alone, no_gblup),
        ("patience", never_stops, all_rounds),
    ]
}

fn model_rules(model: &ModelConfig) -> Vec<Rule> {
    let mut rules = kind_rules(&model.kind, &model.settings.table());
    let no_checkpoints = "a study keeps fits that are done and no checkpoints: remove the key";
    let never = model.augment.as_ref().is_some_and(|a| a.times.iter().all(|&k| k == 0));
    let no_synthetic = "no synthetic animal is asked for: add 1 or more to `times`, or remove the key";
    rules.extend([
        ("training.checkpoint_every", true, no_checkpoints),
        ("augment.settings.training.checkpoint_every", true, no_checkpoints),
        ("augment.generator", never, no_synthetic),
        ("augment.settings", never, no_synthetic),
        ("augment.alone", never, no_synthetic),
    ]);
    rules
}

fn validation_rules(validation: &ValidationConfig) -> Vec<Rule> {
    let scheme = validation.scheme;
    let drawn = matches!(scheme, SchemeName::Random | SchemeName::Family);
    vec![
        ("folds", !drawn, "only the schemes random and family draw folds: remove the key"),
        ("repeats", !drawn, "only the schemes random and family draw folds: remove the key"),
        ("test_share", scheme != SchemeName::Forward, "only the scheme forward has it: remove the key"),
        ("groups", scheme != SchemeName::Family, "only the scheme family has them: remove the key"),
        ("list", scheme != SchemeName::Given, "only the scheme given has one: remove the key"),
    ]
}

/// Takes away the keys of a model's table that do nothing in it.
pub fn remove_from_model(table: &mut Table, model: &ModelConfig) {
    remove(table, &model_rules(model));
}

/// Takes away the keys of a validation's table that do nothing in it.
pub fn remove_from_validation(table: &mut Table, validation: &ValidationConfig) {
    remove(table, &validation_rules(validation));
}

fn remove(table: &mut Table, rules: &[Rule]) {
    for (key, ..) in rules.iter().filter(|rule| rule.1) {
        let mut parts: Vec<&str> = key.split('.').collect();
        let name = parts.pop().expect("a key has a name");
        let inner =
            parts.into_iter().try_fold(&mut *table, |table, part| table.get_mut(part)?.as_table_mut());
        inner.and_then(|table| table.remove(name));
    }
}

fn refuse_given(table: &Table, rules: &[Rule], place: &str) -> Result<()> {
    let given = |key: &str| {
        let mut parts = key.split('.');
        let first = parts.next().and_then(|part| table.get(part));
        parts.fold(first, |value, part| value?.as_table()?.get(part)).is_some()
    };
    match rules.iter().find(|(key, idle, _)| *idle && given(key)) {
        Some((key, _, why)) => {
            Err(Error::input(place, "keys that have an effect here", format!("`{key}`"), *why))
        }
        None => Ok(()),
    }
}
