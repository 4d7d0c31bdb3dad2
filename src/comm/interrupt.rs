//! Being asked to stop (SIGINT, SIGTERM, SIGHUP) at a time when something is worth keeping.

use super::{abort, World};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

static LISTENING: AtomicBool = AtomicBool::new(false);
static ASKED: AtomicBool = AtomicBool::new(false);

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
        let mut any = [i32::from(ASKED.load(SeqCst))];
        world.max(&mut any);
        self.heard |= any[0] > 0;
        any[0] > 0
    }
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
