//! From a prompt to a video: encode the prompt, remove the noise, decode the latents.
//!
//! Each step loads the component it needs and frees it before the next one loads, so that the
//! largest component, not their sum, decides how much memory a run takes.

mod condition;
mod decode;
mod denoise;
mod load;
mod progress;
mod request;

use std::{ops::ControlFlow, path::Path};

use burn::tensor::{Device, FloatDType, Tensor};
use burn_hunyuan_dit::Dit;
use burn_hunyuan_text::{ClipTextEncoder, LlamaTextEncoder};
use burn_hunyuan_vae::{TilingMode, Vae};
use image::RgbImage;

use crate::{
    checkpoint::{Component, Model},
    error::{Error, Result},
    video::{self, VideoWriter},
};

pub use condition::PromptCondition;
pub use decode::{frame_images, video_tensor};
pub use progress::{Observer, Progress, Stage};
pub use request::{Request, TINY_FPS};

/// HunyuanVideo on one device.
///
/// ```no_run
/// use burn_hunyuan::{Pipeline, Request, checkpoint::{Component, Model}, device};
///
/// # fn main() -> burn_hunyuan::Result<()> {
/// let model = Model::open(&["HunyuanVideo"])?;
/// let mut pipeline = Pipeline::new(model, device::open("auto")?)?;
/// let request = Request::new("A cat walks on the grass, realistic style.").with_size(544, 960);
/// pipeline.generate(&request)?.save("cat.mp4".as_ref(), 24.0)?;
/// # Ok(())
/// # }
/// ```
pub struct Pipeline {
    model: Model,
    device: Device,
    dtype: FloatDType,
    vae_tiling: TilingMode,
    keep_loaded: bool,
    observer: Observer,
    text_encoder: Option<LlamaTextEncoder>,
    text_encoder_2: Option<ClipTextEncoder>,
    transformer: Option<Dit>,
    vae: Option<Vae>,
}

/// Frames in memory.
#[derive(Debug, Clone)]
pub struct Video {
    /// The frames in order, all of one size.
    pub frames: Vec<RgbImage>,
}

impl Pipeline {
    /// A pipeline that computes in the number format in which the transformer is stored (or the
    /// first component where there is none), or in f32 where the device cannot.
    ///
    /// A component that is absent is an error only when it is needed.
    ///
    /// # Errors
    /// When the model has no component at all.
    pub fn new(model: Model, device: Device) -> Result<Self> {
        let Some(first) = model.components().next() else {
            return Err(Error::Request("the model has no components".into()));
        };
        let stored = first.weights.main_dtype();
        let dtype = if device.supports_dtype(stored) {
            stored
        } else {
            FloatDType::F32
        };
        Ok(Self {
            model,
            device,
            dtype,
            vae_tiling: TilingMode::Auto,
            keep_loaded: false,
            observer: Box::new(|_| ControlFlow::Continue(())),
            text_encoder: None,
            text_encoder_2: None,
            transformer: None,
            vae: None,
        })
    }

    /// Computes in `dtype` instead.
    ///
    /// # Errors
    /// When the device cannot.
    pub fn with_dtype(mut self, dtype: FloatDType) -> Result<Self> {
        if !self.device.supports_dtype(dtype) {
            return Err(Error::Dtype {
                dtype: dtype_name(dtype),
            });
        }
        self.dtype = dtype;
        Ok(self)
    }

    /// Sets how the VAE cuts clips into tiles; by default only those that do not fit in memory.
    pub fn with_vae_tiling(mut self, tiling: TilingMode) -> Self {
        self.vae_tiling = tiling;
        self
    }

    /// Keeps every component loaded between steps and runs, where memory allows for their sum.
    pub fn with_keep_loaded(mut self, keep_loaded: bool) -> Self {
        self.keep_loaded = keep_loaded;
        self
    }

    /// Reports progress to `observer`, which may break off.
    pub fn with_observer(
        mut self,
        observer: impl FnMut(Progress) -> ControlFlow<()> + Send + 'static,
    ) -> Self {
        self.observer = Box::new(observer);
        self
    }

    /// The device that it runs on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The number format that it computes in.
    pub fn dtype(&self) -> FloatDType {
        self.dtype
    }

    /// Checks that the model can satisfy a request, without reading a weight.
    ///
    /// # Errors
    /// [`Request::validate`]'s, initial latents of another shape, and those of
    /// [`Model::check_whole`].
    pub fn check(&self, request: &Request) -> Result<()> {
        request.validate()?;
        self.model.check_whole(&self.device)?;
        self.latent_shape(request)?;
        Ok(())
    }

    /// Generates a video.
    ///
    /// # Errors
    /// [`check`](Self::check)'s, weights that cannot be loaded, and [`Error::Cancelled`].
    pub fn generate(&mut self, request: &Request) -> Result<Video> {
        self.check(request)?;
        let condition = self.encode_prompt(&request.prompt)?;
        let negative = match request.effective_negative_prompt() {
            Some(prompt) => Some(self.encode_prompt(prompt)?),
            None => None,
        };
        self.free(Component::TextEncoder);
        self.free(Component::TextEncoder2);
        let latents = self.denoise(request, &condition, negative.as_ref())?;
        self.free(Component::Transformer);
        let mut frames = Vec::with_capacity(request.frames);
        self.decode(latents, &mut |stretch| {
            frames.extend(frame_images(stretch));
            Ok(())
        })?;
        self.free(Component::Vae);
        Ok(Video { frames })
    }

    /// Tells the observer, and stops if it says so.
    fn report(&mut self, stage: Stage, done: u64, total: u64) -> Result<()> {
        match (self.observer)(Progress { stage, done, total }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Cancelled),
        }
    }

    /// Waits for the device, so that times and memory reported afterwards are true.
    fn wait(&self) {
        // An asynchronous failure is reported by the next read of a tensor, which has a name.
        let _ = self.device.sync();
    }
}

impl Video {
    /// Writes an mp4, a GIF or PNG files, as the path's extension says
    /// (see [`VideoWriter::create`]).
    pub fn save(&self, path: &Path, fps: f64) -> Result<()> {
        let Some(first) = self.frames.first() else {
            return Ok(());
        };
        let quality = video::Quality::default();
        let mut writer = VideoWriter::create(path, first.width(), first.height(), fps, quality)?;
        for frame in &self.frames {
            writer.write(frame)?;
        }
        Ok(writer.finish()?)
    }
}

/// The name of a number format on the command line.
pub fn dtype_name(dtype: FloatDType) -> &'static str {
    match dtype {
        FloatDType::F64 => "f64",
        FloatDType::F32 | FloatDType::Flex32 => "f32",
        FloatDType::F16 => "f16",
        FloatDType::BF16 => "bf16",
    }
}

/// Fails when a tensor holds NaN or infinity.
fn ensure_finite<const D: usize>(tensor: &Tensor<D>, what: &'static str) -> Result<()> {
    // x − x is 0 where x is finite and NaN elsewhere, so one number tells.
    let sum = (tensor.clone() - tensor.clone()).sum();
    match crate::tensors::to_f32(sum).first() {
        Some(0.0) => Ok(()),
        _ => Err(Error::NotFinite { what }),
    }
}
