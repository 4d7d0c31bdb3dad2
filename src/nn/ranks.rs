//! The grid of ranks that work on one network: SNPs × data.
//!
//! Rank `d·S + s` of a grid of S × D holds the s-th run of SNPs and computes the d-th part of each batch.
//!
//! | grid 2x3 | SNPs 0 | SNPs 1 |
//! |---|---|---|
//! | data 0 | rank 0 | rank 1 |
//! | data 1 | rank 2 | rank 3 |
//! | data 2 | rank 4 | rank 5 |

use crate::comm::layout::{share, snps_of, CHUNK};
use crate::comm::reduce::{Exchange, Reduce};
use crate::comm::World;
use crate::device::network::Network;
use crate::error::{Error, Result};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

/// Pieces of a batch with [`Exchange::Ordered`], however many ranks there are.
pub const PIECES: usize = 4;

/// Parts of the SNPs × parts of each batch; `auto` leaves the choice to the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Grid {
    /// As many parts of the SNPs as there are ranks and chunks of SNPs: that moves least.
    #[default]
    Auto,
    /// Parts of the SNPs, and of the batch.
    Of(usize, usize),
}

impl FromStr for Grid {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || {
            format!("expected auto or parts of the SNPs x parts of the batch, such as 2x3, found {text:?}")
        };
        if text == "auto" {
            return Ok(Grid::Auto);
        }
        let parts = text.split_once('x').and_then(|(s, d)| Some((s.parse().ok()?, d.parse().ok()?)));
        parts.filter(|&(s, d): &(usize, usize)| s > 0 && d > 0).map(|(s, d)| Grid::Of(s, d)).ok_or_else(wrong)
    }
}

impl TryFrom<String> for Grid {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

impl From<Grid> for String {
    fn from(grid: Grid) -> String {
        grid.to_string()
    }
}

impl fmt::Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Grid::Auto => f.write_str("auto"),
            Grid::Of(s, d) => write!(f, "{s}x{d}"),
        }
    }
}

impl Grid {
    /// Parts of the SNPs and of the batch for so many ranks and `m` SNPs (0 where the input is no genotypes).
    pub fn parts(self, ranks: usize, m: usize) -> Result<(usize, usize)> {
        match self {
            Grid::Of(s, d) if s * d == ranks => Ok((s, d)),
            Grid::Of(..) => {
                let expected = format!("a grid of {ranks} ranks, such as 1x{ranks}");
                Err(Error::input("--grid", expected, self, "choose another, or start as many ranks"))
            }
            Grid::Auto => {
                let chunks = m.div_ceil(CHUNK).max(1);
                let s = (1..=ranks.min(chunks)).rev().find(|s| ranks.is_multiple_of(*s)).unwrap_or(1);
                Ok((s, ranks / s))
            }
        }
    }
}

/// The ranks of a network, seen from one of them.
pub struct Ranks {
    /// All of them.
    pub world: World,
    /// Sums over those with the same animals: pre-activations of the first layer.
    pub snps: Reduce,
    /// Sums over those with the same SNPs: gradients, sums over batches.
    pub data: Reduce,
}

impl Ranks {
    /// Of a grid of (SNPs, data) parts, which take all ranks of `world`. Collective.
    pub fn new(
        world: &World,
        device: &Arc<dyn Network>,
        (s, d): (usize, usize),
        exchange: Exchange,
    ) -> Result<Ranks> {
        assert_eq!(s * d, world.size(), "the grid takes all ranks");
        let exchange = exchange.agreed(world, &**device)?;
        let (column, line) = (world.rank() % s, world.rank() / s);
        let along_snps = match exchange {
            Exchange::Ordered => Exchange::Host,
            other => other,
        };
        let (of_snps, of_data) = (world.split(line, column), world.split(column, line));
        if world.size() > 1 {
            log::info!("{s} x {d} ranks (SNPs x data), sums by {exchange}");
        }
        Ok(Ranks {
            world: world.clone(),
            snps: Reduce::new(of_snps, device.clone(), along_snps, 1),
            data: Reduce::new(of_data, device.clone(), exchange, PIECES),
        })
    }

    /// As [`Ranks::new`], but with [`Exchange::Ordered`] it is the SNPs that are cut in [`PIECES`], whose sums are
    /// added in their order; batches are then not shared out, d is 1. Collective.
    pub fn by_snps(
        world: &World,
        device: &Arc<dyn Network>,
        (s, d): (usize, usize),
        exchange: Exchange,
    ) -> Result<Ranks> {
        if exchange != Exchange::Ordered {
            return Ranks::new(world, device, (s, d), exchange);
        }
        assert_eq!((s, d), (world.size(), 1), "the grid takes all ranks");
        if s > 1 {
            log::info!("SNPs in {PIECES} pieces on {s} ranks, sums in their order");
        }
        let snps = Reduce::new(world.clone(), device.clone(), Exchange::Ordered, PIECES);
        let data = Reduce::new(world.split(world.rank(), 0), device.clone(), Exchange::Host, 1);
        Ok(Ranks { world: world.clone(), snps, data })
    }

    /// One process alone, with sums in whatever order is fastest.
    pub fn alone(device: &Arc<dyn Network>) -> Ranks {
        let reduce = || Reduce::new(World::alone(), device.clone(), Exchange::Host, 1);
        Ranks { world: World::alone(), snps: reduce(), data: reduce() }
    }

    /// Parts of the SNPs and of the batch.
    pub fn parts(&self) -> (usize, usize) {
        (self.snps.world().size(), self.data.world().size())
    }

    /// This rank's run of `m` SNPs.
    pub fn snps_of(&self, m: usize) -> Range<usize> {
        self.snps_of_rank(m, self.snps.world().rank())
    }

    /// The run of `m` SNPs of a rank of this line.
    pub fn snps_of_rank(&self, m: usize, rank: usize) -> Range<usize> {
        let (own, pieces) = (self.snps.owned_by(rank), self.snps.pieces());
        match (own.start, own.len()) {
            (_, 0) => m..m,
            (first, count) => snps_of(m, first, pieces).start..snps_of(m, first + count - 1, pieces).end,
        }
    }

    /// The runs of `m` SNPs whose sums are added in their order and which this rank has: one, or with
    /// [`Ranks::by_snps`] some of [`PIECES`].
    pub fn runs_of(&self, m: usize) -> Vec<Range<usize>> {
        self.snps.own().map(|piece| snps_of(m, piece, self.snps.pieces())).collect()
    }

    /// This rank's runs of a batch of `count` animals, one for each piece that it owns.
    pub fn pieces(&self, count: usize) -> Vec<Range<usize>> {
        let all = self.data.pieces();
        match self.data.own() {
            none if none.is_empty() => std::iter::once(0..0).collect(),
            own => own.map(|piece| share(count, piece, all)).collect(),
        }
    }
}
