//! Many traits at the price of few: CPU seconds of 33 traits over those of one.
//!
//!     cargo bench --bench gblup [-- ANIMALS SNPS]
//!
//! Exact REML + GBLUP with G in memory (all animals recorded, one eigendecomposition for all), block conjugate
//! gradients (each trait with its own gaps), the same with and without preconditioner and single precision, and one
//! iteration against as many single ones. What came out, beside the aims: benches/results/gblup.md and products.md.

use genialearn::comm::World;
use genialearn::genotype::Store;
use genialearn::grm::{explicit, GenotypeMatrix, Scaling};
use genialearn::linalg::pcg::{Params, Precision};
use genialearn::linalg::{Operator, Rows};
use genialearn::mixed::gblup::{fit_by_conjugate_gradient, fit_by_conjugate_gradient_monitored, fit_groups};
use genialearn::mixed::plan::{Dense, Solver};
use genialearn::mixed::reml::Given;
use genialearn::mixed::solve::{CgSettings, Unmonitored};
use genialearn::mixed::Group;
use genialearn::records::Phenotypes;
use genialearn::records::{Columns, Sources};
use genialearn::usage::cpu_seconds;
use ndarray::{Array2, ArrayView2};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// CPU and wall seconds of one piece of work.
fn timed<T>(work: impl FnOnce() -> T) -> (f64, f64, T) {
    let (cpu, wall) = (cpu_seconds(), Instant::now());
    let out = work();
    (cpu_seconds() - cpu, wall.elapsed().as_secs_f64(), out)
}

/// A simulated herd and the genotypes as an operator.
fn herd(folder: &Path, n: usize, m: usize) -> (Store, Phenotypes, GenotypeMatrix) {
    let (store, pheno) = (folder.join("s.h5"), folder.join("p.tsv"));
    let status = Command::new(env!("CARGO_BIN_EXE_genialearn"))
        .args(["simulate", "-q", "--animals", &n.to_string(), "--snps", &m.to_string()])
        .arg("--out")
        .arg(&store)
        .arg("--pheno")
        .arg(&pheno)
        .status()
        .expect("the program starts");
    assert!(status.success(), "simulate");
    let store = Store::open(&store).expect("a store");
    let sources = Sources { phenotypes: Columns { path: pheno, names: Vec::new() }, ..Sources::default() };
    let records = Phenotypes::read(&World::alone(), &store.animals().id, &sources).expect("records");
    let backend = genialearn::device::open("auto").expect("a backend");
    let markers =
        GenotypeMatrix::load(&World::alone(), backend, &store, Scaling::VanRaden1).expect("genotypes");
    (store, records, markers)
}

/// The first `t` traits; without gaps when `whole`: a gap gets the trait's mean.
fn first_traits(all: &Phenotypes, t: usize, whole: bool) -> Vec<Group> {
    let mut records = Phenotypes { traits: all.traits[..t].to_vec(), ..all.clone() };
    records.y = all.y.slice(ndarray::s![.., ..t]).to_owned();
    if whole {
        for mut column in records.y.columns_mut() {
            let known: Vec<f64> = column.iter().copied().filter(|x| !x.is_nan()).collect();
            let mean = genialearn::stats::mean(&known);
            column.mapv_inplace(|x| if x.is_nan() { mean } else { x });
        }
    }
    Group::of(&records).into_iter().map(|(_, group)| group).collect()
}

/// CPU seconds of one iteration of block conjugate gradients on the first `t` traits: one product with G and the
/// work on vectors. The runs stop early on purpose, so their errors are no news; what they begin and end with
/// cancels.
fn iteration(markers: &GenotypeMatrix, records: &Phenotypes, t: usize) -> f64 {
    let groups = first_traits(records, t, false);
    let groups: Vec<&Group> = groups.iter().collect();
    let given: Vec<Vec<Given>> =
        groups.iter().map(|g| vec![Given { h2: 0.3, total: None }; g.traits()]).collect();
    let run = |max_iterations| {
        let params = Params { max_iterations, tolerance: 1e-15, ..Params::default() };
        timed(|| fit_by_conjugate_gradient(markers, &groups, &given, params).is_ok()).0
    };
    let (few, many) = (5, 25);
    let least = |iterations| (0..3).map(|_| run(iterations)).fold(f64::INFINITY, f64::min);
    (least(many) - least(few)) / (many - few) as f64
}

/// A diagonal matrix in the place of G: what is left of an iteration is the work on vectors.
struct Diagonal(Rows);

impl Operator for Diagonal {
    fn row_layout(&self) -> Rows {
        self.0.clone()
    }

    fn apply(&self, block: ArrayView2<f64>) -> Array2<f64> {
        let mut out = block.to_owned();
        Rows::for_each(&mut out, |i, row| row.iter_mut().for_each(|x| *x *= 0.1 + (i % 97) as f64));
        out
    }

    fn diagonal(&self) -> Vec<f64> {
        vec![1.0; self.0.count()]
    }
}

