//! Regression trees on genotypes, many at a time: what boosting and forests are made of.
//!
//! | file | holds |
//! |---|---|
//! | [`tree`] | a tree, and how an animal goes through it |
//! | [`whole`] | real numbers rounded at random to 8 bits |
//! | [`questions`] | features beside the SNPs, coded as calls |
//! | [`split`] | gains of splits, and the best of them |
//! | [`grow`] | trees of several traits grown side by side over ranks |
//! | `keep` | trees kept while more of them grow |
//! | [`boosting`] | trees one after another, each from what those before leave (Friedman 2001) |
//! | `permutation` | importance by permutation, of forests |
//! | [`forest`] | trees beside each other, each from animals drawn anew (Breiman 2001) |
//!
//! A node asks of each SNP the sums of the gradients by code, which are exact sums of whole numbers
//! ([`Backend::sums_by_code`](crate::device::Backend::sums_by_code)), so that the trees are the same on any number of ranks
//! and threads. Ranks own SNPs; each finds its best splits, one exchange decides, and the owner tells on which side each
//! animal is.

pub mod boosting;
pub mod forest;
pub mod grow;
mod keep;
mod permutation;
pub mod questions;
pub mod split;
#[cfg(test)]
mod tests;
pub mod tree;
pub mod whole;

pub use grow::Genotypes;
pub use questions::{Question, Questions};
pub use tree::{Node, Tree};

use crate::error::{Error, Result};

/// An error at the first setting that is not sound: whether it is, its key, what is expected, what was found.
fn check<const N: usize>(place: &str, settings: [(bool, &str, &str, String); N]) -> Result<()> {
    match settings.into_iter().find(|(sound, ..)| !sound) {
        None => Ok(()),
        Some((_, key, expected, found)) => {
            Err(Error::input(format!("{place}, {key}"), expected, found, "correct it"))
        }
    }
}
