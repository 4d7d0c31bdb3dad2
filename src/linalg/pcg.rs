//! Conjugate gradients for many right-hand sides at once, each with its own matrix.
//!
//! Columns share the expensive product: one call multiplies all of them. Otherwise each column is a conjugate
//! gradient of its own, with its own step lengths and its own end; a column that has converged is frozen and
//! leaves the product.

use ndarray::{Array2, ArrayView2, Axis, Zip};

/// Symmetric positive (semi-)definite systems, one for each column, that share a product.
pub trait Systems {
    /// For each of `columns` its matrix times the corresponding column of `block`, (n, k) to (n, k).
    fn apply(&self, columns: &[usize], block: ArrayView2<f64>) -> Array2<f64>;
    /// For each of `columns` its preconditioner, an approximate inverse, times the column of `block`.
    fn precondition(&self, columns: &[usize], block: ArrayView2<f64>) -> Array2<f64>;
}

/// When to stop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Params {
    /// Largest |b − A x| / |b| of a column.
    pub tolerance: f64,
    /// Largest number of block products.
    pub max_iterations: usize,
}

impl Default for Params {
    fn default() -> Self {
        Params { tolerance: 1e-11, max_iterations: 2000 }
    }
}

/// How it went.
#[derive(Debug, Clone, PartialEq)]
pub struct Info {
    /// Block products with the matrices.
    pub iterations: usize,
    /// |b − A x| / |b| of each column, computed afresh from the solution.
    pub residuals: Vec<f64>,
    /// Whether each column's residual is below the tolerance.
    pub converged: Vec<bool>,
}

/// Solves A_j x_j = b_j for every column j of `b`, (n, k).
///
/// The residuals at the end are computed from their definition; columns whose recursion had drifted above the
/// tolerance are taken up again from where they are.
pub fn solve(systems: &dyn Systems, b: ArrayView2<f64>, params: Params) -> (Array2<f64>, Info) {
    let k = b.ncols();
    let sizes = lengths(b);
    let mut x = Array2::zeros(b.dim());
    let mut residual = b.to_owned();
    let mut info = Info { iterations: 0, residuals: vec![0.0; k], converged: vec![true; k] };
    let mut open: Vec<usize> = (0..k).filter(|&j| sizes[j] > 0.0).collect();
    open.iter().for_each(|&j| info.residuals[j] = 1.0);
    while !open.is_empty() {
        let targets: Vec<f64> = open.iter().map(|&j| 0.5 * params.tolerance * sizes[j]).collect();
        let mut run = Run::begin(systems, &open, residual.select(Axis(1), &open));
        run.until(systems, &targets, params.max_iterations, &mut info.iterations);
        for (&j, step) in open.iter().zip(run.x.columns()) {
            x.column_mut(j).scaled_add(1.0, &step);
        }
        let before: Vec<f64> = open.iter().map(|&j| info.residuals[j]).collect();
        let again = b.select(Axis(1), &open) - systems.apply(&open, x.select(Axis(1), &open).view());
        for ((&j, r), length) in open.iter().zip(again.columns()).zip(lengths(again.view())) {
            residual.column_mut(j).assign(&r);
            info.residuals[j] = length / sizes[j];
            info.converged[j] = info.residuals[j] <= params.tolerance;
        }
        // A column that a whole run has not brought nearer is as good as rounding lets it be.
        let mut gained = before.iter().zip(&open).map(|(before, &j)| info.residuals[j] < 0.5 * before);
        open = open.iter().copied().filter(|&j| gained.next() == Some(true) && !info.converged[j]).collect();
        if info.iterations >= params.max_iterations {
            break;
        }
    }
    (x, info)
}

/// Euclidean length of each column.
fn lengths(block: ArrayView2<f64>) -> Vec<f64> {
    dots(block, block).into_iter().map(f64::sqrt).collect()
}

/// Inner product of each pair of columns, summed row by row in one fixed order.
pub(super) fn dots(a: ArrayView2<f64>, b: ArrayView2<f64>) -> Vec<f64> {
    let mut out = ndarray::Array1::zeros(a.ncols());
    for (a, b) in a.rows().into_iter().zip(b.rows()) {
        Zip::from(&mut out).and(a).and(b).for_each(|o, &a, &b| *o += a * b);
    }
    out.to_vec()
}

/// One run of the recursion on some of the columns.
struct Run {
    all: Vec<usize>,    // columns of the caller
    active: Vec<usize>, // positions in `all` still at work
    x: Array2<f64>,     // (n, all)
    r: Array2<f64>,     // (n, active)
    p: Array2<f64>,     // (n, active)
    energy: Vec<f64>,   // r' M r of the active columns
}

impl Run {
    fn begin(systems: &dyn Systems, columns: &[usize], residual: Array2<f64>) -> Run {
        let p = systems.precondition(columns, residual.view());
        let energy = dots(residual.view(), p.view());
        let active = (0..columns.len()).collect();
        Run { all: columns.to_vec(), active, x: Array2::zeros(residual.dim()), r: residual, p, energy }
    }

