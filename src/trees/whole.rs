//! Real numbers as whole ones of 8 bits, rounded at random so that sums are right on average (Shi et al. 2022).

use crate::rng::Stream;

/// The largest whole number.
const MOST: f64 = 127.0;

/// Whole numbers, and what one of them is worth.
#[derive(Debug, Clone, PartialEq)]
pub struct Whole {
    /// One for each real number.
    pub values: Vec<i8>,
    /// Real numbers in a whole one.
    pub unit: f64,
}

/// Rounds each number to one of its two neighbours, the nearer the likelier, by one draw of the stream for each.
pub fn round(numbers: &[f64], stream: &Stream) -> Whole {
    let largest = numbers.iter().fold(0.0f64, |a, x| a.max(x.abs()));
    if largest == 0.0 || !largest.is_finite() {
        return Whole { values: vec![0; numbers.len()], unit: 0.0 };
    }
    let unit = largest / MOST;
    let mut draws = vec![0u32; numbers.len().next_multiple_of(4)];
    stream.blocks(0, &mut draws);
    let round = |(x, draw): (&f64, &u32)| {
        // The draw stands in the middle of its 2^32nd part.
        let up = (f64::from(*draw) + 0.5) / 4_294_967_296.0;
        (x / unit + up).floor().clamp(-MOST, MOST) as i8
    };
    Whole { values: numbers.iter().zip(&draws).map(round).collect(), unit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    #[test]
    fn rounding_is_right_on_average_and_never_off_by_a_whole_number() {
        let x: Vec<f64> = (0..101).map(|i| (i as f64 - 50.0) * 0.123).collect();
        let mut sums = vec![0.0; x.len()];
        let times = 2000;
        for seed in 0..times {
            let whole = round(&x, &Stream::new(seed, Purpose::Rounding, 0));
            for ((sum, value), x) in sums.iter_mut().zip(&whole.values).zip(&x) {
                assert!((f64::from(*value) * whole.unit - x).abs() < whole.unit * (1.0 + 1e-9));
                *sum += f64::from(*value) * whole.unit / times as f64;
            }
        }
        // The standard error of a mean is at most unit / 2 / √times.
        let unit = 50.0 * 0.123 / 127.0;
        assert!(sums
            .iter()
            .zip(&x)
            .all(|(mean, x)| (mean - x).abs() < 5.0 * unit / 2.0 / (times as f64).sqrt()));
    }

    #[test]
    fn nothing_but_zeros_and_numbers_that_are_none_stay_zero() {
        for numbers in [vec![], vec![0.0; 3], vec![1.0, f64::NAN, f64::INFINITY]] {
            let whole = round(&numbers, &Stream::new(1, Purpose::Rounding, 0));
            assert!(whole.values.iter().all(|v| *v == 0) && whole.values.len() == numbers.len());
        }
    }
}
