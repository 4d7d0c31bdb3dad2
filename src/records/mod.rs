//! Tables of records, covariates, weights and features, and their alignment with the animals of a store.

mod design;
mod environments;
mod factor;
mod features;
mod long;
mod phenotype;
pub mod table;

pub use environments::{LongRows, LongSources, Texts};
pub use factor::Factor;
pub use features::{levels, Feature, Features, Values};
pub use long::{Classes, LongRecords};
pub use phenotype::{Columns, Phenotypes, Sources};
