//! Mosaics of training animals: runs of genotypes copied from one animal, then from another (after Li & Stephens
//! 2003, with the genotypes of unphased animals in the place of haplotypes).
//!
//! Along a chromosome a copy goes on for a distance that is exponential in centimorgans; then another animal is drawn.
//! Training rows that are haplotypes give mosaics of haplotypes.

use super::segments::{paste, Chromosomes, Segment};
use crate::error::{Error, Result};
use crate::generate::gather;
use crate::generate::herd::Threshold;
use crate::generate::{
    as_text, configured, Curve, Generator, Header, Herd, Kind, Reader, Recipe, Setting, Trained, Writer,
};
use crate::genotype::Variants;
use crate::nn::checkpointer::Checkpointer;
use crate::nn::Ranks;
use crate::packed::{Packed, PER_BYTE};
use crate::rng::{Purpose, Stream};
use ndarray::ArrayView2;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Its line in the table of kinds.
pub const KIND: Kind = Kind {
    name: "mosaic",
    about: "Runs of genotypes copied from one training animal after another (a baseline)",
    split: true,
    conditional: false,
    resumes: false,
    configure: |file| {
        let config: Config = configured(file)?;
        config.check(file.map_or("".as_ref(), |f| f.1))?;
        Ok(Box::new(config))
    },
    read: |reader, header, ranks, _| Ok(Box::new(Mosaic::read(reader, header, ranks)?)),
};

/// Streams of errors lie here, those of copies below.
const ERRORS: u64 = 1 << 63;

/// How long copies are and how exact.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Mean length of a copied run in centimorgans.
    pub segment_cm: f64,
    /// Share of the calls that are drawn by the SNP's genotype frequencies instead.
    pub error: f64,
}

impl Default for Config {
    fn default() -> Self {
        Config { segment_cm: 5.0, error: 0.0 }
    }
}

impl Config {
    fn check(&self, path: &Path) -> Result<()> {
        let wrong =
            |expected: &str, found: f64| Err(Error::input(path.display(), expected, found, "change it"));
        match self {
            Config { segment_cm, .. } if !(*segment_cm > 0.0 && segment_cm.is_finite()) => {
                wrong("a positive `segment_cm`", *segment_cm)
            }
            Config { error, .. } if !(0.0..=1.0).contains(error) => wrong("an `error` from 0 to 1", *error),
            _ => Ok(()),
        }
    }
}

/// The training animals at this rank's SNPs, and the way along the chromosomes.
pub struct Mosaic {
    config: Config,
    training: Arc<Packed>,
    own: Range<usize>,
    chromosomes: Chromosomes,
    /// At this rank's SNPs.
    errors: Vec<Threshold>,
}

impl Mosaic {
    fn new(
        config: Config,
        training: Arc<Packed>,
        variants: &Variants,
        own: Range<usize>,
        frequencies: ArrayView2<f64>,
    ) -> Mosaic {
        let of = |j: usize| Threshold::of(&[0, 1, 2].map(|code| frequencies[[j, code]]));
        let errors = own.clone().map(of).collect();
        Mosaic { config, training, own, chromosomes: Chromosomes::of(variants), errors }
    }

    fn read(reader: &Reader, header: &Header, ranks: &Ranks) -> Result<Mosaic> {
        let (m, own) = (header.variants.len(), ranks.snps_of(header.variants.len()));
        let config: Config = configured(Some((&header.config, Path::new("model"))))?;
        let training = Arc::new(reader.calls("training", (header.animals, m), own.clone())?);
        if training.rows() == 0 {
            return Err(reader.damaged("no training animals"));
        }
        Ok(Mosaic::new(config, training, &header.variants, own, header.frequencies.view()))
    }

    /// The segments of an animal, at all SNPs.
    fn segments(&self, animal: u64, seed: u64) -> Vec<Segment> {
        let mut stream = Stream::new(seed, Purpose::Resample, animal);
        let any = |stream: &mut Stream| stream.below(self.training.rows());
        self.chromosomes.segments(&mut stream, self.config.segment_cm, any)
    }
}

impl Recipe for Config {
    fn text(&self) -> String {
        as_text(self)
    }

    fn train(&self, _: &Setting, herd: &Herd, _keeper: Option<&mut Checkpointer>) -> Result<Trained> {
        let frequencies = herd.frequencies.view();
        let mosaic = Mosaic::new(*self, herd.packed.clone(), &herd.variants, herd.snps.clone(), frequencies);
        Ok(Trained { generator: Box::new(mosaic), curve: Curve::default() })
    }
}

impl Generator for Mosaic {
    fn draw(
        &mut self,
        _: &Ranks,
        animals: Range<u64>,
        _: Option<ArrayView2<f64>>,
        seed: u64,
    ) -> Result<Packed> {
        let count = usize::try_from(animals.end - animals.start).expect("animals fit in memory");
        let (own, mut out) = (self.own.clone(), Packed::missing(count, self.own.len()));
        if own.is_empty() {
            return Ok(out);
        }
        let stride = out.stride();
        out.bytes_mut().par_chunks_mut(stride).enumerate().for_each(|(i, row)| {
            let animal = animals.start + i as u64;
            paste(&self.training, &self.segments(animal, seed), &own, row);
            self.err(animal, seed, row);
        });
        Ok(out)
    }

    fn write(&self, ranks: &Ranks, to: &mut Writer) -> Result<()> {
        let (n, m) = (self.training.rows(), self.chromosomes.snps());
        if ranks.data.world().rank() > 0 {
            return Ok(());
        }
        if let Some(all) = gather::snps(ranks, m, &self.training) {
            to.matrix("training", (n, all.stride()), all.bytes());
        }
        Ok(())
    }
}

impl Mosaic {
    /// Draws the share of the calls that are no copies: two words a SNP tell whether, and what.
    fn err(&self, animal: u64, seed: u64, row: &mut [u8]) {
        if self.config.error == 0.0 {
            return;
        }
        let stream = Stream::new(seed, Purpose::Resample, animal | ERRORS);
        let limit = (self.config.error * 2f64.powi(32)).round() as u64;
        for (k, j) in self.own.clone().enumerate() {
            let words = stream.block((j / 2) as u32);
            let (whether, what) = (words[2 * (j % 2)], words[2 * (j % 2) + 1]);
            if u64::from(whether) < limit {
                let (at, shift) = (k / PER_BYTE, 2 * (k % PER_BYTE));
                row[at] = row[at] & !(3 << shift) | self.errors[k].code(what) << shift;
            }
        }
    }
}
