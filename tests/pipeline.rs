//! The whole pipeline against the reference: prompt embeddings, latents and frames.
//!
//! Bounds are relative to the reference's largest value. One changed character of the prompt moves
//! the latents by 2e-3 and a wrong rotary base by 6e-3, so looser bounds would prove nothing.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use burn::tensor::{Device, FloatDType, Tensor};
use burn_hunyuan::{
    Pipeline, Request,
    checkpoint::{Component, Model},
};
use burn_hunyuan_vae::{Tiling, TilingMode};
use common::{Fixture, assert_close, deviation, device, fixture_path, supports};

/// A case of `tests/reference/pipeline.py`.
struct Case {
    device: Device,
    expected: Fixture,
    request: Request,
    tiling: Tiling,
}

impl Case {
    fn open(name: &str, device: &Device) -> Self {
        let expected = Fixture::open(&format!("pipeline/expected_{name}.safetensors"));
        let config = expected.config();
        let number = |key: &str| config[key].as_f64().unwrap();
        let integer = |key: &str| config[key].as_u64().unwrap() as usize;
        let request = Request {
            negative_prompt: config["negative_prompt"].as_str().map(String::from),
            guidance: number("guidance"),
            cfg: number("cfg"),
            init_latents: Some(expected.tensor("init_latents", device)),
            ..Request::new(config["prompt"].as_str().unwrap())
                .with_size(integer("height"), integer("width"))
                .with_frames(integer("frames"))
                .with_steps(integer("steps"))
        };
        let tiling = match config["tiling"].as_str().unwrap() {
            "framewise" => Tiling::FRAMEWISE,
            _ => Tiling::WHOLE,
        };
        Self {
            device: device.clone(),
            expected,
            request,
            tiling,
        }
    }

    fn reference<const D: usize>(&self, key: &str) -> Tensor<D> {
        self.expected.tensor(key, &self.device)
    }

    /// Denoises the case's own noise.
    fn latents(&self, pipeline: &mut Pipeline) -> Tensor<5> {
        let condition = pipeline.encode_prompt(&self.request.prompt).unwrap();
        let negative = self.request.effective_negative_prompt();
        let negative = negative.map(|prompt| pipeline.encode_prompt(prompt).unwrap());
        pipeline
            .denoise(&self.request, &condition, negative.as_ref())
            .unwrap()
    }

    /// Runs the case and compares everything on the way.
    fn check(&self, model: Model) {
        let mut pipeline = Pipeline::new(model, self.device.clone())
            .unwrap()
            .with_vae_tiling(TilingMode::Fixed(self.tiling));
        assert_eq!(
            pipeline.dtype(),
            FloatDType::F32,
            "as the fixture is stored"
        );

        let condition = pipeline.encode_prompt(&self.request.prompt).unwrap();
        assert_close(
            "prompt_embeds",
            &condition.states,
            &self.reference("prompt_embeds"),
            1e-4,
        );
        assert_close(
            "prompt_mask",
            &condition.mask(),
            &self.reference("prompt_mask"),
            0.0,
        );
        assert_close("pooled", &condition.pooled, &self.reference("pooled"), 1e-4);

        let latents = self.latents(&mut pipeline);
        assert_close("latents", &latents, &self.reference("latents"), 2e-4);

        let mut frames = Vec::new();
        let mut keep = |stretch: Tensor<5>| {
            frames.push(stretch.swap_dims(1, 2));
            Ok(())
        };
        pipeline.decode(latents, &mut keep).unwrap();
        assert_close(
            "frames",
            &Tensor::cat(frames, 1),
            &self.reference("frames"),
            1e-3,
        );
    }
}

fn diffusers() -> Model {
    Model::open(&[fixture_path("pipeline/diffusers")]).unwrap()
}

#[test]
fn plain_request() {
    let Some(device) = device() else { return };
    Case::open("plain", &device).check(diffusers());
}

#[test]
fn true_guidance_with_a_negative_prompt() {
    let Some(device) = device() else { return };
    Case::open("guided", &device).check(diffusers());
}

#[test]
fn temporal_tiles() {
    let Some(device) = device() else { return };
    let case = Case::open("framewise", &device);
    assert!(case.request.frames > 16, "the tiles must engage");
    case.check(diffusers());
}

#[test]
fn original_layout_gives_the_same() {
    let Some(device) = device() else { return };
    let mut model = diffusers();
    let parts = [
        (
            Component::Transformer,
            "pipeline/mp_rank_00_model_states.pt",
        ),
        (Component::Vae, "pipeline/pytorch_model.pt"),
    ];
    for (component, file) in parts {
        model.replace(component, &fixture_path(file)).unwrap();
    }
    assert!(model.components().any(|found| found.layout == "Tencent"));
    Case::open("plain", &device).check(model);
}

#[test]
fn bf16_deviates_no_more_than_twice_the_references_own() {
    let Some(device) = device() else { return };
    if !supports(&device, FloatDType::BF16) {
        return;
    }
    let case = Case::open("plain", &device);
    let mut pipeline = Pipeline::new(diffusers(), device)
        .and_then(|pipeline| pipeline.with_dtype(FloatDType::BF16))
        .unwrap();
    let exact: Tensor<5> = case.reference("latents");
    let allowed = 2.0 * deviation(&case.reference::<5>("latents_bf16"), &exact);
    assert_close("latents", &case.latents(&mut pipeline), &exact, allowed);
}

/// Same request, same video; another seed, another one. On the model inside the library.
#[test]
fn the_seed_decides() {
    let Some(device) = device() else { return };
    let model = Model::tiny(&device).unwrap();
    let mut pipeline = Pipeline::new(model, device).unwrap();
    let request = Request::new("a red circle")
        .with_size(32, 48)
        .with_frames(5)
        .with_steps(2);
    let mut generate = |seed| {
        let video = pipeline.generate(&request.clone().with_seed(seed)).unwrap();
        assert_eq!(video.frames.len(), 5);
        assert_eq!(video.frames[0].dimensions(), (48, 32));
        video.frames
    };
    assert_eq!(generate(1), generate(1));
    assert_ne!(generate(1), generate(2));
}

#[test]
fn a_cancelled_run_says_so() {
    let Some(device) = device() else { return };
    let model = Model::tiny(&device).unwrap();
    let mut pipeline = Pipeline::new(model, device)
        .unwrap()
        .with_observer(|progress| match (progress.stage, progress.done) {
            (burn_hunyuan::Stage::Denoise, 1) => std::ops::ControlFlow::Break(()),
            _ => std::ops::ControlFlow::Continue(()),
        });
    let request = Request::new("a red circle")
        .with_size(32, 32)
        .with_frames(1)
        .with_steps(3);
    let error = pipeline.generate(&request).unwrap_err();
    assert!(matches!(error, burn_hunyuan::Error::Cancelled), "{error}");
}
