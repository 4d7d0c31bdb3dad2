//! Dense factorisations by LAPACK: Cholesky and symmetric eigenvalues.
//!
//! LAPACK counts columns first. A symmetric matrix is the same either way round, except that LAPACK's upper
//! triangle is our lower one, and that its eigenvectors, columns there, are rows here.

pub use crate::device::one_blas_thread;
use crate::error::{Error, Result};
use ndarray::{Array2, ArrayView2};
use std::ffi::{c_char, c_int};

/// LAPACK's name for the triangle that is the lower one in row-major order.
const LOWER: c_char = b'U' as c_char;

/// A = L L' of a symmetric positive definite matrix.
#[derive(Debug)]
pub struct Cholesky {
    factor: Array2<f64>, // (n, n), the lower triangle holds L
}

impl Cholesky {
    /// Factors the lower triangle of `a`, (n, n).
    pub fn new(a: Array2<f64>) -> Result<Cholesky> {
        let n = order(&a)?;
        let mut a = standard(a);
        let mut info = 0;
        // SAFETY: `a` holds n * n contiguous numbers (checked by `order` and `standard`), with leading
        // dimension n; all other pointers are to live scalars.
        unsafe { lapack_sys::dpotrf_(&LOWER, &n, a.as_mut_ptr(), &n.max(1), &mut info) }
        if info != 0 {
            return Err(not_positive(i64::from(info), n));
        }
        Ok(Cholesky { factor: a })
    }

    /// A⁻¹ B for a block B, (n, k).
    pub fn solve(&self, b: ArrayView2<f64>) -> Array2<f64> {
        assert_eq!(b.nrows(), self.factor.nrows(), "rows of the right-hand sides");
        let n = c_int::try_from(b.nrows()).expect("checked when factored");
        let k = c_int::try_from(b.ncols()).expect("far fewer right-hand sides than 2^31");
        let mut x = b.t().as_standard_layout().into_owned(); // (k, n): columns of length n for LAPACK
        let mut info = 0;
        // SAFETY: the factor is n x n and x is k x n, both contiguous; other pointers are to live scalars.
        unsafe {
            lapack_sys::dpotrs_(
                &LOWER,
                &n,
                &k,
                self.factor.as_ptr(),
                &n.max(1),
                x.as_mut_ptr(),
                &n.max(1),
                &mut info,
            );
        }
        assert_eq!(info, 0, "dpotrs refuses wrong arguments only");
        x.reversed_axes()
    }

    /// A⁻¹, (n, n).
    pub fn inverse(self) -> Array2<f64> {
        let mut a = self.factor;
        let n = c_int::try_from(a.nrows()).expect("checked when factored");
        let mut info = 0;
        // SAFETY: the factor is n x n contiguous, with a positive diagonal.
        unsafe { lapack_sys::dpotri_(&LOWER, &n, a.as_mut_ptr(), &n.max(1), &mut info) }
        assert_eq!(info, 0, "a Cholesky factor has an inverse");
        for i in 0..a.nrows() {
            for j in 0..i {
                a[[j, i]] = a[[i, j]];
            }
        }
        a
    }

    /// log |A|.
    pub fn log_determinant(&self) -> f64 {
        2.0 * self.factor.diag().iter().map(|d| d.ln()).sum::<f64>()
    }
}

/// A = U' diag(values) U of a symmetric matrix.
#[derive(Debug)]
pub struct Eigen {
    /// Eigenvalues, ascending, (n).
    pub values: Vec<f64>,
    /// Eigenvectors as rows, (n, n).
    pub vectors: Array2<f64>,
}

impl Eigen {
    /// Decomposes the lower triangle of `a`, (n, n), by divide and conquer.
    pub fn new(a: Array2<f64>) -> Result<Eigen> {
        let n = order(&a)?;
        let (work, iwork) = eigen_work(a.nrows())?;
        let mut a = standard(a);
        let mut values = vec![0.0; a.nrows()];
        let (mut buffer, mut integers) = (vec![0.0f64; work as usize], vec![0; iwork as usize]);
        let mut info = 0;
        // SAFETY: `a` is n x n contiguous, `values` holds n numbers, and the work arrays have the lengths that
        // LAPACK asks for (dsyevd, LWORK and LIWORK for JOBZ = 'V') and that are passed beside them.
        unsafe {
            lapack_sys::dsyevd_(
                &(b'V' as c_char),
                &LOWER,
                &n,
                a.as_mut_ptr(),
                &n.max(1),
                values.as_mut_ptr(),
                buffer.as_mut_ptr(),
                &work,
                integers.as_mut_ptr(),
                &iwork,
                &mut info,
            );
        }
        if info != 0 {
            let problem = format!("did not converge (LAPACK says {info})");
            return Err(Error::failed("eigenvalues", problem, "check the genotypes for infinite values"));
        }
        Ok(Eigen { values, vectors: a })
    }
}

