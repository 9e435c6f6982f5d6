//! What to generate.

use burn::tensor::Tensor;

use crate::error::{Error, Result};

/// Pixels to a latent, in height and width.
const PIXELS: usize = burn_hunyuan_vae::SPATIAL_COMPRESSION;
/// Frames to a latent, after the first.
const FRAMES: usize = burn_hunyuan_vae::TEMPORAL_COMPRESSION;
/// Latents to a token of the transformer, in height and width.
const PATCH: usize = 2;
/// Largest height and width: no format of videos holds more pixels in a row than u16 counts.
const MAX_SIDE: usize = u16::MAX as usize / (PIXELS * PATCH) * (PIXELS * PATCH);
/// Most frames, seven minutes of them.
const MAX_FRAMES: usize = 10_001;
/// Most steps. In training there are 1000 noise levels.
const MAX_STEPS: usize = 10_000;

/// A video to generate. The defaults are those of Tencent's sampling script.
#[derive(Debug, Clone)]
pub struct Request {
    /// What the video shows.
    pub prompt: String,
    /// What it shall not show; takes effect with a [`cfg`](Self::cfg) above 1.
    pub negative_prompt: Option<String>,
    /// Height in pixels, a multiple of 16.
    pub height: usize,
    /// Width in pixels, a multiple of 16.
    pub width: usize,
    /// Number of frames, 4 k + 1.
    pub frames: usize,
    /// Number of denoising steps.
    pub steps: usize,
    /// Embedded guidance scale, for guidance-distilled models.
    pub guidance: f64,
    /// True classifier-free guidance scale; 1 turns it off. It doubles the work.
    pub cfg: f64,
    /// Shift of the noise schedule; the model's own if `None`.
    pub flow_shift: Option<f64>,
    /// Relative change of the first block's work up to which a step reuses the rest of the blocks'
    /// (see [`FirstBlockCache`](burn_hunyuan_dit::FirstBlockCache)); `None` runs every step whole.
    pub cache_threshold: Option<f64>,
    /// Seed of the initial noise.
    pub seed: u64,
    /// Used instead of noise if given: `[1, channels, (frames − 1) / 4 + 1, height / 8, width / 8]`.
    pub init_latents: Option<Tensor<5>>,
}

/// Frames a second of what the built-in model was trained on.
pub const TINY_FPS: f64 = 8.0;

impl Request {
    /// A request with the official defaults: 720 × 1280, 129 frames, 50 steps, guidance 6.
    pub fn new(prompt: impl Into<String>) -> Self {
        Self {
            prompt: prompt.into(),
            negative_prompt: None,
            height: 720,
            width: 1280,
            frames: 129,
            steps: 50,
            guidance: 6.0,
            cfg: 1.0,
            flow_shift: None,
            cache_threshold: None,
            seed: 0,
            init_latents: None,
        }
    }

    /// A request to the [built-in model](crate::checkpoint::Model::tiny) for what it was trained
    /// on: 64 × 64, 17 frames, which are to be shown at [`TINY_FPS`], 20 steps.
    pub fn tiny(prompt: impl Into<String>) -> Self {
        let request = Self::new(prompt).with_size(64, 64);
        Self {
            negative_prompt: Some(String::new()),
            cfg: 5.0,
            ..request.with_frames(17).with_steps(20)
        }
    }

    /// Sets height and width in pixels.
    pub fn with_size(mut self, height: usize, width: usize) -> Self {
        (self.height, self.width) = (height, width);
        self
    }

    /// Sets the number of frames.
    pub fn with_frames(mut self, frames: usize) -> Self {
        self.frames = frames;
        self
    }

    /// Sets the number of denoising steps.
    pub fn with_steps(mut self, steps: usize) -> Self {
        self.steps = steps;
        self
    }

    /// Sets the seed.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The negative prompt, if it takes effect.
    ///
    /// As in the reference, a [`cfg`](Self::cfg) above 1 without a negative prompt does nothing.
    pub fn effective_negative_prompt(&self) -> Option<&str> {
        self.negative_prompt.as_deref().filter(|_| self.cfg > 1.0)
    }

