//! `genialearn train KIND` for generators: one command for each kind in the table of the library.

use super::kinds::{Chosen, Listed};
use super::records::refuse;
use super::{bad_option, checkpoint, Context};
use crate::error::Result;
use crate::generate::{wgan_gp, Conditions, Curve, Herd, Kind, Model, Recipe, Setting, KINDS};
use crate::genotype::Store;
use crate::lines;
use crate::nn::checkpointer::{Checkpointer, Fingerprint};
use crate::nn::Ranks;
use crate::output;
use crate::records::{Columns, Phenotypes, Sources};
use crate::report::picture::{self, Frame, Series};
use crate::report::table::number;
use ndarray::Axis;
use std::path::{Path, PathBuf};

/// Epochs after which the state is kept.
const EVERY: usize = 10;

/// What the user may type.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    /// The animals to learn from
    #[arg(value_name = "STORE.h5")]
    store: PathBuf,
    /// How it learns, in TOML (see --help)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Traits to generate by: TSV with the columns id (or IID) and one a trait
    #[arg(long, value_name = "FILE", requires = "condition")]
    pheno: Option<PathBuf>,
    /// The traits that generated animals are asked to have; animals without a record are left out
    #[arg(long, value_name = "A,B", value_delimiter = ',', requires = "pheno")]
    pub condition: Vec<String>,
    /// The model
    #[arg(long, short, value_name = "MODEL.h5")]
    pub out: PathBuf,
    /// Replace existing results
    #[arg(long)]
    pub force: bool,
    /// Go on from PREFIX.checkpoint (wgan, vae, gan, ddpm)
    #[arg(long)]
    pub resume: bool,
}

/// A kind, and what the user typed behind it.
pub(super) type Generator = Chosen<Kind>;

impl Listed for Kind {
    type Options = Common;

    fn shared() -> impl Iterator<Item = &'static Kind> {
        KINDS.iter().filter(|kind| kind.name != wgan_gp::KIND.name)
    }

    fn words(&self) -> (&'static str, &'static str) {
        (self.name, self.about)
    }

    fn examples(&self) -> String {
        examples(self)
    }
}

/// The end of a kind's `--help`.
fn examples(kind: &Kind) -> String {
    let name = kind.name;
    let mut text = format!("Examples:\n  genialearn train {name} cows.h5 --out {name}.h5\n");
    if kind.conditional {
        text += &format!(
            "  genialearn train {name} cows.h5 --pheno traits.tsv --condition milk --out {name}.h5\n"
        );
    }
    text += &format!("  genialearn generate {name}.h5 --animals 10000 --out synthetic.h5\n");
    text += "  genialearn fidelity cows.h5 synthetic.h5 --out fidelity\n\n";
    if kind.resumes {
        text += "PREFIX.checkpoint is kept every ten epochs and when training is interrupted; --resume goes on from it to the\n\
                 same bytes. ";
    }
    text += "Calls that are missing are drawn by the SNP's genotype frequencies. docs/generators.md tells what is computed.";
    match kind.defaults() {
        empty if empty.is_empty() => text,
        defaults => text
            + "\n--config names a TOML file, in which any of these may stand (shown with their defaults):\n\n"
            + &defaults,
    }
}

impl Generator {
    /// Reads, trains, writes.
    pub fn run(self, context: &mut Context) -> Result<()> {
        let Chosen { kind, args } = self;
        args.refuse(context)?;
        if !kind.conditional && !args.condition.is_empty() {
            let advice = "leave it out, or train another kind";
            let expected = format!("a kind with conditions, which {} is not", kind.name);
            return Err(bad_option("condition", expected, args.condition.join(","), advice));
        }
        let recipe = args.recipe(kind, context)?;
        checkpoint::refuse_resume(args.resume, kind.resumes, kind.name, "it learns in a moment")?;
        let store = args.open(context)?;
        let (rows, conditions) = args.conditions(context, &store)?;
        let ranks = recipe.ranks(&context.world, &context.backend, kind.split, store.n_variants())?;
        let seed = context.seed;
        let herd =
            context.phase("read genotypes", |_| Herd::read(&ranks, &store, &rows, conditions, seed))?;
        let device = context.backend.clone();
        let setting = Setting { ranks: &ranks, device: &device, seed };
        let path = checkpoint::path(&args.prefix());
        let fingerprint = args.fingerprint(context, &ranks, vec![(kind.name.into(), recipe.text())]);
        let mut checkpointer = Checkpointer::new(&context.world, &path, fingerprint, EVERY, args.resume);
        let checkpointer = kind.resumes.then_some(&mut checkpointer);
        let trained = context.phase("train", |_| recipe.train(&setting, &herd, checkpointer))?;
        let model = Model::new(kind, &*recipe, &herd, trained.generator);
        context.phase("write results", |world| {
            world.on_root(|| write_curve(&args.prefix(), args.force, kind, &trained.curve))?;
            model.write(&ranks, &args.out, args.force)
        })?;
        let (n, m) = (herd.animals(), herd.variants.len());
        context.say(format_args!("{}: {} of {n} animals x {m} SNPs", args.out.display(), kind.name));
        context.finish(&args.prefix())?;
        checkpoint::remove(&context.world, &checkpoint::path(&args.prefix()));
        Ok(())
    }
}

