//! Z V, Z' V and G V from the packed SNP blocks of all ranks.

use super::Scaling;
use crate::comm;
use crate::comm::layout;
use crate::comm::World;
use crate::device::Coding;
use crate::device::Genotypes;
use crate::device::Reals;
use crate::device::{self, Backend};
use crate::error::{Error, Result};
use crate::genotype::Store;
use crate::linalg::{Operator, Rows};
use crate::packed;
use crate::packed::Packed;
use crate::stats::FixedPoint;
use ndarray::{Array2, ArrayView2, CowArray, Ix2};
use std::cell::OnceCell;
use std::ops::Range;
use std::sync::Arc;

/// Neighbouring SNPs that rough products take or leave together: those of four bytes.
const TOGETHER: usize = 16;
/// Rough products take one in so many of those groups, where ...
const THINNED: usize = 4;
/// ... that leaves at least so many SNPs.
const LEAST: usize = 4096;

/// The genotypes of all animals, shared out by SNPs over the ranks, as the matrix Z (n, m).
pub struct GenotypeMatrix {
    world: World,
    backend: Arc<dyn Backend>,
    packed: Arc<Packed>, // (n, this rank's SNPs)
    first: usize,
    m: usize,
    scaling: Scaling,
    frequencies: Vec<f64>,
    coding: Vec<Coding>,
    coded: Coded,
    /// The same without most of the SNPs, made when first asked for; `None` where that saves nothing.
    thinned: OnceCell<Option<Coded>>,
    /// Whether the frequencies are those of these genotypes themselves.
    own: bool,
}

/// Z and c of G = Z Z' / c, as the backend holds them.
struct Coded {
    z: Genotypes,
    /// The largest |z| of each of this rank's SNPs.
    reach: Reals,
    c: f64,
}

impl Coded {
    fn new(backend: &dyn Backend, z: Genotypes, coding: &[Coding], c: f64) -> Result<Coded> {
        let reach = coding.iter().map(|z| z.iter().fold(0.0f64, |a, z| a.max(z.abs())));
        Ok(Coded { z, reach: backend.upload(reach.collect())?, c })
    }
}

impl GenotypeMatrix {
    /// Reads this rank's SNPs of all animals of a store; frequencies are those of the store's animals.
    pub fn load(
        world: &World,
        backend: Arc<dyn Backend>,
        store: &Store,
        scaling: Scaling,
    ) -> Result<GenotypeMatrix> {
        let snps = layout::snps_of(store.n_variants(), world.rank(), world.size());
        let packed = world.agree(store.read(0..store.n_animals(), snps.clone()))?;
        Self::from_packed(world, backend, packed, snps.start, store.n_variants(), scaling)
    }

    /// Takes this rank's SNPs `first..` of `m` in all; frequencies are those of the given animals.
    pub fn from_packed(
        world: &World,
        backend: Arc<dyn Backend>,
        packed: Packed,
        first: usize,
        m: usize,
        scaling: Scaling,
    ) -> Result<GenotypeMatrix> {
        let frequencies = frequencies(&packed);
        let markers = Self::with_frequencies(world, backend, packed, first, m, scaling, frequencies)?;
        Ok(GenotypeMatrix { own: true, ..markers })
    }

    /// Like [`GenotypeMatrix::from_packed`] with the frequencies of another population, one for each of this rank's
    /// SNPs: new animals are predicted with those of the training animals.
    pub fn with_frequencies(
        world: &World,
        backend: Arc<dyn Backend>,
        packed: Packed,
        first: usize,
        m: usize,
        scaling: Scaling,
        frequencies: Vec<f64>,
    ) -> Result<GenotypeMatrix> {
        let snps = first..first + packed.columns();
        assert!(snps.is_empty() || first.is_multiple_of(layout::CHUNK), "a rank's SNPs begin on a chunk");
        assert_eq!(frequencies.len(), packed.columns(), "a frequency for each SNP");
        let coding: Vec<Coding> = frequencies.iter().map(|&p| scaling.coding(p)).collect();
        let weights: Vec<f64> = frequencies.iter().map(|&p| scaling.weight(p)).collect();
        let scale = sum_over_ranks(world, &weights, m as f64);
        if scale <= 0.0 {
            return Err(Error::input(
                "genotypes",
                "at least one SNP with both alleles",
                format!("none among {m}"),
                "check the filters and the counted alleles",
            ));
        }
        let packed = Arc::new(packed);
        let coded = backend.hold(&packed, &coding).and_then(|z| Coded::new(&*backend, z, &coding, scale));
        let coded = world.agree(coded)?;
        let world = world.clone();
        Ok(GenotypeMatrix {
            world,
            backend,
            packed,
            first,
            m,
            scaling,
            frequencies,
            coding,
            coded,
            thinned: OnceCell::new(),
            own: false,
        })
    }

