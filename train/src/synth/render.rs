//! Pictures of scenes.

use std::f32::consts::TAU;

use super::scene::{Motion, Pose, Scene, Shape, Texture};

/// How far the two shades of a texture are from the background's colour.
const SHADE: f32 = 0.12;
/// Bands, or squares, of a texture along the shorter side.
const PERIODS: f32 = 4.0;
/// Distance of a star's inner corners from its centre, as a part of its outer ones'.
const STAR_INNER: f32 = 0.45;

/// All frames of a scene as RGB in [0, 1], `[frames, height, width, 3]` in row-major order.
pub fn render(scene: &Scene, frames: usize, height: usize, width: usize) -> Vec<f32> {
    let last = frames.saturating_sub(1).max(1) as f32;
    (0..frames)
        .flat_map(|i| frame(scene, i as f32 / last, height, width))
        .collect()
}

/// The picture at time `t`, 0 at the first frame and 1 at the last: RGB in [0, 1],
/// `[height, width, 3]` in row-major order.
///
/// A pixel is covered by as much of the shape as its distance from the outline tells, so edges are
/// one pixel wide at any size.
pub fn frame(scene: &Scene, t: f32, height: usize, width: usize) -> Vec<f32> {
    let unit = height.min(width) as f32;
    let pose = scene.pose(t);
    let outline = Outline::new(scene.shape, pose);
    let colour = scene.colour.rgb();
    let mark = marked(colour);
    let mut picture = Vec::with_capacity(height * width * 3);
    for row in 0..height {
        for column in 0..width {
            let x = (column as f32 + 0.5 - width as f32 / 2.0) / unit;
            let y = (row as f32 + 0.5 - height as f32 / 2.0) / unit;
            let under = background(scene, x, y, unit);
            let cover = coverage(outline.distance([x, y]), unit);
            let mark_cover = match scene.shape {
                Shape::Circle if scene.motion == Motion::Spin => wedge(pose, [x, y], unit),
                _ => 0.0,
            };
            for channel in 0..3 {
                let over = colour[channel] + (mark[channel] - colour[channel]) * mark_cover;
                picture.push(under[channel] + (over - under[channel]) * cover);
            }
        }
    }
    picture
}

/// The part of a pixel that lies inside an edge, from the signed distance of its middle.
fn coverage(distance: f32, unit: f32) -> f32 {
    (0.5 - distance * unit).clamp(0.0, 1.0)
}

/// The shade in which a spinning circle shows its turn: lighter on dark colours, darker on light.
fn marked(colour: [f32; 3]) -> [f32; 3] {
    let lightness = colour.iter().sum::<f32>() / 3.0;
    let target = if lightness < 0.35 { 1.0 } else { 0.0 };
    colour.map(|value| value + (target - value) * 0.55)
}

/// How much of a pixel lies in the quarter of a circle that carries the mark.
fn wedge(pose: Pose, point: [f32; 2], unit: f32) -> f32 {
    let [x, y] = local(pose, point);
    // The quarter around the upward direction: |x| < −y.
    coverage((x.abs() + y) * std::f32::consts::FRAC_1_SQRT_2, unit)
}

/// A point in the coordinates of the shape: from its centre, turned back by its angle.
fn local(pose: Pose, [x, y]: [f32; 2]) -> [f32; 2] {
    let (sin, cos) = pose.angle.sin_cos();
    let (x, y) = (x - pose.centre[0], y - pose.centre[1]);
    [x * cos + y * sin, y * cos - x * sin]
}

/// The background's colour at a point.
fn background(scene: &Scene, x: f32, y: f32, unit: f32) -> [f32; 3] {
    // Bands are faded into each other over one pixel.
    let band = |position: f32| {
        let phase = (position * PERIODS).rem_euclid(2.0);
        let from_edge = 0.5 - (phase - 1.0).abs();
        (from_edge / PERIODS * unit).clamp(-0.5, 0.5) * 2.0
    };
    let shade = match scene.background.texture {
        Texture::Flat => 0.0,
        Texture::Gradient => (y * 2.0).clamp(-1.0, 1.0),
        Texture::Stripes => band((x + y) * std::f32::consts::FRAC_1_SQRT_2),
        Texture::Checks => band(x) * band(y),
    };
    let target = if shade > 0.0 { 1.0 } else { 0.0 };
    let amount = SHADE * shade.abs();
    let colour = scene.background.colour.rgb();
    colour.map(|value| value + (target - value) * amount)
}

