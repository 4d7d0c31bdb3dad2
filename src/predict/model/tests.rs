//! Models whose files are damaged.

use super::*;

/// A model of additive effects with dominance beside them.
fn gblup() -> GblupModel {
    let mut model = additive();
    let dominance = GblupModel { coding: Scaling::Dominance, scale: 0.75, ..model.clone() };
    model.dominance = Some(Box::new(GblupModel { effects: &dominance.effects * -2.0, ..dominance }));
    model
}

fn additive() -> GblupModel {
    let texts = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    GblupModel {
        traits: texts(&["milk", "fat"]),
        variants: Variants {
            id: texts(&["s1", "s2", "s3"]),
            counted_allele: texts(&["A", "C", "G"]),
            other_allele: texts(&["G", "T", "T"]),
            frequency: vec![0.25, 0.5, 1.0],
            ..Variants::default()
        },
        coding: Scaling::VanRaden1,
        effects: ndarray::arr2(&[[0.1, 0.2], [0.3, 0.4], [-0.5, 0.6]]),
        fixed_names: texts(&["mean"]),
        fixed: ndarray::arr2(&[[7.0, 8.0]]),
        scale: 1.5,
        dominance: None,
    }
}

fn read_gblup_file(path: &Path) -> Result<GblupModel> {
    let reader = Reader::open(path, &FORMAT)?;
    let model = read_gblup(reader.root(), Scaling::VanRaden1)?;
    sound(reader.root(), model, GblupModel::is_whole, GblupModel::is_finite)
}

fn facts(path: &Path) -> Result<String> {
    read(path)?;
    let m = read_gblup_file(path)?;
    let dominance = m.dominance.map(|d| (d.effects, d.scale));
    Ok(format!("{:?} {:?} {:?} {:?} {:?} {dominance:?}", m.traits, m.variants, m.effects, m.fixed, m.scale))
}

#[test]
fn damaged_models_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.h5");
    save(&gblup(), &path, false).unwrap();
    crate::hdf::tests::damage(&path, facts);
}

#[test]
fn dominance_beside_additive_effects_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.h5");
    save(&gblup(), &path, false).unwrap();
    assert_eq!(read_gblup_file(&path).unwrap().dominance, gblup().dominance);
    assert!(read(&path).unwrap().has_parts());
}

#[test]
fn numbers_that_no_model_has_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.h5");
    type Change = fn(&mut GblupModel);
    let changes: [Change; 6] = [
        |m| m.dominance.as_mut().unwrap().effects[[0, 1]] = f64::NAN,
        |m| m.variants.frequency[1] = f64::NAN,
        |m| m.variants.frequency[1] = 1.01,
        |m| m.effects[[1, 1]] = f64::INFINITY,
        |m| m.fixed[[0, 0]] = f64::NAN,
        |m| m.scale = 0.0,
    ];
    for change in changes {
        let mut model = gblup();
        change(&mut model);
        save(&model, &path, true).unwrap();
        let e = read(&path).err().unwrap();
        assert!(e.exit_code() == 2 && e.to_string().contains("NaN"), "{e}");
    }
}