    /// Number of animals.
    pub fn n(&self) -> usize {
        self.packed.rows()
    }

    /// Number of SNPs on all ranks together.
    pub fn m(&self) -> usize {
        self.m
    }

    /// The SNPs of this rank.
    pub fn snps(&self) -> Range<usize> {
        self.first..self.first + self.packed.columns()
    }

    /// Frequency of the counted allele at this rank's SNPs, NaN where no call was made.
    pub fn frequencies(&self) -> &[f64] {
        &self.frequencies
    }

    /// c of G = Z Z' / c.
    pub fn scale(&self) -> f64 {
        self.coded.c
    }

    /// How genotypes become Z.
    pub fn scaling(&self) -> Scaling {
        self.scaling
    }

    /// The ranks that share the SNPs.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The packed codes of this rank's SNPs.
    pub fn packed(&self) -> &Packed {
        &self.packed
    }

    /// The values in Z of the codes at each of this rank's SNPs.
    pub fn coding(&self) -> &[Coding] {
        &self.coding
    }

    /// Whether Z is whole numbers less the mean 2p, so that Z Z' follows from integers. With the frequencies
    /// of others a SNP may be monomorphic there, so that it drops out, and yet vary here.
    pub(super) fn is_integer(&self) -> bool {
        self.own && self.scaling == Scaling::VanRaden1
    }

    pub(super) fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    pub(super) fn held(&self) -> &Genotypes {
        &self.coded.z
    }

    /// Z V (n, k) on every rank from each rank's part of V, `v` of shape (this rank's SNPs, k). Collective. The result
    /// has the same bits for any number of ranks; a column of V that holds NaN or an infinity on any rank gives a
    /// column of NaN. Ends the job when a device fails.
    pub fn times(&self, v: ArrayView2<f64>) -> Array2<f64> {
        assert_eq!(v.nrows(), self.packed.columns(), "a row of V for each of this rank's SNPs");
        let k = v.ncols();
        let FixedPointSums { mut quanta, bounds } =
            self.sums(&self.coded, &self.done(self.sent(v.into())), k, false);
        self.world.sum_i64(&mut quanta);
        reals(quanta, &bounds)
    }

    /// The rows of blocks over the animals that each rank owns.
    pub fn row_layout(&self) -> Rows {
        Rows::new(&self.world, self.n())
    }

    /// This rank's SNPs' part of Z V, where V is with the backend.
    fn sums(&self, coded: &Coded, v: &Reals, k: usize, quick: bool) -> FixedPointSums {
        let mut bounds = self.done(self.backend.largest(&coded.reach, v, k));
        self.world.max(&mut bounds);
        // On Σ_j |z_ij v_jc| for any animal i, one for each column c, the same on every rank.
        bounds.iter_mut().for_each(|b| *b *= self.m as f64);
        let points: Vec<FixedPoint> = bounds.iter().map(|&b| point(b)).collect();
        let quanta = self.done(self.device_times(coded, v, &points, quick));
        FixedPointSums { quanta, bounds }
    }

    /// Hands a block over to the backend, an owned one without a copy.
    fn sent(&self, v: CowArray<f64, Ix2>) -> Result<Reals> {
        let v = if v.is_standard_layout() { v.into_owned() } else { v.as_standard_layout().into_owned() };
        self.backend.upload(v.into_raw_vec_and_offset().0)
    }

    fn device_times(&self, coded: &Coded, v: &Reals, points: &[FixedPoint], quick: bool) -> Result<Vec<i64>> {
        let mut sums = self.backend.sums(self.n() * points.len())?;
        match quick {
            true => self.backend.quick_times(&coded.z, v, points, &mut sums)?,
            false => self.backend.times(&coded.z, v, points, &mut sums)?,
        }
        self.backend.download_sums(sums)
    }

    /// Z' V for this rank's SNPs (this rank's SNPs, k), `v` of shape (n, k), the same on every rank.
    pub fn transposed_times(&self, v: ArrayView2<f64>) -> Array2<f64> {
        let mut out = Array2::zeros((self.packed.columns(), v.ncols()));
        let there = self.transposed_there(&self.coded, v.into(), false);
        self.done(self.backend.download(&there, out.as_slice_mut().expect("standard layout")));
        out
    }

