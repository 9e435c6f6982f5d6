//! Loops compiled for the vector units that the machine has.

/// Values that a loop takes side by side, with a sum for each: what keeps any vector unit busy.
pub(super) const LANES: usize = 32;

/// Defines `name` as a choice between three compilations of the inline function `body`, which takes
/// whether fused multiply-add is cheap as a const parameter: AVX-512, AVX2, and the target's
/// baseline. Both may be generic over how the values are stored.
macro_rules! for_each_cpu {
    (
        $(#[$doc:meta])*
        fn $name:ident $(<$stored:ident>)? ($($argument:ident: $kind:ty),* $(,)?) = $body:ident
    ) => {
        $(#[$doc])*
        fn $name $(<$stored: $crate::cpu::stored::Stored>)? ($($argument: $kind),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,fma")]
                fn avx512 $(<$stored: $crate::cpu::stored::Stored>)? ($($argument: $kind),*) {
                    $body::<true $(, $stored)?>($($argument),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2 $(<$stored: $crate::cpu::stored::Stored>)? ($($argument: $kind),*) {
                    $body::<true $(, $stored)?>($($argument),*)
                }
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512bw")
                {
                    // SAFETY: the machine has these features.
                    return unsafe { avx512($($argument),*) };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: the machine has these features.
                    return unsafe { avx2($($argument),*) };
                }
            }
            $body::<{ cfg!(target_arch = "aarch64") } $(, $stored)?>($($argument),*)
        }
    };
}
pub(super) use for_each_cpu;

/// `a · b + c`, fused where that is one instruction: elsewhere it is a slow library call.
#[inline(always)]
pub(super) fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// `1 / (1 + e^−x)` by arithmetic alone, so that loops over it become vector code; within 3e-7.
#[inline(always)]
pub(super) fn sigmoid<const FUSED: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FUSED>(-x))
}

/// `e^x` for |x| up to 87, clamped beyond: 2ⁿ · e^r with |r| ≤ ln 2 / 2, the second factor by its
/// Taylor polynomial of degree 7.
#[inline(always)]
pub(super) fn exp<const FUSED: bool>(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding and subtracting 1.5 · 2²³ rounds to an integer.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 87.0);
    let n = multiply_add::<FUSED>(x, std::f32::consts::LOG2_E, ROUND) - ROUND;
    let r = multiply_add::<FUSED>(n, -LN_2_HIGH, x);
    let r = multiply_add::<FUSED>(n, -LN_2_LOW, r);
    let mut y = 1.0 / 5040.0;
    for coefficient in [
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        y = multiply_add::<FUSED>(y, r, coefficient);
    }
    // 2ⁿ by the bits of its exponent.
    y * f32::from_bits(((n as i32 + 127) << 23) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_and_sigmoid_are_exact_to_the_last_digits() {
        for i in -8600..=8600 {
            let x = i as f32 / 100.0;
            let expected = f64::from(x).exp();
            let error = |y: f32| (f64::from(y) - expected).abs() / expected;
            assert!(error(exp::<true>(x)) < 3e-7, "{x}: {}", exp::<true>(x));
            assert!(error(exp::<false>(x)) < 3e-7, "{x}: {}", exp::<false>(x));
            let expected = 1.0 / (1.0 + (-f64::from(x)).exp());
            assert!((f64::from(sigmoid::<true>(x)) - expected).abs() < 3e-7);
        }
        assert_eq!(sigmoid::<true>(1e4), 1.0);
        assert!(sigmoid::<true>(-1e4) < 1e-30);
    }
}
