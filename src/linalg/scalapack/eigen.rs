//! Symmetric eigenvalues over a grid of ranks.

use super::{all_threads, check_square, narrow, sys, Context, FIRST, LOWER};
use crate::comm::layout::Cyclic;
use crate::error::{Error, Result};
use crate::linalg::factor;
use crate::linalg::matrix::DistMatrix;
use std::ffi::{c_char, c_int};

/// With eigenvectors.
const VECTORS: c_char = b'V' as c_char;

/// A = U diag(values) U' of a symmetric matrix.
#[derive(Debug)]
pub struct Eigen {
    /// Eigenvalues, ascending, (n); the same bits on every rank.
    pub values: Vec<f64>,
    /// Eigenvectors as columns, (n, n), in blocks as the matrix was.
    pub vectors: DistMatrix,
}

impl Eigen {
    /// Decomposes the lower triangle of `a`, (n, n), by divide and conquer. Each rank takes four times its
    /// share of `a`: the matrix, the eigenvectors, and twice as much to work in.
    pub fn new(mut a: DistMatrix) -> Result<Eigen> {
        check_square(&a);
        let (world, block) = (a.world().clone(), a.rows().block());
        let mut z = DistMatrix::zeros(&world, a.grid(), (a.nrows(), a.ncols()), block)?;
        if world.size() == 1 {
            let one = factor::Eigen::new(a.gather().expect("the only rank is the root"))?;
            z.local_view_mut().assign(&one.vectors.t());
            return Ok(Eigen { values: one.values, vectors: z });
        }
        if a.nrows() == 0 {
            return Ok(Eigen { values: Vec::new(), vectors: z });
        }
        let context = Context::new(&world, a.grid());
        let lengths = world.agree(work_lengths(a.rows(), a.columns()))?;
        let mut values = vec![0.0; a.nrows()];
        let info = decompose(&context, &mut a, &mut values, &mut z, lengths);
        let mut worst = [i64::from(info).abs()];
        world.max(&mut worst);
        if worst[0] != 0 {
            let problem = format!("did not converge (ScaLAPACK says {})", worst[0]);
            return Err(Error::failed("eigenvalues", problem, "check the genotypes for infinite values"));
        }
        world.broadcast(0, &mut values);
        Ok(Eigen { values, vectors: z })
    }
}

/// Lengths of pdsyevd's work arrays. ScaLAPACK counts them in 32 bits and would overflow silently, so they are
/// counted here, by the formula of its documentation, and by that of pdormtr, which it calls last and which
/// wants more when blocks are large beside the matrix.
fn work_lengths(rows: Cyclic, columns: Cyclic) -> Result<(usize, usize)> {
    let (n, block, across) = (rows.length(), rows.block(), columns.parts());
    // The share of part 0 is the largest: the same length on every rank.
    let (rows, columns) = (rows.numroc(0), columns.numroc(0));
    let triangular = 3 * n + (block * (rows + 1)).max(3 * block);
    let back = (block * (block - 1) / 2).max((rows + columns) * block) + block * block;
    let work = (1 + 6 * n + 2 * rows * columns).max(triangular).max(back) + 2 * n;
    let integers = 7 * n + 8 * across + 2;
    if work.max(integers) <= c_int::MAX as usize {
        return Ok((work, integers));
    }
    Err(Error::input(
        format!("eigenvalues of {n} animals"),
        "fewer than 2^31 numbers to work in on each rank",
        work,
        format!("use at least {} ranks", (2 * n * n).div_ceil(c_int::MAX as usize) + 1),
    ))
}

/// Calls pdsyevd; returns what it says.
fn decompose(
    context: &Context,
    a: &mut DistMatrix,
    values: &mut [f64],
    z: &mut DistMatrix,
    lengths: (usize, usize),
) -> c_int {
    let n = narrow(a.nrows());
    assert_eq!(values.len(), a.nrows(), "an eigenvalue a row");
    let (of_a, of_z) = (context.describe(a), context.describe(z));
    let (mut work, mut integers) = (vec![0.0; lengths.0], vec![0; lengths.1]);
    let _threads = all_threads();
    let mut info = 0;
    // SAFETY: the descriptors are those of `a` and `z`, both n x n on the same grid and in the same blocks;
    // there are n values; the work arrays have the lengths passed beside them, which are those that pdsyevd's
    // documentation asks for; every rank of the grid is here.
    unsafe {
        sys::pdsyevd_(
            &VECTORS,
            &LOWER,
            &n,
            a.local_mut().as_mut_ptr(),
            &FIRST,
            &FIRST,
            of_a.as_ptr(),
            values.as_mut_ptr(),
            z.local_mut().as_mut_ptr(),
            &FIRST,
            &FIRST,
            of_z.as_ptr(),
            work.as_mut_ptr(),
            &narrow(lengths.0),
            integers.as_mut_ptr(),
            &narrow(lengths.1),
            &mut info,
            1,
            1,
        );
    }
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_beyond_32_bits() {
        let lengths = |n: usize, block: usize, (r, c): (usize, usize)| {
            work_lengths(Cyclic::new(n, block, r), Cyclic::new(n, block, c))
        };
        // By hand: 2 * 1000 * 500 + 8 * 1000 + 1; a block as large as the matrix.
        assert_eq!(lengths(1000, 100, (1, 2)).unwrap(), (2 * 1000 * 500 + 8001, 7018));
        assert_eq!(lengths(100, 100, (2, 2)).unwrap().0, 200 * 100 + 100 * 100 + 200);
        assert!(lengths(40_000, 128, (1, 2)).is_ok());
        let told = lengths(113_599, 128, (2, 4)).unwrap_err().to_string();
        assert!(told.contains("use at least 14 ranks"), "{told}");
        assert!(lengths(113_599, 128, (2, 7)).is_ok());
    }
}
