//! `genialearn info`: what a store, a relationship matrix or a model holds.

use super::Context;
use crate::error::{Error, Result};
use crate::generate::{model, Reader};
use crate::genotype::{store, Animals, Store, Variants};
use crate::grm;
use crate::hdf::{self, Format};
use crate::nn::checkpointer;
use crate::predict;
use serde_json::{json, Map, Value};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  genialearn info cows.h5
  genialearn info model.h5 --json | jq .attributes";

/// Files of any kind.
static ANY: Format = Format {
    name: "genialearn-file",
    version: 1,
    what: "a file that genialearn wrote",
    advice:
        "this command explains stores, relationship matrices, models, generators and checkpoints of training",
};

/// What the user may type.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// A file that genialearn wrote: store, relationship matrix, model, generator or checkpoint of training
    #[arg(value_name = "FILE.h5")]
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The root reads and prints.
pub fn run(args: Args, context: &mut Context) -> Result<()> {
    let text = context.world.on_root(|| {
        let facts = describe(&args.file)?;
        if args.json {
            return Ok(serde_json::to_string_pretty(&facts).expect("plain values serialize"));
        }
        let mut text = String::new();
        render(&facts, 0, &mut text);
        Ok(text.trim_end().to_owned())
    })?;
    context.say(text);
    Ok(())
}

/// Everything worth telling about a file.
fn describe(path: &Path) -> Result<Map<String, Value>> {
    let formats =
        [&store::FORMAT, &model::FORMAT, &grm::file::FORMAT, &predict::FORMAT, &checkpointer::FORMAT];
    let name = hdf::format_of(path)?;
    let Some(format) = formats.into_iter().find(|f| Some(f.name) == name.as_deref()) else {
        // Tells what it is in the place of a whole file.
        hdf::Reader::open(path, &ANY)?;
        return Err(Error::input(path.display(), ANY.what, name.unwrap_or_default(), "update genialearn"));
    };
    let mut facts = Map::new();
    facts.insert("file".into(), json!(path.display().to_string()));
    match format.name {
        name if name == store::FORMAT.name => {
            let store = Store::open(path)?;
            facts.insert("kind".into(), json!("genotype store"));
            facts.insert("animals".into(), animals(store.animals()));
            facts.insert("snps".into(), snps(store.variants(), store.n_animals()));
        }
        name if name == model::FORMAT.name => generator(path, &mut facts)?,
        name => {
            let reader = hdf::Reader::open(path, format)?;
            let kind = match (name, reader.root().text("kind")) {
                (name, _) if name == grm::file::FORMAT.name => "genomic relationship matrix".into(),
                (name, _) if name == checkpointer::FORMAT.name => "training to go on with --resume".into(),
                (_, Ok(name)) => {
                    let about = predict::Kind::of_file(&name).map_or("of an unknown kind", |kind| kind.about);
                    format!("model ({name}): {about}")
                }
                (_, Err(_)) => "model".into(),
            };
            facts.insert("kind".into(), json!(kind));
            facts.insert("attributes".into(), Value::Object(reader.root().attributes()?));
            facts.insert("datasets".into(), Value::Object(reader.root().datasets()?));
        }
    }
    Ok(facts)
}

/// What a generator was trained on and how.
fn generator(path: &Path, facts: &mut Map<String, Value>) -> Result<()> {
    let header = Reader::open(path)?.header()?;
    facts.insert("kind".into(), json!(format!("generator of genotypes ({})", header.kind)));
    facts.insert("training_animals".into(), json!(header.animals));
    facts.insert("snps".into(), snps(&header.variants, header.animals));
    let conditions = header.conditions.as_ref().map_or_else(|| "none".into(), |c| c.names.join(", "));
    facts.insert("conditions".into(), json!(conditions));
    let config: toml::Table = header.config.parse().unwrap_or_default();
    facts.insert("configuration".into(), json!(config));
    Ok(())
}

/// How many animals there are and what is known about them.
fn animals(a: &Animals) -> Value {
    let known = |column: &[String]| column.iter().filter(|c| !c.is_empty()).count();
    let dates: BTreeSet<&String> = a.birth_date.iter().filter(|d| !d.is_empty()).collect();
    let groups: BTreeSet<&String> = a.group.iter().filter(|g| !g.is_empty()).collect();
    let mut facts = json!({
        "number": a.len(),
        "with_sire": known(&a.sire),
        "with_dam": known(&a.dam),
        "males": a.sex.iter().filter(|s| **s == 1).count(),
        "females": a.sex.iter().filter(|s| **s == 2).count(),
        "groups": groups.len(),
        "with_birth_date": known(&a.birth_date),
    });
    if let (Some(first), Some(last)) = (dates.first(), dates.last()) {
        facts["born"] = json!(format!("{first} to {last}"));
    }
    facts
}

/// How many SNPs there are, where, and how frequent and complete.
fn snps(v: &Variants, n: usize) -> Value {
    let mut chromosomes: Vec<(&String, usize)> = Vec::new();
    for name in &v.chromosome {
        match chromosomes.iter_mut().rev().find(|(c, _)| *c == name) {
            Some((_, count)) => *count += 1,
            None => chromosomes.push((name, 1)),
        }
    }
    let rarer: Vec<f64> = v.frequency.iter().map(|p| p.min(1.0 - p)).filter(|p| !p.is_nan()).collect();
    let missing: u64 = v.missing.iter().sum();
    let calls = (n as u64 * v.len() as u64).max(1);
    json!({
        "number": v.len(),
        "missing_calls": missing,
        "missing_share": missing as f64 / calls as f64,
        "monomorphic": rarer.iter().filter(|p| **p == 0.0).count(),
        "mean_minor_allele_frequency": rarer.iter().sum::<f64>() / rarer.len().max(1) as f64,
        "by_chromosome": chromosomes.into_iter().map(|(c, k)| (c.clone(), json!(k))).collect::<Map<_, _>>(),
    })
}

/// What is told first; the rest by number, then by name.
fn order(name: &str) -> (usize, u64, &str) {
    const FIRST: [&str; 6] = ["file", "kind", "number", "format", "animals", "snps"];
    let place = FIRST.iter().position(|f| *f == name).unwrap_or(FIRST.len());
    (place, name.parse().unwrap_or(u64::MAX), name)
}

/// The facts as indented lines.
fn render(facts: &Map<String, Value>, depth: usize, text: &mut String) {
    let mut facts: Vec<(&String, &Value)> = facts.iter().collect();
    facts.sort_by_key(|(name, _)| order(name));
    for (name, value) in facts {
        let label = if depth == 0 || !name.contains('_') { name.clone() } else { name.replace('_', " ") };
        let indent = "  ".repeat(depth);
        match value {
            Value::Object(inner) => {
                text.push_str(&format!("{indent}{label}:\n"));
                render(inner, depth + 1, text);
            }
            Value::String(s) => text.push_str(&format!("{indent}{label}: {s}\n")),
            Value::Number(x) if x.is_f64() => {
                text.push_str(&format!("{indent}{label}: {:.6}\n", x.as_f64().unwrap_or(f64::NAN)));
            }
            other => text.push_str(&format!("{indent}{label}: {other}\n")),
        }
    }
}
