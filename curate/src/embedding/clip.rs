//! A clip's embedding from CLIP's features of its frames.

use super::normalize;

/// The mean of the frames' features, scaled to length one.
///
/// `features` are rows of `width` values, each of length one, so that every frame counts alike.
pub fn clip_embedding(features: &[f32], width: usize) -> Vec<f32> {
    let mut sum = vec![0.0; width];
    for row in features.chunks_exact(width) {
        for (sum, value) in sum.iter_mut().zip(row) {
            *sum += value;
        }
    }
    normalize(&mut sum);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn direction_of_the_mean() {
        let embedding = clip_embedding(&[1.0, 0.0, 0.0, 1.0], 2);
        let half = std::f32::consts::FRAC_1_SQRT_2;
        assert_eq!(embedding, [half, half]);
    }
}
