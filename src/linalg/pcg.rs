//! Conjugate gradients for many right-hand sides at once, each with its own matrix.
//!
//! Columns share the expensive product: one call multiplies all of them. Otherwise each column is a conjugate
//! gradient of its own, with its own step lengths and its own end; a column that has converged is frozen and
//! leaves the product.
//!
//! Products may be quick ones of single precision. They let the residual of the recursion drift away from the true
//! one, so the work is done in rounds: when every column has come down by a factor of `ROUND`, its residual is
//! computed afresh by an exact product, and the recursion goes on from it in the same directions (residual
//! replacement: van der Vorst & Ye 2000, SIAM J. Sci. Comput. 22:835). What is told at the end is the true residual.
//!
//! What decides on the way of all ranks, step lengths and residuals, is the root's on every rank: processors of
//! several kinds round differently, and their ranks must multiply the same columns.
//!
//! [`State`] is all that the next iteration needs: kept in a file and taken up again it gives the same bits.

use crate::comm::World;
use crate::error::Result;
use ndarray::{Array2, ArrayView2, Axis, Zip};

/// Symmetric positive (semi-)definite systems, one for each column, that share a product.
pub trait Systems {
    /// For each of `columns` its matrix times the corresponding column of `block`, (n, k) to (n, k).
    fn apply(&self, columns: &[usize], block: ArrayView2<f64>) -> Array2<f64>;
    /// The same to about six digits, where that is faster.
    fn apply_quickly(&self, columns: &[usize], block: ArrayView2<f64>) -> Array2<f64> {
        self.apply(columns, block)
    }
    /// The ranks that multiply together.
    fn world(&self) -> World {
        World::alone()
    }
    /// For each of `columns` its preconditioner, an approximate inverse, times the column of `block`.
    fn precondition(&self, columns: &[usize], block: ArrayView2<f64>) -> Array2<f64>;
}

/// The products within iterations. Residuals are computed by exact products either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Precision {
    /// Exact to f64.
    Double,
    /// The operator's quick product.
    Single,
}

/// How much a round of quick products brings a residual down. Their error is some 1e-6 of what a round begins with.
const ROUND: f64 = 3e-5;

/// When to stop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Params {
    /// Largest |b − A x| / |b| of a column.
    pub tolerance: f64,
    /// Largest number of block products in the recursion.
    pub max_iterations: usize,
    /// The products within iterations.
    pub precision: Precision,
}

impl Default for Params {
    fn default() -> Self {
        Params { tolerance: 1e-11, max_iterations: 2000, precision: Precision::Double }
    }
}

/// How it went.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Info {
    /// Block products with the matrices in the recursion.
    pub iterations: usize,
    /// Block products for true residuals.
    pub checks: usize,
    /// |b − A x| / |b| of each column: as the recursion has it on the way, computed afresh at the end.
    pub residuals: Vec<f64>,
    /// Whether each column's true residual is below the tolerance.
    pub converged: Vec<bool>,
}

/// Between two iterations.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct State {
    x: Array2<f64>,     // (n, k)
    r: Array2<f64>,     // (n, k)
    p: Array2<f64>,     // (n, k): the last direction
    energy: Vec<f64>,   // r' M r that the last direction was made of, 0 without one
    began: Vec<f64>,    // the true residual of the round's beginning, as a share of |b|
    open: Vec<usize>,   // columns without a final residual
    active: Vec<usize>, // columns of `open` still at work in this round
    precision: Precision,
    /// How it went so far.
    pub info: Info,
}

/// What looks on before every iteration, may keep the state and may stop the work by an error.
pub type Watch<'a> = dyn FnMut(&State) -> Result<()> + 'a;

/// Solves A_j x_j = b_j for every column j of `b`, (n, k).
pub fn solve(systems: &dyn Systems, b: ArrayView2<f64>, params: Params) -> (Array2<f64>, Info) {
    let begin = State::begin(b, params);
    solve_from(systems, b, params, begin, &mut |_| Ok(())).expect("nothing stops it")
}

