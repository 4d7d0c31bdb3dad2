//! Every key of every configuration changes something: each is given another value in a tiny run, whose result must
//! differ. A key that the tables below do not reach, or that is no key any more, fails too.

mod support;

use genialearn::comm::World;
use genialearn::device;
use genialearn::evaluate::selection::{self, SelectionConfig};
use genialearn::generate::{wgan_gp, Conditions, Herd as TrainingHerd, Kind, Setting, KINDS};
use genialearn::genotype::Store;
use genialearn::predict::learner::dlgblup::DlgblupConfig;
use genialearn::predict::learner::mlp::MlpConfig;
use genialearn::simulate::{Herd, Outputs, SimulationConfig};
use genialearn::trees::{boosting, forest};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use support::succeeds;
use toml::{Table, Value};

/// What a key is changed to where the rule of [`changed`] would change nothing, and what else both runs then have:
/// key, value, and `key = value` lines.
type Special = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// The dotted names of all keys with a value.
fn leaves(table: &Table) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) => out.extend(leaves(inner).into_iter().map(|rest| format!("{key}.{rest}"))),
            _ => {
                out.insert(key.clone());
            }
        }
    }
    out
}

fn parse(value: &str) -> Value {
    toml::from_str::<Table>(&format!("x = {value}")).unwrap().remove("x").unwrap()
}

/// The table with another value for a dotted key.
fn with(table: &Table, key: &str, value: Value) -> Table {
    let mut out = table.clone();
    let (path, last) = key.rsplit_once('.').map_or((None, key), |(path, last)| (Some(path), last));
    let parts = path.into_iter().flat_map(|path| path.split('.'));
    let inner = parts.fold(&mut out, |at, part| {
        at.entry(part).or_insert_with(|| Value::Table(Table::new())).as_table_mut().unwrap()
    });
    inner.insert(last.into(), value);
    out
}

fn at<'a>(table: &'a Table, key: &str) -> &'a Value {
    key.split('.').skip(1).fold(&table[key.split('.').next().unwrap()], |v, part| &v[part])
}

/// Another value: the other of two, one more, or half of it.
fn changed(value: &Value) -> Value {
    match value {
        Value::Boolean(b) => (!b).into(),
        Value::Integer(i) => (i + 1).into(),
        Value::Float(x) if *x == 0.0 => 0.1.into(),
        Value::Float(x) => (0.5 * x).into(),
        Value::Array(all) if !all.is_empty() => {
            let mut all = all.clone();
            let last = all.len() - 1;
            all[last] = changed(&all[last]);
            all.into()
        }
        other => panic!("{other} needs a value in the table of special keys"),
    }
}

/// A pair of tables for every key of `all` but the `exempt`: the base, and the base with another value.
fn pairs(
    all: &Table,
    base: &[(&str, &str)],
    special: &[Special],
    exempt: &[&str],
) -> Vec<(String, Table, Table)> {
    let mut keys = leaves(all);
    for key in special.iter().map(|s| s.0).chain(exempt.iter().copied()).chain(base.iter().map(|b| b.0)) {
        // A table in the place of a value, or a key without a default, has no leaf of that name.
        let known = keys.iter().any(|k| k == key || k.starts_with(&format!("{key}.")));
        assert!(known || special.iter().any(|s| s.0 == key), "`{key}` is no key any more");
    }
    keys.retain(|key| !exempt.iter().any(|e| key == e || key.starts_with(&format!("{e}."))));
    keys.extend(special.iter().map(|s| s.0.to_owned()));
    let set = |table: Table, more: &[(&str, &str)]| {
        more.iter().fold(table, |table, (key, value)| with(&table, key, parse(value)))
    };
    let base = set(all.clone(), base);
    let pair = |key: String| {
        let of = special.iter().find(|s| s.0 == key);
        let begun = set(base.clone(), of.map_or(&[], |s| s.2));
        let value = of.map_or_else(|| changed(at(&begun, &key)), |s| parse(s.1));
        let other = with(&begun, &key, value);
        (key, begun, other)
    };
    keys.into_iter().map(pair).collect()
}

