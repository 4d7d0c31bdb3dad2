//! The command line: clap structs → checked configuration → run.
//!
//! One file a command. Each has `Args` (what the user may type) and `run` (calls the library, writes results).

mod accuracy;
mod breed;
mod checkpoint;
mod context;
mod dense;
mod doctor;
mod kinds;
mod manual;
mod predictors;
mod effects;
mod gblup;
mod generate;
mod generators;
mod conjugate_gradient;
mod grm;
mod expand;
mod export;
mod fidelity;
mod ignored;
mod import;
mod importance;
mod info;
mod joint;
mod simulate;
mod pca;
mod predict;
mod probes;
mod records;
mod reml;
mod several;
mod study;
mod terms;
mod train;
mod wgan;

pub use context::Context;

use crate::comm::{self, World};
use crate::device;
use crate::error::{Error, Result};
use crate::memory;
use crate::output;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::io::Write;

/// Predicts the traits of animals from their DNA, on one process or many (mpirun, srun).
#[derive(Debug, Parser)]
#[command(name = "genialearn", version = version(), max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// What computes: auto (a GPU where there is one), cpu, cuda, cuda-bf16 (networks round weights to bfloat16),
    /// reference (slow, plain loops) or strict (the same, for tests)
    #[arg(long, global = true, value_name = "NAME", default_value = "auto", help_heading = "Global options")]
    pub device: String,
    /// Threads per rank [default: the node's cores shared by its ranks]
    #[arg(long, global = true, value_name = "N", help_heading = "Global options")]
    pub threads: Option<usize>,
    /// Seed of all random numbers
    #[arg(long, global = true, value_name = "S", default_value_t = 1, help_heading = "Global options")]
    pub seed: u64,
    /// Log level
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        default_value = "info",
        help_heading = "Global options"
    )]
    pub log: log::LevelFilter,
    /// Progress bars and lines: auto or never
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", help_heading = "Global options")]
    pub progress: ProgressWhen,
    /// Print errors only
    #[arg(long, short, global = true, help_heading = "Global options")]
    pub quiet: bool,
}

/// When progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ProgressWhen {
    /// On rank 0: a bar on a terminal, log lines elsewhere.
    Auto,
    /// Not at all.
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a herd of Holstein-like animals: genotypes, traits and the truth behind them
    Simulate(simulate::Args),
    /// Turn genotypes of any format into a store
    Import(import::Args),
    /// Write a store in the format of another program
    Export(export::Args),
    /// Turn records of animals in several environments into a herd with a row a record
    Expand(expand::Args),
    /// Summarise a genotype store, relationship matrix, model or checkpoint
    Info(info::Args),
    /// Make the genomic relationship matrix of a store
    Grm(grm::Args),
    /// Find the principal components of a store
    Pca(pca::Args),
    /// Estimate variance components and heritabilities
    Reml(reml::Args),
    /// Predict breeding values of all animals by GBLUP
    Gblup(gblup::Args),
    /// Apply a model to animals
    Predict(predict::Args),
    /// Train a network or a generator of genotypes
    Train(train::Args),
    /// Generate synthetic genotypes by a trained generator
    Generate(generate::Args),
    /// Compare models across traits and folds, with a report
    Study(study::Args),
    /// Judge synthetic genotypes beside real ones, with a report
    Fidelity(fidelity::Args),
    /// Select generations of a simulated herd by a model's predictions
    Breed(breed::Args),
    /// Tell what this machine and job offer, and what stands in the way
    Doctor(doctor::Args),
    /// Print what makes a shell complete commands and options
    Completions(manual::Completions),
    /// Write man pages
    Manual(manual::Manual),
}

/// The commands by task, as `genialearn` alone shows them.
const TASKS: [(&str, &[&str]); 5] = [
    ("Data", &["simulate", "import", "export", "expand", "info"]),
    ("Relationships, variances, breeding values", &["grm", "pca", "reml", "gblup"]),
    ("Learn and apply", &["train", "predict", "generate"]),
    ("Compare", &["study", "fidelity", "breed"]),
    ("This machine", &["doctor", "completions", "manual", "help"]),
];

/// The version, and the commit where the build knew it.
fn version() -> &'static str {
    match option_env!("GENIALEARN_COMMIT") {
        Some(commit) if !commit.is_empty() => {
            static LONG: std::sync::OnceLock<String> = std::sync::OnceLock::new();
            LONG.get_or_init(|| format!("{} ({commit})", env!("CARGO_PKG_VERSION")))
        }
        _ => env!("CARGO_PKG_VERSION"),
    }
}

/// The command line whose own help shows the commands by task.
fn by_task(mut command: clap::Command) -> clap::Command {
    command.build();
    let help = command.render_help().to_string();
    let listed = help.split_once("Commands:\n").and_then(|(before, rest)| {
        let (_, after) = rest.split_once("\n\n")?;
        Some((before, after))
    });
    let Some((before, after)) = listed else { return command };
    let about = |name: &str| -> String {
        let found = command.get_subcommands().find(|sub| sub.get_name() == name);
        found.and_then(|sub| sub.get_about()).map(ToString::to_string).unwrap_or_default()
    };
    let line = |name: &&str| format!("  {name:<12} {}\n", about(name));
    let tasks =
        TASKS.map(|(task, names)| format!("{task}:\n{}\n", names.iter().map(line).collect::<String>()));
    let help = format!("{before}{}{after}", tasks.concat());
    command.override_help(help)
}

