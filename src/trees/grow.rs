//! Trees of several traits grown side by side, over ranks that own SNPs.

use super::split::{self, Rules, Totals, Units};
use super::tree::{Node, Split, Tree};
use crate::comm::layout;
use crate::comm::World;
use crate::device::by_code::{Lines, Sample, BLOCK, CODES};
use crate::device::network::Network;
use crate::error::Result;
use crate::genotype::Store;
use crate::packed::{code, Packed};
use crate::rng::{Purpose, Stream};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of lines that are kept or made at a time.
const LINES: usize = 64 << 20;

/// Genotypes as trees read them: this rank's SNPs of all animals.
pub struct Genotypes {
    world: World,
    device: Arc<dyn Network>,
    n: usize,
    held: Held,
}

/// What this rank holds of them, which threads read.
#[derive(Clone)]
struct Held {
    calls: Arc<Calls>,
    own: Range<usize>,
    m: usize,
    /// Questions about features, which count on from the SNPs; the last rank's.
    questions: usize,
    /// Their lines, on that rank.
    asked: Option<Arc<Lines>>,
}

/// Two ways to hold calls, each of the size of the store.
enum Calls {
    /// (own SNPs, n): lines are made of those that a tree may ask about.
    BySnp(Packed),
    /// Lines of all own SNPs.
    Lines(Lines),
}

impl Genotypes {
    /// Reads this rank's SNPs, `share` being how many of them trees may ask about. Collective.
    ///
    /// # Errors
    /// What reading the store meets.
    pub fn load(world: &World, device: Arc<dyn Network>, store: &Store, share: f64) -> Result<Genotypes> {
        let (n, m) = (store.n_animals(), store.n_variants());
        let own = layout::snps_of(m, world.rank(), world.size());
        let read = |snps: Range<usize>| store.read(0..n, own.start + snps.start..own.start + snps.end);
        Genotypes::new(world, device, (n, m), share, read)
    }

    /// From what `read` gives: the calls of some of this rank's SNPs, (n, SNPs).
    ///
    /// # Errors
    /// What reading meets.
    pub fn new(
        world: &World,
        device: Arc<dyn Network>,
        (n, m): (usize, usize),
        share: f64,
        read: impl Fn(Range<usize>) -> Result<Packed>,
    ) -> Result<Genotypes> {
        let own = layout::snps_of(m, world.rank(), world.size());
        let count = own.len();
        let runs = |each: usize| (0..count).step_by(each).map(move |first| first..(first + each).min(count));
        let lines = || runs(BLOCK).map(&read).collect::<Result<Vec<_>>>().map(|blocks| Lines::new(blocks, n));
        let by_snp = || {
            let mut calls = Packed::missing(count, n);
            let stride = calls.stride();
            for snps in runs(16 * BLOCK) {
                let part = read(snps.clone())?.transposed();
                calls.bytes_mut()[snps.start * stride..snps.end * stride].copy_from_slice(part.bytes());
            }
            Ok(calls)
        };
        let calls = if share < 1.0 { by_snp().map(Calls::BySnp) } else { lines().map(Calls::Lines) };
        let calls = Arc::new(world.agree(calls)?);
        let held = Held { calls, own, m, questions: 0, asked: None };
        Ok(Genotypes { world: world.clone(), device, n, held })
    }

    /// The same with questions about features behind the SNPs, (n, questions). Every tree may ask all of them.
    pub fn beside(&self, codes: &Packed) -> Genotypes {
        let (all, questions) = ((0..self.n).collect::<Vec<_>>(), codes.columns());
        let last = self.world.rank() + 1 == self.world.size();
        let block =
            |first: usize| codes.select(&all, &(first..(first + BLOCK).min(questions)).collect::<Vec<_>>());
        let lines = || Arc::new(Lines::new((0..questions).step_by(BLOCK).map(block).collect(), self.n));
        let asked = (last && questions > 0).then(lines);
        let held = Held { questions, asked, ..self.held.clone() };
        Genotypes { world: self.world.clone(), device: self.device.clone(), n: self.n, held }
    }

