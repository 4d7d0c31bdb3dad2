//! Tall blocks whose rows are shared out over ranks.
//!
//! A block has n rows and few columns. Each rank owns runs of whole chunks of [`CHUNK`] rows, which begin at fixed
//! positions whatever the number of ranks, so that every chunk's arithmetic is the same everywhere. Sums over rows are
//! one number a chunk, added in the order of the chunks ([`Rows::dots`]), or whole multiples of a quantum
//! ([`Rows::cross`]): all ranks receive the same bits, on any number of ranks, and what they decide from them is the
//! same by construction.

use super::Real;
use crate::comm::layout::share;
use crate::comm::World;
use crate::rng::Stream;
use crate::stats::{largest_of_columns, unit_scale, FixedPoint};
use ndarray::parallel::prelude::*;
use ndarray::{s, Array1, Array2, ArrayView2, ArrayViewMut1, ArrayViewMut2, Axis, CowArray, Ix2, Zip};
use std::ops::Range;

/// Rows of one chunk: one of 33 columns stays in a core's cache.
pub const CHUNK: usize = 256;

/// Which rank owns which rows of a block.
#[derive(Debug, Clone)]
pub struct Rows {
    world: World,
    n: usize,
}

impl Rows {
    /// `n` rows over the ranks of `world`.
    pub fn new(world: &World, n: usize) -> Rows {
        Rows { world: world.clone(), n }
    }

    /// `n` rows of one rank alone.
    pub fn alone(n: usize) -> Rows {
        Rows::new(&World::alone(), n)
    }

    /// Rows of all ranks, n.
    pub fn total(&self) -> usize {
        self.n
    }

    /// The ranks.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The rows of `rank`.
    pub fn of(&self, rank: usize) -> Range<usize> {
        let chunks = share(self.n.div_ceil(CHUNK), rank, self.world.size());
        (chunks.start * CHUNK).min(self.n)..(chunks.end * CHUNK).min(self.n)
    }

    /// This rank's rows.
    pub fn own(&self) -> Range<usize> {
        self.of(self.world.rank())
    }

    /// Number of this rank's rows, n_r.
    pub fn count(&self) -> usize {
        self.own().len()
    }

    /// Elements of each rank's rows of a block with `columns` columns.
    pub fn elements(&self, columns: usize) -> Vec<usize> {
        (0..self.world.size()).map(|rank| self.of(rank).len() * columns).collect()
    }

    /// This rank's rows, (n_r, k), of a block that it has whole, (n, k).
    pub fn part(&self, whole: ArrayView2<f64>) -> Array2<f64> {
        assert_eq!(whole.nrows(), self.n, "all rows");
        whole.slice(s![self.own(), ..]).as_standard_layout().into_owned()
    }

