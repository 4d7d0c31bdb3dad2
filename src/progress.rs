//! How far a long job has come: a bar on a terminal, a log line every few seconds elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Set once by the program; libraries and tests stay silent.
static SHOWN: AtomicBool = AtomicBool::new(false);

/// Turns progress on or off for this process: on rank 0 only, and never with `--quiet`.
pub fn show(on: bool) {
    SHOWN.store(on, Ordering::Relaxed);
}

/// Whether progress is told.
pub fn shown() -> bool {
    SHOWN.load(Ordering::Relaxed)
}

/// One job of a known number of steps. May be shared between threads.
pub struct Progress {
    label: String,
    bar: ProgressBar,
    /// When counting began, and what was done by then.
    begun: Mutex<(Instant, u64)>,
    logged: Option<Mutex<Instant>>,
}

impl Progress {
    /// Begins a job of `total` steps.
    pub fn new(label: &str, total: usize) -> Self {
        let shown = shown();
        let terminal = std::io::stderr().is_terminal();
        let target =
            if shown && terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template("{msg:<28} {bar:32} {percent:>3} %  {eta} left")
            .expect("a fixed template is valid");
        let bar = ProgressBar::with_draw_target(Some(total as u64), target)
            .with_style(style)
            .with_message(label.to_string());
        let logged = (shown && !terminal).then(|| Mutex::new(Instant::now()));
        Progress { label: label.to_string(), bar, begun: Mutex::new((Instant::now(), 0)), logged }
    }

    /// `steps` were done before the job began here.
    pub fn skip(&self, steps: usize) {
        self.bar.set_position(steps as u64);
        self.bar.reset_eta();
        if let Ok(mut begun) = self.begun.lock() {
            *begun = (Instant::now(), steps as u64);
        }
    }

    /// How long what is left takes at the pace so far.
    fn left(&self, done: u64, total: u64) -> String {
        let Ok(begun) = self.begun.lock() else { return String::new() };
        match done.saturating_sub(begun.1) {
            0 => String::new(),
            counted => {
                let each = begun.0.elapsed().as_secs_f64() / counted as f64;
                format!(", {} left", duration(each * total.saturating_sub(done) as f64))
            }
        }
    }

    /// `steps` more are done.
    pub fn add(&self, steps: usize) {
        self.bar.inc(steps as u64);
        let Some(logged) = &self.logged else { return };
        let Ok(mut last) = logged.try_lock() else { return };
        if last.elapsed() > Duration::from_secs(5) {
            *last = Instant::now();
            let (done, total) = (self.bar.position(), self.bar.length().unwrap_or(0).max(1));
            let left = self.left(done, total);
            log::info!("{}: {} of {} ({} %){left}", self.label, done, total, 100 * done / total);
        }
    }
}

/// A time in words: `about 3 hours`.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("about {:.0} seconds", s.ceil()),
        s if s < 5400.0 => format!("about {:.0} minutes", s / 60.0),
        s if s < 172_800.0 => format!("about {:.0} hours", s / 3600.0),
        s => format!("about {:.0} days", s / 86_400.0),
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