    /// The ranks.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Animals, n.
    pub fn animals(&self) -> usize {
        self.n
    }

    /// SNPs of all ranks, m.
    pub fn snps(&self) -> usize {
        self.held.m
    }

    /// This rank's SNPs of which the stream draws a `share`, by their numbers among those of all ranks, and all of its
    /// questions about features.
    pub fn draw(&self, stream: &Stream, share: f64) -> Vec<u32> {
        let Held { calls, own, m, questions, asked } = &self.held;
        let own = own.start as u32..own.end as u32;
        let mut drawn: Vec<u32> = match &**calls {
            Calls::Lines(_) => own.collect(),
            Calls::BySnp(_) => own.filter(|&snp| split::is_drawn(stream, snp, share)).collect(),
        };
        if asked.is_some() {
            drawn.extend((*m..m + questions).map(|q| q as u32));
        }
        drawn
    }

    /// Those of some SNPs and questions that are this rank's, and their calls, packed rows of n one after another.
    pub(super) fn rows(&self, snps: &[u32]) -> (Vec<u32>, Vec<u8>) {
        let own: Vec<u32> = snps.iter().copied().filter(|&snp| self.held.owns(snp)).collect();
        let mut calls = Packed::missing(own.len(), self.n);
        for (at, &snp) in own.iter().enumerate() {
            match &*self.held.calls {
                Calls::BySnp(all) if (snp as usize) < self.held.m => {
                    calls.row_mut(at).copy_from_slice(all.row(snp as usize - self.held.own.start));
                }
                _ => {
                    (0..self.n).for_each(|i| calls.set(at, i, self.held.code(snp, i as u32)));
                }
            }
        }
        (own, calls.bytes().to_vec())
    }
}

impl Held {
    /// Whether a SNP, or a question about a feature, is this rank's.
    fn owns(&self, snp: u32) -> bool {
        let snp = snp as usize;
        self.own.contains(&snp) || (snp >= self.m && self.asked.is_some())
    }

    /// The call of an animal at a SNP of this rank.
    fn code(&self, snp: u32, animal: u32) -> u8 {
        if let Some(lines) = self.asked.as_ref().filter(|_| snp as usize >= self.m) {
            return lines.code(snp as usize - self.m, animal as usize);
        }
        let j = snp as usize - self.own.start;
        match &*self.calls {
            Calls::BySnp(calls) => code(calls.row(j), animal as usize),
            Calls::Lines(lines) => lines.code(j, animal as usize),
        }
    }
}

/// A tree that is to be grown.
#[derive(Debug, Clone)]
pub struct Task {
    /// Animals to learn from; one that is drawn several times stands there as often.
    pub animals: Vec<u32>,
    /// Whole gradients and, where they differ, whole weights: (1 or 2, animals).
    pub columns: Vec<i8>,
    /// What they are worth.
    pub units: Units,
    /// Names the random numbers of the tree.
    pub number: u64,
}

/// Animals that came to a leaf.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// The leaf.
    pub node: usize,
    /// Animals of the data, rising.
    pub members: Vec<u32>,
    /// Animals that the tree learned from.
    pub learned: Vec<u32>,
}

/// A grown tree, whose leaves have no values yet.
#[derive(Debug, Clone)]
pub struct Grown {
    /// The tree.
    pub tree: Tree,
    /// Its leaves.
    pub leaves: Vec<Leaf>,
}

/// Which node is split next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// All nodes of a level together.
    Levels,
    /// The one that gains most: for few leaves.
    Best,
    /// The latest: few nodes wait, however deep the tree.
    Latest,
}

/// A node that may be split.
struct Open {
    node: usize,
    depth: usize,
    members: Vec<u32>,
    animals: Vec<u32>,
    columns: Vec<i8>,
    totals: Totals,
    sums: Vec<i32>,
    candidate: Option<Split>,
}

