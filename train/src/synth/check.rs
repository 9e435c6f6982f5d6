//! From pixels back to facts.
//!
//! What a clip shows is measured, not recognised: colours by the nearest of the ten, motion by the
//! path of the centre, the area and the turn of the outline, shape by the outline's symmetry.

use std::f32::consts::TAU;

use super::scene::{Colour, Motion, Shape};

/// How far a texture goes from its colour towards black or white, and a little more.
const SHADE: f32 = 0.14;
/// Distance in RGB from the background at which a pixel is looked at as part of a shape.
const FOREGROUND: f32 = 0.17;
/// Rays from the centre along which the outline is measured.
const RAYS: usize = 120;
/// Steps along a ray, in pixels.
const STEP: f32 = 0.25;
/// Way of the centre that counts as a movement, in units of the picture's shorter side.
const MOVED: f32 = 0.15;
/// Ratio of areas that counts as growth.
const GREW: f32 = 1.6;
/// Turn that counts as a spin.
const TURNED: f32 = TAU / 8.0;
/// Largest turn from frame to frame that is followed; half a point of a star.
const FOLLOWED: f32 = TAU / 20.0;
/// Amplitude of a symmetry, in units of the mean radius, below which an outline is round.
const ROUND: f32 = 0.05;

/// What a clip shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The background's colour.
    pub background: Colour,
    /// The shape's colour.
    pub colour: Colour,
    /// What the shape does.
    pub motion: Motion,
    /// Its outline.
    pub shape: Shape,
}

/// Reads a clip, RGB in [0, 1], `[frames, height, width, 3]` in row-major order. `None` where
/// nothing stands out from the background in the first or the last frame.
pub fn check(clip: &[f32], height: usize, width: usize) -> Option<Facts> {
    let (pixels, _) = clip.as_chunks::<3>();
    let frames: Vec<Frame> = pixels
        .chunks_exact(height * width)
        .map(|pixels| Frame { pixels, width })
        .collect();
    let background = background(&frames);
    let colour = foreground(&frames, background)?;
    let outlines: Vec<Option<Outline>> = frames
        .iter()
        .map(|frame| Outline::measure(frame, background, colour))
        .collect();
    let (first, last) = (outlines.first()?.as_ref()?, outlines.last()?.as_ref()?);
    let outlines: Vec<&Outline> = outlines.iter().flatten().collect();
    let unit = height.min(width) as f32;
    Some(Facts {
        background,
        colour,
        motion: motion(first, last, &outlines, unit),
        shape: shape(&outlines),
    })
}

/// A picture.
struct Frame<'a> {
    pixels: &'a [[f32; 3]],
    width: usize,
}

impl Frame<'_> {
    fn height(&self) -> usize {
        self.pixels.len() / self.width
    }

    /// The pixels along the four edges, two deep.
    fn border(&self) -> impl Iterator<Item = [f32; 3]> {
        let (height, width) = (self.height(), self.width);
        let pixels = self.pixels.iter().enumerate();
        pixels.filter_map(move |(i, pixel)| {
            let (y, x) = (i / width, i % width);
            let edge = x.min(y).min(width - 1 - x).min(height - 1 - y);
            (edge < 2).then_some(*pixel)
        })
    }
}

fn distance(a: [f32; 3], b: [f32; 3]) -> f32 {
    let squares = a.iter().zip(b).map(|(a, b)| (a - b).powi(2));
    squares.sum::<f32>().sqrt()
}

/// The colour that is nearest, of those that `allowed` lets through.
fn nearest(rgb: [f32; 3], allowed: impl Fn(Colour) -> bool) -> Option<Colour> {
    let colours = Colour::ALL.iter().copied().filter(|c| allowed(*c));
    colours.min_by(|a, b| distance(a.rgb(), rgb).total_cmp(&distance(b.rgb(), rgb)))
}

/// The middle value of each channel.
fn median(pixels: impl Iterator<Item = [f32; 3]>) -> Option<[f32; 3]> {
    let mut channels = [const { Vec::new() }; 3];
    for pixel in pixels {
        for (channel, value) in channels.iter_mut().zip(pixel) {
            channel.push(value);
        }
    }
    if channels[0].is_empty() {
        return None;
    }
    Some(channels.map(|mut values| {
        let middle = values.len() / 2;
        *values.select_nth_unstable_by(middle, f32::total_cmp).1
    }))
}

/// The colour of the border, averaged over its texture.
fn background(frames: &[Frame]) -> Colour {
    let (mut sum, mut count) = ([0.0; 3], 0.0);
    for pixel in frames.iter().flat_map(Frame::border) {
        for (sum, value) in sum.iter_mut().zip(pixel) {
            *sum += value;
        }
        count += 1.0;
    }
    nearest(sum.map(|sum| sum / f32::max(count, 1.0)), |_| true).unwrap_or(Colour::Black)
}

