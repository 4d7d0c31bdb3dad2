//! Boosting, forests and stacking as users run them: the same files on any number of ranks and threads, applied to other
//! stores, and told by `info`.

mod support;

use std::path::Path;
use support::{genialearn, run_alone, succeeds};

/// A herd of 400 animals with gaps in the records of its three traits, and weights.
fn herd(dir: &Path) {
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let size = ["--animals", "400", "--snps", "700", "--traits", "3", "--quiet"];
    succeeds(1, &[&["simulate", "--out", &path("cows.h5"), "--pheno", &path("t.tsv")], &size[..]].concat());
    let records = std::fs::read_to_string(dir.join("t.tsv")).unwrap();
    let mut weights = String::from("id\tweight\n");
    let mut gaps = String::new();
    for (i, line) in records.lines().enumerate() {
        let mut cells: Vec<&str> = line.split('\t').collect();
        if i > 0 {
            weights += &format!("{}\t{}\n", cells[0], 1.0 + (i % 5) as f64 / 4.0);
            if i % 7 == 0 {
                cells[2] = "NA";
            }
        }
        gaps += &format!("{}\n", cells.join("\t"));
    }
    std::fs::write(dir.join("t.tsv"), gaps).unwrap();
    std::fs::write(dir.join("w.tsv"), weights).unwrap();
}

/// What `train` writes on so many ranks and threads.
fn trained(
    dir: &Path,
    kind: &str,
    settings: &[&str],
    (ranks, threads): (usize, &str),
    weights: bool,
) -> Vec<u8> {
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (out, cows, pheno, w) = (path("m.h5"), path("cows.h5"), path("t.tsv"), path("w.tsv"));
    let mut args = vec!["train", kind, &cows, "--pheno", &pheno, "--out", &out, "--force", "--quiet"];
    args.extend(["--threads", threads]);
    if weights {
        args.extend(["--weights", &w]);
    }
    settings.iter().for_each(|s| args.extend(["--set", s]));
    succeeds(ranks, &args);
    std::fs::read(out).unwrap()
}

#[test]
fn models_are_the_same_bytes_on_any_number_of_ranks_and_threads() {
    let dir = tempfile::tempdir().unwrap();
    herd(dir.path());
    let base = "base=[{kind=\"gblup\"},{kind=\"boosting\",rounds=20}]";
    for (kind, settings, weights) in [
        ("boosting", &["rounds=25", "validation=0.2", "patience=5"][..], false),
        ("boosting", &["rounds=8", "leaves=6", "depth=20", "snp_share=1.0", "huber_delta=1.0"], true),
        ("forest", &["trees=6"], true),
        ("stacked", &["inner_folds=2", base], false),
    ] {
        let one = trained(dir.path(), kind, settings, (1, "1"), weights);
        assert!(one == trained(dir.path(), kind, settings, (1, "2"), weights), "{kind} on two threads");
        for ranks in [2, 3, 4] {
            assert!(
                one == trained(dir.path(), kind, settings, (ranks, "1"), weights),
                "{kind} on {ranks} ranks"
            );
        }
    }
}

#[test]
fn trees_are_the_same_on_every_backend() {
    let dir = tempfile::tempdir().unwrap();
    herd(dir.path());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (cows, pheno, out) = (path("cows.h5"), path("t.tsv"), path("b.h5"));
    let on = |device: &str| {
        let args = ["train", "boosting", &cows, "--pheno", &pheno, "--out", &out, "--force", "--quiet"];
        succeeds(1, &[&args[..], &["--set", "rounds=6", "--device", device]].concat());
        std::fs::read(&out).unwrap()
    };
    let one = on("cpu");
    assert!(one == on("reference") && one == on("strict"));
}

