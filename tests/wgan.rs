//! WGAN-GP over ranks, interrupted and resumed, and what it learns.

mod support;

use genialearn::comm::reduce::Exchange;
use genialearn::comm::World;
use genialearn::device::network::Network;
use genialearn::device::open;
use genialearn::error::{Error, Result};
use genialearn::generate::wgan_gp::config::{Network as Shape, Training};
use genialearn::generate::wgan_gp::keep::curve;
use genialearn::generate::wgan_gp::train::fit;
use genialearn::generate::wgan_gp::{self, Config, Wgan};
use genialearn::generate::{gather, Conditions, Generator, Herd, Setting};
use genialearn::genotype::Variants;
use genialearn::nn::checkpointer::Checkpointer;
use genialearn::nn::config::Sharing;
use genialearn::nn::epochs::{Learns, Monitor};
use genialearn::nn::{Grid, Ranks};
use genialearn::packed::Packed;
use genialearn::rng::{Purpose, Stream};
use genialearn::stats::pearson;
use ndarray::Array2;
use std::sync::Arc;
use support::{on_ranks, run_alone, succeeds};

/// SNPs in a block, whose alleles come together.
const BLOCK: usize = 8;

/// Animals of three kinds of haplotypes in each block of SNPs; the trait counts one of them in the first block.
fn calls(n: usize, m: usize) -> (Vec<u8>, Vec<f64>) {
    let mut s = Stream::new(8, Purpose::Test, 0);
    let blocks = m.div_ceil(BLOCK);
    let kinds: Vec<u8> = (0..3 * blocks * BLOCK).map(|_| s.below(2) as u8).collect();
    let (mut codes, mut trait_) = (vec![0; n * m], vec![0.0; n]);
    for i in 0..n {
        for block in 0..blocks {
            for _ in 0..2 {
                let kind = [0, 0, 0, 1, 1, 2][s.below(6)];
                trait_[i] += f64::from(u8::from(block == 0 && kind == 1));
                for j in block * BLOCK..((block + 1) * BLOCK).min(m) {
                    codes[i * m + j] += kinds[(kind * blocks + block) * BLOCK + j % BLOCK];
                }
            }
        }
        trait_[i] += 0.3 * s.normal();
    }
    (codes, trait_)
}

fn herd(ranks: &Ranks, (n, m): (usize, usize), conditional: bool) -> Herd {
    let (codes, trait_) = calls(n, m);
    let (animals, own): (Vec<usize>, Vec<usize>) = ((0..n).collect(), ranks.snps_of(m).collect());
    let packed = Packed::from_codes(n, m, &codes).select(&animals, &own);
    let id: Vec<String> = (0..m).map(|j| j.to_string()).collect();
    let variants = Variants { id, ..Variants::default() };
    let y = Array2::from_shape_vec((n, 1), trait_).unwrap();
    let conditions = conditional.then(|| Conditions::standardise(&["t".into()], y.view()).unwrap());
    Herd::new(ranks, (packed, &animals), &variants, conditions, 1).unwrap()
}

fn small() -> Config {
    let network = Shape { latent: 5, widths: vec![6, 8], ..Shape::default() };
    let training = Training {
        batch: 9,
        epochs: 4,
        critic_steps: 2,
        evaluate_every: 2,
        learning_rate: 1e-3,
        ..Training::default()
    };
    Config { network, training, ..Config::default() }
}

/// Animals, SNPs (three chunks): the last of four pieces has none.
const SHAPE: (usize, usize) = (25, 600);

/// What came of a training: the curve, and calls of some generated animals on the root.
type Learnt = (Vec<Vec<f64>>, Option<Packed>);

fn learn_on(
    world: &World,
    device: &Arc<dyn Network>,
    sharing: Sharing,
    monitor: &mut dyn Monitor,
) -> Result<Learnt> {
    let ranks = wgan_gp::ranks(world, device, &sharing, SHAPE.1)?;
    let (herd, config) = (herd(&ranks, SHAPE, true), small());
    let setting = Setting { ranks: &ranks, device, seed: 3 };
    let fitted = fit(&setting, &config, &herd, monitor)?;
    let rows = curve(&fitted.curve).rows;
    let mut wgan = Wgan::of(fitted, &config, &herd);
    let asked = herd.conditions.as_ref().unwrap().resample(120..140, 5);
    let own = wgan.draw(&ranks, 120..140, Some(asked.view()), 5)?;
    Ok((rows, gather::snps(&ranks, SHAPE.1, &own)))
}

/// NaN equals NaN here.
fn same(a: &Learnt, b: &Learnt) -> bool {
    let bits = |l: &Learnt| l.0.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>();
    let calls = a.1.is_none() || b.1.is_none() || a.1 == b.1;
    bits(a) == bits(b) && calls
}

