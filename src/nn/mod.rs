//! Networks: layers over one flat buffer of parameters, and their training over ranks.
//!
//! | file | holds |
//! |---|---|
//! | [`architecture`] | what a network is made of, and where each tensor lies in its buffer |
//! | [`batch`] | animals that go through a network together, and their pieces |
//! | [`features`] | features beside the SNPs as columns of numbers |
//! | [`network`] | forward and backward, written once for every backend |
//! | [`config`](mod@config) | how a network is trained |
//! | [`train`] | the training loop |
//! | [`ledger`] | losses of steps, until they are read |
//! | [`running`] | running moments of batch normalisations |
//! | [`checkpoint`] | its state in a file |
//! | [`checkpointer`] | such files, for all that learns |
//! | [`division`] | who learns and who validates |
//! | [`mlp`] | genotypes to all traits at once |
//! | [`stack`] | chains of dense steps, from which generators are made |
//! | [`ranks`] | the grid of ranks that work on one network |
//!
//! Ranks stand in a grid, SNPs × data (docs/networks.md). A network that reads packed genotypes has the rows of
//! its first weight shared out over the ranks of a line of the grid; all else is on every rank.

pub mod architecture;
pub mod batch;
pub mod checkpoint;
pub mod checkpointer;
pub mod ledger;
pub mod config;
pub mod division;
pub mod features;
pub mod mlp;
pub mod network;
pub mod ranks;
pub mod running;
pub mod stack;
pub mod train;
#[cfg(test)]
mod tests;

pub use architecture::{Architecture, Layout, Normalisation, Reads, Tensor};
pub use batch::{Batch, Input, Records};
pub use config::{Config, Training};
pub use division::Synthetic;
pub use network::{Mode, Net, Work};
pub use ranks::{Grid, Ranks};
pub use running::{Running, RunningMoments};