#[test]
fn models_predict_the_animals_of_another_store() {
    let dir = tempfile::tempdir().unwrap();
    herd(dir.path());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    // The same animals from a VCF whose SNPs stand in another order and count the other allele.
    succeeds(1, &["export", &path("cows.h5"), "--format", "vcf", "--out", &path("cows"), "--quiet"]);
    let vcf = std::fs::read_to_string(path("cows.vcf")).unwrap();
    let (head, lines): (Vec<&str>, Vec<&str>) = vcf.lines().partition(|line| line.starts_with('#'));
    let turned = lines.iter().map(|line| {
        let mut cells: Vec<String> = line.split('\t').map(str::to_owned).collect();
        cells.swap(3, 4);
        for call in &mut cells[9..] {
            *call = call
                .chars()
                .map(|c| match c {
                    '0' => '1',
                    '1' => '0',
                    c => c,
                })
                .collect();
        }
        cells.join("\t")
    });
    let text = format!("{}\n{}\n", head.join("\n"), turned.collect::<Vec<_>>().join("\n"));
    std::fs::write(path("turned.vcf"), text).unwrap();
    succeeds(1, &["import", &path("turned.vcf"), "--out", &path("turned.h5"), "--quiet"]);
    for kind in ["boosting", "forest"] {
        let _ = std::fs::remove_file(path("m.out_of_bag.tsv"));
        trained(dir.path(), kind, &[if kind == "forest" { "trees=5" } else { "rounds=30" }], (1, "1"), false);
        let predicted = |store: &str, ranks: usize| {
            let out = path("p");
            succeeds(ranks, &["predict", &path("m.h5"), &path(store), "--out", &out, "--force", "--quiet"]);
            std::fs::read_to_string(path("p.predictions.tsv")).unwrap()
        };
        let own = predicted("cows.h5", 1);
        // Every animal has a record of the first trait, each SNP a share, and the shares of a trait sum to 1.
        let shares = std::fs::read_to_string(path("m.importance.tsv")).unwrap();
        let of: Vec<f64> =
            shares.lines().skip(1).map(|l| l.split('\t').nth(3).unwrap().parse().unwrap()).collect();
        assert!(of.len() == 700 && (of.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{}", of.iter().sum::<f64>());
        let bag = std::fs::read_to_string(path("m.out_of_bag.tsv"));
        assert_eq!(bag.is_ok_and(|text| text.lines().count() == 401), kind == "forest");
        assert!(own.lines().nth(1) != own.lines().nth(2).map(|l| l.trim_end()), "animals differ");
        assert_eq!(own, predicted("turned.h5", 1), "{kind}");
        assert_eq!(own, predicted("turned.h5", 3), "{kind} on three ranks");
        let told = succeeds(1, &["info", &path("m.h5")]);
        assert!(told.contains(&format!("model ({kind})")) && told.contains("trees"), "{told}");
    }
}

/// So many ranks that share the batches.
fn grid(ranks: usize) -> &'static str {
    ["1x1", "1x2", "1x3"][ranks - 1]
}

/// Herds of the animals, which add up to two standard deviations to the first trait, and heat, by which it falls.
fn features(dir: &Path) {
    let records = std::fs::read_to_string(dir.join("t.tsv")).unwrap();
    let (mut features, mut shifted) = (String::from("id\therd\theat\tidle\n"), String::new());
    for (i, line) in records.lines().enumerate() {
        let mut cells: Vec<String> = line.split('\t').map(str::to_owned).collect();
        if i > 0 {
            let (herd, heat) = (i % 4, (i * 37 % 101) as f64);
            if let Ok(record) = cells[1].parse::<f64>() {
                cells[1] = (record + 1500.0 * herd as f64 - 20.0 * (heat - 50.0).max(0.0)).to_string();
            }
            let told = if i % 9 == 0 { "NA".to_owned() } else { heat.to_string() };
            features += &format!("{}\th{herd}\t{told}\t1\n", cells[0]);
        }
        shifted += &format!("{}\n", cells.join("\t"));
    }
    std::fs::write(dir.join("f.tsv"), features).unwrap();
    std::fs::write(dir.join("shifted.tsv"), shifted).unwrap();
}

#[test]
fn trees_and_networks_learn_from_features_beside_the_genotypes() {
    let dir = tempfile::tempdir().unwrap();
    herd(dir.path());
    features(dir.path());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (cows, pheno, table, out) = (path("cows.h5"), path("shifted.tsv"), path("f.tsv"), path("m.h5"));
    let base = "base=[{kind=\"gblup\"},{kind=\"boosting\",rounds=20,learning_rate=0.2}]";
    let network = "training={batch=32,epochs=60,learning_rate=0.01}";
    let small = "network={hidden=[16],batch=32,epochs=200,learning_rate=0.01}";
    for (kind, setting) in [
        ("mlp", network),
        ("dlgblup", small),
        ("boosting", "rounds=120"),
        ("forest", "trees=6"),
        ("stacked", base),
    ] {
        let _ = std::fs::remove_file(path("m.out_of_bag.tsv"));
        let train = |ranks: usize| {
            let args = ["train", kind, &cows, "--pheno", &pheno, "--features", &table, "--out", &out];
            // A network's sums in order, so that they are the same bits.
            let ordered = ["--exchange", "ordered", "--grid", grid(ranks)];
            let own: &[&str] = if kind == "mlp" {
                &[&ordered[..], &["--set", "network={hidden=[16],dropout=0.0}"]].concat()
            } else {
                &[]
            };
            succeeds(ranks, &[&args[..], &["--set", setting, "--force", "--quiet"], own].concat());
            std::fs::read(&out).unwrap()
        };
        let one = train(1);
        assert!(one == train(3), "{kind} on three ranks");
        let predicted = |ranks: usize| {
            let args =
                ["predict", &out, &cows, "--features", &table, "--out", &path("p"), "--force", "--quiet"];
            succeeds(ranks, &args);
            std::fs::read_to_string(path("p.predictions.tsv")).unwrap()
        };
        let own = predicted(1);
        let first = |text: &str| -> Vec<f64> {
            text.lines().skip(1).map(|line| line.split('\t').nth(1).unwrap().parse().unwrap()).collect()
        };
        let (of, on_two) = (first(&own), first(&predicted(2)));
        // A network's sums have other last bits on two ranks.
        let least = if kind == "mlp" { 0.01 } else { 0.0 };
        assert!(of.iter().zip(&on_two).all(|(a, b)| (a - b).abs() <= least), "{kind} on two ranks");
        // Animals of the last herd are told from those of the first.
        let mean = |herd: usize| {
            let all: Vec<f64> =
                of.iter().enumerate().filter(|(i, _)| (i + 1) % 4 == herd).map(|(_, x)| *x).collect();
            all.iter().sum::<f64>() / all.len() as f64
        };
        assert!(mean(3) - mean(0) > 1500.0, "{kind}: {} {}", mean(3), mean(0));
        let mut command = genialearn(1);
        command.args(["predict", &out, &cows, "--out", &path("q"), "--quiet"]);
        let done = run_alone(command);
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.code() == Some(2) && told.contains("heat"), "{told}");
    }
    let shares = std::fs::read_to_string(path("m.importance.tsv")).unwrap();
    let last: Vec<&str> = shares.lines().rev().take(3).collect();
    let share = |at: usize| last[at].split('\t').nth(3).unwrap().parse::<f64>().unwrap();
    assert!(last[2].starts_with("herd\tNA\tNA\t") && last[0].starts_with("idle\t"), "{last:?}");
    assert!(share(2) > 0.3 && share(1) > 0.01 && share(0) == 0.0, "{last:?}");
    let mut command = genialearn(1);
    command.args(["train", "gblup", &cows, "--pheno", &pheno, "--features", &table, "--out", &path("g.h5")]);
    let done = run_alone(command);
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(
        done.status.code() == Some(2) && told.contains("a kind that learns from features, found gblup"),
        "{told}"
    );

    // A study whose records follow the herd: the model that knows it predicts them better.
    let model = "[[model]]\nname = \"G\"\n[[model]]\nname = \"B\"\nkind = \"boosting\"\nreplicates = 1\nrounds = 60\n";
    let study = format!(
        "[data]\nstore = {cows:?}\npheno = {pheno:?}\nfeatures = {table:?}\ntraits = [\"milk\"]\n{model}\
         [[validation]]\nscheme = \"random\"\nfolds = 3\n[bootstrap]\nreplicates = 2\n[report]\ngenotypes = false\n"
    );
    let found = summary(dir.path(), &study);
    let r = |model: &str| of(&found, "milk", model).r;
    assert!(r("B") > r("G") + 0.2, "{found:?}");
    let page = std::fs::read_to_string(dir.path().join("out/report.html")).unwrap();
    assert!(page.contains("herd, heat, idle"));
}

