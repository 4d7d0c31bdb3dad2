//! Who owns what.
//!
//! Ranks own contiguous runs of whole SNP chunks. A chunk is [`CHUNK`] SNPs from a fixed global position on,
//! whatever the number of ranks, so that every chunk's arithmetic is the same everywhere.
//!
//! | 600 SNPs, CHUNK 256 | rank 0 | rank 1 | rank 2 | rank 3 |
//! |---|---|---|---|---|
//! | 1 rank  | 0..600 | | | |
//! | 2 ranks | 0..512 | 512..600 | | |
//! | 4 ranks | 0..256 | 256..512 | 512..600 | (nothing) |
//!
//! Matrices of animals × animals lie in blocks on a [`Grid`] of ranks, dealt out block by block in turn in both dimensions
//! ([`BlockCyclic`], of two [`Cyclic`]).

mod cyclic;
mod block_cyclic;
mod grid;

pub use self::block_cyclic::BlockCyclic;
pub use self::cyclic::{BlockRange, Cyclic, GlobalIndex, LocalIndex};
pub use self::grid::Grid;
pub use crate::device::CHUNK;

use std::ops::Range;

/// The `part`-th of `parts` contiguous, nearly even shares of `0..total`; earlier shares are the larger ones.
pub fn share(total: usize, part: usize, parts: usize) -> Range<usize> {
    assert!(part < parts, "share {part} of {parts}");
    let (each, more) = (total / parts, total % parts);
    let start = part * each + part.min(more);
    start..start + each + usize::from(part < more)
}

/// The SNPs of `rank` among `ranks`: whole chunks of the global `m`; `m..m`, which need not begin on a chunk, when
/// there are too few.
pub fn snps_of(m: usize, rank: usize, ranks: usize) -> Range<usize> {
    let chunks = share(m.div_ceil(CHUNK), rank, ranks);
    (chunks.start * CHUNK).min(m)..(chunks.end * CHUNK).min(m)
}

/// The chunks within a run of SNPs that begins on a chunk boundary.
pub fn chunks(snps: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    debug_assert!(snps.start.is_multiple_of(CHUNK) || snps.is_empty());
    snps.clone().step_by(CHUNK).map(move |start| start..(start + CHUNK).min(snps.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_everything_once_in_order_and_differ_by_at_most_one() {
        for total in [0, 1, 5, 7, 256, 1000] {
            for parts in [1, 2, 3, 4, 9] {
                let all: Vec<usize> = (0..parts).flat_map(|p| share(total, p, parts)).collect();
                assert_eq!(all, (0..total).collect::<Vec<_>>());
                let sizes: Vec<usize> = (0..parts).map(|p| share(total, p, parts).len()).collect();
                assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
            }
        }
    }

    #[test]
    fn snps_are_whole_chunks_and_late_ranks_may_own_nothing() {
        assert_eq!(snps_of(600, 0, 1), 0..600);
        assert_eq!((snps_of(600, 0, 2), snps_of(600, 1, 2)), (0..512, 512..600));
        assert_eq!((snps_of(600, 2, 4), snps_of(600, 3, 4)), (512..600, 600..600));
        for (m, ranks) in [(0, 3), (1, 2), (255, 4), (257, 4), (50_161, 7)] {
            let all: Vec<usize> = (0..ranks).flat_map(|r| snps_of(m, r, ranks)).collect();
            assert_eq!(all, (0..m).collect::<Vec<_>>());
            assert!(
                (0..ranks)
                    .all(|r| snps_of(m, r, ranks).start.is_multiple_of(CHUNK)
                        || snps_of(m, r, ranks).is_empty())
            );
        }
    }

    #[test]
    fn chunks_tile_a_run() {
        assert_eq!(chunks(256..600).collect::<Vec<_>>(), [256..512, 512..600]);
        assert_eq!(chunks(0..0).count(), 0);
    }
}
