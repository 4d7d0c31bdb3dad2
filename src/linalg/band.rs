//! Symmetric matrices turned into a narrow band, A = Q B Q', in place of their eigenvectors.
//!
//! Quadratic forms, solutions and determinants of αA + βI for many α and β need no eigenvectors: the first of
//! the two stages that lead to a tridiagonal matrix (Bischof, Lang & Sun 2000), all of it matrix products,
//! leaves a band B on which a Cholesky factor costs O(n) each time. LAPACK has both (`dsytrd_sy2sb`, `dpbtrf`).

use crate::error::{Error, Result};
use ndarray::{Array2, ArrayView2};
use std::ffi::{c_char, c_int};

/// Diagonals below the main one: wide enough for fast products, narrow enough for fast factors.
const WIDTH: usize = 32;
/// LAPACK's name for the triangle that it works on.
const LOWER: c_char = b'L' as c_char;

extern "C" {
    // In LAPACK from 3.7 on, but not in lapack-sys.
    #[allow(clippy::too_many_arguments)]
    fn dsytrd_sy2sb_(
        uplo: *const c_char,
        n: *const c_int,
        kd: *const c_int,
        a: *mut f64,
        lda: *const c_int,
        ab: *mut f64,
        ldab: *const c_int,
        tau: *mut f64,
        work: *mut f64,
        lwork: *const c_int,
        info: *mut c_int,
        uplo_length: usize, // which Fortran passes behind the arguments for each text
    );
}

/// A = Q B Q' with B of few diagonals.
#[derive(Debug)]
pub struct Banded {
    n: usize,
    width: usize,
    band: Vec<f64>,          // (n, width + 1): column j of B from the diagonal downwards
    reflectors: Array2<f64>, // (n, n): LAPACK's Householder vectors of Q
    tau: Vec<f64>,           // (n - width)
}

/// L L' = αB + βI.
#[derive(Debug)]
pub struct BandFactor {
    n: usize,
    width: usize,
    factor: Vec<f64>, // (n, width + 1)
}

impl Banded {
    /// Reduces a full symmetric matrix, (n, n): 4/3 n³ operations.
    pub fn new(a: Array2<f64>) -> Result<Banded> {
        assert_eq!(a.nrows(), a.ncols(), "a square matrix");
        let n = a.nrows();
        let width = WIDTH.min(n.saturating_sub(1));
        let mut banded = Banded {
            n,
            width,
            band: vec![0.0; n * (width + 1)],
            reflectors: if a.is_standard_layout() { a } else { a.as_standard_layout().into_owned() },
            tau: vec![0.0; (n - width).max(1)],
        };
        let mut length = [0.0];
        banded.reduce(&mut length, -1)?;
        let count = narrow(length[0] as usize)?;
        banded.reduce(&mut vec![0.0; count.max(1) as usize], count)?;
        Ok(banded)
    }

    /// Calls `dsytrd_sy2sb` with `count` numbers of work, or asks it for that number with -1.
    fn reduce(&mut self, work: &mut [f64], count: c_int) -> Result<()> {
        let (n, width, height) = (narrow(self.n)?, narrow(self.width)?, narrow(self.width + 1)?);
        let mut info = 0;
        // SAFETY: the matrix is n x n contiguous, the band n x (width + 1), tau holds n - width numbers, and
        // `work` holds `count` (one number is written when that is -1).
        unsafe {
            dsytrd_sy2sb_(
                &LOWER,
                &n,
                &width,
                self.reflectors.as_mut_ptr(),
                &n.max(1),
                self.band.as_mut_ptr(),
                &height,
                self.tau.as_mut_ptr(),
                work.as_mut_ptr(),
                &count,
                &mut info,
                1,
            );
        }
        assert_eq!(info, 0, "dsytrd_sy2sb refuses wrong arguments only");
        Ok(())
    }

    /// Q' C of a block, (n, k).
    pub fn rotate(&self, block: ArrayView2<f64>) -> Array2<f64> {
        self.reflect(block, b'T' as c_char)
    }

