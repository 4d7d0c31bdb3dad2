//! Restricted maximum likelihood of covariance matrices by average information, whatever the likelihood is computed
//! from.
//!
//! y ~ N(Xb, Σ_k C_k ⊗ K_k) with a covariance matrix C_k of the traits for each random effect, the residual last.
//! Expectation-maximisation begins; then come Newton steps with the average of the observed and the expected
//! information (Gilmour, Thompson & Cullis 1995; Johnson & Thompson 1995), halved until the likelihood rises. A step
//! that would leave the positive semi-definite matrices ends on their boundary: that matrix goes on with one rank
//! less (a variance of 0, a correlation of ±1) while the others continue, and gets its rank back if in the end the
//! likelihood rises inwards.

use super::Outcome;
use crate::linalg::factor::Cholesky;
use ndarray::{s, Array1, Array2, ArrayView1, Axis};

/// Steps of expectation-maximisation at the start.
const FIRST: usize = 2;
/// Steps at most.
const MOST: usize = 100;
/// Converged when a step promises to raise 2 log L by less than this: parameters are then within 1e-5 standard
/// errors. GCTA stops when a step has changed log L by less than 1e-4.
const ENOUGH: f64 = 1e-10;
/// The residual covariance is kept this far from singular, relative to the records' variance: V needs it.
const FLOOR: f64 = 1e-6;

/// The likelihood and its derivatives at covariance matrices C_k, (t, t) each.
#[derive(Debug, Clone)]
pub(super) struct Derivatives {
    pub log_likelihood: f64,
    /// S_k with d log L = Σ tr(S_k dC_k).
    pub scores: Vec<Array2<f64>>,
    /// Average information of the elements of all C_k in the order of [`entries`].
    pub information: Array2<f64>,
}

/// A restricted likelihood of records of t traits.
pub(super) trait Likelihood {
    /// The derivatives at C_k for all effects, the residual last; nothing where V is not positive definite.
    fn derivatives(&self, c: &[Array2<f64>]) -> Option<Derivatives>;
    /// Number of traits, t.
    fn traits(&self) -> usize;
    /// Number of random effects with the residual.
    fn effects(&self) -> usize;
    /// Number of animals.
    fn animals(&self) -> usize;
    /// Variances of the records beside the fixed effects, (t).
    fn variances(&self) -> Vec<f64>;
    /// Mean diagonal element of each K_k.
    fn sizes(&self) -> Vec<f64>;
}

/// The elements (i, j) of a symmetric (t, t) matrix, i at most j, row by row.
pub(super) fn entries(t: usize) -> Vec<(usize, usize)> {
    (0..t).flat_map(|i| (i..t).map(move |j| (i, j))).collect()
}

/// What is left of a matrix.
#[derive(Debug, Clone, PartialEq)]
enum Rank {
    Full,
    /// v v' of two traits.
    One(Array1<f64>),
    Zero,
}

/// A square block of one effect's covariance matrix that is estimated; what no block covers stays 0.
#[derive(Debug, Clone)]
pub(super) struct Block {
    effect: usize,
    traits: Vec<usize>,
    rank: Rank,
    floor: f64,
}

impl Block {
    /// The block of `effect` for one or two of the traits.
    pub fn new(effect: usize, traits: &[usize]) -> Block {
        Block { effect, traits: traits.to_vec(), rank: Rank::Full, floor: 0.0 }
    }

    /// This block of a matrix of all traits.
    fn of(&self, c: &Array2<f64>) -> Array2<f64> {
        c.select(Axis(0), &self.traits).select(Axis(1), &self.traits)
    }

    /// Puts `part` into the matrix of all traits.
    fn put(&self, part: &Array2<f64>, c: &mut Array2<f64>) {
        for (i, &a) in self.traits.iter().enumerate() {
            for (j, &b) in self.traits.iter().enumerate() {
                c[[a, b]] = part[[i, j]];
            }
        }
    }

    /// Parameters at this rank.
    fn count(&self) -> usize {
        match self.rank {
            Rank::Full => entries(self.traits.len()).len(),
            Rank::One(_) => 2,
            Rank::Zero => 0,
        }
    }

    /// dC/dφ for each parameter φ, as matrices of the block.
    fn directions(&self) -> Vec<Array2<f64>> {
        let q = self.traits.len();
        let outer = |a: ArrayView1<f64>, b: ArrayView1<f64>| {
            Array2::from_shape_fn((q, q), |(i, j)| a[i] * b[j] + a[j] * b[i])
        };
        let unit = |i: usize| Array1::from_shape_fn(q, |k| f64::from(u8::from(k == i)));
        match &self.rank {
            Rank::Full => entries(q)
                .into_iter()
                .map(|(i, j)| outer(unit(i).view(), unit(j).view()) * if i == j { 0.5 } else { 1.0 })
                .collect(),
            Rank::One(v) => (0..q).map(|i| outer(unit(i).view(), v.view())).collect(),
            Rank::Zero => Vec::new(),
        }
    }

