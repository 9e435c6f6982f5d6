//! What a clip shows.

use std::f32::consts::PI;

use rand::{Rng, RngExt};

/// The turn of every spin in radians. One for all: a prompt does not say how far a shape turns, and
/// a small model that has seen many turns draws their mean, which stands still.
const SPIN: f32 = 0.6 * PI;

/// Declares an enumeration of words with the list of its members.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$member_doc:meta])* $member:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$member_doc])* $member),+ }

        impl $name {
            /// Every member.
            pub const ALL: &[Self] = &[$(Self::$member),+];

            /// As the plain caption says it.
            pub fn word(self) -> &'static str {
                match self { $(Self::$member => $word),+ }
            }

            /// One of them, each as likely.
            fn random(rng: &mut impl Rng) -> Self {
                Self::ALL[rng.random_range(0..Self::ALL.len())]
            }
        }
    };
}

words! {
    /// An outline.
    Shape {
        /// A disc.
        Circle = "circle",
        /// Four equal sides.
        Square = "square",
        /// Three equal sides.
        Triangle = "triangle",
        /// Five points.
        Star = "star",
    }
}

words! {
    /// The colour of a shape or a background.
    Colour {
        /// 220, 30, 40.
        Red = "red",
        /// 40, 160, 60.
        Green = "green",
        /// 35, 75, 215.
        Blue = "blue",
        /// 245, 215, 40.
        Yellow = "yellow",
        /// 245, 130, 25.
        Orange = "orange",
        /// 130, 50, 170.
        Purple = "purple",
        /// 245, 245, 245.
        White = "white",
        /// 20, 20, 22.
        Black = "black",
        /// 50, 200, 220.
        Cyan = "cyan",
        /// 250, 150, 190.
        Pink = "pink",
    }
}

words! {
    /// What the shape does in the course of the clip.
    Motion {
        /// Towards the left edge.
        Left = "moves left",
        /// Towards the right edge.
        Right = "moves right",
        /// Towards the upper edge.
        Up = "moves up",
        /// Towards the lower edge.
        Down = "moves down",
        /// Becomes larger.
        Grow = "grows",
        /// Becomes smaller.
        Shrink = "shrinks",
        /// Turns around its centre, clockwise, three tenths of a full turn.
        Spin = "spins",
        /// Does nothing.
        Still = "stays still",
    }
}

words! {
    /// The pattern of a background, in two shades of its colour.
    Texture {
        /// One shade.
        Flat = "plain",
        /// From one shade to the other, top to bottom.
        Gradient = "shaded",
        /// Diagonal bands.
        Stripes = "striped",
        /// A chessboard.
        Checks = "checkered",
    }
}

impl Colour {
    /// Red, green and blue in [0, 1].
    pub fn rgb(self) -> [f32; 3] {
        let rgb: [u8; 3] = match self {
            Self::Red => [220, 30, 40],
            Self::Green => [40, 160, 60],
            Self::Blue => [35, 75, 215],
            Self::Yellow => [245, 215, 40],
            Self::Orange => [245, 130, 25],
            Self::Purple => [130, 50, 170],
            Self::White => [245, 245, 245],
            Self::Black => [20, 20, 22],
            Self::Cyan => [50, 200, 220],
            Self::Pink => [250, 150, 190],
        };
        rgb.map(|value| f32::from(value) / 255.0)
    }
}

/// What a background looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Background {
    /// Its colour.
    pub colour: Colour,
    /// Its pattern.
    pub texture: Texture,
}

/// The combination that a model has to compose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Triple {
    /// The outline.
    pub shape: Shape,
    /// Its colour.
    pub colour: Colour,
    /// What it does.
    pub motion: Motion,
}

impl Triple {
    /// All 320 combinations.
    pub fn all() -> impl Iterator<Item = Self> {
        Shape::ALL.iter().flat_map(|&shape| {
            Colour::ALL.iter().flat_map(move |&colour| {
                Motion::ALL.iter().map(move |&motion| Self {
                    shape,
                    colour,
                    motion,
                })
            })
        })
    }

    /// Whether training never shows it: one in five, two colours of every shape with a motion.
    pub fn is_held_out(&self) -> bool {
        (self.shape as usize + self.colour as usize + 2 * self.motion as usize).is_multiple_of(5)
    }
}

/// Where and how large the shape is at a moment. Lengths are in units of the picture's shorter
/// side, the centre is measured from the middle of the picture, to the right and down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pose {
    /// Centre.
    pub centre: [f32; 2],
    /// Distance of the corners from the centre.
    pub radius: f32,
    /// Turn in radians, clockwise on the screen.
    pub angle: f32,
}

/// A whole clip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scene {
    /// The outline.
    pub shape: Shape,
    /// Its colour.
    pub colour: Colour,
    /// What it does.
    pub motion: Motion,
    /// What it is seen against; of another colour.
    pub background: Background,
    /// At the first frame.
    pub start: Pose,
    /// At the last frame; everything between changes at a constant rate.
    pub end: Pose,
}

impl Scene {
    /// A scene drawn at random. Half of the backgrounds are plain.
    pub fn random(rng: &mut impl Rng) -> Self {
        let triple = Triple {
            shape: Shape::random(rng),
            colour: Colour::random(rng),
            motion: often_a_spin(rng),
        };
        Self::of(triple, rng)
    }