impl Command {
    /// Whether it multiplies matrices: the others do without BLAS.
    fn multiplies(&self) -> bool {
        !matches!(
            self,
            Command::Import(_)
                | Command::Export(_)
                | Command::Expand(_)
                | Command::Info(_)
                | Command::Completions(_)
                | Command::Manual(_)
        )
    }

    fn run(self, context: &mut Context) -> Result<()> {
        match self {
            Command::Import(args) => import::run(args, context),
            Command::Pca(args) => pca::run(args, context),
            Command::Grm(args) => grm::run(args, context),
            Command::Export(args) => export::run(args, context),
            Command::Expand(args) => expand::run(args, context),
            Command::Info(args) => info::run(args, context),
            Command::Simulate(args) => args.run(context),
            Command::Reml(args) => reml::run(args, context),
            Command::Gblup(args) => gblup::run(args, context),
            Command::Predict(args) => predict::run(args, context),
            Command::Train(args) => train::run(args, context),
            Command::Generate(args) => generate::run(args, context),
            Command::Study(args) => study::run(args, context),
            Command::Fidelity(args) => fidelity::run(args, context),
            Command::Breed(args) => breed::run(args, context),
            Command::Doctor(args) => doctor::run(args, context),
            Command::Completions(args) => manual::completions(args, Cli::command(), context),
            Command::Manual(args) => manual::manual(args, Cli::command(), context),
        }
    }
}

/// Runs the program on this process's command line and returns its exit code.
pub fn main() -> i32 {
    // Parsed before MPI starts: `--help` and typing errors need no ranks.
    let mut command = Cli::command();
    if std::env::args().skip(1).all(|word| command.find_subcommand(&word).is_none()) {
        command = by_task(command);
    }
    let parsed = command.try_get_matches().and_then(|matches| {
        ignored::refuse(&matches)?;
        Cli::from_arg_matches(&matches)
    });
    let cli = match parsed {
        Ok(cli) => cli,
        Err(e) => return tell_usage(&e),
    };
    if cli.command.multiplies() {
        device::choose_kernels();
    }
    let world = match World::start() {
        Ok(world) => world,
        Err(e) => {
            tell(&e);
            return e.exit_code();
        }
    };
    context::start_log(&world, &cli.global);
    context::catch_signals();
    memory::when_refused(out_of_memory);
    let result = Context::new(world.clone(), &cli.global).and_then(|mut context| {
        let ready = if cli.command.multiplies() { device::reserve_buffers(context.threads) } else { Ok(()) };
        context.world.agree(ready)?;
        cli.command.run(&mut context)
    });
    // Last resort for a step that failed on some ranks only and was not agreed on before.
    match world.agree(result) {
        Ok(()) => 0,
        Err(e) if world.is_root() => {
            tell(&e);
            tell_finished();
            e.exit_code()
        }
        // One message and one exit code for the job: rank 0's.
        Err(_) => 0,
    }
}

/// Ends all ranks when this one gets no memory.
fn out_of_memory(bytes: usize) -> ! {
    comm::end_job(&Error::failed(
        "memory",
        format!("{:.1} MB more were refused", bytes as f64 / 1e6),
        "raise the limit or use a machine with more memory, more ranks, or fewer --threads",
    ))
}

/// Prints an error in one piece: under `srun` other lines would get between the parts.
fn tell(error: &Error) {
    let _ = std::io::stderr().write_all(format!("error: {error}\n").as_bytes());
}

/// Names the results that were whole before the error, and stay.
fn tell_finished() {
    let names: Vec<String> = output::finished().iter().map(|path| path.display().to_string()).collect();
    if !names.is_empty() {
        let _ =
            writeln!(std::io::stderr(), "note: results that were complete before stay: {}", names.join(", "));
    }
}

/// Prints help or a usage error, once for the whole job. The exit code is rank 0's: a launcher would end it before
/// it has spoken if another rank failed first.
fn tell_usage(e: &clap::Error) -> i32 {
    if !comm::is_first_process() {
        return 0;
    }
    let _ = e.print();
    e.exit_code()
}

/// A number that must lie in a range, for clap's `value_parser`.
pub(crate) fn in_range(text: &str, low: f64, high: f64) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if (low..=high).contains(&x) => Ok(x),
        _ => Err(format!("expected a number from {low} to {high}")),
    }
}

/// A share, 0 to 1.
pub(crate) fn share(text: &str) -> std::result::Result<f64, String> {
    in_range(text, 0.0, 1.0)
}

/// An error about one option.
pub(crate) fn bad_option(option: &str, expected: impl ToString, found: impl ToString, advice: &str) -> Error {
    Error::input(format!("--{option}"), expected, found, advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_stands_under_a_task() {
        let mut listed: Vec<&str> = TASKS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let mut command = Cli::command();
        command.build();
        let mut known: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        listed.sort_unstable();
        known.sort_unstable();
        assert_eq!(listed, known);
        let help = by_task(Cli::command()).render_help().to_string();
        assert!(help.contains("\nCompare:\n  study ") && help.contains("Global options:"), "{help}");
    }
}