    /// The whole block, (n, k), on every rank from each rank's rows, (n_r, k). Collective.
    pub fn gather<'a>(&self, own: ArrayView2<'a, f64>) -> CowArray<'a, f64, Ix2> {
        if self.world.size() == 1 {
            return own.into();
        }
        let k = own.ncols();
        let own = own.as_standard_layout().into_owned().into_raw_vec_and_offset().0;
        let all = self.world.gather(own, &self.elements(k));
        Array2::from_shape_vec((self.n, k), all).expect("n rows of k").into()
    }

    /// As [`Rows::gather`], rounded to single precision relative to the largest number of each column: half the bytes
    /// between ranks. Collective; the same bits on any number of ranks.
    pub fn gather_quickly(&self, own: ArrayView2<f64>) -> Array2<f64> {
        let (own, k) = (own.as_standard_layout(), own.ncols());
        let mut largest = largest_of_columns(own.as_slice().expect("standard layout"), k);
        self.world.max(&mut largest);
        let scales: Array1<f64> = largest.into_iter().map(unit_scale).collect();
        let single = Zip::from(&own).and_broadcast(&scales).par_map_collect(|x, s| (x * s) as f32);
        let all = self.world.gather(single.into_raw_vec_and_offset().0, &self.elements(k));
        let all = Array2::from_shape_vec((self.n, k), all).expect("n rows of k");
        Zip::from(&all).and_broadcast(&scales).par_map_collect(|&x, s| f64::from(x) / s)
    }

    /// Each rank's rows, (n_r, k), of a block that the root has whole, (n, k). Collective.
    pub fn scatter(&self, whole: Option<Array2<f64>>) -> Array2<f64> {
        let mut k = [whole.as_ref().map_or(0, |w| w.ncols() as u64)];
        self.world.broadcast(0, &mut k);
        let k = usize::try_from(k[0]).expect("a number of columns");
        if !self.world.is_root() {
            let own = self.world.receive(0);
            return Array2::from_shape_vec((self.count(), k), own).expect("n_r rows of k");
        }
        let whole = whole.expect("the root has the block");
        for rank in 1..self.world.size() {
            let rows = whole.slice(s![self.of(rank), ..]);
            self.world.send(rank, rows.as_standard_layout().as_slice().expect("standard layout"));
        }
        self.part(whole.view())
    }

    /// The whole block, (n, k), on the root from each rank's rows; nothing elsewhere. Collective.
    pub fn gather_on_root(&self, own: ArrayView2<f64>) -> Option<Array2<f64>> {
        if !self.world.is_root() {
            self.world.send(0, own.as_standard_layout().as_slice().expect("standard layout"));
            return None;
        }
        let mut all: Vec<f64> = own.iter().copied().collect();
        (1..self.world.size()).for_each(|rank| all.extend(self.world.receive::<f64>(rank)));
        Some(Array2::from_shape_vec((self.n, own.ncols()), all).expect("n rows of k"))
    }

    /// Independent standard normal numbers, this rank's rows (n_r, columns): `stream` gives that of a chunk and a
    /// column, so that the numbers are the same on any number of ranks.
    pub fn random(&self, columns: Range<usize>, stream: impl Fn(u64, u64) -> Stream + Sync) -> Array2<f64> {
        self.filled(columns, |chunk, column, mut values| {
            let mut stream = stream(chunk, column);
            values.mapv_inplace(|_| stream.normal());
        })
    }

    /// A block of this rank's rows, (n_r, columns): `fill` gets the number of the chunk among all, that of the column,
    /// and the values of both.
    pub fn filled(
        &self,
        columns: Range<usize>,
        fill: impl Fn(u64, u64, ArrayViewMut1<f64>) + Sync,
    ) -> Array2<f64> {
        let first_chunk = self.own().start / CHUNK;
        let mut out = Array2::zeros((self.count(), columns.len()));
        Rows::by_chunks(&mut out, |first, mut chunk| {
            let number = (first_chunk + first / CHUNK) as u64;
            for (values, column) in chunk.columns_mut().into_iter().zip(columns.clone()) {
                fill(number, column as u64, values);
            }
        });
        out
    }

    /// Σ over all rows of the numbers that `add` makes of each row, (k): `add` gets this rank's number of the row.
    /// The sums of chunks are added in order. Collective; the same bits on all ranks, whatever their number.
    pub fn sums(&self, k: usize, add: impl Fn(usize, &mut [f64]) + Sync) -> Vec<f64> {
        let count = self.count();
        let chunk = |first: usize| {
            let mut sum = vec![0.0; k];
            (first..(first + CHUNK).min(count)).for_each(|i| add(i, &mut sum));
            sum
        };
        let starts: Vec<usize> = (0..count).step_by(CHUNK).collect();
        let own: Vec<Vec<f64>> = starts.into_par_iter().map(chunk).collect();
        self.fold(own.concat(), k)
    }

    /// Sums of all chunks of all ranks from those of this rank's chunks, (chunks, k), added in order. Collective.
    pub fn fold(&self, own: Vec<f64>, k: usize) -> Vec<f64> {
        let counts: Vec<usize> =
            (0..self.world.size()).map(|rank| self.of(rank).len().div_ceil(CHUNK) * k).collect();
        let all = self.world.gather(own, &counts);
        let mut sums = vec![0.0; k];
        for chunk in all.chunks_exact(k.max(1)) {
            sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += x);
        }
        sums
    }

    /// Inner product of each pair of columns of two blocks, (n_r, k) each. Collective; the same bits on all ranks.
    pub fn dots(&self, a: ArrayView2<f64>, b: ArrayView2<f64>) -> Vec<f64> {
        assert_eq!(a.dim(), b.dim(), "two blocks of one shape");
        self.sums(a.ncols(), |i, sums| {
            Zip::from(&mut ndarray::ArrayViewMut1::from(sums))
                .and(a.row(i))
                .and(b.row(i))
                .for_each(|sum, &a, &b| *sum += a * b);
        })
    }

    /// Euclidean length of each column, NaN where it is not finite. Collective.
    pub fn lengths<A: Real>(&self, block: ArrayView2<A>) -> Vec<f64> {
        square_roots(self.sums(block.ncols(), |i, sums| {
            sums.iter_mut().zip(block.row(i)).for_each(|(sum, &x)| *sum += x.into() * x.into());
        }))
    }

    /// A' diag(w) B, (r, k), of two blocks (n_r, r) and (n_r, k), without weights A'B; rows of weight 0 cost nothing. Each chunk's part is rounded
    /// once, to some 2⁻⁶⁰ of the product of the columns' lengths. Columns that are not finite give NaN. Collective; the
    /// same bits on all ranks of one kind of processor, whatever their number.
    pub fn cross(&self, a: ArrayView2<f64>, b: ArrayView2<f64>, weights: Option<&[f64]>) -> Array2<f64> {
        self.cross_of(a, &self.lengths(a), b, weights)
    }

    /// As [`Rows::cross`] where the lengths of A's columns are known.
    pub fn cross_of<A: Real, B: Real>(
        &self,
        a: ArrayView2<A>,
        lengths: &[f64],
        b: ArrayView2<B>,
        weights: Option<&[f64]>,
    ) -> Array2<f64> {
        let (r, k) = (a.ncols(), b.ncols());
        let product = |rows: Range<usize>| {
            let (a, b) = (a.slice(s![rows.clone(), ..]), b.slice(s![rows.clone(), ..]));
            let Some(w) = weights.map(|w| &w[rows]) else { return A::widen(a).t().dot(&B::widen(b)) };
            let some: Vec<usize> = (0..w.len()).filter(|&i| w[i] != 0.0).collect();
            let mut scaled = B::widen(b).select(Axis(0), &some);
            scaled.rows_mut().into_iter().zip(&some).for_each(|(mut row, &i)| row *= w[i]);
            A::widen(a).select(Axis(0), &some).t().dot(&scaled)
        };
        let others = match weights {
            None => self.lengths(b),
            Some(w) => self
                .sums(k, |i, sums| {
                    sums.iter_mut().zip(b.row(i)).for_each(|(s, &x)| *s += (w[i] * x.into()).powi(2))
                })
                .into_iter()
                .map(f64::sqrt)
                .collect(),
        };
        let bound = |p: usize| lengths[p / k] * others[p % k];
        let points: Vec<Option<FixedPoint>> = (0..r * k)
            .map(|p| Some(bound(p)).filter(|b| b.is_finite()).map(|b| FixedPoint::for_bound(b * 1.0001)))
            .collect();
        let part = |first: usize| {
            let rows = first..(first + CHUNK).min(a.nrows());
            let part = product(rows);
            let quanta = part.iter().zip(&points).map(|(&x, p)| p.map_or(0, |p| p.quantize(x)));
            quanta.collect::<Vec<i64>>()
        };
        let add = |mut sum: Vec<i64>, part: Vec<i64>| {
            sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
            sum
        };
        let starts: Vec<usize> = (0..a.nrows()).step_by(CHUNK).collect();
        let mut sums = starts.into_par_iter().map(part).reduce(|| vec![0i64; r * k], add);
        self.world.sum_i64(&mut sums);
        let real = sums.into_iter().zip(&points).map(|(sum, p)| p.map_or(f64::NAN, |p| p.real(sum)));
        Array2::from_shape_vec((r, k), real.collect()).expect("r rows of k")
    }

    /// Changes each row of a block, (n_r, k), by all threads: `change` gets the row's number on this rank.
    pub fn for_each(block: &mut Array2<f64>, change: impl Fn(usize, &mut [f64]) + Sync) {
        Self::by_chunks(block, |first, mut chunk| {
            for (i, mut row) in chunk.rows_mut().into_iter().enumerate() {
                change(first + i, row.as_slice_mut().expect("standard layout"));
            }
        });
    }

    /// The same chunk by chunk: `change` gets the number of the chunk's first row on this rank.
    pub fn by_chunks(block: &mut Array2<f64>, change: impl Fn(usize, ArrayViewMut2<f64>) + Sync) {
        let chunks = block.axis_chunks_iter_mut(Axis(0), CHUNK).into_par_iter();
        chunks.enumerate().for_each(|(number, chunk)| change(number * CHUNK, chunk));
    }
}

