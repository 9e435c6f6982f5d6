//! The optimizer against torch (`tests/reference/train.py`).

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{DType, Device, Tensor},
};
use burn_hunyuan_train::{
    optimizer::{Gradients, Optimizer, OptimizerConfig},
    parameters::{Parameters, parameters, with_parameters},
    run::Checkpoints,
};

use crate::{
    common::{Fixture, assert_close, device, supports, values},
    toy::{Perceptron, all_require_grad, flex},
};

/// The perceptron's parameters at a point of the recorded run.
fn recorded(fixture: &Fixture, when: &str, like: &Parameters, device: &Device) -> Parameters {
    let read = |(name, parameter): (&String, &burn_hunyuan_train::parameters::Parameter)| {
        let key = format!("{when}.{name}");
        let stored = match parameter.shape.len() {
            1 => fixture.tensor::<1>(&key, device).into_data(),
            _ => fixture.tensor::<2>(&key, device).into_data(),
        };
        (name.clone(), parameter.from_file(stored))
    };
    like.iter().map(read).collect()
}

/// AdamW, clipping, warm-up, cosine decay and accumulation over six steps.
#[test]
fn six_steps_are_torchs() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("train/optimizer.safetensors");
    let config: OptimizerConfig = serde_json::from_value(fixture.config()).unwrap();
    let autodiff = device.clone().autodiff();
    let model = Perceptron::new([5, 7, 3], &autodiff);
    let start = recorded(&fixture, "start", &parameters(&model), &device);
    let mut model = with_parameters(model, &start);
    let mut optimizer = Optimizer::new(&config, &model, 6);

    let losses = values(&fixture.tensor::<1>("losses", &device));
    let norms = values(&fixture.tensor::<1>("norms", &device));
    for step in 0..6 {
        let half = |name: &str, half: usize| {
            let all = fixture.tensor::<4>(name, &device).autodiff();
            all.narrow(0, step, 1)
                .narrow(1, half, 1)
                .squeeze_dims::<2>(&[0, 1])
        };
        let (mut loss, mut gradients) = model.gradients(half("x", 0), half("y", 0), 0.5);
        let (rest, other) = model.gradients(half("x", 1), half("y", 1), 0.5);
        loss += rest;
        gradients.add(other);
        let norm = gradients.norm();
        assert!(
            (loss - f64::from(losses[step])).abs() < 1e-5,
            "{step}: {loss}"
        );
        assert!(
            (norm - f64::from(norms[step])).abs() < 1e-5,
            "{step}: {norm}"
        );
        model = optimizer.step(model, gradients, norm);
        let expected = recorded(&fixture, &format!("step{step}"), &start, &device);
        for (name, ours) in parameters(&model) {
            let what = format!("step {step}, {name}");
            assert_close(&what, &ours.values, &expected[&name].values, 1e-5);
        }
    }
    assert!(all_require_grad(&model));
}

/// Rounds every parameter to bf16.
struct ToBf16;

impl ModuleMapper for ToBf16 {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.inner().cast(DType::BF16).autodiff().require_grad())
    }
}

/// Steps of a thousandth of bf16's resolution add up in the f32 weights and reach the module, which
/// stays bf16. In bf16 alone it would never move.
#[test]
fn small_steps_add_up_under_bf16() {
    let Some(device) = device() else { return };
    if !supports(&device, DType::BF16) {
        return;
    }
    let mut model = Perceptron::new([2, 2, 2], &device.clone().autodiff()).map(&mut ToBf16);
    let ones: Parameters = parameters(&model)
        .into_iter()
        .map(|(name, p)| (name, p.with_values(p.values.ones_like())))
        .collect();
    model = with_parameters(model, &ones);
    let config = OptimizerConfig {
        learning_rate: 2.0_f64.powi(-17), // bf16 knows 1 and 1 − 2⁻⁸
        weight_decay: 0.0,
        ..OptimizerConfig::default()
    };
    let mut optimizer = Optimizer::new(&config, &model, 1000);
    for _ in 0..700 {
        let gradients: Gradients = ones
            .iter()
            .map(|(n, p)| (n.clone(), p.values.clone()))
            .collect();
        model = optimizer.step(model, gradients, 0.0);
    }
    assert_eq!(model.fc1.weight.val().dtype(), DType::BF16);
    let moved = values(&model.fc1.weight.val().inner());
    let exact = 1.0 - 700.0 * 2.0_f32.powi(-17);
    for value in moved {
        assert!((value - exact).abs() <= 2.0_f32.powi(-9), "{value} {exact}");
        assert!(value < 1.0);
    }
}

