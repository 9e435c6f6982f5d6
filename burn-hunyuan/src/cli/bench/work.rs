//! The components, made ready to run.

use std::ops::ControlFlow;

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{DType, Device, FloatDType, Tensor},
};
use burn_hunyuan_dit::{Condition, Dit, DitConfig};
use burn_hunyuan_kernels::ParameterPath;
use burn_hunyuan_text::{ClipConfig, LlamaConfig};
use burn_hunyuan_vae::{Vae, VaeConfig};
use indicatif::HumanBytes;

use super::{Component, Sizes, Workload, flops};
use crate::{
    checkpoint::{Error as CheckpointError, Model, Part, load_module},
    device,
    error::{Error, Result},
    pipeline::Request,
    sampler::noise,
    tensors::load_tensor,
};

/// Work on a device, and how much it is.
pub(super) struct Work {
    /// Computes the output, flattened.
    pub run: Box<dyn Fn() -> Tensor<1>>,
    pub flop: u64,
}

impl Work {
    /// Makes the component and its inputs.
    pub fn new(
        bench: &Workload,
        request: &Request,
        device: &Device,
        dtype: FloatDType,
    ) -> Result<Self> {
        let maker = Maker {
            bench,
            request,
            device,
            dtype,
        };
        match bench.component {
            Component::VaeEncode => maker.vae_encode(),
            Component::VaeDecode => maker.vae_decode(),
            Component::Dit => maker.dit(),
            Component::Text => maker.llama(),
            Component::Clip => maker.clip(),
            #[cfg(feature = "train")]
            Component::TrainDit => maker.train_dit(),
            #[cfg(feature = "train")]
            Component::TrainVae => maker.train_vae(),
        }
    }
}

/// What every component is made from.
struct Maker<'a> {
    bench: &'a Workload,
    request: &'a Request,
    device: &'a Device,
    dtype: FloatDType,
}

