//! Errors of each long product: some entries at full length beside the reference backend's, in f64.
//!
//! The reference is given the rows and columns of those entries alone, so that it is soon done.

use super::{draw, normals, read, Sizes};
use crate::report::Report;
use genialearn::device::network::{Animals, Network, Onto, Product, Rows, Smooth, Values, CLASSES};
use genialearn::device::{open, Coding, Genotypes, Part};
use genialearn::packed::Packed;
use genialearn::rng::{Purpose, Stream};
use genialearn::stats::FixedPoint;
use std::sync::Arc;

/// Rows and columns whose entries are compared.
const SIDE: usize = 8;
/// Limits: sums in f64; in single precision; with a SNP's values in two parts of bf16, which hold 2^-17 of them; with
/// both sides rounded to bf16.
const F64: f64 = 1e-11;
const SINGLE: f64 = 4e-6;
const GATHERED: f64 = 2e-5;
const BF16: f64 = 2e-2;

/// Errors of all long products, in both precisions.
pub fn errors(
    report: &mut Report,
    [gpu, rounded]: [&dyn Network; 2],
    sizes: &Sizes,
    packed: &Arc<Packed>,
    coding: &[Coding],
) {
    let reference = &*open("reference").expect("it is always there");
    let of = |gpu| Errors { gpu, reference, sizes, packed, coding };
    of(gpu).linear(report);
    of(gpu).tiles(report);
    of(gpu).dense(report);
    for (errors, gathered, classes) in [(of(gpu), GATHERED, SINGLE), (of(rounded), BF16, BF16)] {
        errors.gathered(report, gathered);
        errors.classes(report, classes);
    }
}

/// A GPU and the reference, and the genotypes that both are given.
struct Errors<'a> {
    gpu: &'a dyn Network,
    reference: &'a dyn Network,
    sizes: &'a Sizes,
    packed: &'a Arc<Packed>,
    coding: &'a [Coding],
}

