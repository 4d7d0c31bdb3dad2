//! genialearn predicts the traits of animals from their DNA.
//!
//! The data walk through the library once, left to right:
//!
//! files → store → packed SNP blocks → products → operators → models → predictions → scores → report
//!
//! The modules below are the rooms of the house, in order: a room uses only rooms above it
//! (`tests/rooms.rs` checks that).
//!
//! | room | what lives there |
//! |---|---|
//! | `error` … `hdf` | errors, files and their drafts, random numbers, statistics, memory, the 2-bit code, HDF5 |
//! | `device` | one process and its processor or GPU: products with genotypes, layers of networks |
//! | `comm` | many processes: ranks, who owns what, sums |
//! | `linalg` | blocks shared out by rows, conjugate gradients, factors, traces: no genetics |
//! | `records` | tables of records, covariates, classes and weights, and their alignment with animals |
//! | `genotype`, `simulate` | the genotype store, its formats and filters; simulated herds |
//! | `grm`, `neighbours` | genomic relationships, formed or multiplied by; nearest animals |
//! | `mixed` | linear mixed models: the model, its system, REML, GBLUP, reliabilities, the plan of solvers |
//! | `nn`, `generate` | networks; generators of synthetic genotypes |
//! | `trees` | boosting and forests |
//! | `predict`, `evaluate`, `report` | kinds of models, their comparison, tables and pages |
//! | `cli` | the command line |
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
pub mod usage;
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
pub mod trees;
pub mod predict;
pub mod evaluate;
pub mod report;
pub mod cli;

#[cfg(test)]
#[path = "../tests/support/repository.rs"]
mod repository;

// Links OpenBLAS, which ndarray's products, `lapack-sys` and `cblas-sys` call.
use ndarray_linalg as _;
