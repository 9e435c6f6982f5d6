//! Noise.

use image::GrayImage;

/// Largest magnitude of the mask's answer.
const LARGEST: usize = 8 * 255;

/// Standard deviation of the noise, in gray levels.
///
/// The mask of Immerkær (*Fast noise variance estimation*, CVIU 1996), the difference of two
/// Laplacians, is blind to gradients and weak on edges. It multiplies white noise by 6. Its median
/// magnitude, 0.6745 standard deviations (Donoho and Johnstone, Biometrika 1994), is taken instead
/// of the mean: edges and texture do not count as long as they cover less than half of the picture.
/// Steps are of a quarter of a gray level.
pub fn noise(picture: &GrayImage) -> f64 {
    let width = picture.width() as usize;
    if width < 3 || picture.height() < 3 {
        return 0.0;
    }
    let rows: Vec<&[u8]> = picture.as_raw().chunks_exact(width).collect();
    let mut histogram = vec![0u32; LARGEST + 1];
    let mut vertical = vec![0i32; width];
    for three in rows.windows(3) {
        let (above, below) = (three[0].iter(), three[2].iter());
        for (((v, a), r), b) in vertical.iter_mut().zip(above).zip(three[1]).zip(below) {
            *v = i32::from(*a) - 2 * i32::from(*r) + i32::from(*b);
        }
        for v in vertical.windows(3) {
            histogram[(v[0] - 2 * v[1] + v[2]).unsigned_abs() as usize] += 1;
        }
    }
    let half = (width - 2) * (rows.len() - 2) / 2;
    let mut below = 0;
    let median = histogram.iter().position(|count| {
        below += *count as usize;
        below > half
    });
    median.unwrap_or(LARGEST) as f64 / (6.0 * 0.6745)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_and_edges_are_no_noise() {
        let ramp = GrayImage::from_fn(60, 40, |x, y| [(2 * x + 3 * y) as u8].into());
        assert_eq!(noise(&ramp), 0.0);
        let edge = GrayImage::from_fn(60, 40, |x, y| [if x + y > 50 { 200 } else { 20 }].into());
        assert_eq!(noise(&edge), 0.0);
        assert_eq!(noise(&GrayImage::new(2, 9)), 0.0);
    }
}
