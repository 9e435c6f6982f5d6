//! Which clips a step is trained on.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};

use crate::{
    data::ClipRequest,
    error::{Error, Result},
};

/// One entry of the curriculum, a `[[stages]]` section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Steps of this stage.
    pub steps: u64,
    /// Height and width in pixels, multiples of 8.
    pub size: [usize; 2],
    /// Frames of a clip, 4 k + 1.
    pub frames: usize,
    /// Clips in a batch.
    pub batch: usize,
    /// Images in a batch of images.
    #[serde(default = "one")]
    pub images: usize,
    /// Share of the steps that are trained on images. The paper's ratio is 4 : 1.
    #[serde(default = "one_in_five")]
    pub image_share: f64,
    /// Clips take every n-th frame, n drawn from this to that; the paper draws from 1 to 8 to show
    /// fast motion.
    #[serde(default = "every_frame")]
    pub frame_interval: [usize; 2],
    /// Encode and decode half of the clips in tiles, so that tiled inference matches.
    #[serde(default)]
    pub random_tiling: bool,
}

fn one() -> usize {
    1
}

fn one_in_five() -> f64 {
    0.2
}

fn every_frame() -> [usize; 2] {
    [1, 1]
}

impl Stage {
    pub(super) fn validate(&self, index: usize) -> Result<()> {
        let [from, to] = self.frame_interval;
        let checks = [
            (self.steps > 0, "steps has to be above 0"),
            (
                self.size
                    .iter()
                    .all(|side| *side > 0 && side.is_multiple_of(8)),
                "size has to be multiples of 8",
            ),
            (self.frames % 4 == 1, "frames has to be 4 k + 1"),
            (
                self.batch > 0 && self.images > 0,
                "batch and images have to be above 0",
            ),
            (
                (0.0..=1.0).contains(&self.image_share),
                "image_share has to be from 0 to 1",
            ),
            (
                0 < from && from <= to,
                "frame_interval has to be [least, most]",
            ),
        ];
        match checks.iter().find(|(ok, _)| !ok) {
            None => Ok(()),
            Some((_, message)) => Err(Error::Config(format!("stages[{index}].{message}"))),
        }
    }
}

/// What a step is trained on.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The clips.
    pub clips: ClipRequest,
    /// Whether to encode and decode them in tiles.
    pub tiled: bool,
}

/// The stages of a run. What a step takes follows from the seed and the step alone, so a resumed
/// run needs no position.
#[derive(Clone, Debug)]
pub struct Curriculum {
    stages: Vec<Stage>,
    seed: u64,
}

impl Curriculum {
    /// The stages one after the other.
    pub fn new(stages: Vec<Stage>, seed: u64) -> Self {
        Self { stages, seed }
    }

    /// The stage of a step, counted from 1.
    pub fn stage(&self, step: u64) -> &Stage {
        let mut end = 0;
        let current = self.stages.iter().find(|stage| {
            end += stage.steps;
            step <= end
        });
        current.unwrap_or(&self.stages[self.stages.len() - 1])
    }

    /// The random numbers of a step.
    pub fn rng(&self, step: u64) -> ChaCha12Rng {
        let mut rng = ChaCha12Rng::seed_from_u64(self.seed);
        rng.set_stream(step);
        rng
    }

    /// What the step is trained on; `rng` is the step's.
    pub fn batch(&self, step: u64, rng: &mut ChaCha12Rng) -> Batch {
        let stage = self.stage(step);
        let is_image = rng.random_bool(stage.image_share);
        let (frames, count) = match is_image {
            true => (1, stage.images),
            false => (stage.frames, stage.batch),
        };
        let [from, to] = stage.frame_interval;
        Batch {
            clips: ClipRequest {
                // Steps never share a clip.
                first: step << 16,
                count,
                frames,
                size: stage.size,
                frame_interval: rng.random_range(from..=to),
            },
            tiled: stage.random_tiling && rng.random_bool(0.5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(steps: u64, frames: usize) -> Stage {
        Stage {
            steps,
            size: [32, 48],
            frames,
            batch: 2,
            images: 8,
            image_share: 0.2,
            frame_interval: [1, 8],
            random_tiling: false,
        }
    }

    #[test]
    fn stages_follow_each_other_and_the_last_one_lasts() {
        let curriculum = Curriculum::new(vec![stage(10, 1), stage(5, 17)], 0);
        let frames = [1, 10, 11, 15, 16, 1000].map(|step| curriculum.stage(step).frames);
        assert_eq!(frames, [1, 1, 17, 17, 17, 17]);
    }

    #[test]
    fn one_step_in_five_sees_images_and_every_step_repeats_itself() {
        let curriculum = Curriculum::new(vec![stage(1, 17)], 3);
        let batch = |step| curriculum.batch(step, &mut curriculum.rng(step));
        let batches: Vec<Batch> = (1..=2000).map(batch).collect();
        let images = batches.iter().filter(|b| b.clips.frames == 1).count();
        assert!((330..470).contains(&images), "{images}");
        for interval in 1..=8 {
            assert!(batches.iter().any(|b| b.clips.frame_interval == interval));
        }
        assert_eq!(batches[70], batch(71));
        assert!(curriculum.stages[0].validate(0).is_ok());
        let message = Stage {
            frames: 16,
            ..stage(1, 1)
        }
        .validate(2)
        .unwrap_err();
        assert!(message.to_string().contains("stages[2].frames"));
    }
}
