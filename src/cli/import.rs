//! `genialearn import`: genotypes of any format into a store.

use super::{share, Context};
use crate::error::Result;
use crate::genotype::import::{import, ImportConfig, Summary};
use crate::genotype::plink;
use crate::genotype::source::Format;
use crate::output::{self, with_suffix};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  genialearn import cows.bed --out cows.h5
  genialearn import cows.vcf.gz --out cows.h5 --animals animals.tsv --chromosomes 1-29
  genialearn import cows.bed --out cows.h5 --animal-call-rate 0.9 --call-rate 0.95 --maf 0.01

The filters work one after the other in this order: --keep, --extract, --chromosomes,
--animal-call-rate, --call-rate, --hwe, --maf; each counts only what the former left. Frequencies and the
Hardy-Weinberg test count all animals, also those with parents in the data. What each filter
removed is printed and written to PREFIX.import.tsv beside the store.

SNPs on X, Y, XY, MT, Z and W are left out unless --chromosomes asks for them: a male has one X, so
its calls are no counts of two alleles. Where they are kept, --hwe does not test them. Numbers are
autosomes, unless --autosomes says how many there are: with 29, PLINK's 30 to 33 become X, Y, XY
and MT. Chr01 and 1 are the same; other names, such as scaffolds, are kept.

The counted allele is A1 of a .bed, ALT of a VCF, the first allele of BIMBAM, the allele in the
column name of a .raw. Fractional dosages are rounded to the nearest whole one and counted.";

/// What the user may type.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The genotypes: .bed (with .bim and .fam beside it), .vcf[.gz], .tsv[.gz], .raw, .bimbam[.gz],
    /// .geno.txt[.gz] or .npy; PREFIX stands for PREFIX.bed and so on
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// The store to write
    #[arg(long, short, value_name = "FILE.h5")]
    out: PathBuf,
    /// Format of SRC: bed, vcf, tsv, raw, bimbam, npy [default: what its name ends in]
    #[arg(long, value_name = "NAME")]
    format: Option<Format>,
    /// Table of animals: id and any of birth_date, sire, dam, sex, group
    #[arg(long, value_name = "FILE.tsv")]
    animals: Option<PathBuf>,
    /// Keep SNPs whose rarer allele is at least this frequent
    #[arg(long, value_name = "P", value_parser = share)]
    maf: Option<f64>,
    /// Keep SNPs called in at least this share of animals
    #[arg(long, value_name = "P", value_parser = share)]
    call_rate: Option<f64>,
    /// Keep animals called at this share of SNPs or more
    #[arg(long, value_name = "P", value_parser = share)]
    animal_call_rate: Option<f64>,
    /// Keep SNPs whose exact Hardy-Weinberg test gives at least this P-value
    #[arg(long, value_name = "P", value_parser = share)]
    hwe: Option<f64>,
    /// Keep these chromosomes, such as 1-29,X; all keeps every SNP [default: autosomes]
    #[arg(long, value_name = "LIST")]
    chromosomes: Option<String>,
    /// Number of autosomes of the species: PLINK's numbers behind it are read as X, Y, XY and MT
    #[arg(long, value_name = "N")]
    autosomes: Option<u32>,
    /// Keep the animals of this list (a name a line, or FID and IID)
    #[arg(long, value_name = "FILE")]
    keep: Option<PathBuf>,
    /// Keep the SNPs of this list (a name a line)
    #[arg(long, value_name = "FILE")]
    extract: Option<PathBuf>,
    /// Replace an existing store
    #[arg(long)]
    force: bool,
}

impl Args {
    fn config(&self, source: &Path) -> ImportConfig {
        ImportConfig {
            source: source.to_owned(),
            animals: self.animals.clone(),
            maf: self.maf,
            call_rate: self.call_rate,
            animal_call_rate: self.animal_call_rate,
            hwe: self.hwe,
            chromosomes: self.chromosomes.clone(),
            autosomes: self.autosomes,
            keep: self.keep.clone(),
            extract: self.extract.clone(),
        }
    }

    /// `cows` of `cows.h5`: what the other results are named after.
    fn prefix(&self) -> PathBuf {
        self.out.with_extension("")
    }

    /// The file of genotypes and its format.
    fn source(&self) -> Result<(PathBuf, Format)> {
        self.format.map_or_else(|| Format::find(&self.source), |format| Ok((self.source.clone(), format)))
    }

    fn table(&self) -> PathBuf {
        with_suffix(&self.prefix(), ".import.tsv")
    }

    /// Problems that need no look into the genotypes.
    fn check(&self, config: &ImportConfig) -> Result<()> {
        config.check()?;
        output::refuse_existing(&self.out, self.force)?;
        output::refuse_existing(&self.table(), self.force)
    }
}

/// Opens, selects, writes. The root works, the other ranks wait.
pub fn run(args: Args, context: &mut Context) -> Result<()> {
    let (source, format) = context.world.on_root(|| args.source())?;
    let config = args.config(&source);
    context.world.on_root(|| args.check(&config))?;
    if source != args.source {
        context.say(format_args!("{} stands for {}", args.source.display(), source.display()));
    }
    config.files().try_for_each(|path| context.input(path))?;
    let summary =
        context.phase("import genotypes", |world| world.on_root(|| write(&args, &config, format)))?;
    if format == Format::Bed {
        plink::beside(&source).iter().try_for_each(|p| context.input(p))?;
    }
    summary.notes.iter().for_each(|note| context.say(note));
    tell(&summary, &args.out, context);
    context.finish(&args.prefix())
}

fn write(args: &Args, config: &ImportConfig, format: Format) -> Result<Summary> {
    let summary = import(config, format, &args.out, args.force)?;
    write_steps(&summary, &args.table(), args.force)?;
    Ok(summary)
}

/// Writes the table of filters beside the store; without any it says what the source held.
fn write_steps(summary: &Summary, path: &Path, force: bool) -> Result<()> {
    output::write_file(path, force, |out| {
        writeln!(out, "filter\tanimals_removed\tsnps_removed\tanimals_left\tsnps_left")?;
        writeln!(out, "(source)\t0\t0\t{}\t{}", summary.animals.0, summary.snps.0)?;
        for s in &summary.steps {
            let (animals, snps) = (s.animals_removed, s.snps_removed);
            writeln!(out, "{}\t{animals}\t{snps}\t{}\t{}", s.filter, s.animals_left, s.snps_left)?;
        }
        Ok(())
    })
}

/// The same for the eye.
fn tell(summary: &Summary, out: &Path, context: &Context) {
    let width = summary.steps.iter().map(|s| s.filter.chars().count()).max().unwrap_or(0).max(8);
    let line = |name: &str, cells: [String; 4]| {
        let [a, b, c, d] = cells;
        context.say(format_args!("{name:<width$}  {a:>15}  {b:>12}  {c:>12}  {d:>9}"));
    };
    if !summary.steps.is_empty() {
        line("filter", ["animals removed", "SNPs removed", "animals left", "SNPs left"].map(str::to_owned));
        line("(source)", ["".into(), "".into(), summary.animals.0.to_string(), summary.snps.0.to_string()]);
    }
    for s in &summary.steps {
        let cells = [s.animals_removed, s.snps_removed, s.animals_left, s.snps_left];
        line(&s.filter, cells.map(|c| c.to_string()));
    }
    let (n, m) = (summary.animals.1, summary.snps.1);
    context.say(format_args!("{}: {n} animals, {m} SNPs", out.display()));
}
