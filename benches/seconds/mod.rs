//! CPU seconds, as all benches count them: on a shared machine wall time says little.

/// CPU seconds of all threads so far, of this process (`RUSAGE_SELF`) or of its children that have ended
/// (`RUSAGE_CHILDREN`).
pub fn cpu_seconds(whose: libc::c_int) -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: getrusage writes one rusage to the address, which holds one; all-zero is a valid rusage.
    let usage = unsafe {
        libc::getrusage(whose, usage.as_mut_ptr());
        usage.assume_init()
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 * 1e-6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// CPU seconds of some work.
pub fn cost(whose: libc::c_int, work: impl FnOnce()) -> f64 {
    let start = cpu_seconds(whose);
    work();
    cpu_seconds(whose) - start
}
