//! What missing calls add to M M': for every animal the calls of all others at the SNPs where it has none, and what
//! two animals get from SNPs where both have none.
//!
//! A sparse matrix times a dense one. The calls of [`TILE`] animals are turned once, so that one line holds those
//! at one SNP; for each list of missing calls its lines are multiplied, four at a time, with the means of their
//! SNPs as [`DIGITS`] digits of 8 bits, so that the products are sums of bytes. All of it is exact.

mod both;
mod kernels;

use crate::device::Part;
use crate::memory;
use crate::packed::{missing_calls, Packed, PER_BYTE};
use kernels::Run;
use rayon::prelude::*;
use std::ops::Range;

/// Animals of one line.
const TILE: usize = 256;
/// Animals that a kernel multiplies at once.
const GROUP: usize = 128;
/// SNPs whose lines are held at once, 4 MiB; with one more their numbers fit 16 bits.
const WINDOW: usize = (1 << 16) - 256;
/// Digits of a mean.
const DIGITS: usize = size_of::<u32>();
/// Lists whose results are turned together.
const BAND: usize = 16;

/// The calls of a tile's animals at one SNP: byte t of a group holds those of its animals t, 32 + t, 64 + t and
/// 96 + t.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([[u8; GROUP / PER_BYTE]; TILE / GROUP]);

/// Four missing calls of one animal.
#[derive(Clone, Copy)]
struct Quad {
    /// Their SNPs in the window; filled up with the one behind the last.
    snps: [u16; PER_BYTE],
    /// What they count as, from the lowest digit to the highest, for each call.
    digits: [[u8; PER_BYTE]; DIGITS],
}

/// What a missing call counts as, for each SNP.
pub(super) struct Means<'a> {
    /// The mean in a unit of its own.
    pub digits: &'a [u32],
    /// log2 of that unit in quanta of the sums.
    pub shift: u32,
    /// What two animals get in quanta where both calls are missing, less three times each other's mean: the code of
    /// a missing call is 3, and is multiplied as if it were a count.
    pub both: &'a [i64],
}

/// Sums (rows, columns) of some animals with some animals.
pub(super) struct Rectangle<'a> {
    pub rows: Range<usize>,
    pub columns: Range<usize>,
    pub sums: &'a mut [i64],
}

/// Adds to all sums what the missing calls of either animal add to them; with [`Part::Lower`] those of an animal with
/// a later one may get anything.
pub(super) fn add(packed: &Packed, means: &Means, part: Part, rectangles: &mut [Rectangle]) {
    rectangles.iter().for_each(|r| assert!(r.sums.len() == r.rows.len() * r.columns.len(), "a rectangle"));
    let mut rectangles: Vec<_> = rectangles.iter_mut().filter(|r| !r.sums.is_empty()).collect();
    let kernel = kernels::best(means.digits.iter().all(|mean| mean.to_le_bytes()[0] == 0));
    for start in (0..packed.columns()).step_by(WINDOW) {
        let snps = start..(start + WINDOW).min(packed.columns());
        let window = Window { kernel, packed, lists: Lists::of(packed, means, &snps), snps };
        if !window.lists.is_empty() {
            window.add_products(means.shift, part, &mut rectangles);
            both::add(&window, means, part, &mut rectangles);
        }
    }
}

/// The missing calls of all animals at some SNPs, animal by animal.
struct Lists(Vec<Vec<Quad>>);

impl Lists {
    fn of(packed: &Packed, means: &Means, snps: &Range<usize>) -> Self {
        let means = &means.digits[snps.clone()];
        let behind = u16::try_from(snps.len()).expect("a window");
        let empty = Quad { snps: [behind; PER_BYTE], digits: [[0; PER_BYTE]; DIGITS] };
        let list = |i: usize| {
            let (mut quads, mut full) = (Vec::new(), PER_BYTE);
            for j in missing_calls(packed.row(i), snps.clone()) {
                if means[j] == 0 {
                    continue;
                }
                if full == PER_BYTE {
                    quads.push(empty);
                    full = 0;
                }
                let quad = quads.last_mut().expect("one was pushed");
                quad.snps[full] = j as u16;
                quad.digits.iter_mut().zip(means[j].to_le_bytes()).for_each(|(to, digit)| to[full] = digit);
                full += 1;
            }
            quads
        };
        Lists((0..packed.rows()).into_par_iter().map(list).collect())
    }

