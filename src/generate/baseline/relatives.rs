//! Mosaics of relatives, over generations: each animal is copied, segment by segment, from a training animal and its
//! nearest relatives; the animals of the last generation but one are the parents of all that are generated.
//!
//! A mosaic of animals at random (`mosaic`, after Li & Stephens 2003) loses whatever goes beyond a segment: families,
//! breeds, and with them LD. Relatives have them in common, so that a mosaic of relatives keeps them. In one generation
//! it stays nearer to the real animals than these are to each other: two generations give synthetic animals relatives of
//! their own kind, and real animals as far away as they are from each other. How many relatives and generations is what
//! both halves of the adversarial accuracy (Yale et al. 2020) tell: both should be ½.

use super::segments::{paste, Chromosomes, Segment};
use crate::error::{Error, Result};
use crate::generate::{
    as_text, configured, gather, Curve, Generator, Header, Herd, Kind, Reader, Recipe, Setting, Trained,
    Writer,
};
use crate::genotype::Variants;
use crate::neighbours::{Distances, Metric, Neighbours};
use crate::nn::checkpointer::Checkpointer;
use crate::nn::Ranks;
use crate::packed::{Packed, PER_BYTE};
use crate::rng::{Purpose, Stream};
use ndarray::{Array2, ArrayView1, ArrayView2};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Its line in the table of kinds.
pub const KIND: Kind = Kind {
    name: "relatives",
    about: "Segments copied from related animals, over generations",
    split: true,
    conditional: true,
    resumes: false,
    configure: |file| {
        let config: Config = configured(file)?;
        config.check(file.map_or("".as_ref(), |f| f.1))?;
        Ok(Box::new(config))
    },
    read: |reader, header, ranks, _| Ok(Box::new(Relatives::read(reader, header, ranks)?)),
};

/// Animals among which settings are chosen, at most.
const SAMPLE: usize = 5000;
/// Draws of a source other than the one before, at most: there may be no other.
const DRAWS: usize = 16;
/// Streams of the animals of a generation before the last are those of its number times this, and the animal.
const GENERATION: u64 = 1 << 40;

/// How animals are copied.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Nearest relatives that an animal is copied from, beside the one at the centre; chosen by adversarial accuracy
    /// where none of the three is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relatives: Option<usize>,
    /// Generations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generations: Option<usize>,
    /// Share of the segments that are copied from the animal at the centre itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_share: Option<f64>,
    /// Mean length of a segment in centimorgans.
    pub segment_cm: f64,
    /// SNPs by which relatives are found, at most.
    pub distance_snps: usize,
}

impl Default for Config {
    fn default() -> Self {
        let (relatives, generations, own_share) = (None, None, None);
        Config { relatives, generations, own_share, segment_cm: 10.0, distance_snps: 10_000 }
    }
}

/// What is chosen where it is not given.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Chosen {
    generations: usize,
    relatives: usize,
    own_share: f64,
}

impl Config {
    fn check(&self, path: &Path) -> Result<()> {
        let wrong = |expected: &str, found: String| {
            Err(Error::input(path.display(), expected, found, "set it within this range"))
        };
        match *self {
            Config { segment_cm, .. } if !(segment_cm > 0.0 && segment_cm.is_finite()) => {
                wrong("a positive `segment_cm`", segment_cm.to_string())
            }
            Config { own_share: Some(share), .. } if !(0.0..1.0).contains(&share) => {
                wrong("an `own_share` of at least 0 and below 1", share.to_string())
            }
            Config { relatives: Some(k), .. } if !(1..=10_000).contains(&k) => {
                wrong("1 to 10000 `relatives`", k.to_string())
            }
            Config { generations: Some(g), .. } if !(1..=20).contains(&g) => {
                wrong("1 to 20 `generations`", g.to_string())
            }
            Config { distance_snps, .. } if distance_snps < PER_BYTE => {
                wrong("at least 4 `distance_snps`", distance_snps.to_string())
            }
            _ => Ok(()),
        }
    }

