//! `genialearn completions` and `genialearn manual`: made from the same definitions as `--help`.

use super::Context;
use crate::error::{Error, Result};
use crate::output;
use clap::Command;
use std::path::PathBuf;

/// What the user may type for completions.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  genialearn completions bash > ~/.local/share/bash-completion/completions/genialearn
  genialearn completions zsh > ~/.zfunc/_genialearn")]
pub struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

/// What the user may type for man pages.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  genialearn manual --out ~/.local/share/man/man1     (then: man genialearn-study)")]
pub struct Manual {
    /// Folder for one page a command
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// Replace existing files
    #[arg(long)]
    force: bool,
}

/// Prints what makes a shell complete commands and options.
pub fn completions(args: Completions, mut cli: Command, context: &Context) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut cli, "genialearn", &mut text);
    context.say(String::from_utf8_lossy(&text).trim_end());
    Ok(())
}

/// Writes a man page for the program and each command.
pub fn manual(args: Manual, mut cli: Command, context: &Context) -> Result<()> {
    cli.build();
    let mut pages = vec![("genialearn".to_owned(), cli.clone())];
    for sub in cli.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let name = format!("genialearn-{}", sub.get_name());
        pages.push((name, sub.clone()));
    }
    context.world.on_root(|| {
        std::fs::create_dir_all(&args.out).map_err(|e| Error::writing(&args.out, &e))?;
        pages.into_iter().try_for_each(|(name, command)| {
            let mut page = Vec::new();
            let path = args.out.join(format!("{name}.1"));
            clap_mangen::Man::new(command).render(&mut page).map_err(|e| Error::writing(&path, &e))?;
            output::write_file(&path, args.force, |w| w.write_all(&page))
        })
    })
}