impl Maker<'_> {
    fn vae_encode(&self) -> Result<Work> {
        let (config, vae) = self.vae(self.device)?;
        let video = self.input("video", self.video_shape())?.cast(self.dtype);
        let flop = flops::vae_encode(&config, self.video_size());
        let run = Box::new(move || vae.encode(video.clone()).mean.flatten(0, 4));
        Ok(Work { run, flop })
    }

    fn vae_decode(&self) -> Result<Work> {
        let (config, vae) = self.vae(self.device)?;
        let shape = self.request.latent_shape(config.latent_channels);
        let latents = self.input("latents", shape)?.cast(self.dtype);
        let flop = flops::vae_decode(&config, [shape[2], shape[3], shape[4]]);
        let run = Box::new(move || vae.decode(latents.clone()).flatten(0, 4));
        Ok(Work { run, flop })
    }

    fn dit(&self) -> Result<Work> {
        let (config, dit) = self.transformer(self.device)?;
        let inputs = DitInputs::new(self, &config)?;
        let flop = inputs.flop;
        let run = Box::new(move || {
            let DitInputs {
                latents, timestep, ..
            } = &inputs;
            let velocity = dit.forward(latents.clone(), timestep.clone(), &inputs.condition);
            velocity.flatten(0, 4)
        });
        Ok(Work { run, flop })
    }

    fn llama(&self) -> Result<Work> {
        let official = LlamaConfig::new();
        let layers = self.bench.layers.unwrap_or(official.layers);
        let part = |model: &Model| model.text_encoder();
        let (config, llama) = self.module(part, official.with_layers(layers), |config| {
            config.init(self.device)
        })?;
        // Padding does not run.
        let (tokens, valid) = (self.bench.text_tokens, self.bench.text_valid()?);
        let ids = self.token_ids(tokens)?.narrow(1, 0, valid);
        let flop = flops::llama(&config, valid);
        let run = Box::new(move || llama.forward(ids.clone()).flatten(0, 2));
        Ok(Work { run, flop })
    }

    fn clip(&self) -> Result<Work> {
        let official = ClipConfig::new();
        let layers = self.bench.layers.unwrap_or(official.layers);
        let part = |model: &Model| model.text_encoder_2();
        let (config, clip) = self.module(part, official.with_layers(layers), |config| {
            config.init(self.device)
        })?;
        let ids = self.token_ids(config.positions)?;
        let flop = flops::clip(&config, config.positions);
        let run = Box::new(move || clip.forward(ids.clone()).flatten(0, 1));
        Ok(Work { run, flop })
    }

    #[cfg(feature = "train")]
    fn train_dit(&self) -> Result<Work> {
        use burn_hunyuan_train::dit::{PathPoint, gradients_by_block};

        let (config, dit) = self.transformer(&self.device.clone().autodiff())?;
        let inputs = DitInputs::new(self, &config)?;
        let flop = 3 * inputs.flop;
        let point = PathPoint {
            velocity: self.input("velocity", inputs.latents.dims())?,
            latents: inputs.latents,
            timestep: inputs.timestep,
        };
        let condition = inputs.condition;
        let run = Box::new(move || {
            let (loss, gradients) = gradients_by_block(&dit, &point, &condition, 1.0);
            Tensor::from_floats(
                [loss as f32, gradients.norm() as f32],
                &point.latents.device(),
            )
        });
        Ok(Work { run, flop })
    }

    #[cfg(feature = "train")]
    fn train_vae(&self) -> Result<Work> {
        use burn_hunyuan_train::{loss, optimizer::Gradients};

        let (config, vae) = self.vae(&self.device.clone().autodiff())?;
        let video = self.input("video", self.video_shape())?;
        let latents = self.request.latent_shape(config.latent_channels);
        let flop = flops::vae_encode(&config, self.video_size())
            + flops::vae_decode(&config, [latents[2], latents[3], latents[4]]);
        let run = Box::new(move || {
            let video = video.clone().autodiff();
            let loss = loss::l1(vae.decode(vae.encode(video.clone()).mean), video);
            let gradients = Gradients::of(&vae, &mut loss.backward());
            let device = loss.device();
            let values = [loss.into_scalar::<f32>(), gradients.norm() as f32];
            Tensor::from_floats(values, &device)
        });
        Ok(Work {
            run,
            flop: 3 * flop,
        })
    }

    /// A component of the checkpoint; without one, of the sizes asked for, with random weights.
    fn module<C, M: Module>(
        &self,
        part: impl Fn(&Model) -> std::result::Result<Part<C>, CheckpointError>,
        official: C,
        init: impl Fn(&C) -> M,
    ) -> Result<(C, M)> {
        if let Some(path) = &self.bench.weights {
            let Part { config, weights } = part(&Model::open(&[path])?)?;
            let go_on = &mut |_, _| ControlFlow::Continue(());
            let module = load_module(init(&config), &weights, self.dtype, go_on)?;
            return Ok((config, module));
        }
        let config = match self.bench.config {
            Sizes::Official => official,
            Sizes::Tiny => part(&Model::tiny(self.device)?)?.config,
        };
        let module = init(&config);
        self.refuse_beyond_memory(&module)?;
        Ok((config, as_loaded(module, self.dtype)))
    }

    /// Refuses random weights that the device has no memory for, before any is made.
    fn refuse_beyond_memory(&self, module: &impl Module) -> Result<()> {
        let weights = (module.num_params() * DType::from(self.dtype).size()) as u64;
        match device::memory(self.device) {
            Some(memory) if weights > memory => Err(Error::Request(format!(
                "the weights alone would take {} of {}; time fewer of the layers (--layers, --double-blocks, \
                 --single-blocks), or smaller numbers (--dtype bf16)",
                HumanBytes(weights),
                HumanBytes(memory),
            ))),
            _ => Ok(()),
        }
    }

    fn vae(&self, device: &Device) -> Result<(VaeConfig, Vae)> {
        self.module(Model::vae, VaeConfig::new(), |config| config.init(device))
    }

    fn transformer(&self, device: &Device) -> Result<(DitConfig, Dit)> {
        let part = |model: &Model| {
            let mut part = model.transformer()?;
            let config = &mut part.config;
            config.dual_blocks = self.bench.double_blocks.unwrap_or(config.dual_blocks);
            config.single_blocks = self.bench.single_blocks.unwrap_or(config.single_blocks);
            Ok(part)
        };
        let official = DitConfig::new();
        let dual = self.bench.double_blocks.unwrap_or(official.dual_blocks);
        let single = self.bench.single_blocks.unwrap_or(official.single_blocks);
        let official = official.with_dual_blocks(dual).with_single_blocks(single);
        self.module(part, official, |config| config.init(device))
    }

    fn video_size(&self) -> [usize; 3] {
        let Request {
            frames,
            height,
            width,
            ..
        } = *self.request;
        [frames, height, width]
    }

    fn video_shape(&self) -> [usize; 5] {
        let [frames, height, width] = self.video_size();
        [1, 3, frames, height, width]
    }

    fn token_ids(&self, tokens: usize) -> Result<Tensor<2, burn::tensor::Int>> {
        let device = self.device;
        Ok(match &self.bench.inputs {
            Some(_) => self.input("tokens", [1, tokens])?.int().cast(DType::I32),
            None => Tensor::zeros([1, tokens], (device, DType::I32)),
        })
    }

    /// An input in f32, by its name in the file, or random.
    fn input<const D: usize>(&self, name: &str, shape: [usize; D]) -> Result<Tensor<D>> {
        let Some(path) = &self.bench.inputs else {
            // A seed of its own for each.
            let seed = name.bytes().map(u64::from).sum();
            return Ok(noise(shape, seed, self.device));
        };
        let tensor = load_tensor::<D>(path, name, self.device)?;
        if tensor.dims() != shape {
            let found = tensor.dims();
            let reason = format!("`{name}` is {found:?}; these options need {shape:?}");
            return Err(Error::tensors(path, reason));
        }
        Ok(tensor)
    }
}

