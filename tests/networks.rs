//! Networks over ranks, interrupted and resumed, and as users run them from records to predictions.

mod support;

use genialearn::comm::reduce::Exchange;
use genialearn::comm::World;
use genialearn::device::network::Network;
use genialearn::device::open;
use genialearn::error::{Error, Result};
use genialearn::nn::checkpointer::Checkpointer;
use genialearn::nn::epochs::{Learns, Monitor};
use genialearn::nn::mlp::{train, Task};
use genialearn::nn::train::{fit, Data};
use genialearn::nn::{Config, Input, Net, Ranks, Reads};
use genialearn::packed::Packed;
use genialearn::records::Phenotypes;
use genialearn::rng::{Purpose, Stream};
use genialearn::stats;
use ndarray::Array2;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use support::{on_ranks, run_alone, succeeds};

/// Animals, SNPs (two chunks), traits.
const SHAPE: (usize, usize, usize) = (61, 300, 2);

/// Calls of all animals, some missing, and records that follow from them, some missing.
fn herd() -> (Vec<u8>, Phenotypes) {
    let (n, m, t) = SHAPE;
    let mut s = Stream::new(4, Purpose::Test, 1);
    let codes: Vec<u8> = (0..n * m).map(|_| [0, 0, 1, 1, 1, 2, 3][s.below(7)]).collect();
    let y = Array2::from_shape_fn((n, t), |(i, t)| match (i + t) % 7 {
        0 => f64::NAN,
        _ => (0..20).map(|j| f64::from(codes[i * m + 13 * j + t] % 3)).sum::<f64>() + s.normal(),
    });
    let design = Array2::from_shape_fn((n, 2), |(i, q)| if q == 0 { 1.0 } else { (i % 3) as f64 });
    let weights = Array2::from_shape_fn((n, t), |(i, _)| 1.0 + (i % 4) as f64);
    let named = |names: [&str; 2]| names.map(str::to_owned).to_vec();
    let (traits, effects) = (named(["a", "b"]), named(["intercept", "x"]));
    (codes, Phenotypes { traits, y, effects, design, weights: Some(weights), ..Phenotypes::default() })
}

/// Trains on a grid of the ranks of `world`; all parameters (on the root) and predictions of all animals.
fn learn_on(
    world: &World,
    device: &Arc<dyn Network>,
    grid: (usize, usize),
    exchange: Exchange,
    monitor: &mut dyn Monitor,
) -> Result<(Option<Vec<f64>>, Array2<f64>)> {
    let (n, m, _) = SHAPE;
    let (codes, phenotypes) = herd();
    let ranks = Ranks::new(world, device, grid, exchange)?;
    let own: Vec<usize> = ranks.snps_of(m).collect();
    let all: Vec<usize> = (0..n).collect();
    let packed = Arc::new(Packed::from_codes(n, m, &codes).select(&all, &own));
    let mut config = Config::default();
    (config.network.hidden, config.network.dropout) = (vec![6, 5], 0.2);
    config.training.weight_decay = 0.5;
    (config.training.batch, config.training.epochs) = (17, 4);
    let task = Task {
        packed: &packed,
        m,
        phenotypes: &phenotypes,
        offset: None,
        animals: &all,
        synthetic: None,
        config: &config,
        seed: 3,
    };
    let mut trained = train(&ranks, device, &task, monitor)?;
    Ok((trained.parameters(&ranks)?, trained.predict(&ranks, &packed, &all)?))
}

/// Largest difference.
fn distance<'a>(a: impl IntoIterator<Item = &'a f64>, b: impl IntoIterator<Item = &'a f64>) -> f64 {
    a.into_iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn any_grid_of_ranks_trains_the_network_of_one() {
    on_ranks("any_grid_of_ranks_trains_the_network_of_one", &[1, 2, 3, 4], |world| {
        // Four parts of two chunks: the last two own nothing.
        let size = world.size();
        let grids = (1..=size).filter(|s| size.is_multiple_of(*s)).map(|s| (s, size / s));
        let device = open("strict").unwrap();
        let alone = learn_on(&World::alone(), &device, (1, 1), Exchange::Host, &mut ()).unwrap();
        assert!(stats::variance(alone.1.as_slice().unwrap()) > 0.1, "it learned nothing");
        for grid in grids {
            let found = learn_on(world, &device, grid, Exchange::Auto, &mut ()).unwrap();
            if let Some(parameters) = found.0 {
                let d = distance(&parameters, alone.0.as_ref().unwrap());
                assert!(d < 1e-9, "{grid:?}: parameters differ by {d}");
            }
            let d = distance(&found.1, &alone.1);
            assert!(d < 1e-8, "{grid:?}: predictions differ by {d}");
        }
    });
}

