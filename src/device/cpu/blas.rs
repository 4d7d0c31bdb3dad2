//! BLAS behind checked lengths: row-major products of small tiles, on the calling thread.

extern "C" {
    fn openblas_set_num_threads(threads: i32);
}

/// Sets how many threads each BLAS and LAPACK call may use: one inside rayon regions.
pub fn set_blas_threads(threads: usize) {
    let threads = i32::try_from(threads.max(1)).unwrap_or(i32::MAX);
    // SAFETY: takes any positive number and may be called at any time.
    unsafe { openblas_set_num_threads(threads) }
}

/// Sizes of a product: C (rows, columns) from A (rows, inner) and B (inner, columns), all row-major and dense.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub rows: usize,
    pub inner: usize,
    pub columns: usize,
}

impl Shape {
    /// The sizes as BLAS takes them; panics when a slice is too short or a size exceeds 31 bits.
    fn checked(self, a: usize, b: usize, c: usize) -> [i32; 3] {
        let Shape { rows, inner, columns } = self;
        assert!(a >= rows * inner && b >= inner * columns && c >= rows * columns, "BLAS operands of a tile");
        [rows, inner, columns].map(|x| i32::try_from(x).expect("tiles are small"))
    }
}

/// C = A B' in f64, B of shape (columns, inner).
pub(super) fn dgemm_outer(shape: Shape, a: &[f64], b: &[f64], c: &mut [f64]) {
    let [rows, inner, columns] = shape.checked(a.len(), b.len(), c.len());
    if rows == 0 || columns == 0 {
        return;
    }
    // SAFETY: the slices hold the whole operands (checked above), with leading dimensions equal to their row
    // lengths; c is borrowed mutably, so it overlaps neither a nor b.
    unsafe {
        cblas_sys::cblas_dgemm(
            cblas_sys::CBLAS_LAYOUT::CblasRowMajor,
            cblas_sys::CBLAS_TRANSPOSE::CblasNoTrans,
            cblas_sys::CBLAS_TRANSPOSE::CblasTrans,
            rows,
            columns,
            inner,
            1.0,
            a.as_ptr(),
            inner.max(1),
            b.as_ptr(),
            inner.max(1),
            0.0,
            c.as_mut_ptr(),
            columns,
        );
    }
}