    /// The block after a step of its parameters.
    fn moved(&self, part: &Array2<f64>, step: ArrayView1<f64>) -> (Array2<f64>, Rank) {
        match &self.rank {
            Rank::Full => {
                let mut to = part.clone();
                self.directions().iter().zip(step).for_each(|(d, s)| to.scaled_add(*s, d));
                (to, Rank::Full)
            }
            Rank::One(v) => {
                let v = v + &step;
                (self.of_rank_one(&v), Rank::One(v))
            }
            Rank::Zero => (part.clone(), Rank::Zero),
        }
    }

    fn of_rank_one(&self, v: &Array1<f64>) -> Array2<f64> {
        let floor = |i: usize, j: usize| if i == j { self.floor } else { 0.0 };
        Array2::from_shape_fn((v.len(), v.len()), |(i, j)| v[i] * v[j] + floor(i, j))
    }

    /// Whether a full matrix lies within the bounds.
    fn allows(&self, part: &Array2<f64>) -> bool {
        let (least, _) = smallest(&(part - &(Array2::<f64>::eye(part.nrows()) * self.floor)));
        least >= 0.0
    }

    /// Takes the rank that `part`, which lies on the bound, has; returns the cleaned block.
    fn reduce(&mut self, part: &Array2<f64>) -> Array2<f64> {
        let q = part.nrows();
        let above = part - &(Array2::<f64>::eye(q) * self.floor);
        let trace = above.diag().sum();
        if q == 1 || trace <= 1e-9 * (part.diag().sum() + self.floor) {
            self.rank = Rank::Zero;
            return Array2::<f64>::eye(q) * self.floor;
        }
        let (least, w) = smallest(&above);
        let v = ndarray::arr1(&[-w[1], w[0]]) * (trace - least).sqrt();
        let clean = self.of_rank_one(&v);
        self.rank = Rank::One(v);
        clean
    }

    /// The direction w w' in which the block could gain a rank and the likelihood rises most: w.
    fn inward(&self, score: &Array2<f64>) -> Option<Array1<f64>> {
        match &self.rank {
            Rank::Full => None,
            Rank::One(v) => Some(ndarray::arr1(&[-v[1], v[0]]) / v.dot(v).sqrt()),
            Rank::Zero => Some(smallest(&-score).1),
        }
    }
}

/// The smallest eigenvalue of a symmetric matrix of order 1 or 2, and its unit eigenvector.
fn smallest(a: &Array2<f64>) -> (f64, Array1<f64>) {
    if a.nrows() == 1 {
        return (a[[0, 0]], ndarray::arr1(&[1.0]));
    }
    let (p, q, r) = (a[[0, 0]], a[[0, 1]], a[[1, 1]]);
    let angle = 0.5 * (2.0 * q).atan2(p - r); // of the largest
    let largest = 0.5 * (p + r) + (0.25 * (p - r).powi(2) + q * q).sqrt();
    // Without cancellation where the matrix is nearly singular.
    let least = if largest > 0.0 { (p * r - q * q) / largest } else { p + r - largest };
    (least, ndarray::arr1(&[-angle.sin(), angle.cos()]))
}

/// Where the search ended.
#[derive(Debug, Clone)]
pub(super) struct Optimum {
    pub c: Vec<Array2<f64>>,
    pub log_likelihood: f64,
    pub iterations: usize,
    pub outcome: Outcome,
    /// Covariances of the errors of the elements of all C_k, in the order of [`entries`]; zero where an element is
    /// fixed on its bound.
    pub errors: Array2<f64>,
    /// The effects whose matrix ended on the boundary.
    pub reduced: Vec<bool>,
    /// Whether the records tell the parameters apart; if not the errors are NaN.
    pub identified: bool,
}

/// Equal shares of the records' variances, without covariances.
pub(super) fn start(likelihood: &dyn Likelihood, effects: &[usize]) -> Vec<Array2<f64>> {
    let share = |k: usize, size: f64| {
        let on = if effects.contains(&k) { 1.0 / (effects.len() as f64 * size.max(1e-300)) } else { 0.0 };
        Array2::from_diag(&Array1::from(likelihood.variances()).mapv(|v| v * on))
    };
    likelihood.sizes().into_iter().enumerate().map(|(k, size)| share(k, size)).collect()
}