    /// Z' V (this rank's SNPs, k), left with the backend.
    fn transposed_there(&self, coded: &Coded, v: CowArray<f64, Ix2>, quick: bool) -> Reals {
        assert_eq!(v.nrows(), self.n(), "a row of V for each animal");
        let k = v.ncols();
        let product = || -> Result<Reals> {
            let v = self.sent(v)?;
            let mut out = self.backend.reals(self.packed.columns() * k)?;
            match quick {
                true => self.backend.quick_transposed_times(&coded.z, &v, k, &mut out)?,
                false => self.backend.transposed_times(&coded.z, &v, k, &mut out)?,
            }
            Ok(out)
        };
        self.done(product())
    }

    /// G V of blocks over the animals, this rank's rows (n_r, k) to (n_r, k). Collective; the same bits on any number
    /// of ranks. Ends the job when a device fails.
    pub fn grm_times(&self, v: ArrayView2<f64>) -> Array2<f64> {
        self.grm_times_by(&self.coded, v, false)
    }

    /// Like [`GenotypeMatrix::grm_times`] in single precision where the backend is faster so: good to about six digits
    /// of the product's length. A second copy of this rank's genotypes, by SNP, is kept from the first call on.
    pub fn quick_grm_times(&self, v: ArrayView2<f64>) -> Array2<f64> {
        self.grm_times_by(&self.coded, v, true)
    }

    /// The quick product with the G of a fourth of the SNPs, where those are enough to show which animals are
    /// related and cost less.
    pub fn rough_grm_times(&self, v: ArrayView2<f64>) -> Option<Array2<f64>> {
        self.thinned().map(|thinned| self.grm_times_by(thinned, v, true))
    }

    /// Z without the SNPs that rough products leave out. Collective.
    fn thinned(&self) -> Option<&Coded> {
        let make = || {
            if self.m / THINNED < LEAST {
                return None;
            }
            let stays = |j: usize| ((self.first + j) / TOGETHER).is_multiple_of(THINNED);
            let of = |(j, z): (usize, &Coding)| if stays(j) { *z } else { [0.0; 4] };
            let coding: Vec<Coding> = self.coding.iter().enumerate().map(of).collect();
            let weight = |(j, &p): (usize, &f64)| if stays(j) { self.scaling.weight(p) } else { 0.0 };
            let weights: Vec<f64> = self.frequencies.iter().enumerate().map(weight).collect();
            let c = sum_over_ranks(&self.world, &weights, self.m as f64);
            let z = self.done(self.backend.recoded(&self.coded.z, &coding)).filter(|_| c > 0.0);
            // Ranks may compute on different devices.
            let mut without = [f64::from(u8::from(z.is_none()))];
            self.world.max(&mut without);
            let z = z.filter(|_| without == [0.0])?;
            Some(self.done(Coded::new(&*self.backend, z, &coding, c)))
        };
        self.thinned.get_or_init(make).as_ref()
    }

    /// Buffers are made to measure here, so a device fails only when it is out of memory or lost. The other ranks
    /// may wait in a collective by now, so that nothing remains but to say so and to end the job.
    fn done<T>(&self, result: Result<T>) -> T {
        match result {
            Ok(value) => value,
            Err(e) => comm::end_job(&e),
        }
    }

    fn grm_times_by(&self, coded: &Coded, v: ArrayView2<f64>, quick: bool) -> Array2<f64> {
        let (rows, k) = (self.row_layout(), v.ncols());
        let whole = if quick { rows.gather_quickly(v).into() } else { rows.gather(v) };
        let along = self.transposed_there(coded, whole, quick);
        let FixedPointSums { quanta, bounds } = self.sums(coded, &along, k, quick);
        let own = self.world.sum_parts_i64(quanta, &rows.elements(k));
        let mut out = reals(own, &bounds);
        Rows::for_each(&mut out, |_, row| row.iter_mut().for_each(|x| *x /= coded.c));
        out
    }

    /// The diagonal of G, on every rank. To be called by all ranks.
    pub fn diagonal(&self) -> Vec<f64> {
        self.sums_by_animal(&self.coding.iter().map(|c| c.map(|z| z * z)).collect::<Vec<_>>())
    }

