//! Cholesky and symmetric eigenvalues of matrices that lie over a grid of ranks, by ScaLAPACK; on one rank by
//! LAPACK.
//!
//! Everything here is called by all ranks of the matrix's world together, and fails on all or on none. Results
//! agree with LAPACK's to rounding, but their last bits depend on the grid.

mod eigen;
mod sys;

pub use self::eigen::Eigen;

use super::factor;
use super::matrix::DistMatrix;
use crate::comm::layout::Grid;
use crate::comm::World;
use crate::device::BlasThreads;
use crate::error::Result;
use ndarray::{s, Array2, ArrayView2};
use std::ffi::{c_char, c_int};

/// ScaLAPACK's name for the lower triangle.
const LOWER: c_char = b'L' as c_char;
/// Whole matrices begin at element 1.
const FIRST: c_int = 1;
/// Columns in a block of right-hand sides.
const SIDES: usize = 32;

/// What ScaLAPACK knows of a matrix: nine integers.
type Descriptor = [c_int; 9];

/// A grid as the BLACS know it, freed when dropped.
#[derive(Debug)]
struct Context {
    context: c_int,
    handle: c_int,
    grid: Grid,
    /// Keeps MPI running as long as the grid exists.
    _world: World,
}

impl Context {
    /// Makes the grid. Every rank of the world calls it; the world has more than one.
    fn new(world: &World, grid: Grid) -> Context {
        assert_eq!(grid.ranks(), world.size(), "a grid of all ranks");
        let raw = world.raw().expect("more than one rank run under MPI");
        let (rows, columns) = (narrow(grid.rows()), narrow(grid.columns()));
        // SAFETY: the communicator is alive, as `world` is; every rank of it is here.
        let handle = unsafe { sys::Csys2blacs_handle(raw) };
        let mut context = handle;
        let (mut found, mut at) = ([0; 2], [-1; 2]);
        // SAFETY: the order is a text that ends with 0; all other pointers are to live integers; the grid takes
        // all ranks of the handle.
        unsafe {
            sys::Cblacs_gridinit(&mut context, c"Row".as_ptr(), rows, columns);
            let ([r, c], [i, k]) = (&mut found, &mut at);
            sys::Cblacs_gridinfo(context, r, c, i, k);
        }
        let (row, column) = grid.place(world.rank());
        assert_eq!((found, at), ([rows, columns], [narrow(row), narrow(column)]), "the BLACS' grid is ours");
        Context { context, handle, grid, _world: world.clone() }
    }

    /// Describes a matrix on this grid.
    fn describe(&self, matrix: &DistMatrix) -> Descriptor {
        assert_eq!(matrix.grid(), self.grid, "a matrix on this grid");
        let size = [matrix.nrows(), matrix.ncols()].map(narrow);
        let block = [matrix.rows().block(), matrix.columns().block()].map(narrow);
        let leading = narrow(matrix.local_shape().0.max(1));
        let (mut descriptor, mut info) = ([0; 9], 0);
        // SAFETY: the descriptor has nine numbers; all other pointers are to live integers.
        unsafe {
            sys::descinit_(
                descriptor.as_mut_ptr(),
                &size[0],
                &size[1],
                &block[0],
                &block[1],
                &0,
                &0,
                &self.context,
                &leading,
                &mut info,
            );
        }
        assert_eq!(info, 0, "descinit refuses wrong arguments only");
        descriptor
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: both were made in `new` and are freed once; MPI runs as long as the world in here lives.
        unsafe {
            sys::Cblacs_gridexit(self.context);
            sys::Cfree_blacs_system_handle(self.handle);
        }
    }
}

/// All threads of the rank for BLAS: no other work runs beside ScaLAPACK's.
fn all_threads() -> BlasThreads {
    BlasThreads::of(rayon::current_num_threads())
}

/// A = L L' of a symmetric positive definite matrix, in blocks over a grid of ranks.
#[derive(Debug)]
pub struct Cholesky(Engine);

#[derive(Debug)]
enum Engine {
    /// The factor of the only rank.
    One(factor::Cholesky),
    /// The factor over the grid.
    Grid(DistMatrix, Context),
}