/// The edge of a shape.
enum Outline {
    Circle(Pose),
    /// Corners in order around the shape.
    Polygon(Vec<[f32; 2]>),
}

impl Outline {
    fn new(shape: Shape, pose: Pose) -> Self {
        let ring = |corners: usize, radius: &dyn Fn(usize) -> f32, first: f32| {
            let corner = |i: usize| {
                let angle = pose.angle + first + TAU * i as f32 / corners as f32;
                let radius = pose.radius * radius(i);
                [
                    pose.centre[0] + radius * angle.sin(),
                    pose.centre[1] - radius * angle.cos(),
                ]
            };
            Self::Polygon((0..corners).map(corner).collect())
        };
        match shape {
            Shape::Circle => Self::Circle(pose),
            Shape::Square => ring(4, &|_| 1.0, TAU / 8.0),
            Shape::Triangle => ring(3, &|_| 1.0, 0.0),
            Shape::Star => ring(10, &|i| if i % 2 == 0 { 1.0 } else { STAR_INNER }, 0.0),
        }
    }

    /// Distance of a point from the edge, negative inside.
    fn distance(&self, [x, y]: [f32; 2]) -> f32 {
        let corners = match self {
            Self::Circle(pose) => {
                return (x - pose.centre[0]).hypot(y - pose.centre[1]) - pose.radius;
            }
            Self::Polygon(corners) => corners,
        };
        let (mut nearest, mut inside) = (f32::MAX, false);
        for (i, &[ax, ay]) in corners.iter().enumerate() {
            let [bx, by] = corners[(i + 1) % corners.len()];
            let (ex, ey) = (bx - ax, by - ay);
            let (px, py) = (x - ax, y - ay);
            let along = ((px * ex + py * ey) / (ex * ex + ey * ey)).clamp(0.0, 1.0);
            nearest = nearest.min((px - along * ex).hypot(py - along * ey));
            // A ray to the right crosses this edge.
            if (ay > y) != (by > y) && x < ax + (y - ay) / ey * ex {
                inside = !inside;
            }
        }
        if inside { -nearest } else { nearest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::scene::{Background, Colour};

    fn scene(shape: Shape, radius: f32) -> Scene {
        let pose = Pose {
            centre: [0.0, 0.0],
            radius,
            angle: 0.0,
        };
        Scene {
            shape,
            colour: Colour::White,
            motion: Motion::Still,
            background: Background {
                colour: Colour::Black,
                texture: Texture::Flat,
            },
            start: pose,
            end: pose,
        }
    }

    /// The covered area in units of the shorter side, from the red channel.
    fn area(scene: &Scene, size: usize) -> f32 {
        let [white, ..] = Colour::White.rgb();
        let [black, ..] = Colour::Black.rgb();
        let picture = frame(scene, 0.0, size, size);
        let covered = picture
            .iter()
            .step_by(3)
            .map(|v| (v - black) / (white - black));
        covered.sum::<f32>() / (size * size) as f32
    }

    #[test]
    fn areas_are_those_of_the_figures() {
        let r = 0.3_f32;
        // Ten triangles from the centre, between an outer and an inner corner.
        let star = 10.0 * 0.5 * r * r * STAR_INNER * (TAU / 10.0).sin();
        for (shape, expected) in [
            (Shape::Circle, TAU / 2.0 * r * r),
            (Shape::Square, 2.0 * r * r),
            (Shape::Triangle, 0.75 * 3.0_f32.sqrt() * r * r),
            (Shape::Star, star),
        ] {
            for size in [48, 64, 200] {
                let measured = area(&scene(shape, r), size);
                assert!(
                    (measured - expected).abs() < 0.02 * expected,
                    "{shape:?} at {size}: {measured}, expected {expected}"
                );
            }
        }
    }

    #[test]
    fn textures_keep_the_mean_colour_nearly() {
        for texture in Texture::ALL {
            let mut scene = scene(Shape::Circle, 0.0);
            scene.background = Background {
                colour: Colour::Green,
                texture: *texture,
            };
            let picture = frame(&scene, 0.0, 64, 64);
            for (channel, expected) in Colour::Green.rgb().into_iter().enumerate() {
                let mean = picture.iter().skip(channel).step_by(3).sum::<f32>() / 4096.0;
                assert!(
                    (mean - expected).abs() < 0.06,
                    "{texture:?}: {mean} {expected}"
                );
            }
        }
    }
}
