//! The transformer's training against torch (`tests/reference/train.py`), and on itself.

use std::{collections::BTreeMap, ops::ControlFlow, path::Path};

use burn::tensor::{Device, FloatDType};
use burn_hunyuan::checkpoint::{Model, Weights, load_module, recognise, save_trained};
use burn_hunyuan_dit::{Condition, Dit, DitConfig};
use burn_hunyuan_train::{
    dit::{PathPoint, gradients, gradients_by_block},
    optimizer::{Gradients, Optimizer, OptimizerConfig},
    parameters::{Parameter, Parameters, parameters},
};
use safetensors::SafeTensors;

use crate::{
    common::{Fixture, assert_close, device, values},
    toy::flex,
};

/// The sizes of the fixture's model.
pub fn config() -> DitConfig {
    DitConfig::new()
        .with_in_channels(3)
        .with_out_channels(3)
        .with_heads(2)
        .with_head_dim(8)
        .with_dual_blocks(1)
        .with_single_blocks(1)
        .with_refiner_blocks(1)
        .with_mlp_ratio(2.0)
        .with_text_dim(12)
        .with_pooled_dim(10)
        .with_rope_axes([2, 2, 4])
}

/// What the fixture holds under a prefix, as a model: weights, or gradients in their place.
pub fn model(fixture: &Fixture, prefix: &str, device: &Device) -> Dit {
    let weights = Weights::open(fixture.path()).unwrap().under(prefix);
    let weights = recognise(&weights).unwrap().weights;
    let dit = config().init(device);
    load_module(dit, &weights, FloatDType::F32, &mut |_, _| {
        ControlFlow::Continue(())
    })
    .unwrap()
}

/// The fixture's batch.
pub fn batch(fixture: &Fixture, device: &Device) -> (PathPoint, Condition) {
    let lengths = values(&fixture.tensor::<2>("mask", device).sum_dim(1));
    let condition = Condition {
        text: fixture.tensor("text", device),
        text_lengths: lengths.into_iter().map(|length| length as usize).collect(),
        pooled: fixture.tensor("pooled", device),
        guidance: Some(fixture.tensor("guidance", device)),
    };
    let (clean, noise) = (
        fixture.tensor("clean", device),
        fixture.tensor("noise", device),
    );
    let times = values(&fixture.tensor::<1>("times", device));
    (PathPoint::new(clean, noise, &times), condition)
}

/// The largest difference of a parameter's gradients, over the largest value of the reference's.
pub fn deviations(ours: &Gradients, reference: &Parameters) -> Vec<(String, f32)> {
    let largest = |values: &[f32]| values.iter().fold(0.0, |a: f32, v| a.max(v.abs()));
    let deviation = |(name, reference): (&String, &Parameter)| {
        let ours = values(
            ours.get(name)
                .unwrap_or_else(|| panic!("no gradient of {name}")),
        );
        let reference = values(&reference.values);
        let error: Vec<f32> = ours.iter().zip(&reference).map(|(a, b)| a - b).collect();
        (name.clone(), largest(&error) / largest(&reference))
    };
    reference.iter().map(deviation).collect()
}

/// Adding a constant to all keys of a softmax changes nothing, so where no norm follows, the
/// gradient of their bias is zero but for rounding, and there is nothing to compare.
fn is_zero_by_theory(name: &str) -> bool {
    name.starts_with("text_in.") && name.ends_with(".k.bias")
}

#[test]
fn loss_and_every_gradient_are_torchs() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("train/dit.safetensors");
    let dit = model(&fixture, "weights.", &device.clone().autodiff());
    let (point, condition) = batch(&fixture, &device);
    let (loss, ours) = gradients(&dit, &point, &condition, 1.0);
    let expected = values(&fixture.tensor::<1>("loss", &device))[0];
    assert!(
        (loss as f32 - expected).abs() < 1e-5 * expected,
        "{loss} {expected}"
    );

    let reference = parameters(&model(&fixture, "gradients.", &device));
    let mut worst = 0.0_f32;
    for (name, deviation) in deviations(&ours, &reference) {
        if is_zero_by_theory(&name) {
            continue;
        }
        worst = worst.max(deviation);
        assert!(deviation < 1e-3, "{name}: {deviation:.2e}");
    }
    println!("{} gradients, worst deviation {worst:.2e}", reference.len());
}

