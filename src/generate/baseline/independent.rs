//! Every SNP for itself: genotypes by their frequencies among the training animals.

use super::{each, words};
use crate::error::Result;
use crate::generate::herd::Threshold;
use crate::generate::{
    as_text, configured, Curve, Generator, Header, Herd, Kind, Recipe, Setting, Trained, Writer,
};
use crate::nn::checkpointer::Checkpointer;
use crate::nn::Ranks;
use crate::packed::Packed;
use crate::rng::{Purpose, Stream};
use ndarray::{ArrayView2, Axis};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Its line in the table of kinds.
pub const KIND: Kind = Kind {
    name: "independent",
    about: "Every SNP for itself, by its genotype frequencies (a baseline)",
    split: true,
    conditional: false,
    resumes: false,
    configure: |file| Ok(Box::new(configured::<Config>(file)?)),
    read: |_, header, ranks, _| Ok(Box::new(Independent::new(header, ranks))),
};

/// There is nothing to choose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

/// What is drawn from at each of this rank's SNPs.
pub struct Independent {
    snps: Range<usize>,
    thresholds: Vec<Threshold>,
}

impl Independent {
    fn new(header: &Header, ranks: &Ranks) -> Independent {
        let snps = ranks.snps_of(header.variants.len());
        Independent::of(snps.clone(), header.frequencies.slice(ndarray::s![snps, ..]))
    }

    fn of(snps: Range<usize>, frequencies: ArrayView2<f64>) -> Independent {
        let of = |row: ndarray::ArrayView1<f64>| Threshold::of(&[row[0], row[1], row[2]]);
        Independent { snps, thresholds: frequencies.axis_iter(Axis(0)).map(of).collect() }
    }
}

impl Recipe for Config {
    fn text(&self) -> String {
        as_text(self)
    }

    fn train(&self, _: &Setting, herd: &Herd, _keeper: Option<&mut Checkpointer>) -> Result<Trained> {
        let generator = Independent::of(herd.snps.clone(), herd.own_frequencies());
        Ok(Trained { generator: Box::new(generator), curve: Curve::default() })
    }
}

impl Generator for Independent {
    fn draw(
        &mut self,
        _: &Ranks,
        animals: Range<u64>,
        _: Option<ArrayView2<f64>>,
        seed: u64,
    ) -> Result<Packed> {
        Ok(each(animals, self.snps.len(), |animal, codes, room| {
            let stream = Stream::new(seed, Purpose::Resample, animal);
            let words = words(&stream, self.snps.clone(), room);
            for ((code, threshold), &word) in codes.iter_mut().zip(&self.thresholds).zip(words) {
                *code = threshold.code(word);
            }
        }))
    }

    fn write(&self, _: &Ranks, _: &mut Writer) -> Result<()> {
        // The frequencies are in the header.
        Ok(())
    }
}
