//! The camera: the motion of the picture as a whole, apart from what moves in it.

use serde::{Deserialize, Serialize};

use super::field::Step;

/// Rounds of reweighting; the fit settles in fewer than ten.
const ROUNDS: usize = 15;

/// A residual that is always taken as agreement, in diagonals: 0.03 pixels of 256 x 144.
const AGREEMENT: f64 = 1e-4;

/// The motion of the camera over a clip, as the picture shows it.
///
/// Pan, tilt, zoom and roll are means over time and keep their sign, so that a movement to and fro
/// is none.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Camera {
    /// Mean speed of the picture under the camera's motion, in diagonals a second.
    pub speed: f64,
    /// To the right, in diagonals a second: what is seen moves to the left.
    pub pan: f64,
    /// Upwards, in diagonals a second: what is seen moves down.
    pub tilt: f64,
    /// Growth of what is seen a second: 0.1 is 10 %. Negative when zooming out.
    pub zoom: f64,
    /// Turn of what is seen, clockwise, in radians a second.
    pub roll: f64,
    /// Shake: how far the speed of pan and tilt lies from the mean of the moments before and after,
    /// in diagonals a second. Steady and steadily accelerated motion have none.
    pub jitter: f64,
}

impl Camera {
    /// No motion.
    pub const STILL: Self = Self {
        speed: 0.0,
        pan: 0.0,
        tilt: 0.0,
        zoom: 0.0,
        roll: 0.0,
        jitter: 0.0,
    };

    /// The camera over a clip's steps, which are not none.
    pub(super) fn of(steps: &[Step]) -> Self {
        let seconds: f64 = steps.iter().map(|step| step.seconds).sum();
        let mean = |of: &dyn Fn(&Step) -> f64| {
            steps
                .iter()
                .map(|step| of(step) * step.seconds)
                .sum::<f64>()
                / seconds
        };
        let jolts = steps.windows(3).map(|three| {
            let [before, at, after] = [0, 1, 2].map(|i| three[i].camera.centre());
            let off = |axis: usize| at[axis] - (before[axis] + after[axis]) / 2.0;
            off(0).hypot(off(1))
        });
        Self {
            speed: mean(&|step| step.camera_speed),
            pan: -mean(&|step| step.camera.u[0]),
            tilt: mean(&|step| step.camera.v[0]),
            zoom: mean(&|step| (step.camera.u[1] + step.camera.v[2]) / 2.0),
            roll: mean(&|step| (step.camera.v[1] - step.camera.u[2]) / 2.0),
            jitter: jolts.sum::<f64>() / steps.len().saturating_sub(2).max(1) as f64,
        }
    }
}

/// Flow at a place, both in diagonals from the picture's centre, right and down.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub x: f64,
    pub y: f64,
    pub u: f64,
    pub v: f64,
    /// Trust from 0 to 1.
    pub weight: f64,
}

/// A flow that is an affine function of the place: `u[0] + u[1] x + u[2] y` to the right and `v`
/// alike downwards.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Affine {
    pub u: [f64; 3],
    pub v: [f64; 3],
}

impl Affine {
    /// The flow that most of the samples agree on.
    ///
    /// Least squares with Cauchy weights, scaled by the median residual and begun from the median
    /// flow, so that objects with a motion of their own have little say.
    pub fn fit(samples: &[Sample]) -> Self {
        let mut affine = Self {
            u: [weighted_median(samples, |s| s.u), 0.0, 0.0],
            v: [weighted_median(samples, |s| s.v), 0.0, 0.0],
        };
        for _ in 0..ROUNDS {
            let residual = |s: &Sample| {
                let [u, v] = affine.at(s.x, s.y);
                (s.u - u).hypot(s.v - v)
            };
            let scale = weighted_median(samples, residual) + AGREEMENT;
            let weights = samples
                .iter()
                .map(|s| s.weight / (1.0 + (residual(s) / scale).powi(2)));
            let Some(better) = Self::least_squares(samples.iter().zip(weights)) else {
                break;
            };
            affine = better;
        }
        affine
    }

