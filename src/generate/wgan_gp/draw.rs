//! Animals from a trained generator.
//!
//! Animals are made in blocks of [`BLOCK`] from the first animal on, however many of a block are asked for, so that
//! an animal's bits depend on no other.

use super::nets::GeneratorNet;
use crate::device::network::{Draw, Values, CLASSES};
use crate::error::Result;
use crate::nn::stack::{Pass, Use};
use crate::nn::{Batch, Mode, Ranks};
use crate::packed::{pack_row, Packed, PER_BYTE};
use crate::rng::Purpose;
use ndarray::ArrayView2;
use rayon::prelude::*;
use std::ops::Range;

/// Animals that are made at a time.
pub const BLOCK: usize = 128;
/// Random numbers of block k are those of number `DRAWN + k`.
const DRAWN: u64 = 1 << 63;

/// What making animals needs.
pub struct Room {
    pass: Pass,
    /// Classes 1 and 2 of the animals of a block at each run of SNPs.
    logits: Vec<Values>,
}

impl Room {
    /// For a generator.
    pub fn new(generator: &GeneratorNet) -> Result<Room> {
        let device = generator.stack.device();
        let logits = generator.snp_layer.iter().map(|f| device.values(BLOCK * f.contrasts()));
        let pass = Pass::new(&generator.stack, Use::forward(BLOCK))?;
        Ok(Room { pass, logits: logits.collect::<Result<_>>()? })
    }
}

impl GeneratorNet {
    /// Calls of the animals numbered `animals` at the SNPs of this rank's runs, which follow each other; with
    /// standardised conditions (animals, c), each read `repeat` times.
    pub fn draw(
        &mut self,
        ranks: &Ranks,
        animals: Range<u64>,
        (conditions, repeat): (Option<ArrayView2<f64>>, usize),
        seed: u64,
        room: &mut Room,
    ) -> Result<Packed> {
        let count = usize::try_from(animals.end - animals.start).expect("animals fit in memory");
        let columns = self.snp_layer.iter().map(|f| f.snps.len()).sum();
        let mut out = Packed::missing(count, columns);
        let block = BLOCK as u64;
        for number in animals.start / block..animals.end.div_ceil(block) {
            let rows = animals.start.max(number * block)..animals.end.min((number + 1) * block);
            let to = |animal: u64| (animal - animals.start) as usize;
            let asked = conditions.map(|c| c.slice_move(ndarray::s![to(rows.start)..to(rows.end), ..]));
            let first = (rows.start - number * block) as usize;
            self.block(ranks, number, (asked, first, repeat), seed, room)?;
            let within = first..first + (rows.end - rows.start) as usize;
            self.pack(within, room, (&mut out, to(rows.start)))?;
        }
        Ok(out)
    }

    /// Logits with noise of a whole block, whose animals from `first` on have the conditions given.
    fn block(
        &mut self,
        ranks: &Ranks,
        number: u64,
        (conditions, first, repeat): (Option<ArrayView2<f64>>, usize, usize),
        seed: u64,
        room: &mut Room,
    ) -> Result<()> {
        let (device, latent) = (self.stack.device().clone(), self.stack.plan().inputs);
        let draw = |purpose: Purpose, first_column: usize, columns: usize| Draw {
            seed,
            purpose,
            index: DRAWN + number,
            first_row: 0,
            first_column: first_column as u64,
            columns: columns as u64,
        };
        let pass = &mut room.pass;
        device.normals(draw(Purpose::Latent, 0, latent), latent, pass.input_mut().whole_mut())?;
        if let Some(conditions) = conditions {
            let width = self.stack.plan().conditions;
            let mut all = vec![0.0; BLOCK * width];
            let known = super::work::repeated(Some(conditions), 0..conditions.nrows(), repeat);
            all[first * width..first * width + known.len()].copy_from_slice(&known);
            device.write(&all, pass.conditions_mut().whole_mut())?;
        }
        self.stack.forward(ranks, &Batch::of_rows(BLOCK, BLOCK), Mode::Predict, pass)?;
        for (number, logits) in room.logits.iter_mut().enumerate() {
            let snps = self.snp_layer[number].snps.clone();
            if snps.is_empty() {
                continue;
            }
            self.logits(number, BLOCK, (pass.output(), pass.conditions()), logits)?;
            let noise = draw(Purpose::Gumbel, CLASSES * snps.start, CLASSES * self.m);
            device.softmax_contrasts(1.0, Some(noise), snps.len(), logits.whole_mut())?;
        }
        Ok(())
    }

    /// The likeliest class of each SNP of some rows of the block, into the rows of `out` from `to` on.
    fn pack(&self, rows: Range<usize>, room: &Room, (out, to): (&mut Packed, usize)) -> Result<()> {
        let device = &**self.stack.device();
        let mut codes = vec![0u8; rows.len() * out.columns()];
        let (columns, mut first) = (out.columns(), 0);
        for (run, logits) in self.snp_layer.iter().zip(&room.logits).filter(|(run, _)| run.width() > 0) {
            let (width, snps) = (run.contrasts(), run.snps.len());
            let mut shares = vec![0f32; rows.len() * width];
            device.read_singles(logits.part(rows.start * width..rows.end * width), &mut shares)?;
            codes.par_chunks_mut(columns).zip(shares.par_chunks(width)).for_each(|(codes, shares)| {
                let classes = shares[..snps].iter().zip(&shares[snps..]);
                codes[first..].iter_mut().zip(classes).for_each(|(code, (&x, &y))| *code = likeliest(x, y));
            });
            first += run.snps.len();
        }
        for (k, codes) in codes.chunks_exact(columns.max(1)).enumerate() {
            pack_row(codes, out.row_mut(to + k));
        }
        debug_assert!(out.stride() == columns.div_ceil(PER_BYTE));
        Ok(())
    }
}

/// Of the classes 1 and 2.
fn likeliest(second: f32, third: f32) -> u8 {
    let x = [1.0 - second - third, second, third];
    let best = if x[1] > x[0] { 1 } else { 0 };
    if x[2] > x[best] {
        2
    } else {
        best as u8
    }
}
