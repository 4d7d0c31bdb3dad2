//! Models in words: `intercept + parity + (1|herd_year) + additive + dominance + permanent_environment`.
//!
//! A name of `RELATIONS` or `kernel(FILE)` is a random effect with these relationships of the animals, `(1|CLASS)` a
//! class of independent levels, `a*b` the product of two, `permanent_environment` what the records of an animal share.
//! Any other name is a fixed class, `number(NAME)` a regression, `absorb(NAME)` a fixed class of many levels.

use crate::grm::{Method, Scaling};
use std::path::{Path, PathBuf};

/// The permanent environment of the animals.
pub const PERMANENT: &str = "permanent_environment";

/// Relationships by their names in models.
const RELATIONS: [(&str, Method); 7] = [
    ("additive", Method::Product(Scaling::VanRaden1)),
    ("vanraden1", Method::Product(Scaling::VanRaden1)),
    ("vanraden2", Method::Product(Scaling::VanRaden2)),
    ("yang", Method::Yang),
    ("dominance", Method::Product(Scaling::Dominance)),
    ("epistasis", Method::Epistasis),
    ("gaussian", Method::Product(Scaling::VanRaden1)),
];

/// Where relationships come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// The store's genotypes.
    Genotypes(Method),
    /// exp(−d²/(h · median d²)) with the distances of VanRaden 1.
    Gaussian(f64),
    /// A file of `genialearn grm`, or GCTA's.
    File(PathBuf),
}

/// One factor of a random effect's covariance.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Relationships of the animals.
    Relation(Source),
    /// A class of the records: a column, or FILE:COLUMN.
    Class(String),
    /// The animals as a class.
    Animal,
}

/// A random effect: one covariance, or the product of two.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    /// As it stands in tables.
    pub name: String,
    /// One or two factors.
    pub parts: Vec<Part>,
}

/// A model of some traits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Formula {
    /// Fixed classes: columns of the phenotypes' table.
    pub classes: Vec<String>,
    /// Regressions: columns of the phenotypes' table.
    pub numbers: Vec<String>,
    /// The fixed class that is absorbed.
    pub absorbed: Option<String>,
    /// Random effects.
    pub random: Vec<Term>,
}

/// A file's name without folder and ending.
pub fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| path.display().to_string(), |s| s.to_string_lossy().into_owned())
}

/// NAME of `function(NAME)`.
fn argument<'a>(text: &'a str, function: &str) -> Option<&'a str> {
    Some(text.strip_prefix(function)?.trim_start().strip_prefix('(')?.strip_suffix(')')?.trim())
}

/// The relationships that a text names.
fn relation(text: &str) -> Result<Option<Source>, String> {
    if let Some(path) = argument(text, "kernel") {
        return Ok(Some(Source::File(path.trim_matches(['\'', '"']).into())));
    }
    if let Some(h) = argument(text, "gaussian") {
        return match h.parse::<f64>() {
            Ok(h) if h > 0.0 && h.is_finite() => Ok(Some(Source::Gaussian(h))),
            _ => Err(format!("expected a positive bandwidth such as gaussian(0.5), found {text:?}")),
        };
    }
    let known = RELATIONS.into_iter().find(|(name, _)| *name == text);
    Ok(known.map(|(name, method)| match name {
        "gaussian" => Source::Gaussian(1.0),
        _ => Source::Genotypes(method),
    }))
}

impl Term {
    /// A class of independent levels; `animal` and `permanent_environment` are the animals'.
    pub fn of_class(text: &str) -> Term {
        let name = text.rsplit_once(':').map_or(text, |(_, name)| name);
        match text {
            PERMANENT | "animal" => Term { name: PERMANENT.to_owned(), parts: vec![Part::Animal] },
            _ => Term { name: name.to_owned(), parts: vec![Part::Class(text.to_owned())] },
        }
    }

    /// Relationships in a file.
    pub fn of_file(path: &Path) -> Term {
        Term { name: stem(path), parts: vec![Part::Relation(Source::File(path.to_owned()))] }
    }

    /// Relationships by their name, or a product `a*b` of which at least one factor has relationships and the other may
    /// be a class.
    pub fn of_relations(text: &str) -> Result<Term, String> {
        let factors: Vec<&str> = text.split('*').map(str::trim).collect();
        let mut parts = Vec::new();
        for factor in &factors {
            parts.push(match relation(factor)? {
                Some(source) => Part::Relation(source),
                None => Part::Class((*factor).to_owned()),
            });
        }
        let relations = parts.iter().filter(|p| matches!(p, Part::Relation(_))).count();
        if relations == 0 || parts.len() > 2 || factors.iter().any(|f| f.is_empty()) {
            let known = RELATIONS.map(|(name, _)| name).join(", ");
            return Err(format!(
                "expected {known}, or a product of one of them with another or a class, such as \
                 additive*environment"
            ));
        }
        let name = match &parts[..] {
            [Part::Relation(Source::File(path))] => stem(path),
            _ => factors.join("*"),
        };
        Ok(Term { name, parts })
    }

