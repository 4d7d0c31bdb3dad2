//! How well a model predicts, and how sure that is: folds, scores, paired comparisons, and what the genotypes
//! look like.

pub mod folds;
pub mod scores;
pub mod bootstrap;
mod errors;
pub mod verdicts;
pub mod comparisons;
pub mod diagnostics;
pub mod fidelity;
pub mod data;
pub mod augment;
pub mod models;
pub mod config;
pub mod idle;
pub mod crossvalidate;
pub mod cells;
pub mod lr_method;
pub mod truth;
pub mod selection;
