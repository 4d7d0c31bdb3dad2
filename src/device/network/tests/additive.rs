//! Products with genotypes that are scale (count − centre), as networks code them: on a GPU these have a way of their own.

use super::*;

/// Calls, some missing, and their coding.
struct Additive {
    n: usize,
    m: usize,
    codes: Vec<u8>,
    lines: Vec<(f64, f64)>, // scale and centre
}

impl Additive {
    /// One call of each animal is missing, at another place than its neighbour's, and `others` of a hundred.
    fn new(n: usize, m: usize, others: usize) -> Additive {
        let mut s = Stream::new(9, Purpose::Test, (n + 1000 * m) as u64);
        let call = |at: usize, s: &mut Stream| {
            let missing = at / m % m == at % m || s.below(100) < others;
            if missing {
                3
            } else {
                s.below(3) as u8
            }
        };
        let codes = (0..n * m).map(|at| call(at, &mut s)).collect();
        let line = |j: usize| match j % 11 {
            5 => (0.0, 0.0), // a SNP without variation
            _ => (0.7 + 0.13 * (j % 17) as f64, 0.01 + 1.97 * s.uniform()),
        };
        let lines = (0..m).map(line).collect();
        Additive { n, m, codes, lines }
    }

    fn coding(&self) -> Vec<[f64; 4]> {
        self.lines.iter().map(|(s, c)| [-c * s, (1.0 - c) * s, (2.0 - c) * s, 0.0]).collect()
    }

    fn held(&self, b: &dyn Network) -> Genotypes {
        b.hold(&Arc::new(Packed::from_codes(self.n, self.m, &self.codes)), &self.coding()).unwrap()
    }

    /// The entry of Z, and by how much it may be off: a missing call by 2⁻¹⁷ of a count, others not.
    fn z(&self, i: usize, j: usize) -> (f64, f64) {
        let (code, scale) = (self.codes[i * self.m + j], self.lines[j].0);
        match code {
            3 => (0.0, scale / 131_072.0),
            _ => (self.coding_of(j, code), 0.0),
        }
    }

    fn coding_of(&self, j: usize, code: u8) -> f64 {
        (f64::from(code) - self.lines[j].1) * self.lines[j].0
    }

    /// Σ z y and its bound, y rounded as it is multiplied to `precision` of each term.
    fn sum(&self, terms: impl Iterator<Item = (usize, usize, f64)>, precision: f64) -> (f64, f64) {
        terms.fold((0.0, 0.0), |(sum, most), (i, j, y)| {
            let (z, off) = self.z(i, j);
            let size = z.abs().max(self.lines[j].0) * y.abs();
            (sum + z * y, most + precision * size + off * y.abs())
        })
    }
}

fn near(b: &dyn Network, what: &str, found: &[f64], wanted: impl Fn(usize) -> (f64, f64)) {
    for (at, found) in found.iter().enumerate() {
        let (sum, most) = wanted(at);
        assert!((found - sum).abs() <= most, "{} {what} [{at}]: {found}, wanted {sum} ± {most}", b.name());
    }
}

/// All of this machine, and how precise each is, relative to the sum of its terms' absolute values.
fn all() -> Vec<(Arc<dyn Network>, f64)> {
    let rounded = (cuda::count() > 0).then(|| (open("cuda-bf16").unwrap(), 1.0 / 128.0));
    backends().into_iter().map(|b| (b, 2e-6)).chain(rounded).collect()
}

fn products(n: usize, m: usize, h: usize, others: usize, y: fn(f64) -> f64) {
    let data = Additive::new(n, m, others);
    let rows: Vec<u32> = (0..n as u32).rev().collect();
    let [w, d] = [(m * h, 60), (n * h, 61)]
        .map(|(length, index)| numbers(length, index).into_iter().map(y).collect::<Vec<f64>>());
    for (b, precision) in all() {
        let (held, chosen) = (data.held(&*b), b.rows(&rows).unwrap());
        let (vw, vd) = (upload(&*b, &w), upload(&*b, &d));
        let what = format!("({n}, {m}, {h})");
        let found = fresh(&*b, n * h, |out| b.gather_times(&held, &chosen, vw.whole(), h, out));
        near(&*b, &format!("gather_times {what}"), &found, |at| {
            data.sum((0..m).map(|j| (n - 1 - at / h, j, w[j * h + at % h])), precision)
        });
        let found = fresh(&*b, m * h, |out| {
            b.gather_transposed_times(&held, &chosen, vd.whole(), h, 0..m, Accumulate::Overwrite, out)
        });
        near(&*b, &format!("gather_transposed_times {what}"), &found, |at| {
            data.sum((0..n).map(|r| (n - 1 - r, at / h, d[r * h + at % h])), precision)
        });
    }
}

/// Missing calls at each place of a stage; SNPs, animals and columns around stages and tiles; h odd and not.
#[test]
fn missing_calls_count_nothing_wherever_they_are() {
    for (n, m, h) in [(1, 1, 1), (127, 33, 3), (128, 64, 4), (129, 127, 7), (300, 31, 2), (40, 289, 132)] {
        products(n, m, h, 3, |x| x);
    }
    products(9, 70, 5, 100, |x| x);
}

/// Centring takes most of such sums away.
#[test]
fn long_sums_of_centred_genotypes_have_single_precision() {
    products(5, 4096, 3, 1, |x| x.abs() + 0.5);
}