    /// Q C of a block, (n, k).
    pub fn rotate_back(&self, block: ArrayView2<f64>) -> Array2<f64> {
        self.reflect(block, b'N' as c_char)
    }

    fn reflect(&self, block: ArrayView2<f64>, transposed: c_char) -> Array2<f64> {
        assert_eq!(block.nrows(), self.n, "rows of the block");
        let mut columns = block.t().as_standard_layout().into_owned(); // (k, n)
        if self.n <= self.width + 1 || block.ncols() == 0 {
            return columns.reversed_axes(); // Q = I
        }
        let int = |x: usize| narrow(x).expect("checked when reduced");
        let (n, rest, k) = (int(self.n), int(self.n - self.width), int(block.ncols()));
        let mut work = vec![0.0; 64 * block.ncols() + 65 * 64];
        let count = int(work.len());
        let mut info = 0;
        // SAFETY: reflector i starts `width` rows below the diagonal of column i, as dgeqrf would have left it
        // in a matrix of n - width rows and columns that begins there; the block is k columns of length n, of
        // which the first `width` rows stay as they are; the work array is as long as dormqr asks for.
        unsafe {
            lapack_sys::dormqr_(
                &(b'L' as c_char),
                &transposed,
                &rest,
                &k,
                &rest,
                self.reflectors.as_ptr().add(self.width),
                &n,
                self.tau.as_ptr(),
                columns.as_mut_ptr().add(self.width),
                &n,
                work.as_mut_ptr(),
                &count,
                &mut info,
            );
        }
        assert_eq!(info, 0, "dormqr refuses wrong arguments only");
        columns.reversed_axes()
    }

    /// Eigenvalues of A, ascending.
    pub fn eigenvalues(&self) -> Result<Vec<f64>> {
        let (n, width, height) = (narrow(self.n)?, narrow(self.width)?, narrow(self.width + 1)?);
        let (mut band, mut values) = (self.band.clone(), vec![0.0; self.n]);
        let (mut beside, mut work, mut none) = (vec![0.0; self.n], vec![0.0; self.n], 0.0);
        let mut info = 0;
        // SAFETY: the band is a copy of n x (width + 1) numbers, the other arrays hold n; Q is not referred to
        // when VECT = 'N'.
        unsafe {
            lapack_sys::dsbtrd_(
                &(b'N' as c_char),
                &LOWER,
                &n,
                &width,
                band.as_mut_ptr(),
                &height,
                values.as_mut_ptr(),
                beside.as_mut_ptr(),
                &mut none,
                &1,
                work.as_mut_ptr(),
                &mut info,
            );
            assert_eq!(info, 0, "dsbtrd refuses wrong arguments only");
            lapack_sys::dsterf_(&n, values.as_mut_ptr(), beside.as_mut_ptr(), &mut info);
        }
        if info != 0 {
            let problem = format!("did not converge (LAPACK says {info})");
            return Err(Error::failed("eigenvalues", problem, "check the genotypes for infinite values"));
        }
        Ok(values)
    }

    /// The Cholesky factor of αB + βI; nothing where that is not positive definite.
    pub fn factor(&self, alpha: f64, beta: f64) -> Option<BandFactor> {
        let mut factor: Vec<f64> = self.band.iter().map(|b| alpha * b).collect();
        factor.iter_mut().step_by(self.width + 1).for_each(|d| *d += beta);
        let int = |x: usize| narrow(x).expect("checked when reduced");
        let (n, width, height) = (int(self.n), int(self.width), int(self.width + 1));
        let mut info = 0;
        // SAFETY: the factor holds n x (width + 1) numbers.
        unsafe { lapack_sys::dpbtrf_(&LOWER, &n, &width, factor.as_mut_ptr(), &height, &mut info) }
        (info == 0).then_some(BandFactor { n: self.n, width: self.width, factor })
    }

