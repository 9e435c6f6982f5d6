//! Contact sheets: clips as one picture, to be looked at.

use std::{io::Cursor, path::Path};

use image::{ImageFormat, RgbImage, imageops};

use crate::{
    error::{Error, Result},
    files,
};

/// Frames shown of a clip.
const COLUMNS: usize = 8;
/// The width and height in pixels that a frame may have in the sheet.
const LARGEST: u32 = 192;
/// Pixels between frames.
const GAP: u32 = 4;

/// Writes a PNG with a row for each clip: its first frame, its last, and up to six evenly between
/// them, scaled down to at most 192 pixels.
///
/// # Errors
/// A file that cannot be written.
pub fn write(path: &Path, clips: &[Vec<RgbImage>]) -> Result<()> {
    let mut png = Cursor::new(Vec::new());
    let written = draw(clips).write_to(&mut png, ImageFormat::Png);
    written.map_err(|e| Error::file(path, e))?;
    files::replace(path, png.into_inner())
}

fn draw(clips: &[Vec<RgbImage>]) -> RgbImage {
    let rows: Vec<Vec<RgbImage>> = clips.iter().map(|clip| row(clip)).collect();
    let height = |row: &[RgbImage]| row.iter().map(RgbImage::height).max().unwrap_or(0) + GAP;
    let width = |row: &[RgbImage]| row.iter().map(|frame| frame.width() + GAP).sum::<u32>();
    let widest = rows.iter().map(|row| width(row)).max().unwrap_or(0);
    let total: u32 = rows.iter().map(|row| height(row)).sum();
    let mut sheet = RgbImage::from_pixel(widest + GAP, total + GAP, [255; 3].into());
    let mut y = GAP;
    for row in &rows {
        let mut x = GAP;
        for frame in row {
            imageops::replace(&mut sheet, frame, x.into(), y.into());
            x += frame.width() + GAP;
        }
        y += height(row);
    }
    sheet
}

/// The frames of a clip that are shown.
fn row(clip: &[RgbImage]) -> Vec<RgbImage> {
    let shown = clip.len().min(COLUMNS);
    let last = clip.len().saturating_sub(1);
    let place = |column: usize| column * last / shown.saturating_sub(1).max(1);
    (0..shown)
        .map(|column| small(&clip[place(column)]))
        .collect()
}

fn small(frame: &RgbImage) -> RgbImage {
    let (width, height) = frame.dimensions();
    let longer = width.max(height);
    if longer <= LARGEST {
        return frame.clone();
    }
    let scaled = |length: u32| (length * LARGEST / longer).max(1);
    imageops::thumbnail(frame, scaled(width), scaled(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clip whose frame `i` is gray of value `i`.
    fn clip(frames: u8, width: u32, height: u32) -> Vec<RgbImage> {
        let frame = |i| RgbImage::from_pixel(width, height, [i; 3].into());
        (0..frames).map(frame).collect()
    }

    #[test]
    fn rows_are_clips_and_columns_their_frames_in_order() {
        let sheet = draw(&[clip(15, 10, 6), clip(3, 10, 6), clip(1, 384, 192)]);
        // The widest row is the large frame at half its size, the rest have theirs.
        assert_eq!(sheet.dimensions(), (4 + 192 + 4, 4 + 10 + 10 + 96 + 4));
        let shown = |row: u32, column: u32| sheet.get_pixel(5 + 14 * column, 5 + 10 * row)[0];
        let first: Vec<u8> = (0..8).map(|column| shown(0, column)).collect();
        assert_eq!(first, [0, 2, 4, 6, 8, 10, 12, 14]);
        let second: Vec<u8> = (0..4).map(|column| shown(1, column)).collect();
        assert_eq!(second, [0, 1, 2, 255]);
    }

    #[test]
    fn nothing_to_show_is_still_a_picture() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        write(&path, &[]).unwrap();
        assert_eq!(image::open(&path).unwrap().width(), GAP);
    }
}
