//! WGAN-GP on discrete genotypes (Xie et al. 2025), its SNP-snp_layer layers shared out over ranks.
//!
//! | file | holds |
//! |---|---|
//! | [`config`] | how it is made and trained |
//! | [`nets`] | generator and critic |
//! | [`step`] | a step of each |
//! | [`train`] | the training loop |
//! | [`early_stopping`] | evaluates generated animals, to choose the best epoch |
//! | [`draw`] | animals from a trained generator |
//! | `pace` | how long it will take |
//! | [`keep`] | checkpoints, and the model file |

pub mod config;
pub mod draw;
pub mod early_stopping;
pub mod keep;
pub mod nets;
mod pace;
pub mod step;
pub mod train;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod torch;
mod work;

pub use config::{Config, Preset};
pub use keep::Wgan;

use super::{as_text, Herd, Kind, Recipe, Setting, Trained};
use crate::comm::reduce::Exchange;
use crate::comm::World;
use crate::device::network::Network;
use crate::error::{Error, Result};
use crate::nn::checkpointer::Checkpointer;
use crate::nn::config::Sharing;
use crate::nn::{Grid, Ranks};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Its line in the table of kinds.
pub const KIND: Kind = Kind {
    name: "wgan",
    about: "WGAN-GP: a generator and its critic (Xie et al. 2025)",
    split: true,
    conditional: true,
    resumes: true,
    configure: |file| {
        let asked = Asked { file: file.map(|(text, path)| (text.to_owned(), path.to_owned())), preset: None };
        asked.config(1)?;
        Ok(Box::new(asked))
    },
    read: |reader, header, ranks, device| Ok(Box::new(Wgan::read(reader, header, ranks, device)?)),
};

/// What the user asked for, before the number of SNPs is known.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The text of a configuration, and its file.
    pub file: Option<(String, PathBuf)>,
    /// A preset that counts instead of the file's.
    pub preset: Option<Preset>,
}

impl Asked {
    /// The configuration for `m` SNPs.
    pub fn config(&self, m: usize) -> Result<Config> {
        let file = self.file.as_ref().map(|(text, path)| (text.as_str(), Path::new(path)));
        Config::of(file, self.preset, m)
    }
}

/// The ranks of a training on `m` SNPs. On processors they share out the SNPs, whose sums are added in a fixed order,
/// so that any number of ranks gives the same bits. Collective.
pub fn ranks(world: &World, device: &Arc<dyn Network>, sharing: &Sharing, m: usize) -> Result<Ranks> {
    let found = sharing.exchange.within_reach(world, &**device)?;
    let gpus = matches!(found, Exchange::Nccl | Exchange::Staged);
    let parts = match sharing.grid {
        Grid::Auto if !gpus => (world.size(), 1),
        grid => grid.parts(world.size(), m)?,
    };
    let in_order = sharing.exchange == Exchange::Auto && !gpus && parts.1 == 1;
    if found == Exchange::Ordered && parts.1 > 1 {
        let expected = "1 part of the batch with --exchange ordered";
        return Err(Error::input("--grid", expected, sharing.grid, "choose another --exchange"));
    }
    Ranks::by_snps(world, device, parts, if in_order { Exchange::Ordered } else { sharing.exchange })
}

impl Recipe for Asked {
    fn text(&self) -> String {
        self.file.as_ref().map_or_else(String::new, |(text, _)| text.clone())
    }

    fn ranks(&self, world: &World, device: &Arc<dyn Network>, _: bool, m: usize) -> Result<Ranks> {
        ranks(world, device, &world.agree(self.config(m))?.ranks, m)
    }

    fn train(
        &self,
        setting: &Setting,
        herd: &Herd,
        checkpointer: Option<&mut Checkpointer>,
    ) -> Result<Trained> {
        self.config(herd.variants.len())?.train(setting, herd, checkpointer)
    }
}

impl Recipe for Config {
    fn text(&self) -> String {
        as_text(self)
    }

    fn ranks(&self, world: &World, device: &Arc<dyn Network>, _: bool, m: usize) -> Result<Ranks> {
        ranks(world, device, &self.ranks, m)
    }

    fn train(
        &self,
        setting: &Setting,
        herd: &Herd,
        mut checkpointer: Option<&mut Checkpointer>,
    ) -> Result<Trained> {
        let fitted = train::fit(setting, self, herd, &mut checkpointer)?;
        let curve = keep::curve(&fitted.curve);
        Ok(Trained { generator: Box::new(Wgan::of(fitted, self, herd)), curve })
    }
}
