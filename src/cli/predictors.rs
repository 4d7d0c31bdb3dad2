//! `genialearn train KIND` for models that predict traits: one command for each kind in the table of the library.

use super::records::Tables;
use super::train::{refuse_curve, write_curve};
use super::Context;
use crate::config::Settings;
use crate::error::Result;
use crate::lines;
use crate::output;
use crate::predict::learner::{Trained, Training};
use crate::predict::{mlp, save, Data, Kind, KINDS};
use clap::{ArgMatches, Args as _, Command, FromArgMatches, Subcommand};
use std::path::PathBuf;

/// A kind of model, and what the user typed behind it.
#[derive(Debug)]
pub struct Predictor {
    kind: &'static str,
    args: Common,
}

/// What the user may type for every kind.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    #[command(flatten)]
    pub tables: Tables,
    /// How it learns, in TOML (see --help)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The model
    #[arg(long, short, value_name = "MODEL.h5")]
    pub out: PathBuf,
    /// Replace existing results
    #[arg(long)]
    pub force: bool,
}

impl FromArgMatches for Predictor {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Self, clap::Error> {
        let (name, matches) = matches
            .subcommand()
            .ok_or_else(|| clap::Error::new(clap::error::ErrorKind::MissingSubcommand))?;
        let kind =
            Kind::named(name).ok_or_else(|| clap::Error::new(clap::error::ErrorKind::InvalidSubcommand))?;
        Ok(Predictor { kind: kind.name, args: Common::from_arg_matches(matches)? })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> std::result::Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Subcommand for Predictor {
    fn augment_subcommands(command: Command) -> Command {
        let of = |kind: &Kind| {
            Common::augment_args(Command::new(kind.name)).about(kind.about).after_long_help(examples(kind))
        };
        command.subcommands(shared().map(of))
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        shared().any(|kind| kind.name == name)
    }
}

/// The kinds that share one command; networks of genotypes have their own.
fn shared() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().filter(|kind| kind.name != mlp::KIND.name)
}

/// The end of a kind's `--help`.
fn examples(kind: &Kind) -> String {
    let name = kind.name;
    format!(
        "Examples:\n  genialearn train {name} cows.h5 --pheno traits.tsv --out {name}.h5\n  \
         genialearn train {name} cows.h5 --pheno traits.tsv --config {name}.toml --out {name}.h5\n  \
         genialearn predict {name}.h5 calves.h5 --out calves\n\n\
         Writes the model and, of networks, beside it PREFIX.curve.tsv and PREFIX.curve.svg, PREFIX being the\n\
         model's name without .h5. `genialearn study` compares kinds; docs/study.md tells what is computed.\n\
         --config names a TOML file, in which any of these may stand (shown with their defaults):\n\n{}",
        kind.defaults()
    )
}

/// The settings in a file that was read, or the defaults.
pub(super) fn of_file(file: &Option<(String, PathBuf)>) -> Settings<'_> {
    file.as_ref().map_or(Settings::Default, |(text, path)| Settings::File(text, path))
}

impl Common {
    /// The model's name without ending.
    pub fn prefix(&self) -> PathBuf {
        self.out.with_extension("")
    }

    /// Refuses to write over earlier results; on the root.
    pub fn refuse(&self) -> Result<()> {
        output::refuse_existing(&self.out, self.force)?;
        refuse_curve(&self.prefix(), self.force)
    }

    /// The text of the configuration, read by the root, and its file.
    pub fn settings(&self, context: &mut Context) -> Result<Option<(String, PathBuf)>> {
        let Some(path) = &self.config else { return Ok(None) };
        context.input(path)?;
        Ok(Some((context.world.on_root(|| lines::read_text(path))?, path.clone())))
    }
}

impl Predictor {
    /// Reads, trains, writes.
    pub fn run(self, context: &mut Context) -> Result<()> {
        let (args, kind) = (self.args, Kind::named(self.kind).expect("found while parsing"));
        context.world.on_root(|| args.refuse())?;
        let file = args.settings(context)?;
        let learner = context.world.agree((kind.configure)(of_file(&file)))?;
        let (store, records) = args.tables.read(context)?;
        let data = Data::new(&context.world, context.backend.clone(), &store);
        let set = Training::all(records, context.seed);
        let Trained { model, curve } = context.phase("train", |_| learner.train(&data, &set))?;
        context.phase("write results", |world| {
            let write = || {
                if !curve.is_empty() {
                    write_curve(&args.prefix(), args.force, &curve)?;
                }
                model.as_ref().map_or(Ok(()), |model| save(&**model, &args.out, args.force))
            };
            world.agree(if world.is_root() { write() } else { Ok(()) })
        })?;
        let epochs = if curve.is_empty() { String::new() } else { format!(", {} epochs", curve.len()) };
        context.say(format_args!(
            "{}: {} of {} traits{epochs}",
            args.out.display(),
            kind.name,
            set.records.traits.len()
        ));
        context.finish(&args.prefix())
    }
}
