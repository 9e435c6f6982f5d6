//! Sizes of a model, and what they come to in memory.

use burn::tensor::{Device, FloatDType};
use burn_hunyuan_dit::DitConfig;
use burn_hunyuan_text::{ClipConfig, LlamaConfig};
use burn_hunyuan_vae::{TilingMode, VaeConfig};

use super::{
    Memory, Plan, Settings,
    elements::{Compressed, Elements},
    gib,
};
use crate::{
    checkpoint::{Component, Model, Parameter, Part, parameters},
    error::{Error, Result},
    pipeline::{GUIDED_STEPS, Offload, Request},
};

/// Activations of all tokens at the transformer's peak, in widths: the residual, attention's output,
/// four of the MLP, and the five of both joined for the last product of a single-stream block.
const TOKEN_WIDTHS: u64 = 11;

/// What a first-block cache keeps, in widths of the image tokens: while the blocks run, theirs before
/// and after the first one, else what the first added and what the others did.
const CACHED_WIDTHS: u64 = 2;

/// Tokens that LLaMA reads at most.
const PROMPT_TOKENS: u64 = 351;

/// What the program itself takes on a CPU, in bytes.
const PROGRAM: u64 = 70 << 20;

/// How many of the five copies that [`VaeConfig::peak_bytes`] counts there are where convolutions pad
/// without one, on the CPU in f32: four, and a quarter of one that the allocator keeps in pieces.
const VAE_COPIES_OF_FIVE: f64 = 4.25;

/// A model as far as it matters to memory.
#[derive(Clone, Debug)]
pub struct Architecture {
    transformer: Elements,
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

impl Architecture {
    /// The published model, stored in bf16.
    pub fn official(device: &Device) -> Self {
        Self::new(
            &DitConfig::new(),
            &LlamaConfig::new(),
            &ClipConfig::new(),
            &VaeConfig::new(),
            device,
        )
    }

    /// That of a model, with the published one's sizes for components that it lacks; reads headers only.
    ///
    /// # Errors
    /// Headers that cannot be read, sizes that nothing tells.
    pub fn of(model: &Model, device: &Device) -> Result<Self> {
        let has = |component| model.components().any(|found| found.component == component);
        let transformer = has(Component::Transformer).then(|| model.transformer());
        let llama = has(Component::TextEncoder).then(|| model.text_encoder());
        let clip = has(Component::TextEncoder2).then(|| model.text_encoder_2());
        let vae = has(Component::Vae).then(|| model.vae());
        let (transformer, llama) = (transformer.transpose()?, llama.transpose()?);
        let (clip, vae) = (clip.transpose()?, vae.transpose()?);
        let mut sizes = Self::new(
            &config_of(transformer.as_ref(), DitConfig::new),
            &config_of(llama.as_ref(), LlamaConfig::new),
            &config_of(clip.as_ref(), ClipConfig::new),
            &config_of(vae.as_ref(), VaeConfig::new),
            device,
        );
        if let Some(Part { config, weights }) = transformer {
            sizes.transformer.compressed = Compressed::of(&weights, &block_prefixes(&config));
        }
        if let Some(Part { config, weights }) = llama {
            sizes.llama.compressed = Compressed::of(&weights, &layer_prefixes(&config));
        }
        Ok(sizes)
    }