/// The average lags behind the weights and is what `averaged` gives.
#[test]
fn the_average_follows_its_formula() {
    let Some(device) = device() else { return };
    let model = Perceptron::new([2, 2, 2], &device.clone().autodiff());
    let zeros: Parameters = parameters(&model)
        .into_iter()
        .map(|(name, p)| (name, p.with_values(p.values.zeros_like())))
        .collect();
    let mut model = with_parameters(model, &zeros);
    let config = OptimizerConfig {
        learning_rate: 1.0,
        weight_decay: 0.0,
        ema_decay: 0.25,
        ..OptimizerConfig::default()
    };
    let mut optimizer = Optimizer::new(&config, &model, 3);
    let mut expected = 0.0;
    for step in 1..=3 {
        // A constant gradient moves the weights by the learning rate, to −1, −2, −3.
        let gradients: Gradients = zeros
            .iter()
            .map(|(n, p)| (n.clone(), p.values.ones_like()))
            .collect();
        model = optimizer.step(model, gradients, 0.0);
        let decay = f64::min(0.25, f64::from(step) / (9.0 + f64::from(step)));
        expected = expected * decay - f64::from(step) * (1.0 - decay);
    }
    let averaged = optimizer.averaged(model.valid());
    for value in values(&averaged.fc2.weight.val()) {
        assert!(
            (f64::from(value) - expected).abs() < 1e-5,
            "{value} {expected}"
        );
    }
}

/// A run that kept no average so far, and now does: it begins at the checkpoint's weights, and its
/// first update is that of a new one, `(9 new + old) / 10`.
#[test]
fn an_average_that_a_checkpoint_lacks_begins_at_the_weights() {
    let model = Perceptron::new([2, 2, 2], &flex().autodiff());
    let gradients = || -> Gradients {
        let weights = parameters(&model).into_iter();
        weights.map(|(n, p)| (n, p.values.ones_like())).collect()
    };
    let optimizer = |ema_decay| {
        let config = OptimizerConfig {
            learning_rate: 0.5,
            ema_decay,
            ..OptimizerConfig::default()
        };
        Optimizer::new(&config, &model, 3)
    };
    let mut without = optimizer(0.0);
    let model = without.step(model.clone(), gradients(), 0.0);
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::open(folder.path(), 1).unwrap();
    let save = checkpoints.save(1, None, |writer| without.save(writer, "model"));
    save.unwrap();

    let mut with = optimizer(0.9);
    let checkpoint = checkpoints.latest().unwrap().unwrap();
    let model = with.restore(&checkpoint, "model", model).unwrap();
    let averages = |optimizer: &Optimizer| -> Vec<f32> {
        let average = optimizer.average().values();
        average.flat_map(|p| values(&p.values)).collect()
    };
    let start = averages(&with);
    assert_eq!(start, averages(&without));
    with.step(model, gradients(), 0.0);
    let weights = with.weights().values().flat_map(|p| values(&p.values));
    for ((average, old), new) in averages(&with).into_iter().zip(start).zip(weights) {
        let expected = (9.0 * new + old) / 10.0;
        assert!((average - expected).abs() < 1e-5, "{average} {expected}");
    }
}
