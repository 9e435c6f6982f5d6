//! Evident lines of text.
//!
//! In a line of text each row of pixels crosses many thin strokes, brighter or darker than what is
//! beside them, all of nearly one level and one width, and the line is low and wide. Foliage,
//! gratings and tiles have strokes too, but fainter ones of many levels.
//!
//! Of a sheer mark, which lets the scene shine through, the strokes are of many levels as well, but
//! of one opacity: white of opacity `a` makes `v + a (255 − v)` of a level `v` beside the stroke.

use image::GrayImage;

use super::{
    area::{Area, CELL, components},
    strokes::{Look, Stroke, strokes},
};

/// A line of text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Line {
    pub(super) area: Area,
    /// By how many levels the strokes stand out: their median contrast less the spread of their
    /// levels. Of sheer text those over black: the median opacity less its spread, times 255.
    pub(super) clearness: f32,
}

/// A line has at least this many strokes in a row of pixels.
const STROKES: f32 = 6.0;

/// The lines of bright, of dark and of sheer white text in a picture that stand out by at least
/// `clearness` levels.
pub(super) fn lines(luma: &GrayImage, clearness: f32) -> Vec<Line> {
    let mut negative = luma.clone();
    negative.iter_mut().for_each(|level| *level = 255 - *level);
    let is_clear = |line: &Line| line.clearness >= clearness;
    let mut lines = bright_lines(luma, Look::Opaque);
    lines.extend(bright_lines(&negative, Look::Opaque));
    lines.retain(is_clear);
    // Watermarks are white, and what is between opaque letters is no text of its own.
    let mut sheer = bright_lines(luma, Look::Sheer);
    sheer.retain(|line| is_clear(line) && !lines.iter().any(|text| text.area.overlaps(&line.area)));
    lines.extend(sheer);
    lines
}

fn bright_lines(luma: &GrayImage, look: Look) -> Vec<Line> {
    let (width, height) = (luma.width() as usize, luma.height() as usize);
    let rows = luma.as_raw().chunks_exact(width);
    let rows: Vec<Vec<Stroke>> = rows.map(|row| strokes(row, height, look)).collect();

    let columns = width.div_ceil(CELL);
    let mut counts = vec![0; columns * height.div_ceil(CELL)];
    for (y, strokes) in rows.iter().enumerate() {
        for stroke in strokes {
            counts[y / CELL * columns + (stroke.start + stroke.width / 2) / CELL] += 1;
        }
    }
    let on: Vec<bool> = counts.iter().map(|&count| count >= 4).collect();
    let mut lines = Vec::new();
    for cells in components(&on, columns, look.reach()) {
        let places = cells
            .iter()
            .map(|cell| Area::pixel(cell % columns, cell / columns));
        if let Some(cells) = places.reduce(|a, b| a.union(&b)) {
            let area = Area {
                left: cells.left * CELL,
                top: cells.top * CELL,
                right: (cells.right * CELL).min(width),
                bottom: (cells.bottom * CELL).min(height),
            };
            lines.extend(lines_within(&rows, area, look));
        }
    }
    lines
}

/// The lines of text among the strokes within an area: bands of rows with many strokes.
fn lines_within(rows: &[Vec<Stroke>], area: Area, look: Look) -> Vec<Line> {
    let inside = |stroke: &&Stroke| (area.left..area.right).contains(&stroke.start);
    let count = |row: &Vec<Stroke>| row.iter().filter(inside).count();
    let counts: Vec<usize> = rows[area.top..area.bottom].iter().map(count).collect();
    let most = counts.iter().copied().max().unwrap_or(0);
    let full: Vec<bool> = counts.iter().map(|&count| 3 * count >= most).collect();
    let mut top = area.top;
    let mut lines = Vec::new();
    for band in full.chunk_by(|a, b| a == b) {
        let bottom = top + band.len();
        if band[0] {
            let strokes: Vec<&Stroke> = rows[top..bottom].iter().flatten().filter(inside).collect();
            lines.extend(line(
                &strokes,
                Area {
                    top,
                    bottom,
                    ..area
                },
                rows.len(),
                look,
            ));
        }
        top = bottom;
    }
    lines
}

/// The strokes of a band as a line of text, if they can be one.
fn line(strokes: &[&Stroke], band: Area, height: usize, look: Look) -> Option<Line> {
    let left = strokes.iter().map(|stroke| stroke.start).min()?;
    let right = strokes
        .iter()
        .map(|stroke| stroke.start + stroke.width)
        .max()?;
    let area = Area {
        left,
        right,
        ..band
    };
    let tall = area.height() as f32;
    let in_a_row = strokes.len() as f32 / tall;
    // Letters are about as wide as high and have one to four strokes.
    let by_letter = in_a_row * tall / area.width() as f32;

    let count = strokes.len() as f32;
    let mean = strokes.iter().map(|s| s.width as f32).sum::<f32>() / count;
    let squares = strokes
        .iter()
        .map(|s| (s.width as f32 - mean).powi(2))
        .sum::<f32>();
    let widths_alike = (squares / count).sqrt() <= 0.7 * mean;

    let is_text = in_a_row >= STROKES
        && (0.6..4.0).contains(&by_letter)
        && (0.02..look.tallest()).contains(&(tall / height as f32))
        && widths_alike;
    let clearness = is_text.then(|| look.clearness(strokes))??;
    Some(Line { area, clearness })
}

