//! Being asked to stop (SIGINT, SIGTERM, SIGHUP) at a time when something is worth keeping.

use super::{abort, World};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};

static LISTENING: AtomicBool = AtomicBool::new(false);
static ASKED: AtomicBool = AtomicBool::new(false);
/// What [`exit_soon`] ends this process with.
static CODE: AtomicI32 = AtomicI32::new(1);
/// Seconds that an orderly end may take.
const PATIENCE: u32 = 2;

/// Long work that can stop in good order. While it exists a first signal waits for [`Listener::asked`].
#[derive(Debug)]
pub struct Listener {
    heard: bool,
}

impl Listener {
    /// Begins to listen.
    pub fn begin() -> Listener {
        LISTENING.store(true, SeqCst);
        Listener { heard: false }
    }

    /// Whether any rank was asked to stop. To be called by all ranks.
    pub fn asked(&mut self, world: &World) -> bool {
        let any = any_asked(world);
        self.heard |= any;
        any
    }
}

/// Whether any rank was asked to stop while somebody listens: for long work between two questions of the
/// [`Listener`], which is then to be given up. To be called by all ranks; nothing is sent where nobody listens.
pub fn pending(world: &World) -> bool {
    LISTENING.load(SeqCst) && any_asked(world)
}

/// Whether any rank was asked to stop. To be called by all ranks.
fn any_asked(world: &World) -> bool {
    let mut any = [i32::from(ASKED.load(SeqCst))];
    world.max(&mut any);
    any[0] > 0
}

impl Drop for Listener {
    fn drop(&mut self) {
        LISTENING.store(false, SeqCst);
        // Asked after the last time that anybody looked.
        if ASKED.load(SeqCst) && !self.heard {
            abort(130);
        }
    }
}

/// What a signal handler does first: whether somebody listens, who was not asked before.
pub fn ask() -> bool {
    LISTENING.load(SeqCst) && !ASKED.swap(true, SeqCst)
}

/// Ends this process in [`PATIENCE`] seconds, wherever its threads are by then: an orderly end may wait for a lock
/// that a thread inside BLAS, HDF5 or MPI holds. The launcher ends the other ranks.
pub(super) fn exit_soon(code: i32) {
    extern "C" fn end(_: libc::c_int) {
        exit_now(CODE.load(SeqCst));
    }
    CODE.store(code, SeqCst);
    // SAFETY: `end` calls nothing but `_exit`, which is allowed in a handler of signals (POSIX.1, 2.4.3).
    unsafe {
        libc::signal(libc::SIGALRM, end as extern "C" fn(libc::c_int) as libc::sighandler_t);
        libc::alarm(PATIENCE);
    }
}

/// Ends this process without the libraries' own endings, which may wait for their locks.
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no conditions.
    unsafe { libc::_exit(code) }
}

/// A file that grows beyond the limit (`ulimit -f`) is an error of writing, like a full disk, not a deadly signal.
pub fn ignore_file_size_signal() {
    // SAFETY: the signal is given its standard disposition "ignore".
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}
