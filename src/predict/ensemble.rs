//! Boosting and forests applied to other animals.

use super::learner::ensemble::Ensemble;
use super::model::Asked;
use super::{align, model, Importance, Inputs, Kind, Predictor};
use crate::comm::{layout, World};
use crate::device::network::Network;
use crate::error::Result;
use crate::genotype::Variants;
use crate::hdf::{Group, GroupWriter};
use crate::nn::mlp::Standardised;
use crate::packed::{code, MISSING};
use crate::records::Phenotypes;
use crate::trees::boosting::{self, Fitted};
use crate::trees::tree::Split;
use crate::trees::{forest, Node, Question, Questions, Tree};
use ndarray::Array2;
use rayon::prelude::*;
use std::sync::Arc;

/// Animals that are predicted at a time.
const BLOCK: usize = 2000;

/// Trees of every trait and all that is needed to apply them to other animals.
#[derive(Debug, Clone, PartialEq)]
pub struct EnsembleModel {
    /// `boosting` or `forest`.
    pub kind: &'static str,
    /// Names of the traits, t.
    pub traits: Vec<String>,
    /// Names and alleles of the SNPs, m.
    pub variants: Variants,
    /// Questions about features, which trees number on from the SNPs.
    pub questions: Questions,
    /// Trees of each trait, whose leaves are in units of the trait, t.
    pub trees: Vec<Vec<Tree>>,
    /// Names of the fixed effects, q.
    pub fixed_names: Vec<String>,
    /// Fixed effects b̂, (q, t): not part of predictions.
    pub fixed: Array2<f64>,
}

/// Boosting.
pub const BOOSTING: Kind = Kind {
    name: "boosting",
    about: "Gradient boosting of trees of genotypes, all traits side by side",
    files: &["boosting"],
    configure: |settings| Ok(Box::new(Ensemble::<boosting::Config>::configure(settings)?)),
    read: |file, _, length| EnsembleModel::read(file, "boosting", length),
};

/// Random forests.
pub const FOREST: Kind = Kind {
    name: "forest",
    about: "A random forest of genotypes, all traits side by side",
    files: &["forest"],
    configure: |settings| Ok(Box::new(Ensemble::<forest::Config>::configure(settings)?)),
    read: |file, _, length| EnsembleModel::read(file, "forest", length),
};

impl EnsembleModel {
    /// The model of what was fitted.
    pub fn new(
        kind: &'static str,
        fitted: Fitted,
        records: Standardised,
        (phenotypes, variants, questions): (&Phenotypes, &Variants, Questions),
    ) -> EnsembleModel {
        let mut trees = fitted.trees;
        for (trees, sd) in trees.iter_mut().zip(&records.sd) {
            trees.iter_mut().flat_map(|tree| &mut tree.nodes).for_each(|node| node.value *= sd);
        }
        let (traits, fixed_names) = (phenotypes.traits.clone(), phenotypes.effects.clone());
        let (variants, fixed) = (variants.clone(), records.fixed);
        EnsembleModel { kind, traits, variants, questions, trees, fixed_names, fixed }
    }

    fn read(file: &Group, kind: &'static str, length: u64) -> Result<Box<dyn Predictor>> {
        let (traits, fixed) = (file.names("traits")?, file.group("fixed")?);
        let trees = read_trees(&file.group("trees")?, traits.len(), length)?;
        let model = EnsembleModel {
            kind,
            traits,
            variants: model::read_variants(file)?,
            questions: read_questions(file)?,
            trees,
            fixed_names: fixed.texts("names")?,
            fixed: fixed.matrix("effects")?,
        };
        Ok(Box::new(model::sound(file, model, EnsembleModel::is_whole, EnsembleModel::is_finite)?))
    }

    fn is_whole(&self) -> bool {
        let (m, t) = (self.variants.len(), self.traits.len());
        self.trees.iter().flatten().all(|tree| tree.is_whole(m + self.questions.len()))
            && model::of_one_size(&self.variants, (&self.fixed_names, &self.fixed), t)
    }

    fn is_finite(&self) -> bool {
        let nodes = self.trees.iter().flatten().flat_map(|tree| &tree.nodes);
        let sound = |node: &Node| node.value.is_finite() && node.split.is_none_or(|s| s.gain.is_finite());
        nodes.into_iter().all(sound) && self.fixed.iter().all(|b| b.is_finite())
    }
}

/// Questions about features, where there are some.
fn write_questions(file: &GroupWriter, questions: &Questions) -> Result<()> {
    let row = |(k, question): &(usize, Question)| match question {
        Question::Above(cuts) => (*k, *cuts, String::new()),
        Question::Is(level) => (*k, [f64::NAN; 2], level.clone()),
    };
    let rows: Vec<Asked> = questions.all.iter().map(row).collect();
    model::write_features(file, &questions.features, ("cuts", &rows))
}

/// What [`write_questions`] wrote.
fn read_questions(file: &Group) -> Result<Questions> {
    let (features, rows) = model::read_features(file, "cuts")?;
    let question = |(k, cuts, level): Asked| match cuts[0].is_nan() {
        true => (k, Question::Is(level)),
        false => (k, Question::Above(cuts)),
    };
    Ok(Questions { features, all: rows.into_iter().map(question).collect() })
}