    /// The shape of the latents, `[1, channels, frames, height, width]`.
    pub fn latent_shape(&self, channels: usize) -> [usize; 5] {
        let frames = (self.frames - 1) / FRAMES + 1;
        [
            1,
            channels,
            frames,
            self.height / PIXELS,
            self.width / PIXELS,
        ]
    }

    /// Checks what can be checked without a model.
    ///
    /// # Errors
    /// Names the value that cannot be, and the nearest ones that can.
    pub fn validate(&self) -> Result<()> {
        let refuse = |message: String| Err(Error::Request(message));
        if self.prompt.trim().is_empty() {
            return refuse("the prompt is empty; say what the video shows".into());
        }
        for (axis, pixels) in [("height", self.height), ("width", self.width)] {
            let unit = PIXELS * PATCH;
            if pixels > MAX_SIDE {
                return refuse(format!(
                    "the {axis} is {pixels}; it can be {MAX_SIDE} at most"
                ));
            }
            if pixels == 0 || !pixels.is_multiple_of(unit) {
                let below = (pixels / unit * unit).max(unit);
                return refuse(format!(
                    "the {axis} is {pixels}, not a multiple of {unit}; try {below} or {}",
                    below + unit
                ));
            }
        }
        if self.frames > MAX_FRAMES {
            return refuse(format!(
                "{} frames are too many; use {MAX_FRAMES} at most",
                self.frames
            ));
        }
        if self.frames % FRAMES != 1 {
            let below = self.frames.saturating_sub(1) / FRAMES * FRAMES + 1;
            return refuse(format!(
                "{} frames are not 4 k + 1; try {below} or {}",
                self.frames,
                below + FRAMES
            ));
        }
        if self.steps == 0 {
            return refuse("0 steps leave the noise as it is; use at least 1".into());
        }
        if self.steps > MAX_STEPS {
            return refuse(format!(
                "{} steps are too many; use {MAX_STEPS} at most, 50 are usual",
                self.steps
            ));
        }
        let scales = [("guidance", self.guidance), ("cfg", self.cfg)];
        if let Some((name, value)) = scales.into_iter().find(|(_, value)| !value.is_finite()) {
            return refuse(format!(
                "the {name} scale is {value}; it has to be a finite number"
            ));
        }
        if let Some(threshold) = self.cache_threshold
            && !(threshold.is_finite() && threshold >= 0.0)
        {
            return refuse(format!(
                "the cache threshold is {threshold}; it has to be 0 or more, as 0.1"
            ));
        }
        match self.flow_shift {
            Some(shift) if !(shift.is_finite() && shift > 0.0) => {
                refuse(format!("the flow shift is {shift}; it has to be above 0"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(request: Request) -> String {
        request.validate().unwrap_err().to_string()
    }

    #[test]
    fn impossible_requests_are_refused_with_a_way_out() {
        let request = || Request::new("a cat");
        assert!(request().validate().is_ok());
        assert!(message(Request::new(" \n")).contains("prompt is empty"));
        assert!(message(request().with_size(100, 64)).contains("try 96 or 112"));
        assert!(message(request().with_size(64, 7)).contains("try 16 or 32"));
        assert!(message(request().with_frames(16)).contains("try 13 or 17"));
        assert!(message(request().with_frames(0)).contains("try 1 or 5"));
        assert!(message(request().with_steps(0)).contains("at least 1"));
        // Numbers that nothing could be allocated for.
        assert!(message(request().with_steps(usize::MAX)).contains("10000 at most"));
        assert!(message(request().with_frames(4_000_000_001)).contains("10001 at most"));
        assert!(message(request().with_frames(usize::MAX)).contains("10001 at most"));
        assert!(message(request().with_size(1 << 40, 64)).contains("65520 at most"));
        let shift = Request {
            flow_shift: Some(0.0),
            ..request()
        };
        assert!(message(shift).contains("above 0"));
        let threshold = Request {
            cache_threshold: Some(f64::NAN),
            ..request()
        };
        assert!(message(threshold).contains("0 or more"));
    }

    #[test]
    fn latents_are_a_quarter_and_an_eighth() {
        let request = Request::new("a cat").with_size(720, 1280).with_frames(129);
        assert_eq!(request.latent_shape(16), [1, 16, 33, 90, 160]);
    }
}
