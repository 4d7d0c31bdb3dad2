//! Fits the models of a study one after another.

use super::task_path;
use crate::cli::Context;
use crate::comm::World;
use crate::device::network::Network;
use crate::error::Result;
use crate::evaluate::augment::Mixture;
use crate::evaluate::config::StudyConfig;
use crate::evaluate::crossvalidate::{self, Done, Plan};
use crate::evaluate::models::{ModelConfig, ModelKind, StudySolver};
use crate::evaluate::retrospect::{look_back, Retrospect};
use crate::generate::Kind;
use crate::genotype::Store;
use crate::grm::{explicit, GenotypeMatrix, Scaling};
use crate::output;
use crate::predict::learner::augmented::Augmented;
use crate::predict::learner::dl::Dl;
use crate::predict::learner::dlgblup::Dlgblup;
use crate::predict::learner::gblup::{Gblup, Relationships};
use crate::predict::learner::mlp::Mlp;
use crate::predict::learner::{Learner, Training};
use crate::records::Phenotypes;
use ndarray::Array2;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// G, for as long as somebody needs it.
pub type Held = Arc<Array2<f64>>;

/// What models of the same relationships share.
struct Shared {
    scaling: Scaling,
    markers: GenotypeMatrix,
    /// On every rank, once a model needs it.
    g: Option<Held>,
}

/// Fits all models; returns the first G that a model formed on the root, for the pictures, and the statistics of the
/// method LR.
pub fn all(
    context: &mut Context,
    (config, plan): (&StudyConfig, &Plan),
    (store, phenotypes): (&Store, &Phenotypes),
    done: &mut BTreeMap<usize, Done>,
    dir: &Path,
) -> Result<(Option<Held>, Vec<Retrospect>)> {
    let (mut first, mut retrospects, mut shared) = (None, Vec::new(), None);
    for (number, model) in config.models.iter().enumerate() {
        let device = context.backend.clone();
        if let Some(mixture) = &model.mixture {
            let learner = augmented(model, mixture, store, &device, dir);
            fit(context, (plan, number), (&learner, phenotypes), done, dir)?;
            continue;
        }
        let ready = ready(context, model, store, shared.take())?;
        let learner = learner(model, (store, &ready), &device);
        fit(context, (plan, number), (&*learner, phenotypes), done, dir)?;
        drop(learner);
        let with_lr =
            model.kind == ModelKind::Gblup && model.solver == StudySolver::Eigen && model.h2.is_none();
        if let Some(g) = ready.g.as_ref().filter(|_| with_lr) {
            let data = (phenotypes, g.view());
            let looked = |world: &_| look_back(world, number, data, done);
            retrospects.extend(context.phase(&format!("LR method for {}", model.name), looked)?);
        }
        if first.is_none() && context.world.is_root() {
            first = ready.g.clone();
        }
        shared = Some(ready);
    }
    Ok((first, retrospects))
}

/// Does the tasks of a model; each result is kept.
fn fit(
    context: &mut Context,
    (plan, number): (&Plan, usize),
    (learner, phenotypes): (&dyn Learner, &Phenotypes),
    done: &mut BTreeMap<usize, Done>,
    dir: &Path,
) -> Result<()> {
    context.phase(&format!("fit {}", plan.models[number]), |world| {
        let mut keep = |i: usize, result: &Done| {
            let bytes = postcard::to_stdvec(result).expect("plain values serialize");
            output::write_file(&task_path(dir, i), true, |w| w.write_all(&bytes))
        };
        crossvalidate::run_model(world, plan, (number, learner), phenotypes, done, &mut keep)
    })
}

/// Genotypes and relationships of a model, those of the model before where they are the same.
fn ready(
    context: &mut Context,
    model: &ModelConfig,
    store: &Store,
    before: Option<Shared>,
) -> Result<Shared> {
    let mut shared = match before.filter(|s| s.scaling == model.scaling()) {
        Some(same) => same,
        None => {
            let backend = context.backend.clone();
            context.phase("read genotypes", |world| Shared::read(world, backend, model, store))?
        }
    };
    if shared.lacks(model) {
        context.phase("relationships", |world| shared.relate(world))?;
    }
    Ok(shared)
}

impl Shared {
    /// Without relationships. Collective.
    fn read(world: &World, device: Arc<dyn Network>, model: &ModelConfig, store: &Store) -> Result<Shared> {
        let scaling = model.scaling();
        Ok(Shared { scaling, markers: GenotypeMatrix::load(world, device, store, scaling)?, g: None })
    }

    /// Whether the model needs a G that is not there yet.
    fn lacks(&self, model: &ModelConfig) -> bool {
        self.g.is_none() && model.on_gblup() && model.solver == StudySolver::Eigen
    }

    /// Makes G, on every rank. Collective.
    fn relate(&mut self, world: &World) -> Result<()> {
        let g = world.agree(explicit::grm(&self.markers))?;
        self.g = Some(Arc::new(explicit::share(world, g, self.markers.n())));
        Ok(())
    }
}

/// The learner of a model that is given synthetic animals.
fn augmented<'a>(
    model: &'a ModelConfig,
    mixture: &Mixture,
    store: &'a Store,
    device: &Arc<dyn Network>,
    dir: &Path,
) -> Augmented<'a> {
    let of_inner = device.clone();
    let inner = move |world: &World, store: &Store, set: &Training| {
        let mut shared = Shared::read(world, of_inner.clone(), model, store)?;
        if shared.lacks(model) {
            shared.relate(world)?;
        }
        let learned = learner(model, (store, &shared), &of_inner).fit(world, std::slice::from_ref(set))?;
        Ok(learned.into_iter().next().expect("one set, one fit"))
    };
    Augmented {
        store,
        device: device.clone(),
        generator: Kind::named(&mixture.generator).expect("checked with the configuration"),
        settings: mixture.settings.clone(),
        reference: mixture.reference,
        times: mixture.times,
        alone: mixture.alone,
        folder: dir.join("tasks"),
        inner: Box::new(inner),
    }
}

/// The model's learner.
fn learner<'a>(
    model: &ModelConfig,
    (store, shared): (&'a Store, &'a Shared),
    device: &Arc<dyn Network>,
) -> Box<dyn Learner + 'a> {
    let relationships = match (&shared.g, model.solver) {
        (Some(g), StudySolver::Eigen) => Relationships::Held(g.view()),
        _ => Relationships::Implicit(&shared.markers),
    };
    let gblup = Gblup { relationships, h2: model.h2 };
    let device = device.clone();
    match model.kind {
        ModelKind::Mlp => {
            Box::new(Mlp { store, config: model.mlp.clone().unwrap_or_default(), gblup, device })
        }
        ModelKind::Gblup => Box::new(gblup),
        ModelKind::Dl => {
            let config = model.dlgblup.clone().unwrap_or_default();
            Box::new(Dl { store, gblup, config, device })
        }
        ModelKind::Dlgblup => {
            Box::new(Dlgblup { gblup, config: model.dlgblup.clone().unwrap_or_default(), device })
        }
    }
}
