//! Networks: layers over one flat buffer of parameters, and their training over ranks.
//!
//! | file | holds |
//! |---|---|
//! | [`stack`] | the engine: chains of steps over one buffer of parameters, forward, backward and tangents |
//! | [`running`] | running moments of batch normalisations |
//! | [`architecture`] | what a network that predicts is made of |
//! | [`batch`] | animals that go through a network together, and their pieces |
//! | [`features`] | features beside the SNPs as columns of numbers |
//! | [`network`] | a chain with a loss on records |
//! | [`config`](mod@config) | how a network is trained |
//! | [`epochs`] | the training loop: order, early stopping, schedules |
//! | [`train`] | training of networks that predict |
//! | [`ledger`] | losses of steps, until they are read |
//! | [`checkpointer`] | the file in which training keeps its state |
//! | [`checkpoint`] | what training of networks that predict keeps there |
//! | [`division`] | who learns and who validates |
//! | [`weights`] | networks in files |
//! | [`mlp`] | genotypes to all traits at once |
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
pub mod epochs;
pub mod division;
pub mod features;
pub mod mlp;
pub mod network;
pub mod ranks;
pub mod running;
pub mod stack;
pub mod train;
pub mod weights;
#[cfg(test)]
mod tests;

pub use architecture::{Architecture, Normalisation, Reads};
pub use batch::{Batch, Input, Mode, Records};
pub use config::{Config, Training};
pub use division::Synthetic;
pub use network::{Net, Work};
pub use ranks::{Grid, Ranks};
pub use running::{Running, RunningMoments};