    /// `None` if the weighted samples do not determine it.
    fn least_squares<'a>(samples: impl Iterator<Item = (&'a Sample, f64)>) -> Option<Self> {
        let mut normal = [[0.0; 3]; 3];
        let [mut u, mut v] = [[0.0; 3]; 2];
        for (sample, weight) in samples {
            let place = [1.0, sample.x, sample.y];
            for i in 0..3 {
                for j in 0..3 {
                    normal[i][j] += weight * place[i] * place[j];
                }
                u[i] += weight * place[i] * sample.u;
                v[i] += weight * place[i] * sample.v;
            }
        }
        Some(Self {
            u: solve(&normal, u)?,
            v: solve(&normal, v)?,
        })
    }

    /// The flow at a place.
    pub fn at(&self, x: f64, y: f64) -> [f64; 2] {
        [self.u, self.v].map(|[constant, by_x, by_y]| constant + by_x * x + by_y * y)
    }

    /// The flow at the picture's centre.
    fn centre(&self) -> [f64; 2] {
        [self.u[0], self.v[0]]
    }

    /// The flow times a factor.
    pub fn scaled(&self, factor: f64) -> Self {
        Self {
            u: self.u.map(|v| v * factor),
            v: self.v.map(|v| v * factor),
        }
    }
}

/// Solves a symmetric system by Cramer's rule; `None` if it is close to singular.
fn solve(matrix: &[[f64; 3]; 3], right: [f64; 3]) -> Option<[f64; 3]> {
    let determinant = |columns: [[f64; 3]; 3]| {
        let [a, b, c] = columns;
        a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0])
            + a[2] * (b[0] * c[1] - b[1] * c[0])
    };
    let whole = determinant(*matrix);
    let size = matrix[0][0] * matrix[1][1] * matrix[2][2];
    (whole > 1e-9 * size).then(|| {
        [0, 1, 2].map(|i| {
            let mut replaced = *matrix;
            replaced[i] = right;
            determinant(replaced) / whole
        })
    })
}

/// The value with half of the weight on either side; 0 without any weight.
fn weighted_median(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<(f64, f64)> = samples.iter().map(|s| (value(s), s.weight)).collect();
    values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let half = values.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    let mut sum = 0.0;
    let middle = values.iter().find(|(_, weight)| {
        sum += weight;
        sum >= half && *weight > 0.0
    });
    middle.map_or(0.0, |(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples over a picture of 16:9, with their flow.
    fn samples(flow: impl Fn(f64, f64) -> [f64; 2]) -> Vec<Sample> {
        let places = (0..32 * 18).map(|i| (f64::from(i % 32), f64::from(i / 32)));
        places
            .map(|(column, row)| {
                let (x, y) = ((column - 15.5) / 36.7, (row - 8.5) / 36.7);
                let [u, v] = flow(x, y);
                let weight = 1.0;
                Sample { x, y, u, v, weight }
            })
            .collect()
    }

    fn assert_near(a: &Affine, b: &Affine, bound: f64) {
        let pairs = a.u.iter().chain(&a.v).zip(b.u.iter().chain(&b.v));
        for (x, y) in pairs {
            assert!((x - y).abs() < bound, "{a:?} is not {b:?}");
        }
    }

    const TRUTH: Affine = Affine {
        u: [0.01, 0.03, -0.02],
        v: [-0.005, 0.02, 0.03],
    };

    #[test]
    fn an_affine_flow_is_found() {
        assert_near(&Affine::fit(&samples(|x, y| TRUTH.at(x, y))), &TRUTH, 1e-9);
    }

    /// A third of the picture moves on its own.
    #[test]
    fn subjects_do_not_move_the_camera() {
        let flow = |x: f64, y: f64| match x < -0.15 {
            true => [0.08, 0.05],
            false => TRUTH.at(x, y),
        };
        assert_near(&Affine::fit(&samples(flow)), &TRUTH, 1e-3);
    }

    #[test]
    fn without_texture_there_is_no_motion() {
        let mut samples = samples(|_, _| [0.1, 0.1]);
        samples.iter_mut().for_each(|s| s.weight = 0.0);
        assert_eq!(Affine::fit(&samples), Affine::default());
    }
}
