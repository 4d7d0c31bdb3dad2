//! Learners on a small herd: out-of-fold values are what they claim, and no test record reaches a prediction.

use super::dlgblup::{train_on, DlgblupConfig};
use super::gblup::{Gblup, GblupConfig, Relationships};
use super::out_of_fold::{out_of_fold, InnerFolds};
use super::Training;
use crate::comm::World;
use crate::config::Settings;
use crate::device::open;
use crate::genotype::store::StoreWriter;
use crate::genotype::{Animals, Store, Variants};
use crate::mixed::gblup::{fit_group, Solver};
use crate::mixed::reml::Given;
use crate::mixed::Group;
use crate::nn::Synthetic;
use crate::packed::Packed;
use crate::predict::data::Data;
use crate::predict::trait_network::{no_features, TraitNetworkConfig};
use crate::predict::{Inputs, KINDS};
use crate::records::Phenotypes;
use crate::rng::{Purpose, Stream};
use ndarray::Array2;
use std::path::Path;
use std::sync::Arc;

const N: usize = 90;

/// G of random markers, and three traits of which the last has other animals' records.
fn herd() -> (Array2<f64>, Phenotypes) {
    let mut s = Stream::new(9, Purpose::Test, 0);
    let z = Array2::from_shape_simple_fn((N, 40), || s.normal());
    let u = z.dot(&Array2::from_shape_simple_fn((40, 3), || s.normal())) / 40f64.sqrt();
    let g = z.dot(&z.t()) / 40.0;
    let y = Array2::from_shape_fn((N, 3), |(i, t)| match (t, i % 4) {
        (2, 0) => f64::NAN,
        _ => 10.0 + u[[i, t]] + s.normal(),
    });
    let traits = ["a", "b", "c"].map(String::from).to_vec();
    let design = Array2::ones((N, 1));
    (g, Phenotypes { traits, y, effects: vec!["intercept".into()], design, ..Phenotypes::default() })
}

/// Random genotypes of n animals at m SNPs, in a store.
pub(super) fn store(folder: &Path, n: usize, m: usize) -> (Store, Packed) {
    let mut s = Stream::new(1, Purpose::Test, 7);
    let codes: Vec<u8> = (0..n * m).map(|_| s.below(3) as u8).collect();
    let packed = Packed::from_codes(n, m, &codes);
    let text = |k: usize| (0..k).map(|j| format!("x{j}")).collect::<Vec<_>>();
    let animals = Animals::named(text(n));
    let variants = Variants {
        chromosome: vec!["1".into(); m],
        position: (1..=m as u64).collect(),
        id: text(m),
        counted_allele: vec!["A".into(); m],
        other_allele: vec!["C".into(); m],
        cm: vec![0.0; m],
        frequency: vec![0.5; m],
        missing: vec![0; m],
    };
    let path = folder.join("real.h5");
    let mut writer = StoreWriter::create(&path, n, m, false).unwrap();
    writer.write_rows(0, &packed).unwrap();
    writer.finish(&animals, &variants).unwrap();
    (Store::open(&path).unwrap(), packed)
}

/// Three traits of the animals of a store, which its SNPs make; the last has other animals' records.
fn heritable(packed: &Packed) -> Phenotypes {
    let mut s = Stream::new(5, Purpose::Test, 0);
    let effects = Array2::from_shape_simple_fn((packed.columns(), 3), || s.normal());
    let codes = Array2::from_shape_fn((N, packed.columns()), |(i, j)| f64::from(packed.get(i, j)) - 1.0);
    let u = codes.dot(&effects) / (packed.columns() as f64 * 0.667).sqrt();
    let y = Array2::from_shape_fn((N, 3), |(i, t)| match (t, i % 4) {
        (2, 0) => f64::NAN,
        _ => 10.0 + u[[i, t]] + 0.3 * s.normal(),
    });
    Phenotypes { y, ..herd().1 }
}

/// The records of the first 70 animals.
fn training(phenotypes: &Phenotypes) -> Training {
    let mut records = phenotypes.clone();
    records.y.slice_mut(ndarray::s![70.., ..]).fill(f64::NAN);
    Training {
        groups: Group::among(phenotypes, |i| i < 70),
        records,
        seed: 4,
        split_seed: 4,
        synthetic: None,
    }
}

fn dlgblup() -> DlgblupConfig {
    let network = TraitNetworkConfig { hidden: vec![8], epochs: 3, batch: 16, ..Default::default() };
    DlgblupConfig { inner_folds: 3, network, ..Default::default() }
}