    fn new(
        dit: &DitConfig,
        llama: &LlamaConfig,
        clip: &ClipConfig,
        vae: &VaeConfig,
        device: &Device,
    ) -> Self {
        let (blocks, layers) = (block_prefixes(dit), layer_prefixes(llama));
        let count = |parameters: &[Parameter]| Elements::of(parameters, &[]).rest;
        // No parameter is allocated before it is used.
        Self {
            transformer: Elements::of(&parameters(&dit.init(device)), &blocks),
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
    /// device if that fits, else with LLaMA's layers waiting outside, else with the transformer's blocks
    /// too; with the largest VAE tiles that fit.
    /// What `settings` decide stays as it is, and precision is never given up unasked.
    ///
    /// # Errors
    /// What to change where nothing fits.
    pub fn plan(&self, request: &Request, settings: Settings, limit: u64) -> Result<Plan> {
        let plan = self.best(request, settings, limit);
        if plan.peak() > limit {
            return Err(self.refusal(request, settings, limit, &plan));
        }
        Ok(plan)
    }

    /// The first plan within the limit, or the one that takes least.
    fn best(&self, request: &Request, settings: Settings, limit: u64) -> Plan {
        let transformer = self.transformer.quantized(settings.quantization);
        let with = |(offload, text_offload)| {
            let settings = Settings {
                offload,
                ..settings
            };
            self.predict(request, &transformer, settings, text_offload, limit)
        };
        if settings.offload != Offload::Auto {
            return with((settings.offload, settings.offload));
        }
        let waiting = (Offload::Blocks, Offload::Blocks);
        let ways = [
            (Offload::None, Offload::None),
            (Offload::None, Offload::Blocks),
        ];
        let grows =
            |of: &Elements, offload| offload == Offload::None && of.would_grow(settings.is_host);
        let mut ways = ways
            .into_iter()
            .filter(|(blocks, layers)| {
                !grows(&transformer, *blocks) && !grows(&self.llama, *layers)
            })
            .map(with);
        ways.find(|plan| plan.peak() <= limit)
            .unwrap_or_else(|| with(waiting))
    }

    fn predict(
        &self,
        request: &Request,
        transformer: &Elements,
        mut settings: Settings,
        text_offload: Offload,
        limit: u64,
    ) -> Plan {
        let bytes = match settings.dtype {
            FloatDType::F16 | FloatDType::BF16 => 2,
            FloatDType::F32 | FloatDType::Flex32 | FloatDType::F64 => 4,
        };
        let compressed = match settings.offload {
            Offload::Blocks => settings.quantization.and(transformer.compressed),
            _ => None,
        };
        let compressed = compressed.map_or(0, |compressed| compressed.bytes);
        let resident = |of: &Elements, offload| of.resident_bytes(offload, bytes, &settings);
        let mut weights = [
            resident(&self.llama, text_offload) + self.clip * bytes,
            resident(transformer, settings.offload),
            self.vae * bytes,
        ];
        if settings.is_host {
            weights[1] += compressed;
        }
        if settings.keep_loaded {
            weights = [weights.iter().sum(); 3];
        }
        let program = if settings.is_host { PROGRAM } else { 0 };
        let clip = [request.frames, request.height, request.width];
        let copies = match settings.is_host && bytes == 4 {
            true => VAE_COPIES_OF_FIVE / 5.0,
            false => 1.0,
        };
        let left = limit.saturating_sub(weights[2] + program);
        let budget = (left as f64 / copies) as u64;
        let tiling = settings.vae_tiling.resolve(&self.decoder, clip, budget);
        settings.vae_tiling = TilingMode::Fixed(tiling);
        let work = [
            self.prompt_work(bytes),
            self.denoise_work(request, bytes),
            (self.decoder.peak_bytes(clip, &tiling) as f64 * copies) as u64,
        ];
        Plan {
            settings,
            text_offload,
            stages: std::array::from_fn(|i| Memory {
                weights: weights[i],
                work: work[i] + program,
            }),
            size: [request.height, request.width, request.frames],
            compressed,
        }
    }

    /// LLaMA's activations: the MLP's three and six of the width, and the scores twice.
    fn prompt_work(&self, bytes: u64) -> u64 {
        let (inside, hidden) = (self.text.intermediate as u64, self.text.hidden as u64);
        let scores = 2 * 4 * self.text.heads as u64 * PROMPT_TOKENS * PROMPT_TOKENS;
        PROMPT_TOKENS * bytes * (3 * inside + 6 * hidden) + scores
    }

    /// Activations, and for each prompt that guides what its cache keeps and the modulation of all steps.
    fn denoise_work(&self, request: &Request, bytes: u64) -> u64 {
        let [pt, ph, pw] = self.patch;
        let [_, _, frames, height, width] = request.latent_shape(self.decoder.latent_channels);
        let image = (frames / pt * (height / ph) * (width / pw)) as u64;
        let activations = TOKEN_WIDTHS * (image + PROMPT_TOKENS) * self.width;
        let kept = match request.cache_threshold {
            Some(_) => CACHED_WIDTHS * image * self.width,
            None => 0,
        };
        // A layer that modulates has a bias for each of its outputs, and as many rows.
        let outputs = self.transformer.modulation / (self.width + 1);
        let modulations = outputs * request.steps.min(GUIDED_STEPS) as u64;
        let guides = match request.effective_negative_prompt() {
            Some(_) => 2,
            None => 1,
        };
        (activations + guides * (kept + modulations)) * bytes
    }

    /// Why nothing fits, and what would.
    fn refusal(&self, request: &Request, settings: Settings, limit: u64, least: &Plan) -> Error {
        let fits = |request: &Request| self.best(request, settings, limit).peak() <= limit;
        let [height, width, frames] = least.size;
        let fewer = (1..frames)
            .step_by(4)
            .rev()
            .find(|frames| fits(&request.clone().with_frames(*frames)));
        // In sixteenths of the size.
        let smaller = (1..16).rev().find_map(|part| {
            let side = |pixels: usize| (pixels * part / 16 / 16 * 16).max(16);
            let (height, width) = (side(height), side(width));
            fits(&request.clone().with_size(height, width)).then_some([height, width])
        });
        let mut ways = Vec::new();
        if let Some(frames) = fewer {
            ways.push(format!("--frames {frames}"));
        }
        if let Some([height, width]) = smaller {
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

/// The sizes of a component, the published ones where it is absent.
fn config_of<C: Clone>(part: Option<&Part<C>>, published: fn() -> C) -> C {
    part.map_or_else(published, |part| part.config.clone())
}

/// What the names of the parameters of each of the transformer's blocks begin with.
fn block_prefixes(dit: &DitConfig) -> Vec<String> {
    let blocks = 0..dit.blocks();
    blocks.map(|i| format!("{}.", dit.block_name(i))).collect()
}

/// The same of LLaMA's layers.
fn layer_prefixes(llama: &LlamaConfig) -> Vec<String> {
    let layers = 0..llama.layers;
    layers.map(|i| format!("layers.{i}.")).collect()
}

#[cfg(test)]
mod tests;
