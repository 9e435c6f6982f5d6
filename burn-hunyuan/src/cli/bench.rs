//! `burn-hunyuan bench`.

use std::time::Instant;

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{DType, Device, FloatDType, Tensor},
};
use burn_hunyuan_dit::{Condition, DitConfig};
use burn_hunyuan_text::LlamaConfig;
use burn_hunyuan_vae::VaeConfig;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{
    options::{Dtype, Size},
    print,
    watch::host_peak,
};
use crate::{
    checkpoint::Model,
    device,
    error::{Error, Result},
    flops,
    pipeline::{Request, dtype_name},
    sampler::noise,
};

#[derive(Debug, Args)]
pub(super) struct Bench {
    /// What to time
    component: Component,
    /// auto, or BACKEND[:INDEX] as `burn-hunyuan devices` lists them
    #[arg(long, default_value = "auto", value_name = "NAME")]
    device: String,
    /// Number format to compute in
    #[arg(long, default_value = "f32")]
    dtype: Dtype,
    /// Height and width of the video in pixels
    #[arg(long, default_value = "128x128", value_name = "HxW")]
    size: Size,
    /// Number of frames, 4k+1
    #[arg(long, default_value_t = 9)]
    frames: usize,
    /// Sizes of the component
    #[arg(long, default_value = "official")]
    config: Sizes,
    /// Number of dual-stream blocks [default: the configuration's]
    #[arg(long)]
    double_blocks: Option<usize>,
    /// Number of single-stream blocks [default: the configuration's]
    #[arg(long)]
    single_blocks: Option<usize>,
    /// Text tokens, padding included
    #[arg(long, default_value_t = 256)]
    text_tokens: usize,
    /// Text tokens that are not padding [default: all]
    #[arg(long)]
    text_valid: Option<usize>,
    /// Number of timed runs, after one that is not
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Component {
    VaeEncode,
    VaeDecode,
    Dit,
    Text,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Sizes {
    Official,
    Tiny,
}

/// The result, printed as JSON.
#[derive(Serialize)]
struct Report {
    component: String,
    device: String,
    dtype: &'static str,
    size: [usize; 2],
    frames: usize,
    runs: usize,
    /// Of one run.
    seconds: Seconds,
    /// Of the process since it began, in bytes.
    peak_memory: Option<u64>,
    /// Reserved by the device's allocator at the end, in bytes.
    device_memory: Option<u64>,
    /// Multiplications and additions of one run's matrix products and convolutions.
    flop: u64,
    /// At the median time.
    flop_per_second: f64,
}

#[derive(Serialize)]
struct Seconds {
    median: f64,
    min: f64,
    max: f64,
}

/// Work on a device, and how much it is.
struct Work {
    run: Box<dyn Fn()>,
    flop: u64,
}

impl Bench {
    pub fn run(self) -> Result<()> {
        let device = device::open(&self.device)?;
        let dtype = FloatDType::from(self.dtype);
        if !device.supports_dtype(dtype) {
            return Err(Error::Dtype {
                dtype: dtype_name(dtype),
            });
        }
        let Size { height, width } = self.size;
        let request = Request::new("-")
            .with_size(height, width)
            .with_frames(self.frames);
        request.validate()?;

        let work = self.work(&request, &device, dtype.into())?;
        let wait = || {
            device
                .sync()
                .map_err(|e| Error::Unusable(format!("the device failed: {e}")))
        };
        (work.run)();
        wait()?;
        let mut seconds = Vec::new();
        for _ in 0..self.runs {
            let start = Instant::now();
            (work.run)();
            wait()?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        let median = seconds[seconds.len() / 2];
        let component = self.component.to_possible_value();
        let report = Report {
            component: component
                .map(|value| value.get_name().to_string())
                .unwrap_or_default(),
            device: device::description(&device),
            dtype: dtype_name(dtype),
            size: [height, width],
            frames: self.frames,
            runs: seconds.len(),
            seconds: Seconds {
                median,
                min: seconds[0],
                max: seconds[seconds.len() - 1],
            },
            peak_memory: host_peak(),
            device_memory: device.memory_pool_usage().map(|usage| usage.bytes_reserved),
            flop: work.flop,
            flop_per_second: work.flop as f64 / median,
        };
        let json = serde_json::to_string_pretty(&report);
        print(json.map_err(|e| Error::Unusable(e.to_string()))?)
    }

    fn work(&self, request: &Request, device: &Device, dtype: DType) -> Result<Work> {
        let tiny = Model::tiny(device)?;
        let official = self.config == Sizes::Official;
        Ok(match self.component {
            Component::VaeEncode => {
                let config = if official {
                    VaeConfig::new()
                } else {
                    tiny.vae()?.config
                };
                let vae = cast(config.init(device), dtype);
                let size = [request.frames, request.height, request.width];
                let [frames, height, width] = size;
                let video = noise([1, 3, frames, height, width], 0, device).cast(dtype);
                let flop = flops::vae_encode(&config, size);
                let run = Box::new(move || drop(vae.encode(video.clone()).mean.into_data()));
                Work { run, flop }
            }
            Component::VaeDecode => {
                let config = if official {
                    VaeConfig::new()
                } else {
                    tiny.vae()?.config
                };
                let vae = cast(config.init(device), dtype);
                let shape = request.latent_shape(config.latent_channels);
                let latents = noise(shape, 0, device).cast(dtype);
                let flop = flops::vae_decode(&config, [shape[2], shape[3], shape[4]]);
                let run = Box::new(move || drop(vae.decode(latents.clone()).into_data()));
                Work { run, flop }
            }
            Component::Dit => {
                let config = if official {
                    DitConfig::new()
                } else {
                    tiny.transformer()?.config
                };
                self.dit(config, request, device, dtype)?
            }
            Component::Text => {
                let config = if official {
                    LlamaConfig::new()
                } else {
                    tiny.text_encoder()?.config
                };
                let llama = cast(config.init(device), dtype);
                let valid = self.text_valid()?;
                let tokens = Tensor::zeros([1, self.text_tokens], (device, DType::I32));
                let flop = flops::llama(&config, self.text_tokens);
                let run =
                    Box::new(move || drop(llama.forward(tokens.clone(), &[valid]).into_data()));
                Work { run, flop }
            }
        })
    }

    fn dit(
        &self,
        mut config: DitConfig,
        request: &Request,
        device: &Device,
        dtype: DType,
    ) -> Result<Work> {
        let valid = self.text_valid()?;
        config.dual_blocks = self.double_blocks.unwrap_or(config.dual_blocks);
        config.single_blocks = self.single_blocks.unwrap_or(config.single_blocks);
        let dit = cast(config.init(device), dtype);
        let shape = request.latent_shape(config.in_channels);
        let latents = noise(shape, 0, device).cast(dtype);
        let condition = Condition {
            text: noise([1, self.text_tokens, config.text_dim], 1, device).cast(dtype),
            text_lengths: vec![valid],
            pooled: noise([1, config.pooled_dim], 2, device).cast(dtype),
            guidance: Some(Tensor::from_data([6000.0], (device, dtype))),
        };
        let timestep = Tensor::from_data([500.0], (device, DType::F32));
        let flop = flops::dit(&config, [shape[2], shape[3], shape[4]], valid);
        let run = Box::new(move || {
            drop(
                dit.forward(latents.clone(), timestep.clone(), &condition)
                    .into_data(),
            );
        });
        Ok(Work { run, flop })
    }

    fn text_valid(&self) -> Result<usize> {
        let tokens = self.text_tokens;
        let valid = self.text_valid.unwrap_or(tokens);
        if valid == 0 || valid > tokens {
            return Err(Error::Request(format!(
                "{valid} of {tokens} text tokens are valid; --text-valid has to lie between 1 and \
                 --text-tokens"
            )));
        }
        Ok(valid)
    }
}

/// Allocates the parameters, in `dtype`.
fn cast<M: Module>(module: M, dtype: DType) -> M {
    struct Cast(DType);
    impl ModuleMapper for Cast {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| tensor.cast(self.0))
        }
    }
    module.map(&mut Cast(dtype))
}