    /// What was given, with defaults for the rest; nothing where none was.
    fn given(&self) -> Option<Chosen> {
        if self.relatives.is_none() && self.generations.is_none() && self.own_share.is_none() {
            return None;
        }
        let generations = self.generations.unwrap_or(2);
        Some(Chosen {
            generations,
            relatives: self.relatives.unwrap_or(4),
            own_share: self.own_share.unwrap_or(OWN_SHARES[generations.min(2) - 1]),
        })
    }
}

/// Own shares of one generation, and of more.
const OWN_SHARES: [f64; 2] = [0.0, 0.35];

/// What is tried where nothing is given: families that are copied twice, and large groups of SNPs that are hardly linked
/// once.
fn candidates(animals: usize) -> Vec<Chosen> {
    let of = |generations: usize, all: &[usize]| -> Vec<Chosen> {
        let some = all.iter().filter(|&&k| k < animals);
        some.map(|&relatives| Chosen { generations, relatives, own_share: OWN_SHARES[generations - 1] })
            .collect()
    };
    [of(2, &[2, 3, 4, 6, 10, 20, 50]), of(1, &[10, 20, 50, 100, 200, 300, 500])].concat()
}

/// Animals that others are copied from: their calls at some SNPs, and the relatives of each.
struct Herdbook<'a> {
    chromosomes: &'a Chromosomes,
    own: Range<usize>,
    calls: &'a Packed,
    relatives: &'a Array2<u32>,
}

impl Herdbook<'_> {
    /// The segments of an animal around `centre`, at all SNPs. Two that follow each other have other sources.
    fn segments(&self, centre: usize, cm: f64, own_share: f64, stream: &mut Stream) -> Vec<Segment> {
        let relatives = self.relatives.row(centre);
        let mut before = usize::MAX;
        self.chromosomes.segments(stream, cm, |stream| {
            for _ in 0..DRAWS {
                let own = relatives.is_empty() || stream.uniform() < own_share;
                let source = if own { centre } else { relatives[stream.below(relatives.len())] as usize };
                if source != before {
                    before = source;
                    break;
                }
            }
            before
        })
    }

    /// Animals around `centres`, each with the stream of that purpose that `stream` numbers.
    fn copies(
        &self,
        centres: &[usize],
        (cm, own_share): (f64, f64),
        seed: u64,
        stream: impl Fn(usize) -> u64 + Sync,
    ) -> Packed {
        let mut out = Packed::missing(centres.len(), self.own.len());
        let stride = out.stride();
        if stride == 0 {
            return out;
        }
        out.bytes_mut().par_chunks_mut(stride).enumerate().for_each(|(i, row)| {
            let mut stream = Stream::new(seed, Purpose::Resample, stream(i));
            let segments = self.segments(centres[i], cm, own_share, &mut stream);
            paste(self.calls, &segments, &self.own, row);
        });
        out
    }
}

/// SNPs in groups of four, evenly spread over all: enough to tell who is related.
struct Panel {
    bytes: Vec<usize>,
    snps: Vec<usize>,
}

impl Panel {
    fn new(m: usize, most: usize) -> Panel {
        let (all, some) = (m.div_ceil(PER_BYTE), most / PER_BYTE);
        let bytes: Vec<usize> = match some < all {
            true => (0..some).map(|i| i * all / some).collect(),
            false => (0..all).collect(),
        };
        let of = |&byte: &usize| PER_BYTE * byte..(PER_BYTE * (byte + 1)).min(m);
        let snps = bytes.iter().flat_map(of).collect();
        Panel { bytes, snps }
    }