/// Goes on from a state, watched, until all columns are solved or `params.max_iterations` are reached in all.
pub fn solve_from(
    systems: &dyn Systems,
    b: ArrayView2<f64>,
    params: Params,
    mut state: State,
    watch: &mut Watch,
) -> Result<(Array2<f64>, Info)> {
    let sizes = agreed(systems, lengths(b));
    while !state.open.is_empty() {
        if state.active.is_empty() {
            state.check(systems, b, &sizes, params.tolerance);
            continue;
        }
        watch(&state)?;
        if state.info.iterations >= params.max_iterations {
            state.check(systems, b, &sizes, params.tolerance);
            break;
        }
        state.step(systems, &sizes, params.tolerance);
    }
    Ok((state.x, state.info))
}

/// Euclidean length of each column, NaN where it is not finite.
fn lengths(block: ArrayView2<f64>) -> Vec<f64> {
    let finite = |square: f64| if square.is_finite() { square.sqrt() } else { f64::NAN };
    dots(block, block).into_iter().map(finite).collect()
}

/// The largest of some numbers, at least 0; NaN if one is NaN.
pub fn largest(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(0.0, |most, x| if x.is_nan() || x > most { x } else { most })
}

/// The root's numbers.
fn agreed(systems: &dyn Systems, mut own: Vec<f64>) -> Vec<f64> {
    systems.world().broadcast(0, &mut own);
    own
}

/// Inner product of each pair of columns, summed row by row in one fixed order.
pub(super) fn dots(a: ArrayView2<f64>, b: ArrayView2<f64>) -> Vec<f64> {
    let mut out = ndarray::Array1::zeros(a.ncols());
    for (a, b) in a.rows().into_iter().zip(b.rows()) {
        Zip::from(&mut out).and(a).and(b).for_each(|o, &a, &b| *o += a * b);
    }
    out.to_vec()
}

impl State {
    /// Before the first iteration: x = 0.
    pub fn begin(b: ArrayView2<f64>, params: Params) -> State {
        let k = b.ncols();
        let zero = |length: f64| length == 0.0;
        let residuals: Vec<f64> = lengths(b).into_iter().map(|l| if zero(l) { 0.0 } else { 1.0 }).collect();
        let open: Vec<usize> = (0..k).filter(|&j| residuals[j] > 0.0).collect();
        State {
            x: Array2::zeros(b.dim()),
            r: b.as_standard_layout().into_owned(),
            p: Array2::zeros(b.dim()),
            energy: vec![0.0; k],
            began: residuals.clone(),
            active: open.clone(),
            open,
            precision: params.precision,
            info: Info {
                iterations: 0,
                checks: 0,
                converged: residuals.iter().map(|&r| zero(r)).collect(),
                residuals,
            },
        }
    }

    /// The number of columns still at work; the others wait for their true residuals.
    pub fn at_work(&self) -> usize {
        self.active.len()
    }

    /// The shape of the solution, (n, k).
    pub fn dim(&self) -> (usize, usize) {
        self.x.dim()
    }

    /// Whether a state that was read fits a solution of this shape, and fits together.
    pub fn is_whole(&self, shape: (usize, usize)) -> bool {
        let k = shape.1;
        let blocks = [&self.x, &self.r, &self.p].iter().all(|block| block.dim() == shape);
        let lengths =
            [self.energy.len(), self.began.len(), self.info.residuals.len(), self.info.converged.len()];
        let ascending = |columns: &[usize]| columns.windows(2).all(|two| two[0] < two[1]);
        let open = ascending(&self.open) && self.open.last().is_none_or(|&j| j < k);
        let active = ascending(&self.active) && self.active.iter().all(|j| self.open.contains(j));
        blocks && lengths.iter().all(|&length| length == k) && open && active
    }

    /// The largest residual of a column still at work, as the recursion has it.
    pub fn worst(&self) -> f64 {
        largest(self.open.iter().map(|&j| self.info.residuals[j]))
    }