/// All keys of kind mlp; those of `train mlp` are the same.
const MLP: [Special; 10] = [
    ("inner_folds", "2", &[("residual", "true")]),
    ("gblup.grm", "\"vanraden2\"", &[("residual", "true")]),
    ("gblup.solver", "\"pcg\"", &[("residual", "true")]),
    ("gblup.h2", "0.2", &[("residual", "true")]),
    ("network.normalisation", "\"none\"", &[]),
    ("training.loss", "{ huber = 0.5 }", &[]),
    ("training.warm_up", "0.9", &[]),
    ("training.epsilon", "0.1", &[]),
    ("training.clip", "1e-3", &[]),
    ("training.batch", "5", &[]),
];

const NETWORK: [Special; 5] = [
    ("gblup.grm", "\"vanraden2\"", &[]),
    ("gblup.solver", "\"pcg\"", &[]),
    ("gblup.h2", "0.2", &[]),
    ("network.batch", "5", &[]),
    ("network.patience", "1", &[("network.epochs", "150"), ("network.learning_rate", "0.02")]),
];

const BOOSTING: [Special; 5] = [
    ("depth", "1", &[]),
    ("leaves", "2", &[]),
    ("huber_delta", "0.3", &[]),
    ("patience", "1", &[("validation", "0.3"), ("rounds", "60")]),
    ("gamma", "1.5", &[]),
];

/// Models of a study, two for each key: their settings by name.
fn models() -> Vec<(String, Table, Table)> {
    let mut out = Vec::new();
    let mlp = Table::try_from(MlpConfig::default()).unwrap();
    let small = [
        ("network.hidden", "[6]"),
        ("training.batch", "16"),
        ("training.epochs", "3"),
        ("training.validation", "0.0"),
    ];
    // How ranks share the work changes no result; checkpoints are refused in a study.
    // One model of all traits is refused below a network.
    let exempt = ["ranks.grid", "ranks.exchange", "training.checkpoint_every", "gblup.joint"];
    let mut special = MLP.to_vec();
    special.push(("training.patience", "1", &[("training.validation", "0.3"), ("training.epochs", "60")]));
    for (key, a, b) in pairs(&mlp, &small, &special, &exempt) {
        // Keys that a study refuses: of checkpoints, and of GBLUP where there is none.
        let of = |mut t: Table| {
            t.get_mut("training").unwrap().as_table_mut().unwrap().remove("checkpoint_every");
            t.extend(toml::from_str::<Table>("kind = \"mlp\"\nreplicates = 1").unwrap());
            if t["residual"].as_bool() == Some(true) {
                t.get_mut("gblup").unwrap().as_table_mut().unwrap().entry("h2").or_insert(0.4.into());
            } else {
                t.remove("inner_folds");
                t.remove("gblup");
            }
            t
        };
        out.push((format!("mlp {key}"), of(a), of(b)));
    }
    let dlgblup = Table::try_from(DlgblupConfig::default()).unwrap();
    let small = [
        ("network.hidden", "[6]"),
        ("network.batch", "16"),
        ("network.epochs", "12"),
        ("network.validation", "0.3"),
        ("network.residual", "false"),
    ];
    for kind in ["dlgblup", "dl"] {
        for (key, a, b) in pairs(&dlgblup, &small, &NETWORK, &["gblup.joint"]) {
            let of = |mut t: Table| {
                t.extend(toml::from_str::<Table>(&format!("kind = \"{kind}\"\nreplicates = 1")).unwrap());
                t.get_mut("gblup").unwrap().as_table_mut().unwrap().entry("h2").or_insert(0.4.into());
                t
            };
            out.push((format!("{kind} {key}"), of(a), of(b)));
        }
    }
    let gblup: Table = toml::from_str("h2 = 0.4").unwrap();
    for (key, value) in [("h2", "0.2"), ("grm", "\"vanraden2\""), ("solver", "\"pcg\"")] {
        out.push((format!("gblup {key}"), gblup.clone(), with(&gblup, key, parse(value))));
    }
    out.push(("gblup joint".into(), Table::new(), toml::from_str("joint = true").unwrap()));
    let one = |h: &str| toml::from_str(&format!("kind = \"rkhs\"\nbandwidth = [{h}]")).unwrap();
    out.push(("rkhs bandwidth".into(), one("0.4"), one("3.0")));
    let of_kind = |kind: &str, t: Table| {
        let mut t = t;
        if t.get("validation").is_some_and(|share| share.as_float() == Some(0.0)) {
            // Refused where nothing stops.
            t.remove("patience");
        }
        t.extend(toml::from_str::<Table>(&format!("kind = \"{kind}\"\nreplicates = 1")).unwrap());
        t
    };
    let small = [("rounds", "12"), ("min_animals", "2"), ("snp_share", "0.6"), ("validation", "0.0")];
    let boosting = Table::try_from(boosting::Config::default()).unwrap();
    for (key, a, b) in pairs(&boosting, &small, &BOOSTING, &[]) {
        out.push((format!("boosting {key}"), of_kind("boosting", a), of_kind("boosting", b)));
    }
    let forest = Table::try_from(forest::Config::default()).unwrap();
    for (key, a, b) in pairs(&forest, &[("trees", "5")], &[("depth", "1", &[])], &[]) {
        out.push((format!("forest {key}"), of_kind("forest", a), of_kind("forest", b)));
    }
    let stack = |text: &str| of_kind("stacked", toml::from_str(text).unwrap());
    let both = "base = [{ h2 = 0.4 }, { kind = \"rkhs\" }]";
    out.push(("stacked base".into(), stack(both), stack("base = [{ h2 = 0.4 }, { h2 = 0.01 }]")));
    out.push(("stacked inner_folds".into(), stack(both), stack(&format!("inner_folds = 2\n{both}"))));
    let fits = |k: usize| -> Table {
        let text = format!(
            "kind = \"dlgblup\"\nreplicates = {k}\n[network]\nhidden = [6]\nepochs = 3\nresidual = false"
        );
        toml::from_str(&text).unwrap()
    };
    out.push(("replicates".into(), fits(1), fits(2)));
    out
}

