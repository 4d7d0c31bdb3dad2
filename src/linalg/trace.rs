//! Traces and log-determinants of functions of a matrix that is known by its products only.
//!
//! Lanczos' recursion from a vector z gives a small tridiagonal matrix whose eigenvalues θ and eigenvectors are a
//! Gauss rule: z' f(A) z ≈ Σ w f(θ) for every smooth f (Golub & Meurant 2010). One run therefore serves every
//! shift and scale of A. From random signs z the mean of z' f(A) z is tr f(A) (Hutchinson 1990); with f = log it
//! is log |A| (stochastic Lanczos quadrature; Ubaru, Chen & Saad 2017). The recursion keeps two blocks of vectors
//! only: without reorthogonalisation the rule stays accurate, though eigenvalues come up repeatedly (Golub &
//! Strakoš 1994).
//!
//! What a straight line in θ explains of f is taken from the dimension and the trace, which are known exactly; only
//! the rest is left to chance ([`Spectrum::trace_of`]). For f that saturates, as those of REML do, this removes most
//! of the variance; a low-rank part as in Hutch++ (Meyer et al. 2021) would remove what saturation has removed.

use super::rows::columns_of;
use super::Rows;
use crate::error::Result;
use crate::linalg::factor::Eigen;
use crate::rng::{Purpose, Stream};
use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;
use std::ops::Range;

/// Random signs, this rank's rows (n_r, columns): the same for the same seed and number of the column, whatever the
/// other columns and the number of ranks. Each chunk of rows has a stream a column.
pub fn signs(rows: &Rows, columns: Range<usize>, seed: u64) -> Array2<f64> {
    rows.filled(columns, |chunk, column, mut values| {
        let mut stream = Stream::new(seed, Purpose::Probe, (chunk << 32) + column);
        for mut rows in values.axis_chunks_iter_mut(Axis(0), 64) {
            let bits = stream.next_u64();
            rows.iter_mut().enumerate().for_each(|(i, x)| *x = if bits >> i & 1 == 1 { 1.0 } else { -1.0 });
        }
    })
}

/// A number found with random probes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// The estimate.
    pub value: f64,
    /// Its Monte-Carlo standard error.
    pub mc_se: f64,
}

/// z' f(A) z ≈ Σ weights f(nodes).
#[derive(Debug, Clone, PartialEq)]
pub struct Quadrature {
    /// θ, estimates of eigenvalues.
    pub nodes: Vec<f64>,
    /// Positive, with sum z'z.
    pub weights: Vec<f64>,
}

impl Quadrature {
    /// The approximation of z' f(A) z.
    pub fn form(&self, f: impl Fn(f64) -> f64) -> f64 {
        self.nodes.iter().zip(&self.weights).map(|(&theta, w)| w * f(theta)).sum()
    }
}

/// Lanczos' recursion for many starting vectors at once, each with its own matrix (Golub & Van Loan 2013, 10.1).
pub struct Lanczos {
    rows: Rows,
    squares: Vec<f64>, // z'z of every column
    diagonals: Vec<Vec<f64>>,
    off_diagonals: Vec<Vec<f64>>, // one longer than needed while a column is active
    active: Vec<usize>,
    current: Array2<f64>,  // (n_r, active), columns of length 1
    previous: Array2<f64>, // (n_r, active)
}

impl Lanczos {
    /// Starts from the columns of a block, this rank's rows (n_r, k). Collective.
    pub fn begin(start: Array2<f64>, rows: &Rows) -> Lanczos {
        let squares = rows.dots(start.view(), start.view());
        let k = squares.len();
        let active: Vec<usize> = (0..k).filter(|&j| squares[j] > 0.0).collect();
        let mut current = if active.len() == k { start } else { columns_of(&start, &active) };
        Rows::for_each(&mut current, |_, row| {
            row.iter_mut().zip(&active).for_each(|(x, &j)| *x /= squares[j].sqrt());
        });
        let previous = Array2::zeros(current.dim());
        Lanczos {
            rows: rows.clone(),
            squares,
            diagonals: vec![Vec::new(); k],
            off_diagonals: vec![Vec::new(); k],
            active,
            current,
            previous,
        }
    }