#[test]
fn sums_in_order_give_the_same_bits_on_any_number_of_ranks() {
    // Five ranks: more than pieces.
    on_ranks("sums_in_order_give_the_same_bits_on_any_number_of_ranks", &[1, 2, 3, 4, 5], |world| {
        for name in ["strict", "cpu"] {
            let device = open(name).unwrap();
            let alone = learn_on(&World::alone(), &device, (1, 1), Exchange::Ordered, &mut ()).unwrap();
            let found = learn_on(world, &device, (1, world.size()), Exchange::Ordered, &mut ()).unwrap();
            assert!(!world.is_root() || found.0 == alone.0, "{name}: parameters");
            assert!(found.1 == alone.1, "{name}: predictions");
        }
    });
}

/// Ends the job after a step, as a failing machine does.
struct Crash {
    checkpointer: Checkpointer,
    step: u64,
}

impl Monitor for Crash {
    fn begin(&mut self, training: &mut dyn Learns) -> Result<()> {
        Monitor::begin(&mut self.checkpointer, training)
    }

    fn after_step(&mut self, training: &mut dyn Learns, epoch: bool) -> Result<()> {
        Monitor::after_step(&mut self.checkpointer, training, epoch)?;
        match training.position().step == self.step {
            true => Err(Error::failed("test", "crashed", "")),
            false => Ok(()),
        }
    }
}

