//! Conjugate gradients for many right-hand sides at once, each with its own matrix.
//!
//! Columns share the expensive product: one call multiplies all of them. Otherwise each column is a conjugate
//! gradient of its own, with its own step lengths and its own end; a column that has converged is frozen and
//! leaves the product. Blocks are shared out over ranks by rows ([`Rows`]).
//!
//! Products may be quick ones of single precision. They let the residual of the recursion drift away from the true
//! one, so the work is done in rounds: when every column has come down by a factor of `ROUND`, its residual is
//! computed afresh by an exact product, and the recursion goes on from it in the same directions (residual
//! replacement: van der Vorst & Ye 2000, SIAM J. Sci. Comput. 22:835). What is told at the end is the true residual.
//!
//! Step lengths and residuals are sums over rows that have the same bits on all ranks, so that all ranks decide alike.
//!
//! [`State`] is all that the next iteration needs: kept in a file and taken up again, on any number of ranks, it gives
//! the same bits.

use super::rows::{columns_of, put_columns, square_roots, Rows, CHUNK};
use crate::error::Result;
use ndarray::parallel::prelude::*;
use ndarray::{Array2, ArrayView2, Axis, CowArray};

/// Symmetric positive (semi-)definite systems, one for each column, that share a product. Blocks are this rank's rows,
/// (n_r, k) in standard layout; all calls are collective.
pub trait Systems {
    /// Which rank owns which rows.
    fn rows(&self) -> &Rows;
    /// For each of `columns` its matrix times the corresponding column of `block`.
    fn apply(&self, columns: &[usize], block: ArrayView2<f64>) -> Array2<f64>;
    /// The same to about six digits, where that is faster.
    fn apply_quickly(&self, columns: &[usize], block: ArrayView2<f64>) -> Array2<f64> {
        self.apply(columns, block)
    }
    /// For each of `columns` its preconditioner, an approximate inverse, times the column of `block`.
    fn precondition(&self, columns: &[usize], block: ArrayView2<f64>) -> Array2<f64>;
    /// Inner products of whole unknowns from those of the columns: one system over all columns gives each column the
    /// sum of all.
    fn combine(&self, sums: Vec<f64>) -> Vec<f64> {
        sums
    }
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
    x: Array2<f64>, // (n_r, k)
    r: Array2<f64>, // (n_r, k)
    p: Array2<f64>, // (n_r, k): the last direction
    progress: Progress,
    /// How it went so far.
    pub info: Info,
}

/// What all ranks know of the columns.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct Progress {
    energy: Vec<f64>,   // r' M r that the last direction was made of, 0 without one
    began: Vec<f64>,    // the true residual of the round's beginning, as a share of |b|
    open: Vec<usize>,   // columns without a final residual
    active: Vec<usize>, // columns of `open` still at work in this round
    precision: Precision,
}

/// Called before every iteration; may keep the state and may stop the work by an error.
pub type Watch<'a> = dyn FnMut(&State) -> Result<()> + 'a;

