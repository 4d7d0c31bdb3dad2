//! What every command has at hand: the ranks, the seed, the run record.

use super::{bad_option, Global, ProgressWhen};
use crate::comm::{self, World};
use crate::device;
use crate::device::network::Network;
use crate::error::{Error, Result};
use crate::output;
use crate::progress;
use crate::report::record::{Moment, RunRecord};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// The surroundings of one run of a command.
pub struct Context {
    /// The ranks.
    pub world: World,
    /// Seed of all random numbers.
    pub seed: u64,
    /// What computes.
    pub backend: Arc<dyn Network>,
    /// Threads of this rank.
    pub threads: usize,
    /// Whether results go to standard output too.
    pub quiet: bool,
    /// The record that will stand beside the results.
    pub record: RunRecord,
}

impl Context {
    /// Sets up threads and the record from the global options.
    pub fn new(world: World, global: &Global) -> Result<Context> {
        let threads = match global.threads {
            Some(0) => {
                return Err(bad_option("threads", "a positive number", 0, "leave it out for the default"))
            }
            Some(n) if n > comm::processors() => {
                let expected = format!("at most {}, the processors of this machine", comm::processors());
                return Err(bad_option("threads", expected, n, "leave it out for the default"));
            }
            Some(n) => n,
            None => comm::threads_per_rank(),
        };
        // Fails only when a pool exists already, as in tests: then that pool serves.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        let backend = backend(&world, &global.device)?;
        let record = RunRecord::begin(global.seed, world.size(), threads, backend.name());
        Ok(Context { world, seed: global.seed, backend, threads, quiet: global.quiet, record })
    }

    /// Does a named step and notes how long it took.
    pub fn phase<T>(&mut self, name: &str, step: impl FnOnce(&World) -> Result<T>) -> Result<T> {
        log::debug!("{name}");
        let start = Moment::now();
        let result = step(&self.world);
        self.record.phase(name, &start);
        let seconds = self.record.phases.last().map_or(0.0, |phase| phase.seconds);
        log::info!("{name}: {seconds:.2} s");
        result
    }

    /// Notes an input file; every rank agrees when it cannot be read.
    pub fn input(&mut self, path: &Path) -> Result<()> {
        let mut note = || output::note_input(path).and_then(|()| self.record.input(path));
        let noted = if self.world.is_root() { note() } else { Ok(()) };
        self.world.agree(noted)
    }

    /// Writes the run record, with what every rank used, beside the result `prefix`.
    pub fn finish(&mut self, prefix: &Path) -> Result<()> {
        self.record.usage = self.world.all_gather(&self.record.used());
        let path = output::with_suffix(prefix, ".run.json");
        let written = if self.world.is_root() { self.record.write(&path) } else { Ok(()) };
        self.world.agree(written)
    }

    /// Prints a line for the user, on rank 0 and not with `--quiet`.
    pub fn say(&self, line: impl std::fmt::Display) {
        if self.world.is_root() && !self.quiet {
            // A closed pipe (`| head`) is no reason to fail.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    }
}

/// The backend of that name, the same on all ranks: `auto` takes GPUs where every rank can use one.
fn backend(world: &World, name: &str) -> Result<Arc<dyn Network>> {
    let place = comm::place_here();
    if name != "auto" {
        return world.agree(device::open_nth(name, place));
    }
    let gpu = (device::gpus() > 0).then(|| device::open_nth("cuda", place)).transpose();
    let problem = gpu.as_ref().err().map(ToString::to_string);
    let found = world.all_gather(&(matches!(gpu, Ok(Some(_))), problem));
    if let Some((rank, problem)) =
        found.iter().enumerate().find_map(|(rank, (_, why))| Some((rank, why.as_ref()?)))
    {
        let of = if world.size() > 1 { format!(" (rank {rank})") } else { String::new() };
        log::warn!("GPUs are left unused{of}: {problem}");
    }
    match gpu {
        Ok(Some(gpu)) if found.iter().all(|(works, _)| *works) => Ok(gpu),
        _ => device::open("cpu"),
    }
}

/// Log lines go to standard error; only rank 0 informs, the others speak up for errors alone.
pub(super) fn start_log(world: &World, global: &Global) {
    use log::LevelFilter::Error;
    let level = if global.quiet || !world.is_root() { Error } else { global.log };
    env_logger::Builder::new()
        .filter_level(level)
        .format(|out, record| match record.level() {
            log::Level::Info => writeln!(out, "{}", record.args()),
            level => writeln!(out, "{}: {}", level.as_str().to_lowercase(), record.args()),
        })
        .init();
    progress::show(world.is_root() && !global.quiet && global.progress == ProgressWhen::Auto);
}

/// On SIGINT, SIGTERM and SIGHUP: leave no half-written file, end all ranks, exit code 130.
pub(super) fn catch_signals() {
    comm::interrupt::ignore_file_size_signal();
    let handler = || {
        // The solver writes a last checkpoint first.
        if comm::interrupt::ask() {
            return;
        }
        let kept = "no half-written result was left behind".into();
        match comm::is_first_process() {
            true => comm::end_job(&Error::Interrupted { kept }),
            false => comm::abort(130),
        }
    };
    if let Err(e) = ctrlc::set_handler(handler) {
        log::warn!("signals cannot be caught ({e}): interrupting may leave temporary files");
    }
}