    /// Whether its levels are the animals with their relationships: values of genotypes.
    pub fn is_genetic_value(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Relation(_)))
    }

    /// How many relationships it multiplies.
    pub fn relations(&self) -> usize {
        self.parts.iter().filter(|part| matches!(part, Part::Relation(_))).count()
    }

    /// The classes that it needs: columns, or FILE:COLUMN.
    pub fn classes(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Class(name) => Some(name.as_str()),
            _ => None,
        })
    }
}

impl Formula {
    /// Reads a model in words.
    ///
    /// # Errors
    /// What is wrong with a term, for a message that tells where the text stands.
    pub fn parse(text: &str) -> Result<Formula, String> {
        let mut out = Formula::default();
        for term in split(text) {
            match term {
                "" => return Err("expected a term on both sides of each +".into()),
                "0" | "-1" => {
                    return Err("expected a model with an intercept (absorb() takes its place)".into())
                }
                "1" | "intercept" => {}
                PERMANENT => out.random.push(Term::of_class(PERMANENT)),
                _ => out.add(term)?,
            }
        }
        let names: Vec<&String> = out.random.iter().map(|t| &t.name).collect();
        if let Some(twice) = (1..names.len()).find(|&k| names[..k].contains(&names[k])) {
            return Err(format!("expected every random effect once, found {} twice", names[twice]));
        }
        Ok(out)
    }

    fn add(&mut self, term: &str) -> Result<(), String> {
        if let Some(class) = term.strip_prefix('(').and_then(|t| t.strip_suffix(')')) {
            let Some(("1", class)) = class.split_once('|').map(|(one, class)| (one.trim(), class.trim()))
            else {
                return Err(format!("expected a random class such as (1|herd_year), found {term}"));
            };
            self.random.push(Term::of_class(class));
        } else if let Some(name) = argument(term, "number") {
            self.numbers.push(name.to_owned());
        } else if let Some(name) = argument(term, "absorb") {
            if self.absorbed.replace(name.to_owned()).is_some() {
                return Err("expected one absorbed class, found two".into());
            }
        } else if term.contains('*') || relation(term)?.is_some() {
            self.random.push(Term::of_relations(term)?);
        } else if term.contains(['(', ')', '|', ':']) {
            return Err(format!(
                "expected a column, (1|CLASS), number(), absorb(), kernel(FILE) or relationships, found {term}"
            ));
        } else {
            self.classes.push(term.to_owned());
        }
        Ok(())
    }
}

/// The terms between the + outside of parentheses; an optional `trait =` or `trait ~` is not part of the text.
fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut first, mut terms) = (0usize, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '+' if depth == 0 => {
                terms.push(text[first..at].trim());
                first = at + 1;
            }
            _ => {}
        }
    }
    terms.push(text[first..].trim());
    terms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dairy_model_in_words() {
        let text = "intercept + parity + number(age) + (1 | herd_year) + additive + dominance \
                    + permanent_environment + additive*environment + kernel(ped+1/a.h5) + gaussian(0.5)";
        let model = Formula::parse(text).unwrap();
        assert_eq!((model.classes, model.numbers), (vec!["parity".to_owned()], vec!["age".to_owned()]));
        let names: Vec<&str> = model.random.iter().map(|t| t.name.as_str()).collect();
        let want =
            ["herd_year", "additive", "dominance", PERMANENT, "additive*environment", "a", "gaussian(0.5)"];
        assert_eq!(names, want);
        assert_eq!(model.random[0].parts, [Part::Class("herd_year".into())]);
        assert_eq!(model.random[3].parts, [Part::Animal]);
        let additive = Part::Relation(Source::Genotypes(Method::Product(Scaling::VanRaden1)));
        assert_eq!(model.random[4].parts, [additive, Part::Class("environment".into())]);
        assert_eq!(model.random[4].classes().collect::<Vec<_>>(), ["environment"]);
        assert_eq!(model.random[5].parts, [Part::Relation(Source::File("ped+1/a.h5".into()))]);
        assert_eq!(model.random[6].parts, [Part::Relation(Source::Gaussian(0.5))]);
        let absorbed = Formula::parse("absorb(herd_year_season) + additive").unwrap().absorbed;
        assert_eq!(absorbed.as_deref(), Some("herd_year_season"));
    }

    #[test]
    fn mistakes_are_told() {
        for (text, told) in [
            ("additive + + parity", "both sides"),
            ("(1|a) + (1|a)", "a twice"),
            ("(2|a)", "(1|herd_year)"),
            ("parity*herd", "such as additive*environment"),
            ("gaussian(-1)", "positive bandwidth"),
            ("absorb(a) + absorb(b)", "found two"),
            ("-1", "with an intercept"),
            ("log(age)", "number()"),
        ] {
            let e = Formula::parse(text).unwrap_err();
            assert!(e.contains(told), "{text}: {e}");
        }
    }

    #[test]
    fn options_name_files_and_columns() {
        assert_eq!(Term::of_class("pens.tsv:pen").name, "pen");
        assert_eq!(Term::of_file(Path::new("x/ped.h5")).name, "ped");
        assert!(Term::of_relations("sire").unwrap_err().contains("additive, vanraden1"));
    }
}
