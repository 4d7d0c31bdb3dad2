//! Genomic relationships: G = Z Z' / c, with and without forming it.
//!
//! [`Flavour`] says once what Z and c are, missing calls included; [`Markers`] multiplies by Z, Z' and G from the
//! packed genotypes of all ranks; [`explicit`] forms G; [`file`](mod@file) keeps it; [`pca`] gives its largest
//! eigenvectors.

mod coding;
pub mod explicit;
pub mod file;
mod identity;
pub mod pca;
mod product;

#[cfg(test)]
mod tests;

pub use coding::Flavour;
pub use product::Markers;
