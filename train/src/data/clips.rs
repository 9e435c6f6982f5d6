//! Clips as training asks for them.

use burn::tensor::{DType, Device, Tensor, TensorData};
use rayon::prelude::*;

use crate::{
    error::Result,
    synth::{Scene, held_out_scene, render, training_scene},
};

/// What a batch consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClipRequest {
    /// The clip that the batch begins with; the order is the source's.
    pub first: u64,
    /// Number of clips.
    pub count: usize,
    /// Frames of a clip; 1 for images.
    pub frames: usize,
    /// Height and width in pixels.
    pub size: [usize; 2],
    /// Takes every so many frames of the source.
    pub frame_interval: usize,
}

/// A source of clips.
pub trait Clips: Send {
    /// Clips on `device`, `[count, 3, frames, height, width]` in [−1, 1].
    ///
    /// # Errors
    /// Data that cannot be read.
    fn batch(&mut self, request: &ClipRequest, device: &Device) -> Result<Tensor<5>>;
}

/// Clips that are drawn as they are asked for: never the same twice, nothing on the disk.
#[derive(Clone, Copy, Debug)]
pub struct SynthClips {
    /// Decides all scenes.
    pub seed: u64,
    /// Whether to draw the scenes that training does not see.
    pub held_out: bool,
    /// Frames in which a scene completes its motion.
    pub scene_frames: usize,
}

impl Clips for SynthClips {
    fn batch(&mut self, request: &ClipRequest, device: &Device) -> Result<Tensor<5>> {
        let ClipRequest {
            first,
            count,
            frames,
            size: [height, width],
            ..
        } = *request;
        let indices = first..first + count as u64;
        let values: Vec<f32> = indices
            .into_par_iter()
            .flat_map_iter(|index| self.clip(index, request))
            .collect();
        let data = TensorData::new(values, [count, frames, height, width, 3]);
        let clips = Tensor::<5>::from_data(data, (device, DType::F32));
        Ok(clips.permute([0, 4, 1, 2, 3]) * 2.0 - 1.0)
    }
}

impl SynthClips {
    /// One clip, `[frames, height, width, 3]` in [0, 1]: a stretch of a scene that begins anywhere.
    fn clip(&self, index: u64, request: &ClipRequest) -> Vec<f32> {
        let scene: Scene = match self.held_out {
            true => held_out_scene(self.seed, index),
            false => training_scene(self.seed, index),
        };
        let span = (request.frames - 1) * request.frame_interval;
        let free = self.scene_frames.saturating_sub(span + 1) as u64;
        // Fixed by the index, and spread evenly.
        let begin = (index.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % (free + 1);
        let last = self.scene_frames.max(span + 1) - 1;
        let time = |frame: u64| frame as f32 / last.max(1) as f32;
        let end = begin + span as u64;
        let stretch = scene.stretch(time(begin), time(end));
        let [height, width] = request.size;
        render(&stretch, request.frames, height, width)
    }
}
