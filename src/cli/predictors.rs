//! `genialearn train KIND` for models that predict traits: one command for each kind in the table of the library.

use super::importance;
use super::kinds::{Chosen, Listed};
use super::records::Tables;
use super::train::{refuse_curve, write_curve};
use super::{bad_option, checkpoint, Context};
use crate::config::{self, Settings};
use crate::error::Result;
use crate::evaluate::idle;
use crate::lines;
use crate::nn::checkpointer::{Checkpointer, Fingerprint};
use crate::output;
use crate::predict::learner::{Trained, Training};
use crate::predict::{mlp, save, Data, Kind, KINDS};
use crate::records::{Columns, Phenotypes};
use crate::report::table;
use std::path::PathBuf;

/// Batches of trees after which the state is kept.
const EVERY: usize = 25;
/// Values of training animals by the trees of a forest that did not learn from them.
const OUT_OF_BAG: &str = ".out_of_bag.tsv";

/// What the user may type for every kind.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    #[command(flatten)]
    pub tables: Tables,
    /// What mlp, dlgblup, boosting, forest and stacked learn from beside the genotypes: TSV with id, numbers
    /// and classes (docs/features.md)
    #[arg(long, value_name = "FILE[:A,B]")]
    pub features: Option<Columns>,
    /// How it learns, in TOML (see --help)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One setting, whatever the file says, such as gblup.solver=pcg; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    pub set: Vec<(String, toml::Value)>,
    /// The model
    #[arg(long, short, value_name = "MODEL.h5")]
    pub out: PathBuf,
    /// Replace existing results
    #[arg(long)]
    pub force: bool,
    /// Go on from PREFIX.checkpoint (mlp, boosting, forest)
    #[arg(long)]
    pub resume: bool,
}

/// A kind, and what the user typed behind it.
pub(super) type Predictor = Chosen<Kind>;

impl Listed for Kind {
    type Options = Common;

    fn shared() -> impl Iterator<Item = &'static Kind> {
        KINDS.iter().filter(|kind| kind.name != mlp::KIND.name)
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
    format!(
        "Examples:\n  genialearn train {name} cows.h5 --pheno traits.tsv --out {name}.h5\n  \
         genialearn train {name} cows.h5 --pheno traits.tsv --config {name}.toml --out {name}.h5\n  \
         genialearn predict {name}.h5 calves.h5 --out calves\n\n\
         Writes the model and beside it, of networks and ensembles, PREFIX.curve.tsv and PREFIX.curve.svg, and of\n\
         ensembles PREFIX.importance.tsv and PREFIX.importance.svg (the share of each SNP in what all splits\n\
         gain), of forests PREFIX.permutation.tsv (what the error out of bag grows by when a SNP's calls are\n\
         exchanged) and PREFIX.out_of_bag.tsv (values of training animals by the trees that did not learn from\n\
         them), PREFIX being the model's name without .h5. boosting and forest keep PREFIX.checkpoint now and then\n\
         and when they are interrupted; --resume goes on from it to the same bytes. `genialearn study` compares kinds; docs/study.md tells what is computed.\n\
         --config names a TOML file, in which any of these may stand (shown with their defaults):\n\n{}",
        kind.defaults()
    )
}

/// `key=value` with a value of TOML; what is none is a text.
fn setting(text: &str) -> std::result::Result<(String, toml::Value), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    let parsed = format!("v = {value}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
    Ok((key.trim().to_owned(), parsed.unwrap_or_else(|| value.trim().into())))
}

/// The settings that were asked for.
pub(super) struct Asked {
    file: Option<(String, PathBuf)>,
    /// The file's, with what `--set` says instead.
    pub table: toml::Table,
}

impl Asked {
    /// What `configure` makes of them.
    pub fn configure<T>(&self, configure: impl Fn(Settings) -> Result<T>) -> Result<T> {
        if let Some((text, path)) = &self.file {
            // Alone, so that an error names its line.
            configure(Settings::File(text, path))?;
        }
        configure(Settings::Table(&self.table, &self.place()))
    }

    /// Where they stand.
    pub fn place(&self) -> String {
        self.file.as_ref().map_or_else(|| "--set".to_owned(), |(_, path)| path.display().to_string())
    }
}