impl Common {
    /// The model's name without ending.
    pub fn prefix(&self) -> PathBuf {
        self.out.with_extension("")
    }

    /// Refuses to write over earlier results, and over a checkpoint that a run could go on from.
    pub fn refuse(&self, context: &Context) -> Result<()> {
        context.world.on_root(|| {
            output::refuse_existing(&self.out, self.force)?;
            checkpoint::refuse(&self.prefix(), self.force || self.resume)
        })?;
        refuse(context, &self.prefix(), &[".curve.tsv", ".curve.svg", ".quality.svg"], self.force)
    }

    /// What a state depends on: conditions, ranks, and what the kind says of its `own`.
    pub fn fingerprint(&self, context: &Context, ranks: &Ranks, own: Fingerprint) -> Fingerprint {
        // The order of sums makes their last bits.
        let sums = (ranks.snps.exchange(), ranks.snps.pieces(), ranks.parts().1);
        let mut all = vec![("choice of conditions".into(), self.condition.join("\t"))];
        all.extend(own);
        all.push(("--exchange or grid of ranks".into(), format!("{sums:?}")));
        checkpoint::fingerprint(context, self.config.as_deref(), all)
    }

    /// The text of the configuration, read by the root, and its file.
    pub fn text(&self, context: &mut Context) -> Result<Option<(String, PathBuf)>> {
        let Some(path) = &self.config else { return Ok(None) };
        context.input(path)?;
        Ok(Some((context.world.on_root(|| lines::read_text(path))?, path.clone())))
    }

    /// The store.
    pub fn open(&self, context: &mut Context) -> Result<Store> {
        context.input(&self.store)?;
        context.world.agree(Store::open(&self.store))
    }

    /// The configuration.
    fn recipe(&self, kind: &Kind, context: &mut Context) -> Result<Box<dyn Recipe>> {
        let file = self.text(context)?;
        context
            .world
            .agree((kind.configure)(file.as_ref().map(|(text, path)| (text.as_str(), path.as_path()))))
    }

    /// The animals to learn from, and their conditions.
    pub fn conditions(
        &self,
        context: &mut Context,
        store: &Store,
    ) -> Result<(Vec<usize>, Option<Conditions>)> {
        let all = (0..store.n_animals()).collect();
        let Some(path) = &self.pheno else { return Ok((all, None)) };
        context.input(path)?;
        let columns = Columns { path: path.clone(), names: self.condition.clone() };
        let sources = Sources { phenotypes: columns, ..Sources::default() };
        let records =
            context.phase("read records", |world| Phenotypes::read(world, &store.animals().id, &sources))?;
        let rows: Vec<usize> =
            (0..store.n_animals()).filter(|&i| records.y.row(i).iter().all(|y| !y.is_nan())).collect();
        if rows.len() < store.n_animals() {
            let left = store.n_animals() - rows.len();
            log::info!("{left} animals have no record of a condition and are left out");
        }
        let y = records.y.select(Axis(0), &rows);
        Ok((rows, Some(context.world.agree(Conditions::standardise(&records.traits, y.view()))?)))
    }
}

/// Columns of a learning curve that say how good generated animals are.
const QUALITY: [&str; 4] = ["precision", "recall", "f1", "variance_ratio"];

/// Writes a learning curve as a table and pictures, where there is one.
pub(super) fn write_curve(prefix: &Path, force: bool, kind: &Kind, curve: &Curve) -> Result<()> {
    if curve.is_empty() {
        return Ok(());
    }
    output::write_file(&output::with_suffix(prefix, ".curve.tsv"), force, |out| {
        writeln!(out, "{}", curve.columns.join("\t"))?;
        let line = |row: &Vec<f64>| row.iter().map(|&x| number(x)).collect::<Vec<_>>().join("\t");
        curve.rows.iter().try_for_each(|row| writeln!(out, "{}", line(row)))
    })?;
    let title = format!("Learning curve of {}", kind.name);
    let pictures = [(".curve.svg", "loss", false), (".quality.svg", "generated animals", true)];
    for (suffix, axis, quality) in pictures {
        let series = series(curve, quality);
        if !series.is_empty() {
            let picture = picture::lines(&Frame::new(&title, "epoch", axis), &series);
            output::write_file(&output::with_suffix(prefix, suffix), force, |out| {
                out.write_all(picture.as_bytes())
            })?;
        }
    }
    Ok(())
}

/// The columns that tell how good generated animals are, or the losses.
fn series(curve: &Curve, quality: bool) -> Vec<Series> {
    let drawn = |name: &str| QUALITY.contains(&name) == quality && name != "temperature";
    let column = |(k, name): (usize, &&str)| Series {
        name: name.replace('_', " "),
        points: curve.rows.iter().map(|row| (row[0], row[k])).filter(|p| p.1.is_finite()).collect(),
        errors: Vec::new(),
    };
    curve.columns.iter().enumerate().skip(1).filter(|(_, name)| drawn(name)).map(column).collect()
}
