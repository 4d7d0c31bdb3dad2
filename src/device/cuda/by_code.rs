//! Launches of `kernels/by_code.cu`.

use super::compile::Source;
use super::gpu::{Gpu, Memory, Shape};
use crate::device::by_code::{Lines, Sample, BLOCK, CODES};
use crate::error::Result;
use crate::packed::PER_BYTE;

const SOURCE: Source = Source { name: "by_code.cu", text: include_str!("../../../kernels/by_code.cu") };

/// Animals that a block takes in one step; samples are filled up to whole ones.
const STEP: usize = 128;
/// Animals of an item, at most.
const MOST: usize = 8192;
/// Columns of an item, at most.
const COLUMNS: usize = 8;
/// Items of a launch, at most: what a grid may have.
const ITEMS: usize = 32_768;
/// SNPs that a block takes.
const HALF: usize = BLOCK / 2;

/// Samples as the kernel reads them.
#[derive(Default)]
struct Work {
    /// Those of all samples, each filled up to whole steps.
    animals: Vec<u32>,
    /// Of each sample the columns, ones first, filled up with zeros.
    bytes: Vec<i8>,
    items: Vec<[i64; 8]>,
    /// Sums of all samples.
    length: usize,
}

impl Work {
    fn add(&mut self, sample: &Sample, snps: usize) {
        let (n, columns, width) = (sample.animals.len(), 1 + sample.columns(), sample.width());
        let filled = n.next_multiple_of(STEP);
        let (first, first_byte) = (self.animals.len(), self.bytes.len());
        self.animals.extend(sample.animals);
        self.animals.resize(first + filled, 0);
        self.bytes.resize(first_byte + n, 1);
        self.bytes.resize(first_byte + filled, 0);
        for values in sample.values.chunks_exact(n.max(1)) {
            self.bytes.extend(values);
            self.bytes.resize(self.bytes.len().next_multiple_of(STEP), 0);
        }
        for column in (0..columns).step_by(COLUMNS) {
            for start in (0..filled).step_by(MOST) {
                let item = [
                    first + start,
                    first + (start + MOST).min(filled),
                    first_byte + column * filled + start,
                    filled,
                    (columns - column).min(COLUMNS),
                    self.length + CODES * column,
                    width,
                    0,
                ];
                self.items.push(item.map(|number| number as i64));
            }
        }
        self.length += snps * width;
    }
}

/// Lines on the GPU, (blocks, n, 64), written there when first asked for.
fn held<'a>(gpu: &Gpu, lines: &'a Lines) -> Result<&'a Memory<u8>> {
    lines.on_device(|| {
        let each = lines.animals() * (BLOCK / PER_BYTE);
        let mut memory = gpu.fresh::<u8>(lines.blocks().len() * each)?;
        for (number, (block, _)) in lines.blocks().enumerate() {
            gpu.write(block.bytes(), &mut memory, number * each)?;
        }
        Ok(memory)
    })
}

/// Sums of each sample, (SNPs, width); lengths are checked before.
pub(super) fn sums_by_code(gpu: &Gpu, lines: &Lines, samples: &[Sample], out: &mut [Vec<i32>]) -> Result<()> {
    let mut work = Work::default();
    samples.iter().for_each(|sample| work.add(sample, lines.snps()));
    if work.items.is_empty() || work.length == 0 {
        out.iter_mut().for_each(|out| out.fill(0));
        return Ok(());
    }
    let held = held(gpu, lines)?;
    let (animals, bytes) = (gpu.upload(&work.animals)?, gpu.upload(&work.bytes)?);
    let mut sums = gpu.zeros::<i32>(work.length)?;
    let kernel = gpu.kernel(&SOURCE, "sums_by_code", 0)?;
    for items in work.items.chunks(ITEMS) {
        let shape = Shape { grid: [lines.snps().div_ceil(HALF), items.len(), 1], threads: 128, shared: 0 };
        let items = gpu.upload(&items.concat())?;
        let (n, m) = (lines.animals() as i64, lines.snps() as i64);
        let mut launch = kernel.launch(gpu);
        launch.arg(held).arg(&n).arg(&m).arg(&animals).arg(&bytes).arg(&items).arg(&mut sums);
        // SAFETY: it reads lines of animals below n, of which there are whole blocks, animals and bytes within the
        // items, and adds to the sums of m SNPs of each sample, which is what they hold.
        unsafe { launch.run(shape.config()?) }?;
    }
    let mut all = vec![0; work.length];
    gpu.download(&sums, &mut all)?;
    let mut rest = &all[..];
    for out in out {
        let (own, others) = rest.split_at(out.len());
        out.copy_from_slice(own);
        rest = others;
    }
    Ok(())
}
