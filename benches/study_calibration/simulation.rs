//! Small studies whose truth is known: animals, records, and models that are cheap stand-ins for those of `study`.
//!
//! `Full` and `Half` are SNP-BLUP (ridge regression) on all and on half of the SNPs: GBLUP, and GBLUP with less to learn
//! from. `Network` is ridge regression on random features tanh(xW) (Rahimi & Recht 2008), whose W the seed draws: like a
//! trained network it differs from fit to fit by what all animals share and by what each has alone. In cases that say so
//! `Network` is a network of one hidden layer, trained by stochastic gradients from weights and an order of the animals that
//! the seed draws.

use genialearn::evaluate::bootstrap::Draws;
use genialearn::evaluate::comparisons::{compare, Resampled, TestedSplit};
use genialearn::evaluate::scores::Tested;
use genialearn::rng::{Purpose, Stream};
use ndarray::{Array1, Array2, Axis};
use rayon::prelude::*;

/// SNPs, and random features of a network.
const SNPS: usize = 100;
const FEATURES: usize = 120;
/// Ridge of the features beside that of the SNPs: tanh keeps about this share of the variance.
const FEATURE_VARIANCE: f64 = 0.35;

/// A trained network: tanh units, passes over the animals, animals a step, learning rate, momentum, weight decay.
const UNITS: usize = 16;
const EPOCHS: usize = 30;
const BATCH: usize = 24;
const RATE: f64 = 0.01;
const MOMENTUM: f64 = 0.9;
const DECAY: f64 = 0.02;

/// How the animals of a study are divided and fitted.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// In words.
    pub name: &'static str,
    /// Animals with records.
    pub animals: usize,
    /// Heritability, 0 to 1.
    pub h2: f64,
    /// Folds of a repetition.
    pub folds: usize,
    /// Repetitions.
    pub repeats: usize,
    /// Whether the first fold alone is tested, as in forward validation.
    pub one_fold: bool,
    /// Paternal half sibs of a family, tested together; 1: unrelated animals.
    pub family: usize,
    /// Fits that differ in their seed alone.
    pub replicates: usize,
    /// Whether networks are trained, instead of ridge regression on random features.
    pub trained: bool,
}

/// Random folds of 300 unrelated animals.
pub const RANDOM: Case = Case {
    name: "5 random folds, 3 replicates",
    animals: 300,
    h2: 0.4,
    folds: 5,
    repeats: 1,
    one_fold: false,
    family: 1,
    replicates: 3,
    trained: false,
};

/// A model of the simulated studies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Model {
    /// Ridge regression on all SNPs.
    Full,
    /// On the first half of them.
    Half,
    /// On random features of all SNPs, or a trained network.
    Network,
}

/// Compared pairs: one of two networks that differ in their seeds alone, and two with a difference.
pub const PAIRS: [(&str, Model, Model); 3] = [
    ("seeds alone", Model::Network, Model::Network),
    ("half the SNPs", Model::Full, Model::Half),
    ("network", Model::Full, Model::Network),
];

/// The difference in r that one study finds in each of [`PAIRS`].
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// Difference, first minus second.
    pub difference: [f64; 3],
    /// Half the width of its 95 % interval.
    pub half: [f64; 3],
    /// p.
    pub p: [f64; 3],
    /// Half the width by the bootstrap of tested animals alone, models taken as they are.
    pub half_bootstrap: [f64; 3],
}

/// Simulates studies 0, 1, ... of a case, with `samples` bootstrap samples each.
pub fn studies(case: &Case, count: usize, samples: usize) -> Vec<Found> {
    (0..count).into_par_iter().map(|k| study(case, k as u64, samples)).collect()
}

fn study(case: &Case, number: u64, samples: usize) -> Found {
    let mut s = Stream::new(11, Purpose::Test, number);
    let families: Vec<u32> = (0..case.animals).map(|i| (i / case.family) as u32).collect();
    let z = genotypes(case, &mut s);
    let y = records(case, &z, &mut s);
    let folds = folds(case, &families, &mut s);
    let known = (case.family > 1).then_some(families.as_slice());
    let draws = Draws::new(case.animals, known, number, samples);
    let mut resampled = |model: Model| {
        let tested: Vec<Tested> =
            folds.iter().map(|(_, test)| fit(case, model, &z, &y, test, &mut s)).collect();
        let of = |((repetition, test), tested): (&(usize, Vec<bool>), _)| {
            let trained = test.iter().filter(|t| !**t).count();
            TestedSplit { repetition: *repetition, trained, tested, counts: true }
        };
        let splits: Vec<TestedSplit> = folds.iter().zip(&tested).map(of).collect();
        Resampled::new(&splits, &draws, known)
    };
    let [full, half, network, again] =
        [Model::Full, Model::Half, Model::Network, Model::Network].map(&mut resampled);
    let pairs = [(&network, &again), (&full, &half), (&full, &network)];
    let d = pairs.map(|(a, b)| compare(a, b)[0]);
    let bootstrap = pairs.map(|(a, b)| {
        let [a, b] = [a, b].map(|m| m.summary().replicates);
        let paired: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a[0] - b[0]).collect();
        1.96 * genialearn::stats::variance(&paired).sqrt()
    });
    Found {
        difference: d.map(|d| d.difference),
        half: d.map(|d| d.high - d.difference),
        p: d.map(|d| d.p),
        half_bootstrap: bootstrap,
    }
}