/// The highest likelihood over `blocks`, from `start`.
pub(super) fn maximise(
    likelihood: &dyn Likelihood,
    start: Vec<Array2<f64>>,
    mut blocks: Vec<Block>,
) -> Option<Optimum> {
    let variances = likelihood.variances();
    for block in blocks.iter_mut().filter(|b| b.effect + 1 == likelihood.effects()) {
        let least = block.traits.iter().map(|&t| variances[t]).fold(f64::INFINITY, f64::min);
        block.floor = FLOOR * least;
    }
    let at = likelihood.derivatives(&start)?;
    let mut search = Search { likelihood, blocks, c: start, at };
    let (mut outcome, mut iterations, mut releases) = (Outcome::Failed, 0, 0);
    while iterations < MOST {
        iterations += 1;
        if iterations <= FIRST {
            search.expect();
        } else if search.step() {
            if releases < 4 * search.blocks.len() && search.release() {
                releases += 1;
                continue;
            }
            let inside = search.blocks.iter().all(|b| b.rank == Rank::Full);
            outcome = if inside { Outcome::Converged } else { Outcome::Boundary };
            break;
        }
    }
    Some(search.finish(iterations, outcome))
}

/// A search on its way.
struct Search<'a> {
    likelihood: &'a dyn Likelihood,
    blocks: Vec<Block>,
    c: Vec<Array2<f64>>,
    at: Derivatives,
}

