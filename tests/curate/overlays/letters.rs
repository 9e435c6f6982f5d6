//! Text and logos, drawn so that the tests need no font.

use image::{Rgba, RgbaImage};

/// The signs, seven rows of five dots each, the leftmost dot in the highest of five bits.
const SIGNS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ24!,.";
const DOTS: [[u8; 7]; 31] = [
    [14, 17, 17, 31, 17, 17, 17],
    [30, 17, 17, 30, 17, 17, 30],
    [14, 17, 16, 16, 16, 17, 14],
    [30, 17, 17, 17, 17, 17, 30],
    [31, 16, 16, 30, 16, 16, 31],
    [31, 16, 16, 30, 16, 16, 16],
    [14, 17, 16, 23, 17, 17, 14],
    [17, 17, 17, 31, 17, 17, 17],
    [14, 4, 4, 4, 4, 4, 14],
    [1, 1, 1, 1, 1, 17, 14],
    [17, 18, 20, 24, 20, 18, 17],
    [16, 16, 16, 16, 16, 16, 31],
    [17, 27, 21, 21, 17, 17, 17],
    [17, 25, 25, 21, 19, 19, 17],
    [14, 17, 17, 17, 17, 17, 14],
    [30, 17, 17, 30, 16, 16, 16],
    [14, 17, 17, 17, 21, 18, 13],
    [30, 17, 17, 30, 20, 18, 17],
    [15, 16, 16, 14, 1, 1, 30],
    [31, 4, 4, 4, 4, 4, 4],
    [17, 17, 17, 17, 17, 17, 14],
    [17, 17, 17, 17, 17, 10, 4],
    [17, 17, 17, 21, 21, 27, 17],
    [17, 17, 10, 4, 10, 17, 17],
    [17, 17, 10, 4, 4, 4, 4],
    [31, 1, 2, 4, 8, 16, 31],
    [14, 17, 1, 6, 8, 16, 31],
    [2, 6, 10, 18, 31, 2, 2],
    [4, 4, 4, 4, 4, 0, 4],
    [0, 0, 0, 0, 0, 4, 8],
    [0, 0, 0, 0, 0, 0, 4],
];

/// What is behind and around letters.
#[derive(Debug, Clone, Copy)]
pub enum Backing {
    Nothing,
    Outline,
    Shadow,
    Box,
}

/// How text looks.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub color: [u8; 3],
    /// Opacity of the letters and of what backs them.
    pub alpha: f32,
    pub backing: Backing,
    /// Height of the letters in pixels.
    pub height: f32,
}

/// Where each letter of a text begins and where the text ends, in dots.
fn places(text: &str) -> Vec<usize> {
    let mut places = vec![0];
    for letter in text.bytes() {
        let advance = if letter == b' ' { 4 } else { 6 };
        places.push(places[places.len() - 1] + advance);
    }
    places
}

/// Width of a text in pixels.
pub fn width(text: &str, height: f32) -> f32 {
    (places(text)[text.len()] - 1) as f32 * height / 7.0
}

/// Draws a line of text with its upper left corner at a place.
pub fn write(picture: &mut RgbaImage, text: &str, left: f32, top: f32, look: Look) {
    let dot = look.height / 7.0;
    let places = places(text);
    let lit = |x: f32, y: f32| -> bool {
        let (column, row) = ((x - left) / dot, (y - top) / dot);
        if column < 0.0 || !(0.0..7.0).contains(&row) {
            return false;
        }
        let after = places.partition_point(|&place| place <= column as usize);
        let letter = text.as_bytes().get(after - 1);
        let sign = letter.and_then(|&letter| SIGNS.bytes().position(|sign| sign == letter));
        let column = column as usize - places[after - 1];
        sign.is_some_and(|sign| column < 5 && DOTS[sign][row as usize] >> (4 - column) & 1 == 1)
    };
    // How much of a pixel is lit.
    let cover = |x: f32, y: f32| {
        let parts = (0..16).map(|i| ((i % 4) as f32 / 4.0 + 0.125, (i / 4) as f32 / 4.0 + 0.125));
        parts.filter(|(dx, dy)| lit(x + dx, y + dy)).count() as f32 / 16.0
    };
    let around = [
        (-2, 0),
        (2, 0),
        (0, -2),
        (0, 2),
        (-1, -1),
        (1, 1),
        (-1, 1),
        (1, -1),
    ];
    let right = left + width(text, look.height);
    for y in (top - 6.0) as u32..((top + look.height + 6.0) as u32).min(picture.height()) {
        for x in (left - 6.0).max(0.0) as u32..((right + 6.0) as u32).min(picture.width()) {
            let (px, py) = (x as f32, y as f32);
            let letter = cover(px, py);
            let backing = match look.backing {
                Backing::Nothing => 0.0,
                Backing::Outline => {
                    let near = around.map(|(dx, dy)| cover(px + dx as f32, py + dy as f32));
                    near.into_iter().fold(letter, f32::max)
                }
                Backing::Shadow => cover(px - 2.0, py - 2.0),
                Backing::Box => 0.6,
            };
            blend(picture, x, y, [0; 3], backing * look.alpha);
            blend(picture, x, y, look.color, letter * look.alpha);
        }
    }
}

/// A badge: a disc with a bar across, its upper left corner at a place.
pub fn badge(picture: &mut RgbaImage, left: f32, top: f32, size: f32, alpha: f32) {
    let radius = size / 2.0;
    for y in top as u32..(top + size) as u32 {
        for x in left as u32..(left + size) as u32 {
            let (dx, dy) = (
                x as f32 + 0.5 - left - radius,
                y as f32 + 0.5 - top - radius,
            );
            let cover = (radius - dx.hypot(dy)).clamp(0.0, 1.0);
            let bar = (dx - dy).abs() < size / 7.0 || dx.hypot(dy + size / 8.0) < size / 8.0;
            let color = if bar { [250, 250, 250] } else { [200, 30, 40] };
            blend(picture, x, y, color, cover * alpha);
        }
    }
}

/// Lays a colour over a pixel.
fn blend(picture: &mut RgbaImage, x: u32, y: u32, color: [u8; 3], alpha: f32) {
    if alpha <= 0.0 {
        return;
    }
    let Rgba([r, g, b, a]) = *picture.get_pixel(x, y);
    let under = f32::from(a) / 255.0 * (1.0 - alpha);
    let all = under + alpha;
    let mix = |new: u8, old: u8| ((f32::from(new) * alpha + f32::from(old) * under) / all) as u8;
    let [nr, ng, nb] = color;
    let mixed = [
        mix(nr, r),
        mix(ng, g),
        mix(nb, b),
        (255.0 * all).round() as u8,
    ];
    picture.put_pixel(x, y, Rgba(mixed));
}