/// Standardised allele counts, (animals, SNPs). Sibs share a sire, and nothing else.
fn genotypes(case: &Case, s: &mut Stream) -> Array2<f64> {
    // The frequencies are those of one population.
    let mut of_snps = Stream::new(11, Purpose::Test, u64::MAX);
    let p: Vec<f64> = (0..SNPS).map(|_| 0.1 + 0.4 * of_snps.uniform()).collect();
    let mut z = Array2::zeros((case.animals, SNPS));
    let mut sire = [[false; 2]; SNPS];
    for i in 0..case.animals {
        for j in 0..SNPS {
            let mut allele = || s.uniform() < p[j];
            if i % case.family == 0 {
                sire[j] = [allele(), allele()];
            }
            let dam = allele();
            let count = f64::from(u8::from(dam) + u8::from(sire[j][s.below(2)]));
            z[[i, j]] = (count - 2.0 * p[j]) / (2.0 * p[j] * (1.0 - p[j])).sqrt();
        }
    }
    z
}

/// Records of variance 1; SNP effects are the same in all studies, so that the expected difference is.
fn records(case: &Case, z: &Array2<f64>, s: &mut Stream) -> Array1<f64> {
    let mut of_snps = Stream::new(12, Purpose::Test, u64::MAX);
    let effects: Array1<f64> = (0..SNPS).map(|_| of_snps.normal()).collect();
    let genetic = z.dot(&effects) / effects.dot(&effects).sqrt();
    genetic.mapv(|g| case.h2.sqrt() * g + (1.0 - case.h2).sqrt() * s.normal())
}

/// Repetition and tested animals of every split; families stay together.
fn folds(case: &Case, families: &[u32], s: &mut Stream) -> Vec<(usize, Vec<bool>)> {
    let mut out = Vec::new();
    for repetition in 1..=case.repeats {
        let mut order: Vec<usize> = (0..case.animals / case.family).collect();
        s.shuffle(&mut order);
        let tested = |fold: usize| families.iter().map(|&f| order[f as usize] % case.folds == fold).collect();
        out.extend((0..case.folds).map(|fold| (repetition, tested(fold))));
    }
    out.truncate(if case.one_fold { 1 } else { out.len() });
    out
}

/// Fits to the animals that are not tested, with every replicate's own seed, and predicts those that are.
fn fit(case: &Case, model: Model, z: &Array2<f64>, y: &Array1<f64>, test: &[bool], s: &mut Stream) -> Tested {
    let rows = |wanted: bool| (0..test.len()).filter(|&i| test[i] == wanted).collect::<Vec<usize>>();
    let (train, tested) = (rows(false), rows(true));
    let ratio = (1.0 - case.h2) / case.h2;
    let replicates = if model == Model::Network { case.replicates } else { 1 };
    let mut one = || {
        let known = y.select(Axis(0), &train);
        let mean = known.mean().expect("training animals");
        let known = known - mean;
        if model == Model::Network && case.trained {
            return trained(&z.select(Axis(0), &train), &known, &z.select(Axis(0), &tested), s);
        }
        let (x, penalty) = match model {
            Model::Full => (z.clone(), ratio * SNPS as f64),
            Model::Half => (z.slice(ndarray::s![.., ..SNPS / 2]).to_owned(), ratio * SNPS as f64),
            Model::Network => {
                let w = Array2::from_shape_simple_fn((SNPS, FEATURES), || s.normal() / (SNPS as f64).sqrt());
                (z.dot(&w).mapv(f64::tanh), ratio * FEATURES as f64 * FEATURE_VARIANCE)
            }
        };
        let weights = ridge(&x.select(Axis(0), &train), &known, penalty);
        x.select(Axis(0), &tested).dot(&weights).to_vec()
    };
    let fits: Vec<Vec<f64>> = (0..replicates).map(|_| one()).collect();
    let mean = |k: usize| fits.iter().map(|f| f[k]).sum::<f64>() / replicates as f64;
    let prediction = (0..tested.len()).map(mean).collect();
    let animals = tested.iter().map(|&i| i as u32).collect();
    let of_fit =
        Tested::of_fit(animals, prediction, y.select(Axis(0), &tested).to_vec(), vec![0.0; tested.len()]);
    Tested { replicates: fits, ..of_fit }
}

