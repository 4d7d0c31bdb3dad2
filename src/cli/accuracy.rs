//! What `gblup` tells on request about the accuracy of its results: reliabilities, and records predicted by others.

use super::records::{relationships, Relationships};
use super::Context;
use crate::error::Result;
use crate::genotype::Store;
use crate::grm::GenotypeMatrix;
use crate::mixed::gblup::Fit;
use crate::mixed::reliability::{self, Exact};
use crate::mixed::Group;
use crate::output;
use crate::records::Phenotypes;
use crate::report::table;
use ndarray::Array2;
use std::path::Path;

/// Reliabilities of all animals.
const RELIABILITY: &str = ".reliability.tsv";
/// Records as all others predict them.
const LOO: &str = ".loo.tsv";

/// What the user may ask for.
#[derive(Debug, clap::Args)]
pub struct Accuracy {
    /// Write reliabilities r2 = 1 - PEV / (var_g G_ii) to PREFIX.reliability.tsv: exact (holds G) or sampled
    #[arg(long, value_name = "HOW", num_args = 0..=1, default_missing_value = "exact")]
    reliability: Option<How>,
    /// Simulated sets of records for sampled reliabilities, whose error is at most 0.5 / sqrt(N)
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..))]
    draws: u32,
    /// Write each record as all others predict it to PREFIX.loo.tsv; holds G
    #[arg(long)]
    loo: bool,
}

/// How reliabilities are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum How {
    /// From the eigenvectors of G.
    Exact,
    /// By predicting simulated records; never forms G.
    Sampled,
}

impl Accuracy {
    /// Suffixes of the results.
    pub fn suffixes(&self) -> Vec<&'static str> {
        let wanted = [(self.reliability.is_some(), RELIABILITY), (self.loo, LOO)];
        wanted.iter().filter(|(wanted, _)| *wanted).map(|(_, suffix)| *suffix).collect()
    }

    /// Whether anything was asked for.
    pub fn wanted(&self) -> bool {
        self.reliability.is_some() || self.loo
    }

    /// Whether it multiplies by the genotypes instead of G.
    pub fn samples(&self) -> bool {
        self.reliability == Some(How::Sampled)
    }

    /// Computes and writes what was asked for. `grm` is the file of G, if it came from one.
    pub fn write(
        &self,
        context: &mut Context,
        (store, markers): (&Store, &GenotypeMatrix),
        (records, fit): (&Phenotypes, &Fit),
        grm: Option<&Path>,
        (prefix, force): (&Path, bool),
    ) -> Result<()> {
        let (traits, groups): (Vec<Vec<usize>>, Vec<Group>) = Group::of(records).into_iter().unzip();
        let groups: Vec<&Group> = groups.iter().collect();
        let h2: Vec<Vec<f64>> =
            traits.iter().map(|t| t.iter().map(|&t| fit.estimates[t].h2).collect()).collect();
        let (n, mut reliability, mut loo) = (markers.n(), None, None);
        if self.loo || self.reliability == Some(How::Exact) {
            let g = match grm {
                Some(path) => Relationships::open(context, path, store)?.whole(context)?,
                None => relationships(context, markers)?,
            };
            let solved: Vec<_> = h2.iter().cloned().zip(scaled(&traits, &groups, fit)).collect();
            let found = context.phase("accuracy", |world| reliability::exact(world, g, &groups, &solved))?;
            let part = |of: fn(&Exact) -> &Array2<f64>| found.iter().map(of).collect::<Vec<_>>();
            let predicted = part(|e| &e.predicted);
            let rows = |k: usize| Some(groups[k].animals());
            reliability = Some(joined(n, &traits, &part(|e| &e.reliability), |_| None));
            loo = Some(joined(n, &traits, &predicted, rows));
        }
        if self.samples() {
            let (seed, draws) = (context.seed, self.draws as usize);
            let found =
                context.phase("accuracy", |_| reliability::sampled(markers, &groups, &h2, draws, seed))?;
            let worst = reliability::sampling_error(0.5, draws);
            context.say(format_args!(
                "reliabilities from {draws} draws: Monte-Carlo errors of at most {worst:.3}"
            ));
            reliability = Some(joined(n, &traits, &found.iter().collect::<Vec<_>>(), |_| None));
        }
        let tables = [(self.reliability.is_some(), RELIABILITY, reliability), (self.loo, LOO, loo)];
        context.world.on_root(|| {
            for (_, suffix, values) in tables.iter().filter(|(wanted, ..)| *wanted) {
                let values = values.as_ref().expect("computed because wanted");
                let path = output::with_suffix(prefix, suffix);
                table::write_matrix(
                    &path,
                    force,
                    ("id", &store.animals().id),
                    &records.traits,
                    values.view(),
                )?;
            }
            Ok(())
        })
    }
}

/// x = P y of every group, (n_o, t), from the fit of all traits.
fn scaled(traits: &[Vec<usize>], groups: &[&Group], fit: &Fit) -> Vec<Array2<f64>> {
    let of = |(traits, group): (&Vec<usize>, &&Group)| {
        Array2::from_shape_fn((group.animals().len(), traits.len()), |(i, t)| {
            let e = &fit.estimates[traits[t]];
            fit.py[[group.animals()[i], traits[t]]] * e.total()
        })
    };
    traits.iter().zip(groups).map(of).collect()
}

/// The results of the groups as one table of all animals and traits, (n, t). `rows` tells which animals a group's rows
/// stand for when they are not all; the others get NaN.
fn joined<'a>(
    n: usize,
    traits: &[Vec<usize>],
    parts: &[&Array2<f64>],
    rows: impl Fn(usize) -> Option<&'a [usize]>,
) -> Array2<f64> {
    let mut out = Array2::from_elem((n, traits.iter().map(Vec::len).sum()), f64::NAN);
    for (k, (numbers, part)) in traits.iter().zip(parts).enumerate() {
        for (&t, column) in numbers.iter().zip(part.columns()) {
            for (i, &x) in column.iter().enumerate() {
                out[[rows(k).map_or(i, |animals| animals[i]), t]] = x;
            }
        }
    }
    out
}