/// The rows of each value of a column, without the columns that only repeat names.
fn results(table: &str, column: &str) -> BTreeMap<String, Vec<String>> {
    let mut lines = table.lines();
    let head: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let k = head.iter().position(|name| *name == column).unwrap();
    let mut out = BTreeMap::<String, Vec<String>>::new();
    for line in lines {
        let cells: Vec<&str> = line.split('\t').collect();
        let rest = cells.iter().enumerate().filter(|(i, _)| *i > 1).map(|(_, cell)| *cell);
        out.entry(cells[k].to_owned()).or_default().push(rest.collect::<Vec<_>>().join("\t"));
    }
    out
}

const SIMULATED: &str = "[simulate]\nanimals = 70\nsnps = 80\ntraits = 2\n[bootstrap]\nreplicates = 2\n[report]\ngenotypes = false\n";

fn study(dir: &Path, text: &str) -> String {
    let (config, out) = (dir.join("s.toml"), dir.join("out"));
    std::fs::write(&config, text).unwrap();
    succeeds(1, &["study", config.to_str().unwrap(), "--out", out.to_str().unwrap(), "--force", "--quiet"]);
    std::fs::read_to_string(out.join("scores.tsv")).unwrap()
}

#[test]
fn every_key_of_a_studys_models_changes_its_predictions() {
    let dir = tempfile::tempdir().unwrap();
    let models = models();
    let mut all: Table = toml::from_str(SIMULATED).unwrap();
    let mut list = Vec::new();
    for (name, a, b) in &models {
        for (which, table) in [("base", a), ("changed", b)] {
            list.push(Value::Table(with(table, "name", format!("{name} {which}").into())));
        }
    }
    all.insert("model".into(), list.into());
    all.insert("validation".into(), parse("[{ scheme = \"random\", folds = 2 }]"));
    let rows = results(&study(dir.path(), &toml::to_string(&all).unwrap()), "model");
    assert_eq!(rows.len(), 2 * models.len());
    let idle: Vec<&str> = models
        .iter()
        .map(|(name, ..)| name.as_str())
        .filter(|name| rows[&format!("{name} base")] == rows[&format!("{name} changed")])
        .collect();
    assert!(idle.is_empty(), "these keys change nothing: {idle:?}");
}