/// Lines of text in one place, or next to each other, over a clip.
pub(super) struct Block {
    pub(super) area: Area,
    /// That of its clearest line.
    pub(super) clearness: f32,
    /// The stretches of the clip in which it has text.
    pub(super) stretches: Vec<usize>,
}

/// The text of a clip whose consecutive stretches have the given lines. A line counts if it is in
/// the same place in the next stretch or the one before: text in the scene moves with it.
pub(super) fn blocks(stretches: &[Vec<Line>]) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for (stretch, lines) in stretches.iter().enumerate() {
        let before = stretch.checked_sub(1).and_then(|i| stretches.get(i));
        let neighbours = || {
            before
                .into_iter()
                .chain(stretches.get(stretch + 1))
                .flatten()
        };
        for line in lines {
            let stays = neighbours().any(|other| in_one_place(&line.area, &other.area));
            if !stays && stretches.len() > 1 {
                continue;
            }
            let mut block = Block {
                area: line.area,
                clearness: line.clearness,
                stretches: vec![stretch],
            };
            // A line may close the gap between several blocks.
            let height = line.area.height();
            let reach = line.area.grown(height, height / 2);
            for joined in blocks.extract_if(.., |block| block.area.overlaps(&reach)) {
                block.area = block.area.union(&joined.area);
                block.clearness = block.clearness.max(joined.clearness);
                block.stretches.extend(joined.stretches);
            }
            block.stretches.sort_unstable();
            block.stretches.dedup();
            blocks.push(block);
        }
    }
    blocks
}

/// Whether two lines are in one place; an end of a line may be lost against a bright scene.
fn in_one_place(a: &Area, b: &Area) -> bool {
    let near = |a: usize, b: usize| a.abs_diff(b) <= 2;
    near(a.top, b.top)
        && near(a.bottom, b.bottom)
        && (near(a.left, b.left) || near(a.right, b.right))
}

#[cfg(test)]
mod tests {
    use image::Luma;

    use super::*;

    /// Where the bars below are, in rows 152 to 160.
    const BAND: Area = Area {
        left: 82,
        top: 152,
        right: 234,
        bottom: 160,
    };

    fn areas(luma: &GrayImage) -> Vec<Area> {
        lines(luma, 70.0).iter().map(|line| line.area).collect()
    }

    /// Bars of two pixels in pairs, like letters, within some rows of a grey picture.
    fn bars(rows: std::ops::Range<u32>, level: impl Fn(u32) -> u8) -> GrayImage {
        GrayImage::from_fn(320, 180, |x, y| {
            let bar = (80..240).contains(&x) && [2, 3, 8, 9].contains(&(x % 16));
            Luma([if bar && rows.contains(&y) {
                level(x / 8)
            } else {
                90
            }])
        })
    }

    #[test]
    fn a_low_band_of_even_strokes_is_text() {
        for level in [230, 0] {
            assert_eq!(areas(&bars(152..160, |_| level)), [BAND]);
        }
    }

    #[test]
    fn a_grating_or_strokes_of_many_levels_are_not() {
        assert_eq!(lines(&bars(20..160, |_| 230), 70.0), []);
        assert_eq!(
            lines(&bars(150..160, |bar| 150 + (bar * 37 % 100) as u8), 70.0),
            []
        );
        assert_eq!(lines(&bars(0..0, |_| 230), 70.0), []);
    }

    /// Bars as above, of an opacity each, over a scene that grows brighter from left to right.
    fn sheer_bars(opacity: impl Fn(u32) -> f32) -> GrayImage {
        let bars = bars(152..160, |_| 0);
        GrayImage::from_fn(320, 180, |x, y| {
            let scene = 40.0 + x as f32 / 2.0;
            let white = match bars.get_pixel(x, y).0 {
                [0] => opacity(x / 8),
                _ => 0.0,
            };
            Luma([(scene + white * (255.0 - scene)) as u8])
        })
    }

    #[test]
    fn sheer_text_is_of_one_opacity() {
        assert_eq!(areas(&sheer_bars(|_| 0.4)), [BAND]);
        let many = |bar: u32| 0.25 + (bar * 37 % 100) as f32 / 200.0;
        assert_eq!(lines(&sheer_bars(many), 70.0), []);
    }

    #[test]
    fn text_counts_where_it_stays() {
        let line = |left: usize, top: usize| Line {
            area: Area {
                left,
                top,
                right: left + 100,
                bottom: top + 12,
            },
            clearness: 80.0,
        };
        // Two lines, one below the other, of which the lower one changes; and one that drifts.
        let stretches: Vec<Vec<Line>> = (0..6)
            .map(|i| {
                vec![
                    line(100, 150),
                    line(80 + 40 * (i / 2), 165),
                    line(30 * i, 40),
                ]
            })
            .collect();
        let blocks = blocks(&stretches);
        assert_eq!(blocks.len(), 1);
        let Area {
            left,
            top,
            right,
            bottom,
        } = blocks[0].area;
        assert_eq!([left, top, right, bottom], [80, 150, 260, 177]);
        assert_eq!(blocks[0].stretches, [0, 1, 2, 3, 4, 5]);
    }
}
