//! The diffusion transformer against diffusers (`tests/reference/dit.py`).

#![allow(clippy::unwrap_used)]

mod common;

use std::ops::ControlFlow;

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{DType, Device, FloatDType, Tensor},
};
use burn_hunyuan::checkpoint::{Weights, load_module, recognise};
use burn_hunyuan_dit::{Condition, Dit, DitConfig, FirstBlockCache, Rope};
use common::{Fixture, assert_close, deviation, device, supports};

const BOUND: f32 = 1e-4;

fn config(fixture: &Fixture) -> DitConfig {
    let json = fixture.config();
    let number = |key: &str| json[key].as_u64().unwrap() as usize;
    let axis = |i: usize| json["rope_axes_dim"][i].as_u64().unwrap() as usize;
    DitConfig::new()
        .with_in_channels(number("in_channels"))
        .with_out_channels(number("out_channels"))
        .with_heads(number("num_attention_heads"))
        .with_head_dim(number("attention_head_dim"))
        .with_dual_blocks(number("num_layers"))
        .with_single_blocks(number("num_single_layers"))
        .with_refiner_blocks(number("num_refiner_layers"))
        .with_mlp_ratio(json["mlp_ratio"].as_f64().unwrap())
        .with_patch([
            number("patch_size_t"),
            number("patch_size"),
            number("patch_size"),
        ])
        .with_guidance(json["guidance_embeds"].as_bool().unwrap())
        .with_text_dim(number("text_embed_dim"))
        .with_pooled_dim(number("pooled_projection_dim"))
        .with_rope_axes([axis(0), axis(1), axis(2)])
        .with_rope_theta(json["rope_theta"].as_f64().unwrap())
}

fn model(fixture: &Fixture, dtype: FloatDType, device: &Device) -> Dit {
    let weights = Weights::open(fixture.path()).unwrap().under("weights.");
    let weights = recognise(&weights).unwrap().weights;
    let dit = config(fixture).init(device);
    load_module(dit, &weights, dtype, &mut |_, _| ControlFlow::Continue(())).unwrap()
}

/// A batch of the model's inputs.
#[derive(Clone)]
struct Inputs {
    latents: Tensor<5>,
    timestep: Tensor<1>,
    condition: Condition,
}

fn inputs(fixture: &Fixture, device: &Device) -> Inputs {
    let mask = fixture.tensor::<2>("mask", device);
    let lengths = common::values(&mask.sum_dim(1));
    Inputs {
        latents: fixture.tensor("latents", device),
        timestep: fixture.tensor("timestep", device),
        condition: Condition {
            text: fixture.tensor("text", device),
            text_lengths: lengths.into_iter().map(|length| length as usize).collect(),
            pooled: fixture.tensor("pooled", device),
            guidance: fixture.config()["guidance_embeds"]
                .as_bool()
                .unwrap()
                .then(|| fixture.tensor("guidance", device)),
        },
    }
}

impl Inputs {
    /// One sample of the batch.
    fn sample(&self, i: usize) -> Self {
        let condition = &self.condition;
        Self {
            latents: self.latents.clone().narrow(0, i, 1),
            timestep: self.timestep.clone().narrow(0, i, 1),
            condition: Condition {
                text: condition.text.clone().narrow(0, i, 1),
                text_lengths: vec![condition.text_lengths[i]],
                pooled: condition.pooled.clone().narrow(0, i, 1),
                guidance: condition.guidance.clone().map(|g| g.narrow(0, i, 1)),
            },
        }
    }

    fn run(&self, model: &Dit) -> Tensor<5> {
        model.forward(self.latents.clone(), self.timestep.clone(), &self.condition)
    }
}

