//! Records of animals in several environments: a row a record, and models that learn genotype by environment.

mod support;

use genialearn::genotype::Store;
use genialearn::stats;
use std::collections::HashMap;
use std::path::Path;
use support::{genialearn, listing, run_alone, succeeds};

/// Environments and how hot they are.
const HEAT: [(&str, f64); 4] = [("cool", -1.5), ("mild", -0.5), ("warm", 0.5), ("hot", 1.5)];

/// A herd with true values of two traits: what animals yield, and how they take heat.
struct Trial {
    dir: tempfile::TempDir,
    /// True values of the two traits, standardised, by animal.
    truth: HashMap<String, [f64; 2]>,
}

/// The cells of a table below its header.
fn rows(path: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().skip(1).map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

impl Trial {
    /// The last fifth of the animals has no records.
    fn new(animals: usize) -> Trial {
        let mut trial = Trial { dir: tempfile::tempdir().unwrap(), truth: HashMap::new() };
        let (store, pheno, count) =
            (trial.path("lines.h5"), trial.path("simulated.tsv"), animals.to_string());
        let size = ["--animals", &count, "--snps", "300", "--traits", "2", "-q"];
        succeeds(1, &[&["simulate", "--out", &store, "--pheno", &pheno], &size[..]].concat());
        let found = rows(&trial.path("lines.truth.tsv"));
        let column = |c: usize| found.iter().map(|row| row[c].parse().unwrap()).collect::<Vec<f64>>();
        let standard = [1, 3].map(|c| {
            let x = column(c);
            let (mean, sd) = (stats::mean(&x), stats::variance(&x).sqrt());
            x.iter().map(|x| (x - mean) / sd).collect::<Vec<f64>>()
        });
        let mut noise = genialearn::rng::Stream::new(7, genialearn::rng::Purpose::Test, 0);
        let mut text = "id\tenvironment\tsown\tgrain\n".to_owned();
        for (i, row) in found.iter().enumerate() {
            trial.truth.insert(row[0].clone(), [standard[0][i], standard[1][i]]);
            for (k, (name, heat)) in HEAT.iter().enumerate().filter(|(k, _)| i % 5 != 4 && (i + k) % 7 != 0) {
                let y = 10.0 * k as f64 + standard[0][i] + heat * standard[1][i] + 0.7 * noise.normal();
                text += &format!("{}\t{name}\t{}\t{y:.4}\n", row[0], 100 + i % 3);
            }
        }
        std::fs::write(trial.path("plots.tsv"), text).unwrap();
        let weather: String = HEAT.iter().map(|(name, heat)| format!("{name}\t{heat}\n")).collect();
        std::fs::write(trial.path("weather.tsv"), format!("environment\theat\n{weather}")).unwrap();
        trial
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// The arguments of `expand`.
    fn expand(&self, more: &[&str]) -> Vec<String> {
        let [store, plots, weather, out] =
            ["lines.h5", "plots.tsv", "weather.tsv", "plots"].map(|name| self.path(name));
        let own = ["expand", &store, "--pheno", &plots, "--by", "environment", "--environments", &weather];
        own.iter().chain(&["--out", &out, "-q"]).chain(more).map(|&text| text.to_owned()).collect()
    }

    fn succeeds(&self, ranks: usize, args: &[String]) -> String {
        succeeds(ranks, &args.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

#[test]
fn a_row_a_record_has_its_animals_genotypes_and_its_environment() {
    let trial = Trial::new(60);
    trial.succeeds(2, &trial.expand(&["--features", "sown"]));
    let [before, after] =
        ["lines.h5", "plots.h5"].map(|name| Store::open(Path::new(&trial.path(name))).unwrap());
    let calls = [&before, &after].map(|s| s.read(0..s.n_animals(), 0..s.n_variants()).unwrap());
    let records = rows(&trial.path("plots.records.tsv"));
    let features = rows(&trial.path("plots.features.tsv"));
    assert_eq!(
        (records.len(), features.len(), after.n_animals()),
        (after.n_animals(), after.n_animals(), 166)
    );
    let heat: HashMap<&str, f64> = HEAT.into_iter().collect();
    for (row, name) in after.animals().id.iter().enumerate() {
        let (animal, environment) = name.split_once('@').unwrap();
        let of = before.animals().id.iter().position(|id| id == animal).unwrap();
        assert_eq!(calls[1].row(row), calls[0].row(of), "{name}");
        assert_eq!(
            (after.animals().group[row].as_str(), &after.animals().sex[row]),
            (animal, &before.animals().sex[of])
        );
        assert_eq!((&records[row][0], &features[row][0]), (name, name));
        assert_eq!(features[row][1], environment);
        assert_eq!(features[row][2], (100 + of % 3).to_string());
        assert_eq!(features[row][3].parse::<f64>().unwrap(), heat[environment]);
    }
    let tallies = calls[1].tally_columns();
    let frequency = |t: &[u64; 4]| genialearn::packed::frequency(t).unwrap();
    assert!(tallies.iter().zip(&after.variants().frequency).all(|(t, &p)| (frequency(t) - p).abs() < 1e-12));

    // Refused in a sentence, with nothing left behind.
    let before = listing(trial.dir.path());
    let refused = |args: Vec<String>, expected: &str| {
        let mut command = genialearn(1);
        command.args(&args);
        let out = run_alone(command);
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.code() == Some(2) && told.contains(expected), "{told}");
        assert_eq!(listing(trial.dir.path()), before);
    };
    refused(trial.expand(&[]), "--force");
    let change = |from: &str, to: String| -> Vec<String> {
        let args = trial.expand(&["--force"]);
        args.into_iter().map(|text| if text == from { to.clone() } else { text }).collect()
    };
    refused(change("environment", "enviroment".into()), "did you mean \"environment\"?");
    refused(change(&trial.path("plots"), trial.path("lines")), "replaces no input");
    refused(change(&trial.path("plots.tsv"), trial.path("weather.tsv")), "id");
}

#[test]
fn models_learn_how_animals_take_heat() {
    let trial = Trial::new(500);
    trial.succeeds(1, &trial.expand(&["--features", "sown"]));
    let [store, pheno, covar, features] =
        ["plots.h5", "plots.records.tsv", "plots.features.tsv", "plots.features.tsv:heat"]
            .map(|n| trial.path(n));
    let covar = format!("{covar}:environment");
    // All animals, among them those without records, in the coolest and in the hottest environment.
    for (name, heat) in [HEAT[0], HEAT[3]] {
        let lines = trial.truth.keys().map(|id| format!("{id}\t{heat}\n")).collect::<String>();
        std::fs::write(trial.path(name), format!("id\theat\n{lines}")).unwrap();
    }
    for (kind, settings) in [("boosting", "learning_rate=0.1"), ("mlp", "network.hidden=[32]")] {
        let model = trial.path(&format!("{kind}.h5"));
        let train = ["train", kind, &store, "--pheno", &pheno, "--covar", &covar, "--features", &features];
        succeeds(1, &[&train[..], &["--set", settings, "--out", &model, "-q"]].concat());
        let predicted = [HEAT[0].0, HEAT[3].0].map(|name| {
            let out = trial.path(&format!("{kind}_{name}"));
            let lines = trial.path("lines.h5");
            succeeds(1, &["predict", &model, &lines, "--features", &trial.path(name), "--out", &out, "-q"]);
            rows(&format!("{out}.predictions.tsv"))
        });
        // Animals without records: what heat changes, and what is the same in both.
        let value = |row: &Vec<String>| row[1].parse::<f64>().unwrap();
        let of = predicted[0].iter().zip(&predicted[1]).enumerate().filter(|(i, _)| i % 5 == 4);
        let (mut slope, mut mean, mut truth) = (Vec::new(), Vec::new(), [Vec::new(), Vec::new()]);
        for (_, (cool, hot)) in of {
            slope.push(value(hot) - value(cool));
            mean.push(value(hot) + value(cool));
            (0..2).for_each(|t| truth[t].push(trial.truth[&cool[0]][t]));
        }
        let found = [stats::pearson(&mean, &truth[0]), stats::pearson(&slope, &truth[1])];

        assert!(found[0] > 0.6 && found[1] > 0.6, "{kind}: {found:?}");
    }
}
