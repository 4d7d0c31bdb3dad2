//! One dimension of a matrix, dealt out in blocks.

use std::ops::Range;

/// A row or column number of the whole matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GlobalIndex(pub usize);

/// A row or column number among those that one part owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalIndex(pub usize);

/// Consecutive rows or columns that lie in one block of one part: at most a block's length of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockRange {
    /// Where they stand in the whole matrix.
    pub global: Range<usize>,
    /// Where they stand within the part.
    pub local: Range<usize>,
}

/// `length` rows or columns in blocks of `block`, dealt to `parts` in turn, as ScaLAPACK has it (its first
/// block always at part 0).
///
/// 11 rows in blocks of 2 over 3 parts; the last block is short, and part 2 has fewer blocks:
///
/// | global | 0 1 | 2 3 | 4 5 | 6 7 | 8 9 | 10 |
/// |---|---|---|---|---|---|---|
/// | owner  | 0   | 1   | 2   | 0   | 1   | 2  |
/// | local  | 0 1 | 0 1 | 0 1 | 2 3 | 2 3 | 2  |
///
/// So part 0 owns 4 rows, part 1 owns 4, part 2 owns 3.
///
/// ```
/// use genialearn::comm::layout::{Cyclic, GlobalIndex, LocalIndex};
/// let rows = Cyclic::new(11, 2, 3);
/// assert_eq!((rows.owner(GlobalIndex(7)), rows.local(GlobalIndex(7))), (0, LocalIndex(3)));
/// assert_eq!(rows.global(2, LocalIndex(2)), GlobalIndex(10));
/// assert_eq!([0, 1, 2].map(|part| rows.numroc(part)), [4, 4, 3]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cyclic {
    length: usize,
    block: usize,
    parts: usize,
}

impl Cyclic {
    /// `length` may be 0, `block` and `parts` are positive.
    pub fn new(length: usize, block: usize, parts: usize) -> Cyclic {
        assert!(block > 0 && parts > 0, "blocks of {block} over {parts} parts");
        Cyclic { length, block, parts }
    }

    /// Rows or columns of the whole matrix.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Rows or columns in one block.
    pub fn block(&self) -> usize {
        self.block
    }

    /// Over how many parts they are dealt.
    pub fn parts(&self) -> usize {
        self.parts
    }

    /// The part that owns `index`.
    pub fn owner(&self, index: GlobalIndex) -> usize {
        debug_assert!(index.0 < self.length);
        index.0 / self.block % self.parts
    }

    /// The place of `index` within its owner.
    pub fn local(&self, index: GlobalIndex) -> LocalIndex {
        debug_assert!(index.0 < self.length);
        LocalIndex(index.0 / self.block / self.parts * self.block + index.0 % self.block)
    }

    /// The place in the whole matrix of what `part` holds at `index`.
    pub fn global(&self, part: usize, index: LocalIndex) -> GlobalIndex {
        debug_assert!(index.0 < self.numroc(part));
        GlobalIndex((index.0 / self.block * self.parts + part) * self.block + index.0 % self.block)
    }

    /// How many of them `part` owns (ScaLAPACK's numroc).
    pub fn numroc(&self, part: usize) -> usize {
        assert!(part < self.parts, "part {part} of {}", self.parts);
        let (whole, rest) = (self.length / self.block, self.length % self.block);
        let short = if whole % self.parts == part { rest } else { 0 };
        (whole / self.parts + usize::from(part < whole % self.parts)) * self.block + short
    }

    /// The blocks that `part` owns, in order.
    pub fn runs(&self, part: usize) -> impl Iterator<Item = BlockRange> + Clone {
        let (length, block, parts, own) = (self.length, self.block, self.parts, self.numroc(part));
        (0..own.div_ceil(block)).map(move |k| {
            let start = (k * parts + part) * block;
            BlockRange {
                global: start..(start + block).min(length),
                local: k * block..((k + 1) * block).min(own),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Lengths below, at and far above a block; more parts than blocks.
        #[test]
        fn every_index_has_one_owner_and_one_place_there(
            length in 0usize..200, block in 1usize..20, parts in 1usize..9,
        ) {
            let cyclic = Cyclic::new(length, block, parts);
            let mut counted = vec![0; parts];
            for i in (0..length).map(GlobalIndex) {
                let (owner, local) = (cyclic.owner(i), cyclic.local(i));
                prop_assert_eq!(cyclic.global(owner, local), i);
                prop_assert_eq!(local.0, counted[owner]); // in order, without holes
                counted[owner] += 1;
            }
            for (part, &count) in counted.iter().enumerate() {
                prop_assert_eq!(cyclic.numroc(part), count);
                let mut seen = 0;
                for run in cyclic.runs(part) {
                    prop_assert!(!run.global.is_empty() && run.global.len() <= block);
                    for (g, l) in run.global.clone().zip(run.local.clone()) {
                        prop_assert_eq!(cyclic.owner(GlobalIndex(g)), part);
                        prop_assert_eq!(cyclic.local(GlobalIndex(g)), LocalIndex(l));
                        prop_assert_eq!(l, seen);
                        seen += 1;
                    }
                    prop_assert_eq!(run.global.len(), run.local.len());
                }
                prop_assert_eq!(seen, count);
            }
        }
    }

    #[test]
    fn full_size_needs_more_than_32_bits_only_in_products() {
        let rows = Cyclic::new(113_599, 256, 3);
        assert_eq!((0..3).map(|p| rows.numroc(p)).sum::<usize>(), 113_599);
        assert_eq!(rows.owner(GlobalIndex(113_598)), 443 % 3);
    }
}
