//! Names are the field's words: those that were ours alone are refused in code and in configuration keys.

mod support;

use std::path::Path;
use support::sources;

/// Names that were once in use, and the field's word for each.
const REFUSED: &[(&str, &str)] = &[
    ("Card", "Gpu"),
    ("Cards", "Gpus"),
    ("Course", "Progress or a name of its own"),
    ("Deal", "BlockCyclic"),
    ("Facing", "SnpLayer"),
    ("Flavour", "Scaling"),
    ("Keeper", "Checkpointer"),
    ("Maker", "GeneratorNet"),
    ("Markers", "GenotypeMatrix"),
    ("Onto", "Accumulate"),
    ("Referee", "EarlyStopping"),
    ("Retrospect", "LrStatistics"),
    ("Road", "PanelSource"),
    ("Watcher", "Monitor"),
    ("card", "gpu"),
    ("cards", "gpus"),
    ("gradients", "conjugate_gradient"),
    ("len_of", "numroc"),
    ("look_back", "lr_statistics"),
    ("retrospect", "lr_method"),
    ("silence", "freeze"),
];

/// Keys that were once in use, and the field's.
const KEYS: &[(&str, &str)] = &[
    ("decay", "weight_decay"),
    ("huber", "huber_delta"),
    ("judge", "discriminator"),
    ("judge_rate", "discriminator_learning_rate"),
    ("last_rate", "last_learning_rate"),
    ("look_every", "evaluate_every"),
    ("maker", "generator"),
    ("maker_rate", "generator_learning_rate"),
    ("neighbours", "k"),
    ("penalty", "l2 or gradient_penalty"),
    ("rate", "learning_rate"),
    ("slope", "negative_slope"),
];

/// What a line defines, if anything.
fn defined(line: &str) -> Option<&str> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|w| {
        matches!(*w, "struct" | "enum" | "trait" | "type" | "fn" | "mod" | "const" | "static")
    })?;
    let before = ["pub", "pub(crate)", "pub(super)", "unsafe", "async", "extern", "default"];
    let only = words[..at].iter().all(|w| before.contains(w) || w.starts_with("pub("));
    let name = words.get(at + 1).filter(|_| only)?;
    Some(name.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or(name))
}

#[test]
fn nothing_is_called_by_a_word_of_our_own() {
    assert_eq!(defined("    pub(super) fn look_back<'a>(x: &'a str) {"), Some("look_back"));
    assert_eq!(defined("/// A trait for cards"), None);
    let mut seen = 0;
    for path in sources(Path::new("src")) {
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        for name in text.lines().filter_map(defined).chain([stem.as_str()]) {
            seen += 1;
            let word = REFUSED.iter().find(|(refused, _)| *refused == name);
            assert!(word.is_none(), "{}: `{name}`: the field's word is {word:?}", path.display());
        }
    }
    assert!(seen > 2000, "definitions were found: {seen}");
}

#[test]
fn no_key_of_a_configuration_is_a_word_of_our_own() {
    let program = |words: &[&str]| {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_genialearn")).args(words).output().unwrap();
        assert!(done.status.success(), "{words:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    let mut texts = vec![program(&["study", "--template"])];
    for kind in ["mlp", "dlgblup", "dl", "boosting", "forest", "stacked", "wgan", "vae", "gan", "ddpm"] {
        texts.push(program(&["train", kind, "--help"]));
    }
    let mut keys = 0;
    for line in texts.iter().flat_map(|text| text.lines()) {
        let Some((key, _)) = line.trim_start_matches(['#', ' ']).split_once(" = ") else { continue };
        keys += 1;
        let word = KEYS.iter().find(|(refused, _)| *refused == key.trim());
        assert!(word.is_none(), "{line}: the field's word is {word:?}");
    }
    assert!(keys > 100, "keys were found: {keys}");
}