/// Predictions for `tested` of a network v'tanh(Wx) that is trained on `x` and `y`.
fn trained(x: &Array2<f64>, y: &Array1<f64>, tested: &Array2<f64>, s: &mut Stream) -> Vec<f64> {
    let draw = |s: &mut Stream, of: usize| s.normal() / (of as f64).sqrt();
    let mut w = Array2::from_shape_simple_fn((SNPS, UNITS), || draw(s, SNPS));
    let mut v = Array1::from_shape_simple_fn(UNITS, || draw(s, UNITS));
    let (mut step_w, mut step_v) = (Array2::<f64>::zeros(w.dim()), Array1::<f64>::zeros(UNITS));
    let mut order: Vec<usize> = (0..y.len()).collect();
    for _ in 0..EPOCHS {
        s.shuffle(&mut order);
        for rows in order.chunks(BATCH) {
            let (x, y) = (x.select(Axis(0), rows), y.select(Axis(0), rows));
            let hidden = x.dot(&w).mapv(f64::tanh);
            let error = hidden.dot(&v) - y;
            let inner = Array2::from_shape_fn(hidden.dim(), |(i, k)| {
                error[i] * v[k] * (1.0 - hidden[[i, k]].powi(2))
            });
            let (of_v, of_w) = (hidden.t().dot(&error), x.t().dot(&inner));
            let n = rows.len() as f64;
            step_v = MOMENTUM * step_v - RATE * (of_v / n + DECAY * &v);
            step_w = MOMENTUM * step_w - RATE * (of_w / n + DECAY * &w);
            v += &step_v;
            w += &step_w;
        }
    }
    tested.dot(&w).mapv(f64::tanh).dot(&v).to_vec()
}

/// (X'X + λI)⁻¹X'y by a Cholesky decomposition, row by row.
fn ridge(x: &Array2<f64>, y: &Array1<f64>, penalty: f64) -> Array1<f64> {
    let n = x.ncols();
    let a = x.t().dot(x);
    let b = x.t().dot(y);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    // Rows of the lower triangle, the diagonal last.
    let mut l: Vec<Vec<f64>> = Vec::with_capacity(n);
    for i in 0..n {
        let mut row = Vec::with_capacity(i + 1);
        for (j, above) in l.iter().enumerate() {
            row.push((a[[i, j]] - dot(&row, &above[..j])) / above[j]);
        }
        row.push((a[[i, i]] + penalty - dot(&row, &row)).sqrt());
        l.push(row);
    }
    let mut half = Vec::with_capacity(n);
    for (i, row) in l.iter().enumerate() {
        half.push((b[i] - dot(&half, &row[..i])) / row[i]);
    }
    for i in (0..n).rev() {
        half[i] /= l[i][i];
        let solved = half[i];
        half[..i].iter_mut().zip(&l[i]).for_each(|(h, l)| *h -= l * solved);
    }
    Array1::from(half)
}

/// Of many studies of a case: what each of [`PAIRS`] shows.
#[derive(Debug, Clone, Copy)]
pub struct Shares {
    /// Mean difference; exactly 0 is expected where seeds alone differ.
    pub mean: f64,
    /// Standard deviation of the difference between studies: the true error.
    pub sd: f64,
    /// Root mean square of the half widths over 1.96.
    pub se: f64,
    /// Studies with p < 0.05.
    pub different: f64,
    /// Intervals that hold the expected difference.
    pub covered: f64,
    /// The same of intervals by tested animals alone.
    pub covered_bootstrap: f64,
}

/// The shares of a pair among studies of one case.
pub fn shares(found: &[Found], pair: usize) -> Shares {
    let n = found.len() as f64;
    let mean = found.iter().map(|f| f.difference[pair]).sum::<f64>() / n;
    let expected = if PAIRS[pair].1 == PAIRS[pair].2 { 0.0 } else { mean };
    let share = |holds: &dyn Fn(&Found) -> bool| found.iter().filter(|f| holds(f)).count() as f64 / n;
    let off = |f: &Found| (f.difference[pair] - expected).abs();
    Shares {
        mean,
        sd: (found.iter().map(|f| (f.difference[pair] - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt(),
        se: (found.iter().map(|f| (f.half[pair] / 1.96).powi(2)).sum::<f64>() / n).sqrt(),
        different: share(&|f| f.p[pair] < 0.05),
        covered: share(&|f| off(f) <= f.half[pair]),
        covered_bootstrap: share(&|f| off(f) <= f.half_bootstrap[pair]),
    }
}
