//! The variance of the Laplacian.

use image::GrayImage;

/// Pixels whose squares, of values of at most 1020, sum within 31 bits.
const CHUNK: usize = 2048;

/// `cv2.Laplacian(gray, cv2.CV_64F).var()`: the variance of the sum of the four neighbours less four
/// times the pixel, the border reflected without its last pixel. In squared gray levels.
///
/// A measure of focus (Pech-Pacheco et al., *Diatom autofocusing in brightfield microscopy*, ICPR
/// 2000). Sums are of whole numbers, hence exact.
pub fn laplacian_variance(picture: &GrayImage) -> f64 {
    let width = picture.width() as usize;
    if picture.as_raw().is_empty() {
        return 0.0;
    }
    let rows: Vec<&[u8]> = picture.as_raw().chunks_exact(width).collect();
    let mut sums = Sums::default();
    for y in 0..rows.len() {
        let (above, below) = neighbours(y, rows.len());
        sums.add_row(rows[above], rows[y], rows[below]);
    }
    let count = (width * rows.len()) as f64;
    let spread = count * sums.squares as f64 - (sums.values as f64).powi(2);
    spread / (count * count)
}

/// Indices before and after, reflected at the ends.
fn neighbours(i: usize, size: usize) -> (usize, usize) {
    let last = size - 1;
    let before = if i == 0 { last.min(1) } else { i - 1 };
    let after = if i == last {
        last.saturating_sub(1)
    } else {
        i + 1
    };
    (before, after)
}

#[derive(Default)]
struct Sums {
    values: i64,
    squares: i64,
}

impl Sums {
    fn add_row(&mut self, above: &[u8], row: &[u8], below: &[u8]) {
        let width = row.len();
        let at = |x: usize, left: usize, right: usize| {
            let [up, down, left, right, centre] =
                [above[x], below[x], row[left], row[right], row[x]].map(i32::from);
            up + down + left + right - 4 * centre
        };
        // Both ends, which are one in a single column.
        for x in [0, width - 1].iter().take(width) {
            let (left, right) = neighbours(*x, width);
            self.add(at(*x, left, right));
        }
        for start in (1..width.saturating_sub(1)).step_by(CHUNK) {
            let end = (start + CHUNK).min(width - 1);
            let inner = &row[start - 1..end + 1];
            let vertical = above[start..end].iter().zip(&below[start..end]);
            let (mut values, mut squares) = (0, 0);
            for ((up, down), three) in vertical.zip(inner.windows(3)) {
                let [left, centre, right] = [three[0], three[1], three[2]].map(i32::from);
                let value = i32::from(*up) + i32::from(*down) + left + right - 4 * centre;
                values += value;
                squares += value * value;
            }
            self.values += i64::from(values);
            self.squares += i64::from(squares);
        }
    }

    fn add(&mut self, value: i32) {
        self.values += i64::from(value);
        self.squares += i64::from(value * value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_forms() {
        let variance = |width, pixels: &[u8]| {
            let height = pixels.len() as u32 / width;
            laplacian_variance(&GrayImage::from_raw(width, height, pixels.to_vec()).unwrap())
        };
        assert_eq!(variance(1, &[7]), 0.0);
        assert_eq!(laplacian_variance(&GrayImage::new(0, 0)), 0.0);
        // ±2 · 10 from reflection on both sides.
        assert_eq!(variance(2, &[0, 10]), 400.0);
        assert_eq!(variance(1, &[0, 10]), 400.0);
        // A checkerboard: every pixel differs from its four neighbours by the same.
        let board: Vec<u8> = (0..60)
            .map(|i| 255 * ((i % 10 + i / 10) % 2) as u8)
            .collect();
        assert_eq!(variance(10, &board), 1020.0 * 1020.0);
    }
}