#[test]
fn training_that_is_asked_to_stop_goes_on_to_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    herd(dir.path());
    features(dir.path());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (cows, pheno, table) = (path("cows.h5"), path("shifted.tsv"), path("f.tsv"));
    let long = ["rounds=300", "validation=0.2", "patience=300", "trees=240"];
    for (kind, settings) in [("boosting", &long[..3]), ("forest", &long[3..])] {
        let arguments = |name: &str, more: &[&str]| -> Vec<String> {
            let out = path(&format!("{name}.h5"));
            let args =
                ["train", kind, &cows, "--pheno", &pheno, "--features", &table, "--out", &out, "--quiet"];
            let set = settings.iter().flat_map(|setting| ["--set", setting]);
            args.into_iter().chain(set).chain(more.iter().copied()).map(str::to_owned).collect()
        };
        let train = |ranks: usize, name: &str, more: &[&str]| {
            let args = arguments(name, more);
            succeeds(ranks, &args.iter().map(String::as_str).collect::<Vec<_>>());
        };
        let (whole, stopped) = (format!("{kind}-whole"), format!("{kind}-stopped"));
        train(1, &whole, &[]);
        let mut command = genialearn(1);
        command.args(arguments(&stopped, &[]));
        support::interrupt(command, Path::new(&path(&format!("{stopped}.checkpoint"))), libc::SIGTERM);
        for (more, said) in [
            (&[][..], "no checkpoint of an earlier run"),
            (&["--resume", "--seed", "9"], "another --seed"),
            (&["--resume", "--set", "row_share=0.9"], "another boosting"),
        ] {
            let mut command = genialearn(1);
            command.args(arguments(&stopped, more));
            let told = String::from_utf8_lossy(&run_alone(command).stderr).into_owned();
            assert!(told.contains(&said.replace("boosting", kind)), "{told}");
        }
        // Two ranks go on from what one has left.
        train(2, &stopped, &["--resume"]);
        for file in ["h5", "curve.tsv", "importance.tsv"] {
            let read = |name: &str| std::fs::read(path(&format!("{name}.{file}"))).unwrap();
            assert!(read(&whole) == read(&stopped), "{kind} {file}");
        }
        assert!(!Path::new(&path(&format!("{stopped}.checkpoint"))).exists());
    }
    for file in ["out_of_bag.tsv", "permutation.tsv"] {
        let read = |name: &str| std::fs::read(path(&format!("forest-{name}.{file}"))).unwrap();
        assert!(read("whole") == read("stopped"), "{file}");
    }
    let mut command = genialearn(1);
    command.args(["train", "gblup", &cows, "--pheno", &pheno, "--out", &path("g.h5"), "--resume"]);
    let told = String::from_utf8_lossy(&run_alone(command).stderr).into_owned();
    assert!(told.contains("a kind whose training is kept, found gblup"), "{told}");
}