    /// Yang's diagonal of G, 1 + Σ_j (x² − (1 + 2p_j)x + 2p_j²) / (2p_jq_j) / c over the calls that were made, on
    /// every rank (Yang et al. 2011, eq. 3). To be called by all ranks.
    pub(super) fn yang_diagonal(&self) -> Vec<f64> {
        let terms = |(&p, z): (&f64, &Coding)| -> Coding {
            let value = |x: f64| (x * x - (1.0 + 2.0 * p) * x + 2.0 * p * p) / (2.0 * p * (1.0 - p));
            let drops_out = z.iter().all(|&z| z == 0.0);
            if drops_out {
                [0.0; 4]
            } else {
                [value(0.0), value(1.0), value(2.0), 0.0]
            }
        };
        let terms: Vec<Coding> = self.frequencies.iter().zip(&self.coding).map(terms).collect();
        self.sums_by_animal(&terms).into_iter().map(|sum| 1.0 + sum).collect()
    }

    /// Σ_j of each animal's terms, by code, over c, on every rank.
    fn sums_by_animal(&self, terms: &[Coding]) -> Vec<f64> {
        let mut largest = [terms.iter().flatten().fold(0.0f64, |a, &b| a.max(b.abs()))];
        self.world.max(&mut largest);
        let point = FixedPoint::for_bound(largest[0] * self.m as f64);
        let product = || -> Result<Vec<i64>> {
            // The processor shares the packed calls; a GPU would need a second copy.
            let processor = device::open("cpu")?;
            let (held, ones) =
                (processor.hold(&self.packed, terms)?, processor.upload(vec![1.0; terms.len()])?);
            let mut sums = processor.sums(self.n())?;
            processor.times(&held, &ones, &[point], &mut sums)?;
            processor.download_sums(sums)
        };
        let mut sums = self.done(product());
        self.world.sum_i64(&mut sums);
        sums.iter().map(|&s| point.real(s) / self.coded.c).collect()
    }
}

/// G as the product of the packed genotypes of all ranks.
impl Operator for GenotypeMatrix {
    fn row_layout(&self) -> Rows {
        GenotypeMatrix::row_layout(self)
    }

    fn apply(&self, block: ArrayView2<f64>) -> Array2<f64> {
        self.grm_times(block)
    }

    fn apply_quickly(&self, block: ArrayView2<f64>) -> Array2<f64> {
        self.quick_grm_times(block)
    }

    fn apply_roughly(&self, block: ArrayView2<f64>) -> Option<Array2<f64>> {
        self.rough_grm_times(block)
    }

    fn diagonal(&self) -> Vec<f64> {
        GenotypeMatrix::diagonal(self)[self.row_layout().own()].to_vec()
    }
}

/// Sums over SNPs as whole multiples of each column's quantum, row by row of (n, k).
struct FixedPointSums {
    quanta: Vec<i64>,
    /// On the sum of absolute values of any row, (k); not finite where a column is not.
    bounds: Vec<f64>,
}

/// The quantum for sums within a bound.
fn point(bound: f64) -> FixedPoint {
    FixedPoint::for_bound(if bound.is_finite() { bound } else { 0.0 })
}

/// The numbers that rows of multiples stand for.
fn reals(quanta: Vec<i64>, bounds: &[f64]) -> Array2<f64> {
    let k = bounds.len();
    let points: Vec<FixedPoint> = bounds.iter().map(|&b| point(b)).collect();
    let rows = quanta.len() / k.max(1);
    let real = |(i, q): (usize, i64)| match bounds[i % k].is_finite() {
        true => points[i % k].real(q),
        false => f64::NAN,
    };
    // In the same memory.
    let values = quanta.into_iter().enumerate().map(real).collect();
    Array2::from_shape_vec((rows, k), values).expect("rows of k")
}

/// The frequency of the counted allele in each column, NaN where no call was made.
fn frequencies(packed: &Packed) -> Vec<f64> {
    packed.tally_columns().iter().map(|t| packed::frequency(t).unwrap_or(f64::NAN)).collect()
}

/// The sum over all ranks' SNPs of values whose absolute sum is at most `bound`: the same bits everywhere.
fn sum_over_ranks(world: &World, values: &[f64], bound: f64) -> f64 {
    let point = FixedPoint::for_bound(bound);
    let mut sum = [values.iter().map(|&x| point.quantize(x)).sum()];
    world.sum_i64(&mut sum);
    point.real(sum[0])
}
