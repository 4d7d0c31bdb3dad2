//! Genomic relationships: G = Z Z' / c, with and without forming it.
//!
//! [`Scaling`] says once what Z and c are, missing calls included; [`GenotypeMatrix`] multiplies by Z, Z' and G from the
//! packed genotypes of all ranks; [`Method`] names the matrices of relationships; [`summa`] forms them in [`tiles`]
//! over all ranks, [`explicit`] whole on one; [`file`](mod@file) keeps them; [`pca`] gives the largest eigenvectors.

mod coding;
pub mod explicit;
pub mod file;
mod identity;
mod method;
mod missing;
pub mod pca;
mod product;
pub mod summa;
pub mod tiles;

#[cfg(test)]
mod tests;

pub use coding::Scaling;
pub use method::Method;
pub use product::GenotypeMatrix;