#[test]
fn any_number_of_ranks_trains_the_generator_of_one() {
    on_ranks("any_number_of_ranks_trains_the_generator_of_one", &[1, 2, 3, 4], |world| {
        let device = open("cpu").unwrap();
        let alone = learn_on(&World::alone(), &device, Sharing::default(), &mut ()).unwrap();
        assert!(alone.0.len() == 4 && alone.0.iter().flatten().take(6).all(|x| x.is_finite()));
        let shared = learn_on(world, &device, Sharing::default(), &mut ()).unwrap();
        assert!(same(&alone, &shared), "{:?}\n{:?}", alone.0, shared.0);
        if world.size() != 4 {
            return;
        }
        // Batches shared out as well: sums in another order.
        let device = open("strict").unwrap();
        let grid = Sharing { grid: Grid::Of(2, 2), exchange: Exchange::Host };
        let (one, four) = (
            learn_on(&World::alone(), &device, Sharing::default(), &mut ()).unwrap(),
            learn_on(world, &device, grid, &mut ()).unwrap(),
        );
        let far = |(a, b): (&f64, &f64)| (a - b).abs() > 1e-9 * (1.0 + a.abs());
        assert!(!one.0.iter().flatten().zip(four.0.iter().flatten()).any(far), "{:?}\n{:?}", one.0, four.0);
        let refused = Sharing { grid: Grid::Of(2, 2), exchange: Exchange::Ordered };
        assert_eq!(learn_on(world, &device, refused, &mut ()).unwrap_err().exit_code(), 2);
    });
}

/// Keeps every epoch, and fails in a step.
struct Crash {
    checkpointer: Checkpointer,
    step: u64,
}

impl Monitor for Crash {
    fn after_step(&mut self, training: &mut dyn Learns, epoch: bool) -> Result<()> {
        Monitor::after_step(&mut self.checkpointer, training, epoch)?;
        match training.position().step == self.step {
            true => Err(Error::failed("test", "crashed", "go on")),
            false => Ok(()),
        }
    }
}

#[test]
fn a_generator_that_crashed_goes_on_to_the_same_bits() {
    on_ranks("a_generator_that_crashed_goes_on_to_the_same_bits", &[1, 3], |world| {
        let dir = tempfile::tempdir().unwrap();
        let path = world.broadcast_value(0, Some(dir.path().join("x.checkpoint")));
        let device = open("cpu").unwrap();
        let checkpointer = |herd: &str, resume| {
            let print = vec![("herd".to_owned(), herd.to_owned())];
            Checkpointer::new(world, &path, print, 1, resume)
        };
        let learn = |monitor: &mut dyn Monitor| learn_on(world, &device, Sharing::default(), monitor);
        let whole = learn(&mut ()).unwrap();
        // Eleven steps: three epochs of three batches and two of the fourth.
        let e = learn(&mut Crash { checkpointer: checkpointer("1", false), step: 11 }).unwrap_err();
        assert!(e.to_string().contains("crashed"));
        let e = learn(&mut checkpointer("2", true)).unwrap_err();
        assert!(e.exit_code() == 2 && e.to_string().contains("another herd"), "{e}");
        if world.is_root() {
            // One rank goes on from what several have left.
            let (alone, copy) = (World::alone(), dir.path().join("copy.checkpoint"));
            std::fs::copy(&path, &copy).unwrap();
            let print = vec![("herd".to_owned(), "1".to_owned())];
            let mut checkpointer = Checkpointer::new(&alone, &copy, print, 100, true);
            let other = learn_on(&alone, &device, Sharing::default(), &mut checkpointer).unwrap();
            assert!(same(&whole, &other));
        }
        world.barrier();
        assert!(same(&whole, &learn(&mut checkpointer("1", true)).unwrap()));
    });
}

/// Squared correlations of all pairs of SNPs.
fn ld(packed: &Packed) -> Vec<f64> {
    let (n, m) = (packed.rows(), packed.columns());
    let column = |j: usize| (0..n).map(|i| f64::from(packed.get(i, j))).collect::<Vec<_>>();
    let columns: Vec<Vec<f64>> = (0..m).map(column).collect();
    let pairs = (0..m).flat_map(|a| (0..a).map(move |b| (a, b)));
    pairs.map(|(a, b)| pearson(&columns[a], &columns[b]).powi(2)).collect()
}

fn error(a: &[f64], b: &[f64]) -> f64 {
    let known: Vec<f64> = a.iter().zip(b).map(|(a, b)| (a - b).abs()).filter(|d| d.is_finite()).collect();
    known.iter().sum::<f64>() / known.len() as f64
}

fn frequencies(packed: &Packed) -> Vec<f64> {
    packed.tally_columns().iter().map(|t| genialearn::packed::frequency(t).unwrap()).collect()
}