    /// One product and one step of every active column (Hestenes & Stiefel 1952).
    fn step(&mut self, systems: &dyn Systems, sizes: &[f64], tolerance: f64) {
        let columns = std::mem::take(&mut self.active);
        let mut r = self.r.select(Axis(1), &columns);
        let mut p = systems.precondition(&columns, r.view());
        let energy = agreed(systems, dots(r.view(), p.view()));
        for ((&j, energy), mut p) in columns.iter().zip(&energy).zip(p.columns_mut()) {
            if self.energy[j] > 0.0 {
                p.scaled_add(energy / self.energy[j], &self.p.column(j));
            }
        }
        let q = match self.precision {
            Precision::Double => systems.apply(&columns, p.view()),
            Precision::Single => systems.apply_quickly(&columns, p.view()),
        };
        let curvature = agreed(systems, dots(p.view(), q.view()));
        for (a, &j) in columns.iter().enumerate() {
            let alpha = energy[a] / curvature[a];
            // Neither happens but by rounding, near the end: the column waits for its true residual.
            if !(alpha.is_finite() && alpha > 0.0) {
                self.energy[j] = 0.0;
                continue;
            }
            self.energy[j] = energy[a];
            self.x.column_mut(j).scaled_add(alpha, &p.column(a));
            r.column_mut(a).scaled_add(-alpha, &q.column(a));
            self.active.push(j);
        }
        self.info.iterations += 1;
        for ((&j, length), (p, r)) in columns
            .iter()
            .zip(agreed(systems, lengths(r.view())))
            .zip(p.columns().into_iter().zip(r.columns()))
        {
            self.info.residuals[j] = length / sizes[j];
            self.p.column_mut(j).assign(&p);
            self.r.column_mut(j).assign(&r);
        }
        let mut active = std::mem::take(&mut self.active);
        active.retain(|&j| self.info.residuals[j] > self.target(j, tolerance));
        self.active = active;
    }

    /// Where a column's round ends.
    fn target(&self, j: usize, tolerance: f64) -> f64 {
        match self.precision {
            Precision::Double => 0.5 * tolerance,
            Precision::Single => (0.5 * tolerance).max(ROUND * self.began[j]),
        }
    }

