//! Instructions beyond the common ones of a processor, asked for at run time in one way.
//!
//! A plain loop is compiled for several sets of instructions by `best!`; what is written by hand for one set asks
//! with `has!`. The arithmetic is the same on every processor: nothing here lets the compiler reorder sums.

/// Whether the processor has all of these sets of instructions (x86-64's names); false on other processors.
macro_rules! has {
    ($($set:tt),+) => {{
        #[cfg(target_arch = "x86_64")]
        let has = true $(&& std::arch::is_x86_feature_detected!($set))+;
        #[cfg(not(target_arch = "x86_64"))]
        let has = false;
        has
    }};
}

/// Calls `body` compiled for the first group of sets of instructions that the processor has, or as it is where it
/// has none. Stands last in a function, since it returns. `body` must be inlined always; then the signature follows,
/// with generic parameters in brackets, if any; they are inferred.
///
/// `best!([("avx512f") ("avx2", "popcnt")] body(x, 3), fn(x: &mut [f32], y: i32) -> f32)`
macro_rules! best {
    ([] $body:ident($($argument:expr),*), fn $([$($generic:tt)*])? ($($name:ident: $kind:ty),* $(,)?) $(-> $out:ty)?) => {
        $body($($argument),*)
    };
    (
        [($($set:tt),+) $($others:tt)*]
        $body:ident($($argument:expr),*),
        fn $([$($generic:tt)*])? ($($name:ident: $kind:ty),* $(,)?) $(-> $out:ty)?
    ) => {{
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature($(enable = $set),+)]
            fn compiled $(<$($generic)*>)? ($($name: $kind),*) $(-> $out)? {
                $body($($name),*)
            }
            if $crate::simd::has!($($set),+) {
                // SAFETY: the processor has the instructions, as just asked.
                return unsafe { compiled($($argument),*) };
            }
        }
        $crate::simd::best!(
            [$($others)*]
            $body($($argument),*),
            fn $([$($generic)*])? ($($name: $kind),*) $(-> $out)?
        )
    }};
}

/// `best!` of AVX-512 and AVX2: for loops over many numbers.
macro_rules! widest {
    ($($call:tt)*) => {
        $crate::simd::best!([("avx512f", "avx512dq", "avx512bw", "avx512vl") ("avx2")] $($call)*)
    };
}

pub(crate) use {best, has, widest};

/// Tells the processor that what lies at an address is needed soon; nothing on other processors than x86-64.
#[inline(always)]
pub(crate) fn prefetch(at: &u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: all these processors have the instruction, which reads nothing into the program.
    unsafe {
        use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(at).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    #[inline(always)]
    fn sum<T: Copy + Into<f64>>(x: &[T], start: f64) -> f64 {
        x.iter().fold(start, |sum, &x| sum + x.into())
    }

    #[test]
    fn the_sets_of_this_processor_are_found_and_unknown_groups_are_passed_by() {
        #[cfg(target_arch = "x86_64")]
        assert!(has!("sse2") && has!("sse2", "fxsr"), "every x86-64 has these");
        assert!(!has!("sse2", "tbm", "avx512f") || has!("avx512f"), "all of them, not one");
    }

    #[test]
    fn loops_have_the_same_bits_compiled_for_any_set() {
        fn plain(x: &[f32]) -> f64 {
            best!([] sum(x, 0.1), fn(x: &[f32], start: f64) -> f64)
        }
        fn chosen(x: &[f32]) -> f64 {
            best!([("avx512f", "avx512vl") ("avx2") ("sse2")] sum(x, 0.1), fn[T: Copy + Into<f64>](x: &[T], start: f64) -> f64)
        }
        fn wide(x: &[f32]) -> f64 {
            widest!(sum(x, 0.1), fn(x: &[f32], start: f64) -> f64)
        }
        let x: Vec<f32> = (0..1001).map(|i| 0.37 * i as f32).collect();
        for length in [0, 1, 15, 16, 17, 1001] {
            let want = plain(&x[..length]).to_bits();
            assert_eq!((chosen(&x[..length]).to_bits(), wide(&x[..length]).to_bits()), (want, want));
        }
    }
}