#[test]
fn a_generator_learns_frequencies_linkage_and_conditions() {
    let (n, m) = (300, 48);
    let device = open("cpu").unwrap();
    let ranks = Ranks::alone(&device);
    let herd = herd(&ranks, (n, m), true);
    let network = Shape { latent: 16, widths: vec![32, 64], ..Shape::default() };
    let training = Training {
        batch: 60,
        epochs: 300,
        critic_steps: 2,
        learning_rate: 1e-3,
        evaluate_every: 20,
        k: 5,
        ..Training::default()
    };
    let config = Config { network, training, ..Config::default() };
    let setting = Setting { ranks: &ranks, device: &device, seed: 3 };
    let fitted = fit(&setting, &config, &herd, &mut ()).unwrap();
    let best = fitted.curve.iter().find(|p| p.epoch == fitted.best_epoch).unwrap().evaluation.unwrap();
    let mut wgan = Wgan::of(fitted, &config, &herd);
    let asked = herd.conditions.as_ref().unwrap().resample(0..600, 5);
    let made = wgan.draw(&ranks, 0..600, Some(asked.view()), 5).unwrap();
    // However the animals are cut into calls.
    let some = wgan.draw(&ranks, 130..133, Some(asked.slice(ndarray::s![130..133, ..])), 5).unwrap();
    assert_eq!(some, made.select(&[130, 131, 132], &(0..m).collect::<Vec<_>>()));
    let (real, wrong) = (ld(&herd.packed), error(&frequencies(&herd.packed), &frequencies(&made)));
    let mut s = Stream::new(4, Purpose::Test, 0);
    let mut shuffled = herd.packed.as_ref().clone();
    for j in 0..m {
        let mut order: Vec<usize> = (0..n).collect();
        s.shuffle(&mut order);
        order.iter().enumerate().for_each(|(to, &from)| shuffled.set(to, j, herd.packed.get(from, j)));
    }
    let (of_wgan, of_independent) = (error(&real, &ld(&made)), error(&real, &ld(&shuffled)));
    // What is asked for is there: copies of the haplotype that the trait counts.
    let correlation = |packed: &Packed, j: usize, of: &Array2<f64>| {
        let column: Vec<f64> = (0..packed.rows()).map(|i| f64::from(packed.get(i, j))).collect();
        Some(pearson(&column, &of.column(0).to_vec())).filter(|r| r.is_finite()).unwrap_or(0.0)
    };
    let values = &herd.conditions.as_ref().unwrap().values;
    let tells = (0..BLOCK).max_by(|&a, &b| {
        let size = |j: usize| correlation(&herd.packed, j, values).abs();
        size(a).total_cmp(&size(b))
    });
    let tells = tells.unwrap();
    let (of_real, of_made) = (correlation(&herd.packed, tells, values), correlation(&made, tells, &asked));
    assert!(of_wgan < 0.7 * of_independent && wrong < 0.04, "{of_wgan} {of_independent} {wrong}");
    assert!(of_made / of_real > 0.8 && best.f1 > 0.7, "{of_made} {of_real} {best:?}");
}

#[test]
fn the_command_writes_the_same_bytes_on_any_number_of_ranks_and_after_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (store, traits) = (path("s.h5"), path("p.tsv"));
    let size = ["--animals", "60", "--snps", "900", "--traits", "1"];
    succeeds(1, &[&["simulate", "-q", "--out", &store, "--pheno", &traits], &size[..]].concat());
    let header = std::fs::read_to_string(&traits).unwrap();
    let condition = header.lines().next().unwrap().split('\t').nth(1).unwrap().to_owned();
    let network = "[network]\nlatent = 8\nwidths = [8, 12]\n";
    let training = "[training]\nbatch = 20\nepochs = 40\nevaluate_every = 10\ncheckpoint_every = 3\n";
    std::fs::write(path("w.toml"), format!("{network}{training}")).unwrap();
    let arguments = |out: &str, more: &[&str]| {
        let (config, out) = (path("w.toml"), path(out));
        let fixed = ["train", "wgan", "-q", &store, "--pheno", &traits, "--condition", &condition];
        let all = [&fixed[..], &["--config", &config, "--out", &out], more].concat();
        all.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let train = |ranks: usize, out: &str, more: &[&str]| {
        let arguments = arguments(out, more);
        succeeds(ranks, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let bytes = |name: &str| std::fs::read(path(name)).unwrap();
    train(1, "one.h5", &[]);
    let mut command = support::genialearn(1);
    command.args(arguments("stopped.h5", &[]));
    support::interrupt(command, &dir.path().join("stopped.checkpoint"), libc::SIGTERM);
    let refused = |more: &[&str], expected: &str| {
        let mut command = support::genialearn(1);
        command.args(arguments("stopped.h5", more));
        let out = run_alone(command);
        let told = String::from_utf8(out.stderr).unwrap();
        assert!(out.status.code() == Some(2) && told.contains(expected), "{told}");
    };
    refused(&[], "no checkpoint of an earlier run");
    refused(&["--resume", "--seed", "9"], "another --seed");
    refused(&["--resume", "--preset", "chromosom"], "chromosome");
    // Three ranks go on from what one has left.
    train(3, "stopped.h5", &["--resume"]);
    for file in ["h5", "curve.tsv", "curve.svg"] {
        assert!(bytes(&format!("one.{file}")) == bytes(&format!("stopped.{file}")), "{file}");
    }
    assert!(!dir.path().join("stopped.checkpoint").exists());
    refused(&[], "a new file");
    for ranks in [1, 2] {
        let (model, out) = (path("one.h5"), path(&format!("made{ranks}.h5")));
        succeeds(ranks, &["generate", "-q", &model, "--animals", "140", "--out", &out]);
    }
    assert!(bytes("made1.h5") == bytes("made2.h5"));
}
