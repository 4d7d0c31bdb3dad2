//! Fits the models of a study one after another.

use super::task_path;
use crate::cli::Context;
use crate::device::network::Network;
use crate::error::Result;
use crate::evaluate::config::StudyConfig;
use crate::evaluate::crossvalidate::{self, Done, Plan};
use crate::evaluate::models::{ModelConfig, ModelKind, StudySolver};
use crate::evaluate::retrospect::{look_back, Retrospect};
use crate::genotype::{Phenotypes, Store};
use crate::grm::{explicit, Flavour, Markers};
use crate::output;
use crate::predict::learner::dl::Dl;
use crate::predict::learner::dlgblup::Dlgblup;
use crate::predict::learner::gblup::{Gblup, Relationships};
use crate::predict::learner::mlp::Mlp;
use crate::predict::learner::Learner;
use ndarray::Array2;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// G, for as long as somebody needs it.
pub type Held = Arc<Array2<f64>>;

/// What models of the same relationships share.
struct Shared {
    flavour: Flavour,
    markers: Markers,
    /// On every rank, once a model needs it.
    g: Option<Held>,
}

/// Fits all models; returns the first model's G on the root, for the pictures, and the statistics of the method LR.
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
        let ready = ready(context, model, store, shared.take())?;
        let learner = learner(model, (store, &ready), &device);
        context.phase(&format!("fit {}", model.name), |world| {
            let mut keep = |i: usize, result: &Done| {
                let bytes = postcard::to_stdvec(result).expect("plain values serialize");
                output::write_file(&task_path(dir, i), true, |w| w.write_all(&bytes))
            };
            crossvalidate::run_model(world, plan, (number, &*learner), phenotypes, done, &mut keep)
        })?;
        drop(learner);
        if let (ModelKind::Gblup, None, Some(g)) = (model.kind, model.h2, &ready.g) {
            let data = (phenotypes, g.view());
            let looked = |world: &_| look_back(world, number, data, done);
            retrospects.extend(context.phase(&format!("look back on {}", model.name), looked)?);
        }
        if number == 0 && context.world.is_root() {
            first = ready.g.clone();
        }
        shared = Some(ready);
    }
    Ok((first, retrospects))
}

/// Genotypes and relationships of a model, those of the model before where they are the same.
fn ready(
    context: &mut Context,
    model: &ModelConfig,
    store: &Store,
    before: Option<Shared>,
) -> Result<Shared> {
    let flavour = model.flavour();
    let mut shared = match before.filter(|s| s.flavour == flavour) {
        Some(same) => same,
        None => {
            let backend = context.backend.clone();
            let load = |world: &_| Markers::load(world, backend, store, flavour);
            Shared { flavour, markers: context.phase("read genotypes", load)?, g: None }
        }
    };
    let held = model.kind != ModelKind::Mlp && model.solver == StudySolver::Eigen;
    if shared.g.is_none() && held {
        shared.g = Some(Arc::new(context.phase("relationships", |world| {
            let g = world.agree(explicit::grm(&shared.markers))?;
            Ok(explicit::share(world, g, store.n_animals()))
        })?));
    }
    Ok(shared)
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
        ModelKind::Mlp => Box::new(Mlp { store, config: model.mlp.clone().unwrap_or_default(), device }),
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