#[test]
fn every_key_of_a_studys_validations_changes_its_folds() {
    let dir = tempfile::tempdir().unwrap();
    let lines = |of: &dyn Fn(usize) -> usize| -> String {
        (1..=70).map(|i| format!("C{i:06}\t{}\t{}\n", of(i), of(i + 1))).collect()
    };
    std::fs::write(dir.path().join("g.tsv"), format!("id\ta\tb\n{}", lines(&|i| i * i % 11))).unwrap();
    let cases = [
        ("folds", "scheme = \"random\"\nfolds = 3", "scheme = \"random\"\nfolds = 4"),
        ("repeats", "scheme = \"random\"\nfolds = 3", "scheme = \"random\"\nfolds = 3\nrepeats = 2"),
        ("scheme", "scheme = \"random\"\nfolds = 3", "scheme = \"family\"\nfolds = 3\ngroups = \"g.tsv:a\""),
        (
            "groups",
            "scheme = \"family\"\nfolds = 3\ngroups = \"g.tsv:a\"",
            "scheme = \"family\"\nfolds = 3\ngroups = \"g.tsv:b\"",
        ),
        ("test_share", "scheme = \"forward\"", "scheme = \"forward\"\ntest_share = 0.4"),
        ("list", "scheme = \"given\"\nlist = \"g.tsv:a\"", "scheme = \"given\"\nlist = \"g.tsv:b\""),
    ];
    let mut text = format!("{SIMULATED}[[model]]\nname = \"G\"\nh2 = 0.4\n");
    for (key, a, b) in cases {
        for (which, lines) in [("base", a), ("changed", b)] {
            text += &format!("[[validation]]\nname = \"{key} {which}\"\n{lines}\n");
        }
    }
    let rows = results(&study(dir.path(), &text), "validation");
    for (key, ..) in cases {
        assert_ne!(rows[&format!("{key} base")], rows[&format!("{key} changed")], "{key}");
    }
}

/// A herd's files in a new folder within `dir`, in one; and its store.
fn simulated(config: &SimulationConfig, dir: &Path) -> (Vec<u8>, Store) {
    let dir = tempfile::tempdir_in(dir).unwrap().keep();
    let outputs = Outputs::beside(&dir.join("h.h5"), &dir.join("h.pheno.tsv"), false);
    let herd = Herd::draw(1, config).unwrap();
    let dropped = herd.write_genotypes(&World::alone(), &outputs).unwrap().expect("the root");
    herd.write_traits(&herd.traits(&dropped), &outputs).unwrap();
    // What a herd is, not what it was asked to be.
    let files = [&outputs.phenotypes, &outputs.truth, &outputs.qtl];
    let mut all: Vec<u8> = files.iter().flat_map(|path| std::fs::read(path).unwrap()).collect();
    let store = Store::open(&outputs.store).unwrap();
    all.extend(store.read(0..store.n_animals(), 0..store.n_variants()).unwrap().bytes());
    all.extend(format!("{:?}{:?}", store.variants().position, store.animals()).bytes());
    (all, store)
}

