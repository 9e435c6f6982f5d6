//! Sizes of a model, and what they come to in memory.

use burn::tensor::{Device, FloatDType};
use burn_hunyuan_dit::DitConfig;
use burn_hunyuan_text::{ClipConfig, LlamaConfig};
use burn_hunyuan_vae::{TilingMode, VaeConfig};

use super::{Memory, Plan, Settings, gib};
use crate::{
    checkpoint::{Model, Parameter, Quantization, parameters},
    error::{Error, Result},
    pipeline::{Offload, Request},
};

/// Activations of all tokens at the transformer's peak, in widths: the residual, attention's output,
/// four of the MLP, and the five of both joined for the last product of a single-stream block.
const TOKEN_WIDTHS: u64 = 11;

/// What a first-block cache keeps, in widths of the image tokens.
const CACHED_WIDTHS: u64 = 3;

/// Tokens that LLaMA reads at most.
const PROMPT_TOKENS: u64 = 351;

/// What the program itself takes on a CPU, in bytes.
const PROGRAM: u64 = 70 << 20;

/// How many of the five copies that [`VaeConfig::peak_bytes`] counts there are where convolutions pad
/// without one: on the CPU in f32.
const VAE_COPIES_OF_FIVE: u64 = 4;

/// A model as far as it matters to memory.
#[derive(Clone, Debug)]
pub struct Architecture {
    transformer: Elements,
    /// Whether the transformer's file is compressed.
    is_compressed: bool,
    llama: Elements,
    /// Parameters of CLIP.
    clip: u64,
    /// Parameters of the VAE.
    vae: u64,
    width: u64,
    patch: [usize; 3],
    text: LlamaConfig,
    decoder: VaeConfig,
}

/// Numbers of parameters.
#[derive(Clone, Debug)]
struct Elements {
    /// Of each block or layer.
    blocks: Vec<u64>,
    /// Outside of them.
    rest: u64,
    /// Of the matrices that a quantization compresses.
    large: u64,
}

impl Elements {
    fn of(parameters: &[Parameter], blocks: &[String]) -> Self {
        let elements = |p: &Parameter| p.shape.iter().product::<usize>() as u64;
        let count = |keep: &dyn Fn(&Parameter) -> bool| {
            parameters.iter().filter(|p| keep(p)).map(elements).sum()
        };
        let counts: Vec<u64> = blocks
            .iter()
            .map(|prefix| count(&|p| p.name.starts_with(prefix)))
            .collect();
        let all: u64 = count(&|_| true);
        Self {
            rest: all - counts.iter().sum::<u64>(),
            large: count(&|p| Quantization::Int8.applies(&p.name, &p.shape)),
            blocks: counts,
        }
    }

    /// Those that are on the device at once.
    fn resident(&self, offload: Offload) -> u64 {
        self.rest
            + match offload {
                // One runs, the next one is there.
                Offload::Blocks => {
                    let pairs = self.blocks.windows(2).map(|pair| pair.iter().sum());
                    pairs.max().unwrap_or(0)
                }
                _ => self.blocks.iter().sum(),
            }
    }
}

impl Architecture {
    /// The published model, stored in bf16.
    pub fn official(device: &Device) -> Self {
        Self::new(
            (&DitConfig::new(), false),
            &LlamaConfig::new(),
            &ClipConfig::new(),
            &VaeConfig::new(),
            device,
        )
    }

    /// That of a whole model; reads headers only.
    ///
    /// # Errors
    /// Components that are absent.
    pub fn of(model: &Model, device: &Device) -> Result<Self> {
        let transformer = model.transformer()?;
        Ok(Self::new(
            (&transformer.config, transformer.weights.is_compressed()),
            &model.text_encoder()?.config,
            &model.text_encoder_2()?.config,
            &model.vae()?.config,
            device,
        ))
    }

    fn new(
        (dit, is_compressed): (&DitConfig, bool),
        llama: &LlamaConfig,
        clip: &ClipConfig,
        vae: &VaeConfig,
        device: &Device,
    ) -> Self {
        let blocks: Vec<_> = (0..dit.blocks())
            .map(|i| format!("{}.", dit.block_name(i)))
            .collect();
        let layers: Vec<_> = (0..llama.layers).map(|i| format!("layers.{i}.")).collect();
        let count = |parameters: &[Parameter]| Elements::of(parameters, &[]).rest;
        // No parameter is allocated before it is used.
        Self {
            transformer: Elements::of(&parameters(&dit.init(device)), &blocks),
            is_compressed,
            llama: Elements::of(&parameters(&llama.init(device)), &layers),
            clip: count(&parameters(&clip.init(device))),
            vae: count(&parameters(&vae.init(device))),
            width: dit.width() as u64,
            patch: dit.patch,
            text: llama.clone(),
            decoder: vae.clone(),
        }
    }

