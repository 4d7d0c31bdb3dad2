//! Pure numbers: moments, correlations, quantiles, and sums that do not depend on their order.

use ndarray::{Array1, Array2, ArrayView2};
use rayon::prelude::*;

/// Arithmetic mean; NaN for an empty slice.
pub fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len() as f64
}

/// Sample variance with n-1 in the denominator; NaN for fewer than two values.
pub fn variance(x: &[f64]) -> f64 {
    if x.len() < 2 {
        return f64::NAN;
    }
    let m = mean(x);
    x.iter().map(|v| (v - m) * (v - m)).sum::<f64>() / (x.len() as f64 - 1.0)
}

/// Largest less smallest value; 0 for an empty slice.
pub fn range(x: &[f64]) -> f64 {
    let (low, high) = x.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
    (high - low).max(0.0)
}

/// Pearson's correlation; NaN when either side is constant.
pub fn pearson(x: &[f64], y: &[f64]) -> f64 {
    let (sxx, sxy, syy) = cross_moments(x, y);
    sxy / (sxx * syy).sqrt()
}

/// Mean Σwx/Σw, and variance Σw(x − mean)²/(Σw (n − 1)/n): those of [`mean`] and [`variance`] where all weights are
/// the same; NaN where there are too few values.
pub fn weighted_moments(x: &[f64], w: &[f64]) -> (f64, f64) {
    assert_eq!(x.len(), w.len(), "paired values");
    let (n, total) = (x.len() as f64, w.iter().sum::<f64>());
    let mean = x.iter().zip(w).map(|(x, w)| w * x).sum::<f64>() / total;
    let squares: f64 = x.iter().zip(w).map(|(x, w)| w * (x - mean) * (x - mean)).sum();
    (mean, if x.len() < 2 { f64::NAN } else { squares / total * n / (n - 1.0) })
}

/// Correlation of `x` and `y` with weights; NaN when either side is constant.
pub fn weighted_pearson(x: &[f64], y: &[f64], w: &[f64]) -> f64 {
    let ((mx, vx), (my, vy)) = (weighted_moments(x, w), weighted_moments(y, w));
    let product: Vec<f64> = x.iter().zip(y).map(|(x, y)| (x - mx) * (y - my)).collect();
    let n = x.len() as f64;
    weighted_moments(&product, w).0 * n / (n - 1.0) / (vx * vy).sqrt()
}

/// Slope of the regression of `y` on `x`; NaN when `x` is constant.
pub fn slope(x: &[f64], y: &[f64]) -> f64 {
    let (sxx, sxy, _) = cross_moments(x, y);
    sxy / sxx
}

/// Centred sums of squares and products: (xx, xy, yy).
fn cross_moments(x: &[f64], y: &[f64]) -> (f64, f64, f64) {
    assert_eq!(x.len(), y.len(), "paired values");
    let (mx, my) = (mean(x), mean(y));
    x.iter().zip(y).fold((0.0, 0.0, 0.0), |(sxx, sxy, syy), (a, b)| {
        let (a, b) = (a - mx, b - my);
        (sxx + a * a, sxy + a * b, syy + b * b)
    })
}

/// Spearman's rank correlation, ties at their mean rank.
pub fn spearman(x: &[f64], y: &[f64]) -> f64 {
    pearson(&ranks(x), &ranks(y))
}

/// Ranks from 1, ties at their mean rank. Values must not be NaN.
pub fn ranks(x: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| x[a].total_cmp(&x[b]));
    let mut out = vec![0.0; x.len()];
    let mut start = 0;
    while start < order.len() {
        let end = order[start..].iter().take_while(|&&i| x[i] == x[order[start]]).count() + start;
        for &i in &order[start..end] {
            out[i] = (start + end + 1) as f64 / 2.0;
        }
        start = end;
    }
    out
}

/// Quantile `q` in 0..=1 by linear interpolation between order statistics (Hyndman & Fan 1996, type 7).
pub fn quantile(x: &[f64], q: f64) -> f64 {
    let mut sorted = x.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = q.clamp(0.0, 1.0) * last as f64;
    let (low, part) = (at.floor() as usize, at.fract());
    sorted[low] + part * (sorted[(low + 1).min(last)] - sorted[low])
}

/// Which columns of `w` (n, q) do not follow from the columns before them, in order.
pub fn independent_columns(w: ArrayView2<f64>) -> Vec<usize> {
    orthonormal_columns(w).1
}

