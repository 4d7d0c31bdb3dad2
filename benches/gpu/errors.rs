//! Errors of each long product: some entries at full length beside the reference backend's, in f64.
//!
//! The reference is given the rows and columns of those entries alone, so that it is soon done.

use super::{draw, normals, read, Sizes};
use crate::report::Report;
use genialearn::device::network::{Accumulate, Animals, Network, Product, Rows, Smooth, Values, CLASSES};
use genialearn::device::{open, Coding, Genotypes, Part};
use genialearn::packed::Packed;
use genialearn::rng::{Purpose, Stream};
use genialearn::stats::FixedPoint;
use std::sync::Arc;

/// Rows and columns whose entries are compared.
const SIDE: usize = 8;
/// Limits: sums in f64; in single precision; where a quarter of the calls are missing, which count as 0 to
/// within 2^-17; with both sides rounded to tf32, to bf16.
const F64: f64 = 1e-11;
const SINGLE: f64 = 4e-6;
const GATHERED: f64 = 2e-5;
const TF32: f64 = 5e-3;
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
    for (errors, dense, gathered, classes) in
        [(of(gpu), SINGLE, GATHERED, SINGLE), (of(rounded), TF32, BF16, BF16)]
    {
        errors.dense(report, dense);
        errors.gather_times(report, gathered);
        errors.gather_transposed(report, gathered);
        errors.onehot_times(report, classes);
        errors.onehot_transposed(report, classes);
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
            b.times(z, &b.upload(v.to_vec()).expect("memory"), &points, &mut sums).expect("the GPU works");
            b.download_sums(sums)
                .expect("its own buffer")
                .into_iter()
                .map(|s| points[0].real(s))
                .collect::<Vec<_>>()
        };
        let transposed = |b: &dyn Network, z: &Genotypes, v: &[f64], k: usize| {
            let (mut to, mut out) = (b.reals(z.columns() * k).expect("memory"), vec![0.0; z.columns() * k]);
            b.transposed_times(z, &b.upload(v.to_vec()).expect("memory"), k, &mut to).expect("the GPU works");
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
            let mut sums = b.sums(t * t).expect("memory");
            b.cross(z, 0..t, 0..t, point, &mut sums).expect("the GPU works");
            let out = b.download_sums(sums).expect("its own buffer");
            let counts: Vec<f64> = counts.into_iter().map(f64::from).collect();
            (counts, out.into_iter().map(|s| point.real(s)).collect::<Vec<_>>())
        };
        let (counts, cross) = both(self.gpu, &held, t);
        let (exact_counts, exact_cross) = both(self.reference, &self.cut(&some, &all(m)), some.len());
        let what = |product: &str| self.name(&format!("{product}, {m} terms"));
        report.error(&what("X X'"), &pick(&counts, t, &some, &some), &exact_counts, 0.0);
        report.error(&what("Z Z'"), &pick(&cross, t, &some, &some), &exact_cross, F64);
    }

    /// The reference's copy of some rows and columns of the GPU's matrix with rows of `width`.
    fn copy(&self, matrix: &Values, width: usize, rows: &[usize], columns: &[usize]) -> Values {
        write(self.reference, &pick(&read(self.gpu, matrix), width, rows, columns))
    }

    /// Room for the reference's result.
    fn room(&self, rows: &[usize], columns: &[usize]) -> Values {
        write(self.reference, &vec![0.0; rows.len() * columns.len()])
    }

    /// Dense products, small ones and those of large tiles, as stored and transposed.
    fn dense(&self, report: &mut Report, limit: f64) {
        for side in self.sizes.dense {
            self.product(report, limit, "A B", side, (false, false));
            self.product(report, limit, "A B'", side, (false, true));
            self.product(report, limit, "A'B", side, (true, false));
        }
    }

    fn product(&self, report: &mut Report, limit: f64, what: &str, side: usize, (at, bt): (bool, bool)) {
        let (gpu, r, k) = (self.gpu, self.reference, self.sizes.inner);
        let shape = Product { m: side, n: side, k, a_transposed: at, b_transposed: bt };
        let (a, b, mut out) =
            (normals(gpu, side * k, 1), normals(gpu, side * k, 2), normals(gpu, side * side, 3));
        gpu.product(shape, a.whole(), b.whole(), Accumulate::Overwrite, out.whole_mut())
            .expect("the GPU works");
        let some = spread(side);
        let copy = |matrix: &Values, inner_first: bool| match inner_first {
            true => self.copy(matrix, side, &all(k), &some), // (k, side)
            false => self.copy(matrix, k, &some, &all(k)),   // (side, k)
        };
        let (a, b, mut exact) = (copy(&a, at), copy(&b, !bt), self.room(&some, &some));
        let few = Product { m: some.len(), n: some.len(), ..shape };
        r.product(few, a.whole(), b.whole(), Accumulate::Overwrite, exact.whole_mut())
            .expect("lengths agree");
        let what = self.name(&format!("{what}, {side} x {side}, {k} terms"));
        report.error(&what, &pick(&read(gpu, &out), side, &some, &some), &read(r, &exact), limit);
    }

    /// Z W of a batch, the SNP-snp_layer layer of a network.
    fn gather_times(&self, report: &mut Report, limit: f64) {
        let (gpu, r, m, h) = (self.gpu, self.reference, self.sizes.m, self.sizes.hidden[0]);
        let (batch, columns) = (self.sizes.batch, spread(h));
        let animals = spread_over(batch, self.sizes.n);
        let (w, mut out) = (normals(gpu, m * h, 1), normals(gpu, batch * h, 2));
        gpu.gather_times(&self.held(), &rows(gpu, &animals), w.whole(), h, out.whole_mut())
            .expect("the GPU works");
        let positions = spread(batch);
        let few: Vec<usize> = positions.iter().map(|&p| animals[p]).collect();
        let (z, w) = (self.cut(&few, &all(m)), self.copy(&w, h, &all(m), &columns));
        let mut exact = self.room(&few, &columns);
        r.gather_times(&z, &rows(r, &all(few.len())), w.whole(), columns.len(), exact.whole_mut())
            .expect("lengths agree");
        let found = pick(&read(gpu, &out), h, &positions, &columns);
        report.error(&self.name(&format!("Z W, {m} terms")), &found, &read(r, &exact), limit);
    }

    /// Z'D of a batch, its gradient.
    fn gather_transposed(&self, report: &mut Report, limit: f64) {
        let (gpu, r, m, h) = (self.gpu, self.reference, self.sizes.m, self.sizes.hidden[0]);
        let (batch, columns, snps) = (self.sizes.batch, spread(h), spread(m));
        let animals = spread_over(batch, self.sizes.n);
        let (d, mut out) = (normals(gpu, batch * h, 1), normals(gpu, m * h, 2));
        let (held, to) = (self.held(), out.whole_mut());
        gpu.gather_transposed_times(
            &held,
            &rows(gpu, &animals),
            d.whole(),
            h,
            0..m,
            Accumulate::Overwrite,
            to,
        )
        .expect("the GPU works");
        let (z, d) = (self.cut(&animals, &snps), self.copy(&d, h, &all(batch), &columns));
        let (every, k, mut exact) = (rows(r, &all(batch)), columns.len(), self.room(&snps, &columns));
        r.gather_transposed_times(
            &z,
            &every,
            d.whole(),
            k,
            0..snps.len(),
            Accumulate::Overwrite,
            exact.whole_mut(),
        )
        .expect("lengths agree");
        let found = pick(&read(gpu, &out), h, &snps, &columns);
        report.error(&self.name(&format!("Z'D, {batch} terms")), &found, &read(r, &exact), limit);
    }

    /// Noise on classes of all SNPs.
    fn smooth(&self) -> Smooth {
        Smooth { amount: 0.025, draw: draw(1, CLASSES * self.sizes.m) }
    }

    /// X W on classes with noise, the SNP-snp_layer layer of a critic.
    fn onehot_times(&self, report: &mut Report, limit: f64) {
        let (gpu, r, m, h) = (self.gpu, self.reference, self.sizes.m, self.sizes.hidden[0]);
        let (batch, width, columns, smooth) = (self.sizes.batch / 8, CLASSES * m, spread(h), self.smooth());
        let (w, mut out) = (normals(gpu, width * h, 1), normals(gpu, batch * h, 2));
        let (held, every) = (self.held(), rows(gpu, &all(batch)));
        let animals = Animals { z: &held, rows: &every, smooth: Some(&smooth), made: None };
        gpu.onehot_times(&animals, w.whole(), h, out.whole_mut()).expect("the GPU works");
        let few = all(SIDE.min(batch)); // their noise does not depend on how many others there are
        let (z, every, w) = (self.cut(&few, &all(m)), rows(r, &few), self.copy(&w, h, &all(width), &columns));
        let animals = Animals { z: &z, rows: &every, ..animals };
        let mut exact = self.room(&few, &columns);
        r.onehot_times(&animals, w.whole(), columns.len(), exact.whole_mut()).expect("lengths agree");
        let found = pick(&read(gpu, &out), h, &few, &columns);
        report.error(&self.name(&format!("X W, {width} terms")), &found, &read(r, &exact), limit);
    }

    /// [X; Y]' D, its gradient, with twice as many generated animals Y.
    fn onehot_transposed(&self, report: &mut Report, limit: f64) {
        let (gpu, r, m, h) = (self.gpu, self.reference, self.sizes.m, self.sizes.hidden[0]);
        let (batch, width, columns, smooth) = (self.sizes.batch / 8, CLASSES * m, spread(h), self.smooth());
        let (y, d) = (normals(gpu, 2 * batch * width, 1), normals(gpu, 3 * batch * h, 2));
        let mut out = normals(gpu, width * h, 3);
        let (held, every) = (self.held(), rows(gpu, &all(batch)));
        let animals = Animals { z: &held, rows: &every, smooth: Some(&smooth), made: None };
        let to = out.whole_mut();
        gpu.onehot_transposed_times(&animals, Some(y.whole()), d.whole(), h, Accumulate::Overwrite, to)
            .expect("the GPU works");
        let snps = all(SIDE.min(m)); // their noise does not depend on how many others there are
        let classes = all(CLASSES * snps.len());
        let (z, every) = (self.cut(&all(batch), &snps), rows(r, &all(batch)));
        let animals = Animals { z: &z, rows: &every, ..animals };
        let y = self.copy(&y, width, &all(2 * batch), &classes);
        let d = self.copy(&d, h, &all(3 * batch), &columns);
        let (k, mut exact) = (columns.len(), self.room(&classes, &columns));
        r.onehot_transposed_times(
            &animals,
            Some(y.whole()),
            d.whole(),
            k,
            Accumulate::Overwrite,
            exact.whole_mut(),
        )
        .expect("lengths agree");
        let found = pick(&read(gpu, &out), h, &classes, &columns);
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