    /// The calls of animals at these SNPs, from the SNPs of the ranks of this line; on every rank. Collective.
    fn calls(&self, ranks: &Ranks, m: usize, own: &Packed) -> Packed {
        let of_rank = |rank: usize| -> Vec<usize> {
            let snps = ranks.snps_of_rank(m, rank);
            let bytes = snps.start / PER_BYTE..snps.end.div_ceil(PER_BYTE);
            self.bytes.iter().filter(|byte| bytes.contains(byte)).map(|byte| byte - bytes.start).collect()
        };
        let line = ranks.snps.world();
        let mine = of_rank(line.rank());
        let rows = (0..own.rows()).flat_map(|i| mine.iter().map(move |&byte| own.row(i)[byte]));
        let all: Vec<Vec<u8>> = line.all_gather(&rows.collect::<Vec<u8>>());
        let widths: Vec<usize> = (0..line.size()).map(|rank| of_rank(rank).len()).collect();
        let row = |i: usize| {
            all.iter()
                .zip(&widths)
                .flat_map(move |(bytes, &width)| bytes[i * width..(i + 1) * width].iter().copied())
        };
        Packed::from_bytes(own.rows(), self.snps.len(), (0..own.rows()).flat_map(row).collect())
    }
}

/// The `k` nearest relatives of each animal, (n, k). Collective.
fn relatives(ranks: &Ranks, panel: &Packed, k: usize) -> Result<Array2<u32>> {
    let found = Distances::within(Metric::SquaredEuclidean, panel).all_nearest(&ranks.world, k)?;
    Ok(Array2::from_shape_fn((panel.rows(), found.k()), |(i, at)| found.of(i)[at].1))
}

/// Shares of animals that are strictly nearer to one of their own kind: of the real ones, and of the synthetic ones (Yale
/// et al. 2020). Collective.
fn adversarial_accuracy(
    ranks: &Ranks,
    real: &Packed,
    among: &Neighbours,
    synthetic: &Packed,
) -> Result<[f64; 2]> {
    let (metric, world) = (Metric::SquaredEuclidean, &ranks.world);
    let to_synthetic = Distances::between(metric, real, synthetic).all_nearest(world, 1)?;
    let within = Distances::within(metric, synthetic).all_nearest(world, 1)?;
    let to_real = Distances::between(metric, synthetic, real).all_nearest(world, 1)?;
    let share = |own: &Neighbours, other: &Neighbours| {
        let pairs = own.radii(1).into_iter().zip(other.radii(1));
        let (count, nearer) =
            pairs.fold((0, 0), |(n, k), (own, other)| (n + 1, k + usize::from(own < other)));
        nearer as f64 / f64::from(count.max(1))
    };
    Ok([share(among, &to_synthetic), share(&within, &to_real)])
}

impl Config {
    /// The candidate whose animals are as far from the real ones as from each other, tried on a sample of the animals and
    /// the SNPs of the panel. Collective.
    fn choose(&self, setting: &Setting, variants: &Variants, panel: &Packed) -> Result<Chosen> {
        let (n, snps) = (panel.rows(), panel.columns());
        let mut sample: Vec<usize> = (0..n).collect();
        if n > SAMPLE {
            Stream::new(setting.seed, Purpose::Resample, GENERATION - 1).shuffle(&mut sample);
            sample.truncate(SAMPLE);
            sample.sort_unstable();
        }
        let every: Vec<usize> = (0..snps).collect();
        let real = panel.select(&sample, &every);
        let chromosomes = Chromosomes::of(variants);
        let among =
            Distances::within(Metric::SquaredEuclidean, &real).all_nearest(&setting.ranks.world, 1)?;
        let mut best: Option<(f64, Chosen, [f64; 2])> = None;
        for chosen in candidates(sample.len()) {
            let alone = |calls: &Packed| Ok(calls.clone());
            let (parents, found) =
                self.parents(setting, &chromosomes, 0..snps, &chosen, Arc::new(real.clone()), alone)?;
            let herdbook =
                Herdbook { chromosomes: &chromosomes, own: 0..snps, calls: &parents, relatives: &found };
            let centres: Vec<usize> = (0..sample.len()).collect();
            let how = (self.segment_cm, chosen.own_share);
            let made = herdbook.copies(&centres, how, setting.seed, |i| i as u64);
            let halves = adversarial_accuracy(setting.ranks, &real, &among, &made)?;
            let off = halves.iter().map(|half| (half - 0.5).abs()).sum::<f64>();
            log::debug!("{chosen:?}: adversarial accuracy {halves:.3?}");
            if best.as_ref().is_none_or(|(least, ..)| off < *least) {
                best = Some((off, chosen, halves));
            }
        }
        let Some((_, chosen, [truth, synthetic])) = best else {
            return Ok(Chosen { generations: 1, relatives: 1, own_share: OWN_SHARES[1] });
        };
        log::info!(
            "{} relatives, {} generations: of {} animals {truth:.2} are nearer to a real than to a synthetic one, of \
             synthetic ones {synthetic:.2} to a synthetic than to a real one",
            chosen.relatives,
            chosen.generations,
            sample.len()
        );
        Ok(chosen)
    }

