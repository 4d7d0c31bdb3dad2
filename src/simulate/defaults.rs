//! The default herd: 33 traits of dairy cows, their correlations and three genes of large effect.

use super::config::{Correlation, Form, MajorGene, TraitConfig};

/// name, group, h2, mean, sd, recorded
type Row = (&'static str, &'static str, f64, f64, f64, f64);

const TRAITS: [Row; 33] = [
    ("milk", "yield", 0.30, 8000.0, 1200.0, 1.0),
    ("fat_content", "content", 0.50, 4.0, 0.3, 1.0),
    ("body_condition", "type", 0.30, 3.0, 0.5, 0.7),
    ("conception", "fertility", 0.03, 0.0, 1.0, 0.8),
    ("fat", "yield", 0.30, 320.0, 50.0, 1.0),
    ("protein", "yield", 0.30, 260.0, 38.0, 1.0),
    ("mastitis", "mastitis", 0.03, 0.0, 1.0, 0.6),
    ("somatic_cells", "cells", 0.15, 2.5, 1.2, 1.0),
    ("stature", "type", 0.47, 147.0, 3.5, 0.7),
    ("protein_content", "content", 0.50, 3.2, 0.17, 1.0),
    ("milking_speed", "workability", 0.20, 5.0, 1.5, 0.8),
    ("chest_width", "type", 0.25, 5.0, 1.4, 0.7),
    ("heifer_conception", "fertility", 0.02, 0.0, 1.0, 0.8),
    ("temperament", "workability", 0.15, 5.0, 1.5, 0.8),
    ("udder_depth", "type", 0.40, 5.0, 1.4, 0.7),
    ("calving_interval", "fertility", 0.05, 400.0, 55.0, 0.8),
    ("lameness", "lameness", 0.05, 0.0, 1.0, 0.5),
    ("rump_angle", "type", 0.35, 5.0, 1.3, 0.7),
    ("locomotion", "type", 0.10, 5.0, 1.4, 0.7),
    ("teat_length", "type", 0.35, 5.0, 1.3, 0.7),
    ("fore_udder", "type", 0.25, 5.0, 1.4, 0.7),
    ("bone_quality", "type", 0.28, 5.0, 1.4, 0.7),
    ("body_depth", "type", 0.35, 5.0, 1.3, 0.7),
    ("angularity", "type", 0.25, 5.0, 1.3, 0.7),
    ("rump_width", "type", 0.35, 5.0, 1.3, 0.7),
    ("rear_legs_side", "type", 0.18, 5.0, 1.3, 0.7),
    ("rear_legs_rear", "type", 0.12, 5.0, 1.5, 0.7),
    ("foot_angle", "type", 0.12, 5.0, 1.3, 0.7),
    ("rear_udder_height", "type", 0.25, 5.0, 1.4, 0.7),
    ("udder_support", "type", 0.20, 5.0, 1.5, 0.7),
    ("front_teats", "type", 0.30, 5.0, 1.3, 0.7),
    ("rear_teats", "type", 0.30, 5.0, 1.4, 0.7),
    ("udder_balance", "type", 0.15, 5.0, 1.2, 0.7),
];

/// name, form, share of the phenotypic variance, driving trait
const NON_ADDITIVE: [(&str, Form, f64, Option<&str>); 11] = [
    ("body_condition", Form::Quadratic, 0.20, Some("milk")),
    ("conception", Form::Dominance, 0.10, None),
    ("milking_speed", Form::Sine, 0.15, Some("milk")),
    ("chest_width", Form::Dominance, 0.15, None),
    ("heifer_conception", Form::Epistasis, 0.10, None),
    ("temperament", Form::Sine, 0.15, Some("stature")),
    ("calving_interval", Form::Logistic, 0.10, Some("milk")),
    ("lameness", Form::Exponential, 0.10, Some("milk")),
    ("locomotion", Form::Exponential, 0.15, Some("stature")),
    ("teat_length", Form::Epistasis, 0.20, None),
    ("bone_quality", Form::Dominance, 0.20, None),
];

/// Between traits or groups; a later line overrides an earlier one.
const CORRELATIONS: [(&str, &str, f64); 23] = [
    ("type", "type", 0.15),
    ("fertility", "fertility", 0.60),
    ("yield", "fertility", -0.45),
    ("milk", "conception", -0.60),
    ("yield", "mastitis", 0.25),
    ("milk", "mastitis", 0.28),
    ("mastitis", "cells", 0.70),
    ("mastitis", "fertility", -0.25),
    ("cells", "fertility", -0.15),
    ("fat", "milk", 0.50),
    ("protein", "milk", 0.75),
    ("fat", "protein", 0.60),
    ("fat_content", "milk", -0.45),
    ("fat_content", "fat", 0.45),
    ("fat_content", "protein", -0.10),
    ("protein_content", "milk", -0.40),
    ("protein_content", "fat", 0.20),
    ("protein_content", "protein", 0.10),
    ("fat_content", "protein_content", 0.55),
    ("body_condition", "fertility", 0.30),
    ("udder_depth", "cells", -0.35),
    ("workability", "cells", 0.10),
    ("lameness", "fertility", -0.20),
];

/// The default traits, in the order in which a smaller number takes them.
pub fn traits() -> Vec<TraitConfig> {
    TRAITS
        .iter()
        .map(|&(name, group, h2, mean, sd, recorded)| {
            let other = NON_ADDITIVE.iter().find(|n| n.0 == name);
            TraitConfig {
                name: name.into(),
                group: group.into(),
                h2,
                mean,
                sd,
                non_additive: other.map_or(0.0, |n| n.2),
                form: other.map_or(Form::Additive, |n| n.1),
                of: other.and_then(|n| n.3).map(Into::into),
                spread: None,
                own_qtl: None,
                recorded,
                classes: match name {
                    "mastitis" => vec![0.25],
                    "lameness" => vec![0.20, 0.08],
                    _ => Vec::new(),
                },
            }
        })
        .collect()
}

/// The default genetic correlations.
pub fn correlations() -> Vec<Correlation> {
    CORRELATIONS.iter().map(|&(a, b, r)| Correlation { between: [a.into(), b.into()], r }).collect()
}

/// The default genes of large effect: like DGAT1 on chromosome 14, and lesser ones on 5 and 20.
pub fn major_genes() -> Vec<MajorGene> {
    let gene = |name: &str, chromosome, place, effects: &[(&str, f64)]| MajorGene {
        name: name.into(),
        chromosome,
        place,
        effects: effects.iter().map(|&(t, share)| (t.to_string(), share)).collect(),
    };
    vec![
        gene(
            "DGAT1",
            14,
            0.02,
            &[
                ("fat_content", 0.18),
                ("milk", -0.03),
                ("fat", 0.015),
                ("protein", -0.01),
                ("protein_content", 0.03),
            ],
        ),
        gene("MGST1", 5, 0.77, &[("fat_content", 0.03), ("milk", -0.01)]),
        gene("GHR", 20, 0.44, &[("protein_content", 0.04), ("fat_content", 0.015), ("milk", -0.015)]),
    ]
}