    /// How to generate `request` within `limit` bytes of the device's memory: with everything on the
    /// device if that fits, else with blocks that wait outside; with the largest VAE tiles that fit.
    /// What `settings` decide stays as it is, and precision is never given up unasked.
    ///
    /// # Errors
    /// What to change where nothing fits.
    pub fn plan(&self, request: &Request, settings: Settings, limit: u64) -> Result<Plan> {
        let size = [request.height, request.width, request.frames];
        let cached = request.cache_threshold.is_some();
        let plan = self.best(size, cached, settings, limit);
        if plan.peak() > limit {
            return Err(self.refusal(cached, settings, limit, &plan));
        }
        Ok(plan)
    }

    /// The first plan within the limit, or the one that takes least.
    fn best(&self, size: [usize; 3], cached: bool, settings: Settings, limit: u64) -> Plan {
        let with = |offload| {
            let settings = Settings {
                offload,
                ..settings
            };
            self.predict(size, cached, settings, limit)
        };
        match settings.offload {
            Offload::Auto if settings.quantization.is_some() || self.is_compressed => {
                with(Offload::Blocks)
            }
            Offload::Auto => {
                let all = with(Offload::None);
                match all.peak() <= limit {
                    true => all,
                    false => with(Offload::Blocks),
                }
            }
            decided => with(decided),
        }
    }

    fn predict(&self, size: [usize; 3], cached: bool, mut settings: Settings, limit: u64) -> Plan {
        let bytes = match settings.dtype {
            FloatDType::F16 | FloatDType::BF16 => 2,
            FloatDType::F32 | FloatDType::Flex32 | FloatDType::F64 => 4,
        };
        let compressed = settings.quantization.map_or(0, |to| {
            let encoding = to.encoding();
            self.transformer.large / encoding.block_len() as u64 * encoding.block_bytes() as u64
        });
        let Self {
            transformer, llama, ..
        } = self;
        let weights = [
            llama.resident(settings.offload) + self.clip,
            transformer.resident(settings.offload),
            self.vae,
        ]
        .map(|elements| elements * bytes);
        let compressed_here = if settings.is_host { compressed } else { 0 };
        let mut weights = [weights[0], weights[1] + compressed_here, weights[2]];
        if settings.keep_loaded {
            weights = [weights.iter().sum(); 3];
        }
        let program = if settings.is_host { PROGRAM } else { 0 };
        let [height, width, frames] = size;
        let clip = [frames, height, width];
        let copies = match settings.is_host && bytes == 4 {
            true => VAE_COPIES_OF_FIVE,
            false => 5,
        };
        let left = limit.saturating_sub(weights[2] + program);
        let tiling = settings
            .vae_tiling
            .resolve(&self.decoder, clip, left / copies * 5);
        settings.vae_tiling = TilingMode::Fixed(tiling);
        let work = [
            self.prompt_work(bytes),
            self.denoise_work(size, bytes, cached),
            self.decoder.peak_bytes(clip, &tiling) / 5 * copies,
        ];
        Plan {
            settings,
            stages: std::array::from_fn(|i| Memory {
                weights: weights[i],
                work: work[i] + program,
            }),
            size,
            compressed,
        }
    }

    /// LLaMA's activations: the MLP's three and six of the width, and the scores twice.
    fn prompt_work(&self, bytes: u64) -> u64 {
        let (inside, hidden) = (self.text.intermediate as u64, self.text.hidden as u64);
        let scores = 2 * 4 * self.text.heads as u64 * PROMPT_TOKENS * PROMPT_TOKENS;
        PROMPT_TOKENS * bytes * (3 * inside + 6 * hidden) + scores
    }

    fn denoise_work(&self, [height, width, frames]: [usize; 3], bytes: u64, cached: bool) -> u64 {
        let [pt, ph, pw] = self.patch;
        let latent_frames = frames.div_ceil(burn_hunyuan_vae::TEMPORAL_COMPRESSION);
        let side = |pixels: usize, patch| pixels / burn_hunyuan_vae::SPATIAL_COMPRESSION / patch;
        let image = (latent_frames / pt * side(height, ph) * side(width, pw)) as u64;
        let kept = if cached { CACHED_WIDTHS * image } else { 0 };
        (TOKEN_WIDTHS * (image + PROMPT_TOKENS) + kept) * self.width * bytes
    }