    fn at(&self, i: usize) -> &[Quad] {
        &self.0[i]
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(Vec::is_empty)
    }
}

/// Some SNPs of all animals.
struct Window<'a> {
    kernel: Run,
    packed: &'a Packed,
    snps: Range<usize>,
    lists: Lists,
}

impl Window<'_> {
    /// Every list with the calls of all animals of the other side.
    fn add_products(&self, shift: u32, part: Part, rectangles: &mut [&mut Rectangle]) {
        let mut lines = memory::room(self.snps.len() + 1);
        lines.resize(self.snps.len() + 1, Line([[0; GROUP / PER_BYTE]; TILE / GROUP]));
        let n = self.packed.rows();
        for start in (0..n).step_by(TILE) {
            let tile = start..(start + TILE).min(n);
            if !rectangles.iter().any(|r| meet(&r.rows, &tile).or(meet(&r.columns, &tile)).is_some()) {
                continue;
            }
            self.turn(tile.clone(), &mut lines);
            rectangles.par_iter_mut().for_each(|r| {
                if let Some(columns) = meet(&r.columns, &tile) {
                    self.add_lists_of_rows(&lines, (start, columns), (shift, part), r);
                }
                if let Some(rows) = meet(&r.rows, &tile) {
                    self.add_lists_of_columns(&lines, (start, rows), (shift, part), r);
                }
            });
        }
    }

    /// The lists of all rows with the calls of some columns, of a tile from animal `start` on.
    fn add_lists_of_rows(
        &self,
        lines: &[Line],
        (start, columns): (usize, Range<usize>),
        (shift, part): (u32, Part),
        to: &mut Rectangle,
    ) {
        let first = to.columns.start;
        to.sums.par_chunks_mut(to.columns.len()).zip(to.rows.clone()).for_each(|(row, i)| {
            let end = if part == Part::Lower { columns.end.min(i + 1) } else { columns.end };
            for (group, animals) in groups(start, columns.start..end) {
                let sums = &mut row[animals.start - first..animals.end - first];
                (0..sums.len()).step_by(8).for_each(|at| prefetch(sums, at));
                let mut found = [0; GROUP];
                // SAFETY: lists name SNPs of their window, which `lines` holds with all groups of animals.
                unsafe { kernels::multiply(self.kernel, self.lists.at(i), lines, group, &mut found) };
                let found = &found[(animals.start - start) % GROUP..];
                sums.iter_mut().zip(found).for_each(|(sum, x)| *sum += x << shift);
            }
        });
    }

    /// The lists of all columns with the calls of some rows, of a tile from animal `start` on.
    fn add_lists_of_columns(
        &self,
        lines: &[Line],
        (start, rows): (usize, Range<usize>),
        (shift, part): (u32, Part),
        to: &mut Rectangle,
    ) {
        let (columns, width) = (to.columns.clone(), to.columns.len());
        let sums = &mut to.sums[(rows.start - to.rows.start) * width..(rows.end - to.rows.start) * width];
        let mut bands: Vec<Vec<&mut [i64]>> = Vec::new();
        bands.resize_with(width.div_ceil(BAND), || Vec::with_capacity(rows.len()));
        for row in sums.chunks_mut(width) {
            bands.iter_mut().zip(row.chunks_mut(BAND)).for_each(|(band, part)| band.push(part));
        }
        bands.par_iter_mut().enumerate().for_each(|(b, band)| {
            let first = columns.start + b * BAND;
            let lists = first..(first + BAND).min(columns.end);
            let begin = if part == Part::Lower { rows.start.max(first) } else { rows.start };
            let mut found = [[0; GROUP]; BAND];
            for (group, animals) in groups(start, begin..rows.end) {
                let wanted = &band[animals.start - rows.start..animals.end - rows.start];
                wanted.iter().for_each(|row| (0..BAND).step_by(8).for_each(|at| prefetch(row, at)));
                for (found, k) in found.iter_mut().zip(lists.clone()) {
                    // SAFETY: lists name SNPs of their window, which `lines` holds with all groups of animals.
                    unsafe { kernels::multiply(self.kernel, self.lists.at(k), lines, group, found) };
                }
                let lane = (animals.start - start) % GROUP;
                let band = &mut band[animals.start - rows.start..animals.end - rows.start];
                for (lane, row) in (lane..).zip(band) {
                    row.iter_mut().zip(&found).for_each(|(sum, x)| *sum += x[lane] << shift);
                }
            }
        });
    }

    /// The lines of some animals at all SNPs of the window, and one behind.
    fn turn(&self, animals: Range<usize>, lines: &mut [Line]) {
        let bytes = self.snps.start / PER_BYTE..self.snps.end.div_ceil(PER_BYTE);
        let mut calls = vec![0xFF; TILE * bytes.len()];
        calls.par_chunks_mut(bytes.len()).enumerate().for_each(|(at, calls)| {
            // lane at % 4 of byte at / 4 % 32 of a group
            let lane = at / GROUP * GROUP + at % PER_BYTE * (GROUP / PER_BYTE) + at % GROUP / PER_BYTE;
            if lane < animals.len() {
                calls.copy_from_slice(&self.packed.row(animals.start + lane)[bytes.clone()]);
            }
        });
        let calls = Packed::from_bytes(TILE, self.snps.len(), calls);
        const STRETCH: usize = 1024;
        lines[..self.snps.len()].par_chunks_mut(STRETCH).enumerate().for_each(|(s, lines)| {
            let snps = s * STRETCH..s * STRETCH + lines.len();
            // SAFETY: a line is TILE / PER_BYTE bytes, aligned and without padding.
            let bytes = unsafe {
                std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast::<u8>(), size_of_val(lines))
            };
            calls.transpose_columns(snps, bytes, size_of::<Line>());
        });
    }
}

