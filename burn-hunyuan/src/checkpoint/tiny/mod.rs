//! The small model inside the binary: HunyuanVideo's architecture with small widths.
//!
//! Its weights are random, drawn from a fixed seed, so what it generates shows nothing; it serves
//! to try the program, and to test it, without a download.

use std::path::PathBuf;

use burn::{
    module::Module,
    tensor::{Device, TensorData},
};
use burn_hunyuan_text::PromptTemplate;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use rand_distr::{Distribution, Normal};

use super::{
    Component, Error, Model, Parameter, Recognised, StoredTensor, Weights,
    model::{Source, TokenizerFiles},
    parameters,
    sizes::{ConfigFile, Sizes},
};

/// What messages call the model.
const NAME: &str = "the built-in tiny model";

/// Seed of the weights.
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
    let dit_weights = random_weights(&sizes(&transformer).dit()?.init(device), 0);
    let vae_weights = random_weights(&sizes(&vae).vae()?.init(device), 1);
    let llama_weights = random_weights(&sizes(&llama).llama()?.init(device), 2);
    let clip_weights = random_weights(&sizes(&clip).clip()?.init(device), 3);

    let llama_tokenizer = TokenizerFiles::Embedded {
        tokenizer: include_bytes!("tokenizer.json"),
        config: include_bytes!("tokenizer_config.json"),
    };
    let clip_tokenizer = TokenizerFiles::Embedded {
        tokenizer: include_bytes!("tokenizer_2.json"),
        config: include_bytes!("tokenizer_2_config.json"),
    };
    let source = |component, weights, config, tokenizer| {
        let recognised = Recognised {
            component,
            layout: "built in",
            weights,
        };
        (
            component,
            Source {
                recognised,
                config: Some(config),
                tokenizer,
            },
        )
    };
    let sources = [
        source(Component::Transformer, dit_weights, transformer, None),
        source(Component::Vae, vae_weights, vae, None),
        source(
            Component::TextEncoder,
            llama_weights,
            llama,
            Some(llama_tokenizer),
        ),
        source(
            Component::TextEncoder2,
            clip_weights,
            clip,
            Some(clip_tokenizer),
        ),
    ];
    Ok(Model::embedded(PathBuf::from(NAME), sources, TEMPLATE))
}

/// Random weights for every parameter of `module`, the same on every machine.
///
/// Matrices and kernels are normal with variance 1 / fan-in, norms near 1 and biases near 0.
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