    /// The end of a round: true residuals of all open columns, of which those that need it begin another round.
    fn check(&mut self, systems: &dyn Systems, b: ArrayView2<f64>, sizes: &[f64], tolerance: f64) {
        let columns = std::mem::take(&mut self.open);
        let x = self.x.select(Axis(1), &columns);
        let again = b.select(Axis(1), &columns) - systems.apply(&columns, x.view());
        self.info.checks += 1;
        let mut lost = false;
        let lengths = agreed(systems, lengths(again.view()));
        for ((&j, r), length) in columns.iter().zip(again.columns()).zip(lengths) {
            let residual = length / sizes[j];
            log::debug!("column {j}: residual {:.2e}, truly {residual:.2e}", self.info.residuals[j]);
            self.r.column_mut(j).assign(&r);
            self.info.residuals[j] = residual;
            self.info.converged[j] = residual <= tolerance;
            let gained = residual < 0.5 * self.began[j];
            lost |= !gained;
            // A column that a whole round of exact products has not brought nearer is as good as rounding lets it be.
            if !self.info.converged[j] && (gained || self.precision == Precision::Single) {
                self.open.push(j);
            }
            if !gained {
                self.energy[j] = 0.0;
            }
            self.began[j] = residual;
        }
        if lost {
            self.precision = Precision::Double;
        }
        self.active = self.open.clone();
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

        fn apply_quickly(&self, columns: &[usize], block: ArrayView2<f64>) -> Array2<f64> {
            self.apply(columns, block.mapv(|x| f64::from(x as f32)).view()).mapv(|x| f64::from(x as f32))
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

    fn right_hand_sides(k: usize) -> Array2<f64> {
        Array2::from_shape_fn((90, k), |(i, j)| ((i * 7 + j * 3) % 11) as f64 - 5.0)
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

    #[test]
    fn numbers_that_are_not_finite_never_pass_as_solved() {
        let sys = systems(60, &[1.0, 1.0]);
        for bad in [f64::NAN, f64::INFINITY, 1e200] {
            let mut b = Array2::ones((60, 2));
            b[[7, 1]] = bad;
            for precision in [Precision::Double, Precision::Single] {
                let (_, info) = solve(&sys, b.view(), Params { precision, ..Params::default() });
                assert_eq!(info.converged, [true, false], "{bad}");
                assert!(largest(info.residuals).is_nan());
            }
        }
    }

    #[test]
    fn a_state_that_does_not_fit_together_is_not_whole() {
        let state = State::begin(right_hand_sides(3).view(), Params::default());
        assert!(state.is_whole((90, 3)) && !state.is_whole((90, 2)) && !state.is_whole((3, 90)));
        let damaged: [fn(&mut State); 6] = [
            |s| s.open = vec![0, 3],
            |s| s.open = vec![1, 0],
            |s| s.active = vec![0, 0],
            |s| s.began.truncate(2),
            |s| s.info.converged.clear(),
            |s| s.p = Array2::zeros((90, 2)),
        ];
        for damage in damaged {
            let mut other = state.clone();
            damage(&mut other);
            assert!(!other.is_whole((90, 3)));
        }
    }

    #[test]
    fn quick_products_lead_to_the_same_solution_by_way_of_true_residuals() {
        let shifts = [100.0, 0.1, 1e-3];
        let (sys, b) = (systems(90, &shifts), right_hand_sides(3));
        let quick = Params { precision: Precision::Single, ..Params::default() };
        let (x, info) = solve(&sys, b.view(), quick);
        assert!(info.converged.iter().all(|&c| c) && info.residuals.iter().all(|&r| r <= 1e-11), "{info:?}");
        assert!(info.checks > 1, "single precision alone does not reach 1e-11");
        let (exact, _) = solve(&sys, b.view(), Params::default());
        for (j, shift) in shifts.iter().enumerate() {
            let worst = (&x.column(j) - &exact.column(j)).iter().fold(0f64, |m, d| m.max(d.abs()));
            assert!(worst < 1e-8 / shift.min(1.0), "column {j}: {worst}");
        }
    }

    #[test]
    fn a_state_taken_up_again_gives_the_same_bits() {
        let sys = systems(90, &[100.0, 0.1, 1e-3]);
        let b = right_hand_sides(3);
        for precision in [Precision::Double, Precision::Single] {
            let params = Params { precision, ..Params::default() };
            let mut kept = Vec::new();
            let mut keep = |state: &State| {
                kept.push(postcard::to_stdvec(state).unwrap());
                Ok(())
            };
            let begin = State::begin(b.view(), params);
            let whole = solve_from(&sys, b.view(), params, begin, &mut keep).unwrap();
            assert!(kept.len() > 20);
            for bytes in [&kept[0], &kept[7], &kept[kept.len() - 1]] {
                let state: State = postcard::from_bytes(bytes).unwrap();
                let again = solve_from(&sys, b.view(), params, state, &mut |_| Ok(())).unwrap();
                assert_eq!(again, whole);
            }
        }
    }

    #[test]
    fn a_watch_stops_the_work() {
        let sys = systems(60, &[1e-3]);
        let (b, params) = (Array2::ones((60, 1)), Params::default());
        let mut left = 4;
        let mut stop = |state: &State| {
            assert!(state.at_work() == 1 && state.worst() > 1e-11);
            left -= 1;
            if left > 0 {
                Ok(())
            } else {
                Err(crate::error::Error::failed("a", "b", "c"))
            }
        };
        assert!(solve_from(&sys, b.view(), params, State::begin(b.view(), params), &mut stop).is_err());
        assert_eq!(left, 0);
    }
}