    /// The last generation but one, and the relatives of each of its animals; `panel` gives the calls by which these are
    /// found, on every rank. Collective.
    fn parents(
        &self,
        setting: &Setting,
        chromosomes: &Chromosomes,
        own: Range<usize>,
        chosen: &Chosen,
        training: Arc<Packed>,
        panel: impl Fn(&Packed) -> Result<Packed>,
    ) -> Result<(Arc<Packed>, Array2<u32>)> {
        let mut calls = training;
        let mut found = relatives(setting.ranks, &panel(&calls)?, chosen.relatives)?;
        let centres: Vec<usize> = (0..calls.rows()).collect();
        for generation in 1..chosen.generations {
            let herdbook = Herdbook { chromosomes, own: own.clone(), calls: &calls, relatives: &found };
            let first = generation as u64 * GENERATION;
            let how = (self.segment_cm, chosen.own_share);
            calls = Arc::new(herdbook.copies(&centres, how, setting.seed, |i| first + i as u64));
            found = relatives(setting.ranks, &panel(&calls)?, chosen.relatives)?;
        }
        Ok((calls, found))
    }
}

/// The parents of all that are generated.
pub struct Relatives {
    segment_cm: f64,
    chosen: Chosen,
    chromosomes: Chromosomes,
    own: Range<usize>,
    /// Their calls at this rank's SNPs, (n, m of this rank).
    parents: Arc<Packed>,
    /// The nearest relatives of each, (n, k).
    relatives: Array2<u32>,
    /// Conditions of the training animals around which the parents were made, standardised, (n, c).
    conditions: Option<Array2<f64>>,
}

impl Relatives {
    fn read(reader: &Reader, header: &Header, ranks: &Ranks) -> Result<Relatives> {
        let (n, m, own) = (header.animals, header.variants.len(), ranks.snps_of(header.variants.len()));
        let config: Config = configured(Some((&header.config, Path::new("model"))))?;
        let chosen: Chosen =
            toml::from_str(&reader.text("chosen")?).map_err(|_| reader.damaged("settings that are none"))?;
        let parents = Arc::new(reader.calls("parents", (n, m), own.clone())?);
        let [rows, k] = reader.shape("relatives")?;
        let relatives: Vec<u32> = reader.matrix("relatives", (n, k))?;
        let own_share = (0.0..1.0).contains(&chosen.own_share);
        if n == 0 || rows != n || !own_share || relatives.iter().any(|&of| of as usize >= n) {
            return Err(reader.damaged("relatives that there are not"));
        }
        Ok(Relatives {
            segment_cm: config.segment_cm,
            chosen,
            chromosomes: Chromosomes::of(&header.variants),
            own,
            parents,
            relatives: Array2::from_shape_vec((n, k), relatives).expect("a matrix of this shape"),
            conditions: header.conditions.as_ref().map(|c| c.values.clone()),
        })
    }