/// Blocks on flex and on the device under test, which makes two of them where it is another: every
/// gradient stays torch's.
#[test]
fn blocks_on_two_devices_learn_the_same() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("train/dit.safetensors");
    let devices = [flex(), device].map(Device::autodiff);
    let dit = model(&fixture, "weights.", &devices[0]).split(&devices);
    let (point, condition) = batch(&fixture, &flex());
    let reference = parameters(&model(&fixture, "gradients.", &flex()));
    for of in [gradients, gradients_by_block] {
        let (_, ours) = of(&dit, &point, &condition, 1.0);
        assert!(ours.norm() > 0.0);
        for (name, deviation) in deviations(&ours, &reference) {
            let same = is_zero_by_theory(&name) || deviation < 1e-3;
            assert!(same, "{name}: {deviation:.2e}");
        }
    }
}

/// Computing the blocks again changes the memory, not the gradients: only the rounding of the first
/// pass, which has products of its own where nothing is differentiated.
#[test]
fn recomputed_gradients_are_the_plain_ones() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("train/dit.safetensors");
    let dit = model(&fixture, "weights.", &device.clone().autodiff());
    let (point, condition) = batch(&fixture, &device);
    let (plain_loss, plain) = gradients(&dit, &point, &condition, 0.5);
    let (loss, recomputed) = gradients_by_block(&dit, &point, &condition, 0.5);
    assert!(
        (loss - plain_loss).abs() < 1e-6 * plain_loss,
        "{loss} {plain_loss}"
    );
    let plain: Parameters = parameters(&dit)
        .into_iter()
        .map(|(name, p)| {
            let gradient = plain.get(&name).unwrap().clone();
            (name, p.with_values(gradient))
        })
        .collect();
    for (name, deviation) in deviations(&recomputed, &plain) {
        assert!(
            is_zero_by_theory(&name) || deviation < 1e-5,
            "{name}: {deviation:.2e}"
        );
    }
}

/// One step of training on this device and on flex ends in the same loss and weights.
#[test]
fn a_step_is_the_same_on_every_device() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("train/dit.safetensors");
    let config = OptimizerConfig {
        learning_rate: 1e-2,
        // Adam divides a gradient by its own size. Where that is zero but for rounding, as the
        // gradients that `is_zero_by_theory` names, eps decides that nothing happens.
        eps: 1e-3,
        ..OptimizerConfig::default()
    };
    let step = |device: &Device| {
        let dit = model(&fixture, "weights.", &device.clone().autodiff());
        let (point, condition) = batch(&fixture, device);
        let (loss, gradients) = gradients_by_block(&dit, &point, &condition, 1.0);
        let mut optimizer = Optimizer::new(&config, &dit, 10);
        let norm = gradients.norm();
        (loss, parameters(&optimizer.step(dit, gradients, norm)))
    };
    let (loss, weights) = step(&device);
    let (expected_loss, expected) = step(&flex());
    assert!(
        (loss - expected_loss).abs() < 1e-4 * expected_loss,
        "{loss} {expected_loss}"
    );
    let flex = flex();
    for (name, ours) in weights {
        let ours = ours.values.to_device(&flex);
        assert_close(&name, &ours, &expected[&name].values, 1e-4);
    }
}

/// A trained transformer is saved as diffusers saves it, tensor by tensor.
#[test]
fn an_exported_transformer_has_diffusers_names_and_values() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::open("train/dit.safetensors");
    let weights = parameters(&model(&fixture, "weights.", &flex()));
    save_trained(folder.path(), &config(), &weights).unwrap();

    let read = |path: &Path| std::fs::read(path).unwrap();
    let written = read(&folder.path().join("diffusion_pytorch_model.safetensors"));
    let reference = read(fixture.path());
    let tensors = |bytes, prefix: &str| -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
        let tensors = SafeTensors::deserialize(bytes).unwrap();
        let tensor = |name: &str| tensors.tensor(name).unwrap();
        let names = tensors.names().into_iter();
        names
            .filter_map(|name| Some((name.strip_prefix(prefix)?, tensor(name))))
            .map(|(name, view)| (name.into(), (view.shape().to_vec(), view.data().to_vec())))
            .collect()
    };
    assert!(tensors(&written, "") == tensors(&reference, "weights."));

    let part = Model::open(&[folder.path()])
        .unwrap()
        .transformer()
        .unwrap();
    assert_eq!(part.config, config());
}
