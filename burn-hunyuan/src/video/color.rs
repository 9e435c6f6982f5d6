//! RGB to Y'CbCr 4:2:0 and back, 8 bits each.

use image::RgbImage;

/// How Y'CbCr values stand for R'G'B' (ITU-T H.273 §8.3 and §8.1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Color {
    /// Weight of red in luma.
    kr: f32,
    /// Weight of blue in luma.
    kb: f32,
    /// Luma in 0..=255 instead of 16..=235.
    full_range: bool,
}

impl Color {
    /// BT.709 in limited range: what this program writes.
    pub(super) const BT709: Self = Self {
        kr: 0.2126,
        kb: 0.0722,
        full_range: false,
    };

    /// From H.273's `MatrixCoefficients`; unspecified counts as BT.601, as in ffmpeg.
    /// `None` for codes that are no such matrix (RGB, YCgCo, …).
    pub(super) fn from_code(matrix_coefficients: u8, full_range: bool) -> Option<Self> {
        let (kr, kb) = match matrix_coefficients {
            1 => (0.2126, 0.0722),
            2 | 5 | 6 => (0.299, 0.114),
            4 => (0.30, 0.11),
            7 => (0.212, 0.087),
            9 => (0.2627, 0.0593),
            _ => return None,
        };
        Some(Self { kr, kb, full_range })
    }

    /// Offset of luma, and the spans of luma and chroma.
    fn range(self) -> (f32, f32, f32) {
        if self.full_range {
            (0.0, 255.0, 255.0)
        } else {
            (16.0, 219.0, 224.0)
        }
    }
}

/// The planes of a 4:2:0 picture: `y` is width x height, `u` and `v` half of both, rounded up.
#[derive(Clone, Copy)]
pub(super) struct Planes<'a> {
    pub(super) y: &'a [u8],
    pub(super) u: &'a [u8],
    pub(super) v: &'a [u8],
    /// Bytes from a row to the next, of luma and of chroma.
    pub(super) strides: (usize, usize),
}

/// Converts to BT.709 limited range; chroma is the mean of 2 x 2 pixels. `planes` receives
/// y, u and v one after the other. Width and height must be even.
pub(super) fn rgb_to_yuv420(rgb: &RgbImage, planes: &mut Vec<u8>) {
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    let Color { kr, kb, .. } = Color::BT709;
    let (offset, luma_span, chroma_span) = Color::BT709.range();
    let (y_scale, u_scale, v_scale) = (
        luma_span / 255.0,
        chroma_span / 255.0 / (2.0 * (1.0 - kb)) / 4.0,
        chroma_span / 255.0 / (2.0 * (1.0 - kr)) / 4.0,
    );
    let round = |v: f32| (v + 0.5) as u8;

    planes.resize(width * height * 3 / 2, 0);
    let (y, uv) = planes.split_at_mut(width * height);
    let (u, v) = uv.split_at_mut(width * height / 4);
    for row in 0..height / 2 {
        for column in 0..width / 2 {
            // Sums over the four pixels of one chroma sample.
            let (mut luma, mut red, mut blue) = (0.0, 0.0, 0.0);
            for (dy, dx) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let pixel = (2 * row + dy) * width + 2 * column + dx;
                let [r, g, b] = [0, 1, 2].map(|c| f32::from(rgb.as_raw()[3 * pixel + c]));
                let value = kr * r + (1.0 - kr - kb) * g + kb * b;
                y[pixel] = round(offset + y_scale * value);
                (luma, red, blue) = (luma + value, red + r, blue + b);
            }
            u[row * (width / 2) + column] = round(128.0 + u_scale * (blue - luma));
            v[row * (width / 2) + column] = round(128.0 + v_scale * (red - luma));
        }
    }
}

/// Converts to RGB; each chroma sample covers its 2 x 2 pixels.
pub(super) fn yuv420_to_rgb(planes: Planes, width: u32, height: u32, color: Color) -> RgbImage {
    let Color { kr, kb, .. } = color;
    let (offset, luma_span, chroma_span) = color.range();
    let y_scale = 255.0 / luma_span;
    let r_from_v = 2.0 * (1.0 - kr) * 255.0 / chroma_span;
    let b_from_u = 2.0 * (1.0 - kb) * 255.0 / chroma_span;
    let (g_from_u, g_from_v) = (
        -b_from_u * kb / (1.0 - kr - kb),
        -r_from_v * kr / (1.0 - kr - kb),
    );
    let round = |v: f32| (v + 0.5) as u8; // saturates

    let mut image = RgbImage::new(width, height);
    for (row, pixels) in image.chunks_exact_mut(3 * width as usize).enumerate() {
        let y = &planes.y[row * planes.strides.0..];
        let u = &planes.u[row / 2 * planes.strides.1..];
        let v = &planes.v[row / 2 * planes.strides.1..];
        for (column, pixel) in pixels.chunks_exact_mut(3).enumerate() {
            let luma = y_scale * (f32::from(y[column]) - offset);
            let (u, v) = (
                f32::from(u[column / 2]) - 128.0,
                f32::from(v[column / 2]) - 128.0,
            );
            pixel[0] = round(luma + r_from_v * v);
            pixel[1] = round(luma + g_from_u * u + g_from_v * v);
            pixel[2] = round(luma + b_from_u * u);
        }
    }
    image
}