/// What two ranges have in common.
fn meet(a: &Range<usize>, b: &Range<usize>) -> Option<Range<usize>> {
    let common = a.start.max(b.start)..a.end.min(b.end);
    (!common.is_empty()).then_some(common)
}

/// The groups of the tile from animal `start` on that have some of the `animals`, with those of them.
fn groups(start: usize, animals: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
    (0..TILE / GROUP).filter_map(move |group| {
        let first = start + group * GROUP;
        meet(&animals, &(first..first + GROUP)).map(|animals| (group, animals))
    })
}

/// Asks for an element that will be needed.
#[inline]
fn prefetch<T>(from: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: whatever the address is, a prefetch only fills a cache; x86-64 has the instruction.
    unsafe {
        use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
        _mm_prefetch::<_MM_HINT_T0>(from.as_ptr().wrapping_add(at).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, at);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packed::MISSING;
    use crate::rng::{Purpose, Stream};

    /// Genotypes with a share of missing calls in 256, SNP 3 without any call.
    fn genotypes(n: usize, m: usize, share: usize) -> Packed {
        let mut s = Stream::new(21, Purpose::Test, (n * 1000 + m) as u64);
        let codes: Vec<u8> = (0..n * m)
            .map(|at| if at % m == 3 || s.below(256) < share { MISSING } else { s.below(3) as u8 })
            .collect();
        Packed::from_codes(n, m, &codes)
    }

    /// What `add` should give, from single calls.
    fn definition(packed: &Packed, means: &Means, i: usize, k: usize) -> i64 {
        let term = |j: usize| {
            let (x, y) = (packed.get(i, j), packed.get(k, j));
            let mean = i64::from(means.digits[j]) << means.shift;
            let one = |x: u8, y: u8| if x == MISSING { mean * i64::from(y) } else { 0 };
            let both = x == MISSING && y == MISSING && mean != 0;
            one(x, y) + one(y, x) + if both { means.both[j] } else { 0 }
        };
        (0..packed.columns()).map(term).sum()
    }

    #[test]
    fn sums_of_any_rectangles_get_what_the_definition_says() {
        // less than a group; several tiles, the last of one animal; more than a window of SNPs
        for (n, m, share) in [(5, 9, 200), (40, 70, 30), (513, 40, 20), (3, WINDOW + 300, 4)] {
            let packed = genotypes(n, m, share);
            let digits: Vec<u32> = (0..m as u32).map(|j| j.wrapping_mul(2_654_435_761)).collect();
            let both: Vec<i64> = (0..m as i64).map(|j| 1000 - 37 * j).collect();
            let shift = if n == 513 { 0 } else { 3 };
            let means = Means { digits: &digits, shift, both: &both };
            let middle = n / 3;
            // one on top of the other, from the first column and from another one on; no column
            for (part, first) in [(Part::Lower, 0), (Part::Whole, 0), (Part::Whole, middle), (Part::Whole, n)]
            {
                let shapes = [(0..middle, first..n), (middle..n, first..n)];
                let mut sums = shapes.clone().map(|(rows, columns)| vec![7; rows.len() * columns.len()]);
                let mut rectangles: Vec<Rectangle> = shapes
                    .iter()
                    .zip(&mut sums)
                    .map(|((rows, columns), sums)| Rectangle {
                        rows: rows.clone(),
                        columns: columns.clone(),
                        sums,
                    })
                    .collect();
                add(&packed, &means, part, &mut rectangles);
                for ((rows, columns), sums) in shapes.iter().zip(&sums) {
                    let pairs = rows.clone().flat_map(|i| columns.clone().map(move |k| (i, k)));
                    for ((i, k), sum) in pairs.zip(sums).filter(|((i, k), _)| part == Part::Whole || k <= i) {
                        assert_eq!(*sum, 7 + definition(&packed, &means, i, k), "{n} {m} {part:?} {i} {k}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_kernel_of_this_processor_is_exact() {
        // no list, less than a quad, some; the most there can be, past a stretch
        for (n, m, share) in [(70, 20, 0), (70, 5, 100), (300, 700, 40), (9, 9000, 256)] {
            let packed = genotypes(n, m, share);
            for lowest in [0u32, 255] {
                let digits: Vec<u32> = (0..m as u32)
                    .map(|j| if share == 256 { u32::MAX } else { j.wrapping_mul(2_654_435_761) })
                    .map(|mean| mean & !255 | mean & lowest)
                    .collect();
                let means = Means { digits: &digits, shift: 0, both: &vec![0; m] };
                let lists = Lists::of(&packed, &means, &(0..m));
                let window = Window { kernel: kernels::best(false), packed: &packed, snps: 0..m, lists };
                let mut lines = vec![Line([[0; GROUP / PER_BYTE]; TILE / GROUP]); m + 1];
                window.turn(0..n.min(TILE), &mut lines);
                for i in 0..n {
                    for (group, animals) in groups(0, 0..n.min(TILE)) {
                        let product = |k: usize| -> i64 {
                            let mean = |j: usize| i64::from(digits[j]) * i64::from(packed.get(k, j));
                            (0..m).filter(|&j| packed.get(i, j) == MISSING).map(mean).sum()
                        };
                        let wanted: Vec<i64> = animals.map(product).collect();
                        for (name, kernel) in kernels::all(lowest == 0) {
                            let mut found = [-1; GROUP];
                            // SAFETY: lists name SNPs of their window, which `lines` holds with all groups of animals.
                            unsafe {
                                kernels::multiply(kernel, window.lists.at(i), &lines, group, &mut found)
                            };
                            assert_eq!(found[..wanted.len()], wanted, "{name} {n} {m} {i}");
                        }
                    }
                    if share == 256 {
                        break;
                    }
                }
            }
        }
    }
}