    /// Columns that a further step would change.
    pub fn active(&self) -> &[usize] {
        &self.active
    }

    /// Takes columns out of the recursion; what is known of them stays.
    pub fn close(&mut self, done: impl Fn(usize) -> bool) {
        let keep: Vec<usize> = (0..self.active.len()).filter(|&a| !done(self.active[a])).collect();
        if keep.len() < self.active.len() {
            self.current = columns_of(&self.current, &keep);
            self.previous = columns_of(&self.previous, &keep);
            self.active = keep.iter().map(|&a| self.active[a]).collect();
        }
    }

    /// One step of all active columns; `product` multiplies each of the given columns of the starting block by its
    /// matrix. Collective.
    pub fn step(&mut self, product: impl FnOnce(&[usize], ArrayView2<f64>) -> Array2<f64>) {
        if self.active.is_empty() {
            return;
        }
        let mut next = product(&self.active, self.current.view());
        let alpha = self.rows.dots(self.current.view(), next.view());
        let last = |&j: &usize| self.off_diagonals[j].last().copied().unwrap_or(0.0);
        let beta: Vec<f64> = self.active.iter().map(last).collect();
        Rows::for_each(&mut next, |i, row| {
            let vectors = self.current.row(i).into_iter().zip(self.previous.row(i));
            for ((next, (now, before)), (alpha, beta)) in
                row.iter_mut().zip(vectors).zip(alpha.iter().zip(&beta))
            {
                *next -= alpha * now + beta * before;
            }
        });
        let lengths = self.rows.lengths(next.view());
        let mut broken_down = Vec::new();
        for (a, &j) in self.active.iter().enumerate() {
            self.diagonals[j].push(alpha[a]);
            let size =
                self.diagonals[j].iter().chain(&self.off_diagonals[j]).fold(0f64, |m, x| m.max(x.abs()));
            self.off_diagonals[j].push(lengths[a]);
            if lengths[a].is_nan() || lengths[a] <= 1e-13 * size {
                broken_down.push(j);
            }
        }
        Rows::for_each(&mut next, |_, row| row.iter_mut().zip(&lengths).for_each(|(x, length)| *x /= length));
        self.previous = std::mem::replace(&mut self.current, next);
        self.close(|j| broken_down.contains(&j));
    }

    /// The Gauss rule of a column after the steps taken so far.
    pub fn quadrature(&self, column: usize) -> Result<Quadrature> {
        rule(self.squares[column], &self.diagonals[column], &self.off_diagonals[column])
    }

    /// The same of some columns, by all threads.
    pub fn quadratures(&self, columns: Range<usize>) -> Result<Vec<Quadrature>> {
        let (squares, diagonals, off_diagonals) = (&self.squares, &self.diagonals, &self.off_diagonals);
        columns.into_par_iter().map(|c| rule(squares[c], &diagonals[c], &off_diagonals[c])).collect()
    }
}

/// The Gauss rule of a vector of squared length `square` from its tridiagonal matrix.
fn rule(square: f64, diagonal: &[f64], off_diagonal: &[f64]) -> Result<Quadrature> {
    let k = diagonal.len();
    if k == 0 {
        return Ok(Quadrature { nodes: vec![0.0], weights: vec![square] });
    }
    let mut t = Array2::zeros((k, k));
    for i in 0..k {
        t[[i, i]] = diagonal[i];
        if i + 1 < k {
            t[[i, i + 1]] = off_diagonal[i];
            t[[i + 1, i]] = off_diagonal[i];
        }
    }
    let Eigen { values, vectors } = Eigen::new(t)?;
    let weights = vectors.column(0).iter().map(|v| square * v * v).collect();
    Ok(Quadrature { nodes: values, weights })
}

/// What random probes tell of the eigenvalues of a matrix of known dimension and trace.
#[derive(Debug, Clone)]
pub struct Spectrum {
    probes: Vec<Quadrature>,
    dimension: f64,
    trace: f64,
    /// The weights of all probes times 1, d and d², d the distance from the exact mean eigenvalue.
    moments: [f64; 3],
}