#[test]
fn training_that_crashed_goes_on_to_the_same_bits() {
    on_ranks("training_that_crashed_goes_on_to_the_same_bits", &[1, 3], |world| {
        let dir = tempfile::tempdir().unwrap();
        let path = world.broadcast_value(0, Some(dir.path().join("x.checkpoint")));
        let device = open("cpu").unwrap();
        let print = || vec![("herd".to_owned(), "1".to_owned())];
        let checkpointer = |print, resume| Checkpointer::new(world, &path, print, 1, resume);
        for (grid, exchange) in [((world.size(), 1), Exchange::Host), ((1, world.size()), Exchange::Ordered)]
        {
            let learn = |monitor: &mut dyn Monitor| learn_on(world, &device, grid, exchange, monitor);
            let whole = learn(&mut ()).unwrap();
            // Ten steps: two epochs of four batches and a half.
            let e = learn(&mut Crash { checkpointer: checkpointer(print(), false), step: 10 }).unwrap_err();
            assert!(e.to_string().contains("crashed"));
            let other = vec![("herd".to_owned(), "2".to_owned())];
            let e = learn(&mut checkpointer(other, true)).unwrap_err();
            assert!(e.exit_code() == 2 && e.to_string().contains("another herd"), "{e}");
            if exchange == Exchange::Ordered && world.is_root() {
                // One rank goes on from what several have left.
                let (alone, copy) = (World::alone(), dir.path().join("copy.checkpoint"));
                std::fs::copy(&path, &copy).unwrap();
                let mut checkpointer = Checkpointer::new(&alone, &copy, print(), 100, true);
                assert!(learn_on(&alone, &device, (1, 1), exchange, &mut checkpointer).unwrap() == whole);
            }
            world.barrier();
            assert!(learn(&mut checkpointer(print(), true)).unwrap() == whole, "{grid:?}");
        }
        if world.is_root() {
            let mut bytes = std::fs::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
        world.barrier();
        let e =
            learn_on(world, &device, (1, world.size()), Exchange::Ordered, &mut checkpointer(print(), true));
        assert!(e.unwrap_err().to_string().contains("damaged"));
        world.barrier();
    });
}

/// A simulated herd of additive traits, a fifth of whose animals have no records.
struct Herd(tempfile::TempDir);

impl Herd {
    fn new() -> Herd {
        let herd = Herd(tempfile::tempdir().unwrap());
        let size = ["--animals", "800", "--snps", "600", "--traits", "2"];
        let out = ["simulate", "-q", "--out", &herd.path("s.h5"), "--pheno", &herd.path("p.tsv")];
        succeeds(1, &[&out[..], &size].concat());
        let rows = herd.rows("p.tsv");
        let mut shuffled: Vec<usize> = (0..rows.len()).collect();
        Stream::new(2, Purpose::Test, 0).shuffle(&mut shuffled);
        for (name, order) in [("train.tsv", (0..rows.len()).collect()), ("shuffled.tsv", shuffled)] {
            let mut text = "id\tmilk\tfat\n".to_owned();
            for (i, (id, _)) in rows.iter().enumerate() {
                let records = if i % 5 == 4 { "NA\tNA".into() } else { rows[order[i]].1.join("\t") };
                text.push_str(&format!("{id}\t{records}\n"));
            }
            std::fs::write(herd.path(name), text).unwrap();
        }
        let config = "[network]\nhidden = [16]\ndropout = 0.1\n\
                      [training]\nbatch = 100\nepochs = 20\nlearning_rate = 0.003\ncheckpoint_every = 2\n";
        std::fs::write(herd.path("mlp.toml"), config).unwrap();
        herd
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Names and cells of a table.
    fn rows(&self, name: &str) -> Vec<(String, Vec<String>)> {
        let text = std::fs::read_to_string(self.path(name)).unwrap();
        let row = |line: &str| {
            let mut cells = line.split('\t').map(str::to_owned);
            (cells.next().unwrap(), cells.collect())
        };
        text.lines().skip(1).map(row).collect()
    }

    /// The arguments of a training run.
    fn arguments(&self, pheno: &str, name: &str, more: &[&str]) -> Vec<String> {
        let (store, pheno, config) = (self.path("s.h5"), self.path(pheno), self.path("mlp.toml"));
        let fixed = ["train", "mlp", "-q", &store, "--pheno", &pheno, "--config", &config];
        let out = self.path(&format!("{name}.h5"));
        [&fixed[..], &["--out", &out], more].concat().into_iter().map(str::to_owned).collect()
    }

    /// Trains and predicts.
    fn train(&self, ranks: usize, pheno: &str, name: &str, more: &[&str]) {
        let arguments = self.arguments(pheno, name, more);
        succeeds(ranks, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let model = self.path(&format!("{name}.h5"));
        succeeds(ranks.min(3), &["predict", "-q", &model, &self.path("s.h5"), "--out", &self.path(name)]);
    }

    /// Correlations with the true genetic values of the animals without records.
    fn accuracies(&self, name: &str) -> [f64; 2] {
        let truth: HashMap<String, Vec<String>> = self.rows("s.truth.tsv").into_iter().collect();
        let predicted = self.rows(&format!("{name}.predictions.tsv"));
        let tested: Vec<_> = predicted.iter().skip(4).step_by(5).collect();
        [0, 1].map(|t| {
            let number = |text: &String| text.parse::<f64>().unwrap();
            let (a, b): (Vec<f64>, Vec<f64>) =
                tested.iter().map(|(id, x)| (number(&x[t]), number(&truth[id][2 * t]))).unzip();
            stats::pearson(&a, &b)
        })
    }

    /// Trains until the first checkpoint is there, and asks to stop then.
    fn interrupt(&self, name: &str, more: &[&str]) {
        let checkpoint = self.path(&format!("{name}.checkpoint"));
        let mut command = support::genialearn(1);
        command.args(self.arguments("train.tsv", name, more));
        support::interrupt(command, Path::new(&checkpoint), libc::SIGTERM);
    }

    /// A run with these arguments is the user's mistake.
    fn refuses(&self, name: &str, more: &[&str], expected: &str) {
        let mut command = support::genialearn(1);
        command.args(self.arguments("train.tsv", name, more));
        let out = run_alone(command);
        let told = String::from_utf8(out.stderr).unwrap();
        assert!(out.status.code() == Some(2) && told.contains(expected), "{told}");
    }

    fn same(&self, a: &str, b: &str) {
        for result in ["h5", "curve.tsv", "curve.svg"] {
            let read = |name: &str| std::fs::read(self.path(&format!("{name}.{result}"))).unwrap();
            assert!(read(a) == read(b), "{a}.{result} and {b}.{result}");
        }
    }
}

#[test]
fn a_network_predicts_animals_without_records_from_true_records_only() {
    let herd = Herd::new();
    herd.train(1, "train.tsv", "true", &[]);
    herd.train(1, "shuffled.tsv", "shuffled", &[]);
    // GBLUP reaches 0.78 and 0.83 here, the network 0.74 and 0.76; 160 animals: standard error 0.08 of nothing.
    let (found, nothing) = (herd.accuracies("true"), herd.accuracies("shuffled"));
    assert!(found.iter().all(|r| *r > 0.6), "{found:?}");
    assert!(nothing.iter().all(|r| r.abs() < 0.3), "{nothing:?}");
    let info = succeeds(1, &["info", &herd.path("true.h5")]);
    assert!(info.contains("kind: mlp") && info.contains("parameters/0.weight: 600 x 16"), "{info}");
    // On more ranks: to rounding with sums through the host, to the bit with sums in order.
    herd.train(4, "train.tsv", "grid", &["--grid", "2x2"]);
    let values = |name: &str| -> Vec<f64> {
        let rows = herd.rows(&format!("{name}.predictions.tsv"));
        rows.iter().flat_map(|(_, x)| x.iter().map(|x| x.parse::<f64>().unwrap())).collect()
    };
    let (one, four) = (values("true"), values("grid"));
    let sd = |t: usize| stats::variance(&one.iter().skip(t).step_by(2).copied().collect::<Vec<_>>()).sqrt();
    let sd = [sd(0), sd(1)];
    let most = one.iter().zip(&four).enumerate().map(|(k, (a, b))| (a - b).abs() / sd[k % 2]);
    assert!(most.fold(0.0, f64::max) < 0.02);
    herd.train(1, "train.tsv", "ordered", &["--exchange", "ordered"]);
    herd.train(3, "train.tsv", "ordered3", &["--exchange", "ordered"]);
    herd.same("ordered", "ordered3");
}

#[test]
fn a_network_learns_what_gblup_leaves() {
    let herd = Herd::new();
    let residual = ["--residual", "--set", "gblup.solver=pcg", "--set", "gblup.h2=0.3"];
    // At so small a rate the network says nothing, and what is left is GBLUP.
    let slow = "[network]\nhidden = [4]\n[training]\nepochs = 1\nlearning_rate = 1e-12\n";
    std::fs::write(herd.path("slow.toml"), slow).unwrap();
    std::fs::rename(herd.path("mlp.toml"), herd.path("usual.toml")).unwrap();
    std::fs::rename(herd.path("slow.toml"), herd.path("mlp.toml")).unwrap();
    herd.train(1, "train.tsv", "slow", &residual);
    let (store, pheno, gblup) = (herd.path("s.h5"), herd.path("train.tsv"), herd.path("g.model.h5"));
    succeeds(1, &["gblup", "-q", &store, "--pheno", &pheno, "--h2", "0.3", "--out", &herd.path("g")]);
    succeeds(1, &["predict", "-q", &gblup, &store, "--out", &herd.path("gblup")]);
    let values = |name: &str| -> Vec<f64> {
        let rows = herd.rows(&format!("{name}.predictions.tsv"));
        rows.iter().flat_map(|(_, x)| x.iter().map(|x| x.parse::<f64>().unwrap())).collect()
    };
    let (found, wanted) = (values("slow"), values("gblup"));
    let largest = wanted.iter().fold(0.0f64, |a, x| a.max(x.abs()));
    assert!(found.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-4 * largest));
    // At a usual rate it harms nothing, as early stopping looks at GBLUP alone, too.
    std::fs::rename(herd.path("usual.toml"), herd.path("mlp.toml")).unwrap();
    herd.train(2, "train.tsv", "usual", &residual);
    let (both, alone) = (herd.accuracies("usual"), herd.accuracies("gblup"));
    assert!(both.iter().zip(&alone).all(|(b, a)| b > &(a - 0.08)), "{both:?} {alone:?}");
    let info = succeeds(1, &["info", &herd.path("usual.h5")]);
    assert!(info.contains("gblup/effects: 600 x 2"), "{info}");
}

#[test]
fn training_that_is_asked_to_stop_keeps_its_state_first() {
    let herd = Herd::new();
    herd.train(1, "train.tsv", "whole", &[]);
    herd.interrupt("term", &[]);
    let kept = succeeds(1, &["info", &herd.path("term.checkpoint")]);
    let weights = 600 * 16 + 2 * 16 + 16 * 2 + 2; // the SNPs, batch normalisation, the head
    assert!(kept.contains("--resume") && kept.contains(&format!("buffers/3: {weights}")), "{kept}");
    let refused = |more: &[&str], expected: &str| herd.refuses("term", more, expected);
    refused(&[], "no checkpoint of an earlier run");
    refused(&["--resume", "--seed", "9"], "another --seed");
    refused(&["--resume", "--exchange", "nccl"], "needs NCCL");
    refused(&["--resume", "--exchange", "ordered", "--grid", "2x1"], "1 part of the SNPs");
    refused(&["--resume", "--grid", "3x1"], "a grid of 1 ranks");
    herd.train(1, "train.tsv", "term", &["--resume"]);
    herd.same("whole", "term");
    assert!(!Path::new(&herd.path("term.checkpoint")).exists());
}

#[test]
fn a_network_on_top_of_gblup_goes_on_where_it_was_stopped() {
    let herd = Herd::new();
    // Without validation animals the last weights are kept, whatever they are worth.
    let config = std::fs::read_to_string(herd.path("mlp.toml")).unwrap() + "validation = 0.0\n";
    std::fs::write(herd.path("mlp.toml"), config).unwrap();
    let residual = ["--residual", "--set", "gblup.solver=pcg", "--set", "gblup.h2=0.3"];
    herd.train(1, "train.tsv", "whole", &residual);
    herd.interrupt("term", &residual);
    herd.refuses("term", &["--resume"], "another GBLUP below");
    let other = ["--resume", "--residual", "--set", "gblup.solver=pcg", "--set", "gblup.h2=0.4"];
    herd.refuses("term", &other, "another GBLUP below");
    herd.train(1, "train.tsv", "term", &[&["--resume"], &residual[..]].concat());
    herd.same("whole", "term");
    // What it adds to GBLUP is something, and both models are in the file.
    let (store, pheno) = (herd.path("s.h5"), herd.path("train.tsv"));
    succeeds(1, &["gblup", "-q", &store, "--pheno", &pheno, "--h2", "0.3", "--out", &herd.path("g")]);
    succeeds(1, &["predict", "-q", &herd.path("g.model.h5"), &store, "--out", &herd.path("gblup")]);
    let values = |name: &str| -> Vec<f64> {
        let rows = herd.rows(&format!("{name}.predictions.tsv"));
        rows.iter().flat_map(|(_, x)| x.iter().map(|x| x.parse::<f64>().unwrap())).collect()
    };
    let (both, gblup) = (values("term"), values("gblup"));
    let added: Vec<f64> = both.iter().zip(&gblup).map(|(b, g)| b - g).collect();
    assert!(stats::variance(&added) > 0.01 * stats::variance(&gblup), "the network says nothing");
    assert!(stats::pearson(&both, &gblup) > 0.5, "GBLUP is not in the predictions");
}

#[test]
fn a_device_that_fails_on_one_rank_ends_all_within_seconds() {
    let name = "a_device_that_fails_on_one_rank_ends_all_within_seconds";
    let told = support::ends_on_ranks(name, 2, Duration::from_secs(10), |world| {
        let (device, other) = (open("cpu").unwrap(), open("reference").unwrap());
        let (codes, phenotypes) = herd();
        let (n, m, t) = SHAPE;
        let ranks = Ranks::new(world, &device, (1, 2), Exchange::Host).unwrap();
        let packed = Arc::new(Packed::from_codes(n, m, &codes));
        let holder = if world.rank() == 1 { &other } else { &device };
        let held = holder.hold(&packed, &vec![[-1.0, 0.0, 1.0, 0.0]; m]).unwrap();
        let (animals, config) = ((0..n).collect::<Vec<_>>(), Config::default());
        let net = Net::new(&device, &config.network, &Reads::snps(0..m, m, 0), t, 1).unwrap();
        let data = Data {
            input: Input::Genotypes(&held, None),
            y: phenotypes.y.view(),
            weights: None,
            offset: None,
            train: &animals,
            validation: &[],
        };
        // On rank 1 the genotypes lie in another device's memory: its first step fails as with a lost device.
        let _ = fit(net, &ranks, &config.training, data, 1, &mut ());
        println!("rank {} went on", world.rank());
    });
    if let Some((told, _)) = told {
        assert!(told.contains("error: rank 1: ") && !told.contains("went on"), "{told}");
    }
}
