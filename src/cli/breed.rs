//! `breed`: generations of selection in a simulated herd.

use super::Context;
use crate::error::Result;
use crate::evaluate::selection::{self, Criterion, Line, SelectionConfig, Step};
use crate::output;
use crate::report::picture::{self, Frame, Series};
use crate::report::table::Table;
use std::path::{Path, PathBuf};

/// Shown after `--help`.
const EXAMPLES: &str = "\
Examples:
  genialearn breed examples/selection.toml --out selection
  mpirun -n 4 genialearn breed examples/selection.toml --out selection

GBLUP and DLGBLUP learn once, from a simulated herd without its youngest animals. These are the first
candidates; in each generation the best candidates mate at random and their offspring are the next ones. Parents
are chosen trait by trait by GBLUP, by DLGBLUP, by an own record, or by chance. PREFIX.tsv has the true genetic gain by
generations, PREFIX.TRAIT.svg pictures of it. Keys of SELECTION.toml, with their defaults (h2: none):

  h2 = 0.3             # of all traits; estimated when left out

  [simulate]           # as in `simulate --config`

  [selection]
  generations = 7
  candidates = 1000    # in each generation; as many of the herd have no record
  parents = 100        # the best of them
  repeats = 5          # herds, with the seeds --seed, --seed + 1, ...

  [dlgblup]            # as in `train dlgblup --config`";

/// What the user may type.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Herd, scheme and models (TOML)
    #[arg(value_name = "SELECTION.toml")]
    config: PathBuf,
    /// Start of the names of the results
    #[arg(long, short, value_name = "PREFIX")]
    out: PathBuf,
    /// Replace existing results
    #[arg(long)]
    force: bool,
}

/// Simulates, trains, selects, writes.
pub fn run(args: Args, context: &mut Context) -> Result<()> {
    let config = context.world.on_root(|| SelectionConfig::read(&args.config))?;
    context.input(&args.config)?;
    let names: Vec<String> = config.simulate.selected().iter().map(|t| t.name.clone()).collect();
    let named = |suffix: &str| output::with_suffix(&args.out, suffix);
    let pictures: Vec<PathBuf> =
        names.iter().map(|name| named(&format!(".{}.svg", output::file_name(name)))).collect();
    let table = named(".tsv");
    context.world.on_root(|| {
        pictures.iter().chain([&table]).try_for_each(|path| output::refuse_existing(path, args.force))
    })?;
    let (seed, device) = (context.seed, context.backend.clone());
    let mut steps: Vec<Step> = Vec::new();
    for repeat in 0..config.selection.repeats {
        steps.extend(context.phase(&format!("herd {}", repeat + 1), |world| {
            selection::run(world, &device, &config, repeat, seed.wrapping_add(repeat as u64))
        })?);
    }
    let lines = selection::summarise(&steps);
    context.phase("write results", |world| {
        world.on_root(|| {
            write_table(&table, args.force, &names, &lines)?;
            pictures.iter().enumerate().try_for_each(|(number, path)| {
                let svg = picture(&names[number], &lines, number);
                output::write_file(path, args.force, |out| out.write_all(svg.as_bytes()))
            })
        })
    })?;
    let last = config.selection.generations;
    for line in lines.iter().filter(|l| l.criterion == Criterion::Dlgblup && l.generation == last) {
        let (name, over) = (&names[line.number], line.over_gblup);
        context
            .say(format_args!("{name}: DLGBLUP gains {:+.3} ± {:.3} more than GBLUP", over.mean, over.error));
    }
    context.finish(&args.out)
}

/// One line a trait, criterion and generation.
fn write_table(path: &Path, force: bool, names: &[String], lines: &[Line]) -> Result<()> {
    let columns = [
        "trait",
        "criterion",
        "generation",
        "gain",
        "gain_se",
        "over_gblup",
        "over_gblup_se",
        "genetic_sd",
        "accuracy",
    ];
    let mut table = Table::new(&columns);
    for l in lines {
        table.push(vec![
            names[l.number].as_str().into(),
            l.criterion.name().into(),
            l.generation.into(),
            l.gain.mean.into(),
            l.gain.error.into(),
            l.over_gblup.mean.into(),
            l.over_gblup.error.into(),
            l.spread.into(),
            l.accuracy.into(),
        ]);
    }
    table.write(path, force)
}

/// Gain by generations.
fn picture(name: &str, lines: &[Line], number: usize) -> String {
    let series = Criterion::ALL.map(|criterion| {
        let own = || lines.iter().filter(move |l| (l.number, l.criterion) == (number, criterion));
        Series {
            name: criterion.name().into(),
            points: own().map(|l| (l.generation as f64, l.gain.mean)).collect(),
            errors: own().map(|l| l.gain.error).collect(),
        }
    });
    let title = format!("Genetic gain of {name} by what parents are chosen by");
    picture::lines(&Frame::new(&title, "generation", "gain in genetic sd"), &series)
}