/// The error when a Cholesky factorisation breaks down at `row` (from 1) of `n`.
pub(super) fn not_positive(row: i64, n: c_int) -> Error {
    Error::failed(
        "Cholesky factorisation",
        format!("the matrix is not positive definite (row {row} of {n})"),
        "check the variances, or leave out duplicated animals",
    )
}

/// Lengths of dsyevd's work arrays, which LAPACK counts in 32 bits.
fn eigen_work(n: usize) -> Result<(c_int, c_int)> {
    let narrow = |x: usize| c_int::try_from(x).ok();
    match (narrow(1 + 6 * n + 2 * n * n), narrow(3 + 5 * n)) {
        (Some(work), Some(iwork)) => Ok((work, iwork)),
        _ => Err(Error::input(
            "eigenvalues",
            "at most 32,766 animals",
            n,
            "use several ranks (--grid), or --solver pcg with --variances or --h2",
        )),
    }
}

/// n of an (n, n) matrix, in LAPACK's integers.
fn order(a: &Array2<f64>) -> Result<c_int> {
    assert_eq!(a.nrows(), a.ncols(), "a square matrix");
    c_int::try_from(a.nrows())
        .map_err(|_| Error::input("a dense matrix", "fewer than 2^31 rows", a.nrows(), "use --solver pcg"))
}

/// The same symmetric matrix in contiguous row-major memory.
fn standard(a: Array2<f64>) -> Array2<f64> {
    if a.is_standard_layout() && a.as_slice().is_some() {
        return a;
    }
    a.as_standard_layout().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    /// 1: smallest; 2, 5: by hand; 65, 130: beyond LAPACK's block size.
    const SIZES: [usize; 5] = [1, 2, 5, 65, 130];

    /// B B' + I/2 for random B.
    fn positive(n: usize) -> Array2<f64> {
        let mut s = Stream::new(1, Purpose::Test, n as u64);
        let b = Array2::from_shape_simple_fn((n, n), || s.normal());
        b.dot(&b.t()) / n as f64 + Array2::<f64>::eye(n) * 0.5
    }

    #[test]
    fn cholesky_solves_to_a_small_residual_and_its_determinant_is_that_of_the_eigenvalues() {
        for n in SIZES {
            let a = positive(n);
            let b = Array2::from_shape_fn((n, 3), |(i, k)| (i * 3 + k) as f64 - 1.0);
            let c = Cholesky::new(a.clone()).unwrap();
            let residual = a.dot(&c.solve(b.view())) - &b;
            assert!(residual.iter().all(|r| r.abs() < 1e-12 * n as f64 * 100.0), "n = {n}");
            let log: f64 = Eigen::new(a).unwrap().values.iter().map(|v| v.ln()).sum();
            assert!((c.log_determinant() - log).abs() < 1e-11 * n as f64);
        }
    }

    #[test]
    fn eigenvectors_are_orthonormal_rows_that_rebuild_the_matrix() {
        for n in SIZES {
            let a = positive(n);
            let e = Eigen::new(a.clone()).unwrap();
            let d = Array2::from_diag(&ndarray::Array1::from(e.values.clone()));
            let again = e.vectors.t().dot(&d).dot(&e.vectors);
            assert!((&again - &a).iter().all(|x| x.abs() < 1e-13 * n as f64 * 10.0), "n = {n}");
            let unit = e.vectors.dot(&e.vectors.t()) - Array2::<f64>::eye(n);
            assert!(unit.iter().all(|x| x.abs() < 1e-13 * n as f64));
            assert!(e.values.windows(2).all(|w| w[0] <= w[1]));
        }
    }

    #[test]
    fn an_indefinite_matrix_and_one_too_large_are_told() {
        let e = Cholesky::new(ndarray::array![[1.0, 2.0], [2.0, 1.0]]).unwrap_err();
        assert!(e.to_string().contains("not positive definite (row 2 of 2)"));
        assert!(eigen_work(32_766).is_ok());
        assert!(eigen_work(32_767).unwrap_err().to_string().contains("32,766"));
    }
}
