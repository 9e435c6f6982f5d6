//! A decoded picture with its place in the source.

use image::RgbImage;

/// One picture of a clip, as the stages see it: reduced to the analysis size.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Number of the picture in its source, from 0.
    pub index: u64,
    /// Presentation time in seconds from the start of the source.
    pub time: f64,
    /// 8-bit RGB.
    pub picture: RgbImage,
}

/// A picture reduced to `side` x `side` pixels by area averages, row by row, in 8-bit levels. Where
/// it is smaller, its pixels are repeated.
pub(crate) fn thumbnail(picture: &RgbImage, side: usize) -> Vec<[f32; 3]> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let span = |i: usize, length: usize| {
        let start = i * length / side;
        start..((i + 1) * length / side).max(start + 1)
    };
    let (pixels, _) = picture.as_raw().as_chunks::<3>();
    let mut thumbnail = Vec::with_capacity(side * side);
    for rows in (0..side).map(|y| span(y, height)) {
        for columns in (0..side).map(|x| span(x, width)) {
            let count = (rows.len() * columns.len()) as f32;
            let mut sum = [0_u32; 3];
            for y in rows.clone() {
                for pixel in &pixels[y * width + columns.start..y * width + columns.end] {
                    sum.iter_mut()
                        .zip(pixel)
                        .for_each(|(sum, &level)| *sum += u32::from(level));
                }
            }
            thumbnail.push(sum.map(|sum| sum as f32 / count));
        }
    }
    thumbnail
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn thumbnails_are_area_averages() {
        let picture = RgbImage::from_fn(4, 2, |x, y| Rgb([10 * x as u8, 100 * y as u8, 7]));
        let expected = [
            [5.0, 0.0, 7.0],
            [25.0, 0.0, 7.0],
            [5.0, 100.0, 7.0],
            [25.0, 100.0, 7.0],
        ];
        assert_eq!(thumbnail(&picture, 2), expected);
        assert_eq!(thumbnail(&picture, 4)[5], [10.0, 0.0, 7.0]);
    }
}
