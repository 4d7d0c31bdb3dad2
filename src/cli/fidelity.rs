//! `genialearn fidelity`: how true synthetic genotypes are.

use super::{bad_option, Context};
use crate::comm::World;
use crate::error::{Error, Result};
use crate::evaluate::fidelity::{judge, Findings, Herd, Question, Setting, ANIMALS};
use crate::genotype::{Store, Variants};
use crate::output;
use crate::records::Phenotypes;
use crate::records::{Columns, Sources};
use crate::report::fidelity::{pictures, table, Page};
use std::path::{Path, PathBuf};

/// Shown after `--help`.
const EXAMPLES: &str = "\
Examples:
  genialearn fidelity cows.h5 synthetic.h5 --out fidelity
  genialearn fidelity cows.h5 synthetic.h5 --pheno traits.tsv --trait fat --out fidelity
  mpirun -n 4 genialearn fidelity cows.h5 synthetic.h5 --holdout others.h5 --out fidelity

Writes into DIR: fidelity.tsv (each metric of the whole sets, of sets as large as the
baseline's, and of two halves of the real animals, with its verdict), report.html,
pictures/*.svg and fidelity.run.json. All verdicts that hold are told: copies of training animals, mode
collapse, missing linkage disequilibrium, an excess of heterozygotes, conditions that do
not match, and more; a healthy set has none. Haplotypes: write each as an animal with the
codes 0 and 2. Definitions: docs/fidelity.md.";

/// Everything that a run leaves in its folder.
const RESULTS: [&str; 4] = ["fidelity.run.json", "report.html", "fidelity.tsv", "pictures"];

/// What the user may type.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The real animals, which the generator learned from
    #[arg(value_name = "REAL")]
    real: PathBuf,
    /// The synthetic ones, with the same SNPs
    #[arg(value_name = "SYNTHETIC")]
    synthetic: PathBuf,
    /// Records of the real animals (TSV): adds genome scans and what synthetic animals are worth for training
    #[arg(long, value_name = "FILE", requires = "trait_name")]
    pheno: Option<PathBuf>,
    /// The trait that the generator was conditioned on
    #[arg(long = "trait", value_name = "NAME", requires = "pheno", id = "trait_name")]
    trait_name: Option<String>,
    /// Conditions of the synthetic animals (TSV) [default: SYNTHETIC's .conditions.tsv where it exists, else --pheno]
    #[arg(long, value_name = "FILE", requires = "pheno")]
    synth_pheno: Option<PathBuf>,
    /// Real animals that the generator never saw: adds the privacy loss, and with their records in --pheno the worth of
    /// synthetic animals for predicting them
    #[arg(long, value_name = "STORE")]
    holdout: Option<PathBuf>,
    /// Animals of each set that are compared at most, drawn at random
    #[arg(long, value_name = "N", default_value_t = ANIMALS)]
    animals: usize,
    /// Folder for the results
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// Replace older results in DIR
    #[arg(long)]
    force: bool,
}

/// Reads, compares, reports.
pub fn run(args: Args, context: &mut Context) -> Result<()> {
    if args.animals < 20 {
        return Err(bad_option("animals", "at least 20", args.animals, "leave it out for the default"));
    }
    context.world.on_root(|| refuse(&args.out, args.force))?;
    let inputs = [Some(&args.real), Some(&args.synthetic), args.pheno.as_ref(), args.holdout.as_ref()];
    for path in inputs.into_iter().flatten() {
        context.input(path)?;
    }
    let conditions = args.conditions(&context.world);
    if let Some(path) = &conditions {
        context.input(path)?;
    }
    let (variants, [real, synthetic, holdout]) = context.phase("read genotypes", |world| {
        let [a, b] = [read(world, &args.real)?, read(world, &args.synthetic)?];
        let c = args.holdout.as_ref().map(|path| read(world, path)).transpose()?;
        for other in [Some(&b), c.as_ref()].into_iter().flatten() {
            world.agree(same_snps(&a.0, &other.0))?;
        }
        let variants = a.0.variants().clone();
        let real = args.herd(world, a, args.pheno.as_ref())?;
        let synthetic = args.herd(world, b, conditions.as_ref())?;
        let holdout = c.map(|c| args.held_out(world, c));
        Ok((variants, [Some(real), Some(synthetic), holdout]))
    })?;
    let (real, synthetic) = (real.expect("was read"), synthetic.expect("was read"));
    let (seed, backend, most) = (context.seed, context.backend.clone(), args.animals);
    let findings = context.phase("compare", |world| {
        let setting = Setting { world, backend, variants: &variants, seed, most };
        judge(&setting, Question { real: &real, synthetic: &synthetic, holdout: holdout.as_ref() })
    })?;
    let about = about(&args, &variants, [&real, &synthetic], holdout.as_ref());
    context.world.on_root(|| prepare(&args.out))?;
    report(context, &args.out, &findings, &variants, &about)?;
    tell(context, &args.out, &findings);
    context.finish(&args.out.join("fidelity"))
}

impl Args {
    /// Where the conditions of the synthetic animals are.
    fn conditions(&self, world: &World) -> Option<PathBuf> {
        let beside = output::with_suffix(&self.synthetic.with_extension(""), ".conditions.tsv");
        let there = world.on_root(|| Ok(beside.exists())).unwrap_or(false);
        let usual = if there { Some(beside) } else { self.pheno.clone() };
        self.pheno.as_ref()?;
        self.synth_pheno.clone().or(usual)
    }

    /// The held-out animals, with their records where --pheno has some.
    fn held_out(&self, world: &World, (store, packed): (Store, crate::packed::Packed)) -> Herd {
        let bare = Herd { packed: packed.clone(), y: None };
        match self.herd(world, (store, packed), self.pheno.as_ref()) {
            Ok(herd) => herd,
            Err(why) => {
                log::warn!("held-out animals are used without records: {why}");
                bare
            }
        }
    }

    /// A store's animals with their records of the trait.
    fn herd(
        &self,
        world: &World,
        (store, packed): (Store, crate::packed::Packed),
        pheno: Option<&PathBuf>,
    ) -> Result<Herd> {
        let (Some(path), Some(name)) = (pheno, &self.trait_name) else { return Ok(Herd { packed, y: None }) };
        let phenotypes = Columns { path: path.clone(), names: vec![name.clone()] };
        let found =
            Phenotypes::read(world, &store.animals().id, &Sources { phenotypes, ..Sources::default() })?;
        Ok(Herd { packed, y: Some(found.y.column(0).to_vec()) })
    }
}

/// A store and all its calls, on every rank.
fn read(world: &World, path: &Path) -> Result<(Store, crate::packed::Packed)> {
    let store = world.agree(Store::open(path))?;
    let packed = world.agree(store.read(0..store.n_animals(), 0..store.n_variants()))?;
    Ok((store, packed))
}

/// Both stores must count the same alleles at the same SNPs.
fn same_snps(a: &Store, b: &Store) -> Result<()> {
    let (x, y) = (a.variants(), b.variants());
    let place = b.path().display();
    let expected = format!("the {} SNPs of {}", x.len(), a.path().display());
    let advice = "make both from the same store, or import the same SNPs with the same counted alleles";
    if x.len() != y.len() {
        return Err(Error::input(place, expected, y.len(), advice));
    }
    let differs = |j: &usize| x.id[*j] != y.id[*j] || x.counted_allele[*j] != y.counted_allele[*j];
    match (0..x.len()).find(differs) {
        Some(j) => {
            let found = format!(
                "{} ({}) where that has {} ({})",
                y.id[j], y.counted_allele[j], x.id[j], x.counted_allele[j]
            );
            Err(Error::input(place, expected, found, advice))
        }
        None => Ok(()),
    }
}

/// Refuses a folder with files in it, unless they may be replaced.
fn refuse(dir: &Path, force: bool) -> Result<()> {
    let filled = std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if filled && !force {
        let advice = "choose another --out, or add --force to replace the results in it";
        return Err(Error::input(dir.display(), "a new or empty folder", "one with files in it", advice));
    }
    Ok(())
}

/// Makes the folder, without older results.
fn prepare(dir: &Path) -> Result<()> {
    for path in RESULTS.iter().map(|name| dir.join(name)).filter(|path| path.exists()) {
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.map_err(|e| Error::writing(&path, &e))?;
    }
    let folder = dir.join("pictures");
    std::fs::create_dir_all(&folder).map_err(|e| Error::writing(&folder, &e))
}

/// What the page says of the data.
fn about(
    args: &Args,
    variants: &Variants,
    [real, synthetic]: [&Herd; 2],
    holdout: Option<&Herd>,
) -> Vec<(String, String)> {
    let of = |herd: &Herd, path: &Path| format!("{} animals of {}", herd.n(), path.display());
    let mut lines = vec![
        ("real".into(), of(real, &args.real)),
        ("synthetic".into(), of(synthetic, &args.synthetic)),
        ("SNPs".into(), variants.len().to_string()),
    ];
    if let (Some(herd), Some(path)) = (holdout, &args.holdout) {
        lines.push(("held out".into(), of(herd, path)));
    }
    if let Some(name) = &args.trait_name {
        lines.push(("phenotype".into(), name.clone()));
    }
    lines
}

/// Writes table, pictures and page.
fn report(
    context: &mut Context,
    dir: &Path,
    findings: &Findings,
    variants: &Variants,
    about: &[(String, String)],
) -> Result<()> {
    let drawn = context
        .phase("draw", |world| Ok(if world.is_root() { pictures(findings, variants) } else { Vec::new() }))?;
    let page = Page { findings, pictures: &drawn, data: about, record: &context.record };
    context.world.on_root(|| {
        table(findings).write(&dir.join("fidelity.tsv"), true)?;
        for p in &drawn {
            let path = dir.join("pictures").join(format!("{}.svg", p.name));
            output::write_file(&path, true, |w| w.write_all(p.svg.as_bytes()))?;
        }
        output::write_file(&dir.join("report.html"), true, |w| w.write_all(page.render().as_bytes()))
    })
}

fn tell(context: &Context, dir: &Path, findings: &Findings) {
    for v in &findings.verdicts {
        context.say(format_args!("{}: {}", v.name, v.because));
    }
    if findings.verdicts.is_empty() {
        context.say("no verdict: no score that is judged lies far beyond those of real halves");
    }
    if findings.rows.iter().any(|r| r.metric == "tstr_r_seen") {
        context.say("tstr_r_seen: tested on animals that the generator has seen; add --holdout with records for tstr_r");
    }
    context.say(dir.join("report.html").display());
}
