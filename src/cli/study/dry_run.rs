//! `study --dry-run`: what would be fitted, and about how long and in how much memory. Genotypes that the study would simulate
//! or import stand in a temporary folder meanwhile.

use super::{planned, Prepared};
use crate::cli::Context;
use crate::error::{Error, Result};
use crate::evaluate::config::StudyConfig;
use ndarray::Array2;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tempfile::TempDir;

/// SNPs of a herd that is simulated to see which animals have which records.
const FEW: usize = 1000;

/// Tells the plan; leaves nothing behind.
pub fn run(path: &Path, context: &mut Context) -> Result<()> {
    let mut config = context.world.on_root(|| StudyConfig::read(path))?;
    let snps = config.simulate.as_ref().map(|herd| herd.snps);
    if let Some(herd) = &mut config.simulate {
        herd.snps = herd.snps.min(FEW);
    }
    // Which animals pass the filters is known once they are imported.
    let folder = config.makes_store().then(|| Folder::new(context)).transpose()?;
    let dir = folder.as_ref().map_or(Path::new("."), |folder| &folder.path);
    let Prepared { store, phenotypes, learners, plan } = planned(dir, context, &config)?;
    let (m, t) = (snps.unwrap_or(store.n_variants()) as f64, phenotypes.traits.len() as f64);
    let rate = speed() * rayon::current_num_threads() as f64 * context.world.size() as f64;
    context.say("model\tfits\tseconds\tmemory_gb");
    let patterns = phenotypes.patterns().len().max(1);
    let mut all = 0.0;
    for (k, (model, learner)) in plan.models.iter().zip(&learners).enumerate() {
        let fits = plan.tasks.iter().filter(|task| task.model == k).count();
        let each = if learner.joint() { t } else { t / patterns as f64 };
        let cost = learner.cost(plan.largest() as f64, m, each);
        let seconds = fits as f64 * cost.operations / rate;
        all += seconds;
        context.say(format_args!("{}\t{fits}\t{seconds:.0}\t{:.2}", model.name, cost.bytes / 1e9));
    }
    context.say(format_args!(
        "all\t{}\t{all:.0}\tat the speed of a matrix product here, {:.0} G operations a second; real fits take one to three times as long",
        plan.tasks.len(),
        rate / 1e9
    ));
    Ok(())
}

/// A folder that is gone in the end.
struct Folder {
    path: PathBuf,
    _kept: Option<TempDir>, // the root's
}

impl Folder {
    /// Collective.
    fn new(context: &Context) -> Result<Folder> {
        let mut kept = None;
        let path = context.world.on_root(|| {
            let folder = tempfile::tempdir().map_err(|e| Error::writing(&std::env::temp_dir(), &e))?;
            let path = folder.path().to_owned();
            kept = Some(folder);
            Ok(path)
        })?;
        Ok(Folder { path, _kept: kept })
    }
}

/// Floating-point operations a second of one thread in a product of matrices.
fn speed() -> f64 {
    let n = 600;
    let a = Array2::from_shape_fn((n, n), |(i, j)| ((i * 7 + j * 3) % 11) as f64);
    let begun = Instant::now();
    let product = a.dot(&a);
    let seconds = begun.elapsed().as_secs_f64();
    // The product is used, so that it is computed.
    2.0 * (n as f64).powi(3) / (seconds + product[[0, 0]].abs() * 1e-300)
}
