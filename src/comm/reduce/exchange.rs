//! How contributions of several ranks become their sum, chosen by name.

use super::trial;
use crate::comm::World;
use crate::device::network::Network;
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// How contributions of several ranks become their sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exchange {
    /// The fastest that all ranks have.
    #[default]
    Auto,
    /// From GPU to GPU.
    Nccl,
    /// From GPU to GPU by two buffers in the hosts' memory, copies overlapped with MPI.
    Staged,
    /// Through the hosts' memory.
    Host,
    /// Through the hosts' memory, always the same pieces in the same order.
    Ordered,
}

impl Exchange {
    /// All of them.
    pub const ALL: [Exchange; 5] =
        [Exchange::Auto, Exchange::Nccl, Exchange::Staged, Exchange::Host, Exchange::Ordered];

    /// The name in options.
    pub fn name(self) -> &'static str {
        match self {
            Exchange::Auto => "auto",
            Exchange::Nccl => "nccl",
            Exchange::Staged => "staged",
            Exchange::Host => "host",
            Exchange::Ordered => "ordered",
        }
    }

    /// The one that all ranks of `world` take when `self` is wanted: NCCL once it has summed, on trial. Collective.
    pub fn agreed(self, world: &World, device: &dyn Network) -> Result<Exchange> {
        let found = self.within_reach(world, device)?;
        if found != Exchange::Nccl || world.size() == 1 {
            return Ok(found);
        }
        match trial::run(world, device) {
            Ok(()) => Ok(Exchange::Nccl),
            Err(refusal) if self == Exchange::Auto => {
                log::warn!("{refusal}; sums go through the hosts' memory (staged)");
                Ok(Exchange::Staged)
            }
            Err(refusal) => Err(refusal.error()),
        }
    }

    /// The one that all ranks of `world` have what it takes for when `self` is wanted. Collective.
    pub fn within_reach(self, world: &World, device: &dyn Network) -> Result<Exchange> {
        let gpus = device.gpus();
        // Whether each rank has a GPU, and which.
        let all = world.all_gather(&(gpus.is_some(), gpus.and_then(|c| c.identity())));
        let staged = all.iter().all(|(gpu, _)| *gpu);
        let names: BTreeSet<_> = all.iter().filter_map(|(_, name)| *name).collect();
        let nccl = names.len() == world.size();
        let own = match self {
            Exchange::Auto if nccl => Ok(Exchange::Nccl),
            Exchange::Auto if staged => Ok(Exchange::Staged),
            Exchange::Auto => Ok(Exchange::Host),
            Exchange::Nccl if !nccl => Err(self.lacking("NCCL and a GPU of its own for every rank")),
            Exchange::Staged if !staged => Err(self.lacking("a GPU for every rank")),
            other => Ok(other),
        };
        world.agree(own)
    }

    fn lacking(self, what: &str) -> Error {
        let found = format!("{self}, which needs {what}");
        Error::input("--exchange", "auto, host or ordered", found, "leave it out for the default")
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Exchange {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let found = Exchange::ALL.into_iter().find(|e| e.name() == text);
        found.ok_or_else(|| format!("expected {}", Exchange::ALL.map(Exchange::name).join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::open;

    #[test]
    fn what_a_device_lacks_is_told() {
        let device = open("cpu").unwrap();
        let agreed = |e: Exchange| e.agreed(&World::alone(), &*device);
        assert_eq!(agreed(Exchange::Auto).unwrap(), Exchange::Host);
        for lacking in [Exchange::Nccl, Exchange::Staged] {
            assert_eq!(agreed(lacking).unwrap_err().exit_code(), 2);
        }
        assert_eq!("ordered".parse(), Ok(Exchange::Ordered));
        assert!("nickel".parse::<Exchange>().unwrap_err().contains("nccl"));
    }
}
