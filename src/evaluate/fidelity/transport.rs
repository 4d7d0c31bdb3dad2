//! Wasserstein distance of clouds of points: exact by assignment, or the mean over random directions.

use crate::rng::{Purpose, Stream};
use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

/// Points of each cloud up to which the assignment is solved.
pub const EXACT: usize = 500;
/// Directions of the sliced distance.
const DIRECTIONS: usize = 200;

/// The distance of first order between clouds of as many points, (n, k) each.
pub fn wasserstein(a: ArrayView2<f64>, b: ArrayView2<f64>, exact: bool, seed: u64) -> f64 {
    assert_eq!(a.dim(), b.dim(), "clouds of as many points");
    match exact {
        true => assigned(a, b),
        false => sliced(a, b, seed),
    }
}

/// Mean Euclidean distance of the cheapest pairing.
fn assigned(a: ArrayView2<f64>, b: ArrayView2<f64>) -> f64 {
    let n = a.nrows();
    let cost = Array2::from_shape_fn((n, n), |(i, j)| {
        a.row(i).iter().zip(b.row(j)).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt()
    });
    assignment(&cost).iter().enumerate().map(|(j, &i)| cost[[i, j]]).sum::<f64>() / n as f64
}

/// The row given to each column at the least total cost: shortest augmenting paths (Jonker & Volgenant 1987,
/// Computing 38:325).
fn assignment(cost: &Array2<f64>) -> Vec<usize> {
    let n = cost.nrows();
    let free = n;
    let (mut of_row, mut of_column) = (vec![0.0; n], vec![0.0; n + 1]);
    let mut row_of = vec![usize::MAX; n + 1];
    for i in 0..n {
        row_of[free] = i;
        let mut column = free;
        let (mut least, mut way) = (vec![f64::INFINITY; n], vec![free; n]);
        let mut used = vec![false; n + 1];
        while row_of[column] != usize::MAX {
            used[column] = true;
            let row = row_of[column];
            let (mut step, mut next) = (f64::INFINITY, 0);
            for j in (0..n).filter(|&j| !used[j]) {
                let reduced = cost[[row, j]] - of_row[row] - of_column[j];
                if reduced < least[j] {
                    (least[j], way[j]) = (reduced, column);
                }
                if least[j] < step {
                    (step, next) = (least[j], j);
                }
            }
            for j in 0..=n {
                if used[j] {
                    of_row[row_of[j]] += step;
                    of_column[j] -= step;
                } else if j < n {
                    least[j] -= step;
                }
            }
            column = next;
        }
        while column != free {
            let before = way[column];
            row_of[column] = row_of[before];
            column = before;
        }
        row_of[free] = usize::MAX;
    }
    row_of.truncate(n);
    row_of
}

/// Mean over random directions of the distance between the projected clouds.
fn sliced(a: ArrayView2<f64>, b: ArrayView2<f64>, seed: u64) -> f64 {
    let one = |d: usize| {
        let mut stream = Stream::new(seed, Purpose::Projection, d as u64);
        let direction: Vec<f64> = (0..a.ncols()).map(|_| stream.normal()).collect();
        let length = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
        let [x, y] = [a, b].map(|cloud| {
            let project = |row: ndarray::ArrayView1<f64>| {
                row.iter().zip(&direction).map(|(x, d)| x * d).sum::<f64>() / length
            };
            let mut all: Vec<f64> = cloud.rows().into_iter().map(project).collect();
            all.sort_by(f64::total_cmp);
            all
        });
        sorted(&x, &y)
    };
    let all: Vec<f64> = (0..DIRECTIONS).into_par_iter().map(one).collect();
    all.iter().sum::<f64>() / DIRECTIONS as f64
}

/// Distance of as many numbers, both in order.
pub(super) fn sorted(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| (x - y).abs()).sum::<f64>() / x.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cloud(n: usize, k: usize, index: u64) -> Array2<f64> {
        let mut s = Stream::new(1, Purpose::Test, index);
        Array2::from_shape_simple_fn((n, k), || s.normal())
    }

    /// The cheapest of all permutations.
    fn cheapest(cost: &Array2<f64>, row: usize, used: &mut Vec<bool>) -> f64 {
        if row == cost.nrows() {
            return 0.0;
        }
        let mut best = f64::INFINITY;
        for j in 0..cost.nrows() {
            if !used[j] {
                used[j] = true;
                best = best.min(cost[[row, j]] + cheapest(cost, row + 1, used));
                used[j] = false;
            }
        }
        best
    }

    #[test]
    fn the_assignment_is_the_cheapest_of_all() {
        for n in [1, 2, 7] {
            let cost = cloud(n, n, 3).mapv(f64::abs);
            let found = assignment(&cost);
            let mut seen = found.clone();
            seen.sort_unstable();
            assert_eq!(seen, (0..n).collect::<Vec<_>>());
            let total: f64 = found.iter().enumerate().map(|(j, &i)| cost[[i, j]]).sum();
            assert!((total - cheapest(&cost, 0, &mut vec![false; n])).abs() < 1e-12);
        }
    }

    #[test]
    fn a_shifted_cloud_is_as_far_as_the_shift() {
        let a = cloud(200, 3, 1);
        let b = &a + &ndarray::array![3.0, 0.0, 4.0];
        assert!((wasserstein(a.view(), b.view(), true, 1) - 5.0).abs() < 1e-9);
        // in one dimension both are the same
        let (x, y) = (cloud(100, 1, 5), cloud(100, 1, 6));
        let exact = wasserstein(x.view(), y.view(), true, 1);
        assert!((exact - wasserstein(x.view(), y.view(), false, 1)).abs() < 1e-9 && exact > 0.0);
        // E|cos| of a random direction in three dimensions is 1/2
        assert!((wasserstein(a.view(), b.view(), false, 1) - 2.5).abs() < 0.25);
    }
}
