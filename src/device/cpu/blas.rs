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

/// C = op(A) op(B), or C +=, in f32, parts of row-major matrices.
pub(super) struct Sgemm {
    /// Rows of C, columns of C, inner size; none is 0.
    pub size: [usize; 3],
    /// Whether A and B are stored transposed.
    pub transposed: [bool; 2],
    /// Numbers from one stored row of A, B and C to the next.
    pub strides: [usize; 3],
    /// Whether to add to C.
    pub add: bool,
}

impl Sgemm {
    /// Runs on the calling thread. Panics when A or B is too short.
    ///
    /// # Safety
    /// From `c` on lie (rows − 1)·stride + columns numbers that nobody else uses.
    pub(super) unsafe fn run(&self, a: &[f32], b: &[f32], c: *mut f32) {
        let [rows, columns, inner] = self.size;
        let stored = |transposed, shape: [usize; 2], stride| match transposed {
            false => (shape[0] - 1) * stride + shape[1],
            true => (shape[1] - 1) * stride + shape[0],
        };
        assert!(
            rows * columns * inner > 0
                && a.len() >= stored(self.transposed[0], [rows, inner], self.strides[0])
                && b.len() >= stored(self.transposed[1], [inner, columns], self.strides[1]),
            "BLAS operands of a tile"
        );
        let small = |x: usize| i32::try_from(x).expect("sizes fit 31 bits");
        let op = |transposed| match transposed {
            false => cblas_sys::CBLAS_TRANSPOSE::CblasNoTrans,
            true => cblas_sys::CBLAS_TRANSPOSE::CblasTrans,
        };
        // SAFETY: A and B hold the whole operands (checked above), C by the caller's promise.
        unsafe {
            cblas_sys::cblas_sgemm(
                cblas_sys::CBLAS_LAYOUT::CblasRowMajor,
                op(self.transposed[0]),
                op(self.transposed[1]),
                small(rows),
                small(columns),
                small(inner),
                1.0,
                a.as_ptr(),
                small(self.strides[0]),
                b.as_ptr(),
                small(self.strides[1]),
                if self.add { 1.0 } else { 0.0 },
                c,
                small(self.strides[2]),
            );
        }
    }
}