    fn until(&mut self, systems: &dyn Systems, targets: &[f64], most: usize, iterations: &mut usize) {
        loop {
            self.freeze(targets);
            if self.active.is_empty() || *iterations >= most {
                return;
            }
            self.step(systems);
            *iterations += 1;
        }
    }

    /// Columns that are done leave the block.
    fn freeze(&mut self, targets: &[f64]) {
        let sizes = lengths(self.r.view());
        let stays = |&a: &usize| {
            sizes[a] > targets[self.active[a]] && self.energy[a] > 0.0 && self.energy[a].is_finite()
        };
        let keep: Vec<usize> = (0..self.active.len()).filter(stays).collect();
        if keep.len() < self.active.len() {
            self.r = self.r.select(Axis(1), &keep);
            self.p = self.p.select(Axis(1), &keep);
            self.energy = keep.iter().map(|&a| self.energy[a]).collect();
            self.active = keep.iter().map(|&a| self.active[a]).collect();
        }
    }

    /// One product and one step of every active column (Hestenes & Stiefel 1952).
    fn step(&mut self, systems: &dyn Systems) {
        let columns: Vec<usize> = self.active.iter().map(|&a| self.all[a]).collect();
        let q = systems.apply(&columns, self.p.view());
        let curvature = dots(self.p.view(), q.view());
        for (a, &at) in self.active.iter().enumerate() {
            let alpha = self.energy[a] / curvature[a];
            self.x.column_mut(at).scaled_add(alpha, &self.p.column(a));
            self.r.column_mut(a).scaled_add(-alpha, &q.column(a));
        }
        let z = systems.precondition(&columns, self.r.view());
        let energy = dots(self.r.view(), z.view());
        for (a, mut p) in self.p.columns_mut().into_iter().enumerate() {
            let beta = energy[a] / self.energy[a];
            Zip::from(&mut p).and(z.column(a)).for_each(|p, &z| *p = z + beta * *p);
        }
        self.energy = energy;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::factor::Cholesky;
    use crate::rng::{Purpose, Stream};
    use std::cell::RefCell;

    /// A_j = B B'/n + shift_j I, with the block sizes of all products.
    struct Shifted {
        matrix: Array2<f64>,
        shifts: Vec<f64>,
        widths: RefCell<Vec<usize>>,
    }

    impl Systems for Shifted {
        fn apply(&self, columns: &[usize], block: ArrayView2<f64>) -> Array2<f64> {
            self.widths.borrow_mut().push(block.ncols());
            let mut out = self.matrix.dot(&block);
            for (k, &j) in columns.iter().enumerate() {
                out.column_mut(k).scaled_add(self.shifts[j], &block.column(k));
            }
            out
        }

        fn precondition(&self, columns: &[usize], block: ArrayView2<f64>) -> Array2<f64> {
            let mut out = block.to_owned();
            for (k, &j) in columns.iter().enumerate() {
                let diagonal = &self.matrix.diag() + self.shifts[j];
                Zip::from(out.column_mut(k)).and(&diagonal).for_each(|o, d| *o /= d);
            }
            out
        }
    }

    fn systems(n: usize, shifts: &[f64]) -> Shifted {
        let mut s = Stream::new(3, Purpose::Test, n as u64);
        let b = Array2::from_shape_simple_fn((n, n), || s.normal());
        let matrix = b.dot(&b.t()) / n as f64;
        Shifted { matrix, shifts: shifts.to_vec(), widths: RefCell::default() }
    }

    #[test]
    fn every_column_solves_its_own_system_and_leaves_when_done() {
        let shifts = [100.0, 0.1, 1.0, 5.0];
        let sys = systems(90, &shifts);
        let mut b = Array2::from_shape_fn((90, 4), |(i, j)| ((i * 7 + j * 3) % 11) as f64 - 5.0);
        b.column_mut(3).fill(0.0);
        let (x, info) = solve(&sys, b.view(), Params::default());
        assert!(info.converged.iter().all(|&c| c) && info.residuals.iter().all(|&r| r <= 1e-11));
        for (j, shift) in shifts.iter().enumerate() {
            let a = &sys.matrix + &(Array2::<f64>::eye(90) * *shift);
            let want = Cholesky::new(a).unwrap().solve(b.slice(ndarray::s![.., j..=j]));
            let worst = (&x.column(j) - &want.column(0)).iter().fold(0f64, |m, d| m.max(d.abs()));
            assert!(worst < 1e-9, "column {j}: {worst}");
        }
        let widths = sys.widths.borrow();
        assert!(widths[0] == 3 && widths.contains(&2) && widths.contains(&1), "{widths:?}");
    }

    #[test]
    fn too_few_iterations_are_told() {
        let sys = systems(60, &[1e-3]);
        let b = Array2::ones((60, 1));
        let (_, info) = solve(&sys, b.view(), Params { max_iterations: 3, ..Params::default() });
        assert_eq!((info.iterations, info.converged[0]), (3, false));
        assert!(info.residuals[0] > 1e-11);
    }
}