/// An orthonormal basis of the columns of `w` (n, q), and which columns made it, in order: Gram-Schmidt, twice
/// for safety. A column is dropped when less than 1e-7 is left of what it has beside the first column, which is the
/// intercept (R's `lm` takes 1e-7 of the whole), or less than rounding errors of the whole.
pub fn orthonormal_columns(w: ArrayView2<f64>) -> (Array2<f64>, Vec<usize>) {
    let mut keep = Vec::new();
    let mut basis: Vec<Array1<f64>> = Vec::new();
    for (j, column) in w.columns().into_iter().enumerate() {
        let mut rest = column.to_owned();
        let length = rest.dot(&rest).sqrt();
        let mut centred = length;
        for (k, b) in basis.iter().chain(&basis).enumerate() {
            let along = b.dot(&rest);
            rest.scaled_add(-along, b);
            if k == 0 {
                centred = rest.dot(&rest).sqrt();
            }
        }
        let left = rest.dot(&rest).sqrt();
        if left > 1e-7 * centred && left > 1e-12 * length {
            basis.push(rest / left);
            keep.push(j);
        }
    }
    let q = Array2::from_shape_fn((w.nrows(), basis.len()), |(i, j)| basis[j][i]);
    (q, keep)
}

/// The largest absolute value of each column of a block in standard layout, (rows, k); NaN does not count.
pub fn largest_of_columns<T: Copy + Into<f64> + Sync>(block: &[T], k: usize) -> Vec<f64> {
    const ROWS: usize = 1 << 12;
    let of_rows = |rows: &[T]| {
        let mut largest = vec![0.0f64; k];
        rows.chunks_exact(k)
            .for_each(|row| largest.iter_mut().zip(row).for_each(|(l, &x)| *l = l.max(x.into().abs())));
        largest
    };
    let both = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(b).map(|(a, b)| a.max(b)).collect();
    block.par_chunks((ROWS * k).max(1)).map(of_rows).reduce(|| vec![0.0; k], both)
}

/// The power of two that brings a number above 0 to between 1/2 and 1; 1 for 0 and for what is not finite.
pub fn unit_scale(x: f64) -> f64 {
    match x > 0.0 && x.is_finite() {
        true => (-x.log2().floor().max(-1000.0) - 1.0).exp2(),
        false => 1.0,
    }
}

/// Reals as whole multiples of a power of two, so that their sum is exact and does not depend on the order,
/// the number of threads or the number of ranks.
///
/// The quantum is chosen from a bound on the sum of absolute values that every rank knows: with
/// `quantum >= bound / 2^61` the sum cannot overflow, and each term is rounded once, by at most half a quantum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FixedPoint {
    quantum: f64,
    /// 1 / quantum: exact, as the quantum is a power of two.
    inverse: f64,
}

impl FixedPoint {
    /// A quantum for terms whose absolute values sum to at most `bound` (finite; zero is allowed).
    pub fn for_bound(bound: f64) -> Self {
        assert!(bound.is_finite() && bound >= 0.0, "a bound on a sum, found {bound}");
        // Smallest normal power of two that keeps bound / quantum below 2^61.
        let exponent = if bound == 0.0 { 0 } else { bound.log2().floor() as i32 + 1 - 61 };
        let quantum = (exponent.clamp(-1022, 1023) as f64).exp2();
        FixedPoint { quantum, inverse: quantum.recip() }
    }

    /// The nearest multiple of the quantum.
    #[inline]
    pub fn quantize(self, x: f64) -> i64 {
        (x * self.inverse).round_ties_even() as i64
    }

    /// The real number that a sum of multiples stands for.
    #[inline]
    pub fn real(self, multiples: i64) -> f64 {
        multiples as f64 * self.quantum
    }

    /// The weight of one unit.
    pub fn quantum(self) -> f64 {
        self.quantum
    }
}

