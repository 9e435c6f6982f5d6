//! The VAE against diffusers' `AutoencoderKLHunyuanVideo` (`tests/reference/vae.py`).

#![allow(clippy::unwrap_used)]

mod common;

use std::ops::ControlFlow;

use burn::{
    module::Module,
    tensor::{DType, Device, FloatDType, Tensor, TensorData},
};
use burn_hunyuan::checkpoint::{Weights, load_module};
use burn_hunyuan_vae::{CausalConv3dConfig, DiagonalGaussian, Tiling, Vae, VaeConfig};
use common::{Fixture, assert_close, device, supports};
use serde_json::Value;

const BOUND: f32 = 1e-4;

/// The fixture's VAE with its weights.
fn vae(fixture: &Fixture, dtype: FloatDType, device: &Device) -> Vae {
    let config = fixture.config();
    let number = |key: &str| config[key].as_u64().unwrap() as usize;
    let channels = sizes(&config["block_out_channels"]);
    let vae = VaeConfig::new()
        .with_latent_channels(number("latent_channels"))
        .with_block_out_channels(channels)
        .with_layers_per_block(number("layers_per_block"))
        .with_norm_num_groups(number("norm_num_groups"))
        .init(device);
    load(vae, fixture, dtype)
}

/// Fills a module with the fixture's weights.
fn load<M: Module>(module: M, fixture: &Fixture, dtype: FloatDType) -> M {
    let weights = Weights::open(fixture.path()).unwrap().under("weights.");
    load_module(module, &weights, dtype, &mut |_, _| {
        ControlFlow::Continue(())
    })
    .unwrap()
}

fn sizes<const N: usize>(list: &Value) -> [usize; N] {
    serde_json::from_value::<Vec<usize>>(list.clone())
        .unwrap()
        .try_into()
        .unwrap()
}

/// The script's `wave`.
fn wave(shape: [usize; 5], device: &Device) -> Tensor<5> {
    let index = (0..shape.iter().product()).map(|i: usize| i as f64);
    let values: Vec<f32> = index
        .map(|i| (0.7 * i + 3.0 * (0.013 * i).cos()).cos() as f32)
        .collect();
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
}

/// How a case was tiled: a preset of ours by its name, else by the numbers in the fixture.
fn tiling(name: &Value, tilings: &Value) -> Tiling {
    match name.as_str() {
        None => Tiling::WHOLE,
        Some("framewise") => Tiling::FRAMEWISE,
        Some("tencent") => Tiling::TENCENT,
        Some("diffusers") => Tiling::DIFFUSERS,
        Some(name) => Tiling::new(sizes(&tilings[name][0]), sizes(&tilings[name][1])).unwrap(),
    }
}

/// Encodes and decodes every case of a fixture.
fn check(name: &str) {
    let Some(device) = device() else { return };
    let fixture = Fixture::open(name);
    let config = fixture.config();
    let vae = vae(&fixture, FloatDType::F32, &device);
    let channels = config["latent_channels"].as_u64().unwrap() as usize;
    let sample = config["sample"].as_u64().unwrap() as usize;

    for (case, described) in config["cases"].as_object().unwrap() {
        let [frames, height, width] = sizes(&described["size"]);
        let tiling = tiling(&described["tiling"], &config["tilings"]);
        let expected = |key: &str| fixture.tensor::<5>(&format!("{case}.{key}"), &device);

        let video = wave([1, 3, frames, height, width], &device);
        let posterior = if tiling == Tiling::WHOLE {
            vae.encode(video)
        } else {
            let stretches = vae.encode_tiles(video, &tiling).flatten().collect();
            DiagonalGaussian::from_moments(Tensor::cat(stretches, 2))
        };
        assert_close(
            &format!("{name} {case} mean"),
            &posterior.mean,
            &expected("mean"),
            BOUND,
        );
        assert_close(
            &format!("{name} {case} logvar"),
            &posterior.logvar,
            &expected("logvar"),
            BOUND,
        );

        let latents = [1, channels, (frames - 1) / 4 + 1, height / 8, width / 8];
        let latents = wave(latents, &device) * 2.0;
        let decoded = if tiling == Tiling::WHOLE {
            vae.decode(latents)
        } else {
            let stretches = vae.decode_tiles(latents, &tiling).flatten().collect();
            Tensor::cat(stretches, 2)
        };
        assert_eq!(decoded.dims(), [1, 3, frames, height, width]);
        let decoded = every(every(decoded, 3, sample), 4, sample);
        assert_close(
            &format!("{name} {case} decoded"),
            &decoded,
            &expected("decoded"),
            BOUND,
        );
    }
}