/// Solves A_j x_j = b_j for every column j of `b`, (n_r, k).
pub fn solve(systems: &dyn Systems, b: ArrayView2<f64>, params: Params) -> (Array2<f64>, Info) {
    let begin = State::begin(systems, b, params);
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
    let sizes = lengths(systems, b);
    while !state.progress.open.is_empty() {
        if state.progress.active.is_empty() {
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

/// Euclidean length of each column's unknowns, NaN where it is not finite.
fn lengths(systems: &dyn Systems, block: ArrayView2<f64>) -> Vec<f64> {
    square_roots(systems.combine(systems.rows().dots(block, block)))
}

/// The largest of some numbers, at least 0; NaN if one is NaN.
pub fn largest(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(0.0, |most, x| if x.is_nan() || x > most { x } else { most })
}

impl State {
    /// Before the first iteration: x = 0. Collective.
    pub fn begin(systems: &dyn Systems, b: ArrayView2<f64>, params: Params) -> State {
        let k = b.ncols();
        let zero = |length: f64| length == 0.0;
        let residuals: Vec<f64> =
            lengths(systems, b).into_iter().map(|l| if zero(l) { 0.0 } else { 1.0 }).collect();
        let open: Vec<usize> = (0..k).filter(|&j| residuals[j] > 0.0).collect();
        State {
            x: Array2::zeros(b.dim()),
            r: b.as_standard_layout().into_owned(),
            p: Array2::zeros(b.dim()),
            progress: Progress {
                energy: vec![0.0; k],
                began: residuals.clone(),
                active: open.clone(),
                open,
                precision: params.precision,
            },
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
        self.progress.active.len()
    }

    /// Number of columns, k.
    pub fn columns(&self) -> usize {
        self.x.ncols()
    }

    /// The same with all rows on the root, nothing elsewhere. Collective.
    pub fn on_root(&self, rows: &Rows) -> Option<State> {
        let [x, r, p] = [&self.x, &self.r, &self.p].map(|block| rows.gather_on_root(block.view()));
        let (progress, info) = (self.progress.clone(), self.info.clone());
        Some(State { x: x?, r: r?, p: p?, progress, info })
    }

    /// Each rank's rows of a state that the root has whole. Collective.
    pub fn shared_out(whole: Option<State>, rows: &Rows) -> State {
        let (blocks, known) = match whole {
            Some(State { x, r, p, progress, info }) => ([x, r, p].map(Some), Some((progress, info))),
            None => ([const { None }; 3], None),
        };
        let [x, r, p] = blocks.map(|block| rows.scatter(block));
        let (progress, info) = rows.world().broadcast_value(0, known);
        State { x, r, p, progress, info }
    }

    /// Whether a whole state that was read fits a solution of this shape, and fits together.
    pub fn is_whole(&self, shape: (usize, usize)) -> bool {
        let k = shape.1;
        let Progress { energy, began, open, active, .. } = &self.progress;
        let blocks = [&self.x, &self.r, &self.p].iter().all(|block| block.dim() == shape);
        let lengths = [energy.len(), began.len(), self.info.residuals.len(), self.info.converged.len()];
        let ascending = |columns: &[usize]| columns.windows(2).all(|two| two[0] < two[1]);
        let whole_open = ascending(open) && open.last().is_none_or(|&j| j < k);
        let whole_active = ascending(active) && active.iter().all(|j| open.contains(j));
        blocks && lengths.iter().all(|&length| length == k) && whole_open && whole_active
    }

    /// The largest residual of a column still at work, as the recursion has it.
    pub fn worst(&self) -> f64 {
        largest(self.progress.open.iter().map(|&j| self.info.residuals[j]))
    }

    /// One product and one step of every active column (Hestenes & Stiefel 1952).
    fn step(&mut self, systems: &dyn Systems, sizes: &[f64], tolerance: f64) {
        let columns = std::mem::take(&mut self.progress.active);
        let all = columns.len() == self.x.ncols();
        let mut p = if all { std::mem::take(&mut self.p) } else { columns_of(&self.p, &columns) };
        let r = if all { self.r.view().into() } else { CowArray::from(columns_of(&self.r, &columns)) };
        let z = systems.precondition(&columns, r.view());
        let energy = systems.combine(systems.rows().dots(r.view(), z.view()));
        let last = |j: usize| self.progress.energy[j];
        let beta: Vec<f64> = columns
            .iter()
            .zip(&energy)
            .map(|(&j, energy)| if last(j) > 0.0 { energy / last(j) } else { 0.0 })
            .collect();
        onwards(&mut p, &z, &beta);
        drop((r, z));
        let q = match self.progress.precision {
            Precision::Double => systems.apply(&columns, p.view()),
            Precision::Single => systems.apply_quickly(&columns, p.view()),
        };
        let curvature = systems.combine(systems.rows().dots(p.view(), q.view()));
        // Neither happens but by rounding, near the end: the column waits for its true residual.
        let usable = |alpha: f64| if alpha.is_finite() && alpha > 0.0 { alpha } else { 0.0 };
        let alpha: Vec<f64> = energy.iter().zip(&curvature).map(|(e, c)| usable(e / c)).collect();
        let squares = descend((&mut self.x, &mut self.r), &columns, (&p, &q), &alpha);
        let lengths = square_roots(systems.combine(systems.rows().fold(squares, columns.len())));
        match all {
            true => self.p = p,
            false => put_columns(&mut self.p, &columns, &p),
        }
        self.info.iterations += 1;
        for (a, &j) in columns.iter().enumerate() {
            self.progress.energy[j] = if alpha[a] > 0.0 { energy[a] } else { 0.0 };
            self.info.residuals[j] = lengths[a] / sizes[j];
            if alpha[a] > 0.0 && self.info.residuals[j] > self.target(j, tolerance) {
                self.progress.active.push(j);
            }
        }
    }

    /// Where a column's round ends.
    fn target(&self, j: usize, tolerance: f64) -> f64 {
        match self.progress.precision {
            Precision::Double => 0.5 * tolerance,
            Precision::Single => (0.5 * tolerance).max(ROUND * self.progress.began[j]),
        }
    }

    /// The end of a round: true residuals of all open columns, of which those that need it begin another round.
    fn check(&mut self, systems: &dyn Systems, b: ArrayView2<f64>, sizes: &[f64], tolerance: f64) {
        let columns = std::mem::take(&mut self.progress.open);
        let x = columns_of(&self.x, &columns);
        let mut again = systems.apply(&columns, x.view());
        Rows::for_each(&mut again, |i, row| {
            row.iter_mut().zip(&columns).for_each(|(ax, &j)| *ax = b[[i, j]] - *ax);
        });
        self.info.checks += 1;
        let mut lost = false;
        put_columns(&mut self.r, &columns, &again);
        for (&j, length) in columns.iter().zip(lengths(systems, again.view())) {
            let residual = length / sizes[j];
            log::debug!("column {j}: residual {:.2e}, truly {residual:.2e}", self.info.residuals[j]);
            self.info.residuals[j] = residual;
            self.info.converged[j] = residual <= tolerance;
            let gained = residual < 0.5 * self.progress.began[j];
            lost |= !gained;
            // A column that a whole round of exact products has not brought nearer is stagnated at rounding level.
            if !self.info.converged[j] && (gained || self.progress.precision == Precision::Single) {
                self.progress.open.push(j);
            }
            if !gained {
                self.progress.energy[j] = 0.0;
            }
            self.progress.began[j] = residual;
        }
        if lost {
            self.progress.precision = Precision::Double;
        }
        self.progress.active = self.progress.open.clone();
    }
}

/// p = z + β p, one β a column.
fn onwards(p: &mut Array2<f64>, z: &Array2<f64>, beta: &[f64]) {
    Rows::for_each(p, |i, row| {
        let z = z.row(i);
        row.iter_mut().zip(z).zip(beta).for_each(|((p, z), beta)| *p = z + beta * *p);
    });
}

/// x += α p and r −= α q of some columns of x and r, one α each, those with α = 0 as they are; gives |r|² of each chunk,
/// (chunks, k).
fn descend(
    (x, r): (&mut Array2<f64>, &mut Array2<f64>),
    columns: &[usize],
    (p, q): (&Array2<f64>, &Array2<f64>),
    alpha: &[f64],
) -> Vec<f64> {
    let (x, r) = (x.axis_chunks_iter_mut(Axis(0), CHUNK), r.axis_chunks_iter_mut(Axis(0), CHUNK));
    let (p, q) = (p.axis_chunks_iter(Axis(0), CHUNK), q.axis_chunks_iter(Axis(0), CHUNK));
    let chunks = x.into_par_iter().zip(r.into_par_iter()).zip(p.into_par_iter().zip(q.into_par_iter()));
    let squares = chunks.map(|((mut x, mut r), (p, q))| {
        let (all, mut squares) = (columns.len() == x.ncols(), vec![0.0; alpha.len()]);
        for i in 0..x.nrows() {
            let (mut x, mut r, p, q) = (x.row_mut(i), r.row_mut(i), p.row(i), q.row(i));
            let steps = p.iter().zip(q).zip(alpha.iter().zip(&mut squares));
            let step =
                |x: &mut f64, r: &mut f64, ((p, q), (alpha, square)): ((&f64, &f64), (&f64, &mut f64))| {
                    if *alpha != 0.0 {
                        *x += alpha * p;
                        *r -= alpha * q;
                    }
                    *square += *r * *r;
                };
            match all {
                true => x.iter_mut().zip(&mut r).zip(steps).for_each(|((x, r), s)| step(x, r, s)),
                false => columns.iter().zip(steps).for_each(|(&j, s)| step(&mut x[j], &mut r[j], s)),
            }
        }
        squares
    });
    squares.collect::<Vec<Vec<f64>>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::factor::Cholesky;
    use crate::rng::{Purpose, Stream};
    use ndarray::Zip;
    use std::cell::RefCell;

    /// A_j = B B'/n + shift_j I, with the block sizes of all products.
    struct Shifted {
        matrix: Array2<f64>,
        shifts: Vec<f64>,
        widths: RefCell<Vec<usize>>,
        rows: Rows,
    }

    impl Systems for Shifted {
        fn rows(&self) -> &Rows {
            &self.rows
        }

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
        Shifted { matrix, shifts: shifts.to_vec(), widths: RefCell::default(), rows: Rows::alone(n) }
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
        let state = State::begin(&systems(90, &[1.0; 3]), right_hand_sides(3).view(), Params::default());
        assert!(state.is_whole((90, 3)) && !state.is_whole((90, 2)) && !state.is_whole((3, 90)));
        let damaged: [fn(&mut State); 6] = [
            |s| s.progress.open = vec![0, 3],
            |s| s.progress.open = vec![1, 0],
            |s| s.progress.active = vec![0, 0],
            |s| s.progress.began.truncate(2),
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
            let begin = State::begin(&sys, b.view(), params);
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
        assert!(solve_from(&sys, b.view(), params, State::begin(&sys, b.view(), params), &mut stop).is_err());
        assert_eq!(left, 0);
    }
}