#[test]
fn settings_that_no_tree_can_have_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    herd(dir.path());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    for (kind, setting, said) in [
        ("boosting", "depth=0", "depth: expected 1 to 64, found 0"),
        ("boosting", "learning_rate=2.0", "learning_rate"),
        ("boosting", "snp_share=0.0", "snp_share"),
        ("boosting", "roundz=3", "did you mean `rounds`"),
        ("boosting", "patience=3", "all rounds are grown"),
        ("forest", "trees=0", "trees: expected 1 or more, found 0"),
        ("stacked", "base=[]", "one or more [[base]]"),
        ("stacked", "base=[{kind=\"stacked\"}]", "found `stacked`"),
        ("stacked", "base=[{kind=\"forest\",trees=0}]", "base 1, trees"),
        ("stacked", "inner_folds=1", "2 or more in `inner_folds`"),
    ] {
        let (cows, pheno, out) = (path("cows.h5"), path("t.tsv"), path("m.h5"));
        let mut command = genialearn(1);
        command.args(["train", kind, &cows, "--pheno", &pheno, "--out", &out, "--set", setting]);
        let done = run_alone(command);
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.code() == Some(2) && told.contains(said), "{setting}: {told}");
        assert!(!Path::new(&out).exists());
    }
}

/// What the summary of a study says of one trait and model.
#[derive(Debug)]
struct Row {
    trait_: String,
    model: String,
    r: f64,
    r_se: f64,
    verdict: String,
}

/// Runs a study and gives its summary.
fn summary(dir: &Path, config: &str) -> Vec<Row> {
    std::fs::write(dir.join("s.toml"), config).unwrap();
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    succeeds(1, &["study", &path("s.toml"), "--out", &path("out"), "--force", "--quiet"]);
    let text = std::fs::read_to_string(dir.join("out/summary.tsv")).unwrap();
    let head: Vec<&str> = text.lines().next().unwrap().split('\t').collect();
    let at = |name: &str| head.iter().position(|h| *h == name).unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('\t').collect();
        let number = |name: &str| cells[at(name)].parse::<f64>().unwrap();
        let [trait_, model, verdict] = ["trait", "model", "verdict"].map(|name| cells[at(name)].to_owned());
        Row { trait_, model, r: number("r"), r_se: number("r_se"), verdict }
    };
    text.lines().skip(1).map(row).collect()
}

/// The row of a trait and model.
fn of<'a>(rows: &'a [Row], trait_: &str, model: &str) -> &'a Row {
    rows.iter().find(|row| row.trait_ == trait_ && row.model == model).unwrap()
}

