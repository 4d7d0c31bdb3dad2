//! Subcommands from a table of kinds in the library: one command for each, all with the same options.

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Command, FromArgMatches, Subcommand};
use std::fmt::{self, Debug, Formatter};

/// A kind in a table of the library.
pub(super) trait Listed: Sized + 'static {
    /// What the user may type behind its name.
    type Options: Args;

    /// The kinds that share one command; others have their own.
    fn shared() -> impl Iterator<Item = &'static Self>;

    /// The word for it, and what it is in a line.
    fn words(&self) -> (&'static str, &'static str);

    /// The end of its `--help`.
    fn examples(&self) -> String;
}

/// A kind, and what the user typed behind it.
pub(super) struct Chosen<K: Listed> {
    pub kind: &'static K,
    pub args: K::Options,
}

fn named<K: Listed>(name: &str) -> Option<&'static K> {
    K::shared().find(|kind| kind.words().0 == name)
}

impl<K: Listed> Debug for Chosen<K> {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        f.write_str(self.kind.words().0)
    }
}

impl<K: Listed> FromArgMatches for Chosen<K> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let (name, matches) =
            matches.subcommand().ok_or_else(|| clap::Error::new(ErrorKind::MissingSubcommand))?;
        let kind = named(name).ok_or_else(|| clap::Error::new(ErrorKind::InvalidSubcommand))?;
        Ok(Chosen { kind, args: K::Options::from_arg_matches(matches)? })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<K: Listed> Subcommand for Chosen<K> {
    fn augment_subcommands(command: Command) -> Command {
        let of = |kind: &K| {
            let (name, about) = kind.words();
            K::Options::augment_args(Command::new(name)).about(about).after_long_help(kind.examples())
        };
        command.subcommands(K::shared().map(of))
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        named::<K>(name).is_some()
    }
}
