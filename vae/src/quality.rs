//! How close a reconstruction is to its original.

/// Peak signal-to-noise ratio in dB of values in [0, 1]: `−10 log₁₀ mean((a − b)²)`; infinite
/// for equal values.
pub fn psnr(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
    -10.0 * (squares.sum::<f64>() / a.len() as f64).log10()
}

/// Half the side of the SSIM window.
const RADIUS: usize = 5;
/// Standard deviation of the SSIM window.
const DEVIATION: f64 = 1.5;

/// Mean structural similarity of two planes of `height × width` values in [0, 1].
///
/// Wang et al. 2004 (10.1109/TIP.2003.819861): an 11 × 11 Gaussian window with deviation 1.5,
/// K₁ = 0.01, K₂ = 0.03, over the positions where the window lies inside; as scikit-image with
/// `gaussian_weights=True, use_sample_covariance=False`. A plane smaller than the window gets a
/// window of its own size.
pub fn ssim(a: &[f32], b: &[f32], height: usize, width: usize) -> f64 {
    const C1: f64 = 0.01 * 0.01;
    const C2: f64 = 0.03 * 0.03;
    let (a, b): (Vec<f64>, Vec<f64>) = a
        .iter()
        .zip(b)
        .map(|(a, b)| (f64::from(*a), f64::from(*b)))
        .unzip();
    let product =
        |x: &[f64], y: &[f64]| -> Vec<f64> { x.iter().zip(y).map(|(x, y)| x * y).collect() };
    let mean = |plane: &[f64]| blur(plane, height, width);

    let (mean_a, mean_b) = (mean(&a), mean(&b));
    let (aa, bb, ab) = (
        mean(&product(&a, &a)),
        mean(&product(&b, &b)),
        mean(&product(&a, &b)),
    );
    let total: f64 = (0..mean_a.len())
        .map(|i| {
            let (ma, mb) = (mean_a[i], mean_b[i]);
            let (va, vb, cov) = (aa[i] - ma * ma, bb[i] - mb * mb, ab[i] - ma * mb);
            (2.0 * ma * mb + C1) * (2.0 * cov + C2) / ((ma * ma + mb * mb + C1) * (va + vb + C2))
        })
        .sum();
    total / mean_a.len() as f64
}

/// Gaussian means at the positions where the window lies inside the plane.
fn blur(plane: &[f64], height: usize, width: usize) -> Vec<f64> {
    let (down, right) = (window(height), window(width));
    let (rows, columns) = (height - down.len() + 1, width - right.len() + 1);
    let mut lines = vec![0.0; height * columns];
    for y in 0..height {
        for x in 0..columns {
            let taps = right.iter().zip(&plane[y * width + x..]);
            lines[y * columns + x] = taps.map(|(weight, value)| weight * value).sum();
        }
    }
    let mut means = vec![0.0; rows * columns];
    for y in 0..rows {
        for x in 0..columns {
            let taps = down.iter().enumerate();
            means[y * columns + x] = taps
                .map(|(i, weight)| weight * lines[(y + i) * columns + x])
                .sum();
        }
    }
    means
}

/// The window's weights along an axis of `length` values.
fn window(length: usize) -> Vec<f64> {
    let size = (2 * RADIUS + 1).min(length);
    let middle = (size - 1) as f64 / 2.0;
    let weight = |i: usize| (-((i as f64 - middle) / DEVIATION).powi(2) / 2.0).exp();
    let sum: f64 = (0..size).map(weight).sum();
    (0..size).map(|i| weight(i) / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn psnr_in_closed_form() {
        assert!((psnr(&[0.1; 8], &[0.2; 8]) - 20.0).abs() < 1e-5);
        assert_eq!(psnr(&[0.5], &[0.5]), f64::INFINITY);
    }

    #[test]
    fn ssim_of_flat_planes_in_closed_form() {
        // Without variance only the luminance term remains.
        let (a, b) = (0.25_f64, 0.75_f64);
        let expected = (2.0 * a * b + 1e-4) / (a * a + b * b + 1e-4);
        let measured = ssim(&[a as f32; 400], &[b as f32; 400], 20, 20);
        assert!((measured - expected).abs() < 1e-6, "{measured} {expected}");
    }

    /// Values of scikit-image 0.26 `structural_similarity(gaussian_weights=True, sigma=1.5,
    /// use_sample_covariance=False, data_range=1)` on the same planes.
    #[test]
    fn ssim_is_scikit_images() {
        let a: Vec<f32> = (0..24 * 32)
            .map(|i| ((i * 37 % 101) as f32) / 100.0)
            .collect();
        let b: Vec<f32> = (0..24 * 32)
            .map(|i| ((i * 53 % 97) as f32) / 100.0)
            .collect();
        let measured = ssim(&a, &b, 24, 32);
        assert!((measured - EXPECTED).abs() < 1e-6, "{measured}");
    }

    const EXPECTED: f64 = -0.019_332_957_645;
}