/// How far a pixel is from every shade of the background.
fn contrast(pixel: [f32; 3], background: Colour) -> f32 {
    let middle = background.rgb();
    [0.0, 1.0]
        .map(|end| {
            // The nearest point between the colour and its shade towards black or white.
            let shade = middle.map(|value| (end - value) * SHADE);
            let offset = [0, 1, 2].map(|i| pixel[i] - middle[i]);
            let dot = |a: [f32; 3], b: [f32; 3]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            let along = (dot(offset, shade) / dot(shade, shade).max(1e-9)).clamp(0.0, 1.0);
            distance(offset, shade.map(|value| value * along))
        })
        .into_iter()
        .fold(f32::MAX, f32::min)
}

/// The colour of what stands out. A mark on it is less of it than the rest.
fn foreground(frames: &[Frame], background: Colour) -> Option<Colour> {
    let pixels = frames.iter().flat_map(|frame| frame.pixels);
    let standing_out = pixels.filter(|pixel| contrast(**pixel, background) > FOREGROUND);
    // Edges are mixtures, so every pixel votes for its nearest colour and the most votes win.
    let mut votes = [0_usize; Colour::ALL.len()];
    for pixel in standing_out {
        if let Some(colour) = nearest(*pixel, |colour| colour != background) {
            votes[colour as usize] += 1;
        }
    }
    let most = votes.iter().max().filter(|votes| **votes > 0)?;
    let winner = votes.iter().position(|votes| votes == most)?;
    // Within the winner's pixels the middle value decides, which edges do not move.
    let pixels = frames.iter().flat_map(|frame| frame.pixels).copied();
    let winner = Colour::ALL[winner];
    let own = pixels.filter(|pixel| {
        contrast(*pixel, background) > FOREGROUND
            && nearest(*pixel, |colour| colour != background) == Some(winner)
    });
    nearest(median(own)?, |colour| colour != background)
}

/// A shape in one frame.
struct Outline {
    centre: [f32; 2],
    area: f32,
    /// Along each ray, the length inside the shape in units of its mean.
    radii: [f32; RAYS],
    /// Along each ray, the lightness half-way to the edge, less its mean.
    lightness: [f32; RAYS],
}

impl Outline {
    fn measure(frame: &Frame, background: Colour, colour: Colour) -> Option<Self> {
        // A mark may be nearer to the background than the shape is, so the edge is drawn early.
        let full = contrast(colour.rgb(), background).max(FOREGROUND);
        let least = (0.15 * full).max(0.4 * FOREGROUND);
        let inside = |pixel: [f32; 3]| {
            ((contrast(pixel, background) - least) / (0.25 * full)).clamp(0.0, 1.0)
        };
        let cover: Vec<f32> = frame.pixels.iter().map(|pixel| inside(*pixel)).collect();
        let (mut area, mut centre) = (0.0, [0.0; 2]);
        for (i, cover) in cover.iter().enumerate() {
            area += cover;
            centre[0] += cover * (i % frame.width) as f32;
            centre[1] += cover * (i / frame.width) as f32;
        }
        if area < 9.0 {
            return None;
        }
        let centre = centre.map(|sum| sum / area);
        let reach = 1.5 * (frame.width.max(frame.height())) as f32;
        let at = |values: &dyn Fn(usize) -> f32, angle: f32, radius: f32| {
            let (x, y) = (
                centre[0] + radius * angle.sin(),
                centre[1] - radius * angle.cos(),
            );
            interpolate(values, frame.height(), frame.width, x, y)
        };
        let mut radii: [f32; RAYS] = std::array::from_fn(|ray| {
            let angle = TAU * ray as f32 / RAYS as f32;
            let steps = (0..(reach / STEP) as usize).map(|i| i as f32 * STEP);
            steps.map(|r| at(&|i| cover[i], angle, r) * STEP).sum()
        });
        let grey = |i: usize| frame.pixels[i].iter().sum::<f32>() / 3.0;
        let mut lightness: [f32; RAYS] = std::array::from_fn(|ray| {
            let angle = TAU * ray as f32 / RAYS as f32;
            at(&grey, angle, 0.5 * radii[ray])
        });
        let mean = |values: &[f32; RAYS]| values.iter().sum::<f32>() / RAYS as f32;
        let (radius, grey) = (mean(&radii), mean(&lightness));
        radii.iter_mut().for_each(|value| *value /= radius);
        lightness.iter_mut().for_each(|value| *value -= grey);
        Some(Self {
            centre,
            area,
            radii,
            lightness,
        })
    }

    /// How strongly the outline repeats itself `fold` times around the centre.
    fn symmetry(&self, fold: usize) -> f32 {
        let (mut real, mut imaginary) = (0.0, 0.0);
        for (ray, radius) in self.radii.iter().enumerate() {
            let (sin, cos) = (TAU * (fold * ray) as f32 / RAYS as f32).sin_cos();
            real += radius * cos;
            imaginary += radius * sin;
        }
        2.0 * f32::hypot(real, imaginary) / RAYS as f32
    }

