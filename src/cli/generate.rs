//! `genialearn generate`: synthetic genotypes by a trained generator.

use super::{bad_option, Context};
use crate::comm::reduce::Exchange;
use crate::comm::World;
use crate::error::{Error, Result};
use crate::generate::{stream, Conditions, Header, Model};
use crate::nn::Ranks;
use crate::output;
use crate::records::table::Table;
use crate::report::table;
use ndarray::{s, Array2};
use std::path::{Path, PathBuf};

/// Examples at the end of `--help`.
const EXAMPLES: &str = "Examples:
  genialearn generate mosaic.h5 --animals 10000 --out synthetic.h5
  genialearn generate wgan.h5 --condition wanted.tsv --out synthetic.h5
  mpirun -n 4 genialearn generate wgan.h5 --animals 100000 --out synthetic.h5
  genialearn generate wgan.h5 --animals 5000 --start 100001 --out more.h5

Writes a store of animals synthetic_1, synthetic_2, ...: the same for a --seed on any number of ranks.
A generator with conditions gives each animal those of a training animal, drawn at random, or those of
a row of --condition: TSV with the columns id and one a condition, in the units of the traits. The
conditions used are written as TSV (--pheno-out, PREFIX.conditions.tsv by default, PREFIX being the
store's name without .h5), which `fidelity --pheno` reads.";

/// What the user may type.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The generator, as `genialearn train` writes it
    #[arg(value_name = "MODEL.h5")]
    model: PathBuf,
    /// Animals to make [default: one for each row of --condition]
    #[arg(long, value_name = "N", required_unless_present = "condition")]
    animals: Option<usize>,
    /// Conditions, one row an animal [default: those of training animals]
    #[arg(long, value_name = "FILE")]
    condition: Option<PathBuf>,
    /// Number of the first animal: to go on where earlier animals of the same seed end
    #[arg(long, value_name = "K", default_value_t = 1)]
    start: u64,
    /// The store to write
    #[arg(long, short, value_name = "STORE.h5")]
    out: PathBuf,
    /// The conditions used [default: PREFIX.conditions.tsv]
    #[arg(long, value_name = "FILE")]
    pheno_out: Option<PathBuf>,
    /// Replace existing files
    #[arg(long)]
    force: bool,
}

/// Reads the generator, draws, writes.
pub fn run(args: Args, context: &mut Context) -> Result<()> {
    context.world.agree(args.check())?;
    context.input(&args.model)?;
    let header = Header::read(&context.world, &args.model)?;
    args.refuse(&context.world, header.conditions.is_some())?;
    let given = args.given(context, header.conditions.as_ref())?;
    let kind = context.world.agree(header.known_kind(&args.model))?;
    let parts = kind.parts(context.world.size(), header.variants.len())?;
    let ranks = Ranks::new(&context.world, &context.backend, parts, Exchange::Host)?;
    let device = context.backend.clone();
    let mut model = context.phase("read generator", |_| Model::read(&ranks, &device, &args.model))?;
    let animals = args.animals.or(given.as_ref().map(Array2::nrows)).unwrap_or(0);
    let conditions = given.as_ref().map(|c| c.slice(s![..animals, ..]));
    let request = stream::Request { animals, first: args.start - 1, conditions, seed: context.seed };
    context.phase("generate", |_| stream::to_store(&mut model, &ranks, &request, &args.out, args.force))?;
    context.phase("write conditions", |world| {
        let Some(known) = &model.header.conditions else { return Ok(()) };
        world.on_root(|| {
            let values = stream::conditions(&model, &request).expect("the generator takes conditions");
            let (path, ids) = (args.conditions_path(), request.names());
            table::write_matrix(&path, args.force, ("id", &ids), &known.names, values.view())
        })
    })?;
    let (kind, m) = (kind.name, model.header.variants.len());
    context.say(format_args!("{animals} animals x {m} SNPs by {kind}: {}", args.out.display()));
    context.finish(&args.prefix())
}

impl Args {
    fn check(&self) -> Result<()> {
        if self.animals == Some(0) {
            return Err(bad_option("animals", "a positive number", 0, "ask for at least one"));
        }
        if self.start == 0 || self.start > 1 << 62 {
            return Err(bad_option("start", "a number from 1 on", self.start, "the first animal is 1"));
        }
        Ok(())
    }

    /// The store's name without ending.
    fn prefix(&self) -> PathBuf {
        self.out.with_extension("")
    }

    fn conditions_path(&self) -> PathBuf {
        let usual = || output::with_suffix(&self.prefix(), ".conditions.tsv");
        self.pheno_out.clone().unwrap_or_else(usual)
    }

    fn refuse(&self, world: &World, conditional: bool) -> Result<()> {
        world.on_root(|| {
            output::refuse_existing(&self.out, self.force)?;
            match (conditional, &self.pheno_out) {
                (true, _) => output::refuse_existing(&self.conditions_path(), self.force),
                (false, None) => Ok(()),
                (false, Some(path)) => {
                    let advice = "leave it out, or train a generator with --condition";
                    Err(bad_option("pheno-out", "a generator with conditions", path.display(), advice))
                }
            }
        })
    }

    /// The conditions of the file, (rows, c) in the model's order.
    fn given(&self, context: &mut Context, known: Option<&Conditions>) -> Result<Option<Array2<f64>>> {
        let Some(path) = &self.condition else { return Ok(None) };
        context.input(path)?;
        context.world.on_root(|| {
            let Some(known) = known else {
                let advice = "leave it out, or train a generator with --condition";
                return Err(bad_option("condition", "a generator with conditions", "one without", advice));
            };
            let values = read_conditions(path, known)?;
            match self.animals {
                Some(n) if n > values.nrows() => {
                    let expected = format!("conditions of {n} animals");
                    let advice = "add rows, or ask for fewer --animals";
                    Err(Error::input(path.display(), expected, values.nrows(), advice))
                }
                _ => Ok(Some(values)),
            }
        })
    }
}

/// The columns of a table that a generator wants, one row an animal.
fn read_conditions(path: &Path, known: &Conditions) -> Result<Array2<f64>> {
    let table = Table::read(path, None)?;
    let columns = table.find(&known.names)?;
    let mut values = Array2::zeros((table.ids().len(), columns.len()));
    for ((row, k), value) in values.indexed_iter_mut() {
        *value = table.number(row, columns[k])?.ok_or_else(|| {
            let advice = "a generated animal needs all of its conditions";
            Error::input(table.place(row, columns[k]), "a number", "none", advice)
        })?;
    }
    Ok(values)
}