impl Errors<'_> {
    fn held(&self) -> Genotypes {
        self.gpu.hold(self.packed, self.coding).expect("enough memory")
    }

    /// The reference's genotypes of some animals and SNPs.
    fn cut(&self, animals: &[usize], snps: &[usize]) -> Genotypes {
        let coding: Vec<Coding> = snps.iter().map(|&j| self.coding[j]).collect();
        self.reference.hold(&Arc::new(self.packed.select(animals, snps)), &coding).expect("enough memory")
    }

    fn name(&self, product: &str) -> String {
        format!("{}: {product}", self.gpu.name())
    }

    /// Z V and Z'V in f64.
    fn linear(&self, report: &mut Report) {
        let (n, m, held) = (self.sizes.n, self.sizes.m, self.held());
        let times = |b: &dyn Network, z: &Genotypes, v: &[f64], k: usize| {
            let points = vec![FixedPoint::for_bound(1e6); k];
            let mut sums = b.sums(z.rows() * k).expect("memory");
            b.times(z, &b.upload(v).expect("memory"), &points, &mut sums).expect("the GPU works");
            let mut out = vec![0; z.rows() * k];
            b.download_sums(&sums, &mut out).expect("lengths agree");
            out.into_iter().map(|s| points[0].real(s)).collect::<Vec<_>>()
        };
        let transposed = |b: &dyn Network, z: &Genotypes, v: &[f64], k: usize| {
            let (mut to, mut out) = (b.reals(z.columns() * k).expect("memory"), vec![0.0; z.columns() * k]);
            b.transposed_times(z, &b.upload(v).expect("memory"), k, &mut to).expect("the GPU works");
            b.download(&to, &mut out).expect("lengths agree");
            out
        };
        for k in [SIDE, 33] {
            let (v, w, all) = (numbers(m * k), numbers(n * k), all(k));
            let (animals, snps) = (spread(n), spread(m));
            let found = pick(&times(self.gpu, &held, &v, k), k, &animals, &all);
            let exact = times(self.reference, &self.cut(&animals, &self::all(m)), &v, k);
            report.error(&self.name(&format!("Z V, {m} terms, k = {k}")), &found, &exact, F64);
            let found = pick(&transposed(self.gpu, &held, &w, k), k, &snps, &all);
            let exact = transposed(self.reference, &self.cut(&self::all(n), &snps), &w, k);
            report.error(&self.name(&format!("Z'V, {n} terms, k = {k}")), &found, &exact, F64);
        }
    }

    /// X X', exactly, and Z Z' in f64.
    fn tiles(&self, report: &mut Report) {
        let (m, t, held) = (self.sizes.m, self.sizes.tile, self.held());
        let some = spread(t);
        let point = FixedPoint::for_bound(9.0 * m as f64);
        let both = |b: &dyn Network, z: &Genotypes, t: usize| {
            let mut counts = vec![0; t * t];
            b.counts(z, 0..t, 0..t, Part::Whole, &mut counts).expect("the GPU works");
            let (mut sums, mut out) = (b.sums(t * t).expect("memory"), vec![0; t * t]);
            b.cross(z, 0..t, 0..t, point, &mut sums).expect("the GPU works");
            b.download_sums(&sums, &mut out).expect("lengths agree");
            let counts: Vec<f64> = counts.into_iter().map(f64::from).collect();
            (counts, out.into_iter().map(|s| point.real(s)).collect::<Vec<_>>())
        };
        let (counts, cross) = both(self.gpu, &held, t);
        let (exact_counts, exact_cross) = both(self.reference, &self.cut(&some, &all(m)), some.len());
        let what = |product: &str| self.name(&format!("{product}, {m} terms"));
        report.error(&what("X X'"), &pick(&counts, t, &some, &some), &exact_counts, 0.0);
        report.error(&what("Z Z'"), &pick(&cross, t, &some, &some), &exact_cross, F64);
    }

    /// Dense products, small ones and those of large tiles, as stored and transposed.
    fn dense(&self, report: &mut Report) {
        let k = self.sizes.inner;
        for side in self.sizes.dense {
            for (layout, a_transposed, b_transposed) in
                [("A B", false, false), ("A B'", false, true), ("A'B", true, false)]
            {
                let shape = Product { m: side, n: side, k, a_transposed, b_transposed };
                let (a, b) = (normals(self.gpu, side * k, 1), normals(self.gpu, side * k, 2));
                let mut out = normals(self.gpu, side * side, 3);
                let all_of = |of: &dyn Network, shape, a: &Values, b: &Values, out: &mut Values| {
                    of.product(shape, a.whole(), b.whole(), Onto::Fresh, out.whole_mut())
                        .expect("the GPU works");
                    read(of, out)
                };
                let found = all_of(self.gpu, shape, &a, &b, &mut out);
                let some = spread(side);
                let part = |matrix: &Values, along: bool| {
                    let whole = read(self.gpu, matrix);
                    match along {
                        true => pick(&whole, side, &all(k), &some), // stored (k, side)
                        false => pick(&whole, k, &some, &all(k)),   // stored (side, k)
                    }
                };
                let a = write(self.reference, &part(&a, a_transposed));
                let b = write(self.reference, &part(&b, !b_transposed));
                let mut out = write(self.reference, &vec![0.0; some.len() * some.len()]);
                let few = Product { m: some.len(), n: some.len(), ..shape };
                let exact = all_of(self.reference, few, &a, &b, &mut out);
                let what = self.name(&format!("{layout}, {side} x {side}, {k} terms"));
                report.error(&what, &pick(&found, side, &some, &some), &exact, SINGLE);
            }
        }
    }

    /// The SNP-facing layer of a network, Z W and Z'D.
    fn gathered(&self, report: &mut Report, limit: f64) {
        let (b, m, batch, h) = (self.gpu, self.sizes.m, self.sizes.batch, self.sizes.hidden[0]);
        let (held, animals) = (self.held(), spread_over(batch, self.sizes.n));
        let (positions, snps, columns) = (spread(batch), spread(m), spread(h));
        let (w, d) = (normals(b, m * h, 1), normals(b, batch * h, 2));
        let rows = rows(b, &animals);
        let mut out = normals(b, batch * h, 3);
        b.gather_times(&held, &rows, w.whole(), h, out.whole_mut()).expect("the GPU works");
        let found = pick(&read(b, &out), h, &positions, &columns);
        let few: Vec<usize> = positions.iter().map(|&p| animals[p]).collect();
        let r = self.reference;
        let mut exact = write(r, &vec![0.0; few.len() * columns.len()]);
        let some = write(r, &pick(&read(b, &w), h, &all(m), &columns));
        let z = self.cut(&few, &all(m));
        r.gather_times(&z, &self::rows(r, &all(few.len())), some.whole(), columns.len(), exact.whole_mut())
            .expect("lengths agree");
        report.error(&self.name(&format!("Z W, {m} terms")), &found, &read(r, &exact), limit);

        let mut gradient = normals(b, m * h, 3);
        b.gather_transposed_times(&held, &rows, d.whole(), h, 0..m, Onto::Fresh, gradient.whole_mut())
            .expect("the GPU works");
        let found = pick(&read(b, &gradient), h, &snps, &columns);
        let mut exact = write(r, &vec![0.0; snps.len() * columns.len()]);
        let some = write(r, &pick(&read(b, &d), h, &all(batch), &columns));
        let (z, every) = (self.cut(&animals, &snps), self::rows(r, &all(batch)));
        let (to, k) = (exact.whole_mut(), columns.len());
        r.gather_transposed_times(&z, &every, some.whole(), k, 0..snps.len(), Onto::Fresh, to)
            .expect("lengths agree");
        report.error(&self.name(&format!("Z'D, {batch} terms")), &found, &read(r, &exact), limit);
    }

    /// The SNP-facing layer of a critic, X W and [X; Y]'D on classes with noise.
    fn classes(&self, report: &mut Report, limit: f64) {
        let (b, r, m, h) = (self.gpu, self.reference, self.sizes.m, self.sizes.hidden[0]);
        let (held, batch, width) = (self.held(), self.sizes.batch / 8, CLASSES * m);
        let (few, columns) = (all(SIDE.min(batch)), spread(h));
        let smooth = Smooth { amount: 0.025, draw: draw(1, width) };
        let given = |z, rows| Animals { z, rows, smooth: Some(&smooth), made: None };
        let w = normals(b, width * h, 1);
        let mut out = normals(b, batch * h, 2);
        let batch_rows = rows(b, &all(batch));
        b.onehot_times(&given(&held, &batch_rows), w.whole(), h, out.whole_mut()).expect("the GPU works");
        let found = pick(&read(b, &out), h, &few, &columns);
        let mut exact = write(r, &vec![0.0; few.len() * columns.len()]);
        let some = write(r, &pick(&read(b, &w), h, &all(width), &columns));
        let (z, every) = (self.cut(&few, &all(m)), rows(r, &few));
        r.onehot_times(&given(&z, &every), some.whole(), columns.len(), exact.whole_mut())
            .expect("lengths agree");
        report.error(&self.name(&format!("X W, {width} terms")), &found, &read(r, &exact), limit);

        let (dense, d) = (normals(b, 2 * batch * width, 1), normals(b, 3 * batch * h, 2));
        let (mut gradient, y) = (normals(b, width * h, 3), Some(dense.whole()));
        b.onehot_transposed_times(
            &given(&held, &batch_rows),
            y,
            d.whole(),
            h,
            Onto::Fresh,
            gradient.whole_mut(),
        )
        .expect("the GPU works");
        // the first SNPs, whose noise does not depend on how many others there are
        let snps = all(SIDE.min(m));
        let first = all(CLASSES * snps.len());
        let found = pick(&read(b, &gradient), h, &first, &columns);
        let mut exact = write(r, &vec![0.0; first.len() * columns.len()]);
        let y = write(r, &pick(&read(b, &dense), width, &all(2 * batch), &first));
        let some = write(r, &pick(&read(b, &d), h, &all(3 * batch), &columns));
        let (z, every) = (self.cut(&all(batch), &snps), rows(r, &all(batch)));
        let (y, to) = (Some(y.whole()), exact.whole_mut());
        r.onehot_transposed_times(&given(&z, &every), y, some.whole(), columns.len(), Onto::Fresh, to)
            .expect("lengths agree");
        let what = self.name(&format!("[X; Y]' D, {} terms", 3 * batch));
        report.error(&what, &found, &read(r, &exact), limit);
    }
}

