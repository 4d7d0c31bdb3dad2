//! The exact test of Hardy-Weinberg equilibrium (Wigginton, Cutler & Abecasis 2005, AJHG 76:887).

/// P-value of the genotype counts: `hets` heterozygotes and the two kinds of homozygotes. It is the probability
/// of a number of heterozygotes that is at most as likely as the one found, given the allele counts. 1 when
/// nothing was called or one allele is absent.
pub fn exact_p(hets: u64, homs: [u64; 2]) -> f64 {
    let n = hets + homs[0] + homs[1];
    let rare = 2 * homs[0].min(homs[1]) + hets;
    if rare == 0 {
        return 1.0;
    }
    // Probabilities relative to the most likely number of heterozygotes, which has the parity of `rare`.
    let expected = (rare as f64 * (2 * n - rare) as f64 / (2 * n) as f64) as u64;
    let middle = expected + (expected + rare) % 2;
    let others = |h: u64| ((rare - h) / 2, n - h - (rare - h) / 2);
    // Eq. 2 of the paper: P(h + 2) / P(h) = 4 r c / ((h + 2)(h + 1)), r and c homozygotes at h.
    let up = |h: u64| {
        let (r, c) = others(h);
        4.0 * r as f64 * c as f64 / ((h + 2) as f64 * (h + 1) as f64)
    };
    let mut relative = vec![(middle, 1.0)];
    let (mut h, mut p) = (middle, 1.0);
    while h + 2 <= rare {
        p *= up(h);
        h += 2;
        relative.push((h, p));
    }
    (h, p) = (middle, 1.0);
    while h >= 2 {
        h -= 2;
        p /= up(h);
        relative.push((h, p));
    }
    let found = relative.iter().find(|(h, _)| *h == hets).map_or(0.0, |(_, p)| *p);
    // As likely up to rounding counts as equally likely.
    let limit = found * (1.0 + 1e-9);
    let total: f64 = relative.iter().map(|(_, p)| p).sum();
    let tail: f64 = relative.iter().map(|(_, p)| p).filter(|p| **p <= limit).sum();
    (tail / total).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum over all tables by factorials, for small n.
    fn by_enumeration(hets: u64, homs: [u64; 2]) -> f64 {
        let ln = |k: u64| (1..=k).map(|i| (i as f64).ln()).sum::<f64>();
        let n = hets + homs[0] + homs[1];
        let a = 2 * homs[0] + hets;
        let weight = |h: u64| {
            let (r, c) = ((a - h) / 2, n - h - (a - h) / 2);
            (ln(n) - ln(r) - ln(h) - ln(c) + h as f64 * 2f64.ln()).exp()
        };
        let possible: Vec<u64> = (0..=a.min(2 * n - a)).filter(|h| (a - h).is_multiple_of(2)).collect();
        let total: f64 = possible.iter().map(|&h| weight(h)).sum();
        let tail = possible.iter().map(|&h| weight(h)).filter(|w| *w <= weight(hets) * (1.0 + 1e-9));
        tail.sum::<f64>() / total
    }

    #[test]
    fn it_equals_the_sum_over_all_possible_tables() {
        for (hets, a, b) in
            [(0, 0, 5), (1, 0, 4), (10, 5, 5), (0, 10, 10), (20, 0, 0), (13, 21, 3), (7, 60, 2)]
        {
            let (p, q) = (exact_p(hets, [a, b]), by_enumeration(hets, [a, b]));
            assert!((p - q).abs() < 1e-12, "{hets} {a} {b}: {p} {q}");
            assert_eq!(p, exact_p(hets, [b, a]));
        }
    }

    #[test]
    fn large_samples_do_not_overflow() {
        let p = exact_p(50_000, [25_000, 38_599]);
        assert!(p.is_finite() && p < 1e-100, "{p}");
        assert_eq!(exact_p(0, [0, 0]), 1.0);
    }
}
