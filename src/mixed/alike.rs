//! Which groups of traits one reduction serves: those whose recorded animals differ little ([`Gaps`]).
//!
//! [`Gaps`]: crate::mixed::reml::Gaps

use crate::error::Result;
use crate::mixed::reml::gaps::admits;
use crate::mixed::Group;
use ndarray::{Array2, Axis};

/// Work of a reduction to a band with its eigenvalues, in n³ (as the plan counts it).
const REDUCTION: f64 = 8.0 / 3.0;
/// Levels of h² that the first search looks at for all traits, and those that a trait's refinement looks at.
const LEVELS: [f64; 2] = [49.0, 12.0];
/// Work for one missing animal at one level, in n: a solution by a band of 32 diagonals, 4 · 32, counted four times
/// because it runs slower than products.
const SOLUTION: f64 = 4.0 * 128.0;
/// Work for each two missing animals at one level, in n: C and its slope.
const PAIR: f64 = 4.0;
/// All gaps together are at most this share of the animals: F, and its solutions, then take no more memory than what
/// the fit of one group holds beside its matrix.
const ALL_GAPS: f64 = 0.1;

/// Groups that share a reduction, by number, and all their animals as one group.
pub struct Alike {
    /// Their numbers, rising.
    pub members: Vec<usize>,
    /// All their animals with the design, without records.
    pub all: Group,
}

/// Sets of at least two groups each that one reduction serves with less than half of the work of their own; groups in
/// none of them are to be fitted alone. Groups with weights, an absorbed class or several records of an animal are.
///
/// # Errors
/// What LAPACK meets.
pub fn alike(groups: &[&Group]) -> Result<Vec<Alike>> {
    let mut left: Vec<usize> = (0..groups.len()).filter(|&i| groups[i].is_plain()).collect();
    let mut found = Vec::new();
    while left.len() > 1 {
        let mut members = std::mem::take(&mut left);
        // The smallest group lacks the most; others like it may make another set.
        while let Some(smallest) = too_different(groups, &members) {
            left.push(members.remove(smallest));
        }
        left.sort_unstable();
        if members.len() < 2 {
            continue;
        }
        let Some(all) = together(groups, &members) else { continue };
        let mut admitted = Vec::new();
        for i in members {
            if admits(&all, groups[i])? {
                admitted.push(i);
            }
        }
        if admitted.len() > 1 {
            found.push(Alike { members: admitted, all });
        }
    }
    Ok(found)
}

/// All groups by number, those together that share a reduction, the others each alone: pieces of work that differ in
/// nothing wherever they are done.
///
/// # Errors
/// As [`alike`].
pub fn pieces(groups: &[&Group]) -> Result<Vec<Vec<usize>>> {
    let mut pieces: Vec<Vec<usize>> = alike(groups)?.into_iter().map(|set| set.members).collect();
    let shared = pieces.concat();
    pieces.extend((0..groups.len()).filter(|i| !shared.contains(i)).map(|i| vec![i]));
    Ok(pieces)
}

/// The place among `members` of the smallest group, unless one reduction serves all of them.
fn too_different(groups: &[&Group], members: &[usize]) -> Option<usize> {
    let last = members.iter().filter_map(|&i| groups[i].animals().last()).max();
    let mut counts = vec![0; last.map_or(0, |last| last + 1)];
    members.iter().flat_map(|&i| groups[i].animals()).for_each(|&animal| counts[animal] += 1);
    let n = counts.iter().filter(|&&count| count > 0).count();
    let gaps = n - counts.iter().filter(|&&count| count == members.len()).count();
    let pay = |&i: &usize| pays(n, n - groups[i].animals().len(), groups[i].traits());
    if gaps as f64 <= ALL_GAPS * n as f64 && members.iter().all(pay) {
        return None;
    }
    (0..members.len()).min_by_key(|&at| (groups[members[at]].animals().len(), std::cmp::Reverse(at)))
}

/// Whether a group of `traits` that lacks `k` of `n` animals costs less than half of its own reduction.
fn pays(n: usize, k: usize, traits: usize) -> bool {
    let (all, k, own) = (n as f64, k as f64, (n - k) as f64);
    let levels = LEVELS[0] + LEVELS[1] * traits as f64;
    levels * all * k * (SOLUTION + PAIR * k) < 0.5 * REDUCTION * own.powi(3)
}

/// All animals of the members, rising, with their design; nothing where the members' designs differ.
fn together(groups: &[&Group], members: &[usize]) -> Option<Group> {
    let effects = groups[members[0]].effects();
    let mut rows: Vec<(usize, usize, usize)> = Vec::new(); // animal, group, row
    for &i in members {
        rows.extend(groups[i].animals().iter().enumerate().map(|(row, &animal)| (animal, i, row)));
    }
    rows.sort_unstable();
    let row = |&(_, i, row): &(usize, usize, usize)| groups[i].design().row(row).to_owned();
    let same = |two: &[(usize, usize, usize)]| two[0].0 != two[1].0 || row(&two[0]) == row(&two[1]);
    if members.iter().any(|&i| groups[i].effects() != effects) || !rows.windows(2).all(same) {
        return None;
    }
    rows.dedup_by_key(|row| row.0);
    let mut design = Array2::zeros((rows.len(), effects));
    design.axis_iter_mut(Axis(0)).zip(&rows).for_each(|(mut to, from)| to.assign(&row(from)));
    let animals: Vec<usize> = rows.iter().map(|row| row.0).collect();
    let none = Array2::zeros((animals.len(), 0));
    Some(Group::new(animals, none, design, None))
}