impl Spectrum {
    /// From the rules of random signs (or their projections on the matrix' own subspace): `dimension` and `trace`
    /// are the exact mean of z'z and of z'Az.
    pub fn new(probes: Vec<Quadrature>, dimension: f64, trace: f64) -> Spectrum {
        let mean = trace / dimension;
        let sum = |k: i32| probes.iter().map(|p| p.form(|x| (x - mean).powi(k))).sum();
        let moments = [0, 1, 2].map(sum);
        Spectrum { probes, dimension, trace, moments }
    }

    /// tr f(A). The straight line that explains f best over the eigenvalues seen is replaced by its exact trace; of
    /// the rest B, its error is that of normal probes, √(2 |B|²_F / probes), a little more than that of signs. The
    /// eigenvalues seen give |B|_F with less noise than the scatter of few probes would.
    pub fn trace_of(&self, f: impl Fn(f64) -> f64) -> Measured {
        let mean = self.trace / self.dimension;
        let (mut f0, mut f1, mut squares) = (0.0, 0.0, 0.0);
        for probe in &self.probes {
            for (&theta, w) in probe.nodes.iter().zip(&probe.weights) {
                let f = f(theta);
                f0 += w * f;
                f1 += w * f * (theta - mean);
                squares += w * f * f;
            }
        }
        let [m0, m1, m2] = self.moments;
        let (level, shift) = (f0 / m0, m1 / m0);
        let variance = m2 / m0 - shift * shift;
        let slope = if variance > 0.0 { (f1 / m0 - level * shift) / variance } else { 0.0 };
        let rest = (squares / m0 - level * level - slope * slope * variance).max(0.0) * self.dimension;
        let mc_se = (2.0 * rest / self.probes.len() as f64).sqrt();
        // The line at the exact mean of the eigenvalues.
        Measured { value: (level - slope * shift) * self.dimension, mc_se }
    }

