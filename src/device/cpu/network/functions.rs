//! Logarithm, exponential and cosine in single precision, without branches, so that loops over them run in the widest
//! registers. No product is fused with a sum: the bits are the same whatever the width.

/// ln x of a normal positive number, within 1 ulp (Sun's `e_logf.c`).
#[inline(always)]
pub(super) fn ln(x: f32) -> f32 {
    const LN2: [f32; 2] = [f32::from_bits(0x3F31_7180), f32::from_bits(0x3717_F7D1)];
    const SERIES: [f32; 4] = [0.666_666_6, 0.400_009_72, 0.284_987_87, 0.242_790_79];
    const ROOT: u32 = 0x3F35_04F3; // √½
    let bits = x.to_bits().wrapping_add(0x3F80_0000 - ROOT);
    let power = ((bits >> 23) as i32 - 127) as f32;
    let f = f32::from_bits((bits & 0x007F_FFFF) + ROOT) - 1.0;
    let s = f / (2.0 + f);
    let (z, half) = (s * s, 0.5 * f * f);
    let w = z * z;
    let series = w * (SERIES[1] + w * SERIES[3]) + z * (SERIES[0] + w * SERIES[2]);
    s * (half + series) + power * LN2[1] - half + f + power * LN2[0]
}

/// eˣ for x ≤ 88, within 2 ulp; below −87 as at −87, next to nothing (Moshier's `expf`).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const SERIES: [f32; 6] = [1.987_569_2e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    /// Added, it leaves whole numbers, in its lowest bits.
    const WHOLE: f32 = 12_582_912.0;
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + WHOLE;
    let power = shifted - WHOLE;
    let r = x - power * LN2[0] - power * LN2[1];
    let series = SERIES[1..].iter().fold(SERIES[0], |sum, term| sum * r + term);
    let two = shifted.to_bits().wrapping_sub(WHOLE.to_bits()).wrapping_add(127) << 23;
    (series * (r * r) + r + 1.0) * f32::from_bits(two)
}

/// cos 2πx for x in (0, 1) with no more than 24 bits behind the point, within 2 ulp.
#[inline(always)]
pub(super) fn cos_turn(x: f32) -> f32 {
    // (2π)ᵏ/k! of the sine, k odd, and of the cosine, k even; both are needed up to an eighth of a turn.
    const SINE: [f32; 5] = [42.058_693, -76.705_86, 81.605_25, -41.341_7, std::f32::consts::TAU];
    const COSINE: [f32; 5] = [-26.426_257, 60.244_64, -85.456_82, 64.939_39, -19.739_208];
    // cos 2πx = −sin 2πy; all differences are exact.
    let y = 0.25 - (x - 0.5).abs();
    let rest = 0.25 - y.abs();
    let (z, w) = (y * y, rest * rest);
    let sine = y * SINE[1..].iter().fold(SINE[0], |sum, term| sum * z + term);
    let cosine = w * COSINE[1..].iter().fold(COSINE[0], |sum, term| sum * w + term) + 1.0;
    -if rest > 0.125 { sine } else { cosine.copysign(y) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::widest;

    /// The largest error in units of the last place.
    fn error(points: impl Iterator<Item = f32>, found: fn(f32) -> f32, wanted: fn(f64) -> f64) -> f64 {
        let of = |x: f32| {
            let wanted = wanted(f64::from(x));
            let nearest = (wanted as f32).abs();
            let unit = f64::from(nearest.next_up() - nearest);
            (f64::from(found(x)) - wanted).abs() / unit
        };
        points.map(of).fold(0.0, f64::max)
    }

    #[test]
    fn functions_are_those_of_f64() {
        let uniforms = (0..1 << 23).step_by(41).map(|k| (k as f32 + 0.5) / 8_388_608.0);
        let ends = [0.5, 8_388_607.5].map(|k| k / 8_388_608.0);
        let many = (0..200_000).map(|k| 1e-6 * 1.000_15f32.powi(k));
        assert!(error(uniforms.clone().chain(ends).chain(many), ln, f64::ln) < 1.0);
        let negative = (0..400_000).map(|k| k as f32 * -2.17e-4);
        assert!(error(negative, exp, f64::exp) < 2.0);
        assert!(exp(-1e9) < 2e-38 && exp(f32::NEG_INFINITY) < 2e-38 && exp(f32::NAN).is_nan());
        let cos = |x: f64| (std::f64::consts::TAU * x).cos();
        let e = error(uniforms.chain(ends), cos_turn, cos);
        assert!(e < 2.0, "{e}");
    }

    #[test]
    fn widths_do_not_change_a_bit() {
        #[inline(always)]
        fn body(x: &mut [f32]) {
            x.iter_mut().for_each(|x| *x = exp(ln(*x)) + cos_turn(*x));
        }
        fn wide(x: &mut [f32]) {
            widest!(body(x), fn(x: &mut [f32]))
        }
        let mut one: Vec<f32> = (0..5000).map(|k| (k as f32 + 0.5) / 5000.0).collect();
        let mut other = one.clone();
        wide(&mut one);
        body(&mut other);
        assert_eq!(one, other);
    }
}