    /// A scene with these facts, the rest drawn at random.
    pub fn of(triple: Triple, rng: &mut impl Rng) -> Self {
        let background = Background {
            colour: loop {
                let colour = Colour::random(rng);
                if colour != triple.colour {
                    break colour;
                }
            },
            texture: match rng.random_bool(0.5) {
                true => Texture::Flat,
                false => Texture::random(rng),
            },
        };
        let (start, end) = path(triple.motion, rng);
        let Triple {
            shape,
            colour,
            motion,
        } = triple;
        Self {
            shape,
            colour,
            motion,
            background,
            start,
            end,
        }
    }

    /// Shape, colour and motion.
    pub fn triple(&self) -> Triple {
        Triple {
            shape: self.shape,
            colour: self.colour,
            motion: self.motion,
        }
    }

    /// The pose at time `t`, 0 at the first frame and 1 at the last.
    pub fn pose(&self, t: f32) -> Pose {
        let mix = |a: f32, b: f32| a + (b - a) * t;
        Pose {
            centre: [0, 1].map(|axis| mix(self.start.centre[axis], self.end.centre[axis])),
            radius: mix(self.start.radius, self.end.radius),
            angle: mix(self.start.angle, self.end.angle),
        }
    }

    /// The scene between two moments, as a scene of its own.
    pub fn stretch(&self, from: f32, to: f32) -> Self {
        Self {
            start: self.pose(from),
            end: self.pose(to),
            ..*self
        }
    }
}

/// A motion. A spin, which changes the fewest pixels and is learned last, is drawn six times as often
/// as any other.
fn often_a_spin(rng: &mut impl Rng) -> Motion {
    match rng.random_bool(0.4) {
        true => Motion::Spin,
        false => Motion::random(rng),
    }
}

/// A first and last pose for a motion. The shape never leaves a square picture.
fn path(motion: Motion, rng: &mut impl Rng) -> (Pose, Pose) {
    let centre = [0, 1].map(|_| rng.random_range(-0.1..0.1));
    let still = Pose {
        centre,
        radius: rng.random_range(0.24..0.34),
        angle: 0.0,
    };
    let (mut start, mut end) = (still, still);
    match motion {
        Motion::Left | Motion::Right | Motion::Up | Motion::Down => {
            let radius = rng.random_range(0.2..0.27);
            let way = rng.random_range(0.13..0.2);
            let (axis, sign) = match motion {
                Motion::Left => (0, -1.0),
                Motion::Right => (0, 1.0),
                Motion::Up => (1, -1.0),
                _ => (1, 1.0),
            };
            (start.radius, end.radius) = (radius, radius);
            (start.centre[axis], end.centre[axis]) = (-sign * way, sign * way);
        }
        Motion::Grow | Motion::Shrink => {
            let small = rng.random_range(0.15..0.19);
            let large = rng.random_range(0.33..0.39);
            (start.radius, end.radius) = match motion {
                Motion::Grow => (small, large),
                _ => (large, small),
            };
        }
        Motion::Spin => {
            end.angle = SPIN;
        }
        Motion::Still => {}
    }
    (start, end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    #[test]
    fn one_triple_in_five_is_held_out_and_every_word_is_seen() {
        let all: Vec<Triple> = Triple::all().collect();
        assert_eq!(all.len(), 320);
        let held_out = |t: &&Triple| t.is_held_out();
        assert_eq!(all.iter().filter(held_out).count(), 64);
        // Every pair of words occurs in training.
        for &shape in Shape::ALL {
            for &colour in Colour::ALL {
                let mut motions = all
                    .iter()
                    .filter(|t| t.shape == shape && t.colour == colour);
                assert!(motions.any(|t| !t.is_held_out()));
            }
            for &motion in Motion::ALL {
                let colours = all
                    .iter()
                    .filter(|t| t.shape == shape && t.motion == motion);
                assert_eq!(colours.filter(held_out).count(), 2);
            }
        }
    }

    #[test]
    fn shapes_stay_in_the_picture_and_move_as_they_say() {
        let mut rng = ChaCha12Rng::seed_from_u64(7);
        for _ in 0..2000 {
            let scene = Scene::random(&mut rng);
            assert_ne!(scene.colour, scene.background.colour);
            for pose in [scene.start, scene.end] {
                let [x, y] = pose.centre.map(f32::abs);
                assert!(x.max(y) + pose.radius < 0.5, "{scene:?}");
            }
            let (from, to) = (scene.start, scene.end);
            let moved = [0, 1].map(|axis| to.centre[axis] - from.centre[axis]);
            assert_eq!(moved[0] < -0.25, scene.motion == Motion::Left);
            assert_eq!(moved[0] > 0.25, scene.motion == Motion::Right);
            assert_eq!(moved[1] < -0.25, scene.motion == Motion::Up);
            assert_eq!(moved[1] > 0.25, scene.motion == Motion::Down);
            assert_eq!(to.radius > 1.5 * from.radius, scene.motion == Motion::Grow);
            assert_eq!(
                to.radius < 0.6 * from.radius,
                scene.motion == Motion::Shrink
            );
            assert_eq!(to.angle != from.angle, scene.motion == Motion::Spin);
        }
    }
}
