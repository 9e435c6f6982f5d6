//! From a prompt to a video: encode the prompt, remove the noise, decode the latents.
//!
//! Each step loads the component it needs and frees it before the next one loads, so that the
//! largest component, not their sum, decides how much memory a run takes.

mod condition;
mod decode;
mod denoise;
mod llama;
mod load;
mod progress;
mod prompt_cache;
mod request;
mod stored;
mod transformer;

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use burn::tensor::{Device, FloatDType, Tensor};
use burn_hunyuan_text::ClipTextEncoder;
use burn_hunyuan_vae::{TilingMode, Vae};
use image::RgbImage;

use crate::{
    checkpoint::{Component, Model, Quantization},
    device,
    error::{Error, Result},
    plan::{Architecture, Plan, Settings},
    video::{self, VideoWriter},
};

use llama::Llama;
use prompt_cache::PromptCache;
use transformer::Transformer;

pub use condition::PromptCondition;
pub use decode::{frame_images, video_tensor};
pub(crate) use denoise::GUIDED_STEPS;
pub use progress::{Observer, Progress, Stage};
pub use request::{Request, TINY_FPS};
pub use stored::Offload;

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
    quantization: Option<Quantization>,
    offload: Offload,
    memory_limit: Option<u64>,
    /// How the latest request fits.
    plan: Option<Plan>,
    prompt_cache: Option<PromptCache>,
    observer: Observer,
    text_encoder: Option<Arc<Llama>>,
    text_encoder_2: Option<Arc<ClipTextEncoder>>,
    transformer: Option<Arc<Transformer>>,
    vae: Option<Arc<Vae>>,
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
        let dtype = run_dtype(&device, None, first.weights.main_dtype())?;
        Ok(Self {
            model,
            device,
            dtype,
            vae_tiling: TilingMode::Auto,
            keep_loaded: false,
            quantization: None,
            offload: Offload::Auto,
            memory_limit: None,
            plan: None,
            prompt_cache: None,
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
        self.dtype = run_dtype(&self.device, Some(dtype), self.dtype)?;
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

    /// Compresses the large weights of the transformer's blocks when it is loaded. They stay so, and
    /// are decoded to run: on the device if it is an accelerator and they fit there, else from the
    /// host's memory, block by block.
    ///
    /// # Errors
    /// With [`Offload::None`] on a CPU, where nothing would be gained.
    pub fn with_quantization(mut self, quantization: Option<Quantization>) -> Result<Self> {
        self.quantization = quantization;
        self.settings().check()?;
        Ok(self)
    }

    /// Sets where the transformer's blocks and LLaMA's layers are while they do not run.
    ///
    /// # Errors
    /// [`Offload::None`] with a [quantization](Self::with_quantization) on a CPU, where nothing would
    /// be gained.
    pub fn with_offload(mut self, offload: Offload) -> Result<Self> {
        self.offload = offload;
        self.settings().check()?;
        Ok(self)
    }

    /// Sets how much of the device's memory a generation may take, in bytes, instead of all.
    pub fn with_memory_limit(mut self, limit: Option<u64>) -> Self {
        self.memory_limit = limit;
        self
    }

    /// Keeps encoded prompts in `folder`, so that a prompt given again needs no text encoder. Files
    /// there may be removed at any time.
    pub fn with_prompt_cache(mut self, folder: Option<PathBuf>) -> Self {
        self.prompt_cache = folder.map(PromptCache::new);
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

    /// Decides what [`Offload::Auto`] leaves open so that `request` is predicted to fit in memory, and
    /// with a [limit](Self::with_memory_limit) the VAE's tiles. `None` where the device does not tell
    /// its memory and there is no limit.
    ///
    /// # Errors
    /// What to change where nothing fits.
    pub fn fit(&mut self, request: &Request) -> Result<Option<Plan>> {
        self.plan = None;
        let Some(limit) = self.memory_limit.or_else(|| device::memory(&self.device)) else {
            return Ok(None);
        };
        let architecture = Architecture::of(&self.model, &self.device)?;
        self.plan = Some(architecture.plan(request, self.settings(), limit)?);
        Ok(self.plan)
    }

    fn settings(&self) -> Settings {
        Settings {
            dtype: self.dtype,
            quantization: self.quantization,
            offload: self.offload,
            vae_tiling: self.vae_tiling,
            keep_loaded: self.keep_loaded,
            is_host: device::is_host(&self.device),
        }
    }

    /// Generates a video.
    ///
    /// # Errors
    /// [`check`](Self::check)'s and [`fit`](Self::fit)'s, weights that cannot be loaded, and [`Error::Cancelled`].
    pub fn generate(&mut self, request: &Request) -> Result<Video> {
        self.check(request)?;
        self.fit(request)?;
        let video = self.run(request);
        // A failure leaves loaded what was being used.
        for component in Component::ALL {
            self.free(component);
        }
        video
    }

    fn run(&mut self, request: &Request) -> Result<Video> {
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
    ///
    /// # Errors
    /// No frames, an extension of no known format, a file that cannot be written.
    pub fn save(&self, path: &Path, fps: f64) -> Result<()> {
        let Some(first) = self.frames.first() else {
            return Err(Error::Request("the video has no frames to be saved".into()));
        };
        let quality = video::Quality::default();
        let mut writer = VideoWriter::create(path, first.width(), first.height(), fps, quality)?;
        for frame in &self.frames {
            writer.write(frame)?;
        }
        Ok(writer.finish()?)
    }
}

/// The number format in which a model that is stored as `stored` runs on `device`: the one that is
/// `wanted`, else as it is stored, else f32 where the device cannot compute in that.
///
/// # Errors
/// When the device cannot compute in the one that is wanted.
pub fn run_dtype(
    device: &Device,
    wanted: Option<FloatDType>,
    stored: FloatDType,
) -> Result<FloatDType> {
    match wanted {
        Some(dtype) if !device.supports_dtype(dtype) => Err(Error::Dtype {
            dtype: dtype_name(dtype),
        }),
        Some(dtype) => Ok(dtype),
        None if device.supports_dtype(stored) => Ok(stored),
        None => Ok(FloatDType::F32),
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

/// Fails when a tensor holds NaN or infinity; `what` names it.
fn ensure_finite<const D: usize>(tensor: &Tensor<D>, what: impl FnOnce() -> String) -> Result<()> {
    // x − x is 0 where x is finite and NaN elsewhere, so one number tells.
    let sum = (tensor.clone() - tensor.clone()).sum();
    match crate::tensors::to_f32(sum).first() {
        Some(0.0) => Ok(()),
        _ => Err(Error::NotFinite { what: what() }),
    }
}