impl Open {
    fn new(node: usize, depth: usize, members: Vec<u32>, (animals, columns): (Vec<u32>, Vec<i8>)) -> Open {
        let count = animals.len();
        let total = |column: &[i8]| column.iter().map(|&v| i32::from(v)).sum::<i32>();
        let gradient = total(&columns[..count]);
        let weight = if columns.len() > count { total(&columns[count..]) } else { count as i32 };
        let totals = Totals { gradient, weight };
        Open { node, depth, members, animals, columns, totals, sums: Vec::new(), candidate: None }
    }

    fn sample(&self) -> Sample<'_> {
        Sample { animals: &self.animals, values: &self.columns }
    }

    /// Whether a split could leave enough animals on both sides.
    fn may_split(&self, rules: &Rules, units: &Units) -> bool {
        let weight = f64::from(self.totals.weight) * units.weight;
        self.depth < rules.depth
            && self.animals.len() >= 2
            && weight >= 2.0 * rules.min_animals * units.mean_weight
    }

    fn leaf(self) -> Leaf {
        Leaf { node: self.node, members: self.members, learned: self.animals }
    }

    /// Its two children, the first being node `child`; `second` says of each animal on which side it is.
    fn divide(&self, child: usize, second: &[bool]) -> [Open; 2] {
        let sides = |animals: &[u32]| animals.iter().map(|&i| second[i as usize]).collect::<Vec<bool>>();
        let [left, right] = parted(&self.members, &sides(&self.members));
        let second = sides(&self.animals);
        let [first, last] = parted(&self.animals, &second);
        let (mut of_first, mut of_last) = (Vec::new(), Vec::new());
        for column in self.columns.chunks(self.animals.len()) {
            let [a, b] = parted(column, &second);
            of_first.extend(a);
            of_last.extend(b);
        }
        [
            Open::new(child, self.depth + 1, left, (first, of_first)),
            Open::new(child + 1, self.depth + 1, right, (last, of_last)),
        ]
    }
}

/// Those on the first and on the second side, in their order. Without branches, which would be guessed wrongly.
fn parted<T: Copy + Default>(values: &[T], second: &[bool]) -> [Vec<T>; 2] {
    let of_second = second.iter().filter(|second| **second).count();
    // One more of each, for what is written there and not kept.
    let mut left = vec![T::default(); values.len() - of_second + 1];
    let mut right = vec![T::default(); of_second + 1];
    let (mut l, mut r) = (0, 0);
    for (&value, &second) in values.iter().zip(second) {
        (left[l], right[r]) = (value, value);
        l += usize::from(!second);
        r += usize::from(second);
    }
    left.truncate(l);
    right.truncate(r);
    [left, right]
}

/// A tree that grows.
struct Growing<'a> {
    task: &'a Task,
    tree: Tree,
    open: Vec<Open>,
    leaves: Vec<Leaf>,
}

impl Growing<'_> {
    /// Takes the nodes out that are split now, in rising order; those that cannot be split become leaves.
    fn choose(&mut self, rules: &Rules, order: Order) -> Vec<Open> {
        let (open, closed): (Vec<Open>, Vec<Open>) =
            std::mem::take(&mut self.open).into_iter().partition(|open| open.candidate.is_some());
        self.leaves.extend(closed.into_iter().map(Open::leaf));
        self.open = open;
        let gain = |open: &Open| open.candidate.map_or(0.0, |c| c.gain);
        match order {
            _ if self.leaves.len() + self.open.len() >= rules.leaves => {
                self.leaves.extend(std::mem::take(&mut self.open).into_iter().map(Open::leaf));
                Vec::new()
            }
            Order::Levels => std::mem::take(&mut self.open),
            Order::Latest => self.open.pop().into_iter().collect(),
            Order::Best => {
                let mut best: Option<usize> = None;
                for (at, open) in self.open.iter().enumerate() {
                    if best.is_none_or(|best| gain(open) > gain(&self.open[best])) {
                        best = Some(at);
                    }
                }
                best.map(|at| self.open.remove(at)).into_iter().collect()
            }
        }
    }
}