#[test]
fn refiner_and_blocks_match_the_reference() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("dit.safetensors");
    let (model, inputs) = (
        model(&fixture, FloatDType::F32, &device),
        inputs(&fixture, &device),
    );
    let lengths = &inputs.condition.text_lengths;

    let text = inputs.condition.text.clone();
    let tokens = text.dims()[1];
    let (states, context) = model.text_in.embed(text, lengths);
    let refined = model
        .text_in
        .forward(states, context, inputs.timestep.clone(), lengths);
    let reference = fixture.tensor::<3>("refined", &device);
    for (i, &length) in lengths.iter().enumerate() {
        let real = |x: &Tensor<3>| x.clone().narrow(0, i, 1).narrow(1, 0, length);
        assert_close(
            &format!("refiner, sample {i}"),
            &real(&refined),
            &real(&reference),
            BOUND,
        );
    }

    let config = config(&fixture);
    let [_, _, frames, height, width] = inputs.latents.dims();
    let grid = [
        frames / config.patch[0],
        height / config.patch[1],
        width / config.patch[2],
    ];
    let image_tokens: usize = grid.iter().product();
    let lengths: Vec<usize> = lengths.iter().map(|text| image_tokens + text).collect();
    let rope = Rope::new(config.rope_axes, config.rope_theta, grid, tokens, &device);
    let vec = fixture.tensor::<2>("vec", &device);
    for (i, block) in model.dual_blocks.iter().enumerate() {
        let part = |name: &str| fixture.tensor::<3>(&format!("dual_blocks.{i}.{name}"), &device);
        let (image, text) = block.forward(part("image_in"), part("text_in"), &vec, &rope, &lengths);
        assert_close(
            &format!("dual block {i}, image"),
            &image,
            &part("image_out"),
            BOUND,
        );
        assert_close(
            &format!("dual block {i}, text"),
            &text,
            &part("text_out"),
            BOUND,
        );
    }
    for (i, block) in model.single_blocks.iter().enumerate() {
        let part = |name: &str| fixture.tensor::<3>(&format!("single_blocks.{i}.{name}"), &device);
        let joint = |io: &str| {
            Tensor::cat(
                vec![part(&format!("image_{io}")), part(&format!("text_{io}"))],
                1,
            )
        };
        let tokens = block.forward(joint("in"), &vec, &rope, &lengths);
        assert_close(&format!("single block {i}"), &tokens, &joint("out"), BOUND);
    }
}

/// Two samples, whose texts have different lengths, against the reference's masks; then each alone.
#[test]
fn batch_with_padding_matches_the_reference() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("dit.safetensors");
    let (model, inputs) = (
        model(&fixture, FloatDType::F32, &device),
        inputs(&fixture, &device),
    );
    let reference = fixture.tensor::<5>("velocity", &device);
    let together = inputs.run(&model);
    assert_close("batch of two", &together, &reference, BOUND);
    for i in 0..2 {
        let alone = inputs.sample(i).run(&model);
        let sample = |x: &Tensor<5>| x.clone().narrow(0, i, 1);
        assert_close(
            &format!("sample {i} alone"),
            &alone,
            &sample(&reference),
            BOUND,
        );
        assert_close(
            &format!("sample {i} in company"),
            &sample(&together),
            &alone,
            1e-5,
        );
    }
}

#[test]
fn one_frame_without_guidance_matches_the_reference() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("dit_image.safetensors");
    let velocity = inputs(&fixture, &device).run(&model(&fixture, FloatDType::F32, &device));
    let reference = fixture.tensor("velocity", &device);
    assert_close("image", &velocity, &reference, BOUND);
}

/// Neither the content nor the number of padding tokens reaches the output, not even in rounding.
#[test]
fn padding_takes_no_part() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("dit.safetensors");
    let (model, padded) = (
        model(&fixture, FloatDType::F32, &device),
        inputs(&fixture, &device).sample(0),
    );
    let mut cut = padded.clone();
    let length = cut.condition.text_lengths[0];
    cut.condition.text = cut.condition.text.narrow(1, 0, length);
    assert_eq!(
        common::values(&padded.run(&model)),
        common::values(&cut.run(&model))
    );
}