/// Traits that use every key of a trait.
const TRAITS: &str = "
animals = 60
snps = 116
qtl = 20
[[trait]]
name = \"a\"
group = \"g\"
h2 = 0.4
mean = 10.0
sd = 2.0
non_additive = 0.2
form = \"dominance\"
recorded = 0.8
own_qtl = 12
classes = [0.3]
[[trait]]
name = \"b\"
group = \"k\"
h2 = 0.3
non_additive = 0.2
form = \"quadratic\"
of = \"a\"
spread = 1.0
recorded = 0.6
[[correlation]]
between = [\"a\", \"b\"]
r = 0.3
[[major]]
name = \"M\"
chromosome = 3
place = 0.4
effects = { a = 0.1 }
";

#[test]
fn every_key_of_a_simulation_changes_the_herd() {
    let dir = tempfile::tempdir().unwrap();
    let base: Table = toml::from_str(TRAITS).unwrap();
    let mut all = Table::try_from(base.clone().try_into::<SimulationConfig>().unwrap()).unwrap();
    ["trait", "correlation", "major"].iter().for_each(|list| drop(all.remove(*list)));
    let mut cases: Vec<(String, Table)> = Vec::new();
    for key in leaves(&all).into_iter().filter(|key| key != "traits") {
        let value = if key == "pedigree.last_year" { parse("2015") } else { changed(at(&all, &key)) };
        cases.push((key.clone(), with(&base, &key, value)));
    }
    cases.push(("traits".into(), with(&base, "traits", 1.into())));
    cases.push(("pedigree.sires".into(), with(&base, "pedigree.sires", 30.into())));
    let in_list = |list: &str, number: usize, key: &str, value: &str| {
        let mut tables = base[list].as_array().unwrap().clone();
        tables[number] = Value::Table(with(tables[number].as_table().unwrap(), key, parse(value)));
        (format!("{list} {key}"), with(&base, list, tables.into()))
    };
    for (key, value) in [
        ("h2", "0.5"),
        ("sd", "3.0"),
        ("non_additive", "0.3"),
        ("form", "\"epistasis\""),
        ("recorded", "0.5"),
        ("own_qtl", "15"),
        ("classes", "[0.5]"),
        ("group", "\"k\""),
    ] {
        cases.push(in_list("trait", 0, key, value));
    }
    cases.push(in_list("trait", 1, "name", "\"c\""));
    cases.push(in_list("trait", 1, "spread", "2.0"));
    cases.push(in_list("trait", 1, "mean", "11.0"));
    cases.push(in_list("correlation", 0, "r", "0.6"));
    for (key, value) in [("chromosome", "5"), ("place", "0.9"), ("effects", "{ b = 0.1 }"), ("name", "\"N\"")]
    {
        cases.push(in_list("major", 0, key, value));
    }
    // Those that are left: pairs of names, whose change the others show.
    let known: BTreeSet<&str> = cases.iter().map(|(name, _)| name.as_str()).collect();
    let full = Table::try_from(base.clone().try_into::<SimulationConfig>().unwrap()).unwrap();
    for list in ["trait", "correlation", "major"] {
        for key in full[list].as_array().unwrap().iter().flat_map(|t| t.as_table().unwrap().keys()) {
            let name = format!("{list} {key}");
            assert!(
                known.contains(name.as_str()) || ["trait of", "correlation between"].contains(&name.as_str()),
                "{name}"
            );
        }
    }
    let wanted = simulated(&base.clone().try_into().unwrap(), dir.path()).0;
    let idle: Vec<&String> = cases
        .iter()
        .filter(|(name, table)| {
            let mut table = table.clone();
            if name == "trait name" {
                table.remove("correlation");
            }
            let config = table.try_into::<SimulationConfig>().unwrap_or_else(|e| panic!("{name}: {e}"));
            simulated(&config, dir.path()).0 == wanted
        })
        .map(|(name, _)| name)
        .collect();
    assert!(idle.is_empty(), "these keys change nothing: {idle:?}");
}

#[test]
fn every_key_of_a_selection_changes_its_gain() {
    let text = "h2 = 0.4\n[simulate]\nanimals = 60\nsnps = 58\ntraits = 1\n[selection]\ngenerations = 1\ncandidates = 16\nparents = 4\n\
                [dlgblup]\ninner_folds = 2\n[dlgblup.network]\nhidden = [4]\nepochs = 4\nvalidation = 0.3\nresidual = false\n";
    let base: Table = toml::from_str(text).unwrap();
    let (world, device) = (World::alone(), device::open("cpu").unwrap());
    let gain = |table: &Table| {
        let config: SelectionConfig = table.clone().try_into().unwrap();
        config.check("selection").unwrap();
        let steps = selection::run(&world, &device, &config, 0, 1).unwrap();
        steps
            .iter()
            .map(|s| format!("{:?} {} {} {} {}", s.criterion, s.generation, s.gain, s.spread, s.accuracy))
            .collect::<Vec<_>>()
    };
    let wanted = gain(&base);
    let all = Table::try_from(base.clone().try_into::<SelectionConfig>().unwrap()).unwrap();
    // The command runs `repeats` herds; the keys of the herd and of DLGBLUP have tests of their own, and one of each is
    // seen here.
    let own = leaves(&all).into_iter().filter(|k| !k.starts_with("simulate") && !k.starts_with("dlgblup"));
    let keys = own
        .filter(|k| k != "selection.repeats")
        .chain(["simulate.animals", "dlgblup.inner_folds"].map(String::from));
    for key in keys {
        assert_ne!(gain(&with(&base, &key, changed(at(&all, &key)))), wanted, "{key}");
    }
}

/// Small networks and few epochs; keys whose change needs more; keys that change no generator.
fn generator(kind: &str) -> (Vec<(&'static str, &'static str)>, Vec<Special>, Vec<&'static str>) {
    match kind {
        "wgan" => (
            vec![
                ("network.latent", "4"),
                ("network.widths", "[4, 6]"),
                ("training.batch", "16"),
                ("training.epochs", "3"),
                ("training.evaluate_every", "1"),
                ("training.patience", "0"),
                ("training.k", "3"),
            ],
            vec![
                ("training.batch", "7", &[]),
                ("training.epsilon", "0.1", &[]),
                ("training.evaluate_every", "2", &[]),
                ("training.patience", "1", &[("training.epochs", "12")]),
                // Fewer than twenty animals are not held back.
                ("training.validation", "0.5", &[]),
            ],
            // How ranks share the work changes no result, and a preset nothing where every key is given.
            vec!["preset", "ranks", "training.checkpoint_every"],
        ),
        "vae" => (
            vec![("widths", "[8]"), ("latent", "3"), ("batch", "16"), ("epochs", "3")],
            vec![("batch", "7", &[])],
            vec![],
        ),
        "gan" => (
            vec![
                ("latent", "4"),
                ("generator", "[6]"),
                ("discriminator", "[6]"),
                ("batch", "16"),
                ("epochs", "3"),
            ],
            vec![("batch", "7", &[])],
            vec![],
        ),
        "ddpm" => (
            vec![("widths", "[8]"), ("steps", "20"), ("batch", "16"), ("epochs", "3")],
            vec![("batch", "7", &[]), ("warm_up", "0.9", &[])],
            vec![],
        ),
        "relatives" => (
            vec![],
            vec![
                ("distance_snps", "8", &[]),
                ("relatives", "9", &[]),
                ("generations", "3", &[("relatives", "4")]),
                ("own_share", "0.9", &[("relatives", "4")]),
            ],
            vec![],
        ),
        _ => Default::default(),
    }
}

#[test]
fn every_key_of_a_generator_changes_its_training_or_its_animals() {
    let dir = tempfile::tempdir().unwrap();
    let herd = SimulationConfig { animals: 40, snps: 87, traits: Some(1), ..SimulationConfig::default() };
    let store = simulated(&herd, dir.path()).1;
    let (world, device) = (World::alone(), device::open("cpu").unwrap());
    let y = ndarray::Array2::from_shape_fn((40, 1), |(i, _)| (i % 7) as f64);
    let made = |kind: &Kind, table: &Table| {
        let text = toml::to_string(table).unwrap();
        let recipe = (kind.configure)(Some((&text, Path::new(kind.name)))).unwrap();
        let ranks = recipe.ranks(&world, &device, kind.split, store.n_variants()).unwrap();
        let conditions = kind.conditional.then(|| Conditions::standardise(&["t".into()], y.view()).unwrap());
        let rows: Vec<usize> = (0..40).collect();
        let herd = TrainingHerd::read(&ranks, &store, &rows, conditions.clone(), 1).unwrap();
        let setting = Setting { ranks: &ranks, device: &device, seed: 1 };
        let mut trained = recipe.train(&setting, &herd, None).unwrap();
        let wanted = conditions.as_ref().map(|c| c.values.view());
        let drawn = trained.generator.draw(&ranks, 0..40, wanted, 1).unwrap();
        (drawn.bytes().to_vec(), format!("{:?}", trained.curve.rows))
    };
    for kind in KINDS {
        let (base, special, exempt) = generator(kind.name);
        let all = match kind.name {
            "wgan" => Table::try_from(wgan_gp::Config::default()).unwrap(),
            _ => toml::from_str(&kind.defaults()).unwrap(),
        };
        for (key, a, b) in pairs(&all, &base, &special, &exempt) {
            assert!(made(kind, &a) != made(kind, &b), "`{key}` of {} changes nothing", kind.name);
        }
    }
}