/// CPU seconds of the work on vectors in one iteration for `t` traits of `n` animals in six patterns of gaps, with a
/// preconditioner of some rank.
fn vector_work(n: usize, t: usize, rank: usize) -> f64 {
    let group = |k: usize| {
        let animals: Vec<usize> = (0..n).filter(|i| k == 0 || i % (7 + k) != 0).collect();
        let traits = t / 6 + usize::from(k < t % 6);
        let y = Array2::from_shape_fn((animals.len(), traits), |(i, c)| ((i * 7 + c * 3) % 11) as f64);
        let design = Array2::ones((animals.len(), 1));
        Group::new(animals, y, design, None)
    };
    let groups: Vec<Group> = (0..6).map(group).collect();
    let groups: Vec<&Group> = groups.iter().collect();
    let given: Vec<Vec<Given>> =
        groups.iter().map(|g| vec![Given { h2: 0.3, total: None }; g.traits()]).collect();
    let operator = Diagonal(Rows::alone(n));
    let run = |max_iterations| {
        let params = Params { max_iterations, tolerance: 1e-15, ..Params::default() };
        let settings = CgSettings { params, rank: Some(rank), seed: 1 };
        let fit =
            || fit_by_conjugate_gradient_monitored(&operator, &groups, &given, &settings, &mut Unmonitored);
        timed(|| fit().is_ok()).0
    };
    let (few, many) = (3, 23);
    let least = |iterations| (0..3).map(|_| run(iterations)).fold(f64::INFINITY, f64::min);
    (least(many) - least(few)) / (many - few) as f64
}

/// Iterations and CPU seconds of conjugate gradients for all traits, with and without what makes them short.
fn ways(markers: &GenotypeMatrix, records: &Phenotypes) {
    let groups = first_traits(records, records.traits.len(), false);
    let groups: Vec<&Group> = groups.iter().collect();
    for h2 in [0.05, 0.3, 0.6] {
        let given = |g: &&Group| vec![Given { h2, total: None }; g.traits()];
        let given: Vec<Vec<Given>> = groups.iter().map(given).collect();
        for (precision, rank) in
            [(Precision::Double, Some(0)), (Precision::Double, None), (Precision::Single, None)]
        {
            let params = Params { tolerance: 1e-8, precision, ..Params::default() };
            let plan = CgSettings { params, rank, seed: 1 };
            let fit =
                || fit_by_conjugate_gradient_monitored(markers, &groups, &given, &plan, &mut Unmonitored);
            let (cpu, wall, fitted) = timed(fit);
            let info = fitted.expect("a fit").1;
            let rank = plan.rank(markers.n(), records.traits.len());
            println!(
                "h2 {h2}, products in {precision:?} precision, rank {rank:3}: {:3} iterations, {} checks, {cpu:8.1} ({wall:.1})",
                info.iterations, info.checks
            );
        }
    }
}

fn main() {
    let sizes: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let (n, m) = match sizes[..] {
        [n, m] => (n, m),
        _ => (5_000, 20_000),
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (_store, records, markers) = herd(folder.path(), n, m);
    let many = records.traits.len();
    println!("{n} animals x {m} SNPs, CPU seconds (wall seconds)");
    let (formed, wall, g) = timed(|| explicit::grm(&markers).expect("memory").expect("on the root"));
    println!("forming G                 {formed:8.1} ({wall:.1})");
    let mut seconds = Vec::new();
    for t in [1, many] {
        let groups = first_traits(&records, t, true);
        let groups: Vec<&Group> = groups.iter().collect();
        let fit =
            || fit_groups(&World::alone(), Some(g.clone()), &groups, None, &Dense::one_by_one(Solver::Eigen));
        let (cpu, wall, fits) = timed(fit);
        fits.expect("a fit");
        println!("REML + GBLUP, {t:2} traits   {:8.1} ({wall:.1}) with G", cpu + formed);
        seconds.push(cpu + formed);
    }
    println!("ratio {:.2}", seconds[1] / seconds[0]);
    seconds.clear();
    for t in [1, many] {
        let groups = first_traits(&records, t, false);
        let groups: Vec<&Group> = groups.iter().collect();
        let given = |g: &&Group| vec![Given { h2: 0.3, total: None }; g.traits()];
        let given: Vec<Vec<Given>> = groups.iter().map(given).collect();
        let (cpu, wall, fits) =
            timed(|| fit_by_conjugate_gradient(&markers, &groups, &given, Params::default()));
        fits.expect("a fit");
        println!("conjugate gradients, {t:2} traits in {:2} patterns {cpu:8.1} ({wall:.1})", groups.len());
        seconds.push(cpu);
    }
    println!("ratio {:.2}", seconds[1] / seconds[0]);
    ways(&markers, &records);
    for rank in [0, 320] {
        let seconds = vector_work(113_599, many, rank);
        println!("vectors of 113599 animals x {many} traits, preconditioner of rank {rank:3}: {seconds:.4} an iteration");
    }
    let (one, all) = (iteration(&markers, &records, 1), iteration(&markers, &records, many));
    println!("one iteration, 1 trait {one:.4}, {many} traits {all:.4}");
    println!("{many} traits cost 1/{:.1} of {many} single ones", many as f64 * one / all);
}
