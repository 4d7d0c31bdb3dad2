//! BLAS behind checked lengths: row-major products of small tiles, on the calling thread.

use crate::error::{Error, Result};
use crate::memory;
use crate::simd;
use std::ffi::{c_char, c_void, CStr};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Once;

extern "C" {
    fn openblas_get_config() -> *const c_char;
    fn openblas_get_corename() -> *const c_char;
    fn openblas_set_num_threads(threads: i32);
    fn blas_memory_alloc(position: i32) -> *mut c_void;
    fn blas_memory_free(buffer: *mut c_void);
}

/// Bytes of a work buffer, of which each thread inside a call holds one (OpenBLAS 0.3 on x86-64).
const BUFFER: usize = 128 << 20;
/// Bytes that are left to everything else.
const REST: usize = 16 << 20;

/// What OpenBLAS reads when it is loaded: the processor whose kernels it takes.
const KERNELS: &str = "OPENBLAS_CORETYPE";
/// What it takes kernels for that have neither AVX2 nor FMA, by its own names.
const OLD: [&str; 12] = [
    "Atom",
    "Athlon",
    "Banias",
    "Core2",
    "Dunnington",
    "Katmai",
    "Nehalem",
    "Northwood",
    "Opteron",
    "Penryn",
    "Prescott",
    "Unknown",
];

/// Whether kernels of that name have neither AVX2 nor FMA.
fn are_old(kernels: &str) -> bool {
    OLD.iter().any(|old| old.eq_ignore_ascii_case(kernels))
}

/// What OpenBLAS says of itself, and whether its kernels are those of processors without AVX2.
pub fn describe_blas() -> (String, bool) {
    // SAFETY: both give texts that live as long as the program.
    let [config, kernels] = unsafe {
        [openblas_get_config(), openblas_get_corename()].map(|text| CStr::from_ptr(text).to_string_lossy())
    };
    (config.trim().to_owned(), are_old(&kernels))
}

/// Begins the program anew with kernels that this processor is worth where OpenBLAS is older than the processor and
/// took those of 2004 (16 instead of 73 G operations a second were seen). Before MPI starts; nothing happens where the
/// user has chosen kernels.
pub fn choose_kernels() {
    // SAFETY: gives a text that lives as long as the program.
    let taken = unsafe { CStr::from_ptr(openblas_get_corename()) };
    let better = better_kernels(&taken.to_string_lossy());
    let (Some(better), None, Ok(program)) = (better, std::env::var_os(KERNELS), std::env::current_exe())
    else {
        return;
    };
    let mut arguments = std::env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // Returns only where the system refuses; then the old kernels do.
    let _ = command.args(arguments).env(KERNELS, better).exec();
}

/// What kernels of this processor are called, where those of `taken` are much older.
fn better_kernels(taken: &str) -> Option<&'static str> {
    if !are_old(taken) {
        None
    } else if simd::has!("avx512f", "avx512dq", "avx512bw", "avx512vl", "fma") {
        Some("SkylakeX")
    } else if simd::has!("avx2", "fma") {
        Some("Haswell")
    } else {
        None
    }
}

/// Takes the work buffers of `threads` threads now, where limits bound the memory of this process: OpenBLAS keeps
/// them for later calls, and waits for ever where one is refused.
///
/// # Errors
/// When the limits leave too little memory.
pub fn reserve_buffers(threads: usize) -> Result<()> {
    if !memory::is_limited() {
        return Ok(());
    }
    let mut buffers = Vec::with_capacity(threads);
    let mut missing = None;
    for _ in 0..threads {
        let free = memory::available().unwrap_or(usize::MAX);
        if free < BUFFER + REST {
            missing = Some(free);
            break;
        }
        // SAFETY: takes any number, gives a buffer of its own and may be called from any thread.
        buffers.push(unsafe { blas_memory_alloc(0) });
    }
    let taken = buffers.len();
    // SAFETY: each buffer came from blas_memory_alloc and is given back once.
    buffers.into_iter().for_each(|buffer| unsafe { blas_memory_free(buffer) });
    let Some(free) = missing else { return Ok(()) };
    let (needed, megabytes) = ((threads - taken) * BUFFER + REST, 1e6);
    Err(Error::failed(
        "memory",
        format!(
            "products of matrices need {:.0} MB more for {threads} threads, and limits leave {:.0} MB",
            needed as f64 / megabytes,
            free as f64 / megabytes
        ),
        "raise the limit (ulimit -v, or what your cluster calls it) or lower --threads",
    ))
}

/// Makes one thread the rule for BLAS and LAPACK calls, once for the process: the program's own threads work on
/// independent pieces instead, so that no result depends on how many there are. A world of ranks and a device
/// begin with it; [`BlasThreads`] is the exception.
pub fn one_blas_thread() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| set_blas_threads(1));
}

/// While this lives, BLAS and LAPACK calls of the process use several threads. For work beside which nothing else
/// runs.
#[derive(Debug)]
#[must_use]
pub struct BlasThreads(());

impl BlasThreads {
    /// `threads` for each call. One where limits bound the memory: OpenBLAS waits for ever for a buffer that is
    /// refused to a new thread.
    pub fn of(threads: usize) -> BlasThreads {
        one_blas_thread();
        if !memory::is_limited() {
            set_blas_threads(threads);
        }
        BlasThreads(())
    }
}

impl Drop for BlasThreads {
    fn drop(&mut self) {
        set_blas_threads(1);
    }
}

fn set_blas_threads(threads: usize) {
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
