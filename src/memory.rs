//! Memory in large pages, where the system has them: first touching small ones may cost more than the work on them,
//! and what is read here and there is found sooner in large ones.

use crate::error::{Error, Result};
use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::OnceLock;

/// Room for `length` elements.
pub fn room<T>(length: usize) -> Vec<T> {
    let mut room: Vec<T> = Vec::with_capacity(length);
    let memory = room.spare_capacity_mut();
    advise(memory.as_mut_ptr().cast(), size_of_val(memory));
    room
}

/// `length` zeros, which take no memory before they are touched.
pub fn zeroed<T: Copy + Default>(length: usize) -> Vec<T> {
    let mut zeros = vec![T::default(); length];
    advise(zeros.as_mut_ptr().cast(), size_of_val(&zeros[..]));
    zeros
}

/// Whether this process's own limits bound its memory (`ulimit -v`, `ulimit -d`), so that asking for more may fail.
pub fn is_limited() -> bool {
    limits().is_some()
}

/// Ends the process with `code`. Where memory is limited, libraries get no time for their ends: OpenBLAS would wait for
/// threads that wait for buffers.
pub fn leave(code: i32) -> ! {
    if is_limited() {
        let _ = std::io::stdout().flush();
        // SAFETY: ends the process at once; standard output is written, and all results have their names.
        unsafe { libc::_exit(code) }
    }
    std::process::exit(code)
}

/// What is done when memory is refused: told how many bytes were asked for, it ends the process.
static WHEN_REFUSED: OnceLock<fn(usize) -> !> = OnceLock::new();

/// Sets what happens when memory is refused, once for the process; else it aborts without a sentence.
pub fn when_refused(end: fn(usize) -> !) {
    let _ = WHEN_REFUSED.set(end);
}

/// The system's allocator, which says so in a sentence when memory is refused.
#[derive(Debug)]
pub struct Allocator;

impl Allocator {
    /// Passes memory on, or ends the process where there is none.
    fn told(memory: *mut u8, bytes: usize) -> *mut u8 {
        static REFUSED: AtomicBool = AtomicBool::new(false);
        // The second time it is the sentence itself that finds no memory.
        if memory.is_null() && !REFUSED.swap(true, Ordering::SeqCst) {
            if let Some(end) = WHEN_REFUSED.get() {
                end(bytes);
            }
        }
        memory
    }
}

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        Self::told(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc_zeroed`.
        Self::told(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::realloc`.
        Self::told(unsafe { System.realloc(memory, layout, size) }, size)
    }
}

/// Bytes that this process could still use: the least of what the machine has free, what the control groups leave
/// (Slurm's `--mem`, containers) and what its own limits leave (`ulimit -v`, `ulimit -d`). `None` where nothing tells.
pub fn available() -> Option<usize> {
    available_below(Path::new("/")).into_iter().chain(limits()).min()
}

/// Whether `bytes` more fit into the memory of this machine.
///
/// # Errors
/// Where they do not: `what` needs them, and `advice` says what to do.
pub fn require(bytes: f64, what: impl Display, advice: &str) -> Result<()> {
    require_of(available(), bytes, what, advice)
}

fn require_of(available: Option<usize>, bytes: f64, what: impl Display, advice: &str) -> Result<()> {
    match available {
        Some(free) if bytes > free as f64 => {
            let (needed, free) = (bytes / 1e9, free as f64 / 1e9);
            let problem =
                format!("{needed:.1} GB of memory are needed on this machine, {free:.1} GB are free");
            Err(Error::failed(what, problem, advice))
        }
        _ => Ok(()),
    }
}

/// The same of the machine and the control groups, as files below `root` tell.
fn available_below(root: &Path) -> Option<usize> {
    let text = |path: PathBuf| std::fs::read_to_string(path).ok();
    let machine = text(root.join("proc/meminfo")).and_then(|t| kilobytes(&t, "MemAvailable:"));
    let groups = text(root.join("proc/self/cgroup")).unwrap_or_default();
    let left = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next(), parts.next().unwrap_or(""), parts.next().unwrap_or("/"));
        let (top, limits, usage): (_, &[&str], _) = match controllers {
            "" => ("sys/fs/cgroup", &["memory.max", "memory.high"], "memory.current"),
            c if c.split(',').any(|c| c == "memory") => {
                ("sys/fs/cgroup/memory", &["memory.limit_in_bytes"], "memory.usage_in_bytes")
            }
            _ => return Vec::new(),
        };
        // A group has no more than any group above it.
        let above = Path::new(path.trim_start_matches('/')).ancestors();
        above.filter_map(|group| left_in(&root.join(top).join(group), limits, usage)).collect()
    });
    left.chain(machine).min()
}