/// What the transformer is run on.
struct DitInputs {
    latents: Tensor<5>,
    timestep: Tensor<1>,
    condition: Condition,
    flop: u64,
}

impl DitInputs {
    fn new(maker: &Maker<'_>, config: &DitConfig) -> Result<Self> {
        let (bench, dtype) = (maker.bench, maker.dtype);
        let (tokens, valid) = (bench.text_tokens, bench.text_valid()?);
        let shape = maker.request.latent_shape(config.in_channels);
        let constant = |value: f64| Tensor::<1>::from_data([value], (maker.device, DType::F32));
        let text = maker.input("text", [1, tokens, config.text_dim])?;
        let pooled = maker.input("pooled", [1, config.pooled_dim])?;
        Ok(Self {
            latents: maker.input("latents", shape)?.cast(dtype),
            timestep: constant(500.0),
            condition: Condition {
                text: text.cast(dtype),
                text_lengths: vec![valid],
                pooled: pooled.cast(dtype),
                guidance: Some(constant(6000.0).cast(dtype)),
            },
            flop: flops::dit(config, [shape[2], shape[3], shape[4]], valid),
        })
    }
}

impl Workload {
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

/// Allocates the parameters in `dtype`, in memory as loading leaves them.
fn as_loaded<M: Module>(module: M, dtype: FloatDType) -> M {
    struct AsLoaded {
        dtype: FloatDType,
        path: ParameterPath,
    }
    impl ModuleMapper for AsLoaded {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let transposed = self.path.is_transposed();
            param.map(|tensor| {
                let learns = tensor.is_require_grad();
                let mut tensor = tensor.cast(self.dtype);
                if transposed {
                    // Random values are as random in another order.
                    let mut shape = tensor.dims();
                    shape.reverse();
                    tensor = tensor.reshape(shape).transpose();
                }
                tensor.detach().set_require_grad(learns)
            })
        }
    }
    module.map(&mut AsLoaded {
        dtype,
        path: ParameterPath::default(),
    })
}
