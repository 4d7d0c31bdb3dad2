//! Tables of records, covariates and weights, and their alignment with the animals of a store.

mod design;
mod factor;
mod long;
mod phenotype;
pub mod table;

pub use factor::Factor;
pub use long::{Classes, LongRecords};
pub use phenotype::{Columns, Phenotypes, Sources};
