//! Weights in fewer bits: against `gguf` and torch (`tests/reference/encodings.py`), and what becomes
//! of a transformer.

use std::{ops::ControlFlow, path::Path};

use burn::{
    nn::LinearConfig,
    tensor::{DType, Device, Distribution, FloatDType, Tensor},
};
use burn_hunyuan::{
    checkpoint::{
        Component, Model, Parameter, Quantization, Weights, load_compressed, load_module,
        parameters, quantize, save_quantized,
    },
    device::is_host,
};
use burn_hunyuan_dit::{DitConfig, DualBlock, Rope};
use burn_hunyuan_kernels::linear;
use safetensors::{Dtype, serialize_to_file, tensor::TensorView};

use crate::common::{Fixture, device, fixture_path, report, values};

fn go_on(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn quantized(weights: &Weights, to: Quantization, device: &Device) -> Weights {
    quantize(weights, to, device, &mut go_on).unwrap()
}

#[test]
fn numbers_are_those_of_the_reference() {
    let Some(device) = device() else { return };
    let path = fixture_path("encodings/quantized.safetensors");
    let (stored, expected) = (
        Weights::open(&path).unwrap(),
        Fixture::open("encodings/quantized.safetensors"),
    );
    let mut weights = Weights::new(path);
    let matrix = stored.get("matrix").unwrap().clone();
    weights.insert("single_blocks.0.q.weight", matrix);
    for to in Quantization::ALL {
        let quantized = quantized(&weights, to, &device).under("single_blocks.0.q.");
        let tensor = quantized.get("weight").unwrap();
        assert_eq!(tensor.encoding(), to.encoding());
        let reference = stored.get(&format!("{to}.bytes")).unwrap();
        assert_eq!(tensor.bytes().unwrap(), reference.bytes().unwrap(), "{to}");
        let layer = LinearConfig::new(96, 16).with_bias(false).init(&device);
        let layer = load_module(layer, &quantized, FloatDType::F32, &mut go_on).unwrap();
        let reference = expected.tensor::<2>(&format!("{to}.values"), &device);
        let ours = layer.weight.val().transpose();
        assert_eq!(values(&ours), values(&reference), "{to}");
        // As an accelerator holds it: each product with a row of the identity is one of its numbers.
        if is_host(&device) {
            continue;
        }
        let layer = LinearConfig::new(96, 16).with_bias(false).init(&device);
        let layer = load_compressed(layer, &quantized, FloatDType::F32, &mut go_on).unwrap();
        assert!(matches!(layer.weight.val().dtype(), DType::QFloat(_)));
        let ours = linear(&layer, Tensor::<2>::eye(96, &device)).transpose();
        assert_eq!(values(&ours), values(&reference), "{to}");
    }
}

/// The built-in model with its transformer from `path`.
fn with_transformer(path: &Path, device: &Device) -> Model {
    let mut model = Model::tiny(device).unwrap();
    model.replace(Component::Transformer, path).unwrap();
    model
}

#[test]
fn a_file_holds_what_quantizing_at_load_gives() {
    let Some(device) = device() else { return };
    let model = Model::tiny(&device).unwrap();
    let plain = model.transformer().unwrap().weights;
    let folder = tempfile::tempdir().unwrap();
    for to in Quantization::ALL {
        let path = folder.path().join(format!("{to}.safetensors"));
        save_quantized(&model, &path, to, &device, &mut go_on).unwrap();
        let part = with_transformer(&path, &device).transformer().unwrap();
        assert_eq!(part.config, model.transformer().unwrap().config);
        let (file, loaded) = (part.weights, quantized(&plain, to, &device));
        assert_eq!(file.len(), loaded.len());
        let (mut before, mut after) = (0, 0);
        for (name, tensor) in file.iter() {
            let same = loaded.get(name).unwrap();
            assert_eq!(tensor.encoding(), same.encoding(), "{name}");
            assert_eq!(tensor.scale(), same.scale(), "{name}");
            assert_eq!(tensor.bytes().unwrap(), same.bytes().unwrap(), "{name}");
            let large = tensor.encoding() == to.encoding();
            let inside = name.starts_with("dual_blocks.") || name.starts_with("single_blocks.");
            let matrix = tensor.shape().len() == 2 && !name.contains("modulation");
            assert_eq!(large, inside && matrix, "{name}");
            if large {
                before += 16 * tensor.elements();
                after += 8 * tensor.byte_len();
            }
        }
        let bits = 16.0 * after as f64 / before as f64;
        let expected = match to {
            Quantization::Int8 => 8.5,
            Quantization::Int4 => 4.5,
            Quantization::Fp8 => 8.0,
        };
        assert_eq!(bits, expected, "{to}");
        assert!(file.is_compressed() && !plain.is_compressed());
    }
}

/// Writes the first dual block with random weights in bf16, as large as they are where training begins.
fn write_random_block(config: &DitConfig, path: &Path, device: &Device) {
    let block = DualBlock::new(config, device);
    let tensors: Vec<_> = parameters(&block)
        .into_iter()
        .map(|Parameter { name, shape }| {
            let inputs = shape.get(1).map_or(1.0, |inputs| *inputs as f64);
            let spread = Distribution::Normal(0.0, inputs.sqrt().recip());
            let values = Tensor::<1>::random([shape.iter().product::<usize>()], spread, device);
            let bytes = values.cast(DType::BF16).into_data().bytes().to_vec();
            (format!("dual_blocks.0.{name}"), shape, bytes)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::BF16, shape.clone(), bytes);
        (name, view.unwrap())
    });
    serialize_to_file(views, None, path).unwrap();
}