#[test]
fn inner_folds_are_equal_parts_of_the_training_animals() {
    let set = training(&herd().1);
    let folds = InnerFolds::new(&set, N, 3);
    assert!(folds.of[70..].iter().all(Option::is_none));
    let counts = [0, 1, 2].map(|k| folds.of.iter().filter(|f| **f == Some(k)).count());
    assert_eq!(counts, [24, 23, 23]);
    assert_ne!(folds, InnerFolds::new(&Training { split_seed: 2, ..set.clone() }, N, 3));
    assert_eq!(folds, InnerFolds::new(&Training { seed: 2, ..set }, N, 3), "the same for all replicates");
}

/// The way of any learner gives what GBLUP's own gives where nothing is estimated.
#[test]
fn any_learner_gives_out_of_fold_values() {
    let (_, phenotypes) = herd();
    let set = training(&phenotypes);
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store(folder.path(), N, 200);
    let data = Data::new(&World::alone(), open("cpu").unwrap(), &store);
    let learner = GblupConfig { h2: Some(0.4), ..GblupConfig::default() };
    let (whole, values) = out_of_fold(&learner, &data, &set, 3).unwrap();
    let own = learner.open(&data).unwrap().out_of_fold(&data.world, &set, 3).unwrap();
    let near = |a: &Array2<f64>, b: &Array2<f64>| (a - b).iter().all(|d| d.abs() < 1e-9);
    assert!(near(&whole.values, &own.fit.ebv) && near(&values, &own.values));
    assert!(!near(&values, &whole.values));
}

#[test]
fn out_of_fold_values_are_those_of_fits_without_the_fold() {
    let (g, phenotypes) = herd();
    let set = training(&phenotypes);
    let gblup = Gblup { relationships: Relationships::Held(Arc::new(g.clone())), h2: None };
    let found = gblup.out_of_fold(&World::alone(), &set, 3).unwrap();
    let fold = InnerFolds::new(&set, N, 3).of;
    for k in 0..3 {
        for (traits, group) in Group::among(&phenotypes, |i| i < 70 && fold[i] != Some(k)) {
            let given = |&t: &usize| {
                let e = &found.fit.estimates[t];
                e.as_given()
            };
            let given: Vec<Given> = traits.iter().map(given).collect();
            let fit = fit_group(g.view(), &group, Some(&given), Solver::Cholesky).unwrap();
            for i in (0..N).filter(|&i| fold[i] == Some(k)) {
                for (c, &t) in traits.iter().enumerate() {
                    let (got, want) = (found.values[[i, t]], fit.ebv[[i, c]]);
                    assert!((got - want).abs() < 1e-8, "fold {k} animal {i} trait {t}: {got} {want}");
                }
            }
        }
    }
    assert_eq!(found.values.row(80), found.fit.ebv.row(80));
}

#[test]
fn an_animals_own_record_is_not_in_its_out_of_fold_value() {
    let (g, phenotypes) = herd();
    let gblup = Gblup { relationships: Relationships::Held(Arc::new(g.clone())), h2: Some(0.4) };
    let value = |phenotypes: &Phenotypes| {
        gblup.out_of_fold(&World::alone(), &training(phenotypes), 3).unwrap().values.row(5).to_owned()
    };
    let mut other = phenotypes.clone();
    other.y[[5, 0]] += 50.0;
    assert_eq!(value(&phenotypes), value(&other));
    other.y[[6, 0]] += 50.0; // in another inner fold, or the same by chance
    other.y[[7, 0]] += 50.0;
    other.y[[9, 0]] += 50.0;
    assert_ne!(value(&phenotypes), value(&other));
}

#[test]
fn a_changed_test_record_changes_no_prediction() {
    let folder = tempfile::tempdir().unwrap();
    let (store, packed) = store(folder.path(), N, 40);
    let phenotypes = heritable(&packed);
    let mut other = phenotypes.clone();
    other.y.slice_mut(ndarray::s![70.., ..]).mapv_inplace(|y| 3.0 * y - 7.0);
    let mut known = phenotypes.clone();
    known.y[[3, 0]] += 5.0;
    let data = Data::new(&World::alone(), open("cpu").unwrap(), &store);
    for kind in KINDS {
        let learner = match kind.name {
            "dlgblup" => Box::new(dlgblup()),
            _ => (kind.configure)(Settings::Default).unwrap(),
        };
        let of = |set: Training| match learner.joint() {
            true => vec![set],
            false => {
                let one = |(traits, group): &(Vec<usize>, Group)| {
                    let groups = vec![(traits.clone(), group.clone())];
                    Training { groups, ..set.clone() }
                };
                set.groups.iter().map(one).collect()
            }
        };
        let learned = |p: &Phenotypes| learner.fit(&data, &of(training(p))).unwrap().remove(0);
        let (a, b) = (learned(&phenotypes), learned(&other));
        assert_eq!((a.values, a.fixed), (b.values, b.fixed), "{}", kind.name);
        assert_ne!(
            learned(&phenotypes).values,
            learned(&known).values,
            "{}: a training record does",
            kind.name
        );
    }
}