/// 0, 1, ..., `n` - 1.
fn all(n: usize) -> Vec<usize> {
    (0..n).collect()
}

/// `SIDE` of `n` numbers from the first to the last, or all of fewer.
fn spread(n: usize) -> Vec<usize> {
    spread_over(SIDE.min(n), n)
}

/// `count` of `n` numbers, from the first to the last.
fn spread_over(count: usize, n: usize) -> Vec<usize> {
    (0..count).map(|i| i * (n - 1) / (count - 1).max(1)).collect()
}

/// Some rows and columns of a matrix with rows of `width`.
fn pick(matrix: &[f64], width: usize, rows: &[usize], columns: &[usize]) -> Vec<f64> {
    rows.iter().flat_map(|i| columns.iter().map(move |j| matrix[i * width + j])).collect()
}

fn rows(b: &dyn Network, animals: &[usize]) -> Rows {
    b.rows(&animals.iter().map(|&i| i as u32).collect::<Vec<_>>()).expect("memory")
}

fn write(b: &dyn Network, numbers: &[f64]) -> Values {
    let mut out = b.values(numbers.len()).expect("memory");
    b.write(numbers, out.whole_mut()).expect("lengths agree");
    out
}

fn numbers(length: usize) -> Vec<f64> {
    let mut s = Stream::new(4, Purpose::Test, 0);
    (0..length).map(|_| s.normal()).collect()
}