    /// B C of a block, (n, k).
    pub fn times(&self, block: ArrayView2<f64>) -> Array2<f64> {
        let mut out = Array2::zeros(block.dim());
        let height = self.width + 1;
        for (from, mut to) in block.columns().into_iter().zip(out.columns_mut()) {
            let from = from.to_vec();
            let mut sums = vec![0.0; self.n];
            for (j, column) in self.band.chunks_exact(height).enumerate() {
                let below = height.min(self.n - j);
                let mut sum = column[0] * from[j];
                for d in 1..below {
                    sums[j + d] += column[d] * from[j];
                    sum += column[d] * from[j + d];
                }
                sums[j] += sum;
            }
            to.iter_mut().zip(sums).for_each(|(to, sum)| *to = sum);
        }
        out
    }
}

impl BandFactor {
    /// (αB + βI)⁻¹ C of a block, (n, k).
    pub fn solve(&self, block: ArrayView2<f64>) -> Array2<f64> {
        assert_eq!(block.nrows(), self.n, "rows of the right-hand sides");
        let mut columns = block.t().as_standard_layout().into_owned(); // (k, n)
        let int = |x: usize| narrow(x).expect("checked when reduced");
        let (n, width, height, k) = (int(self.n), int(self.width), int(self.width + 1), int(block.ncols()));
        let mut info = 0;
        // SAFETY: the factor holds n x (width + 1) numbers, the block k columns of length n.
        unsafe {
            lapack_sys::dpbtrs_(
                &LOWER,
                &n,
                &width,
                &k,
                self.factor.as_ptr(),
                &height,
                columns.as_mut_ptr(),
                &n.max(1),
                &mut info,
            );
        }
        assert_eq!(info, 0, "dpbtrs refuses wrong arguments only");
        columns.reversed_axes()
    }
}

/// A size in LAPACK's integers.
fn narrow(x: usize) -> Result<c_int> {
    c_int::try_from(x)
        .map_err(|_| Error::input("a dense matrix", "fewer than 2^31 rows", x, "use --solver pcg"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::factor::{Cholesky, Eigen};
    use crate::rng::{Purpose, Stream};

    /// 1, 2: smallest; 33: all of it in the band; 34: one reflector; 65, 130: some blocks.
    const SIZES: [usize; 6] = [1, 2, 33, 34, 65, 130];

    fn random(n: usize, k: usize) -> Array2<f64> {
        let mut s = Stream::new(5, Purpose::Test, (n * 1000 + k) as u64);
        Array2::from_shape_simple_fn((n, k), || s.normal())
    }

    fn close(a: &Array2<f64>, b: &Array2<f64>) -> bool {
        a.dim() == b.dim() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-10)
    }

    #[test]
    fn the_band_solves_and_multiplies_as_the_matrix_does() {
        for n in SIZES {
            let c = random(n, n);
            let a = c.dot(&c.t()) / n as f64;
            let (banded, block) = (Banded::new(a.clone()).unwrap(), random(n, 3));
            let eta = banded.rotate(block.view());
            assert!(close(&banded.rotate_back(eta.view()), &block), "n = {n}: QQ' = I");
            let product = banded.rotate_back(banded.times(eta.view()).view());
            assert!(close(&product, &a.dot(&block)), "n = {n}: A C");
            let shifted = &a * 0.7 + Array2::<f64>::eye(n) * 0.3;
            let want = Cholesky::new(shifted).unwrap().solve(block.view());
            let solved = banded.factor(0.7, 0.3).unwrap().solve(eta.view());
            assert!(close(&banded.rotate_back(solved.view()), &want), "n = {n}: solution");
            let want = Eigen::new(a).unwrap().values;
            let values = banded.eigenvalues().unwrap();
            assert!(values.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-11), "n = {n}: eigenvalues");
        }
    }

    #[test]
    fn a_shift_that_makes_it_indefinite_has_no_factor() {
        let a = random(40, 40);
        let banded = Banded::new(&a + &a.t()).unwrap();
        assert!(banded.factor(1.0, 0.0).is_none() && banded.factor(1.0, 100.0).is_some());
    }
}