/// In bf16 the result is as close to f32 as the reference's own, and the guidance scale of 6000
/// becomes 6016 as in the reference.
#[test]
fn bf16_is_as_accurate_as_the_reference() {
    let Some(device) = device() else { return };
    if !supports(&device, DType::BF16) {
        return;
    }
    let fixture = Fixture::open("dit.safetensors");
    let velocity =
        inputs(&fixture, &device)
            .sample(0)
            .run(&model(&fixture, FloatDType::BF16, &device));
    assert_eq!(velocity.dtype(), DType::BF16);
    let exact = fixture.tensor::<5>("velocity_rounded_guidance", &device);
    let theirs = deviation(&fixture.tensor::<5>("velocity_bf16", &device), &exact);
    assert_close("bf16", &velocity, &exact, 2.0 * theirs);
}

/// One dual and one single block at the official width.
#[test]
#[ignore = "needs the fixture of 1.7 GB that `python tests/reference/dit.py official` writes"]
fn official_width_matches_the_reference() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("dit_official.safetensors");
    let velocity = inputs(&fixture, &device).run(&model(&fixture, FloatDType::F32, &device));
    let reference = fixture.tensor("velocity", &device);
    assert_close("official width", &velocity, &reference, BOUND);
}

/// Number of elements of every parameter.
struct Sizes(Vec<usize>);

impl ModuleVisitor for Sizes {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push(param.lazy_shape().num_elements());
    }
}

/// The paper's 13B, counted without allocating one of them.
#[test]
fn official_size() {
    let Some(device) = device() else { return };
    let dit = DitConfig::new().init(&device);
    let mut sizes = Sizes(vec![]);
    dit.visit(&mut sizes);
    assert_eq!(sizes.0.len(), 1264);
    assert_eq!(sizes.0.iter().sum::<usize>(), 12_821_012_544);
}

/// A step that runs whole is exactly what it is without a cache, also where sums are rounded.
#[test]
fn a_cache_that_reuses_nothing_changes_nothing() {
    let Some(device) = device() else { return };
    if !supports(&device, DType::BF16) {
        return;
    }
    let fixture = Fixture::open("dit.safetensors");
    let model = model(&fixture, FloatDType::BF16, &device);
    let inputs = inputs(&fixture, &device).sample(0);
    let mut cache = FirstBlockCache::new(0.0);
    for step in 0..3 {
        let latents = inputs.latents.clone() * (1.0 + f64::from(step));
        let conditioning = model.conditioning(&inputs.condition, latents.dims());
        let run = |cache| {
            let blocks = model.blocks().map(Ok::<_, std::convert::Infallible>);
            let (latents, timestep) = (latents.clone(), inputs.timestep.clone());
            let Ok(velocity) =
                model.forward_through(blocks, latents, timestep, &conditioning, cache);
            common::values(&velocity)
        };
        assert_eq!(run(Some(&mut cache)), run(None), "step {step}");
    }
    assert_eq!(cache.reused(), 0);
}

/// The same steps run whole, and to the same velocities, as with diffusers' first-block cache.
#[test]
fn the_first_block_cache_is_the_references() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("dit.safetensors");
    let model = model(&fixture, FloatDType::F32, &device);
    let condition = inputs(&fixture, &device).sample(0).condition;
    let steps = Fixture::open("dit_cache.safetensors");
    let threshold = steps.config()["threshold"].as_f64().unwrap();
    let mut cache = FirstBlockCache::new(threshold);
    let latents = steps.tensor::<5>("latents", &device);
    let timesteps = steps.tensor::<1>("timesteps", &device);
    let velocities = steps.tensor::<5>("velocities", &device);
    let mut reused = 0;
    for (step, computed) in common::values(&steps.tensor::<1>("computed", &device))
        .into_iter()
        .enumerate()
    {
        let latents = latents.clone().narrow(0, step, 1);
        let timestep = timesteps.clone().narrow(0, step, 1);
        let blocks = model.blocks().map(Ok::<_, std::convert::Infallible>);
        let conditioning = model.conditioning(&condition, latents.dims());
        let Ok(velocity) =
            model.forward_through(blocks, latents, timestep, &conditioning, Some(&mut cache));
        reused += usize::from(computed == 0.0);
        assert_eq!(cache.reused(), reused, "step {step}");
        let expected = velocities.clone().narrow(0, step, 1);
        assert_close(&format!("step {step}"), &velocity, &expected, BOUND);
    }
    assert!(reused > 0);
}