/// Every `step`-th position along an axis, from the middle of the first step.
fn every(x: Tensor<5>, axis: usize, step: usize) -> Tensor<5> {
    let device = x.device();
    let index: Vec<i32> = (step / 2..x.dims()[axis])
        .step_by(step)
        .map(|i| i as i32)
        .collect();
    x.select(axis, Tensor::from_data(&index[..], &device))
}

#[test]
fn small() {
    check("vae.safetensors");
}

#[test]
fn two_blocks_for_each_level() {
    check("vae_deep.safetensors");
}

#[test]
fn published_tilings() {
    check("vae_presets.safetensors");
}

#[test]
fn clips_of_a_batch_do_not_meet() {
    let Some(device) = device() else { return };
    let vae = vae(&Fixture::open("vae.safetensors"), FloatDType::F32, &device);
    let both = wave([2, 3, 5, 16, 24], &device);
    let posterior = vae.encode(both.clone());
    let latents = posterior.mean.clone();
    let decoded = vae.decode(latents.clone());
    for i in 0..2 {
        let one = |x: &Tensor<5>| x.clone().narrow(0, i, 1);
        let alone = vae.encode(one(&both));
        let pairs = [
            ("mean", &posterior.mean, alone.mean),
            ("logvar", &posterior.logvar, alone.logvar),
            ("decoded", &decoded, vae.decode(one(&latents))),
        ];
        for (what, together, alone) in pairs {
            assert_close(
                &format!("{what} of clip {i}"),
                &one(together),
                &alone,
                BOUND,
            );
        }
    }
}

#[test]
#[ignore = "needs the fixture of 1 GB that `python tests/reference/vae.py official` writes"]
fn official_size() {
    check("vae_official.safetensors");
}

#[test]
fn causal_convolution() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("vae_conv.safetensors");
    let conv = CausalConv3dConfig::new([2, 3])
        .with_stride([2, 2, 2])
        .init(&device);
    let conv = load(conv, &fixture, FloatDType::F32);
    let y = conv.forward(fixture.tensor("x", &device));
    assert_close(
        "causal convolution",
        &y,
        &fixture.tensor("y", &device),
        BOUND,
    );
}

/// bf16 deviates from f32 no more than twice as far as the reference's bf16 does.
#[test]
fn half_precision() {
    let Some(device) = device() else { return };
    if !supports(&device, DType::BF16) {
        return;
    }
    let fixture = Fixture::open("vae_deep.safetensors");
    let config = fixture.config();
    let vae = vae(&fixture, FloatDType::BF16, &device);
    let [frames, height, width] = sizes(&config["cases"]["whole"]["size"]);
    let video = wave([1, 3, frames, height, width], &device).cast(DType::BF16);
    let latents = wave([1, 3, (frames - 1) / 4 + 1, height / 8, width / 8], &device) * 2.0;
    let outputs = [
        ("mean", vae.encode(video).mean),
        ("decoded", vae.decode(latents.cast(DType::BF16))),
    ];
    for (key, output) in outputs {
        assert_eq!(output.dtype(), DType::BF16);
        let bound = 2.0 * config[format!("bf16_{key}")].as_f64().unwrap() as f32;
        let expected = fixture.tensor(&format!("whole.{key}"), &device);
        assert_close(
            &format!("bf16 {key}"),
            &output.cast(DType::F32),
            &expected,
            bound,
        );
    }
}
