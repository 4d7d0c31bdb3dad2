//! Any number of generated animals into a store, block by block.

use super::{gather, Model};
use crate::comm::layout::share;
use crate::error::Result;
use crate::genotype::store::CHUNK_ROWS;
use crate::genotype::{Animals, StoreWriter};
use crate::nn::Ranks;
use crate::packed::{frequency, Tally};
use crate::progress::Progress;
use ndarray::{s, Array2, ArrayView2};
use std::ops::Range;
use std::path::Path;

/// Animals that are asked for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// How many.
    pub animals: usize,
    /// Number of the first, from 0: further animals of the same seed begin where earlier ones ended.
    pub first: u64,
    /// Their conditions in units of the traits, (animals, c); without them each has those of a training animal.
    pub conditions: Option<ArrayView2<'a, f64>>,
    /// Seed of all random numbers.
    pub seed: u64,
}

impl Request<'_> {
    /// Numbers of the animals `some`, counted from the first.
    fn numbers(&self, some: &Range<usize>) -> Range<u64> {
        self.first + some.start as u64..self.first + some.end as u64
    }

    /// Standardised conditions of the animals `some`.
    fn standardised(&self, model: &Model, some: &Range<usize>) -> Option<Array2<f64>> {
        let known = model.header.conditions.as_ref()?;
        Some(match &self.conditions {
            Some(given) => known.standardised(given.slice(s![some.clone(), ..])),
            None => known.resample(self.numbers(some), self.seed),
        })
    }

    /// Names of the animals: `synthetic_` and their number from 1.
    pub fn names(&self) -> Vec<String> {
        self.numbers(&(0..self.animals)).map(|number| format!("synthetic_{}", number + 1)).collect()
    }
}

/// Conditions of all animals in units of the traits, (animals, c); nothing where the generator takes none.
pub fn conditions(model: &Model, request: &Request) -> Option<Array2<f64>> {
    let standardised = request.standardised(model, &(0..request.animals))?;
    Some(match request.conditions {
        Some(given) => given.to_owned(),
        None => model.header.conditions.as_ref()?.in_units(standardised.view()),
    })
}

/// Draws the animals and writes them, a thousand at a time: lines of the grid of ranks draw different animals, the
/// ranks of a line different SNPs, the root writes. Collective.
pub fn to_store(model: &mut Model, ranks: &Ranks, request: &Request, path: &Path, force: bool) -> Result<()> {
    let (n, m) = (request.animals, model.header.variants.len());
    let root = ranks.world.is_root();
    let begun = if root { StoreWriter::create(path, n, m, force).map(Some) } else { Ok(None) };
    let mut writer = ranks.world.agree(begun)?;
    let mut counts: Vec<Tally> = vec![[0; 4]; ranks.snps_of(m).len()];
    let progress = Progress::new("animals", n);
    let lines = ranks.data.world();
    for first in (0..n).step_by(CHUNK_ROWS) {
        let block = (n - first).min(CHUNK_ROWS);
        let own = share(block, lines.rank(), lines.size());
        let some = first + own.start..first + own.end;
        let conditions = request.standardised(model, &some);
        let conditions = conditions.as_ref().map(|c| c.view());
        let drawn = model.generator.draw(ranks, request.numbers(&some), conditions, request.seed);
        let calls = ranks.world.agree(drawn)?;
        for (count, tally) in counts.iter_mut().zip(calls.tally_columns()) {
            count.iter_mut().zip(tally).for_each(|(count, tally)| *count += tally);
        }
        let whole = gather::animals(ranks, m, &calls);
        let written = match (&mut writer, whole) {
            (Some(writer), Some(whole)) => writer.write_rows(first, &whole),
            _ => Ok(()),
        };
        ranks.world.agree(written)?;
        progress.add(block);
    }
    let counts = all_counts(ranks, &counts);
    let Some(writer) = writer else { return ranks.world.agree(Ok(())) };
    let mut variants = model.header.variants.clone();
    variants.frequency = counts.iter().map(|t| frequency(t).unwrap_or(f64::NAN)).collect();
    variants.missing = counts.iter().map(|t| t[3]).collect();
    ranks.world.agree(writer.finish(&Animals::named(request.names()), &variants))
}

/// Counts at all SNPs among the animals of all ranks. Collective.
fn all_counts(ranks: &Ranks, own: &[Tally]) -> Vec<Tally> {
    let mut flat: Vec<i64> = own.iter().flatten().map(|&count| count as i64).collect();
    ranks.data.world().sum_i64(&mut flat);
    let all = ranks.snps.world().all_gather(&flat).concat();
    all.chunks_exact(4).map(|t| std::array::from_fn(|code| t[code] as u64)).collect()
}
