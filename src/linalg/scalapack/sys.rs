//! ScaLAPACK 2.2 and its BLACS as they stand in the library. Only [`super`] calls them.
//!
//! Routines in Fortran take addresses, and behind their arguments the length of each text among these.

use crate::comm::RawCommunicator;
use std::ffi::{c_char, c_int};

extern "C" {
    /// A BLACS handle of an MPI communicator.
    pub fn Csys2blacs_handle(communicator: RawCommunicator) -> c_int;
    /// Gives the handle back.
    pub fn Cfree_blacs_system_handle(handle: c_int);
    /// Makes a grid of all processes of a handle; the handle goes in, the grid's context comes out.
    pub fn Cblacs_gridinit(context: *mut c_int, order: *const c_char, rows: c_int, columns: c_int);
    /// Size of a grid and the caller's place in it, -1 outside.
    pub fn Cblacs_gridinfo(
        context: c_int,
        rows: *mut c_int,
        columns: *mut c_int,
        row: *mut c_int,
        column: *mut c_int,
    );
    /// Frees a grid.
    pub fn Cblacs_gridexit(context: c_int);

    /// Fills the nine numbers that describe a distributed matrix.
    pub fn descinit_(
        descriptor: *mut c_int,
        rows: *const c_int,
        columns: *const c_int,
        row_block: *const c_int,
        column_block: *const c_int,
        first_row: *const c_int,
        first_column: *const c_int,
        context: *const c_int,
        leading: *const c_int,
        info: *mut c_int,
    );
    /// How many rows or columns a part owns.
    #[cfg(test)]
    pub fn numroc_(
        length: *const c_int,
        block: *const c_int,
        part: *const c_int,
        first: *const c_int,
        parts: *const c_int,
    ) -> c_int;
    /// Cholesky factor.
    pub fn pdpotrf_(
        triangle: *const c_char,
        n: *const c_int,
        a: *mut f64,
        ia: *const c_int,
        ja: *const c_int,
        a_descriptor: *const c_int,
        info: *mut c_int,
        triangle_length: usize,
    );
    /// Solves with a Cholesky factor.
    pub fn pdpotrs_(
        triangle: *const c_char,
        n: *const c_int,
        columns: *const c_int,
        a: *const f64,
        ia: *const c_int,
        ja: *const c_int,
        a_descriptor: *const c_int,
        b: *mut f64,
        ib: *const c_int,
        jb: *const c_int,
        b_descriptor: *const c_int,
        info: *mut c_int,
        triangle_length: usize,
    );
    /// Eigenvalues and eigenvectors by divide and conquer.
    pub fn pdsyevd_(
        job: *const c_char,
        triangle: *const c_char,
        n: *const c_int,
        a: *mut f64,
        ia: *const c_int,
        ja: *const c_int,
        a_descriptor: *const c_int,
        values: *mut f64,
        z: *mut f64,
        iz: *const c_int,
        jz: *const c_int,
        z_descriptor: *const c_int,
        work: *mut f64,
        work_length: *const c_int,
        integers: *mut c_int,
        integers_length: *const c_int,
        info: *mut c_int,
        job_length: usize,
        triangle_length: usize,
    );
}
