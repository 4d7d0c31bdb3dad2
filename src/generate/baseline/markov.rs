//! A chain along each chromosome: a genotype depends on that of the SNP before it.

use super::{chromosomes, each, words};
use crate::error::{Error, Result};
use crate::generate::herd::Threshold;
use crate::generate::{
    as_text, configured, Curve, Generator, Header, Herd, Kind, Reader, Recipe, Setting, Trained, Writer,
};
use crate::nn::checkpointer::Checkpointer;
use crate::nn::Ranks;
use crate::packed::{unpack_row, Packed};
use crate::rng::{Purpose, Stream};
use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Its line in the table of kinds.
pub const KIND: Kind = Kind {
    name: "markov",
    about: "A chain along each chromosome: each genotype by the one before it (a baseline)",
    split: true,
    conditional: false,
    resumes: false,
    configure: |file| {
        let config: Config = configured(file)?;
        config.check(file.map_or("".as_ref(), |f| f.1))?;
        Ok(Box::new(config))
    },
    read: |reader, header, ranks, _| Ok(Box::new(Markov::read(reader, header, ranks)?)),
};

/// How counts become probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Animals that every genotype is given in addition, with the next genotypes as frequent as they are among all:
    /// what a genotype that nobody had is followed by.
    pub smoothing: f64,
}

impl Default for Config {
    fn default() -> Self {
        Config { smoothing: 1.0 }
    }
}

impl Config {
    fn check(&self, path: &std::path::Path) -> Result<()> {
        if self.smoothing > 0.0 && self.smoothing.is_finite() {
            return Ok(());
        }
        Err(Error::input(path.display(), "a positive `smoothing`", self.smoothing, "change it"))
    }
}

/// Probabilities of the genotypes by those before them, at all SNPs: a rank walks from the begin of the chromosome on
/// which its SNPs begin.
pub struct Markov {
    /// (m, 9): at each SNP, for each genotype of the SNP before it, the probabilities of 0, 1 and 2.
    probabilities: Array2<f64>,
    /// From the first SNP of the chromosome on which this rank's SNPs begin.
    walked: Range<usize>,
    own: Range<usize>,
    /// At the SNPs that are walked.
    thresholds: Vec<[Threshold; 3]>,
}

impl Markov {
    fn new(header: (&[usize], Array2<f64>), own: Range<usize>) -> Markov {
        let (starts, probabilities) = header;
        let first = starts.iter().rev().find(|&&s| s <= own.start).copied().unwrap_or(0);
        let walked = if own.is_empty() { own.clone() } else { first..own.end };
        let row = |j: usize, a: usize| Threshold::of(&[0, 1, 2].map(|b| probabilities[[j, 3 * a + b]]));
        let thresholds = walked.clone().map(|j| [0, 1, 2].map(|a| row(j, a))).collect();
        Markov { probabilities, walked, own, thresholds }
    }

    fn read(reader: &Reader, header: &Header, ranks: &Ranks) -> Result<Markov> {
        let m = header.variants.len();
        let probabilities = reader.matrix("probabilities", (m, 9))?;
        if !probabilities.iter().all(|p| (0.0..=1.0).contains(p)) {
            return Err(reader.damaged("probabilities outside of 0 to 1"));
        }
        let probabilities = Array2::from_shape_vec((m, 9), probabilities).expect("whole rows");
        Ok(Markov::new((&chromosomes(&header.variants), probabilities), ranks.snps_of(m)))
    }
}

/// Genotypes 0, 1, 2 at a SNP after each genotype at the SNP before it, (m of this rank, 9); those of the first SNP
/// after none are left 0. Collective.
fn transitions(ranks: &Ranks, herd: &Herd) -> Vec<[f64; 9]> {
    let (n, own) = (herd.animals(), herd.packed.columns());
    let mut last = vec![0; n];
    if own > 0 {
        last.iter_mut().enumerate().for_each(|(i, code)| *code = herd.packed.get(i, own - 1));
    }
    let line = ranks.snps.world();
    // Ranks without SNPs come last.
    let before =
        line.exchange((line.rank() + 1) % line.size(), &last, (line.rank() + line.size() - 1) % line.size());
    let mut counts = vec![[0.0; 9]; own];
    let mut codes = vec![0; own];
    for (i, &before) in before.iter().enumerate() {
        unpack_row(herd.packed.row(i), &mut codes);
        let mut previous = before;
        for (count, &code) in counts.iter_mut().zip(&codes) {
            count[usize::from(3 * previous + code)] += 1.0;
            previous = code;
        }
    }
    counts
}

impl Recipe for Config {
    fn text(&self) -> String {
        as_text(self)
    }

    fn train(&self, setting: &Setting, herd: &Herd, _keeper: Option<&mut Checkpointer>) -> Result<Trained> {
        let mut own = transitions(setting.ranks, herd);
        let starts = chromosomes(&herd.variants);
        for (counts, j) in own.iter_mut().zip(herd.snps.clone()) {
            if starts.binary_search(&j).is_ok() {
                *counts = [0.0; 9];
            }
            for after in counts.chunks_exact_mut(3) {
                let all: f64 = after.iter().sum::<f64>() + self.smoothing;
                let p = herd.frequencies.row(j);
                after.iter_mut().zip(&p).for_each(|(count, p)| *count = (*count + self.smoothing * p) / all);
            }
        }
        let all = Array2::from(setting.ranks.snps.world().all_gather(&own).concat());
        let generator = Box::new(Markov::new((&starts, all), herd.snps.clone()));
        Ok(Trained { generator, curve: Curve::default() })
    }
}

impl Generator for Markov {
    fn draw(
        &mut self,
        _: &Ranks,
        animals: Range<u64>,
        _: Option<ArrayView2<f64>>,
        seed: u64,
    ) -> Result<Packed> {
        let skipped = self.own.start - self.walked.start;
        Ok(each(animals, self.own.len(), |animal, codes, room| {
            let stream = Stream::new(seed, Purpose::Resample, animal);
            let mut previous = 0;
            let words = words(&stream, self.walked.clone(), room);
            for (j, (after, &word)) in self.thresholds.iter().zip(words).enumerate() {
                previous = usize::from(after[previous].code(word));
                if j >= skipped {
                    codes[j - skipped] = previous as u8;
                }
            }
        }))
    }

    fn write(&self, _: &Ranks, to: &mut Writer) -> Result<()> {
        let values = self.probabilities.as_slice().expect("standard layout");
        to.matrix("probabilities", self.probabilities.dim(), values);
        Ok(())
    }
}
