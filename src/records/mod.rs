//! Tables of records, covariates and weights, and their alignment with the animals of a store.

mod design;
mod phenotype;
pub mod table;

pub use phenotype::{Columns, Phenotypes, Sources};