/// Prints the errors of docs/performance.md.
#[test]
#[ignore = "takes 4 GB and a minute or two"]
fn errors_of_a_full_width_block() {
    let Some(device) = device() else { return };
    let config = DitConfig::new();
    let (width, grid, text) = (config.width(), [1, 12, 16], 64);
    let image = grid.iter().product::<usize>();
    let random = |shape| Tensor::<3>::random(shape, Distribution::Normal(0.0, 1.0), &device);
    let inputs = [random([1, image, width]), random([1, text, width])];
    let vec = random([1, 1, width]).squeeze_dim::<2>(1);
    let rope = Rope::new(config.rope_axes, config.rope_theta, grid, text, &device);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("block.safetensors");
    write_random_block(&config, &path, &device);
    let weights = Weights::open(&path).unwrap();
    // What the block adds to the image tokens.
    let change = |weights: &Weights, dtype: FloatDType| {
        let block = DualBlock::new(&config, &device);
        let weights = weights.under("dual_blocks.0.");
        let block = load_module(block, &weights, dtype, &mut go_on).unwrap();
        let [image, text] = inputs.clone().map(|x| x.cast(dtype));
        let (out, _) = block.forward(
            image.clone(),
            text.clone(),
            &vec.clone().cast(dtype),
            &rope,
            &[image.dims()[1] + text.dims()[1]],
        );
        (out - image).cast(DType::F32)
    };
    let exact = change(&weights, FloatDType::F32);
    let error = |ours: Tensor<3>| {
        let square = |x: Tensor<3>| x.powi_scalar(2).mean().into_scalar::<f32>();
        (square(ours - exact.clone()) / square(exact.clone())).sqrt()
    };
    report(&format!(
        "bf16: {:.5}",
        error(change(&weights, FloatDType::BF16))
    ));
    for to in Quantization::ALL.into_iter().rev() {
        let quantized = quantized(&weights, to, &device);
        let bytes: usize = quantized.iter().map(|(_, tensor)| tensor.byte_len()).sum();
        for dtype in [FloatDType::F32, FloatDType::BF16] {
            let error = error(change(&quantized, dtype));
            report(&format!("{to}, {dtype:?}: {error:.5}, {bytes} bytes"));
        }
    }
}
