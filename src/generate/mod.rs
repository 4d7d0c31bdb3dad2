//! Generators: models that learn from the genotypes of a herd and generate synthetic animals.
//!
//! | file | holds |
//! |---|---|
//! | [`herd`] | what a generator learns from |
//! | [`model`] | the file of a trained generator |
//! | [`gather`] | calls of all ranks brought together |
//! | [`stream`] | any number of animals into a store |
//! | [`curve`] | the learning curve |
//! | [`baseline`] | without a network: independent SNPs, a Markov chain, mosaics of animals and of relatives |
//! | [`wgan_gp`] | a generator and its critic |
//! | [`learning`] | what the networks below have in common |
//! | [`epochs`] | their training loop, whose state can be kept |
//! | [`components`] | principal components of each chromosome |
//! | [`vae`], [`gan`], [`ddpm`] | published baselines |
//!
//! A kind of generator is one file: its configuration, which is a [`Recipe`], its [`Generator`], and one line in
//! [`KINDS`]. `train KIND`, `generate` and `info` find it there.

pub mod herd;
pub mod gather;
pub mod curve;
pub mod model;
pub mod stream;
pub mod learning;
pub mod epochs;
pub mod baseline;
pub mod wgan_gp;
pub mod vae;
pub mod gan;
pub mod components;
pub mod ddpm;
#[cfg(test)]
mod tests;

pub use crate::config::as_text;
pub use curve::Curve;
pub use herd::{Conditions, Herd};
pub use model::{Header, Model, Reader, Writer};

use crate::comm::reduce::Exchange;
use crate::comm::World;
use crate::config;
use crate::device::network::Network;
use crate::error::Result;
use crate::nn::checkpointer::Checkpointer;
use crate::nn::{Grid, Ranks};
use crate::packed::Packed;
use ndarray::ArrayView2;
use serde::de::DeserializeOwned;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Generates genotypes of synthetic animals. The same seed gives the same animals on any number of ranks, and
/// however they are cut into calls.
pub trait Generator {
    /// How many conditions an animal has, 0 for none.
    fn conditions(&self) -> usize {
        0
    }

    /// Calls of the animals numbered `animals` at this rank's SNPs, with their standardised `conditions`
    /// (animals, c). Collective over the ranks of a line of the grid ([`Ranks`]): those with other SNPs. Other lines
    /// may be asked for other animals.
    fn draw(
        &mut self,
        ranks: &Ranks,
        animals: Range<u64>,
        conditions: Option<ArrayView2<f64>>,
        seed: u64,
    ) -> Result<Packed>;

    /// Gives what the file needs to hold. Collective; only the root writes.
    fn write(&self, ranks: &Ranks, to: &mut Writer) -> Result<()>;
}

/// A checked configuration of a kind of generator.
pub trait Recipe {
    /// As TOML, for the model file.
    fn text(&self) -> String;

    /// The ranks of a training on `m` SNPs, which are shared out where the kind is `split`. Collective.
    fn ranks(&self, world: &World, device: &Arc<dyn Network>, split: bool, m: usize) -> Result<Ranks> {
        let grid = if split { Grid::Auto } else { Grid::Of(1, world.size()) };
        Ranks::new(world, device, grid.parts(world.size(), m)?, Exchange::Auto)
    }

    /// Learns from a herd; a checkpointer may keep the state. Collective.
    ///
    /// # Errors
    /// What the device meets, and a wish to stop.
    fn train(
        &self,
        setting: &Setting,
        herd: &Herd,
        checkpointer: Option<&mut Checkpointer>,
    ) -> Result<Trained>;
}

/// Where training takes place.
pub struct Setting<'a> {
    /// The ranks that share it.
    pub ranks: &'a Ranks,
    /// What computes.
    pub device: &'a Arc<dyn Network>,
    /// Seed of all random numbers.
    pub seed: u64,
}

/// What training gives.
pub struct Trained {
    /// The generator.
    pub generator: Box<dyn Generator>,
    /// How it learned; empty where it counted only.
    pub curve: Curve,
}

/// Reads and checks a configuration: the text of a file, and its name.
pub type Configure = fn(Option<(&str, &Path)>) -> Result<Box<dyn Recipe>>;

/// Reads a trained generator, of which this rank needs its own SNPs.
pub type Read = fn(&Reader, &Header, &Ranks, &Arc<dyn Network>) -> Result<Box<dyn Generator>>;

/// A kind of generator.
pub struct Kind {
    /// Its name: `train NAME`, and what the model file says.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// Whether ranks share out the SNPs; otherwise each has all of them.
    pub split: bool,
    /// Whether it may learn with conditions.
    pub conditional: bool,
    /// Whether [`Recipe::train`] keeps its state, so that a run which was stopped can go on.
    pub resumes: bool,
    /// Reads and checks its configuration.
    pub configure: Configure,
    /// Reads it when trained.
    pub read: Read,
}

/// All kinds of generators.
pub const KINDS: &[Kind] = &[
    wgan_gp::KIND,
    vae::KIND,
    gan::KIND,
    ddpm::KIND,
    baseline::independent::KIND,
    baseline::markov::KIND,
    baseline::mosaic::KIND,
    baseline::relatives::KIND,
];

impl Kind {
    /// The kind of that name.
    pub fn named(name: &str) -> Option<&'static Kind> {
        KINDS.iter().find(|k| k.name == name)
    }

    /// The names of all kinds, for messages.
    pub fn names() -> String {
        KINDS.iter().map(|k| k.name).collect::<Vec<_>>().join(", ")
    }

    /// Its configuration by default, as TOML.
    pub fn defaults(&self) -> String {
        (self.configure)(None).map_or_else(|_| String::new(), |recipe| recipe.text())
    }

    /// Parts of the SNPs and of the animals that a number of ranks has while generating.
    pub fn parts(&self, ranks: usize, m: usize) -> Result<(usize, usize)> {
        if self.split { Grid::Auto } else { Grid::Of(1, ranks) }.parts(ranks, m)
    }
}

/// A configuration from the text of a file, or the default one: for [`Kind::configure`].
pub fn configured<T: DeserializeOwned + Default>(file: Option<(&str, &Path)>) -> Result<T> {
    file.map_or_else(|| Ok(T::default()), |(text, path)| config::parse(text, path))
}
