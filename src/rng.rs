//! Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011, SC'11).
//!
//! A stream is named by (seed, purpose, global index), never by rank or thread, so that every draw is the
//! same on any number of ranks and threads. The kernels draw the same numbers from the same names.

use crate::simd::best;

/// What a stream is for. Two purposes never share numbers; the discriminants are part of the file format of
/// reproducible results and are never renumbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// Free use in tests.
    Test = 0,
    /// Simulated SNP map: positions.
    Map = 1,
    /// Simulated founder haplotypes; index = haplotype or SNP as the simulator documents.
    Founders = 2,
    /// Simulated pedigree: parents and birth dates; index = animal.
    Pedigree = 3,
    /// Simulated crossovers and transmitted strands; index = animal.
    Meiosis = 4,
    /// Simulated QTL positions and effects; index = trait.
    Qtl = 5,
    /// Simulated residuals; index = animal.
    Residual = 6,
    /// Simulated missing records and genotype calls; index = animal.
    Missing = 7,
    /// Cross-validation folds; index = repetition.
    Folds = 8,
    /// Bootstrap resampling; index = replicate.
    Bootstrap = 9,
    /// Random signs that traces are found with; index = column.
    Probe = 10,
    /// Samples drawn for pictures and summaries.
    Sample = 11,
    /// First values of a network's weights; index = layer.
    Weights = 12,
    /// Order of the training animals; index = epoch.
    Order = 13,
    /// Entries that dropout sets to 0; index = step and layer.
    Dropout = 14,
    /// Training animals that early stopping looks at.
    Validation = 15,
    /// Folds within a training set; index = animal.
    InnerFolds = 16,
    /// What a generator makes animals from; index = step of training, or 2^63 and more for generated animals.
    Latent = 17,
    /// Noise on the classes of real genotypes; index = step of training.
    Smooth = 18,
    /// Share of the real animal between a real and a generated one; index = step of training.
    Interpolate = 19,
    /// Gumbel noise on the logits of generated genotypes; index as of `Latent`.
    Gumbel = 20,
    /// Conditions drawn for generated animals; index = step of training, or the generated animal.
    Condition = 21,
    /// Calls drawn where a generator's training animals have none; index = animal.
    Fill = 22,
    /// Generated animals of the baselines; index = animal.
    Resample = 23,
    /// Times and noise of diffusion; index = step of training, or the generated animal.
    Diffusion = 24,
    /// Halves of real animals that are compared with each other; index = repetition.
    Halves = 25,
    /// Directions of sliced distances; index = direction.
    Projection = 26,
    /// Training animals that stand for a smaller reference; index = smallest of them.
    Reference = 27,
    /// Random vectors that a relationship matrix is sketched with; index = column.
    Sketch = 40,
    /// Start vectors of principal components; index = column.
    Components = 41,
    /// Simulated SNP effects that reliabilities are found with; index = draw and SNP.
    DrawnEffects = 42,
    /// Simulated residuals that reliabilities are found with; index = draw and animal.
    DrawnResiduals = 43,
    /// Gradients of trees rounded to whole numbers; index = round and trait.
    Rounding = 45,
    /// Animals that a tree learns from; index = round or tree.
    TreeAnimals = 46,
    /// SNPs that a tree or a node may ask about; index = round, or tree and node.
    TreeSnps = 47,
    /// First values of a network's weights of features; index = layer.
    FeatureWeights = 49,
    /// Animals whose calls are exchanged for importance by permutation; index = tree.
    Exchange = 48,
    /// Seeds of the fits of a study; index = hash of the split or number of the replicate.
    Fits = 44,
}

/// One stream of random numbers. Cheap to make: make one for every animal, SNP or replicate.
#[derive(Debug, Clone)]
pub struct Stream {
    key: [u32; 2],
    counter: [u32; 4],
    buffer: [u32; 4],
    used: usize,
    spare_normal: Option<f64>,
}

impl Stream {
    /// The stream of `purpose` for the global `index` under the user's `seed`.
    pub fn new(seed: u64, purpose: Purpose, index: u64) -> Self {
        // The purpose and the index sit in the counter's upper words; the lower word counts blocks of four.
        let key = [seed as u32, (seed >> 32) as u32];
        let counter = [0, purpose as u32, index as u32, (index >> 32) as u32];
        Stream { key, counter, buffer: [0; 4], used: 4, spare_normal: None }
    }

    /// The words 4·`block` to 4·`block` + 3 of the stream, in whatever state it is.
    pub fn block(&self, block: u32) -> [u32; 4] {
        let [_, purpose, low, high] = self.counter;
        philox4x32_10([block, purpose, low, high], self.key)
    }

    /// The words from 4·`block` on, many at once; the length of `words` is a multiple of 4.
    pub fn blocks(&self, block: u32, words: &mut [u32]) {
        const LANES: usize = 16;
        #[inline(always)]
        fn body([_, purpose, low, high]: [u32; 4], key: [u32; 2], block: u32, words: &mut [u32]) {
            for (at, words) in words.chunks_mut(4 * LANES).enumerate() {
                let first = block.wrapping_add((at * LANES) as u32);
                let blocks = std::array::from_fn(|lane| first.wrapping_add(lane as u32));
                let four =
                    philox_lanes::<LANES>([blocks, [purpose; LANES], [low; LANES], [high; LANES]], key);
                for (lane, words) in words.chunks_exact_mut(4).enumerate() {
                    words.iter_mut().zip(&four).for_each(|(word, all)| *word = all[lane]);
                }
            }
        }
        best!(
            [("avx512f")]
            body(self.counter, self.key, block, words),
            fn(counter: [u32; 4], key: [u32; 2], block: u32, words: &mut [u32])
        )
    }