/// Grows trees by the `rules`, from the SNPs `snps` of this rank. `seed` draws the SNPs of each node. Collective.
///
/// # Errors
/// What the device meets.
pub fn grow(
    genotypes: &Genotypes,
    snps: &[u32],
    tasks: &[Task],
    (rules, order): (&Rules, Order),
    seed: u64,
) -> Result<Vec<Grown>> {
    let mut plot = Plot::new(genotypes, snps, rules, seed);
    let all: Vec<u32> = (0..genotypes.animals() as u32).collect();
    let root = |task: &Task| Open::new(0, 0, all.clone(), (task.animals.clone(), task.columns.clone()));
    let mut roots: Vec<Open> = tasks.iter().map(root).collect();
    plot.sum_roots(&mut roots)?;
    let mut growing: Vec<Growing> = tasks
        .iter()
        .zip(roots)
        .map(|(task, root)| {
            let tree = Tree { nodes: vec![Node { split: None, child: 0, value: 0.0 }] };
            Growing { task, tree, open: vec![root], leaves: Vec::new() }
        })
        .collect();
    plot.find(growing.iter_mut().map(|tree| (tree.task, &mut tree.open[..])).collect());
    loop {
        let chosen: Vec<(usize, Open)> = growing
            .iter_mut()
            .enumerate()
            .flat_map(|(t, tree)| tree.choose(rules, order).into_iter().map(move |open| (t, open)))
            .collect();
        if chosen.is_empty() {
            break;
        }
        let sides = plot.sides(&chosen);
        let add = |(t, open): &(usize, Open)| {
            let nodes = &mut growing[*t].tree.nodes;
            let child = nodes.len();
            nodes[open.node] = Node { split: open.candidate, child: child as u32, value: 0.0 };
            nodes.extend([Node { split: None, child: 0, value: 0.0 }; 2]);
            child
        };
        let children: Vec<usize> = chosen.iter().map(add).collect();
        let n = genotypes.animals();
        let fresh = || vec![false; n];
        let divide = |second: &mut Vec<bool>,
                      ((t, open), (sides, child)): ((usize, Open), (Vec<bool>, usize))| {
            open.members.iter().zip(&sides).for_each(|(&i, side)| second[i as usize] = *side);
            let children = open.divide(child, second);
            (t, open, children)
        };
        let numbered = sides.into_par_iter().zip(children);
        let mut pairs: Vec<(usize, Open, [Open; 2])> =
            chosen.into_par_iter().zip(numbered).map_init(fresh, divide).collect();
        plot.sum_children(tasks, &mut pairs)?;
        let mut fresh: Vec<Vec<Open>> = growing.iter().map(|_| Vec::new()).collect();
        for (t, _, children) in pairs {
            fresh[t].extend(children);
        }
        let both = growing.iter().zip(&mut fresh);
        plot.find(both.map(|(tree, fresh)| (tree.task, &mut fresh[..])).collect());
        for (tree, fresh) in growing.iter_mut().zip(fresh) {
            tree.open.extend(fresh);
        }
    }
    Ok(growing.into_iter().map(|tree| Grown { tree: tree.tree, leaves: tree.leaves }).collect())
}

/// Where trees grow.
struct Plot<'a> {
    genotypes: &'a Genotypes,
    /// The SNPs that trees may ask about, by their numbers among those of all ranks, rising.
    snps: &'a [u32],
    /// Their rows of the calls.
    rows: Vec<u32>,
    rules: &'a Rules,
    seed: u64,
    /// Their lines, where all are kept.
    lines: Option<Lines>,
}