    /// The smallest and the largest eigenvalue seen that counts.
    pub fn range(&self) -> [f64; 2] {
        let seen = self.probes.iter().flat_map(|p| {
            let least = 1e-12 * p.weights.iter().sum::<f64>();
            p.nodes.iter().zip(&p.weights).filter(move |(_, &w)| w > least).map(|(&x, _)| x)
        });
        seen.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], x| [low.min(x), high.max(x)])
    }

    /// Eigenvalues with the number of times that each counts, (θ, share of the dimension), of all probes together.
    pub fn density(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        let scale = self.dimension / self.moments[0];
        self.probes
            .iter()
            .flat_map(move |p| p.nodes.iter().zip(&p.weights).map(move |(&x, w)| (x, w * scale)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats;

    /// Q diag(values) Q' with random orthonormal Q.
    fn matrix(values: &[f64]) -> Array2<f64> {
        let n = values.len();
        let mut s = Stream::new(5, Purpose::Test, 0);
        let b = Array2::from_shape_simple_fn((n, n), || s.normal());
        let q = Eigen::new(&b + &b.t()).unwrap().vectors;
        q.t().dot(&Array2::from_diag(&ndarray::Array1::from(values.to_vec()))).dot(&q)
    }

    fn spectrum(a: &Array2<f64>, probes: usize, steps: usize, seed: u64) -> Spectrum {
        let mut lanczos =
            Lanczos::begin(signs(&Rows::alone(a.nrows()), 0..probes, seed), &Rows::alone(a.nrows()));
        (0..steps).for_each(|_| lanczos.step(|_, block| a.dot(&block)));
        let rules = (0..probes).map(|j| lanczos.quadrature(j).unwrap()).collect();
        Spectrum::new(rules, a.nrows() as f64, a.diag().sum())
    }

    /// Many small eigenvalues and a few large ones, as relationship matrices have.
    fn values(n: usize) -> Vec<f64> {
        (0..n).map(|i| 0.2 + 30.0 / (1.0 + i as f64) + (i % 7) as f64 * 0.1).collect()
    }

    #[test]
    fn a_rule_is_exact_for_polynomials_and_converges_for_logarithms() {
        let a = matrix(&values(150));
        let z = signs(&Rows::alone(150), 3..4, 1);
        let mut lanczos = Lanczos::begin(z.clone(), &Rows::alone(150));
        (0..4).for_each(|_| lanczos.step(|_, block| a.dot(&block)));
        let rule = lanczos.quadrature(0).unwrap();
        let mut power = z.clone();
        for k in 0..8 {
            // degree 2 * 4 - 1
            let want = z.column(0).dot(&power.column(0));
            assert!((rule.form(|x| x.powi(k)) / want - 1.0).abs() < 1e-10, "degree {k}");
            power = a.dot(&power);
        }
        (0..40).for_each(|_| lanczos.step(|_, block| a.dot(&block)));
        let eigen = Eigen::new(a).unwrap();
        let along = eigen.vectors.dot(&z);
        let want: f64 = eigen.values.iter().zip(&along).map(|(v, x)| v.ln() * x * x).sum();
        assert!((lanczos.quadrature(0).unwrap().form(f64::ln) / want - 1.0).abs() < 1e-9);
    }

    #[test]
    fn traces_lie_within_their_error_and_the_error_is_the_spread_over_seeds() {
        let values = values(200);
        let a = matrix(&values);
        let functions: [fn(f64) -> f64; 3] = [f64::ln, |x| 1.0 / x, |x| x / (0.5 * x + 0.5)];
        let spectra: Vec<Spectrum> = (0..300).map(|seed| spectrum(&a, 16, 24, seed)).collect();
        for f in functions {
            let exact: f64 = values.iter().map(|&x| f(x)).sum();
            let scaled: Vec<f64> =
                spectra.iter().map(|s| s.trace_of(f)).map(|m| (m.value - exact) / m.mc_se).collect();
            assert!(scaled.iter().all(|z| z.abs() < 4.5), "{scaled:?}");
            // The standard error of a root mean square of 300 is 0.04.
            let spread = (scaled.iter().map(|z| z * z).sum::<f64>() / scaled.len() as f64).sqrt();
            assert!((0.88..1.12).contains(&spread), "{spread}");
        }
    }

    #[test]
    fn straight_lines_have_no_error_and_saturating_functions_little() {
        let values = values(200);
        let s = spectrum(&matrix(&values), 8, 40, 2);
        let m = s.trace_of(|x| 3.0 - 2.0 * x);
        let exact: f64 = values.iter().map(|x| 3.0 - 2.0 * x).sum();
        assert!((m.value / exact - 1.0).abs() < 1e-11 && m.mc_se < 1e-5 * exact.abs(), "{m:?}");
        let f = |x: f64| (0.02 * x + 0.98).ln();
        let plain: Vec<f64> = s.probes.iter().map(|p| p.form(f)).collect();
        let plain = (stats::variance(&plain) / 8.0).sqrt();
        assert!(s.trace_of(f).mc_se < 0.3 * plain, "{} beside {plain}", s.trace_of(f).mc_se);
        let counted: f64 = s.density().map(|(_, share)| share).sum();
        assert!((counted - 200.0).abs() < 1e-9);
    }

    #[test]
    fn columns_end_when_their_subspace_is_spent_and_probes_do_not_depend_on_each_other() {
        let a = matrix(&[1.0, 1.0, 1.0, 2.0, 2.0, 5.0]);
        let mut start = signs(&Rows::alone(6), 0..3, 9);
        start.column_mut(1).fill(0.0);
        let mut lanczos = Lanczos::begin(start.clone(), &Rows::alone(6));
        assert_eq!(lanczos.active(), [0, 2]);
        (0..10).for_each(|_| lanczos.step(|_, block| a.dot(&block)));
        assert!(lanczos.active().is_empty(), "three different eigenvalues");
        let inverse: f64 = lanczos.quadrature(0).unwrap().form(|x| 1.0 / x);
        let want = crate::linalg::factor::Cholesky::new(a).unwrap().solve(start.slice(ndarray::s![.., 0..1]));
        assert!((inverse - want.column(0).dot(&start.column(0))).abs() < 1e-10);
        assert_eq!(lanczos.quadrature(1).unwrap().form(|_| 1.0), 0.0);
        let of = |n: usize, columns| signs(&Rows::alone(n), columns, 7);
        assert_eq!(of(130, 2..5).column(1), of(130, 3..4).column(0));
        assert!(of(4000, 0..1).sum().abs() < 4.0 * 4000f64.sqrt());
    }
}