    /// The next 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.buffer = philox4x32_10(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.buffer[self.used - 1]
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let low = u64::from(self.next_u32());
        low | u64::from(self.next_u32()) << 32
    }

    /// Uniform in [0, 1) with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform integer in 0..`n` without modulo bias (Lemire 2019). `n` must be positive.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "below(0) has no answer");
        let n = n as u64;
        loop {
            let wide = u128::from(self.next_u64()) * u128::from(n);
            let low = wide as u64;
            if low >= n || low >= n.wrapping_neg() % n {
                return (wide >> 64) as usize;
            }
        }
    }

    /// Standard normal deviate (Box & Muller 1958).
    pub fn normal(&mut self) -> f64 {
        if let Some(z) = self.spare_normal.take() {
            return z;
        }
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        self.spare_normal = Some(radius * sin);
        radius * cos
    }

    /// Poisson count with mean `lambda` (Knuth's product for small means, in pieces of at most 16 for large).
    pub fn poisson(&mut self, lambda: f64) -> usize {
        let mut left = lambda;
        let mut total = 0;
        while left > 0.0 {
            let piece = left.min(16.0);
            let limit = (-piece).exp();
            let mut product = self.uniform();
            while product > limit {
                total += 1;
                product *= self.uniform();
            }
            left -= piece;
        }
        total
    }

    /// Shuffles in place (Fisher & Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// Ten rounds of Philox4x32 (Salmon et al. 2011, section 4.3).
fn philox4x32_10(mut c: [u32; 4], mut k: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let p0 = u64::from(c[0]) * 0xD251_1F53;
        let p1 = u64::from(c[2]) * 0xCD9E_8D57;
        c = [(p1 >> 32) as u32 ^ c[1] ^ k[0], p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ k[1], p0 as u32];
        k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
    }
    c
}

/// The same for several counters, word by word.
#[inline(always)]
fn philox_lanes<const L: usize>(mut c: [[u32; L]; 4], mut k: [u32; 2]) -> [[u32; L]; 4] {
    for _ in 0..10 {
        let [c0, c1, c2, c3] = &mut c;
        for (((c0, c1), c2), c3) in c0.iter_mut().zip(c1).zip(c2).zip(c3) {
            let p0 = u64::from(*c0) * 0xD251_1F53;
            let p1 = u64::from(*c2) * 0xCD9E_8D57;
            *c0 = (p1 >> 32) as u32 ^ *c1 ^ k[0];
            *c1 = p1 as u32;
            *c2 = (p0 >> 32) as u32 ^ *c3 ^ k[1];
            *c3 = p0 as u32;
        }
        k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
    }
    c
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the Random123 distribution, file kat_vectors.
    #[test]
    fn philox_gives_the_published_known_answers() {
        assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox4x32_10([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32_10([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn streams_of_other_names_differ_and_the_same_name_repeats() {
        let draw = |seed, purpose, index| Stream::new(seed, purpose, index).next_u64();
        let base = draw(1, Purpose::Test, 0);
        assert_eq!(base, draw(1, Purpose::Test, 0));
        assert_ne!(base, draw(2, Purpose::Test, 0));
        assert_ne!(base, draw(1, Purpose::Map, 0));
        assert_ne!(base, draw(1, Purpose::Test, 1));
        assert_ne!(base, draw(1, Purpose::Test, 1 << 32));
    }

    #[test]
    fn blocks_are_the_words_of_the_stream() {
        let mut s = Stream::new(5, Purpose::Test, 3 << 33);
        let words: Vec<u32> = (0..12).map(|_| s.next_u32()).collect();
        assert_eq!(s.block(2), words[8..12]);
        assert_eq!(s.block(0), words[..4]);
        // 100 words: past one round of lanes
        let (mut many, mut s) = ([0; 100], Stream::new(5, Purpose::Test, 3 << 33));
        s.blocks(0, &mut many);
        assert!(many.iter().all(|&word| word == s.next_u32()));
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let n = 200_000;
        let mut s = Stream::new(7, Purpose::Test, 3);
        let u: f64 = (0..n).map(|_| s.uniform()).sum::<f64>() / f64::from(n);
        assert!((u - 0.5).abs() < 4.0 * (1.0 / 12.0 / f64::from(n)).sqrt());
        let z: Vec<f64> = (0..n).map(|_| s.normal()).collect();
        let mean = z.iter().sum::<f64>() / f64::from(n);
        let var = z.iter().map(|z| z * z).sum::<f64>() / f64::from(n);
        assert!(mean.abs() < 0.01 && (var - 1.0).abs() < 0.015, "{mean} {var}");
        for lambda in [0.3, 5.0, 40.0] {
            let m = (0..20_000).map(|_| s.poisson(lambda)).sum::<usize>() as f64 / 20_000.0;
            assert!((m - lambda).abs() < 5.0 * (lambda / 20_000.0).sqrt(), "{lambda}: {m}");
        }
    }

    #[test]
    fn below_covers_its_range_evenly() {
        let mut s = Stream::new(1, Purpose::Test, 9);
        let mut seen = [0usize; 7];
        for _ in 0..70_000 {
            seen[s.below(7)] += 1;
        }
        assert!(seen.iter().all(|&c| (c as f64 - 10_000.0).abs() < 500.0), "{seen:?}");
    }
}