impl<'a> Plot<'a> {
    fn new(genotypes: &'a Genotypes, snps: &'a [u32], rules: &'a Rules, seed: u64) -> Plot<'a> {
        let first = genotypes.held.own.start as u32;
        let rows: Vec<u32> =
            snps.iter().filter(|&&snp| (snp as usize) < genotypes.held.m).map(|&snp| snp - first).collect();
        let lines = match &*genotypes.held.calls {
            Calls::BySnp(calls) if Lines::bytes(rows.len(), genotypes.n) <= LINES => {
                Some(Lines::of(calls, &rows))
            }
            _ => None,
        };
        Plot { genotypes, snps, rows, rules, seed, lines }
    }

    /// Sums of each sample, (SNPs and questions, width).
    fn sums(&self, samples: &[Sample]) -> Result<Vec<Vec<i32>>> {
        let of = |lines: &Lines| {
            let fresh = |sample: &Sample| vec![0; lines.snps() * sample.width()];
            let mut out: Vec<Vec<i32>> = samples.iter().map(fresh).collect();
            self.genotypes.device.sums_by_code(lines, samples, &mut out).map(|()| out)
        };
        let mut out = match (&*self.genotypes.held.calls, &self.lines) {
            (Calls::Lines(lines), _) | (_, Some(lines)) => of(lines)?,
            (Calls::BySnp(calls), None) => {
                let mut out: Vec<Vec<i32>> = samples.iter().map(|_| Vec::new()).collect();
                let each = BLOCK * (LINES / Lines::bytes(1, self.genotypes.n).max(1)).max(1);
                for rows in self.rows.chunks(each) {
                    let part = of(&Lines::of(calls, rows))?;
                    out.iter_mut().zip(part).for_each(|(out, part)| out.extend(part));
                }
                out
            }
        };
        if let Some(lines) = &self.genotypes.held.asked {
            out.iter_mut().zip(of(lines)?).for_each(|(out, of)| out.extend(of));
        }
        Ok(out)
    }

    /// Sums of the roots: one sample for those with the same animals and one column.
    fn sum_roots(&mut self, roots: &mut [Open]) -> Result<()> {
        let mut done = vec![false; roots.len()];
        for at in 0..roots.len() {
            if done[at] {
                continue;
            }
            let one = |open: &Open| open.columns.len() == open.animals.len();
            let alike = |k: usize| one(&roots[k]) && roots[k].animals == roots[at].animals;
            let with: Vec<usize> =
                if one(&roots[at]) { (at..roots.len()).filter(|&k| alike(k)).collect() } else { vec![at] };
            let values: Vec<i8> = with.iter().flat_map(|&k| &roots[k].columns).copied().collect();
            let sample = Sample { animals: &roots[at].animals, values: &values };
            let (width, own) = (sample.width(), roots[at].sample().width());
            let sums = self.genotypes.world.section(|| self.sums(&[sample]))?.pop().expect("one sample");
            let of_root = |place: usize| {
                let mut of = Vec::with_capacity(self.snps.len() * own);
                for snp in sums.chunks_exact(width) {
                    of.extend_from_slice(&snp[..CODES]);
                    let from = CODES * (1 + place * (own / CODES - 1));
                    of.extend_from_slice(&snp[from..from + own - CODES]);
                }
                of
            };
            let each: Vec<Vec<i32>> = (0..with.len()).into_par_iter().map(of_root).collect();
            for (&k, of) in with.iter().zip(each) {
                roots[k].sums = of;
                done[k] = true;
            }
        }
        Ok(())
    }

    /// Sums of children: of the smaller by its sample, of the larger what remains of the parent's. Children that cannot be
    /// split further have none.
    fn sum_children(&self, tasks: &[Task], pairs: &mut [(usize, Open, [Open; 2])]) -> Result<()> {
        let may = |t: usize, open: &Open| open.may_split(self.rules, &tasks[t].units);
        let small = |children: &[Open; 2]| usize::from(children[1].animals.len() < children[0].animals.len());
        let wanted =
            |(t, _, children): &(usize, Open, [Open; 2])| children.iter().any(|child| may(*t, child));
        let samples: Vec<Sample> = pairs
            .iter()
            .filter(|pair| wanted(pair))
            .map(|(_, _, children)| children[small(children)].sample())
            .collect();
        let sums = self.genotypes.world.section(|| self.sums(&samples))?;
        let wanted: Vec<_> = pairs.iter_mut().filter(|pair| wanted(pair)).collect();
        wanted.into_par_iter().zip(sums).for_each(|((t, parent, children), of_small)| {
            let (small, large) = (small(children), 1 - small(children));
            if may(*t, &children[large]) {
                children[large].sums = std::mem::take(&mut parent.sums);
                children[large].sums.iter_mut().zip(&of_small).for_each(|(all, small)| *all -= small);
            }
            if may(*t, &children[small]) {
                children[small].sums = of_small;
            }
        });
        Ok(())
    }

    /// Finds the best split of each node among the SNPs of all ranks. Collective.
    fn find(&self, trees: Vec<(&Task, &mut [Open])>) {
        let mut opens: Vec<(&Task, &mut Open)> = trees
            .into_iter()
            .flat_map(|(task, open)| open.iter_mut().map(move |open| (task, open)))
            .collect();
        let (rules, snps, seed, m) = (self.rules, self.snps, self.seed, self.genotypes.snps() as u32);
        let of = |(task, open): &(&Task, &mut Open)| {
            if open.sums.is_empty() || !open.may_split(rules, &task.units) {
                return None;
            }
            let drawn = (rules.snp_share < 1.0)
                .then(|| Stream::new(seed, Purpose::TreeSnps, task.number << 24 | open.node as u64));
            let drawn = drawn.as_ref().map(|stream| (stream, m));
            split::best(rules, (&open.totals, &task.units), (snps, &open.sums), drawn)
        };
        let own: Vec<Option<Split>> = opens.par_iter().map(of).collect();
        let all = self.genotypes.world.all_gather(&own);
        for (k, (task, open)) in opens.iter_mut().enumerate() {
            let best = all.iter().fold(None, |best, of| Split::better(best, of[k]));
            open.candidate = split::scored(self.rules, &open.totals, &task.units, best);
            if open.candidate.is_none() {
                open.sums = Vec::new();
            }
        }
    }

    /// Which members of each node go to its second child. Collective.
    fn sides(&self, chosen: &[(usize, Open)]) -> Vec<Vec<bool>> {
        let held = &self.genotypes.held;
        let of = |(_, open): &(usize, Open)| {
            let split = open.candidate.expect("chosen nodes have one");
            held.owns(split.snp).then(|| {
                let second = |&i: &u32| !split.is_first(held.code(split.snp, i));
                let byte = |eight: &[u32]| {
                    eight.iter().enumerate().fold(0, |byte, (at, i)| byte | u8::from(second(i)) << at)
                };
                open.members.chunks(8).map(byte).collect::<Vec<u8>>()
            })
        };
        let bits: Vec<Option<Vec<u8>>> = chosen.par_iter().map(of).collect();
        let owned: Vec<bool> = bits.iter().map(Option::is_some).collect();
        let own: Vec<u8> = bits.into_iter().flatten().flatten().collect();
        let all = self.genotypes.world.all_gather(&(owned, own));
        let mut at = vec![0; all.len()];
        chosen
            .iter()
            .enumerate()
            .map(|(k, (_, open))| {
                let owner = all.iter().position(|(owned, _)| owned[k]).expect("every SNP has a rank");
                let bits = &all[owner].1[at[owner]..];
                at[owner] += open.members.len().div_ceil(8);
                (0..open.members.len()).map(|i| bits[i / 8] >> (i % 8) & 1 == 1).collect()
            })
            .collect()
    }
}