/// Square roots, NaN of what is not finite.
pub(super) fn square_roots(squares: Vec<f64>) -> Vec<f64> {
    let finite = |square: f64| if square.is_finite() { square.sqrt() } else { f64::NAN };
    squares.into_iter().map(finite).collect()
}

/// Some columns of a block, in standard layout.
pub(super) fn columns_of(block: &Array2<f64>, columns: &[usize]) -> Array2<f64> {
    let mut out = Array2::zeros((block.nrows(), columns.len()));
    Rows::for_each(&mut out, |i, row| {
        let from = block.row(i);
        row.iter_mut().zip(columns).for_each(|(x, &j)| *x = from[j]);
    });
    out
}

/// Puts some columns back into a block.
pub(super) fn put_columns(block: &mut Array2<f64>, columns: &[usize], from: &Array2<f64>) {
    Rows::for_each(block, |i, row| columns.iter().zip(from.row(i)).for_each(|(&j, &x)| row[j] = x));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    fn random(n: usize, k: usize, index: u64) -> Array2<f64> {
        let mut s = Stream::new(3, Purpose::Test, index);
        Array2::from_shape_simple_fn((n, k), || s.normal())
    }

    #[test]
    fn sums_over_rows_are_those_of_plain_loops() {
        for n in [1, 5, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 700] {
            let (rows, a, b) = (Rows::alone(n), random(n, 3, 0), random(n, 3, 1));
            let near = |x: f64, y: f64| (x - y).abs() < 1e-11 * n as f64;
            for (k, dot) in rows.dots(a.view(), b.view()).into_iter().enumerate() {
                assert!(near(dot, a.column(k).dot(&b.column(k))));
            }
            let cross = rows.cross(a.view(), b.view(), None);
            assert!((&cross - &a.t().dot(&b)).iter().all(|d| near(*d, 0.0)));
            let w: Vec<f64> = (0..n).map(|i| (i % 3) as f64).collect();
            let mut scaled = b.clone();
            scaled.rows_mut().into_iter().zip(&w).for_each(|(mut row, w)| row *= *w);
            let cross = rows.cross(a.view(), b.view(), Some(&w));
            assert!((&cross - &a.t().dot(&scaled)).iter().all(|d| near(*d, 0.0)));
        }
    }

    #[test]
    fn quick_blocks_are_rounded_by_column() {
        let mut a = random(2 * CHUNK + 9, 3, 0);
        a.column_mut(1).mapv_inplace(|x| x * 1e-60);
        a.column_mut(2).fill(0.0);
        let found = Rows::alone(a.nrows()).gather_quickly(a.view());
        for (x, rounded) in a.iter().zip(&found) {
            assert!((x - rounded).abs() <= 1e-7 * x.abs(), "{x} {rounded}");
        }
        assert!(a.column(0).iter().zip(found.column(0)).any(|(x, rounded)| x != rounded));
    }

    #[test]
    fn columns_that_are_not_finite_are_told() {
        let (rows, a) = (Rows::alone(2000), random(2000, 2, 0));
        for bad in [f64::NAN, f64::INFINITY, 1e200] {
            let mut b = random(2000, 3, 1);
            b[[1500, 1]] = bad;
            assert!(rows.lengths(b.view())[1].is_nan());
            let cross = rows.cross(a.view(), b.view(), None);
            assert!(cross.column(1).iter().all(|x| x.is_nan()) && cross[[0, 2]].is_finite());
        }
    }

    #[test]
    fn every_row_is_changed_once_by_its_number() {
        let mut block = Array2::zeros((2 * CHUNK + 5, 2));
        Rows::for_each(&mut block, |i, row| row.iter_mut().for_each(|x| *x += i as f64));
        assert!(block.indexed_iter().all(|((i, _), x)| *x == i as f64));
    }
}