#[test]
fn synthetic_animals_are_in_the_inner_fold_of_their_donors() {
    let (_, phenotypes) = herd();
    // Animals 60 to 89 are made from the first 30, and bear their records.
    let donors: Vec<usize> = (0..30).collect();
    let synthetic = Synthetic { real: 60, donors, reference: (0..60).collect() };
    for alone in [false, true] {
        let groups = Group::among(&phenotypes, |i| i >= if alone { 60 } else { 0 });
        let records = phenotypes.clone();
        let set = Training { groups, records, seed: 4, split_seed: 4, synthetic: Some(synthetic.clone()) };
        let fold = InnerFolds::new(&set, N, 3).of;
        assert!((60..N).all(|i| fold[i].is_some() && fold[i] == fold[i - 60]));
    }
}

#[test]
fn weights_of_records_count_in_the_network_above_gblup() {
    let (_, phenotypes) = herd();
    let values = Array2::from_shape_fn((N, 3), |(i, t)| ((i * (t + 2)) as f64).sin());
    // Every second record says the opposite.
    let y = Array2::from_shape_fn((N, 3), |(i, t)| values[[i, t]] * if i % 2 == 0 { 3.0 } else { -3.0 });
    let network = |low: f64| {
        let weights = Array2::from_shape_fn((N, 3), |(i, _)| if i % 2 == 0 { 1.0 } else { low });
        let set = training(&Phenotypes { weights: Some(weights), ..phenotypes.clone() });
        let config = TraitNetworkConfig {
            hidden: vec![16],
            learning_rate: 0.01,
            residual: false,
            ..Default::default()
        };
        let device = open("cpu").unwrap();
        let made = train_on(&World::alone(), &device, &config, &set, (&values, &no_features(N), &y)).unwrap();
        let found = made.predict(&device, values.view(), no_features(N).view()).unwrap();
        crate::stats::pearson(&found.column(0).to_vec(), &values.column(0).to_vec())
    };
    let (even, odd) = (network(1e-6), network(1e6));
    assert!(even > 0.8 && odd < -0.8, "{even} {odd}");
}

/// What is fitted to a store predicts the animals of that store alike once it was written and read.
#[test]
fn every_kind_of_model_is_saved_and_applied() {
    let folder = tempfile::tempdir().unwrap();
    let (store, packed) = store(folder.path(), N, 40);
    let phenotypes = heritable(&packed);
    let (world, device) = (World::alone(), open("cpu").unwrap());
    let data = Data::new(&world, device.clone(), &store);
    let set = training(&phenotypes);
    for kind in KINDS {
        let learner = match kind.name {
            "dlgblup" => Box::new(dlgblup()),
            _ => (kind.configure)(Settings::Default).unwrap(),
        };
        let model = learner.train(&data, &set, None).unwrap().model.unwrap();
        let path = folder.path().join(kind.name);
        crate::predict::save(&*model, &path, false).unwrap();
        let read = crate::predict::load(&world, &path).unwrap();
        assert_eq!((read.kind(), read.traits()), (model.kind(), &phenotypes.traits[..]));
        let values = read.predict(&world, device.clone(), Inputs::genotypes(&store)).unwrap();
        let fitted = learner.fit(&data, std::slice::from_ref(&set)).unwrap().remove(0).values;
        for t in 0..3 {
            let (a, b) = (values.column(t).to_vec(), fitted.column(t).to_vec());
            assert!(crate::stats::pearson(&a, &b) > 0.99999, "{} trait {t}", kind.name);
            let near = a
                .iter()
                .zip(&b)
                .all(|(a, b)| ((a - a_mean(&values, t)) - (b - a_mean(&fitted, t))).abs() < 1e-3);
            assert!(near, "{} trait {t}", kind.name);
        }
    }
}

fn a_mean(x: &Array2<f64>, t: usize) -> f64 {
    crate::stats::mean(&x.column(t).to_vec())
}
