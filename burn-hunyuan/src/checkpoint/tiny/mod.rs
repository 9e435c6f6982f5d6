//! The small model inside the binary: HunyuanVideo's architecture with small widths.
//!
//! Its VAE and transformer were trained by this repository on procedural clips (`docs/tiny.md`);
//! its text encoders are random, drawn from a fixed seed: what they make of a word is as good as
//! any, so long as it is always the same.

use std::path::PathBuf;

use ::safetensors::SafeTensors;
use burn::{
    module::Module,
    tensor::{Device, TensorData},
};
use burn_hunyuan_text::PromptTemplate;
use half::{f16, slice::HalfFloatSliceExt};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use rand_distr::{Distribution, Normal};

use super::{
    Component, Error, Model, Parameter, Recognised, StoredTensor, Weights,
    model::{Source, TokenizerFiles},
    parameters, recognise,
    sizes::{ConfigFile, Sizes},
};

/// What messages call the model.
const NAME: &str = "the built-in tiny model";

/// The shift that sampling is best with, as the transformer was trained.
const SHIFT: f64 = 4.0;

/// Seed of the text encoders' weights.
const SEED: u64 = 2412_03603;

/// The tiny LLaMA was not taught an instruction, so the prompt stands alone.
const TEMPLATE: PromptTemplate = PromptTemplate {
    prefix: "",
    suffix: "",
    crop: 0,
};

/// A configuration that is part of the binary.
fn config(json: &str) -> ConfigFile {
    ConfigFile::embedded(NAME, json)
}

/// The small model.
///
/// # Errors
/// None that a user can cause.
pub(super) fn model(device: &Device) -> Result<Model, Error> {
    let transformer = config(include_str!("transformer.json"));
    let vae = config(include_str!("vae.json"));
    let llama = config(include_str!("text_encoder.json"));
    let clip = config(include_str!("text_encoder_2.json"));

    // There are no tensors yet that could tell or contradict a size.
    let nothing = Weights::new(NAME);
    let sizes = |config| Sizes {
        weights: &nothing,
        config: Some(config),
    };
    let llama_weights = random_weights(&sizes(&llama).llama()?.init(device), 0);
    let clip_weights = random_weights(&sizes(&clip).clip()?.init(device), 1);

    let llama_tokenizer = TokenizerFiles::Embedded {
        tokenizer: include_bytes!("tokenizer.json"),
        config: include_bytes!("tokenizer_config.json"),
    };
    let clip_tokenizer = TokenizerFiles::Embedded {
        tokenizer: include_bytes!("tokenizer_2.json"),
        config: include_bytes!("tokenizer_2_config.json"),
    };
    let random = |component, weights| Recognised {
        component,
        layout: "built in",
        weights,
    };
    let source = |recognised: Recognised, config, tokenizer| {
        let component = recognised.component;
        let config = Some(config);
        (
            component,
            Source {
                recognised,
                config,
                tokenizer,
            },
        )
    };
    let sources = [
        source(
            trained(include_bytes!("transformer.safetensors"))?,
            transformer,
            None,
        ),
        source(trained(include_bytes!("vae.safetensors"))?, vae, None),
        source(
            random(Component::TextEncoder, llama_weights),
            llama,
            Some(llama_tokenizer),
        ),
        source(
            random(Component::TextEncoder2, clip_weights),
            clip,
            Some(clip_tokenizer),
        ),
    ];
    Ok(Model::embedded(
        PathBuf::from(NAME),
        sources,
        SHIFT,
        TEMPLATE,
    ))
}

/// A component's weights from a safetensors file in f16, which halves the binary. In memory they
/// are f32, to be computed with as they were trained.
fn trained(file: &[u8]) -> Result<Recognised, Error> {
    let tensors = SafeTensors::deserialize(file).map_err(|error| Error::Malformed {
        path: NAME.into(),
        format: "safetensors",
        reason: error.to_string(),
    })?;
    let mut weights = Weights::new(NAME);
    for (name, tensor) in tensors.iter() {
        let (halves, _) = tensor.data().as_chunks();
        let halves: Vec<f16> = halves.iter().copied().map(f16::from_le_bytes).collect();
        let mut values = vec![0.0; halves.len()];
        halves.convert_to_f32_slice(&mut values);
        let values = TensorData::new(values, tensor.shape());
        weights.insert(name, StoredTensor::in_memory(NAME, values));
    }
    recognise(&weights)
}

/// Random weights for every parameter of `module`, the same on every machine.
///
/// Matrices are normal with variance 1 / fan-in, norms near 1 and biases near 0.
fn random_weights<M: Module>(module: &M, stream: u64) -> Weights {
    let mut rng = ChaCha12Rng::seed_from_u64(SEED);
    rng.set_stream(stream);
    let mut weights = Weights::new(NAME);
    for Parameter { name, shape } in parameters(module) {
        let fan_in: usize = shape[1..].iter().product();
        let (mean, deviation) = match shape.len() {
            1 if name.ends_with("weight") => (1.0, 0.1),
            1 => (0.0, 0.1),
            _ if name.contains("embed") => (0.0, 1.0),
            _ => (0.0, (1.0 / fan_in as f32).sqrt()),
        };
        // Both constants are finite and the deviation is positive, so the distribution exists.
        let Ok(normal) = Normal::new(mean, deviation) else {
            continue;
        };
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| normal.sample(&mut rng))
            .collect();
        let values = TensorData::new(values, shape);
        weights.insert(name, StoredTensor::in_memory(NAME, values));
    }
    weights
}
