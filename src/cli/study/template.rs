//! `study --template`: a configuration with every key, its meaning and its default.

use crate::config;
use crate::evaluate::models::ModelConfig;
use crate::generate;
use crate::predict::KINDS;

/// Data and validations.
const HEAD: &str = r#"# What `genialearn study` compares. A line that begins with # is a default or an example: take the # away to set it.
# What every key means in full: docs/study.md.

# title = "How well can the traits be predicted?"
# reference = "GBLUP"       # the model that all others are compared with; the first by default
# margin = 0.02             # differences of r within this margin are level

[data]
store = "cows.h5"           # made by `genialearn import` or `simulate`
pheno = "traits.tsv"        # id and one column a trait
# traits = ["milk", "fat"]  # all numeric columns by default
# covar = "herd.tsv:herd,year"   # classes
# qcovar = "age.tsv:age"         # numbers
# features = "herd.tsv:heat,herd"   # what trees and networks learn from beside the genotypes
# weights = "weights.tsv"
# missing = "-9"            # one more text that stands for a missing value

# [simulate]                # a simulated herd instead of [data]: docs/simulation.md
# [import]                  # genotypes of another format instead of a store: docs/store.md

[[validation]]
scheme = "random"           # random, family, forward or given
folds = 5
# repeats = 1
# name = "random"

# [[validation]]
# scheme = "family"         # whole groups are tested: those of the store, or `groups`
# groups = "herds.tsv:herd"
# folds = 5

# [[validation]]
# scheme = "forward"        # the youngest are predicted from older animals
# test_share = 0.2

# [[validation]]
# scheme = "given"
# list = "folds.tsv:fold"

# [bootstrap]
# replicates = 1000

# [report]
# genotypes = true          # LD, frequencies, kinship and components
# models = false            # fit each model to all records, too, and keep it in DIR/models for `predict`

# Models, one [[model]] each: name, kind, and the keys of the kind, as in the file of `train KIND --config`.
[[model]]
name = "GBLUP"
"#;

/// Synthetic animals.
const TAIL: &str = "
# Synthetic animals beside real ones, for any of these models: it is fitted once for each reference and number.
# [model.augment]
# generator = \"wgan\"        # ";

/// The whole template.
pub fn text() -> String {
    let mut out = HEAD.to_owned();
    for (number, kind) in KINDS.iter().enumerate() {
        let name = if number == 0 { "GBLUP".to_owned() } else { kind.name.to_uppercase() };
        let model = ModelConfig { name, kind: kind.name.into(), ..ModelConfig::gblup() };
        let mut keys = model.resolved().expect("the defaults are right");
        let name = keys.remove("name").expect("every model has one");
        // The first kind's keys belong to the model above; GBLUP is what a model is by default.
        if number > 0 {
            out += &format!("\n# {}.\n# [[model]]\n# name = {name}\n", kind.about);
        }
        for line in config::as_text(&keys).lines() {
            let bare = line.trim_start_matches('[');
            let (open, is_table) = (&line[..line.len() - bare.len()], bare.len() < line.len());
            let nested = format!("{open}model.{bare}");
            let line = if is_table { &nested } else { line };
            out += if line.is_empty() { "#" } else { "# " };
            out += line;
            out += "\n";
        }
    }
    out += TAIL;
    let able: Vec<&str> = generate::KINDS.iter().filter(|k| k.conditional).map(|k| k.name).collect();
    out += &format!("{}\n", able.join(", "));
    out += "# reference = [1000]        # real animals\n# times = [0, 1]            # synthetic ones for each\n# alone = false\n";
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::config::StudyConfig;

    /// With the marks of comments taken away all kinds are models of one study.
    #[test]
    fn the_template_is_a_study_and_so_are_the_models_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("study.toml");
        std::fs::write(&path, text()).unwrap();
        assert_eq!(StudyConfig::read(&path).unwrap().models.len(), 1);
        let all = text();
        let (head, models) = all.split_once("name = \"GBLUP\"\n").unwrap();
        let (models, _) = models.split_once("\n# Synthetic").unwrap();
        let is_text = |line: &&str| line.ends_with('.') && !line.contains('=');
        let bare = models
            .lines()
            .filter(|line| !is_text(line))
            .map(|line| line.trim_start_matches("# ").trim_start_matches('#'));
        let bare: Vec<&str> = bare.collect();
        std::fs::write(&path, format!("{head}name = \"GBLUP\"\n{}", bare.join("\n"))).unwrap();
        assert_eq!(StudyConfig::read(&path).unwrap().models.len(), KINDS.len());
    }
}