/// Puts a value at a key with dots.
fn put(table: &mut toml::Table, key: &str, value: toml::Value) -> Result<()> {
    let Some((first, rest)) = key.split_once('.') else {
        table.insert(key.to_owned(), value);
        return Ok(());
    };
    let inner = table.entry(first).or_insert_with(|| toml::Table::new().into());
    match inner.as_table_mut() {
        Some(inner) => put(inner, rest, value),
        None => Err(bad_option("set", "a key of a table", key, "see the keys in --help")),
    }
}

impl Common {
    /// The model's name without ending.
    pub fn prefix(&self) -> PathBuf {
        self.out.with_extension("")
    }

    /// Refuses to write over earlier results, and over a checkpoint that a run could go on from; on the root.
    pub fn refuse(&self) -> Result<()> {
        output::refuse_existing(&self.out, self.force)?;
        refuse_curve(&self.prefix(), self.force)?;
        output::refuse_existing(&output::with_suffix(&self.prefix(), OUT_OF_BAG), self.force)?;
        importance::refuse(&self.prefix(), self.force)?;
        checkpoint::refuse(&self.prefix(), self.force || self.resume)
    }

    /// What a state depends on: records, and what the kind says of its `own`.
    pub fn fingerprint(&self, context: &Context, records: &Phenotypes, own: Fingerprint) -> Fingerprint {
        let mut all = vec![
            ("choice of traits".into(), records.traits.join("\t")),
            ("choice of covariates".into(), records.effects.join("\t")),
            ("choice of features".into(), records.features.names().join("\t")),
        ];
        all.extend(own);
        checkpoint::fingerprint(context, self.config.as_deref(), all)
    }

    /// The settings that were asked for; the file is read by the root.
    pub fn settings(&self, context: &mut Context) -> Result<Asked> {
        let mut file = None;
        if let Some(path) = &self.config {
            context.input(path)?;
            file = Some((context.world.on_root(|| lines::read_text(path))?, path.clone()));
        }
        let mut table = match &file {
            Some((text, path)) => config::parse(text, path)?,
            None => toml::Table::new(),
        };
        for (key, value) in &self.set {
            put(&mut table, key, value.clone())?;
        }
        Ok(Asked { file, table })
    }
}

impl Predictor {
    /// Reads, trains, writes.
    pub fn run(self, context: &mut Context) -> Result<()> {
        let Chosen { kind, args } = self;
        context.world.on_root(|| args.refuse())?;
        let asked = args.settings(context)?;
        let learner = context.world.agree(asked.configure(kind.configure))?;
        idle::refuse_in_kind(kind.name, &asked.table, &asked.place())?;
        checkpoint::refuse_resume(args.resume, learner.resumes(), kind.name, "its training is not kept")?;
        if args.features.is_some() && !learner.reads_features() {
            let advice = "train mlp, dlgblup, boosting, forest or stacked on them, or leave them out";
            return Err(bad_option("features", "a kind that learns from features", kind.name, advice));
        }
        let (store, records) = args.tables.read_beside(context, args.features.as_ref())?;
        let data = Data::new(&context.world, context.backend.clone(), &store);
        let set = Training::all(records, context.seed);
        let path = checkpoint::path(&args.prefix());
        let own = vec![(kind.name.into(), learner.settings())];
        let fingerprint = args.fingerprint(context, &set.records, own);
        let mut checkpointer = Checkpointer::new(&context.world, &path, fingerprint, EVERY, args.resume);
        let checkpointer = learner.resumes().then_some(&mut checkpointer);
        let Trained { model, curve, out_of_bag, permutation } =
            context.phase("train", |_| learner.train(&data, &set, checkpointer))?;
        context.phase("write results", |world| {
            let write = || {
                if !curve.is_empty() {
                    write_curve(&args.prefix(), args.force, &curve)?;
                }
                let Some(model) = &model else { return Ok(()) };
                if let Some(values) = &out_of_bag {
                    let key = ("id", &store.animals().id[..]);
                    let path = output::with_suffix(&args.prefix(), OUT_OF_BAG);
                    table::write_matrix(&path, args.force, key, model.traits(), values.view())?;
                }
                if let Some(found) = model.importance() {
                    let permutation = permutation.as_ref().map(|p| p.view());
                    importance::write(&args.prefix(), args.force, (model.traits(), permutation), &found)?;
                }
                save(&**model, &args.out, args.force)
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
        context.finish(&args.prefix())?;
        checkpoint::remove(&context.world, &checkpoint::path(&args.prefix()));
        Ok(())
    }
}