    /// The parent at the centre of an animal: each in turn, in an order of the seed; with conditions the one whose own are
    /// nearest.
    fn centre(&self, animal: u64, conditions: Option<ArrayView1<f64>>, seed: u64) -> usize {
        let n = self.parents.rows();
        let (Some(wanted), Some(all)) = (conditions, &self.conditions) else {
            let (round, place) = (animal / n as u64, animal % n as u64);
            let mut stream = Stream::new(seed, Purpose::Condition, round);
            let first = stream.below(n) as u64;
            let step = loop {
                let step = 1 + stream.below(n) as u64;
                if gcd(step, n as u64) == 1 {
                    break step;
                }
            };
            return ((first as u128 + u128::from(step) * u128::from(place)) % n as u128) as usize;
        };
        let distance =
            |i: usize| -> f64 { all.row(i).iter().zip(&wanted).map(|(a, b)| (a - b) * (a - b)).sum() };
        let (mut least, mut nearest) = (f64::INFINITY, Vec::new());
        for i in 0..n {
            let found = distance(i);
            if found < least {
                (least, nearest) = (found, vec![i]);
            } else if found == least {
                nearest.push(i);
            }
        }
        nearest[Stream::new(seed, Purpose::Condition, animal).below(nearest.len())]
    }
}

/// The greatest common divisor.
fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 {
        a
    } else {
        gcd(b, a % b)
    }
}

impl Recipe for Config {
    fn text(&self) -> String {
        as_text(self)
    }

    fn train(&self, setting: &Setting, herd: &Herd, _keeper: Option<&mut Checkpointer>) -> Result<Trained> {
        let (m, own) = (herd.variants.len(), herd.snps.clone());
        let panel = Panel::new(m, self.distance_snps);
        let calls = |of: &Packed| Ok(panel.calls(setting.ranks, m, of));
        let chosen = match self.given() {
            Some(chosen) => chosen,
            None => self.choose(setting, &herd.variants.select(&panel.snps), &calls(&herd.packed)?)?,
        };
        let chromosomes = Chromosomes::of(&herd.variants);
        let (parents, relatives) =
            self.parents(setting, &chromosomes, own.clone(), &chosen, herd.packed.clone(), calls)?;
        let conditions = herd.conditions.as_ref().map(|c| c.values.clone());
        let segment_cm = self.segment_cm;
        let generator = Relatives { segment_cm, chosen, chromosomes, own, parents, relatives, conditions };
        Ok(Trained { generator: Box::new(generator), curve: Curve::default() })
    }
}

impl Generator for Relatives {
    fn conditions(&self) -> usize {
        self.conditions.as_ref().map_or(0, Array2::ncols)
    }

    fn draw(
        &mut self,
        _: &Ranks,
        animals: Range<u64>,
        conditions: Option<ArrayView2<f64>>,
        seed: u64,
    ) -> Result<Packed> {
        let wanted = |i: u64| conditions.as_ref().map(|c| c.row((i - animals.start) as usize));
        let centres: Vec<usize> =
            animals.clone().into_par_iter().map(|i| self.centre(i, wanted(i), seed)).collect();
        let Relatives { chromosomes, parents: calls, relatives, .. } = self;
        let herdbook = Herdbook { chromosomes, own: self.own.clone(), calls, relatives };
        let how = (self.segment_cm, self.chosen.own_share);
        Ok(herdbook.copies(&centres, how, seed, |i| animals.start + i as u64))
    }

    fn write(&self, ranks: &Ranks, to: &mut Writer) -> Result<()> {
        let (n, m) = (self.parents.rows(), self.chromosomes.snps());
        to.text("chosen", &as_text(&self.chosen));
        let relatives = self.relatives.as_slice().expect("just made");
        to.matrix("relatives", self.relatives.dim(), relatives);
        if ranks.data.world().rank() > 0 {
            return Ok(());
        }
        if let Some(all) = gather::snps(ranks, m, &self.parents) {
            to.matrix("parents", (n, all.stride()), all.bytes());
        }
        Ok(())
    }
}
