//! From colour to brightness.

use image::{GrayImage, RgbImage};

/// Brightness as OpenCV's 8-bit `cvtColor` with `COLOR_RGB2GRAY` rounds it: BT.601's weights in
/// units of 2⁻¹⁵.
pub fn gray(picture: &RgbImage) -> GrayImage {
    let weighted = |rgb: &[u8]| {
        let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(u32::from);
        ((9798 * r + 19235 * g + 3735 * b + (1 << 14)) >> 15) as u8
    };
    let pixels = picture.as_raw().chunks_exact(3).map(weighted).collect();
    GrayImage::from_raw(picture.width(), picture.height(), pixels).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grays_stay_and_weights_are_bt601() {
        let of = |rgb: [u8; 3]| gray(&RgbImage::from_pixel(1, 1, image::Rgb(rgb))).into_raw()[0];
        assert!((0..=255).all(|v| of([v; 3]) == v));
        assert_eq!(
            [of([255, 0, 0]), of([0, 255, 0]), of([0, 0, 255])],
            [76, 150, 29]
        );
    }
}