impl Search<'_> {
    /// dθ/dφ: elements of all C_k by parameters of all blocks.
    fn jacobian(&self) -> Array2<f64> {
        let (t, count) = (self.likelihood.traits(), self.blocks.iter().map(Block::count).sum());
        let pairs = entries(t);
        let mut out = Array2::zeros((pairs.len() * self.likelihood.effects(), count));
        let mut column = 0;
        for block in &self.blocks {
            for direction in block.directions() {
                let mut whole = Array2::zeros((t, t));
                block.put(&direction, &mut whole);
                out.column_mut(column).assign(&self.elements(block.effect, &whole));
                column += 1;
            }
        }
        out
    }

    /// A change of one effect's matrix as a change of the elements of all.
    fn elements(&self, effect: usize, whole: &Array2<f64>) -> Array1<f64> {
        let pairs = entries(self.likelihood.traits());
        let mut out = Array1::zeros(pairs.len() * self.likelihood.effects());
        for (p, &(i, j)) in pairs.iter().enumerate() {
            out[effect * pairs.len() + p] = whole[[i, j]];
        }
        out
    }

    /// d log L by the elements of all C_k.
    fn gradient(&self) -> Array1<f64> {
        let pairs = entries(self.likelihood.traits());
        let of = |s: &Array2<f64>| {
            pairs.iter().map(|&(i, j)| if i == j { s[[i, j]] } else { 2.0 * s[[i, j]] }).collect::<Vec<_>>()
        };
        self.at.scores.iter().flat_map(of).collect()
    }

    /// Moves there if the likelihood does not fall.
    fn accept(&mut self, c: Vec<Array2<f64>>, slack: f64) -> bool {
        match self.likelihood.derivatives(&c) {
            Some(at) if at.log_likelihood >= self.at.log_likelihood - slack => {
                (self.c, self.at) = (c, at);
                true
            }
            _ => false,
        }
    }

    /// One step of expectation-maximisation: C + 2 C S C / n. Tells whether it moved.
    fn expect(&mut self) -> bool {
        let mut c = self.c.clone();
        for block in self.blocks.iter().filter(|b| b.rank == Rank::Full) {
            let (part, score) = (block.of(&self.c[block.effect]), block.of(&self.at.scores[block.effect]));
            let next = &part + &(part.dot(&score).dot(&part) * (2.0 / self.likelihood.animals() as f64));
            if block.allows(&next) {
                block.put(&next, &mut c[block.effect]);
            }
        }
        self.accept(c, 1e-9)
    }

    /// One Newton step; tells whether the search has settled.
    fn step(&mut self) -> bool {
        let j = self.jacobian();
        let gradient = j.t().dot(&self.gradient());
        let information = j.t().dot(&self.at.information).dot(&j);
        let delta = match inverse(&information) {
            _ if gradient.is_empty() => return true,
            Some(inverse) => inverse.dot(&gradient),
            None => return !self.expect(),
        };
        let promise = gradient.dot(&delta);
        if promise < ENOUGH {
            return true;
        }
        let mut length = self.longest(&delta);
        let hits = length < 1.0;
        for halving in 0..12 {
            let (c, ranks) = self.moved(&delta, length);
            if hits && halving == 0 {
                if self.land(c, ranks, &delta, length) {
                    return false;
                }
            } else if self.accept(c, 0.0) {
                self.blocks.iter_mut().zip(ranks).for_each(|(b, r)| b.rank = r);
                return false;
            }
            length *= 0.5;
        }
        // As good as rounding lets it be, or the last resort.
        promise < 1e-6 || !self.expect()
    }

    /// The matrices and ranks after `length` of a step.
    fn moved(&self, delta: &Array1<f64>, length: f64) -> (Vec<Array2<f64>>, Vec<Rank>) {
        let (mut c, mut ranks, mut first) = (self.c.clone(), Vec::new(), 0);
        for block in &self.blocks {
            let step = delta.slice(s![first..first + block.count()]).mapv(|d| d * length);
            first += block.count();
            let (part, rank) = block.moved(&block.of(&self.c[block.effect]), step.view());
            block.put(&part, &mut c[block.effect]);
            ranks.push(rank);
        }
        (c, ranks)
    }

    /// Whether all full blocks lie within their bounds after a part of a step.
    fn allowed(&self, delta: &Array1<f64>, length: f64) -> Vec<bool> {
        let (c, _) = self.moved(delta, length);
        self.blocks.iter().map(|b| b.rank != Rank::Full || b.allows(&b.of(&c[b.effect]))).collect()
    }

    /// The part of a step, at most all of it, that stays within the bounds.
    fn longest(&self, delta: &Array1<f64>) -> f64 {
        let inside = |length: f64| self.allowed(delta, length).iter().all(|&a| a);
        if inside(1.0) {
            return 1.0;
        }
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if inside(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Moves to the bound and takes a rank from the blocks that met it.
    fn land(&mut self, mut c: Vec<Array2<f64>>, ranks: Vec<Rank>, delta: &Array1<f64>, length: f64) -> bool {
        let beyond = self.allowed(delta, length * (1.0 + 1e-9) + 1e-12);
        let before = self.blocks.clone();
        for ((block, rank), inside) in self.blocks.iter_mut().zip(ranks).zip(beyond) {
            block.rank = rank;
            if !inside {
                let part = block.of(&c[block.effect]);
                let clean = block.reduce(&part);
                block.put(&clean, &mut c[block.effect]);
            }
        }
        let moved = self.accept(c, 1e-9);
        if !moved {
            self.blocks = before;
        }
        moved
    }

    /// Gives back a rank where the likelihood rises inwards; tells whether it did.
    fn release(&mut self) -> bool {
        for k in 0..self.blocks.len() {
            let block = &self.blocks[k];
            let score = block.of(&self.at.scores[block.effect]);
            let Some(w) = block.inward(&score) else { continue };
            let rise = w.dot(&score.dot(&w));
            let out = Array2::from_shape_fn((w.len(), w.len()), |(i, j)| w[i] * w[j]);
            let mut whole = Array2::zeros(self.c[block.effect].dim());
            block.put(&out, &mut whole);
            let along = self.elements(block.effect, &whole);
            let length = rise / along.dot(&self.at.information.dot(&along));
            if rise.is_nan() || rise <= 0.0 || rise * length < 1e-6 {
                continue;
            }
            let mut c = self.c.clone();
            c[block.effect].scaled_add(length, &whole);
            let rank = match (&block.rank, w.len()) {
                (Rank::Zero, 2) => Rank::One(w * length.sqrt()),
                _ => Rank::Full,
            };
            if self.accept(c, -1e-9) {
                self.blocks[k].rank = rank;
                return true;
            }
        }
        false
    }

    fn finish(self, iterations: usize, outcome: Outcome) -> Optimum {
        let j = self.jacobian();
        let information = j.t().dot(&self.at.information).dot(&j);
        let all = |x: f64| Array2::from_elem((j.nrows(), j.nrows()), x);
        let (errors, identified) = match inverse(&information) {
            _ if j.ncols() == 0 => (all(0.0), true),
            Some(inverse) => (j.dot(&inverse).dot(&j.t()), true),
            None => (all(f64::NAN), false),
        };
        let mut reduced = vec![false; self.c.len()];
        self.blocks.iter().filter(|b| b.rank != Rank::Full).for_each(|b| reduced[b.effect] = true);
        let (c, log_likelihood) = (self.c, self.at.log_likelihood);
        Optimum { c, log_likelihood, iterations, outcome, errors, reduced, identified }
    }
}

/// The inverse of a small positive definite matrix, scaled to a unit diagonal on the way; nothing where it has none.
fn inverse(a: &Array2<f64>) -> Option<Array2<f64>> {
    let scale = a.diag().mapv(|d| d.sqrt().recip());
    if !scale.iter().all(|s| s.is_finite()) {
        return None;
    }
    let scaled = Array2::from_shape_fn(a.dim(), |(i, j)| a[[i, j]] * scale[i] * scale[j]);
    let factor = Cholesky::new(scaled).ok()?;
    if factor.log_determinant() < -30.0 {
        return None; // effects that the records cannot tell apart
    }
    let inverse = factor.inverse();
    Some(Array2::from_shape_fn(a.dim(), |(i, j)| inverse[[i, j]] * scale[i] * scale[j]))
}
