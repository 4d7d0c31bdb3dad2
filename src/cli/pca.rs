//! `genialearn pca`: principal components of a store.

use super::grm::scaling;
use super::Context;
use crate::error::Result;
use crate::genotype::{Animals, Store};
use crate::grm::pca::{pca, Pca};
use crate::grm::{GenotypeMatrix, Scaling};
use crate::output;
use crate::report::picture::{scatter, Frame, Series};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Groups that a picture can tell apart.
const GROUPS: usize = 6;

/// What the user may type.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  genialearn pca herd.h5 --out herd
  mpirun -n 4 genialearn pca herd.h5 --components 5 --method vanraden2 --out herd")]
pub struct Args {
    /// The genotypes
    #[arg(value_name = "STORE")]
    store: PathBuf,
    /// How many components, the largest first
    #[arg(long, value_name = "K", default_value_t = 20)]
    components: usize,
    /// How genotypes become relationships
    #[arg(long, value_name = "NAME", default_value = "vanraden1", value_parser = scaling)]
    method: Scaling,
    /// Results: PREFIX.eigenvec.tsv, PREFIX.eigenval.tsv, PREFIX.pca.svg
    #[arg(long, short, value_name = "PREFIX")]
    out: PathBuf,
    /// Replace existing results
    #[arg(long)]
    force: bool,
}

/// Reads, decomposes, writes.
pub fn run(args: Args, context: &mut Context) -> Result<()> {
    let [vectors, values, picture] =
        [".eigenvec.tsv", ".eigenval.tsv", ".pca.svg"].map(|suffix| output::with_suffix(&args.out, suffix));
    context.world.on_root(|| {
        [&vectors, &values, &picture]
            .into_iter()
            .try_for_each(|path| output::refuse_existing(path, args.force))
    })?;
    context.input(&args.store)?;
    let (backend, seed) = (context.backend.clone(), context.seed);
    let (store, markers) = context.phase("read genotypes", |world| {
        let store = world.agree(Store::open(&args.store))?;
        let markers = GenotypeMatrix::load(world, backend, &store, args.method)?;
        Ok((store, markers))
    })?;
    let found = context.phase("components", |_| pca(&markers, args.components, seed))?;
    context.phase("write", |world| {
        world.on_root(|| {
            write_vectors(&vectors, store.animals(), &found, args.force)?;
            write_values(&values, &found, args.force)?;
            let svg = draw(store.animals(), &found);
            output::write_file(&picture, args.force, |out| out.write_all(svg.as_bytes()))
        })
    })?;
    let share = 100.0 * found.explained.iter().sum::<f64>();
    context.say(format_args!(
        "{}: {} components explain {share:.1} % of the relationships",
        vectors.display(),
        args.components
    ));
    context.finish(&args.out)
}

fn write_vectors(path: &Path, animals: &Animals, pca: &Pca, force: bool) -> Result<()> {
    output::write_file(path, force, |out| {
        write!(out, "id")?;
        (1..=pca.values.len()).try_for_each(|c| write!(out, "\tPC{c}"))?;
        writeln!(out)?;
        for (id, row) in animals.id.iter().zip(pca.vectors.rows()) {
            write!(out, "{id}")?;
            row.iter().try_for_each(|x| write!(out, "\t{x:.10}"))?;
            writeln!(out)?;
        }
        Ok(())
    })
}

fn write_values(path: &Path, pca: &Pca, force: bool) -> Result<()> {
    output::write_file(path, force, |out| {
        writeln!(out, "component\teigenvalue\texplained")?;
        for (c, (value, share)) in pca.values.iter().zip(&pca.explained).enumerate() {
            writeln!(out, "{}\t{value:.10}\t{share:.10}", c + 1)?;
        }
        Ok(())
    })
}

/// The first two components, one colour a group where there are few groups.
fn draw(animals: &Animals, pca: &Pca) -> String {
    let axis = |c: usize| match pca.explained.get(c) {
        Some(share) => format!("PC{} ({:.1} %)", c + 1, 100.0 * share),
        None => "nothing".into(),
    };
    let point = |i: usize| (pca.vectors[[i, 0]], pca.vectors.get([i, 1]).copied().unwrap_or(0.0));
    let groups: BTreeSet<&String> = animals.group.iter().collect();
    let series: Vec<Series> = if (2..=GROUPS).contains(&groups.len()) {
        let of = |group: &String| -> Vec<(f64, f64)> {
            (0..animals.len()).filter(|&i| &animals.group[i] == group).map(point).collect()
        };
        let named = |group: &String| Series { name: group.clone(), points: of(group), errors: Vec::new() };
        groups.into_iter().map(named).collect()
    } else {
        let points = (0..animals.len()).map(point).collect();
        vec![Series { name: String::new(), points, errors: Vec::new() }]
    };
    scatter(&Frame::new("The first two principal components", &axis(0), &axis(1)), &series)
}