    /// The turn in radians after which `next` looks most like this.
    fn turn_to(&self, next: &Self) -> f32 {
        let most = (FOLLOWED / TAU * RAYS as f32) as isize;
        let unlike = |shift: isize| -> f32 {
            let pairs = (0..RAYS).map(|ray| {
                let other = (ray as isize + shift).rem_euclid(RAYS as isize) as usize;
                let radius = self.radii[ray] - next.radii[other];
                let lightness = self.lightness[ray] - next.lightness[other];
                radius * radius + 4.0 * lightness * lightness
            });
            pairs.sum()
        };
        let best = (-most..=most).min_by(|a, b| unlike(*a).total_cmp(&unlike(*b)));
        let best = best.unwrap_or(0);
        // What differs by noise alone has not turned.
        let gain = unlike(0) - unlike(best);
        match gain > 0.1 * unlike(0).max(RAYS as f32 * 4e-4) {
            true => best as f32 * TAU / RAYS as f32,
            false => 0.0,
        }
    }
}

/// A value between pixels; outside of the picture 0.
fn interpolate(values: &dyn Fn(usize) -> f32, height: usize, width: usize, x: f32, y: f32) -> f32 {
    let (left, top) = (x.floor(), y.floor());
    let corner = |dx: f32, dy: f32| {
        let (x, y) = (left + dx, top + dy);
        let inside = x >= 0.0 && y >= 0.0 && x < width as f32 && y < height as f32;
        if inside {
            values(y as usize * width + x as usize)
        } else {
            0.0
        }
    };
    let (fx, fy) = (x - left, y - top);
    let upper = corner(0.0, 0.0) * (1.0 - fx) + corner(1.0, 0.0) * fx;
    let lower = corner(0.0, 1.0) * (1.0 - fx) + corner(1.0, 1.0) * fx;
    upper * (1.0 - fy) + lower * fy
}

fn motion(first: &Outline, last: &Outline, outlines: &[&Outline], unit: f32) -> Motion {
    let [dx, dy] = [0, 1].map(|axis| (last.centre[axis] - first.centre[axis]) / unit);
    if dx.abs().max(dy.abs()) > MOVED {
        return match (dx.abs() > dy.abs(), dx > 0.0, dy > 0.0) {
            (true, true, _) => Motion::Right,
            (true, false, _) => Motion::Left,
            (false, _, true) => Motion::Down,
            (false, _, false) => Motion::Up,
        };
    }
    let ratio = last.area / first.area;
    if ratio > GREW {
        return Motion::Grow;
    }
    if ratio < 1.0 / GREW {
        return Motion::Shrink;
    }
    let turns = outlines.windows(2).map(|pair| pair[0].turn_to(pair[1]));
    match turns.sum::<f32>().abs() > TURNED {
        true => Motion::Spin,
        false => Motion::Still,
    }
}

/// The shape whose symmetry is strongest on the average.
fn shape(outlines: &[&Outline]) -> Shape {
    let mean = |fold| {
        let sum: f32 = outlines.iter().map(|outline| outline.symmetry(fold)).sum();
        sum / outlines.len().max(1) as f32
    };
    let shapes = [(3, Shape::Triangle), (4, Shape::Square), (5, Shape::Star)];
    let strongest = shapes
        .map(|(fold, shape)| (mean(fold), shape))
        .into_iter()
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match strongest {
        Some((amplitude, shape)) if amplitude > ROUND => shape,
        _ => Shape::Circle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::{Triple, held_out_scene, render, training_scene};
    use rayon::prelude::*;

    /// Every combination that is held out, and as many others.
    #[test]
    fn what_was_drawn_is_read_back() {
        let count = 2 * Triple::all().filter(Triple::is_held_out).count() as u64;
        for [height, width] in [[64, 64], [48, 80]] {
            let scenes = (0..count).flat_map(|i| [held_out_scene(3, i), training_scene(3, i)]);
            let scenes: Vec<_> = scenes.collect();
            let wrong: Vec<String> = scenes
                .par_iter()
                .filter_map(|scene| {
                    let facts = check(&render(scene, 17, height, width), height, width);
                    let expected = Facts {
                        background: scene.background.colour,
                        colour: scene.colour,
                        motion: scene.motion,
                        shape: scene.shape,
                    };
                    (facts != Some(expected)).then(|| format!("{facts:?} of {scene:?}"))
                })
                .collect();
            let share = wrong.len() as f32 / scenes.len() as f32;
            assert!(share <= 0.01, "{share}: {wrong:#?}");
        }
    }

    #[test]
    fn an_empty_clip_shows_nothing() {
        let clip = Colour::Green.rgb().repeat(5 * 16 * 16);
        assert_eq!(check(&clip, 16, 16), None);
    }
}