/// Trees one after another, those of each trait together.
fn write_trees(file: &GroupWriter, all: &[Vec<Tree>]) -> Result<()> {
    let nodes: Vec<&Node> = all.iter().flatten().flat_map(|tree| &tree.nodes).collect();
    let of_split = |get: fn(&Split) -> u32| -> Vec<u32> {
        nodes.iter().map(|node| node.split.as_ref().map_or(0, get)).collect()
    };
    let lengths: Vec<u64> = all.iter().flatten().map(|tree| tree.nodes.len() as u64).collect();
    let counts: Vec<u64> = all.iter().map(|trees| trees.len() as u64).collect();
    file.list("of_trait", &counts)?;
    file.list("nodes", &lengths)?;
    file.list("snp", &of_split(|s| s.snp))?;
    file.list("cut", &of_split(|s| u32::from(s.cut)))?;
    file.list("missing_first", &of_split(|s| u32::from(s.missing_first)))?;
    file.list("child", &nodes.iter().map(|node| node.child).collect::<Vec<u32>>())?;
    file.list("value", &nodes.iter().map(|node| node.value).collect::<Vec<f64>>())?;
    let gains: Vec<f64> = nodes.iter().map(|node| node.split.map_or(0.0, |s| s.gain)).collect();
    file.list("gain", &gains)
}

/// What [`write_trees`] wrote, of a file of so many bytes.
fn read_trees(file: &Group, t: usize, length: u64) -> Result<Vec<Vec<Tree>>> {
    let (counts, lengths) = (file.list::<u64>("of_trait")?, file.list::<u64>("nodes")?);
    let (snp, cut, child) = (file.list::<u32>("snp")?, file.list::<u32>("cut")?, file.list::<u32>("child")?);
    let (missing_first, value, gain) =
        (file.list::<u32>("missing_first")?, file.list::<f64>("value")?, file.list::<f64>("gain")?);
    let count = snp.len();
    let fits = |sizes: &[u64], sum: usize| {
        sizes.iter().all(|&s| s <= length) && sizes.iter().sum::<u64>() == sum as u64
    };
    let alike = [cut.len(), child.len(), missing_first.len(), value.len(), gain.len()] == [count; 5];
    if !(alike && counts.len() == t && fits(&counts, lengths.len()) && fits(&lengths, count)) {
        return Err(file.damaged("trees of another size"));
    }
    let node = |at: usize| {
        let cut = u8::try_from(cut[at]).unwrap_or(u8::MAX);
        let split = Split { snp: snp[at], cut, missing_first: missing_first[at] != 0, gain: gain[at] };
        Node { split: (child[at] != 0).then_some(split), child: child[at], value: value[at] }
    };
    let mut at = 0;
    let mut trees = lengths.iter().map(|&length| {
        let nodes = (at..at + length as usize).map(node).collect();
        at += length as usize;
        Tree { nodes }
    });
    Ok(counts.iter().map(|&count| trees.by_ref().take(count as usize).collect()).collect())
}

impl Predictor for EnsembleModel {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn write_parts(&self, file: &GroupWriter) -> Result<()> {
        file.texts("traits", &self.traits)?;
        model::write_variants(file, &self.variants)?;
        model::write_fixed(file, &self.fixed_names, &self.fixed)?;
        write_questions(file, &self.questions)?;
        write_trees(&file.group("trees")?, &self.trees)
    }

    fn traits(&self) -> &[String] {
        &self.traits
    }

    fn features(&self) -> &[String] {
        &self.questions.features
    }

    /// What splits at each SNP or feature gain in all trees of a trait, as a share of what all splits gain (Breiman et al.
    /// 1984).
    fn importance(&self) -> Option<Importance<'_>> {
        let (m, features) = (self.variants.len(), &self.questions.features);
        let row = |at: usize| at.checked_sub(m).map_or(at, |question| m + self.questions.all[question].0);
        let mut shares = Array2::zeros((m + features.len(), self.traits.len()));
        for (trees, mut column) in self.trees.iter().zip(shares.columns_mut()) {
            let splits = trees.iter().flat_map(|tree| &tree.nodes).filter_map(|node| node.split);
            splits.for_each(|split| column[row(split.snp as usize)] += split.gain);
            let sum = column.sum();
            if sum > 0.0 {
                column /= sum;
            }
        }
        Some(Importance { snps: &self.variants, features, shares })
    }

    fn predict(&self, world: &World, _device: Arc<dyn Network>, inputs: Inputs) -> Result<Array2<f64>> {
        let store = inputs.store;
        let found = align::align(&self.variants, store.variants(), store.path())?;
        // For a SNP of the model, that of the store.
        let mut here = vec![None; self.variants.len()];
        for (j, (k, turned)) in found.iter().enumerate().filter_map(|(j, found)| found.map(|f| (j, f))) {
            here[k] = Some((j, turned));
        }
        let asked = self.questions.codes(inputs.features, store.n_animals())?;
        let (n, m, t) = (store.n_animals(), store.n_variants(), self.traits.len());
        let own = layout::share(n, world.rank(), world.size());
        let mut values = Vec::with_capacity(own.len() * t);
        let mut read = || {
            for start in own.clone().step_by(BLOCK) {
                let calls = store.read(start..(start + BLOCK).min(own.end), 0..m)?;
                let of_animal = |i: usize| {
                    let row = calls.row(i);
                    let code = |snp: u32| match here.get(snp as usize) {
                        None => asked.get(start + i, snp as usize - here.len()),
                        Some(None) => MISSING,
                        Some(&Some((j, turned))) => match code(row, j) {
                            code if turned && code != MISSING => 2 - code,
                            code => code,
                        },
                    };
                    self.trees
                        .iter()
                        .map(|trees| trees.iter().map(|tree| tree.value(code)).sum::<f64>())
                        .collect()
                };
                let rows: Vec<Vec<f64>> = (0..calls.rows()).into_par_iter().map(of_animal).collect();
                values.extend(rows.into_iter().flatten());
            }
            Ok(())
        };
        let done = read();
        world.agree(done)?;
        let all = world.all_gather(&values).concat();
        Ok(Array2::from_shape_vec((n, t), all).expect("every animal is one rank's"))
    }
}
