//! Numbers as vectors: the sinusoidal embedding of the timestep and the guidance scale.

use burn::tensor::{DType, Tensor};

/// Channels of a [`sinusoid`].
pub(crate) const TIME_CHANNELS: usize = 256;

/// The longest wavelength of a [`sinusoid`], in radians per unit.
const MAX_PERIOD: f32 = 10_000.0;

/// `[cos(t·f_i), sin(t·f_i)]` with `f_i = 10000^(−i/128)`, in f32.
///
/// Cosines first, unlike "Attention Is All You Need", section 3.5 (diffusers `Timesteps` with
/// `flip_sin_to_cos`).
///
/// # Shapes
/// - `t`: `[batch]`
/// - output: `[batch, 256]`
pub(crate) fn sinusoid(t: Tensor<1>) -> Tensor<2> {
    let half = TIME_CHANNELS / 2;
    // In f32 as the reference does it: at t = 1000 the rounding of f_i is seen in the cosine.
    let frequencies: Vec<f32> = (0..half)
        .map(|i| (-MAX_PERIOD.ln() * i as f32 / half as f32).exp())
        .collect();
    let frequencies = Tensor::<1>::from_data(frequencies.as_slice(), (&t.device(), DType::F32));
    let angles = t.cast(DType::F32).unsqueeze_dim::<2>(1) * frequencies.unsqueeze();
    let angles = within_a_turn(angles);
    Tensor::cat(vec![angles.clone().cos(), angles.sin()], 1)
}

/// The same angles between −π and π.
///
/// A guidance scale turns by up to thousands of radians, and graphics devices promise accurate
/// sines and cosines only here.
fn within_a_turn(angles: Tensor<2>) -> Tensor<2> {
    use std::f64::consts::TAU;
    // τ in two parts (Cody and Waite): the first has so few bits that its product is exact.
    const TAU_HIGH: f64 = 6.28125;
    let turns = (angles.clone() / TAU).round();
    angles - turns.clone() * TAU_HIGH - turns * (TAU - TAU_HIGH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn large_angles_keep_their_sine() {
        let angles: Vec<f32> = (0..2000).map(|i| i as f32 * 3.7123).collect();
        let input = Tensor::<1>::from_data(angles.as_slice(), (&Device::flex(), DType::F32));
        let reduced = within_a_turn(input.unsqueeze()).into_data();
        for (angle, reduced) in angles.iter().zip(reduced.try_to_vec::<f32>().unwrap()) {
            assert!(
                reduced.abs() < std::f32::consts::PI + 1e-5,
                "{angle} became {reduced}"
            );
            let error = f64::from(reduced).sin() - f64::from(*angle).sin();
            assert!(error.abs() < 5e-7, "{angle}: {error}");
        }
    }
}