/// What the limits of one group leave; `None` where there is none ("max" is no number).
fn left_in(group: &Path, limits: &[&str], usage: &str) -> Option<usize> {
    let number = |name: &str| std::fs::read_to_string(group.join(name)).ok()?.trim().parse::<usize>().ok();
    let limit = limits.iter().filter_map(|name| number(name)).min()?;
    // File pages that nobody used lately count as used, but are given back when memory is short.
    let stat = std::fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let pages =
        |name: &str| stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<usize>().ok());
    let returned = pages("total_inactive_file ").or_else(|| pages("inactive_file ")).unwrap_or(0);
    Some(limit.saturating_sub(number(usage).unwrap_or(0).saturating_sub(returned)))
}

/// What this process's limits on address space and data leave.
fn limits() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let left = |resource, used: &str| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: only writes the limit whose address it is given.
        let told = unsafe { libc::getrlimit(resource, &mut limit) } == 0;
        let limit =
            usize::try_from(limit.rlim_cur).ok().filter(|_| told && limit.rlim_cur != libc::RLIM_INFINITY);
        limit.map(|limit| limit.saturating_sub(kilobytes(&status, used).unwrap_or(0)))
    };
    [left(libc::RLIMIT_AS, "VmSize:"), left(libc::RLIMIT_DATA, "VmData:")].into_iter().flatten().min()
}

/// Bytes in the line of a file of /proc that begins with `name`.
fn kilobytes(text: &str, name: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

/// Asks for large pages from `start` on. The advice changes no contents; it may be refused, which changes nothing.
fn advise(start: *mut u8, bytes: usize) {
    const LARGE: usize = 2 << 20;
    #[cfg(target_os = "linux")]
    if bytes >= LARGE {
        const PAGE: usize = 4096;
        let skip = start.align_offset(PAGE);
        // SAFETY: only whole pages of the memory are named; the advice neither reads nor writes them.
        unsafe {
            libc::madvise(start.add(skip).cast(), (bytes - skip) / PAGE * PAGE, libc::MADV_HUGEPAGE);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (start, bytes, LARGE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_of_machine_and_groups_is_available() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let found = || available_below(root.path());
        assert_eq!(found(), None);
        write("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n");
        assert_eq!(found(), Some(8_192_000));
        // Version 2: the group itself has no limit, the job above it has.
        write("proc/self/cgroup", "0::/job/step\n");
        write("sys/fs/cgroup/job/step/memory.max", "max\n");
        write("sys/fs/cgroup/job/memory.max", "5000000\n");
        write("sys/fs/cgroup/job/memory.current", "1000000\n");
        assert_eq!(found(), Some(4_000_000));
        write("sys/fs/cgroup/job/memory.stat", "anon 600000\ninactive_file 400000\n");
        assert_eq!(found(), Some(4_400_000));
        write("sys/fs/cgroup/job/step/memory.high", "3000000\n");
        assert_eq!(found(), Some(3_000_000));
        // Version 1, used beyond its limit.
        write("proc/self/cgroup", "4:cpu,memory:/a\n1:name=systemd:/b\n");
        write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "2000000\n");
        write("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "500000\n");
        assert_eq!(found(), Some(1_500_000));
        write("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "2500000\n");
        assert_eq!(found(), Some(0));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_both_numbers() {
        let required = |free, bytes| require_of(free, bytes, "G of 9 animals", "take fewer");
        assert!(required(Some(1000), 1000.0).is_ok() && required(None, 1e30).is_ok());
        let told = required(Some(2_500_000_000), 2.6e9).unwrap_err().to_string();
        assert!(told.contains("G of 9 animals") && told.contains("2.6 GB"), "{told}");
        assert!(told.contains("2.5 GB are free") && told.contains("take fewer"), "{told}");
    }

    #[test]
    fn memory_of_any_size_is_usable() {
        for length in [0, 1, 1000, (2 << 20) / 8, 1_000_003] {
            let mut filled = room(length);
            filled.resize(length, 3u64);
            assert_eq!(filled.iter().sum::<u64>(), 3 * length as u64);
            assert!(zeroed::<i64>(length).iter().all(|&x| x == 0) && zeroed::<u8>(length).len() == length);
        }
    }
}