/// P(χ² with one degree of freedom > x): the regularised incomplete gamma function Q(1/2, x/2), by its series for
/// small x and by its continued fraction (Lentz) for large.
pub fn chi_square_1(x: f64) -> f64 {
    if x.is_nan() || x <= 0.0 {
        return if x <= 0.0 { 1.0 } else { f64::NAN };
    }
    let (a, z) = (0.5, 0.5 * x);
    let front = (-z + a * z.ln() - 0.5 * std::f64::consts::PI.ln()).exp();
    if z < 1.5 {
        let (mut term, mut sum, mut k) = (1.0 / a, 1.0 / a, a);
        while term > 1e-17 * sum {
            k += 1.0;
            term *= z / k;
            sum += term;
        }
        return 1.0 - front * sum;
    }
    let mut b = z + 1.0 - a;
    let (mut c, mut d) = (f64::INFINITY, 1.0 / b);
    let mut h = d;
    for i in 1..1000 {
        let an = -f64::from(i) * (f64::from(i) - a);
        b += 2.0;
        d = 1.0 / (an * d + b);
        c = b + an / c;
        h *= d * c;
        if (d * c - 1.0).abs() < 1e-16 {
            break;
        }
    }
    front * h
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-12 * b.abs().max(1.0)
    }

    #[test]
    fn equal_weights_change_no_moment_and_zeros_leave_values_out() {
        let (x, y) = ([1.0, 4.0, 2.0, 8.0], [3.0, 1.0, 2.0, 7.0]);
        let (m, v) = weighted_moments(&x, &[2.0; 4]);
        assert!((m - mean(&x)).abs() < 1e-12 && (v - variance(&x)).abs() < 1e-12);
        assert!((weighted_pearson(&x, &y, &[2.0; 4]) - pearson(&x, &y)).abs() < 1e-12);
        let without = pearson(&x[..3], &y[..3]);
        assert!((weighted_pearson(&x, &y, &[1.0, 1.0, 1.0, 0.0]) - without).abs() < 1e-12);
    }

    #[test]
    fn textbook_values() {
        let (x, y) = ([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 4.0, 5.0, 4.0, 5.0]);
        assert!(close(mean(&y), 4.0) && close(variance(&y), 1.5));
        assert!(close(slope(&x, &y), 0.6) && close(pearson(&x, &y), 0.6 * (2.5f64 / 1.5).sqrt()));
        assert_eq!(ranks(&y), [1.0, 2.5, 4.5, 2.5, 4.5]);
        assert!(close(spearman(&x, &[1.0, 8.0, 27.0, 64.0, 125.0]), 1.0));
        assert!(close(quantile(&y, 0.5), 4.0) && close(quantile(&[1.0, 2.0], 0.25), 1.25));
        assert!(pearson(&x, &[1.0; 5]).is_nan());
        assert!(variance(&[]).is_nan() && variance(&[1.0]).is_nan());
    }

    #[test]
    fn columns_that_follow_from_earlier_ones_are_found() {
        let w = ndarray::array![
            [1.0, 0.0, 1.0, 0.0, 3.0, 1e6],
            [1.0, 0.0, 0.0, 0.0, 1.0, 1e6 + 1.0],
            [1.0, 1.0, 0.0, 0.0, 1.0, 1e6 + 5.0],
            [1.0, 1.0, 0.0, 0.0, 1.0, 1e6 + 2.0],
        ];
        assert_eq!(independent_columns(w.view()), [0, 1, 2, 5]); // 3 is zero, 4 = 0 + 2 * 2
                                                                 // Powers of a year; a constant follows from the intercept, whatever its size.
        let powers = Array2::from_shape_fn((30, 5), |(i, j)| match j {
            4 => 2014.0,
            j => (2010.0 + (i % 10) as f64).powi(j as i32),
        });
        let (basis, kept) = orthonormal_columns(powers.view());
        assert_eq!(kept, [0, 1, 2, 3]);
        let gram = basis.t().dot(&basis) - Array2::<f64>::eye(4);
        assert!(gram.iter().all(|d| d.abs() < 1e-12));
    }

    #[test]
    fn fewer_than_two_values_have_no_variance() {
        assert!(variance(&[]).is_nan() && variance(&[1.0]).is_nan() && mean(&[]).is_nan());
    }

    #[test]
    fn fixed_point_sums_are_the_same_in_any_order_and_as_good_as_f64() {
        let mut s = Stream::new(1, Purpose::Test, 0);
        let terms: Vec<f64> = (0..10_000).map(|_| s.normal() * (s.normal() * 5.0).exp()).collect();
        let bound: f64 = terms.iter().map(|t| t.abs()).sum();
        let f = FixedPoint::for_bound(bound);
        let forward: i64 = terms.iter().map(|&t| f.quantize(t)).sum();
        let backward: i64 = terms.iter().rev().map(|&t| f.quantize(t)).sum();
        assert_eq!(forward, backward);
        let plain: f64 = terms.iter().sum();
        assert!((f.real(forward) - plain).abs() < 1e-12 * bound);
    }

    #[test]
    fn fixed_point_neither_overflows_at_its_bound_nor_loses_small_scales() {
        for bound in [1e-280, 1e-20, 0.3, 1.0, 2.0, 1e9, 1e300] {
            let f = FixedPoint::for_bound(bound);
            assert!(f.quantize(bound).abs() < 1 << 61, "{bound}");
            assert!((f.real(f.quantize(bound)) - bound).abs() <= 1e-15 * bound);
        }
        assert_eq!(FixedPoint::for_bound(0.0).quantize(0.0), 0);
    }

    #[test]
    fn tails_of_chi_square_are_those_of_the_tables() {
        // R: pchisq(x, 1, lower.tail = FALSE)
        for (x, p) in [
            (0.0, 1.0),
            (0.015790774093431218, 0.9),
            (2.705543454095404, 0.1),
            (3.841458820694124, 0.05),
            (10.827566170662733, 0.001),
            (40.0, 2.5396285894708e-10),
        ] {
            assert!((chi_square_1(x) / p - 1.0).abs() < 1e-10, "{x}: {}", chi_square_1(x));
        }
    }
}