impl Cholesky {
    /// Factors the lower triangle of `a`, (n, n).
    pub fn new(mut a: DistMatrix) -> Result<Cholesky> {
        check_square(&a);
        if a.world().size() == 1 {
            let whole = a.gather().expect("the only rank is the root");
            drop(a);
            return Ok(Cholesky(Engine::One(factor::Cholesky::new(whole)?)));
        }
        let context = Context::new(a.world(), a.grid());
        let descriptor = context.describe(&a);
        let (n, mut info) = (narrow(a.nrows()), 0);
        let threads = all_threads();
        // SAFETY: the descriptor is that of `a`, whose local elements it counts; every rank of the grid is here;
        // all other pointers are to live scalars.
        unsafe {
            sys::pdpotrf_(
                &LOWER,
                &n,
                a.local_mut().as_mut_ptr(),
                &FIRST,
                &FIRST,
                descriptor.as_ptr(),
                &mut info,
                1,
            );
        }
        drop(threads);
        // A rank that met the bad row later than others must not go on alone.
        let mut worst = [i64::from(info)];
        a.world().max(&mut worst);
        if worst[0] != 0 {
            return Err(factor::not_positive(worst[0], n));
        }
        Ok(Cholesky(Engine::Grid(a, context)))
    }

    /// A⁻¹ B for a block B, (n, k), of which every rank has a copy and receives the result.
    pub fn solve(&self, b: ArrayView2<f64>) -> Result<Array2<f64>> {
        let (factor, context) = match &self.0 {
            Engine::One(factor) => return Ok(factor.solve(b)),
            Engine::Grid(factor, context) => (factor, context),
        };
        assert_eq!(b.nrows(), factor.nrows(), "rows of the right-hand sides");
        let (world, grid, block) = (factor.world(), factor.grid(), factor.rows().block());
        let mut x = DistMatrix::with_blocks(world, grid, b.dim(), (block, SIDES))?;
        x.for_each_tile(|tile, mut values| {
            values.assign(&b.slice(s![tile.rows.clone(), tile.columns.clone()]));
        });
        let (of_a, of_x) = (context.describe(factor), context.describe(&x));
        let (n, columns, mut info) = (narrow(b.nrows()), narrow(b.ncols()), 0);
        let threads = all_threads();
        // SAFETY: the descriptors are those of the factor and of `x`, on the same grid and with the same blocks
        // of rows; every rank of the grid is here; all other pointers are to live scalars.
        unsafe {
            sys::pdpotrs_(
                &LOWER,
                &n,
                &columns,
                factor.local().as_ptr(),
                &FIRST,
                &FIRST,
                of_a.as_ptr(),
                x.local_mut().as_mut_ptr(),
                &FIRST,
                &FIRST,
                of_x.as_ptr(),
                &mut info,
                1,
            );
        }
        drop(threads);
        assert_eq!(info, 0, "pdpotrs refuses wrong arguments only");
        Ok(x.replicate())
    }

    /// log |A|, the same on every rank.
    pub fn log_determinant(&self) -> f64 {
        match &self.0 {
            Engine::One(factor) => factor.log_determinant(),
            Engine::Grid(factor, _) => 2.0 * factor.diagonal().iter().map(|d| d.ln()).sum::<f64>(),
        }
    }
}

/// ScaLAPACK's symmetric routines want square matrices in square blocks.
fn check_square(a: &DistMatrix) {
    assert_eq!(a.nrows(), a.ncols(), "a square matrix");
    assert_eq!(a.rows().block(), a.columns().block(), "square blocks");
}

/// Sizes that `DistMatrix` has checked.
fn narrow(x: usize) -> c_int {
    c_int::try_from(x).expect("DistMatrix keeps sizes below 2^31")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::layout::Cyclic;

    #[test]
    fn local_lengths_are_those_of_numroc() {
        for (length, block, parts) in [(0, 3, 2), (1, 4, 3), (11, 2, 3), (12, 4, 3), (113_599, 128, 7)] {
            let ours = Cyclic::new(length, block, parts);
            for part in 0..parts {
                let [l, b, p, all] = [length, block, part, parts].map(narrow);
                // SAFETY: all pointers are to live integers.
                let theirs = unsafe { sys::numroc_(&l, &b, &p, &0, &all) };
                assert_eq!(narrow(ours.numroc(part)), theirs, "{length} by {block} over {parts}");
            }
        }
    }
}
