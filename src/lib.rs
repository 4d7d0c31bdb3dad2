//! genialearn predicts the traits of animals from their DNA.
//!
//! The data walk through the library once, left to right:
//!
//! files → store → packed SNP blocks → products → operators → models → predictions → scores → report
//!
//! The modules below are the rooms of the house, in order: a room uses only rooms above it
//! (`tests/rooms.rs` checks that).
#![warn(missing_docs)]

pub mod error;
pub mod output;
pub mod lines;
pub mod config;
pub mod progress;
pub mod simd;
pub mod rng;
pub mod stats;
pub mod memory;
pub mod packed;
pub mod hdf;
pub mod device;
pub mod comm;
pub mod linalg;
pub mod records;
pub mod genotype;
pub mod simulate;
pub mod grm;
pub mod neighbours;
pub mod mixed;
pub mod nn;
pub mod generate;
pub mod predict;
pub mod evaluate;
pub mod report;
pub mod cli;

#[cfg(test)]
#[path = "../tests/support/repository.rs"]
mod repository;

// Links OpenBLAS, which ndarray's products, `lapack-sys` and `cblas-sys` call.
use ndarray_linalg as _;