/// r of LightGBM 4.7.0 and scikit-learn on the same five folds of wheat with the same settings, by benches/ensembles.py on
/// 2026-11-30.
const PEERS: [(&str, f64, f64); 4] =
    [("E1", 0.536, 0.542), ("E2", 0.483, 0.462), ("E4", 0.415, 0.408), ("E5", 0.477, 0.488)];

#[test]
fn wheat_is_predicted_as_well_as_by_lightgbm_and_scikit_learn() {
    let Some(bed) = support::shared("data/wheat599/wheat599.bed") else { return };
    let dir = tempfile::tempdir().unwrap();
    let bed = bed.canonicalize().unwrap();
    let config = format!(
        "[import]\nsource = {bed:?}\n[data]\npheno = {:?}\ntraits = [\"E1\", \"E2\", \"E4\", \"E5\"]\n\
         [[model]]\nname = \"boosting\"\nkind = \"boosting\"\nreplicates = 1\nrounds = 200\nlearning_rate = 0.05\nl2 = 1.0\n\
         [[model]]\nname = \"forest\"\nkind = \"forest\"\nreplicates = 1\ntrees = 100\n\
         [[validation]]\nscheme = \"random\"\nfolds = 5\n[bootstrap]\nreplicates = 2\n[report]\ngenotypes = false\n",
        bed.with_file_name("pheno.tsv")
    );
    let found = summary(dir.path(), &config);
    for (model, peer) in [("boosting", 0), ("forest", 1)] {
        let difference = |(trait_, lightgbm, forest): &(&str, f64, f64)| {
            of(&found, trait_, model).r - [lightgbm, forest][peer]
        };
        let all: Vec<f64> = PEERS.iter().map(difference).collect();
        assert!(all.iter().all(|d| *d > -0.025), "{model}: {all:?}");
        assert!((all.iter().sum::<f64>() / 4.0).abs() < 0.01, "{model}: {all:?}");
    }
}

#[test]
fn boosting_finds_dominance_that_gblup_cannot_and_stacking_takes_what_is_better() {
    let dir = tempfile::tempdir().unwrap();
    let boosting = "rounds = 250\nlearning_rate = 0.05\n";
    let config = format!(
        "[simulate]\nanimals = 900\nsnps = 800\nqtl = 40\n\
         [[simulate.trait]]\nname = \"dominance\"\ngroup = \"a\"\nh2 = 0.15\nnon_additive = 0.4\nform = \"dominance\"\n\
         [[simulate.trait]]\nname = \"additive\"\ngroup = \"a\"\nh2 = 0.4\n\
         [[model]]\nname = \"G\"\n[[model]]\nname = \"B\"\nkind = \"boosting\"\nreplicates = 1\n{boosting}\
         [[model]]\nname = \"S\"\nkind = \"stacked\"\nreplicates = 1\ninner_folds = 3\n[[model.base]]\nkind = \"gblup\"\n\
         [[model.base]]\nkind = \"boosting\"\n{boosting}\
         [[validation]]\nscheme = \"random\"\nfolds = 3\n[bootstrap]\nreplicates = 50\n[report]\ngenotypes = false\n"
    );
    let found = summary(dir.path(), &config);
    let of = |trait_: &str, model: &str| of(&found, trait_, model);
    assert!(of("dominance", "B").r > of("dominance", "G").r + 0.1, "{found:?}");
    for trait_ in ["dominance", "additive"] {
        let (best, stacked) = (of(trait_, "G").r.max(of(trait_, "B").r), of(trait_, "S"));
        assert!(stacked.r > best - stacked.r_se, "{found:?}");
    }
    // What users ask: not additive, another kind is better; additive, GBLUP suffices and nothing else is claimed.
    for row in &found {
        let expected = row.trait_ == "dominance" && row.model != "G";
        assert_eq!(row.verdict == "better", expected, "{found:?}");
    }
    let weights = std::fs::read_to_string(dir.path().join("out/weights.tsv")).unwrap();
    let of_boosting: Vec<f64> = weights
        .lines()
        .filter(|line| line.contains("\tdominance\t") && line.contains("\tboosting\t"))
        .map(|line| line.rsplit('\t').next().unwrap().parse().unwrap())
        .collect();
    assert!(of_boosting.len() == 3 && of_boosting.iter().all(|w| *w > 0.5), "{weights}");
    let page = std::fs::read_to_string(dir.path().join("out/report.html")).unwrap();
    assert!(page.contains("What stacked models are added from"));
}