    /// Why nothing fits, and what would.
    fn refusal(&self, cached: bool, settings: Settings, limit: u64, least: &Plan) -> Error {
        let fits = |size| self.best(size, cached, settings, limit).peak() <= limit;
        let [height, width, frames] = least.size;
        let fewer = (1..frames)
            .step_by(4)
            .rev()
            .find(|frames| fits([height, width, *frames]));
        // In sixteenths of the size.
        let smaller = (1..16).rev().find_map(|part| {
            let side = |pixels: usize| (pixels * part / 16 / 16 * 16).max(16);
            let size = [side(height), side(width), frames];
            fits(size).then_some(size)
        });
        let mut ways = Vec::new();
        if let Some(frames) = fewer {
            ways.push(format!("--frames {frames}"));
        }
        if let Some([height, width, _]) = smaller {
            ways.push(format!("--size {height}x{width}"));
        }
        if settings.offload == Offload::None {
            ways.push("--offload blocks".into());
        }
        if let TilingMode::Fixed(_) = settings.vae_tiling {
            ways.push("--vae-tiling auto".into());
        }
        if settings.keep_loaded {
            ways.push("leaving out --keep-loaded".into());
        }
        let advice = match ways.as_slice() {
            [] => "no size fits; use a device with more memory".into(),
            ways => format!("try {}", ways.join(", or ")),
        };
        Error::Request(format!(
            "{height}x{width}, {frames} frames would take {} where {} are available; {advice}",
            gib(least.peak()),
            gib(limit),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device;

    const GIB: u64 = 1 << 30;

    fn settings(dtype: FloatDType) -> Settings {
        Settings {
            dtype,
            quantization: None,
            offload: Offload::Auto,
            vae_tiling: TilingMode::Auto,
            keep_loaded: false,
            is_host: false,
        }
    }

    fn official() -> Architecture {
        Architecture::official(&device::open("flex").unwrap())
    }

    fn plan(size: [usize; 3], gib: u64) -> Result<Plan> {
        let [height, width, frames] = size;
        let request = Request::new("a cat").with_size(height, width);
        let settings = settings(FloatDType::BF16);
        official().plan(&request.with_frames(frames), settings, gib * GIB)
    }

    /// The parameters of the published model, as README.md lists them.
    #[test]
    fn weights_are_counted() {
        let official = official();
        let all = official.transformer.resident(Offload::None);
        assert_eq!(all, 12_821_012_544);
        let (dual, single) = (36 * 3072 * 3072, 15 * 3072 * 3072);
        let two = official.transformer.resident(Offload::Blocks) - official.transformer.rest;
        // Matrices of two dual blocks, and their biases and norms.
        assert!((2 * dual..2 * dual + 200_000).contains(&two), "{two}");
        let large = 20 * 24 * 3072 * 3072 + 40 * 12 * 3072 * 3072;
        assert_eq!(official.transformer.large, large);
        assert!(single < dual);
        assert_eq!(official.llama.blocks.len(), 30);
    }

    #[test]
    fn what_fits_stays_on_the_device() {
        let roomy = plan([720, 1280, 129], 80).unwrap();
        assert_eq!(roomy.settings.offload, Offload::None);
        let tight = plan([544, 960, 129], 24).unwrap();
        assert_eq!(tight.settings.offload, Offload::Blocks);
        assert!(tight.peak() <= 24 * GIB && tight.peak() < roomy.peak());
        for plan in [roomy, tight] {
            assert!(matches!(plan.settings.vae_tiling, TilingMode::Fixed(_)));
        }
    }

    #[test]
    fn more_takes_more() {
        let request = |frames| {
            Request::new("a cat")
                .with_size(256, 256)
                .with_frames(frames)
        };
        let peak = |frames, settings| {
            let plan = official().plan(&request(frames), settings, 200 * GIB);
            plan.unwrap().peak()
        };
        let base = settings(FloatDType::BF16);
        let work = |frames| {
            let plan = official().plan(&request(frames), base, 200 * GIB).unwrap();
            plan.stages[1].work
        };
        assert!(work(33) < work(129));
        let kept = Settings {
            keep_loaded: true,
            ..base
        };
        assert!(peak(33, base) < peak(33, kept));
        assert!(peak(33, base) < peak(33, settings(FloatDType::F32)));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_would() {
        let message = plan([720, 1280, 129], 8).unwrap_err().to_string();
        assert!(message.contains("8.0 GiB are available"), "{message}");
        let advised = message.split("--frames ").nth(1).unwrap();
        let frames: String = advised.chars().take_while(char::is_ascii_digit).collect();
        let frames = frames.parse().unwrap();
        assert!(plan([720, 1280, frames], 8).is_ok());
        assert!(plan([720, 1280, frames + 4], 8).is_err());
        // Without an overflow on the way.
        assert!(plan([65520, 65520, 129], 24).is_err());
        assert!(
            plan([16, 16, 1], 1)
                .unwrap_err()
                .to_string()
                .contains("no size fits")
        );
    }
}
