//! A tree, and how an animal goes through it.

use crate::packed::MISSING;
use serde::{Deserialize, Serialize};

/// A node: a leaf, or a question about a SNP.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// The SNP that is asked about; none in a leaf.
    pub split: Option<Split>,
    /// The first of its two children, which stand side by side; 0 in a leaf.
    pub child: u32,
    /// What a leaf adds to a prediction; 0 in other nodes.
    pub value: f64,
}

/// A question about a SNP: fewer than `cut` of the counted alleles go to the first child.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// Number of the SNP among those of all ranks.
    pub snp: u32,
    /// 1: {0} | {1, 2}; 2: {0, 1} | {2}.
    pub cut: u8,
    /// Whether animals without a call go to the first child.
    pub missing_first: bool,
    /// What the split gains.
    pub gain: f64,
}

impl Split {
    /// Whether an animal with that code goes to the first child.
    pub fn is_first(&self, code: u8) -> bool {
        if code == MISSING {
            self.missing_first
        } else {
            code < self.cut
        }
    }
}

/// A tree: nodes, the root first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Tree {
    /// All nodes; children stand behind their parents.
    pub nodes: Vec<Node>,
}

impl Tree {
    /// The value of the leaf to which an animal comes, `code` being its call at a SNP.
    pub fn value(&self, code: impl Fn(u32) -> u8) -> f64 {
        let mut at = 0;
        loop {
            let node = &self.nodes[at];
            let Some(split) = &node.split else { return node.value };
            at = node.child as usize + usize::from(!split.is_first(code(split.snp)));
        }
    }

    /// The SNPs that an animal is asked about on its way.
    pub fn path<'a>(&'a self, code: impl Fn(u32) -> u8 + 'a) -> impl Iterator<Item = u32> + 'a {
        let mut at = 0;
        std::iter::from_fn(move || {
            let node = &self.nodes[at];
            let split = node.split.as_ref()?;
            at = node.child as usize + usize::from(!split.is_first(code(split.snp)));
            Some(split.snp)
        })
    }

    /// Whether every node can be reached once and every way ends in a leaf, with SNPs below `m`.
    pub fn is_whole(&self, m: usize) -> bool {
        let mut has_parent = vec![false; self.nodes.len()];
        let sound = self.nodes.iter().enumerate().all(|(at, node)| {
            let Some(split) = &node.split else { return node.child == 0 };
            let first = node.child as usize;
            let fresh = first > at
                && has_parent.get(first..first + 2).is_some_and(|children| !children.contains(&true));
            if fresh {
                has_parent[first..first + 2].fill(true);
            }
            fresh && (1..=2).contains(&split.cut) && (split.snp as usize) < m
        });
        sound && has_parent.iter().skip(1).all(|has| *has) && !has_parent.is_empty()
    }
}
