//! Configuration files in TOML: an unknown key or a wrong value is an error that says where it stands and what
//! the key was probably meant to be.

use crate::error::{Error, Result};
use crate::lines;
use serde::de::DeserializeOwned;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Reads a configuration. The type should carry `#[serde(deny_unknown_fields)]` at every level.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    parse(&lines::read_text(path)?, path)
}

/// Parses the text of a configuration that stands in `path`.
pub fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T> {
    toml::from_str(text).map_err(|e| {
        let line = e.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        let place = format!("{} line {line}", path.display());
        explain(&place, e.message())
    })
}

/// Settings of one thing: none, the text of a file, or a table of a larger configuration with the place where it stands.
#[derive(Debug, Clone, Copy)]
pub enum Settings<'a> {
    /// The defaults.
    Default,
    /// A file's text, and its name.
    File(&'a str, &'a Path),
    /// A table, and where it stands.
    Table(&'a toml::Table, &'a str),
}

impl Settings<'_> {
    /// The settings as their type says; those that are left out have their defaults.
    ///
    /// # Errors
    /// Unknown keys and wrong values.
    pub fn read<T: DeserializeOwned + Default>(self) -> Result<T> {
        match self {
            Settings::Default => Ok(T::default()),
            Settings::File(text, path) => parse(text, path),
            Settings::Table(table, place) => {
                T::deserialize(toml::Value::Table(table.clone())).map_err(|e| explain(place, e.message()))
            }
        }
    }

    /// Where they stand, for messages.
    pub fn place(&self) -> String {
        match self {
            Settings::Default => "the defaults".into(),
            Settings::File(_, path) => path.display().to_string(),
            Settings::Table(_, place) => (*place).to_owned(),
        }
    }
}

/// Settings as TOML.
pub fn as_text(settings: &impl Serialize) -> String {
    toml::to_string(settings).expect("plain fields serialize")
}

/// A path in a configuration is relative to the file that names it.
pub fn beside(config: &Path, named: &Path) -> PathBuf {
    config.parent().map_or_else(|| named.to_owned(), |folder| folder.join(named))
}

/// The known name that `word` was probably meant to be: the nearest by Jaro-Winkler similarity.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |name: &str| strsim::jaro_winkler(&word.to_lowercase(), &name.to_lowercase());
    known
        .into_iter()
        .map(|name| (likeness(name), name))
        .filter(|(near, _)| *near > 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// Turns the parser's message into ours. serde names things in backticks: the unknown one, then the known ones.
fn explain(place: &str, message: &str) -> Error {
    let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let first_line = message.lines().next().unwrap_or_default();
    match names.split_first() {
        Some((unknown, known)) if message.starts_with("unknown ") => {
            let advice = match nearest(unknown, known.iter().copied()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => "remove it".to_string(),
            };
            let expected = if known.is_empty() { "no such key".into() } else { known.join(", ") };
            Error::input(place, expected, format!("`{unknown}`"), advice)
        }
        _ => Error::input(place, "a valid configuration", first_line, "correct that line"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Herd {
        animals: usize,
        #[serde(default)]
        heritability: f64,
    }

    fn message(text: &str) -> String {
        parse::<Herd>(text, Path::new("herd.toml")).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_names_the_nearest_known_one_and_its_line() {
        let text = message("animals = 3\nheritabilty = 0.3\n");
        assert!(text.starts_with("herd.toml line 2: expected animals, heritability"), "{text}");
        assert!(text.contains("found `heritabilty`; did you mean `heritability`?"), "{text}");
        assert!(!message("animals = 3\nzzz = 1\n").contains("did you mean"));
    }

    #[test]
    fn wrong_values_and_broken_text_say_where() {
        assert!(message("animals = \"many\"")
            .contains("line 1: expected a valid configuration, found invalid type"));
        assert!(message("animals = 3\nheritability = \n").contains("line 2"));
        assert!(message("heritability = 0.1").contains("missing field `animals`"));
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        assert_eq!(beside(Path::new("a/study.toml"), Path::new("b.tsv")), Path::new("a/b.tsv"));
        assert_eq!(beside(Path::new("a/study.toml"), Path::new("/b.tsv")), Path::new("/b.tsv"));
    }
}
